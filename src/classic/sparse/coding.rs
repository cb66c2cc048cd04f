//! Coefficients of a vector over a dictionary, from the Gram matrix of its atoms and their correlations with it.

/// Which coefficients are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// All.
    Any,
    /// None below 0.
    NonNegative,
}

/// When coordinate descent ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Until {
    /// Sweeps over the coefficients, at most.
    pub sweeps: usize,
    /// Largest change of a coefficient in the last sweep.
    pub change: f64,
}

/// The coefficients x that minimise |y - D x|^2 / 2 + `lambda` |x|_1 over unit atoms, by coordinate descent. `gram` is
/// D'D, row after row, and `correlations` D'y.
pub fn lasso(gram: &[f64], correlations: &[f64], lambda: f64, sign: Sign, until: Until) -> Vec<f64> {
    let n = correlations.len();
    let mut x = vec![0.0; n];
    // D'(y - D x), kept up to date: most coefficients never leave 0.
    let mut rest = correlations.to_vec();
    for _ in 0..until.sweeps {
        let mut most: f64 = 0.0;
        for j in 0..n {
            let own = rest[j] + x[j];
            let new = match sign {
                Sign::NonNegative => (own - lambda).max(0.0),
                Sign::Any => own.signum() * (own.abs() - lambda).max(0.0),
            };
            let change = new - x[j];
            if change != 0.0 {
                x[j] = new;
                rest.iter_mut().zip(&gram[j * n..(j + 1) * n]).for_each(|(rest, g)| *rest -= change * g);
                most = most.max(change.abs());
            }
        }
        if most < until.change {
            break;
        }
    }
    x
}

/// Orthogonal matching pursuit: `count` times the atom most correlated with what is left, then least squares over those
/// chosen. Returns atoms with coefficients, in the order of choice; fewer where nothing is left, or where an atom depends
/// on those chosen.
///
/// In batch form (Rubinstein et al., 2008): only the Gram matrix and correlations are needed, and the Cholesky factor of
/// the chosen part grows by a row each time.
pub fn matching_pursuit(gram: &[f64], correlations: &[f64], count: usize) -> Vec<(usize, f64)> {
    let n = correlations.len();
    let mut chosen: Vec<usize> = Vec::new();
    let mut factor: Vec<Vec<f64>> = Vec::new();
    let mut x: Vec<f64> = Vec::new();
    let mut rest = correlations.to_vec();
    while chosen.len() < count.min(n) {
        let mut best = (0, 1e-12);
        for (atom, value) in rest.iter().enumerate() {
            if value.abs() > best.1 && !chosen.contains(&atom) {
                best = (atom, value.abs());
            }
        }
        let (atom, size) = best;
        if size <= 1e-12 {
            break;
        }
        let mut row: Vec<f64> = Vec::with_capacity(chosen.len() + 1);
        for (k, &other) in chosen.iter().enumerate() {
            let known: f64 = (0..k).map(|i| row[i] * factor[k][i]).sum();
            row.push((gram[atom * n + other] - known) / factor[k][k]);
        }
        let diagonal = gram[atom * n + atom] - row.iter().map(|value| value * value).sum::<f64>();
        if diagonal <= 1e-10 {
            break;
        }
        row.push(diagonal.sqrt());
        factor.push(row);
        chosen.push(atom);
        x = chosen.iter().map(|&atom| correlations[atom]).collect();
        substitute(&factor, &mut x);
        rest.copy_from_slice(correlations);
        for (&atom, coefficient) in chosen.iter().zip(&x) {
            rest.iter_mut()
                .zip(&gram[atom * n..(atom + 1) * n])
                .for_each(|(rest, g)| *rest -= coefficient * g);
        }
    }
    chosen.into_iter().zip(x).collect()
}

/// Solves L L' x = b in place.
fn substitute(factor: &[Vec<f64>], x: &mut [f64]) {
    let n = x.len();
    for row in 0..n {
        let known: f64 = (0..row).map(|k| factor[row][k] * x[k]).sum();
        x[row] = (x[row] - known) / factor[row][row];
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| factor[k][row] * x[k]).sum();
        x[row] = (x[row] - known) / factor[row][row];
    }
}

//! Small dense matrices in `f64`.

use super::Affine;

pub(super) type Matrix3 = [[f64; 3]; 3];
pub(super) type Matrix4 = [[f64; 4]; 4];

pub(super) fn product<const N: usize>(a: &[[f64; N]; N], b: &[[f64; N]; N]) -> [[f64; N]; N] {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..N).map(|k| a[i][k] * b[k][j]).sum()))
}

pub(super) fn determinant(m: &Matrix3) -> f64 {
    let minor = |i: usize, j: usize| m[1][i] * m[2][j] - m[1][j] * m[2][i];
    m[0][0] * minor(1, 2) - m[0][1] * minor(0, 2) + m[0][2] * minor(0, 1)
}

pub(super) fn inverse(m: &Matrix3) -> Option<Matrix3> {
    let mut rows = [[0.0; 6]; 3];
    for i in 0..3 {
        rows[i][..3].copy_from_slice(&m[i]);
        rows[i][3 + i] = 1.0;
    }
    eliminate(&mut rows)?;
    Some(rows.map(|row| [row[3], row[4], row[5]]))
}

fn inverse4(m: &Matrix4) -> Option<Matrix4> {
    let mut rows = [[0.0; 8]; 4];
    for i in 0..4 {
        rows[i][..4].copy_from_slice(&m[i]);
        rows[i][4 + i] = 1.0;
    }
    eliminate(&mut rows)?;
    Some(rows.map(|row| [row[4], row[5], row[6], row[7]]))
}

/// Gauss-Jordan with pivots by rows: the left square becomes the identity. `None` where it is singular.
fn eliminate<const R: usize, const C: usize>(rows: &mut [[f64; C]; R]) -> Option<()> {
    for column in 0..R {
        let pivot = (column..R).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, pivot);
        let head = rows[column][column];
        if head == 0.0 || !head.is_finite() {
            return None;
        }
        rows[column] = rows[column].map(|value| value / head);
        let pivot = rows[column];
        for (other, row) in rows.iter_mut().enumerate() {
            let factor = row[column];
            if other != column && factor != 0.0 {
                for (value, pivot) in row.iter_mut().zip(pivot) {
                    *value -= factor * pivot;
                }
            }
        }
    }
    Some(())
}

/// Solves the symmetric positive definite system `matrix x = right` by Cholesky's method, in place; `None` where the
/// matrix is not positive definite.
pub(super) fn solve(matrix: &mut [Vec<f64>], right: &[f64]) -> Option<Vec<f64>> {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let sum = matrix[i][j] - (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum::<f64>();
            if i != j {
                matrix[i][j] = sum / matrix[j][j];
            } else if sum > 0.0 {
                matrix[i][i] = sum.sqrt();
            } else {
                return None;
            }
        }
    }
    let mut x = right.to_vec();
    for i in 0..n {
        x[i] = (x[i] - (0..i).map(|k| matrix[i][k] * x[k]).sum::<f64>()) / matrix[i][i];
    }
    for i in (0..n).rev() {
        x[i] = (x[i] - (i + 1..n).map(|k| matrix[k][i] * x[k]).sum::<f64>()) / matrix[i][i];
    }
    Some(x)
}

/// The singular values, in no order: roots of the eigenvalues of `m' m`, which Jacobi's rotations make diagonal.
pub(super) fn singular_values(m: &Matrix3) -> [f64; 3] {
    let mut s: Matrix3 =
        std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| m[k][i] * m[k][j]).sum()));
    for _ in 0..20 {
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            if s[p][q].abs() < 1e-300 {
                continue;
            }
            let theta = 0.5 * (2.0 * s[p][q]).atan2(s[q][q] - s[p][p]);
            let (sin, cos) = theta.sin_cos();
            for k in 0..3 {
                let (a, b) = (s[k][p], s[k][q]);
                (s[k][p], s[k][q]) = (cos * a - sin * b, sin * a + cos * b);
            }
            for k in 0..3 {
                let (a, b) = (s[p][k], s[q][k]);
                (s[p][k], s[q][k]) = (cos * a - sin * b, sin * a + cos * b);
            }
        }
    }
    [s[0][0], s[1][1], s[2][2]].map(|value| value.max(0.0).sqrt())
}

pub(super) fn homogeneous(affine: &Affine) -> Matrix4 {
    std::array::from_fn(|i| {
        std::array::from_fn(|j| match (i, j) {
            (3, 3) => 1.0,
            (3, _) => 0.0,
            (_, 3) => affine.shift[i],
            _ => affine.matrix[i][j],
        })
    })
}

pub(super) fn affine_of(m: &Matrix4) -> Affine {
    Affine {
        matrix: std::array::from_fn(|i| std::array::from_fn(|j| m[i][j])),
        shift: std::array::from_fn(|i| m[i][3]),
    }
}

pub(super) fn add<const N: usize>(to: &mut [[f64; N]; N], what: &[[f64; N]; N], weight: f64) {
    for (to, what) in to.iter_mut().zip(what) {
        for (to, what) in to.iter_mut().zip(what) {
            *to += weight * what;
        }
    }
}

fn identity<const N: usize>() -> [[f64; N]; N] {
    std::array::from_fn(|i| std::array::from_fn(|j| if i == j { 1.0 } else { 0.0 }))
}

/// Largest absolute sum of a row.
fn norm<const N: usize>(m: &[[f64; N]; N]) -> f64 {
    m.iter().map(|row| row.iter().map(|value| value.abs()).sum::<f64>()).fold(0.0, f64::max)
}

/// By scaling, the power series, and squaring.
pub(super) fn exponential<const N: usize>(m: &[[f64; N]; N]) -> [[f64; N]; N] {
    let squarings = (norm(m) / 0.25).log2().ceil().clamp(0.0, 60.0) as i32;
    let scaled = m.map(|row| row.map(|value| value / 2.0_f64.powi(squarings)));
    let (mut sum, mut term) = (identity(), identity());
    for order in 1..=16 {
        term = product(&term, &scaled).map(|row| row.map(|value| value / f64::from(order)));
        add(&mut sum, &term, 1.0);
    }
    for _ in 0..squarings {
        sum = product(&sum, &sum);
    }
    sum
}

/// By square roots until the matrix is near the identity, the series of log, and scaling back; `None` where the roots
/// do not come near it.
pub(super) fn logarithm(m: &Matrix4) -> Option<Matrix4> {
    let mut root = *m;
    let mut roots = 0;
    loop {
        let mut rest = root;
        add(&mut rest, &identity(), -1.0);
        // A shift of many mm is not far from the identity: only the linear part has to be near.
        let linear: Matrix3 = std::array::from_fn(|i| std::array::from_fn(|j| rest[i][j]));
        if norm(&linear) < 0.05 {
            let (mut sum, mut power) = ([[0.0; 4]; 4], identity());
            for order in 1..=24 {
                power = product(&power, &rest);
                let sign = if order % 2 == 1 { 1.0 } else { -1.0 };
                add(&mut sum, &power, sign / f64::from(order));
            }
            return Some(sum.map(|row| row.map(|value| value * 2.0_f64.powi(roots))));
        }
        if roots == 40 {
            return None;
        }
        root = square_root(&root)?;
        roots += 1;
    }
}

/// The principal square root by the iteration of Denman and Beavers.
fn square_root(m: &Matrix4) -> Option<Matrix4> {
    let (mut y, mut z) = (*m, identity());
    for _ in 0..60 {
        let (inverse_y, inverse_z) = (inverse4(&y)?, inverse4(&z)?);
        let mean = |a: &Matrix4, b: &Matrix4| -> Matrix4 {
            std::array::from_fn(|i| std::array::from_fn(|j| 0.5 * (a[i][j] + b[i][j])))
        };
        let next = mean(&y, &inverse_z);
        z = mean(&z, &inverse_y);
        let change =
            y.iter().flatten().zip(next.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        y = next;
        if !change.is_finite() {
            return None;
        }
        if change < 1e-13 * (1.0 + norm(&y)) {
            return Some(y);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_and_logarithm_undo_each_other() {
        let affine = Affine {
            matrix: [[1.05, 0.3, -0.03], [-0.25, 0.7, 0.04], [0.02, -0.03, 1.4]],
            shift: [30.0, -8.0, 0.6],
        };
        let m = homogeneous(&affine);
        let back = exponential(&logarithm(&m).expect("near enough"));
        for (ours, wanted) in back.iter().flatten().zip(m.iter().flatten()) {
            assert!((ours - wanted).abs() < 1e-9, "{back:?}");
        }
        // The mean of an affine and its inverse is the identity.
        let mean = Affine::mean(&[affine, affine.inverse().expect("regular")]);
        assert!(mean.apart(&Affine::IDENTITY, &[[50.0, 50.0, 50.0]]) < 1e-7, "{mean:?}");
        // A reflection has no real logarithm.
        let mirror = Affine { matrix: [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], shift: [0.0; 3] };
        assert!(logarithm(&homogeneous(&mirror)).is_none());
    }

    #[test]
    fn singular_values_and_solutions_are_right() {
        let mut values = singular_values(&[[2.0, 0.0, 0.0], [0.0, 0.0, -3.0], [0.0, 0.5, 0.0]]);
        values.sort_by(f64::total_cmp);
        for (ours, wanted) in values.into_iter().zip([0.5, 2.0, 3.0]) {
            assert!((ours - wanted).abs() < 1e-12);
        }
        let mut matrix = vec![vec![4.0, 1.0], vec![1.0, 3.0]];
        let x = solve(&mut matrix, &[1.0, 2.0]).expect("positive definite");
        assert!((x[0] - 1.0 / 11.0).abs() < 1e-12 && (x[1] - 7.0 / 11.0).abs() < 1e-12);
        assert!(solve(&mut [vec![0.0]], &[1.0]).is_none());
        assert!(inverse(&[[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 1.0]]).is_none());
    }
}

//! Dictionaries learned from patches: K-SVD (Aharon et al., IEEE TSP 54(11), 2006).

use ndarray::{Array2, ArrayView2, Axis};
use rand::seq::index;
use rayon::prelude::*;

use super::coding::matching_pursuit;
use crate::rng::generator;

/// Coefficients of one patch: atoms with their values.
pub type Code = Vec<(usize, f64)>;

/// How a dictionary is learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learning {
    /// Number of atoms.
    pub atoms: usize,
    /// Atoms that a patch is coded with.
    pub nonzero: usize,
    /// Rounds of coding and one sweep over the atoms.
    pub rounds: usize,
    /// Steps of the power iteration that an atom is renewed by.
    pub steps: usize,
    /// Of the draw of the first atoms.
    pub seed: u64,
}

impl Default for Learning {
    fn default() -> Self {
        Self { atoms: 128, nonzero: 6, rounds: 10, steps: 10, seed: 0 }
    }
}

/// A dictionary, (atom, voxel of a patch), of unit atoms for patches, (patch, voxel), of norm 1. Where there are fewer
/// patches than atoms, they are the atoms and the others are 0. `name` keys the draw of the first atoms.
pub fn learn(patches: ArrayView2<'_, f64>, settings: Learning, name: &str) -> Array2<f64> {
    let (count, size) = patches.dim();
    let mut atoms = Array2::zeros((settings.atoms, size));
    let mut generator = generator(settings.seed, &["sparse", "dictionary", name]);
    let first = index::sample(&mut generator, count, settings.atoms.min(count));
    first.iter().zip(atoms.rows_mut()).for_each(|(patch, mut atom)| atom.assign(&patches.row(patch)));
    if count <= settings.atoms {
        return atoms;
    }
    for _ in 0..settings.rounds {
        let mut codes = code(atoms.view(), patches, settings.nonzero);
        sweep(&mut atoms, patches, &mut codes, settings.steps);
    }
    atoms
}

/// Codes all patches by orthogonal matching pursuit.
pub fn code(atoms: ArrayView2<'_, f64>, patches: ArrayView2<'_, f64>, nonzero: usize) -> Vec<Code> {
    let gram = atoms.dot(&atoms.t());
    let gram = gram.as_standard_layout();
    let gram = gram.as_slice().unwrap_or_default();
    let of = |patch: usize| {
        let correlations = atoms.dot(&patches.row(patch));
        matching_pursuit(gram, &correlations.to_vec(), nonzero)
    };
    (0..patches.nrows()).into_par_iter().map(of).collect()
}

/// What codes leave of their patches, (patch, voxel).
pub fn residual(atoms: ArrayView2<'_, f64>, patches: ArrayView2<'_, f64>, codes: &[Code]) -> Array2<f64> {
    let mut rest = patches.to_owned();
    for (mut rest, code) in rest.rows_mut().into_iter().zip(codes) {
        code.iter().for_each(|&(atom, value)| rest.scaled_add(-value, &atoms.row(atom)));
    }
    rest
}

/// Renews every atom in turn, with the coefficients on it, by the leading singular pair of what the others leave of the
/// patches that use it. An atom that none uses becomes the patch that is coded worst.
pub fn sweep(atoms: &mut Array2<f64>, patches: ArrayView2<'_, f64>, codes: &mut [Code], steps: usize) {
    let mut rest = residual(atoms.view(), patches, codes);
    let mut taken = vec![false; codes.len()];
    for atom in 0..atoms.nrows() {
        let uses: Vec<(usize, usize)> = codes
            .iter()
            .enumerate()
            .filter_map(|(patch, code)| Some((patch, code.iter().position(|(used, _)| *used == atom)?)))
            .collect();
        if uses.is_empty() {
            replace(atoms, atom, patches, rest.view(), &mut taken);
            continue;
        }
        let old = atoms.row(atom).to_owned();
        let users: Vec<usize> = uses.iter().map(|(patch, _)| *patch).collect();
        let mut own = rest.select(Axis(0), &users);
        for (mut row, &(patch, place)) in own.rows_mut().into_iter().zip(&uses) {
            row.scaled_add(codes[patch][place].1, &old);
        }
        let mut new = old.clone();
        for _ in 0..steps {
            let next = own.t().dot(&own.dot(&new));
            let norm = next.dot(&next).sqrt();
            // The old atom explains nothing: it is orthogonal to all that is left.
            if norm <= 1e-12 {
                break;
            }
            new = next / norm;
        }
        if new.dot(&old) < 0.0 {
            new.mapv_inplace(|value| -value);
        }
        let values = own.dot(&new);
        for ((mut row, &(patch, place)), &value) in own.rows_mut().into_iter().zip(&uses).zip(&values) {
            codes[patch][place].1 = value;
            row.scaled_add(-value, &new);
            rest.row_mut(patch).assign(&row);
        }
        atoms.row_mut(atom).assign(&new);
    }
}

/// Makes an atom the patch of which most is left, and that no other atom has become.
fn replace(
    atoms: &mut Array2<f64>,
    atom: usize,
    patches: ArrayView2<'_, f64>,
    rest: ArrayView2<'_, f64>,
    taken: &mut [bool],
) {
    let left = rest.rows().into_iter().map(|row| row.dot(&row)).enumerate();
    let worst =
        left.filter(|(patch, _)| !taken[*patch]).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
    let Some((worst, _)) = worst else { return };
    let norm = patches.row(worst).dot(&patches.row(worst)).sqrt();
    if norm > 0.0 {
        taken[worst] = true;
        atoms.row_mut(atom).assign(&patches.row(worst).mapv(|value| value / norm));
    }
}

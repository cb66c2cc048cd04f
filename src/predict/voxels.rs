//! Plain logits of single voxels.

use std::collections::BTreeMap;

use ndarray::ArrayView4;
use rand::RngExt;

use super::windows::Predictor;
use crate::network::Mode;
use crate::prepare::PreparedCase;

impl Predictor {
    /// Edges of a window: the box of voxels that one forward pass gives logits for.
    pub fn window(&self) -> [usize; 3] {
        self.patch
    }

    /// How many voxels beyond a window the network looks at, on either side of each axis.
    pub fn margin(&self) -> [usize; 3] {
        self.field.margin()
    }

    /// Logits, before any softmax, of the voxels at `positions` (x, y, z) of a prepared volume
    /// (channel, x, y, z): `classes` values for each, in the order of `positions`. Each comes from the sliding
    /// window in which its voxel lies most centrally; nothing is averaged over windows or mirror images, and of
    /// several networks the first one is asked.
    pub fn logits_at(&self, images: ArrayView4<f32>, positions: &[[usize; 3]]) -> Vec<f32> {
        let (_, nx, ny, nz) = images.dim();
        let starts = self.starts([nx, ny, nz]);
        let mut windows: BTreeMap<[i64; 3], Vec<usize>> = BTreeMap::new();
        for (i, position) in positions.iter().enumerate() {
            let place = std::array::from_fn(|axis| {
                most_central(&starts[axis], self.patch[axis], position[axis] as i64)
            });
            windows.entry(place).or_default().push(i);
        }
        let mut out = vec![0.0; positions.len() * self.classes];
        let places: Vec<[i64; 3]> = windows.keys().copied().collect();
        for group in places.chunks(self.options.batch.max(1)) {
            let logits = self.windows(images, group);
            for (place, window) in group.iter().zip(&logits) {
                for &i in &windows[place] {
                    let row = self.pick(window, *place, positions[i]);
                    out[i * self.classes..][..self.classes].copy_from_slice(row);
                }
            }
        }
        out
    }

    /// As [`Self::logits_at`], from the one window whose first voxel is `start`; it holds all positions.
    pub fn logits_in_window(
        &self,
        images: ArrayView4<f32>,
        start: [usize; 3],
        positions: &[[usize; 3]],
    ) -> Vec<f32> {
        let start = start.map(|s| s as i64);
        let window = self.windows(images, &[start]).swap_remove(0);
        positions.iter().flat_map(|&position| self.pick(&window, start, position)).copied().collect()
    }

    /// Logits (x, y, z, class) of whole windows.
    fn windows(&self, images: ArrayView4<f32>, places: &[[i64; 3]]) -> Vec<Vec<f32>> {
        let (network, weights) = &self.networks[0];
        let inputs = self.inputs(images, &self.padding(images), places, [false; 3]);
        let forward = || network.forward(weights, inputs, Mode::Evaluation);
        let output = self.kernels.scoped(forward).logits.swap_remove(0);
        let size = self.patch.iter().product::<usize>() * self.classes;
        output.into_channels_last().into_host().chunks_exact(size).map(<[f32]>::to_vec).collect()
    }

    fn pick<'a>(&self, window: &'a [f32], start: [i64; 3], position: [usize; 3]) -> &'a [f32] {
        let [_, py, pz] = self.patch;
        let [x, y, z]: [usize; 3] =
            std::array::from_fn(|axis| (position[axis] as i64 - start[axis]) as usize);
        &window[((x * py + y) * pz + z) * self.classes..][..self.classes]
    }
}

/// The window (by its first voxel) whose middle is nearest to `position`; of two equally near ones the first.
fn most_central(starts: &[i64], patch: usize, position: i64) -> i64 {
    let distance = |start: &i64| (2 * (position - start) + 1 - patch as i64).abs();
    starts.iter().copied().min_by_key(distance).unwrap_or(0)
}

/// `count` voxels of a class: a case that has it, uniformly, then one of its voxels, uniformly; with replacement.
/// Of each, the index of its case and its place. Empty where no case has the class.
pub(crate) fn draw(
    cases: &[&PreparedCase],
    class: usize,
    count: usize,
    random: &mut impl RngExt,
) -> Vec<(usize, [u32; 3])> {
    let places = |case: usize| cases[case].classes.get(class).map_or(&[][..], |voxels| &voxels.positions);
    let having: Vec<usize> = (0..cases.len()).filter(|&case| !places(case).is_empty()).collect();
    if having.is_empty() {
        return Vec::new();
    }
    (0..count)
        .map(|_| {
            let case = having[random.random_range(0..having.len())];
            let voxels = places(case);
            (case, voxels[random.random_range(0..voxels.len())])
        })
        .collect()
}

/// `z_c - max over k != c of z_k`.
pub(crate) fn margin(row: &[f32], class: usize) -> f64 {
    let others = row.iter().enumerate().filter(|(k, _)| *k != class).map(|(_, &z)| f64::from(z));
    f64::from(row[class]) - others.fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::tiling::starts;

    #[test]
    fn the_most_central_window_holds_its_voxel() {
        for (length, patch) in [(40, 16), (16, 16), (9, 16), (33, 8)] {
            let starts = starts(length, patch, 0.5);
            for position in 0..length as i64 {
                let start = most_central(&starts, patch, position);
                assert!((start..start + patch as i64).contains(&position));
                let off = |s: &i64| (position as f64 + 0.5 - *s as f64 - patch as f64 / 2.0).abs();
                assert!(starts.iter().all(|other| off(other) >= off(&start)));
            }
        }
    }
}

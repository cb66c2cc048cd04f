//! Plain logits of single voxels.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use ndarray::ArrayView4;
use segen_kernels::Activation;

use super::{Predictor, starts};
use crate::network::{Mode, values};

impl Predictor {
    /// Logits, before any softmax, of the voxels at `positions` (x, y, z) of a prepared volume
    /// (channel, x, y, z): `classes` values for each, in the order of `positions`. Each comes from the sliding
    /// window in which its voxel lies most centrally; nothing is averaged over windows or mirror images, and of
    /// several networks the first one is asked. `advance` receives the number of windows done since its last call.
    pub fn logits_at(
        &self,
        images: ArrayView4<f32>,
        positions: &[[usize; 3]],
        advance: &mut dyn FnMut(usize),
    ) -> Vec<f32> {
        let (_, nx, ny, nz) = images.dim();
        let shape = [nx, ny, nz];
        let starts: [Vec<i64>; 3] =
            std::array::from_fn(|axis| starts(shape[axis], self.patch[axis], self.options.step));
        let mut windows: BTreeMap<[i64; 3], Vec<usize>> = BTreeMap::new();
        for (i, position) in positions.iter().enumerate() {
            let place = std::array::from_fn(|axis| {
                most_central(&starts[axis], self.patch[axis], position[axis] as i64)
            });
            windows.entry(place).or_default().push(i);
        }
        let mut out = vec![0.0; positions.len() * self.classes];
        let (network, weights) = &self.networks[0];
        let [px, py, pz] = self.patch;
        let places: Vec<[i64; 3]> = windows.keys().copied().collect();
        for group in places.chunks(self.options.batch.max(1)) {
            let input = self.cut(images, group, shape, [false; 3]);
            let data = TensorData::new(input, [group.len(), px, py, pz, self.channels]);
            let x = Activation::from_channels_last(Tensor::from_data(data, &self.device));
            let output = network.forward(weights, vec![x], Mode::Evaluation).logits.swap_remove(0);
            let logits = values(output.into_channels_last());
            for (place, window) in group.iter().zip(logits.chunks_exact(px * py * pz * self.classes)) {
                for &i in &windows[place] {
                    let [x, y, z]: [usize; 3] =
                        std::array::from_fn(|axis| (positions[i][axis] as i64 - place[axis]) as usize);
                    let at = ((x * py + y) * pz + z) * self.classes;
                    out[i * self.classes..][..self.classes].copy_from_slice(&window[at..][..self.classes]);
                }
            }
            advance(group.len());
        }
        out
    }
}

/// The window (by its first voxel) whose middle is nearest to `position`; of two equally near ones the first.
fn most_central(starts: &[i64], patch: usize, position: i64) -> i64 {
    let distance = |start: &i64| (2 * (position - start) + 1 - patch as i64).abs();
    starts.iter().copied().min_by_key(distance).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

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

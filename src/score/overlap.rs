//! From two label volumes to the scores of every region.

use ndarray::Array3;
use rayon::prelude::*;

use super::scores::{Scores, share};
use super::surface::Surfaces;
use super::{EmptyRule, MissRule, ScoreOptions, lesions};
use crate::data::dataset::LabelScheme;
use crate::image::components::{file_order, in_file_order};
use crate::image::volume::{Grid, Labels};

/// Scores every region of `scheme` for one case, in the order of `scheme.regions`.
///
/// `mask`: only voxels other than 0 count. Voxels that the reference marks with `scheme.ignore` do not count
/// either. Distances and volumes are those of the reference's grid. Panics where the shapes differ or a
/// region names the background (bugs of the caller; [`evaluate`](super::evaluate) checks files).
pub fn score(
    prediction: &Labels,
    reference: &Labels,
    mask: Option<&Labels>,
    scheme: &LabelScheme,
    options: &ScoreOptions,
) -> Vec<Scores> {
    Pair::new(prediction, reference, mask, scheme.ignore).scores(scheme, options)
}

/// Two segmentations of one scan in file order; voxels that do not count are 0 in both.
pub(super) struct Pair<'a> {
    grid: &'a Grid,
    prediction: Vec<u8>,
    reference: Vec<u8>,
    /// `joint[p][r]`: number of voxels that count and have value `p` in the prediction, `r` in the reference.
    joint: Vec<[u64; 256]>,
    /// For each value above 0 the box that holds it in either segmentation.
    boxes: Vec<Option<Box3>>,
}

/// A box of voxels: first corner and the one after the last, along x, y, z.
#[derive(Clone, Copy)]
struct Box3 {
    first: [usize; 3],
    end: [usize; 3],
}

impl<'a> Pair<'a> {
    pub(super) fn new(
        prediction: &Labels,
        reference: &'a Labels,
        mask: Option<&Labels>,
        ignore: Option<u8>,
    ) -> Self {
        let grid = &reference.grid;
        assert_eq!(prediction.grid.shape, grid.shape, "prediction and reference differ in shape");
        let mask = mask.map(|mask| {
            assert_eq!(mask.grid.shape, grid.shape, "mask and reference differ in shape");
            file_order(mask.voxels.view())
        });
        let mut prediction = file_order(prediction.voxels.view());
        let mut reference = file_order(reference.voxels.view());
        let mut joint = vec![[0; 256]; 256];
        let mut boxes = vec![None; 256];
        let [nx, ny, _] = grid.shape;
        for i in 0..reference.len() {
            let (p, r) = (prediction[i], reference[i]);
            let outside = mask.as_ref().is_some_and(|mask| mask[i] == 0);
            if outside || Some(r) == ignore {
                (prediction[i], reference[i]) = (0, 0);
                continue;
            }
            joint[usize::from(p)][usize::from(r)] += 1;
            if p != 0 || r != 0 {
                let at = [i % nx, i / nx % ny, i / (nx * ny)];
                Box3::extend(&mut boxes[usize::from(p)], at);
                Box3::extend(&mut boxes[usize::from(r)], at);
            }
        }
        Self { grid, prediction, reference, joint, boxes }
    }

    /// The values that occur in the prediction and in the reference, with their number of voxels.
    pub(super) fn values(&self) -> [Vec<(u8, u64)>; 2] {
        let listed = |count: &dyn Fn(usize) -> u64| {
            (0..=u8::MAX).map(|v| (v, count(usize::from(v)))).filter(|&(_, n)| n > 0).collect()
        };
        [
            listed(&|v| self.joint[v].iter().sum()),
            listed(&|v| self.joint.iter().map(|reference| reference[v]).sum()),
        ]
    }

    pub(super) fn scores(&self, scheme: &LabelScheme, options: &ScoreOptions) -> Vec<Scores> {
        scheme.regions.par_iter().map(|region| self.region(&region.values, options)).collect()
    }

    fn region(&self, values: &[u8], options: &ScoreOptions) -> Scores {
        let mut inside = [false; 256];
        for &value in values {
            assert_ne!(value, 0, "a region cannot hold the background");
            inside[usize::from(value)] = true;
        }
        let mut counts = [[0_u64; 2]; 2];
        for (p, row) in self.joint.iter().enumerate() {
            for (r, count) in row.iter().enumerate() {
                counts[usize::from(inside[p])][usize::from(inside[r])] += count;
            }
        }
        let [[tn, fn_], [fp, tp]] = counts;
        let mut scores = Scores::of_counts(tp, fp, fn_, tn, options.empty);
        self.add_volumes(&mut scores);
        let Some(block) = values.iter().filter_map(|&v| self.boxes[usize::from(v)]).reduce(Box3::union)
        else {
            self.add_empty(&mut scores, options);
            return scores;
        };
        let prediction = self.cut(&self.prediction, block, &inside);
        let reference = self.cut(&self.reference, block, &inside);
        lesions::add(&mut scores, &prediction, &reference, options);
        if scores.n_pred == 0 || scores.n_ref == 0 {
            self.add_empty(&mut scores, options);
        } else {
            let surfaces = Surfaces::between(&prediction, &reference, self.grid);
            scores.hd95 = Some(surfaces.hausdorff(0.95));
            scores.nsd = Some(surfaces.dice(options.tolerance_millimetres));
        }
        scores
    }

    fn add_volumes(&self, scores: &mut Scores) {
        let voxel = self.grid.voxel_volume();
        let difference = scores.n_pred as f64 - scores.n_ref as f64;
        scores.volume_error_ml = difference * voxel / 1000.0;
        scores.volume_error_relative = (scores.n_ref > 0).then(|| difference / scores.n_ref as f64);
    }

    /// Surface scores (and, where both are empty, lesion scores) without a surface to measure.
    fn add_empty(&self, scores: &mut Scores, options: &ScoreOptions) {
        if scores.n_pred == 0 && scores.n_ref == 0 {
            scores.nsd = share(0, 0, true, options.empty);
            scores.lesion_sensitivity = scores.nsd;
            scores.lesion_precision = scores.nsd;
            scores.hd95 = (options.empty == EmptyRule::One).then_some(0.0);
        } else {
            scores.nsd = Some(0.0);
            if options.hd95_miss == MissRule::Diagonal {
                let spacing = self.grid.spacing();
                let edges = self.grid.shape.iter().zip(spacing).map(|(&n, step)| n as f64 * step);
                scores.hd95 = Some(edges.map(|edge| edge * edge).sum::<f64>().sqrt());
                scores.hd95_penalised = true;
            }
        }
    }

    fn cut(&self, voxels: &[u8], block: Box3, inside: &[bool; 256]) -> Array3<bool> {
        let [nx, ny, _] = self.grid.shape;
        let Box3 { first, end } = block;
        let mut cut = Vec::with_capacity((0..3).map(|axis| end[axis] - first[axis]).product());
        for z in first[2]..end[2] {
            for y in first[1]..end[1] {
                let row = (z * ny + y) * nx;
                cut.extend(voxels[row + first[0]..row + end[0]].iter().map(|&v| inside[usize::from(v)]));
            }
        }
        in_file_order(cut, (end[0] - first[0], end[1] - first[1], end[2] - first[2]))
    }
}

impl Box3 {
    fn extend(block: &mut Option<Self>, at: [usize; 3]) {
        let voxel = Self { first: at, end: at.map(|i| i + 1) };
        *block = Some(block.map_or(voxel, |block| block.union(voxel)));
    }

    fn union(self, other: Self) -> Self {
        Self {
            first: std::array::from_fn(|axis| self.first[axis].min(other.first[axis])),
            end: std::array::from_fn(|axis| self.end[axis].max(other.end[axis])),
        }
    }
}

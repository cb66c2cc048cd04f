//! Labels on a grid whose neighbours like to be equal: the labelling and the probabilities, given costs.
//!
//! Voxels are numbered with z fastest. A voxel's neighbours have the other colour of a chessboard, so all voxels of one
//! colour can change at once: the result is that of one after the other, for any number of threads.

use ndarray::{Array3, Array4, ArrayView3};
use rayon::prelude::*;

use crate::image::vectorised::vectorised;

/// A label that no voxel has: outside the box, where all classes cost the same.
const OUTSIDE: u8 = u8::MAX;

/// Costs of classes at each voxel, and a labelling.
#[derive(Debug)]
pub struct Field {
    shape: [usize; 3],
    /// Cost of a face to another class, for each axis.
    faces: [f32; 3],
    /// Cost of each class at each voxel, class by class.
    pub costs: Vec<Vec<f32>>,
    labels: Vec<u8>,
}

/// What is needed to work on a row of voxels along z.
struct Row {
    /// Labels of the row with one voxel more at each end.
    own: Vec<u8>,
    /// Beside it at x - 1, x + 1, y - 1, y + 1.
    beside: [Vec<u8>; 4],
    /// Costs of the classes given these, class by class.
    costs: Vec<Vec<f32>>,
}

impl Field {
    /// A field without costs. A face between two classes costs `beta` over the distance of the voxels.
    pub fn new(shape: [usize; 3], spacing: [f64; 3], beta: f64, classes: usize) -> Self {
        let voxels = shape.iter().product();
        let faces = spacing.map(|distance| (beta / distance) as f32);
        Self { shape, faces, costs: vec![vec![0.0; voxels]; classes], labels: vec![0; voxels] }
    }

    /// The labelling, (x, y, z).
    pub fn labels(&self) -> ArrayView3<'_, u8> {
        ArrayView3::from_shape(self.shape, &self.labels)
            .unwrap_or_else(|_| panic!("as many labels as voxels"))
    }

    /// A volume of one value a voxel.
    pub(super) fn shaped<T>(&self, voxels: Vec<T>) -> Array3<T> {
        Array3::from_shape_vec(self.shape, voxels).unwrap_or_else(|_| panic!("as many values as voxels"))
    }

    /// Gives every voxel the class that costs least by itself, the smallest on ties.
    pub fn cheapest(&mut self) {
        let costs = &self.costs;
        self.labels.par_iter_mut().enumerate().for_each(|(i, label)| {
            let least = |best: usize, k: usize| if costs[k][i] < costs[best][i] { k } else { best };
            *label = (1..costs.len()).fold(0, least) as u8;
        });
    }

    /// What the labelling costs.
    pub fn energy(&self) -> f64 {
        let [_, ny, nz] = self.shape;
        let steps = [ny * nz, nz, 1];
        let mut sum = 0.0;
        for ((x, y, z), &label) in self.labels().indexed_iter() {
            let i = (x * ny + y) * nz + z;
            sum += f64::from(self.costs[usize::from(label)][i]);
            for (a, place) in [x, y, z].into_iter().enumerate() {
                if place + 1 < self.shape[a] && self.labels[i + steps[a]] != label {
                    sum += f64::from(self.faces[a]);
                }
            }
        }
        sum
    }

    /// Lets each voxel take the class that costs least beside its neighbours, the smallest on ties, first those of even
    /// x + y + z, then the others, until nothing changes, at most `sweeps` times; returns how often.
    pub fn settle(&mut self, sweeps: usize) -> usize {
        let [nx, ny, _] = self.shape;
        let mut changed = vec![true; nx * ny];
        for sweep in 0..sweeps {
            let mut any = false;
            for colour in 0..2 {
                // In the first sweep the other colour's changes do not say what is worth a look.
                changed = self.settle_colour(colour, if sweep == 0 { None } else { Some(&changed) });
                any |= changed.contains(&true);
            }
            if !any {
                return sweep + 1;
            }
        }
        sweeps
    }

    /// Settles the voxels of one colour in the rows beside which something was `changed`; returns the rows where
    /// something is now.
    fn settle_colour(&mut self, colour: usize, changed: Option<&[bool]>) -> Vec<bool> {
        let [nx, ny, nz] = self.shape;
        if self.labels.is_empty() {
            return Vec::new();
        }
        let worth_a_look = |x: usize, y: usize| {
            changed.is_none_or(|changed| {
                let row = x * ny + y;
                changed[row]
                    || (x > 0 && changed[row - ny])
                    || (x + 1 < nx && changed[row + ny])
                    || (y > 0 && changed[row - 1])
                    || (y + 1 < ny && changed[row + 1])
            })
        };
        let mut labels = self.labels.clone();
        let mut now = vec![false; nx * ny];
        labels.par_chunks_mut(ny * nz).zip(now.par_chunks_mut(ny)).enumerate().for_each_init(
            || (self.row(), vec![0.0; nz], vec![0; nz]),
            |(row, least, best), (x, (slab, now))| {
                for y in (0..ny).filter(|&y| worth_a_look(x, y)) {
                    self.weigh(x, y, row);
                    choose(&row.costs, least, best);
                    let labels = &mut slab[y * nz..(y + 1) * nz];
                    for z in ((x + y + colour) % 2..nz).step_by(2) {
                        now[y] |= labels[z] != best[z];
                        labels[z] = best[z];
                    }
                }
            },
        );
        self.labels = labels;
        now
    }

    fn row(&self) -> Row {
        let length = self.shape[2];
        Row {
            own: vec![OUTSIDE; length + 2],
            beside: std::array::from_fn(|_| vec![OUTSIDE; length]),
            costs: vec![vec![0.0; length]; self.costs.len()],
        }
    }

    /// Costs of the classes in a row, given the labels around. A neighbour outside costs all classes the same.
    fn weigh(&self, x: usize, y: usize, row: &mut Row) {
        let [nx, ny, nz] = self.shape;
        let labels = |x: usize, y: usize| &self.labels[(x * ny + y) * nz..][..nz];
        let beside = [
            (x > 0).then(|| labels(x - 1, y)),
            (x + 1 < nx).then(|| labels(x + 1, y)),
            (y > 0).then(|| labels(x, y - 1)),
            (y + 1 < ny).then(|| labels(x, y + 1)),
        ];
        for (row, labels) in row.beside.iter_mut().zip(beside) {
            match labels {
                Some(labels) => row.copy_from_slice(labels),
                None => row.fill(OUTSIDE),
            }
        }
        row.own[1..=nz].copy_from_slice(labels(x, y));
        let (beside, own, faces) = (&row.beside, &row.own, self.faces);
        for (class, (out, costs)) in row.costs.iter_mut().zip(&self.costs).enumerate() {
            let costs = &costs[(x * ny + y) * nz..][..nz];
            vectorised(move || add_faces(out, costs, beside, own, class as u8, faces));
        }
    }

    /// Goes over all voxels with the probabilities of their classes given the neighbours' labels; one state for each plane
    /// of x, in their order.
    pub fn fold<S: Send>(
        &self,
        new: impl Fn() -> S + Sync,
        add: impl Fn(&mut S, usize, &[f32]) + Sync,
    ) -> Vec<S> {
        let [nx, ny, nz] = self.shape;
        let plane = |(row, weights): &mut (Row, Vec<f32>), x: usize| {
            let mut state = new();
            for y in 0..ny {
                self.weigh(x, y, row);
                for z in 0..nz {
                    let costs = || row.costs.iter().map(|costs| costs[z]);
                    let least = costs().fold(f32::INFINITY, f32::min);
                    let mut sum = 0.0;
                    for (weight, cost) in weights.iter_mut().zip(costs()) {
                        *weight = (least - cost).exp();
                        sum += *weight;
                    }
                    weights.iter_mut().for_each(|weight| *weight /= sum);
                    add(&mut state, (x * ny + y) * nz + z, weights);
                }
            }
            state
        };
        let scratch = || (self.row(), vec![0.0; self.costs.len()]);
        (0..nx).into_par_iter().map_init(scratch, plane).collect()
    }

    /// Probabilities of the classes given the neighbours' labels, (class, x, y, z).
    pub fn probabilities(&self) -> Array4<f32> {
        let [nx, ny, nz] = self.shape;
        let planes = self.fold(Vec::new, |all: &mut Vec<f32>, _, weights| all.extend(weights));
        let voxels: Vec<f32> = planes.into_iter().flatten().collect();
        let voxels = Array4::from_shape_vec((nx, ny, nz, self.costs.len()), voxels);
        voxels.unwrap_or_else(|_| panic!("all classes of all voxels")).permuted_axes([3, 0, 1, 2])
    }
}

/// `costs` of a class, and of the faces that it would have with other classes.
#[inline(always)]
fn add_faces(out: &mut [f32], costs: &[f32], beside: &[Vec<u8>; 4], own: &[u8], class: u8, faces: [f32; 3]) {
    let n = out.len();
    let [a, b, c, d] = [&beside[0][..n], &beside[1][..n], &beside[2][..n], &beside[3][..n]];
    let (behind, ahead, costs) = (&own[..n], &own[2..n + 2], &costs[..n]);
    let differ = |p: u8, q: u8| f32::from(u8::from(p != class) + u8::from(q != class));
    for z in 0..n {
        let along = [differ(a[z], b[z]), differ(c[z], d[z]), differ(behind[z], ahead[z])];
        out[z] = costs[z] + (along[0] * faces[0] + along[1] * faces[1] + along[2] * faces[2]);
    }
}

/// The class of least cost at each voxel of a row.
fn choose(costs: &[Vec<f32>], least: &mut [f32], best: &mut [u8]) {
    least.fill(f32::INFINITY);
    best.fill(0);
    for (class, costs) in costs.iter().enumerate() {
        for ((least, best), &cost) in least.iter_mut().zip(&mut *best).zip(costs) {
            let better = cost < *least;
            *best = if better { class as u8 } else { *best };
            *least = if better { cost } else { *least };
        }
    }
}

//! Affine registration: Gauss-Newton steps for the correlation.

use ndarray::Axis;

use super::normal::{Normal, normal};
use super::pyramid::{factors, level, matching};
use super::{Affine, Frame, Images, matrix};

/// What an affine may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transform {
    /// Rotate and shift: 6 parameters.
    Rigid,
    /// And scale all axes alike: 7.
    Similarity,
    /// And stretch and shear: 12.
    Affine,
}

/// How an affine is sought.
#[derive(Clone, Debug, PartialEq)]
pub struct AffineOptions {
    /// What it may do.
    pub transform: Transform,
    /// Further starts, for example what the headers of two scans say, or the result of an earlier round.
    pub starts: Vec<Affine>,
}

impl Default for AffineOptions {
    fn default() -> Self {
        Self { transform: Transform::Affine, starts: Vec::new() }
    }
}

/// From where an affine was sought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// One of the caller's, by its number.
    Given(usize),
    /// The centres of the boxes on each other.
    Boxes,
    /// The centres of mass of what is brighter than the median on each other.
    Masses,
    /// The best of the former, turned about an axis of the fixed image.
    Turned {
        /// 0, 1 or 2.
        axis: usize,
        /// In degrees.
        degrees: f64,
    },
}

/// An affine registration.
#[derive(Clone, Debug, PartialEq)]
pub struct Aligned {
    /// From fixed points to moving ones.
    pub affine: Affine,
    /// The correlation reached on the finest level, from -1 to 1.
    pub similarity: f64,
    /// The start that was taken.
    pub start: Start,
    /// What was found stretches or shrinks more than twofold or turns the image inside out: `affine` puts the centres
    /// of the boxes on each other instead.
    pub refused: bool,
}

/// A start counts only where so large a share of the fixed voxels lies in the moving box.
const OVERLAP: f64 = 0.5;
/// Below this correlation turned starts are tried too.
const DOUBTFUL: f64 = 0.3;
const TURN: f64 = 15.0;
/// A level ends when no corner of the fixed box moves by more, in mm.
const STILL: f64 = 0.01;
const STEPS: usize = 20;
const HALVINGS: usize = 4;
/// Singular values of an affine that is believed.
const BELIEVED: (f64, f64) = (0.5, 2.0);

/// The affine that brings `moving` onto `fixed`: from fixed points to moving ones, in mm from the centres of their boxes.
///
/// Both have the same number of channels (else a panic: a bug of the caller). Images without contrast, or of one voxel,
/// keep their start.
pub fn affine(fixed: &Images, moving: &Images, options: &AffineOptions) -> Aligned {
    assert_eq!(fixed.len(), moving.len(), "as many channels in either image");
    let factors = factors(fixed.frame());
    let mut levels = factors.iter().map(|&factor| {
        let fixed = level(fixed, factor);
        let moving = level(moving, matching(moving.frame(), fixed.frame().finest()));
        let fixed = blurred(fixed, moving.spacing);
        Search { corners: fixed.frame().corners(), reach: reach(fixed.frame()), fixed, moving, options }
    });
    let Some(coarsest) = levels.next() else {
        return Aligned { affine: Affine::IDENTITY, similarity: 0.0, start: Start::Boxes, refused: false };
    };
    let (start, mut affine) = coarsest.start();
    for transform in [Transform::Rigid, Transform::Similarity, Transform::Affine] {
        if transform <= options.transform {
            affine = coarsest.climb(affine, transform);
        }
    }
    let mut last = coarsest;
    for search in levels {
        affine = search.climb(affine, options.transform);
        last = search;
    }
    let stretched = matrix::singular_values(&affine.matrix);
    let believed = stretched.into_iter().all(|value| (BELIEVED.0..=BELIEVED.1).contains(&value));
    let refused = !believed || affine.determinant() <= 0.0;
    if refused {
        affine = Affine::IDENTITY;
    }
    Aligned { affine, similarity: last.similarity(&affine), start, refused }
}

/// The fixed image as blurred as the moving one will be, on average, by reading it between its voxels: linear
/// interpolation at a random place has a variance of 1/6 voxels squared. Without this the affine would make up for the
/// blur by shrinking.
fn blurred(mut fixed: Images, spacing: [f64; 3]) -> Images {
    for axis in 0..3 {
        let edge = fixed.frame().shape[axis];
        let variance = ((spacing[axis] / fixed.spacing[axis]).powi(2) / 6.0).min(0.5) as f32;
        for mut line in fixed.channels.lanes_mut(Axis(axis + 1)) {
            let mut before = line[0];
            for at in 0..edge {
                let (here, after) = (line[at], line[(at + 1).min(edge - 1)]);
                line[at] = here + 0.5 * variance * (before - 2.0 * here + after);
                before = here;
            }
        }
    }
    fixed
}

/// Half the diagonal of a box: the length by which turns become mm.
fn reach(frame: Frame) -> f64 {
    0.5 * frame.edges().iter().map(|edge| edge * edge).sum::<f64>().sqrt()
}

/// The images of one level.
struct Search<'a> {
    fixed: Images,
    moving: Images,
    corners: [[f64; 3]; 8],
    reach: f64,
    options: &'a AffineOptions,
}

impl Search<'_> {
    fn similarity(&self, affine: &Affine) -> f64 {
        normal(&self.fixed, &self.moving, affine).correlation
    }

    /// The best start, by the similarity at this level.
    fn start(&self) -> (Start, Affine) {
        let given = self.options.starts.iter().enumerate();
        let mut starts: Vec<(Start, Affine)> =
            given.map(|(number, affine)| (Start::Given(number), *affine)).collect();
        starts.push((Start::Boxes, Affine::IDENTITY));
        let centres = [&self.fixed, &self.moving].map(centre_of_mass);
        if let [Some(fixed), Some(moving)] = centres {
            let shift = std::array::from_fn(|axis| moving[axis] - fixed[axis]);
            starts.push((Start::Masses, Affine::translation(shift)));
        }
        let mut scores: Vec<f64> = starts.iter().map(|(start, affine)| self.score(*start, affine)).collect();
        let best = first_best(&scores);
        if normal(&self.fixed, &self.moving, &starts[best].1).correlation < DOUBTFUL {
            let from = starts[best].1;
            for axis in 0..3 {
                for degrees in [-TURN, TURN] {
                    let turn = Affine { matrix: turned(axis, degrees.to_radians()), shift: [0.0; 3] };
                    let turned = (Start::Turned { axis, degrees }, turn.then(&from));
                    scores.push(self.score(turned.0, &turned.1));
                    starts.push(turned);
                }
            }
        }
        starts[first_best(&scores)]
    }

    fn score(&self, start: Start, affine: &Affine) -> f64 {
        let normal = normal(&self.fixed, &self.moving, affine);
        match start {
            Start::Given(_) if normal.inside < OVERLAP => f64::NEG_INFINITY,
            _ => normal.correlation,
        }
    }

    fn climb(&self, mut affine: Affine, transform: Transform) -> Affine {
        let mut here = normal(&self.fixed, &self.moving, &affine);
        for _ in 0..STEPS {
            let directions = directions(transform, &affine, self.reach);
            let Some(mut step) = self.step(&here, &directions) else { break };
            let mut next = None;
            for _ in 0..=HALVINGS {
                let candidate = moved(&affine, transform, &step, self.reach);
                let there = normal(&self.fixed, &self.moving, &candidate);
                if there.correlation > here.correlation {
                    next = Some((candidate, there));
                    break;
                }
                if affine.apart(&candidate, &self.corners) < STILL {
                    break;
                }
                step.iter_mut().for_each(|value| *value *= 0.5);
            }
            let Some((candidate, there)) = next else { break };
            let motion = affine.apart(&candidate, &self.corners);
            (affine, here) = (candidate, there);
            if motion < STILL {
                break;
            }
        }
        affine
    }

    /// The solution of the normal equations along `directions`.
    fn step(&self, normal: &Normal, directions: &[[f64; 12]]) -> Option<Vec<f64>> {
        let project = |vector: &[f64; 12]| -> Vec<f64> {
            directions.iter().map(|d| d.iter().zip(vector).map(|(d, v)| d * v).sum()).collect()
        };
        let halves: Vec<Vec<f64>> = normal.square.iter().map(project).collect();
        let mut square: Vec<Vec<f64>> = directions
            .iter()
            .map(|d| (0..directions.len()).map(|j| (0..12).map(|i| d[i] * halves[i][j]).sum()).collect())
            .collect();
        let trace: f64 = (0..square.len()).map(|i| square[i][i]).sum();
        for i in 0..square.len() {
            square[i][i] += 1e-5 * trace / directions.len() as f64;
        }
        matrix::solve(&mut square, &project(&normal.right))
    }
}

/// The first of the largest.
fn first_best(scores: &[f64]) -> usize {
    (0..scores.len()).fold(0, |best, at| if scores[at] > scores[best] { at } else { best })
}

/// The centre of max(0, value - median) of the first channel, as a point; `None` for a constant.
fn centre_of_mass(images: &Images) -> Option<[f64; 3]> {
    let values = images.channel(0);
    let mut sorted: Vec<f32> = values.iter().copied().collect();
    let middle = sorted.len() / 2;
    let (_, &mut median, _) = sorted.select_nth_unstable_by(middle, f32::total_cmp);
    let (mut sum, mut mass) = ([0.0; 3], 0.0);
    for ((x, y, z), &value) in values.indexed_iter() {
        let weight = f64::from((value - median).max(0.0));
        let point = images.frame().point([x as f64, y as f64, z as f64]);
        mass += weight;
        for axis in 0..3 {
            sum[axis] += weight * point[axis];
        }
    }
    (mass > 0.0).then(|| sum.map(|value| value / mass))
}

/// The generator of turns about an axis.
fn generator(axis: usize) -> [[f64; 3]; 3] {
    let mut matrix = [[0.0; 3]; 3];
    let (next, last) = ((axis + 1) % 3, (axis + 2) % 3);
    matrix[next][last] = -1.0;
    matrix[last][next] = 1.0;
    matrix
}

fn turned(axis: usize, radians: f64) -> [[f64; 3]; 3] {
    matrix::exponential(&generator(axis).map(|row| row.map(|value| value * radians)))
}

/// The directions, in the parameters of [`Normal`], along which a transform moves; a step of 1 moves some corner by
/// about a millimetre.
fn directions(transform: Transform, affine: &Affine, reach: f64) -> Vec<[f64; 12]> {
    let of_matrix = |matrix: &[[f64; 3]; 3]| -> [f64; 12] {
        std::array::from_fn(|at| if at % 4 < 3 { matrix[at / 4][at % 4] / reach } else { 0.0 })
    };
    let single = |at: usize| -> [f64; 12] {
        let size = if at % 4 < 3 { 1.0 / reach } else { 1.0 };
        std::array::from_fn(|other| if other == at { size } else { 0.0 })
    };
    if transform == Transform::Affine {
        return (0..12).map(single).collect();
    }
    let turns = (0..3).map(|axis| of_matrix(&matrix::product(&generator(axis), &affine.matrix)));
    let mut directions: Vec<[f64; 12]> = turns.chain([3, 7, 11].map(single)).collect();
    if transform == Transform::Similarity {
        directions.push(of_matrix(&affine.matrix));
    }
    directions
}

/// The affine after a step along [`directions`]; turns by the exponential, so that a rigid one stays rigid.
fn moved(affine: &Affine, transform: Transform, step: &[f64], reach: f64) -> Affine {
    let mut moved = *affine;
    if transform == Transform::Affine {
        for (at, value) in step.iter().enumerate() {
            match at % 4 {
                3 => moved.shift[at / 4] += value,
                c => moved.matrix[at / 4][c] += value / reach,
            }
        }
        return moved;
    }
    let mut rate = [[0.0; 3]; 3];
    for axis in 0..3 {
        matrix::add(&mut rate, &generator(axis), step[axis] / reach);
        moved.shift[axis] += step[3 + axis];
        rate[axis][axis] += step.get(6).map_or(0.0, |scale| scale / reach);
    }
    moved.matrix = matrix::product(&matrix::exponential(&rate), &affine.matrix);
    moved
}

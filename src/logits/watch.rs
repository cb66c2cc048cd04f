//! The shift, measured on a few fixed windows after every epoch.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::collect::draw;
use super::shift::margin;
use crate::Result;
use crate::network::{Network, Weights};
use crate::plan::Plan;
use crate::predict::{Predictor, WindowOptions};
use crate::prepare::{IGNORE, PreparedCase};
use crate::rng::generator;

/// Voxels of one class that are looked at in one window, at most.
const VOXELS: usize = 64;
/// Share of an epoch's work that windows may take. A training step takes about three forward passes of each of
/// its patches, a window one.
const SHARE: f64 = 0.02;

/// Crossing rate and mean margin of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Share of voxels with a margin below 0.
    pub crossing: Option<f64>,
    /// Mean margin.
    pub margin: Option<f64>,
    /// Voxels measured.
    pub voxels: usize,
}

/// One measurement: a rate per class, background first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// On training cases.
    pub seen: Vec<Rate>,
    /// On validation cases.
    pub unseen: Vec<Rate>,
}

/// Fixed windows of training and validation cases, and voxels in them.
#[derive(Clone, Debug)]
pub struct ShiftWatch {
    seen: Vec<Spot>,
    unseen: Vec<Spot>,
    classes: usize,
}

/// One window.
#[derive(Clone, Debug)]
struct Spot {
    case: PreparedCase,
    start: [i64; 3],
    voxels: Vec<([usize; 3], usize)>,
}

impl ShiftWatch {
    /// Chooses at most `windows` windows among the training and as many among the validation cases, each around
    /// a voxel of a foreground class (in turn; case-balanced), and up to 64 voxels of each class in its middle.
    /// `patches_per_epoch` bounds the cost to about 2 % of an epoch. `None` where there is nothing to compare:
    /// no windows wanted, or no foreground on one side.
    ///
    /// # Errors
    /// Where a prepared case cannot be read.
    pub fn choose(
        plan: &Plan,
        train: &[PreparedCase],
        validation: &[PreparedCase],
        windows: usize,
        patches_per_epoch: u64,
        seed: u64,
    ) -> Result<Option<Self>> {
        let affordable = (SHARE * 3.0 * patches_per_epoch as f64 / 2.0) as usize;
        let windows = windows.min(affordable.max(1));
        let held_out: Vec<&PreparedCase> =
            validation.iter().filter(|case| !train.iter().any(|t| t.id == case.id)).collect();
        let seen = spots(plan, &train.iter().collect::<Vec<_>>(), windows, seed, "seen")?;
        let unseen = spots(plan, &held_out, windows, seed, "unseen")?;
        let both = !seen.is_empty() && !unseen.is_empty();
        Ok(both.then_some(Self { seen, unseen, classes: plan.classes }))
    }

    /// Measures the network as it is.
    ///
    /// # Errors
    /// Where a prepared case cannot be read.
    pub fn measure(
        &self,
        plan: &Plan,
        network: &Network,
        weights: &Weights,
        device: &burn::tensor::Device,
    ) -> Result<Watched> {
        let networks = vec![(network.clone(), weights)];
        let predictor = Predictor::new(plan, networks, WindowOptions::default(), device)?;
        Ok(Watched {
            seen: self.rates(&self.seen, plan, &predictor)?,
            unseen: self.rates(&self.unseen, plan, &predictor)?,
        })
    }

    fn rates(&self, spots: &[Spot], plan: &Plan, predictor: &Predictor) -> Result<Vec<Rate>> {
        let mut sums = vec![(0.0, 0usize, 0usize); self.classes];
        for spot in spots {
            let window = spot.case.read_window(spot.start, plan.patch)?;
            let positions: Vec<[usize; 3]> = spot.voxels.iter().map(|(position, _)| *position).collect();
            let logits = predictor.logits_at(window.images.view(), &positions, &mut |_| {});
            for ((_, class), row) in spot.voxels.iter().zip(logits.chunks_exact(self.classes)) {
                let margin = margin(row, *class);
                let (sum, crossed, count) = &mut sums[*class];
                *sum += margin;
                *crossed += usize::from(margin < 0.0);
                *count += 1;
            }
        }
        let rate = |(sum, crossed, count): (f64, usize, usize)| Rate {
            crossing: (count > 0).then(|| crossed as f64 / count as f64),
            margin: (count > 0).then(|| sum / count as f64),
            voxels: count,
        };
        Ok(sums.into_iter().map(rate).collect())
    }
}

fn spots(plan: &Plan, cases: &[&PreparedCase], windows: usize, seed: u64, origin: &str) -> Result<Vec<Spot>> {
    let mut random = generator(seed, &["logit watch", origin]);
    let mut found = Vec::new();
    let foreground = plan.classes - 1;
    for window in 0..if foreground > 0 { windows } else { 0 } {
        let drawn = draw(cases, 1 + window % foreground, 1, &mut random);
        let Some(&(case, centre)) = drawn.first() else { continue };
        let start = std::array::from_fn(|axis| i64::from(centre[axis]) - (plan.patch[axis] / 2) as i64);
        let labels = cases[case].read_window(start, plan.patch)?;
        // Near its edges a window has seen too little to be judged.
        let edge = plan.patch.map(|length| length / 4);
        let mut places: Vec<Vec<[usize; 3]>> = vec![Vec::new(); plan.classes];
        for ((x, y, z), &label) in labels.labels.indexed_iter() {
            let inside = [x, y, z].iter().zip(edge).zip(plan.patch).all(|((&p, e), n)| p >= e && p < n - e);
            let masked = labels.mask.as_ref().is_some_and(|mask| mask[[x, y, z]] == 0);
            if inside && !masked && label != IGNORE {
                places[usize::from(label)].push([x, y, z]);
            }
        }
        let mut voxels = Vec::new();
        for (class, places) in places.iter().enumerate() {
            let kept = places.len().min(VOXELS);
            // A random offset and even steps: spread over the window without a second draw per voxel.
            let offset = if places.is_empty() { 0 } else { random.random_range(0..places.len()) };
            voxels.extend(
                (0..kept).map(|i| (places[(offset + i * places.len() / kept) % places.len()], class)),
            );
        }
        found.push(Spot { case: cases[case].clone(), start, voxels });
    }
    Ok(found)
}

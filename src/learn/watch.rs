//! The shift, measured on a few fixed windows after every epoch.

use rand::RngExt;

use crate::Result;
use crate::network::{Network, Weights};
use crate::plan::Plan;
use crate::predict::voxels::{draw, margin};
use crate::predict::windows::{Predictor, WindowOptions};
use crate::prepare::{IGNORE, PreparedCase, Window};
use crate::rng::generator;
use crate::run::events::{LogitShift, Rate};

/// Voxels of one class that are looked at in one window, at most.
const VOXELS: usize = 64;
/// Share of an epoch's work that windows may take. A training step takes about three forward passes of each of
/// its patches, a window one.
const SHARE: f64 = 0.02;

/// Fixed windows of training and validation cases, and voxels in them.
#[derive(Clone, Debug)]
pub struct ShiftWatch {
    seen: Vec<Spot>,
    unseen: Vec<Spot>,
    classes: usize,
    area: Area,
}

/// What is read around a window.
#[derive(Clone, Copy, Debug)]
struct Area {
    /// Edges of the window.
    window: [usize; 3],
    /// How many voxels beyond it the network looks at.
    margin: [usize; 3],
}

/// One window.
#[derive(Clone, Debug)]
struct Spot {
    case: PreparedCase,
    /// First voxel of the window.
    start: [i64; 3],
    /// Places in what is read around the window, with their classes.
    voxels: Vec<([usize; 3], usize)>,
}

/// What [`ShiftWatch::choose`] chooses from.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// Windows of training cases, and as many of validation cases, at most; 0 for none.
    pub windows: usize,
    /// Patches that are trained on in an epoch; the cost is bounded to about 2 % of theirs.
    pub patches_per_epoch: u64,
    /// Seed of the choice.
    pub seed: u64,
}

impl ShiftWatch {
    /// Chooses windows, each around a voxel of a foreground class (in turn; case-balanced), and up to 64 voxels of
    /// each class in its middle. `None` where there is nothing to compare: no windows wanted, or no foreground
    /// on one side. Validation cases that are trained on (fold `all`) are not unseen.
    ///
    /// # Errors
    /// Where a prepared case cannot be read.
    pub fn choose(
        plan: &Plan,
        network: &Network,
        train: &[PreparedCase],
        validation: &[PreparedCase],
        options: &WatchOptions,
    ) -> Result<Option<Self>> {
        let affordable = (SHARE * 3.0 * options.patches_per_epoch as f64 / 2.0) as usize;
        let options = WatchOptions { windows: options.windows.min(affordable.max(1)), ..*options };
        let field = network.field(plan.inference_segment())?;
        let area = Area { window: field.output, margin: field.margin() };
        let held_out: Vec<&PreparedCase> =
            validation.iter().filter(|case| !train.iter().any(|t| t.id == case.id)).collect();
        let seen = spots(plan.classes, area, &train.iter().collect::<Vec<_>>(), &options, "seen")?;
        let unseen = spots(plan.classes, area, &held_out, &options, "unseen")?;
        let both = !seen.is_empty() && !unseen.is_empty();
        Ok(both.then_some(Self { seen, unseen, classes: plan.classes, area }))
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
        device: &segen_kernels::Device,
    ) -> Result<LogitShift> {
        let networks = vec![(network.clone(), weights)];
        let predictor = Predictor::new(plan, networks, WindowOptions::default(), device)?;
        Ok(LogitShift {
            seen: self.rates(&self.seen, &predictor)?,
            unseen: self.rates(&self.unseen, &predictor)?,
        })
    }

    fn rates(&self, spots: &[Spot], predictor: &Predictor) -> Result<Vec<Rate>> {
        let mut sums = vec![(0.0, 0usize, 0usize); self.classes];
        for spot in spots {
            let read = self.area.read(spot)?;
            let positions: Vec<[usize; 3]> = spot.voxels.iter().map(|(position, _)| *position).collect();
            let logits = predictor.logits_in_window(read.images.view(), self.area.margin, &positions);
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

impl Area {
    /// The window with everything that the network looks at around it; 0 beyond the sample.
    fn read(&self, spot: &Spot) -> Result<Window> {
        let start = std::array::from_fn(|axis| spot.start[axis] - self.margin[axis] as i64);
        let shape = std::array::from_fn(|axis| self.window[axis] + 2 * self.margin[axis]);
        spot.case.read_window(start, shape)
    }
}

fn spots(
    classes: usize,
    area: Area,
    cases: &[&PreparedCase],
    options: &WatchOptions,
    origin: &str,
) -> Result<Vec<Spot>> {
    let mut random = generator(options.seed, &["logit watch", origin]);
    let mut found = Vec::new();
    for (_, class) in (0..options.windows).zip((1..classes).cycle()) {
        let drawn = draw(cases, class, 1, &mut random);
        let Some(&(case, centre)) = drawn.first() else { continue };
        let start = std::array::from_fn(|axis| i64::from(centre[axis]) - (area.window[axis] / 2) as i64);
        let mut spot = Spot { case: cases[case].clone(), start, voxels: Vec::new() };
        let labels = spot.case.read_window(start, area.window)?;
        // Near its edges a window has seen too little to be judged.
        let edge = area.window.map(|length| length / 4);
        let mut places: Vec<Vec<[usize; 3]>> = vec![Vec::new(); classes];
        for ((x, y, z), &label) in labels.labels.indexed_iter() {
            let at = [x, y, z];
            let inside = (0..3).all(|axis| (edge[axis]..area.window[axis] - edge[axis]).contains(&at[axis]));
            let masked = labels.mask.as_ref().is_some_and(|mask| mask[at] == 0);
            if inside && !masked && label != IGNORE {
                places[usize::from(label)].push(std::array::from_fn(|axis| at[axis] + area.margin[axis]));
            }
        }
        for (class, places) in places.iter().enumerate().filter(|(_, places)| !places.is_empty()) {
            let kept = places.len().min(VOXELS);
            // A random offset and even steps: spread over the window without a second draw per voxel.
            let offset = random.random_range(0..places.len());
            let place = |i: usize| places[(offset + i * places.len() / kept) % places.len()];
            spot.voxels.extend((0..kept).map(|i| (place(i), class)));
        }
        found.push(spot);
    }
    Ok(found)
}

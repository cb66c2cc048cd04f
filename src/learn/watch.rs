//! The shift, measured on a few fixed windows after every epoch.

use std::collections::HashSet;

use rand::RngExt;
use rand::seq::SliceRandom;

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
/// The same for windows that a gap is measured in, of both sides together.
const GAP_SHARE: f64 = 0.05;
/// Voxels of a rare class that a gap is measured on, on either side, where the cases have so many.
const GAP_VOXELS: usize = 2000;
/// So many sets of windows take turns, at most, where there are more cases than one set shows.
const TURNS: usize = 8;

/// Windows that are looked at in one epoch; several such sets take turns.
type Turns = Vec<Vec<Spot>>;

/// Fixed windows of training and validation cases, and voxels in them.
#[derive(Clone, Debug)]
pub struct ShiftWatch {
    seen: Vec<Turns>,
    unseen: Vec<Turns>,
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
        let [seen, unseen] = [seen, unseen].map(|spots| vec![vec![spots]]);
        Ok(both.then_some(Self { seen, unseen, classes: plan.classes, area }))
    }

    /// For the gap of the classes for which `rare` holds: windows with 2000 voxels of each of them on either side, where
    /// the cases have so many and an epoch's time allows. Cases take turns within a set of windows, and sets take
    /// turns over the epochs where there are more cases than windows. No voxel of a rare class counts twice in an epoch.
    ///
    /// # Errors
    /// Where a prepared case cannot be read.
    pub fn of_rare(
        plan: &Plan,
        network: &Network,
        [seen, unseen]: [&[PreparedCase]; 2],
        rare: &[bool],
        options: &WatchOptions,
    ) -> Result<Self> {
        let affordable = (GAP_SHARE * 3.0 * options.patches_per_epoch as f64 / 2.0) as usize;
        let wanted = rare.iter().filter(|rare| **rare).count().max(1);
        let windows = options.windows.min(affordable / wanted).max(1);
        let field = network.field(plan.inference_segment())?;
        let area = Area { window: field.output, margin: field.margin() };
        let side = |cases: &[PreparedCase], origin: &str| -> Result<Vec<Turns>> {
            let mut random = generator(options.seed, &["gap", origin]);
            let classes = (0..plan.classes).filter(|class| rare[*class]);
            classes.map(|class| turns(rare, area, cases, (class, windows), &mut random)).collect()
        };
        let (seen, unseen) = (side(seen, "seen")?, side(unseen, "unseen")?);
        Ok(Self { seen, unseen, classes: plan.classes, area })
    }

    /// Voxels of a class in one set of windows, and how many cases they are of, on either side.
    pub fn amounts(&self, class: usize) -> [(usize, usize); 2] {
        [&self.seen, &self.unseen].map(|side| {
            let spots = || spots_of(side, 0).filter(|spot| spot.voxels.iter().any(|(_, c)| *c == class));
            let voxels = spots().flat_map(|spot| &spot.voxels).filter(|(_, c)| *c == class).count();
            (voxels, spots().map(|spot| &spot.case.id).collect::<HashSet<_>>().len())
        })
    }

    /// Measures the network as it is, on the windows whose turn it is after this epoch.
    ///
    /// # Errors
    /// Where a prepared case cannot be read.
    pub fn measure(
        &self,
        epoch: u64,
        plan: &Plan,
        network: &Network,
        weights: &Weights,
        device: &segen_kernels::Device,
    ) -> Result<LogitShift> {
        let networks = vec![(network.clone(), weights)];
        let predictor = Predictor::new(plan, networks, WindowOptions::default(), device)?;
        Ok(LogitShift {
            seen: self.rates(spots_of(&self.seen, epoch), &predictor)?,
            unseen: self.rates(spots_of(&self.unseen, epoch), &predictor)?,
        })
    }

    fn rates<'a>(&self, spots: impl Iterator<Item = &'a Spot>, predictor: &Predictor) -> Result<Vec<Rate>> {
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

    /// Where a place in what is read around a window is in its case.
    fn voxel(&self, spot: &Spot, place: [usize; 3]) -> [i64; 3] {
        std::array::from_fn(|axis| spot.start[axis] + place[axis] as i64 - self.margin[axis] as i64)
    }
}

/// The windows whose turn it is.
fn spots_of(side: &[Turns], epoch: u64) -> impl Iterator<Item = &Spot> {
    side.iter().filter(|turns| !turns.is_empty()).flat_map(move |turns| &turns[epoch as usize % turns.len()])
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
        found.push(spot(classes, area, (cases[case], centre), VOXELS, &HashSet::new(), &mut random)?);
    }
    Ok(found)
}

/// The window around a voxel of a case, and up to `most` voxels of each class in its middle that are not `taken`.
fn spot(
    classes: usize,
    area: Area,
    (case, centre): (&PreparedCase, [u32; 3]),
    most: usize,
    taken: &HashSet<[i64; 3]>,
    random: &mut impl RngExt,
) -> Result<Spot> {
    let start = std::array::from_fn(|axis| i64::from(centre[axis]) - (area.window[axis] / 2) as i64);
    let mut spot = Spot { case: case.clone(), start, voxels: Vec::new() };
    let labels = spot.case.read_window(start, area.window)?;
    // Near its edges a window has seen too little to be judged.
    let edge = area.window.map(|length| length / 4);
    let mut places: Vec<Vec<[usize; 3]>> = vec![Vec::new(); classes];
    for ((x, y, z), &label) in labels.labels.indexed_iter() {
        let at = [x, y, z];
        let inside = (0..3).all(|axis| (edge[axis]..area.window[axis] - edge[axis]).contains(&at[axis]));
        let masked = labels.mask.as_ref().is_some_and(|mask| mask[at] == 0);
        let place = std::array::from_fn(|axis| at[axis] + area.margin[axis]);
        if inside && !masked && label != IGNORE && !taken.contains(&area.voxel(&spot, place)) {
            places[usize::from(label)].push(place);
        }
    }
    for (class, places) in places.iter().enumerate().filter(|(_, places)| !places.is_empty()) {
        let kept = places.len().min(most);
        // A random offset and even steps: spread over the window without a second draw per voxel.
        let offset = random.random_range(0..places.len());
        let place = |i: usize| places[(offset + i * places.len() / kept) % places.len()];
        spot.voxels.extend((0..kept).map(|i| (place(i), class)));
    }
    Ok(spot)
}

/// Sets of at most `windows` windows around voxels of a class.
fn turns(
    rare: &[bool],
    area: Area,
    cases: &[PreparedCase],
    (class, windows): (usize, usize),
    random: &mut impl RngExt,
) -> Result<Turns> {
    let places = |case: &PreparedCase| case.classes.get(class).map_or(Vec::new(), |c| c.positions.clone());
    let mut having: Vec<(&PreparedCase, Vec<[u32; 3]>)> =
        cases.iter().map(|case| (case, places(case))).filter(|(_, places)| !places.is_empty()).collect();
    having.shuffle(random);
    having.iter_mut().for_each(|(_, places)| places.shuffle(random));
    // As many of each case as make the whole, so that no case outweighs the others.
    let most = VOXELS.max(GAP_VOXELS.div_ceil(having.len().max(1)));
    let mut turns: Turns = Vec::new();
    let mut shown = 0;
    while shown < having.len() && turns.len() < TURNS {
        let mut taken = vec![HashSet::new(); having.len()];
        let (mut set, mut found, mut spent) = (Vec::new(), 0, HashSet::new());
        for case in (0..having.len()).cycle().skip(shown) {
            if set.len() == windows || found >= GAP_VOXELS || spent.len() == having.len() {
                break;
            }
            let (prepared, places) = &having[case];
            let Some(&centre) = places.iter().find(|place| !taken[case].contains(&place.map(i64::from)))
            else {
                spent.insert(case);
                continue;
            };
            let mut spot = spot(rare.len(), area, (prepared, centre), most, &taken[case], random)?;
            // The other rare classes have windows of their own.
            spot.voxels.retain(|(_, of)| *of == class || !rare[*of]);
            found += spot.voxels.iter().filter(|(_, of)| *of == class).count();
            taken[case].extend(spot.voxels.iter().map(|(place, _)| area.voxel(&spot, *place)));
            set.push(spot);
        }
        shown += set.len().max(1);
        turns.push(set);
    }
    Ok(turns)
}

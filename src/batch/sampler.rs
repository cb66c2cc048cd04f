//! Decides which patch of which case fills each place of a batch.
//!
//! The rules are nnU-Net's (Isensee et al. 2021, `oversample_foreground_percent`): the case is uniform with
//! replacement; part of every batch is centred on a foreground voxel, its class uniform among the foreground
//! classes that the case has, then the voxel uniform; the rest lies anywhere in the case. Every decision is a
//! pure function of (seed, step, index in the batch). [`Share::Centred`] is DeepMedic's rule instead.

use ndarray::ArrayView3;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::prepare::{ClassVoxels, Placement, PreparedCase, Sample};
use crate::{Error, Result};

/// How patches are placed.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    /// Patch edges in voxels, (x, y, z).
    pub patch: [usize; 3],
    /// Patches in a batch.
    pub batch: usize,
    /// Which patches are centred on foreground.
    pub share: Share,
    /// Which patches are augmented.
    pub augmented: Augmented,
    /// Whether batches are also made without augmentation.
    pub twin: Twin,
    /// Set where a loader makes the batches that a policy is learned from instead of those of training.
    pub redraws: Option<Redraws>,
}

/// Batches of some training steps several times over: the same patches in the same places, each time with another
/// draw from the policy. The loader counts them draw by draw, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redraws {
    /// Training steps from one of the steps to the next.
    pub every: u64,
    /// How often each batch is made.
    pub draws: u64,
    /// How many of the places of a training batch, spread evenly over it.
    pub patches: usize,
}

/// Which patches are augmented.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Augmented {
    /// Every one.
    #[default]
    All,
    /// By the class of the voxel that the patch is centred on: rare ones always, others by chance.
    Rare {
        /// One per class, background first.
        rare: Vec<bool>,
        /// Probability of the patches that are not centred on a rare class.
        background_probability: f64,
    },
}

/// Whether batches are also made without augmentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Twin {
    /// Only as they are trained on.
    #[default]
    None,
    /// Where any patch is augmented, the same patches again as they are.
    Raw,
}

/// Which patches of a batch are centred on a foreground voxel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// The last third of every batch, as in nnU-Net: the places from round(0.67 batch) on, at least one where
    /// the batch has two or more.
    LastThird,
    /// Each patch by itself with this probability.
    Probability(f64),
    /// Each patch is centred, exactly, on a voxel inside the mask: with this probability on one of the
    /// foreground, else on one of the background. Where a case has only one of the two, it is centred on that.
    Centred(f64),
}

/// What the sampler must know of a case.
#[derive(Clone, Copy, Debug)]
pub struct Sites<'a> {
    /// Shape of the prepared sample, (x, y, z).
    pub shape: [usize; 3],
    /// Where the voxels of each class are.
    pub classes: &'a [ClassVoxels],
    /// Where the class of a voxel can be looked up.
    pub labels: Reference<'a>,
}

/// The reference segmentation of a case.
#[derive(Clone, Copy, Debug)]
pub enum Reference<'a> {
    /// In memory, (x, y, z).
    Memory(ArrayView3<'a, u8>),
    /// On disk.
    Disk(&'a PreparedCase),
}

/// What a generator is for: each purpose has its own stream, so that the same patches are drawn whatever the
/// augmentation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Case and location.
    Placement,
    /// Augmentation.
    Augmentation,
    /// Whether there is augmentation.
    Gate,
    /// Augmentation of a draw that a policy is learned from.
    Redraw(u32),
}

/// The generator for one patch: a function of the seed, the step and the index in the batch alone.
pub fn generator(seed: u64, step: u64, index: usize, purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&step.to_le_bytes());
    key[16..24].copy_from_slice(&(index as u64).to_le_bytes());
    key[24] = match purpose {
        Purpose::Placement => 1,
        Purpose::Augmentation => 2,
        Purpose::Gate => 3,
        Purpose::Redraw(draw) => {
            key[25..29].copy_from_slice(&draw.to_le_bytes());
            4
        }
    };
    ChaCha8Rng::from_seed(key)
}

impl<'a> Sites<'a> {
    /// The sites of a sample in memory; an error where it has no labels.
    pub fn of_sample(sample: &'a Sample) -> Result<Self> {
        let labels = sample.labels.as_ref().ok_or_else(|| no_labels(&sample.id))?;
        let (x, y, z) = labels.dim();
        Ok(Self { shape: [x, y, z], classes: &sample.classes, labels: Reference::Memory(labels.view()) })
    }

    /// The sites of a case on disk; an error where it has no labels.
    pub fn of_case(case: &'a PreparedCase) -> Result<Self> {
        if !case.has_labels {
            return Err(no_labels(&case.id));
        }
        Ok(Self { shape: case.shape, classes: &case.classes, labels: Reference::Disk(case) })
    }
}

fn no_labels(case: &str) -> Error {
    Error::config(
        "training cases",
        format!("case `{case}` has no labels"),
        "train on cases with a reference segmentation only",
    )
}

impl Reference<'_> {
    fn at(&self, voxel: [usize; 3]) -> Result<u8> {
        match self {
            Self::Memory(labels) => Ok(labels[voxel]),
            Self::Disk(case) => {
                Ok(case.read_window(voxel.map(|coordinate| coordinate as i64), [1; 3])?.labels[[0; 3]])
            }
        }
    }
}

impl Sampler {
    /// A sampler with nnU-Net's foreground share.
    pub fn new(patch: [usize; 3], batch: usize) -> Self {
        Self {
            patch,
            batch,
            share: Share::LastThird,
            augmented: Augmented::All,
            twin: Twin::None,
            redraws: None,
        }
    }

    /// Refuses values that cannot be drawn from.
    pub fn check(&self) -> Result<()> {
        if self.batch == 0 || self.patch.contains(&0) {
            return Err(Error::config(
                "sampler",
                format!("patch {:?} in batches of {}", self.patch, self.batch),
                "every edge of the patch and the batch must be at least 1",
            ));
        }
        if self
            .redraws
            .is_some_and(|redraws| redraws.every == 0 || redraws.draws == 0 || redraws.patches == 0)
        {
            return Err(Error::config(
                "sampler.redraws",
                format!("{:?}", self.redraws),
                "every number must be at least 1",
            ));
        }
        if let Share::Probability(p) | Share::Centred(p) = self.share
            && !(0.0..=1.0).contains(&p)
        {
            return Err(Error::config(
                "sampler.share.probability",
                format!("{p} is not a probability"),
                "give a number from 0 to 1",
            ));
        }
        Ok(())
    }

    /// Step of the batch that a loader makes at `number`, and what its augmentation is drawn for.
    pub(super) fn numbered(&self, number: u64) -> (u64, Purpose) {
        match self.redraws {
            None => (number, Purpose::Augmentation),
            Some(Redraws { every, draws, .. }) => {
                (number / draws * every, Purpose::Redraw((number % draws) as u32))
            }
        }
    }

    /// The places of a training batch that a batch holds.
    pub(super) fn places(&self) -> Vec<usize> {
        match self.redraws {
            Some(Redraws { patches, .. }) if patches < self.batch => {
                (0..patches).map(|index| (2 * index + 1) * self.batch / (2 * patches)).collect()
            }
            _ => (0..self.batch).collect(),
        }
    }

    /// Whether a patch that is centred on a voxel of this class is augmented.
    pub fn augments(&self, centre_class: u8, random: &mut ChaCha8Rng) -> bool {
        match &self.augmented {
            Augmented::All => true,
            Augmented::Rare { rare, background_probability } => {
                rare.get(usize::from(centre_class)).is_some_and(|&rare| rare)
                    || random.random::<f64>() < *background_probability
            }
        }
    }

    /// The case for one place of a batch, uniform over `cases` > 0 of them.
    pub fn draw_case(&self, cases: usize, random: &mut ChaCha8Rng) -> usize {
        random.random_range(0..cases)
    }

    /// Where in its case the patch at place `index` of a batch lies.
    ///
    /// Along an axis on which the sample is at least as long as the patch, a free patch lies wholly inside;
    /// on a shorter one the sample is centred in the patch. A foreground-centred patch puts its voxel at
    /// `patch / 2`, moved only as far as keeps its start off the near padding, as in nnU-Net; it may reach
    /// over the far faces. Where some voxels are neither trained on nor scored (ignored, or outside the mask),
    /// free patches are centred on voxels that are.
    ///
    /// # Errors
    /// Where the centre's label cannot be read from disk.
    pub fn place(
        &self,
        index: usize,
        case: usize,
        sites: &Sites<'_>,
        random: &mut ChaCha8Rng,
    ) -> Result<Placement> {
        let wants_foreground = match self.share {
            Share::LastThird => index as f64 >= (self.batch as f64 * (1.0 - 0.33)).round_ties_even(),
            Share::Probability(p) | Share::Centred(p) => random.random::<f64>() < p,
        };
        let sought = if wants_foreground { draw_class(sites.classes, random) } else { None };
        let known: u64 = sites.classes.iter().filter(|c| !c.positions.is_empty()).map(|c| c.count).sum();
        let volume = sites.shape.iter().product::<usize>() as u64;
        let start = match (self.centred(sought, sites, random), sought) {
            (Some(start), _) => start,
            (None, Some(class)) => {
                self.around(draw_position(&sites.classes[class].positions, random), sites.shape)
            }
            (None, None) if known < volume && known > 0 => {
                let counts = sites
                    .classes
                    .iter()
                    .map(|class| if class.positions.is_empty() { 0.0 } else { class.count as f64 });
                let class = draw_weighted(counts, random).unwrap_or(0);
                self.around(draw_position(&sites.classes[class].positions, random), sites.shape)
            }
            (None, None) => std::array::from_fn(|axis| {
                let (low, high) = self.range(sites.shape, axis);
                random.random_range(low..=high)
            }),
        };
        let centre: [i64; 3] = std::array::from_fn(|axis| start[axis] + (self.patch[axis] / 2) as i64);
        let inside = (0..3).all(|axis| (0..sites.shape[axis] as i64).contains(&centre[axis]));
        let centre_class = if inside { sites.labels.at(centre.map(|c| c as usize))? } else { 0 };
        Ok(Placement { case, start, centre_class, sought: sought.map(|class| class as u8) })
    }

    /// First and last start of a patch along an axis: inside the sample, or centred around a shorter one (two
    /// starts where the difference is odd).
    fn range(&self, shape: [usize; 3], axis: usize) -> (i64, i64) {
        let room = shape[axis] as i64 - self.patch[axis] as i64;
        if room >= 0 { (0, room) } else { (room.div_euclid(2), -((-room).div_euclid(2))) }
    }

    /// Where a patch by [`Share::Centred`] begins.
    fn centred(&self, sought: Option<usize>, sites: &Sites<'_>, random: &mut ChaCha8Rng) -> Option<[i64; 3]> {
        let Share::Centred(_) = self.share else { return None };
        let background = || sites.classes.first().filter(|class| !class.positions.is_empty()).map(|_| 0);
        let class = match sought {
            Some(class) => class,
            None => background().or_else(|| draw_class(sites.classes, random))?,
        };
        let voxel = draw_position(&sites.classes[class].positions, random);
        Some(std::array::from_fn(|axis| i64::from(voxel[axis]) - (self.patch[axis] / 2) as i64))
    }

    fn around(&self, voxel: [u32; 3], shape: [usize; 3]) -> [i64; 3] {
        std::array::from_fn(|axis| {
            let (low, _) = self.range(shape, axis);
            low.max(i64::from(voxel[axis]) - (self.patch[axis] / 2) as i64)
        })
    }
}

/// A foreground class that the case has, all alike; `None` where it has none.
fn draw_class(classes: &[ClassVoxels], random: &mut ChaCha8Rng) -> Option<usize> {
    let drawable = |(class, voxels): (usize, &ClassVoxels)| class > 0 && !voxels.positions.is_empty();
    let weights = classes.iter().enumerate().map(|class| f64::from(u8::from(drawable(class))));
    draw_weighted(weights, random)
}

/// An index with probability proportional to its weight; `None` where all are 0. Uses one number in any case.
fn draw_weighted(weights: impl Iterator<Item = f64> + Clone, random: &mut ChaCha8Rng) -> Option<usize> {
    let total: f64 = weights.clone().sum();
    let mut left = random.random::<f64>() * total;
    let mut last = None;
    for (index, weight) in weights.enumerate().filter(|(_, weight)| *weight > 0.0) {
        last = Some(index);
        if left < weight {
            break;
        }
        left -= weight;
    }
    last
}

fn draw_position(positions: &[[u32; 3]], random: &mut ChaCha8Rng) -> [u32; 3] {
    positions[random.random_range(0..positions.len())]
}

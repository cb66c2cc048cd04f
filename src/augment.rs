//! Changes patches so that the network sees more than the data holds.
//!
//! An [`Augmentation`] is data: a list of operations with their probabilities and ranges. Drawing from it
//! gives a [`Draw`], which holds every number that the patch needs: one affine map for all spatial operations
//! together, and a list of intensity changes per channel. [`cut`] then reads the patch straight from the
//! prepared sample, interpolating each voxel once, so that no larger patch is ever made; the identity draw is
//! a plain copy, bit for bit.
//!
//! Definitions and defaults follow nnU-Net 2 (`nnUNetTrainer.get_training_transforms`, batchgeneratorsv2).

mod filter;
mod intensity;
mod laterality;
mod spatial;
mod wide;

use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::plan::{Normalisation, Plan};
use crate::prepare::{PreparedCase, Sample};
use crate::sampler::Placement;
use crate::{Error, Result};

pub use intensity::normal;
pub use laterality::{left_right_pairs, mirror_axes};
pub use spatial::Affine;
use spatial::{Block, Map};

/// One kind of change, with the range that its magnitude is drawn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Op {
    /// Turns the image about the patch centre: about x, then y, then z, by an angle each.
    Rotate {
        /// Angles about x, y and z, in degrees.
        degrees: [Magnitude; 3],
    },
    /// Scales coordinates about the patch centre: above 1 makes objects smaller.
    Scale {
        /// One factor for all scaled axes.
        factor: Magnitude,
        /// Which of x, y, z are scaled.
        axes: [bool; 3],
    },
    /// Mirrors, with probability 1/2 along each allowed axis.
    Mirror {
        /// Which of x, y, z may be mirrored; see [`mirror_axes`].
        axes: [bool; 3],
    },
    /// Adds independent normal noise to every voxel; all channels have the same standard deviation.
    Noise {
        /// Standard deviation. (batchgeneratorsv2 calls it a variance but uses it so.)
        deviation: Magnitude,
    },
    /// Smooths with a Gaussian, a sigma per channel and axis.
    Blur {
        /// Standard deviation of the Gaussian in voxels.
        sigma: Magnitude,
        /// Probability of each channel to be smoothed.
        per_channel: f64,
    },
    /// Multiplies each channel by a factor of its own.
    Brightness {
        /// The factor.
        factor: Magnitude,
    },
    /// Stretches each channel about its mean, by a factor of its own, within its old range.
    Contrast {
        /// The factor.
        factor: Magnitude,
    },
    /// Simulates a coarser scan: nearest voxels on a smaller grid, then linear back.
    LowResolution {
        /// Edge of the smaller grid relative to the patch.
        zoom: Magnitude,
        /// Probability of each channel to be changed.
        per_channel: f64,
        /// Which of x, y, z become coarser.
        axes: [bool; 3],
    },
    /// Raises each channel, scaled to \[0, 1\], to a power; its mean and standard deviation are then restored.
    Gamma {
        /// The exponent.
        exponent: Magnitude,
        /// Whether dark or bright values are stretched.
        side: Side,
    },
    /// Sets voxels outside the sample's mask, where it has one, back to 0.
    Mask {
        /// Channels that are 0 outside a mask since their preparation.
        channels: Vec<usize>,
    },
    /// Sets voxels that were 0 in all these channels before any intensity changed back to 0: the outside of a
    /// sample whose statistics were taken over its non-zero voxels.
    Nonzero {
        /// Channels that were normalised so.
        channels: Vec<usize>,
    },
}

/// Which image [`Op::Gamma`] raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The image itself.
    Direct,
    /// Its negative; the result is negated back.
    Inverted,
}

/// How a magnitude is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Magnitude {
    /// Always this value.
    Fixed(f64),
    /// Uniform in [low, high).
    Uniform(f64, f64),
    /// Below 1 or above 1 with probability 1/2 each: uniform in [low, 1) or in [1, high).
    AboutOne(f64, f64),
}

/// An operation and how often it is applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Probability for a patch.
    pub probability: f64,
    /// What is done.
    #[serde(flatten)]
    pub op: Op,
}

/// A list of operations, each applied with its own probability, in this order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Augmentation {
    /// The operations. Spatial ones compose in their order among themselves and act before all others.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// Everything that was drawn for one patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// From offsets about the patch centre to offsets in the sample, voxels.
    pub affine: Affine,
    /// What happens to intensities after that, in this order.
    pub changes: Vec<Change>,
}

/// A change of one channel with all its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The channel.
    pub channel: usize,
    /// What is done to it.
    pub kind: Kind,
}

/// What [`Change`] does; see [`Op`] for the definitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `x + deviation * n`, n normal: a function of (key, channel, voxel).
    Noise {
        /// Standard deviation.
        deviation: f64,
        /// Names the noise field.
        key: u64,
    },
    /// Gaussian with a sigma in voxels for each of x, y, z.
    Blur {
        /// Sigma along x, y, z.
        sigma: [f64; 3],
    },
    /// `x * factor`.
    Multiply {
        /// The factor.
        factor: f64,
    },
    /// `(x - mean) * factor + mean`, clipped to the old range.
    Contrast {
        /// The factor.
        factor: f64,
    },
    /// Down to round(zoom * edge) voxels, nearest, and back, linear.
    LowResolution {
        /// Zoom along x, y, z.
        zoom: [f64; 3],
    },
    /// Power of the image scaled to \[0, 1\].
    Gamma {
        /// The exponent.
        exponent: f64,
        /// Of the image or of its negative.
        side: Side,
    },
    /// 0 outside the mask.
    Mask,
    /// 0 where all channels with this change were 0.
    Nonzero,
}

impl Magnitude {
    fn draw(self, random: &mut ChaCha8Rng) -> f64 {
        let between =
            |low: f64, high: f64, random: &mut ChaCha8Rng| low + (high - low) * random.random::<f64>();
        match self {
            Self::Fixed(value) => value,
            Self::Uniform(low, high) => between(low, high, random),
            Self::AboutOne(low, high) => {
                if random.random::<f64>() < 0.5 && low < 1.0 {
                    between(low, 1.0, random)
                } else {
                    between(low.max(1.0), high, random)
                }
            }
        }
    }

    fn bounds(self) -> [f64; 2] {
        match self {
            Self::Fixed(value) => [value, value],
            Self::Uniform(low, high) | Self::AboutOne(low, high) => [low, high],
        }
    }
}

impl Augmentation {
    /// Patches as they are.
    pub fn none() -> Self {
        Self { rules: Vec::new() }
    }

    /// nnU-Net's default list for 3-D patches.
    ///
    /// `thick` is the axis whose slices are so thick that rotation and scaling stay inside them (nnU-Net's
    /// "dummy 2-D"; see [`thick_axis`]): rotation is then within 180 instead of 30 degrees and about that axis
    /// alone. `mirror` are the axes that may be mirrored, see [`mirror_axes`].
    pub fn basic(thick: Option<usize>, mirror: [bool; 3]) -> Self {
        let axes = std::array::from_fn(|axis| thick != Some(axis));
        let degrees = match thick {
            None => [Magnitude::Uniform(-30.0, 30.0); 3],
            Some(_) => {
                axes.map(
                    |in_plane| {
                        if in_plane { Magnitude::Fixed(0.0) } else { Magnitude::Uniform(-180.0, 180.0) }
                    },
                )
            }
        };
        let mild = Magnitude::AboutOne(0.75, 1.25);
        let exponent = Magnitude::AboutOne(0.7, 1.5);
        let rule = |probability, op| Rule { probability, op };
        let mut rules = vec![
            rule(0.2, Op::Rotate { degrees }),
            rule(0.2, Op::Scale { factor: Magnitude::Uniform(0.7, 1.4), axes }),
            rule(0.1, Op::Noise { deviation: Magnitude::Uniform(0.0, 0.1) }),
            rule(0.2, Op::Blur { sigma: Magnitude::Uniform(0.5, 1.0), per_channel: 0.5 }),
            rule(0.15, Op::Brightness { factor: mild }),
            rule(0.15, Op::Contrast { factor: mild }),
            rule(0.25, Op::LowResolution { zoom: Magnitude::Uniform(0.5, 1.0), per_channel: 0.5, axes }),
            rule(0.1, Op::Gamma { exponent, side: Side::Inverted }),
            rule(0.3, Op::Gamma { exponent, side: Side::Direct }),
        ];
        if mirror.contains(&true) {
            rules.push(rule(1.0, Op::Mirror { axes: mirror }));
        }
        Self { rules }
    }

    /// nnU-Net's default list as a plan and the names of its labels call for it: rotations within thick slices,
    /// no mirroring that would swap a left structure with its right partner, and zeros kept where the plan's
    /// normalisation puts them.
    pub fn for_plan<S: AsRef<str>>(plan: &Plan, label_names: &[S]) -> Self {
        let mut list = Self::basic(thick_axis(plan.patch, plan.spacing), mirror_axes(label_names));
        let channels = |wanted: fn(&Normalisation) -> bool| -> Vec<usize> {
            let chosen =
                plan.normalisation.iter().enumerate().filter(|(_, normalisation)| wanted(normalisation));
            chosen.map(|(channel, _)| channel).collect()
        };
        let masked = channels(|normalisation| matches!(normalisation, Normalisation::ZScore { .. }));
        let nonzero =
            channels(|normalisation| matches!(normalisation, Normalisation::ZScore { masked: true }));
        for (op, channels) in [
            (Op::Mask { channels: masked.clone() }, masked),
            (Op::Nonzero { channels: nonzero.clone() }, nonzero),
        ] {
            if !channels.is_empty() {
                list.rules.push(Rule { probability: 1.0, op });
            }
        }
        list
    }

    /// Refuses probabilities and magnitudes that cannot be drawn or applied.
    pub fn check(&self) -> Result<()> {
        for (index, rule) in self.rules.iter().enumerate() {
            let refuse = |problem: String, mend: &str| {
                Err(Error::config(format!("augmentation.rules[{index}]"), problem, mend))
            };
            let probability = |name: &str, p: f64| {
                if (0.0..=1.0).contains(&p) {
                    Ok(())
                } else {
                    refuse(format!("{name} = {p}"), "give a number from 0 to 1")
                }
            };
            probability("probability", rule.probability)?;
            let (name, magnitudes, low, high) = match &rule.op {
                Op::Rotate { degrees } => ("degrees", degrees.to_vec(), -360.0, 360.0),
                Op::Scale { factor, .. } => ("factor", vec![*factor], 0.05, 20.0),
                Op::Noise { deviation } => ("deviation", vec![*deviation], 0.0, 1e6),
                Op::Blur { sigma, per_channel } => {
                    probability("per_channel", *per_channel)?;
                    ("sigma", vec![*sigma], 0.0, 20.0)
                }
                Op::Brightness { factor } => ("factor", vec![*factor], 0.0, 1e3),
                Op::Contrast { factor } => ("factor", vec![*factor], 0.0, 1e3),
                Op::LowResolution { zoom, per_channel, .. } => {
                    probability("per_channel", *per_channel)?;
                    ("zoom", vec![*zoom], 0.01, 1.0)
                }
                Op::Gamma { exponent, .. } => ("exponent", vec![*exponent], 0.01, 100.0),
                Op::Mirror { .. } | Op::Mask { .. } | Op::Nonzero { .. } => continue,
            };
            for magnitude in magnitudes {
                let [least, most] = magnitude.bounds();
                let about_one = matches!(magnitude, Magnitude::AboutOne(..));
                // A comparison with NaN is false, so NaN is refused too.
                if !(low <= least && least <= most && most <= high) || (about_one && most < 1.0) {
                    return refuse(
                        format!("{name} = {magnitude:?}"),
                        &format!("give a range from low to high within [{low}, {high}]"),
                    );
                }
            }
        }
        Ok(())
    }

    /// Draws what happens to one patch of `channels` channels.
    pub fn draw(&self, channels: usize, random: &mut ChaCha8Rng) -> Draw {
        let mut draw = Draw::identity();
        for rule in &self.rules {
            if random.random::<f64>() < rule.probability {
                draw.add(&rule.op, channels, random);
            }
        }
        draw
    }
}

impl Draw {
    /// Changes nothing.
    pub fn identity() -> Self {
        Self { affine: Affine::IDENTITY, changes: Vec::new() }
    }

    /// Draws the magnitudes of one operation and appends it.
    pub fn add(&mut self, op: &Op, channels: usize, random: &mut ChaCha8Rng) {
        let mut change = |channel, kind| self.changes.push(Change { channel, kind });
        match op {
            Op::Rotate { degrees } => {
                let degrees = degrees.map(|angle| angle.draw(random));
                self.affine = self.affine.then(&Affine::rotation(degrees));
            }
            Op::Scale { factor, axes } => {
                let factor = factor.draw(random);
                let factors = axes.map(|scaled| if scaled { factor } else { 1.0 });
                self.affine = self.affine.then(&Affine::scaling(factors));
            }
            Op::Mirror { axes } => {
                let mirrored = axes.map(|allowed| allowed && random.random::<f64>() < 0.5);
                self.affine = self.affine.then(&Affine::mirror(mirrored));
            }
            Op::Noise { deviation } => {
                let (deviation, key) = (deviation.draw(random), random.next_u64());
                (0..channels).for_each(|channel| change(channel, Kind::Noise { deviation, key }));
            }
            Op::Blur { sigma, per_channel } => {
                for channel in 0..channels {
                    if random.random::<f64>() < *per_channel {
                        let sigma = std::array::from_fn(|_| sigma.draw(random));
                        change(channel, Kind::Blur { sigma });
                    }
                }
            }
            Op::Brightness { factor } => {
                (0..channels)
                    .for_each(|channel| change(channel, Kind::Multiply { factor: factor.draw(random) }));
            }
            Op::Contrast { factor } => {
                (0..channels)
                    .for_each(|channel| change(channel, Kind::Contrast { factor: factor.draw(random) }));
            }
            Op::LowResolution { zoom, per_channel, axes } => {
                for channel in 0..channels {
                    if random.random::<f64>() < *per_channel {
                        let zoom = zoom.draw(random);
                        let zoom = axes.map(|coarser| if coarser { zoom } else { 1.0 });
                        change(channel, Kind::LowResolution { zoom });
                    }
                }
            }
            Op::Gamma { exponent, side } => {
                for channel in 0..channels {
                    change(channel, Kind::Gamma { exponent: exponent.draw(random), side: *side });
                }
            }
            Op::Mask { channels: masked } => {
                masked.iter().for_each(|&channel| change(channel, Kind::Mask));
            }
            Op::Nonzero { channels: nonzero } => {
                nonzero.iter().for_each(|&channel| change(channel, Kind::Nonzero));
            }
        }
    }
}

/// The axis along which voxels are so much thicker that spatial changes should stay in the plane, as nnU-Net
/// decides it: the axis of the coarsest spacing (mm), where the longest edge of the patch (voxels) is more
/// than three times the patch's edge along it.
pub fn thick_axis(patch: [usize; 3], spacing: [f64; 3]) -> Option<usize> {
    let coarsest = (0..3).fold(0, |best, axis| if spacing[axis] > spacing[best] { axis } else { best });
    let longest = patch.into_iter().max().unwrap_or(0);
    (longest > 3 * patch[coarsest]).then_some(coarsest)
}

/// Cuts one augmented patch out of a sample.
///
/// Writes `out_images` as (channel, x, y, z) and `out_labels` as (x, y, z), each axis as long as `patch`.
/// Patch voxel `p` shows the sample at `start + (patch - 1) / 2 + affine * (p - (patch - 1) / 2)`. Images are
/// interpolated linearly with zeros outside the sample; labels take the class with the largest sum of linear
/// weights, the nearest voxel's where two are equal, and background outside the sample. These are
/// batchgeneratorsv2's rules, except that it sees zeros already beyond a crop around the patch. No label is
/// invented, and [`crate::prepare::IGNORE`] is a class like any other here.
///
/// # Panics
/// Where the sample has no labels or the outputs do not have the stated sizes.
pub fn cut(
    sample: &Sample,
    placement: &Placement,
    patch: [usize; 3],
    draw: &Draw,
    out_images: &mut [f32],
    out_labels: &mut [u8],
) {
    let (_, x, y, z) = sample.images.dim();
    let labels = sample.labels.as_ref().expect("training samples have labels");
    let block = Block {
        images: whole(sample.images.as_slice()),
        labels: whole(labels.as_slice()),
        mask: sample.mask.as_ref().map(|mask| whole(mask.as_slice())),
        shape: [x, y, z],
    };
    render(&Map::new(&draw.affine, placement.start, patch), &block, patch, draw, out_images, out_labels);
}

/// The same from a case on disk: reads no more of it than the patch sees, and gives the same bits.
///
/// # Errors
/// Where the case cannot be read.
///
/// # Panics
/// Where the outputs do not have the stated sizes.
pub fn cut_case(
    case: &PreparedCase,
    placement: &Placement,
    patch: [usize; 3],
    draw: &Draw,
    out_images: &mut [f32],
    out_labels: &mut [u8],
) -> Result<()> {
    let map = Map::new(&draw.affine, placement.start, patch);
    let seen = map.window(case.shape);
    let start = [0, 1, 2].map(|axis: usize| seen[axis].start);
    let shape = [0, 1, 2].map(|axis: usize| seen[axis].len());
    let window = case.read_window(start.map(|coordinate| coordinate as i64), shape)?;
    let block = Block {
        images: whole(window.images.as_slice()),
        labels: whole(window.labels.as_slice()),
        mask: window.mask.as_ref().map(|mask| whole(mask.as_slice())),
        shape,
    };
    render(&map.moved(start), &block, patch, draw, out_images, out_labels);
    Ok(())
}

fn whole<T>(voxels: Option<&[T]>) -> &[T] {
    voxels.expect("prepared arrays have standard layout")
}

/// Reads a patch through its map and applies the intensity changes.
fn render(
    map: &Map,
    block: &Block<'_>,
    patch: [usize; 3],
    draw: &Draw,
    out_images: &mut [f32],
    out_labels: &mut [u8],
) {
    let size = patch.iter().product::<usize>();
    assert_eq!(out_labels.len(), size, "labels of the patch");
    spatial::resample(map, block, out_images, out_labels);
    let kept = kept(map, block, draw, out_images, size);
    for (channel, voxels) in out_images.chunks_exact_mut(size).enumerate() {
        for change in draw.changes.iter().filter(|change| change.channel == channel) {
            match change.kind {
                Kind::Noise { deviation, key } => {
                    intensity::noise(voxels, patch, deviation as f32, key, channel);
                }
                Kind::Blur { sigma } => filter::blur(voxels, patch, sigma),
                Kind::Multiply { factor } => intensity::multiply(voxels, factor as f32),
                Kind::Contrast { factor } => intensity::contrast(voxels, factor as f32),
                Kind::LowResolution { zoom } => filter::low_resolution(voxels, patch, zoom),
                Kind::Gamma { exponent, side } => intensity::gamma(voxels, exponent as f32, side),
                Kind::Mask => clear(voxels, &kept.mask),
                Kind::Nonzero => clear(voxels, &kept.nonzero),
            }
        }
    }
}

/// Patch voxels that [`Kind::Mask`] and [`Kind::Nonzero`] keep (not 0); empty where all are kept.
struct Kept {
    mask: Vec<u8>,
    nonzero: Vec<u8>,
}

/// Finds what has to be 0 in the end, before intensities change. Nothing has to be done for channels that do
/// not change otherwise.
fn kept(map: &Map, block: &Block<'_>, draw: &Draw, images: &[f32], size: usize) -> Kept {
    let changed = |channel: usize| {
        let of_channel = draw.changes.iter().filter(|change| change.channel == channel);
        of_channel.clone().any(|change| !matches!(change.kind, Kind::Mask | Kind::Nonzero))
    };
    let wants = |kind: Kind| draw.changes.iter().any(|change| change.kind == kind && changed(change.channel));
    let mut kept = Kept { mask: Vec::new(), nonzero: Vec::new() };
    if let Some(mask) = block.mask
        && wants(Kind::Mask)
    {
        kept.mask.resize(size, 0);
        spatial::nearest(map, mask, block.shape, &mut kept.mask);
    }
    if wants(Kind::Nonzero) {
        kept.nonzero.resize(size, 0);
        for change in draw.changes.iter().filter(|change| change.kind == Kind::Nonzero) {
            let channel = &images[change.channel * size..][..size];
            for (kept, voxel) in kept.nonzero.iter_mut().zip(channel) {
                *kept |= u8::from(*voxel != 0.0);
            }
        }
    }
    kept
}

fn clear(voxels: &mut [f32], kept: &[u8]) {
    for (voxel, kept) in voxels.iter_mut().zip(kept) {
        *voxel = if *kept == 0 { 0.0 } else { *voxel };
    }
}

//! Changes patches so that the network sees more than the data holds.
//!
//! An [`Augmentation`] is data: a list of operations with their probabilities and ranges. Drawing from it
//! gives a [`Draw`], which holds every number that the patch needs: one affine map for all spatial operations
//! together, and a list of intensity changes per channel. [`cut`] then reads the patch straight from the
//! prepared sample, interpolating each voxel once, so that no larger patch is ever made; the identity draw is
//! a plain copy, bit for bit. [`Cut`] does the same on several grids about one patch, as networks with
//! pathways of several resolutions need it.
//!
//! Definitions and defaults follow nnU-Net 2 (`nnUNetTrainer.get_training_transforms`, batchgeneratorsv2);
//! those of learned policies are in [`crate::policy`].

mod affine;
mod channel;
mod cut;
mod draw;
mod filter;
mod histogram;
mod intensity;
mod magnitude;
mod read;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

pub use affine::Affine;
pub use cut::{Cut, cut};
pub use draw::{Change, Draw, Intensity};
pub use histogram::Histograms;
pub use intensity::normal;
pub use magnitude::Magnitude;

/// One kind of change, with the range that its magnitude is drawn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
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
        /// Which of x, y, z may be mirrored; see [`Sides`](crate::data::dataset::Sides).
        axes: [bool; 3],
    },
    /// Mirrors along one axis.
    Flip {
        /// 0, 1 or 2 for x, y or z.
        axis: usize,
        /// Labels that change places, so that a left structure stays a left one; see
        /// [`Sides`](crate::data::dataset::Sides).
        #[serde(default)]
        pairs: Vec<[u8; 2]>,
    },
    /// Moves the image.
    Translate {
        /// By so many voxels along x, y, z.
        voxels: [Magnitude; 3],
    },
    /// Adds independent normal noise to every voxel; all channels have the same standard deviation.
    Noise {
        /// Standard deviation. (batchgeneratorsv2 calls it a variance but uses it so.)
        deviation: Magnitude,
    },
    /// Smooths with a Gaussian; a sigma per channel and axis, or one for all where channels share.
    Blur {
        /// Standard deviation of the Gaussian in voxels.
        sigma: Magnitude,
        /// Probability of each channel to be smoothed.
        per_channel: f64,
    },
    /// Takes away the Laplacian of a Gaussian, within the old range.
    Sharpen {
        /// Standard deviation of the Gaussian in voxels.
        sigma: Magnitude,
        /// Whose range.
        over: Over,
    },
    /// Multiplies by a factor.
    Brightness {
        /// The factor.
        factor: Magnitude,
    },
    /// Adds an amount.
    Offset {
        /// The amount, in units of the prepared intensities.
        amount: Magnitude,
    },
    /// Stretches about the mean, by a factor, within the old range.
    Contrast {
        /// The factor.
        factor: Magnitude,
        /// Whose mean and range.
        #[serde(default)]
        over: Over,
    },
    /// Simulates a coarser scan: onto a smaller grid and back.
    LowResolution {
        /// Edge of the smaller grid relative to the patch; above 1 counts as 1.
        zoom: Magnitude,
        /// Probability of each channel to be changed.
        per_channel: f64,
        /// Which of x, y, z become coarser.
        axes: [bool; 3],
        /// How values are taken on the way down and up.
        #[serde(default)]
        resampling: Resampling,
    },
    /// Raises the image, scaled to \[0, 1\], to a power.
    Gamma {
        /// The exponent.
        exponent: Magnitude,
        /// Whether dark or bright values are stretched.
        side: Side,
        /// Whose range and moments.
        #[serde(default)]
        over: Over,
        /// What is restored afterwards.
        #[serde(default)]
        keep: Keep,
    },
    /// Replaces every voxel: an operation that no policy should like.
    Constant {
        /// The value.
        value: Magnitude,
    },
    /// Sets a box around a random point of the patch to 0 (cutout).
    Erase {
        /// Its edges relative to those of the patch.
        size: Magnitude,
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

/// Where an operation takes its statistics from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// The patch; of several grids, the first.
    #[default]
    Patch,
    /// The channel of the whole prepared sample (see [`Histograms`]), changed as the patch was so far.
    Image,
}

/// What [`Op::Gamma`] restores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Mean and standard deviation.
    #[default]
    Moments,
    /// The range alone.
    Range,
}

/// How [`Op::LowResolution`] takes values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resampling {
    /// Nearest down, linear up (nnU-Net).
    #[default]
    NearestLinear,
    /// Linear down, nearest up.
    LinearNearest,
}

/// Whether channels of a patch change together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// Each channel has magnitudes of its own.
    #[default]
    Independent,
    /// All channels have the same magnitudes.
    Shared,
}

/// An operation and how often it is applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Probability for a patch.
    pub probability: f64,
    /// Whether channels change together.
    #[serde(default)]
    pub sharing: Sharing,
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

impl Op {
    /// Refuses magnitudes that cannot be drawn or applied; `field` names the operation's place.
    pub fn check(&self, field: &str) -> Result<()> {
        let refuse = |problem: String, mend: &str| Err(Error::config(field, problem, mend));
        let (name, magnitudes, low, high): (_, &[Magnitude], _, _) = match self {
            Self::Rotate { degrees } => ("degrees", degrees, -360.0, 360.0),
            Self::Scale { factor, .. } => ("factor", std::slice::from_ref(factor), 0.05, 20.0),
            Self::Translate { voxels } => ("voxels", voxels, -1e4, 1e4),
            Self::Noise { deviation } => ("deviation", std::slice::from_ref(deviation), 0.0, 1e6),
            Self::Blur { sigma, per_channel } => {
                check_probability(field, "per_channel", *per_channel)?;
                ("sigma", std::slice::from_ref(sigma), 0.0, 20.0)
            }
            Self::Sharpen { sigma, .. } => ("sigma", std::slice::from_ref(sigma), 0.3, 20.0),
            Self::Brightness { factor } => ("factor", std::slice::from_ref(factor), 0.0, 1e3),
            Self::Offset { amount } => ("amount", std::slice::from_ref(amount), -1e6, 1e6),
            Self::Contrast { factor, .. } => ("factor", std::slice::from_ref(factor), 0.0, 1e3),
            Self::LowResolution { zoom, per_channel, .. } => {
                check_probability(field, "per_channel", *per_channel)?;
                ("zoom", std::slice::from_ref(zoom), 0.01, 1.1)
            }
            Self::Gamma { exponent, .. } => ("exponent", std::slice::from_ref(exponent), 0.01, 100.0),
            Self::Constant { value } => ("value", std::slice::from_ref(value), -1e6, 1e6),
            Self::Erase { size } => ("size", std::slice::from_ref(size), 0.0, 1.0),
            Self::Flip { axis: 0..3, .. } => return Ok(()),
            Self::Flip { axis, .. } => {
                return refuse(format!("axis = {axis}"), "give 0, 1 or 2 for x, y or z");
            }
            Self::Mirror { .. } | Self::Mask { .. } | Self::Nonzero { .. } => return Ok(()),
        };
        magnitudes.iter().try_for_each(|magnitude| check_magnitude(field, name, *magnitude, low, high))
    }
}

impl Augmentation {
    /// Refuses probabilities and magnitudes that cannot be drawn or applied.
    pub fn check(&self) -> Result<()> {
        for (index, rule) in self.rules.iter().enumerate() {
            let field = format!("augmentation.rules[{index}]");
            check_probability(&field, "probability", rule.probability)?;
            rule.op.check(&field)?;
        }
        Ok(())
    }

    /// Draws what happens to one patch of `channels` channels.
    pub fn draw(&self, channels: usize, random: &mut ChaCha8Rng) -> Draw {
        let mut draw = Draw::identity();
        add_rules(&self.rules, &mut draw, channels, random);
        draw
    }
}

/// Appends a draw of these rules to what was drawn for a patch before.
pub fn add_rules(rules: &[Rule], draw: &mut Draw, channels: usize, random: &mut ChaCha8Rng) {
    for rule in rules {
        if random.random::<f64>() < rule.probability {
            draw.add(&rule.op, rule.sharing, channels, random);
        }
    }
}

fn check_probability(field: &str, name: &str, p: f64) -> Result<()> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    Err(Error::config(field, format!("{name} = {p}"), "give a number from 0 to 1"))
}

fn check_magnitude(field: &str, name: &str, magnitude: Magnitude, low: f64, high: f64) -> Result<()> {
    let [least, most] = magnitude.bounds();
    // A comparison with NaN is false, so NaN is refused too.
    if magnitude.is_sound() && low <= least && least <= most && most <= high {
        return Ok(());
    }
    Err(Error::config(
        field,
        format!("{name} = {magnitude:?}"),
        format!("give a range from low to high within [{low}, {high}]"),
    ))
}

/// A standard normal number from two uniform ones (Box and Muller 1958).
fn normal_number(random: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

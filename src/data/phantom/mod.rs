//! Synthetic scans with rare lesions, for studying what a network does on cases that it has not seen.
//!
//! Every case has an anatomy of its own (ellipsoidal organs, randomly turned, stretched and smoothly deformed), a
//! scanner of its own (contrast, bias field, blur, noise) and lesions whose look is drawn from a broad mixture, from
//! obvious to hardly visible, so that a few training cases do not cover it. Structures that look like lesions and
//! are none (vessels, cysts, age-related changes) keep precision below one. The foreground share is exact: lesions
//! grow until they have their number of voxels. Test cases come from a moderately different scanner and have
//! other lesions more often.
//!
//! | kind | channels | labels | the ratio counts |
//! |---|---|---|---|
//! | `brats` | FLAIR, T1ce, T1, T2, brain alone and its mask | regions of 1 edema, 2 necrosis, 3 enhancing | the tumour |
//! | `atlas` | T1, whole head, brain masks | 1 lesion | the lesion |
//! | `kits` | CT in Hounsfield units | 1 kidney, 2 tumor | the tumour |

mod abdomen;
mod atlas;
mod brats;
mod field;
mod head;
mod kits;
mod lesion;
mod scanner;
mod shape;
mod write;

use std::fmt;
use std::str::FromStr;

use ndarray::Array3;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use write::{Report, SplitReport, write};

use crate::image::volume::{Grid, Image, Labels, Volume};
use crate::{Error, Result};
use field::Domain;

/// Which public data set a phantom resembles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Gliomas in four magnetic resonance channels.
    Brats,
    /// Strokes in T1-weighted heads.
    Atlas,
    /// Kidney tumours in CT.
    Kits,
}

/// Training cases, or test cases from a shifted distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// `imagesTr`.
    Training,
    /// `imagesTs`: another scanner, other lesions more often.
    Test,
}

/// What to make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhantomOptions {
    /// Which data set to resemble.
    pub kind: Kind,
    /// Number of training cases; 0.4 times as many test cases are made.
    pub cases: usize,
    /// Voxels outside the lesions per voxel inside them, over the whole set: foreground to background is 1 to
    /// `ratio`.
    pub ratio: f64,
    /// Equal seeds (and other options) give equal bytes.
    pub seed: u64,
    /// Voxels along right, front, top.
    pub shape: [usize; 3],
    /// Voxel spacing along the same axes, millimetres.
    pub spacing: [f64; 3],
}

/// One synthetic case.
#[derive(Clone, Debug)]
pub struct PhantomCase {
    /// Name, as in the file names.
    pub id: String,
    /// Whole numbers; in the order of [`Kind::channels`].
    pub channels: Vec<Image>,
    /// Class per voxel.
    pub labels: Labels,
    /// 1 inside the brain, for kinds that have masks.
    pub mask: Option<Labels>,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Brats, Self::Atlas, Self::Kits];

    /// Names of the channels.
    pub fn channels(self) -> &'static [&'static str] {
        match self {
            Self::Brats => &brats::CHANNELS,
            Self::Atlas => &["T1"],
            Self::Kits => &["CT"],
        }
    }

    /// Names of label values 1, 2, ...
    pub fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Brats => &["edema", "necrosis", "enhancing tumor"],
            Self::Atlas => &["lesion"],
            Self::Kits => &["kidney", "tumor"],
        }
    }

    /// Whether there are masks of the brain.
    pub const fn has_masks(self) -> bool {
        matches!(self, Self::Brats | Self::Atlas)
    }

    /// The label values that count as foreground in the ratio: the rare ones.
    pub fn rare(self) -> &'static [u8] {
        match self {
            Self::Brats => &[brats::OEDEMA, brats::NECROSIS, brats::ENHANCING],
            Self::Atlas => &[1],
            Self::Kits => &[kits::TUMOUR],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Brats => "brats",
            Self::Atlas => "atlas",
            Self::Kits => "kits",
        })
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_string() == name).ok_or_else(|| {
            Error::config("kind", format!("there is no phantom `{name}`"), "use brats, atlas or kits")
        })
    }
}

impl PhantomOptions {
    /// 20 training cases of a kind at its typical ratio, small enough for training on two cores.
    pub fn new(kind: Kind) -> Self {
        let (ratio, shape, spacing) = match kind {
            Kind::Brats => (100.0, [64, 80, 64], [2.5; 3]),
            Kind::Atlas => (600.0, [64, 80, 64], [2.5; 3]),
            Kind::Kits => (600.0, [96, 72, 40], [3.5, 3.5, 5.0]),
        };
        Self { kind, cases: 20, ratio, seed: 0, shape, spacing }
    }

    /// Number of cases of a split.
    pub fn count(&self, split: Split) -> usize {
        match split {
            Split::Training => self.cases,
            Split::Test => ((self.cases as f64 * 0.4).round() as usize).max(1),
        }
    }

    /// Mean number of lesion voxels per case that gives the ratio.
    fn foreground(&self) -> f64 {
        self.shape.iter().map(|n| *n as f64).product::<f64>() / (1.0 + self.ratio)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// For the first field that cannot be used.
    pub fn validate(&self) -> Result<()> {
        let fault = |field: &str, problem: String, mend: &str| Err(Error::config(field, problem, mend));
        if !(1..=100_000).contains(&self.cases) {
            return fault("cases", format!("{} training cases", self.cases), "give 1 to 100000");
        }
        if let Some(edge) = self.shape.iter().find(|edge| !(16..=1024).contains(*edge)) {
            return fault("shape", format!("an edge of {edge} voxels"), "give edges of 16 to 1024 voxels");
        }
        if let Some(mm) = self.spacing.iter().find(|mm| !(0.1..=20.0).contains(*mm)) {
            return fault("spacing", format!("a spacing of {mm} mm"), "give 0.1 to 20 mm");
        }
        if self.ratio.is_nan() || self.ratio < 20.0 || self.foreground() < 4.0 {
            let most = self.shape.iter().product::<usize>() / 4 - 1;
            return fault(
                "ratio",
                format!("1:{} gives {:.1} lesion voxels per case", self.ratio, self.foreground()),
                &format!("give 20 to {most}, or a larger shape"),
            );
        }
        Ok(())
    }
}

/// Makes one case. It depends on the options, the split and the index alone; `index` counts from 0 and wraps
/// around at the number of cases of the split.
///
/// # Panics
/// Where the options do not pass [`PhantomOptions::validate`].
pub fn generate(options: &PhantomOptions, split: Split, index: usize) -> PhantomCase {
    assert!(options.validate().is_ok(), "phantom options were not validated");
    let index = index % options.count(split);
    let domain = Domain { shape: options.shape, spacing: options.spacing.map(|mm| mm as f32) };
    let mut streams = Streams::new(options, split, index);
    let cases = options.count(split);
    // One scan in twenty shows no lesion, but every kidney patient of KiTS has a tumour.
    let healthy = if options.kind == Kind::Kits { 0 } else { cases / 20 };
    let mut deal = generator(options, split, u64::MAX, 0);
    let voxels = lesion::budget(options.foreground(), cases, healthy, index, &mut deal);
    let make = match options.kind {
        Kind::Brats => brats::make,
        Kind::Atlas => atlas::make,
        Kind::Kits => kits::make,
    };
    let made = make(&domain, split, voxels, &mut streams);
    let mut grid = Grid::with_spacing(options.shape, options.spacing);
    for axis in 0..3 {
        grid.affine[axis][3] = -0.5 * (options.shape[axis] as f64 - 1.0) * options.spacing[axis];
    }
    PhantomCase {
        id: id(options, split, index),
        channels: made.channels.into_iter().map(|voxels| Volume::new(voxels, grid.clone())).collect(),
        labels: Volume::new(made.labels, grid.clone()),
        mask: made.mask.map(|voxels| Volume::new(voxels, grid)),
    }
}

/// `atlas_007`, `atlas_test_003`. Never four digits at the end, which would look like a channel number.
fn id(options: &PhantomOptions, split: Split, index: usize) -> String {
    let kind = options.kind;
    let width = match options.count(split) {
        ..=1000 => 3,
        _ => 6,
    };
    match split {
        Split::Training => format!("{kind}_{index:0width$}"),
        Split::Test => format!("{kind}_test_{index:0width$}"),
    }
}

/// Voxels of a case before they get a place.
struct Made {
    channels: Vec<Array3<f32>>,
    labels: Array3<u8>,
    mask: Option<Array3<u8>>,
}

/// Independent random numbers for each part of a case, so that the same patient keeps his anatomy and scanner when
/// the ratio changes.
struct Streams {
    anatomy: ChaCha8Rng,
    lesions: ChaCha8Rng,
    scanner: ChaCha8Rng,
}

impl Streams {
    fn new(options: &PhantomOptions, split: Split, index: usize) -> Self {
        let stream = |number| generator(options, split, index as u64, number);
        Self { anatomy: stream(1), lesions: stream(2), scanner: stream(3) }
    }
}

/// The generator that is keyed by (seed, kind, split, index) with a stream number.
fn generator(options: &PhantomOptions, split: Split, index: u64, stream: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&options.seed.to_le_bytes());
    key[8..16].copy_from_slice(&index.to_le_bytes());
    key[16] = options.kind as u8;
    key[17] = split as u8;
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(stream);
    rng
}

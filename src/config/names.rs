//! The methods by name, and what each name sets.

use toml::{Table, Value};

use super::method::Mode;
use super::named::{Named, named};
use crate::Result;

named! {
    /// Every method that can be asked for by name, as in the tables of Li's talk (2020).
    pub enum MethodName for "method.name" {
        /// Cross-entropy as configured, every method off.
        Ce = "ce",
        /// The same with 80 % of the patches on foreground.
        Ce80 = "ce-80",
        /// Soft Dice over the batch.
        Dice = "dice",
        /// F2.
        F2 = "f2",
        /// F4.
        F4 = "f4",
        /// F8.
        F8 = "f8",
        /// Large margin.
        Margin = "margin",
        /// Large margin for rare classes.
        AsymMargin = "asym-margin",
        /// Focal loss.
        Focal = "focal",
        /// Focal loss for all but the rare classes.
        AsymFocal = "asym-focal",
        /// Adversarial training.
        Adversarial = "adversarial",
        /// Adversarial training against rare voxels.
        AsymAdversarial = "asym-adversarial",
        /// Mixup.
        Mixup = "mixup",
        /// Mixup in which enough of a rare class is that class.
        AsymMixup = "asym-mixup",
        /// Augmentation by the class of the patch's centre.
        AsymAugmentation = "asym-augmentation",
        /// Focal loss, adversarial training and mixup, all asymmetric.
        AsymCombination = "asym-combination",
        /// Large margin for rare classes, as strong as they are learned by heart.
        AutoMargin = "auto-margin",
        /// Focal loss for all but the rare classes, likewise.
        AutoFocal = "auto-focal",
        /// Large margin, focal loss, adversarial training and mixup, all asymmetric, likewise.
        AutoCombination = "auto-combination",
        /// One of these three.
        Auto = "auto",
        /// Classical: labels of a mean template, registered to the case.
        Atlas = "atlas",
        /// Classical: several atlases, registered one by one and fused jointly.
        MultiAtlas = "multi-atlas",
        /// The same, by majority.
        MultiAtlasMajority = "multi-atlas-majority",
        /// The same, weighted by local likeness.
        MultiAtlasLocal = "multi-atlas-local",
        /// The same, by STAPLE.
        MultiAtlasStaple = "multi-atlas-staple",
        /// Classical: random forest.
        RandomForest = "random-forest",
        /// Classical: Markov random field.
        Mrf = "mrf",
        /// Classical: graph cut.
        GraphCut = "graph-cut",
        /// Classical: edge-based level set.
        LevelSet = "level-set",
        /// Classical: region-based level set.
        ChanVese = "chan-vese",
        /// Classical: deformable surface in a gradient vector flow.
        Snake = "snake",
        /// Classical: sparse representation.
        Sparse = "sparse",
    }
}

/// The mode of every part of a method.
#[derive(Clone, Copy, Default)]
struct Modes {
    margin: Mode,
    focal: Mode,
    adversarial: Mode,
    mixup: Mode,
    augmentation: Mode,
    /// Whether they follow a measured gap.
    auto: bool,
}

impl MethodName {
    /// Whether it is fitted to the training cases instead of training a network on them.
    pub fn is_classical(self) -> bool {
        matches!(
            self,
            Self::Atlas
                | Self::MultiAtlas
                | Self::MultiAtlasMajority
                | Self::MultiAtlasLocal
                | Self::MultiAtlasStaple
                | Self::RandomForest
                | Self::Mrf
                | Self::GraphCut
                | Self::LevelSet
                | Self::ChanVese
                | Self::Snake
                | Self::Sparse
        )
    }

    /// Whether it draws nothing, so that every seed gives the same.
    pub fn is_deterministic(self) -> bool {
        matches!(
            self,
            Self::Atlas
                | Self::MultiAtlas
                | Self::MultiAtlasMajority
                | Self::MultiAtlasLocal
                | Self::MultiAtlasStaple
        )
    }

    fn modes(self) -> Modes {
        use Mode::{Asymmetric, Symmetric};
        let off = Modes::default();
        match self {
            Self::Margin => Modes { margin: Symmetric, ..off },
            Self::AsymMargin => Modes { margin: Asymmetric, ..off },
            Self::Focal => Modes { focal: Symmetric, ..off },
            Self::AsymFocal => Modes { focal: Asymmetric, ..off },
            Self::Adversarial => Modes { adversarial: Symmetric, ..off },
            Self::AsymAdversarial => Modes { adversarial: Asymmetric, ..off },
            Self::Mixup => Modes { mixup: Symmetric, ..off },
            Self::AsymMixup => Modes { mixup: Asymmetric, ..off },
            Self::AsymAugmentation => Modes { augmentation: Asymmetric, ..off },
            Self::AsymCombination => {
                Modes { focal: Asymmetric, adversarial: Asymmetric, mixup: Asymmetric, ..off }
            }
            Self::AutoMargin => Modes { margin: Asymmetric, auto: true, ..off },
            Self::AutoFocal => Modes { focal: Asymmetric, auto: true, ..off },
            Self::AutoCombination => {
                Modes { margin: Asymmetric, auto: true, ..Self::AsymCombination.modes() }
            }
            Self::Auto => AUTO.modes(),
            _ => off,
        }
    }

    /// The F-beta whose loss replaces the cross-entropy.
    fn beta(self) -> Option<f64> {
        match self {
            Self::Dice => Some(1.0),
            Self::F2 => Some(2.0),
            Self::F4 => Some(4.0),
            Self::F8 => Some(8.0),
            _ => None,
        }
    }
}

/// What `auto` stands for. Which of the three it is, the tables of real scans decide.
const AUTO: MethodName = MethodName::AutoMargin;

/// Exponent of the combination's focal loss: smaller than that of focal loss alone.
const COMBINATION_GAMMA: f64 = 2.0;

/// Greatest margin of methods that follow a gap: larger than one that acts from the first step on.
const AUTO_MARGIN: f64 = 2.0;

/// Writes out what `auto` stands for, so that a run says what it was trained with.
pub(super) fn resolve_alias(table: &mut Table) {
    let name = table.get_mut("method").and_then(|method| method.get_mut("name"));
    if let Some(name) = name.filter(|name| name.as_str() == Some(MethodName::Auto.name())) {
        *name = AUTO.name().into();
    }
}

/// Puts the settings of a named method into the table of a configuration: which methods are on and, for the
/// losses without cross-entropy, the loss. Strengths (margin, gamma, ...) stay as they are, so that a preset can
/// set them for its data.
///
/// # Errors
/// Where there is no method of that name.
pub(super) fn apply(table: &mut Table, name: &str) -> Result<()> {
    let method: MethodName = name.parse()?;
    let Modes { margin, focal, adversarial, mixup, augmentation, auto } = method.modes();
    let modes = [
        ("margin", margin),
        ("focal", focal),
        ("adversarial", adversarial),
        ("mixup", mixup),
        ("augmentation", augmentation),
    ];
    for (part, mode) in modes {
        let word = match mode {
            Mode::Off => "off",
            Mode::Symmetric => "symmetric",
            Mode::Asymmetric => "asymmetric",
        };
        put(table, &["method", part, "mode"], word.into());
    }
    put(table, &["method", "auto", "on"], auto.into());
    if auto && margin != Mode::Off {
        put(table, &["method", "margin", "value"], AUTO_MARGIN.into());
    }
    if adversarial != Mode::Off && focal != Mode::Off {
        put(table, &["method", "focal", "gamma"], COMBINATION_GAMMA.into());
    }
    if let Some(beta) = method.beta() {
        put(table, &["loss", "cross_entropy"], 0.0.into());
        put(table, &["loss", "dice"], 1.0.into());
        put(table, &["loss", "dice_reduction"], "batch".into());
        put(table, &["loss", "beta"], beta.into());
    }
    if method == MethodName::Ce80 {
        put(table, &["sampling", "foreground_share"], 0.8.into());
        // A rule by chance stays; one by place in the batch has no share.
        let rule = table.get("sampling").and_then(|sampling| sampling.get("rule")).and_then(Value::as_str);
        if matches!(rule, None | Some("last-third")) {
            put(table, &["sampling", "rule"], "probability".into());
        }
    }
    put(table, &["method", "name"], name.into());
    resolve_alias(table);
    Ok(())
}

/// Sets a value in nested tables. Where a section is not a table, reading the configuration says so.
fn put(table: &mut Table, path: &[&str], value: Value) {
    let [sections @ .., key] = path else { return };
    let mut place = table;
    for section in sections {
        let entry = place.entry(*section).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = entry else { return };
        place = inner;
    }
    place.insert((*key).to_owned(), value);
}

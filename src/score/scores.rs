//! The scores of one case and region, and the list of their names.

use super::{EmptyRule, ScoreOptions};

/// How well one region of one case was segmented. `None` is undefined (see [`EmptyRule`]).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// Voxels inside both segmentations.
    pub tp: u64,
    /// Voxels inside the prediction only.
    pub fp: u64,
    /// Voxels inside the reference only.
    pub fn_: u64,
    /// Voxels that count and are inside neither.
    pub tn: u64,
    /// Voxels of the prediction, `tp + fp`.
    pub n_pred: u64,
    /// Voxels of the reference, `tp + fn`.
    pub n_ref: u64,
    /// Dice similarity coefficient, 2 tp / (2 tp + fp + fn), 0 to 1.
    pub dice: Option<f64>,
    /// Intersection over union, tp / (tp + fp + fn), 0 to 1.
    pub iou: Option<f64>,
    /// tp / (tp + fn), 0 to 1.
    pub sensitivity: Option<f64>,
    /// tp / (tp + fp), 0 to 1.
    pub precision: Option<f64>,
    /// The larger of the two directed 95th percentiles (linear between ranks) of the distance from each
    /// boundary voxel of one segmentation to the nearest of the other, in millimetres. Boundary voxels are
    /// those that erosion by the 6-neighbourhood removes; their centres are measured.
    pub hd95: Option<f64>,
    /// Whether `hd95` is the penalty for a region missed or invented altogether.
    pub hd95_penalised: bool,
    /// Normalised surface Dice: the share of both segmentations' boundary voxels within the tolerance of the
    /// other's, 0 to 1; 0 where one segmentation is empty (Nikolov et al., arXiv:1809.04430, counted in
    /// voxels).
    pub nsd: Option<f64>,
    /// Volume of the prediction less that of the reference, in millilitres.
    pub volume_error_ml: f64,
    /// The same as a share of the reference's volume; undefined, under every rule, where the reference is
    /// empty.
    pub volume_error_relative: Option<f64>,
    /// Share of the reference's lesions that the prediction finds. A lesion is a 26-connected component.
    pub lesion_sensitivity: Option<f64>,
    /// Share of the prediction's lesions that the reference confirms.
    pub lesion_precision: Option<f64>,
    /// Lesions of the reference.
    pub lesions_reference: u64,
    /// Lesions of the prediction.
    pub lesions_prediction: u64,
}

/// Names a number of [`Scores`], in the order of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented at the field of `Scores` that it names")]
pub enum Metric {
    Dice,
    Iou,
    Sensitivity,
    Precision,
    Hd95,
    Nsd,
    VolumeError,
    RelativeVolumeError,
    LesionSensitivity,
    LesionPrecision,
    LesionsPrediction,
    LesionsReference,
    Tp,
    Fp,
    Fn,
    Tn,
    NPred,
    NRef,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 18] = [
        Self::Dice,
        Self::Iou,
        Self::Sensitivity,
        Self::Precision,
        Self::Hd95,
        Self::Nsd,
        Self::VolumeError,
        Self::RelativeVolumeError,
        Self::LesionSensitivity,
        Self::LesionPrecision,
        Self::LesionsPrediction,
        Self::LesionsReference,
        Self::Tp,
        Self::Fp,
        Self::Fn,
        Self::Tn,
        Self::NPred,
        Self::NRef,
    ];

    /// The key in `summary.json`: nnU-Net's where it has one. The tolerance stands in the surface Dice's.
    pub fn key(self, options: &ScoreOptions) -> String {
        let key = match self {
            Self::Dice => "Dice",
            Self::Iou => "IoU",
            Self::Sensitivity => "Sensitivity",
            Self::Precision => "Precision",
            Self::Hd95 => "HD95",
            Self::Nsd => return format!("NSD@{}mm", options.tolerance_millimetres),
            Self::VolumeError => "VolumeError_ml",
            Self::RelativeVolumeError => "VolumeError_relative",
            Self::LesionSensitivity => "LesionSensitivity",
            Self::LesionPrecision => "LesionPrecision",
            Self::LesionsPrediction => "n_lesions_pred",
            Self::LesionsReference => "n_lesions_ref",
            Self::Tp => "TP",
            Self::Fp => "FP",
            Self::Fn => "FN",
            Self::Tn => "TN",
            Self::NPred => "n_pred",
            Self::NRef => "n_ref",
        };
        key.to_owned()
    }

    /// Whether it counts voxels or lesions: always defined, a whole number per case.
    pub fn is_count(self) -> bool {
        use Metric::{Fn, Fp, LesionsPrediction, LesionsReference, NPred, NRef, Tn, Tp};
        matches!(self, LesionsPrediction | LesionsReference | Tp | Fp | Fn | Tn | NPred | NRef)
    }

    /// How bad a value is, the larger the worse; for finding the worst case. `None` for counts.
    pub(super) fn badness(self, value: f64) -> Option<f64> {
        match self {
            Self::Hd95 => Some(value),
            Self::VolumeError | Self::RelativeVolumeError => Some(value.abs()),
            count if count.is_count() => None,
            _ => Some(-value),
        }
    }
}

impl Scores {
    /// The number that `metric` names.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Dice => self.dice,
            Metric::Iou => self.iou,
            Metric::Sensitivity => self.sensitivity,
            Metric::Precision => self.precision,
            Metric::Hd95 => self.hd95,
            Metric::Nsd => self.nsd,
            Metric::VolumeError => Some(self.volume_error_ml),
            Metric::RelativeVolumeError => self.volume_error_relative,
            Metric::LesionSensitivity => self.lesion_sensitivity,
            Metric::LesionPrecision => self.lesion_precision,
            Metric::LesionsPrediction => Some(self.lesions_prediction as f64),
            Metric::LesionsReference => Some(self.lesions_reference as f64),
            Metric::Tp => Some(self.tp as f64),
            Metric::Fp => Some(self.fp as f64),
            Metric::Fn => Some(self.fn_ as f64),
            Metric::Tn => Some(self.tn as f64),
            Metric::NPred => Some(self.n_pred as f64),
            Metric::NRef => Some(self.n_ref as f64),
        }
    }

    /// Whether `metric` is undefined by its formula, whatever the [`EmptyRule`] made of it.
    pub fn undefined(&self, metric: Metric) -> bool {
        let by_formula = match metric {
            Metric::Dice | Metric::Iou | Metric::Hd95 | Metric::Nsd => self.n_pred == 0 && self.n_ref == 0,
            Metric::Sensitivity | Metric::LesionSensitivity | Metric::RelativeVolumeError => self.n_ref == 0,
            Metric::Precision | Metric::LesionPrecision => self.n_pred == 0,
            _ => false,
        };
        by_formula || self.get(metric).is_none()
    }

    /// Overlap scores from the four counts; everything else is left empty.
    pub(super) fn of_counts(tp: u64, fp: u64, fn_: u64, tn: u64, rule: EmptyRule) -> Self {
        let (n_pred, n_ref) = (tp + fp, tp + fn_);
        let share = |part, whole| share(part, whole, n_pred + n_ref == 0, rule);
        Self {
            tp,
            fp,
            fn_,
            tn,
            n_pred,
            n_ref,
            dice: share(2 * tp, 2 * tp + fp + fn_),
            iou: share(tp, tp + fp + fn_),
            sensitivity: share(tp, n_ref),
            precision: share(tp, n_pred),
            ..Self::default()
        }
    }
}

/// `part / whole`, or what the rule says where there is no whole. `both_empty`: neither segmentation has a
/// voxel.
pub(super) fn share(part: u64, whole: u64, both_empty: bool, rule: EmptyRule) -> Option<f64> {
    if whole > 0 {
        return Some(part as f64 / whole as f64);
    }
    match rule {
        EmptyRule::Skip => None,
        EmptyRule::One if both_empty => Some(1.0),
        EmptyRule::One | EmptyRule::Zero => Some(0.0),
    }
}

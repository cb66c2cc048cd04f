//! Cross-entropy plus soft Dice or F-beta, from sums per sample.
//!
//! The network's pass gives, for every sample b, the sum of its voxels' cross-entropy and per class c the soft
//! counts TP = sum q y, FP = sum q (1 - y), FN = sum (1 - q) y over its valid voxels, and FN' = sum (1 - q) y a,
//! in which the focal attenuation a counts a missed voxel less (a = 1 without it, so FN' = FN). Everything after
//! that is a function of a few numbers; it is computed here in `f64`, with its exact gradient with respect to the
//! sums:
//!
//! ```text
//! CE_b = cross-entropy sum / voxels
//! e_c  = (FP + b^2 FN') / ((1 + b^2) TP + FP + b^2 FN + s),  s = 1e-5
//! L_b  = w_ce CE_b + w_dice mean over present foreground classes of e_c
//! L    = mean over samples
//! ```
//!
//! For b = 1 and without attenuation e is 1 - soft Dice; for other b it is 1 - F_b (Hashemi et al. 2018), which
//! weighs a missed voxel b^2 times a false one. A class is present where the labels contain it: in the sample for
//! [`DiceReduction::Sample`], in the batch, with sums taken over the batch, for [`DiceReduction::Batch`]. Absent
//! classes leave the mean (their false positives are punished by the cross-entropy); without any present class
//! the Dice term is 0. [`DiceMean`] and [`AbsentClasses`] name the conventions of published code instead.
//! See Li et al. 2020; Isensee et al. 2021.

use segen_kernels::VoxelLoss;

use crate::config::published::{AbsentClasses, DiceMean};
use crate::config::{ClassWeights, Conventions, DiceReduction, WeightRule};

/// Keeps the Dice quotient defined.
pub const DICE_SMOOTH: f64 = 1e-5;

/// What to minimise.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// Weight of the cross-entropy.
    pub cross_entropy: f64,
    /// Weight of the Dice or F-beta term.
    pub dice: f64,
    /// How much more a missed voxel weighs than a false one, squared; 1 is Dice.
    pub beta: f64,
    /// What the Dice sums run over.
    pub reduction: DiceReduction,
    /// Over which classes the Dice term is averaged.
    pub mean: DiceMean,
    /// What becomes of classes that the labels do not contain.
    pub absent: AbsentClasses,
    /// Factors of the cross-entropy per class.
    pub weights: ClassWeights,
    /// First and last step between which the factors go linearly to 1; `None` keeps them.
    pub relax: Option<[u64; 2]>,
    /// Margin, focal attenuation and epsilon of the voxels' loss; its weights come from `weights`.
    pub voxel: VoxelLoss,
}

impl Default for Loss {
    fn default() -> Self {
        Self {
            cross_entropy: 1.0,
            dice: 1.0,
            beta: 1.0,
            reduction: DiceReduction::Sample,
            mean: Conventions::OWN.dice_mean,
            absent: Conventions::OWN.dice_absent,
            weights: ClassWeights::default(),
            relax: None,
            voxel: VoxelLoss::default(),
        }
    }
}

/// The value of a loss on one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossValue {
    /// What is minimised.
    pub total: f64,
    /// Its cross-entropy part, unweighted, mean over samples.
    pub cross_entropy: f64,
    /// Its Dice part, unweighted: 1 - soft Dice (or F-beta).
    pub dice: f64,
    /// One value per sample; their mean is `total`.
    pub per_sample: Vec<f64>,
}

/// Columns of one sample's sums for `classes` classes: cross-entropy, TP per class, FP per class, FN per class,
/// voxels, attenuated FN per class.
pub const fn columns(classes: usize) -> usize {
    2 + 4 * classes
}

impl Loss {
    /// How voxels are weighed at a step, in a batch that holds `voxels` of each class.
    pub fn voxel_loss(&self, step: u64, voxels: &[f64]) -> VoxelLoss {
        let start: Vec<f64> = match &self.weights {
            ClassWeights::Rule(WeightRule::Equal) => return self.voxel.clone(),
            ClassWeights::Rule(WeightRule::Frequency) => {
                let share = voxels.iter().sum::<f64>() / voxels.len() as f64;
                voxels.iter().map(|n| share / (n + 1e-6)).collect()
            }
            ClassWeights::Given(weights) => weights.clone(),
        };
        let relaxed = self.relax.map_or(0.0, |[first, last]| {
            let length = last.saturating_sub(first).max(1) as f64;
            (step.saturating_sub(first) as f64 / length).min(1.0)
        });
        let weight = start.iter().map(|w| (w + (1.0 - w) * relaxed) as f32).collect();
        VoxelLoss { weight, ..self.voxel.clone() }
    }

    /// Value and gradient with respect to `sums` ((batch, [`columns`]), row-major).
    pub fn evaluate(&self, sums: &[f64], classes: usize) -> (LossValue, Vec<f64>) {
        let width = columns(classes);
        assert!(
            classes >= 1 && !sums.is_empty() && sums.len().is_multiple_of(width),
            "sums are (batch, 2 + 4 classes)"
        );
        let batch = sums.len() / width;
        let mut value = LossValue { per_sample: vec![0.0; batch], ..LossValue::default() };
        let mut gradient = vec![0.0; sums.len()];
        let share = 1.0 / batch as f64;
        for (b, row) in sums.chunks_exact(width).enumerate() {
            let voxels = row[1 + 3 * classes];
            if voxels > 0.0 {
                let mean = row[0] / voxels;
                value.cross_entropy += share * mean;
                value.per_sample[b] += self.cross_entropy * mean;
                gradient[b * width] = self.cross_entropy * share / voxels;
            }
        }
        match self.reduction {
            DiceReduction::Sample => {
                for b in 0..batch {
                    let cells = b * width..(b + 1) * width;
                    let (loss, slope) = self.overlap(&sums[cells.clone()], classes);
                    value.dice += share * loss;
                    value.per_sample[b] += self.dice * loss;
                    for (g, s) in gradient[cells].iter_mut().zip(slope) {
                        *g += self.dice * share * s;
                    }
                }
            }
            DiceReduction::Batch => {
                let mut joined = vec![0.0; width];
                for row in sums.chunks_exact(width) {
                    joined.iter_mut().zip(row).for_each(|(j, r)| *j += r);
                }
                let (loss, slope) = self.overlap(&joined, classes);
                value.dice = loss;
                for (b, cells) in gradient.chunks_exact_mut(width).enumerate() {
                    value.per_sample[b] += self.dice * loss;
                    cells.iter_mut().zip(&slope).for_each(|(g, s)| *g += self.dice * s);
                }
            }
        }
        value.total = value.per_sample.iter().sum::<f64>() * share;
        (value, gradient)
    }

    /// The mean of e over classes, and its derivative with respect to every column.
    fn overlap(&self, row: &[f64], classes: usize) -> (f64, Vec<f64>) {
        let mut slope = vec![0.0; row.len()];
        let cells =
            |class: usize| [1 + class, 1 + classes + class, 1 + 2 * classes + class, 2 + 3 * classes + class];
        let first = match self.mean {
            DiceMean::Foreground => 1,
            DiceMean::AllClasses => 0,
        };
        let counted: Vec<usize> = (first..classes)
            .filter(|&class| {
                let [tp, _, fn_, _] = cells(class);
                // TP + FN is the amount of the class in the labels; both are exactly 0 where there is none.
                self.absent != AbsentClasses::Leave || row[tp] + row[fn_] > 0.0
            })
            .collect();
        if counted.is_empty() {
            return (0.0, slope);
        }
        let share = 1.0 / counted.len() as f64;
        let missed = self.beta * self.beta;
        let constant = if self.absent == AbsentClasses::Constant { DICE_SMOOTH } else { 0.0 };
        let mut loss = 0.0;
        for class in counted {
            let [tp, fp, fn_, attenuated] = cells(class);
            let above = row[fp] + missed * row[attenuated] + constant;
            let below = (1.0 + missed) * row[tp] + row[fp] + missed * row[fn_] + DICE_SMOOTH;
            loss += share * above / below;
            slope[tp] = -share * above * (1.0 + missed) / (below * below);
            slope[fp] = share * (below - above) / (below * below);
            slope[fn_] = -share * above * missed / (below * below);
            slope[attenuated] = share * missed / below;
        }
        (loss, slope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    const REDUCTIONS: [DiceReduction; 2] = [DiceReduction::Sample, DiceReduction::Batch];

    fn random_sums(batch: usize, classes: usize, seed: u64) -> Vec<f64> {
        let mut rng = crate::rng::generator(seed, &["sums"]);
        let mut sums = Vec::new();
        for _ in 0..batch {
            sums.extend((0..1 + 3 * classes).map(|_| rng.random_range(1.0..50.0)));
            sums.push(200.0);
            sums.extend((0..classes).map(|_| rng.random_range(1.0..20.0)));
        }
        sums
    }

    #[test]
    fn gradients_agree_with_central_differences() {
        for classes in [2, 3, 5] {
            for reduction in REDUCTIONS {
                let beta = f64::from(classes as u8) / 2.0;
                let loss = Loss { cross_entropy: 0.7, dice: 1.3, beta, reduction, ..Loss::default() };
                let mut sums = random_sums(3, classes, classes as u64);
                // One class is absent from the labels of sample 1 (and predicted there).
                let width = columns(classes);
                sums[width + 1 + classes - 1] = 0.0;
                sums[width + 3 * classes] = 0.0;
                sums[2 * width - 1] = 0.0;
                let (_, gradient) = loss.evaluate(&sums, classes);
                for i in 0..sums.len() {
                    let column = i % width;
                    if column == 1 + 3 * classes || sums[i] == 0.0 {
                        continue; // the number of voxels is not a variable; at 0 a class comes and goes
                    }
                    let at = |h: f64| {
                        let mut moved = sums.clone();
                        moved[i] += h;
                        loss.evaluate(&moved, classes).0.total
                    };
                    let numeric = (at(1e-4) - at(-1e-4)) / 2e-4;
                    assert!(
                        (numeric - gradient[i]).abs() < 1e-8,
                        "{reduction:?} {classes} {i}: {numeric} {}",
                        gradient[i]
                    );
                }
            }
        }
    }

    #[test]
    fn the_worked_example_of_soft_dice() {
        // p = (.9, .2, .6, .1), y = (1, 0, 1, 0): TP 1.5, FP .3, FN .5 and Dice 0.789474.
        let row = [0.0, 1.7, 1.5, 0.5, 0.3, 0.3, 0.5, 4.0, 0.3, 0.5];
        for reduction in REDUCTIONS {
            let dice = Loss { cross_entropy: 0.0, reduction, ..Loss::default() };
            let value = |loss: Loss| loss.evaluate(&row, 2).0.total;
            for (beta, expected) in [(1.0, 0.789_474), (2.0, 0.765_306), (4.0, 0.754_438), (8.0, 0.751_156)] {
                let found = 1.0 - value(Loss { beta, ..dice.clone() });
                assert!((found - expected).abs() < 1e-6, "F{beta}: {found}");
            }
            // The two published forms: with a constant in the numerator, and with the background.
            let published = value(Loss { absent: AbsentClasses::Constant, ..dice.clone() });
            assert!((published - 0.210_528).abs() < 1e-6, "{published}");
            let all = Loss { mean: DiceMean::AllClasses, absent: AbsentClasses::Stay, ..dice };
            assert!((value(all) - 0.200_501).abs() < 1e-6);
        }
    }

    #[test]
    fn absent_classes_and_ignored_samples_leave_the_mean() {
        // Class 2 is absent; class 1 is perfect. Second sample: every voxel ignored.
        let mut sums = vec![8.0, 3.0, 4.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 16.0, 0.0, 0.0, 0.0];
        sums.extend([0.0; 14]);
        let (value, gradient) = Loss::default().evaluate(&sums, 3);
        assert!((value.total - 0.25).abs() < 1e-9, "{}", value.total);
        assert!(gradient.iter().all(|g| g.is_finite()));
        assert_eq!(gradient[14..], [0.0; 14]);
        // The published form adds 1 for an absent class and nothing else.
        let constant = Loss { cross_entropy: 0.0, absent: AbsentClasses::Constant, ..Loss::default() };
        let (value, gradient) = constant.evaluate(&[0.0, 9.0, 0.0, 0.0, 0.5, 1.0, 0.0, 10.0, 1.0, 0.0], 2);
        assert!((value.total - 1.0).abs() < 1e-12);
        assert_eq!(gradient[4], 0.0);
    }

    #[test]
    fn class_weights_follow_their_rule_and_relax_to_one() {
        let mut loss = Loss::default();
        assert!(loss.voxel_loss(0, &[3.0, 1.0]).weight.is_empty());
        loss.weights = ClassWeights::Rule(WeightRule::Frequency);
        let weight = loss.voxel_loss(0, &[30.0, 10.0]).weight;
        assert!((weight[0] - 20.0 / 30.0).abs() < 1e-6 && (weight[1] - 2.0).abs() < 1e-5, "{weight:?}");
        loss.weights = ClassWeights::Given(vec![1.0, 5.0]);
        loss.relax = Some([100, 200]);
        let at = |step| loss.voxel_loss(step, &[1.0, 1.0]).weight[1];
        assert_eq!([at(0), at(100), at(150), at(200), at(1000)], [5.0, 5.0, 3.0, 1.0, 1.0]);
    }
}

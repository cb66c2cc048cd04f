//! Cross-entropy plus soft Dice, from sums per sample.
//!
//! The network's pass gives, for every sample b, the sum of its voxels' cross-entropy and per class c the soft
//! counts TP = sum p y, FP = sum p (1 - y), FN = sum (1 - p) y over its valid voxels. Everything after that is a
//! function of a few numbers; it is computed here in `f64`, with its exact gradient with respect to the sums:
//!
//! ```text
//! CE_b   = cross-entropy sum / valid voxels
//! d      = (2 TP + s) / (2 TP + FP + FN + s),  s = 1e-5
//! L_b    = w_ce CE_b + w_dice (1 - mean over present foreground classes of d)
//! L      = mean over b
//! ```
//!
//! A class is present where the labels contain it: in the sample for [`DiceReduction::Sample`], in the batch,
//! with sums taken over the batch, for [`DiceReduction::Batch`]. Absent classes leave the mean (their false
//! positives are punished by the cross-entropy); without any present class the Dice term is 0. See
//! methods 1.2 and 1.4 (Li et al. 2020; Isensee et al. 2021).

use crate::plan::DiceReduction;

/// Keeps the Dice quotient defined.
pub const DICE_SMOOTH: f64 = 1e-5;

/// What to minimise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Weight of the cross-entropy.
    pub cross_entropy: f64,
    /// Weight of the Dice term.
    pub dice: f64,
    /// What the Dice sums run over.
    pub reduction: DiceReduction,
}

/// The value of a loss on one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossValue {
    /// What is minimised.
    pub total: f64,
    /// Its cross-entropy part, unweighted, mean over samples.
    pub cross_entropy: f64,
    /// Its Dice part, unweighted: 1 - soft Dice.
    pub dice: f64,
    /// One value per sample; their mean is `total`.
    pub per_sample: Vec<f64>,
}

/// Columns of one sample's sums for `classes` classes: cross-entropy, TP per class, FP per class, FN per class,
/// valid voxels.
pub const fn columns(classes: usize) -> usize {
    2 + 3 * classes
}

impl Loss {
    /// Value and gradient with respect to `sums` ((batch, [`columns`]), row-major).
    pub fn evaluate(&self, sums: &[f64], classes: usize) -> (LossValue, Vec<f64>) {
        let width = columns(classes);
        assert!(
            classes >= 1 && !sums.is_empty() && sums.len().is_multiple_of(width),
            "sums are (batch, 2 + 3 classes)"
        );
        let batch = sums.len() / width;
        let mut value = LossValue { per_sample: vec![0.0; batch], ..LossValue::default() };
        let mut gradient = vec![0.0; sums.len()];
        let share = 1.0 / batch as f64;
        for (b, row) in sums.chunks_exact(width).enumerate() {
            let valid = row[width - 1];
            if valid > 0.0 {
                let mean = row[0] / valid;
                value.cross_entropy += share * mean;
                value.per_sample[b] += self.cross_entropy * mean;
                gradient[b * width] = self.cross_entropy * share / valid;
            }
        }
        match self.reduction {
            DiceReduction::Sample => {
                for b in 0..batch {
                    let cells = b * width..(b + 1) * width;
                    let (loss, slope) = dice(&sums[cells.clone()], classes);
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
                let (loss, slope) = dice(&joined, classes);
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
}

/// 1 - mean soft Dice of the present foreground classes, and its derivative with respect to every column.
fn dice(row: &[f64], classes: usize) -> (f64, Vec<f64>) {
    let mut slope = vec![0.0; row.len()];
    let cells = |class: usize| (1 + class, 1 + classes + class, 1 + 2 * classes + class);
    // TP + FN is the number of voxels of the class, up to rounding.
    let present: Vec<usize> = (1..classes).filter(|&c| row[cells(c).0] + row[cells(c).2] > 0.5).collect();
    if present.is_empty() {
        return (0.0, slope);
    }
    let share = 1.0 / present.len() as f64;
    let mut loss = 1.0;
    for class in present {
        let (tp, fp, fn_) = cells(class);
        let above = 2.0 * row[tp] + DICE_SMOOTH;
        let below = 2.0 * row[tp] + row[fp] + row[fn_] + DICE_SMOOTH;
        loss -= share * above / below;
        slope[tp] = -share * 2.0 * (below - above) / (below * below);
        slope[fp] = share * above / (below * below);
        slope[fn_] = slope[fp];
    }
    (loss, slope)
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
        }
        sums
    }

    #[test]
    fn gradients_agree_with_central_differences() {
        for classes in [2, 3, 5] {
            for reduction in REDUCTIONS {
                let loss = Loss { cross_entropy: 0.7, dice: 1.3, reduction };
                let mut sums = random_sums(3, classes, classes as u64);
                // One class is absent from the labels of sample 1 (and predicted there).
                let width = columns(classes);
                sums[width + 1 + classes - 1] = 0.0;
                sums[width + 3 * classes] = 0.0;
                let (_, gradient) = loss.evaluate(&sums, classes);
                for i in 0..sums.len() {
                    if i % width == width - 1 {
                        continue; // the number of voxels is not a variable
                    }
                    let at = |h: f64| {
                        let mut moved = sums.clone();
                        moved[i] += h;
                        loss.evaluate(&moved, classes).0.total
                    };
                    // Where a column stands at 0, step to one side only: below 0 the class would be absent.
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
        let row = [0.0, 0.0, 1.5, 0.0, 0.3, 0.0, 0.5, 4.0];
        for reduction in REDUCTIONS {
            let (value, _) = Loss { cross_entropy: 0.0, dice: 1.0, reduction }.evaluate(&row, 2);
            assert!((value.total - (1.0 - 0.789_474)).abs() < 1e-6, "{}", value.total);
        }
    }

    #[test]
    fn absent_classes_and_ignored_samples_leave_the_mean() {
        let loss = Loss { cross_entropy: 1.0, dice: 1.0, reduction: DiceReduction::Sample };
        // Class 2 is absent; class 1 is perfect. Second sample: every voxel ignored.
        let sums = [
            8.0, 3.0, 4.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 16.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
            0.0, 0.0, 0.0,
        ];
        let (value, gradient) = loss.evaluate(&sums, 3);
        assert!((value.total - 0.25).abs() < 1e-9, "{}", value.total);
        assert!(gradient.iter().all(|g| g.is_finite()));
        assert_eq!(gradient[11..], [0.0; 11]);
    }
}

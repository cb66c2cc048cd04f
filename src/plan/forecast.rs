//! What a whole training will take: hours and disk.

use super::Plan;
use crate::Result;
use crate::config::method::Mode;
use crate::config::policy::Comparison;
use crate::config::published::Difference;
use crate::config::{Config, Length};

/// Part of a step's operations that a pass without gradients has: forward, and not towards inputs and weights.
const FORWARD_SHARE: f64 = 1.0 / 3.0;
/// That of a backward pass towards inputs alone, not towards weights.
const INPUT_SHARE: f64 = 1.0 / 3.0;
/// Numbers kept for every weight in a checkpoint: itself and up to two of the optimiser.
const NUMBERS: u64 = 3;
/// Checkpoints that a run keeps: the newest, the one before it, the best.
const CHECKPOINTS: u64 = 3;
/// Voxels of a compressed label map that fit into a byte: about.
const VOXELS_PER_BYTE: u64 = 10;

/// How many cases a training uses, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaseCounts {
    /// All that are prepared: trained on, held out, set aside.
    pub prepared: usize,
    /// Held out: some are predicted after every epoch, all at the end.
    pub validation: usize,
    /// Labelled test cases, predicted at the end.
    pub test: usize,
}

/// What a training will take, by its plan, its method and its policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Optimiser steps.
    pub steps: u64,
    /// Seconds of one, with everything that method and policy add to it.
    pub step_seconds: f64,
    /// That as a multiple of a plain step; the most it can be where a method acts as strongly as it must.
    pub work: f64,
    /// Whether `work` is the most that it can be.
    pub at_most: bool,
    /// Seconds until the last step, the validation after every epoch included.
    pub training_seconds: f64,
    /// Seconds of the predictions at the end.
    pub scoring_seconds: f64,
    /// Bytes of the prepared samples.
    pub cache_bytes: u64,
    /// Bytes of the run's checkpoints.
    pub checkpoint_bytes: u64,
    /// Bytes of the label maps of validation and test cases.
    pub prediction_bytes: u64,
}

impl Plan {
    /// The work of a training step, as a multiple of a plain one: the passes of the method, and what a policy that learns
    /// does at some steps, on the mean. Methods that follow a gap are counted with all of their passes.
    pub fn work_of_step(&self, config: &Config) -> f64 {
        let on = |mode: Mode, work: f64| if mode == Mode::Off { 0.0 } else { work };
        let method = &config.method;
        // The direction of a perturbation takes a pass that leaves the weights alone.
        let adversarial = on(method.adversarial.mode, FORWARD_SHARE + INPUT_SHARE + 1.0);
        let learned = if config.policy.learns() { self.work_of_learning(config) } else { 0.0 };
        1.0 + adversarial + on(method.mixup.mode, 1.0) + learned
    }

    /// That of a policy that learns: at each update a step on its own batch, and the losses of patches at two places.
    fn work_of_learning(&self, config: &Config) -> f64 {
        let (learning, conventions) = (&config.policy.learning, config.conventions());
        let share = |patches: usize| match patches {
            0 => self.batch.div_ceil(2) as f64 / self.batch as f64,
            patches => patches as f64 / self.batch as f64,
        };
        let forwards = match (learning.comparison(&conventions), conventions.difference) {
            (Comparison::LeaveOneOut, _) => 2.0 * learning.draws as f64 * share(learning.patches),
            // The losses of the training batch are known at one of them.
            (Comparison::Batch, Difference::OneSided) => 1.0,
            (Comparison::Batch, Difference::Central) => 2.0,
        };
        let update = share(learning.validation_batch) + FORWARD_SHARE * forwards;
        (1.0 - learning.warm_up) * update / learning.every(&conventions) as f64
    }

    /// What a training of this configuration will take where a plain step takes `plain_seconds`.
    ///
    /// # Errors
    /// Where the network cannot take the plan's patch.
    pub fn forecast(&self, config: &Config, cases: CaseCounts, plain_seconds: f64) -> Result<Forecast> {
        let work = self.work_of_step(config);
        let step_seconds = work * plain_seconds;
        let steps = config.schedule.expected_steps(|| step_seconds);
        let case_seconds = self.windows(config.validation.step)? * self.window_seconds(plain_seconds);
        let epochs = steps as f64 / config.schedule.steps_per_epoch as f64;
        let watched = config.validation.cases_per_epoch.min(cases.validation);
        let training = steps as f64 * step_seconds + epochs * watched as f64 * case_seconds;
        let scored = cases.validation + cases.test + config.validation.train_cases.min(cases.prepared);
        let shapes = &self.fingerprint.shapes;
        let largest = shapes.iter().map(|shape| shape.iter().map(|&edge| edge as u64).product()).max();
        Ok(Forecast {
            steps,
            step_seconds,
            work,
            at_most: config.method.auto.on,
            training_seconds: match config.schedule.length {
                Length::Seconds(budget) => budget,
                Length::Steps(_) | Length::Epochs(_) => training,
            },
            scoring_seconds: scored as f64 * case_seconds,
            cache_bytes: self.prepared_bytes() * cases.prepared as u64 / shapes.len().max(1) as u64,
            checkpoint_bytes: CHECKPOINTS * NUMBERS * 4 * self.parameters() as u64,
            prediction_bytes: scored as u64 * largest.unwrap_or(0) / VOXELS_PER_BYTE,
        })
    }

    /// Windows of a prediction with this step, mean over the cases.
    fn windows(&self, step: f64) -> Result<f64> {
        let field = self.shape.kind().field(self.inference_segment())?;
        let step = if field.is_same() { step } else { 1.0 };
        let cases = self.fingerprint.shapes.iter().zip(&self.fingerprint.spacings);
        let windows = cases.map(|(shape, spacing)| {
            let along = |axis: usize| {
                let length = shape[axis] as f64 * spacing[axis] / self.spacing[axis];
                let window = field.output[axis] as f64;
                ((length - window).max(0.0) / (window * step)).ceil() + 1.0
            };
            (0..3).map(along).product::<f64>()
        });
        Ok(windows.sum::<f64>() / self.fingerprint.shapes.len().max(1) as f64)
    }

    /// Seconds of a window in prediction.
    fn window_seconds(&self, step_seconds: f64) -> f64 {
        let flops = |segment| self.shape.kind().step_flops(segment, self.channels, self.classes);
        let patches = flops(self.inference_segment()) / flops(self.patch).max(1.0);
        step_seconds * FORWARD_SHARE * patches / self.batch as f64
    }
}

impl Forecast {
    /// Bytes that the run folder will take.
    pub fn run_bytes(&self) -> u64 {
        self.checkpoint_bytes + self.prediction_bytes
    }

    /// The forecast in one sentence.
    pub fn sentence(&self) -> String {
        let work = match (self.work > 1.0, self.at_most) {
            (false, _) => String::new(),
            (true, false) => format!(" ({:.2} times a plain one, by method and policy)", self.work),
            (true, true) => {
                format!(" (at most {:.2} times a plain one, by the strength of the method)", self.work)
            }
        };
        format!(
            "forecast: {} steps of about {:.2} s{work}, {} with the validation between them, then {} of predictions; disk: {} \
             of prepared samples, {} of checkpoints, {} of label maps",
            self.steps,
            self.step_seconds,
            time(self.training_seconds),
            time(self.scoring_seconds),
            size(self.cache_bytes),
            size(self.checkpoint_bytes),
            size(self.prediction_bytes)
        )
    }
}

/// A time for a person.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86400.0),
    }
}

/// Bytes for a person.
pub(crate) fn size(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1e9 => format!("{:.0} MB", (b / 1e6).ceil()),
        b => format!("{:.1} GB", b / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_told_in_units_that_fit() {
        assert_eq!([30.0, 600.0, 9000.0, 864_000.0].map(time), ["30 s", "10 min", "2.5 h", "10.0 days"]);
        assert_eq!([1, 25_000_000, 2_500_000_000].map(size), ["1 MB", "25 MB", "2.5 GB"]);
    }
}

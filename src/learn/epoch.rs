//! The end of an epoch: validation, its record, and what the screen is told.

use std::time::{Duration, Instant};

use serde_json::json;

use super::checkpoint::Checkpoint;
use super::iteration::Passed;
use super::monitor::ShiftMonitor;
use super::train::{Job, seconds};
use super::watch::{ShiftWatch, WatchOptions};
use crate::Result;
use crate::config::Named;
use crate::network::{Network, Weights};
use crate::predict::windows::{Predictor, WindowOptions};
use crate::prepare::{IGNORE, PreparedCase};
use crate::progress::Progress;
use crate::run::Events;

/// Sums over the current epoch that only the screen needs.
#[derive(Default)]
pub(super) struct Clock {
    pub(super) wait: Duration,
    forward: Duration,
    backward: Duration,
    update: Duration,
    steps: u32,
}

impl Clock {
    pub(super) fn add(&mut self, wait: Duration, passed: &Passed, teaching: Duration) {
        self.wait += wait;
        self.forward += passed.forward;
        self.backward += passed.backward;
        self.update += passed.update + teaching;
        self.steps += 1;
    }

    fn total(&self) -> Duration {
        self.wait + self.forward + self.backward + self.update
    }

    pub(super) fn share(&self, part: Duration) -> f64 {
        seconds(part) / seconds(self.total()).max(1e-9)
    }

    pub(super) fn describe(&self) -> String {
        let step = 1e3 * seconds(self.total()) / f64::from(self.steps.max(1));
        let percent = |part| 100.0 * self.share(part);
        let mut text = format!(
            "{step:.0} ms a step (forward {:.0} %, backward {:.0} %, update {:.0} %, waiting on data {:.0} %)",
            percent(self.forward),
            percent(self.backward),
            percent(self.update),
            percent(self.wait)
        );
        if self.share(self.wait) > 0.2 {
            text.push_str("; raise `loader.threads`");
        }
        text
    }
}

impl<'a> Job<'a> {
    /// What measures the shift of the logits, and a monitor that knows the epochs of earlier sessions.
    pub(super) fn shift_watch(&self, network: &Network) -> Result<Option<(ShiftWatch, ShiftMonitor)>> {
        let options = WatchOptions {
            windows: self.config.validation.logit_windows,
            patches_per_epoch: self.config.schedule.steps_per_epoch * self.plan.batch as u64,
            seed: self.config.seed,
        };
        let watch = ShiftWatch::choose(self.plan, network, self.train, self.validation, &options)?;
        let Some(watch) = watch else { return Ok(None) };
        let mut monitor =
            ShiftMonitor::new(self.classes, &self.method.rare, self.method.config.name.map(Named::name));
        for event in crate::run::read_events(&self.run.path("events.jsonl"))? {
            if event["event"] == "logits"
                && let Ok(measured) = serde_json::from_value(event)
            {
                monitor.observe(&measured);
            }
        }
        Ok(Some((watch, monitor)))
    }

    /// Validates, records the epoch, draws the curves. Returns whether this is the best epoch so far.
    pub(super) fn end_epoch(
        &self,
        network: &Network,
        state: &mut Checkpoint,
        steps: u64,
        clock: &Clock,
        events: &mut Events,
        progress: &dyn Progress,
    ) -> Result<bool> {
        let mut total = vec![[0u64; 3]; self.plan.classes];
        let timer = Instant::now();
        for case in self.epoch_cases() {
            for (sum, counts) in total.iter_mut().zip(self.confusion(network, &state.weights, case)?) {
                (0..3).for_each(|i| sum[i] += counts[i]);
            }
        }
        let ratio = |above: u64, below: u64| (below > 0).then(|| above as f64 / below as f64);
        let scores = |score: fn([u64; 3]) -> (u64, u64)| -> Vec<Option<f64>> {
            total[1..].iter().map(|&counts| score(counts)).map(|(above, below)| ratio(above, below)).collect()
        };
        let dice = scores(|[tp, fp, fn_]| (2 * tp, 2 * tp + fp + fn_));
        let defined: Vec<f64> = dice.iter().flatten().copied().collect();
        let score = (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64);
        let history = &mut state.history;
        let loss = history.epoch_loss_sum / steps.max(1) as f64;
        history.epoch_loss_sum = 0.0;
        let better = score.is_some() && score > history.best_score;
        if better {
            history.best_score = score;
            history.epochs_without_better = 0;
        } else {
            history.epochs_without_better += 1;
        }
        let epoch = (state.step - 1) / self.config.schedule.steps_per_epoch;
        let sensitivity = scores(|[tp, _, fn_]| (tp, tp + fn_));
        let precision = scores(|[tp, fp, _]| (tp, tp + fp));
        events.record(&json!({
            "event": "epoch", "step": state.step - 1, "epoch": epoch, "train_loss": loss,
            "validation": {
                "mean_dice": score, "dice": dice, "sensitivity": sensitivity, "precision": precision,
                "cases": self.epoch_cases().iter().map(|c| c.id.clone()).collect::<Vec<_>>(),
                "seconds": seconds(timer.elapsed()),
            },
            "seen": {
                "patches_per_centre_class": history.patches_per_centre_class,
                "voxels_per_class": history.voxels_per_class,
            },
            "share_waiting_on_data": clock.share(clock.wait),
        }))?;
        let shown = score.map_or("no reference".to_owned(), |s| format!("validation Dice {s:.3}"));
        progress.note(&format!(
            "epoch {epoch}, step {}: loss {loss:.4}, {shown}; {}",
            state.step,
            clock.describe()
        ));
        let overlooked = overlooked(&total, self.classes);
        // Before the middle of a training that is nothing unusual.
        if !overlooked.is_empty() && 2 * state.step >= history.planned_steps {
            progress.note(&format!(
                "no voxel of the validation cases is called {} after {} of {} steps: train longer, show the class more \
                 often (`--method ce-80`), or give the loss a Dice term (`loss.dice=1`)",
                overlooked.join(" or "),
                state.step,
                history.planned_steps
            ));
        }
        crate::run::draw_progress(self.run, self.classes)?;
        Ok(better)
    }

    /// The validation cases that are predicted after every epoch.
    pub(super) fn epoch_cases(&self) -> Vec<&'a PreparedCase> {
        let wanted = self.config.validation.cases_per_epoch.min(self.validation.len());
        (0..wanted).map(|i| &self.validation[i * self.validation.len() / wanted]).collect()
    }

    /// TP, FP, FN per class of one validation case on its prepared grid.
    pub(super) fn confusion(
        &self,
        network: &Network,
        weights: &Weights,
        case: &PreparedCase,
    ) -> Result<Vec<[u64; 3]>> {
        let sample = case.load()?;
        let mut counts = vec![[0u64; 3]; self.plan.classes];
        let Some(labels) = &sample.labels else { return Ok(counts) };
        let options = WindowOptions { step: self.config.validation.step, ..WindowOptions::default() };
        let predictor = Predictor::new(self.plan, vec![(network.clone(), weights)], options, self.device)?;
        let mut first = 0;
        let mask = sample.mask.as_ref().map(|m| m.view());
        predictor.predict(
            sample.images.view(),
            mask,
            &mut |planes| {
                let (classes, depth, ny, nz) = planes.dim();
                for x in 0..depth {
                    for y in 0..ny {
                        for z in 0..nz {
                            let at = [first + x, y, z];
                            let truth = labels[at];
                            if truth == IGNORE || mask.is_some_and(|mask| mask[at] == 0) {
                                continue;
                            }
                            let mut best = 0;
                            for class in 1..classes {
                                if planes[[class, x, y, z]] > planes[[best, x, y, z]] {
                                    best = class;
                                }
                            }
                            let truth = usize::from(truth);
                            if best == truth {
                                counts[truth][0] += 1;
                            } else {
                                counts[best][1] += 1;
                                counts[truth][2] += 1;
                            }
                        }
                    }
                }
                first += depth;
            },
            &mut |_| {},
        );
        Ok(counts)
    }
}

/// Classes that there are, of which no voxel was found: `counts` are TP, FP, FN of every class, background first.
fn overlooked<S: AsRef<str>>(counts: &[[u64; 3]], classes: &[S]) -> Vec<String> {
    let found = counts.iter().zip(classes).skip(1);
    let found = found.filter(|([tp, fp, fn_], _)| tp + fp == 0 && *fn_ > 0);
    found.map(|(_, class)| format!("`{}`", class.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_is_there_and_never_found_is_overlooked() {
        let counts = [[90, 0, 0], [0, 0, 5], [0, 1, 4], [0, 0, 0], [3, 0, 0]];
        let classes = ["background", "lesion", "cyst", "absent", "found"];
        assert_eq!(overlooked(&counts, &classes), ["`lesion`"]);
    }
}

//! The end of an epoch: validation, its record, and what the screen is told.

use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoint, History};
use super::control::Control;
use super::iteration::IterationReport;
use super::job::Job;
use super::monitor::ShiftMonitor;
use super::train::{EpochEnd, Epochs};
use super::watch::{ShiftWatch, WatchOptions};
use crate::Result;
use crate::config::Named;
use crate::network::{Network, Weights};
use crate::predict::Segmenter;
use crate::predict::windows::{Predictor, WindowOptions};
use crate::prepare::{IGNORE, PreparedCase};
use crate::progress::Progress;
use crate::run::draw_progress;
use crate::run::events::{EpochEvent, Event, Events, LogitsEvent, SeenVoxels, ValidationScores, read_events};

/// What the steps of an epoch took.
#[derive(Debug, Default)]
pub struct Clock {
    wait: Duration,
    forward: Duration,
    backward: Duration,
    update: Duration,
    steps: u32,
}

impl Clock {
    /// Adds a step that waited so long for its batch, and whose policy took so long.
    pub(super) fn add(&mut self, wait: Duration, report: &IterationReport, policy: Duration) {
        self.wait += wait;
        self.forward += report.forward;
        self.backward += report.backward;
        self.update += report.update + policy;
        self.steps += 1;
    }

    fn total(&self) -> Duration {
        self.wait + self.forward + self.backward + self.update
    }

    fn share(&self, part: Duration) -> f64 {
        part.as_secs_f64() / self.total().as_secs_f64().max(1e-9)
    }

    /// Share of the time that was spent waiting for batches.
    pub fn share_waiting(&self) -> f64 {
        self.share(self.wait)
    }

    /// In words.
    pub fn describe(&self) -> String {
        let step = 1e3 * self.total().as_secs_f64() / f64::from(self.steps.max(1));
        let percent = |part| 100.0 * self.share(part);
        let mut text = format!(
            "{step:.0} ms a step (forward {:.0} %, backward {:.0} %, update {:.0} %, waiting on data {:.0} %)",
            percent(self.forward),
            percent(self.backward),
            percent(self.update),
            percent(self.wait)
        );
        if self.share_waiting() > 0.2 {
            text.push_str("; raise `loader.threads`");
        }
        text
    }
}

/// The epochs of a segmentation: some validation cases are predicted and scored, and the shift of the logits is
/// measured.
#[derive(Debug)]
pub(super) struct Validation<'a> {
    job: &'a Job<'a>,
    network: &'a Network,
    shift: Option<(ShiftWatch, ShiftMonitor)>,
    control: Option<Control<'a>>,
}

/// TP, FP and FN of every class, background first.
type Confusion = Vec<[u64; 3]>;

impl<'a> Validation<'a> {
    /// Without the shift, which costs reading windows of the cases.
    pub(super) fn without_shift(job: &'a Job<'a>, network: &'a Network) -> Self {
        Self { job, network, shift: None, control: None }
    }

    /// From step `from` on, with a monitor of the shift that knows the epochs before it.
    pub(super) fn new(job: &'a Job<'a>, network: &'a Network, from: u64) -> Result<Self> {
        let options = WatchOptions {
            windows: job.config.validation.logit_windows,
            patches_per_epoch: job.config.schedule.steps_per_epoch * job.plan.batch as u64,
            seed: job.config.seed,
        };
        let Some(watch) = ShiftWatch::choose(job.plan, network, job.train, job.validation, &options)? else {
            return Ok(Self::without_shift(job, network));
        };
        let mut monitor =
            ShiftMonitor::new(job.classes, &job.method.rare, job.method.config.name.map(Named::name));
        let path = job.run.path("events.jsonl");
        let events = if path.is_file() { read_events(&path)? } else { Vec::new() };
        for event in events {
            if let Event::Logits(LogitsEvent { step, shift, .. }) = event
                && step < from
            {
                monitor.observe(&shift);
            }
        }
        Ok(Self { job, network, shift: Some((watch, monitor)), control: None })
    }

    /// With what sets the strengths of methods that follow a gap.
    pub(super) fn controlled(self, control: Option<Control<'a>>) -> Self {
        Self { control, ..self }
    }

    /// The validation cases that are predicted after every epoch.
    fn cases(&self) -> Vec<&'a PreparedCase> {
        let validation = self.job.validation;
        let count = self.job.config.validation.cases_per_epoch.min(validation.len());
        (0..count).map(|i| &validation[i * validation.len() / count]).collect()
    }

    /// How long judging an epoch takes: that of one case times their number.
    pub(super) fn time(&self, weights: &Weights) -> Result<Duration> {
        let timer = Instant::now();
        let cases = self.cases();
        if let Some(case) = cases.first() {
            self.confusion(weights, case)?;
        }
        Ok(timer.elapsed() * cases.len() as u32)
    }

    /// Scores over all voxels of some validation cases, and what they come from.
    fn scores(&self, weights: &Weights) -> Result<(ValidationScores, Confusion)> {
        let timer = Instant::now();
        let cases = self.cases();
        let mut total = vec![[0u64; 3]; self.job.plan.classes];
        for case in &cases {
            for (sum, counts) in total.iter_mut().zip(self.confusion(weights, case)?) {
                (0..3).for_each(|i| sum[i] += counts[i]);
            }
        }
        let ratio = |above: u64, below: u64| (below > 0).then(|| above as f64 / below as f64);
        let scores = |score: fn([u64; 3]) -> (u64, u64)| -> Vec<Option<f64>> {
            total[1..].iter().map(|&counts| score(counts)).map(|(above, below)| ratio(above, below)).collect()
        };
        let dice = scores(|[tp, fp, fn_]| (2 * tp, 2 * tp + fp + fn_));
        let defined: Vec<f64> = dice.iter().flatten().copied().collect();
        let scores = ValidationScores {
            mean_dice: (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64),
            sensitivity: scores(|[tp, _, fn_]| (tp, tp + fn_)),
            precision: scores(|[tp, fp, _]| (tp, tp + fp)),
            dice,
            cases: cases.iter().map(|case| case.id.clone()).collect(),
            seconds: timer.elapsed().as_secs_f64(),
        };
        Ok((scores, total))
    }

    /// TP, FP, FN per class of one validation case on its prepared grid.
    fn confusion(&self, weights: &Weights, case: &PreparedCase) -> Result<Confusion> {
        let job = self.job;
        let sample = case.load()?;
        let mut counts = vec![[0u64; 3]; job.plan.classes];
        let Some(labels) = &sample.labels else { return Ok(counts) };
        let options = WindowOptions { step: job.config.validation.step, ..WindowOptions::default() };
        let networks = vec![(self.network.clone(), weights)];
        let predictor = Predictor::new(job.plan, networks, options, job.device)?;
        let mut first = 0;
        let mask = sample.mask.as_ref().map(|m| m.view());
        predictor.predict(
            &sample,
            &mut |planes| {
                let (classes, depth, ny, nz) = planes.dim();
                for (x, y, z) in
                    (0..depth).flat_map(|x| (0..ny).flat_map(move |y| (0..nz).map(move |z| (x, y, z))))
                {
                    let at = [first + x, y, z];
                    let truth = labels[at];
                    if truth == IGNORE || mask.is_some_and(|mask| mask[at] == 0) {
                        continue;
                    }
                    let higher =
                        |class: usize, best: usize| planes[[class, x, y, z]] > planes[[best, x, y, z]];
                    let found =
                        (1..classes).fold(0, |best, class| if higher(class, best) { class } else { best });
                    let truth = usize::from(truth);
                    if found == truth {
                        counts[truth][0] += 1;
                    } else {
                        counts[found][1] += 1;
                        counts[truth][2] += 1;
                    }
                }
                first += depth;
            },
            &mut |_| {},
        );
        Ok(counts)
    }

    /// Measures the shift of the logits, records it, and warns of overfitting.
    fn watch_shift(
        &mut self,
        state: &Checkpoint,
        events: &mut Events,
        progress: &dyn Progress,
    ) -> Result<()> {
        let Some((watch, monitor)) = &mut self.shift else { return Ok(()) };
        let timer = Instant::now();
        let shift = watch.measure(0, self.job.plan, self.network, &state.weights, self.job.device)?;
        let warning = monitor.observe(&shift);
        let seconds = timer.elapsed().as_secs_f64();
        events.record(&Event::Logits(LogitsEvent { step: state.step - 1, shift, seconds }))?;
        if let Some(warning) = warning {
            progress.note(&warning);
        }
        Ok(())
    }
}

impl Epochs for Validation<'_> {
    /// Also draws the curves.
    fn end(
        &mut self,
        epoch: &EpochEnd<'_>,
        state: &mut Checkpoint,
        events: &mut Events,
        progress: &dyn Progress,
    ) -> Result<bool> {
        let (scores, confusion) = self.scores(&state.weights)?;
        let score = scores.mean_dice;
        let better = state.history.rank(score);
        let History { patches_per_centre_class, voxels_per_class, planned_steps, .. } = &state.history;
        events.record(&Event::Epoch(EpochEvent {
            step: state.step - 1,
            epoch: epoch.number,
            train_loss: epoch.loss,
            validation: scores,
            seen: SeenVoxels {
                patches_per_centre_class: patches_per_centre_class.clone(),
                voxels_per_class: voxels_per_class.clone(),
            },
            share_waiting_on_data: epoch.clock.share_waiting(),
        }))?;
        let judged = score.map_or("no reference".to_owned(), |s| format!("validation Dice {s:.3}"));
        progress.note(&format!(
            "epoch {}, step {}: loss {:.4}, {judged}; {}",
            epoch.number,
            state.step,
            epoch.loss,
            epoch.clock.describe()
        ));
        let overlooked = overlooked(&confusion, self.job.classes);
        // Before the middle of a training that is nothing unusual.
        if !overlooked.is_empty() && 2 * state.step >= *planned_steps {
            progress.note(&format!(
                "no voxel of the validation cases is called {} after {} of {planned_steps} steps: train longer, show \
                 the class more often (`--method ce-80`), or give the loss a Dice term (`loss.dice=1`)",
                overlooked.join(" or "),
                state.step,
            ));
        }
        draw_progress(self.job.run, self.job.classes)?;
        self.watch_shift(state, events, progress)?;
        if let Some(control) = &self.control {
            control.end(epoch.number, state, events)?;
        }
        Ok(better)
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

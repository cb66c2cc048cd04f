//! Methods that act as strongly as the rare classes are learned by heart.
//!
//! After every epoch the crossing rates of voxels that are trained on and of voxels of set-aside cases are compared.
//! Of a rare class c, with `excess = max(0, unseen - seen - threshold)`,
//!
//! ```text
//! g_c = max(0, excess_c - excess_background)
//! G_c = smoothing G_c + (1 - smoothing) g_c
//! s_c = min(1, G_c / full),  s = the largest s_c
//! margin of c = s_c method.margin.value,  exponent of common classes = s method.focal.gamma,
//! probability of every further pass = s
//! ```
//!
//! Crossing rates and not the shift of the log-odds itself: a margin raises the logits of seen voxels, so that a shift
//! would feed itself. Where background voxels of unseen cases are crossed more often as well, the cases are hard as a whole:
//! that part is no asymmetry. Everything that is kept has six digits, which JSON keeps exactly: a run that goes on, and one
//! that replays the schedule of another, have the same strengths to the last bit. The choice of these rules is ours.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::job::Job;
use super::method::Method;
use super::watch::{ShiftWatch, WatchOptions};
use crate::config::method::Mode;
use crate::network::Network;
use crate::progress::Progress;
use crate::run::events::{ControlEvent, Event, Events, LogitShift, Rate, Strength, read_events};
use crate::run::record::Record;
use crate::run::{Run, locate};
use crate::{Error, Result};

/// Windows of a rare class on either side, at most.
const WINDOWS: usize = 64;
/// Share of epochs at the greatest strength from which on a method has acted as one of fixed strength.
pub const FIXED: f64 = 0.1;
/// The file of a run that holds the schedule that it replays.
const SCHEDULE: &str = "schedule.json";

/// The smoothed gap, and what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ControlState {
    /// Per class, background first; 0 for common classes.
    pub gap: Vec<f64>,
    /// What acts.
    pub strength: Strength,
}

impl ControlState {
    /// Takes in the measurement of one more epoch. Returns the gap of each class, `None` where it was not measured, and
    /// whether a class has the greatest strength.
    pub fn observe(&mut self, shift: &LogitShift, method: &Method) -> (Vec<Option<f64>>, bool) {
        let auto = &method.config.auto;
        let gap = gaps(shift, &method.rare, auto.threshold);
        self.gap.resize(gap.len(), 0.0);
        for (smoothed, gap) in self.gap.iter_mut().zip(&gap) {
            if let Some(gap) = gap {
                *smoothed = six_digits(auto.smoothing * *smoothed + (1.0 - auto.smoothing) * gap);
            }
        }
        self.strength = strength(&self.gap, method);
        let clamped = self.gap.iter().any(|gap| *gap >= auto.full);
        (gap, clamped)
    }
}

/// By how much each rare class is crossed more often unseen than seen, beyond the threshold and what the background is.
fn gaps(shift: &LogitShift, rare: &[bool], threshold: f64) -> Vec<Option<f64>> {
    let excess = |class: usize| {
        let crossing = |rates: &[Rate]| rates.get(class)?.crossing;
        Some((crossing(&shift.unseen)? - crossing(&shift.seen)? - threshold).max(0.0))
    };
    let background = excess(0).unwrap_or(0.0);
    let gap = |class: usize| Some(six_digits((excess(class)? - background).max(0.0)));
    rare.iter().enumerate().map(|(class, &rare)| if rare { gap(class) } else { None }).collect()
}

/// What smoothed gaps ask for.
fn strength(gap: &[f64], method: &Method) -> Strength {
    let config = &method.config;
    let share = |gap: f64| (gap / config.auto.full).min(1.0);
    let largest = share(gap.iter().copied().fold(0.0, f64::max));
    let when = |mode: Mode, value: f64| if mode == Mode::Off { 0.0 } else { six_digits(value) };
    let margin = |gap: &f64| when(config.margin.mode, config.margin.value * share(*gap));
    Strength {
        margin: gap.iter().map(margin).collect(),
        gamma: when(config.focal.mode, config.focal.gamma * largest),
        passes: if method.passes().is_empty() { 0.0 } else { six_digits(largest) },
    }
}

fn six_digits(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Where strengths come from.
#[derive(Debug)]
enum Source {
    /// Windows of training cases and of set-aside ones.
    Measured(ShiftWatch),
    /// Another run.
    Replayed(Schedule),
}

/// What sets the strengths after every epoch of a run.
#[derive(Debug)]
pub(super) struct Control<'a> {
    job: &'a Job<'a>,
    network: &'a Network,
    source: Source,
}

impl<'a> Control<'a> {
    /// That of a job, where its methods follow a gap.
    ///
    /// # Errors
    /// Where a case or the schedule of the run cannot be read.
    pub(super) fn of(
        job: &'a Job<'a>,
        network: &'a Network,
        progress: &dyn Progress,
    ) -> Result<Option<Self>> {
        let auto = &job.method.config.auto;
        let source = match &auto.from {
            _ if !auto.on => return Ok(None),
            Some(_) => Source::Replayed(job.run.read_json(SCHEDULE)?),
            None => {
                let options = WatchOptions {
                    windows: WINDOWS,
                    patches_per_epoch: job.config.schedule.steps_per_epoch * job.plan.batch as u64,
                    seed: job.config.seed,
                };
                let cases = [job.train, job.policy_validation];
                let watch = ShiftWatch::of_rare(job.plan, network, cases, &job.method.rare, &options)?;
                tell(job, &watch, progress);
                Source::Measured(watch)
            }
        };
        Ok(Some(Self { job, network, source }))
    }

    /// Sets the strengths of the next epoch and records them.
    ///
    /// # Errors
    /// Where a case cannot be read or the events cannot be written.
    pub(super) fn end(&self, epoch: u64, state: &mut Checkpoint, events: &mut Events) -> Result<()> {
        let step = state.step - 1;
        let control = state.history.control.get_or_insert_default();
        let event = match &self.source {
            Source::Measured(watch) => {
                let timer = Instant::now();
                let job = self.job;
                let shift = watch.measure(epoch, job.plan, self.network, &state.weights, job.device)?;
                let (gap, clamped) = control.observe(&shift, job.method);
                ControlEvent {
                    step,
                    shift,
                    gap,
                    smoothed: control.gap.clone(),
                    strength: control.strength.clone(),
                    clamped,
                    seconds: timer.elapsed().as_secs_f64(),
                }
            }
            Source::Replayed(schedule) => {
                let event = schedule.after(step);
                control.gap.clone_from(&event.smoothed);
                control.strength.clone_from(&event.strength);
                event
            }
        };
        events.record(&Event::Control(event))
    }
}

/// Says what a gap is measured on, and for which classes there is nothing to measure.
fn tell(job: &Job<'_>, watch: &ShiftWatch, progress: &dyn Progress) {
    for (class, name) in job.classes.iter().enumerate().filter(|(class, _)| job.method.rare[*class]) {
        let [seen, unseen] = watch.amounts(class);
        let side = |(voxels, cases): (usize, usize)| match cases {
            1 => format!("{voxels} voxels of one case"),
            _ => format!("{voxels} voxels of {cases} cases"),
        };
        progress.note(&match unseen.0.min(seen.0) {
            0 => format!(
                "warning: `{name}` is {} in the training cases and {} in the set-aside ones, so that no gap can be \
                 measured: nothing is done for it",
                if seen.0 == 0 { "missing" } else { "there" },
                if unseen.0 == 0 { "missing" } else { "there" },
            ),
            _ => format!(
                "the gap of `{name}` is measured after every epoch: {} to train on, {} set aside",
                side(seen),
                side(unseen)
            ),
        });
    }
}

/// The strengths of all epochs of a run, for another one to follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The run.
    pub run: PathBuf,
    /// Its epochs, without what was measured.
    pub epochs: Vec<ControlEvent>,
}

impl Schedule {
    /// That of the run which `method.auto.from` names, for a run with this method on these classes.
    ///
    /// # Errors
    /// Where it has none, its classes differ, or its methods do.
    pub fn of(from: &Path, classes: &[String], method: &Method) -> Result<Self> {
        let run = Run::at(locate(from)?);
        let record = Record::open(&run)?;
        let names = &record.labels.names;
        let refuse = |problem: String, mend: &str| Err(Error::invalid(&run.folder, "run", problem, mend));
        if names != classes {
            return refuse(
                format!("its classes are {}, and those here {}", names.join(", "), classes.join(", ")),
                "name a run on the same classes with --margins-from",
            );
        }
        let theirs = Method::resolve(&record.config, names)?;
        let kinds = |method: &Method| {
            let config = &method.config;
            let modes = [config.margin.mode, config.focal.mode, config.adversarial.mode, config.mixup.mode];
            (config.auto.on, modes, method.rare.clone())
        };
        if kinds(&theirs) != kinds(method) {
            let name =
                theirs.config.name.map_or("a method of its own".to_owned(), |name| format!("`{name}`"));
            return refuse(
                format!(
                    "it was trained with {name}, whose schedule does not fit the methods and rare classes here"
                ),
                "choose its method (--method) and its rare classes (method.rare)",
            );
        }
        let epochs = of_epochs(&run)?
            .into_iter()
            .map(|event| ControlEvent {
                shift: LogitShift::default(),
                gap: Vec::new(),
                seconds: 0.0,
                ..event
            })
            .collect::<Vec<_>>();
        if epochs.is_empty() {
            return refuse(
                "there is no schedule in its events.jsonl: it has not finished an epoch".to_owned(),
                "name a run that was trained to its end with `--method auto-margin`, `auto-focal` or `auto-combination`",
            );
        }
        Ok(Self { run: std::path::absolute(&run.folder).unwrap_or(run.folder), epochs })
    }

    /// Name and content of the file of a run that keeps it.
    pub fn file(&self) -> (&'static str, serde_json::Value) {
        (SCHEDULE, serde_json::json!(self))
    }

    /// The last step that it has a strength for. Later steps keep that strength.
    pub fn end(&self) -> u64 {
        self.epochs.last().map_or(0, |event| event.step)
    }

    /// What acts after a step: what the run had found by then, nothing before its first epoch's end.
    fn after(&self, step: u64) -> ControlEvent {
        let known = self.epochs.iter().rfind(|event| event.step <= step).cloned().unwrap_or_default();
        ControlEvent { step, ..known }
    }
}

/// The strengths that a run has recorded.
///
/// # Errors
/// Where its events cannot be read.
pub fn of_epochs(run: &Run) -> Result<Vec<ControlEvent>> {
    let path = run.path("events.jsonl");
    let events = if path.is_file() { read_events(&path)? } else { Vec::new() };
    let control = |event| if let Event::Control(control) = event { Some(control) } else { None };
    Ok(events.into_iter().filter_map(control).collect())
}

/// In which share of its epochs a run's methods had their greatest strength; `None` where they follow no gap.
///
/// # Errors
/// Where its events cannot be read.
pub fn share_clamped(run: &Run) -> Result<Option<f64>> {
    let epochs = of_epochs(run)?;
    let clamped = epochs.iter().filter(|event| event.clamped).count();
    Ok((!epochs.is_empty()).then(|| clamped as f64 / epochs.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::method::{Adversarial, Auto, Focal, Margin, MethodConfig, Mixup};

    /// The combination on three classes, of which the last two are rare.
    fn method() -> Method {
        let config = MethodConfig {
            margin: Margin { mode: Mode::Asymmetric, value: 2.0 },
            focal: Focal { mode: Mode::Asymmetric, gamma: 4.0 },
            adversarial: Adversarial { mode: Mode::Asymmetric, ..Adversarial::default() },
            mixup: Mixup { mode: Mode::Asymmetric, ..Mixup::default() },
            auto: Auto { on: true, ..Auto::default() },
            ..MethodConfig::default()
        };
        Method { config, ..Method::none(3) }
    }

    fn shift(seen: [f64; 3], unseen: [f64; 3]) -> LogitShift {
        let side = |values: [f64; 3]| {
            values.map(|v| Rate { crossing: Some(v), margin: None, voxels: 2000 }).to_vec()
        };
        LogitShift { seen: side(seen), unseen: side(unseen) }
    }

    #[test]
    fn the_gap_of_three_classes_worked_by_hand() {
        let method = method();
        let mut state = ControlState::default();
        // Excess: background 0.08 - 0.05 = 0.03, first 0.5 - 0.05 = 0.45, second none.
        let measured = shift([0.02, 0.1, 0.2], [0.1, 0.6, 0.15]);
        let (gap, clamped) = state.observe(&measured, &method);
        assert_eq!((gap, clamped), (vec![None, Some(0.42), Some(0.0)], false));
        assert_eq!(state.gap, [0.0, 0.126, 0.0]);
        // 0.126 / 0.5 = 0.252 of everything.
        let expected = Strength { margin: vec![0.0, 0.504, 0.0], gamma: 1.008, passes: 0.252 };
        assert_eq!(state.strength, expected);
        state.observe(&measured, &method);
        assert_eq!(state.gap, [0.0, 0.2142, 0.0]);
        // A background that is crossed less often unseen changes nothing; the other class catches up.
        state.observe(&shift([0.2, 0.1, 0.1], [0.0, 0.1, 1.0]), &method);
        assert_eq!(state.gap, [0.0, 0.14994, 0.255]);
        assert_eq!(state.strength.margin, [0.0, 0.59976, 1.02]);
        assert_eq!((state.strength.gamma, state.strength.passes), (2.04, 0.51));
        let loss = method.voxel_loss_at(&state.strength);
        assert_eq!(loss.margin, [0.0, 0.59976, 1.02]);
        assert_eq!(loss.focal, [2.04, 0.0, 0.0]);
        // What was not measured stays what it was.
        let mut absent = measured;
        absent.unseen[2].crossing = None;
        let (gap, _) = state.observe(&absent, &method);
        assert_eq!((gap[2], state.gap[2]), (None, 0.255));
    }

    #[test]
    fn strength_ends_where_the_gap_is_full_and_nothing_is_done_without_one() {
        let mut method = method();
        let mut state = ControlState::default();
        let mut epochs = 0;
        while !state.observe(&shift([0.0; 3], [0.0, 1.0, 0.0]), &method).1 {
            epochs += 1;
        }
        // 0.95 (1 - 0.7^n) reaches 0.5 with the third epoch.
        assert_eq!(epochs, 2);
        assert_eq!(state.strength, Strength { margin: vec![0.0, 2.0, 0.0], gamma: 4.0, passes: 1.0 });
        let mut none = ControlState::default();
        none.observe(&shift([0.1, 0.3, 0.3], [0.1, 0.35, 0.2]), &method);
        assert_eq!(none.strength, Strength { margin: vec![0.0; 3], gamma: 0.0, passes: 0.0 });
        let plain = Method::none(3).voxel_loss();
        let still = method.voxel_loss_at(&none.strength);
        assert!(still.focal.iter().chain(&still.margin).all(|v| *v == 0.0) && plain.margin.is_empty());
        // Only what is on acts.
        method.config.margin.mode = Mode::Off;
        method.config.mixup.mode = Mode::Off;
        method.config.adversarial.mode = Mode::Off;
        state.observe(&shift([0.0; 3], [0.0, 1.0, 0.0]), &method);
        assert_eq!(state.strength, Strength { margin: vec![0.0; 3], gamma: 4.0, passes: 0.0 });
    }

    #[test]
    fn strengths_come_back_from_json_to_the_last_bit() {
        let method = method();
        for i in 0..2000 {
            let gap = six_digits(f64::from(i) * 0.000_377);
            let state = ControlState { strength: strength(&[0.0, gap, gap / 3.0], &method), gap: vec![gap] };
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<ControlState>(&text).unwrap(), state);
        }
    }

    #[test]
    fn a_schedule_is_followed_by_steps_and_its_end_is_kept() {
        let event = |step: u64, gamma: f64| ControlEvent {
            step,
            strength: Strength { gamma, ..Strength::default() },
            ..ControlEvent::default()
        };
        let schedule = Schedule {
            run: PathBuf::from("run"),
            epochs: vec![event(9, 1.0), event(19, 0.5), event(24, 0.25)],
        };
        let gamma = |step: u64| schedule.after(step).strength.gamma;
        assert_eq!([8, 9, 18, 19, 24, 500].map(gamma), [0.0, 1.0, 1.0, 0.5, 0.25, 0.25]);
        assert_eq!((schedule.end(), schedule.after(500).step), (24, 500));
    }
}

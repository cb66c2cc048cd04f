//! Tells the user, once, that the rare class is being overfitted.

use crate::run::events::{LogitShift, Rate};

/// By how much the crossing rate of unseen voxels exceeds that of seen ones before it counts.
const EXCESS: f64 = 0.2;
/// Voxels of the class on either side from which on a rate counts: more than one window has, so that one odd case
/// raises no alarm.
const VOXELS: usize = 100;
/// For how many epochs running.
const EPOCHS: usize = 3;

/// Follows the crossing rates of the rare classes over the epochs.
#[derive(Clone, Debug)]
pub struct ShiftMonitor {
    classes: Vec<String>,
    rare: Vec<bool>,
    epochs: Vec<usize>,
    advice: &'static str,
    told: bool,
}

impl ShiftMonitor {
    /// Watches the classes (background first) for which `rare` holds, of a run with the method of this name.
    pub fn new(classes: &[String], rare: &[bool], method: Option<&str>) -> Self {
        assert_eq!(classes.len(), rare.len(), "one flag for every class");
        let advice = match method {
            Some("asym-combination" | "auto-combination") => {
                "more training cases or another `--policy` would help most"
            }
            Some(name) if name.starts_with("auto-") => {
                "the method answers this gap; `--method auto-combination` does so more strongly"
            }
            Some(name) if name.starts_with("asym-") => {
                "`--method asym-combination` counters this more strongly"
            }
            _ => {
                "`--method asym-combination` counters this, `--method asym-margin` does so at no cost in time"
            }
        };
        Self {
            classes: classes.to_vec(),
            rare: rare.to_vec(),
            epochs: vec![0; classes.len()],
            advice,
            told: false,
        }
    }

    /// Takes the measurement of one more epoch. When the crossing rate of a rare class on unseen voxels has
    /// exceeded that on seen ones by 0.2 for three epochs running, one sentence for the user, once in the
    /// monitor's life.
    pub fn observe(&mut self, measured: &LogitShift) -> Option<String> {
        for class in 0..self.classes.len() {
            let rate = |rates: &[Rate]| rates[class].crossing.filter(|_| rates[class].voxels >= VOXELS);
            let rates = rate(&measured.seen).zip(rate(&measured.unseen));
            let over = self.rare[class] && rates.is_some_and(|(seen, unseen)| unseen - seen > EXCESS);
            self.epochs[class] = if over { self.epochs[class] + 1 } else { 0 };
            if let Some((seen, unseen)) = rates
                && self.epochs[class] >= EPOCHS
                && !self.told
            {
                self.told = true;
                return Some(format!(
                    "warning: class `{}` is learned by heart: for {EPOCHS} epochs the network has missed many \
                     more of its voxels in unseen cases ({:.0} %) than in those it trains on ({:.0} %); {}",
                    self.classes[class],
                    100.0 * unseen,
                    100.0 * seen,
                    self.advice
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(seen: f64, unseen: f64) -> LogitShift {
        let rate = |crossing| Rate { crossing: Some(crossing), margin: Some(1.0), voxels: 100 };
        LogitShift { seen: vec![rate(0.0), rate(seen)], unseen: vec![rate(0.0), rate(unseen)] }
    }

    fn monitor() -> ShiftMonitor {
        ShiftMonitor::new(&["background".into(), "lesion".into()], &[false, true], Some("ce"))
    }

    #[test]
    fn three_epochs_of_excess_are_told_once() {
        let mut monitor = monitor();
        assert_eq!(monitor.observe(&epoch(0.1, 0.5)), None);
        assert_eq!(monitor.observe(&epoch(0.1, 0.5)), None);
        let told = monitor.observe(&epoch(0.1, 0.62)).unwrap();
        assert!(
            told.contains("`lesion`") && told.contains("62 %") && told.contains("asym-combination"),
            "{told}"
        );
        assert_eq!(monitor.observe(&epoch(0.1, 0.9)), None);
    }

    #[test]
    fn a_run_whose_sensitivity_holds_stays_silent() {
        let mut monitor = monitor();
        for i in 0..50 {
            // Hard, but as hard on seen cases; now and then two bad epochs in a row.
            let unseen = if i % 3 == 0 { 0.45 } else { 0.65 };
            assert_eq!(monitor.observe(&epoch(0.4, unseen)), None);
        }
        // Common classes and classes that were not measured do not count.
        let mut background = epoch(0.0, 0.0);
        background.unseen[0].crossing = Some(0.9);
        let mut absent = epoch(0.0, 0.9);
        absent.unseen[1].crossing = None;
        let mut few = epoch(0.0, 0.9);
        few.unseen[1].voxels = 64;
        for _ in 0..5 {
            assert_eq!(monitor.observe(&few), None);
            assert_eq!(monitor.observe(&background), None);
            assert_eq!(monitor.observe(&absent), None);
        }
    }
}

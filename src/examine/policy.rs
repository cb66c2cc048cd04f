//! What a run has learned about its policy, from its files.

use std::path::Path;

use serde_json::{Value, json};

use crate::learn::checkpoint::{Checkpoint, Pointer};
use crate::learn::exported;
use crate::picture::{self, Panel, Series};
use crate::policy::Policy;
use crate::policy::learn::Learner;
use crate::run::Run;
use crate::run::events::{Event, PolicyEvent, read_events};
use crate::{Error, Result};

/// The policy of a run at its start and at its end.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnedPolicy {
    /// Folder of the run.
    pub run: String,
    /// The policy that training began with.
    pub first: Policy,
    /// The policy of the last checkpoint.
    pub last: Policy,
    /// Updates between them.
    pub updates: u64,
    /// (step, all probabilities in the order of [`Policy::flat`]) as recorded.
    pub history: Vec<(u64, Vec<f64>)>,
}

/// How many choices the table shows per group and end.
const NAMED: usize = 5;
/// How many lines a chart shows.
const LINES: usize = 7;

impl LearnedPolicy {
    /// Reads a run.
    ///
    /// # Errors
    /// Where a file of the run is missing or damaged, or the run has a policy without choices.
    pub fn of(run: &Run) -> Result<Self> {
        exported::refuse(run, "record of its training")?;
        let first = run.policy()?;
        if first.is_empty() {
            return Err(Error::invalid(
                run.path("policy.toml"),
                "policy",
                format!("`{}` follows fixed rules: there are no probabilities to show", first.name),
                "read the file, or name a run with a random or learned policy",
            ));
        }
        let checkpoint = Checkpoint::pointed(&run.checkpoints(), Pointer::Latest)?;
        let learner = checkpoint.history.learner(&first)?;
        let events = read_events(&run.path("events.jsonl"))?;
        let recorded = events.into_iter().filter_map(|event| match event {
            Event::Policy(PolicyEvent { step, probabilities, .. }) => Some((step, probabilities)),
            _ => None,
        });
        let updates = learner.as_ref().map_or(0, |learner: &Learner| learner.updates);
        let last = learner.map_or_else(|| first.clone(), |learner| first.with_logits(&learner.logits));
        let history = recorded.filter(|(_, p)| p.len() == first.len()).collect();
        Ok(Self { run: run.folder.display().to_string(), first, last, updates, history })
    }

    /// Kullback-Leibler divergence of the last policy from the first, nats, summed over groups, per target.
    pub fn divergence(&self) -> Vec<f64> {
        let of = |target| {
            let groups = 0..self.first.groups.len();
            let of_group = |group| -> f64 {
                let (p, q) =
                    (self.last.probabilities(target, group), self.first.probabilities(target, group));
                p.iter().zip(&q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
            };
            groups.map(of_group).sum()
        };
        (0..self.first.targets.len()).map(of).collect()
    }

    /// What was learned in a sentence.
    pub fn sentence(&self) -> String {
        if self.updates == 0 {
            return "The policy did not change: every choice kept the probability that it began with."
                .to_owned();
        }
        let moved = self.moves(0);
        let list = |part: &[(String, f64, f64)]| {
            let words = part
                .iter()
                .map(|(name, from, to)| format!("{name} ({:.1} % to {:.1} %)", 100.0 * from, 100.0 * to));
            words.collect::<Vec<_>>().join(", ")
        };
        let risen: Vec<_> = moved.iter().filter(|m| m.2 > m.1).take(3).cloned().collect();
        let fallen: Vec<_> = moved.iter().rev().filter(|m| m.2 < m.1).take(3).cloned().collect();
        let whom = if self.first.targets.len() > 1 { " on patches centred on background" } else { "" };
        format!(
            "After {} updates the policy prefers{whom} {}; it avoids {}.",
            self.updates,
            list(&risen),
            list(&fallen)
        )
    }

    /// (name, first probability, last probability) of every choice, most risen first.
    fn moves(&self, target: usize) -> Vec<(String, f64, f64)> {
        let mut moves = Vec::new();
        for (index, group) in self.first.groups.iter().enumerate() {
            let (from, to) =
                (self.first.probabilities(target, index), self.last.probabilities(target, index));
            for (number, choice) in group.choices.iter().enumerate() {
                let name = match self.first.groups.len() {
                    1 => choice.name.clone(),
                    _ => format!("{} {}", group.name, choice.name),
                };
                moves.push((name, from[number], to[number]));
            }
        }
        moves.sort_by(|a, b| (b.2 - b.1).total_cmp(&(a.2 - a.1)).then_with(|| a.0.cmp(&b.0)));
        moves
    }

    /// The choices that moved most, for people.
    pub fn table(&self) -> String {
        let mut text = format!("{}: policy `{}`, {} updates\n", self.run, self.first.name, self.updates);
        for (target, name) in self.first.targets.names().iter().enumerate() {
            let moves = self.moves(target);
            text.push_str(&format!(
                "patches: {name}; divergence from the start {:.4} nats\n{:<44} {:>8} {:>8}\n",
                self.divergence()[target],
                "choice",
                "start %",
                "end %"
            ));
            let ends = NAMED.min(moves.len() / 2);
            for (name, from, to) in moves.iter().take(ends).chain(&moves[moves.len() - ends..]) {
                text.push_str(&format!("{name:<44} {:8.2} {:8.2}\n", 100.0 * from, 100.0 * to));
            }
        }
        text.push_str(&self.sentence());
        text.push('\n');
        text
    }

    /// Everything, machine-readable.
    pub fn json(&self) -> Value {
        let targets = self.first.targets.names().iter().enumerate().map(|(target, name)| {
            let choices = self.moves(target);
            let choices = choices
                .iter()
                .map(|(name, from, to)| json!({"name": name, "start": from, "end": to}))
                .collect::<Vec<_>>();
            json!({"target": name, "divergence": self.divergence()[target], "choices": choices})
        });
        json!({
            "run": self.run, "policy": self.first.name, "updates": self.updates,
            "targets": targets.collect::<Vec<_>>(), "sentence": self.sentence(),
        })
    }
}

/// Draws, per run and target, the probabilities over training of the choices that moved most: the bytes of a PNG
/// file, which `name` names in errors.
///
/// # Errors
/// Where there is too much for one picture.
pub fn draw(shown: &[LearnedPolicy], name: &Path) -> Result<Vec<u8>> {
    picture::curves_png(name, &panels(shown))
}

/// The charts of [`draw`].
pub(crate) fn panels(shown: &[LearnedPolicy]) -> Vec<Panel> {
    let mut panels = Vec::new();
    for run in shown {
        let width = run.first.len() / run.first.targets.len();
        for (target, name) in run.first.targets.names().iter().enumerate() {
            let names = names(&run.first);
            let mut order: Vec<usize> = (0..width).collect();
            let at = |history: &(u64, Vec<f64>), choice: usize| history.1[target * width + choice];
            if let (Some(first), Some(last)) = (run.history.first(), run.history.last()) {
                let moved = |choice: usize| (at(last, choice) - at(first, choice)).abs();
                order.sort_by(|a, b| moved(*b).total_cmp(&moved(*a)));
            }
            let series = order.into_iter().take(LINES).map(|choice| Series {
                name: names[choice].clone(),
                points: run.history.iter().map(|entry| (entry.0 as f64, at(entry, choice))).collect(),
            });
            panels.push(Panel {
                title: format!("Probabilities, patches: {name}"),
                x_label: "step".to_owned(),
                y_label: "probability".to_owned(),
                series: series.collect(),
                ..Panel::default()
            });
        }
    }
    panels
}

/// Names of a policy's choices in the order of one target's logits.
fn names(policy: &Policy) -> Vec<String> {
    let several = policy.groups.len() > 1;
    let of = |group: &crate::policy::Group| -> Vec<String> {
        let name = |choice: &crate::policy::Choice| match several {
            true => format!("{} {}", group.name, choice.name),
            false => choice.name.clone(),
        };
        group.choices.iter().map(name).collect()
    };
    policy.groups.iter().flat_map(of).collect()
}

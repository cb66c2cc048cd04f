//! The last phase of a fit: which of a method's values serve training cases best.

use serde::{Deserialize, Serialize};

use super::atlas::decided;
use super::fit::{Work, dice, mean};
use super::fitted::{Fitted, TUNING};
use super::points::Point;
use crate::Result;

/// A point this near to the best counts as as good.
const AS_GOOD: f64 = 0.002;

/// What was chosen on training cases: `tuning.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TuningRecord {
    /// Names of the cases.
    pub cases: Vec<String>,
    /// Every point that was tried: its values, and its mean foreground Dice.
    pub points: Vec<TriedPoint>,
    /// The point in force.
    pub chosen: usize,
    /// Mean foreground Dice of the prior on the same cases.
    pub start_dice: Option<f64>,
}

/// One point of [`TuningRecord`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriedPoint {
    /// Its values in words.
    pub values: String,
    /// Mean foreground Dice; none where nothing was tried.
    pub dice: Option<f64>,
}

impl Work<'_> {
    /// Chooses among the method's points on training cases.
    pub(super) fn tuning(&mut self) -> Result<()> {
        let points = Point::all(self.method(), &self.fit.config.classical);
        let untried = |point: &Point| TriedPoint { values: point.values(), dice: None };
        let mut record =
            TuningRecord { points: points.iter().map(untried).collect(), ..TuningRecord::default() };
        let reader = self.reader()?;
        // Where no case can be left out of the prior, every point would know the answer.
        let fair = match reader.start.atlas {
            true => self.fit.cases.len() > 1,
            false => self.fit.cases.len() >= 4,
        };
        if points.len() > 1 && fair {
            self.try_points(&reader, &points, &mut record)?;
        } else if points.len() > 1 {
            self.progress.note("too few training cases to choose values on: the first of each list is taken");
        }
        self.store.write_json(TUNING, &record)
    }

    fn try_points(&self, reader: &Fitted, points: &[Point], record: &mut TuningRecord) -> Result<()> {
        let looked_at = self.looked_at();
        let mut dices = vec![Vec::new(); points.len()];
        let mut start = Vec::new();
        self.progress.begin("choosing values on training cases", (looked_at.len() * points.len()) as u64);
        for &number in &looked_at {
            let loaded = self.load(number, reader.atlas.as_ref())?;
            let Some(labels) = &loaded.sample.labels else { continue };
            let left_out = Some(loaded.left_out(number));
            let context = reader.context(&loaded.sample, left_out)?;
            start.extend(dice(decided(context.prior.view()).view(), labels.view(), self.fit.plan.classes));
            for (point, dices) in points.iter().zip(&mut dices) {
                self.go_on("choosing values")?;
                let labels_of = reader.decided(&loaded.sample, &context, point, left_out)?;
                dices.extend(dice(labels_of.view(), labels.view(), self.fit.plan.classes));
                self.progress.advance(1);
            }
            record.cases.push(loaded.sample.id.clone());
        }
        self.progress.end();
        for (tried, dices) in record.points.iter_mut().zip(&dices) {
            tried.dice = (!dices.is_empty()).then(|| mean(dices));
        }
        let best = record.points.iter().filter_map(|point| point.dice).fold(f64::NEG_INFINITY, f64::max);
        let as_good = |point: &TriedPoint| point.dice.is_some_and(|dice| dice >= best - AS_GOOD);
        record.chosen = record.points.iter().position(as_good).unwrap_or(0);
        record.start_dice = (!start.is_empty()).then(|| mean(&start));
        self.tell_tuning(record);
        Ok(())
    }

    fn tell_tuning(&self, record: &TuningRecord) {
        let said = |dice: Option<f64>| dice.map_or("-".to_owned(), |dice| format!("{dice:.3}"));
        let chosen = &record.points[record.chosen];
        let others: Vec<String> = record
            .points
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != record.chosen)
            .map(|(_, point)| format!("{}: {}", point.values, said(point.dice)))
            .collect();
        self.progress.note(&format!(
            "tuned on {} training cases: {} (Dice {}; {})",
            record.cases.len(),
            chosen.values,
            said(chosen.dice),
            others.join("; ")
        ));
        if let (Some(own), Some(start)) = (chosen.dice, record.start_dice)
            && own < start
        {
            self.progress.note(&format!(
                "{}: {own:.3} on training cases, below the prior it starts from ({start:.3}): read its scores with that in mind",
                self.method()
            ));
        }
    }
}

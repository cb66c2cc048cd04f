//! Where the methods of a fit start: an atlas of positions where it finds training cases left out of it, else a forest.

use ndarray::ArrayView3;
use serde::{Deserialize, Serialize};

use super::arrays::Stored;
use super::atlas::{self, Atlas, decided};
use super::fit::{Loaded, Work, dice, mean};
use super::fitted::{START, TEMPLATE};
use crate::config::MethodName;
use crate::config::classical::{Dictionary, PriorSource};
use crate::image::components::{Connectivity, components};
use crate::{Error, Result};

/// Mean Dice from which on an atlas of positions counts as one.
const PLACED: f64 = 0.3;
/// Share of a class's voxels in its largest part from which on it counts as one.
const ONE_PART: f64 = 0.95;

/// Where the methods of a fit start, and what is known of its classes: `start.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRecord {
    /// Whether the prior is that of the atlas; else it is a forest's.
    pub atlas: bool,
    /// Mean foreground Dice of the atlas on training cases left out of it, where there is an atlas.
    pub atlas_dice: Option<f64>,
    /// How many cases that was measured on.
    pub cases: usize,
    /// Of every foreground class, whether training cases always have one part of it.
    pub one_part: Vec<bool>,
}

impl Work<'_> {
    /// Whether an atlas of positions finds training cases that are left out of it.
    pub(super) fn start(&mut self) -> Result<()> {
        let mut one_part = vec![true; self.fit.plan.classes - 1];
        for case in self.fit.cases {
            let sample = case.load()?;
            let Some(labels) = &sample.labels else { continue };
            for (class, one) in one_part.iter_mut().enumerate() {
                *one &= has_one_part(labels.view(), class as u8 + 1);
            }
        }
        let mut record = StartRecord { atlas: false, atlas_dice: None, cases: 0, one_part };
        if self.store.has_file(TEMPLATE) {
            let atlas = self.atlas()?;
            let looked_at = self.looked_at();
            let mut dice = Vec::new();
            // Without a second case nothing can be left out.
            if self.fit.cases.len() > 1 {
                self.progress.begin("looking at cases left out of the atlas", looked_at.len() as u64);
                for &number in &looked_at {
                    self.go_on("start")?;
                    dice.extend(self.left_out_dice(&atlas, number)?);
                    self.progress.advance(1);
                }
                self.progress.end();
            }
            record.cases = dice.len();
            record.atlas_dice = (!dice.is_empty()).then(|| mean(&dice));
            record.atlas = match self.fit.config.classical.prior {
                PriorSource::Atlas => true,
                PriorSource::Forest => false,
                PriorSource::Auto => record.atlas_dice.is_none_or(|dice| dice >= PLACED),
            };
        }
        self.tell_start(&record)?;
        self.store.write_json(START, &record)
    }

    fn tell_start(&self, record: &StartRecord) -> Result<()> {
        let reached = record.atlas_dice.map_or(String::new(), |dice| format!("{dice:.2}"));
        match (record.atlas, &*reached) {
            (true, "") => self.progress.note("prior: atlas (one training case: it is the template)"),
            (true, _) => self.progress.note(&format!("prior: atlas (leave-one-out Dice {reached})")),
            (false, "") => self.progress.note("prior: forest"),
            (false, _) => self.progress.note(&format!(
                "prior: forest (an atlas of positions reaches {reached}: the classes have no fixed place)"
            )),
        }
        let needs = self.needs_atlas()
            || self.method() == MethodName::Sparse
                && self.fit.config.classical.sparse.dictionary == Dictionary::Cases;
        match needs && !record.atlas {
            false => Ok(()),
            true => Err(Error::config(
                "method.name",
                format!(
                    "`{}`: an atlas of positions reaches a leave-one-out Dice of {reached}: these classes have no fixed place",
                    self.method()
                ),
                "use random-forest, graph-cut or a network, or add --set classical.prior=atlas to see it fail",
            )),
        }
    }

    pub(super) fn atlas(&self) -> Result<Atlas> {
        let (bytes, path) = (self.store.read(TEMPLATE)?, self.store.path(TEMPLATE));
        let shape = (self.fit.plan.channels, self.fit.plan.classes);
        Atlas::read(&Stored::read(&bytes, &path)?, shape, &self.fit.config.classical.registration)
    }

    /// The Dice of the atlas on a training case left out of it.
    fn left_out_dice(&self, atlas: &Atlas, number: usize) -> Result<Option<f64>> {
        let Loaded { sample, on_template } = self.load(number, Some(atlas))?;
        let (Some(labels), Some((map, own))) = (&sample.labels, on_template) else { return Ok(None) };
        let Some(alignment) = atlas::Alignment::of(map, None) else { return Ok(None) };
        let frequencies = atlas.frequencies(Some(&own));
        let mut outside = vec![0.0; self.fit.plan.classes];
        outside[0] = 1.0;
        let prior = alignment.onto_case(frequencies.view(), atlas::frame(&sample), &outside);
        Ok(dice(decided(prior.view()).view(), labels.view(), self.fit.plan.classes))
    }
}

/// Whether a class, where a case has it, is one part.
fn has_one_part(labels: ArrayView3<'_, u8>, class: u8) -> bool {
    let parts = components(labels.mapv(|label| label == class).view(), Connectivity::TwentySix);
    let all: u64 = parts.sizes.iter().sum();
    let largest = parts.sizes.iter().copied().max().unwrap_or(0);
    largest as f64 >= ONE_PART * all as f64
}

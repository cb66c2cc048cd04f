//! Makes the batch of a step: a pure function of (seed, step, data, settings).

use std::sync::Arc;
use std::time::Instant;

use super::cut::PatchCut;
use super::sampler::{Purpose, Sampler, Twin, generator};
use super::source::{CaseReader, Labels, SampleSource};
use super::{Batch, Input};
use crate::augment::Draw;
use crate::network::{Field, Padding};
use crate::policy::Policy;
use crate::prepare::{IGNORE, Placement};
use crate::{Error, Result};

/// All that a batch depends on beside its step and the policy.
#[derive(Debug)]
pub(super) struct BatchMaker {
    pub(super) source: Arc<SampleSource>,
    pub(super) sampler: Sampler,
    pub(super) seed: u64,
}

impl BatchMaker {
    /// Draws, cuts and augments the patches of the batch with this number: that of a step, or one of its
    /// [`Redraws`](super::sampler::Redraws).
    ///
    /// # Errors
    /// Where the settings cannot be drawn from, a case cannot be read or does not go with the others.
    pub(super) fn batch(&self, number: u64, policy: &Policy) -> Result<Batch> {
        let began = Instant::now();
        self.check(policy)?;
        let field = self.field()?;
        let (step, purpose) = self.sampler.numbered(number);
        let places = self.sampler.places();
        let mut batch = self.empty(step, places.len(), &field);
        let mut placements = Vec::with_capacity(places.len());
        let mut augmented = false;
        for (index, place) in places.into_iter().enumerate() {
            // Each decision has a generator of its own, so that the same patches are drawn, and lie in the same
            // places, whatever the policy and the method do with them.
            let mut random = generator(self.seed, step, place, Purpose::Placement);
            let case = self.sampler.draw_case(self.source.len(), &mut random);
            let reader = self.source.open(case)?;
            let channels = reader.channels();
            batch.fit_channels(index, channels, reader.id())?;
            let placement = self.sampler.place(place, case, &reader.sites()?, &mut random)?;

            let mut random = generator(self.seed, step, place, purpose);
            let (chosen, mut draw) = policy.draw(placement.centre_class, channels, &mut random);
            let mut gate = generator(self.seed, step, place, Purpose::Gate);
            if !self.sampler.augments(placement.centre_class, &mut gate) {
                draw = Draw::identity();
            }
            augmented |= draw != Draw::identity();

            self.cut(&reader, &field, &placement, &draw, index, &mut batch)?;
            batch.cases.push(reader.id().to_owned());
            batch.centre_classes.push(placement.centre_class);
            batch.sought.push(placement.sought);
            batch.chosen.push(chosen);
            placements.push(placement);
        }
        // Where nothing was augmented the batch is its own raw twin.
        if augmented && self.sampler.twin == Twin::Raw {
            batch.twin = Some(Box::new(self.raw(&batch, &field, &placements)?));
        }
        if self.source.labels() == Labels::Patches {
            batch.label_patches();
        }
        batch.seconds = began.elapsed().as_secs_f64();
        Ok(batch)
    }

    fn check(&self, policy: &Policy) -> Result<()> {
        self.sampler.check()?;
        policy.check()?;
        if self.source.is_empty() {
            return Err(Error::config(
                "training cases",
                "there are none",
                "check the split and `--fraction`",
            ));
        }
        Ok(())
    }

    /// What the network sees of a patch.
    fn field(&self) -> Result<Field> {
        let patch = self.sampler.patch;
        let field = self.source.field(patch);
        if field.output != patch {
            let what = format!("patches of {patch:?} for a network that labels {:?}", field.output);
            return Err(Error::Internal { what });
        }
        Ok(field)
    }

    /// A batch without patches; its inputs have no channels until the first case tells how many there are.
    fn empty(&self, step: u64, batch: usize, field: &Field) -> Batch {
        let [x, y, z] = self.sampler.patch;
        let input = |[x, y, z]: [usize; 3]| Input { values: Vec::new(), shape: [batch, 0, x, y, z] };
        Batch {
            step,
            inputs: field.pathways.iter().map(|pathway| input(pathway.size)).collect(),
            labels: vec![0; batch * x * y * z],
            label_shape: [batch, x, y, z],
            cases: Vec::with_capacity(batch),
            centre_classes: Vec::with_capacity(batch),
            sought: Vec::with_capacity(batch),
            chosen: Vec::with_capacity(batch),
            class_voxels: vec![0; self.source.classes()],
            mixture: None,
            twin: None,
            seconds: 0.0,
        }
    }

    /// The patches of a batch as they are.
    fn raw(&self, batch: &Batch, field: &Field, placements: &[Placement]) -> Result<Batch> {
        let mut raw = batch.clone();
        raw.class_voxels.fill(0);
        for (index, placement) in placements.iter().enumerate() {
            let reader = self.source.open(placement.case)?;
            self.cut(&reader, field, placement, &Draw::identity(), index, &mut raw)?;
        }
        Ok(raw)
    }

    /// Cuts a patch into its place in the batch and counts its voxels.
    fn cut(
        &self,
        reader: &CaseReader<'_>,
        field: &Field,
        placement: &Placement,
        draw: &Draw,
        index: usize,
        batch: &mut Batch,
    ) -> Result<()> {
        let corners = match field.padding {
            Padding::Zero => &[],
            Padding::Corners => self.source.corners(placement.case, reader)?,
        };
        let histograms = self.source.histograms(placement.case);
        let voxels = field.output.iter().product::<usize>();
        let mut inputs: Vec<&mut [f32]> =
            batch.inputs.iter_mut().map(|input| input.sample_mut(index)).collect();
        let labels = &mut batch.labels[index * voxels..(index + 1) * voxels];
        PatchCut { reader, histograms, field, corners, placement }.cut(draw, &mut inputs, labels)?;
        self.add_counts(reader.id(), labels, &mut batch.class_voxels)
    }

    /// Counts a patch's labels by class; an error where one is no class.
    fn add_counts(&self, case: &str, labels: &[u8], class_voxels: &mut [u64]) -> Result<()> {
        for (label, count) in count(labels).into_iter().enumerate().filter(|(_, count)| *count > 0) {
            match class_voxels.get_mut(label) {
                Some(voxels) => *voxels += count,
                None if label == usize::from(IGNORE) => {}
                None => {
                    return Err(Error::config(
                        "training cases",
                        format!(
                            "case `{case}` holds label {label}, but there are {} classes",
                            self.source.classes()
                        ),
                        "prepare the data set again with its current `dataset.json`",
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Batch {
    /// Makes room for the channels of the first patch; refuses a case that has another number of them.
    fn fit_channels(&mut self, index: usize, channels: usize, case: &str) -> Result<()> {
        for input in &mut self.inputs {
            if index == 0 {
                input.shape[1] = channels;
                input.values = vec![0.0; input.shape.iter().product()];
            } else if input.shape[1] != channels {
                return Err(Error::config(
                    "training cases",
                    format!("case `{case}` has {channels} channels, others {}", input.shape[1]),
                    "run `segen check` on the data set",
                ));
            }
        }
        Ok(())
    }

    /// Gives every patch one label, the class of its centre before augmentation.
    fn label_patches(&mut self) {
        self.labels.clone_from(&self.centre_classes);
        self.label_shape = [self.labels.len(), 1, 1, 1];
        if let Some(twin) = &mut self.twin {
            twin.label_patches();
        }
    }
}

/// How often each value occurs. Labels come in long runs, so blocks of one value are counted at once.
fn count(labels: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    let (blocks, rest) = labels.as_chunks::<64>();
    for block in blocks {
        let differs = block.iter().fold(0, |differs, label| differs | (label ^ block[0]));
        if differs == 0 {
            counts[usize::from(block[0])] += 64;
        } else {
            block.iter().for_each(|label| counts[usize::from(*label)] += 1);
        }
    }
    rest.iter().for_each(|label| counts[usize::from(*label)] += 1);
    counts
}

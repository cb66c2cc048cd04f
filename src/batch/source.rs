//! Where the voxels of the training cases are: in memory as far as it reaches, else on disk.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::sampler::Sites;
use crate::Result;
use crate::augment::{Cut, Histograms};
use crate::network::Field;
use crate::prepare::{Geometry, PreparedCase, Sample};

/// The cases that batches are made of. Threads share one.
#[derive(Debug)]
pub struct SampleSource {
    cases: Vec<Case>,
    classes: usize,
    /// What a batch's labels are of.
    labels: Labels,
    /// What the network sees, where that is more than the labelled patch.
    field: Option<Field>,
    /// Means over the corners of the cases, channel by channel, once they have been asked for.
    corners: Vec<OnceLock<Vec<f32>>>,
    /// What changes know of the whole images, once it has been asked for.
    histograms: Vec<Histograms>,
}

/// What a network labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Labels {
    /// Every voxel of a patch.
    Voxels,
    /// A patch as a whole, by the class of its centre before augmentation.
    Patches,
}

#[derive(Debug)]
enum Case {
    Memory(Arc<Sample>),
    /// Read at its first use and from then on in memory.
    Cached(PreparedCase, Mutex<Option<Arc<Sample>>>),
    /// Read anew for every patch, and only what the patch sees.
    Disk(PreparedCase),
}

impl SampleSource {
    /// Samples that are in memory already. `classes` counts the trained classes, background included.
    pub fn in_memory(samples: Vec<Sample>, classes: usize) -> Self {
        Self::new(samples.into_iter().map(|sample| Case::Memory(Arc::new(sample))).collect(), classes)
    }

    /// Cases of the cache, as returned by [`crate::prepare::prepare_all`]. As many as fit into `memory_bytes`
    /// together are kept in memory once they have been read; of the others each patch reads its own part.
    /// Cases are drawn uniformly, so that no choice of those that are kept is better than another.
    pub fn prepared(cases: Vec<PreparedCase>, classes: usize, memory_bytes: u64) -> Self {
        let mut left = memory_bytes;
        let place = |case: PreparedCase| match left.checked_sub(case.bytes()) {
            Some(rest) => {
                left = rest;
                Case::Cached(case, Mutex::new(None))
            }
            None => Case::Disk(case),
        };
        Self::new(cases.into_iter().map(place).collect(), classes)
    }

    fn new(cases: Vec<Case>, classes: usize) -> Self {
        let corners = cases.iter().map(|_| OnceLock::new()).collect();
        let histograms = cases.iter().map(|_| Histograms::new()).collect();
        Self { cases, classes, labels: Labels::Voxels, field: None, corners, histograms }
    }

    /// Makes batches as a network takes them that sees `field`; the sampler's patch is then `field.output`.
    /// Without it a batch has one input, which shows the patch.
    pub fn seen_by(mut self, field: Field) -> Self {
        self.field = Some(field);
        self
    }

    /// Makes batches for a network that classifies whole patches: (batch, 1, 1, 1) labels.
    pub fn of_patches(mut self) -> Self {
        self.labels = Labels::Patches;
        self
    }

    /// What a batch's labels are of.
    pub(super) fn labels(&self) -> Labels {
        self.labels
    }

    /// Edges of the sampler's patch for a network that takes `segment`.
    pub fn patch(&self, segment: [usize; 3]) -> [usize; 3] {
        self.field.as_ref().map_or(segment, |field| field.output)
    }

    /// What batches show for patches of these edges.
    pub(super) fn field(&self, patch: [usize; 3]) -> Field {
        self.field.clone().unwrap_or_else(|| Field::same(patch))
    }

    /// Means over the corners of a case, channel by channel.
    pub(super) fn corners(&self, case: usize, reader: &CaseReader<'_>) -> Result<&[f32]> {
        let known = &self.corners[case];
        if known.get().is_none() {
            // Another thread may have been faster; it found the same.
            drop(known.set(reader.corners()?));
        }
        Ok(known.get().map_or(&[], Vec::as_slice))
    }

    /// What changes know of the whole image of a case.
    pub(super) fn histograms(&self, case: usize) -> &Histograms {
        &self.histograms[case]
    }

    /// Number of cases.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there is no case.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Number of trained classes, background included.
    pub fn classes(&self) -> usize {
        self.classes
    }

    pub(super) fn open(&self, case: usize) -> Result<CaseReader<'_>> {
        Ok(match &self.cases[case] {
            Case::Memory(sample) => CaseReader::Memory(Arc::clone(sample)),
            Case::Disk(case) => CaseReader::Disk(case),
            Case::Cached(case, sample) => {
                // Held while reading, so that no case is read twice. Reading leaves nothing half done.
                let mut sample = sample.lock().unwrap_or_else(PoisonError::into_inner);
                let read = match &*sample {
                    Some(read) => Arc::clone(read),
                    None => Arc::clone(sample.insert(Arc::new(case.load()?))),
                };
                CaseReader::Memory(read)
            }
        })
    }
}

/// A case that patches can be cut from.
pub(super) enum CaseReader<'a> {
    Memory(Arc<Sample>),
    Disk(&'a PreparedCase),
}

impl CaseReader<'_> {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Memory(sample) => &sample.id,
            Self::Disk(case) => &case.id,
        }
    }

    pub(super) fn channels(&self) -> usize {
        match self {
            Self::Memory(sample) => sample.images.dim().0,
            Self::Disk(case) => case.channels,
        }
    }

    pub(super) fn shape(&self) -> [usize; 3] {
        match self {
            Self::Memory(sample) => {
                let (_, x, y, z) = sample.images.dim();
                [x, y, z]
            }
            Self::Disk(case) => case.shape,
        }
    }

    pub(super) fn geometry(&self) -> &Geometry {
        match self {
            Self::Memory(sample) => &sample.geometry,
            Self::Disk(case) => &case.geometry,
        }
    }

    pub(super) fn sites(&self) -> Result<Sites<'_>> {
        match self {
            Self::Memory(sample) => Sites::of_sample(sample),
            Self::Disk(case) => Sites::of_case(case),
        }
    }

    /// Cuts out of the case; see [`Cut::from_sample`].
    pub(super) fn cut(
        &self,
        cut: &Cut<'_>,
        histograms: &Histograms,
        images: &mut [&mut [f32]],
        labels: &mut [u8],
    ) -> Result<()> {
        match self {
            Self::Memory(sample) => {
                cut.from_sample(sample, histograms, images, labels);
                Ok(())
            }
            Self::Disk(case) => cut.from_case(case, histograms, images, labels),
        }
    }
}

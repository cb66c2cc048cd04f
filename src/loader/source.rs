//! Where the voxels of the training cases are: in memory as far as it reaches, else on disk.

use std::sync::{Arc, Mutex, PoisonError};

use crate::Result;
use crate::augment::{Cut, Draw, Grid, Sketches};
use crate::prepare::{PreparedCase, Sample};
use crate::sampler::{Placement, Sites};

/// The cases that batches are made of. Threads share one.
#[derive(Debug)]
pub struct SampleSource {
    cases: Vec<(Case, Sketches)>,
    classes: usize,
}

#[derive(Debug)]
enum Case {
    Memory(Arc<Sample>),
    /// Read at its first use and then kept.
    Kept(PreparedCase, Mutex<Option<Arc<Sample>>>),
    /// Read anew for every patch, and only what the patch sees.
    Disk(PreparedCase),
}

impl SampleSource {
    /// Samples that are in memory already. `classes` counts the trained classes, background included.
    pub fn in_memory(samples: Vec<Sample>, classes: usize) -> Self {
        let case = |sample| (Case::Memory(Arc::new(sample)), Sketches::new());
        Self { cases: samples.into_iter().map(case).collect(), classes }
    }

    /// Cases of the cache, as returned by [`crate::prepare::prepare_all`]. As many as fit into `memory_bytes`
    /// together are kept in memory once they have been read; of the others each patch reads its own part.
    /// Cases are drawn uniformly, so that no choice of those that are kept is better than another.
    pub fn prepared(cases: Vec<PreparedCase>, classes: usize, memory_bytes: u64) -> Self {
        let mut left = memory_bytes;
        let place = |case: PreparedCase| match left.checked_sub(case.bytes()) {
            Some(rest) => {
                left = rest;
                Case::Kept(case, Mutex::new(None))
            }
            None => Case::Disk(case),
        };
        let cases = cases.into_iter().map(place).map(|case| (case, Sketches::new()));
        Self { cases: cases.collect(), classes }
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

    pub(super) fn open(&self, case: usize) -> Result<Opened<'_>> {
        let (case, sketches) = &self.cases[case];
        Ok(match case {
            Case::Memory(sample) => Opened::Memory(Arc::clone(sample), sketches),
            Case::Disk(case) => Opened::Disk(case, sketches),
            Case::Kept(case, sample) => {
                // Held while reading, so that no case is read twice. Reading leaves nothing half done.
                let mut sample = sample.lock().unwrap_or_else(PoisonError::into_inner);
                let read = match &*sample {
                    Some(read) => Arc::clone(read),
                    None => Arc::clone(sample.insert(Arc::new(case.load()?))),
                };
                Opened::Memory(read, sketches)
            }
        })
    }
}

/// A case that patches can be cut from.
pub(super) enum Opened<'a> {
    Memory(Arc<Sample>, &'a Sketches),
    Disk(&'a PreparedCase, &'a Sketches),
}

impl Opened<'_> {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Memory(sample, _) => &sample.id,
            Self::Disk(case, _) => &case.id,
        }
    }

    pub(super) fn channels(&self) -> usize {
        match self {
            Self::Memory(sample, _) => sample.images.dim().0,
            Self::Disk(case, _) => case.channels,
        }
    }

    pub(super) fn sites(&self) -> Result<Sites<'_>> {
        match self {
            Self::Memory(sample, _) => Sites::of_sample(sample),
            Self::Disk(case, _) => Sites::of_case(case),
        }
    }

    pub(super) fn cut(
        &self,
        placement: &Placement,
        patch: [usize; 3],
        draw: &Draw,
        images: &mut [f32],
        labels: &mut [u8],
    ) -> Result<()> {
        let grids = [Grid::patch(patch)];
        let cut = Cut { placement, patch, grids: &grids, draw };
        match self {
            Self::Memory(sample, sketches) => {
                cut.from_sample(sample, sketches, &mut [images], labels);
                Ok(())
            }
            Self::Disk(case, sketches) => cut.from_case(case, sketches, &mut [images], labels),
        }
    }
}

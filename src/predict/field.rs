//! A fully connected random field between a prediction and its label map.

use std::sync::{Mutex, PoisonError};

use ndarray::{Array4, ArrayView4, s};

use super::Segmenter;
use crate::image::crf::{self, Settings};
use crate::prepare::Sample;

/// What another segmenter predicts, refined by a random field on the prepared grid. Takes memory for classes times the sample, and for
/// the field.
#[derive(Debug)]
pub struct Refined {
    inner: Box<dyn Segmenter>,
    settings: Settings,
    notes: Mutex<Vec<String>>,
}

impl Refined {
    /// Refines what `inner` predicts.
    pub fn new(inner: Box<dyn Segmenter>, settings: Settings) -> Self {
        Self { inner, settings, notes: Mutex::default() }
    }
}

impl Segmenter for Refined {
    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn passes(&self, shape: [usize; 3]) -> usize {
        self.inner.passes(shape)
    }

    fn predict(
        &self,
        sample: &Sample,
        planes: &mut dyn FnMut(ArrayView4<f32>),
        advance: &mut dyn FnMut(usize),
    ) {
        let own = probabilities(self.inner.as_ref(), sample, advance);
        let mask = sample.mask.as_ref().map(|mask| mask.view());
        let (images, spacing) = (sample.images.view(), sample.geometry.spacing);
        match crf::refine(own.view(), images, mask, spacing, &self.settings) {
            Ok(refined) => planes(refined.view()),
            Err(crf::OutOfRange) => {
                let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
                notes.push(format!(
                    "warning: {}: left as it was predicted: its voxels extend over too many standard deviations of the random \
                     field; larger `millimetres` and `intensity` mend that",
                    sample.id
                ));
                planes(own.view());
            }
        }
    }

    fn take_notes(&self) -> Vec<String> {
        let mut notes = self.inner.take_notes();
        notes.append(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        notes
    }
}

/// All probabilities of a sample, (class, x, y, z).
pub fn probabilities(
    segmenter: &dyn Segmenter,
    sample: &Sample,
    advance: &mut dyn FnMut(usize),
) -> Array4<f32> {
    let [x, y, z] = sample.geometry.shape;
    let mut all = Array4::zeros((segmenter.classes(), x, y, z));
    let mut at = 0;
    let mut keep = |planes: ArrayView4<f32>| {
        let count = planes.dim().1;
        all.slice_mut(s![.., at..at + count, .., ..]).assign(&planes);
        at += count;
    };
    segmenter.predict(sample, &mut keep, advance);
    all
}

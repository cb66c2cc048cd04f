//! The tape: what a forward pass leaves behind so that gradients can go back.
//!
//! An operator that has an input of a recording writes one step: which steps its inputs come from, and a closure that
//! turns the gradient of its output into those of its inputs. The closure owns what it needs and nothing else. A backward
//! pass takes the steps from the last to the first and frees each as it goes.

use std::sync::{Arc, Mutex, PoisonError};

use crate::array::{Array, Values};
use crate::cpu::arithmetic;
use crate::settings::Settings;

/// A forward pass being recorded. Its leaves are what gradients are wanted of.
///
/// ```
/// use segen_kernels::{Array, Device, Recording};
///
/// let recording = Recording::new();
/// let x = recording.leaf(Array::from_host(vec![1.0, 2.0], &[2], &Device::Cpu));
/// let y = x.scale(3.0);
/// // The gradient of y0 + 10 y1.
/// assert_eq!(recording.backward(vec![(y, vec![1.0, 10.0])]), [[3.0, 30.0]]);
/// ```
#[derive(Debug, Default)]
pub struct Recording(Arc<Mutex<Tape>>);

/// Where a recording knows an array.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    tape: Arc<Mutex<Tape>>,
    step: usize,
}

#[derive(Debug, Default)]
struct Tape {
    steps: Vec<Step>,
}

enum Step {
    Leaf {
        values: usize,
    },
    Operator {
        /// The steps that the inputs come from; none for a constant.
        inputs: Vec<Option<usize>>,
        backward: Box<Backward>,
    },
}

/// From the gradient of the output, and which inputs want theirs, to the gradients of the inputs.
type Backward = dyn FnOnce(&Values, &[bool]) -> Vec<Option<Values>> + Send;

impl std::fmt::Debug for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Leaf { values } => write!(formatter, "a leaf of {values} values"),
            Self::Operator { inputs, .. } => write!(formatter, "an operator of {inputs:?}"),
        }
    }
}

impl Place {
    fn push(tape: &Arc<Mutex<Tape>>, step: Step) -> Self {
        let steps = &mut tape.lock().unwrap_or_else(PoisonError::into_inner).steps;
        steps.push(step);
        Self { tape: tape.clone(), step: steps.len() - 1 }
    }
}

impl Recording {
    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The array as one whose gradient is wanted.
    pub fn leaf(&self, array: Array) -> Array {
        let values = array.values().len();
        array.at(Place::push(&self.0, Step::Leaf { values }))
    }

    /// The gradients of all leaves, in the order in which they were made, each row-major: of the sum over the ends of
    /// `sum(array * slope)`, zeros where it does not depend on a leaf. An end that is a constant adds nothing. Ends the
    /// recording: what it kept is freed on the way.
    ///
    /// # Panics
    /// An end of another recording, or slopes of another number than its values.
    pub fn backward(self, ends: Vec<(Array, Vec<f32>)>) -> Vec<Vec<f32>> {
        let settings = Settings::current();
        let mut steps = std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).steps);
        let mut gradients: Vec<Option<Values>> = vec![None; steps.len()];
        for (array, slopes) in ends {
            assert_eq!(array.values().len(), slopes.len(), "backward: one slope per value is needed");
            if let Some(place) = array.place() {
                assert!(Arc::ptr_eq(&place.tape, &self.0), "backward: the array is of another recording");
                add(&settings, &mut gradients[place.step], slopes.into());
            }
        }
        let mut leaves = vec![];
        while let Some(step) = steps.pop() {
            let gradient = gradients.pop().flatten();
            match step {
                Step::Leaf { values } => leaves.push((gradient, values)),
                Step::Operator { inputs, backward } => {
                    let Some(gradient) = gradient else { continue };
                    let wanted: Vec<bool> = inputs.iter().map(Option::is_some).collect();
                    let results = backward(&gradient, &wanted);
                    drop(gradient);
                    for (input, result) in inputs.into_iter().zip(results) {
                        if let (Some(step), Some(result)) = (input, result) {
                            add(&settings, &mut gradients[step], result);
                        }
                    }
                }
            }
        }
        let host = |(gradient, values): (Option<Values>, usize)| match gradient {
            Some(gradient) => gradient.into_host(),
            None => vec![0.0; values],
        };
        leaves.into_iter().rev().map(host).collect()
    }
}

/// Adds to a gradient. Two parts have one sum in either order, so that nothing depends on the order of the steps of
/// arrays that are used twice.
fn add(settings: &Settings, sum: &mut Option<Values>, part: Values) {
    let Some(mut one) = sum.take() else {
        *sum = Some(part);
        return;
    };
    let mut other = part;
    if let Some(values) = one.own() {
        arithmetic::add_to(settings, values, &other);
        *sum = Some(one);
    } else if let Some(values) = other.own() {
        arithmetic::add_to(settings, values, &one);
        *sum = Some(other);
    } else {
        *sum = Some(arithmetic::sum(settings, &one, &other).into());
    }
}

/// Gives the output of an operator its place in the recording of its inputs, if any of them has one. `backward` makes of
/// the gradient of the output those of the inputs, of which the ones not wanted may be left out; what it owns is kept
/// until then.
///
/// # Panics
/// Inputs of different recordings.
pub(crate) fn record<const N: usize>(
    inputs: [Option<&Array>; N],
    output: Array,
    backward: impl FnOnce(&Values, [bool; N]) -> [Option<Values>; N] + Send + 'static,
) -> Array {
    let places = inputs.map(|input| input.and_then(Array::place));
    let Some(first) = places.iter().flatten().next() else { return output };
    let one = places.iter().flatten().all(|place| Arc::ptr_eq(&place.tape, &first.tape));
    assert!(one, "the inputs of an operator are of different recordings");
    let step = Step::Operator {
        inputs: places.iter().map(|place| place.map(|place| place.step)).collect(),
        backward: Box::new(move |gradient, wanted| {
            backward(gradient, std::array::from_fn(|i| wanted[i])).into()
        }),
    };
    let place = Place::push(&first.tape, step);
    output.at(place)
}

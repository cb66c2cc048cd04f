//! Maps of one axis: what edge padding and upsampling are made of.
//!
//! Both operators act on x, y and z independently: every output of an axis is a copy of an input of that axis. So one
//! operator serves both, and its gradient, for which every output is a sum of inputs, is the same operator with the maps
//! transposed.

/// For every output of an axis the indices of the inputs that it is the sum of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AxisMap {
    inputs: usize,
    terms: Vec<Vec<usize>>,
}

impl AxisMap {
    /// The inputs with the first and the last repeated `count` times.
    pub(crate) fn replicate(inputs: usize, count: usize) -> Self {
        Self::copies(
            inputs,
            (0..inputs + 2 * count).map(|i| i.saturating_sub(count).min(inputs - 1)).collect(),
        )
    }

    /// Every input `factor` times, of which the first `count` outputs stay.
    pub(crate) fn repeat(inputs: usize, factor: usize, count: usize) -> Self {
        Self::copies(inputs, (0..count).map(|i| i / factor).collect())
    }

    fn copies(inputs: usize, indices: Vec<usize>) -> Self {
        Self { inputs, terms: indices.into_iter().map(|index| vec![index]).collect() }
    }

    /// Number of outputs.
    pub(crate) fn outputs(&self) -> usize {
        self.terms.len()
    }

    /// The terms of output `index`.
    pub(crate) fn terms(&self, index: usize) -> &[usize] {
        &self.terms[index]
    }

    /// The map by which gradients go back.
    pub(crate) fn transposed(&self) -> Self {
        let mut terms = vec![vec![]; self.inputs];
        for (output, inputs) in self.terms.iter().enumerate() {
            for &input in inputs {
                terms[input].push(output);
            }
        }
        Self { inputs: self.terms.len(), terms }
    }

    /// Whether the outputs are the inputs.
    pub(crate) fn is_identity(&self) -> bool {
        self.inputs == self.outputs()
            && self.terms.iter().enumerate().all(|(i, terms)| terms.as_slice() == [i])
    }
}

//! Linear maps of one axis: what cropping, edge padding, upsampling and average pooling are made of.
//!
//! Each of these operators acts on x, y and z independently: every output of an axis is a weighted sum of a few
//! inputs of that axis. So one operator serves them all, and its gradient is the same operator with the maps
//! transposed.

/// For every output of an axis the inputs that it is made of, (index, weight).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AxisMap {
    inputs: usize,
    terms: Vec<Vec<(usize, f32)>>,
}

impl AxisMap {
    /// The `count` inputs from `start`.
    pub(crate) fn crop(inputs: usize, start: usize, count: usize) -> Self {
        Self::copies(inputs, (start..start + count).collect())
    }

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

    /// Linear interpolation at the centres of `factor` times as many cells, constant beyond the outer centres:
    /// PyTorch's `align_corners = False`.
    pub(crate) fn linear(inputs: usize, factor: usize) -> Self {
        let place = |i: usize| ((i as f64 + 0.5) / factor as f64 - 0.5).clamp(0.0, (inputs - 1) as f64);
        let terms = (0..inputs * factor).map(|i| {
            let (below, share) = (place(i).floor(), place(i).fract());
            let below = below as usize;
            match share {
                0.0 => vec![(below, 1.0)],
                _ => vec![(below, (1.0 - share) as f32), (below + 1, share as f32)],
            }
        });
        Self { inputs, terms: terms.collect() }
    }

    /// Means of `kernel` neighbours, `stride` apart.
    pub(crate) fn average(inputs: usize, kernel: usize, stride: usize) -> Self {
        let weight = (1.0 / kernel as f64) as f32;
        let outputs = (inputs - kernel) / stride + 1;
        let terms = (0..outputs).map(|i| (i * stride..i * stride + kernel).map(|j| (j, weight)).collect());
        Self { inputs, terms: terms.collect() }
    }

    fn copies(inputs: usize, indices: Vec<usize>) -> Self {
        Self { inputs, terms: indices.into_iter().map(|index| vec![(index, 1.0)]).collect() }
    }

    /// Number of outputs.
    pub(crate) fn outputs(&self) -> usize {
        self.terms.len()
    }

    /// The terms of output `index`.
    pub(crate) fn terms(&self, index: usize) -> &[(usize, f32)] {
        &self.terms[index]
    }

    /// The map by which gradients go back.
    pub(crate) fn transposed(&self) -> Self {
        let mut terms = vec![vec![]; self.inputs];
        for (output, inputs) in self.terms.iter().enumerate() {
            for &(input, weight) in inputs {
                terms[input].push((output, weight));
            }
        }
        Self { inputs: self.terms.len(), terms }
    }

    /// Whether the outputs are the inputs.
    pub(crate) fn is_identity(&self) -> bool {
        self.inputs == self.outputs()
            && self.terms.iter().enumerate().all(|(i, terms)| terms.as_slice() == [(i, 1.0)])
    }
}

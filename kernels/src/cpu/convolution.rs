//! Convolution and transposed convolution with their gradients, as sums over taps.

use super::buffer::{Buffer, Shared};
use super::correlate::{Axis, Packed, Place, Source, correlate, correlate_gradient};
use super::simd::vectorise;
use super::winograd::{self, Filtered};
use crate::settings::Settings;

/// Sizes of a convolution: input (batch, size, input channels), weight (output, input, kernel), output
/// (batch, [`Self::output_size`], output channels).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convolution {
    pub(crate) batch: usize,
    pub(crate) size: [usize; 3],
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    pub(crate) padding: [usize; 3],
}

impl Convolution {
    pub(crate) fn output_size(&self) -> [usize; 3] {
        std::array::from_fn(|i| (self.size[i] + 2 * self.padding[i] - self.kernel[i]) / self.stride[i] + 1)
    }

    /// The same convolution with last axes of one voxel and one tap moved to the front, which changes no array: the
    /// inner loops run along the last axis, so that a flat image is as fast as a volume.
    fn flat_axes_first(mut self) -> Self {
        for _ in 0..2 {
            if self.size[2] == 1 && self.kernel[2] == 1 {
                for axes in [&mut self.size, &mut self.kernel, &mut self.stride, &mut self.padding] {
                    axes.rotate_right(1);
                }
            }
        }
        self
    }

    fn source<'a>(&self, x: &'a [f32]) -> Source<'a> {
        let count = self.output_size();
        let axes = std::array::from_fn(|i| Axis {
            taps: self.kernel[i],
            first: -(self.padding[i] as isize),
            step: self.stride[i],
            source: self.size[i],
            count: count[i],
        });
        Source { values: x, batch: self.batch, channels: self.input, axes }
    }

    /// Index into a weight (output, input, kernel).
    fn weight(&self, output: usize, input: usize, [x, y, z]: [usize; 3]) -> usize {
        let [kx, ky, kz] = self.kernel;
        (((output * self.input + input) * kx + x) * ky + y) * kz + z
    }

    pub(crate) fn forward(&self, settings: &Settings, x: &[f32], weight: &[f32], bias: &[f32]) -> Buffer {
        let this = self.flat_axes_first();
        let count = this.output_size();
        let mut out = Buffer::new(self.batch * count.iter().product::<usize>() * self.output);
        let source = this.source(x);
        let weight = |tap, input, output| weight[this.weight(output, input, tap)];
        if winograd::suits(settings, &source, self.output) {
            let filtered = Filtered::of_activations(&source, settings);
            let weights = winograd::Transformed::new(settings, &source, filtered, self.output, weight);
            winograd::correlate(settings, &source, &weights, bias, Shared::new(&mut out));
        } else {
            let packed = Packed::new(settings, count[2], this.kernel, self.input, self.output, weight);
            let places = count.map(|size| Place { first: 0, step: 1, size });
            correlate(settings, &source, &packed, bias, Shared::new(&mut out), places);
        }
        out
    }

    /// Gradient of the input. Input voxels fall into classes by their position modulo the stride; those of one class
    /// depend on the gradient of the output through the same taps, so that each class is a sum over taps of its own.
    pub(crate) fn input_gradient(&self, settings: &Settings, weight: &[f32], gradient: &[f32]) -> Buffer {
        self.flat_axes_first().input_gradient_in_order(settings, weight, gradient)
    }

    fn input_gradient_in_order(&self, settings: &Settings, weight: &[f32], gradient: &[f32]) -> Buffer {
        let count = self.output_size();
        let [sx, sy, sz] = self.stride;
        let mut out = Buffer::new(self.batch * self.size.iter().product::<usize>() * self.input);
        let shared = Shared::new(&mut out);
        let zeros = vec![0.0; self.input];
        for class in 0..sx * sy * sz {
            let class = [class / (sy * sz), class / sz % sy, class % sz];
            // Taps of this class: `first_tap + stride m`, reading output `i + shift - m` for the i-th voxel.
            let first_tap: [usize; 3] =
                std::array::from_fn(|i| (class[i] + self.padding[i]) % self.stride[i]);
            let axes: [Axis; 3] = std::array::from_fn(|i| {
                let taps = self.kernel[i].saturating_sub(first_tap[i]).div_ceil(self.stride[i]);
                let shift = (class[i] + self.padding[i]) / self.stride[i];
                Axis {
                    taps,
                    first: shift as isize + 1 - taps as isize,
                    step: 1,
                    source: count[i],
                    count: self.size[i].saturating_sub(class[i]).div_ceil(self.stride[i]),
                }
            });
            if axes.iter().any(|axis| axis.count == 0) {
                continue;
            }
            let taps = axes.map(|axis| axis.taps);
            let weight = |tap: [usize; 3], output, input| {
                // Neighbours of the source in ascending order meet the taps in descending order.
                let tap = std::array::from_fn(|i| first_tap[i] + (taps[i] - 1 - tap[i]) * self.stride[i]);
                weight[self.weight(output, input, tap)]
            };
            let source = Source { values: gradient, batch: self.batch, channels: self.output, axes };
            if winograd::suits(settings, &source, self.input) {
                let filtered = Filtered::most(&source);
                let weights = winograd::Transformed::new(settings, &source, filtered, self.input, weight);
                winograd::correlate(settings, &source, &weights, &zeros, shared);
                continue;
            }
            let packed = Packed::new(settings, axes[2].count, taps, self.output, self.input, weight);
            let places =
                std::array::from_fn(|i| Place { first: class[i], step: self.stride[i], size: self.size[i] });
            correlate(settings, &source, &packed, &zeros, shared, places);
        }
        out
    }

    /// Gradient of the weight, (output, input, kernel).
    pub(crate) fn weight_gradient(&self, settings: &Settings, x: &[f32], gradient: &[f32]) -> Buffer {
        let mut out = Buffer::new(self.output * self.input * self.kernel.iter().product::<usize>());
        let shared = Shared::new(&mut out);
        let this = self.flat_axes_first();
        let source = this.source(x);
        let write = |tap, input, first, values: &[f32]| {
            for (column, value) in values.iter().enumerate() {
                // SAFETY: every weight is written once.
                unsafe { *shared.at(this.weight(first + column, input, tap)) = *value };
            }
        };
        if winograd::suits_gradient(settings, &source, self.output) {
            winograd::correlate_gradient(settings, &source, gradient, self.output, write);
        } else {
            correlate_gradient(settings, &source, gradient, self.output, write);
        }
        out
    }
}

/// Sizes of a transposed convolution whose stride is its kernel: input (batch, size, input channels), weight
/// (input, output, kernel), output (batch, size kernel, output channels).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transposed {
    pub(crate) batch: usize,
    pub(crate) size: [usize; 3],
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) kernel: [usize; 3],
}

impl Transposed {
    pub(crate) fn output_size(&self) -> [usize; 3] {
        std::array::from_fn(|i| self.size[i] * self.kernel[i])
    }

    /// The convolution of which this is the transpose: from the output back to the input, its weight (input, output,
    /// kernel) the same array.
    fn convolution(&self) -> Convolution {
        Convolution {
            batch: self.batch,
            size: self.output_size(),
            input: self.output,
            output: self.input,
            kernel: self.kernel,
            stride: self.kernel,
            padding: [0; 3],
        }
    }

    /// Every input voxel gives kernel x * kernel y rows of kernel z * output channels, neighbours in the output.
    pub(crate) fn forward(&self, settings: &Settings, x: &[f32], weight: &[f32], bias: &[f32]) -> Buffer {
        let [kx, ky, kz] = self.kernel;
        let [ox, oy, oz] = self.output_size();
        let mut out = Buffer::new(self.batch * ox * oy * oz * self.output);
        let shared = Shared::new(&mut out);
        let axes = self.size.map(|size| Axis { taps: 1, first: 0, step: 1, source: size, count: size });
        let source = Source { values: x, batch: self.batch, channels: self.input, axes };
        let columns = kz * self.output;
        let bias = bias.repeat(kz);
        for (i, j) in (0..kx).flat_map(|i| (0..ky).map(move |j| (i, j))) {
            let packed =
                Packed::new(settings, self.size[2], [1; 3], self.input, columns, |_, input, column| {
                    let (k, output) = (column / self.output, column % self.output);
                    weight[(((input * self.output + output) * kx + i) * ky + j) * kz + k]
                });
            let places = [
                Place { first: i, step: kx, size: ox },
                Place { first: j, step: ky, size: oy },
                Place { first: 0, step: 1, size: self.size[2] },
            ];
            correlate(settings, &source, &packed, &bias, shared, places);
        }
        out
    }

    pub(crate) fn input_gradient(&self, settings: &Settings, weight: &[f32], gradient: &[f32]) -> Buffer {
        self.convolution().forward(settings, gradient, weight, &vec![0.0; self.input])
    }

    /// Gradient of the weight, (input, output, kernel).
    pub(crate) fn weight_gradient(&self, settings: &Settings, x: &[f32], gradient: &[f32]) -> Buffer {
        self.convolution().weight_gradient(settings, gradient, x)
    }
}

/// Sum of a (position, channel) array over the positions: the gradient of a bias. Short runs are summed in f32, these
/// sums in f64.
pub(crate) fn sum_per_channel(settings: &Settings, values: &[f32], channels: usize) -> Buffer {
    const CHUNK: usize = 4096;
    const RUN: usize = 16;
    let positions = values.len() / channels.max(1);
    let chunks = positions.div_ceil(CHUNK);
    let mut partial = vec![0.0_f64; chunks * channels];
    let shared = Shared::new(&mut partial);
    settings.parallel(chunks, |chunk| {
        // SAFETY: every chunk has its own part.
        let sums = unsafe { shared.part(chunk * channels, channels) };
        let mut run_sums = vec![0.0_f32; channels];
        let last = (chunk * CHUNK + CHUNK).min(positions);
        vectorise(settings.path(), || {
            for run in values[chunk * CHUNK * channels..last * channels].chunks(RUN * channels) {
                run_sums.fill(0.0);
                for position in run.chunks_exact(channels) {
                    for (sum, value) in run_sums.iter_mut().zip(position) {
                        *sum += value;
                    }
                }
                for (sum, value) in sums.iter_mut().zip(&run_sums) {
                    *sum += f64::from(*value);
                }
            }
        });
    });
    let mut sums = vec![0.0_f64; channels];
    for chunk in partial.chunks_exact(channels) {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    let mut out = Buffer::new(channels);
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = sum as f32;
    }
    out
}

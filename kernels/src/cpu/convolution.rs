//! Convolution and transposed convolution with their gradients, as sums over taps.

use super::buffer::{Buffer, Shared};
use super::correlate::{Axis, Packed, Place, Run, Source, correlate, correlate_gradient};
use super::simd::{Row, vectorise};
use super::winograd::{self, Filtered, across};
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
        let mut out = Buffer::new(self.batch * this.output_size().iter().product::<usize>() * self.output);
        let source = this.source(x);
        let run = Run::of(settings, self.output, source.axes[2].count, 1);
        let of_runs = run.source(&source);
        let columns = run.places * self.output;
        let runs_across = across::suits(settings, &of_runs, columns, run.places);
        if !runs_across && winograd::suits(settings, &source, self.output) {
            let weight = |tap, input, output| weight[this.weight(output, input, tap)];
            let filtered = Filtered::of_activations(&source, settings);
            let weights = winograd::Transformed::new(settings, &source, filtered, self.output, weight);
            winograd::correlate(settings, &source, &weights, bias, Shared::new(&mut out));
            return out;
        }
        let source = of_runs;
        let bias = bias.repeat(run.places);
        let weight = |[x, y, z]: [usize; 3], input, column| {
            let (place, output) = (column / self.output, column % self.output);
            match z.checked_sub(place * this.stride[2]) {
                Some(z) if z < this.kernel[2] => weight[this.weight(output, input, [x, y, z])],
                _ => 0.0,
            }
        };
        if runs_across {
            across::correlate(settings, &source, columns, weight, &bias, Shared::new(&mut out));
            return out;
        }
        let (taps, count) = (source.axes.map(|axis| axis.taps), source.axes.map(|axis| axis.count));
        let packed = Packed::new(settings, count[2], taps, self.input, columns, weight);
        let places = count.map(|size| Place { first: 0, step: 1, size });
        correlate(settings, &source, &packed, &bias, Shared::new(&mut out), places);
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
        // Voxels along z that are columns of one sum have neighbouring classes.
        let run = Run::of(settings, self.input, self.size[2], sz);
        let z_classes = if run.places == 1 { sz } else { 1 };
        for class in 0..sx * sy * z_classes {
            let class = [class / (sy * z_classes), class / z_classes % sy, class % z_classes];
            let [tx, ty] = [0, 1].map(|i| self.taps_to_input(i, class[i], 1));
            let tz = self.taps_to_input(2, class[2], run.places);
            let taps = [tx, ty, tz];
            let axes: [Axis; 3] = std::array::from_fn(|i| taps[i].axis(count[i]));
            if axes.iter().any(|axis| axis.count == 0) {
                continue;
            }
            let source = Source { values: gradient, batch: self.batch, channels: self.output, axes };
            let columns = run.places * self.input;
            let weight = |tap: [usize; 3], output, column| {
                let place = column / self.input;
                let taps = [tx.tap(tap[0], 0), ty.tap(tap[1], 0), tz.tap(tap[2], place)];
                match taps {
                    [Some(x), Some(y), Some(z)] => {
                        weight[self.weight(output, column % self.input, [x, y, z])]
                    }
                    _ => 0.0,
                }
            };
            let zeros = vec![0.0; columns];
            if self.stride == [1; 3] && across::suits(settings, &source, columns, run.places) {
                across::correlate(settings, &source, columns, weight, &zeros, shared);
                continue;
            }
            if winograd::suits(settings, &source, columns) {
                let filtered = Filtered::most(&source);
                let weights = winograd::Transformed::new(settings, &source, filtered, columns, weight);
                winograd::correlate(settings, &source, &weights, &zeros, shared);
                continue;
            }
            let packed = Packed::new(
                settings,
                axes[2].count,
                axes.map(|axis| axis.taps),
                self.output,
                columns,
                weight,
            );
            let mut places: [Place; 3] =
                std::array::from_fn(|i| Place { first: class[i], step: self.stride[i], size: self.size[i] });
            if run.places > 1 {
                places[2] = Place { first: 0, step: 1, size: axes[2].count };
            }
            correlate(settings, &source, &packed, &zeros, shared, places);
        }
        out
    }

    /// How voxels of the input along axis `axis`, `places` neighbours at a time of which the first is of the class
    /// `class`, depend on the gradient of the output.
    fn taps_to_input(&self, axis: usize, class: usize, places: usize) -> TapsToInput {
        let [kernel, stride, padding] = [self.kernel[axis], self.stride[axis], self.padding[axis]];
        // A single voxel stands for all of its class.
        let outputs_per_run = places.div_ceil(stride);
        let distance = if places == 1 { stride } else { places };
        let mut this = TapsToInput {
            kernel,
            stride,
            offset: class + padding,
            first: 0,
            taps: 0,
            step: outputs_per_run,
            count: self.size[axis].saturating_sub(class).div_ceil(distance),
        };
        let reach = |place: usize| {
            let last = (class + place + padding) / stride;
            let first_tap = (class + place + padding) % stride;
            let taps = kernel.saturating_sub(first_tap).div_ceil(stride);
            (last as isize + 1 - taps as isize, last as isize + 1)
        };
        let first = (0..places).map(|place| reach(place).0).min().unwrap_or(0);
        let end = (0..places).map(|place| reach(place).1).max().unwrap_or(0);
        (this.first, this.taps) = (first, (end - first) as usize);
        this
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
        let run = Run::of(settings, self.output, source.axes[2].count, 1);
        let of_runs = run.source(&source);
        let runs_across = across::suits(settings, &of_runs, run.places * self.output, run.places);
        if !runs_across && winograd::suits_gradient(settings, &source, self.output) {
            winograd::correlate_gradient(settings, &source, gradient, self.output, write);
            return out;
        }
        if !runs_across && run.places == 1 {
            correlate_gradient(settings, &source, gradient, self.output, write);
            return out;
        }
        // Each output of a run has sums of its own, of which those of one tap are added.
        let source = of_runs;
        let [tx, ty, tz] = source.axes.map(|axis| axis.taps);
        let columns = run.places * self.output;
        let mut sums = Buffer::new(tx * ty * tz * self.input * columns);
        let all = Shared::new(&mut sums);
        let keep = |[x, y, z]: [usize; 3], input, first, values: &[f32]| {
            let row = (((x * ty + y) * tz + z) * self.input + input) * columns;
            // SAFETY: every sum is written once.
            unsafe { all.part(row + first, values.len()) }.copy_from_slice(values);
        };
        if runs_across {
            across::correlate_gradient(settings, &source, gradient, columns, keep);
        } else {
            correlate_gradient(settings, &source, gradient, columns, keep);
        }
        let [kx, ky, kz] = this.kernel;
        for (x, y, z) in (0..kx * ky * kz).map(|tap| (tap / (ky * kz), tap / kz % ky, tap % kz)) {
            for (input, output) in (0..self.input).flat_map(|i| (0..self.output).map(move |o| (i, o))) {
                let of_place = |place: usize| {
                    let z = z + place * this.stride[2];
                    sums[(((x * ty + y) * tz + z) * self.input + input) * columns
                        + place * self.output
                        + output]
                };
                let sum: f64 = (0..run.places).map(|place| f64::from(of_place(place))).sum();
                write([x, y, z], input, output, &[sum as f32]);
            }
        }
        out
    }
}

/// How the voxels of an input along one axis depend on the gradient of the output: neighbours of the source, in ascending
/// order, meet the taps in descending order, every stride-th one.
#[derive(Clone, Copy)]
struct TapsToInput {
    kernel: usize,
    stride: usize,
    /// Of the first voxel, counted from the first that an output reads.
    offset: usize,
    first: isize,
    taps: usize,
    step: usize,
    count: usize,
}

impl TapsToInput {
    fn axis(self, source: usize) -> Axis {
        Axis { taps: self.taps, first: self.first, step: self.step, source, count: self.count }
    }

    /// The tap of the kernel that the neighbour `neighbour` of the source meets at the voxel `place` of a run.
    fn tap(self, neighbour: usize, place: usize) -> Option<usize> {
        let output = self.first + neighbour as isize;
        let tap = (self.offset + place) as isize - output * self.stride as isize;
        usize::try_from(tap).ok().filter(|&tap| tap < self.kernel)
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
    const RUN: usize = 64;
    let positions = values.len() / channels.max(1);
    let chunks = positions.div_ceil(CHUNK);
    let mut partial = vec![0.0_f64; chunks * channels];
    let shared = Shared::new(&mut partial);
    settings.parallel(chunks, |chunk| {
        // SAFETY: every chunk has its own part.
        let sums = unsafe { shared.part(chunk * channels, channels) };
        let width = channels * Row::of(settings.path(), channels).positions;
        let mut run_sums = vec![0.0_f32; width];
        let last = (chunk * CHUNK + CHUNK).min(positions);
        vectorise(settings.path(), || {
            for run in values[chunk * CHUNK * channels..last * channels].chunks(RUN * channels) {
                run_sums.fill(0.0);
                for row in run.chunks(width) {
                    for (sum, value) in run_sums.iter_mut().zip(row) {
                        *sum += value;
                    }
                }
                for run_sums in run_sums.chunks_exact(channels) {
                    for (sum, value) in sums.iter_mut().zip(run_sums) {
                        *sum += f64::from(*value);
                    }
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

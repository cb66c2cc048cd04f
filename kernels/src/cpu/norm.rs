//! Normalisation per channel fused with a leaky nonlinearity: `y = f((x - mean) / sqrt(variance + epsilon) * weight +
//! bias)` with `f(v) = v > 0 ? v : slope v`, one slope per channel.
//!
//! Instance norm has statistics of its own for each sample. Batch norm is the same with the whole batch as one sample.
//! With statistics that are given, the operator is no more than a scale, a shift and the nonlinearity; so is a bias
//! with a nonlinearity.

mod loops;

use super::buffer::{Buffer, Shared};
use super::simd::Row;
use crate::settings::Settings;
use loops::{gradient_of_input, normalise, sum_differences, sum_gradients};

/// Sizes and constants of the operator: input and output (batch, positions, channels), statistics (batch, channels).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    pub(crate) batch: usize,
    pub(crate) positions: usize,
    pub(crate) channels: usize,
    pub(crate) epsilon: f64,
}

/// The parameters of the operator, one value per channel each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) slope: &'a [f32],
}

/// Mean, biased variance and 1 / sqrt(variance + epsilon), each (batch, channels).
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    pub(crate) mean: Vec<f32>,
    pub(crate) variance: Vec<f32>,
    inverse_deviation: Vec<f32>,
}

/// Where the statistics come from, which decides whether the gradient of the input passes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From the input itself.
    Input,
    /// Given; constants.
    Given,
}

/// Gradients of the input and the parameters.
#[derive(Debug)]
pub(crate) struct Gradients {
    pub(crate) x: Buffer,
    pub(crate) weight: Buffer,
    pub(crate) bias: Buffer,
    pub(crate) slope: Buffer,
}

/// Values per chunk of a sum: fixed, so that results do not depend on the number of threads.
const CHUNK: usize = 32 * 1024;
/// Positions that are summed in f32 before f64 takes over.
const RUN: usize = 128;

impl Norm {
    fn chunk(&self) -> usize {
        (CHUNK / self.channels.max(1)).max(1)
    }

    /// Calls `task(n, chunk, first value, values)` for every chunk of positions, in parallel.
    fn chunks(&self, settings: &Settings, task: impl Fn(usize, usize, usize, usize) + Sync) {
        let chunks = self.positions.div_ceil(self.chunk());
        settings.parallel(self.batch * chunks, |index| {
            let (n, chunk) = (index / chunks, index % chunks);
            let first = chunk * self.chunk();
            let count = self.chunk().min(self.positions - first);
            task(n, index, (n * self.positions + first) * self.channels, count * self.channels);
        });
    }

    /// Sums `SUMS` values per channel over the positions in f64: `run_sums(n, values range, sums)` adds one run to sums that
    /// have a value for each of a [`Row`].
    fn sums<const SUMS: usize>(
        &self,
        settings: &Settings,
        run_sums: impl Fn(usize, std::ops::Range<usize>, &mut [Vec<f32>; SUMS]) + Sync,
    ) -> Vec<[f64; SUMS]> {
        let channels = self.channels;
        let width = channels * Row::of(settings.path(), channels).positions;
        let chunks = self.positions.div_ceil(self.chunk());
        let mut partial = vec![[0.0_f64; SUMS]; self.batch * chunks * channels];
        let shared_partial = Shared::new(&mut partial);
        self.chunks(settings, |n, index, first, length| {
            let mut total = vec![[0.0_f64; SUMS]; channels];
            let mut rows: [Vec<f32>; SUMS] = std::array::from_fn(|_| vec![0.0; width]);
            for start in (first..first + length).step_by(RUN * channels) {
                rows.iter_mut().for_each(|row| row.fill(0.0));
                run_sums(n, start..(start + RUN * channels).min(first + length), &mut rows);
                for column in 0..width {
                    for (total, row) in total[column % channels].iter_mut().zip(&rows) {
                        *total += f64::from(row[column]);
                    }
                }
            }
            // SAFETY: every chunk has its own part.
            unsafe { shared_partial.part(index * channels, channels) }.copy_from_slice(&total);
        });
        let mut sums = vec![[0.0_f64; SUMS]; self.batch * channels];
        for (index, chunk) in partial.chunks_exact(channels).enumerate() {
            for (sum, values) in sums[index / chunks * channels..].iter_mut().zip(chunk) {
                for (sum, value) in sum.iter_mut().zip(values) {
                    *sum += value;
                }
            }
        }
        sums
    }

    /// Constants (batch, channels) as rows, for each of the batch.
    fn rows<const N: usize>(&self, row: Row, constants: [&[f32]; N]) -> Vec<[Vec<f32>; N]> {
        let of =
            |n: usize| constants.map(|values| row.constants(&values[n * self.channels..][..self.channels]));
        (0..self.batch).map(of).collect()
    }

    /// Mean and biased variance of the input.
    pub(crate) fn statistics(&self, settings: &Settings, x: &[f32]) -> Statistics {
        let channels = self.channels;
        // Sums of differences from the first voxel, so that a large mean costs no digits of the variance.
        let origin = |n: usize| &x[n * self.positions * channels..][..channels];
        let row = Row::of(settings.path(), channels);
        let origins: Vec<_> = (0..self.batch).map(|n| row.constants(origin(n))).collect();
        let sums = self.sums(settings, |n, range, [a, b]: &mut [Vec<f32>; 2]| {
            // SAFETY: a row of constants and rows of sums.
            unsafe { sum_differences(settings.path(), &x[range], &origins[n], a, b) }
        });
        let count = self.positions as f64;
        let (mut means, mut variances) = (vec![0.0; sums.len()], vec![0.0; sums.len()]);
        let mut inverse_deviation = vec![0.0; sums.len()];
        for (i, sum) in sums.iter().enumerate() {
            let mean = sum[0] / count;
            let variance = (sum[1] / count - mean * mean).max(0.0);
            means[i] = (f64::from(origin(i / channels)[i % channels]) + mean) as f32;
            variances[i] = variance as f32;
            inverse_deviation[i] = (1.0 / (variance + self.epsilon).sqrt()) as f32;
        }
        Statistics { mean: means, variance: variances, inverse_deviation }
    }

    /// Statistics that are given, (batch, channels) each.
    pub(crate) fn given(&self, mean: &[f32], variance: &[f32]) -> Statistics {
        let inverse =
            variance.iter().map(|&variance| (1.0 / (f64::from(variance) + self.epsilon).sqrt()) as f32);
        Statistics { mean: mean.to_vec(), variance: variance.to_vec(), inverse_deviation: inverse.collect() }
    }

    /// Mean over the positions, (batch, channels).
    pub(crate) fn means(&self, settings: &Settings, x: &[f32]) -> Buffer {
        let zeros = Row::of(settings.path(), self.channels).constants(&vec![0.0; self.channels]);
        let sums = self.sums(settings, |_, range, [a, b]: &mut [Vec<f32>; 2]| {
            // SAFETY: a row of constants and rows of sums.
            unsafe { sum_differences(settings.path(), &x[range], &zeros, a, b) }
        });
        let mut means = Buffer::new(sums.len());
        for (mean, sum) in means.iter_mut().zip(sums) {
            *mean = (sum[0] / self.positions as f64) as f32;
        }
        means
    }

    pub(crate) fn forward(
        &self,
        settings: &Settings,
        x: &[f32],
        parameters: Parameters<'_>,
        statistics: &Statistics,
    ) -> Buffer {
        let affine = statistics.affine(parameters);
        let row = Row::of(settings.path(), self.channels);
        let constants = self.rows(row, [&affine.scale, &affine.shift]);
        let slope = row.constants(parameters.slope);
        let mut y = Buffer::new(x.len());
        let shared = Shared::new(&mut y);
        self.chunks(settings, |n, _, first, length| {
            // SAFETY: the chunks do not overlap.
            let y = unsafe { shared.part(first, length) };
            let [scale, shift] = &constants[n];
            // SAFETY: rows of constants, and as many values in as out.
            unsafe { normalise(settings.path(), &x[first..first + length], scale, shift, &slope, y) }
        });
        y
    }

    pub(crate) fn backward(
        &self,
        settings: &Settings,
        x: &[f32],
        parameters: Parameters<'_>,
        (statistics, origin): (&Statistics, Origin),
        gradient: &[f32],
    ) -> Gradients {
        let channels = self.channels;
        let affine = statistics.affine(parameters);
        let row = Row::of(settings.path(), channels);
        let slope = &row.constants(parameters.slope);
        let constants = self.rows(row, [&affine.scale, &affine.shift, &statistics.mean]);
        // The sums that everything is made of: of the gradient g at the norm's output, of g times the centred input,
        // and of the output's gradient times the norm's output where the slope applies.
        let sums = self.sums(settings, |n, range, sums: &mut [Vec<f32>; 3]| {
            let [scale, shift, mean] = &constants[n];
            let (x, gradient) = (&x[range.clone()], &gradient[range]);
            // SAFETY: rows of constants and of sums, and as many gradients as values.
            unsafe { sum_gradients(settings.path(), x, gradient, [scale, shift, slope, mean], sums) }
        });
        let count = self.positions as f64;
        let vector = || Buffer::new(channels);
        let mut result =
            Gradients { x: Buffer::new(x.len()), weight: vector(), bias: vector(), slope: vector() };
        // dx = scale * (g - mean(g) - (x - mean) * inverse_deviation^2 * mean(g * (x - mean)))
        //    = scale * g + x * x_factor + constant
        let (mut x_factor, mut constant) = (vec![0.0; sums.len()], vec![0.0; sums.len()]);
        let mut totals = vec![[0.0_f64; 3]; channels];
        for (i, sum) in sums.iter().enumerate() {
            let inverse = f64::from(statistics.inverse_deviation[i]);
            if origin == Origin::Input {
                let factor = -inverse * inverse * sum[1] / count;
                let scale = f64::from(affine.scale[i]);
                x_factor[i] = (scale * factor) as f32;
                constant[i] = (scale * (-sum[0] / count - factor * f64::from(statistics.mean[i]))) as f32;
            }
            let total = &mut totals[i % channels];
            total[0] += sum[0];
            total[1] += sum[1] * inverse;
            total[2] += sum[2];
        }
        for (channel, [bias, weight, slope]) in totals.into_iter().enumerate() {
            result.bias[channel] = bias as f32;
            result.weight[channel] = weight as f32;
            result.slope[channel] = slope as f32;
        }
        let factors = self.rows(row, [&x_factor, &constant]);
        let shared = Shared::new(&mut result.x);
        self.chunks(settings, |n, _, first, length| {
            // SAFETY: the chunks do not overlap.
            let dx = unsafe { shared.part(first, length) };
            let ([scale, shift, _], [x_factor, constant]) = (&constants[n], &factors[n]);
            let (x, gradient) = (&x[first..first + length], &gradient[first..first + length]);
            // SAFETY: rows of constants, and as many values everywhere.
            unsafe {
                gradient_of_input(settings.path(), x, gradient, [scale, shift, slope, x_factor, constant], dx)
            }
        });
        result
    }
}

/// The norm as one multiplication and one addition, each (batch, channels).
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Statistics {
    fn affine(&self, Parameters { weight, bias, .. }: Parameters<'_>) -> Affine {
        let channels = weight.len();
        let scale: Vec<f32> = self
            .inverse_deviation
            .iter()
            .enumerate()
            .map(|(i, inverse)| inverse * weight[i % channels])
            .collect();
        let shift = scale
            .iter()
            .zip(&self.mean)
            .enumerate()
            .map(|(i, (scale, mean))| bias[i % channels] - mean * scale);
        Affine { shift: shift.collect(), scale }
    }
}

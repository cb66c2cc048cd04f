//! Instance norm fused with leaky ReLU.

use super::buffer::{Buffer, Shared};
use super::simd::{Vector, for_each_path};
use crate::Path;
use crate::threads::parallel;

/// Sizes and constants of the operator: input and output (batch, positions, channels).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    pub(crate) batch: usize,
    pub(crate) positions: usize,
    pub(crate) channels: usize,
    pub(crate) epsilon: f64,
    pub(crate) slope: f32,
}

/// Mean and 1 / sqrt(variance + epsilon), each (batch, channels).
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    mean: Vec<f32>,
    inverse_deviation: Vec<f32>,
}

/// Gradients of the input, the weight and the bias.
#[derive(Debug)]
pub(crate) struct Gradients {
    pub(crate) x: Buffer,
    pub(crate) weight: Buffer,
    pub(crate) bias: Buffer,
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
    fn chunks(&self, task: impl Fn(usize, usize, usize, usize) + Sync) -> usize {
        let chunks = self.positions.div_ceil(self.chunk());
        parallel(self.batch * chunks, |index| {
            let (n, chunk) = (index / chunks, index % chunks);
            let first = chunk * self.chunk();
            let count = self.chunk().min(self.positions - first);
            task(n, index, (n * self.positions + first) * self.channels, count * self.channels);
        });
        chunks
    }

    /// Sums two f64 per channel over the positions: `sum(values range, two rows of sums)` adds one run.
    fn sums(
        &self,
        run_sums: impl Fn(usize, std::ops::Range<usize>, &mut [f32], &mut [f32]) + Sync,
    ) -> Vec<[f64; 2]> {
        let channels = self.channels;
        let chunks = self.positions.div_ceil(self.chunk());
        let mut partial = vec![[0.0_f64; 2]; self.batch * chunks * channels];
        let shared_partial = Shared::new(&mut partial);
        self.chunks(|n, index, first, length| {
            let mut total = vec![[0.0_f64; 2]; channels];
            let (mut a, mut b) = (vec![0.0_f32; channels], vec![0.0_f32; channels]);
            for start in (first..first + length).step_by(RUN * channels) {
                a.fill(0.0);
                b.fill(0.0);
                run_sums(n, start..(start + RUN * channels).min(first + length), &mut a, &mut b);
                for ((total, a), b) in total.iter_mut().zip(&a).zip(&b) {
                    total[0] += f64::from(*a);
                    total[1] += f64::from(*b);
                }
            }
            // SAFETY: every chunk has its own part.
            unsafe { shared_partial.part(index * channels, channels) }.copy_from_slice(&total);
        });
        let mut sums = vec![[0.0_f64; 2]; self.batch * channels];
        for (index, chunk) in partial.chunks_exact(channels).enumerate() {
            for (sum, value) in sums[index / chunks * channels..].iter_mut().zip(chunk) {
                sum[0] += value[0];
                sum[1] += value[1];
            }
        }
        sums
    }

    pub(crate) fn forward(
        &self,
        path: Path,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
    ) -> (Buffer, Statistics) {
        let channels = self.channels;
        // Sums of differences from the first voxel, so that a large mean costs no digits of the variance.
        let origin = |n: usize| &x[n * self.positions * channels..][..channels];
        let sums = self.sums(|n, range, a, b| {
            // SAFETY: whole positions, and `channels` values in each row.
            unsafe { sum_differences(path, &x[range], origin(n), a, b) }
        });
        let count = self.positions as f64;
        let mut statistics =
            Statistics { mean: vec![0.0; sums.len()], inverse_deviation: vec![0.0; sums.len()] };
        for (i, sum) in sums.iter().enumerate() {
            let mean = sum[0] / count;
            let variance = (sum[1] / count - mean * mean).max(0.0);
            statistics.mean[i] = (f64::from(origin(i / channels)[i % channels]) + mean) as f32;
            statistics.inverse_deviation[i] = (1.0 / (variance + self.epsilon).sqrt()) as f32;
        }
        let affine = statistics.affine(weight, bias);
        let mut y = Buffer::new(x.len());
        let shared = Shared::new(&mut y);
        self.chunks(|n, _, first, length| {
            // SAFETY: the chunks do not overlap.
            let y = unsafe { shared.part(first, length) };
            let (scale, shift) = affine.of(n, channels);
            // SAFETY: whole positions, and `channels` values in each row.
            unsafe { normalise(path, &x[first..first + length], scale, shift, self.slope, y) }
        });
        (y, statistics)
    }

    pub(crate) fn backward(
        &self,
        path: Path,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        statistics: &Statistics,
        gradient: &[f32],
    ) -> Gradients {
        let channels = self.channels;
        let affine = statistics.affine(weight, bias);
        // The two sums that everything is made of: of the gradient g at the norm's output, and of g times the
        // centred input.
        let sums = self.sums(|n, range, a, b| {
            let (scale, shift) = affine.of(n, channels);
            let mean = &statistics.mean[n * channels..][..channels];
            let (x, gradient) = (&x[range.clone()], &gradient[range]);
            // SAFETY: whole positions, and `channels` values in each row.
            unsafe { sum_gradients(path, x, gradient, [scale, shift, mean], self.slope, a, b) }
        });
        let count = self.positions as f64;
        let mut result =
            Gradients { x: Buffer::new(x.len()), weight: Buffer::new(channels), bias: Buffer::new(channels) };
        // dx = scale * (g - mean(g) - (x - mean) * inverse_deviation^2 * mean(g * (x - mean)))
        //    = scale * g + x * x_factor + constant
        let (mut x_factor, mut constant) = (vec![0.0; sums.len()], vec![0.0; sums.len()]);
        let (mut weight_sums, mut bias_sums) = (vec![0.0_f64; channels], vec![0.0_f64; channels]);
        for (i, sum) in sums.iter().enumerate() {
            let inverse = f64::from(statistics.inverse_deviation[i]);
            let factor = -inverse * inverse * sum[1] / count;
            let scale = f64::from(affine.scale[i]);
            x_factor[i] = (scale * factor) as f32;
            constant[i] = (scale * (-sum[0] / count - factor * f64::from(statistics.mean[i]))) as f32;
            bias_sums[i % channels] += sum[0];
            weight_sums[i % channels] += sum[1] * inverse;
        }
        for channel in 0..channels {
            result.weight[channel] = weight_sums[channel] as f32;
            result.bias[channel] = bias_sums[channel] as f32;
        }
        let shared = Shared::new(&mut result.x);
        self.chunks(|n, _, first, length| {
            // SAFETY: the chunks do not overlap.
            let dx = unsafe { shared.part(first, length) };
            let (scale, shift) = affine.of(n, channels);
            let (x_factor, constant) =
                (&x_factor[n * channels..][..channels], &constant[n * channels..][..channels]);
            let (x, gradient) = (&x[first..first + length], &gradient[first..first + length]);
            // SAFETY: whole positions, and `channels` values in each row.
            unsafe {
                gradient_of_input(path, x, gradient, [scale, shift, x_factor, constant], self.slope, dx)
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

impl Affine {
    fn of(&self, n: usize, channels: usize) -> (&[f32], &[f32]) {
        (&self.scale[n * channels..][..channels], &self.shift[n * channels..][..channels])
    }
}

impl Statistics {
    fn affine(&self, weight: &[f32], bias: &[f32]) -> Affine {
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

// The loops over (position, channel) values. Rows of constants have `channels` values, which need not be whole
// vectors: the rest of each position goes value by value.

for_each_path!(
    sum_differences,
    sum_differences_body,
    (x: &[f32], origin: &[f32], a: &mut [f32], b: &mut [f32])
);

/// Adds `x - origin` to `a` and its square to `b`.
///
/// # Safety
/// `x` has whole positions of `origin.len()` channels, as many as `a` and `b` have.
#[inline(always)]
unsafe fn sum_differences_body<V: Vector>(x: &[f32], origin: &[f32], a: &mut [f32], b: &mut [f32]) {
    let channels = origin.len();
    let whole = channels / V::LANES * V::LANES;
    // SAFETY: all addresses are in bounds by the caller's promise.
    unsafe {
        for channel in (0..whole).step_by(V::LANES) {
            let start = V::load(origin.as_ptr().add(channel));
            let (mut sum, mut squares) = (V::zero(), V::zero());
            for position in (channel..x.len()).step_by(channels) {
                let difference = V::load(x.as_ptr().add(position)).sub(start);
                sum = sum.add(difference);
                squares = squares.add(difference.mul(difference));
            }
            V::load(a.as_ptr().add(channel)).add(sum).store(a.as_mut_ptr().add(channel));
            V::load(b.as_ptr().add(channel)).add(squares).store(b.as_mut_ptr().add(channel));
        }
    }
    for channel in whole..channels {
        for position in (channel..x.len()).step_by(channels) {
            let difference = x[position] - origin[channel];
            a[channel] += difference;
            b[channel] += difference * difference;
        }
    }
}

for_each_path!(
    normalise,
    normalise_body,
    (x: &[f32], scale: &[f32], shift: &[f32], slope: f32, y: &mut [f32])
);

/// `y = leaky(x scale + shift)`.
///
/// # Safety
/// `x` and `y` have whole positions of `scale.len()` channels, as many as `shift` has.
#[inline(always)]
unsafe fn normalise_body<V: Vector>(x: &[f32], scale: &[f32], shift: &[f32], slope: f32, y: &mut [f32]) {
    let channels = scale.len();
    let whole = channels / V::LANES * V::LANES;
    for position in (0..x.len()).step_by(channels) {
        // SAFETY: all addresses are in bounds by the caller's promise.
        unsafe {
            for channel in (0..whole).step_by(V::LANES) {
                let scale = V::load(scale.as_ptr().add(channel));
                let shift = V::load(shift.as_ptr().add(channel));
                let value = V::load(x.as_ptr().add(position + channel)).mul(scale).add(shift);
                value.choose(value, value.mul(V::splat(slope))).store(y.as_mut_ptr().add(position + channel));
            }
        }
        for channel in whole..channels {
            let value = x[position + channel] * scale[channel] + shift[channel];
            y[position + channel] = if value > 0.0 { value } else { value * slope };
        }
    }
}

for_each_path!(
    sum_gradients,
    sum_gradients_body,
    (x: &[f32], gradient: &[f32], constants: [&[f32]; 3], slope: f32, a: &mut [f32], b: &mut [f32])
);

/// With g the gradient before leaky ReLU, adds g to `a` and `g (x - mean)` to `b`.
///
/// # Safety
/// `x` and `gradient` have whole positions of as many channels as the constants, `a` and `b` have.
#[inline(always)]
unsafe fn sum_gradients_body<V: Vector>(
    x: &[f32],
    gradient: &[f32],
    [scale, shift, mean]: [&[f32]; 3],
    slope: f32,
    a: &mut [f32],
    b: &mut [f32],
) {
    let channels = scale.len();
    let whole = channels / V::LANES * V::LANES;
    // SAFETY: all addresses are in bounds by the caller's promise.
    unsafe {
        for channel in (0..whole).step_by(V::LANES) {
            let [scale, shift, mean] = [scale, shift, mean].map(|row| V::load(row.as_ptr().add(channel)));
            let slope = V::splat(slope);
            let (mut sum, mut products) = (V::zero(), V::zero());
            for position in (channel..x.len()).step_by(channels) {
                let x = V::load(x.as_ptr().add(position));
                let gradient = V::load(gradient.as_ptr().add(position));
                let g = x.mul(scale).add(shift).choose(gradient, gradient.mul(slope));
                sum = sum.add(g);
                products = products.add(g.mul(x.sub(mean)));
            }
            V::load(a.as_ptr().add(channel)).add(sum).store(a.as_mut_ptr().add(channel));
            V::load(b.as_ptr().add(channel)).add(products).store(b.as_mut_ptr().add(channel));
        }
    }
    for channel in whole..channels {
        for position in (channel..x.len()).step_by(channels) {
            let (x, gradient) = (x[position], gradient[position]);
            let g = if x * scale[channel] + shift[channel] > 0.0 { gradient } else { gradient * slope };
            a[channel] += g;
            b[channel] += g * (x - mean[channel]);
        }
    }
}

for_each_path!(
    gradient_of_input,
    gradient_of_input_body,
    (x: &[f32], gradient: &[f32], constants: [&[f32]; 4], slope: f32, dx: &mut [f32])
);

/// With g the gradient before leaky ReLU, `dx = scale g + (x x_factor + constant)`.
///
/// # Safety
/// `x`, `gradient` and `dx` have whole positions of as many channels as the constants have.
#[inline(always)]
unsafe fn gradient_of_input_body<V: Vector>(
    x: &[f32],
    gradient: &[f32],
    [scale, shift, x_factor, constant]: [&[f32]; 4],
    slope: f32,
    dx: &mut [f32],
) {
    let channels = scale.len();
    let whole = channels / V::LANES * V::LANES;
    for position in (0..x.len()).step_by(channels) {
        // SAFETY: all addresses are in bounds by the caller's promise.
        unsafe {
            for channel in (0..whole).step_by(V::LANES) {
                let scale = V::load(scale.as_ptr().add(channel));
                let shift = V::load(shift.as_ptr().add(channel));
                let x_factor = V::load(x_factor.as_ptr().add(channel));
                let constant = V::load(constant.as_ptr().add(channel));
                let x = V::load(x.as_ptr().add(position + channel));
                let gradient = V::load(gradient.as_ptr().add(position + channel));
                let g = x.mul(scale).add(shift).choose(gradient, gradient.mul(V::splat(slope)));
                let result = scale.mul(g).add(x.mul(x_factor).add(constant));
                result.store(dx.as_mut_ptr().add(position + channel));
            }
        }
        for channel in whole..channels {
            let (x, gradient) = (x[position + channel], gradient[position + channel]);
            let g = if x * scale[channel] + shift[channel] > 0.0 { gradient } else { gradient * slope };
            dx[position + channel] = scale[channel] * g + (x * x_factor[channel] + constant[channel]);
        }
    }
}

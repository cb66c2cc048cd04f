//! The loops over (position, channel) values. Rows of constants have `channels` values, which need not be whole
//! vectors: the rest of each position goes value by value.

use super::super::simd::{Vector, for_each_path};

for_each_path!(
    pub(super) sum_differences,
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
    debug_assert!(a.len() == channels && b.len() == channels && x.len().is_multiple_of(channels));
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
    pub(super) normalise,
    normalise_body,
    (x: &[f32], scale: &[f32], shift: &[f32], slope: &[f32], y: &mut [f32])
);

/// `y = leaky(x scale + shift)`.
///
/// # Safety
/// `x` and `y` have whole positions of `scale.len()` channels, as many as `shift` and `slope` have.
#[inline(always)]
unsafe fn normalise_body<V: Vector>(x: &[f32], scale: &[f32], shift: &[f32], slope: &[f32], y: &mut [f32]) {
    let channels = scale.len();
    debug_assert!(shift.len() == channels && slope.len() == channels);
    debug_assert!(y.len() == x.len() && x.len().is_multiple_of(channels));
    let whole = channels / V::LANES * V::LANES;
    for position in (0..x.len()).step_by(channels) {
        // SAFETY: all addresses are in bounds by the caller's promise.
        unsafe {
            for channel in (0..whole).step_by(V::LANES) {
                let [scale, shift, slope] =
                    [scale, shift, slope].map(|row| V::load(row.as_ptr().add(channel)));
                let value = V::load(x.as_ptr().add(position + channel)).mul(scale).add(shift);
                value.choose(value, value.mul(slope)).store(y.as_mut_ptr().add(position + channel));
            }
        }
        for channel in whole..channels {
            let value = x[position + channel] * scale[channel] + shift[channel];
            y[position + channel] = if value > 0.0 { value } else { value * slope[channel] };
        }
    }
}

for_each_path!(
    pub(super) sum_gradients,
    sum_gradients_body,
    (x: &[f32], gradient: &[f32], constants: [&[f32]; 4], sums: &mut [Vec<f32>; 3])
);

/// With v the norm's output and g the gradient there, adds to the sums g, `g (x - mean)`, and where v is not positive
/// `gradient v`.
///
/// # Safety
/// `x` and `gradient` have whole positions of as many channels as the constants and the sums have.
#[inline(always)]
unsafe fn sum_gradients_body<V: Vector>(
    x: &[f32],
    gradient: &[f32],
    [scale, shift, slope, mean]: [&[f32]; 4],
    [a, b, c]: &mut [Vec<f32>; 3],
) {
    let channels = scale.len();
    debug_assert!([shift, slope, mean].iter().all(|row| row.len() == channels));
    debug_assert!([&*a, &*b, &*c].iter().all(|row| row.len() == channels));
    debug_assert!(gradient.len() == x.len() && x.len().is_multiple_of(channels));
    let whole = channels / V::LANES * V::LANES;
    // SAFETY: all addresses are in bounds by the caller's promise.
    unsafe {
        for channel in (0..whole).step_by(V::LANES) {
            let [scale, shift, slope, mean] =
                [scale, shift, slope, mean].map(|row| V::load(row.as_ptr().add(channel)));
            let (mut sum, mut products, mut negative) = (V::zero(), V::zero(), V::zero());
            for position in (channel..x.len()).step_by(channels) {
                let x = V::load(x.as_ptr().add(position));
                let gradient = V::load(gradient.as_ptr().add(position));
                let value = x.mul(scale).add(shift);
                let g = value.choose(gradient, gradient.mul(slope));
                sum = sum.add(g);
                products = products.add(g.mul(x.sub(mean)));
                negative = negative.add(value.choose(V::zero(), gradient.mul(value)));
            }
            for (row, sum) in [(&mut *a, sum), (&mut *b, products), (&mut *c, negative)] {
                V::load(row.as_ptr().add(channel)).add(sum).store(row.as_mut_ptr().add(channel));
            }
        }
    }
    for channel in whole..channels {
        for position in (channel..x.len()).step_by(channels) {
            let (x, gradient) = (x[position], gradient[position]);
            let value = x * scale[channel] + shift[channel];
            let g = if value > 0.0 { gradient } else { gradient * slope[channel] };
            a[channel] += g;
            b[channel] += g * (x - mean[channel]);
            c[channel] += if value > 0.0 { 0.0 } else { gradient * value };
        }
    }
}

for_each_path!(
    pub(super) gradient_of_input,
    gradient_of_input_body,
    (x: &[f32], gradient: &[f32], constants: [&[f32]; 5], dx: &mut [f32])
);

/// With g the gradient before the nonlinearity, `dx = scale g + (x x_factor + constant)`.
///
/// # Safety
/// `x`, `gradient` and `dx` have whole positions of as many channels as the constants have.
#[inline(always)]
unsafe fn gradient_of_input_body<V: Vector>(
    x: &[f32],
    gradient: &[f32],
    [scale, shift, slope, x_factor, constant]: [&[f32]; 5],
    dx: &mut [f32],
) {
    let channels = scale.len();
    debug_assert!([shift, slope, x_factor, constant].iter().all(|row| row.len() == channels));
    debug_assert!([gradient, &*dx].iter().all(|values| values.len() == x.len()));
    debug_assert!(x.len().is_multiple_of(channels));
    let whole = channels / V::LANES * V::LANES;
    for position in (0..x.len()).step_by(channels) {
        // SAFETY: all addresses are in bounds by the caller's promise.
        unsafe {
            for channel in (0..whole).step_by(V::LANES) {
                let [scale, shift, slope, x_factor, constant] =
                    [scale, shift, slope, x_factor, constant].map(|row| V::load(row.as_ptr().add(channel)));
                let x = V::load(x.as_ptr().add(position + channel));
                let gradient = V::load(gradient.as_ptr().add(position + channel));
                let g = x.mul(scale).add(shift).choose(gradient, gradient.mul(slope));
                let result = scale.mul(g).add(x.mul(x_factor).add(constant));
                result.store(dx.as_mut_ptr().add(position + channel));
            }
        }
        for channel in whole..channels {
            let (x, gradient) = (x[position + channel], gradient[position + channel]);
            let value = x * scale[channel] + shift[channel];
            let g = if value > 0.0 { gradient } else { gradient * slope[channel] };
            dx[position + channel] = scale[channel] * g + (x * x_factor[channel] + constant[channel]);
        }
    }
}

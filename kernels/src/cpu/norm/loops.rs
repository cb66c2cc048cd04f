//! The loops over (position, channel) values. Rows of constants have the channels of one position, or of as many
//! neighbouring positions as fill whole vectors ([`super::super::simd::Row`]): "row" below is either. What is left of a row beyond whole
//! vectors, and of the values beyond whole rows, goes value by value.

use super::super::simd::{Vector, for_each_path};

for_each_path!(
    pub(super) sum_differences,
    sum_differences_body,
    (x: &[f32], origin: &[f32], a: &mut [f32], b: &mut [f32])
);

/// Adds `x - origin` to `a` and its square to `b`.
///
/// # Safety
/// `a` and `b` have as many values as `origin`.
#[inline(always)]
unsafe fn sum_differences_body<V: Vector>(x: &[f32], origin: &[f32], a: &mut [f32], b: &mut [f32]) {
    let width = origin.len();
    debug_assert!(a.len() == width && b.len() == width);
    let (whole, rows) = (width / V::LANES * V::LANES, x.len() / width * width);
    // SAFETY: all addresses are in bounds by the caller's promise.
    unsafe {
        for column in (0..whole).step_by(V::LANES) {
            let start = V::load(origin.as_ptr().add(column));
            let (mut sum, mut squares) = (V::zero(), V::zero());
            for row in (0..rows).step_by(width) {
                let difference = V::load(x.as_ptr().add(row + column)).sub(start);
                sum = sum.add(difference);
                squares = squares.add(difference.mul(difference));
            }
            V::load(a.as_ptr().add(column)).add(sum).store(a.as_mut_ptr().add(column));
            V::load(b.as_ptr().add(column)).add(squares).store(b.as_mut_ptr().add(column));
        }
    }
    for (row, column) in rest(x.len(), width, whole) {
        let difference = x[row + column] - origin[column];
        a[column] += difference;
        b[column] += difference * difference;
    }
}

/// What whole vectors of whole rows leave of `length` values, as (first of the row, column).
#[inline(always)]
fn rest(length: usize, width: usize, whole: usize) -> impl Iterator<Item = (usize, usize)> {
    let rows = length / width * width;
    let beyond =
        (0..rows).step_by(width).flat_map(move |row| (whole..width).map(move |column| (row, column)));
    beyond.chain((0..length - rows).map(move |column| (rows, column)))
}

for_each_path!(
    pub(super) normalise,
    normalise_body,
    (x: &[f32], scale: &[f32], shift: &[f32], slope: &[f32], y: &mut [f32])
);

/// `y = leaky(x scale + shift)`.
///
/// # Safety
/// `y` has as many values as `x`; `shift` and `slope` as many as `scale`.
#[inline(always)]
unsafe fn normalise_body<V: Vector>(x: &[f32], scale: &[f32], shift: &[f32], slope: &[f32], y: &mut [f32]) {
    let width = scale.len();
    debug_assert!(shift.len() == width && slope.len() == width && y.len() == x.len());
    let (whole, rows) = (width / V::LANES * V::LANES, x.len() / width * width);
    for row in (0..rows).step_by(width) {
        // SAFETY: all addresses are in bounds by the caller's promise.
        unsafe {
            for column in (0..whole).step_by(V::LANES) {
                let [scale, shift, slope] =
                    [scale, shift, slope].map(|row| V::load(row.as_ptr().add(column)));
                let value = V::load(x.as_ptr().add(row + column)).mul(scale).add(shift);
                value.choose(value, value.mul(slope)).store(y.as_mut_ptr().add(row + column));
            }
        }
    }
    for (row, column) in rest(x.len(), width, whole) {
        let value = x[row + column] * scale[column] + shift[column];
        y[row + column] = if value > 0.0 { value } else { value * slope[column] };
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
/// `gradient` has as many values as `x`; the constants and the sums have all the same number.
#[inline(always)]
unsafe fn sum_gradients_body<V: Vector>(
    x: &[f32],
    gradient: &[f32],
    [scale, shift, slope, mean]: [&[f32]; 4],
    [a, b, c]: &mut [Vec<f32>; 3],
) {
    let width = scale.len();
    debug_assert!([shift, slope, mean].iter().all(|row| row.len() == width));
    debug_assert!([&*a, &*b, &*c].iter().all(|row| row.len() == width));
    debug_assert!(gradient.len() == x.len());
    let (whole, rows) = (width / V::LANES * V::LANES, x.len() / width * width);
    // SAFETY: all addresses are in bounds by the caller's promise.
    unsafe {
        for column in (0..whole).step_by(V::LANES) {
            let [scale, shift, slope, mean] =
                [scale, shift, slope, mean].map(|row| V::load(row.as_ptr().add(column)));
            let (mut sum, mut products, mut negative) = (V::zero(), V::zero(), V::zero());
            for row in (0..rows).step_by(width) {
                let x = V::load(x.as_ptr().add(row + column));
                let gradient = V::load(gradient.as_ptr().add(row + column));
                let value = x.mul(scale).add(shift);
                let g = value.choose(gradient, gradient.mul(slope));
                sum = sum.add(g);
                products = products.add(g.mul(x.sub(mean)));
                negative = negative.add(value.choose(V::zero(), gradient.mul(value)));
            }
            for (row, sum) in [(&mut *a, sum), (&mut *b, products), (&mut *c, negative)] {
                V::load(row.as_ptr().add(column)).add(sum).store(row.as_mut_ptr().add(column));
            }
        }
    }
    for (row, column) in rest(x.len(), width, whole) {
        let (x, gradient) = (x[row + column], gradient[row + column]);
        let value = x * scale[column] + shift[column];
        let g = if value > 0.0 { gradient } else { gradient * slope[column] };
        a[column] += g;
        b[column] += g * (x - mean[column]);
        c[column] += if value > 0.0 { 0.0 } else { gradient * value };
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
/// `gradient` and `dx` have as many values as `x`; the constants have all the same number.
#[inline(always)]
unsafe fn gradient_of_input_body<V: Vector>(
    x: &[f32],
    gradient: &[f32],
    [scale, shift, slope, x_factor, constant]: [&[f32]; 5],
    dx: &mut [f32],
) {
    let width = scale.len();
    debug_assert!([shift, slope, x_factor, constant].iter().all(|row| row.len() == width));
    debug_assert!([gradient, &*dx].iter().all(|values| values.len() == x.len()));
    let (whole, rows) = (width / V::LANES * V::LANES, x.len() / width * width);
    for row in (0..rows).step_by(width) {
        // SAFETY: all addresses are in bounds by the caller's promise.
        unsafe {
            for column in (0..whole).step_by(V::LANES) {
                let [scale, shift, slope, x_factor, constant] =
                    [scale, shift, slope, x_factor, constant].map(|row| V::load(row.as_ptr().add(column)));
                let x = V::load(x.as_ptr().add(row + column));
                let gradient = V::load(gradient.as_ptr().add(row + column));
                let g = x.mul(scale).add(shift).choose(gradient, gradient.mul(slope));
                let result = scale.mul(g).add(x.mul(x_factor).add(constant));
                result.store(dx.as_mut_ptr().add(row + column));
            }
        }
    }
    for (row, column) in rest(x.len(), width, whole) {
        let (x, gradient) = (x[row + column], gradient[row + column]);
        let value = x * scale[column] + shift[column];
        let g = if value > 0.0 { gradient } else { gradient * slope[column] };
        dx[row + column] = scale[column] * g + (x * x_factor[column] + constant[column]);
    }
}

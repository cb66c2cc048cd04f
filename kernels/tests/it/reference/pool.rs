//! Maximum pooling.

use super::{Exact, index, places, zeros};
use crate::operator::Window;

/// Of any pool.
pub(super) fn shape(window: Window, shape: &[usize]) -> Vec<usize> {
    let along =
        |axis: usize| (0..=shape[axis + 1] - window.kernel[axis]).step_by(window.stride[axis]).count();
    vec![shape[0], along(0), along(1), along(2), shape[4]]
}

/// Where the largest value of every window lies, the first of several.
fn largest(window: Window, x: &Exact) -> Vec<usize> {
    let [kx, ky, kz] = window.kernel;
    let find = |[n, a, b, c, channel]: [usize; 5]| {
        let mut best: Option<usize> = None;
        for [_, dx, dy, dz, _] in places(&[1, kx, ky, kz, 1]) {
            let [sx, sy, sz] = window.stride;
            let i = index(&x.shape, [n, a * sx + dx, b * sy + dy, c * sz + dz, channel]);
            if best.is_none_or(|best| x.values[i] > x.values[best]) {
                best = Some(i);
            }
        }
        best.unwrap()
    };
    places(&shape(window, &x.shape)).map(find).collect()
}

pub(super) fn output(window: Window, x: &Exact) -> Vec<f64> {
    largest(window, x).into_iter().map(|i| x.values[i]).collect()
}

pub(super) fn gradient(window: Window, x: &Exact, gradient: &[f64]) -> Vec<f64> {
    let mut to_x = zeros(&x.shape);
    largest(window, x).into_iter().zip(gradient).for_each(|(i, gradient)| to_x[i] += gradient);
    to_x
}

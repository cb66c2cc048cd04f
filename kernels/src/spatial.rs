//! Operators that move, combine or pool voxels.

use crate::array::{Activation, Array};
use crate::cpu::norm::Norm;
use crate::cpu::{channels, pool, resample as cpu};
use crate::resample::AxisMap;
use crate::settings::Settings;
use crate::tape::record;

/// One map per axis.
fn resample(x: Activation, maps: [AxisMap; 3]) -> Activation {
    if maps.iter().all(AxisMap::is_identity) {
        return x;
    }
    let settings = Settings::current();
    let [batch, .., channels] = x.shape();
    let [sx, sy, sz] = maps.each_ref().map(AxisMap::outputs);
    let shape = [batch, sx, sy, sz, channels];
    let y = Array::of(cpu::resample(&settings, x.values(), x.shape(), &maps), &shape);
    Activation(record([Some(&x.0)], y, move |gradient, _| {
        let back = maps.each_ref().map(AxisMap::transposed);
        [Some(cpu::resample(&settings, gradient, shape, &back).into())]
    }))
}

fn size(x: &Activation) -> [usize; 3] {
    let [_, size @ .., _] = x.shape();
    size
}

/// The edge voxels of each axis repeated `pad` times on both sides.
pub fn pad_replicate(x: Activation, pad: [usize; 3]) -> Activation {
    let inputs = size(&x);
    resample(x, std::array::from_fn(|axis| AxisMap::replicate(inputs[axis], pad[axis])))
}

/// Nearest-neighbour upsampling: every voxel repeated `factor` times, then cropped at the end of each axis to `size`.
///
/// # Panics
/// A size larger than what repetition gives.
pub fn upsample_repeat(x: Activation, factor: [usize; 3], size: [usize; 3]) -> Activation {
    let inputs = self::size(&x);
    for axis in 0..3 {
        assert!(
            size[axis] <= inputs[axis] * factor[axis],
            "upsample_repeat: axis {axis}: {} voxels from {} repeated {} times",
            size[axis],
            inputs[axis],
            factor[axis]
        );
    }
    resample(x, std::array::from_fn(|axis| AxisMap::repeat(inputs[axis], factor[axis], size[axis])))
}

/// `a + b`.
///
/// # Panics
/// Shapes that differ.
pub fn add(a: Activation, b: Activation) -> Activation {
    assert_eq!(a.shape(), b.shape(), "add: the shapes must agree");
    add_cropped(a, b)
}

/// `x` plus the centre of `residual`: cropped to x's size, (n - m) / 2 rounded down from the start of each axis, and
/// filled up with channels of zeros to x's.
///
/// # Panics
/// A residual of another batch size, with fewer voxels or with more channels than x.
pub fn add_cropped(x: Activation, residual: Activation) -> Activation {
    let ([batch, to @ .., channels], [residual_batch, from @ .., residual_channels]) =
        (x.shape(), residual.shape());
    assert_eq!(batch, residual_batch, "add_cropped: the batch sizes must agree");
    assert!(
        (0..3).all(|axis| to[axis] <= from[axis]),
        "add_cropped: {from:?} voxels cannot be cropped to {to:?}"
    );
    assert!(
        residual_channels <= channels,
        "add_cropped: the residual has {residual_channels} channels, more than the {channels} of x"
    );
    let settings = Settings::current();
    let shapes @ [shape, residual_shape] = [x.shape(), residual.shape()];
    let y = cpu::add_cropped(&settings, (x.values(), shape), (residual.values(), residual_shape));
    let y = Array::of(y, &shape);
    Activation(record([Some(&x.0), Some(&residual.0)], y, move |gradient, [_, to_residual]| {
        let back = || match shapes[0] == shapes[1] {
            true => gradient.clone(),
            false => cpu::add_cropped_gradient(&settings, gradient, shapes[0], shapes[1]).into(),
        };
        [Some(gradient.clone()), to_residual.then(back)]
    }))
}

/// `x` times a mask, as for dropout. No gradient goes to the mask.
///
/// # Shapes
/// - `mask`: (batch, x, y, z, channel), each the size of x's axis or 1, along which the mask is repeated
///
/// # Panics
/// Sizes that are neither.
pub fn multiply_mask(x: Activation, mask: &Array) -> Activation {
    let (shape, masks): (_, [usize; 5]) = (x.shape(), mask.sizes());
    assert!(
        shape.iter().zip(masks).all(|(&size, mask)| mask == size || mask == 1),
        "multiply_mask: a mask {masks:?} does not fit {shape:?}"
    );
    let settings = Settings::current();
    let mask = mask.values().clone();
    let y = Array::of(cpu::multiply(&settings, (x.values(), shape), (&mask, masks)), &shape);
    Activation(record([Some(&x.0)], y, move |gradient, _| {
        [Some(cpu::multiply(&settings, (gradient, shape), (&mask, masks)).into())]
    }))
}

/// Concatenation along the channels: those of `a`, then those of `b`.
///
/// # Panics
/// Batch or spatial sizes that differ.
pub fn concat(a: Activation, b: Activation) -> Activation {
    assert_eq!(a.shape()[..4], b.shape()[..4], "concat: batch and spatial sizes must agree");
    let settings = Settings::current();
    let ([batch, x, y, z, first], [.., second]) = (a.shape(), b.shape());
    let joined = channels::concat(&settings, a.values(), first, b.values(), second);
    let joined = Array::of(joined, &[batch, x, y, z, first + second]);
    Activation(record([Some(&a.0), Some(&b.0)], joined, move |gradient, _| {
        let (to_a, to_b) = channels::split(&settings, gradient, first, second);
        [Some(to_a.into()), Some(to_b.into())]
    }))
}

/// Concatenation along the channels, in the order given.
///
/// # Panics
/// None given, or batch or spatial sizes that differ.
pub fn concat_all(activations: Vec<Activation>) -> Activation {
    activations.into_iter().reduce(concat).expect("concat_all: there must be at least one activation")
}

/// Mean over all voxels, (batch, channel): sums over fixed chunks, combined in order in f64.
pub fn global_average(x: Activation) -> Array {
    let settings = Settings::current();
    let [batch, size @ .., channels] = x.shape();
    let positions = size.iter().product();
    let norm = Norm { batch, positions, channels, epsilon: 0.0 };
    let y = Array::of(norm.means(&settings, x.values()), &[batch, channels]);
    record([Some(&x.0)], y, move |gradient, _| {
        [Some(pool::spread(&settings, gradient, channels, positions).into())]
    })
}

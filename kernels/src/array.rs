//! Values on a device, and what networks make of them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::cpu::buffer::Buffer;
use crate::cpu::{arithmetic, channels};
use crate::device::Device;
use crate::settings::Settings;
use crate::tape::{Place, record};

/// Values that many may read and none may change.
#[derive(Clone)]
pub(crate) struct Values(Arc<Memory>);

/// Where values lie.
enum Memory {
    /// In memory of the kernels' pool: what operators compute.
    Pool(Buffer),
    /// As they came, without a copy.
    Host(Vec<f32>),
}

impl Deref for Memory {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Pool(buffer) => buffer,
            Self::Host(values) => values,
        }
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} values", self.len())
    }
}

impl From<Buffer> for Values {
    fn from(buffer: Buffer) -> Self {
        Self(Arc::new(Memory::Pool(buffer)))
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self(Arc::new(Memory::Host(values)))
    }
}

impl Values {
    /// The values themselves if nobody else has them.
    pub(crate) fn own(&mut self) -> Option<&mut [f32]> {
        Arc::get_mut(&mut self.0).map(|memory| match memory {
            Memory::Pool(buffer) => &mut buffer[..],
            Memory::Host(values) => &mut values[..],
        })
    }

    /// On the host; copied unless they came from there and nobody else has them.
    pub(crate) fn into_host(self) -> Vec<f32> {
        match Arc::try_unwrap(self.0) {
            Ok(Memory::Host(values)) => values,
            Ok(Memory::Pool(buffer)) => buffer.to_vec(),
            Err(shared) => shared.to_vec(),
        }
    }
}

/// f32 values of any rank, row-major. Clones share the values.
#[derive(Clone, Debug)]
pub struct Array {
    values: Values,
    shape: Vec<usize>,
    /// Where a recording knows the array.
    place: Option<Place>,
}

impl Array {
    /// A constant of `values`, which are not copied.
    ///
    /// # Panics
    /// Values of another number than `shape` has.
    pub fn from_host(values: Vec<f32>, shape: &[usize], device: &Device) -> Self {
        match device {
            Device::Cpu => Self::of(values, shape),
        }
    }

    /// A constant of one value.
    pub fn full(value: f32, shape: &[usize], device: &Device) -> Self {
        Self::from_host(vec![value; shape.iter().product()], shape, device)
    }

    /// The values, row-major.
    pub fn to_host(&self) -> Vec<f32> {
        self.values.to_vec()
    }

    /// The values, row-major; copied only where they are shared or lie in memory of the device.
    pub fn into_host(self) -> Vec<f32> {
        self.values.into_host()
    }

    /// Axis lengths.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Axis lengths of an array whose rank is known.
    ///
    /// # Panics
    /// Another rank.
    pub fn sizes<const D: usize>(&self) -> [usize; D] {
        match self.shape.as_slice().try_into() {
            Ok(sizes) => sizes,
            Err(_) => panic!("an array of shape {:?} where one of rank {D} is needed", self.shape),
        }
    }

    /// The same values with other axes. Differentiable; nothing is copied.
    ///
    /// # Panics
    /// A shape of another number of values.
    pub fn reshape(self, shape: &[usize]) -> Self {
        assert_eq!(
            self.values.len(),
            shape.iter().product::<usize>(),
            "reshape: {:?} does not have the values of {shape:?}",
            self.shape
        );
        Self { shape: shape.to_vec(), ..self }
    }

    /// All values times a constant. Differentiable.
    pub fn scale(self, factor: f32) -> Self {
        let settings = Settings::current();
        let y = Self::of(arithmetic::scale(&settings, &self.values, factor), &self.shape);
        record([Some(&self)], y, move |gradient, _| {
            [Some(arithmetic::scale(&settings, gradient, factor).into())]
        })
    }

    /// A constant with the results of an operator.
    pub(crate) fn of(values: impl Into<Values>, shape: &[usize]) -> Self {
        let values = values.into();
        let expected: usize = shape.iter().product();
        assert_eq!(values.len(), expected, "an array of shape {shape:?} from {} values", values.len());
        Self { values, shape: shape.to_vec(), place: None }
    }

    pub(crate) fn at(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }

    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }
}

/// A channels-last activation, (batch, x, y, z, channel).
#[derive(Clone, Debug)]
pub struct Activation(pub(crate) Array);

impl Activation {
    /// From (batch, channel, x, y, z). Differentiable.
    pub fn from_channels_first(array: Array) -> Self {
        let [batch, channels, x, y, z] = array.sizes();
        Self(interchanged(array, [batch, channels, x * y * z], &[batch, x, y, z, channels]))
    }

    /// To (batch, channel, x, y, z). Differentiable.
    pub fn into_channels_first(self) -> Array {
        let [batch, x, y, z, channels] = self.shape();
        interchanged(self.0, [batch, x * y * z, channels], &[batch, channels, x, y, z])
    }

    /// From (batch, x, y, z, channel), without a copy.
    ///
    /// # Panics
    /// Another rank.
    pub fn from_channels_last(array: Array) -> Self {
        let _: [usize; 5] = array.sizes();
        Self(array)
    }

    /// To (batch, x, y, z, channel), without a copy.
    pub fn into_channels_last(self) -> Array {
        self.0
    }

    /// (batch, x, y, z, channel).
    pub fn shape(&self) -> [usize; 5] {
        self.0.sizes()
    }

    pub(crate) fn values(&self) -> &Values {
        self.0.values()
    }
}

/// An array of (batch, rows, columns), however its axes are called, as (batch, columns, rows).
fn interchanged(array: Array, [batch, rows, columns]: [usize; 3], shape: &[usize]) -> Array {
    if rows == 1 || columns == 1 {
        return array.reshape(shape);
    }
    let settings = Settings::current();
    let y = Array::of(channels::interchange(&settings, array.values(), [batch, rows, columns]), shape);
    record([Some(&array)], y, move |gradient, _| {
        [Some(channels::interchange(&settings, gradient, [batch, columns, rows]).into())]
    })
}

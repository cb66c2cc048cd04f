//! Named arrays in a safetensors file: what a fit stores.

use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::{Error, Result};

/// One array to be stored.
#[derive(Clone, Debug)]
pub(super) struct Named {
    name: &'static str,
    shape: Vec<usize>,
    kind: Dtype,
    bytes: Vec<u8>,
}

impl Named {
    pub(super) fn f32(name: &'static str, shape: &[usize], values: impl IntoIterator<Item = f32>) -> Self {
        Self::of(name, shape, Dtype::F32, values.into_iter().flat_map(f32::to_le_bytes).collect())
    }

    pub(super) fn f64(name: &'static str, shape: &[usize], values: impl IntoIterator<Item = f64>) -> Self {
        Self::of(name, shape, Dtype::F64, values.into_iter().flat_map(f64::to_le_bytes).collect())
    }

    pub(super) fn u32(name: &'static str, shape: &[usize], values: impl IntoIterator<Item = u32>) -> Self {
        Self::of(name, shape, Dtype::U32, values.into_iter().flat_map(u32::to_le_bytes).collect())
    }

    pub(super) fn u8(name: &'static str, shape: &[usize], values: impl IntoIterator<Item = u8>) -> Self {
        Self::of(name, shape, Dtype::U8, values.into_iter().collect())
    }

    fn of(name: &'static str, shape: &[usize], kind: Dtype, bytes: Vec<u8>) -> Self {
        Self { name, shape: shape.to_vec(), kind, bytes }
    }
}

/// A safetensors file of the arrays; the same arrays give the same bytes.
pub(super) fn bytes(arrays: &[Named]) -> Result<Vec<u8>> {
    let failed = |e: safetensors::SafeTensorError| Error::Internal { what: format!("storing arrays: {e}") };
    let mut views = Vec::new();
    for array in arrays {
        views.push((
            array.name,
            TensorView::new(array.kind, array.shape.clone(), &array.bytes).map_err(failed)?,
        ));
    }
    safetensors::serialize(views, None).map_err(failed)
}

/// The arrays of a file that was read.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    tensors: SafeTensors<'a>,
    path: &'a Path,
}

impl<'a> Stored<'a> {
    /// `path` is for messages.
    pub(super) fn read(bytes: &'a [u8], path: &'a Path) -> Result<Self> {
        match SafeTensors::deserialize(bytes) {
            Ok(tensors) => Ok(Self { tensors, path }),
            Err(problem) => Err(damaged(path, "safetensors", problem.to_string())),
        }
    }

    /// Shape and values of an array of numbers with 32 bits.
    pub(super) fn f32<const D: usize>(&self, name: &str) -> Result<([usize; D], Vec<f32>)> {
        let (shape, data) = self.tensor(name, Dtype::F32)?;
        Ok((shape, data.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect()))
    }

    /// As [`Self::f32`], with 64 bits.
    pub(super) fn f64<const D: usize>(&self, name: &str) -> Result<([usize; D], Vec<f64>)> {
        let (shape, data) = self.tensor(name, Dtype::F64)?;
        Ok((shape, data.as_chunks().0.iter().copied().map(f64::from_le_bytes).collect()))
    }

    /// As [`Self::f32`], of whole numbers.
    pub(super) fn u32<const D: usize>(&self, name: &str) -> Result<([usize; D], Vec<u32>)> {
        let (shape, data) = self.tensor(name, Dtype::U32)?;
        Ok((shape, data.as_chunks().0.iter().copied().map(u32::from_le_bytes).collect()))
    }

    /// As [`Self::f32`], of bytes.
    pub(super) fn u8<const D: usize>(&self, name: &str) -> Result<([usize; D], Vec<u8>)> {
        let (shape, data) = self.tensor(name, Dtype::U8)?;
        Ok((shape, data.to_vec()))
    }

    /// The error for an array that cannot be what was stored.
    pub(super) fn damaged(&self, name: &str, problem: impl Into<String>) -> Error {
        damaged(self.path, name, problem)
    }

    fn tensor<const D: usize>(&self, name: &str, kind: Dtype) -> Result<([usize; D], &[u8])> {
        let view = self.tensors.tensor(name).map_err(|_| self.damaged(name, "the array is missing"))?;
        let shape: Option<[usize; D]> = view.shape().try_into().ok();
        match shape.filter(|_| view.dtype() == kind) {
            Some(shape) => Ok((shape, view.data())),
            None => {
                let found = format!("{:?} of shape {:?}", view.dtype(), view.shape());
                Err(self.damaged(name, format!("{found}, where {kind:?} with {D} axes belongs")))
            }
        }
    }
}

fn damaged(path: &Path, name: &str, problem: impl Into<String>) -> Error {
    Error::invalid(path, name, problem, "fit the run again: the file is damaged or of another version")
}

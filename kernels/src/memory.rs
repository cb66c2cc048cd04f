//! A buffer of the pool as the memory of a burn tensor.

use std::mem::MaybeUninit;

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};

use crate::cpu::buffer::Buffer;

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        let length = size_of_val::<[f32]>(&buffer);
        // SAFETY: all `length` bytes of a buffer are initialised.
        unsafe { Self::from_controller(Box::new(Memory(buffer)), length) }
    }
}

struct Memory(Buffer);

impl AllocationController for Memory {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let values: &mut [f32] = &mut self.0;
        // SAFETY: the same bytes; the caller promises to write initialised bytes only, and all bytes make an f32.
        Ok(unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let values: &[f32] = &self.0;
        // SAFETY: the same bytes.
        Ok(unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) })
    }
}

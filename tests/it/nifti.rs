//! Tests of `segen::nifti`.

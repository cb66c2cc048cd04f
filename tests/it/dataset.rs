//! Tests of `segen::dataset`.

//! Tests of `segen::resample`.

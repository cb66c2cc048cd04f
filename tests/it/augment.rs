//! Tests of `segen::augment`.

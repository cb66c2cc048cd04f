//! Tests of `segen::metrics`.

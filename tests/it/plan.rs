//! Tests of `segen::plan`.

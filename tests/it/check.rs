//! Tests of `segen::check`.

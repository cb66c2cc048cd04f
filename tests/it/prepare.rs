//! Tests of `segen::prepare`.

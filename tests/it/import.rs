//! Tests of `segen::import`.

//! Tests of `segen::phantom`.

//! What there is to see of trained runs.

pub mod logits;
pub mod policy;
pub mod preview;
pub mod report;

//! The commands, one file each, under the names that the command line gives them.

pub mod cifar;
pub mod crf;
pub mod demo;
pub mod ensemble;
pub mod export;
pub mod logits;
pub mod operating;
pub mod predict;
pub mod register;
pub mod scans;
pub mod scores;
pub mod test_time;
pub mod train;
pub mod trained;

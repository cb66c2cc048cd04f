//! From batches to weights.

mod budget;
pub mod cases;
pub mod checkpoint;
pub mod control;
mod epoch;
pub mod exported;
pub mod iteration;
pub mod job;
pub mod loss;
pub mod meta;
pub mod method;
pub mod monitor;
pub mod objective;
pub mod optimiser;
pub mod passes;
pub mod policy;
pub mod train;
pub mod watch;

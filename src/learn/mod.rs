//! From batches to weights.

pub mod adversarial;
pub mod cases;
pub mod checkpoint;
mod epoch;
pub mod iteration;
pub mod loss;
pub mod meta;
pub mod method;
pub mod mixup;
pub mod monitor;
pub mod objective;
pub mod optimiser;
pub mod policy;
pub mod train;
pub mod watch;

//! Threads that keep a queue of batches full, in an order that does not depend on their number.

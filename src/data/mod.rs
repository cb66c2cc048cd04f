//! Who is in a data set, what is wrong with it, and data sets from elsewhere or from nothing.

pub mod check;
pub mod dataset;
pub mod import;
pub mod phantom;

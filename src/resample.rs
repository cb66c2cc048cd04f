//! Interpolation between grids.

//! Curves and overlays as PNG.

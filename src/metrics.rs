//! Scores of a segmentation against its reference.

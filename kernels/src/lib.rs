//! Operators for 3-D convolutional networks as an extension of burn.

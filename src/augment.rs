//! Changes patches so that the network sees more than the data holds.

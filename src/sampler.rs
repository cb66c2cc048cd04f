//! Where to put the next patch.

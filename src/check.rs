//! Every fault of a data set at once: file, what, where, how to mend.

//! Synthetic scans with rare lesions.

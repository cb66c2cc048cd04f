//! Where a patch lies in a prepared sample.

/// A patch of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Index of the case in its source.
    pub case: usize,
    /// Voxel of the sample that becomes voxel (0, 0, 0) of the patch; may lie outside the sample.
    pub start: [i64; 3],
    /// Label of the patch's centre voxel, `start + patch / 2`, before augmentation; background (0) where that
    /// voxel lies outside the sample.
    pub centre_class: u8,
    /// The class that the patch was to be centred on, for the foreground-centred share.
    pub sought: Option<u8>,
}

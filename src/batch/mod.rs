//! From prepared samples to the batches of a training.

use crate::policy::Chosen;

mod cut;
pub mod loader;
mod maker;
pub mod sampler;
pub mod source;

/// What one training step sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The step it is for.
    pub step: u64,
    /// What the network takes: one array per input pathway, full resolution first.
    pub inputs: Vec<Input>,
    /// (batch, x, y, z): the labels of the voxels that the network gives logits for.
    pub labels: Vec<u8>,
    /// Edges of `labels`.
    pub label_shape: [usize; 4],
    /// Name of each patch's case.
    pub cases: Vec<String>,
    /// Label of the voxel that each patch is centred on.
    pub centre_classes: Vec<u8>,
    /// The foreground class that each patch was placed for, where it was placed for one.
    pub sought: Vec<Option<u8>>,
    /// What the policy chose for each patch.
    pub chosen: Vec<Chosen>,
    /// Voxels of each class over the batch, after augmentation; ignored voxels are in none, padding is in
    /// the background.
    pub class_voxels: Vec<u64>,
    /// Set where voxels show mixtures of two labels: `labels` is then the first of them.
    pub mixture: Option<Mixture>,
    /// The same patches without augmentation, where they were asked for and differ.
    pub twin: Option<Box<Self>>,
    /// Seconds that one thread worked on it, by the clock.
    pub seconds: f64,
}

/// The second labels of a batch of mixed patches.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// As [`Batch::labels`].
    pub labels: Vec<u8>,
    /// What part of every voxel the first label is.
    pub share: f32,
}

/// The images of a batch for one input pathway of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// (batch, channel, x, y, z), row-major.
    pub values: Vec<f32>,
    /// Edges of `values`.
    pub shape: [usize; 5],
}

impl Input {
    /// The images of one sample, (channel, x, y, z).
    pub fn sample_mut(&mut self, index: usize) -> &mut [f32] {
        let length = self.shape[1..].iter().product::<usize>();
        &mut self.values[index * length..(index + 1) * length]
    }
}

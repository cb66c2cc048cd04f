//! Plans for DeepMedic: the data's spacing and normalisation stay, patch, batch and network are its own.

use super::{Plan, Reason};
use crate::Result;
use crate::network::DeepMedicShape;

impl Plan {
    /// Changes a plan for the U-Net into one for DeepMedic with its released segment and batch sizes.
    ///
    /// # Errors
    /// Where the shape cannot be built.
    pub fn for_deepmedic(&mut self, shape: DeepMedicShape) -> Result<()> {
        shape.check()?;
        self.patch = DeepMedicShape::TRAINING_SEGMENT;
        self.batch = DeepMedicShape::BATCH;
        self.deepmedic = Some(shape);
        self.reasons.retain(|reason| !OF_THE_UNET.contains(&reason.field.as_str()));
        let scales = self.deepmedic.iter().flat_map(|shape| &shape.scales);
        let scales = scales.map(usize::to_string).collect::<Vec<_>>().join(", ");
        for (field, text) in [
            (
                "deepmedic",
                format!(
                    "asked for (`network.kind`); pathways at scales {scales}, {} trained numbers",
                    self.parameters()
                ),
            ),
            (
                "patch",
                "DeepMedic's training segment: 37 voxels an edge, of which the middle 21 are labelled"
                    .to_owned(),
            ),
            ("batch", "DeepMedic's: ten segments".to_owned()),
        ] {
            self.reasons.push(Reason { field: field.to_owned(), text });
        }
        Ok(())
    }

    /// Edges of the full-resolution input in prediction, voxels.
    pub fn inference_segment(&self) -> [usize; 3] {
        self.deepmedic.as_ref().map_or(self.patch, |shape| shape.inference_segment)
    }
}

/// Reasons that hold for the U-Net alone.
const OF_THE_UNET: [&str; 5] = ["patch", "batch", "features", "strides", "step"];

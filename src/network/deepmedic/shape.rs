//! How many layers and maps DeepMedic has, what it sees, and what a pass costs.

use serde::{Deserialize, Serialize};

use super::DeepMedic;
use crate::config::{NetworkConfig, PlanOverrides, Variant};
use crate::network::shape::{dashed, times};
use crate::network::{Field, Network, NetworkShape, Padding, Pathway, Recommended, Shape};
use crate::{Error, Result};

/// The nonlinearity of all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// max(x, 0).
    Relu,
    /// x where positive, else x times a learned slope per map.
    PRelu,
}

/// Shape of DeepMedic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeepMedicShape {
    /// For each pathway: it sees every so many-th voxel of the image. The first is 1.
    pub scales: Vec<usize>,
    /// Feature maps of the 3x3x3 convolutions of every pathway.
    pub features: Vec<usize>,
    /// Feature maps of the layers between the joined pathways and the classifier.
    pub hidden: Vec<usize>,
    /// Share of the input that is dropped in training, for each hidden layer and the classifier.
    pub dropout: Vec<f64>,
    /// Whether layers 4, 6, 8 of a pathway and the second hidden one add an earlier map.
    pub residual: bool,
    /// Nonlinearity of all layers.
    pub activations: Activations,
    /// Edges of the full-resolution input in prediction, voxels.
    pub inference_segment: [usize; 3],
}

impl Variant {
    /// The shape of that name.
    pub fn shape(self) -> DeepMedicShape {
        let small = matches!(self, Self::Small | Self::BasicSmall);
        let basic = matches!(self, Self::Basic | Self::BasicSmall);
        DeepMedicShape {
            scales: vec![1, 3, 5],
            features: match small {
                true => vec![15, 15, 20, 20, 25, 25, 30, 30],
                false => vec![30, 30, 40, 40, 40, 40, 50, 50],
            },
            hidden: if small { vec![150; 2] } else { vec![250; 2] },
            dropout: if basic { vec![0.0; 3] } else { vec![0.0, 0.5, 0.5] },
            residual: !basic,
            activations: if basic { Activations::Relu } else { Activations::PRelu },
            inference_segment: DeepMedicShape::INFERENCE_SEGMENT,
        }
    }
}

impl DeepMedicShape {
    /// Edges of the full-resolution input in training, as released.
    pub const TRAINING_SEGMENT: [usize; 3] = [37; 3];
    /// Edges of the full-resolution input in prediction, as released.
    pub const INFERENCE_SEGMENT: [usize; 3] = [45; 3];
    /// Segments in a training batch, as released.
    pub const BATCH: usize = 10;

    /// Edges that the convolutions of a pathway take off, on each side.
    pub fn reach(&self) -> usize {
        self.features.len()
    }

    /// Maps of all pathways together.
    pub fn joined_maps(&self) -> usize {
        self.scales.len() * self.features.last().copied().unwrap_or(0)
    }

    /// Whether the output of a pathway's layer `number` (from 0) adds the input of the layer before.
    pub(super) fn has_residual(&self, number: usize) -> bool {
        self.residual && number >= 3 && number % 2 == 1
    }

    /// What is seen and labelled where the full-resolution input has edges `segment`. The coarser inputs have as
    /// many voxels as give `ceil(output / scale)` outputs, and begin so that their first output is centred on the
    /// first labelled voxel, as in the released code.
    ///
    /// # Errors
    /// Where the segment is smaller than the receptive field.
    pub fn field(&self, segment: [usize; 3]) -> Result<Field> {
        let lost = 2 * self.reach();
        if segment.iter().any(|&edge| edge <= lost) {
            return Err(Error::config(
                "plan.patch",
                format!("DeepMedic's convolutions take {lost} voxels off every edge of {segment:?}"),
                format!("give edges of at least {} voxels; 37 is usual in training", lost + 1),
            ));
        }
        let output = segment.map(|edge| edge - lost);
        let pathway = |&scale: &usize| Pathway {
            scale,
            size: output.map(|edge| edge.div_ceil(scale) + lost),
            before: self.reach() * scale,
        };
        Ok(Field { output, pathways: self.scales.iter().map(pathway).collect(), padding: Padding::Corners })
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// Names the field at fault.
    pub fn check(&self) -> Result<()> {
        let refuse =
            |field: &str, problem: String, mend: &str| Err(Error::config(field.to_owned(), problem, mend));
        if self.scales.first() != Some(&1) || self.scales.contains(&0) {
            let problem = format!("{:?}", self.scales);
            return refuse("deepmedic.scales", problem, "begin with 1 and give no 0, for example [1, 3, 5]");
        }
        if self.features.is_empty() || self.features.iter().chain(&self.hidden).any(|&maps| maps == 0) {
            let problem = format!("{:?} and {:?} feature maps", self.features, self.hidden);
            return refuse("deepmedic.features", problem, "give every layer at least one map");
        }
        if self.dropout.iter().any(|share| !(0.0..1.0).contains(share)) {
            let problem = format!("{:?}", self.dropout);
            return refuse("deepmedic.dropout", problem, "give shares of at least 0 and below 1");
        }
        // Maps are added to layers with at least as many.
        let widening = self.features.windows(2).all(|pair| pair[0] <= pair[1]);
        let wide = self.hidden.get(1).is_none_or(|&maps| maps >= self.joined_maps());
        if self.residual && !(widening && wide) {
            let problem = format!("{:?} and {:?} feature maps with residuals", self.features, self.hidden);
            return refuse(
                "deepmedic.features",
                problem,
                "let no layer have fewer maps than those before it",
            );
        }
        self.field(self.inference_segment).map(drop)
    }

    /// Multiply-adds of a forward pass of one sample, and how many of them take the image.
    fn multiply_adds(&self, segment: [usize; 3], channels: usize, classes: usize) -> [f64; 2] {
        let Ok(field) = self.field(segment) else { return [0.0; 2] };
        let (mut total, mut image) = (0.0, 0.0);
        for pathway in &field.pathways {
            let (mut size, mut inputs) = (pathway.size, channels);
            for (number, &outputs) in self.features.iter().enumerate() {
                size = size.map(|edge| edge - 2);
                let adds = (27 * inputs * outputs) as f64 * volume(size);
                total += adds;
                image += if number == 0 { adds } else { 0.0 };
                inputs = outputs;
            }
        }
        let mut inputs = self.joined_maps();
        for (number, &outputs) in self.hidden.iter().chain([&classes]).enumerate() {
            let kernel = if number == 0 && !self.hidden.is_empty() { 27 } else { 1 };
            total += (kernel * inputs * outputs) as f64 * volume(field.output);
            inputs = outputs;
        }
        [total, image]
    }

    /// Floating point operations of one sample's training step: forward, and backward towards weights and inputs;
    /// 0 for a segment that it cannot take.
    pub fn step_flops(&self, segment: [usize; 3], channels: usize, classes: usize) -> f64 {
        let [total, image] = self.multiply_adds(segment, channels, classes);
        2.0 * (3.0 * total - image)
    }

    /// Values in the feature maps of one sample: the output of every convolution, and the joined maps; 0 for a
    /// segment that it cannot take.
    pub fn feature_values(&self, segment: [usize; 3], classes: usize) -> f64 {
        let Ok(field) = self.field(segment) else { return 0.0 };
        let mut values = 0.0;
        for pathway in &field.pathways {
            let mut size = pathway.size;
            for &maps in &self.features {
                size = size.map(|edge| edge - 2);
                values += maps as f64 * volume(size);
            }
        }
        let hidden: usize = self.hidden.iter().sum();
        values + (self.joined_maps() + hidden + classes) as f64 * volume(field.output)
    }
}

impl NetworkShape for DeepMedicShape {
    fn network(&self, channels: usize, classes: usize, _: &NetworkConfig) -> Network {
        Network::DeepMedic(DeepMedic { channels, classes, shape: self.clone() })
    }

    fn field(&self, segment: [usize; 3]) -> Result<Field> {
        self.field(segment)
    }

    fn problems(&self, patch: [usize; 3]) -> Vec<String> {
        let maps = self.features.iter().chain(&self.hidden);
        if maps.chain(&self.inference_segment).chain(&self.scales).any(|&number| number > 4096) {
            return vec!["no number of `deepmedic` may be above 4096".to_owned()];
        }
        let checked = self.check().and_then(|()| self.field(patch).map(drop));
        checked.err().map(|error| error.to_string()).into_iter().collect()
    }

    fn step_flops(&self, patch: [usize; 3], channels: usize, classes: usize) -> f64 {
        self.step_flops(patch, channels, classes)
    }

    fn feature_values(&self, patch: [usize; 3], classes: usize) -> f64 {
        self.feature_values(patch, classes)
    }

    fn in_whole_vectors(&self, lanes: usize) -> Shape {
        let whole = |maps: &[usize]| maps.iter().map(|m| m.next_multiple_of(lanes)).collect();
        let (features, hidden) = (whole(&self.features), whole(&self.hidden));
        Shape::DeepMedic(Self { features, hidden, ..self.clone() })
    }

    fn override_by(&mut self, overrides: &PlanOverrides, patch: [usize; 3]) -> Result<()> {
        if overrides.base_features.is_some() {
            return Err(Error::config(
                "plan.base_features",
                "DeepMedic has no such value",
                "leave it out, or change `network.kind`; DeepMedic's maps are set by `network.variant`",
            ));
        }
        self.inference_segment = overrides.inference_patch.unwrap_or(self.inference_segment);
        self.field(patch)?;
        self.check()
    }

    fn describe(&self) -> Vec<(&'static str, String)> {
        vec![
            ("network", format!("DeepMedic, scales {}", self.named_scales())),
            ("features", format!("{}, then {}", dashed(&self.features), dashed(&self.hidden))),
            ("prediction", format!("{} voxels", times(&self.inference_segment))),
        ]
    }

    fn recommended(&self) -> Option<Recommended> {
        let edge = Self::TRAINING_SEGMENT[0];
        let labelled = edge - 2 * self.reach();
        let patch = format!(
            "DeepMedic's training segment: {edge} voxels an edge, of which the middle {labelled} are labelled"
        );
        Some(Recommended {
            patch: Self::TRAINING_SEGMENT,
            batch: Self::BATCH,
            network: ("deepmedic", format!("pathways at scales {}", self.named_scales())),
            reasons: vec![("patch", patch), ("batch", "DeepMedic's: ten segments".to_owned())],
        })
    }

    fn inference_segment(&self, _: [usize; 3]) -> [usize; 3] {
        self.inference_segment
    }

    fn test_time_forms(&self) -> usize {
        4
    }
}

impl DeepMedicShape {
    fn named_scales(&self) -> String {
        self.scales.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
    }
}

fn volume(size: [usize; 3]) -> f64 {
    size.iter().product::<usize>() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_the_shape_rule() {
        let shape = Variant::Default.shape();
        let sizes = |edge: usize| {
            let field = shape.field([edge; 3]).unwrap();
            let inputs: Vec<usize> = field.pathways.iter().map(|pathway| pathway.size[0]).collect();
            (inputs, field.output[0])
        };
        assert_eq!(sizes(37), (vec![37, 23, 21], 21));
        assert_eq!(sizes(45), (vec![45, 26, 22], 29));
        assert_eq!(sizes(17), (vec![17, 17, 17], 1));
        let error = shape.field([37, 16, 37]).unwrap_err().to_string();
        assert!(error.contains("plan.patch") && error.contains("17"), "{error}");
        let before: Vec<usize> = shape.field([37; 3]).unwrap().pathways.iter().map(|p| p.before).collect();
        assert_eq!(before, [8, 24, 40]);
    }

    #[test]
    fn the_default_has_two_million_kernel_weights() {
        let shape = Variant::Default.shape();
        let network = crate::network::deepmedic::DeepMedic { channels: 1, classes: 2, shape };
        let kernels: usize = Network::DeepMedic(network)
            .specifications()
            .iter()
            .filter(|s| s.shape.len() == 5)
            .map(|s| s.shape.iter().product::<usize>())
            .sum();
        let pathway = 27 * (30 + 30 * 30 + 30 * 40 + 3 * 40 * 40 + 40 * 50 + 50 * 50);
        assert_eq!(kernels, 3 * pathway + 27 * 150 * 250 + 250 * 250 + 250 * 2);
    }

    #[test]
    fn shapes_that_cannot_be_built_are_refused() {
        assert!(Variant::Default.shape().check().is_ok());
        let bad = [
            DeepMedicShape { scales: vec![3, 1], ..Variant::Default.shape() },
            DeepMedicShape { features: vec![30, 20], ..Variant::Default.shape() },
            DeepMedicShape { hidden: vec![100, 100], ..Variant::Default.shape() },
            DeepMedicShape { dropout: vec![1.0], ..Variant::Default.shape() },
            DeepMedicShape { inference_segment: [16; 3], ..Variant::Default.shape() },
        ];
        for shape in bad {
            assert!(shape.check().is_err(), "{shape:?}");
        }
    }
}

//! Volumes that are written beside a label map: the probabilities of the classes, and their entropy.

use ndarray::{Array3, ArrayView3, Axis, Zip, s};

use serde_json::{Value, json};

use super::Segmenter;
use crate::image::Shares;
use crate::image::volume::Volume;
use crate::prepare::Geometry;

/// Which volumes are written beside a label map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volumes {
    /// One of every class's probabilities, 0 to 1, stored so. Takes memory for classes x volume.
    pub probabilities: Option<Depth>,
    /// One of their entropy, as a share of the largest that so many classes can have: 0 where one class is certain, 1
    /// where all are alike. Steps of 1/65535.
    pub entropy: bool,
}

/// How a probability is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Rounded to the next multiple of 1/65535, in two bytes.
    U16,
    /// As it was computed, in four bytes.
    F32,
}

/// One of the volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeName {
    /// The probabilities of a class.
    Probability(usize),
    /// Their entropy.
    Entropy,
}

impl Volumes {
    /// What is written for so many classes.
    pub fn names(self, classes: usize) -> Vec<VolumeName> {
        let probabilities = self.probabilities.map_or(0..0, |_| 0..classes).map(VolumeName::Probability);
        probabilities.chain(self.entropy.then_some(VolumeName::Entropy)).collect()
    }

    /// Bytes of all of them for each voxel of a scan.
    pub fn bytes_per_voxel(self, classes: usize) -> u64 {
        let depth = |depth: Depth| match depth {
            Depth::U16 => 2,
            Depth::F32 => 4,
        };
        self.probabilities.map_or(0, depth) * classes as u64
            + if self.entropy { depth(Depth::U16) } else { 0 }
    }

    /// What a volume is made from, where a label map is made from `from`: how it is stored, too.
    pub fn made_from(self, from: &Value, volume: VolumeName) -> Value {
        let depth = match volume {
            VolumeName::Probability(_) => self.probabilities,
            VolumeName::Entropy => Some(Depth::U16),
        };
        let stored = match depth {
            Some(Depth::F32) => "f32",
            _ => "u16",
        };
        json!({ "labels": from, "stored": stored })
    }
}

/// The volumes of one scan while its planes of probabilities arrive, along the RAS+ axes. Outside the crop box all is
/// background, and certain.
pub(super) struct Filling<'a> {
    geometry: &'a Geometry,
    probabilities: Vec<Filled>,
    entropy: Option<Array3<u16>>,
}

enum Filled {
    U16(Array3<u16>),
    F32(Array3<f32>),
}

impl<'a> Filling<'a> {
    pub(super) fn new(volumes: Volumes, segmenter: &dyn Segmenter, geometry: &'a Geometry) -> Self {
        let [x, y, z] = geometry.original.oriented(&geometry.orientation).shape;
        let classes = 0..segmenter.classes();
        let empty = |depth: Depth, background: bool| match depth {
            Depth::U16 => Filled::U16(Array3::from_elem((x, y, z), stored(f32::from(u8::from(background))))),
            Depth::F32 => Filled::F32(Array3::from_elem((x, y, z), f32::from(u8::from(background)))),
        };
        Self {
            geometry,
            probabilities: volumes
                .probabilities
                .map_or(Vec::new(), |depth| classes.map(|class| empty(depth, class == 0)).collect()),
            entropy: volumes.entropy.then(|| Array3::zeros((x, y, z))),
        }
    }

    /// Takes in the probabilities (class, y, z) of one plane of the crop box.
    pub(super) fn plane(&mut self, x: usize, plane: ArrayView3<'_, f32>) {
        let [x0, y0, z0] = self.geometry.crop_start;
        let [_, cy, cz] = self.geometry.crop_shape;
        let place = s![x0 + x, y0..y0 + cy, z0..z0 + cz];
        for (volume, values) in self.probabilities.iter_mut().zip(plane.outer_iter()) {
            match volume {
                Filled::U16(volume) => {
                    Zip::from(volume.slice_mut(place)).and(values).for_each(|out, &p| *out = stored(p));
                }
                Filled::F32(volume) => volume.slice_mut(place).assign(&values),
            }
        }
        if let Some(volume) = &mut self.entropy {
            Zip::from(volume.slice_mut(place))
                .and(plane.lanes(Axis(0)))
                .par_for_each(|out, voxel| *out = stored(entropy(voxel.iter().copied())));
        }
    }

    /// The volumes on the scan's own grid, in the order of [`Volumes::names`].
    pub(super) fn finish(self) -> impl Iterator<Item = (VolumeName, Shares)> + use<'a> {
        let Self { geometry, probabilities, entropy } = self;
        let classes = probabilities.into_iter().enumerate();
        let named = classes.map(|(class, filled)| (VolumeName::Probability(class), filled));
        let all = named.chain(entropy.map(|volume| (VolumeName::Entropy, Filled::U16(volume))));
        all.map(|(name, filled)| {
            let (orientation, grid) = (&geometry.orientation, geometry.original.clone());
            let shares = match filled {
                Filled::U16(volume) => {
                    Shares::U16(Volume::new(orientation.undo(volume.view()).to_owned(), grid))
                }
                Filled::F32(volume) => {
                    Shares::F32(Volume::new(orientation.undo(volume.view()).to_owned(), grid))
                }
            };
            (name, shares)
        })
    }
}

/// A number from 0 to 1 in steps of 1/65535, the nearest.
fn stored(share: f32) -> u16 {
    // What rounding leaves above 1 becomes 1.
    (share * f32::from(u16::MAX)).round() as u16
}

/// Entropy of a voxel's probabilities over the largest that so many classes can have.
fn entropy(probabilities: impl ExactSizeIterator<Item = f32>) -> f32 {
    let largest = (probabilities.len() as f32).ln();
    // The limit of p ln p at 0 is 0.
    let sum: f32 = probabilities.filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum();
    (sum / largest).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_stored_to_half_a_step() {
        assert_eq!((stored(0.0), stored(1.0), stored(1.0 + 1e-6)), (0, u16::MAX, u16::MAX));
        for i in 0..=10_000 {
            let share = i as f32 / 10_000.0;
            assert!((f32::from(stored(share)) / 65535.0 - share).abs() <= 0.5 / 65535.0 + 1e-7, "{share}");
        }
    }

    #[test]
    fn entropy_is_a_share_of_its_largest() {
        let of = |probabilities: &[f32]| entropy(probabilities.iter().copied());
        assert_eq!(of(&[0.0, 1.0, 0.0]), 0.0);
        assert!((of(&[0.25; 4]) - 1.0).abs() < 1e-6);
        // -(0.9 ln 0.9 + 0.1 ln 0.1) / ln 2
        assert!((of(&[0.9, 0.1]) - 0.468_995_6).abs() < 1e-6);
        assert!((of(&[0.5, 0.5, 0.0]) - 2f32.ln() / 3f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn names_follow_what_is_wanted() {
        assert_eq!(Volumes::default().names(3), []);
        let both = Volumes { probabilities: Some(Depth::F32), entropy: true };
        assert_eq!(
            both.names(2),
            [VolumeName::Probability(0), VolumeName::Probability(1), VolumeName::Entropy]
        );
    }
}

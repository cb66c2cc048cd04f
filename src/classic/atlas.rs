//! Where classes lie: a mean template of the training cases, and how often each class lies at each place of it.
//!
//! A case is brought onto the template once, affinely and then deformably; the way back carries the frequencies onto the case.
//! Those of a training case leave its own labels out.

use ndarray::{Array3, Array4, ArrayView3, ArrayView4, Axis};

use super::arrays::{Named, Stored, bytes};
use crate::config::classical::Registration;
use crate::image::register::{
    Affine, AffineOptions, Frame, Images, Map, Step, Template, TemplateOptions, Velocity, VelocityOptions,
    VelocitySimilarity, affine, deform, template,
};
use crate::image::resample::resample_image;
use crate::prepare::Sample;
use crate::{Error, Result};

/// Voxels that are registered, at most; finer images are registered on a coarser grid of the same box.
const VOXELS: usize = 500_000;
/// A probability of 0 would forbid a class for ever.
pub(super) const FLOOR: f32 = 1e-4;
/// Standard deviations below the training cases' mean similarity at which a deformation is not trusted.
const ODD: f64 = 4.0;

/// The template of a fit and the labels on it.
#[derive(Clone, Debug)]
pub(super) struct Atlas {
    /// The mean image.
    pub(super) template: Images,
    /// Sum over the training cases of their labels on the template, (class, x, y, z).
    sums: Array4<f32>,
    cases: usize,
    /// Mean and standard deviation of the similarity that training cases reach.
    similarity: [f64; 2],
    options: VelocityOptions,
}

/// A case beside the template.
#[derive(Clone, Debug)]
pub(super) struct Alignment {
    /// From points of the template to points of the case.
    pub(super) to_case: Map,
    /// The way back.
    pub(super) to_template: Map,
    /// What is odd about it.
    pub(super) note: Option<String>,
}

/// The images of a sample on the grid that they are registered on.
pub(super) fn images(sample: &Sample) -> Images {
    let (_, nx, ny, nz) = sample.images.dim();
    let shape = [nx, ny, nz];
    let spacing = sample.geometry.spacing;
    let coarser = working(shape, spacing);
    if coarser == shape {
        return Images { channels: sample.images.clone(), spacing };
    }
    let [x, y, z] = coarser;
    let mut channels = Array4::zeros((sample.images.dim().0, x, y, z));
    for (mut to, from) in channels.outer_iter_mut().zip(sample.images.outer_iter()) {
        to.assign(&resample_image(from, coarser, None));
    }
    let edge = |axis: usize| shape[axis] as f64 * spacing[axis] / coarser[axis] as f64;
    Images { channels, spacing: [edge(0), edge(1), edge(2)] }
}

/// The grid of a sample.
pub(super) fn frame(sample: &Sample) -> Frame {
    Frame { shape: sample.geometry.shape, spacing: sample.geometry.spacing }
}

/// The shape of a grid of at most [`VOXELS`] voxels, whose finest axes are coarsened first.
fn working(shape: [usize; 3], spacing: [f64; 3]) -> [usize; 3] {
    let of = |finest: f64| -> [usize; 3] {
        std::array::from_fn(|axis| {
            let length = shape[axis] as f64 * spacing[axis];
            ((length / finest.max(spacing[axis])).round() as usize).clamp(1, shape[axis])
        })
    };
    let mut finest = spacing.into_iter().fold(f64::INFINITY, f64::min);
    while of(finest).iter().product::<usize>() > VOXELS {
        finest *= 1.05;
    }
    of(finest)
}

/// The options of a registration.
pub(super) fn velocity(settings: &Registration) -> VelocityOptions {
    let Registration { radius, fluid, diffusion, iterations } = settings.clone();
    let similarity = VelocitySimilarity::Local { radius };
    VelocityOptions { similarity, iterations, fluid, diffusion, ..VelocityOptions::default() }
}

impl Atlas {
    /// The template of cases, and the map from it to each. `progress` receives registrations done, of [`Self::registrations`].
    pub(super) fn template(
        cases: &[Images],
        settings: &Registration,
        progress: &mut dyn FnMut(usize),
    ) -> Template {
        template(cases, &Self::template_options(settings), progress)
    }

    /// Registrations of a template of so many cases.
    pub(super) fn registrations(cases: usize, settings: &Registration) -> usize {
        Self::template_options(settings).registrations(cases)
    }

    fn template_options(settings: &Registration) -> TemplateOptions {
        TemplateOptions { deformation: velocity(settings), ..TemplateOptions::default() }
    }

    /// The atlas of a template on which no labels lie yet.
    pub(super) fn of(image: Images, similarity: &[f64], classes: usize, settings: &Registration) -> Self {
        let n = similarity.len().max(1) as f64;
        let mean = similarity.iter().sum::<f64>() / n;
        let variance = similarity.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n;
        let [x, y, z] = image.frame().shape;
        let sums = Array4::zeros((classes, x, y, z));
        let similarity = [mean, variance.sqrt()];
        Self { template: image, sums, cases: 0, similarity, options: velocity(settings) }
    }

    /// Number of classes.
    pub(super) fn classes(&self) -> usize {
        self.sums.len_of(Axis(0))
    }

    /// The labels of a case on the template, (class, x, y, z).
    pub(super) fn labels(&self, to_case: &Map, labels: ArrayView3<'_, u8>, case: Frame) -> Array4<f32> {
        let map = Map { moving: case, ..to_case.clone() };
        map.labels(labels, self.classes())
    }

    /// Takes in the labels of a training case, as [`Self::labels`] gives them.
    pub(super) fn add(&mut self, labels: &Array4<f32>) {
        self.sums += labels;
        self.cases += 1;
    }

    /// How often each class lies at each place of the template, (class, x, y, z); without a training case whose labels are given.
    pub(super) fn frequencies(&self, without: Option<&Array4<f32>>) -> Array4<f32> {
        let others = self.cases - usize::from(without.is_some());
        if others == 0 {
            return Array4::from_elem(self.sums.raw_dim(), 1.0 / self.classes() as f32);
        }
        let mut frequencies = match without {
            Some(own) => &self.sums - own,
            None => self.sums.clone(),
        };
        let scale = (1.0 - self.classes() as f32 * FLOOR) / others as f32;
        frequencies.mapv_inplace(|sum| scale * sum.max(0.0) + FLOOR);
        frequencies
    }

    /// Brings a case onto the template.
    pub(super) fn align(&self, images: &Images) -> Alignment {
        let aligned = affine(&self.template, images, &AffineOptions::default());
        let [mean, deviation] = self.similarity;
        if aligned.refused {
            let note = "no affine registration to the template was found: the centres of the boxes lie on each other";
            return self.alignment(images, aligned.affine, Some(note.to_owned()));
        }
        let deformed = deform(&self.template, images, &aligned.affine, &self.options);
        let reached = deformed.similarity.last().copied().unwrap_or(0.0);
        if self.cases > 2 && reached < mean - ODD * deviation.max(1e-3) {
            let note = format!(
                "registration reached a similarity of {reached:.2} where training cases have {mean:.2} ± {deviation:.2}: its \
                 affine alignment alone was used"
            );
            return self.alignment(images, aligned.affine, Some(note));
        }
        Alignment::of(deformed.map, None).unwrap_or_else(|| self.alignment(images, Affine::IDENTITY, None))
    }

    fn alignment(&self, images: &Images, affine: Affine, note: Option<String>) -> Alignment {
        let map = |affine| Map::affine(self.template.frame(), images.frame(), affine);
        Alignment::of(map(affine), note.clone()).unwrap_or_else(|| Alignment {
            to_case: map(Affine::IDENTITY),
            to_template: Map::affine(images.frame(), self.template.frame(), Affine::IDENTITY),
            note,
        })
    }

    /// As files: the template and the sums.
    ///
    /// # Errors
    /// Never, of whole arrays.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let shape = |array: &Array4<f32>| -> Vec<usize> { array.shape().to_vec() };
        let (image, sums) = (&self.template.channels, &self.sums);
        bytes(&[
            Named::f32("image", &shape(image), image.iter().copied()),
            Named::f32("sums", &shape(sums), sums.iter().copied()),
            Named::f64("spacing", &[3], self.template.spacing),
            Named::f64("similarity", &[2], self.similarity),
            Named::u32("cases", &[1], [self.cases as u32]),
        ])
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Where the file is not one of an atlas of so many channels and classes.
    pub(super) fn read(
        stored: &Stored<'_>,
        (channels, classes): (usize, usize),
        settings: &Registration,
    ) -> Result<Self> {
        let (image, values) = stored.f32::<4>("image")?;
        let template =
            Array4::from_shape_vec(image, values).map_err(|e| stored.damaged("image", e.to_string()))?;
        let (shape, values) = stored.f32::<4>("sums")?;
        let sums =
            Array4::from_shape_vec(shape, values).map_err(|e| stored.damaged("sums", e.to_string()))?;
        let (_, spacing) = stored.f64::<1>("spacing")?;
        let (_, similarity) = stored.f64::<1>("similarity")?;
        let (_, cases) = stored.u32::<1>("cases")?;
        let (Ok(spacing), Ok(similarity), [cases]) =
            (<[f64; 3]>::try_from(spacing), <[f64; 2]>::try_from(similarity), cases.as_slice())
        else {
            return Err(
                stored.damaged("spacing", "3 spacings, 2 similarities and 1 number of cases belong here")
            );
        };
        if image[0] != channels || shape[0] != classes || image[1..] != shape[1..] || image.contains(&0) {
            return Err(stored.damaged(
                "image",
                format!("shapes {image:?} and {shape:?} are not those of {channels} channels and {classes} classes"),
            ));
        }
        let template = Images { channels: template, spacing };
        Ok(Self { template, sums, cases: *cases as usize, similarity, options: velocity(settings) })
    }
}

impl Alignment {
    /// Of a map from the template to a case; none where it cannot be inverted.
    pub(super) fn of(to_case: Map, note: Option<String>) -> Option<Self> {
        let to_template = to_case.inverse()?;
        Some(Self { to_case, to_template, note })
    }

    /// Volumes of the template on the grid of the case, `outside` where there is none of it.
    pub(super) fn onto_case(
        &self,
        volumes: ArrayView4<'_, f32>,
        case: Frame,
        outside: &[f32],
    ) -> Array4<f32> {
        let map = Map { fixed: case, ..self.to_template.clone() };
        pulled(&map, volumes, outside)
    }

    /// Where the voxels of the case lie in the template, (axis, x, y, z), mm from its centre.
    pub(super) fn places(&self, case: Frame) -> Array4<f32> {
        let map = Map { fixed: case, ..self.to_template.clone() };
        map.points().mapv(|at| at as f32)
    }
}

/// Volumes through a map.
pub(super) fn pulled(map: &Map, volumes: ArrayView4<'_, f32>, outside: &[f32]) -> Array4<f32> {
    let [x, y, z] = map.fixed.shape;
    let mut all = Array4::zeros((volumes.len_of(Axis(0)), x, y, z));
    for ((mut to, from), &outside) in all.outer_iter_mut().zip(volumes.outer_iter()).zip(outside) {
        to.assign(&map.image(from, Some(outside)));
    }
    all
}

/// The class of the largest probability of each voxel, the first of equal ones.
pub(super) fn decided(probabilities: ArrayView4<'_, f32>) -> Array3<u8> {
    let (_, x, y, z) = probabilities.dim();
    let mut labels = Array3::zeros((x, y, z));
    let mut largest = probabilities.index_axis(Axis(0), 0).to_owned();
    for (class, own) in probabilities.outer_iter().enumerate().skip(1) {
        ndarray::Zip::from(&mut labels).and(&mut largest).and(own).for_each(|label, largest, &own| {
            if own > *largest {
                (*label, *largest) = (class as u8, own);
            }
        });
    }
    labels
}

/// A map in one file.
///
/// # Errors
/// Never, of whole arrays.
pub(super) fn map_bytes(map: &Map) -> Result<Vec<u8>> {
    bytes(&map_arrays(map)?)
}

/// The arrays of a map.
///
/// # Errors
/// Where it has more than two steps of a kind.
pub(super) fn map_arrays(map: &Map) -> Result<Vec<Named>> {
    let mut arrays = Vec::new();
    let mut order = Vec::new();
    let names = [("affine", "velocity", "spacing"), ("affine 2", "velocity 2", "spacing 2")];
    let mut counts = [0usize; 2];
    for step in &map.steps {
        let kind = usize::from(matches!(step, Step::Velocity(_)));
        let Some((affine, velocity, spacing)) = names.get(counts[kind]) else {
            return Err(Error::Internal { what: "a map of more than two steps of a kind".to_owned() });
        };
        counts[kind] += 1;
        order.push(kind as u32);
        match step {
            Step::Affine(step) => {
                let values = step.matrix.iter().flatten().chain(&step.shift).copied();
                arrays.push(Named::f64(affine, &[12], values));
            }
            Step::Velocity(step) => {
                let field = &step.millimetres;
                arrays.push(Named::f32(velocity, field.shape(), field.iter().copied()));
                arrays.push(Named::f64(spacing, &[3], step.spacing));
            }
        }
    }
    let frame = |frame: Frame| frame.shape.map(|edge| edge as u32);
    arrays.push(Named::u32("steps", &[order.len()], order));
    arrays.push(Named::u32("fixed", &[3], frame(map.fixed)));
    arrays.push(Named::u32("moving", &[3], frame(map.moving)));
    arrays.push(Named::f64("fixed spacing", &[3], map.fixed.spacing));
    arrays.push(Named::f64("moving spacing", &[3], map.moving.spacing));
    Ok(arrays)
}

/// Reads a map back.
///
/// # Errors
/// Where the file is none of a map.
pub(super) fn read_map(stored: &Stored<'_>) -> Result<Map> {
    let three = |name: &str| -> Result<[f64; 3]> {
        let (_, values) = stored.f64::<1>(name)?;
        let good = values.iter().all(|v| *v > 0.0 && v.is_finite());
        <[f64; 3]>::try_from(values)
            .ok()
            .filter(|_| good)
            .ok_or_else(|| stored.damaged(name, "3 spacings belong here"))
    };
    let shape = |name: &str| -> Result<[usize; 3]> {
        let (_, values) = stored.u32::<1>(name)?;
        let values: Vec<usize> = values.iter().map(|&v| v as usize).collect();
        <[usize; 3]>::try_from(values)
            .ok()
            .filter(|shape| !shape.contains(&0))
            .ok_or_else(|| stored.damaged(name, "3 edges belong here"))
    };
    let (_, order) = stored.u32::<1>("steps")?;
    let mut counts = [0usize; 2];
    let mut steps = Vec::new();
    for kind in order {
        let kind = usize::from(kind == 1);
        let ending = if counts[kind] == 0 { "" } else { " 2" };
        counts[kind] += 1;
        steps.push(match kind {
            0 => {
                let name = format!("affine{ending}");
                let (_, v) = stored.f64::<1>(&name)?;
                if v.len() != 12 || v.iter().any(|v| !v.is_finite()) {
                    return Err(stored.damaged(&name, "12 numbers belong here"));
                }
                let matrix = std::array::from_fn(|row| std::array::from_fn(|column| v[3 * row + column]));
                Step::Affine(Affine { matrix, shift: [v[9], v[10], v[11]] })
            }
            _ => {
                let name = format!("velocity{ending}");
                let (shape, values) = stored.f32::<4>(&name)?;
                if shape[0] != 3 || shape.contains(&0) || values.iter().any(|v| !v.is_finite()) {
                    return Err(stored.damaged(&name, "finite vectors of 3 belong here"));
                }
                let millimetres = Array4::from_shape_vec(shape, values)
                    .map_err(|e| stored.damaged(&name, e.to_string()))?;
                Step::Velocity(Velocity { millimetres, spacing: three(&format!("spacing{ending}"))? })
            }
        });
    }
    Ok(Map {
        fixed: Frame { shape: shape("fixed")?, spacing: three("fixed spacing")? },
        moving: Frame { shape: shape("moving")?, spacing: three("moving spacing")? },
        steps,
    })
}

//! A mean image of many cases, and the maps from it to each of them.
//!
//! After Guimond, Meunier, Thirion, *Average Brain Models*, CVIU 77, 2000: register all to the image so far, take the
//! mean of what is pulled, and divide out the mean of the maps.

use ndarray::Array4;
use rayon::prelude::*;

use super::affine::{AffineOptions, affine};
use super::map::{Map, Step, Velocity};
use super::velocity::{VelocityOptions, deform};
use super::{Affine, Frame, Images};

/// How a template is made.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateOptions {
    /// Rounds of affine registration.
    pub affine_rounds: usize,
    /// Rounds of deformable registration after them.
    pub deformable_rounds: usize,
    /// For the affine rounds.
    pub affine: AffineOptions,
    /// For the deformable rounds.
    pub deformation: VelocityOptions,
    /// Whether the mean velocity is divided out too, so that the template has the mean shape of the cases rather than
    /// that of the case it began with. It matters where sizes are compared.
    pub mean_shape: bool,
}

impl Default for TemplateOptions {
    fn default() -> Self {
        Self {
            affine_rounds: 2,
            deformable_rounds: 2,
            affine: AffineOptions::default(),
            deformation: VelocityOptions::default(),
            mean_shape: false,
        }
    }
}

impl TemplateOptions {
    /// Registrations that [`template`] makes of so many cases: what its progress counts to.
    pub fn registrations(&self, cases: usize) -> usize {
        if cases > 1 { cases * (self.affine_rounds + self.deformable_rounds) } else { 0 }
    }
}

/// A mean image.
#[derive(Clone, Debug)]
pub struct Template {
    /// Of mean 0 and variance 1 per channel.
    pub image: Images,
    /// From the template to each case, in the order of the cases.
    pub maps: Vec<Map>,
    /// The similarity of each case's last registration.
    pub similarity: Vec<f64>,
    /// Cases, by their number, whose affine was refused in the last affine round: see [`super::Aligned`].
    pub refused: Vec<usize>,
}

/// The template of `cases`, all with the same channels; at least one case, else a panic (a bug of the caller).
///
/// It begins as the case whose box has the median volume and keeps that case's grid. One case alone is its own
/// template. `progress` is called with the number of registrations that were finished since the last call, from the
/// calling thread; they run in parallel, and the result does not depend on the number of threads.
pub fn template(cases: &[Images], options: &TemplateOptions, progress: &mut dyn FnMut(usize)) -> Template {
    let mut order: Vec<usize> = (0..cases.len()).collect();
    let volume = |case: usize| cases[case].frame().edges().iter().product::<f64>();
    order.sort_by(|&a, &b| volume(a).total_cmp(&volume(b)).then(a.cmp(&b)));
    let first = standardised(&cases[order[(cases.len() - 1) / 2]]);
    let frame = first.frame();
    let mut template = Template {
        image: first,
        maps: cases.iter().map(|case| Map::affine(frame, case.frame(), Affine::IDENTITY)).collect(),
        similarity: vec![1.0; cases.len()],
        refused: Vec::new(),
    };
    if cases.len() == 1 {
        return template;
    }
    let mut affines = vec![Affine::IDENTITY; cases.len()];
    for round in 0..options.affine_rounds {
        template.refused.clear();
        let image = &template.image;
        let aligned = in_order(cases.len(), progress, |case| {
            let mut options = options.affine.clone();
            if round > 0 {
                options.starts.push(affines[case]);
            }
            affine(image, &cases[case], &options)
        });
        for (case, aligned) in aligned.iter().enumerate() {
            affines[case] = aligned.affine;
            template.similarity[case] = aligned.similarity;
            if aligned.refused {
                template.refused.push(case);
            }
        }
        // The template takes the mean size: afterwards the mean of the affines is the identity.
        if let Some(mean) = Affine::mean(&affines).inverse() {
            affines.iter_mut().for_each(|affine| *affine = mean.then(affine));
        }
        for (map, affine) in template.maps.iter_mut().zip(&affines) {
            map.steps = vec![Step::Affine(*affine)];
        }
        template.image = mean_image(cases, &template.maps);
    }
    for _ in 0..options.deformable_rounds {
        let image = &template.image;
        let deformed = in_order(cases.len(), progress, |case| {
            let deformed = deform(image, &cases[case], &affines[case], &options.deformation);
            (deformed.map, deformed.similarity.last().copied().unwrap_or_default())
        });
        for (case, (map, similarity)) in deformed.into_iter().enumerate() {
            template.maps[case] = map;
            template.similarity[case] = similarity;
        }
        if options.mean_shape {
            let mean = mean_velocity(&template.maps, frame);
            for map in &mut template.maps {
                map.steps.insert(0, Step::Velocity(mean.negated()));
            }
        }
        template.image = mean_image(cases, &template.maps);
    }
    template
}

/// Results of `work` for 0..count, in that order; a few at a time, so that there is progress to tell of.
fn in_order<R: Send>(
    count: usize,
    progress: &mut dyn FnMut(usize),
    work: impl Fn(usize) -> R + Sync,
) -> Vec<R> {
    let mut out = Vec::with_capacity(count);
    let together = 2 * rayon::current_num_threads();
    while out.len() < count {
        let next = out.len()..count.min(out.len() + together);
        let done = next.len();
        out.par_extend(next.into_par_iter().map(&work));
        progress(done);
    }
    out
}

/// Every channel with mean 0 and variance 1.
fn standardised(images: &Images) -> Images {
    super::pyramid::level(images, [1; 3])
}

/// The mean of what the maps pull of the cases, each case brought to mean 0 and variance 1 before.
fn mean_image(cases: &[Images], maps: &[Map]) -> Images {
    let frame = maps[0].fixed;
    let [x, y, z] = frame.shape;
    let channels = cases[0].len();
    let mut sum = Array4::<f64>::zeros((channels, x, y, z));
    for (case, map) in cases.iter().zip(maps) {
        let case = standardised(case);
        for (channel, mut sum) in sum.outer_iter_mut().enumerate() {
            sum.zip_mut_with(&map.image(case.channel(channel), None), |sum, &value| *sum += f64::from(value));
        }
    }
    let mean = sum.mapv(|sum| (sum / cases.len() as f64) as f32);
    standardised(&Images { channels: mean, spacing: frame.spacing })
}

/// The mean of the first velocity field of every map.
fn mean_velocity(maps: &[Map], frame: Frame) -> Velocity {
    let [x, y, z] = frame.shape;
    let mut sum = Array4::<f64>::zeros((3, x, y, z));
    for step in maps.iter().filter_map(|map| map.steps.first()) {
        if let Step::Velocity(velocity) = step {
            sum.zip_mut_with(&velocity.millimetres, |sum, &value| *sum += f64::from(value));
        }
    }
    Velocity { millimetres: sum.mapv(|sum| (sum / maps.len() as f64) as f32), spacing: frame.spacing }
}

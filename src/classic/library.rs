//! Training cases that serve as atlases: which of them, brought onto a case, joined.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::{Array2, Array3, Array4, Axis, concatenate, s};
use rayon::prelude::*;

use super::arrays::{Named, Stored, bytes};
use super::atlas::{self, Alignment, Atlas, pulled, read_map};
use super::fit::{Loaded, Work};
use super::fitted::{ATLASES, Context, DICTIONARY, Fitted, LeftOut};
use super::forest::pool;
use super::fusion::{self, Fusion, Joint, Local, Staple};
use super::sparse::learn::Learning;
use super::sparse::{self, Dictionaries};
use super::store::Store;
use super::{Region, Segmented};
use crate::config::MethodName;
use crate::config::classical::Selection;
use crate::image::register::{Affine, Images, Map, Step, deform};
use crate::image::resample::resample_labels;
use crate::prepare::Sample;
use crate::{Error, Result};

/// Patches of a class that its dictionary is learned from, about.
const PATCHES: usize = 20_000;

/// A training case that serves as an atlas.
#[derive(Clone, Debug)]
pub(super) struct LibraryCase {
    pub(super) id: String,
    pub(super) images: Images,
    pub(super) labels: Array3<u8>,
    /// From the template to it.
    pub(super) to_case: Map,
}

impl Fitted {
    /// The most similar training cases, each registered to the sample, joined.
    pub(super) fn by_atlases(
        &self,
        sample: &Sample,
        context: &Context,
        [x, y, z]: &[Range<usize>; 3],
        left_out: Option<LeftOut<'_>>,
    ) -> Result<Segmented> {
        let (Some(atlas), Some(alignment)) = (&self.atlas, &context.alignment) else {
            return Err(Error::Internal { what: "multi-atlas without an atlas".to_owned() });
        };
        let images = atlas::images(sample);
        let sparse = self.method == MethodName::Sparse;
        let count = if sparse { self.settings.sparse.cases } else { self.settings.multi_atlas.count };
        let chosen = self.select(atlas, alignment, &images, sample, (count, left_out));
        let frame = atlas::frame(sample);
        let options = atlas::velocity(&self.settings.registration);
        let warp = |case: &&LibraryCase| {
            // Case -> template -> atlas, affinely.
            let start = affine_of(&alignment.to_template).then(&affine_of(&case.to_case));
            let map = match sparse {
                // Patches are looked for around their place.
                true => Map::affine(frame, case.images.frame(), start),
                false => deform(&images, &case.images, &start, &options).map,
            };
            let map = Map { fixed: frame, ..map };
            let own = pulled(&map, case.images.channels.view(), &vec![0.0; images.len()]);
            let labels = map.labels(case.labels.view(), self.classes);
            let cut = |array: Array4<f32>| array.slice(s![.., x.clone(), y.clone(), z.clone()]).to_owned();
            (cut(own), cut(labels))
        };
        let warped: Vec<(Array4<f32>, Array4<f32>)> = chosen.par_iter().map(warp).collect();
        let atlases: Vec<fusion::Atlas<'_>> = warped
            .iter()
            .map(|(images, labels)| fusion::Atlas { images: images.view(), labels: labels.view() })
            .collect();
        let target = sample.images.slice(s![.., x.clone(), y.clone(), z.clone()]);
        if sparse {
            let prior = context.prior.slice(s![.., x.clone(), y.clone(), z.clone()]);
            let spacing = sample.geometry.spacing;
            let region = Region { images: target, prior, likelihood: prior, spacing };
            let settings =
                sparse::Settings { lambda: self.settings.sparse.lambda, ..sparse::Settings::default() };
            return Ok(sparse::by_cases(&region, &atlases, settings));
        }
        let settings = &self.settings.multi_atlas;
        let fusion = match self.method {
            MethodName::MultiAtlasMajority => Fusion::Majority,
            MethodName::MultiAtlasLocal => {
                Fusion::Local(Local { radius: settings.patch, ..Local::default() })
            }
            MethodName::MultiAtlasStaple => Fusion::Staple(Staple::default()),
            _ => Fusion::Joint(Joint { radius: settings.patch, search: settings.search, ..Joint::default() }),
        };
        Ok(Segmented { probabilities: fusion::fuse(target, &atlases, fusion), notes: Vec::new() })
    }

    /// The atlases of a sample, the most similar one first.
    fn select(
        &self,
        atlas: &Atlas,
        alignment: &Alignment,
        images: &Images,
        sample: &Sample,
        (count, left_out): (usize, Option<LeftOut<'_>>),
    ) -> Vec<&LibraryCase> {
        let template = atlas.template.frame();
        let on_template = |map: &Map, images: &Images| {
            let affine = Map::affine(template, images.frame(), affine_of(map));
            let own = pulled(&affine, images.channels.view(), &vec![0.0; images.len()]);
            fusion::select::smoothed(own.view(), template.spacing)
        };
        let place = fusion::select::place(atlas.frequencies(None).view(), template.spacing);
        let own = on_template(&alignment.to_case, images);
        let measure = self.settings.multi_atlas.select;
        let candidates: Vec<&LibraryCase> =
            self.library.iter().filter(|case| left_out.is_none_or(|left| left.id != case.id)).collect();
        let similarity: Vec<f64> = candidates
            .iter()
            .map(|case| {
                let other = on_template(&case.to_case, &case.images);
                fusion::select::similarity(own.view(), other.view(), place.view(), measure)
            })
            .collect();
        let chosen = match measure {
            Selection::Random => fusion::select::drawn(candidates.len(), count, self.seed, &sample.id),
            _ => fusion::select::most_similar(&similarity, count),
        };
        chosen.into_iter().map(|number| candidates[number]).collect()
    }
}

/// The affine of a map from or to the template, without its deformation.
fn affine_of(map: &Map) -> Affine {
    map.steps.iter().fold(Affine::IDENTITY, |all, step| match step {
        Step::Affine(affine) => all.then(affine),
        Step::Velocity(_) => all,
    })
}

impl Work<'_> {
    /// The training cases themselves, for methods that carry their labels over.
    pub(super) fn atlases(&mut self) -> Result<()> {
        let keeps = match self.method() {
            MethodName::Sparse => self.reader()?.takes_cases(),
            MethodName::Atlas => false,
            _ => self.needs_atlas(),
        };
        match (keeps, self.method()) {
            (false, MethodName::Sparse) => self.dictionaries(),
            (false, _) => Ok(()),
            (true, _) => self.keep_cases(),
        }
    }

    /// Dictionaries of the classes, from patches of all cases.
    fn dictionaries(&mut self) -> Result<()> {
        let (config, classes) = (self.fit.config, self.fit.plan.classes);
        let settings = sparse::Settings::default();
        let each = PATCHES.div_ceil(self.fit.cases.len());
        let mut patches: Vec<Vec<Array2<f64>>> = vec![Vec::new(); classes];
        self.progress.begin("patches of training cases", self.fit.cases.len() as u64);
        for number in 0..self.fit.cases.len() {
            self.go_on("patches")?;
            let sample = self.fit.cases[number].load()?;
            let Some(labels) = &sample.labels else { continue };
            let spacing = sample.geometry.spacing;
            let pool = pool::draw(labels.view(), spacing, classes, each, config.seed, &sample.id);
            let mut from = 0;
            for stratum in &pool.strata {
                let voxels = &pool.positions[from..from + stratum.rows];
                from += stratum.rows;
                let own = sparse::patches(sample.images.view(), spacing, settings.radius, voxels);
                patches[usize::from(stratum.class)].push(own);
            }
            self.progress.advance(1);
        }
        self.progress.end();
        let joined = patches.iter().map(|own| {
            let views: Vec<_> = own.iter().map(|own| own.view()).collect();
            concatenate(Axis(0), &views)
                .map_err(|e| Error::Internal { what: format!("patches of a class: {e}") })
        });
        let joined = joined.collect::<Result<Vec<_>>>()?;
        self.progress.note("learning one dictionary a class");
        let learning = Learning { seed: config.seed, ..Learning::default() };
        self.store.write(DICTIONARY, &Dictionaries::learn(&joined, settings.radius, learning).bytes()?)
    }

    fn keep_cases(&mut self) -> Result<()> {
        let atlas = self.atlas()?;
        let cases = self.fit.cases.len();
        let keep = self.fit.config.classical.multi_atlas.keep.min(cases);
        if keep < cases {
            self.progress
                .note(&format!("{keep} of {cases} training cases are kept as atlases, evenly spread"));
        }
        let mut index = BTreeMap::new();
        for kept in 0..keep {
            self.go_on("atlases")?;
            let number = kept * cases / keep;
            let Loaded { sample, on_template } = self.load(number, Some(&atlas))?;
            let (Some(labels), Some((map, _))) = (&sample.labels, on_template) else { continue };
            let images = atlas::images(&sample);
            let working = images.frame();
            let labels = match working.shape == sample.geometry.shape {
                true => labels.clone(),
                false => resample_labels(labels.view(), working.shape, None),
            };
            let mut arrays = vec![
                Named::f32("images", images.channels.shape(), images.channels.iter().copied()),
                Named::u8("labels", labels.shape(), labels.iter().copied()),
                Named::f64("image spacing", &[3], images.spacing),
            ];
            arrays.extend(atlas::map_arrays(&Map { moving: working, ..map })?);
            let file = format!("atlases/{number:04}.safetensors");
            self.store.write(&file, &bytes(&arrays)?)?;
            index.insert(sample.id.clone(), file);
        }
        self.progress.note(
            "model/atlases holds the training scans themselves: share this run only where the scans may be shared",
        );
        self.store.write_json(ATLASES, &index)
    }
}

impl LibraryCase {
    pub(super) fn read(store: &Store, id: &str, file: &str) -> Result<Self> {
        let bytes = store.read(file)?;
        let path = store.path(file);
        let stored = Stored::read(&bytes, &path)?;
        let (shape, values) = stored.f32::<4>("images")?;
        let channels =
            Array4::from_shape_vec(shape, values).map_err(|e| stored.damaged("images", e.to_string()))?;
        let (own, values) = stored.u8::<3>("labels")?;
        let labels =
            Array3::from_shape_vec(own, values).map_err(|e| stored.damaged("labels", e.to_string()))?;
        let (_, spacing) = stored.f64::<1>("image spacing")?;
        let spacing = <[f64; 3]>::try_from(spacing)
            .map_err(|_| stored.damaged("image spacing", "3 spacings belong here"))?;
        let to_case = read_map(&stored)?;
        if shape[1..] != own[..] || to_case.moving.shape != own {
            return Err(
                stored.damaged("labels", format!("shape {own:?} is not that of the images, {shape:?}"))
            );
        }
        Ok(Self { id: id.to_owned(), images: Images { channels, spacing }, labels, to_case })
    }
}

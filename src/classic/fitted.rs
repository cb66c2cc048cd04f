//! A classical method that was fitted, and how it segments a case.
//!
//! ```text
//! sample -> prior on its grid (atlas or forest) -> box of what may be foreground -> Region -> method -> probabilities
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{Array3, Array4, ArrayView4, Axis, concatenate, s};

use super::arrays::Stored;
use super::atlas::{self, Alignment, Atlas, FLOOR};
use super::features::Bank;
use super::forest::Forest;
use super::intensity::Intensity;
use super::library::LibraryCase;
use super::points::Point;
use super::prior::StartRecord;
use super::resolve::Parts;
use super::sparse::Dictionaries;
use super::store::{FOLDER, Store};
use super::tune::TuningRecord;
use super::{Region, Segmented};
use crate::config::classical::Dictionary;
use crate::config::{ClassicalConfig, Config, MethodName};
use crate::image::register::Map;
use crate::plan::Plan;
use crate::predict::Segmenter;
use crate::prepare::Sample;
use crate::run::Run;
use crate::{Error, Result};

/// Below this prior probability of any foreground no voxel is looked at.
const POSSIBLE: f32 = 1e-3;

/// Files of a model.
pub(super) const TEMPLATE: &str = "template.safetensors";
pub(super) const START: &str = "start.json";
pub(super) const INTENSITY: &str = "intensity.json";
pub(super) const FOREST: &str = "forest.safetensors";
pub(super) const TUNING: &str = "tuning.json";
pub(super) const ATLASES: &str = "atlases.json";
pub(super) const DICTIONARY: &str = "dictionary.safetensors";

/// A fitted method.
#[derive(Debug)]
pub struct Fitted {
    pub(super) method: MethodName,
    pub(super) classes: usize,
    pub(super) settings: ClassicalConfig,
    pub(super) start: StartRecord,
    pub(super) atlas: Option<Atlas>,
    pub(super) forest: Option<Forest>,
    pub(super) intensity: Intensity,
    pub(super) library: Vec<LibraryCase>,
    pub(super) dictionaries: Option<Dictionaries>,
    pub(super) point: Point,
    pub(super) seed: u64,
    pub(super) sums: String,
    pub(super) notes: Mutex<Vec<String>>,
}

/// What is known of a case before a method looks at it.
#[derive(Debug)]
pub(super) struct Context {
    /// (class, x, y, z) of the whole sample.
    pub(super) prior: Array4<f32>,
    pub(super) alignment: Option<Alignment>,
    pub(super) notes: Vec<String>,
}

/// A training case, which must not learn from its own labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftOut<'a> {
    /// Its place among the training cases.
    pub(super) case: usize,
    pub(super) id: &'a str,
    /// From the template to it, and its labels there; where there is an atlas.
    pub(super) on_template: Option<(&'a Map, &'a Array4<f32>)>,
}

impl Fitted {
    /// Opens what was fitted in a run.
    ///
    /// # Errors
    /// Where a phase is missing, or a file is damaged or does not go with the run's plan.
    pub fn open(run: &Run, config: &Config, plan: &Plan) -> Result<Self> {
        let store = Store::open(&run.path(FOLDER))?;
        if !store.has(super::fit::LAST) {
            return Err(Error::invalid(
                run.path(FOLDER),
                "model",
                "the fit has not ended",
                "go on with it: segen train DATASET -o RUN --resume",
            ));
        }
        let mut fitted = Self::read(&store, config, plan)?;
        let tuning: TuningRecord = store.read_json(TUNING)?;
        let points = Point::all(fitted.method, &config.classical);
        fitted.point = points.into_iter().nth(tuning.chosen).ok_or_else(|| {
            Error::invalid(
                store.path(TUNING),
                "chosen",
                format!("point {} is not among those of the run's settings", tuning.chosen),
                "restore the files of the run from a backup, or fit it again",
            )
        })?;
        Ok(fitted)
    }

    /// What there is of a fit so far, with the first point.
    pub(super) fn read(store: &Store, config: &Config, plan: &Plan) -> Result<Self> {
        let method = config.classical_method().ok_or_else(|| Error::Internal {
            what: "opening a classical method of a run that has none".to_owned(),
        })?;
        let settings = config.classical.clone();
        let (channels, classes) = (plan.channels, plan.classes);
        let arrays = |name: &str| -> Result<Option<Vec<u8>>> {
            store.has_file(name).then(|| store.read(name)).transpose()
        };
        let start: StartRecord = store.read_json(START)?;
        let atlas = match arrays(TEMPLATE)?.filter(|_| start.atlas) {
            Some(bytes) => {
                let path = store.path(TEMPLATE);
                let stored = Stored::read(&bytes, &path)?;
                Some(Atlas::read(&stored, (channels, classes), &settings.registration)?)
            }
            None => None,
        };
        let forest = arrays(FOREST)?.map(|bytes| Forest::read(&bytes, &store.path(FOREST))).transpose()?;
        let intensity: Intensity = store.read_json(INTENSITY)?;
        let point = Point::all(method, &settings).swap_remove(0);
        let mut fitted = Self {
            method,
            classes,
            settings,
            start,
            atlas,
            forest,
            intensity,
            library: Vec::new(),
            dictionaries: None,
            point,
            seed: config.seed,
            sums: store.sums(),
            notes: Mutex::default(),
        };
        fitted.check(store, channels)?;
        if let Some(bytes) = arrays(DICTIONARY)? {
            fitted.dictionaries = Some(Dictionaries::read(&bytes, &store.path(DICTIONARY))?);
        }
        if store.has_file(ATLASES) {
            let ids: BTreeMap<String, String> = store.read_json(ATLASES)?;
            fitted.library =
                ids.iter().map(|(id, file)| LibraryCase::read(store, id, file)).collect::<Result<_>>()?;
        }
        Ok(fitted)
    }

    /// Refuses files that are for other channels or classes than the run's.
    fn check(&self, store: &Store, channels: usize) -> Result<()> {
        let mend = "restore the file from a backup, or fit the run again";
        if self.intensity.classes.len() != self.classes || self.intensity.variance.len() != channels {
            let problem = format!(
                "{} classes of {} channels, where the run has {} of {channels}",
                self.intensity.classes.len(),
                self.intensity.variance.len(),
                self.classes
            );
            return Err(Error::invalid(store.path(INTENSITY), "classes", problem, mend));
        }
        let Some(forest) = &self.forest else { return Ok(()) };
        let features = Bank::default().len(channels) + self.positions();
        if (forest.features(), forest.classes()) != (features, self.classes) {
            let problem = format!(
                "{} features and {} classes, where the run has {features} and {}",
                forest.features(),
                forest.classes(),
                self.classes
            );
            return Err(Error::invalid(store.path(FOREST), "features", problem, mend));
        }
        Ok(())
    }

    /// What tells it from another fit.
    pub fn sums(&self) -> &str {
        &self.sums
    }

    /// Planes of position that its forest sees: the place in the template and the atlas' foreground probabilities.
    pub(super) fn positions(&self) -> usize {
        if self.start.atlas { 3 + self.classes - 1 } else { 0 }
    }

    /// What is known of a sample before its method looks at it; a training case does not learn from its own labels.
    pub(super) fn context(&self, sample: &Sample, left_out: Option<LeftOut<'_>>) -> Result<Context> {
        let frame = atlas::frame(sample);
        let mut notes = Vec::new();
        let Some(atlas) = &self.atlas else {
            let prior = self.forest_prior(sample, None, left_out)?;
            return Ok(Context { prior, alignment: None, notes });
        };
        let known = left_out.and_then(|left_out| left_out.on_template);
        let alignment = match known {
            Some((map, _)) => Alignment::of(map.clone(), None).ok_or_else(|| Error::Internal {
                what: format!("the map of `{}` has no inverse", sample.id),
            })?,
            None => atlas.align(&atlas::images(sample)),
        };
        notes.extend(alignment.note.clone());
        let frequencies = atlas.frequencies(known.map(|(_, own)| own));
        let mut outside = vec![FLOOR; self.classes];
        outside[0] = 1.0 - (self.classes - 1) as f32 * FLOOR;
        let prior = alignment.onto_case(frequencies.view(), frame, &outside);
        Ok(Context { prior, alignment: Some(alignment), notes })
    }

    /// What the forest says of a sample, kept off 0; (class, x, y, z).
    fn forest_prior(
        &self,
        sample: &Sample,
        positions: Option<ArrayView4<'_, f32>>,
        left_out: Option<LeftOut<'_>>,
    ) -> Result<Array4<f32>> {
        let Some(forest) = &self.forest else {
            return Err(Error::Internal { what: "a prior by a forest that is not there".to_owned() });
        };
        let shape = sample.geometry.shape;
        let mut all = Array4::zeros((self.classes, shape[0], shape[1], shape[2]));
        for planes in Bank::slabs(shape) {
            let images = sample.images.view();
            let slab = Bank::default().slab(images, positions, sample.geometry.spacing, planes.clone());
            let (features, x, y, z) = slab.dim();
            let rows = slab
                .into_shape_with_order((features, x * y * z))
                .map_err(|e| Error::Internal { what: format!("features as rows: {e}") })?;
            let mut own = match left_out.and_then(|left| forest.probabilities_without(left.case, rows.view()))
            {
                Some(own) => own,
                None => forest.probabilities(rows.view()),
            };
            forest.decide(&mut own);
            let own = own
                .as_standard_layout()
                .into_owned()
                .into_shape_with_order((self.classes, x, y, z))
                .map_err(|e| Error::Internal { what: format!("rows as planes: {e}") })?;
            all.slice_mut(s![.., planes, .., ..]).assign(&own);
        }
        let scale = 1.0 - self.classes as f32 * FLOOR;
        all.mapv_inplace(|p| scale * p + FLOOR);
        Ok(all)
    }

    /// Probabilities of a box of a sample, and where the box is.
    pub(super) fn segment(
        &self,
        sample: &Sample,
        context: &Context,
        point: &Point,
        left_out: Option<LeftOut<'_>>,
    ) -> Result<([Range<usize>; 3], Segmented)> {
        let spacing = sample.geometry.spacing;
        let Some(place) = possible(context.prior.view(), spacing, self.settings.margin) else {
            let none = 0..0;
            let nothing =
                Segmented { probabilities: Array4::zeros((self.classes, 0, 0, 0)), notes: Vec::new() };
            return Ok(([none.clone(), none.clone(), none], nothing));
        };
        let [x, y, z] = place.clone();
        let images = sample.images.slice(s![.., x.clone(), y.clone(), z.clone()]);
        let prior = context.prior.slice(s![.., x, y, z]);
        let segmented = match point {
            Point::Atlas => Segmented { probabilities: prior.to_owned(), notes: Vec::new() },
            Point::Forest => self.by_forest(sample, context, &place, left_out)?,
            Point::Fusion => self.by_atlases(sample, context, &place, left_out)?,
            Point::Sparse if self.takes_cases() => self.by_atlases(sample, context, &place, left_out)?,
            Point::Sparse => {
                let region = Region { images, prior, likelihood: prior, spacing };
                match self.dictionaries.as_ref().filter(|dictionaries| dictionaries.fit(&region)) {
                    Some(dictionaries) => dictionaries.segment(&region),
                    None => {
                        return Err(Error::Internal { what: "dictionaries for other patches".to_owned() });
                    }
                }
            }
            point => {
                let likelihood = self.intensity.log_likelihood(images);
                let region = Region { images, prior, likelihood: likelihood.view(), spacing };
                point.segment(&region, &self.intensity, &self.parts())
            }
        };
        Ok((place, segmented))
    }

    /// Whether a sparse representation is by patches of training cases, not by learned ones.
    pub(super) fn takes_cases(&self) -> bool {
        match self.settings.sparse.dictionary {
            Dictionary::Auto => self.start.atlas,
            Dictionary::Cases => true,
            Dictionary::Learned => false,
        }
    }

    /// The label map of a sample.
    pub(super) fn decided(
        &self,
        sample: &Sample,
        context: &Context,
        point: &Point,
        left_out: Option<LeftOut<'_>>,
    ) -> Result<Array3<u8>> {
        let ([x, y, z], segmented) = self.segment(sample, context, point, left_out)?;
        let mut labels = Array3::zeros(sample.geometry.shape);
        labels.slice_mut(s![x, y, z]).assign(&atlas::decided(segmented.probabilities.view()));
        Ok(labels)
    }

    /// What training cases say of the parts of each class, background first.
    fn parts(&self) -> Vec<Parts> {
        let of = |&one: &bool| match (self.start.atlas, one) {
            (false, _) => Parts::Lesions,
            (true, true) => Parts::One,
            (true, false) => Parts::Any,
        };
        std::iter::once(Parts::Any).chain(self.start.one_part.iter().map(of)).collect()
    }

    /// The forest, of places too where there is an atlas; else it is the prior already.
    fn by_forest(
        &self,
        sample: &Sample,
        context: &Context,
        [x, y, z]: &[Range<usize>; 3],
        left_out: Option<LeftOut<'_>>,
    ) -> Result<Segmented> {
        let whole = match &context.alignment {
            None => context.prior.clone(),
            Some(_) => {
                let positions = self.position_planes(sample, context)?;
                self.forest_prior(sample, Some(positions.view()), left_out)?
            }
        };
        let probabilities = whole.slice(s![.., x.clone(), y.clone(), z.clone()]).to_owned();
        Ok(Segmented { probabilities, notes: Vec::new() })
    }

    /// Where a sample's voxels lie in the template, and what the atlas says of them: (plane, x, y, z).
    pub(super) fn position_planes(&self, sample: &Sample, context: &Context) -> Result<Array4<f32>> {
        let Some(alignment) = &context.alignment else {
            return Err(Error::Internal { what: "places of a case that was not aligned".to_owned() });
        };
        let places = alignment.places(atlas::frame(sample));
        let foreground = context.prior.slice(s![1.., .., .., ..]);
        concatenate(Axis(0), &[places.view(), foreground])
            .map_err(|e| Error::Internal { what: format!("planes of position: {e}") })
    }
}

/// The box of the voxels that may be foreground, grown by `margin` mm; none where there is none.
pub(super) fn possible(
    prior: ArrayView4<'_, f32>,
    spacing: [f64; 3],
    margin: f64,
) -> Option<[Range<usize>; 3]> {
    let (_, nx, ny, nz) = prior.dim();
    let shape = [nx, ny, nz];
    let (mut first, mut last) = ([usize::MAX; 3], [0usize; 3]);
    for ((x, y, z), &p) in prior.index_axis(Axis(0), 0).indexed_iter() {
        if 1.0 - p > POSSIBLE {
            for (axis, at) in [x, y, z].into_iter().enumerate() {
                first[axis] = first[axis].min(at);
                last[axis] = last[axis].max(at);
            }
        }
    }
    if first[0] == usize::MAX {
        return None;
    }
    Some(std::array::from_fn(|axis| {
        let grown = (margin / spacing[axis]).ceil() as usize;
        first[axis].saturating_sub(grown)..(last[axis] + 1 + grown).min(shape[axis])
    }))
}

impl Segmenter for Arc<Fitted> {
    fn classes(&self) -> usize {
        self.classes
    }

    fn passes(&self, _: [usize; 3]) -> usize {
        1
    }

    fn predict(
        &self,
        sample: &Sample,
        planes: &mut dyn FnMut(ArrayView4<f32>),
        advance: &mut dyn FnMut(usize),
    ) {
        let [nx, ny, nz] = sample.geometry.shape;
        let mut all = Array4::<f32>::zeros((self.classes, nx, ny, nz));
        all.index_axis_mut(Axis(0), 0).fill(1.0);
        let found = self
            .context(sample, None)
            .and_then(|context| Ok((self.segment(sample, &context, &self.point, None)?, context.notes)));
        let mut notes = match found {
            Ok((([x, y, z], segmented), mut notes)) => {
                all.slice_mut(s![.., x, y, z]).assign(&segmented.probabilities);
                notes.extend(segmented.notes);
                notes
            }
            Err(error) => vec![format!("warning: nothing was segmented: {error}")],
        };
        if atlas::decided(all.view()).iter().all(|&class| class == 0) {
            notes.push("no voxel of any class was found".to_owned());
        }
        let named = notes.iter().map(|note| format!("{}: {note}", sample.id));
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).extend(named);
        planes(all.view());
        advance(1);
    }

    fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

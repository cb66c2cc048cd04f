//! Fits a classical method to training cases, phase by phase; a phase that is complete is not done again.
//!
//! ```text
//! cases -> template, maps -> prior (atlas or forest) -> intensities -> forest, atlases -> values chosen -> model
//! ```

use std::path::Path;
use std::time::Instant;

use ndarray::{Array4, ArrayView3};
use serde_json::json;

use super::arrays::Stored;
use super::atlas::{self, Atlas, map_bytes, read_map};
use super::features::Bank;
use super::fitted::{FOREST, Fitted, INTENSITY, LeftOut, START, TEMPLATE};
use super::forest::{self, CaseRows, Options, Table, pool};
use super::intensity::{self, Intensity};
use super::prior::StartRecord;
use super::store::{FOLDER, Store};
use crate::config::classical::PriorSource;
use crate::config::{Config, MethodName};
use crate::image::register::Map;
use crate::plan::Plan;
use crate::prepare::{IGNORE, PreparedCase, Sample};
use crate::progress::Progress;
use crate::run::{Event, Events, PhaseEvent, Run};
use crate::{Error, Result};

/// What is fitted to what.
#[derive(Debug)]
pub struct Fit<'a> {
    /// Where the model goes.
    pub run: &'a Run,
    /// The training cases.
    pub cases: &'a [PreparedCase],
    /// The method and its settings.
    pub config: &'a Config,
    /// Channels, classes and spacing.
    pub plan: &'a Plan,
    /// Names of the classes, background first.
    pub classes: &'a [String],
    /// Where templates are kept that several runs of the same cases share.
    pub cache: &'a Path,
}

/// Phases, in their order.
const PHASES: [&str; 6] = ["template", "start", "intensity", "forest", "atlases", "tuning"];
/// The last of them.
pub(super) const LAST: &str = "tuning";

/// Fits what is not fitted yet.
///
/// # Errors
/// Where training cases hold no voxel of a class, the method cannot be used on them, a file cannot be read or written, or
/// the user asked to stop.
pub fn fit(fit: &Fit<'_>, progress: &dyn Progress) -> Result<()> {
    let mut work = Work { fit, store: Store::open(&fit.run.path(FOLDER))?, progress };
    work.find_absent_classes()?;
    work.phase(0, Work::template)?;
    work.phase(1, Work::start)?;
    work.phase(2, Work::intensity)?;
    work.phase(3, Work::forest)?;
    work.phase(4, Work::atlases)?;
    work.phase(5, Work::tuning)
}

/// A fit at work.
pub(super) struct Work<'a> {
    pub(super) fit: &'a Fit<'a>,
    pub(super) store: Store,
    pub(super) progress: &'a dyn Progress,
}

/// A training case in memory.
pub(super) struct Loaded {
    pub(super) sample: Sample,
    /// From the template to it, and its labels there; where there is an atlas.
    pub(super) on_template: Option<(Map, Array4<f32>)>,
}

impl Work<'_> {
    /// Does a phase unless it is complete.
    fn phase(&mut self, number: usize, work: fn(&mut Self) -> Result<()>) -> Result<()> {
        let name = PHASES[number];
        if self.store.has(name) {
            return Ok(());
        }
        self.go_on(name)?;
        let began = Instant::now();
        work(self)?;
        self.store.complete(name)?;
        let event = PhaseEvent {
            step: number as u64,
            phase: name.to_owned(),
            seconds: began.elapsed().as_secs_f64(),
        };
        Events::open(self.fit.run, number as u64)?.record(&Event::Phase(event))
    }

    /// Ends where the user asked for it.
    pub(super) fn go_on(&self, during: &str) -> Result<()> {
        match self.progress.is_stopped() {
            true => Err(Error::stopped(format!("while fitting: {during}"))),
            false => Ok(()),
        }
    }

    pub(super) fn method(&self) -> MethodName {
        self.fit.config.classical_method().unwrap_or(MethodName::Atlas)
    }

    pub(super) fn needs_atlas(&self) -> bool {
        matches!(
            self.method(),
            MethodName::Atlas
                | MethodName::MultiAtlas
                | MethodName::MultiAtlasMajority
                | MethodName::MultiAtlasLocal
                | MethodName::MultiAtlasStaple
        )
    }

    fn find_absent_classes(&self) -> Result<()> {
        for (class, name) in self.fit.classes.iter().enumerate().skip(1) {
            let voxels = |case: &PreparedCase| case.classes.get(class).map_or(0, |voxels| voxels.count);
            if self.fit.cases.iter().all(|case| voxels(case) == 0) {
                return Err(Error::config(
                    "method.name",
                    format!("no training case holds `{name}`: there is nothing to fit it from"),
                    "choose another fold or fraction, or leave the class out with task.classes",
                ));
            }
        }
        let cases = self.fit.cases.len();
        let carries =
            self.needs_atlas() && self.method() != MethodName::Atlas || self.method() == MethodName::Sparse;
        if carries && cases < 2 {
            return Err(Error::config(
                "method.name",
                format!(
                    "`{}` needs 2 training cases, and the fold and fraction leave {cases}",
                    self.method()
                ),
                "give a larger --fraction",
            ));
        }
        Ok(())
    }

    /// The mean template and the way to each case, taken from the cache where another run has made the same.
    fn template(&mut self) -> Result<()> {
        if self.fit.config.classical.prior == PriorSource::Forest && !self.needs_atlas() {
            return Ok(());
        }
        let shared = self.fit.cache.join("templates").join(self.template_name());
        let mut shared = Store::open(&shared)?;
        if !shared.has(PHASES[0]) {
            self.make_template(&mut shared)?;
            shared.complete(PHASES[0])?;
        }
        self.store.copy_from(&shared)
    }

    /// What decides about a template: the cases' content, and how they are registered.
    fn template_name(&self) -> String {
        let cases: Vec<_> = self.fit.cases.iter().map(|case| json!([case.id, case.digest()])).collect();
        let content = json!([1, cases, self.fit.plan.classes, self.fit.config.classical.registration]);
        crate::files::Digest::of(content.to_string().as_bytes()).to_string()
    }

    fn make_template(&self, store: &mut Store) -> Result<()> {
        let settings = &self.fit.config.classical.registration;
        let cases = self.fit.cases;
        let mut images = Vec::with_capacity(cases.len());
        for case in cases {
            images.push(atlas::images(&case.load()?));
        }
        self.progress.begin("registering training cases", Atlas::registrations(cases.len(), settings) as u64);
        let template = Atlas::template(&images, settings, &mut |done| self.progress.advance(done as u64));
        self.progress.end();
        for &case in &template.refused {
            self.progress.note(&format!(
                "{}: no affine registration to the template was found: the centres of the boxes lie on each other",
                cases[case].id
            ));
        }
        drop(images);
        let mut own = Atlas::of(template.image, &template.similarity, self.fit.plan.classes, settings);
        for (number, (case, map)) in cases.iter().zip(&template.maps).enumerate() {
            // Kept at half resolution; what is kept is what is used from here on.
            let map = map.halved();
            let sample = case.load()?;
            if let Some(labels) = &sample.labels {
                own.add(&own.labels(&map, labels.view(), atlas::frame(&sample)));
            }
            store.write(&map_name(number), &map_bytes(&map)?)?;
        }
        store.write(TEMPLATE, &own.bytes()?)
    }

    /// A training case; with its place on the template where there is one.
    pub(super) fn load(&self, number: usize, atlas: Option<&Atlas>) -> Result<Loaded> {
        let sample = self.fit.cases[number].load()?;
        let on_template = match (atlas, &sample.labels) {
            (Some(atlas), Some(labels)) => {
                let name = map_name(number);
                let (bytes, path) = (self.store.read(&name)?, self.store.path(&name));
                let map = read_map(&Stored::read(&bytes, &path)?)?;
                let own = atlas.labels(&map, labels.view(), atlas::frame(&sample));
                Some((map, own))
            }
            _ => None,
        };
        Ok(Loaded { sample, on_template })
    }

    /// Numbers of the cases that values are chosen on, evenly spread.
    pub(super) fn looked_at(&self) -> Vec<usize> {
        let cases = self.fit.cases.len();
        let count = self.fit.config.classical.tune_cases.min(cases);
        (0..count).map(|i| i * cases / count).collect()
    }

    /// What intensities the classes have, background inside the region of each case alone.
    fn intensity(&mut self) -> Result<()> {
        let classes = self.fit.plan.classes;
        let each = intensity::SAMPLES.div_ceil(self.fit.cases.len());
        let atlas = self.chosen_atlas()?;
        let mut samples = vec![Vec::new(); classes];
        self.progress.begin("intensities of the classes", self.fit.cases.len() as u64);
        for number in 0..self.fit.cases.len() {
            self.go_on("intensities")?;
            let Loaded { sample, on_template } = self.load(number, atlas.as_ref())?;
            if let Some(labels) = &sample.labels {
                let mut labels = labels.clone();
                if let (Some(atlas), Some((map, _))) = (&atlas, on_template) {
                    self.keep_inside(&mut labels, atlas, map, &sample);
                }
                for (class, samples) in samples.iter_mut().enumerate() {
                    let own = intensity::draw(sample.images.view(), labels.view(), class as u8, each);
                    samples.extend(own);
                }
            }
            self.progress.advance(1);
        }
        self.progress.end();
        let fitted = Intensity::fit(&samples, self.fit.plan.channels);
        self.store.write_json(INTENSITY, &fitted)
    }

    /// Leaves out background that no method will look at: elsewhere it would be air and bone.
    fn keep_inside(&self, labels: &mut ndarray::Array3<u8>, atlas: &Atlas, map: Map, sample: &Sample) {
        let Some(alignment) = atlas::Alignment::of(map, None) else { return };
        let mut outside = vec![0.0; self.fit.plan.classes];
        outside[0] = 1.0;
        let prior = alignment.onto_case(atlas.frequencies(None).view(), atlas::frame(sample), &outside);
        let margin = self.fit.config.classical.margin;
        let Some([x, y, z]) = super::fitted::possible(prior.view(), sample.geometry.spacing, margin) else {
            return;
        };
        for ((i, j, k), label) in labels.indexed_iter_mut() {
            if *label == 0 && !(x.contains(&i) && y.contains(&j) && z.contains(&k)) {
                *label = IGNORE;
            }
        }
    }

    /// The atlas, where the prior is its.
    pub(super) fn chosen_atlas(&self) -> Result<Option<Atlas>> {
        let start: StartRecord = self.store.read_json(START)?;
        start.atlas.then(|| self.atlas()).transpose()
    }

    /// A forest: the method's, of places too where there is an atlas, or the prior.
    fn forest(&mut self) -> Result<()> {
        let atlas = self.chosen_atlas()?;
        if atlas.is_some() && self.method() != MethodName::RandomForest {
            return Ok(());
        }
        let (config, plan) = (self.fit.config, self.fit.plan);
        let options = Options::of(&config.classical.forest, self.fit.cases.len(), config.seed);
        // Twice as many as a tree draws, so that trees differ.
        let voxels = 2 * options.voxels;
        let mut rows = Vec::new();
        let reader = atlas.as_ref().map(|_| self.reader()).transpose()?;
        self.progress.begin("features of training cases", self.fit.cases.len() as u64);
        for number in 0..self.fit.cases.len() {
            self.go_on("features")?;
            let loaded = self.load(number, atlas.as_ref())?;
            let Some(labels) = &loaded.sample.labels else { continue };
            let spacing = loaded.sample.geometry.spacing;
            let pool =
                pool::draw(labels.view(), spacing, plan.classes, voxels, config.seed, &loaded.sample.id);
            let positions = match &reader {
                None => None,
                Some(reader) => {
                    let context = reader.context(&loaded.sample, Some(loaded.left_out(number)))?;
                    Some(reader.position_planes(&loaded.sample, &context)?)
                }
            };
            let positions = positions.as_ref().map(|positions| positions.view());
            let features =
                Bank::default().rows(loaded.sample.images.view(), positions, spacing, &pool.positions);
            rows.push(CaseRows { features, strata: pool.strata });
            self.progress.advance(1);
        }
        self.progress.end();
        let table = Table::new(&rows, plan.classes);
        drop(rows);
        self.progress.begin("growing trees", options.trees as u64);
        let fitted = forest::fit(&table, &options);
        self.progress.advance(options.trees as u64);
        self.progress.end();
        let channels = &plan.channel_names;
        let positions = self.position_names(atlas.is_some());
        let names = Bank::default().list(channels, &positions);
        let importances: Vec<_> = names
            .iter()
            .zip(fitted.forest.importances())
            .map(|(feature, share)| json!({ "feature": feature.name, "kind": format!("{:?}", feature.kind), "share": share }))
            .collect();
        self.store.write_json(
            "forest.json",
            &json!({
                "factors": fitted.forest.factors(), "importances": importances,
                "out_of_bag_loss": fitted.curve, "out_of_bag_dice": fitted.dice,
            }),
        )?;
        self.store.write(FOREST, &fitted.forest.bytes()?)
    }

    fn position_names(&self, atlas: bool) -> Vec<String> {
        if !atlas {
            return Vec::new();
        }
        let axes = ["x", "y", "z"].map(|axis| format!("place {axis}"));
        axes.into_iter()
            .chain(self.fit.classes.iter().skip(1).map(|class| format!("atlas {class}")))
            .collect()
    }

    /// What reads the model so far.
    pub(super) fn reader(&self) -> Result<Fitted> {
        Fitted::read(&self.store, self.fit.config, self.fit.plan)
    }
}

impl Loaded {
    pub(super) fn left_out(&self, case: usize) -> LeftOut<'_> {
        let on_template = self.on_template.as_ref().map(|(map, own)| (map, own));
        LeftOut { case, id: &self.sample.id, on_template }
    }
}

fn map_name(number: usize) -> String {
    format!("maps/{number:04}.safetensors")
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean Dice over the foreground classes that the reference or the label map has; none where neither has any.
pub(super) fn dice(labels: ArrayView3<'_, u8>, reference: ArrayView3<'_, u8>, classes: usize) -> Option<f64> {
    let mut counts = vec![[0u64; 2]; classes];
    for (&own, &other) in labels.iter().zip(reference.iter()) {
        if other == IGNORE {
            continue;
        }
        counts[usize::from(own)][0] += 1;
        counts[usize::from(other)][0] += 1;
        if own == other {
            counts[usize::from(own)][1] += 1;
        }
    }
    let of = |&[sum, both]: &[u64; 2]| (sum > 0).then(|| 2.0 * both as f64 / sum as f64);
    let all: Vec<f64> = counts.iter().skip(1).filter_map(of).collect();
    (!all.is_empty()).then(|| mean(&all))
}

//! Every choice of a policy drawn on a case, and what each costs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ndarray::{Array3, Array4, s};
use serde::Serialize;

use crate::augment::{Cut, Draw, Histograms};
use crate::config::policy::Start;
use crate::data::dataset::Dataset;
use crate::files::{Existing, Outputs, bytes_of};
use crate::network::Grid;
use crate::picture::{self, Tile, TileRow};
use crate::plan::{Budget, Plan};
use crate::policy::Policy;
use crate::policy::operations::{Context, composed, single};
use crate::prepare::Placement;
use crate::prepare::Sample;
use crate::progress::Progress;
use crate::rng::generator;
use crate::{Error, Result};

/// What a preview shows and measures.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// The case.
    pub case: String,
    /// Patch edges, voxels.
    pub patch: [usize; 3],
    /// Channels.
    pub channels: usize,
    /// The pictures.
    pub pictures: Vec<PathBuf>,
    /// What each choice costs.
    pub costs: Vec<Cost>,
}

/// What one choice costs.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The policy it belongs to: `single`, `composed` or a file's.
    pub policy: String,
    /// Its group.
    pub group: String,
    /// Its name.
    pub choice: String,
    /// Median time to cut one patch with it on one thread, milliseconds; the plain cut is that of `identity`.
    pub milliseconds: f64,
}

/// Patches that are timed per choice.
const TIMED: usize = 5;
/// Tiles in a row.
const COLUMNS: usize = 8;

/// One `segen policy preview`.
#[derive(Debug)]
pub struct Request<'a> {
    /// The data set.
    pub dataset: &'a Path,
    /// The case to draw on; the first with labels where left out.
    pub case: Option<&'a str>,
    /// The policy; the two built-in operation sets where left out.
    pub policy: Option<&'a Policy>,
    /// Where the pictures go, one for each policy.
    pub folder: &'a Path,
    /// What becomes of files of these names that are there already.
    pub existing: Existing,
    /// Further files that the command reads, such as that of the policy: no output may take their place.
    pub also_read: &'a [PathBuf],
}

impl Preview {
    /// Draws and times every choice, and writes the pictures.
    ///
    /// # Errors
    /// Where the data set or the case cannot be used, or a picture cannot be written.
    pub fn draw(request: &Request<'_>, progress: &dyn Progress) -> Result<Self> {
        let dataset = Dataset::open(request.dataset)?;
        let case = match request.case {
            Some(id) => dataset.case(id),
            None => dataset.training.iter().find(|case| case.labels.is_some()),
        };
        let case = case.filter(|case| case.labels.is_some()).ok_or_else(|| {
            Error::invalid(
                &dataset.folder,
                "case",
                "there is no such case with labels",
                "name a training case of the data set with --case",
            )
        })?;
        let names = match request.policy {
            Some(policy) => vec![policy.name.as_str()],
            None => vec!["single", "composed"],
        };
        let files: Vec<String> = names.iter().map(|name| format!("{name}.png")).collect();
        let mut inputs = dataset.inputs();
        inputs.extend_from_slice(request.also_read);
        let outputs = Outputs::claim("policy preview", request.folder, &files, &inputs, request.existing)?;
        let fingerprint = Plan::measure(&dataset, &[case], progress)?;
        let plan = Plan::decide(&dataset, fingerprint, &Budget::processor(2))?;
        let sample = plan.recipe().prepare(&dataset, case)?;
        let context = Context::of(&plan, dataset.labels.sides());
        let policies = match request.policy {
            Some(policy) => vec![(policy.name.clone(), policy.clone())],
            None => vec![
                ("single".to_owned(), single(&context, Start::Uniform)),
                ("composed".to_owned(), composed(&context, Start::Uniform)),
            ],
        };
        let scene = Scene::of(&sample, &plan);
        let mut preview = Self {
            case: case.id.clone(),
            patch: plan.patch,
            channels: plan.channels,
            pictures: Vec::new(),
            costs: Vec::new(),
        };
        for (name, policy) in policies {
            preview.add(&name, &policy, &scene, &outputs, progress)?;
        }
        Ok(preview)
    }

    fn add(
        &mut self,
        name: &str,
        policy: &Policy,
        scene: &Scene<'_>,
        outputs: &Outputs,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut rows = Vec::new();
        progress.begin("drawing operations", policy.groups.len() as u64);
        for (index, group) in policy.groups.iter().enumerate() {
            let mut tiles = Vec::new();
            for (number, choice) in group.choices.iter().enumerate() {
                let mut random = generator(0, &["preview", &group.name, &choice.name]);
                let draws: Vec<Draw> = (0..TIMED)
                    .map(|_| policy.draw_choice(index, number, scene.channels, &mut random))
                    .collect();
                let mut times: Vec<f64> = Vec::new();
                let mut shown = None;
                for draw in &draws {
                    let began = Instant::now();
                    let patch = scene.cut(draw);
                    times.push(1e3 * began.elapsed().as_secs_f64());
                    shown.get_or_insert(patch);
                }
                times.sort_by(f64::total_cmp);
                self.costs.push(Cost {
                    policy: name.to_owned(),
                    group: group.name.clone(),
                    choice: choice.name.clone(),
                    milliseconds: times[times.len() / 2],
                });
                if let Some((image, labels)) = shown {
                    let image = image.slice_move(s![0, .., .., ..]);
                    tiles.push(Tile { caption: choice.name.clone(), image, labels });
                }
            }
            for (part, tiles) in tiles.chunks(COLUMNS).enumerate() {
                let heading = if part == 0 { group.name.clone() } else { String::new() };
                rows.push(TileRow { heading, tiles: tiles.to_vec() });
            }
            progress.advance(1);
        }
        progress.end();
        if !rows.is_empty() {
            let file = format!("{name}.png");
            let png = picture::sheet_png(&outputs.path(&file), &rows, scene.spacing)?;
            self.pictures.push(outputs.write(&file, None, bytes_of(&png))?);
        }
        Ok(())
    }

    /// The costs as a table for people.
    pub fn table(&self) -> String {
        let [x, y, z] = self.patch;
        let mut text = format!(
            "case {}, patch {x} x {y} x {z}, {} channel(s); ms per patch on one thread\n",
            self.case, self.channels
        );
        for cost in &self.costs {
            let name = format!("{} / {}", cost.group, cost.choice);
            text.push_str(&format!("{:>9}  {name:<42} {:8.2}\n", cost.policy, cost.milliseconds));
        }
        text
    }
}

/// One patch of a sample, to be cut again and again.
struct Scene<'a> {
    sample: &'a Sample,
    histograms: Histograms,
    placement: Placement,
    patch: [usize; 3],
    channels: usize,
    spacing: [f64; 3],
}

impl<'a> Scene<'a> {
    /// The patch around a voxel of the rarest class.
    fn of(sample: &'a Sample, plan: &Plan) -> Self {
        let (channels, x, y, z) = sample.images.dim();
        let foreground = sample.classes.iter().skip(1).filter(|class| !class.positions.is_empty());
        let rarest = foreground.min_by_key(|class| class.count);
        let centre = match rarest {
            Some(class) => class.positions[class.positions.len() / 2],
            None => [x, y, z].map(|edge| (edge / 2) as u32),
        };
        let start = std::array::from_fn(|axis| i64::from(centre[axis]) - (plan.patch[axis] / 2) as i64);
        Self {
            sample,
            histograms: Histograms::new(),
            placement: Placement { case: 0, start, centre_class: 0, sought: None },
            patch: plan.patch,
            channels,
            spacing: plan.spacing,
        }
    }

    fn cut(&self, draw: &Draw) -> (Array4<f32>, Array3<u8>) {
        let [x, y, z] = self.patch;
        let mut images = Array4::zeros((self.channels, x, y, z));
        let mut labels = Array3::zeros((x, y, z));
        let grids = [Grid::patch(self.patch)];
        let cut = Cut { placement: &self.placement, patch: self.patch, grids: &grids, draw };
        if let (Some(image), Some(labels)) = (images.as_slice_mut(), labels.as_slice_mut()) {
            cut.from_sample(self.sample, &self.histograms, &mut [image], labels);
        }
        (images, labels)
    }
}

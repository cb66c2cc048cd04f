//! Draws voxels and asks the network for their logits.

use std::collections::BTreeMap;

use super::{Cloud, Collection, Origin};
use crate::Result;
use crate::predict::voxels::draw;
use crate::predict::windows::Predictor;
use crate::prepare::PreparedCase;
use crate::progress::Progress;
use crate::rng::generator;

/// How voxels are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectOptions {
    /// Voxels per origin and class.
    pub voxels: usize,
    /// Cases per origin at most, spread evenly over the list; all where left out.
    pub cases: Option<usize>,
    /// Seed of the draw.
    pub seed: u64,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self { voxels: 5000, cases: None, seed: 1 }
    }
}

/// One drawn voxel and where its logits go.
struct Wanted {
    cloud: usize,
    row: usize,
    position: [usize; 3],
}

/// Collects logits of voxels of prepared cases with labels. A voxel that is drawn twice counts twice.
///
/// # Errors
/// Where a prepared case cannot be read.
pub fn collect(
    predictor: &Predictor,
    parts: &[(Origin, &[PreparedCase])],
    classes: &[String],
    options: &CollectOptions,
    progress: &dyn Progress,
) -> Result<Collection> {
    let mut collection = Collection { classes: classes.to_vec(), cases: Vec::new(), clouds: Vec::new() };
    let mut wanted: BTreeMap<usize, Vec<Wanted>> = BTreeMap::new();
    let mut sources: Vec<&PreparedCase> = Vec::new();
    for &(origin, cases) in parts {
        let kept = options.cases.map_or(cases.len(), |most| most.min(cases.len()));
        let kept: Vec<&PreparedCase> = (0..kept).map(|i| &cases[i * cases.len() / kept]).collect();
        let first = sources.len();
        sources.extend(&kept);
        for class in 0..classes.len() {
            let mut random =
                generator(options.seed, &["logits", origin.name(), &classes[class], &class.to_string()]);
            let drawn = draw(&kept, class, options.voxels, &mut random);
            if drawn.is_empty() {
                continue;
            }
            let cloud = collection.clouds.len();
            for (row, &(case, position)) in drawn.iter().enumerate() {
                let position = position.map(|p| p as usize);
                wanted.entry(first + case).or_default().push(Wanted { cloud, row, position });
            }
            collection.clouds.push(Cloud {
                origin,
                class,
                cases: drawn.iter().map(|(case, _)| (first + case) as u32).collect(),
                positions: drawn.iter().map(|(_, position)| *position).collect(),
                logits: vec![0.0; drawn.len() * classes.len()],
            });
        }
    }
    collection.cases = sources.iter().map(|case| case.id.clone()).collect();
    progress.begin("collecting logits", wanted.len() as u64);
    for (source, wanted) in &wanted {
        let sample = sources[*source].load()?;
        let positions: Vec<[usize; 3]> = wanted.iter().map(|w| w.position).collect();
        let logits = predictor.logits_at(sample.images.view(), &positions);
        for (place, row) in wanted.iter().zip(logits.chunks_exact(classes.len())) {
            let target = &mut collection.clouds[place.cloud].logits[place.row * classes.len()..];
            target[..classes.len()].copy_from_slice(row);
        }
        progress.advance(1);
    }
    progress.end();
    Ok(collection)
}

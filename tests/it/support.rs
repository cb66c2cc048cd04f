//! What several test modules share.

use std::path::PathBuf;

/// The folder of committed reference data.
pub(crate) fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A real data set by its public name under `$SEGEN_DATA`, or `None` with a printed line where it is absent.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn real(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("SEGEN_DATA").map(|root| PathBuf::from(root).join(name));
    match folder {
        Some(folder) if folder.exists() => Some(folder),
        _ => {
            eprintln!("skipped: `{name}` is not under $SEGEN_DATA");
            None
        }
    }
}

/// Copies a folder with everything in it.
pub(crate) fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            // Not `fs::copy`, which would keep files read-only.
            std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// A prepared sample with its class positions (all of them), 1 mm voxels.
pub(crate) fn sample(
    id: &str,
    images: ndarray::Array4<f32>,
    labels: ndarray::Array3<u8>,
) -> segen::prepare::Sample {
    use segen::prepare::{ClassVoxels, Geometry, IGNORE, Sample};
    let (x, y, z) = labels.dim();
    let shape = [x, y, z];
    let highest = labels.iter().filter(|label| **label != IGNORE).max().copied().unwrap_or(0);
    let mut classes = vec![ClassVoxels::default(); usize::from(highest) + 1];
    for ((x, y, z), label) in labels.indexed_iter().filter(|(_, label)| **label != IGNORE) {
        let class = &mut classes[usize::from(*label)];
        class.count += 1;
        class.positions.push([x as u32, y as u32, z as u32]);
    }
    let geometry = Geometry {
        original: segen::image::volume::Grid::with_spacing(shape, [1.0; 3]),
        orientation: segen::image::volume::Orientation::RAS,
        crop_start: [0; 3],
        crop_shape: shape,
        shape,
        spacing: [1.0; 3],
    };
    Sample { id: id.to_owned(), images, labels: Some(labels), mask: None, geometry, classes }
}

/// A plan for thick slices of three channels, normalised in three ways.
pub(crate) fn plan() -> segen::plan::Plan {
    use segen::config::DiceReduction;
    use segen::network::{Shape, UNetShape};
    use segen::plan::{Fingerprint, Plan};
    use segen::prepare::Normalisation;
    let z_score = |masked| Normalisation::ZScore { masked };
    Plan {
        axis_order: "RAS+ x y z".to_owned(),
        channel_names: Vec::new(),
        dataset: "thick slices".to_owned(),
        spacing: [0.6, 0.6, 3.0],
        patch: [256, 320, 16],
        batch: 2,
        channels: 3,
        classes: 3,
        normalisation: vec![z_score(false), z_score(true), Normalisation::None],
        dice: DiceReduction::Sample,
        shape: Shape::UNet(UNetShape { features: vec![], strides: vec![], kernels: vec![], convolutions: 2 }),
        reasons: vec![],
        fingerprint: Fingerprint {
            spacings: vec![],
            shapes: vec![],
            relative_size_after_cropping: 1.0,
            intensities: vec![],
            class_voxels: vec![],
            masked_cases: 0,
        },
    }
}

//! What several test modules share.

use std::path::PathBuf;

use segen::image::volume::Grid;

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

/// A NIfTI-1 file of 16-bit numbers with several volumes of 6 x 5 x 4 voxels of 1 x 1.25 x 2.5 mm.
pub(crate) fn four_dimensional(grid: &Grid, volumes: usize, value: impl Fn(usize) -> i16) -> Vec<u8> {
    let mut bytes = vec![0_u8; 352];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(0, &348_i32.to_le_bytes());
    for (index, size) in [4, 6, 5, 4, volumes as i16, 1, 1, 1].into_iter().enumerate() {
        put(40 + 2 * index, &size.to_le_bytes());
    }
    put(70, &4_i16.to_le_bytes());
    put(72, &16_i16.to_le_bytes());
    for (index, size) in [1.0_f32, 1.0, 1.25, 2.5, 1.0].into_iter().enumerate() {
        put(76 + 4 * index, &size.to_le_bytes());
    }
    put(108, &352_f32.to_le_bytes());
    put(254, &1_i16.to_le_bytes());
    for (row, values) in grid.affine.iter().enumerate() {
        for (column, value) in values.iter().enumerate() {
            put(280 + 16 * row + 4 * column, &(*value as f32).to_le_bytes());
        }
    }
    put(344, b"n+1\0");
    bytes.extend((0..6 * 5 * 4 * volumes).flat_map(|index| value(index).to_le_bytes()));
    bytes
}

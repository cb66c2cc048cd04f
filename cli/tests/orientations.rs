//! One scan stored along all 48 axis orientations is segmented the same, each time on its own grid.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{phantom, segen};
use segen::image::nifti;
use segen::image::volume::{Grid, Image, Orientation, Volume};

#[test]
fn forty_eight_orientations_give_one_segmentation() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 5, "40,28,32");
    let run = folder.path().join("run");
    let mut train = segen();
    train.arg("train").arg(&dataset).arg("-o").arg(&run).args(["--steps", "12", "--seed", "1"]);
    for set in ["plan.patch=[16, 16, 16]", "plan.batch=2", "plan.base_features=8", "optimiser.momentum=0.9"] {
        train.args(["--set", set]);
    }
    let trained = train.output().unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));

    let files = std::fs::read_dir(dataset.join("imagesTr")).unwrap();
    let scan = files.map(|f| f.unwrap().path()).min().unwrap();
    let (image, _) = nifti::read_image(&scan).unwrap();
    let upright = image.grid.orientation();
    let world = image.grid.oriented(&upright);
    let voxels = upright.apply(image.voxels.view());

    let input = folder.path().join("input");
    std::fs::create_dir(&input).unwrap();
    let mut stored = Vec::new();
    for axes in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for bits in 0..8 {
            let orientation =
                Orientation { axes, flipped: std::array::from_fn(|axis| bits >> axis & 1 == 1) };
            let turned = orientation.undo(voxels).to_owned();
            let grid = turn(&world, &orientation, turned.dim().into());
            let id = format!("scan_{:02}", stored.len());
            let volume: Image = Volume::new(turned, grid);
            nifti::write_image(&input.join(format!("{id}_0000.nii.gz")), &volume, None).unwrap();
            stored.push((id, orientation));
        }
    }
    let output = folder.path().join("output");
    let predicted = segen().arg("predict").arg(&run).arg(&input).arg("-o").arg(&output).output().unwrap();
    assert!(predicted.status.success(), "{}", String::from_utf8_lossy(&predicted.stderr));

    let mut first = None;
    for (id, orientation) in stored {
        let (labels, header) = nifti::read_labels(&output.join(format!("{id}.nii.gz"))).unwrap();
        let original = nifti::read_header(&input.join(format!("{id}_0000.nii.gz"))).unwrap();
        assert_eq!(header.grid().affine, original.grid().affine, "{id}: the affine, bit for bit");
        assert_eq!(labels.grid.orientation(), orientation);
        let upright = orientation.apply(labels.voxels.view()).to_owned();
        let reference = first.get_or_insert_with(|| upright.clone());
        assert_eq!(upright, *reference, "{id} ({})", orientation.letters());
    }
    let classes: std::collections::BTreeSet<u8> = first.unwrap().iter().copied().collect();
    assert!(classes.len() > 1, "an empty segmentation proves nothing: {classes:?}");
}

/// The grid of voxels that `orientation` brings back to `world`.
fn turn(world: &Grid, orientation: &Orientation, shape: [usize; 3]) -> Grid {
    let mut grid = Grid { shape, affine: [[0.0; 4]; 3] };
    for row in 0..3 {
        grid.affine[row][3] = world.affine[row][3];
        for axis in 0..3 {
            let column = world.affine[row][axis];
            let stored = orientation.axes[axis];
            if orientation.flipped[axis] {
                grid.affine[row][stored] = -column;
                grid.affine[row][3] += column * (world.shape[axis] as f64 - 1.0);
            } else {
                grid.affine[row][stored] = column;
            }
        }
    }
    grid
}

//! What is written, and what stays as it was.

use ndarray::{Array3, ShapeBuilder};
use segen::io::{read_header, read_image, read_labels, write_image, write_labels};
use segen::volume::{Grid, Volume};

#[test]
fn written_volumes_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let affine = [[0.0, -0.5, 0.0, 10.0], [0.75, 0.0, 0.0, -20.0], [0.0, 0.0, -2.0, 30.5]];
    let grid = Grid { shape: [3, 4, 5], affine };
    let labels =
        Volume::new(Array3::from_shape_fn((3, 4, 5), |(x, y, z)| (x + 3 * y + 12 * z) as u8), grid.clone());
    let image = Volume::new(labels.voxels.mapv(|value| f32::from(value) / 7.0), grid);
    for name in ["case.v1.nii", "case.v1.nii.gz"] {
        let path = folder.path().join(name);
        write_labels(&path, &labels, None).expect("written");
        let (back, header) = read_labels(&path).expect("read");
        assert_eq!(back, labels);
        assert!(header.warnings().is_empty(), "{:?}", header.warnings());
        write_image(&path, &image, Some(&header)).expect("written");
        assert_eq!(read_image(&path).expect("read").0, image);
        assert_eq!(read_header(&path).expect("read").grid(), image.grid);
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
        assert_eq!(left.len(), 1, "no temporary file is left: {left:?}");
        std::fs::remove_file(path).expect("removed");
    }
}

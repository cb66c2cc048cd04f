//! The disk that volumes beside label maps take, looked at before the first scan.

use super::Request;
use crate::commands::scans::Scan;
use crate::plan::size;
use crate::predict::volumes::Volumes;
use crate::progress::Progress;
use crate::{image, machine};

/// Says how much volumes may take, and warns where the disk will hardly do. What is background compresses to little, so
/// that files are smaller than their voxels.
pub(super) fn tell(request: &Request<'_>, scans: &[Scan], classes: usize, progress: &dyn Progress) {
    let bytes = bytes(request.volumes, scans, classes);
    if bytes == 0 {
        return;
    }
    progress.note(&format!(
        "probabilities and entropy will take {} at most, before they are compressed",
        size(bytes)
    ));
    if let Some(free) = machine::free_disk_bytes(request.folder).filter(|free| *free < bytes) {
        progress.note(&format!(
            "warning: {} are free in `{}`; without --probabilities and --entropy only label maps are written",
            size(free),
            request.folder.display()
        ));
    }
}

/// Bytes of the voxels of all volumes.
fn bytes(volumes: Volumes, scans: &[Scan], classes: usize) -> u64 {
    let each = volumes.bytes_per_voxel(classes);
    if each == 0 {
        return 0;
    }
    // A scan that cannot be read has no volumes.
    let voxels = |(case, _): &Scan| -> Option<u64> {
        let header = image::read_header(case.images.first()?).ok()?;
        Some(header.grid().shape.iter().map(|&edge| edge as u64).product())
    };
    scans.iter().filter(|(_, looked)| looked.is_ok()).filter_map(voxels).map(|voxels| voxels * each).sum()
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::Error;
    use crate::data::dataset::Case;
    use crate::image::volume::{Grid, Volume};
    use crate::predict::volumes::Depth;

    #[test]
    fn volumes_of_the_scans_that_can_be_read_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a_0000.nii.gz");
        let grid = Grid::with_spacing([5, 4, 3], [1.0; 3]);
        image::write_image(&file, &Volume::new(Array3::zeros((5, 4, 3)), grid), None).unwrap();
        let case =
            |id: &str| Case { id: id.to_owned(), images: vec![file.clone()], labels: None, mask: None };
        let bad = Err(Error::config("scan", "is bad", "mend it"));
        let scans = vec![(case("a"), Ok(())), (case("b"), Ok(())), (case("c"), bad)];
        let volumes = |probabilities, entropy| Volumes { probabilities, entropy };
        assert_eq!(bytes(volumes(None, false), &scans, 3), 0);
        assert_eq!(bytes(volumes(Some(Depth::U16), false), &scans, 3), 2 * 60 * 3 * 2);
        assert_eq!(bytes(volumes(Some(Depth::F32), true), &scans, 3), 2 * 60 * (3 * 4 + 2));
    }
}

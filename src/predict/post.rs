//! Steps after a prediction that change its label map: small parts removed, the largest part kept, holes filled.
//!
//! A step belongs to one label value. Which one, if any, is chosen on cases that were held out from training; see
//! [`super::choice`]. Parts are connected over faces, edges and corners, as lesions are counted.

use std::collections::BTreeMap;
use std::fmt;

use ndarray::{Array3, Zip};
use serde::{Deserialize, Serialize};

use crate::image::components::{Components, Connectivity, components};
use crate::image::volume::Labels;

/// One step for the voxels of one label value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Post {
    /// Connected parts smaller than this become background.
    RemoveSmall {
        /// Volume in cubic millimetres, above 0.
        mm3: f64,
    },
    /// All connected parts but the one of most voxels become background; of equal ones the first in file order stays.
    KeepLargest,
    /// Background that this value alone encloses becomes this value; see [`holes`].
    FillHoles,
}

/// The step of each label value that has one.
pub type Steps = BTreeMap<u8, Post>;

impl fmt::Display for Post {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveSmall { mm3 } => write!(formatter, "remove-small {mm3} mm3"),
            Self::KeepLargest => write!(formatter, "keep-largest"),
            Self::FillHoles => write!(formatter, "fill-holes"),
        }
    }
}

/// Changes a label map of file values by the steps. Parts are removed first, for every value; then the holes of what
/// is left are filled. Voxels outside `mask` (0 there) are never filled.
pub fn apply(steps: &Steps, labels: &mut Labels, mask: Option<&Labels>) {
    for (&value, step) in steps {
        let parts = match step {
            Post::FillHoles => continue,
            Post::RemoveSmall { .. } | Post::KeepLargest => parts(labels, value),
        };
        let stays = stays(*step, &parts.sizes, labels.grid.voxel_volume());
        Zip::from(&mut labels.voxels).and(&parts.labels).for_each(|label, &part| {
            if part > 0 && !stays[part as usize - 1] {
                *label = 0;
            }
        });
    }
    if steps.values().any(|step| *step == Post::FillHoles) {
        let holes = holes(labels);
        for (place, label) in labels.voxels.indexed_iter_mut() {
            let inside = || mask.is_none_or(|mask| mask.voxels[place] != 0);
            if let Some(value) = holes.enclosing(place)
                && steps.get(&value) == Some(&Post::FillHoles)
                && inside()
            {
                *label = value;
            }
        }
    }
}

/// Which parts a step leaves, from their numbers of voxels and the volume of one in cubic millimetres.
pub(super) fn stays(step: Post, sizes: &[u64], voxel_volume: f64) -> Vec<bool> {
    match step {
        Post::RemoveSmall { mm3 } => sizes.iter().map(|&size| size as f64 * voxel_volume >= mm3).collect(),
        Post::KeepLargest => {
            let most = sizes.iter().max();
            let largest = sizes.iter().position(|size| Some(size) == most);
            (0..sizes.len()).map(|part| Some(part) == largest).collect()
        }
        Post::FillHoles => vec![true; sizes.len()],
    }
}

/// The connected parts of one label value.
pub(super) fn parts(labels: &Labels, value: u8) -> Components {
    components(labels.voxels.mapv(|label| label == value).view(), Connectivity::TwentySix)
}

/// The connected parts of the background.
pub(super) struct Holes {
    /// 0 outside the background, else the number of its part, from 1.
    pub(super) labels: Array3<u32>,
    /// For each part the one value that encloses it; `None` where it reaches the edge of the scan or borders on
    /// several values.
    pub(super) enclosed: Vec<Option<u8>>,
}

impl Holes {
    /// The value whose hole a voxel lies in.
    pub(super) fn enclosing(&self, place: (usize, usize, usize)) -> Option<u8> {
        self.enclosed[(self.labels[place] as usize).checked_sub(1)?]
    }
}

/// Finds the holes of a label map: parts of the background (connected over faces) that do not reach the edge of the
/// scan and border on one value only, whose holes they are. What stands between two values (around a nested class) is
/// nobody's hole, and a nested class itself is none. Across an axis of one voxel nothing is an edge: the holes of a
/// single slice are those within it.
pub(super) fn holes(labels: &Labels) -> Holes {
    let background = components(labels.voxels.mapv(|label| label == 0).view(), Connectivity::Six).labels;
    let shape = labels.grid.shape;
    let count = background.iter().copied().max().unwrap_or(0) as usize;
    // Of each part: what it borders on so far; `None` once it cannot be a hole any more.
    let mut borders: Vec<Option<Option<u8>>> = vec![Some(None); count];
    for ((x, y, z), &part) in background.indexed_iter().filter(|(_, part)| **part > 0) {
        let border = &mut borders[part as usize - 1];
        let at = [x, y, z];
        for axis in (0..3).filter(|&axis| shape[axis] > 1) {
            if at[axis] == 0 || at[axis] + 1 == shape[axis] {
                *border = None;
                break;
            }
            for neighbour in [at[axis] - 1, at[axis] + 1] {
                let mut place = at;
                place[axis] = neighbour;
                match (labels.voxels[place], &mut *border) {
                    (0, _) | (_, None) => {}
                    (value, Some(known)) if known.is_none_or(|known| known == value) => *known = Some(value),
                    _ => *border = None,
                }
            }
        }
    }
    Holes { labels: background, enclosed: borders.into_iter().map(Option::flatten).collect() }
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::*;
    use crate::image::volume::Grid;

    /// A label map with voxels of these edges in millimetres.
    fn blank(shape: [usize; 3], spacing: [f64; 3]) -> Labels {
        Labels::new(Array3::zeros(shape), Grid::with_spacing(shape, spacing))
    }

    fn of(value: u8, post: Post) -> Steps {
        Steps::from([(value, post)])
    }

    /// Three parts of class 1 with 1, 8 and 12 voxels, and one voxel of class 2.
    fn three_parts(spacing: [f64; 3]) -> Labels {
        let mut labels = blank([12, 6, 6], spacing);
        labels.voxels[[0, 0, 0]] = 1;
        labels.voxels.slice_mut(s![2..4, 1..3, 1..3]).fill(1);
        labels.voxels.slice_mut(s![6..9, 1..3, 1..3]).fill(1);
        labels.voxels[[11, 5, 5]] = 2;
        labels
    }

    fn count(labels: &Labels, value: u8) -> usize {
        labels.voxels.iter().filter(|&&label| label == value).count()
    }

    #[test]
    fn parts_below_a_volume_in_millimetres_go_whatever_the_voxels() {
        // 0.5 x 1 x 4 mm: 2 mm3 a voxel, so the parts have 2, 16 and 24 mm3.
        for (mm3, left) in [(2.0, 21), (2.1, 20), (16.0, 20), (16.1, 12), (24.0, 12), (25.0, 0)] {
            let mut labels = three_parts([0.5, 1.0, 4.0]);
            apply(&of(1, Post::RemoveSmall { mm3 }), &mut labels, None);
            assert_eq!(count(&labels, 1), left, "{mm3} mm3");
            assert_eq!(count(&labels, 2), 1, "class 2 has no step");
        }
    }

    #[test]
    fn a_volume_counts_the_voxels_of_an_oblique_grid() {
        let mut labels = three_parts([1.0; 3]);
        // Sheared along x: a voxel keeps its volume of 1 mm3 though its second edge is longer.
        labels.grid.affine[0][1] = 0.7;
        apply(&of(1, Post::RemoveSmall { mm3: 8.5 }), &mut labels, None);
        assert_eq!(count(&labels, 1), 12);
    }

    #[test]
    fn the_largest_part_stays_and_the_first_of_equal_ones() {
        let mut labels = three_parts([1.0; 3]);
        apply(&of(1, Post::KeepLargest), &mut labels, None);
        assert_eq!((count(&labels, 1), labels.voxels[[6, 1, 1]]), (12, 1));
        let mut labels = blank([5, 1, 1], [1.0; 3]);
        labels.voxels[[1, 0, 0]] = 1;
        labels.voxels[[3, 0, 0]] = 1;
        apply(&of(1, Post::KeepLargest), &mut labels, None);
        assert_eq!(labels.voxels.iter().copied().collect::<Vec<_>>(), [0, 1, 0, 0, 0]);
    }

    #[test]
    fn what_is_not_there_stays_absent() {
        for post in [Post::KeepLargest, Post::FillHoles, Post::RemoveSmall { mm3: 1.0 }] {
            let mut labels = blank([4, 4, 4], [1.0; 3]);
            apply(&of(1, post), &mut labels, None);
            assert_eq!(labels, blank([4, 4, 4], [1.0; 3]));
        }
    }

    /// A hollow cube of class 1 with a hollow cube of class 2 inside, and background between and within.
    fn nested() -> Labels {
        let mut labels = blank([13, 13, 13], [1.0; 3]);
        for (from, to, value) in [(1, 12, 1), (2, 11, 0), (4, 9, 2), (6, 7, 0)] {
            labels.voxels.slice_mut(s![from..to, from..to, from..to]).fill(value);
        }
        labels
    }

    #[test]
    fn a_hole_belongs_to_the_one_class_around_it() {
        let (mut labels, before) = (nested(), nested());
        apply(&of(1, Post::FillHoles), &mut labels, None);
        assert_eq!(labels, before, "what lies between two classes is nobody's hole");
        apply(&of(2, Post::FillHoles), &mut labels, None);
        assert_eq!((count(&labels, 1), count(&labels, 2)), (count(&before, 1), 125));
        // Without class 2 its place is a hole of class 1 again.
        let mut labels = before;
        let both = Steps::from([(1, Post::FillHoles), (2, Post::RemoveSmall { mm3: 1000.0 })]);
        apply(&both, &mut labels, None);
        assert_eq!((count(&labels, 1), count(&labels, 2)), (11 * 11 * 11, 0));
    }

    #[test]
    fn a_bay_is_no_hole_and_voxels_outside_the_mask_stay_background() {
        let mut labels = blank([7, 7, 7], [1.0; 3]);
        labels.voxels.slice_mut(s![1..6, 1..6, 1..6]).fill(1);
        labels.voxels.slice_mut(s![2..5, 2..5, 2..5]).fill(0);
        let mut open = labels.clone();
        open.voxels.slice_mut(s![0..2, 3, 3]).fill(0);
        let before = open.clone();
        apply(&of(1, Post::FillHoles), &mut open, None);
        assert_eq!(open, before);
        let mut mask = blank([7, 7, 7], [1.0; 3]);
        mask.voxels.fill(1);
        mask.voxels[[3, 3, 3]] = 0;
        apply(&of(1, Post::FillHoles), &mut labels, Some(&mask));
        assert_eq!((count(&labels, 1), labels.voxels[[3, 3, 3]]), (124, 0));
    }

    #[test]
    fn the_holes_of_a_single_slice_are_those_within_it() {
        let mut labels = blank([5, 5, 1], [1.0; 3]);
        labels.voxels.slice_mut(s![1..4, 1..4, ..]).fill(1);
        labels.voxels[[2, 2, 0]] = 0;
        apply(&of(1, Post::FillHoles), &mut labels, None);
        assert_eq!(count(&labels, 1), 9);
    }
}

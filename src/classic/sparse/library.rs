//! Unit patches of images, and those of training cases that resemble one.

use ndarray::{Array2, ArrayView4, Axis};

use crate::classic::fusion::Atlas;
use crate::classic::fusion::patch::{Images, Window, dot, moved};

/// Patches of one case.
pub(super) struct Library<'a> {
    images: Images<'a>,
    radius: [usize; 3],
    /// A patch whose norm is below this shows nothing.
    flat: f32,
}

impl<'a> Library<'a> {
    /// Of images (channel, x, y, z). Patches have `radius` voxels, along axes more than twice as coarse as the finest
    /// one voxel less.
    pub(super) fn new(images: ArrayView4<'a, f32>, spacing: [f64; 3], radius: usize) -> Self {
        let finest = spacing.iter().copied().fold(f64::INFINITY, f64::min);
        let radius = spacing.map(|s| if s > 2.0 * finest { radius.saturating_sub(1).max(1) } else { radius });
        let deviation = images.axis_iter(Axis(0)).map(|channel| channel.std(0.0)).fold(0.0, f32::max);
        Self { images: Images::new(images), radius, flat: 1e-6 * deviation }
    }

    fn window(&self, voxel: [usize; 3]) -> Window {
        Window::around(voxel, self.radius, self.images.shape())
    }

    /// Voxels of a patch, all channels together, at a voxel far from the border.
    pub(super) fn size(&self, channels: usize) -> usize {
        channels * self.radius.iter().map(|radius| 2 * radius + 1).product::<usize>()
    }

    /// Fills the patch at a voxel, mean 0 and norm 1; returns whether it shows anything. At the border it is cut.
    pub(super) fn cut(&self, voxel: [usize; 3], patch: &mut Vec<f32>) -> bool {
        self.images.centred(self.window(voxel), [0; 3], patch);
        unit(patch, self.flat)
    }

    /// As [`Self::cut`], and at the border the outer voxels are repeated, so that all patches have one size.
    pub(super) fn whole(&self, voxel: [usize; 3], patch: &mut Vec<f32>) -> bool {
        let shape = self.images.shape();
        let edge = |axis: usize| 4 * self.radius[axis] + 1 + shape[axis];
        // A window in the middle of a grid that is large enough, moved to where it belongs.
        let far = [edge(0), edge(1), edge(2)];
        let middle = far.map(|edge| edge / 2);
        let window = Window::around(middle, self.radius, far);
        let offset = std::array::from_fn(|axis| voxel[axis] as isize - middle[axis] as isize);
        self.images.centred(window, offset, patch);
        unit(patch, self.flat)
    }

    /// Whole patches at voxels (x, y, z), (patch, voxel of the patch), without those that show nothing.
    pub(super) fn patches(&self, channels: usize, voxels: &[[u32; 3]]) -> Array2<f64> {
        let mut all = Vec::new();
        let mut patch = Vec::new();
        for voxel in voxels {
            if self.whole(voxel.map(|at| at as usize), &mut patch) {
                all.extend(patch.iter().map(|value| f64::from(*value)));
            }
        }
        let size = self.size(channels);
        let patches = Array2::from_shape_vec((all.len() / size, size), all);
        patches.unwrap_or_else(|_| panic!("whole patches have one size"))
    }
}

/// Makes a patch a unit vector, where its norm is above `flat`.
fn unit(patch: &mut [f32], flat: f32) -> bool {
    let norm = dot(patch, patch).sqrt();
    if norm.is_nan() || norm <= flat {
        return false;
    }
    patch.iter_mut().for_each(|value| *value /= norm);
    true
}

/// The patches of atlases that resemble that of a case at one voxel.
#[derive(Default)]
pub(super) struct Neighbours {
    /// Unit patches, one after the other.
    pub(super) atoms: Vec<f32>,
    /// Of each, the correlation with the case's, the atlas and the voxel that it lies around.
    pub(super) found: Vec<(f32, usize, [usize; 3])>,
    all: Vec<f32>,
    patch: Vec<f32>,
}

impl Neighbours {
    /// Looks through all atlases at the offsets from a voxel and keeps the `count` patches with the largest
    /// correlations, of equal ones the first.
    pub(super) fn find(
        &mut self,
        own: &[f32],
        voxel: [usize; 3],
        libraries: &[Library<'_>],
        offsets: &[[isize; 3]],
        count: usize,
    ) {
        self.all.clear();
        self.found.clear();
        self.atoms.clear();
        let mut places = Vec::new();
        for (atlas, library) in libraries.iter().enumerate() {
            let window = library.window(voxel);
            for &offset in offsets {
                library.images.centred(window, offset, &mut self.patch);
                if unit(&mut self.patch, library.flat) {
                    let place = moved(voxel, offset, library.images.shape());
                    self.found.push((dot(own, &self.patch), atlas, place));
                    places.push(places.len());
                    self.all.extend_from_slice(&self.patch);
                }
            }
        }
        places.sort_by(|&a, &b| self.found[b].0.total_cmp(&self.found[a].0));
        places.truncate(count);
        for &place in &places {
            self.atoms.extend_from_slice(&self.all[place * own.len()..(place + 1) * own.len()]);
        }
        self.found = places.iter().map(|&place| self.found[place]).collect();
    }

    /// Share of a class at the voxel that an atom lies around.
    pub(super) fn share(&self, atom: usize, class: usize, atlases: &[Atlas<'_>]) -> f64 {
        let (_, atlas, [x, y, z]) = self.found[atom];
        f64::from(atlases[atlas].labels[[class, x, y, z]])
    }
}

//! What a network sees around the voxels that it labels.

/// The grids of a network's inputs relative to the voxels that it gives logits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Edges of the box of voxels that get logits.
    pub output: [usize; 3],
    /// One per input, full resolution first.
    pub pathways: Vec<Pathway>,
    /// What stands for voxels beyond the prepared sample.
    pub padding: Padding,
}

/// The grid of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pathway {
    /// It holds every `scale`-th voxel of the image.
    pub scale: usize,
    /// Edges of the input, in its own voxels.
    pub size: [usize; 3],
    /// Voxel (0, 0, 0) of the input lies so many image voxels before the first labelled voxel, on every axis.
    pub before: usize,
}

/// What stands for voxels beyond the prepared sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// 0, the mean of a normalised image.
    Zero,
    /// The mean of the eight corner voxels of the sample, channel by channel: the scan's background where the
    /// sample is a whole scan, 0 where it was cropped to a region of interest (its outside is 0).
    Corners,
}

/// Voxels about a patch: grid voxel `p` lies at patch voxel `start + stride * p`, which may be outside the patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Voxels along x, y, z.
    pub shape: [usize; 3],
    /// Patch voxels from one voxel of the grid to the next.
    pub stride: [usize; 3],
    /// Patch voxel that grid voxel (0, 0, 0) lies on.
    pub start: [i64; 3],
}

impl Field {
    /// One input that shows exactly the voxels that are labelled.
    pub fn same(segment: [usize; 3]) -> Self {
        let pathway = Pathway { scale: 1, size: segment, before: 0 };
        Self { output: segment, pathways: vec![pathway], padding: Padding::Zero }
    }

    /// Whether the only input shows exactly the voxels that are labelled.
    pub fn is_same(&self) -> bool {
        matches!(self.pathways[..], [Pathway { scale: 1, size, before: 0 }] if size == self.output)
    }

    /// How many voxels beyond the box of labelled voxels the inputs show at most, on either side of each axis.
    pub fn margin(&self) -> [usize; 3] {
        std::array::from_fn(|axis| {
            let beyond = |pathway: &Pathway| {
                let last = (pathway.size[axis] - 1) * pathway.scale;
                pathway.before.max((last + 1).saturating_sub(pathway.before + self.output[axis]))
            };
            self.pathways.iter().map(beyond).max().unwrap_or(0)
        })
    }
}

impl Pathway {
    /// The voxels of the input about the labelled box.
    pub fn grid(&self) -> Grid {
        Grid { shape: self.size, stride: [self.scale; 3], start: [-(self.before as i64); 3] }
    }

    /// Where voxel `index` of the input lies along an axis, in image voxels from the first labelled one.
    pub fn at(&self, index: usize) -> i64 {
        (index * self.scale) as i64 - self.before as i64
    }
}

impl Grid {
    /// The patch itself.
    pub fn patch(patch: [usize; 3]) -> Self {
        Self { shape: patch, stride: [1; 3], start: [0; 3] }
    }

    /// The grid of this shape and stride whose middle voxel, `shape / 2`, is the middle voxel of the patch.
    pub fn around(patch: [usize; 3], shape: [usize; 3], stride: [usize; 3]) -> Self {
        let start =
            std::array::from_fn(|axis| (patch[axis] / 2) as i64 - (stride[axis] * (shape[axis] / 2)) as i64);
        Self { shape, stride, start }
    }

    /// Number of voxels.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no voxel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_holds_every_voxel_that_is_seen() {
        assert_eq!(Field::same([4, 5, 6]).margin(), [0; 3]);
        let pathway = |scale, edge, before| Pathway { scale, size: [edge; 3], before };
        let field = Field {
            output: [21; 3],
            pathways: vec![pathway(1, 37, 8), pathway(3, 23, 24), pathway(5, 21, 40)],
            padding: Padding::Corners,
        };
        assert_eq!(field.margin(), [40; 3]);
        assert!(!field.is_same() && Field::same([2; 3]).is_same());
        let wide = Field { pathways: vec![pathway(5, 30, 40)], ..field };
        assert_eq!(wide.margin(), [29 * 5 + 1 - 61; 3]);
    }
}

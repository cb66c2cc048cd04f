//! Connected components, boundaries and exact distances on voxel masks.
//!
//! Masks are arrays of `bool` indexed `[[x, y, z]]`, in any memory order; everything outside the array counts
//! as `false`. Results come in file order (x fastest) unless said otherwise, and never depend on the number
//! of threads.

use std::ops::Range;

use ndarray::{Array3, ArrayView3, ShapeBuilder};

/// Which voxels count as neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connectivity {
    /// The 6 voxels that share a face.
    Six,
    /// The 18 voxels that share a face or an edge.
    Eighteen,
    /// The 26 voxels that share a face, an edge or a corner.
    TwentySix,
}

/// The connected components of a mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Components {
    /// 0 outside the mask, else the component's number. Numbers run from 1 in the order in which the file
    /// order (x fastest, z slowest) meets each component first.
    pub labels: Array3<u32>,
    /// Number of voxels of each component; `sizes[0]` belongs to component 1.
    pub sizes: Vec<u64>,
}

/// Numbers the connected components of `mask`.
pub fn components(mask: ArrayView3<'_, bool>, connectivity: Connectivity) -> Components {
    let numbered = NumberedRuns::of(mask, connectivity);
    let mut labels = vec![0_u32; mask.len()];
    for (run, &number) in numbered.runs.iter().zip(&numbered.numbers) {
        labels[run.start..run.end].fill(number);
    }
    Components { labels: in_file_order(labels, mask.dim()), sizes: numbered.sizes }
}

/// For each connected component of `mask`, numbered as by [`components`]: its number of voxels, and how many of
/// them lie in `other`, a mask of the same shape (else a panic).
pub fn overlaps(
    mask: ArrayView3<'_, bool>,
    other: ArrayView3<'_, bool>,
    connectivity: Connectivity,
) -> Vec<(u64, u64)> {
    assert_eq!(mask.dim(), other.dim(), "masks differ in shape");
    let numbered = NumberedRuns::of(mask, connectivity);
    let other = file_order(other);
    let mut found: Vec<_> = numbered.sizes.into_iter().map(|size| (size, 0)).collect();
    for (run, number) in numbered.runs.iter().zip(numbered.numbers) {
        let shared = other[run.start..run.end].iter().filter(|&&inside| inside).count();
        found[number as usize - 1].1 += shared as u64;
    }
    found
}

/// The voxels of `mask` of which at least one of the 6 neighbours is outside the mask (or outside the array):
/// the mask without its erosion by the 6-neighbourhood.
pub fn boundary(mask: ArrayView3<'_, bool>) -> Array3<bool> {
    let (nx, ny, nz) = mask.dim();
    let voxels = file_order(mask);
    let mut edge = vec![false; voxels.len()];
    let slab = nx * ny;
    for z in 0..nz {
        for y in 0..ny {
            let row = z * slab + y * nx;
            let on_border = y == 0 || y + 1 == ny || z == 0 || z + 1 == nz;
            for x in 0..nx {
                let i = row + x;
                edge[i] = voxels[i]
                    && (on_border
                        || x == 0
                        || x + 1 == nx
                        || !(voxels[i - 1] && voxels[i + 1])
                        || !(voxels[i - nx] && voxels[i + nx])
                        || !(voxels[i - slab] && voxels[i + slab]));
            }
        }
    }
    in_file_order(edge, mask.dim())
}

/// `mask` with its holes filled: every part of the background that is not 6-connected to the array's border
/// becomes part of the mask (as `scipy.ndimage.binary_fill_holes` does).
pub fn fill_holes(mask: ArrayView3<'_, bool>) -> Array3<bool> {
    let background = components(mask.mapv(|inside| !inside).view(), Connectivity::Six);
    let mut open = vec![false; background.sizes.len() + 1];
    let dim = background.labels.dim();
    let last = [dim.0, dim.1, dim.2].map(|n| n.wrapping_sub(1));
    for ((x, y, z), &label) in background.labels.indexed_iter() {
        if [x, y, z].into_iter().zip(last).any(|(i, end)| i == 0 || i == end) {
            open[label as usize] = true;
        }
    }
    background.labels.mapv(|label| label == 0 || !open[label as usize])
}

/// The voxels with x fastest and z slowest.
pub(crate) fn file_order<T: Copy>(voxels: ArrayView3<'_, T>) -> Vec<T> {
    voxels.t().iter().copied().collect()
}

/// The inverse of [`file_order`].
pub(crate) fn in_file_order<T>(voxels: Vec<T>, dim: (usize, usize, usize)) -> Array3<T> {
    Array3::from_shape_vec(dim.f(), voxels).unwrap_or_else(|_| panic!("as many voxels as the shape says"))
}

/// A maximal row of `true` voxels along x: first voxel and the one after the last, counted in file order.
struct Run {
    start: usize,
    end: usize,
}

/// A mask as runs, each with the number of its component.
struct NumberedRuns {
    runs: Vec<Run>,
    numbers: Vec<u32>,
    /// Number of voxels of each component.
    sizes: Vec<u64>,
}

impl NumberedRuns {
    /// Runs that touch a run of an earlier row are joined with a union-find, so the cost is close to one reading
    /// of the mask.
    fn of(mask: ArrayView3<'_, bool>, connectivity: Connectivity) -> Self {
        let (nx, ny, nz) = mask.dim();
        let voxels = file_order(mask);
        let mut runs = Vec::new();
        let mut first_of_row = Vec::with_capacity(ny * nz + 1);
        let mut parents: Vec<usize> = Vec::new();
        for row in 0..ny * nz {
            first_of_row.push(runs.len());
            append_runs(&voxels, row * nx..(row + 1) * nx, &mut runs);
            parents.extend(parents.len()..runs.len());
            let (y, z) = (row % ny, row / ny);
            for &(dy, dz, reach) in earlier_rows(connectivity) {
                let Some(other_y) = y.checked_add_signed(dy).filter(|&other_y| other_y < ny) else {
                    continue;
                };
                let Some(other_z) = z.checked_sub(dz) else { continue };
                let other = other_z * ny + other_y;
                let others = first_of_row[other]..first_of_row[other + 1];
                let back = (row - other) * nx;
                join_touching(&runs, first_of_row[row]..runs.len(), others, (back, reach), &mut parents);
            }
        }
        // A root is the first run of its component, so roots are met in the order of the numbering.
        let mut numbers = vec![0_u32; runs.len()];
        let mut sizes = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            let root = find(&mut parents, index);
            if root == index {
                sizes.push(0);
                numbers[index] =
                    u32::try_from(sizes.len()).unwrap_or_else(|_| panic!("over 2^32 components"));
            }
            numbers[index] = numbers[root];
            sizes[numbers[root] as usize - 1] += (run.end - run.start) as u64;
        }
        Self { runs, numbers, sizes }
    }
}

/// The rows before the current one that hold neighbours: offset in y, backward offset in z, and how far in x
/// a neighbour may lie.
fn earlier_rows(connectivity: Connectivity) -> &'static [(isize, usize, usize)] {
    match connectivity {
        Connectivity::Six => &[(-1, 0, 0), (0, 1, 0)],
        Connectivity::Eighteen => &[(-1, 0, 1), (0, 1, 1), (-1, 1, 0), (1, 1, 0)],
        Connectivity::TwentySix => &[(-1, 0, 1), (0, 1, 1), (-1, 1, 1), (1, 1, 1)],
    }
}

fn append_runs(voxels: &[bool], row: Range<usize>, runs: &mut Vec<Run>) {
    let mut x = row.start;
    while let Some(start) = voxels[x..row.end].iter().position(|&inside| inside).map(|ahead| x + ahead) {
        let rest = &voxels[start..row.end];
        let end = rest.iter().position(|&inside| !inside).map_or(row.end, |ahead| start + ahead);
        runs.push(Run { start, end });
        x = end;
    }
}

/// Joins every run of `these` with every run of `others` that it touches. Both are sorted. `others` lie in a row
/// that begins `back` voxels before that of `these`; runs touch within `reach` voxels along x.
fn join_touching(
    runs: &[Run],
    these: Range<usize>,
    others: Range<usize>,
    (back, reach): (usize, usize),
    parents: &mut [usize],
) {
    let (mut i, mut j) = (these.start, others.start);
    while i < these.end && j < others.end {
        let a = &runs[i];
        let b = Run { start: runs[j].start + back, end: runs[j].end + back };
        if a.start < b.end + reach && b.start < a.end + reach {
            let (p, q) = (find(parents, i), find(parents, j));
            parents[p.max(q)] = p.min(q);
        }
        if a.end < b.end {
            i += 1;
        } else {
            j += 1;
        }
    }
}

/// The root of a run, halving the path on the way.
fn find(parents: &mut [usize], mut run: usize) -> usize {
    while parents[run] != run {
        parents[run] = parents[parents[run]];
        run = parents[run];
    }
    run
}

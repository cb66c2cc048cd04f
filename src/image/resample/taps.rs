//! Where along one axis each output voxel takes its value from.

/// For every output voxel two neighbours on the input axis and the weight of each (they sum to 1).
#[derive(Clone, Debug)]
pub(crate) struct Taps {
    indices: Vec<[usize; 2]>,
    upper: Vec<f64>,
    /// The input voxel closest to each output voxel.
    pub(crate) nearest: Vec<usize>,
}

impl Taps {
    /// All weight on the nearest voxel.
    pub(crate) fn nearest(from: usize, to: usize) -> Self {
        let nearest = nearest(from, to);
        Self { indices: nearest.iter().map(|&n| [n, n]).collect(), upper: vec![0.0; to], nearest }
    }

    /// The lower (`side` 0) or upper (1) neighbour of output voxel `to`.
    pub(crate) fn index(&self, to: usize, side: usize) -> usize {
        self.indices[to][side]
    }

    /// The weight of that neighbour.
    pub(crate) fn weight(&self, to: usize, side: usize) -> f64 {
        if side == 1 { self.upper[to] } else { 1.0 - self.upper[to] }
    }

    /// Number of output voxels.
    pub(crate) fn len(&self) -> usize {
        self.indices.len()
    }
}

/// Input coordinate of an output voxel's centre.
pub(super) fn coordinate(to: usize, from_len: usize, to_len: usize) -> f64 {
    (to as f64 + 0.5) * (from_len as f64 / to_len as f64) - 0.5
}

/// Linear interpolation of `to` voxels from `from`; constant beyond the first and last centre.
pub(crate) fn linear(from: usize, to: usize) -> Taps {
    let last = from - 1;
    let place = |j| {
        let at = coordinate(j, from, to).clamp(0.0, last as f64);
        let lower = (at.floor() as usize).min(last);
        ([lower, (lower + 1).min(last)], at - lower as f64)
    };
    let (indices, upper) = (0..to).map(place).unzip();
    Taps { indices, upper, nearest: nearest(from, to) }
}

/// Nearest voxel; half-way goes up.
pub(crate) fn nearest(from: usize, to: usize) -> Vec<usize> {
    let last = from - 1;
    (0..to)
        .map(|j| ((coordinate(j, from, to).clamp(0.0, last as f64) + 0.5).floor() as usize).min(last))
        .collect()
}

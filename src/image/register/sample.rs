//! Values between voxels, by linear interpolation; the edge value goes on beyond the outer centres.

/// Where a position lies among the voxels: the lower corner, the steps to its neighbours, and the weights of those.
#[derive(Clone, Copy)]
pub(super) struct Corner {
    base: usize,
    steps: [usize; 3],
    weights: [f32; 3],
}

/// The lattice of one volume of voxels with z fastest.
#[derive(Clone, Copy)]
pub(super) struct Lattice {
    shape: [usize; 3],
    /// The largest index of a lower corner along each axis.
    last: [usize; 3],
    /// From a voxel to its neighbour; 0 along an axis of one voxel.
    steps: [usize; 3],
    /// Index of the outermost centre along each axis.
    ends: [f32; 3],
}

impl Lattice {
    pub(super) fn new(shape: [usize; 3]) -> Self {
        let strides = [shape[1] * shape[2], shape[2], 1];
        Self {
            shape,
            last: shape.map(|edge| edge.saturating_sub(2)),
            steps: std::array::from_fn(|axis| if shape[axis] > 1 { strides[axis] } else { 0 }),
            ends: shape.map(|edge| edge as f32 - 1.0),
        }
    }

    /// The corner below `position`, a voxel index; positions beyond the outer centres are moved onto them.
    #[inline(always)]
    pub(super) fn corner(&self, position: [f32; 3]) -> Corner {
        let mut base = 0;
        let mut weights = [0.0; 3];
        for axis in 0..3 {
            let at = position[axis].max(0.0).min(self.ends[axis]);
            let below = (at as i32 as usize).min(self.last[axis]);
            weights[axis] = at - below as f32;
            base += below * self.steps[axis];
        }
        Corner { base, steps: self.steps, weights }
    }

    /// Whether a position lies in the box: at most half a voxel beyond the outer centres.
    #[inline(always)]
    pub(super) fn holds(&self, position: [f32; 3]) -> bool {
        let mut inside = true;
        for axis in 0..3 {
            inside &= position[axis] >= -0.5 && position[axis] <= self.shape[axis] as f32 - 0.5;
        }
        inside
    }
}

impl Corner {
    /// The interpolated value.
    #[inline(always)]
    pub(super) fn value(&self, voxels: &[f32]) -> f32 {
        let [x, y, z] = self.weights;
        let [v00, v01, v10, v11] = self.lines(voxels).map(|[a, b]| a + (b - a) * z);
        let (v0, v1) = (v00 + (v01 - v00) * y, v10 + (v11 - v10) * y);
        v0 + (v1 - v0) * x
    }

    /// The interpolated value and its slope per voxel along each axis.
    #[inline(always)]
    pub(super) fn slope(&self, voxels: &[f32]) -> (f32, [f32; 3]) {
        let [x, y, z] = self.weights;
        let lines = self.lines(voxels);
        let [v00, v01, v10, v11] = lines.map(|[a, b]| a + (b - a) * z);
        let [d00, d01, d10, d11] = lines.map(|[a, b]| b - a);
        let (v0, v1) = (v00 + (v01 - v00) * y, v10 + (v11 - v10) * y);
        let along_y = (v01 - v00) + ((v11 - v10) - (v01 - v00)) * x;
        let (d0, d1) = (d00 + (d01 - d00) * y, d10 + (d11 - d10) * y);
        (v0 + (v1 - v0) * x, [v1 - v0, along_y, d0 + (d1 - d0) * x])
    }

    #[inline(always)]
    fn lines(&self, voxels: &[f32]) -> [[f32; 2]; 4] {
        let [x, y, z] = self.steps;
        let at = self.base;
        [at, at + y, at + x, at + x + y].map(|at| [voxels[at], voxels[at + z]])
    }

    /// Calls `take` with the index and the weight of every voxel that counts, each at most once.
    #[inline(always)]
    pub(super) fn each(&self, mut take: impl FnMut(usize, f32)) {
        for bits in 0..8 {
            let (mut at, mut weight) = (self.base, 1.0);
            for axis in 0..3 {
                if bits >> axis & 1 == 1 {
                    at += self.steps[axis];
                    weight *= self.weights[axis];
                } else {
                    weight *= 1.0 - self.weights[axis];
                }
            }
            if weight > 0.0 {
                take(at, weight);
            }
        }
    }

    /// The interpolated vector.
    #[inline(always)]
    pub(super) fn vector(&self, field: &[[f32; 4]]) -> [f32; 4] {
        let [x, y, z] = self.steps;
        let at = self.base;
        let line = |at: usize| mix(field[at], field[at + z], self.weights[2]);
        let (v00, v01, v10, v11) = (line(at), line(at + y), line(at + x), line(at + x + y));
        let (v0, v1) = (mix(v00, v01, self.weights[1]), mix(v10, v11, self.weights[1]));
        mix(v0, v1, self.weights[0])
    }
}

#[inline(always)]
fn mix(a: [f32; 4], b: [f32; 4], weight: f32) -> [f32; 4] {
    let mut out = [0.0; 4];
    for lane in 0..4 {
        out[lane] = a[lane] + (b[lane] - a[lane]) * weight;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trilinear_function_is_read_exactly_and_edges_go_on() {
        let f = |x: f32, y: f32, z: f32| 1.0 + 2.0 * x - y + 0.5 * z + 0.25 * x * y * z;
        let shape = [4, 3, 5];
        let mut voxels = Vec::new();
        for (x, y, z) in ndarray::indices((4, 3, 5)) {
            voxels.push(f(x as f32, y as f32, z as f32));
        }
        let lattice = Lattice::new(shape);
        let (value, slope) = lattice.corner([1.25, 0.5, 3.75]).slope(&voxels);
        assert!((value - f(1.25, 0.5, 3.75)).abs() < 1e-5);
        let exact = [2.0 + 0.25 * 0.5 * 3.75, -1.0 + 0.25 * 1.25 * 3.75, 0.5 + 0.25 * 1.25 * 0.5];
        for (ours, exact) in slope.into_iter().zip(exact) {
            assert!((ours - exact).abs() < 1e-5);
        }
        assert_eq!(lattice.corner([9.0, 2.0, -3.0]).value(&voxels), f(3.0, 2.0, 0.0));
        assert!(lattice.holds([-0.5, 2.5, 4.5]) && !lattice.holds([-0.51, 0.0, 0.0]));
        assert!(!lattice.holds([f32::NAN, 0.0, 0.0]));
        let vectors: Vec<[f32; 4]> = voxels.iter().map(|&v| [v, -v, 2.0 * v, 0.0]).collect();
        assert_eq!(lattice.corner([0.5, 1.0, 2.0]).vector(&vectors)[1], -f(0.5, 1.0, 2.0));
    }

    #[test]
    fn one_voxel_is_everywhere() {
        let lattice = Lattice::new([1; 3]);
        assert_eq!(lattice.corner([7.0, -2.0, 0.3]).slope(&[4.0]), (4.0, [0.0; 3]));
    }
}

//! The voxels inside a mesh, by how often it winds around them: parts that overlap become one, and what has turned inside
//! out vanishes.

use super::surface::Mesh;
use crate::classic::stencil::Grid;

/// Rays pass beside the voxels' centres by this, so that none meets a vertex or a side.
const ASIDE: [f64; 2] = [1e-4, 1.3e-4];

/// Whether each voxel is inside, z fastest.
pub fn fill(mesh: &Mesh, grid: &Grid) -> Vec<bool> {
    let [nx, ny, nz] = grid.shape;
    let plane = ny * nz;
    // What the winding number changes by from the plane before.
    let mut change = vec![0_i32; (nx + 1) * plane];
    for triangle in &mesh.triangles {
        let corners = triangle.map(|i| mesh.vertices[i as usize]);
        let [a, b, c] = corners.map(|p| [p[1], p[2]]);
        let double = side(a, b, c);
        if double == 0.0 {
            continue;
        }
        let range = |axis: usize, n: usize| {
            let at = |p: &[f64; 3]| (p[axis] - ASIDE[axis - 1]) / grid.spacing[axis];
            let low = corners.iter().map(at).fold(f64::INFINITY, f64::min).ceil().max(0.0);
            let high = corners.iter().map(at).fold(f64::NEG_INFINITY, f64::max).floor().min(n as f64 - 1.0);
            if low <= high { low as usize..high as usize + 1 } else { 0..0 }
        };
        for y in range(1, ny) {
            for z in range(2, nz) {
                let ray = [y as f64 * grid.spacing[1] + ASIDE[0], z as f64 * grid.spacing[2] + ASIDE[1]];
                let weights = [side(b, c, ray), side(c, a, ray), side(a, b, ray)].map(|part| part / double);
                if weights.iter().any(|&weight| weight < 0.0) {
                    continue;
                }
                let x: f64 = (0..3).map(|k| weights[k] * corners[k][0]).sum::<f64>() / grid.spacing[0];
                let first = x.ceil().clamp(0.0, nx as f64) as usize;
                // A triangle that looks backwards along the ray is where the ray enters.
                change[first * plane + y * nz + z] += if double < 0.0 { 1 } else { -1 };
            }
        }
    }
    let mut inside = Vec::with_capacity(nx * plane);
    let mut winding = vec![0_i32; plane];
    for x in 0..nx {
        winding.iter_mut().zip(&change[x * plane..]).for_each(|(winding, change)| *winding += change);
        inside.extend(winding.iter().map(|&winding| winding > 0));
    }
    inside
}

/// Twice the area of a triangle, above 0 if it is counter-clockwise.
fn side(a: [f64; 2], b: [f64; 2], c: [f64; 2]) -> f64 {
    (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
}

//! Closed surfaces of triangles around the voxels of a field that are above 0.
//!
//! Surface nets (Gibson, *Constrained Elastic Surface Nets*, MICCAI 1998): one vertex for each cell of eight voxels that
//! the surface passes, two triangles for each edge between a voxel inside and one outside. No tables, no slivers.

use crate::classic::stencil::Grid;

/// Triangles between vertices, counter-clockwise seen from outside.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// In the unit of the grid's spacing, from its first voxel.
    pub vertices: Vec<[f64; 3]>,
    /// Numbers of vertices.
    pub triangles: Vec<[u32; 3]>,
}

/// No vertex.
const NONE: u32 = u32::MAX;

/// The surface of a field, above 0 inside; outside the box nothing is inside, so that the surface is closed.
pub fn surface(field: &[f32], grid: &Grid) -> Mesh {
    let at = |place: [i64; 3]| {
        let within = (0..3).all(|a| (0..grid.shape[a] as i64).contains(&place[a]));
        if within {
            f64::from(field[(0..3).map(|a| place[a] as usize * grid.steps[a]).sum::<usize>()])
        } else {
            -1.0
        }
    };
    // Cells begin at voxels -1 to n - 1 along each axis.
    let cells = grid.shape.map(|n| n as i64 + 1);
    let number =
        |cell: [i64; 3]| (((cell[0] + 1) * cells[1] + cell[1] + 1) * cells[2] + cell[2] + 1) as usize;
    let all = || {
        (-1..cells[0] - 1).flat_map(move |x| {
            (-1..cells[1] - 1).flat_map(move |y| (-1..cells[2] - 1).map(move |z| [x, y, z]))
        })
    };
    let mut mesh = Mesh::default();
    let mut vertex_of = vec![NONE; cells.iter().product::<i64>() as usize];
    for cell in all() {
        if let Some(vertex) = vertex(cell, grid, &at) {
            vertex_of[number(cell)] = mesh.vertices.len() as u32;
            mesh.vertices.push(vertex);
        }
    }
    for place in all() {
        for axis in 0..3 {
            let mut ahead = place;
            ahead[axis] += 1;
            let (inside, beyond) = (at(place) > 0.0, at(ahead) > 0.0);
            if inside == beyond {
                continue;
            }
            // The four cells around the edge, counter-clockwise seen from ahead.
            let (b, c) = ((axis + 1) % 3, (axis + 2) % 3);
            let corners = [(0, 0), (-1, 0), (-1, -1), (0, -1)].map(|(u, v)| {
                let mut cell = place;
                cell[b] += u;
                cell[c] += v;
                vertex_of[number(cell)]
            });
            let [p, q, r, s] = corners;
            let pair = if inside { [[p, q, s], [q, r, s]] } else { [[p, s, q], [q, s, r]] };
            mesh.triangles.extend(pair);
        }
    }
    mesh
}

/// The mean of the points where the surface crosses the edges of a cell.
fn vertex(cell: [i64; 3], grid: &Grid, at: &impl Fn([i64; 3]) -> f64) -> Option<[f64; 3]> {
    let corner = |bits: usize| -> [i64; 3] { std::array::from_fn(|a| cell[a] + (bits >> a & 1) as i64) };
    let values: [f64; 8] = std::array::from_fn(|bits| at(corner(bits)));
    let mut sum = [0.0; 3];
    let mut crossings = 0.0;
    for axis in 0..3 {
        for low in (0..8_usize).filter(|bits| bits >> axis & 1 == 0) {
            let (from, to) = (values[low], values[low | 1 << axis]);
            if (from > 0.0) == (to > 0.0) {
                continue;
            }
            for (a, sum) in sum.iter_mut().enumerate() {
                *sum += corner(low)[a] as f64 + if a == axis { from / (from - to) } else { 0.0 };
            }
            crossings += 1.0;
        }
    }
    (crossings > 0.0).then(|| std::array::from_fn(|a| sum[a] / crossings * grid.spacing[a]))
}

//! How a mesh moves: by forces that it follows in explicit steps, and by its own tension and stiffness, implicitly.

use super::surface::Mesh;

/// Residual at which a step is solved, as a share of the positions.
const TOLERANCE: f64 = 1e-10;

/// Iterations of a step, at most.
const ITERATIONS: usize = 200;

/// Springs between points: the graph Laplacian `L = scale (degree - adjacency)`.
#[derive(Debug)]
pub struct Springs {
    /// Neighbours of point `i` are `neighbours[first[i]..first[i + 1]]`.
    first: Vec<usize>,
    neighbours: Vec<u32>,
    scale: f64,
}

impl Springs {
    /// Springs along pairs of points, each pair named in both directions, once or more often.
    pub fn new(points: usize, mut pairs: Vec<[u32; 2]>, scale: f64) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let mut first = vec![0; points + 1];
        for &[from, _] in &pairs {
            first[from as usize + 1] += 1;
        }
        for i in 0..points {
            first[i + 1] += first[i];
        }
        Self { first, neighbours: pairs.into_iter().map(|[_, to]| to).collect(), scale }
    }

    /// Along the sides of triangles. A vertex has six neighbours on the average, by which the Laplacian is divided.
    pub fn of(mesh: &Mesh) -> Self {
        let sides = |&[a, b, c]: &[u32; 3]| [[a, b], [b, a], [b, c], [c, b], [c, a], [a, c]];
        Self::new(mesh.vertices.len(), mesh.triangles.iter().flat_map(sides).collect(), 1.0 / 6.0)
    }

    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let at = |i: usize| {
            let neighbours = &self.neighbours[self.first[i]..self.first[i + 1]];
            let sum: f64 = neighbours.iter().map(|&j| x[j as usize]).sum();
            self.scale * (neighbours.len() as f64 * x[i] - sum)
        };
        (0..x.len()).map(at).collect()
    }

    /// Solves `(I + step (alpha L + beta L^2)) x = wanted` for each coordinate, starting from `points`, and puts the
    /// solution there.
    pub fn relax(&self, points: &mut [[f64; 3]], wanted: &[[f64; 3]], step: f64, alpha: f64, beta: f64) {
        for axis in 0..3 {
            let b: Vec<f64> = wanted.iter().map(|p| p[axis]).collect();
            let x = points.iter().map(|p| p[axis]).collect();
            let apply = |x: &[f64]| -> Vec<f64> {
                let once = self.apply(x);
                let twice = self.apply(&once);
                (0..x.len()).map(|i| x[i] + step * (alpha * once[i] + beta * twice[i])).collect()
            };
            let x = conjugate_gradients(apply, &b, x);
            points.iter_mut().zip(x).for_each(|(p, x)| p[axis] = x);
        }
    }
}

fn conjugate_gradients(apply: impl Fn(&[f64]) -> Vec<f64>, b: &[f64], mut x: Vec<f64>) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let good = TOLERANCE * TOLERANCE * dot(b, b);
    let mut residual: Vec<f64> = b.iter().zip(apply(&x)).map(|(b, a)| b - a).collect();
    let mut direction = residual.clone();
    let mut square = dot(&residual, &residual);
    for _ in 0..ITERATIONS {
        if square <= good {
            break;
        }
        let image = apply(&direction);
        let step = square / dot(&direction, &image);
        x.iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
        residual.iter_mut().zip(&image).for_each(|(r, a)| *r -= step * a);
        let next = dot(&residual, &residual);
        let turn = next / square;
        square = next;
        direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + turn * *d);
    }
    x
}

impl Mesh {
    /// Normals of the triangles, as long as twice their area.
    fn faces(&self) -> impl Iterator<Item = (&[u32; 3], [f64; 3])> {
        self.triangles.iter().map(|triangle| {
            let [a, b, c] = triangle.map(|i| self.vertices[i as usize]);
            (triangle, cross(minus(b, a), minus(c, a)))
        })
    }

    /// Enclosed, where the surface does not cross itself.
    pub fn volume(&self) -> f64 {
        let six = self.faces().map(|(triangle, normal)| product(self.vertices[triangle[0] as usize], normal));
        six.sum::<f64>() / 6.0
    }

    /// Of all triangles.
    pub fn area(&self) -> f64 {
        self.faces().map(|(_, normal)| 0.5 * product(normal, normal).sqrt()).sum()
    }

    /// Of the vertices, outwards, of length 1; 0 for a vertex of triangles without area.
    pub fn normals(&self) -> Vec<[f64; 3]> {
        let mut normals = vec![[0.0; 3]; self.vertices.len()];
        for (triangle, normal) in self.faces() {
            for &i in triangle {
                (0..3).for_each(|a| normals[i as usize][a] += normal[a]);
            }
        }
        for normal in &mut normals {
            let length = product(*normal, *normal).sqrt();
            *normal = normal.map(|n| if length > 0.0 { n / length } else { 0.0 });
        }
        normals
    }
}

pub(super) fn product(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn minus(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

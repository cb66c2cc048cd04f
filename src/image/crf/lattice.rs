//! Gaussian sums over points of many dimensions on the permutohedral lattice (Adams, Baek & Davis 2010).
//!
//! Every point lies in a simplex of d + 1 vertices. Values are spread onto the vertices with barycentric weights, blurred along
//! the d + 1 axes of the lattice, and gathered back with the same weights. The work grows with points times d^2, not with the width of the
//! Gaussian. Row sums are lower than the true ones, because mass leaves through vertices that do not exist; who uses the
//! sums normalises them with the sums of ones.

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;

/// No vertex.
const NONE: u32 = u32::MAX;
/// Coordinates of vertices stay within this.
const LARGEST: f64 = 32_000.0;
/// Values of a vertex that are worked on together; further ones are zeros.
const LANES: usize = 4;
/// Points whose vertices are found at a time.
const CHUNK: usize = 4096;

/// The lattice of some points, built once, for sums over any values of theirs.
pub struct Lattice {
    /// Dimensions d.
    dimensions: usize,
    points: usize,
    vertices: usize,
    /// Of each point its d + 1 vertices.
    offsets: Vec<u32>,
    /// Of each point its d + 1 barycentric weights.
    weights: Vec<f32>,
    /// For each axis, of each vertex the next one in one direction; the other direction is the inverse.
    next: Vec<Vec<u32>>,
}

impl fmt::Debug for Lattice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Lattice");
        debug.field("dimensions", &self.dimensions).field("points", &self.points);
        debug.field("vertices", &self.vertices).finish_non_exhaustive()
    }
}

/// A coordinate of the lattice does not fit into 16 bits: a standard deviation is too small for the extent of the points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

/// What [`Lattice::build`] needs for every point.
struct Simplex<'a> {
    keys: &'a mut [i16],
    weights: &'a mut [f32],
}

impl Lattice {
    /// Builds the lattice of `points` points. `feature(i, f)` writes the d coordinates of point i, divided by the Gaussian's
    /// standard deviations.
    ///
    /// # Errors
    /// Where the points extend over too many standard deviations.
    pub fn build(
        points: usize,
        dimensions: usize,
        feature: &(dyn Fn(usize, &mut [f64]) + Sync),
    ) -> Result<Self, OutOfRange> {
        let d = dimensions;
        let scale: Vec<f64> = (0..d)
            .map(|j| (2.0f64 / 3.0).sqrt() * (d + 1) as f64 / (((j + 1) * (j + 2)) as f64).sqrt())
            .collect();
        let mut table = Table::new(d);
        let mut offsets = vec![0u32; points * (d + 1)];
        let mut weights = vec![0f32; points * (d + 1)];
        let mut keys = vec![0i16; CHUNK.min(points) * (d + 1) * d];
        for (number, (offsets, weights)) in
            offsets.chunks_mut(CHUNK * (d + 1)).zip(weights.chunks_mut(CHUNK * (d + 1))).enumerate()
        {
            let keys = &mut keys[..offsets.len() * d];
            let fits = keys
                .par_chunks_mut((d + 1) * d)
                .zip(weights.par_chunks_mut(d + 1))
                .enumerate()
                .map_init(
                    || (vec![0.0; d], Scratch::new(d)),
                    |(features, scratch), (i, (keys, weights))| {
                        feature(number * CHUNK + i, features);
                        scratch.place(features, &scale, &mut Simplex { keys, weights })
                    },
                )
                .reduce(|| true, |a, b| a && b);
            if !fits {
                return Err(OutOfRange);
            }
            for (offset, key) in offsets.iter_mut().zip(keys.chunks(d)) {
                *offset = table.insert(key);
            }
        }
        let next = (0..=d).into_par_iter().map(|axis| table.neighbours(axis)).collect();
        let vertices = table.count();
        Ok(Self { dimensions, points, vertices, offsets, weights, next })
    }

    /// Number of vertices.
    pub fn vertices(&self) -> usize {
        self.vertices
    }

    /// Gaussian sums: of every point, over all points, of `channels` values each, (point, channel) in memory.
    pub fn sums(&self, values: &[f32], channels: usize, out: &mut [f32]) {
        assert_eq!(values.len(), self.points * channels, "one value for each point and channel");
        for first in (0..channels).step_by(LANES) {
            let own = first..channels.min(first + LANES);
            let on_vertices = self.blur(self.spread(values, channels, own.clone()));
            self.gather(&on_vertices, channels, own, out);
        }
    }

    /// The values on the vertices. Each thread owns a range of vertices and walks all points, so that every sum runs in the order of
    /// the points whatever the number of threads.
    fn spread(&self, values: &[f32], channels: usize, own: Range<usize>) -> Vec<[f32; LANES]> {
        let corners = self.dimensions + 1;
        let mut on_vertices = vec![[0f32; LANES]; self.vertices];
        let range = self.vertices.div_ceil(rayon::current_num_threads()).max(1);
        on_vertices.par_chunks_mut(range).enumerate().for_each(|(part, sums)| {
            let first = part * range;
            let points = self.offsets.chunks_exact(corners).zip(self.weights.chunks_exact(corners));
            for ((offsets, weights), values) in points.zip(values.chunks_exact(channels)) {
                let mut value = [0f32; LANES];
                value[..own.len()].copy_from_slice(&values[own.clone()]);
                for (&vertex, &weight) in offsets.iter().zip(weights) {
                    if let Some(sum) = sums.get_mut((vertex as usize).wrapping_sub(first)) {
                        for lane in 0..LANES {
                            sum[lane] += weight * value[lane];
                        }
                    }
                }
            }
        });
        on_vertices
    }

    /// Half of both neighbours along every axis in turn.
    fn blur(&self, mut on_vertices: Vec<[f32; LANES]>) -> Vec<[f32; LANES]> {
        let mut blurred = vec![[0f32; LANES]; self.vertices];
        let mut previous = vec![NONE; self.vertices];
        for next in &self.next {
            previous.fill(NONE);
            for (vertex, &n) in next.iter().enumerate() {
                if n != NONE {
                    previous[n as usize] = vertex as u32;
                }
            }
            let neighbours = next.par_iter().zip(&previous);
            blurred.par_iter_mut().zip(&on_vertices).zip(neighbours).with_min_len(4096).for_each(
                |((sum, own), (&next, &previous))| {
                    *sum = *own;
                    for neighbour in [next, previous] {
                        if let Some(value) = on_vertices.get(neighbour as usize) {
                            for lane in 0..LANES {
                                sum[lane] += 0.5 * value[lane];
                            }
                        }
                    }
                },
            );
            std::mem::swap(&mut on_vertices, &mut blurred);
        }
        on_vertices
    }

    /// The values of the vertices at the points.
    fn gather(&self, on_vertices: &[[f32; LANES]], channels: usize, own: Range<usize>, out: &mut [f32]) {
        let corners = self.dimensions + 1;
        let alpha = 1.0 / (1.0 + (-(self.dimensions as f32)).exp2());
        out.par_chunks_exact_mut(channels)
            .zip(self.offsets.par_chunks_exact(corners))
            .zip(self.weights.par_chunks_exact(corners))
            .with_min_len(1024)
            .for_each(|((out, offsets), weights)| {
                let mut sum = [0f32; LANES];
                for (&vertex, weight) in offsets.iter().zip(weights) {
                    let value = &on_vertices[vertex as usize];
                    for lane in 0..LANES {
                        sum[lane] += alpha * weight * value[lane];
                    }
                }
                out[own.clone()].copy_from_slice(&sum[..own.len()]);
            });
    }
}

/// Memory for the place of one point.
struct Scratch {
    elevated: Vec<f64>,
    nearest: Vec<i32>,
    rank: Vec<i32>,
    weights: Vec<f64>,
}

impl Scratch {
    fn new(d: usize) -> Self {
        Self {
            elevated: vec![0.0; d + 1],
            nearest: vec![0; d + 1],
            rank: vec![0; d + 1],
            weights: vec![0.0; d + 2],
        }
    }

    /// Finds the simplex of a point; whether its coordinates fit.
    fn place(&mut self, features: &[f64], scale: &[f64], simplex: &mut Simplex<'_>) -> bool {
        let d = features.len();
        let step = (d + 1) as i32;
        // Onto the hyperplane of coordinates that sum to 0.
        let mut sum = 0.0;
        for j in (1..=d).rev() {
            let g = features[j - 1] * scale[j - 1];
            self.elevated[j] = sum - j as f64 * g;
            sum += g;
        }
        self.elevated[0] = sum;
        if self.elevated.iter().any(|e| e.abs() >= LARGEST || e.is_nan()) {
            return false;
        }
        // The nearest vertex whose coordinates are multiples of d + 1.
        let mut excess = 0;
        for (nearest, &e) in self.nearest.iter_mut().zip(&self.elevated) {
            let v = e / f64::from(step);
            let (up, down) = (v.ceil() * f64::from(step), v.floor() * f64::from(step));
            *nearest = if up - e < e - down { up as i32 } else { down as i32 };
            excess += *nearest;
        }
        excess /= step;
        self.rank.fill(0);
        for i in 0..d {
            let own = self.elevated[i] - f64::from(self.nearest[i]);
            for j in i + 1..=d {
                match own < self.elevated[j] - f64::from(self.nearest[j]) {
                    true => self.rank[i] += 1,
                    false => self.rank[j] += 1,
                }
            }
        }
        for (rank, nearest) in self.rank.iter_mut().zip(&mut self.nearest) {
            *rank += excess;
            if *rank < 0 {
                *rank += step;
                *nearest += step;
            } else if *rank >= step {
                *rank -= step;
                *nearest -= step;
            }
        }
        self.weights.fill(0.0);
        for i in 0..=d {
            let delta = (self.elevated[i] - f64::from(self.nearest[i])) / f64::from(step);
            let rank = self.rank[i] as usize;
            self.weights[d - rank] += delta;
            self.weights[d + 1 - rank] -= delta;
        }
        self.weights[0] += 1.0 + self.weights[d + 1];
        for (corner, key) in simplex.keys.chunks_mut(d).enumerate() {
            for (i, coordinate) in key.iter_mut().enumerate() {
                let canonical = match self.rank[i] as usize <= d - corner {
                    true => corner as i32,
                    false => corner as i32 - step,
                };
                *coordinate = (self.nearest[i] + canonical) as i16;
            }
            simplex.weights[corner] = self.weights[corner] as f32;
        }
        true
    }
}

/// Vertices by their keys, numbered in the order in which they are first seen.
struct Table {
    dimensions: usize,
    keys: Vec<i16>,
    /// At the place of its hash, or the next free one, the number of a vertex and what is left of the hash; a power of two long.
    places: Vec<Place>,
    /// 64 less the logarithm of that length.
    shift: u32,
}

#[derive(Clone, Copy)]
struct Place {
    vertex: u32,
    rest: u32,
}

const FREE: Place = Place { vertex: NONE, rest: 0 };

impl Table {
    fn new(dimensions: usize) -> Self {
        Self { dimensions, keys: Vec::new(), places: vec![FREE; 1 << 12], shift: 64 - 12 }
    }

    fn count(&self) -> usize {
        self.keys.len() / self.dimensions
    }

    fn key(&self, vertex: u32) -> &[i16] {
        &self.keys[vertex as usize * self.dimensions..][..self.dimensions]
    }

    fn hash(key: &[i16]) -> u64 {
        let mix = |hash: u64, &k: &i16| {
            (hash.rotate_left(23) ^ u64::from(k as u16)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        key.iter().fold(0, mix)
    }

    /// Where a key is, or the free place where it would go.
    fn place(&self, hash: u64, key: &[i16]) -> usize {
        let mask = self.places.len() - 1;
        let mut at = (hash >> self.shift) as usize;
        loop {
            let Place { vertex, rest } = self.places[at];
            if vertex == NONE || (rest == hash as u32 && self.key(vertex) == key) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    fn insert(&mut self, key: &[i16]) -> u32 {
        let hash = Self::hash(key);
        let place = self.place(hash, key);
        if self.places[place].vertex != NONE {
            return self.places[place].vertex;
        }
        let vertex = self.count() as u32;
        self.keys.extend_from_slice(key);
        self.places[place] = Place { vertex, rest: hash as u32 };
        if 2 * self.count() > self.places.len() {
            self.grow();
        }
        vertex
    }

    fn grow(&mut self) {
        self.places = vec![FREE; 4 * self.places.len()];
        self.shift -= 2;
        for vertex in 0..self.count() as u32 {
            let hash = Self::hash(self.key(vertex));
            let place = self.place(hash, self.key(vertex));
            self.places[place] = Place { vertex, rest: hash as u32 };
        }
    }

    /// Of each vertex the next one against an axis.
    fn neighbours(&self, axis: usize) -> Vec<u32> {
        let d = self.dimensions as i16;
        let mut wanted = vec![0i16; self.dimensions];
        let next = |key: &[i16]| {
            for (i, (wanted, own)) in wanted.iter_mut().zip(key).enumerate() {
                *wanted = own + if i == axis { d } else { -1 };
            }
            self.places[self.place(Self::hash(&wanted), &wanted)].vertex
        };
        self.keys.chunks_exact(self.dimensions).map(next).collect()
    }
}

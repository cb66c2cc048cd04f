//! An abdomen as a mixture of tissues per voxel: wall, spine and ribs, liver, spleen, stomach and bowel, great
//! vessels, and two kidneys with cortex, medulla, sinus and cysts.
//!
//! Coordinates are millimetres (right, front, top) from a point between the kidneys.

use ndarray::Array3;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::field::{Domain, smooth};
use super::shape::{Mixture, Point, Tube, coverage, direction, ellipsoid, length, minus};

/// Number of tissues of an abdomen.
pub(super) const TISSUES: usize = 15;
pub(super) const AIR: usize = 0;
pub(super) const FAT: usize = 1;
pub(super) const MUSCLE: usize = 2;
pub(super) const CORTICAL: usize = 3;
pub(super) const SPONGY: usize = 4;
pub(super) const LIVER: usize = 5;
pub(super) const SPLEEN: usize = 6;
pub(super) const GUT: usize = 7;
pub(super) const FLUID: usize = 8;
pub(super) const ARTERY: usize = 9;
pub(super) const VEIN: usize = 10;
/// Renal cortex and medulla.
pub(super) const CORTEX: usize = 11;
pub(super) const MEDULLA: usize = 12;
pub(super) const CYST: usize = 13;
/// A cyst that has bled: as dense as a tumour that takes up little contrast agent.
pub(super) const DENSE_CYST: usize = 14;

/// What lies where in one abdomen.
#[derive(Debug)]
pub(super) struct Abdomen {
    pub(super) tissues: Array3<Mixture<TISSUES>>,
    /// How much of a voxel is kidney, with its cysts, without its sinus.
    pub(super) kidney: Array3<f32>,
}

/// Room that the trunk needs, millimetres; smaller grids get a smaller trunk.
const ROOM: Point = [330.0, 246.0, 150.0];

impl Abdomen {
    pub(super) fn new(domain: &Domain, rng: &mut ChaCha8Rng) -> Self {
        let build = Build::draw(domain, rng);
        let mut kidney = Array3::zeros(domain.shape);
        let tissues = domain.map(|index| {
            let (mixture, share) = build.voxel(index);
            kidney[index] = share;
            mixture
        });
        Self { tissues, kidney }
    }
}

/// Everything that makes one trunk differ from the next.
struct Build {
    domain: Domain,
    scale: f32,
    voxel: f32,
    stretch: Point,
    shift: Point,
    warp: [Array3<f32>; 3],
    loops: Array3<f32>,
    grain: Array3<f32>,
    /// Thickness of the fat under the skin.
    fat: f32,
    spine_phase: f32,
    kidneys: [Kidney; 2],
    liver: Point,
}

/// One kidney in its own frame: first axis away from the spine, last axis along its length.
struct Kidney {
    centre: Point,
    side: f32,
    tilt: f32,
    radii: Point,
    /// The renal vein, from the hilum to the great vein.
    vein: Tube,
    /// Centre in the kidney's frame, radius, tissue.
    cysts: Vec<(Point, f32, usize)>,
}

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    rng.sample::<f32, _>(StandardNormal).clamp(-2.5, 2.5)
}

impl Kidney {
    fn draw(side: f32, rng: &mut ChaCha8Rng) -> Self {
        // The left kidney (side -1) lies a little higher.
        let centre =
            [side * (60.0 + 4.0 * normal(rng)), -40.0 + 4.0 * normal(rng), -6.0 * side + 9.0 * normal(rng)];
        let size = (0.08 * normal(rng)).exp();
        let radii = [27.0, 23.0, 53.0].map(|r: f32| r * size * (0.05 * normal(rng)).exp());
        let cysts = (0..[0, 0, 0, 1, 1, 2, 3][rng.random_range(0..7)])
            .map(|_| {
                let at = direction(rng);
                let out = rng.random_range(0.75..1.1);
                let place = [at[0].abs() * radii[0] * out, at[1] * radii[1] * out, at[2] * radii[2] * out];
                let tissue = if rng.random_bool(0.25) { DENSE_CYST } else { CYST };
                (place, rng.random_range(3.5..15.0), tissue)
            })
            .collect();
        let hilum = [centre[0] - 14.0 * side, centre[1] + 4.0, centre[2]];
        let root = [if side > 0.0 { 14.0 } else { -8.0 }, -26.0, centre[2] + 8.0];
        let vein = Tube::new(vec![(hilum, 4.5), (root, 4.5)]);
        Self { centre, side, tilt: rng.random_range(0.1..0.32), radii, vein, cysts }
    }

    fn local(&self, p: Point) -> Point {
        let q = minus(p, self.centre);
        let (sin, cos) = self.tilt.sin_cos();
        let out = q[0] * self.side;
        [out * cos + q[2] * sin, q[1], q[2] * cos - out * sin]
    }
}

impl Build {
    fn draw(domain: &Domain, rng: &mut ChaCha8Rng) -> Self {
        let extent = domain.extent();
        let scale = (0..3).map(|axis| extent[axis] / ROOM[axis]).fold(1.0, f32::min);
        let fields = |lattice: f32, rng: &mut ChaCha8Rng| smooth(domain, lattice * scale, rng);
        Self {
            domain: *domain,
            scale,
            voxel: domain.voxel() / scale,
            stretch: [0.05, 0.05, 0.06].map(|deviation| (deviation * normal(rng)).exp()),
            shift: [5.0, 5.0, 12.0].map(|deviation| deviation * normal(rng)),
            warp: std::array::from_fn(|_| fields(55.0, rng) * 4.0),
            loops: fields(19.0, rng),
            grain: fields(8.0, rng),
            fat: rng.random_range(7.0..30.0),
            spine_phase: rng.random_range(0.0..34.0),
            kidneys: [Kidney::draw(-1.0, rng), Kidney::draw(1.0, rng)],
            liver: std::array::from_fn(|_| 5.0 * normal(rng)),
        }
    }

    /// The tissues of a voxel and how much of it is kidney.
    fn voxel(&self, index: [usize; 3]) -> (Mixture<TISSUES>, f32) {
        let at = self.domain.position(index).map(|v| v / self.scale);
        let p: Point =
            std::array::from_fn(|i| (at[i] - self.shift[i]) / self.stretch[i] + self.warp[i][index]);
        let cover = |distance: f32| coverage(distance, self.voxel);
        let mut mixture = Mixture::pure(AIR);
        // The table is not deformed with the patient.
        let table = ((at[1] + 117.0) - 0.001 * at[0] * at[0]).abs() - 2.5;
        mixture.paint(GUT, 0.75 * cover(table.max(at[0].abs() - 150.0)));
        let body = ellipsoid(p, [0.0, -4.0, 0.0], [150.0, 104.0, 1e4]);
        if body > 2.0 * self.voxel {
            return (mixture, 0.0);
        }
        mixture.paint(MUSCLE, cover(body));
        mixture.paint(FAT, cover(body + 2.0));
        let thin = self.fat * (0.75 + 0.25 * (p[1] / 100.0));
        let wall = body + thin;
        mixture.paint(MUSCLE, cover(wall));
        self.ribs(&mut mixture, p, wall);
        // Behind the kidneys lie the long muscles of the back.
        let cavity = (wall + 10.0).max(-62.0 - p[1]);
        mixture.paint(FAT, cover(cavity));
        self.organs(&mut mixture, p, index, cavity);
        self.spine(&mut mixture, p);
        let share =
            self.kidneys.iter().map(|kidney| self.kidney(&mut mixture, kidney, p, index)).fold(0.0, f32::max);
        (mixture, share)
    }

    fn ribs(&self, mixture: &mut Mixture<TISSUES>, p: Point, wall: f32) {
        let cover = |distance: f32| coverage(distance, self.voxel);
        // Ribs fall from back to front and end where the flank begins.
        let along = (p[2] + 0.55 * p[1] + self.spine_phase).rem_euclid(32.0) - 16.0;
        let rib = length([along, wall + 5.5, 0.0]) - 4.5;
        let rib = rib.max(-(p[2] - 8.0) - 0.4 * p[1]).max(p[1] - 60.0);
        mixture.paint(CORTICAL, 0.8 * cover(rib));
        mixture.paint(SPONGY, 0.9 * cover(rib + 2.0));
    }

    fn organs(&self, mixture: &mut Mixture<TISSUES>, p: Point, index: [usize; 3], cavity: f32) {
        let cover = |distance: f32| coverage(distance, self.voxel);
        let within = cover(cavity + 1.5);
        let loops = self.loops[index];
        // Loops of bowel in the front of the belly, with contents and gas.
        let region = cover((-(p[1] + 6.0)).max(p[2] - 30.0) / 3.0) * within;
        mixture.paint(GUT, region * cover(6.0 * (0.35 - loops)));
        mixture.paint(FLUID, region * cover(8.0 * (1.0 - loops)));
        mixture.paint(AIR, region * cover(9.0 * (1.55 - loops)));
        let stomach = ellipsoid(p, [-48.0, 40.0, 55.0], [46.0, 34.0, 36.0]);
        mixture.paint(GUT, within * cover(stomach));
        mixture.paint(FLUID, within * cover(stomach + 5.0));
        mixture.paint(AIR, within * cover((stomach + 5.0).max(55.0 - p[1])));
        let liver = ellipsoid(minus(p, self.liver), [66.0, 12.0, 62.0], [78.0, 78.0, 74.0]).min(ellipsoid(
            minus(p, self.liver),
            [5.0, 45.0, 75.0],
            [70.0, 32.0, 40.0],
        ));
        mixture.paint(LIVER, within * cover(liver));
        let branch = self.grain[index].abs().max(0.5 * loops.abs());
        mixture.paint(VEIN, within * cover(liver + 14.0) * cover(16.0 * (branch - 0.1)));
        let spleen = ellipsoid(p, [-100.0, -38.0, 62.0], [30.0, 40.0, 46.0]);
        mixture.paint(SPLEEN, within * cover(spleen));
        for side in [-1.0, 1.0] {
            let psoas = ellipsoid(p, [side * (36.0 - 0.1 * p[2]), -52.0, -30.0], [15.0, 17.0, 75.0]);
            mixture.paint(MUSCLE, cover(psoas));
        }
    }

    fn spine(&self, mixture: &mut Mixture<TISSUES>, p: Point) {
        let cover = |distance: f32| coverage(distance, self.voxel);
        let disc = ((p[2] + self.spine_phase).rem_euclid(34.0) - 17.0).abs() - 4.0;
        let vertebra = ellipsoid(p, [0.0, -52.0, 0.0], [23.0, 17.0, 1e4]);
        mixture.paint(CORTICAL, 0.7 * cover(vertebra));
        mixture.paint(SPONGY, cover(vertebra + 2.5));
        mixture.paint(MUSCLE, 0.9 * cover(vertebra.max(disc)));
        let ring = length([p[0], (p[1] + 77.0) * 1.1, 0.0]) - 11.0;
        let process = length([p[0], (p[1] + 95.0) * 0.28, 0.0]) - 4.0;
        let arms = length([0.0, (p[1] + 74.0) * 1.2, 0.0]).max(p[0].abs() - 34.0) - 4.0;
        let between = -disc;
        mixture.paint(CORTICAL, 0.75 * cover((ring - 4.0).min(process).min(arms).max(between - 6.0)));
        mixture.paint(FLUID, cover(ring + 3.0));
        let tilt = 0.06 * p[2];
        mixture.paint(ARTERY, cover(length([p[0] + 9.0, p[1] + 26.0 - tilt, 0.0]) - 10.0));
        mixture.paint(
            CORTICAL,
            0.5 * self.fat / 30.0 * cover(length([p[0] + 15.0, p[1] + 31.0 - tilt, 0.0]) - 2.5),
        );
        mixture.paint(VEIN, cover(length([(p[0] - 17.0) * 0.85, p[1] + 26.0 - tilt, 0.0]) - 10.0));
    }

    /// Paints one kidney and returns how much of the voxel it takes.
    fn kidney(&self, mixture: &mut Mixture<TISSUES>, kidney: &Kidney, p: Point, index: [usize; 3]) -> f32 {
        let q = kidney.local(p);
        let far = length(q) - kidney.radii[2] - 25.0;
        let cover = |distance: f32| coverage(distance, self.voxel);
        let vein = cover(kidney.vein.distance(p));
        mixture.paint(VEIN, vein);
        if far > 0.0 {
            return 0.0;
        }
        let surface = ellipsoid(q, [0.0; 3], kidney.radii) + 1.1 * self.grain[index];
        let r = kidney.radii;
        let sinus = ellipsoid(q, [-0.62 * r[0], 0.1 * r[1], 0.0], [0.62 * r[0], 0.42 * r[1], 0.52 * r[2]])
            + 1.5 * self.grain[index];
        // A sheath of fat keeps the neighbours away.
        mixture.paint(FAT, cover(surface - 5.0) * cover(q[0].min(0.0) + 12.0 - 30.0));
        mixture.paint(CORTEX, cover(surface));
        let columns = (0.21 * q[2]).sin() * 0.6 + (0.26 * q[1] + 1.0).sin() * 0.4;
        mixture.paint(MEDULLA, cover((surface + 7.0).max(-(columns * 6.0 + 3.5))));
        mixture.paint(FAT, cover(sinus));
        mixture.paint(FLUID, 0.8 * cover((sinus + 4.0).max(-(self.grain[index] * 5.0 + 2.0))));
        mixture.paint(VEIN, vein * cover(sinus));
        let mut share = cover(surface) * (1.0 - cover(sinus));
        for (centre, radius, tissue) in &kidney.cysts {
            let cyst = cover(length(minus(q, *centre)) - radius);
            mixture.paint(*tissue, cyst);
            share = share.max(cyst);
        }
        share
    }
}

//! A head as a mixture of tissues per voxel: scalp, skull, brain with folded cortex, deep grey matter and
//! ventricles, cerebellum and brain stem, vessels; and what old or ill brains have besides the lesion.
//!
//! Coordinates are millimetres from the middle of the brain (right, front, top) of an average adult; every case is
//! turned, stretched and smoothly deformed, and folds its cortex in its own way.

use ndarray::Array3;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::field::{Domain, smooth};
use super::shape::{Mixture, Point, Tube, coverage, direction, ellipsoid, join, length, minus};

/// Number of tissues of a head.
pub(super) const TISSUES: usize = 11;
pub(super) const AIR: usize = 0;
pub(super) const BONE: usize = 1;
pub(super) const MARROW: usize = 2;
pub(super) const FAT: usize = 3;
pub(super) const MUSCLE: usize = 4;
pub(super) const FLUID: usize = 5;
pub(super) const GREY: usize = 6;
pub(super) const WHITE: usize = 7;
pub(super) const DEEP: usize = 8;
/// Vessels and choroid plexus: bright after contrast agent, as some tumours are.
pub(super) const VESSEL: usize = 9;
/// White matter changed by age: bright in FLAIR and T2, as oedema is.
pub(super) const CHANGED: usize = 10;

/// What lies where in one head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) tissues: Array3<Mixture<TISSUES>>,
    /// How much of a voxel is brain, with the fluid in and closely around it.
    pub(super) brain: Array3<f32>,
}

/// Room that an average head needs, millimetres; smaller grids get a smaller head.
const ROOM: Point = [158.0, 198.0, 160.0];

impl Head {
    /// Builds the head of one case.
    pub(super) fn new(domain: &Domain, rng: &mut ChaCha8Rng) -> Self {
        let build = Build::draw(domain, rng);
        let mut brain = Array3::zeros(domain.shape);
        let tissues = domain.map(|index| {
            let (mixture, inside) = build.voxel(index);
            brain[index] = inside;
            mixture
        });
        Self { tissues, brain }
    }

    /// Share of grey and white matter in a voxel, changed or not.
    pub(super) fn parenchyma(&self, index: [usize; 3]) -> f32 {
        let shares = &self.tissues[index].0;
        shares[GREY] + shares[WHITE] + shares[DEEP] + shares[CHANGED]
    }
}

/// Everything that makes one head differ from the next.
struct Build {
    domain: Domain,
    /// Grid millimetres per head millimetre.
    scale: f32,
    /// Edge of a voxel in head millimetres.
    voxel: f32,
    /// From grid to head: turn and stretch, then shift.
    matrix: [Point; 3],
    shift: Point,
    warp: [Array3<f32>; 3],
    /// Zero where a sulcus runs; the second one for the finer folds of the cerebellum.
    folds: Array3<f32>,
    fine_folds: Array3<f32>,
    /// Patches of muscle, fat and cavities below the skull.
    patches: Array3<f32>,
    /// Half width of sulci at the surface.
    sulci: f32,
    /// Size factor of the inner ventricles; the lateral ones with their temporal horns, left and right.
    ventricles: f32,
    lateral: [[Tube; 2]; 2],
    stem: Tube,
    marrow: f32,
    scalp: f32,
    vessels: Vec<Tube>,
    /// How far white matter around the ventricles has changed, millimetres, and how strongly.
    caps: (f32, f32),
    spots: Vec<(Point, f32)>,
    cysts: Vec<(Point, Point)>,
}

impl Build {
    fn draw(domain: &Domain, rng: &mut ChaCha8Rng) -> Self {
        let extent = domain.extent();
        let scale = (0..3).map(|axis| extent[axis] / ROOM[axis]).fold(1.0, f32::min);
        let normal = |rng: &mut ChaCha8Rng, deviation: f32| {
            Normal::new(0.0, deviation)
                .map_or(0.0, |normal| normal.sample(rng).clamp(-2.5 * deviation, 2.5 * deviation))
        };
        let stretch: Point = std::array::from_fn(|_| normal(rng, 0.035).exp());
        let angles: Point = std::array::from_fn(|_| normal(rng, 0.05));
        let age: f32 = rng.random_range(0.0..1.0);
        let ventricles = (0.45 * (age - 0.5) + normal(rng, 0.2)).exp();
        let asymmetry = normal(rng, 0.1);
        let vessels = (0..9).map(|_| surface_vessel(rng)).chain(main_vessels()).collect();
        let spots = (0..(age * rng.random_range(0.0..14.0)) as usize).map(|_| white_spot(rng)).collect();
        let cysts = (0..[0, 0, 1, 1, 2][rng.random_range(0..5)]).map(|_| cyst(rng)).collect();
        let fields = |lattice: f32, rng: &mut ChaCha8Rng| smooth(domain, lattice * scale, rng);
        let warp = std::array::from_fn(|_| fields(52.0, rng) * 2.8);
        Self {
            domain: *domain,
            scale,
            voxel: domain.voxel() / scale,
            matrix: turned(stretch, angles),
            shift: [normal(rng, 1.5), normal(rng, 2.0), normal(rng, 2.0) - 12.0],
            warp,
            folds: fields(8.5, rng),
            fine_folds: fields(5.0, rng),
            patches: fields(12.0, rng),
            sulci: 0.5 + 1.1 * age + normal(rng, 0.15),
            ventricles,
            lateral: [-1.0, 1.0].map(|side| lateral_ventricle(ventricles * (1.0 + side * asymmetry))),
            stem: brain_stem(),
            marrow: rng.random_range(0.3..1.0),
            scalp: rng.random_range(3.5..7.0),
            vessels,
            caps: (rng.random_range(0.5..5.0) * age, age * rng.random_range(0.2..1.0)),
            spots,
            cysts,
        }
    }

    /// The tissues of a voxel and how much of it is brain.
    fn voxel(&self, index: [usize; 3]) -> (Mixture<TISSUES>, f32) {
        let p = self.place(index);
        let cover = |distance: f32| coverage(distance, self.voxel);
        let cerebrum = cerebrum(p);
        let cerebellum = ellipsoid(p, [0.0, -50.0, -40.0], [50.0, 32.0, 25.0]).max(2.0 - cerebrum);
        let stem = self.stem.distance(p);
        let brain = cerebrum.min(cerebellum).min(stem);
        let cavity = join(join(cerebrum, cerebellum, 16.0), stem, 10.0) - 2.2;
        let mut mixture = Mixture::pure(FLUID);
        if cavity > -self.voxel {
            mixture = self.shell(p, index, cavity);
            mixture.paint(FLUID, cover(cavity));
        }
        if brain < self.voxel {
            self.cerebrum(&mut mixture, p, index, cerebrum);
            let folds = 2.0 * self.fine_folds[index].abs();
            let inside = cover(cerebellum);
            mixture.paint(GREY, inside);
            mixture.paint(WHITE, 0.8 * inside * cover((-cerebellum - 10.0).abs() - 3.5 - folds));
            mixture.paint(FLUID, 0.4 * inside * cover(folds - 0.6 - 0.3 * self.sulci));
            mixture.paint(WHITE, 0.8 * cover(stem));
            mixture.paint(DEEP, 0.35 * cover(stem));
            self.deep(&mut mixture, p);
        }
        if cavity < 1.0 + self.voxel {
            for vessel in &self.vessels {
                mixture.paint(VESSEL, cover(vessel.distance(p)) * cover(cavity - 1.0));
            }
        }
        (mixture, cover(join(brain, cavity + 3.0, 4.0)))
    }

    /// Head coordinates of a voxel.
    fn place(&self, index: [usize; 3]) -> Point {
        let at = self.domain.position(index).map(|v| v / self.scale);
        std::array::from_fn(|i| {
            let row = self.matrix[i];
            row[0] * at[0] + row[1] * at[1] + row[2] * at[2] - self.shift[i] + self.warp[i][index]
        })
    }

    /// Scalp, skull, face and neck.
    fn shell(&self, p: Point, index: [usize; 3], cavity: f32) -> Mixture<TISSUES> {
        let cover = |distance: f32| coverage(distance, self.voxel);
        let face = ellipsoid(p, [0.0, 12.0, -78.0], [58.0, 74.0, 72.0]);
        let head = join(cavity - 8.0 - self.scalp, face, 14.0);
        let mut mixture = Mixture::pure(AIR);
        if head > self.voxel {
            return mixture;
        }
        let patch = self.patches[index];
        mixture.paint(FAT, cover(head));
        mixture.paint(MUSCLE, cover(head + self.scalp));
        let below = cover(face + 10.0) * cover(8.0 - cavity);
        mixture.paint(FAT, below * (patch - 0.2).clamp(0.0, 1.0));
        mixture.paint(BONE, below * (-patch - 0.7).clamp(0.0, 0.8));
        let sinus = ellipsoid(p, [0.0, 66.0, -52.0], [22.0, 22.0, 20.0]);
        mixture.paint(AIR, cover(sinus + 4.0 * patch));
        for side in [-1.0, 1.0] {
            let eye = ellipsoid(p, [31.0 * side, 58.0, -42.0], [12.0; 3]);
            mixture.paint(FAT, cover(eye - 5.0) * cover(head));
            mixture.paint(FLUID, cover(eye) * cover(head));
        }
        let skull = cover(cavity - 6.5) * cover(-(p[2] + 48.0) - 0.4 * p[1].min(0.0));
        mixture.paint(BONE, skull);
        mixture.paint(MARROW, 0.8 * self.marrow * skull * cover((cavity - 3.6).abs() - 1.2));
        mixture
    }

    /// Folded cortex over white matter.
    fn cerebrum(&self, mixture: &mut Mixture<TISSUES>, p: Point, index: [usize; 3], surface: f32) {
        let cover = |distance: f32| coverage(distance, self.voxel);
        let depth = -surface;
        let inside = cover(surface);
        // The zero set of a smooth field is a sheet; sulci narrow and end with depth.
        let sheet = 4.5 * self.folds[index].abs();
        let sulcus = sheet - self.sulci * (1.0 - depth / 17.0) + (depth - 15.0).max(0.0);
        // The gap between the hemispheres is closed by the corpus callosum.
        let bridge = length([0.0, (p[1] + 3.0) / 44.0, (p[2] - 4.0) / 21.0]);
        let gap = p[0].abs() - 0.5 - 0.5 * self.sulci + 25.0 * (1.0 - bridge).max(0.0);
        let fluid = sulcus.min(gap);
        mixture.paint(GREY, inside);
        mixture.paint(WHITE, inside * cover(3.8 - depth.min(fluid)));
        mixture.paint(FLUID, inside * cover(fluid));
    }

    /// Deep grey matter, changes by age, ventricles and cysts.
    fn deep(&self, mixture: &mut Mixture<TISSUES>, p: Point) {
        let cover = |distance: f32| coverage(distance, self.voxel);
        let q = [p[0].abs(), p[1], p[2]];
        let [body, horn] = &self.lateral[usize::from(p[0] > 0.0)];
        let ventricle = body.distance(q).min(horn.distance(q));
        let near = self.caps.0 - ventricle;
        mixture.paint(CHANGED, self.caps.1 * mixture.0[WHITE] * cover(-near));
        for (centre, radius) in &self.spots {
            mixture.paint(CHANGED, mixture.0[WHITE] * cover(length(minus(p, *centre)) - radius));
        }
        mixture.paint(DEEP, cover(ellipsoid(q, [11.0, -12.0, 6.0], [8.5, 13.0, 8.5])));
        mixture.paint(DEEP, cover(ellipsoid(q, [14.0, 17.0, 8.0], [5.0, 12.0, 9.0])));
        mixture.paint(DEEP, cover(ellipsoid(q, [25.0, 5.0, 1.0], [5.5, 15.0, 10.0])));
        let insula = ellipsoid(q, [37.0, 4.0, 0.0], [2.0, 17.0, 13.0]);
        mixture.paint(GREY, cover(insula - 2.5));
        mixture.paint(FLUID, cover(insula + 2.0 - self.sulci));
        mixture.paint(FLUID, cover(ventricle));
        mixture.paint(FLUID, cover(ellipsoid(p, [0.0, -6.0, 1.0], [1.4 * self.ventricles, 12.0, 9.0])));
        mixture.paint(FLUID, cover(ellipsoid(p, [0.0, -40.0, -34.0], [6.0 * self.ventricles, 5.0, 9.0])));
        mixture.paint(VESSEL, 0.8 * cover(ellipsoid(q, [16.5, -30.0, 13.0], [2.2, 7.0, 2.6])));
        for (centre, radii) in &self.cysts {
            mixture.paint(FLUID, cover(ellipsoid(p, *centre, *radii)));
        }
    }
}

/// Distance to the surface of both hemispheres together, without their folds.
fn cerebrum(p: Point) -> f32 {
    let main = ellipsoid(p, [0.0, 0.0, 6.0], [66.0, 83.0, 59.0]);
    let flattened = -join(-main, p[2] + 22.0 - 0.12 * p[1].abs(), 8.0);
    let temporal = ellipsoid([p[0].abs(), p[1], p[2]], [42.0, 4.0, -22.0], [23.0, 40.0, 24.0]);
    join(flattened, temporal, 8.0)
}

/// Rows of the matrix that stretches along the axes and turns by small angles around each of them.
fn turned(stretch: Point, angles: Point) -> [Point; 3] {
    let [(sx, cx), (sy, cy), (sz, cz)] = angles.map(f32::sin_cos);
    let rotation = [
        [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz],
        [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz],
        [-sy, sx * cy, cx * cy],
    ];
    std::array::from_fn(|i| rotation[i].map(|v| v / stretch[i]))
}

/// A lateral ventricle and its temporal horn, on the side where x is positive.
fn lateral_ventricle(size: f32) -> [Tube; 2] {
    let body = [
        ([9.0, 27.0, 4.0], 3.6),
        ([8.5, 12.0, 13.0], 4.4),
        ([10.0, -10.0, 18.0], 4.2),
        ([17.0, -30.0, 14.0], 5.6),
        ([23.0, -50.0, 7.0], 2.6),
    ];
    let horn = [([18.0, -30.0, 12.0], 4.5), ([30.0, -24.0, -10.0], 2.4), ([31.0, -4.0, -16.0], 1.6)];
    let sized = |nodes: &[(Point, f32)]| Tube::new(nodes.iter().map(|(at, r)| (*at, r * size)).collect());
    [sized(&body), sized(&horn)]
}

/// From the midbrain to the spinal cord.
fn brain_stem() -> Tube {
    Tube::new(vec![([0.0, -20.0, -12.0], 12.0), ([0.0, -26.0, -34.0], 14.0), ([0.0, -36.0, -110.0], 9.0)])
}

/// Middle cerebral arteries and the sagittal sinus.
fn main_vessels() -> impl Iterator<Item = Tube> {
    let artery = |side: f32| {
        vec![
            ([3.0 * side, 12.0, -20.0], 2.0),
            ([24.0 * side, 14.0, -16.0], 1.8),
            ([40.0 * side, 6.0, -6.0], 1.5),
            ([50.0 * side, -14.0, 10.0], 1.1),
        ]
    };
    let sinus = vec![
        ([0.0, 74.0, 30.0], 1.5),
        ([0.0, 36.0, 62.0], 2.4),
        ([0.0, -34.0, 62.0], 3.0),
        ([0.0, -78.0, 24.0], 3.6),
        ([0.0, -84.0, -8.0], 4.0),
    ];
    [artery(-1.0), artery(1.0), sinus].into_iter().map(Tube::new)
}

/// A vein that winds over the cortex.
fn surface_vessel(rng: &mut ChaCha8Rng) -> Tube {
    let mut at = direction(rng);
    at[2] = at[2].abs();
    let along = direction(rng).map(|v| 0.22 * v);
    let radius = rng.random_range(0.8..1.9);
    let nodes = (0..4)
        .map(|_| {
            let wiggle = direction(rng);
            at = std::array::from_fn(|i| at[i] + along[i] + 0.06 * wiggle[i]);
            let size = length(at).max(1e-3);
            at = at.map(|v| v / size);
            ([at[0] * 64.0, at[1] * 81.0, 6.0 + at[2] * 57.0], radius)
        })
        .collect();
    Tube::new(nodes)
}

/// A small spot of changed white matter.
fn white_spot(rng: &mut ChaCha8Rng) -> (Point, f32) {
    let side = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
    let centre =
        [side * rng.random_range(14.0..38.0), rng.random_range(-50.0..45.0), rng.random_range(8.0..38.0)];
    (centre, rng.random_range(1.5..4.5))
}

/// A fluid-filled cyst at the surface, or a wide space around a vessel in the deep grey matter.
fn cyst(rng: &mut ChaCha8Rng) -> (Point, Point) {
    if rng.random_bool(0.5) {
        let at = direction(rng);
        let radii = std::array::from_fn(|_| rng.random_range(4.0..11.0));
        ([at[0] * 60.0, at[1] * 76.0, 6.0 + at[2] * 48.0], radii)
    } else {
        let side = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
        let centre = [
            side * rng.random_range(16.0..32.0),
            rng.random_range(-18.0..20.0),
            rng.random_range(-8.0..14.0),
        ];
        (centre, std::array::from_fn(|_| rng.random_range(1.8..4.0)))
    }
}

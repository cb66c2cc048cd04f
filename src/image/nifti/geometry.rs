//! Where a NIfTI header says that the voxels lie.
//!
//! The rule: the sform where `sform_code` is above 0, else the qform where `qform_code` is above 0, else only the
//! spacing. The last case follows nibabel (and ANALYZE before it): the world's origin is the centre of the
//! volume and x runs from right to left. Numbers in metres or micrometres (`xyzt_units`) become millimetres. The quaternion follows `nifti1.h`; one that is longer than 1 is scaled to
//! length 1 with a warning, as the NIfTI C library does.

use std::path::Path;

use super::header::DAMAGED;
use super::layout::{Field, Fields, Version};
use crate::image::Doubt;
use crate::image::volume::Grid;
use crate::{Error, Result};

type Affine = [[f64; 4]; 3];

/// What one of the three ways to state the geometry gives.
type Stated = std::result::Result<Affine, Fault>;

/// A field and what is wrong with it.
struct Fault {
    field: String,
    problem: String,
}

/// The affine of a header, in millimetres, RAS+. Doubts that do not make the file unreadable go to `warnings`.
pub(super) fn affine(
    fields: &Fields,
    shape: [usize; 3],
    dimensions: usize,
    path: &Path,
    warnings: &mut Vec<Doubt>,
) -> Result<Affine> {
    let invalid = |fault: Fault, mend: &str| Error::invalid(path, fault.field, fault.problem, mend);
    for (field, name) in [(Field::SformCode, "sform_code"), (Field::QformCode, "qform_code")] {
        let code = fields.integer(field, 0);
        if !(0..=5).contains(&code) {
            let problem = format!("is {code}; NIfTI knows 0 to 5");
            return Err(Error::invalid(path, name, problem, DAMAGED));
        }
    }
    let has_sform = fields.integer(Field::SformCode, 0) > 0;
    let has_qform = fields.integer(Field::QformCode, 0) > 0;
    let unit = Unit::of(fields);
    let mut doubts = Vec::new();
    let affine = if has_sform {
        let affine = sform(fields)
            .map_err(|fault| invalid(fault, "set the sform, or sform_code 0 if the qform is right"))?;
        compare(fields, (&affine, unit), shape, has_qform, dimensions, warnings);
        affine
    } else if has_qform {
        qform(fields, dimensions, &mut doubts)
            .map_err(|fault| invalid(fault, "set the qform, or a right sform with sform_code 1"))?
    } else {
        doubts.push(
            "neither sform nor qform is set: only the spacing is known, left and right are a convention"
                .into(),
        );
        base(fields, shape, dimensions).map_err(|fault| invalid(fault, "set pixdim to the voxel spacing"))?
    };
    warnings.append(&mut doubts);
    if let Some(degrees) = shear(&affine) {
        warnings.push(
            format!("the affine is sheared: two of its axes are {degrees:.2} degrees from a right angle")
                .into(),
        );
    }
    unit.convert(affine, path, warnings)
}

/// The unit of length that `xyzt_units` states. All numbers of the header that are lengths are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Metre,
    /// Also where nothing is stated, as most programs that write NIfTI mean it.
    Millimetre,
    Micrometre,
    /// A code that NIfTI does not know.
    Unknown(i64),
}

/// No voxel of a scan is that large, in millimetres: then the unit is not true.
const IMPLAUSIBLE: f64 = 50.0;

impl Unit {
    fn of(fields: &Fields) -> Self {
        match fields.integer(Field::XyztUnits, 0) & SPATIAL {
            1 => Self::Metre,
            0 | 2 => Self::Millimetre,
            3 => Self::Micrometre,
            code => Self::Unknown(code),
        }
    }

    fn millimetres(self) -> f64 {
        match self {
            Self::Metre => 1e3,
            Self::Millimetre | Self::Unknown(_) => 1.0,
            Self::Micrometre => 1e-3,
        }
    }

    /// An affine in millimetres, as ITK reads it. What the unit did to the voxels is told, since a false one is
    /// the likelier the fewer programs look at it.
    fn convert(self, mut affine: Affine, path: &Path, warnings: &mut Vec<Doubt>) -> Result<Affine> {
        const FIX: &str = "set xyzt_units to 2 (millimetres) where the numbers are millimetres; in Python \
                           `image.header.set_xyzt_units(\"mm\")`";
        let name = match self {
            Self::Millimetre => return Ok(affine),
            Self::Unknown(code) => {
                let what =
                    format!("xyzt_units is {code}, which NIfTI does not know; the numbers are taken as mm");
                warnings.push(Doubt { what, fix: FIX.to_owned() });
                return Ok(affine);
            }
            Self::Metre => "metres",
            Self::Micrometre => "micrometres",
        };
        affine.iter_mut().flatten().for_each(|length| *length *= self.millimetres());
        let spacing = Grid { shape: [1; 3], affine }.spacing();
        let shown = spacing.map(|length| format!("{}", (length * 1e6).round() / 1e6)).join(" x ");
        if spacing.into_iter().fold(f64::INFINITY, f64::min) >= IMPLAUSIBLE {
            let problem = format!("says {name}, which makes the voxels {shown} mm large");
            return Err(Error::invalid(path, "xyzt_units", problem, FIX));
        }
        warnings.push(Doubt {
            what: format!(
                "xyzt_units says {name}: the numbers became mm, and the voxels are {shown} mm large"
            ),
            fix: format!("nothing must be done where that is their size; else {FIX}"),
        });
        Ok(affine)
    }
}

/// The bits of `xyzt_units` that are the unit of length; others are that of time.
pub(super) const SPATIAL: i64 = 7;

/// Rows of the matrix, as stored.
fn sform(fields: &Fields) -> Stated {
    let affine: Affine =
        std::array::from_fn(|row| std::array::from_fn(|column| fields.real(Field::Srow, 4 * row + column)));
    check(affine, "srow_x, srow_y, srow_z")
}

/// Rotation from the quaternion, spacing from `pixdim`, position from `qoffset`.
fn qform(fields: &Fields, dimensions: usize, doubts: &mut Vec<Doubt>) -> Stated {
    let imaginary = fields.triple(Field::Quatern, 0);
    if imaginary.iter().any(|value| !value.is_finite()) {
        return Err(fault("quatern_b, quatern_c, quatern_d", format!("are {imaginary:?}")));
    }
    let square: f64 = imaginary.iter().map(|value| value * value).sum();
    // The square of the real part is what is missing to 1; below the header's precision it is zero.
    let precision = 3.0
        * match fields.version {
            Version::Nifti1 => f64::from(f32::EPSILON),
            Version::Nifti2 => f64::EPSILON,
        };
    let real = if (1.0 - square).abs() < precision { 0.0 } else { (1.0 - square).max(0.0).sqrt() };
    if square >= 1.0 + precision {
        let length = square.sqrt();
        doubts.push(
            format!("the quaternion (quatern_b, c, d) has length {length:.6} instead of at most 1; it is scaled to 1")
                .into(),
        );
    }
    let rotation = rotation([real, imaginary[0], imaginary[1], imaginary[2]]);
    let mut spacing = spacing(fields, dimensions)?;
    let handedness = fields.real(Field::Pixdim, 0);
    if handedness == -1.0 {
        spacing[2] = -spacing[2];
    } else if handedness < 0.0 || !handedness.is_finite() {
        return Err(fault("pixdim[0]", format!("is {handedness}, but it must be 1 or -1")));
    } else if handedness != 1.0 && handedness != 0.0 {
        doubts.push(format!("pixdim[0] is {handedness} instead of 1 or -1; it is taken as 1").into());
    }
    let offset = fields.triple(Field::Qoffset, 0);
    let affine = std::array::from_fn(|row| {
        let [x, y, z] = rotation[row];
        [x * spacing[0], y * spacing[1], z * spacing[2], offset[row]]
    });
    check(affine, "qoffset_x, qoffset_y, qoffset_z")
}

/// Spacing alone: x to the left, origin in the centre.
fn base(fields: &Fields, shape: [usize; 3], dimensions: usize) -> Stated {
    let mut spacing = spacing(fields, dimensions)?;
    for value in spacing.iter_mut().skip(dimensions) {
        *value = 1.0;
    }
    spacing[0] = -spacing[0];
    let mut affine = [[0.0; 4]; 3];
    for axis in 0..3 {
        affine[axis][axis] = spacing[axis];
        affine[axis][3] = -(shape[axis] as f64 - 1.0) / 2.0 * spacing[axis];
    }
    check(affine, "pixdim[1..=3]")
}

/// `pixdim[1..=3]`, positive; axes that the image does not have count as 1 mm where nothing useful is stored.
fn spacing(fields: &Fields, dimensions: usize) -> std::result::Result<[f64; 3], Fault> {
    let mut spacing = fields.triple(Field::Pixdim, 1);
    for (axis, value) in spacing.iter_mut().enumerate() {
        let positive = value.is_finite() && *value > 0.0;
        if !positive && axis < dimensions {
            return Err(fault(
                &format!("pixdim[{}]", axis + 1),
                format!("is {value}, but a spacing is above 0"),
            ));
        } else if !positive {
            *value = 1.0;
        }
    }
    Ok(spacing)
}

/// The rotation matrix of a quaternion (real part first) of any length but zero.
fn rotation([w, x, y, z]: [f64; 4]) -> [[f64; 3]; 3] {
    let s = 2.0 / (w * w + x * x + y * y + z * z);
    [
        [1.0 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
        [s * (x * y + w * z), 1.0 - s * (x * x + z * z), s * (y * z - w * x)],
        [s * (x * z - w * y), s * (y * z + w * x), 1.0 - s * (x * x + y * y)],
    ]
}

/// The quaternion's imaginary parts and the handedness (`pixdim[0]`) of an affine without shear.
pub(super) fn quaternion(affine: &Affine) -> ([f64; 3], f64) {
    let spacing = Grid { shape: [1; 3], affine: *affine }.spacing();
    let mut r: [[f64; 3]; 3] =
        std::array::from_fn(|row| std::array::from_fn(|axis| affine[row][axis] / spacing[axis]));
    let handedness = determinant(&r).signum();
    for row in &mut r {
        row[2] *= handedness;
    }
    // The largest of the four components is found first, so that nothing is divided by a small number.
    let trace = r[0][0] + r[1][1] + r[2][2];
    let mut q = [0.0; 4];
    if trace > 0.0 {
        q[0] = (1.0 + trace).sqrt() / 2.0;
        q[1] = (r[2][1] - r[1][2]) / (4.0 * q[0]);
        q[2] = (r[0][2] - r[2][0]) / (4.0 * q[0]);
        q[3] = (r[1][0] - r[0][1]) / (4.0 * q[0]);
    } else {
        let i = (0..3).max_by(|a, b| r[*a][*a].total_cmp(&r[*b][*b])).unwrap_or(0);
        let (j, k) = ((i + 1) % 3, (i + 2) % 3);
        q[1 + i] = (1.0 + r[i][i] - r[j][j] - r[k][k]).max(0.0).sqrt() / 2.0;
        q[0] = (r[k][j] - r[j][k]) / (4.0 * q[1 + i]);
        q[1 + j] = (r[j][i] + r[i][j]) / (4.0 * q[1 + i]);
        q[1 + k] = (r[k][i] + r[i][k]) / (4.0 * q[1 + i]);
    }
    // NIfTI stores no real part and takes it as not negative.
    let sign = if q[0] < 0.0 { -1.0 } else { 1.0 };
    ([sign * q[1], sign * q[2], sign * q[3]], handedness)
}

/// Degrees by which the worst pair of axes misses a right angle, where that is more than rounding.
pub(super) fn shear(affine: &Affine) -> Option<f64> {
    let spacing = Grid { shape: [1; 3], affine: *affine }.spacing();
    let cosine = |a: usize, b: usize| {
        affine.iter().map(|row| row[a] * row[b]).sum::<f64>() / (spacing[a] * spacing[b])
    };
    let worst = [cosine(0, 1), cosine(0, 2), cosine(1, 2)].into_iter().fold(0.0, |m: f64, c| m.max(c.abs()));
    (worst > 1e-3).then(|| worst.min(1.0).asin().to_degrees())
}

/// Warns where the qform or the spacing contradicts the sform that is used.
fn compare(
    fields: &Fields,
    (affine, unit): (&Affine, Unit),
    shape: [usize; 3],
    has_qform: bool,
    dimensions: usize,
    warnings: &mut Vec<Doubt>,
) {
    /// Two statements of one header agree up to this share of a voxel: a quaternion rounds more than a matrix.
    const ROUNDING: f64 = 0.01;
    let used = Grid { shape, affine: *affine };
    let spacing = used.spacing();
    if has_qform {
        match qform(fields, dimensions, &mut Vec::new()) {
            Ok(other) => {
                let other = Grid { shape, affine: other };
                if used.voxels_apart(&other).is_some_and(|voxels| voxels > ROUNDING) {
                    let distance = unit.millimetres() * used.displacement(&other).unwrap_or(0.0);
                    warnings.push(
                        format!("qform and sform disagree by {distance:.3} mm; the sform is used").into(),
                    );
                }
            }
            Err(fault) => {
                let what =
                    format!("the qform is not valid ({} {}); the sform is used", fault.field, fault.problem);
                warnings.push(what.into());
            }
        }
    }
    let stored = fields.triple(Field::Pixdim, 1);
    let differs = |axis: &usize| {
        let ratio = stored[*axis] / spacing[*axis];
        !(0.99..=1.01).contains(&ratio)
    };
    if (0..dimensions.min(3)).any(|axis| differs(&axis)) {
        let millimetres = |lengths: [f64; 3]| lengths.map(|length| unit.millimetres() * length);
        let (stored, spacing) = (millimetres(stored), millimetres(spacing));
        let what = format!("pixdim says {stored:?} mm, the sform {spacing:.4?} mm; the sform is used");
        warnings.push(what.into());
    }
}

/// An affine that can be inverted.
fn check(affine: Affine, field: &str) -> Stated {
    if affine.iter().flatten().any(|value| !value.is_finite()) {
        return Err(fault(field, format!("hold numbers that are not finite: {affine:?}")));
    }
    let spacing = Grid { shape: [1; 3], affine }.spacing();
    let axes = std::array::from_fn(|row| std::array::from_fn(|axis| affine[row][axis] / spacing[axis]));
    let volume = determinant(&axes);
    if volume.is_nan() || volume.abs() < 1e-6 {
        return Err(fault(field, format!("do not span a volume: {affine:?}")));
    }
    Ok(affine)
}

fn determinant(m: &[[f64; 3]; 3]) -> f64 {
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
}

fn fault(field: &str, problem: String) -> Fault {
    Fault { field: field.to_owned(), problem }
}

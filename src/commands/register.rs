//! Brings one scan onto another and writes what carries voxels and points between them.

use std::path::{Path, PathBuf};

use ndarray::{Array3, Array4, ArrayView3, Axis};
use serde::Serialize;

use crate::files::{Existing, Outputs};
use crate::image::register::{
    Affine, AffineOptions, Aligned, Frame, Images, Map, Transform, VelocityOptions, affine, deform_watched,
};
use crate::image::volume::{Fit, Grid, Image, Labels, Orientation};
use crate::image::{Header, image_content, labels_content, read_image, read_labels, vectors_content};
use crate::progress::Progress;
use crate::{Error, Result};

/// How far the moving scan may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Turned and shifted: scans of one patient.
    Rigid,
    /// Also stretched and sheared.
    Affine,
    /// Also deformed, smoothly and so that it can be undone.
    Deformable,
}

impl std::str::FromStr for Registration {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        match name {
            "rigid" => Ok(Self::Rigid),
            "affine" => Ok(Self::Affine),
            "deformable" => Ok(Self::Deformable),
            _ => Err("choose rigid, affine or deformable".to_owned()),
        }
    }
}

/// What is registered, and where the results go.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The scan that is changed.
    pub moving: &'a Path,
    /// The scan that it is brought onto.
    pub fixed: &'a Path,
    /// Labels of the moving scan that are carried along.
    pub labels: Option<&'a Path>,
    /// How far the moving scan may be changed.
    pub registration: Registration,
    /// Folder for the results.
    pub folder: &'a Path,
    /// What becomes of files that are there already.
    pub existing: Existing,
}

/// What was written and how well the scans fit.
#[derive(Clone, Debug, Serialize)]
pub struct Registered {
    /// The files, the moving scan on the fixed scan's grid first.
    pub files: Vec<PathBuf>,
    /// Correlation of the two scans after the affine part, from -1 to 1.
    pub correlation: f64,
    /// The affine that was found was not believed; the boxes' centres were put on each other.
    pub refused: bool,
    /// Of a deformation.
    pub deformation: Option<Deformation>,
}

/// How a deformation went.
#[derive(Clone, Debug, Serialize)]
pub struct Deformation {
    /// Mean local squared correlation on the finest level before it and after it, from 0 to 1.
    pub local_correlation: [f64; 2],
    /// The smallest determinant of its derivative.
    pub smallest_jacobian: f64,
    /// The share of voxels where it folds.
    pub folded: f64,
    /// The mean distance in mm between a point and where the map and its inverse take it.
    pub inverse_error: f64,
}

const IMAGE: &str = "registered.nii.gz";
const LABELS: &str = "labels.nii.gz";
const AFFINE: &str = "affine.tfm";
const FORWARD: &str = "displacement.nii.gz";
const BACKWARD: &str = "inverse_displacement.nii.gz";
const JACOBIAN: &str = "jacobian.nii.gz";

/// More voxels than this are not registered one by one: a smooth deformation does not need them.
const VOXELS: usize = 1 << 24;

/// A scan along the nearest RAS+ axes, and the way back to its own.
struct Scan {
    header: Header,
    grid: Grid,
    orientation: Orientation,
    /// Along RAS+ axes.
    voxels: Array3<f32>,
    /// From points of its box to world millimetres.
    to_world: Affine,
    frame: Frame,
}

impl Scan {
    fn read(path: &Path) -> Result<Self> {
        let (image, header) = read_image(path)?;
        if let Some((at, value)) = image.voxels.indexed_iter().find(|(_, value)| !value.is_finite()) {
            let problem = format!("is {value}, and nothing can be compared with that");
            let mend = "replace voxels that are not finite, for example by 0, and register again";
            return Err(Error::invalid(path, format!("voxel {at:?}"), problem, mend));
        }
        let orientation = image.grid.orientation();
        let oriented = image.grid.oriented(&orientation);
        let to_world = Affine::to_world(&oriented);
        if to_world.inverse().is_none() {
            let problem = "the axes lie in one plane".to_owned();
            return Err(Error::invalid(path, "affine", problem, "export the scan again"));
        }
        let voxels = orientation.apply(image.voxels.view()).as_standard_layout().into_owned();
        Ok(Self { header, grid: image.grid, orientation, voxels, to_world, frame: Frame::of(&oriented) })
    }

    fn images(&self) -> Images {
        Images { channels: self.voxels.clone().insert_axis(Axis(0)), spacing: self.frame.spacing }
            .at_most(VOXELS)
    }

    /// A volume along RAS+ axes, as the scan's own file would hold it.
    fn own<T: Clone>(&self, voxels: ArrayView3<'_, T>) -> Array3<T> {
        self.orientation.undo(voxels).to_owned()
    }
}

/// Registers and writes; see [`Request`]. The files are `registered.nii.gz` and with labels `labels.nii.gz`, both on the
/// fixed scan's grid with its header; `affine.tfm`, an ITK transform from fixed to moving points; and of a deformation
/// `displacement.nii.gz` (the whole map, the affine included, on the fixed grid), `inverse_displacement.nii.gz` (its
/// inverse on the moving grid), both in LPS millimetres as ITK takes them, and `jacobian.nii.gz`.
///
/// # Errors
/// Scans that cannot be read, hold several volumes or voxels that are not finite; labels that do not lie on the moving
/// scan; results that would replace something else; the system's.
pub fn run(request: &Request<'_>, progress: &dyn Progress) -> Result<Registered> {
    let deformable = request.registration == Registration::Deformable;
    let mut names = vec![IMAGE, AFFINE];
    names.extend(request.labels.map(|_| LABELS));
    names.extend(deformable.then_some([FORWARD, BACKWARD, JACOBIAN]).into_iter().flatten());
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let inputs: Vec<PathBuf> = [Some(request.moving), Some(request.fixed), request.labels]
        .into_iter()
        .flatten()
        .map(Path::to_owned)
        .collect();
    let outputs = Outputs::claim("register", request.folder, &names, &inputs, request.existing)?;
    let (moving, fixed) = (Scan::read(request.moving)?, Scan::read(request.fixed)?);
    let labels = request.labels.map(|path| read_labels_of(path, &moving)).transpose()?;
    let (images, onto) = (moving.images(), fixed.images());
    for (path, scan, images) in [(request.moving, &moving, &images), (request.fixed, &fixed, &onto)] {
        if images.frame() != scan.frame {
            let [x, y, z] = images.frame().shape;
            progress
                .note(&format!("`{}` is registered on {x} x {y} x {z} voxels, for its size", path.display()));
        }
    }
    let aligned = align(&onto, &images, &fixed, &moving, request.registration, progress);
    if aligned.refused {
        progress.note(
            "the affine that fits best stretches or shrinks more than twofold; the centres of the boxes were put on \
             each other instead: see whether the two scans show the same",
        );
    }
    let start = Map::affine(fixed.frame, moving.frame, aligned.affine);
    let (map, deformation) = match deformable {
        false => (start, None),
        true => {
            let (map, deformation) = bend(&onto, &images, &aligned, progress);
            (Map { fixed: fixed.frame, moving: moving.frame, ..map }, Some(deformation))
        }
    };
    let writer = Writer { outputs: &outputs, fixed: &fixed, moving: &moving, map: &map };
    let mut registered = Registered {
        files: Vec::new(),
        correlation: aligned.similarity,
        refused: aligned.refused,
        deformation,
    };
    progress.begin("writing results", names.len() as u64);
    for name in &names {
        registered.files.push(writer.write(
            name,
            &aligned.affine,
            labels.as_ref(),
            &mut registered.deformation,
        )?);
        progress.advance(1);
    }
    progress.end();
    Ok(registered)
}

/// Labels along the moving scan's RAS+ axes.
fn read_labels_of(path: &Path, moving: &Scan) -> Result<Array3<u8>> {
    let (labels, _) = read_labels(path)?;
    let fit = labels.grid.fit(&moving.grid);
    if fit > Fit::Near {
        let problem = match fit {
            Fit::Off => "lies beside the moving scan by a part of a voxel".to_owned(),
            _ => format!("{:?} voxels do not lie where those of the moving scan do", labels.grid.shape),
        };
        let mend = "give labels that were drawn on the moving scan, or bring them onto its grid first";
        return Err(Error::invalid(path, "grid", problem, mend));
    }
    Ok(moving.orientation.apply(labels.voxels.view()).to_owned())
}

fn align(
    onto: &Images,
    images: &Images,
    fixed: &Scan,
    moving: &Scan,
    registration: Registration,
    progress: &dyn Progress,
) -> Aligned {
    progress.begin("aligning", 1);
    // What the headers say of where the scans lie.
    let headers = moving.to_world.inverse().map(|from_world| fixed.to_world.then(&from_world));
    let transform = match registration {
        Registration::Rigid => Transform::Rigid,
        Registration::Affine | Registration::Deformable => Transform::Affine,
    };
    let options = AffineOptions { transform, starts: headers.into_iter().collect() };
    let aligned = affine(onto, images, &options);
    progress.advance(1);
    progress.end();
    aligned
}

fn bend(onto: &Images, images: &Images, aligned: &Aligned, progress: &dyn Progress) -> (Map, Deformation) {
    let options = VelocityOptions::default();
    progress.begin("deforming", options.parts(onto.frame()));
    let found = deform_watched(onto, images, &aligned.affine, &options, &mut |parts| progress.advance(parts));
    progress.end();
    if found.folded > 0.0 {
        progress.note(&format!("the deformation folds at {:.2} % of the voxels", 100.0 * found.folded));
    }
    let deformation = Deformation {
        local_correlation: [found.before, found.similarity.last().copied().unwrap_or_default()],
        smallest_jacobian: found.smallest_jacobian,
        folded: found.folded,
        inverse_error: 0.0,
    };
    (found.map, deformation)
}

/// What is needed to write any of the files.
struct Writer<'a> {
    outputs: &'a Outputs,
    fixed: &'a Scan,
    moving: &'a Scan,
    map: &'a Map,
}

impl Writer<'_> {
    fn write(
        &self,
        name: &str,
        affine: &Affine,
        labels: Option<&Array3<u8>>,
        deformation: &mut Option<Deformation>,
    ) -> Result<PathBuf> {
        let (path, fixed) = (self.outputs.path(name), self.fixed);
        match name {
            IMAGE => self.image(name, self.map.image(self.moving.voxels.view(), Some(0.0))),
            JACOBIAN => {
                // The box's axes to the world's: directions of unit length whose angles are the scan's.
                let turn = self.moving.to_world.determinant() / fixed.to_world.determinant();
                self.image(name, self.map.jacobian().mapv(|value| (f64::from(value) * turn) as f32))
            }
            LABELS => {
                let voxels = labels.map(|labels| fixed.own(self.map.classes(labels.view()).view()));
                let voxels = voxels.unwrap_or_else(|| Array3::zeros(fixed.grid.shape));
                let labels = Labels::new(voxels, fixed.grid.clone());
                let content = labels_content(&path, &labels, Some(&fixed.header))?;
                self.outputs.write(name, None, content)
            }
            FORWARD => self.field(name, self.map, fixed, self.moving),
            BACKWARD => {
                let back = self.map.inverse().ok_or_else(|| Error::Internal {
                    what: "inverting a map whose affine was believed".to_owned(),
                })?;
                if let Some(deformation) = deformation {
                    deformation.inverse_error = self.map.round_trip(&back);
                }
                self.field(name, &back, self.moving, fixed)
            }
            _ => {
                let text = itk_transform(&self.world(affine), fixed.to_world.shift);
                self.outputs.write(name, None, crate::files::bytes_of(text.as_bytes()))
            }
        }
    }

    fn image(&self, name: &str, voxels: Array3<f32>) -> Result<PathBuf> {
        let image = Image::new(self.fixed.own(voxels.view()), self.fixed.grid.clone());
        let path = self.outputs.path(name);
        let content = image_content(&path, &image, Some(&self.fixed.header))?;
        self.outputs.write(name, None, content)
    }

    /// The affine from fixed to moving world millimetres.
    fn world(&self, affine: &Affine) -> Affine {
        let from_world = self.fixed.to_world.inverse().unwrap_or(Affine::IDENTITY);
        from_world.then(affine).then(&self.moving.to_world)
    }

    /// The displacement of every voxel of `at` to where `map` takes it in the world of `to`.
    fn field(&self, name: &str, map: &Map, at: &Scan, to: &Scan) -> Result<PathBuf> {
        let points = map.points();
        let [nx, ny, nz] = at.frame.shape;
        let mut components = Array4::<f32>::zeros((3, nx, ny, nz));
        for x in 0..nx {
            for y in 0..ny {
                for z in 0..nz {
                    let there = to.to_world.apply([0, 1, 2].map(|axis| points[[axis, x, y, z]]));
                    let here = at.to_world.apply(at.frame.point([x as f64, y as f64, z as f64]));
                    for axis in 0..3 {
                        // ITK's world runs to the left and to the back.
                        let sign = if axis < 2 { -1.0 } else { 1.0 };
                        components[[axis, x, y, z]] = (sign * (there[axis] - here[axis])) as f32;
                    }
                }
            }
        }
        let own = [0, 1, 2].map(|axis| at.own(components.index_axis(Axis(0), axis)));
        let [x, y, z] = at.grid.shape;
        let vectors = Array4::from_shape_fn((x, y, z, 3), |(x, y, z, axis)| own[axis][[x, y, z]]);
        let path = self.outputs.path(name);
        let content = vectors_content(&path, &vectors, &at.grid, &at.header)?;
        self.outputs.write(name, None, content)
    }
}

/// An affine of RAS+ points as ITK's text file, in LPS, about `centre` (RAS+).
fn itk_transform(affine: &Affine, centre: [f64; 3]) -> String {
    const TO_LPS: [f64; 3] = [-1.0, -1.0, 1.0];
    let matrix = |row: usize, column: usize| TO_LPS[row] * affine.matrix[row][column] * TO_LPS[column];
    let there = affine.apply(centre);
    let mut numbers: Vec<String> = (0..9).map(|at| matrix(at / 3, at % 3).to_string()).collect();
    numbers.extend((0..3).map(|axis| (TO_LPS[axis] * (there[axis] - centre[axis])).to_string()));
    let centre: Vec<String> = (0..3).map(|axis| (TO_LPS[axis] * centre[axis]).to_string()).collect();
    format!(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\nParameters: {}\n\
         FixedParameters: {}\n",
        numbers.join(" "),
        centre.join(" ")
    )
}

//! Twenty-two different faults for a data set in nnU-Net v2 layout, each in a file of its own.
//!
//! Used by the tests of `segen check` and by `examples/plant_faults.rs` (`tests/plant_faults.sh`).

use std::fs;
use std::path::{Path, PathBuf};

use segen::data::check::Kind;
use segen::image::nifti;
use segen::image::volume::{Image, Labels, Volume};
use serde_json::{Value, json};

/// What was done, and what `check` has to say to it.
#[derive(Debug)]
pub(crate) struct Planted {
    /// In words.
    pub(crate) what: &'static str,
    /// The sort of fault.
    pub(crate) kind: Kind,
    /// The file that must be named.
    pub(crate) file: PathBuf,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The training cases of a data set of which each fault takes one.
struct Garden {
    folder: PathBuf,
    ending: String,
    cases: Vec<String>,
    next: usize,
    planted: Vec<Planted>,
}

/// Plants twenty-two faults into `folder`, which must have at least 25 training cases, at least two
/// classes, one orientation, and neither regions nor folds of its own.
pub(crate) fn plant(folder: &Path) -> Outcome<Vec<Planted>> {
    let description: Value = serde_json::from_str(&fs::read_to_string(folder.join("dataset.json"))?)?;
    let ending = description["file_ending"].as_str().ok_or("no file_ending")?.to_owned();
    let suffix = format!("_0000{ending}");
    let mut cases: Vec<String> = fs::read_dir(folder.join("imagesTr"))?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(&suffix)?.to_owned()))
        .collect();
    cases.sort();
    let mut garden = Garden { folder: folder.to_owned(), ending, cases, next: 0, planted: Vec::new() };
    garden.geometry()?;
    garden.labels()?;
    garden.images()?;
    garden.masks()?;
    garden.names()?;
    garden.words(description)?;
    Ok(garden.planted)
}

impl Garden {
    /// The next case that no fault has yet.
    fn case(&mut self) -> Outcome<String> {
        self.next += 1;
        Ok(self.cases.get(self.next - 1).ok_or("too few cases")?.clone())
    }

    fn image(&self, case: &str) -> PathBuf {
        self.folder.join(format!("imagesTr/{case}_0000{}", self.ending))
    }

    fn label(&self, case: &str) -> PathBuf {
        self.folder.join(format!("labelsTr/{case}{}", self.ending))
    }

    fn expect(&mut self, what: &'static str, kind: Kind, file: &Path) {
        let file = file.strip_prefix(&self.folder).unwrap_or(file).to_owned();
        self.planted.push(Planted { what, kind, file });
    }

    fn change_image(&self, case: &str, change: impl Fn(&mut Image)) -> Outcome<PathBuf> {
        let path = self.image(case);
        let (mut image, _) = nifti::read_image(&path)?;
        change(&mut image);
        nifti::write_image(&path, &image, None)?;
        Ok(path)
    }

    fn change_labels(&self, case: &str, change: impl Fn(&mut Labels)) -> Outcome<PathBuf> {
        let path = self.label(case);
        let (mut labels, _) = nifti::read_labels(&path)?;
        change(&mut labels);
        nifti::write_labels(&path, &labels, None)?;
        Ok(path)
    }

    fn geometry(&mut self) -> Outcome<()> {
        let case = self.case()?;
        let file = self.change_labels(&case, |labels| labels.grid.affine[1][3] += 3.0)?;
        self.expect("labels shifted by 3 mm", Kind::Geometry, &file);

        let case = self.case()?;
        let file = self.change_labels(&case, |labels| {
            let kept = labels.voxels.slice(ndarray::s![.., .., 1..]).to_owned();
            labels.grid.shape[2] -= 1;
            *labels = Volume::new(kept, labels.grid.clone());
        })?;
        self.expect("labels of another shape", Kind::Shape, &file);

        // Image and labels alike run to the left instead of to the right.
        let case = self.case()?;
        self.change_image(&case, |image| image.grid = turned(&image.grid))?;
        self.change_labels(&case, |labels| labels.grid = turned(&labels.grid))?;
        self.expect("a case whose axes run differently", Kind::Orientation, &self.folder.join("imagesTr"));

        let case = self.case()?;
        let coarse = |affine: &mut [[f64; 4]; 3]| affine.iter_mut().for_each(|row| row[2] *= 10.0);
        let file = self.change_image(&case, |image| coarse(&mut image.grid.affine))?;
        self.change_labels(&case, |labels| coarse(&mut labels.grid.affine))?;
        self.expect("voxels ten times as thick", Kind::Spacing, &file);
        Ok(())
    }

    fn labels(&mut self) -> Outcome<()> {
        let case = self.case()?;
        let file = self.change_labels(&case, |labels| labels.voxels[[1, 2, 3]] = 77)?;
        self.expect("a label value that nobody declared", Kind::LabelValue, &file);

        let case = self.case()?;
        let file = self.label(&case);
        let (labels, _) = nifti::read_labels(&file)?;
        let halves = labels.voxels.mapv(|value| f32::from(value) / 2.0);
        nifti::write_image(&file, &Volume::new(halves, labels.grid), None)?;
        self.expect("labels that are not whole numbers", Kind::Fraction, &file);

        let case = self.case()?;
        let file = self.change_labels(&case, |labels| labels.voxels.fill(0))?;
        self.expect("labels without foreground", Kind::Empty, &file);

        let case = self.case()?;
        let file = self.label(&case);
        fs::remove_file(&file)?;
        self.expect("a missing label file", Kind::Missing, &file);

        let case = self.case()?;
        let file = self.label(&case);
        let other = self.folder.join(format!("labelsTr/{case}.nii"));
        let (labels, header) = nifti::read_labels(&file)?;
        fs::remove_file(&file)?;
        nifti::write_labels(&other, &labels, Some(&header))?;
        self.expect("labels with another ending", Kind::Ending, &other);
        Ok(())
    }

    fn images(&mut self) -> Outcome<()> {
        let case = self.case()?;
        let file = self.change_image(&case, |image| image.voxels[[2, 1, 0]] = f32::NAN)?;
        self.expect("a voxel that is NaN", Kind::NotFinite, &file);

        let case = self.case()?;
        let file = self.change_image(&case, |image| image.voxels.fill(5.0))?;
        self.expect("an image of one value", Kind::Constant, &file);

        let case = self.case()?;
        let file = self.image(&case);
        let bytes = fs::read(&file)?;
        fs::write(&file, &bytes[..bytes.len() * 2 / 3])?;
        self.expect("a truncated image", Kind::Unreadable, &file);

        let (original, copy) = (self.case()?, self.case()?);
        for (from, to) in
            [(self.image(&original), self.image(&copy)), (self.label(&original), self.label(&copy))]
        {
            fs::copy(from, to)?;
        }
        self.expect("one scan under two names", Kind::Duplicate, &self.image(&copy));
        Ok(())
    }

    fn masks(&mut self) -> Outcome<()> {
        fs::create_dir_all(self.folder.join("masksTr"))?;
        for (what, kind, inside) in [
            ("a mask without voxels", Kind::EmptyMask, 0),
            ("a mask that leaves out the foreground", Kind::OutsideMask, 1),
        ] {
            let case = self.case()?;
            let (mut mask, header) = nifti::read_labels(&self.label(&case))?;
            mask.voxels.mapv_inplace(|value| if value == 0 { inside } else { 0 });
            let file = self.folder.join(format!("masksTr/{case}{}", self.ending));
            nifti::write_labels(&file, &mask, Some(&header))?;
            self.expect(what, kind, &file);
        }
        Ok(())
    }

    fn names(&mut self) -> Outcome<()> {
        let file = self.folder.join("imagesTr/notes.txt");
        fs::write(&file, "Kept here by mistake.")?;
        self.expect("a file that is no image", Kind::Extra, &file);

        // A second visit of a patient: a scan of its own under a name that continues another.
        let (patient, other) = (self.case()?, self.case()?);
        let second = format!("{patient}_visit2");
        fs::rename(self.image(&other), self.image(&second))?;
        fs::rename(self.label(&other), self.label(&second))?;
        self.expect("two visits of one patient in different folds", Kind::Patient, &self.splits());
        let names: Vec<&String> = self.cases.iter().filter(|case| **case != other).chain([&second]).collect();
        let (held_out, trained): (Vec<&String>, Vec<&String>) =
            names.into_iter().partition(|case| **case == second);
        let mut trained: Vec<String> = trained.into_iter().cloned().collect();
        trained.push("nobody".to_owned());
        fs::write(self.splits(), json!([{"train": trained, "val": held_out}]).to_string())?;
        self.expect("a fold that names an unknown case", Kind::Splits, &self.splits());
        Ok(())
    }

    fn splits(&self) -> PathBuf {
        self.folder.join("splits_final.json")
    }

    fn words(&mut self, mut description: Value) -> Outcome<()> {
        let file = self.folder.join("dataset.json");
        description["numTraining"] = json!(self.cases.len() + 1);
        self.expect("a wrong number of cases", Kind::Count, &file);
        let labels = description["labels"].as_object().ok_or("no labels")?;
        let mut renamed = serde_json::Map::new();
        for (name, value) in labels {
            let name = match value.as_u64() {
                Some(1) => "left part",
                Some(2) => "right part",
                _ => name.as_str(),
            };
            renamed.insert(name.to_owned(), value.clone());
        }
        self.expect("a left and a right class", Kind::Sides, &file);
        renamed.insert("unicorn".to_owned(), json!(labels.len()));
        self.expect("a class that no case has", Kind::Absent, &file);
        renamed.insert("left part again".to_owned(), json!(1));
        self.expect("two names for one label value", Kind::Description, &file);
        description["labels"] = Value::Object(renamed);
        fs::write(&file, description.to_string())?;
        Ok(())
    }
}

/// The same voxels with the first axis said to run the other way.
fn turned(grid: &segen::image::volume::Grid) -> segen::image::volume::Grid {
    let mut turned = grid.clone();
    for row in &mut turned.affine {
        row[0] = -row[0];
    }
    turned
}

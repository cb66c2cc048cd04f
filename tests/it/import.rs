//! Tests of `segen::data::import`.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Array3;
use segen::config::FoldChoice;
use segen::data::check::{Kind, Severity, check};
use segen::data::dataset::Dataset;
use segen::data::import::{Found, Layout, Options, Part, recognise, write};
use segen::image::nifti;
use segen::image::volume::{Grid, Image, Labels, Volume};
use segen::progress::Silent;
use serde_json::{Value, json};

use crate::support;

/// A download in a temporary folder, and the data set that is made of it.
struct Download(tempfile::TempDir);

impl Download {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("source")).unwrap();
        Self(folder)
    }

    fn source(&self) -> PathBuf {
        self.0.path().join("source")
    }

    fn target(&self) -> PathBuf {
        self.0.path().join("Dataset900_Imported")
    }

    fn image(&self, path: &str, seed: usize) {
        let path = self.place(path);
        nifti::write_image(&path, &image(seed), None).unwrap();
    }

    fn labels(&self, path: &str, values: &[u8]) {
        let path = self.place(path);
        nifti::write_labels(&path, &labels(values), None).unwrap();
    }

    fn text(&self, path: &str, text: &str) {
        fs::write(self.place(path), text).unwrap();
    }

    fn place(&self, path: &str) -> PathBuf {
        let path = self.source().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn recognise(&self) -> segen::Result<Found> {
        recognise(&self.source(), &Options::default(), &Silent)
    }

    /// Imports everything; the result must be sound but for warnings.
    fn import(&self) -> (Found, Dataset) {
        let found = self.recognise().unwrap();
        write(&found, &self.target(), &Silent).unwrap();
        let report = check(&self.target(), &Silent).unwrap();
        assert_eq!(report.count(Severity::Error), 0, "{report}");
        (found, Dataset::open(&self.target()).unwrap())
    }

    /// What recognising says where it must fail.
    fn refusal(&self) -> String {
        self.recognise().expect_err("must be refused").to_string()
    }

    fn description(&self) -> Value {
        serde_json::from_slice(&fs::read(self.target().join("dataset.json")).unwrap()).unwrap()
    }
}

fn grid() -> Grid {
    let mut grid = Grid::with_spacing([6, 5, 4], [1.0, 1.25, 2.5]);
    grid.affine[0][0] = -1.0;
    grid.affine[1][3] = -17.5;
    grid
}

fn image(seed: usize) -> Image {
    let value = |(x, y, z)| ((x * 31 + y * 17 + z * 7 + seed * 101) % 97) as f32 - 20.5;
    Volume::new(Array3::from_shape_fn((6, 5, 4), value), grid())
}

/// Every value at least once, the rest background.
fn labels(values: &[u8]) -> Labels {
    let value = |(x, y, z): (usize, usize, usize)| {
        if y == 2 && z == 1 { values.get(x).copied().unwrap_or(0) } else { 0 }
    };
    Volume::new(Array3::from_shape_fn((6, 5, 4), value), grid())
}

fn read(path: &Path) -> Labels {
    nifti::read_labels(path).unwrap().0
}

fn ids(dataset: &Dataset, part: Part) -> Vec<&str> {
    let cases = if part == Part::Training { &dataset.training } else { &dataset.test };
    cases.iter().map(|case| case.id.as_str()).collect()
}

#[test]
fn decathlon_images_are_split_into_channels() {
    let download = Download::new();
    download.text(
        "dataset.json",
        &json!({
            "name": "BRATS", "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd"},
            "labels": {"0": "background", "1": "edema", "2": "tumour"}, "numTraining": 2,
            "training": [
                {"image": "./imagesTr/B_001.nii.gz", "label": "./labelsTr/B_001.nii.gz"},
                {"image": "./imagesTr/B_002.nii.gz", "label": "./labelsTr/B_002.nii.gz"},
            ],
            "test": ["./imagesTs/B_003.nii.gz", "./imagesTs/B_004.nii.gz"],
        })
        .to_string(),
    );
    let value = |seed: usize| move |index: usize| ((index * 7 + seed * 1000) % 3001) as i16 - 1500;
    for (number, folder) in [(1, "imagesTr"), (2, "imagesTr"), (3, "imagesTs")] {
        // Not compressed in spite of the name: content decides.
        fs::write(
            download.place(&format!("{folder}/B_00{number}.nii.gz")),
            support::four_dimensional(&grid(), 3, value(number)),
        )
        .unwrap();
        download.labels(&format!("labelsTr/B_00{number}.nii.gz"), &[0, 1, 2]);
    }
    fs::remove_file(download.place("labelsTr/B_003.nii.gz")).unwrap();
    // The folder is a data set as it is, with one fault.
    let report = check(&download.source(), &Silent).unwrap();
    assert_eq!(report.faults.len(), 1, "{report}");
    assert_eq!(
        (report.faults[0].kind, &*report.faults[0].file),
        (Kind::Missing, Path::new("imagesTs/B_004.nii.gz"))
    );
    let (found, dataset) = download.import();
    assert_eq!(found.layout, Layout::Decathlon);
    assert!(found.notes[0].contains("1 test images are listed but not there"), "{:?}", found.notes);
    assert_eq!(ids(&dataset, Part::Training), ["B_001", "B_002"]);
    assert_eq!(ids(&dataset, Part::Test), ["B_003"]);
    assert_eq!(dataset.channels, ["FLAIR", "T1w", "t1gd"]);
    for (channel, path) in dataset.case("B_002").unwrap().images.iter().enumerate() {
        let (image, header) = nifti::read_image(path).unwrap();
        assert_eq!(header.dims(), [6, 5, 4]);
        assert_eq!(image.grid, grid());
        // x runs fastest in the file.
        for ((x, y, z), voxel) in image.voxels.indexed_iter() {
            assert_eq!(*voxel, f32::from(value(2)(x + 6 * (y + 5 * (z + 4 * channel)))));
        }
    }
}

#[test]
fn an_nnunet_data_set_needs_no_import() {
    let download = Download::new();
    let description =
        json!({"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii"});
    download.text("dataset.json", &description.to_string());
    assert!(download.refusal().contains("is an nnU-Net v2 data set already"));
}

fn brats(download: &Download, id: &str, endings: [&str; 4], labels: Option<(&str, &[u8])>) {
    for (number, ending) in endings.into_iter().enumerate() {
        download.image(&format!("{id}/{id}{ending}.nii.gz"), number + 4 * id.len());
    }
    if let Some((ending, values)) = labels {
        download.labels(&format!("{id}/{id}{ending}.nii.gz"), values);
    }
}

const OLD: [&str; 4] = ["_t1", "_t1ce", "_t2", "_flair"];
const NEW: [&str; 4] = ["-t1n", "-t1c", "-t2w", "-t2f"];

#[test]
fn brats_labels_are_renumbered_to_nested_regions() {
    let download = Download::new();
    brats(&download, "BraTS2021_00000", OLD, Some(("_seg", &[0, 1, 2, 4])));
    brats(&download, "BraTS2021_000021", OLD, Some(("_seg", &[0, 4, 4])));
    brats(&download, "BraTS2021_0000003", OLD, None);
    let (found, dataset) = download.import();
    assert_eq!(found.layout, Layout::Brats2017);
    assert_eq!(ids(&dataset, Part::Test), ["BraTS2021_0000003"]);
    assert_eq!(dataset.channels, ["T1", "T1ce", "T2", "Flair"]);
    let case = dataset.case("BraTS2021_00000").unwrap();
    assert_eq!(read(case.labels.as_ref().unwrap()), labels(&[0, 2, 1, 3]));
    // Images are the same bytes.
    let flair = download.source().join("BraTS2021_00000/BraTS2021_00000_flair.nii.gz");
    assert_eq!(fs::read(&case.images[3]).unwrap(), fs::read(flair).unwrap());
    assert_eq!(
        dataset.labels.names,
        ["background", "edema", "necrotic and non-enhancing tumor", "enhancing tumor"]
    );
    let regions: Vec<_> = dataset.labels.regions.iter().map(|region| region.values.clone()).collect();
    assert_eq!(regions, [vec![1, 2, 3], vec![2, 3], vec![3]]);
    assert_eq!(dataset.labels.regions_class_order, Some(vec![1, 2, 3]));
    assert_eq!(download.description()["numTraining"], 2);
    let table = found.to_string();
    assert!(table.contains("1 becomes 2, 2 becomes 1, 4 becomes 3"), "{table}");
}

#[test]
fn brats_of_later_years_is_told_from_the_earlier_by_its_names() {
    let download = Download::new();
    brats(&download, "BraTS-GLI-00002-000", NEW, Some(("-seg", &[0, 1, 2, 3])));
    brats(&download, "BraTS-GLI-0000003-000", NEW, Some(("-seg", &[0, 3])));
    let (found, dataset) = download.import();
    assert_eq!(found.layout, Layout::Brats2023);
    let case = dataset.case("BraTS-GLI-00002-000").unwrap();
    assert_eq!(read(case.labels.as_ref().unwrap()), labels(&[0, 2, 1, 3]));
    fs::remove_dir_all(download.target()).unwrap();
    // With a resection cavity the values keep their meaning and are ordinary classes.
    brats(&download, "BraTS-GLI-004-100", NEW, Some(("-seg", &[0, 1, 2, 3, 4])));
    let (_, dataset) = download.import();
    assert_eq!(dataset.labels.names[4], "resection cavity");
    let case = dataset.case("BraTS-GLI-00002-000").unwrap();
    assert_eq!(read(case.labels.as_ref().unwrap()), labels(&[0, 1, 2, 3]));
    // Another task with 4 means something else.
    brats(&download, "BraTS-PED-00005-000", NEW, Some(("-seg", &[0, 1])));
    assert!(download.refusal().contains("whose meaning is known for post-treatment glioma"));
}

#[test]
fn what_does_not_fit_brats_is_named() {
    let download = Download::new();
    brats(&download, "BraTS20_Training_001", OLD, Some(("_seg", &[0, 1, 3])));
    let message = download.refusal();
    assert!(
        message.contains("BraTS20_Training_001_seg.nii.gz") && message.contains("has the value 3"),
        "{message}"
    );
    download.labels("BraTS20_Training_001/BraTS20_Training_001_seg.nii.gz", &[0, 1]);
    fs::remove_file(download.source().join("BraTS20_Training_001/BraTS20_Training_001_t2.nii.gz")).unwrap();
    let message = download.refusal();
    assert!(message.contains("BraTS20_Training_001_t2.nii.gz is missing"), "{message}");
    // The one file of BraTS 2020 that kept a foreign name.
    download.image("BraTS20_Training_001/BraTS20_Training_001_t2.nii.gz", 9);
    let folder = download.source().join("BraTS20_Training_001");
    fs::rename(folder.join("BraTS20_Training_001_seg.nii.gz"), folder.join("W39_1998.09.19_Segm.nii.gz"))
        .unwrap();
    let (found, _) = download.import();
    assert!(found.notes[0].contains("W39_1998.09.19_Segm.nii.gz"), "{:?}", found.notes);
}

#[test]
fn kits_of_all_years_is_read() {
    let download = Download::new();
    for number in 0..3 {
        download.image(&format!("data/case_0000{number}/imaging.nii.gz"), number);
    }
    download.labels("data/case_00000/segmentation.nii.gz", &[0, 1, 2]);
    download.labels("data/case_00001/segmentation.nii.gz", &[0, 1]);
    let (found, dataset) = download.import();
    assert_eq!(found.layout, Layout::Kits);
    assert_eq!(ids(&dataset, Part::Training), ["case_00000", "case_00001"]);
    assert_eq!(ids(&dataset, Part::Test), ["case_00002"]);
    assert_eq!(dataset.channels, ["CT"]);
    assert_eq!(dataset.labels.names, ["background", "kidney", "tumor"]);
    fs::remove_dir_all(download.target()).unwrap();
    // 2021: the majority of the annotators, and cysts.
    download.labels("data/case_00002/aggregated_MAJ_seg.nii.gz", &[0, 1, 2, 3]);
    let (_, dataset) = download.import();
    assert_eq!(dataset.training.len(), 3);
    assert_eq!(dataset.labels.names, ["background", "kidney tissue", "tumor", "cyst"]);
    assert_eq!(dataset.labels.regions_class_order, Some(vec![1, 3, 2]));
    fs::remove_file(download.source().join("data/case_00001/imaging.nii.gz")).unwrap();
    assert!(download.refusal().contains("case `case_00001`: imaging.nii.gz is missing"));
}

#[test]
fn atlas_sessions_are_cases() {
    let download = Download::new();
    let scan = |subject: &str, kind: &str| {
        format!("Training/R001/{subject}/ses-1/anat/{subject}_ses-1_space-MNI152NLin2009aSym_{kind}.nii.gz")
    };
    download.image(&scan("sub-r001s001", "T1w"), 1);
    download.labels(&scan("sub-r001s001", "label-L_desc-T1lesion_mask"), &[0, 1, 1]);
    download.image(&scan("sub-r001s002", "T1w"), 2);
    download.text("Training/metadata.csv", "subject,chronicity");
    let (found, dataset) = download.import();
    assert_eq!(found.layout, Layout::Atlas);
    assert_eq!(ids(&dataset, Part::Training), ["sub-r001s001_ses-1"]);
    assert_eq!(ids(&dataset, Part::Test), ["sub-r001s002_ses-1"]);
    let mask = download.source().join(scan("sub-r001s001", "label-L_desc-T1lesion_mask"));
    let copied = dataset.training[0].labels.as_ref().unwrap();
    assert_eq!(fs::read(copied).unwrap(), fs::read(mask).unwrap());
    fs::remove_file(download.source().join(scan("sub-r001s001", "T1w"))).unwrap();
    assert!(download.refusal().contains("case `sub-r001s001_ses-1`: the T1w image is missing"));
}

#[test]
fn several_lesion_masks_of_a_scan_are_united() {
    let download = Download::new();
    let scan = |kind: &str| format!("Site1/031768/t01/031768_{kind}_stx.nii.gz");
    download.image(&scan("t1w_deface"), 1);
    // Interpolated masks from 0 to 255: the contour is where half of the highest value is passed.
    download.labels(&scan("LesionSmooth"), &[0, 255, 127, 128]);
    download.labels(&scan("LesionSmooth_1"), &[0, 0, 0, 0, 9, 4]);
    let (found, dataset) = download.import();
    assert_eq!(found.cases[0].labels.as_ref().unwrap().files.len(), 2);
    assert_eq!(ids(&dataset, Part::Training), ["031768_t01"]);
    assert_eq!(read(dataset.training[0].labels.as_ref().unwrap()), labels(&[0, 1, 0, 1, 1, 0]));
    fs::remove_dir_all(download.target()).unwrap();
    // Masks that lie in different places cannot be united; nothing is left behind.
    let mut moved = labels(&[1]);
    moved.grid.affine[0][3] += 1.0;
    nifti::write_labels(&download.place(&scan("LesionSmooth_2")), &moved, None).unwrap();
    let found = download.recognise().unwrap();
    let message = write(&found, &download.target(), &Silent).unwrap_err().to_string();
    assert!(message.contains("lies elsewhere"), "{message}");
    let left: Vec<_> =
        fs::read_dir(download.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["source"]);
}

/// DeepMedic's way: two channels, labels and masks of three training cases and one validation case, one test case.
fn deepmedic() -> Download {
    let download = Download::new();
    for case in 0..5 {
        for (number, channel) in ["Flair", "T1c"].into_iter().enumerate() {
            download.image(&format!("data/pat{case}/{channel}.nii.gz"), 10 * case + number);
        }
        download.labels(&format!("data/pat{case}/OT.nii.gz"), &[0, 1, 2]);
        nifti::write_labels(&download.place(&format!("data/pat{case}/mask.nii.gz")), &labels(&[1; 6]), None)
            .unwrap();
    }
    for (folder, start, cases) in
        [("train", "train", &[0, 1, 2][..]), ("train/validation", "validation", &[3]), ("test", "test", &[4])]
    {
        let up = "../".repeat(2 + folder.matches('/').count());
        let list = |file: &str| -> String {
            let lines = cases.iter().map(|case| format!("{up}data/pat{case}/{file}.nii.gz"));
            format!("# one line per case\n\n{}\n", lines.collect::<Vec<_>>().join("\n"))
        };
        let write = |name: &str, file: &str| {
            download.text(&format!("config/{folder}/{start}{name}.cfg"), &list(file))
        };
        write("Channels_flair", "Flair");
        write("Channels_t1c", "T1c");
        write("GtLabels", "OT");
        write("RoiMasks", "mask");
    }
    download.text(
        "config/train/trainConfig.cfg",
        "sessionName = \"s\"\nchannelsTraining = [\"./trainChannels_flair.cfg\",\n   './trainChannels_t1c.cfg']\n\
         gtLabelsTraining = \"./trainGtLabels.cfg\" # required\nroiMasksTraining = \"./trainRoiMasks.cfg\"\n\
         epsilonRms = 10**(-4)\nlosses = {\"xentr\": 1.0, \"iou\": None}\n\
         channelsValidation = [\"validation/validationChannels_flair.cfg\", \"validation/validationChannels_t1c.cfg\"]\n\
         gtLabelsValidation = \"validation/validationGtLabels.cfg\"\n",
    );
    download.text(
        "config/test/testConfig.cfg",
        "channels = [\"./testChannels_flair.cfg\", \"./testChannels_t1c.cfg\"]\ngtLabels = \"./testGtLabels.cfg\"\n",
    );
    download
}

#[test]
fn deepmedic_configurations_are_followed_and_not_executed() {
    let download = deepmedic();
    let (found, dataset) = download.import();
    assert_eq!(found.layout, Layout::DeepMedic);
    assert_eq!(dataset.channels, ["flair", "t1c"]);
    assert_eq!(ids(&dataset, Part::Training), ["pat0", "pat1", "pat2", "pat3"]);
    assert_eq!(ids(&dataset, Part::Test), ["pat4"]);
    assert_eq!(dataset.labels.names, ["background", "class 1", "class 2"]);
    assert!(dataset.case("pat0").unwrap().mask.is_some() && dataset.case("pat3").unwrap().mask.is_none());
    assert!(dataset.case("pat4").unwrap().labels.is_some());
    let folds = dataset.folds().unwrap();
    assert_eq!(folds.len(), 1);
    assert_eq!(dataset.fold(FoldChoice::Number(0)).unwrap().validation, ["pat3"]);
    // The file of the training by itself.
    let alone =
        recognise(&download.source().join("config/train/trainConfig.cfg"), &Options::default(), &Silent)
            .unwrap();
    assert_eq!((alone.count(Part::Training), alone.count(Part::Test)), (4, 0));
    // A case that is in both lists stays where it came first.
    let both = "../../../data/pat3/Flair.nii.gz\n../../../data/pat0/Flair.nii.gz\n";
    download.text("config/train/validation/validationChannels_flair.cfg", both);
    download.text("config/train/validation/validationChannels_t1c.cfg", &both.replace("Flair", "T1c"));
    download.text("config/train/validation/validationGtLabels.cfg", &both.replace("Flair", "OT"));
    let found = download.recognise().unwrap();
    assert_eq!((found.count(Part::Training), found.splits.len()), (4, 0));
    assert!(found.notes[0].contains("pat0 is listed twice"), "{:?}", found.notes);
    // Something that would have to be executed.
    download.text("config/test/testConfig.cfg", "import os\nchannels = [os.environ['X']]\n");
    let message = download.refusal();
    assert!(message.contains("line 2, channels: uses `os`"), "{message}");
}

#[test]
fn deepmedic_lists_are_recognised_by_their_names() {
    let download = deepmedic();
    for file in ["train/trainConfig.cfg", "test/testConfig.cfg"] {
        fs::remove_file(download.source().join("config").join(file)).unwrap();
    }
    let (found, dataset) = download.import();
    assert_eq!((dataset.training.len(), dataset.test.len(), found.splits.len()), (4, 1, 1));
    assert!(dataset.case("pat3").unwrap().mask.is_some());
}

#[test]
fn faults_of_deepmedic_lists_are_named_by_line() {
    let download = deepmedic();
    let list = "config/train/trainChannels_t1c.cfg";
    download.text(list, "../../data/pat0/T1c.nii.gz\n# a comment\n../../data/nobody/T1c.nii.gz\n");
    let message = download.refusal();
    assert!(
        message.contains("trainChannels_t1c.cfg`: line 3: there is no file `../../data/nobody"),
        "{message}"
    );
    download.text(list, "../../data/pat0/T1c.nii.gz\n");
    let message = download.refusal();
    assert!(message.contains("lists 1 files, but") && message.contains("lists 3"), "{message}");
    let pat = |number: usize| format!("../../data/pat{number}/T1c.nii.gz\n");
    download.text(list, &format!("{}-\n{}", pat(0), pat(2)));
    let message = download.refusal();
    assert!(message.contains("case `pat1`: has no file (`-`)"), "{message}");
    download.text(list, "\n");
    assert!(download.refusal().contains("the list is empty"));
}

#[test]
fn a_data_set_that_is_there_is_not_touched() {
    let download = deepmedic();
    fs::create_dir(download.target()).unwrap();
    let precious = download.target().join("precious.txt");
    fs::write(&precious, "mine").unwrap();
    let found = download.recognise().unwrap();
    let message = write(&found, &download.target(), &Silent).unwrap_err().to_string();
    assert!(message.contains("is there already"), "{message}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    // An empty folder may be filled.
    fs::remove_file(&precious).unwrap();
    write(&found, &download.target(), &Silent).unwrap();
    assert!(Dataset::open(&download.target()).is_ok());
}

#[test]
fn unknown_layouts_and_damaged_files_are_errors() {
    let download = Download::new();
    assert!(download.refusal().contains("there is no file"));
    download.image("scan1.nii.gz", 0);
    let message = download.refusal();
    assert!(
        message.contains("none of the 1 NIfTI files looks like one: scan1.nii.gz")
            && message.contains("--label-files WORD"),
        "{message}"
    );
    assert!(recognise(Path::new("/nowhere/at/all"), &Options::default(), &Silent).is_err());
    download.image("case_00000/imaging.nii.gz", 0);
    assert!(download.refusal().contains("none of the 1 cases is one with labels"));
    download.text("case_00000/segmentation.nii.gz", "no image at all");
    assert!(download.refusal().contains("segmentation.nii.gz"));
    let mut cropped = labels(&[0, 1, 2]);
    cropped.voxels = cropped.voxels.slice(ndarray::s![.., ..4, ..]).to_owned();
    cropped.grid.shape[1] = 4;
    nifti::write_labels(&download.place("case_00000/segmentation.nii.gz"), &cropped, None).unwrap();
    assert!(
        download
            .refusal()
            .contains("[6, 4, 4] voxels, but the first image of case `case_00000` has [6, 5, 4]")
    );
    download.labels("case_00000/segmentation.nii.gz", &[0, 1, 2]);
    fs::write(download.place("case_00000/imaging.nii.gz"), support::four_dimensional(&grid(), 2, |_| 1))
        .unwrap();
    assert!(download.refusal().contains("has 2 volume(s) where 1 should be"));
}

#[test]
fn plain_files_are_compressed_without_a_change() {
    let download = Download::new();
    download.image("case_00000/imaging.nii", 3);
    download.labels("case_00000/segmentation.nii", &[0, 1, 2]);
    let (_, dataset) = download.import();
    let (copied, _) = nifti::read_image(&dataset.training[0].images[0]).unwrap();
    assert_eq!(copied, image(3));
    let bytes = fs::read(&dataset.training[0].images[0]).unwrap();
    assert_eq!(bytes[..2], [0x1f, 0x8b]);
}

/// The three patients of BRATS 2013 that DeepMedic ships as an example.
#[test]
fn real_brats_2013_patients_are_imported_as_folders_and_through_lists() {
    let Some(original) = support::real("brats2013") else { return };
    let patients = ["brats_2013_pat0003_1", "brats_2013_pat0005_1", "brats_2013_pat0006_1"];
    let download = Download::new();
    for (list, file) in [
        ("trainChannels_flair", "Flair_subtrMeanDivStd"),
        ("trainChannels_t1c", "T1c_subtrMeanDivStd"),
        ("trainGtLabels", "OTMultiClass"),
        ("trainRoiMasks", "brainmask"),
    ] {
        let lines: Vec<String> = patients
            .iter()
            .map(|patient| original.join(patient).join(format!("{file}.nii.gz")).display().to_string())
            .collect();
        download.text(&format!("{list}.cfg"), &lines.join("\n"));
    }
    let (_, by_lists) = download.import();
    assert_eq!(ids(&by_lists, Part::Training), patients);
    assert_eq!(by_lists.channels, ["flair", "t1c"]);
    assert_eq!(by_lists.labels.classes(), 5);

    let target = tempfile::tempdir().unwrap();
    let found = recognise(&original, &Options::default(), &Silent).unwrap();
    assert_eq!(found.layout, Layout::Brats2013);
    write(&found, target.path(), &Silent).unwrap();
    let report = check(target.path(), &Silent).unwrap();
    assert!(report.faults.iter().all(|fault| fault.kind == Kind::OutsideMask), "{report}");
    let by_folder = Dataset::open(target.path()).unwrap();
    assert_eq!(by_folder.channels, ["T1c", "Flair"]);
    assert_eq!(by_folder.labels.names[3], "non-enhancing tumor");
    for (case, same) in by_folder.training.iter().zip(&by_lists.training) {
        let bytes = |path: &PathBuf| fs::read(path).unwrap();
        let source = |name: &str| bytes(&original.join(&case.id).join(name));
        assert_eq!(bytes(&case.images[1]), source("Flair_subtrMeanDivStd.nii.gz"));
        assert_eq!(bytes(&case.images[0]), bytes(&same.images[1]));
        assert_eq!(bytes(case.labels.as_ref().unwrap()), source("OTMultiClass.nii.gz"));
        assert_eq!(bytes(case.mask.as_ref().unwrap()), source("brainmask.nii.gz"));
    }
}

#[test]
fn masks_of_0_and_255_are_one_class() {
    let download = deepmedic();
    for case in 0..5 {
        download.labels(&format!("data/pat{case}/OT.nii.gz"), &[0, 255]);
    }
    let (found, dataset) = download.import();
    assert_eq!(dataset.labels.names, ["background", "class 1"]);
    assert!(found.notes.iter().any(|note| note.contains("255 becomes 1")), "{:?}", found.notes);
    let values: Vec<u8> = read(dataset.training[0].labels.as_ref().unwrap()).voxels.iter().copied().collect();
    assert!(values.contains(&1) && values.iter().all(|value| *value <= 1));
}

#[test]
fn an_image_in_the_place_of_labels_is_no_hundred_classes() {
    let download = deepmedic();
    let grid = Grid::with_spacing([16, 16, 1], [1.0; 3]);
    let every = Array3::from_shape_fn((16, 16, 1), |(x, y, _)| (16 * x + y) as u8);
    for case in 0..5 {
        for name in ["Flair", "T1c", "mask", "OT"] {
            let path = download.place(&format!("data/pat{case}/{name}.nii.gz"));
            let voxels = Volume::new(every.mapv(|value| value.max(1)), grid.clone());
            nifti::write_labels(&path, &voxels, None).unwrap();
        }
    }
    let message = download.recognise().unwrap_err().to_string();
    assert!(message.contains("255 different values") && message.contains("looks like an image"), "{message}");
}

#[test]
fn a_folder_around_each_file_is_looked_through() {
    let download = Download::new();
    brats(&download, "BraTS2021_00000", OLD, Some(("_seg", &[0, 1, 2, 4])));
    for ending in OLD.iter().chain(&["_seg"]) {
        let file = download.place(&format!("BraTS2021_00000/BraTS2021_00000{ending}.nii.gz"));
        let inside =
            download.place(&format!("BraTS2021_00000/BraTS2021_00000{ending}.nii/0057_brain.nii.gz"));
        fs::rename(file, inside).unwrap();
    }
    let (found, dataset) = download.import();
    assert_eq!((found.layout, dataset.training.len()), (Layout::Brats2017, 1));
    assert!(found.notes.iter().any(|note| note.contains("5 images lie in folders")), "{:?}", found.notes);
    // Two files in one folder are no file.
    download.image("BraTS2021_00000/BraTS2021_00000_t2.nii/another.nii.gz", 3);
    let message = download.recognise().unwrap_err().to_string();
    assert!(
        message.contains("`BraTS2021_00000_t2.nii` is a folder that does not hold one image alone"),
        "{message}"
    );
}

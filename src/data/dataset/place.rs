//! What the names of folders and files say: whether they hold scans or labels, and of which part of a set.
//!
//! Every word by which that is told stands here, once.

use std::path::{Component, Path};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// A channel of a scan.
    Image,
    /// A segmentation.
    Label,
}

/// The part of a set that a folder says it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Section {
    /// To be trained on.
    Training,
    /// To be held out while training.
    Validation,
    /// To be predicted.
    Test,
}

/// What separates the words of a name.
pub(crate) const SEPARATORS: [char; 4] = ['_', '-', '.', ' '];

/// Words for scans, in folders and at the ends of names.
const IMAGE_WORDS: [&str; 12] = [
    "image", "images", "img", "imgs", "scan", "scans", "volume", "volumes", "vol", "vols", "input", "inputs",
];
/// Words for segmentations.
const LABEL_WORDS: [&str; 41] = [
    "label",
    "labels",
    "lbl",
    "lbls",
    "mask",
    "masks",
    "msk",
    "msks",
    "seg",
    "segs",
    "segm",
    "segmentation",
    "segmentations",
    "dseg",
    "annotation",
    "annotations",
    "annot",
    "gt",
    "gts",
    "groundtruth",
    "groundtruths",
    "truth",
    "target",
    "targets",
    "lesion",
    "lesions",
    "tumor",
    "tumors",
    "tumour",
    "tumours",
    "roi",
    "rois",
    "contour",
    "contours",
    "delineation",
    "delineations",
    "manual",
    "reference",
    "references",
    "labelmap",
    "labelmaps",
];
/// Ends of words for segmentations that are written as one: `lesionmask`.
const LABEL_ENDS: [&str; 5] = ["mask", "masks", "segmentation", "segmentations", "annotation"];
/// Words for parts of a set.
const SECTIONS: [(&str, Section); 9] = [
    ("training", Section::Training),
    ("train", Section::Training),
    ("validation", Section::Validation),
    ("valid", Section::Validation),
    ("testing", Section::Test),
    ("test", Section::Test),
    ("val", Section::Validation),
    ("tr", Section::Training),
    ("ts", Section::Test),
];

/// The role that a word of a name tells, in any case of letters.
pub(crate) fn role(word: &str) -> Option<Role> {
    let word: String = word.chars().filter(|c| !SEPARATORS.contains(c)).collect::<String>().to_lowercase();
    if IMAGE_WORDS.contains(&word.as_str()) {
        return Some(Role::Image);
    }
    let label = LABEL_WORDS.contains(&word.as_str()) || LABEL_ENDS.iter().any(|end| word.ends_with(end));
    label.then_some(Role::Label)
}

/// Folders of regions of interest. The word alone is one for segmentations.
const MASK_FOLDERS: [&str; 2] = ["masksTr", "masksTs"];
/// Folders of label files beside which those are what they are called.
const LABEL_FOLDERS: [&str; 2] = ["labelsTr", "labelsTs"];

/// Whether a folder of this name holds regions of interest, where others hold label files ([`holds_labels`]).
pub(crate) fn holds_masks(folder: &str) -> bool {
    MASK_FOLDERS.iter().any(|name| name.eq_ignore_ascii_case(folder))
}

/// Whether a folder of this name holds label files in nnU-Net's layout.
pub(crate) fn holds_labels(folder: &str) -> bool {
    LABEL_FOLDERS.iter().any(|name| name.eq_ignore_ascii_case(folder))
}

/// What the name of a folder tells: `imagesTr`, `labels_test`, `masks`, `train`.
fn of_folder(name: &str) -> (Option<Role>, Option<Section>) {
    if let Some(role) = role(name) {
        return (Some(role), None);
    }
    let compact: String = name.chars().filter(|c| !SEPARATORS.contains(c)).collect::<String>().to_lowercase();
    for (word, section) in SECTIONS {
        if compact == word {
            return (None, Some(section));
        }
        let ends = [compact.strip_suffix(word), compact.strip_prefix(word).filter(|_| word.len() > 3)];
        if let Some(role) = ends.into_iter().flatten().find_map(role) {
            return (Some(role), Some(section));
        }
    }
    (None, None)
}

/// A path taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Folders without those that tell a role or a part of a set.
    pub(crate) folders: Vec<String>,
    /// Folders without those that tell a part of a set, with the role that each tells. A word for a part beside that for
    /// the role is left out: `imagesTr` is `images`.
    pub(crate) all: Vec<(String, Option<Role>)>,
    /// Name of the file, without its ending.
    pub(crate) name: String,
    /// What the innermost folder that tells a role tells.
    pub(crate) role: Option<Role>,
    /// What the innermost folder that tells a part tells.
    pub(crate) section: Option<Section>,
}

impl Place {
    /// Of the folders and the name, without ending, of a file.
    pub(crate) fn new(folders: &[String], name: &str) -> Self {
        let mut place =
            Self { folders: Vec::new(), all: Vec::new(), name: name.to_owned(), role: None, section: None };
        for folder in folders {
            let (role, section) = of_folder(folder);
            place.role = role.or(place.role);
            place.section = section.or(place.section);
            match (role, section) {
                (None, None) => {
                    place.folders.push(folder.clone());
                    place.all.push((folder.clone(), None));
                }
                (None, Some(_)) => {}
                (Some(_), None) => place.all.push((folder.clone(), role)),
                (Some(_), Some(_)) => place.all.push((without_section(folder), role)),
            }
        }
        place
    }
}

/// `imagesTr` without its `Tr`.
pub(crate) fn without_section(folder: &str) -> String {
    let lower = folder.to_lowercase();
    for (word, _) in SECTIONS {
        let rests = [
            lower.strip_suffix(word).and_then(|rest| folder.get(..rest.len())),
            lower.strip_prefix(word).and_then(|rest| folder.get(folder.len() - rest.len()..)),
        ];
        let rests = rests.into_iter().flatten().map(|rest| rest.trim_matches(SEPARATORS));
        if let Some(rest) = rests.into_iter().find(|rest| role(rest).is_some()) {
            return rest.to_owned();
        }
    }
    folder.to_owned()
}

/// The folders of a path, outermost first; bytes that are no UTF-8 are replaced.
pub(crate) fn folders(path: &Path) -> Vec<String> {
    let normal = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    };
    path.parent().map_or_else(Vec::new, |folder| folder.components().filter_map(normal).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_tell_a_role_and_a_part() {
        use Role::{Image, Label};
        use Section::{Test, Training, Validation};
        for (name, expected) in [
            ("imagesTr", (Some(Image), Some(Training))),
            ("labelsTs", (Some(Label), Some(Test))),
            ("Images", (Some(Image), None)),
            ("masks", (Some(Label), None)),
            ("lesion_mask", (Some(Label), None)),
            ("train_images", (Some(Image), Some(Training))),
            ("imgs-val", (Some(Image), Some(Validation))),
            ("test", (None, Some(Test))),
            ("tr", (None, Some(Training))),
            ("ground_truth", (Some(Label), None)),
            ("P0", (None, None)),
            ("t1", (None, None)),
            ("anat", (None, None)),
            ("derivatives", (None, None)),
        ] {
            assert_eq!(of_folder(name), expected, "{name}");
        }
        assert_eq!(without_section("imagesTr"), "images");
        assert_eq!(without_section("Train_Images"), "Images");
        assert_eq!(without_section("masks"), "masks");
    }

    #[test]
    fn a_path_is_taken_apart() {
        let folders = ["siteA", "train", "labelsTr"].map(str::to_owned);
        let place = Place::new(&folders, "p0");
        assert_eq!(place.folders, ["siteA"]);
        assert_eq!(place.all, [("siteA".to_owned(), None), ("labels".to_owned(), Some(Role::Label))]);
        assert_eq!((place.role, place.section), (Some(Role::Label), Some(Section::Training)));
    }
}

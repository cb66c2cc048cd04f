//! How raw files are called: which part of a path is the case.
//!
//! ```text
//! {case}/t1            P0/t1.nii.gz
//! {case}/{case}_t1     P0/P0_t1.nii.gz
//! {case}_T1w           sub-00_ses-1_T1w.nii.gz, whatever the folders
//! {folder}/{case}      siteA/p0.nii.gz is the case siteA_p0
//! masks/{case}         masks/p0.nii.gz
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::place::{Place, SEPARATORS, role, without_section};

/// A path without ending, compared from its end and without regard to capitals. `{case}` is the same text wherever
/// it stands, and at least once; `{folder}` is the name of any folder, and a part of the case's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    /// Folders, then the name.
    parts: Vec<Part>,
}

/// One folder, or the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(String),
    Folder,
    Case { before: String, after: String },
}

/// What a path says of its case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Captured {
    /// For every `{folder}`.
    pub(crate) folders: Vec<String>,
    /// For `{case}`.
    pub(crate) case: String,
}

/// How the files of a data set were called before it was imported: `pairing` in `dataset.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairing {
    /// The file of every channel, in channel order; one alone where it has all channels.
    pub images: Vec<Template>,
    /// The label files.
    pub labels: Template,
}

const CASE: &str = "{case}";
const FOLDER: &str = "{folder}";

impl Template {
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    /// What a file says of its case, by its last `folders` and its name; `None` where it is called otherwise.
    fn read(&self, folders: &[&str], name: &str) -> Option<Captured> {
        let (own_name, own_folders) = self.parts.split_last()?;
        let start = folders.len().checked_sub(own_folders.len())?;
        let parts = own_folders.iter().chain([own_name]);
        let mut captured = Captured { folders: Vec::new(), case: String::new() };
        for (part, text) in parts.zip(folders[start..].iter().copied().chain([name])) {
            match part {
                Part::Folder => captured.folders.push(text.to_owned()),
                Part::Literal(literal) if literal.eq_ignore_ascii_case(text) => {}
                Part::Literal(_) => return None,
                Part::Case { before, after } => {
                    let case = between(text, before, after)?;
                    if !captured.case.is_empty() && captured.case != case {
                        return None;
                    }
                    case.clone_into(&mut captured.case);
                }
            }
        }
        Some(captured)
    }

    /// What an image says of its case. Folders that tell that images are in them do not matter.
    pub(crate) fn of_image(&self, place: &Place) -> Option<Captured> {
        let folders: Vec<&str> = place.folders.iter().map(String::as_str).collect();
        self.read(&folders, &place.name)
    }

    /// What a label file says of its case.
    pub(crate) fn of_labels(&self, place: &Place) -> Option<Captured> {
        let folders: Vec<&str> = place.all.iter().map(|(name, _)| name.as_str()).collect();
        self.read(&folders, &place.name)
    }

    /// The path of a case's file, without ending.
    pub(crate) fn fill(&self, captured: &Captured) -> String {
        let mut folders = captured.folders.iter();
        let parts = self.parts.iter().map(|part| match part {
            Part::Literal(literal) => literal.clone(),
            Part::Folder => folders.next().map_or_else(|| FOLDER.to_owned(), Clone::clone),
            Part::Case { before, after } => format!("{before}{}{after}", captured.case),
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// What it says beside the case: `t1` for `{case}/t1`; empty for `{case}_image`.
    pub(crate) fn word(&self) -> String {
        let literals = self.parts.iter().flat_map(|part| match part {
            Part::Literal(text) => vec![text.as_str()],
            Part::Folder => vec![],
            Part::Case { before, after } => vec![before.as_str(), after.as_str()],
        });
        let mut words = Vec::new();
        for literal in literals.map(|text| text.trim_matches(SEPARATORS)).filter(|text| !text.is_empty()) {
            let mut rest = literal;
            // `t1_image` says no more than `t1`.
            while let Some((before, last)) = rest.rsplit_once(SEPARATORS) {
                if role(last) != Some(super::place::Role::Image) {
                    break;
                }
                rest = before;
            }
            if role(rest) != Some(super::place::Role::Image) {
                words.push(rest);
            }
        }
        words.join("_")
    }

    /// Whether it says nothing but where the case is.
    pub(crate) fn is_bare(&self) -> bool {
        let bare = |part: &Part| match part {
            Part::Literal(_) => false,
            Part::Folder => true,
            Part::Case { before, after } => before.is_empty() && after.is_empty(),
        };
        self.parts.iter().all(bare)
    }

    /// The same for names that differ in capitals alone.
    pub(crate) fn folded(&self) -> String {
        self.to_string().to_lowercase()
    }
}

/// What stands between two texts, whatever their capitals.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = text.split_at_checked(before.len()).filter(|(start, _)| start.eq_ignore_ascii_case(before))?.1;
    let end = rest.len().checked_sub(after.len())?;
    let (case, last) = rest.split_at_checked(end)?;
    (last.eq_ignore_ascii_case(after) && !case.is_empty()).then_some(case)
}

impl Captured {
    /// The name of the case.
    pub(crate) fn id(&self) -> String {
        let parts = self.folders.iter().chain([&self.case]).filter(|part| !part.is_empty());
        parts.map(String::as_str).collect::<Vec<_>>().join("_")
    }
}

impl Pairing {
    /// Whether a file is a label file.
    pub(crate) fn is_labels(&self, place: &Place) -> bool {
        self.labels.of_labels(place).is_some()
    }

    /// The channel and the case of a scan's file.
    pub(crate) fn channel(&self, place: &Place) -> Option<(usize, Captured)> {
        let mut fits: Vec<(usize, Captured)> = self
            .images
            .iter()
            .enumerate()
            .filter_map(|(channel, template)| Some((channel, template.of_image(place)?)))
            .collect();
        // The template that says most: `{case}_b_t1` before `{case}_t1`.
        fits.sort_by_key(|(_, captured)| captured.case.len());
        fits.into_iter().next()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, part) in self.parts.iter().enumerate() {
            if number > 0 {
                out.write_str("/")?;
            }
            match part {
                Part::Literal(text) => out.write_str(text)?,
                Part::Folder => out.write_str(FOLDER)?,
                Part::Case { before, after } => write!(out, "{before}{CASE}{after}")?,
            }
        }
        Ok(())
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.to_string()
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let part = |text: &str| match text.split_once(CASE) {
            _ if text == FOLDER => Ok(Part::Folder),
            Some((before, after)) if ![before, after].iter().any(|rest| rest.contains(['{', '}'])) => {
                Ok(Part::Case { before: before.to_owned(), after: after.to_owned() })
            }
            None if !text.is_empty() && !text.contains(['{', '}']) => {
                Ok(Part::Literal(without_section(text)))
            }
            _ => Err(format!("`{text}` is neither a name, `{FOLDER}`, nor a name with one `{CASE}`")),
        };
        let parts = text.split('/').map(part).collect::<Result<Vec<_>, _>>()?;
        match parts.iter().any(|part| matches!(part, Part::Case { .. })) {
            true => Ok(Self { parts }),
            false => Err(format!("`{text}` does not say where the case is; write `{CASE}` there")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        text.to_owned().try_into().unwrap()
    }

    fn case(text: &str, path: &str) -> Option<String> {
        let mut folders: Vec<String> = path.split('/').map(str::to_owned).collect();
        let name = folders.pop().unwrap();
        template(text).of_image(&Place::new(&folders, &name)).map(|captured| captured.id())
    }

    #[test]
    fn a_template_finds_the_case_of_a_path_and_the_path_of_a_case() {
        for (text, path, expected) in [
            ("{case}/t1", "data/P0/t1", Some("P0")),
            ("{case}/t1", "data/P0/T1", Some("P0")),
            ("{case}/t1", "data/P0/t1ce", None),
            ("{case}/t1", "t1", None),
            ("{case}/{case}_t1", "P0/P0_t1", Some("P0")),
            ("{case}/{case}_t1", "P0/P1_t1", None),
            ("{case}_T1w", "sub-1/anat/sub-1_T1w", Some("sub-1")),
            ("{case}", "imagesTs/p7", Some("p7")),
            ("{folder}/{case}", "siteA/images/p7", Some("siteA_p7")),
            ("volume-{case}", "Volume-3", Some("3")),
            ("volume-{case}", "volume-", None),
            ("flair/{case}", "images/flair/p0", Some("p0")),
        ] {
            assert_eq!(case(text, path).as_deref(), expected, "{text}, {path}");
        }
        let captured = Captured { folders: vec!["A".to_owned()], case: "p0".to_owned() };
        assert_eq!(template("{folder}/{case}/{case}_t1").fill(&captured), "A/p0/p0_t1");
        for (text, word) in [
            ("{case}/t1", "t1"),
            ("{case}_t1_image", "t1"),
            ("{case}_image", ""),
            ("volume-{case}", ""),
            ("flair/{case}", "flair"),
        ] {
            assert_eq!(template(text).word(), word, "{text}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["t1", "{case}{case}", "{case", "{patient}/t1", "", "{case}//t1", "a{folder}/{case}"] {
            assert!(Template::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(template("imagesTr/{case}_0000").to_string(), "images/{case}_0000");
    }

    #[test]
    fn label_files_are_told_by_their_folder_too() {
        let pairing = Pairing {
            images: vec![template("{case}"), template("{case}_b")],
            labels: template("masks/{case}"),
        };
        let place = |folder: &str, name: &str| Place::new(&[folder.to_owned()], name);
        assert!(pairing.is_labels(&place("masksTr", "p0")) && !pairing.is_labels(&place("images", "p0")));
        let (channel, captured) = pairing.channel(&place("x", "p0_b")).unwrap();
        assert_eq!((channel, captured.id().as_str()), (1, "p0"));
    }
}

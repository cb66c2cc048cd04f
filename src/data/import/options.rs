//! What a user decides about an import.

use std::str::FromStr;

use serde::Serialize;

use super::patients::GroupBy;

/// The decisions of `segen import`; the default decides nothing.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Reads the source as an ordinary folder, whatever public data set it looks like, with the case in this part of
    /// every path.
    pub case_from: Option<CaseFrom>,
    /// Which channels, in channel order; all when empty.
    pub channels: Vec<ChannelChoice>,
    /// What tells label files from scans: the name of their folder, or the end of their names.
    pub label_files: Option<String>,
    /// What label values become.
    pub values: Vec<ValueChoice>,
    /// Which cases are of one patient.
    pub group_by: Option<GroupBy>,
}

/// Which part of a path is the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseFrom {
    /// The beginning of a file's name: `images/p0.nii.gz`, `p0_t1.nii.gz`.
    Name,
    /// Its folder: `p0/t1.nii.gz`.
    Folder,
    /// Subject and session of a BIDS name: `sub-00_ses-1_T1w.nii.gz`.
    Bids,
}

/// A channel to take, by the word that its files have beside the case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelChoice {
    /// The word.
    pub word: String,
    /// What `dataset.json` calls it; the word itself where nothing else was asked for.
    pub name: String,
}

impl FromStr for ChannelChoice {
    type Err = String;

    /// `t1`, or `image=CT` to call it otherwise.
    fn from_str(text: &str) -> Result<Self, String> {
        let (word, name) = text.split_once('=').unwrap_or((text, text));
        let (word, name) = (word.trim(), name.trim());
        if word.is_empty() || name.is_empty() {
            return Err(
                "write the word of a channel, or WORD=NAME to call it otherwise, such as image=CT".into()
            );
        }
        Ok(Self { word: word.to_owned(), name: name.to_owned() })
    }
}

/// What one value of the label files becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueChoice {
    /// In the files.
    pub old: u8,
    /// In the data set.
    pub new: NewValue,
}

/// A label value by number or by the name of its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewValue {
    /// That value.
    Number(u8),
    /// The class of that name; classes are numbered in the order in which they are named. `background` is 0, and
    /// `ignore` marks voxels that are neither trained on nor scored.
    Name(String),
}

impl FromStr for ValueChoice {
    type Err = String;

    /// `255=1` or `255=lesion`.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "write VALUE=NUMBER or VALUE=NAME with values from 0 to 255, such as 255=1 or 255=lesion";
        let (old, new) = text.split_once('=').ok_or(FORM)?;
        let old = old.trim().parse().map_err(|_| FORM)?;
        let new = match (new.trim(), new.trim().parse()) {
            ("", _) => return Err(FORM.to_owned()),
            (_, Ok(number)) => NewValue::Number(number),
            (name, Err(_)) if name.parse::<f64>().is_ok() => return Err(FORM.to_owned()),
            (name, Err(_)) => NewValue::Name(name.to_owned()),
        };
        Ok(Self { old, new })
    }
}

impl Options {
    /// Whether something is decided that only ordinary folders leave open; the option, as it is typed.
    pub(super) fn of_ordinary_folders(&self) -> Option<&'static str> {
        let given = [
            (!self.channels.is_empty(), "--channels"),
            (self.label_files.is_some(), "--label-files"),
            (!self.values.is_empty(), "--label"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }
}

impl CaseFrom {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Folder => "folder",
            Self::Bids => "bids",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_from_text() {
        let value = |text: &str| text.parse::<ValueChoice>();
        assert_eq!(value("255=1").unwrap(), ValueChoice { old: 255, new: NewValue::Number(1) });
        assert_eq!(value("4 = lesion").unwrap().new, NewValue::Name("lesion".to_owned()));
        for bad in ["255", "256=1", "-1=1", "a=1", "1=", "1=300", "1=1.5"] {
            assert!(value(bad).is_err(), "{bad}");
        }
        let channel = |text: &str| text.parse::<ChannelChoice>().map(|choice| (choice.word, choice.name));
        assert_eq!(channel("t1").unwrap(), ("t1".to_owned(), "t1".to_owned()));
        assert_eq!(channel("image=CT").unwrap(), ("image".to_owned(), "CT".to_owned()));
        assert!(channel("").is_err() && channel("t1=").is_err());
    }
}

//! A scan: its voxels and where they lie.

pub mod components;
pub mod crf;
pub mod distance;
mod format;
pub mod gaussian;
pub mod nifti;
pub mod register;
pub mod resample;
pub(crate) mod vectorised;
pub mod volume;

pub use format::{
    Content, ENDING, ENDINGS, Format, Header, Shares, image_content, labels_content, read_channels,
    read_header, read_image, read_labels, shares_content, vectors_content, write_image, write_labels,
    write_place,
};
pub(crate) use format::{
    case_of_probability, channel_name, endings_in_words, entropy_name, image_stem, probability_name,
    readable_stem, single_stem, split_channel, stem,
};

/// Something doubtful about a file that can be read all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// A sentence for a person.
    pub what: String,
    /// What can be done about it.
    pub fix: String,
}

impl From<String> for Doubt {
    /// A doubt that needs no action.
    fn from(what: String) -> Self {
        Self { what, fix: "nothing must be done; export the file again to be rid of this warning".to_owned() }
    }
}

impl From<&str> for Doubt {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}

//! The one error type of the library.
//!
//! Every variant names the file or field, what is wrong with it and how to fix it, so that the command line
//! can print it unchanged. Shape mistakes between our own modules are bugs and panic; anything that a file or
//! a user can cause is an [`Error`].

use std::path::{Path, PathBuf};

/// What every fallible function of the library returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Anything that a file or a user can cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("could not {action} `{}`: {source}", path.display())]
    Io {
        /// What was being done: "read", "write", "create", "rename", ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A file is there but what it says cannot be used.
    #[error("`{}`: {field}: {problem}\nhint: {mend}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The field, voxel position or part of the file.
        field: String,
        /// What is wrong with it, with the value found.
        problem: String,
        /// What the user can do about it.
        mend: String,
    },
    /// A setting, from a file or the command line, cannot be used.
    #[error("{field}: {problem}\nhint: {mend}")]
    Config {
        /// The setting, as `section.key`.
        field: String,
        /// What is wrong with it, with the value found.
        problem: String,
        /// What the user can do about it.
        mend: String,
    },
    /// Training produced a number that is not finite.
    #[error("training diverged at step {step}: {what}\nhint: {mend}")]
    Diverged {
        /// The step, counted from 0.
        step: u64,
        /// Which loss, layer and cases.
        what: String,
        /// What the user can do about it.
        mend: String,
    },
    /// Something that cannot be the user's fault.
    #[error(
        "internal error while {what}\nhint: this is a bug; please report it with the command and this line"
    )]
    Internal {
        /// What was being done, and what went wrong.
        what: String,
    },
    /// The user asked to stop, and the work has ended where it can go on.
    #[error("stopped {at}")]
    Stopped {
        /// Where, and what is kept: "at step 120 of 1000; a checkpoint is written".
        at: String,
    },
}

impl Error {
    /// An [`Error::Io`] for `path`; `action` completes "could not ...".
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source }
    }

    /// An [`Error::Invalid`] for a field of a file.
    pub fn invalid(
        path: impl AsRef<Path>,
        field: impl Into<String>,
        problem: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            path: path.as_ref().to_owned(),
            field: field.into(),
            problem: problem.into(),
            mend: mend.into(),
        }
    }

    /// An [`Error::Stopped`]; `at` completes "stopped ...".
    pub fn stopped(at: impl Into<String>) -> Self {
        Self::Stopped { at: at.into() }
    }

    /// An [`Error::Config`] for a setting.
    pub fn config(field: impl Into<String>, problem: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::Config { field: field.into(), problem: problem.into(), mend: mend.into() }
    }
}

//! When two paths lead to one file, and whether an output is among what a command reads.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use super::outputs::{MANIFEST, entries};

/// What makes two paths lead to one file: device and number where the system tells them, else the real path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    #[cfg(unix)]
    number: (u64, u64),
    #[cfg(not(unix))]
    path: PathBuf,
}

impl Identity {
    /// `None` where there is nothing.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Self::read(path, &path.metadata().ok()?)
    }

    #[cfg(unix)]
    fn read(_: &Path, metadata: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        Some(Self { number: (metadata.dev(), metadata.ino()) })
    }

    #[cfg(not(unix))]
    fn read(path: &Path, _: &Metadata) -> Option<Self> {
        Some(Self { path: path.canonicalize().ok()? })
    }
}

/// Whether two paths lead to one file or folder that is there.
pub(crate) fn are_same(one: &Path, other: &Path) -> bool {
    Identity::of(one).is_some_and(|identity| Some(identity) == Identity::of(other))
}

/// A search for an output among inputs.
pub(super) struct Reading<'a> {
    command: &'static str,
    outputs: &'a HashMap<Identity, PathBuf>,
    /// Files that the command wrote itself, as the manifests on the way list them.
    own: HashSet<PathBuf>,
    /// Folders on the way; links may lead in circles.
    seen: HashSet<Identity>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(command: &'static str, outputs: &'a HashMap<Identity, PathBuf>) -> Self {
        Self { command, outputs, own: HashSet::new(), seen: HashSet::new() }
    }

    /// The first output that is `input` or lies in it, and the input that it would replace.
    pub(super) fn find(&mut self, input: &Path) -> Option<(PathBuf, PathBuf)> {
        if !input.is_dir() {
            return self.outputs.get(&Identity::of(input)?).map(|output| (output.clone(), input.to_owned()));
        }
        if !self.seen.insert(Identity::of(input)?) {
            return None;
        }
        let own = entries(input).unwrap_or_default();
        self.own.insert(input.join(MANIFEST));
        self.own.extend(own.iter().filter(|e| e.command == self.command).map(|e| input.join(&e.file)));
        let inside = std::fs::read_dir(input).into_iter().flatten().flatten().map(|entry| entry.path());
        let inside: Vec<PathBuf> = inside.filter(|path| !self.own.contains(path)).collect();
        inside.iter().find_map(|path| self.find(path))
    }
}

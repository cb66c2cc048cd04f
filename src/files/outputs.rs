//! What a command leaves at a place that the user chose, where other files may lie.
//!
//! Before any work a command claims the files that it is going to write. None of them may be a file that it reads,
//! under whatever name. One that is there already may be replaced only if the same command wrote it and nobody has
//! changed it since, or if the user says so (`--overwrite`). To know that, every folder of outputs has a manifest,
//! [`MANIFEST`]: one JSON object a line for every file, with its digest.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identity::{Identity, Reading};
use super::{
    Digest, Draft, append_line, bytes_of, create_folder, folder_of, is_temporary, names, plain, temporary,
};
use crate::{Error, Result};

/// The name of the manifest in a folder of outputs. Readers of folders skip names with a dot in front.
pub const MANIFEST: &str = ".segen-outputs.jsonl";

/// What becomes of files that are there already and that the command did not write, or that were changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// They stay: the command is refused, and the error names `--overwrite`.
    Refuse,
    /// They stay, and the command has no such option.
    Keep,
    /// They are replaced (`--overwrite`); files that the command reads are refused all the same.
    Replace,
}

/// A line of the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Place below the folder, its parts separated by `/`.
    pub(super) file: String,
    /// The subcommand that wrote it.
    pub(super) command: String,
    bytes: u64,
    xxh3_128: Digest,
    /// What it was made from, where the command wants to know that it need not be made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Value>,
}

/// A folder of outputs, claimed by one command.
#[derive(Debug)]
pub struct Outputs {
    command: &'static str,
    folder: PathBuf,
    claimed: Vec<String>,
    manifest: Mutex<Manifest>,
}

impl Outputs {
    /// Claims `files`, places below `folder` with `/` between their parts, for `command`; a place that ends with `/`
    /// stands for all files in that folder. `inputs` are the files that the command reads, and folders of
    /// which it may read any file but those that it wrote itself. Then makes `folder` and sees that it can be
    /// written to.
    ///
    /// # Errors
    /// Where a file is one of `inputs` (links followed, other names of the same file too), is something else than a
    /// file, or is there already, unless `command` wrote it and it is unchanged or `existing` allows it; where the
    /// folder cannot be written to.
    pub fn claim(
        command: &'static str,
        folder: &Path,
        files: &[String],
        inputs: &[PathBuf],
        existing: Existing,
    ) -> Result<Self> {
        let outputs = Self::look(command, folder, files, inputs, existing)?;
        let folder_for = |file: &String| match file.strip_suffix('/') {
            Some(inside) => outputs.path(inside),
            None => folder_of(&outputs.path(file)).to_owned(),
        };
        let folders: BTreeSet<PathBuf> = files.iter().map(folder_for).collect();
        for folder in std::iter::once(folder).chain(folders.iter().map(PathBuf::as_path)) {
            create_folder(folder)?;
            temporary(0o666).tempfile_in(folder).map_err(|e| Error::io("write to", folder, plain(e)))?;
        }
        Ok(outputs)
    }

    /// As [`Self::claim`], but makes no folder yet.
    pub(crate) fn look(
        command: &'static str,
        folder: &Path,
        files: &[String],
        inputs: &[PathBuf],
        existing: Existing,
    ) -> Result<Self> {
        let normal = |part: Component<'_>| matches!(part, Component::Normal(name) if name != MANIFEST);
        if let Some(file) = files.iter().find(|file| !Path::new(file).components().all(normal)) {
            let problem = format!("`{file}` is no place below this folder");
            return Err(Error::invalid(folder, "output", problem, "give it a plain name"));
        }
        names::refuse(folder, files, cfg!(windows))?;
        let outputs = Self {
            command,
            folder: folder.to_owned(),
            claimed: files.to_vec(),
            manifest: Mutex::new(Manifest::read(folder)?),
        };
        let there = outputs.there(files)?;
        outputs.refuse_inputs(&there, inputs)?;
        match existing {
            Existing::Refuse => {
                outputs.refuse_others(
                    &there,
                    "choose another place with -o, or replace them with --overwrite",
                )?;
            }
            Existing::Keep => {
                outputs.refuse_others(&there, "choose another place with -o, or remove them")?
            }
            Existing::Replace => {}
        }
        Ok(outputs)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a file is among those that were claimed.
    pub fn has_claimed(&self, file: &str) -> bool {
        let inside = |claim: &String| claim.ends_with('/') && file.starts_with(claim.as_str());
        self.claimed.iter().any(|claim| claim == file || inside(claim))
    }

    /// Where a file goes.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Writes a claimed file, as [`super::write`] does, and lists it in the manifest with what it was made from.
    ///
    /// # Errors
    /// Where the file or the manifest cannot be written.
    pub fn write(
        &self,
        file: &str,
        from: Option<Value>,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<PathBuf> {
        if !self.has_claimed(file) {
            return Err(Error::Internal { what: format!("writing `{file}`, which was not claimed") });
        }
        let place = self.path(file);
        create_folder(folder_of(&place))?;
        let draft = Draft::new(&place, content)?;
        // Listed before it has its name: a command that is stopped in between finds its file in the manifest, the old
        // one as well as the new one.
        self.list(Entry {
            file: file.to_owned(),
            command: self.command.to_owned(),
            bytes: draft.bytes,
            xxh3_128: draft.digest,
            from,
        })?;
        draft.publish()?;
        Ok(place)
    }

    /// Whether a file is there as the command wrote it from `from`.
    ///
    /// # Errors
    /// Where the file is there and cannot be read.
    pub fn is_made_from(&self, file: &str, from: &Value) -> Result<bool> {
        self.is_own(file, |entry| entry.from.as_ref() == Some(from))
    }

    fn list(&self, entry: Entry) -> Result<()> {
        let mut manifest = self.manifest();
        if !manifest.entries.contains(&entry) {
            append_line(&self.folder.join(MANIFEST), &serde_json::json!(entry).to_string())?;
            manifest.entries.push(entry);
        }
        Ok(())
    }

    /// Whether a file is one that this command wrote, unchanged, in an entry of this kind. Other processes of the command
    /// may write into the folder, too: each lists a file before it gives it its name, so that the manifest of a later
    /// moment than the file's has it.
    fn is_own(&self, file: &str, kind: impl Fn(&Entry) -> bool) -> Result<bool> {
        let path = self.path(file);
        let Ok(bytes) = path.metadata().map(|metadata| metadata.len()) else { return Ok(false) };
        let own = |entry: &&Entry| {
            entry.file == file && entry.command == self.command && entry.bytes == bytes && kind(entry)
        };
        let digests = || -> Vec<Digest> {
            self.manifest().entries.iter().filter(own).map(|entry| entry.xxh3_128).collect()
        };
        let known = digests();
        if !known.is_empty() && known.contains(&Digest::of_file(&path)?) {
            return Ok(true);
        }
        if !self.manifest().refresh(&self.folder)? {
            return Ok(false);
        }
        let known = digests();
        Ok(!known.is_empty() && known.contains(&Digest::of_file(&path)?))
    }

    fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The claimed files that are there already.
    fn there(&self, files: &[String]) -> Result<Vec<String>> {
        let mut there = Vec::new();
        for file in files {
            let Some(inside) = file.strip_suffix('/') else {
                there.extend(self.is_there(file)?.then(|| file.clone()));
                continue;
            };
            for entry in std::fs::read_dir(self.path(inside)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !is_temporary(&name) && entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
                    there.push(format!("{file}{name}"));
                }
            }
        }
        there.sort();
        Ok(there)
    }

    fn is_there(&self, file: &str) -> Result<bool> {
        let path = self.path(file);
        let refuse = |problem: &str| {
            Err(Error::invalid(&path, "output", problem, "choose another place for the output"))
        };
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(true),
            Ok(metadata) if metadata.is_dir() => refuse("is a folder"),
            Ok(_) => refuse("is not a file that can be replaced"),
            // A link that leads nowhere is something of the user's, too.
            Err(_) => Ok(path.symlink_metadata().is_ok()),
        }
    }

    fn refuse_inputs(&self, there: &[String], inputs: &[PathBuf]) -> Result<()> {
        let with_manifest = there.iter().map(String::as_str).chain([MANIFEST]);
        let outputs: HashMap<Identity, PathBuf> = with_manifest
            .map(|file| self.path(file))
            .filter_map(|path| Some((Identity::of(&path)?, path)))
            .collect();
        if outputs.is_empty() {
            return Ok(());
        }
        let mut reading = Reading::new(self.command, &outputs);
        match inputs.iter().find_map(|input| reading.find(input)) {
            Some((output, input)) => Err(Error::invalid(
                output,
                "output",
                format!("would replace `{}`, which this command reads", input.display()),
                "choose another place for the output; a file that is read is never replaced",
            )),
            None => Ok(()),
        }
    }

    fn refuse_others(&self, there: &[String], mend: &str) -> Result<()> {
        const NAMED: usize = 3;
        let mut others = Vec::new();
        for file in there {
            if !self.is_own(file, |_| true)? {
                others.push(format!("`{file}`"));
            }
        }
        let [first, ..] = others.as_slice() else { return Ok(()) };
        let (count, command) = (others.len(), self.command);
        let (named, rest) = (others[..count.min(NAMED)].join(", "), count.saturating_sub(NAMED));
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        let problem = match count {
            1 => format!(
                "{first} is there already, and `segen {command}` did not write it, or it was changed since"
            ),
            _ => format!(
                "{count} files are there already that `segen {command}` did not write, or that were changed since: \
                 {named}{more}"
            ),
        };
        Err(Error::invalid(&self.folder, "output", problem, mend))
    }
}

/// A single file at a place that the user chose, claimed by one command.
#[derive(Debug)]
pub struct OutputFile {
    outputs: Outputs,
    name: String,
    path: PathBuf,
}

impl OutputFile {
    /// Claims `path`; see [`Outputs::claim`].
    ///
    /// # Errors
    /// As [`Outputs::claim`], and where `path` does not end in a name.
    pub fn claim(command: &'static str, path: &Path, inputs: &[PathBuf], existing: Existing) -> Result<Self> {
        let (folder, name) = split(path)?;
        let outputs = Outputs::claim(command, folder, std::slice::from_ref(&name), inputs, existing)?;
        Ok(Self { outputs, name, path: path.to_owned() })
    }

    /// Where the file goes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file; see [`Outputs::write`].
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.outputs.write(&self.name, None, bytes_of(bytes)).map(drop)
    }
}

/// A path as a folder and a name in it.
///
/// # Errors
/// Where it does not end in a name, or in one that is not Unicode.
pub(crate) fn split(path: &Path) -> Result<(&Path, String)> {
    match path.file_name().map(|name| name.to_str()) {
        Some(Some(name)) => Ok((folder_of(path), name.to_owned())),
        Some(None) => Err(Error::invalid(path, "output", "its name is not Unicode", "choose another name")),
        None => Err(Error::invalid(path, "output", "is no name of a file", "add the name of a file")),
    }
}

/// The manifest of a folder as it was read, and what was listed since.
#[derive(Debug)]
struct Manifest {
    entries: Vec<Entry>,
    /// Its length on the disk when it was read: it only grows.
    bytes: u64,
}

impl Manifest {
    fn read(folder: &Path) -> Result<Self> {
        let text = text(folder)?;
        Ok(Self { entries: parse(&text), bytes: text.len() as u64 })
    }

    /// Reads it again where it has grown; whether it has.
    fn refresh(&mut self, folder: &Path) -> Result<bool> {
        let bytes = std::fs::metadata(folder.join(MANIFEST)).map_or(0, |metadata| metadata.len());
        let grown = bytes != self.bytes;
        if grown {
            *self = Self::read(folder)?;
        }
        Ok(grown)
    }
}

/// The manifest of a folder; empty where it has none.
pub(super) fn entries(folder: &Path) -> Result<Vec<Entry>> {
    Ok(parse(&text(folder)?))
}

/// A line that cannot be read lists nothing.
fn parse(text: &[u8]) -> Vec<Entry> {
    text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn text(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(MANIFEST);
    match std::fs::read(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        read => read.map_err(|error| Error::io("read", &path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(folder: &Path, files: &[&str], inputs: &[PathBuf]) -> Result<Outputs> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        Outputs::claim("test", folder, &files, inputs, Existing::Refuse)
    }

    #[test]
    fn what_was_written_is_known_by_what_it_was_made_from() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Value::from("weights 1"), Value::from("weights 2"));
        let outputs = claim(folder.path(), &["a"], &[]).unwrap();
        assert!(!outputs.is_made_from("a", &one).unwrap(), "not there");
        outputs.write("a", Some(one.clone()), bytes_of(b"content")).unwrap();
        let again = claim(folder.path(), &["a"], &[]).unwrap();
        assert!(again.is_made_from("a", &one).unwrap() && !again.is_made_from("a", &two).unwrap());
        again.write("a", Some(two.clone()), bytes_of(b"other")).unwrap();
        assert!(again.is_made_from("a", &two).unwrap() && !again.is_made_from("a", &one).unwrap());
        std::fs::write(folder.path().join("a"), "OTHER").unwrap();
        assert!(!again.is_made_from("a", &two).unwrap(), "changed");
    }

    #[test]
    fn a_command_stopped_before_or_after_the_last_rename_finds_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = claim(folder.path(), &["a"], &[]).unwrap();
        outputs.write("a", None, bytes_of(b"old")).unwrap();
        // Listed, not yet renamed.
        let draft = Draft::new(&outputs.path("a"), bytes_of(b"new")).unwrap();
        let entry = Entry {
            file: "a".to_owned(),
            command: "test".to_owned(),
            bytes: draft.bytes,
            xxh3_128: draft.digest,
            from: None,
        };
        outputs.list(entry).unwrap();
        claim(folder.path(), &["a"], &[]).unwrap();
        draft.publish().unwrap();
        claim(folder.path(), &["a"], &[]).unwrap();
    }

    #[test]
    fn only_places_below_the_folder_can_be_claimed_and_only_claimed_ones_written() {
        let folder = tempfile::tempdir().unwrap();
        for place in ["../a", "/a", ".", "b/../../a", MANIFEST] {
            std::fs::write(folder.path().join(MANIFEST), "").unwrap();
            assert!(claim(folder.path(), &[place], &[]).is_err(), "{place}");
        }
        let outputs = claim(folder.path(), &["a", "b/"], &[]).unwrap();
        outputs.write("b/c", None, bytes_of(b"")).unwrap();
        assert!(outputs.write("c", None, bytes_of(b"")).is_err());
        // Every file of a claimed folder must be the command's own.
        claim(folder.path(), &["a", "b/"], &[]).unwrap();
        std::fs::write(folder.path().join("b/d"), "").unwrap();
        assert!(claim(folder.path(), &["a", "b/"], &[]).unwrap_err().to_string().contains("b/d"));
    }

    #[test]
    fn several_may_write_into_one_folder() {
        let folder = &tempfile::tempdir().unwrap();
        let names: Vec<Vec<String>> =
            (0..4).map(|part| (0..8).map(|number| format!("{part}-{number}")).collect()).collect();
        std::thread::scope(|scope| {
            for own in &names {
                scope.spawn(move || {
                    let all = [own.as_slice(), &["shared".to_owned()]].concat();
                    let outputs = Outputs::claim("test", folder.path(), &all, &[], Existing::Refuse).unwrap();
                    all.iter().for_each(|name| drop(outputs.write(name, None, bytes_of(b"a")).unwrap()));
                });
            }
        });
        let all = [names.concat(), vec!["shared".to_owned()]].concat();
        let outputs = Outputs::claim("test", folder.path(), &all, &[], Existing::Refuse).unwrap();
        let lines = std::fs::read_to_string(folder.path().join(MANIFEST)).unwrap().lines().count();
        let manifest = outputs.manifest();
        assert_eq!(lines, manifest.entries.len(), "no line was cut");
        let listed = |name: &String| manifest.entries.iter().any(|entry| entry.file == *name);
        assert!(all.iter().all(listed), "no line was lost");
    }

    #[test]
    fn what_another_process_wrote_since_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = [(); 2].map(|()| claim(folder.path(), &["a"], &[]).unwrap());
        one.write("a", Some(Value::from(1)), bytes_of(b"content")).unwrap();
        assert!(other.is_made_from("a", &Value::from(1)).unwrap());
        assert!(!other.is_made_from("a", &Value::from(2)).unwrap());
        one.write("a", Some(Value::from(2)), bytes_of(b"other")).unwrap();
        assert!(other.is_made_from("a", &Value::from(2)).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn folders_of_inputs_are_searched_and_links_in_circles_followed_once() {
        let folder = tempfile::tempdir().unwrap();
        let (data, out) = (folder.path().join("data"), folder.path().join("out"));
        std::fs::create_dir_all(data.join("deep")).unwrap();
        std::fs::create_dir(&out).unwrap();
        std::os::unix::fs::symlink(&data, data.join("deep/circle")).unwrap();
        std::fs::write(data.join("deep/scan"), "").unwrap();
        std::fs::hard_link(data.join("deep/scan"), out.join("a")).unwrap();
        let error = claim(&out, &["a"], std::slice::from_ref(&data)).unwrap_err().to_string();
        assert!(error.contains("deep/scan"), "{error}");
        // What the command wrote there itself is no input.
        let outputs = claim(&data, &["page"], std::slice::from_ref(&data)).unwrap();
        outputs.write("page", None, bytes_of(b"1")).unwrap();
        claim(&data, &["page"], std::slice::from_ref(&data)).unwrap();
    }
}

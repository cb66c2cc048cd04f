//! Who works in a folder: one process at a time.
//!
//! `claim.json` names the process and its host. It is made in a way that only one of several can succeed, while a lock
//! on `claim.lock` is held where the file system has locks. The lock ends with its process, the file may outlast one
//! that was killed; so the file of a process that is gone is removed by the next one. Of a process on another host
//! nobody can tell from here whether it is gone: its claim stands until a person removes the file.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::files::create_folder;
use crate::{Error, Result, machine};

/// A folder that is this process's own to write into, until the value is dropped.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    own: Holder,
    /// Whether there was no folder before.
    made: bool,
    /// Locked where the file system can.
    _lock: Option<File>,
}

/// `claim.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// What it does: `segen train`.
    pub command: String,
    /// Its number on its host.
    pub process: u32,
    /// When it began, seconds since 1970: numbers are given again.
    pub process_started: u64,
    /// Name of the machine.
    pub host: String,
}

const FILE: &str = "claim.json";
const LOCK: &str = "claim.lock";
/// How far two readings of one process's start may lie apart, seconds: the system derives it from its clock.
const CLOCK: u64 = 2;
/// How often, and how long, a claim that is just being written is waited for.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

impl Claim {
    /// Claims `folder`, making it where there is none, for `command` (`segen train`).
    ///
    /// # Errors
    /// Where another process has it, naming it, and where the folder cannot be written.
    pub fn take(folder: &Path, command: &str) -> Result<Self> {
        let made = !folder.exists();
        create_folder(folder)?;
        let lock = lock(folder)?;
        let own = Holder::this(command);
        let path = folder.join(FILE);
        for _ in 0..ATTEMPTS {
            match File::options().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    own.write(file, &path)?;
                    return Ok(Self { folder: folder.to_owned(), own, made, _lock: lock });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create", &path, error)),
            }
            match Holder::read(folder) {
                Some(holder) if holder.is_gone() => remove(&path, &holder),
                Some(holder) => return Err(taken(folder, Some(&holder))),
                // Damaged, by a process that no longer holds the lock.
                None if lock.is_some() => drop(std::fs::remove_file(&path)),
                None => std::thread::sleep(PAUSE),
            }
        }
        Err(taken(folder, None))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Where a person removed the claim, the file may be another process's by now.
        if Holder::read(&self.folder).as_ref() != Some(&self.own) {
            return;
        }
        // What cannot be removed is a claim of a process that is gone: the next one takes it over.
        let _ = std::fs::remove_file(self.folder.join(FILE));
        let mut entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        if self.made && entries.all(|entry| entry.file_name() == LOCK) {
            // Nothing came of it.
            let _ = std::fs::remove_file(self.folder.join(LOCK));
            let _ = std::fs::remove_dir(&self.folder);
        }
    }
}

impl Holder {
    /// Who works in `folder` now, as far as can be told from here.
    pub fn of(folder: &Path) -> Option<Self> {
        Self::read(folder).filter(|holder| !holder.is_gone())
    }

    fn this(command: &str) -> Self {
        let process = std::process::id();
        Self {
            command: command.to_owned(),
            process,
            process_started: machine::process_started(process).unwrap_or(0),
            host: machine::host(),
        }
    }

    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()
    }

    fn write(&self, mut file: File, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
            let _ = std::fs::remove_file(path);
            Error::io("write", path, error)
        })
    }

    /// Whether it was a process of this machine that is there no more.
    fn is_gone(&self) -> bool {
        let here = self.host == machine::host();
        here && machine::process_started(self.process)
            .is_none_or(|started| self.process_started != 0 && started.abs_diff(self.process_started) > CLOCK)
    }
}

/// Locks the folder's lock file; `None` where the file system has no locks.
fn lock(folder: &Path) -> Result<Option<File>> {
    let path = folder.join(LOCK);
    let opened = File::options().create(true).append(true).open(&path);
    let file = opened.map_err(|error| Error::io("create", &path, error))?;
    for _ in 0..ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
        }
        // Of two that begin in one instant the first has not said yet who it is; one that ends has said so already.
        if let Some(holder) = Holder::of(folder) {
            return Err(taken(folder, Some(&holder)));
        }
        std::thread::sleep(PAUSE);
    }
    Err(taken(folder, Holder::read(folder).as_ref()))
}

/// Removes the claim of a process that is gone. Of two that find it only one succeeds, and neither removes what the
/// other has put in its place.
fn remove(path: &Path, gone: &Holder) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_file_name(format!(".{FILE}.{}-{number}.tmp", std::process::id()));
    if std::fs::rename(path, &aside).is_err() {
        return;
    }
    let moved = std::fs::read(&aside).ok().and_then(|text| serde_json::from_slice::<Holder>(&text).ok());
    if moved.as_ref() != Some(gone) && !path.exists() {
        let _ = std::fs::rename(&aside, path);
    } else {
        let _ = std::fs::remove_file(&aside);
    }
}

fn taken(folder: &Path, holder: Option<&Holder>) -> Error {
    let file = folder.join(FILE);
    let (who, fix) = match holder {
        None => ("another process works here".to_owned(), "wait until it is done".to_owned()),
        Some(holder) => {
            let here = holder.host == machine::host();
            let fix = match here {
                true => format!("wait until it is done, or stop it (`kill {}`)", holder.process),
                false => {
                    "whether it still runs cannot be seen from this host: wait until it is done".to_owned()
                }
            };
            (
                format!(
                    "`{}` works here: process {} on host `{}`",
                    holder.command, holder.process, holder.host
                ),
                fix,
            )
        }
    };
    Error::invalid(
        folder,
        "claim",
        who,
        format!(
            "{fix}, or choose another folder with -o; where it is certain that nothing works here, remove `{}`",
            file.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_by(folder: &Path, holder: &Holder) {
        std::fs::write(folder.join(FILE), serde_json::to_string(holder).unwrap()).unwrap();
    }

    #[test]
    fn a_folder_has_one_claim_and_none_when_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let claim = Claim::take(&run, "segen train").unwrap();
        let error = Claim::take(&run, "segen train").unwrap_err().to_string();
        let process = format!("process {} on host `{}`", std::process::id(), machine::host());
        assert!(error.contains(&process) && error.contains("`segen train` works here"), "{error}");
        drop(claim);
        assert!(!run.exists(), "nothing came of it, so nothing is left");
        std::fs::create_dir(&run).unwrap();
        drop(Claim::take(&run, "segen train").unwrap());
        assert!(run.exists() && !run.join(FILE).exists());
    }

    #[test]
    fn of_many_at_once_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        // With and without a claim of a process that is gone.
        for stale in [false, true] {
            let run = folder.path().join(stale.to_string());
            if stale {
                std::fs::create_dir(&run).unwrap();
                left_by(&run, &Holder { process: u32::MAX - 1, ..Holder::this("segen train") });
            }
            let claims: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    (0..16).map(|_| scope.spawn(|| Claim::take(&run, "segen train"))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(claims.iter().filter(|claim| claim.is_ok()).count(), 1);
        }
    }

    #[test]
    fn what_is_gone_does_not_block_and_what_cannot_be_known_does() {
        let folder = tempfile::tempdir().unwrap();
        let this = Holder::this("segen train");
        // A number that was given again: the process that has it now began later.
        let recycled = Holder { process_started: this.process_started - 100, ..this.clone() };
        let nobody = Holder { process: u32::MAX - 1, ..this.clone() };
        for gone in [recycled, nobody] {
            left_by(folder.path(), &gone);
            assert_eq!(Holder::of(folder.path()), None);
            drop(Claim::take(folder.path(), "segen train").unwrap());
        }
        std::fs::write(folder.path().join(FILE), "{\"comm").unwrap();
        drop(Claim::take(folder.path(), "segen train").unwrap());
        let elsewhere = Holder { process: 7, host: "node-17".into(), ..this };
        left_by(folder.path(), &elsewhere);
        let error = Claim::take(folder.path(), "segen train").unwrap_err().to_string();
        assert!(error.contains("process 7 on host `node-17`"), "{error}");
        let file = folder.path().join(FILE).display().to_string();
        assert!(error.contains(&format!("remove `{file}`")), "{error}");
    }
}

//! Trains the cells, each in a process of its own.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::cell::{Cell, cells};
use super::results::{CaseLine, CellResult, append, read};
use super::{Experiment, Launch, ScoredOn};
use crate::files::{Existing, Outputs, append_line, are_same, bytes_of, create_folder, write_atomically};
use crate::progress::Progress;
use crate::run::{Claim, Holder, Run, Split};
use crate::score::ScoredFolder;
use crate::score::operating::{self, CaseOdds, Operating};
use crate::{Error, Result, machine};

/// How often running processes are looked at.
const PAUSE: Duration = Duration::from_millis(100);
/// Memory that must be free for a further run, relative to the most that a run has taken so far.
const HEADROOM: f64 = 1.2;

/// What became of the cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Cells with a line in `results.jsonl`.
    pub finished: usize,
    /// Cells that failed now: name, and the last line that they said.
    pub failed: Vec<(String, String)>,
}

/// A cell whose process runs. When it is dropped, the process is asked to stop, which it does with a checkpoint.
struct Running {
    cell: Cell,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && machine::terminate(self.child.id()) {
            // Fails only where the process is gone already.
            let _ = self.child.wait();
        }
    }
}

/// How an attempt to start a cell ended.
enum Start {
    Running(Running),
    /// Its run had finished before, unrecorded.
    Finished(Box<CellResult>),
    /// Another process works on it: one of an earlier sweep that was ended by force, or a person's.
    Busy,
}

/// Trains every cell that `results.jsonl` does not hold. A cell that fails is noted in `failed.jsonl` and tried
/// again by the next call; the others go on. May be stopped at any moment and called again; asked to stop, it lets
/// every running cell stop with a checkpoint.
///
/// # Errors
/// Where the experiment names no data set, its configuration cannot be used, another sweep works in the folder,
/// or the folder cannot be written.
pub fn run(launch: &Launch<'_>, progress: &dyn Progress) -> Result<Outcome> {
    let experiment = launch.experiment;
    let dataset = launch.dataset.or(experiment.dataset.as_deref()).ok_or_else(|| {
        Error::config(
            "dataset",
            "the experiment names no data set",
            "add `dataset = ...`, or give --dataset DIR",
        )
    })?;
    create_folder(launch.outputs.folder())?;
    let _claim = Claim::take(launch.outputs.folder(), "segen sweep")?;
    let all = cells(experiment, dataset);
    set_up(experiment, launch.outputs, &all)?;
    let results = launch.outputs.folder().join("results.jsonl");
    let known = read(&results)?;
    let mut queue: VecDeque<Cell> =
        all.iter().filter(|cell| !known.iter().any(|result| result.hash == cell.hash)).cloned().collect();
    let mut outcome = Outcome { finished: all.len() - queue.len(), failed: Vec::new() };
    if outcome.finished > 0 {
        progress.note(&format!("{} of {} cells are done already", outcome.finished, all.len()));
    }
    let mut peak = known.iter().map(|result| result.peak_memory_bytes).max().unwrap_or(0);
    let free = machine::available_memory_bytes();
    let mut running: Vec<Running> = Vec::new();
    progress.begin("cells", queue.len() as u64);
    while !queue.is_empty() || !running.is_empty() {
        if progress.is_stopped() {
            return Err(stop(running, &outcome, all.len()));
        }
        let mut busy = 0;
        while busy < queue.len() && running.len() < allowed(experiment.runs, peak, free, running.len()) {
            let Some(cell) = queue.pop_front() else { break };
            match start(launch, dataset, &cell)? {
                Start::Running(process) => running.push(process),
                Start::Finished(result) => {
                    record(&results, &result, &mut outcome, &mut peak, progress)?;
                }
                Start::Busy => {
                    busy += 1;
                    queue.push_back(cell);
                }
            }
        }
        std::thread::sleep(PAUSE);
        let mut i = 0;
        while i < running.len() {
            let process = &mut running[i];
            let ended = process.child.try_wait().map_err(|e| Error::io("run", launch.executable, e))?;
            let Some(status) = ended else {
                i += 1;
                continue;
            };
            let done = running.swap_remove(i);
            if was_stopped(status) {
                return Err(stop(running, &outcome, all.len()));
            }
            match harvest(launch, &done.cell) {
                Some(result) if status.success() => {
                    record(&results, &result, &mut outcome, &mut peak, progress)?;
                }
                _ => {
                    let failed = (done.cell.name(experiment), last_words(launch, &done.cell, status));
                    note_failure(launch.outputs.folder(), &done.cell, &failed)?;
                    progress.note(&format!("failed: {}: {}", failed.0, failed.1));
                    outcome.failed.push(failed);
                    progress.advance(1);
                }
            }
        }
    }
    progress.end();
    Ok(outcome)
}

/// Stops all running cells at once, waits for their checkpoints, and says how far the sweep has come.
fn stop(running: Vec<Running>, outcome: &Outcome, cells: usize) -> Error {
    for cell in &running {
        machine::terminate(cell.child.id());
    }
    for mut cell in running {
        // Fails only where the process is gone already.
        let _ = cell.child.wait();
    }
    Error::stopped(format!(
        "with {} of {cells} cells finished; the same command goes on, with each cell from its last checkpoint",
        outcome.finished
    ))
}

/// Runs at the same time: one until a run has shown how much memory it takes, then as many as fit.
fn allowed(wanted: usize, peak: u64, free: u64, running: usize) -> usize {
    if peak == 0 || wanted == 1 {
        return 1;
    }
    let each = HEADROOM * peak as f64;
    let fit = (free as f64 / each) as usize;
    // Others use the machine, too: what is free now counts for the next one.
    let now = if machine::available_memory_bytes() as f64 > each { wanted } else { running };
    wanted.min(fit).min(now).max(1)
}

fn record(
    path: &Path,
    result: &CellResult,
    outcome: &mut Outcome,
    peak: &mut u64,
    progress: &dyn Progress,
) -> Result<()> {
    append(path, result)?;
    outcome.finished += 1;
    *peak = result.peak_memory_bytes.max(*peak);
    progress.advance(1);
    Ok(())
}

const EXPERIMENT: &str = "experiment.toml";
const CONFIG: &str = "config.toml";

/// Claims the files of a sweep's folder: tables and figures, and, where `experiment` names the file of an experiment
/// that is going to run, what is kept of it. Neither that file nor what else is going to be `read` is ever replaced.
///
/// # Errors
/// As [`Outputs::claim`].
pub fn claim(
    folder: &Path,
    experiment: Option<&Path>,
    read: &[&Path],
    existing: Existing,
) -> Result<Outputs> {
    let mut files = super::output::FILES.map(str::to_owned).to_vec();
    if let Some(experiment) = experiment {
        files.push(CONFIG.to_owned());
        files.extend((!are_same(experiment, &folder.join(EXPERIMENT))).then(|| EXPERIMENT.to_owned()));
    }
    let inputs: Vec<PathBuf> =
        experiment.into_iter().chain(read.iter().copied()).map(Path::to_owned).collect();
    Outputs::claim("sweep", folder, &files, &inputs, existing)
}

/// Keeps the experiment and the configuration of its cells beside their results, and checks the latter before
/// anything is trained.
fn set_up(experiment: &Experiment, outputs: &Outputs, cells: &[Cell]) -> Result<()> {
    let text = |value: &dyn Fn() -> std::result::Result<String, toml::ser::Error>| {
        value().map_err(|e| Error::Internal { what: format!("writing an experiment as TOML: {e}") })
    };
    let whole = text(&|| toml::to_string_pretty(experiment))?;
    // Not claimed where it is the very file that the experiment was read from.
    if outputs.has_claimed(EXPERIMENT) {
        outputs.write(EXPERIMENT, None, bytes_of(whole.as_bytes()))?;
    }
    let config = outputs.path(CONFIG);
    let content = text(&|| toml::to_string_pretty(&experiment.config))?;
    outputs.write(CONFIG, None, bytes_of(content.as_bytes()))?;
    cells.iter().try_for_each(|cell| cell.config(experiment, &config).map(drop))
}

fn start(launch: &Launch<'_>, dataset: &Path, cell: &Cell) -> Result<Start> {
    let run = launch.outputs.folder().join(&cell.folder);
    create_folder(&run)?;
    if Holder::of(&run).is_some() {
        return Ok(Start::Busy);
    }
    if let Some(result) = harvest(launch, cell) {
        return Ok(Start::Finished(Box::new(result)));
    }
    let experiment = launch.experiment;
    let config = run.join("cell.toml");
    let text = cell.config(experiment, &launch.outputs.path(CONFIG))?.to_toml();
    write_atomically(&config, text.as_bytes())?;
    let path = log_file(launch, cell);
    let failed = |e| Error::io("write", &path, e);
    let log = File::options().create(true).append(true).open(&path).map_err(failed)?;
    let threads = experiment.threads.unwrap_or_else(|| (launch.threads / experiment.runs).max(1));
    let mut command = cell.command(launch, dataset, &config, threads);
    own_group(&mut command);
    command.stdin(Stdio::null());
    command.stdout(Stdio::from(log.try_clone().map_err(failed)?)).stderr(Stdio::from(log));
    let child = command.spawn().map_err(|e| Error::io("run", launch.executable, e))?;
    Ok(Start::Running(Running { cell: cell.clone(), child }))
}

/// What the process of a cell says.
fn log_file(launch: &Launch<'_>, cell: &Cell) -> PathBuf {
    launch.outputs.folder().join(&cell.folder).join("log.txt")
}

/// The result of a cell whose run is complete; `None` where it is not.
fn harvest(launch: &Launch<'_>, cell: &Cell) -> Option<CellResult> {
    let experiment = launch.experiment;
    let run = Run::at(launch.outputs.folder().join(&cell.folder));
    let manifest = run.manifest().ok()?;
    if !manifest.state.is_complete() {
        return None;
    }
    let scored = run.path(match experiment.score {
        ScoredOn::Test => "test",
        ScoredOn::Validation => "validation",
    });
    let folder = ScoredFolder::read(&scored.join("summary.json")).ok()?;
    // Runs of earlier versions have none.
    let odds = Operating::read(&scored.join(operating::FILE)).map_or(Vec::new(), |odds| odds.cases);
    let lines = |folder: &str| match ScoredFolder::read(&run.path(&format!("{folder}/summary.json"))) {
        Ok(folder) => CaseLine::of(&folder),
        Err(_) => Vec::new(),
    };
    let row = &experiment.row[cell.row];
    Some(CellResult {
        hash: cell.hash.clone(),
        row: row.name(),
        position: cell.row,
        method: row.method.clone(),
        policy: row.policy.clone(),
        fraction: cell.fraction,
        fold: cell.fold.name(),
        seed: cell.seed,
        scored: experiment.score,
        cases: CaseLine::of(&folder),
        train: lines("train"),
        held_out: match experiment.score {
            ScoredOn::Test => lines("validation"),
            ScoredOn::Validation => Vec::new(),
        },
        operating: odds.iter().map(CaseOdds::without_joint).collect(),
        regions: folder.regions,
        trained_on: run.read_json::<Split>("split.json").ok()?.train.len(),
        steps: manifest.steps,
        train_seconds: manifest.train_seconds,
        peak_memory_bytes: manifest.peak_memory_bytes,
    })
}

/// Why a cell failed: the last error in its log, else how its process ended.
fn last_words(launch: &Launch<'_>, cell: &Cell, status: ExitStatus) -> String {
    let log = std::fs::read(log_file(launch, cell)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    let error = log.lines().rev().find(|line| line.starts_with("error"));
    let said = error.or_else(|| log.lines().rev().find(|line| !line.trim().is_empty()));
    match said {
        _ if status.success() => format!(
            "it ended well but left no scores of {} cases; has the data set labels for them?",
            match launch.experiment.score {
                ScoredOn::Test => "test",
                ScoredOn::Validation => "validation",
            }
        ),
        Some(line) => line.to_owned(),
        None => status.to_string(),
    }
}

fn note_failure(folder: &Path, cell: &Cell, (name, problem): &(String, String)) -> Result<()> {
    let path = folder.join("failed.jsonl");
    let line = serde_json::json!({
        "cell": name, "folder": cell.folder, "hash": cell.hash, "problem": problem,
    });
    append_line(&path, &line.to_string())
}

/// Exit code of a command that was asked to stop.
const STOPPED: i32 = 3;

/// Keeps a terminal's Ctrl-C from the process: this one asks it to stop, once.
#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_: &mut Command) {}

/// Whether a person or the system stopped the process: then the sweep stops, too.
#[cfg(unix)]
fn was_stopped(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    const INTERRUPT: i32 = 2;
    const TERMINATE: i32 = 15;
    status.code() == Some(STOPPED) || matches!(status.signal(), Some(INTERRUPT | TERMINATE))
}

#[cfg(not(unix))]
fn was_stopped(status: ExitStatus) -> bool {
    status.code() == Some(STOPPED)
}

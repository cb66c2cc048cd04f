//! The only file that prints. Data goes to stdout, everything else to stderr.
//!
//! Nobody who stops reading ends a command. Words for people may get lost; a result that does is remembered, and the
//! command fails when its work is done.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where printing is meant to happen")]

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use segen::progress::Progress;

/// Where a command's words go.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    terminal: bool,
    task: Mutex<Option<Task>>,
    /// Why a part of the result could not be written.
    lost: Mutex<Option<io::Error>>,
    asked: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Task {
    bar: ProgressBar,
    what: String,
    total: u64,
    done: u64,
    /// Of those, the ones that were done before `started`.
    before: u64,
    started: Instant,
    last_line: Instant,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { json, terminal, task: Mutex::new(None), lost: Mutex::new(None), asked: Arc::default() }
    }

    /// Set when the user asks to stop.
    pub(crate) fn asked(&self) -> Arc<AtomicBool> {
        self.asked.clone()
    }

    /// Whether `--json` was given: print one JSON value as data, and no table.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// The command's result, to stdout; see [`Self::lost`].
    pub(crate) fn data(&self, text: &str) {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let written = print(|stdout| write!(stdout, "{text}{end}"));
        if let (Err(error), Ok(mut lost)) = (written, self.lost.lock()) {
            lost.get_or_insert(error);
        }
    }

    /// Why a part of the result did not reach stdout, where it did not.
    pub(crate) fn lost(&self) -> Option<io::Error> {
        self.lost.lock().ok()?.take()
    }

    /// A closing remark, to stderr.
    pub(crate) fn line(&self, text: &str) {
        say(text);
    }

    /// Prints the chain of an error; hints stand on lines of their own.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        self.end();
        let mut text = error.to_string();
        // Some errors repeat their cause in their own words.
        for cause in error.chain().skip(1).map(ToString::to_string) {
            if !text.contains(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
        }
        say(&format!("error: {text}"));
    }

    /// Where the work ended that the user asked to stop.
    pub(crate) fn stopped(&self, error: &anyhow::Error) {
        self.end();
        self.line(&error.to_string());
    }

    fn with_task(&self, act: impl FnOnce(&mut Task)) {
        if let Ok(mut task) = self.task.lock()
            && let Some(task) = task.as_mut()
        {
            act(task);
        }
    }
}

/// Writes to stdout and makes sure that it is gone.
pub(crate) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    write(&mut stdout)?;
    stdout.flush()
}

/// A line on stderr, lost where nobody reads it.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

impl Progress for Output {
    fn begin(&self, what: &str, total: u64) {
        let bar = if self.terminal { ProgressBar::new(total) } else { ProgressBar::hidden() };
        if let Ok(style) =
            ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}  {elapsed} passed, {eta} left")
        {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        let now = Instant::now();
        let task =
            Task { bar, what: what.to_owned(), total, done: 0, before: 0, started: now, last_line: now };
        if let Ok(mut slot) = self.task.lock() {
            *slot = Some(task);
        }
    }

    fn advance(&self, parts: u64) {
        let terminal = self.terminal;
        self.with_task(|task| {
            task.done += parts;
            task.bar.set_position(task.done);
            // Without a terminal: a plain line every ten seconds.
            if !terminal && task.last_line.elapsed() >= Duration::from_secs(10) {
                task.last_line = Instant::now();
                let passed = task.started.elapsed().as_secs_f64();
                let left = passed / (task.done - task.before).max(1) as f64
                    * task.total.saturating_sub(task.done) as f64;
                say(&format!(
                    "{}: {}/{}, {passed:.0} s passed, {left:.0} s left",
                    task.what, task.done, task.total
                ));
            }
        });
    }

    fn skip(&self, parts: u64) {
        self.with_task(|task| {
            task.done += parts;
            task.before += parts;
            task.bar.set_position(task.done);
            task.bar.reset_eta();
        });
    }

    fn note(&self, message: &str) {
        let mut printed = false;
        if self.terminal {
            self.with_task(|task| {
                task.bar.suspend(|| say(message));
                printed = true;
            });
        }
        if !printed {
            say(message);
        }
    }

    fn end(&self) {
        if let Ok(mut task) = self.task.lock()
            && let Some(task) = task.take()
        {
            task.bar.finish_and_clear();
        }
    }

    fn is_stopped(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

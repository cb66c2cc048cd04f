//! The only file that prints. Data goes to stdout, everything else to stderr.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where printing is meant to happen")]

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use segen::progress::Progress;

/// Where a command's words go.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    terminal: bool,
    task: Mutex<Option<Task>>,
}

#[derive(Debug)]
struct Task {
    bar: ProgressBar,
    what: String,
    total: u64,
    done: u64,
    started: Instant,
    last_line: Instant,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, terminal: std::io::stderr().is_terminal(), task: Mutex::new(None) }
    }

    /// Whether `--json` was given: print one JSON value as data, and no table.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// The command's result, to stdout. A reader that went away (a closed pipe) is not an error.
    pub(crate) fn data(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes());
        if !text.ends_with('\n') {
            let _ = stdout.write_all(b"\n");
        }
        let _ = stdout.flush();
    }

    /// A closing remark, to stderr.
    pub(crate) fn line(&self, text: &str) {
        eprintln!("{text}");
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
        eprintln!("error: {text}");
    }

    fn with_task(&self, act: impl FnOnce(&mut Task)) {
        if let Ok(mut task) = self.task.lock()
            && let Some(task) = task.as_mut()
        {
            act(task);
        }
    }
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
        let task = Task { bar, what: what.to_owned(), total, done: 0, started: now, last_line: now };
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
                let left = passed / task.done.max(1) as f64 * task.total.saturating_sub(task.done) as f64;
                eprintln!(
                    "{}: {}/{}, {passed:.0} s passed, {left:.0} s left",
                    task.what, task.done, task.total
                );
            }
        });
    }

    fn note(&self, message: &str) {
        let mut printed = false;
        if self.terminal {
            self.with_task(|task| {
                task.bar.suspend(|| eprintln!("{message}"));
                printed = true;
            });
        }
        if !printed {
            eprintln!("{message}");
        }
    }

    fn end(&self) {
        if let Ok(mut task) = self.task.lock()
            && let Some(task) = task.take()
        {
            task.bar.finish_and_clear();
        }
    }
}

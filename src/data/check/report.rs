//! A report as text.

use std::fmt;

use super::{Fault, Report, Severity};

/// Of each sort so many are shown; all are in the JSON.
const SHOWN: usize = 10;

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}: {} training and {} test cases", self.dataset, self.training, self.test)?;
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        let plural =
            |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        writeln!(out, "{}, {}", plural(errors, "error"), plural(warnings, "warning"))?;
        for group in self.faults.chunk_by(|a, b| (a.severity, a.kind) == (b.severity, b.kind)) {
            for fault in group.iter().take(SHOWN) {
                write!(out, "\n{fault}")?;
            }
            if group.len() > SHOWN {
                writeln!(
                    out,
                    "\n         and {} more of this sort (`--json` lists all)",
                    group.len() - SHOWN
                )?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(out, "{severity:8} {}: {}", self.file.display(), self.what)?;
        if !self.place.is_empty() {
            writeln!(out, "         {}", self.place)?;
        }
        writeln!(out, "         hint: {}", self.mend)
    }
}

//! What was found, for people.

use std::fmt;
use std::path::Path;

use super::{Found, FoundCase, Part, Values};

/// So many cases are shown of a public data set, whose names say what they are.
const FEW: usize = 5;
/// So many of a folder that was paired by name.
const MANY: usize = 20;

impl Found {
    /// The whole table, with all cases.
    pub fn table(&self) -> String {
        format!("{self:#}")
    }

    fn inside(&self, path: &Path) -> String {
        path.strip_prefix(&self.source).unwrap_or(path).display().to_string()
    }

    /// Case, channel files and label file of every case, in columns.
    fn rows(&self, out: &mut fmt::Formatter<'_>, shown: usize) -> fmt::Result {
        let row = |case: &FoundCase| {
            let images = case.images.paths().iter().map(|path| self.inside(path));
            let labels = case.labels.as_ref().and_then(|labels| labels.files.first());
            let labels = labels.map_or_else(|| "none: test case".to_owned(), |path| self.inside(path));
            let mut row = vec![case.id.clone()];
            row.extend(images);
            row.push(labels);
            row
        };
        let volumes = self.cases.iter().any(|case| case.images.paths().len() < self.channels.len());
        let mut head = vec!["case".to_owned()];
        match volumes {
            true => head.push("all channels".to_owned()),
            false => head.extend(self.channels.iter().cloned()),
        }
        head.push("labels".to_owned());
        let rows: Vec<Vec<String>> = self.cases.iter().take(shown).map(row).collect();
        let width = |column: usize| {
            let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        for row in [&head].into_iter().chain(&rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width));
            writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// One line a case, of its first files.
    fn short_rows(&self, out: &mut fmt::Formatter<'_>, shown: usize) -> fmt::Result {
        for case in self.cases.iter().take(shown) {
            let labels = case.labels.as_ref().and_then(|labels| labels.files.first());
            let labels = labels.map_or_else(|| "no labels".into(), |file| self.inside(file));
            writeln!(out, "  {}  <-  {} ...  |  {labels}", case.id, self.inside(case.images.first()))?;
        }
        Ok(())
    }

    fn value_lines(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renumbered = self.cases.iter().find_map(|case| match &case.labels.as_ref()?.values {
            Values::Renumber(pairs) => Some(pairs),
            _ => None,
        });
        if let Some(pairs) = renumbered {
            let changed = pairs.iter().filter(|(old, new)| old != new);
            let changed: Vec<String> = changed.map(|(old, new)| format!("{old} becomes {new}")).collect();
            writeln!(out, "values    {}", changed.join(", "))?;
        }
        if !self.values.is_empty() {
            let counts = self.values.iter().map(|count| {
                let files = if count.files == 1 { "file" } else { "files" };
                format!("{} in {} voxels of {} {files}", count.value, count.voxels, count.files)
            });
            writeln!(out, "found     {}", counts.collect::<Vec<_>>().join("; "))?;
        }
        Ok(())
    }
}

/// The table; `{:#}` shows every case.
impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (training, test) = (self.count(Part::Training), self.count(Part::Test));
        writeln!(out, "{} in {}", self.layout, self.source.display())?;
        writeln!(out, "cases     {training} for training, {test} for test")?;
        let channels: Vec<String> =
            self.channels.iter().enumerate().map(|(number, name)| format!("{number} {name}")).collect();
        writeln!(out, "channels  {}", channels.join(", "))?;
        let labels: Vec<String> =
            self.classes.labels.iter().map(|(name, values)| format!("{name} {values:?}")).collect();
        writeln!(out, "labels    {}", labels.join(", "))?;
        self.value_lines(out)?;
        let masks = self.cases.iter().filter(|case| case.mask.is_some()).count();
        if self.pairing.is_none() || masks > 0 {
            writeln!(out, "masks     {masks}")?;
        }
        if !self.splits.is_empty() {
            writeln!(out, "folds     {}, in splits_final.json", self.splits.len())?;
        }
        let shown = match (out.alternate(), &self.pairing) {
            (true, _) => self.cases.len(),
            (false, Some(_)) => MANY,
            (false, None) => FEW,
        };
        match self.pairing {
            Some(_) => self.rows(out, shown)?,
            None => self.short_rows(out, shown)?,
        }
        if self.cases.len() > shown {
            writeln!(out, "  and {} more (--dry-run shows all)", self.cases.len() - shown)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))
    }
}

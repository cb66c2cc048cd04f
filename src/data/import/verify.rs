//! Whether what was found can become a data set.

use std::collections::BTreeMap;

use super::{Found, FoundCase, Part, Values, survey};
use crate::{Error, Result};

impl Found {
    /// Names become names of files, and each may stand once, also where capitals do not count. A set without training
    /// cases is of no use.
    pub(super) fn check_names(&self) -> Result<()> {
        let mut folded: BTreeMap<String, &FoundCase> = BTreeMap::new();
        for case in &self.cases {
            let plain = !case.id.is_empty() && !case.id.starts_with('.') && !case.id.contains(['/', '\\']);
            if !plain {
                let problem = format!("`{}` cannot be the name of a case", case.id);
                let fix = "rename the file: names of cases do not begin with a dot and have no slash in them";
                return Err(Error::invalid(case.images.first(), "file name", problem, fix));
            }
            let other = folded.insert(case.id.to_lowercase(), case);
            if let Some(other) = other.filter(|other| other.id != case.id) {
                return Err(Error::invalid(
                    &self.source,
                    format!("case `{}`", case.id),
                    format!("differs from the case `{}` in capitals alone", other.id),
                    "rename one of them: on many systems their files would be the same",
                ));
            }
        }
        for pair in self.cases.windows(2) {
            if pair[0].id == pair[1].id {
                let files = [&pair[0], &pair[1]].map(|case| case.images.first().display().to_string());
                return Err(Error::invalid(
                    &self.source,
                    format!("case `{}`", pair[0].id),
                    format!("is there twice: {}", files.join(" and ")),
                    "rename or remove one of them",
                ));
            }
        }
        if self.count(Part::Training) == 0 {
            return Err(Error::invalid(
                &self.source,
                self.layout.to_string(),
                format!("none of the {} cases is one with labels to train on", self.cases.len()),
                "give the folder of the training cases",
            ));
        }
        Ok(())
    }

    /// Every value must be one that the classes know.
    pub(super) fn check_values(&self, values: &survey::ValuesByFile) -> Result<()> {
        for case in &self.cases {
            let Some(labels) = &case.labels else { continue };
            let allowed: Vec<u8> = match &labels.values {
                Values::Unite => continue,
                Values::Renumber(pairs) => pairs.iter().map(|(old, _)| *old).collect(),
                Values::Keep => self.classes.values(),
            };
            for file in &labels.files {
                let mut present = values.get(file).into_iter().flat_map(BTreeMap::keys);
                let unknown = present.find(|value| !allowed.contains(value));
                if let Some(unknown) = unknown {
                    let allowed: Vec<String> = allowed.iter().map(u8::to_string).collect();
                    return Err(Error::invalid(
                        file,
                        "labels",
                        format!(
                            "has the value {unknown}, but {} has only {}",
                            self.layout,
                            allowed.join(", ")
                        ),
                        "fix the file, or bring the set into nnU-Net layout by hand if its values mean something else",
                    ));
                }
            }
        }
        Ok(())
    }
}

//! Which cases are of one patient, so that no fold has a patient on both sides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use csv_core::{ReadRecordResult, ReaderBuilder};

use super::{Found, Part};
use crate::data::dataset::{Fold, by_patient};
use crate::{Error, Result, files};

/// What tells the patient of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// A part of the case's name.
    Pattern(Pattern),
    /// A file with a line `case,patient` for every case.
    Table(PathBuf),
}

/// The name of a case with `{patient}` in it; `*` stands for any text without an underscore, `**` for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// Any text without an underscore.
    Word,
    Any,
    Patient,
}

const PATIENT: &str = "{patient}";

impl FromStr for GroupBy {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text.contains(PATIENT) {
            return Pattern::parse(text).map(Self::Pattern);
        }
        let path = PathBuf::from(text);
        match path.is_file() || path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
            true => Ok(Self::Table(path)),
            false => Err(format!(
                "write a pattern with {PATIENT}, such as '{PATIENT}_ses-*', or name a CSV file with the columns case \
                 and patient"
            )),
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let known = [(PATIENT, Piece::Patient), ("**", Piece::Any), ("*", Piece::Word)];
            let found = known.into_iter().find_map(|(sign, piece)| Some((piece, rest.strip_prefix(sign)?)));
            if let Some((piece, after)) = found {
                pieces.push(piece);
                rest = after;
                continue;
            }
            let end = rest.find(['*', '{']).filter(|end| *end > 0).unwrap_or(if rest.starts_with('{') {
                1
            } else {
                rest.len()
            });
            pieces.push(Piece::Literal(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        match pieces.iter().filter(|piece| **piece == Piece::Patient).count() {
            1 => Ok(Self { text: text.to_owned(), pieces }),
            _ => Err(format!("`{text}` has {PATIENT} more than once")),
        }
    }

    /// Every patient that the name can be read to have.
    fn patients<'a>(&self, name: &'a str) -> Vec<&'a str> {
        let mut found = Vec::new();
        read(&self.pieces, name, None, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn read<'a>(pieces: &[Piece], rest: &'a str, patient: Option<&'a str>, found: &mut Vec<&'a str>) {
    let Some((piece, others)) = pieces.split_first() else {
        if rest.is_empty() {
            found.extend(patient);
        }
        return;
    };
    if let Piece::Literal(literal) = piece {
        if let Some(after) = rest.strip_prefix(literal.as_str()) {
            read(others, after, patient, found);
        }
        return;
    }
    for end in rest.char_indices().map(|(at, _)| at).chain([rest.len()]) {
        let (text, after) = rest.split_at(end);
        match piece {
            Piece::Word if text.contains('_') => break,
            Piece::Patient if text.is_empty() => {}
            Piece::Patient => read(others, after, Some(text), found),
            _ => read(others, after, patient, found),
        }
    }
}

/// Folds that never have a patient on both sides, and a word about them.
///
/// # Errors
/// Where a case has no patient or could have several, or there is only one patient.
pub(super) fn group(found: &mut Found, group_by: &GroupBy) -> Result<()> {
    let ids = training_ids(found);
    let patients = match group_by {
        GroupBy::Pattern(pattern) => {
            ids.iter().map(|id| by_pattern(pattern, id)).collect::<Result<Vec<_>>>()?
        }
        GroupBy::Table(path) => by_table(path, &ids)?,
    };
    if !found.splits.is_empty() {
        found.notes.push("--group-by makes the folds; those of the source are not kept".to_owned());
    }
    found.splits = folds(&ids, &patients, &mut found.notes)?;
    Ok(())
}

/// As [`group`], by the subjects of BIDS, where one has several sessions.
pub(super) fn group_subjects(found: &mut Found) -> Result<()> {
    let ids = training_ids(found);
    let subject = |id: &String| id.split('_').next().unwrap_or_default().to_owned();
    let patients: Vec<String> = ids.iter().map(subject).collect();
    let different = patients.windows(2).all(|pair| pair[0] != pair[1]);
    let one = patients.windows(2).all(|pair| pair[0] == pair[1]);
    if !different && !one && found.splits.is_empty() {
        found.splits = folds(&ids, &patients, &mut found.notes)?;
    }
    Ok(())
}

fn training_ids(found: &Found) -> Vec<String> {
    let training = found.cases.iter().filter(|case| case.part == Part::Training);
    training.map(|case| case.id.clone()).collect()
}

fn folds(ids: &[String], patients: &[String], notes: &mut Vec<String>) -> Result<Vec<Fold>> {
    let mut cases: BTreeMap<&str, usize> = BTreeMap::new();
    patients.iter().for_each(|patient| *cases.entry(patient).or_default() += 1);
    if let ([(patient, _)], true) = (cases.iter().collect::<Vec<_>>().as_slice(), ids.len() > 1) {
        return Err(Error::config(
            "--group-by",
            format!("all {} training cases are of one patient, `{patient}`", ids.len()),
            "choose another rule: folds need at least two patients",
        ));
    }
    let folds = by_patient(ids, patients)?;
    let most = cases
        .iter()
        .max_by_key(|(_, count)| **count)
        .map_or((String::new(), 0), |(p, n)| ((*p).to_owned(), *n));
    notes.push(format!(
        "{} patients in {} folds, none on both sides of one; `{}` has the most cases, {}",
        cases.len(),
        folds.len(),
        most.0,
        most.1
    ));
    Ok(folds)
}

fn by_pattern(pattern: &Pattern, id: &str) -> Result<String> {
    let error = |problem: String, fix: &str| Error::config("--group-by", problem, fix);
    match pattern.patients(id).as_slice() {
        [patient] => Ok((*patient).to_owned()),
        [] => Err(error(
            format!("`{}` does not fit the case `{id}`", pattern.text),
            "`{patient}` is the patient, `*` any text without an underscore, `**` any text; or name a CSV file with the \
             columns case and patient",
        )),
        several => Err(error(
            format!("`{}` reads the case `{id}` in several ways: {}", pattern.text, several.join(", ")),
            "use `*`, which has no underscore in it, instead of `**`, or more of the name; or name a CSV file",
        )),
    }
}

/// The patients of the cases by a table.
fn by_table(path: &Path, ids: &[String]) -> Result<Vec<String>> {
    let mut known: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for (line, case, patient) in rows(path)? {
        let other = known.insert(case.clone(), (patient.clone(), line));
        if let Some((other, first)) = other.filter(|(other, _)| *other != patient) {
            return Err(Error::invalid(
                path,
                format!("line {line}"),
                format!("case `{case}` is of patient `{patient}`, but of `{other}` in line {first}"),
                "give each case once",
            ));
        }
    }
    let missing: Vec<String> = ids.iter().filter(|id| !known.contains_key(*id)).cloned().collect();
    if let Some(first) = missing.first() {
        return Err(Error::invalid(
            path,
            "case",
            format!("{} of {} training cases are not in it, such as `{first}`", missing.len(), ids.len()),
            "add a line for each; segen import --dry-run without --group-by shows the names of the cases",
        ));
    }
    Ok(ids.iter().map(|id| known[id].0.clone()).collect())
}

/// Line, case and patient of every row.
fn rows(path: &Path) -> Result<Vec<(usize, String, String)>> {
    let text = files::read_text(path)?;
    let first = text.lines().next().unwrap_or_default();
    let delimiter =
        [b',', b';', b'\t'].into_iter().find(|sign| first.contains(char::from(*sign))).unwrap_or(b',');
    let fix = "write a line `case,patient` and one such line for every case";
    let mut columns = None;
    let mut rows = Vec::new();
    for (line, fields) in records(&text, delimiter) {
        let fields: Vec<&str> = fields.iter().map(|field| field.trim()).collect();
        if fields.iter().all(|field| field.is_empty()) {
            continue;
        }
        let Some((case, patient)) = columns else {
            let column = |name: &str| fields.iter().position(|field| field.eq_ignore_ascii_case(name));
            let (Some(case), Some(patient)) = (column("case"), column("patient")) else {
                let problem = format!("the columns are {}, not case and patient", fields.join(", "));
                return Err(Error::invalid(path, format!("line {line}"), problem, fix));
            };
            columns = Some((case, patient));
            continue;
        };
        match (fields.get(case), fields.get(patient)) {
            (Some(case), Some(patient)) if !case.is_empty() && !patient.is_empty() => {
                rows.push((line, (*case).to_owned(), (*patient).to_owned()));
            }
            _ => {
                let problem = "has no case or no patient".to_owned();
                return Err(Error::invalid(path, format!("line {line}"), problem, fix));
            }
        }
    }
    if rows.is_empty() {
        return Err(Error::invalid(path, "lines", "there is no case in it", fix));
    }
    Ok(rows)
}

/// The records of a CSV text, each with the line that it begins in.
fn records(text: &str, delimiter: u8) -> Vec<(usize, Vec<String>)> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).build();
    // No field is longer than the text, and no record has more fields than the text has bytes.
    let (mut output, mut ends) = (vec![0; text.len() + 1], vec![0; text.len() + 1]);
    let mut records = Vec::new();
    let (mut read, mut written, mut fields) = (0, 0, 0);
    let (mut line, mut counted) = (1, 0);
    loop {
        if (written, fields) == (0, 0) {
            let start = text.len() - text[read..].trim_start_matches(['\r', '\n']).len();
            line += text[counted..start].matches('\n').count();
            counted = start;
        }
        let input = &text.as_bytes()[read..];
        let (result, consumed, wrote, ended) =
            reader.read_record(input, &mut output[written..], &mut ends[fields..]);
        read += consumed;
        written += wrote;
        fields += ended;
        match result {
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::Record => {
                let starts = std::iter::once(0).chain(ends[..fields].iter().copied());
                let field = |(start, end): (usize, &usize)| {
                    String::from_utf8_lossy(&output[start..*end]).into_owned()
                };
                records.push((line, starts.zip(&ends[..fields]).map(field).collect()));
                (written, fields) = (0, 0);
            }
            // The buffers hold any text, so that the end is all that is left.
            ReadRecordResult::End | ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                return records;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patients(pattern: &str, name: &str) -> Vec<String> {
        let pattern = Pattern::parse(pattern).unwrap();
        pattern.patients(name).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_pattern_takes_the_patient_out_of_a_name() {
        for (pattern, name, expected) in [
            ("{patient}_ses-*", "sub-01_ses-2", &["sub-01"][..]),
            ("{patient}_*", "a_b_c", &["a_b"]),
            ("{patient}_**", "a_b_c", &["a", "a_b"]),
            ("*_{patient}_*", "site_p01_2", &["p01"]),
            ("pat{patient}_v*", "pat7_v2", &["7"]),
            ("{patient}_ses-*", "sub-01", &[]),
            ("{patient}_x", "_x", &[]),
            ("{patient}{a", "p{a", &["p"]),
        ] {
            assert_eq!(patients(pattern, name), expected, "{pattern}, {name}");
        }
        assert!("{patient}_{patient}".parse::<GroupBy>().is_err());
        assert!("sub-*".parse::<GroupBy>().unwrap_err().contains("{patient}"));
        assert_eq!("a.CSV".parse::<GroupBy>().unwrap(), GroupBy::Table("a.CSV".into()));
    }

    #[test]
    fn a_table_is_read_with_quotes_other_separators_and_other_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            rows(&path).map_err(|error| error.to_string())
        };
        let row = |line: usize, case: &str, patient: &str| (line, case.to_owned(), patient.to_owned());
        let expected = vec![row(2, "a", "p,1"), row(4, "b", "q")];
        assert_eq!(read("case,patient\na,\"p,1\"\n\nb, q\n").unwrap(), expected);
        assert_eq!(read("\u{feff}Patient;age;Case\r\n\"p,1\";3;a\r\n\r\nq;4;b").unwrap(), expected);
        assert!(read("id,subject\na,b\n").unwrap_err().contains("columns are id, subject"));
        assert!(read("case,patient\na\n").unwrap_err().contains("line 2: has no case or no patient"));
        assert!(read("").unwrap_err().contains("there is no case"));
        assert_eq!(records("a,b", b','), [(1, vec!["a".to_owned(), "b".to_owned()])]);
    }
}

//! The part of Python in which DeepMedic's `.cfg` files are written: names that are given literals.
//!
//! DeepMedic executes these files; here they are read, and never executed. What is not `name = literal` is skipped,
//! and a value that is no literal is an error only when somebody asks for its name.

use std::path::Path;

use crate::{Error, Result};

/// A value that stands for itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Number(f64),
    Text(String),
    Truth(bool),
    Nothing,
    /// A list or a tuple.
    List(Vec<Self>),
    /// A dictionary; nothing that is needed is in one.
    Table(Vec<(Self, Self)>),
}

/// The assignments of a file in their order.
pub(super) struct Assignments(Vec<Assignment>);

struct Assignment {
    name: String,
    line: usize,
    value: std::result::Result<Literal, String>,
}

impl Assignments {
    pub(super) fn parse(text: &str) -> Self {
        let mut parser = Parser { text: text.as_bytes(), next: 0, line: 1, counted: 0 };
        let mut found = Vec::new();
        while parser.next < parser.text.len() {
            found.extend(parser.statement());
        }
        Self(found)
    }

    /// Whether the name is there, with whatever value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|assignment| assignment.name == name)
    }

    /// The text, or the texts of a list, that `name` was given last; nothing where it is missing or `None`.
    ///
    /// # Errors
    /// Where the value is something else.
    pub(super) fn texts(&self, file: &Path, name: &str) -> Result<Vec<String>> {
        let Some(assignment) = self.0.iter().rev().find(|assignment| assignment.name == name) else {
            return Ok(Vec::new());
        };
        let text = |literal: &Literal| match literal {
            Literal::Text(text) => Some(text.clone()),
            _ => None,
        };
        let texts = match &assignment.value {
            Ok(Literal::Nothing) => Some(Vec::new()),
            Ok(Literal::List(items)) => items.iter().map(text).collect(),
            Ok(other) => text(other).map(|text| vec![text]),
            Err(_) => None,
        };
        texts.ok_or_else(|| {
            let problem = match &assignment.value {
                Err(problem) => problem.clone(),
                Ok(_) => "is neither a path nor a list of paths".to_owned(),
            };
            let field = format!("line {}, {name}", assignment.line);
            Error::invalid(
                file,
                field,
                problem,
                "write the paths as literals; nothing in this file is executed",
            )
        })
    }
}

/// Deeper nesting is no configuration.
const DEEPEST: usize = 32;

struct Parser<'a> {
    text: &'a [u8],
    next: usize,
    /// The line, counted from 1, of the byte `counted`.
    line: usize,
    counted: usize,
}

type Parsed<T> = std::result::Result<T, String>;

impl Parser<'_> {
    /// One statement from the beginning of a line on; leaves the parser at the beginning of a later line.
    fn statement(&mut self) -> Option<Assignment> {
        self.space(true);
        self.line += self.text[self.counted..self.next].iter().filter(|byte| **byte == b'\n').count();
        self.counted = self.next;
        let line = self.line;
        let found = match self.peek() {
            Some(b'"' | b'\'') => {
                // A text that stands alone is a comment of several lines.
                let _ = self.quoted();
                None
            }
            _ => self.assignment(line),
        };
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.next += 1;
        }
        self.next += 1;
        found
    }

    fn assignment(&mut self, line: usize) -> Option<Assignment> {
        let name = self.word();
        self.space(false);
        if name.is_empty() || self.peek() != Some(b'=') || self.text.get(self.next + 1) == Some(&b'=') {
            return None;
        }
        self.next += 1;
        let start = self.next;
        self.space(false);
        let value = self.value(0).and_then(|value| {
            self.space(false);
            match self.peek() {
                None | Some(b'\n' | b'\r' | b'#' | b';') => Ok(value),
                Some(_) => Err("is not a literal".to_owned()),
            }
        });
        if value.is_err() {
            // Whatever it was, the next line may be sound again.
            self.next = start;
        }
        Some(Assignment { name, line, value })
    }

    /// A literal, possibly with a sign or a power, as in `10**(-4)`.
    fn value(&mut self, depth: usize) -> Parsed<Literal> {
        if depth > DEEPEST {
            return Err("is nested too deeply".to_owned());
        }
        if self.peek() == Some(b'-') {
            self.next += 1;
            self.space(false);
            return match self.value(depth + 1)? {
                Literal::Number(number) => Ok(Literal::Number(-number)),
                _ => Err("has a sign before something that is no number".to_owned()),
            };
        }
        let value = self.atom(depth)?;
        let after = self.next;
        self.space(false);
        if !self.text[self.next..].starts_with(b"**") {
            self.next = after;
            return Ok(value);
        }
        self.next += 2;
        self.space(false);
        match (value, self.value(depth + 1)?) {
            (Literal::Number(base), Literal::Number(power)) => Ok(Literal::Number(base.powf(power))),
            _ => Err("has a power of something that is no number".to_owned()),
        }
    }

    fn atom(&mut self, depth: usize) -> Parsed<Literal> {
        match self.peek() {
            Some(b'"' | b'\'') => self.quoted().map(Literal::Text),
            Some(b'[') => Ok(Literal::List(self.items(b']', depth)?.0)),
            Some(b'(') => match self.items(b')', depth)? {
                // Brackets around one value are no tuple.
                (mut items, false) if items.len() == 1 => Ok(items.remove(0)),
                (items, _) => Ok(Literal::List(items)),
            },
            Some(b'{') => self.table(depth),
            Some(byte) if byte.is_ascii_digit() || byte == b'.' => self.number(),
            _ => match self.word().as_str() {
                "True" => Ok(Literal::Truth(true)),
                "False" => Ok(Literal::Truth(false)),
                "None" => Ok(Literal::Nothing),
                "" => Err("is not a literal".to_owned()),
                other => Err(format!("uses `{other}`, which is not a literal")),
            },
        }
    }

    /// Values up to `end`, and whether a comma followed the last.
    fn items(&mut self, end: u8, depth: usize) -> Parsed<(Vec<Literal>, bool)> {
        self.next += 1;
        let mut items = Vec::new();
        let mut comma = false;
        loop {
            self.space(true);
            if self.peek() == Some(end) {
                self.next += 1;
                return Ok((items, comma));
            }
            if !items.is_empty() && !comma {
                return Err("has values without a comma between them, or does not end".to_owned());
            }
            items.push(self.value(depth + 1)?);
            self.space(true);
            comma = self.peek() == Some(b',');
            self.next += usize::from(comma);
        }
    }

    fn table(&mut self, depth: usize) -> Parsed<Literal> {
        self.next += 1;
        let mut entries = Vec::new();
        loop {
            self.space(true);
            if self.peek() == Some(b'}') {
                self.next += 1;
                return Ok(Literal::Table(entries));
            }
            let key = self.value(depth + 1)?;
            self.space(true);
            if self.peek() != Some(b':') {
                return Err("has a dictionary with a key and no value".to_owned());
            }
            self.next += 1;
            self.space(true);
            entries.push((key, self.value(depth + 1)?));
            self.space(true);
            match self.peek() {
                Some(b',') => self.next += 1,
                Some(b'}') => {}
                _ => return Err("has a dictionary that does not end".to_owned()),
            }
        }
    }

    fn number(&mut self) -> Parsed<Literal> {
        let start = self.next;
        while let Some(byte) = self.peek() {
            let exponent_sign = matches!(byte, b'+' | b'-')
                && matches!(self.text[self.next - 1], b'e' | b'E')
                && self.next > start;
            if !(byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_' || exponent_sign) {
                break;
            }
            self.next += 1;
        }
        let digits = String::from_utf8_lossy(&self.text[start..self.next]).replace('_', "");
        digits.parse().map(Literal::Number).map_err(|_| format!("has `{digits}`, which is no number"))
    }

    /// A text in one or three quotation marks of either kind.
    fn quoted(&mut self) -> Parsed<String> {
        let quote = self.text[self.next];
        let triple = self.text[self.next..].starts_with(&[quote; 3]);
        let end = vec![quote; if triple { 3 } else { 1 }];
        self.next += end.len();
        let mut bytes = Vec::new();
        while let Some(byte) = self.peek() {
            if self.text[self.next..].starts_with(&end) {
                self.next += end.len();
                return String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned());
            }
            if byte == b'\n' && !triple {
                break;
            }
            self.next += 1;
            match (byte, self.peek()) {
                (b'\\', Some(escaped)) => {
                    self.next += 1;
                    match escaped {
                        b'n' => bytes.push(b'\n'),
                        b't' => bytes.push(b'\t'),
                        b'\\' | b'\'' | b'"' => bytes.push(escaped),
                        // Python keeps a backslash that means nothing, as in a Windows path.
                        other => bytes.extend([b'\\', other]),
                    }
                }
                _ => bytes.push(byte),
            }
        }
        Err("has a text that does not end".to_owned())
    }

    fn word(&mut self) -> String {
        let start = self.next;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            self.next += 1;
        }
        String::from_utf8_lossy(&self.text[start..self.next]).into_owned()
    }

    /// Skips blanks and, inside brackets or between statements, line ends and comments.
    fn space(&mut self, lines: bool) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' => self.next += 1,
                b'\r' | b'\n' if lines => self.next += 1,
                b'#' if lines => {
                    while self.peek().is_some_and(|byte| byte != b'\n') {
                        self.next += 1;
                    }
                }
                _ => break,
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.next).copied()
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn value(text: &str) -> Parsed<Literal> {
        let mut found = Assignments::parse(&format!("x = {text}\n")).0;
        assert_eq!(found.len(), 1, "{text}");
        found.remove(0).value
    }

    #[test]
    fn literals_are_read() {
        use Literal::{List, Nothing, Number, Table, Text, Truth};
        let text = |text: &str| Text(text.to_owned());
        for (source, expected) in [
            ("'a'", text("a")),
            (r#""a\"b\\c\d" # comment"#, text("a\"b\\c\\d")),
            ("3", Number(3.0)),
            ("-1.5e-3", Number(-0.0015)),
            ("10**(-4)", Number(1e-4)),
            ("-2**2", Number(-4.0)),
            ("(45., 2,)", List(vec![Number(45.0), Number(2.0)])),
            ("(7)", Number(7.0)),
            ("[]", List(vec![])),
            ("[True, False,\n  None] ", List(vec![Truth(true), Truth(false), Nothing])),
            ("{'a': {'b': 1}, 'c': None}", {
                Table(vec![(text("a"), Table(vec![(text("b"), Number(1.0))])), (text("c"), Nothing)])
            }),
        ] {
            assert_eq!(value(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn everything_else_is_refused_and_never_executed() {
        for source in [
            "open('x')",
            "__import__('os')",
            "[1 2]",
            "'a",
            "[1,",
            "{1}",
            "{1: 2",
            "a.b",
            "1 if True else 2",
            "'a' + 'b'",
            "",
            "-'a'",
            "1x",
            &format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        ] {
            assert!(value(source).is_err(), "{:.20}", source);
        }
    }

    #[test]
    fn damaged_files_never_panic() {
        let sound =
            b"a = ['x', (1, -2.5e-3), {'k': None}] # c\n'''text'''\nb = 10**(-4)\nchannels = [\"./c.cfg\"]\n";
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..2000 {
            let mut bytes = sound.to_vec();
            for _ in 0..random.random_range(1..8) {
                let place = random.random_range(0..bytes.len());
                match random.random_range(0..3) {
                    0 => bytes[place] = random.random(),
                    1 => bytes.truncate(place.max(1)),
                    _ => bytes.insert(place, b"[](){}'\",:-*=#\\\n"[random.random_range(0..16)]),
                }
            }
            let found = Assignments::parse(&String::from_utf8_lossy(&bytes));
            let _ = found.texts(Path::new("x.cfg"), "a");
        }
    }

    #[test]
    fn the_last_assignment_counts_and_other_lines_are_skipped() {
        let text = "# -*- coding -*-\nimport os\na = 'first'\n\"\"\"\na = 'in a comment'\n\"\"\"\n[Optional] words\n\
                    b = f(1)\na = ['x', \"y\"]  # last\nif a == 'c': pass\n  c = None\r\n";
        let found = Assignments::parse(text);
        let file = Path::new("train.cfg");
        assert_eq!(found.texts(file, "a").expect("a list"), ["x", "y"]);
        assert_eq!(found.texts(file, "c").expect("nothing"), Vec::<String>::new());
        assert_eq!(found.texts(file, "absent").expect("nothing"), Vec::<String>::new());
        let message = found.texts(file, "b").expect_err("not a literal").to_string();
        assert!(message.contains("`train.cfg`: line 8, b: uses `f`"), "{message}");
    }
}

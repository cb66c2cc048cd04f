//! A task's share of the scans, for jobs that run side by side.

use std::fmt;
use std::str::FromStr;

/// One of several shares of a sorted list, numbered from 1: every n-th of its entries, so that neighbours, which are
/// often of one kind and size, come into different shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    number: usize,
    of: usize,
}

impl Part {
    /// The only share: everything.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// The entries of this share. The shares of a list are disjoint and hold all of it.
    pub fn take<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.number - 1).step_by(self.of).collect()
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            Some((0, _)) => Err("parts are numbered from 1, as in 1/4".to_owned()),
            Some((number, of)) => {
                Err(format!("there is no part {number} of {of}: write 1/{of} to {of}/{of}"))
            }
            None => Err("write the number of the part and how many there are, as in 1/4".to_owned()),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_and_hold_everything() {
        for count in 0..12 {
            for of in 1..15 {
                let parts = (1..=of).map(|number| Part { number, of }.take((0..count).collect()));
                let mut all: Vec<usize> = parts.flatten().collect();
                all.sort_unstable();
                assert_eq!(all, (0..count).collect::<Vec<_>>(), "{count} in {of}");
            }
        }
        assert_eq!(Part::WHOLE.take(vec![1, 2]), [1, 2]);
    }

    #[test]
    fn a_part_is_a_number_of_so_many() {
        assert_eq!("2/3".parse(), Ok(Part { number: 2, of: 3 }));
        for (text, words) in [
            ("0/3", "from 1"),
            ("4/3", "no part 4 of 3"),
            ("1/0", "no part"),
            ("2", "as in 1/4"),
            ("-1/3", "as in"),
            ("1/3/5", "as in"),
        ] {
            let error = text.parse::<Part>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}

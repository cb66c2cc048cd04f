//! Names of labels that come in a left and a right form.

/// The pairs among label names that differ in their side alone, as (left, right) indices into `names`.
///
/// A name is split into lower-case words at separators, at digits and where a capital follows a small letter
/// (`LeftKidney`). A word names a side if it is `left`, `l`, `lt`, `lh`, `lhs`, `links`, `sinister`, `sin`,
/// or the same for right (`right`, `r`, `rt`, `rh`, `rhs`, `rechts`, `dexter`, `dex`), or begins or ends with
/// `left` or `right` (`leftkidney`). Two names are a pair if exchanging the sides of one gives the other.
pub fn left_right_pairs<S: AsRef<str>>(names: &[S]) -> Vec<(usize, usize)> {
    let words: Vec<Vec<String>> = names.iter().map(|name| split(name.as_ref())).collect();
    let mut pairs = Vec::new();
    for (left, name) in words.iter().enumerate() {
        let Some(mirrored) = exchange(name) else { continue };
        for (right, other) in words.iter().enumerate() {
            if *other == mirrored && first_side(name) == Some(LEFT) {
                pairs.push((left, right));
            }
        }
    }
    pairs
}

/// Which axes of samples along RAS+ axes may be mirrored without making a left structure look like its right
/// partner: x is left out where `label_names` holds a pair of [`left_right_pairs`].
pub fn mirror_axes<S: AsRef<str>>(label_names: &[S]) -> [bool; 3] {
    [left_right_pairs(label_names).is_empty(), true, true]
}

/// Words for the two sides, in pairs (left, right).
const SIDES: [[&str; 2]; 8] = [
    ["left", "right"],
    ["l", "r"],
    ["lt", "rt"],
    ["lh", "rh"],
    ["lhs", "rhs"],
    ["links", "rechts"],
    ["sinister", "dexter"],
    ["sin", "dex"],
];
const LEFT: usize = 0;

fn split(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous = ' ';
    for letter in name.chars() {
        let breaks =
            letter.is_uppercase() && previous.is_lowercase() || letter.is_numeric() != previous.is_numeric();
        if breaks {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().expect("never empty").extend(letter.to_lowercase());
        } else {
            words.push(String::new());
        }
        previous = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The word for the other side, and which side this one is; `None` for a word that names none.
fn other_side(word: &str) -> Option<(String, usize)> {
    for pair in SIDES {
        for side in 0..2 {
            if word == pair[side] {
                return Some((pair[1 - side].to_owned(), side));
            }
        }
    }
    let [left, right] = SIDES[0];
    for (side, here, there) in [(0, left, right), (1, right, left)] {
        if let Some(rest) = word.strip_prefix(here) {
            return Some((format!("{there}{rest}"), side));
        }
        if let Some(rest) = word.strip_suffix(here) {
            return Some((format!("{rest}{there}"), side));
        }
    }
    None
}

fn exchange(words: &[String]) -> Option<Vec<String>> {
    first_side(words)?;
    Some(words.iter().map(|word| other_side(word).map_or_else(|| word.clone(), |(other, _)| other)).collect())
}

fn first_side(words: &[String]) -> Option<usize> {
    words.iter().find_map(|word| other_side(word)).map(|(_, side)| side)
}

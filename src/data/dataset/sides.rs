//! Left and right: which names mean the two sides of one thing, and what mirroring along x does to them.
//!
//! This is the only place that decides it: the check of a data set, the augmentation and mirrored prediction all
//! ask a [`Sides`].

use super::{LabelScheme, Trained};

/// What mirroring an image along x (the left-right axis of prepared samples) does to its classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// Classes that change places, (left, right), so that a left structure stays a left one.
    pub pairs: Vec<[u8; 2]>,
    /// Names of left and right structures that no exchange of classes can keep apart: regions of several values
    /// without a counterpart for each, or a class whose other side is not trained. Where there is one, x is never
    /// mirrored.
    pub bound: Vec<[String; 2]>,
}

impl Sides {
    /// From the names of classes alone, background first.
    pub fn of_names<S: AsRef<str>>(names: &[S]) -> Self {
        let pairs = left_right_pairs(names).into_iter();
        let pairs =
            pairs.filter_map(|(left, right)| Some([u8::try_from(left).ok()?, u8::try_from(right).ok()?]));
        Self { pairs: pairs.collect(), bound: Vec::new() }
    }

    /// Which axes of prepared samples (x to the right, y to the front, z to the top) may be mirrored while every
    /// class keeps its number.
    pub fn mirror_axes(&self) -> [bool; 3] {
        [self.pairs.is_empty() && self.bound.is_empty(), true, true]
    }

    /// Whether x may be mirrored where the classes of [`Self::pairs`] change places with it.
    pub fn exchangeable(&self) -> bool {
        self.bound.is_empty()
    }
}

impl LabelScheme {
    /// What mirroring along x does to the trained classes, from the names of classes and regions.
    pub fn sides(&self) -> Sides {
        let mut sides = Sides::of_names(&self.names);
        match &self.trained {
            Trained::Values => {
                // What exchanging classes makes of a set of label values.
                let exchanged = |values: &[u8]| {
                    let other = |value: &u8| {
                        let pair = sides.pairs.iter().find(|pair| pair.contains(value));
                        pair.map_or(*value, |[left, right]| if value == left { *right } else { *left })
                    };
                    let mut values: Vec<u8> = values.iter().map(other).collect();
                    values.sort_unstable();
                    values
                };
                let names: Vec<&str> = self.regions.iter().map(|region| region.name.as_str()).collect();
                let bound = left_right_pairs(&names).into_iter().filter(|(left, right)| {
                    exchanged(&self.regions[*left].values) != self.regions[*right].values
                });
                let bound = bound.map(|(left, right)| [names[left].to_owned(), names[right].to_owned()]);
                sides.bound = bound.collect();
            }
            // A side whose counterpart is background to the network would be taught as its own mirror image.
            Trained::Regions { values } => {
                let known: Vec<&str> =
                    self.names.iter().chain(values.iter().skip(1)).map(String::as_str).collect();
                let trained = self.names.len();
                let bound = left_right_pairs(&known).into_iter().filter(|(left, right)| {
                    (*left < trained) != (*right < trained)
                        && !sides
                            .pairs
                            .iter()
                            .flatten()
                            .any(|class| [*left, *right].contains(&usize::from(*class)))
                });
                let bound = bound.map(|(left, right)| [known[left].to_owned(), known[right].to_owned()]);
                sides.bound = bound.collect();
            }
        }
        sides
    }
}

/// The pairs among names that differ in their side alone, as (left, right) indices into `names`.
///
/// A name is split into lower-case words at separators, at digits and at capitals (`LeftKidney`, `LKidney`). A word
/// names a side if it stands in one of the lists below, or begins or ends with one of the longer ones
/// (`leftkidney`). Two names are a pair if they differ only in that every left of one is a right of the other.
pub fn left_right_pairs<S: AsRef<str>>(names: &[S]) -> Vec<(usize, usize)> {
    let marked: Vec<Vec<String>> =
        names.iter().map(|name| split(name.as_ref()).iter().map(|word| mark(word)).collect()).collect();
    let mut pairs = Vec::new();
    for (left, name) in marked.iter().enumerate() {
        let first = name.iter().find_map(|word| word.chars().find(|letter| [LEFT, RIGHT].contains(letter)));
        if first == Some(LEFT) {
            let mirrored: Vec<String> = name.iter().map(|word| exchange(word)).collect();
            let partners = marked.iter().enumerate().filter(|(_, other)| **other == mirrored);
            pairs.extend(partners.map(|(right, _)| (left, right)));
        }
    }
    pairs
}

/// What stands for a word of either side while names are compared; no name has such letters.
const LEFT: char = '\u{1}';
const RIGHT: char = '\u{2}';

/// Words for left: English, German and Dutch, Latin as radiologists shorten it, French, Italian, Spanish,
/// Portuguese.
const LEFT_WORDS: &[&str] = &[
    "left",
    "l",
    "lt",
    "lft",
    "lh",
    "lhs",
    "links",
    "link",
    "linke",
    "linker",
    "linkes",
    "linken",
    "li",
    "sinister",
    "sinistra",
    "sinistrum",
    "sin",
    "sn",
    "gauche",
    "gche",
    "sinistro",
    "sx",
    "izquierdo",
    "izquierda",
    "izq",
    "esquerdo",
    "esquerda",
    "esq",
];
/// Words for right, in the same languages.
const RIGHT_WORDS: &[&str] = &[
    "right", "r", "rt", "rgt", "rh", "rhs", "rechts", "recht", "rechte", "rechter", "rechtes", "rechten",
    "re", "dexter", "dextra", "dextrum", "dex", "dext", "droite", "droit", "dte", "destro", "destra", "dx",
    "derecho", "derecha", "der", "direito", "direita", "dir",
];
/// Words that are recognised within longer ones.
const COMPOUNDS: [(&str, char); 6] = [
    ("left", LEFT),
    ("right", RIGHT),
    ("links", LEFT),
    ("rechts", RIGHT),
    ("gauche", LEFT),
    ("droite", RIGHT),
];

fn split(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (index, letter) in letters.iter().enumerate() {
        let previous = index.checked_sub(1).map_or(' ', |before| letters[before]);
        let next_is_small = letters.get(index + 1).is_some_and(|next| next.is_lowercase());
        let capital =
            letter.is_uppercase() && (previous.is_lowercase() || previous.is_uppercase() && next_is_small);
        if capital || letter.is_numeric() != previous.is_numeric() {
            words.push(String::new());
        }
        match words.last_mut() {
            Some(word) if letter.is_alphanumeric() => word.extend(letter.to_lowercase()),
            _ => words.push(String::new()),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The word with a mark in the place of its side.
fn mark(word: &str) -> String {
    for (words, side) in [(LEFT_WORDS, LEFT), (RIGHT_WORDS, RIGHT)] {
        if words.contains(&word) {
            return side.to_string();
        }
    }
    for (compound, side) in COMPOUNDS {
        if let Some(rest) = word.strip_prefix(compound) {
            return format!("{side}{rest}");
        }
        if let Some(rest) = word.strip_suffix(compound) {
            return format!("{rest}{side}");
        }
    }
    word.to_owned()
}

fn exchange(word: &str) -> String {
    let other = |letter| match letter {
        LEFT => RIGHT,
        RIGHT => LEFT,
        letter => letter,
    };
    word.chars().map(other).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Region;
    use super::*;

    #[test]
    fn sides_are_found_in_the_usual_spellings_and_only_in_pairs() {
        for [left, right] in [
            ["Left Kidney", "Right Kidney"],
            ["femur_L", "femur_R"],
            ["lh-hippo", "rh-hippo"],
            ["LeftLung", "RightLung"],
            ["leftkidney", "rightkidney"],
            ["LKidney", "RKidney"],
            ["femur_lt", "femur_rt"],
            ["Niere links", "Niere rechts"],
            ["linke Niere", "rechte Niere"],
            ["ren sin", "ren dex"],
            ["ren sin.", "ren dext."],
            ["rein gauche", "rein droit"],
            ["jambe gauche", "jambe droite"],
            ["rene sx", "rene dx"],
            ["riñón izquierdo", "riñón derecho"],
            ["rim esquerdo", "rim direito"],
            ["rib_left_4", "rib_right_4"],
        ] {
            assert_eq!(left_right_pairs(&["background", right, left]), [(2, 1)], "{left}, {right}");
        }
        for names in [
            ["left atrium", "aorta"],
            ["liver", "river"],
            ["lr", "rl"],
            ["left_kidney", "right_lung"],
            ["upright", "leftover"],
            ["vertebra_L1", "vertebra_L2"],
            ["rib_left_4", "rib_right_5"],
            ["bright", "blight"],
            ["LV", "RV"],
        ] {
            assert!(left_right_pairs(&names).is_empty(), "{names:?}");
        }
    }

    fn scheme(names: &[&str], regions: &[(&str, &[u8])]) -> LabelScheme {
        let regions =
            regions.iter().map(|(name, values)| Region { name: (*name).into(), values: values.to_vec() });
        LabelScheme {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            regions: regions.collect(),
            ignore: None,
            regions_class_order: None,
            trained: Trained::Values,
        }
    }

    #[test]
    fn sides_that_are_regions_bind_the_axis_unless_exchanged_classes_make_one_of_the_other() {
        let plain = ["background", "label 1", "label 2", "label 3"];
        let sides = scheme(&plain, &[("left brain", &[1, 2]), ("right brain", &[3])]).sides();
        assert_eq!(sides.bound, [["left brain".to_owned(), "right brain".to_owned()]]);
        assert!(!sides.exchangeable());
        assert_eq!(sides.mirror_axes(), [false, true, true]);
        let named = ["background", "left kidney", "right kidney", "left cyst", "right cyst"];
        let regions: [(&str, &[u8]); 4] =
            [("left", &[1, 3]), ("right", &[2, 4]), ("left cyst", &[3]), ("right cyst", &[4])];
        let sides = scheme(&named, &regions).sides();
        assert_eq!((sides.pairs.as_slice(), sides.exchangeable()), ([[1, 2], [3, 4]].as_slice(), true));
        assert_eq!(sides.mirror_axes(), [false, true, true]);
    }

    #[test]
    fn a_side_that_is_trained_without_the_other_is_never_mirrored() {
        let names = ["background", "left kidney", "right kidney", "liver"];
        let all = scheme(&names, &[("left kidney", &[1]), ("right kidney", &[2]), ("liver", &[3])]);
        let select = |names: &[&str]| {
            all.select(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap().sides()
        };
        assert_eq!(select(&[]).pairs, [[1, 2]]);
        assert_eq!(select(&["right kidney", "left kidney"]), Sides { pairs: vec![[2, 1]], bound: vec![] });
        assert_eq!(select(&["liver"]), Sides::default());
        assert!(!select(&["left kidney", "liver"]).exchangeable());
        assert!(!select(&["right kidney"]).exchangeable());
    }
}

//! Mirror images of scans, as training showed them.

use std::collections::BTreeSet;

use crate::augment::{Op, Rule};
use crate::policy::Policy;

/// One mirror image of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mirror {
    /// Which of x, y and z run backwards.
    pub axes: [bool; 3],
    /// Classes that change places: a left structure of the mirror image is a right one of the scan.
    pub pairs: BTreeSet<[u8; 2]>,
}

/// The scan and its mirror images that are predicted; the scan as it is comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrors(Vec<Mirror>);

impl Default for Mirrors {
    /// The scan alone.
    fn default() -> Self {
        Self(vec![Mirror::default()])
    }
}

impl Mirrors {
    /// Every mirror image that a policy may draw at any step, and no other: where it mirrors along one axis at a time,
    /// those along one axis; where it mirrors independently along two, the one along both as well. Classes change
    /// places as they did in training.
    pub fn of_policy(policy: &Policy) -> Self {
        let mut found = BTreeSet::from([Mirror::default()]);
        for Rule { op, probability, .. } in &policy.rules {
            let unchanged = if *probability < 1.0 { found.clone() } else { BTreeSet::new() };
            let changed = if *probability > 0.0 { after(op, &found) } else { BTreeSet::new() };
            found = unchanged.into_iter().chain(changed).collect();
        }
        for group in &policy.groups {
            // One choice of each group is drawn, and softmax gives none of them a probability of 0.
            let choices = group.choices.iter();
            let drawn =
                choices.flat_map(|choice| choice.ops.iter().fold(found.clone(), |f, op| after(op, &f)));
            found = drawn.collect();
        }
        found.remove(&Mirror::default());
        let mut all = Self::default();
        all.0.extend(found);
        all.0.sort_by_key(Mirror::bits);
        all
    }

    /// All mirror images along these axes, no classes changing places.
    pub fn along(axes: [bool; 3]) -> Self {
        let images = (0..8).map(|bits| std::array::from_fn(|axis| bits >> axis & 1 == 1));
        let inside = |image: &[bool; 3]| (0..3).all(|axis| axes[axis] || !image[axis]);
        Self(images.filter(inside).map(|axes| Mirror { axes, pairs: BTreeSet::new() }).collect())
    }

    /// Those that the others have too.
    pub fn common(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|mirror| other.0.contains(mirror)).cloned().collect())
    }

    /// The scan and its images.
    pub fn iter(&self) -> std::slice::Iter<'_, Mirror> {
        self.0.iter()
    }

    /// How many there are, the scan itself counted.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The scan itself is always there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mirror images in words: `x, y, x and y`.
    pub fn names(&self) -> String {
        let name = |mirror: &Mirror| {
            let axes = ["x", "y", "z"].into_iter().zip(mirror.axes);
            axes.filter(|(_, backwards)| *backwards).map(|(name, _)| name).collect::<Vec<_>>().join(" and ")
        };
        self.0.iter().skip(1).map(name).collect::<Vec<_>>().join(", ")
    }
}

impl Mirror {
    /// For each of `count` classes, the class of the mirror image that it is.
    pub fn sources(&self, count: usize) -> Vec<usize> {
        let mut sources: Vec<usize> = (0..count).collect();
        for &[one, other] in &self.pairs {
            sources.swap(usize::from(one), usize::from(other));
        }
        sources
    }

    fn bits(&self) -> usize {
        (0..3).map(|axis| usize::from(self.axes[axis]) << axis).sum()
    }

    /// The image mirrored once more.
    fn turned(&self, axis: usize, pairs: &[[u8; 2]]) -> Self {
        let mut mirror = self.clone();
        mirror.axes[axis] = !mirror.axes[axis];
        for pair in pairs {
            // Exchanged twice is as it was.
            if !mirror.pairs.remove(pair) {
                mirror.pairs.insert(*pair);
            }
        }
        mirror
    }
}

/// What an operation may make of images.
fn after(op: &Op, found: &BTreeSet<Mirror>) -> BTreeSet<Mirror> {
    match op {
        Op::Flip { axis, pairs } => found.iter().map(|mirror| mirror.turned(*axis, pairs)).collect(),
        Op::Mirror { axes } => (0..3).filter(|&axis| axes[axis]).fold(found.clone(), |found, axis| {
            let turned: Vec<Mirror> = found.iter().map(|mirror| mirror.turned(axis, &[])).collect();
            found.into_iter().chain(turned).collect()
        }),
        _ => found.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::{Augmentation, Sharing};
    use crate::config::policy::Start;
    use crate::data::dataset::Sides;
    use crate::policy::operations::{Context, composed, single};

    fn names(policy: &Policy) -> String {
        Mirrors::of_policy(policy).names()
    }

    #[test]
    fn a_policy_knows_the_mirror_images_that_it_draws() {
        let nobody = Sides::of_names(&["background", "lesion"]);
        let list = |list| Policy::fixed("list", list);
        assert_eq!(names(&list(Augmentation::none())), "");
        assert_eq!(names(&list(Augmentation::deepmedic(&nobody))), "x");
        assert_eq!(
            names(&list(Augmentation::basic(None, [true; 3]))),
            "x, y, x and y, z, x and z, y and z, x and y and z"
        );
        assert_eq!(names(&list(Augmentation::basic(None, [false, true, true]))), "y, z, y and z");
        let context = Context::default();
        assert_eq!(names(&single(&context, Start::Uniform)), "x, y, z", "one operation at a time");
        assert_eq!(Mirrors::of_policy(&composed(&context, Start::Uniform)).len(), 8);
    }

    #[test]
    fn what_is_never_or_always_done_is_known() {
        let rule = |probability, axis| Rule {
            probability,
            sharing: Sharing::Independent,
            op: Op::Flip { axis, pairs: Vec::new() },
        };
        let policy = Policy { rules: vec![rule(0.0, 0), rule(0.5, 1)], ..Policy::default() };
        assert_eq!(names(&policy), "y");
        let policy = Policy { rules: vec![rule(0.5, 2), rule(0.5, 2)], ..Policy::default() };
        assert_eq!(names(&policy), "z", "mirrored twice is the scan itself");
    }

    #[test]
    fn left_and_right_change_places_as_they_did_in_training() {
        let sides = Sides::of_names(&["background", "left kidney", "right kidney", "tumour"]);
        let mirrors = Mirrors::of_policy(&Policy::fixed("list", Augmentation::deepmedic(&sides)));
        let sources: Vec<Vec<usize>> = mirrors.iter().map(|mirror| mirror.sources(4)).collect();
        assert_eq!(sources, [vec![0, 1, 2, 3], vec![0, 2, 1, 3]]);
        // An average with a network that never changed them has no mirror image in common.
        assert_eq!(mirrors.common(&Mirrors::along([true, false, false])).len(), 1);
        assert_eq!(mirrors.common(&mirrors).names(), "x");
    }

    #[test]
    fn images_along_axes_are_all_combinations() {
        assert_eq!(Mirrors::along([true, false, true]).names(), "x, z, x and z");
        assert_eq!(Mirrors::along([false; 3]), Mirrors::default());
    }
}

//! What choices have in common, so that one magnitude of an operation learns from its neighbours.
//!
//! A policy is learned in coordinates: a level for every family of choices, and for every member of a family of several
//! how it differs from that level. A logit is their sum; the differences of a family sum to 0. Where magnitudes are
//! known, differences of neighbours are drawn together, as if they were a random walk over the magnitudes. A choice
//! without a family is one by itself, so that a policy without families is learned logit by logit.

use super::Policy;

/// The families of a policy's choices, for every target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    families: Vec<Family>,
}

/// Choices of one group that are the same operation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Family {
    /// Places in [`Policy::flat`], by magnitude where there are magnitudes.
    members: Vec<usize>,
    /// Whether they have magnitudes.
    ordered: bool,
}

impl Structure {
    /// Every logit by itself.
    pub fn free(logits: usize) -> Self {
        let alone = |place| Family { members: vec![place], ordered: false };
        Self { families: (0..logits).map(alone).collect() }
    }

    /// As the choices of a policy name their families.
    pub fn of(policy: &Policy) -> Self {
        let mut families: Vec<Vec<usize>> = Vec::new();
        let mut first = 0;
        for _ in 0..policy.targets.len() {
            for group in &policy.groups {
                let start = families.len();
                let mut names: Vec<Option<&str>> = Vec::new();
                for (index, choice) in group.choices.iter().enumerate() {
                    let name = choice.family.as_deref();
                    let known = names.iter().position(|other| name.is_some() && *other == name);
                    match known {
                        Some(family) => families[start + family].push(index),
                        None => {
                            names.push(name);
                            families.push(vec![index]);
                        }
                    }
                }
                for family in &mut families[start..] {
                    family.sort_by(|a, b| {
                        let of = |index: usize| group.choices[index].magnitude.unwrap_or_default();
                        of(*a).total_cmp(&of(*b))
                    });
                    family.iter_mut().for_each(|place| *place += first);
                }
                first += group.choices.len();
            }
        }
        let choices: Vec<_> = policy.groups.iter().flat_map(|group| &group.choices).collect();
        let ordered = |members: &[usize]| {
            let known = |place: &usize| choices[place % choices.len()].magnitude.is_some();
            members.iter().all(known)
        };
        let family = |members: Vec<usize>| Family { ordered: ordered(&members), members };
        Self { families: families.into_iter().map(family).collect() }
    }

    /// Number of coordinates: family by family its level, then its members' differences.
    pub fn len(&self) -> usize {
        self.families.iter().map(Family::len).sum()
    }

    /// Whether there is nothing to learn.
    pub fn is_empty(&self) -> bool {
        self.families.is_empty()
    }

    /// Gradient with respect to the coordinates, from that with respect to the logits.
    pub fn gradient(&self, logits: &[f64]) -> Vec<f64> {
        let mut gradient = Vec::with_capacity(self.len());
        for family in &self.families {
            let sum: f64 = family.members.iter().map(|place| logits[*place]).sum();
            gradient.push(sum);
            let mean = sum / family.members.len() as f64;
            gradient.extend(family.differing().iter().map(|place| logits[*place] - mean));
        }
        gradient
    }

    /// The logits at some coordinates.
    pub fn logits(&self, coordinates: &[f64]) -> Vec<f64> {
        let mut logits = vec![0.0; self.families.iter().map(|family| family.members.len()).sum()];
        self.apply(&mut logits, coordinates);
        logits
    }

    /// Moves logits by so much in every coordinate; then neighbours are drawn together, by `penalty` times the sum of
    /// their squared differences.
    pub fn step(&self, logits: &mut [f64], moves: &[f64], penalty: f64) {
        self.apply(logits, moves);
        for family in self.families.iter().filter(|family| family.ordered && family.members.len() > 1) {
            // Of their differences from one of them: what is alike stays so to the last bit.
            let first = logits[family.members[0]];
            let before: Vec<f64> = family.members.iter().map(|place| logits[*place] - first).collect();
            let after = drawn_together(&before, penalty);
            for (place, (before, after)) in family.members.iter().zip(before.iter().zip(after)) {
                logits[*place] += after - before;
            }
        }
    }

    /// Adds to the logits what belongs to some coordinates.
    fn apply(&self, logits: &mut [f64], coordinates: &[f64]) {
        let mut rest = coordinates;
        for family in &self.families {
            let (own, others) = rest.split_at(family.len());
            rest = others;
            let (level, differences) = (own[0], &own[1..]);
            let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
            for (index, place) in family.members.iter().enumerate() {
                logits[*place] += level + differences.get(index).map_or(0.0, |difference| difference - mean);
            }
        }
    }
}

impl Family {
    /// Members that have a difference: none where there is one member only.
    fn differing(&self) -> &[usize] {
        if self.members.len() > 1 { &self.members } else { &[] }
    }

    fn len(&self) -> usize {
        1 + self.differing().len()
    }
}

/// The x that minimises `|x - values|^2 / 2 + penalty sum (x_m - x_m+1)^2`: a step of its own length, which never
/// overshoots. It keeps the mean.
fn drawn_together(values: &[f64], penalty: f64) -> Vec<f64> {
    let coupling = 2.0 * penalty;
    let last = values.len() - 1;
    let diagonal = |m: usize| 1.0 + coupling * (f64::from(u8::from(m > 0)) + f64::from(u8::from(m < last)));
    // Elimination from the first to the last, then back.
    let mut ratio = vec![0.0; values.len()];
    let mut x = values.to_vec();
    for m in 0..values.len() {
        let (above, carried) = if m == 0 { (0.0, 0.0) } else { (ratio[m - 1], x[m - 1]) };
        let pivot = diagonal(m) - coupling * above;
        ratio[m] = coupling / pivot;
        x[m] = (values[m] + if m == 0 { 0.0 } else { coupling * carried }) / pivot;
    }
    for m in (0..last).rev() {
        x[m] += ratio[m] * x[m + 1];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::{Start, Targets};
    use crate::policy::operations::{Context, composed, single};

    #[test]
    fn forty_four_operations_are_ten_families() {
        let policy = single(&Context::default(), Start::Uniform);
        let structure = Structure::of(&policy);
        assert_eq!(structure.families.len(), 10);
        let sizes: Vec<usize> = structure.families.iter().map(|family| family.members.len()).collect();
        assert_eq!(sizes, [1, 5, 5, 5, 5, 3, 5, 5, 5, 5]);
        // Planes have no order.
        let ordered: Vec<bool> = structure.families.iter().map(|family| family.ordered).collect();
        assert_eq!(ordered.iter().filter(|ordered| !**ordered).count(), 2);
        assert!(!ordered[0] && !ordered[5]);
    }

    #[test]
    fn groups_and_targets_keep_their_families_apart_and_magnitudes_have_signs() {
        let policy = composed(&Context::default(), Start::Uniform).for_targets(Targets::ByCentre);
        let structure = Structure::of(&policy);
        let mut places: Vec<usize> = structure.families.iter().flat_map(|f| f.members.clone()).collect();
        places.sort_unstable();
        assert_eq!(places, (0..124).collect::<Vec<_>>());
        assert_eq!(structure.families.len(), 2 * 30);
        let group = policy.groups.iter().position(|group| group.name == "blur or sharpen").unwrap();
        let first: usize = policy.groups[..group].iter().map(|group| group.choices.len()).sum();
        let sharpness =
            structure.families.iter().find(|family| family.members.contains(&(first + 1))).unwrap();
        let names: Vec<&str> =
            sharpness.members.iter().map(|m| policy.groups[group].choices[m - first].name.as_str()).collect();
        assert_eq!(names, ["blur 0.9", "blur 0.7", "blur 0.5", "sharpen 0.5", "sharpen 0.7", "sharpen 0.9"]);
    }

    /// A function of the logits with slopes of every kind, and its gradient.
    fn smooth(logits: &[f64]) -> (f64, Vec<f64>) {
        let term = |i: usize, z: f64| ((i as f64 * 0.7).sin() * z + 0.1 * z * z).sin();
        let value = logits.iter().enumerate().map(|(i, z)| term(i, *z)).sum();
        let slope = logits.iter().enumerate().map(|(i, z)| {
            let a = (i as f64 * 0.7).sin();
            (a * z + 0.1 * z * z).cos() * (a + 0.2 * z)
        });
        (value, slope.collect())
    }

    #[test]
    fn gradients_go_through_the_coordinates() {
        for policy in [
            single(&Context::default(), Start::HalfIdentity),
            composed(&Context::default(), Start::NnUNet).for_targets(Targets::ByCentre),
        ] {
            let structure = Structure::of(&policy);
            let at: Vec<f64> = (0..structure.len()).map(|i| (i as f64 * 1.3).cos()).collect();
            let gradient = structure.gradient(&smooth(&structure.logits(&at)).1);
            for i in 0..at.len() {
                let moved = |h: f64| {
                    let mut moved = at.clone();
                    moved[i] += h;
                    smooth(&structure.logits(&moved)).0
                };
                let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((gradient[i] - difference).abs() < 1e-8, "{i}: {} {difference}", gradient[i]);
            }
        }
    }

    #[test]
    fn neighbours_are_drawn_together_as_the_penalty_says() {
        let values = [0.4, -1.0, 2.0, 0.3];
        let penalty = 0.3;
        let x = drawn_together(&values, penalty);
        let cost = |x: &[f64]| {
            let near: f64 = x.iter().zip(&values).map(|(x, v)| (x - v) * (x - v) / 2.0).sum();
            near + penalty * x.windows(2).map(|pair| (pair[0] - pair[1]).powi(2)).sum::<f64>()
        };
        for m in 0..4 {
            for h in [1e-4, -1e-4] {
                let mut moved = x.clone();
                moved[m] += h;
                assert!(cost(&moved) > cost(&x), "{m}");
            }
        }
        assert!((x.iter().sum::<f64>() - values.iter().sum::<f64>()).abs() < 1e-12);
        // A policy without families is learned logit by logit.
        let mut logits = vec![0.3, 1.7, -2.0];
        let free = Structure::free(3);
        assert_eq!(free.gradient(&[1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]);
        free.step(&mut logits, &[0.5, 0.0, -0.25], 1.0);
        assert_eq!(logits, [0.8, 1.7, -2.25]);
    }
}

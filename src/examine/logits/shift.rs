//! How far unseen voxels have moved, per class, in numbers.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{Cloud, Collection, Origin};
use crate::predict::voxels::margin;
use crate::score::statistics::wasserstein;

/// The shift of one class between the seen cases and another origin.
///
/// The margin of a voxel of true class c is `z_c - max over other classes of z_k`; below 0 it is misclassified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassShift {
    /// Name of the class.
    pub class: String,
    /// What is compared with the seen cases.
    pub origin: Origin,
    /// Voxels drawn from the seen cases.
    pub voxels_seen: usize,
    /// Voxels drawn from the other ones.
    pub voxels: usize,
    /// Mean margin of seen voxels.
    pub margin_seen: f64,
    /// Mean margin of the others.
    pub margin: f64,
    /// S1: difference of the two; below 0 is towards or across the boundary.
    pub shift: f64,
    /// S2: S1 in standard deviations of the seen margins.
    pub standardised_shift: Option<f64>,
    /// S3: share of seen voxels with a margin below 0.
    pub crossing_seen: f64,
    /// S3: share of the others; 1 - voxel sensitivity, case-balanced.
    pub crossing: f64,
    /// S4: displacement of the mean logits, one value per class.
    pub displacement: Vec<f64>,
    /// S4: its component along the unit normal of the boundary to the nearest competing class, S1 / sqrt(2).
    pub normal_displacement: f64,
    /// S5: Wasserstein distance between the margins.
    pub wasserstein: f64,
    /// S6: size of S1 relative to that of the background; `None` for the background itself.
    pub ratio_to_background: Option<f64>,
}

/// Shifts of a run: by origin, then class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shifts {
    /// One entry for every class and origin that have voxels on both sides.
    pub classes: Vec<ClassShift>,
}

/// Margins of a cloud's voxels.
pub fn margins(cloud: &Cloud) -> Vec<f64> {
    cloud.rows().map(|row| margin(row, cloud.class)).collect()
}

/// Measures the shift of every class.
pub fn shifts(collection: &Collection) -> Shifts {
    let mut classes = Vec::new();
    for origin in [Origin::Unseen, Origin::Test] {
        let mut background = None;
        for class in 0..collection.classes.len() {
            let clouds = (collection.cloud(Origin::Seen, class), collection.cloud(origin, class));
            let (Some(seen), Some(other)) = clouds else { continue };
            let mut shift = compare(&collection.classes[class], seen, other);
            if class == 0 {
                background = Some(shift.shift.abs());
            } else {
                shift.ratio_to_background =
                    background.filter(|size| *size > 0.0).map(|size| shift.shift.abs() / size);
            }
            classes.push(shift);
        }
    }
    Shifts { classes }
}

fn compare(name: &str, seen: &Cloud, other: &Cloud) -> ClassShift {
    let (a, b) = (margins(seen), margins(other));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let crossing = |values: &[f64]| {
        values.iter().filter(|margin| **margin < 0.0).count() as f64 / values.len().max(1) as f64
    };
    let (margin_seen, margin) = (mean(&a), mean(&b));
    let variance = mean(&a.iter().map(|m| (m - margin_seen).powi(2)).collect::<Vec<_>>());
    let shift = margin - margin_seen;
    ClassShift {
        class: name.to_owned(),
        origin: other.origin,
        voxels_seen: a.len(),
        voxels: b.len(),
        margin_seen,
        margin,
        shift,
        standardised_shift: (variance > 0.0).then(|| shift / variance.sqrt()),
        crossing_seen: crossing(&a),
        crossing: crossing(&b),
        displacement: other.mean().iter().zip(seen.mean()).map(|(to, from)| to - from).collect(),
        normal_displacement: shift / std::f64::consts::SQRT_2,
        wasserstein: wasserstein(&a, &b),
        ratio_to_background: None,
    }
}

/// The shifts as a table for people.
pub fn table(shifts: &Shifts) -> String {
    let width = shifts.classes.iter().map(|s| s.class.chars().count()).max().unwrap_or(0).max(5);
    let mut text = format!(
        "{:width$}  compared  margin seen   margin  shift S1  in std S2  crossing seen  crossing S3  \
         Wasserstein S5  to background S6\n",
        "class"
    );
    for s in &shifts.classes {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:width$}  {:8}  {:11.2}  {:7.2}  {:8.2}  {:>9}  {:13.3}  {:11.3}  {:14.2}  {:>16}",
            s.class,
            s.origin.name(),
            s.margin_seen,
            s.margin,
            s.shift,
            number(s.standardised_shift),
            s.crossing_seen,
            s.crossing,
            s.wasserstein,
            number(s.ratio_to_background)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(origin: Origin, class: usize, rows: &[[f32; 2]]) -> Cloud {
        Cloud {
            origin,
            class,
            cases: vec![0; rows.len()],
            positions: vec![[0; 3]; rows.len()],
            logits: rows.iter().flatten().copied().collect(),
        }
    }

    #[test]
    fn a_shift_worked_by_hand() {
        let collection = Collection {
            classes: vec!["background".into(), "lesion".into()],
            cases: vec!["a".into()],
            clouds: vec![
                cloud(Origin::Seen, 0, &[[2.0, 0.0], [4.0, 0.0]]),
                cloud(Origin::Seen, 1, &[[0.0, 2.0], [0.0, 4.0]]),
                cloud(Origin::Unseen, 0, &[[2.0, 0.0], [3.0, 0.0]]),
                cloud(Origin::Unseen, 1, &[[1.0, 0.0], [0.0, 2.0]]),
            ],
        };
        let found = shifts(&collection).classes;
        assert_eq!(found.len(), 2);
        let lesion = &found[1];
        // Margins 2, 4 become -1, 2.
        assert_eq!((lesion.margin_seen, lesion.margin, lesion.shift), (3.0, 0.5, -2.5));
        assert_eq!(lesion.standardised_shift, Some(-2.5));
        assert_eq!((lesion.crossing_seen, lesion.crossing), (0.0, 0.5));
        assert_eq!(lesion.displacement, [0.5, -2.0]);
        // n . (0.5, -2) with n = (-1, 1) / sqrt 2.
        assert!((lesion.normal_displacement + 2.5 / 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(lesion.wasserstein, 2.5);
        assert_eq!(lesion.ratio_to_background, Some(5.0));
        assert_eq!(found[0].ratio_to_background, None);
    }

    #[test]
    fn the_margin_is_taken_to_the_nearest_competitor() {
        assert_eq!(margin(&[1.0, 5.0, 3.0], 1), 2.0);
        assert_eq!(margin(&[1.0, 5.0, 3.0], 0), -4.0);
    }
}

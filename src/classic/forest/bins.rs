//! Features as bytes: at most 255 bins a feature, about equally full.
//!
//! A feature with no more values than bins has a bin for every value, and a cut lies midway between the two values
//! of a node that it parts: the tree is then the one that a search over sorted values finds. Elsewhere cuts lie on
//! borders between bins.

use ndarray::{ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;

/// Bins a feature, at most.
const MOST: usize = 255;

/// Rows that quantiles are taken from, at most.
const SAMPLE: usize = 200_000;

/// The bins of every feature.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bins {
    columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq)]
struct Column {
    /// Upper end of every bin but the last, ascending; a value on a border is below it.
    borders: Vec<f32>,
    /// The one value of every bin, where each bin has one.
    values: Option<Vec<f32>>,
}

impl Bins {
    /// Bins of the columns of `rows`, (row, feature), all finite.
    pub(super) fn of(rows: ArrayView2<'_, f32>) -> Self {
        let columns =
            (0..rows.ncols()).into_par_iter().map(|feature| Column::of(rows.index_axis(Axis(1), feature)));
        Self { columns: columns.collect() }
    }

    /// The bins of a column of values.
    pub(super) fn column(&self, feature: usize, values: ArrayView1<'_, f32>) -> Vec<u8> {
        let borders = &self.columns[feature].borders;
        // At most 254 borders: the number of those below a value fits a byte.
        values.iter().map(|&value| borders.partition_point(|&border| border < value) as u8).collect()
    }

    /// Where to cut between two bins, both filled in a node, with none filled between them: the last bin that goes
    /// left, and the largest value that goes left.
    pub(super) fn cut(&self, feature: usize, last: u8, next: u8) -> (u8, f32) {
        let column = &self.columns[feature];
        match &column.values {
            Some(values) => {
                let (low, high) = (values[usize::from(last)], values[usize::from(next)]);
                let threshold = between(low, high);
                (values.partition_point(|&value| value <= threshold) as u8 - 1, threshold)
            }
            None => {
                let left = (last + (next - 1 - last) / 2).min(next - 1);
                (left, column.borders[usize::from(left)])
            }
        }
    }
}

impl Column {
    fn of(column: ArrayView1<'_, f32>) -> Self {
        let rows = column.len();
        let taken = rows.min(SAMPLE);
        // Spread evenly, so that every case has its share.
        let mut sorted: Vec<f32> = (0..taken).map(|i| column[i * rows / taken]).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let mut distinct: Vec<(f32, usize)> = Vec::new();
        for value in sorted {
            match distinct.last_mut() {
                Some((last, count)) if *last == value => *count += 1,
                _ => distinct.push((value, 1)),
            }
        }
        if distinct.len() <= MOST {
            let values: Vec<f32> = distinct.iter().map(|(value, _)| *value).collect();
            let borders = values.windows(2).map(|pair| between(pair[0], pair[1])).collect();
            return Self { borders, values: (taken == rows).then_some(values) };
        }
        // Each bin takes its part of what is left, so that a value with many rows does not narrow the bins after it.
        let (mut borders, mut own, mut left) = (Vec::new(), 0, taken);
        for pair in distinct.windows(2) {
            own += pair[0].1;
            let bins = MOST - borders.len();
            if bins > 1 && own * bins >= left {
                borders.push(between(pair[0].0, pair[1].0));
                left -= own;
                own = 0;
            }
        }
        Self { borders, values: None }
    }
}

/// Midway between two values, and never the larger one.
fn between(low: f32, high: f32) -> f32 {
    let middle = ((f64::from(low) + f64::from(high)) / 2.0) as f32;
    if middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array2};

    #[test]
    fn few_values_have_a_bin_each_and_cuts_lie_midway() {
        let rows = Array2::from_shape_vec((5, 1), vec![3.0, 1.0, 8.0, 1.0, 2.0]).unwrap();
        let bins = Bins::of(rows.view());
        assert_eq!(bins.column(0, rows.column(0)), [2, 0, 3, 0, 1]);
        // Values 2 and 3 are absent from the node: the cut between 1 and 8 leaves both on the left.
        assert_eq!(bins.cut(0, 0, 3), (2, 4.5));
        assert_eq!(bins.cut(0, 1, 2), (1, 2.5));
        let (low, high) = (1.0_f32, 1.0_f32.next_up());
        assert_eq!(between(low, high), low, "no value lies between neighbours");
        assert!(between(f32::MAX / 1.5, f32::MAX).is_finite());
    }

    #[test]
    fn many_values_fill_bins_about_equally_and_cuts_agree_with_bins() {
        let column = Array1::from_shape_fn(300_000, |i| ((i * 7919) % 300_007) as f32);
        let rows = column.clone().insert_axis(Axis(1));
        let bins = Bins::of(rows.view());
        let binned = bins.column(0, column.view());
        let mut counts = [0_usize; 256];
        binned.iter().for_each(|&bin| counts[usize::from(bin)] += 1);
        assert_eq!(counts[255], 0);
        assert!(counts[..255].iter().all(|&n| (1000..1400).contains(&n)), "{counts:?}");
        for (last, next) in [(0, 1), (10, 17), (253, 254)] {
            let (left, threshold) = bins.cut(0, last, next);
            assert!((last..next).contains(&left));
            assert!(column.iter().zip(&binned).all(|(&x, &bin)| (x <= threshold) == (bin <= left)));
        }
    }

    #[test]
    fn a_value_that_most_rows_have_leaves_bins_for_the_others() {
        let column = Array1::from_shape_fn(10_000, |i| if i % 10 == 0 { i as f32 } else { 0.0 });
        let bins = Bins::of(column.clone().insert_axis(Axis(1)).view());
        let binned = bins.column(0, column.view());
        let mut counts = [0_usize; 256];
        binned.iter().for_each(|&bin| counts[usize::from(bin)] += 1);
        assert!(counts[0] == 9001 && counts[1..255].iter().all(|&n| (3..6).contains(&n)), "{counts:?}");
    }
}

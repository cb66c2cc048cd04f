//! Histograms of log-odds, and the curves that are read off them.

use serde::{Deserialize, Serialize};

/// Number of bins. Bin i holds values in (edge i, edge i + 1]; the first and the last one are open.
pub const BINS: usize = 256;
/// Edges reach from minus this to this.
pub const LIMIT: f64 = 16.0;
/// The edge at log-odds 0.
pub const ZERO: usize = BINS / 2;
/// Bins in a unit.
const PER_UNIT: f64 = BINS as f64 / (2.0 * LIMIT);
/// Thresholds on the log-odds at which lesions and false components are counted.
pub const THRESHOLDS: [f64; 8] = [-6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0];

/// Log-odds at an edge, 0 to [`BINS`].
pub fn edge(number: usize) -> f64 {
    number as f64 / PER_UNIT - LIMIT
}

/// The bin of log-odds; what is no number lies in the first one.
pub(crate) fn bin(log_odds: f64) -> usize {
    bin_of(log_odds, LIMIT, BINS)
}

/// The bin (low, high] of a value among `bins` of equal width from `-limit` to `limit`, of which the outer ones are
/// open.
pub(super) fn bin_of(value: f64, limit: f64, bins: usize) -> usize {
    let place = ((value + limit) * (bins as f64 / (2.0 * limit))).ceil() as i64;
    (place.saturating_sub(1)).clamp(0, bins as i64 - 1) as usize
}

/// The edge at which a bias cuts, the nearest one: log-odds above -b win.
pub(crate) fn edge_of_bias(bias: f64) -> usize {
    ((LIMIT - bias) * PER_UNIT).round().clamp(0.0, BINS as f64) as usize
}

/// Numbers of voxels by their log-odds. In files a list of the counts of the bins, in which a negative number stands
/// for so many empty bins; empty ones at the end are left out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<i64>", into = "Vec<i64>")]
pub struct Histogram(Box<[u64; BINS]>);

impl Default for Histogram {
    fn default() -> Self {
        Self(Box::new([0; BINS]))
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Histogram").field(&Vec::<i64>::from(self.clone())).finish()
    }
}

impl Histogram {
    /// Counts voxels of a bin.
    pub(crate) fn count_in(&mut self, bin: usize, voxels: u64) {
        self.0[bin] += voxels;
    }

    /// Voxels in a bin.
    pub fn count(&self, bin: usize) -> u64 {
        self.0[bin]
    }

    /// Voxels above an edge, 0 to [`BINS`].
    pub fn above(&self, edge: usize) -> u64 {
        self.0[edge..].iter().sum()
    }

    /// All voxels.
    pub fn total(&self) -> u64 {
        self.above(0)
    }

    fn add(&mut self, other: &Self, times: u64) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(sum, count)| *sum += times * count);
    }
}

impl From<Histogram> for Vec<i64> {
    fn from(histogram: Histogram) -> Self {
        let mut list = Self::new();
        let mut empty = 0;
        for &count in histogram.0.iter() {
            if count == 0 {
                empty += 1;
                continue;
            }
            if empty > 0 {
                list.push(-empty);
                empty = 0;
            }
            list.push(i64::try_from(count).unwrap_or(i64::MAX));
        }
        list
    }
}

impl TryFrom<Vec<i64>> for Histogram {
    type Error = String;

    fn try_from(list: Vec<i64>) -> Result<Self, String> {
        let mut histogram = Self::default();
        let mut bin = 0_u64;
        for number in list {
            if number < 0 {
                bin = bin.saturating_add(number.unsigned_abs());
                continue;
            }
            let place = usize::try_from(bin).ok().and_then(|bin| histogram.0.get_mut(bin));
            *place.ok_or_else(|| format!("a histogram has more than {BINS} bins"))? = number.unsigned_abs();
            bin += 1;
        }
        Ok(histogram)
    }
}

/// Voxels found (in prediction and reference), invented (in the prediction alone) and missed (in the reference
/// alone). In files a list of these three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 3]", into = "[u64; 3]")]
pub struct Counts {
    /// True positives.
    pub found: u64,
    /// False positives.
    pub invented: u64,
    /// False negatives.
    pub missed: u64,
}

impl From<[u64; 3]> for Counts {
    fn from([found, invented, missed]: [u64; 3]) -> Self {
        Self { found, invented, missed }
    }
}

impl From<Counts> for [u64; 3] {
    fn from(counts: Counts) -> Self {
        [counts.found, counts.invented, counts.missed]
    }
}

impl Counts {
    /// Dice; undefined where both segmentations are empty.
    pub fn dice(self) -> Option<f64> {
        share(2 * self.found, 2 * self.found + self.invented + self.missed)
    }

    /// Share of the reference that is found; undefined where that is empty.
    pub fn sensitivity(self) -> Option<f64> {
        share(self.found, self.found + self.missed)
    }

    /// Share of the prediction that is right; undefined where that is empty.
    pub fn precision(self) -> Option<f64> {
        share(self.found, self.found + self.invented)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Lesions (26-connected components) at each of [`THRESHOLDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lesions {
    /// Of the reference.
    pub reference: u64,
    /// Of these, those with a voxel above the threshold.
    pub found: [u64; THRESHOLDS.len()],
    /// Components above the threshold without any voxel of the reference.
    pub invented: [u64; THRESHOLDS.len()],
}

/// The log-odds of one class in one case, or in several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassOdds {
    /// Name of the class.
    pub class: String,
    /// Of voxels that the reference gives to the class.
    pub reference: Histogram,
    /// Of all others.
    pub others: Histogram,
    /// Its lesions, where they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lesions: Option<Lesions>,
}

impl ClassOdds {
    /// Nothing counted yet.
    pub fn new(class: &str) -> Self {
        Self {
            class: class.to_owned(),
            reference: Histogram::default(),
            others: Histogram::default(),
            lesions: None,
        }
    }

    /// Adds the counts of a case, so many times.
    pub fn add(&mut self, other: &Self, times: u64) {
        self.reference.add(&other.reference, times);
        self.others.add(&other.others, times);
        if let Some(lesions) = &other.lesions {
            let sum = self.lesions.get_or_insert_default();
            sum.reference += times * lesions.reference;
            for at in 0..THRESHOLDS.len() {
                sum.found[at] += times * lesions.found[at];
                sum.invented[at] += times * lesions.invented[at];
            }
        }
    }

    /// What is found, invented and missed above an edge, 0 to [`BINS`].
    pub fn at(&self, edge: usize) -> Counts {
        let found = self.reference.above(edge);
        Counts { found, invented: self.others.above(edge), missed: self.reference.total() - found }
    }

    /// The counts at every edge, from the highest, where nothing is predicted, to the lowest, where all is.
    pub fn curve(&self) -> Vec<Counts> {
        let mut counts = Counts { found: 0, invented: 0, missed: self.reference.total() };
        let mut curve = vec![counts];
        for bin in (0..BINS).rev() {
            counts.found += self.reference.count(bin);
            counts.missed -= self.reference.count(bin);
            counts.invented += self.others.count(bin);
            curve.push(counts);
        }
        curve
    }

    /// Average precision: the sum over the steps of the curve of the sensitivity gained times the precision there.
    /// Undefined without a voxel of the class.
    pub fn average_precision(&self) -> Option<f64> {
        let all = self.reference.total();
        let gains = |step: &[Counts]| {
            let gained = step[1].found - step[0].found;
            gained as f64 * step[1].precision().unwrap_or(0.0)
        };
        let sum: f64 = self.curve().windows(2).map(gains).sum();
        (all > 0).then(|| sum / all as f64)
    }

    /// The largest sensitivity of the curve at a precision of at least `least`; 0 where it is never reached.
    /// Undefined without a voxel of the class.
    pub fn sensitivity_at(&self, least: f64) -> Option<f64> {
        let all = self.reference.total();
        let reached =
            self.curve().into_iter().filter(|counts| counts.precision().is_some_and(|p| p >= least));
        (all > 0).then(|| reached.map(|counts| counts.found).max().unwrap_or(0) as f64 / all as f64)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A class with these log-odds of its own voxels and of the others.
    pub(crate) fn class(reference: &[f64], others: &[f64]) -> ClassOdds {
        let mut class = ClassOdds::new("lesion");
        reference.iter().for_each(|&l| class.reference.count_in(bin(l), 1));
        others.iter().for_each(|&l| class.others.count_in(bin(l), 1));
        class
    }

    /// Four voxels of the class and six others.
    pub(crate) fn ten_voxels() -> ClassOdds {
        class(&[2.0, 1.0, -1.0, -3.0], &[0.5, -0.5, -2.0, -2.0, -4.0, -6.0])
    }

    #[test]
    fn values_on_an_edge_lie_below_it() {
        assert_eq!((bin(0.0), bin(1e-9), bin(-1e-9)), (ZERO - 1, ZERO, ZERO - 1));
        assert_eq!((edge(ZERO), edge(ZERO + 1), edge(0), edge(BINS)), (0.0, 0.125, -16.0, 16.0));
        assert_eq!(bin(0.125), ZERO);
        assert_eq!([f64::NEG_INFINITY, -40.0, f64::NAN, 40.0, f64::INFINITY].map(bin), [0, 0, 0, 255, 255]);
        for number in 1..BINS {
            assert_eq!((bin(edge(number)), edge_of_bias(-edge(number))), (number - 1, number));
        }
    }

    #[test]
    fn counts_and_curve_of_ten_voxels() {
        let class = ten_voxels();
        assert_eq!(class.at(ZERO), Counts { found: 2, invented: 1, missed: 2 });
        assert_eq!(class.at(ZERO).dice(), Some(4.0 / 7.0));
        assert_eq!(class.at(edge_of_bias(-0.5)), Counts { found: 2, invented: 0, missed: 2 });
        assert_eq!(class.at(edge_of_bias(1.125)), Counts { found: 3, invented: 2, missed: 1 });
        assert_eq!(class.at(edge_of_bias(3.125)), Counts { found: 4, invented: 4, missed: 0 });
        assert!((class.average_precision().unwrap() - 0.775).abs() < 1e-12);
        for (number, counts) in class.curve().into_iter().rev().enumerate() {
            assert_eq!(counts, class.at(number));
        }
        for (least, sensitivity) in [(1.0, 0.5), (0.6, 0.75), (0.5, 1.0), (0.0, 1.0), (1.1, 0.0)] {
            assert_eq!(class.sensitivity_at(least), Some(sensitivity), "{least}");
        }
        assert_eq!(self::class(&[], &[1.0]).average_precision(), None);
        assert_eq!(self::class(&[], &[1.0]).sensitivity_at(0.5), None);
        assert_eq!(self::class(&[-20.0], &[]).sensitivity_at(0.5), Some(1.0));
    }

    #[test]
    fn a_histogram_comes_back_from_its_short_form() {
        let histogram = ten_voxels().others;
        let text = serde_json::to_string(&histogram).unwrap();
        assert_eq!(text, "[-79,1,-15,1,-15,2,-11,1,-7,1]");
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
        assert_eq!(serde_json::from_str::<Histogram>("[]").unwrap(), Histogram::default());
        let wrong = serde_json::from_str::<Histogram>("[-256, 1]").unwrap_err().to_string();
        assert!(wrong.contains("more than 256 bins"), "{wrong}");
        let mut all = ClassOdds::new("lesion");
        all.add(&ten_voxels(), 3);
        assert_eq!(all.at(ZERO), Counts { found: 6, invented: 3, missed: 6 });
    }
}

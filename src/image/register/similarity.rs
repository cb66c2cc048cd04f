//! How alike two images of one shape are, as numbers over pairs of values.

/// The sum of values in a fixed order, eight at a time.
#[inline(always)]
pub(super) fn total(values: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..8 {
            sums[lane] += f64::from(chunk[lane]);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&value| f64::from(value)).sum::<f64>()
}

/// The mean squared difference.
pub fn mean_square(fixed: &[f32], moving: &[f32]) -> f64 {
    let square = |(f, m): (&f32, &f32)| (f64::from(*f) - f64::from(*m)).powi(2);
    fixed.iter().zip(moving).map(square).sum::<f64>() / fixed.len().max(1) as f64
}

/// Pearson's correlation; 0 where either image is constant.
pub fn correlation(fixed: &[f32], moving: &[f32]) -> f64 {
    let n = fixed.len().max(1) as f64;
    let mean = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let (mean_f, mean_m) = (mean(fixed), mean(moving));
    let (mut ff, mut mm, mut fm) = (0.0, 0.0, 0.0);
    for (&f, &m) in fixed.iter().zip(moving) {
        let (f, m) = (f64::from(f) - mean_f, f64::from(m) - mean_m);
        ff += f * f;
        mm += m * m;
        fm += f * m;
    }
    if ff * mm > 0.0 { fm / (ff * mm).sqrt() } else { 0.0 }
}

/// Normalised mutual information (H(F) + H(M)) / H(F, M) of histograms with equally wide bins from the smallest to
/// the largest value: 1 where the images tell nothing of each other, 2 where each determines the other. Studholme,
/// Hill, Hawkes, Pattern Recognition 32, 1999.
pub fn normalised_mutual_information(fixed: &[f32], moving: &[f32], bins: usize) -> f64 {
    let (of_fixed, of_moving) = (equal_bins(fixed, bins), equal_bins(moving, bins));
    let (mut joint, mut f, mut m) = (vec![0.0; bins * bins], vec![0.0; bins], vec![0.0; bins]);
    let share = 1.0 / fixed.len().max(1) as f64;
    for (i, j) in of_fixed.zip(of_moving) {
        joint[i * bins + j] += share;
        f[i] += share;
        m[j] += share;
    }
    let joint = entropy(&joint);
    if joint > 0.0 { (entropy(&f) + entropy(&m)) / joint } else { 1.0 }
}

fn equal_bins(values: &[f32], bins: usize) -> impl Iterator<Item = usize> {
    let (low, high) = range(values);
    let scale = if high > low { bins as f64 / (high - low) } else { 0.0 };
    values.iter().map(move |&value| (((f64::from(value) - low) * scale) as usize).min(bins - 1))
}

fn range(values: &[f32]) -> (f64, f64) {
    let fold = |(low, high): (f32, f32), &value: &f32| (low.min(value), high.max(value));
    let (low, high) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), fold);
    (f64::from(low), f64::from(high))
}

/// In nat.
fn entropy(shares: &[f64]) -> f64 {
    shares.iter().filter(|&&share| share > 0.0).map(|share| -share * share.ln()).sum()
}

/// Mattes' mutual information in nat: histograms in which a moving value is spread over bins by a cubic B-spline, so
/// that it has a derivative. Mattes et al., IEEE TMI 22(1), 2003.
#[derive(Clone, Debug)]
pub struct Mattes {
    bins: usize,
    fixed: Scale,
    moving: Scale,
}

/// From a value to a (fractional) bin.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    /// 0 for a constant image.
    per_value: f64,
}

impl Scale {
    /// Two bins are left free at either end for the spline.
    fn new((low, high): (f64, f64), bins: usize) -> Self {
        Self { low, per_value: if high > low { (bins - 4) as f64 / (high - low) } else { 0.0 } }
    }

    fn bin(&self, value: f32) -> f64 {
        (f64::from(value) - self.low) * self.per_value + 2.0
    }
}

impl Mattes {
    /// For images with these values; `bins` is at least 5.
    pub fn new(fixed: &[f32], moving: &[f32], bins: usize) -> Self {
        Self { bins, fixed: Scale::new(range(fixed), bins), moving: Scale::new(range(moving), bins) }
    }

    /// The mutual information of pairs of values, and its derivative with respect to each moving value, which goes
    /// into `derivative` (of the same length).
    pub fn evaluate(&self, fixed: &[f32], moving: &[f32], derivative: &mut [f32]) -> f64 {
        let bins = self.bins;
        let mut joint = vec![0.0; bins * bins];
        let place = |value: f32, scale: &Scale| {
            let at = scale.bin(value);
            (at, (at.floor() as i64).clamp(2, bins as i64 - 3) as usize)
        };
        for (&f, &m) in fixed.iter().zip(moving) {
            let ((_, row), (at, bin)) = (place(f, &self.fixed), place(m, &self.moving));
            for k in bin - 1..=bin + 2 {
                joint[row * bins + k] += spline(k as f64 - at);
            }
        }
        let sum: f64 = joint.iter().sum();
        if sum <= 0.0 {
            derivative.fill(0.0);
            return 0.0;
        }
        joint.iter_mut().for_each(|share| *share /= sum);
        let of_fixed: Vec<f64> = joint.chunks(bins).map(|row| row.iter().sum()).collect();
        let of_moving: Vec<f64> = (0..bins).map(|k| joint.iter().skip(k).step_by(bins).sum()).collect();
        let information = entropy(&of_fixed) + entropy(&of_moving) - entropy(&joint);
        // Of p log(p / (p_f p_m)) only log(p / p_m) is left: what a sample loses in one bin it gains in others.
        let logarithm: Vec<f64> = joint
            .iter()
            .enumerate()
            .map(|(at, &share)| if share > 0.0 { (share / of_moving[at % bins]).ln() } else { 0.0 })
            .collect();
        for ((&f, &m), out) in fixed.iter().zip(moving).zip(derivative) {
            let ((_, row), (at, bin)) = (place(f, &self.fixed), place(m, &self.moving));
            let slope: f64 =
                (bin - 1..=bin + 2).map(|k| -spline_slope(k as f64 - at) * logarithm[row * bins + k]).sum();
            *out = (slope * self.moving.per_value / sum) as f32;
        }
        information
    }
}

/// The cubic B-spline.
fn spline(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        (4.0 - 6.0 * x * x + 3.0 * x * x * x) / 6.0
    } else if x < 2.0 {
        (2.0 - x).powi(3) / 6.0
    } else {
        0.0
    }
}

fn spline_slope(x: f64) -> f64 {
    let far = x.abs();
    let slope = if far < 1.0 {
        -2.0 * far + 1.5 * far * far
    } else if far < 2.0 {
        -0.5 * (2.0 - far).powi(2)
    } else {
        0.0
    };
    slope * x.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_tell_nothing() {
        let (constant, ramp) = ([2.0; 20], std::array::from_fn::<f32, 20, _>(|i| i as f32));
        assert_eq!(correlation(&constant, &ramp), 0.0);
        assert_eq!(normalised_mutual_information(&constant, &constant, 16), 1.0);
        assert!((normalised_mutual_information(&ramp, &ramp, 16) - 2.0).abs() < 1e-12);
        let mut derivative = [1.0; 20];
        let mattes = Mattes::new(&ramp, &constant, 16);
        assert!(mattes.evaluate(&ramp, &constant, &mut derivative).abs() < 1e-12);
        assert_eq!(derivative, [0.0; 20]);
    }

    #[test]
    fn the_derivative_of_mattes_information_is_that_of_differences() {
        let fixed: Vec<f32> = (0..200).map(|i| ((i * 37) % 101) as f32).collect();
        let mut moving: Vec<f32> =
            fixed.iter().enumerate().map(|(i, f)| 150.0 - f + ((i * 13) % 29) as f32).collect();
        let mattes = Mattes::new(&fixed, &moving, 32);
        let mut derivative = vec![0.0; 200];
        mattes.evaluate(&fixed, &moving, &mut derivative);
        for at in [1, 50, 123] {
            let (here, step) = (moving[at], 0.02);
            let mut value = |m: f32| {
                moving[at] = m;
                mattes.evaluate(&fixed, &moving, &mut vec![0.0; 200])
            };
            let difference = (value(here + step) - value(here - step)) / f64::from(2.0 * step);
            value(here);
            assert!((difference - f64::from(derivative[at])).abs() < 1e-7 + 0.01 * difference.abs());
        }
    }
}

//! How strong the edges of an image are.

use ndarray::{Array3, ArrayView4, Zip};

use crate::image::gaussian::gaussian;

/// Length of the gradient of the images, (channel, x, y, z), smoothed by `sigma` in the unit of `spacing`, each channel
/// over its standard deviation. Of several channels the steepest change of all (Di Zenzo, *A Note on the Gradient of a
/// Multi-Image*, CVGIP 33, 1986).
pub fn edges(images: ArrayView4<'_, f32>, spacing: [f64; 3], sigma: f64) -> Array3<f32> {
    let (channels, nx, ny, nz) = images.dim();
    // The upper triangle of the sum of gradient times its transpose.
    let mut tensor: [Array3<f32>; 6] = std::array::from_fn(|_| Array3::zeros((nx, ny, nz)));
    for image in images.outer_iter() {
        let count = image.len().max(1) as f64;
        let mean = image.iter().map(|&y| f64::from(y)).sum::<f64>() / count;
        let variance = image.iter().map(|&y| (f64::from(y) - mean).powi(2)).sum::<f64>() / count;
        if variance <= 0.0 {
            continue;
        }
        let weight = (1.0 / variance) as f32;
        let slopes: [Array3<f32>; 3] = std::array::from_fn(|axis| {
            let order = std::array::from_fn(|a| u8::from(a == axis));
            gaussian(image, spacing, sigma, order)
        });
        let pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)];
        for (sum, (a, b)) in tensor.iter_mut().zip(pairs) {
            Zip::from(sum).and(&slopes[a]).and(&slopes[b]).par_for_each(|sum, a, b| *sum += weight * a * b);
        }
    }
    let mut lengths = Array3::zeros((nx, ny, nz));
    for ((place, length), xx) in lengths.indexed_iter_mut().zip(&tensor[0]) {
        let [yy, zz, xy, xz, yz] = [1, 2, 3, 4, 5].map(|k: usize| tensor[k][place]);
        let square = if channels == 1 { xx + yy + zz } else { largest_eigenvalue([*xx, yy, zz, xy, xz, yz]) };
        *length = square.max(0.0).sqrt();
    }
    lengths
}

/// Of a symmetric matrix given as xx, yy, zz, xy, xz, yz.
fn largest_eigenvalue(entries: [f32; 6]) -> f32 {
    let [xx, yy, zz, xy, xz, yz] = entries.map(f64::from);
    let mean = (xx + yy + zz) / 3.0;
    let (a, b, c) = (xx - mean, yy - mean, zz - mean);
    let spread = ((a * a + b * b + c * c + 2.0 * (xy * xy + xz * xz + yz * yz)) / 6.0).sqrt();
    if spread <= 0.0 {
        return mean as f32;
    }
    let determinant = a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz);
    let angle = (determinant / (2.0 * spread.powi(3))).clamp(-1.0, 1.0).acos() / 3.0;
    (mean + 2.0 * spread * angle.cos()) as f32
}

/// The value below which a share of all values lies, between 0 and 1; 0 of no values.
pub fn quantile(values: impl Iterator<Item = f32>, share: f64) -> f32 {
    let mut values: Vec<f32> = values.collect();
    if values.is_empty() {
        return 0.0;
    }
    let place = ((values.len() - 1) as f64 * share).round() as usize;
    *values.select_nth_unstable_by(place, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_are_those_of_known_matrices() {
        assert!((largest_eigenvalue([2.0, 5.0, 3.0, 0.0, 0.0, 0.0]) - 5.0).abs() < 1e-5);
        assert!((largest_eigenvalue([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]) - 3.0).abs() < 1e-5);
        assert!((largest_eigenvalue([2.0, 2.0, 0.0, -1.0, 0.0, 0.0]) - 3.0).abs() < 1e-5);
        assert_eq!(largest_eigenvalue([0.0; 6]), 0.0);
    }
}

//! Where the windows of a sliding-window prediction stand, and how their voxels count.

/// First voxels of the windows along one axis: evenly spread, at most `step` patch edges apart, the last one
/// flush with the end. A volume shorter than the patch gets one window around its middle.
pub fn starts(length: usize, patch: usize, step: f64) -> Vec<i64> {
    if length <= patch {
        return vec![-(((patch - length) / 2) as i64)];
    }
    let room = (length - patch) as f64;
    // However small the step, there is a window for every voxel at most.
    let count = (room / (patch as f64 * step)).ceil().min(room) as usize + 1;
    let actual = room / (count - 1).max(1) as f64;
    let mut starts: Vec<i64> = (0..count).map(|i| (actual * i as f64).round() as i64).collect();
    // Steps of less than half a voxel would visit a window twice.
    starts.dedup();
    starts
}

/// First voxels of windows that stand side by side along one axis, the last one flush with the end. A volume
/// shorter than the window gets one window around its middle.
pub fn tiles(length: usize, patch: usize) -> Vec<i64> {
    if length <= patch {
        return starts(length, patch, 1.0);
    }
    let last = length - patch;
    (0..last).step_by(patch).chain([last]).map(|start| start as i64).collect()
}

/// Gaussian of standard deviation `length / 8` around the middle voxel, 1 at its top.
pub(super) fn gaussian(length: usize) -> Vec<f32> {
    let (middle, deviation) = ((length / 2) as f64, length as f64 / 8.0);
    (0..length).map(|i| (-0.5 * ((i as f64 - middle) / deviation).powi(2)).exp() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_everything_and_stay_inside() {
        for length in 1..60 {
            for patch in [1, 2, 7, 16] {
                for step in [0.25, 0.5, 1.0] {
                    let starts = starts(length, patch, step);
                    let mut covered = vec![false; length];
                    for &start in &starts {
                        assert!(length <= patch || (start >= 0 && start as usize + patch <= length));
                        for place in start.max(0) as usize..((start + patch as i64) as usize).min(length) {
                            covered[place] = true;
                        }
                    }
                    assert!(covered.iter().all(|&c| c), "{length} {patch} {step}: {starts:?}");
                    assert!(starts.windows(2).all(|w| w[1] > w[0]), "{length} {patch} {step}: {starts:?}");
                }
            }
        }
    }

    #[test]
    fn tiles_stand_side_by_side_and_end_flush() {
        assert_eq!(tiles(29, 29), [0]);
        assert_eq!(tiles(58, 29), [0, 29]);
        assert_eq!(tiles(60, 29), [0, 29, 31]);
        assert_eq!(tiles(10, 29), [-9]);
        assert_eq!(tiles(30, 29), [0, 1]);
    }

    #[test]
    fn nnunet_places_windows_here() {
        // compute_steps_for_sliding_window of nnU-Net 2.8.1 for image 110 (and 123), patch 64, step 0.5.
        assert_eq!(starts(110, 64, 0.5), [0, 23, 46]);
        assert_eq!(starts(123, 64, 0.5), [0, 30, 59]);
    }
}

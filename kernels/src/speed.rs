//! How fast this machine is at the work that dominates training.

use std::time::{Duration, Instant};

use crate::array::{Activation, Array};
use crate::convolution::conv3d;
use crate::tape::Recording;

/// Billions of floating-point operations per second of a 3x3x3 convolution, 32 to 32 channels at 32^3, forward and
/// backward, on the selected path and number of threads: the best of the runs that fit into about 0.2 s.
pub fn convolution_speed() -> f64 {
    const CHANNELS: usize = 32;
    const SIZE: usize = 32;
    // A multiplication and an addition, 27 taps, three products: output, input gradient, weight gradient.
    const OPERATIONS: f64 = (3 * 2 * 27 * CHANNELS * CHANNELS * SIZE * SIZE * SIZE) as f64;
    let ramp = |count: usize, shape: [usize; 5]| {
        Array::of((0..count).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect::<Vec<_>>(), &shape)
    };
    let x = ramp(CHANNELS * SIZE * SIZE * SIZE, [1, SIZE, SIZE, SIZE, CHANNELS]);
    let weight = ramp(27 * CHANNELS * CHANNELS, [CHANNELS, CHANNELS, 3, 3, 3]);
    let slopes = vec![1.0; CHANNELS * SIZE * SIZE * SIZE];
    let start = Instant::now();
    let mut best = Duration::MAX;
    loop {
        let begin = Instant::now();
        let recording = Recording::new();
        let [x, weight] = [&x, &weight].map(|array| recording.leaf(array.clone()));
        let y = conv3d(Activation(x), weight, None, [1; 3], [1; 3]);
        let gradients = recording.backward(vec![(y.0, slopes.clone())]);
        best = best.min(begin.elapsed());
        drop(gradients);
        if start.elapsed() > Duration::from_millis(200) {
            return OPERATIONS / best.as_secs_f64() / 1e9;
        }
    }
}

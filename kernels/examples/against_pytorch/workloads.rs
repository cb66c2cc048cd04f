//! Times one workload of ours in this process.

use std::time::Instant;

use segen_kernels::{self as kernels, Activation, Array, Recording, Target};
use serde_json::{Value, json};

use crate::networks::{
    IMAGES, Model, PATHWAYS, Random, SEGMENTS, SMALL_UNET, UNET, deepmedic, loss, unet, wide_resnet,
};
use crate::{Outcome, median};

/// How often a workload is repeated: at least `least` times and until `seconds` have passed, after one time less and an
/// eighth of these seconds that do not count.
#[derive(Clone, Copy)]
pub(crate) struct Timer {
    pub(crate) least: usize,
    pub(crate) seconds: f64,
}

/// Wall and processor milliseconds and peak memory of the workload.
pub(crate) fn measure(name: &str, timer: Timer) -> Outcome<Value> {
    let times = match name {
        "unet forward" => {
            let mut model = Model::new(false);
            let x = model.random.array(&[2, 4, 64, 64, 64], 1.7);
            timer.repeat(|| drop(unet(&mut model, x.clone(), &UNET)))
        }
        "unet step" => {
            let mut model = Model::new(true);
            let x = model.random.array(&[2, 4, 64, 64, 64], 1.7);
            let target = model.random.labels([2, 64, 64, 64], UNET.classes as u8);
            timer.steps(&mut model, target, |model| unet(model, x.clone(), &UNET))
        }
        "small unet step" => {
            let mut model = Model::new(true);
            let x = model.random.array(&[4, 1, 32, 32, 32], 1.7);
            let target = model.random.labels([4, 32, 32, 32], SMALL_UNET.classes as u8);
            timer.steps(&mut model, target, |model| unet(model, x.clone(), &SMALL_UNET))
        }
        "deepmedic step" => {
            let mut model = Model::new(true);
            let inputs = PATHWAYS.map(|(size, _)| model.random.array(&[SEGMENTS, 1, size, size, size], 1.7));
            let target = model.random.labels([SEGMENTS, 21, 21, 21], 2);
            timer.steps(&mut model, target, |model| deepmedic(model, &inputs))
        }
        "wrn-16-4 step" => {
            let mut model = Model::new(true);
            let x = model.random.array(&[IMAGES, 3, 32, 32, 1], 1.7);
            let target = model.random.labels([IMAGES, 1, 1, 1], 10);
            timer.steps(&mut model, target, |model| wide_resnet(model, x.clone()))
        }
        "conv 8-8 32" => timer.convolution([3; 3], 8, 8, 32, 1),
        "conv 16-8 32" => timer.convolution([3; 3], 16, 8, 32, 1),
        "flat conv 8-8 32" => timer.convolution([3, 3, 1], 8, 8, 32, 1),
        "flat conv 32-32 32" => timer.convolution([3, 3, 1], 32, 32, 32, 1),
        "conv 32-32 64" => timer.convolution([3; 3], 32, 32, 64, 1),
        "conv 64-64 32" => timer.convolution([3; 3], 64, 64, 32, 1),
        "conv 128-128 16" => timer.convolution([3; 3], 128, 128, 16, 1),
        "conv 4-32 64" => timer.convolution([3; 3], 4, 32, 64, 1),
        "conv 32-64 stride 2 64" => timer.convolution([3; 3], 32, 64, 64, 2),
        "transposed 64-32 32" => {
            let mut random = Random::new();
            let (weight, bias) = (random.array(&[64, 32, 2, 2, 2], 0.1), random.array(&[32], 0.1));
            let x = random.array(&[2, 32, 32, 32, 64], 1.7);
            timer.operator([x, weight, bias], |[x, weight, bias]| {
                kernels::conv_transpose3d(Activation::from_channels_last(x), weight, Some(bias))
            })
        }
        "norm 8 32" => timer.norm(8, 32),
        "norm 32 64" => timer.norm(32, 64),
        _ => return Err(format!("unknown workload {name}").into()),
    };
    let [wall, processor] = times?;
    Ok(json!({ "wall_ms": wall, "processor_ms": processor, "peak_mib": status("VmHWM:")? / 1024.0 }))
}

impl Timer {
    /// Training steps.
    fn steps(
        &self,
        model: &mut Model,
        target: Target,
        forward: impl Fn(&mut Model) -> Activation,
    ) -> Outcome<[f64; 2]> {
        let mut last = 0.0_f32;
        let times = self.repeat(|| {
            let (sums, slopes) = loss(forward(model), target.clone());
            last = sums.to_host().iter().zip(&slopes).map(|(sum, slope)| sum * slope).sum();
            model.step(sums, slopes, 0.01);
        })?;
        if last.is_finite() { Ok(times) } else { Err(format!("the loss is {last}").into()) }
    }

    fn convolution(
        &self,
        [kx, ky, kz]: [usize; 3],
        input: usize,
        output: usize,
        size: usize,
        stride: usize,
    ) -> Outcome<[f64; 2]> {
        let mut random = Random::new();
        let weight = random.array(&[output, input, kx, ky, kz], 0.1);
        let (bias, x) = (random.array(&[output], 0.1), random.array(&[2, size, size, size, input], 1.7));
        self.operator([x, weight, bias], |[x, weight, bias]| {
            let x = Activation::from_channels_last(x);
            kernels::conv3d(x, weight, Some(bias), [stride; 3], [kx / 2, ky / 2, kz / 2])
        })
    }

    fn norm(&self, channels: usize, size: usize) -> Outcome<[f64; 2]> {
        let mut random = Random::new();
        let [weight, bias] = [1.0, 0.1].map(|bound| random.array(&[channels], bound));
        let x = random.array(&[2, size, size, size, channels], 1.7);
        self.operator([x, weight, bias], |[x, weight, bias]| {
            let x = Activation::from_channels_last(x);
            kernels::instance_norm_leaky_relu(x, weight, bias, 1e-5, 0.01)
        })
    }

    /// Forward and backward of one operator with respect to all inputs, for a gradient of the output that is not constant,
    /// which PyTorch is handed as well.
    fn operator(&self, inputs: [Array; 3], run: impl Fn([Array; 3]) -> Activation) -> Outcome<[f64; 2]> {
        let count = run(inputs.clone()).shape().iter().product();
        let slopes = Random::new().values(count, 1.7);
        self.repeat(|| {
            let recording = Recording::new();
            let y = run(inputs.each_ref().map(|input| recording.leaf(input.clone())));
            // A copy of the slopes is ours to pay.
            drop(recording.backward(vec![(y.into_channels_last(), slopes.clone())]));
        })
    }

    /// Medians of wall and processor milliseconds.
    fn repeat(&self, mut run: impl FnMut()) -> Outcome<[f64; 2]> {
        let mut enough = Enough::new(self.least - 1, self.seconds / 8.0);
        while !enough.reached() {
            run();
        }
        let (mut wall, mut processor) = (vec![], vec![]);
        let mut enough = Enough::new(self.least, self.seconds);
        while !enough.reached() {
            let (start, used) = (Instant::now(), processor_ms()?);
            run();
            wall.push(start.elapsed().as_secs_f64() * 1e3);
            processor.push(processor_ms()? - used);
        }
        Ok([median(wall), median(processor)])
    }
}

/// Whether a number of runs and seconds is over.
struct Enough {
    left: usize,
    seconds: f64,
    start: Instant,
}

impl Enough {
    fn new(runs: usize, seconds: f64) -> Self {
        Self { left: runs, seconds, start: Instant::now() }
    }

    /// To be asked before each run.
    fn reached(&mut self) -> bool {
        if self.left == 0 {
            return self.start.elapsed().as_secs_f64() >= self.seconds;
        }
        self.left -= 1;
        false
    }
}

/// Processor time of this process so far, of all threads: user and system ticks of 10 ms.
fn processor_ms() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    let ticks =
        |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).ok_or("/proc/self/stat");
    Ok(10.0 * (ticks(11)? + ticks(12)?))
}

/// A number of /proc/self/status.
fn status(key: &str) -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with(key)).ok_or("no such line")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

//! Our operators and a whole U-Net step against PyTorch on this machine.
//!
//! `cargo run --release -p segen-kernels --example against_pytorch -- --python PYTHON [--json FILE] [--runs N]
//! [--only WORKLOAD] [--threads N]`
//!
//! Every workload runs in a process of its own, ours and each configuration of PyTorch in turn, `--runs` times (5);
//! figures are medians over the runs. "Eager" is PyTorch as it comes; "best" is the fastest of eager, channels-last,
//! compiled, and both, each with the system's allocator as it is and tuned.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod network;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use network::{CLASSES, Random, UNet, loss};
use segen_kernels::{self as kernels, Activation};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Name, kind, and the bars of our time over eager's and over the best's.
const WORKLOADS: [(&str, &str, Option<f64>, Option<f64>); 9] = [
    ("conv 32-32 64", "operator", None, None),
    ("conv 64-64 32", "operator", None, None),
    ("conv 128-128 16", "operator", None, None),
    ("conv 4-32 64", "operator", None, None),
    ("conv 32-64 stride 2 64", "operator", None, None),
    ("transposed 64-32 32", "operator", None, None),
    ("norm 32 64", "operator", None, None),
    ("unet forward", "forward", None, Some(0.9)),
    ("unet step", "step", Some(0.5), Some(0.9)),
];

const CONFIGURATIONS: [&[&str]; 4] = [&[], &["channels-last"], &["compile"], &["channels-last", "compile"]];
/// Keeps freed memory, so that PyTorch pays for no page faults.
const TUNED: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "8589934592"),
    ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
    ("MALLOC_TOP_PAD_", "268435456"),
];

struct Options {
    python: PathBuf,
    json: Option<PathBuf>,
    runs: usize,
    only: Option<String>,
    threads: usize,
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let mut python = None;
    let threads = std::thread::available_parallelism()?.get();
    let mut options = Options { python: PathBuf::new(), json: None, runs: 5, only: None, threads };
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--python" => python = Some(PathBuf::from(value)),
            "--json" => options.json = Some(PathBuf::from(value)),
            "--runs" => options.runs = value.parse()?,
            "--only" => options.only = Some(value),
            "--threads" => options.threads = value.parse()?,
            "--measure" => {
                kernels::set_threads(options.threads);
                println!("{}", measure(&value)?);
                return Ok(());
            }
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    options.python = python.ok_or("--python PYTHON is needed: an interpreter with torch")?;
    compare(&options)
}

/// Runs all workloads and prints the table.
fn compare(options: &Options) -> Outcome<()> {
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let mut rows = vec![];
    println!("path {}, {} threads", kernels::selected(), options.threads);
    for (name, kind, eager_bar, best_bar) in WORKLOADS.into_iter().filter(|workload| wanted(workload.0)) {
        let mut ours = vec![];
        let mut theirs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for _ in 0..options.runs {
            ours.push(run(&mut own(name, options)?)?);
            for (configuration, tuned) in CONFIGURATIONS.into_iter().flat_map(|c| [(c, false), (c, true)]) {
                let title = if configuration.is_empty() { "eager".into() } else { configuration.join(" + ") };
                let title = if tuned { format!("{title}, tuned malloc") } else { title };
                theirs.entry(title).or_default().push(run(&mut opponent(
                    name,
                    configuration,
                    tuned,
                    options,
                ))?);
            }
        }
        let [our_time, our_use, our_peak] = medians(&ours)?;
        println!("{name}: ours {our_time:.1} ms wall, {our_use:.1} ms processor, peak {our_peak:.0} MiB");
        let mut best = (String::new(), f64::INFINITY, f64::NAN);
        for (title, runs) in &theirs {
            let [time, used, peak] = medians(runs)?;
            println!(
                "  {title}: {time:.1} ms wall, {used:.1} ms processor, peak {peak:.0} MiB; ratio {:.2} wall, {:.2} processor",
                our_time / time,
                our_use / used
            );
            if time < best.1 {
                best = (title.clone(), time, peak);
            }
        }
        let [eager, _, eager_peak] = medians(&theirs["eager"])?;
        for (opponent, time, peak, bar) in
            [("eager", eager, eager_peak, eager_bar), ("best", best.1, best.2, best_bar)]
        {
            rows.push(json!({
                "name": name, "kind": kind, "precision": "f32", "opponent": opponent, "ours_ms": our_time,
                "theirs_ms": time, "ratio": our_time / time, "bar": bar,
                "ours_peak_mib": our_peak, "theirs_peak_mib": peak,
            }));
        }
    }
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

fn own(name: &str, options: &Options) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--threads", &options.threads.to_string(), "--measure", name]);
    Ok(command)
}

fn opponent(name: &str, configuration: &[&str], tuned: bool, options: &Options) -> Command {
    let mut command = Command::new(&options.python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/against_pytorch/opponent.py")).arg(name);
    command.args(configuration).env("THREADS", options.threads.to_string());
    if tuned {
        command.envs(TUNED);
    }
    command
}

/// Runs one measurement; a configuration that fails is an error.
fn run(command: &mut Command) -> Outcome<Value> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(text.lines().last().ok_or("no output")?)?)
}

/// Medians of wall time, processor time and peak memory.
fn medians(runs: &[Value]) -> Outcome<[f64; 3]> {
    let mut result = [0.0; 3];
    for (result, key) in result.iter_mut().zip(["wall_ms", "processor_ms", "peak_mib"]) {
        let values = runs.iter().map(|run| run[key].as_f64().ok_or("not a number"));
        *result = median(values.collect::<Result<_, _>>()?);
    }
    Ok(result)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Times one workload of ours in this process.
fn measure(name: &str) -> Outcome<Value> {
    let times = match name {
        "unet forward" => {
            let mut random = Random::new(Device::flex());
            let network = UNet::new(&mut random);
            let x = random.tensor([2, 4, 64, 64, 64], 1.7);
            repeat(|| drop(network.forward(x.clone())))
        }
        "unet step" => {
            let mut random = Random::new(Device::flex().autodiff());
            let mut network = UNet::new(&mut random);
            let x = random.tensor([2, 4, 64, 64, 64], 1.7);
            let target = random.labels([2, 64, 64, 64], CLASSES as i32);
            repeat(|| {
                let loss = loss(network.forward(x.clone()), target.clone());
                network.parameters.step(&loss, 0.01);
                assert!(loss.into_scalar::<f32>().is_finite());
            })
        }
        "conv 32-32 64" => convolution(32, 32, 64, 1),
        "conv 64-64 32" => convolution(64, 64, 32, 1),
        "conv 128-128 16" => convolution(128, 128, 16, 1),
        "conv 4-32 64" => convolution(4, 32, 64, 1),
        "conv 32-64 stride 2 64" => convolution(32, 64, 64, 2),
        "transposed 64-32 32" => {
            let mut random = Random::new(Device::flex().autodiff());
            let weight = random.tensor([64, 32, 2, 2, 2], 0.1).require_grad();
            let bias = random.tensor([32], 0.1).require_grad();
            let x = random.tensor([2, 32, 32, 32, 64], 1.7).require_grad();
            operator(|| {
                let x = Activation::from_channels_last(x.clone());
                kernels::conv_transpose3d(x, weight.clone(), Some(bias.clone()))
            })
        }
        "norm 32 64" => {
            let mut random = Random::new(Device::flex().autodiff());
            let [weight, bias] = [1.0, 0.1].map(|bound| random.tensor([32], bound).require_grad());
            let x = random.tensor([2, 64, 64, 64, 32], 1.7).require_grad();
            operator(|| {
                let x = Activation::from_channels_last(x.clone());
                kernels::instance_norm_leaky_relu(x, weight.clone(), bias.clone(), 1e-5, 0.01)
            })
        }
        _ => return Err(format!("unknown workload {name}").into()),
    };
    let [wall, processor] = times?;
    Ok(json!({ "wall_ms": wall, "processor_ms": processor, "peak_mib": status("VmHWM:")? / 1024.0 }))
}

fn convolution(input: usize, output: usize, size: usize, stride: usize) -> Outcome<[f64; 2]> {
    let mut random = Random::new(Device::flex().autodiff());
    let weight = random.tensor([output, input, 3, 3, 3], 0.1).require_grad();
    let bias = random.tensor([output], 0.1).require_grad();
    let x = random.tensor([2, size, size, size, input], 1.7).require_grad();
    operator(|| {
        let x = Activation::from_channels_last(x.clone());
        kernels::conv3d(x, weight.clone(), Some(bias.clone()), [stride; 3], [1; 3])
    })
}

/// Forward and backward of one operator, for a gradient of the output that is not constant.
fn operator(run: impl Fn() -> Activation) -> Outcome<[f64; 2]> {
    let shape = run().shape();
    let factor: Tensor<5> = Random::new(Device::flex().autodiff()).tensor(shape, 1.7);
    // A product with a tensor of the output's size is ours to pay; PyTorch is handed the gradient.
    repeat(|| drop((run().into_channels_last() * factor.clone()).backward()))
}

/// Medians of wall and processor milliseconds.
fn repeat(mut run: impl FnMut()) -> Outcome<[f64; 2]> {
    let (mut wall, mut processor) = (vec![], vec![]);
    for repetition in 0..7 {
        let (start, used) = (Instant::now(), processor_ms()?);
        run();
        if repetition >= 2 {
            wall.push(start.elapsed().as_secs_f64() * 1e3);
            processor.push(processor_ms()? - used);
        }
    }
    Ok([median(wall), median(processor)])
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

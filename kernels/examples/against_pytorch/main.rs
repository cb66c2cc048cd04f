//! Our operators and whole training steps against PyTorch on this machine.
//!
//! `cargo run --release -p segen-kernels --example against_pytorch -- --python PYTHON [--json FILE] [--quick]
//! [--runs N] [--only WORKLOAD] [--precision f32|bf16] [--threads N]`
//!
//! Every workload runs in a process of its own, ours and each configuration of PyTorch in turn, `--runs` times (5);
//! figures are medians over the runs. "Eager" is PyTorch as it comes; "best" is the fastest of eager, channels-last,
//! compiled, and both, each with the system's allocator as it is and tuned. A configuration that does not run is an
//! error. `--quick` runs everything once, with few repetitions: it shows that all configurations run.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod networks;
mod workloads;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

use segen_kernels::{self as kernels, Precision};
use serde_json::{Value, json};
use workloads::measure;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What is compared, and what our time over PyTorch's may be at most, where a bar is set.
struct Workload {
    name: &'static str,
    kind: &'static str,
    /// Against eager in f32, and against the best in f32 and bf16.
    eager: Option<f64>,
    best: [Option<f64>; 2],
    /// Our peak memory over that of eager, in f32.
    memory: Option<f64>,
}

const fn operator(name: &'static str) -> Workload {
    Workload { name, kind: "operator", eager: None, best: [None; 2], memory: None }
}

const WORKLOADS: [Workload; 11] = [
    Workload {
        name: "unet step",
        kind: "step",
        eager: Some(0.5),
        best: [Some(0.9), Some(0.7)],
        memory: Some(0.5),
    },
    Workload {
        name: "unet forward",
        kind: "forward",
        eager: None,
        best: [Some(0.9), Some(0.9)],
        memory: None,
    },
    Workload { name: "deepmedic step", kind: "step", eager: Some(0.6), best: [None; 2], memory: None },
    Workload { name: "wrn-16-4 step", kind: "step", eager: Some(0.6), best: [None; 2], memory: None },
    operator("conv 32-32 64"),
    operator("conv 64-64 32"),
    operator("conv 128-128 16"),
    operator("conv 4-32 64"),
    operator("conv 32-64 stride 2 64"),
    operator("transposed 64-32 32"),
    operator("norm 32 64"),
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
    /// Repetitions in a process before and during the measurement.
    warm: usize,
    repetitions: usize,
    only: Option<String>,
    precision: Option<Precision>,
    threads: usize,
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let (mut python, mut workload) = (None, None);
    let threads = std::thread::available_parallelism()?.get();
    let mut options = Options {
        python: PathBuf::new(),
        json: None,
        runs: 5,
        warm: 2,
        repetitions: 5,
        only: None,
        precision: None,
        threads,
    };
    while let Some(argument) = arguments.next() {
        if argument == "--quick" {
            (options.runs, options.warm, options.repetitions) = (1, 1, 2);
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--python" => python = Some(PathBuf::from(value)),
            "--json" => options.json = Some(PathBuf::from(value)),
            "--runs" => options.runs = value.parse::<usize>()?.max(1),
            "--warm" => options.warm = value.parse()?,
            "--repetitions" => options.repetitions = value.parse::<usize>()?.max(1),
            "--only" => options.only = Some(value),
            "--precision" => options.precision = Some(value.parse()?),
            "--threads" => options.threads = value.parse()?,
            "--measure" => workload = Some(value),
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    if let Some(name) = workload {
        kernels::set_threads(options.threads);
        kernels::set_precision(options.precision.unwrap_or(Precision::F32));
        println!("{}", measure(&name, options.warm, options.repetitions)?);
        return Ok(());
    }
    options.python = python.ok_or("--python PYTHON is needed: an interpreter with torch")?;
    compare(&options)
}

/// Runs all workloads and prints the table.
fn compare(options: &Options) -> Outcome<()> {
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let workloads = WORKLOADS.iter().filter(|workload| wanted(workload.name)).collect::<Vec<_>>();
    if workloads.is_empty() {
        let names = WORKLOADS.map(|workload| workload.name).join(", ");
        return Err(format!("--only takes one of {names}").into());
    }
    let mut rows = vec![];
    for precision in [Precision::F32, Precision::Bf16] {
        if options.precision.is_some_and(|only| only != precision) {
            continue;
        }
        kernels::set_precision(precision);
        println!(
            "path {}, {} threads; {precision}: {}",
            kernels::selected(),
            options.threads,
            kernels::precision_note()
        );
        for workload in &workloads {
            rows.append(&mut compare_one(workload, precision, options)?);
        }
    }
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_string_pretty(&rows)? + "\n")?;
    }
    Ok(())
}

/// Ours and every configuration of PyTorch in turn; the rows against eager and against the best.
fn compare_one(workload: &Workload, precision: Precision, options: &Options) -> Outcome<Vec<Value>> {
    let name = workload.name;
    let mut ours = vec![];
    let mut theirs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for _ in 0..options.runs {
        ours.push(run(&mut own(name, precision, options)?)?);
        for (configuration, tuned) in CONFIGURATIONS.into_iter().flat_map(|c| [(c, false), (c, true)]) {
            let title = if configuration.is_empty() { "eager".into() } else { configuration.join(" + ") };
            let title = if tuned { format!("{title}, tuned malloc") } else { title };
            let mut command = opponent(name, configuration, precision, options);
            if tuned {
                command.envs(TUNED);
            }
            theirs.entry(title).or_default().push(run(&mut command)?);
        }
    }
    let [our_time, our_use, our_peak] = medians(&ours)?;
    println!("{name}: ours {our_time:.1} ms wall, {our_use:.1} ms processor, peak {our_peak:.0} MiB");
    let mut best = (f64::INFINITY, f64::NAN);
    for (title, runs) in &theirs {
        let [time, used, peak] = medians(runs)?;
        println!(
            "  {title}: {time:.1} ms wall, {used:.1} ms processor, peak {peak:.0} MiB; ratio {:.2} wall, {:.2} \
             processor, {:.2} memory",
            our_time / time,
            our_use / used,
            our_peak / peak
        );
        if time < best.0 {
            best = (time, peak);
        }
    }
    let [eager, _, eager_peak] = medians(&theirs["eager"])?;
    let single = precision == Precision::F32;
    let eager_bars = if single { [workload.eager, workload.memory] } else { [None; 2] };
    let best_bars = [workload.best[usize::from(!single)], None];
    let rows = [("eager", eager, eager_peak, eager_bars), ("best", best.0, best.1, best_bars)];
    Ok(rows
        .into_iter()
        .map(|(opponent, time, peak, [bar, memory_bar])| {
            json!({
                "name": name, "kind": workload.kind, "precision": precision.to_string(), "opponent": opponent,
                "ours_ms": our_time, "theirs_ms": time, "ratio": our_time / time, "bar": bar,
                "ours_mib": our_peak, "theirs_mib": peak, "memory_ratio": our_peak / peak, "memory_bar": memory_bar,
            })
        })
        .collect())
}

fn own(name: &str, precision: Precision, options: &Options) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--measure", name, "--precision", &precision.to_string()]);
    for (argument, value) in
        [("--threads", options.threads), ("--warm", options.warm), ("--repetitions", options.repetitions)]
    {
        command.args([argument, &value.to_string()]);
    }
    Ok(command)
}

fn opponent(name: &str, configuration: &[&str], precision: Precision, options: &Options) -> Command {
    let mut command = Command::new(&options.python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/against_pytorch/opponent.py")).arg(name);
    command.args(configuration).args((precision == Precision::Bf16).then_some("bf16"));
    for (variable, value) in
        [("THREADS", options.threads), ("WARM", options.warm), ("REPETITIONS", options.repetitions)]
    {
        command.env(variable, value.to_string());
    }
    command
}

/// Runs one measurement; a configuration that fails is an error.
fn run(command: &mut Command) -> Outcome<Value> {
    let output = command.output().map_err(|error| format!("{command:?} does not start: {error}"))?;
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

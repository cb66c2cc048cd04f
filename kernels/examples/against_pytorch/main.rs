//! Our operators and whole training steps against PyTorch on this machine.
//!
//! `cargo run --release -p segen-kernels --example against_pytorch -- --python PYTHON [--json FILE] [--quick] [--all]
//! [--runs N] [--only WORKLOAD]... [--precision f32|bf16] [--threads N] [--no-matrix-tiles] [--path PATH]`
//!
//! Every workload runs in a process of its own, ours and each configuration of PyTorch in turn, `--runs` times (5);
//! figures are medians over the runs. "Eager" is PyTorch as it comes; "best" is the fastest of eager, channels-last,
//! compiled, and both, each with the system's allocator as it is and tuned. A configuration that does not run is an
//! error.
//!
//! To save hours, the best is sought where a bar is set against it, and a configuration that in the first run takes
//! more than [`HOPELESS`] times as long as the fastest is not run again; `--all` runs everything every time. `--quick`
//! runs everything once, with few repetitions: it shows that all configurations run. A FILE that exists keeps its rows of
//! other workloads, so that it can be filled piece by piece, on one machine.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::print_stderr, reason = "it takes long and says how far it is")]

mod networks;
mod workloads;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use segen_kernels::{self as kernels, Precision, Settings};
use serde_json::{Value, json};
use workloads::{Timer, measure};

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

const WORKLOADS: [Workload; 17] = [
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
        best: [Some(0.6), Some(0.9)],
        memory: None,
    },
    Workload { name: "small unet step", kind: "step", eager: None, best: [Some(0.5), None], memory: None },
    Workload { name: "deepmedic step", kind: "step", eager: Some(0.6), best: [None; 2], memory: None },
    Workload { name: "wrn-16-4 step", kind: "step", eager: Some(0.6), best: [None; 2], memory: None },
    operator("conv 8-8 32"),
    operator("conv 16-8 32"),
    operator("flat conv 8-8 32"),
    operator("flat conv 32-32 32"),
    operator("conv 32-32 64"),
    operator("conv 64-64 32"),
    operator("conv 128-128 16"),
    operator("conv 4-32 64"),
    operator("conv 32-64 stride 2 64"),
    operator("transposed 64-32 32"),
    operator("norm 8 32"),
    operator("norm 32 64"),
];

const CONFIGURATIONS: [&[&str]; 4] = [&[], &["channels-last"], &["compile"], &["channels-last", "compile"]];
/// Keeps freed memory, so that PyTorch pays for no page faults.
const TUNED: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "8589934592"),
    ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
    ("MALLOC_TOP_PAD_", "268435456"),
];

/// A configuration that takes so many times as long as the fastest in the first run is not run again.
const HOPELESS: f64 = 1.3;

struct Options {
    python: PathBuf,
    json: Option<PathBuf>,
    runs: usize,
    all: bool,
    timer: Timer,
    only: Vec<String>,
    precision: Option<Precision>,
    threads: usize,
    /// Whether ours may use AMX.
    matrix_tiles: bool,
    /// The instructions of both, where they are not the fastest that there are.
    path: Option<kernels::Path>,
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let (mut python, mut workload) = (None, None);
    let mut options = Options {
        python: PathBuf::new(),
        json: None,
        runs: 5,
        all: false,
        timer: Timer { least: 3, seconds: 4.0 },
        only: vec![],
        precision: None,
        threads: std::thread::available_parallelism()?.get(),
        matrix_tiles: true,
        path: None,
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--all" => options.all = true,
            "--no-matrix-tiles" => options.matrix_tiles = false,
            "--quick" => {
                (options.runs, options.all, options.timer) = (1, true, Timer { least: 2, seconds: 0.0 });
            }
            _ => {
                let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
                match argument.as_str() {
                    "--python" => python = Some(PathBuf::from(value)),
                    "--json" => options.json = Some(PathBuf::from(value)),
                    "--runs" => options.runs = value.parse::<usize>()?.max(1),
                    "--least" => options.timer.least = value.parse::<usize>()?.max(1),
                    "--seconds" => options.timer.seconds = value.parse()?,
                    "--only" => options.only.push(value),
                    "--precision" => options.precision = Some(value.parse()?),
                    "--threads" => options.threads = value.parse()?,
                    "--path" => options.path = Some(value.parse()?),
                    "--measure" => workload = Some(value),
                    _ => return Err(format!("unknown argument {argument}").into()),
                }
            }
        }
    }
    if let Some(name) = workload {
        let settings = settings(&options, options.precision.unwrap_or(Precision::F32))?;
        println!("{}", settings.scoped(|| measure(&name, options.timer))?);
        return Ok(());
    }
    options.python = python.ok_or("--python PYTHON is needed: an interpreter with torch")?;
    compare(&options)
}

/// What ours run on.
fn settings(options: &Options, precision: Precision) -> Outcome<Settings> {
    let settings = Settings::current().with_threads(options.threads).with_precision(precision);
    Ok(settings.with_matrix_tiles(options.matrix_tiles).with_path(options.path)?)
}

/// Runs all workloads that are wanted and prints the table.
fn compare(options: &Options) -> Outcome<()> {
    if let Some(unknown) = options.only.iter().find(|only| WORKLOADS.iter().all(|one| one.name != **only)) {
        let names = WORKLOADS.map(|workload| workload.name).join(", ");
        return Err(format!("there is no workload {unknown}; --only takes one of {names}").into());
    }
    let mut wanted = vec![];
    for precision in [Precision::F32, Precision::Bf16] {
        let all = options.only.is_empty();
        let workloads =
            WORKLOADS.iter().filter(|one| all || options.only.iter().any(|only| only == one.name));
        if options.precision.is_none_or(|only| only == precision) {
            wanted.extend(workloads.map(|workload| (workload, precision)));
        }
    }
    let processes = |(workload, precision): &(&Workload, Precision)| {
        options.runs * (1 + configurations(workload, *precision, options).len())
    };
    let planned = wanted.iter().map(processes).sum();
    let mut progress = Progress { start: Instant::now(), done: 0, planned };
    let mut last = None;
    for (workload, precision) in wanted {
        if last.replace(precision) != Some(precision) {
            let settings = settings(options, precision)?;
            let (path, threads) = (settings.path(), settings.threads());
            println!("path {path}, {threads} threads; {precision}: {}", settings.arithmetic());
        }
        let rows = compare_one(workload, precision, options, &mut progress)?;
        if let Some(file) = &options.json {
            save(file, rows)?;
        }
    }
    Ok(())
}

/// Puts rows into the list in a file, in the place of those of the same workload and precision.
fn save(file: &Path, rows: Vec<Value>) -> Outcome<()> {
    let mut all: Vec<Value> = match file.exists() {
        true => serde_json::from_str(&std::fs::read_to_string(file)?)?,
        false => vec![],
    };
    all.retain(|old| rows.iter().all(|new| ["name", "precision"].iter().any(|key| old[key] != new[key])));
    all.extend(rows);
    Ok(std::fs::write(file, serde_json::to_string_pretty(&all)? + "\n")?)
}

/// How far the comparison is.
struct Progress {
    start: Instant,
    /// Processes that have ended, and all.
    done: usize,
    planned: usize,
}

impl Progress {
    fn step(&mut self, what: &str, run: &Value) {
        self.done += 1;
        let left = self.planned.saturating_sub(self.done);
        let seconds = self.start.elapsed().as_secs_f64() / self.done as f64 * left as f64;
        let left = Duration::from_secs(seconds as u64);
        let time = run["wall_ms"].as_f64().unwrap_or(f64::NAN);
        eprintln!("{}/{} {what}: {time:.1} ms; about {left:?} left", self.done, self.planned);
    }
}

/// A way to run PyTorch.
#[derive(Clone, Copy)]
struct Configuration {
    options: &'static [&'static str],
    tuned: bool,
}

impl Configuration {
    const EAGER: Self = Self { options: &[], tuned: false };

    fn title(self) -> String {
        let title = if self.options.is_empty() { "eager".into() } else { self.options.join(" + ") };
        if self.tuned { title + ", tuned malloc" } else { title }
    }
}

/// The configurations that a workload is compared with; the first is eager.
fn configurations(workload: &Workload, precision: Precision, options: &Options) -> Vec<Configuration> {
    if !options.all && workload.best[usize::from(precision == Precision::Bf16)].is_none() {
        return vec![Configuration::EAGER];
    }
    let tuned_or_not = |options| [false, true].map(|tuned| Configuration { options, tuned });
    CONFIGURATIONS.into_iter().flat_map(tuned_or_not).collect()
}

/// Ours and configurations of PyTorch in turn; the rows against eager and against the best.
fn compare_one(
    workload: &Workload,
    precision: Precision,
    options: &Options,
    progress: &mut Progress,
) -> Outcome<Vec<Value>> {
    let name = workload.name;
    let mut ours = vec![];
    let mut theirs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut configurations = configurations(workload, precision, options);
    let sought = configurations.len() > 1;
    for index in 0..options.runs {
        ours.push(run(&mut own(name, precision, options)?)?);
        progress.step(&format!("{name}, {precision}, ours"), &ours[index]);
        for &configuration in &configurations {
            let title = configuration.title();
            let result = run(&mut opponent(name, configuration, precision, options))?;
            progress.step(&format!("{name}, {precision}, {title}"), &result);
            theirs.entry(title).or_default().push(result);
        }
        if index == 0 && !options.all {
            let time = |configuration: &Configuration| {
                theirs[&configuration.title()][0]["wall_ms"].as_f64().unwrap_or(f64::NAN)
            };
            let fastest = configurations.iter().map(time).fold(f64::INFINITY, f64::min);
            let hopeful = |one: &Configuration| one.title() == "eager" || time(one) <= HOPELESS * fastest;
            let kept = configurations.iter().copied().filter(hopeful).collect::<Vec<_>>();
            progress.planned -= (options.runs - 1) * (configurations.len() - kept.len());
            configurations = kept;
        }
    }
    let [our_time, our_use, our_peak] = medians(&ours)?;
    println!("{name}: ours {our_time:.1} ms wall, {our_use:.1} ms processor, peak {our_peak:.0} MiB");
    let mut best = (f64::INFINITY, f64::NAN);
    for (title, runs) in &theirs {
        let [time, used, peak] = medians(runs)?;
        println!(
            "  {title}: {time:.1} ms wall, {used:.1} ms processor, peak {peak:.0} MiB; ratio {:.2} wall, {:.2} \
             processor, {:.2} memory; runs: {}",
            our_time / time,
            our_use / used,
            our_peak / peak,
            runs.len()
        );
        if runs.len() == options.runs && time < best.0 {
            best = (time, peak);
        }
    }
    let [eager, _, eager_peak] = medians(&theirs["eager"])?;
    let single = precision == Precision::F32;
    let eager_bars = if single { [workload.eager, workload.memory] } else { [None; 2] };
    let best_bars = [workload.best[usize::from(!single)], None];
    let rows = [("eager", eager, eager_peak, eager_bars), ("best", best.0, best.1, best_bars)];
    let path = settings(options, precision)?.path().to_string();
    Ok(rows
        .into_iter()
        .filter(|(opponent, ..)| *opponent == "eager" || sought)
        .map(|(opponent, time, peak, [bar, memory_bar])| {
            json!({
                "name": name, "kind": workload.kind, "precision": precision.to_string(), "opponent": opponent,
                "ours_ms": our_time, "theirs_ms": time, "ratio": our_time / time, "bar": bar,
                "ours_mib": our_peak, "theirs_mib": peak, "memory_ratio": our_peak / peak, "memory_bar": memory_bar,
                "path": path, "threads": options.threads,
            })
        })
        .collect())
}

fn own(name: &str, precision: Precision, options: &Options) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let Timer { least, seconds } = options.timer;
    command.args([
        "--measure",
        name,
        "--precision",
        &precision.to_string(),
        "--seconds",
        &seconds.to_string(),
    ]);
    for (argument, value) in [("--threads", options.threads), ("--least", least)] {
        command.args([argument, &value.to_string()]);
    }
    command.args((!options.matrix_tiles).then_some("--no-matrix-tiles"));
    if let Some(path) = options.path {
        command.args(["--path", &path.to_string()]);
    }
    Ok(command)
}

fn opponent(name: &str, configuration: Configuration, precision: Precision, options: &Options) -> Command {
    let mut command = Command::new(&options.python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/against_pytorch/opponent.py")).arg(name);
    command.args(configuration.options).args((precision == Precision::Bf16).then_some("bf16"));
    let Timer { least, seconds } = options.timer;
    command.env("MEASURE_SECONDS", seconds.to_string());
    for (variable, value) in [("THREADS", options.threads), ("LEAST_RUNS", least)] {
        command.env(variable, value.to_string());
    }
    if configuration.tuned {
        command.envs(TUNED);
    }
    if options.path == Some(kernels::Path::Avx2) {
        command.envs([("ATEN_CPU_CAPABILITY", "avx2"), ("ONEDNN_MAX_CPU_ISA", "AVX2")]);
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
    (values[values.len() / 2] + values[(values.len() - 1) / 2]) / 2.0
}

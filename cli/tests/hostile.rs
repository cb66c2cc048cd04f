//! Every kind of file that the commands read, damaged: an error with exit code 2 or a result, never a panic, never
//! long, never much memory. (`segen`'s own tests compare damaged NIfTI files voxel by voxel with nibabel.)

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod common;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{phantom, segen};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Damaged versions of each file.
const VERSIONS: usize = 128;
/// Of one command that refuses its input: processor time, where the system tells, and time that passes, of which a machine
/// that does other things takes more.
const LONGEST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(20)];
const MOST_MEMORY: u64 = 200 << 20;

/// One file and the command that reads it.
struct Target {
    file: PathBuf,
    command: Vec<String>,
    /// Made anew before every command.
    scratch: Vec<PathBuf>,
}

/// How one damaged version ended.
struct Ended {
    code: Option<i32>,
    took: Duration,
    passed: Duration,
    memory: u64,
    stderr: String,
}

#[test]
fn damaged_files_of_every_kind_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let dataset = phantom(root, 4, "32,32,32");
    let (run, cache) = (root.join("run"), root.join("cache"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let config = root.join("config.toml");
    fs::write(&config, CONFIG).unwrap();
    let train = |run: &Path| {
        let [data, run, config, cache] = [&dataset, run, &config, &cache].map(text);
        words(&format!("train {data} -o {run} -c {config} --cache {cache} --steps 1 --threads 1"))
    };
    // Before the run: it goes on only with the split that it began with.
    let splits = dataset.join("splits_final.json");
    let cases: Vec<String> = dataset
        .join("labelsTr")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().trim_end_matches(".nii.gz").to_owned())
        .collect();
    fs::write(&splits, splits_json(&cases)).unwrap();
    finish(&train(&run));
    // What a killed run leaves: half of its steps done.
    let image = dataset.join("imagesTr").read_dir().unwrap().next().unwrap().unwrap().path();
    let label = dataset.join("labelsTr").read_dir().unwrap().next().unwrap().unwrap().path();
    let other = root.join("other");
    let out = root.join("out");
    let checkpoint = |name: &str| {
        let step = fs::read_to_string(run.join("checkpoint/latest")).unwrap();
        run.join("checkpoint").join(step.trim()).join(name)
    };
    let predict = words(&format!("predict {} {} -o {} --threads 1", text(&run), text(&image), text(&out)));
    let evaluate = |dataset: &Path| {
        let labels = text(&dataset.join("labelsTr"));
        words(&format!(
            "evaluate {labels} {labels} --dataset {} -o {}",
            text(&dataset.join("dataset.json")),
            { text(&out.join("summary.json")) }
        ))
    };
    let deepmedic = deepmedic_lists(root, &image, &label);
    let import = words(&format!("import {} -o {}", text(&deepmedic), text(&out)));
    let target = |file: PathBuf, command: &[String], scratch: &[&PathBuf]| Target {
        file,
        command: command.to_vec(),
        scratch: scratch.iter().map(|&path| path.clone()).collect(),
    };
    let mut targets = vec![
        target(dataset.join("dataset.json"), &words(&format!("plan {}", text(&dataset))), &[]),
        target(dataset.join("dataset.json"), &evaluate(&dataset), &[&out]),
        target(image.clone(), &predict, &[&out]),
        target(label.clone(), &evaluate(&dataset), &[&out]),
        target(config.clone(), &train(&other), &[&other]),
        target(deepmedic.join("trainConfig.cfg"), &import, &[&out]),
        target(deepmedic.join("labels.cfg"), &import, &[&out]),
    ];
    for name in ["config.toml", "plan.json", "dataset.json", "checkpoint/latest"] {
        targets.push(target(run.join(name), &predict, &[&out]));
    }
    for entry in fs::read_dir(checkpoint("")).unwrap() {
        targets.push(target(entry.unwrap().path(), &predict, &[&out]));
    }
    let resume = words(&format!("train {} -o {} --resume --threads 1", text(&dataset), text(&run)));
    for name in ["split.json", "run.json", "events.jsonl", "policy.toml"] {
        targets.push(target(run.join(name), &resume, &[]));
    }
    // A damaged cache is made again.
    let plan = root.join("plan-cache");
    let prepare = words(&format!("plan {} --prepare {}", text(&dataset), text(&plan)));
    finish(&prepare);
    let mut cached: Vec<PathBuf> = fs::read_dir(&plan).unwrap().map(|entry| entry.unwrap().path()).collect();
    cached.retain(|path| path.is_file());
    cached.sort();
    targets.extend(cached.into_iter().take(2).map(|path| target(path, &prepare, &[])));
    targets.push(target(splits, &train(&other), &[&other]));

    let mut random = ChaCha8Rng::seed_from_u64(4);
    let (mut inputs, mut refused, mut slowest, mut largest) = (0, 0, Duration::ZERO, 0);
    for target in &targets {
        // Undamaged, the command works.
        let sound = attempt(target);
        assert_eq!(sound.code, Some(0), "{:?}: {}", target.command, sound.stderr);
        let content = fs::read(&target.file).unwrap();
        for version in 0..VERSIONS {
            fs::write(&target.file, damage(&content, version, &mut random)).unwrap();
            let ended = attempt(target);
            let about = format!(
                "{} version {version}, {:?}: exit {:?} after {:?} with {} MiB\n{}",
                target.file.display(),
                target.command,
                ended.code,
                ended.took,
                ended.memory >> 20,
                ended.stderr
            );
            inputs += 1;
            match ended.code {
                Some(0) => {}
                Some(2) => {
                    refused += 1;
                    slowest = slowest.max(ended.took);
                    largest = largest.max(ended.memory);
                    assert!(ended.took < LONGEST[0] && ended.passed < LONGEST[1], "{about}");
                    assert!(ended.memory < MOST_MEMORY, "{about}");
                    assert!(ended.stderr.contains("error"), "{about}");
                }
                _ => panic!("{about}"),
            }
            assert!(!ended.stderr.contains("panicked"), "{about}");
        }
        fs::write(&target.file, &content).unwrap();
    }
    println!(
        "{inputs} inputs of {} files, {refused} refused, slowest {slowest:?}, at most {} MiB",
        targets.len(),
        largest >> 20
    );
    assert!(inputs >= 2000, "{inputs}");
}

/// Small enough that a sound run takes a moment.
const CONFIG: &str = r#"
seed = 3

[schedule]
steps_per_epoch = 2

[optimiser]
kind = "sgd"
learning_rate = 0.01

[plan]
patch = [16, 16, 16]
batch = 2
base_features = 4

[policy]
name = "none"

[validation]
cases_per_epoch = 1
"#;

fn splits_json(cases: &[String]) -> String {
    let quoted = |cases: &[String]| cases.iter().map(|c| format!("{c:?}")).collect::<Vec<_>>().join(", ");
    format!(r#"[{{"train": [{}], "val": [{}]}}]"#, quoted(&cases[1..]), quoted(&cases[..1]))
}

/// DeepMedic's list files for one case.
fn deepmedic_lists(root: &Path, image: &Path, label: &Path) -> PathBuf {
    let folder = root.join("deepmedic");
    fs::create_dir_all(&folder).unwrap();
    let line = |path: &Path| format!("{}\n", path.display());
    fs::write(folder.join("channel.cfg"), line(image)).unwrap();
    fs::write(folder.join("labels.cfg"), line(label)).unwrap();
    fs::write(
        folder.join("trainConfig.cfg"),
        "sessionName = \"one\"\nchannelsTraining = [\"./channel.cfg\"]\ngtLabelsTraining = \"./labels.cfg\"\n",
    )
    .unwrap();
    folder
}

/// Truncated, random bytes, or lying.
fn damage(content: &[u8], version: usize, random: &mut ChaCha8Rng) -> Vec<u8> {
    let length = content.len();
    match version % 4 {
        0 => content[..random.random_range(0..length.max(1))].to_vec(),
        1 => (0..length).map(|_| random.random::<u8>()).collect(),
        _ => match std::str::from_utf8(content) {
            Ok(text) => lie_in_text(text, random),
            Err(_) => lie_in_bytes(content, random),
        },
    }
}

/// Another word where a number, a name or a mark stood.
fn lie_in_text(text: &str, random: &mut ChaCha8Rng) -> Vec<u8> {
    const LIES: &[&str] = &[
        "-1",
        "0",
        "1e308",
        "-1e-308",
        "18446744073709551616",
        "4294967296",
        "nan",
        "inf",
        "null",
        "true",
        "\"\"",
        "\"x\"",
        "[]",
        "{}",
        "[[[[",
        "\u{0}",
        "\u{feff}",
        "../../..",
        "999999999",
    ];
    let is_word = |c: char| c.is_alphanumeric() || "._-+".contains(c);
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices() {
        match (is_word(c), start) {
            (true, None) => start = Some(at),
            (false, Some(begin)) => {
                words.push(begin..at);
                start = None;
            }
            _ => {}
        }
    }
    words.extend(start.map(|begin| begin..text.len()));
    let Some(word) = words.get(random.random_range(0..words.len().max(1))) else { return Vec::new() };
    let lie = LIES[random.random_range(0..LIES.len())];
    format!("{}{lie}{}", &text[..word.start], &text[word.end..]).into_bytes()
}

/// Some bytes set to extremes, in the first kilobyte more often than elsewhere.
fn lie_in_bytes(content: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = content.to_vec();
    let head = random.random::<bool>();
    let end = if head { bytes.len().min(1024) } else { bytes.len() };
    let width = [1, 2, 4, 8][random.random_range(0..4)].min(end);
    let at = random.random_range(0..=end - width);
    let fill = [0x00, 0xff, 0x7f, 0x80][random.random_range(0..4)];
    bytes[at..at + width].fill(fill);
    bytes
}

fn attempt(target: &Target) -> Ended {
    for path in &target.scratch {
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        }
    }
    let started = Instant::now();
    let mut command = segen();
    command.args(&target.command).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let (mut memory, mut took) = (0, None);
    let status = loop {
        memory = memory.max(peak_memory(child.id()));
        took = processor_time(child.id()).or(took);
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let passed = started.elapsed();
    let stderr = reader.join().unwrap().unwrap();
    Ended { code: status.code(), took: took.unwrap_or(passed), passed, memory, stderr }
}

/// What a process has computed so far, where the system tells, in its ticks of a hundredth of a second.
fn processor_time(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may hold anything.
    let fields = stat.rsplit_once(") ")?.1.split(' ').skip(11).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Duration::from_millis(10 * ticks))
}

/// The most memory that a process has held so far, where the system tells.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn finish(command: &[String]) {
    let done = segen().args(command).output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

//! `segen predict` as a job among others, what it writes beside label maps, `segen export`, and scores for other programs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;

use common::{phantom, segen};
use ndarray::Array3;
use segen::image;
use serde_json::Value;

/// A data set and a run of it, trained for a few steps, that no test changes.
struct World {
    /// Goes with the process.
    _folder: tempfile::TempDir,
    dataset: PathBuf,
    run: PathBuf,
    /// What the training said.
    said: String,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 6, "32,32,32");
    let run = folder.path().join("run");
    let mut command = segen();
    command.arg("train").arg(&dataset).arg("-o").arg(&run).args([
        "--steps",
        "4",
        "--threads",
        "1",
        "--cache",
    ]);
    command.arg(folder.path().join("cache"));
    for set in ["policy.name=heuristic", "plan.patch=[16, 16, 16]", "plan.batch=2", "plan.base_features=4"] {
        command.args(["--set", set]);
    }
    let done = command.output().unwrap();
    let said = words(&done);
    assert!(done.status.success(), "{said}");
    World { dataset, run, said, _folder: folder }
});

/// What a command said to people.
fn words(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn command(words: &[&str], paths: &[&Path], out: Option<&Path>) -> std::process::Command {
    let mut command = segen();
    command.arg(words[0]).args(paths).args(&words[1..]).args(["--threads", "1"]);
    if let Some(out) = out {
        command.arg("-o").arg(out);
    }
    command
}

fn fine(words_given: &[&str], paths: &[&Path], out: &Path) -> String {
    let done = command(words_given, paths, Some(out)).output().unwrap();
    assert!(done.status.success(), "{words_given:?}: {}", words(&done));
    words(&done)
}

fn refused(words_given: &[&str], paths: &[&Path], out: Option<&Path>) -> String {
    let done = command(words_given, paths, out).output().unwrap();
    assert_eq!(done.status.code(), Some(2), "{words_given:?}: {}", words(&done));
    words(&done)
}

fn scans() -> PathBuf {
    WORLD.dataset.join("imagesTs")
}

/// Names of the files of a folder, but for hidden ones.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

fn voxels(file: &Path) -> Array3<f32> {
    image::read_image(file).unwrap().0.voxels
}

#[test]
fn parts_are_predicted_side_by_side_into_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts, single] = ["whole", "parts", "single"].map(|name| folder.path().join(name));
    let said = fine(&["predict"], &[&WORLD.run, &scans()], &whole);
    assert!(
        said.contains("the next scan is prepared while one is predicted") && said.contains("MB"),
        "{said}"
    );
    // More parts than scans: some have none.
    let count = names(&scans()).len();
    let tasks: Vec<_> = (1..=count + 1)
        .map(|part| {
            let part = format!("{part}/{}", count + 1);
            let mut task = command(&["predict", "--part", &part], &[&WORLD.run, &scans()], Some(&parts));
            task.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for task in tasks {
        let done = task.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", words(&done));
    }
    // One scan alone has none that is prepared ahead.
    let first = scans().join(&names(&scans())[0]);
    let said = fine(&["predict"], &[&WORLD.run, &first], &single);
    assert!(!said.contains("next scan"), "{said}");
    assert_eq!(names(&whole).len(), count + 1);
    assert_eq!(names(&whole), names(&parts));
    for name in names(&whole) {
        assert_eq!(fs::read(whole.join(&name)).unwrap(), fs::read(parts.join(&name)).unwrap(), "{name}");
    }
    for name in names(&single) {
        assert_eq!(fs::read(whole.join(&name)).unwrap(), fs::read(single.join(&name)).unwrap(), "{name}");
    }
    // All know each other's label maps.
    let said = fine(&["predict", "--continue"], &[&WORLD.run, &scans()], &parts);
    assert!(said.contains(&format!("{count} label maps were there already")), "{said}");
    for (part, words) in [("0/3", "numbered from 1"), ("4/3", "no part 4 of 3"), ("half", "as in 1/4")] {
        let said = refused(&["predict", "--part", part], &[&WORLD.run, &scans()], Some(&whole));
        assert!(said.contains("--part") && said.contains(words), "{part}: {said}");
    }
}

#[test]
fn windows_step_as_they_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let scan = scans().join(&names(&scans())[0]);
    let of = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        fine(&[&["predict", "--probabilities=f32"], more].concat(), &[&WORLD.run, &scan], &out);
        let manifest = fs::read_to_string(out.join(segen::files::MANIFEST)).unwrap();
        let volume = names(&out.join("probabilities")).swap_remove(1);
        (fs::read(out.join("probabilities").join(volume)).unwrap(), manifest)
    };
    let (own, _) = of("own", &[]);
    assert_eq!(of("half", &["--step", "0.5"]).0, own);
    let (whole, manifest) = of("whole", &["--step", "1"]);
    assert!(whole != own && manifest.contains(r#""step":1.0"#), "{manifest}");
    for step in ["0", "0.01", "1.5", "nan"] {
        let said =
            refused(&["predict", "--step", step], &[&WORLD.run, &scan], Some(&folder.path().join("bad")));
        assert!(said.contains("--step") && said.contains("from 0.05 to 1"), "{step}: {said}");
    }
    assert!(!folder.path().join("bad").exists());
}

#[test]
fn probabilities_and_entropy_stand_beside_label_maps_that_can_be_scored() {
    let folder = tempfile::tempdir().unwrap();
    let [short, exact] = ["short", "exact"].map(|name| folder.path().join(name));
    // Label maps without steps and masks are those of the largest probability.
    let plain = ["--post", "off", "--no-masks"];
    fine(
        &[&["predict", "--probabilities", "--entropy"], &plain[..]].concat(),
        &[&WORLD.run, &scans()],
        &short,
    );
    fine(&[&["predict", "--probabilities=f32"], &plain[..]].concat(), &[&WORLD.run, &scans()], &exact);
    assert!(!exact.join("entropy").exists());
    let sizes = |folder: &Path| -> u64 {
        let folder = folder.join("probabilities");
        names(&folder).iter().map(|name| fs::metadata(folder.join(name)).unwrap().len()).sum()
    };
    assert!(2 * sizes(&short) < sizes(&exact) + sizes(&exact) / 2, "{} {}", sizes(&short), sizes(&exact));
    for scan in names(&scans()) {
        let case = scan.strip_suffix("_0000.nii.gz").unwrap();
        let of = |folder: &Path, class: usize| {
            voxels(&folder.join(format!("probabilities/{case}_probability_{class}.nii.gz")))
        };
        let [p0, p1] = [of(&exact, 0), of(&exact, 1)];
        let [q0, q1] = [of(&short, 0), of(&short, 1)];
        let entropy = voxels(&short.join(format!("entropy/{case}_entropy.nii.gz")));
        let labels = image::read_labels(&short.join(format!("{case}.nii.gz"))).unwrap().0;
        for (at, &label) in labels.voxels.indexed_iter() {
            let (p, q) = ([p0[at], p1[at]], [q0[at], q1[at]]);
            assert!((p[0] + p[1] - 1.0).abs() < 1e-5);
            for class in [0, 1] {
                assert!((p[class] - q[class]).abs() < 0.51 / 65535.0, "{at:?}: {p:?} {q:?}");
                assert!((0.0..=1.0).contains(&q[class]));
            }
            let nats: f32 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
            assert!((entropy[at] - nats / 2f32.ln()).abs() < 1e-4, "{at:?}: {p:?} {}", entropy[at]);
            if (q[0] - q[1]).abs() > 1e-4 {
                assert_eq!(u8::from(q[1] > q[0]), label, "{at:?}");
            }
        }
        assert!(entropy.iter().any(|&value| value > 0.01));
    }
    // Readers that know no slope see u16; the slope is there.
    let file = short.join("probabilities").join(names(&short.join("probabilities")).swap_remove(0));
    let content = {
        let mut bytes = Vec::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(fs::File::open(&file).unwrap());
        std::io::Read::read_to_end(&mut decoder, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(i16::from_le_bytes([content[70], content[71]]), 512);
    let slope = f32::from_le_bytes([content[112], content[113], content[114], content[115]]);
    assert!((slope * 65535.0 - 1.0).abs() < 1e-6 && f64::from(slope) * 65535.0 <= 1.0, "{slope}");
    let summary = folder.path().join("summary.json");
    fine(&["evaluate"], &[&short, &WORLD.dataset.join("labelsTs")], &summary);
    // What is stored otherwise is not the same.
    let go_on = |more: &[&str]| {
        fine(&[&["predict", "--continue"], &plain[..], more].concat(), &[&WORLD.run, &scans()], &exact)
    };
    assert!(go_on(&["--probabilities=f32"]).contains("were there already"));
    assert!(go_on(&[]).contains("were there already"));
    assert!(!go_on(&["--probabilities"]).contains("were there already"));
    assert_eq!(sizes(&exact), sizes(&short));
}

/// Lines of a table of scores, each a list of fields; none of ours has a comma in it.
fn table(file: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn scores_of_single_cases_stand_in_a_table_beside_every_summary() {
    let folder = tempfile::tempdir().unwrap();
    let predictions = WORLD.run.join("test");
    let (summary, named) = (folder.path().join("summary.json"), folder.path().join("mine.json"));
    for file in [&summary, &named] {
        fine(&["evaluate"], &[&predictions, &WORLD.dataset.join("labelsTs")], file);
    }
    let own = fs::read(WORLD.run.join("test/scores.csv")).unwrap();
    assert_eq!(own, fs::read(folder.path().join("scores.csv")).unwrap());
    assert_eq!(own, fs::read(folder.path().join("mine-scores.csv")).unwrap());
    for part in ["test", "validation"] {
        let json: Value =
            serde_json::from_slice(&fs::read(WORLD.run.join(part).join("summary.json")).unwrap()).unwrap();
        let lines = table(&WORLD.run.join(part).join("scores.csv"));
        let (heading, lines) = lines.split_first().unwrap();
        assert_eq!(heading[..4], ["case", "region", "label", "Dice"].map(str::to_owned));
        let cases = json["metric_per_case"].as_array().unwrap();
        assert_eq!(lines.len(), cases.len());
        for (line, case) in lines.iter().zip(cases) {
            assert_eq!(line.len(), heading.len());
            assert!(case["prediction_file"].as_str().unwrap().contains(&line[0]), "{line:?}");
            assert_eq!(line[1..3], ["lesion", "1"].map(str::to_owned));
            let metrics = case["metrics"]["1"].as_object().unwrap();
            assert_eq!(metrics.len(), heading.len() - 4, "every measure has a column");
            for (name, value) in metrics {
                let column = heading.iter().position(|heading| heading == name).unwrap();
                match value.as_f64() {
                    // Readers of JSON may be a last bit off.
                    Some(value) => {
                        let off = line[column].parse::<f64>().unwrap() - value;
                        assert!(off.abs() <= 1e-12 * value.abs(), "{name}: {} {value}", line[column]);
                    }
                    None => assert_eq!(line[column], "", "{name}"),
                }
            }
        }
    }
    // A table of somebody else's is not replaced.
    fs::write(folder.path().join("scores.csv"), "mine").unwrap();
    let said = refused(&["evaluate"], &[&predictions, &WORLD.dataset.join("labelsTs")], Some(&summary));
    assert!(said.contains("scores.csv"), "{said}");
}

#[test]
fn what_a_training_will_take_is_told_before_it() {
    for words in ["forecast: 4 steps of about", "of prepared samples", "of checkpoints", "of label maps"] {
        assert!(WORLD.said.contains(words), "{words}: {}", WORLD.said);
    }
    let done = command(&["plan", "--set", "schedule.epochs=3"], &[&WORLD.dataset], None).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success() && said.contains("forecast: 750 steps of about"),
        "{said} {}",
        words(&done)
    );
}

#[test]
fn a_model_predicts_as_its_run_and_knows_nothing_of_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let [model, of_run, of_model] = ["model", "of-run", "of-model"].map(|name| folder.path().join(name));
    let licence = folder.path().join("terms.txt");
    fs::write(&licence, "Do as you like.\n").unwrap();
    fine(&["export", "--licence", licence.to_str().unwrap()], &[&WORLD.run], &model);
    let moved = folder.path().join("given away");
    fs::rename(&model, &moved).unwrap();
    let all = ["--probabilities", "--entropy", "--operating", "auto", "--mirror"];
    for (from, out) in [(&WORLD.run, &of_run), (&moved, &of_model)] {
        fine(&[&["predict"][..], &all].concat(), &[from, &scans()], out);
    }
    for folder in ["", "probabilities", "entropy"] {
        assert_eq!(names(&of_run.join(folder)), names(&of_model.join(folder)));
        for name in names(&of_run.join(folder)) {
            let [one, other] = [&of_run, &of_model].map(|out| out.join(folder).join(&name));
            assert!(one.is_dir() || fs::read(one).unwrap() == fs::read(other).unwrap(), "{name}");
        }
    }
    // A prediction goes on with either: weights and settings are the same.
    let said = fine(&[&["predict", "--continue"][..], &all].concat(), &[&moved, &scans()], &of_run);
    assert!(said.contains("label maps were there already"), "{said}");
    let split: Value = serde_json::from_slice(&fs::read(WORLD.run.join("split.json")).unwrap()).unwrap();
    let cases = ["train", "validation"].into_iter().flat_map(|part| split[part].as_array().unwrap());
    let mut secrets: Vec<String> = cases.map(|case| case.as_str().unwrap().to_owned()).collect();
    secrets.push(WORLD.dataset.parent().unwrap().to_str().unwrap().to_owned());
    secrets.push("optimiser.safetensors".to_owned());
    let mut bytes = 0;
    for name in names(&moved) {
        let content = fs::read(moved.join(&name)).unwrap();
        bytes += content.len();
        for secret in &secrets {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "`{secret}` in {name}");
        }
    }
    let weights = fs::metadata(moved.join("weights.safetensors")).unwrap().len() as usize;
    assert!(bytes < weights + 40_000, "{bytes} {weights}");
    assert_eq!(fs::read_to_string(moved.join("LICENCE")).unwrap(), "Do as you like.\n");
    let card = fs::read_to_string(moved.join("README.md")).unwrap();
    for words in [
        "# model\n",
        "segen predict model scans/",
        "| lesion | 1 |",
        "| cases trained on | 4 |",
        "Mean over 2 held-out",
        "`LICENCE`",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
}

#[test]
fn a_model_that_is_damaged_or_incomplete_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    fine(&["export", "--checkpoint", "latest"], &[&WORLD.run], &model);
    // The card may be changed.
    fs::write(model.join("README.md"), "mine").unwrap();
    fine(&["predict"], &[&model, &scans()], &out);
    for name in ["weights.safetensors", "config.toml", "plan.json", "operating.json", "model.json"] {
        let file = model.join(name);
        let whole = fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        for (bytes, words) in [(Some(bytes), "damaged or was changed"), (None, "missing")] {
            match bytes {
                Some(bytes) => fs::write(&file, bytes).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let said = refused(&["predict"], &[&model, &scans()], Some(&out));
            let marked = name != "model.json" || words != "missing";
            assert!(said.contains(name) && said.contains(words) || !marked, "{name}: {said}");
        }
        fs::write(&file, whole).unwrap();
    }
    // A file that nobody has summed up is not read.
    fs::rename(model.join("SHA256SUMS"), folder.path().join("sums")).unwrap();
    assert!(refused(&["predict"], &[&model, &scans()], Some(&out)).contains("SHA256SUMS"));
    fs::rename(folder.path().join("sums"), model.join("SHA256SUMS")).unwrap();
    fine(&["predict"], &[&model, &scans()], &out);
    let said = refused(&["predict", "--checkpoint", "best"], &[&model, &scans()], Some(&out));
    assert!(said.contains("exported model") && said.contains("checkpoint"), "{said}");
    for (line, paths) in [
        (&["logits"][..], &[&*model][..]),
        (&["report"], &[&model]),
        (&["policy", "show", model.to_str().unwrap()], &[]),
        (&["train", "--resume"], &[&WORLD.dataset]),
        (&["export"], &[&model]),
    ] {
        let place = if line[0] == "train" { model.clone() } else { folder.path().join(line[0]) };
        let said = refused(line, paths, Some(&place));
        assert!(said.contains("exported model"), "{line:?}: {said}");
    }
    assert!(!model.join("claim.json").exists());
    // Nothing is replaced, and no archive is made.
    for (place, words) in [(model.clone(), "not empty"), (folder.path().join("m.zip"), "not an archive")] {
        let said = refused(&["export"], &[&WORLD.run], Some(&place));
        assert!(said.contains(words), "{said}");
    }
}

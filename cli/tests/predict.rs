//! `segen predict` and `segen logits` on what people really have: bad scans among good ones, interrupted work, runs that
//! belong to somebody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;

use common::{phantom, segen};
use segen::commands::trained::POST;
use segen::image;
use segen::image::volume::{Labels, Volume};
use segen::predict::choice::PostChoice;
use segen::predict::post;
use segen::run::Run;
use segen::score::operating::{self, Choice, Operating};

/// A data set and a run of it, trained for a few steps, that no test changes.
struct World {
    /// Goes with the process.
    _folder: tempfile::TempDir,
    dataset: PathBuf,
    run: PathBuf,
    cache: PathBuf,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 6, "32,32,32");
    let (run, cache) = (folder.path().join("run"), folder.path().join("cache"));
    train(&dataset, &run, &cache, &["checkpoint.every_steps=1"]);
    World { dataset, run, cache, _folder: folder }
});

fn train(dataset: &Path, run: &Path, cache: &Path, sets: &[&str]) -> String {
    let mut command = segen();
    command.arg("train").arg(dataset).arg("-o").arg(run).arg("--cache").arg(cache);
    command.args(["--steps", "4", "--threads", "1"]);
    let small = [
        "policy.name=heuristic",
        "plan.patch=[16, 16, 16]",
        "plan.batch=2",
        "plan.base_features=4",
        "validation.cases_per_epoch=1",
    ];
    for set in small.iter().chain(sets) {
        command.args(["--set", set]);
    }
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", words(&done));
    words(&done)
}

/// What a command said to people.
fn words(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn predict(run: &Path, inputs: &[&Path], out: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut command = segen();
    command.arg("predict").arg(run).args(inputs).arg("-o").arg(out).args(["--threads", "1"]).args(more);
    let done = command.output().unwrap();
    (done.status.code(), words(&done))
}

/// The first test scan of the data set.
fn scan() -> PathBuf {
    let mut scans: Vec<PathBuf> =
        fs::read_dir(WORLD.dataset.join("imagesTs")).unwrap().map(|e| e.unwrap().path()).collect();
    scans.sort();
    scans.swap_remove(0)
}

/// Copies of the first test scan under these names.
fn copies(folder: &Path, names: &[&str]) -> PathBuf {
    let folder = folder.join("scans");
    fs::create_dir_all(&folder).unwrap();
    for name in names {
        fs::copy(scan(), folder.join(format!("{name}_0000.nii.gz"))).unwrap();
    }
    folder
}

/// Changes the voxels of a scan.
fn edit(file: &Path, change: impl FnOnce(&mut ndarray::Array3<f32>)) {
    let (mut image, header) = image::read_image(file).unwrap();
    change(&mut image.voxels);
    image::write_image(file, &image, Some(&header)).unwrap();
}

fn labels(file: &Path) -> Labels {
    image::read_labels(file).unwrap().0
}

#[cfg(unix)]
#[test]
fn a_bad_scan_leaves_the_others_and_is_named_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let scans = copies(folder.path(), &["a", "cut", "nan", "twice", "z"]);
    let file = |name: &str| scans.join(format!("{name}_0000.nii.gz"));
    let bytes = fs::read(file("cut")).unwrap();
    fs::write(file("cut"), &bytes[..1000]).unwrap();
    edit(&file("nan"), |voxels| voxels[[3, 4, 5]] = f32::NAN);
    fs::copy(file("twice"), scans.join("twice_0001.nii.gz")).unwrap();
    fs::write(scans.join("web_0000.nii.gz"), "<html>").unwrap();
    std::os::unix::fs::symlink("nowhere", scans.join("gone_0000.nii.gz")).unwrap();
    let out = folder.path().join("out");
    let (code, said) = predict(&WORLD.run, &[&scans], &out, &[]);
    assert_eq!(code, Some(1), "{said}");
    for good in ["a", "z"] {
        assert!(out.join(format!("{good}.nii.gz")).is_file(), "{good}: {said}");
    }
    let (_, end) = said.split_once("5 of 7 scans could not be predicted").unwrap_or_else(|| panic!("{said}"));
    for bad in ["cut", "nan", "twice", "web", "gone"] {
        assert!(end.contains(&format!("{bad}: ")), "{bad}: {end}");
        assert!(!out.join(format!("{bad}.nii.gz")).exists());
    }
    // What concerns all scans, and nothing to predict at all, are errors.
    assert_eq!(predict(&folder.path().join("no-run"), &[&scans], &out, &[]).0, Some(2));
    assert_eq!(predict(&WORLD.run, &[&file("cut"), &file("nan")], &out, &[]).0, Some(2));
}

#[test]
fn a_mask_that_is_missing_or_lies_elsewhere_fails_its_own_scan_only() {
    let folder = tempfile::tempdir().unwrap();
    let scans = copies(folder.path(), &["a", "b", "c"]);
    let masks = folder.path().join("masks");
    fs::create_dir(&masks).unwrap();
    let grid = image::read_header(&scan()).unwrap().grid();
    let [x, y, z] = grid.shape;
    let whole = Volume::new(ndarray::Array3::ones((x, y, z)), grid.clone());
    image::write_labels(&masks.join("a.nii.gz"), &whole, None).unwrap();
    let mut moved = whole;
    moved.grid.affine[0][3] += 40.0;
    image::write_labels(&masks.join("b.nii.gz"), &moved, None).unwrap();
    let out = folder.path().join("out");
    let (code, said) = predict(&WORLD.run, &[&scans], &out, &["--masks", masks.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("b: ")
            && said.contains("40.000 mm away")
            && said.contains("case `c`: has no file c.nii.gz"),
        "{said}"
    );
    assert!(
        out.join("a.nii.gz").is_file() && !out.join("b.nii.gz").exists() && !out.join("c.nii.gz").exists()
    );
}

#[test]
fn masks_beside_the_scans_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let (images, masks) = (folder.path().join("imagesTs"), folder.path().join("masksTs"));
    fs::create_dir(&masks).unwrap();
    fs::rename(copies(folder.path(), &["a"]), &images).unwrap();
    let grid = image::read_header(&scan()).unwrap().grid();
    let [x, y, z] = grid.shape;
    let mut mask = Volume::new(ndarray::Array3::<u8>::zeros((x, y, z)), grid);
    mask.voxels.slice_mut(ndarray::s![8..24, 8..24, 8..24]).fill(1);
    image::write_labels(&masks.join("a.nii.gz"), &mask, None).unwrap();
    let out = folder.path().join("out");
    let (code, said) = predict(&WORLD.run, &[&images], &out, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 of 1 scans are predicted inside a mask"), "{said}");
    let inside = labels(&out.join("a.nii.gz"));
    assert!(inside.voxels.indexed_iter().all(|(at, &label)| label == 0 || mask.voxels[at] != 0));
    let (_, said) = predict(&WORLD.run, &[&images], &folder.path().join("without"), &["--no-masks"]);
    assert!(!said.contains("inside a mask"), "{said}");
}

#[test]
fn all_channels_may_lie_in_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    // The network takes one channel: a file with two is refused before anything is predicted.
    let image = image::read_image(&scan()).unwrap().0;
    let mut bytes = Vec::new();
    {
        // A 4-D file: the header of the scan with a fourth dimension of two.
        let one = folder.path().join("one.nii");
        image::write_image(&one, &image, None).unwrap();
        let plain = fs::read(&one).unwrap();
        bytes.extend_from_slice(&plain);
        bytes[40..42].copy_from_slice(&4_u16.to_le_bytes());
        bytes[48..50].copy_from_slice(&2_u16.to_le_bytes());
        bytes.extend_from_slice(&plain[352..]);
    }
    let two = folder.path().join("two.nii");
    fs::write(&two, bytes).unwrap();
    let (code, said) = predict(&WORLD.run, &[&two], &out, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("has 2 channel(s), the network takes 1"), "{said}");
}

#[test]
fn a_scan_in_which_nothing_can_be_seen_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let scans = copies(folder.path(), &["flat"]);
    edit(&scans.join("flat_0000.nii.gz"), |voxels| voxels.fill(3.0));
    let (code, said) = predict(&WORLD.run, &[&scans], &folder.path().join("out"), &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("warning") && said.contains("flat_0000.nii.gz") && said.contains("alike"),
        "{said}"
    );
}

#[test]
fn what_was_predicted_from_the_same_is_not_predicted_again() {
    let folder = tempfile::tempdir().unwrap();
    let scans = copies(folder.path(), &["a", "b", "c"]);
    let out = folder.path().join("out");
    let go_on = |more: &[&str]| {
        let more: Vec<&str> = ["--continue"].iter().chain(more).copied().collect();
        let (code, said) = predict(&WORLD.run, &[&scans], &out, &more);
        assert_eq!(code, Some(0), "{said}");
        said.lines().find_map(|line| {
            line.strip_suffix(" label maps were there already, made from the same").map(str::to_owned)
        })
    };
    let some = |count: &str| Some(count.to_owned());
    // An interrupted prediction: one of three.
    assert_eq!(predict(&WORLD.run, &[&scans.join("b_0000.nii.gz")], &out, &[]).0, Some(0));
    assert_eq!(go_on(&[]), some("1"));
    assert_eq!(go_on(&[]), some("3"));
    // Another scan of the same name, another setting, another checkpoint, further outputs.
    edit(&scans.join("a_0000.nii.gz"), |voxels| voxels[[9, 9, 9]] += 1.0);
    assert_eq!(go_on(&[]), some("2"));
    assert_eq!(go_on(&["--mirror"]), None);
    assert_eq!(go_on(&["--mirror"]), some("3"));
    assert_eq!(go_on(&["--checkpoint", "3"]), None);
    assert_eq!(go_on(&["--checkpoint", "3", "--probabilities"]), None);
    assert_eq!(go_on(&["--checkpoint", "3", "--probabilities"]), some("3"));
    fs::remove_file(out.join("probabilities/c_probability_1.nii.gz")).unwrap();
    assert_eq!(go_on(&["--checkpoint", "3", "--probabilities"]), some("2"));
    // A label map that somebody changed is not what was made, and is not replaced unasked.
    let mut changed = labels(&out.join("b.nii.gz"));
    changed.voxels[[0, 0, 0]] ^= 1;
    image::write_labels(&out.join("b.nii.gz"), &changed, None).unwrap();
    let (code, said) = predict(&WORLD.run, &[&scans], &out, &["--continue", "--checkpoint", "3"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("b.nii.gz"), "{said}");
}

#[test]
fn only_mirror_images_that_training_showed_are_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let (out, scan) = (folder.path().join("out"), scan());
    let (code, said) = predict(&WORLD.run, &[&scan], &out, &["--mirror"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("mirroring: 2 passes per window instead of 1") && said.contains(": x"), "{said}");
    let none = folder.path().join("none");
    train(&WORLD.dataset, &none, &WORLD.cache, &["policy.name=none"]);
    let (code, said) = predict(&none, &[&scan], &out, &["--mirror"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--mirror") && said.contains("policy `none`"), "{said}");
    // An average knows what all of its networks know.
    let full = folder.path().join("full");
    train(&WORLD.dataset, &full, &WORLD.cache, &["policy.name=heuristic-nnunet"]);
    let (code, said) = predict(&full, &[&scan], &out, &["--mirror"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("mirroring: 8 passes"), "{said}");
    let (code, said) = predict(&full, &[&scan], &out, &["--mirror", "--with", WORLD.run.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("mirroring: 2 passes") && said.contains("the runs have all seen: x"), "{said}");
}

#[test]
fn another_checkpoint_can_be_chosen_and_is_named_where_the_last_one_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy(&WORLD.run, &run);
    let (out, scan) = (folder.path().join("out"), scan());
    let weights = run.join("checkpoint/step-4/weights.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let (code, said) = predict(&run, &[&scan], &out, &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--checkpoint: 3"), "{said}");
    for command in ["predict", "logits"] {
        let mut again = segen();
        again.arg(command).arg(&run);
        if command == "predict" {
            again.arg(&scan);
        }
        let target = folder.path().join(format!("out-{command}"));
        let done =
            again.arg("-o").arg(target).args(["--checkpoint", "3", "--threads", "1"]).output().unwrap();
        assert!(done.status.success(), "{command}: {}", words(&done));
    }
    let (code, said) = predict(&run, &[&scan], &out, &["--checkpoint", "17"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("checkpoint `17`") && said.contains("no such checkpoint"), "{said}");
}

#[test]
fn steps_after_a_prediction_are_those_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy(&WORLD.run, &run);
    let scan = scan();
    let one = r#"{"cases": 2, "values": [{"value": 1, "regions": ["lesion"], "step": "remove-small", "mm3": 1e9,
        "dice": [0.1, 0.2], "cross_fitted_gain": 0.1}], "cross_fitted": {}}"#;
    fs::write(run.join(POST), one).unwrap();
    let (auto, off) = (folder.path().join("auto"), folder.path().join("off"));
    let (code, said) = predict(&run, &[&scan], &auto, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("lesion: remove-small 1000000000 mm3") && said.contains("--post off"), "{said}");
    let (code, said) = predict(&run, &[&scan], &off, &["--post", "off"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("remove-small"), "{said}");
    let name = scan.file_name().unwrap().to_str().unwrap().replace("_0000", "");
    let count =
        |folder: &Path| labels(&folder.join(&name)).voxels.iter().filter(|&&label| label == 1).count();
    assert_eq!(count(&auto), 0);
    // The manifest says what a label map is made from.
    let manifest = fs::read_to_string(auto.join(segen::files::MANIFEST)).unwrap();
    assert!(manifest.contains("remove-small"), "{manifest}");
    // An average takes the steps that all of its runs chose.
    let other = folder.path().join("other");
    copy(&WORLD.run, &other);
    fs::write(other.join(POST), r#"{"cases": 2, "values": [], "cross_fitted": {}}"#).unwrap();
    let (_, said) = predict(&run, &[&scan], &auto, &["--with", other.to_str().unwrap()]);
    assert!(!said.contains("remove-small"), "{said}");
}

#[test]
fn held_out_cases_get_the_steps_of_the_others_and_test_cases_those_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 10, "32,32,32");
    let (run, cache) = (folder.path().join("run"), folder.path().join("cache"));
    // Two held-out cases that are called lesion almost everywhere or nowhere: something is gained by a step.
    train(&dataset, &run, &cache, &["fold=1"]);
    let choice: PostChoice = Run::at(&run).read_json(POST).unwrap();
    let split: serde_json::Value = Run::at(&run).read_json("split.json").unwrap();
    let held_out: Vec<String> = serde_json::from_value(split["validation"].clone()).unwrap();
    assert_eq!(choice.cases, held_out.len());
    let raw = folder.path().join("raw");
    let scans: Vec<PathBuf> =
        held_out.iter().map(|id| dataset.join(format!("imagesTr/{id}_0000.nii.gz"))).collect();
    let scans: Vec<&Path> = scans.iter().map(PathBuf::as_path).collect();
    assert_eq!(predict(&run, &scans, &raw, &["--post", "off"]).0, Some(0));
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("validation/summary.json")).unwrap()).unwrap();
    for (index, id) in held_out.iter().enumerate() {
        let mut expected = labels(&raw.join(format!("{id}.nii.gz")));
        let steps = choice.steps_of(id);
        post::apply(&steps, &mut expected, None);
        assert_eq!(labels(&run.join(format!("validation/{id}.nii.gz"))).voxels, expected.voxels, "{id}");
        let told = summary["metric_per_case"][index]["post"].as_object().map_or(0, serde_json::Map::len);
        assert_eq!(told, steps.len(), "{id}");
    }
    let shipped = folder.path().join("shipped");
    assert_eq!(predict(&run, &[&dataset.join("imagesTs")], &shipped, &[]).0, Some(0));
    for entry in fs::read_dir(run.join("test")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".nii.gz") {
            let other = shipped.join(path.file_name().unwrap());
            assert_eq!(fs::read(&path).unwrap(), fs::read(other).unwrap(), "{}", path.display());
        }
    }
}

#[test]
fn nothing_is_chosen_where_cases_were_trained_on_or_it_is_not_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let all = folder.path().join("all");
    train(&WORLD.dataset, &all, &WORLD.cache, &["fold=all"]);
    let choice: PostChoice = Run::at(&all).read_json(POST).unwrap();
    assert_eq!(choice, PostChoice::default());
    assert_eq!(Run::at(&all).read_json::<Option<Choice>>(operating::FILE).unwrap(), None);
    let off = folder.path().join("off");
    train(&WORLD.dataset, &off, &WORLD.cache, &["validation.post=off"]);
    let choice: PostChoice = Run::at(&off).read_json(POST).unwrap();
    assert_eq!(choice, PostChoice::default());
    // Nor is anything called held out that was trained on.
    let page = folder.path().join("report.html");
    let done = segen().arg("report").arg(&all).arg("-o").arg(&page).output().unwrap();
    assert!(done.status.success(), "{}", words(&done));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("none held out") && page.contains("no estimate"), "{page}");
    assert!(!page.contains("6 held out") && !page.contains("Validation cases"), "{page}");
}

#[test]
fn an_operating_point_is_argmax_the_run_s_or_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy(&WORLD.run, &run);
    let scan = scan();
    let name = scan.file_name().unwrap().to_str().unwrap().replace("_0000", "");
    let of = |out: &str, more: &[&str]| {
        let out = folder.path().join(out);
        let more: Vec<&str> = ["--post", "off"].iter().chain(more).copied().collect();
        let (code, said) = predict(&run, &[&scan], &out, &more);
        assert_eq!(code, Some(0), "{more:?}: {said}");
        let count = labels(&out.join(&name)).voxels.iter().filter(|&&label| label == 1).count();
        (fs::read(out.join(&name)).unwrap(), count, said)
    };
    let (plain, count, _) = of("plain", &[]);
    assert_eq!(of("argmax", &["--operating", "argmax"]).0, plain);
    assert_eq!(of("one", &["--operating", "lesion=1"]).0, plain);
    let (_, most, _) = of("most", &["--operating", "Lesion=1e9"]);
    let (_, least, _) = of("least", &["--operating", "lesion=1e-9"]);
    assert!(least == 0 && most > count && most > 1000, "{least} {count} {most}");
    // What the run ships, as its validation leaves it.
    let e = |b: f64| {
        format!(
            r#"{{"cases": ["a", "b"], "classes": ["lesion"], "odds": [{}], "bias": [{b}], "dice": [0.1, 0.25],
                "cross_fitted": {{}}, "cross_fitted_dice": 0.2}}"#,
            b.exp()
        )
    };
    fs::write(run.join("operating.json"), e(0.5)).unwrap();
    let (auto, _, said) = of("auto", &["--operating", "auto"]);
    assert!(said.contains("lesion=1.649") && said.contains("0.250 instead of 0.100"), "{said}");
    let exact = 0.5f64.exp().to_string();
    assert_eq!(auto, of("same", &["--operating", &format!("lesion={exact}")]).0);
    assert_eq!(of("default", &[]).0, plain, "the default stays argmax");
    let manifest =
        |out: &str| fs::read_to_string(folder.path().join(out).join(segen::files::MANIFEST)).unwrap();
    assert!(manifest("auto").contains(r#""operating":[[0.5]]"#), "{}", manifest("auto"));
    assert!(manifest("plain").contains(r#""operating":[[0.0]]"#), "{}", manifest("plain"));
    // Each network of an average has its own.
    let other = folder.path().join("other");
    copy(&run, &other);
    let with = ["--with", other.to_str().unwrap(), "--operating", "auto"];
    let (_, same, _) = of("twice", &with);
    fs::write(other.join("operating.json"), e(-60.0)).unwrap();
    let (_, fewer, _) = of("mixed", &with);
    let alone = labels(&folder.path().join("auto").join(&name)).voxels.iter().filter(|&&l| l == 1).count();
    // Probabilities are averaged over windows, too: two networks that are one differ from it by rounding alone.
    assert!(same.abs_diff(alone) <= alone / 20 + 20 && fewer < same, "{alone} {same} {fewer}");
    // What cannot be used is named.
    fs::write(run.join("operating.json"), "null").unwrap();
    for (given, words) in [
        (&["auto"][..], &["operating.json", "has chosen no operating point"][..]),
        (&["leson=2"], &["no class `leson`", "did you mean `lesion`?"]),
        (&["background=2"], &["is the background"]),
        (&["lesion=0"], &["`lesion`", "`0`", "above 0"]),
        (&["lesion"], &["`lesion` is neither `auto` nor `argmax`"]),
        (&["auto", "lesion=2"], &["cannot be joined"]),
    ] {
        let more: Vec<&str> = given.iter().flat_map(|given| ["--operating", given]).collect();
        let (code, said) = predict(&run, &[&scan], &folder.path().join("bad"), &more);
        assert_eq!(code, Some(2), "{given:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{given:?}: {said}");
        }
    }
    assert!(!folder.path().join("bad").exists());
}

#[test]
fn log_odds_of_held_out_and_test_cases_lie_beside_their_scores() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    train(&WORLD.dataset, &run, &WORLD.cache, &["validation.post=off"]);
    let choice: Choice = Run::at(&run).read_json(operating::FILE).unwrap();
    assert_eq!((choice.cases.len(), choice.classes.as_slice()), (2, &["lesion".to_owned()][..]));
    for part in ["validation", "test"] {
        let odds = Operating::read(&run.join(part).join(operating::FILE)).unwrap();
        let summary: serde_json::Value =
            serde_json::from_slice(&fs::read(run.join(part).join("summary.json")).unwrap()).unwrap();
        let cases = summary["metric_per_case"].as_array().unwrap();
        assert_eq!(cases.len(), odds.cases.len());
        for (case, scored) in odds.cases.iter().zip(cases) {
            let metric = |key: &str| scored["metrics"]["1"][key].as_u64().unwrap();
            let counts = case.classes[0].at(operating::ZERO);
            let expected = [metric("TP"), metric("FP"), metric("FN")];
            assert_eq!(<[u64; 3]>::from(counts), expected, "{part}: {}", case.case);
            assert_eq!(case.classes[0].lesions.unwrap().reference, metric("n_lesions_ref"));
            assert_eq!(case.at_bias, case.at(case.bias.as_ref().unwrap()).unwrap());
            let own = match part {
                "validation" => &choice.cross_fitted[&case.case],
                _ => &choice.chosen.bias,
            };
            assert_eq!(case.bias.as_ref(), Some(own));
        }
    }
    let bytes = fs::metadata(run.join("test/operating.json")).unwrap().len();
    assert!(bytes < 20_000, "{bytes}");
    // Curves are drawn from them, of one run and of several.
    let page = folder.path().join("report.html");
    let done = segen().arg("report").arg(&run).arg(&WORLD.run).arg("-o").arg(&page).output().unwrap();
    assert!(done.status.success(), "{}", words(&done));
    let html = fs::read_to_string(&page).unwrap();
    for part in ["Operating points", "AUPRC", "lesion: precision and sensitivity", "lesion: lesions found"] {
        assert!(html.contains(part), "{part}");
    }
    let mut figures: Vec<String> = fs::read_dir(folder.path().join("report_figures"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with("precision-recall.png") || name.ends_with("free-response.svg"))
        .collect();
    figures.sort();
    let expected = [
        "1-run-free-response.svg",
        "1-run-precision-recall.png",
        "2-run-free-response.svg",
        "2-run-precision-recall.png",
        "compare-free-response.svg",
        "compare-precision-recall.png",
    ];
    assert_eq!(figures, expected);
}

#[test]
fn logits_take_the_settings_of_the_run_and_need_not_write_into_it() {
    let folder = tempfile::tempdir().unwrap();
    let [run, own, cache] = ["run", "own", "cache"].map(|name| folder.path().join(name));
    // A cache that no other test writes into at the same time.
    copy(&WORLD.cache, &own);
    train(&WORLD.dataset, &run, &own, &[]);
    copy(&own, &cache);
    let before = (listing(&run), listing(&own));
    let logits = |more: &[&Path]| {
        let mut command = segen();
        command.arg("logits").arg(&run).args(["--voxels", "20", "--threads", "1"]).args(more);
        command.output().unwrap()
    };
    let out = folder.path().join("out");
    let done = logits(&[Path::new("-o"), &out, Path::new("--cache"), &cache]);
    assert!(done.status.success(), "{}", words(&done));
    assert!(out.join("summary.json").is_file() && out.join("logits.safetensors").is_file());
    assert_eq!((listing(&run), listing(&own)), before);
    // Operators are those of the run.
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("[kernels]"), "{config}");
    fs::write(run.join("config.toml"), config.replace("[kernels]", "[kernels]\npath = \"abacus\"")).unwrap();
    let done = logits(&[Path::new("-o"), &out, Path::new("--cache"), &cache]);
    assert_eq!(done.status.code(), Some(2));
    assert!(words(&done).contains("kernels.path"), "{}", words(&done));
}

/// Names, sizes and times of all files below a folder.
fn listing(folder: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(listing(&path));
        } else {
            let metadata = path.metadata().unwrap();
            all.push((path, metadata.len(), metadata.modified().unwrap()));
        }
    }
    all.sort();
    all
}

/// A copy of a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// A random field is fitted on cases set aside, applied, and changes nothing where it weighs nothing.
#[test]
fn a_random_field_is_fitted_on_cases_set_aside_and_refines_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 8, "24,24,24");
    let (run, cache) = (folder.path().join("run"), folder.path().join("cache"));
    train(&dataset, &run, &cache, &["fold=all", "policy.validation_share=0.5"]);
    let scan = |number: &str| dataset.join("imagesTr").join(number);
    let mut names: Vec<_> =
        fs::read_dir(dataset.join("imagesTr")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    let scan = scan(names[0].to_str().unwrap());
    let crf = |more: &[&str]| {
        let done = segen().arg("crf").arg(&run).args(["--threads", "1"]).args(more).output().unwrap();
        (done.status.code(), words(&done))
    };
    let (code, said) = predict(&run, &[&scan], &folder.path().join("unfitted"), &["--crf"]);
    assert!(code == Some(2) && said.contains("crf.toml") && said.contains("segen crf"), "{said}");
    let done = segen().arg("crf").arg(&WORLD.run).output().unwrap();
    let said = words(&done);
    assert!(
        done.status.code() == Some(2) && said.contains("split.json") && said.contains("0 cases"),
        "{said}"
    );
    let (code, said) = crf(&[]);
    assert_eq!(code, Some(0), "{said}");
    let fitted = fs::read_to_string(run.join("crf.toml")).unwrap();
    let number = |key: &str| -> Vec<f64> {
        let line = fitted.lines().skip_while(|line| !line.starts_with(key)).take(3).collect::<String>();
        let list = line.split(['[', ']']).nth(1).unwrap();
        list.split(',').filter_map(|text| text.trim().parse().ok()).collect()
    };
    let dice = number("dice");
    assert!(dice.len() == 2 && dice[1] >= dice[0], "{fitted}");
    assert_eq!(fitted.matches("\"atlas_").count(), 4, "{fitted}");
    // A file that somebody changed is not replaced.
    fs::write(run.join("crf.toml"), fitted.replace("iterations = 5", "iterations = 3")).unwrap();
    let (code, said) = crf(&[]);
    assert!(code == Some(2) && said.contains("crf.toml"), "{said}");

    let map = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let (code, said) = predict(&run, &[&scan], &out, more);
        assert_eq!(code, Some(0), "{said}");
        let label = fs::read_dir(&out).unwrap().map(|e| e.unwrap().path());
        let mut label: Vec<PathBuf> =
            label.filter(|path| path.to_string_lossy().ends_with(".nii.gz")).collect();
        fs::read(label.swap_remove(0)).unwrap()
    };
    let weightless = folder.path().join("weightless.toml");
    let none: String = fitted
        .lines()
        .map(|line| match line.split(" = ").next() {
            Some("weight") => "weight = 0.0\n".to_owned(),
            Some("enabled") => "enabled = true\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(&weightless, &none).unwrap();
    let plain = map("plain", &[]);
    let file = format!("--crf={}", weightless.display());
    assert_eq!(map("weightless", &[&file]), plain);
    assert_ne!(map("default", &["--crf=default"]), plain);
    fs::write(&weightless, none.replace("classes = 2", "classes = 9")).unwrap();
    let (code, said) = predict(&run, &[&scan], &folder.path().join("others"), &[&file]);
    assert!(code == Some(2) && said.contains("9 classes"), "{said}");
}

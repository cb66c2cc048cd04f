//! Damaged files: either an error, or the voxels and the affine that nibabel gives; never a panic, never long,
//! never much memory. `tests/reference/make_nifti_hostile.py` does the same damage and asks nibabel.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use segen::image::nifti::{read_channels, read_header, read_image, read_labels};

use crate::support::data;

/// Files, version and byte order. Of a pair the header comes first.
const BASES: &[(&[&str], usize, Order)] = &[
    (&["scaled-i2.nii"], 1, Order::Little),
    (&["v1-big-f4.nii.gz"], 1, Order::Big),
    (&["v2-little-f4.nii.gz"], 2, Order::Little),
    (&["v2-big-i2.nii"], 2, Order::Big),
    (&["members.nii.gz"], 1, Order::Little),
    (&["extensions.nii"], 1, Order::Little),
    (&["v1-little-u1.nii"], 1, Order::Little),
    (&["pair.hdr", "pair.img"], 1, Order::Little),
    (&["pair-v2.hdr.gz", "pair-v2.img.gz"], 2, Order::Big),
    (&["channels.nii.gz"], 1, Order::Little),
    (&["qform-only.nii"], 1, Order::Little),
    (&["no-form.nii"], 1, Order::Little),
];

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Little,
    Big,
}

/// Offset, number type (as in Python's `struct`) and count of the fields that a reader uses.
type FieldTable = &'static [(usize, char, u64)];

const FIELDS_1: FieldTable = &[
    (0, 'i', 1),
    (40, 'h', 8),
    (70, 'h', 1),
    (72, 'h', 1),
    (76, 'f', 8),
    (108, 'f', 1),
    (112, 'f', 1),
    (116, 'f', 1),
    (252, 'h', 1),
    (254, 'h', 1),
    (256, 'f', 3),
    (268, 'f', 3),
    (280, 'f', 12),
    (344, 'i', 1),
];

const FIELDS_2: FieldTable = &[
    (0, 'i', 1),
    (4, 'i', 2),
    (12, 'h', 1),
    (14, 'h', 1),
    (16, 'q', 8),
    (104, 'd', 8),
    (168, 'q', 1),
    (176, 'd', 1),
    (184, 'd', 1),
    (344, 'i', 1),
    (348, 'i', 1),
    (352, 'd', 3),
    (376, 'd', 3),
    (400, 'd', 12),
];

#[rustfmt::skip]
const INTEGERS: &[i64] = &[
    0, 1, -1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 64, 255, 256, 348, 352, 512, 540, 768, 1024, 1280, 32767,
    -32768, 65536, (1 << 31) - 1, -(1 << 31), 1 << 40, 1 << 62, i64::MIN,
];

#[rustfmt::skip]
const REALS: &[f64] = &[
    0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -16.0, 352.0, 353.0, 352.5, 400.0, 544.0, 0.001, 1.25, 1e-30, 1e30, 1e300,
    f64::NAN, f64::INFINITY, f64::NEG_INFINITY,
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn position(&mut self, limit: usize) -> usize {
        self.below(limit as u64) as usize
    }
}

fn lie(content: &mut [u8], random: &mut Random, version: usize, order: Order) {
    for _ in 0..1 + random.below(3) {
        let (offset, kind, count) = random.pick(if version == 1 { FIELDS_1 } else { FIELDS_2 });
        let index = random.position(count as usize);
        let mut number = match kind {
            'h' => (random.pick(INTEGERS) as i16).to_le_bytes().to_vec(),
            'i' => (random.pick(INTEGERS) as i32).to_le_bytes().to_vec(),
            'q' => random.pick(INTEGERS).to_le_bytes().to_vec(),
            'f' => (random.pick(REALS) as f32).to_le_bytes().to_vec(),
            _ => random.pick(REALS).to_le_bytes().to_vec(),
        };
        if order == Order::Big {
            number.reverse();
        }
        content[offset + index * number.len()..][..number.len()].copy_from_slice(&number);
    }
}

/// The files of input `number`; the first is the one to open.
fn damage(number: u64) -> Vec<(&'static str, Vec<u8>)> {
    let mut random = Random(number);
    let (names, version, order) = random.pick(BASES);
    let mut files: Vec<(&str, Vec<u8>)> = names
        .iter()
        .map(|name| (*name, std::fs::read(data("nifti").join(name)).expect("a base file")))
        .collect();
    let kind = random.below(7);
    if let 1 | 4 = kind {
        let (name, file) = &mut files[0];
        let compressed = name.ends_with(".gz");
        let mut content = Vec::new();
        if compressed {
            MultiGzDecoder::new(file.as_slice()).read_to_end(&mut content).expect("a sound base file");
        } else {
            content = std::mem::take(file);
        }
        if kind == 1 {
            lie(&mut content, &mut random, version, order);
        } else {
            for _ in 0..1 + random.below(8) {
                // As in Python, the value is drawn before the position.
                let value = random.below(256) as u8;
                content[random.position(if version == 1 { 348 } else { 540 })] = value;
            }
        }
        if compressed {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
            encoder.write_all(&content).expect("memory");
            content = encoder.finish().expect("memory");
        }
        *file = content;
        return files;
    }
    let part = random.position(files.len());
    let file = &mut files[part].1;
    match kind {
        0 => file.truncate(random.position(file.len())),
        2 => {
            for _ in 0..1 + random.below(8) {
                let position = random.position(file.len());
                file[position] ^= 1 + random.below(255) as u8;
            }
        }
        3 => {
            file.truncate(random.pick(&[0, 3, 10, 352, 540]));
            for _ in 0..random.below(1500) {
                file.push(random.below(256) as u8);
            }
        }
        5 => {
            let start = random.position(file.len());
            let end = file.len().min(start + 1 + random.position(64));
            match random.below(3) {
                0 => drop(file.drain(start..end)),
                1 => {
                    let copy = file[start..end].to_vec();
                    file.splice(end..end, copy);
                }
                _ => file[start..end].fill(0),
            }
        }
        _ => {
            let noise = random.below(2) == 1;
            for _ in 0..random.below(2000) {
                file.push(if noise { random.below(256) as u8 } else { 0 });
            }
        }
    }
    files
}

/// Of the bytes of 32-bit numbers; all NaN count as one.
fn checksum(values: impl Iterator<Item = f32>) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for value in values {
        let value = if value.is_nan() { f32::NAN } else { value };
        hasher.update(&value.to_le_bytes());
    }
    format!("{:08x}", hasher.finalize())
}

/// The whole address space of this process in MiB, at its largest; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Reads one input in every way and compares; true where it was accepted.
fn try_one(path: &Path, voxels: &str, affine: &str) -> Result<bool, String> {
    let require = |condition: bool, problem: &str| if condition { Ok(()) } else { Err(problem.to_owned()) };
    let start = Instant::now();
    let outcome = read_channels(path);
    let (header, labels, image) = (read_header(path), read_labels(path), read_image(path));
    let passed = start.elapsed();
    require(passed < Duration::from_secs(1), &format!("took {passed:?}"))?;
    let Ok((channels, full)) = outcome else {
        require(image.is_err() && labels.is_err(), "one reader accepts what another refuses")?;
        return Ok(false);
    };
    let warnings = format!("{:?}", full.warnings());
    let header = header.map_err(|error| error.to_string())?;
    require(header.grid() == full.grid(), "two readers give two grids")?;
    let values = channels.iter().flat_map(|channel| channel.voxels.t().iter().copied().collect::<Vec<_>>());
    let ours = checksum(values);
    require(ours == voxels, &format!("voxels {ours}, nibabel {voxels}, {warnings}"))?;
    if let Ok((image, _)) = image {
        let bits = |volume: &segen::image::volume::Image| volume.voxels.mapv(f32::to_bits);
        require(channels.len() == 1 && bits(&image) == bits(&channels[0]), "two readers give two images")?;
    }
    if affine == "-" {
        // nibabel refuses a quaternion longer than 1, which the NIfTI C library scales.
        require(warnings.contains("quaternion"), &format!("nibabel refuses the affine: {warnings}"))?;
    } else {
        // nibabel leaves lengths in the unit of the file.
        let units = [("says metres", 1e-3), ("says micrometres", 1e3)];
        let unit = units.iter().find(|(word, _)| warnings.contains(word)).map_or(1.0, |(_, unit)| *unit);
        let rows = full.grid().affine.map(|row| row.map(|length| unit * length));
        // Adding 0 makes -0 and 0 one number.
        let ours = checksum(rows.iter().flatten().map(|value| (value + 0.0) as f32));
        require(ours == affine, &format!("affine {rows:?} differs from nibabel's"))?;
    }
    Ok(true)
}

/// Runs in a process of its own, so that its memory can be measured.
#[test]
#[ignore = "run by `damaged_files_are_errors_or_nibabels_voxels` in a process of its own"]
fn all_inputs_in_this_process() {
    let text = std::fs::read_to_string(data("nifti/hostile.txt")).expect("the references");
    let folder = tempfile::tempdir().expect("a folder");
    let (mut accepted, mut sound, mut slowest, mut faults) = (0, 0, Duration::ZERO, Vec::new());
    let before = peak_memory();
    for (number, line) in text.lines().enumerate() {
        let (voxels, affine) = line.split_once(' ').expect("two checksums");
        let files = damage(number as u64);
        for (name, content) in &files {
            std::fs::write(folder.path().join(name), content).expect("written");
        }
        let start = Instant::now();
        match try_one(&folder.path().join(files[0].0), voxels, affine) {
            Ok(read) => accepted += usize::from(read),
            Err(problem) => faults.push(format!("input {number}: {problem}")),
        }
        slowest = slowest.max(start.elapsed());
        sound += usize::from(affine != "-");
    }
    let (inputs, memory) = (text.lines().count(), peak_memory() - before);
    println!(
        "{inputs} inputs, nibabel accepts {sound}, we {accepted}, slowest {slowest:?}, {memory} MiB more"
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(inputs >= 2000);
    // Refusing everything would pass all other checks.
    assert!(accepted * 10 >= sound * 8, "we accept {accepted} of {sound} files that nibabel reads");
    assert!(memory < 200, "the address space grew by {memory} MiB");
}

#[test]
fn damaged_files_are_errors_or_nibabels_voxels() {
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["nifti::hostile::all_inputs_in_this_process", "--exact", "--ignored", "--nocapture"])
        .arg("--test-threads=1")
        // One heap: address space that the allocator sets aside for other threads is not ours.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .expect("a child process");
    let text = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{text}\n{errors}");
    println!("{}", text.lines().find(|line| line.contains("inputs")).unwrap_or_default());
}

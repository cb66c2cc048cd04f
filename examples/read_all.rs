//! Times reading: `cargo run --release --example read_all -- FOLDER [REPEATS]` reads every `.nii` and `.nii.gz` of a
//! folder as 32-bit floating point on one thread and prints milliseconds of processor time per pass, one a line.
//! `tests/reference/time_nibabel.py` does the same with nibabel.

#![expect(clippy::print_stdout, reason = "the numbers are what the example is for")]

use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: read_all FOLDER [REPEATS]")?);
    let repeats: usize = match arguments.next() {
        Some(text) => text.to_string_lossy().parse()?,
        None => 5,
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| {
        let name = file.to_string_lossy();
        name.ends_with(".nii") || name.ends_with(".nii.gz")
    });
    files.sort();
    for _ in 0..repeats {
        let start = processor_time().map_err(|error| format!("processor time: {error}"));
        let clock = Instant::now();
        let mut sum = 0.0;
        for file in &files {
            let (image, _) = segen::image::nifti::read_image(file)?;
            sum += f64::from(image.voxels[[0, 0, 0]]);
        }
        let wall = clock.elapsed().as_secs_f64();
        let time = match (start, processor_time()) {
            (Ok(start), Ok(end)) => end - start,
            _ => wall,
        };
        println!(
            "{:.1} ms processor, {:.1} ms wall, {} files, {sum:.0}",
            time * 1e3,
            wall * 1e3,
            files.len()
        );
    }
    Ok(())
}

/// Seconds of processor time of this thread, where the system tells.
fn processor_time() -> Result<f64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().ok_or("empty")?.parse()?;
    Ok(nanoseconds * 1e-9)
}

use super::Exit;
use crate::output::Output;
use segen::machine;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, output: &Output) -> anyhow::Result<Exit> {
    let kernels = segen_kernels::Settings::current();
    let path = kernels.path().to_string();
    let speed = segen_kernels::convolution_speed();
    let threads = rayon::current_num_threads();
    if output.json() {
        let report = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "processor": machine::processor(),
            "threads": threads,
            "available_memory_bytes": machine::available_memory_bytes(),
            "kernels_path": path,
            "convolution_gflops": speed,
        });
        output.data(&serde_json::to_string_pretty(&report)?);
    } else {
        output.data(&format!(
            "segen        {}\nprocessor    {}\nthreads      {threads}\nfree memory  {:.1} GiB\n\
             CPU path     {path}\nconvolution  {speed:.0} GFLOP/s (3x3x3, forward and backward)",
            env!("CARGO_PKG_VERSION"),
            machine::processor(),
            machine::available_memory_bytes() as f64 / (1u64 << 30) as f64,
        ));
    }
    Ok(Exit::Done)
}

//! `--device`, shared by the commands that compute.

use burn::tensor::Device;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to compute: `cpu`, or `vulkan` in a build with that feature
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
}

impl Args {
    pub(crate) fn open(&self) -> anyhow::Result<Device> {
        match self.device.as_str() {
            "cpu" => Ok(Device::flex()),
            other => anyhow::bail!("--device: `{other}` is not a device of this build\nhint: use cpu"),
        }
    }
}

//! `--device`, shared by the commands that compute.

use burn::tensor::Device;

#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Where to compute: `cpu`, or `vulkan` or `cuda` in a build with that feature
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
}

impl DeviceArgs {
    pub(crate) fn open(&self) -> anyhow::Result<Device> {
        match self.device.as_str() {
            "cpu" => Ok(Device::flex()),
            #[cfg(feature = "vulkan")]
            "vulkan" => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "cuda")]
            "cuda" => Ok(Device::cuda(burn::tensor::DeviceIndex::Default)),
            other => anyhow::bail!(
                "--device: `{other}` is not a device of this build\nhint: use cpu, or build with that feature"
            ),
        }
    }
}

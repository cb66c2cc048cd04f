//! `--device`, shared by the commands that compute.

use burn::tensor::Device;

#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Where to compute: `cpu`, or `vulkan` or `cuda` in a build with that feature
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
}

impl DeviceArgs {
    /// The device, where it is another than the default.
    pub(crate) fn given(&self) -> Option<&str> {
        Some(self.device.as_str()).filter(|name| *name != "cpu")
    }

    pub(crate) fn open(&self) -> anyhow::Result<Device> {
        match self.device.as_str() {
            "cpu" => Ok(Device::flex()),
            #[cfg(feature = "vulkan")]
            "vulkan" => first(burn::tensor::DeviceType::Vulkan, "vulkan"),
            #[cfg(feature = "cuda")]
            "cuda" => first(burn::tensor::DeviceType::Cuda, "cuda"),
            other => anyhow::bail!(
                "--device: `{other}` is not a device of this build\nhint: use cpu, or build with that feature"
            ),
        }
    }
}

/// The first device of this type; opening one that is not there would panic.
#[cfg(any(feature = "vulkan", feature = "cuda"))]
fn first(device_type: burn::tensor::DeviceType, name: &str) -> anyhow::Result<Device> {
    Device::enumerate(device_type).into_iter().next().ok_or_else(|| {
        anyhow::anyhow!(
            "--device: no `{name}` device was found on this machine\nhint: see that its driver is installed, or use cpu"
        )
    })
}

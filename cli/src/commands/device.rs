//! `--device`, shared by the commands that compute.

use segen_kernels::Device;

#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Where to compute: `cpu`
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
}

impl DeviceArgs {
    /// The device, where it is another than the default.
    pub(crate) fn given(&self) -> Option<&str> {
        Some(self.device.as_str()).filter(|name| *name != "cpu")
    }

    pub(crate) fn open(&self) -> anyhow::Result<Device> {
        self.device.parse().map_err(|error| {
            anyhow::anyhow!("--device: {error}\nhint: leave the option out, or use `--device cpu`")
        })
    }
}

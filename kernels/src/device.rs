//! Where operators run.

use std::fmt;
use std::str::FromStr;

/// Where values lie and operators run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// This machine's processor, see [`crate::Settings`].
    #[default]
    Cpu,
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cpu" => Ok(Self::Cpu),
            _ => Err(format!(
                "there is no device `{name}`: this version runs on `cpu` alone; graphics cards are to come, by way of \
                 an installed PyTorch"
            )),
        }
    }
}

//! Where weights begin.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where weights begin: drawn, or those of another run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InitConfig {
    /// A run, or a file of weights (`.safetensors`), whose weights this one begins with; drawn where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Which of the run's checkpoints.
    pub checkpoint: Which,
}

impl InitConfig {
    /// Whether weights are drawn.
    pub(super) fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

/// Which of a run's checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub enum Which {
    /// The last one.
    #[default]
    Latest,
    /// The one with the best score on the validation cases.
    Best,
    /// That of a step, where it is still there.
    Step(u64),
}

/// `checkpoint = 400` and `checkpoint = "400"` mean the same.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Which {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(step) => Ok(Self::Step(step)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Which> for String {
    fn from(which: Which) -> Self {
        which.to_string()
    }
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("latest", _) => Ok(Self::Latest),
            ("best", _) => Ok(Self::Best),
            (_, Ok(step)) => Ok(Self::Step(step)),
            _ => Err("write latest, best or the number of a step".to_owned()),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => formatter.write_str("latest"),
            Self::Best => formatter.write_str("best"),
            Self::Step(step) => write!(formatter, "{step}"),
        }
    }
}

//! Choices by name. The names of files, errors and help texts come from one list of variants.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Error;

/// Values that each have a name.
pub trait Named: Copy + 'static {
    /// The setting that takes them.
    const FIELD: &'static str;
    /// All of them, in the order of help texts.
    const ALL: &'static [Self];

    /// Their names, in the same order.
    const NAMES: &'static [&'static str];

    /// Its name in files and on the command line.
    fn name(self) -> &'static str;

    /// The value of that name.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.name() == name)
    }
}

/// An enum whose variants stand beside their names, once.
macro_rules! named {
    (
        $(#[$about:meta])*
        pub enum $type:ident for $field:literal {
            $($(#[$variant_about:meta])* $variant:ident = $name:literal,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $type {
            $($(#[$variant_about])* #[serde(rename = $name)] $variant,)+
        }

        impl $crate::config::named::Named for $type {
            const FIELD: &'static str = $field;
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            const NAMES: &'static [&'static str] = &[$($name),+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str($crate::config::named::Named::name(*self))
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::Error;

            fn from_str(name: &str) -> $crate::Result<Self> {
                use $crate::config::named::Named;
                Self::named(name).ok_or_else(|| {
                    $crate::Error::config(
                        Self::FIELD,
                        format!("there is no `{name}`"),
                        format!("use one of {}", Self::NAMES.join(", ")),
                    )
                })
            }
        }
    };
}
pub(crate) use named;

/// One of some names, or a file in TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameOrFile<N> {
    /// By name.
    Name(N),
    /// The file: anything that ends in `.toml` or has a folder in it.
    File(PathBuf),
}

impl<N: Named> FromStr for NameOrFile<N> {
    type Err = Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        if let Some(named) = N::named(text) {
            return Ok(Self::Name(named));
        }
        let path = Path::new(text);
        if path.extension().is_some_and(|ending| ending == "toml") || path.components().count() > 1 {
            return Ok(Self::File(path.to_owned()));
        }
        Err(Error::config(N::FIELD, format!("`{text}` is neither a name nor a policy file"), Self::hint()))
    }
}

impl<N: Named> NameOrFile<N> {
    fn hint() -> String {
        format!("use {}, or a file that ends in .toml", N::NAMES.join(", "))
    }
}

impl<N: Named> fmt::Display for NameOrFile<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(named) => formatter.write_str(named.name()),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

impl<N: Named> Serialize for NameOrFile<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, N: Named> Deserialize<'de> for NameOrFile<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            de::Error::custom(format!("`{text}` is neither a name nor a policy file; {}", Self::hint()))
        })
    }
}

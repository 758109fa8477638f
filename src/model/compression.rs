//! How hard new data is compressed. The words are restic's.

use std::fmt;
use std::str::FromStr;

/// How much work to put into compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// None for data.
    Off,
    /// As quickly as possible.
    Fastest,
    /// Level 3, and data that does not shrink is stored as it is.
    #[default]
    Auto,
    /// Smaller, slower.
    Better,
    /// Smallest, slowest.
    Max,
    /// This level of zstd, 1 to 22.
    Level(i32),
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.pad("off"),
            Self::Fastest => f.pad("fastest"),
            Self::Auto => f.pad("auto"),
            Self::Better => f.pad("better"),
            Self::Max => f.pad("max"),
            Self::Level(level) => f.pad(&level.to_string()),
        }
    }
}

/// A compression that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a compression: write off, fastest, auto, better, max or a zstd level from 1 to 22")]
pub struct CompressionError(pub String);

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        Ok(match text {
            "off" => Self::Off,
            "fastest" => Self::Fastest,
            "auto" => Self::Auto,
            "better" => Self::Better,
            "max" => Self::Max,
            level => match level.parse() {
                Ok(level @ 1..=22) => Self::Level(level),
                _ => return Err(CompressionError(text.to_owned())),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_levels_are_read_and_shown() {
        for text in ["off", "fastest", "auto", "better", "max", "1", "22"] {
            assert_eq!(text.parse::<Compression>().map(|read| read.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "Auto", "0", "23", "-1", "zstd"] {
            assert_eq!(text.parse::<Compression>(), Err(CompressionError(text.to_owned())));
        }
    }
}

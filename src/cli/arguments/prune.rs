//! The flags of `prune`.

use clap::Args;

use crate::model::size::ByteSize;
use crate::repository::contract::prune::MaxUnused;

/// Flags of `prune`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(in crate::cli) struct Prune {
    /// How much unused data may stay: `5%` of what is there afterwards, a size such as `2G`, or `unlimited`
    #[arg(long, value_name = "LIMIT", value_parser = max_unused, default_value = "5%")]
    pub(in crate::cli) max_unused: MaxUnused,
    /// Read at most so much to write it anew; the next prune goes on
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(in crate::cli) max_repack_size: Option<u64>,
    /// Join small packs, also those in which everything is used
    #[arg(long)]
    pub(in crate::cli) repack_small: bool,
    /// Write only packs with folders anew, which a cache holds: nothing large is read from a remote repository
    #[arg(long)]
    pub(in crate::cli) repack_cacheable_only: bool,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub(in crate::cli) dry_run: bool,
}

fn size(text: &str) -> Result<u64, String> {
    text.parse().map(|ByteSize(bytes)| bytes).map_err(|error: crate::model::size::SizeError| error.to_string())
}

fn max_unused(text: &str) -> Result<MaxUnused, String> {
    let text = text.trim();
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    let Some(percent) = text.strip_suffix('%') else { return size(text).map(MaxUnused::Bytes) };
    match percent.trim().parse() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(MaxUnused::Percent(percent)),
        _ => Err("write 0% to 99.9%, a size, or `unlimited`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        for (text, expected) in [
            ("5%", MaxUnused::Percent(5.0)),
            ("0 %", MaxUnused::Percent(0.0)),
            ("unlimited", MaxUnused::Unlimited),
            ("0", MaxUnused::Bytes(0)),
            ("1.5G", MaxUnused::Bytes(3 << 29)),
        ] {
            assert_eq!(max_unused(text), Ok(expected), "{text}");
        }
        for text in ["", "%", "100%", "-1%", "NaN%", "much", "5%%", "-4"] {
            assert!(max_unused(text).is_err(), "{text}");
        }
    }
}

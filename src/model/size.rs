//! Sizes in bytes, for people: parsing `1.5GiB` and showing `1.5 GiB`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for ByteSize {
    /// Three significant digits with a binary unit: `0 B`, `999 B`, `1.2 GiB`, `412 MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 999.5 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let text = if unit == 0 || value >= 99.95 { format!("{value:.0} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) };
        f.pad(&text)
    }
}

impl ByteSize {
    /// In the largest unit in which it is a whole number, so that it can be read again: `16MiB`, `1000`.
    pub fn exact(self) -> String {
        let shift = if self.0 == 0 { 0 } else { (self.0.trailing_zeros() / 10).min(5) };
        match shift {
            0 => self.0.to_string(),
            _ => format!("{}{}", self.0 >> (shift * 10), UNITS[shift as usize]),
        }
    }
}

/// A size that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: write a number and one of B, K, M, G, T (powers of 1024), for example 500M or 1.5GiB")]
pub struct SizeError(pub String);

impl FromStr for ByteSize {
    type Err = SizeError;

    /// Reads `123`, `4k`, `4K`, `4KB`, `4KiB`, `1.5 GiB`. All units are powers of 1024, as in restic and Borg.
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let bad = || SizeError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            _ => return Err(bad()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << shift).map(Self).ok_or_else(bad);
        }
        let value: f64 = number.parse().map_err(|_| bad())?;
        let bytes = value * (1_u64 << shift) as f64;
        if bytes.is_finite() && bytes < u64::MAX as f64 { Ok(Self(bytes as u64)) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_sizes_are_read_again() {
        for (bytes, text) in
            [(0, "0"), (1000, "1000"), (1 << 20, "1MiB"), (16 << 20, "16MiB"), (1536 << 30, "1536GiB"), ((1 << 40) + 1, "1099511627777")]
        {
            assert_eq!(ByteSize(bytes).exact(), text);
            assert_eq!(text.parse::<ByteSize>(), Ok(ByteSize(bytes)));
        }
        assert_eq!(ByteSize(u64::MAX).exact().parse::<ByteSize>(), Ok(ByteSize(u64::MAX)));
    }

    #[test]
    fn shows_three_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1024, "1.0 KiB"),
            (1_288_490_188, "1.2 GiB"),
            (432_013_312, "412 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [("0", 0), ("4k", 4096), ("4 KiB", 4096), ("1.5G", 1_610_612_736), ("16MB", 16 << 20)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "x", "1X", "1.2.3M", "-1", "99999999999T", "1e3"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}

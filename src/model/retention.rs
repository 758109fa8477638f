//! What a retention policy says, in restic's words: how many snapshots are kept, of which periods, and for how long.
//!
//! Which snapshots that means is decided in `repository::retention`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::size::ByteSize;

/// How many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Number(u32),
    /// All.
    Unlimited,
}

impl Default for Count {
    /// The rule is not there.
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Count {
    /// Whether the rule keeps nothing (any more).
    pub fn is_zero(self) -> bool {
        self == Self::Number(0)
    }

    /// One less.
    #[must_use]
    pub fn less_one(self) -> Self {
        match self {
            Self::Number(number) => Self::Number(number.saturating_sub(1)),
            Self::Unlimited => Self::Unlimited,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Unlimited => f.pad("unlimited"),
        }
    }
}

/// A count that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a count: write a whole number, or unlimited")]
pub struct CountError(pub String);

impl FromStr for Count {
    type Err = CountError;

    fn from_str(text: &str) -> Result<Self, CountError> {
        match text.trim() {
            "unlimited" => Ok(Self::Unlimited),
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map(Self::Number).map_err(|_| CountError(text.to_owned()))
            }
            _ => Err(CountError(text.to_owned())),
        }
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u32(*number),
            Self::Unlimited => serializer.serialize_str("unlimited"),
        }
    }
}

/// A length of time in a calendar's units, as `1y5m7d2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl Span {
    /// Whether it is of no length: the rule is not there.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.years, 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')];
        let parts: Vec<String> = parts.iter().filter(|(number, _)| *number != 0).map(|(number, unit)| format!("{number}{unit}")).collect();
        f.pad(if parts.is_empty() { "0h".to_owned() } else { parts.concat() }.as_str())
    }
}

/// A span that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a span: write years, months, weeks, days and hours, for example 7d, 2w, 6m or 1y5m7d2h")]
pub struct SpanError(pub String);

impl FromStr for Span {
    type Err = SpanError;

    /// Reads `1y5m7d2h` as restic does, with `w` for weeks too. A unit may come once.
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let bad = || SpanError(text.to_owned());
        let mut span = Self::default();
        let mut seen = String::new();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let number: u32 = rest[..end].parse().map_err(|_| bad())?;
            let unit = rest[end..].chars().next().ok_or_else(bad)?;
            if seen.contains(unit) {
                return Err(bad());
            }
            seen.push(unit);
            match unit {
                'y' => span.years = number,
                'm' => span.months = number,
                'w' => span.days = number.checked_mul(7).and_then(|days| days.checked_add(span.days)).ok_or_else(bad)?,
                'd' => span.days = span.days.checked_add(number).ok_or_else(bad)?,
                'h' => span.hours = number,
                _ => return Err(bad()),
            }
            rest = &rest[end + unit.len_utf8()..];
        }
        Ok(span)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A retention policy. A snapshot stays if one of the rules keeps it; what no rule keeps goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Retention {
    /// The newest.
    pub keep_last: Count,
    /// The newest of each of the last hours that have any.
    pub keep_hourly: Count,
    /// The same with days.
    pub keep_daily: Count,
    /// The same with weeks, which begin on Monday.
    pub keep_weekly: Count,
    /// The same with months.
    pub keep_monthly: Count,
    /// The same with years.
    pub keep_yearly: Count,
    /// All that are not older than this before the newest.
    pub keep_within: Span,
    /// Of these, the newest of each hour.
    pub keep_within_hourly: Span,
    /// Of these, the newest of each day.
    pub keep_within_daily: Span,
    /// Of these, the newest of each week.
    pub keep_within_weekly: Span,
    /// Of these, the newest of each month.
    pub keep_within_monthly: Span,
    /// Of these, the newest of each year.
    pub keep_within_yearly: Span,
    /// Those that have all tags of one of these lists.
    pub keep_tags: Vec<Vec<String>>,
    /// Of each group never fewer than so many complete ones, whatever else is said.
    pub min_keep: u32,
    /// What all that is kept may take in the repository: the oldest go until it fits. None: whatever it takes.
    #[serde(serialize_with = "bytes")]
    pub max_size: Option<ByteSize>,
}

#[expect(clippy::ref_option, reason = "serde passes references")]
fn bytes<S: Serializer>(size: &Option<ByteSize>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|size| size.0).serialize(serializer)
}

impl Retention {
    /// Whether no rule says what is kept. `min_keep` and `max_size` are limits and no rules.
    pub fn has_no_rule(&self) -> bool {
        *self == Self { min_keep: self.min_keep, max_size: self.max_size, ..Self::default() }
    }

    /// What is wrong with it as a whole, if something is.
    ///
    /// # Errors
    /// A sentence without a period.
    pub fn check(&self) -> Result<(), &'static str> {
        if !self.has_no_rule() || self.max_size.is_some() {
            Ok(())
        } else if self.min_keep > 0 {
            Err("min_keep alone says what is never removed, but not what is: give a keep rule or max_size too")
        } else {
            Err("they keep nothing: give at least one keep rule that is not 0, or max_size")
        }
    }
}

/// A list of tags as it is written: `a,b`.
pub fn tag_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn spans_read_as_in_restic() {
        let span = |years, months, days, hours| Span { years, months, days, hours };
        for (text, expected, shown) in [
            ("7d", span(0, 0, 7, 0), "7d"),
            ("1y5m7d2h", span(1, 5, 7, 2), "1y5m7d2h"),
            ("2h 1y".replace(' ', "").as_str(), span(1, 0, 0, 2), "1y2h"),
            ("2w1d", span(0, 0, 15, 0), "15d"),
            ("0d", span(0, 0, 0, 0), "0h"),
        ] {
            let read: Span = text.parse().unwrap();
            assert_eq!((read, read.to_string().as_str()), (expected, shown), "{text}");
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for text in ["", "7", "d", "-7d", "7x", "7d7d", "1.5d", "99999999999d", "613566757w", "7 d", "7d\u{e9}"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn counts_and_policies() {
        assert_eq!("7".parse(), Ok(Count::Number(7)));
        assert_eq!("unlimited".parse(), Ok(Count::Unlimited));
        for text in ["", "-1", "x", "1.5", "99999999999"] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
        let empty = Retention::default();
        assert!(empty.has_no_rule() && empty.check().is_err());
        assert!(Retention { min_keep: 3, ..Retention::default() }.check().unwrap_err().starts_with("min_keep alone"));
        assert!(Retention { max_size: Some(ByteSize(1)), min_keep: 3, ..Retention::default() }.check().is_ok());
        assert!(Retention { keep_within_yearly: Span { years: 1, ..Span::default() }, ..Retention::default() }.check().is_ok());
        assert_eq!(tag_list(" a, b,,"), ["a", "b"]);
    }
}

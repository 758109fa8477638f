//! Durations as people write them: `90s`, `5m`, `1h30m`, `2 days`, or a plain number of seconds.

use std::time::Duration;

/// A duration that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write a number with a unit, for example 90s, 5m or 1h30m")]
pub struct DurationError(pub String);

/// Reads a duration; a number without a unit is seconds.
///
/// # Errors
/// It is none, or negative.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let bad = || DurationError(text.to_owned());
    let trimmed = text.trim();
    if !trimmed.is_empty() && trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        return trimmed.parse().map(Duration::from_secs).map_err(|_| bad());
    }
    let span: jiff::SignedDuration = trimmed.parse().map_err(|_| bad())?;
    Duration::try_from(span).map_err(|_| bad())
}

/// Shows a duration as it can be written: `1h 30m`, `90ms`.
pub fn show(duration: Duration) -> String {
    jiff::SignedDuration::try_from(duration).map_or_else(|_| format!("{}s", duration.as_secs()), |duration| format!("{duration:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in
            [("90s", 90_000), ("5m", 300_000), ("1h30m", 5_400_000), ("1.5h", 5_400_000), ("20", 20_000), ("0", 0), ("250ms", 250)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "x", "-5s", "5 parsecs", "99999999999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(show(Duration::from_mins(90)), "1h 30m");
        assert_eq!(parse(&show(Duration::from_millis(61_250))), Ok(Duration::from_millis(61_250)));
    }
}

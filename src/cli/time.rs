//! Points in time as people write them: `2026-08-20`, `2026-08-20 14:30`, `2026-08-20T14:30:00Z`, `3 days ago`, `12h`.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// Reads a point in time; without a zone of its own it is in `zone`. A span means so long before `now`.
///
/// # Errors
/// A sentence that says what can be written.
pub(super) fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let trimmed = text.trim();
    let bad =
        || format!("`{}` is not a time: write for example 2026-08-20, \"2026-08-20 14:30\" or \"3 days ago\"", super::text::safe(text));
    if let Ok(time) = trimmed.parse::<Timestamp>() {
        return Ok(time);
    }
    // A date alone is midnight.
    if let Ok(civil) = trimmed.parse::<DateTime>() {
        return civil.to_zoned(zone.clone()).map(|zoned| zoned.timestamp()).map_err(|_| bad());
    }
    let span: Span = trimmed.parse().map_err(|_| bad())?;
    now.to_zoned(zone.clone()).checked_sub(span.abs()).map(|zoned| zoned.timestamp()).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let now: Timestamp = "2026-08-24T12:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        for (text, expected) in [
            ("2026-08-20", "2026-08-19T22:00:00Z"),
            ("2026-08-20 14:30", "2026-08-20T12:30:00Z"),
            ("2026-08-20T14:30:05", "2026-08-20T12:30:05Z"),
            ("2026-08-20T14:30:00Z", "2026-08-20T14:30:00Z"),
            ("3 days ago", "2026-08-21T12:00:00Z"),
            ("12h", "2026-08-24T00:00:00Z"),
            ("1 month ago", "2026-07-24T12:00:00Z"),
        ] {
            assert_eq!(parse(text, now, &zone).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "99999 years ago", "2026"] {
            assert!(parse(text, now, &zone).is_err(), "{text}");
        }
    }
}

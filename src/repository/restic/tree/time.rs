//! Times as trees hold them: RFC 3339 with nanoseconds and the local offset, as Go writes them.
//!
//! The rules of the time zone come from the caller.

use std::io::Write as _;

use crate::model::entry::Timestamp;

const SECONDS_A_DAY: i64 = 86_400;

/// Days since the epoch of a date in the proleptic Gregorian calendar. Months beyond the year's ends and days beyond the
/// month's are carried on.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last one; eras are the 400 years after which the calendar repeats.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The reverse: year, month and day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Appends a time in quotes. `offset_of` gives the zone's seconds east of Greenwich at a time in seconds since the epoch.
/// Times that RFC 3339 cannot hold are moved to its first or last year, as restic does.
pub(super) fn write(time: Timestamp, offset_of: impl Fn(i64) -> i32, out: &mut Vec<u8>) {
    // Beyond this, no calendar has a meaning; it keeps the sums below from overflowing.
    let secs = time.secs.clamp(-(1 << 55), 1 << 55);
    let mut offset = offset_of(secs);
    let mut local = secs + i64::from(offset);
    let (mut year, mut month, mut day) = civil_from_days(local.div_euclid(SECONDS_A_DAY));
    if !(0..=9999).contains(&year) {
        let second_of_day = local.rem_euclid(SECONDS_A_DAY);
        let days = days_from_civil(year.clamp(0, 9999), month, day);
        local = days * SECONDS_A_DAY + second_of_day;
        offset = offset_of(local - i64::from(offset));
        (year, month, day) = civil_from_days(days);
    }
    let second = local.rem_euclid(SECONDS_A_DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if time.nanos != 0 {
        let _ = write!(out, ".{:09}", time.nanos);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    if offset == 0 {
        out.push(b'Z');
    } else {
        let minutes = offset.abs() / 60;
        let sign = if offset / 60 < 0 { '-' } else { '+' };
        let _ = write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    }
    out.push(b'"');
}

/// Reads an RFC 3339 time in any zone; digits after the ninth of a second are dropped.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let (head, rest) = bytes.split_at_checked(19)?;
    let separators = [head[4], head[7], head[10], head[13], head[16]];
    if separators != *b"--T::" {
        return None;
    }
    let (year, month, day) = (digits(&head[..4])?, digits(&head[5..7])?, digits(&head[8..10])?);
    let (hour, minute, second) = (digits(&head[11..13])?, digits(&head[14..16])?, digits(&head[17..19])?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = fraction(rest)?;
    let offset = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), a, b, b':', c, d] => {
            let seconds = digits(&[*a, *b])? * 3600 + digits(&[*c, *d])? * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let secs = days_from_civil(year, month, day) * SECONDS_A_DAY + hour * 3600 + minute * 60 + second - offset;
    Some(Timestamp { secs, nanos })
}

/// The nanoseconds of `.123` at the beginning, and what follows.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(after) = text.strip_prefix(b".") else { return Some((0, text)) };
    let length = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let nanos = after[..length].iter().chain(std::iter::repeat(&b'0')).take(9).fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    (length > 0).then_some((nanos, &after[length..]))
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

//! Words for people: tables, durations, times, numbers.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr as _;

use crate::model::text::{printable, without_passwords};

/// A name or text of others' making, safe to show: nothing in it steers a terminal or is the password of an address.
pub(super) fn safe(text: &str) -> String {
    printable(without_passwords(text).as_bytes())
}

/// A word of a command line as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", safe(word).replace('\'', r"'\''")) }
}

/// `4.2 s`, `3 min 12 s`, `2 h 5 min`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.subsec_millis() < 100 => format!("{} ms", duration.subsec_millis()),
        0..=9 => format!("{:.1} s", duration.as_secs_f64()),
        10..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `2026-08-20 14:30:05` in the given zone.
pub(super) fn time(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `1 file`, `3 files`.
pub(super) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {one}s", grouped(number)) }
}

/// `1 234 567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Lines of columns under a heading, each as wide as its widest cell. Cells must be safe to show.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let line = |cells: &[&str]| {
        let mut out = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
        }
        out.trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    std::iter::once(line(headings)).chain(rows).collect()
}

/// Cuts a text to a width from the left, as paths are known by their ends.
pub(super) fn fit_left(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars().rev() {
        if kept.width() + 1 + unicode_width::UnicodeWidthChar::width(c).unwrap_or(0) > width {
            break;
        }
        kept.insert(0, c);
    }
    format!("…{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_break_them() {
        for (word, expected) in
            [("/srv/a-b_c.d", "/srv/a-b_c.d"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("$x", "'$x'"), ("grün", "grün")]
        {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn durations_and_numbers_are_short() {
        for (millis, text) in [
            (0, "0 ms"),
            (42, "42 ms"),
            (450, "0.5 s"),
            (4_230, "4.2 s"),
            (59_999, "59 s"),
            (192_000, "3 min 12 s"),
            (7_500_000, "2 h 5 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!((count(1, "file"), count(2000, "file")), ("1 file".to_owned(), "2 000 files".to_owned()));
    }

    #[test]
    fn columns_line_up_by_width_not_by_bytes() {
        let rows = vec![vec!["gr\u{fc}n".to_owned(), "1".to_owned()], vec!["\u{6f22}\u{5b57}".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["name", "n"], &rows), ["name  n", "gr\u{fc}n  1", "\u{6f22}\u{5b57}  22"]);
    }

    #[test]
    fn long_paths_keep_their_ends() {
        assert_eq!(fit_left("/srv/data/file", 9), "…ata/file");
        assert_eq!(fit_left("/srv", 9), "/srv");
        assert_eq!(fit_left("/srv", 0), "…");
    }
}

//! What a plain line says of running work: an item or a phase with its own numbers, and at which pace.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::cli::text;
use crate::model::size::ByteSize;

/// Counters of a job at one moment, or what came to them since another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// What is known to be to come.
    pub(super) expected: u64,
}

impl Counted {
    /// What came since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        let less = |now: u64, before: u64| now.saturating_sub(before);
        Self {
            files: less(self.files, before.files),
            bytes: less(self.bytes, before.bytes),
            expected: less(self.expected, before.expected),
        }
    }
}

/// `12 files, 3.0 MiB of 9.0 MiB, 1.0 MiB/s, 6 s left`; what is nothing is left out, and so nothing may be left at all.
pub(super) fn numbers(counted: Counted, unit: &str, rate: u64, remaining: Option<Duration>) -> String {
    let Counted { files, bytes, expected } = counted;
    if files == 0 && bytes == 0 {
        return String::new();
    }
    let mut parts = Vec::new();
    // Work that counts only bytes has no files, not none.
    if files > 0 {
        parts.push(text::count(files, unit));
    }
    parts.push(if expected > bytes { format!("{} of {}", ByteSize(bytes), ByteSize(expected)) } else { ByteSize(bytes).to_string() });
    if rate > 0 {
        parts.push(format!("{}/s", ByteSize(rate)));
    }
    parts.extend(remaining.map(left));
    parts.join(", ")
}

/// In whole seconds: what is left is a guess.
fn left(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..10 => format!("{} s left", seconds.max(1)),
        _ => format!("{} left", text::duration(time)),
    }
}

/// A line of `label` and what is known of it; its time where nothing else is.
pub(super) fn line(label: &str, numbers: &str, took: Duration) -> String {
    match (label, numbers) {
        ("", numbers) => numbers.to_owned(),
        (label, "") => format!("{label}, {}", text::duration(Duration::from_secs(took.as_secs().max(1)))),
        (label, numbers) => format!("{label}: {numbers}"),
    }
}

/// Bytes per second over the last while.
#[derive(Default)]
pub(super) struct Rate {
    seen: VecDeque<(Instant, u64)>,
}

impl Rate {
    const WINDOW: Duration = Duration::from_secs(15);

    pub(super) fn add(&mut self, bytes: u64, now: Instant) {
        self.seen.push_back((now, bytes));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(time, _)| now.duration_since(*time) > Self::WINDOW) {
            self.seen.pop_front();
        }
    }

    pub(super) fn per_second(&self) -> u64 {
        match (self.seen.front(), self.seen.back()) {
            (Some((first, before)), Some((last, after))) if last > first => {
                (after.saturating_sub(*before) as f64 / last.duration_since(*first).as_secs_f64()) as u64
            }
            _ => 0,
        }
    }

    pub(super) fn remaining(&self, bytes: u64) -> Option<Duration> {
        let rate = self.per_second();
        (rate > 0 && bytes > 0).then(|| Duration::from_secs(bytes.div_ceil(rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock;

    #[test]
    fn rate_is_that_of_the_last_while() {
        let start = clock::monotonic();
        let mut rate = Rate::default();
        assert_eq!((rate.per_second(), rate.remaining(5)), (0, None));
        for second in 0..40_u64 {
            // Fast at first, then 100 bytes a second.
            let bytes = if second < 20 { second * 10_000 } else { 200_000 + (second - 20) * 100 };
            rate.add(bytes, start + Duration::from_secs(second));
        }
        assert_eq!(rate.per_second(), 100);
        assert_eq!(rate.remaining(1_000), Some(Duration::from_secs(10)));
        assert_eq!(rate.remaining(1), Some(Duration::from_secs(1)), "nothing is done in no time");
    }

    #[test]
    fn a_line_says_only_what_is_known() {
        let of = |files, bytes, expected| Counted { files, bytes, expected };
        let ten = Duration::from_secs(10);
        assert_eq!(line("stopping web", &numbers(Counted::default(), "file", 0, None), ten), "stopping web, 10 s");
        assert_eq!(line("volume db", &numbers(of(1, 2_048, 0), "file", 0, None), ten), "volume db: 1 file, 2.0 KiB");
        assert_eq!(
            line("reading packs", &numbers(of(3, 1 << 20, 4 << 20), "pack", 1 << 20, Some(Duration::from_secs(3))), ten),
            "reading packs: 3 packs, 1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3 s left"
        );
        assert_eq!(line("snapshot ab", &numbers(of(0, 1_024, 0), "file", 0, None), ten), "snapshot ab: 1.0 KiB");
        assert_eq!(line("", &numbers(of(2, 0, 0), "file", 0, None), ten), "2 files, 0 B");
        assert_eq!((left(Duration::ZERO), left(ten)), ("1 s left".to_owned(), "10 s left".to_owned()));
        assert_eq!(of(5, 9, 3).since(of(2, 4, 3)), of(3, 5, 0));
    }
}

//! The rules that restic has too, applied to one group from its newest snapshot to its oldest.
//!
//! Which snapshots take part, and what else keeps one, is decided above.

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::{Counters, Period, Reason};
use crate::model::retention::{Count, Retention, Span};
use crate::repository::contract::Snapshot;

/// The rules, part of them used up.
pub(super) struct Rules {
    counted: [Counted; 6],
    /// The first is `keep_within` itself.
    spans: Vec<Spanned>,
    min_keep: u32,
    only_size: bool,
    /// Snapshots seen so far.
    seen: usize,
    /// Snapshots in all.
    all: usize,
}

/// A rule that keeps so many.
struct Counted {
    period: Period,
    left: Count,
    last: Option<Bucket>,
}

/// A rule that keeps those that are not too old. `keep_within` has no period.
struct Spanned {
    period: Option<Period>,
    span: Span,
    /// What is newer is not too old.
    since: Timestamp,
    last: Option<Bucket>,
}

/// An hour, a day and so on, of which one snapshot is kept.
type Bucket = (i32, i32, i32, i32);

impl Rules {
    /// `snapshots` are those that take part, newest first.
    pub(super) fn new<'a>(policy: &Retention, snapshots: impl ExactSizeIterator<Item = &'a Snapshot>) -> Self {
        let counted = [
            (Period::Last, policy.keep_last),
            (Period::Hour, policy.keep_hourly),
            (Period::Day, policy.keep_daily),
            (Period::Week, policy.keep_weekly),
            (Period::Month, policy.keep_monthly),
            (Period::Year, policy.keep_yearly),
        ]
        .map(|(period, left)| Counted { period, left, last: None });
        let all = snapshots.len();
        let newest = { snapshots }.next();
        let spans = [
            (None, policy.keep_within),
            (Some(Period::Hour), policy.keep_within_hourly),
            (Some(Period::Day), policy.keep_within_daily),
            (Some(Period::Week), policy.keep_within_weekly),
            (Some(Period::Month), policy.keep_within_monthly),
            (Some(Period::Year), policy.keep_within_yearly),
        ];
        let spans = spans.into_iter().filter(|(_, span)| !span.is_zero()).filter_map(|(period, span)| {
            let since = before(newest?, span).unwrap_or(Timestamp::MIN);
            Some(Spanned { period, span, since, last: None })
        });
        let only_size = policy.has_no_rule() && policy.max_size.is_some();
        Self { counted, spans: spans.collect(), min_keep: policy.min_keep, only_size, seen: 0, all }
    }

    /// Why the next snapshot stays; nothing if no rule keeps it.
    pub(super) fn next(&mut self, snapshot: &Snapshot) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let number = self.seen;
        self.seen += 1;
        // While a rule has room, the oldest of all stays as well: the history is as long as it can be.
        let oldest = self.seen == self.all;
        let (plain, periods): (Vec<&mut Spanned>, Vec<&mut Spanned>) = self.spans.iter_mut().partition(|rule| rule.period.is_none());
        reasons.extend(plain.into_iter().filter(|rule| snapshot.time > rule.since).map(|rule| Reason::Within(rule.span)));
        for rule in self.counted.iter_mut().filter(|rule| !rule.left.is_zero()) {
            let bucket = bucket(snapshot, rule.period, number);
            let is_new = rule.last != Some(bucket);
            if is_new || oldest {
                rule.last = Some(bucket);
                rule.left = rule.left.less_one();
                reasons.push(if is_new { Reason::Newest(rule.period) } else { Reason::Oldest(rule.period) });
            }
        }
        for rule in periods.into_iter().filter(|rule| snapshot.time > rule.since) {
            let Some(period) = rule.period else { continue };
            let bucket = bucket(snapshot, period, number);
            let is_new = rule.last != Some(bucket);
            if is_new || oldest {
                rule.last = Some(bucket);
                reasons.push(if is_new { Reason::NewestWithin(period, rule.span) } else { Reason::OldestWithin(period, rule.span) });
            }
        }
        if number < self.min_keep as usize {
            reasons.push(Reason::MinKeep(self.min_keep));
        }
        if self.only_size {
            reasons.push(Reason::Fits);
        }
        reasons
    }

    /// What is left.
    pub(super) fn counters(&self) -> Counters {
        let [last, hourly, daily, weekly, monthly, yearly] = self.counted.each_ref().map(|rule| rule.left);
        Counters { last, hourly, daily, weekly, monthly, yearly }
    }
}

/// The wall clock of the snapshot's maker.
fn civil(snapshot: &Snapshot) -> DateTime {
    snapshot.offset.to_datetime(snapshot.time)
}

fn bucket(snapshot: &Snapshot, period: Period, number: usize) -> Bucket {
    let time = civil(snapshot);
    let (year, month, day, hour) = (i32::from(time.year()), i32::from(time.month()), i32::from(time.day()), i32::from(time.hour()));
    match period {
        Period::Last => (i32::try_from(number).unwrap_or(i32::MAX), 0, 0, 0),
        Period::Hour => (year, month, day, hour),
        Period::Day => (year, month, day, 0),
        Period::Week => {
            let week = time.date().iso_week_date();
            (i32::from(week.year()), i32::from(week.week()), 0, 0)
        }
        Period::Month => (year, month, 0, 0),
        Period::Year => (year, 0, 0, 0),
    }
}

/// So long before the time of `newest`, on the calendar of its maker. A day that a month does not have becomes one of the
/// next, as in Go: a month before 31 March is 3 March.
fn before(newest: &Snapshot, span: Span) -> Option<Timestamp> {
    let time = civil(newest);
    let months = (i64::from(time.year()) - i64::from(span.years)) * 12 + i64::from(time.month()) - 1 - i64::from(span.months);
    let year = i16::try_from(months.div_euclid(12)).ok()?;
    let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
    let days = i64::from(time.day()) - 1 - i64::from(span.days);
    let date = Date::new(year, month, 1).ok()?.checked_add(0.days().try_days(days).ok()?).ok()?;
    let instant = newest.offset.to_timestamp(date.to_datetime(time.time())).ok()?;
    instant.checked_sub(SignedDuration::from_hours(span.hours.into())).ok()
}

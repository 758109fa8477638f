//! Policies over made-up histories: what is kept, why, and what holds for every history.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::convert::Infallible;

use jiff::tz::Offset;
use proptest::prelude::*;

use super::*;
use crate::model::retention::Retention;

/// `2026-08-20T14:30:00+02:00`
fn snapshot(id: &str, time: &str, tags: &[&str]) -> Snapshot {
    let pieces = jiff::fmt::temporal::DateTimeParser::new();
    Snapshot {
        id: SnapshotId(format!("{id:0<64}")),
        time: time.parse().unwrap(),
        offset: pieces.parse_pieces(time).unwrap().to_numeric_offset().unwrap_or(Offset::UTC),
        host: "h".to_owned(),
        username: String::new(),
        paths: vec!["/srv".to_owned()],
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        parent: None,
        original: None,
        program: String::new(),
        summary: None,
    }
}

fn days(count: i64) -> Vec<Snapshot> {
    let first: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    (0..count)
        .map(|day| snapshot(&format!("{day:02}"), &first.checked_add(SignedDuration::from_hours(24 * day)).unwrap().to_string(), &[]))
        .collect()
}

fn now() -> Timestamp {
    "2026-09-01T00:00:00Z".parse().unwrap()
}

fn plan(snapshots: &[Snapshot], policy: &Retention) -> Plan {
    Plan::of_policy(snapshots, policy, GroupBy::default(), &[], &Inside::new(), now())
}

/// `id: reasons` of all that is kept, newest first.
fn kept(plan: &Plan) -> Vec<String> {
    plan.decisions().filter(|one| one.keep).map(line).collect()
}

fn line(decision: &Decision) -> String {
    let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
    format!("{}: {}", &decision.snapshot.id.0[..2], reasons.join("; "))
}

fn number(count: u32) -> Count {
    Count::Number(count)
}

fn span(text: &str) -> Span {
    text.parse().unwrap()
}

#[test]
fn each_rule_keeps_its_own() {
    let history = days(70);
    let with = |change: &dyn Fn(&mut Retention)| {
        let mut policy = Retention::default();
        change(&mut policy);
        kept(&plan(&history, &policy))
    };
    assert_eq!(with(&|one| one.keep_last = number(2)), ["69: last snapshot", "68: last snapshot"]);
    // Day 69 is Saturday 9 May, day 64 a Monday.
    assert_eq!(with(&|one| one.keep_weekly = number(3)), ["69: weekly snapshot", "63: weekly snapshot", "56: weekly snapshot"]);
    assert_eq!(with(&|one| one.keep_monthly = number(2)), ["69: monthly snapshot", "60: monthly snapshot"]);
    assert_eq!(
        with(&|one| one.keep_yearly = number(2)),
        ["69: yearly snapshot", "00: oldest yearly snapshot"],
        "while there is room, the oldest stays"
    );
    assert_eq!(with(&|one| one.keep_within = span("2d")), ["69: within 2d", "68: within 2d"]);
    // A month before 9 May is 9 April, the day of 39.
    assert_eq!(with(&|one| one.keep_within_weekly = span("1m"))[4], "42: weekly within 1m");
    assert_eq!(with(&|one| one.keep_daily = Count::Unlimited).len(), 70);
    let both = with(&|one| (one.keep_last, one.keep_daily) = (number(1), number(2)));
    assert_eq!(both, ["69: last snapshot; daily snapshot", "68: daily snapshot"]);
}

#[test]
fn days_are_those_of_the_maker() {
    // One calendar day where they were made, two in UTC; then the other way round.
    let history = [
        snapshot("a", "2026-03-02T00:30:00+02:00", &[]),
        snapshot("b", "2026-03-02T23:30:00+02:00", &[]),
        snapshot("c", "2026-03-03T23:30:00-08:00", &[]),
        snapshot("d", "2026-03-04T00:30:00-08:00", &[]),
    ];
    let policy = Retention { keep_daily: number(3), ..Retention::default() };
    assert_eq!(kept(&plan(&history, &policy)), ["d0: daily snapshot", "c0: daily snapshot", "b0: daily snapshot"]);
}

#[test]
fn weeks_are_those_of_iso_8601() {
    // 2027-01-03 is the last day of week 53 of 2026.
    let history = [snapshot("a", "2026-12-31T12:00:00Z", &[]), snapshot("b", "2027-01-03T12:00:00Z", &[])];
    let policy = Retention { keep_weekly: number(1), ..Retention::default() };
    let plan = Plan::of_policy(&history, &policy, GroupBy::default(), &[], &Inside::new(), "2027-02-01T00:00:00Z".parse().unwrap());
    assert_eq!(kept(&plan), ["b0: weekly snapshot"]);
}

#[test]
fn months_that_are_too_short_are_counted_as_in_go() {
    let history = [
        snapshot("a", "2026-03-03T12:00:00Z", &[]),
        snapshot("b", "2026-03-03T12:00:01Z", &[]),
        snapshot("c", "2026-03-31T12:00:00Z", &[]),
    ];
    let policy = Retention { keep_within: span("1m"), ..Retention::default() };
    assert_eq!(kept(&plan(&history, &policy)), ["c0: within 1m", "b0: within 1m"]);
    let ever = Retention { keep_within: span("4000000000y"), ..Retention::default() };
    assert_eq!(kept(&plan(&history, &ever)).len(), 3);
}

#[test]
fn partial_snapshots_take_no_place_and_go_when_something_complete_is_newer() {
    let mut history = vec![
        snapshot("a", "2026-03-01T12:00:00Z", &[]),
        snapshot("b", "2026-03-02T12:00:00Z", &["partial"]),
        snapshot("c", "2026-03-03T12:00:00Z", &[]),
        snapshot("d", "2026-03-04T12:00:00Z", &["partial"]),
        snapshot("e", "2026-03-05T12:00:00Z", &["partial"]),
    ];
    let policy = Retention { keep_last: number(2), ..Retention::default() };
    let of_all = plan(&history, &policy);
    assert_eq!(
        kept(&of_all),
        [
            "e0: partial, and nothing complete is newer",
            "d0: partial, and nothing complete is newer",
            "c0: last snapshot",
            "a0: last snapshot"
        ]
    );
    assert_eq!(of_all.removed()[0].id, history[1].id);
    let gone: Vec<String> = of_all.decisions().filter(|one| !one.keep).map(line).collect();
    assert_eq!(gone, ["b0: partial, and c0000000 is complete and newer"]);

    // Something complete of another application displaces nothing, however they are grouped.
    history[2].tags.push("app:other".to_owned());
    let nobody = GroupBy { host: false, paths: false, tags: false, application: false };
    assert_eq!(Plan::of_policy(&history, &policy, nobody, &[], &Inside::new(), now()).removed(), Vec::<&Snapshot>::new());
    // A tag that is to be kept keeps a partial one too.
    history[2].tags.clear();
    history[1].tags.push("mine".to_owned());
    let tagged = Retention { keep_tags: vec![vec!["mine".to_owned()]], ..policy };
    assert_eq!(plan(&history, &tagged).removed(), Vec::<&Snapshot>::new());
}

const STAYS: &str = "what a restore has overwritten, and nothing complete is 30 days newer";

#[test]
fn what_a_restore_has_overwritten_takes_no_place() {
    let good = snapshot("a", "2026-03-01T08:00:00Z", &[]);
    let broken = snapshot("b", "2026-03-01T20:00:00Z", &["before-restore"]);
    let mut history = vec![good, broken];
    let undo = format!("b0: {STAYS}");
    for (policy, why) in [
        (Retention { keep_last: number(1), ..Retention::default() }, "last snapshot"),
        (Retention { keep_daily: number(1), ..Retention::default() }, "daily snapshot"),
        (Retention { min_keep: 1, keep_within: span("1h"), ..Retention::default() }, "within 1h; one of the newest 1 (min_keep)"),
        (Retention { max_size: Some(ByteSize(1)), ..Retention::default() }, "fits into max_size"),
    ] {
        let mut planned = plan(&history, &policy);
        assert_eq!(kept(&planned), [undo.clone(), format!("a0: {why}")]);
        let outcome = planned.limit_size(ByteSize(100), measured).unwrap();
        assert_eq!((kept(&planned).len(), outcome.exceeded), (2, true), "it stays, and no other goes for it");
    }
    // It is nothing complete: not of which something is left, nor for which something partial goes.
    assert_eq!(Plan::of_names(&history, &[history[0].id.clone()]).emptied().len(), 1);
    assert_eq!(Plan::of_names(&history, &[history[1].id.clone()]).emptied().len(), 0);
    history[0].tags.push("partial".to_owned());
    let policy = Retention { keep_last: number(1), ..Retention::default() };
    assert_eq!(kept(&plan(&history, &policy)), [undo, "a0: partial, and nothing complete is newer".to_owned()]);
    // Who asks for such means them.
    history[0].tags = vec!["before-restore".to_owned()];
    let asked = ["before-restore".to_owned()];
    assert_eq!(kept(&Plan::of_policy(&history, &policy, GroupBy::default(), &asked, &Inside::new(), now())), ["b0: last snapshot"]);
}

#[test]
fn what_a_restore_has_overwritten_goes_when_something_complete_is_much_newer() {
    let policy = Retention { keep_last: number(1), ..Retention::default() };
    let history = |before: (&str, &[&str], &str), after: (&str, &[&str], &str)| {
        [("a", before), ("b", after)].map(|(id, (time, tags, path))| {
            let mut one = snapshot(id, time, tags);
            one.paths = vec![path.to_owned()];
            one
        })
    };
    let undo = |tags: &[&str], path: &str| history(("2026-03-01T12:00:00Z", tags, path), ("2026-03-31T12:00:01Z", &[], "/srv"));
    let gone = |history: &[Snapshot]| {
        let plan = plan(history, &policy);
        assert!(plan.emptied().is_empty(), "{plan:?}");
        plan.decisions().filter(|one| !one.keep).map(line).collect::<Vec<_>>()
    };
    let why = ["a0: what a restore has overwritten, and b0000000 is complete and 30 days newer"];
    // Also where it is a group of its own, as only a part was restored.
    assert_eq!(gone(&undo(&["before-restore"], "/srv")), why);
    assert_eq!(gone(&undo(&["before-restore"], "/srv/part")), why);
    let mut shop = undo(&["before-restore", "app:shop"], "/docker/shop/volumes/db");
    (shop[1].tags, shop[1].paths) = (vec!["app:shop".to_owned()], vec!["/docker/shop".to_owned()]);
    assert_eq!(gone(&shop), why);
    // Nothing of another kind, nothing partial, nothing of a wrong clock and nothing that goes itself is something newer.
    shop[1].tags = vec!["app:other".to_owned()];
    let mut day_short = undo(&["before-restore"], "/srv");
    day_short[1].time = day_short[0].time.checked_add(UNDO).unwrap();
    let mut elsewhere = undo(&["before-restore"], "/srv");
    elsewhere[1].host = "other".to_owned();
    let mut partial = undo(&["before-restore"], "/srv");
    partial[1].tags.push("partial".to_owned());
    let mut future = undo(&["before-restore"], "/srv");
    future[1].time = "2099-01-01T00:00:00Z".parse().unwrap();
    let pinned = undo(&["before-restore", "pinned"], "/srv");
    for history in [shop, day_short, elsewhere, partial, future, pinned, undo(&["before-restore"], "/srv2"), undo(&["before-restore"], "/")]
    {
        assert_eq!(gone(&history), [""; 0], "{history:?}");
    }
    let tagged = Retention { keep_tags: vec![vec!["before-restore".to_owned()]], ..policy.clone() };
    let plan = Plan::of_policy(&undo(&["before-restore"], "/srv"), &tagged, GroupBy::default(), &[], &Inside::new(), now());
    assert_eq!(kept(&plan)[1], format!("a0: has tags [before-restore]; {STAYS}"));
}

#[test]
fn what_a_restore_has_overwritten_goes_when_an_application_has_its_paths() {
    let policy = Retention { keep_last: number(1), ..Retention::default() };
    let mut history = [("a", "2026-03-01T12:00:00Z", "before-restore"), ("b", "2026-03-31T12:00:01Z", "app:shop")]
        .map(|(id, time, tag)| snapshot(id, time, &[tag]));
    (history[0].paths, history[1].paths) = (vec!["/srv/a".to_owned(), "/srv/b".to_owned()], vec!["/docker/shop".to_owned()]);
    let gone = |history: &[Snapshot], paths: &[&str]| {
        let inside = Inside::from([(history[1].id.clone(), paths.iter().map(|&path| path.to_owned()).collect())]);
        Plan::of_policy(history, &policy, GroupBy::default(), &[], &inside, now()).removed().len()
    };
    for (paths, expected) in [(&["/srv"][..], 1), (&["/srv/b", "/srv/a"], 1), (&["/srv/a"], 0), (&["/srv/a/in", "/srv/b"], 0), (&[], 0)] {
        assert_eq!(gone(&history, paths), expected, "{paths:?}");
    }
    for spoil in [|one: &mut Snapshot| one.tags.push("partial".to_owned()), |one: &mut Snapshot| one.host = "other".to_owned()] {
        let mut history = history.clone();
        spoil(&mut history[1]);
        assert_eq!(gone(&history, &["/srv"]), 0);
    }
    // Of an application only another of the same is of all.
    history[0].tags.push("app:blog".to_owned());
    assert_eq!(gone(&history, &["/srv"]), 0);
}

#[test]
fn a_whole_application_displaces_a_part_of_it() {
    let mut history =
        [snapshot("a", "2026-03-01T12:00:00Z", &["app:shop", "partial"]), snapshot("b", "2026-03-02T12:00:00Z", &["app:shop"])];
    history[0].paths = vec!["/docker/shop/volumes/db".to_owned()];
    history[1].paths = vec!["/docker/shop".to_owned()];
    let policy = Retention { keep_last: number(1), ..Retention::default() };
    // They are groups of their own, and the first has nothing complete: it stays until its own.
    assert_eq!(kept(&plan(&history, &policy)).len(), 2);
    let by_application = GroupBy { paths: false, ..GroupBy::default() };
    assert_eq!(kept(&Plan::of_policy(&history, &policy, by_application, &[], &Inside::new(), now())), ["b0: last snapshot"]);
    // A part does not displace the whole.
    history[0].tags.pop();
    history[1].tags.push("partial".to_owned());
    let (old, new) = (history[0].time, history[1].time);
    (history[0].time, history[1].time) = (new, old);
    assert_eq!(kept(&Plan::of_policy(&history, &policy, by_application, &[], &Inside::new(), now())).len(), 2);
}

#[test]
fn a_clock_that_was_wrong_is_known_the_next_time_too() {
    let mut history = days(4);
    let mut odd = snapshot("w", "1970-01-02T00:00:00Z", &[]);
    odd.parent = Some(history[2].id.clone());
    history.push(odd);
    let policy = Retention { keep_last: number(1), ..Retention::default() };
    let expected =
        ["03: last snapshot", "02: shows that the clock of w0000000 was wrong", "w0: older than its parent 02000000: the clock was wrong"];
    for limit in [None, Some(250)] {
        let mut left = history.clone();
        for round in 0..3 {
            let mut plan = plan(&left, &policy);
            if let Some(limit) = limit {
                let _ = plan.limit_size(ByteSize(limit), measured).unwrap();
            }
            assert_eq!(kept(&plan), expected, "round {round}");
            left.retain(|one| plan.decisions().any(|decision| decision.keep && decision.snapshot.id == one.id));
        }
    }
}

#[test]
fn what_was_compared_with_a_snapshot_of_the_future_is_not_kept_for_ever_once_its_time_has_come() {
    let mut history = days(6);
    history[2].parent = Some(history[1].id.clone());
    // Made on the third day with the date of the sixth, and all that came before that day were compared with it.
    history[2].time = history[5].time;
    for at in 3..5 {
        history[at].parent = Some(history[2].id.clone());
    }
    let policy = Retention { keep_last: number(1), ..Retention::default() };
    assert_eq!(kept(&plan(&history, &policy)).len(), 1);
}

#[test]
fn a_clock_that_was_wrong_costs_nothing() {
    let mut history = days(5);
    for (id, time) in [("x1", "2099-01-01T00:00:00Z"), ("x2", "2099-01-02T00:00:00Z"), ("x3", "2099-01-03T00:00:00Z")] {
        history.push(snapshot(id, time, &[]));
    }
    // A battery that was empty: the newest of all says that it is the oldest.
    let mut reset = snapshot("y1", "2000-01-01T00:00:00Z", &[]);
    reset.parent = Some(history[4].id.clone());
    history.push(reset);
    // The first after the clock was put right has a parent of the future; that says nothing against it.
    history[4].parent = Some(history[5].id.clone());
    let policy = Retention { keep_last: number(2), keep_within: span("1d"), ..Retention::default() };
    assert_eq!(
        kept(&plan(&history, &policy)),
        [
            "x3: made in the future: the clock was wrong",
            "x2: made in the future: the clock was wrong",
            "x1: made in the future: the clock was wrong",
            "04: within 1d; last snapshot",
            "03: last snapshot",
            "y1: older than its parent 04000000: the clock was wrong"
        ]
    );
    // A parent that got another id by a new tag is still known.
    history[4].original = Some(std::mem::replace(&mut history[4].id, SnapshotId("f".repeat(64))));
    assert_eq!(kept(&plan(&history, &policy)).len(), 6);
}

#[test]
fn groups_are_apart() {
    let mut history = days(4);
    history[0].host = "other".to_owned();
    history[1].paths = vec!["/b".to_owned(), "/a".to_owned()];
    history[2].tags = vec!["app:shop".to_owned()];
    let policy = Retention { keep_last: number(1), ..Retention::default() };
    assert_eq!(kept(&plan(&history, &policy)).len(), 4);
    let by = |host, paths, tags, application| {
        let plan = Plan::of_policy(&history, &policy, GroupBy { host, paths, tags, application }, &[], &Inside::new(), now());
        plan.groups.iter().map(|group| format!("{} {}", group.key, group.decisions.len())).collect::<Vec<_>>()
    };
    assert_eq!(by(true, false, false, false), ["host h 3", "host other 1"]);
    assert_eq!(by(false, true, false, false), ["/a /b 1", "/srv 3"]);
    assert_eq!(by(false, false, true, false), ["all snapshots 3", "tags app:shop 1"]);
    assert_eq!(by(false, false, false, true), ["all snapshots 3", "application shop 1"]);
    assert_eq!(by(false, false, false, false), ["all snapshots 4"]);
}

#[test]
fn naming_snapshots_removes_just_these() {
    let mut history = days(3);
    history[0].host = "other".to_owned();
    let plan = Plan::of_names(&history, &[history[0].id.clone(), history[2].id.clone()]);
    assert_eq!(plan.removed(), [&history[0], &history[2]]);
    assert_eq!(plan.emptied().iter().map(ToString::to_string).collect::<Vec<_>>(), ["host other, /srv"]);
    // What is left must be complete, if something was.
    history[2].tags.push("partial".to_owned());
    assert_eq!(Plan::of_names(&history, &[history[1].id.clone()]).emptied().len(), 1);
    assert_eq!(Plan::of_names(&history, &[history[2].id.clone()]).emptied().len(), 0);
    assert_eq!(Plan::of_names(&history, &[]), Plan::default());
}

#[expect(clippy::unnecessary_wraps, reason = "what measures may fail")]
/// The newest takes 100, each other one 10 more.
fn measured(order: &[SnapshotId]) -> Result<Vec<u64>, Infallible> {
    Ok(order.iter().enumerate().map(|(at, _)| if at == 0 { 100 } else { 10 }).collect())
}

#[test]
fn the_oldest_go_until_the_rest_fits() {
    let mut history = days(10);
    history[0].tags.push("pinned".to_owned());
    let policy = Retention { max_size: Some(ByteSize(135)), ..Retention::default() };
    let mut limited = plan(&history, &policy);
    let outcome = limited.limit_size(ByteSize(135), measured).unwrap();
    assert_eq!((outcome.kept, outcome.exceeded), (ByteSize(130), false));
    assert_eq!(
        kept(&limited),
        ["09: fits into max_size", "08: fits into max_size", "07: fits into max_size", "00: pinned; fits into max_size"]
    );
    assert_eq!(line(&limited.groups[0].decisions[3]), "06: more than 135 B with it (max_size)");

    // The limit never takes what has to stay, and says so.
    let policy = Retention { keep_daily: number(8), min_keep: 3, ..Retention::default() };
    let mut limited = plan(&history, &policy);
    let outcome = limited.limit_size(ByteSize(1), measured).unwrap();
    assert_eq!((outcome.kept, outcome.exceeded), (ByteSize(130), true));
    assert_eq!(kept(&limited).len(), 4);
    // Of a group with nothing complete the newest stays.
    for one in &mut history {
        one.tags = vec!["partial".to_owned()];
    }
    let mut limited = plan(&history, &policy);
    let _ = limited.limit_size(ByteSize(1), measured).unwrap();
    assert_eq!(kept(&limited), ["09: partial, and nothing complete is newer"]);
    assert!(limited.emptied().is_empty());
}

#[test]
fn what_counts_for_no_rule_pushes_out_nothing_by_its_size() {
    let mut history = days(4);
    history.push(snapshot("p1", "2026-03-06T12:00:00Z", &["partial"]));
    // Four complete ones take 3.2 together, the partial one 9 of its own.
    let own = |order: &[SnapshotId]| -> Result<Vec<u64>, Infallible> {
        let own = |id: &SnapshotId| if id.0.starts_with('p') || id.0.starts_with('f') { 90 } else { 8 };
        Ok(order.iter().map(own).collect())
    };
    let policy = Retention { keep_last: number(10), max_size: Some(ByteSize(100)), ..Retention::default() };
    let limited = |history: &[Snapshot]| {
        let mut limited = plan(history, &policy);
        let outcome = limited.limit_size(ByteSize(100), own).unwrap();
        (kept(&limited), outcome.kept.0, outcome.exceeded)
    };
    let complete: Vec<String> = ["03", "02", "01", "00"].iter().map(|id| format!("{id}: last snapshot")).collect();
    assert_eq!(limited(&history), (complete.clone(), 32, false));
    // One that has to stay is too much, and no other goes for it; nor for one of a wrong clock.
    history[4].tags.push("pinned".to_owned());
    let (kept, size, exceeded) = limited(&history);
    assert_eq!((&kept[1..], size, exceeded), (&complete[..], 122, true));
    history[4] = snapshot("f1", "2099-03-06T12:00:00Z", &[]);
    let (kept, size, exceeded) = limited(&history);
    assert_eq!((&kept[1..], size, exceeded), (&complete[..], 122, true));
}

/// A history within some years, with hours that often fall together.
fn histories() -> impl Strategy<Value = Vec<Snapshot>> {
    let one = (0_i64..900, 0_i64..24, -12_i32..=12, 0_u8..16, 0_u8..2);
    prop::collection::vec(one, 0..60).prop_map(|all| {
        let start: Timestamp = "2023-12-20T00:00:00Z".parse().unwrap();
        let made = all.into_iter().enumerate().map(|(number, (day, hour, zone, kind, host))| {
            let seconds = SignedDuration::from_secs((day * 24 + hour) * 3600 + i64::try_from(number).unwrap());
            let tags: &[&str] = match kind {
                0 => &["partial"],
                1 => &["pinned"],
                2 => &["mine", "two"],
                3 => &["mine"],
                4 => &["before-restore"],
                _ => &[],
            };
            let mut one = snapshot(&format!("{number:02}"), &start.checked_add(seconds).unwrap().to_string(), tags);
            one.offset = Offset::from_hours(i8::try_from(zone).unwrap()).unwrap();
            one.host = format!("host{host}");
            one
        });
        made.collect()
    })
}

fn policies() -> impl Strategy<Value = Retention> {
    let count = || prop_oneof![3 => Just(Count::Number(0)), 3 => (1_u32..6).prop_map(Count::Number), 1 => Just(Count::Unlimited)];
    let span = || {
        let some = (0_u32..2, 0_u32..5, 0_u32..40, 0_u32..30);
        prop_oneof![3 => Just(Span::default()), 1 => some.prop_map(|(years, months, days, hours)| Span { years, months, days, hours })]
    };
    let counts = (count(), count(), count(), count(), count(), count());
    let spans = (span(), span(), span(), span(), span(), span());
    (counts, spans, 0_u32..3, prop::bool::ANY).prop_map(|(counts, spans, min_keep, tags)| Retention {
        keep_last: counts.0,
        keep_hourly: counts.1,
        keep_daily: counts.2,
        keep_weekly: counts.3,
        keep_monthly: counts.4,
        keep_yearly: counts.5,
        keep_within: spans.0,
        keep_within_hourly: spans.1,
        keep_within_daily: spans.2,
        keep_within_weekly: spans.3,
        keep_within_monthly: spans.4,
        keep_within_yearly: spans.5,
        keep_tags: if tags { vec![vec!["mine".to_owned(), "two".to_owned()]] } else { Vec::new() },
        min_keep,
        max_size: None,
    })
}

fn is_good(snapshot: &Snapshot) -> bool {
    !snapshot.is_partial() && !snapshot.is_aside(&[])
}

fn ids<'a>(snapshots: impl Iterator<Item = &'a Snapshot>) -> BTreeSet<SnapshotId> {
    snapshots.map(|one| one.id.clone()).collect()
}

fn kept_ids(plan: &Plan) -> BTreeSet<SnapshotId> {
    ids(plan.decisions().filter(|one| one.keep).map(|one| &one.snapshot))
}

proptest! {
    #[test]
    fn of_every_history(history in histories(), policy in policies()) {
        let planned = plan(&history, &policy);
        // Each snapshot is decided once, with a reason.
        prop_assert_eq!(planned.decisions().count(), history.len());
        prop_assert_eq!(ids(planned.decisions().map(|one| &one.snapshot)), ids(history.iter()));
        prop_assert!(planned.decisions().all(|one| !one.reasons.is_empty()));
        // What is pinned stays.
        prop_assert!(planned.decisions().all(|one| one.keep || !one.snapshot.is_pinned()));
        // The order in which they are listed says nothing.
        let backwards: Vec<Snapshot> = history.iter().rev().cloned().collect();
        prop_assert_eq!(&plan(&backwards, &policy), &planned);
        // Partial ones, what restores have overwritten, and those of the future take nobody's place.
        let complete: Vec<Snapshot> = history.iter().filter(|one| is_good(one)).cloned().collect();
        let alone = plan(&complete, &policy);
        let of_complete = kept_ids(&planned).intersection(&ids(complete.iter())).cloned().collect();
        prop_assert_eq!(kept_ids(&alone), of_complete);
        let mut with_future = complete;
        for number in 0..5 {
            with_future.push(snapshot(&format!("f{number}"), "2050-01-01T00:00:00Z", &[]));
        }
        prop_assert_eq!(plan(&with_future, &policy).removed().len(), alone.removed().len());
        // What was left once is left again.
        let left: Vec<Snapshot> = planned.decisions().filter(|one| one.keep).map(|one| one.snapshot.clone()).collect();
        prop_assert_eq!(plan(&left, &policy).removed().len(), 0);
        for group in &planned.groups {
            let complete: Vec<&Decision> = group.decisions.iter().filter(|one| is_good(&one.snapshot)).collect();
            let kept = complete.iter().filter(|one| one.keep).count();
            prop_assert!(kept >= complete.len().min(policy.min_keep as usize));
            // A rule that counts keeps the newest.
            let counts = !policy.keep_last.is_zero() || !policy.keep_yearly.is_zero() || !policy.keep_within.is_zero();
            prop_assert!(!counts || complete.first().is_none_or(|one| one.keep));
        }
    }

    #[test]
    fn of_every_limit(history in histories(), policy in policies(), limit in 0_u64..400) {
        let before = plan(&history, &policy);
        let mut after = before.clone();
        let outcome = after.limit_size(ByteSize(limit), measured).unwrap();
        prop_assert!(kept_ids(&after).is_subset(&kept_ids(&before)));
        prop_assert_eq!(outcome.exceeded, outcome.kept.0 > limit);
        for (group, whole) in after.groups.iter().zip(&before.groups) {
            let complete = |group: &Group| group.decisions.iter().filter(|one| one.keep && is_good(&one.snapshot)).count();
            prop_assert!(complete(group) >= complete(whole).min(policy.min_keep.max(1) as usize));
            prop_assert!(group.decisions.iter().all(|one| one.keep || !one.snapshot.is_pinned()));
        }
        // Without what counts for no rule, what becomes of the others is the same.
        let others: Vec<Snapshot> = history.iter().filter(|one| is_good(one)).cloned().collect();
        let mut alone = plan(&others, &policy);
        let _ = alone.limit_size(ByteSize(limit), measured).unwrap();
        let of_others = kept_ids(&after).intersection(&ids(others.iter())).cloned().collect();
        prop_assert_eq!(kept_ids(&alone), of_others);
        // Nothing goes for its size that is newer than something that could have gone.
        let oldest_kept = after.decisions().filter(|one| one.keep).filter(|one| {
            one.reasons.iter().all(|reason| matches!(reason, Reason::Newest(_) | Reason::Within(_)))
        });
        let gone = after.decisions().filter(|one| matches!(one.reasons[..], [Reason::TooLarge(_)]) && is_good(&one.snapshot));
        let newest_gone = gone.map(|one| one.snapshot.time).max();
        let firsts: BTreeSet<SnapshotId> = after.groups.iter().filter_map(|group| {
            group.decisions.iter().find(|one| one.keep && is_good(&one.snapshot)).map(|one| one.snapshot.id.clone())
        }).collect();
        for one in oldest_kept.filter(|one| !firsts.contains(&one.snapshot.id)) {
            prop_assert!(newest_gone.is_none_or(|gone| gone < one.snapshot.time));
        }
    }
}

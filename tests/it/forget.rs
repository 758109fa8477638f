//! Snapshots forgotten by rules and by name, beside the real restic.
//!
//! restic 0.14 (Debian 12's) does not keep the oldest snapshot while a rule has room, as 0.16 and newer do and we do: where
//! it is the oracle, what we keep for that reason alone is left out. `BBACKUP_TEST_SEED` repeats the random histories; a run
//! that fails says its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bbackup::model::progress::Silent;
use bbackup::platform::control::Control;
use bbackup::platform::secret::Secret;
use bbackup::repository::backend::FileKind;
use bbackup::repository::backend::local::LocalBackend;
use bbackup::repository::contract::{Repository as _, SnapshotRequest};
use bbackup::repository::restic::archive::Options;
use bbackup::repository::restic::facade::{Locking, ResticRepository};
use bbackup::repository::restic::id::Id;
use bbackup::repository::restic::state::{Closed, Open};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::faults;
use crate::support::home::{Home, PASSWORD, files_below};
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::seed::Seed;
use crate::support::tree;

pub(crate) fn open(home: &Home) -> Open {
    Closed::new(Arc::new(LocalBackend::new(home.repository()))).open(&Secret::new(PASSWORD.to_owned())).unwrap()
}

/// A snapshot of nothing, as any program may have written it.
pub(crate) fn put(open: &Open, time: &str, host: &str, paths: &[&str], tags: &[&str]) -> String {
    let before = open.snapshots().unwrap();
    let tree = before.first().map_or_else(|| empty_tree(open), |(_, file)| file.tree);
    let file = json!({ "time": time, "tree": tree.to_string(), "paths": paths, "hostname": host, "username": "u", "tags": tags });
    open.write_unpacked(FileKind::Snapshot, file.to_string().as_bytes()).unwrap().to_string()
}

/// A tree that the index knows: nothing is forgotten while one that is kept is in no index.
fn empty_tree(open: &Open) -> Id {
    let repository = ResticRepository::new(open.clone(), Options::default(), Locking::Retry(Duration::ZERO));
    let request = SnapshotRequest {
        time: jiff::Timestamp::UNIX_EPOCH,
        host: "h".to_owned(),
        paths: Vec::new(),
        tags: Vec::new(),
        excludes: Vec::new(),
        ignore_parent: true,
        parent: None,
        with_atime: false,
        dry_run: false,
    };
    let writer = repository.write_snapshot(request, &Control::new(), Arc::new(Silent)).unwrap();
    let id = writer.finish(Vec::new()).unwrap().0.unwrap().0.parse().unwrap();
    let tree = open.snapshot(&id).unwrap().tree;
    open.remove(FileKind::Snapshot, &id).unwrap();
    tree
}

fn count(home: &Home) -> usize {
    files_below(&home.repository().join("snapshots")).len()
}

/// One snapshot a day from 1 January 2026 on, in the order of their times.
fn days(home: &Home, number: u32, tags: &[&str]) -> Vec<String> {
    let open = open(home);
    (0..number).map(|day| put(&open, &format!("2026-{:02}-{:02}T12:00:00Z", day / 28 + 1, day % 28 + 1), "h", &["/a"], tags)).collect()
}

/// The groups of an answer in JSON: ids of what is kept with the reasons, and of what goes.
type Answer = (BTreeMap<String, Vec<String>>, BTreeSet<String>);

fn answer(groups: &[Value]) -> Answer {
    let mut answer = Answer::default();
    let id = |snapshot: &Value| snapshot["id"].as_str().unwrap().to_owned();
    for group in groups {
        let list = |name: &str| group[name].as_array().cloned().unwrap_or_default();
        answer.1.extend(list("remove").iter().map(id));
        // restic 0.14 does not say the ids in its reasons, but it lists them in the order of what it keeps.
        for (kept, reason) in list("keep").iter().zip(list("reasons")) {
            let matches = reason["matches"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
            answer.0.insert(id(kept), matches);
        }
    }
    answer
}

fn ours(home: &Home, flags: &[String]) -> Answer {
    let outcome =
        home.bbackup(["forget", "--dry-run", "--json", "--unsafe-allow-remove-all", "--keep-tag", "pinned"]).args(flags).run().success();
    let last = outcome.json_lines().pop().unwrap();
    answer(last["data"]["repositories"][0]["groups"].as_array().unwrap())
}

fn restics(restic: &Restic<'_>, flags: &[String]) -> Answer {
    let outcome = restic.call(["forget", "--dry-run", "--json", "--no-lock", "--keep-tag", "pinned"]).args(flags).run().success();
    let text = outcome.text();
    let line = text.lines().find(|line| line.starts_with('[')).unwrap_or("[]");
    answer(serde_json::from_str::<Value>(line).unwrap().as_array().unwrap())
}

/// Flags of both programs. There is always a rule, as restic does nothing without one.
fn flags() -> impl Strategy<Value = Vec<String>> {
    let counts =
        prop::collection::btree_map(prop::sample::select(vec!["last", "hourly", "daily", "weekly", "monthly", "yearly"]), 1_u32..9, 0..4);
    let names = vec!["within", "within-hourly", "within-daily", "within-weekly", "within-monthly", "within-yearly"];
    let spans =
        prop::collection::btree_map(prop::sample::select(names), "(([1-2]y)|([1-9]m)|([1-9]{1,2}d)|([1-9]{1,2}h)|(1y5m7d2h))", 0..3);
    let groups = prop::sample::select(vec!["host,paths", "host", "paths", "tags", "host,paths,tags", ""]);
    (counts, spans, groups, prop::bool::ANY).prop_map(|(counts, spans, group, tags)| {
        let mut flags = vec![format!("--group-by={group}")];
        flags.extend(counts.iter().map(|(name, count)| format!("--keep-{name}={count}")));
        flags.extend(spans.iter().map(|(name, span)| format!("--keep-{name}={span}")));
        flags.extend(tags.then(|| "--keep-tag=a,b".to_owned()));
        flags
    })
}

#[test]
fn decisions_and_reasons_are_those_of_restic() {
    needs!(Part::Restic);
    let seed = Seed::of_this_run();
    let bytes: Vec<u8> = (0..4_u64).flat_map(|part| seed.0.wrapping_add(part).to_le_bytes()).collect();
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    // A long history, and some that are short: where rules have more room than there are snapshots.
    let histories = [(150, if std::env::var("CI").is_ok() { 40 } else { 16 }), (40, 5), (12, 4), (3, 3)];
    for (snapshots, rounds) in histories {
        one_history(&mut runner, snapshots, rounds);
    }
}

fn one_history(runner: &mut TestRunner, snapshots: usize, rounds: usize) {
    let home = Home::new();
    let restic = Restic::new(&home);
    let oldest_stays = restic.version() >= (0, 16);
    restic.init(2);
    let open = open(&home);
    // Three years and some, in the offsets that hosts have, never two at one time; thick and thin parts.
    let one = (0_u32..1200, 0_u32..24, 0_u32..60, 0_usize..6, 0_usize..2, 0_usize..3, 0_usize..6);
    let history = prop::collection::vec(one, snapshots..snapshots + 8).new_tree(runner).unwrap().current();
    let start: jiff::Timestamp = "2022-12-20T00:00:00Z".parse().unwrap();
    let mut times = BTreeSet::new();
    for (day, hour, minute, offset, host, paths, tags) in history {
        let day = if day % 3 == 0 { day / 40 } else { day };
        let seconds = i64::from((day * 24 + hour) * 3600 + minute * 60);
        if !times.insert(seconds) {
            continue;
        }
        let instant = start.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
        let offset = jiff::tz::Offset::from_seconds([0, 3600, 7200, -8 * 3600, 20_700, 13 * 3600][offset]).unwrap();
        let time = jiff::fmt::temporal::DateTimePrinter::new().timestamp_with_offset_to_string(&instant, offset);
        let tags: &[&str] = [&[][..], &["a"], &["b", "a"], &["pinned"], &["c"], &["b"]][tags];
        let paths: &[&str] = [&["/a"][..], &["/b", "/a"], &["/c"]][paths];
        put(&open, &time, ["h1", "h2"][host], paths, tags);
    }
    for _ in 0..rounds {
        let flags = flags().new_tree(runner).unwrap().current();
        let (mut kept, mut removed) = ours(&home, &flags);
        for reasons in kept.values_mut() {
            // We have a word of our own for it; for restic it is a tag like any other, of which we were told too.
            reasons.retain(|reason| reason != "pinned" && (oldest_stays || !reason.starts_with("oldest ")));
        }
        let only_oldest: Vec<String> = kept.iter().filter(|(_, reasons)| reasons.is_empty()).map(|(id, _)| id.clone()).collect();
        for id in only_oldest {
            kept.remove(&id);
            removed.insert(id);
        }
        let (their_kept, their_removed) = restics(&restic, &flags);
        assert_eq!(their_kept.len() + their_removed.len(), times.len(), "{flags:?}");
        let mut differences = String::new();
        for id in kept.keys().chain(their_kept.keys()).collect::<BTreeSet<_>>() {
            if kept.get(id) != their_kept.get(id) {
                let _ = writeln!(differences, "{id}: ours {:?}, restic's {:?}", kept.get(id), their_kept.get(id));
            }
        }
        assert!(differences.is_empty(), "{flags:?}\n{differences}");
        assert_eq!(removed, their_removed, "{flags:?}");
    }
}

#[test]
fn rules_are_planned_told_and_done() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let all = days(&home, 10, &[]);
    let before = files_below(&home.repository());
    let dry = home.bbackup(["forget", "--keep-last", "3", "--dry-run"]).run().success();
    for expected in ["host h, /a: 3 kept, 7 removed", "last snapshot", "no rule keeps it"] {
        assert!(dry.text().contains(expected), "{expected}: {}", dry.describe());
    }
    assert_eq!(files_below(&home.repository()), before, "a dry run wrote something");
    let _ = home.bbackup(["forget", "--keep-last", "3"]).run().success().says("7 snapshots removed");
    let left: BTreeSet<String> = Restic::new(&home).snapshots().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(left, all[7..].iter().cloned().collect());
    assert!(home.locks().is_empty());
    let _ = home.bbackup(["forget", "--keep-last", "3"]).run().success().says("No snapshot goes");
}

#[test]
fn snapshots_go_by_name_but_not_all_of_them() {
    let home = Home::with_repository();
    let all = days(&home, 3, &[]);
    let other = put(&open(&home), "2026-01-01T00:00:00Z", "other", &["/b"], &[]);
    let _ = home.bbackup(["forget", &all[0][..12]]).run().success();
    assert_eq!(count(&home), 3);
    let _ = home.bbackup(["forget", &all[0]]).run().exits(1).says("No snapshot matches");
    let _ = home.bbackup(["forget", "zz"]).run().exits(1);
    let _ = home.bbackup(["forget", &all[1], "nonsense"]).run().exits(1);
    assert_eq!(count(&home), 3, "one wrong name and nothing goes");
    let _ = home.bbackup(["forget", &other]).run().exits(1).says("--unsafe-allow-remove-all").says("other");
    let _ = home.bbackup(["forget", &all[1], &all[2]]).run().exits(1).says("nothing was forgotten");
    assert_eq!(count(&home), 3);
    let _ = home.bbackup(["forget", "--unsafe-allow-remove-all", &other]).run().success();
    assert_eq!(count(&home), 2);
    // Rules that keep nothing of a group, and no rules at all.
    let _ = home.bbackup(["forget", "--keep-tag", "nobody"]).run().exits(1).says("Nothing complete would be left of host h");
    let _ = home.bbackup(["forget"]).run().exits(1).says("Nothing says what is kept");
    let _ = home.bbackup(["forget", "--keep-last", "0"]).run().exits(1).says("they keep nothing");
    let _ = home.bbackup(["forget", "--min-keep", "2"]).run().exits(1).says("min_keep alone");
    let _ = home.bbackup(["forget", "--keep-last", "1", &all[1]]).run().exits(1).says("rules do not go with single snapshots");
    let _ = home.bbackup(["forget", "--unsafe-allow-remove-all"]).run().exits(1).says("every snapshot of the repository");
    assert_eq!(count(&home), 2);
    let _ = home.bbackup(["forget", "--unsafe-allow-remove-all", "--host", "h"]).run().success();
    assert_eq!(count(&home), 0);
}

#[test]
fn pins_and_partial_snapshots() {
    let home = Home::with_repository();
    let all = days(&home, 5, &[]);
    let open = open(&home);
    let pinned = put(&open, "2025-01-01T00:00:00Z", "h", &["/a"], &["pinned"]);
    let old = put(&open, "2026-01-02T00:00:00Z", "h", &["/a"], &["partial"]);
    let new = put(&open, "2026-02-02T00:00:00Z", "h", &["/a"], &["partial"]);
    let _ = home.bbackup(["forget", &pinned, &all[0]]).run().exits(1).says("is pinned").says("bbackup unpin");
    assert_eq!(count(&home), 8);
    let _ = home.bbackup(["forget", "--keep-last", "2"]).run().success();
    let left: BTreeSet<String> = open.list_ids(FileKind::Snapshot).unwrap().iter().map(Id::to_string).collect();
    assert_eq!(left, [&pinned, &all[3], &all[4], &new].into_iter().cloned().collect());
    assert!(!left.contains(&old));
    // The last complete one does not go for the sake of a partial one, not even by name.
    let complete = put(&open, "2026-01-01T00:00:00Z", "h", &["/p"], &[]);
    put(&open, "2026-01-02T00:00:00Z", "h", &["/p"], &["partial"]);
    let _ = home.bbackup(["forget", &complete]).run().exits(1).says("Nothing complete would be left of host h, /p");
}

fn configuration(home: &Home, text: &str) {
    let repository = format!(
        "repositories:\n  default: {{location: {}, password_file: {}}}\n",
        home.repository().display(),
        home.password_file().display()
    );
    fs::write(home.path("bbackup.yaml"), format!("host: h\n{repository}sets:\n{text}")).unwrap();
}

#[test]
fn a_set_has_its_own_rules() {
    let home = Home::with_repository();
    configuration(
        &home,
        "  web: {paths: [/a], retention: {keep_last: 2}}\n  logs: {paths: [/b]}\n  off: {paths: [/c], enabled: false, retention: {keep_last: 1}}\n  abcdef: {paths: [/d], retention: {keep_last: 1}}\n",
    );
    let open = open(&home);
    for day in 1..6 {
        for (host, set) in [("h", "web"), ("elsewhere", "web"), ("h", "logs"), ("h", "off")] {
            put(&open, &format!("2026-01-0{day}T00:00:00Z"), host, &["/a"], &[&format!("set:{set}")]);
        }
    }
    let run = |words: &[&str]| home.bare(["--config"]).arg(home.path("bbackup.yaml")).args(words).run();
    let _ = run(&["forget", "logs"]).exits(1).says("no retention");
    let _ = run(&["forget", "web", "0123"]).exits(1).says("is a backup set and");
    let _ = run(&["forget", "webb"]).exits(1);
    assert_eq!(count(&home), 20);
    let outcome = run(&["forget", "--json", "web"]).success();
    let last = outcome.json_lines().pop().unwrap();
    let group = &last["data"]["repositories"][0]["groups"][0];
    assert_eq!((&group["set"], group["keep"].as_array().unwrap().len(), group["remove"].as_array().unwrap().len()), (&json!("web"), 2, 3));
    assert_eq!(group["reasons"][0]["matches"], json!(["last snapshot"]));
    assert_eq!(group["remove_reasons"][0]["matches"], json!(["no rule keeps it"]));
    assert_eq!(count(&home), 17, "another host's snapshots are not this configuration's business");
    // Every enabled set; then other rules for one.
    let _ = run(&["forget"]).success();
    assert_eq!(count(&home), 17);
    let _ = run(&["forget", "off"]).success();
    assert_eq!(count(&home), 13);
    let _ = run(&["forget", "logs", "--keep-last", "1"]).success();
    assert_eq!(count(&home), 9);
    // A name that may be both.
    let mut number = 0;
    while !open.list_ids(FileKind::Snapshot).unwrap().iter().any(|id| id.to_string().starts_with('a')) {
        number += 1;
        put(&open, &format!("2026-03-01T00:00:{number:02}Z"), "h", &["/z"], &[]);
    }
    configuration(&home, "  a: {paths: [/a], retention: {keep_last: 1}}\n");
    let _ = run(&["forget", "a"]).exits(1).says("is a backup set and the beginning of a snapshot's id");
}

#[test]
fn what_a_restore_has_overwritten_ends_with_the_sets_that_save_the_same() {
    let home = Home::with_repository();
    configuration(
        &home,
        "  web: {paths: [/a], retention: {keep_last: 1}}\n  other: {paths: [/b], retention: {keep_last: 1, keep_tags: [mine]}}\n",
    );
    let open = open(&home);
    put(&open, "2026-01-02T00:00:00Z", "h", &["/a"], &["set:web"]);
    let good = put(&open, "2026-03-01T00:00:00Z", "h", &["/a"], &["set:web"]);
    let old = put(&open, "2026-01-01T00:00:00Z", "h", &["/a/part"], &["before-restore"]);
    let new = put(&open, "2026-02-20T00:00:00Z", "h", &["/a"], &["before-restore"]);
    let others = [
        put(&open, "2026-01-01T00:00:00Z", "h", &["/b"], &["before-restore"]),
        put(&open, "2026-01-01T00:00:00Z", "elsewhere", &["/a"], &["before-restore"]),
        put(&open, "2026-01-01T00:00:00Z", "h", &["/a"], &["before-restore", "mine"]),
        put(&open, "2026-01-01T00:00:00Z", "h", &["/a"], &["before-restore", "pinned"]),
    ];
    let run = |words: &[&str]| home.bare(["--config"]).arg(home.path("bbackup.yaml")).args(words).run();
    let data = run(&["forget", "--json"]).success().json_lines().pop().unwrap()["data"]["repositories"][0].clone();
    assert!(data["removed"].as_array().unwrap().len() == 2 && data["removed"][0] == json!(old), "{data}");
    let reasons = |name: &str| -> String { data["groups"].as_array().unwrap().iter().map(|group| group[name].to_string()).collect() };
    assert!(reasons("remove_reasons").contains("what a restore has overwritten, and"), "{data}");
    assert!(reasons("reasons").contains("what a restore has overwritten, and nothing complete is 30 days newer"), "{data}");
    let mut left: Vec<String> = open.list_ids(FileKind::Snapshot).unwrap().iter().map(ToString::to_string).collect();
    let mut expected: Vec<String> = others.into_iter().chain([good.clone(), new]).collect();
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    // It is nothing that could stay in the place of a good one.
    let _ = run(&["forget", &good]).exits(1).says("omplete would be left");
    // All of them go where they are asked for.
    let _ = run(&["forget", "--tag", "before-restore", "--unsafe-allow-remove-all"]).success();
    assert_eq!(count(&home), 2, "the good one and the pinned one");
}

#[test]
fn a_limit_on_the_size_is_measured() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    let mut snapshots = Vec::new();
    for number in 0..4 {
        // Each has a megabyte of its own, and one that all share.
        tree::write(&folder.join("shared"), &tree::noise(1, 1 << 20));
        tree::write(&folder.join("own"), &tree::noise(10 + number, 1 << 20));
        snapshots.push(home.back_up(&folder).snapshot);
    }
    let outcome = home.bbackup(["forget", "--max-size", "3500k", "--dry-run", "--json"]).run().success();
    let last = outcome.json_lines().pop().unwrap();
    let data = &last["data"]["repositories"][0];
    assert_eq!(data["removed"], json!(snapshots[..2]), "{data}");
    let kept = data["sizes"][0]["kept"].as_u64().unwrap();
    assert!((3 << 20..3_500 << 10).contains(&kept), "{kept}");
    let _ = home.bbackup(["forget", "--max-size", "1k", "--prune"]).run().success().says("more than max_size");
    assert_eq!(count(&home), 1);
    let size: u64 = files_below(&home.repository().join("data")).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(size < 2_300_000, "{size}");
    Restic::new(&home).check();
    home.assert_restores(&snapshots[3], &folder, "restored");
}

#[test]
fn nobody_forgets_beside_a_writer_and_locks_are_waited_for() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("file"), &tree::noise(77, 60_000_000));
    let all = days(&home, 3, &[]);
    let mut backup = home.bbackup(["backup", "--json", "--paths"]).arg(&folder).spawn();
    backup.until("its lock", || !home.locks().is_empty());
    backup.signal(Signal::STOP);
    for words in [&["forget", "--keep-last", "1"][..], &["forget", &all[0]], &["tag", "--add", "x", &all[0]], &["pin", &all[0]]] {
        let _ = home.bbackup(words).run().exits(11).says(&backup.pid().to_string());
    }
    assert_eq!(count(&home), 3);
    // Who only looks needs no lock.
    let _ = home.bbackup(["forget", "--keep-last", "1", "--dry-run"]).run().success();
    let mut waiting = home.bbackup(["forget", "--keep-last", "1", "--retry-lock", "2m"]).spawn();
    std::thread::sleep(Duration::from_millis(500));
    assert!(waiting.is_running());
    backup.signal(Signal::CONT);
    let _ = backup.wait().success();
    let _ = waiting.wait().success();
    assert_eq!(count(&home), 2);
    assert!(home.locks().is_empty());
}

#[test]
fn what_cannot_be_read_or_written_stops_it() {
    needs!(Part::Root);
    let home = Home::with_repository();
    let all = days(&home, 4, &[]);
    let victim = home.repository().join("snapshots").join(&all[2]);
    let whole = fs::read(&victim).unwrap();
    faults::flip(&victim, -1);
    for words in [&["forget", "--keep-last", "1"][..], &["forget", &all[0]], &["forget", "--keep-last", "1", "--dry-run"]] {
        let _ = home.bbackup(words).run().exits(1).says(&all[2]);
    }
    assert_eq!(count(&home), 4);
    fs::write(&victim, whole).unwrap();
    {
        let _read_only = faults::Mount::read_only(&home.repository());
        let _ = home.bbackup(["forget", "--keep-last", "1"]).run().exits(3).says("Read-only");
        let _ = home.bbackup(["forget", "--keep-last", "1", "--dry-run"]).run().success();
    }
    assert_eq!(count(&home), 4);
    let _ = home.bbackup(["forget", "--keep-last", "1"]).run().success();
    assert_eq!(count(&home), 1);
}

/// Only the index of what the kept snapshot needs is gone: the other may be the last that is whole.
#[test]
fn an_index_that_is_not_complete_stops_it() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    let mut made: [Vec<std::path::PathBuf>; 2] = Default::default();
    for round in 0..2 {
        tree::write(&folder.join(format!("file-{round}")), &tree::noise(round, 100_000));
        let _ = home.back_up(&folder);
        for (made, kind) in made.iter_mut().zip(["index", "snapshots"]) {
            let new = files_below(&home.repository().join(kind)).into_iter().find(|path| !made.contains(path)).unwrap();
            made.push(new);
        }
    }
    let [indexes, snapshots] = made;
    let later = snapshots[1].file_name().unwrap().to_str().unwrap();
    let aside = home.path("aside");
    for (index, later_goes) in [(&indexes[0], false), (&indexes[1], false), (&indexes[1], true)] {
        fs::rename(index, &aside).unwrap();
        // The later snapshot needs both. The earlier one does not need what the later one has.
        let words: &[&str] = if later_goes { &["forget", later] } else { &["forget", "--keep-last", "1"] };
        for dry in [&["--dry-run"][..], &[]] {
            let run = home.bbackup(words).args(dry).run();
            if later_goes {
                let _ = run.success();
            } else {
                let _ = run.exits(1).says("in no index").says("repair index");
                assert_eq!(count(&home), 2);
            }
        }
        fs::rename(&aside, index).unwrap();
    }
    assert_eq!(count(&home), 1);
}

#[test]
fn what_was_removed_is_told_also_when_the_prune_refuses() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    for round in 0..2 {
        tree::write(&folder.join("kept"), &tree::noise(7, 100_000));
        tree::write(&folder.join("file"), &tree::noise(round, 100_000));
        let _ = home.back_up(&folder);
    }
    // All packs are there, but the one that has to be written anew cannot be read.
    for pack in files_below(&home.repository().join("data")).into_iter().filter(|pack| fs::metadata(pack).unwrap().len() > 150_000) {
        faults::flip(&pack, 50_000);
        faults::flip(&pack, 150_000);
    }
    let outcome = home.bbackup(["forget", "--keep-last", "1", "--prune", "--json"]).run();
    assert_ne!(outcome.code(), Some(0), "{}", outcome.describe());
    let said = outcome.json_lines().pop().unwrap();
    assert_eq!(count(&home), 1);
    assert_eq!(said["data"]["repositories"][0]["removed"].as_array().unwrap().len(), 1, "{said}");
    assert!(said["errors"].to_string().contains("is damaged"), "{said}");
}

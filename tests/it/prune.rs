//! Prune and repair by the real program: real restic has the last word on what is left, and is at work before, beside and after.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::faults;
use crate::support::home::{Home, Summary, files_below, find_restored, size_of};
use crate::support::manifest::Manifest;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::run::Running;
use crate::support::tree;

const ALL: [&str; 3] = ["prune", "--max-unused", "0"];

/// A repository with a past: snapshots of both programs, of which only the last two are still there, and their folder.
fn with_a_past(home: &Home) -> (PathBuf, [String; 2]) {
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 4);
    for round in 0..4 {
        for number in 0..6 {
            tree::write(&folder.join(format!("noise-{number}")), &tree::noise(10 * round + number, 700_000 + 3000 * number as usize));
        }
        // Half of each round's data stays.
        fs::rename(folder.join("noise-0"), folder.join(format!("stays-{round}"))).unwrap();
        if round % 2 == 0 { Restic::new(home).back_up(&folder) } else { _ = home.back_up(&folder) }
    }
    let last = home.back_up(&folder);
    let restic = Restic::new(home);
    let ids: Vec<String> = restic.snapshots().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect();
    let [gone @ .., before, _] = &ids[..] else { panic!("{ids:?}") };
    let _ = restic.call(["forget"]).args(gone).run().success();
    (folder, [before.clone(), last.snapshot])
}

#[track_caller]
fn assert_both_restore(home: &Home, snapshot: &str, folder: &Path, name: &str) {
    home.assert_restores(snapshot, folder, &format!("{name}-ours"));
    let target = home.path(format!("{name}-restic"));
    Restic::new(home).restore(snapshot, &target);
    Manifest::of(folder).kept_by_restic().assert_equals(&Manifest::of(&find_restored(&target, folder)).kept_by_restic());
}

/// What `restic prune` would still find to do: nothing.
#[track_caller]
fn assert_restic_finds_nothing_unused(home: &Home) {
    let outcome = Restic::new(home).call(["prune", "--max-unused", "0", "--dry-run", "--no-cache"]).run().success();
    let text = outcome.text();
    let total = text.lines().find(|line| line.starts_with("total prune")).unwrap_or_else(|| panic!("{}", outcome.describe()));
    assert!(total.contains(" 0 blobs"), "restic would remove more:\n{text}");
}

fn prunes(version: u32) {
    let home = Home::new();
    Restic::new(&home).init(version);
    let (folder, [before, last]) = with_a_past(&home);
    let untouched = Manifest::of(&home.repository());
    let said = home.bbackup(ALL).args(["--dry-run", "--json"]).run().success();
    let foreseen = said.json_lines().pop().unwrap()["data"].clone();
    untouched.assert_equals(&Manifest::of(&home.repository()));

    let outcome = home.bbackup(ALL).arg("--json").run().success();
    let done = outcome.json_lines().pop().unwrap()["data"].clone();
    assert_eq!((&done["packs_repacked"], &done["packs_unused"]), (&foreseen["packs_repacked"], &foreseen["packs_unused"]));
    assert!(done["bytes_freed"].as_u64().unwrap() > 3_000_000, "{done}");
    assert_eq!(done["bytes_after"].as_u64().unwrap(), size_of(&home.repository().join("data")), "{done}");
    Restic::new(&home).check();
    assert_restic_finds_nothing_unused(&home);
    let _ = home.bbackup(["check", "--read-data"]).run().success();
    assert_both_restore(&home, &last, &folder, "last");
    let _ = home.bbackup(["restore", &before, "--to"]).arg(home.path("before")).run().success();
    let _ = home.bbackup(ALL).run().success().says("Nothing to do");

    // Both go on, and each prunes what the other has left.
    fs::remove_file(folder.join("noise-1")).unwrap();
    tree::write(&folder.join("new"), &tree::noise(99, 900_000));
    Restic::new(&home).back_up(&folder);
    let _ = Restic::new(&home).call(["forget", &before, &last, "--prune", "--max-unused", "0"]).run().success();
    let again = home.back_up(&folder);
    assert_eq!(again.number("data_blobs"), 0, "{}", again.message);
    let _ = home.bbackup(ALL).run().success();
    Restic::new(&home).check();
    assert_both_restore(&home, &again.snapshot, &folder, "again");
}

#[test]
fn restic_finds_no_fault_with_a_prune() {
    needs!(Part::Root, Part::Restic);
    prunes(2);
}

#[test]
fn a_repository_of_version_1_is_pruned() {
    needs!(Part::Root, Part::Restic);
    prunes(1);
}

#[test]
fn a_killed_prune_costs_nothing() {
    needs!(Part::Root, Part::Restic);
    let home = Home::new();
    Restic::new(&home).init(2);
    let (folder, [_, last]) = with_a_past(&home);
    // Later and later, until it is done before it can be killed.
    for round in 0_u64.. {
        let mut running = home.bbackup(ALL).spawn();
        running.until("its lock", || !home.locks().is_empty());
        thread::sleep(Duration::from_millis(150 + 25 * round));
        if !running.is_running() || round > 40 {
            let _ = running.wait().success();
            break;
        }
        running.signal(Signal::KILL);
        let _ = running.wait();
        let _ = home.bbackup(["check"]).run().success();
    }
    let _ = home.bbackup(ALL).run().success();
    Restic::new(&home).check();
    assert_restic_finds_nothing_unused(&home);
    assert_both_restore(&home, &last, &folder, "last");
}

#[test]
fn an_interrupted_prune_gives_its_lock_back() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let (_, _) = with_a_past(&home);
    let mut running = home.bbackup(ALL).spawn();
    running.until("its lock", || !home.locks().is_empty());
    running.signal(Signal::TERM);
    let outcome = running.wait();
    assert!(matches!(outcome.code(), Some(130 | 0)), "{}", outcome.describe());
    assert!(home.locks().is_empty());
    let _ = home.bbackup(["check", "--read-data"]).run().success();
}

/// Stops a program while it holds its lock.
fn stop_with_its_lock(home: &Home, mut running: Running) -> Running {
    running.until("its lock", || !home.locks().is_empty());
    running.signal(Signal::STOP);
    running
}

fn assert_prune_waits(home: &Home, writer: Running) {
    let outcome = home.bbackup(ALL).run().exits(11).says("locked").says(&writer.pid().to_string());
    assert!(!outcome.errors().contains("panicked"));
    let _ = home.bbackup(ALL).arg("--dry-run").run().success();
    let start = Instant::now();
    let _ = home.bbackup(ALL).args(["--retry-lock", "1s"]).run().exits(11);
    assert!(start.elapsed() >= Duration::from_secs(1));
    let waiting = home.bbackup(ALL).args(["--retry-lock", "2m"]).spawn();
    thread::sleep(Duration::from_millis(500));
    writer.signal(Signal::CONT);
    let _ = writer.wait().success();
    let _ = waiting.wait().success();
    assert!(home.locks().is_empty());
    let _ = home.bbackup(["check", "--read-data"]).run().success();
    Restic::new(home).check();
}

#[test]
fn it_waits_for_a_backup_of_ours() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let (folder, _) = with_a_past(&home);
    tree::write(&folder.join("much"), &tree::noise(77, 60_000_000));
    let writer = stop_with_its_lock(&home, home.bbackup(["backup", "--json", "--paths"]).arg(&folder).spawn());
    assert_prune_waits(&home, writer);
    home.assert_restores("latest", &folder, "restored");
}

#[test]
fn it_waits_for_a_backup_of_restic() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let (folder, _) = with_a_past(&home);
    tree::write(&folder.join("much"), &tree::noise(77, 60_000_000));
    let writer = stop_with_its_lock(&home, Restic::new(&home).call(["backup", "--quiet"]).arg(&folder).spawn());
    assert_prune_waits(&home, writer);
    home.assert_restores("latest", &folder, "restored");
}

#[test]
fn nobody_writes_beside_it() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let (folder, _) = with_a_past(&home);
    let prune = stop_with_its_lock(&home, home.bbackup(ALL).spawn());
    let _ = home.bbackup(["backup", "--paths"]).arg(&folder).run().exits(11).says("which needs it alone");
    let _ = home.bbackup(["check"]).run().exits(11);
    let _ = home.bbackup(ALL).run().exits(11);
    for words in [&["backup", "--quiet", "/etc/hostname"][..], &["prune"], &["check"]] {
        let outcome = Restic::new(&home).call(words).run().says("lock");
        assert_ne!(outcome.code(), Some(0), "{}", outcome.describe());
    }
    prune.signal(Signal::CONT);
    let _ = prune.wait().success();
    let _ = home.back_up(&folder);
    Restic::new(&home).check();
}

#[test]
fn it_refuses_what_is_not_whole_and_says_what_helps() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let (folder, _) = with_a_past(&home);
    // A lock comes and goes in its folder.
    let picture = || {
        let mut picture = Manifest::of(&home.repository());
        assert!(picture.lines.remove(b"locks".as_slice()).is_some());
        picture
    };
    let refused = |what: &str| {
        let before = picture();
        let outcome = home.bbackup(ALL).run().exits(1).says(what).says("repair");
        assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
        before.assert_equals(&picture());
    };
    // All index files: nothing is known any more.
    let index = home.repository().join("index");
    let away = home.path("index-away");
    fs::rename(&index, &away).unwrap();
    fs::create_dir(&index).unwrap();
    refused("is in no index");
    let _ = home.bbackup(["repair", "index", "--dry-run"]).run().success().says("would be");
    assert!(files_below(&index).is_empty());
    let _ = home.bbackup(["repair", "index"]).run().success();
    let _ = home.bbackup(["repair", "index"]).run().success().says("nothing to do");
    Restic::new(&home).check();
    let _ = home.bbackup(ALL).run().success();
    Restic::new(&home).check();
    home.assert_restores("latest", &folder, "restored");
}

/// The pack that is needed for a file with a large piece of noise.
fn largest_pack(home: &Home) -> PathBuf {
    files_below(&home.repository().join("data")).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[test]
fn a_repository_that_has_lost_data_is_made_whole_without_it() {
    needs!(Part::Root, Part::Restic);
    for damage in ["gone", "cut off", "a bit"] {
        let home = Home::with_repository();
        let (folder, _) = with_a_past(&home);
        // From here on everything in a pack is needed.
        let _ = home.bbackup(ALL).run().success();
        let good = Manifest::of(&folder);
        let pack = largest_pack(&home);
        let half = fs::metadata(&pack).unwrap().len() / 2;
        match damage {
            "gone" => fs::remove_file(&pack).unwrap(),
            "cut off" => faults::truncate(&pack, half),
            _ => faults::flip(&pack, half.cast_signed()),
        }
        let check = home.bbackup(["check", "--read-data"]).run().exits(1);
        if damage != "a bit" {
            let _ = home.bbackup(ALL).run().exits(1).says("repair index");
        }
        let index = home.bbackup(["repair", "index", "--read-data", "--json"]).run().exits(4);
        let said = index.json_lines().pop().unwrap();
        assert!(said["data"]["blobs_lost"].as_u64().unwrap() > 0, "{damage}: {said}");
        assert_eq!(said["data"]["blobs_saved"].as_u64().unwrap() > 0, damage != "gone", "{damage}: {said}");
        let _ = home.bbackup(["repair", "snapshots", "--dry-run"]).run().success().says("would be repaired");
        let snapshots = home.bbackup(["repair", "snapshots", "--forget"]).run().success().says("repaired as");
        let _ = home.bbackup(["check", "--read-data"]).run().success();
        let _ = home.bbackup(ALL).run().success();
        Restic::new(&home).check();
        // What is left is right: a file of its old size has its old content.
        let left: Vec<_> = Restic::new(&home).snapshots();
        assert!(left.iter().all(|snapshot| snapshot["original"].is_string()), "{}\n{}", snapshots.describe(), check.describe());
        let id = left.last().unwrap()["id"].as_str().unwrap();
        let target = home.path("left");
        let restore = home.bbackup(["restore", id, "--path"]).arg(&folder).arg("--to").arg(&target).run();
        let _ = restore.exits(4).says("is partial");
        let restored = Manifest::of(&find_restored(&target, &folder));
        let (mut whole, mut short) = (0, 0);
        for (name, line) in &restored.lines {
            let expected = &good.lines[name];
            if line.kind == "file" && line.size == expected.size {
                assert_eq!(line.hash, expected.hash, "{damage}: {}", name.escape_ascii());
                whole += 1;
            } else if line.kind == "file" {
                short += 1;
            }
        }
        assert!(whole > 0 && short > 0 && restored.lines.len() == good.lines.len(), "{damage}: {whole} {short}");
        // The data is still on this machine: a backup stores again what was lost.
        let again = home.back_up(&folder);
        assert!(again.number("data_blobs") > 0);
        home.assert_restores(&again.snapshot, &folder, "again");
    }
}

#[test]
fn a_repository_that_restic_has_damaged_is_repaired() {
    needs!(Part::Root, Part::Restic);
    let home = Home::new();
    let restic = Restic::new(&home);
    restic.init(2);
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 6);
    restic.back_up(&folder);
    for path in files_below(&home.repository().join("index")) {
        faults::truncate(&path, 30);
    }
    let _ = home.bbackup(["check"]).run().exits(1);
    let _ = home.bbackup(["repair", "index", "--read-all-packs"]).run().success();
    restic.check();
    let _ = home.bbackup(ALL).run().success();
    restic.check();
    home.assert_restores("latest", &folder, "restored");
    let summary: Summary = home.back_up(&folder);
    assert_eq!(summary.number("data_blobs"), 0);
}

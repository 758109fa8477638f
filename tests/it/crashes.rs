//! Death in the middle, full and read-only disks, signals, several at once: the next run always works and restic finds no fault.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::support::faults::Mount;
use crate::support::home::{Home, Summary, files_below, find_restored};
use crate::support::manifest::Manifest;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs, skipped};
use crate::support::run::{Outcome, Running};
use crate::support::tree;

fn large(home: &Home) -> PathBuf {
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 120);
    folder
}

fn start_backup(home: &Home, folder: &std::path::Path) -> Running {
    home.bbackup(["backup", "--json", "--paths"]).arg(folder).spawn()
}

fn restic_check_if_there(home: &Home) {
    if !skipped(&[Part::Restic]) {
        Restic::new(home).check();
    }
}

#[test]
fn a_killed_backup_costs_only_its_time() {
    let home = Home::with_repository();
    let folder = large(&home);
    let data = home.repository().join("data");
    for packs in [0, 1, 3] {
        let already = files_below(&data).len();
        let mut running = start_backup(&home, &folder);
        running.until("some packs", || files_below(&data).len() >= already + packs);
        running.signal(Signal::KILL);
        let _ = running.wait().killed_by(Signal::KILL);
        assert!(files_below(&home.repository().join("snapshots")).is_empty(), "half a snapshot was saved");
    }
    let summary = home.back_up(&folder);
    assert!(files_below(&home.repository().join("locks")).is_empty(), "the locks of the dead are still there");
    home.assert_restores(&summary.snapshot, &folder, "restored");
    let _ = home.bbackup(["check", "--read-data"]).run().success();
    restic_check_if_there(&home);
}

#[test]
fn a_killed_restore_is_finished_by_the_next() {
    let home = Home::with_repository();
    let folder = large(&home);
    let summary = home.back_up(&folder);
    let target = home.path("restored");
    let restore = || home.bbackup(["restore", &summary.snapshot, "--path"]).arg(&folder).arg("--to").arg(&target);
    let mut running = restore().spawn();
    running.until("the first files", || target.exists() && files_below(&target).len() > 20);
    running.signal(Signal::KILL);
    let _ = running.wait().killed_by(Signal::KILL);
    let _ = restore().run().success();
    Manifest::of(&folder).assert_equals(&Manifest::of(&find_restored(&target, &folder)));
    restic_check_if_there(&home);
}

fn a_signal_ends_it(signal: Signal) {
    let home = Home::with_repository();
    let folder = large(&home);
    let data = home.repository().join("data");
    let mut running = start_backup(&home, &folder);
    running.until("the first pack", || !files_below(&data).is_empty());
    running.signal(signal);
    let outcome = running.wait().exits(130);
    assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
    assert!(files_below(&home.repository().join("snapshots")).is_empty(), "a cancelled run saved a snapshot");
    assert!(files_below(&home.repository().join("locks")).is_empty(), "a cancelled run left its lock");
    let summary = home.back_up(&folder);
    home.assert_restores(&summary.snapshot, &folder, "restored");
    restic_check_if_there(&home);
}

#[test]
fn an_interrupt_ends_it_cleanly() {
    a_signal_ends_it(Signal::INT);
}

#[test]
fn a_termination_ends_it_cleanly() {
    a_signal_ends_it(Signal::TERM);
}

fn a_signal_ends_a_restore(signal: Signal) {
    let home = Home::with_repository();
    let folder = large(&home);
    let summary = home.back_up(&folder);
    let target = home.path("restored");
    let restore = || home.bbackup(["restore", &summary.snapshot, "--json", "--path"]).arg(&folder).arg("--to").arg(&target);
    let mut running = restore().spawn();
    running.until("the first files", || target.exists() && files_below(&target).len() > 20);
    running.signal(signal);
    let outcome = running.wait().exits(130);
    assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
    assert!(files_below(&home.repository().join("locks")).is_empty(), "the restore left its lock");
    // What was written is told, and that there is more to come.
    let summary = outcome.messages("summary").pop().unwrap();
    assert!(summary["bytes_restored"].as_u64().unwrap() > 0, "{}", outcome.describe());
    let _ = outcome.says("restored in part only").says_nothing_of("what was restored until then is there");
    let _ = restore().run().success();
    Manifest::of(&folder).assert_equals(&Manifest::of(&find_restored(&target, &folder)));
    restic_check_if_there(&home);
}

#[test]
fn a_restore_is_interrupted_cleanly() {
    a_signal_ends_a_restore(Signal::INT);
}

#[test]
fn a_restore_is_terminated_cleanly() {
    a_signal_ends_a_restore(Signal::TERM);
}

#[test]
fn two_backups_at_once_share_a_repository() {
    let home = Home::with_repository();
    let folder = large(&home);
    let other = home.make_folder("other");
    tree::write(&other.join("own"), &tree::noise(5, 30_000_000));
    tree::write(&other.join("shared"), &fs::read(folder.join("pages")).unwrap());
    let first = start_backup(&home, &folder);
    let second = start_backup(&home, &other);
    let (first, second) = (Summary::of(&first.wait().success()), Summary::of(&second.wait().success()));
    home.assert_restores(&first.snapshot, &folder, "first");
    home.assert_restores(&second.snapshot, &other, "second");
    let _ = home.bbackup(["check", "--read-data"]).run().success();
    restic_check_if_there(&home);
}

fn calm(outcome: Outcome) -> Outcome {
    assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
    outcome
}

#[test]
fn a_full_disk_is_said_and_survived() {
    needs!(Part::Root);
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("noise"), &tree::noise(3, 80_000_000));
    let _disk = Mount::small(&home.repository(), 48);
    let _ = home.bbackup(["init"]).run().success();
    let outcome = calm(home.bbackup(["backup", "--paths"]).arg(&folder).run()).says("space");
    assert!(matches!(outcome.code(), Some(1 | 3)), "{}", outcome.describe());
    assert!(files_below(&home.repository().join("snapshots")).is_empty());
    let left: Vec<_> =
        files_below(&home.repository()).into_iter().filter(|path| path.file_name().unwrap().to_string_lossy().contains("tmp")).collect();
    assert!(left.is_empty(), "half-written files stayed: {left:?}");
    let _ = calm(home.bbackup(["check", "--read-data"]).run()).success();
    // More room, and it works.
    let path = home.repository();
    let status = std::process::Command::new("mount").args(["-o", "remount,size=200m"]).arg(&path).status().unwrap();
    assert!(status.success());
    let summary = home.back_up(&folder);
    home.assert_restores(&summary.snapshot, &folder, "restored");
    restic_check_if_there(&home);
}

#[test]
fn what_a_full_disk_holds_can_be_read() {
    needs!(Part::Root);
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("noise"), &tree::noise(3, 2_000_000));
    let _disk = Mount::small(&home.repository(), 8);
    let _ = home.bbackup(["init"]).run().success();
    let summary = home.back_up(&folder);
    let filler = home.repository().join("filler");
    let _ = std::process::Command::new("dd").args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}", filler.display())).output().unwrap();
    home.assert_restores(&summary.snapshot, &folder, "restored");
    let _ = calm(home.bbackup(["check", "--read-data"]).run()).success();
    for command in [&["backup", "--paths", "/etc/hostname"][..], &["forget", "--keep-last", "1"], &["prune"]] {
        let _ = calm(home.bbackup(command).run()).exits(3).says("Make room");
    }
    fs::remove_file(filler).unwrap();
    let _ = home.bbackup(["prune"]).run().success();
}

#[test]
fn a_full_disk_at_restore_is_said() {
    needs!(Part::Root);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("noise"), &tree::noise(3, 40_000_000));
    tree::write(&folder.join("small"), b"small");
    let summary = home.back_up(&folder);
    let _disk = Mount::small(&home.path("full"), 20);
    let outcome = calm(home.bbackup(["restore", &summary.snapshot, "--to"]).arg(home.path("full/out")).run()).says("space");
    assert!(matches!(outcome.code(), Some(1 | 4)), "{}", outcome.describe());
}

#[test]
fn a_read_only_repository_is_read_and_not_written() {
    needs!(Part::Root);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 4);
    let summary = home.back_up(&folder);
    let before = Manifest::of(&home.repository());
    let mount = Mount::read_only(&home.repository());
    fs::write(folder.join("new"), b"new").unwrap();
    let outcome = calm(home.bbackup(["backup", "--paths"]).arg(&folder).run());
    assert!(matches!(outcome.code(), Some(1 | 3)), "{}", outcome.describe());
    fs::remove_file(folder.join("new")).unwrap();
    let _ = calm(home.bbackup(["snapshots"]).run()).success().says(&summary.snapshot[..8]);
    let _ = calm(home.bbackup(["restore", &summary.snapshot, "--to"]).arg(home.path("out")).run()).success();
    drop(mount);
    before.assert_equals(&Manifest::of(&home.repository()));
}

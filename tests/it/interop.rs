//! bbackup and the real restic over one repository, in both directions.
//!
//! The oracle is restic 0.14 (Debian 12's) unless `BBACKUP_TEST_RESTIC` names another; what it does not restore itself is left out.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::home::{Home, find_restored, size_of};
use crate::support::manifest::Manifest;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::tree;

fn nasty(home: &Home) -> PathBuf {
    let folder = home.make_folder("tree");
    tree::nasty(&folder);
    folder
}

#[track_caller]
fn assert_restic_restores(home: &Home, snapshot: &str, folder: &Path, name: &str) {
    let target = home.path(name);
    Restic::new(home).restore(snapshot, &target);
    let restored = Manifest::of(&find_restored(&target, folder));
    Manifest::of(folder).kept_by_restic().assert_equals(&restored.kept_by_restic());
}

#[test]
fn restic_checks_and_restores_what_bbackup_wrote() {
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let folder = nasty(&home);
    let summary = home.back_up(&folder);
    let restic = Restic::new(&home);
    restic.check();
    assert_restic_restores(&home, &summary.snapshot, &folder, "by-restic");
    let snapshots = restic.snapshots();
    assert_eq!(snapshots.len(), 1);
    assert_eq!(snapshots[0]["paths"][0], folder.to_str().unwrap());
    assert_eq!(snapshots[0]["id"], *summary.snapshot);
}

#[test]
fn restic_finds_its_own_data_in_what_bbackup_wrote() {
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let folder = nasty(&home);
    let _ = home.back_up(&folder);
    let outcome = Restic::new(&home).call(["backup", "--json", "--force"]).arg(&folder).run().success();
    let summary = outcome.messages("summary").pop().unwrap();
    assert_eq!(summary["data_blobs"], 0, "restic cuts or names chunks differently: {summary}");
    Restic::new(&home).check();
}

#[test]
fn items_of_an_application_are_not_written_to_places_of_the_host() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let folder = nasty(&home);
    let _ = Restic::new(&home).call(["backup", "--quiet", "--tag", "app:shop"]).arg(&folder).run().success();
    fs::remove_dir_all(&folder).unwrap();
    for flags in [&["--in-place"][..], &[]] {
        let _ = home.bbackup(["restore", "latest", "--path"]).arg(&folder).args(flags).run().exits(3).says("--to DIR");
        assert!(!folder.exists());
    }
    let _ = home.bbackup(["restore", "latest", "--to"]).arg(home.path("out")).arg("--path").arg(&folder).run().success();
}

fn reads_adds_to_and_restores(version: u32) {
    let home = Home::new();
    let folder = nasty(&home);
    let restic = Restic::new(&home);
    restic.init(version);
    restic.back_up(&folder);
    let theirs = restic.snapshots()[0]["id"].as_str().unwrap().to_owned();
    let before = size_of(&home.repository().join("data"));

    let listed = home.bbackup(["snapshots", "--json"]).run().success();
    let listed = listed.text();
    assert!(listed.contains(&theirs), "restic's snapshot is not listed: {listed}");
    let restored = home.restore(&theirs, &folder, "theirs");
    Manifest::of(&folder).kept_by_restic().assert_equals(&Manifest::of(&restored).kept_by_restic());

    let outcome = home.bbackup(["backup", "--json", "--full", "--paths"]).arg(&folder).run().success();
    let ours = crate::support::home::Summary::of(&outcome);
    assert_eq!(ours.number("data_blobs"), 0, "files that restic had stored added data: {}", ours.message);
    let added = size_of(&home.repository().join("data")) - before;
    assert!(added < 200_000, "{added} bytes of packs were added");
    restic.check();
    home.assert_restores(&ours.snapshot, &folder, "ours");
    assert_restic_restores(&home, &ours.snapshot, &folder, "ours-by-restic");

    let config: serde_json::Value = serde_json::from_str(&restic.call(["cat", "config"]).run().success().text()).unwrap();
    assert_eq!(config["version"], version, "the format was changed under the user");

    // Something new as well: it must be readable in the format that the repository has.
    fs::write(folder.join("new"), tree::pages(3, 3_000_000)).unwrap();
    let ours = home.back_up(&folder);
    restic.check();
    assert_restic_restores(&home, &ours.snapshot, &folder, "new-by-restic");
    home.assert_restores(&ours.snapshot, &folder, "new");
}

#[test]
fn a_repository_of_restic_is_read_added_to_and_restored() {
    needs!(Part::Root, Part::Restic);
    reads_adds_to_and_restores(2);
}

#[test]
fn a_repository_of_version_1_stays_one() {
    needs!(Part::Root, Part::Restic);
    reads_adds_to_and_restores(1);
}

#[test]
fn every_password_of_a_repository_opens_it() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let other = home.path("other-password");
    fs::write(&other, "another one\n").unwrap();
    let _ = Restic::new(&home).call(["key", "add", "--new-password-file"]).arg(&other).run().success();
    let _ = home.bbackup(["snapshots", "--password-file"]).arg(&other).run().success();
    let _ = home.bbackup(["snapshots"]).run().success();
}

#[test]
fn a_snapshot_that_restic_forgot_and_pruned_is_not_missed() {
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 12);
    let first = home.back_up(&folder);
    fs::remove_file(folder.join("incompressible")).unwrap();
    let second = home.back_up(&folder);
    let _ = Restic::new(&home).call(["forget", "--prune", &first.snapshot]).run().success();
    let _ = home.bbackup(["check", "--read-data"]).run().success();
    home.assert_restores(&second.snapshot, &folder, "second");
    let third = home.back_up(&folder);
    assert_eq!(third.number("data_blobs"), 0, "{}", third.message);
}

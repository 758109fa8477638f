//! `copy` and `rewrite`: what comes out is whole, in the eyes of restic too, and nothing that was there is lost on the way.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::faults;
use crate::support::home::{Home, Summary, files_below, find_restored};
use crate::support::manifest::Manifest;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::tree;

/// Two snapshots of a folder that changed in between; gives the folder, and its state and the snapshot at each time.
fn two_snapshots(home: &Home) -> (PathBuf, Vec<(String, Manifest)>) {
    let folder = home.make_folder("tree");
    tree::nasty(&folder);
    tree::many(&folder.join("many"), 1000);
    let first = (home.back_up(&folder).snapshot, Manifest::of(&folder));
    fs::write(folder.join("new"), tree::noise(77, 5_000_000)).unwrap();
    fs::remove_dir_all(folder.join("many/0001")).unwrap();
    let second = (home.back_up(&folder).snapshot, Manifest::of(&folder));
    (folder, vec![first, second])
}

/// A second repository with the same password and a chunker of its own.
fn other(home: &Home, name: &str) -> PathBuf {
    let path = home.path(name);
    let _ = home.bbackup(["init", "--repo"]).arg(&path).run().success();
    path
}

fn copy(home: &Home, target: &Path, flags: &[&str]) -> Value {
    let outcome = home.bbackup(["copy", "--json", "--to"]).arg(target).args(flags).run().success();
    outcome.json_lines().pop().unwrap()["data"]["summary"].clone()
}

#[track_caller]
fn assert_restores(home: &Home, repository: &Path, snapshot: &str, folder: &Path, expected: &Manifest, name: &str) {
    let target = home.path(name);
    let _ = home.bbackup(["restore", snapshot, "--repo"]).arg(repository).arg("--to").arg(&target).run().success();
    expected.assert_equals(&Manifest::of(&find_restored(&target, folder)));
}

#[test]
fn copies_are_whole_and_made_once() {
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let (folder, snapshots) = two_snapshots(&home);
    let target = other(&home, "other");
    let empty = Manifest::of(&target);
    let planned = copy(&home, &target, &["--dry-run"]);
    assert_eq!((&planned["copied"], &planned["snapshots"][0]["target"]), (&Value::from(2), &Value::Null));
    empty.assert_equals(&Manifest::of(&target));

    let copied = copy(&home, &target, &[]);
    assert_eq!(
        (&copied["copied"], &copied["were_there"], &copied["same_chunker"]),
        (&Value::from(2), &Value::from(0), &Value::from(false))
    );
    assert_eq!((&copied["blobs"], &copied["bytes"]), (&planned["blobs"], &planned["bytes"]));
    let restic = Restic::at(&home, &target);
    restic.check();
    let there = restic.snapshots();
    let originals: Vec<&str> = there.iter().map(|snapshot| snapshot["original"].as_str().unwrap()).collect();
    assert_eq!(originals, [&snapshots[0].0, &snapshots[1].0]);
    for (number, (source, expected)) in snapshots.iter().enumerate() {
        let copy = copied["snapshots"][number]["target"].as_str().unwrap();
        assert_eq!(copied["snapshots"][number]["source"], **source);
        assert_restores(&home, &target, copy, &folder, expected, &format!("restored-{number}"));
    }

    // Again: nothing is written, and restic sees that there is nothing to copy either.
    let before = files_below(&target);
    assert_eq!(copy(&home, &target, &[])["were_there"], 2);
    let by_restic = restic.call(["copy", "--from-repo"]).arg(home.repository()).arg("--from-password-file").arg(home.password_file());
    let _ = by_restic.run().success();
    assert_eq!(restic.snapshots().len(), 2);
    assert_eq!(files_below(&target), before);

    // What is new, and only that.
    fs::write(folder.join("newer"), tree::noise(78, 2_000_000)).unwrap();
    let third = home.back_up(&folder).snapshot;
    let copied = copy(&home, &target, &[]);
    assert_eq!((&copied["copied"], &copied["snapshots"][2]["source"]), (&Value::from(1), &Value::from(third)));
    assert!(copied["bytes"].as_u64().unwrap() < 2_200_000, "{copied}");
    restic.check();
    let _ = home.bbackup(["copy", "--to"]).arg(home.repository()).run().exits(1).says("same repository");
    let _ = home.bbackup(["copy", "--to"]).arg(home.path("nowhere")).run().exits(10);
}

#[test]
fn what_restic_has_copied_is_not_copied_again() {
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::mixed(&folder, 4);
    let _ = home.back_up(&folder);
    let target = home.path("other");
    let restic = Restic::at(&home, &target);
    restic.init(2);
    let _ =
        restic.call(["copy", "--from-repo"]).arg(home.repository()).arg("--from-password-file").arg(home.password_file()).run().success();
    let copied = copy(&home, &target, &[]);
    assert_eq!((&copied["copied"], &copied["were_there"]), (&Value::from(0), &Value::from(1)));
}

#[test]
fn versions_passwords_and_damage() {
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let (folder, snapshots) = two_snapshots(&home);
    // Without compression and with another password.
    let old = home.path("old");
    Restic::at(&home, &old).init(1);
    assert_eq!(copy(&home, &old, &[])["copied"], 2);
    Restic::at(&home, &old).check();
    let password = home.path("other-password");
    fs::write(&password, "something else\n").unwrap();
    let strange = home.path("strange");
    let _ = home.bbackup(["init", "--repo"]).arg(&strange).arg("--password-file").arg(&password).run().success();
    let _ = home.bbackup(["copy", "--to"]).arg(&strange).run().exits(12);
    let outcome = home.bbackup(["copy", "--repo"]).arg(&old).arg("--to").arg(&strange).arg("--to-password-file").arg(&password);
    let _ = outcome.run().success();
    let target = home.path("restored");
    let restore =
        home.bbackup(["restore", "latest", "--repo"]).arg(&strange).arg("--password-file").arg(&password).arg("--to").arg(&target);
    let _ = restore.run().success();
    snapshots[1].1.assert_equals(&Manifest::of(&find_restored(&target, &folder)));

    // A blob that is lost: no snapshot without it is made, and what is there is whole.
    let packs = files_below(&home.repository().join("data"));
    let largest = packs.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    faults::flip(&largest, 2000);
    let target = other(&home, "third");
    let failed = home.bbackup(["copy", "--to"]).arg(&target).run().exits(1).says("damaged");
    assert!(!failed.errors().contains("panicked"));
    assert!(Restic::at(&home, &target).snapshots().len() < 2);
    Restic::at(&home, &target).check();
    assert!(home.locks().is_empty());
}

#[test]
fn a_copy_that_was_ended_goes_on() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    for number in 0..12 {
        fs::write(folder.join(format!("noise-{number}")), tree::noise(number, 8_000_000)).unwrap();
    }
    let snapshot = home.back_up(&folder).snapshot;
    let target = other(&home, "other");
    for signal in [Signal::KILL, Signal::INT] {
        let before = files_below(&target.join("data")).len();
        let mut running = home.bbackup(["copy", "--to"]).arg(&target).spawn();
        running.until("a pack is copied", || files_below(&target.join("data")).len() > before);
        running.signal(signal);
        let outcome = running.wait();
        assert!(outcome.code() != Some(0), "{}", outcome.describe());
        let _ = home.bbackup(["unlock", "--repo"]).arg(&target).run().success();
        assert!(Restic::at(&home, &target).snapshots().is_empty());
    }
    // The second end was a clean one: what it had copied is found.
    let copied = copy(&home, &target, &[]);
    assert!(copied["bytes"].as_u64().unwrap() < 96_000_000, "{copied}");
    let restic = Restic::at(&home, &target);
    restic.check();
    assert_eq!(restic.snapshots()[0]["original"], *snapshot);
    assert_restores(&home, &target, "latest", &folder, &Manifest::of(&folder), "restored");
}

#[test]
fn repositories_with_the_same_chunker_share_data() {
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    let mut large = tree::noise(7, 24_000_000);
    fs::write(folder.join("large"), &large).unwrap();
    let first = home.back_up(&folder).snapshot;
    // Its own password, and that of the other one by its own flags.
    let password = home.path("its-password");
    fs::write(&password, "of the new one\n").unwrap();
    let target = home.path("like-it");
    let init = |target: &Path| home.bbackup(["init", "--password-file"]).arg(&password).arg("--repo").arg(target);
    let source = home.repository();
    let like_it = |program: crate::support::run::Program| program.arg("--copy-chunker-params-from").arg(&source);
    let _ = like_it(init(&target)).args(["--from-password-command", "echo wrong"]).run().exits(12);
    let _ = init(&target).arg("--from-password-file").arg(home.password_file()).run().exits(1);
    let _ = init(&target).arg("--copy-chunker-params-from").arg(home.path("nowhere")).run().exits(10);
    assert!(!target.exists());
    let _ = like_it(init(&target)).arg("--dry-run").arg("--from-password-file").arg(home.password_file()).run().success();
    assert!(!target.exists());
    let _ = like_it(init(&target)).arg("--from-password-file").arg(home.password_file()).run().success();

    let to = ["--to-password-file", password.to_str().unwrap()];
    assert_eq!(copy(&home, &target, &to)["same_chunker"], true);
    // Something in the middle shifts all that follows: only what lies there is stored again, by whichever program.
    large.splice(5_000_000..5_000_000, *b"shifts everything");
    fs::write(folder.join("large"), &large).unwrap();
    let there = |words: &[&str]| home.bbackup(words).arg("--repo").arg(&target).arg("--password-file").arg(&password);
    let direct = Summary::of(&there(&["backup", "--json", "--full"]).arg("--paths").arg(&folder).run().success());
    assert!(direct.number("data_added") < 9_000_000, "{}", direct.message);
    let second = home.back_up(&folder).snapshot;
    let copied = copy(&home, &target, &to);
    assert_eq!((&copied["copied"], &copied["snapshots"][1]["source"]), (&Value::from(1), &Value::from(second)));
    assert!(copied["bytes"].as_u64().unwrap() < 100_000, "the same data was copied again: {copied}");
    assert_eq!(copied["snapshots"][0]["source"], first);
    let restic = Restic::at(&home, &target);
    let again = restic.call(["backup", "--json", "--force"]).env("RESTIC_PASSWORD_FILE", &password).arg(&folder).run().success();
    assert_eq!(again.messages("summary")[0]["data_blobs"], 0);
    let checked = restic.call(["check", "--read-data", "--no-cache"]).env("RESTIC_PASSWORD_FILE", &password).run();
    let _ = checked.success().says("no errors were found");
}

fn rewrite(home: &Home, flags: &[&str]) -> Value {
    let outcome = home.bbackup(["rewrite", "--json"]).args(flags).run().success();
    outcome.json_lines().pop().unwrap()["data"]["summary"].clone()
}

#[test]
fn rewritten_snapshots_have_everything_but_what_was_excluded() {
    needs!(Part::Root, Part::Restic);
    let home = Home::with_repository();
    let (folder, snapshots) = two_snapshots(&home);
    let restic = Restic::new(&home);
    let left = |manifest: &Manifest| manifest.clone().without(|name, _| name == b"many" || name.starts_with(b"many/"));
    let many = folder.join("many");
    let flags = ["--exclude", many.to_str().unwrap()];
    let before = files_below(&home.repository());
    let planned = rewrite(&home, &[&flags[..], &["--dry-run", "--forget"]].concat());
    assert_eq!((&planned["changed"], &planned["snapshots"][0]["files"]), (&Value::from(2), &Value::from(1000)));
    assert_eq!(planned["snapshots"][1]["files"], 500);
    assert_eq!(files_below(&home.repository()), before);

    let done = rewrite(&home, &flags);
    assert_eq!((&done["changed"], &done["snapshots"][0]["bytes"]), (&Value::from(2), &planned["snapshots"][0]["bytes"]));
    restic.check();
    assert_eq!(restic.snapshots().len(), 4);
    for (number, (source, expected)) in snapshots.iter().enumerate() {
        let one = &done["snapshots"][number];
        assert_eq!((&one["source"], &one["forgotten"]), (&Value::from(&**source), &Value::from(false)));
        let new = one["target"].as_str().unwrap();
        assert_restores(&home, &home.repository(), new, &folder, &left(expected), &format!("new-{number}"));
        assert_restores(&home, &home.repository(), source, &folder, expected, &format!("old-{number}"));
        let listed = restic.snapshots().into_iter().find(|snapshot| snapshot["id"] == new).unwrap();
        assert_eq!(listed["original"], **source);
        assert!(listed["tags"].as_array().unwrap().contains(&Value::from("rewrite")), "{listed}");
    }

    // The same again writes nothing: it is there already.
    let of = |summary: &Value, source: &str| -> Value {
        summary["snapshots"].as_array().unwrap().iter().find(|one| one["source"] == source).unwrap().clone()
    };
    let before = files_below(&home.repository());
    for more in [&["--dry-run"][..], &[]] {
        let again = rewrite(&home, &[&flags[..], more].concat());
        assert_eq!((&again["changed"], &again["were_there"]), (&Value::from(0), &Value::from(2)), "{again}");
        for one in done["snapshots"].as_array().unwrap() {
            let same = of(&again, one["source"].as_str().unwrap());
            assert_eq!((&same["target"], &same["was_there"]), (&one["target"], &true.into()), "{again}");
        }
    }
    assert_eq!(files_below(&home.repository()), before);

    // Of both forms the wider exclusion makes one.
    let names = folder.join("names");
    let wider = rewrite(&home, &[&flags[..], &["--exclude", names.to_str().unwrap()]].concat());
    assert_eq!((&wider["changed"], &wider["were_there"]), (&Value::from(2), &Value::from(2)), "{wider}");
    assert_eq!(restic.snapshots().len(), 6);
    let targets = wider["snapshots"].as_array().unwrap().iter().map(|one| one["target"].as_str().unwrap());
    let _ = home.bbackup(["forget"]).args(targets.collect::<std::collections::BTreeSet<_>>()).run().success();

    // And now the old ones go, for the new ones that are there.
    let gone = rewrite(&home, &[&flags[..], &["--forget"]].concat());
    assert_eq!((&gone["changed"], &of(&gone, &snapshots[0].0)["forgotten"]), (&Value::from(0), &true.into()));
    let ids: Vec<String> = restic.snapshots().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.len() == 2 && snapshots.iter().all(|(source, _)| !ids.contains(source)), "{ids:?}");
    let _ = home.bbackup(["prune", "--max-unused", "0"]).run().success();
    restic.check();
    let found = home.bbackup(["find", "--json", "file-99*"]).run().success();
    assert!(found.messages("match").is_empty(), "{}", found.describe());
    assert_restores(&home, &home.repository(), "latest", &folder, &left(&snapshots[1].1), "last");
    let _ = home.bbackup(["rewrite"]).run().exits(1).says("--exclude");
    let _ = home.bbackup(["rewrite", "--exclude", "["]).run().exits(1).says("[");
}

#[test]
fn what_the_other_repository_has_lost_is_copied_again() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("noise"), &tree::noise(1, 3_000_000));
    let _ = home.back_up(&folder);
    let expected = Manifest::of(&folder);
    let target = other(&home, "other");
    let _ = copy(&home, &target, &[]);
    let copy_again = || home.bbackup(["copy", "--to"]).arg(&target).run();
    let largest = files_below(&target.join("data")).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    fs::remove_file(largest).unwrap();
    let _ = copy_again().exits(4).says("missing or cut off").says("is there already");
    assert_restores(&home, &target, "latest", &folder, &expected, "restored");
}

#[test]
fn a_rewrite_that_would_leave_nothing_is_refused() {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("file"), b"x");
    let _ = home.back_up(&folder);
    let before = files_below(&home.repository());
    for flags in [&["--forget"][..], &["--dry-run"], &[]] {
        let refused = home.bbackup(["rewrite", "-e", "*"]).args(flags).run().exits(1);
        let _ = refused.says("Nothing would be left").says("--unsafe-allow-remove-all");
        assert_eq!(files_below(&home.repository()), before);
    }
    assert_eq!(rewrite(&home, &["-e", "*", "--forget", "--unsafe-allow-remove-all"])["changed"], 1);
}

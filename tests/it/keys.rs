//! Passwords of a repository: added, changed, removed, and what restic opens with them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::home::{Home, files_below};
use crate::support::manifest::Manifest;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::run::Outcome;
use crate::support::tree;

fn password(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.path(name);
    fs::write(&path, format!("{text}\n")).unwrap();
    path
}

fn keys(home: &Home) -> Vec<Value> {
    let outcome = home.bbackup(["key", "list", "--json"]).run().success();
    outcome.json_lines().pop().unwrap()["data"].as_array().unwrap().clone()
}

fn with(home: &Home, password: &PathBuf, words: &[&str]) -> Outcome {
    home.bbackup(words).arg("--password-file").arg(password).run()
}

#[test]
fn a_second_password_comes_and_goes() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let other = password(&home, "other", "a second one");
    let _ = with(&home, &other, &["snapshots"]).exits(12);
    let _ = home.bbackup(["key", "add", "--new-password-file"]).arg(&other).run().success().says("Added the key");
    let listed = keys(&home);
    assert_eq!(listed.len(), 2);
    for key in &listed {
        for name in ["id", "userName", "hostName", "created"] {
            assert!(key[name].is_string(), "{name}: {key}");
        }
    }
    let restic = Restic::new(&home);
    let _ = restic.call(["snapshots", "--no-lock"]).env("RESTIC_PASSWORD_FILE", &other).run().success();
    let text = restic.call(["key", "list", "--json", "--no-lock"]).run().success().text();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap().len(), 2);

    let id = |current: bool| listed.iter().find(|key| key["current"] == current).unwrap()["id"].as_str().unwrap();
    let _ = home.bbackup(["key", "remove", id(true)]).run().exits(1).says("in use").says("key passwd");
    let _ = home.bbackup(["key", "remove", "zz"]).run().exits(1).says("No key matches").says("key list");
    let _ = home.bbackup(["key", "remove", ""]).run().exits(1);
    assert_eq!(keys(&home).len(), 2);
    // With the second one in use it is the first that may go.
    let _ = with(&home, &other, &["key", "remove", id(false)]).exits(1);
    let _ = with(&home, &other, &["key", "remove", &id(true)[..16]]).success();
    let _ = home.bbackup(["snapshots"]).run().exits(12);
    let _ = with(&home, &other, &["key", "remove", id(false)]).exits(1);
    assert_eq!(files_below(&home.repository().join("keys")).len(), 1);
    let _ = with(&home, &other, &["snapshots"]).success();
}

#[test]
fn a_changed_password_is_the_only_one() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("file"), b"content");
    let _ = home.back_up(&folder);
    let third = password(&home, "third", "from a variable");
    let second = home.bbackup(["key", "passwd", "--new-password-command", "echo from a command"]).run().success();
    let _ = second.says("put the new one there");
    let _ = home.bbackup(["snapshots"]).run().exits(12);
    let command = ["--password-command", "echo from a command"];
    let _ = home
        .bare(["key", "passwd", "--new-password-env", "NEW_ONE", "--repo"])
        .arg(home.repository())
        .args(command)
        .env("NEW_ONE", "from a variable")
        .run()
        .success();
    assert_eq!(files_below(&home.repository().join("keys")).len(), 1);
    let _ = with(&home, &third, &["check", "--read-data"]).success();
    let restic = Restic::new(&home);
    let _ = restic.call(["check", "--read-data", "--no-cache"]).env("RESTIC_PASSWORD_FILE", &third).run().success();
    let refused = restic.call(["snapshots", "--no-lock"]).run();
    assert_ne!(refused.code(), Some(0));
    // The new key is for the eyes of its owner.
    let key = files_below(&home.repository().join("keys")).remove(0);
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn a_new_password_that_is_none_changes_nothing() {
    let home = Home::with_repository();
    let empty = password(&home, "empty", "");
    let before = files_below(&home.repository());
    for verb in ["add", "passwd"] {
        // Nobody can be asked here.
        let _ = home.bbackup(["key", verb]).run().exits(1).says("--new-password-file");
        let _ = home.bbackup(["key", verb, "--new-password-file"]).arg(&empty).run().exits(2).says("empty");
        let _ = home.bbackup(["key", verb, "--new-password-file"]).arg(home.path("absent")).run().exits(2);
        let _ = home.bbackup(["key", verb, "--new-password-env", "NOT_SET"]).run().exits(2);
        let _ = home.bbackup(["key", verb, "--new-password-command", "false"]).run().exits(2);
        let _ = home.bbackup(["key", verb, "--new-password-env", "A", "--new-password-command", "true"]).run().exits(1);
    }
    assert_eq!(files_below(&home.repository()), before);
    assert!(home.locks().is_empty());
}

#[test]
fn keys_go_only_while_nobody_else_is_at_work() {
    let home = Home::with_repository();
    let other = password(&home, "other", "a second one");
    let folder = home.make_folder("tree");
    tree::write(&folder.join("file"), &tree::noise(78, 60_000_000));
    let mut backup = home.bbackup(["backup", "--json", "--paths"]).arg(&folder).spawn();
    backup.until("its lock", || !home.locks().is_empty());
    backup.signal(Signal::STOP);
    let _ = home.bbackup(["key", "add", "--new-password-file"]).arg(&other).run().success();
    let spare = keys(&home).into_iter().find(|key| key["current"] == false).unwrap()["id"].as_str().unwrap().to_owned();
    let _ = home.bbackup(["key", "remove", &spare]).run().exits(11);
    let _ = home.bbackup(["key", "passwd", "--new-password-file"]).arg(&other).run().exits(11);
    assert_eq!(keys(&home).len(), 2);
    backup.signal(Signal::CONT);
    let _ = backup.wait().success();
    let _ = home.bbackup(["key", "remove", &spare]).run().success();
}

#[test]
fn a_dry_run_over_keys_and_locks_changes_nothing_and_says_what_it_would() {
    needs!(Part::Restic);
    let home = Home::with_repository();
    let other = password(&home, "other", "a second one");
    let _ = home.bbackup(["key", "add", "--new-password-file"]).arg(&other).run().success();
    let listed = keys(&home);
    let id = |current: bool| listed.iter().find(|key| key["current"] == current).unwrap()["id"].as_str().unwrap();
    // A lock of a process that is gone.
    let folder = home.make_folder("tree");
    tree::write(&folder.join("file"), &tree::noise(79, 60_000_000));
    let mut backup = home.bbackup(["backup", "--json", "--paths"]).arg(&folder).spawn();
    backup.until("its lock", || !home.locks().is_empty());
    backup.signal(Signal::KILL);
    let _ = backup.wait();
    let lock = home.locks().remove(0).file_name().unwrap().to_str().unwrap().to_owned();
    let third = password(&home, "third", "a third one");
    let third = third.to_str().unwrap();

    let before = Manifest::of(&home.repository());
    let data = |words: &[&str]| {
        let outcome = home.bbackup(words).args(["--dry-run", "--json"]).run().success();
        let data = outcome.json_lines().pop().unwrap()["data"].clone();
        assert_eq!(data["dry_run"], true, "{words:?}");
        before.assert_equals(&Manifest::of(&home.repository()));
        data
    };
    let added = data(&["key", "add", "--new-password-file", third]);
    assert_eq!((&added["id"], &added["added"]), (&Value::Null, &Value::Null));
    let changed = data(&["key", "passwd", "--new-password-file", third]);
    assert_eq!((&changed["added"], &changed["removed"]), (&Value::Null, &Value::from(id(true))));
    assert_eq!(data(&["key", "remove", &id(false)[..12]])["removed"], id(false));
    let locks = data(&["unlock"]);
    assert_eq!((&locks["removed"], &locks["locks"][0]["id"]), (&Value::from(0), &Value::from(lock.clone())));
    assert!(locks["locks"][0]["holder"]["pid"].as_u64().is_some_and(|pid| pid > 1), "{locks}");
    let _ = home.bbackup(["unlock", "--dry-run"]).run().success().says(&lock[..8]).says("1 lock would be removed");

    // What could not be done is refused as it would be.
    let _ = home.bbackup(["key", "remove", "--dry-run", id(true)]).run().exits(1).says("in use");
    let _ = home.bbackup(["key", "add", "--dry-run", "--new-password-file"]).arg(home.path("absent")).run().exits(2);
    let _ = with(&home, &PathBuf::from(third), &["key", "list"]).exits(12);
    before.assert_equals(&Manifest::of(&home.repository()));
    let removed = home.bbackup(["unlock", "--json"]).run().success().json_lines().pop().unwrap();
    assert_eq!((&removed["data"]["removed"], &removed["data"]["locks"]), (&Value::from(1), &locks["locks"]));
    assert!(home.locks().is_empty());
}

#[test]
fn a_dry_run_of_init_makes_nothing() {
    let home = Home::new();
    let planned = home.bbackup(["init", "--dry-run", "--json"]).run().success().json_lines().pop().unwrap();
    assert_eq!((&planned["data"]["dry_run"], &planned["data"]["new_key"]), (&Value::from(true), &Value::Null));
    assert_eq!(planned["data"]["location"], home.repository().to_str().unwrap());
    assert!(!home.repository().exists());
    // The one that nobody configured comes with a key.
    let _ = home.bare(["init", "-n"]).run().success().says("would be made").says("repository.key");
    assert!(files_below(&home.path("config")).is_empty() && files_below(&home.path("data")).is_empty());
    let _ = home.bbackup(["init"]).run().success();
    let _ = home.bbackup(["init", "--dry-run"]).run().exits(1).says("lready");
    // What is left of one is not taken for nothing.
    let folder = home.make_folder("tree");
    tree::write(&folder.join("file"), b"x");
    let _ = home.back_up(&folder);
    fs::remove_file(home.repository().join("config")).unwrap();
    let refused = home.bbackup(["init", "--dry-run"]).run();
    assert_eq!(refused.code(), home.bbackup(["init"]).run().code());
    assert_ne!(refused.code(), Some(0));
}

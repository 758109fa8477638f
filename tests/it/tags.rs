//! Tags and pins of snapshots, as restic sees them too.

use std::fs;

use serde_json::{Value, json};

use crate::support::home::{Home, files_below};
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::tree;

/// A repository with one snapshot of a folder with the tag `mine`.
fn made() -> (Home, std::path::PathBuf, String) {
    let home = Home::with_repository();
    let folder = home.make_folder("tree");
    tree::write(&folder.join("file"), &tree::noise(5, 100_000));
    let outcome = home.bbackup(["backup", "--json", "--tag", "mine", "--paths"]).arg(&folder).run().success();
    let id = crate::support::home::Summary::of(&outcome).snapshot;
    (home, folder, id)
}

fn changed(home: &Home, words: &[&str]) -> Value {
    let outcome = home.bbackup(words).args(["--json"]).run().success();
    outcome.json_lines().pop().unwrap()["data"].clone()
}

fn tags(snapshot: &Value) -> Vec<&str> {
    let tags = snapshot["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    tags.iter().map(|tag| tag.as_str().unwrap()).filter(|tag| !tag.starts_with("run:")).collect()
}

#[test]
fn tags_change_and_the_first_id_stays_known() {
    needs!(Part::Restic);
    let (home, folder, first) = made();
    let restic = Restic::new(&home);
    let before = restic.snapshots().remove(0);
    let data = changed(&home, &["tag", "--add", "a,b", "--remove", "mine", &first[..10]]);
    assert_eq!((&data["changed_snapshots"], &data["changed"][0]["old_snapshot_id"]), (&json!(1), &json!(first)));
    let second = data["changed"][0]["new_snapshot_id"].as_str().unwrap().to_owned();
    let mut now = restic.snapshots();
    assert_eq!(now.len(), 1);
    let mut now = now.remove(0);
    assert_eq!((&now["id"], &now["original"], tags(&now)), (&json!(second), &json!(first), vec!["a", "b"]));
    let third = changed(&home, &["tag", "--set", "c", "latest"])["changed"][0]["new_snapshot_id"].as_str().unwrap().to_owned();
    now = restic.snapshots().remove(0);
    assert_eq!((&now["id"], &now["original"], tags(&now)), (&json!(third), &json!(first), vec!["c"]));
    // Nothing else changed, and restic goes on from there.
    for key in ["time", "tree", "paths", "hostname", "username"] {
        assert_eq!(now[key], before[key], "{key}");
    }
    let _ = restic.call(["tag", "--add", "theirs", &third]).run().success();
    let data = changed(&home, &["tag", "--set", "", "--tag", "theirs"]);
    let last = data["changed"][0]["new_snapshot_id"].as_str().unwrap().to_owned();
    let now = restic.snapshots().remove(0);
    assert_eq!((&now["original"], tags(&now)), (&json!(first), vec![]));
    restic.check();
    home.assert_restores(&last, &folder, "restored");
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let (home, _, id) = made();
    let before = files_below(&home.repository());
    let data = changed(&home, &["tag", "--add", "mine", &id]);
    assert_eq!((&data["changed_snapshots"], &data["unchanged_snapshots"]), (&json!(0), &json!(1)));
    let data = changed(&home, &["tag", "--add", "new", &id, "--dry-run"]);
    assert_eq!(data["snapshots"][0]["after"].as_array().unwrap().last(), Some(&json!("new")));
    for words in [
        &["tag", "--add", "new", "0000"][..],
        &["tag", "--add", "new", &id, "zz"],
        &["tag", "--add", "new"],
        &["tag", &id],
        &["tag", "--add", "app:other", &id],
        &["tag", "--remove", "partial", &id],
        &["tag", "--add", "a", "--set", "b", &id],
        &["pin"],
        &["pin", "0000"],
    ] {
        let _ = home.bbackup(words).run().exits(1);
    }
    assert_eq!(files_below(&home.repository()), before);
}

#[test]
fn pinned_snapshots_stay_for_restic_too() {
    needs!(Part::Restic);
    let (home, folder, first) = made();
    let pinned = changed(&home, &["pin", &first])["changed"][0]["new_snapshot_id"].as_str().unwrap().to_owned();
    for number in 0..3 {
        fs::write(folder.join("file"), [number]).unwrap();
        let _ = home.back_up(&folder);
    }
    let _ = home.bbackup(["forget", "--keep-last", "1", "--prune"]).run().success();
    let restic = Restic::new(&home);
    assert_eq!(restic.snapshots().len(), 2);
    let _ = restic.call(["forget", "--keep-last", "1", "--keep-tag", "pinned", "--group-by", "host"]).run().success();
    assert!(restic.snapshots().iter().any(|one| one["id"] == *pinned));
    let listed = home.bbackup(["snapshots"]).run().success();
    assert!(listed.text().contains("pinned"), "{}", listed.describe());
    let _ = home.bbackup(["unpin", &pinned]).run().success();
    let _ = home.bbackup(["forget", "--keep-last", "1"]).run().success();
    assert_eq!(restic.snapshots().len(), 1);
    restic.check();
}

//! A host with more than thirty containers of all kinds is saved, wiped and brought back, and then everything is compared.

#![expect(clippy::print_stdout, reason = "how long each part took, for those who look")]

mod databases;
mod host;
mod picture;
mod table;

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use self::databases::DATABASES;
use self::host::Host;
use self::picture::Picture;
use self::table::{CONTAINERS, Runs};
use crate::support::home::{Home, find_restored};
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::run::Outcome;
use crate::support::tree;

#[test]
fn a_whole_host_is_lost_and_comes_back() {
    needs!(Part::Engine, Part::Restic, Part::Postgres, Part::MariaDb, Part::Redis);
    let start = Instant::now();
    let told = |what: &str| println!("{:6.1} s: {what}", start.elapsed().as_secs_f64());
    let home = Home::with_repository();
    let host = Host::build(&home);
    host.wait_for_health("wiki-sick-1", "unhealthy");
    for name in ["shop-db-1", "shop-cache-1", "shop-web-1", "wiki-db-1"] {
        host.wait_for_health(name, "healthy");
    }
    told("the host is built");
    let old_rows = host.old_rows.clone();
    let before = Picture::of(&host);
    assert!(before.containers.len() >= 30 && before.containers.len() == CONTAINERS.iter().map(|rows| rows.len()).sum::<usize>());
    told("looked at");

    // Nothing on this host is a reason for a warning.
    let saved = host.stage.bbackup(["backup", "--all", "--json"]).run().success();
    told("saved");
    let (mut notes, warnings) = said(&saved);
    assert!(warnings.is_empty(), "{warnings:#?}");
    notes.retain(|note| !NOTES.iter().any(|known| note.starts_with(known)));
    assert!(notes.is_empty(), "{notes:#?}");
    for (name, health) in before.health() {
        host.wait_for_health(name, health);
    }
    let meanwhile = Picture::of(&host);
    assert_eq!((before.states(), before.health()), (meanwhile.states(), meanwhile.health()), "the host is not as it was before its backup");
    let differences = before.differences(&meanwhile);
    assert!(differences.is_empty(), "after the backup:\n{}", differences.join("\n"));
    Restic::new(&home).check();
    told("checked");

    host.wipe();
    // What bbackup itself had on the lost machine is lost, too.
    for folder in ["state", "cache", "data", "config"] {
        fs::remove_dir_all(home.path(folder)).unwrap();
    }
    told("wiped");
    let restored = host.stage.bbackup(["restore", "latest", "--all", "--json"]).run().exits(4);
    told("restored");
    let envelope = restored.json_lines().pop().unwrap();
    let wanted = json!(["volume memory lives in memory: it is made, and its files are not restored"]);
    assert_eq!(envelope["data"]["preview"]["warnings"], wanted, "{}", restored.describe());
    assert_eq!(envelope["data"]["status"]["warnings"], 1, "{}", restored.describe());
    for (name, health) in before.health() {
        host.wait_for_health(name, health);
    }
    for (name, runs) in DATABASES.iter().filter(|(name, _)| before.states()[name] == "running") {
        databases::wait(&host.stage, name, *runs);
    }
    let after = Picture::of(&host);
    let differences = before.differences(&after);
    assert!(differences.is_empty(), "{} difference(s):\n{}", differences.len(), differences.join("\n"));
    assert_eq!(host.front_page(), "the shop is open\n");
    assert_eq!(host.resolve("shop-cache-1", "database"), "10.91.2.10");
    // What had been stopped has kept what was in it, too.
    host.stage.ok(["start", "old-cache"]);
    databases::wait(&host.stage, "old-cache", Runs::Redis);
    assert_eq!(databases::rows(&host.stage, "old-cache", Runs::Redis), old_rows);
    host.stage.ok(["stop", "old-cache"]);
    files_of_the_machine_are_saved(&home, &host);
    told("compared");
    comparison_sees_a_difference(&before, &host);
    told("everything");
}

/// How every note begins that this host is a reason for.
const NOTES: &[&str] = &[
    // The volumes with options.
    "volumes that were read through a helper lack: extended attributes",
    "temporary: paused instead of stopped: stopping removes it",
];

/// All notes and all warnings of a backup.
fn said(saved: &Outcome) -> (Vec<String>, Vec<String>) {
    let envelope = saved.json_lines().pop().unwrap();
    let applications = envelope["data"]["runs"][0]["applications"].as_array().unwrap();
    let all = |field: &str| -> Vec<String> {
        let texts = applications.iter().flat_map(|application| application[field].as_array().unwrap());
        texts.map(|text| text.as_str().map_or_else(|| text.to_string(), str::to_owned)).collect()
    };
    (all("notes"), all("warnings"))
}

/// Compose's files are nothing that the Engine makes again: they come out of the snapshots as files. And of the machine nothing is saved but
/// what is the applications' own.
fn files_of_the_machine_are_saved(home: &Home, host: &Host<'_>) {
    let srv = home.path("srv");
    for project in ["shop", "wiki", "metrics"] {
        let tag = format!("app:{project}");
        let (path, target) = (format!("/docker/{project}/compose"), home.path(format!("compose-of-{project}")));
        let _ = host.stage.bbackup(["restore", "latest", "--tag", &tag, "--path", &path, "--to"]).arg(&target).run().success();
        for name in ["compose.yaml", ".env", "more.env"] {
            let saved = fs::read(find_restored(&target, Path::new(&path)).join(name)).unwrap();
            assert_eq!(saved, fs::read(home.path("compose-before").join(project).join(name)).unwrap(), "{name} of {project}");
        }
        let listed = host.stage.bbackup(["ls", "latest", "--tag", &tag]).run().success().text();
        assert!(listed.contains("/containers/"), "{listed}");
        for path in listed.lines().filter_map(|line| line.split_once("/binds/")).map(|(_, path)| Path::new("/").join(path)) {
            assert!(path.starts_with(&srv) || srv.starts_with(&path), "{} is in the snapshot of {project}", path.display());
        }
    }
}

/// A comparison that sees nothing proves nothing.
fn comparison_sees_a_difference(before: &Picture, host: &Host<'_>) {
    let link = host.files_of("unused_files").join("links/dangling");
    tree::set_mtime(&link, 1, 1);
    fs::write(&host.mounted()[2], "changed").unwrap();
    host.stage.ok(["update", "--memory", "200m", "--memory-swap", "200m", "shop-web-1"]);
    host.stage.ok(["network", "disconnect", "wiki_default", "wiki-export-1"]);
    let found = before.differences(&Picture::of(host)).join("\n");
    for words in [
        "volume unused_files: links/dangling: mtime",
        "one-file: (root): content",
        "shop-web-1: HostConfig.Memory:",
        "wiki-export-1: Networks:",
    ] {
        assert!(found.contains(words), "`{words}` was not seen:\n{found}");
    }
}

//! Containers are kept still for a backup by the real program, and come back whatever happens to it, to them and to the Engine.
//!
//! The guard alone, without a backup around it, is tested in `docker_write::quiesce`.

mod around;
mod calls;
mod hooks;
mod kills;
mod ourselves;
mod visitors;

use std::path::PathBuf;

use serde_json::Value;

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::{Home, files_below};
use crate::support::tree;

/// A shell that ends as soon as it is asked to, and one that never does.
const POLITE: &str = "trap exit TERM; while :; do sleep 0.1; done";
const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.1; done";

/// A container that runs, with a volume of some megabytes; where its files are.
fn start(stage: &Stage<'_>, name: &str, megabytes: usize, options: &[&str], script: &str) -> PathBuf {
    let (name, volume) = (stage.name(name), stage.name(&format!("{name}-data")));
    if !stage.exists("volume", &volume) {
        stage.ok(["volume", "create", &volume]);
    }
    let folder = stage.mountpoint(&volume);
    tree::write(&folder.join("noise"), &tree::noise(4, megabytes * 1_000_000));
    let mount = format!("{volume}:/data");
    stage.ok([&["run", "-d", "--name", &name, "-v", &mount][..], options, &[BUSYBOX, "sh", "-c", script]].concat());
    folder
}

fn state(stage: &Stage<'_>, name: &str) -> String {
    stage.ok(["inspect", "--format", "{{.State.Status}}", &stage.name(name)])
}

/// Journals in the home's state folder.
fn journals(home: &Home) -> Vec<PathBuf> {
    let mut files = files_below(&home.path("state"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "journal"));
    files
}

/// The `application.json` of the newest snapshot of an application, whole or not.
fn document(stage: &Stage<'_>, run: &Value) -> Value {
    let snapshot = run["snapshot"].as_str().unwrap();
    let path = format!("/docker/{}/application.json", run["application"].as_str().unwrap());
    serde_json::from_slice(&stage.bbackup(["dump", snapshot, &path]).run().success().stdout).unwrap()
}

/// What `backup --json` says of its only application.
fn application(outcome: &crate::support::run::Outcome) -> Value {
    outcome.json_lines().pop().unwrap()["data"]["runs"][0]["applications"][0].clone()
}

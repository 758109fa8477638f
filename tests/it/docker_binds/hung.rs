//! File systems that do not answer: compose files, coverage and restores name them, and wait for them no longer than a backup does.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::{mount, start};
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::mounted::Hung;
use crate::support::parts::{Part, needs};
use crate::support::run::Program;

/// How long nobody answers, and by when that must have been told.
const SILENCE: Duration = Duration::from_secs(75);
const SOON: Duration = Duration::from_secs(45);

/// Runs bbackup until it has said these words, and gives all that it has said by then. The process itself stays until it has its answers,
/// whatever it does.
#[track_caller]
fn says_soon(program: Program, words: &str) -> String {
    let began = Instant::now();
    let mut running = program.spawn();
    while !running.so_far().contains(words) {
        assert!(running.is_running(), "it ended without saying `{words}`:\n{}", running.so_far());
        assert!(began.elapsed() < SOON, "it does not say `{words}`:\n{}", running.so_far());
        thread::sleep(Duration::from_millis(50));
    }
    running.so_far()
}

#[test]
fn compose_files_are_named_and_the_rest_is_saved() {
    needs!(Part::Root, Part::Engine, Part::Program("fusermount3"));
    let home = Home::with_repository();
    let stage = Stage::alone(&home, "hungfiles");
    let (data, point) = (home.make_folder("data"), home.make_folder("point"));
    fs::write(data.join("file"), "x").unwrap();
    let project = point.join("project");
    let label = |key: &str, value: &str| format!("com.docker.compose.{key}={value}");
    let files = ["a.yaml", "b.yaml"].map(|name| project.join(name).display().to_string());
    let labels = [
        label("project", &stage.name("shop")),
        label("project.working_dir", project.to_str().unwrap()),
        label("project.config_files", &files.join(",")),
    ];
    start(&stage, "app", &labels, &[mount(&data, "/data")]);
    let _hung = Hung::new(&point, SILENCE);
    let outcome = stage.bbackup(["backup", "--json", "--containers", &stage.name("app")]).run().exits(4);
    let took = outcome.messages("summary").pop().unwrap()["total_duration"].as_f64().unwrap();
    assert!(took < SOON.as_secs_f64(), "it waited for {took} s: {}", outcome.describe());
    let result = outcome.json_lines().pop().unwrap()["data"]["runs"][0]["applications"][0].clone();
    for file in files {
        let told = format!("compose file {file} is not saved: its file system does not answer");
        assert!(result["warnings"].to_string().contains(&told), "{result}");
    }
    assert!(!result["items"].to_string().contains("failed"), "{result}");
}

#[test]
fn coverage_names_them_and_says_the_rest() {
    needs!(Part::Root, Part::Engine, Part::Program("fusermount3"));
    let home = Home::with_repository();
    let stage = Stage::alone(&home, "hungcover");
    let point = home.make_folder("point");
    let (far, path) = (point.join("far"), point.join("of-a-set"));
    stage.ok(["create", "--name", &stage.name("app"), "-v", &mount(&far, "/far"), BUSYBOX, "true"]);
    let sets = format!("sets:\n  a: {{containers: [\"*\"], exclude_if_present: [x]}}\n  b: {{paths: [{}]}}\n", path.display());
    fs::write(home.path("config.yaml"), sets).unwrap();
    let _hung = Hung::new(&point, SILENCE);
    let coverage = stage.bbackup(["coverage", "--json", "--config"]).arg(home.path("config.yaml"));
    let said = says_soon(coverage, "schema_version");
    assert!(said.contains(&format!("{}: its file system does not answer", path.display())), "{said}");
    assert!(said.contains(far.to_str().unwrap()) && said.contains("\"unprotected\":[]"), "{said}");
}

#[test]
fn a_restore_that_would_touch_them_is_refused_with_all_else_that_is_in_the_way() {
    needs!(Part::Root, Part::Engine, Part::Program("fusermount3"));
    let home = Home::with_repository();
    let stage = Stage::alone(&home, "hungrestore");
    let point = home.make_folder("point");
    let data = home.make_folder("point/data");
    fs::write(data.join("file"), "x").unwrap();
    let name = stage.name("app");
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &mount(&data, "/data"), BUSYBOX, "sleep", "1000"]);
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    stage.ok(["stop", &name]);
    let _hung = Hung::new(&point, SILENCE);
    let said = says_soon(stage.bbackup(["restore", "latest", "--container", &name]), "nothing was changed");
    assert!(said.contains(&format!("container {name} needs {}, and the file system there does not answer", data.display())), "{said}");
    assert!(said.contains(&format!("container {name} exists already")), "{said}");
}

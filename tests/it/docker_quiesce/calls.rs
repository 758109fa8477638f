//! What the Engine is asked for while containers are kept still: with which times, how often, and what is said where it cannot be.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{POLITE, journals, start, state};
use crate::support::engine::Stage;
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};

#[test]
fn the_time_to_stop_that_was_asked_for_reaches_the_engine() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "stoptime");
    start(&stage, "plain", 1, &[], POLITE);
    start(&stage, "labelled", 1, &["--label", "bbackup.stop-timeout=3s"], POLITE);
    let stops = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&stops);
    let proxy = Proxy::start(&home.path("proxy.sock"), &stage.engine().host(), move |line| {
        if line.starts_with("POST ") && line.contains("/stop") {
            seen.lock().unwrap().push(line.trim_end_matches(" HTTP/1.1").to_owned());
        }
        Action::Pass
    });
    let config = home.path("config.yaml");
    let names = ["plain", "labelled"].map(|name| stage.name(name));
    let ids = names.clone().map(|name| stage.ok(["inspect", "--format", "{{.Id}}", &name]));
    // The label beats the configuration; without either it is the container's own time, of which the Engine knows.
    for (text, expected) in [("docker: {stop_timeout: 7s}\n", ["/stop?t=7", "/stop?t=3"]), ("docker: {}\n", ["/stop", "/stop?t=3"])] {
        fs::write(&config, text).unwrap();
        let backup = ["backup", "--containers", &names.join(",")];
        let _ = stage.bbackup(["--config"]).arg(&config).args(backup).env("DOCKER_HOST", proxy.host()).run().success();
        let stops = std::mem::take(&mut *stops.lock().unwrap());
        assert_eq!(stops.len(), 2, "{stops:?}");
        for (id, end) in ids.iter().zip(expected) {
            assert!(stops.iter().any(|line| line.ends_with(&format!("/containers/{id}{end}"))), "{end} is not in {stops:?}");
        }
    }
}

#[test]
fn a_start_that_fails_is_tried_four_times() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "fourtimes");
    start(&stage, "app", 1, &[], POLITE);
    let (fails, tries) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
    let (left, counted) = (Arc::clone(&fails), Arc::clone(&tries));
    let proxy = Proxy::start(&home.path("proxy.sock"), &stage.engine().host(), move |line| {
        let is_start = line.starts_with("POST ") && line.contains("/start");
        if is_start && counted.fetch_add(1, Ordering::SeqCst) < left.load(Ordering::SeqCst) { Action::Fail } else { Action::Pass }
    });
    let backup = || stage.bbackup(["backup", "--containers", &stage.name("app")]).env("DOCKER_HOST", proxy.host()).run();
    let lost = format!("container {} was running before the backup and could not be started again", stage.name("app"));
    let outcome = backup().exits(1).says("layer is lost");
    let errors = outcome.errors();
    let last: Vec<&str> = errors.lines().rev().take(2).collect();
    assert!(last[1].starts_with("error: ") && last[1].contains(&lost) && last[0].starts_with("hint: Start it by hand"), "{errors}");
    assert_eq!((tries.load(Ordering::SeqCst), state(&stage, "app").as_str()), (4, "exited"));
    assert_eq!(journals(&home).len(), 1, "it is tried again at the next start");
    let _ = stage.bbackup(["recover"]).run().success().says("runs again");
    assert_eq!(state(&stage, "app"), "running");
    // The fourth is as good as the first.
    tries.store(0, Ordering::SeqCst);
    fails.store(3, Ordering::SeqCst);
    let _ = backup().success().says_nothing_of("could not be started");
    assert_eq!((tries.load(Ordering::SeqCst), state(&stage, "app").as_str()), (4, "running"));
    assert!(journals(&home).is_empty());
}

#[test]
fn one_that_ends_right_after_its_start_is_told_last_and_tried_again() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "endsagain");
    let folder = start(&stage, "app", 1, &[], &format!("if [ -e /data/bad ]; then sleep 0.3; exit 7; fi; {POLITE}"));
    start(&stage, "other", 1, &[], POLITE);
    fs::write(folder.join("bad"), "").unwrap();
    let names = ["app", "other"].map(|name| stage.name(name)).join(",");
    let lost = format!("container {} was running before the backup and could not be started again", stage.name("app"));
    for parallel in ["1", "2"] {
        let outcome = stage.bbackup(["backup", "--json", "--parallel", parallel, "--containers", &names]).run().exits(1);
        let run = outcome.json_lines().pop().unwrap()["data"]["runs"][0].clone();
        for result in run["applications"].as_array().unwrap() {
            let is_down = result["application"] == stage.name("app");
            assert!(result["snapshot"].is_string() && result["downtime_seconds"].as_f64().unwrap() < 30.0, "{result}");
            assert_eq!(result["failures"].as_array().unwrap().len(), usize::from(is_down), "{result}");
            assert!(!is_down || result["failures"][0].as_str().unwrap().contains(&lost), "{result}");
        }
        assert_eq!((state(&stage, "app").as_str(), state(&stage, "other").as_str()), ("exited", "running"));
        assert_eq!(journals(&home).len(), 1, "it is tried again at the next start");
        // For people, and by the next start.
        let outcome = stage.bbackup(["backup", "--containers", &stage.name("other")]).run();
        let _ = outcome.says("cannot be started: it ended at once with exit code 7");
        let _ = stage.bbackup(["recover"]).run().exits(3).says("cannot be started: it ended at once with exit code 7");
        fs::remove_file(folder.join("bad")).unwrap();
        let _ = stage.bbackup(["recover"]).run().success().says("runs again");
        assert_eq!((state(&stage, "app").as_str(), journals(&home).len()), ("running", 0));
        fs::write(folder.join("bad"), "").unwrap();
    }
}

#[test]
fn one_that_keeps_restarting_is_not_paused_and_it_is_said() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "restarting");
    start(&stage, "app", 1, &["--restart", "always"], "exit 1");
    let name = stage.name("app");
    let look = || {
        let seen = stage.ok(["inspect", "--format", "{{.State.Status}} {{.RestartCount}}", &name]);
        let (status, count) = seen.split_once(' ').unwrap();
        (status.to_owned(), count.parse::<u32>().unwrap())
    };
    // The Engine waits twice as long each time; a backup that fell into the moment in which it ran proves nothing.
    let mut wanted = 5;
    let outcome = loop {
        assert!(wanted < 10, "no backup fits between two starts");
        while look().1 < wanted {
            std::thread::sleep(Duration::from_millis(20));
        }
        stage.wait_for_state(&name, "restarting");
        let before = look();
        let outcome = stage.bbackup(["backup", "--json", "--consistency", "pause", "--containers", &name]).run();
        if look() == before && before.0 == "restarting" {
            break outcome;
        }
        wanted = look().1 + 1;
    };
    let outcome = outcome.success().says(&format!("{name} keeps restarting and cannot be paused"));
    assert!(super::application(&outcome)["quiesced"].as_array().is_none_or(Vec::is_empty), "{}", outcome.describe());
    // To stop it ends the restarting, and it goes on as before.
    let _ = stage.bbackup(["backup", "--containers", &name]).run();
    assert!(matches!(state(&stage, "app").as_str(), "restarting" | "running"), "{:?}", look());
    assert!(journals(&home).is_empty());
}

#[test]
fn a_command_that_takes_too_long_on_another_machine_may_still_run_and_that_is_said() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "remotehook");
    let labels = ["--label", "bbackup.exec-pre=[\"sleep\", \"600\"]", "--label", "bbackup.exec-pre.timeout=1s"];
    start(&stage, "app", 1, &labels, POLITE);
    let remote = crate::support::proxy::over_tcp(&stage.engine().host());
    let backup = stage.bbackup(["backup", "--containers", &stage.name("app")]).env("DOCKER_HOST", remote);
    let _ =
        backup.run().exits(4).says("it did not end within 1 seconds; it, or what it started, may still run").says_nothing_of("was killed");
    let processes = stage.ok(["top", &stage.name("app"), "-eo", "pid,args"]);
    assert!(processes.contains("sleep 600"), "it was ended after all:\n{processes}");
}

#[test]
fn passwords_of_containers_are_nowhere_in_what_is_said() {
    const SECRET: &str = "hunter2-hunter2";
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "masked");
    let name = stage.name("app");
    let mut options = vec!["-e", "DB_PASSWORD=hunter2-hunter2", "-e", "API_TOKEN=hunter2-hunter2"];
    // It fails, and what it has printed is told.
    let pre = "bbackup.exec-pre=echo connecting with $DB_PASSWORD; echo $API_TOKEN was refused >&2; test ! -e /data/refuse";
    options.extend(["--label", pre]);
    let refuse = start(&stage, "app", 1, &options, POLITE).join("refuse");
    fs::write(&refuse, "").unwrap();
    let log = home.path("log");
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let proxy = Proxy::start(&home.path("proxy.sock"), &stage.engine().host(), move |line| {
        if fails.load(Ordering::SeqCst) && line.starts_with("POST ") && line.contains("/containers/create") {
            Action::Fail
        } else {
            Action::Pass
        }
    });
    let with = |words: &[&str]| stage.bbackup(words).arg("--log-file").arg(&log).env("DOCKER_HOST", proxy.host()).run();
    let mut said = Vec::new();
    for flags in [&["--json"][..], &["-vv"], &["--json", "-vv"], &["--dry-run", "-vv"], &["--quiet"]] {
        said.push(with(&[&["backup", "--containers", &name], flags].concat()));
    }
    assert!(
        said.iter().any(|outcome| outcome.text().contains("***") && outcome.text().contains("connecting with")),
        "the command is not told"
    );
    fs::remove_file(&refuse).unwrap();
    said.push(with(&["backup", "--json", "-vv", "--containers", &name]).success());
    for words in [&["list-containers", "--json"][..], &["list-containers", "-vv"], &["snapshots", "--json"], &["coverage", "--json"]] {
        said.push(with(words));
    }
    stage.remove_everything();
    said.push(with(&["restore", "latest", "--all", "--dry-run", "--json", "-vv"]));
    failing.store(true, Ordering::SeqCst);
    said.push(with(&["restore", "latest", "--all", "-vv"]));
    failing.store(false, Ordering::SeqCst);
    said.push(with(&["restore", "latest", "--all", "--json", "-vv"]));
    for outcome in said {
        let _ = outcome.says_nothing_of(SECRET);
    }
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.len() > 1000 && log.contains(&name) && !log.contains(SECRET), "{log}");
    // It was there to be said: it is saved, and comes back.
    let env = stage.ok(["inspect", "--format", "{{.Config.Env}}", &name]);
    assert!(env.contains("DB_PASSWORD=hunter2-hunter2"), "{env}");
}

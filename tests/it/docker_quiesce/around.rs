//! What others do meanwhile: containers that refuse, die, vanish or come back, another run, an Engine that restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{POLITE, STUBBORN, application, document, journals, start, state};
use crate::support::engine::{BUSYBOX, Engine, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};
use crate::support::run::{Outcome, Program, Running};

/// Starts a backup of `app` and stops the program in the middle of the read, when the container is in `held`.
fn in_the_middle(stage: &Stage<'_>, arguments: &[&str], held: &str) -> Running {
    let mut running = stage.bbackup(["backup", "--json", "--containers", &stage.name("app")]).args(arguments).spawn();
    running.hold_while_it_has_open(&stage.mountpoint(&stage.name("app-data")));
    assert_eq!(state(stage, "app"), held);
    running
}

fn go_on(running: Running) -> Outcome {
    running.signal(Signal::CONT);
    running.wait()
}

fn volume(document: &Value) -> Value {
    document["items"].as_array().unwrap().iter().find(|item| item["kind"] == "volume").unwrap().clone()
}

#[test]
fn one_that_refuses_to_stop_is_ended_after_its_time_and_the_time_down_is_told() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "stubborn");
    start(&stage, "app", 1, &["--stop-timeout", "120", "--label", "bbackup.stop-timeout=2s"], STUBBORN);
    let outcome = stage.bbackup(["backup", "--json", "--containers", &stage.name("app")]).run().success();
    let result = application(&outcome);
    let down = result["downtime_seconds"].as_f64().unwrap();
    assert!((2.0..60.0).contains(&down), "{result}");
    assert_eq!(outcome.messages("summary")[0]["downtime_seconds"], result["downtime_seconds"]);
    let document = document(&stage, &result);
    assert_eq!(document["downtime_seconds"], result["downtime_seconds"]);
    assert_eq!(document["quiesced"], result["quiesced"]);
    let record = &document["quiesced"][0];
    assert_eq!((&record["container"], &record["action"]), (&stage.name("app").into(), &"stop".into()));
    assert!(record["downtime_seconds"].as_f64().unwrap() <= down);
    // For people: what was down and for how long is in the table, with -v for each container.
    let name = stage.name("app");
    let _ = stage.bbackup(["backup", "-v", "--containers", &name]).run().success().says("down").says(&format!("{name} was stopped for"));
    assert_eq!(state(&stage, "app"), "running");
}

#[test]
fn a_volume_whose_container_was_started_meanwhile_is_not_whole() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "started");
    start(&stage, "app", 50, &[], POLITE);
    let running = in_the_middle(&stage, &[], "exited");
    stage.ok(["start", &stage.name("app")]);
    let outcome = go_on(running).exits(4).says("ran while it was read");
    let document = document(&stage, &application(&outcome));
    assert!(volume(&document).to_string().contains("\"partial\""), "{document}");
    assert_eq!(state(&stage, "app"), "running");

    // A new container with the same volume is no better.
    let running = in_the_middle(&stage, &["--full"], "exited");
    let mount = format!("{}:/data", stage.name("app-data"));
    stage.ok(["run", "-d", "--name", &stage.name("new"), "-v", &mount, BUSYBOX, "sleep", "1000"]);
    let _ = go_on(running).exits(4).says(&format!("container {} ran while it was read", stage.name("new")));
    stage.ok(["rm", "-f", &stage.name("new")]);
    // Nor is it if they have ended again by the end of the read.
    let running = in_the_middle(&stage, &["--full"], "exited");
    stage.ok(["start", &stage.name("app")]);
    stage.ok(["kill", &stage.name("app")]);
    let outcome = go_on(running).exits(4).says(&format!("container {} ran while it was read", stage.name("app")));
    assert!(volume(&super::document(&stage, &application(&outcome))).to_string().contains("\"partial\""), "{}", outcome.describe());
    assert_eq!(state(&stage, "app"), "running");
    let running = in_the_middle(&stage, &["--full"], "exited");
    stage.ok(["run", "--name", &stage.name("short"), "-v", &mount, BUSYBOX, "true"]);
    let _ = go_on(running).exits(4).says(&format!("container {} ran while it was read", stage.name("short")));
    // One that ended before we began is nobody's writer.
    let _ = stage.bbackup(["backup", "--json", "--full", "--containers", &stage.name("app")]).run().success();
    // Who only reads may.
    let running = in_the_middle(&stage, &["--full"], "exited");
    stage.ok(["run", "-d", "--name", &stage.name("reader"), "-v", &format!("{mount}:ro"), BUSYBOX, "sleep", "1000"]);
    let _ = go_on(running).success();
    assert!(journals(&home).is_empty());
}

#[test]
fn one_that_dies_or_vanishes_meanwhile_costs_nothing_else() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "dies");
    start(&stage, "app", 50, &["--label", "bbackup.pause=true"], POLITE);
    let running = in_the_middle(&stage, &[], "paused");
    stage.ok(["kill", "--signal", "KILL", &stage.name("app")]);
    let _ = go_on(running).exits(4).says("ended while it was paused, and was started again");
    assert_eq!(state(&stage, "app"), "running");
    assert!(journals(&home).is_empty());

    stage.ok(["rm", "-f", &stage.name("app")]);
    start(&stage, "app", 50, &[], POLITE);
    let running = in_the_middle(&stage, &["--full"], "exited");
    stage.ok(["rm", "-f", &stage.name("app")]);
    let outcome = go_on(running).success();
    let record = document(&stage, &application(&outcome))["quiesced"][0].clone();
    assert_eq!(record["note"], "somebody removed it while it was stopped");
    assert!(!stage.exists("container", &stage.name("app")), "it was made again");
    assert!(journals(&home).is_empty());
}

#[test]
fn what_swarm_runs_and_what_lives_in_memory_is_paused() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "swarm");
    start(&stage, "app", 1, &["--label", "com.docker.swarm.task.id=x", "--label", "bbackup.stop=true"], POLITE);
    stage.ok(["volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", &stage.name("ram")]);
    start(&stage, "memory", 1, &["-v", &format!("{}:/ram", stage.name("ram"))], POLITE);
    for name in ["app", "memory"] {
        let started = stage.ok(["inspect", "--format", "{{.State.StartedAt}}", &stage.name(name)]);
        let outcome = stage.bbackup(["backup", "--json", "--containers", &stage.name(name)]).run().success();
        let record = application(&outcome)["quiesced"][0].clone();
        assert_eq!(record["action"], "pause", "{record}");
        assert!(record["note"].as_str().unwrap().starts_with("paused instead of stopped"), "{record}");
        assert_eq!(stage.ok(["inspect", "--format", "{{.State.StartedAt}}", &stage.name(name)]), started);
        assert_eq!(state(&stage, name), "running");
    }
}

#[test]
fn priority_and_labels_of_others_count_for_what_is_chosen() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "labels");
    let project = stage.name("shop");
    let compose = ["--label", &format!("com.docker.compose.project={project}")];
    let shared = format!("{}:/shared", stage.name("a-data"));
    let part = |name: &str, label: &str| start(&stage, name, 1, &[&compose[..], &["-v", &shared, "--label", label]].concat(), POLITE);
    part("a", "bbackup.priority=300");
    part("b", "nautical-backup.group.g.priority=200");
    part("c", "x=y");
    part("d", "nautical-backup.stop-before-backup=false");
    part("e", "bbackup.priority=-1");
    start(&stage, "stranger", 1, &["--label", "docker-volume-backup.stop-during-backup=true", "--label", "bbackup.stop=maybe"], POLITE);
    let outcome = stage.bbackup(["backup", "--json", "--projects", &project]).run().success().says_nothing_of("stranger");
    let result = application(&outcome);
    let back: Vec<String> =
        result["quiesced"].as_array().unwrap().iter().map(|one| one["container"].as_str().unwrap().to_owned()).collect();
    assert_eq!(back, ["e", "c", "b", "a"].map(|name| stage.name(name)), "the last to be stopped is the first to be back");
    // A label beats the set, also where the set does nothing.
    let arguments = ["backup", "--json", "--consistency", "none", "--containers", &stage.name("stranger")];
    let outcome = stage.bbackup(arguments).run().exits(4).says("`maybe` is neither true nor false");
    assert_eq!(application(&outcome)["quiesced"][0]["action"], "stop");
}

#[test]
fn two_runs_over_one_container_leave_it_to_the_last() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let other = Home::with_repository();
    let stage = Stage::new(&home, "tworuns");
    start(&stage, "app", 50, &[], POLITE);
    let running = in_the_middle(&stage, &[], "exited");
    // One state folder, as on one machine; another repository, so that no lock keeps it waiting.
    let elsewhere =
        |program: Program| program.env("RESTIC_REPOSITORY", other.repository()).env("RESTIC_PASSWORD_FILE", other.password_file());
    let outcome = elsewhere(stage.bbackup(["backup", "--json", "--containers", &stage.name("app")])).run().success();
    // It runs, but for a while: what is made of this snapshot is started.
    let (path, result) = (format!("/docker/{}/application.json", stage.name("app")), application(&outcome));
    let saved = elsewhere(stage.bbackup(["dump", result["snapshot"].as_str().unwrap(), &path])).run().success().text();
    let saved: Value = serde_json::from_str(&saved).unwrap();
    assert_eq!(saved["application"]["containers"][0]["state"]["status"], "running", "{saved}");
    let note = application(&outcome)["quiesced"][0]["note"].as_str().unwrap().to_owned();
    assert!(note.starts_with("left to run "), "{note}");
    // Nor does it say that it would.
    let name = stage.name("app");
    let outcome = elsewhere(stage.bbackup(["backup", "--full", "-v", "--containers", &name])).run().success();
    let _ = outcome.says("left to run ").says_nothing_of(&format!("starting {name}"));
    assert_eq!(state(&stage, "app"), "exited", "the second run has started what the first one still reads");
    let _ = go_on(running).success();
    assert_eq!(state(&stage, "app"), "running");
    assert!(journals(&home).is_empty());
}

#[test]
fn an_engine_that_restarts_in_the_middle_costs_no_container() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let engine: &'static Engine = Box::leak(Box::new(Engine::start(&[])));
    let stage = Stage::on(&home, "restarts", engine);
    start(&stage, "app", 50, &[], POLITE);
    // Stopped by us, so the Engine does not start it again by itself.
    let running = in_the_middle(&stage, &[], "exited");
    engine.restart();
    std::thread::sleep(Duration::from_millis(1500));
    let outcome = go_on(running);
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    assert_eq!(state(&stage, "app"), "running", "{}", outcome.describe());
    assert!(journals(&home).is_empty());

    // While it is being stopped: the run fails or not, the container is back.
    stage.ok(["rm", "-f", &stage.name("app")]);
    start(&stage, "app", 1, &[], "trap 'sleep 3; exit' TERM; while :; do sleep 0.1; done");
    let mut running = stage.bbackup(["backup", "--json", "--full", "--containers", &stage.name("app")]).spawn();
    running.until("the stop to be under way", || !journals(&home).is_empty());
    std::thread::sleep(Duration::from_millis(500));
    engine.restart();
    let outcome = running.wait();
    assert_eq!(state(&stage, "app"), "running", "{}", outcome.describe());
    assert!(journals(&home).is_empty(), "{}", outcome.describe());
}

#[test]
fn an_engine_that_restarts_leaves_nothing_paused() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let engine: &'static Engine = Box::leak(Box::new(Engine::start(&[])));
    let stage = Stage::on(&home, "pausedrestart", engine);
    start(&stage, "app", 50, &["--label", "bbackup.pause=true"], POLITE);
    let running = in_the_middle(&stage, &[], "paused");
    engine.restart_and_wait();
    // An Engine ends what it had frozen, and it is not for it to start that again.
    let outcome = go_on(running);
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    assert_eq!(state(&stage, "app"), "running", "{}", outcome.describe());
    assert!(journals(&home).is_empty());

    // Killed in the same moment, it is brought back by the next start.
    let running = in_the_middle(&stage, &["--full"], "paused");
    running.signal(Signal::KILL);
    let _ = running.wait().killed_by(Signal::KILL);
    engine.restart_and_wait();
    assert_ne!(state(&stage, "app"), "running");
    let _ = stage.bbackup(["recover"]).run().success().says(&stage.name("app"));
    assert_eq!(state(&stage, "app"), "running");
    assert!(journals(&home).is_empty());
}

#[test]
fn an_engine_that_restarts_while_a_helper_reads_costs_only_that_volume() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let engine: &'static Engine = Box::leak(Box::new(Engine::start(&[])));
    let stage = Stage::on(&home, "helperrestart", engine);
    let name = bound(&stage, &home, &crate::support::tree::noise(4, 50_000_000));
    // The first stream waits until the program is held, and no later one comes through.
    let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counter, opened) = (Arc::clone(&asked), Arc::clone(&gate));
    let proxy = Proxy::start(&home.path("proxy.sock"), &engine.host(), move |line| {
        if !(line.starts_with("GET ") && line.contains("/archive")) {
            return Action::Pass;
        }
        if counter.fetch_add(1, Ordering::SeqCst) > 0 {
            return Action::Drop;
        }
        while !opened.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Action::Pass
    });
    let backup = || stage.bbackup(["backup", "--json", "--containers", &stage.name("app")]);
    let mut running = backup().env("DOCKER_HOST", proxy.host()).spawn();
    running.until("the helper to be read", || asked.load(Ordering::SeqCst) > 0);
    assert_eq!(state(&stage, "app"), "exited");
    // It ends before the stream has begun or while it waits for the program, which takes nothing of it.
    running.signal(Signal::STOP);
    gate.store(true, Ordering::SeqCst);
    engine.restart_and_wait();
    let outcome = go_on(running).exits(4).says_nothing_of("panicked").says(&format!("volume {name} is not saved"));
    let document = document(&stage, &application(&outcome));
    assert!(volume(&document).to_string().contains("\"failed\""), "{document}");
    assert_eq!(state(&stage, "app"), "running", "{}", outcome.describe());
    assert!(journals(&home).is_empty());
    let _ = backup().run().success();
    assert_eq!(stage.ok(["ps", "-aq", "--filter", "label=bbackup.helper"]), "", "a helper is left");
}

#[test]
fn an_engine_that_restarts_while_a_helper_reads_is_read_once_more() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let engine: &'static Engine = Box::leak(Box::new(Engine::start(&[])));
    let stage = Stage::on(&home, "readagain", engine);
    let noise = crate::support::tree::noise(4, 50_000_000);
    let name = bound(&stage, &home, &noise);
    // The first stream waits until the program is held; more of it is to come than fits into what lies between.
    let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counter, opened) = (Arc::clone(&asked), Arc::clone(&gate));
    let proxy = Proxy::start(&home.path("proxy.sock"), &engine.host(), move |line| {
        if line.starts_with("GET ") && line.contains("/archive") && counter.fetch_add(1, Ordering::SeqCst) == 0 {
            while !opened.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Action::Pass
    });
    let backup = stage.bbackup(["backup", "--json", "--containers", &stage.name("app")]);
    let mut running = backup.env("DOCKER_HOST", proxy.host()).spawn();
    running.until("the helper to be read", || asked.load(Ordering::SeqCst) > 0);
    running.signal(Signal::STOP);
    gate.store(true, Ordering::SeqCst);
    engine.restart_and_wait();
    let outcome = go_on(running).success();
    assert_whole(&stage, &outcome, &name, &noise);
}

#[test]
fn an_engine_that_is_ending_or_gone_when_a_helper_is_to_read_is_waited_for() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "ending");
    let noise = crate::support::tree::noise(4, 50_000);
    let name = bound(&stage, &home, &noise);
    // It is ending when the helper is to be made, three times; then it is gone; then it is another one.
    let (asked, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (makes, lost) = (Arc::clone(&asked), Arc::clone(&gone));
    let proxy = Proxy::start(&home.path("proxy.sock"), &stage.engine().host(), move |line| {
        let is_made = line.starts_with("POST ") && line.contains("/containers/create");
        match makes.fetch_add(usize::from(is_made), Ordering::SeqCst) {
            0..3 if is_made => Action::End,
            3.. if lost.load(Ordering::SeqCst) < 4 => {
                lost.fetch_add(1, Ordering::SeqCst);
                Action::Drop
            }
            _ => Action::Pass,
        }
    });
    let backup = |more: &[&str]| stage.bbackup(["backup", "--json", "--containers", &stage.name("app")]).args(more);
    let outcome = backup(&[]).env("DOCKER_HOST", proxy.host()).run().success();
    assert!(asked.load(Ordering::SeqCst) == 4 && gone.load(Ordering::SeqCst) == 4, "{}", outcome.describe());
    assert_whole(&stage, &outcome, &name, &noise);

    // One that is in trouble with this one thing, and says so, is not: containers would be down for nothing.
    let asked = Arc::new(AtomicUsize::new(0));
    let makes = Arc::clone(&asked);
    let proxy = Proxy::start(&home.path("trouble.sock"), &stage.engine().host(), move |line| {
        let is_made = line.starts_with("POST ") && line.contains("/containers/create");
        makes.fetch_add(usize::from(is_made), Ordering::SeqCst);
        if is_made { Action::Fail } else { Action::Pass }
    });
    let _ = backup(&["--full"]).env("DOCKER_HOST", proxy.host()).run().exits(4).says("layer is lost");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// A container with a volume that only a helper reads.
fn bound(stage: &Stage<'_>, home: &Home, noise: &[u8]) -> String {
    let (name, device) = (stage.name("app-data"), home.make_folder("device"));
    stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &format!("device={}", device.display()), &name]);
    crate::support::tree::write(&device.join("noise"), noise);
    let mount = format!("{name}:/data");
    stage.ok(["run", "-d", "--name", &stage.name("app"), "-v", &mount, BUSYBOX, "sh", "-c", POLITE]);
    name
}

#[track_caller]
fn assert_whole(stage: &Stage<'_>, outcome: &Outcome, volume_name: &str, noise: &[u8]) {
    let result = application(outcome);
    let document = document(stage, &result);
    assert!(volume(&document)["outcome"].to_string().contains("complete"), "{document}");
    let path = format!("/docker/{}/volumes/{volume_name}/noise", stage.name("app"));
    let saved = stage.bbackup(["dump", result["snapshot"].as_str().unwrap(), &path]).run().success();
    assert!(saved.stdout == noise, "{} bytes, not those that were there", saved.stdout.len());
    assert_eq!(state(stage, "app"), "running");
    assert_eq!(stage.ok(["ps", "-aq", "--filter", "label=bbackup.helper"]), "", "a helper is left");
}

#[test]
fn who_wrote_is_looked_at_once_the_engine_is_back_and_what_is_not_known_is_partial() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "gonelook");
    start(&stage, "app", 50, &[], POLITE);
    let name = stage.name("app");
    // 0: all is well; 1: there is no Engine; 2: it is in trouble with the list of containers.
    let (mood, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (rule, counter) = (Arc::clone(&mood), Arc::clone(&lost));
    let proxy = Proxy::start(&home.path("proxy.sock"), &stage.engine().host(), move |line| match rule.load(Ordering::SeqCst) {
        1 => {
            counter.fetch_add(1, Ordering::SeqCst);
            Action::Drop
        }
        2 if line.contains("/containers/json") => Action::Fail,
        _ => Action::Pass,
    });
    let held = || {
        let backup = stage.bbackup(["backup", "--json", "--full", "--containers", &name]).env("DOCKER_HOST", proxy.host());
        let mut running = backup.spawn();
        running.hold_while_it_has_open(&stage.mountpoint(&stage.name("app-data")));
        assert_eq!(state(&stage, "app"), "exited");
        running
    };
    // Whether somebody started it, as an Engine that restarts may do by itself, or nobody did.
    for started in [true, false] {
        let mut running = held();
        mood.store(1, Ordering::SeqCst);
        let before = lost.load(Ordering::SeqCst);
        running.signal(Signal::CONT);
        running.until("the Engine to be asked for in vain", || lost.load(Ordering::SeqCst) > before + 1);
        if started {
            stage.ok(["start", &name]);
            stage.ok(["kill", &name]);
        }
        mood.store(0, Ordering::SeqCst);
        let outcome = running.wait();
        let outcome = if started {
            outcome.exits(4).says(&format!("container {name} ran while it was read"))
        } else {
            outcome.success().says_nothing_of("ran while it was read")
        };
        let outcome_of = volume(&document(&stage, &application(&outcome)))["outcome"].to_string();
        assert!(outcome_of.contains(if started { "partial" } else { "complete" }), "{outcome_of}");
        assert_eq!(state(&stage, "app"), "running");
    }
    let running = held();
    mood.store(2, Ordering::SeqCst);
    let outcome = go_on(running).exits(4).says("whether a container was started while it was read cannot be seen");
    mood.store(0, Ordering::SeqCst);
    assert!(volume(&document(&stage, &application(&outcome))).to_string().contains("\"partial\""), "{}", outcome.describe());
    assert_eq!(state(&stage, "app"), "running");
    assert!(journals(&home).is_empty());
}

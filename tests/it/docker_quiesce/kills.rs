//! kill -9 at every step of stop, read and start, each repaired by what the boot unit runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{POLITE, STUBBORN, journals, start, state};
use crate::support::engine::Stage;
use crate::support::faults::Mount;
use crate::support::home::{Home, boot_unit_is_wanted};
use crate::support::parts::{self, Part, needs};
use crate::support::proxy::{Action, Proxy};

/// When a run is killed: at which of its requests, counted from the first that changes something, and whether the Engine gets it.
#[derive(Debug, Clone, Copy)]
struct Step {
    number: usize,
    arrives: bool,
}

/// Runs a backup through a proxy that kills it. Returns the request that it was killed at; none if it came to its end.
fn killed_at(home: &Home, stage: &Stage<'_>, names: &str, step: Step) -> Option<String> {
    let (pid, count) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicUsize::new(0)));
    let at = Arc::new(std::sync::Mutex::new(None));
    let socket = home.path(format!("kill-{}-{}.sock", step.number, step.arrives));
    let proxy = {
        let (pid, at) = (Arc::clone(&pid), Arc::clone(&at));
        Proxy::start(&socket, &stage.engine().host(), move |line| {
            // Nothing is done before the first command in a container is prepared.
            if count.load(Ordering::SeqCst) == 0 && !(line.starts_with("POST ") && line.contains("/exec")) {
                return Action::Pass;
            }
            if count.fetch_add(1, Ordering::SeqCst) != step.number {
                return Action::Pass;
            }
            while pid.load(Ordering::SeqCst) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            *at.lock().unwrap() = Some(line.to_owned());
            kill_process(Pid::from_raw(pid.load(Ordering::SeqCst)).unwrap(), Signal::KILL).unwrap();
            thread::sleep(Duration::from_millis(20));
            if step.arrives { Action::Pass } else { Action::Drop }
        })
    };
    let running = stage.bbackup(["backup", "--full", "--containers", names]).env("DOCKER_HOST", proxy.host()).spawn();
    pid.store(running.pid().cast_signed(), Ordering::SeqCst);
    let outcome = running.wait();
    let line = at.lock().unwrap().take();
    match &line {
        Some(_) => drop(outcome.killed_by(Signal::KILL)),
        None => drop(outcome.success()),
    }
    line
}

#[test]
fn nothing_stays_down_whenever_it_is_killed() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "steps");
    let device = home.make_folder("device");
    let options = ["--opt", "type=none", "--opt", "o=bind", "--opt", &format!("device={}", device.display())];
    // Read through a helper, so that the read has steps, too.
    stage.ok([&["volume", "create"][..], &options, &[&stage.name("stopped-data")]].concat());
    let hooks = ["--label", "bbackup.exec-pre=touch /on", "--label", "bbackup.exec-post=rm -f /on"];
    start(&stage, "stopped", 1, &hooks, POLITE);
    let shared = format!("{}:/shared", stage.name("stopped-data"));
    start(&stage, "paused", 1, &["-v", &shared, "--label", "bbackup.pause=true", "--label", "bbackup.priority=300"], POLITE);
    start(&stage, "fleeting", 1, &["--rm", "-v", &shared, "--label", "bbackup.priority=200"], POLITE);
    let all = ["stopped", "paused", "fleeting"];
    let name = stage.name("stopped");
    let mut steps = Vec::new();
    for arrives in [false, true] {
        for number in 0.. {
            assert!(number < 200, "there is no end of steps");
            // What only looks is the same whether or not it arrives.
            if arrives && steps.get(number).is_some_and(|line: &String| line.starts_with("GET ")) {
                continue;
            }
            let Some(line) = killed_at(&home, &stage, &name, Step { number, arrives }) else { break };
            if arrives {
                // What the Engine was told it does, also when nobody waits for it any more.
                thread::sleep(Duration::from_millis(300));
            }
            let outcome = stage.bbackup(["recover"]).run();
            let outcome = outcome.success();
            for container in all {
                assert_eq!(
                    state(&stage, container),
                    "running",
                    "{container} after a kill at step {number}, {line}\n{}",
                    outcome.describe()
                );
            }
            assert!(journals(&home).is_empty(), "step {number}, {line}: something is still to be done\n{}", outcome.describe());
            let on = stage.docker(["exec", &stage.name("stopped"), "test", "-e", "/on"]).run().code();
            assert_eq!(on, Some(1), "step {number}, {line}: exec-post has not run\n{}", outcome.describe());
            if !arrives {
                steps.push(line);
            }
        }
    }
    for needed in ["/stop", "/pause", "/unpause", "/start", "/archive", "/exec", "DELETE "] {
        assert!(steps.iter().any(|line| line.contains(needed)), "no step was {needed}: {steps:#?}");
    }
    assert!(stage.exists("container", &stage.name("fleeting")), "a --rm container was stopped");
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    let helpers =
        stage.ok(["ps", "-aq", "--filter", &format!("volume={}", stage.name("stopped-data")), "--filter", "label=bbackup.helper"]);
    assert!(helpers.is_empty(), "helpers of killed runs are left: {helpers}");
    stage.ok(["rm", "-f", &stage.name("fleeting")]);
}

/// The units in `assets/`, with the program where the test has it.
fn units(home: &Home) -> Vec<PathBuf> {
    let folder = home.make_folder("units");
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    let mut found = Vec::new();
    for entry in fs::read_dir(assets).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "service" || extension == "timer") {
            let text = fs::read_to_string(&path).unwrap().replace("/usr/local/bin/bbackup", env!("CARGO_BIN_EXE_bbackup"));
            let copy = folder.join(path.file_name().unwrap());
            fs::write(&copy, text).unwrap();
            found.push(copy);
        }
    }
    found
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    needs!(Part::Program("systemd-analyze"));
    let home = Home::new();
    let units = units(&home);
    assert!(units.iter().any(|path| path.ends_with("bbackup-recover.service")));
    let outcome = home.program(parts::program("systemd-analyze", "").unwrap()).arg("verify").args(&units).run().success();
    let about_ours: Vec<String> = outcome.errors().lines().filter(|line| line.contains("bbackup")).map(str::to_owned).collect();
    assert!(about_ours.is_empty(), "{about_ours:#?}");
}

#[test]
fn the_boot_unit_brings_back_what_was_left() {
    needs!(Part::Engine, Part::Program("systemd-analyze"));
    let home = Home::with_repository();
    let stage = Stage::new(&home, "boot");
    let folder = start(&stage, "app", 50, &[], POLITE);
    let mut running = stage.bbackup(["backup", "--containers", &stage.name("app")]).spawn();
    running.hold_while_it_has_open(&folder);
    running.signal(Signal::KILL);
    let _ = running.wait().killed_by(Signal::KILL);
    assert_eq!(state(&stage, "app"), "exited");
    assert!(boot_unit_is_wanted(&home), "systemd would pass over the unit");
    // An Engine that is not there yet: the unit tries again, so it has to fail.
    let _ = stage.bbackup(["recover"]).env("DOCKER_HOST", "unix:///nowhere.sock").run().exits(3).says("may have left");
    let unit = fs::read_to_string(units(&home).into_iter().find(|path| path.ends_with("bbackup-recover.service")).unwrap()).unwrap();
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some(env!("CARGO_BIN_EXE_bbackup")));
    let _ = stage.bbackup(words).run().success().says("runs again");
    assert_eq!(state(&stage, "app"), "running");
    assert!(journals(&home).is_empty());
    assert!(!boot_unit_is_wanted(&home), "systemd would run the unit for nothing");
}

#[test]
fn who_waits_for_a_stop_that_a_dead_run_has_asked_for_keeps_nobody_else() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "patient");
    start(&stage, "app", 1, &["--stop-timeout", "40"], STUBBORN);
    start(&stage, "other", 1, &[], POLITE);
    let _ = stage.bbackup(["backup", "--config-only", "--containers", &stage.name("app")]).run().success();
    let mut killed = stage.bbackup(["backup", "--containers", &stage.name("app")]).spawn();
    killed.until("the stop", || !journals(&home).is_empty());
    thread::sleep(Duration::from_millis(500));
    killed.signal(Signal::KILL);
    let _ = killed.wait().killed_by(Signal::KILL);
    let mut recovering = stage.bbackup(["recover"]).spawn();
    thread::sleep(Duration::from_secs(2));
    let outcome = stage.bbackup(["backup", "--containers", &stage.name("other")]).run().success();
    // Nobody else is told that a backup runs.
    let in_place = ["restore", "latest", "--in-place", "--container", &stage.name("app")];
    let refused = stage.bbackup(in_place).run().exits(1).says("is brought back just now by another bbackup");
    let _ = refused.says_nothing_of("a backup keeps");
    assert!(recovering.is_running(), "it waited until the other container was back: {}", outcome.describe());
    assert_eq!(state(&stage, "app"), "running", "it has ended too soon for this to say anything");
    let _ = recovering.wait().success().says(&stage.name("app"));
    assert_eq!(state(&stage, "app"), "running");
    assert!(journals(&home).is_empty());
}

#[test]
fn what_a_dead_run_has_left_down_on_another_engine_is_told_at_every_start() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "otherengine");
    let folder = start(&stage, "app", 50, &[], POLITE);
    let mut running = stage.bbackup(["backup", "--containers", &stage.name("app")]).spawn();
    running.hold_while_it_has_open(&folder);
    running.signal(Signal::KILL);
    let _ = running.wait().killed_by(Signal::KILL);
    let journal = journals(&home).pop().unwrap();
    let text = fs::read_to_string(&journal).unwrap();
    let id = stage.ok(["info", "--format", "{{.ID}}"]);
    assert!(text.contains(id.trim()), "{text}");
    fs::write(&journal, text.replace(id.trim(), "another-engine")).unwrap();
    let source = home.make_folder("source");
    fs::write(source.join("file"), "x").unwrap();
    let told = format!("has left containers down on another Docker Engine: {}", stage.name("app"));
    for words in [&["backup", "--paths", source.to_str().unwrap()][..], &["snapshots"], &["recover"]] {
        let _ = stage.bbackup(words).run().exits(4).says(&told).says("with the address of that Engine");
    }
    fs::write(&journal, text).unwrap();
    let _ = stage.bbackup(["recover"]).run().success().says("runs again");
    assert_eq!(state(&stage, "app"), "running");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_no_backup_with_warnings() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "stateless");
    start(&stage, "app", 1, &[], POLITE);
    let backup = || stage.bbackup(["backup", "--containers", &stage.name("app")]).run();
    let _ = backup().success();
    let read_only = Mount::read_only(&home.path("state"));
    let _ = backup().exits(1).says("could not be kept still");
    drop(read_only);
    assert_eq!(state(&stage, "app"), "running");
    let _ = backup().success();
}

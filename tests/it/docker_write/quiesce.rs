//! Containers are stopped and paused on a real Engine, and come back whatever happens to whoever stopped them.

mod stays;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bbackup::docker::journal::{Action, Intent, Journals, Owing};
use bbackup::docker::quiesce::{
    ContainerHooks, OwedOutcome, Quiesce, QuiesceOptions, QuiescePlan, QuiesceRequest, RepairOutcome, decide, recover,
};
use bbackup::docker::{Engine, EngineOptions, discover};
use bbackup::model::application::{Consistency, Container, Status};
use bbackup::model::hook::Hook;
use bbackup::model::progress::Silent;
use bbackup::platform::control::Control;

use super::{block_on, connect, status};
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;

/// A shell that ends as soon as it is asked to, and one that never does.
const POLITE: &str = "trap exit TERM; while :; do sleep 0.1; done";
const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.1; done";

async fn containers(engine: &Engine, stage: &Stage<'_>) -> Vec<Container> {
    let all = discover(engine).await.unwrap();
    all.containers().filter(|container| container.name.starts_with(&stage.name(""))).cloned().collect()
}

async fn plan(engine: &Engine, stage: &Stage<'_>, consistency: Consistency) -> QuiescePlan {
    decide(&QuiesceRequest { containers: containers(engine, stage).await, ..QuiesceRequest::default() }, consistency)
}

async fn begin(engine: &Engine, state: &Path, run: &str, plan: QuiescePlan) -> Quiesce {
    let options =
        QuiesceOptions { stop_timeout: Some(Duration::from_secs(1)), health_limit: Duration::from_secs(30), ..QuiesceOptions::default() };
    Quiesce::begin(engine, state, run, plan, options, &Control::new(), &Silent).await.unwrap()
}

fn start(stage: &Stage<'_>, name: &str, arguments: &[&str], script: &str) -> String {
    let name = stage.name(name);
    let mut all = vec!["run", "-d", "--name", &name];
    all.extend(arguments);
    all.extend([BUSYBOX, "sh", "-c", script]);
    stage.ok(all);
    name
}

fn journals(state: &Path) -> usize {
    std::fs::read_dir(state.join("quiesce"))
        .map_or(0, |entries| entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".journal")).count())
}

#[test]
fn only_what_ran_is_stopped_and_it_comes_back_healthy() {
    let home = Home::new();
    let stage = Stage::new(&home, "still");
    let state = home.path("state");
    let db = start(
        &stage,
        "db",
        &["--health-cmd", "test -e /tmp/up", "--health-interval", "200ms"],
        &format!("rm -f /tmp/up; sleep 1; touch /tmp/up; {POLITE}"),
    );
    let web = start(&stage, "web", &["--link", &db], POLITE);
    let removed = start(&stage, "removed", &["--rm"], POLITE);
    let ended = start(&stage, "ended", &[], "true");
    let frozen = start(&stage, "frozen", &[], POLITE);
    stage.ok(["pause", &frozen]);
    stage.wait_for_state(&ended, "exited");
    block_on(async {
        let engine = connect(&stage).await;
        let deadline = Instant::now() + Duration::from_secs(20);
        while super::inspect(&engine, &db).await["State"]["Health"]["Status"] != "healthy" {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let plan = plan(&engine, &stage, Consistency::Stop).await;
        let guard = begin(&engine, &state, "RUN", plan).await;
        let held: Vec<&str> = guard.held().collect();
        assert_eq!(held.len(), 3);
        assert!(held.iter().position(|name| *name == web) < held.iter().position(|name| *name == db), "{held:?}");
        for (name, expected) in [(&db, "exited"), (&web, "exited"), (&removed, "paused"), (&ended, "exited"), (&frozen, "paused")] {
            assert_eq!(status(&engine, name).await, expected, "{name}");
        }
        assert_eq!(journals(&state), 1);
        assert!(
            recover(&state, &engine, None)
                .await
                .unwrap()
                .repaired
                .iter()
                .all(|repaired| matches!(repaired.outcome, RepairOutcome::LeftTo { .. }))
        );
        assert_eq!(status(&engine, &db).await, "exited", "the run lives");

        let release = guard.release(&Silent).await;
        assert!(release.failures.is_empty(), "{:?}", release.failures);
        assert_eq!(release.notes.iter().filter(|note| note.contains("healthy")).count(), 0);
        assert!(release.downtime > Duration::ZERO);
        assert_eq!(release.records.len(), 3);
        for (name, expected) in [(&db, "running"), (&web, "running"), (&removed, "running"), (&ended, "exited"), (&frozen, "paused")] {
            assert_eq!(status(&engine, name).await, expected, "{name}");
        }
        let health = super::inspect(&engine, &db).await["State"]["Health"]["Status"].clone();
        assert_eq!(health, "healthy", "it takes a second to be, and was waited for");
        assert_eq!(journals(&state), 0);
    });
    stage.ok(["unpause", &frozen]);
    stage.ok(["rm", "-f", &removed]);
}

#[test]
fn a_guard_that_is_dropped_brings_them_back_too() {
    let home = Home::new();
    let stage = Stage::new(&home, "drop");
    let state = home.path("state");
    let one = start(&stage, "one", &[], POLITE);
    let two = start(&stage, "two", &[], STUBBORN);
    block_on(async {
        let engine = connect(&stage).await;
        for consistency in [Consistency::Stop, Consistency::Pause] {
            let plan = plan(&engine, &stage, consistency).await;
            let guard = begin(&engine, &state, "RUN", plan).await;
            assert_ne!(status(&engine, &two).await, "running");
            drop(guard);
            for name in [&one, &two] {
                assert_eq!(status(&engine, name).await, "running");
            }
            assert_eq!(journals(&state), 0);
        }
    });
}

#[test]
fn the_last_of_two_runs_starts_what_both_hold() {
    let home = Home::new();
    let stage = Stage::new(&home, "two");
    let state = home.path("state");
    let shared = start(&stage, "shared", &[], POLITE);
    block_on(async {
        let engine = connect(&stage).await;
        let plan = plan(&engine, &stage, Consistency::Stop).await;
        let first = begin(&engine, &state, "ONE", plan.clone()).await;
        let second = begin(&engine, &state, "TWO", plan.clone()).await;
        let release = first.release(&Silent).await;
        assert!(release.records[0].note.as_ref().unwrap().contains("TWO"), "{:?}", release.records);
        assert_eq!(status(&engine, &shared).await, "exited");
        let third = begin(&engine, &state, "THREE", plan).await;
        assert_eq!(third.held().count(), 1, "it knows that the container ran");
        drop(second);
        assert_eq!(status(&engine, &shared).await, "exited");
        let release = third.release(&Silent).await;
        assert_eq!(release.records[0].before, Status::Running);
        assert_eq!(status(&engine, &shared).await, "running");
        assert_eq!(journals(&state), 0);
    });
}

#[test]
fn a_container_that_cannot_be_started_is_the_loudest_error_and_is_tried_again() {
    let home = Home::new();
    let stage = Stage::new(&home, "broken");
    let state = home.path("state");
    let folder = home.make_folder("mounted");
    let mount = format!("type=bind,src={},dst=/mounted", folder.display());
    let broken = start(&stage, "broken", &["--mount", &mount], POLITE);
    let fine = start(&stage, "fine", &[], POLITE);
    block_on(async {
        let engine = connect(&stage).await;
        let plan = plan(&engine, &stage, Consistency::Stop).await;
        let guard = begin(&engine, &state, "RUN", plan).await;
        std::fs::remove_dir(&folder).unwrap();
        let release = guard.release(&Silent).await;
        assert_eq!(release.failures.len(), 1);
        assert_eq!(release.failures[0].container, broken);
        assert_eq!(status(&engine, &fine).await, "running");
        assert_eq!(journals(&state), 1, "what failed is still to be done");

        let repaired = recover(&state, &engine, None).await.unwrap().repaired;
        assert!(matches!(&repaired[0].outcome, RepairOutcome::Failed(_)), "{repaired:?}");
        std::fs::create_dir(&folder).unwrap();
        let repaired = recover(&state, &engine, None).await.unwrap().repaired;
        assert!(matches!(&repaired[0].outcome, RepairOutcome::Restored), "{repaired:?}");
        assert_eq!(repaired.len(), 1);
        assert_eq!(status(&engine, &broken).await, "running");
        assert_eq!(journals(&state), 0);
    });
}

#[test]
fn health_is_waited_for_only_so_long_and_that_is_said() {
    let home = Home::new();
    let stage = Stage::new(&home, "unhealthy");
    let state = home.path("state");
    // Healthy the first time only.
    let script = format!("if [ -e /once ]; then rm -f /up; else touch /once /up; fi; {POLITE}");
    let check = ["--health-cmd", "test -e /up", "--health-interval", "200ms", "--health-retries", "2"];
    let db = start(&stage, "db", &check, &script);
    block_on(async {
        assert_eq!(QuiesceOptions::default().health_limit, Duration::from_mins(2));
        let engine = connect(&stage).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        while super::inspect(&engine, &db).await["State"]["Health"]["Status"] != "healthy" {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let plan = plan(&engine, &stage, Consistency::Stop).await;
        let options = QuiesceOptions { stop_timeout: None, health_limit: Duration::from_secs(3), ..QuiesceOptions::default() };
        let guard = Quiesce::begin(&engine, &state, "RUN", plan, options, &Control::new(), &Silent).await.unwrap();
        let began = Instant::now();
        let release = guard.release(&Silent).await;
        assert!((3..20).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        assert_eq!(release.notes, [format!("{db} runs again and was not healthy within 3 seconds")]);
        assert!(release.failures.is_empty(), "{:?}", release.failures);
        assert_eq!((status(&engine, &db).await.as_str(), journals(&state)), ("running", 0));
    });
}

#[test]
fn nobody_is_waited_for_to_become_what_it_was_not() {
    let home = Home::new();
    let stage = Stage::new(&home, "starting");
    let state = home.path("state");
    let project = format!("com.docker.compose.project={}", stage.name("project"));
    let of = |service: &str| ["--label".to_owned(), project.clone(), "--label".to_owned(), format!("com.docker.compose.service={service}")];
    let check = ["--health-cmd", "test -e /up", "--health-interval", "200ms", "--health-start-period", "1h"];
    let needs = ["--label", "com.docker.compose.depends_on=late:service_healthy:false"];
    let [late, web] = [("late", &check[..]), ("web", &needs)].map(|(name, more)| {
        let own = of(name);
        start(&stage, name, &[&own.each_ref().map(String::as_str)[..], more].concat(), POLITE)
    });
    let health = || stage.ok(["inspect", "--format", "{{.State.Health.Status}}", &late]);
    assert_eq!(health(), "starting");
    block_on(async {
        let engine = connect(&stage).await;
        let seen = plan(&engine, &stage, Consistency::Stop).await;
        assert_eq!(seen.planned[0].needs_healthy, std::slice::from_ref(&late));
        let guard = begin(&engine, &state, "ONE", seen.clone()).await;
        let began = Instant::now();
        let release = guard.release(&Silent).await;
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        assert_eq!(release.notes, [""; 0]);
        assert_eq!((status(&engine, &late).await.as_str(), status(&engine, &web).await.as_str()), ("running", "running"));
        // What it is when it is stopped counts, not what it was when all was looked at.
        stage.ok(["exec", &late, "touch", "/up"]);
        while health() != "healthy" {
            assert!(began.elapsed() < Duration::from_mins(1));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let guard = begin(&engine, &state, "TWO", seen).await;
        let release = guard.release(&Silent).await;
        assert_eq!((release.notes.len(), health().as_str()), (0, "healthy"), "{:?}", release.notes);
        assert_eq!(journals(&state), 0);
    });
}

#[test]
fn whatever_happens_to_the_gate_meanwhile_what_was_left_down_is_started() {
    let home = Home::new();
    let stage = Stage::new(&home, "gate");
    let state = home.path("state");
    let [down, ending] = ["a-down", "b-ending"].map(|name| start(&stage, name, &[], POLITE));
    block_on(async {
        let engine = connect(&stage).await;
        let containers = containers(&engine, &stage).await;
        let journals = Journals::new(&state);
        let gate = journals.gate(Duration::from_secs(5)).await.unwrap();
        let settled = jiff::Timestamp::now().checked_add(Duration::from_secs(6)).unwrap();
        for container in &containers {
            // Each run has left one of them; the stop of the second is still under way.
            let mut journal = journals.start(&gate, engine.id(), &container.name).unwrap();
            let intent = Intent {
                container: container.id.clone(),
                name: container.name.clone(),
                before: Status::Running,
                action: Action::Stop,
                service: None,
                started_at: container.state.started_at.clone(),
                settled,
            };
            journal.hold(intent).unwrap();
        }
        drop(gate);
        stage.ok(["stop", "-t", "1", &down]);
        let recovering = recover(&state, &engine, None);
        let broken = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            // No file can be locked there any more.
            let gate = state.join("quiesce/gate");
            std::fs::remove_file(&gate).unwrap();
            std::fs::create_dir(&gate).unwrap();
            stage.ok(["stop", "-t", "1", &ending]);
        };
        let (recovered, ()) = tokio::join!(recovering, broken);
        let repaired = recovered.unwrap().repaired;
        assert_eq!(repaired.len(), 2, "{repaired:?}");
        for name in [&down, &ending] {
            assert_eq!(status(&engine, name).await, "running", "{repaired:?}");
        }
    });
}

#[test]
fn what_others_do_meanwhile_is_seen() {
    let home = Home::new();
    let stage = Stage::new(&home, "others");
    let state = home.path("state");
    let started = start(&stage, "a-started", &[], POLITE);
    let gone = start(&stage, "b-gone", &[], POLITE);
    block_on(async {
        let engine = connect(&stage).await;
        let plan = plan(&engine, &stage, Consistency::Stop).await;
        let guard = begin(&engine, &state, "RUN", plan).await;
        stage.ok(["start", &started]);
        stage.ok(["rm", "-f", &gone]);
        let release = guard.release(&Silent).await;
        assert!(release.failures.is_empty());
        let notes: Vec<_> = release.records.iter().map(|record| (record.container.clone(), record.note.clone().unwrap())).collect();
        assert_eq!(
            notes,
            [
                (started, "somebody else started it while it was being read".to_owned()),
                (gone, "somebody removed it while it was stopped".to_owned())
            ]
        );
    });
}

#[test]
fn a_command_that_is_owed_waits_for_its_container() {
    let home = Home::new();
    let stage = Stage::new(&home, "owes");
    let state = home.path("state");
    let name = start(&stage, "app", &[], POLITE);
    block_on(async {
        let engine = connect(&stage).await;
        let journals_there = Journals::new(&state);
        let gate = journals_there.gate(Duration::from_secs(5)).await.unwrap();
        let container = containers(&engine, &stage).await.remove(0);
        let mut dead = journals_there.start(&gate, engine.id(), "DEAD").unwrap();
        let hook = Hook::of_line("touch /owed", "test".to_owned());
        dead.owe(Owing { container: container.id.clone(), name: name.clone(), hook }).unwrap();
        let intent = Intent {
            container: container.id.clone(),
            name: name.clone(),
            before: Status::Running,
            action: Action::Stop,
            service: None,
            started_at: String::new(),
            settled: jiff::Timestamp::now(),
        };
        dead.hold(intent).unwrap();
        drop((dead, gate));
        let guard = begin(&engine, &state, "ALIVE", plan(&engine, &stage, Consistency::Stop).await).await;
        // Twice: once the journal has the container open, once only the command.
        for _ in 0..2 {
            let recovery = recover(&state, &engine, None).await.unwrap();
            assert!(matches!(recovery.owed[..], [ref owed] if matches!(owed.outcome, OwedOutcome::Waits)), "{recovery:?}");
            assert_eq!(journals(&state), 2, "what is owed is forgotten");
        }
        assert!(guard.release(&Silent).await.failures.is_empty());
        let recovery = recover(&state, &engine, None).await.unwrap();
        assert!(matches!(recovery.owed[..], [ref owed] if matches!(owed.outcome, OwedOutcome::Done)), "{recovery:?}");
        assert_eq!(journals(&state), 0);
    });
    stage.ok(["exec", &name, "rm", "/owed"]);

    // A run that lives and ends before another one that reads, too, can run it as little.
    block_on(async {
        let engine = connect(&stage).await;
        let post = vec![Hook::of_line("touch /owed", "test".to_owned())];
        let request = QuiesceRequest {
            containers: containers(&engine, &stage).await,
            hooks: [(name.clone(), ContainerHooks { pre: Vec::new(), post })].into(),
            ..QuiesceRequest::default()
        };
        let plain = plan(&engine, &stage, Consistency::Stop).await;
        let first = begin(&engine, &state, "FIRST", decide(&request, Consistency::Stop)).await;
        let last = begin(&engine, &state, "LAST", plain).await;
        let release = first.release(&Silent).await;
        assert!(matches!(&release.hook_failures[..], [told] if told.contains("was not run")), "{release:?}");
        assert!(last.release(&Silent).await.failures.is_empty());
        let recovery = recover(&state, &engine, None).await.unwrap();
        assert!(matches!(recovery.owed[..], [ref owed] if matches!(owed.outcome, OwedOutcome::Done)), "{recovery:?}");
        assert_eq!(journals(&state), 0);
    });
    stage.ok(["exec", &name, "test", "-e", "/owed"]);
}

/// Not a test of its own: the process that `killed_at_any_moment` kills.
#[test]
#[ignore = "started by another test"]
fn holder() {
    let (Ok(host), Ok(state), Ok(prefix)) = (std::env::var("HOLDER_ENGINE"), std::env::var("HOLDER_STATE"), std::env::var("HOLDER_PREFIX"))
    else {
        return;
    };
    block_on(async {
        let engine = Engine::connect(&EngineOptions { host: Some(host), ..EngineOptions::default() }).await.unwrap();
        let all = discover(&engine).await.unwrap();
        let containers = all.containers().filter(|container| container.name.starts_with(&prefix)).cloned().collect();
        let plan = decide(&QuiesceRequest { containers, ..QuiesceRequest::default() }, Consistency::Stop);
        let guard = begin(&engine, Path::new(&state), "HOLDER", plan).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _ = guard.release(&Silent).await;
    });
}

fn holder_process(stage: &Stage<'_>, state: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "docker_write::quiesce::holder"])
        .env("HOLDER_ENGINE", stage.engine().host())
        .env("HOLDER_STATE", state)
        .env("HOLDER_PREFIX", stage.name(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn killed_at_any_moment() {
    let home = Home::new();
    let stage = Stage::new(&home, "kill");
    let state = home.path("state");
    let names = [
        start(&stage, "slow", &[], "trap 'sleep 0.3; exit' TERM; while :; do sleep 0.05; done"),
        start(&stage, "quick", &[], POLITE),
        start(&stage, "removed", &["--rm"], POLITE),
    ];
    let mut interrupted = 0;
    block_on(async {
        let engine = connect(&stage).await;
        // How long it takes when it is left alone.
        let whole = Instant::now();
        assert!(holder_process(&stage, &state).wait().unwrap().success());
        let whole = whole.elapsed();
        for step in 0..16 {
            let mut holder = holder_process(&stage, &state);
            tokio::time::sleep(whole * step / 16).await;
            holder.kill().unwrap();
            holder.wait().unwrap();
            let had = journals(&state);
            interrupted += had;
            let recovery = recover(&state, &engine, None).await.unwrap();
            assert!(recovery.repaired.iter().all(|repaired| !matches!(repaired.outcome, RepairOutcome::Failed(_))), "{recovery:?}");
            assert_eq!(journals(&state), 0);
            // Nothing that was under way at the kill may take effect later either.
            tokio::time::sleep(Duration::from_millis(500)).await;
            for name in &names {
                assert_eq!(status(&engine, name).await, "running", "{name} after a kill at step {step}, {had} journals: {recovery:?}");
            }
        }
    });
    assert!(interrupted >= 4, "the kills came while containers were held only {interrupted} times");
    stage.ok(["rm", "-f", &names[2]]);
}

//! When things go wrong: deaths at every step, somebody else who changes the service, a swarm or proxy that refuses.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Service, configured, journals, swarm};
use crate::support::engine::Stage;
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};

/// Which request of a run: the how-manieth that is not a mere repetition. Asking whether tasks still run is one step, however
/// often it is asked.
#[derive(Default)]
struct Steps {
    count: usize,
    since_a_change: BTreeSet<String>,
}

impl Steps {
    /// The number of the step that begins with this request, if one does.
    fn next(&mut self, line: &str) -> Option<usize> {
        let key = line.split(['?', ' ']).take(2).collect::<Vec<_>>().join(" ");
        // Who else is started is listened to at the same time, and would be now this step and now that one.
        let is_beside = key.ends_with("/events") || key.ends_with("/info");
        if is_beside || self.count == 0 && !key.contains("/services/") || !self.since_a_change.insert(key) {
            return None;
        }
        if line.starts_with("POST ") {
            self.since_a_change.clear();
        }
        self.count += 1;
        Some(self.count - 1)
    }
}

/// When a run is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At a step, counted from the first that has to do with the service.
    Step(usize),
    /// When it changes the service for the how-manieth time, counted from zero.
    Change(usize),
}

/// Runs a backup through a proxy that kills it at a step. Returns the request that it was killed at; none if it came to its end.
fn killed_at(home: &Home, service: &Service<'_, '_>, config: &str, when: At, arrives: bool) -> Option<String> {
    let (pid, steps, at) = (Arc::new(AtomicI32::new(0)), Mutex::new((Steps::default(), 0)), Arc::new(Mutex::new(None)));
    let socket = home.path(format!("kill-{when:?}-{arrives}.sock"));
    let proxy = {
        let (pid, at) = (Arc::clone(&pid), Arc::clone(&at));
        Proxy::start(&socket, &service.stage.engine().host(), move |line| {
            if at.lock().unwrap().is_some() {
                return Action::Drop;
            }
            let is_it = {
                let (steps, changes) = &mut *steps.lock().unwrap();
                let step = steps.next(line).map(At::Step);
                let change = (line.starts_with("POST ") && line.contains("/update")).then_some(At::Change(*changes));
                *changes += usize::from(change.is_some());
                step == Some(when) || change == Some(when)
            };
            if !is_it {
                return Action::Pass;
            }
            while pid.load(Ordering::SeqCst) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            *at.lock().unwrap() = Some(line.to_owned());
            kill_process(Pid::from_raw(pid.load(Ordering::SeqCst)).unwrap(), Signal::KILL).unwrap();
            if arrives { Action::Pass } else { Action::Drop }
        })
    };
    let running = service.stage.bbackup(["--config", config, "backup", "-C", &service.name]).env("DOCKER_HOST", proxy.host()).spawn();
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
fn a_service_comes_back_whenever_the_run_is_killed() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "steps", swarm());
    let service = Service::start(&stage, "web", 2, &[]);
    let config = configured(&home, "scale");
    let check = |when: At, line: &str| {
        let outcome = stage.bbackup(["recover"]).run().success();
        assert_eq!(service.replicas(), 2, "after a kill at {when:?}, {line}\n{}", outcome.describe());
        assert!(journals(&home).is_empty(), "{when:?}, {line}: something is still to be done\n{}", outcome.describe());
        service.wait_for_tasks(2);
    };
    let mut steps = Vec::new();
    for when in (0..).map(At::Step) {
        assert!(steps.len() < 50, "there is no end of steps: {steps:#?}");
        let Some(line) = killed_at(&home, &service, &config, when, false) else { break };
        check(when, &line);
        steps.push(line);
    }
    assert!(steps.len() > 8, "not every step was seen: {steps:#?}");
    // The changes are steps, too; these arrive all the same.
    for when in [At::Change(0), At::Change(1)] {
        let line = killed_at(&home, &service, &config, when, true);
        check(when, &line.unwrap());
    }
}

#[test]
fn an_order_to_scale_that_arrives_late_is_undone_too() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "late", swarm());
    let service = Service::start(&stage, "web", 1, &[]);
    let config = configured(&home, "scale");
    // The run is killed while its order is under way.
    let (asked, arrives) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (at, go) = (Arc::clone(&asked), Arc::clone(&arrives));
    let proxy = Proxy::start(&home.path("late.sock"), &stage.engine().host(), move |line| {
        if line.starts_with("POST ") && line.contains("/update") {
            at.store(true, Ordering::SeqCst);
            while !go.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        Action::Pass
    });
    let mut running = stage.bbackup(["--config", &config, "backup", "-C", &service.name]).env("DOCKER_HOST", proxy.host()).spawn();
    running.until("the order", || asked.load(Ordering::SeqCst));
    running.signal(Signal::KILL);
    let _ = running.wait().killed_by(Signal::KILL);
    let mut recover = stage.bbackup(["recover"]).spawn();
    // As long as an Engine that has much to do may take.
    thread::sleep(Duration::from_secs(7));
    assert!(recover.is_running(), "nobody waits for the order");
    arrives.store(true, Ordering::SeqCst);
    let _ = recover.wait().success();
    assert_eq!(service.replicas(), 1);
    service.wait_for_tasks(1);
    assert!(journals(&home).is_empty());
}

#[test]
fn what_is_refused_is_paused_instead_and_said() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "refused", swarm());
    let config = configured(&home, "scale");
    let service = Service::start(&stage, "web", 1, &[]);
    let before = service.states();
    for (seed, (part, method, reason)) in (1..).zip([
        ("/services/", "GET ", "is not allowed, which is needed for scaling services of a swarm"),
        ("/tasks", "GET ", "is not allowed, which is needed for scaling services of a swarm"),
        ("/update", "POST ", "is not allowed, which is needed for scaling services of a swarm"),
    ]) {
        service.fill(seed);
        let denied = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&denied);
        let proxy = Proxy::start(&home.path(format!("deny{}.sock", part.replace('/', "-"))), &stage.engine().host(), move |line| {
            let is_it = line.starts_with(method) && line.contains(part);
            seen.fetch_or(is_it, Ordering::SeqCst);
            if is_it { Action::Deny } else { Action::Pass }
        });
        let mut running = stage.bbackup(["--config", &config, "backup", "-C", &service.name]).env("DOCKER_HOST", proxy.host()).spawn();
        running.hold_while_it_has_open(&service.folder());
        let meanwhile = service.states();
        assert!(meanwhile.iter().all(|state| state.contains(" paused ")), "{part}: {meanwhile:?}");
        running.signal(Signal::CONT);
        drop(running.wait().success().says("paused instead of its service scaled to 0").says(reason));
        assert!(denied.load(Ordering::SeqCst));
        assert_eq!(service.states(), before, "{part}");
        assert!(journals(&home).is_empty());
    }
    // By what they are, and what they would lose.
    let global = Service::create(&stage, "everywhere", &["--mode", "global"]);
    global.wait_for_tasks(1);
    let backup = |name: &str, options: &[&str]| stage.bbackup([&["--config", &config, "backup", "-C", name], options].concat());
    let before = global.states();
    drop(backup(&global.name, &[]).run().success().says("it is not replicated: it has one task on each node"));
    assert_eq!(global.states(), before);
    let nameless = Service::start(&stage, "nameless", 1, &["--mount", "type=volume,target=/nameless"]);
    let before = nameless.states();
    drop(backup(&nameless.name, &[]).run().success().says("the swarm would remove its anonymous volume"));
    assert_eq!(nameless.states(), before);
}

#[test]
fn a_node_that_must_not_be_asked_about_is_waited_for() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "nodes", swarm());
    let config = configured(&home, "scale");
    let service = Service::start(&stage, "web", 1, &[]);
    service.fill(1);
    let (denied, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (asked, over) = (Arc::clone(&denied), Arc::clone(&ended));
    let scaled = OnceLock::new();
    let proxy = Proxy::start(&home.path("deny-nodes.sock"), &stage.engine().host(), move |line| {
        if line.contains("/update") {
            let _ = scaled.set(Instant::now());
        }
        if line.contains("/nodes/") {
            asked.store(true, Ordering::SeqCst);
            return Action::Deny;
        }
        // On another node a task takes longer.
        let Some(since) = scaled.get().filter(|_| line.contains("/tasks")) else { return Action::Pass };
        if since.elapsed() < Duration::from_secs(8) {
            return Action::Answer(r#"[{"ID": "t", "NodeID": "far", "DesiredState": "shutdown", "Status": {"State": "running"}}]"#);
        }
        over.store(true, Ordering::SeqCst);
        Action::Pass
    });
    let mut running = stage.bbackup(["--config", &config, "backup", "-C", &service.name]).env("DOCKER_HOST", proxy.host()).spawn();
    running.hold_while_it_has_open(&service.folder());
    assert!(denied.load(Ordering::SeqCst), "nobody asked");
    assert!(ended.load(Ordering::SeqCst), "it was read while a task of another node ran");
    assert_eq!((service.replicas(), service.containers(false)), (0, Vec::new()), "it was read while a task ran");
    running.signal(Signal::CONT);
    drop(running.wait().success().says_nothing_of("paused instead").says_nothing_of("has lost that node"));
    service.wait_for_tasks(1);
    assert!(journals(&home).is_empty());
}

#[test]
fn somebody_who_changes_the_service_at_the_same_moment_gets_what_they_want() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "race", swarm());
    let service = Service::start(&stage, "web", 1, &[]);
    let (done, name, host) = (AtomicBool::new(false), service.name.clone(), stage.engine().host());
    let proxy = Proxy::start(&home.path("race.sock"), &stage.engine().host(), move |line| {
        // bbackup has looked, and is about to change what is not so any more.
        if line.starts_with("POST ") && line.contains("/update") && !done.swap(true, Ordering::SeqCst) {
            let words = ["-H", &host, "service", "update", "-d", "--no-resolve-image", "--replicas", "2", "--label-add", "x=y", &name];
            assert!(std::process::Command::new("docker").args(words).output().unwrap().status.success());
        }
        Action::Pass
    });
    let config = configured(&home, "scale");
    service.fill(1);
    let mut running = stage.bbackup(["--config", &config, "backup", "-C", &service.name]).env("DOCKER_HOST", proxy.host()).spawn();
    running.hold_while_it_has_open(&service.folder());
    assert_eq!((service.replicas(), service.containers(false)), (0, Vec::new()));
    running.signal(Signal::CONT);
    let _ = running.wait().success();
    assert_eq!(service.replicas(), 2);
    service.wait_for_tasks(2);
    assert_eq!(stage.ok(["service", "inspect", "--format", "{{.Spec.Labels.x}}", &service.name]), "y");
    assert!(journals(&home).is_empty());
}

#[test]
fn who_scales_it_up_while_it_is_read_is_left_alone_and_told_of() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "meddler", swarm());
    let service = Service::start(&stage, "web", 1, &[]);
    let config = configured(&home, "scale");
    service.fill(1);
    let mut running = stage.bbackup(["--config", &config, "backup", "-C", &service.name]).spawn();
    running.hold_while_it_has_open(&service.folder());
    assert_eq!(service.replicas(), 0);
    stage.ok(["service", "scale", "-d", &format!("{}=3", service.name)]);
    service.wait_for_tasks(3);
    let containers = service.containers(false);
    running.signal(Signal::CONT);
    // What they wrote meanwhile may be torn.
    let outcome = running.wait().exits(4).says("somebody else scaled it to 3").says("ran while it was read");
    assert_eq!((service.replicas(), service.containers(false)), (3, containers), "{}", outcome.describe());
    assert!(journals(&home).is_empty());
}

#[test]
fn the_last_of_two_runs_scales_back_what_both_need_down() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "both", swarm());
    let service = Service::start(&stage, "web", 2, &[]);
    let config = configured(&home, "scale");
    service.fill(1);
    let mut first = stage.bbackup(["--config", &config, "backup", "-C", &service.name]).spawn();
    first.hold_while_it_has_open(&service.folder());
    assert_eq!((service.replicas(), service.containers(false)), (0, Vec::new()));
    // Its tasks are not there to be seen, and it has to stay down for this one, too.
    let mut second = stage.bbackup(["--config", &config, "backup", "--volumes", &service.volume]).spawn();
    second.hold_while_it_has_open(&service.folder());
    first.signal(Signal::CONT);
    let _ = first.wait().success();
    assert_eq!((service.replicas(), service.containers(false)), (0, Vec::new()), "the second still reads");
    second.signal(Signal::CONT);
    let _ = second.wait().exits(4).says("another run of bbackup has scaled service");
    assert_eq!(service.replicas(), 2);
    service.wait_for_tasks(2);
    assert!(journals(&home).is_empty());
}

//! Several applications at once.

use std::fs;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};
use crate::support::tree;

#[test]
fn applications_go_side_by_side_unless_they_share_something() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "parallel");
    let shared = stage.name("shared");
    stage.ok(["volume", "create", &shared]);
    tree::write(&stage.mountpoint(&shared).join("noise"), &tree::noise(9, 2_000_000));
    let names = ["one", "two", "three", "four"].map(|name| stage.name(name));
    for (number, name) in names.iter().enumerate() {
        let volume = format!("{name}-data");
        stage.ok(["volume", "create", &volume]);
        tree::write(&stage.mountpoint(&volume).join("noise"), &tree::noise(number as u64, 4_000_000));
        let mut arguments = vec!["run", "-d", "--name", name];
        let (own, common) = (format!("{volume}:/data"), format!("{shared}:/shared"));
        arguments.extend(["-v", &own]);
        // Three and four write to one volume: when one of them is read, the other has to rest, and not be started in between.
        if number >= 2 {
            arguments.extend(["-v", &common]);
        }
        arguments.extend([BUSYBOX, "sh", "-c", "trap exit TERM; while :; do sleep 1; done"]);
        stage.ok(arguments);
    }
    let log = Arc::new(Mutex::new(Vec::<String>::new()));
    let seen = Arc::clone(&log);
    let note = move |line: &str| {
        if line.starts_with("POST ") && (line.contains("/stop") || line.contains("/start")) {
            seen.lock().unwrap().push(line.to_owned());
        }
        Action::Pass
    };
    let proxy = Proxy::start(&home.path("proxy.sock"), &stage.engine().host(), note);
    let backup = ["backup", "--json", "--parallel", "4", "--containers", &names.join(",")];
    let outcome = stage.bbackup(backup).env("DOCKER_HOST", proxy.host()).run().success();
    assert_eq!(outcome.messages("summary").len(), 4, "{}", outcome.describe());
    for name in &names {
        stage.wait_for_state(name, "running");
    }
    // What is stopped is never stopped a second time before it was started.
    let ids: Vec<String> = names.iter().map(|name| stage.ok(["inspect", "--format", "{{.Id}}", name])).collect();
    let log = log.lock().unwrap().clone();
    for id in &ids {
        let calls: Vec<bool> = log.iter().filter(|line| line.contains(id.as_str())).map(|line| line.contains("/stop")).collect();
        assert!(!calls.is_empty() && calls.chunks(2).all(|pair| pair == [true, false]), "{id}: {log:#?}");
    }
    for (number, name) in names.iter().enumerate() {
        let out = home.path(format!("out-{number}"));
        let _ = stage.bbackup(["restore", "latest", "--volume", &format!("{name}-data"), "--to"]).arg(&out).run().success();
        let found = out.join(format!("docker/{name}/volumes/{name}-data/noise"));
        assert!(fs::read(found).unwrap() == tree::noise(number as u64, 4_000_000), "{name}");
    }
}

/// What was asked of the Engine until now, and which reads may go on.
#[derive(Default)]
struct Log {
    calls: Vec<String>,
    free: Vec<String>,
}

#[test]
fn two_are_down_at_the_same_time_and_each_only_for_its_own_read() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "atonce");
    // A volume with options is read through a helper, so that its read is a call that can be held.
    let names = ["one", "two"].map(|name| stage.name(name));
    for name in &names {
        let (volume, folder) = (format!("{name}-data"), home.make_folder(&format!("folder-{name}")));
        tree::write(&folder.join("file"), name.as_bytes());
        stage.ok(["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &format!("device={}", folder.display()), &volume]);
        let mount = format!("{volume}:/data");
        stage.ok(["run", "-d", "--name", name, "-v", &mount, BUSYBOX, "sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]);
    }
    let ids = names.clone().map(|name| stage.ok(["inspect", "--format", "{{.Id}}", &name]));
    let log = Arc::new((Mutex::new(Log::default()), Condvar::new()));
    let shared = Arc::clone(&log);
    let proxy = Proxy::start(&home.path("proxy.sock"), &stage.engine().host(), move |line| {
        let (log, changed) = &*shared;
        let line = line.trim_end_matches(" HTTP/1.1").to_owned();
        let (is_read, mut log) = (line.starts_with("GET ") && line.contains("/archive"), log.lock().unwrap());
        if is_read || (line.starts_with("POST ") && (line.contains("/stop") || line.ends_with("/start"))) {
            log.calls.push(line.clone());
            changed.notify_all();
        }
        while is_read && !log.free.iter().any(|part| line.contains(part.as_str())) {
            log = changed.wait(log).unwrap();
        }
        Action::Pass
    });
    let until = |what: &str, holds: &dyn Fn(&[String]) -> bool| {
        let (log, changed) = &*log;
        let (log, late) = changed.wait_timeout_while(log.lock().unwrap(), Duration::from_mins(1), |log| !holds(&log.calls)).unwrap();
        assert!(!late.timed_out(), "{what} did not come: {:#?}", log.calls);
        log.calls.clone()
    };
    let free = |part: &str| {
        log.0.lock().unwrap().free.push(part.to_owned());
        log.1.notify_all();
    };
    let backup = ["backup", "--json", "--parallel", "2", "--containers", &names.join(",")];
    let running = stage.bbackup(backup).env("DOCKER_HOST", proxy.host()).spawn();
    let reads = |calls: &[String]| calls.iter().filter(|line| line.starts_with("GET ")).count();
    // Both are read at once, so both are down, and nobody was started in between.
    let calls = until("the second read", &|calls| reads(calls) == 2);
    assert!(ids.iter().all(|id| calls.iter().any(|line| line.contains(&format!("{id}/stop")))), "{calls:#?}");
    assert!(!calls.iter().any(|line| line.ends_with("/start")), "{calls:#?}");
    // The first that is done is up again while the other is still being read.
    let first = calls.iter().find(|line| line.starts_with("GET ")).unwrap().clone();
    free(&first);
    let calls = until("a start", &|calls| calls.iter().any(|line| line.ends_with("/start")));
    let started = ids.iter().position(|id| calls.iter().any(|line| line.ends_with(&format!("{id}/start")))).unwrap();
    stage.wait_for_state(&names[started], "running");
    assert_eq!(stage.ok(["inspect", "--format", "{{.State.Status}}", &names[1 - started]]), "exited");
    free("/archive");
    let outcome = running.wait().success();
    assert_eq!(outcome.messages("summary").len(), 2, "{}", outcome.describe());
    for name in &names {
        stage.wait_for_state(name, "running");
    }
}

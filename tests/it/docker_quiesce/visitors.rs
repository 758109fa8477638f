//! Containers that come while something is read and are gone again before the end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{POLITE, application, document, start, state};
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};
use crate::support::run::Outcome;
use crate::support::tree;

fn outcome_of(document: &Value, kind: &str) -> String {
    let item = document["items"].as_array().unwrap().iter().find(|item| item["kind"] == kind).unwrap();
    item["outcome"].to_string()
}

#[test]
fn one_that_came_and_is_gone_again_may_have_written() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "visited");
    start(&stage, "app", 50, &[], POLITE);
    let mount = format!("{}:/data", stage.name("app-data"));
    let backup = |visitor: &dyn Fn()| {
        let mut running = stage.bbackup(["backup", "--json", "--full", "--containers", &stage.name("app")]).spawn();
        running.hold_while_it_has_open(&stage.mountpoint(&stage.name("app-data")));
        assert_eq!(state(&stage, "app"), "exited");
        visitor();
        running.signal(rustix::process::Signal::CONT);
        running.wait()
    };
    // The program sleeps, so that nobody looks at the container while it is there: the Engine itself tells of the volume.
    let visitor = stage.name("visitor");
    let outcome = backup(&|| drop(stage.ok(["run", "--rm", "--name", &visitor, "-v", &mount, BUSYBOX, "true"])));
    let outcome = outcome.exits(4).says(&format!("container {visitor} ran while it was read"));
    let document = document(&stage, &application(&outcome));
    assert!(outcome_of(&document, "volume").contains("partial"), "{document}");
    // One that could only read, one that mounts something else, one that was never started: all the same to us.
    let _ = backup(&|| {
        stage.ok(["run", "--rm", "--name", &visitor, "-v", &format!("{mount}:ro"), BUSYBOX, "true"]);
        stage.ok(["run", "--rm", "--name", &visitor, "-v", &format!("{}:/data", stage.name("other")), BUSYBOX, "true"]);
        stage.ok(["create", "--name", &visitor, "-v", &mount, BUSYBOX, "true"]);
        stage.ok(["rm", &visitor]);
    })
    .success()
    .says_nothing_of(&visitor);
    // Nor what was before.
    stage.ok(["run", "--rm", "--name", &visitor, "-v", &mount, BUSYBOX, "true"]);
    let _ = backup(&|| {}).success().says_nothing_of(&visitor);
}

/// A backup of an application with a bind mount and a volume that a helper reads, in which `meanwhile` happens while the helper waits.
/// The first connection for events is cut after `cut` bytes.
fn through_a_helper(stage: &Stage<'_>, home: &Home, socket: &str, cut: Option<u64>, meanwhile: &dyn Fn()) -> Outcome {
    let (asked, gate, listened) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let (counter, opened) = (Arc::clone(&asked), Arc::clone(&gate));
    let proxy = Proxy::start(&home.path(socket), &stage.engine().host(), move |line| {
        if line.contains("/events?") && listened.fetch_add(1, Ordering::SeqCst) == 0 {
            return cut.map_or(Action::Pass, Action::CutAfter);
        }
        if line.starts_with("GET ") && line.contains("/archive") {
            counter.fetch_add(1, Ordering::SeqCst);
            while !opened.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        Action::Pass
    });
    let backup = stage.bbackup(["backup", "--json", "--full", "--containers", &stage.name("app")]);
    let mut running = backup.env("DOCKER_HOST", proxy.host()).spawn();
    running.until("the helper to be read", || asked.load(Ordering::SeqCst) > 0);
    assert_eq!(state(stage, "app"), "exited");
    meanwhile();
    gate.store(true, Ordering::SeqCst);
    let outcome = running.wait();
    assert!(cut.is_none() || proxy.cuts() > 0, "nothing was cut");
    outcome
}

#[test]
fn one_that_is_gone_again_is_known_by_its_bind_mounts_on_a_busy_engine_too() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "binds");
    let (device, bind, other) = (home.make_folder("device"), home.make_folder("bind"), home.make_folder("other"));
    for folder in [&device, &bind] {
        tree::write(&folder.join("file"), b"content");
    }
    let volume = stage.name("app-data");
    stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &format!("device={}", device.display()), &volume]);
    let bound = |folder: &Path| format!("{}:/bind", folder.display());
    let name = stage.name("app");
    stage.ok(["run", "-d", "--name", &name, "-v", &format!("{volume}:/data"), "-v", &bound(&bind), BUSYBOX, "sh", "-c", POLITE]);
    let visitor = stage.name("visitor");
    let visit = |folder: &Path| {
        stage.ok(["run", "--rm", "--name", &visitor, "-v", &bound(folder), BUSYBOX, "sleep", "1"]);
    };
    let busy = || {
        // More than an Engine remembers.
        let volumes: Vec<String> = (0..300).map(|number| format!("{}:/v{number}", stage.name(&format!("v{number}")))).collect();
        let noise = stage.name("noise");
        let options = volumes.iter().flat_map(|volume| ["-v", volume]);
        stage.ok(["create", "--name", &noise].into_iter().chain(options).chain([BUSYBOX, "true"]));
        stage.ok(["rm", &noise]);
    };
    for (number, cut) in [None, Some(300)].into_iter().enumerate() {
        let outcome = through_a_helper(&stage, &home, &format!("disturbed{number}.sock"), cut, &|| {
            visit(&bind);
            busy();
        });
        let outcome = outcome.exits(4).says(&format!("container {visitor} ran while it was read"));
        let outcome = outcome.says_nothing_of("before anybody could see").says_nothing_of("cannot be seen");
        let document = document(&stage, &application(&outcome));
        assert!(outcome_of(&document, "bind").contains("partial"), "{document}");
        assert!(outcome_of(&document, "volume").contains("complete"), "{document}");
    }
    let outcome = through_a_helper(&stage, &home, "alone.sock", None, &|| visit(&other));
    let _ = outcome.success().says_nothing_of(&visitor);
}

#[test]
fn one_that_nobody_could_look_at_is_told_and_so_is_an_engine_that_tells_nothing() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "unseen");
    let bind = home.make_folder("bind");
    start(&stage, "app", 50, &["-v", &format!("{}:/bind", bind.display())], POLITE);
    tree::write(&bind.join("file"), b"content");
    let (name, visitor) = (stage.name("app"), stage.name("visitor"));
    let held = |host: &str, meanwhile: &dyn Fn()| {
        let backup = stage.bbackup(["backup", "--json", "--full", "--containers", &name]).env("DOCKER_HOST", host);
        let mut running = backup.spawn();
        running.hold_while_it_has_open(&stage.mountpoint(&stage.name("app-data")));
        meanwhile();
        running.signal(rustix::process::Signal::CONT);
        running.wait()
    };
    let visit = || drop(stage.ok(["run", "--rm", "--name", &visitor, BUSYBOX, "true"]));
    let outcome = held(&stage.engine().host(), &visit).exits(4);
    let outcome = outcome.says(&format!("container {visitor} ran while bind mounts were read, and was gone before"));
    let document = document(&stage, &application(&outcome));
    assert!(outcome_of(&document, "bind").contains("complete"), "{document}");
    for (number, action) in [Action::Deny, Action::CutAfter(0)].into_iter().enumerate() {
        let rule = move |line: &str| if line.contains("/events?") { action } else { Action::Pass };
        let proxy = Proxy::start(&home.path(format!("silent{number}.sock")), &stage.engine().host(), rule);
        let outcome = held(&proxy.host(), &visit).success();
        let _ = outcome.says("started and removed again while volumes were read cannot be seen").says("GET /events");
    }
}

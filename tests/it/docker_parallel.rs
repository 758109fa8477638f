//! Several applications at once.

use std::fs;

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
    let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
    let seen = std::sync::Arc::clone(&log);
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

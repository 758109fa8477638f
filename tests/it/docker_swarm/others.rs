//! What else a swarm has: restores beside and over its tasks, networks of its own, secrets and configs, and nodes that may not
//! ask for services.

use std::fs;

use super::{Service, configured, swarm};
use crate::support::engine::{BUSYBOX, Engine, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::tree;

#[test]
fn a_restore_brings_the_rest_and_says_that_tasks_are_not_made() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "restore", swarm());
    let service = Service::start(&stage, "web", 1, &[]);
    let noise = fs::read(service.folder().join("noise")).unwrap();
    let before = service.states();
    let _ = stage.bbackup(["backup", "-C", &service.name]).run().success();
    let document = stage.bbackup(["dump", "latest", &format!("/docker/{}/application.json", service.name)]).run().success();
    assert!(document.text().contains("not the services, secrets and configs that they are made of"), "{}", document.text());
    // While it runs: over it, its volume would change under a task that cannot be set aside.
    tree::write(&service.folder().join("noise"), b"newer");
    let in_place = stage.bbackup(["restore", "latest", "--volume", &service.volume, "--in-place"]).run().exits(1);
    drop(in_place.says("it is a swarm task, which its service would replace"));
    assert_eq!(service.states(), before);
    assert_eq!(fs::read(service.folder().join("noise")).unwrap(), b"newer");
    // And without it.
    let volume = service.volume.clone();
    drop(service);
    stage.ok(["volume", "rm", &volume]);
    let outcome = stage.bbackup(["restore", "latest", "--all"]).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    drop(outcome.says("is a swarm task: its service makes it, and that is not in the snapshot"));
    assert!(fs::read(stage.mountpoint(&volume).join("noise")).unwrap() == noise);
    assert!(stage.ok(["ps", "-aq", "--filter", &format!("volume={volume}")]).is_empty());
}

#[test]
fn what_a_swarm_has_besides_is_in_nobodys_way_and_what_is_not_saved_is_said() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "besides", swarm());
    let (network, secret, config) = (stage.name("mesh"), stage.name("secret"), stage.name("config"));
    let file = home.path("content");
    fs::write(&file, b"content").unwrap();
    let path = file.to_str().unwrap();
    stage.ok(["network", "create", "--driver", "overlay", "--attachable", &network]);
    stage.ok(["secret", "create", &secret, path]);
    stage.ok(["config", "create", &config, path]);
    let options = ["--network", &network, "--secret", &secret, "--config", &config, "--publish", "18080:80"];
    let service = Service::start(&stage, "web", 1, &options);
    // One that is no task joins the same network.
    stage.ok(["run", "-d", "--name", &stage.name("plain"), "--network", &network, BUSYBOX, "sh", "-c", super::POLITE]);
    let networks = stage.bbackup(["list-networks"]).run().success().says(&network);
    for of_every_swarm in ["ingress", "docker_gwbridge"] {
        let line = networks.text().lines().find(|line| line.starts_with(of_every_swarm)).unwrap_or_default().to_owned();
        assert!(line.ends_with("no: Docker's own"), "{}", networks.describe());
    }
    for list in ["list-containers", "list-volumes"] {
        let _ = stage.bbackup([list]).run().success().says(&service.name);
    }
    let config_file = configured(&home, "pause");
    let _ = stage.bbackup(["--config", &config_file, "coverage"]).run().exits(4).says(&service.name);
    let names = format!("{},{}", service.name, stage.name("plain"));
    let outcome = stage.bbackup(["backup", "-C", &names]).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    drop(outcome.says("not the services, secrets and configs that they are made of"));
    // The plain container and the network come back, the task does not.
    drop(service);
    stage.ok(["rm", "-f", &stage.name("plain")]);
    let outcome = stage.bbackup(["restore", "latest", "--container", &stage.name("plain")]).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    stage.wait_for_state(&stage.name("plain"), "running");
    stage.ok(["rm", "-f", &stage.name("plain")]);
    stage.ok(["secret", "rm", &secret]);
    stage.ok(["config", "rm", &config]);
}

/// Two Engines, the second of which has joined the swarm of the first as a worker, by a cable between their networks.
fn two_nodes() -> (&'static Engine, &'static Engine) {
    let start = || -> &'static Engine { Box::leak(Box::new(Engine::start(&[]))) };
    let (manager, worker) = (start(), start());
    let (one, two) = (manager.pid().to_string(), worker.pid().to_string());
    let ip = |words: &[&str]| {
        let output = std::process::Command::new("ip").args(words).output().unwrap();
        assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    ip(&["link", "add", "bbswarm0", "netns", &one, "type", "veth", "peer", "name", "bbswarm0", "netns", &two]);
    for (pid, address) in [(&one, "10.97.0.1/24"), (&two, "10.97.0.2/24")] {
        for words in [&["addr", "add", address, "dev", "bbswarm0"][..], &["link", "set", "bbswarm0", "up"]] {
            let output = std::process::Command::new("nsenter").args(["-n", "-t", pid, "ip"]).args(words).output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let _ = manager.client(["swarm", "init", "--advertise-addr", "10.97.0.1"]).run().success();
    let token = manager.client(["swarm", "join-token", "-q", "worker"]).run().success().text();
    let join = ["swarm", "join", "--advertise-addr", "10.97.0.2", "--token", token.trim(), "10.97.0.1:2377"];
    let _ = worker.client(join).run().success();
    (manager, worker)
}

#[test]
fn on_a_worker_tasks_are_paused_and_on_the_manager_those_of_other_nodes_end() {
    needs!(Part::Engine, Part::Program("nsenter"), Part::Program("ip"));
    let home = Home::with_repository();
    let (engine, worker) = two_nodes();
    let manager = Stage::on(&home, "manager", engine);
    // One task on each node.
    let service = Service::create(&manager, "web", &["--replicas", "2", "--replicas-max-per-node", "1"]);
    service.wait_for_tasks(1);
    let filter = format!("label=com.docker.swarm.service.name={}", service.name);
    let over_there = || worker.client(["ps", "-q", "--no-trunc", "--filter", &filter]).run().success().text();
    let start = std::time::Instant::now();
    while over_there().is_empty() {
        assert!(start.elapsed() < std::time::Duration::from_mins(1), "no task came to the worker");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let config = configured(&home, "scale");
    let before = over_there();
    let outcome = home.bbackup(["--config", &config, "backup", "-C", &service.name]).env("DOCKER_HOST", worker.host()).run().success();
    drop(outcome.says("paused instead of its service scaled to 0: this node is not a manager of the swarm"));
    assert_eq!((over_there(), service.replicas()), (before.clone(), 2));

    service.fill(1);
    let mut running = manager.bbackup(["--config", &config, "backup", "-C", &service.name]).spawn();
    running.hold_while_it_has_open(&service.folder());
    assert_eq!((service.containers(false), over_there().as_str()), (Vec::new(), ""), "tasks of both nodes have to end");
    running.signal(rustix::process::Signal::CONT);
    let _ = running.wait().success();
    assert_eq!((service.replicas(), service.containers(false).len()), (2, 1));
    assert!(!over_there().is_empty() && over_there() != before);
}

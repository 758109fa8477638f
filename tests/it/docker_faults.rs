//! Docker when things go wrong: a killed run, a cut stream, a container that vanishes, names and ports that are taken.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::faults;
use crate::support::home::{Home, files_below};
use crate::support::manifest::Manifest;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};
use crate::support::tree;

/// A container that runs, with a volume of some megabytes.
fn one_container(stage: &Stage<'_>, home: &Home, name: &str, megabytes: usize, options: &[&str]) -> PathBuf {
    let (name, volume) = (stage.name(name), stage.name(&format!("{name}-data")));
    let mut create = vec!["volume".to_owned(), "create".to_owned()];
    if options.contains(&"through-helper") {
        let folder = home.make_folder(&format!("device-{name}"));
        for option in ["type=none".to_owned(), "o=bind".to_owned(), format!("device={}", folder.display())] {
            create.extend(["--opt".to_owned(), option]);
        }
    }
    create.push(volume.clone());
    stage.ok(create);
    let inspect = stage.inspect("volume", &volume);
    let folder = PathBuf::from(inspect["Options"]["device"].as_str().unwrap_or_else(|| inspect["Mountpoint"].as_str().unwrap()));
    tree::write(&folder.join("noise"), &tree::noise(4, megabytes * 1_000_000));
    tree::many(&folder, 100);
    let mount = format!("{volume}:/data");
    let options: Vec<&str> = options.iter().copied().filter(|option| option.starts_with('-')).collect();
    stage.ok([
        &["run", "-d", "--name", &name, "-v", &mount][..],
        &options,
        &[BUSYBOX, "sh", "-c", "trap exit TERM; while :; do sleep 1; done"],
    ]
    .concat());
    folder
}

fn state(stage: &Stage<'_>, name: &str) -> String {
    stage.ok(["inspect", "--format", "{{.State.Status}}", &stage.name(name)])
}

#[test]
fn a_killed_run_leaves_no_container_down() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "killed");
    let folder = one_container(&stage, &home, "app", 50, &[]);
    let name = stage.name("app");
    let mut running = stage.bbackup(["backup", "--containers", &name]).spawn();
    running.hold_while_it_has_open(&folder);
    running.signal(Signal::KILL);
    let _ = running.wait().killed_by(Signal::KILL);
    assert_eq!(state(&stage, "app"), "exited");
    // That something was down is a warning, whatever is done by the command that puts it right.
    let outcome = stage.bbackup(["list-containers", "--json"]).run().exits(4).says("runs again");
    let envelope = outcome.json_lines().pop().unwrap();
    assert_eq!((&envelope["errors"][0]["code"], &envelope["success"]), (&"put_right".into(), &false.into()), "{envelope}");
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    stage.wait_for_state(&name, "running");
}

#[test]
fn what_a_living_run_has_stopped_stays_stopped() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "living");
    let folder = one_container(&stage, &home, "app", 50, &[]);
    one_container(&stage, &home, "other", 1, &[]);
    let mut running = stage.bbackup(["backup", "--containers", &stage.name("app")]).spawn();
    running.hold_while_it_has_open(&folder);
    assert_eq!(state(&stage, "app"), "exited");
    let _ = stage.bbackup(["backup", "--containers", &stage.name("other")]).run().success();
    assert_eq!(state(&stage, "app"), "exited", "another run has started what a living one had stopped");
    running.signal(Signal::CONT);
    let _ = running.wait().success();
    stage.wait_for_state(&stage.name("app"), "running");
}

#[test]
fn an_interrupt_brings_containers_back() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "interrupt");
    let folder = one_container(&stage, &home, "app", 50, &[]);
    let mut running = stage.bbackup(["backup", "--containers", &stage.name("app")]).spawn();
    running.hold_while_it_has_open(&folder);
    assert_eq!(state(&stage, "app"), "exited");
    running.signal(Signal::TERM);
    running.signal(Signal::CONT);
    let _ = running.wait().exits(130);
    stage.wait_for_state(&stage.name("app"), "running");
    assert!(files_below(&home.repository().join("snapshots")).is_empty());
}

#[test]
fn only_what_ran_is_started_and_what_must_not_be_stopped_is_paused() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "states");
    one_container(&stage, &home, "ran", 1, &[]);
    one_container(&stage, &home, "stood", 1, &[]);
    one_container(&stage, &home, "fleeting", 1, &["--rm"]);
    stage.ok(["stop", "-t", "1", &stage.name("stood")]);
    let started = |name: &str| stage.ok(["inspect", "--format", "{{.State.StartedAt}}", &stage.name(name)]);
    let (ran, stood, fleeting) = (started("ran"), started("stood"), started("fleeting"));
    let names = ["ran", "stood", "fleeting"].map(|name| stage.name(name)).join(",");
    let _ = stage.bbackup(["backup", "--json", "--containers", &names]).run().success();
    stage.wait_for_state(&stage.name("ran"), "running");
    assert_ne!(started("ran"), ran, "it was not stopped for the read");
    assert_eq!((state(&stage, "stood"), started("stood")), ("exited".to_owned(), stood));
    assert_eq!(
        (state(&stage, "fleeting"), started("fleeting")),
        ("running".to_owned(), fleeting),
        "a --rm container was stopped, which deletes it"
    );
}

#[test]
fn a_stream_that_is_cut_is_no_backup() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "cut");
    one_container(&stage, &home, "app", 20, &["through-helper"]);
    let cut = |line: &str| if line.starts_with("GET ") && line.contains("/archive") { Action::CutAfter(3_000_000) } else { Action::Pass };
    let proxy = Proxy::start(&home.path("proxy.sock"), &stage.engine().host(), cut);
    let outcome = stage.bbackup(["backup", "--containers", &stage.name("app")]).env("DOCKER_HOST", proxy.host()).run();
    assert!(proxy.cuts() > 0, "nothing was cut\n{}", outcome.describe());
    assert!(matches!(outcome.code(), Some(1 | 4)), "{}", outcome.describe());
    let outcome = outcome.says(&stage.name("app-data"));
    assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
    stage.wait_for_state(&stage.name("app"), "running");
    let snapshots = stage.bbackup(["snapshots", "--json"]).run().success();
    let data = snapshots.json_lines().last().unwrap()["data"].clone();
    let listed = data.as_array().cloned().unwrap_or_else(|| data["snapshots"].as_array().unwrap().clone());
    let is_partial = |one: &Value| one["tags"].as_array().is_some_and(|tags| tags.contains(&Value::from("partial")));
    assert!(listed.iter().all(is_partial), "it is listed as whole: {data}");
    assert_eq!(!listed.is_empty(), outcome.code() == Some(4), "{data}");
    let _ = stage.bbackup(["restore", "latest", "--volume", &stage.name("app-data"), "--to"]).arg(home.path("out")).run().exits(1);
    let mine = format!("volume={}", stage.name("app-data"));
    let helpers = stage.ok(["ps", "-aq", "--filter", "label=bbackup.helper", "--filter", &mine]);
    assert!(helpers.is_empty(), "a helper was left behind: {helpers}");
    // Without the proxy it works.
    let _ = stage.bbackup(["backup", "--containers", &stage.name("app")]).run().success();
}

#[test]
fn a_container_that_vanishes_costs_only_itself() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "vanish");
    one_container(&stage, &home, "first", 1, &[]);
    one_container(&stage, &home, "second", 1, &[]);
    let (host, victim) = (stage.engine().host(), stage.name("second"));
    let remove = {
        let victim = victim.clone();
        move |line: &str| {
            if line.starts_with("POST ") && line.contains("/stop") {
                let _ = std::process::Command::new("docker").args(["-H", &host, "rm", "-f", &victim]).output();
            }
            Action::Pass
        }
    };
    let proxy = Proxy::start(&home.path("proxy.sock"), &stage.engine().host(), remove);
    let names = format!("{},{victim}", stage.name("first"));
    let outcome = stage.bbackup(["backup", "--containers", &names]).env("DOCKER_HOST", proxy.host()).run();
    assert!(!stage.exists("container", &victim), "nothing was removed");
    let outcome = outcome.exits(4).says(&victim);
    assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
    stage.wait_for_state(&stage.name("first"), "running");
    let _ = stage.bbackup(["restore", "latest", "--volume", &stage.name("first-data"), "--to"]).arg(home.path("out")).run().success();
}

#[test]
fn everything_that_stands_in_the_way_is_said_at_once_and_nothing_is_done() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "conflict");
    let (network, name, volume) = (stage.name("net"), stage.name("app"), stage.name("app-data"));
    stage.ok(["network", "create", "--subnet", "10.93.1.0/24", &network]);
    stage.ok(["tag", BUSYBOX, "bbackup-test/soon-gone:1"]);
    let mount = format!("{volume}:/data");
    let run = [
        "run",
        "-d",
        "--name",
        &name,
        "--network",
        &network,
        "--ip",
        "10.93.1.5",
        "-p",
        "18099:80",
        "-v",
        &mount,
        "bbackup-test/soon-gone:1",
        "sleep",
        "1000",
    ];
    stage.ok(run);
    tree::write(&stage.mountpoint(&volume).join("file"), b"an empty volume would just be filled");
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    // Still there: names are taken.
    let outcome = stage.bbackup(["restore", "latest", "--all"]).run().exits(1);
    let outcome = outcome.says(&name).says(&volume);
    assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());

    // Gone, but another container has the port, another network the subnet, and the volume's name is taken.
    stage.ok(["rm", "-f", &name]);
    stage.ok(["network", "rm", &network]);
    stage.ok(["network", "create", "--subnet", "10.93.1.0/24", &stage.name("squatter-net")]);
    stage.ok(["run", "-d", "--name", &stage.name("squatter"), "-p", "18099:80", BUSYBOX, "sleep", "1000"]);
    let before = everything(&stage);
    let outcome = stage.bbackup(["restore", "latest", "--all"]).run().exits(1).says("18099").says("10.93.1.0/24").says(&volume);
    assert_eq!(everything(&stage), before, "a restore that cannot be done has done something\n{}", outcome.describe());

    // Out of the way, it works, also under other names.
    let _ = stage.docker(["rm", "-f", &stage.name("squatter")]).run().success();
    let _ = stage.docker(["network", "rm", &stage.name("squatter-net")]).run().success();
    let _ = stage.docker(["volume", "rm", &volume]).run().success();
    let dry = stage.bbackup(["restore", "latest", "--all", "--dry-run"]).run().success().says(&name);
    drop(dry);
    assert!(!stage.exists("container", &name) && !stage.exists("volume", &volume), "a dry run did something");
    let renamed = stage.name("renamed");
    let _ = stage.bbackup(["restore", "latest", "--all", "--rename", &format!("{name}:{renamed}")]).run().success();
    assert!(stage.exists("container", &renamed) && !stage.exists("container", &name));
    assert!(stage.exists("volume", &volume));
}

/// Names of everything on the Engine that belongs to the test.
fn everything(stage: &Stage<'_>) -> Vec<String> {
    let mut names = Vec::new();
    let prefix = stage.name("");
    for arguments in [
        ["ps", "-a", "--format", "container {{.Names}} {{.State}}"].as_slice(),
        &["volume", "ls", "--format", "volume {{.Name}}"],
        &["network", "ls", "--format", "network {{.Name}}"],
    ] {
        names.extend(stage.ok(arguments).lines().filter(|line| line.contains(&prefix)).map(str::to_owned));
    }
    names.sort();
    names
}

#[test]
fn one_item_out_of_many_comes_back_alone() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "one");
    let folder = one_container(&stage, &home, "app", 2, &[]);
    let noise = fs::read(folder.join("noise")).unwrap();
    let volume = stage.name("app-data");
    let _ = stage.bbackup(["backup", "--containers", &stage.name("app")]).run().success();
    stage.ok(["rm", "-f", &stage.name("app")]);
    stage.ok(["volume", "rm", &volume]);
    let _ = stage.bbackup(["restore", "latest", "--volume", &volume]).run().success();
    assert_eq!(fs::read(stage.mountpoint(&volume).join("noise")).unwrap(), noise);
    assert!(!stage.exists("container", &stage.name("app")), "only the volume was asked for");
    let _ = stage.bbackup(["restore", "latest", "--volume", &volume, "--to"]).arg(home.path("files")).run().success();
    assert!(files_below(&home.path("files")).iter().any(|path| tree::is_named(path, b"noise")));
}

#[test]
fn what_is_on_the_host_is_listed() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "list");
    one_container(&stage, &home, "app", 1, &["--env=PASSWORD=Pa55w0rd"]);
    for (command, name) in [("list-containers", "app"), ("list-volumes", "app-data")] {
        let _ = stage.bbackup([command]).run().success().says(&stage.name(name)).says_nothing_of("Pa55w0rd");
        let outcome = stage.bbackup([command, "--json"]).run().success();
        let envelope: Value = outcome.json_lines().pop().unwrap();
        assert!(envelope["data"].to_string().contains(&stage.name(name)), "{envelope}");
        let _ = outcome.says_nothing_of("Pa55w0rd");
    }
    // A password is in the Engine's description of the container, and on no screen.
    let name = stage.name("app");
    let _ = stage.bbackup(["backup", "-v", "--containers", &name]).run().success().says_nothing_of("Pa55w0rd");
    let _ = stage.bbackup(["backup", "--json", "-v", "--containers", &name]).run().success().says_nothing_of("Pa55w0rd");
    let document = stage.bbackup(["dump", "latest", &format!("/docker/{name}/containers/{name}/inspect.json")]).run().success();
    assert!(document.text().contains("Pa55w0rd"), "it is not saved: {}", document.describe());
    for words in [&["restore", "latest", "--all", "--as-new", "--dry-run", "-v"][..], &["snapshots"], &["ls", "latest"], &["coverage"]] {
        for json in [&[][..], &["--json"]] {
            let outcome = stage.bbackup(words).args(json).run();
            assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
            let _ = outcome.says_nothing_of("Pa55w0rd");
        }
    }
    let _ = stage.bbackup(["list-networks"]).run().success().says("bridge");
    let _ = stage.bbackup(["backup", "--containers", "no-such-thing"]).run().says("no-such-thing");
}

#[test]
fn a_volume_that_became_empty_is_a_failure() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "empty");
    let folder = one_container(&stage, &home, "app", 1, &[]);
    let name = stage.name("app");
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    let outcome = stage.bbackup(["backup", "--containers", &name]).run();
    assert!(matches!(outcome.code(), Some(1 | 4)), "an emptied volume is a success: {}", outcome.describe());
    let _ = outcome.says(&stage.name("app-data"));
    // The last whole one is still what `latest` means.
    let restored = stage.bbackup(["restore", "latest", "--volume", &stage.name("app-data"), "--to"]).arg(home.path("out")).run();
    let _ = restored.exits(4).says("is partial");
    assert!(files_below(&home.path("out")).iter().any(|path| tree::is_named(path, b"noise")));
}

#[test]
fn a_container_is_not_started_on_half_of_its_data() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "half");
    one_container(&stage, &home, "app", 3, &[]);
    let other = one_container(&stage, &home, "other", 1, &[]);
    tree::write(&other.join("noise"), &tree::noise(77, 1_000_000));
    let names = ["app", "other"].map(|name| stage.name(name));
    let _ = stage.bbackup(["backup", "--containers", &names[0]]).run().success();
    let packs = files_below(&home.repository().join("data"));
    let pack = packs.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    faults::flip(&pack, (fs::metadata(&pack).unwrap().len() / 2).cast_signed());
    let _ = stage.bbackup(["backup", "--containers", &names[1]]).run().success();
    for name in &names {
        stage.ok(["rm", "-f", "-v", name]);
        stage.ok(["volume", "rm", &format!("{name}-data")]);
    }

    let outcome = stage.bbackup(["restore", "latest", "--all"]).run().exits(4);
    let _ = outcome.says("noise").says(&format!("container {} is not started", names[0]));
    stage.wait_for_state(&names[1], "running");
    assert_eq!(state(&stage, "app"), "created", "a program was started on half of its data");
    // What is whole is there all the same.
    let restored = stage.inspect("volume", &format!("{}-data", names[0]));
    let restored = files_below(restored["Mountpoint"].as_str().unwrap().as_ref());
    assert!(restored.len() >= 100, "{restored:?}");
}

#[test]
fn a_restore_that_is_ended_is_done_by_the_next() {
    needs!(Part::Engine);
    for signal in [Signal::KILL, Signal::INT] {
        let home = Home::with_repository();
        let stage = Stage::new(&home, if signal == Signal::KILL { "endkill" } else { "endint" });
        let folder = one_container(&stage, &home, "app", 120, &[]);
        let (name, volume) = (stage.name("app"), stage.name("app-data"));
        let before = Manifest::of(&folder);
        let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
        stage.ok(["rm", "-f", &name]);
        stage.ok(["volume", "rm", &volume]);
        let restore = || stage.bbackup(["restore", "latest", "--container", &name]);
        let mut running = restore().spawn();
        // The new volume lies where the old one lay.
        running.hold_while_it_has_open(&folder.join("noise"));
        // What an old Engine says of when a volume was made is when its folder was last changed, to the second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        running.signal(signal);
        running.signal(Signal::CONT);
        let outcome = running.wait();
        if signal == Signal::KILL {
            let _ = outcome.killed_by(signal);
        } else {
            // It says one thing only, and begins nothing after the signal.
            let outcome = outcome.exits(130).says("removed again").says_nothing_of("is there.").says_nothing_of("create container");
            assert!(!stage.exists("volume", &volume), "{}", outcome.describe());
        }
        let outcome = restore().run();
        assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
        stage.wait_for_state(&name, "running");
        before.assert_equals(&Manifest::of(&stage.mountpoint(&volume)));
        let _ = home.bbackup(["check"]).run().success();
    }
}

#[test]
fn what_is_not_there_is_refused_before_anything_is_done() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "unknown");
    one_container(&stage, &home, "app", 1, &[]);
    let (name, volume, image) = (stage.name("app"), stage.name("app-data"), "bbackup-test/committed:1");
    stage.ok(["commit", &name, image]);
    stage.ok(["rm", "-f", &name]);
    stage.ok(["run", "-d", "--name", &name, "-v", &format!("{volume}:/data"), "--stop-timeout", "0", image, "sleep", "1000"]);
    let _ = stage.bbackup(["backup", "--containers", "no-such-thing"]).run().exits(1).says("no-such-thing");
    assert!(files_below(&home.repository().join("snapshots")).is_empty());
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    for flag in ["--container", "--volume"] {
        let _ = stage.bbackup(["restore", "latest", flag, "no-such-thing"]).run().exits(1).says("no-such-thing");
    }
    // An image that is nowhere any more.
    stage.ok(["rm", "-f", &name]);
    stage.ok(["volume", "rm", &volume]);
    stage.ok(["rmi", "-f", image]);
    let _ = stage.bbackup(["restore", "latest", "--container", &name]).run().exits(1).says(image);
    assert!(!stage.exists("container", &name) && !stage.exists("volume", &volume), "something was made");
}

#[test]
fn a_copy_is_no_part_of_its_project() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "copyproject");
    let (project, name) = (stage.name("shop"), stage.name("app"));
    let label = format!("--label=com.docker.compose.project={project}");
    one_container(&stage, &home, "app", 1, &[&label, "--label=com.docker.compose.service=app"]);
    let _ = stage.bbackup(["backup", "--projects", &project]).run().success();
    let _ = stage.bbackup(["restore", "latest", "--container", &name, "--as-new"]).run().success();
    let copy = format!("{name}-restored");
    stage.wait_for_state(&copy, "running");
    assert_eq!(stage.inspect("container", &copy)["Config"]["Labels"]["com.docker.compose.project"], format!("{project}-restored"));
    let outcome = stage.bbackup(["backup", "--json", "--projects", &project]).run().success();
    let _ = outcome.says(&name).says_nothing_of(&copy);
}

#[test]
fn an_application_of_which_a_part_cannot_be_looked_at_is_not_whole() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "unseen");
    let project = stage.name("shop");
    let label = format!("--label=com.docker.compose.project={project}");
    one_container(&stage, &home, "web", 1, &[&label]);
    one_container(&stage, &home, "db", 1, &[&label]);
    let network = stage.name("net");
    stage.ok(["network", "create", &label, &network]);
    let _ = stage.bbackup(["backup", "--projects", &project]).run().success();
    let whole = stage.bbackup(["snapshots", "--json", "latest"]).run().success().text();
    let id = |kind: &str, name: &str| stage.inspect(kind, name)["Id"].as_str().unwrap().to_owned();
    let cases =
        [("container", stage.name("db"), id("container", &stage.name("db"))), ("network", network.clone(), id("network", &network))];
    for (number, (kind, name, lost)) in cases.into_iter().enumerate() {
        let is_lost = move |line: &str| line.starts_with("GET ") && line.contains(&lost) && !line.contains("/logs");
        let decide = move |line: &str| if is_lost(line) { Action::Fail } else { Action::Pass };
        let proxy = Proxy::start(&home.path(format!("proxy{number}.sock")), &stage.engine().host(), decide);
        let outcome = stage.bbackup(["backup", "--json", "--projects", &project]).env("DOCKER_HOST", proxy.host()).run().exits(4);
        let snapshots = stage.bbackup(["snapshots", "--json"]).run().success().text();
        assert!(snapshots.contains("\"partial\""), "{snapshots}");
        let of_run = outcome.text();
        assert!(of_run.contains("layer is lost"), "{of_run}");
        let item = format!("{kind} {name}");
        assert!(of_run.contains(&item) && of_run.contains("cannot be looked at"), "{of_run}");
        if kind == "container" {
            // It runs, nobody could keep it still, and its volume is not taken for whole.
            assert!(of_run.contains(&format!("container {name} ran while it was read")), "{of_run}");
        }
        // What can be had is saved, and the last whole one stays the latest.
        assert_eq!(stage.bbackup(["snapshots", "--json", "latest"]).run().success().text(), whole);
    }
    stage.wait_for_state(&stage.name("db"), "running");
}

#[test]
fn who_is_let_go_on_while_it_is_read_is_seen() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "unpaused");
    let folder = one_container(&stage, &home, "app", 20, &[]);
    let name = stage.name("app");
    stage.ok(["pause", &name]);
    let mut running = stage.bbackup(["backup", "--json", "--containers", &name]).spawn();
    running.hold_while_it_has_open(&folder);
    stage.ok(["unpause", &name]);
    running.signal(Signal::CONT);
    let _ = running.wait().exits(4).says(&format!("container {name} ran while it was read"));
    let snapshots = stage.bbackup(["snapshots", "--json"]).run().success().text();
    assert!(snapshots.contains("\"partial\""), "{snapshots}");
    // One that stays paused hinders nobody.
    stage.ok(["pause", &name]);
    let _ = stage.bbackup(["backup", "--json", "--containers", &name]).run().success();
    assert_eq!(state(&stage, "app"), "paused");
}

#[test]
fn nobody_is_waited_for_without_end() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "endless");
    one_container(&stage, &home, "app", 1, &["--stop-timeout=-1"]);
    let name = stage.name("app");
    // A stop without a limit would still be waited for by the Engine when nobody here does any more.
    let decide = |line: &str| if line.contains("/stop") && !line.contains("/stop?t=300") { Action::Fail } else { Action::Pass };
    let proxy = Proxy::start(&home.path("proxy.sock"), &stage.engine().host(), decide);
    for arguments in [&["backup", "--containers", &name][..], &["restore", "latest", "--all", "--in-place"]] {
        let _ = stage.bbackup(arguments).env("DOCKER_HOST", proxy.host()).run().success();
        stage.wait_for_state(&name, "running");
    }
}

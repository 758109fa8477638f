//! Restores of more than one thing to a real Engine: beside the original under other names, and a whole run of several applications.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::engine::{BUSYBOX, Engine, Stage};
use crate::support::faults::Mount;
use crate::support::home::Home;
use crate::support::manifest::Manifest;
use crate::support::mounted::Disk;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy, over_tcp};
use crate::support::run::Outcome;
use crate::support::tree;

/// What listens at a port of the Engine says.
fn fetch(stage: &Stage<'_>, home: &Home, port: &str) -> String {
    // The container runs before its program listens.
    let script = "for i in $(seq 100); do busybox wget -q -O - \"$1\" && exit; sleep 0.1; done; exit 1";
    let program = home.program("sh").args(["-c", script, "fetch", &format!("http://127.0.0.1:{port}/page")]);
    stage.engine().inside(program).run().success().text()
}

#[test]
fn a_container_is_written_as_plain_files_with_what_it_mounts() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "plain");
    let (name, volume, bind) = (stage.name("app"), stage.name("data"), home.make_folder("srv/www"));
    fs::write(bind.join("page"), "a page").unwrap();
    stage.ok(["volume", "create", &volume]);
    fs::write(stage.mountpoint(&volume).join("file"), "a file").unwrap();
    let mounts = [format!("{volume}:/data"), format!("{}:/www", bind.display()), "/etc/hostname:/etc/host:ro".to_owned()];
    let mounts: Vec<&str> = mounts.iter().flat_map(|mount| ["-v", mount]).collect();
    stage.ok([&["run", "-d", "--name", &name, "--stop-timeout", "0"][..], &mounts, &[BUSYBOX, "sleep", "1000"]].concat());
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    let out = home.path("out");
    let restore =
        |to: &Path| stage.bbackup(["restore", "latest", "--container", &name, "--volume", &volume, "--to"]).arg(to).run().success();
    let _ = restore(&out).says_nothing_of("is not in snapshot");
    let root = out.join("docker").join(&name);
    assert!(root.join("containers").join(&name).join("inspect.json").exists());
    assert_eq!(fs::read_to_string(root.join("volumes").join(&volume).join("file")).unwrap(), "a file");
    let page = root.join("binds").join(bind.strip_prefix("/").unwrap()).join("page");
    assert_eq!(fs::read_to_string(page).unwrap(), "a page");
    // What was not saved is told.
    let backup = stage.bbackup(["backup", "--json", "--config-only", "--containers", &name]).run().success();
    let summary = backup.json_lines().into_iter().find(|line| line["message_type"] == "summary").unwrap();
    let id = summary["snapshot_id"].as_str().unwrap();
    let outcome = stage.bbackup(["restore", id, "--container", &name, "--to"]).arg(home.path("bare")).run().success();
    let _ = outcome.says(&format!("volume {volume}, which container {name} mounts, is not in snapshot"));
}

#[test]
fn a_copy_under_other_names_runs_beside_the_original() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "beside");
    let (name, volume, network) = (stage.name("app"), stage.name("data"), stage.name("net"));
    let (other, other_volume, other_network) = (stage.name("copy"), stage.name("copied"), stage.name("branch"));
    stage.ok(["network", "create", "--subnet", "10.208.1.0/24", &network]);
    stage.ok(["volume", "create", &volume]);
    fs::write(stage.mountpoint(&volume).join("page"), "as saved").unwrap();
    let mount = format!("{volume}:/data");
    let place = ["--network", &network, "--ip", "10.208.1.9", "-p", "18601:80", "-v", &mount, "--stop-timeout", "0"];
    stage.ok([&["run", "-d", "--name", &name][..], &place, &[BUSYBOX, "httpd", "-f", "-p", "80", "-h", "/data"]].concat());
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    fs::write(stage.mountpoint(&volume).join("page"), "changed since").unwrap();
    let original = stage.inspect("container", &name);

    let pairs = [(&*name, &*other), (&volume, &other_volume), (&network, &other_network), ("18601", "18651")];
    let renames: Vec<String> = pairs.iter().flat_map(|(from, to)| ["--rename".to_owned(), format!("{from}:{to}")]).collect();
    let restore = |more: &[&str]| stage.bbackup(["restore", "latest", "--all", "--json"]).args(&renames).args(more).run();
    let made =
        || [("container", &other), ("volume", &other_volume), ("network", &other_network)].map(|(kind, name)| stage.exists(kind, name));

    // Two networks cannot have the same addresses: nothing is done unless others may be chosen.
    let _ = restore(&[]).exits(1).says("10.208.1.0/24").says(&network);
    assert_eq!(made(), [false; 3], "a restore that was refused has made something");
    let _ = restore(&["--as-new"]).success();
    let copy = stage.inspect("container", &other);
    assert_eq!(copy["State"]["Status"], "running");
    assert_eq!(copy["Mounts"][0]["Name"], *other_volume);
    assert_eq!(networks(&copy), [other_network.as_str()]);
    assert_eq!(copy["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], "18651");
    assert_ne!(stage.inspect("network", &other_network)["IPAM"]["Config"][0]["Subnet"], "10.208.1.0/24");
    assert_eq!((fetch(&stage, &home, "18651"), fetch(&stage, &home, "18601")), ("as saved".to_owned(), "changed since".to_owned()));
    let untouched = stage.inspect("container", &name);
    assert_eq!((&untouched["Id"], &untouched["State"]["StartedAt"]), (&original["Id"], &original["State"]["StartedAt"]));

    // Where the original is gone, its addresses are free for the one with the new names.
    stage.ok(["rm", "-f", &name, &other]);
    stage.ok(["volume", "rm", &volume, &other_volume]);
    stage.ok(["network", "rm", &network, &other_network]);
    let _ = restore(&[]).success();
    let copy = stage.inspect("container", &other);
    assert_eq!(networks(&copy), [other_network.as_str()]);
    assert_eq!(copy["NetworkSettings"]["Networks"][&other_network]["IPAddress"], "10.208.1.9");
    assert_eq!(fetch(&stage, &home, "18651"), "as saved");
    for (kind, name) in [("container", &name), ("volume", &volume), ("network", &network)] {
        assert!(!stage.exists(kind, name), "{kind} {name} came back under its old name, too");
    }
}

fn networks(inspect: &Value) -> Vec<&str> {
    inspect["NetworkSettings"]["Networks"].as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn addresses_that_nobody_asked_for_give_way_and_fixed_ones_are_a_conflict() {
    needs!(Part::Engine);
    // The pools that every Engine has, and some of its own.
    let own = ["--default-address-pool", "base=10.77.0.0/16,size=24"];
    for (arguments, fixed, gateway, address) in
        [(&[][..], "172.29.0.0/16", "172.29.0.1", "172.29.0.9"), (&own, "10.77.200.0/24", "10.77.200.1", "10.77.200.9")]
    {
        let home = Home::with_repository();
        let engine: &'static Engine = Box::leak(Box::new(Engine::start(arguments)));
        let stage = Stage::on(&home, "pools", engine);
        let (network, server, client) = (stage.name("net"), stage.name("server"), stage.name("client"));
        stage.ok(["network", "create", &network]);
        let on = ["run", "-d", "--network", &network, "--stop-timeout", "0", "--name"];
        stage.ok([&on[..], &[&server, BUSYBOX, "httpd", "-f", "-p", "80", "-h", "/etc"]].concat());
        stage.ok([&on[..], &[&client, BUSYBOX, "sleep", "1000"]].concat());
        let subnet = |network: &str| stage.inspect("network", network)["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().to_owned();
        let before = subnet(&network);
        let _ = stage.bbackup(["backup", "--all"]).run().success();
        stage.ok(["rm", "-f", &server, &client]);
        stage.ok(["network", "rm", &network]);
        // Where it was, something else is by now.
        let squatter = stage.name("squatter");
        stage.ok(["network", "create", "--subnet", &before, &squatter]);
        let restored = stage.bbackup(["restore", "latest", "--all"]).run().exits(4);
        let _ = restored.says(&format!("network {network} gets other addresses: {before} overlaps with network {squatter}"));
        assert_ne!(subnet(&network), before);
        stage.wait_for_state(&server, "running");
        let script = "for i in $(seq 100); do wget -q -O - http://$0/group && exit; sleep 0.1; done; exit 1";
        assert!(stage.ok(["exec", &client, "sh", "-c", script, &server]).starts_with("root:x:0:"));

        // With an address that somebody asked for, it has to be this subnet, even if an Engine might have chosen it.
        stage.remove_everything();
        stage.ok(["network", "create", "--subnet", fixed, "--gateway", gateway, &network]);
        stage.ok([&on[..], &[&server, "--ip", address, BUSYBOX, "sleep", "1000"]].concat());
        let _ = stage.bbackup(["backup", "--containers", &server]).run().success();
        stage.ok(["rm", "-f", &server]);
        stage.ok(["network", "rm", &network]);
        stage.ok(["network", "create", "--subnet", fixed, &squatter]);
        let refused = stage.bbackup(["restore", "latest", "--container", &server]).run().exits(1);
        let _ = refused.says(&format!("network {network} needs {fixed}, which overlaps with network {squatter}"));
        assert!(!stage.exists("container", &server) && !stage.exists("network", &network));
    }
}

/// When something happened, by the Engine's clock.
fn time(value: &Value) -> jiff::Timestamp {
    // The health log has a zone of its own.
    let text = value.as_str().unwrap();
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_whole_run_comes_back_in_the_order_in_which_its_applications_need_each_other() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "wholerun");
    // By name the last is needed by the first.
    let (base, user, reader) = (stage.name("z"), stage.name("a-user"), stage.name("m-reader"));
    let [db, web, volume, kept] = [format!("{base}-db-1"), format!("{base}-web-1"), format!("{base}_data"), stage.name("kept")];
    let project = format!("com.docker.compose.project={base}");
    for one in [&volume, &kept] {
        stage.ok(["volume", "create", one]);
    }
    let run = |name: &str, options: &[&str], command: &[&str]| {
        stage.ok([&["run", "-d", "--stop-timeout", "0", "--name", name][..], options, &[BUSYBOX], command].concat());
    };
    let (mount, kept_mount) = (format!("{volume}:/data"), format!("{kept}:/kept"));
    let health = ["--health-cmd", "test -e /tmp/ready", "--health-interval", "1s", "--health-retries", "60"];
    let service = ["--label", &project, "--label", "com.docker.compose.service=db", "-v", &mount];
    run(&db, &[&service[..], &health].concat(), &["sh", "-c", "sleep 3; touch /tmp/ready; sleep 1000"]);
    let depends = "com.docker.compose.depends_on=db:service_healthy:false";
    run(&web, &["--label", &project, "--label", "com.docker.compose.service=web", "--label", depends], &["sleep", "1000"]);
    run(&user, &["--network", &format!("container:{web}"), "-v", &kept_mount], &["sleep", "1000"]);
    run(&reader, &["--volumes-from", &user], &["sleep", "1000"]);
    for (volume, content) in [(&volume, "of the database"), (&kept, "of the user")] {
        fs::write(stage.mountpoint(volume).join("file"), content).unwrap();
    }
    let healthy = || stage.inspect("container", &db)["State"]["Health"]["Status"] == "healthy";
    let start = std::time::Instant::now();
    while !healthy() {
        assert!(start.elapsed().as_secs() < 60, "the database does not become healthy");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let chosen = format!("{db},{web},{user},{reader}");
    let outcome = stage.bbackup(["backup", "--json", "--containers", &chosen]).run().success();
    let run_id = outcome.json_lines().pop().unwrap()["data"]["runs"][0]["run"].as_str().unwrap().to_owned();
    // What comes later is not of that run.
    fs::write(stage.mountpoint(&kept).join("file"), "of another run").unwrap();
    let _ = stage.bbackup(["backup", "--containers", &user]).run().success();
    stage.ok(["rm", "-f", &db, &web, &user, &reader]);
    stage.ok(["volume", "rm", &volume, &kept]);

    let restored = stage.bbackup(["restore", &format!("run:{run_id}"), "--all", "--json"]).run().success();
    let applications = restored.json_lines().pop().unwrap()["data"]["applications"].as_array().unwrap().len();
    assert_eq!(applications, 3, "{}", restored.describe());
    let seen = [&db, &web, &user, &reader].map(|name| stage.inspect("container", name));
    for one in &seen {
        assert_eq!(one["State"]["Status"], "running", "{}", restored.describe());
    }
    let started: Vec<jiff::Timestamp> = seen.iter().map(|one| time(&one["State"]["StartedAt"])).collect();
    assert!(started.is_sorted(), "{started:?}: the database, the web server, who is in its network, who mounts the volumes of that");
    let first_good = seen[0]["State"]["Health"]["Log"].as_array().unwrap().iter().find(|check| check["ExitCode"] == 0).unwrap().clone();
    assert!(
        time(&first_good["Start"]) < started[1],
        "the web server was started before its database was healthy: {first_good}, {started:?}"
    );
    assert_eq!(seen[2]["HostConfig"]["NetworkMode"], format!("container:{}", seen[1]["Id"].as_str().unwrap()));
    assert_eq!(stage.ok(["exec", &reader, "cat", "/kept/file"]), "of the user");
    assert_eq!(stage.ok(["exec", &db, "cat", "/data/file"]), "of the database");
}

/// A proxy that takes one megabyte of a volume's files; from then on its Engine is gone, and the flag says so.
fn fragile(home: &Home, stage: &Stage<'_>, down: &Arc<AtomicBool>) -> Proxy {
    let down = Arc::clone(down);
    Proxy::start(&home.path("fragile.sock"), &stage.engine().host(), move |line| {
        if line.starts_with("PUT ") && line.contains("/archive") {
            down.store(true, Ordering::SeqCst);
            return Action::StallAfter(1_000_000);
        }
        if down.load(Ordering::SeqCst) { Action::Drop } else { Action::Pass }
    })
}

/// What restores that did not end well have left for the next start.
fn restore_journals(home: &Home) -> usize {
    let files = fs::read_dir(home.path("state").join("bbackup/restores")).into_iter().flatten();
    files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "jsonl")).count()
}

fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

#[test]
fn an_engine_that_ends_while_it_takes_a_volume_is_told_and_the_next_restore_is_whole() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let engine: &'static Engine = Box::leak(Box::new(Engine::start(&[])));
    let stage = Stage::on(&home, "endsintheput", engine);
    let (name, volume, device) = (stage.name("app"), stage.name("data"), home.make_folder("device"));
    // One that is written through a helper.
    stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &format!("device={}", device.display()), &volume]);
    tree::write(&device.join("noise"), &tree::noise(4, 30_000_000));
    tree::many(&device, 100);
    let mount = format!("{volume}:/data");
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &mount, BUSYBOX, "sleep", "1000"]);
    // A stream has whole seconds only.
    let look = || Manifest::of(&device).map(|line| line.mtime.1 = 0);
    let before = look();
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    stage.ok(["rm", "-f", &name]);
    stage.ok(["volume", "rm", &volume]);
    clear(&device);

    let down = Arc::new(AtomicBool::new(false));
    let proxy = fragile(&home, &stage, &down);
    let restore = || stage.bbackup(["restore", "latest", "--all"]);
    let mut running = restore().env("DOCKER_HOST", proxy.host()).spawn();
    running.until("the Engine to take the volume", || down.load(Ordering::SeqCst));
    let old = engine.pid();
    engine.restart();
    let outcome = running.wait().exits(1).says_nothing_of("panicked").says("the connection to the Docker Engine broke");
    let left = format!("what was made for it was removed again, except volume {volume} ");
    let _ = outcome.says(&left).says("the next restore, backup or `bbackup recover` removes that");
    assert_eq!(restore_journals(&home), 1);
    engine.wait_for_another(old);

    // That volume is in nobody's way, as it is known to be half written.
    let outcome = restore().run().says(&format!("volume {volume}, which an interrupted restore has left unfinished, was removed"));
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    stage.wait_for_state(&name, "running");
    before.assert_equals(&look());
    assert_eq!(restore_journals(&home), 0);
    assert_eq!(stage.ok(["ps", "-aq", "--filter", "label=bbackup.helper"]), "", "a helper is left");
}

#[test]
fn what_a_failed_restore_wrote_into_a_volume_that_was_there_is_told() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "filled");
    let (name, volume) = (stage.name("app"), stage.name("data"));
    stage.ok(["volume", "create", &volume]);
    let file = stage.mountpoint(&volume).join("file");
    fs::write(&file, "as saved").unwrap();
    let mount = format!("{volume}:/data");
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &mount, BUSYBOX, "sleep", "1000"]);
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    stage.ok(["rm", "-f", &name]);
    fs::remove_file(&file).unwrap();

    let create = format!("/containers/create?name={name}");
    let decide = move |line: &str| if line.contains(&create) { Action::Fail } else { Action::Pass };
    let proxy = Proxy::start(&home.path("failing.sock"), &stage.engine().host(), decide);
    let tag = format!("app:{name}");
    let restore = |more: &[&str]| stage.bbackup(["restore", "latest", "--tag", &tag]).args(more);
    let told = format!("what was written into volume {volume}, which was there and empty, stays in it");
    let _ = restore(&[]).env("DOCKER_HOST", proxy.host()).run().exits(1).says("layer is lost").says(&told);
    assert_eq!(fs::read_to_string(&file).unwrap(), "as saved");
    let _ = restore(&[]).run().exits(1).says("it holds files");
    let _ = restore(&["--in-place"]).run().success();
    stage.wait_for_state(&name, "running");
}

/// Three files, by the order in which they are restored.
fn three_files(folder: &Path) {
    fs::write(folder.join("a-first"), "first").unwrap();
    fs::write(folder.join("b-second"), "second").unwrap();
    fs::write(folder.join("c-last"), "last").unwrap();
}

#[test]
fn what_a_restore_through_a_helper_says_it_left_is_there_and_nothing_else() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "refused");
    let host = over_tcp(&stage.engine().host());
    let (app, volume) = (stage.name("app"), stage.name("vol"));
    let (device, bound) = (home.make_folder("device"), home.make_folder("bound"));
    three_files(&device);
    stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &format!("device={}", device.display()), &volume]);
    let run = |mount: &str| {
        stage.ok(["run", "-d", "--name", &app, "--stop-timeout", "0", "-v", mount, BUSYBOX, "sleep", "1000"]);
        let outcome = stage.bbackup(["backup", "--containers", &app]).env("DOCKER_HOST", &host).run();
        assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
        stage.ok(["rm", "-f", &app]);
    };
    let restore = |flags: &[&str]| stage.bbackup(["restore", "latest", "--all"]).args(flags);
    let assert_left = |folder: &Path, what: &str| {
        assert!(!stage.exists("container", &app), "a container was made on half of its data: {what}");
        assert_eq!(fs::read_to_string(folder.join("a-first")).unwrap(), "first", "{what}");
        assert!(!folder.join("c-last").exists(), "{what}");
        for mounted in [&volume, &bound.display().to_string()] {
            let mounted = format!("volume={mounted}");
            let helpers = stage.ok(["ps", "-aq", "--filter", "label=bbackup.helper", "--filter", &mounted]);
            assert_eq!(helpers, "", "a helper is left: {what}");
        }
    };
    let assert_whole = |folder: &Path, outcome: &Outcome| {
        assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
        assert_eq!(fs::read_to_string(folder.join("b-second")).unwrap(), "second");
        assert_eq!(fs::read_to_string(folder.join("c-last")).unwrap(), "last");
        stage.wait_for_state(&app, "running");
        stage.ok(["rm", "-f", &app]);
    };

    // A volume that stands for a folder is written through a helper, wherever the Engine is. There is room on the disk, but not for another file.
    run(&format!("{volume}:/data"));
    stage.ok(["volume", "rm", &volume]);
    fs::remove_dir_all(&device).unwrap();
    let small = Mount::of_few(&device, 3);
    let outcome = restore(&[]).run().exits(1).says("no space left on device").says("everything that was made for it was removed again");
    let outcome = outcome.says(&format!("what was written to {}, for which volume {volume} stands, stays there", device.display()));
    assert!(!stage.exists("volume", &volume));
    assert_left(&device, &outcome.describe());
    drop(small);
    assert_whole(&device, &restore(&[]).run());

    // A bind mount with a file in it that cannot be replaced: something is mounted there.
    three_files(&bound);
    run(&format!("{}:/data", bound.display()));
    for file in ["a-first", "c-last"] {
        fs::remove_file(bound.join(file)).unwrap();
    }
    let other = home.path("other");
    for file in [&other, &bound.join("b-second")] {
        fs::write(file, "of another").unwrap();
    }
    let mounted = Disk::another(&other, &bound.join("b-second"));
    let over = || restore(&["--in-place", "--no-save-first"]).env("DOCKER_HOST", &host).run();
    let outcome = over().exits(1).says(&format!("{} is half restored, and what was in it was not saved", bound.display()));
    assert_left(&bound, &outcome.describe());
    assert_eq!(fs::read_to_string(bound.join("b-second")).unwrap(), "of another");
    drop(mounted);
    assert_whole(&bound, &over());
}

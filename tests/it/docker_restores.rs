//! Restores of more than one thing to a real Engine: beside the original under other names, and a whole run of several applications.

use std::fs;

use serde_json::Value;

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};

/// What listens at a port of the Engine says.
fn fetch(stage: &Stage<'_>, home: &Home, port: &str) -> String {
    // The container runs before its program listens.
    let script = "for i in $(seq 100); do busybox wget -q -O - \"$1\" && exit; sleep 0.1; done; exit 1";
    let program = home.program("sh").args(["-c", script, "fetch", &format!("http://127.0.0.1:{port}/page")]);
    stage.engine().inside(program).run().success().text()
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

//! What stands in the way of a restore on a real Engine and its disks: one that is too old, disks without room.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bbackup::docker::create::ContainerBody;
use bbackup::docker::create::fields::{FEATURES, Without};
use bbackup::docker::{EngineOptions, make};
use serde_json::{Value, json};

use crate::support::engine::{BUSYBOX, Engine, Stage, other_dockerd};
use crate::support::faults::Mount;
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};
use crate::support::tree;

/// Answers that begin with these paths, given in the Engine's place.
type Answers = Arc<Mutex<Vec<(String, &'static str)>>>;

/// A proxy that gives these answers to `GET`.
fn answering(home: &Home, name: &str, engine: &str, answers: &Answers) -> Proxy {
    let answers = Arc::clone(answers);
    Proxy::start(&home.path(name), engine, move |line| {
        let path = line.strip_prefix("GET ").unwrap_or_default();
        let answers = answers.lock().unwrap();
        answers.iter().find(|(part, _)| path.contains(part.as_str())).map_or(Action::Pass, |(_, answer)| Action::Answer(answer))
    })
}

fn leak(answer: &Value) -> &'static str {
    Box::leak(answer.to_string().into_boxed_str())
}

/// Everything that not every Engine knows, in the description of a container.
fn with_every_feature(inspect: &mut Value) {
    inspect["Config"]["Healthcheck"] = json!({"Test": ["CMD", "true"], "StartInterval": 500_000_000});
    let host = &mut inspect["HostConfig"];
    host["Annotations"] = json!({"a": "b"});
    host["DeviceRequests"] = json!([{"Driver": "cdi", "DeviceIDs": ["example.test/device=one"]}]);
    let bind = |options: Value| json!({"Type": "bind", "Source": "/", "Target": "/b", "ReadOnly": true, "BindOptions": options});
    host["Mounts"] = json!([
        bind(json!({"CreateMountpoint": true})), bind(json!({"ReadOnlyForceRecursive": true})), bind(json!({"ReadOnlyNonRecursive": true})),
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"Options": [["noexec"]]}},
        {"Type": "cluster", "Source": "c", "Target": "/c"}, {"Type": "image", "Source": "nowhere/tools:1", "Target": "/i"},
        {"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"Subpath": "part"}},
    ]);
    for endpoint in inspect["NetworkSettings"]["Networks"].as_object_mut().unwrap().values_mut() {
        let options = ["ifname", "sysctls"].map(|name| (format!("com.docker.network.endpoint.{name}"), json!("x")));
        endpoint["DriverOpts"] = Value::Object(options.into_iter().collect());
        endpoint["GwPriority"] = json!(5);
    }
}

#[test]
fn an_engine_that_is_too_old_is_told_with_everything_else_in_the_way() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "tooold");
    let name = stage.name("app");
    let run = |name: &str| stage.ok(["run", "-d", "--name", name, "--stop-timeout", "0", "-p", "18651:80", BUSYBOX, "sleep", "1000"]);
    run(&name);
    // A newer Engine would have told more of it, and this one pretends to be old.
    let mut inspect = stage.inspect("container", &name);
    with_every_feature(&mut inspect);
    inspect["HostConfig"]["Runtime"] = json!("kata");
    inspect["HostConfig"]["LogConfig"] = json!({"Type": "loki", "Config": {}});
    let answers = Answers::default();
    let proxy = answering(&home, "proxy.sock", &stage.engine().host(), &answers);
    let described = format!("/containers/{}/json", inspect["Id"].as_str().unwrap());
    answers.lock().unwrap().push((described, leak(&inspect)));
    let _ = stage.bbackup(["backup", "--no-logs", "--containers", &name]).env("DOCKER_HOST", proxy.host()).run().success();
    stage.ok(["rm", "-f", &name]);
    run(&stage.name("squatter"));

    let mut version: Value = serde_json::from_str(&stage.ok(["version", "--format", "{{json .Server}}"])).unwrap();
    version["ApiVersion"] = json!("1.41");
    *answers.lock().unwrap() = vec![("/version".to_owned(), leak(&version))];
    let outcome = stage.bbackup(["restore", "latest", "--all"]).env("DOCKER_HOST", proxy.host()).run().exits(1);
    let wrong = FEATURES.iter().filter(|feature| feature.without == Without::Wrong).count();
    assert!(wrong >= 6 && FEATURES.len() > wrong, "nothing to be tried");
    for feature in FEATURES.iter().filter(|feature| feature.until.is_none()) {
        let ((major, minor), what) = (feature.since, feature.what);
        let words = match feature.without {
            Without::Wrong => format!("container {name} uses {what}, which needs an Engine with API {major}.{minor}; this one has 1.41"),
            Without::Lesser => format!("container {name}: {what}: lost, as it needs an Engine with API {major}.{minor} or later"),
        };
        assert!(outcome.errors().contains(&words), "{words}\n{}", outcome.describe());
    }
    // Not one after the other.
    let outcome =
        outcome.says("needs port 18651").says("needs runtime kata").says("needs log driver loki").says("Restore it to a newer Engine");
    let _ = outcome.says("needs image nowhere/tools:1: it mounts it, and images that are only mounted are not saved");
    assert!(!stage.exists("container", &name), "something was made");
}

#[test]
fn what_a_newer_engine_saved_is_refused_by_an_older_one_and_comes_back_on_its_own() {
    needs!(Part::Engine);
    let Some(other) = other_dockerd() else { return };
    let home = Home::with_repository();
    let (one, two): (&'static Engine, &'static Engine) = (Engine::shared(), Box::leak(Box::new(Engine::start_program(&other, &[]))));
    let minor = |engine: &Engine| -> u32 {
        let version = engine.client(["version", "--format", "{{.Server.APIVersion}}"]).run().success().text();
        version.trim().split_once('.').unwrap().1.parse().unwrap()
    };
    let (older, newer) = if minor(one) < minor(two) { (one, two) } else { (two, one) };
    if minor(older) >= 48 || minor(newer) < 48 {
        return;
    }
    let (older, newer) = (Stage::on(&home, "older", older), Stage::on(&home, "newer", newer));
    let (name, volume) = (newer.name("app"), newer.name("data"));
    newer.ok(["volume", "create", &volume]);
    fs::create_dir(newer.mountpoint(&volume).join("part")).unwrap();
    tree::write(&newer.mountpoint(&volume).join("part/file"), b"in a part");
    let body = json!({"Image": BUSYBOX, "Cmd": ["sleep", "1000"], "StopTimeout": 0, "HostConfig": {"Annotations": {"a": "b"}, "Mounts": [
        {"Type": "image", "Source": BUSYBOX, "Target": "/image"},
        {"Type": "volume", "Source": volume, "Target": "/part", "VolumeOptions": {"Subpath": "part"}},
        {"Type": "tmpfs", "Target": "/memory", "TmpfsOptions": {"Options": [["noexec"]]}}]}});
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let options = EngineOptions { host: Some(newer.engine().host()), ..EngineOptions::default() };
        let engine = bbackup::docker::Engine::connect(&options).await.unwrap();
        make::container(&engine, &ContainerBody { name: name.clone(), body, ..ContainerBody::default() }).await.unwrap();
        make::start(&engine, &name).await.unwrap();
    });
    let _ = newer.bbackup(["backup", "--containers", &name]).run().success();
    newer.remove_everything();
    // Its own snapshot, on the other Engine.
    let outcome = older.bbackup(["restore", "latest", "--tag", &format!("app:{name}")]).run().exits(1);
    let outcome = outcome.says("uses a mount of an image, which needs an Engine with API 1.48; this one has 1.41");
    let outcome = outcome.says("uses a mount of a part of a volume, which needs an Engine with API 1.45; this one has 1.41");
    let outcome = outcome.says("uses options of a mount in memory, which needs an Engine with API 1.46; this one has 1.41");
    let _ = outcome.says("annotations: lost, as it needs an Engine with API 1.43 or later");
    for (kind, what) in [("container", &name), ("volume", &volume)] {
        assert!(!older.exists(kind, what), "{what} was made");
    }
    // The Engine itself may warn that some of it is new.
    let outcome = newer.bbackup(["restore", "latest", "--tag", &format!("app:{name}")]).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    newer.wait_for_state(&name, "running");
    assert_eq!(newer.ok(["exec", &name, "cat", "/part/file"]), "in a part");
    assert!(newer.ok(["exec", &name, "ls", "/image/bin"]).contains("busybox"));
}

/// Takes all of a small disk but for some megabytes.
fn fill(disk: &Path, leave: u64) -> std::path::PathBuf {
    let free = rustix::fs::statvfs(disk).unwrap();
    let (file, size) = (disk.join("filler"), free.f_bavail * free.f_frsize - leave * 1_000_000);
    tree::write(&file, &vec![1; usize::try_from(size).unwrap()]);
    file
}

#[test]
fn room_on_every_disk_is_looked_at_before_anything_is_done() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let (disk, side) = (home.path("disk"), home.path("side"));
    let mounts = [Mount::small(&disk, 100), Mount::small(&side, 16)];
    let data = format!("--data-root={}", disk.join("data").display());
    let stage = Stage::on(&home, "room", Box::leak(Box::new(Engine::start(&[&data]))));
    let (name, volume, folder) = (stage.name("app"), stage.name("data"), side.join("bound"));
    stage.ok(["volume", "create", &volume]);
    let noise = tree::noise(7, 20_000_000);
    tree::write(&stage.mountpoint(&volume).join("noise"), &noise);
    fs::create_dir(&folder).unwrap();
    tree::write(&folder.join("noise"), &noise[..9_000_000]);
    let (mount, bind) = (format!("{volume}:/data"), format!("{}:/bound", folder.display()));
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &mount, "-v", &bind, BUSYBOX, "sleep", "1000"]);
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    stage.remove_everything();
    fs::remove_dir_all(&folder).unwrap();
    let fillers = [fill(&disk, 10), fill(&side, 5)];
    let outcome = stage.bbackup(["restore", "latest", "--all"]).run().exits(1).says("nothing was changed");
    let outcome = outcome.says("what is restored needs 19.1 MiB on the Engine's disk, and only");
    let _ = outcome.says(&format!("what is restored needs 8.6 MiB on the disk of {}, and only", folder.display()));
    assert!(!stage.exists("volume", &volume) && !stage.exists("container", &name) && !folder.exists(), "something was made");
    // One of them is not enough.
    fs::remove_file(&fillers[0]).unwrap();
    let outcome = stage.bbackup(["restore", "latest", "--all"]).run().exits(1).says("on the disk of");
    let _ = outcome.says_nothing_of("the Engine's disk");
    fs::remove_file(&fillers[1]).unwrap();
    let _ = stage.bbackup(["restore", "latest", "--all"]).run().success();
    stage.wait_for_state(&name, "running");
    assert!(
        fs::read(stage.mountpoint(&volume).join("noise")).unwrap() == noise
            && fs::read(folder.join("noise")).unwrap() == noise[..9_000_000]
    );
    stage.remove_everything();
    drop(mounts);
}

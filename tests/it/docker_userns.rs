//! An Engine that maps user ids (`userns-remap`): owners are right where they can be, and said to be wrong where not.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::support::engine::{BUSYBOX, Engine, Stage};
use crate::support::home::Home;
use crate::support::mounted::Disk;
use crate::support::parts::{Part, needs};
use crate::support::proxy::over_tcp;

/// An Engine whose containers have the ids of the host from 200000 on.
fn mapping(home: &Home) -> &'static Engine {
    let ids = home.path("ids");
    fs::write(&ids, "nobody:200000:65536\nnogroup:200000:65536\n").unwrap();
    // It reads these once, when it is started.
    let _ids = ["/etc/subuid", "/etc/subgid"].map(|file| Disk::another(&ids, file.as_ref()));
    Box::leak(Box::new(Engine::start(&["--userns-remap=nobody:nogroup"])))
}

/// A container with a volume in which a file belongs to 33:44.
fn start(stage: &Stage<'_>) {
    let (name, mount) = (stage.name("app"), format!("{}:/data", stage.name("data")));
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &mount, BUSYBOX, "sleep", "1000"]);
    stage.ok(["exec", &name, "sh", "-c", "echo x >/data/file && chown 33:44 /data/file && chown 0:44 /data"]);
}

/// The owners as the container sees them.
fn owners(stage: &Stage<'_>) -> String {
    stage.ok(["exec", &stage.name("app"), "busybox", "stat", "-c", "%u:%g", "/data", "/data/file"]).trim().replace('\n', " ")
}

fn remove(stage: &Stage<'_>) {
    stage.ok(["rm", "-f", &stage.name("app")]);
    stage.ok(["volume", "rm", &stage.name("data")]);
}

#[test]
fn owners_come_back_to_an_engine_that_maps_ids() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "mapped", mapping(&home));
    start(&stage);
    let name = stage.name("app");
    let file = stage.mountpoint(&stage.name("data")).join("file");
    assert_eq!((fs::metadata(&file).unwrap().uid(), fs::metadata(&file).unwrap().gid()), (200_033, 200_044));
    let before = owners(&stage);
    assert_eq!(before, "0:44 33:44");
    let (here, far) = (stage.engine().host(), over_tcp(&stage.engine().host()));
    // Saved as files and as a stream, written as files and as a stream.
    for (saved, written) in [(&here, &here), (&here, &far), (&far, &here), (&far, &far)] {
        let backup = stage.bbackup(["backup", "--full", "--containers", &name]).env("DOCKER_HOST", saved).run().success();
        let _ = backup.says("maps user ids (userns-remap)");
        let document = stage.bbackup(["dump", "latest", &format!("/docker/{name}/application.json")]).run().success().text();
        assert!(document.contains("\"user_namespace\": \"200000.200000\""), "{document}");
        remove(&stage);
        let restored = stage.bbackup(["restore", "latest", "--all"]).env("DOCKER_HOST", written).run();
        assert!(matches!(restored.code(), Some(0 | 4)), "{}", restored.describe());
        assert_eq!(owners(&stage), before, "saved by {saved}, written by {written}\n{}", restored.describe());
        let _ = restored.says_nothing_of("userns-remap");
    }

    // Another Engine does not map them.
    let plain = Stage::new(&home, "plain");
    let restore = |host: &str| {
        let renamed = [format!("{name}:{}", plain.name("app")), format!("{}:{}", stage.name("data"), plain.name("data"))];
        let restore = plain.bbackup(["restore", "latest", "--all", "--rename", &renamed[0], "--rename", &renamed[1]]);
        restore.env("DOCKER_HOST", host).run().exits(4).says("(userns-remap); change the owners")
    };
    let outcome = restore(&over_tcp(&plain.engine().host()));
    assert_eq!(owners(&plain), before, "{}", outcome.describe());
    remove(&plain);
    let _ = restore(&plain.engine().host());
    assert_eq!(owners(&plain), "200000:200044 200033:200044", "this is what is warned of");
    remove(&plain);
    // And what was saved there comes to the one that does.
    start(&plain);
    let _ = plain.bbackup(["backup", "--containers", &plain.name("app")]).run().success().says_nothing_of("userns-remap");
    let restored = stage.bbackup(["restore", "latest", "--tag", &format!("app:{}", plain.name("app"))]).env("DOCKER_HOST", &far).run();
    let restored = restored.exits(4).says("(userns-remap); change the owners");
    let seen = stage.ok(["exec", &plain.name("app"), "busybox", "stat", "-c", "%u:%g", "/data", "/data/file"]);
    assert_eq!(seen.trim().replace('\n', " "), before, "{}", restored.describe());
    stage.ok(["rm", "-f", &plain.name("app")]);
    stage.ok(["volume", "rm", &plain.name("data")]);
}

//! How a volume is read where its folder is not what the Engine means, or not ours to read: through the Engine, and whole.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};
use crate::support::run::Outcome;
use crate::support::tree;

/// A container that runs, with a volume; where its files are.
fn application(stage: &Stage<'_>) -> PathBuf {
    let (name, volume) = (stage.name("app"), stage.name("data"));
    stage.ok(["volume", "create", &volume]);
    let folder = stage.mountpoint(&volume);
    tree::write(&folder.join("noise"), &tree::noise(5, 2_000_000));
    tree::many(&folder, 30);
    let mount = format!("{volume}:/data");
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &mount, BUSYBOX, "sleep", "1000"]);
    folder
}

/// What the snapshot says of the application's volume.
fn volume(document: &Outcome) -> Value {
    let document: Value = serde_json::from_slice(&document.stdout).unwrap();
    let items = document["items"].as_array().unwrap();
    items.iter().find(|item| item["kind"] == "volume").unwrap().clone()
}

#[test]
fn who_may_not_look_into_a_volume_reads_it_through_the_engine() {
    needs!(Part::Engine, Part::Program("setpriv"));
    let home = Home::new();
    let stage = Stage::new(&home, "nobody");
    let folder = application(&stage);
    let proxy = Proxy::start(&home.path("engine.sock"), &stage.engine().host(), |_| Action::Pass);
    fs::set_permissions(home.path("engine.sock"), Permissions::from_mode(0o666)).unwrap();
    let nobody = |words: &[&str]| home.bbackup_as_nobody(words).env("DOCKER_HOST", proxy.host()).run();
    let _ = nobody(&["init"]).success();
    let _ = nobody(&["backup", "--containers", &stage.name("app")]).success();
    let item = volume(&nobody(&["dump", "latest", &format!("/docker/{}/application.json", stage.name("app"))]).success());
    assert!(item["helper_reason"].as_str().unwrap().contains("not seen from here") && item.to_string().contains("\"complete\""), "{item}");
    let path = format!("/docker/{}/volumes/{}/noise", stage.name("app"), stage.name("data"));
    let dumped = nobody(&["dump", "latest", &path]).success().stdout;
    assert!(dumped == fs::read(folder.join("noise")).unwrap());
}

#[test]
fn a_folder_that_the_engine_does_not_mean_is_never_read_for_it() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "covered");
    let folder = application(&stage);
    // Here it is something else, as in a container that has the socket and not the Engine's data.
    let script = "mount -t tmpfs tmpfs \"$0\" && echo wrong >\"$0/noise\" && exec \"$@\"";
    let elsewhere = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, folder.to_str().unwrap()];
    let _ = stage.bbackup(["backup", "--containers", &stage.name("app")]).under(elsewhere).run().success();
    let document = format!("/docker/{}/application.json", stage.name("app"));
    let item = volume(&stage.bbackup(["dump", "latest", &document]).run().success());
    assert!(
        item["helper_reason"].as_str().unwrap().contains("not the one that the Docker Engine sees")
            && item.to_string().contains("\"complete\""),
        "{item}"
    );
    let path = format!("/docker/{}/volumes/{}/noise", stage.name("app"), stage.name("data"));
    assert!(stage.bbackup(["dump", "latest", &path]).run().success().stdout == fs::read(folder.join("noise")).unwrap());
    // Nor is it written to: what comes back is in the Engine's volume.
    let before = fs::read(folder.join("noise")).unwrap();
    stage.remove_everything();
    let target = folder.parent().unwrap();
    assert!(!target.exists());
    let script = "mount -t tmpfs tmpfs \"$0\" && exec \"$@\"";
    let above = target.parent().unwrap().to_str().unwrap();
    let elsewhere = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, above];
    let restored = stage.bbackup(["restore", "latest", "--all"]).under(elsewhere).run();
    assert!(matches!(restored.code(), Some(0 | 4)), "{}", restored.describe());
    assert!(fs::read(target.join("_data/noise")).unwrap() == before);
    stage.wait_for_state(&stage.name("app"), "running");
}

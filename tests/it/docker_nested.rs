//! What is mounted inside of a bind mount or volume: what is saved of it, what is said, and that a restore writes it to no other disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::docker_in_place::Ground;
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::mounted::Disk;
use crate::support::parts::{Part, needs};
use crate::support::proxy::over_tcp;
use crate::support::run::Outcome;

/// A folder with a file, and with a mount point in it, that one container has as a bind mount and as a volume.
struct Scene<'a> {
    stage: Stage<'a>,
    folder: PathBuf,
    point: PathBuf,
    volume: String,
}

impl<'a> Scene<'a> {
    fn lay(home: &'a Home, name: &str) -> Self {
        let stage = Stage::new(home, name);
        let folder = home.make_folder("data").canonicalize().unwrap();
        let point = home.make_folder("data/media").canonicalize().unwrap();
        fs::write(folder.join("rest"), "beside it").unwrap();
        let (volume, device) = (stage.name("vol"), format!("device={}", folder.display()));
        stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, &volume]);
        Self { stage, folder, point, volume }
    }

    fn tag(&self, name: &str) -> String {
        format!("app:{}", self.stage.name(name))
    }

    /// A disk with a file.
    fn mount(&self) -> Disk {
        let disk = Disk::in_memory(&self.point);
        fs::write(self.point.join("film"), "on the disk").unwrap();
        disk
    }

    fn run(&self, name: &str, mount: &str) {
        let name = self.stage.name(name);
        self.stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", mount, BUSYBOX, "sleep", "1000"]);
    }

    fn back_up(&self, name: &str, more: &[&str]) -> Outcome {
        self.stage.bbackup(["backup", "--containers", &self.stage.name(name)]).args(more).run().success()
    }

    /// What the newest snapshot of a container says is mounted in its data, and whether it has the file of the disk.
    fn seen(&self, name: &str) -> (Value, bool) {
        let name = self.stage.name(name);
        let document = self.stage.bbackup(["dump", "latest", &format!("/docker/{name}/application.json")]).run().success().text();
        let document: Value = serde_json::from_str(&document).unwrap();
        let item = document["items"].as_array().unwrap().iter().find(|item| item["kind"] == "bind" || item["kind"] == "volume");
        let listed = self.stage.bbackup(["ls", "latest", "--tag", &format!("app:{name}")]).run().success().text();
        assert!(listed.contains("/rest") && listed.contains("/media"), "{listed}");
        (item.unwrap()["mounted_inside"].clone(), listed.contains("/media/film"))
    }

    fn inside(&self, saved: bool) -> Value {
        json!([{"path": self.point.to_str().unwrap(), "saved": saved}])
    }
}

#[test]
fn what_is_mounted_in_a_bind_mount_is_saved_or_named() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let scene = Scene::lay(&home, "nested");
    let disk = scene.mount();
    scene.run("app", &format!("{}:/data", scene.folder.display()));
    let point = scene.point.display().to_string();
    let _ = scene.back_up("app", &[]).says_nothing_of(&point);
    assert_eq!(scene.seen("app"), (scene.inside(true), true));
    // Where files lay on the disk, it must be there when they are written.
    scene.stage.ok(["rm", "-f", &scene.stage.name("app")]);
    fs::remove_file(scene.folder.join("rest")).unwrap();
    drop(disk);
    let restore = |more: &[&str]| scene.stage.bbackup(["restore", "latest", "--tag", &scene.tag("app")]).args(more).run();
    let _ = restore(&["--in-place"]).exits(1).says(&format!("nothing is mounted at {point}, below which files of"));
    assert_eq!(fs::read_dir(&scene.point).unwrap().count(), 0, "something was written to the wrong disk");
    let disk = Disk::in_memory(&scene.point);
    let _ = restore(&["--in-place"]).exits(4).says("the files there are overwritten").says_nothing_of("nothing is mounted");
    assert_eq!(fs::read_to_string(scene.point.join("film")).unwrap(), "on the disk");

    // One that was not read is named, once, and needs nobody.
    for (host, more) in [(scene.stage.engine().host(), "--one-file-system"), (over_tcp(&scene.stage.engine().host()), "--one-file-system")]
    {
        let name = scene.stage.name("app");
        let backup = scene.stage.bbackup(["backup", "--containers", &name, more]).env("DOCKER_HOST", &host).run().success();
        let is_here = host.starts_with("unix");
        assert_eq!(backup.errors().matches(&point).count(), usize::from(is_here), "{}", backup.describe());
        // Of another machine nobody knows what is mounted there, and an older Engine gives it all the same.
        let older = scene.stage.ok(["version", "--format", "{{.Server.APIVersion}}"]).trim() == "1.41";
        let seen = if is_here { (scene.inside(false), false) } else { (Value::Null, older) };
        assert_eq!(scene.seen("app"), seen, "{host}");
    }
    let _ = scene.back_up("app", &["--one-file-system"]).says("(one_file_system)").says(&point);
    scene.stage.ok(["rm", "-f", &scene.stage.name("app")]);
    drop(disk);
    fs::remove_dir_all(&scene.folder).unwrap();
    let _ = restore(&[]).exits(4).says(&format!("what was mounted at {point} is not in the snapshot"));
    assert_eq!(names(&scene.folder), ["media", "rest"]);
    assert!(names(&scene.point).is_empty());
}

#[test]
fn what_containers_do_not_see_in_a_volume_is_not_read_and_is_named() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let scene = Scene::lay(&home, "nestedvol");
    let _disk = scene.mount();
    scene.run("app", &format!("{}:/data", scene.volume));
    assert_eq!(scene.stage.ok(["exec", &scene.stage.name("app"), "ls", "/data/media"]).trim(), "", "the Engine shows it");
    let point = scene.point.display().to_string();
    let _ = scene.back_up("app", &[]).says(&format!("what is mounted in it is not saved (it is not part of what containers see): {point}"));
    assert_eq!(scene.seen("app"), (scene.inside(false), false));
}

#[test]
fn paths_name_what_is_mounted_in_them_and_not_what_every_machine_has() {
    needs!(Part::Root);
    let home = Home::with_repository();
    let folder = home.make_folder("data").canonicalize().unwrap();
    let points = ["disk", "proc", "same"].map(|name| home.make_folder(&format!("data/{name}")));
    let other = home.make_folder("other");
    fs::write(other.join("file"), "of the same file system").unwrap();
    let _mounts = [Disk::in_memory(&points[0]), Disk::of_the_kernel(&points[1]), Disk::another(&other, &points[2])];
    let backup = |more: &[&str]| home.bbackup(["backup", "--paths", folder.to_str().unwrap()]).args(more).run().success();
    let outcome = backup(&["--one-file-system"]).says(&folder.join("disk").display().to_string());
    let _ = outcome.says("(one_file_system)").says_nothing_of("data/proc").says_nothing_of("data/same");
    assert!(home.bbackup(["ls", "latest"]).run().success().text().contains("data/same/file"));
    let _ = backup(&["--exclude", "proc"]).says_nothing_of("data/disk");
}

#[test]
fn what_is_mounted_in_the_application_does_not_leak_into_a_volume() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "leak");
    let (outer, inner) = (stage.name("outer"), stage.name("inner"));
    for (volume, file) in [(&outer, "middle"), (&inner, "secret")] {
        stage.ok(["volume", "create", volume]);
        fs::write(stage.mountpoint(volume).join(file), "x").unwrap();
    }
    let (first, second, name) = (format!("{outer}:/data"), format!("{inner}:/data/inner"), stage.name("app"));
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &first, "-v", &second, BUSYBOX, "sleep", "1000"]);
    assert!(stage.ok(["exec", &name, "ls", "/data/inner"]).contains("secret"));
    for host in [stage.engine().host(), over_tcp(&stage.engine().host())] {
        // As it runs, when what it mounts is there.
        let arguments = ["backup", "--json", "--consistency", "none", "--containers", &name];
        let _ = stage.bbackup(arguments).env("DOCKER_HOST", &host).run().success();
        let listed = stage.bbackup(["ls", "latest"]).run().success().text();
        let files: BTreeSet<&str> = listed.lines().filter_map(|line| line.split_once("/volumes/").map(|(_, path)| path.trim())).collect();
        let expected = [&outer, &format!("{outer}/inner"), &format!("{outer}/middle"), &inner, &format!("{inner}/secret")];
        assert_eq!(files, expected.map(String::as_str).into(), "{host}");
    }
}

#[test]
fn a_volume_is_made_what_it_was_without_what_is_mounted_in_it_since() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "nestedsince", 60);
    let precious = home.make_folder("precious");
    fs::write(precious.join("file"), "of nobody's volume").unwrap();
    let deep = ground.folder().join("came/deep");
    fs::create_dir_all(&deep).unwrap();
    fs::write(ground.folder().join("came/file"), "since").unwrap();
    // On the same file system as the volume: its device number says nothing.
    let _mounted = Disk::another(&precious, &deep);
    let outcome = ground.restore(&["--in-place", "--volume", &ground.volume]).run().exits(4);
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "of nobody's volume");
    let _ = outcome.says("it is not in the snapshot and stays: something is mounted there");
    assert_eq!((ground.read("kept").as_deref(), ground.read("new")), (Some("as saved"), None));
    assert!(!ground.folder().join("came/file").exists());
    ground.assert_all_run();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

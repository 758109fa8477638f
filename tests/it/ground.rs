//! Tests of what the tests stand on: a ground that gives way would make every test above it worthless.

use std::fs;
use std::io::{self, Write as _};

use crate::support::engine::{BUSYBOX, SKELETON, Stage};
use crate::support::home::{Home, find_restored};
use crate::support::manifest::Manifest;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::tree;

#[test]
fn the_manifest_sees_every_difference() {
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::nasty(&folder);
    let before = Manifest::of(&folder);
    before.assert_equals(&Manifest::of(&folder));
    fs::write(folder.join("names/plain"), b"PLAIN").unwrap();
    tree::set_mtime(&folder.join("times/link"), -5, 6);
    fs::remove_file(folder.join("links/second")).unwrap();
    fs::write(folder.join("links/second"), fs::read(folder.join("links/first")).unwrap()).unwrap();
    let differences = before.differences(&Manifest::of(&folder)).join("\n");
    for expected in
        ["names/plain: content", "times/link: mtime -5.000000005 → -5.000000006", "links/second: hard link of links/first → (root)"]
    {
        assert!(differences.contains(expected), "`{expected}` is missing in\n{differences}");
    }
}

#[test]
fn restic_keeps_the_nasty_tree() {
    needs!(Part::Root, Part::Restic);
    let home = Home::new();
    let folder = home.make_folder("tree");
    tree::nasty(&folder);
    let restic = Restic::new(&home);
    restic.init(2);
    restic.back_up(&folder);
    restic.check();
    restic.restore("latest", &home.path("restored"));
    let restored = Manifest::of(&find_restored(&home.path("restored"), &folder));
    Manifest::of(&folder).kept_by_restic().assert_equals(&restored.kept_by_restic());
}

#[test]
fn the_private_engine_runs_containers() {
    needs!(Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "ground");
    let (network, volume) = (stage.name("net"), stage.name("data"));
    stage.ok(["network", "create", "--subnet", "10.91.0.0/24", &network]);
    stage.ok(["volume", "create", &volume]);
    let name = stage.name("web");
    let mount = format!("{volume}:/data");
    let script = "echo hello > /data/index.html; exec httpd -f -h /data -p 80";
    stage.ok([
        "run",
        "-d",
        "--name",
        &name,
        "--network",
        &network,
        "--ip",
        "10.91.0.10",
        "-p",
        "18080:80",
        "-v",
        &mount,
        BUSYBOX,
        "sh",
        "-c",
        script,
    ]);
    stage.wait_for_state(&name, "running");
    let _ = writeln!(io::stderr(), "the private Engine has version {}", stage.engine().version());
    assert_eq!(stage.inspect("container", &name)["NetworkSettings"]["Networks"][&network]["IPAddress"], "10.91.0.10");
    let fetch = stage.engine().inside(home.program("busybox").args(["wget", "-q", "-O", "-", "http://127.0.0.1:18080/"]));
    let _ = fetch.run().success().says("hello");
    assert_eq!(fs::read_to_string(stage.mountpoint(&volume).join("index.html")).unwrap(), "hello\n");
    let usr = stage.ok(["run", "--rm", "--name", &stage.name("usr"), "-v", "/usr:/usr:ro", SKELETON, "perl", "-e", "print 6*7"]);
    assert_eq!(usr, "42");
    stage.remove_everything();
    assert!(!stage.exists("container", &name) && !stage.exists("volume", &volume) && !stage.exists("network", &network));
}

//! What is as somebody wanted it is no reason for a warning every night.

use std::fs;

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};

#[test]
fn a_volume_in_memory_is_not_saved_and_nobody_misses_what_was_in_it() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "memory");
    let [name, memory, plain] = ["app", "memory", "plain"].map(|name| stage.name(name));
    stage.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", &memory]);
    let mounts = [format!("{memory}:/m"), format!("{plain}:/d")];
    let script = "test -e /d/file || echo here > /m/file; echo there > /d/file; exec sleep 1000";
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &mounts[0], "-v", &mounts[1], BUSYBOX, "sh", "-c", script]);
    let backup = || stage.bbackup(["backup", "--containers", &name]).run().success();
    let _ = backup().says(&format!("volume {memory} lives in memory: it is not saved"));
    // It loses everything with its last container.
    stage.ok(["stop", &name]);
    stage.ok(["start", &name]);
    let _ = backup();
    stage.ok(["rm", "-f", &name]);
    stage.ok(["volume", "rm", &memory, &plain]);
    let _ = stage.bbackup(["restore", "latest", "--all"]).run().says_nothing_of("not started");
    stage.wait_for_state(&name, "running");
    assert_eq!(stage.inspect("volume", &memory)["Options"]["type"], "tmpfs");
    assert!(stage.mountpoint(&plain).join("file").exists());
}

#[test]
fn what_was_asked_for_of_logs_and_memory_is_no_warning() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "asked");
    let backup = |name: &str, options: &[&str]| {
        let script = "mkdir -p /tm; echo here > /tm/file; echo on; exec sleep 1000";
        stage.ok([&["run", "-d", "--name", name, "--stop-timeout", "0"][..], options, &[BUSYBOX, "sh", "-c", script]].concat());
        std::thread::sleep(std::time::Duration::from_millis(300));
        stage.bbackup(["backup", "--containers", name]).run().success()
    };
    let _ = backup(&stage.name("memory"), &["--tmpfs", "/tm"]).says_nothing_of("outside its mounts");
    let _ = backup(&stage.name("disk"), &[]).says("outside its mounts is not saved");
    let _ = backup(&stage.name("mute"), &["--log-driver", "none"]).says("log driver `none` gives no lines back");
}

#[test]
fn a_dry_run_says_what_needs_a_helper_and_warns_of_nothing() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "drynote");
    let (name, volume, folder) = (stage.name("app"), stage.name("bound"), home.make_folder("bound"));
    fs::write(folder.join("file"), "in the bind").unwrap();
    let device = format!("device={}", folder.display());
    stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, &volume]);
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &format!("{volume}:/d"), BUSYBOX, "sleep", "1000"]);
    for chosen in [["--containers", &name], ["--volumes", &volume]] {
        let dry = stage.bbackup(["backup", "--dry-run"]).args(chosen).run().success();
        let _ = dry.says(&format!("volume {volume} would be read through a helper container")).says_nothing_of("skipped");
        let _ = stage.bbackup(["backup"]).args(chosen).run().success();
    }
}

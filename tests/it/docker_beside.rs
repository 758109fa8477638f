//! Restores beside others: a backup that reads, another restore, an Engine that restarts; and bind mounts that are half restored.

mod meanwhile;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use crate::docker_half::{Moment, state};
use crate::docker_in_place::Ground;
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy, over_tcp};
use crate::support::run::Program;
use crate::support::tree;

/// A container that the Engine always starts again, with files of the machine: saved once, and changed since.
struct Bound<'a> {
    stage: Stage<'a>,
    name: String,
    folder: PathBuf,
}

impl<'a> Bound<'a> {
    fn lay(home: &'a Home, name: &str) -> Self {
        let stage = Stage::new(home, name);
        let (name, folder) = (stage.name("app"), home.make_folder("srv"));
        let bound = Self { stage, name, folder };
        bound.write("kept", "as saved");
        tree::many(&bound.folder.join("many"), 20);
        let mount = format!("type=bind,src={},dst=/srv", bound.folder.display());
        bound.stage.ok([
            "run",
            "-d",
            "--name",
            &bound.name,
            "--restart",
            "always",
            "--stop-timeout",
            "0",
            "--mount",
            &mount,
            BUSYBOX,
            "sleep",
            "1000",
        ]);
        let _ = bound.backup().run().success();
        bound.write("kept", "changed since");
        bound.write("new", "came since");
        fs::remove_dir_all(bound.folder.join("many")).unwrap();
        bound
    }

    fn write(&self, file: &str, content: &str) {
        fs::write(self.folder.join(file), content).unwrap();
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(file)).ok()
    }

    fn backup(&self) -> Program {
        self.stage.bbackup(["backup", "--json", "--containers", &self.name])
    }

    fn restore(&self) -> Program {
        let tag = format!("app:{}", self.name);
        self.stage.bbackup(["restore", "latest", "--json", "--in-place", "--tag", &tag])
    }

    fn policy(&self, container: &str) -> String {
        self.stage.ok(["inspect", "--format", "{{.HostConfig.RestartPolicy.Name}} {{.State.Status}}", container])
    }

    /// A restore over the files that fails once they are overwritten, and puts everything back.
    fn fail_to_restore(&self, home: &Home) {
        let create = format!("/containers/create?name={}", self.name);
        let fail = move |line: &str| if line.contains(&create) { Action::Fail } else { Action::Pass };
        let proxy = Proxy::start(&home.path("fail.sock"), &self.stage.engine().host(), fail);
        let failed = self.restore().env("DOCKER_HOST", proxy.host()).run().exits(1);
        let _ = failed.says("what was there before is back, and runs if it ran");
        self.assert_as_before();
    }

    fn assert_as_before(&self) {
        let found = (self.read("kept"), self.read("new"), self.folder.join("many").exists());
        assert_eq!(found, (Some("changed since".to_owned()), Some("came since".to_owned()), false));
        self.stage.wait_for_state(&self.name, "running");
        assert_eq!(self.policy(&self.name), "always running");
    }
}

#[test]
fn files_of_the_machine_are_put_back_when_a_restore_over_them_fails() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let bound = Bound::lay(&home, "boundback");
    bound.fail_to_restore(&home);
    // What was saved first says of the container what the Engine did with it before.
    let mut saved = crate::docker_in_place::saved_first(&home);
    saved.retain(|one| one["paths"].to_string().contains("/docker/"));
    let path = format!("/docker/{0}/containers/{0}/inspect.json", bound.name);
    let inspect = bound.stage.bbackup(["dump", saved[0]["id"].as_str().unwrap(), &path]).run().success().text();
    let inspect: serde_json::Value = serde_json::from_str(&inspect).unwrap();
    assert_eq!(inspect["HostConfig"]["RestartPolicy"]["Name"], "always");
    let _ = bound.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
    // And where nothing fails it is as it was saved; what is not in the snapshot stays, and is told.
    let _ = bound.restore().run().says("those that the snapshot does not have stay");
    assert_eq!((bound.read("kept").as_deref(), bound.read("new").as_deref()), (Some("as saved"), Some("came since")));
    assert!(bound.folder.join("many").exists());
    assert_eq!(bound.policy(&bound.name), "always running");
}

#[test]
fn nobody_is_started_on_files_of_the_machine_that_are_half_restored_and_they_are_not_saved() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let bound = Bound::lay(&home, "boundhalf");
    // The first request after the line is for the container that is made once all files are there.
    Moment::new(&home, &bound.stage, "overwriting", "/containers/create").kills(bound.restore());
    for _ in 0..2 {
        let shown = bound.folder.display();
        let _ = bound.stage.bbackup(["recover"]).run().exits(3).says(&format!("{shown} was being overwritten")).says("stays stopped");
        // Also an Engine that restarts does not start it: it has no policy to.
        assert_eq!(bound.policy(&bound.name), "no exited");
    }
    let _ = bound.backup().run().exits(4).says("a restore overwrites it, or was interrupted");
    // Nobody is stopped for what is not read.
    let user = bound.stage.name("user");
    let mount = format!("type=bind,src={},dst=/srv", bound.folder.display());
    bound.stage.ok(["run", "-d", "--name", &user, "--stop-timeout", "0", "--mount", &mount, BUSYBOX, "sleep", "1000"]);
    let outcome = bound.stage.bbackup(["backup", "-v", "--containers", &user]).run().exits(4);
    let _ = outcome.says("a restore overwrites it, or was interrupted").says_nothing_of(&format!("stopping {user}"));
    bound.stage.ok(["rm", "-f", &user]);
    // A second one that uses the same files is not started either.
    let beside = bound.stage.bbackup(["restore", "latest", "--as-new", "--tag", &format!("app:{}", bound.name)]).run().exits(4);
    let beside = beside.says(&format!("container {} is not started: {} is half restored", bound.name, bound.folder.display()));
    assert_eq!(state(&bound.stage, &format!("{}-restored", bound.name)), "created", "{}", beside.describe());
    bound.stage.ok(["rm", &format!("{}-restored", bound.name)]);
    let outcome = bound.restore().run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    assert_eq!(bound.policy(&bound.name), "always running");
    let _ = bound.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
    let _ = bound.backup().run().success();
}

#[test]
fn files_of_before_that_are_written_again_are_not_half_restored_any_more() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let bound = Bound::lay(&home, "boundadvice");
    Moment::new(&home, &bound.stage, "overwriting", "/containers/create").kills(bound.restore());
    let told = bound.stage.bbackup(["recover"]).run().exits(3);
    let saved = told.errors().split_once("what was in it is in snapshot ").unwrap().1[..8].to_owned();
    // A part of them is not all of them.
    let part = bound.folder.join("kept");
    let _ = bound.stage.bbackup(["restore", &saved, "--in-place", "--path"]).arg(&part).run().success();
    let _ = bound.stage.bbackup(["recover"]).run().exits(3).says("was being overwritten");
    // Nor is it what was there before while something of the interrupted restore lies beside it.
    let mixed = bound.stage.bbackup(["restore", &saved, "--in-place"]).run().exits(4);
    let _ = mixed.says("still counts as half restored: many is there, which snapshot");
    assert_eq!(bound.policy(&bound.name), "no exited");
    fs::remove_dir_all(bound.folder.join("many")).unwrap();
    let _ = bound.stage.bbackup(["restore", &saved, "--in-place"]).run().success();
    assert_eq!((bound.read("kept").as_deref(), bound.read("new").as_deref()), (Some("changed since"), Some("came since")));
    assert_eq!(bound.policy(&bound.name), "always running");
    let _ = bound.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
    let _ = bound.backup().run().success();
}

#[test]
fn what_is_being_filled_is_not_saved_as_whole() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "filling", 41);
    let stage = &ground.stage;
    stage.ok(["rm", "-f", &ground.guest]);
    ground.remove();
    let moment = Moment::new(&home, stage, "filling", "/");
    let mut running = ground.restore(&[]).env("DOCKER_HOST", moment.proxy.host()).spawn();
    running.until("the moment", || moment.is_reached());
    let outcome = stage.bbackup(["backup", "--json", "--projects", &ground.project]).run();
    let _ = outcome.says("a restore fills it, or was interrupted");
    // Another restore of the same is not begun.
    let again = stage.bbackup(["restore", "latest", "--volume", &ground.volume, "--in-place", "--json"]).run();
    let _ = again.says("nother restore (").says("Wait until it has ended");
    running.signal(Signal::KILL);
    let _ = running.wait().killed_by(Signal::KILL);
    moment.end();
    let _ = stage.bbackup(["recover"]).run().success();
    assert!(!stage.exists("volume", &ground.volume), "a volume that was made for a restore that died stays");

    // One that was there, empty, is not removed, and not forgotten.
    stage.ok(["volume", "create", &ground.volume]);
    Moment::new(&home, stage, "filling", "/containers/create").kills(ground.restore(&[]));
    let _ = stage.bbackup(["recover"]).run().exits(3).says("was being filled").says("restore it again with --in-place, or remove it");
    let _ = stage.bbackup(["backup", "--json", "--volumes", &ground.volume]).run().says("a restore fills it, or was interrupted");
    stage.ok(["volume", "rm", &ground.volume]);
    let _ = stage.bbackup(["recover"]).run().success();
    let outcome = ground.restore(&[]).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
}

#[test]
fn what_a_backup_keeps_still_is_not_restored_over() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "keptstill", 42);
    let stage = &ground.stage;
    fs::write(ground.folder().join("large"), tree::noise(4, 60_000_000)).unwrap();
    let mut running = stage.bbackup(["backup", "--json", "--projects", &ground.project]).spawn();
    running.hold_while_it_has_open(&ground.folder());
    let refused = ground.restore(&["--in-place"]).run();
    running.signal(Signal::CONT);
    let _ = running.wait().success();
    let _ = refused.exits(1).says("keeps container").says("Wait until that backup has ended");
    assert_eq!(ground.read("kept").as_deref(), Some("changed since"));
    ground.assert_all_run();
}

#[test]
fn who_is_started_after_the_plan_is_not_written_under() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "since", 43);
    let (stage, ids) = (&ground.stage, ground.ids());
    let (engine, guest) = (stage.engine().host(), ground.guest.clone());
    // As soon as the first container has another name, somebody starts the guest again.
    let started = Arc::new(AtomicBool::new(false));
    let (once, docker) = (Arc::clone(&started), std::sync::Mutex::new(Some(stage.docker(["start", &guest]))));
    let decide = move |line: &str| {
        if line.contains("/rename") && !once.swap(true, Ordering::SeqCst) {
            let _ = docker.lock().unwrap().take().unwrap().run().success();
        }
        Action::Pass
    };
    let proxy = Proxy::start(&home.path("since.sock"), &engine, decide);
    let failed = ground.restore(&["--in-place"]).env("DOCKER_HOST", proxy.host()).run().exits(1);
    let _ = failed.says(&format!("container {guest} was started meanwhile and can write to"));
    assert!(started.load(Ordering::SeqCst));
    ground.assert_state_before(&ids);
}

#[test]
fn a_volume_that_stands_for_a_folder_is_not_made_beside_itself() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "standsfor");
    let (name, volume, folder) = (stage.name("app"), stage.name("data"), home.make_folder("device"));
    let device = format!("device={}", folder.display());
    stage.ok(["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, &volume]);
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &format!("{volume}:/data"), BUSYBOX, "sleep", "1000"]);
    fs::write(folder.join("kept"), "as saved").unwrap();
    let _ = stage.bbackup(["backup", "--containers", &name]).run();
    fs::write(folder.join("kept"), "changed since").unwrap();
    let restore = || stage.bbackup(["restore", "latest", "--all", "--json"]);
    let read = || fs::read_to_string(folder.join("kept")).unwrap();
    let _ = restore().arg("--as-new").run().says("the files there are left as they are");
    assert_eq!(read(), "changed since", "the original was overwritten under the name of a copy");
    stage.ok(["rm", "-f", &name, &stage.name("app-restored")]);
    stage.ok(["volume", "rm", &volume]);
    let _ = restore().run().exits(1).says("there is something");
    assert_eq!(read(), "changed since");
    let outcome = restore().arg("--in-place").run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    assert_eq!(read(), "as saved");
    let saved = crate::docker_in_place::saved_first(&home);
    assert_eq!(saved.len(), 1, "what was overwritten was saved first");
}

#[test]
fn a_folder_that_a_volume_stands_for_is_half_restored_whatever_becomes_of_the_volume() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "deviceshalf");
    let (name, other, volume, folder) = (stage.name("app"), stage.name("other"), stage.name("data"), home.make_folder("device"));
    let device = format!("device={}/", folder.display());
    stage.ok(["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, &volume]);
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &format!("{volume}:/data"), BUSYBOX, "sleep", "1000"]);
    fs::write(folder.join("kept"), "as saved").unwrap();
    let _ = stage.bbackup(["backup", "--containers", &name]).run();
    stage.ok(["rm", "-f", &name]);
    stage.ok(["volume", "rm", &volume]);
    fs::write(folder.join("kept"), "changed since").unwrap();
    let mount = format!("type=bind,src={},dst=/data", folder.display());
    stage.ok(["run", "-d", "--name", &other, "--stop-timeout", "0", "--mount", &mount, BUSYBOX, "sleep", "1000"]);
    let restore = || stage.bbackup(["restore", "latest", "--json", "--in-place", "--tag"]).arg(format!("app:{name}"));
    Moment::new(&home, &stage, "overwriting", "/containers/create?name").kills(restore());
    let state = || stage.ok(["inspect", "--format", "{{.State.Status}}", &other]);
    for _ in 0..3 {
        let _ = stage.bbackup(["recover"]).run().exits(3).says("was being overwritten").says("stays stopped");
        assert_eq!(state(), "exited");
    }
    // It is half of what it was by every name.
    let _ = stage.bbackup(["backup", "--json", "--containers", &other]).run().says("a restore overwrites it, or was interrupted");
    let outcome = restore().run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    assert_eq!(fs::read_to_string(folder.join("kept")).unwrap(), "as saved");
    stage.wait_for_state(&other, "running");
    let _ = stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn a_folder_that_a_volume_stands_for_is_made_where_it_is_gone() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "devicegone");
    let (name, volume, folder) = (stage.name("app"), stage.name("data"), home.make_folder("above/device"));
    let device = format!("device={}", folder.display());
    stage.ok(["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, &volume]);
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &format!("{volume}:/data"), BUSYBOX, "sleep", "1000"]);
    fs::write(folder.join("kept"), "as saved").unwrap();
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    let remove = || {
        stage.ok(["rm", "-f", &name]);
        stage.ok(["volume", "rm", &volume]);
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    };
    let restore = || stage.bbackup(["restore", "latest", "--all"]);
    let far = over_tcp(&stage.engine().host());
    for more in [&[][..], &["--in-place", "--no-save-first"]] {
        remove();
        let restore = if more.is_empty() { restore() } else { restore().env("DOCKER_HOST", &far) };
        let outcome = restore.args(more).run();
        assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
        assert_eq!(fs::read_to_string(folder.join("kept")).unwrap(), "as saved");
        stage.wait_for_state(&name, "running");
    }
    // What fails before anything was written leaves nothing to speak of.
    remove();
    let fail = |line: &str| if line.contains("/archive") { Action::Fail } else { Action::Pass };
    let proxy = Proxy::start(&home.path("fail.sock"), &stage.engine().host(), fail);
    let failed = restore().env("DOCKER_HOST", proxy.host()).run().exits(1);
    let _ = failed.says_nothing_of("stays there");
}

#[test]
fn of_files_that_are_put_back_nothing_is_said_to_stay() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let bound = Bound::lay(&home, "boundcancel");
    tree::write(&bound.folder.join("big"), &tree::noise(7, 150_000_000));
    let _ = bound.backup().run().success();
    fs::remove_file(bound.folder.join("big")).unwrap();
    bound.write("kept", "changed again");
    let journals = home.path("state/bbackup/restores");
    let mut running = bound.restore().spawn();
    running.until("it to overwrite", || {
        let found = crate::support::home::files_below(&journals);
        found.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("\"event\":\"overwriting\"")))
    });
    running.until("it to write", || fs::read_dir(&bound.folder).unwrap().count() > 2);
    running.signal(Signal::INT);
    let outcome = running.wait();
    let outcome = outcome.says("cancelled").says("what was there before is back").says_nothing_of("stays there");
    assert_eq!(bound.read("kept").as_deref(), Some("changed again"), "{}", outcome.describe());
    assert!(!bound.folder.join("big").exists());
}

#[test]
fn what_a_link_leads_to_is_saved_before_it_is_overwritten() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let bound = Bound::lay(&home, "boundlink");
    let real = home.path("moved");
    fs::rename(&bound.folder, &real).unwrap();
    std::os::unix::fs::symlink(&real, &bound.folder).unwrap();
    bound.fail_to_restore(&home);
    assert!(bound.folder.is_symlink());
}

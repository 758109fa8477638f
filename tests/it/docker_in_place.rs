//! Restores in the place of what is there: saved first, replaced, and put back when they fail or die.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::{Home, boot_unit_is_wanted};
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};

/// An application of two containers with one volume, and a container of somebody else that uses the volume too.
pub(crate) struct Ground<'a> {
    pub(crate) stage: Stage<'a>,
    pub(crate) project: String,
    pub(crate) web: String,
    pub(crate) db: String,
    pub(crate) guest: String,
    pub(crate) volume: String,
    network: String,
    port: u16,
}

impl<'a> Ground<'a> {
    /// Saved with one content, and changed afterwards.
    pub(crate) fn lay(home: &'a Home, name: &str, number: u8) -> Self {
        let stage = Stage::new(home, name);
        let project = stage.name("p");
        let named = |word: &str| format!("{project}-{word}");
        let ground = Self {
            web: named("web"),
            db: named("db"),
            guest: stage.name("guest"),
            volume: named("data"),
            network: named("net"),
            port: 18_500 + u16::from(number),
            project,
            stage,
        };
        let subnet = format!("10.207.{number}.0/24");
        ground.stage.ok(["network", "create", "--subnet", &subnet, "--label", &ground.label(), &ground.network]);
        ground.stage.ok(["volume", "create", "--label", &ground.label(), &ground.volume]);
        ground.run(
            &ground.db,
            &[
                "--network",
                &ground.network,
                "--ip",
                &format!("10.207.{number}.9"),
                "-e",
                "SAVED=1",
                "-v",
                &format!("{}:/data", ground.volume),
            ],
        );
        let depends = format!("com.docker.compose.depends_on={}:service_started:false", "db");
        ground.run(&ground.web, &["--network", &ground.network, "--label", &depends, "-p", &format!("{}:80", ground.port)]);
        ground.write("kept", "as saved");
        fs::create_dir(ground.folder().join("folder")).unwrap();
        ground.write("folder/gone-later", "as saved");
        let _ = ground.stage.bbackup(["backup", "--json", "--projects", &ground.project]).run().success();

        ground.stage.ok(["rm", "-f", &ground.db]);
        ground.run(&ground.db, &["--network", &ground.network, "-e", "CHANGED=1", "-v", &format!("{}:/data", ground.volume)]);
        ground.stage.ok([
            "run",
            "-d",
            "--name",
            &ground.guest,
            "--stop-timeout",
            "0",
            "-v",
            &format!("{}:/other", ground.volume),
            BUSYBOX,
            "sleep",
            "1000",
        ]);
        ground.write("kept", "changed since");
        ground.write("new", "came since");
        fs::remove_file(ground.folder().join("folder/gone-later")).unwrap();
        ground
    }

    fn label(&self) -> String {
        format!("com.docker.compose.project={}", self.project)
    }

    fn run(&self, name: &str, more: &[&str]) {
        let (label, service) = (self.label(), format!("com.docker.compose.service={}", name.rsplit('-').next().unwrap()));
        let mut arguments = vec!["run", "-d", "--name", name, "--label", &label, "--label", &service, "--stop-timeout", "0"];
        arguments.extend(more);
        arguments.extend([BUSYBOX, "sleep", "1000"]);
        self.stage.ok(arguments);
    }

    /// As if it had never been there.
    pub(crate) fn remove(&self) {
        self.stage.ok(["rm", "-f", &self.web, &self.db, &self.guest]);
        self.stage.ok(["volume", "rm", &self.volume]);
        self.stage.ok(["network", "rm", &self.network]);
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.stage.mountpoint(&self.volume)
    }

    pub(crate) fn write(&self, file: &str, content: &str) {
        fs::write(self.folder().join(file), content).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder().join(file)).ok()
    }

    pub(crate) fn restore(&self, more: &[&str]) -> crate::support::run::Program {
        let tag = format!("app:{}", self.project);
        self.stage.bbackup(["restore", "latest", "--tag", &tag, "--json"]).args(more)
    }

    fn env(&self, container: &str) -> String {
        self.stage.inspect("container", container)["Config"]["Env"].to_string()
    }

    #[track_caller]
    pub(crate) fn assert_saved_state(&self) {
        assert_eq!(self.read("kept").as_deref(), Some("as saved"));
        assert_eq!(self.read("folder/gone-later").as_deref(), Some("as saved"));
        assert_eq!(self.read("new"), None, "what came since is still there");
        assert!(self.env(&self.db).contains("SAVED=1"), "{}", self.env(&self.db));
        self.assert_all_run();
    }

    #[track_caller]
    pub(crate) fn assert_state_before(&self, ids: &[String]) {
        assert_eq!(self.read("kept").as_deref(), Some("changed since"));
        assert_eq!(self.read("new").as_deref(), Some("came since"));
        assert_eq!(self.read("folder/gone-later"), None);
        assert_eq!(self.ids(), ids, "not the same containers under the same names");
        self.assert_all_run();
    }

    #[track_caller]
    pub(crate) fn assert_all_run(&self) {
        for name in [&self.web, &self.db, &self.guest] {
            self.stage.wait_for_state(name, "running");
        }
        let all = self.stage.ok(["ps", "-a", "--format", "{{.Names}}", "--filter", &format!("name={}", self.stage.name(""))]);
        assert!(!all.contains("replaced"), "{all}");
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        [&self.web, &self.db, &self.guest].map(|name| self.stage.inspect("container", name)["Id"].as_str().unwrap().to_owned()).to_vec()
    }
}

/// The snapshots that restores have made.
pub(crate) fn saved_first(home: &Home) -> Vec<Value> {
    let mut all = Restic::new(home).snapshots();
    all.retain(|one| one["tags"].as_array().unwrap().iter().any(|tag| tag == "before-restore"));
    all
}

#[test]
fn an_application_is_replaced_and_what_was_there_is_saved() {
    needs!(Part::Engine, Part::Restic);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "inplace", 1);
    let ids = ground.ids();
    // Nothing is overwritten unasked.
    let _ = ground.restore(&[]).run().exits(1);
    ground.assert_state_before(&ids);
    let plan = ground.restore(&["--in-place", "--dry-run"]).run().success().json_lines().pop().unwrap();
    let steps: Vec<String> =
        plan["data"]["preview"]["steps"].as_array().unwrap().iter().map(|step| step["action"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        steps,
        [
            "stop container",
            "stop container",
            "stop container",
            "save first",
            "set aside",
            "set aside",
            "use network",
            "overwrite volume",
            "create container",
            "create container",
            "start container",
            "start container",
            "remove container",
            "remove container",
            "start again",
        ],
        "{plan}"
    );
    ground.assert_state_before(&ids);

    let restored = ground.restore(&["--in-place"]).run().success().json_lines().pop().unwrap();
    ground.assert_saved_state();
    assert_eq!(ground.ids()[2], ids[2], "somebody else's container was only stopped");
    let saved = saved_first(&home);
    assert_eq!(saved.len(), 1, "{saved:?}");
    assert_eq!(restored["data"]["applications"][0]["saved_first"][0], saved[0]["id"]);

    // What was there can be had again, by its id, and is not what `latest` means.
    let id = saved[0]["id"].as_str().unwrap();
    let listed = ground.stage.bbackup(["ls", id]).run().success();
    assert!(listed.text().contains("/new"), "{}", listed.describe());
    let _ = ground.stage.bbackup(["restore", id, "--in-place", "--json"]).run().success();
    assert_eq!((ground.read("kept").as_deref(), ground.read("new").as_deref()), (Some("changed since"), Some("came since")));
    assert!(ground.env(&ground.db).contains("CHANGED=1"));
    // It was saved while everything was stopped for that.
    ground.assert_all_run();
    let _ = ground.restore(&["--in-place", "--no-save-first"]).run().success();
    ground.assert_saved_state();
    assert_eq!(saved_first(&home).len(), 2, "the third saved nothing");
    Restic::new(&home).check();
}

#[test]
fn one_volume_is_overwritten_and_its_users_run_again() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "inplacevolume", 2);
    let ids = ground.ids();
    let _ = ground.restore(&["--in-place", "--volume", &ground.volume]).run().success();
    assert_eq!((ground.read("kept").as_deref(), ground.read("new")), (Some("as saved"), None));
    assert_eq!(ground.ids(), ids, "no container was replaced");
    assert!(ground.env(&ground.db).contains("CHANGED=1"));
    ground.assert_all_run();
}

#[test]
fn a_restore_in_place_that_fails_leaves_everything_as_it_was() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "inplacefail", 3);
    // The port that the saved `web` needs is taken by a program that no list of the Engine shows, so it is found out only at its start.
    ground.stage.ok(["rm", "-f", &ground.web]);
    ground.run(&ground.web, &["--network", &ground.network]);
    let blocker = ground.stage.name("blocker");
    let port = ground.port.to_string();
    ground.stage.ok(["run", "-d", "--name", &blocker, "--network", "host", "--stop-timeout", "0", BUSYBOX, "nc", "-l", "-p", &port]);
    let ids = ground.ids();
    let failed = ground.restore(&["--in-place"]).run().exits(1);
    let said = failed.text();
    assert!(said.contains("what was there before is back, and runs if it ran"), "{}", failed.describe());
    ground.assert_state_before(&ids);
    ground.stage.ok(["rm", "-f", &blocker]);
    let _ = ground.restore(&["--in-place"]).run().success();
    ground.assert_saved_state();
}

#[test]
fn what_cannot_be_put_back_is_not_touched() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "inplacerm", 4);
    ground.stage.ok(["rm", "-f", &ground.guest]);
    ground.stage.ok([
        "run",
        "-d",
        "--rm",
        "--name",
        &ground.guest,
        "--stop-timeout",
        "0",
        "-v",
        &format!("{}:/other", ground.volume),
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let lodger = ground.stage.name("lodger");
    ground.stage.ok([
        "run",
        "-d",
        "--name",
        &lodger,
        "--network",
        &format!("container:{}", ground.db),
        "--stop-timeout",
        "0",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let ids = ground.ids();
    let failed = ground.restore(&["--in-place"]).run().exits(1);
    for part in ["it was started with --rm", &format!("container {lodger} runs in its network")] {
        assert!(failed.text().contains(part), "{part}\n{}", failed.describe());
    }
    ground.assert_state_before(&ids);
    assert!(saved_first(&home).is_empty());
}

#[test]
fn who_uses_a_volume_that_is_restored_alone_is_not_lost() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "inplacealone");
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    let file = stage.mountpoint(&volume).join("file");
    fs::write(&file, "as saved").unwrap();
    let _ = stage.bbackup(["backup", "--volumes", &volume]).run().success();
    fs::write(&file, "changed since").unwrap();
    // No container was saved, so none is replaced.
    let mount = format!("{volume}:/data");
    for (number, (option, reason)) in
        [("--rm", "it was started with --rm"), ("--label=com.docker.swarm.task.id=x", "it is a swarm task")].into_iter().enumerate()
    {
        let guest = stage.name(&format!("guest{number}"));
        stage.ok(["run", "-d", option, "--name", &guest, "--stop-timeout", "0", "-v", &mount, BUSYBOX, "sleep", "1000"]);
        for items in [&["--all"][..], &["--volume", &volume]] {
            let _ = stage.bbackup([&["restore", "latest", "--in-place"], items].concat()).run().exits(1).says(reason);
            assert_eq!(stage.inspect("container", &guest)["State"]["Status"], "running");
            assert_eq!(fs::read_to_string(&file).unwrap(), "changed since");
        }
        stage.ok(["rm", "-f", &guest]);
    }
    let _ = stage.bbackup(["restore", "latest", "--all", "--in-place"]).run().success();
    assert_eq!(fs::read_to_string(&file).unwrap(), "as saved");
}

#[test]
fn an_empty_volume_of_another_kind_is_not_taken_for_the_one_that_was_saved() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "kind");
    let (volume, folder) = (stage.name("data"), home.make_folder("device"));
    fs::write(folder.join("file"), "saved").unwrap();
    stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &format!("device={}", folder.display()), &volume]);
    let _ = stage.bbackup(["backup", "--volumes", &volume]).run();
    stage.ok(["volume", "rm", &volume]);
    stage.ok(["volume", "create", &volume]);
    for more in [&[][..], &["--in-place"]] {
        let refused = stage.bbackup([&["restore", "latest", "--all"], more].concat()).run().exits(1);
        let _ = refused.says("its driver or its options are others");
    }
    assert_eq!(fs::read_dir(stage.mountpoint(&volume)).unwrap().count(), 0);
    stage.ok(["volume", "rm", &volume]);
    fs::remove_file(folder.join("file")).unwrap();
    let _ = stage.bbackup(["restore", "latest", "--all"]).run();
    assert_eq!(stage.inspect("volume", &volume)["Options"]["o"], "bind");
}

/// Starts a restore in place and kills it as soon as its journal has a line of this kind.
fn kill_after(home: &Home, ground: &Ground<'_>, event: &str) {
    let journals = home.path("state").join("bbackup/restores");
    let list = || -> Vec<PathBuf> { fs::read_dir(&journals).into_iter().flatten().map(|entry| entry.unwrap().path()).collect() };
    let old = list();
    let mut running = ground.restore(&["--in-place"]).spawn();
    running.until(event, || {
        let new = list().into_iter().filter(|path| !old.contains(path));
        new.filter_map(|path| fs::read_to_string(path).ok()).any(|text| text.contains(&format!("\"event\":\"{event}\"")))
    });
    running.signal(rustix::process::Signal::KILL);
    assert_eq!(running.wait().code(), None, "it had ended before it was killed");
}

#[test]
fn a_restore_in_place_that_is_killed_is_put_back_without_another_restore() {
    needs!(Part::Engine, Part::Program("systemd-analyze"));
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "inplaceback", 6);
    let ids = ground.ids();
    assert!(!boot_unit_is_wanted(&home), "systemd would run the unit for nothing");
    kill_after(&home, &ground, "aside");
    assert!(boot_unit_is_wanted(&home), "systemd would pass over the unit at boot");
    let _ = ground.stage.bbackup(["recover"]).run().success().says("what was there is back");
    ground.assert_state_before(&ids);
    let _ = ground.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
    assert!(!boot_unit_is_wanted(&home), "systemd would run the unit for nothing");
    // Half of a volume is nothing to start on: only a restore helps, and every start says so.
    kill_after(&home, &ground, "overwriting");
    for _ in 0..2 {
        let _ = ground.stage.bbackup(["recover"]).run().exits(3).says("was being overwritten").says("estore it again");
        assert_ne!(ground.stage.ok(["inspect", "--format", "{{.State.Status}}", &ground.guest]), "running");
    }
    let outcome = ground.restore(&["--in-place"]).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    ground.assert_saved_state();
    let _ = ground.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn a_restore_in_place_that_is_killed_is_put_right_by_the_next() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "inplacekill", 5);
    let ids = ground.ids();
    // After each line that the journal may end with.
    for event in ["stopping", "aside", "overwriting", "made", "complete"] {
        kill_after(&home, &ground, event);
    }
    let outcome = ground.restore(&["--in-place"]).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    ground.assert_saved_state();
    assert_ne!(ground.ids()[1], ids[1]);
}

/// A proxy that loses the Engine when the database is to be made, and has it again when the flag is cleared; and how often somebody asked
/// whether it is there.
fn losing(home: &Home, ground: &Ground<'_>) -> (Proxy, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (down, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (flag, counter, name) = (Arc::clone(&down), Arc::clone(&asked), format!("/containers/create?name={}", ground.db));
    let proxy = Proxy::start(&home.path("losing.sock"), &ground.stage.engine().host(), move |line| {
        if line.contains(&name) {
            flag.store(true, Ordering::SeqCst);
        }
        if !flag.load(Ordering::SeqCst) {
            return Action::Pass;
        }
        counter.fetch_add(usize::from(line.contains("/info")), Ordering::SeqCst);
        Action::Drop
    });
    (proxy, down, asked)
}

#[test]
fn an_engine_that_is_gone_for_a_while_gets_back_what_was_there() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "inplacegone", 7);
    let ids = ground.ids();
    let (proxy, down, asked) = losing(&home, &ground);
    let mut running = ground.restore(&["--in-place"]).env("DOCKER_HOST", proxy.host()).spawn();
    running.until("the Engine to be waited for", || asked.load(Ordering::SeqCst) > 0);
    assert_ne!(ground.stage.inspect("container", &ids[2])["State"]["Status"], "running", "nothing was stopped");
    down.store(false, Ordering::SeqCst);
    let _ = running.wait().exits(1).says("what was there before is back, and runs if it ran");
    ground.assert_state_before(&ids);
    let _ = ground.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn what_an_engine_that_stays_away_has_stopped_is_put_back_by_the_next_start() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "inplaceaway", 8);
    let ids = ground.ids();
    let (proxy, _down, asked) = losing(&home, &ground);
    let mut running = ground.restore(&["--in-place"]).env("DOCKER_HOST", proxy.host()).spawn();
    running.until("the Engine to be waited for", || asked.load(Ordering::SeqCst) > 0);
    // Who waits for an Engine can be told not to.
    running.signal(rustix::process::Signal::INT);
    let _ = running.wait().says("half restored").says_nothing_of("panicked");
    assert_ne!(ground.stage.inspect("container", &ids[2])["State"]["Status"], "running");
    // The volume is half of one and half of the other, so nothing starts on it, and everybody is told, until it is restored.
    let _ = ground.stage.bbackup(["recover"]).run().exits(3).says("restore it again");
    let outcome = ground.restore(&["--in-place"]).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    ground.assert_saved_state();
    let _ = ground.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn who_writes_to_the_same_files_by_another_name_is_stopped_meanwhile() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "othername", 77);
    let stage = &ground.stage;
    let folder = ground.folder();
    let names = ["writer", "reader", "wanted", "again"].map(|name| stage.name(name));
    let bound = format!("{}:/x", folder.display());
    let start = |name: &str, options: &[&str]| {
        stage.ok([&["run", "-d", "--name", name, "--stop-timeout", "0"], options, &[BUSYBOX, "sleep", "1000"]].concat());
    };
    start(&names[0], &["-v", &bound]);
    start(&names[1], &["-v", &format!("{bound}:ro")]);
    start(&names[2], &["-v", &bound, "--label", "bbackup.stop=false"]);
    // A volume that stands for the folder.
    let alias = stage.name("alias");
    stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &format!("device={}", folder.display()), &alias]);
    start(&names[3], &["-v", &format!("{alias}:/y")]);
    let started = || names.clone().map(|name| stage.inspect("container", &name)["State"]["StartedAt"].to_string());
    let before = started();
    let restored = ground.restore(&["--in-place"]).run();
    assert!(matches!(restored.code(), Some(0 | 4)), "{}", restored.describe());
    assert_eq!(ground.read("kept").as_deref(), Some("as saved"), "{}", restored.describe());
    let after = started();
    let changed: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert_eq!(changed, [true, false, false, true], "{}", restored.describe());
    for name in &names {
        stage.wait_for_state(name, "running");
    }
    // One that cannot be put back is in the way, and nothing is done.
    let fleeting = stage.name("fleeting");
    start(&fleeting, &["--rm", "-v", &bound]);
    ground.write("kept", "changed since");
    let refused = ground.restore(&["--in-place"]).run().exits(1);
    let _ = refused.says(&format!("container {fleeting} can write to its files and cannot be stopped")).says(&ground.volume);
    assert_eq!((ground.read("kept").as_deref(), started()), (Some("changed since"), after));
}

#[test]
fn files_of_bind_mounts_are_saved_before_they_are_overwritten() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "bindfirst");
    let (name, folder, file) = (stage.name("app"), home.make_folder("bound"), home.path("settings"));
    let write = |text: &str| {
        fs::write(folder.join("kept"), text).unwrap();
        fs::write(&file, text).unwrap();
    };
    write("as saved");
    let binds = [format!("{}:/bound", folder.display()), format!("{}:/etc/settings", file.display())];
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &binds[0], "-v", &binds[1], BUSYBOX, "sleep", "1000"]);
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    write("came later");
    fs::write(folder.join("new"), "came later").unwrap();
    let restore = |flags: &[&str]| {
        stage.bbackup(["restore", "latest", "--all", "--in-place"]).args(flags).run().exits(4).says("the files there are overwritten")
    };
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let outcome = restore(&[]);
    for path in [&folder.join("kept"), &file] {
        assert_eq!(read(path), "as saved");
    }
    // What the snapshot does not know stays, as docs/docker.md says of bind mounts.
    assert_eq!(read(&folder.join("new")), "came later");
    // The application and the files of the host are snapshots of their own; both are named.
    let saved = saved_first(&home);
    assert_eq!(saved.len(), 2, "{saved:#?}");
    assert!(saved.iter().all(|one| outcome.errors().contains(one["short_id"].as_str().unwrap())), "{}", outcome.describe());
    let files = saved.iter().find(|one| one["paths"].to_string().contains("settings")).unwrap();
    let dump = |path: &Path| stage.bbackup(["dump", files["id"].as_str().unwrap()]).arg(path).run().success().text();
    for path in [folder.join("kept"), folder.join("new"), file.clone()] {
        assert_eq!(dump(&path), "came later", "{}", path.display());
    }
    // Not where it is not wanted.
    write("later still");
    let _ = restore(&["--no-save-first"]);
    assert_eq!((read(&file), saved_first(&home).len()), ("as saved".to_owned(), 2));
}

//! Restores that are killed or fail: nothing is saved, started or forgotten of what is half of one and half of another content.

mod forgotten;
mod lost;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::docker_in_place::{Ground, saved_first};
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::faults;
use crate::support::home::{Home, NOBODY, files_below};
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};
use crate::support::run::Program;
use crate::support::tree;

/// What stands in the journals of restores.
fn journals(folder: &Path) -> String {
    let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    files.filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// A moment of a restore: its journal has one more line of a kind, and then it asks for something of the Engine, and gets no answer.
pub(crate) struct Moment {
    pub(crate) proxy: Proxy,
    reached: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Moment {
    /// `event` in the journal, then a request with `call` in its first line.
    pub(crate) fn new(home: &Home, stage: &Stage<'_>, event: &str, call: &str) -> Self {
        let folder = home.path("state").join("bbackup/restores");
        let event = format!("\"event\":\"{event}\"");
        let count = move |folder: &Path| journals(folder).matches(&event).count();
        let (before, call) = (count(&folder), call.to_owned());
        let (reached, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (at, end) = (Arc::clone(&reached), Arc::clone(&over));
        let number = fs::read_dir(home.path("")).unwrap().count();
        let proxy = Proxy::start(&home.path(format!("moment{number}.sock")), &stage.engine().host(), move |line| {
            if line.contains(&call) && count(&folder) > before {
                at.store(true, Ordering::SeqCst);
                while !end.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            Action::Pass
        });
        Self { proxy, reached, over }
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.reached.load(Ordering::SeqCst)
    }

    /// Everything is answered again.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Runs a restore, and kills it at this moment.
    pub(crate) fn kills(self, restore: Program) {
        let mut running = restore.env("DOCKER_HOST", self.proxy.host()).spawn();
        running.until("the moment", || self.reached.load(Ordering::SeqCst));
        running.signal(Signal::KILL);
        let _ = running.wait().killed_by(Signal::KILL);
    }
}

/// Kills a restore in place while it overwrites the volume.
fn kill_while_overwriting(home: &Home, ground: &Ground<'_>) {
    Moment::new(home, &ground.stage, "overwriting", "/volumes/").kills(ground.restore(&["--in-place"]));
}

pub(crate) fn state(stage: &Stage<'_>, name: &str) -> String {
    stage.ok(["inspect", "--format", "{{.State.Status}}", name])
}

/// A folder that a container mounts, and that can be taken away so that the container cannot be started.
pub(crate) fn guest_with_folder(home: &Home, ground: &Ground<'_>) -> PathBuf {
    let folder = home.make_folder("mounted");
    let (stage, name) = (&ground.stage, &ground.guest);
    stage.ok(["rm", "-f", name]);
    let (mount, volume) = (format!("type=bind,src={},dst=/bound", folder.display()), format!("{}:/other", ground.volume));
    stage.ok(["run", "-d", "--name", name, "--stop-timeout", "0", "--mount", &mount, "-v", &volume, BUSYBOX, "sleep", "1000"]);
    folder
}

#[test]
fn what_is_half_restored_is_neither_saved_nor_forgotten() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "halfsaved", 21);
    let (stage, ids) = (&ground.stage, ground.ids());
    let latest = || stage.bbackup(["snapshots", "--json", "latest"]).run().success().text();
    let whole = latest();
    kill_while_overwriting(&home, &ground);
    let outcome = stage.bbackup(["backup", "--json", "--projects", &ground.project]).run().exits(4);
    let outcome = outcome.says("a restore overwrites it, or was interrupted").says("was being overwritten");
    assert_eq!(latest(), whole, "half of a volume is what `latest` means\n{}", outcome.describe());
    let partial = stage.bbackup(["snapshots", "--json"]).run().success().text();
    assert!(partial.contains("\"partial\"") && !partial.contains("replaced"), "{partial}");
    let root = format!("/docker/{}/application.json", ground.project);
    let all = stage.bbackup(["snapshots", "--json"]).run().success().json_lines().pop().unwrap();
    let of_now = all["data"].as_array().cloned().unwrap_or_else(|| all["data"]["snapshots"].as_array().unwrap().clone());
    for one in of_now {
        let document = stage.bbackup(["dump", one["id"].as_str().unwrap(), &root]).run().success().text();
        assert!(!document.contains("-replaced"), "a container is saved under a name that is not its own: {document}");
    }
    // A restore that is refused clears nothing.
    let _ = ground.restore(&[]).run().exits(1);
    let _ = ground.restore(&["--container", &ground.db]).run().exits(1);
    for _ in 0..2 {
        let _ = stage.bbackup(["recover"]).run().exits(3).says("was being overwritten").says("estore it again");
        assert_eq!(state(stage, &ground.guest), "exited");
    }
    // The volume alone is enough: what was stopped for it runs again, also what does not use it.
    let outcome = ground.restore(&["--in-place", "--volume", &ground.volume]).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    assert_eq!((ground.read("kept").as_deref(), ground.read("new")), (Some("as saved"), None));
    assert_eq!(ground.ids(), ids);
    ground.assert_all_run();
    let _ = stage.bbackup(["recover"]).run().success().says("Nothing was left down");
    let _ = stage.bbackup(["backup", "--projects", &ground.project]).run().success();
}

#[test]
fn what_is_made_on_a_volume_that_is_half_restored_is_not_started() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "halfmade", 28);
    let (stage, guest, other) = (&ground.stage, &ground.guest, format!("{}9", ground.guest));
    let _ = stage.bbackup(["backup", "--containers", guest]).run().success();
    kill_while_overwriting(&home, &ground);
    let tag = format!("app:{guest}");
    let restore = |more: &[&str]| stage.bbackup(["restore", "latest", "--tag", &tag, "--container", guest]).args(more).run();
    let told = format!("container {guest} is not started: its volume {} is half restored", ground.volume);
    let _ = restore(&["--rename", &format!("{guest}:{other}"), "--dry-run"]).exits(4).says(&told);
    let _ = restore(&["--rename", &format!("{guest}:{other}")]).exits(4).says(&told);
    assert_eq!(state(stage, &other), "created");
    let _ = restore(&["--in-place"]).exits(4).says(&told);
    assert_eq!(state(stage, guest), "created");
    stage.ok(["rm", &other]);
    let outcome = ground.restore(&["--in-place"]).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    let _ = restore(&["--in-place"]).says(&format!("start container {guest}")).says_nothing_of("is half restored");
    ground.assert_saved_state();
}

#[test]
fn what_fails_over_a_volume_that_is_half_restored_starts_nothing_on_it() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "halftwice", 22);
    kill_while_overwriting(&home, &ground);
    let name = format!("/containers/create?name={}", ground.db);
    let fail = move |line: &str| if line.contains(&name) { Action::Fail } else { Action::Pass };
    let proxy = Proxy::start(&home.path("fail.sock"), &ground.stage.engine().host(), fail);
    let _ = ground.restore(&["--in-place"]).env("DOCKER_HOST", proxy.host()).run().exits(1).says("was half restored before");
    assert_eq!(state(&ground.stage, &ground.guest), "exited");
    let _ = ground.stage.bbackup(["recover"]).run().exits(3).says("restore it again");
    let outcome = ground.restore(&["--in-place"]).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    ground.assert_saved_state();
    let _ = ground.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn what_was_complete_and_not_started_is_started() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "halfcomplete", 23);
    let ids = ground.ids();
    Moment::new(&home, &ground.stage, "complete", "/start").kills(ground.restore(&["--in-place"]));
    assert_ne!(state(&ground.stage, &ground.db), "running", "it was started before it was killed");
    let _ = ground.stage.bbackup(["recover"]).run().success().says("everything of");
    ground.assert_saved_state();
    assert_ne!(ground.ids()[1], ids[1]);
    let _ = ground.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn what_cannot_be_put_back_is_tried_again() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "halfback", 24);
    let folder = guest_with_folder(&home, &ground);
    let ids = ground.ids();
    Moment::new(&home, &ground.stage, "aside", "/rename").kills(ground.restore(&["--in-place"]));
    fs::remove_dir(&folder).unwrap();
    for _ in 0..2 {
        let outcome = ground.stage.bbackup(["recover"]).run().exits(3);
        let _ = outcome.says(&format!("container {} is down", ground.guest)).says_nothing_of("what was there is back");
    }
    fs::create_dir(&folder).unwrap();
    let _ = ground.stage.bbackup(["recover"]).run().success();
    ground.assert_state_before(&ids);
    let _ = ground.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn what_was_refilled_and_not_started_is_not_half() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let ground = Ground::lay(&home, "halfrefilled", 25);
    let folder = guest_with_folder(&home, &ground);
    let ids = ground.ids();
    let (name, gone) = (format!("/containers/create?name={}", ground.db), folder.clone());
    let fail = move |line: &str| {
        if !line.contains(&name) {
            return Action::Pass;
        }
        fs::remove_dir(&gone).unwrap();
        Action::Fail
    };
    let proxy = Proxy::start(&home.path("fail.sock"), &ground.stage.engine().host(), fail);
    let failed = ground.restore(&["--in-place"]).env("DOCKER_HOST", proxy.host()).run().exits(1);
    let _ = failed.says(&format!("container {} is down", ground.guest)).says_nothing_of("half restored");
    assert_eq!((ground.read("kept").as_deref(), ground.read("new").as_deref()), (Some("changed since"), Some("came since")));
    let again = ground.stage.bbackup(["recover"]).run().exits(3);
    let _ = again.says(&format!("container {} is down", ground.guest)).says_nothing_of("overwritten");
    fs::create_dir(&folder).unwrap();
    let _ = ground.stage.bbackup(["recover"]).run().success();
    ground.assert_state_before(&ids);
}

#[test]
fn one_application_that_is_half_restored_does_not_keep_another_down() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let grounds = [Ground::lay(&home, "halfone", 26), Ground::lay(&home, "halftwo", 27)];
    let ids = grounds.each_ref().map(Ground::ids);
    let stage = &grounds[0].stage;
    let all = stage.bbackup(["restore", "latest", "--all", "--in-place"]);
    Moment::new(&home, stage, "overwriting", "/volumes/").kills(all);
    let outcome = stage.bbackup(["recover"]).run().exits(3);
    let half = grounds.iter().position(|ground| outcome.errors().contains(&format!("volume {} was being", ground.volume))).unwrap();
    grounds[1 - half].assert_state_before(&ids[1 - half]);
    let _ = outcome.says(&format!("restore of {} had stopped", grounds[1 - half].project));
    assert_eq!(state(stage, &grounds[half].guest), "exited");
    assert_eq!(grounds[half].ids(), ids[half], "what had another name has its own again");
}

/// Two containers, each an application of its own, that use the volume of the first.
struct Sharing<'a> {
    stage: Stage<'a>,
    home: &'a Home,
    owner: String,
    user: String,
    volume: String,
    folder: Option<PathBuf>,
}

impl<'a> Sharing<'a> {
    fn lay(home: &'a Home, name: &str, through_helper: bool) -> Self {
        let stage = Stage::new(home, name);
        let named = |word: &str| stage.name(word);
        let (owner, user, volume) = (named("a-owner"), named("b-user"), named("shared"));
        let folder = through_helper.then(|| home.make_folder("device"));
        let device = folder.iter().flat_map(|folder| {
            ["--opt", "type=none", "--opt", "o=bind", "--opt"]
                .map(str::to_owned)
                .into_iter()
                .chain([format!("device={}", folder.display())])
        });
        stage.ok(["volume", "create"].map(str::to_owned).into_iter().chain(device).chain([volume.clone()]));
        stage.ok(["network", "create", &named("net")]);
        let sharing = Self { stage, home, owner, user, volume, folder };
        tree::write(&sharing.folder().join("noise"), &tree::noise(9, 3_000_000));
        tree::many(&sharing.folder(), 50);
        sharing.run(&sharing.owner, &[]);
        sharing.run(&sharing.user, &["--network", &sharing.stage.name("net")]);
        sharing
    }

    fn folder(&self) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| self.stage.mountpoint(&self.volume))
    }

    fn run(&self, name: &str, more: &[&str]) {
        let mount = format!("{}:/data", self.volume);
        let first = ["run", "-d", "--name", name, "--stop-timeout", "0", "-v", &mount];
        self.stage.ok([&first, more, &[BUSYBOX, "sleep", "1000"]].concat());
    }

    fn save(&self) {
        let both = format!("{},{}", self.owner, self.user);
        let outcome = self.stage.bbackup(["backup", "--containers", &both]).run();
        assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    }

    fn remove(&self) {
        self.stage.ok(["rm", "-f", &self.owner, &self.user]);
        self.stage.ok(["volume", "rm", &self.volume]);
        if let Some(folder) = &self.folder {
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
        }
    }

    fn restore(&self) -> Program {
        self.stage.bbackup(["restore", "latest", "--all"])
    }

    /// A proxy that answers with an error what `is_meant`.
    fn failing(&self, is_meant: impl Fn(&str) -> bool + Send + Sync + 'static) -> Proxy {
        let decide = move |line: &str| if is_meant(line) { Action::Fail } else { Action::Pass };
        Proxy::start(&self.home.path("failing.sock"), &self.stage.engine().host(), decide)
    }
}

#[test]
fn nobody_starts_on_a_volume_of_another_application_that_lost_entries() {
    needs!(Part::Engine);
    nobody_starts_on_what_lost_entries("sharelost", false);
    nobody_starts_on_what_lost_entries("sharefar", true);
}

fn nobody_starts_on_what_lost_entries(name: &str, through_helper: bool) {
    let home = Home::with_repository();
    let sharing = Sharing::lay(&home, name, through_helper);
    sharing.save();
    let packs = files_below(&home.repository().join("data"));
    let pack = packs.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    faults::flip(&pack, (fs::metadata(&pack).unwrap().len() / 2).cast_signed());
    sharing.remove();
    let outcome = sharing.restore().run().exits(4);
    let _ = outcome.says("noise").says(&format!("container {} is not started", sharing.user));
    for name in [&sharing.owner, &sharing.user] {
        assert_eq!(state(&sharing.stage, name), "created", "{name} was started on half of its data");
    }
    // What is left is not taken for all that there was, until somebody takes it.
    for _ in 0..2 {
        let backup = sharing.stage.bbackup(["backup", "--json", "--containers", &sharing.owner]).run().exits(4);
        let _ = backup.says("a restore could not bring back all of it");
    }
    sharing.stage.ok(["start", &sharing.owner]);
    let backup = sharing.stage.bbackup(["backup", "--json", "--containers", &sharing.owner]).run();
    let _ = backup.success().says_nothing_of("could not bring back all of it");
}

#[test]
fn nobody_is_made_for_a_volume_that_could_not_be_filled() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let sharing = Sharing::lay(&home, "sharefail", true);
    sharing.save();
    sharing.remove();
    let proxy = sharing.failing(|line| line.starts_with("PUT ") && line.contains("/archive"));
    let outcome = sharing.restore().env("DOCKER_HOST", proxy.host()).run().exits(1);
    for name in [&sharing.owner, &sharing.user] {
        assert!(!sharing.stage.exists("container", name), "{name} was made\n{}", outcome.describe());
    }
    assert!(!sharing.stage.exists("volume", &sharing.volume), "an empty volume of that name is there");
    let _ = outcome.says(&format!("it uses what is restored with {}, which failed", sharing.owner));
    let outcome = sharing.restore().run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    sharing.stage.wait_for_state(&sharing.user, "running");
}

#[test]
fn a_volume_that_is_whole_stays_for_the_application_that_uses_it() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let sharing = Sharing::lay(&home, "sharewhole", false);
    sharing.save();
    sharing.remove();
    let create = format!("/containers/create?name={}", sharing.owner);
    let proxy = sharing.failing(move |line| line.contains(&create));
    let _ = sharing.restore().env("DOCKER_HOST", proxy.host()).run().exits(4);
    assert!(!sharing.stage.exists("container", &sharing.owner));
    sharing.stage.wait_for_state(&sharing.user, "running");
    assert_eq!(fs::read(sharing.folder().join("noise")).unwrap(), tree::noise(9, 3_000_000));
    let _ = sharing.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn what_is_put_back_waits_until_nobody_writes_to_its_volumes() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let sharing = Sharing::lay(&home, "sharewait", false);
    sharing.save();
    fs::write(sharing.folder().join("new"), "came since").unwrap();
    // The network has to be made again, and cannot be.
    let network = sharing.stage.name("net");
    sharing.stage.ok(["network", "disconnect", &network, &sharing.user]);
    sharing.stage.ok(["network", "rm", &network]);
    let moment = Moment::new(&home, &sharing.stage, "overwriting", "/volumes/");
    let host = moment.proxy.host();
    let fail = |line: &str| if line.contains("/networks/create") { Action::Fail } else { Action::Pass };
    let proxy = Proxy::start(&home.path("failing.sock"), &host, fail);
    let mut running = sharing.restore().args(["--in-place", "--no-save-first"]).env("DOCKER_HOST", proxy.host()).spawn();
    running.until("the moment", || moment.reached.load(Ordering::SeqCst));
    assert_eq!(state(&sharing.stage, &sharing.user), "exited", "it runs while its volume is overwritten");
    moment.over.store(true, Ordering::SeqCst);
    let outcome = running.wait().exits(4).says("runs again once nobody writes");
    for name in [&sharing.owner, &sharing.user] {
        sharing.stage.wait_for_state(name, "running");
    }
    assert!(!sharing.folder().join("new").exists(), "{}", outcome.describe());
    let _ = sharing.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn what_is_overwritten_is_saved_whatever_labels_say() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "savedall");
    let (name, volume) = (stage.name("app"), stage.name("data"));
    let mount = format!("{volume}:/data");
    let run = |more: &[&str]| {
        let first = ["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &mount, "--label", "bbackup.exclude=cache/**"];
        stage.ok([&first, more, &[BUSYBOX, "sleep", "1000"]].concat());
    };
    run(&[]);
    let folder = stage.mountpoint(&volume);
    fs::write(folder.join("kept"), "as saved").unwrap();
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    // Later it is left out of backups altogether.
    stage.ok(["rm", "-f", &name]);
    run(&["--label", "bbackup.enable=false"]);
    fs::create_dir(folder.join("cache")).unwrap();
    fs::write(folder.join("cache/x"), "hard to have again").unwrap();
    stage.ok(["exec", &name, "sh", "-c", "echo by hand >/written"]);
    let create = format!("/containers/create?name={name}");
    let fail = move |line: &str| if line.contains(&create) { Action::Fail } else { Action::Pass };
    let proxy = Proxy::start(&home.path("fail.sock"), &stage.engine().host(), fail);
    let restore = || stage.bbackup(["restore", "latest", "--all", "--in-place", "--json"]);
    let failed = restore().env("DOCKER_HOST", proxy.host()).run().exits(1).says("what was there before is back");
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    assert_eq!(read("cache/x").as_deref(), Some("hard to have again"), "{}", failed.describe());
    stage.wait_for_state(&name, "running");

    let _ = restore().run().success();
    assert_eq!((read("kept").as_deref(), read("cache/x")), (Some("as saved"), None));
    for saved in saved_first(&home) {
        let id = saved["id"].as_str().unwrap();
        let dump = |path: &str| stage.bbackup(["dump", id, &format!("/docker/{name}/{path}")]).run().success().text();
        assert_eq!(dump(&format!("volumes/{volume}/cache/x")), "hard to have again");
        assert_eq!(dump(&format!("containers/{name}/layer/written")), "by hand\n");
        let inspect: Value = serde_json::from_str(&dump(&format!("containers/{name}/inspect.json"))).unwrap();
        assert_eq!(inspect["Config"]["Labels"]["bbackup.enable"], "false");
    }
    assert_eq!(saved_first(&home).len(), 2);
}

fn give_to_nobody(folder: &Path) {
    for path in files_below(folder).iter().map(PathBuf::as_path).chain([folder]) {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

#[test]
fn what_cannot_be_saved_whole_is_not_overwritten() {
    needs!(Part::Root);
    let home = Home::new();
    let folder = home.make_folder("home/tree");
    fs::write(folder.join("file"), "as saved").unwrap();
    give_to_nobody(&folder);
    let _ = home.bbackup_as_nobody(["init"]).run().success();
    let _ = home.bbackup_as_nobody(["backup", "--paths"]).arg(&folder).run().success();
    fs::write(folder.join("file"), "changed since").unwrap();
    give_to_nobody(&folder);
    fs::write(folder.join("secret"), "of somebody else").unwrap();
    fs::set_permissions(folder.join("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    let restore = || home.bbackup_as_nobody(["restore", "latest", "--in-place"]);
    let _ = restore().run().exits(1).says("cannot be saved first");
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "changed since");
    let _ = restore().arg("--no-save-first").run().success();
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "as saved");
}

//! What lies in an application and is put back alone, in its place: bind mounts, compose files, volumes, and what is in them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::docker_in_place::saved_first;
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::proxy::over_tcp;
use crate::support::run::{Outcome, Program, Running};
use crate::support::tree;

/// A project that mounts a folder and a file of the host, and others that mount the folder too.
struct Shop<'a> {
    home: &'a Home,
    stage: Stage<'a>,
    folder: PathBuf,
    volume: String,
}

/// `app` writes to the folder, `reader` only reads it, `inner` is of another application and mounts a part of it.
const USERS: [&str; 3] = ["app", "reader", "inner"];

const LEFT_RUNNING: [&str; 2] = ["--label", "bbackup.stop=false"];

impl<'a> Shop<'a> {
    /// Saved with one content, and changed afterwards.
    fn open(home: &'a Home, name: &str) -> Self {
        let stage = Stage::new(home, name);
        let shop = Self { folder: home.make_folder("shop"), volume: stage.name("data"), home, stage };
        fs::create_dir_all(shop.path("data/sub")).unwrap();
        shop.write("as saved");
        fs::write(shop.path("compose.yaml"), "services: {app: {env_file: app.env}} # as saved\n").unwrap();
        fs::write(shop.path("app.env"), "SAVED=1\n").unwrap();
        let project = labels_of(&shop);
        let [data, sub] = ["data", "data/sub"].map(|path| shop.path(path).display().to_string());
        let volume = format!("{}:/volume", shop.volume);
        shop.start("app", &[&project[..], &mounts(&[&format!("{data}:/data"), &volume])].concat());
        shop.start("reader", &[&project[..], &mounts(&[&format!("{data}:/data:ro")])].concat());
        // What is left running while it is saved is not while its files are overwritten.
        shop.start("inner", &[&mounts(&[&format!("{sub}:/sub")])[..], &LEFT_RUNNING.map(str::to_owned)].concat());
        shop.start("stranger", &mounts(&[&format!("{}:/x", home.make_folder("shop-of-another").display())]));
        fs::write(shop.mountpoint().join("kept"), "as saved").unwrap();
        fs::create_dir(shop.mountpoint().join("sub")).unwrap();
        fs::write(shop.mountpoint().join("sub/kept"), "as saved").unwrap();
        let _ = shop.stage.bbackup(["backup", "--projects", &shop.project()]).run().success();
        shop.write("changed since");
        fs::write(shop.path("data/new"), "came since").unwrap();
        shop
    }

    fn project(&self) -> String {
        self.stage.name("shop")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn mountpoint(&self) -> PathBuf {
        self.stage.mountpoint(&self.volume)
    }

    fn start(&self, name: &str, options: &[String]) {
        let first = ["run", "-d", "--name", &self.stage.name(name), "--stop-timeout", "0"].map(str::to_owned);
        self.stage.ok([&first[..], options, &[BUSYBOX, "sleep", "1000"].map(str::to_owned)].concat());
    }

    /// In the folder of the bind mount.
    fn write(&self, text: &str) {
        for file in ["data/kept", "data/sub/kept"] {
            fs::write(self.path(file), text).unwrap();
        }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn restore(&self, path: &Path) -> Program {
        let tag = format!("app:{}", self.project());
        self.stage.bbackup(["restore", "latest", "--json", "--tag", &tag, "--path"]).arg(path)
    }

    fn in_place(&self, path: &Path) -> Program {
        self.restore(path).arg("--in-place")
    }

    /// Ids and last starts of all containers.
    fn starts(&self) -> Vec<(String, String)> {
        let of = |name: &&str| {
            let found = self.stage.inspect("container", &self.stage.name(name));
            (found["Id"].to_string(), found["State"]["StartedAt"].to_string())
        };
        USERS.iter().chain(&["stranger"]).map(of).collect()
    }

    /// Which of [`USERS`] were started again since then; they are the same containers, and run, and nobody else was touched.
    #[track_caller]
    fn started_since(&self, before: &[(String, String)]) -> Vec<&'static str> {
        self.all_run();
        let after = self.starts();
        assert!(before.iter().zip(&after).all(|(before, after)| before.0 == after.0), "not the same containers");
        assert_eq!(before[3], after[3], "somebody was stopped for nothing");
        USERS.into_iter().zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after).map(|(name, _)| name).collect()
    }

    fn all_run(&self) {
        for name in USERS {
            self.stage.wait_for_state(&self.stage.name(name), "running");
        }
    }

    fn states(&self) -> Vec<String> {
        USERS.map(|name| self.stage.ok(["inspect", "--format", "{{.State.Status}}", &self.stage.name(name)])).to_vec()
    }

    /// What a snapshot that was made before a restore has.
    fn saved(&self, number: usize, path: &str) -> String {
        let saved = saved_first(self.home);
        self.stage.bbackup(["dump", saved[number]["id"].as_str().unwrap(), path]).run().success().text()
    }

    /// Starts a restore, and gives it as soon as it overwrites.
    fn begin_to_overwrite(&self, restore: Program) -> Running {
        let journals = self.home.path("state").join("bbackup/restores");
        let list = || fs::read_dir(&journals).into_iter().flatten().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let old = list();
        let mut running = restore.spawn();
        running.until("it to overwrite", || {
            let new = list().into_iter().filter(|path| !old.contains(path)).filter_map(|path| fs::read_to_string(path).ok());
            new.into_iter().any(|text| text.contains("\"event\":\"overwriting\""))
        });
        running
    }

    /// Kills a restore as soon as it overwrites.
    fn kill_while_overwriting(&self, restore: Program) {
        let running = self.begin_to_overwrite(restore);
        running.signal(Signal::KILL);
        let _ = running.wait().killed_by(Signal::KILL);
    }
}

fn labels_of(shop: &Shop<'_>) -> Vec<String> {
    let labels = [
        ("project", shop.project()),
        ("project.working_dir", shop.folder.display().to_string()),
        ("project.config_files", shop.path("compose.yaml").display().to_string()),
    ];
    labels.into_iter().flat_map(|(label, value)| ["--label".to_owned(), format!("com.docker.compose.{label}={value}")]).collect()
}

fn mounts(mounts: &[&str]) -> Vec<String> {
    mounts.iter().flat_map(|mount| ["-v".to_owned(), (*mount).to_owned()]).collect()
}

/// The steps of a dry run, each with its name.
fn steps(outcome: &Outcome) -> Vec<(String, String)> {
    let last = outcome.json_lines().pop().unwrap();
    let text = |step: &serde_json::Value, field: &str| step[field].as_str().unwrap().to_owned();
    last["data"]["preview"]["steps"].as_array().unwrap().iter().map(|step| (text(step, "action"), text(step, "name"))).collect()
}

#[test]
fn a_bind_mount_is_put_back_alone_by_its_path() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let shop = Shop::open(&home, "alone");
    let (data, before) = (shop.path("data"), shop.starts());
    let shown = data.display().to_string();
    // Not unasked.
    let _ = shop.restore(&data).run().exits(1).says(&format!("{shown} cannot be restored: there is something")).says("--in-place");
    let dry = shop.in_place(&data).arg("--dry-run").run().success().says("those that the snapshot does not have stay");
    let planned = steps(&dry);
    let actions: Vec<&str> = planned.iter().map(|(action, _)| action.as_str()).collect();
    let expected = ["stop container"; 3].into_iter().chain(["save first", "restore files"]).chain(["start again"; 3]);
    assert_eq!(actions, expected.collect::<Vec<_>>(), "{}", dry.describe());
    assert!(planned[3..5].iter().all(|(_, name)| *name == shown), "{}", dry.describe());
    let stopped: Vec<&str> = planned[..3].iter().map(|(_, name)| name.as_str()).collect();
    assert!(USERS.iter().all(|name| stopped.contains(&shop.stage.name(name).as_str())), "{stopped:?}");
    assert_eq!((shop.read("data/kept").as_str(), shop.starts()), ("changed since", before.clone()));

    let outcome = shop.in_place(&data).run().success();
    assert_eq!(["data/kept", "data/sub/kept", "data/new"].map(|file| shop.read(file)), ["as saved", "as saved", "came since"]);
    assert_eq!(shop.started_since(&before), USERS, "{}", outcome.describe());
    assert_eq!(shop.saved(0, &format!("{shown}/kept")), "changed since");

    // A part of it, and the same by its place in the snapshot.
    let in_snapshot = PathBuf::from(format!("/docker/{}/binds{shown}/sub/kept", shop.project()));
    for (path, part) in [(data.join("sub/kept"), "data/sub/kept"), (in_snapshot, "data/sub/kept")] {
        shop.write("changed again");
        let before = shop.starts();
        let _ = shop.in_place(&path).run().success();
        assert_eq!((shop.read(part).as_str(), shop.read("data/kept").as_str()), ("as saved", "changed again"));
        assert_eq!(shop.started_since(&before), USERS);
    }
    assert_eq!(shop.saved(1, &format!("{shown}/sub/kept")), "changed again");
    let _ = shop.in_place(&data.join("kept")).arg("--no-save-first").run().success();
    assert_eq!((shop.read("data/kept").as_str(), saved_first(&home).len()), ("as saved", 3));

    // Where nothing is, it needs no leave.
    fs::remove_file(shop.path("data/sub/kept")).unwrap();
    let _ = shop.restore(&data.join("sub/kept")).run().success();
    assert_eq!(shop.read("data/sub/kept"), "as saved");

    // As plain files, under the path that was named.
    let out = home.path("out");
    let _ = shop.restore(&data.join("sub")).arg("--to").arg(&out).run().success();
    assert_eq!(fs::read_to_string(out.join(data.strip_prefix("/").unwrap()).join("sub/kept")).unwrap(), "as saved");

    // With a container, which is replaced; without it would use what is there as it is.
    let before = shop.starts();
    shop.write("changed since");
    let _ = shop.in_place(&data).args(["--container", &shop.stage.name("app")]).run().exits(4).says("as it is there");
    let after = shop.starts();
    assert!(before[0].0 != after[0].0 && before[1].0 == after[1].0 && before[1] != after[1], "{before:?} {after:?}");
    assert_eq!(shop.read("data/sub/kept"), "as saved");
    shop.all_run();

    // On an Engine of another machine what is there is not seen.
    shop.write("changed since");
    let far = |more: &[&str]| shop.in_place(&data.join("kept")).args(more).env("DOCKER_HOST", over_tcp(&shop.stage.engine().host())).run();
    let _ = far(&[]).exits(1).says("cannot be saved first, as it is not seen from here");
    let _ = far(&["--no-save-first"]).success();
    assert_eq!((shop.read("data/kept").as_str(), shop.read("data/sub/kept").as_str()), ("as saved", "changed since"));
    shop.all_run();
    let _ = shop.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn two_restores_of_what_lies_in_each_other_are_not_done_at_once() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let shop = Shop::open(&home, "alonetwo");
    fs::write(shop.path("data/noise"), tree::noise(5, 30_000_000)).unwrap();
    let _ = shop.stage.bbackup(["backup", "--projects", &shop.project()]).run().success();
    fs::write(shop.path("data/noise"), tree::noise(6, 30_000_000)).unwrap();
    // No container that both would have to stop.
    let _ = USERS.map(|name| shop.stage.ok(["rm", "-f", &shop.stage.name(name)]));
    let running = shop.begin_to_overwrite(shop.in_place(&shop.path("data/noise")));
    running.signal(Signal::STOP);
    let refused = shop.in_place(&shop.path("data")).run();
    running.signal(Signal::CONT);
    let _ = (running.wait().success(), refused.exits(1).says("nother restore").says("data/noise just now"));
}

#[test]
fn compose_files_are_put_back_by_their_paths() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let shop = Shop::open(&home, "alonecompose");
    let before = shop.starts();
    for (file, part) in [("compose.yaml", "# as saved"), ("app.env", "SAVED=1")] {
        fs::write(shop.path(file), "changed since").unwrap();
        let _ = shop.restore(&shop.path(file)).run().exits(1).says("there is something");
        let _ = shop.in_place(&shop.path(file)).run().success();
        assert!(shop.read(file).contains(part), "{}", shop.read(file));
    }
    assert_eq!(shop.saved(1, &shop.path("app.env").display().to_string()), "changed since");
    assert_eq!(shop.started_since(&before), [""; 0], "nobody mounts them");
}

#[test]
fn what_a_path_means_is_said_where_it_is_not_clear() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let shop = Shop::open(&home, "alonewords");
    let known = shop.path("data").display().to_string();
    let id = {
        let all = shop.stage.bbackup(["snapshots", "--json"]).run().success().json_lines().pop().unwrap();
        let all = all["data"].as_array().cloned().unwrap_or_else(|| all["data"]["snapshots"].as_array().unwrap().clone());
        all[0]["id"].as_str().unwrap().to_owned()
    };
    // Nothing of that name, in `latest` and in one that was named.
    for snapshot in ["latest", &id] {
        let restore = shop.stage.bbackup(["restore", snapshot, "--in-place", "--path"]).arg("/srv/nothing").run().exits(1);
        let _ = restore.says("/srv/nothing").says(&known).says(&format!("volume {}", shop.volume));
    }
    // A folder above tells what is in it, and nothing else.
    let above = shop.in_place(&shop.folder).run().exits(1);
    let _ = above.says(&known).says("compose.yaml").says_nothing_of("and 1 more");
    // What is none of its files has no place here.
    let document = PathBuf::from(format!("/docker/{}/application.json", shop.project()));
    let _ = shop.in_place(&document).run().exits(1).says("not one on this host").says("--to DIR");
    assert_eq!(shop.read("data/kept"), "changed since");

    // The files of the host that a set saves, and those of an application, in one run.
    let config = home.path("both.yaml");
    let repository = format!("{{location: {}, password_file: {}}}", home.repository().display(), home.password_file().display());
    let set = format!("{{projects: [\"{}\"], paths: [\"{}\"]}}", shop.project(), shop.folder.display());
    fs::write(&config, format!("repositories: {{default: {repository}}}\nsets: {{both: {set}}}\n")).unwrap();
    let saved = shop.stage.bbackup(["backup", "both", "--json", "--config"]).arg(&config).run().success();
    let run = saved.json_lines().pop().unwrap()["data"]["runs"][0]["run"].as_str().unwrap().to_owned();
    let restore =
        |words: &[&str]| shop.stage.bbackup(["restore", &format!("run:{run}"), "--path"]).arg(shop.path("data")).args(words).run();
    let _ = restore(&["--in-place"]).exits(1).says("is in several of the chosen snapshots");
    let _ = restore(&["--to", home.path("out").to_str().unwrap()]).exits(1).says("is in several of the chosen snapshots");
}

#[test]
fn a_path_that_is_one_of_the_snapshot_and_one_of_the_host_is_not_guessed() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "alonetwice");
    // On the host there is a folder that is called as a volume is in the snapshot.
    let (name, volume) = (stage.name("app"), stage.name("data"));
    let folder = PathBuf::from(format!("/docker/{name}/volumes/{volume}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("file"), "as saved").unwrap();
    let mounts = [format!("{volume}:/volume"), format!("{}:/data", folder.display())];
    stage.ok(["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &mounts[0], "-v", &mounts[1], BUSYBOX, "sleep", "1000"]);
    let saved = stage.bbackup(["backup", "--containers", &name]).run();
    fs::write(folder.join("file"), "changed since").unwrap();
    let restore = |path: &str| stage.bbackup(["restore", "latest", "--in-place", "--path", path]).run();
    let inside = format!("/docker/{name}/binds{}", folder.display());
    let (twice, clear) = (restore(folder.to_str().unwrap()), restore(&inside));
    let read = fs::read_to_string(folder.join("file")).unwrap();
    fs::remove_dir_all(format!("/docker/{name}")).unwrap();
    let _ = fs::remove_dir("/docker");
    let _ = (saved.success(), twice.exits(1).says("and also one on the host").says(&format!("--path {inside}")), clear.success());
    assert_eq!(read, "as saved");
}

#[test]
fn a_bind_mount_alone_that_cannot_be_put_back_is_as_it_was() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let shop = Shop::open(&home, "alonefails");
    let before = shop.starts();
    // A folder that holds something is not replaced by a file.
    fs::remove_file(shop.path("data/sub/kept")).unwrap();
    fs::create_dir(shop.path("data/sub/kept")).unwrap();
    fs::write(shop.path("data/sub/kept/inside"), "x").unwrap();
    let outcome = shop.in_place(&shop.path("data")).run().exits(1);
    let _ = outcome.says("1 entry of restore").says("what was there before is back, and runs if it ran");
    assert_eq!((shop.read("data/kept").as_str(), shop.read("data/sub/kept/inside").as_str()), ("changed since", "x"));
    assert_eq!(shop.started_since(&before), USERS);
    // Who cannot be started again is not stopped.
    let fleeting = shop.stage.name("fleeting");
    let mount = format!("{}:/x:ro", shop.path("data").display());
    shop.stage.ok(["run", "-d", "--rm", "--name", &fleeting, "--stop-timeout", "0", "-v", &mount, BUSYBOX, "sleep", "1000"]);
    let _ = shop.in_place(&shop.path("data/kept")).run().exits(1).says("it was started with --rm");
    assert_eq!(shop.read("data/kept"), "changed since");
    let _ = shop.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn a_bind_mount_that_was_overwritten_in_part_is_half_restored_until_all_of_it_is_written() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let shop = Shop::open(&home, "alonehalf");
    fs::write(shop.path("data/noise"), tree::noise(5, 30_000_000)).unwrap();
    shop.write("as saved");
    let _ = shop.stage.bbackup(["backup", "--projects", &shop.project()]).run().success();
    let spoil = || {
        shop.write("changed since");
        fs::write(shop.path("data/noise"), tree::noise(6, 30_000_000)).unwrap();
    };
    let (data, noise) = (shop.path("data"), shop.path("data/noise"));
    let is_half = |path: &Path| {
        let recover = shop.stage.bbackup(["recover"]).run().exits(3).says("was being overwritten");
        let _ =
            recover.says(&format!("{} was being", path.display())).says("restore it again with --in-place; what was in it is in snapshot");
        // Who mounts another part of it is not concerned.
        let inner = if *path == data { "exited" } else { "running" };
        assert_eq!(shop.states(), ["exited", "exited", inner]);
    };
    let is_whole = || {
        let _ = shop.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
        shop.all_run();
    };

    spoil();
    shop.kill_while_overwriting(shop.in_place(&data));
    is_half(&data);
    let backup = shop.stage.bbackup(["backup", "--json", "--projects", &shop.project()]).run().exits(4);
    let _ = backup.says("a restore overwrites it, or was interrupted");
    // A part of it is not all of it.
    let part = shop.in_place(&data.join("kept")).run();
    assert!(matches!(part.code(), Some(0 | 4)) && shop.read("data/kept") == "as saved", "{}", part.describe());
    is_half(&data);
    let outcome = shop.in_place(&data).run();
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    is_whole();
    assert_eq!(fs::read(&noise).unwrap(), tree::noise(5, 30_000_000));

    // Half of a part is put right by that part, and by all that it lies in.
    for again in [&noise, &data] {
        spoil();
        shop.kill_while_overwriting(shop.in_place(&noise));
        is_half(&noise);
        let backup = shop.stage.bbackup(["backup", "--json", "--projects", &shop.project()]).run().exits(4);
        let _ = backup.says("a restore overwrites it, or was interrupted");
        let outcome = shop.in_place(again).run();
        assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
        is_whole();
        assert_eq!(fs::read(&noise).unwrap(), tree::noise(5, 30_000_000));
    }
    let _ = shop.stage.bbackup(["backup", "--projects", &shop.project()]).run().success();
}

#[test]
fn a_part_of_a_volume_is_put_back_alone() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let shop = Shop::open(&home, "alonepart");
    let in_volume = |file: &str| fs::read_to_string(shop.mountpoint().join(file)).ok();
    let place = |path: &str| PathBuf::from(format!("/docker/{}/volumes/{}{path}", shop.project(), shop.volume));
    let change = || {
        for file in ["kept", "sub/kept", "sub/new"] {
            fs::write(shop.mountpoint().join(file), "changed since").unwrap();
        }
    };
    change();
    let before = shop.starts();
    let _ = shop.restore(&place("/sub")).run().exits(1).says("cannot be restored: there is something");
    let dry = shop.in_place(&place("/sub")).arg("--dry-run").run().success();
    let actions: Vec<String> = steps(&dry).into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["stop container", "save first", "restore files", "start again"], "{}", dry.describe());
    assert_eq!(shop.starts(), before);

    let _ = shop.in_place(&place("/sub")).run().success();
    let now = ["kept", "sub/kept", "sub/new"].map(|file| in_volume(file).unwrap());
    assert_eq!(now, ["changed since", "as saved", "changed since"]);
    assert_eq!(shop.started_since(&before), ["app"]);
    assert_eq!(shop.saved(0, &format!("{}/sub/kept", place("").display())), "changed since");
    // All of it by its place is the same as by its name.
    let _ = shop.in_place(&place("")).run().success();
    assert_eq!((in_volume("kept").as_deref(), in_volume("sub/new")), (Some("as saved"), None));

    // A folder that holds something is not replaced by a file, and the rest is as it was.
    change();
    fs::remove_file(shop.mountpoint().join("sub/kept")).unwrap();
    fs::create_dir(shop.mountpoint().join("sub/kept")).unwrap();
    fs::write(shop.mountpoint().join("sub/kept/inside"), "x").unwrap();
    let outcome = shop.in_place(&place("/sub")).run().exits(1).says("what was there before is back, and runs if it ran");
    assert_eq!(in_volume("sub/kept/inside").as_deref(), Some("x"), "{}", outcome.describe());
    shop.all_run();

    // Into what is not there nothing is put back.
    shop.stage.ok(["rm", "-f", &shop.stage.name("app")]);
    shop.stage.ok(["volume", "rm", &shop.volume]);
    let _ = shop.in_place(&place("/sub")).run().exits(1).says("is not there, so a part of it cannot be put back").says("--volume");
    let _ = shop.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
}

#[test]
fn a_volume_that_was_overwritten_in_part_is_half_restored_until_that_is_written() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let shop = Shop::open(&home, "alonehalfpart");
    let noise = shop.mountpoint().join("sub/noise");
    fs::write(&noise, tree::noise(5, 30_000_000)).unwrap();
    let _ = shop.stage.bbackup(["backup", "--projects", &shop.project()]).run().success();
    let place = |path: &str| PathBuf::from(format!("/docker/{}/volumes/{}{path}", shop.project(), shop.volume));
    for again in ["/sub", ""] {
        fs::write(&noise, tree::noise(6, 30_000_000)).unwrap();
        shop.kill_while_overwriting(shop.in_place(&place("/sub")));
        let recover = shop.stage.bbackup(["recover"]).run().exits(3).says("/sub was being overwritten");
        let _ = recover.says("restore it again with --in-place; what was in it is in snapshot");
        assert_eq!(shop.states(), ["exited", "running", "running"]);
        let backup = shop.stage.bbackup(["backup", "--json", "--projects", &shop.project()]).run().exits(4);
        let _ = backup.says("a restore overwrites it, or was interrupted");
        let outcome = shop.in_place(&place(again)).run();
        assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
        assert_eq!(fs::read(&noise).unwrap(), tree::noise(5, 30_000_000), "{}", outcome.describe());
        let _ = shop.stage.bbackup(["recover"]).run().success().says("Nothing was left down");
        shop.all_run();
    }
    let _ = shop.stage.bbackup(["backup", "--projects", &shop.project()]).run().success();
}

#[test]
fn a_part_of_a_volume_that_stands_for_a_folder_is_put_back_there() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "alonedevice");
    let (folder, volume, name) = (home.make_folder("device"), stage.name("data"), stage.name("app"));
    let write = |text: &str| ["kept", "other"].map(|file| fs::write(folder.join(file), text).unwrap());
    write("as saved");
    stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &format!("device={}", folder.display()), &volume]);
    let mount = format!("{volume}:/data");
    let first = ["run", "-d", "--name", &name, "--stop-timeout", "0", "-v", &mount];
    stage.ok([&first[..], &LEFT_RUNNING, &[BUSYBOX, "sleep", "1000"]].concat());
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    write("changed since");
    let started = || stage.inspect("container", &name)["State"]["StartedAt"].to_string();
    let before = started();
    let place = format!("/docker/{name}/volumes/{volume}/kept");
    let outcome = stage.bbackup(["restore", "latest", "--in-place", "--path", &place]).run().success();
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    assert_eq!((read("kept").as_str(), read("other").as_str()), ("as saved", "changed since"), "{}", outcome.describe());
    stage.wait_for_state(&name, "running");
    assert_ne!(started(), before, "nobody was stopped for it");
}

#[test]
fn what_is_put_back_alone_goes_nowhere_else_than_where_it_was() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let shop = Shop::open(&home, "alonelink");
    // It mounts what becomes a link.
    shop.stage.ok(["rm", "-f", &shop.stage.name("inner")]);
    let place = |path: &str| PathBuf::from(format!("/docker/{}/volumes/{}{path}", shop.project(), shop.volume));
    let outside = home.make_folder("outside");
    fs::write(outside.join("kept"), "of others").unwrap();
    for (folder, named) in [(shop.mountpoint().join("sub"), place("/sub")), (shop.path("data/sub"), shop.path("data/sub"))] {
        fs::remove_dir_all(&folder).unwrap();
        symlink(&outside, &folder).unwrap();
        for path in [&named, &named.join("kept")] {
            let refused = shop.in_place(path).run().exits(1);
            let _ = refused.says(&format!("{} is a symbolic link now", folder.display()));
        }
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "of others");
        // A folder is not made up, but restored.
        fs::remove_file(&folder).unwrap();
        let _ = shop
            .in_place(&named.join("kept"))
            .run()
            .exits(1)
            .says(&format!("the folder {} is gone", folder.display()))
            .says("--path /docker/");
        let _ = shop.in_place(&named).run().success();
        assert_eq!(fs::read_to_string(folder.join("kept")).unwrap(), "as saved");
    }
    // The item itself may be behind a link.
    fs::rename(shop.path("data"), outside.join("data")).unwrap();
    symlink(outside.join("data"), shop.path("data")).unwrap();
    shop.write("changed since");
    let _ = shop.in_place(&shop.path("data/sub/kept")).run().success();
    assert_eq!((shop.read("data/kept").as_str(), shop.read("data/sub/kept").as_str()), ("changed since", "as saved"));
    // Beside the original there is no place for it.
    shop.write("changed since");
    for named in [["--as-new", "--no-start"], ["--rename", "app:other"]] {
        let _ = shop.restore(&shop.path("data/kept")).args(named).run().exits(1).says("has no other name to be restored under");
    }
    assert_eq!(shop.read("data/kept"), "changed since");
}

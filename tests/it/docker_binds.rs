//! Bind mounts: files of the host that containers mount are saved with them and come back to their place.

mod hung;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::forget;
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::manifest::Manifest;
use crate::support::mounted::{Disk, Hung};
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::proxy::over_tcp;
use crate::support::tree;

/// Starts a container that mounts these paths (`source:target`).
fn start(stage: &Stage<'_>, name: &str, labels: &[String], mounts: &[String]) {
    let name = stage.name(name);
    let mut arguments: Vec<String> = ["run", "-d", "--name", &name].map(str::to_owned).to_vec();
    arguments.extend(labels.iter().flat_map(|label| ["--label".to_owned(), label.clone()]));
    arguments.extend(mounts.iter().flat_map(|mount| ["-v".to_owned(), mount.clone()]));
    arguments.extend([BUSYBOX, "sh", "-c", "trap exit TERM; while :; do sleep 1; done"].map(str::to_owned));
    stage.ok(arguments);
}

fn mount(path: &Path, target: &str) -> String {
    format!("{}:{target}", path.display())
}

/// The document of an application in its newest snapshot.
fn document(stage: &Stage<'_>, application: &str) -> Value {
    let root = format!("/docker/{application}/application.json");
    serde_json::from_str(&stage.bbackup(["dump", "latest", &root]).run().success().text()).unwrap()
}

/// Paths of the items of one kind.
fn items(document: &Value, kind: &str) -> Vec<String> {
    let items = document["items"].as_array().unwrap().iter().filter(|item| item["kind"] == kind);
    items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

fn started_at(stage: &Stage<'_>, name: &str) -> String {
    stage.ok(["inspect", "--format", "{{.State.StartedAt}}", &stage.name(name)])
}

/// Folders and files as a container might mount them.
struct Files {
    data: PathBuf,
    single: PathBuf,
    folder: PathBuf,
}

fn files(home: &Home) -> Files {
    let folder = home.make_folder("srv");
    let data = home.make_folder("srv/data");
    tree::nasty(&data);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o2750)).unwrap();
    let single = folder.join("app.conf");
    fs::write(&single, "listen 80\n").unwrap();
    Files { data, single, folder }
}

#[test]
fn bind_mounts_are_saved_with_their_application_and_come_back() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "binds");
    let Files { data, single, folder } = files(&home);
    let socket = folder.join("control");
    let listener = UnixListener::bind(&socket).unwrap();
    let inner = data.join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("file"), "in the inner one").unwrap();
    let project = stage.name("shop");
    let labels = [format!("com.docker.compose.project={project}"), format!("com.docker.compose.project.working_dir={}", folder.display())];
    let mounts = [
        mount(&data, "/data"),
        mount(&single, "/etc/app.conf:ro"),
        mount(&socket, "/control"),
        "/usr:/usr-of-host:ro".to_owned(),
        "/dev/null:/nothing".to_owned(),
    ];
    start(&stage, "web", &labels, &mounts);
    // By name it comes first; the project whose folder it is keeps the files all the same.
    start(&stage, "alpha", &[], &[mount(&inner, "/inner"), mount(&data, "/data")]);
    let before = (started_at(&stage, "web"), started_at(&stage, "alpha"));
    let dry = stage.bbackup(["backup", "--dry-run", "--json", "--projects", &project]).run().success();
    assert!(dry.text().contains("bind mount"), "{}", dry.describe());
    let outcome = stage.bbackup(["backup", "--json", "--projects", &project]).run().success();
    assert!(outcome.text().contains("/usr is not saved with it: it is the machine's own"), "{}", outcome.describe());
    for name in ["web", "alpha"] {
        stage.wait_for_state(&stage.name(name), "running");
    }
    let after = (started_at(&stage, "web"), started_at(&stage, "alpha"));
    assert!(before.0 != after.0 && before.1 != after.1, "who writes to a bind mount was not stopped while it was read");
    let found = document(&stage, &project);
    let expected = [&data, &single].map(|path| path.display().to_string());
    assert_eq!(items(&found, "bind").into_iter().collect::<BTreeSet<_>>(), expected.iter().cloned().collect());
    let listed = stage.bbackup(["ls", "latest"]).run().success().text();
    assert!(listed.contains(&format!("/docker/{project}/binds{}/inner/file", data.display())), "{listed}");
    assert!(!listed.contains("control") && !listed.contains("/binds/usr") && !listed.contains("/binds/dev"), "{listed}");

    // The other one saves what is its alone, and refers to what it shares.
    let alpha = stage.name("alpha");
    let _ = stage.bbackup(["backup", "--containers", &alpha]).run().success();
    let other = document(&stage, &alpha);
    assert_eq!(other["application"]["shared_binds"][0]["path"], data.display().to_string(), "{other}");
    assert_eq!(other["application"]["shared_binds"][0]["stored_with"], project);
    assert_eq!(items(&other, "bind"), [inner.display().to_string()]);

    let picture = Manifest::of(&data);
    stage.remove_everything();
    // What is there is never overwritten unasked.
    fs::write(&single, "listen 81\n").unwrap();
    let _ = stage.bbackup(["restore", "latest", "--all"]).run().exits(1).says("app.conf").says("--in-place");
    assert!(!stage.exists("container", &stage.name("web")));
    assert_eq!(fs::read_to_string(&single).unwrap(), "listen 81\n");
    fs::remove_dir_all(&folder).unwrap();
    drop(listener);
    // The socket's program is not here any more; its path must be there, or the Engine makes a folder of it.
    fs::create_dir(&folder).unwrap();
    let _again = UnixListener::bind(&socket).unwrap();
    // The bind mount that both share was saved once more, with the other one: whoever wants everything is told.
    let _ = stage.bbackup(["restore", "latest", "--all", "--json"]).run().exits(4).says("only of 1 bind mount");
    picture.assert_equals(&Manifest::of(&data));
    assert_eq!(fs::read_to_string(&single).unwrap(), "listen 80\n");
    stage.wait_for_state(&stage.name("web"), "running");

    // Over what is there, and what the snapshot does not know stays.
    stage.ok(["rm", "-f", &stage.name("web"), &alpha]);
    fs::write(&single, "listen 82\n").unwrap();
    fs::write(data.join("new"), "since then").unwrap();
    let _ = stage.bbackup(["restore", "latest", "--all", "--in-place"]).run().exits(4).says("overwritten");
    assert_eq!(fs::read_to_string(&single).unwrap(), "listen 80\n");
    assert_eq!(fs::read_to_string(data.join("new")).unwrap(), "since then");

    // As plain files.
    let out = home.path("out");
    let _ = stage
        .bbackup(["restore", "latest", "--path", &format!("/docker/{project}/binds{}", data.display()), "--to"])
        .arg(&out)
        .run()
        .success();
}

#[test]
fn what_the_engine_has_is_not_read_as_paths_either() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "root");
    let root = stage.ok(["info", "--format", "{{.DockerRootDir}}"]);
    let _ = stage.bbackup(["backup", "--paths", &root]).run().exits(1).says(&root);
}

#[test]
fn what_is_our_own_or_left_out_is_never_swept_up() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "ours");
    fs::write(home.path("home/file"), "mine").unwrap();
    fs::write(home.path("home/file.tmp"), "nobody's").unwrap();
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    let of_engine = stage.mountpoint(&volume);
    fs::write(of_engine.join("x"), "the Engine's").unwrap();
    // The whole home has the repository and the state in it.
    start(&stage, "app", &[], &[mount(&home.path(""), "/home"), mount(&of_engine, "/engine")]);
    let name = stage.name("app");
    let outcome = stage.bbackup(["backup", "--json", "--containers", &name, "--exclude", "*.tmp"]).run().success();
    assert!(outcome.text().contains("belongs to bbackup itself or to the Docker Engine"), "{}", outcome.describe());
    let listed = stage.bbackup(["ls", "latest"]).run().success().text();
    assert!(listed.contains("/home/file") && !listed.contains("file.tmp"), "{listed}");
    for never in ["repository/config", "/state/bbackup", "volumes/"] {
        assert!(!listed.contains(never), "{never} was swept up:\n{listed}");
    }
    // A pattern that names the whole of it leaves it out, and switched off none is followed.
    let whole = home.path("").display().to_string();
    let outcome = stage.bbackup(["backup", "--json", "--containers", &name, "--exclude", whole.trim_end_matches('/')]).run().success();
    assert!(outcome.text().contains("rules it out"), "{}", outcome.describe());
    let config = home.path("bbackup.yaml");
    let (repository, password) = (home.repository().display().to_string(), home.password_file().display().to_string());
    let repository = format!("repositories: {{default: {{location: {repository}, password_file: {password}}}}}\n");
    fs::write(&config, format!("{repository}sets: {{s: {{containers: [\"{name}\"], scope: {{binds: false}}}}}}\n")).unwrap();
    let outcome = stage.bbackup(["backup", "s", "--json", "--config"]).arg(&config).run().success();
    assert!(outcome.text().contains("is not saved with it"), "{}", outcome.describe());
    assert!(items(&document(&stage, &name), "bind").is_empty());
}

#[test]
fn a_bind_mount_that_is_gone_or_became_empty_is_a_failure() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "gone");
    let data = home.make_folder("data");
    fs::write(data.join("file"), "here").unwrap();
    start(&stage, "app", &[], &[mount(&data, "/data")]);
    let name = stage.name("app");
    let _ = stage.bbackup(["backup", "--containers", &name]).run().success();
    fs::remove_file(data.join("file")).unwrap();
    let _ = stage.bbackup(["backup", "--containers", &name]).run().exits(4).says("it is empty, and in snapshot");
    let _ = stage.bbackup(["backup", "--full", "--containers", &name]).run().success();
    stage.ok(["stop", "-t", "1", &name]);
    fs::remove_dir(&data).unwrap();
    let _ = stage.bbackup(["backup", "--containers", &name]).run().exits(4).says("does not exist");
    assert!(!data.exists(), "looking for it made it");
    assert_no_helper(&stage, &data);
}

#[test]
fn a_bind_mount_that_is_gone_is_a_failure_also_if_nothing_that_mounts_it_was_started() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "unstarted");
    let (data, single, new) = (home.make_folder("data"), home.path("single"), home.path("new"));
    fs::write(data.join("file"), "here").unwrap();
    fs::write(&single, "here").unwrap();
    let create = |name: &str, path: &Path| stage.ok(["create", "--name", &stage.name(name), "-v", &mount(path, "/data"), BUSYBOX, "true"]);
    let (app, other, fresh) = (stage.name("app"), stage.name("other"), stage.name("fresh"));
    for (name, path) in [("app", &data), ("other", &single)] {
        create(name, path);
        let _ = stage.bbackup(["backup", "--containers", &stage.name(name)]).run().success();
    }
    create("fresh", &new);
    for path in [&data, &single] {
        let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path));
        assert!(!path.exists());
    }
    for name in [&app, &other] {
        let outcome = stage.bbackup(["backup", "--containers", name]).run().exits(4);
        let _ = outcome.says("does not exist, and in snapshot").says("gone or not mounted");
        // Nothing has taken its place: it is refused again.
        let _ = stage.bbackup(["backup", "--containers", name]).run().exits(4).says("does not exist, and in snapshot");
    }
    let listed = stage.bbackup(["ls", "latest"]).run().exits(4).says("is partial").text();
    assert!(listed.contains("/binds/"), "latest has lost the data:\n{listed}");
    // What never was there is nobody's loss.
    let _ = stage.bbackup(["backup", "--json", "--containers", &fresh]).run().success().says("nothing that mounts it was ever started");
    // As the sentence says: once for all, until something is there again.
    for name in [&app, &other] {
        let _ = stage.bbackup(["backup", "--full", "--containers", name]).run().success();
        for _ in 0..2 {
            let _ =
                stage.bbackup(["backup", "--json", "--containers", name]).run().success().says("nothing that mounts it was ever started");
        }
    }
    // The Engine makes such a folder where something is started.
    fs::create_dir(&data).unwrap();
    let _ = stage.bbackup(["backup", "--containers", &app]).run().success();
    fs::write(&single, "here again").unwrap();
    let _ = stage.bbackup(["backup", "--containers", &other]).run().success();
    fs::remove_dir(&data).unwrap();
    fs::remove_file(&single).unwrap();
    let _ = stage.bbackup(["backup", "--containers", &app]).run().success();
    let _ = stage.bbackup(["backup", "--containers", &other]).run().exits(4).says("does not exist, and in snapshot");
}

#[test]
fn an_inner_bind_mount_that_is_not_reached_leaves_the_outer_one_partial() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "inner");
    let (data, elsewhere) = (home.make_folder("data"), home.make_folder("elsewhere/sub"));
    fs::write(data.join("file"), "here").unwrap();
    fs::write(elsewhere.join("file"), "there").unwrap();
    std::os::unix::fs::symlink("../elsewhere", data.join("link")).unwrap();
    let inner = data.join("link/sub");
    start(&stage, "app", &[], &[mount(&data, "/data"), mount(&inner, "/inner")]);
    let name = stage.name("app");
    let outcome = stage.bbackup(["backup", "--json", "--containers", &name]).run().exits(4);
    let reason = format!("bind mount {} is not saved with {}", inner.display(), data.display());
    let ended = outcome.json_lines().pop().unwrap()["data"]["runs"][0]["applications"][0].clone();
    let item = ended["items"].as_array().unwrap().iter().find(|item| item.to_string().contains("bind mount")).unwrap().to_string();
    assert!(item.contains("partial") && item.contains(&reason), "{item}");
    // What a pattern rules out is left out on purpose.
    let outcome = stage.bbackup(["backup", "--json", "--containers", &name, "--exclude", "link"]).run().success();
    let _ = outcome.says(&reason);
}

/// No helper of a path is left.
#[track_caller]
fn assert_no_helper(stage: &Stage<'_>, path: &Path) {
    let mounted = format!("volume={}", path.display());
    let helpers = stage.ok(["ps", "-aq", "--filter", "label=bbackup.helper", "--filter", &mounted]);
    assert!(helpers.is_empty(), "a helper was left behind: {helpers}");
}

#[test]
fn nothing_is_written_below_a_mount_point_whose_disk_is_missing() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "disk");
    let point = home.make_folder("disk").canonicalize().unwrap();
    let disk = Disk::in_memory(&point);
    let (app, data) = (point.join("app"), point.join("data"));
    for (folder, content) in [(&app, "of the app"), (&data, "of the volume")] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), content).unwrap();
    }
    let volume = stage.name("vol");
    stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &format!("device={}", data.display()), &volume]);
    start(&stage, "app", &[], &[mount(&app, "/app"), format!("{volume}:/data")]);
    let name = stage.name("app");
    let _ = stage.bbackup(["backup", "--containers", &name]).run();
    let document = document(&stage, &name);
    let lay = document["items"].as_array().unwrap().iter().filter(|item| item["mounted_at"] == point.to_str().unwrap());
    assert_eq!(lay.count(), 2, "{}", document["items"]);
    stage.remove_everything();
    drop(disk);
    let refused = stage.bbackup(["restore", "latest", "--all"]).run().exits(1);
    let _ = refused.says(&format!("nothing is mounted at {}", point.display())).says(&format!("volume {volume} lay"));
    assert_eq!(fs::read_dir(&point).unwrap().count(), 0, "something was written to the wrong disk");
    assert!(!stage.exists("container", &name));
    let _disk = Disk::in_memory(&point);
    fs::create_dir(&data).unwrap();
    let outcome = stage.bbackup(["restore", "latest", "--all"]).run();
    assert_eq!(fs::read_to_string(app.join("file")).unwrap(), "of the app", "{}", outcome.describe());
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "of the volume", "{}", outcome.describe());
    stage.wait_for_state(&name, "running");
    stage.remove_everything();
}

#[test]
fn a_remote_engine_gives_and_takes_bind_mounts_through_helpers() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "far");
    let Files { data, single, folder } = files(&home);
    let volume = stage.name("vol");
    stage.ok(["volume", "create", &volume]);
    tree::nasty(&stage.mountpoint(&volume));
    start(&stage, "app", &[], &[mount(&data, "/data"), mount(&single, "/app.conf"), format!("{volume}:/vol")]);
    let name = stage.name("app");
    let host = over_tcp(&stage.engine().host());
    let outcome = stage.bbackup(["backup", "--json", "--containers", &name]).env("DOCKER_HOST", &host).run().success();
    let found = document(&stage, &name);
    for item in found["items"].as_array().unwrap().iter().filter(|item| item["kind"] == "bind" || item["kind"] == "volume") {
        assert_eq!(item["helper_reason"], "the Docker Engine is not on this machine", "{item}\n{}", outcome.describe());
    }
    assert_eq!(items(&found, "bind").len(), 2);
    let lost = |manifest: Manifest| crate::docker_roundtrip::as_streamed(manifest);
    let (before, volume_before) = (Manifest::of(&data), Manifest::of(&stage.mountpoint(&volume)));
    stage.remove_everything();
    fs::remove_dir_all(&folder).unwrap();
    // What is there cannot be seen, so it has to be allowed.
    let refused = stage.bbackup(["restore", "latest", "--all"]).env("DOCKER_HOST", &host).run().exits(1);
    let _ = refused.says("not seen from here").says("--in-place");
    let unsaved = stage.bbackup(["restore", "latest", "--all", "--in-place"]).env("DOCKER_HOST", &host).run().exits(1);
    let _ = unsaved.says("cannot be saved first").says("--no-save-first");
    let anyhow = ["restore", "latest", "--all", "--in-place", "--no-save-first"];
    let _ = stage.bbackup(anyhow).env("DOCKER_HOST", &host).run().exits(4);
    lost(before).assert_equals(&lost(Manifest::of(&data)));
    lost(volume_before).assert_equals(&lost(Manifest::of(&stage.mountpoint(&volume))));
    assert_eq!(fs::read_to_string(&single).unwrap(), "listen 80\n");
    stage.wait_for_state(&name, "running");
    for path in [&data, &folder, &stage.mountpoint(&volume)] {
        assert_no_helper(&stage, path);
    }
}

/// Makes a volume that stands for a folder.
fn bound_volume(stage: &Stage<'_>, name: &str, folder: &Path) -> String {
    let (name, device) = (stage.name(name), format!("device={}", folder.display()));
    stage.ok(["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, &name]);
    name
}

#[test]
fn what_is_our_own_is_not_in_what_comes_through_a_helper_either() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "oursfar");
    fs::write(home.path("home/file"), "mine").unwrap();
    // A volume that stands for a folder is always read through a helper; the link leads to the same one.
    let link = home.make_folder("other").join("link");
    std::os::unix::fs::symlink(home.path(""), &link).unwrap();
    for (name, device) in [("whole", home.path("")), ("linked", link)] {
        let volume = bound_volume(&stage, name, &device);
        start(&stage, name, &[], &[format!("{volume}:/home")]);
        let _ = stage.bbackup(["backup", "--containers", &stage.name(name)]).run().success();
        let listed = stage.bbackup(["ls", "latest"]).run().success().text();
        assert!(listed.contains(&format!("volumes/{volume}/home/file")), "{listed}");
        for never in ["repository/config", "/state/bbackup"] {
            assert!(!listed.contains(never), "{never} was swept up:\n{listed}");
        }
    }
    // All of a volume is ours.
    let volume = bound_volume(&stage, "repository", &home.repository());
    let _ = stage.bbackup(["backup", "--json", "--volumes", &volume]).run().says("belongs to bbackup itself");

    // What lies in the Engine's data is not taken from a remote one as a path.
    let data = stage.name("data");
    stage.ok(["volume", "create", &data]);
    let of_engine = stage.mountpoint(&data);
    fs::write(of_engine.join("x"), "the Engine's").unwrap();
    start(&stage, "far", &[], &[mount(&of_engine, "/engine")]);
    let far = stage.bbackup(["backup", "--json", "--containers", &stage.name("far")]);
    let _ =
        far.env("DOCKER_HOST", over_tcp(&stage.engine().host())).run().success().says("belongs to bbackup itself or to the Docker Engine");
    // But as a volume it is, also under a second name.
    let second = bound_volume(&stage, "second", &of_engine);
    let _ = stage.bbackup(["backup", "--volumes", &second]).run().success();
    assert!(stage.bbackup(["ls", "latest"]).run().success().text().contains(&format!("volumes/{second}/x")));
}

#[test]
fn a_stream_of_a_folder_around_the_engines_data_is_without_it() {
    use bbackup::docker::Engine;
    use bbackup::docker::connect::EngineOptions;
    use bbackup::docker::helper::Owner;
    use bbackup::model::entry::Step;
    use bbackup::sources::bind::{BindOptions, OpenBind, open};
    use bbackup::sources::compare::SecondLook;
    use bbackup::sources::volume::ReadMode;
    use bbackup::sources::{EnginePaths, NeverRead};
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "around");
    let lib = home.make_folder("lib");
    for folder in ["lib/app", "lib/docker/volumes"] {
        home.make_folder(folder);
    }
    for file in ["app/file", "docker/volumes/secret", "docker.conf"] {
        tree::write(&lib.join(file), b"x");
    }
    let there = EnginePaths { data_root: Some(lib.join("docker")), ..EnginePaths::default() };
    let never_read = std::sync::Arc::new(NeverRead::default().with_engine_paths(there));
    let read = |path: &Path| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let options = EngineOptions { host: Some(stage.engine().host()), ..EngineOptions::default() };
            let engine = Engine::connect(&options).await.unwrap();
            let options = BindOptions {
                mode: ReadMode::Helper,
                filter: None,
                one_file_system: false,
                never_read: never_read.clone(),
                inner: Vec::new(),
                owner: Owner::of_run("test"),
                second_look: SecondLook::None,
            };
            let OpenBind::Ready(mut opened, _) = open(&engine, path.to_str().unwrap(), options).await.unwrap() else { return None };
            let mut names = Vec::new();
            tokio::task::block_in_place(|| {
                while let Step::Entry(entry) = opened.source.next_step().unwrap() {
                    names.push(String::from_utf8(entry.path).unwrap());
                }
            });
            opened.receipt.close().await.unwrap();
            Some(names)
        })
    };
    let names = read(&lib).unwrap();
    assert!(names.iter().any(|name| name == "app/file") && names.iter().any(|name| name == "docker.conf"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("docker/") || name == "docker"), "{names:?}");
    assert!(read(&lib.join("docker")).is_none() && read(&lib.join("docker/volumes")).is_none());
}

#[test]
fn compose_files_of_a_remote_engine_come_through_helpers() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "farcompose");
    let folder = home.make_folder("shop");
    fs::write(folder.join("compose.yaml"), "services: {web: {env_file: web.env}, db: {env_file: gone.env}}\n").unwrap();
    fs::write(folder.join("web.env"), "A=1\n").unwrap();
    fs::create_dir(folder.join("folder.yaml")).unwrap();
    let project = stage.name("shop");
    let labels = |files: &str| {
        let files: Vec<String> = files.split(',').map(|file| folder.join(file).display().to_string()).collect();
        [("project", project.clone()), ("project.working_dir", folder.display().to_string()), ("project.config_files", files.join(","))]
            .map(|(label, value)| format!("com.docker.compose.{label}={value}"))
    };
    start(&stage, "web", &labels("compose.yaml"), &[]);
    let host = over_tcp(&stage.engine().host());
    let far =
        |words: &[&str]| stage.bbackup(["backup", "--json"]).args(words).args(["--projects", &project]).env("DOCKER_HOST", &host).run();
    let dry = far(&["--dry-run"]).success();
    assert!(dry.text().contains("compose.yaml would be read through a helper"), "{}", dry.describe());
    // Only what is missing is worth a warning.
    let outcome = far(&[]).exits(4).says("gone.env").says("does not exist").says_nothing_of("compose.yaml is not saved");
    let saved = |name: &str| stage.bbackup(["dump", "latest", &format!("/docker/{project}/compose/{name}")]).run().success().text();
    assert!(saved("compose.yaml").starts_with("services:"), "{}", outcome.describe());
    assert_eq!(saved("web.env"), "A=1\n");
    assert_no_helper(&stage, &folder.join("compose.yaml"));
    fs::write(folder.join("gone.env"), "B=2\n").unwrap();
    let _ = far(&[]).success();
    // Labels may name anything; what is no file is named and not taken.
    stage.ok(["rm", "-f", &stage.name("web")]);
    start(&stage, "web", &labels("compose.yaml,folder.yaml,lost.yaml"), &[]);
    let outcome =
        far(&[]).exits(4).says("folder.yaml is not saved: it is not a regular file").says("lost.yaml is not saved: it does not exist");
    assert!(saved("compose.yaml").starts_with("services:"), "{}", outcome.describe());
}

#[test]
fn who_reaches_a_volume_by_another_name_is_kept_still_too() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "names");
    let folder = home.make_folder("device");
    fs::write(folder.join("file"), "x").unwrap();
    fs::create_dir(folder.join("inner")).unwrap();
    let (volume, twin) = (bound_volume(&stage, "data", &folder), bound_volume(&stage, "twin", &folder));
    let plain = stage.name("plain");
    stage.ok(["volume", "create", &plain]);
    fs::write(stage.mountpoint(&plain).join("file"), "x").unwrap();
    start(&stage, "app", &[], &[format!("{volume}:/data"), format!("{plain}:/plain")]);
    // The way to it over a link, and the mountpoint's, is another text for the same folder.
    let (link, over_link) = (home.path("link"), home.path("of-engine"));
    std::os::unix::fs::symlink("device", &link).unwrap();
    std::os::unix::fs::symlink(stage.mountpoint(&plain), &over_link).unwrap();
    let others: [(&str, String, bool); 7] = [
        ("by-path", mount(&folder.join("inner"), "/x"), true),
        ("by-link", mount(&link.join("inner"), "/x"), true),
        ("by-link-to-mountpoint", mount(&over_link, "/x"), true),
        ("by-twin", format!("{twin}:/x"), true),
        ("by-mountpoint", mount(&stage.mountpoint(&plain), "/x"), true),
        ("reader", format!("{}:ro", mount(&folder, "/x")), false),
        ("stranger", mount(&home.make_folder("device-of-another"), "/x"), false),
    ];
    for (name, mount, _) in &others {
        start(&stage, name, &[], std::slice::from_ref(mount));
    }
    let before: Vec<String> = others.iter().map(|(name, ..)| started_at(&stage, name)).collect();
    let _ = stage.bbackup(["backup", "--json", "--containers", &stage.name("app")]).run().success();
    let found = document(&stage, &stage.name("app"));
    assert_eq!(items(&found, "volume"), [volume.clone(), plain], "{found}");
    assert!(items(&found, "bind").is_empty(), "{found}");
    for ((name, _, stopped), before) in others.iter().zip(before) {
        assert_eq!(started_at(&stage, name) != before, *stopped, "{name}: {}", found["quiesced"]);
    }
    // The other way round: who mounts the path is saved, who has the volume is kept still.
    let before = started_at(&stage, "app");
    let _ = stage.bbackup(["backup", "--json", "--containers", &stage.name("by-path")]).run().success();
    assert!(started_at(&stage, "app") != before, "a volume of the same files was written to");
    assert!(items(&document(&stage, &stage.name("by-path")), "volume").is_empty());

    // What is started meanwhile is seen by whatever name it reaches the files.
    fs::write(folder.join("inner/noise"), tree::noise(5, 60_000_000)).unwrap();
    stage.ok(["stop", "-t", "1", &stage.name("by-twin")]);
    let mut running = stage.bbackup(["backup", "--json", "--containers", &stage.name("by-path")]).spawn();
    running.hold_while_it_has_open(&folder.join("inner"));
    stage.ok(["start", &stage.name("by-twin")]);
    let by_new_link = home.path("new-link");
    std::os::unix::fs::symlink("device", &by_new_link).unwrap();
    start(&stage, "new-by-link", &[], &[mount(&by_new_link.join("inner"), "/x")]);
    running.signal(rustix::process::Signal::CONT);
    let outcome = running.wait().exits(4).says(&format!("container {} ran while it was read", stage.name("by-twin")));
    let _ = outcome.says(&format!("container {} ran while it was read", stage.name("new-by-link")));
}

#[test]
fn a_mount_that_hangs_does_not_hide_who_reaches_the_files_over_a_link() {
    needs!(Part::Root, Part::Engine, Part::Program("fusermount3"));
    let home = Home::with_repository();
    let stage = Stage::alone(&home, "hung");
    let (data, point) = (home.make_folder("data"), home.make_folder("a-point"));
    fs::write(data.join("file"), "x").unwrap();
    let link = home.path("link");
    std::os::unix::fs::symlink("data", &link).unwrap();
    start(&stage, "app", &[], &[mount(&data, "/data")]);
    start(&stage, "by-link", &[], &[mount(&link, "/data")]);
    let _hung = Hung::new(&point, Duration::from_secs(25));
    let far: Vec<PathBuf> = (0..20).map(|number| point.join(format!("far{number:02}"))).collect();
    let mounts = far.iter().flat_map(|path| ["-v".to_owned(), mount(path, &format!("/{}", path.file_name().unwrap().display()))]);
    let create = ["create".to_owned(), "--name".to_owned(), stage.name("far")].into_iter().chain(mounts);
    stage.ok(create.chain([BUSYBOX.to_owned(), "true".to_owned()]));
    let before = started_at(&stage, "by-link");
    let outcome = stage.bbackup(["backup", "--json", "--containers", &stage.name("app")]).run().exits(4);
    let result = outcome.json_lines().pop().unwrap()["data"]["runs"][0].clone();
    assert!(started_at(&stage, "by-link") != before, "who writes over a link was not stopped: {result}");
    let down = result["applications"][0]["downtime_seconds"].as_f64().unwrap();
    assert!(down < 15.0, "containers were down while nobody answered: {down} s");
    let warnings = result["warnings"].as_array().unwrap();
    let told = format!("whether links lead from {}, ", far[0].display());
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains(&told), "{result}");
    assert!(warnings[0].as_str().unwrap().contains("and 10 more"), "{result}");
}

#[test]
fn what_a_restore_has_overwritten_of_a_bind_mount_ends_with_its_application() {
    needs!(Part::Engine, Part::Restic);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "outlived");
    let [data, device, other] = ["data", "device", "other"].map(|name| home.make_folder(name));
    for folder in [&data, &device, &other] {
        fs::write(folder.join("file"), "x").unwrap();
    }
    let volume = bound_volume(&stage, "stands", &device);
    let compose = home.path("compose.yaml");
    fs::write(&compose, "services: {}\n").unwrap();
    let labels = [("project", stage.name("app")), ("project.config_files", compose.display().to_string())];
    let labels = labels.map(|(label, value)| format!("com.docker.compose.{label}={value}"));
    start(&stage, "app", &labels, &[mount(&data, "/data"), format!("{volume}:/device")]);
    let _ = stage.bbackup(["backup", "--projects", &stage.name("app")]).run().success();
    let newest = Restic::new(&home).snapshots().pop().unwrap();
    let host = newest["hostname"].as_str().unwrap();
    let open = forget::open(&home);
    // Long ago, by the clock.
    let put = |paths: &[&Path], time: &str| {
        let paths: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        forget::put(&open, time, host, &paths, &["before-restore"])
    };
    let (long_ago, just_now) = ("2020-01-01T00:00:00Z", newest["time"].as_str().unwrap());
    let goes = [put(&[&data], long_ago), put(&[&data.join("file"), &device, &compose], long_ago)];
    let stays = [put(&[&other], long_ago), put(&[&data, &other], long_ago), put(&[&data], just_now)];
    let outcome = stage.bbackup(["forget", "--keep-last", "1", "--json"]).run().success();
    let left: Vec<String> = Restic::new(&home).snapshots().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert!(goes.iter().all(|id| !left.contains(id)), "{}", outcome.describe());
    assert!(stays.iter().all(|id| left.contains(id)) && left.len() == 4, "{}", outcome.describe());
}

#[test]
fn a_bind_mount_that_hangs_fails_alone_and_soon() {
    needs!(Part::Root, Part::Engine, Part::Program("fusermount3"));
    let home = Home::with_repository();
    let stage = Stage::alone(&home, "hungown");
    let (data, point) = (home.make_folder("data"), home.make_folder("point"));
    fs::write(data.join("file"), "x").unwrap();
    start(&stage, "app", &[], &[mount(&data, "/data")]);
    let _hung = Hung::new(&point, Duration::from_secs(70));
    let far = point.join("far");
    let name = stage.name("a-far");
    stage.ok(["create", "--name", &name, "-v", &mount(&far, "/far"), "-v", &mount(&data, "/data"), BUSYBOX, "true"]);
    let outcome = stage.bbackup(["backup", "--json", "--containers", &name]).run().exits(4);
    // The process itself stays until it has its answers, whatever it does.
    let took = outcome.messages("summary").pop().unwrap()["total_duration"].as_f64().unwrap();
    assert!(took < 35.0, "it waited for {took} s: {}", outcome.describe());
    let result = outcome.json_lines().pop().unwrap()["data"]["runs"][0]["applications"][0].clone();
    assert!(result.to_string().contains("its file system does not answer"), "{result}");
    assert!(result["downtime_seconds"].as_f64().unwrap() < 15.0, "who writes to the rest was down meanwhile: {result}");
    let _ = stage.bbackup(["ls", result["snapshot"].as_str().unwrap()]).run().success().says(&format!("/binds{}/file", data.display()));
}

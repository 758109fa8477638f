//! Streams of a real Engine that files slip through, because somebody moves them while they are read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bbackup::docker::Engine;
use bbackup::docker::connect::EngineOptions;
use bbackup::docker::helper::Owner;
use bbackup::model::entry::{Content, Source, Step};
use bbackup::platform::control::Control;
use bbackup::sources::NeverRead;
use bbackup::sources::compare::SecondLook;
use bbackup::sources::volume::{OpenVolume, ReadMode, ReadOptions, open};

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::oracle::Restic;
use crate::support::parts::{Part, needs};
use crate::support::proxy::{Action, Proxy};

use crate::support::tree;

/// More than all buffers between the Engine's folder and the reader hold.
const IN_BETWEEN: usize = 64 << 20;

/// Reads a volume through a helper, calls `meanwhile` when the file in its middle has been begun and `after` when all has
/// been read, and gives what the second look says.
fn look(stage: &Stage<'_>, volume: &str, second_look: SecondLook, meanwhile: impl FnOnce(), after: impl FnOnce()) -> Vec<String> {
    read_with(stage, volume, second_look, meanwhile, after).1
}

/// The names in a volume as a helper gives them.
fn look_at_names(stage: &Stage<'_>, volume: &str, meanwhile: impl FnOnce()) -> Vec<String> {
    read_with(stage, volume, SecondLook::None, meanwhile, || {}).0
}

fn read_with(
    stage: &Stage<'_>,
    volume: &str,
    second_look: SecondLook,
    meanwhile: impl FnOnce(),
    after: impl FnOnce(),
) -> (Vec<String>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let options = EngineOptions { host: Some(stage.engine().host()), ..EngineOptions::default() };
        let engine = Engine::connect(&options).await.unwrap();
        let options = ReadOptions {
            mode: ReadMode::Helper,
            filter: None,
            seen_as: b"/docker/a/volumes/v".to_vec(),
            never_read: Arc::new(NeverRead::default()),
            owner: Owner::of_run("test"),
            second_look,
        };
        let OpenVolume { source, mut receipt } = open(&engine, volume, options).await.unwrap();
        let names = tokio::task::block_in_place(|| read(source, meanwhile));
        assert!(receipt.proof().is_some(), "the stream was not whole");
        after();
        let reasons = receipt.compare(&engine, &Control::new()).await.unwrap();
        receipt.close().await.unwrap();
        (names, reasons)
    })
}

fn read(mut source: Box<dyn Source>, meanwhile: impl FnOnce()) -> Vec<String> {
    let mut meanwhile = Some(meanwhile);
    let mut names = Vec::new();
    loop {
        match source.next_step().unwrap() {
            Step::Entry(entry) => {
                names.push(entry.path.escape_ascii().to_string());
                if entry.path == b"middle"
                    && let Some(meanwhile) = meanwhile.take()
                {
                    meanwhile();
                }
                if let Content::Stream(mut stream) = entry.content {
                    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
                }
            }
            Step::Problem(problem) => panic!("{problem:?}"),
            Step::End => return names,
        }
    }
}

/// Files before and behind a large one.
fn fill(folder: &Path) {
    for place in ["a", "z"] {
        fs::create_dir(folder.join(place)).unwrap();
        fs::write(folder.join(place).join("stays"), place).unwrap();
    }
    fs::write(folder.join("z/moves"), "is in neither place when the Engine looks").unwrap();
    fs::write(folder.join("middle"), vec![7; IN_BETWEEN]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
}

/// A volume that stands for a folder of this machine.
fn bound(stage: &Stage<'_>, home: &Home, name: &str) -> (String, PathBuf) {
    let (volume, folder) = (stage.name(name), home.make_folder(name));
    let device = format!("device={}", folder.display());
    stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, &volume]);
    (volume, folder)
}

#[test]
fn a_file_that_slips_through_a_stream_is_found_by_a_listing() {
    needs!(Part::Root, Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "listing");
    let (volume, folder) = bound(&stage, &home, "data");
    fill(&folder);
    let nothing = || {};
    assert_eq!(look(&stage, &volume, SecondLook::Listing, nothing, nothing), Vec::<String>::new());
    let moved = || fs::rename(folder.join("z/moves"), folder.join("a/moves")).unwrap();
    assert_eq!(look(&stage, &volume, SecondLook::None, moved, nothing), Vec::<String>::new());
    fs::rename(folder.join("a/moves"), folder.join("z/moves")).unwrap();
    let reasons = look(&stage, &volume, SecondLook::Listing, moved, nothing);
    assert_eq!(reasons, ["the Engine's stream did not have what is there: a/moves"]);
    // What was made since is of no interest to a copy of before; nor is what no stream has.
    let made = || {
        fs::write(folder.join("a/new"), "new").unwrap();
        drop(std::os::unix::net::UnixListener::bind(folder.join("a/socket")).unwrap());
    };
    assert_eq!(look(&stage, &volume, SecondLook::Listing, nothing, made), Vec::<String>::new());
    // A volume of no folder that is seen from here has no listing, and is not called torn for it.
    let plain = stage.name("plain");
    stage.ok(["volume", "create", &plain]);
    fill(&stage.mountpoint(&plain));
    let root = stage.mountpoint(&plain);
    let moved = || fs::rename(root.join("z/moves"), root.join("a/moves")).unwrap();
    assert_eq!(look(&stage, &plain, SecondLook::Listing, moved, nothing), Vec::<String>::new());
}

#[test]
fn a_second_stream_shows_what_was_changed_while_the_first_was_read() {
    needs!(Part::Root, Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "twice");
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    let folder = stage.mountpoint(&volume);
    tree::nasty(&folder);
    let nothing = || {};
    assert_eq!(look(&stage, &volume, SecondLook::Stream, nothing, nothing), Vec::<String>::new(), "nothing has changed");
    fill(&folder);
    let moved = || fs::rename(folder.join("z/moves"), folder.join("a/moves")).unwrap();
    let reasons = look(&stage, &volume, SecondLook::Stream, moved, nothing);
    assert!(matches!(&reasons[..], [one] if one.contains("a/moves")), "{reasons:?}");
    let removed = || fs::remove_file(folder.join("z/stays")).unwrap();
    let reasons = look(&stage, &volume, SecondLook::Stream, nothing, removed);
    assert!(matches!(&reasons[..], [one] if one.contains("afterwards")), "{reasons:?}");
    let grown = || fs::write(folder.join("a/stays"), "longer").unwrap();
    let reasons = look(&stage, &volume, SecondLook::Stream, nothing, grown);
    assert!(matches!(&reasons[..], [one] if one.contains("a/stays")), "{reasons:?}");
}

#[test]
fn what_somebody_writes_to_is_partial_where_streams_are_checked() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "checked");
    let (volume, folder) = bound(&stage, &home, "data");
    fs::write(folder.join("file"), "data").unwrap();
    let repository = home.path("repository").display().to_string();
    let configuration = |check: bool| {
        let text = format!("docker: {{check_streams: {check}}}\nrepositories: {{default: {{location: '{repository}'}}}}\n");
        let path = home.path(if check { "checks.yaml" } else { "plain.yaml" });
        fs::write(&path, text).unwrap();
        path
    };
    let (checks, plain) = (configuration(true), configuration(false));
    let back_up = |configuration: &Path| stage.bbackup(["backup", "--volumes", &volume, "--config"]).arg(configuration).run();
    let _ = back_up(&checks).success();

    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (done, file) = (Arc::clone(&done), fs::File::options().write(true).open(folder.join("file")).unwrap());
        move || {
            let mut time = SystemTime::UNIX_EPOCH;
            while !done.load(Ordering::Relaxed) {
                time += Duration::from_secs(1);
                file.set_modified(time).unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });
    let (checked, unchecked) = (back_up(&checks), back_up(&plain));
    done.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let _ = checked.exits(4).says("somebody wrote to it while it was read");
    let _ = unchecked.success();
    // Who is known to write meanwhile is no news.
    let mount = format!("{volume}:/data");
    let script = "i=0; while true; do i=$((i+1)); touch -d @$i /data/file; usleep 500; done";
    stage.ok(["run", "-d", "--name", &stage.name("writer"), "--label", "bbackup.stop=false", "-v", &mount, BUSYBOX, "sh", "-c", script]);
    let _ = back_up(&checks).success();
}

#[test]
fn a_stream_that_breaks_off_once_is_read_again() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "again");
    let (volume, folder) = bound(&stage, &home, "data");
    tree::write(&folder.join("noise"), &tree::noise(3, 20_000_000));
    let streams = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&streams);
    let cut = move |line: &str| {
        let is_stream = line.starts_with("GET ") && line.contains("/archive");
        if is_stream && counter.fetch_add(1, Ordering::Relaxed) == 0 { Action::CutAfter(3_000_000) } else { Action::Pass }
    };
    let proxy = Proxy::start(&home.path("proxy.sock"), &stage.engine().host(), cut);
    let outcome = stage.bbackup(["backup", "--volumes", &volume]).env("DOCKER_HOST", proxy.host()).run();
    assert_eq!((proxy.cuts(), streams.load(Ordering::Relaxed)), (1, 2), "{}", outcome.describe());
    let _ = outcome.success().says("is read once more");
    let _ = stage.bbackup(["restore", "latest", "--volume", &volume, "--to"]).arg(home.path("out")).run().success();
    Restic::new(&home).check();
    let filter = format!("volume={volume}");
    let helpers = stage.ok(["ps", "-aq", "--filter", "label=bbackup.helper", "--filter", &filter]);
    assert!(helpers.is_empty(), "a helper was left behind: {helpers}");
}

#[test]
fn what_streams_lose_is_said_once_and_kept() {
    needs!(Part::Root, Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::new(&home, "lost");
    let (first, second) = (bound(&stage, &home, "first"), bound(&stage, &home, "second"));
    for (volume, folder) in [&first, &second] {
        fs::write(folder.join("file"), volume).unwrap();
    }
    let name = stage.name("app");
    let mounts = [format!("{}:/1", first.0), format!("{}:/2", second.0)];
    stage.ok(["create", "--name", &name, "-v", &mounts[0], "-v", &mounts[1], BUSYBOX, "true"]);
    // An Engine describes a container another way once somebody has asked for its log.
    stage.ok(["logs", &name]);
    let outcome = stage.bbackup(["backup", "--containers", &name]).run().success();
    let told = format!("{}{}", outcome.text(), outcome.errors());
    assert_eq!(told.matches("access control lists").count(), 1, "{told}");
    let path = format!("/docker/{name}/application.json");
    let document = stage.bbackup(["dump", "latest", &path]).run().success();
    let document: serde_json::Value = serde_json::from_str(&document.text()).unwrap();
    // The Engine's own words are kept byte for byte, also those that no version of this program knows.
    let path = format!("/docker/{name}/containers/{name}/inspect.json");
    let kept = stage.bbackup(["dump", "latest", &path]).run().success();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = EngineOptions { host: Some(stage.engine().host()), ..EngineOptions::default() };
    let engine = runtime.block_on(Engine::connect(&options)).unwrap();
    let says = || runtime.block_on(engine.wire().get_bytes(&format!("/containers/{name}/json"))).unwrap();
    // It names the two mounts in the one order at one time and in the other at another.
    assert!((0..200).any(|_| says() == kept.stdout), "{}\n{}", kept.text(), String::from_utf8_lossy(&says()));
    let lost = document["stream_lost"].as_array().unwrap();
    for word in ["extended attributes", "fractions of a second", "sockets", "holes", "inode"] {
        assert_eq!(lost.iter().filter(|one| one.as_str().unwrap().contains(word)).count(), 1, "{word}: {lost:?}");
    }
    let proofs = document["items"].as_array().unwrap().iter().filter(|item| item["kind"] == "volume").map(|item| &item["outcome"]);
    let proofs: Vec<_> = proofs.collect();
    assert_eq!(proofs.len(), 2, "{document}");
    for proof in proofs {
        let text = proof.to_string();
        assert!(text.contains("helper") && text.contains("tar_end") && text.contains("\"entries\":2"), "{text}");
    }
}

#[test]
fn a_helper_can_only_read_and_never_runs_and_sees_one_volume() {
    needs!(Part::Root, Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "helper-is");
    let (outer, inner) = (stage.name("outer"), stage.name("inner"));
    for volume in [&outer, &inner] {
        stage.ok(["volume", "create", volume]);
    }
    fs::write(stage.mountpoint(&outer).join("middle"), "outer").unwrap();
    fs::write(stage.mountpoint(&inner).join("secret"), "inner").unwrap();
    // The application has the one mounted in the other.
    let (first, second) = (format!("{outer}:/data"), format!("{inner}:/data/inner"));
    stage.ok(["run", "-d", "--name", &stage.name("app"), "-v", &first, "-v", &second, BUSYBOX, "sleep", "1000"]);
    assert!(stage.ok(["exec", &stage.name("app"), "ls", "/data/inner"]).contains("secret"));
    let filter = format!("volume={outer}");
    let helper = || stage.ok(["ps", "-aq", "--filter", "label=bbackup.helper", "--filter", &filter]);
    let seen = std::cell::RefCell::new(serde_json::Value::Null);
    let while_it_is_read = || *seen.borrow_mut() = stage.inspect("container", helper().trim());
    let names = look_at_names(&stage, &outer, while_it_is_read);
    assert_eq!(names, ["", "inner", "middle"], "what is mounted in the application leaks");
    let seen = seen.into_inner();
    assert_eq!((&seen["State"]["Status"], &seen["State"]["Pid"]), (&"created".into(), &0.into()), "{seen}");
    let mounts = seen["Mounts"].as_array().unwrap();
    assert_eq!((mounts.len(), &mounts[0]["RW"], &mounts[0]["Name"]), (1, &false.into(), &outer.as_str().into()), "{seen}");
    assert_eq!(seen["HostConfig"]["Mounts"][0]["VolumeOptions"]["NoCopy"], true, "{seen}");
    assert_eq!(helper(), "", "the helper was left behind");
}

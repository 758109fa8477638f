//! The reading half of Docker against a real Engine: connecting, discovery, helpers, both ways into a volume, logs.
//!
//! What commands make of it is tested beside the commands.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bbackup::config::{BackupSet, Selection};
use bbackup::docker::archive::{archive_get, archive_put};
use bbackup::docker::connect::EngineOptions;
use bbackup::docker::helper::{Access, Helper, MOUNT, Owner, sweep};
use bbackup::docker::wire::{Timeouts, encode};
use bbackup::docker::{Discovery, DockerError, Engine, discover};
use bbackup::model::application::{ApplicationKind, DependencyCondition, ItemKind, Status};
use bbackup::model::entry::{Content, Entry, Kind, Source, Step};
use bbackup::model::outcome::ReadMethod;
use bbackup::sources::NeverRead;
use bbackup::sources::compare::SecondLook;
use bbackup::sources::plan::{PlanError, plan};
use bbackup::sources::volume::{OpenVolume, ReadMode, ReadOptions, VolumeError, open};
use bbackup::sources::{compose, container, logs, network};

use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::parts::{Part, needs};
use crate::support::tree;

/// A runtime of its own for each test: what a test leaves behind ends with it.
fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}

async fn connect(stage: &Stage<'_>) -> Engine {
    Engine::connect(&EngineOptions { host: Some(stage.engine().host()), ..EngineOptions::default() }).await.unwrap()
}

fn options(mode: ReadMode) -> ReadOptions {
    ReadOptions {
        mode,
        filter: None,
        seen_as: b"/docker/a/volumes/v".to_vec(),
        never_read: Arc::new(NeverRead::default()),
        owner: Owner::of_run("test"),
        second_look: SecondLook::None,
    }
}

/// An entry with its data, and the name that it is a hard link of.
type Found = BTreeMap<Vec<u8>, (bbackup::model::entry::Metadata, Vec<u8>, Option<Vec<u8>>)>;

/// Reads a source to its end on a thread that may block.
async fn read_all(mut source: Box<dyn Source>) -> io::Result<Found> {
    tokio::task::spawn_blocking(move || {
        let mut found = Found::new();
        loop {
            match source.next_step()? {
                Step::Entry(Entry { path, metadata, content }) => {
                    let (data, link) = match content {
                        Content::None => (Vec::new(), None),
                        Content::Bytes(bytes) => (bytes, None),
                        Content::File(path) => (fs::read(path)?, None),
                        Content::HardLink(target) => (Vec::new(), Some(target)),
                        Content::Stream(mut stream) => {
                            let mut data = Vec::new();
                            stream.read_to_end(&mut data)?;
                            (data, None)
                        }
                    };
                    assert!(found.insert(path, (metadata, data, link)).is_none());
                }
                Step::Problem(problem) => panic!("{problem:?}"),
                Step::End => return Ok(found),
            }
        }
    })
    .await
    .unwrap()
}

/// How many helpers of a volume there are.
async fn helpers(engine: &Engine, volume: &str) -> usize {
    let filters = encode(&serde_json::json!({"label": ["bbackup.helper"], "volume": [volume]}).to_string());
    let bytes = engine.wire().get_bytes(&format!("/containers/json?all=1&filters={filters}")).await.unwrap();
    serde_json::from_slice::<Vec<serde_json::Value>>(&bytes).unwrap().len()
}

#[test]
fn every_way_of_not_reaching_an_engine_is_told_apart() {
    let home = Home::new();
    let connect = |host: String| {
        let timeouts = Timeouts {
            connect: Duration::from_secs(2),
            request: Duration::from_secs(2),
            stall: Duration::from_secs(2),
            ..Timeouts::default()
        };
        run(async move { Engine::connect(&EngineOptions { host: Some(host), timeouts, ..EngineOptions::default() }).await.unwrap_err() })
    };
    let unix = |path: &Path| format!("unix://{}", path.display());
    let gone = home.path("gone.sock");
    assert!(matches!(connect(unix(&gone)), DockerError::NoSocket { path } if path == gone));

    let dead = home.path("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(matches!(connect(unix(&dead)), DockerError::Refused { .. }));
    assert!(matches!(connect("tcp://127.0.0.1:1".to_owned()), DockerError::Refused { .. }));

    // Somebody who answers each connection with the same bytes.
    let answering = |name: &str, answer: String| {
        let path = home.path(name);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        unix(&path)
    };
    let json = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for (name, answer) in [
        ("web", "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nsorry".to_owned()),
        ("html", json("<html>")),
        ("ssh", "SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
        ("other", json("{\"hello\": 1}")),
    ] {
        let error = connect(answering(name, answer));
        assert!(matches!(error, DockerError::NotAnEngine { .. }), "{name}: {error:?}");
    }
    let old = connect(answering("old", json("{\"ApiVersion\": \"1.40\", \"Version\": \"19.03\"}")));
    assert!(matches!(&old, DockerError::TooOld { found, .. } if found == "1.40"), "{old:?}");
    let mute = connect({
        let path = home.path("mute");
        std::mem::forget(std::os::unix::net::UnixListener::bind(&path).unwrap());
        unix(&path)
    });
    assert!(matches!(mute, DockerError::Timeout { seconds: 2, .. }), "{mute:?}");
}

#[test]
fn discovery_sees_what_is_there() {
    needs!(Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "discover");
    let [db, web, alone, net, data, idle] = ["db", "web", "alone", "net", "data", "idle"].map(|name| stage.name(name));
    let project = stage.name("shop");
    let label = |key: &str, value: &str| format!("{key}={value}");
    let project_label = label("com.docker.compose.project", &project);
    stage.ok(["network", "create", "--label", &project_label, &net]);
    stage.ok(["volume", "create", "--label", &project_label, &data]);
    stage.ok(["volume", "create", &idle]);
    fs::write(home.path("compose.yaml"), "services: {}\n").unwrap();
    let folder = label("com.docker.compose.project.working_dir", &home.path("").display().to_string());
    let file = label("com.docker.compose.project.config_files", &home.path("compose.yaml").display().to_string());
    let mount = format!("{data}:/data");
    let read_only = format!("{data}:/data:ro");
    let sleep = ["sh", "-c", "echo started; echo trouble >&2; exec sleep 1000"];
    let base = ["run", "-d", "--network", &net, "--label", &project_label, "--label", &folder, "--label", &file];
    let _ = stage
        .docker(base)
        .args(["--name", &db, "--label", "com.docker.compose.service=db", "-v", &mount, BUSYBOX])
        .args(sleep)
        .run()
        .success();
    let depends = "com.docker.compose.depends_on=db:service_healthy:true";
    let of_web = ["--name", &web, "--label", "com.docker.compose.service=web", "--label", depends, "-e", "SECRET=hush", BUSYBOX];
    let _ = stage.docker(base).args(of_web).args(sleep).run().success();
    let of_alone = ["create", "--name", &alone, "-t", "--label", "bbackup.stop=perhaps", "-v", &read_only, BUSYBOX, "true"];
    stage.ok(of_alone);

    run(async {
        let engine = connect(&stage).await;
        assert!(engine.is_local() && !engine.id().is_empty() && engine.api_version() >= (1, 41));
        // A helper that is there must not be seen.
        let helper = Helper::create(&engine, &idle, Access::Read, &Owner::of_run("test")).await.unwrap();
        let discovery = discover(&engine).await.unwrap();
        helper.remove().await.unwrap();
        look(&discovery, &stage, &project);

        let shop = discovery.applications.iter().find(|one| one.name == project).unwrap();
        let document = container::configuration(&discovery, shop, shop.container(&db).unwrap(), None).unwrap();
        let raw: serde_json::Value = serde_json::from_slice(&document.bytes).unwrap();
        assert_eq!(raw, stage.inspect("container", &db), "the Engine's own JSON");
        assert_eq!(document.path, format!("/docker/{project}/containers/{db}/inspect.json"));
        let document = network::configuration(&discovery, shop, &shop.networks[0]).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&document.bytes).unwrap()["Name"], net);
        let lines = logs::lines(&engine, shop, shop.container(&web).unwrap(), 1000).await.unwrap();
        let lines = String::from_utf8(lines.bytes).unwrap();
        assert!(lines.contains("\"stream\":\"stdout\",\"line\":\"started\""), "{lines}");
        assert!(lines.contains("\"stream\":\"stderr\",\"line\":\"trouble\""), "{lines}");
        let compose::Found { files, warnings, .. } = compose::files(&engine, shop, None).await;
        assert_eq!((files.len(), warnings), (1, Vec::<String>::new()));
        assert_eq!(
            (files[0].path.as_str(), files[0].bytes.as_slice()),
            (&*format!("/docker/{project}/compose/compose.yaml"), &b"services: {}\n"[..])
        );
        plans(&discovery, &stage, &project);
    });
}

fn look(discovery: &Discovery, stage: &Stage<'_>, project: &str) {
    let application = |name: &str| discovery.applications.iter().find(|one| one.name == name).unwrap();
    assert!(discovery.containers().all(|container| !container.name.contains("helper")));
    let shop = application(project);
    assert_eq!(shop.kind, ApplicationKind::Project);
    let names: Vec<_> = shop.containers.iter().map(|container| container.name.clone()).collect();
    assert_eq!(names, [stage.name("db"), stage.name("web")]);
    let web = shop.container(&stage.name("web")).unwrap();
    assert_eq!(web.state.status, Status::Running);
    assert_eq!(web.networks, [stage.name("net")]);
    let dependency = &web.depends_on[0];
    assert_eq!(
        (dependency.container.as_str(), dependency.condition, dependency.restart),
        (&*stage.name("db"), DependencyCondition::Healthy, true)
    );
    assert!(web.image.present && web.image.reference == BUSYBOX);
    assert!(!format!("{shop:?}").contains("hush"), "environment variables are in the raw JSON only");
    let data = shop.volume(&stage.name("data")).unwrap();
    let users: Vec<_> = data.users.iter().map(|user| (user.container.clone(), user.application.clone(), user.read_only)).collect();
    assert_eq!(users, [(stage.name("alone"), stage.name("alone"), true), (stage.name("db"), project.to_owned(), false)]);
    assert_eq!(shop.networks.iter().map(|network| network.name.clone()).collect::<Vec<_>>(), [stage.name("net")]);

    let alone = application(&stage.name("alone"));
    assert_eq!((alone.kind, alone.containers[0].state.status), (ApplicationKind::Container, Status::Created));
    assert_eq!((alone.shared_volumes[0].name.as_str(), alone.shared_volumes[0].stored_with.as_str()), (&*stage.name("data"), project));
    let expected = format!("container {}: label bbackup.stop: ", stage.name("alone"));
    let found = discovery.label_warnings(&stage.name("alone"));
    assert!(found.iter().any(|warning| warning.starts_with(&expected)), "{found:?}");
    assert_eq!(application(&stage.name("idle")).kind, ApplicationKind::Volume);
    assert!(discovery.networks().iter().all(|network| network.name != "bridge"));
    assert!(discovery.default_networks.iter().any(|network| network.name == "bridge"));
}

fn plans(discovery: &Discovery, stage: &Stage<'_>, project: &str) {
    let select = |selection: Selection| plan(discovery, &BackupSet { selection, ..BackupSet::default() });
    let items = |selection: Selection| -> Vec<String> {
        let plan = select(selection).unwrap();
        let all = plan.applications.iter().flat_map(|one| one.items.iter().map(|item| format!("{}:{}", one.application.name, item.path)));
        all.filter(|item| item.starts_with(&stage.name(""))).collect()
    };
    let [alone, web, data] = ["alone", "web", "data"].map(|name| stage.name(name));
    let shop = |path: String| format!("{project}:/docker/{project}/{path}");
    let everything = items(Selection { everything: true, ..Selection::default() });
    for expected in [
        shop(format!("networks/{}.json", stage.name("net"))),
        shop(format!("containers/{web}/inspect.json")),
        shop(format!("containers/{web}/logs.jsonl")),
        shop("compose".to_owned()),
        shop(format!("volumes/{data}")),
        format!("{alone}:/docker/{alone}/containers/{alone}/inspect.json"),
        format!("{0}:/docker/{0}/volumes/{0}", stage.name("idle")),
    ] {
        assert!(everything.contains(&expected), "{expected} is missing in {everything:#?}");
    }
    // One container brings the volume that another application stores.
    assert_eq!(
        items(Selection { containers: vec![alone.clone()], ..Selection::default() }),
        [
            format!("{alone}:/docker/{alone}/containers/{alone}/inspect.json"),
            format!("{alone}:/docker/{alone}/containers/{alone}/logs.jsonl"),
            shop(format!("volumes/{data}")),
        ]
    );
    let less = items(Selection {
        projects: vec![project.to_owned()],
        containers: vec![format!("!{}-d?", stage.name("").trim_end_matches('-'))],
        ..Selection::default()
    });
    assert!(less.iter().all(|item| !item.contains(&stage.name("db")) && !item.contains(&data)), "{less:#?}");
    let plan_of_shop = select(Selection { projects: vec![project.to_owned()], ..Selection::default() }).unwrap();
    assert!(plan_of_shop.applications[0].whole);
    assert_eq!(plan_of_shop.applications[0].writers().into_iter().collect::<Vec<_>>(), [stage.name("db")]);
    assert!(plan_of_shop.applications[0].items.iter().any(|item| item.kind == ItemKind::Compose));
    let Err(PlanError::NoMatch { misses }) = select(Selection { containers: vec![format!("{alone}x")], ..Selection::default() }) else {
        panic!("a name that is not there was taken");
    };
    assert_eq!(misses[0].closest.as_ref(), Some(&alone));
}

/// What the stream cannot carry, taken out of what a walk sees.
fn as_streamed(found: Found) -> Found {
    let links: BTreeMap<Vec<u8>, Vec<u8>> = {
        let mut first: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut links = BTreeMap::new();
        for (path, (metadata, ..)) in &found {
            if metadata.links > 1 && !metadata.is_dir() {
                let name = first.entry(metadata.inode).or_insert_with(|| path.clone());
                if name != path {
                    links.insert(path.clone(), name.clone());
                }
            }
        }
        links
    };
    let keep = found.into_iter().filter(|(_, (metadata, ..))| metadata.kind != Kind::Socket);
    keep.map(|(path, (mut metadata, data, _))| {
        let link = links.get(&path).filter(|_| metadata.is_file()).cloned();
        metadata.mtime.nanos = 0;
        metadata.atime = metadata.mtime;
        metadata.ctime = metadata.mtime;
        metadata.xattrs.retain(|xattr| xattr.name == b"security.capability");
        (metadata.inode, metadata.device, metadata.links) = (0, 0, 1);
        (metadata.user, metadata.group) = (String::new(), String::new());
        if link.is_some() {
            metadata.size = 0;
        }
        let data = if link.is_some() { Vec::new() } else { data };
        (path, (metadata, data, link))
    })
    .collect()
}

#[test]
fn both_ways_into_a_volume_give_the_same_but_for_what_the_stream_loses() {
    needs!(Part::Root, Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "ways");
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    let root = stage.mountpoint(&volume);
    tree::nasty(&root);
    fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o2750)).unwrap();
    run(async {
        let engine = connect(&stage).await;
        let OpenVolume { source, receipt } = open(&engine, &volume, options(ReadMode::Auto)).await.unwrap();
        assert_eq!((receipt.method(), receipt.helper_reason()), (&ReadMethod::Direct, None));
        assert!(receipt.proof().is_none(), "nothing is proved before the end");
        let direct = read_all(source).await.unwrap();
        let proof = receipt.proof().unwrap();
        assert_eq!(proof.entries, direct.len() as u64);
        assert!(proof.mount.is_some());
        receipt.close().await.unwrap();

        let OpenVolume { source, receipt } = open(&engine, &volume, options(ReadMode::Helper)).await.unwrap();
        assert_eq!((receipt.method(), receipt.helper_reason()), (&ReadMethod::Helper, Some("it was asked for")));
        assert_eq!(helpers(&engine, &volume).await, 1);
        let streamed = read_all(source).await.unwrap();
        assert_eq!(receipt.proof().unwrap().entries, streamed.len() as u64);
        receipt.close().await.unwrap();
        assert_eq!(helpers(&engine, &volume).await, 0);

        let streamed: Found = (streamed.into_iter())
            .map(|(path, (mut metadata, data, link))| {
                (metadata.inode, metadata.links) = (0, 1);
                (metadata.user, metadata.group) = (String::new(), String::new());
                (path, (metadata, data, link))
            })
            .collect();
        let direct = as_streamed(direct);
        assert_eq!(paths(&direct), paths(&streamed));
        for (path, expected) in &direct {
            assert_eq!(&streamed[path], expected, "{}", path.escape_ascii());
        }
    });
}

fn paths(found: &Found) -> Vec<String> {
    found.keys().map(|path| path.escape_ascii().to_string()).collect()
}

#[test]
fn what_is_mounted_in_a_container_is_not_in_its_volume() {
    needs!(Part::Root, Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "inside");
    let [outer, inner] = ["outer", "inner"].map(|name| stage.name(name));
    for volume in [&outer, &inner] {
        stage.ok(["volume", "create", volume]);
    }
    let root = stage.mountpoint(&outer);
    for folder in ["volume", "memory"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    let script = "echo x > /data/file; echo x > /data/volume/of-inner; echo x > /data/memory/of-memory; exec sleep 1000";
    let mounts = [format!("{outer}:/data"), format!("{inner}:/data/volume")];
    let name = stage.name("user");
    stage.ok(["run", "-d", "--name", &name, "-v", &mounts[0], "-v", &mounts[1], "--tmpfs", "/data/memory", BUSYBOX, "sh", "-c", script]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(stage.mountpoint(&inner).join("of-inner").exists());
    run(async {
        let engine = connect(&stage).await;
        for mode in [ReadMode::Direct, ReadMode::Helper] {
            let OpenVolume { source, receipt } = open(&engine, &outer, options(mode)).await.unwrap();
            let found = read_all(source).await.unwrap();
            receipt.close().await.unwrap();
            assert_eq!(paths(&found), ["", "file", "memory", "volume"], "{mode:?}");
        }
    });
}

#[test]
fn a_volume_with_options_goes_through_a_helper_and_a_lost_one_is_named() {
    needs!(Part::Root, Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "options");
    let [bound, memory, plain] = ["bound", "memory", "plain"].map(|name| stage.name(name));
    let folder = home.make_folder("bound");
    fs::write(folder.join("file"), "in the bind").unwrap();
    let device = format!("device={}", folder.display());
    stage.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, &bound]);
    stage.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", &memory]);
    stage.ok(["volume", "create", &plain]);
    let mount = format!("{memory}:/m");
    stage.ok(["run", "-d", "--name", &stage.name("user"), "-v", &mount, BUSYBOX, "sh", "-c", "echo here > /m/file; exec sleep 1000"]);
    std::thread::sleep(Duration::from_millis(300));
    run(async {
        let engine = connect(&stage).await;
        for (name, content) in [(&bound, "in the bind"), (&memory, "here\n")] {
            let error = open(&engine, name, options(ReadMode::Direct)).await.unwrap_err();
            assert!(matches!(&error, VolumeError::NotDirect { reason, .. } if reason.contains("mount options")), "{error:?}");
            let OpenVolume { source, receipt } = open(&engine, name, options(ReadMode::Auto)).await.unwrap();
            assert!(receipt.helper_reason().unwrap().contains("mount options"));
            let found = read_all(source).await.unwrap();
            assert_eq!(found[&b"file"[..]].1, content.as_bytes());
            receipt.close().await.unwrap();
        }
        stage.ok(["volume", "rm", &plain]);
        for mode in [ReadMode::Auto, ReadMode::Helper] {
            let error = open(&engine, &plain, options(mode)).await.unwrap_err();
            assert!(
                matches!(&error, VolumeError::Docker { source: DockerError::NotFound { kind: "volume", name }, .. } if *name == plain),
                "{error:?}"
            );
        }
        assert!(!stage.exists("volume", &plain), "looking for a volume made it");
        let owner = Owner::of_run("test");
        assert!(matches!(Helper::create(&engine, &plain, Access::Write, &owner).await, Err(DockerError::NotFound { .. })));
        assert!(!stage.exists("volume", &plain));
    });
}

#[test]
fn what_is_put_through_a_helper_comes_out_again_and_a_stream_that_was_given_up_is_no_archive() {
    needs!(Part::Root, Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "put");
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    let root = stage.mountpoint(&volume);
    let content = tree::noise(7, 3 << 20);
    let archive = |name: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_uid(12);
        header.set_mtime(1_700_000_000);
        tar.append_data(&mut header, name, content.as_slice()).unwrap();
        tar.into_inner().unwrap()
    };
    run(async {
        let engine = connect(&stage).await;
        let helper = Helper::create(&engine, &volume, Access::Write, &Owner::of_run("test")).await.unwrap();
        let put = |bytes: Vec<u8>, finish: bool| {
            let mut writer = archive_put(&engine, helper.id(), "/");
            tokio::task::spawn_blocking(move || {
                for piece in bytes.chunks(10_000) {
                    writer.write_all(piece)?;
                }
                if finish { writer.finish() } else { writer.flush() }
            })
        };
        put(archive("volume/good"), true).await.unwrap().unwrap();
        assert_eq!(fs::read(root.join("good")).unwrap(), content);

        let whole = archive("volume/half");
        let half = whole[..whole.len() / 2].to_vec();
        put(half, false).await.unwrap().unwrap();
        // The Engine sees a broken request; nothing of ours says that it was complete.
        let refused = put(b"this is no archive".repeat(1000), true).await.unwrap().unwrap_err();
        assert!(refused.downcast::<DockerError>().is_ok());

        let mut reader = archive_get(&engine, helper.id(), &format!("{MOUNT}/good")).await.unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        let bytes = read.await.unwrap().unwrap();
        let mut tar = tar::Archive::new(bytes.as_slice());
        let mut entry = tar.entries().unwrap().next().unwrap().unwrap();
        let mut back = Vec::new();
        entry.read_to_end(&mut back).unwrap();
        assert_eq!((back == content, entry.header().uid().unwrap()), (true, 12));
        let missing = archive_get(&engine, helper.id(), "/volume/nothing").await.unwrap_err();
        assert!(missing.is_not_found(), "{missing:?}");
        helper.remove().await.unwrap();
        let gone = archive_get(&engine, "0123456789ab", "/").await.unwrap_err();
        assert!(matches!(gone, DockerError::NotFound { kind: "container", .. }), "{gone:?}");
    });
}

/// What becomes of an archive in the middle of its stream.
#[derive(Clone, Copy)]
enum Fault {
    Cut,
    Stall,
}

/// Stands between a client and the Engine, and hurts every archive after so many bytes of the answer.
fn faulty_proxy(home: &Home, engine: &str, fault: Fault, after: usize) -> String {
    let path = home.path(format!("proxy-{after}.sock"));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let engine = PathBuf::from(engine.strip_prefix("unix://").unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), std::os::unix::net::UnixStream::connect(&engine).unwrap());
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                let length = client.read(&mut buffer).unwrap();
                let is_archive = buffer[..length].windows(9).any(|window| window == b"/archive?");
                server.write_all(&buffer[..length]).unwrap();
                let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || io::copy(&mut up, &mut down));
                let mut left = if is_archive { after } else { usize::MAX };
                while left > 0 {
                    let length = match server.read(&mut buffer) {
                        Ok(length) if length > 0 => length.min(left),
                        _ => break,
                    };
                    if client.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                    left -= length;
                }
                if left == 0 && matches!(fault, Fault::Stall) {
                    std::thread::sleep(Duration::from_secs(20));
                }
                let _ = client.shutdown(std::net::Shutdown::Both);
                let _ = server.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    format!("unix://{}", path.display())
}

#[test]
fn a_stream_that_is_cut_anywhere_is_never_taken_for_whole() {
    needs!(Part::Root, Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "cut");
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    let root = stage.mountpoint(&volume);
    for number in 0..20 {
        fs::write(root.join(format!("file-{number:02}")), tree::noise(number, 20_000)).unwrap();
    }
    run(async {
        // In the head of the answer, in the middle of a file, at the end of a member, just before the end marker.
        for after in [100, 5_000, 65_536, 200_000, 412_000, 420_000] {
            let host = faulty_proxy(&home, &stage.engine().host(), Fault::Cut, after);
            let engine = Engine::connect(&EngineOptions { host: Some(host), ..EngineOptions::default() }).await.unwrap();
            match open(&engine, &volume, options(ReadMode::Helper)).await {
                Ok(OpenVolume { source, receipt }) => {
                    assert!(read_all(source).await.is_err(), "cut after {after} bytes");
                    assert!(receipt.proof().is_none(), "cut after {after} bytes");
                    receipt.close().await.unwrap();
                }
                Err(error) => assert!(after == 100, "cut after {after} bytes: {error:?}"),
            }
            assert_eq!(helpers(&engine, &volume).await, 0);
        }
    });
}

#[test]
fn a_stream_that_stalls_is_given_up() {
    needs!(Part::Root, Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "stall");
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    fs::write(stage.mountpoint(&volume).join("big"), tree::noise(1, 8 << 20)).unwrap();
    run(async {
        let timeouts = Timeouts { stall: Duration::from_secs(1), ..Timeouts::default() };
        let host = Some(faulty_proxy(&home, &stage.engine().host(), Fault::Stall, 1 << 20));
        let engine = Engine::connect(&EngineOptions { host, timeouts, ..EngineOptions::default() }).await.unwrap();
        let OpenVolume { source, receipt } = open(&engine, &volume, options(ReadMode::Helper)).await.unwrap();
        let result = read_all(source).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error:?}");
        assert!(receipt.proof().is_none());
        receipt.close().await.unwrap();
    });
}

#[test]
fn a_stream_may_take_far_longer_than_a_short_call() {
    needs!(Part::Root, Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "slow");
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    let content = tree::noise(8, 3 << 20);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    tar.append_data(&mut header, "volume/slowly", content.as_slice()).unwrap();
    let archive = tar.into_inner().unwrap();
    let pause = || std::thread::sleep(Duration::from_millis(250));
    run(async {
        // As long beyond the limits as a restore of several minutes is beyond the real ones.
        let timeouts = Timeouts { request: Duration::from_secs(1), stall: Duration::from_secs(1), ..Timeouts::default() };
        let host = Some(stage.engine().host());
        let engine = Engine::connect(&EngineOptions { host, timeouts, ..EngineOptions::default() }).await.unwrap();
        let helper = Helper::create(&engine, &volume, Access::Write, &Owner::of_run("test")).await.unwrap();
        let mut writer = archive_put(&engine, helper.id(), "/");
        let started = std::time::Instant::now();
        let written = tokio::task::spawn_blocking(move || {
            for piece in archive.chunks(archive.len().div_ceil(16)) {
                writer.write_all(piece)?;
                pause();
            }
            writer.finish()
        });
        written.await.unwrap().unwrap();
        assert!(fs::read(stage.mountpoint(&volume).join("slowly")).unwrap() == content);
        let mut reader = archive_get(&engine, helper.id(), &format!("{MOUNT}/slowly")).await.unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let (mut bytes, mut piece) = (0, vec![0; 200_000]);
            loop {
                match reader.read(&mut piece)? {
                    0 => return Ok::<_, io::Error>(bytes),
                    count => bytes += count,
                }
                if bytes < 2 << 20 {
                    pause();
                }
            }
        });
        assert!(read.await.unwrap().unwrap() > content.len());
        assert!(started.elapsed() > 5 * timeouts.request, "it was not slow enough to prove anything");
        helper.remove().await.unwrap();
    });
}

#[test]
fn the_helpers_of_the_dead_are_swept_and_those_of_the_living_are_not() {
    needs!(Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "sweep");
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    run(async {
        let engine = connect(&stage).await;
        let living = Helper::create(&engine, &volume, Access::Read, &Owner::of_run("living")).await.unwrap();
        let label = Owner::of_run("dead").to_string();
        let pid = format!("pid={}", std::process::id());
        let dead = format!("bbackup.helper={}", label.replace(&pid, "pid=1073741824"));
        let foreign = format!("bbackup.helper={}", label.replace("boot=", "boot=x"));
        let create = |name: &str, label: &str| stage.ok(["create", "--name", &stage.name(name), "--label", label, BUSYBOX, "true"]);
        let dead = create("dead", &dead);
        create("foreign", &foreign.replace("machine=", "machine=x"));
        create("nonsense", "bbackup.helper=nonsense");
        let swept = sweep(&engine).await.unwrap();
        assert_eq!((swept.removed, swept.failed), (vec![dead], Vec::<String>::new()));
        assert!(stage.exists("container", living.id()) && stage.exists("container", &stage.name("foreign")));
        assert!(!stage.exists("container", &stage.name("dead")));
        // Only dropped: removed all the same.
        let id = living.id().to_owned();
        drop(living);
        let start = std::time::Instant::now();
        while stage.exists("container", &id) {
            assert!(start.elapsed() < Duration::from_secs(20), "a dropped helper stays");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(stage.exists("volume", &volume));
    });
}

#[test]
fn a_log_driver_that_gives_nothing_back_is_told() {
    needs!(Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "logs");
    let [mute, tty, gone] = ["mute", "tty", "gone"].map(|name| stage.name(name));
    stage.ok(["run", "-d", "--name", &mute, "--log-driver", "none", BUSYBOX, "echo", "x"]);
    stage.ok(["run", "-d", "-t", "--name", &tty, BUSYBOX, "sh", "-c", "echo one; echo two >&2; echo three"]);
    stage.ok(["run", "-d", "--name", &gone, BUSYBOX, "true"]);
    for name in [&mute, &tty, &gone] {
        stage.wait_for_state(name, "exited");
    }
    run(async {
        let engine = connect(&stage).await;
        let discovery = discover(&engine).await.unwrap();
        let application = |name: &str| discovery.applications.iter().find(|one| one.name == name).unwrap();
        let lines = async |name: &str, count| {
            let application = application(name);
            logs::lines(&engine, application, &application.containers[0], count).await
        };
        let document = lines(&mute, 1000).await.unwrap();
        assert!(document.bytes.is_empty() && document.notes[0].contains("`none`"), "{:?}", document.notes);
        assert!(document.warnings.is_empty(), "{:?}", document.warnings);
        let document = lines(&tty, 2).await.unwrap();
        let text = String::from_utf8(document.bytes).unwrap();
        let found: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found.iter().map(|line| line["line"].as_str().unwrap()).collect::<Vec<_>>(), ["two", "three"]);
        assert!(found[0]["time"].as_str().unwrap().starts_with("20"));
        stage.ok(["rm", &gone]);
        let error = lines(&gone, 1000).await.unwrap_err();
        assert!(matches!(&error, DockerError::NotFound { kind: "container", name } if *name == gone), "{error:?}");
    });
}

#[test]
fn names_of_any_bytes_come_through_the_stream() {
    needs!(Part::Root, Part::Engine);
    let home = Home::new();
    let stage = Stage::new(&home, "names");
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    let root = stage.mountpoint(&volume);
    let names: [&[u8]; 4] = [b"new\nline", b"\xff\xfe", b"back\\slash", &[b'n'; 255]];
    for name in names {
        fs::write(root.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    run(async {
        let engine = connect(&stage).await;
        let OpenVolume { source, receipt } = open(&engine, &volume, options(ReadMode::Helper)).await.unwrap();
        let found = read_all(source).await.unwrap();
        receipt.close().await.unwrap();
        for name in names {
            assert_eq!(found[name].1, name);
        }
    });
}

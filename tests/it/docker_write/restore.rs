//! A whole application is planned and brought back from its documents alone, its volume written both ways.

use std::time::{Duration, Instant};

use bbackup::docker::create::Names;
use bbackup::docker::helper::Owner;
use bbackup::docker::wire::Timeouts;
use bbackup::docker::{Engine, EngineOptions, discover, normalise};
use bbackup::model::application::{ApplicationDocument, ItemKind, ItemRecord};
use bbackup::model::entry::{Kind, Metadata, Sink as _};
use bbackup::model::outcome::{EndMark, ItemOutcome, Proof, ReadMethod};
use bbackup::targets::plan::{RestoreOptions, RestorePlan, Step, StoredApplication};
use bbackup::targets::prepare;
use bbackup::targets::steps::{Limits, Steps};
use bbackup::targets::volume::{HelperTarget, Writing, writing_mode};

use super::{block_on, connect, inspect};
use crate::support::engine::{BUSYBOX, Stage};
use crate::support::home::Home;
use crate::support::proxy::{Action, Proxy};

const POLITE: &str = "trap exit TERM; while :; do sleep 0.1; done";
const LIMITS: Limits = Limits { health: Duration::from_secs(10), stop: None };

/// What a snapshot would hold of the application of that name.
async fn stored(engine: &Engine, application: &str, bytes: u64) -> StoredApplication {
    let found = discover(engine).await.unwrap();
    let application = found.applications.iter().find(|other| other.name == application).unwrap().clone();
    let items = application.volumes.iter().map(|volume| ItemRecord {
        kind: ItemKind::Volume,
        name: volume.name.clone(),
        path: application.volume_path(&volume.name),
        outcome: ItemOutcome::Complete {
            proof: Proof { method: ReadMethod::Direct, end: EndMark::WalkFinished, mount: None, entries: 2, bytes },
        },
        helper_reason: None,
        mounted_at: None,
        mounted_inside: Vec::new(),
    });
    let containers: Vec<_> = application
        .containers
        .iter()
        .map(|container| (container.name.clone(), found.raw_container(&container.id).unwrap().to_vec()))
        .collect();
    let networks: Vec<_> =
        application.networks.iter().map(|network| (network.name.clone(), found.raw_network(&network.id).unwrap().to_vec())).collect();
    let document = ApplicationDocument {
        format_version: 1,
        program: "test".to_owned(),
        host: "test".to_owned(),
        run: "RUN".to_owned(),
        time: jiff::Timestamp::UNIX_EPOCH,
        engine: found.engine.clone(),
        items: items.collect(),
        application,
        whole: true,
        left_out: bbackup::model::application::LeftOut::default(),
        gone: Vec::new(),
        quiesced: Vec::new(),
        hooks: Vec::new(),
        downtime_seconds: 0.0,
        stream_lost: Vec::new(),
        warnings: Vec::new(),
    };
    StoredApplication::parse(&document.to_json().unwrap(), containers, networks).unwrap()
}

async fn carry_out(engine: &Engine, plan: &RestorePlan, steps: &mut Steps) -> Result<(), bbackup::targets::TargetError> {
    for step in &plan.steps {
        steps.take(step).await?;
        if let Step::FillVolume { name, .. } = &step.step {
            fill(engine, name).await;
        }
    }
    Ok(())
}

/// Writes one file through a helper, the volume's root with a mode and owner of its own.
async fn fill(engine: &Engine, volume: &str) {
    let target = HelperTarget::open(engine, volume, &Owner::of_run("RUN")).await.unwrap();
    let mut sink = target.sink(bbackup::docker::helper::MOUNT.as_bytes());
    tokio::task::spawn_blocking(move || {
        let root = Metadata { mode: 0o1750, uid: 70, gid: 71, ..Metadata::virtual_directory() };
        let file = Metadata { mode: 0o640, uid: 70, gid: 71, size: 5, ..Metadata::virtual_file(5) };
        assert_eq!(file.kind, Kind::File);
        sink.begin(b"", &root, None).unwrap();
        sink.end().unwrap();
        sink.begin(b"hello", &file, None).unwrap();
        sink.data(b"world").unwrap();
        sink.end().unwrap();
        sink.finish().unwrap();
    })
    .await
    .unwrap();
    target.close().await.unwrap();
}

/// `number` tells its subnet and port from those of other tests.
fn make_shop(stage: &Stage<'_>, number: u16) -> (String, [String; 2], String, String) {
    let project = stage.name("shop");
    let label = format!("com.docker.compose.project={project}");
    let (network, volume) = (format!("{project}_front"), format!("{project}_data"));
    let (db, web) = (format!("{project}-db-1"), format!("{project}-web-1"));
    stage.ok(["network", "create", "--subnet", &format!("10.203.{number}.0/24"), "--label", &label, &network]);
    stage.ok(["volume", "create", "--label", &label, &volume]);
    let mount = format!("{volume}:/data");
    let (address, port) = (format!("10.203.{number}.5"), format!("{}:80", 18_200 + number));
    let common = ["run", "-d", "--label", &label, "--network", &network];
    let mut arguments = common.to_vec();
    arguments.extend(["--label", "com.docker.compose.service=db", "--name", &db, "-v", &mount, "--ip", &address, BUSYBOX, "sleep", "1000"]);
    stage.ok(arguments);
    let mut arguments = common.to_vec();
    arguments.extend([
        "--label",
        "com.docker.compose.service=web",
        "--label",
        "com.docker.compose.depends_on=db:service_started:false",
        "--name",
        &web,
        "-p",
        &port,
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    stage.ok(arguments);
    (project, [db, web], network, volume)
}

#[test]
fn an_application_comes_back_from_its_documents() {
    let home = Home::new();
    let stage = Stage::new(&home, "app");
    let (project, containers, network, volume) = make_shop(&stage, 1);
    block_on(async {
        let engine = connect(&stage).await;
        let stored = [stored(&engine, &project, 5).await];
        let blocked = prepare(&engine, &stored, &RestoreOptions::default()).await.unwrap();
        let mut told: Vec<String> = blocked.conflicts.iter().map(ToString::to_string).collect();
        told.sort();
        let mut expected = vec![
            format!("container {} exists already (running)", containers[0]),
            format!("container {} exists already (running)", containers[1]),
            format!("container {} needs 10.203.1.5 on network {network}, which container {} has", containers[0], containers[0]),
            format!("container {} needs port 18201/tcp, which container {} has", containers[1], containers[1]),
            format!("volume {volume} exists already: container {} uses it", containers[0]),
        ];
        expected.sort();
        assert_eq!(told, expected);

        let mut names = Names::new();
        let mut before = Vec::new();
        for container in &containers {
            let seen = inspect(&engine, container).await;
            names.learn_inspect(&seen);
            before.push(normalise::container(&seen, &names));
        }
        stage.ok(["rm", "-f", &containers[0], &containers[1]]);
        stage.ok(["network", "rm", &network]);
        stage.ok(["volume", "rm", &volume]);

        let plan = prepare(&engine, &stored, &RestoreOptions::default()).await.unwrap();
        assert_eq!(plan.conflicts, []);
        assert_eq!(plan.notes, [""; 0]);
        assert!(!stage.exists("network", &network), "planning writes nothing");
        let mut steps = Steps::new(&engine, LIMITS);
        carry_out(&engine, &plan, &mut steps).await.unwrap();
        assert_eq!(steps.left(&project).len(), 4);

        for (container, before) in containers.iter().zip(&before) {
            let seen = inspect(&engine, container).await;
            let mut names = Names::new();
            names.learn_inspect(&seen);
            let differences = normalise::differences(before, &normalise::container(&seen, &names));
            assert!(differences.is_empty(), "{differences:#?}");
        }
        assert_eq!(stage.ok(["exec", &containers[0], "cat", "/data/hello"]), "world");
        assert_eq!(
            stage.ok(["exec", &containers[0], "ls", "-ldn", "/data"]).split_whitespace().take(4).collect::<Vec<_>>(),
            ["drwxr-x--T", "2", "70", "71"]
        );
        let Writing::Direct(folder) = writing_mode(&engine, &volume).await.unwrap() else { panic!("a plain volume is written directly") };
        assert_eq!(std::fs::read(folder.join("hello")).unwrap(), b"world");

        assert_eq!(steps.roll_back(&project).await.len(), 0);
        for (kind, name) in [("container", &containers[0]), ("container", &containers[1]), ("network", &network), ("volume", &volume)] {
            assert!(!stage.exists(kind, name), "{kind} {name}");
        }
    });
}

#[test]
fn a_copy_stands_beside_the_original() {
    let home = Home::new();
    let stage = Stage::new(&home, "copy");
    let (project, containers, _, _) = make_shop(&stage, 2);
    block_on(async {
        let engine = connect(&stage).await;
        let mut stored = stored(&engine, &project, 5).await;
        // Its fixed address, subnet and port are the original's, so those cannot be copied.
        for inspect in stored.containers.values_mut() {
            inspect["HostConfig"]["PortBindings"] = serde_json::Value::Null;
            for (_, endpoint) in inspect["NetworkSettings"]["Networks"].as_object_mut().unwrap() {
                endpoint["IPAMConfig"] = serde_json::Value::Null;
            }
        }
        for network in stored.networks.values_mut() {
            network["IPAM"]["Config"] = serde_json::json!([{"Subnet": "172.30.0.0/16", "Gateway": "172.30.0.1"}]);
        }
        let copy = stage.name("copy");
        let options = RestoreOptions { renames: vec![(project.clone(), copy.clone())], ..RestoreOptions::default() };
        let plan = prepare(&engine, &[stored], &options).await.unwrap();
        assert_eq!(plan.conflicts, []);
        carry_out(&engine, &plan, &mut Steps::new(&engine, LIMITS)).await.unwrap();
        let db = format!("{copy}-db-1");
        let seen = inspect(&engine, &db).await;
        assert_eq!(seen["State"]["Running"], true);
        assert_eq!(seen["Config"]["Labels"]["com.docker.compose.project"], *copy);
        assert_eq!(seen["Mounts"][0]["Name"], format!("{copy}_data"));
        let original = inspect(&engine, &containers[0]).await;
        assert_eq!(original["State"]["Running"], true);
        let found = discover(&engine).await.unwrap();
        assert!(found.applications.iter().any(|application| application.name == copy));
    });
}

#[test]
fn a_failed_restore_says_exactly_what_it_left() {
    let home = Home::new();
    let stage = Stage::new(&home, "fail");
    let (project, containers, network, volume) = make_shop(&stage, 3);
    block_on(async {
        let engine = connect(&stage).await;
        let stored = [stored(&engine, &project, 5).await];
        stage.ok(["rm", "-f", &containers[0], &containers[1]]);
        stage.ok(["network", "rm", &network]);
        stage.ok(["volume", "rm", &volume]);
        let plan = prepare(&engine, &stored, &RestoreOptions::default()).await.unwrap();
        // Somebody takes a name between the look and the step.
        stage.ok(["create", "--name", &containers[1], BUSYBOX, "true"]);
        let mut steps = Steps::new(&engine, LIMITS);
        let error = carry_out(&engine, &plan, &mut steps).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot create container {}", containers[1]));
        let left: Vec<(&str, &str)> = steps.left(&project).iter().map(|left| (left.kind.as_str(), left.name.as_str())).collect();
        assert_eq!(left, [("network", network.as_str()), ("volume", volume.as_str()), ("container", containers[0].as_str())]);
        assert!(steps.roll_back(&project).await.is_empty());
        assert!(stage.exists("container", &containers[1]), "what is somebody else's stays");
    });
}

#[test]
fn a_volume_that_the_engine_does_not_take_is_given_up() {
    let home = Home::new();
    let stage = Stage::new(&home, "stallput");
    let volume = stage.name("data");
    stage.ok(["volume", "create", &volume]);
    let decide = |line: &str| if line.starts_with("PUT ") { Action::StallAfter(1_000_000) } else { Action::Pass };
    let proxy = Proxy::start(&home.path("stalling.sock"), &stage.engine().host(), decide);
    let timeouts = Timeouts { stall: Duration::from_secs(1), ..Timeouts::default() };
    block_on(async {
        let engine = Engine::connect(&EngineOptions { host: Some(proxy.host()), timeouts, ..EngineOptions::default() }).await.unwrap();
        let target = HelperTarget::open(&engine, &volume, &Owner::of_run("RUN")).await.unwrap();
        let mut sink = target.sink(bbackup::docker::helper::MOUNT.as_bytes());
        let error = tokio::task::spawn_blocking(move || {
            sink.begin(b"", &Metadata::virtual_directory(), None).unwrap();
            sink.end().unwrap();
            sink.begin(b"large", &Metadata::virtual_file(64_000_000), None).unwrap();
            let piece = vec![7; 64_000];
            let failed = (0..1000).find_map(|_| sink.data(&piece).err());
            (failed.unwrap(), sink.finish().is_err())
        });
        let (error, finished) = error.await.unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("no byte moved for 1 seconds"), "{error}");
        assert!(finished, "a stream that was given up ends well");
        // The Engine still waits for the rest of the stream, and the helper can be removed all the same.
        tokio::time::timeout(Duration::from_mins(1), target.close()).await.unwrap().unwrap();
        let filter = format!("volume={volume}");
        assert_eq!(stage.ok(["ps", "-aq", "--filter", "label=bbackup.helper", "--filter", &filter]), "", "the helper is left");
    });
}

#[test]
fn a_restore_waits_for_health_only_so_long_and_says_who_is_not_well() {
    let home = Home::new();
    let stage = Stage::new(&home, "sick");
    let up = home.make_folder("mounted").join("up");
    let mount = format!("{}:/mounted", up.parent().unwrap().display());
    for (number, script, told) in [
        (0, POLITE.to_owned(), "runs and is not healthy after 3 seconds"),
        (1, format!("test -e /mounted/up || exit 5; {POLITE}"), "was started and has ended with exit code 5"),
    ] {
        let project = stage.name(&format!("shop{number}"));
        let (db, web) = (format!("{project}-db-1"), format!("{project}-web-1"));
        let label = format!("com.docker.compose.project={project}");
        let run = |name: &str, service: &str, more: &[&str], script: &str| {
            let service = format!("com.docker.compose.service={service}");
            let first = ["run", "-d", "--name", name, "--label", &label, "--label", &service, "--stop-timeout", "0"];
            stage.ok([&first[..], more, &[BUSYBOX, "sh", "-c", script]].concat());
        };
        std::fs::write(&up, "").unwrap();
        let check = ["--health-cmd", "test -e /mounted/up", "--health-interval", "200ms", "--health-retries", "2", "-v", &mount];
        run(&db, "db", &check, &script);
        run(&web, "web", &["--label", "com.docker.compose.depends_on=db:service_healthy:false"], POLITE);
        let deadline = Instant::now() + Duration::from_secs(30);
        while stage.inspect("container", &db)["State"]["Health"]["Status"] != "healthy" {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(100));
        }
        block_on(async {
            let engine = connect(&stage).await;
            let stored = [stored(&engine, &project, 5).await];
            stage.ok(["rm", "-f", &db, &web]);
            std::fs::remove_file(&up).unwrap();
            let plan = prepare(&engine, &stored, &RestoreOptions::default()).await.unwrap();
            assert_eq!(plan.conflicts, []);
            let mut steps = Steps::new(&engine, Limits { health: Duration::from_secs(3), stop: None });
            let (mut found, mut waited) = (Vec::new(), Duration::ZERO);
            for planned in &plan.steps {
                let began = Instant::now();
                found.extend(steps.take(planned).await.unwrap());
                if matches!(planned.step, Step::WaitHealthy { .. }) {
                    waited += began.elapsed();
                }
            }
            assert_eq!(found, [format!("container {db} {told}")]);
            assert!(number == 1 || (3..20).contains(&waited.as_secs()), "{waited:?}");
            assert_eq!(inspect(&engine, &web).await["State"]["Running"], true, "who waits for it is started all the same");
        });
    }
}

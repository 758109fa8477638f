//! A real swarm of one node, or of two: its tasks are paused while their volume is read, or their service is scaled to 0 and
//! back, whatever happens to the run, to the service and to who is asked.

mod faults;
mod others;

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::engine::{BUSYBOX, Engine, Stage};
use crate::support::home::{Home, files_below};
use crate::support::parts::{Part, needs};
use crate::support::tree;

const POLITE: &str = "trap exit TERM; while :; do sleep 0.1; done";

/// An Engine of its own that is the only node of a swarm: the others' must stay as they are.
fn swarm() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let engine = Engine::start(&[]);
        let _ = engine.client(["swarm", "init", "--advertise-addr", "127.0.0.1"]).run().success();
        engine
    })
}

/// A service with a volume. It is removed at the end, before the stage removes the volume.
struct Service<'a, 'h> {
    stage: &'a Stage<'h>,
    name: String,
    volume: String,
}

impl<'a, 'h> Service<'a, 'h> {
    /// With `replicas` tasks, all of which run.
    fn start(stage: &'a Stage<'h>, name: &str, replicas: usize, options: &[&str]) -> Self {
        let number = replicas.to_string();
        let service = Self::create(stage, name, &[&["--replicas", &number][..], options].concat());
        service.wait_for_tasks(replicas);
        service
    }

    fn create(stage: &'a Stage<'h>, name: &str, options: &[&str]) -> Self {
        let (name, volume) = (stage.name(name), stage.name(&format!("{name}-data")));
        stage.ok(["volume", "create", &volume]);
        tree::write(&stage.mountpoint(&volume).join("noise"), &tree::noise(4, 100_000));
        let mount = format!("type=volume,source={volume},target=/data");
        let create = ["service", "create", "-d", "--no-resolve-image", "--name", &name, "--mount", &mount];
        stage.ok([&create[..], options, &[BUSYBOX, "sh", "-c", POLITE]].concat());
        Self { stage, name, volume }
    }

    /// Gives its volume some new megabytes, so that a run can be held while it reads them.
    fn fill(&self, seed: u64) {
        tree::write(&self.folder().join("noise"), &tree::noise(seed, 40_000_000));
    }

    fn folder(&self) -> PathBuf {
        self.stage.mountpoint(&self.volume)
    }

    /// Ids of its containers on this node, those that have ended among them only if `all`.
    fn containers(&self, all: bool) -> Vec<String> {
        let filter = format!("label=com.docker.swarm.service.name={}", self.name);
        let ids = self.stage.ok(["ps", "-q", "--no-trunc", if all { "-a" } else { "-q" }, "--filter", &filter]);
        let mut ids: Vec<String> = ids.lines().map(str::to_owned).collect();
        ids.sort();
        ids
    }

    /// State and time of the last start of each of its containers.
    fn states(&self) -> Vec<String> {
        let format = "{{.Id}} {{.State.Status}} {{.State.StartedAt}}";
        self.containers(true).iter().map(|id| self.stage.ok(["inspect", "--format", format, id])).collect()
    }

    /// Waits until exactly so many of its containers run.
    #[track_caller]
    fn wait_for_tasks(&self, count: usize) {
        let start = Instant::now();
        loop {
            let found = self.containers(false).len();
            if found == count {
                return;
            }
            let tasks = || self.stage.docker(["service", "ps", "--no-trunc", &self.name]).run().describe();
            assert!(start.elapsed() < Duration::from_mins(1), "{found} containers run, not {count}\n{}", tasks());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many tasks it is to have.
    #[track_caller]
    fn replicas(&self) -> u64 {
        self.stage.ok(["service", "inspect", "--format", "{{.Spec.Mode.Replicated.Replicas}}", &self.name]).parse().unwrap()
    }
}

impl Drop for Service<'_, '_> {
    fn drop(&mut self) {
        let _ = self.stage.docker(["service", "rm", &self.name]).run();
        let start = Instant::now();
        // The volume cannot be removed before.
        while !self.containers(true).is_empty() && start.elapsed() < Duration::from_secs(30) {
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A configuration with the home's repository and that key of `docker`.
fn configured(home: &Home, swarm: &str) -> String {
    let (repository, password) = (home.repository().display().to_string(), home.password_file().display().to_string());
    let text = format!("docker: {{swarm: {swarm}}}\nrepositories:\n  default: {{location: '{repository}', password_file: '{password}'}}\n");
    let path = home.path(format!("{swarm}.yaml"));
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn journals(home: &Home) -> Vec<PathBuf> {
    let mut files = files_below(&home.path("state"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "journal"));
    files
}

/// What `backup --json` says of its only application.
fn application(outcome: &crate::support::run::Outcome) -> Value {
    outcome.json_lines().pop().unwrap()["data"]["runs"][0]["applications"][0].clone()
}

#[test]
fn a_task_is_paused_and_goes_on_as_it_was() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "paused", swarm());
    let service = Service::start(&stage, "web", 2, &[]);
    let before = service.states();
    assert!(before.len() == 2 && before.iter().all(|state| state.contains(" running ")), "{before:?}");
    let dry = stage.bbackup(["backup", "--dry-run", "-C", &service.name]).run().success();
    drop(dry.says("would pause").says("swarm task, which the orchestrator would replace"));
    service.fill(1);
    let mut running = stage.bbackup(["backup", "--json", "-C", &service.name]).spawn();
    running.hold_while_it_has_open(&service.folder());
    let meanwhile = service.states();
    assert!(meanwhile.len() == 2 && meanwhile.iter().all(|state| state.contains(" paused ")), "{meanwhile:?}");
    assert_eq!(service.replicas(), 2);
    running.signal(rustix::process::Signal::CONT);
    let outcome = running.wait().success();
    assert_eq!(service.states(), before, "the very same containers go on");
    let saved = application(&outcome);
    assert_eq!(saved["application"], Value::from(service.name.clone()), "tasks are of their service, under its name");
    assert_eq!(saved["quiesced"].as_array().unwrap().len(), 2, "{saved}");
}

#[test]
fn a_service_is_scaled_to_nothing_while_its_volume_is_read() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "scaled", swarm());
    let service = Service::start(&stage, "web", 2, &["--update-delay", "5s", "--env", "A=b", "--container-label", "x=y"]);
    let specification = || {
        let text = stage.ok(["service", "inspect", "--format", "{{json .Spec}}", &service.name]);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let (before, containers) = (specification(), service.containers(true));
    let config = configured(&home, "scale");
    let backup = |options: &[&str]| stage.bbackup([&["--config", &config, "backup", "-C", &service.name], options].concat());
    let dry = backup(&["--dry-run"]).run().success();
    drop(dry.says("would scale to 0, and back: service").says(&service.name));
    assert_eq!(service.containers(true), containers);
    service.fill(1);
    let mut running = backup(&["--json"]).spawn();
    running.hold_while_it_has_open(&service.folder());
    assert_eq!((service.replicas(), service.containers(false)), (0, Vec::new()));
    assert_eq!(journals(&home).len(), 1);
    running.signal(rustix::process::Signal::CONT);
    let outcome = running.wait().success();
    // Not waited for: bbackup has done so.
    let after = service.containers(false);
    assert!(after.len() == 2 && after.iter().all(|id| !containers.contains(id)), "{after:?}, before {containers:?}");
    assert_eq!(specification(), before, "something else of the service was changed");
    assert!(journals(&home).is_empty());
    let saved = application(&outcome);
    let quiesced = &saved["quiesced"][0];
    assert_eq!(quiesced["container"], Value::from(service.name.clone()), "{saved}");
    assert!(quiesced["note"].as_str().unwrap().contains("scaled from 2 to 0 and back"), "{saved}");
    let down = saved["downtime_seconds"].as_f64().unwrap();
    assert!(down > 0.1 && quiesced["downtime_seconds"].as_f64().unwrap() > 0.1, "{saved}");

    // The same application again, whatever its tasks are called now: unchanged, and whole.
    let again = application(&backup(&["--json"]).run().success());
    assert_eq!(again["application"], saved["application"]);
    let _ = stage.bbackup(["restore", "latest", "--volume", &service.volume, "--to"]).arg(home.path("out")).run().success();
    let found = files_below(&home.path("out")).into_iter().find(|path| path.ends_with("noise")).unwrap();
    assert!(fs::read(found).unwrap() == fs::read(service.folder().join("noise")).unwrap(), "what was read is not what is there");
}

#[test]
fn labels_say_it_for_one_service() {
    needs!(Part::Engine);
    let home = Home::with_repository();
    let stage = Stage::on(&home, "labels", swarm());
    let (scale, pause) = (configured(&home, "scale"), configured(&home, "pause"));
    for (name, options, config, expected) in [
        ("own", &["--container-label", "bbackup.swarm=scale"][..], &pause, "would scale to 0"),
        ("service", &["--label", "bbackup.swarm=scale"], &pause, "would scale to 0"),
        ("offen", &["--label", "docker-volume-backup.stop-during-backup=nightly"], &pause, "would scale to 0"),
        ("offen-off", &["--label", "docker-volume-backup.stop-during-backup=false"], &pause, "would pause"),
        ("not", &["--label", "bbackup.swarm=pause", "--label", "docker-volume-backup.stop-during-backup=true"], &scale, "would pause"),
        ("wrong", &["--label", "bbackup.swarm=drain"], &pause, "`drain` is neither pause nor scale"),
    ] {
        let service = Service::start(&stage, name, 1, options);
        let dry = stage.bbackup(["--config", config, "backup", "--dry-run", "-C", &service.name]).run();
        assert!(matches!(dry.code(), Some(0 | 4)), "{name}: {}", dry.describe());
        drop(dry.says(expected));
    }
}

//! The application that the Docker tests save and bring back: as `docker compose` would have made it, with a database and a web server
//! on a network with static addresses, three volumes full of nasty files, beside it a container, a volume and a network of nobody.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bbackup::docker::create::Names;
use bbackup::docker::normalise;
use serde_json::Value;

use super::engine::{BUSYBOX, SKELETON, Stage};
use super::home::{Home, NOBODY};
use super::manifest::Manifest;
use super::parts;
use super::tree;

/// How the volumes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volumes {
    /// Plain ones, which bbackup reads from the file system.
    Plain,
    /// Ones with options (a bind mount), which it reads and writes through a helper.
    WithOptions,
}

/// How large the volumes are, in megabytes, and how many small files there are.
fn sizes() -> (usize, usize) {
    if env::var_os("BBACKUP_TEST_FULL").is_some_and(|value| value == "1") { (1024, 50_000) } else { (48, 2000) }
}

/// The application.
pub(crate) struct Shop<'a> {
    /// Its part of the Engine.
    pub(crate) stage: Stage<'a>,
    home: &'a Home,
    subnet: String,
    port: u64,
    volumes: Volumes,
}

/// What it looked like at one time.
pub(crate) struct Picture {
    inspects: BTreeMap<String, (&'static str, Value)>,
    volumes: BTreeMap<String, Manifest>,
}

impl<'a> Shop<'a> {
    /// Builds and starts it. `stage` says whether the Engine is shared with other tests meanwhile.
    pub(crate) fn open(home: &'a Home, stage: Stage<'a>, volumes: Volumes) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let shop = Self { stage, home, subnet: format!("10.92.{number}"), port: 18_100 + number, volumes };
        let (network, other) = (shop.name("net"), shop.name("lonely-net"));
        let subnet = format!("{}.0/24", shop.subnet);
        shop.stage.ok(["network", "create", "--subnet", &subnet, "--label", "kept=yes", &network]);
        shop.stage.ok(["network", "create", &other]);
        for name in ["db", "media", "web"] {
            shop.make_volume(&shop.name(name));
        }
        shop.stage.ok(["volume", "create", "--label", "kept=yes", &shop.name("lonely-volume")]);
        shop.fill();
        shop.start_database();
        shop.start_web();
        let lonely = shop.name("lonely");
        shop.stage.ok(["create", "--name", &lonely, "--hostname", "keeps.its.name", "-e", "SECRET=Pa55w0rd", BUSYBOX, "sleep", "1000"]);
        shop
    }

    /// A name with the test's prefix.
    pub(crate) fn name(&self, name: &str) -> String {
        self.stage.name(name)
    }

    /// The compose project, which is the application's name.
    pub(crate) fn project(&self) -> String {
        self.stage.name("shop")
    }

    fn make_volume(&self, name: &str) {
        let mut arguments =
            vec!["volume".to_owned(), "create".to_owned(), "--label".to_owned(), format!("com.docker.compose.project={}", self.project())];
        if self.volumes == Volumes::WithOptions {
            let folder = self.home.make_folder(&format!("device-{name}"));
            for option in ["type=none".to_owned(), "o=bind".to_owned(), format!("device={}", folder.display())] {
                arguments.extend(["--opt".to_owned(), option]);
            }
        }
        arguments.push(name.to_owned());
        self.stage.ok(arguments);
    }

    /// Where a volume's files are on this machine.
    pub(crate) fn files_of(&self, volume: &str) -> PathBuf {
        let inspect = self.stage.inspect("volume", volume);
        let device = inspect["Options"]["device"].as_str().map(PathBuf::from);
        device.unwrap_or_else(|| PathBuf::from(inspect["Mountpoint"].as_str().unwrap()))
    }

    fn fill(&self) {
        let (megabytes, files) = sizes();
        let media = self.files_of(&self.name("media"));
        tree::nasty(&media);
        tree::many(&media.join("many"), files);
        let web = self.files_of(&self.name("web"));
        tree::mixed(&web, megabytes);
        fs::write(web.join("index.html"), "the shop is open\n").unwrap();
        fs::write(self.files_of(&self.name("lonely-volume")).join("note"), "nobody uses me\n").unwrap();
        chown(self.files_of(&self.name("db")), Some(NOBODY), Some(NOBODY)).unwrap();
    }

    fn labels(&self, service: &str, depends_on: &str) -> Vec<String> {
        let folder = self.home.make_folder("compose");
        fs::write(folder.join("compose.yaml"), "services: {db: {}, web: {depends_on: [db]}}\n").unwrap();
        fs::write(folder.join(".env"), "PASSWORD=hunter2\n").unwrap();
        let labels = [
            ("project", self.project()),
            ("service", service.to_owned()),
            ("container-number", "1".to_owned()),
            ("oneoff", "False".to_owned()),
            ("depends_on", depends_on.to_owned()),
            ("project.working_dir", folder.display().to_string()),
            ("project.config_files", folder.join("compose.yaml").display().to_string()),
        ];
        labels.into_iter().flat_map(|(name, value)| ["--label".to_owned(), format!("com.docker.compose.{name}={value}")]).collect()
    }

    fn start_database(&self) {
        let programs = parts::postgres_programs().unwrap().display().to_string();
        let (megabytes, _) = sizes();
        let script = format!(
            "set -e; export PATH={programs}:$PATH
            test -e /data/pg/PG_VERSION || initdb -D /data/pg -U postgres -A trust --locale=C --no-sync >/dev/null
            exec postgres -D /data/pg -k /tmp -c listen_addresses="
        );
        self.stage.ok(["run", "-d", "--name", &self.name("db"), "--network", &self.name("net"), "--ip", &format!("{}.10", self.subnet)]
            .into_iter()
            .map(str::to_owned)
            .chain(
                ["--network-alias", "database", "--user", "65534:65534", "--stop-signal", "SIGINT", "--restart", "unless-stopped"]
                    .map(str::to_owned),
            )
            .chain(self.labels("db", ""))
            .chain(
                ["-v", "/usr:/usr:ro", "-v", &format!("{}:/data", self.name("db")), "-e", "POSTGRES_PASSWORD=hunter2"].map(str::to_owned),
            )
            .chain([SKELETON, "sh", "-c", &script].map(str::to_owned)));
        self.wait_for_database();
        let rows = megabytes * 2000;
        let fill =
            format!("create table orders as select n, md5(n::text) as what, repeat('x', 300) as pad from generate_series(1, {rows}) n");
        self.sql(&fill);
    }

    fn start_web(&self) {
        self.stage.ok(["run", "-d", "--name", &self.name("web"), "--network", &self.name("net"), "--ip", &format!("{}.20", self.subnet)]
            .into_iter()
            .map(str::to_owned)
            .chain(
                ["-p", &format!("{}:80", self.port), "--restart", "on-failure:3", "--memory", "128m", "--cap-drop", "MKNOD"]
                    .map(str::to_owned),
            )
            .chain(self.labels("web", "db:service_started:false"))
            .chain(["-v", &format!("{}:/www:ro", self.name("web")), "-v", &format!("{}:/media", self.name("media"))].map(str::to_owned))
            .chain([BUSYBOX, "httpd", "-f", "-h", "/www", "-p", "80"].map(str::to_owned)));
        self.stage.wait_for_state(&self.name("web"), "running");
    }

    /// Waits until the database answers.
    #[track_caller]
    pub(crate) fn wait_for_database(&self) {
        let start = Instant::now();
        loop {
            let outcome = self.stage.docker(self.psql("select 1")).run();
            if outcome.code() == Some(0) {
                return;
            }
            let logs = || self.stage.docker(["logs", &self.name("db")]).run().describe();
            assert!(start.elapsed() < Duration::from_mins(1), "PostgreSQL does not answer\n{}\n{}", outcome.describe(), logs());
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn psql(&self, statement: &str) -> Vec<String> {
        let program = parts::postgres_programs().unwrap().join("psql").display().to_string();
        ["exec", &self.name("db"), &program, "-h", "/tmp", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-Atc", statement]
            .map(str::to_owned)
            .to_vec()
    }

    /// Runs a statement and returns its answer.
    #[track_caller]
    pub(crate) fn sql(&self, statement: &str) -> String {
        self.stage.ok(self.psql(statement))
    }

    /// One line that changes with any row.
    #[track_caller]
    pub(crate) fn rows(&self) -> String {
        self.sql("select count(*), sum(n), md5(string_agg(what, '' order by n)) from orders")
    }

    /// What the web server answers at its published port.
    #[track_caller]
    pub(crate) fn front_page(&self) -> String {
        let url = format!("http://127.0.0.1:{}/index.html", self.port);
        let fetch = self.home.program(parts::program("busybox", "").unwrap()).args(["wget", "-q", "-O", "-", &url]);
        self.stage.engine().inside(fetch).run().success().text()
    }

    /// Everything that must be equal after a restore. The database's volume is left out: it changes as soon as it runs.
    pub(crate) fn picture(&self) -> Picture {
        let mut inspects = BTreeMap::new();
        for (kind, names) in [
            ("container", ["db", "web", "lonely"].as_slice()),
            ("network", &["net", "lonely-net"]),
            ("volume", &["db", "media", "web", "lonely-volume"]),
        ] {
            for name in names {
                let name = self.name(name);
                inspects.insert(format!("{kind} {name}"), (kind, self.stage.inspect(kind, &name)));
            }
        }
        let volumes = ["media", "web", "lonely-volume"].map(|name| (name.to_owned(), Manifest::of(&self.files_of(&self.name(name)))));
        Picture { inspects, volumes: volumes.into_iter().collect() }
    }

    /// Removes all of it, as somebody would who lost everything.
    pub(crate) fn burn_down(&self) {
        self.stage.remove_everything();
        if self.volumes == Volumes::WithOptions {
            // The folders of such volumes are not Docker's: they stay, empty, where the new volumes expect them.
            for name in ["db", "media", "web"] {
                let folder = self.home.path(format!("device-{}", self.name(name)));
                fs::remove_dir_all(&folder).unwrap();
                fs::create_dir(&folder).unwrap();
            }
        }
        for (kind, name) in [("container", "db"), ("container", "web"), ("container", "lonely"), ("volume", "db"), ("network", "net")] {
            assert!(!self.stage.exists(kind, &self.name(name)), "{kind} {name} is still there");
        }
    }

    /// Where the snapshot of the application has a volume's files.
    pub(crate) fn path_in_snapshot(&self, volume: &str) -> PathBuf {
        Path::new("/docker").join(self.project()).join("volumes").join(self.name(volume))
    }
}

impl Picture {
    /// Asserts that everything is as it was. `lost` takes away from the volumes what the way they went does not keep.
    #[track_caller]
    pub(crate) fn assert_equals(&self, after: &Self, lost: impl Fn(Manifest) -> Manifest) {
        let names = |picture: &Self| {
            let mut names = Names::new();
            picture.inspects.values().filter(|(kind, _)| *kind == "container").for_each(|(_, inspect)| names.learn_inspect(inspect));
            names
        };
        let (names_before, names_after) = (names(self), names(after));
        let mut found = Vec::new();
        for (name, (kind, before)) in &self.inspects {
            let now = &after.inspects[name].1;
            let fields = |inspect: &Value, names: &Names| match *kind {
                "container" => normalise::container(inspect, names),
                "network" => normalise::network(inspect, names, !name.contains("lonely")),
                _ => normalise::volume(inspect, names),
            };
            let differences = normalise::differences(&fields(before, &names_before), &fields(now, &names_after));
            found.extend(differences.into_iter().map(|difference| format!("{name}: {difference}")));
            // The list above is the program's own; these few are looked at without it.
            let automatic = |field: &str| field.starts_with("/IPAM") && name.contains("lonely");
            for field in RAW_FIELDS.iter().filter(|(of, field)| of == kind && !automatic(field)).map(|(_, field)| field) {
                // An empty list and none are the same to the Engine.
                let value = |inspect: &Value| {
                    inspect.pointer(field).filter(|value| !value.as_array().is_some_and(Vec::is_empty)).cloned().unwrap_or_default()
                };
                if value(before) != value(now) {
                    found.push(format!("{name}: {field} was {:?}, is {:?}", before.pointer(field), now.pointer(field)));
                }
            }
        }
        assert!(found.is_empty(), "{} difference(s):\n  {}", found.len(), found.join("\n  "));
        for (name, before) in &self.volumes {
            let differences = lost(before.clone()).differences(&lost(after.volumes[name].clone()));
            let shown = differences.iter().take(30).fold(String::new(), |text, line| text + "\n  " + line);
            assert!(differences.is_empty(), "volume {name}, {} difference(s):{shown}", differences.len());
        }
    }
}

/// Fields of inspect that must be literally the same.
const RAW_FIELDS: &[(&str, &str)] = &[
    ("container", "/State/Status"),
    ("container", "/Image"),
    ("container", "/Path"),
    ("container", "/Args"),
    ("container", "/Config/Env"),
    ("container", "/Config/Cmd"),
    ("container", "/Config/User"),
    ("container", "/Config/Labels"),
    ("container", "/Config/StopSignal"),
    ("container", "/HostConfig/Binds"),
    ("container", "/HostConfig/PortBindings"),
    ("container", "/HostConfig/RestartPolicy"),
    ("container", "/HostConfig/Memory"),
    ("container", "/HostConfig/CapDrop"),
    ("network", "/IPAM/Config/0/Subnet"),
    ("network", "/Labels"),
    ("network", "/Driver"),
    ("volume", "/Driver"),
    ("volume", "/Options"),
    ("volume", "/Labels"),
];

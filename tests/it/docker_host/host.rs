//! The host: an Engine of its own with everything of the table on it, and folders that its containers mount.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::databases::{self, DATABASES};
use super::table::{CONTAINERS, Left, NETWORKS, OF_DATABASES, Row, Runs, VOLUMES, words};
use crate::support::engine::{BUSYBOX, Engine, SKELETON, Stage};
use crate::support::home::Home;
use crate::support::tree;

/// The host.
pub(super) struct Host<'a> {
    /// Its Engine.
    pub(super) stage: Stage<'a>,
    /// What was in the database that does not run any more.
    pub(super) old_rows: String,
    home: &'a Home,
}

impl<'a> Host<'a> {
    /// Starts an Engine and makes everything of the table.
    pub(super) fn build(home: &'a Home) -> Self {
        let engine: &'static Engine = Box::leak(Box::new(Engine::start(&[])));
        let mut host = Self { stage: Stage::on(home, "host", engine), home, old_rows: String::new() };
        host.lay_files();
        for (name, options, _) in NETWORKS {
            host.ok(&["network", "create"], words(options, &[]), &[name]);
        }
        for (name, options, owner, mode) in VOLUMES {
            host.ok(&["volume", "create"], words(options, &host.places()), &[name]);
            host.fill_volume(name, *owner, *mode);
        }
        thread::scope(|scope| {
            let groups: Vec<_> = CONTAINERS.iter().map(|rows| scope.spawn(|| host.make(rows))).collect();
            for group in groups {
                group.join().unwrap();
            }
        });
        host.fill_anonymous();
        for (container, runs) in DATABASES {
            databases::wait(&host.stage, container, *runs);
            databases::fill(&host.stage, container, *runs);
        }
        host.old_rows = databases::rows(&host.stage, "old-cache", Runs::Redis);
        for row in CONTAINERS.iter().flat_map(|rows| *rows) {
            match row.left {
                Left::Paused => drop(host.stage.ok(["pause", row.name])),
                // The Engine remembers that somebody has stopped it.
                Left::Stopped => drop(host.stage.ok(["stop", row.name])),
                Left::Ended => host.stage.wait_for_state(row.name, "exited"),
                Left::Crashing => host.stage.wait_for_state(row.name, "restarting"),
                Left::Running | Left::Created => {}
            }
        }
        host
    }

    fn ok(&self, first: &[&str], options: Vec<String>, last: &[&str]) -> String {
        let (first, last) = (first.iter().map(|word| (*word).to_owned()), last.iter().map(|word| (*word).to_owned()));
        self.stage.ok(first.chain(options).chain(last))
    }

    /// What is at this place on this machine only.
    fn places(&self) -> Vec<(&'static str, String)> {
        let socket = self.stage.engine().host().trim_start_matches("unix://").to_owned();
        vec![("{srv}", self.home.path("srv").display().to_string()), ("{sock}", socket), ("{pg}", databases::postgres())]
    }

    /// Files and folders of this machine that containers mount.
    pub(super) fn mounted(&self) -> Vec<PathBuf> {
        ["srv/shop-conf", "srv/metrics", "srv/one-file"].map(|name| self.home.path(name)).to_vec()
    }

    fn lay_files(&self) {
        let conf = self.home.make_folder("srv/shop-conf");
        tree::write(&conf.join("shop.ini"), b"open = yes\n");
        chown(conf.join("shop.ini"), Some(33), Some(7)).unwrap();
        fs::set_permissions(&conf, Permissions::from_mode(0o750)).unwrap();
        tree::set_mtime(&conf, 1_500_000_000, 987_654_321);
        tree::many(&self.home.make_folder("srv/metrics"), 20);
        tree::write(&self.home.path("srv/one-file"), b"a file that is mounted by itself\n");
        self.home.make_folder("srv/device");
        for project in ["shop", "wiki", "metrics"] {
            let folder = self.home.make_folder(&format!("compose/{project}"));
            tree::write(&folder.join("compose.yaml"), format!("services: {{x: {{image: {BUSYBOX}, env_file: more.env}}}}\n").as_bytes());
            tree::write(&folder.join(".env"), format!("PASSWORD={project}\n").as_bytes());
            tree::write(&folder.join("more.env"), b"MORE=yes\n");
        }
    }

    fn fill_volume(&self, name: &str, owner: u32, mode: u32) {
        let files = self.files_of(name);
        if name == "memory" {
            return;
        }
        match name {
            "files" => tree::nasty(&files),
            "unused_files" | "wiki_uploads" => tree::odd(&files),
            "shop_media" => tree::mixed(&files, 16),
            "shop_web" => tree::write(&files.join("index.html"), b"the shop is open\n"),
            "metrics_store" | "wiki_search" | "crashing" => tree::many(&files, 600),
            "device" => tree::names(&files.join("names")),
            _ => {}
        }
        chown(&files, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&files, Permissions::from_mode(mode)).unwrap();
        tree::set_mtime(&files, 1_400_000_000, 1);
    }

    /// Where a volume's files are on this machine.
    pub(super) fn files_of(&self, volume: &str) -> PathBuf {
        if volume == "device" { self.home.path("srv/device") } else { self.stage.mountpoint(volume) }
    }

    /// Writes something into each volume that has no name, as the containers would.
    fn fill_anonymous(&self) {
        for container in ["anonymous", "temporary", "prepared", "frozen"] {
            for mount in self.stage.inspect("container", container)["Mounts"].as_array().unwrap() {
                let place = PathBuf::from(mount["Source"].as_str().unwrap());
                tree::write(&place.join("from"), format!("{container} at {}\n", mount["Destination"]).as_bytes());
            }
        }
    }

    fn make(&self, rows: &[Row]) {
        for row in rows {
            let mut options = Vec::new();
            if !row.name.is_empty() {
                options.extend(["--name".to_owned(), row.name.to_owned()]);
            }
            if let Some(depends_on) = row.compose {
                options.extend(self.labels(row.name, depends_on));
            }
            let (joins, others): (Vec<_>, Vec<_>) =
                words(row.options, &self.places()).into_iter().partition(|option| option.starts_with('+'));
            options.extend(others);
            let script = match row.runs {
                Runs::Sleeps => "trap 'exit 0' TERM INT QUIT; sleep 100000 & wait".to_owned(),
                Runs::Deaf => "while :; do sleep 1000; done".to_owned(),
                Runs::Web => "trap 'exit 0' TERM; httpd -f -h /www -p 80 & wait".to_owned(),
                Runs::Ends(code) => format!("echo the end; exit {code}"),
                Runs::Postgres | Runs::MariaDb | Runs::Redis => {
                    options.extend(["--volume", "/usr:/usr:ro"].map(str::to_owned));
                    databases::script(row.runs)
                }
            };
            let image = if options.iter().any(|option| option == "/usr:/usr:ro") { SKELETON } else { BUSYBOX };
            let command: &[&str] = if row.options.contains("--entrypoint") { &["-c", &script] } else { &["sh", "-c", &script] };
            let id = self.ok(&["create"], options, &[&[image], command].concat());
            for join in joins {
                // `+network=--ip …`
                let (network, more) = join[1..].split_once('=').unwrap();
                let more = more.split(' ').map(str::to_owned).collect();
                self.ok(&["network", "connect"], more, &[network, &id]);
            }
            if row.left != Left::Created {
                self.stage.ok(["start", &id]);
            }
        }
    }

    /// The labels that compose leaves.
    fn labels(&self, name: &str, depends_on: &str) -> Vec<String> {
        let mut parts = name.split('-');
        let [project, service, number] = [(); 3].map(|()| parts.next().unwrap());
        let folder = self.home.path("compose").join(project).display().to_string();
        let labels = [
            ("config-hash", format!("hash-of-{service}")),
            ("container-number", number.to_owned()),
            ("depends_on", depends_on.to_owned()),
            ("oneoff", "False".to_owned()),
            ("project", project.to_owned()),
            ("project.config_files", format!("{folder}/compose.yaml")),
            ("project.working_dir", folder),
            ("service", service.to_owned()),
            ("version", "2.20.0".to_owned()),
        ];
        labels.iter().flat_map(|(label, value)| ["--label".to_owned(), format!("com.docker.compose.{label}={value}")]).collect()
    }

    /// Names or ids of all that there is, by a listing command.
    pub(super) fn all(&self, command: &[&str]) -> Vec<String> {
        self.stage.docker(command).run().text().lines().map(str::to_owned).collect()
    }

    /// Removes everything: containers, volumes, networks, the files of the machine that belong to them. Compose's own are
    /// kept elsewhere, to compare with.
    pub(super) fn wipe(&self) {
        self.clear();
        fs::remove_dir_all(self.home.path("srv")).unwrap();
        fs::rename(self.home.path("compose"), self.home.path("compose-before")).unwrap();
        // The folder that a volume stands for is not the Engine's: without it the volume cannot be mounted.
        self.home.make_folder("srv/device");
        for left in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["network", "ls", "-qf", "type=custom"]] {
            let left = self.all(left);
            assert!(left.is_empty(), "not wiped: {left:?}");
        }
    }

    fn clear(&self) {
        for (list, remove) in [
            (&["ps", "-aq"][..], &["rm", "-fv"][..]),
            (&["volume", "ls", "-q"], &["volume", "rm", "-f"]),
            (&["network", "ls", "-qf", "type=custom"], &["network", "rm"]),
        ] {
            let found = self.all(list);
            if !found.is_empty() {
                let _ = self.stage.docker(remove).args(found).run();
            }
        }
    }

    /// What the web server answers at its published port.
    pub(super) fn front_page(&self) -> String {
        let fetch = self.home.program("busybox").args(["wget", "-q", "-O", "-", "http://127.0.0.1:18080/index.html"]);
        self.stage.engine().inside(fetch).run().success().text()
    }

    /// What a container finds under the name of another one.
    pub(super) fn resolve(&self, container: &str, name: &str) -> String {
        let found = self.stage.ok(["exec", container, "getent", "ahostsv4", name]);
        found.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Waits until a container's health is what it is to be.
    #[track_caller]
    pub(super) fn wait_for_health(&self, container: &str, wanted: &str) {
        let start = Instant::now();
        loop {
            let found = self.stage.ok(["inspect", "--format", "{{.State.Health.Status}}", container]);
            if found == wanted {
                return;
            }
            assert!(start.elapsed() < Duration::from_mins(1), "{container} is {found}, not {wanted}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether a volume's files are the same as long as nobody changes them.
pub(super) fn is_quiet(volume: &str) -> bool {
    !OF_DATABASES.contains(&volume) && volume != "memory"
}

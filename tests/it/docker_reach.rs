//! Engines that are reached by TLS, by ssh, by the Docker client's contexts, and several in one configuration.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::engine::{BUSYBOX, Engine, Stage};
use crate::support::home::{Home, NOBODY, files_below, size_of};
use crate::support::parts::{self, Part, needs};
use crate::support::reach::{Certificates, Sshd};
use crate::support::run::{Outcome, Program};
use crate::support::tree;

const PORT: u16 = 2376;
const TLS_HOST: &str = "tcp://127.0.0.1:2376";

/// An Engine behind TLS, in a network namespace of its own.
struct Far {
    engine: &'static Engine,
    certificates: Certificates,
}

impl Far {
    fn shared() -> &'static Self {
        static FAR: OnceLock<Far> = OnceLock::new();
        FAR.get_or_init(Self::start)
    }

    fn start() -> Self {
        let certificates = Certificates::make(&parts::temporary_folder("certificates").keep());
        let arguments = certificates.arguments(PORT);
        let engine = Engine::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        Self { engine: Box::leak(Box::new(engine)), certificates }
    }

    /// bbackup where the Engine can be reached, told of it by the environment.
    fn bbackup<const N: usize>(&self, home: &Home, words: [&str; N], certificates: &Path) -> Program {
        let program = home.bbackup(words).env("DOCKER_HOST", TLS_HOST);
        self.engine.inside(program.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", certificates))
    }
}

/// A container that runs, with a volume of some megabytes. Returns the folder of the volume.
fn one_container(stage: &Stage<'_>, megabytes: usize) -> PathBuf {
    let (name, volume) = (stage.name("app"), stage.name("data"));
    stage.ok(["volume", "create", &volume]);
    let folder = stage.mountpoint(&volume);
    tree::write(&folder.join("noise"), &tree::noise(7, megabytes * 1_000_000));
    tree::many(&folder, 20);
    let mount = format!("{volume}:/data");
    stage.ok(["run", "-d", "--name", &name, "-v", &mount, BUSYBOX, "sh", "-c", "trap exit TERM; while :; do sleep 1; done"]);
    folder
}

/// Saves the container of [`one_container`], removes it with its volume, brings both back.
fn there_and_back(stage: &Stage<'_>, folder: &Path, bbackup: impl Fn(&[&str]) -> Program) {
    let (name, volume) = (stage.name("app"), stage.name("data"));
    let noise = fs::read(folder.join("noise")).unwrap();
    let started = stage.ok(["inspect", "--format", "{{.State.StartedAt}}", &name]);
    let outcome = bbackup(&["backup", "--json", "--containers", &name]).run().success();
    let text = outcome.text();
    assert!(text.contains("helper"), "an Engine that is reached so is on another machine: {text}");
    stage.wait_for_state(&name, "running");
    assert_ne!(stage.ok(["inspect", "--format", "{{.State.StartedAt}}", &name]), started, "it was not stopped for the read");
    stage.ok(["rm", "-f", &name]);
    stage.ok(["volume", "rm", &volume]);
    let _ = bbackup(&["restore", "latest", "--all"]).run().success();
    stage.wait_for_state(&name, "running");
    assert_eq!(fs::read(stage.mountpoint(&volume).join("noise")).unwrap(), noise);
    let helpers = ["ps", "-aq", "--filter", "label=bbackup.helper", "--filter", &format!("volume={volume}")].map(str::to_owned);
    assert!(stage.ok(helpers).is_empty(), "a helper was left behind");
}

/// The code of the only error.
#[track_caller]
fn code(outcome: &Outcome) -> String {
    let envelope = outcome.json_lines().pop().unwrap();
    envelope["errors"][0]["code"].as_str().unwrap_or_else(|| panic!("{}", outcome.describe())).to_owned()
}

#[test]
fn an_engine_behind_tls_is_saved_and_brought_back() {
    needs!(Part::Engine, Part::Program("openssl"));
    let home = Home::with_repository();
    let far = Far::shared();
    let stage = Stage::on(&home, "tls", far.engine);
    let folder = one_container(&stage, 3);
    let certificates = far.certificates.client();
    there_and_back(&stage, &folder, |words| far.bbackup(&home, [], &certificates).args(words));
}

#[test]
fn wrong_certificates_are_told_apart() {
    needs!(Part::Engine, Part::Program("openssl"));
    let home = Home::with_repository();
    let far = Far::shared();
    let other = Certificates::make(&home.path("other"));
    let refused = |certificates: &Path, host: &str, expected: &str, words: &str| {
        let program = far.bbackup(&home, ["list-containers", "--json"], certificates).env("DOCKER_HOST", host);
        let outcome = program.run().exits(3).says(words);
        assert_eq!(code(&outcome), expected, "{}", outcome.describe());
    };
    let unnamed = far.certificates.some("unnamed", &["ca.pem"]);
    refused(&unnamed, TLS_HOST, "docker_certificate", "does not accept our certificate");
    refused(&other.client(), TLS_HOST, "docker_certificate", "nobody that is trusted has signed it");
    let imposter = other.some("imposter", &["cert.pem", "key.pem"]);
    fs::copy(far.certificates.client().join("ca.pem"), imposter.join("ca.pem")).unwrap();
    refused(&imposter, TLS_HOST, "docker_certificate", "does not accept our certificate");
    // Both addresses are of that machine; the certificate is for one of them.
    refused(&far.certificates.client(), "tcp://127.0.0.2:2376", "docker_certificate", "it is for another name");
    refused(&far.certificates.client(), "tcp://127.0.0.1:2377", "no_docker", "answers at tcp://127.0.0.1:2377");

    // Files that are of no use are the configuration's fault.
    let keyless = far.certificates.some("keyless", &["ca.pem", "cert.pem"]);
    let broken = home.make_folder("broken");
    fs::write(broken.join("ca.pem"), "no certificate").unwrap();
    for (folder, words) in [(&keyless, "no key.pem beside it"), (&broken, "no certificate in it")] {
        let outcome = far.bbackup(&home, ["list-containers", "--json"], folder).run().exits(2).says(words);
        assert_eq!(code(&outcome), "docker_tls", "{}", outcome.describe());
    }

    // Without TLS where there is TLS, and the other way round.
    let plain = far.engine.inside(home.bbackup(["list-containers", "--json"]).env("DOCKER_HOST", TLS_HOST));
    let outcome = plain.run().exits(3).says("wants TLS").says("DOCKER_TLS_VERIFY");
    assert_eq!(code(&outcome), "docker_tls");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let program = home.bbackup(["list-containers", "--json"]).env("DOCKER_HOST", host).env("DOCKER_TLS_VERIFY", "1");
    let outcome = program.env("DOCKER_CERT_PATH", far.certificates.client()).run().exits(3).says("does not speak TLS");
    assert_eq!(code(&outcome), "docker_tls");
}

#[test]
fn contexts_count_as_for_the_docker_client() {
    needs!(Part::Engine, Part::Program("openssl"));
    let home = Home::with_repository();
    let far = Far::shared();
    let stage = Stage::on(&home, "context", far.engine);
    let here = Stage::new(&home, "here");
    stage.ok(["volume", "create", &stage.name("there")]);
    here.ok(["volume", "create", &here.name("here")]);
    let client = home.path("client");
    let docker = |words: &[&str]| {
        let program = home.program("docker").env("DOCKER_HOST", "").args(["--config"]).arg(&client).args(words);
        let _ = program.run().success();
    };
    let files = far.certificates.client().display().to_string();
    let endpoint = format!("host={TLS_HOST},ca={files}/ca.pem,cert={files}/cert.pem,key={files}/key.pem");
    docker(&["context", "create", "far", "--docker", &endpoint]);
    docker(&["context", "create", "near", "--docker", &format!("host={}", here.engine().host())]);
    let list = |words: &[&str]| {
        let program = home.bbackup(["list-volumes"]).args(words).env("DOCKER_CONFIG", &client).env("DOCKER_HOST", "");
        far.engine.inside(program)
    };
    let (there, near) = (stage.name("there"), here.name("here"));
    let _ = list(&[]).env("DOCKER_CONTEXT", "far").run().success().says(&there);
    let _ = list(&[]).env("DOCKER_CONTEXT", "near").run().success().says(&near).says_nothing_of(&there);
    // Its own host goes before the context, and the context of the environment before the current one.
    let _ = list(&[]).env("DOCKER_CONTEXT", "far").env("DOCKER_HOST", here.engine().host()).run().success().says(&near);
    docker(&["context", "use", "far"]);
    let _ = list(&[]).run().success().says(&there).says_nothing_of(&near);
    let _ = list(&[]).env("DOCKER_CONTEXT", "near").run().success().says(&near);
    // The configuration goes before them all.
    let config = home.path("config.yaml");
    fs::write(&config, "docker: {context: near}\n").unwrap();
    let with_config = list(&["--config"]).arg(&config).env("DOCKER_CONTEXT", "far");
    let _ = with_config.env("DOCKER_HOST", TLS_HOST).run().success().says(&near);
    // One that is not there is never replaced by another Engine.
    let outcome = list(&["--json"]).env("DOCKER_CONTEXT", "gone").run().exits(2).says("far, near");
    assert_eq!(code(&outcome), "docker_context");
}

#[test]
fn several_engines_in_one_configuration() {
    needs!(Part::Engine, Part::Program("openssl"));
    let home = Home::with_repository();
    let far = Far::shared();
    let (there, here) = (Stage::on(&home, "several", far.engine), Stage::new(&home, "several"));
    one_container(&there, 1);
    one_container(&here, 1);
    let config = format!(
        "host: here\ndocker:\n  host: {}\n  engines:\n    far:\n      host: {TLS_HOST}\n      cert_path: {}\n\
         sets:\n  near: {{containers: [{}]}}\n  away: {{containers: [{}], engine: far}}\n",
        here.engine().host(),
        far.certificates.client().display(),
        here.name("app"),
        there.name("app"),
    );
    fs::write(home.path("config.yaml"), config).unwrap();
    let bbackup = |words: &[&str]| far.engine.inside(home.bbackup(words).arg("--config").arg(home.path("config.yaml")));
    let outcome = bbackup(&["backup", "--json"]).run().success();
    let runs = outcome.json_lines().pop().unwrap()["data"]["runs"].as_array().unwrap().len();
    assert_eq!(runs, 2, "{}", outcome.describe());
    let hosts: Vec<String> =
        (bbackup(&["snapshots", "--json"]).run().success().json_lines().pop().unwrap()["data"].as_array().unwrap().iter())
            .map(|snapshot| snapshot["host"].as_str().unwrap_or_default().to_owned())
            .collect();
    assert!(hosts.contains(&"far".to_owned()) && hosts.contains(&"here".to_owned()), "{hosts:?}");

    let _ = bbackup(&["list-containers"]).run().success().says(&here.name("app")).says_nothing_of(&there.name("app"));
    let _ = bbackup(&["list-containers", "--engine", "far"]).run().success().says(&there.name("app"));
    let outcome = bbackup(&["list-containers", "--engine", "fra", "--json"]).run().exits(1).says("did you mean `far`");
    assert_eq!(code(&outcome), "unknown_engine");

    // Each Engine's own come back to it.
    there.ok(["rm", "-fv", &there.name("app")]);
    there.ok(["volume", "rm", &there.name("data")]);
    let _ = bbackup(&["restore", "latest", "--all", "--engine", "far"]).run().success();
    there.wait_for_state(&there.name("app"), "running");
    assert!(!here.exists("container", &there.name("app")));
}

#[test]
fn an_engine_that_dies_in_the_middle_is_no_backup() {
    needs!(Part::Engine, Part::Program("openssl"));
    let home = Home::with_repository();
    let far = Far::start();
    let stage = Stage::on(&home, "dies", far.engine);
    one_container(&stage, 200);
    let name = stage.name("app");
    let mut running = far.bbackup(&home, ["backup", "--containers", &name], &far.certificates.client()).spawn();
    running.until("the volume to be read", || size_of(&home.repository()) > 20_000_000);
    kill_process(Pid::from_raw(far.engine.pid()).unwrap(), Signal::KILL).unwrap();
    let outcome = running.wait();
    assert!(matches!(outcome.code(), Some(1 | 3 | 4)), "{}", outcome.describe());
    let outcome = outcome.says(&stage.name("data")).says(&name);
    assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
}

#[test]
fn an_engine_behind_ssh_is_saved_and_brought_back() {
    needs!(Part::Engine, Part::Program("sshd"), Part::Program("ssh"));
    let home = Home::with_repository();
    let stage = Stage::new(&home, "ssh");
    let folder = one_container(&stage, 3);
    let socket = stage.engine().host().trim_start_matches("unix://").to_owned();
    let sshd = Sshd::start(&home.path("sshd"), &[("DOCKER_HOST", &stage.engine().host())]);
    // Once the Docker client over there knows the socket by itself, and once the address says it.
    for path in ["", socket.as_str()] {
        let before = sshd.logins();
        there_and_back(&stage, &folder_of(&stage, &folder), |words| sshd.user(home.bbackup(words)).env("DOCKER_HOST", sshd.host(path)));
        let logins = sshd.logins() - before;
        assert!(logins > 0 && logins < 40, "connections are used again, not made for every call: {logins}");
    }
}

/// The volume's folder as it is now.
fn folder_of(stage: &Stage<'_>, before: &Path) -> PathBuf {
    let now = stage.mountpoint(&stage.name("data"));
    if now.exists() { now } else { before.to_owned() }
}

#[test]
fn what_ssh_does_not_do_is_told_apart() {
    needs!(Part::Engine, Part::Program("sshd"), Part::Program("ssh"));
    let home = Home::with_repository();
    let engine = Engine::shared();
    let sshd = Sshd::start(&home.path("sshd"), &[("DOCKER_HOST", &engine.host())]);
    let list = |host: &str| sshd.user(home.bbackup(["list-containers", "--json"])).env("DOCKER_HOST", host);
    let refused = |host: &str, words: &str| {
        let outcome = list(host).run().exits(3).says(words).says("hint");
        assert_eq!(code(&outcome), "docker_ssh", "{}", outcome.describe());
    };
    let host = sshd.host("");
    let _ = list(&host).run().success();

    sshd.knows(None);
    refused(&host, "the key of that host is not known here");
    assert_eq!(fs::read_to_string(home.path("sshd/known_hosts")).unwrap(), "", "an unknown key was added");
    sshd.knows("stranger");
    refused(&host, "the key of that host is not the one that is known here");
    sshd.knows("host");
    sshd.logs_in_with("stranger");
    refused(&host, "that host does not let us in");
    sshd.logs_in_with("user");
    refused(&sshd.host("/no/such.sock"), "no Docker Engine answers on that host");
    refused("ssh://root@127.0.0.1:1", "that host cannot be reached");
    let _ = list("ssh://root:hush@127.0.0.1").run().exits(2).says("use a key").says_nothing_of("hush");

    let bare = Sshd::start(&home.path("bare"), &[("PATH", "/nonexistent")]);
    let outcome = bare.user(home.bbackup(["list-containers", "--json"])).env("DOCKER_HOST", bare.host("")).run().exits(3);
    assert_eq!(code(&outcome.says("there is no Docker client on that host")), "docker_ssh");

    // Without ssh there is nothing to call anybody with.
    let outcome = home.bbackup(["list-containers", "--json"]).env("PATH", "/nonexistent").env("DOCKER_HOST", &host).run().exits(3);
    assert_eq!(code(&outcome), "no_ssh");
}

#[test]
fn a_connection_by_ssh_that_breaks_costs_a_second_read() {
    needs!(Part::Engine, Part::Program("sshd"), Part::Program("ssh"));
    let home = Home::with_repository();
    let stage = Stage::new(&home, "sshcut");
    let folder = one_container(&stage, 200);
    let name = stage.name("app");
    let sshd = Sshd::start(&home.path("sshd"), &[("DOCKER_HOST", &stage.engine().host())]);
    let mut running = sshd.user(stage.bbackup(["backup", "--containers", &name])).env("DOCKER_HOST", sshd.host("")).spawn();
    running.until("the volume to be read", || size_of(&home.repository()) > 20_000_000);
    assert!(sshd.cut() > 0, "there was no session to cut");
    let outcome = running.wait();
    assert!(!outcome.errors().contains("panicked"), "{}", outcome.describe());
    // The host is still there, so it is read again, and the container brought back, over new connections.
    // Other calls may have lost their connection with it, such as the one that removes the helper: that is a warning.
    assert!(matches!(outcome.code(), Some(0 | 4)), "{}", outcome.describe());
    let _ = outcome.says(&stage.name("data")).says("is read once more").says_nothing_of("is not saved");
    stage.wait_for_state(&name, "running");
    let _ = stage.bbackup(["restore", "latest", "--volume", &stage.name("data"), "--to"]).arg(home.path("out")).run().success();
    let restored = files_below(&home.path("out")).into_iter().find(|path| tree::is_named(path, b"noise")).unwrap();
    assert!(fs::read(restored).unwrap() == fs::read(folder.join("noise")).unwrap(), "what was read again is not what is there");
}

#[test]
fn a_socket_that_may_not_be_used_is_no_missing_engine() {
    needs!(Part::Engine);
    let home = Home::new();
    let outcome = home.bbackup_as_nobody(["list-containers", "--json"]).env("DOCKER_HOST", Engine::shared().host()).run().exits(3);
    assert_eq!(code(&outcome), "docker_permission", "as user {NOBODY}: {}", outcome.describe());
}

/// Podman's service, with everything of its own. Ends with the value.
struct Podman {
    folder: PathBuf,
    /// Podman takes a path of at most 50 characters for it.
    _short: tempfile::TempDir,
    service: std::process::Child,
}

impl Podman {
    fn start(folder: PathBuf) -> Self {
        let path = |name: &str| folder.join(name).display().to_string();
        let short = tempfile::Builder::new().prefix("bbp").tempdir_in("/tmp").unwrap();
        let runroot = short.path().join("run").display().to_string();
        let service = std::process::Command::new("podman")
            .args(["--root", &path("root"), "--runroot", &runroot, "--storage-driver", "vfs"])
            .args(["--cgroup-manager", "cgroupfs", "--events-backend", "file", "system", "service", "--time=0"])
            .arg(format!("unix://{}", path("podman.sock")))
            .stdin(std::process::Stdio::null())
            .stdout(fs::File::create(folder.join("out")).unwrap())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let podman = Self { folder, _short: short, service };
        let start = std::time::Instant::now();
        while podman.docker(&["version"]).run().code() != Some(0) {
            let log = fs::read_to_string(podman.folder.join("log")).unwrap();
            assert!(start.elapsed() < std::time::Duration::from_mins(1), "podman does not answer: {log}");
            thread::sleep(std::time::Duration::from_millis(100));
        }
        podman
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.join("podman.sock").display())
    }

    fn docker(&self, words: &[&str]) -> Program {
        Program::new("docker", &self.folder, &self.folder).args(["-H", &self.host()]).args(words)
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        self.docker(words).run().success().text().trim().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.docker(&["rm", "-f", "app"]).run();
        let _ = (self.service.kill(), self.service.wait());
    }
}

#[test]
fn podman_is_looked_at_saved_and_its_volumes_brought_back() {
    needs!(Part::Engine, Part::Program("podman"));
    let home = Home::with_repository();
    let podman = Podman::start(home.make_folder("podman"));
    let image = home.path("image.tar");
    let saved = Engine::shared();
    let _ = home.program("docker").args(["-H", &saved.host(), "save", "-o"]).arg(&image).arg(BUSYBOX).run().success();
    let _ = podman.docker(&["load", "-i"]).arg(&image).run().success();
    podman.ok(&["volume", "create", "data"]);
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
    let run = ["run", "-d", "--name", "app", "-v", "data:/data", BUSYBOX, "sh", "-c", "trap exit TERM; while :; do sleep 1; done"];
    podman.ok(&[&run[..2], &limits, &run[2..]].concat());
    let folder = PathBuf::from(podman.ok(&["volume", "inspect", "data", "--format", "{{.Mountpoint}}"]));
    let noise = tree::noise(3, 100_000_000);
    tree::write(&folder.join("noise"), &noise);
    let bbackup = |words: &[&str]| home.bbackup(words).env("DOCKER_HOST", podman.host());
    let _ = bbackup(&["list-containers"]).run().success().says("app").says("running");
    let status = || podman.ok(&["inspect", "--format", "{{.State.Status}}", "app"]);

    // Killed while the container is down, it brings it back at its next start: Podman gives another id at every question.
    let mut running = bbackup(&["backup", "--all"]).spawn();
    running.hold_while_it_has_open(&folder);
    running.signal(Signal::KILL);
    let _ = running.wait().killed_by(Signal::KILL);
    assert_eq!(status(), "exited");
    let _ = bbackup(&["list-volumes"]).run().exits(4).says("runs again");
    assert_eq!(status(), "running");

    let _ = bbackup(&["backup", "--all"]).run().success();
    assert_eq!(status(), "running");
    podman.ok(&["rm", "-f", "app"]);
    podman.ok(&["volume", "rm", "data"]);
    let _ = bbackup(&["restore", "latest", "--volume", "data"]).run().success();
    let folder = PathBuf::from(podman.ok(&["volume", "inspect", "data", "--format", "{{.Mountpoint}}"]));
    assert!(fs::read(folder.join("noise")).unwrap() == noise);
}

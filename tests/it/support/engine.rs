//! One private Docker Engine for all tests of this process, in a network namespace of its own, so that an Engine that is already there
//! is not touched. Images are made on the spot; nothing is pulled.
//!
//! `BBACKUP_TEST_DOCKERD` names another `dockerd` than the one in `PATH`; the programs beside it (`containerd`) are then used too.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::home::Home;
use super::parts;
use super::run::{Outcome, Program};
use super::turns::{Turn, Turns};

/// Image of Debian's static busybox alone.
pub(crate) const BUSYBOX: &str = "bbackup-test/busybox:1";
/// Image of a skeleton that becomes a whole system when `/usr` of this machine is mounted into it.
pub(crate) const SKELETON: &str = "bbackup-test/skeleton:1";
/// A runtime that every private Engine has beside its own.
pub(crate) const SECOND_RUNTIME: &str = "bbackup-second";

/// Starts the Engine, waits until standard input ends (this process has died, in whatever way), ends the Engine by its own process id.
const KEEPER: &str = r#"
dir=$1 dockerd=$2
start() {
    unshare -n sh -c '
        ip link set lo up
        dir=$1 dockerd=$2
        shift 2
        exec "$dockerd" -H "unix://$dir/docker.sock" --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" --shutdown-timeout 2 "$@"
    ' sh "$@" </dev/null >>"$dir/log" 2>&1 &
    engine=$!
}
start "$@"
# Each line asks for a restart, as of a service.
while read -r _; do
    kill -TERM "$engine"
    wait "$engine"
    sleep 1
    start "$@"
done
kill -TERM "$engine" 2>/dev/null
for _ in $(seq 100); do
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.2
done
kill -KILL "$engine" 2>/dev/null
grep " $dir/" /proc/self/mounts | cut -d" " -f2 | sort -r | while read -r mount; do umount -l "$mount"; done
rm -rf "$dir"
"#;

/// The private Engine.
pub(crate) struct Engine {
    folder: PathBuf,
    /// Its standard input ends with this process, in whatever way that ends; other children never inherit it.
    keeper: Mutex<Child>,
}

impl Engine {
    /// The Engine of this test process, started at the first call.
    pub(crate) fn shared() -> &'static Self {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        ENGINE.get_or_init(|| Self::start(&[]))
    }

    /// Ends it as a service is stopped, and starts it again; it may take some seconds until it answers.
    pub(crate) fn restart(&self) {
        self.keeper.lock().unwrap().stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// The same, until the new one answers.
    #[track_caller]
    pub(crate) fn restart_and_wait(&self) {
        let old = self.pid();
        self.restart();
        self.wait_for_another(old);
    }

    /// Waits until a process other than `old` answers as this Engine.
    #[track_caller]
    pub(crate) fn wait_for_another(&self, old: i32) {
        let start = Instant::now();
        let is_new = || fs::read_to_string(self.folder.join("pid")).is_ok_and(|pid| pid.trim().parse().is_ok_and(|pid: i32| pid != old));
        while !is_new() || self.docker_in(&self.folder, ["version"]).run().code() != Some(0) {
            assert!(start.elapsed() < Duration::from_mins(1), "the Engine does not come back");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// One of its own, with further arguments of `dockerd`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_program(&parts::program("dockerd", "BBACKUP_TEST_DOCKERD").unwrap(), arguments)
    }

    /// One of another version.
    pub(crate) fn start_program(dockerd: &Path, arguments: &[&str]) -> Self {
        let folder = parts::temporary_folder("engine").keep();
        let mut path = dockerd.parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(parts::search_path());
        let keeper = Command::new("setsid")
            .args(["sh", "-c", KEEPER, "keeper"])
            .arg(&folder)
            .arg(dockerd)
            .arg(format!("--add-runtime={SECOND_RUNTIME}={}", parts::program("runc", "").unwrap().display()))
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let engine = Self { folder, keeper: Mutex::new(keeper) };
        let start = Instant::now();
        while engine.docker_in(&engine.folder, ["version"]).run().code() != Some(0) {
            let log = || fs::read_to_string(engine.folder.join("log")).unwrap_or_default();
            assert!(engine.keeper.lock().unwrap().try_wait().unwrap().is_none(), "the private Engine ended:\n{}", log());
            assert!(start.elapsed() < Duration::from_mins(1), "the private Engine does not answer:\n{}", log());
            thread::sleep(Duration::from_millis(100));
        }
        engine.import(BUSYBOX, &busybox_image());
        engine.import(SKELETON, &skeleton_image());
        engine
    }

    /// A call of Docker's own client.
    pub(crate) fn client<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, arguments: I) -> Program {
        self.docker_in(&self.folder, arguments)
    }

    /// Its address, as `DOCKER_HOST` takes it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.join("docker.sock").display())
    }

    /// Its version, to say which Engine was tested with.
    pub(crate) fn version(&self) -> String {
        self.docker_in(&self.folder, ["version", "--format", "{{.Server.Version}}"]).run().success().text().trim().to_owned()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        fs::read_to_string(self.folder.join("pid")).unwrap().trim().parse().unwrap()
    }

    /// Runs a program inside its network namespace: that is where published ports are.
    pub(crate) fn inside(&self, program: Program) -> Program {
        program.under(["nsenter", "-n", "-t", &self.pid().to_string()])
    }

    fn docker_in<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, folder: &Path, arguments: I) -> Program {
        Program::new("docker", folder, folder)
            .args(["--config".as_ref(), folder.join("docker-config").as_os_str()])
            .args(["-H".as_ref(), self.host().as_ref() as &std::ffi::OsStr])
            .args(arguments)
    }

    fn import(&self, name: &str, image: &[u8]) {
        let tar = self.folder.join("image.tar");
        fs::write(&tar, image).unwrap();
        let _ = self.docker_in(&self.folder, ["import", "-", name]).input(&tar).run().success();
        fs::remove_file(tar).unwrap();
    }
}

/// The `dockerd` that the tests do not run with: the one in `PATH`, or the newer one that `tests/newer` has unpacked.
pub(crate) fn other_dockerd() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if set("BBACKUP_TEST_DOCKERD").is_some() {
        return parts::program("dockerd", "");
    }
    let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let folder = set("BBACKUP_TEST_NEWER").or_else(|| Some(cache()?.join("bbackup-tests")))?;
    Some(folder.join("programs/dockerd")).filter(|path| path.is_file())
}

/// One test's part of the Engine: its names begin with a prefix of its own, and everything with that prefix is removed at the end.
pub(crate) struct Stage<'a> {
    engine: &'static Engine,
    home: &'a Home,
    prefix: String,
    /// Whether others may use the Engine meanwhile.
    _turn: Turn,
}

/// Turns on the Engine: many tests share it, one that takes everything on it has it alone.
static TURNS: Turns = Turns::new();

impl<'a> Stage<'a> {
    /// A new prefix, with the test's name in it for those who look.
    pub(crate) fn new(home: &'a Home, name: &str) -> Self {
        Self::with(home, name, Engine::shared(), TURNS.shared())
    }

    /// The same with nobody else on the Engine.
    pub(crate) fn alone(home: &'a Home, name: &str) -> Self {
        Self::with(home, name, Engine::shared(), TURNS.alone())
    }

    /// A part of another Engine than the shared one.
    pub(crate) fn on(home: &'a Home, name: &str, engine: &'static Engine) -> Self {
        Self::with(home, name, engine, TURNS.shared())
    }

    fn with(home: &'a Home, name: &str, engine: &'static Engine, turn: Turn) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("t{}{name}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { engine, home, prefix, _turn: turn }
    }

    /// The Engine itself.
    pub(crate) fn engine(&self) -> &'static Engine {
        self.engine
    }

    /// A name with the test's prefix.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A call of Docker's own client.
    pub(crate) fn docker<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, arguments: I) -> Program {
        self.engine.docker_in(&self.home.path("output"), arguments)
    }

    /// A call that must succeed; returns its output without the last line end.
    #[track_caller]
    pub(crate) fn ok<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, arguments: I) -> String {
        self.docker(arguments).run().success().text().trim_end().to_owned()
    }

    /// bbackup against this Engine, with the home's repository.
    pub(crate) fn bbackup<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, arguments: I) -> Program {
        self.home.bbackup(arguments).env("DOCKER_HOST", self.engine.host())
    }

    /// What `docker inspect` says of something.
    #[track_caller]
    pub(crate) fn inspect(&self, kind: &str, name: &str) -> serde_json::Value {
        let outcome = self.docker(["inspect", "--type", kind, name]).run().success();
        let mut all: Vec<serde_json::Value> = serde_json::from_slice(&outcome.stdout).unwrap();
        all.remove(0)
    }

    /// Whether there is something of that kind and name.
    pub(crate) fn exists(&self, kind: &str, name: &str) -> bool {
        self.docker(["inspect", "--type", kind, name]).run().code() == Some(0)
    }

    /// The folder of a volume on this machine.
    #[track_caller]
    pub(crate) fn mountpoint(&self, volume: &str) -> PathBuf {
        PathBuf::from(self.inspect("volume", volume)["Mountpoint"].as_str().unwrap())
    }

    /// Waits until a container is in a state: `running`, `exited`, `paused`.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, container: &str, state: &str) {
        let start = Instant::now();
        loop {
            let found = self.ok(["inspect", "--format", "{{.State.Status}}", container]);
            if found == state {
                return;
            }
            assert!(start.elapsed() < Duration::from_mins(1), "{container} is {found}, not {state}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Removes every container, volume and network of this test.
    pub(crate) fn remove_everything(&self) {
        let filter = format!("name={}", self.prefix);
        let list = |arguments: &[&str]| -> Vec<String> {
            let outcome = self.docker(arguments).args(["--filter", &filter]).run();
            outcome.text().lines().map(str::to_owned).collect()
        };
        let remove = |command: &[&str], names: Vec<String>| -> Option<Outcome> {
            (!names.is_empty()).then(|| self.docker(command).args(names).run())
        };
        let _ = remove(&["rm", "-fv"], list(&["ps", "-aq"]));
        let volumes = list(&["volume", "ls", "-q"]);
        for volume in &volumes {
            // A helper that a run could not remove has no name of this test, and would keep the volume.
            let helpers = self.docker(["ps", "-aq", "--filter", &format!("volume={volume}")]).run().text();
            let _ = remove(&["rm", "-fv"], helpers.lines().map(str::to_owned).collect());
        }
        let _ = remove(&["volume", "rm", "-f"], volumes);
        let _ = remove(&["network", "rm"], list(&["network", "ls", "-q"]));
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.remove_everything();
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(1_700_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn add_folder(image: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32) {
    image.append_data(&mut header(tar::EntryType::Directory, mode, 0), path, std::io::empty()).unwrap();
}

fn add_link(image: &mut tar::Builder<Vec<u8>>, path: &str, target: &Path) {
    image.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), path, target).unwrap();
}

fn add_file(image: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) {
    image.append_data(&mut header(tar::EntryType::Regular, mode, content.len() as u64), path, content).unwrap();
}

/// The archive of [`BUSYBOX`].
pub(crate) fn busybox_image() -> Vec<u8> {
    let mut image = tar::Builder::new(Vec::new());
    for folder in ["bin", "etc", "tmp", "var", "root"] {
        add_folder(&mut image, folder, if folder == "tmp" { 0o1777 } else { 0o755 });
    }
    add_file(&mut image, "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n");
    add_file(&mut image, "etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    add_file(&mut image, "bin/busybox", 0o755, &fs::read(parts::program("busybox", "").unwrap()).unwrap());
    for applet in [
        "sh", "sleep", "cat", "ls", "echo", "true", "false", "touch", "mkdir", "rm", "mv", "dd", "httpd", "wget", "nc", "id", "test",
        "date",
    ] {
        add_link(&mut image, &format!("bin/{applet}"), Path::new("busybox"));
    }
    image.into_inner().unwrap()
}

fn skeleton_image() -> Vec<u8> {
    let mut image = tar::Builder::new(Vec::new());
    for folder in ["usr", "tmp", "run", "var", "etc", "etc/alternatives", "root"] {
        add_folder(&mut image, folder, if folder == "tmp" { 0o1777 } else { 0o755 });
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        if Path::new("/usr").join(link).exists() {
            add_link(&mut image, link, &Path::new("usr").join(link));
        }
    }
    for file in ["etc/passwd", "etc/group", "etc/ld.so.cache"] {
        add_file(&mut image, file, 0o644, &fs::read(Path::new("/").join(file)).unwrap());
    }
    for entry in fs::read_dir("/etc/alternatives").into_iter().flatten() {
        let path = entry.unwrap().path();
        if let Ok(target) = fs::read_link(&path) {
            add_link(&mut image, path.strip_prefix("/").unwrap().to_str().unwrap(), &target);
        }
    }
    let mut tar = image.into_inner().unwrap();
    tar.flush().unwrap();
    tar
}

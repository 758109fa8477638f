//! The parts that a test needs and a machine may lack: without them the test says what it skips; where `CI=true`, that is a failure.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::thread;

/// Something outside this package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The tests run as root.
    Root,
    /// The real restic.
    Restic,
    /// Everything for a private Docker Engine: root, `dockerd`, the `docker` client, busybox as a static program.
    Engine,
    /// PostgreSQL's server programs.
    Postgres,
    /// MariaDB's server programs and its client.
    MariaDb,
    /// Redis, its server and its client.
    Redis,
    /// A program in `PATH`.
    Program(&'static str),
}

impl Part {
    /// What is missing, in words; `None` when the part is there.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "root".to_owned()),
            Self::Restic => program("restic", "BBACKUP_TEST_RESTIC").is_none().then(|| "restic".to_owned()),
            Self::Engine => Self::Root
                .missing()
                .or_else(|| program("dockerd", "BBACKUP_TEST_DOCKERD").is_none().then(|| "dockerd".to_owned()))
                .or_else(|| ["docker", "busybox", "unshare", "setsid", "ip"].into_iter().find_map(|name| Self::Program(name).missing())),
            Self::Postgres => postgres_programs().is_none().then(|| "PostgreSQL's server programs".to_owned()),
            Self::MariaDb => ["mariadbd", "mariadb-install-db", "mariadb"].into_iter().find_map(|name| Self::Program(name).missing()),
            Self::Redis => ["redis-server", "redis-cli"].into_iter().find_map(|name| Self::Program(name).missing()),
            Self::Program(name) => program(name, "").is_none().then(|| format!("`{name}`")),
        }
    }
}

/// Ends the test with a word to standard error unless all parts are there.
macro_rules! needs {
    ($($part:expr),+ $(,)?) => {
        if $crate::support::parts::skipped(&[$($part),+]) {
            return;
        }
    };
}
pub(crate) use needs;

/// From now on a panic is also told where and when it happens, past the test harness's capture: a log of which only a piece is left
/// still shows why a test failed.
fn tell_panics_at_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let name = thread::current().name().unwrap_or("?").to_owned();
            let _ = writeln!(io::stderr(), "PANIC in {name}: {panic}");
            told(panic);
        }));
    });
}

/// Whether a part is missing, which it says past the test harness's capture, so that it is always seen.
pub(crate) fn skipped(parts: &[Part]) -> bool {
    tell_panics_at_once();
    let Some(missing) = parts.iter().find_map(|part| part.missing()) else { return false };
    let name = thread::current().name().unwrap_or("?").to_owned();
    assert!(env::var_os("CI").is_none_or(|value| value != "true"), "{name} needs {missing}, and CI=true lets nothing be skipped");
    let _ = writeln!(io::stderr(), "SKIPPED {name}: needs {missing}");
    true
}

/// Where a program is: what `variable` names, else the first in `PATH` or in the folders of the system's own programs.
pub(crate) fn program(name: &str, variable: &str) -> Option<PathBuf> {
    if let Some(named) = env::var_os(variable).filter(|value| !variable.is_empty() && !value.is_empty()) {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let folders = env::split_paths(&search_path()).collect::<Vec<_>>();
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The `PATH` that every program of the tests gets.
pub(crate) fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

/// The folder with `postgres`, `initdb` and the rest, below `/usr` so that a container can be given it.
pub(crate) fn postgres_programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
    versions.sort();
    versions.into_iter().rfind(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// The folder in which tests make their temporary folders.
pub(crate) fn scratch() -> &'static Path {
    static SCRATCH: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    SCRATCH.get_or_init(|| env::var_os("BBACKUP_TEST_DIR").map_or_else(env::temp_dir, PathBuf::from))
}

/// A new temporary folder that is removed when the value is dropped.
pub(crate) fn temporary_folder(purpose: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&format!("bbackup-{purpose}-")).tempdir_in(scratch()).unwrap()
}

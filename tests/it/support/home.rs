//! A hermetic home for one test: configuration, state, cache, repository and password in a temporary folder, and bbackup run there.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::manifest::Manifest;
use super::parts;
use super::run::{Outcome, Program};

/// The password of every test repository.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// The user that tests of missing rights run as.
pub(crate) const NOBODY: u32 = 65534;

/// A home with everything that bbackup may touch.
#[derive(Debug)]
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// Makes an empty home; no repository is in it yet.
    pub(crate) fn new() -> Self {
        let folder = parts::temporary_folder("home");
        for name in ["home", "config", "data", "state", "cache", "runtime", "output", "tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(folder.path().join("runtime"), Permissions::from_mode(0o700)).unwrap();
        let home = Self { folder };
        fs::write(home.password_file(), format!("{PASSWORD}\n")).unwrap();
        fs::set_permissions(home.password_file(), Permissions::from_mode(0o600)).unwrap();
        home
    }

    /// Makes a home with an empty repository of bbackup's.
    pub(crate) fn with_repository() -> Self {
        let home = Self::new();
        let _ = home.bbackup(["init"]).run().success();
        home
    }

    /// A path in the home's folder.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new folder in the home.
    pub(crate) fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Where the test's repository is.
    pub(crate) fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// The locks in it; what is still being written is none yet.
    pub(crate) fn locks(&self) -> Vec<PathBuf> {
        let mut locks = files_below(&self.repository().join("locks"));
        locks.retain(|path| path.file_name().is_some_and(|name| name.len() == 64));
        locks
    }

    /// The file with its password.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.path("password")
    }

    /// bbackup with the given arguments, for the test's repository (by the environment, so that `--repo` may still say otherwise).
    pub(crate) fn bbackup<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, arguments: I) -> Program {
        self.bare(arguments).env("RESTIC_REPOSITORY", self.repository()).env("RESTIC_PASSWORD_FILE", self.password_file())
    }

    /// bbackup as a new user has it: nothing says where a repository is.
    pub(crate) fn bare<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, arguments: I) -> Program {
        self.program(env!("CARGO_BIN_EXE_bbackup")).args(arguments)
    }

    /// Any program, in this home.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Program {
        Program::new(program, &self.path("home"), &self.path("output"))
            .env("HOME", self.path("home"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .env("TMPDIR", self.path("tmp"))
            // No test finds the Docker Engine of this machine by accident.
            .env("DOCKER_HOST", format!("unix://{}", self.path("no-docker.sock").display()))
    }

    /// bbackup as a user without rights. The program is copied to where that user can reach it, and the home becomes theirs.
    pub(crate) fn bbackup_as_nobody<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, arguments: I) -> Program {
        let program = self.path("bbackup");
        if !program.exists() {
            // By a process of its own: a program that another test starts just then would inherit a file that is open for writing, and what is
            // open for writing cannot be run.
            let copied = std::process::Command::new("cp").args([Path::new(env!("CARGO_BIN_EXE_bbackup")), &program]).status().unwrap();
            assert!(copied.success());
            fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        }
        for name in ["", "home", "config", "data", "state", "cache", "runtime", "tmp", "password"] {
            std::os::unix::fs::chown(self.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
        self.program(program)
            .args(arguments)
            .under(words)
            .env("RESTIC_REPOSITORY", self.repository())
            .env("RESTIC_PASSWORD_FILE", self.password_file())
    }

    /// Backs up one folder with `--json` and returns the summary of its snapshot.
    #[track_caller]
    pub(crate) fn back_up(&self, folder: &Path) -> Summary {
        Summary::of(&self.bbackup(["backup", "--json", "--paths"]).arg(folder).run().success())
    }

    /// Restores what a snapshot has at `folder` into a new folder of the home and returns where it is: what was backed up becomes this folder.
    #[track_caller]
    pub(crate) fn restore(&self, snapshot: &str, folder: &Path, name: &str) -> PathBuf {
        let target = self.path(name);
        let _ = self.bbackup(["restore", snapshot, "--path"]).arg(folder).arg("--to").arg(&target).run().success();
        find_restored(&target, folder)
    }

    /// Asserts that a snapshot restores to just what `folder` holds now.
    #[track_caller]
    pub(crate) fn assert_restores(&self, snapshot: &str, folder: &Path, name: &str) {
        let restored = self.restore(snapshot, folder, name);
        Manifest::of(folder).assert_equals(&Manifest::of(&restored));
    }
}

/// Where a restore below `target` has put what was at `source`: `target/source`.
pub(crate) fn find_restored(target: &Path, source: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(source.as_os_str());
    let nested = PathBuf::from(path);
    if nested.exists() { nested } else { target.to_owned() }
}

/// What bbackup says at the end of a backup of one path.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// The message, with restic's field names.
    pub(crate) message: serde_json::Value,
    /// The new snapshot.
    pub(crate) snapshot: String,
}

impl Summary {
    /// Takes it from the output of `backup --json`.
    #[track_caller]
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let message = outcome.messages("summary").pop().unwrap_or_else(|| panic!("no summary\n{}", outcome.describe()));
        let snapshot = message["snapshot_id"].as_str().unwrap_or_else(|| panic!("no snapshot_id\n{}", outcome.describe())).to_owned();
        Self { message, snapshot }
    }

    /// One of its numbers.
    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.message[name].as_u64().unwrap_or_else(|| panic!("no number `{name}` in {}", self.message))
    }
}

/// Every file below a folder, sorted. What vanishes meanwhile was never there.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut waiting = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                waiting.extend(fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().path()));
            }
            Ok(_) => files.push(path),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}: {error}", path.display()),
        }
    }
    files.sort_by(|left, right| left.as_os_str().as_bytes().cmp(right.as_os_str().as_bytes()));
    files
}

/// Bytes of all files below a folder.
pub(crate) fn size_of(folder: &Path) -> u64 {
    // What vanishes meanwhile has no size.
    files_below(folder).iter().filter_map(|path| fs::symlink_metadata(path).ok()).map(|metadata| metadata.len()).sum()
}

/// Whether systemd would run the unit in `assets/` that repairs at boot, if this home's state folder were the machine's.
pub(crate) fn boot_unit_is_wanted(home: &Home) -> bool {
    let unit = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/bbackup-recover.service")).unwrap();
    let state = home.path("state").join("bbackup").display().to_string();
    let here = |line: &str| line.replace("/var/lib/bbackup/state", &state);
    let conditions: Vec<String> = unit.lines().filter(|line| line.starts_with("Condition")).map(here).collect();
    assert!(!conditions.is_empty() && conditions.iter().all(|line| line.contains(&state)), "{conditions:?}");
    let analyze = home.program(parts::program("systemd-analyze", "").unwrap());
    analyze.arg("condition").args(&conditions).run().code() == Some(0)
}

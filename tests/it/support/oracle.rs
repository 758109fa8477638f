//! The real restic, in the home of a test: what it says of our repositories is what counts.
//!
//! `BBACKUP_TEST_RESTIC` names another program than the one in `PATH`.

use std::path::{Path, PathBuf};

use super::home::Home;
use super::parts;
use super::run::Program;

/// The real restic over one repository.
pub(crate) struct Restic<'a> {
    home: &'a Home,
    program: PathBuf,
    repository: PathBuf,
}

impl<'a> Restic<'a> {
    /// restic over the home's repository.
    pub(crate) fn new(home: &'a Home) -> Self {
        Self { home, program: parts::program("restic", "BBACKUP_TEST_RESTIC").unwrap(), repository: home.repository() }
    }

    /// restic over another repository with the same password.
    pub(crate) fn at(home: &'a Home, repository: &Path) -> Self {
        Self { repository: repository.to_owned(), ..Self::new(home) }
    }

    /// A call with its own cache folder and nothing of the developer's.
    pub(crate) fn call<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, arguments: I) -> Program {
        self.home
            .program(&self.program)
            .env("RESTIC_REPOSITORY", &self.repository)
            .env("RESTIC_PASSWORD_FILE", self.home.password_file())
            .env("RESTIC_CACHE_DIR", self.home.path("restic-cache"))
            .args(arguments)
    }

    /// Its version, to say which oracle has spoken.
    pub(crate) fn version(&self) -> (u32, u32) {
        let text = self.call(["version"]).run().success().text();
        let mut numbers = text.split_whitespace().nth(1).unwrap().split('.').map(|number| number.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// Whether it can wait for a lock.
    pub(crate) fn knows_retry_lock(&self) -> bool {
        self.version() >= (0, 16)
    }

    /// Makes a repository of the given format version.
    pub(crate) fn init(&self, version: u32) {
        let _ = self.call(["init", "--repository-version", &version.to_string()]).run().success();
    }

    /// Asserts that every byte of the repository is as it should be. A warning fails it too.
    #[track_caller]
    pub(crate) fn check(&self) {
        let outcome = self.call(["check", "--read-data", "--no-cache"]).run();
        assert_eq!(outcome.code(), Some(0), "restic {:?} finds damage\n{}", self.version(), outcome.describe());
        assert!(outcome.text().contains("no errors were found"), "{}", outcome.describe());
    }

    /// Backs up one folder as a real user of restic does.
    #[track_caller]
    pub(crate) fn back_up(&self, folder: &Path) {
        let _ = self.call(["backup", "--quiet"]).arg(folder).run().success();
    }

    /// Restores a snapshot; `target/source` is what was at `source`.
    #[track_caller]
    pub(crate) fn restore(&self, snapshot: &str, target: &Path) {
        let _ = self.call(["restore", snapshot, "--target"]).arg(target).run().success();
    }

    /// All snapshots as restic lists them.
    #[track_caller]
    pub(crate) fn snapshots(&self) -> Vec<serde_json::Value> {
        let outcome = self.call(["snapshots", "--json", "--no-lock"]).run().success();
        serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}\n{}", outcome.describe()))
    }
}

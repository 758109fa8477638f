//! Repositories for tests: quickly made empty ones, and ones made by the real restic.
//!
//! Only compiled for tests; what is tested stands with the code that it is about.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::repository::backend::local::LocalBackend;

/// The password of all of them.
pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) fn password() -> Secret<String> {
    Secret::new(PASSWORD.to_owned())
}

/// An open repository without any key file, which spares the time that scrypt takes.
pub(crate) fn empty_repository(version: u32) -> (TempDir, Open) {
    let folder = tempfile::tempdir().unwrap();
    let open = over(Arc::new(LocalBackend::new(folder.path())), version);
    (folder, open)
}

/// As [`empty_repository`], anywhere.
pub(crate) fn over(backend: Arc<dyn Backend>, version: u32) -> Open {
    backend.create().unwrap();
    let config = ConfigFile {
        version,
        id: Id::of(b"a repository").to_string(),
        chunker_polynomial: Polynomial(0x003D_A335_8B4D_C173),
        more: serde_json::Map::new(),
    };
    Open::new(backend, MasterKey::generate().unwrap(), config, None)
}

/// The same repository as others see it who reach it by another way.
pub(crate) fn by_way_of(open: &Open, backend: Arc<dyn Backend>) -> Open {
    Open::new(backend, open.key().clone(), open.config().clone(), None)
}

pub(crate) fn closed(folder: &Path) -> Closed {
    Closed::new(Arc::new(LocalBackend::new(folder)))
}

/// Runs restic; gives what it printed. It must succeed.
pub(crate) fn restic(repository: &Path, arguments: &[&str]) -> String {
    let output = restic_command(repository, arguments).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "restic {arguments:?}: {out}{error}");
    out.into_owned()
}

/// restic as tests call it: without a cache, without asking.
pub(crate) fn restic_command(repository: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("restic");
    command.env("RESTIC_PASSWORD", PASSWORD).env_remove("RESTIC_REPOSITORY").arg("--no-cache").arg("-r").arg(repository);
    command.args(arguments);
    command
}

/// Whether there is a restic to compare with. Where all tests must run (`CI=true`), its absence is a failure.
pub(crate) fn has_restic() -> bool {
    let found = Command::new("restic").arg("version").output().is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "restic is not on PATH");
        eprintln!("skipped: restic is not on PATH");
    }
    found
}

//! Repositories for tests: quickly made empty ones, and ones made by the real restic.
//!
//! Only compiled for tests; what is tested stands with the code that it is about.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::platform::secret::Secret;
use crate::repository::backend::local::LocalBackend;
use crate::repository::restic::chunker::Polynomial;

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

/// The documents of `tests/corpus` for one parser, which each of its tests reads first.
pub(crate) fn corpus(kind: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 1);
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A fixed number of cases; what fails belongs into the corpus.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

/// What a parser may meet: arbitrary bytes, and documents of the corpus with changes.
pub(crate) fn documents(kind: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let pieces: [&[u8]; 16] = [
        b"null",
        b"0",
        b"-1",
        b"4294967295",
        b"18446744073709551616",
        b"1e400",
        b"[",
        b"]",
        b"{",
        b"}",
        b"\"",
        b"\\u0000",
        b"\\ud800",
        b",",
        b"\xff",
        b"\"\"",
    ];
    let piece = prop_oneof![prop::sample::select(pieces.map(<[u8]>::to_vec).to_vec()), prop::collection::vec(any::<u8>(), 0..4)];
    let change = (any::<prop::sample::Index>(), 0..12_usize, piece);
    let changed = (prop::sample::select(corpus(kind)), prop::collection::vec(change, 0..5)).prop_map(|(mut json, changes)| {
        for (at, length, piece) in changes {
            let at = at.index(json.len() + 1);
            let end = (at + length).min(json.len());
            json.splice(at..end, piece);
        }
        json
    });
    prop_oneof![4 => changed, 1 => prop::collection::vec(any::<u8>(), 0..80)]
}

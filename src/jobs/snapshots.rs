//! Looking at snapshots: which are meant, what is in them, and getting a file or a tar archive out.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::error::JobError;
use super::select::{self, Chosen, Item, Narrowing, Request, SelectError};
use super::stored;
use crate::config::suggest;
use crate::model::application::{ApplicationDocument, DOCKER_ROOT, DOCUMENT_NAME, segment};
use crate::model::progress::Progress;
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::contract::{ReadSummary, Repository, RepositoryError, Snapshot, SnapshotId};
use crate::targets::compressed::Zstd;
use crate::targets::tar::{Missing, TarSink};

/// Chooses the snapshots that `word` means in a repository.
///
/// # Errors
/// Nothing, or more than one thing, is meant; or the repository cannot be read.
pub fn choose(repository: &dyn Repository, word: &str, narrowing: &Narrowing, request: &Request<'_>) -> Result<Chosen, JobError> {
    let snapshots = repository.snapshots()?;
    let holds = |snapshot: &Snapshot, item: &Item| match stored::find(repository, snapshot, item) {
        // Somebody has forgotten it since it was listed.
        Err(JobError::Repository(RepositoryError::NoSnapshot { .. })) => Ok(false),
        found => found.map(|found| found.is_some()),
    };
    let chosen = select::choose(&snapshots, word, narrowing, request, holds);
    match chosen {
        Err(JobError::Select(SelectError::NotHeld { item, partial, .. })) => {
            let asked = request.items.iter().find(|one| one.label() == item);
            let meant = asked.map_or_else(String::new, |asked| match asked {
                Item::Place(path) => stored::meant(repository, snapshots.iter().filter(|one| narrowing.accepts(one)), path),
                asked => meant(repository, &snapshots, asked),
            });
            Err(SelectError::NotHeld { item, partial, meant }.into())
        }
        other => other,
    }
}

/// What a snapshot says of its application; none where it says nothing that this version understands.
pub(super) fn document(
    repository: &dyn Repository,
    snapshot: &SnapshotId,
    application: &str,
) -> Result<Option<ApplicationDocument>, RepositoryError> {
    let mut bytes = Vec::new();
    match repository.dump(snapshot, format!("{DOCKER_ROOT}/{}/{DOCUMENT_NAME}", segment(application)).as_bytes(), &mut bytes) {
        Ok(()) => Ok(ApplicationDocument::from_json(&bytes).ok()),
        Err(RepositoryError::NoPath { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name in the newest snapshots that a wrong name is closest to, as the end of a sentence.
fn meant(repository: &dyn Repository, snapshots: &[Snapshot], asked: &Item) -> String {
    let Some((wrong, folder)) = asked.name_and_folder() else { return String::new() };
    let mut names = Vec::new();
    // The newest come last. Enough of them to have seen every application of a host, few enough to be quick.
    let recent = snapshots.iter().rev().filter_map(|one| Some((one.application()?, one))).take(100);
    for (application, snapshot) in recent {
        let path = format!("{DOCKER_ROOT}/{application}/{folder}");
        // A snapshot that cannot be listed has nothing to suggest.
        let _ = repository.list(&snapshot.id, path.as_bytes(), false, &mut |listed| {
            let name = listed.path.strip_prefix(path.as_bytes()).and_then(|rest| rest.strip_prefix(b"/"));
            if let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()) {
                names.push(name.strip_suffix(".json").unwrap_or(name).to_owned());
            }
            ControlFlow::Continue(())
        });
    }
    // What it is called is not what is wrong.
    names.retain(|name| name != wrong);
    printable(suggest::sentence(wrong, names.iter().map(String::as_str)).as_bytes())
}

/// Chooses the one snapshot that `word` means.
///
/// # Errors
/// As [`choose`]; also when several are meant.
pub fn choose_one(
    repository: &dyn Repository,
    word: &str,
    narrowing: &Narrowing,
    request: &Request<'_>,
) -> Result<(Snapshot, Vec<String>), JobError> {
    let mut chosen = choose(repository, word, narrowing, request)?;
    match (chosen.snapshots.len(), chosen.snapshots.pop()) {
        (1, Some(one)) => Ok((one, [chosen.notes, chosen.warnings].concat())),
        (count, _) => Err(SelectError::NotOne { wanted: printable(word.as_bytes()), count }.into()),
    }
}

/// Whether a snapshot has something at a path.
pub(super) fn holds(repository: &dyn Repository, snapshot: &SnapshotId, path: &[u8]) -> Result<bool, JobError> {
    match repository.list(snapshot, path, false, &mut |_| ControlFlow::Break(())) {
        Ok(_) => Ok(true),
        Err(RepositoryError::NoPath { .. } | RepositoryError::WrongKind { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is not in a tar archive, or not whole.
#[derive(Debug, Default)]
pub struct NotDumped {
    /// What such an archive cannot hold, one sentence each.
    pub left_out: Vec<String>,
    /// What is lost in the repository.
    pub lost: ReadSummary,
}

/// Writes what is at `path` as a tar archive.
///
/// # Errors
/// There is no such path, or it cannot be read or written; then the archive has no end mark.
pub fn dump_tar(
    repository: &dyn Repository,
    snapshot: &SnapshotId,
    path: &[u8],
    out: &mut dyn Write,
    control: &Control,
    progress: Arc<dyn Progress>,
) -> Result<NotDumped, JobError> {
    let top = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut sink = TarSink::new(out, top);
    let lost = repository.stream(snapshot, path, &mut sink, control, progress)?;
    let left_out = sink.left_out().iter().map(|left| match &left.what {
        Missing::Socket => format!("{}: sockets are not in a tar archive", printable(&left.path)),
        Missing::Xattr(name) => format!("{}: the attribute {} is not in a tar archive", printable(&left.path), printable(name)),
    });
    let left_out = left_out.collect();
    sink.into_inner().map_err(|source| RepositoryError::Target { path: "the tar archive".to_owned(), source })?;
    Ok(NotDumped { left_out, lost })
}

/// As [`dump_tar`], compressed by zstd.
///
/// # Errors
/// The same; then the compressed stream has no end either.
pub fn dump_tar_zst(
    repository: &dyn Repository,
    snapshot: &SnapshotId,
    path: &[u8],
    out: &mut dyn Write,
    control: &Control,
    progress: Arc<dyn Progress>,
) -> Result<NotDumped, JobError> {
    let failed = |source| RepositoryError::Target { path: "the tar archive".to_owned(), source };
    let mut compressed = Zstd::new(out).map_err(failed)?;
    let dumped = dump_tar(repository, snapshot, path, &mut compressed, control, progress)?;
    compressed.finish().map_err(failed)?;
    Ok(dumped)
}

//! What plain files, written to their own place, do for a path that a restore to the Engine had left half restored: all of it is written again.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::files::real;
use super::journal;
use super::refill::names_below;
use crate::docker::Engine;
use crate::docker::mountpoint::same_root;
use crate::jobs::backup::sentence;
use crate::jobs::engine::connect;
use crate::jobs::error::JobError;
use crate::jobs::request::JobContext;
use crate::jobs::results::RestoredApplication;
use crate::jobs::snapshots::holds;
use crate::model::text::printable;
use crate::repository::contract::{Repository, RestoreRequest, SnapshotId};

/// How long is waited for another start of bbackup that is putting right what a restore has left.
const HELD_LIMIT: Duration = Duration::from_secs(10);

/// Records which paths are whole by this restore, and starts what has waited for them.
pub(super) async fn written(
    context: &JobContext,
    repository: &dyn Repository,
    requests: &[RestoreRequest],
    result: &mut RestoredApplication,
) {
    if requests.is_empty() || !journal::any(&context.directories.state) {
        return;
    }
    match record(context, repository, requests).await {
        Ok(told) => result.warnings.extend(told),
        Err(error) => {
            let reason = sentence(&error);
            result.warnings.push(format!("what a restore had left half restored may still count as that: {reason}"));
        }
    }
}

/// Gives what could not be done.
async fn record(context: &JobContext, repository: &dyn Repository, requests: &[RestoreRequest]) -> Result<Vec<String>, JobError> {
    let state = &context.directories.state;
    let engine = connect(&context.config.docker).await?;
    let (whole, mut told) = whole(&engine, state, repository, requests).await?;
    if whole.is_empty() {
        return Ok(told);
    }
    let held = journal::restored(engine.id(), state, whole.iter().map(String::as_str).collect(), HELD_LIMIT).await?;
    told.extend(held.iter().map(|path| {
        let path = printable(path.as_bytes());
        format!("{path} is whole, but another run that is at work still takes it for half restored: restore it once more")
    }));
    told.extend(journal::clean(&engine, state).await?.failed);
    Ok(told)
}

/// The paths that were half restored, and of which all is written now; and of which others this is not so, for people.
async fn whole(
    engine: &Engine,
    state: &Path,
    repository: &dyn Repository,
    requests: &[RestoreRequest],
) -> Result<(Vec<String>, Vec<String>), JobError> {
    let (mut whole, mut told) = (Vec::new(), Vec::new());
    if !same_root(engine).await {
        return Ok((whole, told));
    }
    let mut half = journal::half_restored(state, engine.id())?;
    half.extend(journal::short(state, engine.id())?);
    for path in half.into_keys().filter(|place| place.starts_with('/')) {
        for request in requests {
            let Some(stored) = stored(request, Path::new(&path)) else { continue };
            if !holds(repository, &request.snapshot, &stored)? {
                continue;
            }
            match added(repository, &request.snapshot, &stored, &real(Path::new(&path))) {
                Ok(None) => whole.push(path.clone()),
                Err(reason) => told.push(format!("{} still counts as half restored: {reason}", printable(path.as_bytes()))),
                Ok(Some(entry)) => told.push(format!(
                    "{} still counts as half restored: {} is there, which snapshot {} has not, and may be of the restore that was interrupted; \
                     remove what is not wanted and restore it once more, or restore its application with --in-place",
                    printable(path.as_bytes()),
                    printable(&entry),
                    request.snapshot.short()
                )),
            }
            break;
        }
    }
    Ok((whole, told))
}

/// Where in its snapshot a path is that is what was written, or lies in it on the same disk.
fn stored(request: &RestoreRequest, path: &Path) -> Option<Vec<u8>> {
    let (path, written) = (real(path), real(&request.destination));
    let inside = path.strip_prefix(&written).ok()?;
    if inside.as_os_str().is_empty() {
        return Some(request.path.clone());
    }
    let disk = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    (disk(&path).is_some() && disk(&path) == disk(&written))
        .then(|| [request.path.as_slice(), b"/", inside.as_os_str().as_bytes()].concat())
}

/// Something that is at a path, on its disk, and not in the snapshot.
fn added(repository: &dyn Repository, snapshot: &SnapshotId, stored: &[u8], path: &Path) -> Result<Option<Vec<u8>>, String> {
    let mut known = BTreeSet::new();
    names_below(repository, snapshot, stored, &mut |name| _ = known.insert(name))?;
    let Ok(root) = std::fs::symlink_metadata(path) else { return Ok(None) };
    let mut folders = if root.is_dir() { vec![Vec::new()] } else { Vec::new() };
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(path.join(OsStr::from_bytes(&folder))) else { return Ok(Some(folder)) };
        for entry in entries {
            let Ok(entry) = entry else { return Ok(Some(folder)) };
            let name = entry.file_name();
            let below = if folder.is_empty() { name.as_bytes().to_vec() } else { [&folder, &b"/"[..], name.as_bytes()].concat() };
            if !known.contains(&below) {
                return Ok(Some(below));
            }
            if entry.metadata().is_ok_and(|found| found.is_dir() && found.dev() == root.dev()) {
                folders.push(below);
            }
        }
    }
    Ok(None)
}

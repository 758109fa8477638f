//! What plain files, written to their own place, do for a path that a restore to the Engine had left half restored: all of it is written again.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::files::real;
use super::journal;
use crate::docker::Engine;
use crate::docker::mountpoint::same_root;
use crate::jobs::backup::sentence;
use crate::jobs::engine::connect;
use crate::jobs::error::JobError;
use crate::jobs::request::JobContext;
use crate::jobs::results::RestoredApplication;
use crate::jobs::snapshots::holds;
use crate::model::text::printable;
use crate::repository::contract::{Repository, RestoreRequest};

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
    let whole = whole(&engine, state, repository, requests).await?;
    if whole.is_empty() {
        return Ok(Vec::new());
    }
    let held = journal::restored(engine.id(), state, whole.iter().map(String::as_str).collect(), HELD_LIMIT).await?;
    let mut told: Vec<String> = held
        .iter()
        .map(|path| {
            let path = printable(path.as_bytes());
            format!("{path} is whole, but another run that is at work still takes it for half restored: restore it once more")
        })
        .collect();
    told.extend(journal::clean(&engine, state).await?.failed);
    Ok(told)
}

/// The paths that were half restored, and of which all is written now.
async fn whole(engine: &Engine, state: &Path, repository: &dyn Repository, requests: &[RestoreRequest]) -> Result<Vec<String>, JobError> {
    let mut whole = Vec::new();
    if !same_root(engine).await {
        return Ok(whole);
    }
    let mut half = journal::half_restored(state, engine.id())?;
    half.extend(journal::short(state, engine.id())?);
    for path in half.into_keys().filter(|place| place.starts_with('/')) {
        for request in requests {
            if is_in(repository, request, Path::new(&path))? {
                whole.push(path.clone());
                break;
            }
        }
    }
    Ok(whole)
}

/// Whether a path is what was written, or lies in it, on the same disk, and was in the snapshot.
fn is_in(repository: &dyn Repository, request: &RestoreRequest, path: &Path) -> Result<bool, JobError> {
    let (path, written) = (real(path), real(&request.destination));
    let Ok(inside) = path.strip_prefix(&written) else { return Ok(false) };
    if inside.as_os_str().is_empty() {
        return Ok(true);
    }
    let disk = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    let stored = [request.path.as_slice(), b"/", inside.as_os_str().as_bytes()].concat();
    Ok(disk(&path).is_some() && disk(&path) == disk(&written) && holds(repository, &request.snapshot, &stored)?)
}

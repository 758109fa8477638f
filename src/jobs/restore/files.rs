//! Restoring to the file system: paths to their own place, or anything as plain files below a folder.
//!
//! Writing is the engine's business; here is decided where it goes, and that nothing is overwritten unasked.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{conflict, step, untouched};
use crate::jobs::backup::sentence;
use crate::jobs::error::JobError;
use crate::jobs::request::{JobContext, RestoreJob};
use crate::jobs::results::{RestorePreview, RestoredApplication};
use crate::jobs::select::Item;
use crate::model::progress::{Event, Progress, Silent};
use crate::model::size::ByteSize;
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::platform::{clock, host};
use crate::repository::contract::{Repository, RepositoryError, RestoreRequest, Snapshot};

/// The paths of one snapshot and where they go.
pub(super) struct FileRestore {
    snapshot: Snapshot,
    name: String,
    requests: Vec<RestoreRequest>,
}

/// Plans the restore of snapshots to the file system.
pub(super) fn plan(
    context: &JobContext,
    repository: &dyn Repository,
    snapshots: &[Snapshot],
    job: &RestoreJob,
    control: &Control,
    preview: &mut RestorePreview,
) -> Result<Vec<FileRestore>, JobError> {
    let mut restores = Vec::new();
    for snapshot in snapshots {
        let wanted = wanted(snapshot, job);
        let mut requests = Vec::new();
        for path in wanted {
            let destination = match &job.to {
                Some(folder) => below(folder, &path),
                None => PathBuf::from(OsStr::from_bytes(&path)),
            };
            let request = RestoreRequest {
                snapshot: snapshot.id.clone(),
                path: path.clone(),
                destination,
                owners: host::uid() == 0,
                delete_extra: false,
                include: Vec::new(),
                dry_run: job.dry_run,
            };
            check(context, job, &request, preview);
            // What it will come to is counted without writing; for a plan that stands still anyway it is not worth the time.
            if preview.conflicts.is_empty() {
                let counted = RestoreRequest { dry_run: true, ..request.clone() };
                let summary = repository.restore(&counted, control, Arc::new(Silent))?;
                let detail = format!("{} entries, {}", summary.entries, ByteSize(summary.total_bytes));
                let name = format!("{} to {}", printable(&path), request.destination.display());
                preview.steps.push(step("restore files", name, Some(detail)));
            }
            requests.push(request);
        }
        if !requests.is_empty() {
            let name = snapshot.application().map_or_else(|| snapshot.paths.join(", "), str::to_owned);
            restores.push(FileRestore { snapshot: snapshot.clone(), name, requests });
        }
    }
    Ok(restores)
}

/// The paths of a snapshot that are restored.
fn wanted(snapshot: &Snapshot, job: &RestoreJob) -> Vec<Vec<u8>> {
    let selection = &job.selection;
    if selection.is_everything() {
        return snapshot.paths.iter().map(|path| path.clone().into_bytes()).collect();
    }
    let named = |names: &[String], item: fn(String) -> Item| names.iter().cloned().map(item).collect::<Vec<_>>();
    let items = named(&selection.containers, Item::Container)
        .into_iter()
        .chain(named(&selection.volumes, Item::Volume))
        .chain(named(&selection.networks, Item::Network))
        .chain(selection.paths.iter().cloned().map(Item::Path));
    items.filter_map(|item| item.path_in(snapshot)).collect()
}

/// Nothing that is there is overwritten unless that was asked for, and never anything of bbackup's own.
fn check(context: &JobContext, job: &RestoreJob, request: &RestoreRequest, preview: &mut RestorePreview) {
    let destination = &request.destination;
    let own = [&context.repository_path, &context.directories.state];
    if own.iter().any(|path| destination.starts_with(path) || path.starts_with(destination) && job.to.is_none()) {
        preview.conflicts.push(conflict(
            format!("path {}", destination.display()),
            format!("{} is, or holds, bbackup's own repository or state", destination.display()),
            "Restore to a folder of its own with --to DIR.",
        ));
    } else if job.to.is_none() && !job.in_place && std::fs::symlink_metadata(destination).is_ok_and(|found| !is_empty(destination, &found))
    {
        preview.conflicts.push(conflict(
            format!("path {}", destination.display()),
            format!("{} exists and would be overwritten", destination.display()),
            "Restore to another folder with --to DIR, or allow it with --in-place.",
        ));
    }
}

fn is_empty(path: &Path, found: &std::fs::Metadata) -> bool {
    found.is_dir() && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// An absolute path of a snapshot below a folder. `..` cannot be in it: paths of snapshots are clean, and the engine refuses
/// names that are not.
fn below(folder: &Path, path: &[u8]) -> PathBuf {
    let mut destination = folder.to_owned();
    for name in path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"." | b"..")) {
        destination.push(OsStr::from_bytes(name));
    }
    destination
}

/// Restores the paths of one snapshot.
pub(super) fn execute(
    repository: &dyn Repository,
    restore: &FileRestore,
    control: &Control,
    progress: &Arc<dyn Progress>,
) -> RestoredApplication {
    let started = clock::monotonic();
    let mut result = untouched(restore.name.clone(), &restore.snapshot);
    for request in &restore.requests {
        let label = format!("path {}", printable(&request.path));
        progress.event(Event::ItemStarted { label: &label });
        let restored = repository.restore(request, control, Arc::clone(progress));
        progress.event(Event::ItemFinished { label: &label });
        match restored {
            Ok(summary) => {
                result.files_restored += summary.files_restored;
                result.files_unchanged += summary.files_unchanged;
                result.bytes_restored += summary.bytes_restored;
                result.problems.extend(summary.problems);
                result.steps.push(step("restore files", request.destination.display().to_string(), None));
            }
            Err(error) => {
                let what = format!("{} is restored in part only", request.destination.display());
                result.failure = Some(match error {
                    RepositoryError::Cancelled => format!("it was cancelled: {what}; the same restore again completes it"),
                    error => format!("{}: {what}", sentence(&error)),
                });
                break;
            }
        }
    }
    result.duration = started.elapsed();
    result
}

//! Restoring to the file system: paths to their own place, or anything as plain files below a folder.
//!
//! Writing is the engine's business; here is decided where it goes, and that nothing is overwritten unasked.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::in_place::save_paths;
use super::mounted::with_what_it_mounts;
use super::places::Places;
use super::{conflict, marked, step, untouched};
use crate::jobs::backup::sentence;
use crate::jobs::error::JobError;
use crate::jobs::request::{JobContext, RestoreJob, RestoreSelection};
use crate::jobs::results::{Conflict, RestorePreview, RestoredApplication};
use crate::jobs::select::{Item, is_below};
use crate::jobs::snapshots::holds;
use crate::jobs::stored;
use crate::model::progress::{Event, FileOutcome, Progress, Silent};
use crate::model::size::ByteSize;
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::platform::{clock, host};
use crate::repository::contract::{Repository, RepositoryError, RestoreRequest, Snapshot, TAG_BEFORE_RESTORE};

/// The paths of one snapshot and where they go.
pub(super) struct FileRestore {
    snapshot: Snapshot,
    name: String,
    requests: Vec<RestoreRequest>,
    /// What is there and will be overwritten, and is saved before.
    save_first: Vec<PathBuf>,
    places: Places,
}

/// What a snapshot is called in results.
fn name(snapshot: &Snapshot) -> String {
    match snapshot.application() {
        Some(application) => application.to_owned(),
        None if snapshot.paths.is_empty() => "/".to_owned(),
        None => snapshot.paths.join(", "),
    }
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
    let wanted = wanted(repository, snapshots, job, preview)?;
    for (snapshot, paths) in snapshots.iter().zip(wanted) {
        let name = name(snapshot);
        if snapshot.is_partial() && !paths.is_empty() {
            let name = printable(name.as_bytes());
            preview.warnings.push(format!("the snapshot {} of {name} is partial: some of its items were not saved", snapshot.id.short()));
        }
        let (mut requests, mut save_first) = (Vec::new(), Vec::new());
        for Asked { path, named } in paths {
            let destination = match &job.to {
                Some(folder) => below(folder, &named),
                None => PathBuf::from(OsStr::from_bytes(&named)),
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
            if job.to.is_some() && overwrites_our_own(context, repository, &request)? {
                preview.conflicts.push(our_own(&request.destination));
            }
            if job.to.is_none() && job.in_place && job.save_first && holds_something(&request.destination) {
                if preview.conflicts.is_empty() {
                    let name = request.destination.display().to_string();
                    preview.steps.push(step("save first", name, Some(format!("as a snapshot with the tag {TAG_BEFORE_RESTORE}"))));
                }
                save_first.push(request.destination.clone());
            }
            // What it will come to is counted without writing; for a plan that stands still anyway it is not worth the time.
            if preview.conflicts.is_empty() {
                let counted = RestoreRequest { dry_run: true, ..request.clone() };
                let summary = repository.restore(&counted, control, Arc::new(Silent))?;
                let entries = if summary.entries == 1 { "1 entry".to_owned() } else { format!("{} entries", summary.entries) };
                let detail = format!("{entries}, {}", ByteSize(summary.total_bytes));
                let name = format!("{} to {}", printable(&path), request.destination.display());
                preview.steps.push(step("restore files", name, Some(detail)));
            }
            requests.push(request);
        }
        if !requests.is_empty() {
            restores.push(FileRestore {
                snapshot: snapshot.clone(),
                name,
                requests,
                save_first,
                places: Places::of(repository, snapshot)?,
            });
        }
    }
    Ok(restores)
}

/// Something that is restored.
#[derive(Clone)]
struct Asked {
    /// Where it is in its snapshot.
    path: Vec<u8>,
    /// The path by which it was named, under which it comes to lie.
    named: Vec<u8>,
}

impl Asked {
    fn as_it_lies(path: Vec<u8>) -> Self {
        Self { named: path.clone(), path }
    }
}

/// What of each snapshot (they come oldest first) is restored. What two snapshots of the same thing hold comes from
/// the newer one alone.
fn wanted(
    repository: &dyn Repository,
    snapshots: &[Snapshot],
    job: &RestoreJob,
    preview: &mut RestorePreview,
) -> Result<Vec<Vec<Asked>>, JobError> {
    if job.selection.is_everything() {
        let everything = |snapshot| Ok(everything(repository, snapshot, job, preview)?.into_iter().map(Asked::as_it_lies).collect());
        return snapshots.iter().map(everything).collect();
    }
    let mut wanted = vec![Vec::new(); snapshots.len()];
    for item in items(&job.selection) {
        let (mut found, mut places) = (BTreeSet::new(), Vec::new());
        for (snapshot, wanted) in snapshots.iter().zip(&mut wanted).rev() {
            let whose = (&snapshot.host, snapshot.application().map_or(snapshot.paths.as_slice(), |_| &[]), snapshot.application());
            if found.contains(&whose) {
                continue;
            }
            let Some(path) = stored::find(repository, snapshot, &item)? else { continue };
            found.insert(whose);
            places.push((snapshot, path.clone()));
            if job.to.is_none() {
                tell_unplaced(&Places::of(repository, snapshot)?, snapshot, &path, preview);
            }
            let all = match &item {
                Item::Place(named) => vec![Asked { path, named: named.clone() }],
                _ => with_what_it_mounts(repository, snapshot, &item, path, preview)?.into_iter().map(Asked::as_it_lies).collect(),
            };
            for one in all {
                let has = |known: &Asked| is_below(&one.path, &known.path) && is_below(&one.named, &known.named);
                if !wanted.iter().any(has) {
                    wanted.push(one);
                }
            }
        }
        if let Item::Place(named) = &item {
            stored::unless_mixed(named, &places)?;
        }
        // Where applications go to the Engine, the item may be in one of them.
        if found.is_empty() && snapshots.len() == job.snapshots.len() {
            return Err(stored::nowhere(repository, snapshots, &item));
        }
    }
    Ok(wanted)
}

/// All that a snapshot holds: below a folder its whole tree, and in place what has a place.
fn everything(
    repository: &dyn Repository,
    snapshot: &Snapshot,
    job: &RestoreJob,
    preview: &mut RestorePreview,
) -> Result<Vec<Vec<u8>>, JobError> {
    let places = Places::of(repository, snapshot)?;
    // Of a restic snapshot, what was named relative to a folder is in the tree under another name.
    if snapshot.is_ours() || job.to.is_none() && places.unplaced(b"/").is_none() {
        for path in places.missing() {
            preview.warnings.push(format!("{} is not in snapshot {}", printable(path.as_bytes()), snapshot.id.short()));
        }
    }
    Ok(match &job.to {
        Some(_) if places.is_empty() => Vec::new(),
        Some(_) => vec![b"/".to_vec()],
        None => {
            tell_unplaced(&places, snapshot, b"/", preview);
            places.known().to_vec()
        }
    })
}

/// What of a path has no place on the host stands in the way of a restore in place: nobody knows where it would go.
fn tell_unplaced(places: &Places, snapshot: &Snapshot, path: &[u8], preview: &mut RestorePreview) {
    let Some(unplaced) = places.unplaced(path) else { return };
    let mut hint = "Write it to a folder with --to DIR.".to_owned();
    if let Some(known) = places.known().first().filter(|known| path == b"/" && known.as_slice() != path) {
        hint = format!("Write everything to a folder with --to DIR, or bring back what has a place, as with --path {}.", printable(known));
    }
    let id = snapshot.id.short();
    preview.conflicts.push(conflict(
        format!("path {}", printable(path)),
        format!("snapshot {id} does not say where on the host this was: {unplaced} (it was named relative to another folder)"),
        hint,
    ));
}

fn items(selection: &RestoreSelection) -> Vec<Item> {
    let named = |names: &[String], item: fn(String) -> Item| names.iter().cloned().map(item).collect::<Vec<_>>();
    let mut items = named(&selection.containers, Item::Container);
    items.extend(named(&selection.volumes, Item::Volume));
    items.extend(named(&selection.networks, Item::Network));
    items.extend(selection.paths.iter().cloned().map(Item::Place));
    items
}

/// Nothing that is there is overwritten unless that was asked for, and never anything of bbackup's own.
fn check(context: &JobContext, job: &RestoreJob, request: &RestoreRequest, preview: &mut RestorePreview) {
    let destination = &request.destination;
    let place = real(destination);
    if own(context).iter().any(|path| place.starts_with(path) || path.starts_with(&place) && job.to.is_none()) {
        preview.conflicts.push(our_own(destination));
    } else if job.to.is_none() && !job.in_place && holds_something(destination) {
        preview.conflicts.push(conflict(
            format!("path {}", destination.display()),
            format!("{} exists and would be overwritten", destination.display()),
            "Restore to another folder with --to DIR, or allow it with --in-place.",
        ));
    }
}

/// bbackup's own folders.
fn own(context: &JobContext) -> [PathBuf; 3] {
    let directories = &context.directories;
    [&context.repository_path, &directories.state, &directories.cache].map(|path| real(path))
}

fn our_own(destination: &Path) -> Conflict {
    conflict(
        format!("path {}", destination.display()),
        format!("{} is, or holds, bbackup's own repository or state", destination.display()),
        "Restore to a folder of its own with --to DIR.",
    )
}

/// Whether something of the snapshot would come to lie in what is bbackup's own below the destination.
fn overwrites_our_own(context: &JobContext, repository: &dyn Repository, request: &RestoreRequest) -> Result<bool, JobError> {
    let place = real(&request.destination);
    for own in own(context) {
        let Ok(inside) = own.strip_prefix(&place) else { continue };
        let path = [&request.path, &b"/"[..], inside.as_os_str().as_bytes()].concat();
        if own != place && holds(repository, &request.snapshot, &path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether there is anything but an empty folder.
fn holds_something(path: &Path) -> bool {
    let is_empty = |found: &std::fs::Metadata| found.is_dir() && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    std::fs::symlink_metadata(path).is_ok_and(|found| !is_empty(&found))
}

/// Where a path leads: links on the way, and at its end, are followed as far as there is something.
pub(super) fn real(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|above| Some((above.canonicalize().ok()?, path.strip_prefix(above).ok()?)));
    found.map_or_else(|| path.to_owned(), |(above, rest)| if rest.as_os_str().is_empty() { above } else { above.join(rest) })
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

/// Restores the paths of one snapshot, once what they overwrite is saved.
pub(super) async fn execute(
    context: &JobContext,
    repository: &dyn Repository,
    restore: &FileRestore,
    control: &Control,
    progress: &Arc<dyn Progress>,
) -> RestoredApplication {
    let started = clock::monotonic();
    let mut result = untouched(restore.name.clone(), &restore.snapshot);
    let saved = match restore.save_first.as_slice() {
        [] => Ok(None),
        paths => save_paths(context, paths, &mut result, control, progress).await,
    };
    match saved {
        Ok(saved) => result.saved_first.extend(saved),
        Err(reason) => result.failure = Some(reason),
    }
    if result.failure.is_none() {
        let whole = tokio::task::block_in_place(|| write(repository, restore, control, progress, &mut result));
        marked::written(context, repository, &whole, &mut result).await;
    }
    result.duration = started.elapsed();
    result
}

/// Gives what was written as a whole.
fn write(
    repository: &dyn Repository,
    restore: &FileRestore,
    control: &Control,
    progress: &Arc<dyn Progress>,
    result: &mut RestoredApplication,
) -> Vec<RestoreRequest> {
    let mut whole = Vec::new();
    for request in &restore.requests {
        let label = format!("path {}", printable(&request.path));
        progress.event(Event::ItemStarted { label: &label });
        let written = Arc::new(Written { files: AtomicU64::new(0), bytes: AtomicU64::new(0), next: Arc::clone(progress) });
        let restored = repository.restore(request, control, Arc::clone(&written) as Arc<dyn Progress>);
        progress.event(Event::ItemFinished { label: &label });
        match restored {
            Ok(summary) => {
                result.files_restored += summary.files_restored;
                result.files_unchanged += summary.files_unchanged;
                result.bytes_restored += summary.bytes_restored;
                result.problems.extend(summary.problems);
                if summary.entries_lost == 0 && !restore.snapshot.is_partial() {
                    whole.extend(restore.places.saved_in(&request.path).map(|inside| RestoreRequest {
                        path: inside.to_owned(),
                        destination: below(&request.destination, inside.strip_prefix(&request.path[..]).unwrap_or_default()),
                        ..request.clone()
                    }));
                }
                result.steps.push(step("restore files", request.destination.display().to_string(), None));
            }
            Err(error) => {
                result.files_restored += written.files.load(Relaxed);
                result.bytes_restored += written.bytes.load(Relaxed);
                let what = format!("{} is restored in part only", request.destination.display());
                result.failure = Some(match error {
                    RepositoryError::Cancelled => format!("it was cancelled: {what}; the same restore again completes it"),
                    error => format!("{}: {what}", sentence(&error)),
                });
                break;
            }
        }
    }
    whole
}

/// What a restore has written, for one that breaks off and so cannot say it itself.
struct Written {
    files: AtomicU64,
    bytes: AtomicU64,
    next: Arc<dyn Progress>,
}

impl Progress for Written {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Bytes(bytes) => _ = self.bytes.fetch_add(bytes, Relaxed),
            // Its bytes went by, but were there before.
            Event::FileFinished { size, outcome: FileOutcome::Unchanged, .. } => _ = self.bytes.fetch_sub(size, Relaxed),
            Event::FileFinished { .. } => _ = self.files.fetch_add(1, Relaxed),
            _ => {}
        }
        self.next.event(event);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn links_do_not_hide_where_a_path_leads() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        std::fs::create_dir(home.join("repository")).unwrap();
        std::os::unix::fs::symlink(home.join("repository"), home.join("link")).unwrap();
        assert_eq!(real(&home.join("link/data/new")), home.join("repository/data/new"));
        assert_eq!(real(&home.join("link")), home.join("repository"));
        assert_eq!(real(&home.join("gone/x")), home.join("gone/x"));
    }

    #[test]
    fn nothing_of_a_path_leaves_the_folder() {
        assert_eq!(below(Path::new("/to"), b"/a/../../b/./c"), Path::new("/to/a/b/c"));
    }
}

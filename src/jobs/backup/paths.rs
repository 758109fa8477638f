//! The paths of a set: one snapshot for all of them together, under their absolute names.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::application::not_followed;
use super::estimate::Estimate;
use super::{Run, closing_tags, filter_of, our_own, sentence};
use crate::config::BackupSet;
use crate::jobs::backup::counting::Counting;
use crate::jobs::error::JobError;
use crate::jobs::request::JobContext;
use crate::jobs::results::{ApplicationResult, ItemResult};
use crate::model::outcome::{EndMark, ItemOutcome, Proof, ReadMethod};
use crate::model::progress::Event;
use crate::model::text::printable;
use crate::platform::{clock, environment};
use crate::repository::contract::{AddSummary, RepositoryError, Snapshot, SnapshotId};
use crate::sources::ahead::Ahead;
use crate::sources::host_path::HostPaths;
use crate::sources::walk::WalkOptions;
use crate::sources::{Counts, NeverRead};

/// What the paths of a set are called in results.
pub fn name(set: &BackupSet) -> String {
    set.selection.paths.iter().map(|path| printable(path.as_os_str().as_bytes())).collect::<Vec<_>>().join(", ")
}

/// Opens the paths of a set; reads no file yet.
pub(super) fn open(context: &JobContext, set: &BackupSet, never_read: &Arc<NeverRead>) -> Result<HostPaths, JobError> {
    outside_our_own(context, set)?;
    let current =
        environment::current_directory().map_err(|source| JobError::Own { action: "find out the current folder".into(), source })?;
    let options = WalkOptions {
        one_file_system: set.filter.one_file_system,
        filter: Some(Arc::new(filter_of(set)?)),
        never_read: Arc::clone(never_read),
        ..WalkOptions::default()
    };
    Ok(HostPaths::open(&set.selection.paths, &current, &options)?)
}

/// Refuses paths in our own folders: a backup of the repository into itself only ever grows.
fn outside_our_own(context: &JobContext, set: &BackupSet) -> Result<(), JobError> {
    let own = NeverRead::of(our_own(context))?;
    for path in &set.selection.paths {
        // What is not there is told where it is read. A link is saved as a link, wherever it leads.
        let real = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => parent.canonicalize().map(|parent| parent.join(name)),
            _ => path.canonicalize(),
        };
        let Some(real) = real.ok().filter(|real| !real.is_symlink()) else { continue };
        if let Some(above) = own.above(&real) {
            let (path, above) = (printable(path.as_os_str().as_bytes()), printable(above.as_os_str().as_bytes()));
            let message = format!("{path} lies in {above}, which is bbackup's own repository, state or cache");
            let hint = "Back up something else; `bbackup copy` copies snapshots to another repository.";
            return Err(JobError::request("own_folder", message, hint));
        }
    }
    Ok(())
}

/// Saves the paths of a set.
pub(super) fn back_up(run: &Run<'_>, set: &BackupSet) -> Result<ApplicationResult, JobError> {
    run.control.checkpoint().map_err(RepositoryError::from)?;
    let started = clock::monotonic();
    let opened = open(run.context, set, &run.never_read)?;
    let counted = if run.request.estimate { open(run.context, set, &run.never_read)?.paths } else { Vec::new() };
    let estimates: Vec<Estimate> = counted.into_iter().map(|path| Estimate::start(Box::new(path.source), run.progress)).collect();
    // What is missing today is asked for all the same: the next snapshot of the same paths is one of the same thing.
    let asked = opened.paths.iter().map(|path| &path.path).chain(opened.failed.iter().map(|(path, _)| path));
    let mut paths: Vec<String> = asked.map(|path| path.to_string_lossy().into_owned()).collect();
    paths.sort();
    let request = run.snapshot_request(set.name.as_deref(), None, paths, set.filter.exclude.clone());
    let mut writer = match run.repository() {
        Some(repository) => repository.write_snapshot(request, run.control, Arc::clone(run.progress))?,
        None => Box::new(Counting::new(run.control, run.progress)),
    };
    for (path, metadata) in opened.folders_above {
        writer.describe_directory(&path, metadata);
    }
    let mut result = ApplicationResult::new(name(set));
    result.notes.extend(opened.notes);
    let mut complete = opened.failed.is_empty();
    for (path, error) in &opened.failed {
        let item = format!("path {}", printable(path.as_os_str().as_bytes()));
        result.items.push(ItemResult { item, outcome: ItemOutcome::Failed { reason: sentence(error) } });
    }
    for path in opened.paths {
        let stored = path.path.as_os_str().as_bytes();
        let label = format!("path {}", printable(stored));
        run.progress.event(Event::ItemStarted { label: &label });
        let added = writer.add(stored, Box::new(Ahead::of(path.source)));
        run.progress.event(Event::ItemFinished { label: &label });
        let outcome = match added {
            Ok(summary) => {
                let is_empty =
                    path.counts.entries() <= 1 && summary.problem_count + summary.warning_count == 0 && is_empty_folder(&path.path);
                let outcome = match is_empty.then(|| full_before(run, &path.path)).transpose()?.flatten() {
                    Some(before) => ItemOutcome::Failed {
                        reason: format!(
                            "it is empty, and in snapshot {} it was not: its data is gone or not mounted; if it is meant to be empty, --full saves it so",
                            before.short()
                        ),
                    },
                    None => outcome(&path.counts, &summary),
                };
                let missed = not_followed(&path.counts.mounted(&path.path));
                result.notes.extend(missed.map(|paths| format!("{label}: what is mounted in it is not saved (one_file_system): {paths}")));
                result.problems.extend(summary.problems);
                result.problems.extend(summary.warnings);
                outcome
            }
            Err(RepositoryError::Skipped) => ItemOutcome::Skipped,
            Err(RepositoryError::Source { source, .. }) => ItemOutcome::Failed { reason: source.to_string() },
            Err(error) => return Err(error.into()),
        };
        complete &= outcome.is_complete();
        result.items.push(ItemResult { item: label, outcome });
    }
    if result.items.iter().any(|item| matches!(item.outcome, ItemOutcome::Complete { .. } | ItemOutcome::Partial { .. })) {
        let (snapshot, summary) = writer.finish(closing_tags(complete))?;
        result.saved = true;
        (result.snapshot, result.summary) = (snapshot, summary);
    }
    drop(estimates);
    result.duration = started.elapsed();
    Ok(result)
}

/// Not one of which a filter leaves nothing.
fn is_empty_folder(path: &Path) -> bool {
    path.read_dir().is_ok_and(|mut entries| entries.next().is_none())
}

/// The last complete snapshot that this path was saved into, if it had something there. Asked for one that is empty now, as its disk may
/// not be mounted.
fn full_before(run: &Run<'_>, path: &Path) -> Result<Option<SnapshotId>, RepositoryError> {
    let Some(repository) = run.repository().filter(|_| !run.request.full) else { return Ok(None) };
    let (config, name) = (&run.context.config, path.to_string_lossy());
    let is_mine = |one: &Snapshot| {
        (one.host == config.machine || one.host == config.host)
            && one.application().is_none()
            && !one.is_partial()
            && !one.is_aside(&[])
            && one.paths.iter().any(|path| *path == name)
    };
    let Some(last) = repository.snapshots()?.into_iter().rev().find(is_mine) else { return Ok(None) };
    let mut entries = 0;
    let listed = repository.list(&last.id, path.as_os_str().as_bytes(), false, &mut |_| {
        entries += 1;
        if entries > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match listed {
        Ok(_) => Ok((entries > 1).then_some(last.id)),
        // Or somebody has forgotten it since it was listed.
        Err(RepositoryError::NoPath { .. } | RepositoryError::NoSnapshot { .. }) => Ok(None),
        // What is damaged there held something, and costs nobody else's data.
        Err(error) if error.is_damage() => Ok(Some(last.id)),
        Err(error) => Err(error),
    }
}

/// How an item ended that was read from the file system.
pub(super) fn outcome(counts: &Counts, summary: &AddSummary) -> ItemOutcome {
    let proof = Proof {
        method: ReadMethod::Direct,
        end: EndMark::WalkFinished,
        mount: counts.root().map(|root| format!("{}:{}", root.device, root.inode)),
        entries: summary.entries,
        bytes: summary.bytes,
    };
    judge(proof, counts.is_complete(), summary)
}

/// Complete only if the source came to its end and nothing of it is missing.
pub(super) fn judge(proof: Proof, at_end: bool, summary: &AddSummary) -> ItemOutcome {
    let mut reasons = Vec::new();
    if !at_end {
        reasons.push("the source did not come to its end".to_owned());
    }
    if summary.problem_count > 0 {
        reasons.push(format!("{} could not be read", plural(summary.problem_count, "entry", "entries")));
    }
    if reasons.is_empty() { ItemOutcome::Complete { proof } } else { ItemOutcome::Partial { proof, reasons } }
}

fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

//! What a restore in place overwrites: saved before, and put back when the restore fails.
//!
//! In which order things are stopped and set aside is decided in `targets/plan`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::real;
use super::refill::what;
use crate::config::{BackupSet, Consistency, Scope, Selection};
use crate::jobs::backup::{self, sentence};
use crate::jobs::request::{BackupRequest, JobContext};
use crate::jobs::results::{ApplicationResult, RestoredApplication};
use crate::model::application::{DOCKER_ROOT, segment};
use crate::model::outcome::ItemOutcome;
use crate::model::progress::Progress;
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::contract::{SnapshotId, TAG_BEFORE_RESTORE};

/// Where what was in the volumes is.
#[derive(Debug, Default)]
pub(super) struct InPlace {
    /// By application: its volumes and paths, each with the snapshot and the place in it.
    saved: BTreeMap<String, BTreeMap<String, (SnapshotId, String)>>,
    /// By application: volumes and paths that were begun to be overwritten.
    overwritten: BTreeMap<String, Vec<String>>,
    /// Volumes that are half restored: since before, or as they could not be put back.
    half: BTreeSet<String>,
}

/// What is to be saved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Names of containers.
    pub(super) containers: &'a [String],
    /// Names of volumes.
    pub(super) volumes: &'a [String],
    /// Paths of the machine.
    pub(super) paths: &'a [String],
    /// Volumes that an older restore has left half restored, or something in them: what is in them is saved as it is.
    pub(super) half: &'a BTreeSet<String>,
}

impl Wanted<'_> {
    /// Whether it is lost if this item is not saved whole.
    fn needs(&self, item: &str) -> bool {
        match item.split_once(' ') {
            Some(("volume", name)) => self.volumes.iter().any(|one| printable(one.as_bytes()) == name && !self.half.contains(one)),
            _ => true,
        }
    }
}

/// A snapshot of something that will be overwritten.
struct SavedFirst {
    id: SnapshotId,
    saved: ApplicationResult,
}

fn unsaved(reason: String) -> String {
    format!("what would be overwritten cannot be saved first: {reason}")
}

/// Saves paths of the machine that will be overwritten; gives their snapshot.
pub(super) async fn save_paths(
    context: &JobContext,
    paths: &[PathBuf],
    result: &mut RestoredApplication,
    control: &Control,
    progress: &Arc<dyn Progress>,
) -> Result<Option<SnapshotId>, String> {
    let nothing_else = Wanted { containers: &[], volumes: &[], paths: &[], half: &BTreeSet::new() };
    let paths = paths.iter().map(|path| real(path)).collect();
    let saved = save_whole(context, nothing_else, paths, result, control, progress).await?;
    Ok(saved.into_iter().next().map(|one| one.id))
}

/// Saves something before it is overwritten; of a path that is a link, the caller gives what it leads to. Anything that is not saved whole is an error, as it would be lost.
async fn save_whole(
    context: &JobContext,
    wanted: Wanted<'_>,
    paths: Vec<PathBuf>,
    result: &mut RestoredApplication,
    control: &Control,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<SavedFirst>, String> {
    let set = BackupSet {
        selection: Selection { containers: wanted.containers.to_vec(), volumes: wanted.volumes.to_vec(), paths, ..Selection::default() },
        // The containers are removed in the end, and what they wrote outside their mounts with them.
        scope: Scope {
            volumes: !wanted.volumes.is_empty(),
            layers: !wanted.containers.is_empty(),
            binds: false,
            logs: false,
            // They are not overwritten.
            compose: false,
            ..Scope::default()
        },
        // Whoever uses it is down already.
        consistency: Consistency::None,
        ..BackupSet::default()
    };
    let request = BackupRequest {
        sets: vec![set],
        tags: vec![TAG_BEFORE_RESTORE.to_owned()],
        full: false,
        dry_run: false,
        estimate: false,
        parallel: 1,
        before_restore: true,
    };
    // A backup is a job of its own size; boxed, it does not make this one bigger.
    let saved = Box::pin(backup::run(context, request, control, Arc::clone(progress))).await;
    let saved = saved.map_err(|error| unsaved(sentence(&error)))?;
    let mut whole = Vec::new();
    result.warnings.extend(saved.warnings);
    for mut one in saved.applications {
        for item in &one.items {
            let reason = match &item.outcome {
                ItemOutcome::Complete { .. } => continue,
                ItemOutcome::Failed { reason } => reason.clone(),
                ItemOutcome::Partial { reasons, .. } => reasons.join("; "),
                ItemOutcome::Skipped => "it was skipped".to_owned(),
            };
            if wanted.needs(&item.item) {
                return Err(unsaved(format!("{}: {reason}", item.item)));
            }
            result.warnings.push(format!("{} is not in the snapshot {TAG_BEFORE_RESTORE} as a whole: {reason}", item.item));
        }
        result.warnings.append(&mut one.warnings);
        match one.snapshot.clone().filter(|_| one.saved) {
            Some(id) => whole.push(SavedFirst { id, saved: one }),
            None => return Err(unsaved(result.warnings.join("; "))),
        }
    }
    Ok(whole)
}

impl InPlace {
    /// Saves what will be overwritten for an application; all that uses it is stopped. Anything that is not saved whole is
    /// an error, as it would be lost.
    pub(super) async fn save(
        &mut self,
        context: &JobContext,
        application: &str,
        wanted: Wanted<'_>,
        result: &mut RestoredApplication,
        control: &Control,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), String> {
        let is_kept = |outcome: &ItemOutcome, volume: &String| {
            outcome.is_complete() || wanted.half.contains(volume) && matches!(outcome, ItemOutcome::Partial { .. })
        };
        // Of a link what it leads to: that is what is overwritten.
        let paths = wanted.paths.iter().map(|path| real(Path::new(path))).collect();
        for one in save_whole(context, wanted, paths, result, control, progress).await? {
            for volume in wanted.volumes {
                let label = format!("volume {volume}");
                if one.saved.items.iter().any(|item| item.item == label && is_kept(&item.outcome, volume)) {
                    let path = format!("{DOCKER_ROOT}/{}/volumes/{}", segment(&one.saved.application), segment(volume));
                    self.saved.entry(application.to_owned()).or_default().insert(volume.clone(), (one.id.clone(), path));
                }
            }
            for path in wanted.paths {
                let found = real(Path::new(path));
                // What lies in another one is saved with that.
                let is_it = |above: &Path| {
                    let label = format!("path {}", printable(above.as_os_str().as_bytes()));
                    one.saved.items.iter().any(|item| item.item == label && item.outcome.is_complete())
                };
                if found.ancestors().any(is_it)
                    && let Some(found) = found.to_str()
                {
                    self.saved.entry(application.to_owned()).or_default().insert(path.clone(), (one.id.clone(), found.to_owned()));
                }
            }
            result.saved_first.push(one.id);
        }
        let mine = self.saved.get(application);
        match wanted.volumes.iter().chain(wanted.paths).find(|place| mine.is_none_or(|mine| !mine.contains_key(*place))) {
            Some(place) => Err(unsaved(format!("{} was not saved whole", what(place)))),
            None => Ok(()),
        }
    }

    /// The snapshot that has what was in a volume.
    pub(super) fn saved(&self, application: &str, volume: &str) -> Option<&SnapshotId> {
        self.saved.get(application)?.get(volume).map(|(id, _)| id)
    }

    /// Where what was in a volume is: the snapshot, and the place in it.
    pub(super) fn content(&self, application: &str, volume: &str) -> Option<(SnapshotId, String)> {
        self.saved.get(application)?.get(volume).cloned()
    }

    /// A volume is overwritten from now on.
    pub(super) fn overwriting(&mut self, application: &str, volume: &str) {
        self.overwritten.entry(application.to_owned()).or_default().push(volume.to_owned());
    }

    /// The volumes of an application that were begun to be overwritten; whoever asks puts them back.
    pub(super) fn overwritten(&mut self, application: &str) -> Vec<String> {
        self.overwritten.remove(application).unwrap_or_default()
    }

    /// What was in a volume was saved, and with it what is at a path in it.
    pub(super) fn saved_inside(&mut self, application: &str, place: &str, (volume, below): &(String, String)) {
        let Some(saved) = self.saved.get_mut(application) else { return };
        let inside = saved.get(volume).map(|(id, path)| (id.clone(), format!("{path}{below}")));
        saved.extend(inside.map(|inside| (place.to_owned(), inside)));
    }

    /// All files of what these are, or lie in, are written, also if they were half restored before.
    pub(super) fn are_whole(&mut self, is_written: impl Fn(&str) -> bool) {
        self.half.retain(|half| !is_written(half));
    }

    /// A volume could not be put back, or is half restored since before.
    pub(super) fn stays_half(&mut self, volume: String) {
        self.half.insert(volume);
    }

    /// The volumes that could not be put back.
    pub(super) fn half(&self) -> &BTreeSet<String> {
        &self.half
    }
}

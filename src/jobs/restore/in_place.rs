//! What a restore in place overwrites: saved before, and put back when the restore fails.
//!
//! In which order things are stopped and set aside is decided in `targets/plan`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{BackupSet, Consistency, Scope, Selection};
use crate::docker::Engine;
use crate::jobs::backup::{self, sentence};
use crate::jobs::request::{BackupRequest, JobContext};
use crate::jobs::results::{ApplicationResult, RestoredApplication};
use crate::model::application::{DOCKER_ROOT, segment};
use crate::model::outcome::ItemOutcome;
use crate::model::progress::Progress;
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::contract::{SnapshotId, TAG_BEFORE_RESTORE};
use crate::targets::steps::Steps;

/// Where what was in the volumes is.
#[derive(Debug, Default)]
pub(super) struct InPlace {
    /// By application: its volumes, each with the snapshot and the place in it.
    saved: BTreeMap<String, BTreeMap<String, (SnapshotId, String)>>,
    /// By application: volumes that were begun to be overwritten.
    overwritten: BTreeMap<String, Vec<String>>,
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
    paths: &[String],
    control: &Control,
    progress: &Arc<dyn Progress>,
) -> Result<Option<SnapshotId>, String> {
    let saved = save_whole(context, Wanted { containers: &[], volumes: &[], paths }, control, progress).await?;
    Ok(saved.into_iter().next().map(|one| one.id))
}

/// Saves something before it is overwritten. Anything that is not saved whole is an error, as it would be lost.
async fn save_whole(
    context: &JobContext,
    wanted: Wanted<'_>,
    control: &Control,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<SavedFirst>, String> {
    let set = BackupSet {
        selection: Selection {
            containers: wanted.containers.to_vec(),
            volumes: wanted.volumes.to_vec(),
            paths: wanted.paths.iter().map(Into::into).collect(),
            ..Selection::default()
        },
        scope: Scope { volumes: !wanted.volumes.is_empty(), binds: false, logs: false, ..Scope::default() },
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
    };
    // A backup is a job of its own size; boxed, it does not make this one bigger.
    let saved = Box::pin(backup::run(context, request, control, Arc::clone(progress))).await;
    let saved = saved.map_err(|error| unsaved(sentence(&error)))?;
    let mut whole = Vec::new();
    for one in saved.applications {
        for item in &one.items {
            if let ItemOutcome::Failed { reason } = &item.outcome {
                return Err(unsaved(format!("{}: {reason}", item.item)));
            }
        }
        match one.snapshot.clone().filter(|_| one.saved) {
            Some(id) => whole.push(SavedFirst { id, saved: one }),
            None => return Err(unsaved(one.warnings.join("; "))),
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
        for one in save_whole(context, wanted, control, progress).await? {
            for volume in wanted.volumes {
                let label = format!("volume {volume}");
                if one.saved.items.iter().any(|item| item.item == label && item.outcome.is_complete()) {
                    let path = format!("{DOCKER_ROOT}/{}/volumes/{}", segment(&one.saved.application), segment(volume));
                    self.saved.entry(application.to_owned()).or_default().insert(volume.clone(), (one.id.clone(), path));
                }
            }
            result.saved_first.get_or_insert(one.id);
        }
        let mine = self.saved.get(application);
        match wanted.volumes.iter().find(|volume| mine.is_none_or(|mine| !mine.contains_key(*volume))) {
            Some(volume) => Err(unsaved(format!("volume {} was not saved whole", printable(volume.as_bytes())))),
            None => Ok(()),
        }
    }

    /// The snapshot that has what was in a volume.
    pub(super) fn saved(&self, application: &str, volume: &str) -> Option<&SnapshotId> {
        self.saved.get(application)?.get(volume).map(|(id, _)| id)
    }

    /// A volume is overwritten from now on.
    pub(super) fn overwriting(&mut self, application: &str, volume: &str) {
        self.overwritten.entry(application.to_owned()).or_default().push(volume.to_owned());
    }

    /// Puts back what had been there: the content of the volumes, by `refill`, then the containers. Gives the end of a
    /// sentence that says how that went, and whether all is as it was.
    pub(super) async fn put_back(
        &mut self,
        steps: &mut Steps,
        application: &str,
        engine: &Engine,
        mut refill: impl AsyncFnMut(&Engine, &SnapshotId, &str, &str) -> Result<(), String>,
    ) -> Option<(String, bool)> {
        let volumes = self.overwritten.remove(application).unwrap_or_default();
        if volumes.is_empty() && !steps.has_moved(application) {
            return None;
        }
        let mut lost = Vec::new();
        for volume in &volumes {
            let shown = printable(volume.as_bytes());
            match self.saved.get(application).and_then(|saved| saved.get(volume)) {
                Some((snapshot, path)) => {
                    if let Err(reason) = refill(engine, snapshot, path, volume).await {
                        lost.push(format!(
                            "volume {shown} is half restored ({reason}); what was in it is in snapshot {}",
                            snapshot.short()
                        ));
                    }
                }
                None => lost.push(format!("volume {shown} is half restored, and what was in it was not saved")),
            }
        }
        // A program that starts on half of its data may destroy the rest.
        let failures = steps.put_back(application, lost.is_empty()).await;
        let whole = lost.is_empty() && failures.is_empty();
        let end = if whole {
            "what was there before is back, and runs if it ran".to_owned()
        } else if lost.is_empty() {
            format!("what was there before is back, except: {}", failures.join("; "))
        } else {
            lost.extend(failures);
            format!("{}; the containers that were there are back and stay stopped", lost.join("; "))
        };
        Some((end, whole))
    }
}

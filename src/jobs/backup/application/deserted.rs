//! A compose project of which no container is there: what it has left is no whole of it if there were containers before.
//!
//! Whether it was chosen as a project is decided in `sources/plan`.

use super::super::sentence;
use super::Work;
use crate::jobs::snapshots::document;
use crate::model::application::{Application, ApplicationDocument, ItemKind, ItemRecord};
use crate::model::outcome::ItemOutcome;
use crate::model::text::printable;
use crate::repository::contract::{Repository, RepositoryError, Snapshot, SnapshotId};

/// How the project was when its containers were last saved.
#[derive(Debug, PartialEq, Eq)]
enum Before {
    /// It was never saved as a whole.
    Never,
    /// It had no container then either.
    Without,
    /// It had these.
    With(SnapshotId, Vec<String>),
}

impl Work<'_> {
    /// Says of a project that was chosen that no container of it is there. Those that were saved before are items that are missing, so that the snapshot
    /// which has them stays the one that a restore takes.
    pub(super) fn missing_containers(&mut self) -> Result<(), RepositoryError> {
        let (run, planned) = (self.run, &self.unit.planned);
        if !planned.deserted || !self.unit.set.scope.configs || run.request.before_restore {
            return Ok(());
        }
        let application = &planned.application;
        let before = run.repository().map_or(Ok(Before::Never), |repository| {
            tokio::task::block_in_place(|| before(repository, &run.context.config.host, application))
        });
        let project = printable(application.name.as_bytes());
        let deserted = format!("no container of the compose project {project} is there, only what they have left is saved");
        match before {
            Ok(Before::With(snapshot, names)) if !run.request.full => {
                let reason = format!(
                    "no container of the compose project {project} is there, and in snapshot {} this one is; if they are meant to be gone, --full accepts that",
                    snapshot.short()
                );
                for name in names {
                    let path = application.inspect_path(&name);
                    self.record(ItemKind::Configuration, name, path, ItemOutcome::Failed { reason: reason.clone() }, None);
                }
            }
            Ok(Before::Without) => self.result.notes.push(format!("{deserted}, as before")),
            Ok(Before::Never | Before::With(..)) => self.result.warnings.push(deserted),
            Err(error @ RepositoryError::Cancelled) => return Err(error),
            Err(error) => {
                self.result.warnings.push(format!("{deserted}, and whether there were some before cannot be seen: {}", sentence(&error)));
            }
        }
        Ok(())
    }
}

/// How the project was in the newest snapshot that says so.
fn before(repository: &dyn Repository, host: &str, application: &Application) -> Result<Before, RepositoryError> {
    // What a restore has overwritten was no state that anybody chose.
    let mine = |one: &Snapshot| one.host == host && one.application() == Some(application.name.as_str()) && !one.is_aside(&[]);
    for snapshot in repository.snapshots()?.into_iter().rev().filter(mine) {
        let Some(document) = document(repository, &snapshot.id, &application.name)? else { continue };
        let names = saved_containers(&document);
        if !names.is_empty() {
            return Ok(Before::With(snapshot.id, names));
        }
        let is_of_all = snapshot.paths.iter().any(|path| *path == application.root());
        // One that was refused for having none is there as well, and does not make it right.
        if is_of_all && document.application.containers.is_empty() && !document.items.iter().any(is_container) {
            return Ok(Before::Without);
        }
    }
    Ok(Before::Never)
}

fn is_container(item: &ItemRecord) -> bool {
    item.kind == ItemKind::Configuration
}

/// Names of the containers that are in a snapshot.
fn saved_containers(document: &ApplicationDocument) -> Vec<String> {
    let saved = document.items.iter().filter(|item| is_container(item) && item.outcome.is_complete());
    saved.map(|item| item.name.clone()).collect()
}

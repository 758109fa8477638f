//! What an item was like when it was last saved: one that was full and is empty or gone now may lie on a disk that is not mounted.

use std::ops::ControlFlow;

use super::super::sentence;
use super::Work;
use crate::jobs::snapshots::document;
use crate::model::application::ItemKind;
use crate::model::entry::Kind;
use crate::model::outcome::ItemOutcome;
use crate::repository::contract::{Repository, RepositoryError, Snapshot, SnapshotId};
use crate::sources::plan::PlannedItem;

/// What an item is like now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Now {
    /// There is nothing in it.
    Empty,
    /// There is nothing at its path.
    Gone,
}

impl Work<'_> {
    /// The snapshot that had this volume or bind mount full when it was last saved. Asked for one that is empty or gone now.
    pub(super) fn full_before(&mut self, item: &PlannedItem, now: Now) -> Option<SnapshotId> {
        let repository = self.run.repository().filter(|_| !self.run.request.full)?;
        let (host, name) = (&self.run.context.config.host, &self.unit.planned.application.name);
        match tokio::task::block_in_place(|| last_full(repository, host, name, item, now)) {
            Ok(found) => found,
            Err(error) => {
                let error = sentence(&error);
                let kind = item.kind.as_str();
                let now = if now == Now::Empty { "empty" } else { "gone" };
                self.result.warnings.push(format!("{kind} {} is {now}, and whether it was before cannot be seen: {error}", item.name));
                None
            }
        }
    }
}

/// The snapshot that had the item full when it was last saved; none if it was empty then, or was never saved.
fn last_full(
    repository: &dyn Repository,
    host: &str,
    application: &str,
    item: &PlannedItem,
    now: Now,
) -> Result<Option<SnapshotId>, RepositoryError> {
    let snapshots = repository.snapshots()?;
    // What a restore has overwritten may be empty as it was broken.
    let mine = |one: &Snapshot| one.host == host && one.application() == Some(application) && !one.is_aside(&[]);
    for snapshot in snapshots.into_iter().rev().filter(mine) {
        let (mut entries, mut is_full) = (0, false);
        let listed = repository.list(&snapshot.id, item.path.as_bytes(), false, &mut |entry| {
            entries += 1;
            // A file is one entry, now as before.
            is_full = entries > 1 || now == Now::Gone && entry.metadata.kind != Kind::Directory;
            if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match listed {
            Ok(_) if is_full => return Ok(Some(snapshot.id)),
            // One that was refused for being empty is there as well, and does not make it right.
            Ok(_) if snapshot.is_partial() && !was_saved(repository, &snapshot.id, application, item)? => {}
            Ok(_) => return Ok(None),
            Err(RepositoryError::NoPath { .. }) if is_gone(repository, &snapshot.id, application, item)? => return Ok(None),
            // Or somebody has forgotten it since it was listed.
            Err(RepositoryError::NoPath { .. } | RepositoryError::NoSnapshot { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether the snapshot's own account says that the item is in it.
fn was_saved(repository: &dyn Repository, snapshot: &SnapshotId, application: &str, item: &PlannedItem) -> Result<bool, RepositoryError> {
    let document = document(repository, snapshot, application)?;
    let record = document.as_ref().and_then(|document| document.item(item.kind, &item.name));
    Ok(record.is_some_and(|record| matches!(record.outcome, ItemOutcome::Complete { .. } | ItemOutcome::Partial { .. })))
}

/// Whether the snapshot's own account says that a bind mount did not exist, and need not.
fn is_gone(repository: &dyn Repository, snapshot: &SnapshotId, application: &str, item: &PlannedItem) -> Result<bool, RepositoryError> {
    if item.kind != ItemKind::Bind {
        return Ok(false);
    }
    Ok(document(repository, snapshot, application)?.is_some_and(|document| document.gone.contains(&item.name)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::entry::Metadata;
    use crate::model::progress::Silent;
    use crate::platform::control::Control;
    use crate::platform::secret::Secret;
    use crate::repository::backend::testing::MemoryBackend;
    use crate::repository::contract::{SnapshotRequest, TAG_APPLICATION};
    use crate::repository::restic::archive::Options;
    use crate::repository::restic::facade::{Locking, ResticRepository};
    use crate::repository::restic::state::{Closed, InitOptions};

    const VOLUME: &str = "/docker/shop/volumes/db";

    /// Saves the volume with so many files.
    fn save(repository: &dyn Repository, second: i64, files: usize, tags: &[&str]) -> SnapshotId {
        let request = SnapshotRequest {
            time: jiff::Timestamp::from_second(second).unwrap(),
            host: "h".to_owned(),
            paths: vec!["/docker/shop".to_owned()],
            tags: vec![format!("{TAG_APPLICATION}shop")],
            excludes: Vec::new(),
            ignore_parent: false,
            parent: None,
            with_atime: false,
            dry_run: false,
        };
        let mut writer = repository.write_snapshot(request, &Control::new(), Arc::new(Silent)).unwrap();
        writer.describe_directory(VOLUME.as_bytes(), Metadata::virtual_directory());
        for number in 0..files {
            writer.add_bytes(format!("{VOLUME}/{number}").as_bytes(), b"data").unwrap();
        }
        writer.finish(tags.iter().map(|tag| (*tag).to_owned()).collect()).unwrap().0.unwrap()
    }

    #[test]
    fn an_empty_volume_is_refused_until_it_is_taken_as_it_is() {
        let backend = Arc::new(MemoryBackend::new());
        let open = Closed::new(backend).init(&Secret::new("secret".to_owned()), InitOptions::default()).unwrap();
        let repository = ResticRepository::new(open, Options::default(), Locking::Retry(Duration::ZERO));
        let item =
            PlannedItem { kind: ItemKind::Volume, name: "db".to_owned(), path: VOLUME.to_owned(), exclude: Vec::new(), inner: Vec::new() };
        let last_full = |host: &str| last_full(&repository, host, "shop", &item, Now::Empty).unwrap();
        assert_eq!(last_full("h"), None);
        let full = save(&repository, 1, 2, &[]);
        assert_eq!(last_full("h"), Some(full.clone()));
        assert_eq!(last_full("another"), None);
        // The run that refused it left it empty in a partial snapshot.
        save(&repository, 2, 0, &["partial"]);
        assert_eq!(last_full("h"), Some(full.clone()));
        // So is one that a restore has put right.
        save(&repository, 2, 0, &["before-restore"]);
        assert_eq!(last_full("h"), Some(full));
        save(&repository, 3, 0, &[]);
        assert_eq!(last_full("h"), None);
    }
}

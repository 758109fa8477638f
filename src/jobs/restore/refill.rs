//! Puts back what was in a volume or at a path when a restore in place has failed.
//!
//! What that is, and when, is decided in `work`.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::counter;
use super::engine::entries;
use super::files::real;
use super::fill::Fill;
use crate::docker::Engine;
use crate::docker::helper::Owner;
use crate::jobs::backup::sentence;
use crate::model::progress::Progress;
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::platform::files;
use crate::repository::contract::{Repository, SnapshotId};
use crate::targets::plan::is_path;

/// How volumes get back what was in them.
pub(super) struct Refill<'a> {
    pub(super) repository: &'a dyn Repository,
    pub(super) owner: &'a Owner,
    pub(super) progress: &'a Arc<dyn Progress>,
}

impl Refill<'_> {
    /// Writes what was `saved` into a volume, or to a path, that was being filled `from` elsewhere.
    pub(super) async fn run(
        &self,
        engine: &Engine,
        saved: (&SnapshotId, &str),
        name: &str,
        from: Option<(&SnapshotId, &str)>,
    ) -> Result<(), String> {
        // Not the run's own: what was cancelled is to be as it was all the same.
        let control = Control::new();
        let Self { repository, owner, progress } = *self;
        let ((snapshot, path), to_path) = (saved, is_path(name));
        // At a path there may be what was not saved, and is not ours to remove.
        if let Some(from) = from.filter(|_| to_path) {
            tokio::task::block_in_place(|| remove_added(repository, saved, from, name))?;
        }
        let fill = Fill { repository, engine, snapshot, path, name, replace: !to_path, ids: None, owner, control: &control, progress };
        let mut counted = counter(snapshot);
        let lost = if to_path { fill.host_path(&mut counted).await? } else { fill.volume(&mut counted).await? };
        if lost > 0 {
            return Err(format!("{} could not be written", entries(lost)));
        }
        Ok(())
    }
}

/// A volume or path for people.
pub(super) fn what(place: &str) -> String {
    let shown = printable(place.as_bytes());
    if is_path(place) { shown } else { format!("volume {shown}") }
}

/// Gives the names of all that a snapshot has at a place and below it, a folder before what is in it.
pub(super) fn names_below(
    repository: &dyn Repository,
    snapshot: &SnapshotId,
    root: &[u8],
    found: &mut dyn FnMut(Vec<u8>),
) -> Result<(), String> {
    let listed = repository.list(snapshot, root, true, &mut |entry| {
        let below = entry.path.strip_prefix(root).unwrap_or_default();
        found(below.strip_prefix(b"/").unwrap_or(below).to_vec());
        ControlFlow::Continue(())
    });
    match listed.map_err(|error| sentence(&error))?.problem_count {
        0 => Ok(()),
        // What is not listed would seem to have been added.
        lost => Err(format!("{lost} folders of snapshot {} cannot be read", snapshot.short())),
    }
}

/// Removes from a path what the one snapshot has there and the other has not: it was written from there, and nothing else is touched.
fn remove_added(repository: &dyn Repository, kept: (&SnapshotId, &str), written: (&SnapshotId, &str), path: &str) -> Result<(), String> {
    let (mut before, mut added) = (BTreeSet::new(), Vec::new());
    names_below(repository, kept.0, kept.1.as_bytes(), &mut |name| before.extend([name]))?;
    names_below(repository, written.0, written.1.as_bytes(), &mut |name| added.extend((!before.contains(&name)).then_some(name)))?;
    let root = real(Path::new(path));
    // What is in a folder comes after it.
    for name in added.iter().rev() {
        match files::remove_beneath(&root, name) {
            Err(error) if !is_not_ours(&error) => return Err(format!("{} cannot be removed again: {error}", printable(name))),
            _ => {}
        }
    }
    Ok(())
}

/// It is not there, or holds what others have put there, or lies behind a link that was there before.
fn is_not_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{DirectoryNotEmpty, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | DirectoryNotEmpty | NotADirectory)
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

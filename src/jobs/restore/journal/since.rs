//! What restores were at while somebody read it. One that began and ended meanwhile would leave nothing that tells of it, so the journals of those
//! that have ended are kept for a while.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::read::{unfinished, unread};
use super::{FOLDER, LIMIT, SUFFIX};
use crate::jobs::error::JobError;
use crate::platform::journal_file::{self, LockedFile};

const ENDED: &str = ".ended";
/// Longer than anybody reads one volume.
const KEPT: Duration = Duration::from_hours(30 * 24);

/// The restores that did nothing any more at some time.
#[derive(Debug)]
pub(in super::super) struct Idle(BTreeSet<PathBuf>);

/// The restores that do nothing any more: they have ended or died.
pub(in super::super) fn idle(state: &Path) -> Result<Idle, JobError> {
    let folder = state.join(FOLDER);
    let mut idle = BTreeSet::new();
    for path in journal_file::list(&folder, ENDED).map_err(|source| unread(&folder, source))? {
        idle.insert(run(&path));
    }
    for path in journal_file::list(&folder, SUFFIX).map_err(|source| unread(&folder, source))? {
        if !LockedFile::is_held(&path).map_err(|source| unread(&path, source))? {
            idle.insert(run(&path));
        }
    }
    Ok(Idle(idle))
}

/// The volumes and paths of an Engine that restores which were not idle then have written to, whatever became of them.
pub(in super::super) fn at_since(state: &Path, engine: &str, then: &Idle) -> Result<BTreeSet<String>, JobError> {
    let folder = state.join(FOLDER);
    let mut at = BTreeSet::new();
    // In this order: one that ends meanwhile is found under its other name.
    for suffix in [SUFFIX, ENDED] {
        for path in journal_file::list(&folder, suffix).map_err(|source| unread(&folder, source))? {
            if then.0.contains(&run(&path)) {
                continue;
            }
            let bytes = journal_file::read_unlocked(&path, LIMIT).map_err(|source| unread(&path, source))?;
            at.extend(bytes.and_then(|bytes| unfinished(&bytes, engine)).into_iter().flat_map(|found| found.touched));
        }
    }
    Ok(at)
}

/// A restore has ended, and nothing is left to be done.
pub(super) fn end(file: LockedFile) {
    let ended = run(file.path()).with_extension(ENDED.trim_start_matches('.'));
    // One that keeps its name says that nothing is left to be done: the next start renames it.
    drop(file.rename(&ended));
}

/// Removes what nobody asks for any more.
pub(super) fn forget_old(folder: &Path) {
    journal_file::remove_old(folder, ENDED, KEPT);
}

fn run(path: &Path) -> PathBuf {
    path.with_extension("")
}

//! Removes snapshot files (design document, section "Snapshots"). The data that only they held stays until a prune.
//!
//! Which ones go is decided in `repository::retention`.

use std::sync::{Mutex, PoisonError};

use super::codec::BlobKind;
use super::id::Id;
use super::reader;
use super::state::{Indexed, Open};
use crate::platform::control::Control;
use crate::repository::backend::FileKind;
use crate::repository::contract::{Forgotten, Problem, RepositoryError, SnapshotId};

/// Removes these snapshots one after the other. `check` says before each whether the exclusive lock is still ours.
///
/// # Errors
/// Nothing was removed. Once something was, what went wrong is in the result.
pub fn forget(
    open: &Open,
    snapshots: &[SnapshotId],
    check: &dyn Fn() -> Result<(), RepositoryError>,
    control: &Control,
) -> Result<Forgotten, RepositoryError> {
    let ids = snapshots.iter().map(parse).collect::<Result<Vec<Id>, _>>()?;
    let mut done = Forgotten::default();
    for (id, name) in ids.iter().zip(snapshots) {
        match control.checkpoint().map_err(RepositoryError::from).and_then(|()| check()) {
            Ok(()) => {}
            Err(error) if done.removed.is_empty() => return Err(error),
            Err(RepositoryError::Cancelled | RepositoryError::Skipped) => {
                done.cancelled = true;
                return Ok(done);
            }
            Err(error) => {
                done.problems.push(problem(name, &error));
                return Ok(done);
            }
        }
        match open.remove(FileKind::Snapshot, id) {
            Ok(()) => done.removed.push(name.clone()),
            // A store that takes nothing away at all is no matter of single snapshots.
            Err(error) if done.removed.is_empty() && snapshots.len() == 1 => return Err(error),
            Err(error) => done.problems.push(problem(name, &error)),
        }
    }
    Ok(done)
}

/// Problems that are told with their words.
const KEPT_PROBLEMS: usize = 100;

/// Makes sure that the index knows everything that the snapshots with these root trees need: what goes may be all that is whole. The
/// repository must have no cache, and its packs must have been looked for, for what is known to be really there.
///
/// # Errors
/// [`RepositoryError::Refused`] if something is in no index or in no pack, or a folder cannot be read; [`RepositoryError::Cancelled`].
pub fn require_index(repo: &Indexed, roots: Vec<Id>, control: &Control) -> Result<(), RepositoryError> {
    let problems: Mutex<Vec<String>> = Mutex::default();
    let add = |problem: String| {
        let mut problems = problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() < KEPT_PROBLEMS {
            problems.push(problem);
        }
    };
    reader::each_tree(repo, roots, |_, tree| {
        match tree {
            Err(error) => add(error.with_causes()),
            Ok(tree) => {
                let blobs = tree.nodes.iter().flat_map(|node| &node.content);
                blobs.filter(|id| !repo.index().contains(BlobKind::Data, id)).for_each(|id| add(lacking(repo, id)));
            }
        }
        control.checkpoint().is_ok()
    });
    control.checkpoint()?;
    let mut problems = problems.into_inner().unwrap_or_else(PoisonError::into_inner);
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort();
    problems.dedup();
    let reason = "not everything that the other snapshots need can be found, so no snapshot is removed".to_owned();
    Err(RepositoryError::Refused { reason, problems })
}

fn lacking(repo: &Indexed, id: &Id) -> String {
    match repo.index().lost_pack(BlobKind::Data, id) {
        Some(pack) => format!("pack {pack} is missing or cut off"),
        None => format!("data blob {id} is in no index"),
    }
}

fn problem(id: &SnapshotId, error: &RepositoryError) -> Problem {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    Problem { path: format!("snapshot {id}"), message: format!("{error}{cause}") }
}

pub(super) fn parse(id: &SnapshotId) -> Result<Id, RepositoryError> {
    id.0.parse().map_err(|_| RepositoryError::NoSnapshot { wanted: id.0.clone() })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use super::*;
    use crate::platform::secret::Secret;
    use crate::repository::backend::testing::MemoryBackend;
    use crate::repository::restic::reader::testing::{Builder, file, folder};
    use crate::repository::restic::state::testing::empty_repository;
    use crate::repository::restic::state::{Closed, InitOptions};

    fn snapshot(open: &Open, number: u32) -> SnapshotId {
        let tree = Id::of(b"tree");
        let json = format!(r#"{{"time":"2024-01-01T00:00:0{number}Z","tree":"{tree}","paths":["/x"]}}"#);
        SnapshotId(open.write_unpacked(FileKind::Snapshot, json.as_bytes()).unwrap().to_string())
    }

    #[test]
    fn what_cannot_be_removed_is_told_and_stays() {
        let backend = Arc::new(MemoryBackend::new());
        let open = Closed::new(Arc::clone(&backend) as _).init(&Secret::new("p".into()), InitOptions::default()).unwrap();
        for calls in 0..4 {
            let all: Vec<SnapshotId> = (0..4).map(|number| snapshot(&open, number)).collect();
            backend.fail_after(calls);
            let done = forget(&open, &all, &|| Ok(()), &Control::new()).unwrap();
            backend.fail_after(i64::MAX);
            let calls = usize::try_from(calls).unwrap();
            assert_eq!((done.removed.as_slice(), done.problems.len()), (&all[..calls], 4 - calls));
            assert_eq!(open.snapshots().unwrap().len(), 4 - calls);
            let done = forget(&open, &all, &|| Ok(()), &Control::new()).unwrap();
            assert_eq!((done.removed.len(), open.snapshots().unwrap().len()), (4, 0));
        }
        let one = snapshot(&open, 0);
        backend.fail_after(0);
        assert!(matches!(forget(&open, &[one], &|| Ok(()), &Control::new()), Err(RepositoryError::Storage { .. })));
    }

    #[test]
    fn what_the_others_need_must_be_in_the_index() {
        let mut builder = Builder::new();
        let data = builder.blob(BlobKind::Data, b"data");
        builder.pack();
        let sound = builder.tree(&[file("f", &[data], 4)]);
        let no_data = builder.tree(&[file("f", &[data, Id::of(b"lost")], 8)]);
        let no_folder = builder.tree(&[folder("d", Id::of(b"gone")), file("f", &[data], 4)]);
        let above = [sound, no_data, no_folder].map(|tree| builder.tree(&[folder("above", tree)]));
        builder.pack();
        let [sound, no_data, no_folder] = above;
        let repo = builder.indexed();
        require_index(&repo, vec![sound], &Control::new()).unwrap();
        for (tree, missing) in [(no_data, Id::of(b"lost")), (no_folder, Id::of(b"gone")), (Id::of(b"root"), Id::of(b"root"))] {
            let error = require_index(&repo, vec![sound, tree], &Control::new()).unwrap_err();
            let RepositoryError::Refused { problems, .. } = error else { unreachable!("{error}") };
            assert!(problems.len() == 1 && problems[0].contains(&format!("blob {missing} is in no index")), "{problems:?}");
        }
        let control = Control::new();
        control.cancel();
        assert!(matches!(require_index(&repo, vec![sound], &control), Err(RepositoryError::Cancelled)));
    }

    #[test]
    fn a_lock_that_is_lost_ends_it() {
        let (_folder, open) = empty_repository(2);
        let all: Vec<SnapshotId> = (0..4).map(|number| snapshot(&open, number)).collect();
        let lost = || RepositoryError::LockLost { location: "here".into() };
        let control = Control::new();
        assert!(matches!(forget(&open, &all, &|| Err(lost()), &control), Err(RepositoryError::LockLost { .. })));
        assert_eq!(open.snapshots().unwrap().len(), 4);

        let calls = std::cell::Cell::new(0);
        let later = || {
            calls.set(calls.get() + 1);
            if calls.get() > 2 { Err(lost()) } else { Ok(()) }
        };
        let done = forget(&open, &all, &later, &control).unwrap();
        assert_eq!((done.removed.as_slice(), done.problems.len()), (&all[..2], 1));
        assert_eq!(open.snapshots().unwrap().len(), 2);

        control.cancel();
        assert!(matches!(forget(&open, &all[2..], &|| Ok(()), &control), Err(RepositoryError::Cancelled)));
        let wrong = SnapshotId("abc".into());
        assert!(matches!(forget(&open, &[wrong], &|| Ok(()), &Control::new()), Err(RepositoryError::NoSnapshot { .. })));
        // One that is gone already is no problem.
        let done = forget(&open, &all, &|| Ok(()), &Control::new()).unwrap();
        assert_eq!((done.removed.len(), done.problems.len(), done.cancelled), (4, 0, false));
    }
}

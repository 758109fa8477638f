//! Changes the tags of snapshots. A snapshot's id is the hash of its file, so each becomes another snapshot, which remembers
//! the first id that it had (design document, section "Snapshots", field `original`).
//!
//! Which tags a snapshot gets is decided by whoever asks.

use std::collections::HashMap;

use super::file::{SnapshotFile, to_json};
use super::id::Id;
use super::lock::Lock;
use super::state::{Open, Read};
use crate::platform::control::Control;
use crate::repository::backend::FileKind;
use crate::repository::contract::{RepositoryError, Retagged, SnapshotId};

/// Gives snapshots these tags instead of theirs. The new file is there, and read back, before the old one goes: whenever
/// this is cut off, each snapshot is there at least once, and the same call again leaves each once. `lock` is exclusive.
///
/// # Errors
/// The first that went wrong. The snapshots before it have their new tags.
pub fn retag(
    open: &Open,
    changes: &[(SnapshotId, Vec<String>)],
    lock: &Lock,
    control: &Control,
    done: &mut Vec<Retagged>,
) -> Result<(), RepositoryError> {
    let files: HashMap<Id, Read<SnapshotFile>> = open.snapshot_files()?.into_iter().collect();
    for (name, tags) in changes {
        control.checkpoint()?;
        let missing = || RepositoryError::NoSnapshot { wanted: name.0.clone() };
        let old: Id = name.0.parse().map_err(|_| missing())?;
        let file = match files.get(&old) {
            Some(Ok(file)) => file,
            Some(Err(_)) => &open.snapshot(&old)?,
            None => return Err(missing()),
        };
        if file.tags == *tags {
            continue;
        }
        let new = SnapshotFile { tags: tags.clone(), original: file.original.or(Some(old)), ..file.clone() };
        // A call that was cut off has left it behind.
        let there = files.iter().find(|(id, other)| **id != old && other.as_ref().is_ok_and(|other| *other == new)).map(|(id, _)| *id);
        let id = match there {
            Some(id) => id,
            None => write(open, &new, lock)?,
        };
        lock.confirm()?;
        open.remove(FileKind::Snapshot, &old)?;
        done.push(Retagged { old: name.clone(), new: SnapshotId(id.to_string()) });
    }
    Ok(())
}

fn write(open: &Open, file: &SnapshotFile, lock: &Lock) -> Result<Id, RepositoryError> {
    let json = to_json(file).map_err(|error| RepositoryError::Internal(error.to_string()))?;
    let id = lock.write(FileKind::Snapshot, &json)?;
    if open.snapshot(&id)? != *file {
        return Err(RepositoryError::Corrupted { what: "a snapshot with other tags".into() });
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::platform::secret::Secret;
    use crate::repository::backend::testing::MemoryBackend;
    use crate::repository::restic::lock::LockTimes;
    use crate::repository::restic::state::testing::empty_repository;
    use crate::repository::restic::state::{Closed, InitOptions};

    const JSON: &str = r#"{"time":"2024-01-01T00:00:00+02:00","tree":"2da81727b6585232894cfbb8f8bdab8d1eccd3d8f7c92bc934d62e62e618ffdf","paths":["/x"],"hostname":"h","tags":["a"],"label":"of another program"}"#;

    fn locked(open: &Open) -> Lock {
        let times = LockTimes { settle: Duration::ZERO, ..LockTimes::default() };
        Lock::acquire_with(open, true, Duration::ZERO, &Control::new(), times).unwrap()
    }

    fn change(open: &Open, lock: &Lock, id: Id, tags: &[&str]) -> Result<Vec<Retagged>, RepositoryError> {
        let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        let mut done = Vec::new();
        retag(open, &[(SnapshotId(id.to_string()), tags)], lock, &Control::new(), &mut done)?;
        Ok(done)
    }

    #[test]
    fn only_the_tags_change_and_the_first_id_is_remembered() {
        let (_folder, open) = empty_repository(2);
        let lock = locked(&open);
        let first = open.write_unpacked(FileKind::Snapshot, JSON.as_bytes()).unwrap();
        assert_eq!(change(&open, &lock, first, &["a"]).unwrap(), []);
        let second: Id = change(&open, &lock, first, &["a", "b"]).unwrap()[0].new.0.parse().unwrap();
        let third: Id = change(&open, &lock, second, &[]).unwrap()[0].new.0.parse().unwrap();
        let snapshots = open.snapshots().unwrap();
        assert_eq!(snapshots.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [third]);
        let json = String::from_utf8(open.read_unpacked(FileKind::Snapshot, &third).unwrap()).unwrap();
        let expected = JSON.replace(r#""tags":["a"]"#, &format!(r#""original":"{first}""#));
        assert_eq!(json, expected);
        assert!(matches!(change(&open, &lock, first, &["x"]), Err(RepositoryError::NoSnapshot { .. })));
    }

    #[test]
    fn cut_off_anywhere_it_loses_nothing_and_the_next_call_finishes_it() {
        let backend = Arc::new(MemoryBackend::new());
        let open = Closed::new(Arc::clone(&backend) as _).init(&Secret::new("p".into()), InitOptions::default()).unwrap();
        let lock = locked(&open);
        let mut id = open.write_unpacked(FileKind::Snapshot, JSON.as_bytes()).unwrap();
        for calls in 0.. {
            let tag = format!("round-{calls}");
            backend.fail_after(calls);
            let result = change(&open, &lock, id, &[&tag]);
            backend.fail_after(i64::MAX);
            let left = open.snapshots().unwrap();
            assert!(left.iter().any(|(found, _)| *found == id) || result.is_ok());
            let whole = result.is_ok();
            let done = if whole { result.unwrap() } else { change(&open, &lock, id, &[&tag]).unwrap() };
            id = done[0].new.0.parse().unwrap();
            assert_eq!(backend.names(FileKind::Snapshot), [id.to_string()], "after {calls} calls");
            assert_eq!(open.snapshot(&id).unwrap().tags, [tag]);
            if whole {
                break;
            }
        }
    }
}

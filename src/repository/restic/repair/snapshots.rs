//! Snapshots without what is lost: trees that cannot be read become empty folders, files lose the pieces that no index knows.
//!
//! Trees are changed as JSON, node by node, so that everything that is not lost stays byte for byte what its writer wrote.

mod trees;

use std::collections::HashMap;

use self::trees::{Losses, Outcome, Trees};
use super::{confirmed, headers};
use crate::model::progress::{Event, Progress};
use crate::repository::backend::FileKind;
use crate::repository::contract::repair::{DamagedSnapshot, RepairSnapshotsRequest, RepairSnapshotsSummary};
use crate::repository::contract::{Problem, RepositoryError, SnapshotId, TAG_PARTIAL, TAG_REPAIRED};
use crate::repository::restic::file::{self, SnapshotFile};
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::lock::Guard;
use crate::repository::restic::state::{Indexed, Read};

/// Snapshot files, and what is wrong with those that cannot be read.
pub type Snapshots = [(Id, Read<SnapshotFile>)];

/// Writes successors of damaged snapshots. `repo` has its whole index, loaded under the lock of `guard`; the snapshots were read
/// before it was loaded, so that it knows all that they need, also where there is no lock and others write.
///
/// # Errors
/// [`RepositoryError::Refused`] if the index names packs that are not there or hold something else, as then nobody knows what is lost;
/// [`RepositoryError::NoSnapshot`] and [`RepositoryError::AmbiguousSnapshot`]; the storage failed; what [`Guard`] says.
pub fn repair(
    repo: &Indexed,
    all: &Snapshots,
    request: &RepairSnapshotsRequest,
    pack_size: usize,
    guard: Guard<'_>,
    progress: &dyn Progress,
) -> Result<RepairSnapshotsSummary, RepositoryError> {
    guard.check()?;
    refuse_without_packs(repo)?;
    progress.event(Event::Phase("looking at snapshots"));
    let wanted = choose(all, &request.snapshots)?;
    let mut trees = Trees::new(repo, guard, pack_size, request.dry_run);
    let mut summary = RepairSnapshotsSummary {
        dry_run: request.dry_run,
        snapshots: wanted.len() as u64,
        damaged: Vec::new(),
        empty_folder_written: false,
    };
    let mut successors: Vec<(usize, SnapshotFile)> = Vec::new();
    for (id, snapshot) in all.iter().filter(|(id, _)| wanted.contains(id)) {
        let again = if snapshot.is_err() { Some(confirmed(|| repo.snapshot(id))) } else { None };
        let again = match again {
            // Who may not read it cannot say that it is damaged.
            Some(Err(error)) if error.is_denied() => return Err(error),
            again => again,
        };
        let snapshot = match again.as_ref().unwrap_or(snapshot) {
            Ok(snapshot) => snapshot,
            Err(error @ RepositoryError::Damaged { .. }) => {
                let lost = Losses { kept: vec![Problem { path: String::new(), message: error.with_causes() }], count: 1, is_partial: true };
                summary.damaged.push(damaged(id, true, Some(&lost)));
                continue;
            }
            Err(error) => {
                let message = error.with_causes();
                return Err(RepositoryError::Refused {
                    reason: format!("snapshot {} cannot be read", id.short()),
                    problems: vec![message],
                });
            }
        };
        let seen = trees.walk(snapshot.tree)?;
        let losses = seen.losses.as_deref();
        match seen.outcome {
            Outcome::Same => {}
            Outcome::Lost => summary.damaged.push(damaged(id, true, losses)),
            Outcome::New(tree) => {
                let mut entry = damaged(id, false, losses);
                let successor = successor(id, snapshot, tree, losses.is_some_and(|losses| losses.is_partial));
                let before = all.iter().find(|(other, file)| other != id && file.as_ref().is_ok_and(|file| is_the_same(file, &successor)));
                entry.repaired = before.map(|(id, _)| SnapshotId(id.to_string()));
                entry.was_repaired = before.is_some();
                if before.is_none() {
                    successors.push((summary.damaged.len(), successor));
                }
                summary.damaged.push(entry);
            }
        }
    }
    summary.empty_folder_written = trees.empty_written;
    if !summary.damaged.is_empty() || summary.empty_folder_written {
        refuse_false_index(repo, guard)?;
    }
    if request.dry_run {
        return Ok(summary);
    }
    trees.flush()?;
    for (number, snapshot) in successors {
        guard.control.checkpoint()?;
        let json = file::to_json(&snapshot).map_err(|error| RepositoryError::Internal(format!("a snapshot cannot be encoded: {error}")))?;
        summary.damaged[number].repaired = Some(SnapshotId(guard.write(repo.open(), FileKind::Snapshot, &json)?.to_string()));
    }
    if request.forget {
        for entry in &mut summary.damaged {
            guard.confirm()?;
            if let Ok(id) = entry.id.0.parse() {
                repo.remove(FileKind::Snapshot, &id)?;
                entry.removed = true;
            }
        }
    }
    Ok(summary)
}

fn damaged(id: &Id, is_lost: bool, losses: Option<&Losses>) -> DamagedSnapshot {
    let whole = |path: &str| if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    let kept = losses.map_or(&[][..], |losses| &losses.kept);
    let lost = kept.iter().map(|problem| Problem { path: whole(&problem.path), message: problem.message.clone() }).collect();
    let lost_count = losses.map_or(0, |losses| losses.count);
    DamagedSnapshot { id: SnapshotId(id.to_string()), repaired: None, was_repaired: false, is_lost, removed: false, lost, lost_count }
}

/// What the index says of packs must be true before anybody decides by it what is lost.
fn refuse_without_packs(repo: &Indexed) -> Result<(), RepositoryError> {
    let on_disk: HashMap<Id, u64, BuildIdHasher> = repo.list_sizes(FileKind::Pack)?.into_iter().collect();
    let wrong = |pack: &crate::repository::restic::index::PackSummary| on_disk.get(&pack.id) != Some(&pack.size);
    let problems: Vec<String> = repo.index().packs().filter(wrong).map(|pack| format!("pack {} is missing or cut off", pack.id)).collect();
    if problems.is_empty() {
        return Ok(());
    }
    let reason = "the packs are not as the index says: `repair index` comes first".to_owned();
    Err(RepositoryError::Refused { reason, problems: problems.into_iter().take(100).collect() })
}

/// The sizes may be right, and all else wrong: then what seems to be lost is there, and an index made from the packs finds it.
fn refuse_false_index(repo: &Indexed, guard: Guard<'_>) -> Result<(), RepositoryError> {
    let wrong = headers::contradicted(repo, guard)?;
    if wrong.is_empty() {
        return Ok(());
    }
    let reason = "the index says something else of packs than they do: `repair index --read-all-packs` comes first".to_owned();
    let problems = wrong.iter().take(100).map(|id| format!("pack {id} holds something else")).collect();
    Err(RepositoryError::Refused { reason, problems })
}

/// The ids of the snapshots that are meant.
fn choose(all: &Snapshots, wanted: &[String]) -> Result<Vec<Id>, RepositoryError> {
    if wanted.is_empty() {
        return Ok(all.iter().map(|(id, _)| *id).collect());
    }
    let mut chosen = Vec::new();
    for prefix in wanted {
        let found: Vec<Id> = all.iter().map(|(id, _)| *id).filter(|id| id.to_string().starts_with(prefix.as_str())).collect();
        match found[..] {
            [id] => chosen.push(id),
            [] => return Err(RepositoryError::NoSnapshot { wanted: prefix.clone() }),
            _ => {
                let candidates = found.iter().map(|id| SnapshotId(id.to_string())).collect();
                return Err(RepositoryError::AmbiguousSnapshot { wanted: prefix.clone(), candidates });
            }
        }
    }
    Ok(chosen)
}

/// What takes the place of a snapshot.
fn successor(id: &Id, snapshot: &SnapshotFile, tree: Id, is_partial: bool) -> SnapshotFile {
    let mut next = snapshot.clone();
    next.tree = tree;
    next.original = snapshot.original.or(Some(*id));
    let tags = [(TAG_REPAIRED, true), (TAG_PARTIAL, is_partial)];
    for tag in tags.into_iter().filter(|(_, wanted)| *wanted).map(|(tag, _)| tag) {
        if !next.tags.iter().any(|other| other == tag) {
            next.tags.push(tag.to_owned());
        }
    }
    next
}

/// Whether an earlier repair has made this very snapshot.
fn is_the_same(one: &SnapshotFile, other: &SnapshotFile) -> bool {
    one.tree == other.tree && one.original == other.original && one.time == other.time && one.tags.iter().any(|tag| tag == TAG_REPAIRED)
}

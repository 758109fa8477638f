//! Snapshots copied into another repository of the format: only blobs that it does not have, each verified on the way.
//!
//! Blobs stay as they were cut, whatever the other repository's chunker would do. The order makes it safe and resumable: data
//! and folders, then an index that names them, then the snapshot; whatever was copied before an end of any kind is found by the
//! next copy. Which snapshots are meant is the caller's choice.

mod transfer;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use self::transfer::{Transfer, Wanted};
use super::codec::BlobKind;
use super::file::{SnapshotFile, to_json};
use super::id::Id;
use super::lock::Lock;
use super::reader;
use super::state::Indexed;
use super::tree::Tree;
use crate::model::compression::Compression;
use crate::model::progress::{Event, Progress};
use crate::platform::control::Control;
use crate::repository::backend::FileKind;
use crate::repository::contract::copy::{CopiedSnapshot, CopySummary};
use crate::repository::contract::{RepositoryError, SnapshotId};

/// The two repositories, and what has to hold before every step.
#[derive(Clone, Copy)]
pub struct Copying<'a> {
    /// What is read, under a lock.
    pub source: &'a Indexed,
    /// What is written, its index loaded under `lock`. Its claims are used up: nothing else may be written with it afterwards.
    pub target: &'a Indexed,
    /// Packs or parts of the index of the target may be lost: what was copied before is looked at, too.
    pub is_doubtful: bool,
    /// On the target; none only in a dry run.
    pub lock: Option<&'a Lock>,
    /// Compression of blobs that are not compressed yet.
    pub compression: Compression,
    /// Size of new packs.
    pub pack_size: usize,
    /// What was copied is named in an index at least this often.
    pub index_interval: Duration,
    /// Holds while paused.
    pub control: &'a Control,
    /// Takes a sentence about what is not as it should be.
    pub notice: &'a (dyn Fn(String) + Sync),
}

impl Copying<'_> {
    fn check(&self) -> Result<(), RepositoryError> {
        self.control.checkpoint()?;
        self.lock.map_or(Ok(()), Lock::check)
    }
}

/// What is to be done with each snapshot.
#[derive(Debug)]
pub struct Plan {
    snapshots: Vec<Planned>,
    /// Snapshots that are not there any more.
    gone: Vec<SnapshotId>,
}

#[derive(Debug)]
struct Planned {
    id: Id,
    file: SnapshotFile,
    /// The snapshot of the target that it is already.
    copy: Option<Id>,
}

/// Finds out which snapshots the target has already: restic's rule, so that both programs see each other's copies. Where they are
/// not `named`, one that is gone is passed over.
///
/// # Errors
/// A snapshot of either cannot be read.
pub fn plan(copying: Copying<'_>, snapshots: &[Id], named: bool) -> Result<Plan, RepositoryError> {
    let mut there: HashMap<Id, Vec<(Id, SnapshotFile)>> = HashMap::new();
    for (id, file) in copying.target.snapshots()? {
        for key in [Some(id), file.original].into_iter().flatten() {
            there.entry(key).or_default().push((id, file.clone()));
        }
    }
    let mut plan = Plan { snapshots: Vec::with_capacity(snapshots.len()), gone: Vec::new() };
    for id in snapshots {
        let file = match copying.source.snapshot(id) {
            Err(RepositoryError::NoSnapshot { .. }) if !named => {
                plan.gone.push(name(*id));
                continue;
            }
            file => file?,
        };
        let first = file.original.unwrap_or(*id);
        let copy = there.get(&first).and_then(|copies| copies.iter().find(|(_, copy)| is_copy(&file, copy))).map(|(id, _)| *id);
        plan.snapshots.push(Planned { id: *id, file, copy });
    }
    Ok(plan)
}

/// Whether two snapshots say the same, beside their ids.
fn is_copy(one: &SnapshotFile, other: &SnapshotFile) -> bool {
    one.time.instant == other.time.instant
        && one.tree == other.tree
        && one.hostname == other.hostname
        && one.username == other.username
        && (one.uid, one.gid) == (other.uid, other.gid)
        && one.paths == other.paths
        && one.excludes == other.excludes
        && one.tags == other.tags
}

/// Copies, or, without a lock, only counts. What was copied before an error is named by an index.
///
/// # Errors
/// A blob cannot be read, the target cannot be written, or it was cancelled. Snapshots that were not copied whole are not there.
pub fn execute(copying: Copying<'_>, plan: &Plan, progress: &dyn Progress) -> Result<CopySummary, RepositoryError> {
    let polynomial = |repo: &Indexed| repo.config().chunker_polynomial;
    let mut summary = CopySummary { same_chunker: polynomial(copying.source) == polynomial(copying.target), ..CopySummary::default() };
    summary.gone.clone_from(&plan.gone);
    let mut transfer = Transfer::new(copying, progress);
    let copied = plan.snapshots.iter().try_for_each(|planned| {
        let is_whole = || !copying.is_doubtful && copying.target.index().contains(BlobKind::Tree, &planned.file.tree);
        let one = match planned.copy {
            Some(copy) if is_whole() => there(planned, copy),
            // What the source has lost must not keep newer snapshots from being copied.
            Some(copy) => match snapshot(copying, planned, &mut transfer, progress) {
                Err(error) if copying.source.is_lost(&error) => {
                    let (id, error) = (planned.id.short(), error.with_causes());
                    (copying.notice)(format!("snapshot {id} was copied before, and whether all of it is there cannot be seen: {error}"));
                    there(planned, copy)
                }
                one => one?,
            },
            None => snapshot(copying, planned, &mut transfer, progress)?,
        };
        summary.copied += u64::from(!one.was_there);
        summary.were_there += u64::from(one.was_there);
        summary.blobs += one.blobs;
        summary.bytes += one.bytes;
        summary.bytes_stored += one.bytes_stored;
        summary.snapshots.push(one);
        Ok(())
    });
    // Also after an error: what is in packs already need not be copied again.
    let named = transfer.finish();
    copied.and(named).map(|()| summary)
}

fn name(id: Id) -> SnapshotId {
    SnapshotId(id.to_string())
}

fn there(planned: &Planned, copy: Id) -> CopiedSnapshot {
    CopiedSnapshot { target: Some(name(copy)), was_there: true, ..nothing(planned.id) }
}

fn nothing(source: Id) -> CopiedSnapshot {
    CopiedSnapshot { source: name(source), target: None, was_there: false, blobs: 0, bytes: 0, bytes_stored: 0 }
}

fn snapshot(
    copying: Copying<'_>,
    planned: &Planned,
    transfer: &mut Transfer<'_>,
    progress: &dyn Progress,
) -> Result<CopiedSnapshot, RepositoryError> {
    progress.event(Event::Phase(&format!("snapshot {}", planned.id.short())));
    let missing = missing(copying, planned.file.tree, transfer)?;
    let (target, was_there) = (planned.copy.map(name), planned.copy.is_some());
    let mut one = CopiedSnapshot { target, was_there, blobs: missing.len() as u64, ..nothing(planned.id) };
    for blob in missing.iter().filter_map(|wanted| transfer.blob_of(wanted)) {
        one.bytes += u64::from(blob.plain_length());
        one.bytes_stored += u64::from(blob.length);
    }
    let Some(lock) = copying.lock else { return Ok(one) };
    progress.event(Event::Expected { entries: 0, bytes: one.bytes });
    one.bytes_stored = transfer.copy(missing)?;
    // The data, the index and only then the snapshot that counts on them.
    lock.confirm()?;
    transfer.flush()?;
    if was_there {
        return Ok(one);
    }
    copying.control.checkpoint()?;
    let file = SnapshotFile { parent: None, original: planned.file.original.or(Some(planned.id)), ..planned.file.clone() };
    let json = to_json(&file).map_err(|error| RepositoryError::Internal(format!("a snapshot cannot be encoded: {error}")))?;
    one.target = Some(name(lock.write(FileKind::Snapshot, &json)?));
    Ok(one)
}

/// The blobs of a snapshot that the target does not have and that were not copied before. Every folder is looked at, also one that
/// the target has: a copy that was ended may have left it there without what is in it.
fn missing(copying: Copying<'_>, root: Id, transfer: &Transfer<'_>) -> Result<Vec<Wanted>, RepositoryError> {
    let found = Mutex::new(Vec::new());
    let failed: Mutex<Option<RepositoryError>> = Mutex::default();
    let look = |id: &Id, tree: Result<&Tree, RepositoryError>| -> Result<(), RepositoryError> {
        copying.control.checkpoint()?;
        let tree = tree?;
        let data = tree.nodes.iter().flat_map(|node| &node.content);
        let data = data.filter_map(|blob| transfer.want(BlobKind::Data, blob).transpose());
        let mut new = data.collect::<Result<Vec<Wanted>, _>>()?;
        new.extend(transfer.wanted(BlobKind::Tree, id));
        found.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
        Ok(())
    };
    reader::each_claimed_tree(
        copying.source,
        [root],
        |id| transfer.claim_tree(id),
        |id, tree| match look(id, tree) {
            Ok(()) => true,
            Err(error) => {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                false
            }
        },
    );
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

#[cfg(test)]
mod tests;

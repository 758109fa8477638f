//! Numbers about a repository.
//!
//! Only counting; looking for damage is `check`'s business.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::codec::BlobKind;
use super::id::{BuildIdHasher, Id};
use super::reader;
use super::state::Indexed;
use crate::repository::backend::FileKind;
use crate::repository::contract::{RepositoryError, RepositoryStats};

/// What one tree holds, without what its folders hold.
struct Own {
    files: u64,
    bytes: u64,
    folders: Vec<Id>,
}

/// Counts. Every tree is read once, however many snapshots have it.
///
/// # Errors
/// A tree or snapshot could not be read.
pub fn stats(repo: &Indexed) -> Result<RepositoryStats, RepositoryError> {
    let snapshots = repo.snapshots()?;
    let mut stats = RepositoryStats { snapshots: snapshots.len() as u64, ..RepositoryStats::default() };
    let list = repo.backend().list(FileKind::Pack);
    let packs = list.map_err(|source| RepositoryError::Storage { action: "list", file: "packs".to_owned(), source })?;
    stats.packs = packs.len() as u64;
    stats.stored_bytes = packs.iter().map(|(_, size)| size).sum();
    let index = repo.index();
    stats.blobs = index.len() as u64;
    // A blob that stands in several packs is still one blob.
    stats.raw_bytes = index
        .blobs()
        .filter(|(pack, blob)| is_first(index, blob.kind, &blob.id, pack, blob.offset))
        .map(|(_, blob)| u64::from(blob.plain_length()))
        .sum();

    let trees: Mutex<HashMap<Id, Own, BuildIdHasher>> = Mutex::default();
    let failed: Mutex<Option<RepositoryError>> = Mutex::default();
    reader::each_tree(repo, snapshots.iter().map(|(_, snapshot)| snapshot.tree), |id, tree| match tree {
        Ok(tree) => {
            let files = || tree.nodes.iter().filter(|node| node.metadata.is_file());
            let own = Own {
                files: files().count() as u64,
                bytes: files().map(|node| node.metadata.size).fold(0, u64::saturating_add),
                folders: tree.nodes.iter().filter_map(|node| node.subtree).collect(),
            };
            trees.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, own);
            true
        }
        Err(error) => {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            false
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let trees = trees.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut totals = HashMap::default();
    for (_, snapshot) in &snapshots {
        let (files, bytes) = total(&trees, &mut totals, &snapshot.tree);
        stats.files = stats.files.saturating_add(files);
        stats.restore_bytes = stats.restore_bytes.saturating_add(bytes);
    }
    Ok(stats)
}

fn is_first(index: &super::index::Index, kind: BlobKind, id: &Id, pack: &Id, offset: u32) -> bool {
    index.lookup(kind, id).is_some_and(|first| first.pack == *pack && first.offset == offset)
}

/// Files and bytes in a tree and all below it. The folders of a tree are counted before the tree itself.
fn total(trees: &HashMap<Id, Own, BuildIdHasher>, totals: &mut HashMap<Id, (u64, u64), BuildIdHasher>, root: &Id) -> (u64, u64) {
    let mut stack = vec![(*root, false)];
    while let Some((id, folders_done)) = stack.pop() {
        if totals.contains_key(&id) {
            continue;
        }
        let Some(own) = trees.get(&id) else { continue };
        if folders_done {
            let folders = own.folders.iter().filter_map(|folder| totals.get(folder));
            let sum = folders.fold((own.files, own.bytes), |sum, folder| (sum.0.saturating_add(folder.0), sum.1.saturating_add(folder.1)));
            totals.insert(id, sum);
        } else {
            stack.push((id, true));
            stack.extend(own.folders.iter().map(|folder| (*folder, false)));
        }
    }
    totals.get(root).copied().unwrap_or_default()
}

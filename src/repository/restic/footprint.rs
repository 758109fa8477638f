//! How much of the repository snapshots take: for each, the packed bytes of what no snapshot before it needs already.
//!
//! What follows from that is decided in `repository::retention`.

use super::codec::BlobKind;
use super::id::Id;
use super::index::places::{Places, Seen};
use super::reader::{cores, load_tree};
use super::state::Indexed;
use crate::platform::control::Control;
use crate::repository::contract::RepositoryError;

/// So many trees are read before what was found in them is counted: it bounds the memory.
const BATCH: usize = 256;

/// The bytes that each of these root trees takes beyond all before it.
///
/// # Errors
/// A tree cannot be read, or a blob is in no index; [`RepositoryError::Cancelled`].
pub fn footprints(repo: &Indexed, roots: &[Id], control: &Control) -> Result<Vec<u64>, RepositoryError> {
    let places = Places::of(repo.index());
    let mut seen = Seen::none_of(&places);
    roots.iter().map(|root| footprint(repo, *root, control, &places, &mut seen)).collect()
}

fn footprint(repo: &Indexed, root: Id, control: &Control, places: &Places<'_>, seen: &mut Seen) -> Result<u64, RepositoryError> {
    let mut bytes = 0;
    let mut waiting = Vec::new();
    let mut claim = |kind: BlobKind, id: Id| -> Result<Option<u64>, RepositoryError> {
        if !seen.add(places, kind, &id) {
            return Ok(None);
        }
        let place = repo.index().lookup(kind, &id);
        let place = place.ok_or_else(|| RepositoryError::BlobMissing { kind: kind.word(), id: id.to_string() })?;
        Ok(Some(u64::from(place.length)))
    };
    if let Some(length) = claim(BlobKind::Tree, root)? {
        bytes += length;
        waiting.push(root);
    }
    while !waiting.is_empty() {
        control.checkpoint()?;
        let batch = waiting.split_off(waiting.len().saturating_sub(BATCH));
        for (subtrees, content) in read(repo, &batch)? {
            for id in content {
                bytes += claim(BlobKind::Data, id)?.unwrap_or(0);
            }
            for id in subtrees {
                if let Some(length) = claim(BlobKind::Tree, id)? {
                    bytes += length;
                    waiting.push(id);
                }
            }
        }
    }
    Ok(bytes)
}

/// What a tree names: folders and data.
type Named = (Vec<Id>, Vec<Id>);

/// Reads trees on all cores, in no order.
fn read(repo: &Indexed, batch: &[Id]) -> Result<Vec<Named>, RepositoryError> {
    let part = batch.len().div_ceil(cores()).max(8);
    std::thread::scope(|scope| {
        let work = |part: &[Id]| part.iter().map(|id| load_tree(repo, id).map(named)).collect::<Result<Vec<Named>, _>>();
        let threads: Vec<_> = batch.chunks(part).map(|part| scope.spawn(move || work(part))).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| RepositoryError::Internal("a thread that reads trees has panicked".into()))??);
        }
        Ok(all)
    })
}

fn named(tree: super::tree::Tree) -> Named {
    let mut found = Named::default();
    for node in tree.nodes {
        found.0.extend(node.subtree);
        found.1.extend(node.content);
    }
    found
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::model::entry::Kind;
    use crate::repository::restic::reader::testing::{Builder, node};

    #[test]
    fn what_is_shared_counts_once() {
        let mut made = Builder::new();
        let shared = made.blob(BlobKind::Data, &[1; 5000]);
        let own = made.blob(BlobKind::Data, b"only in the second");
        let file = |name: &str, content: &[Id]| {
            let mut file = node(name, Kind::File);
            file.content = content.to_vec();
            file
        };
        let inner = made.tree(&[file("a", &[shared, shared])]);
        let mut folder = node("folder", Kind::Directory);
        folder.subtree = Some(inner);
        let first = made.tree(std::slice::from_ref(&folder));
        let second = made.tree(&[folder, file("b", &[shared, own])]);
        made.pack();
        let lost = made.tree(&[file("c", &[Id::of(b"nowhere")])]);
        made.pack();
        let repo = made.indexed();
        let length = |kind, id: &Id| u64::from(repo.index().lookup(kind, id).unwrap().length);
        let whole = length(BlobKind::Tree, &first) + length(BlobKind::Tree, &inner) + length(BlobKind::Data, &shared);
        let more = length(BlobKind::Tree, &second) + length(BlobKind::Data, &own);
        let control = Control::new();
        assert_eq!(footprints(&repo, &[first, second, first], &control).unwrap(), [whole, more, 0]);
        let backwards = footprints(&repo, &[second, first], &control).unwrap();
        assert_eq!(backwards.iter().sum::<u64>(), whole + more, "the sum does not depend on the order");
        assert!(matches!(footprints(&repo, &[lost], &control), Err(RepositoryError::BlobMissing { .. })));
        control.cancel();
        assert!(matches!(footprints(&repo, &[first], &control), Err(RepositoryError::Cancelled)));
    }
}

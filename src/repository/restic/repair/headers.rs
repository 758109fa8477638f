//! Whether the index says of packs what their own headers say.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{confirmed, is_damage};
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::lock::Guard;
use crate::repository::restic::pack::{self, PackedBlob};
use crate::repository::restic::reader;
use crate::repository::restic::state::Indexed;

/// The most threads that read headers.
const THREADS: usize = 8;

/// The packs of which the index says something else than they do, in the order of their ids. One whose header is damaged says nothing.
///
/// # Errors
/// A header is out of reach; what [`Guard`] says.
pub(super) fn contradicted(repo: &Indexed, guard: Guard<'_>) -> Result<Vec<Id>, RepositoryError> {
    // A sum for each pack: blobs are not named in the order in which they stand in it.
    let mut told: HashMap<Id, u64, BuildIdHasher> = HashMap::default();
    for (pack, blob) in repo.index().blobs() {
        let sum = told.entry(pack).or_default();
        *sum = sum.wrapping_add(mark(&blob));
    }
    let mut packs = repo.list_sizes(FileKind::Pack)?;
    packs.retain(|(id, _)| told.contains_key(id));
    let (next, wrong, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    let look = |id: &Id, size: u64| {
        guard.check()?;
        match confirmed(|| pack::read_header(&**repo.backend(), repo.key(), id, size)) {
            Ok(blobs) => Ok(told.get(id) == Some(&blobs.iter().map(mark).fold(0, u64::wrapping_add))),
            Err(error) if is_damage(&error) => Ok(true),
            Err(error) => Err(error),
        }
    };
    let work = || {
        while let Some((id, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
            match look(id, *size) {
                Ok(true) => {}
                Ok(false) => wrong.lock().unwrap_or_else(PoisonError::into_inner).push(*id),
                Err(error) => {
                    next.store(packs.len(), Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    };
    let threads = reader::cores().max(repo.backend().connections()).min(THREADS).min(packs.len());
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    wrong.sort_unstable();
    Ok(wrong)
}

/// A number that is another one wherever anything about the blob is.
fn mark(blob: &PackedBlob) -> u64 {
    let mut hasher = DefaultHasher::new();
    (blob.id.0, blob.kind == BlobKind::Tree, blob.offset, blob.length, blob.uncompressed).hash(&mut hasher);
    hasher.finish()
}

//! Blobs kept for a while after they were read: readers ask for small pieces one after the other, and several at once.
//!
//! Where a piece lies in a file is `serve`'s business.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::repository::contract::RepositoryError;
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::state::Indexed;

/// Bytes of blobs that are kept.
const BUDGET: usize = 96 << 20;

/// A blob, once somebody has read it. Who comes meanwhile waits; nothing is read twice at once.
type Slot = Arc<OnceLock<Result<Arc<[u8]>, String>>>;

#[derive(Default)]
pub(super) struct Blobs(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    slots: HashMap<Id, Slot, BuildIdHasher>,
    /// In the order in which they were read; the first go first.
    order: VecDeque<(Id, usize)>,
    bytes: usize,
}

impl Blobs {
    /// Gives a data blob, from memory if it is there.
    pub(super) fn get(&self, repo: &Indexed, id: &Id) -> Result<Arc<[u8]>, String> {
        let slot = Arc::clone(self.kept().slots.entry(*id).or_default());
        let mut error: Option<RepositoryError> = None;
        let mut is_new = false;
        let blob = slot.get_or_init(|| {
            is_new = true;
            let mut buffer = Vec::new();
            match repo.read_blob(BlobKind::Data, id, &mut buffer) {
                Ok(()) => Ok(buffer.into()),
                Err(failed) => {
                    let message = failed.to_string();
                    error = Some(failed);
                    Err(message)
                }
            }
        });
        if is_new {
            let mut kept = self.kept();
            match blob {
                Ok(blob) => kept.keep(*id, blob.len()),
                // The next one who asks tries again: a disk may come back.
                Err(_) => drop(kept.slots.remove(id)),
            }
        }
        blob.clone()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, id: Id, bytes: usize) {
        self.order.push_back((id, bytes));
        self.bytes += bytes;
        while self.bytes > BUDGET
            && let Some((oldest, bytes)) = self.order.pop_front()
        {
            self.bytes -= bytes;
            self.slots.remove(&oldest);
        }
    }
}

//! What was added to an index since it was loaded, in small maps with a lock each.
//!
//! Who may count on it is `index`'s business.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::super::codec::BlobKind;
use super::super::id::Id;
use super::super::pack::PackedBlob;
use super::{CLAIMED, Place, locked, packed};

/// Maps, and as many locks.
const MAPS: usize = 256;

/// One blob and where it is.
pub(super) struct Blob {
    id: Id,
    place: Place,
}

/// Blobs with one place each: data blobs in the first half, trees in the second, by the first byte of the id.
pub(super) struct Added {
    maps: Vec<Mutex<HashTable<Blob>>>,
    count: AtomicUsize,
}

impl Default for Added {
    fn default() -> Self {
        Self { maps: (0..MAPS).map(|_| Mutex::default()).collect(), count: AtomicUsize::new(0) }
    }
}

impl Added {
    /// Number of blobs, those that are only claimed included.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The place of a blob, or that it is claimed.
    pub(super) fn find(&self, kind: BlobKind, id: &Id) -> Option<Place> {
        locked(self.map(kind, id)).find(hash(id), |blob| blob.id == *id).map(|blob| blob.place)
    }

    /// Adds a blob if it is not there and `is_known` is not true either, which is asked last; whether it was added.
    pub(super) fn add_unless(&self, kind: BlobKind, id: &Id, place: Place, is_known: impl FnOnce() -> bool) -> bool {
        let mut map = locked(self.map(kind, id));
        let Entry::Vacant(entry) = map.entry(hash(id), |blob| blob.id == *id, |blob| hash(&blob.id)) else { return false };
        if is_known() {
            return false;
        }
        entry.insert(Blob { id: *id, place });
        self.count.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Gives a blob its place unless it has one; whether it did.
    pub(super) fn set(&self, kind: BlobKind, id: &Id, place: Place) -> bool {
        let mut map = locked(self.map(kind, id));
        match map.entry(hash(id), |blob| blob.id == *id, |blob| hash(&blob.id)) {
            Entry::Occupied(mut entry) => {
                let known = &mut entry.get_mut().place;
                let is_open = known.pack == CLAIMED;
                if is_open {
                    *known = place;
                }
                is_open
            }
            Entry::Vacant(entry) => {
                entry.insert(Blob { id: *id, place });
                self.count.fetch_add(1, Ordering::Relaxed);
                true
            }
        }
    }

    /// Takes a blob away; whether it was there.
    pub(super) fn remove(&self, kind: BlobKind, id: &Id) -> bool {
        let mut map = locked(self.map(kind, id));
        let Ok(entry) = map.find_entry(hash(id), |blob| blob.id == *id) else { return false };
        entry.remove();
        self.count.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// All that have a place, with the numbers of their packs.
    pub(super) fn stored(&self) -> Vec<(u32, PackedBlob)> {
        let mut stored = Vec::new();
        for (slot, map) in self.maps.iter().enumerate() {
            let kind = if slot < MAPS / 2 { BlobKind::Data } else { BlobKind::Tree };
            let map = locked(map);
            stored.extend(map.iter().filter(|blob| blob.place.pack != CLAIMED).map(|blob| packed(kind, blob.id, blob.place)));
        }
        stored
    }

    fn map(&self, kind: BlobKind, id: &Id) -> &Mutex<HashTable<Blob>> {
        &self.maps[usize::from(id.0[0] >> 1) + usize::from(kind == BlobKind::Tree) * (MAPS / 2)]
    }
}

/// Not the first byte, which chooses the map.
fn hash(id: &Id) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.0[1..9]);
    u64::from_le_bytes(bytes)
}

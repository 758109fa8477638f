//! What is whole in damaged packs, put into new ones unless it is whole elsewhere too.
//!
//! Which packs are damaged is found out above.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use super::super::is_lost;
use super::{NOBODY, READ, Repair, confirmed, parse};
use crate::model::progress::Event;
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::codec::{BlobKind, Decoder};
use crate::repository::restic::file::IndexPack;
use crate::repository::restic::id::Id;
use crate::repository::restic::pack::{self, PackedBlob};
use crate::repository::restic::state::Open;
use crate::repository::restic::writer::{PackPair, packed_blobs};

/// A pack that is damaged.
pub(super) struct Broken {
    pub(super) id: Id,
    /// What its header says, or what index files say where that cannot be read.
    pub(super) blobs: Vec<PackedBlob>,
    pub(super) why: String,
}

/// What a blob is known by.
type Key = (BlobKind, Id);

/// Blobs and the places where packs that are in the index have them.
type Places = HashMap<Key, Vec<(Id, PackedBlob)>>;

/// What became of the blobs of a damaged pack.
#[derive(Default)]
struct Tally {
    saved: u64,
    elsewhere: u64,
    lost: u64,
}

impl Repair<'_> {
    /// Puts what is whole in damaged packs into new ones.
    pub(super) fn save(&self, ids: &[Id], pack_size: usize) -> Result<(), RepositoryError> {
        let mut broken = std::mem::take(&mut self.found().broken);
        if broken.is_empty() {
            return Ok(());
        }
        self.progress.event(Event::Phase("saving what is whole in damaged packs"));
        broken.sort_unstable_by_key(|pack| pack.id);
        self.ask_the_index(&mut broken, ids);
        let places = self.elsewhere(&broken, ids)?;
        let mut scratch = Scratch::default();
        let mut packs = PackPair::default();
        let mut there: HashSet<Key> = HashSet::new();
        for pack in &broken {
            let mut tally = Tally::default();
            for blob in &pack.blobs {
                self.guard.check()?;
                let key = (blob.kind, blob.id);
                if there.contains(&key) || self.is_elsewhere(places.get(&key), &mut scratch)? {
                    tally.elsewhere += 1;
                } else if scratch.is_whole(self.open, &pack.id, blob)? {
                    tally.saved += 1;
                    if !self.request.dry_run {
                        packs.of(blob.kind).push(blob, &scratch.sealed);
                        self.write_if(packs.of(blob.kind).is_full(pack_size), blob.kind, &mut packs)?;
                    }
                } else {
                    tally.lost += 1;
                    continue;
                }
                there.insert(key);
            }
            self.tell(pack, &tally);
        }
        for kind in [BlobKind::Data, BlobKind::Tree] {
            self.write_if(!packs.of(kind).is_empty(), kind, &mut packs)?;
        }
        Ok(())
    }

    fn tell(&self, pack: &Broken, tally: &Tally) {
        let Broken { id, blobs, why } = pack;
        let is_named = self.packs.get(id).is_some_and(|known| known.is_named.load(Ordering::Relaxed));
        let mut found = self.found();
        found.problem(format!("pack {id} is damaged: {why}"));
        if !is_named && !blobs.is_empty() && tally.saved + tally.lost == 0 {
            found.problem(format!("pack {id}: nothing counts on it, and everything in it is in other packs; the next prune removes it"));
            return;
        }
        found.summary.packs_damaged += 1;
        found.summary.blobs_saved += tally.saved;
        found.summary.blobs_lost += tally.lost;
        let all = blobs.len();
        found.problem(match (all, tally.elsewhere) {
            (0, _) => format!("pack {id}: nobody knows what was in it"),
            (_, 0) => format!("pack {id}: {} of {all} blobs in it are whole", tally.saved),
            (_, others) => format!("pack {id}: {} of {all} blobs in it are whole, and {others} are in other packs", tally.saved),
        });
    }

    fn write_if(&self, now: bool, kind: BlobKind, packs: &mut PackPair) -> Result<(), RepositoryError> {
        if !now {
            return Ok(());
        }
        self.guard.check()?;
        let (entry, _) = packs.of(kind).write(self.open)?;
        self.found().indexes.add(self.open, self.guard.lock, entry)
    }

    /// What index files say, of the packs that are meant.
    fn said(&self, ids: &[Id], is_meant: impl Fn(&IndexPack) -> bool + Sync) -> Vec<IndexPack> {
        let said: Mutex<Vec<IndexPack>> = Mutex::default();
        let _ = self.open.read_all(FileKind::Index, ids, |id, json| {
            let packs = parse(id, &json)?.packs;
            said.lock().unwrap_or_else(PoisonError::into_inner).extend(packs.into_iter().filter(&is_meant));
            Ok(())
        });
        said.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// What index files say of packs whose headers cannot be read.
    fn ask_the_index(&self, broken: &mut [Broken], ids: &[Id]) {
        let place = |broken: &[Broken], pack: &IndexPack| broken.binary_search_by_key(&pack.id, |broken| broken.id).ok();
        let said = self.said(ids, |pack| place(broken, pack).is_some_and(|at| broken[at].blobs.is_empty()));
        for pack in said {
            if let Some(at) = place(broken, &pack) {
                broken[at].blobs.extend(packed_blobs(&pack));
            }
        }
        for pack in broken {
            pack.blobs.sort_unstable_by_key(|blob| (blob.offset, blob.length, blob.id));
            pack.blobs.dedup();
        }
    }

    /// Where else the blobs of damaged packs may be: what index files say of other packs, and what these say themselves.
    fn elsewhere(&self, broken: &[Broken], ids: &[Id]) -> Result<Places, RepositoryError> {
        let mut places: Places = broken.iter().flat_map(|pack| &pack.blobs).map(|blob| ((blob.kind, blob.id), Vec::new())).collect();
        let is_in_index = |pack: &IndexPack| self.packs.get(&pack.id).is_some_and(|known| known.owner.load(Ordering::Relaxed) != NOBODY);
        let has_one = |pack: &IndexPack| pack.blobs.iter().any(|blob| places.contains_key(&(blob.kind, blob.id)));
        let said = self.said(ids, |pack| is_in_index(pack) && has_one(pack));
        let mut add = |pack: Id, blobs: Vec<PackedBlob>| {
            for blob in blobs {
                if let Some(places) = places.get_mut(&(blob.kind, blob.id)) {
                    places.push((pack, blob));
                }
            }
        };
        for pack in said {
            add(pack.id, packed_blobs(&pack));
        }
        for (id, known) in &self.packs {
            if known.owner.load(Ordering::Relaxed) == READ && !known.is_named.load(Ordering::Relaxed) {
                self.guard.check()?;
                add(*id, confirmed(|| pack::read_header(&**self.open.backend(), self.open.key(), id, known.size))?);
            }
        }
        Ok(places)
    }

    /// Whether one of these places has the blob, which is seen by reading it.
    fn is_elsewhere(&self, places: Option<&Vec<(Id, PackedBlob)>>, scratch: &mut Scratch) -> Result<bool, RepositoryError> {
        for (pack, blob) in places.into_iter().flatten() {
            if scratch.is_whole(self.open, pack, blob)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a thread reuses from blob to blob.
#[derive(Default)]
pub(super) struct Scratch {
    decoder: Decoder,
    sealed: Vec<u8>,
    opened: Vec<u8>,
    plain: Vec<u8>,
}

impl Scratch {
    /// Whether a blob is what its name says; then it is in `sealed`. What is not is read once more.
    pub(super) fn is_whole(&mut self, open: &Open, pack: &Id, blob: &PackedBlob) -> Result<bool, RepositoryError> {
        Ok(self.reads_whole(open, pack, blob)? || self.reads_whole(open, pack, blob)?)
    }

    fn reads_whole(&mut self, open: &Open, pack: &Id, blob: &PackedBlob) -> Result<bool, RepositoryError> {
        self.sealed.resize(blob.length as usize, 0);
        let read = open.backend().read_at(FileKind::Pack, &pack.to_string(), u64::from(blob.offset), &mut self.sealed);
        match read {
            Err(error) if is_lost(&error) => return Ok(false),
            result => result.map_err(|source| RepositoryError::Storage { action: "read", file: format!("pack {pack}"), source })?,
        }
        self.opened.clone_from(&self.sealed);
        let decoded = self.decoder.decode(open.key(), &mut self.opened, blob.uncompressed, &mut self.plain);
        Ok(decoded.is_ok() && Id::of(&self.plain) == blob.id)
    }
}

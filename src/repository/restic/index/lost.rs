//! Packs that the index names and the repository does not have: what is in them counts as not there.
//!
//! Who looks, and what is told of it, is the engine's business.

use std::collections::HashMap;

use super::{Index, Place};
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::id::{BuildIdHasher, Id};

/// What a comparison of the index with the packs that are there has shown.
#[derive(Debug, Default)]
pub struct Compared {
    /// Numbers of packs that are missing or too short, with the bytes that are there.
    lengths: HashMap<u32, u64>,
    /// The same by their ids, sorted.
    pub lost: Vec<Id>,
    /// Whether there are packs that the index does not name.
    pub has_others: bool,
}

impl Index {
    /// Compares with the packs that are there, by their sizes, unless that was done before. Nothing may be published before the
    /// first time.
    pub fn compare_with(&self, there: &HashMap<Id, u64, BuildIdHasher>) -> &Compared {
        self.saved.compared.get_or_init(|| {
            let mut compared = Compared::default();
            let mut found = 0;
            for (number, pack) in (0..).zip(self.packs()) {
                let size = there.get(&pack.id);
                found += usize::from(size.is_some());
                // Two indexes may say different things of one blob: the sum of all that they say is too much then.
                if pack.blobs > 0 && size.is_none_or(|size| *size < pack.end) {
                    compared.lengths.insert(number, size.copied().unwrap_or_default());
                    compared.lost.push(pack.id);
                }
            }
            compared.lost.sort_unstable();
            compared.has_others = found < there.len();
            compared
        })
    }

    /// What was seen when the packs were looked for; none if they were not.
    pub fn compared(&self) -> Option<&Compared> {
        self.saved.compared.get()
    }

    /// The pack that should hold a blob which is nowhere else.
    pub fn lost_pack(&self, kind: BlobKind, id: &Id) -> Option<Id> {
        if self.contains(kind, id) {
            return None;
        }
        self.named(kind, id).next().map(|place| self.location(place).pack)
    }

    pub(super) fn is_lost(&self, place: &Place) -> bool {
        let there = self.compared().and_then(|compared| compared.lengths.get(&place.pack));
        there.is_some_and(|length| u64::from(place.offset) + u64::from(place.length) > *length)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::repository::restic::file::{IndexBlob, IndexFile, IndexPack};
    use crate::repository::restic::index::IndexBuilder;
    use crate::repository::restic::reader::testing::Builder;

    #[test]
    fn a_pack_of_which_indexes_say_different_things_is_there() {
        let pack = Id::of(b"pack");
        let builder = IndexBuilder::new();
        for length in [100, 90] {
            let blob = IndexBlob { id: Id::of(b"blob"), kind: BlobKind::Data, offset: 0, length, uncompressed_length: None };
            builder.add(&IndexFile { supersedes: Vec::new(), packs: vec![IndexPack { id: pack, blobs: vec![blob] }] }).unwrap();
        }
        let index = builder.finish();
        let there = std::iter::once((pack, super::super::super::pack::pack_size([]) + 141)).collect();
        assert_eq!(index.compare_with(&there).lost, []);
        assert!(index.contains(BlobKind::Data, &Id::of(b"blob")));
    }

    #[test]
    fn what_is_in_packs_that_are_gone_is_not_there() {
        let mut builder = Builder::new();
        let kept = builder.blob(BlobKind::Data, b"kept");
        builder.pack();
        let gone = builder.blob(BlobKind::Data, b"gone");
        builder.pack();
        let short = builder.blob(BlobKind::Data, b"short");
        builder.pack();
        let repo = builder.indexed();
        let index = repo.index();
        let pack = |id| index.lookup(BlobKind::Data, id).unwrap().pack;
        let (gone_pack, short_pack) = (pack(&gone), pack(&short));
        let mut there: HashMap<Id, u64, BuildIdHasher> = index.packs().map(|pack| (pack.id, pack.size)).collect();
        there.remove(&gone_pack);
        *there.get_mut(&short_pack).unwrap() = 10;
        assert!(index.contains(BlobKind::Data, &gone) && index.compared().is_none());
        let compared = index.compare_with(&there);
        let mut lost = vec![gone_pack, short_pack];
        lost.sort_unstable();
        assert_eq!((&compared.lost, compared.has_others), (&lost, false));
        for (id, pack) in [(gone, gone_pack), (short, short_pack)] {
            assert_eq!((index.lookup(BlobKind::Data, &id), index.lost_pack(BlobKind::Data, &id)), (None, Some(pack)));
            assert!(index.for_writer().claim(BlobKind::Data, &id), "it is to be stored once more");
        }
        assert!(index.contains(BlobKind::Data, &kept) && !index.claim(BlobKind::Data, &kept));
        assert_eq!(index.lost_pack(BlobKind::Data, &kept), None);
    }
}

//! Tests of the index: what was loaded, claimed and published, from several threads.
//!
//! Index files on disk are tested with `state`.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;

use super::places::{Places, Seen};
use super::*;
use crate::repository::restic::file::{IndexBlob, IndexPack};

fn id(number: u64) -> Id {
    Id::of(&number.to_le_bytes())
}

fn kind(number: u64) -> BlobKind {
    if number.is_multiple_of(3) { BlobKind::Tree } else { BlobKind::Data }
}

fn packed_blob(number: u64) -> PackedBlob {
    PackedBlob {
        id: id(number),
        kind: kind(number),
        offset: (number % 10) as u32 * 100,
        length: 100 + (number % 2) as u32,
        uncompressed: NonZeroU32::new(if number.is_multiple_of(4) { 0 } else { number as u32 }),
    }
}

/// Packs of ten blobs.
fn file(numbers: std::ops::Range<u64>) -> IndexFile {
    let numbers: Vec<u64> = numbers.collect();
    let blob = |number: &u64| {
        let PackedBlob { id, kind, offset, length, uncompressed } = packed_blob(*number);
        IndexBlob { id, kind, offset, length, uncompressed_length: uncompressed }
    };
    let packs = numbers.chunks(10).map(|chunk| IndexPack { id: pack(chunk[0] / 10), blobs: chunk.iter().map(blob).collect() });
    IndexFile { supersedes: Vec::new(), packs: packs.collect() }
}

fn pack(number: u64) -> Id {
    id(1 << 40 | number)
}

fn expected(number: u64) -> Location {
    let PackedBlob { offset, length, uncompressed, .. } = packed_blob(number);
    Location { pack: pack(number / 10), offset, length, uncompressed }
}

#[test]
fn an_added_blob_takes_48_bytes() {
    assert_eq!(size_of::<added::Blob>(), 48);
}

#[test]
fn finds_what_was_loaded_and_nothing_else() {
    const COUNT: u64 = 60_000;
    let builder = IndexBuilder::new();
    std::thread::scope(|scope| {
        for start in (0..COUNT).step_by(6000) {
            let builder = &builder;
            scope.spawn(move || builder.add(&file(start..start + 6000)).unwrap());
        }
    });
    // Said twice.
    builder.add(&file(1000..2000)).unwrap();
    let index = builder.finish();
    assert_eq!(index.len(), COUNT as usize);
    for number in 0..COUNT {
        assert_eq!(index.lookup(kind(number), &id(number)), Some(expected(number)), "{number}");
        assert!(!index.claim(kind(number), &id(number)));
    }
    let other = |kind| if kind == BlobKind::Data { BlobKind::Tree } else { BlobKind::Data };
    for number in 0..1000 {
        assert_eq!(index.lookup(other(kind(number)), &id(number)), None);
        assert_eq!(index.lookup(kind(number), &id(COUNT + number)), None);
    }
    let listed: HashSet<Id> = index.blobs().map(|(_, blob)| blob.id).collect();
    assert_eq!(listed.len(), COUNT as usize);
    assert_eq!(index.blobs().count(), COUNT as usize);
    for (pack, blob) in index.blobs().step_by(777) {
        let found = index.lookup(blob.kind, &blob.id).unwrap();
        assert_eq!((found.pack, found.offset, found.length, found.uncompressed), (pack, blob.offset, blob.length, blob.uncompressed));
    }
    assert_eq!(index.packs().count(), COUNT as usize / 10);
    for summary in index.packs().take(3) {
        let blobs: Vec<PackedBlob> = index.blobs().filter(|(pack, _)| *pack == summary.id).map(|(_, blob)| blob).collect();
        assert_eq!(summary.blobs, 10);
        assert_eq!(summary.size, crate::repository::restic::pack::pack_size(&blobs));
    }
}

#[test]
fn copies_in_several_packs_are_all_kept() {
    let builder = IndexBuilder::new();
    let mut copy = file(0..10);
    copy.packs[0].id = pack(99);
    builder.add(&file(0..10)).unwrap();
    builder.add(&copy).unwrap();
    let index = builder.finish();
    assert_eq!(index.len(), 10);
    let packs: HashSet<Id> = index.lookup_all(kind(3), &id(3)).iter().map(|location| location.pack).collect();
    assert_eq!(packs, HashSet::from([pack(0), pack(99)]));
    assert!(packs.contains(&index.lookup(kind(3), &id(3)).unwrap().pack));
}

#[test]
fn one_worker_gets_each_claim() {
    let builder = IndexBuilder::new();
    builder.add(&file(0..100)).unwrap();
    let index = builder.finish();
    let claims = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..20_000 {
                    if index.claim(kind(number), &id(number)) {
                        claims.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(claims.into_inner(), 19_900);
    assert_eq!(index.len(), 100);
    assert_eq!(index.lookup(kind(100), &id(100)), None, "a claim is not stored yet");
    assert!(!index.contains(kind(100), &id(100)));
    assert_eq!(index.blobs().count(), 100);
}

#[test]
fn published_packs_are_found_and_taken_once() {
    let index = Index::empty();
    assert!(index.is_empty());
    let blobs: Vec<PackedBlob> = (10..20).map(packed_blob).collect();
    assert!(index.claim(kind(10), &id(10)));
    // Not claimed at all: a pack that another run left.
    index.publish(pack(1), &blobs);
    for number in 10..20 {
        assert_eq!(index.lookup(kind(number), &id(number)), Some(expected(number)));
        assert!(index.contains(kind(number), &id(number)));
        assert!(!index.claim(kind(number), &id(number)));
    }
    assert_eq!(index.len(), 10);
    assert_eq!(index.unsaved_blobs(), 10);
    assert_eq!(index.blobs().count(), 10);
    assert_eq!(index.packs().map(|summary| (summary.id, summary.blobs)).collect::<Vec<_>>(), [(pack(1), 10)]);
    assert!(index.blobs().all(|(_, blob)| blob == packed_blob((10..20).find(|n| id(*n) == blob.id).unwrap())));
    assert_eq!(index.take_unsaved(), [(pack(1), blobs)]);
    assert_eq!(index.take_unsaved(), []);
    assert_eq!(index.lookup(kind(15), &id(15)), Some(expected(15)), "still known once it is saved");
}

#[test]
fn another_backup_counts_only_on_what_an_index_file_names() {
    let builder = IndexBuilder::new();
    builder.add(&file(0..10)).unwrap();
    let loaded = builder.finish();
    let (one, other) = (loaded.for_writer(), loaded.for_writer());
    assert!(!other.claim(kind(3), &id(3)));
    let blobs: Vec<PackedBlob> = (10..20).map(packed_blob).collect();
    assert!(one.claim(kind(10), &id(10)) && !one.claim(kind(10), &id(10)));
    assert!(other.claim(kind(10), &id(10)), "the other may fail");
    one.publish(pack(1), &blobs);
    assert!(!other.contains(kind(11), &id(11)) && other.claim(kind(11), &id(11)), "no index file names it yet");
    assert_eq!(other.take_unsaved(), [], "it is not the other's to name");
    one.saved(&one.take_unsaved());
    for index in [&one, &other, &loaded, &loaded.for_writer()] {
        assert_eq!(index.lookup(kind(15), &id(15)), Some(expected(15)));
        assert!(!index.claim(kind(15), &id(15)));
        assert_eq!((index.len(), index.blobs().count()), (20, 20));
    }
    // What both have stored stands in two packs, and one place of it is known.
    other.publish(pack(7), &blobs[..2]);
    other.saved(&other.take_unsaved());
    assert_eq!((loaded.len(), loaded.blobs().count()), (20, 20));
    assert_eq!(loaded.lookup(kind(10), &id(10)), Some(expected(10)));
}

#[test]
fn impossible_places_are_refused() {
    for (offset, length) in [(0, 31), (u32::MAX - 99, 100), (u32::MAX, u32::MAX)] {
        let mut file = file(0..10);
        file.packs[0].blobs[9].offset = offset;
        file.packs[0].blobs[9].length = length;
        let builder = IndexBuilder::new();
        assert!(builder.add(&file).is_err(), "{offset} {length}");
        assert!(builder.finish().is_empty());
    }
}

#[test]
fn what_was_seen_takes_a_bit_for_each_loaded_blob() {
    let builder = IndexBuilder::new();
    builder.add(&file(0..1000)).unwrap();
    // A second copy of a blob is no second blob.
    let mut copy = file(0..1000);
    copy.packs[0].id = Id::of(b"copy");
    builder.add(&copy).unwrap();
    let index = builder.finish();
    let places = Places::of(&index);
    let (mut seen, mut other) = (Seen::none_of(&places), Seen::none_of(&places));
    for number in 0..1000 {
        assert!(seen.add(&places, kind(number), &id(number)), "{number}");
        assert!(!seen.add(&places, kind(number), &id(number)), "{number}");
        if number % 10 > 0 {
            other.add(&places, kind(number), &id(number));
        }
    }
    assert!(seen.others.is_empty(), "ids of what was loaded are kept");
    // One that came later, and one that is nowhere.
    assert!(seen.add(&places, kind(2000), &id(2000)) && !seen.add(&places, kind(2000), &id(2000)));
    other.add(&places, kind(2001), &id(2001));
    let mut only: Vec<(BlobKind, Id)> = seen.and_not(&other, &places).collect();
    let mut expected: Vec<(BlobKind, Id)> = (0..1000).step_by(10).chain([2000]).map(|number| (kind(number), id(number))).collect();
    only.sort_unstable_by_key(|(_, id)| *id);
    expected.sort_unstable_by_key(|(_, id)| *id);
    assert_eq!(only, expected);
    assert_eq!(other.and_not(&seen, &places).collect::<Vec<_>>(), [(kind(2001), id(2001))]);
}

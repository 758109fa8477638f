//! Every place of every loaded blob by a number, so that what is known of each takes one bit and not a map of ids.
//!
//! What the bits mean is the business of who sets them.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use super::loaded::{PARTS, Part, kind_of, part_of};
use super::{Index, packed};
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::pack::PackedBlob;

/// The loaded blobs of an index, numbered in the order of kinds and ids: the places of one blob follow each other.
#[derive(Debug)]
pub struct Places<'a> {
    parts: &'a [Part],
    /// Number of the first place of each part, and one more than the last.
    starts: [usize; PARTS + 1],
    packs: Vec<Id>,
}

/// One place of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberedPlace {
    /// Number of this place.
    pub number: usize,
    /// Number of the pack.
    pub pack: u32,
    /// The blob there.
    pub blob: PackedBlob,
}

impl<'a> Places<'a> {
    /// Of an index to which nothing is added meanwhile.
    pub fn of(index: &'a Index) -> Self {
        let mut starts = [0; PARTS + 1];
        for (number, part) in index.saved.parts.iter().enumerate() {
            starts[number + 1] = starts[number] + part.len();
        }
        let packs = index.saved.packs.read().unwrap_or_else(PoisonError::into_inner).clone();
        Self { parts: &index.saved.parts, starts, packs }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts[PARTS]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers of all places of a blob; empty if it is in no index.
    pub fn find(&self, kind: BlobKind, id: &Id) -> Range<usize> {
        let part = part_of(kind, id);
        let found = self.parts[part].positions(id);
        self.starts[part] + found.start..self.starts[part] + found.end
    }

    /// The number of one of a blob's places.
    pub fn find_at(&self, kind: BlobKind, id: &Id, pack: u32, offset: u32) -> Option<usize> {
        let numbers = self.find(kind, id);
        let places = self.parts[part_of(kind, id)].find(id);
        numbers.zip(places).find(|(_, place)| place.pack == pack && place.offset == offset).map(|(number, _)| number)
    }

    /// The place with a number; none if there is no such.
    pub fn get(&self, number: usize) -> Option<NumberedPlace> {
        let part = self.starts.partition_point(|start| *start <= number).checked_sub(1)?;
        let (id, place) = self.parts.get(part)?.get(number - self.starts[part])?;
        let (pack, blob) = packed(kind_of(part), id, place);
        Some(NumberedPlace { number, pack, blob })
    }

    /// All of them, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = NumberedPlace> + '_ {
        let places = self.parts.iter().enumerate().flat_map(|(part, records)| {
            let kind = kind_of(part);
            records.iter().map(move |(id, place)| packed(kind, id, place))
        });
        places.enumerate().map(|(number, (pack, blob))| NumberedPlace { number, pack, blob })
    }

    /// The ids of all packs, by their numbers.
    pub fn packs(&self) -> &[Id] {
        &self.packs
    }
}

/// A bit for each of so many things, which several threads may set at once.
#[derive(Debug, Default)]
pub struct Bits(Vec<AtomicU64>);

impl Bits {
    /// None of them set.
    pub fn new(count: usize) -> Self {
        Self((0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether a bit is set. One that does not exist is not.
    pub fn get(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (number % 64) & 1 == 1)
    }

    /// Sets a bit; true if it was not set before.
    pub fn set(&self, number: usize) -> bool {
        let mask = 1 << (number % 64);
        self.0.get(number / 64).is_some_and(|word| word.fetch_or(mask, Ordering::Relaxed) & mask == 0)
    }

    /// The numbers of those that are set here and not there.
    pub fn and_not<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        let word = |bits: &Self, number: usize| bits.0.get(number).map_or(0, |word| word.load(Ordering::Relaxed));
        let words = (0..self.0.len()).map(move |number| (number, word(self, number) & !word(other, number)));
        words
            .filter(|(_, word)| *word != 0)
            .flat_map(|(number, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| number * 64 + bit))
    }

    /// Takes a bit away.
    pub fn clear(&self, number: usize) {
        if let Some(word) = self.0.get(number / 64) {
            word.fetch_and(!(1 << (number % 64)), Ordering::Relaxed);
        }
    }
}

/// Which blobs were seen: a bit for each that was loaded. Only of the others, which were added since or are in no index, the ids
/// are kept.
#[derive(Debug)]
pub struct Seen {
    loaded: Bits,
    pub(super) others: HashSet<(BlobKind, Id), BuildIdHasher>,
}

impl Seen {
    /// None of them.
    pub fn none_of(places: &Places<'_>) -> Self {
        Self { loaded: Bits::new(places.len()), others: HashSet::default() }
    }

    /// Notes a blob; true if it was not seen before.
    pub fn add(&mut self, places: &Places<'_>, kind: BlobKind, id: &Id) -> bool {
        let found = places.find(kind, id);
        if found.is_empty() { self.others.insert((kind, *id)) } else { self.loaded.set(found.start) }
    }

    /// The blobs that were seen here and not there.
    pub fn and_not<'a>(&'a self, other: &'a Self, places: &'a Places<'_>) -> impl Iterator<Item = (BlobKind, Id)> + 'a {
        let loaded = self.loaded.and_not(&other.loaded).filter_map(|number| places.get(number));
        loaded.map(|place| (place.blob.kind, place.blob.id)).chain(self.others.difference(&other.others).copied())
    }
}

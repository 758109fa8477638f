//! Every place of every loaded blob by a number, so that what is known of each takes one bit and not a map of ids.
//!
//! What the bits mean is the business of who sets them.

use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use super::loaded::{PARTS, Part, kind_of, part_of};
use super::{Index, packed};
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::id::Id;
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

    /// Takes a bit away.
    pub fn clear(&self, number: usize) {
        if let Some(word) = self.0.get(number / 64) {
            word.fetch_and(!(1 << (number % 64)), Ordering::Relaxed);
        }
    }
}

//! What index files say, in 46 bytes a blob: sorted records whose first two bytes stand for themselves by where they lie.
//!
//! How records come in and what is added later is `index`'s own business.

use super::super::codec::BlobKind;
use super::super::id::Id;
use super::Place;

/// Blobs are kept apart by kind and by the first three bits of the id. Parts of a large index are so large that the
/// allocator maps each by itself: they grow and shrink without copies and without holes.
pub(super) const PARTS: usize = 2 * FIRST;
const FIRST: usize = 8;

/// Ids of one part differ in 13 bits of their first two bytes.
const BUCKETS: usize = (1 << 16) / FIRST;

/// The rest of an id.
const REST: usize = 30;
const PLACE: usize = 16;
const RECORD: usize = REST + PLACE;
/// A record with the whole id, as it is before all are sorted.
const STAGED: usize = 32 + PLACE;

/// The part that a blob belongs to.
pub(super) fn part_of(kind: BlobKind, id: &Id) -> usize {
    usize::from(id.0[0] >> 5) + usize::from(kind == BlobKind::Tree) * FIRST
}

/// The kind of blobs in a part.
pub(super) fn kind_of(part: usize) -> BlobKind {
    if part < FIRST { BlobKind::Data } else { BlobKind::Tree }
}

/// A blob that is about to be sorted in: its id, then its place in big-endian numbers.
pub(super) type Staged = [u8; STAGED];

/// Puts a blob together.
pub(super) fn staged(id: &Id, place: Place) -> Staged {
    let mut record = [0; STAGED];
    let (left, right) = record.split_at_mut(32);
    left.copy_from_slice(&id.0);
    let numbers = [place.pack, place.offset, place.length, place.uncompressed];
    for (field, number) in right.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
        *field = number.to_be_bytes();
    }
    record
}

/// Makes room for `more` records, a quarter more than there are: doubling would take twice the memory of a large index.
pub(super) fn reserve(records: &mut Vec<Staged>, more: usize) {
    if records.capacity() - records.len() < more {
        records.reserve_exact(more.max(records.len() / 4));
    }
}

/// All blobs of one part, sorted.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Bits of the id that all have in common.
    first: u16,
    records: Vec<u8>,
    /// Where the records of each bucket begin, and where the last ends. Empty if there are none.
    starts: Vec<u32>,
    /// Number of different ids.
    pub(super) distinct: usize,
}

impl Part {
    /// Sorts the records of a part, drops those that are there twice, and takes the common bytes away, all in place.
    pub(super) fn new(mut records: Vec<Staged>, part: usize) -> Self {
        records.sort_unstable();
        records.dedup();
        // There cannot be more: a place is 16 bytes and packs are counted by 32 bits, but memory ends long before.
        let Ok(count) = u32::try_from(records.len()) else { return Self::default() };
        if count == 0 {
            return Self::default();
        }
        let first = ((part % FIRST) as u16) << 13;
        let mut starts = vec![0; BUCKETS + 1];
        for record in &records {
            starts[bucket(record) + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let distinct = records.chunk_by(|a, b| a[..32] == b[..32]).count();
        let mut bytes = records.into_flattened();
        for n in 0..count as usize {
            bytes.copy_within(n * STAGED + (32 - REST)..(n + 1) * STAGED, n * RECORD);
        }
        bytes.truncate(count as usize * RECORD);
        bytes.shrink_to_fit();
        Self { first, records: bytes, starts, distinct }
    }

    /// Number of places.
    pub(super) fn len(&self) -> usize {
        self.records.len() / RECORD
    }

    /// Where the places of a blob stand among all of this part.
    pub(super) fn positions(&self, id: &Id) -> std::ops::Range<usize> {
        let wanted = &id.0[32 - REST..];
        let number = bucket(&id.0);
        let bucket = self.bucket(number);
        let start = bucket.partition_point(|record| record[..REST] < *wanted);
        let count = bucket[start..].iter().take_while(|record| record[..REST] == *wanted).count();
        let start = self.starts.get(number).map_or(0, |first| *first as usize) + start;
        start..start + count
    }

    /// The record that stands at a position.
    pub(super) fn get(&self, position: usize) -> Option<(Id, Place)> {
        let record = self.records.as_chunks::<RECORD>().0.get(position)?;
        let bucket = self.starts.partition_point(|start| *start as usize <= position).checked_sub(1)?;
        Some((self.id(bucket, record), place(record)))
    }

    fn id(&self, bucket: usize, record: &[u8; RECORD]) -> Id {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&(self.first | bucket as u16).to_be_bytes());
        id[2..].copy_from_slice(&record[..REST]);
        Id(id)
    }

    /// All places of a blob, in the order of their packs.
    pub(super) fn find(&self, id: &Id) -> impl Iterator<Item = Place> + use<'_> {
        let wanted = id.0;
        let bucket = self.bucket(bucket(&wanted));
        let start = bucket.partition_point(|record| record[..REST] < wanted[32 - REST..]);
        bucket[start..].iter().take_while(move |record| record[..REST] == wanted[32 - REST..]).map(place)
    }

    /// All blobs, in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, Place)> + use<'_> {
        (0..BUCKETS).flat_map(move |number| self.bucket(number).iter().map(move |record| (self.id(number, record), place(record))))
    }

    fn bucket(&self, number: usize) -> &[[u8; RECORD]] {
        match self.starts.get(number..number + 2) {
            Some([start, end]) => &self.records.as_chunks::<RECORD>().0[*start as usize..*end as usize],
            _ => &[],
        }
    }
}

fn bucket(id: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([id[0], id[1]])) % BUCKETS
}

fn place(record: &[u8; RECORD]) -> Place {
    let mut numbers = [0; 4];
    for (number, field) in numbers.iter_mut().zip(record[REST..].as_chunks::<4>().0) {
        *number = u32::from_be_bytes(*field);
    }
    let [pack, offset, length, uncompressed] = numbers;
    Place { pack, offset, length, uncompressed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_blob_takes_at_most_48_bytes() {
        const { assert!(RECORD <= 48) };
        let records = |part: u8| -> Vec<Staged> {
            let id = |number: u32| Id::of(&number.to_le_bytes());
            let place = |number| Place { pack: number, offset: number, length: number, uncompressed: number };
            let all = (0..20_000_u32).map(|number| (id(number), place(number)));
            all.filter(|(id, _)| id.0[0] >> 5 == part).map(|(id, place)| staged(&id, place)).collect()
        };
        for part in 0..FIRST as u8 {
            let records = records(part);
            let count = records.len();
            let part = Part::new(records, usize::from(part));
            assert!(count > 1000 && part.len() == count);
            // What is reserved counts as well; the table of the buckets does not grow with the blobs.
            assert!(part.records.capacity() <= count * 48, "{} bytes for {count} blobs", part.records.capacity());
        }
    }
}

//! Tests of pack headers: layout, all sizes, damage.
//!
//! Packs of restic are read in the tests of `state`.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io;

use proptest::prelude::*;

use super::*;
use crate::repository::restic::state::testing::corpus;

/// A store with one pack.
struct OnePack(Vec<u8>);

impl Backend for OnePack {
    fn location(&self) -> String {
        "memory".into()
    }
    fn create(&self) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, _kind: FileKind) -> io::Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }
    fn read(&self, _kind: FileKind, _name: &str) -> io::Result<Vec<u8>> {
        Ok(self.0.clone())
    }
    fn read_at(&self, _kind: FileKind, _name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let found = self.0.get(offset as usize..offset as usize + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }
    fn write(&self, _kind: FileKind, _name: &str, _parts: &[&[u8]]) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _kind: FileKind, _name: &str) -> io::Result<()> {
        Ok(())
    }
    fn connections(&self) -> usize {
        1
    }

    fn is_local(&self) -> bool {
        true
    }
}

fn pack(key: &MasterKey, count: u32) -> (Vec<u8>, Vec<PackedBlob>) {
    let (mut file, mut blobs) = (Vec::new(), Vec::new());
    for n in 0..count {
        let offset = file.len() as u32;
        key.seal(&n.to_le_bytes(), &mut file).unwrap();
        blobs.push(PackedBlob {
            id: Id::of(&n.to_le_bytes()),
            kind: if n % 3 == 0 { BlobKind::Tree } else { BlobKind::Data },
            offset,
            length: file.len() as u32 - offset,
            uncompressed: NonZeroU32::new(n % 2 * 77),
        });
    }
    file.extend(encode_header(key, &blobs).unwrap());
    (file, blobs)
}

#[test]
fn headers_of_all_sizes() {
    let key = MasterKey::generate().unwrap();
    for count in [1, 2, 63, 64, 65, 66, 3000] {
        let (file, blobs) = pack(&key, count);
        let size = file.len() as u64;
        assert_eq!(pack_size(&blobs), size);
        assert_eq!(read_header(&OnePack(file), &key, &Id([1; 32]), size).unwrap(), blobs);
    }
}

#[test]
fn the_layout_of_entries() {
    // Type, little-endian length, length before compression, id: as the design document has it.
    let entry = [&[3, 0x10, 0x27, 0, 0, 0x20, 0x4e, 0, 0][..], &[0xab; 32]].concat();
    let blob = PackedBlob { id: Id([0xab; 32]), kind: BlobKind::Tree, offset: 0, length: 10_000, uncompressed: NonZeroU32::new(20_000) };
    assert_eq!(parse_header(&entry).unwrap(), [blob]);
    assert_eq!(blob.plain_length(), 20_000);
    let raw = [&[0, 0x10, 0x27, 0, 0][..], &[0xab; 32]].concat();
    let second = PackedBlob { kind: BlobKind::Data, offset: 10_000, uncompressed: None, ..blob };
    assert_eq!(parse_header(&[entry, raw].concat()).unwrap(), [blob, second]);
    assert_eq!(second.plain_length(), 9_968);
}

#[test]
fn bad_headers_are_refused() {
    let entry = |kind: u8, length: u32| [&[kind][..], &length.to_le_bytes(), &[1; 36]].concat();
    assert!(parse_header(&entry(2, 32)).is_some());
    assert!(parse_header(&entry(2, 31)).is_none(), "shorter than encryption");
    assert!(parse_header(&entry(4, 32)).is_none(), "unknown kind");
    assert!(parse_header(&[&[2][..], &32_u32.to_le_bytes(), &[0; 36]].concat()).is_none(), "nothing, compressed");
    assert!(parse_header(&[entry(2, u32::MAX - 31), entry(2, 32)].concat()).is_none(), "more than 4 GiB");
    for length in 1..entry(2, 32).len() {
        assert!(parse_header(&entry(2, 32)[..length]).is_none(), "{length}");
    }
}

#[test]
fn damaged_packs_are_told() {
    let key = MasterKey::generate().unwrap();
    let (file, _) = pack(&key, 100);
    let read = |file: Vec<u8>| {
        let size = file.len() as u64;
        read_header(&OnePack(file), &key, &Id([1; 32]), size)
    };
    let damaged = |file: Vec<u8>| matches!(read(file), Err(RepositoryError::Damaged { .. }));
    for cut in [1, 2, 5, 100, file.len() - 1, file.len()] {
        assert!(damaged(file[..file.len() - cut].to_vec()), "{cut} bytes cut off");
    }
    for bit in [0, 7, 9, 17, 31, 32, 100, 4000] {
        let mut changed = file.clone();
        let at = file.len() - 1 - bit / 8;
        changed[at] ^= 1 << (bit % 8);
        assert!(damaged(changed), "bit {bit} from the end");
    }
    // The header is right, but the blobs before it are not all there.
    assert!(damaged(file[10..].to_vec()));
    // The store has less than the listing said.
    assert!(matches!(read_header(&OnePack(file), &key, &Id([1; 32]), 1 << 40), Err(RepositoryError::Storage { .. })));
}

/// What is read is written as it was read.
fn read_or_refused(plain: &[u8]) -> bool {
    let Some(blobs) = parse_header(plain) else { return false };
    let key = MasterKey::generate().unwrap();
    let mut sealed = encode_header(&key, &blobs).unwrap();
    sealed.truncate(sealed.len() - LENGTH_FIELD);
    assert_eq!(key.open(&mut sealed).unwrap(), plain);
    true
}

/// Headers as lists of bytes in hexadecimal: a good one of restic's, and bad ones.
#[test]
fn the_corpus_is_read() {
    let read: Vec<bool> = headers().iter().map(|plain| read_or_refused(plain)).collect();
    assert!(read.contains(&true) && read.contains(&false), "{read:?}");
}

fn headers() -> Vec<Vec<u8>> {
    let unhex = |text: Vec<u8>| -> Vec<u8> {
        let digits: Vec<u8> = text.into_iter().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    };
    corpus("pack-header").into_iter().map(unhex).collect()
}

proptest! {
    #[test]
    fn no_header_is_taken_for_another(plain in proptest::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..200)) {
        read_or_refused(&plain);
    }

    #[test]
    fn a_header_with_changes_is_read_or_refused(
        header in proptest::sample::select(headers()),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        cut in 0..8_usize,
    ) {
        let mut header = header;
        let changes = if header.is_empty() { Vec::new() } else { changes };
        for (at, byte) in changes {
            let at = at.index(header.len());
            header[at] = byte;
        }
        header.truncate(header.len().saturating_sub(cut));
        read_or_refused(&header);
    }

    #[test]
    fn every_header_comes_back(entries in proptest::collection::vec((any::<[u8; 32]>(), any::<bool>(), 32..1_000_000_u32, any::<u32>()), 0..50)) {
        let mut offset = 0;
        let blobs: Vec<PackedBlob> = entries.into_iter().map(|(id, tree, length, uncompressed)| {
            let kind = if tree { BlobKind::Tree } else { BlobKind::Data };
            let blob = PackedBlob { id: Id(id), kind, offset, length, uncompressed: NonZeroU32::new(uncompressed) };
            offset += length;
            blob
        }).collect();
        let key = MasterKey::generate().unwrap();
        let mut sealed = encode_header(&key, &blobs).unwrap();
        let length = sealed.split_off(sealed.len() - LENGTH_FIELD);
        prop_assert_eq!(u32::from_le_bytes(length.try_into().unwrap()) as usize, sealed.len());
        prop_assert_eq!(parse_header(key.open(&mut sealed).unwrap()), Some(blobs));
    }
}

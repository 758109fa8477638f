//! Packs against the index, and packs read byte by byte (design document, sections "Pack Format" and "Indexing").
//!
//! Which files need what is lost is `affected`'s business.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use crate::model::progress::{Event, FileOutcome};
use crate::model::size::ByteSize;
use crate::repository::backend::FileKind;
use crate::repository::contract::{ReadData, RepositoryError};
use crate::repository::restic::codec::{BlobKind, Decoder};
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::pack::{self, PackedBlob};
use crate::repository::restic::reader;
use crate::repository::restic::{crypto, index};

use super::{Check, KEPT, Used, locked, sentence, short};

/// The most that is read at once, unless one blob is larger.
const WINDOW: u64 = 4 << 20;
/// The most threads: each needs memory for a window and a blob.
const THREADS: usize = 16;
/// Entries of the index that are looked at between two looks at whether to go on: some milliseconds' worth.
const BETWEEN_LOOKS: usize = 1 << 16;

/// A pack that is there and in the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownPack {
    id: Id,
    size: u64,
    /// Blobs in it that the index names.
    blobs: u32,
}

/// Compares packs and index, and returns the packs that are worth reading.
pub(super) fn compare_with_index(check: &Check<'_>) -> Result<Vec<KnownPack>, RepositoryError> {
    let index = check.repo.index();
    let mut on_disk: HashMap<Id, u64, BuildIdHasher> = check.repo.list_sizes(FileKind::Pack)?.into_iter().collect();
    let mut known = Vec::new();
    let mut sizes: HashMap<Id, u64, BuildIdHasher> = HashMap::default();
    for pack in index.packs() {
        let size = on_disk.remove(&pack.id);
        sizes.insert(pack.id, size.unwrap_or(0));
        match size {
            None => check.found.error(format!("pack {} is missing: {} blobs are lost with it", pack.id, pack.blobs)),
            Some(size) => {
                if size != pack.size {
                    check.found.error(format!("pack {} has {size} bytes, but {} by the index", pack.id, pack.size));
                }
                known.push(KnownPack { id: pack.id, size, blobs: pack.blobs });
            }
        }
    }
    for (id, size) in on_disk {
        check.found.hint(format!("pack {id} ({size} bytes) is in no index: nothing uses it"));
    }
    entries_inside(check, index, &sizes)?;
    Ok(known)
}

/// Every entry of the index must lie inside its pack. What does not is lost, unless another pack has it too.
fn entries_inside(check: &Check<'_>, index: &index::Index, sizes: &HashMap<Id, u64, BuildIdHasher>) -> Result<(), RepositoryError> {
    let inside = |pack: &Id, offset: u32, length: u32| {
        // The header and its length follow the blobs.
        let size = sizes.get(pack).copied().unwrap_or(0).saturating_sub(crypto::OVERHEAD as u64 + 4);
        length >= crypto::OVERHEAD as u32 && u64::from(offset) + u64::from(length) <= size
    };
    let (mut copies, mut copied_bytes) = (0_u64, 0_u64);
    for (number, (pack, blob)) in index.blobs().enumerate() {
        if number % BETWEEN_LOOKS == 0 {
            check.go_on()?;
        }
        let first = index.lookup(blob.kind, &blob.id);
        if first.is_some_and(|first| (first.pack, first.offset) != (pack, blob.offset)) {
            copies += 1;
            copied_bytes += u64::from(blob.length);
        }
        if inside(&pack, blob.offset, blob.length) {
            continue;
        }
        let missing = sizes.get(&pack).is_none_or(|size| *size == 0);
        if !missing {
            let end = u64::from(blob.offset) + u64::from(blob.length);
            check.found.error(format!("pack {pack}: the index has blob {} at bytes {} to {end}, outside the pack", blob.id, blob.offset));
        }
        let others = index.lookup_all(blob.kind, &blob.id);
        if !others.iter().any(|other| inside(&other.pack, other.offset, other.length)) {
            let mut bad = locked(&check.found.bad);
            bad.add(&check.places, blob.kind, &blob.id);
            bad.packs.insert(pack, if missing { "is missing" } else { "is too short" });
        }
    }
    if copies > 0 {
        check.found.hint(format!("{copies} blobs ({copied_bytes} bytes) are stored more than once"));
    }
    Ok(())
}

/// Finds packs that no snapshot needs.
pub(super) fn find_unused(check: &Check<'_>, used: &Used) -> Result<(), RepositoryError> {
    let mut unused: HashMap<Id, u64, BuildIdHasher> = check.repo.index().packs().map(|pack| (pack.id, pack.size)).collect();
    for (number, (pack, blob)) in check.repo.index().blobs().enumerate() {
        if number % BETWEEN_LOOKS == 0 {
            check.go_on()?;
        }
        if used.contains(&short(blob.kind, &blob.id)) {
            unused.remove(&pack);
        }
    }
    if !unused.is_empty() {
        let bytes: u64 = unused.values().sum();
        let packs = if unused.len() == 1 { "1 pack holds".to_owned() } else { format!("{} packs hold", unused.len()) };
        check.found.hint(format!("{packs} {} that no snapshot uses", ByteSize(bytes)));
    }
    Ok(())
}

/// Leaves only the packs that are to be read.
pub(super) fn choose(packs: &mut Vec<KnownPack>, read_data: ReadData) -> Result<(), RepositoryError> {
    match read_data {
        ReadData::None => packs.clear(),
        ReadData::All => {}
        ReadData::Group(group, groups) => {
            if group == 0 || group > groups {
                return Err(RepositoryError::Internal(format!("there is no group {group} of {groups} groups of packs")));
            }
            packs.retain(|pack| short(BlobKind::Data, &pack.id) % u64::from(groups) == u64::from(group - 1));
        }
        ReadData::Percent(percent) => {
            shuffle(packs)?;
            let wanted = (packs.len() as f64 * percent / 100.0).ceil().max(1.0);
            packs.truncate(wanted as usize);
        }
        ReadData::Bytes(bytes) => {
            shuffle(packs)?;
            // The first pack is always read: a check that reads nothing would please for nothing.
            let mut sum = 0_u64;
            let mut count = 0;
            while count == 0 || (count < packs.len() && sum < bytes) {
                sum = packs.get(count).map_or(bytes, |pack| sum.saturating_add(pack.size));
                count += 1;
            }
            packs.truncate(count);
        }
    }
    // One folder after the other.
    packs.sort_unstable_by_key(|pack| pack.id);
    Ok(())
}

fn shuffle(packs: &mut [KnownPack]) -> Result<(), RepositoryError> {
    let mut bytes = [0; 8];
    crypto::random(&mut bytes).map_err(|error| RepositoryError::Internal(error.to_string()))?;
    // Ids are hashes: in the order of their distance to a random number, every choice is as likely as any other.
    let salt = u64::from_le_bytes(bytes);
    packs.sort_unstable_by_key(|pack| {
        let mixed = (short(BlobKind::Data, &pack.id) ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 32
    });
    Ok(())
}

/// Reads packs whole; returns how many, and their bytes.
pub(super) fn read(check: &Check<'_>, packs: &[KnownPack]) -> Result<(u64, u64), RepositoryError> {
    let bytes = packs.iter().map(|pack| pack.size).sum();
    check.progress.event(Event::Expected { entries: packs.len() as u64, bytes });
    let next = AtomicUsize::new(0);
    let read = (AtomicU64::new(0), AtomicU64::new(0));
    let worker = || {
        let mut scratch = Scratch::default();
        while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if check.go_on().is_err() {
                return;
            }
            match read_pack(check, pack, &mut scratch) {
                Ok(()) => {
                    read.0.fetch_add(1, Ordering::Relaxed);
                    read.1.fetch_add(pack.size, Ordering::Relaxed);
                }
                Err(RepositoryError::Cancelled) => return,
                Err(error) => check.found.error(sentence(&error)),
            }
            let path = format!("data/{}", pack.id);
            check.progress.event(Event::FileFinished { path: path.as_bytes(), size: pack.size, outcome: FileOutcome::Unchanged });
        }
    };
    let threads = reader::cores().max(check.repo.backend().connections().min(8)).min(THREADS).min(packs.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(worker);
        }
    });
    check.go_on()?;
    Ok((read.0.into_inner(), read.1.into_inner()))
}

/// What a thread reuses from pack to pack.
#[derive(Default)]
struct Scratch {
    decoder: Decoder,
    sealed: Vec<u8>,
    /// Two blobs, which are hashed together.
    plain: [Vec<u8>; 2],
}

/// Reads one pack from its beginning to its end in windows of whole blobs.
fn read_pack(check: &Check<'_>, pack: &KnownPack, scratch: &mut Scratch) -> Result<(), RepositoryError> {
    let blobs = layout(check, pack);
    let mut hash = Sha256::new();
    let mut from = 0;
    let mut rest = &blobs[..];
    loop {
        check.go_on()?;
        let count = window(rest, from, pack.size);
        let (now, later) = rest.split_at(count);
        let to = match now.last() {
            Some(last) => u64::from(last.offset) + u64::from(last.length),
            None => pack.size.min(from + WINDOW),
        };
        // What was there is overwritten, so it need not be cleared.
        scratch.sealed.resize((to - from) as usize, 0);
        let read = check.repo.backend().read_at(FileKind::Pack, &pack.id.to_string(), from, &mut scratch.sealed);
        read.map_err(|source| RepositoryError::Storage { action: "read", file: format!("pack {}", pack.id), source })?;
        hash.update(&scratch.sealed);
        check.progress.event(Event::Bytes(to - from));
        for blobs in now.chunks(2) {
            check_blobs(check, pack, blobs, from, scratch);
        }
        (from, rest) = (to, later);
        if from >= pack.size {
            break;
        }
    }
    let found = Id(hash.finalize().into());
    if found != pack.id {
        check.found.error(format!("pack {}: its content has changed (its SHA-256 is {found})", pack.id));
    }
    Ok(())
}

/// How many of the next blobs are read together. Blobs that do not follow each other (a damaged list) end the list.
fn window(blobs: &[PackedBlob], from: u64, size: u64) -> usize {
    let mut end = from;
    let mut count = 0;
    for blob in blobs {
        let blob_end = u64::from(blob.offset) + u64::from(blob.length);
        if u64::from(blob.offset) != end || blob_end > size || (count > 0 && blob_end - from > WINDOW) {
            break;
        }
        end = blob_end;
        count += 1;
    }
    count
}

/// The pack's blobs as its header names them, after comparison with the index. If the header cannot be read, the index is
/// believed.
fn layout(check: &Check<'_>, pack: &KnownPack) -> Vec<PackedBlob> {
    let index = check.repo.index();
    let header = pack::read_header(&**check.repo.backend(), check.repo.key(), &pack.id, pack.size);
    let blobs = match header {
        Ok(blobs) => blobs,
        Err(error) => {
            check.found.error(sentence(&error));
            let mut blobs: Vec<_> = index.blobs().filter(|(id, _)| *id == pack.id).map(|(_, blob)| blob).collect();
            blobs.sort_unstable_by_key(|blob| blob.offset);
            return blobs;
        }
    };
    let mut agreed = HashSet::new();
    for blob in &blobs {
        let known = index.lookup_all(blob.kind, &blob.id);
        let same = |place: &index::Location| {
            place.pack == pack.id && (place.offset, place.length, place.uncompressed) == (blob.offset, blob.length, blob.uncompressed)
        };
        if known.iter().any(same) {
            agreed.insert(blob.offset);
        } else if known.iter().any(|place| place.pack == pack.id) {
            check.found.error(format!("pack {}: the index has blob {} elsewhere than the pack's header", pack.id, blob.id));
        } else {
            check.found.hint(format!("pack {}: blob {} is in its header, but not in the index", pack.id, blob.id));
        }
    }
    if (agreed.len() as u64) < u64::from(pack.blobs) {
        let wrong = u64::from(pack.blobs) - agreed.len() as u64;
        check.found.error(format!("pack {}: {wrong} blobs of the index are not in its header", pack.id));
    }
    blobs
}

/// Checks one or two blobs of a pack of which the part from `from` on was read.
fn check_blobs(check: &Check<'_>, pack: &KnownPack, blobs: &[PackedBlob], from: u64, scratch: &mut Scratch) {
    let Scratch { decoder, sealed, plain } = scratch;
    let mut expected: [Option<&str>; 2] = [None; 2];
    for (n, blob) in blobs.iter().take(2).enumerate() {
        let start = (u64::from(blob.offset) - from) as usize;
        let decoded = sealed
            .get_mut(start..start + blob.length as usize)
            .map(|sealed| decoder.decode(check.repo.key(), sealed, blob.uncompressed, &mut plain[n]));
        expected[n] = match decoded {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(error.expected()),
            None => Some("a blob inside its pack"),
        };
    }
    let ids = if blobs.len() == 2 { Id::of_pair(&plain[0], &plain[1]) } else { [Id::of(&plain[0]), Id([0; 32])] };
    for ((blob, expected), id) in blobs.iter().zip(expected).zip(ids) {
        let wrong = if id == blob.id { None } else { Some("content whose SHA-256 is its id") };
        if let Some(expected) = expected.or(wrong) {
            damaged(check, pack, blob, expected, &mut plain[0]);
        }
    }
}

fn damaged(check: &Check<'_>, pack: &KnownPack, blob: &PackedBlob, expected: &str, buffer: &mut Vec<u8>) {
    let what = format!("{} blob {} at byte {} of pack {} is damaged: expected {expected}", blob.kind.word(), blob.id, blob.offset, pack.id);
    // Another pack may have it too.
    if check.repo.read_blob(blob.kind, &blob.id, buffer).is_err() {
        let mut bad = locked(&check.found.bad);
        bad.add(&check.places, blob.kind, &blob.id);
        if bad.told.len() < KEPT {
            bad.told.insert(blob.id, what.clone());
        }
    }
    check.found.error(what);
}

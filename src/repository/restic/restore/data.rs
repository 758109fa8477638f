//! The second step of a batch: ranges of packs are read in the order of the packs, and each blob in them is decrypted,
//! decompressed, verified and written to all its places.
//!
//! Which pieces are needed is `prepare`'s business.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::repository::backend::FileKind;
use crate::repository::restic::codec::{BlobKind, Decoder};
use crate::repository::restic::id::{BuildIdHasher, Id};
use crate::repository::restic::index::Location;
use crate::repository::restic::reader;

use super::files::{FileJob, OpenFiles};
use super::prepare::Want;
use super::run::Run;

/// Blobs nearer to each other than this are read with what is between them: cheaper than another request.
const GAP: u64 = 128 << 10;
/// The most that is read at once, unless one blob is larger.
const RANGE: u64 = 4 << 20;
/// The most threads: each needs memory for a range and a blob.
const THREADS: usize = 16;

/// Calls `work` from several threads with each number below `count`, once. `state` makes what a thread keeps for itself, and
/// what is left of it is returned.
pub(super) fn in_parallel<S: Send>(
    run: &Run<'_>,
    threads: usize,
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) + Sync,
) -> Vec<S> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut own = state();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count || run.go_on().is_err() {
                return own;
            }
            work(&mut own, number);
        }
    };
    let threads = threads.clamp(1, THREADS).min(count);
    if threads <= 1 {
        return vec![worker()];
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().filter_map(|worker| worker.join().map_err(|panic| std::panic::resume_unwind(panic)).ok()).collect()
    })
}

/// What a thread reuses from range to range.
#[derive(Default)]
struct Scratch {
    decoder: Decoder,
    sealed: Vec<u8>,
    /// Two blobs, which are hashed together.
    plain: [Vec<u8>; 2],
}

/// Reads and writes all that is wanted.
pub(super) fn restore(run: &Run<'_>, jobs: &[FileJob], files: &OpenFiles<'_>, mut wants: Vec<Want>) {
    let ranges = ranges(&mut wants);
    let threads = reader::cores().max(run.repo.backend().connections().min(8));
    in_parallel(run, threads, ranges.len(), Scratch::default, |scratch, number| {
        let range = &wants[ranges[number].clone()];
        restore_range(run, jobs, files, range, scratch);
    });
}

/// Sorts the pieces into the order of reading and says which are read together. Packs come in the order in which the files
/// need them, so that files are written from front to back as far as possible.
fn ranges(wants: &mut [Want]) -> Vec<Range<usize>> {
    let mut order: HashMap<Id, u32, BuildIdHasher> = HashMap::default();
    for want in &*wants {
        let next = order.len() as u32;
        order.entry(want.location.pack).or_insert(next);
    }
    wants.sort_unstable_by_key(|want| {
        (order.get(&want.location.pack).copied(), want.location.offset, want.location.length, want.file, want.at)
    });
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut end = 0;
    for (at, want) in wants.iter().enumerate() {
        let location = &want.location;
        let blob_end = u64::from(location.offset) + u64::from(location.length);
        let fits = ranges.last().is_some_and(|range| {
            let first = &wants[range.start].location;
            first.pack == location.pack
                && u64::from(location.offset) <= end + GAP
                && (blob_end <= end || blob_end - u64::from(first.offset) <= RANGE)
        });
        if let Some(range) = ranges.last_mut().filter(|_| fits) {
            range.end = at + 1;
        } else {
            ranges.push(at..at + 1);
            end = 0;
        }
        end = end.max(blob_end);
    }
    ranges
}

fn restore_range(run: &Run<'_>, jobs: &[FileJob], files: &OpenFiles<'_>, wants: &[Want], scratch: &mut Scratch) {
    let Some(first) = wants.first() else { return };
    let start = u64::from(first.location.offset);
    let end = wants.iter().map(|want| u64::from(want.location.offset) + u64::from(want.location.length)).max().unwrap_or(start);
    let whole = read(run, first, end - start, &mut scratch.sealed);
    let mut blobs = wants.chunk_by(|a, b| a.location == b.location && a.id == b.id);
    while let Some(first) = blobs.next() {
        if run.go_on().is_err() {
            return;
        }
        let pair = [Some(first), blobs.next()];
        let mut outcomes = [Ok(()), Ok(())];
        for (n, same) in pair.iter().enumerate() {
            if let Some(want) = same.and_then(<[_]>::first) {
                outcomes[n] = restore_blob(run, want, whole.is_ok().then_some(start), scratch, n);
            }
        }
        verify(pair, &mut outcomes, &scratch.plain);
        for (n, same) in pair.into_iter().enumerate() {
            let Some(same) = same else { continue };
            if outcomes[n].is_err() && elsewhere(run, &same[0], scratch, n) {
                outcomes[n] = Ok(());
            }
            deliver(run, jobs, files, same, &outcomes[n], &scratch.plain[n]);
        }
    }
}

/// Decodes one blob into a place of the scratch memory; its hash is not looked at. If the range was read, it begins at
/// `start`; else part of it may be readable all the same.
fn restore_blob(run: &Run<'_>, want: &Want, start: Option<u64>, scratch: &mut Scratch, n: usize) -> Result<(), String> {
    let Scratch { decoder, sealed, plain } = scratch;
    let length = want.location.length as usize;
    let sealed = if let Some(start) = start {
        let from = (u64::from(want.location.offset) - start) as usize;
        &mut sealed[from..from + length]
    } else {
        read(run, want, length as u64, sealed)?;
        &mut sealed[..]
    };
    decode(run, want, decoder, sealed, &mut plain[n])
}

/// Compares the hashes of what was decoded with the ids.
fn verify(pair: [Option<&[Want]>; 2], outcomes: &mut [Result<(), String>; 2], plain: &[Vec<u8>; 2]) {
    let ids = match (pair[1], &outcomes) {
        (Some(_), [Ok(()), Ok(())]) => Id::of_pair(&plain[0], &plain[1]),
        // At the end of a range, or beside a blob that cannot be decoded.
        _ => [0, 1].map(|n| if pair[n].is_some() && outcomes[n].is_ok() { Id::of(&plain[n]) } else { Id([0; 32]) }),
    };
    for ((same, outcome), id) in pair.into_iter().zip(outcomes).zip(ids) {
        if let Some(want) = same.and_then(<[_]>::first)
            && outcome.is_ok()
            && id != want.id
        {
            *outcome = Err(damaged(want, WRONG_HASH));
        }
    }
}

/// Writes a blob to all its places, or says there why not.
fn deliver(run: &Run<'_>, jobs: &[FileJob], files: &OpenFiles<'_>, same: &[Want], outcome: &Result<(), String>, plain: &[u8]) {
    for want in same {
        let Some(job) = jobs.get(want.file as usize) else { continue };
        match outcome {
            Ok(()) => job.write(run, files, want.file, want.at, plain),
            Err(message) => {
                job.damage(run, message.clone());
                job.piece_done(run, None);
            }
        }
    }
}

/// Whether another copy of a damaged blob is whole; then it is in that place of the scratch memory.
fn elsewhere(run: &Run<'_>, want: &Want, scratch: &mut Scratch, n: usize) -> bool {
    let copies = run.repo.index().lookup_all(BlobKind::Data, &want.id);
    // The range that was read must stay: more blobs are in it.
    let mut sealed = Vec::new();
    let fits = |copy: &Location| *copy != want.location && copy.plain_length() == want.location.plain_length();
    copies.into_iter().filter(fits).any(|location| {
        let copy = Want { location, ..*want };
        let read = read(run, &copy, u64::from(location.length), &mut sealed);
        let decoded = read.and_then(|()| decode(run, &copy, &mut scratch.decoder, &mut sealed, &mut scratch.plain[n]));
        decoded.is_ok() && Id::of(&scratch.plain[n]) == want.id
    })
}

/// Reads `length` bytes from the beginning of a blob.
fn read(run: &Run<'_>, from: &Want, length: u64, buffer: &mut Vec<u8>) -> Result<(), String> {
    let pack = &from.location.pack;
    // What was there is overwritten, so it need not be cleared.
    buffer.resize(length as usize, 0);
    run.repo
        .backend()
        .read_at(FileKind::Pack, &pack.to_string(), u64::from(from.location.offset), buffer)
        .map_err(|error| format!("cannot read pack {pack} at byte {}: {error}", from.location.offset))
}

/// What is expected where only the hash is wrong.
const WRONG_HASH: &str = "data with this hash";

fn damaged(want: &Want, expected: &str) -> String {
    format!("data blob {} is damaged: {expected} expected in pack {} at byte {}", want.id, want.location.pack, want.location.offset)
}

fn decode(run: &Run<'_>, want: &Want, decoder: &mut Decoder, sealed: &mut [u8], plain: &mut Vec<u8>) -> Result<(), String> {
    decoder.decode(run.repo.key(), sealed, want.location.uncompressed, plain).map_err(|error| damaged(want, error.expected()))
}

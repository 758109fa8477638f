//! How much data is in memory at once.

use std::time::Duration;

use crossbeam_channel::bounded;

use super::*;
use crate::repository::backend::testing::IntrudedBackend;

/// Size of each file: one chunk.
const FILE: usize = 300 << 10;
const FILES: usize = 200;

/// Backs up the files with so many bytes in flight and packs of 16 MiB. Gives the most that was held and the data packs' sizes.
fn back_up(files: &Path, in_flight: Option<usize>) -> (usize, Vec<usize>) {
    let bench = Bench::new();
    let options = Options { in_flight, ..Options::default() };
    let mut archive =
        Archive::start(bench.repository(), Bench::request(), Vec::new(), options, &bench.control, Arc::new(Silent), None).unwrap();
    let budget = Arc::clone(&archive.shared.budget);
    let entries = (0..FILES).map(|number| on_disk(&format!("{number:03}"), &files.join(number.to_string())));
    archive.add(b"/x", script(std::iter::once(dir("")).chain(entries).collect())).unwrap();
    Box::new(archive).finish(Vec::new()).unwrap();
    assert_eq!(bench.contents().values().filter(|(data, _)| data.len() == FILE).count(), FILES);
    let sizes = packs(&bench).iter().map(|blobs| blobs.len() * FILE).collect();
    (budget.peak(), sizes)
}

#[test]
fn what_is_in_flight_stays_within_the_budget_and_packs_stay_large() {
    let files = tempfile::tempdir().unwrap();
    for number in 0..FILES {
        fs::write(files.path().join(number.to_string()), noise(FILE, 2 * number as u64 + 1)).unwrap();
    }
    let limit = 12 << 20;
    let (peak, sizes) = back_up(files.path(), Some(limit));
    // Whoever finds that there is no more room has just added what it had in hand.
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    let over = (workers + 1) * (FILE + 1024);
    assert!(peak > limit / 2 && peak <= limit + over, "{peak} bytes were held, {limit} permitted");
    let small = sizes.iter().filter(|size| **size < limit / 3).count();
    assert!(small <= 3 * (workers + 1), "packs of {sizes:?} bytes");
    // What is usual has room for this: no pack is smaller than it needs be.
    let (usual, _) = back_up(files.path(), None);
    assert!(usual > limit + over, "a budget of {limit} changes nothing: {usual} bytes were held without it");
}

/// Noise without end.
struct Endless(u64);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0 += 2;
        buffer.copy_from_slice(&noise(buffer.len(), self.0));
        Ok(buffer.len())
    }
}

#[test]
fn a_cancel_does_not_wait_for_a_backend_that_takes_nothing() {
    let bench = Bench::new();
    let (open, gate) = bounded::<()>(0);
    let held = Arc::new(AtomicUsize::new(0));
    // Each of the two threads that write packs is held at its first.
    let hold = |inner| {
        let (gate, held) = (gate.clone(), Arc::clone(&held));
        Arc::new(IntrudedBackend::new(inner, 0, move || {
            held.fetch_add(1, Ordering::SeqCst);
            gate.recv().unwrap_err();
        }))
    };
    let backend = hold(hold(bench.backend.clone()));
    let repository = Arc::new(Closed::new(backend).open(&password()).unwrap().into_indexed().unwrap());
    let options = Options { pack_size: 1 << 20, ..Options::default() };
    let mut archive = Archive::start(repository, Bench::request(), Vec::new(), options, &bench.control, Arc::new(Silent), None).unwrap();
    let (tell, ended) = bounded(1);
    let adding = std::thread::spawn(move || {
        let endless = entry("f", Kind::File, u64::MAX, Content::Stream(Box::new(Endless(1))));
        tell.send(archive.add(b"/x", script(vec![dir(""), endless])).map(drop)).unwrap();
        archive
    });
    while held.load(Ordering::SeqCst) < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    // All the others come to wait for these two.
    std::thread::sleep(Duration::from_millis(300));
    bench.control.cancel();
    let added = ended.recv_timeout(Duration::from_mins(2));
    assert!(matches!(added, Ok(Err(RepositoryError::Cancelled))), "{added:?}");
    drop(open);
    drop(adding.join().unwrap());
    assert_eq!(bench.snapshots(), 0);
}

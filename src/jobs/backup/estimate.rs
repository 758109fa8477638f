//! What is to come, for bars: a second walk beside the backup, which only counts and is never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::entry::{Source, Step};
use crate::model::progress::{Event, Progress};

/// Entries that are counted between two events.
const BATCH: u64 = 1000;

/// A count under way. Dropped, it ends at its next entry.
pub(super) struct Estimate(Arc<AtomicBool>);

impl Estimate {
    /// Counts what `source` gives. What it cannot give is the backup's to report.
    pub(super) fn start(mut source: Box<dyn Source>, progress: &Arc<dyn Progress>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, progress) = (Arc::clone(&stop), Arc::clone(progress));
        let count = move || {
            let (mut entries, mut bytes) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                match source.next_step() {
                    Ok(Step::Entry(entry)) => {
                        entries += 1;
                        bytes += if entry.metadata.is_file() { entry.metadata.size } else { 0 };
                        if entries == BATCH {
                            progress.event(Event::Expected { entries: std::mem::take(&mut entries), bytes: std::mem::take(&mut bytes) });
                        }
                    }
                    Ok(Step::Problem(_)) => {}
                    Ok(Step::End) | Err(_) => break,
                }
            }
            progress.event(Event::Expected { entries, bytes });
        };
        // Without the thread there is no estimate, and nothing else is missing.
        drop(std::thread::Builder::new().name("estimate".into()).spawn(count));
        Self(stop)
    }
}

impl Drop for Estimate {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

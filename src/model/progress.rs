//! What a running operation tells whoever watches it.
//!
//! Who shows it, and how often, is the watcher's business: events come from many threads and must be cheap to take.

/// Takes events from a running operation. Implementations count with atomics and never block.
pub trait Progress: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event<'_>);
}

/// How a file was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOutcome {
    /// Not in the parent snapshot.
    New,
    /// In the parent snapshot with other data or metadata; it was read.
    Changed,
    /// As in the parent snapshot; it was not read.
    Unchanged,
}

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Work on an item (a volume, a path) starts. `label` is for people.
    ItemStarted {
        /// `volume shop_db`, `path /srv`.
        label: &'a str,
    },
    /// The item's work ended, well or not.
    ItemFinished {
        /// As in `ItemStarted`.
        label: &'a str,
    },
    /// What is expected in all has grown by this much.
    Expected {
        /// Entries.
        entries: u64,
        /// Bytes.
        bytes: u64,
    },
    /// A file is being read or written.
    FileStarted {
        /// Full path in the snapshot.
        path: &'a [u8],
    },
    /// A file is done.
    FileFinished {
        /// Full path in the snapshot.
        path: &'a [u8],
        /// Its size in bytes.
        size: u64,
        /// What was done.
        outcome: FileOutcome,
    },
    /// So many bytes went by (read from a source; at a restore, written to the target). Unchanged files count with their
    /// whole size when they are passed.
    Bytes(u64),
    /// A new blob was stored.
    Stored {
        /// Bytes before compression.
        raw: u64,
        /// Bytes in the repository.
        stored: u64,
    },
    /// A file could not be read or written; work goes on.
    Problem {
        /// Its path.
        path: &'a [u8],
        /// The cause, for people.
        message: &'a str,
    },
    /// A phase of the whole operation began (`stopping web`, `writing index`).
    Phase(&'a str),
}

/// Takes every event and does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event<'_>) {}
}

//! Searching snapshots for entries, in plain types.

use serde::Serialize;

use super::{Problem, SnapshotId};
use crate::model::entry::Metadata;

/// Says what is looked for.
pub trait Matcher: Sync {
    /// Whether an entry is looked for. `path` is its absolute path.
    fn matches(&self, path: &[u8], metadata: &Metadata) -> bool;

    /// Whether the answer may depend on more of the path than the last name: then the same folder in two places has to be
    /// searched twice.
    fn looks_at_folders(&self) -> bool;
}

/// What is searched, and for what.
pub struct FindRequest<'a> {
    /// The snapshots in the order in which they are searched.
    pub snapshots: &'a [SnapshotId],
    /// Each was asked for by its name: one that is gone is an error. Else it was forgotten since they were listed, and is passed over.
    pub named: bool,
    /// What is looked for.
    pub matcher: &'a dyn Matcher,
}

/// What a search did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FindSummary {
    /// Snapshots searched.
    pub snapshots: u64,
    /// Snapshots with at least one match.
    pub snapshots_with_matches: u64,
    /// Matches in all of them.
    pub matches: u64,
    /// Trees that were read: each once, however many snapshots have it.
    pub trees_read: u64,
    /// Folders that could not be searched. At most 1 000 are kept.
    pub problems: Vec<Problem>,
    /// Number of problems in all.
    pub problem_count: u64,
}

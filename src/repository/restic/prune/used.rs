//! What snapshots use: a bit for each blob of the index, set by a walk over every tree.
//!
//! What becomes of the rest is `choose`'s business.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::text::printable;
use crate::repository::contract::RepositoryError;
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::id::Id;
use crate::repository::restic::index::places::{Bits, Places};
use crate::repository::restic::lock::Guard;
use crate::repository::restic::reader;
use crate::repository::restic::state::Indexed;

/// Problems that are kept to be told.
const KEPT: usize = 100;

/// Sets the bit of the first place of every blob that a tree below `roots` needs, these trees included. Gives how many.
///
/// # Errors
/// [`RepositoryError::Refused`] if one of them is in no index or cannot be read; what [`Guard`] says.
pub(super) fn mark(repo: &Indexed, places: &Places<'_>, roots: Vec<Id>, guard: &Guard<'_>) -> Result<(Bits, u64), RepositoryError> {
    let used = Bits::new(places.len());
    let count = AtomicU64::new(0);
    let problems = Problems::default();
    let stopped: Mutex<Option<RepositoryError>> = Mutex::default();
    let claim = |id: &Id| {
        let found = places.find(BlobKind::Tree, id);
        // What is in no index is visited, and so missed.
        let is_new = found.is_empty() || used.set(found.start);
        if is_new {
            count.fetch_add(1, Ordering::Relaxed);
        }
        is_new
    };
    reader::each_claimed_tree(repo, roots, claim, |id, tree| {
        match tree {
            Err(error) => problems.add(error.with_causes()),
            Ok(tree) => {
                // What is of a type that is not known may need blobs in a way that is not known. `irregular` never does.
                for unknown in tree.unknown.iter().filter(|unknown| !matches!(unknown.kind.as_str(), "" | "irregular")) {
                    let (name, kind) = (printable(&unknown.name), printable(unknown.kind.as_bytes()));
                    problems.add(format!("tree {id}: `{name}` has the type `{kind}`, which is not known"));
                }
                for node in &tree.nodes {
                    for blob in &node.content {
                        let found = places.find(BlobKind::Data, blob);
                        if found.is_empty() {
                            problems.add(format!("data blob {blob} is in no index"));
                        } else if used.set(found.start) {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        }
        match guard.check() {
            Ok(()) => true,
            Err(error) => {
                stopped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                false
            }
        }
    });
    if let Some(error) = stopped.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    problems.refuse("not everything that the snapshots need can be found, so nothing is removed")?;
    Ok((used, count.into_inner()))
}

/// What is missing or damaged; filled from several threads.
#[derive(Default)]
pub(super) struct Problems(Mutex<(Vec<String>, u64)>);

impl Problems {
    pub(super) fn add(&self, sentence: String) {
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.0.len() < KEPT {
            problems.0.push(sentence);
        } else {
            problems.1 += 1;
        }
    }

    /// Fails if there is anything.
    pub(super) fn refuse(self, reason: &str) -> Result<(), RepositoryError> {
        let (mut problems, more) = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort();
        problems.dedup();
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        Err(RepositoryError::Refused { reason: reason.to_owned(), problems })
    }
}

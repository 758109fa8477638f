//! Snapshots written anew without what patterns exclude.
//!
//! The patterns are those of a backup; how snapshots are written is the engine's business.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::JobError;
use crate::model::progress::Progress;
use crate::platform::control::Control;
use crate::platform::environment;
use crate::repository::contract::rewrite::{RewriteRequest, RewriteSummary};
use crate::repository::contract::{Repository, SnapshotId};
use crate::sources::SourceError;
use crate::sources::filter::{Case, Filter};

/// What is left out.
#[derive(Debug)]
pub struct Excludes(Filter);

impl Excludes {
    /// Reads the patterns, and the files with patterns.
    ///
    /// # Errors
    /// There are none, or one is malformed.
    pub fn new(patterns: &[String], files: &[PathBuf]) -> Result<Self, JobError> {
        let mut filter = Filter::new();
        for pattern in patterns {
            filter.exclude(pattern.as_bytes(), Case::Sensitive).map_err(SourceError::from)?;
        }
        let lookup = |name: &str| environment::variable(name);
        for file in files {
            filter.exclude_file(file, Case::Sensitive, &lookup).map_err(SourceError::from)?;
        }
        if filter.is_empty() {
            return Err(JobError::request(
                "nothing_excluded",
                "nothing says what is to be left out",
                "Say it with --exclude or --exclude-file.",
            ));
        }
        Ok(Self(filter))
    }
}

/// Writes the snapshots anew. Where they were not named one by one, one that somebody forgets meanwhile is passed over.
///
/// # Errors
/// Nothing would be left of one, and `remove_all` is not said; a snapshot cannot be read or written, or it was cancelled; each is there in its old or its new form.
pub fn rewrite(
    repository: &dyn Repository,
    (snapshots, named): (Vec<SnapshotId>, bool),
    excludes: &Excludes,
    (forget, remove_all, dry_run): (bool, bool, bool),
    control: &Control,
    progress: Arc<dyn Progress>,
) -> Result<RewriteSummary, JobError> {
    let exclude = |path: &[u8]| excludes.0.is_excluded(path);
    let request = RewriteRequest { snapshots, named, exclude: &exclude, forget, remove_all, dry_run };
    Ok(repository.rewrite(&request, control, progress)?)
}

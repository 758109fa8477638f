//! A writer that only counts: a dry run before there is a repository.

use std::sync::Arc;

use crate::model::entry::{Metadata, Source, Step};
use crate::model::progress::{Event, FileOutcome, Progress};
use crate::model::text::printable;
use crate::platform::control::Control;
use crate::repository::contract::{AddSummary, Problem, RepositoryError, SnapshotId, SnapshotSummary, SnapshotWriter};

/// Takes sources, reads no file, stores nothing.
pub(super) struct Counting {
    control: Control,
    progress: Arc<dyn Progress>,
    summary: SnapshotSummary,
}

impl Counting {
    pub(super) fn new(control: &Control, progress: &Arc<dyn Progress>) -> Self {
        Self { control: control.clone(), progress: Arc::clone(progress), summary: SnapshotSummary::default() }
    }
}

impl SnapshotWriter for Counting {
    fn add(&mut self, path: &[u8], mut source: Box<dyn Source>) -> Result<AddSummary, RepositoryError> {
        let mut added = AddSummary::default();
        let item = self.control.begin_item();
        loop {
            item.checkpoint()?;
            match source.next_step().map_err(|source| RepositoryError::Source { path: printable(path), source })? {
                Step::End => return Ok(added),
                Step::Problem(problem) => {
                    let full = [path, b"/", &problem.path].concat();
                    added.problem_count += 1;
                    added.problems.push(Problem { path: printable(&full), message: problem.error.to_string() });
                }
                Step::Entry(entry) => {
                    added.entries += 1;
                    if entry.metadata.is_dir() {
                        self.summary.dirs_new += 1;
                    } else if entry.metadata.is_file() {
                        self.summary.files_new += 1;
                        self.summary.total_files_processed += 1;
                        self.summary.total_bytes_processed += entry.metadata.size;
                        added.bytes += entry.metadata.size;
                        self.progress.event(Event::Bytes(entry.metadata.size));
                        let full = [path, b"/", &entry.path].concat();
                        let (size, outcome) = (entry.metadata.size, FileOutcome::New);
                        self.progress.event(Event::FileFinished { path: &full, size, outcome });
                    }
                }
            }
        }
    }

    fn add_bytes(&mut self, _path: &[u8], bytes: &[u8]) -> Result<(), RepositoryError> {
        self.summary.files_new += 1;
        self.summary.total_files_processed += 1;
        self.summary.total_bytes_processed += bytes.len() as u64;
        Ok(())
    }

    fn describe_directory(&mut self, _path: &[u8], _metadata: Metadata) {}

    fn finish(self: Box<Self>, _tags: Vec<String>) -> Result<(Option<SnapshotId>, SnapshotSummary), RepositoryError> {
        Ok((None, self.summary))
    }
}

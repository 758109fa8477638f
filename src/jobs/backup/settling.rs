//! Containers that were started again, and of which is seen in the background whether they stay: nobody waits for that but the end of the run.
//!
//! How it is seen is `docker/quiesce`'s business.

use std::sync::{Mutex, PoisonError};

use tokio::task::JoinHandle;

use super::{Outcome, Run, sentence};
use crate::docker::quiesce::{Release, Settling};
use crate::jobs::results::ApplicationResult;
use crate::model::progress::Event;

/// What is being seen, with the application whose backup had stopped the containers.
#[derive(Default)]
pub(super) struct Pending(Mutex<Vec<(String, JoinHandle<Release>)>>);

impl Pending {
    /// Begins to watch.
    pub(super) fn add(&self, application: &str, settling: Option<Settling>) {
        let Some(settling) = settling else { return };
        let task = tokio::spawn(async move {
            let mut release = Release::default();
            settling.end(&mut release).await;
            release
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((application.to_owned(), task));
    }
}

impl Run<'_> {
    /// Waits for what is still to be seen, and says of the applications what came of it.
    pub(super) async fn see_whether_they_stay(&self, outcome: &mut Outcome) {
        let pending = std::mem::take(&mut *self.settling.0.lock().unwrap_or_else(PoisonError::into_inner));
        if pending.iter().any(|(_, task)| !task.is_finished()) {
            self.progress.event(Event::Phase("waiting whether what was started again stays"));
        }
        for (application, task) in pending {
            // A panic leaves the journal, from which the next start repairs.
            let Ok(release) = task.await else { continue };
            let failures: Vec<String> = release.failures.iter().map(|failure| sentence(failure)).collect();
            if failures.is_empty() && release.notes.is_empty() {
                continue;
            }
            let known = outcome.applications.iter().position(|one| one.application == application);
            let known = known.unwrap_or_else(|| {
                outcome.applications.push(ApplicationResult::new(application));
                outcome.applications.len() - 1
            });
            let result = &mut outcome.applications[known];
            result.failures.extend(failures);
            result.warnings.extend(release.notes);
        }
    }
}

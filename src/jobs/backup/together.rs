//! Several applications at once, each on a thread of its own; those that would stop the same containers take turns.
//!
//! What is done with each is `application`'s business.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use tokio::runtime::Handle;

use super::{Outcome, Run, Unit, Unsaved, application};
use crate::jobs::error::JobError;
use crate::model::application::Container;

/// Saves the units, at most as many at a time as the request says. Blocks until all have ended.
pub(super) fn back_up(run: &Run<'_>, units: &[Unit], outcome: &mut Outcome) -> Result<(), JobError> {
    let runtime = Handle::current();
    let touched: Vec<BTreeSet<&str>> = units.iter().map(|unit| touched(run, unit)).collect();
    let mut waiting: VecDeque<usize> = (0..units.len()).collect();
    let mut running: Vec<usize> = Vec::new();
    let mut failed = None;
    std::thread::scope(|scope| {
        // A thread sends how its unit ended, once; the channel lives as long as this loop.
        let (sender, ended) = mpsc::channel();
        loop {
            while running.len() < run.request.parallel && failed.is_none() {
                let is_free = |unit: &usize| running.iter().all(|other| touched[*other].is_disjoint(&touched[*unit]));
                let Some(next) = waiting.iter().position(is_free).and_then(|place| waiting.remove(place)) else { break };
                if outcome.is_ended(&units[next].planned.application.name) {
                    continue;
                }
                running.push(next);
                let (sender, runtime) = (sender.clone(), runtime.clone());
                scope.spawn(move || {
                    let work = || runtime.block_on(application::back_up(run, &units[next]));
                    let done = catch_unwind(AssertUnwindSafe(work))
                        .unwrap_or_else(|_| Err(Unsaved::from(JobError::Internal("the backup of an application panicked".into()))));
                    // The loop is there until every thread has sent.
                    drop(sender.send((next, done)));
                });
            }
            if running.is_empty() {
                break;
            }
            let Ok((unit, done)) = ended.recv() else { break };
            running.retain(|other| *other != unit);
            if let Err(error) = outcome.take(&units[unit].planned.application.name, done, false) {
                // The others are seen to their end before this is told.
                failed.get_or_insert(error);
            }
        }
    });
    failed.map_or(Ok(()), Err)
}

/// Names of the containers that may be stopped for a unit: its own, those that write to what it saves, and all that are bound
/// to one of these by a dependency.
fn touched<'a>(run: &'a Run<'_>, unit: &'a Unit) -> BTreeSet<&'a str> {
    let own = unit.planned.application.containers.iter().map(|container| container.name.as_str());
    let mut touched: BTreeSet<&str> = own.chain(unit.planned.writers()).collect();
    let all: Vec<&Container> = run.host.iter().flat_map(|host| host.discovery.containers()).collect();
    loop {
        let before = touched.len();
        for container in &all {
            let needed = container.depends_on.iter().map(|needed| needed.container.as_str());
            if touched.contains(container.name.as_str()) {
                touched.extend(needed);
            } else if needed.into_iter().any(|name| touched.contains(name)) {
                touched.insert(&container.name);
            }
        }
        if touched.len() == before {
            return touched;
        }
    }
}

//! The state of a restore to the Engine while it runs, and how applications are undone of which a step has failed.
//!
//! In which order the steps are taken is `engine`'s business; what is on disk of it, the journal's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::engine::{is_content, is_made};
use super::in_place::InPlace;
use super::journal::{self, Journal, Lost, Owed, Undone};
use super::planning::EngineRestore;
use super::refill::{Refill, what};
use super::untouched;
use super::words::shown;
use crate::docker::helper::Owner;
use crate::docker::mountpoint::same_root;
use crate::jobs::backup::sentence;
use crate::jobs::engine::until_it_answers;
use crate::jobs::error::JobError;
use crate::jobs::request::JobContext;
use crate::jobs::results::RestoredApplication;
use crate::model::progress::Progress;
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::control::Control;
use crate::repository::contract::{Repository, SnapshotId};
use crate::targets::plan::{PlannedStep, Step};
use crate::targets::steps::{Kind, Steps};

/// How long is waited for an Engine that is gone before what was stopped is left to the next start.
const ENGINE_LIMIT: Duration = Duration::from_mins(3);
/// How long is waited for another start of bbackup that is putting right what an older restore has left.
const HELD_LIMIT: Duration = Duration::from_secs(10);

/// A restore that runs.
pub(super) struct Work<'a> {
    context: &'a JobContext,
    restore: &'a EngineRestore,
    control: &'a Control,
    progress: &'a Arc<dyn Progress>,
    refill: Refill<'a>,
    pub(super) steps: Steps,
    pub(super) in_place: InPlace,
    pub(super) journal: Journal,
    pub(super) results: BTreeMap<&'a str, RestoredApplication>,
    /// Applications whose data is not all there: a program that starts on half of its data may destroy the rest.
    pub(super) incomplete: BTreeSet<&'a str>,
    /// Volumes and paths that were begun to be filled and not overwritten.
    pub(super) filled: BTreeSet<&'a str>,
    /// Volumes and paths of which all files are written.
    whole: BTreeSet<&'a str>,
    /// Containers of whose own layers entries were lost.
    short_layers: BTreeSet<&'a str>,
    /// Applications that failed, of which containers wait to be started again, and how far they are undone.
    waiting: BTreeMap<&'a str, Undone>,
}

impl<'a> Work<'a> {
    /// Nothing was done yet.
    pub(super) fn new(
        context: &'a JobContext,
        repository: &'a dyn Repository,
        restore: &'a EngineRestore,
        (control, progress): (&'a Control, &'a Arc<dyn Progress>),
        (owner, journal): (&'a Owner, Journal),
    ) -> Self {
        let mut in_place = InPlace::default();
        restore.half.keys().for_each(|volume| in_place.stays_half(volume.clone()));
        let results = restore.snapshots.iter().map(|(name, snapshot)| (name.as_str(), untouched(name.clone(), snapshot))).collect();
        Self {
            context,
            restore,
            control,
            progress,
            refill: Refill { repository, owner, progress },
            steps: Steps::new(&restore.engine, restore.limits),
            in_place,
            journal,
            results,
            incomplete: BTreeSet::new(),
            filled: BTreeSet::new(),
            whole: BTreeSet::new(),
            short_layers: BTreeSet::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// A step was taken.
    pub(super) fn did(&mut self, planned: &PlannedStep) {
        if let Some(result) = self.results.get_mut(planned.application.as_str()) {
            result.steps.push(shown(&planned.step));
        }
    }

    /// Whether losing entries in a step is a failure: what is there would have to run on what is left.
    pub(super) fn must_be_whole(&self, planned: &PlannedStep) -> bool {
        let others = planned.step.fills().is_some_and(|(place, overwrites)| {
            let mut users = self.users(|used| used == place).filter(|user| *user != planned.application);
            users.any(|user| overwrites || self.steps.has_moved(user))
        });
        others || self.steps.has_moved(&planned.application)
    }

    /// A step was taken that may have lost entries: then nobody starts on what it filled.
    pub(super) fn filled_in(&mut self, planned: &'a PlannedStep, lost: u64) {
        if lost > 0 {
            self.incomplete.insert(&planned.application);
            if let Step::FillLayer { name, .. } = &planned.step {
                self.short_layers.insert(name);
            }
        }
        let Some((place, _)) = planned.step.fills() else { return };
        if lost > 0 {
            let others: Vec<&str> = self.users(|used| used == place).collect();
            self.incomplete.extend(others);
        } else {
            self.whole.insert(place);
            self.in_place.are_whole(|half| self.restore.plan.is_written(half, place));
        }
    }

    /// The applications that did not fail and of which a restored container uses one of these volumes or paths.
    fn users(&self, is_meant: impl Fn(&str) -> bool) -> impl Iterator<Item = &'a str> {
        let mut users = BTreeSet::new();
        for planned in &self.restore.plan.steps {
            let Step::CreateContainer { container } = &planned.step else { continue };
            let uses = self.restore.plan.uses.get(&container.name).is_some_and(|volumes| volumes.iter().any(|volume| is_meant(volume)));
            if uses && self.results.get(planned.application.as_str()).is_some_and(|result| result.failure.is_none()) {
                users.insert(planned.application.as_str());
            }
        }
        users.into_iter()
    }

    /// Writes down what a step has made, and whether its application is then complete or done.
    pub(super) async fn record(&mut self, number: usize) -> Result<(), String> {
        let steps = &self.restore.plan.steps;
        let planned = &steps[number];
        let application = planned.application.as_str();
        if is_made(&planned.step)
            && let Some(left) = self.steps.left(application).last()
        {
            self.journal.made(left).await.map_err(|error| sentence(&error))?;
        }
        let later = || steps.iter().enumerate().skip(number + 1).filter(|(_, later)| later.application == application);
        if is_content(&planned.step) && !later().any(|(_, later)| is_content(&later.step)) {
            let starts = !self.incomplete.contains(application);
            let owed = later().filter(|_| starts).filter_map(|(number, later)| Owed::of(number, &later.step, &self.restore.plan.uses));
            let filled = steps.iter().filter(|planned| planned.application == application).filter_map(|planned| planned.step.fills());
            let filled = filled.map(|(place, _)| place);
            let (whole, lost): (Vec<&str>, Vec<&str>) = filled.partition(|name| self.whole.contains(name));
            let lost = self.lost(application, lost);
            self.journal.complete(application, owed.collect(), lost).await.map_err(|error| sentence(&error))?;
            // What is in a volume has places of its own.
            let folders = whole.iter().filter_map(|name| self.restore.plan.folders.get(*name)).map(String::as_str);
            let whole = whole.iter().copied().chain(folders).collect();
            let state = &self.context.directories.state;
            let not_noted =
                journal::restored(self.restore.engine.id(), state, whole, HELD_LIMIT).await.map_err(|error| sentence(&error))?;
            if let Some(result) = self.results.get_mut(application) {
                result.warnings.extend(not_noted.into_iter().map(|volume| {
                    let what = what(&volume);
                    format!("{what} is whole, but another run that is at work still takes it for half restored: restore it once more")
                }));
            }
        }
        if later().next().is_none() {
            // Who stays stopped, as the Engine or half a volume hinders, is not forgotten: the next start goes on here.
            let noted = if self.steps.has_moved(application) { Ok(()) } else { self.journal.done(application) };
            if self.steps.has_moved(application) || noted.is_err() {
                self.journal.stays();
            }
            if let (Err(error), Some(result)) = (noted, self.results.get_mut(application)) {
                result.warnings.push(sentence(&error));
            }
        }
        Ok(())
    }

    /// What the next backup has to know of an application that is complete but for entries that were lost.
    fn lost(&self, application: &str, places: Vec<&str>) -> Lost {
        let made = self.steps.left(application).into_iter();
        let short = made.filter(|left| left.kind == Kind::Container && self.short_layers.contains(left.name.as_str()));
        Lost {
            places: places.into_iter().map(str::to_owned).collect(),
            layers: short.map(|left| left.id.clone()).collect(),
            ..Lost::default()
        }
    }

    /// A step has failed: what was made for its application, and for those that use its volumes, is removed, and what was there is back.
    pub(super) async fn fails(&mut self, planned: &'a PlannedStep, reason: String) {
        let application = planned.application.as_str();
        if self.steps.has_moved(application) {
            until_it_answers(&self.restore.engine, self.control, self.progress, clock::monotonic() + ENGINE_LIMIT).await;
        }
        let is_seen = same_root(&self.restore.engine).await;
        let reason =
            reason + &stays_written(self.restore, application, |place| self.filled.contains(place) && !(is_seen && is_blank(place)));
        let mut failing = vec![(application, reason)];
        let mut next = 0;
        while let Some((application, _)) = failing.get(next).cloned() {
            next += 1;
            self.hand_over(application).await;
            let spoilt = self.spoilt(application);
            let with: Vec<&str> = self.users(|volume| spoilt.contains(volume)).collect();
            for other in with {
                if !failing.iter().any(|(name, _)| *name == other) {
                    let (name, volumes) = (printable(application.as_bytes()), spoilt.iter().map(|name| printable(name.as_bytes())));
                    let volumes = volumes.collect::<Vec<_>>().join(", ");
                    failing.push((other, format!("it uses what is restored with {name}, which failed (volume {volumes})")));
                }
            }
        }
        // Those that use a volume go before it does.
        let mut told = Vec::new();
        for (application, reason) in failing.iter().rev() {
            let noted = self.journal.undoing(application).err();
            let (made, rest) = self.remove_made(application).await;
            if let Some(result) = self.results.get_mut(application) {
                result.started.clear();
                result.warnings.extend(noted.map(|error| sentence(&error)));
                result.failure = Some(format!("{reason}; {rest}"));
            }
            told.push((*application, made));
        }
        // What is filled in part is half restored, too, whoever uses it.
        let mut filled = BTreeMap::new();
        for (application, made) in &told {
            let half = self.half_filled(application, *made);
            filled.insert(*application, half.is_empty());
            for place in half {
                self.in_place.stays_half(place.to_owned());
            }
        }
        // All content before anybody starts on it.
        let mut lost = BTreeMap::new();
        for (application, _) in &told {
            lost.insert(*application, self.refill_all(application).await);
        }
        let busy = self.busy();
        for (application, made) in told {
            let lost = lost.remove(application).unwrap_or_default();
            let filled = filled.remove(application).unwrap_or(true);
            self.put_back(application, (made, filled), lost, &busy).await;
        }
    }

    /// Volumes that others may still write to.
    fn busy(&self) -> BTreeSet<String> {
        let steps = self.restore.plan.steps.iter();
        let living = steps.filter(|planned| self.results.get(planned.application.as_str()).is_some_and(|result| result.failure.is_none()));
        let filled = living.filter_map(|planned| planned.step.fills()).map(|(place, _)| place.to_owned());
        filled.chain(self.in_place.half().iter().cloned()).collect()
    }

    /// Volumes and paths that a failing application was to make, to fill or to overwrite, and that therefore are not what they should be.
    fn spoilt(&self, application: &str) -> BTreeSet<&'a str> {
        let mine = self.restore.plan.steps.iter().filter(|planned| planned.application == application);
        let volumes = mine.clone().filter_map(|planned| match &planned.step {
            Step::CreateVolume { name, .. } => Some((content_of(self.restore, name), false)),
            step => step.fills(),
        });
        // One that was made or empty, and is filled, is as good as it can be.
        volumes.filter(|(name, replaced)| *replaced || !self.whole.contains(name)).map(|(name, _)| name).collect()
    }

    /// Volumes that were made for a failing application and are whole stay where another one uses them.
    async fn hand_over(&mut self, application: &'a str) {
        let spoilt = self.spoilt(application);
        let made: Vec<String> = self.steps.left(application).iter().map(|left| left.name.clone()).collect();
        let restore = self.restore;
        let is_whole = |name: &&String| !spoilt.contains(content_of(restore, name));
        for volume in made.iter().filter(is_whole) {
            let other = self.users(|used| used == volume).find(|other| *other != application);
            let Some(left) = other.and_then(|other| self.steps.hand_over(volume, application, other)) else { continue };
            if let Err(error) = self.journal.made(&left).await
                && let Some(result) = self.results.get_mut(application)
            {
                result.warnings.push(sentence(&error));
            }
        }
    }

    /// Removes what was made for an application; whether all of it is gone, and a sentence about it.
    async fn remove_made(&mut self, application: &str) -> (bool, String) {
        let stays = self.steps.roll_back(application).await;
        let mut stays: Vec<String> = stays.iter().map(|(left, error)| format!("{} {} ({error})", left.kind.as_str(), left.name)).collect();
        stays.extend(self.steps.unsure(application).map(|name| format!("container {name}, if it was made")));
        if stays.is_empty() {
            return (true, "everything that was made for it was removed again".to_owned());
        }
        let stays = stays.join(", ");
        (
            false,
            format!("what was made for it was removed again, except {stays}; the next restore, backup or `bbackup recover` removes that"),
        )
    }

    /// Gives the volumes of an application back what was in them. None if nothing of it was touched; else what could not be put back.
    async fn refill_all(&mut self, application: &str) -> Option<Vec<String>> {
        let volumes = self.in_place.overwritten(application);
        if volumes.is_empty() && !self.steps.has_moved(application) {
            return None;
        }
        let mut lost = Vec::new();
        for volume in volumes {
            let saved = self.in_place.content(application, &volume);
            let refilled = match &saved {
                Some((snapshot, path)) => self
                    .refill
                    .run(&self.restore.engine, (snapshot, path), &volume, self.source_of(application, &volume))
                    .await
                    .map_err(|reason| format!("is half restored ({reason}); what was in it is in snapshot {}", snapshot.short())),
                None => Err("is half restored, and what was in it was not saved".to_owned()),
            };
            let before: Vec<&String> = self.restore.half.keys().filter(|half| self.restore.plan.is_written(half, &volume)).collect();
            let refilled = refilled.and_then(|()| match before.as_slice() {
                [] => self.journal.refilled(application, &volume).map_err(|error| sentence(&error)),
                _ => Err("was half restored before, and is so again".to_owned()),
            });
            if let Err(reason) = refilled {
                lost.push(format!("{} {reason}", what(&volume)));
                for half in before {
                    self.in_place.stays_half(half.clone());
                }
                self.in_place.stays_half(volume);
            }
        }
        Some(lost)
    }

    /// The snapshot and the place in it from which a volume or path was being filled.
    fn source_of(&self, application: &str, place: &str) -> Option<(&'a SnapshotId, &'a str)> {
        let snapshot = &self.restore.snapshots.get(application)?.id;
        let is_it = |planned: &&PlannedStep| planned.step.fills().is_some_and(|(name, _)| name == place);
        match &self.restore.plan.steps.iter().find(is_it)?.step {
            Step::FillVolume { path: from, .. } | Step::FillPath { from, .. } => Some((snapshot, from)),
            _ => None,
        }
    }

    /// Forgets of what an application has filled and is whole, or was removed again. Gives what had been there, empty, and is half filled.
    fn half_filled(&mut self, application: &str, made: bool) -> Vec<&'a str> {
        let steps = || self.restore.plan.steps.iter().filter(|planned| planned.application == application);
        let is_made = |place: &str| steps().any(|planned| matches!(&planned.step, Step::CreateVolume { name, .. } if name == place));
        let begun =
            steps().filter_map(|planned| planned.step.fills()).filter(|(place, overwrites)| !overwrites && self.filled.contains(place));
        let (half, whole): (Vec<&'a str>, Vec<&'a str>) =
            begun.map(|(place, _)| place).partition(|place| !(self.whole.contains(place) || made && is_made(place)));
        for place in whole {
            // The next start finds out for itself.
            drop(self.journal.refilled(application, place));
        }
        half
    }

    /// Gives containers that were there their names, and starts them, and says how that went.
    async fn put_back(&mut self, application: &'a str, (made, filled): (bool, bool), lost: Option<Vec<String>>, busy: &BTreeSet<String>) {
        let Some(mut lost) = lost else {
            self.undone(application, Undone { made, moved: true, filled });
            return;
        };
        // A program that starts on half of its data may destroy the rest.
        let failures = self.steps.put_back(application, lost.is_empty(), busy).await;
        self.journal.started(self.steps.take_started());
        let whole = lost.is_empty() && failures.is_empty();
        let waits = self.steps.is_waiting(application);
        let end = if whole && waits {
            "what was there before is back, and runs again once nobody writes to its volumes".to_owned()
        } else if whole {
            "what was there before is back, and runs if it ran".to_owned()
        } else if lost.is_empty() {
            format!("what was there before is back, except: {}", failures.join("; "))
        } else {
            let back = if failures.is_empty() { "are back and stay stopped" } else { "stay stopped, and the next start tries again" };
            lost.extend(failures);
            format!("{}; the containers that were there {back}", lost.join("; "))
        };
        self.says(application, &end);
        let undone = Undone { made, moved: whole, filled };
        if waits {
            self.waiting.insert(application, undone);
        } else {
            self.undone(application, undone);
        }
    }

    fn says(&mut self, application: &str, end: &str) {
        if let Some(failure) = self.results.get_mut(application).and_then(|result| result.failure.as_mut()) {
            failure.push_str("; ");
            failure.push_str(end);
        }
    }

    fn undone(&mut self, application: &str, undone: Undone) {
        if let Err(error) = self.journal.undone(application, undone)
            && let Some(result) = self.results.get_mut(application)
        {
            result.warnings.push(sentence(&error));
        }
    }

    /// Everything was tried: starts what had to wait for others, and what an older restore had left down.
    pub(super) async fn end(mut self) -> Result<Vec<RestoredApplication>, JobError> {
        let failures = self.steps.start_waiting(self.in_place.half()).await;
        self.journal.started(self.steps.take_started());
        for (application, failure) in failures {
            self.says(&application, &failure);
            if let Some((_, undone)) = self.waiting.iter_mut().find(|(name, _)| **name == application) {
                undone.moved = false;
            }
        }
        for (application, undone) in std::mem::take(&mut self.waiting) {
            self.undone(application, undone);
        }
        self.journal.close();
        if !self.restore.half.is_empty() {
            let cleaned = journal::clean(&self.restore.engine, &self.context.directories.state).await;
            let stays = cleaned.map_or_else(|error| vec![sentence(&error)], |cleaned| cleaned.failed);
            if let Some(result) = self.results.values_mut().next() {
                result.warnings.extend(stays);
            }
        }
        Ok(self.results.into_values().collect())
    }
}

/// Where what is in a volume is written: itself, or what it stands for.
fn content_of<'v>(restore: &'v EngineRestore, volume: &'v str) -> &'v str {
    let is_it = |planned: &&PlannedStep| matches!(&planned.step, Step::FillVolume { name, .. } if name == volume);
    restore.plan.steps.iter().find(is_it).and_then(|planned| planned.step.fills()).map_or(volume, |(place, _)| place)
}

/// Whether nothing is at a path of this machine.
fn is_blank(place: &str) -> bool {
    let path = Path::new(place);
    place.starts_with('/')
        && match std::fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(_) => std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound),
        }
}

/// What is said of volumes that were there, empty, and were begun to be filled, of what volumes stand for, and of paths at which nothing was:
/// it is not removed with them.
fn stays_written(restore: &EngineRestore, application: &str, is_filled: impl Fn(&str) -> bool) -> String {
    let steps = restore.plan.steps.iter().filter(|planned| planned.application == application);
    let told = steps.filter_map(|planned| match &planned.step {
        Step::UseVolume { name } if is_filled(name) => Some(format!(
            "; what was written into volume {}, which was there and empty, stays in it: empty it, or restore with --in-place",
            printable(name.as_bytes())
        )),
        Step::FillVolume { name, device: Some(device), replace: false, over: false, .. } if is_filled(device) => {
            let (name, device) = (printable(name.as_bytes()), printable(device.as_bytes()));
            Some(format!(
                "; what was written to {device}, for which volume {name} stands, stays there: empty it, or restore with --in-place"
            ))
        }
        Step::FillPath { path, overwrites: false, .. } if is_filled(path) => {
            Some(format!("; what was restored to {} stays there", printable(path.as_bytes())))
        }
        _ => None,
    });
    told.collect::<Vec<_>>().concat()
}

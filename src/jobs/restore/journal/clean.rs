//! Puts right what restores that died have left: removes what they had made and not finished, gives back names, starts what is to run.
//!
//! Only what is named in a journal, by id, and belongs to an application that was not finished is ever removed. Nothing is started on a
//! volume that is half restored; its journal stays until another restore has written all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::dead::{Dead, forget_whole};
use super::lost::is_used;
use super::read::Unfinished;
use super::remove::{Found, just_made, remove, remove_replaced};
use super::{Action, Line, since, write};
use crate::docker::Engine;
use crate::jobs::backup::sentence;
use crate::jobs::error::JobError;
use crate::jobs::restore::refill::what;
use crate::model::text::printable;
use crate::targets::container;
use crate::targets::plan::is_path;
use crate::targets::steps::{self, Aside, NotAsBefore, Stopped};

/// How long the Engine may go on with the last call of a restore that died.
const SETTLES: Duration = Duration::from_secs(2);
/// How long is waited for a container that others wait for to be healthy.
const HEALTH_LIMIT: Duration = Duration::from_mins(2);

/// What restores that died have left, put right.
#[derive(Debug, Default)]
pub(in super::super) struct Cleaned {
    /// What was done, one sentence each.
    pub(in super::super) told: Vec<String>,
    /// What could not be done and is tried again, one sentence each.
    pub(in super::super) failed: Vec<String>,
    /// Ids of containers that stay stopped because volumes are half restored: whoever restores these starts them.
    pub(in super::super) held_down: BTreeSet<String>,
    /// The volumes that stay half restored, as only another restore can put them right.
    pub(in super::super) half: BTreeMap<String, Half>,
}

/// A volume that is half restored.
#[derive(Debug, Clone)]
pub(in super::super) struct Half {
    /// The application that it was filled for.
    pub(in super::super) application: String,
    /// The snapshot that has what was in it before.
    pub(in super::super) saved: Option<String>,
    /// Nothing was in it before.
    pub(in super::super) fresh: bool,
    /// The snapshot that it was filled from, where nothing was in it before.
    pub(in super::super) from: Option<String>,
    /// What is said of it.
    pub(in super::super) told: String,
}

/// Removes what restores that died have left unfinished on this Engine, and puts back what had been there.
pub(in super::super) async fn clean(engine: &Engine, state: &Path) -> Result<Cleaned, JobError> {
    let mut dead = Dead::all(engine.id(), state)?;
    let mut cleaned = Cleaned::default();
    if dead.is_empty() {
        return Ok(cleaned);
    }
    forget_whole(engine, &mut dead).await?;
    // Those of a restore that lives count too: it may be at it just now.
    let half: BTreeSet<String> = super::half_restored(state, engine.id())?.into_keys().collect();
    cleaned.held_down = super::read::held_down(state, engine.id(), &half)?;
    if dead.iter().any(|one| one.left.is_to_be_undone()) {
        // What a dead one asked for last, the Engine may still be doing.
        tokio::time::sleep(SETTLES).await;
    }
    let replaced: BTreeSet<String> = dead.iter().flat_map(|one| one.left.replaced()).map(|aside| aside.id.clone()).collect();
    cleaned.held_down.retain(|id| !replaced.contains(id));
    for one in dead {
        Cleaning {
            engine,
            half: &half,
            replaced: &replaced,
            cleaned: &mut cleaned,
            open: BTreeSet::new(),
            taken: Vec::new(),
            in_use: BTreeSet::new(),
        }
        .run(one)
        .await?;
    }
    Ok(cleaned)
}

impl Unfinished {
    /// The containers that have successors.
    fn replaced(&self) -> impl Iterator<Item = &Aside> {
        self.aside.iter().filter(|one| self.not_started.contains_key(&one.application))
    }

    /// Whether there is more than volumes that are half restored and what is held down for them.
    fn is_to_be_undone(&self) -> bool {
        let half = self.half_applications();
        let nothing_made = self.made.is_empty() && self.making.is_empty() && self.aside.is_empty() && self.not_started.is_empty();
        !nothing_made || self.stopped.iter().any(|one| !half.contains(&one.application))
    }
}

/// One journal that is put right.
struct Cleaning<'a> {
    engine: &'a Engine,
    half: &'a BTreeSet<String>,
    /// Ids of containers that have successors, in whatever journal.
    replaced: &'a BTreeSet<String>,
    cleaned: &'a mut Cleaned,
    /// Applications of which something is left to do.
    open: BTreeSet<String>,
    /// Volumes that somebody uses as they are.
    taken: Vec<String>,
    /// Applications of which somebody uses what was made.
    in_use: BTreeSet<String>,
}

impl Cleaning<'_> {
    async fn run(mut self, Dead { mut file, left }: Dead) -> Result<(), JobError> {
        let half = left.half_applications();
        self.remove_made(&left).await?;
        for application in left.not_started.keys() {
            let name = printable(application.as_bytes());
            self.cleaned.told.push(format!("everything of {name} is there, but its restore was interrupted while it was started"));
        }
        let moved = |application: &String| !left.not_started.contains_key(application);
        let aside: Vec<Aside> =
            left.aside.iter().filter(|one| moved(&one.application) && !self.in_use.contains(&one.application)).cloned().collect();
        for (application, failure) in steps::name_again(self.engine, &aside).await {
            self.fails(&application, failure);
        }
        self.start_owed(&left).await;
        self.start_stopped(&left, &half).await;
        for aside in left.replaced() {
            if !self.open.contains(&aside.application) {
                self.remove_replaced(aside).await;
            }
        }
        for volume in std::mem::take(&mut self.taken) {
            write(&mut file, &Line::Restored { volume })?;
        }
        self.tell_half(&left);
        for application in left.applications() {
            let line = match half.contains(&application) {
                _ if self.open.contains(&application) => continue,
                false => Line::Done { application },
                true if left.is_to_be_undone() => Line::Undone { application },
                true => continue,
            };
            write(&mut file, &line)?;
        }
        if self.open.is_empty() && half.is_empty() && !left.lost_something() {
            since::end(file);
        }
        Ok(())
    }

    fn fails(&mut self, application: &str, failure: String) {
        let told = format!("an interrupted restore of {} cannot be put right: {failure}", printable(application.as_bytes()));
        self.cleaned.failed.push(told);
        self.open.insert(application.to_owned());
    }

    async fn remove_made(&mut self, left: &Unfinished) -> Result<(), JobError> {
        let mut made = left.made.clone();
        for (application, name) in &left.making {
            let found = just_made(self.engine, application, name, &left.aside).await?;
            made.extend(found.map(|found| (found, String::new())));
        }
        for (one, created) in made.into_iter().rev() {
            if self.in_use.contains(&one.application) {
                continue;
            }
            let what =
                format!("{} {}, which an interrupted restore has left unfinished,", one.kind.as_str(), printable(one.name.as_bytes()));
            match remove(self.engine, &one, &created, left.undoing.contains(&one.application)).await {
                Ok(Found::Removed) => self.cleaned.told.push(format!("{what} was removed")),
                Ok(Found::Gone) => {}
                // Somebody uses what is there.
                Ok(Found::Unsure) if is_used(self.engine, &one.id, None).await? => self.taken.push(one.id),
                Ok(Found::Unsure) => {
                    self.cleaned
                        .failed
                        .push(format!("{what} may be another one by now, so it stays: remove it, or restore over it with --in-place"));
                    self.open.insert(one.application);
                }
                Ok(Found::InUse) => {
                    self.cleaned.told.push(format!("{what} runs; it and everything that was made with it is left alone"));
                    self.in_use.insert(one.application);
                }
                Err(error) => {
                    self.cleaned.failed.push(format!("{what} cannot be removed: {}", sentence(&error)));
                    self.open.insert(one.application);
                }
            }
        }
        Ok(())
    }

    /// Starts what a complete application had still to be started, in the order of the restore.
    async fn start_owed(&mut self, left: &Unfinished) {
        let mut owed: Vec<_> =
            left.not_started.iter().flat_map(|(application, owed)| owed.iter().map(move |one| (application, one))).collect();
        owed.sort_by_key(|(_, one)| one.number);
        // A wait is for what comes after it.
        let last = owed.iter().rposition(|(_, one)| one.action == Action::Start).unwrap_or_default();
        for (number, (application, one)) in owed.into_iter().enumerate() {
            let name = printable(one.name.as_bytes());
            if let Some(volume) = one.volumes.iter().find(|volume| self.half.contains(*volume)) {
                let volume = printable(volume.as_bytes());
                self.fails(application, format!("container {name} is not started, as its volume {volume} is half restored"));
                continue;
            }
            let done = match one.action {
                Action::Start => steps::start_again(self.engine, &one.name, false, None).await,
                Action::Wait if number < last => {
                    container::wait_healthy(self.engine, &one.name, HEALTH_LIMIT).await.map(drop).map_err(NotAsBefore::Down)
                }
                Action::Wait => continue,
                Action::Pause => steps::start_again(self.engine, &one.name, true, None).await,
            };
            match done {
                Ok(()) if one.action == Action::Start => self.cleaned.told.push(format!("container {name} was started")),
                Ok(()) => {}
                // Somebody has removed it.
                Err(error) if error.is_not_found() => {}
                Err(error) => self.fails(application, format!("container {name} {}", sentence(&error))),
            }
        }
    }

    /// Starts what had been there, has been stopped, and was not replaced, unless it would start on half of its data.
    async fn start_stopped(&mut self, left: &Unfinished, half: &BTreeSet<String>) {
        let mut back: BTreeMap<&str, Vec<&Stopped>> = BTreeMap::new();
        for one in left.stopped.iter().rev() {
            if self.replaced.contains(&one.id) || self.in_use.contains(&one.application) {
                continue;
            }
            if self.cleaned.held_down.contains(&one.id) {
                self.open.extend((!half.contains(&one.application)).then(|| one.application.clone()));
                continue;
            }
            match steps::start_again(self.engine, &one.id, one.paused, one.restart.as_ref()).await {
                Ok(()) => back.entry(&one.application).or_default().push(one),
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    let name = printable(one.name.as_bytes());
                    self.fails(&one.application, format!("container {name} {}", sentence(&error)));
                }
            }
        }
        for (application, back) in back {
            let names = names(back.into_iter().rev());
            let end = if self.open.contains(application) { "that is back" } else { "what was there is back" };
            let application = printable(application.as_bytes());
            self.cleaned.told.push(format!("an interrupted restore of {application} had stopped {names}: {end}"));
        }
    }

    /// Removes a container that was set aside, if its successor is there.
    async fn remove_replaced(&mut self, aside: &Aside) {
        let shown = printable(aside.aside.as_bytes());
        match remove_replaced(self.engine, aside).await {
            Ok(true) => self.cleaned.told.push(format!("container {shown}, which was replaced, was removed")),
            Ok(false) => {}
            Err(error) => {
                self.fails(&aside.application, format!("container {shown}, which was replaced, cannot be removed: {}", sentence(&error)));
            }
        }
    }

    /// What is said of volumes that are half restored.
    fn tell_half(&mut self, left: &Unfinished) {
        for (application, one) in left.half() {
            let stays = left.stopped.iter().filter(|stopped| stopped.application == *application || stopped.volumes.contains(&one.volume));
            let stays = names(stays);
            let stays = if stays.is_empty() { String::new() } else { format!(", so {stays} stays stopped") };
            let what = what(&one.volume);
            let (done, again) = match (one.fresh, is_path(&one.volume)) {
                // At a path the next restore goes on; a volume that is not empty is in its way.
                (true, true) => ("filled", "restore it again, or remove it"),
                (true, false) => ("filled", "restore it again with --in-place, or remove it"),
                (false, _) => ("overwritten", "restore it again with --in-place"),
            };
            let told = format!(
                "{what} was being {done} when a restore of {} was interrupted{stays}: {again}{}",
                printable(application.as_bytes()),
                one.whence()
            );
            // What an older one says of what was in it before is true.
            self.cleaned.half.entry(one.volume.clone()).or_insert_with(|| Half {
                application: application.clone(),
                saved: one.saved.clone(),
                fresh: one.fresh,
                from: one.from.clone(),
                told,
            });
        }
    }
}

fn names<'a>(stopped: impl Iterator<Item = &'a Stopped>) -> String {
    stopped.map(|one| printable(one.name.as_bytes())).collect::<Vec<_>>().join(", ")
}

//! Puts right what restores that died have left: removes what they had made and not finished, gives back names, starts what is to run.
//!
//! Only what is named in a journal, by id, and belongs to an application that was not finished is ever removed. Nothing is started on a
//! volume that is half restored; its journal stays until another restore has written all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::read::{Overwritten, Unfinished, is_blank, unfinished, unread};
use super::{Action, FOLDER, LIMIT, Line, SUFFIX, are_different, identity, write};
use crate::docker::create::json::{flag, text};
use crate::docker::wire::encode;
use crate::docker::{DockerError, Engine, make};
use crate::jobs::backup::sentence;
use crate::jobs::error::JobError;
use crate::jobs::restore::refill::what;
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::journal_file::{self, LockedFile};
use crate::targets::steps::{self, Aside, Kind, Left, NotAsBefore, Stopped};
use crate::targets::{container, network, volume};

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
    /// The snapshot that has what was in it before.
    pub(in super::super) saved: Option<String>,
    /// Nothing was in it before.
    pub(in super::super) fresh: bool,
    /// What is said of it.
    pub(in super::super) told: String,
}

/// The journal of a restore that died; held locked.
struct Dead {
    file: LockedFile,
    left: Unfinished,
}

impl Dead {
    /// Reads all that are on this Engine, the oldest first.
    fn all(engine: &str, state: &Path) -> Result<Vec<Self>, JobError> {
        let folder = state.join(FOLDER);
        let read = |path: &PathBuf| {
            let path = path.clone();
            move |source| unread(&path, source)
        };
        let mut all = Vec::new();
        for path in journal_file::list(&folder, SUFFIX).map_err(read(&folder))? {
            let Some(mut file) = LockedFile::open_unheld(&path).map_err(read(&path))? else { continue };
            let bytes = file.read(LIMIT).map_err(read(&path))?;
            match unfinished(&bytes, engine) {
                Some(left) => all.push(Self { file, left }),
                None if is_blank(&bytes) => drop(file.remove()),
                None => {}
            }
        }
        all.sort_by(|one, other| one.file.path().cmp(other.file.path()));
        Ok(all)
    }

    /// A volume is whole, or gone.
    fn restored(&mut self, volume: &str) -> Result<(), JobError> {
        if self.left.half().any(|(_, one)| one.volume == volume) {
            write(&mut self.file, &Line::Restored { volume: volume.to_owned() })?;
            self.left.overwritten.retain(|(_, one)| one.volume != volume);
        }
        Ok(())
    }
}

/// Records that these volumes are whole: a restore has written all of them. Journals that somebody is just putting right are waited for. Gives
/// the volumes of which a journal that is held longer says that they are half restored.
pub(in super::super) async fn restored(engine: &str, state: &Path, volumes: Vec<&str>, limit: Duration) -> Result<Vec<String>, JobError> {
    if volumes.is_empty() {
        return Ok(Vec::new());
    }
    let deadline = clock::monotonic() + limit;
    loop {
        let mut dead = Dead::all(engine, state)?;
        for volume in &volumes {
            dead.iter_mut().try_for_each(|one| one.restored(volume))?;
        }
        drop(dead);
        let half = super::read::all(state, engine)?;
        let is_half = |volume: &&str| half.iter().any(|left| left.half().any(|(_, one)| one.volume == **volume));
        let held: Vec<String> = volumes.iter().copied().filter(is_half).map(str::to_owned).collect();
        if held.is_empty() || clock::monotonic() >= deadline {
            return Ok(held);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
        Cleaning { engine, half: &half, replaced: &replaced, cleaned: &mut cleaned, open: BTreeSet::new(), in_use: BTreeSet::new() }
            .run(one)
            .await?;
    }
    Ok(cleaned)
}

/// Forgets of volumes that were half restored and are whole by now, or gone.
async fn forget_whole(engine: &Engine, dead: &mut [Dead]) -> Result<(), JobError> {
    for number in 0..dead.len() {
        for volume in dead[number].left.whole() {
            dead[..number].iter_mut().try_for_each(|older| older.restored(&volume))?;
        }
        let half: Vec<Overwritten> = dead[number].left.half().map(|(_, one)| one.clone()).collect();
        for one in half {
            if one.fresh && super::is_empty(engine, &one.volume, &one.created).await {
                dead[number].restored(&one.volume)?;
                continue;
            }
            match identity(engine, &one.volume).await {
                Ok(found) if !are_different(&found, &one.created) => {}
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => dead[number].restored(&one.volume)?,
            }
        }
    }
    Ok(())
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
        if self.open.is_empty() && half.is_empty() {
            drop(file.remove());
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
            let application = printable(application.as_bytes());
            let what = what(&one.volume);
            let (done, again) = if one.fresh { ("filled", "restore it again, or remove it") } else { ("overwritten", "restore it again") };
            let told = format!("{what} was being {done} when a restore of {application} was interrupted{stays}: {again}{}", one.whence());
            // What an older one says of what was in it before is true.
            self.cleaned.half.entry(one.volume.clone()).or_insert_with(|| Half { saved: one.saved.clone(), fresh: one.fresh, told });
        }
    }
}

fn names<'a>(stopped: impl Iterator<Item = &'a Stopped>) -> String {
    stopped.map(|one| printable(one.name.as_bytes())).collect::<Vec<_>>().join(", ")
}

/// The container that a restore had asked for when it died, if the Engine has made it: it has the name, which was free then, and was never started.
async fn just_made(engine: &Engine, application: &str, name: &str, aside: &[Aside]) -> Result<Option<Left>, DockerError> {
    let found = match make::get(engine, &format!("/containers/{}/json", encode(name))).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let was_there = |id: &str| aside.iter().any(|aside| aside.id == id);
    let id = steps::never_started(&found, name).filter(|id| !was_there(id));
    Ok(id.map(|id| Left { application: application.to_owned(), kind: Kind::Container, name: name.to_owned(), id: id.to_owned() }))
}

/// Removes a container that was set aside, if its successor is there. Gives whether it was removed.
async fn remove_replaced(engine: &Engine, aside: &Aside) -> Result<bool, DockerError> {
    for container in [&aside.name, &aside.id] {
        match make::get(engine, &format!("/containers/{}/json", encode(container))).await {
            Ok(found) if *container == aside.name && text(&found, "/Id") == Some(&aside.id) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    container::remove(engine, &aside.id).await.map(|()| true)
}

/// What became of something that a dead restore has left.
enum Found {
    Removed,
    Gone,
    /// Somebody runs it: it is theirs now.
    InUse,
}

async fn remove(engine: &Engine, left: &Left, created: &str, running: bool) -> Result<Found, DockerError> {
    let removed = match left.kind {
        Kind::Container => match make::get(engine, &format!("/containers/{}/json", encode(&left.id))).await {
            Ok(inspect) if flag(&inspect, "/State/Running") && !running => return Ok(Found::InUse),
            Ok(_) => container::remove(engine, &left.id).await,
            Err(error) => Err(error),
        },
        Kind::Network => network::remove(engine, &left.id).await,
        Kind::Volume => match identity(engine, &left.id).await {
            // Somebody has made another one of that name.
            Ok(found) if found != created => return Ok(Found::Gone),
            Ok(_) => volume::remove(engine, &left.id).await,
            Err(error) => Err(error),
        },
    };
    match removed {
        Ok(()) => Ok(Found::Removed),
        Err(DockerError::NotFound { .. }) => Ok(Found::Gone),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn journal(state: &Path, run: &str, lines: &[Line]) -> LockedFile {
        let folder = state.join(FOLDER);
        std::fs::create_dir_all(&folder).unwrap();
        let mut file = LockedFile::create(&folder.join(format!("{run}{SUFFIX}"))).unwrap();
        for line in lines {
            write(&mut file, line).unwrap();
        }
        file
    }

    fn half() -> [Line; 2] {
        let overwriting = Line::Overwriting { application: "a".to_owned(), volume: "v".to_owned(), saved: None, created: String::new() };
        [Line::Engine { id: "e".to_owned() }, overwriting]
    }

    #[tokio::test]
    async fn a_journal_that_is_held_is_waited_for() {
        let state = tempfile::tempdir().unwrap();
        let held = journal(state.path(), "one", &half());
        let limit = Duration::from_millis(300);
        assert_eq!(restored("e", state.path(), vec!["v"], limit).await.unwrap(), ["v"], "nobody is told that it counts as half");
        let other = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            drop(held);
        });
        assert_eq!(restored("e", state.path(), vec!["v"], Duration::from_mins(1)).await.unwrap(), [""; 0]);
        assert!(super::super::half_restored(state.path(), "e").unwrap().is_empty());
        other.await.unwrap();
    }

    #[test]
    fn a_journal_in_which_nothing_stands_does_not_stay() {
        let state = tempfile::tempdir().unwrap();
        let mut cut = journal(state.path(), "cut", &[]);
        cut.append(b"\n{\"event\":\"engi").unwrap();
        drop((journal(state.path(), "blank", &[]), cut, journal(state.path(), "other", &half())));
        let living = journal(state.path(), "living", &[]);
        assert!(Dead::all("another engine", state.path()).unwrap().is_empty());
        let mut left: Vec<_> = journal_file::list(&state.path().join(FOLDER), SUFFIX).unwrap();
        left.sort();
        let names: Vec<_> = left.iter().map(|path| path.file_name().unwrap().to_str().unwrap().trim_end_matches(SUFFIX)).collect();
        assert_eq!(names, ["living", "other"]);
        drop(living);
    }
}

//! What a restore has made so far, on disk: a restore that died in the middle leaves volumes and containers that stand in the
//! way of the next one, which removes them first.
//!
//! Only what is named here, by id, and belongs to an application that was not finished is ever removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::docker::create::json::{flag, text};
use crate::docker::discover::inspect_volume;
use crate::docker::wire::encode;
use crate::docker::{DockerError, Engine, make};
use crate::jobs::backup::sentence;
use crate::jobs::error::JobError;
use crate::model::text::printable;
use crate::platform::files;
use crate::platform::journal_file::{self, LockedFile};
use crate::repository::contract::SnapshotId;
use crate::targets::plan::{PlannedStep, Step};
use crate::targets::steps::{self, Aside, Kind, Left, Stopped};
use crate::targets::{container, network, volume};

const FOLDER: &str = "restores";
const SUFFIX: &str = ".jsonl";
/// How long the Engine may go on with the last call of a restore that died.
const SETTLES: Duration = Duration::from_secs(2);
/// Far more than any restore writes.
const LIMIT: u64 = 64 << 20;

/// One line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    /// The Engine that everything is on.
    Engine { id: String },
    /// A container is about to be made; whoever dies now cannot say with which id.
    Making { application: String, name: String },
    /// Something was made. `created` tells a volume from another of the same name.
    Made { left: Left, created: String },
    /// A container that was there is about to be stopped.
    Stopping { stopped: Stopped },
    /// A container that was there is about to get another name.
    Aside { aside: Aside },
    /// A volume that was there is about to be overwritten; `saved` is the snapshot that has what was in it.
    Overwriting { application: String, volume: String, saved: Option<String> },
    /// Everything of an application is in its place; from now on it may be used, and only starting it is left.
    Complete { application: String },
    /// What had been there for an application is as it was before, though not everything that was made for it could be removed.
    Back { application: String },
    /// An application needs nothing more.
    Done { application: String },
}

/// The journal of a running restore; held locked while it lives.
#[derive(Debug)]
pub(super) struct Journal {
    file: LockedFile,
    engine: Engine,
    /// Whether something could not be undone, so that the next start needs to know of it.
    open: bool,
}

impl Journal {
    /// Starts one.
    pub(super) fn create(state: &Path, run: &str, engine: &Engine) -> Result<Self, JobError> {
        let folder = state.join(FOLDER);
        let path = folder.join(format!("{run}{SUFFIX}"));
        let made = files::create_directories(&folder, 0o700).and_then(|()| LockedFile::create(&path));
        let mut journal = Self { file: made.map_err(|source| failed(&path, source))?, engine: engine.clone(), open: false };
        journal.write(&Line::Engine { id: engine.id().to_owned() })?;
        Ok(journal)
    }

    /// Records what was just made.
    pub(super) async fn made(&mut self, left: &Left) -> Result<(), JobError> {
        let created =
            if left.kind == Kind::Volume { inspect_volume(self.engine.wire(), &left.id).await?.created_at } else { String::new() };
        self.write(&Line::Made { left: left.clone(), created })
    }

    /// Records what is about to be done to what was there before, and which container is about to be made.
    pub(super) fn before(&mut self, planned: &PlannedStep, saved: Option<&SnapshotId>) -> Result<(), JobError> {
        let application = planned.application.clone();
        match &planned.step {
            Step::StopContainer { name, id, paused } => {
                let stopped = Stopped { application, id: id.clone(), name: name.clone(), paused: *paused };
                self.write(&Line::Stopping { stopped })
            }
            Step::SetAside { name, id, aside } => {
                self.write(&Line::Aside { aside: Aside { application, id: id.clone(), name: name.clone(), aside: aside.clone() } })
            }
            Step::FillVolume { name, replace: true, .. } => {
                self.write(&Line::Overwriting { application, volume: name.clone(), saved: saved.map(|id| id.short().to_owned()) })
            }
            Step::CreateContainer { container } => self.write(&Line::Making { application, name: container.name.clone() }),
            _ => Ok(()),
        }
    }

    /// Records that everything of an application is in its place. Then none of it is ever removed by another run.
    pub(super) fn complete(&mut self, application: &str) -> Result<(), JobError> {
        self.write(&Line::Complete { application: application.to_owned() })
    }

    /// Records that an application needs nothing more.
    pub(super) fn done(&mut self, application: &str) -> Result<(), JobError> {
        self.write(&Line::Done { application: application.to_owned() })
    }

    /// Records how undoing what was done for an application that failed went. What could not be undone, as the Engine was gone, is
    /// left to the next start.
    pub(super) fn undone(&mut self, application: &str, undone: Undone) -> Result<(), JobError> {
        if undone.made && undone.moved {
            return self.done(application);
        }
        self.open = true;
        if undone.moved { self.write(&Line::Back { application: application.to_owned() }) } else { Ok(()) }
    }

    /// The restore is over, and what it has left was told.
    pub(super) fn close(self) {
        if !self.open {
            // One that stays is empty of anything unfinished or names what is gone: the next restore removes it.
            drop(self.file.remove());
        }
    }

    fn write(&mut self, line: &Line) -> Result<(), JobError> {
        let path = self.file.path().to_owned();
        let mut bytes = serde_json::to_vec(line).map_err(|error| JobError::Internal(format!("a journal line: {error}")))?;
        bytes.push(b'\n');
        self.file.append(&bytes).map_err(|source| failed(&path, source))
    }
}

/// What of an application that failed is as if its restore had never begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undone {
    /// All that was made is removed.
    pub(super) made: bool,
    /// All that had been there is back.
    pub(super) moved: bool,
}

fn failed(path: &Path, source: std::io::Error) -> JobError {
    JobError::Own { action: format!("write the journal {}", path.display()), source }
}

/// What restores that died have left, put right.
#[derive(Debug, Default)]
pub(super) struct Cleaned {
    /// What was done, and what could not be, one sentence each.
    pub(super) told: Vec<String>,
    /// Ids of containers that stay stopped because their volumes are half restored: whoever restores these starts them.
    pub(super) held_down: BTreeSet<String>,
    /// What stays as it is, because only another restore can put it right, one sentence each.
    pub(super) open: Vec<String>,
}

/// What comes after the cleaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A restore, which can complete what is half restored.
    Restore,
    /// Something else: what is half restored stays written down for the next restore.
    Other,
}

/// Whether a restore has left a journal, be it of one that lives. Where that cannot be seen there may be one: reading it says why.
pub(super) fn any(state: &Path) -> bool {
    !journal_file::list(&state.join(FOLDER), SUFFIX).is_ok_and(|paths| paths.is_empty())
}

/// Removes what restores that died have left unfinished on this Engine, and puts back what had been there.
pub(super) async fn clean(engine: &Engine, state: &Path, next: Next) -> Result<Cleaned, JobError> {
    let folder = state.join(FOLDER);
    let read = |path: PathBuf| move |source| JobError::Own { action: format!("read the journal {}", path.display()), source };
    let (mut told, mut open) = (Vec::new(), Vec::new());
    let mut held_down = BTreeSet::new();
    for path in journal_file::list(&folder, SUFFIX).map_err(read(folder.clone()))? {
        let Some(mut file) = LockedFile::open_unheld(&path).map_err(read(path.clone()))? else { continue };
        let bytes = file.read(LIMIT).map_err(read(path.clone()))?;
        let Some(Unfinished { mut made, making, not_started, moved }) = unfinished(&bytes, engine.id()) else { continue };
        let half = |(application, moved): &(&String, &Moved)| !moved.overwritten.is_empty() && !not_started.contains(*application);
        if next == Next::Other && moved.iter().any(|one| half(&one)) {
            open.extend(moved.iter().filter(half).flat_map(|(application, moved)| overwritten(application, moved)));
            continue;
        }
        if !(made.is_empty() && making.is_empty() && moved.is_empty() && not_started.is_empty()) {
            // What the dead one asked for last, the Engine may still be doing.
            tokio::time::sleep(SETTLES).await;
        }
        for (application, name) in making {
            made.extend(just_made(engine, application, name, &moved).await?.map(|left| (left, String::new())));
        }
        for application in &not_started {
            let name = printable(application.as_bytes());
            told.push(format!("everything of {name} is there, but its restore was interrupted while it was started"));
        }
        let mut all_gone = true;
        let mut in_use = BTreeSet::new();
        for (left, created) in made.into_iter().rev() {
            if in_use.contains(&left.application) {
                continue;
            }
            let what =
                format!("{} {}, which an interrupted restore has left unfinished,", left.kind.as_str(), printable(left.name.as_bytes()));
            match remove(engine, &left, &created).await {
                Ok(Found::Removed) => told.push(format!("{what} was removed")),
                Ok(Found::Gone) => {}
                Ok(Found::InUse) => {
                    told.push(format!("{what} runs; it and everything that was made with it is left alone"));
                    in_use.insert(left.application);
                }
                Err(error) => {
                    all_gone = false;
                    told.push(format!("{what} cannot be removed: {}", sentence(&error)));
                }
            }
        }
        for (application, moved) in moved {
            if !in_use.contains(&application) {
                if !moved.overwritten.is_empty() && !not_started.contains(&application) {
                    held_down.extend(moved.stopped.iter().map(|stopped| stopped.id.clone()));
                }
                told.extend(put_back(engine, &application, &moved, not_started.contains(&application)).await);
            }
        }
        if all_gone {
            drop(file.remove());
        }
    }
    Ok(Cleaned { told, held_down, open })
}

/// What a restore that died has left.
#[derive(Debug, PartialEq)]
struct Unfinished {
    /// What was made for applications that are not complete, oldest first.
    made: Vec<(Left, String)>,
    /// Application and name of each container that was asked for, and may have been made.
    making: Vec<(String, String)>,
    /// Applications that are complete, but of which not everything may have been started.
    not_started: BTreeSet<String>,
    /// What was done to what had been there, by application.
    moved: BTreeMap<String, Moved>,
}

/// What was done to what had been there.
#[derive(Debug, Default, PartialEq)]
struct Moved {
    stopped: Vec<Stopped>,
    aside: Vec<Aside>,
    /// Volumes, each with the snapshot that has what was in it.
    overwritten: Vec<(String, Option<String>)>,
}

/// The container that a restore had asked for when it died, if the Engine has made it: it has the name, which was free then, and was never started.
async fn just_made(
    engine: &Engine,
    application: String,
    name: String,
    moved: &BTreeMap<String, Moved>,
) -> Result<Option<Left>, DockerError> {
    let found = match make::get(engine, &format!("/containers/{}/json", encode(&name))).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let was_there = |id: &str| moved.values().any(|moved| moved.aside.iter().any(|aside| aside.id == id));
    let id = steps::never_started(&found, &name).filter(|id| !was_there(id));
    Ok(id.map(|id| Left { application, kind: Kind::Container, name: name.clone(), id: id.to_owned() }))
}

/// Puts back what a restore that died has stopped or renamed; what it did, one sentence each.
async fn put_back(engine: &Engine, application: &str, moved: &Moved, complete: bool) -> Vec<String> {
    let mut told = Vec::new();
    if complete {
        // Its successors are there: only what was merely stopped runs again.
        let replaced = |stopped: &&Stopped| moved.aside.iter().any(|aside| aside.id == stopped.id);
        let (_, users): (Vec<&Stopped>, Vec<&Stopped>) = moved.stopped.iter().partition(replaced);
        let users: Vec<Stopped> = users.into_iter().cloned().collect();
        told.extend(steps::put_back(engine, &[], &users, true).await);
        for aside in &moved.aside {
            let shown = printable(aside.aside.as_bytes());
            match remove_replaced(engine, aside).await {
                Ok(true) => told.push(format!("container {shown}, which was replaced, was removed")),
                Ok(false) => {}
                Err(error) => told.push(format!("container {shown}, which was replaced, cannot be removed: {}", sentence(&error))),
            }
        }
        return told;
    }
    let intact = moved.overwritten.is_empty();
    told.extend(steps::put_back(engine, &moved.aside, &moved.stopped, intact).await);
    if intact {
        let application = printable(application.as_bytes());
        told.push(format!("an interrupted restore of {application} had stopped {}: what was there is back", names(&moved.stopped)));
    }
    told.extend(overwritten(application, moved));
    told
}

/// What is said of volumes that are half restored, one sentence each.
fn overwritten(application: &str, moved: &Moved) -> Vec<String> {
    let (application, stopped) = (printable(application.as_bytes()), names(&moved.stopped));
    let told = |(volume, saved): &(String, Option<String>)| {
        let volume = printable(volume.as_bytes());
        let saved = saved.as_ref().map_or("nothing of it was saved before".to_owned(), |id| format!("what was in it is in snapshot {id}"));
        format!(
            "volume {volume} was being overwritten when a restore of {application} was interrupted, so {stopped} stays stopped: restore it again; {saved}"
        )
    };
    moved.overwritten.iter().map(told).collect()
}

fn names(stopped: &[Stopped]) -> String {
    stopped.iter().map(|one| printable(one.name.as_bytes())).collect::<Vec<_>>().join(", ")
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

/// What a journal says; none if it is all on another Engine.
fn unfinished(bytes: &[u8], engine: &str) -> Option<Unfinished> {
    // The last line of a writer that was killed may be cut off.
    let lines: Vec<Line> = bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    if !lines.iter().any(|line| matches!(line, Line::Engine { id } if id == engine)) {
        return None;
    }
    let (mut made, mut complete, mut done) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut making: Vec<(String, String)> = Vec::new();
    let mut moved: BTreeMap<String, Moved> = BTreeMap::new();
    for line in lines {
        match line {
            Line::Engine { .. } => {}
            Line::Making { application, name } => making.push((application, name)),
            Line::Made { left, created } => {
                making.retain(|(_, name)| *name != left.name);
                made.push((left, created));
            }
            Line::Stopping { stopped } => moved.entry(stopped.application.clone()).or_default().stopped.push(stopped),
            Line::Aside { aside } => moved.entry(aside.application.clone()).or_default().aside.push(aside),
            Line::Overwriting { application, volume, saved } => moved.entry(application).or_default().overwritten.push((volume, saved)),
            Line::Back { application } => {
                // What has a name again was never made.
                let back = moved.remove(&application).unwrap_or_default();
                making.retain(|(_, name)| !back.aside.iter().any(|aside| aside.name == *name));
            }
            Line::Complete { application } => drop(complete.insert(application)),
            Line::Done { application } => drop(done.insert(application)),
        }
    }
    made.retain(|(left, _)| !complete.contains(&left.application) && !done.contains(&left.application));
    moved.retain(|application, _| !done.contains(application));
    // A restore that goes on to another application has put this one right itself.
    making.retain(|(application, _)| !complete.contains(application) && !done.contains(application));
    Some(Unfinished { made, making, not_started: complete.difference(&done).cloned().collect(), moved })
}

/// What became of something that a dead restore has left.
enum Found {
    Removed,
    Gone,
    /// Somebody runs it: it is theirs now.
    InUse,
}

async fn remove(engine: &Engine, left: &Left, created: &str) -> Result<Found, DockerError> {
    let removed = match left.kind {
        Kind::Container => match make::get(engine, &format!("/containers/{}/json", encode(&left.id))).await {
            Ok(inspect) if flag(&inspect, "/State/Running") => return Ok(Found::InUse),
            Ok(_) => container::remove(engine, &left.id).await,
            Err(error) => Err(error),
        },
        Kind::Network => network::remove(engine, &left.id).await,
        Kind::Volume => match inspect_volume(engine.wire(), &left.id).await {
            // Somebody has made another one of that name.
            Ok(found) if found.created_at != created => return Ok(Found::Gone),
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

    #[test]
    fn the_unit_at_boot_looks_for_journals() {
        let unit = include_str!("../../../assets/bbackup-recover.service");
        let condition = format!("\nConditionPathExistsGlob=|/var/lib/bbackup/state/{FOLDER}/*{SUFFIX}\n");
        assert!(unit.contains(&condition), "{condition} is not in the unit");
    }

    #[test]
    fn only_unfinished_things_of_this_engine_are_found() {
        let left = |application: &str, name: &str| Left {
            application: application.to_owned(),
            kind: Kind::Volume,
            name: name.to_owned(),
            id: name.to_owned(),
        };
        let lines = [
            Line::Engine { id: "e".to_owned() },
            Line::Made { left: left("a", "a1"), created: "t".to_owned() },
            Line::Made { left: left("b", "b1"), created: "t".to_owned() },
            Line::Made { left: left("c", "c1"), created: "t".to_owned() },
            Line::Complete { application: "a".to_owned() },
            Line::Done { application: "a".to_owned() },
            Line::Complete { application: "c".to_owned() },
        ];
        let making = Line::Making { application: "d".to_owned(), name: "d1".to_owned() };
        let mut bytes = Vec::new();
        for line in lines.iter().chain([&making]) {
            bytes.extend(serde_json::to_vec(line).unwrap_or_default());
            bytes.push(b'\n');
        }
        assert_eq!(unfinished(&bytes, "e").unwrap().making, [("d".to_owned(), "d1".to_owned())]);
        bytes.extend(serde_json::to_vec(&Line::Made { left: left("d", "d1"), created: "t".to_owned() }).unwrap());
        bytes.extend_from_slice(b"\n{\"event\":\"made\",\"le");
        let found = unfinished(&bytes, "e").unwrap();
        assert_eq!(found.made, [("b", "b1"), ("d", "d1")].map(|(application, name)| (left(application, name), "t".to_owned())));
        assert_eq!(found.making, []);
        assert_eq!(found.not_started.into_iter().collect::<Vec<_>>(), ["c"]);
        assert_eq!(unfinished(&bytes, "other"), None);
    }
}

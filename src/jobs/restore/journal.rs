//! What a restore has made so far, on disk: a restore that died in the middle leaves volumes and containers that stand in the
//! way of the next one, and volumes that are half of one and half of another content.
//!
//! How that is put right is `clean`'s business.

mod clean;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::docker::discover::inspect_volume;
use crate::docker::{DockerError, Engine, mountpoint};
use crate::jobs::error::JobError;
use crate::model::application::Status;
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::files;
use crate::platform::journal_file::{self, LockedFile};
use crate::targets::plan::{PlannedStep, Step};
use crate::targets::steps::{Aside, Kind, Left, Stopped};

pub(super) use self::clean::{Cleaned, Half, clean, restored};

const FOLDER: &str = "restores";
const SUFFIX: &str = ".jsonl";
/// Far more than any restore writes.
const LIMIT: u64 = 64 << 20;

/// One line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    /// The Engine that everything is on.
    Engine { id: String },
    /// All that the restore will make, move, fill and overwrite: no other one touches it meanwhile.
    Plans { what: BTreeSet<String> },
    /// A container is about to be made; whoever dies now cannot say with which id.
    Making { application: String, name: String },
    /// Something was made. `created` tells a volume from another of the same name.
    Made { left: Left, created: String },
    /// A container that was there is about to be stopped.
    Stopping { stopped: Stopped },
    /// A container that was there is about to get another name.
    Aside { aside: Aside },
    /// A volume, or a path of the machine (with its slash), that was there is about to be overwritten; `saved` is the snapshot that
    /// has what was in it. `created` tells it from another of the same name.
    Overwriting {
        application: String,
        volume: String,
        saved: Option<String>,
        #[serde(default)]
        created: String,
    },
    /// A volume that is new or empty, or a path at which nothing is, is about to be filled. `created` is as above.
    Filling { application: String, volume: String, created: String },
    /// A volume has again what was in it before, or all of what it was to get.
    Refilled { application: String, volume: String },
    /// Another restore has given a volume a whole content, or it is gone: that it was half of one does not matter any more.
    Restored { volume: String },
    /// Everything of an application is in its place; from now on it may be used, and only starting it is left.
    Complete {
        application: String,
        #[serde(default)]
        owed: Vec<Owed>,
        /// Volumes of which entries were lost.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lost: Vec<String>,
    },
    /// A step for an application has failed, also if it was complete before: what was done for it is being undone.
    Undoing { application: String },
    /// What was made for an application is removed, and what was renamed has its name; its volumes are still half restored.
    Undone { application: String },
    /// What had been there for an application is as it was before, though not everything that was made for it could be removed.
    Back { application: String },
    /// An application needs nothing more.
    Done { application: String },
}

/// What is left to do for a container of an application that is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owed {
    /// Its place in the order of the whole restore.
    number: u64,
    action: Action,
    /// Name of the container.
    name: String,
    /// Volumes that it uses.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    volumes: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Start,
    Wait,
    Pause,
}

impl Owed {
    /// What a step owes, if it is one that starts something; `uses` are the volumes of each container.
    pub(super) fn of(number: usize, step: &Step, uses: &BTreeMap<String, BTreeSet<String>>) -> Option<Self> {
        let (action, name) = match step {
            Step::StartContainer { name } => (Action::Start, name),
            Step::WaitHealthy { name } => (Action::Wait, name),
            Step::PauseContainer { name } => (Action::Pause, name),
            _ => return None,
        };
        Some(Self { number: number as u64, action, name: name.clone(), volumes: uses.get(name).cloned().unwrap_or_default() })
    }
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
    /// Starts one for a restore that will take these steps.
    ///
    /// # Errors
    /// Another restore that runs touches the same; it cannot be written.
    pub(super) async fn create(state: &Path, run: &str, engine: &Engine, steps: &[PlannedStep]) -> Result<Self, JobError> {
        let folder = state.join(FOLDER);
        let path = folder.join(format!("{run}{SUFFIX}"));
        files::create_directories(&folder, 0o700).map_err(|source| failed(&path, source))?;
        let what: BTreeSet<String> = steps.iter().filter_map(|planned| touched(&planned.step)).collect();
        let gate = gate(&folder).await?;
        for (other, one) in living(&folder, engine.id())? {
            if let Some(shared) = one.plans.intersection(&what).next() {
                return Err(busy(&other, shared));
            }
        }
        let made = LockedFile::create(&path);
        let mut journal = Self { file: made.map_err(|source| failed(&path, source))?, engine: engine.clone(), open: false };
        journal.write(&Line::Engine { id: engine.id().to_owned() })?;
        journal.write(&Line::Plans { what })?;
        drop(gate);
        Ok(journal)
    }

    /// Records what was just made.
    pub(super) async fn made(&mut self, left: &Left) -> Result<(), JobError> {
        let created = if left.kind == Kind::Volume { identity(&self.engine, &left.id).await? } else { String::new() };
        self.write(&Line::Made { left: left.clone(), created })
    }

    /// Records what is about to be done to what was there before, and which container is about to be made. `saved` is the snapshot
    /// that has what was in a volume that is overwritten.
    pub(super) async fn before(&mut self, planned: &PlannedStep, saved: Option<&str>) -> Result<(), JobError> {
        let application = planned.application.clone();
        match &planned.step {
            Step::StopContainer { name, id, paused, volumes, restart } => {
                let (id, name, volumes, restart) = (id.clone(), name.clone(), volumes.clone(), restart.clone());
                let stopped = Stopped { application, id, name, paused: *paused, volumes, restart };
                self.write(&Line::Stopping { stopped })
            }
            Step::SetAside { name, id, aside } => {
                self.write(&Line::Aside { aside: Aside { application, id: id.clone(), name: name.clone(), aside: aside.clone() } })
            }
            Step::CreateContainer { container } => self.write(&Line::Making { application, name: container.name.clone() }),
            step => match step.fills() {
                Some((place, overwrites)) => {
                    let (created, volume) = (identity(&self.engine, place).await?, place.to_owned());
                    self.write(&if overwrites {
                        Line::Overwriting { application, volume, saved: saved.map(str::to_owned), created }
                    } else {
                        Line::Filling { application, volume, created }
                    })
                }
                None => Ok(()),
            },
        }
    }

    /// Records that what was done for an application is being undone.
    pub(super) fn undoing(&mut self, application: &str) -> Result<(), JobError> {
        self.write(&Line::Undoing { application: application.to_owned() })
    }

    /// Records that a volume or path has again what was in it before, or all that it was to get.
    pub(super) fn refilled(&mut self, application: &str, volume: &str) -> Result<(), JobError> {
        self.write(&Line::Refilled { application: application.to_owned(), volume: volume.to_owned() })
    }

    /// Records that everything of an application is in its place. Then none of it is ever removed by another run.
    /// What is left is to start them.
    pub(super) fn complete(&mut self, application: &str, owed: Vec<Owed>, lost: Vec<String>) -> Result<(), JobError> {
        self.write(&Line::Complete { application: application.to_owned(), owed, lost })
    }

    /// Records that an application needs nothing more.
    pub(super) fn done(&mut self, application: &str) -> Result<(), JobError> {
        self.write(&Line::Done { application: application.to_owned() })
    }

    /// The next start needs to know of this.
    pub(super) fn stays(&mut self) {
        self.open = true;
    }

    /// Records how undoing what was done for an application that failed went. What could not be undone, as the Engine was gone, is
    /// left to the next start, and what stays half filled to the next restore.
    pub(super) fn undone(&mut self, application: &str, undone: Undone) -> Result<(), JobError> {
        if undone.made && undone.moved && undone.filled {
            return self.done(application);
        }
        self.open = true;
        if undone.moved {
            self.write(&Line::Back { application: application.to_owned() })?;
        }
        if undone.made && undone.moved { self.write(&Line::Undone { application: application.to_owned() }) } else { Ok(()) }
    }

    /// The restore is over, and what it has left was told.
    pub(super) fn close(self) {
        if !self.open {
            // One that stays is empty of anything unfinished or names what is gone: the next restore removes it.
            drop(self.file.remove());
        }
    }

    fn write(&mut self, line: &Line) -> Result<(), JobError> {
        write(&mut self.file, line)
    }
}

/// Whether it is a path of the machine; names of volumes have no slash.
fn is_path(place: &str) -> bool {
    place.starts_with('/')
}

/// What tells a volume or path from another one of its name: its folder, where that is seen, else the Engine's word, which for a plain
/// volume of Engine 20.10 is the time of the last change to its folder. Empty for a path that is not there, or not seen from here.
async fn identity(engine: &Engine, place: &str) -> Result<String, DockerError> {
    if is_path(place) {
        let is_seen = mountpoint::same_root(engine).await;
        return Ok(std::fs::metadata(place).ok().filter(|_| is_seen).map(|found| by_folder(&found)).unwrap_or_default());
    }
    let volume = inspect_volume(engine.wire(), place).await?;
    let folder = mountpoint::agreed(engine, &volume).await.ok().and_then(|path| std::fs::metadata(path).ok());
    Ok(folder.map_or(volume.created_at, |folder| by_folder(&folder)))
}

fn by_folder(folder: &std::fs::Metadata) -> String {
    let made = folder.created().ok().and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    made.map_or_else(|| folder.ino().to_string(), |made| format!("{}:{}", folder.ino(), made.as_nanos()))
}

/// Whether nothing is in a volume or at a path; false where that is not seen.
async fn is_empty(engine: &Engine, place: &str) -> bool {
    let folder = if is_path(place) {
        mountpoint::same_root(engine).await.then(|| place.into())
    } else {
        match inspect_volume(engine.wire(), place).await {
            Ok(volume) => mountpoint::agreed(engine, &volume).await.ok(),
            Err(_) => None,
        }
    };
    folder.is_some_and(|folder: std::path::PathBuf| match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    })
}

/// Whether both are of one kind, a folder's or the Engine's word: only then do they tell two volumes apart.
fn are_comparable(one: &str, other: &str) -> bool {
    one.contains('T') == other.contains('T')
}

fn write(file: &mut LockedFile, line: &Line) -> Result<(), JobError> {
    let path = file.path().to_owned();
    let line = serde_json::to_string(line).map_err(|error| JobError::Internal(format!("a journal line: {error}")))?;
    // Half a line that is there, as a disk was full, does not spoil this one.
    let bytes = format!("\n{line}\n").into_bytes();
    file.append(&bytes).map_err(|source| failed(&path, source))
}

/// What of an application that failed is as if its restore had never begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undone {
    /// All that was made is removed.
    pub(super) made: bool,
    /// All that had been there is back.
    pub(super) moved: bool,
    /// Nothing that had been there, and was empty, has a part of what it was to get.
    pub(super) filled: bool,
}

fn failed(path: &Path, source: std::io::Error) -> JobError {
    JobError::Own { action: format!("write the journal {}", path.display()), source }
}

/// What a step changes, for people.
fn touched(step: &Step) -> Option<String> {
    Some(match step {
        Step::CreateNetwork { network } => format!("network {}", network.name),
        Step::CreateContainer { container } => format!("container {}", container.name),
        Step::StopContainer { name, .. } | Step::SetAside { name, .. } => format!("container {name}"),
        Step::CreateVolume { name, .. } | Step::UseVolume { name } => format!("volume {name}"),
        step => match step.fills()?.0 {
            path if is_path(path) => path.to_owned(),
            volume => format!("volume {volume}"),
        },
    })
}

/// Keeps restores apart while they look at each other's journals.
async fn gate(folder: &Path) -> Result<LockedFile, JobError> {
    const LIMIT: Duration = Duration::from_secs(30);
    const WAIT: Duration = Duration::from_millis(20);
    let path = folder.join("gate");
    let deadline = clock::monotonic() + LIMIT;
    loop {
        match LockedFile::try_lock(&path).map_err(|source| failed(&path, source))? {
            Some(gate) => return Ok(gate),
            None if clock::monotonic() >= deadline => return Err(failed(&path, std::io::ErrorKind::WouldBlock.into())),
            None => tokio::time::sleep(WAIT).await,
        }
    }
}

/// What restores that run say of themselves, with their names.
fn living(folder: &Path, engine: &str) -> Result<Vec<(String, Unfinished)>, JobError> {
    let mut living = Vec::new();
    for path in journal_file::list(folder, SUFFIX).map_err(|source| unread(folder, source))? {
        if LockedFile::open_unheld(&path).map_err(|source| unread(&path, source))?.is_some() {
            continue;
        }
        let Some(bytes) = journal_file::read_unlocked(&path, LIMIT).map_err(|source| unread(&path, source))? else { continue };
        let run = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        living.extend(unfinished(&bytes, engine).map(|one| (run, one)));
    }
    Ok(living)
}

fn busy(run: &str, shared: &str) -> JobError {
    let message = format!("another restore ({run}) is at {} just now", printable(shared.as_bytes()));
    JobError::request("restore_runs", message, "Wait until it has ended.")
}

/// The containers that restores have stopped and not started again, by id, with what they did before.
pub(super) fn stopped(state: &Path, engine: &str) -> Result<Vec<(String, Status)>, JobError> {
    let before = |one: Stopped| (one.id, if one.paused { Status::Paused } else { Status::Running });
    Ok(all(state, engine)?.into_iter().flat_map(|left| left.stopped).map(before).collect())
}

/// The restore that runs and needs a container stopped.
pub(super) fn keeps_stopped(state: &Path, engine: &str, id: &str) -> Option<String> {
    let moved = |one: &Unfinished| one.stopped.iter().any(|stopped| stopped.id == id) || one.aside.iter().any(|aside| aside.id == id);
    living(&state.join(FOLDER), engine).ok()?.into_iter().find(|(_, one)| moved(one)).map(|(run, _)| run)
}

/// Whether a restore has left a journal, be it of one that lives. Where that cannot be seen there may be one: reading it says why.
pub(super) fn any(state: &Path) -> bool {
    !journal_file::list(&state.join(FOLDER), SUFFIX).is_ok_and(|paths| paths.is_empty())
}

/// The volumes of an Engine that are, or may be, half of one and half of another content, each with a reason: restores overwrite them, or were
/// interrupted while they did.
pub(super) fn half_restored(state: &Path, engine: &str) -> Result<BTreeMap<String, String>, JobError> {
    let mut found = BTreeMap::new();
    for left in all(state, engine)? {
        for (_, one) in left.not_whole() {
            found.entry(one.volume.clone()).or_insert_with(|| {
                let (does, again) =
                    if one.fresh { ("fills", "restore it again, or remove it") } else { ("overwrites", "restore it again") };
                let whence = one.whence();
                format!("a restore {does} it, or was interrupted while it did, so only a part of it would be saved: {again}{whence}")
            });
        }
    }
    Ok(found)
}

/// Ids of containers that stay stopped because of volumes that are half restored, whichever of the journals says so: one that stopped a
/// container for another volume does not know.
fn held_down(state: &Path, engine: &str, half: &BTreeSet<String>) -> Result<BTreeSet<String>, JobError> {
    let mut held = BTreeSet::new();
    for left in all(state, engine)? {
        let applications = left.half_applications();
        let stays = |one: &&Stopped| applications.contains(&one.application) || one.volumes.iter().any(|volume| half.contains(volume));
        held.extend(left.stopped.iter().filter(stays).map(|one| one.id.clone()));
    }
    Ok(held)
}

/// What all journals of an Engine say, those of restores that live too.
fn all(state: &Path, engine: &str) -> Result<Vec<Unfinished>, JobError> {
    let folder = state.join(FOLDER);
    let mut found = Vec::new();
    for path in journal_file::list(&folder, SUFFIX).map_err(|source| unread(&folder, source))? {
        let bytes = journal_file::read_unlocked(&path, LIMIT).map_err(|source| unread(&path, source))?;
        found.extend(bytes.and_then(|bytes| unfinished(&bytes, engine)));
    }
    Ok(found)
}

fn unread(path: &Path, source: std::io::Error) -> JobError {
    JobError::Own { action: format!("read the journal {}", path.display()), source }
}

/// What a restore that died has left.
#[derive(Debug, Default, PartialEq)]
struct Unfinished {
    /// All that it was to touch.
    plans: BTreeSet<String>,
    /// What was made for applications that are not complete, oldest first.
    made: Vec<(Left, String)>,
    /// Application and name of each container that was asked for, and may have been made.
    making: Vec<(String, String)>,
    /// Applications that are complete, but of which not everything may have been started, and what is left to do for them.
    not_started: BTreeMap<String, Vec<Owed>>,
    /// Volumes of complete applications of which entries were lost.
    lost: BTreeSet<String>,
    /// Applications that were just being undone: what was made for them may run.
    undoing: BTreeSet<String>,
    /// Containers that had been there and were stopped, in that order.
    stopped: Vec<Stopped>,
    /// Containers that had been there and were renamed.
    aside: Vec<Aside>,
    /// Volumes and paths that were overwritten or filled, with their application.
    overwritten: Vec<(String, Overwritten)>,
}

/// A volume or path that was overwritten or filled.
#[derive(Debug, Clone, PartialEq)]
struct Overwritten {
    volume: String,
    /// It was new or empty.
    fresh: bool,
    /// The snapshot that has what was in it.
    saved: Option<String>,
    /// What tells it from another one of its name.
    created: String,
}

impl Overwritten {
    /// Where its content of before is: the end of a sentence.
    fn whence(&self) -> String {
        if self.fresh {
            return String::new();
        }
        let saved = self.saved.as_ref().map(|id| format!("; what was in it is in snapshot {}", printable(id.as_bytes())));
        saved.unwrap_or_else(|| "; nothing of it was saved before".to_owned())
    }
}

impl Unfinished {
    /// The volumes and paths that are half restored, with their applications; also those that were made for this, and will be removed.
    fn not_whole(&self) -> impl Iterator<Item = &(String, Overwritten)> {
        self.overwritten.iter().filter(|(application, _)| !self.not_started.contains_key(application))
    }

    /// Those of them that only another restore can put right.
    fn half(&self) -> impl Iterator<Item = &(String, Overwritten)> {
        let is_made = |name: &str| self.made.iter().any(|(left, _)| left.kind == Kind::Volume && left.id == name);
        self.not_whole().filter(move |(_, one)| !(one.fresh && is_made(&one.volume)))
    }

    /// The applications of which a volume is half restored.
    fn half_applications(&self) -> BTreeSet<String> {
        self.half().map(|(application, _)| application.clone()).collect()
    }

    /// The volumes that this restore has overwritten and that are whole.
    fn whole(&self) -> Vec<String> {
        let complete = self.overwritten.iter().filter(|(application, _)| self.not_started.contains_key(application));
        complete.map(|(_, one)| one.volume.clone()).filter(|volume| !self.lost.contains(volume)).collect()
    }

    /// All applications that are named.
    fn applications(&self) -> BTreeSet<String> {
        let made = self.made.iter().map(|(left, _)| &left.application).chain(self.making.iter().map(|(application, _)| application));
        let moved = self.stopped.iter().map(|one| &one.application).chain(self.aside.iter().map(|one| &one.application));
        made.chain(moved)
            .chain(self.not_started.keys())
            .chain(self.overwritten.iter().map(|(application, _)| application))
            .cloned()
            .collect()
    }
}

/// Whether nothing stands in a journal: its writer died, or its disk was full, before it did anything.
fn is_blank(bytes: &[u8]) -> bool {
    !bytes.split(|&byte| byte == b'\n').any(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok())
}

/// What a journal says; none if it is all on another Engine.
fn unfinished(bytes: &[u8], engine: &str) -> Option<Unfinished> {
    // The last line of a writer that was killed may be cut off.
    let lines: Vec<Line> = bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    if !lines.iter().any(|line| matches!(line, Line::Engine { id } if id == engine)) {
        return None;
    }
    let mut found = Unfinished::default();
    let mut done = BTreeSet::new();
    for line in lines {
        match line {
            Line::Engine { .. } => {}
            Line::Plans { what } => found.plans = what,
            Line::Making { application, name } => found.making.push((application, name)),
            Line::Made { left, created } => {
                found.making.retain(|(_, name)| *name != left.name);
                // What was handed over is the other application's alone.
                found.made.retain(|(one, _)| (one.kind, &one.id) != (left.kind, &left.id));
                found.made.push((left, created));
            }
            Line::Stopping { stopped } => found.stopped.push(stopped),
            Line::Aside { aside } => found.aside.push(aside),
            Line::Overwriting { application, volume, saved, created } => {
                found.overwritten.push((application, Overwritten { volume, fresh: false, saved, created }));
            }
            Line::Filling { application, volume, created } => {
                found.overwritten.push((application, Overwritten { volume, fresh: true, saved: None, created }));
            }
            Line::Refilled { application, volume } => found.overwritten.retain(|(of, one)| (of, &one.volume) != (&application, &volume)),
            Line::Restored { volume } => found.overwritten.retain(|(_, one)| one.volume != volume),
            Line::Back { application } => {
                // What has a name again was never made.
                let has_name = |name: &String| found.aside.iter().any(|aside| aside.application == application && aside.name == *name);
                found.making.retain(|(_, name)| !has_name(name));
                found.stopped.retain(|one| one.application != application);
                found.aside.retain(|one| one.application != application);
                found.overwritten.retain(|(of, one)| *of != application || one.fresh);
            }
            Line::Undone { application } => {
                found.making.retain(|(of, _)| *of != application);
                found.made.retain(|(left, _)| left.application != application);
                found.aside.retain(|one| one.application != application);
            }
            Line::Undoing { application } => {
                found.not_started.remove(&application);
                done.remove(&application);
                found.undoing.insert(application);
            }
            Line::Complete { application, owed, lost } => {
                found.not_started.insert(application, owed);
                found.lost.extend(lost);
            }
            Line::Done { application } => drop(done.insert(application)),
        }
    }
    let open = |application: &String| !done.contains(application);
    found.not_started.retain(|application, _| open(application));
    // What was made for an application that is complete is never removed.
    let complete: BTreeSet<String> = found.not_started.keys().cloned().collect();
    found.made.retain(|(left, _)| open(&left.application) && !complete.contains(&left.application));
    // A restore that goes on to another application has put this one right itself.
    found.making.retain(|(application, _)| open(application) && !complete.contains(application));
    found.stopped.retain(|one| open(&one.application));
    found.aside.retain(|one| open(&one.application));
    found.overwritten.retain(|(application, _)| open(application));
    Some(found)
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
            Line::Complete { application: "a".to_owned(), owed: Vec::new(), lost: Vec::new() },
            Line::Done { application: "a".to_owned() },
            Line::Complete { application: "c".to_owned(), owed: Vec::new(), lost: Vec::new() },
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
        assert_eq!(found.not_started.into_keys().collect::<Vec<_>>(), ["c"]);
        assert_eq!(unfinished(&bytes, "other"), None);

        // What was complete, or done, and is being undone is not complete any more; what has its content again is not half restored.
        let application = || "c".to_owned();
        let overwriting =
            |volume: &str| Line::Overwriting { application: application(), volume: volume.to_owned(), saved: None, created: String::new() };
        let more = [
            overwriting("c2"),
            overwriting("c3"),
            overwriting("c4"),
            Line::Complete { application: application(), owed: Vec::new(), lost: Vec::new() },
            Line::Done { application: application() },
            Line::Undoing { application: application() },
            Line::Refilled { application: application(), volume: "c2".to_owned() },
            Line::Restored { volume: "c3".to_owned() },
        ];
        for line in &more {
            bytes.push(b'\n');
            bytes.extend(serde_json::to_vec(line).unwrap());
        }
        let found = unfinished(&bytes, "e").unwrap();
        assert_eq!(found.half().map(|(_, one)| one.volume.as_str()).collect::<Vec<_>>(), ["c4"]);
        assert!(found.not_started.is_empty() && found.made.iter().any(|(left, _)| left.name == "c1"));
    }

    fn volume(application: &str, name: &str) -> Left {
        Left { application: application.to_owned(), kind: Kind::Volume, name: name.to_owned(), id: name.to_owned() }
    }

    fn done(application: &str) -> Line {
        Line::Done { application: application.to_owned() }
    }

    fn read(lines: &[Line]) -> Unfinished {
        let lines: Vec<String> = lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        unfinished(lines.join("\n").as_bytes(), "e").unwrap()
    }

    #[test]
    fn what_was_handed_over_is_the_other_applications_alone() {
        let made = |application| Line::Made { left: volume(application, "shared"), created: "t".to_owned() };
        let handed_over = |more| read(&[Line::Engine { id: "e".to_owned() }, made("a"), made("b"), more]);
        // It is never removed for the first one, as the second one is complete with it.
        assert_eq!(handed_over(done("b")).made, []);
        assert_eq!(handed_over(done("a")).made, [(volume("b", "shared"), "t".to_owned())]);
    }

    #[test]
    fn half_a_line_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LockedFile::create(&folder.path().join(format!("run{SUFFIX}"))).unwrap();
        write(&mut file, &Line::Engine { id: "e".to_owned() }).unwrap();
        write(&mut file, &Line::Made { left: volume("a", "a1"), created: "t".to_owned() }).unwrap();
        // The disk was full in the middle of it.
        file.append(br#"{"event":"complete","applica"#).unwrap();
        write(&mut file, &done("a")).unwrap();
        let found = unfinished(&file.read(LIMIT).unwrap(), "e").unwrap();
        assert_eq!(found, Unfinished::default(), "the line behind the half one is lost");
    }

    #[test]
    fn a_folder_and_a_word_of_the_engine_tell_nothing_of_each_other() {
        let (folder, other, word, later) = ("12:1700000000000000000", "13:1", "2026-11-22T10:00:00Z", "2026-11-22T11:00:00+01:00");
        assert!(are_comparable(folder, other) && are_comparable(word, later) && are_comparable("12", folder));
        assert!(!are_comparable(folder, word) && !are_comparable(word, "12"));
    }

    #[test]
    fn a_volume_that_lost_entries_is_not_whole() {
        let overwriting = |volume: &str| Line::Overwriting {
            application: "a".to_owned(),
            volume: volume.to_owned(),
            saved: None,
            created: String::new(),
        };
        let complete = Line::Complete { application: "a".to_owned(), owed: Vec::new(), lost: vec!["torn".to_owned()] };
        let found = read(&[Line::Engine { id: "e".to_owned() }, overwriting("torn"), overwriting("good"), complete]);
        assert_eq!(found.whole(), ["good"], "an older restore's half of it would be forgotten");
    }

    #[test]
    fn a_journal_in_which_nothing_stands_is_told_from_one_of_another_engine() {
        assert!(is_blank(b"") && is_blank(b"\n\n{\"event\":\"engi"));
        assert!(!is_blank(b"\n{\"event\":\"engine\",\"id\":\"other\"}\n") && !is_blank(b"{\"event\":\"of a later version\"}"));
    }
}

//! What the journals of restores say: which volumes and paths are half restored, who was stopped, what is left to be done.
//!
//! What is done about it is `clean`'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;

use super::{FOLDER, LIMIT, Line, Owed, SUFFIX};
use crate::jobs::error::JobError;
use crate::model::application::{RestartPolicy, Status};
use crate::model::text::printable;
use crate::platform::journal_file::{self, LockedFile};
use crate::targets::steps::{Aside, Kind, Left, Stopped};

/// Id of a container, what it did, and the policy that was taken from it.
pub(in super::super) type StoppedBefore = (String, Status, Option<RestartPolicy>);

/// The containers that restores have stopped and not started again, by id, with what they did before.
pub(in super::super) fn stopped(state: &Path, engine: &str) -> Result<Vec<StoppedBefore>, JobError> {
    let before = |one: Stopped| (one.id, if one.paused { Status::Paused } else { Status::Running }, one.restart);
    Ok(all(state, engine)?.into_iter().flat_map(|left| left.stopped).map(before).collect())
}

/// What restores that run say of themselves, with their names.
pub(super) fn living(folder: &Path, engine: &str) -> Result<Vec<(String, Unfinished)>, JobError> {
    let mut living = Vec::new();
    for path in journal_file::list(folder, SUFFIX).map_err(|source| unread(folder, source))? {
        if !LockedFile::is_held(&path).map_err(|source| unread(&path, source))? {
            continue;
        }
        let Some(bytes) = journal_file::read_unlocked(&path, LIMIT).map_err(|source| unread(&path, source))? else { continue };
        living.extend(unfinished(&bytes, engine).map(|one| (name(&path), one)));
    }
    Ok(living)
}

/// Ids of the containers that restores which run have given other names.
pub(in super::super) fn set_aside(state: &Path, engine: &str) -> Result<Vec<String>, JobError> {
    let living = living(&state.join(FOLDER), engine)?;
    Ok(living.into_iter().flat_map(|(_, one)| one.aside).map(|aside| aside.id).collect())
}

/// The restore that needs a container stopped: one that runs, or one that died and has left half of its data, unless somebody has started the
/// container after that; `started_at` is when it was started last before it was stopped.
pub(in super::super) fn keeps_stopped(state: &Path, engine: &str, id: &str, started_at: &str) -> Option<String> {
    let folder = state.join(FOLDER);
    let moved = |one: &Unfinished| one.stopped.iter().any(|stopped| stopped.id == id) || one.aside.iter().any(|aside| aside.id == id);
    let living = living(&folder, engine).ok()?.into_iter().find(|(_, one)| moved(one));
    let dead = || {
        let half: BTreeSet<String> = half_restored(state, engine).ok()?.into_keys().collect();
        let is_it = |one: &Stopped| one.id == id && (one.started_at.is_empty() || one.started_at == started_at);
        named(&folder, engine).ok()?.into_iter().find(|(_, one)| one.held_down(&half).any(is_it))
    };
    living.or_else(dead).map(|(run, _)| run)
}

/// The volumes of an Engine that are, or may be, half of one and half of another content, each with a reason: restores overwrite them, or were
/// interrupted while they did.
pub(in super::super) fn half_restored(state: &Path, engine: &str) -> Result<BTreeMap<String, String>, JobError> {
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
pub(super) fn held_down(state: &Path, engine: &str, half: &BTreeSet<String>) -> Result<BTreeSet<String>, JobError> {
    let left = all(state, engine)?;
    Ok(left.iter().flat_map(|left| left.held_down(half)).map(|one| one.id.clone()).collect())
}

/// What all journals of an Engine say, those of restores that live too.
pub(super) fn all(state: &Path, engine: &str) -> Result<Vec<Unfinished>, JobError> {
    Ok(named(&state.join(FOLDER), engine)?.into_iter().map(|(_, left)| left).collect())
}

fn named(folder: &Path, engine: &str) -> Result<Vec<(String, Unfinished)>, JobError> {
    let mut found = Vec::new();
    for path in journal_file::list(folder, SUFFIX).map_err(|source| unread(folder, source))? {
        let bytes = journal_file::read_unlocked(&path, LIMIT).map_err(|source| unread(&path, source))?;
        found.extend(bytes.and_then(|bytes| unfinished(&bytes, engine)).map(|left| (name(&path), left)));
    }
    Ok(found)
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

pub(super) fn unread(path: &Path, source: std::io::Error) -> JobError {
    JobError::Own { action: format!("read the journal {}", path.display()), source }
}

/// What a restore that died has left.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Unfinished {
    /// All that it was to touch.
    pub(super) plans: BTreeSet<String>,
    /// All volumes and paths that it has begun to fill or to overwrite, whatever became of them.
    pub(super) touched: BTreeSet<String>,
    /// What was made for applications that are not complete, oldest first.
    pub(super) made: Vec<(Left, String)>,
    /// Application and name of each container that was asked for, and may have been made.
    pub(super) making: Vec<(String, String)>,
    /// Applications that are complete, but of which not everything may have been started, and what is left to do for them.
    pub(super) not_started: BTreeMap<String, Vec<Owed>>,
    /// Volumes and paths of which entries were lost, though their applications are complete, and when that was, by the Engine's clock.
    pub(super) lost: Vec<(Overwritten, Option<Timestamp>)>,
    /// Containers, by id, of whose own layers entries were lost.
    pub(super) lost_layers: Vec<String>,
    /// Applications that were just being undone: what was made for them may run.
    pub(super) undoing: BTreeSet<String>,
    /// Containers that had been there and were stopped, in that order.
    pub(super) stopped: Vec<Stopped>,
    /// Containers that had been there and were renamed.
    pub(super) aside: Vec<Aside>,
    /// Volumes and paths that were overwritten or filled, with their application.
    pub(super) overwritten: Vec<(String, Overwritten)>,
}

/// A volume or path that was overwritten or filled.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Overwritten {
    pub(super) volume: String,
    /// It was new or empty.
    pub(super) fresh: bool,
    /// The snapshot that it was filled from, of one that was new or empty.
    pub(super) from: Option<String>,
    /// The snapshot that has what was in it.
    pub(super) saved: Option<String>,
    /// What tells it from another one of its name.
    pub(super) created: String,
}

impl Overwritten {
    /// Where its content of before is: the end of a sentence.
    pub(super) fn whence(&self) -> String {
        if self.fresh {
            return String::new();
        }
        let saved = self.saved.as_ref().map(|id| format!("; what was in it is in snapshot {}", printable(id.as_bytes())));
        saved.unwrap_or_else(|| "; nothing of it was saved before".to_owned())
    }
}

impl Unfinished {
    /// The volumes and paths that are half restored, with their applications; also those that were made for this, and will be removed.
    pub(super) fn not_whole(&self) -> impl Iterator<Item = &(String, Overwritten)> {
        self.overwritten.iter().filter(|(application, _)| !self.not_started.contains_key(application))
    }

    /// Those of them that only another restore can put right.
    pub(super) fn half(&self) -> impl Iterator<Item = &(String, Overwritten)> {
        let is_made = |name: &str| self.made.iter().any(|(left, _)| left.kind == Kind::Volume && left.id == name);
        self.not_whole().filter(move |(_, one)| !(one.fresh && is_made(&one.volume)))
    }

    /// The applications of which a volume is half restored.
    pub(super) fn half_applications(&self) -> BTreeSet<String> {
        self.half().map(|(application, _)| application.clone()).collect()
    }

    /// Whether it says that entries were lost of something.
    pub(super) fn lost_something(&self) -> bool {
        !(self.lost.is_empty() && self.lost_layers.is_empty())
    }

    /// The volumes that this restore has overwritten and that are whole.
    pub(super) fn whole(&self) -> Vec<String> {
        let complete = self.overwritten.iter().filter(|(application, _)| self.not_started.contains_key(application));
        complete.map(|(_, one)| one.volume.clone()).filter(|volume| !self.is_short(volume)).collect()
    }

    /// Whether entries of a volume or path were lost.
    pub(super) fn is_short(&self, place: &str) -> bool {
        self.lost.iter().any(|(one, _)| one.volume == place)
    }

    /// The containers that stay stopped because of volumes that are half restored; `half` are those that any journal names.
    fn held_down(&self, half: &BTreeSet<String>) -> impl Iterator<Item = &Stopped> {
        let applications = self.half_applications();
        self.stopped.iter().filter(move |one| applications.contains(&one.application) || one.volumes.iter().any(|name| half.contains(name)))
    }

    /// All applications that are named.
    pub(super) fn applications(&self) -> BTreeSet<String> {
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
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    !bytes.split(|&byte| byte == b'\n').any(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok())
}

/// What a journal says; none if it is all on another Engine.
pub(super) fn unfinished(bytes: &[u8], engine: &str) -> Option<Unfinished> {
    // The last line of a writer that was killed may be cut off.
    let lines: Vec<Line> = bytes.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    if !lines.iter().any(|line| matches!(line, Line::Engine { id } if id == engine)) {
        return None;
    }
    let mut found = Unfinished::default();
    let mut done = BTreeSet::new();
    for line in lines {
        if let Line::Overwriting { volume, .. } | Line::Filling { volume, .. } = &line {
            found.touched.insert(volume.clone());
        }
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
            Line::Started { id } => found.stopped.retain(|one| one.id != id),
            Line::Aside { aside } => found.aside.push(aside),
            Line::Overwriting { application, volume, saved, created } => {
                found.overwritten.push((application, Overwritten { volume, fresh: false, from: None, saved, created }));
            }
            Line::Filling { application, volume, created, from } => {
                found.overwritten.push((application, Overwritten { volume, fresh: true, from, saved: None, created }));
            }
            Line::Refilled { application, volume } => found.overwritten.retain(|(of, one)| (of, &one.volume) != (&application, &volume)),
            Line::Restored { volume } => {
                found.overwritten.retain(|(_, one)| one.volume != volume);
                found.lost.retain(|(one, _)| one.volume != volume);
                found.made.retain(|(left, _)| (left.kind, &left.id) != (Kind::Volume, &volume));
            }
            Line::Accepted { container } => found.lost_layers.retain(|id| *id != container),
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
                let mine = |place: &str| found.overwritten.iter().any(|(of, one)| *of == application && one.volume == place);
                found.lost.retain(|(one, _)| !mine(&one.volume));
                found.not_started.remove(&application);
                done.remove(&application);
                found.undoing.insert(application);
            }
            Line::Complete { application, owed, lost } => {
                let is_short = |(of, one): &&(String, Overwritten)| *of == application && lost.places.contains(&one.volume);
                found.lost.extend(found.overwritten.iter().filter(is_short).map(|(_, one)| (one.clone(), lost.at)));
                found.lost_layers.extend(lost.layers);
                found.not_started.insert(application, owed);
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

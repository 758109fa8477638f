//! What a restore has made so far, on disk: a restore that died in the middle leaves volumes and containers that stand in the
//! way of the next one, and volumes that are half of one and half of another content.
//!
//! How that is put right is `clean`'s business.

mod clean;
mod dead;
mod identity;
mod lost;
mod read;
mod remove;
mod since;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::docker::create::json::text;
use crate::docker::wire::encode;
use crate::docker::{Engine, make};
use crate::jobs::error::JobError;
use crate::model::text::printable;
use crate::platform::files;
use crate::platform::journal_file::{self, LockedFile};
use crate::repository::contract::SnapshotId;
use crate::targets::plan::{PlannedStep, Step, is_in, is_path};
use crate::targets::steps::{Aside, Kind, Left, Stopped};

pub(super) use self::clean::{Cleaned, Half, clean};
pub(super) use self::dead::restored;
use self::identity::identity;
pub(super) use self::lost::{short, short_layers};
use self::read::living;
pub(super) use self::read::{StoppedBefore, half_restored, keeps_stopped, set_aside, stopped};
pub(super) use self::since::{Idle, at_since, idle};

const FOLDER: &str = "restores";
const SUFFIX: &str = ".jsonl";
/// How long another restore may take to begin: it only reads a few journals.
const GATE_LIMIT: Duration = Duration::from_secs(30);
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
    /// A container that was stopped was started again.
    Started { id: String },
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
    /// A volume that is new or empty, or a path at which nothing is, is about to be filled from a snapshot. `created` is as above.
    Filling {
        application: String,
        volume: String,
        created: String,
        #[serde(default)]
        from: Option<String>,
    },
    /// A volume has again what was in it before, or all of what it was to get.
    Refilled { application: String, volume: String },
    /// Another restore has given a volume a whole content, or it is gone, or somebody uses it as it is: that it was half of one, or had
    /// lost something, does not matter any more.
    Restored { volume: String },
    /// Everything of an application is in its place; from now on it may be used, and only starting it is left.
    Complete {
        application: String,
        #[serde(default)]
        owed: Vec<Owed>,
        #[serde(flatten)]
        lost: Lost,
    },
    /// Somebody has started a container of whose own layer entries were lost, or it is gone.
    Accepted { container: String },
    /// A step for an application has failed, also if it was complete before: what was done for it is being undone.
    Undoing { application: String },
    /// What was made for an application is removed, and what was renamed has its name; its volumes are still half restored.
    Undone { application: String },
    /// What had been there for an application is as it was before, though not everything that was made for it could be removed.
    Back { application: String },
    /// An application needs nothing more.
    Done { application: String },
}

/// What of an application is complete, but for entries that were lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lost {
    /// Volumes and paths.
    #[serde(default, rename = "lost", skip_serializing_if = "Vec::is_empty")]
    pub(super) places: Vec<String>,
    /// Containers, by id, of whose own layers.
    #[serde(default, rename = "lost_layers", skip_serializing_if = "Vec::is_empty")]
    pub(super) layers: Vec<String>,
    /// When that was, by the Engine's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<Timestamp>,
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
        since::forget_old(&folder);
        for (other, one) in living(&folder, engine.id())? {
            if let Some(shared) = one.plans.iter().find(|theirs| what.iter().any(|ours| is_in(theirs, ours) || is_in(ours, theirs))) {
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

    /// A container that is to be stopped, as it is now; none for other steps.
    pub(super) async fn as_it_is(&self, planned: &PlannedStep) -> Option<Stopped> {
        let Step::StopContainer { name, id, paused, volumes, restart } = &planned.step else { return None };
        let inspect = make::get(&self.engine, &format!("/containers/{}/json", encode(id))).await.ok();
        let started_at = inspect.and_then(|found| text(&found, "/State/StartedAt").map(str::to_owned)).unwrap_or_default();
        let (application, id, name) = (planned.application.clone(), id.clone(), name.clone());
        Some(Stopped { application, id, name, paused: *paused, volumes: volumes.clone(), restart: restart.clone(), started_at })
    }

    /// Records that a container that was there is about to be stopped.
    pub(super) fn stopping(&mut self, stopped: Stopped) -> Result<(), JobError> {
        self.write(&Line::Stopping { stopped })
    }

    /// Records what is about to be done to what was there before, and which container is about to be made. `saved` is the snapshot
    /// that has what was in a volume that is overwritten, `from` the one that it is filled from.
    pub(super) async fn before(&mut self, planned: &PlannedStep, saved: Option<&str>, from: Option<&SnapshotId>) -> Result<(), JobError> {
        let application = planned.application.clone();
        match &planned.step {
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
                        Line::Filling { application, volume, created, from: from.map(|id| id.0.clone()) }
                    })
                }
                None => Ok(()),
            },
        }
    }

    /// Records that containers were started again. A line that cannot be written costs the next start a look at containers that run.
    pub(super) fn started(&mut self, ids: Vec<String>) {
        for id in ids {
            drop(self.write(&Line::Started { id }));
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
    pub(super) async fn complete(&mut self, application: &str, owed: Vec<Owed>, mut lost: Lost) -> Result<(), JobError> {
        if lost != Lost::default() {
            // The next backup has to know.
            self.open = true;
            lost.at = lost::now(&self.engine).await;
        }
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
            since::end(self.file);
        }
    }

    fn write(&mut self, line: &Line) -> Result<(), JobError> {
        write(&mut self.file, line)
    }
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
        Step::CreateVolume { name, .. } | Step::UseVolume { name } | Step::FillPath { inside: Some((name, _)), .. } => {
            format!("volume {name}")
        }
        step => match step.fills()?.0 {
            path if is_path(path) => path.to_owned(),
            volume => format!("volume {volume}"),
        },
    })
}

/// Keeps restores apart while they look at each other's journals.
async fn gate(folder: &Path) -> Result<LockedFile, JobError> {
    let path = folder.join("gate");
    let gate = LockedFile::lock_within(&path, GATE_LIMIT).await.map_err(|source| failed(&path, source))?;
    let held = || format!("another restore has been beginning for more than {} seconds", GATE_LIMIT.as_secs());
    gate.ok_or_else(|| JobError::request("restore_runs", held(), "Try again."))
}

fn busy(run: &str, shared: &str) -> JobError {
    let message = format!("another restore ({run}) is at {} just now", printable(shared.as_bytes()));
    JobError::request("restore_runs", message, "Wait until it has ended.")
}

/// Whether a restore has left a journal, be it of one that lives. Where that cannot be seen there may be one: reading it says why.
pub(super) fn any(state: &Path) -> bool {
    !journal_file::list(&state.join(FOLDER), SUFFIX).is_ok_and(|paths| paths.is_empty())
}

#[cfg(test)]
mod tests;

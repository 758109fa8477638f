//! What is written down before a container is stopped or paused, so that whoever comes after a crash can bring it back.
//!
//! One file per run, one JSON object per line, locked while the run lives. Who stops and starts what is `quiesce`'s business;
//! nothing here talks to an Engine.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::application::Status;
use crate::model::hook::Hook;
use crate::platform::journal_file::{self, LockedFile};

#[cfg(test)]
mod tests;

/// Folder of the journals in the state folder.
const FOLDER: &str = "quiesce";
const SUFFIX: &str = ".journal";
/// Held by whoever changes what is held: reads other runs' journals and writes its own, or starts a container again.
const GATE: &str = "gate";
/// The line of whoever takes over the journal of a dead run.
const RECOVERING: &[u8] = b"{\"event\":\"recovering\"}\n";
/// Longest journal that is read. A line has some 300 bytes.
const LIMIT: u64 = 64 << 20;

/// What was done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stopped; to be started.
    Stop,
    /// Frozen; to be unfrozen.
    Pause,
    /// Not a container, but a service of a swarm: scaled to 0; to be scaled back.
    Scale,
}

/// What has to be known of a service that is scaled to 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaledService {
    /// How many tasks it was to have.
    pub replicas: u64,
    /// How many of them ran.
    pub running: u64,
    /// Which version of the service that was: as long as it is the same, nothing was done to it.
    pub version: u64,
    /// The volumes and paths that its tasks mount: they are not seen while there are none.
    pub mounts: Vec<String>,
}

/// One container that is to come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Id of the Engine.
    pub engine: String,
    /// The run.
    pub run: String,
    /// Id of the container, or of the service.
    pub container: String,
    /// Its name.
    pub name: String,
    /// What it did before.
    pub before: Status,
    /// What is about to be done to it.
    pub action: Action,
    /// Only of a service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<ScaledService>,
    /// Counts the entries of a run from zero. They are undone from the highest to the lowest.
    pub order: u64,
    /// When the container was started last, in the Engine's words: if that changes, somebody has started it since.
    pub started_at: String,
    /// From when on the action is done or will never be. Until then a container that still runs may be about to end,
    /// also if the run that asked for it is dead.
    pub settled: Timestamp,
}

/// A command that is still to run in a container, once that runs again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedHook {
    /// Id of the Engine.
    pub engine: String,
    /// The run.
    pub run: String,
    /// Id of the container.
    pub container: String,
    /// Its name.
    pub name: String,
    /// Counts together with the entries of the run.
    pub order: u64,
    /// The command. It may hold a password: the journal is readable for its owner only.
    pub hook: Hook,
}

/// What is to be written down of a command that is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owing {
    /// Id of the container.
    pub container: String,
    /// Its name.
    pub name: String,
    /// The command.
    pub hook: Hook,
}

/// What is to be written down of a container before something is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its id.
    pub container: String,
    /// Its name.
    pub name: String,
    /// What it does now, or did before another run stopped it.
    pub before: Status,
    /// What is about to be done.
    pub action: Action,
    /// Only of a service.
    pub service: Option<ScaledService>,
    /// When it was started last, in the Engine's words.
    pub started_at: String,
    /// From when on the action is done or will never be.
    pub settled: Timestamp,
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    /// About to be stopped or paused, or already so by another run.
    Held(Entry),
    /// To be run in a container that runs again.
    Owed(OwedHook),
    /// Started again; whether it stays is still to be seen.
    Started {
        /// The `order` of the entry.
        order: u64,
    },
    /// Back again, or somebody else's to bring back; run.
    Released {
        /// The `order` of the entry or the command.
        order: u64,
    },
    /// The run is dead: whoever holds the file from here on brings back what it has left.
    Recovering,
}

/// What a journal says is still to be undone and to be run, in the order in which it was written.
#[derive(Debug, Default)]
struct Open {
    entries: Vec<Entry>,
    /// The `order` of those that were started again: they are looked at once more, and nobody keeps them still.
    started: Vec<u64>,
    hooks: Vec<OwedHook>,
    /// Whether the run is known to be dead.
    recovering: bool,
}

/// What can go wrong with journals.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A journal can be neither read nor written. Nothing is stopped without one.
    #[error("cannot use the journal of stopped containers at {}", .path.display())]
    Storage {
        /// Which file or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Another run holds the gate for too long.
    #[error("another run of bbackup has been starting or stopping containers for more than {seconds} seconds ({})", .path.display())]
    GateHeld {
        /// The gate.
        path: PathBuf,
        /// Limit.
        seconds: u64,
    },
}

impl JournalError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::GateHeld { .. })
    }
}

/// The journals of all runs.
#[derive(Debug, Clone)]
pub struct Journals {
    folder: PathBuf,
}

impl Journals {
    /// The journals in a state folder, which is made when the first one is written.
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join(FOLDER) }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes the gate: as long as it is held, nobody else begins or ends to hold a container.
    ///
    /// # Errors
    /// It cannot be opened, or somebody held it for all of `limit`.
    pub async fn gate(&self, limit: Duration) -> Result<Gate, JournalError> {
        crate::platform::files::create_directories(&self.folder, 0o700).map_err(|source| self.failed(&self.folder, source))?;
        let path = self.folder.join(GATE);
        let lock = LockedFile::lock_within(&path, limit).await.map_err(|source| self.failed(&path, source))?;
        lock.map(|lock| Gate { _lock: lock }).ok_or(JournalError::GateHeld { path, seconds: limit.as_secs() })
    }

    /// Starts the journal of a run. The gate shows that nobody is just looking for journals of dead runs.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn start(&self, _gate: &Gate, engine: &str, run: &str) -> Result<Journal, JournalError> {
        // A run may have several journals, one for each guard that it holds at a time.
        let mut number = 0_u32;
        loop {
            let path = self.folder.join(format!("{}-{number}{SUFFIX}", file_name(run)));
            match LockedFile::create(&path) {
                Ok(file) => {
                    return Ok(Journal {
                        file: Some(file),
                        engine: engine.to_owned(),
                        run: run.to_owned(),
                        next: 0,
                        open: Open::default(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => return Err(JournalError::Storage { path, source }),
            }
        }
    }

    /// Every container that another run holds, living or dead, on this Engine. What a living one has started again it does not hold any more.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub fn held_by_others<'a>(
        &self,
        _gate: &Gate,
        own: impl IntoIterator<Item = &'a Journal>,
        engine: &str,
    ) -> Result<Vec<Holding>, JournalError> {
        let own: Vec<&Path> = own.into_iter().filter_map(Journal::path).collect();
        let mut holdings = Vec::new();
        for path in self.paths()? {
            if own.contains(&path.as_path()) {
                continue;
            }
            let unheld = LockedFile::open_unheld(&path).map_err(|source| self.failed(&path, source))?;
            let Some(bytes) = journal_file::read_unlocked(&path, LIMIT).map_err(|source| self.failed(&path, source))? else { continue };
            let living = unheld.is_none();
            let Open { entries, started, recovering, .. } = Open::read(&bytes);
            let is_held = |entry: &Entry| entry.engine == engine && !(living && started.contains(&entry.order));
            let held = entries.into_iter().filter(is_held);
            holdings.extend(held.map(|entry| Holding { entry, living, recovering: living && recovering }));
        }
        Ok(holdings)
    }

    /// The journals of runs that have died, locked for us. Those of other Engines are left alone.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub fn dead(&self, _gate: &Gate, engine: &str) -> Result<Vec<Journal>, JournalError> {
        let mut journals = Vec::new();
        for path in self.paths()? {
            let failed = |source| self.failed(&path, source);
            let Some(mut file) = LockedFile::open_unheld(&path).map_err(failed)? else { continue };
            let bytes = file.read(LIMIT).map_err(failed)?;
            let open = Open::read(&bytes);
            if open.engines().any(|other| other != engine) {
                continue;
            }
            // A line that was cut off by the crash must not swallow the next one.
            if bytes.last().is_some_and(|last| *last != b'\n') {
                file.append(b"\n").map_err(failed)?;
            }
            if !open.recovering {
                // Without it others take us for the run.
                let _ = file.append(RECOVERING);
            }
            let run = open.run().to_owned();
            let next = open.next();
            journals.push(Journal { file: Some(file), engine: engine.to_owned(), run, next, open });
        }
        Ok(journals)
    }

    /// Whether there is any journal at all, so that a start without one costs nothing.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn any(&self) -> Result<bool, JournalError> {
        Ok(!self.paths()?.is_empty())
    }

    /// Whether a run that has died left a container as it should not be, on whatever Engine.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub fn any_dead(&self, _gate: &Gate) -> Result<bool, JournalError> {
        for path in self.paths()? {
            let failed = |source| self.failed(&path, source);
            let Some(mut file) = LockedFile::open_unheld(&path).map_err(failed)? else { continue };
            if !Open::read(&file.read(LIMIT).map_err(failed)?).is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Names of the containers that dead runs have left on other Engines than these, sorted.
    ///
    /// # Errors
    /// A journal cannot be read.
    pub fn dead_elsewhere(&self, _gate: &Gate, engines: &[String]) -> Result<Vec<String>, JournalError> {
        let mut names = Vec::new();
        for path in self.paths()? {
            let failed = |source| self.failed(&path, source);
            let Some(mut file) = LockedFile::open_unheld(&path).map_err(failed)? else { continue };
            let open = Open::read(&file.read(LIMIT).map_err(failed)?);
            names.extend(open.entries.into_iter().filter(|entry| !engines.contains(&entry.engine)).map(|entry| entry.name));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn paths(&self) -> Result<Vec<PathBuf>, JournalError> {
        journal_file::list(&self.folder, SUFFIX).map_err(|source| self.failed(&self.folder, source))
    }

    #[expect(clippy::unused_self, reason = "reads as what fails")]
    fn failed(&self, path: &Path, source: io::Error) -> JournalError {
        JournalError::Storage { path: path.to_owned(), source }
    }
}

/// Shows that nobody else begins or ends to hold a container just now.
#[derive(Debug)]
pub struct Gate {
    _lock: LockedFile,
}

/// A container that another run holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// What its journal says.
    pub entry: Entry,
    /// Whether that run lives, or somebody who brings back what it has left.
    pub living: bool,
    /// Whether it is the latter.
    pub recovering: bool,
}

/// The journal of one guard, or of a run that has died. Dropped with entries that are still open, its file stays for
/// whoever comes next; without any, it goes.
#[derive(Debug)]
pub struct Journal {
    /// None only once the file was removed.
    file: Option<LockedFile>,
    engine: String,
    run: String,
    next: u64,
    open: Open,
}

impl Journal {
    /// Writes down what is about to be done to a container, and returns once that would survive a loss of power.
    ///
    /// # Errors
    /// It is not written down, so it must not be done.
    pub fn hold(&mut self, intent: Intent) -> Result<Entry, JournalError> {
        let Intent { container, name, before, action, service, started_at, settled } = intent;
        let entry = Entry {
            engine: self.engine.clone(),
            run: self.run.clone(),
            container,
            name,
            before,
            action,
            service,
            order: self.next,
            started_at,
            settled,
        };
        self.append(&Line::Held(entry.clone()))?;
        self.next += 1;
        self.open.entries.push(entry.clone());
        Ok(entry)
    }

    /// Writes down a command that has to run later, and returns once that would survive a loss of power.
    ///
    /// # Errors
    /// It is not written down, so what it is to undo must not be done.
    pub fn owe(&mut self, owing: Owing) -> Result<OwedHook, JournalError> {
        let Owing { container, name, hook } = owing;
        let owed = OwedHook { engine: self.engine.clone(), run: self.run.clone(), container, name, order: self.next, hook };
        self.append(&Line::Owed(owed.clone()))?;
        self.next += 1;
        self.open.hooks.push(owed.clone());
        Ok(owed)
    }

    /// Writes down that a container was started again, so that nobody takes it for kept still. It stays open until it is released.
    ///
    /// # Errors
    /// It is not written down: others take it for kept still until it is released.
    pub fn started(&mut self, order: u64) -> Result<(), JournalError> {
        self.append(&Line::Started { order })?;
        self.open.started.push(order);
        Ok(())
    }

    /// Writes down that a container is back, or that another run brings it back, or that a command was run.
    ///
    /// # Errors
    /// It is not written down: the next start looks at the container again and finds it running.
    pub fn released(&mut self, order: u64) -> Result<(), JournalError> {
        self.append(&Line::Released { order })?;
        self.open.release(order);
        Ok(())
    }

    /// What is still to be undone, the last first.
    pub fn open_entries(&self) -> impl Iterator<Item = &Entry> {
        self.open.entries.iter().rev()
    }

    /// The commands that are still to run, the last first.
    pub fn open_hooks(&self) -> impl Iterator<Item = &OwedHook> {
        self.open.hooks.iter().rev()
    }

    /// The run.
    pub fn run(&self) -> &str {
        &self.run
    }

    fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(LockedFile::path)
    }

    fn append(&mut self, line: &Line) -> Result<(), JournalError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let path = file.path().to_owned();
        let bytes = serde_json::to_vec(line).map_err(io::Error::from);
        let written = bytes.and_then(|mut bytes| {
            bytes.push(b'\n');
            file.append(&bytes)
        });
        written.map_err(|source| JournalError::Storage { path, source })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.open.is_empty()
            && let Some(file) = self.file.take()
        {
            // One that stays says that nothing is to be done, which is true.
            let _ = file.remove();
        }
    }
}

impl Open {
    /// A line that was cut off belongs to an action that was never begun; a line that cannot be read is passed over, since
    /// what stands around it still counts.
    fn read(bytes: &[u8]) -> Self {
        let mut open = Self::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Line::Held(entry)) => open.entries.push(entry),
                Ok(Line::Owed(hook)) => open.hooks.push(hook),
                Ok(Line::Started { order }) => open.started.push(order),
                Ok(Line::Released { order }) => open.release(order),
                Ok(Line::Recovering) => open.recovering = true,
                Err(_) => {}
            }
        }
        open
    }

    fn release(&mut self, order: u64) {
        self.entries.retain(|entry| entry.order != order);
        self.hooks.retain(|hook| hook.order != order);
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.hooks.is_empty()
    }

    fn engines(&self) -> impl Iterator<Item = &str> {
        let hooks = self.hooks.iter().map(|hook| hook.engine.as_str());
        self.entries.iter().map(|entry| entry.engine.as_str()).chain(hooks)
    }

    fn run(&self) -> &str {
        let hook = self.hooks.first().map(|hook| hook.run.as_str());
        self.entries.first().map(|entry| entry.run.as_str()).or(hook).unwrap_or_default()
    }

    fn next(&self) -> u64 {
        let hooks = self.hooks.iter().map(|hook| hook.order);
        self.entries.iter().map(|entry| entry.order).chain(hooks).max().map_or(0, |last| last + 1)
    }
}

/// A run's name as part of a file name.
fn file_name(run: &str) -> String {
    run.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect()
}

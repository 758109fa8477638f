//! Takes the steps of a plan one by one, and remembers what was made for whom.
//!
//! In which order, and what happens when one fails, is decided in `jobs`; writing a volume's files is `volume`'s business.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::{PlannedStep, Step, is_path};
use super::{TargetError, container, image, network, volume};
use crate::docker::create::json::text;
use crate::docker::wire::encode;
use crate::docker::{DockerError, Engine, make};
use crate::model::application::RestartPolicy;
use crate::model::text::printable;

/// What kind of thing was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A container.
    Container,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl Kind {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

/// Something that this restore made and that is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The application that it was made for.
    pub application: String,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its id; a volume's name.
    pub id: String,
}

/// A container that was there and that this restore has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The application that it was stopped for.
    pub application: String,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it was frozen.
    pub paused: bool,
    /// The volumes and paths that are overwritten and that it uses, for whatever application.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// The policy that it gets back when it is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartPolicy>,
    /// When it was started last, in the Engine's words; empty where that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub started_at: String,
}

/// A container that was there and that this restore has given another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// The application in whose place it stood.
    pub application: String,
    /// Its id.
    pub id: String,
    /// The name that is its own.
    pub name: String,
    /// The name that it has meanwhile.
    pub aside: String,
}

/// How patiently.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For each wait for health.
    pub health: Duration,
    /// How long a container may take to stop; none for its own setting.
    pub stop: Option<Duration>,
}

/// Takes steps on one Engine.
#[derive(Debug)]
pub struct Steps {
    engine: Engine,
    limits: Limits,
    left: Vec<Left>,
    /// Application and name of each container of which nobody knows whether it was made: the Engine was gone before it answered.
    unsure: Vec<(String, String)>,
    stopped: Vec<Stopped>,
    aside: Vec<Aside>,
    /// Containers that are to be started again once nobody writes to their volumes any more.
    waiting: Vec<Stopped>,
    /// Containers (id, name) that the Engine would start by itself when it restarts, and by which policy.
    to_hold_down: Vec<(String, String, RestartPolicy)>,
    /// Ids of those that were started again.
    started: Vec<String>,
}

impl Steps {
    /// Nothing was made yet.
    pub fn new(engine: &Engine, limits: Limits) -> Self {
        Self {
            engine: engine.clone(),
            limits,
            left: Vec::new(),
            unsure: Vec::new(),
            stopped: Vec::new(),
            aside: Vec::new(),
            waiting: Vec::new(),
            to_hold_down: Vec::new(),
            started: Vec::new(),
        }
    }

    /// Takes one step, and gives what somebody should know. [`Step::FillVolume`] and its like and
    /// [`Step::SaveFirst`] are the caller's: nothing is done for them.
    ///
    /// # Errors
    /// The Engine refuses. What was made before is [left](Self::left).
    pub async fn take(&mut self, planned: &PlannedStep) -> Result<Vec<String>, TargetError> {
        let done = self.carry_out(planned).await;
        if let (Step::CreateContainer { container }, Err(error)) = (&planned.step, &done)
            && matches!(error, DockerError::Lost { .. } | DockerError::Timeout { .. })
        {
            self.unsure.push((planned.application.clone(), container.name.clone()));
        }
        done.map_err(|source| TargetError::Step { step: planned.step.to_string(), source })
    }

    async fn carry_out(&mut self, planned: &PlannedStep) -> Result<Vec<String>, DockerError> {
        let engine = &self.engine;
        let (kind, name, made) = match &planned.step {
            Step::CreateNetwork { network } => (Kind::Network, &network.name, network::create(engine, network).await?),
            Step::CreateVolume { name, body } => (Kind::Volume, name, volume::create(engine, body).await?),
            Step::CreateContainer { container } => (Kind::Container, &container.name, container::create(engine, container).await?),
            Step::PullImage { reference, tag, others } => {
                return Ok(image::pull(engine, reference, others, tag.as_deref()).await?.into_iter().collect());
            }
            Step::StartContainer { name } => {
                container::start(engine, name).await?;
                return Ok(Vec::new());
            }
            Step::WaitHealthy { name } => {
                return Ok(container::wait_healthy(engine, name, self.limits.health).await?.into_iter().collect());
            }
            Step::PauseContainer { name } => {
                container::pause(engine, name).await?;
                return Ok(Vec::new());
            }
            Step::StopContainer { .. } | Step::SetAside { .. } | Step::RemoveAside { .. } | Step::StartAgain { .. } => {
                return self.move_away(planned).await;
            }
            Step::SaveFirst { .. }
            | Step::UseNetwork { .. }
            | Step::UseVolume { .. }
            | Step::FillVolume { .. }
            | Step::FillPath { .. }
            | Step::LoadImage { .. }
            | Step::FillLayer { .. } => return Ok(Vec::new()),
        };
        self.left.push(Left { application: planned.application.clone(), kind, name: name.clone(), id: made.id });
        Ok(made.warnings)
    }

    /// What is done to containers that are there.
    async fn move_away(&mut self, PlannedStep { application, step }: &PlannedStep) -> Result<Vec<String>, DockerError> {
        let engine = &self.engine;
        match step {
            Step::StopContainer { name, id, paused, volumes, restart } => {
                // Also one whose stop failed is started again: it may yet end.
                let held_down = restart.clone().map(|policy| (id.clone(), printable(name.as_bytes()), policy));
                self.stopped.push(Stopped {
                    application: application.clone(),
                    id: id.clone(),
                    name: name.clone(),
                    paused: *paused,
                    volumes: volumes.clone(),
                    restart: restart.clone(),
                    started_at: String::new(),
                });
                self.to_hold_down.extend(held_down);
                container::stop(engine, id, self.limits.stop).await?;
            }
            Step::SetAside { name, id, aside } => {
                container::rename(engine, id, aside).await?;
                let (application, id) = (application.clone(), id.clone());
                self.aside.push(Aside { application, id, name: name.clone(), aside: aside.clone() });
            }
            Step::RemoveAside { id, .. } => {
                // It is replaced: whatever comes now, it is not put back.
                self.aside.retain(|aside| aside.id != *id);
                self.stopped.retain(|stopped| stopped.id != *id);
                container::remove(engine, id).await?;
            }
            Step::StartAgain { id, paused, name } => {
                let restart = self.stopped.iter().find(|stopped| stopped.id == *id).and_then(|stopped| stopped.restart.clone());
                match start_again(engine, id, *paused, restart.as_ref()).await {
                    Err(error @ NotAsBefore::Policy(_)) if !error.is_not_found() => {
                        self.started.push(id.clone());
                        return Ok(vec![format!("container {} {error}: {}", printable(name.as_bytes()), error.cause())]);
                    }
                    Err(error) => return Err(error.into_cause()),
                    Ok(()) => {}
                }
                self.started.push(id.clone());
                self.stopped.retain(|stopped| stopped.id != *id);
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    /// Makes sure that an Engine that restarts meanwhile does not start on half of its data what was stopped. Gives what could not be done.
    pub async fn hold_down(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for (id, name, policy) in std::mem::take(&mut self.to_hold_down) {
            match container::set_restart(&self.engine, &id, &RestartPolicy::never()).await {
                Err(error) if !error.is_not_found() => told.push(format!(
                    "container {name} keeps its restart policy ({}) while it has to stay stopped: do not restart the Engine until this has ended ({error})",
                    policy.name
                )),
                _ => {}
            }
        }
        told
    }

    /// Ids of the containers that were started again since this was last asked.
    pub fn take_started(&mut self) -> Vec<String> {
        std::mem::take(&mut self.started)
    }

    /// Whether containers that were there are stopped or have another name because of an application.
    pub fn has_moved(&self, application: &str) -> bool {
        self.stopped.iter().any(|one| one.application == application) || self.aside.iter().any(|one| one.application == application)
    }

    /// Gives the containers that were there their names again, and starts them if `start` says so; those that use a volume that somebody
    /// may still be writing to wait for [`start_waiting`](Self::start_waiting). Gives what could not be done, one sentence each.
    pub async fn put_back(&mut self, application: &str, start: bool, busy: &BTreeSet<String>) -> Vec<String> {
        let aside: Vec<Aside> = self.aside.extract_if(.., |one| one.application == application).collect();
        let stopped: Vec<Stopped> = self.stopped.extract_if(.., |one| one.application == application).collect();
        let mut failures: Vec<String> = name_again(&self.engine, &aside).await.into_iter().map(|(_, failure)| failure).collect();
        if !start {
            return failures;
        }
        let (waiting, stopped): (Vec<_>, Vec<_>) = stopped.into_iter().partition(|one| one.volumes.iter().any(|name| busy.contains(name)));
        self.waiting.extend(waiting);
        for one in stopped.iter().rev() {
            let started = self.start_one(one).await;
            self.started.extend(started.is_ok().then(|| one.id.clone()));
            failures.extend(started.err());
        }
        failures
    }

    async fn start_one(&self, one: &Stopped) -> Result<(), String> {
        match start_again(&self.engine, &one.id, one.paused, one.restart.as_ref()).await {
            Err(error) if !error.is_not_found() => Err(format!("container {} {error}: {}", printable(one.name.as_bytes()), error.cause())),
            _ => Ok(()),
        }
    }

    /// Whether containers of an application wait for others to come to their end.
    pub fn is_waiting(&self, application: &str) -> bool {
        self.waiting.iter().any(|one| one.application == application)
    }

    /// Starts what waited, the last that was stopped first, except for what uses one of the volumes that are `half` restored. Gives what
    /// stays down, with its application, and why.
    pub async fn start_waiting(&mut self, half: &BTreeSet<String>) -> Vec<(String, String)> {
        let mut failures = Vec::new();
        for one in std::mem::take(&mut self.waiting).into_iter().rev() {
            let started = match half_restored(&one.name, &one.volumes, half) {
                Some(reason) => Err(reason),
                None => self.start_one(&one).await,
            };
            self.started.extend(started.is_ok().then(|| one.id.clone()));
            failures.extend(started.err().map(|failure| (one.application.clone(), failure)));
        }
        failures
    }

    /// Why a container that was stopped must not be started again; none if it may be.
    pub fn why_not_again(&self, id: &str, half: &BTreeSet<String>) -> Option<String> {
        let one = self.stopped.iter().find(|one| one.id == id)?;
        half_restored(&one.name, &one.volumes, half)
    }

    /// Gives what was made for one application to another one, which has use for it.
    pub fn hand_over(&mut self, volume: &str, from: &str, to: &str) -> Option<Left> {
        let is_it = |left: &&mut Left| left.application == from && left.kind == Kind::Volume && left.name == volume;
        let left = self.left.iter_mut().find(is_it)?;
        to.clone_into(&mut left.application);
        Some(left.clone())
    }

    /// What was made for an application, in the order in which it was made.
    pub fn left(&self, application: &str) -> Vec<&Left> {
        self.left.iter().filter(|left| left.application == application).collect()
    }

    /// Removes a container that was asked for, if the Engine has made it. Its name was free, or was freed, when it was asked for.
    async fn remove_unsure(&self, name: &str) -> Result<(), DockerError> {
        let found = match make::get(&self.engine, &format!("/containers/{}/json", encode(name))).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        match never_started(&found, name).filter(|id| !self.aside.iter().any(|aside| aside.id == *id)) {
            Some(id) => container::remove(&self.engine, id).await,
            None => Ok(()),
        }
    }

    /// Names of containers of an application that were asked for, and that the Engine may or may not have made.
    pub fn unsure(&self, application: &str) -> impl Iterator<Item = &str> {
        self.unsure.iter().filter(move |(of, _)| of == application).map(|(_, name)| name.as_str())
    }

    /// Removes what was made for an application, the last first, with the files that were written into it. Gives what could
    /// not be removed and why; only what this restore made is touched.
    pub async fn roll_back(&mut self, application: &str) -> Vec<(Left, DockerError)> {
        let mut stays = Vec::new();
        let (mine, others): (Vec<Left>, Vec<Left>) =
            std::mem::take(&mut self.left).into_iter().partition(|left| left.application == application);
        self.left = others;
        // The last that was asked for, if the Engine has made it after all.
        for (application, name) in self.unsure.extract_if(.., |(of, _)| of == application).collect::<Vec<_>>() {
            match self.remove_unsure(&name).await {
                Ok(()) => {}
                Err(_) => self.unsure.push((application, name)),
            }
        }
        for left in mine.into_iter().rev() {
            let removed = match left.kind {
                Kind::Container => container::remove(&self.engine, &left.id).await,
                Kind::Network => network::remove(&self.engine, &left.id).await,
                Kind::Volume => volume::remove(&self.engine, &left.id).await,
            };
            if let Err(error) = removed {
                self.left.push(left.clone());
                stays.push((left, error));
            }
        }
        stays
    }
}

/// The id of a container of that name that was never started: so it is one that was just made.
pub fn never_started<'a>(inspect: &'a Value, name: &str) -> Option<&'a str> {
    let is_it = text(inspect, "/State/Status") == Some("created") && text(inspect, "/Name") == Some(&format!("/{name}"));
    text(inspect, "/Id").filter(|_| is_it)
}

fn half_restored(container: &str, volumes: &[String], half: &BTreeSet<String>) -> Option<String> {
    let volume = volumes.iter().find(|name| half.contains(*name))?;
    let (container, shown) = (printable(container.as_bytes()), printable(volume.as_bytes()));
    let what = if is_path(volume) { shown } else { format!("its volume {shown}") };
    Some(format!("container {container} stays stopped, as {what} is half restored"))
}

/// Gives containers their names again. Gives what could not be done, with its application, one sentence each.
pub async fn name_again(engine: &Engine, aside: &[Aside]) -> Vec<(String, String)> {
    let mut failures = Vec::new();
    for one in aside.iter().rev() {
        match container::rename(engine, &one.id, &one.name).await {
            Err(error) if !error.is_not_found() && !has_name(engine, one).await => {
                let failure = format!("container {} is still called {}: {error}", printable(one.name.as_bytes()), one.aside);
                failures.push((one.application.clone(), failure));
            }
            _ => {}
        }
    }
    failures
}

/// Whether a container has its own name already: then an Engine refuses to give it that.
async fn has_name(engine: &Engine, one: &Aside) -> bool {
    let seen = make::get(engine, &format!("/containers/{}/json", encode(&one.id))).await;
    seen.is_ok_and(|seen| text(&seen, "/Name") == Some(&format!("/{}", one.name)))
}

/// Why a container that was stopped is not as it was.
#[derive(Debug, thiserror::Error)]
pub enum NotAsBefore {
    /// It does not run.
    #[error("is down")]
    Down(#[source] DockerError),
    /// It runs, and has not the policy by which the Engine starts it again by itself.
    #[error("runs, but the Engine will not start it again by itself as before")]
    Policy(#[source] DockerError),
}

impl NotAsBefore {
    /// Whether there is no such container.
    pub fn is_not_found(&self) -> bool {
        self.cause().is_not_found()
    }

    fn into_cause(self) -> DockerError {
        match self {
            Self::Down(cause) | Self::Policy(cause) => cause,
        }
    }

    fn cause(&self) -> &DockerError {
        match self {
            Self::Down(cause) | Self::Policy(cause) => cause,
        }
    }
}

/// Starts a container that does not run, and freezes it if it was frozen; gives it back the policy by which the Engine starts it.
///
/// # Errors
/// The Engine refuses, or there is no such container. One that only its policy is refused to runs.
pub async fn start_again(engine: &Engine, container: &str, paused: bool, restart: Option<&RestartPolicy>) -> Result<(), NotAsBefore> {
    let path = format!("/containers/{}/json", encode(container));
    let seen = make::get(engine, &path).await.map_err(NotAsBefore::Down)?;
    let is_other = |policy: &&RestartPolicy| text(&seen, "/HostConfig/RestartPolicy/Name") != Some(&policy.name);
    let given = match restart.filter(is_other) {
        Some(policy) => container::set_restart(engine, container, policy).await,
        None => Ok(()),
    };
    resume(engine, container, paused, &seen).await.map_err(NotAsBefore::Down)?;
    given.map_err(NotAsBefore::Policy)
}

async fn resume(engine: &Engine, container: &str, paused: bool, seen: &Value) -> Result<(), DockerError> {
    match text(seen, "/State/Status") {
        // An Engine refuses to start one that is frozen.
        Some("paused") => return Ok(()),
        Some("running" | "restarting") => {}
        _ => container::start(engine, container).await?,
    }
    if paused { container::pause(engine, container).await } else { Ok(()) }
}

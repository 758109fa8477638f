//! Takes the steps of a plan one by one, and remembers what was made for whom.
//!
//! In which order, and what happens when one fails, is decided in `jobs`; writing a volume's files is `volume`'s business.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::{PlannedStep, Step};
use super::{TargetError, container, network, volume};
use crate::docker::{DockerError, Engine, make};

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

/// Takes steps on one Engine.
#[derive(Debug)]
pub struct Steps {
    engine: Engine,
    health_limit: Duration,
    left: Vec<Left>,
}

impl Steps {
    /// Nothing was made yet. `health_limit` is for each wait.
    pub fn new(engine: &Engine, health_limit: Duration) -> Self {
        Self { engine: engine.clone(), health_limit, left: Vec::new() }
    }

    /// Takes one step, and gives what somebody should know. [`Step::FillVolume`] is the caller's: nothing is done for it.
    ///
    /// # Errors
    /// The Engine refuses. What was made before is [left](Self::left).
    pub async fn take(&mut self, planned: &PlannedStep) -> Result<Vec<String>, TargetError> {
        let failed = |source| TargetError::Step { step: planned.step.to_string(), source };
        self.carry_out(planned).await.map_err(failed)
    }

    async fn carry_out(&mut self, planned: &PlannedStep) -> Result<Vec<String>, DockerError> {
        let engine = &self.engine;
        let (kind, name, made) = match &planned.step {
            Step::CreateNetwork { network } => (Kind::Network, &network.name, network::create(engine, network).await?),
            Step::CreateVolume { name, body } => (Kind::Volume, name, volume::create(engine, body).await?),
            Step::CreateContainer { container } => (Kind::Container, &container.name, container::create(engine, container).await?),
            Step::PullImage { reference, tag } => {
                make::pull(engine, reference).await?;
                if let Some(tag) = tag {
                    make::tag(engine, reference, tag).await?;
                }
                return Ok(Vec::new());
            }
            Step::StartContainer { name } => {
                container::start(engine, name).await?;
                return Ok(Vec::new());
            }
            Step::WaitHealthy { name } => return Ok(container::wait_healthy(engine, name, self.health_limit).await?.into_iter().collect()),
            Step::PauseContainer { name } => {
                container::pause(engine, name).await?;
                return Ok(Vec::new());
            }
            Step::UseNetwork { .. } | Step::UseVolume { .. } | Step::FillVolume { .. } => return Ok(Vec::new()),
        };
        self.left.push(Left { application: planned.application.clone(), kind, name: name.clone(), id: made.id });
        Ok(made.warnings)
    }

    /// What was made for an application, in the order in which it was made.
    pub fn left(&self, application: &str) -> Vec<&Left> {
        self.left.iter().filter(|left| left.application == application).collect()
    }

    /// Removes what was made for an application, the last first, with the files that were written into it. Gives what could
    /// not be removed and why; only what this restore made is touched.
    pub async fn roll_back(&mut self, application: &str) -> Vec<(Left, DockerError)> {
        let mut stays = Vec::new();
        let (mine, others): (Vec<Left>, Vec<Left>) =
            std::mem::take(&mut self.left).into_iter().partition(|left| left.application == application);
        self.left = others;
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

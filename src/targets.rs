//! Where restored data goes: the mirror of `sources`.
//!
//! What is restored is chosen above; where it comes from is the repository's business.

mod acl;
pub mod compressed;
pub mod container;
pub mod image;
pub mod network;
pub mod plan;
pub mod preflight;
pub mod steps;
pub mod tar;
pub mod volume;

use crate::docker::{DockerError, Engine};

use self::plan::{PlanError, RestoreOptions, RestorePlan, StoredApplication};
use self::preflight::Host;

/// What can go wrong where restored things go.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The restore cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What is there cannot be looked at.
    #[error("cannot see what is on the Docker Engine")]
    Look(#[source] DockerError),
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// The step, as it reads in the plan.
        step: String,
        /// Cause.
        #[source]
        source: DockerError,
    },
    /// A volume cannot be written.
    #[error("cannot open volume {volume} for writing")]
    Volume {
        /// Its name.
        volume: String,
        /// Cause.
        #[source]
        source: DockerError,
    },
}

impl TargetError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Plan(error) => error.is_transient(),
            Self::Look(source) | Self::Step { source, .. } | Self::Volume { source, .. } => source.is_transient(),
        }
    }
}

/// The container that runs and reaches what is about to be overwritten: it was started since the plan was made.
///
/// # Errors
/// The Engine cannot be looked at.
pub async fn started_since(engine: &Engine, plan: &RestorePlan, place: &str) -> Result<Option<String>, TargetError> {
    let Some(target) = plan.targets.iter().find(|target| target.overwrites(place)) else { return Ok(None) };
    let host = Host::running(engine).await.map_err(TargetError::Look)?;
    Ok(target.reached(&host).map(str::to_owned))
}

/// Looks at the Engine and plans the restore of some applications. Writes nothing.
///
/// # Errors
/// The Engine cannot be looked at, or what was asked for makes no sense. What stands in the way is in the plan.
pub async fn prepare(engine: &Engine, applications: &[StoredApplication], options: &RestoreOptions) -> Result<RestorePlan, TargetError> {
    let host = Host::look(engine, &plan::wanted(applications, options)).await.map_err(TargetError::Look)?;
    Ok(plan::plan(applications, options, &host)?)
}

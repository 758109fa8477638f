//! What containers do when no run of bbackup keeps them still: that is what a snapshot says of them, as a restore goes by it.
//!
//! What is there is found out by `discover`; who keeps what still is in the journals.

use std::collections::BTreeMap;
use std::path::Path;

use super::GATE_LIMIT;
use crate::docker::connect::Engine;
use crate::docker::discover::{Discovery, discover};
use crate::docker::error::DockerError;
use crate::docker::journal::{Action, Gate, Holding, JournalError, Journals};
use crate::model::application::{Application, Container, RestartPolicy, Status};

/// What is on an Engine, and what its containers do when nobody keeps them still.
#[derive(Debug)]
pub struct Undisturbed {
    /// Of what living runs keep still it says what it did before, and will do again once they are done.
    pub discovery: Discovery,
    /// What dead runs have left down: it is as discovered, as nobody is about to bring it back.
    pub left_down: LeftDown,
    /// Why nobody can tell what other runs keep still.
    pub unknown: Option<JournalError>,
}

/// What containers did before runs that are dead have stopped or paused them, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftDown(BTreeMap<String, Status>, BTreeMap<String, RestartPolicy>);

impl LeftDown {
    /// Adds what others have stopped who are no backups, by id, with what it did before.
    #[must_use]
    pub fn and(mut self, stopped: impl IntoIterator<Item = (String, Status, Option<RestartPolicy>)>) -> Self {
        for (id, before, policy) in stopped {
            self.1.extend(policy.map(|policy| (id.clone(), policy)));
            self.0.insert(id, before);
        }
        self
    }

    /// Ids of the containers.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// The policy that a container gets back, by which the Engine starts it again by itself.
    pub fn restart_policy(&self, id: &str) -> Option<&RestartPolicy> {
        self.1.get(id)
    }

    /// Says of the containers of an application what they did before.
    pub fn put_right(&self, application: &mut Application) {
        for container in &mut application.containers {
            if let Some(before) =
                self.0.get(&container.id).filter(|_| !matches!(container.state.status, Status::Running | Status::Restarting))
            {
                container.state.status = *before;
            }
            if let Some(policy) = self.1.get(&container.id) {
                container.restart_policy = policy.clone();
            }
        }
    }
}

/// Looks at everything on an Engine, as [`discover`] does, while no other run begins or ends to keep a container still.
///
/// # Errors
/// As [`discover`] has.
pub async fn discover_undisturbed(engine: &Engine, state: &Path) -> Result<Undisturbed, DockerError> {
    let journals = Journals::new(state);
    let held = held(&journals, engine.id()).await;
    let mut discovery = discover(engine).await?;
    let (holdings, unknown) = match held {
        // Until here the gate was held: whatever was seen still is in these journals if it was a run that did it.
        Ok((_gate, holdings)) => (holdings, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let left_down = undo(discovery.applications.iter_mut().flat_map(|application| &mut application.containers), &holdings);
    Ok(Undisturbed { discovery, left_down, unknown })
}

async fn held(journals: &Journals, engine: &str) -> Result<(Gate, Vec<Holding>), JournalError> {
    let gate = journals.gate(GATE_LIMIT).await?;
    let holdings = journals.held_by_others(&gate, None, engine)?;
    Ok((gate, holdings))
}

/// Gives containers that living runs keep still the state of before; tells it of those that dead ones have left.
fn undo<'a>(containers: impl Iterator<Item = &'a mut Container>, holdings: &[Holding]) -> LeftDown {
    let mut left = LeftDown::default();
    for container in containers {
        // A living run has taken over from a dead one what both have.
        let of = |living| holdings.iter().find(|one| one.living == living && one.entry.container == container.id);
        let Some(holding) = of(true).or_else(|| of(false)).filter(|one| is_still(container.state.status, one.entry.action)) else {
            continue;
        };
        if holding.living {
            container.state.status = holding.entry.before;
        } else {
            left.0.insert(container.id.clone(), holding.entry.before);
        }
    }
    left
}

/// Whether a container is as that action leaves it: then whoever did it brings it back. A stopped one that is paused was started by somebody
/// else, and paused by somebody else.
fn is_still(status: Status, action: Action) -> bool {
    match status {
        Status::Running | Status::Restarting | Status::Removing => false,
        Status::Paused => action == Action::Pause,
        Status::Exited | Status::Created | Status::Dead | Status::Unknown => true,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::super::tests::container;
    use super::*;
    use crate::docker::journal::Entry;
    use crate::model::application::EngineIdentity;

    fn holding(name: &str, action: Action, living: bool) -> Holding {
        let entry = Entry {
            engine: "e".to_owned(),
            run: "r".to_owned(),
            container: format!("id-{name}"),
            name: name.to_owned(),
            before: Status::Running,
            action,
            service: None,
            order: 0,
            started_at: String::new(),
            settled: jiff::Timestamp::UNIX_EPOCH,
        };
        Holding { entry, living, recovering: false }
    }

    #[test]
    fn what_runs_keep_still_is_told_as_it_was_before() {
        use Action::{Pause, Stop};
        let mut found = Vec::new();
        for (name, status, holding, now, left) in [
            ("stopped", Status::Exited, Some((Stop, true)), Status::Running, None),
            ("paused", Status::Paused, Some((Pause, true)), Status::Running, None),
            ("ended", Status::Exited, Some((Pause, true)), Status::Running, None),
            ("paused-by-hand", Status::Paused, Some((Stop, true)), Status::Paused, None),
            ("not-yet", Status::Running, Some((Stop, true)), Status::Running, None),
            ("left", Status::Exited, Some((Stop, false)), Status::Exited, Some(Status::Running)),
            ("left-paused", Status::Paused, Some((Pause, false)), Status::Paused, Some(Status::Running)),
            ("left-and-started", Status::Running, Some((Stop, false)), Status::Running, None),
            ("down", Status::Exited, None, Status::Exited, None),
            ("created", Status::Created, None, Status::Created, None),
        ] {
            let mut one = container(name, &[]);
            one.state.status = status;
            found.push((name, one, holding, now, left));
        }
        let holdings: Vec<Holding> = (found.iter())
            .filter_map(|(name, _, given, ..)| given.map(|(action, living)| holding(name, action, living)))
            .chain([holding("stopped", Stop, false)])
            .collect();
        let left = undo(found.iter_mut().map(|(_, one, ..)| one), &holdings);
        for (name, one, _, now, expected) in &found {
            assert_eq!((one.state.status, left.0.get(&one.id)), (*now, expected.as_ref()), "{name}");
        }
        let one = found.into_iter().find(|(name, ..)| *name == "left").unwrap().1;
        let applications = &mut Discovery::of(EngineIdentity::default(), vec![one], Vec::new(), Vec::new()).applications;
        left.put_right(&mut applications[0]);
        assert_eq!(applications[0].containers[0].state.status, Status::Running);
    }
}

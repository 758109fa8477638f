//! Restoring in place: what is there is stopped, saved and set aside before, and put away or started again after.
//!
//! Putting it back when the restore fails is the business of `jobs`.

use std::collections::BTreeSet;

use super::build::Draft;
use super::{Conflict, PlannedStep, Step, is_path};
use crate::docker::discover::grounds::meet;
use crate::model::application::Volume;
use crate::targets::preflight::{Host, HostContainer, PathState};

/// Why the content of a volume that is there cannot be replaced; none if it can.
pub(super) fn why_not_overwritten(stored: &Volume, name: &str, host: &Host) -> Option<String> {
    let there = host.volumes.get(name)?;
    if there.driver != stored.driver || there.options != stored.options {
        return Some("its driver or its options are others than they were; remove it first".to_owned());
    }
    if there.empty.is_none() {
        return Some("it is no plain volume of this machine, so what is in it cannot be replaced; remove it first".to_owned());
    }
    None
}

/// Puts the steps that make room in front of the plan, and those that clean up behind it.
pub(super) fn frame(draft: &mut Draft<'_>) {
    if !draft.options.in_place {
        return;
    }
    let host = draft.host;
    let replaced = replaced_in_order(draft);
    let targets = targets(draft);
    let users = users(draft, &replaced, &targets);
    refuse_fixed(draft, &replaced, &users, &targets);
    refuse_kept_still(draft, &replaced, &targets);

    let planned = |application: &str, step: Step| PlannedStep { application: application.to_owned(), step };
    let held_down = &draft.options.held_down;
    let runs = |container: &HostContainer| container.is_alive() || held_down.contains(&container.id);
    let mut before = Vec::new();
    // Who reaches the files from outside goes first; then each before what it depends on.
    for (application, container) in users.iter().chain(replaced.iter().rev()).filter(|(_, container)| runs(container)) {
        let (name, id) = (container.name.clone(), container.id.clone());
        let volumes = uses(draft, container, &targets);
        let (paused, restart) = (container.status == "paused", container.restart.clone());
        before.push(planned(application, Step::StopContainer { name, id, paused, volumes, restart }));
    }
    if draft.options.save_first {
        before.extend(save_first(draft, &replaced));
    }
    let mut after = Vec::new();
    for (application, container) in &replaced {
        let aside = free_name(&container.name, host);
        let (name, id) = (container.name.clone(), container.id.clone());
        before.push(planned(application, Step::SetAside { name, id: id.clone(), aside: aside.clone() }));
        after.push(planned(application, Step::RemoveAside { name: aside, id }));
    }
    for (application, container) in users.iter().rev() {
        let (name, id) = (container.name.clone(), container.id.clone());
        after.push(planned(application, Step::StartAgain { name, id, paused: container.status == "paused" }));
    }
    // Images are pulled and loaded while everything still runs.
    let steps = &mut draft.plan.steps;
    let first = steps
        .iter()
        .rposition(|planned| matches!(planned.step, Step::PullImage { .. } | Step::LoadImage { .. }))
        .map_or(0, |last| last + 1);
    steps.splice(first..first, before);
    steps.extend(after);
    draft.plan.targets = targets;
}

/// The volumes and paths that are overwritten or filled, for whatever application, or are half restored already, and that a container uses or can
/// write to.
fn uses(draft: &Draft<'_>, container: &HostContainer, targets: &[Target]) -> Vec<String> {
    let reached = |target: &&Target| target.reached_by(container, draft.host).is_some();
    let overwritten = targets.iter().filter(reached).map(|target| &target.place);
    let grounds = &draft.host.grounds;
    let mounts = |path: &String| container.mounts.iter().any(|mount| is_path(path) && meet(&grounds.path(path), &grounds.mount(mount)));
    let half = draft.options.half.iter().filter(|place| container.volumes.contains(*place) || mounts(place));
    overwritten.chain(half).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

type Concerned<'a> = Vec<(String, &'a HostContainer)>;

/// The containers that are replaced, in the order in which their successors start.
fn replaced_in_order<'a>(draft: &Draft<'a>) -> Concerned<'a> {
    let in_order = draft.order().into_iter().filter_map(|index| {
        let chosen = &draft.containers[index];
        let there = draft.host.container(&draft.names.container(&chosen.container.name))?;
        Some((chosen.application.to_owned(), there))
    });
    in_order.collect()
}

/// Something that is overwritten.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    application: String,
    /// The volume of that name, else the path.
    is_volume: bool,
    name: String,
    /// What is filled, as [`Step::fills`] has it.
    place: String,
    /// Where its files lie.
    places: BTreeSet<String>,
    /// Whether something is in it, as far as is known.
    overwrites: bool,
    /// Whether it is restored alone: who only reads it sees half of it meanwhile, and of a file that is replaced the old one for ever. Nobody
    /// keeps running on it, as on a volume.
    alone: bool,
}

/// How a container reaches what is overwritten.
#[derive(PartialEq, Eq)]
enum Reach {
    /// It uses the volume.
    Uses,
    /// It can write to the same files.
    Writes,
}

impl Target {
    /// The first of the containers that run and reach it.
    pub fn reached<'h>(&self, host: &'h Host) -> Option<&'h str> {
        let reaches = |container: &&HostContainer| container.is_alive() && self.reached_by(container, host).is_some();
        host.containers.iter().find(reaches).map(|container| container.name.as_str())
    }

    /// Whether this is the volume or path, and something is in it.
    pub fn overwrites(&self, place: &str) -> bool {
        self.overwrites && self.place == place
    }

    fn reached_by(&self, container: &HostContainer, host: &Host) -> Option<Reach> {
        if self.is_volume && container.volumes.contains(&self.name) {
            return Some(Reach::Uses);
        }
        let mut mounts = container.mounts.iter().filter(|mount| self.alone || !mount.read_only);
        let reaches = (self.alone || !container.left_running) && mounts.any(|mount| meet(&self.places, &host.grounds.mount(mount)));
        reaches.then_some(if self.alone { Reach::Uses } else { Reach::Writes })
    }
}

/// Everything that is overwritten, or may be: a bind mount, and what a volume stands for, may hold something.
fn targets(draft: &Draft<'_>) -> Vec<Target> {
    let mut targets = Vec::new();
    for planned in &draft.plan.steps {
        let Some((place, overwrites)) = planned.step.fills() else { continue };
        let (is_volume, name, places) = match &planned.step {
            Step::FillVolume { name, replace: true, .. } => (true, name, draft.host.grounds.volume(name, "")),
            Step::FillVolume { name, device: Some(device), .. } if device.starts_with('/') => (true, name, [device.clone()].into()),
            Step::FillPath { path, inside: Some((volume, _)), .. } => (true, volume, draft.host.grounds.path(path)),
            Step::FillPath { path, .. } => (false, path, draft.host.grounds.path(path)),
            _ => continue,
        };
        let alone = draft.options.items.parts.iter().any(|part| part.volume.is_none() && part.path == place);
        let application = planned.application.clone();
        targets.push(Target { application, is_volume, name: name.clone(), place: place.to_owned(), places, overwrites, alone });
    }
    targets
}

/// The containers that run, reach what is overwritten, and are not replaced.
fn users<'a>(draft: &Draft<'a>, replaced: &Concerned<'a>, targets: &[Target]) -> Concerned<'a> {
    let mut known: BTreeSet<&str> = replaced.iter().map(|(_, container)| container.id.as_str()).collect();
    let mut users = Vec::new();
    let runs = |container: &&HostContainer| container.is_alive() || draft.options.held_down.contains(&container.id);
    for target in targets {
        for container in draft.host.containers.iter().filter(runs) {
            if target.reached_by(container, draft.host).is_some() && known.insert(&container.id) {
                users.push((target.application.clone(), container));
            }
        }
    }
    users
}

/// What cannot be stopped and put back is not touched.
fn refuse_fixed(draft: &mut Draft<'_>, replaced: &Concerned<'_>, users: &Concerned<'_>, targets: &[Target]) {
    let host = draft.host;
    let down = |id: &str| replaced.iter().chain(users).any(|(_, other)| other.id == id);
    let guest = |container: &HostContainer| {
        let mut guests = host.containers.iter().filter(|one| one.is_alive() && one.network_of.as_deref() == Some(&container.id));
        let guest = guests.find(|guest| !down(&guest.id))?;
        Some(format!("container {} runs in its network, and would lose it", guest.name))
    };
    // Its successor has another id: who lives with it could never be started again.
    let orphan = |container: &HostContainer| {
        let lives_with = |one: &&HostContainer| one.guest_of.contains(&container.name) || one.network_of.as_deref() == Some(&container.id);
        let stays = |one: &&HostContainer| !replaced.iter().any(|(_, other)| other.id == one.id);
        let orphan = host.containers.iter().filter(lives_with).find(stays)?;
        Some(format!(
            "container {} lives in its network, memory or process space, and could not be started again: restore it too",
            orphan.name
        ))
    };
    for (_, container) in replaced {
        for status in container.fixed.clone().into_iter().chain(guest(container).or_else(|| orphan(container))) {
            draft.conflict(Conflict::ContainerExists { name: container.name.clone(), status });
        }
    }
    for (_, container) in users {
        let Some(reason) = container.fixed.clone().or_else(|| guest(container)) else { continue };
        for target in targets {
            let Some(reach) = target.reached_by(container, host) else { continue };
            let how = if reach == Reach::Uses { "uses it" } else { "can write to its files" };
            let (name, reason) = (target.name.clone(), format!("container {} {how} and cannot be stopped: {reason}", container.name));
            draft.conflict(if target.is_volume {
                Conflict::VolumeExists { name, reason }
            } else {
                Conflict::PathExists { path: name, reason }
            });
        }
    }
}

/// What a backup keeps still is started by it, in the middle of whatever else is done with it.
fn refuse_kept_still(draft: &mut Draft<'_>, replaced: &Concerned<'_>, targets: &[Target]) {
    let host = draft.host;
    let is_concerned = |container: &&HostContainer| {
        replaced.iter().any(|(_, other)| other.id == container.id)
            || targets.iter().any(|target| target.reached_by(container, host).is_some())
    };
    for container in host.containers.iter().filter(is_concerned) {
        let name = || container.name.clone();
        if draft.options.kept_still.contains(&container.id) {
            draft.conflict(Conflict::KeptStill { container: name() });
        } else if draft.options.brought_back.contains(&container.id) {
            draft.conflict(Conflict::BroughtBack { container: name() });
        }
    }
}

/// One step for each application that overwrites something.
fn save_first(draft: &Draft<'_>, replaced: &Concerned<'_>) -> Vec<PlannedStep> {
    let mut steps = Vec::new();
    for application in draft.applications.iter().map(|stored| &stored.document.application.name) {
        let of = |(name, container): &(String, &HostContainer)| (name == application).then(|| container.name.clone());
        let containers: Vec<String> = replaced.iter().filter_map(of).collect();
        // An empty one has nothing to lose.
        let holds = |volume: &&String| draft.host.volumes.get(*volume).is_some_and(|volume| volume.empty != Some(true));
        let mine = draft.overwritten.iter().filter(|(name, _)| name == application).map(|(_, volume)| volume);
        let mut volumes: Vec<String> = mine.filter(holds).cloned().collect();
        let mut paths = Vec::new();
        let holds = |path: &String| draft.host.binds.get(path) == Some(&PathState::Holds);
        for planned in draft.plan.steps.iter().filter(|planned| planned.application == *application) {
            match &planned.step {
                // What has the Engine's data is saved as volumes only.
                Step::FillPath { path, inside: Some((volume, _)), .. } if holds(path) && !volumes.contains(volume) => {
                    volumes.push(volume.clone());
                }
                Step::FillPath { path, inside: None, .. } | Step::FillVolume { device: Some(path), over: true, .. } if holds(path) => {
                    paths.push(path.clone());
                }
                _ => {}
            }
        }
        if !(containers.is_empty() && volumes.is_empty() && paths.is_empty()) {
            steps.push(PlannedStep { application: application.clone(), step: Step::SaveFirst { containers, volumes, paths } });
        }
    }
    steps
}

fn free_name(name: &str, host: &Host) -> String {
    let candidates = std::iter::once(format!("{name}-replaced")).chain((2..).map(|number| format!("{name}-replaced-{number}")));
    candidates.into_iter().find(|candidate| host.container(candidate).is_none()).unwrap_or_default()
}

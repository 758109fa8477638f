//! Which containers, volumes and networks of the snapshots are restored.

use super::build::{ChosenContainer, Draft};
use super::{Conflict, Step, StoredApplication};
use crate::docker::create::is_predefined_network;
use crate::docker::create::json::object;
use crate::model::application::{Container, ItemKind, Volume};
use crate::model::outcome::ItemOutcome;
use crate::model::text::printable;

impl Draft<'_> {
    /// Decides which containers, volumes and networks are restored.
    pub(super) fn choose(&mut self) {
        let items = &self.options.items;
        let everything = items.is_everything();
        for stored in self.applications {
            let application = &stored.document.application;
            let mut containers: Vec<&Container> =
                application.containers.iter().filter(|container| everything || items.containers.contains(&container.name)).collect();
            containers.retain(|container| self.is_restorable(stored, container, everything));
            for container in containers {
                let mut starts = !self.options.no_start && container.state.status.is_alive();
                let empty = container.volume_names().find(|volume| saving_failed(stored, volume) || self.stays_empty(stored, volume));
                if let Some(volume) = empty.filter(|_| starts) {
                    let there = self.host.volumes.get(&self.names.volume(volume)).is_some_and(|there| there.empty != Some(true));
                    let what = if there { "what is in it may not fit" } else { "it would begin anew" };
                    let (container, volume) = (printable(container.name.as_bytes()), printable(volume.as_bytes()));
                    self.note(format!("container {container} is not started: its volume {volume} was not saved, and {what}"));
                    starts = false;
                }
                if let Some(inspect) = stored.containers.get(&container.name) {
                    self.containers.push(ChosenContainer { application: &application.name, container, inspect, starts });
                }
            }
            let asked_for = |volume: &&Volume| {
                if everything { was_tried(stored, &volume.name) } else { items.volumes.contains(&volume.name) }
            };
            for volume in application.volumes.iter().filter(asked_for) {
                self.volumes.insert(&volume.name, (stored, volume));
            }
            for (name, network) in stored.networks.iter().filter(|(name, _)| everything || items.networks.contains(name)) {
                self.networks.entry(name).or_insert((&application.name, network));
            }
        }
        for index in 0..self.containers.len() {
            self.choose_what_it_needs(index);
        }
        if everything {
            self.tell_what_is_not_in_it();
        }
    }

    /// What of the applications nobody chose when they were saved.
    fn tell_what_is_not_in_it(&mut self) {
        for stored in self.applications {
            let document = &stored.document;
            let missing = |kind: ItemKind, name: &str| document.item(kind, name).is_none();
            let containers = document.application.containers.iter().filter(|one| !one.swarm_task).map(|one| &one.name);
            let is_saved = |name: &String| stored.containers.contains_key(name);
            let containers =
                containers.filter(|name| missing(ItemKind::Configuration, name) && !is_saved(name)).map(|name| format!("container {name}"));
            let volumes = document.application.volumes.iter().filter(|one| !one.is_volatile()).map(|one| &one.name);
            let told = |name: &String| self.volumes.contains_key(name.as_str());
            let volumes = volumes.filter(|name| missing(ItemKind::Volume, name) && !told(name)).map(|name| format!("volume {name}"));
            let missing: Vec<String> = containers.chain(volumes).map(|one| printable(one.as_bytes())).collect();
            if !missing.is_empty() {
                let name = printable(document.application.name.as_bytes());
                self.asked(format!(
                    "{name}: not in this snapshot, because it was left out or not asked for when it was made: {}",
                    missing.join(", ")
                ));
            }
        }
    }

    /// Whether a volume of a snapshot that does not have its files would be made anew. What is left out for good is meant to.
    fn stays_empty(&self, stored: &StoredApplication, name: &str) -> bool {
        let document = &stored.document;
        let Some(volume) = document.application.volume(name) else { return false };
        let there = self.host.volumes.get(&self.names.volume(name));
        let is_filled = there.is_some_and(|there| there.empty != Some(true));
        !was_tried(stored, name) && !volume.is_volatile() && !is_filled && !document.leaves_out_volume(name)
    }

    fn is_restorable(&mut self, stored: &StoredApplication, container: &Container, everything: bool) -> bool {
        if container.swarm_task {
            self.note(format!(
                "container {} is a swarm task: its service makes it, and that is not in the snapshot, so it is not restored",
                printable(container.name.as_bytes())
            ));
            return false;
        }
        if !stored.containers.contains_key(&container.name) {
            let reason = match stored.document.item(ItemKind::Configuration, &container.name).map(|item| &item.outcome) {
                Some(ItemOutcome::Failed { reason }) => reason.clone(),
                // Nobody asked for it.
                None if everything => return false,
                _ => "its configuration was not saved".to_owned(),
            };
            self.conflict(Conflict::NotSaved { what: format!("container {}", container.name), reason });
            return false;
        }
        true
    }

    /// A container that is restored alone brings the volumes and networks that it needs, unless they are there.
    fn choose_what_it_needs(&mut self, index: usize) {
        let (container, inspect) = (self.containers[index].container, self.containers[index].inspect);
        let application = self.containers[index].application;
        for name in container.volume_names() {
            if self.volumes.contains_key(name) {
                continue;
            }
            let target = self.names.volume(name);
            let stored = self.applications.iter().find_map(|stored| Some((stored, stored.document.application.volume(name)?)));
            if self.host.volumes.contains_key(&target) {
                self.note(format!(
                    "container {} uses volume {} as it is there",
                    printable(container.name.as_bytes()),
                    printable(target.as_bytes())
                ));
                self.step(application, Step::UseVolume { name: target });
            } else if let Some((stored, volume)) = stored {
                self.volumes.insert(&volume.name, (stored, volume));
            } else {
                let with = self.applications.iter().find_map(|stored| {
                    stored.document.application.shared_volumes.iter().find(|shared| shared.name == name).map(|shared| &shared.stored_with)
                });
                let reason = with.map_or("it is neither in the snapshot nor there".to_owned(), |with| {
                    format!("it is stored with application {with}: restore that as well")
                });
                self.conflict(Conflict::Missing { container: container.name.clone(), needs: format!("volume {name}"), reason });
            }
        }
        for name in object(inspect, "/NetworkSettings/Networks").into_iter().flatten().map(|(name, _)| name.as_str()) {
            if is_predefined_network(name) || self.networks.contains_key(name) {
                continue;
            }
            let stored = self.applications.iter().find_map(|stored| {
                stored.networks.get_key_value(name).map(|(name, network)| (stored.document.application.name.as_str(), name, network))
            });
            if let Some((application, name, network)) = stored {
                self.networks.insert(name, (application, network));
            } else if !self.host.networks.contains_key(&self.names.network(name)) {
                let reason = "it is neither in the snapshot nor there".to_owned();
                self.conflict(Conflict::Missing { container: container.name.clone(), needs: format!("network {name}"), reason });
            }
        }
    }
}

/// Whether a volume was to be saved; that may have failed.
fn was_tried(stored: &StoredApplication, volume: &str) -> bool {
    stored.document.item(ItemKind::Volume, volume).is_some_and(|item| !matches!(item.outcome, ItemOutcome::Skipped))
}

/// Whether a volume was to be saved and could not be.
fn saving_failed(stored: &StoredApplication, volume: &str) -> bool {
    stored.document.item(ItemKind::Volume, volume).is_some_and(|item| matches!(item.outcome, ItemOutcome::Failed { .. }))
}

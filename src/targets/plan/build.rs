//! Puts the steps of a restore in their order.
//!
//! What stands in the way of a step is found in `checks`, under which name things come back in `naming`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::checks::{self, Checked, Fixed, Image};
use super::naming::{Naming, naming};
use super::{Conflict, PlanError, PlannedStep, RestoreOptions, RestorePlan, Step, StoredApplication};
use crate::docker::create::endpoints::static_addresses;
use crate::docker::create::json::{object, text};
use crate::docker::create::{ContainerRequest, Names, container_body, is_predefined_network, looks_automatic, network_body, volume_body};
use crate::docker::quiesce::start_order;
use crate::model::application::{Container, DependencyCondition, Health, ItemKind, Status, Volume};
use crate::model::outcome::ItemOutcome;
use crate::model::text::printable;
use crate::targets::preflight::Host;

/// API version from which a network may have IPv6 addresses only.
const NETWORKS_WITHOUT_IPV4: (u64, u64) = (1, 48);

/// A container that is restored.
pub(super) struct ChosenContainer<'a> {
    pub(super) application: &'a str,
    pub(super) container: &'a Container,
    pub(super) inspect: &'a Value,
    pub(super) starts: bool,
}

/// Everything that is known while a plan is put together.
pub(super) struct Draft<'a> {
    pub(super) applications: &'a [StoredApplication],
    pub(super) options: &'a RestoreOptions,
    pub(super) host: &'a Host,
    pub(super) names: Names,
    naming: Naming,
    pub(super) containers: Vec<ChosenContainer<'a>>,
    volumes: BTreeMap<&'a str, (&'a StoredApplication, &'a Volume)>,
    networks: BTreeMap<&'a str, (&'a str, &'a Value)>,
    /// Volumes that are there and are overwritten, by their names there, with the application that they are for.
    pub(super) overwritten: Vec<(String, String)>,
    pub(super) plan: RestorePlan,
}

/// Plans the restore of some applications onto what `host` is.
///
/// # Errors
/// What was asked for makes no sense. Conflicts are no errors: they are in the plan.
pub fn plan(applications: &[StoredApplication], options: &RestoreOptions, host: &Host) -> Result<RestorePlan, PlanError> {
    checks::known_items(applications, &options.items)?;
    let naming = naming(applications, options, host)?;
    let mut names = Names::new().with_renames(naming.renames.clone());
    for application in applications {
        for container in &application.document.application.containers {
            names.learn(&container.id, &container.name);
        }
    }
    let mut draft = Draft {
        applications,
        options,
        host,
        names,
        naming,
        containers: Vec::new(),
        volumes: BTreeMap::new(),
        networks: BTreeMap::new(),
        overwritten: Vec::new(),
        plan: RestorePlan { steps: Vec::new(), conflicts: Vec::new(), notes: Vec::new(), asked: Vec::new() },
    };
    draft.choose();
    let images = draft.plan_images();
    draft.plan_networks()?;
    draft.plan_volumes()?;
    let filled = super::binds::plan(&mut draft);
    draft.plan_containers(&images, &filled)?;
    draft.plan_starts();
    super::in_place::frame(&mut draft);
    checks::space(&mut draft);
    Ok(draft.plan)
}

impl<'a> Draft<'a> {
    pub(super) fn conflict(&mut self, conflict: Conflict) {
        if !self.plan.conflicts.contains(&conflict) {
            self.plan.conflicts.push(conflict);
        }
    }

    pub(super) fn note(&mut self, note: String) {
        if !self.plan.notes.contains(&note) {
            self.plan.notes.push(note);
        }
    }

    pub(super) fn asked(&mut self, note: String) {
        if !self.plan.asked.contains(&note) {
            self.plan.asked.push(note);
        }
    }

    pub(super) fn step(&mut self, application: &str, step: Step) {
        self.plan.steps.push(PlannedStep { application: application.to_owned(), step });
    }

    /// Decides which containers, volumes and networks are restored.
    fn choose(&mut self) {
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
                    let (container, volume) = (printable(container.name.as_bytes()), printable(volume.as_bytes()));
                    self.note(format!("container {container} is not started: its volume {volume} was not saved, and it would begin anew"));
                    starts = false;
                }
                if let Some(inspect) = stored.containers.get(&container.name) {
                    self.containers.push(ChosenContainer { application: &application.name, container, inspect, starts });
                }
            }
            let was_chosen = |volume: &Volume| match stored.document.item(ItemKind::Volume, &volume.name) {
                Some(item) => !matches!(item.outcome, ItemOutcome::Skipped),
                None => false,
            };
            let asked_for = |volume: &&Volume| if everything { was_chosen(volume) } else { items.volumes.contains(&volume.name) };
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
            let volumes = document.application.volumes.iter().map(|one| &one.name);
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
        let was_saved = document.item(ItemKind::Volume, name).is_some_and(|item| !matches!(item.outcome, ItemOutcome::Skipped));
        let in_memory = volume.options.get("type").is_some_and(|kind| kind == "tmpfs");
        let there = self.host.volumes.get(&self.names.volume(name));
        let is_filled = there.is_some_and(|there| there.empty != Some(true));
        !was_saved && !in_memory && !is_filled && !document.left_out.volumes.iter().any(|left_out| left_out == name)
    }

    fn is_restorable(&mut self, stored: &StoredApplication, container: &Container, everything: bool) -> bool {
        if container.swarm_task {
            self.note(format!(
                "container {} is a swarm task: its service makes it, so it is not restored",
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

    /// Finds each container's image; gives what create is to name, by the container's name.
    fn plan_images(&mut self) -> BTreeMap<&'a str, String> {
        let mut references = BTreeMap::new();
        let mut pulled = BTreeSet::new();
        for index in 0..self.containers.len() {
            let chosen = &self.containers[index];
            let (application, container) = (chosen.application, chosen.container);
            match checks::image(container, chosen.inspect, self.host) {
                Image::There { reference, note } => {
                    if let Some(note) = note {
                        self.note(note);
                    }
                    references.insert(container.name.as_str(), reference);
                }
                Image::Pull { reference, tag } => {
                    references.insert(container.name.as_str(), tag.clone().unwrap_or_else(|| reference.clone()));
                    if pulled.insert((reference.clone(), tag.clone())) {
                        self.note(format!("image {} is not on this Engine; it will be pulled", printable(reference.as_bytes())));
                        self.step(application, Step::PullImage { reference, tag });
                    }
                }
                Image::Missing { image } => {
                    references.insert(container.name.as_str(), image.clone());
                    if let Some(step) = super::images::load(self.applications, application, container) {
                        if pulled.insert((container.image.id.clone(), None)) {
                            self.step(application, step);
                        }
                        continue;
                    }
                    self.conflict(Conflict::ImageMissing { container: container.name.clone(), image });
                }
            }
        }
        references
    }

    fn plan_networks(&mut self) -> Result<(), PlanError> {
        let mut made: Vec<(String, Value)> = Vec::new();
        for (name, (application, inspect)) in self.networks.clone() {
            if is_predefined_network(name) {
                continue;
            }
            let target = self.names.network(name);
            let fixed = self.needs_addresses(name, inspect);
            if let Some(there) = self.host.networks.get(&target) {
                match checks::same_network(inspect, there, &self.names, fixed) {
                    Checked::Same => self.step(application, Step::UseNetwork { name: target }),
                    Checked::Differs(fields) => self.conflict(Conflict::NetworkDiffers { name: target, fields }),
                }
                continue;
            }
            let overlap = checks::overlapping(inspect, self.host.networks.iter().chain(made.iter().map(|(name, network)| (name, network))));
            let addresses = match overlap {
                // Addresses that the Engine may have chosen are kept where they are sure to do no harm: on the same machine.
                None => fixed || self.same_engine(application),
                Some((subnet, by)) if fixed && self.options.as_new => {
                    let (network, by) = (printable(target.as_bytes()), printable(by.as_bytes()));
                    self.asked(format!("network {network} and what is on it get other addresses: network {by} has {subnet}"));
                    self.names.renames_mut().readdressed.insert(name.to_owned());
                    false
                }
                Some((subnet, by)) if fixed => {
                    self.conflict(Conflict::SubnetTaken { network: target.clone(), subnet, by });
                    true
                }
                Some((subnet, by)) => {
                    let (network, by) = (printable(target.as_bytes()), printable(by.as_bytes()));
                    let note = format!("network {network} gets other addresses: {subnet} overlaps with network {by}");
                    if self.options.as_new {
                        self.asked(note);
                    } else {
                        self.note(note);
                    }
                    false
                }
            };
            if inspect.get("EnableIPv4").and_then(Value::as_bool) == Some(false) && self.host.api < NETWORKS_WITHOUT_IPV4 {
                let what = format!("network {target}");
                self.conflict(checks::too_old(what, "no IPv4 addresses", NETWORKS_WITHOUT_IPV4, self.host.api));
            }
            let mut network = network_body(inspect, &self.names, addresses)?;
            self.naming.label(&mut network.body);
            if addresses {
                made.push((target, inspect.clone()));
            }
            self.step(application, Step::CreateNetwork { network });
        }
        Ok(())
    }

    /// Whether a network must have exactly the addresses that it had.
    fn needs_addresses(&self, name: &str, inspect: &Value) -> bool {
        let path = |container: &ChosenContainer<'_>| {
            let networks = object(container.inspect, "/NetworkSettings/Networks");
            networks.and_then(|networks| networks.get(name)).is_some_and(|endpoint| static_addresses(endpoint).is_some())
        };
        !looks_automatic(inspect) || self.containers.iter().any(path)
    }

    fn same_engine(&self, application: &str) -> bool {
        let stored = self.applications.iter().find(|stored| stored.document.application.name == application);
        stored.is_some_and(|stored| !stored.document.engine.id.is_empty() && stored.document.engine.id == self.host.identity.id)
    }

    fn plan_volumes(&mut self) -> Result<(), PlanError> {
        for (name, (stored, volume)) in self.volumes.clone() {
            let application = stored.document.application.name.as_str();
            let target = self.names.volume(name);
            let mut replace = false;
            if self.host.volumes.contains_key(&target) {
                match checks::volume_in_the_way(&target, self.host) {
                    Some(_) if self.options.in_place => {
                        if let Some(reason) = super::in_place::why_not_overwritten(volume, &target, self.host) {
                            self.conflict(Conflict::VolumeExists { name: target.clone(), reason });
                        }
                        self.overwritten.push((application.to_owned(), target.clone()));
                        replace = true;
                    }
                    Some(reason) => self.conflict(Conflict::VolumeExists { name: target.clone(), reason }),
                    None => self.step(application, Step::UseVolume { name: target.clone() }),
                }
            } else {
                if !checks::has_driver(&volume.driver, &self.host.volume_drivers) {
                    self.conflict(Conflict::Unsupported {
                        what: format!("volume {target}"),
                        lacks: format!("volume driver {}", volume.driver),
                    });
                }
                let inspect = json!({"Name": volume.name, "Driver": volume.driver, "Options": volume.options, "Labels": volume.labels});
                let mut body = volume_body(&inspect, &self.names)?;
                self.naming.label(&mut body);
                self.step(application, Step::CreateVolume { name: target.clone(), body });
            }
            self.plan_fill(stored, volume, target, replace);
        }
        Ok(())
    }

    fn plan_fill(&mut self, stored: &StoredApplication, volume: &Volume, target: String, replace: bool) {
        let shown = printable(target.as_bytes());
        if volume.options.get("type").is_some_and(|kind| kind == "tmpfs") {
            self.note(format!("volume {shown} lives in memory: it is made, and its files are not restored"));
            return;
        }
        if let Some(device) = volume.options.get("device") {
            self.note(format!("volume {shown} stands for {}: the files there are overwritten", printable(device.as_bytes())));
        }
        let item = stored.document.item(ItemKind::Volume, &volume.name);
        let (proof, path) = match item.map(|item| (&item.outcome, &item.path)) {
            Some((ItemOutcome::Complete { proof }, path)) => (proof, path),
            Some((ItemOutcome::Partial { proof, reasons }, path)) => {
                self.note(format!("volume {shown} was saved in part only: {}", printable(reasons.join("; ").as_bytes())));
                (proof, path)
            }
            Some((ItemOutcome::Failed { reason }, _)) => {
                self.note(format!("volume {shown} stays empty, saving it failed: {}", printable(reason.as_bytes())));
                return;
            }
            None if stored.document.left_out.volumes.contains(&volume.name) => {
                self.asked(format!("volume {shown} begins empty: it is left out of backups"));
                return;
            }
            Some((ItemOutcome::Skipped, _)) | None => {
                self.note(format!("volume {shown} stays empty: its files are not in the snapshot"));
                return;
            }
        };
        let step = Step::FillVolume { name: target, path: path.clone(), bytes: proof.bytes, replace };
        self.step(&stored.document.application.name, step);
    }

    fn plan_containers(&mut self, images: &BTreeMap<&'a str, String>, filled: &BTreeSet<String>) -> Result<(), PlanError> {
        let empty = self.empty_volumes();
        checks::containers(self, filled);
        checks::addresses(self, &self.reused_networks());
        checks::ports(self);
        for index in self.order() {
            let chosen = &self.containers[index];
            let (application, container) = (chosen.application, chosen.container);
            let request = ContainerRequest {
                inspect: chosen.inspect,
                names: &self.names,
                image: images.get(container.name.as_str()).map_or(container.image.reference.as_str(), String::as_str),
                empty_volumes: &empty,
                api: self.host.api,
            };
            let mut made = container_body(&request)?;
            self.naming.label(&mut made.body);
            for feature in std::mem::take(&mut made.lacks) {
                let what = format!("container {}", made.name);
                self.conflict(checks::too_old(what, feature.what, feature.since, self.host.api));
            }
            for note in std::mem::take(&mut made.notes) {
                self.note(format!("container {}: {note}", printable(made.name.as_bytes())));
            }
            self.step(application, Step::CreateContainer { container: Box::new(made) });
            if let Some(step) = super::images::layer(self.applications, application, container, self.names.container(&container.name)) {
                self.step(application, step);
            }
        }
        Ok(())
    }

    /// The containers that are there and in whose place restored ones go: names there.
    pub(super) fn replaced(&self) -> BTreeSet<String> {
        if !self.options.in_place {
            return BTreeSet::new();
        }
        let names = self.containers.iter().map(|chosen| self.names.container(&chosen.container.name));
        names.filter(|name| self.host.container(name).is_some()).collect()
    }

    /// The containers in the order in which they can be made and started.
    pub(super) fn order(&self) -> Vec<usize> {
        let containers: Vec<&Container> = self.containers.iter().map(|chosen| chosen.container).collect();
        start_order(&containers)
    }

    /// Names of networks that are there and are used.
    fn reused_networks(&self) -> BTreeSet<String> {
        let used = |step: &PlannedStep| match &step.step {
            Step::UseNetwork { name } => Some(name.clone()),
            _ => None,
        };
        self.plan.steps.iter().filter_map(used).collect()
    }

    /// Volumes that held nothing but their root when they were saved.
    fn empty_volumes(&self) -> BTreeSet<String> {
        let is_empty = |stored: &StoredApplication, volume: &Volume| {
            let item = stored.document.item(ItemKind::Volume, &volume.name);
            matches!(item.map(|item| &item.outcome), Some(ItemOutcome::Complete { proof }) if proof.entries <= 1)
        };
        self.volumes.values().filter(|(stored, volume)| is_empty(stored, volume)).map(|(_, volume)| volume.name.clone()).collect()
    }

    /// Starts what ran, each after what it depends on, waiting for health where that was asked for and at the end.
    fn plan_starts(&mut self) {
        let mut waited = BTreeSet::new();
        let mut started = BTreeMap::new();
        let mut last = Vec::new();
        for index in self.order() {
            let chosen = &self.containers[index];
            let (application, container) = (chosen.application, chosen.container);
            if !chosen.starts {
                continue;
            }
            for needed in container.depends_on.iter().filter(|needed| needed.condition == DependencyCondition::Healthy) {
                if let Some(application) = started.get(needed.container.as_str()).copied()
                    && waited.insert(needed.container.as_str())
                {
                    let name = self.names.container(&needed.container);
                    self.step(application, Step::WaitHealthy { name });
                }
            }
            let name = self.names.container(&container.name);
            self.step(application, Step::StartContainer { name });
            started.insert(container.name.as_str(), application);
            last.push((application, container));
        }
        for (application, container) in &last {
            let had_health = matches!(container.state.health, Health::Healthy | Health::Starting);
            if had_health && container.state.status != Status::Paused && !waited.contains(container.name.as_str()) {
                let name = self.names.container(&container.name);
                self.step(application, Step::WaitHealthy { name });
            }
        }
        for (application, container) in last.iter().filter(|(_, container)| container.state.status == Status::Paused) {
            let name = self.names.container(&container.name);
            self.step(application, Step::PauseContainer { name });
        }
    }

    /// The fixed addresses of the restored containers.
    pub(super) fn fixed_addresses(&self) -> Vec<Fixed> {
        let mut found = Vec::new();
        for chosen in &self.containers {
            for (network, endpoint) in object(chosen.inspect, "/NetworkSettings/Networks").into_iter().flatten() {
                if is_predefined_network(network) || !self.names.keeps_addresses(network) {
                    continue;
                }
                for field in ["/IPAMConfig/IPv4Address", "/IPAMConfig/IPv6Address"] {
                    if let Some(address) = text(endpoint, field).and_then(|address| address.parse().ok()) {
                        let container = self.names.container(&chosen.container.name);
                        found.push(Fixed { container, network: self.names.network(network), address });
                    }
                }
            }
        }
        found
    }
}

/// Whether a volume was to be saved and could not be.
fn saving_failed(stored: &StoredApplication, volume: &str) -> bool {
    stored.document.item(ItemKind::Volume, volume).is_some_and(|item| matches!(item.outcome, ItemOutcome::Failed { .. }))
}

impl Naming {
    /// Gives what is made the new name of its compose project, so that it does not count as the old one's.
    fn label(&self, body: &mut Value) {
        const PROJECT: &str = "com.docker.compose.project";
        let new =
            body.pointer("/Labels/com.docker.compose.project").and_then(Value::as_str).and_then(|old| self.projects.get(old)).cloned();
        if let Some(new) = new {
            body["Labels"][PROJECT] = json!(new);
        }
    }
}

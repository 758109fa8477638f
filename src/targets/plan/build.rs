//! Puts the steps of a restore in their order.
//!
//! What is restored is chosen in `choose`; what stands in the way of a step is found in `checks`, under which name things come back in
//! `naming`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::checks::{self, Checked, Fixed};
use super::naming::{Naming, naming};
use super::{Conflict, PlanError, PlannedStep, RestoreOptions, RestorePlan, Step, StoredApplication};
use crate::docker::create::endpoints::static_addresses;
use crate::docker::create::json::{object, text};
use crate::docker::create::{ContainerRequest, Names, container_body, is_predefined_network, looks_automatic, network_body};
use crate::docker::discover::binds::data_path;
use crate::docker::quiesce::start_order;
use crate::model::application::{Container, DependencyCondition, Health, ItemKind, Status, Volume};
use crate::model::outcome::ItemOutcome;
use crate::model::text::printable;
use crate::targets::preflight::{Host, PROJECT_LABEL};

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
    pub(super) naming: Naming,
    pub(super) containers: Vec<ChosenContainer<'a>>,
    pub(super) volumes: BTreeMap<&'a str, (&'a StoredApplication, &'a Volume)>,
    pub(super) networks: BTreeMap<&'a str, (&'a str, &'a Value)>,
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
        plan: RestorePlan {
            steps: Vec::new(),
            conflicts: Vec::new(),
            notes: Vec::new(),
            asked: Vec::new(),
            uses: BTreeMap::new(),
            targets: Vec::new(),
            folders: BTreeMap::new(),
            roots: BTreeMap::new(),
        },
    };
    draft.choose();
    super::projects::check(&mut draft);
    let images = super::images::plan(&mut draft);
    draft.plan_networks()?;
    super::volumes::plan(&mut draft)?;
    let filled = super::binds::plan(&mut draft);
    draft.plan_containers(&images, &filled)?;
    super::half::hold(&mut draft);
    draft.plan_starts();
    super::engines::compare(&mut draft);
    super::in_place::frame(&mut draft);
    super::disks::silent(&mut draft);
    super::disks::mounted(&mut draft);
    super::disks::space(&mut draft);
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

    fn plan_networks(&mut self) -> Result<(), PlanError> {
        let mut made: Vec<(String, Value)> = Vec::new();
        for (name, (application, inspect)) in self.networks.clone() {
            if is_predefined_network(name) {
                continue;
            }
            let target = self.names.network(name);
            let fixed = self.needs_addresses(name, application, inspect);
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
    fn needs_addresses(&self, name: &str, application: &str, inspect: &Value) -> bool {
        let path = |container: &ChosenContainer<'_>| {
            let networks = object(container.inspect, "/NetworkSettings/Networks");
            networks.and_then(|networks| networks.get(name)).is_some_and(|endpoint| static_addresses(endpoint).is_some())
        };
        let pools = self.stored(application).map_or(&[][..], |stored| &stored.document.engine.address_pools);
        !looks_automatic(inspect, pools) || self.containers.iter().any(path)
    }

    /// What was saved of an application.
    fn stored(&self, application: &str) -> Option<&StoredApplication> {
        self.applications.iter().find(|stored| stored.document.application.name == application)
    }

    pub(super) fn same_engine(&self, application: &str) -> bool {
        self.stored(application)
            .is_some_and(|stored| !stored.document.engine.id.is_empty() && stored.document.engine.id == self.host.identity.id)
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
            let volumes = container.volume_names().map(|name| self.names.volume(name));
            let mounts = |path: &&String| {
                let mut mounted = container.mounts.iter().filter_map(data_path).map(Path::new);
                mounted.any(|mounted| mounted.starts_with(path) || Path::new(path).starts_with(mounted))
            };
            let devices = container.volume_names().filter_map(|name| self.volumes.get(name)?.1.device()).map(super::volumes::place_of);
            let places = volumes.chain(devices).chain(filled.iter().filter(mounts).cloned()).collect();
            self.plan.uses.insert(made.name.clone(), places);
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

impl Naming {
    /// Gives what is made the new name of its compose project, so that it does not count as the old one's.
    pub(super) fn label(&self, body: &mut Value) {
        let new = body["Labels"].get(PROJECT_LABEL).and_then(Value::as_str).and_then(|old| self.projects.get(old)).cloned();
        if let Some(new) = new {
            body["Labels"][PROJECT_LABEL] = json!(new);
        }
    }
}

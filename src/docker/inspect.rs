//! Reads the Engine's own JSON (inspect and list answers) into the model. The bytes themselves are what gets stored.
//!
//! The structs here have only the fields that bbackup looks at, and take `null` wherever an Engine may send it; what
//! creates a container again reads the stored bytes itself.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Deserializer};

use crate::docker::create::names::volume_name;
use crate::model::application::{
    Container, ContainerState, Dependency, DependencyCondition, DependencyReason, Health, Image, Mount, MountKind, Network, RestartPolicy,
    Status, Volume,
};

/// The label in which compose names the project.
pub(super) const PROJECT_LABEL: &str = "com.docker.compose.project";
/// The label in which compose names the service.
pub(super) const SERVICE_LABEL: &str = "com.docker.compose.service";
const DEPENDS_ON_LABEL: &str = "com.docker.compose.depends_on";
const SWARM_TASK_LABEL: &str = "com.docker.swarm.task.id";
/// What Engines write for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// `null` means the default.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// One line of `GET /containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ContainerLine {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) names: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable")]
    image: String,
    #[serde(rename = "ImageID", default, deserialize_with = "nullable")]
    image_id: String,
    #[serde(default, deserialize_with = "nullable")]
    mounts: serde_json::Value,
}

impl ContainerLine {
    /// What the line alone tells of the container, in the form of an inspect. Its state stays unknown, so that nobody stops it.
    pub(crate) fn as_inspect(&self) -> serde_json::Value {
        serde_json::json!({
            "Id": self.id, "Name": self.name(), "Image": self.image_id, "Mounts": self.mounts,
            "Config": {"Image": self.image, "Labels": self.labels},
        })
    }

    /// A name for messages: the shortest, since links add longer ones (`/web/db`).
    pub(crate) fn name(&self) -> &str {
        self.names.iter().min_by_key(|name| name.len()).map_or(self.id.as_str(), |name| name.trim_start_matches('/'))
    }
}

/// One line of `GET /images/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageLine {
    pub(crate) id: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) repo_digests: Vec<String>,
}

/// What an image is made for, in `GET /images/{id}/json` and, in other letters, in the description of a container.
#[derive(Debug, Deserialize, Default)]
pub(crate) struct RawPlatform {
    #[serde(alias = "Os", default)]
    os: String,
    #[serde(alias = "Architecture", default)]
    architecture: String,
    #[serde(alias = "Variant", default, deserialize_with = "nullable")]
    variant: String,
}

impl RawPlatform {
    /// `linux/arm64/v8`; empty if nothing is said.
    pub(crate) fn name(&self) -> String {
        let parts = [&self.os, &self.architecture, &self.variant].map(String::as_str);
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }
}

/// Which of an image's variants a container was made from (API 1.48).
#[derive(Debug, Deserialize, Default)]
struct RawManifest {
    #[serde(default, deserialize_with = "nullable")]
    platform: RawPlatform,
}

/// `GET /containers/{id}/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawContainer {
    id: String,
    #[serde(default, deserialize_with = "nullable")]
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    image: String,
    #[serde(default, deserialize_with = "nullable")]
    state: RawState,
    #[serde(default, deserialize_with = "nullable")]
    config: RawConfig,
    #[serde(default, deserialize_with = "nullable")]
    host_config: RawHostConfig,
    #[serde(default, deserialize_with = "nullable")]
    mounts: Vec<RawMount>,
    #[serde(default, deserialize_with = "nullable")]
    network_settings: RawNetworkSettings,
    #[serde(default, deserialize_with = "nullable")]
    image_manifest_descriptor: RawManifest,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawState {
    #[serde(deserialize_with = "nullable")]
    status: String,
    #[serde(deserialize_with = "nullable")]
    exit_code: i64,
    #[serde(deserialize_with = "nullable")]
    started_at: String,
    #[serde(deserialize_with = "nullable")]
    finished_at: String,
    #[serde(deserialize_with = "nullable")]
    health: RawHealth,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawHealth {
    #[serde(deserialize_with = "nullable")]
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    #[serde(deserialize_with = "nullable")]
    image: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    tty: bool,
    stop_signal: Option<String>,
    stop_timeout: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawHostConfig {
    #[serde(deserialize_with = "nullable")]
    network_mode: String,
    #[serde(deserialize_with = "nullable")]
    ipc_mode: String,
    #[serde(deserialize_with = "nullable")]
    pid_mode: String,
    #[serde(deserialize_with = "nullable")]
    links: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    volumes_from: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    auto_remove: bool,
    #[serde(deserialize_with = "nullable")]
    restart_policy: RawRestartPolicy,
    #[serde(deserialize_with = "nullable")]
    log_config: RawLogConfig,
    /// Folders in memory, with their options: `--tmpfs` is none of the mounts.
    #[serde(deserialize_with = "nullable")]
    tmpfs: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRestartPolicy {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    maximum_retry_count: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawLogConfig {
    #[serde(rename = "Type", deserialize_with = "nullable")]
    driver: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawMount {
    #[serde(rename = "Type", deserialize_with = "nullable")]
    kind: String,
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    source: String,
    #[serde(deserialize_with = "nullable")]
    destination: String,
    #[serde(rename = "RW")]
    writable: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawNetworkSettings {
    #[serde(deserialize_with = "nullable")]
    networks: BTreeMap<String, RawEndpoint>,
}

/// Only the names of the networks are looked at; the rest of each must only be JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawEndpoint {
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    _id: String,
}

/// `GET /volumes`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RawVolumes {
    #[serde(deserialize_with = "nullable")]
    pub(crate) volumes: Vec<RawVolume>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) warnings: Vec<String>,
}

/// One volume, as it is listed and inspected.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RawVolume {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    driver: String,
    #[serde(deserialize_with = "nullable")]
    options: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    mountpoint: String,
    #[serde(deserialize_with = "nullable")]
    scope: String,
    #[serde(deserialize_with = "nullable")]
    created_at: String,
}

impl From<RawVolume> for Volume {
    fn from(raw: RawVolume) -> Self {
        Self {
            name: raw.name,
            driver: raw.driver,
            options: raw.options,
            labels: raw.labels,
            mountpoint: raw.mountpoint,
            scope: raw.scope,
            created_at: raw.created_at,
            users: Vec::new(),
            reached_by: Vec::new(),
        }
    }
}

/// One network, as it is listed and inspected.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RawNetwork {
    #[serde(deserialize_with = "nullable")]
    pub(crate) id: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable")]
    driver: String,
    #[serde(deserialize_with = "nullable")]
    scope: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    ingress: bool,
    #[serde(rename = "IPAM", deserialize_with = "nullable")]
    ipam: RawIpam,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawIpam {
    #[serde(deserialize_with = "nullable")]
    config: Vec<RawIpamConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawIpamConfig {
    #[serde(deserialize_with = "nullable")]
    subnet: String,
}

impl RawNetwork {
    /// Whether the Engine makes it by itself, so that it is neither saved nor made again.
    pub(crate) fn is_default(&self) -> bool {
        self.ingress || matches!(self.name.as_str(), "bridge" | "host" | "none" | "docker_gwbridge")
    }
}

impl From<RawNetwork> for Network {
    fn from(raw: RawNetwork) -> Self {
        Self {
            id: raw.id,
            name: raw.name,
            driver: raw.driver,
            scope: raw.scope,
            labels: raw.labels,
            subnets: raw.ipam.config.into_iter().map(|config| config.subnet).filter(|subnet| !subnet.is_empty()).collect(),
            containers: Vec::new(),
        }
    }
}

/// A container whose references to others are still as the Engine has them.
#[derive(Debug)]
pub(crate) struct Unresolved {
    container: Container,
    /// Names or ids of other containers, and why they are needed.
    references: Vec<(String, DependencyReason)>,
}

impl Unresolved {
    /// The container so far.
    pub(crate) fn container(&self) -> &Container {
        &self.container
    }
}

/// Reads a container's inspect JSON. `digests` has, for each image that the Engine has, its names in registries.
///
/// # Errors
/// It is not the inspect JSON of a container.
pub(crate) fn container(raw: &[u8], digests: &HashMap<String, Vec<String>>) -> Result<Unresolved, serde_json::Error> {
    let raw: RawContainer = serde_json::from_slice(raw)?;
    let host = raw.host_config;
    let mut references = Vec::new();
    // `/db:/web/alias`: the name of the other one comes first.
    references.extend(host.links.iter().filter_map(|link| Some((bare(link.split(':').next()?), DependencyReason::Link))));
    // `db:ro`
    references.extend(host.volumes_from.iter().filter_map(|from| Some((bare(from.split(':').next()?), DependencyReason::VolumesFrom))));
    for mode in [&host.network_mode, &host.ipc_mode, &host.pid_mode] {
        references.extend(mode.strip_prefix("container:").map(|other| (bare(other), DependencyReason::Namespace)));
    }
    let labels = raw.config.labels;
    let never = |time: String| if time == NEVER { String::new() } else { time };
    let mut mounts: Vec<Mount> = raw.mounts.into_iter().map(mount).chain(host.tmpfs.keys().map(|folder| in_memory(folder))).collect();
    mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
    let container = Container {
        name: bare(&raw.name),
        id: raw.id,
        service: labels.get(SERVICE_LABEL).cloned(),
        image: Image {
            reference: raw.config.image,
            present: digests.contains_key(&raw.image),
            digests: digests.get(&raw.image).cloned().unwrap_or_default(),
            platform: raw.image_manifest_descriptor.platform.name(),
            id: raw.image,
        },
        state: ContainerState {
            status: Status::from_engine(&raw.state.status),
            health: Health::from_engine(&raw.state.health.status),
            exit_code: raw.state.exit_code,
            started_at: never(raw.state.started_at),
            finished_at: never(raw.state.finished_at),
        },
        mounts,
        networks: raw.network_settings.networks.into_keys().collect(),
        network_mode: host.network_mode,
        depends_on: Vec::new(),
        auto_remove: host.auto_remove,
        restart_policy: RestartPolicy {
            name: if host.restart_policy.name.is_empty() { "no".to_owned() } else { host.restart_policy.name },
            maximum_retries: host.restart_policy.maximum_retry_count,
        },
        swarm_task: labels.contains_key(SWARM_TASK_LABEL),
        labels,
        tty: raw.config.tty,
        log_driver: host.log_config.driver,
        stop_signal: raw.config.stop_signal.filter(|signal| !signal.is_empty()),
        stop_timeout_secs: raw.config.stop_timeout,
    };
    Ok(Unresolved { container, references })
}

fn bare(name: &str) -> String {
    name.trim_start_matches('/').to_owned()
}

fn mount(raw: RawMount) -> Mount {
    let kind = MountKind::from_engine(&raw.kind);
    let name = if kind == MountKind::Volume {
        volume_name(&raw.name, &raw.source)
    } else {
        Some(raw.name.as_str()).filter(|name| !name.is_empty())
    };
    Mount { name: name.map(str::to_owned), kind, source: raw.source, destination: raw.destination, read_only: raw.writable == Some(false) }
}

fn in_memory(folder: &str) -> Mount {
    let destination = format!("/{}", folder.trim_matches('/'));
    Mount { name: None, kind: MountKind::Tmpfs, source: String::new(), destination, read_only: false }
}

/// Finds for every container the names of those it depends on. References to containers that are not there are dropped:
/// they bind nobody.
pub(crate) fn resolve(all: Vec<Unresolved>) -> Vec<Container> {
    let mut names: HashMap<String, String> = HashMap::new();
    let mut services: HashMap<(String, String), Vec<String>> = HashMap::new();
    for Unresolved { container, .. } in &all {
        names.insert(container.id.clone(), container.name.clone());
        names.insert(container.name.clone(), container.name.clone());
        if let (Some(project), Some(service)) = (container.labels.get(PROJECT_LABEL), &container.service) {
            services.entry((project.clone(), service.clone())).or_default().push(container.name.clone());
        }
    }
    all.into_iter().map(|one| resolve_one(one, &names, &services)).collect()
}

fn resolve_one(
    Unresolved { mut container, references }: Unresolved,
    names: &HashMap<String, String>,
    services: &HashMap<(String, String), Vec<String>>,
) -> Container {
    let mut found: Vec<Dependency> = Vec::new();
    if let (Some(project), Some(label)) = (container.labels.get(PROJECT_LABEL), container.labels.get(DEPENDS_ON_LABEL)) {
        for (service, condition, restart) in depends_on(label) {
            for other in services.get(&(project.clone(), service)).into_iter().flatten() {
                found.push(Dependency { container: other.clone(), condition, reason: DependencyReason::DependsOn, restart });
            }
        }
    }
    for (reference, reason) in references {
        // An id may be abbreviated; an exact name wins over the beginning of an id.
        let other = names.get(&reference).or_else(|| {
            let short = reference.len() >= 12 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
            names.iter().find(|(id, _)| short && id.len() == 64 && id.starts_with(&reference)).map(|(_, name)| name)
        });
        let Some(other) = other else { continue };
        match found.iter_mut().find(|known| known.container == *other) {
            // Who lives in another one's network needs it in a stronger sense, whatever else is said of both. Compose says
            // `depends_on` of each such service by itself.
            Some(known) if reason == DependencyReason::Namespace => known.reason = reason,
            Some(_) => {}
            None => found.push(Dependency { container: other.clone(), condition: DependencyCondition::Started, reason, restart: false }),
        }
    }
    found.retain(|dependency| dependency.container != container.name);
    found.sort_by(|a, b| a.container.cmp(&b.container));
    found.dedup_by(|a, b| a.container == b.container);
    container.depends_on = found;
    container
}

/// Reads compose's label: `db:service_healthy:true,cache:service_started:false`; older versions write only the names.
fn depends_on(label: &str) -> impl Iterator<Item = (String, DependencyCondition, bool)> {
    label.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(|entry| {
        let mut parts = entry.split(':');
        let service = parts.next().unwrap_or_default().to_owned();
        let condition = match parts.next() {
            Some("service_healthy") => DependencyCondition::Healthy,
            Some("service_completed_successfully") => DependencyCondition::CompletedSuccessfully,
            _ => DependencyCondition::Started,
        };
        (service, condition, parts.next() == Some("true"))
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::{Value, json};

    use super::*;

    fn inspect(id: char, name: &str, more: Value) -> Unresolved {
        let mut raw =
            json!({"Id": id.to_string().repeat(64), "Name": format!("/{name}"), "State": {"Status": "running"}, "Image": "sha256:1"});
        raw.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        container(raw.to_string().as_bytes(), &HashMap::from([("sha256:1".to_owned(), vec!["a@sha256:2".to_owned()])])).unwrap()
    }

    #[test]
    fn nulls_are_taken_for_what_is_not_there() {
        let raw = json!({"Id": "x", "Name": "/n", "Image": null, "State": null, "Config": {"Labels": null, "Tty": null}, "Mounts": null,
            "HostConfig": {"Links": null, "VolumesFrom": null, "RestartPolicy": null, "LogConfig": null}, "NetworkSettings": {"Networks": null}});
        let one = container(raw.to_string().as_bytes(), &HashMap::new()).unwrap().container;
        assert_eq!((one.name.as_str(), one.state.status, one.image.present), ("n", Status::Unknown, false));
        assert_eq!(one.restart_policy.name, "no");
        assert!(container(b"[]", &HashMap::new()).is_err());
        assert!(container(b"{\"Id\":", &HashMap::new()).is_err());
    }

    #[test]
    fn dependencies_come_from_all_places_where_they_are_said() {
        let project = |service: &str, depends: &str| json!({"Config": {"Labels": {PROJECT_LABEL: "shop", SERVICE_LABEL: service, DEPENDS_ON_LABEL: depends}}});
        let mut web = project("web", "db:service_healthy:true,gone:service_started:false");
        web["HostConfig"] = json!({"Links": ["/cache:/web/c"], "VolumesFrom": ["files:ro"], "NetworkMode": format!("container:{}", "e".repeat(64)),
            "PidMode": "container:cccccccccccc"});
        let all = resolve(vec![
            inspect('a', "shop-web-1", web),
            inspect('b', "shop-db-1", project("db", "")),
            inspect('c', "cache", json!({})),
            inspect('d', "files", json!({})),
            inspect('e', "vpn", json!({"HostConfig": {"NetworkMode": "container:vpn"}})),
        ]);
        let found: Vec<_> = all[0].depends_on.iter().map(|one| (one.container.as_str(), one.condition, one.reason, one.restart)).collect();
        assert_eq!(
            found,
            [
                ("cache", DependencyCondition::Started, DependencyReason::Namespace, false),
                ("files", DependencyCondition::Started, DependencyReason::VolumesFrom, false),
                ("shop-db-1", DependencyCondition::Healthy, DependencyReason::DependsOn, true),
                ("vpn", DependencyCondition::Started, DependencyReason::Namespace, false),
            ]
        );
        assert!(all[4].depends_on.is_empty(), "nothing depends on itself");
    }

    #[test]
    fn who_lives_in_the_network_of_another_is_known_although_compose_says_that_it_depends_on_it() {
        let labels = |service: &str, depends: &str| json!({PROJECT_LABEL: "p", SERVICE_LABEL: service, DEPENDS_ON_LABEL: depends});
        // Of `network_mode: service:vpn` compose makes both.
        for mode in ["NetworkMode", "IpcMode", "PidMode"] {
            let guest = json!({"Config": {"Labels": labels("torrent", "vpn:service_healthy:true")}, "HostConfig": {mode: format!("container:{}", "b".repeat(64)),
                "Links": ["/p-vpn-1:/p-torrent-1/vpn"]}});
            let all = resolve(vec![
                inspect('a', "p-torrent-1", guest),
                inspect('b', "p-vpn-1", json!({"Config": {"Labels": labels("vpn", "")}})),
            ]);
            let expected = Dependency {
                container: "p-vpn-1".to_owned(),
                condition: DependencyCondition::Healthy,
                reason: DependencyReason::Namespace,
                restart: true,
            };
            assert_eq!(all[0].depends_on, [expected], "{mode}");
        }
    }

    #[test]
    fn the_same_name_in_two_projects_is_two_services() {
        let of = |project: &str, service: &str| json!({"Config": {"Labels": {PROJECT_LABEL: project, SERVICE_LABEL: service, DEPENDS_ON_LABEL: "db"}}});
        let all = resolve(vec![
            inspect('a', "one-web", of("one", "web")),
            inspect('b', "one-db", of("one", "db")),
            inspect('c', "two-db", of("two", "db")),
        ]);
        assert_eq!(all[0].depends_on.iter().map(|one| one.container.as_str()).collect::<Vec<_>>(), ["one-db"]);
        assert!(all[2].depends_on.is_empty());
    }
}

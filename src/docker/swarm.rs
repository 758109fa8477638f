//! Services of a swarm: what is known of one, how many tasks it is to have, and which of them run.
//!
//! When a service is scaled, and that it comes back, is the business of `quiesce`.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::Value;

use super::connect::Engine;
use super::error::DockerError;
use super::wire::encode;

/// How long swarm lets a task take to end unless its service says otherwise.
const GRACE: Duration = Duration::from_secs(10);
/// Where the number of replicas stands in a service's specification.
const REPLICAS: &str = "/Mode/Replicated/Replicas";

/// A service as it is now.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Counts its changes; a change has to name the one that it is made to.
    pub version: u64,
    /// How many tasks it is to have; none where nobody says a number: one on each node, or a job.
    pub replicas: Option<u64>,
    /// The service's own labels, not those of its containers.
    pub labels: BTreeMap<String, String>,
    /// How long a task may take to end before it is killed.
    pub grace: Duration,
    /// All of it, in the words of the Engine.
    specification: Value,
}

/// A task of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// The node that it is on; empty before it is on any.
    pub node: String,
    /// What it does: `running`, `shutdown`, …
    pub state: String,
    /// What it is meant to do.
    pub desired: String,
    /// What went wrong with it; empty where nothing did.
    pub error: String,
}

/// How a change of the number of replicas went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    Made,
    /// Somebody else changes the service at the same moment: look again.
    Overtaken,
}

#[derive(Deserialize)]
struct RawService {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Version")]
    version: RawVersion,
    #[serde(rename = "Spec")]
    specification: Value,
}

#[derive(Deserialize)]
struct RawVersion {
    #[serde(rename = "Index")]
    index: u64,
}

#[derive(Deserialize)]
struct RawTask {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "NodeID", default)]
    node: String,
    #[serde(rename = "DesiredState", default)]
    desired: String,
    #[serde(rename = "Status", default)]
    status: RawStatus,
}

#[derive(Deserialize, Default)]
struct RawStatus {
    #[serde(rename = "State", default)]
    state: String,
    #[serde(rename = "Err", default)]
    error: String,
}

#[derive(Deserialize)]
struct RawNode {
    #[serde(rename = "Status", default)]
    status: RawStatus,
}

impl Task {
    /// Whether it runs, or may yet.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state.as_str(), "complete" | "shutdown" | "failed" | "rejected" | "remove" | "orphaned")
    }

    /// Whether it runs and is meant to.
    pub fn runs(&self) -> bool {
        self.state == "running" && self.desired == "running"
    }
}

/// A service; none if there is no such one.
///
/// # Errors
/// The Engine is no manager of a swarm, or cannot be asked.
pub async fn service(engine: &Engine, id: &str) -> Result<Option<Service>, DockerError> {
    // In the Engine's newest words: in older ones it leaves out what they have no word for, and a change would take that away.
    let answer = engine.wire().unversioned().get_bytes(&format!("/services/{}", encode(id))).await;
    let bytes = match answer {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    let RawService { id, version, specification } = decode("GET /services/{id}", &bytes)?;
    let text = |field: &str| specification.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let labels = specification.get("Labels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    let grace = specification.pointer("/TaskTemplate/ContainerSpec/StopGracePeriod").and_then(Value::as_u64);
    Ok(Some(Service {
        name: text("Name"),
        version: version.index,
        replicas: replicas(&specification),
        labels,
        grace: grace.map_or(GRACE, Duration::from_nanos),
        id,
        specification,
    }))
}

/// A service that is replicated and says no number has one task.
fn replicas(specification: &Value) -> Option<u64> {
    let replicated = specification.pointer("/Mode/Replicated")?;
    Some(replicated.get("Replicas").and_then(Value::as_u64).unwrap_or(1))
}

/// Changes how many tasks a replicated service is to have, and nothing else of it. Returns before that is so.
///
/// # Errors
/// The Engine refuses, or cannot be asked.
pub async fn scale(engine: &Engine, service: &Service, replicas: u64) -> Result<Change, DockerError> {
    let mut specification = service.specification.clone();
    match specification.pointer_mut(REPLICAS) {
        Some(number) => *number = replicas.into(),
        None => {
            if let Some(Value::Object(replicated)) = specification.pointer_mut("/Mode/Replicated") {
                replicated.insert("Replicas".to_owned(), replicas.into());
            }
        }
    }
    let path = format!("/services/{}/update?version={}", encode(&service.id), service.version);
    match engine.wire().unversioned().call(Method::POST, &path, Some(specification.to_string().into_bytes())).await {
        Ok(_) => Ok(Change::Made),
        Err(DockerError::Api { message, .. }) if message.contains("out of sequence") => Ok(Change::Overtaken),
        Err(error) => Err(error),
    }
}

/// The tasks of a service on all nodes, those that have ended among them as long as the swarm remembers them.
///
/// # Errors
/// The Engine is no manager of a swarm, or cannot be asked.
pub async fn tasks(engine: &Engine, service: &str) -> Result<Vec<Task>, DockerError> {
    let filters = serde_json::json!({"service": [service]}).to_string();
    let bytes = engine.wire().get_bytes(&format!("/tasks?filters={}", encode(&filters))).await?;
    let tasks: Vec<RawTask> = decode("GET /tasks", &bytes)?;
    let task = |raw: RawTask| Task { id: raw.id, node: raw.node, state: raw.status.state, desired: raw.desired, error: raw.status.error };
    Ok(tasks.into_iter().map(task).collect())
}

/// Whether containers of a service run on this node, paused ones among them.
///
/// # Errors
/// The Engine cannot be asked.
pub async fn runs_here(engine: &Engine, service: &str) -> Result<bool, DockerError> {
    let filters = serde_json::json!({"label": [format!("com.docker.swarm.service.id={service}")]}).to_string();
    let bytes = engine.wire().get_bytes(&format!("/containers/json?filters={}", encode(&filters))).await?;
    decode::<Vec<Value>>("GET /containers/json", &bytes).map(|found| !found.is_empty())
}

/// Whether the swarm has lost a node. One that cannot be asked about is taken for there.
pub async fn is_lost(engine: &Engine, node: &str) -> bool {
    let Ok(bytes) = engine.wire().get_bytes(&format!("/nodes/{}", encode(node))).await else { return false };
    decode::<RawNode>("GET /nodes/{id}", &bytes).is_ok_and(|node| node.status.state == "down")
}

/// Whether an error says that nothing was done, nor will be however often it is tried: this is no manager, or a proxy forbids it.
pub fn is_refusal(error: &DockerError) -> bool {
    match error {
        DockerError::Denied { .. } => true,
        DockerError::Api { status, message, .. } => {
            matches!(status, 400..=499 | 501) || *status == 503 && message.contains("not a swarm manager")
        }
        _ => false,
    }
}

/// Why a service cannot be scaled, as part of a sentence.
pub fn refusal(error: &DockerError) -> String {
    match error {
        DockerError::Api { status: 503, .. } if is_refusal(error) => "this node is not a manager of the swarm".to_owned(),
        other => other.to_string(),
    }
}

fn decode<T: serde::de::DeserializeOwned>(call: &str, bytes: &[u8]) -> Result<T, DockerError> {
    serde_json::from_slice(bytes).map_err(|error| DockerError::Malformed { call: call.to_owned(), source: error.into() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_replicated_services_have_a_number() {
        assert_eq!(replicas(&json!({"Mode": {"Replicated": {"Replicas": 3}}})), Some(3));
        assert_eq!(replicas(&json!({"Mode": {"Replicated": {}}})), Some(1));
        for mode in ["Global", "ReplicatedJob", "GlobalJob"] {
            assert_eq!(replicas(&json!({"Mode": {mode: {}}})), None, "{mode}");
        }
    }

    #[test]
    fn a_task_is_alive_until_it_has_ended_for_good() {
        let task = |state: &str, desired: &str| Task {
            id: String::new(),
            node: String::new(),
            state: state.to_owned(),
            desired: desired.to_owned(),
            error: String::new(),
        };
        for state in ["new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running"] {
            assert!(task(state, "remove").is_alive(), "{state}");
        }
        for state in ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"] {
            assert!(!task(state, "remove").is_alive(), "{state}");
        }
        assert!(task("running", "running").runs() && !task("running", "remove").runs() && !task("starting", "running").runs());
    }

    #[test]
    fn a_refusal_is_told_from_trouble() {
        let api =
            |status, message: &str| DockerError::Api { call: "POST /services/x/update".to_owned(), status, message: message.to_owned() };
        assert!(is_refusal(&api(503, "This node is not a swarm manager. Use …")) && is_refusal(&api(501, "mode")));
        assert!(is_refusal(&DockerError::Denied { call: String::new(), message: String::new() }));
        for trouble in [api(503, "no leader"), api(500, "deadline"), DockerError::Timeout { call: String::new(), seconds: 1 }] {
            assert!(!is_refusal(&trouble), "{trouble}");
        }
    }
}

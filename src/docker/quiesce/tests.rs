//! The tests of what is done to whom before anything is done; the doing is tested on a real Engine.

#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::model::application::{
    Consistency, Container, ContainerState, Dependency, DependencyCondition, DependencyReason, Health, Image, Mount, MountKind,
    RestartPolicy,
};

/// A running container that depends on others.
pub(super) fn container(name: &str, needs: &[&str]) -> Container {
    Container {
        id: format!("id-{name}"),
        name: name.to_owned(),
        service: None,
        image: Image::default(),
        state: ContainerState {
            status: Status::Running,
            health: Health::None,
            exit_code: 0,
            started_at: String::new(),
            finished_at: String::new(),
        },
        labels: std::collections::BTreeMap::new(),
        mounts: Vec::new(),
        networks: Vec::new(),
        network_mode: "bridge".to_owned(),
        depends_on: needs.iter().map(|needed| dependency(needed, DependencyReason::DependsOn)).collect(),
        auto_remove: false,
        restart_policy: RestartPolicy::default(),
        swarm_task: false,
        tty: false,
        log_driver: "json-file".to_owned(),
        stop_signal: None,
        stop_timeout_secs: None,
    }
}

fn dependency(container: &str, reason: DependencyReason) -> Dependency {
    Dependency { container: container.to_owned(), condition: DependencyCondition::Started, reason, restart: false }
}

fn guest_of(name: &str, host: &str) -> Container {
    let mut guest = container(name, &[]);
    guest.depends_on = vec![dependency(host, DependencyReason::Namespace)];
    guest
}

fn actions(request: &QuiesceRequest, consistency: Consistency) -> Vec<(String, Action)> {
    decide(request, consistency).planned.into_iter().map(|planned| (planned.name, planned.action)).collect()
}

fn named(list: &[(&str, Action)]) -> Vec<(String, Action)> {
    list.iter().map(|(name, action)| ((*name).to_owned(), *action)).collect()
}

#[test]
fn what_depends_on_others_is_stopped_first() {
    let request = QuiesceRequest {
        containers: vec![container("db", &[]), container("web", &["app"]), container("app", &["db"])],
        ..Default::default()
    };
    assert_eq!(actions(&request, Consistency::Stop), named(&[("web", Action::Stop), ("app", Action::Stop), ("db", Action::Stop)]));
    assert_eq!(actions(&request, Consistency::Pause), named(&[("web", Action::Pause), ("app", Action::Pause), ("db", Action::Pause)]));
    assert_eq!(actions(&request, Consistency::None), []);
}

#[test]
fn only_what_runs_is_touched() {
    let with = |name: &str, status| {
        let mut made = container(name, &[]);
        made.state.status = status;
        made
    };
    let containers = vec![
        with("created", Status::Created),
        with("exited", Status::Exited),
        with("paused", Status::Paused),
        with("restarting", Status::Restarting),
        with("dead", Status::Dead),
    ];
    let request = QuiesceRequest { containers, ..Default::default() };
    assert_eq!(actions(&request, Consistency::Stop), named(&[("restarting", Action::Stop)]));
    assert_eq!(actions(&request, Consistency::Pause), [], "nothing of it is there to be frozen");
}

#[test]
fn what_a_stop_would_destroy_is_paused() {
    let mut removed = container("removed", &[]);
    removed.auto_remove = true;
    let mut task = container("task", &[]);
    task.swarm_task = true;
    let mut memory = container("memory", &[]);
    memory.mounts.push(Mount {
        kind: MountKind::Volume,
        name: Some("ram".to_owned()),
        source: String::new(),
        destination: "/ram".to_owned(),
        read_only: false,
    });
    let request = QuiesceRequest {
        containers: vec![removed, task, memory, container("plain", &[])],
        volatile_volumes: ["ram".to_owned()].into(),
        ..Default::default()
    };
    let plan = decide(&request, Consistency::Stop);
    let found: Vec<_> = plan.planned.iter().map(|planned| (planned.name.as_str(), planned.action, planned.note.is_some())).collect();
    assert_eq!(
        found,
        [("task", Action::Pause, true), ("removed", Action::Pause, true), ("plain", Action::Stop, false), ("memory", Action::Pause, true)]
    );
}

/// A running task of the service `web`.
fn task(name: &str) -> Container {
    let mut task = container(name, &[]);
    task.swarm_task = true;
    let labels = [("com.docker.swarm.service.id", "s1"), ("com.docker.swarm.service.name", "web")];
    task.labels.extend(labels.map(|(key, value)| (key.to_owned(), value.to_owned())));
    task.mounts.push(Mount {
        kind: MountKind::Volume,
        name: Some("data".to_owned()),
        source: String::new(),
        destination: "/data".to_owned(),
        read_only: false,
    });
    task
}

#[test]
fn a_service_is_scaled_as_a_whole_where_that_is_asked_for() {
    let asked =
        |containers: Vec<Container>| QuiesceRequest { containers, services: [("s1".to_owned(), Ok(()))].into(), ..Default::default() };
    let both = || vec![task("web.1"), task("web.2"), container("db", &[])];
    let plan = decide(&asked(both()), Consistency::Stop);
    let found: Vec<_> = plan.planned.iter().map(|planned| (planned.id.as_str(), planned.name.as_str(), planned.action)).collect();
    assert_eq!(found, [("s1", "web", Action::Scale), ("id-db", "db", Action::Stop)]);
    let service = plan.planned[0].service.as_ref().unwrap();
    let tasks: Vec<_> = service.tasks.iter().map(|task| (task.name.as_str(), task.action)).collect();
    assert_eq!(tasks, [("web.2", Action::Pause), ("web.1", Action::Pause)]);
    assert_eq!(service.mounts, ["data"]);
    let paused = named(&[("web.2", Action::Pause), ("web.1", Action::Pause), ("db", Action::Stop)]);
    assert_eq!(actions(&QuiesceRequest { containers: both(), ..Default::default() }, Consistency::Stop), paused, "nobody has asked for it");
    assert!(actions(&asked(both()), Consistency::Pause).iter().all(|(_, action)| *action == Action::Pause));
}

#[test]
fn a_service_is_not_scaled_where_one_of_its_tasks_must_not_end() {
    let mut nameless = task("web.2");
    nameless.mounts.push(Mount { name: Some("0123456789abcdef".repeat(4)), ..nameless.mounts[0].clone() });
    let containers = || vec![task("web.1"), task("web.2")];
    let base = || QuiesceRequest { containers: containers(), services: [("s1".to_owned(), Ok(()))].into(), ..Default::default() };
    let post = ContainerHooks { pre: Vec::new(), post: vec![crate::model::hook::Hook::of_line("true", "test".to_owned())] };
    for (request, why) in [
        (QuiesceRequest { services: [("s1".to_owned(), Err("it is a job".to_owned()))].into(), ..base() }, "it is a job"),
        (QuiesceRequest { containers: vec![task("web.1"), nameless], ..base() }, "its anonymous volume"),
        (QuiesceRequest { layers_read: ["web.1".to_owned()].into(), ..base() }, "outside its mounts"),
        (QuiesceRequest { volatile_volumes: ["data".to_owned()].into(), ..base() }, "lives in memory"),
        (QuiesceRequest { hooks: [("web.2".to_owned(), post)].into(), ..base() }, "exec-post"),
        (QuiesceRequest { bystanders: vec![guest_of("torrent", "web.1")], ..base() }, "torrent"),
    ] {
        let plan = decide(&request, Consistency::Stop);
        assert!(plan.planned.len() == 2 && plan.planned.iter().all(|planned| planned.action == Action::Pause), "{why}: {plan:?}");
        assert!(plan.planned.iter().any(|planned| planned.note.as_ref().unwrap().contains(why)), "{why}: {plan:?}");
    }
    let ours = QuiesceRequest { protected: [("id-web.1".to_owned(), "bbackup runs in it".to_owned())].into(), ..base() };
    assert_eq!(actions(&ours, Consistency::Stop), named(&[("web.2", Action::Pause)]));
    let elsewhere = QuiesceRequest { containers: vec![task("web.2")], bystanders: vec![task("web.1")], ..ours };
    assert_eq!(actions(&elsewhere, Consistency::Stop), named(&[("web.2", Action::Pause)]));
}

#[test]
fn we_do_not_stop_what_we_stand_on() {
    let request = QuiesceRequest {
        containers: vec![container("us", &[]), container("db", &[])],
        protected: [("id-us".to_owned(), "bbackup runs in it".to_owned())].into(),
        ..Default::default()
    };
    let plan = decide(&request, Consistency::Stop);
    assert_eq!((plan.planned.len(), plan.planned[0].name.as_str(), plan.notes.len()), (1, "db", 1));
}

#[test]
fn a_label_beats_the_set() {
    let wish = |consistency, priority| Wishes { consistency, priority, stop_timeout: Some(Duration::from_secs(7)) };
    let request = QuiesceRequest {
        containers: ["a", "b", "c", "d", "e"].map(|name| container(name, &[])).into(),
        wishes: [
            ("a", wish(Some(Consistency::None), None)),
            ("b", wish(Some(Consistency::Pause), None)),
            ("c", wish(None, Some(200))),
            ("d", wish(Some(Consistency::Stop), Some(-5))),
        ]
        .map(|(name, wish)| (name.to_owned(), wish))
        .into(),
        ..Default::default()
    };
    let expected = named(&[("c", Action::Stop), ("e", Action::Stop), ("b", Action::Pause), ("d", Action::Stop)]);
    assert_eq!(actions(&request, Consistency::Stop), expected);
    let timeouts: Vec<bool> = decide(&request, Consistency::Stop).planned.iter().map(|planned| planned.stop_timeout.is_some()).collect();
    assert_eq!(timeouts, [true, false, true, true]);
    assert_eq!(actions(&request, Consistency::None), named(&[("b", Action::Pause), ("d", Action::Stop)]));
}

#[test]
fn a_container_that_lends_its_network_is_not_stopped_under_its_guest() {
    let stopped = QuiesceRequest { containers: vec![container("vpn", &[]), guest_of("torrent", "vpn")], ..Default::default() };
    assert_eq!(
        actions(&stopped, Consistency::Stop),
        named(&[("torrent", Action::Stop), ("vpn", Action::Stop)]),
        "both go and both come back"
    );
    let bystander =
        QuiesceRequest { containers: vec![container("vpn", &[])], bystanders: vec![guest_of("torrent", "vpn")], ..Default::default() };
    assert_eq!(actions(&bystander, Consistency::Stop), named(&[("vpn", Action::Pause)]));
    let mut guest = guest_of("torrent", "vpn");
    guest.auto_remove = true;
    let chain = QuiesceRequest { containers: vec![container("base", &[]), guest_of("vpn", "base"), guest], ..Default::default() };
    assert!(actions(&chain, Consistency::Stop).iter().all(|(_, action)| *action == Action::Pause), "all the way down");
    let mut ended = guest_of("torrent", "vpn");
    ended.state.status = Status::Exited;
    let request = QuiesceRequest { containers: vec![container("vpn", &[])], bystanders: vec![ended], ..Default::default() };
    assert_eq!(actions(&request, Consistency::Stop), named(&[("vpn", Action::Stop)]));
}

#[test]
fn failures_name_the_container_and_what_it_was() {
    let cause = StartCause::Ended { exit_code: 3 };
    let failure = StartFailure { container: "db".to_owned(), id: String::new(), before: Status::Running, action: Action::Stop, cause };
    assert_eq!(failure.to_string(), "container db was running before the backup and could not be started again");
    assert_eq!(std::error::Error::source(&failure).unwrap().to_string(), "it ended at once with exit code 3");
}

#[test]
fn what_another_run_keeps_still_counts_as_running() {
    let mut held = container("db", &[]);
    held.state.status = Status::Exited;
    let mut request = QuiesceRequest { containers: vec![held], ..Default::default() };
    assert!(decide(&request, Consistency::Stop).planned.is_empty());
    request.held_elsewhere.insert(request.containers[0].id.clone());
    assert_eq!(decide(&request, Consistency::Stop).planned.len(), 1);
    // It is known by what it did before, and still can neither run a command nor be restarting.
    request.hooks.insert(
        "db".to_owned(),
        ContainerHooks { pre: vec![crate::model::hook::Hook::of_line("true", "test".to_owned())], post: Vec::new() },
    );
    for before in [Status::Running, Status::Restarting] {
        request.containers[0].state.status = before;
        let plan = decide(&request, Consistency::Pause);
        assert_eq!((plan.planned.len(), plan.hooks.len(), plan.not_run.len(), plan.notes.len()), (1, 0, 0, 1), "{before:?}");
    }
    // What nobody keeps still and does not run can run none either, and that is to be seen.
    request.held_elsewhere.clear();
    for (state, told) in [
        (Status::Restarting, "keeps restarting"),
        (Status::Paused, "is paused"),
        (Status::Exited, "is stopped"),
        (Status::Created, "was never started"),
    ] {
        request.containers[0].state.status = state;
        let plan = decide(&request, Consistency::Stop);
        assert!(plan.hooks.is_empty() && plan.not_run.len() == 1, "{plan:?}");
        assert!(plan.not_run[0].starts_with("exec-pre of container db (test) is not run") && plan.not_run[0].contains(told), "{plan:?}");
    }
    request.left_down.insert(request.containers[0].id.clone());
    let plan = decide(&request, Consistency::Stop);
    assert_eq!((plan.not_run.len(), plan.notes.len()), (0, 1));
    // A command that compose ran once has its service's labels, and is no service.
    request.left_down.clear();
    request.containers[0].state.status = Status::Exited;
    request.containers[0].labels.insert("com.docker.compose.oneoff".to_owned(), "True".to_owned());
    assert_eq!(decide(&request, Consistency::Stop).not_run.len(), 0);
    // So has a task that the swarm has replaced, and only that.
    request.containers[0].labels.clear();
    request.containers[0].labels.insert("com.docker.swarm.service.id".to_owned(), "s".to_owned());
    request.containers[0].swarm_task = true;
    assert_eq!(decide(&request, Consistency::Stop).not_run.len(), 1);
    let mut next = request.containers[0].clone();
    (next.id, next.name, next.state.status) = ("next".to_owned(), "db.2".to_owned(), Status::Running);
    request.containers.push(next);
    assert_eq!(decide(&request, Consistency::Stop).not_run.len(), 0);
}

//! Which containers, volumes and networks a selection means: globs, what they take away, and what labels say.
//!
//! What is saved of them is decided in the module above.

use std::collections::HashSet;
use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use crate::config::{Selection, suggest};
use crate::docker::Discovery;
use crate::docker::discover::binds::data_path;
use crate::docker::labels::Policy;
use crate::model::application::{Application, ApplicationKind, Container, LeftOut, Network, Volume, VolumeUser};
use crate::model::text::printable;

/// Something that was named and is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// `container`, `project`, `volume`, `label`.
    pub kind: &'static str,
    /// As it was written.
    pub wanted: String,
    /// The name that comes closest.
    pub closest: Option<String>,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = printable(self.wanted.as_bytes());
        match (self.kind, &self.closest) {
            ("label", _) => write!(f, "no container has the label `{wanted}`"),
            (kind, Some(closest)) => write!(f, "no {kind} is called `{wanted}`; the closest is `{}`", printable(closest.as_bytes())),
            (kind, None) => write!(f, "no {kind} is called `{wanted}`"),
        }
    }
}

/// Why nothing can be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Names that are not there.
    #[error("{}", .misses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoMatch {
        /// Each of them; at least one.
        misses: Vec<Miss>,
    },
    /// A glob cannot be understood.
    #[error("`{pattern}` is not a pattern: {reason}")]
    Pattern {
        /// As it was written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl PlanError {
    /// Whether planning again may help without anybody changing anything: never.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// One list of globs.
#[derive(Debug, Default)]
struct Globs {
    include: Vec<Glob>,
    exclude: Vec<GlobMatcher>,
}

#[derive(Debug)]
struct Glob {
    written: String,
    matcher: GlobMatcher,
    used: bool,
}

impl Globs {
    fn parse(list: &[String]) -> Result<Self, PlanError> {
        let mut globs = Self::default();
        for written in list {
            let (pattern, exclude) = match written.strip_prefix('!') {
                Some(rest) => (rest, true),
                None => (written.as_str(), false),
            };
            let wrong = |reason: String| PlanError::Pattern { pattern: written.clone(), reason };
            if pattern.is_empty() {
                return Err(wrong("it is empty".to_owned()));
            }
            let matcher = GlobBuilder::new(pattern).build().map_err(|error| wrong(error.kind().to_string()))?.compile_matcher();
            if exclude {
                globs.exclude.push(matcher);
            } else {
                globs.include.push(Glob { written: written.clone(), matcher, used: false });
            }
        }
        Ok(globs)
    }

    /// Whether one of the patterns asks for this name. All that do count as used.
    fn wants(&mut self, name: &str) -> bool {
        let mut wanted = false;
        for glob in self.include.iter_mut().filter(|glob| glob.matcher.is_match(name)) {
            glob.used = true;
            wanted = true;
        }
        wanted
    }

    /// Whether it is there by its very name, not by a pattern.
    fn names(&self, name: &str) -> bool {
        self.include.iter().any(|glob| glob.written == name)
    }

    fn refuses(&self, name: &str) -> bool {
        self.exclude.iter().any(|glob| glob.is_match(name))
    }
}

/// All lists of a selection.
#[derive(Debug)]
pub(super) struct Patterns {
    everything: bool,
    containers: Globs,
    projects: Globs,
    volumes: Globs,
    labels: Globs,
}

impl Patterns {
    pub(super) fn parse(selection: &Selection) -> Result<Self, PlanError> {
        let mut patterns = Self {
            everything: selection.everything,
            containers: Globs::parse(&selection.containers)?,
            projects: Globs::parse(&selection.projects)?,
            volumes: Globs::parse(&selection.volumes)?,
            labels: Globs::parse(&selection.labels)?,
        };
        // Who only takes away takes away from everything.
        let lists = [&patterns.containers, &patterns.projects, &patterns.volumes, &patterns.labels];
        let nothing_named = lists.iter().all(|globs| globs.include.is_empty());
        patterns.everything |= nothing_named && lists.iter().any(|globs| !globs.exclude.is_empty());
        Ok(patterns)
    }

    /// What was named and matched nothing.
    pub(super) fn misses(&self, discovery: &Discovery) -> Vec<Miss> {
        let projects: Vec<&str> = discovery.applications.iter().filter_map(project).collect();
        let containers: Vec<&str> = discovery.containers().flat_map(names).collect();
        let volumes: Vec<&str> = discovery.volumes().map(|one| one.name.as_str()).collect();
        let lists = [
            ("container", &self.containers, containers),
            ("project", &self.projects, projects),
            ("volume", &self.volumes, volumes),
            ("label", &self.labels, Vec::new()),
        ];
        let mut misses = Vec::new();
        for (kind, globs, names) in lists {
            for glob in globs.include.iter().filter(|glob| !glob.used) {
                misses.push(Miss { kind, wanted: glob.written.clone(), closest: closest(&glob.written, &names) });
            }
        }
        misses
    }
}

/// The name that is most like `wanted`, if any is like it at all.
pub(super) fn closest(wanted: &str, names: &[&str]) -> Option<String> {
    let likeness = |name: &&&str| (strsim::jaro_winkler(wanted, name) * 1000.0) as u32;
    let alike = || names.iter().filter(|name| likeness(name) >= 750).max_by_key(likeness).copied();
    suggest::closest(wanted, names.iter().copied()).or_else(alike).map(str::to_owned)
}

/// The name by which a compose project or a stack is chosen as a whole.
fn project(application: &Application) -> Option<&str> {
    let stack = || (application.kind == ApplicationKind::Stack).then_some(application.name.as_str());
    application.compose.as_ref().map(|compose| compose.project.as_str()).or_else(stack)
}

/// The names by which a container is chosen: a task of a swarm has another one each time, so that of its service counts as well.
fn names(container: &Container) -> impl Iterator<Item = &str> {
    std::iter::once(container.name.as_str()).chain(container.swarm_service().map(|service| service.name))
}

/// What a selection means on this Engine.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub(super) containers: HashSet<&'a str>,
    pub(super) volumes: HashSet<&'a str>,
    /// Paths of the Engine's machine that chosen containers mount.
    pub(super) binds: HashSet<&'a str>,
    /// Applications of which networks that nobody joins are taken too.
    whole: HashSet<&'a str>,
    /// Containers and volumes that labels or the set take away, where they would have been chosen otherwise.
    left_out_containers: HashSet<&'a str>,
    left_out_volumes: HashSet<&'a str>,
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl<'a> Choice<'a> {
    pub(super) fn make(discovery: &'a Discovery, patterns: &mut Patterns, set: Option<&str>) -> Self {
        let mut choice = Self {
            containers: HashSet::new(),
            volumes: HashSet::new(),
            binds: HashSet::new(),
            whole: HashSet::new(),
            left_out_containers: HashSet::new(),
            left_out_volumes: HashSet::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
        };
        for application in &discovery.applications {
            let project = project(application);
            let wanted = project.is_some_and(|project| patterns.projects.wants(project)) || patterns.everything;
            let refused = project.is_some_and(|project| patterns.projects.refuses(project));
            if wanted && !refused {
                choice.whole.insert(&application.name);
            }
            for container in &application.containers {
                choice.container(container, discovery.policy(&container.name), patterns, set, wanted, refused);
            }
        }
        for application in &discovery.applications {
            for volume in &application.volumes {
                choice.volume(discovery, application, volume, patterns, set);
            }
        }
        choice
    }

    fn container(
        &mut self,
        container: &'a Container,
        policy: Option<&Policy>,
        patterns: &mut Patterns,
        set: Option<&str>,
        wanted: bool,
        refused: bool,
    ) {
        let name = container.name.as_str();
        let mut named = false;
        for name in names(container) {
            named |= patterns.containers.wants(name);
        }
        let labels: Vec<(String, &str)> = container.labels.iter().map(|(key, value)| (format!("{key}={value}"), key.as_str())).collect();
        let mut labelled = false;
        for (pair, key) in &labels {
            labelled |= patterns.labels.wants(pair) | patterns.labels.wants(key);
        }
        let joins = set.is_some_and(|set| policy.is_some_and(|policy| policy.sets.iter().any(|one| one == set)));
        let taken_away = refused
            || names(container).any(|name| patterns.containers.refuses(name))
            || labels.iter().any(|(pair, key)| patterns.labels.refuses(pair) || patterns.labels.refuses(key));
        if !(wanted || named || labelled || joins) || taken_away {
            // What somebody typed for once says nothing about what belongs to the application.
            if taken_away && set.is_some() {
                self.left_out_containers.insert(name);
            }
            return;
        }
        if let Some(policy) = policy.filter(|policy| policy.enable == Some(false)) {
            let text = format!("container {name} is left out: its label {} is false", policy.enable_label());
            // Somebody who asked for it by name should see that it was not done.
            let named = names(container).any(|name| patterns.containers.names(name));
            let list = if named { &mut self.warnings } else { &mut self.notes };
            list.push(text);
            self.left_out_containers.insert(name);
            return;
        }
        self.containers.insert(name);
        self.binds.extend(container.mounts.iter().filter_map(data_path));
    }

    fn volume(
        &mut self,
        discovery: &Discovery,
        application: &'a Application,
        volume: &'a Volume,
        patterns: &mut Patterns,
        set: Option<&str>,
    ) {
        let named = patterns.volumes.wants(&volume.name);
        let used = volume.users.iter().any(|user| self.containers.contains(user.container.as_str()));
        let idle = volume.users.is_empty() && self.is_whole(application);
        let refused = patterns.volumes.refuses(&volume.name);
        if !(named || used || idle) || refused {
            let of_nobody_else =
                !volume.users.is_empty() && volume.users.iter().all(|user| self.left_out_containers.contains(user.container.as_str()));
            if of_nobody_else || refused && set.is_some() {
                self.left_out_volumes.insert(&volume.name);
            }
            return;
        }
        if let Some(reason) = self.left_out_by_labels(discovery, volume) {
            let text = format!("volume {} is left out: {reason}", volume.name);
            let list = if patterns.volumes.names(&volume.name) { &mut self.warnings } else { &mut self.notes };
            list.push(text);
            self.left_out_volumes.insert(&volume.name);
            return;
        }
        self.volumes.insert(&volume.name);
    }

    /// Why labels leave out all of a volume. One of ours is enough; those of another tool must be on all that mount it, for
    /// there each container speaks only for itself. Of a volume that chosen containers mount nobody else says so.
    fn left_out_by_labels(&self, discovery: &Discovery, volume: &Volume) -> Option<String> {
        let is_chosen = |user: &&VolumeUser| self.containers.contains(user.container.as_str());
        let any = volume.users.iter().any(|user| is_chosen(&user));
        let speak = volume.users.iter().filter(|user| !any || is_chosen(user));
        let policies: Vec<(&str, &Policy)> =
            speak.filter_map(|user| Some((user.container.as_str(), discovery.policy(&user.container)?))).collect();
        if let Some((name, label)) = policies.iter().find_map(|(name, policy)| Some((name, policy.leaves_out(&volume.name)?))) {
            return Some(format!("the label {label} of container {name} is true"));
        }
        let labels: Option<Vec<(&str, &str)>> =
            policies.iter().map(|(name, policy)| Some((*name, policy.does_not_choose(&volume.name)?))).collect();
        labels?.first().map(|(name, label)| format!("the label {label} of container {name} does not choose it"))
    }

    /// What labels or the set leave out of an application.
    pub(super) fn left_out(&self, application: &Application) -> LeftOut {
        let containers = application.containers.iter().map(|container| &container.name);
        let volumes = application.volumes.iter().map(|volume| &volume.name);
        LeftOut {
            containers: containers.filter(|name| self.left_out_containers.contains(name.as_str())).cloned().collect(),
            volumes: volumes.filter(|name| self.left_out_volumes.contains(name.as_str())).cloned().collect(),
        }
    }

    /// Whether an application was chosen as such, not only things of it.
    pub(super) fn is_whole(&self, application: &Application) -> bool {
        self.whole.contains(application.name.as_str())
    }

    /// Names of the networks of an application that are saved with it.
    pub(super) fn networks<'b>(&self, application: &'b Application) -> HashSet<&'b str> {
        let whole = self.is_whole(application);
        let chosen = |network: &&Network| {
            let joined =
                network.containers.iter().any(|name| self.containers.contains(name.as_str()) && application.container(name).is_some());
            let idle = !network.containers.iter().any(|name| application.container(name).is_some());
            joined || whole && idle
        };
        application.networks.iter().filter(chosen).map(|network| network.name.as_str()).collect()
    }
}

//! Which snapshots `latest`, a beginning of an id, or `run:…` mean, narrowed by set, host, tag and time.
//!
//! It decides over lists that are given; what is inside a snapshot it asks through a question that the caller answers. Which one is
//! the newest of an application is `newest`'s.

mod items;
mod newest;
mod whose;

use std::collections::BTreeMap;

use jiff::Timestamp;

use self::newest::{Newest, newest};
pub use self::whose::is_ahead;
use crate::model::text::printable;
use crate::platform::clock;
use crate::repository::contract::{Snapshot, SnapshotId, TAG_RUN};

/// Why no snapshot was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// There is none, or none is left after narrowing.
    #[error("no snapshot {}", if *.narrowed { "is left after narrowing" } else { "is in the repository" })]
    Empty {
        /// Whether there are snapshots, all of them narrowed away.
        narrowed: bool,
    },
    /// None of this host, while there are others.
    #[error("no snapshot is of the host `{host}`")]
    NoneOfHost {
        /// This host.
        host: String,
        /// The hosts that there are snapshots of.
        others: Vec<String>,
    },
    /// Nothing of this host, while several others have it.
    #[error("this host, `{host}`, has no snapshot of {what}, and {} others have", .others.len())]
    SeveralHosts {
        /// This host.
        host: String,
        /// `the volume shop_db`.
        what: String,
        /// The hosts that have it.
        others: Vec<String>,
    },
    /// No id begins so.
    #[error("no snapshot matches `{wanted}`")]
    NoMatch {
        /// What was asked for, made printable.
        wanted: String,
    },
    /// Several ids begin so.
    #[error("`{wanted}` is the beginning of {} snapshots", .candidates.len())]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The ids that begin so.
        candidates: Vec<SnapshotId>,
    },
    /// Several runs begin so.
    #[error("`run:{wanted}` is the beginning of {} runs", .candidates.len())]
    AmbiguousRun {
        /// What was asked for.
        wanted: String,
        /// The runs that begin so.
        candidates: Vec<String>,
    },
    /// No snapshot has the item.
    #[error("no complete snapshot holds the {item}{meant}")]
    NotHeld {
        /// `volume shop_db`.
        item: String,
        /// A partial snapshot that holds it, which is never `latest`.
        partial: Option<SnapshotId>,
        /// The end of the sentence: `; did you mean …?`, or nothing.
        meant: String,
    },
    /// All that are left are partial.
    #[error("every snapshot that could be the latest is partial")]
    OnlyPartial {
        /// The newest of them.
        newest: SnapshotId,
    },
    /// One snapshot is needed and the words mean several.
    #[error("`{wanted}` means {count} snapshots, and one is needed")]
    NotOne {
        /// What was asked for.
        wanted: String,
        /// How many.
        count: usize,
    },
}

impl SelectError {
    /// Never: lists do not change by themselves.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// Which snapshots are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Narrowing {
    /// Only of this set.
    pub set: Option<String>,
    /// Only of one of these hosts, if there are any.
    pub hosts: Vec<String>,
    /// Only with all of these tags.
    pub tags: Vec<String>,
    /// Only made before this time.
    pub before: Option<Timestamp>,
}

impl Narrowing {
    /// Whether a snapshot is looked at.
    pub fn accepts(&self, snapshot: &Snapshot) -> bool {
        self.set.as_deref().is_none_or(|set| snapshot.set() == Some(set))
            && (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && self.tags.iter().all(|tag| snapshot.tags.contains(tag))
            && self.before.is_none_or(|before| snapshot.time < before)
    }

    /// Whether nothing is narrowed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The word that names snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The newest complete one that holds what is asked for.
    Latest,
    /// All of one run.
    Run(String),
    /// One, by its id or the beginning of it.
    Id(String),
}

impl Wanted {
    /// Reads the word.
    pub fn parse(word: &str) -> Self {
        match word.strip_prefix(TAG_RUN) {
            _ if word == "latest" => Self::Latest,
            Some(run) => Self::Run(run.to_owned()),
            None => Self::Id(word.to_owned()),
        }
    }
}

/// Something that a snapshot may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A container by name.
    Container(String),
    /// A volume by name.
    Volume(String),
    /// A network by name.
    Network(String),
    /// A file or folder by its absolute path in the snapshot.
    Path(Vec<u8>),
    /// The same, or by the path that it has on the host of an application.
    Place(Vec<u8>),
}

impl Item {
    /// For people: `volume shop_db`.
    pub fn label(&self) -> String {
        match self {
            Self::Container(name) => format!("container {}", printable(name.as_bytes())),
            Self::Volume(name) => format!("volume {}", printable(name.as_bytes())),
            Self::Network(name) => format!("network {}", printable(name.as_bytes())),
            Self::Path(path) | Self::Place(path) => format!("path {}", printable(path)),
        }
    }

    /// Its name and where in the folder of an application things of its kind are; none for paths.
    pub fn name_and_folder(&self) -> Option<(&str, &'static str)> {
        match self {
            Self::Container(name) => Some((name, "containers")),
            Self::Volume(name) => Some((name, "volumes")),
            Self::Network(name) => Some((name, "networks")),
            Self::Path(_) | Self::Place(_) => None,
        }
    }

    /// Where it is in a snapshot of this application; none for an item that such a snapshot cannot hold. Of a place only what it is as a path of
    /// the snapshot.
    pub fn path_in(&self, snapshot: &Snapshot) -> Option<Vec<u8>> {
        let root = |application: &str| format!("{}/{application}", crate::model::application::DOCKER_ROOT);
        match (self, snapshot.application()) {
            (Self::Container(name), Some(application)) => Some(format!("{}/containers/{name}", root(application)).into_bytes()),
            (Self::Volume(name), Some(application)) => Some(format!("{}/volumes/{name}", root(application)).into_bytes()),
            (Self::Network(name), Some(application)) => Some(format!("{}/networks/{name}.json", root(application)).into_bytes()),
            (Self::Path(path) | Self::Place(path), _) => {
                // Names that are no text are written down in another way than they are in the tree.
                let text = String::from_utf8_lossy(path);
                let related =
                    |stored: &String| is_below(text.as_bytes(), stored.as_bytes()) || is_below(stored.as_bytes(), text.as_bytes());
                // What restic was given relative to a folder is in its trees under other names than its snapshots say.
                let may_hold = !snapshot.is_ours() || snapshot.paths.iter().any(related);
                may_hold.then(|| path.clone())
            }
            (_, None) => None,
        }
    }
}

/// Whether `path` is `folder` or in it.
pub(super) fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || folder.ends_with(b"/"))
}

/// What was chosen, oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chosen {
    /// The snapshots.
    pub snapshots: Vec<Snapshot>,
    /// What is worth knowing about the choice, one sentence each.
    pub notes: Vec<String>,
    /// Why the choice may not be the last state of everything, one sentence each.
    pub warnings: Vec<String>,
}

/// Chooses the snapshots that `word` means. `all` asks for the newest of every application (and of every set of paths) of
/// `host`; otherwise `latest` is the newest that holds the items, and each item may be in another one.
///
/// `holds` answers whether a snapshot has an item.
///
/// # Errors
/// Nothing, or more than one thing, is meant; or `holds` failed.
pub fn choose<E: From<SelectError>>(
    snapshots: &[Snapshot],
    word: &str,
    narrowing: &Narrowing,
    request: &Request<'_>,
    mut holds: impl FnMut(&Snapshot, &Item) -> Result<bool, E>,
) -> Result<Chosen, E> {
    let mut left: Vec<&Snapshot> = snapshots.iter().filter(|snapshot| narrowing.accepts(snapshot)).collect();
    let wanted = Wanted::parse(word);
    // What a restore replaced comes back only when it is asked for.
    if wanted == Wanted::Latest {
        left.retain(|snapshot| !snapshot.is_aside(&narrowing.tags));
    }
    match wanted {
        Wanted::Id(prefix) => Ok(Chosen { snapshots: vec![by_id(&left, &prefix)?.clone()], ..Chosen::default() }),
        Wanted::Run(run) => Ok(Chosen { snapshots: by_run(&left, &run)?, ..Chosen::default() }),
        Wanted::Latest if left.is_empty() => Err(SelectError::Empty { narrowed: !snapshots.is_empty() }.into()),
        Wanted::Latest => {
            let mut chosen = whose::of_right_clocks(left, clock::now(), |left| latest(left, narrowing, request, &mut holds))?;
            chosen.snapshots.sort_by_key(|snapshot| snapshot.time);
            Ok(chosen)
        }
    }
}

fn latest<E: From<SelectError>>(
    left: &[&Snapshot],
    narrowing: &Narrowing,
    request: &Request<'_>,
    holds: &mut impl FnMut(&Snapshot, &Item) -> Result<bool, E>,
) -> Result<Chosen, E> {
    if request.all {
        return Ok(latest_of_all(left, narrowing, request)?);
    }
    let mut of = |left: &[&Snapshot]| match request.items {
        [] => Ok(latest_of_anything(left)),
        items => items::latest(left, items, holds),
    };
    if narrowing.hosts.is_empty() { whose::first_of_this_host(left, request, of) } else { Ok(of(left)??) }
}

/// What `latest` is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// The newest of every application.
    pub all: bool,
    /// This host: what `latest` is about unless the narrowing names another, or only another one has it.
    pub host: &'a str,
    /// The host of the folders of this machine, where that is another than the Engine's.
    pub machine: &'a str,
    /// The items that must be in it.
    pub items: &'a [Item],
}

/// The one snapshot whose id begins so.
///
/// # Errors
/// There is none, or several.
pub fn by_id<'a>(snapshots: &[&'a Snapshot], prefix: &str) -> Result<&'a Snapshot, SelectError> {
    let wanted = prefix.to_ascii_lowercase();
    let mut matching = snapshots.iter().filter(|snapshot| !wanted.is_empty() && snapshot.id.0.starts_with(&wanted));
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(SelectError::NoMatch { wanted: printable(prefix.as_bytes()) }),
        (Some(first), Some(second)) => {
            let mut candidates: Vec<SnapshotId> = [first, second].into_iter().chain(matching).map(|one| one.id.clone()).collect();
            candidates.sort();
            Err(SelectError::Ambiguous { wanted, candidates })
        }
    }
}

fn by_run(snapshots: &[&Snapshot], wanted: &str) -> Result<Vec<Snapshot>, SelectError> {
    let upper = wanted.to_ascii_uppercase();
    let mut runs: BTreeMap<&str, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        if let Some(run) = snapshot.run().filter(|run| !upper.is_empty() && run.to_ascii_uppercase().starts_with(&upper)) {
            runs.entry(run).or_default().push((*snapshot).clone());
        }
    }
    if runs.len() > 1 {
        let candidates = runs.into_keys().map(str::to_owned).collect();
        return Err(SelectError::AmbiguousRun { wanted: printable(wanted.as_bytes()), candidates });
    }
    runs.into_values().next().ok_or_else(|| SelectError::NoMatch { wanted: format!("{TAG_RUN}{}", printable(wanted.as_bytes())) })
}

/// The newest complete one; of an application the newest that is of all of it, if there is one.
fn latest_of_anything(snapshots: &[&Snapshot]) -> Result<Chosen, SelectError> {
    let Some(one) = snapshots.iter().filter(|one| !one.is_partial()).max_by_key(|one| one.time) else {
        return newest(snapshots).map(|_| Chosen::default());
    };
    let group: Vec<&Snapshot> = snapshots.iter().filter(|other| newest::are_of_the_same(other, one)).copied().collect();
    let Newest { snapshot, warnings } = newest(&group)?;
    Ok(Chosen { snapshots: vec![snapshot.clone()], warnings, notes: Vec::new() })
}

fn latest_of_all(snapshots: &[&Snapshot], narrowing: &Narrowing, request: &Request<'_>) -> Result<Chosen, SelectError> {
    // What is narrowed to hosts is of them already.
    let is_meant = |snapshot: &Snapshot| !narrowing.hosts.is_empty() || request.is_own(snapshot);
    let mut groups: BTreeMap<(Option<&str>, &[String]), Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in snapshots.iter().filter(|snapshot| is_meant(snapshot)) {
        // Two snapshots are of the same thing if they are of one application, or else of the same paths.
        let key = match snapshot.application() {
            Some(application) => (Some(application), [].as_slice()),
            None => (None, snapshot.paths.as_slice()),
        };
        groups.entry(key).or_default().push(snapshot);
    }
    if groups.is_empty() {
        let mut others: Vec<String> = snapshots.iter().map(|snapshot| snapshot.host.clone()).collect();
        others.sort();
        others.dedup();
        return Err(SelectError::NoneOfHost { host: request.host.to_owned(), others });
    }
    let mut chosen = Chosen::default();
    let mut only_partial = None;
    if groups.keys().any(|(application, _)| application.is_some()) {
        // What stands on the host would be in the way of everything else.
        groups.retain(|(application, paths), _| {
            if application.is_none() {
                let paths = printable(paths.join(", ").as_bytes());
                chosen.notes.push(format!("{paths}: files of the host are no part of --all, restore them with --path"));
            }
            application.is_some()
        });
    }
    for group in groups.values() {
        match newest(group) {
            Ok(Newest { snapshot, warnings }) => {
                chosen.warnings.extend(warnings);
                chosen.snapshots.push(snapshot.clone());
            }
            Err(SelectError::OnlyPartial { newest }) => {
                let name = group.first().map(|one| newest::name(one)).unwrap_or_default();
                chosen.warnings.push(format!("{name}: there are only partial snapshots, the newest is {}", newest.short()));
                only_partial = Some(newest);
            }
            Err(error) => return Err(error),
        }
    }
    match only_partial {
        Some(newest) if chosen.snapshots.is_empty() => Err(SelectError::OnlyPartial { newest }),
        _ => Ok(chosen),
    }
}

#[cfg(test)]
mod tests;

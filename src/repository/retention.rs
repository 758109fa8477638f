//! Which snapshots stay and which go, with a reason for each. Pure: it decides over lists and a clock that are given.
//!
//! What the rules say is `model::retention`; removing is the engines' business. The rules that restic has too decide as
//! restic does: newest first, by the wall clock that a snapshot's maker had, in ISO weeks, `within` counted back from the
//! newest of the group, and the oldest snapshot kept while a rule has room. What restic does not know:
//!
//! - A pinned snapshot stays.
//! - A partial one counts for no rule. It stays until something complete of the same things is newer.
//! - One that a restore made of what it was about to overwrite counts for none either, as that may be broken. It stays until
//!   something complete of the same things is 30 days newer, in whichever group that is.
//! - One whose time lies in the future, or well before that of its own parent, was made by a clock that was wrong. Its time
//!   says nothing, so it stays and takes nobody's place.
//! - `min_keep` and `max_size`.

mod rules;
mod size;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

use super::contract::{Snapshot, SnapshotId};
use crate::model::retention::{Count, Retention, Span};
use crate::model::size::ByteSize;
use rules::Rules;
pub use size::SizeOutcome;

/// Clocks of several machines may differ by so much without being wrong.
const TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// For so long a restore can be undone: what it has overwritten stays.
const UNDO: SignedDuration = SignedDuration::from_hours(UNDO_DAYS * 24);
const UNDO_DAYS: i64 = 30;

/// By what snapshots are grouped before the rules are applied to each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The paths.
    pub paths: bool,
    /// All tags.
    pub tags: bool,
    /// The application.
    pub application: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, tags: false, application: true }
    }
}

/// What the snapshots of one group have in common. What they are not grouped by is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GroupKey {
    /// The host.
    pub host: String,
    /// The application.
    pub application: Option<String>,
    /// The paths.
    pub paths: Vec<String>,
    /// The tags, sorted.
    pub tags: Vec<String>,
}

impl GroupKey {
    fn of(snapshot: &Snapshot, by: GroupBy) -> Self {
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        Self {
            host: if by.host { snapshot.host.clone() } else { String::new() },
            application: snapshot.application().filter(|_| by.application).map(str::to_owned),
            paths: if by.paths { sorted(&snapshot.paths) } else { Vec::new() },
            tags: if by.tags { sorted(&snapshot.tags) } else { Vec::new() },
        }
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.host.is_empty() {
            parts.push(format!("host {}", self.host));
        }
        match &self.application {
            Some(application) => parts.push(format!("application {application}")),
            None if self.paths.is_empty() => {}
            None => parts.push(self.paths.join(" ")),
        }
        if !self.tags.is_empty() {
            parts.push(format!("tags {}", self.tags.join(",")));
        }
        f.pad(&if parts.is_empty() { "all snapshots".to_owned() } else { parts.join(", ") })
    }
}

/// A calendar's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Each snapshot for itself.
    Last,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week from Monday to Sunday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    fn word(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }
}

/// Why a snapshot stays or goes. Shown in restic's words where restic has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is pinned.
    Pinned,
    /// It has all these tags.
    Tags(Vec<String>),
    /// It is not older than this before the newest.
    Within(Span),
    /// It is the newest of its period.
    Newest(Period),
    /// It is the newest of its period, among those not older than this before the newest.
    NewestWithin(Period, Span),
    /// It is the oldest of all while the rule has room.
    Oldest(Period),
    /// The same, among those not older than this before the newest.
    OldestWithin(Period, Span),
    /// It is one of so many newest.
    MinKeep(u32),
    /// There is no rule but the size, and it fits.
    Fits,
    /// It is partial, and nothing complete is newer.
    NothingComplete,
    /// It is what a restore has overwritten, and nothing complete is new enough.
    BeforeRestore,
    /// It was made in the future.
    Future,
    /// It claims to be older than its own parent.
    BeforeParent(SnapshotId),
    /// This one stays as its clock was wrong, which only its parent shows.
    ParentOf(SnapshotId),
    /// No rule keeps it.
    NoRule,
    /// It is partial, and this complete one is newer.
    Displaced(SnapshotId),
    /// It is what a restore has overwritten, and this complete one is new enough.
    Outlived(SnapshotId),
    /// What is kept would be larger than this with it.
    TooLarge(ByteSize),
    /// It was named.
    Named,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("pinned"),
            Self::Tags(tags) => write!(f, "has tags [{}]", tags.join(", ")),
            Self::Within(span) => write!(f, "within {span}"),
            Self::Newest(period) => write!(f, "{} snapshot", period.word()),
            Self::NewestWithin(period, span) => write!(f, "{} within {span}", period.word()),
            Self::Oldest(period) => write!(f, "oldest {} snapshot", period.word()),
            Self::OldestWithin(period, span) => write!(f, "oldest {} within {span}", period.word()),
            Self::MinKeep(count) => write!(f, "one of the newest {count} (min_keep)"),
            Self::Fits => f.write_str("fits into max_size"),
            Self::NothingComplete => f.write_str("partial, and nothing complete is newer"),
            Self::BeforeRestore => write!(f, "what a restore has overwritten, and nothing complete is {UNDO_DAYS} days newer"),
            Self::Future => f.write_str("made in the future: the clock was wrong"),
            Self::BeforeParent(parent) => write!(f, "older than its parent {}: the clock was wrong", parent.short()),
            Self::ParentOf(child) => write!(f, "shows that the clock of {} was wrong", child.short()),
            Self::NoRule => f.write_str("no rule keeps it"),
            Self::Displaced(by) => write!(f, "partial, and {} is complete and newer", by.short()),
            Self::Outlived(by) => write!(f, "what a restore has overwritten, and {} is complete and {UNDO_DAYS} days newer", by.short()),
            Self::TooLarge(limit) => write!(f, "more than {limit} with it (max_size)"),
            Self::Named => f.write_str("named"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What the counted rules have left after a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Of `keep_last`.
    #[serde(skip_serializing_if = "is_zero")]
    pub last: Count,
    /// Of `keep_hourly`.
    #[serde(skip_serializing_if = "is_zero")]
    pub hourly: Count,
    /// Of `keep_daily`.
    #[serde(skip_serializing_if = "is_zero")]
    pub daily: Count,
    /// Of `keep_weekly`.
    #[serde(skip_serializing_if = "is_zero")]
    pub weekly: Count,
    /// Of `keep_monthly`.
    #[serde(skip_serializing_if = "is_zero")]
    pub monthly: Count,
    /// Of `keep_yearly`.
    #[serde(skip_serializing_if = "is_zero")]
    pub yearly: Count,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &Count) -> bool {
    count.is_zero()
}

/// One snapshot and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Whether it stays.
    pub keep: bool,
    /// Why; at least one.
    pub reasons: Vec<Reason>,
    /// What the rules have left after it.
    pub counters: Counters,
}

impl Decision {
    /// Whether the snapshot is kept, is complete and takes part in the rules.
    fn counts(&self) -> bool {
        let aside =
            |reason: &Reason| matches!(reason, Reason::Future | Reason::BeforeParent(_) | Reason::ParentOf(_) | Reason::BeforeRestore);
        self.keep && !self.snapshot.is_partial() && !self.reasons.iter().any(aside)
    }
}

/// The snapshots of one group, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// What they have in common.
    pub key: GroupKey,
    /// What becomes of each.
    pub decisions: Vec<Decision>,
}

impl Group {
    /// Whether what goes leaves nothing of it, or nothing complete where there was something complete. What a restore has
    /// overwritten is nothing complete, and where it is outlived, something complete stays in this group or another.
    pub fn is_emptied(&self) -> bool {
        let complete = |decision: &&Decision| !decision.snapshot.is_partial() && !decision.snapshot.is_aside(&[]);
        let outlived = |decision: &Decision| matches!(decision.reasons[..], [Reason::Outlived(_)]);
        let goes = self.decisions.iter().any(|decision| !decision.keep && !outlived(decision));
        let kept = || self.decisions.iter().filter(|decision| decision.keep);
        goes && (kept().count() == 0 || (kept().find(complete).is_none() && self.decisions.iter().any(|one| complete(&one))))
    }
}

/// What a policy means for some snapshots.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The groups in the order of their keys.
    pub groups: Vec<Group>,
}

impl Plan {
    /// Applies a policy to each group; `max_size` is left for [`limit_size`](Self::limit_size). `asked` are the tags that the
    /// snapshots were asked for by, `inside` what is known of paths in them. `now` is only for telling which snapshots lie in the future.
    pub fn of_policy(snapshots: &[Snapshot], policy: &Retention, by: GroupBy, asked: &[String], inside: &Inside, now: Timestamp) -> Self {
        let clocks = Clocks::new(snapshots, now);
        let groups = grouped(snapshots, by);
        let groups = groups.into_iter().map(|(key, members)| Group { key, decisions: decide(members, policy, asked, &clocks) });
        let mut plan = Self { groups: groups.collect() };
        plan.outlive(inside);
        plan.keep_parents();
        plan
    }

    /// Lets go what restores have overwritten where what is kept is new enough.
    fn outlive(&mut self, inside: &Inside) {
        let complete: Vec<Snapshot> =
            self.decisions().filter(|one| one.counts() && !one.snapshot.is_aside(&[])).map(|one| one.snapshot.clone()).collect();
        for decision in self.groups.iter_mut().flat_map(|group| &mut group.decisions) {
            if decision.reasons != [Reason::BeforeRestore] {
                continue;
            }
            let overwritten = &decision.snapshot;
            let newer = |one: &&Snapshot| is_much_newer(one, overwritten) && is_of_all(one, overwritten, inside);
            if let Some(newest) = complete.iter().filter(newer).max_by_key(|one| (one.time, &one.id)) {
                decision.keep = false;
                decision.reasons = vec![Reason::Outlived(newest.id.clone())];
            }
        }
    }

    /// Keeps the parents by which it is seen that a clock was wrong: without them the next plan would count what was made by it.
    fn keep_parents(&mut self) {
        let child = |one: &Decision| {
            one.reasons.iter().find_map(|reason| match reason {
                Reason::BeforeParent(parent) => Some((parent.clone(), one.snapshot.id.clone())),
                _ => None,
            })
        };
        let children: HashMap<SnapshotId, SnapshotId> = self.decisions().filter_map(child).collect();
        for decision in self.groups.iter_mut().flat_map(|group| &mut group.decisions).filter(|one| !one.keep) {
            let mut ids = std::iter::once(&decision.snapshot.id).chain(&decision.snapshot.original);
            if let Some(child) = ids.find_map(|id| children.get(id)) {
                (decision.keep, decision.reasons) = (true, vec![Reason::ParentOf(child.clone())]);
            }
        }
    }

    /// Removes the snapshots that are named, and keeps all others. `snapshots` is all there are.
    pub fn of_names(snapshots: &[Snapshot], named: &[SnapshotId]) -> Self {
        let named: HashSet<&SnapshotId> = named.iter().collect();
        let decision = |snapshot: Snapshot| {
            let keep = !named.contains(&snapshot.id);
            Decision { keep, reasons: if keep { Vec::new() } else { vec![Reason::Named] }, snapshot, counters: Counters::default() }
        };
        let groups = grouped(snapshots, GroupBy::default()).into_iter();
        let groups = groups.map(|(key, members)| Group { key, decisions: members.into_iter().map(decision).collect() });
        Self { groups: groups.filter(|group| group.decisions.iter().any(|decision| !decision.keep)).collect() }
    }

    /// All decisions.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.groups.iter().flat_map(|group| &group.decisions)
    }

    /// What goes, oldest first.
    pub fn removed(&self) -> Vec<&Snapshot> {
        let mut removed: Vec<&Snapshot> = self.decisions().filter(|one| !one.keep).map(|one| &one.snapshot).collect();
        removed.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        removed
    }

    /// The groups of which nothing (complete) would be left.
    pub fn emptied(&self) -> Vec<&GroupKey> {
        self.groups.iter().filter(|group| group.is_emptied()).map(|group| &group.key).collect()
    }
}

fn grouped(snapshots: &[Snapshot], by: GroupBy) -> BTreeMap<GroupKey, Vec<Snapshot>> {
    let mut groups: BTreeMap<GroupKey, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        groups.entry(GroupKey::of(snapshot, by)).or_default().push(snapshot.clone());
    }
    for group in groups.values_mut() {
        group.sort_by(|a, b| (Reverse(a.time), &a.id).cmp(&(Reverse(b.time), &b.id)));
    }
    groups
}

/// Tells which snapshots have a time that cannot be right.
struct Clocks<'a> {
    now: Timestamp,
    /// Times by the ids that snapshots have and had first.
    times: HashMap<&'a SnapshotId, Timestamp>,
    parents: HashMap<&'a SnapshotId, &'a SnapshotId>,
}

impl<'a> Clocks<'a> {
    fn new(snapshots: &'a [Snapshot], now: Timestamp) -> Self {
        let first = snapshots.iter().filter_map(|one| Some((one.original.as_ref()?, one.time)));
        let times = first.chain(snapshots.iter().map(|one| (&one.id, one.time))).collect();
        let parents = snapshots.iter().filter_map(|one| Some((&one.id, one.parent.as_ref()?))).collect();
        Self { now, times, parents }
    }

    fn is_future(&self, time: Timestamp) -> bool {
        time.duration_since(self.now) > TOLERANCE
    }

    /// Why the time of a snapshot says nothing, if so.
    fn wrong(&self, snapshot: &Snapshot) -> Option<Reason> {
        if self.is_future(snapshot.time) {
            return Some(Reason::Future);
        }
        let parent = snapshot.parent.as_ref()?;
        // A parent was there before. One from the future says nothing of its children's clock.
        let time = self.times.get(parent).filter(|time| !self.is_future(**time))?;
        // If what the parent was compared with is older than this one, it was the parent's clock that was ahead for a while.
        let before = self.parents.get(parent).and_then(|before| self.times.get(*before));
        let was_ahead = before.is_some_and(|before| *before <= snapshot.time);
        (!was_ahead && time.duration_since(snapshot.time) > TOLERANCE).then(|| Reason::BeforeParent(parent.clone()))
    }
}

/// Decides over one group, newest first.
fn decide(members: Vec<Snapshot>, policy: &Retention, asked: &[String], clocks: &Clocks<'_>) -> Vec<Decision> {
    let wrong: Vec<Option<Reason>> = members.iter().map(|snapshot| clocks.wrong(snapshot)).collect();
    let counts = |at: usize| wrong[at].is_none() && !members[at].is_partial() && !members[at].is_aside(asked);
    let counted: Vec<usize> = (0..members.len()).filter(|at| counts(*at)).collect();
    let mut rules = Rules::new(policy, counted.iter().map(|at| &members[*at]));
    let mut decided: Vec<(Vec<Reason>, Option<Reason>)> = Vec::with_capacity(members.len());
    let mut counters = Vec::with_capacity(members.len());
    for (at, snapshot) in members.iter().enumerate() {
        let mut keep = Vec::new();
        let mut go = None;
        if snapshot.is_pinned() {
            keep.push(Reason::Pinned);
        }
        keep.extend(tags_to_keep(snapshot, policy).map(|tags| Reason::Tags(tags.clone())));
        if let Some(reason) = &wrong[at] {
            keep.push(reason.clone());
        } else if snapshot.is_aside(asked) {
            keep.push(Reason::BeforeRestore);
        } else if snapshot.is_partial() {
            match counted.iter().map(|at| &members[*at]).find(|complete| covers(complete, snapshot)) {
                Some(newer) => go = Some(Reason::Displaced(newer.id.clone())),
                None => keep.push(Reason::NothingComplete),
            }
        } else {
            keep.extend(rules.next(snapshot));
        }
        counters.push(rules.counters());
        decided.push((keep, go));
    }
    let zipped = members.into_iter().zip(decided).zip(counters);
    zipped
        .map(|((snapshot, (reasons, go)), counters)| {
            let keep = !reasons.is_empty();
            let reasons = if keep { reasons } else { vec![go.unwrap_or(Reason::NoRule)] };
            Decision { snapshot, keep, reasons, counters }
        })
        .collect()
}

/// What of `keep_tags` keeps a snapshot.
pub fn tags_to_keep<'a>(snapshot: &'a Snapshot, policy: &'a Retention) -> impl Iterator<Item = &'a Vec<String>> {
    policy.keep_tags.iter().filter(|tags| !tags.is_empty() && tags.iter().all(|tag| snapshot.tags.contains(tag)))
}

/// Whether a complete snapshot is newer than a partial one and of everything that the partial one is of, however they are
/// grouped.
fn covers(complete: &Snapshot, partial: &Snapshot) -> bool {
    let same = complete.host == partial.host && complete.application() == partial.application();
    let whole = complete.application().is_some() && complete.is_whole();
    let paths = || GroupKey::of(complete, GroupBy::default()).paths == GroupKey::of(partial, GroupBy::default()).paths;
    complete.time > partial.time && same && (whole || paths())
}

/// Paths of the machine that snapshots of applications have whole, which say only of which application they are.
pub type Inside = HashMap<SnapshotId, Vec<String>>;

/// Whether a snapshot is so much newer than what a restore has overwritten that nobody wants that back.
pub fn is_much_newer(snapshot: &Snapshot, overwritten: &Snapshot) -> bool {
    snapshot.time.duration_since(overwritten.time) > UNDO
}

/// Whether a snapshot is of everything that another one is of.
pub fn is_of_all(snapshot: &Snapshot, other: &Snapshot, inside: &Inside) -> bool {
    if snapshot.host != other.host {
        return false;
    }
    let has_all = |mine: &[String]| other.paths.iter().all(|path| mine.iter().any(|above| Path::new(path).starts_with(above)));
    if snapshot.application() != other.application() {
        return other.application().is_none() && inside.get(&snapshot.id).is_some_and(|mine| has_all(mine));
    }
    snapshot.application().is_some() && snapshot.is_whole() || has_all(&snapshot.paths)
}

#[cfg(test)]
mod tests;

//! Forgetting snapshots: first the plan, with a reason for each, then its execution. Between the two nobody else touches the
//! repository, as the exclusive lock is taken first.
//!
//! The decisions are `repository::retention`'s; what the words of a person mean is `select`'s.

mod inside;

use std::collections::HashSet;

use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use super::error::JobError;
use super::select::{Narrowing, Request};
use super::{select, snapshots};
use crate::model::outcome::RunStatus;
use crate::model::retention::Retention;
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::control::Control;
use crate::repository::contract::{Problem, Repository, RepositoryInfo, Snapshot, SnapshotId};
use crate::repository::retention::{Counters, Decision, Group, Inside, Plan, Reason, SizeOutcome, is_of_all, tags_to_keep};
pub use crate::repository::retention::{GroupBy, GroupKey};

/// What is to be forgotten in one repository.
#[derive(Debug, Clone)]
pub struct ForgetRequest {
    /// Which snapshots.
    pub what: What,
    /// Also when nothing complete of a group is left.
    pub remove_all: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Which snapshots are to be forgotten.
#[derive(Debug, Clone)]
pub enum What {
    /// What these policies do not keep.
    Policies(Vec<Policy>),
    /// These: ids, their beginnings, `latest`, `run:…`.
    Named {
        /// The words.
        words: Vec<String>,
        /// Where they are looked for.
        narrowing: Narrowing,
    },
}

/// A retention policy and what it is for.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The backup set whose policy it is.
    pub set: Option<String>,
    /// The policy.
    pub retention: Retention,
    /// The snapshots that it is for.
    pub narrowing: Narrowing,
    /// By what they are grouped.
    pub group_by: GroupBy,
}

/// A snapshot, with restic's field names.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotRow {
    /// When its backup began, by the clock of its maker.
    pub time: String,
    /// The host it is of.
    pub hostname: String,
    /// Who made it.
    pub username: String,
    /// The paths in it.
    pub paths: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The first of its ids, if it had others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<SnapshotId>,
    /// Its id.
    pub id: SnapshotId,
    /// The beginning of its id.
    pub short_id: String,
    /// The same time, for people.
    #[serde(skip)]
    pub instant: jiff::Timestamp,
}

impl SnapshotRow {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            time: DateTimePrinter::new().timestamp_with_offset_to_string(&snapshot.time, snapshot.offset),
            hostname: snapshot.host.clone(),
            username: snapshot.username.clone(),
            paths: snapshot.paths.clone(),
            tags: snapshot.tags.clone(),
            original: snapshot.original.clone(),
            id: snapshot.id.clone(),
            short_id: snapshot.id.short().to_owned(),
            instant: snapshot.time,
        }
    }
}

/// Why a snapshot stays or goes.
#[derive(Debug, Clone, Serialize)]
pub struct Why {
    /// Which.
    pub snapshot: SnapshotRow,
    /// The reasons, restic's in restic's words.
    pub matches: Vec<String>,
    /// What the rules have left after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<Counters>,
}

/// One group and what becomes of it. `keep`, `remove` and `reasons` are as in restic.
#[derive(Debug, Clone, Serialize)]
pub struct ForgetGroup {
    /// The backup set whose policy was applied.
    pub set: Option<String>,
    /// What its snapshots have in common.
    #[serde(flatten)]
    pub key: GroupKey,
    /// What stays, newest first.
    pub keep: Vec<SnapshotRow>,
    /// What goes, newest first.
    pub remove: Vec<SnapshotRow>,
    /// Why it stays.
    pub reasons: Vec<Why>,
    /// Why the rest goes.
    pub remove_reasons: Vec<Why>,
}

/// What was forgotten, or in a dry run would be.
#[derive(Debug, Clone, Serialize)]
pub struct ForgetResult {
    /// How it ended.
    pub status: RunStatus,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Where.
    pub repository: RepositoryInfo,
    /// The groups and the reasons.
    pub groups: Vec<ForgetGroup>,
    /// What the policies with a `max_size` came to.
    pub sizes: Vec<SizeOutcome>,
    /// The snapshots that are gone, or in a dry run would be, oldest first.
    pub removed: Vec<SnapshotId>,
    /// Snapshots that are still there although they should not be.
    pub problems: Vec<Problem>,
}

/// What forgetting will do.
#[derive(Debug)]
pub struct ForgetPlan(ForgetResult);

impl ForgetPlan {
    /// It, for people.
    pub fn preview(&self) -> &ForgetResult {
        &self.0
    }
}

/// Finds out what will be forgotten. Except in a dry run the repository is locked from then on, until it is dropped.
///
/// # Errors
/// Somebody else is at work; a snapshot cannot be read, so that nobody knows what it is; or it would be too much. Nothing
/// was changed.
pub fn plan(repository: &dyn Repository, request: &ForgetRequest, latest: &Request<'_>, control: &Control) -> Result<ForgetPlan, JobError> {
    if !request.dry_run {
        repository.lock_exclusively(control)?;
    }
    let all = repository.every_snapshot()?;
    let mut plans: Vec<(Option<String>, Plan)> = Vec::new();
    let mut sizes = Vec::new();
    match &request.what {
        What::Policies(policies) => {
            let inside = inside::inside(repository, &all);
            for policy in policies {
                let chosen = chosen(&all, policy, policies, &inside);
                let (rules, by, asked) = (&policy.retention, policy.group_by, &policy.narrowing.tags);
                let mut plan = Plan::of_policy(&chosen, rules, by, asked, &inside, clock::now());
                if let Some(limit) = policy.retention.max_size {
                    sizes.push(plan.limit_size(limit, |order| repository.footprints(order, control))?);
                }
                plans.push((policy.set.clone(), plan));
            }
        }
        What::Named { words, narrowing } => plans.push((None, Plan::of_names(&all, &named(repository, words, narrowing, latest)?))),
    }
    refuse_pinned(&plans)?;
    if !request.remove_all {
        refuse_emptied(&plans)?;
    }
    let mut removed: Vec<&Snapshot> = plans.iter().flat_map(|(_, plan)| plan.removed()).collect();
    removed.sort_by_key(|snapshot| snapshot.time);
    // Rules that overlap may name one twice.
    let mut seen = HashSet::new();
    let ids: Vec<SnapshotId> = removed.into_iter().map(|snapshot| &snapshot.id).filter(|id| seen.insert(*id)).cloned().collect();
    if !seen.is_empty() {
        let kept: Vec<SnapshotId> = all.iter().map(|snapshot| &snapshot.id).filter(|id| !seen.contains(id)).cloned().collect();
        repository.require_index(&kept, control)?;
    }
    let groups = plans.iter().flat_map(|(set, plan)| plan.groups.iter().map(|group| shown(set.clone(), group))).collect();
    Ok(ForgetPlan(ForgetResult {
        status: RunStatus::Success,
        dry_run: request.dry_run,
        repository: repository.info(),
        groups,
        sizes,
        removed: ids,
        problems: Vec::new(),
    }))
}

/// Removes what a plan says.
///
/// # Errors
/// Nothing was removed. Once something was, what went wrong is in the result.
pub fn execute(repository: &dyn Repository, plan: ForgetPlan, control: &Control) -> Result<ForgetResult, JobError> {
    let mut result = plan.0;
    if result.dry_run || result.removed.is_empty() {
        return Ok(result);
    }
    let done = repository.forget(&result.removed, control)?;
    result.status = match done.problems.len() {
        _ if done.cancelled => RunStatus::Cancelled,
        0 => RunStatus::Success,
        _ if done.removed.is_empty() => RunStatus::Failed,
        count => RunStatus::Warnings(count as u64),
    };
    (result.removed, result.problems) = (done.removed, done.problems);
    Ok(result)
}

/// The snapshots that a policy is for. What a restore has overwritten is of no set: it goes with the sets that save the same,
/// unless a policy has a tag to keep it by.
fn chosen(all: &[Snapshot], policy: &Policy, policies: &[Policy], inside: &Inside) -> Vec<Snapshot> {
    let mine: Vec<&Snapshot> = all.iter().filter(|snapshot| policy.narrowing.accepts(snapshot)).collect();
    let of_any_set = Narrowing { set: None, ..policy.narrowing.clone() };
    let is_kept = |snapshot: &Snapshot| policies.iter().any(|one| tags_to_keep(snapshot, &one.retention).next().is_some());
    let is_lent = |snapshot: &&Snapshot| {
        snapshot.is_aside(&[])
            && policy.narrowing.set.is_some()
            && snapshot.set().is_none()
            && of_any_set.accepts(snapshot)
            && !is_kept(snapshot)
            && mine.iter().any(|one| is_of_all(one, snapshot, inside))
    };
    let lent: Vec<&Snapshot> = all.iter().filter(is_lent).collect();
    mine.into_iter().chain(lent).cloned().collect()
}

fn named(repository: &dyn Repository, words: &[String], narrowing: &Narrowing, latest: &Request<'_>) -> Result<Vec<SnapshotId>, JobError> {
    let mut ids = Vec::new();
    for word in words {
        ids.extend(snapshots::choose(repository, word, narrowing, latest)?.snapshots.into_iter().map(|snapshot| snapshot.id));
    }
    Ok(ids)
}

fn refuse_pinned(plans: &[(Option<String>, Plan)]) -> Result<(), JobError> {
    let pinned: Vec<&str> =
        plans.iter().flat_map(|(_, plan)| plan.removed()).filter(|snapshot| snapshot.is_pinned()).map(|one| one.id.short()).collect();
    match pinned[..] {
        [] => Ok(()),
        [one] => Err(JobError::request(
            "pinned",
            format!("{one} is pinned; nothing was forgotten"),
            format!("`bbackup unpin {one}` takes the pin away."),
        )),
        _ => {
            let message = format!("{} are pinned; nothing was forgotten", pinned.join(", "));
            Err(JobError::request("pinned", message, "`bbackup unpin` takes a pin away."))
        }
    }
}

fn refuse_emptied(plans: &[(Option<String>, Plan)]) -> Result<(), JobError> {
    let emptied: Vec<String> = plans.iter().flat_map(|(_, plan)| plan.emptied()).map(|key| printable(key.to_string().as_bytes())).collect();
    if emptied.is_empty() {
        return Ok(());
    }
    let message = format!("nothing complete would be left of {}; nothing was forgotten", emptied.join(", or of "));
    Err(JobError::request("would_remove_all", message, "If that is meant: --unsafe-allow-remove-all."))
}

fn shown(set: Option<String>, group: &Group) -> ForgetGroup {
    let rows = |keep: bool| group.decisions.iter().filter(move |decision| decision.keep == keep);
    let why = |decision: &Decision| Why {
        snapshot: SnapshotRow::of(&decision.snapshot),
        matches: decision.reasons.iter().map(Reason::to_string).collect(),
        counters: decision.keep.then_some(decision.counters),
    };
    ForgetGroup {
        set,
        key: group.key.clone(),
        keep: rows(true).map(|decision| SnapshotRow::of(&decision.snapshot)).collect(),
        remove: rows(false).map(|decision| SnapshotRow::of(&decision.snapshot)).collect(),
        reasons: rows(true).map(why).collect(),
        remove_reasons: rows(false).map(why).collect(),
    }
}

/// Whether a word is the beginning of a snapshot's id, so that it cannot be told from the name of a set.
///
/// # Errors
/// The snapshots cannot be read.
pub fn is_snapshot(repository: &dyn Repository, word: &str) -> Result<bool, JobError> {
    let snapshots = repository.snapshots()?;
    let all: Vec<&Snapshot> = snapshots.iter().collect();
    Ok(!matches!(select::by_id(&all, word), Err(select::SelectError::NoMatch { .. })))
}

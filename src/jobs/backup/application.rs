//! One application: its documents, then its volumes while its containers are kept still, then `application.json`.
//!
//! Whatever happens between stopping and starting, the containers are started again, and before anything else is done.

mod before;
mod open;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::open::Opened;
use super::estimate::Estimate;
use super::paths::judge;
use super::quiet::{self, Quiet};
use super::{NO_SERVICES, Run, Unit, Unsaved, closing_tags, filter_of, sentence};
use crate::docker::DockerError;
use crate::docker::helper::Owner;
use crate::docker::layer::{changes_if_few, missed};
use crate::docker::mountpoint;
use crate::docker::quiesce::Place;
use crate::jobs::backup::counting::Counting;
use crate::jobs::engine::until_it_answers;
use crate::jobs::error::JobError;
use crate::jobs::results::{ApplicationResult, ItemResult};
use crate::model::application::{ApplicationDocument, DOCUMENT_VERSION, InnerMount, ItemKind, ItemRecord, Status, VolumeUser};
use crate::model::entry::Source;
use crate::model::outcome::ItemOutcome;
use crate::model::progress::Event;
use crate::model::text::printable;
use crate::platform::clock;
use crate::repository::contract::{AddSummary, RepositoryError, SnapshotWriter};
use crate::sources::compare::SecondLook;
use crate::sources::document::Document;
use crate::sources::filter::{Case, Filter};
use crate::sources::plan::PlannedItem;
use crate::sources::tar::is_cut;
use crate::sources::volume::{OpenVolume, Receipt, STREAM_LOST};
use crate::sources::{MountedInside, SourceError, compose, container, logs, network};

/// How often a stream is read that breaks off.
const READS: usize = 2;
/// How often it may fail to be opened for a fault that may be over soon: with a connection others break, too.
const REFUSALS: usize = 3;
/// How long is waited after that.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an Engine that is gone is waited for, for all items of an application: their containers are down meanwhile.
const ENGINE_LIMIT: Duration = Duration::from_mins(1);

/// Why an item could not be read, if that may be over soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// What was read broke off.
    Cut,
    /// The Engine is ending: it answers, until it does not.
    Ending,
    /// There is no Engine just now.
    Gone,
    /// Anything else that may be better the next time.
    Passing,
}

impl Fault {
    fn of(error: Option<&DockerError>, is_transient: bool) -> Option<Self> {
        match error {
            Some(DockerError::Ending { .. }) => Some(Self::Ending),
            Some(error) if error.is_unreachable() => Some(Self::Gone),
            _ => is_transient.then_some(Self::Passing),
        }
    }
}

/// How often an item was tried in vain.
#[derive(Debug, Default)]
struct Tries {
    cuts: usize,
    refusals: usize,
}

/// One application on its way into a snapshot.
struct Work<'a> {
    run: &'a Run<'a>,
    unit: &'a Unit,
    writer: Box<dyn SnapshotWriter + 'a>,
    result: ApplicationResult,
    records: Vec<ItemRecord>,
    /// Whether a volume came as a stream.
    streamed: bool,
    /// What is mounted inside of the item that was read last.
    inside: Vec<MountedInside>,
    /// Why the last item could not be opened, or read to its end, if that may be over soon.
    fault: Option<Fault>,
    /// Until when an Engine that is gone is waited for; none while it answers.
    patience: Option<Instant>,
    /// Ids of containers that write while volumes are read; none where nobody has to keep still.
    known_writers: Option<BTreeSet<String>>,
}

/// Saves one application.
pub(super) async fn back_up(run: &Run<'_>, unit: &Unit) -> Result<ApplicationResult, Unsaved> {
    let started = clock::monotonic();
    let (mut work, filter, time) = begin(run, unit)?;
    if let Err(error) = work.items(&filter).await {
        return Err(Unsaved { error: Box::new(error), down: work.result.failures });
    }
    let mut result = work.close(time)?;
    result.duration = started.elapsed();
    Ok(result)
}

fn begin<'a>(run: &'a Run<'a>, unit: &'a Unit) -> Result<(Work<'a>, Filter, jiff::Timestamp), JobError> {
    run.control.checkpoint().map_err(RepositoryError::from)?;
    let name = &unit.planned.application.name;
    let filter = filter_of(&unit.set)?;
    let request = run.snapshot_request(unit.set.name.as_deref(), Some(name), stored_paths(unit), unit.set.filter.exclude.clone());
    let time = request.time;
    let writer: Box<dyn SnapshotWriter + 'a> = match run.repository() {
        Some(repository) => tokio::task::block_in_place(|| repository.write_snapshot(request, run.control, Arc::clone(run.progress)))?,
        None => Box::new(Counting::new(run.control, run.progress)),
    };
    let result = ApplicationResult::new(name);
    Ok((
        Work {
            run,
            unit,
            writer,
            result,
            records: Vec::new(),
            streamed: false,
            inside: Vec::new(),
            fault: None,
            patience: None,
            known_writers: None,
        },
        filter,
        time,
    ))
}

/// What the snapshot says it is of: the application, or the items of it that were asked for.
fn stored_paths(unit: &Unit) -> Vec<String> {
    let scope = &unit.set.scope;
    // Without its networks an application still has everything that cannot be made again.
    if unit.planned.whole && scope.configs && scope.volumes {
        return vec![unit.planned.application.root()];
    }
    let mut paths: Vec<String> = unit.planned.items.iter().map(|item| item.path.clone()).collect();
    paths.sort();
    paths.dedup();
    paths
}

impl Work<'_> {
    async fn items(&mut self, filter: &Filter) -> Result<(), JobError> {
        for item in self.unit.planned.items.iter().filter(|item| !is_read_still(item)) {
            match item.kind {
                ItemKind::Image => self.volume(item, filter).await?,
                _ => self.documents(item).await?,
            }
        }
        self.unsaved_changes().await;
        self.volumes(filter).await
    }

    /// Stores what is small and needs nobody to keep still.
    async fn documents(&mut self, item: &PlannedItem) -> Result<(), JobError> {
        let (run, application) = (self.run, &self.unit.planned.application);
        run.control.checkpoint().map_err(RepositoryError::from)?;
        let Some(host) = &run.host else { return Err(JobError::Internal("an application without an Engine".into())) };
        let gone = || "it was removed while the backup ran".to_owned();
        let unseen = |id: Option<&String>| {
            let reason = id.and_then(|id| host.discovery.unseen(id));
            reason.map_or_else(gone, |reason| format!("it cannot be looked at: {reason}"))
        };
        let found: Result<Vec<Document>, String> = match item.kind {
            ItemKind::Network => {
                let found = application.networks.iter().find(|network| network.name == item.name);
                let read = found.and_then(|found| network::configuration(&host.discovery, application, found));
                read.map(|one| vec![one]).ok_or_else(|| unseen(found.map(|found| &found.id)))
            }
            ItemKind::Configuration => {
                let found = application.container(&item.name);
                let read = found.and_then(|found| container::configuration(&host.discovery, application, found));
                read.map(|one| vec![one]).ok_or_else(|| unseen(found.map(|found| &found.id)))
            }
            ItemKind::Logs => match application.container(&item.name) {
                Some(found) => {
                    let lines = logs::lines(&host.engine, application, found, self.unit.set.scope.log_lines).await;
                    if found.swarm_task && lines.as_ref().is_err_and(DockerError::is_not_found) {
                        // So it is after an update, or when its service was scaled for another application of this run.
                        let name = printable(item.name.as_bytes());
                        self.result.notes.push(format!("container {name}: the swarm has replaced this task, and its log is gone with it"));
                        return Ok(());
                    }
                    lines.map(|one| vec![one]).map_err(|error| sentence(&error))
                }
                None => Err(gone()),
            },
            ItemKind::Compose => {
                // A dry run makes no helper.
                let owner = (!run.request.dry_run).then(|| Owner::of_run(&run.id));
                let found = compose::files(&host.engine, application, owner.as_ref()).await;
                self.result.warnings.extend(found.warnings);
                let would = |path: &String| format!("compose file {} would be read through a helper container", printable(path.as_bytes()));
                self.result.notes.extend(found.not_tried.iter().map(would));
                Ok(found.files)
            }
            ItemKind::Volume | ItemKind::Bind | ItemKind::Image | ItemKind::Layer | ItemKind::Database | ItemKind::HostPath => {
                return Ok(());
            }
        };
        match found {
            Ok(documents) => {
                for document in documents {
                    tokio::task::block_in_place(|| self.writer.add_bytes(document.path.as_bytes(), &document.bytes))?;
                    let outcome = ItemOutcome::Complete { proof: document.proof() };
                    self.result.warnings.extend(document.warnings);
                    self.record(document.kind, document.name, document.path, outcome, None);
                }
            }
            Err(reason) => self.record(item.kind, item.name.clone(), item.path.clone(), ItemOutcome::Failed { reason }, None),
        }
        Ok(())
    }

    /// Stores the volumes and bind mounts while what writes to them is kept still.
    async fn volumes(&mut self, filter: &Filter) -> Result<(), JobError> {
        let unit = self.unit;
        let volumes: Vec<&PlannedItem> = unit.planned.items.iter().filter(|item| is_read_still(item)).collect();
        if volumes.is_empty() {
            return Ok(());
        }
        let held = match quiet::begin(self.run, unit).await? {
            Ok(held) => held,
            Err(quiet) => {
                // What cannot be kept still is not read: a torn copy would look like a good one.
                let reason = quiet.failure.clone().unwrap_or_default();
                for item in volumes {
                    let failed = ItemOutcome::Failed { reason: reason.clone() };
                    self.record(item.kind, item.name.clone(), item.path.clone(), failed, None);
                }
                self.take_quiet(quiet);
                return Ok(());
            }
        };
        self.known_writers = held.known_writers().cloned();
        let mut read = Ok(());
        for item in volumes {
            read = self.volume(item, filter).await;
            if read.is_err() {
                break;
            }
        }
        // Told even when everything else is lost: a container may be down.
        let quiet = held.end(self.run).await;
        self.take_quiet(quiet);
        read
    }

    fn take_quiet(&mut self, quiet: Quiet) {
        self.result.failures.extend(quiet.not_started);
        self.result.warnings.extend(quiet.warnings);
        self.result.notes.extend(quiet.notes);
        self.result.downtime = quiet.downtime;
        self.result.quiesced = quiet.records;
        self.result.hooks = quiet.hooks;
        for writer in quiet.disturbed {
            let reason = format!("container {} ran while it was read, and was not running or was kept still before", writer.name);
            self.disturbed(&writer.place, &reason);
        }
        let (unknown, reason) = quiet.unknown.unwrap_or_default();
        for place in unknown {
            self.disturbed(&place, &reason);
        }
    }

    /// What somebody wrote to, or may have, while it was read is not whole, however well it was read.
    fn disturbed(&mut self, place: &Place, reason: &str) {
        let records = self.records.iter_mut().filter(|record| record.kind == place.kind && record.name == place.name);
        let label = format!("{} {}", place.kind.as_str(), printable(place.name.as_bytes()));
        let results = self.result.items.iter_mut().filter(|result| result.item == label);
        for outcome in records.map(|record| &mut record.outcome).chain(results.map(|result| &mut result.outcome)) {
            let was = std::mem::replace(outcome, ItemOutcome::Skipped);
            *outcome = less_whole(was, vec![reason.to_owned()]);
        }
    }

    /// Whether an item that comes as a stream is looked at again: only while nobody is known to write to it.
    fn second_look(&self, item: &PlannedItem) -> SecondLook {
        let (Some(host), Some(writers)) = (&self.run.host, &self.known_writers) else { return SecondLook::None };
        let application = &self.unit.planned.application;
        let volume = || application.volumes.iter().find(|volume| volume.name == item.name).map(|volume| volume.everybody().collect());
        let bind = || application.binds.iter().find(|bind| bind.path == item.name).map(|bind| bind.users.iter().collect());
        let users: Option<Vec<&VolumeUser>> = if item.kind == ItemKind::Bind { bind() } else { volume() };
        let writes = |user: &VolumeUser| host.discovery.container(&user.container).is_none_or(|container| writers.contains(&container.id));
        match users {
            Some(users) if users.iter().any(|user| writes(user)) => SecondLook::None,
            _ if self.run.context.config.docker.check_streams => SecondLook::Stream,
            _ => SecondLook::Listing,
        }
    }

    async fn volume(&mut self, item: &PlannedItem, filter: &Filter) -> Result<(), JobError> {
        let run = self.run;
        run.control.checkpoint().map_err(RepositoryError::from)?;
        let half = self.half_restored(item)?;
        if let Some(reason) = half.as_ref().filter(|_| !run.request.before_restore) {
            // Half of one and half of another content, told as whole, would be the worst that a backup can be.
            self.record(item.kind, item.name.clone(), item.path.clone(), ItemOutcome::Failed { reason: reason.clone() }, None);
            return Ok(());
        }
        let label = format!("{} {}", item.kind.as_str(), item.name);
        run.progress.event(Event::ItemStarted { label: &label });
        let mut filter = filter.clone();
        for pattern in &item.exclude {
            filter.exclude(pattern.as_bytes(), Case::Sensitive).map_err(SourceError::from)?;
        }
        let mut tries = Tries::default();
        let read = loop {
            let opened = match item.kind {
                ItemKind::Bind => self.open_bind(item, filter.clone()).await?,
                ItemKind::Image => self.open_image(item).await?,
                ItemKind::Layer => self.open_layer(item).await?,
                _ => self.open_volume(item, filter.clone()).await?,
            };
            let ended = match opened {
                Opened::Ready(opened, again, lost) => {
                    self.patience = None;
                    let (outcome, helper_reason) = self.read(item, *opened, again).await?;
                    (less_whole(outcome, lost), helper_reason)
                }
                Opened::Ended(outcome, helper_reason) => (outcome, helper_reason),
                Opened::Left => break None,
            };
            match (&ended.0, self.fault.take()) {
                (ItemOutcome::Failed { reason }, Some(fault)) if self.tries_again(fault, &mut tries).await => {
                    run.control.checkpoint().map_err(RepositoryError::from)?;
                    if fault == Fault::Cut {
                        let name = printable(item.name.as_bytes());
                        self.result.notes.push(format!("{} {name} is read once more: {reason}", item.kind.as_str()));
                    }
                }
                _ => break Some(ended),
            }
        };
        run.progress.event(Event::ItemFinished { label: &label });
        if let Some((outcome, helper_reason)) = read {
            // A restore may have begun to overwrite it meanwhile.
            let half = if half.is_none() { self.half_restored(item)? } else { half };
            let outcome = less_whole(outcome, half.into_iter().collect());
            self.record(item.kind, item.name.clone(), item.path.clone(), outcome, helper_reason);
            let (mounted_at, mounted_inside) = (self.mounted_at(item).await, self.mounted_inside(item));
            if let Some(record) = self.records.last_mut() {
                (record.mounted_at, record.mounted_inside) = (mounted_at, mounted_inside);
            }
        }
        Ok(())
    }

    /// Whether an item is tried again, once that may help. One that broke off is read once more; an Engine that is gone is waited for.
    async fn tries_again(&mut self, fault: Fault, tries: &mut Tries) -> bool {
        match fault {
            Fault::Cut => {
                tries.cuts += 1;
                tries.refusals = 0;
                tries.cuts < READS
            }
            Fault::Ending | Fault::Gone => {
                let Some(host) = &self.run.host else { return false };
                let deadline = *self.patience.get_or_insert_with(|| clock::monotonic() + ENGINE_LIMIT);
                tries.refusals += usize::from(fault == Fault::Gone);
                if tries.refusals >= REFUSALS || clock::monotonic() >= deadline {
                    return false;
                }
                tokio::time::sleep(PAUSE).await;
                until_it_answers(&host.engine, self.run.control, self.run.progress, deadline).await
            }
            Fault::Passing => {
                tries.refusals += 1;
                let again = tries.cuts > 0 && tries.refusals < REFUSALS;
                if again {
                    tokio::time::sleep(PAUSE).await;
                }
                again
            }
        }
    }

    /// Why a volume or bind mount is half of one and half of another content, if it is so just now. What is saved before it is overwritten is looked at once,
    /// as all of that is ours.
    fn half_restored(&self, item: &PlannedItem) -> Result<Option<String>, JobError> {
        let Some(host) = self.run.host.as_ref().filter(|_| matches!(item.kind, ItemKind::Volume | ItemKind::Bind)) else { return Ok(None) };
        if self.run.request.before_restore {
            return Ok(reason_in(&host.half, item));
        }
        let half = crate::jobs::restore::half_restored(&self.run.context.directories.state, host.engine.id())?;
        Ok(reason_in(&half, item))
    }

    /// On which disk of the machine files of it lie, so that they are not written to another one for want of a mount.
    async fn mounted_at(&self, item: &PlannedItem) -> Option<String> {
        let path = match item.kind {
            ItemKind::Bind => item.name.as_str(),
            ItemKind::Volume => self.unit.planned.application.volume(&item.name)?.bound_folder()?,
            _ => return None,
        };
        mountpoint::mounted_at(&self.run.host.as_ref()?.engine, Path::new(path)).await?.into_os_string().into_string().ok()
    }

    /// What is mounted inside of the item that was read just now; what of that is not saved is told.
    fn mounted_inside(&mut self, item: &PlannedItem) -> Vec<InnerMount> {
        let inside = std::mem::take(&mut self.inside);
        let why = if item.kind == ItemKind::Bind { "one_file_system" } else { "it is not part of what containers see" };
        let what = format!("{} {}", item.kind.as_str(), printable(item.name.as_bytes()));
        self.result.notes.extend(not_followed(&inside).map(|paths| format!("{what}: what is mounted in it is not saved ({why}): {paths}")));
        let name = |path: &Path| path.to_str().map_or_else(|| printable(path.as_os_str().as_bytes()), str::to_owned);
        inside.iter().map(|one| InnerMount { path: name(&one.path), saved: one.is_read }).collect()
    }

    /// Says what containers wrote outside everything that is saved.
    async fn unsaved_changes(&mut self) {
        let Some(host) = self.run.host.as_ref().filter(|_| !self.unit.set.scope.layers) else { return };
        for item in self.unit.planned.items.iter().filter(|item| item.kind == ItemKind::Configuration) {
            let Some(container) = self.unit.planned.application.container(&item.name) else { continue };
            let name = printable(item.name.as_bytes());
            let changes = match changes_if_few(&host.engine, container).await {
                Ok(Some(changes)) => changes,
                Ok(None) => {
                    let note = "what it wrote outside its mounts is not saved (scope.layers): too many paths to list";
                    self.result.notes.push(format!("container {name}: {note}"));
                    continue;
                }
                // An Engine or proxy that does not say leaves the backup as good as it is.
                Err(error) => {
                    self.result
                        .notes
                        .push(format!("container {name}: what it wrote outside its mounts is not known: {}", sentence(&error)));
                    continue;
                }
            };
            let missed = missed(&changes);
            if !missed.is_empty() {
                let paths = listed(missed.iter().map(|change| change.path.as_str()));
                self.result.notes.push(format!("container {name}: what it wrote outside its mounts is not saved (scope.layers): {paths}"));
            }
        }
    }

    fn never_started(&self, item: &PlannedItem) -> bool {
        let Some(host) = &self.run.host else { return false };
        let bind = self.unit.planned.application.binds.iter().find(|bind| bind.path == item.name);
        let started = |user: &VolumeUser| host.discovery.container(&user.container).is_none_or(|one| one.state.status != Status::Created);
        bind.is_some_and(|bind| !bind.users.iter().any(started))
    }

    /// Stores what was opened; `again` is the same once more, for an estimate.
    async fn read(
        &mut self,
        item: &PlannedItem,
        opened: OpenVolume,
        again: Option<Box<dyn Source>>,
    ) -> Result<(ItemOutcome, Option<String>), JobError> {
        let run = self.run;
        let mut receipt = opened.receipt;
        let estimate = again.map(|again| Estimate::start(again, run.progress));
        let added = tokio::task::block_in_place(|| self.writer.add(item.path.as_bytes(), opened.source));
        drop(estimate);
        let mut outcome = self.outcome_of(item, &receipt, added);
        if let (Ok(ItemOutcome::Complete { .. } | ItemOutcome::Partial { .. }), Some(host)) = (&outcome, &run.host) {
            let reasons = match receipt.compare(&host.engine, run.control).await {
                Ok(reasons) => reasons,
                Err(error) => vec![format!("whether all of it was read is not known: {}", sentence(&error))],
            };
            outcome = outcome.map(|outcome| less_whole(outcome, reasons));
        }
        self.streamed |= receipt.came_as_stream();
        self.inside = receipt.mounted();
        self.result.warnings.extend(receipt.warnings().iter().cloned());
        let helper_reason = receipt.helper_reason().map(str::to_owned);
        if let Err(error) = receipt.close().await {
            self.result.warnings.push(format!(
                "the helper container of {} {} stays until the next run: {}",
                item.kind.as_str(),
                printable(item.name.as_bytes()),
                sentence(&error)
            ));
        }
        Ok((outcome?, helper_reason))
    }

    /// How a volume ended. Errors that are not its own end the snapshot.
    fn outcome_of(
        &mut self,
        item: &PlannedItem,
        receipt: &Receipt,
        added: Result<AddSummary, RepositoryError>,
    ) -> Result<ItemOutcome, RepositoryError> {
        let summary = match added {
            Ok(summary) => summary,
            Err(RepositoryError::Skipped) => return Ok(ItemOutcome::Skipped),
            Err(RepositoryError::Source { source, .. }) => {
                self.fault = is_cut(&source).then_some(Fault::Cut);
                return Ok(ItemOutcome::Failed { reason: sentence(&source) });
            }
            Err(error) => return Err(error),
        };
        let is_empty = matches!(item.kind, ItemKind::Volume | ItemKind::Bind)
            && receipt.counts().entries() <= 1
            && summary.problem_count + summary.warning_count == 0;
        let outcome = match (receipt.proof(), is_empty.then(|| self.full_before(item)).flatten()) {
            (_, Some(before)) => ItemOutcome::Failed {
                reason: format!(
                    "it is empty, and in snapshot {} it was not: its data is gone or not mounted; if it is meant to be empty, --full saves it so",
                    before.short()
                ),
            },
            (Some(proof), None) => judge(proof, true, &summary),
            (None, None) => ItemOutcome::Failed { reason: "it was not read to its end".to_owned() },
        };
        self.result.problems.extend(summary.problems);
        self.result.problems.extend(summary.warnings);
        Ok(outcome)
    }

    /// Writes `application.json` and the snapshot, unless there is nothing to put into one.
    fn close(mut self, time: jiff::Timestamp) -> Result<ApplicationResult, Unsaved> {
        let mut result = self.result;
        if self.streamed {
            result.notes.push(format!("volumes that were read through a helper lack: {}", STREAM_LOST.join("; ")));
        }
        if !self.records.iter().any(|record| matches!(record.outcome, ItemOutcome::Complete { .. } | ItemOutcome::Partial { .. })) {
            return Ok(result);
        }
        let Some(host) = &self.run.host else { return Err(JobError::Internal("an application without an Engine".into()).into()) };
        let complete = self.records.iter().all(|record| record.outcome.is_complete());
        let mut warnings: BTreeSet<String> = result.warnings.iter().chain(&result.failures).chain(&result.notes).cloned().collect();
        if self.unit.planned.application.containers.iter().any(|container| container.swarm_task) {
            warnings.insert(NO_SERVICES.to_owned());
        }
        warnings.extend(result.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)));
        let mut application = self.unit.planned.application.clone();
        host.left_down.put_right(&mut application);
        let document = ApplicationDocument {
            format_version: DOCUMENT_VERSION,
            program: concat!("bbackup ", env!("CARGO_PKG_VERSION")).to_owned(),
            host: self.run.context.config.host.clone(),
            run: self.run.id.clone(),
            time,
            engine: host.discovery.engine.clone(),
            application,
            items: self.records,
            whole: self.unit.planned.whole,
            left_out: self.unit.planned.left_out.clone(),
            quiesced: result.quiesced.clone(),
            hooks: result.hooks.clone(),
            downtime_seconds: result.downtime.unwrap_or(Duration::ZERO).as_secs_f64(),
            stream_lost: if self.streamed { STREAM_LOST.map(str::to_owned).to_vec() } else { Vec::new() },
            warnings: warnings.into_iter().collect(),
        };
        let json = document.to_json().map_err(|error| JobError::Internal(format!("application.json cannot be written: {error}")))?;
        let finished = tokio::task::block_in_place(|| {
            self.writer.add_bytes(document.application.document_path().as_bytes(), &json)?;
            self.writer.finish(closing_tags(complete))
        });
        let (snapshot, summary) = match finished {
            Ok(finished) => finished,
            Err(error) => return Err(Unsaved { error: Box::new(error.into()), down: result.failures }),
        };
        (result.snapshot, result.summary, result.saved) = (snapshot, summary, true);
        Ok(result)
    }

    fn record(&mut self, kind: ItemKind, name: String, path: String, outcome: ItemOutcome, helper_reason: Option<String>) {
        let item = format!("{} {}", kind.as_str(), printable(name.as_bytes()));
        self.result.items.push(ItemResult { item, outcome: outcome.clone() });
        self.records.push(ItemRecord { kind, name, path, outcome, helper_reason, mounted_at: None, mounted_inside: Vec::new() });
    }
}

/// The first of some paths, and how many more there are.
fn listed<'a>(paths: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 10;
    let more = paths.len().saturating_sub(SHOWN);
    let text = paths.take(SHOWN).map(|path| printable(path.as_bytes())).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

/// What of some mount points was not read, for a sentence; none where nobody would miss anything.
pub(super) fn not_followed(inside: &[MountedInside]) -> Option<String> {
    let missed: Vec<String> =
        inside.iter().filter(|one| !one.is_read && one.holds_data).map(|one| one.path.display().to_string()).collect();
    (!missed.is_empty()).then(|| listed(missed.iter().map(String::as_str)))
}

/// Whether an item is read while the containers are kept still.
fn is_read_still(item: &PlannedItem) -> bool {
    matches!(item.kind, ItemKind::Volume | ItemKind::Bind | ItemKind::Layer)
}

/// The reason for a volume of that name, or for a path that reaches into a bind mount or lies around it.
fn reason_in(half: &BTreeMap<String, String>, item: &PlannedItem) -> Option<String> {
    let place = Path::new(&item.name);
    let overlaps = |other: &str| other.starts_with('/') && (place.starts_with(other) || Path::new(other).starts_with(place));
    let is_meant = |other: &str| if item.kind == ItemKind::Bind { overlaps(other) } else { other == item.name };
    half.iter().find(|(other, _)| is_meant(other)).map(|(_, reason)| reason.clone())
}

/// What was saved is not whole for these reasons, if there are any.
fn less_whole(outcome: ItemOutcome, more: Vec<String>) -> ItemOutcome {
    match outcome {
        ItemOutcome::Complete { proof } if !more.is_empty() => ItemOutcome::Partial { proof, reasons: more },
        ItemOutcome::Partial { proof, mut reasons } => {
            reasons.extend(more);
            ItemOutcome::Partial { proof, reasons }
        }
        other => other,
    }
}

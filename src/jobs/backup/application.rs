//! One application: its documents, then its volumes while its containers are kept still, then `application.json`.
//!
//! Whatever happens between stopping and starting, the containers are started again, and before anything else is done.

mod before;
mod deserted;
mod mounted;
mod open;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::before::Now;
use self::mounted::Fault;
use self::open::Opened;
use super::estimate::Estimate;
use super::paths::judge;
use super::quiet::{self, Quiet};
use super::{NO_SERVICES, Run, Unit, Unsaved, closing_tags, filter_of, sentence};
use crate::docker::DockerError;
use crate::docker::helper::Owner;
use crate::docker::layer::{changes_if_few, missed};
use crate::docker::quiesce::Place;
use crate::jobs::backup::counting::Counting;
use crate::jobs::error::JobError;
use crate::jobs::results::{ApplicationResult, ItemResult};
use crate::model::application::{ApplicationDocument, DOCUMENT_VERSION, ItemKind, ItemRecord, Status, VolumeUser};
use crate::model::entry::Source;
use crate::model::outcome::ItemOutcome;
use crate::model::text::printable;
use crate::platform::clock;
use crate::repository::contract::{AddSummary, RepositoryError, SnapshotWriter};
use crate::sources::compare::SecondLook;
use crate::sources::document::Document;
use crate::sources::filter::Filter;
use crate::sources::plan::PlannedItem;
use crate::sources::tar::is_cut;
use crate::sources::volume::{OpenVolume, Receipt, STREAM_LOST};
use crate::sources::{MountedInside, compose, container, logs, network};

/// One application on its way into a snapshot.
struct Work<'a> {
    run: &'a Run<'a>,
    unit: &'a Unit,
    writer: Box<dyn SnapshotWriter + 'a>,
    result: ApplicationResult,
    records: Vec<ItemRecord>,
    /// Paths of bind mounts that do not exist and need not.
    gone: Vec<String>,
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
            gone: Vec::new(),
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
        self.missing_containers()?;
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
                let read = found.and_then(|found| {
                    container::configuration(&host.discovery, application, found, host.left_down.restart_policy(&found.id))
                });
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
                    self.result.notes.extend(document.notes);
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
        let mut volumes: Vec<&PlannedItem> = unit.planned.items.iter().filter(|item| is_read_still(item)).collect();
        self.leave_silent(&mut volumes).await;
        self.leave_half(&mut volumes)?;
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
        let is_gone = self.patience.is_some_and(|deadline| clock::monotonic() >= deadline);
        let quiet = held.end(self.run, &self.unit.planned.application.name, is_gone).await;
        self.take_quiet(quiet);
        read
    }

    fn take_quiet(&mut self, quiet: Quiet) {
        self.result.failures.extend(quiet.not_started);
        self.result.unwritable = quiet.unwritable;
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
        let outcome = match (receipt.proof(), is_empty.then(|| self.full_before(item, Now::Empty)).flatten()) {
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
        let only_told = self.run.request.dry_run && self.records.is_empty();
        if !only_told
            && !self.records.iter().any(|record| matches!(record.outcome, ItemOutcome::Complete { .. } | ItemOutcome::Partial { .. }))
        {
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
            gone: self.gone,
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

//! What containers mount, read into a snapshot: once more where it broke off, and not at all where a restore has left half of it.
//!
//! How it is opened is `open`'s business, when containers are kept still for it, the application's.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use super::{Opened, Work, less_whole, not_followed};
use crate::docker::discover::links::Links;
use crate::docker::{DockerError, mountpoint};
use crate::jobs::engine::until_it_answers;
use crate::jobs::error::JobError;
use crate::jobs::restore::{Since, not_all_of_layers, not_all_restored};
use crate::model::application::{InnerMount, ItemKind, Volume};
use crate::model::outcome::ItemOutcome;
use crate::model::progress::Event;
use crate::model::text::printable;
use crate::platform::clock;
use crate::repository::contract::RepositoryError;
use crate::sources::SourceError;
use crate::sources::filter::{Case, Filter};
use crate::sources::plan::PlannedItem;
use crate::targets::plan::{is_in, is_path};

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
pub(super) enum Fault {
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
    pub(super) fn of(error: Option<&DockerError>, is_transient: bool) -> Option<Self> {
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

impl Work<'_> {
    /// Takes away what lies on a file system that does not answer: it has failed before anybody is stopped for it.
    pub(super) async fn leave_silent(&mut self, items: &mut Vec<&PlannedItem>) {
        let Some(host) = &self.run.host else { return };
        let application = &self.unit.planned.application;
        let place = |item: &PlannedItem| match item.kind {
            ItemKind::Bind => Some(item.name.clone()),
            ItemKind::Volume => application.volume(&item.name)?.bound_folder().map(str::to_owned),
            _ => None,
        };
        let silent = Links::silent(&host.engine, items.iter().filter_map(|item| place(item)).collect()).await;
        let (failed, left) = items.drain(..).partition(|item| place(item).is_some_and(|place| silent.contains(&place)));
        *items = left;
        let failed: Vec<&PlannedItem> = failed;
        for item in failed {
            let reason = "its file system does not answer; if it is on the network, its server may be gone".to_owned();
            self.record(item.kind, item.name.clone(), item.path.clone(), ItemOutcome::Failed { reason }, None);
        }
    }

    /// Takes away what restores have left half restored: nobody needs to be stopped for what is not read.
    pub(super) fn leave_half(&mut self, items: &mut Vec<&PlannedItem>) -> Result<(), JobError> {
        for item in std::mem::take(items) {
            if !self.is_left_half(item)? {
                items.push(item);
            }
        }
        Ok(())
    }

    /// Whether an item is half restored, and not saved for that.
    fn is_left_half(&mut self, item: &PlannedItem) -> Result<bool, JobError> {
        // What a restore overwrites is saved as it is.
        let half = if self.run.request.before_restore { None } else { self.half_restored(item)? };
        let is_half = half.is_some();
        if let Some(reason) = half {
            // Half of one and half of another content, told as whole, would be the worst that a backup can be.
            self.record(item.kind, item.name.clone(), item.path.clone(), ItemOutcome::Failed { reason }, None);
        }
        Ok(is_half)
    }

    pub(super) async fn volume(&mut self, item: &PlannedItem, filter: &Filter) -> Result<(), JobError> {
        let run = self.run;
        run.control.checkpoint().map_err(RepositoryError::from)?;
        if self.is_left_half(item)? {
            return Ok(());
        }
        let half = if run.request.before_restore { self.half_restored(item)? } else { None };
        let label = format!("{} {}", item.kind.as_str(), item.name);
        run.progress.event(Event::ItemStarted { label: &label });
        let mut filter = filter.clone();
        for pattern in &item.exclude {
            filter.exclude(pattern.as_bytes(), Case::Sensitive).map_err(SourceError::from)?;
        }
        let since = Since::now(&run.context.directories.state)?;
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
            let half = if half.is_none() { self.restored_since(item, &since)? } else { half };
            let outcome = less_whole(outcome, half.into_iter().collect());
            self.record(item.kind, item.name.clone(), item.path.clone(), outcome, helper_reason);
            let (mounted_at, mounted_inside) = (self.mounted_at(item).await, self.mounted_inside(item));
            if let Some(record) = self.records.last_mut() {
                (record.mounted_at, record.mounted_inside) = (mounted_at, mounted_inside);
            }
        } else if item.kind == ItemKind::Layer
            && let Some(reason) = self.restored_since(item, &since)?
        {
            // Nothing at all has come back.
            self.record(item.kind, item.name.clone(), item.path.clone(), ItemOutcome::Failed { reason }, None);
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
        let volume = self.unit.planned.application.volume(&item.name);
        if self.run.request.before_restore {
            return Ok(reason_in(&host.half, item, volume));
        }
        let half = crate::jobs::restore::half_restored(&self.run.context.directories.state, host.engine.id())?;
        Ok(reason_in(&half, item, volume))
    }

    /// Why an item that was whole before it was read is less now: a restore wrote to it meanwhile, be it that it has ended, or had not brought back
    /// all of it.
    fn restored_since(&self, item: &PlannedItem, since: &Since) -> Result<Option<String>, JobError> {
        if let Some(reason) = self.half_restored(item)? {
            return Ok(Some(reason));
        }
        let Some(host) = self.run.host.as_ref().filter(|_| !self.run.request.before_restore) else { return Ok(None) };
        let (state, engine) = (&self.run.context.directories.state, host.engine.id());
        match item.kind {
            ItemKind::Volume | ItemKind::Bind => {}
            ItemKind::Layer => {
                let id = self.unit.planned.application.container(&item.name).map(|container| &container.id);
                let mut short = not_all_of_layers(state, engine)?;
                return Ok(id.and_then(|id| short.remove(id)));
            }
            _ => return Ok(None),
        }
        let volume = self.unit.planned.application.volume(&item.name);
        let meanwhile = reason_in(&since.restored(state, engine)?, item, volume);
        Ok(if meanwhile.is_some() { meanwhile } else { reason_in(&not_all_restored(state, engine)?, item, volume) })
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
        // What holds no data (`proc` of a chroot) is not missed by anybody.
        inside.iter().filter(|one| one.holds_data).map(|one| InnerMount { path: name(&one.path), saved: one.is_read }).collect()
    }
}

/// The reason for a volume of that name, or for a path that reaches into a bind mount, a volume's folder or what a volume stands for, or lies
/// around it.
fn reason_in(half: &BTreeMap<String, String>, item: &PlannedItem, volume: Option<&Volume>) -> Option<String> {
    let bind = Some(item.name.as_str()).filter(|_| item.kind == ItemKind::Bind);
    let folder = volume.map(|volume| volume.mountpoint.as_str()).filter(|folder| !folder.is_empty());
    let places = || [bind, folder, volume.and_then(Volume::device)].into_iter().flatten();
    let overlaps = |other: &str| is_path(other) && places().any(|place| is_in(place, other) || is_in(other, place));
    let is_meant = |other: &str| overlaps(other) || item.kind == ItemKind::Volume && other == item.name;
    half.iter().find(|(other, _)| is_meant(other)).map(|(_, reason)| reason.clone())
}

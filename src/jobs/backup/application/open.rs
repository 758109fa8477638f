//! Opens what is read of an application: the way there is chosen in `sources`; here it is told, and what is no item after all is left.

use std::path::Path;
use std::sync::Arc;

use super::super::sentence;
use super::{Fault, Now, Work, listed};
use crate::docker::helper::Owner;
use crate::jobs::error::JobError;
use crate::model::application::Container;
use crate::model::entry::Source;
use crate::model::outcome::{ItemOutcome, ReadMethod};
use crate::model::text::printable;
use crate::sources::bind::{self, BindError, BindOptions, Missed, OpenBind};
use crate::sources::filter::Filter;
use crate::sources::plan::PlannedItem;
use crate::sources::volume::{self, OpenVolume, ReadMode, ReadOptions, VolumeError};
use crate::sources::{SourceError, image, layer};

/// What came of opening an item.
pub(super) enum Opened {
    /// It can be read. Second: the same once more, to be counted. Third: why it will not be whole, however well it is read.
    Ready(Box<OpenVolume>, Option<Box<dyn Source>>, Vec<String>),
    /// It ended without having been read.
    Ended(ItemOutcome, Option<String>),
    /// It is no item after all, or none of a dry run, which is told instead.
    Left,
}

impl Work<'_> {
    /// Opens a volume.
    pub(super) async fn open_volume(&mut self, item: &PlannedItem, filter: Filter) -> Result<Opened, JobError> {
        let run = self.run;
        let Some(host) = &run.host else { return Err(JobError::Internal("an application without an Engine".into())) };
        let options = ReadOptions {
            // A dry run makes no helper.
            mode: if run.request.dry_run { ReadMode::Direct } else { ReadMode::Auto },
            filter: Some(Arc::new(filter)),
            seen_as: item.path.clone().into_bytes(),
            never_read: Arc::clone(&run.never_read),
            owner: Owner::of_run(&run.id),
            second_look: self.second_look(item),
        };
        let opened = match volume::open(&host.engine, &item.name, options.clone()).await {
            Ok(opened) => opened,
            Err(VolumeError::NotDirect { reason, .. }) if run.request.dry_run => {
                let name = printable(item.name.as_bytes());
                self.result.notes.push(format!("volume {name} would be read through a helper container: {reason}"));
                return Ok(Opened::Left);
            }
            Err(VolumeError::Folder { source: SourceError::NeverRead { path }, .. }) => {
                let (name, path) = (printable(item.name.as_bytes()), path.display());
                self.result.notes.push(format!("volume {name} is not saved: {path} belongs to bbackup itself or to the Docker Engine"));
                return Ok(Opened::Left);
            }
            Err(error) => {
                self.fault = Fault::of(error.of_engine(), error.is_transient());
                return Ok(Opened::Ended(ItemOutcome::Failed { reason: sentence(&error) }, None));
            }
        };
        let again = match (opened.receipt.method(), run.request.estimate) {
            (ReadMethod::Direct, true) => {
                volume::open(&host.engine, &item.name, ReadOptions { mode: ReadMode::Direct, ..options }).await.ok()
            }
            _ => None,
        };
        Ok(Opened::Ready(Box::new(opened), again.map(|again| again.source), Vec::new()))
    }

    /// Opens a bind mount.
    pub(super) async fn open_bind(&mut self, item: &PlannedItem, filter: Filter) -> Result<Opened, JobError> {
        let run = self.run;
        let Some(host) = &run.host else { return Err(JobError::Internal("an application without an Engine".into())) };
        let path = Path::new(&item.name);
        let binds = &self.unit.planned.application.binds;
        let inner = binds.iter().map(|bind| Path::new(&bind.path)).filter(|inner| *inner != path && inner.starts_with(path));
        let options = BindOptions {
            mode: if run.request.dry_run { ReadMode::Direct } else { ReadMode::Auto },
            filter: Some(Arc::new(filter)),
            one_file_system: self.unit.set.filter.one_file_system,
            never_read: Arc::clone(&run.never_read),
            inner: inner.map(Path::to_owned).collect(),
            owner: Owner::of_run(&run.id),
            second_look: self.second_look(item),
        };
        let shown = printable(item.name.as_bytes());
        match bind::open(&host.engine, &item.name, options.clone()).await {
            Ok(OpenBind::Ready(opened, missed)) => {
                let lost = self.lost(item, missed);
                let mut again = None;
                if opened.receipt.method() == &ReadMethod::Direct && run.request.estimate {
                    let direct = BindOptions { mode: ReadMode::Direct, ..options };
                    if let Ok(OpenBind::Ready(counted, _)) = bind::open(&host.engine, &item.name, direct).await {
                        again = Some(counted.source);
                    }
                }
                Ok(Opened::Ready(opened, again, lost))
            }
            Ok(OpenBind::Left(reason)) => {
                self.result.notes.push(format!("bind mount {shown} is not saved: {reason}"));
                Ok(Opened::Left)
            }
            Err(BindError::NotDirect { reason, .. }) if run.request.dry_run => {
                self.result.notes.push(format!("bind mount {shown} would be read through a helper container: {reason}"));
                Ok(Opened::Left)
            }
            Err(error) if error.is_missing() && self.never_started(item) => Ok(self.missing_bind(item, &error)),
            Err(error) => {
                self.fault = Fault::of(error.of_engine(), error.is_transient());
                Ok(Opened::Ended(ItemOutcome::Failed { reason: sentence(&error) }, None))
            }
        }
    }

    /// A bind mount that is not there, of containers that were never started: the Engine makes it when one is. What was saved before is gone.
    fn missing_bind(&mut self, item: &PlannedItem, error: &BindError) -> Opened {
        let Some(before) = self.full_before(item, Now::Gone) else {
            let shown = printable(item.name.as_bytes());
            let reason = "it does not exist, and nothing that mounts it was ever started";
            self.result.notes.push(format!("bind mount {shown} is not saved: {reason}"));
            self.gone.push(item.name.clone());
            return Opened::Left;
        };
        let reason = format!(
            "{}, and in snapshot {} it did: its data is gone or not mounted; if it is meant to be gone, --full accepts that",
            sentence(error),
            before.short()
        );
        Opened::Ended(ItemOutcome::Failed { reason }, None)
    }

    /// What was to be saved with a bind mount and will not be: reasons why it is not whole. What was left out on purpose, or is of a
    /// container that was not chosen, is only told.
    fn lost(&mut self, item: &PlannedItem, missed: Vec<Missed>) -> Vec<String> {
        let mut lost = Vec::new();
        for one in missed {
            if one.on_purpose {
                self.result.notes.push(one.reason);
            } else if item.inner.iter().any(|inner| Path::new(inner) == one.path) {
                lost.push(one.reason);
            } else {
                self.result.warnings.push(one.reason);
            }
        }
        lost
    }

    /// Opens an image that no registry has.
    pub(super) async fn open_image(&mut self, item: &PlannedItem) -> Result<Opened, JobError> {
        let Some(host) = &self.run.host else { return Err(JobError::Internal("an application without an Engine".into())) };
        let containers: Vec<&Container> = self.unit.planned.application.containers.iter().collect();
        let Some((_, image)) = image::local(&containers).into_iter().find(|(name, _)| *name == item.name) else {
            return Err(JobError::Internal("an image that no container has".into()));
        };
        if self.run.request.dry_run {
            self.result.notes.push(format!("image {} would be saved", printable(item.name.as_bytes())));
            return Ok(Opened::Left);
        }
        Ok(match image::open(&host.engine, image).await {
            Ok(opened) => Opened::Ready(Box::new(opened), None, Vec::new()),
            Err(error) => {
                self.fault = Fault::of(Some(&error), error.is_transient());
                Opened::Ended(ItemOutcome::Failed { reason: sentence(&error) }, None)
            }
        })
    }

    /// Opens what a container wrote into its own layer.
    pub(super) async fn open_layer(&mut self, item: &PlannedItem) -> Result<Opened, JobError> {
        let Some(host) = &self.run.host else { return Err(JobError::Internal("an application without an Engine".into())) };
        let Some(container) = self.unit.planned.application.container(&item.name) else { return Ok(Opened::Left) };
        if self.run.request.dry_run {
            self.result.notes.push(format!("what container {} wrote outside its mounts would be saved", printable(item.name.as_bytes())));
            return Ok(Opened::Left);
        }
        let opened = match layer::open(&host.engine, container).await {
            Ok(opened) => opened,
            Err(error) => {
                self.fault = Fault::of(Some(&error), error.is_transient());
                return Ok(Opened::Ended(ItemOutcome::Failed { reason: sentence(&error) }, None));
            }
        };
        if !opened.deleted.is_empty() {
            let paths = listed(opened.deleted.iter().map(String::as_str));
            let name = printable(item.name.as_bytes());
            self.result.notes.push(format!("container {name}: files of its image that it has deleted come back with a restore: {paths}"));
        }
        Ok(opened.files.map_or(Opened::Left, |files| Opened::Ready(Box::new(files), None, Vec::new())))
    }
}

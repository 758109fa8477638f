//! A volume's files: chooses between the file system and a helper's archive stream, and keeps what shows that all was read.
//!
//! Walking and taking streams apart is `walk`'s and `tar`'s business; stopping who writes, that of `jobs`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compare::{CompareError, Comparison, SecondLook};
use super::filter::Filter;
use super::filtered::Filtered;
use super::tar::TarSource;
use super::walk::{Walk, WalkOptions};
use super::{Counts, Identity, MountedInside, NeverRead, Pruned, SourceError, mounted_inside};
use crate::docker::archive::{ArchiveReader, archive_get};
use crate::docker::discover::inspect_volume;
use crate::docker::helper::{Access, Helper, MOUNT, Owner};
use crate::docker::mountpoint::{Mountpoint, identified, same_root};
use crate::docker::{DockerError, Engine};
use crate::model::application::Volume;
use crate::model::entry::Source;
use crate::model::outcome::{EndMark, Proof, ReadMethod};
use crate::platform::control::Control;
use crate::platform::mounts;

/// What the Engine's archive stream does not carry, one sentence each.
pub const STREAM_LOST: [&str; 6] = [
    "extended attributes except security.capability, and with them access control lists",
    "fractions of a second in modification times",
    "sockets",
    "which symbolic links, devices and pipes are hard links of one another (each becomes one of its own)",
    "which parts of a file are holes (runs of zeros are made holes again)",
    "inode numbers and the times of the last change of the inode",
];

/// How a volume is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// Directly where that is safe, else through a helper.
    #[default]
    Auto,
    /// Directly or not at all.
    Direct,
    /// Through a helper.
    Helper,
}

/// How a volume is read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Which way.
    pub mode: ReadMode,
    /// What is left out.
    pub filter: Option<Arc<Filter>>,
    /// The absolute path under which the filter sees the volume's root: its path in the snapshot.
    pub seen_as: Vec<u8>,
    /// What is never read.
    pub never_read: Arc<NeverRead>,
    /// Who makes the helper.
    pub owner: Owner,
    /// Whether what comes as a stream is compared with a second look.
    pub second_look: SecondLook,
}

/// A volume that is ready to be read.
pub struct OpenVolume {
    /// Its entries. Reads block, so it belongs on a thread of its own, not on one of the async runtime.
    pub source: Box<dyn Source>,
    /// What stays with whoever opened it.
    pub receipt: Receipt,
}

impl std::fmt::Debug for OpenVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenVolume").field("receipt", &self.receipt).finish_non_exhaustive()
    }
}

/// What shows afterwards how a volume was read, and holds the helper until it is [closed](Self::close).
#[derive(Debug)]
pub struct Receipt {
    method: ReadMethod,
    counts: Arc<Counts>,
    helper_reason: Option<String>,
    warnings: Vec<String>,
    helper: Option<Helper>,
    comparison: Option<Box<Comparison>>,
    /// The folder of this machine that is walked.
    folder: Option<PathBuf>,
    /// What is mounted inside of what comes as a stream, as far as that is known.
    mounted: Vec<MountedInside>,
}

impl Receipt {
    /// For what is walked, at this path.
    pub(super) fn direct(counts: Arc<Counts>, folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..Self::streamed_as(ReadMethod::Direct, counts) }
    }

    /// For what the Engine gives as a stream without a helper.
    pub(super) fn streamed(counts: Arc<Counts>) -> Self {
        Self::streamed_as(ReadMethod::Api, counts)
    }

    fn streamed_as(method: ReadMethod, counts: Arc<Counts>) -> Self {
        let (helper_reason, warnings, mounted) = (None, Vec::new(), Vec::new());
        Self { method, counts, helper_reason, warnings, helper: None, comparison: None, folder: None, mounted }
    }

    /// For what comes through a helper, for this reason.
    pub(super) fn through(helper: Helper, streamed: Streamed, reason: String, comparison: Option<Comparison>) -> Self {
        let Streamed { counts, warnings, mounted } = streamed;
        let comparison = comparison.map(Box::new);
        let (helper_reason, helper) = (Some(reason), Some(helper));
        Self { helper_reason, warnings, helper, comparison, mounted, ..Self::streamed_as(ReadMethod::Helper, counts) }
    }

    /// What is mounted inside of what was read, known once it was read. Of a machine that is not seen from here nothing is known.
    pub fn mounted(&self) -> Vec<MountedInside> {
        match &self.folder {
            Some(folder) => self.counts.mounted(folder),
            None => self.mounted.clone(),
        }
    }

    /// What shows that the volume was read to its end; none while it was not. The counts are those of the source, before
    /// patterns left anything out of a stream.
    pub fn proof(&self) -> Option<Proof> {
        let end = match self.method {
            ReadMethod::Direct => EndMark::WalkFinished,
            ReadMethod::Helper | ReadMethod::Api => EndMark::TarEnd,
        };
        self.counts.is_complete().then(|| Proof {
            method: self.method.clone(),
            end,
            mount: self.counts.root().map(|root| format!("{}:{}", root.device, root.inode)),
            entries: self.counts.entries(),
            bytes: self.counts.bytes(),
        })
    }

    /// What was given so far. A volume of which the last snapshot had more than its root, and that now has only that, is
    /// for the caller to refuse.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How it is read.
    pub fn method(&self) -> &ReadMethod {
        &self.method
    }

    /// Why it is not read directly; none if it is.
    pub fn helper_reason(&self) -> Option<&str> {
        self.helper_reason.as_deref()
    }

    /// What somebody should know, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether what [`STREAM_LOST`] says is missing.
    pub fn came_as_stream(&self) -> bool {
        self.method == ReadMethod::Helper
    }

    /// Compares what was read with a second look, if that was wanted and there is a way; gives the reasons why it is not
    /// whole. To be called while nobody may write yet, and before [`close`](Self::close).
    ///
    /// # Errors
    /// The second look failed.
    pub async fn compare(&mut self, engine: &Engine, control: &Control) -> Result<Vec<String>, CompareError> {
        match (self.comparison.take(), &self.helper) {
            (Some(comparison), Some(helper)) if self.counts.is_complete() => comparison.look(engine, helper, control).await,
            _ => Ok(Vec::new()),
        }
    }

    /// Removes the helper. To be called when the source has been read or dropped.
    ///
    /// # Errors
    /// The helper could not be removed; the volume was read all the same.
    pub async fn close(mut self) -> Result<(), DockerError> {
        match self.helper.take() {
            Some(helper) => helper.remove().await,
            None => Ok(()),
        }
    }
}

/// Why a volume cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// The Engine said no, or nothing.
    #[error("volume {volume} cannot be opened")]
    Docker {
        /// Name of the volume.
        volume: String,
        /// Cause.
        #[source]
        source: DockerError,
    },
    /// Its folder cannot be walked.
    #[error("volume {volume} cannot be opened")]
    Folder {
        /// Name of the volume.
        volume: String,
        /// Cause.
        #[source]
        source: SourceError,
    },
    /// Only a direct read was allowed.
    #[error("volume {volume} cannot be read directly: {reason}")]
    NotDirect {
        /// Name of the volume.
        volume: String,
        /// Why.
        reason: String,
    },
}

impl VolumeError {
    /// What the Engine said, if it was for that.
    pub fn of_engine(&self) -> Option<&DockerError> {
        match self {
            Self::Docker { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Docker { source, .. } => source.is_transient(),
            Self::Folder { source, .. } => source.is_transient(),
            Self::NotDirect { .. } => false,
        }
    }
}

/// Opens a volume for reading. It is looked at anew, so that what is read is what is there now.
///
/// # Errors
/// [`DockerError::NotFound`] inside if the volume is gone; see [`VolumeError`].
pub async fn open(engine: &Engine, name: &str, options: ReadOptions) -> Result<OpenVolume, VolumeError> {
    let docker = |source| VolumeError::Docker { volume: name.to_owned(), source };
    let volume = inspect_volume(engine.wire(), name).await.map_err(docker)?;
    let reason = if options.mode == ReadMode::Helper {
        "it was asked for".to_owned()
    } else {
        match open_directly(engine, &volume, &options).await {
            Ok(walk) => {
                let (counts, folder) = (walk.counts(), walk.folder_path());
                return Ok(OpenVolume { source: Box::new(walk), receipt: Receipt::direct(counts, folder) });
            }
            Err(NotDirectly::Refused(source)) => return Err(VolumeError::Folder { volume: volume.name, source }),
            Err(NotDirectly::Because(reason)) if options.mode == ReadMode::Direct => {
                return Err(VolumeError::NotDirect { volume: volume.name, reason });
            }
            Err(NotDirectly::Because(reason)) => reason,
        }
    };
    let never = match options.never_read.of_volume(Path::new(&volume.mountpoint), volume.bound_folder().map(Path::new)) {
        Pruned::Whole(path) => return Err(VolumeError::Folder { volume: volume.name, source: SourceError::NeverRead { path } }),
        Pruned::Parts(never) => never,
    };
    let comparison = Comparison::of_volume(engine, &volume, options.second_look).await;
    let helper = Helper::create(engine, name, Access::Read, &options.owner).await.map_err(docker)?;
    let stream = match archive_get(engine, helper.id(), MOUNT).await {
        Ok(stream) => stream,
        Err(error) => {
            // What failed first is told; the helper, if it stays, is swept later.
            let _ = helper.remove().await;
            return Err(docker(error));
        }
    };
    // What the local driver mounts for `o=bind` has nothing in it that is mounted further down.
    let what = Streaming { filter: options.filter, seen_as: options.seen_as, never, what: format!("volume {name}"), mounted: Vec::new() };
    let mounted = match volume.bound_folder() {
        Some(folder) => what.mounted_below(engine, Path::new(folder), volume.binds_all()).await,
        None => Vec::new(),
    };
    let what = Streaming { mounted, ..what };
    let (source, streamed) = streamed(stream, what, comparison.as_ref());
    Ok(OpenVolume { source, receipt: Receipt::through(helper, streamed, reason, comparison) })
}

/// What is known of a helper's stream beside what is in it.
pub(super) struct Streamed {
    counts: Arc<Counts>,
    /// What somebody should know.
    warnings: Vec<String>,
    mounted: Vec<MountedInside>,
}

/// What is done with a helper's stream.
pub(super) struct Streaming {
    pub(super) filter: Option<Arc<Filter>>,
    /// The path under which the filter sees its root.
    pub(super) seen_as: Vec<u8>,
    /// What is never given, relative to its root.
    pub(super) never: Vec<Vec<u8>>,
    /// What it is of, for people.
    pub(super) what: String,
    /// What is mounted inside of it.
    pub(super) mounted: Vec<MountedInside>,
}

impl Streaming {
    /// What is mounted inside of a folder of the Engine's machine, if that is this one, and is not left out.
    pub(super) async fn mounted_below(&self, engine: &Engine, folder: &Path, is_read: bool) -> Vec<MountedInside> {
        if !same_root(engine).await {
            return Vec::new();
        }
        let (Ok(folder), Ok(points)) = (folder.canonicalize(), mounts::points()) else { return Vec::new() };
        let is_wanted =
            |point: &&PathBuf| point.strip_prefix(&folder).is_ok_and(|inside| !inside.as_os_str().is_empty() && self.takes(inside));
        let below: BTreeSet<PathBuf> = points.iter().filter(is_wanted).cloned().collect();
        mounted_inside(below.into_iter().map(|point| (point, is_read)))
    }

    /// Whether a path relative to the root is given.
    fn takes(&self, inside: &Path) -> bool {
        let is_excluded = |path: &Path| {
            let seen_as = [&self.seen_as, &b"/"[..], path.as_os_str().as_bytes()].concat();
            self.filter.as_deref().is_some_and(|filter| filter.is_excluded(&seen_as))
        };
        let never = self.never.iter().any(|never| inside.starts_with(OsStr::from_bytes(never)));
        !never && !inside.ancestors().filter(|path| !path.as_os_str().is_empty()).any(is_excluded)
    }
}

/// The source over a helper's stream.
pub(super) fn streamed(stream: ArchiveReader, streaming: Streaming, comparison: Option<&Comparison>) -> (Box<dyn Source>, Streamed) {
    let Streaming { filter, seen_as, never, what, mounted } = streaming;
    let source = TarSource::new(stream, MOUNT.trim_start_matches('/').as_bytes());
    let counts = source.counts();
    let mut warnings = Vec::new();
    let source: Box<dyn Source> = match comparison {
        Some(comparison) => comparison.remember(source),
        None => Box::new(source),
    };
    let filter = filter.unwrap_or_default();
    if !filter.tags().is_empty() {
        warnings.push(format!("{what}: exclude_if_present is ignored, it cannot be told from a stream"));
    }
    let source: Box<dyn Source> =
        if filter.is_empty() && never.is_empty() { source } else { Box::new(Filtered::new(source, filter, seen_as, never)) };
    (source, Streamed { counts, warnings, mounted })
}

/// Why a volume is not walked.
enum NotDirectly {
    /// A helper can do it.
    Because(String),
    /// Nothing may read it.
    Refused(SourceError),
}

async fn open_directly(engine: &Engine, volume: &Volume, options: &ReadOptions) -> Result<Walk, NotDirectly> {
    let Mountpoint { path, device, inode } = identified(engine, volume).await.map_err(NotDirectly::Because)?;
    let walk = WalkOptions {
        // What is mounted in the folder is what containers see there.
        one_file_system: false,
        also: Vec::new(),
        filter: options.filter.clone(),
        seen_as: Some(options.seen_as.clone()),
        never_read: Arc::clone(&options.never_read),
        lookers: None,
    };
    let opened = tokio::task::spawn_blocking(move || {
        let walk = Walk::folder(&path, walk).map_err(|error| match error {
            SourceError::Missing { .. } | SourceError::Unreadable { .. } | SourceError::NotAFolder { .. } => {
                NotDirectly::Because(chain(&error))
            }
            other => NotDirectly::Refused(other),
        })?;
        if walk.counts().root() != Some(Identity { device, inode }) {
            return Err(NotDirectly::Because("its folder was replaced while it was opened".to_owned()));
        }
        Ok(walk)
    });
    opened.await.unwrap_or_else(|error| Err(NotDirectly::Because(error.to_string())))
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

//! A bind mount's files: a file or folder of the Engine's machine, walked if that is this machine, else through a helper.
//!
//! Which paths belong to applications is decided in `docker/discover/binds`; stopping who writes is the business of `jobs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

use super::compare::{Comparison, SecondLook};
use super::filter::Filter;
use super::host_path::check_reached;
use super::volume::{OpenVolume, ReadMode, Receipt, Streaming, chain, streamed};
use super::walk::{Walk, WalkOptions};
use super::{Identity, NeverRead, Pruned, SourceError};
use crate::docker::archive::archive_get;
use crate::docker::helper::{Helper, MOUNT, Owner, can_leave_out_mounts};
use crate::docker::mountpoint::{Mountpoint, same_path, same_root};
use crate::docker::{DockerError, Engine};
use crate::model::text::printable;

/// How a bind mount is read.
#[derive(Debug, Clone)]
pub struct BindOptions {
    /// Which way.
    pub mode: ReadMode,
    /// What is left out; it sees the path as it is on the machine.
    pub filter: Option<Arc<Filter>>,
    /// Stay on the file system that the path is on.
    pub one_file_system: bool,
    /// What is never read.
    pub never_read: Arc<NeverRead>,
    /// Paths in it that containers mount as well: they are to be reached from it.
    pub inner: Vec<PathBuf>,
    /// Who makes the helper.
    pub owner: Owner,
    /// Whether what comes as a stream is compared with a second look.
    pub second_look: SecondLook,
}

/// A bind mount that was looked at.
#[derive(Debug)]
pub enum OpenBind {
    /// It can be read; second, what in it will be missing.
    Ready(Box<OpenVolume>, Vec<Missed>),
    /// It is not to be saved, and that is no failure: the reason.
    Left(String),
}

/// A path in a bind mount that containers mount as well, and that reading the outer one does not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// The path.
    pub path: PathBuf,
    /// Why, as a sentence.
    pub reason: String,
    /// Whether it was left out on purpose: by a pattern, or as it is never read.
    pub on_purpose: bool,
}

/// Why a bind mount cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The Engine said no, or nothing.
    #[error("{path} cannot be opened")]
    Docker {
        /// The path.
        path: String,
        /// Cause.
        #[source]
        source: DockerError,
    },
    /// It cannot be walked.
    #[error("{path} cannot be opened")]
    Walk {
        /// The path.
        path: String,
        /// Cause.
        #[source]
        source: SourceError,
    },
    /// Only a direct read was allowed.
    #[error("{path} cannot be read directly: {reason}")]
    NotDirect {
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
}

impl BindError {
    /// Whether there is nothing at the path.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Walk { source: SourceError::Missing { .. }, .. })
    }

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
            Self::Walk { source, .. } => source.is_transient(),
            Self::NotDirect { .. } => false,
        }
    }
}

/// Opens a bind mount for reading.
///
/// # Errors
/// There is nothing at the path, or it cannot be read.
pub async fn open(engine: &Engine, path: &str, options: BindOptions) -> Result<OpenBind, BindError> {
    let shown = || printable(path.as_bytes());
    if let Some(pattern) = options.filter.as_deref().and_then(|filter| filter.excluding(path.as_bytes())) {
        return Ok(OpenBind::Left(format!("the exclude pattern `{pattern}` rules it out")));
    }
    let reason = if options.mode == ReadMode::Helper {
        "it was asked for".to_owned()
    } else {
        match same_path(engine, Path::new(path)).await {
            Ok(place) => {
                let (wanted, options) = (path.to_owned(), options.clone());
                let walked = tokio::task::spawn_blocking(move || walk(&wanted, &place, &options)).await;
                match walked.unwrap_or_else(|error| Err(NotWalked::Because(error.to_string()))) {
                    Ok(found) => return Ok(found),
                    Err(NotWalked::Failed(source)) => return Err(BindError::Walk { path: shown(), source }),
                    Err(NotWalked::Because(reason)) => reason,
                }
            }
            Err(_) if same_root(engine).await && is_missing(path) => {
                return Err(BindError::Walk { path: shown(), source: SourceError::Missing { path: path.into() } });
            }
            Err(reason) => reason,
        }
    };
    let never = match options.never_read.of_path(Path::new(path)) {
        Pruned::Whole(above) => return Ok(OpenBind::Left(lies_in(&above))),
        Pruned::Parts(never) => never,
    };
    if options.mode == ReadMode::Direct {
        return Err(BindError::NotDirect { path: shown(), reason });
    }
    let docker = |source| BindError::Docker { path: shown(), source };
    let helper = Helper::for_path(engine, path, options.one_file_system, &options.owner).await.map_err(docker)?;
    let stream = match archive_get(engine, helper.id(), MOUNT).await {
        Ok(stream) => stream,
        Err(error) => {
            // What failed first is told; the helper, if it stays, is swept later.
            let _ = helper.remove().await;
            return Err(docker(error));
        }
    };
    let comparison = Comparison::of_path(options.second_look);
    let what = format!("bind mount {}", shown());
    let what = Streaming { filter: options.filter, seen_as: path.as_bytes().to_vec(), never, what, mounted: Vec::new() };
    let all = !options.one_file_system || !can_leave_out_mounts(engine);
    let what = Streaming { mounted: what.mounted_below(engine, Path::new(path), all).await, ..what };
    let (source, streamed) = streamed(stream, what, comparison.as_ref());
    let opened = OpenVolume { source, receipt: Receipt::through(helper, streamed, reason, comparison) };
    Ok(OpenBind::Ready(Box::new(opened), Vec::new()))
}

fn is_missing(path: &str) -> bool {
    matches!(rustix::fs::stat(path), Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR))
}

/// Why a path is not walked.
enum NotWalked {
    /// A helper can do it.
    Because(String),
    /// Nothing can.
    Failed(SourceError),
}

fn walk(path: &str, place: &Mountpoint, options: &BindOptions) -> Result<OpenBind, NotWalked> {
    let real = &place.path;
    let stat = rustix::fs::stat(real).map_err(|error| NotWalked::Because(error.to_string()))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory | FileType::RegularFile => None,
        FileType::Socket => Some("a socket"),
        FileType::Fifo => Some("a pipe"),
        _ => Some("a device"),
    };
    if let Some(kind) = kind {
        return Ok(OpenBind::Left(format!("it is {kind}")));
    }
    if let Some(reason) = never_read(real, &options.never_read) {
        return Ok(OpenBind::Left(reason));
    }
    let mut walk = WalkOptions {
        one_file_system: options.one_file_system,
        also: Vec::new(),
        filter: options.filter.clone(),
        seen_as: Some(path.as_bytes().to_vec()),
        never_read: Arc::clone(&options.never_read),
        lookers: None,
    };
    let mut missed = Vec::new();
    for inner in &options.inner {
        if let Err(error) = check_reached(Path::new(path), inner, &mut walk) {
            let inner_shown = printable(inner.as_os_str().as_encoded_bytes());
            missed.push(Missed {
                path: inner.clone(),
                reason: format!("bind mount {inner_shown} is not saved with {}: {}", printable(path.as_bytes()), chain(&error)),
                on_purpose: matches!(error, SourceError::Excluded { .. } | SourceError::NeverRead { .. }),
            });
        }
    }
    match Walk::new(real, walk) {
        Ok(walk) if walk.counts().root() != Some(Identity { device: place.device, inode: place.inode }) => {
            Err(NotWalked::Because("it was replaced while it was opened".to_owned()))
        }
        Ok(walk) => {
            let (counts, folder) = (walk.counts(), walk.folder_path());
            let opened = OpenVolume { source: Box::new(walk), receipt: Receipt::direct(counts, folder) };
            Ok(OpenBind::Ready(Box::new(opened), missed))
        }
        Err(SourceError::Excluded { pattern, .. }) => Ok(OpenBind::Left(format!("the exclude pattern `{pattern}` rules it out"))),
        Err(error @ SourceError::Unreadable { .. }) => Err(NotWalked::Because(chain(&error))),
        Err(error) => Err(NotWalked::Failed(error)),
    }
}

/// Whether the path is one that is never read, or lies in one: the Engine's own files are not an application's.
fn never_read(real: &Path, never: &NeverRead) -> Option<String> {
    never.above(real).map(lies_in)
}

fn lies_in(above: &Path) -> String {
    format!("it lies in {}, which belongs to bbackup itself or to the Docker Engine", above.display())
}

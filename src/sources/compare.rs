//! Whether a stream was whole: its names are compared with what a second look finds, while nobody should be writing.
//!
//! The Engine says nothing of files that vanish while it makes a stream. A file that moves may so be in none of its folders. Where
//! the files can be listed from here, that is the second look, and costs little; else the same stream is taken once more, which is
//! done only if it was asked for. Who is to keep still meanwhile is the business of `jobs`.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::tar::TarSource;
use super::walk::{Walk, WalkOptions};
use super::{Identity, SourceError};
use crate::docker::archive::archive_get;
use crate::docker::helper::{Helper, MOUNT};
use crate::docker::mountpoint::{Mountpoint, same_path};
use crate::docker::{DockerError, Engine};
use crate::model::application::Volume;
use crate::model::entry::{Entry, Kind, Source, Step};
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::control::Control;

/// So many names are told; the others are counted.
const TOLD: usize = 5;

/// Whether there is to be a second look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecondLook {
    /// None: what is read may change meanwhile.
    #[default]
    None,
    /// Where the files can be listed from here.
    Listing,
    /// Always: the stream is taken once more, without storing anything.
    Stream,
}

/// What of an entry is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Names,
    /// All that a stream says of it except its data.
    Descriptions,
}

/// What a stream has given: eight bytes for each entry.
#[derive(Debug)]
struct Seen {
    hasher: RandomState,
    extent: Extent,
    hashes: Mutex<Vec<u64>>,
}

impl Seen {
    fn hash(&self, entry: &Entry) -> u64 {
        match self.extent {
            Extent::Names => self.hasher.hash_one(&entry.path),
            Extent::Descriptions => self.hasher.hash_one((&entry.path, format!("{:?}", entry.metadata))),
        }
    }
}

/// A source that remembers what it has given.
struct Remembering<S> {
    inner: S,
    seen: Arc<Seen>,
}

impl<S: Source> Source for Remembering<S> {
    fn next_step(&mut self) -> io::Result<Step> {
        let step = self.inner.next_step()?;
        if let Step::Entry(entry) = &step {
            let hash = self.seen.hash(entry);
            self.seen.hashes.lock().unwrap_or_else(PoisonError::into_inner).push(hash);
        }
        Ok(step)
    }
}

/// A second look that is still to come.
#[derive(Debug)]
pub struct Comparison {
    seen: Arc<Seen>,
    way: Way,
    /// Seconds and nanoseconds since 1970.
    started: (i64, u32),
}

#[derive(Debug)]
enum Way {
    Listing(Mountpoint),
    Stream,
}

impl Comparison {
    /// What is to be done for a volume that is read as a stream; none if there is no way, or none is wanted.
    pub(super) async fn of_volume(engine: &Engine, volume: &Volume, wanted: SecondLook) -> Option<Self> {
        match wanted {
            SecondLook::None => None,
            SecondLook::Stream => Some(Self::by_stream()),
            SecondLook::Listing => {
                let place = same_path(engine, Path::new(volume.bound_folder()?)).await.ok()?;
                Some(Self::new(Extent::Names, Way::Listing(place)))
            }
        }
    }

    /// The same for a path: where that could be listed, it would not have become a stream.
    pub(super) fn of_path(wanted: SecondLook) -> Option<Self> {
        (wanted == SecondLook::Stream).then(Self::by_stream)
    }

    fn by_stream() -> Self {
        Self::new(Extent::Descriptions, Way::Stream)
    }

    fn new(extent: Extent, way: Way) -> Self {
        let seen = Seen { hasher: RandomState::new(), extent, hashes: Mutex::default() };
        Self { seen: Arc::new(seen), way, started: instant(clock::now()) }
    }

    /// The stream, so that what it gives is remembered.
    pub(super) fn remember(&self, stream: impl Source + 'static) -> Box<dyn Source> {
        Box::new(Remembering { inner: stream, seen: Arc::clone(&self.seen) })
    }

    /// Looks once more, and gives the reasons why what was read is not whole.
    ///
    /// # Errors
    /// The second look failed.
    pub(super) async fn look(self, engine: &Engine, helper: &Helper, control: &Control) -> Result<Vec<String>, CompareError> {
        let mut hashes = std::mem::take(&mut *self.seen.hashes.lock().unwrap_or_else(PoisonError::into_inner));
        hashes.sort_unstable();
        let (seen, control, started) = (self.seen, control.clone(), self.started);
        let work: Box<dyn FnOnce() -> Result<Vec<String>, CompareError> + Send> = match self.way {
            Way::Listing(place) => Box::new(move || listed(&place, &seen, &hashes, started, &control)),
            Way::Stream => {
                let stream = archive_get(engine, helper.id(), MOUNT).await?;
                let source = TarSource::new(stream, MOUNT.trim_start_matches('/').as_bytes());
                Box::new(move || streamed(source, &seen, &hashes, &control))
            }
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(CompareError::Read(io::Error::other(error))))
    }
}

/// Why there was no second look.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// The Engine said no, or nothing.
    #[error("it cannot be read a second time")]
    Docker(#[from] DockerError),
    /// It broke off.
    #[error("it cannot be read a second time")]
    Read(#[from] io::Error),
    /// Its folder cannot be listed.
    #[error("it cannot be listed")]
    List(#[from] SourceError),
}

/// Names that are there and were not in the stream. What was made since does not count: the copy is of before.
fn listed(place: &Mountpoint, seen: &Seen, hashes: &[u64], started: (i64, u32), control: &Control) -> Result<Vec<String>, CompareError> {
    // A bind shows nothing that is mounted further down.
    let mut walk = Walk::folder(&place.path, WalkOptions { one_file_system: true, ..WalkOptions::default() })?;
    if walk.counts().root() != Some(Identity { device: place.device, inode: place.inode }) {
        return Ok(vec!["its folder was replaced while it was read".to_owned()]);
    }
    let mut missing = Told::default();
    while control.checkpoint().is_ok() {
        match walk.next_step()? {
            Step::Entry(entry) if entry.metadata.kind == Kind::Socket => {}
            Step::Entry(entry) if hashes.binary_search(&seen.hash(&entry)).is_err() => {
                let path = place.path.join(OsStr::from_bytes(&entry.path));
                if born(&path).is_none_or(|born| born < started) {
                    missing.add(&entry.path);
                }
            }
            Step::Entry(_) | Step::Problem(_) => {}
            Step::End => break,
        }
    }
    Ok(missing.names().map(|names| format!("the Engine's stream did not have what is there: {names}")).into_iter().collect())
}

fn instant(time: jiff::Timestamp) -> (i64, u32) {
    (time.as_second(), time.subsec_nanosecond().unsigned_abs())
}

/// When a file was made, in seconds and nanoseconds since 1970, where the file system knows.
fn born(path: &Path) -> Option<(i64, u32)> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).ok()?;
    StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME).then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
}

/// What differs between two streams.
fn streamed(mut source: impl Source, seen: &Seen, hashes: &[u64], control: &Control) -> Result<Vec<String>, CompareError> {
    let (mut changed, mut found, mut complete) = (Told::default(), 0, false);
    while control.checkpoint().is_ok() {
        match source.next_step()? {
            Step::Entry(entry) => match hashes.binary_search(&seen.hash(&entry)) {
                Ok(_) => found += 1,
                Err(_) => changed.add(&entry.path),
            },
            Step::Problem(_) => {}
            Step::End => {
                complete = true;
                break;
            }
        }
    }
    if let Some(names) = changed.names() {
        return Ok(vec![format!("somebody wrote to it while it was read: new or changed afterwards are {names}")]);
    }
    if complete && found < hashes.len() {
        return Ok(vec![format!("somebody wrote to it while it was read: {} of its entries were gone afterwards", hashes.len() - found)]);
    }
    Ok(Vec::new())
}

/// Names that are told, and how many more there are.
#[derive(Debug, Default)]
struct Told {
    names: Vec<String>,
    more: usize,
}

impl Told {
    fn add(&mut self, path: &[u8]) {
        if self.names.len() < TOLD {
            self.names.push(if path.is_empty() { "the folder itself".to_owned() } else { printable(path) });
        } else {
            self.more += 1;
        }
    }

    /// All of them for a sentence; none if there are none.
    fn names(&self) -> Option<String> {
        let more = if self.more > 0 { format!(" and {} more", self.more) } else { String::new() };
        (!self.names.is_empty()).then(|| format!("{}{more}", self.names.join(", ")))
    }
}

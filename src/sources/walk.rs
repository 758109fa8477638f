//! The source over a folder, or a single file of any kind, of this machine.
//!
//! It lists and looks at files but does not read their data: any worker may do that later. What is left out by pattern is
//! `filter`'s to say; which folders are walked, `host_path`'s and the volumes'.
//!
//! Everything is looked up relative to open handles of folders, never by its whole path: so a path may be longer than the
//! system allows in one call, and no folder that is replaced by a symbolic link during the walk leads out of the tree.
//! Whoever opens a `Content::File` later must open it without following a link at its end and compare device and inode
//! with the entry's metadata, for the same reason.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::filter::Filter;
use super::metadata::identity;
use super::{Counts, Identity, NeverRead, SourceError};
use crate::model::entry::{EntryProblem, Source, Step};

mod crew;
mod listing;
mod look;

use crew::{Crew, Found, Lead, Place};
use listing::Names;
use look::{Looked, Looker};

/// Handles of folders kept open at once; deeper down, those of the upper folders are closed, and opened again on the way back.
const OPEN_FOLDERS: usize = 64;

/// How a folder is walked.
#[derive(Debug, Clone, Default)]
pub struct WalkOptions {
    /// Folders on other file systems are given, but not what is in them; other things there are left out.
    pub one_file_system: bool,
    /// With [`one_file_system`](Self::one_file_system): folders on other file systems that are walked all the same, because
    /// they were asked for by name.
    pub also: Vec<Identity>,
    /// What is left out.
    pub filter: Option<Arc<Filter>>,
    /// The absolute path under which the filter sees the root; its own path where none is given.
    pub seen_as: Option<Vec<u8>>,
    /// What is never read.
    pub never_read: Arc<NeverRead>,
    /// How many threads look at the files of a folder beside the walk; none for as many as processors and storage are for.
    pub lookers: Option<usize>,
}

/// The source over a folder or file of this machine.
///
/// An entry of which something could not be read (what is in the folder, an extended attribute) is given with what is known;
/// a problem with the same path follows it.
#[derive(Debug)]
pub struct Walk {
    root: Option<Root>,
    /// The folders from the root to the current entry. The first and the last are always open.
    folders: Vec<Folder>,
    looker: Looker,
    crew: Crew,
    /// Problems that are given before the walk goes on.
    waiting: VecDeque<EntryProblem>,
    counts: Arc<Counts>,
}

/// What was found at the root's path.
#[derive(Debug)]
enum Root {
    Folder(OwnedFd, Stat),
    Other(Stat),
}

/// A folder on the way from the root to the current entry.
#[derive(Debug)]
struct Folder {
    /// None while the walk is far below.
    handle: Option<Arc<OwnedFd>>,
    identity: Identity,
    /// The device that is not left while `one_file_system` is set.
    device: u64,
    names: Arc<Names>,
    next: usize,
    /// Length of the folder's own path in [`Looker::path`].
    path_length: usize,
    /// The filter's tags that are in the folder, by their place.
    tags: Arc<[usize]>,
    /// What was found in it ahead of the walk.
    lead: Lead,
}

impl Walk {
    /// Opens the walk of what is at `path`. A symbolic link at its end is not followed but given as the root; links before
    /// that are followed, as the caller wrote them.
    ///
    /// # Errors
    /// There is nothing, or nothing that can be opened or may be read; a pattern excludes the root itself.
    pub fn new(path: &Path, options: WalkOptions) -> Result<Self, SourceError> {
        let path = std::path::absolute(path).map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })?;
        let root = Root::open(&path).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR => SourceError::Missing { path: path.clone() },
            error => SourceError::Unreadable { path: path.clone(), source: error.into() },
        })?;
        let root_identity = identity(root.stat());
        if options.never_read.contains(root_identity) {
            return Err(SourceError::NeverRead { path });
        }
        let looker = Looker::new(path.as_os_str().as_bytes(), &root, options);
        if let Some(pattern) = looker.root_excluded_by() {
            return Err(SourceError::Excluded { pattern: pattern.to_owned(), path });
        }
        let counts = Arc::new(Counts::default());
        counts.set_root(root_identity);
        Ok(Self { root: Some(root), folders: Vec::new(), looker, crew: Crew::default(), waiting: VecDeque::new(), counts })
    }

    /// Opens the walk of a folder, such as a volume's mountpoint.
    ///
    /// # Errors
    /// As for [`new`](Self::new); also if `path` is anything but a folder.
    pub fn folder(path: &Path, options: WalkOptions) -> Result<Self, SourceError> {
        let walk = Self::new(path, options)?;
        match walk.root {
            Some(Root::Folder(..)) => Ok(walk),
            _ => Err(SourceError::NotAFolder { path: path.to_owned() }),
        }
    }

    /// The numbers of the walk, which go on counting while it is read elsewhere.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// The root as the list of mounts names it: no symbolic link in its path.
    pub fn folder_path(&self) -> PathBuf {
        let path = Path::new(OsStr::from_bytes(self.looker.root_path()));
        if path.as_os_str().is_empty() { "/".into() } else { path.canonicalize().unwrap_or_else(|_| path.to_owned()) }
    }

    /// Gives the root's entry and goes into it.
    fn begin(&mut self, root: Root) -> io::Result<Step> {
        let mut looked = match root {
            Root::Folder(handle, stat) => self.looker.look_into(handle, &stat, stat.st_dev, true)?,
            Root::Other(stat) => self.looker.look_at_root(&stat)?,
        };
        // A root that cannot be listed is not a source with a problem but one that is lost.
        if let Some(error) = looked.listing_failed.take() {
            return Err(error);
        }
        Ok(self.accept(looked).unwrap_or(Step::End))
    }

    /// Gives the next entry or problem below the root; none when everything was given.
    fn advance(&mut self) -> Option<Step> {
        loop {
            let folder = self.folders.last_mut()?;
            let index = folder.next;
            folder.next += 1;
            let Some((name, kind)) = folder.names.get(index) else {
                match self.leave() {
                    Ok(()) => continue,
                    Err(error) => return Some(self.problem(error)),
                }
            };
            self.looker.step_to(folder.path_length, name);
            let found = self.crew.next(&mut folder.lead, index, folder.names.len(), &self.looker, || {
                let (path, tags) = (self.looker.path_of(folder.path_length).into(), Arc::clone(&folder.tags));
                Some(Place {
                    handle: Arc::clone(folder.handle.as_ref()?),
                    names: Arc::clone(&folder.names),
                    device: folder.device,
                    path,
                    tags,
                })
            });
            let looked = match found {
                Some(Found::Excluded) => continue,
                Some(Found::Looked(looked)) => looked.map(|looked| *looked),
                Some(Found::Left) | None => {
                    if self.looker.is_excluded(&folder.tags, name) {
                        continue;
                    }
                    let Some(handle) = folder.handle.as_ref() else { continue };
                    self.crew.timed(|| self.looker.look(handle.as_fd(), folder.device, name, kind))
                }
            };
            match looked {
                Ok(looked) => {
                    if let Some(step) = self.accept(looked) {
                        return Some(step);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Some(self.problem(io::Error::new(io::ErrorKind::NotFound, "vanished while its folder was being read")));
                }
                Err(error) => return Some(self.problem(error)),
            }
        }
    }

    /// Takes over what was found at the current path; none if nothing of it is to be given.
    fn accept(&mut self, looked: Looked) -> Option<Step> {
        let Looked { entry, below, unreadable, listing_failed, never_read, mounted } = looked;
        if let Some(is_read) = mounted {
            self.counts.add_mounted(self.looker.relative_path(), is_read);
        }
        if never_read {
            self.counts.add_pruned(self.looker.relative_path());
        }
        for error in unreadable.into_iter().chain(listing_failed) {
            self.waiting.push_back(EntryProblem { path: self.looker.relative_path().to_vec(), error });
        }
        if let Some(below) = below {
            self.folders.push(below);
            // The first stays open: from there every other one can be found again.
            let far = self.folders.len().saturating_sub(OPEN_FOLDERS);
            if far > 0 {
                self.folders[far].handle = None;
            }
        }
        let entry = entry?;
        self.counts.add_entry(entry.metadata.size);
        Some(Step::Entry(entry))
    }

    /// Goes from the last folder back to the one above it.
    fn leave(&mut self) -> io::Result<()> {
        let Some(done) = self.folders.pop() else { return Ok(()) };
        let mut reopened = Ok(());
        if let Some(above) = self.folders.last()
            && above.handle.is_none()
        {
            self.looker.step_back(above.path_length);
            let found = done.handle.as_ref().and_then(|handle| open_same(handle.as_fd(), c"..", above.identity).ok());
            let found = found.map_or_else(|| self.reopen_from_the_top(), Ok);
            if let Some(above) = self.folders.last_mut() {
                match found {
                    Ok(handle) => above.handle = Some(Arc::new(handle)),
                    Err(error) => {
                        above.next = above.names.len();
                        let text = format!("moved while it was being read, the rest of it was not read: {error}");
                        // Not as `NotFound`, which means that there was nothing to lose.
                        reopened = Err(io::Error::other(text));
                    }
                }
            }
        }
        if let Some(names) = Arc::into_inner(done.names) {
            self.looker.lister.reuse(names);
        }
        reopened
    }

    /// Opens the last folder again, on the way by which it was first reached.
    fn reopen_from_the_top(&self) -> io::Result<OwnedFd> {
        let mut handle: Option<OwnedFd> = None;
        for pair in self.folders.windows(2) {
            let [above, below] = pair else { continue };
            let Some((name, _)) = above.names.get(above.next.wrapping_sub(1)) else { continue };
            let from = handle.as_ref().or(above.handle.as_deref()).ok_or(Errno::NOENT)?;
            handle = Some(open_same(from.as_fd(), name, below.identity)?);
        }
        handle.ok_or_else(|| Errno::NOENT.into())
    }

    fn problem(&mut self, error: io::Error) -> Step {
        self.counts.add_problem();
        Step::Problem(EntryProblem { path: self.looker.relative_path().to_vec(), error })
    }
}

impl Source for Walk {
    fn next_step(&mut self) -> io::Result<Step> {
        if let Some(problem) = self.waiting.pop_front() {
            self.counts.add_problem();
            return Ok(Step::Problem(problem));
        }
        if let Some(root) = self.root.take() {
            return self.begin(root);
        }
        Ok(self.advance().unwrap_or_else(|| {
            self.counts.set_complete();
            Step::End
        }))
    }
}

impl Root {
    fn open(path: &Path) -> Result<Self, Errno> {
        let stat = rustix::fs::lstat(path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Self::Other(stat));
        }
        let handle = open_folder(rustix::fs::CWD, path)?;
        let stat = rustix::fs::fstat(&handle)?;
        Ok(Self::Folder(handle, stat))
    }

    fn stat(&self) -> &Stat {
        match self {
            Self::Folder(_, stat) | Self::Other(stat) => stat,
        }
    }
}

/// Opens a folder for listing, never through a symbolic link, and leaves its access time alone where we may.
fn open_folder(above: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::openat(above, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(above, name, flags, Mode::empty()),
        other => other,
    }
}

/// Opens a folder again, which must still be the one that it was.
fn open_same(from: BorrowedFd<'_>, name: &CStr, expected: Identity) -> Result<OwnedFd, Errno> {
    let handle = open_folder(from, name)?;
    if identity(&rustix::fs::fstat(&handle)?) == expected { Ok(handle) } else { Err(Errno::NOENT) }
}

#[cfg(test)]
mod tests;

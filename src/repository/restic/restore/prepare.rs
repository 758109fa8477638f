//! The first step of a batch: what is on disk already is compared with the snapshot, and what is missing is listed.
//!
//! Links, pipes and devices have no data, so they are made here. Nothing is read from packs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::model::entry::Kind;
use crate::model::progress::{Event, FileOutcome};
use crate::repository::restic::codec::BlobKind;
use crate::repository::restic::id::Id;
use crate::repository::restic::index::Location;

use super::attributes::{Attributes, Place};
use super::files::{FileJob, OpenFiles};
use super::run::Run;
use super::target::{self, Folder, Target, look, type_of};

/// An entry without data.
pub(super) struct OtherJob {
    pub(super) folder: Arc<Folder>,
    pub(super) name: Box<[u8]>,
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
}

/// A further name of a file that was restored before.
pub(super) struct LinkJob {
    pub(super) folder: Arc<Folder>,
    pub(super) name: Box<[u8]>,
    pub(super) first: Arc<FirstName>,
}

/// The first name of a file with several.
#[derive(Debug)]
pub(super) struct FirstName {
    pub(super) folder: Arc<Folder>,
    pub(super) name: Box<[u8]>,
}

/// A piece of a file that has to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) id: Id,
    pub(super) location: Location,
    /// The file's place in the batch.
    pub(super) file: u32,
    /// Where the piece goes in the file.
    pub(super) at: u64,
}

/// Compares one file with what is there and appends what is missing to `wants`.
pub(super) fn file(run: &Run<'_>, files: &OpenFiles<'_>, number: u32, job: &FileJob, buffer: &mut Vec<u8>, wants: &mut Vec<Want>) {
    let Some(pieces) = pieces(run, number, job) else { return };
    // As the snapshot says where pieces are lost: the others keep their places.
    let size = if job.is_damaged() { job.size() } else { pieces.iter().map(|piece| u64::from(piece.location.plain_length())).sum() };
    job.size.store(size, Ordering::Relaxed);
    let existing = match existing(run, job) {
        Ok(existing) => existing,
        Err((action, error)) => {
            run.failed(&job.path(), action, error);
            return;
        }
    };
    let missing = match existing {
        Some(existing) => match missing_pieces(run, &existing, size, &pieces, buffer) {
            // All that is left of it is there; that it is not whole was told.
            None if job.is_damaged() => return,
            None => return unchanged(run, job, &existing, size),
            Some(missing) => {
                if !run.request.dry_run && !reuse(run, job, existing, size) {
                    return;
                }
                missing
            }
        },
        None => pieces,
    };
    if run.request.dry_run {
        Run::count(&run.counters.files_restored, 1);
        Run::count(&run.counters.bytes_restored, missing.iter().map(|piece| u64::from(piece.location.plain_length())).sum());
    } else if missing.is_empty() {
        job.finish_without_data(run, files, number);
    } else {
        job.remaining.store(missing.len() as u32, Ordering::Relaxed);
        wants.extend(missing);
    }
}

/// Where each piece of the file is and goes. Of a file with a piece that no index knows, the pieces before it have their places,
/// and those after the last such one, counted from the end; none if that is nothing.
fn pieces(run: &Run<'_>, number: u32, job: &FileJob) -> Option<Vec<Want>> {
    let locations = locations(run, job)?;
    let found = |from: &[Option<Location>]| from.iter().map_while(|location| *location).collect::<Vec<_>>();
    let length = |locations: &[Location]| locations.iter().map(|location| u64::from(location.plain_length())).sum::<u64>();
    let mut front = found(&locations);
    let mut back = Vec::new();
    let mut back_at = 0;
    if let Some(lost) = job.content.get(front.len()) {
        back = locations.iter().rev().map_while(|location| *location).collect();
        back.reverse();
        match job.size().checked_sub(length(&back)).filter(|at| *at >= length(&front)) {
            Some(at) => back_at = at,
            // The size is not what it was, so nobody knows where they were.
            None => back.clear(),
        }
        if length(&front) > job.size() {
            front.clear();
        }
        let nothing = front.is_empty() && back.is_empty();
        let begin = if nothing { "not restored: " } else { "" };
        let why =
            if run.repo.index().contains(BlobKind::Data, lost) { "is whole in no place that an index names" } else { "is in no index" };
        job.damage(run, format!("{begin}its data blob {lost} {why}"));
        if nothing {
            return None;
        }
    }
    let mut pieces = Vec::with_capacity(front.len() + back.len());
    let first_of_back = job.content.len() - back.len();
    for (start, locations, first) in [(0, front, 0), (back_at, back, first_of_back)] {
        let mut at = start;
        for (location, id) in locations.into_iter().zip(&job.content[first..]) {
            pieces.push(Want { id: *id, location, file: number, at });
            at += u64::from(location.plain_length());
        }
    }
    Some(pieces)
}

/// Where each piece of the file is; none for those that are lost. What the pieces hold counts, and a file that was of another size is
/// told; none of all if nothing of it is there.
fn locations(run: &Run<'_>, job: &FileJob) -> Option<Vec<Option<Location>>> {
    let size =
        |locations: &[Option<Location>]| locations.iter().map(|one| one.map(|one| u64::from(one.plain_length()))).sum::<Option<u64>>();
    let mut locations: Vec<Option<Location>> = job.content.iter().map(|id| run.repo.data_place(id)).collect();
    if size(&locations).is_none_or(|size| size == job.size()) {
        return Some(locations);
    }
    // One of the lengths may be that of a place where something else is.
    if !run.request.dry_run {
        locations = job.content.iter().map(|id| if run.go_on().is_ok() { run.repo.whole_place(id) } else { None }).collect();
    }
    if run.go_on().is_err() {
        return None;
    }
    let Some(held) = size(&locations).filter(|held| *held != job.size()) else { return Some(locations) };
    let begin = if locations.is_empty() { "not restored: " } else { "" };
    job.damage(run, format!("{begin}its data has {held} bytes, and {} in the snapshot", job.size()));
    job.size.store(held, Ordering::Relaxed);
    (!locations.is_empty()).then_some(locations)
}

/// Opens the file that is there. What is there but cannot be reused is removed.
fn existing(run: &Run<'_>, job: &FileJob) -> Result<Option<OwnedFd>, (&'static str, io::Error)> {
    if job.folder.is_new() {
        return Ok(None);
    }
    let folder = run.target.open(&job.folder).map_err(|error| ("open its folder", error))?;
    let Some(stat) = look(folder.as_fd(), &job.name).map_err(|error| ("look at what is there", error))? else { return Ok(None) };
    // A file with other names is also somewhere else, where it must not change.
    if type_of(&stat) == FileType::RegularFile
        && (stat.st_nlink == 1 || (stat.st_nlink <= job.links && run.claim(stat.st_dev, stat.st_ino)))
    {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Reading must not change the access time that was restored; only the owner may ask for that.
        let open = |flags| rustix::fs::openat(&*folder, &*job.name, flags, Mode::empty());
        match open(flags | OFlags::NOATIME).or_else(|_| open(flags)) {
            Ok(file) if rustix::fs::fstat(&file).is_ok_and(|stat| type_of(&stat) == FileType::RegularFile) => return Ok(Some(file)),
            // It cannot be read, so it cannot be compared, or it is not what it was: a new one takes its place.
            Ok(_) | Err(Errno::ACCESS | Errno::PERM | Errno::LOOP) => {}
            Err(error) => return Err(("open what is there", error.into())),
        }
    }
    clear_the_way(run, folder.as_fd(), &job.name).map(|()| None)
}

/// Removes what has another type than what is to be restored. A folder must be empty, unless everything extra is to go.
fn clear_the_way(run: &Run<'_>, folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), (&'static str, io::Error)> {
    let failed = |error: io::Error| {
        let full = error.kind() == io::ErrorKind::DirectoryNotEmpty;
        (if full { "replace a folder that is not empty" } else { "remove what is in the way" }, error)
    };
    if run.request.dry_run {
        return if run.request.delete_extra { Ok(()) } else { target::expect_removable(folder, name).map_err(failed) };
    }
    Target::remove(folder, name, run.request.delete_extra, &|| run.go_on().is_ok()).map(drop).map_err(failed)
}

/// The pieces that differ; `None` if everything is as it should be.
fn missing_pieces(run: &Run<'_>, existing: &OwnedFd, size: u64, pieces: &[Want], buffer: &mut Vec<u8>) -> Option<Vec<Want>> {
    let found = rustix::fs::fstat(existing).map_or(0, |stat| stat.st_size as u64);
    let mut missing = Vec::new();
    for piece in pieces {
        // What was not compared is not known to be right.
        if run.go_on().is_err() {
            missing.push(*piece);
            continue;
        }
        let length = piece.location.plain_length() as usize;
        if piece.at + length as u64 > found || !holds(existing, piece, length, buffer) {
            missing.push(*piece);
        }
    }
    if missing.is_empty() && found == size {
        return None;
    }
    let reused = pieces.len() - missing.len();
    if reused > 0 {
        let missing_bytes: u64 = missing.iter().map(|piece| u64::from(piece.location.plain_length())).sum();
        run.progress.event(Event::Bytes(size - missing_bytes));
    }
    Some(missing)
}

fn holds(file: &OwnedFd, piece: &Want, length: usize, buffer: &mut Vec<u8>) -> bool {
    buffer.resize(length, 0);
    let mut done = 0;
    while done < length {
        match rustix::io::pread(file, &mut buffer[done..], piece.at + done as u64) {
            Ok(0) => return false,
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    Id::of(buffer) == piece.id
}

fn unchanged(run: &Run<'_>, job: &FileJob, existing: &OwnedFd, size: u64) {
    let path = job.path();
    if !run.request.dry_run {
        run.failures(&path, job.attributes.apply(Place::File(existing.as_fd()), run.request.owners));
    }
    Run::count(&run.counters.files_unchanged, 1);
    run.progress.event(Event::Bytes(size));
    run.progress.event(Event::FileFinished { path: &path, size, outcome: FileOutcome::Unchanged });
}

/// Brings a file that differs to its size so that only the missing pieces have to be written.
fn reuse(run: &Run<'_>, job: &FileJob, existing: OwnedFd, size: u64) -> bool {
    drop(existing);
    let cut = || -> io::Result<()> {
        let folder = run.target.open(&job.folder)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*folder, &*job.name, flags, Mode::empty())?;
        Ok(rustix::fs::ftruncate(&file, size)?)
    };
    match cut() {
        Ok(()) => {
            job.reuse();
            true
        }
        Err(error) => {
            run.failed(&job.path(), "write to the file that is there", error);
            false
        }
    }
}

/// Makes a link, pipe, socket or device, or keeps one that is as it should be.
pub(super) fn other(run: &Run<'_>, job: &OtherJob) {
    if let Err((action, error)) = make_other(run, job) {
        run.failed(&job.folder.path_of(&job.name), action, error);
    }
}

fn make_other(run: &Run<'_>, job: &OtherJob) -> Result<(), (&'static str, io::Error)> {
    if run.request.dry_run && job.folder.is_new() {
        return Ok(());
    }
    let folder = run.target.open(&job.folder).map_err(|error| ("open its folder", error))?;
    let name = &*job.name;
    let mut there = false;
    if !job.folder.is_new()
        && let Some(stat) = look(folder.as_fd(), name).map_err(|error| ("look at what is there", error))?
    {
        there = stat.st_nlink == 1 && is_same(&job.kind, folder.as_fd(), name, &stat);
        if !there {
            clear_the_way(run, folder.as_fd(), name)?;
        }
    }
    if run.request.dry_run {
        return Ok(());
    }
    if !there {
        let make = |kind, device| rustix::fs::mknodat(&*folder, name, kind, Mode::RUSR | Mode::WUSR, device);
        let (action, made) = match &job.kind {
            Kind::Symlink { target } => ("make the link", rustix::fs::symlinkat(&target[..], &*folder, name)),
            Kind::Fifo => ("make the named pipe", make(FileType::Fifo, 0)),
            Kind::Socket => ("make the socket", make(FileType::Socket, 0)),
            Kind::CharDevice { rdev } => ("make the device", make(FileType::CharacterDevice, *rdev)),
            Kind::BlockDevice { rdev } => ("make the device", make(FileType::BlockDevice, *rdev)),
            // These have data or entries and come another way.
            Kind::File | Kind::Directory => return Ok(()),
        };
        made.map_err(|error| (action, error.into()))?;
    }
    let place = if matches!(job.kind, Kind::Symlink { .. }) { Place::Link } else { Place::Special };
    run.failures(&job.folder.path_of(name), job.attributes.apply(place(folder.as_fd(), name), run.request.owners));
    Ok(())
}

fn is_same(kind: &Kind, folder: BorrowedFd<'_>, name: &[u8], stat: &rustix::fs::Stat) -> bool {
    match (kind, type_of(stat)) {
        (Kind::Symlink { target }, FileType::Symlink) => {
            rustix::fs::readlinkat(folder, name, Vec::new()).is_ok_and(|found| found.as_bytes() == target)
        }
        (Kind::Fifo, FileType::Fifo) | (Kind::Socket, FileType::Socket) => true,
        (Kind::CharDevice { rdev }, FileType::CharacterDevice) | (Kind::BlockDevice { rdev }, FileType::BlockDevice) => {
            stat.st_rdev == *rdev
        }
        _ => false,
    }
}

/// Gives a file its further name.
pub(super) fn link(run: &Run<'_>, job: &LinkJob) {
    if run.request.dry_run {
        return;
    }
    let linked = || -> Result<(), (&'static str, io::Error)> {
        let from = run.target.open(&job.first.folder).map_err(|error| ("open the folder of its first name", error))?;
        let folder = run.target.open(&job.folder).map_err(|error| ("open its folder", error))?;
        let first = look(from.as_fd(), &job.first.name).map_err(|error| ("look at its first name", error))?;
        let Some(first) = first else {
            return Err(("make the hard link: its first name was not restored", io::ErrorKind::NotFound.into()));
        };
        if let Some(found) = look(folder.as_fd(), &job.name).map_err(|error| ("look at what is there", error))? {
            if (found.st_dev, found.st_ino) == (first.st_dev, first.st_ino) {
                return Ok(());
            }
            clear_the_way(run, folder.as_fd(), &job.name)?;
        }
        rustix::fs::linkat(&*from, &*job.first.name, &*folder, &*job.name, AtFlags::empty())
            .map_err(|error| ("make the hard link", error.into()))
    };
    if let Err((action, error)) = linked() {
        run.failed(&job.folder.path_of(&job.name), action, error);
    }
}

//! `snapshots`, `ls`, `dump`: looking at what is in a repository.

use std::io::{self, Write as _};
use std::ops::ControlFlow;

use serde::Serialize;

use super::Done;
use crate::cli::arguments::{Dump, Ls, Narrow, Snapshots};
use crate::cli::request;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::config::Config;
use crate::jobs::error::JobError;
use crate::jobs::select::{Item, Request};
use crate::jobs::snapshots::{self, NotDumped};
use crate::model::entry::{self, Kind, Metadata};
use crate::model::progress::Silent;
use crate::model::report::{Blame, Report};
use crate::model::size::ByteSize;
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::control::Control;
use crate::repository::contract::{
    Listed, Problem, ReadSummary, Repository, RepositoryError, Snapshot, SnapshotId, TAG_APPLICATION, TAG_PARTIAL, TAG_RUN, TAG_SET,
};

pub(in crate::cli) fn snapshots(session: &Session, arguments: &Snapshots) -> Result<Done, JobError> {
    let narrowing = request::narrowing(&arguments.narrow)?;
    let repository = session.open(&session.repository(None)?)?;
    let chosen = several(session, &*repository, &arguments.snapshots, &arguments.narrow)?;
    let zone = clock::local_zone();
    let rows: Vec<Vec<String>> = chosen
        .iter()
        .map(|snapshot| {
            vec![
                snapshot.id.short().to_owned(),
                text::time(snapshot.time, &zone),
                safe(&snapshot.host),
                safe(snapshot.application().unwrap_or("-")),
                safe(snapshot.set().unwrap_or("-")),
                snapshot.summary.map_or_else(|| "-".to_owned(), |summary| ByteSize(summary.total_bytes_processed).to_string()),
                own_tags(snapshot),
                safe(&snapshot.paths.join(" ")),
            ]
        })
        .collect();
    if chosen.is_empty() {
        let narrowed = if narrowing.is_empty() { "The repository has no snapshots yet." } else { "No snapshot is left after narrowing." };
        session.output.note(narrowed);
    } else {
        for line in text::table(&["id", "time", "host", "application", "set", "size", "tags", "paths"], &rows) {
            session.output.listed(&line);
        }
        session.output.note(&text::count(chosen.len() as u64, "snapshot"));
    }
    Done::well(&chosen)
}

/// The snapshots that the words mean; without words all that are left after narrowing.
pub(super) fn several(
    session: &Session,
    repository: &dyn Repository,
    words: &[String],
    narrow: &Narrow,
) -> Result<Vec<Snapshot>, JobError> {
    let narrowing = request::narrowing(narrow)?;
    if words.is_empty() {
        return Ok(repository.snapshots()?.into_iter().filter(|snapshot| narrowing.accepts(snapshot)).collect());
    }
    let mut chosen: Vec<Snapshot> = Vec::new();
    for word in words {
        let request = Request { host: &session.config.host, machine: &session.config.machine, ..Request::default() };
        for snapshot in snapshots::choose(repository, word, &narrowing, &request)?.snapshots {
            if !chosen.contains(&snapshot) {
                chosen.push(snapshot);
            }
        }
    }
    Ok(chosen)
}

/// Says which snapshots went away between the list and the work.
pub(super) fn tell_gone(session: &Session, gone: &[SnapshotId]) {
    for id in gone {
        session.output.note(&format!("note: snapshot {} was forgotten meanwhile and is left out.", id.short()));
    }
}

/// The tags that have no column of their own; whether it is partial comes first.
fn own_tags(snapshot: &Snapshot) -> String {
    let own = |tag: &&String| ![TAG_APPLICATION, TAG_SET, TAG_RUN].iter().any(|prefix| tag.starts_with(prefix));
    let mut tags: Vec<String> = snapshot.tags.iter().filter(own).map(|tag| safe(tag)).collect();
    tags.sort_by_key(|tag| tag != TAG_PARTIAL);
    if tags.is_empty() { "-".to_owned() } else { tags.join(",") }
}

/// The one snapshot that is meant; `latest` must hold the path.
pub(super) fn one(
    session: &Session,
    repository: &dyn Repository,
    word: &str,
    narrow: &Narrow,
    paths: &[Vec<u8>],
) -> Result<Snapshot, JobError> {
    let narrowing = request::narrowing(narrow)?;
    let items: Vec<Item> = paths.iter().filter(|path| path.as_slice() != b"/").cloned().map(Item::Path).collect();
    let Config { host, machine, .. } = &*session.config;
    let request = Request { host, machine, items: &items, ..Request::default() };
    let (snapshot, notes) = snapshots::choose_one(repository, word, &narrowing, &request)?;
    for note in notes {
        session.doubt(note);
    }
    Ok(snapshot)
}

/// The end of a command that has told everything but the folders that it could not read.
pub(super) fn unread(session: &Session, problems: &[Problem], count: u64, done: &str, data: serde_json::Value) -> Done {
    let message = format!("{} could not be read and not be {done}.", text::count(count, "folder"));
    in_part(session, problems, count, message, data)
}

/// The end of a command that could not do everything, for what is lost.
fn in_part(session: &Session, problems: &[Problem], count: u64, message: String, data: serde_json::Value) -> Done {
    if count == 0 {
        return Done { code: 0, data, errors: Vec::new(), envelope: true };
    }
    for problem in problems {
        session.output.warning(&format!("{}: {}", safe(&problem.path), safe(&problem.message)));
    }
    let report =
        Report::new(Blame::Repository, "repository_damaged", message).hint("`bbackup check --read-data` finds everything that is damaged.");
    session.output.error(&report);
    Done { code: 4, data, errors: vec![report], envelope: true }
}

/// A line of `ls --json`, with restic's names.
#[derive(Serialize)]
struct Node {
    message_type: &'static str,
    struct_type: &'static str,
    name: String,
    r#type: &'static str,
    path: String,
    uid: u32,
    gid: u32,
    size: u64,
    mode: u32,
    permissions: String,
    mtime: String,
}

pub(in crate::cli) fn ls(session: &Session, arguments: &Ls) -> Result<Done, JobError> {
    let mut paths = arguments.paths.iter().map(|path| request::in_snapshot(path)).collect::<Result<Vec<_>, _>>()?;
    if paths.is_empty() {
        paths.push(b"/".to_vec());
    }
    let repository = session.open(&session.repository(None)?)?;
    let snapshot = one(session, &*repository, &arguments.snapshot, &arguments.narrow, &paths)?;
    let (mut entries, mut unlisted) = (0_u64, ReadSummary::default());
    for path in &paths {
        let summary = repository.list(&snapshot.id, path, !arguments.no_recursive, &mut |listed| {
            entries += 1;
            if session.output.is_json() {
                session.output.message(&node(&listed));
            } else {
                session.output.listed(&if arguments.long { long(&listed) } else { printable(&listed.path) });
            }
            if session.control.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        unlisted.problem_count += summary.problem_count;
        unlisted.problems.extend(summary.problems);
    }
    if session.control.is_cancelled() {
        return Err(JobError::Cancelled);
    }
    let ReadSummary { problems, problem_count } = unlisted;
    let data = serde_json::json!({ "snapshot": snapshot, "entries": entries, "problems": problems, "problem_count": problem_count });
    Ok(unread(session, &problems, problem_count, "listed", data))
}

fn node(listed: &Listed) -> Node {
    let metadata = &listed.metadata;
    let name = listed.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    Node {
        message_type: "node",
        struct_type: "node",
        name: String::from_utf8_lossy(name).into_owned(),
        r#type: metadata.kind.word(),
        path: String::from_utf8_lossy(&listed.path).into_owned(),
        uid: metadata.uid,
        gid: metadata.gid,
        size: metadata.size,
        mode: metadata.mode,
        permissions: permissions(metadata),
        mtime: listed_time(metadata.mtime),
    }
}

/// A time as JSON has it; empty if no calendar does.
pub(super) fn listed_time(time: entry::Timestamp) -> String {
    timestamp(time).map_or_else(String::new, |time| time.to_string())
}

fn timestamp(time: entry::Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.secs, i32::try_from(time.nanos).ok()?).ok()
}

/// As `ls -l` shows it.
pub(super) fn long(listed: &Listed) -> String {
    let metadata = &listed.metadata;
    let owner = |name: &str, id: u32| if name.is_empty() { id.to_string() } else { safe(name) };
    let time = timestamp(metadata.mtime).map_or_else(|| "-".to_owned(), |time| text::time(time, &clock::local_zone()));
    let target = match &metadata.kind {
        Kind::Symlink { target } => format!(" -> {}", printable(target)),
        _ => String::new(),
    };
    format!(
        "{} {:>8} {:>8} {:>9} {time} {}{target}",
        permissions(metadata),
        owner(&metadata.user, metadata.uid),
        owner(&metadata.group, metadata.gid),
        ByteSize(metadata.size),
        printable(&listed.path)
    )
}

/// `drwxr-xr-x`
pub(super) fn permissions(metadata: &Metadata) -> String {
    let kind = match metadata.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink { .. } => 'l',
        Kind::CharDevice { .. } => 'c',
        Kind::BlockDevice { .. } => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    };
    let mode = metadata.mode;
    let mut text = String::from(kind);
    for (shift, special, set, unset) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => unset,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

pub(in crate::cli) fn dump(session: &Session, arguments: &Dump) -> Result<Done, JobError> {
    let path = request::in_snapshot(&arguments.path)?;
    let repository = session.open(&session.repository(None)?)?;
    let snapshot = one(session, &*repository, &arguments.snapshot, &arguments.narrow, std::slice::from_ref(&path))?;
    let mut out = io::BufWriter::with_capacity(1 << 20, Cancellable { out: io::stdout().lock(), control: &session.control });
    let dumped = if arguments.zstd {
        snapshots::dump_tar_zst(&*repository, &snapshot.id, &path, &mut out, &session.control, std::sync::Arc::new(Silent))
    } else if arguments.tar {
        snapshots::dump_tar(&*repository, &snapshot.id, &path, &mut out, &session.control, std::sync::Arc::new(Silent))
    } else {
        repository.dump(&snapshot.id, &path, &mut out).map(|()| NotDumped::default()).map_err(JobError::from)
    };
    if session.control.is_cancelled() {
        return Err(JobError::Cancelled);
    }
    let dumped = match dumped {
        // Whoever reads has seen enough (`| head`), and needs no sentence about it.
        Err(JobError::Repository(RepositoryError::Target { source, .. })) if source.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(Done { code: 1, ..Done::with_raw_output() });
        }
        other => other?,
    };
    let NotDumped { left_out, lost } = dumped;
    for sentence in left_out {
        session.output.warning(&sentence);
    }
    out.flush().map_err(|source| RepositoryError::Target { path: "standard output".to_owned(), source })?;
    let message = format!("{} could not be read: the archive has the rest.", text::count(lost.problem_count, "part"));
    let done = in_part(session, &lost.problems, lost.problem_count, message, serde_json::Value::Null);
    Ok(Done { envelope: false, ..done })
}

/// Ends a dump that was cancelled: reading a file has no checkpoints of its own.
struct Cancellable<'a> {
    out: io::StdoutLock<'static>,
    control: &'a Control,
}

impl io::Write for Cancellable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Not `Interrupted`: that one means to try again.
        self.control.checkpoint().map_err(io::Error::other)?;
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_as_ls_shows_them() {
        for (kind, mode, text) in [
            (Kind::File, 0o644, "-rw-r--r--"),
            (Kind::Directory, 0o1777, "drwxrwxrwt"),
            (Kind::File, 0o4755, "-rwsr-xr-x"),
            (Kind::File, 0o6600, "-rwS--S---"),
            (Kind::Fifo, 0, "p---------"),
        ] {
            let metadata = Metadata { kind, mode, ..Metadata::virtual_file(0) };
            assert_eq!(permissions(&metadata), text);
        }
    }
}

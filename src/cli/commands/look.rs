//! `snapshots`, `ls`, `dump`, `stats`: looking at what is in a repository.

use std::io::{self, Write as _};
use std::ops::ControlFlow;

use serde::Serialize;

use super::Done;
use crate::cli::arguments::{Dump, Ls, Narrow, Snapshots};
use crate::cli::request;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::jobs::error::JobError;
use crate::jobs::select::{Item, Request};
use crate::jobs::snapshots;
use crate::model::entry::{Kind, Metadata};
use crate::model::progress::Silent;
use crate::model::size::ByteSize;
use crate::model::text::printable;
use crate::platform::clock;
use crate::platform::control::Control;
use crate::repository::contract::{Listed, Repository, RepositoryError, Snapshot, TAG_APPLICATION, TAG_PARTIAL, TAG_RUN, TAG_SET};

pub(in crate::cli) fn snapshots(session: &Session, arguments: &Snapshots) -> Result<Done, JobError> {
    let narrowing = request::narrowing(&arguments.narrow)?;
    let repository = session.open(&session.repository(None)?)?;
    let mut chosen: Vec<Snapshot> = Vec::new();
    if arguments.snapshots.is_empty() {
        chosen = repository.snapshots()?.into_iter().filter(|snapshot| narrowing.accepts(snapshot)).collect();
    }
    for word in &arguments.snapshots {
        let request = Request { host: &session.config.host, ..Request::default() };
        for snapshot in snapshots::choose(&*repository, word, &narrowing, &request)?.snapshots {
            if !chosen.contains(&snapshot) {
                chosen.push(snapshot);
            }
        }
    }
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
            session.output.result(&line);
        }
        session.output.note(&text::count(chosen.len() as u64, "snapshot"));
    }
    Done::well(&chosen)
}

/// The tags that have no column of their own; whether it is partial comes first.
fn own_tags(snapshot: &Snapshot) -> String {
    let own = |tag: &&String| ![TAG_APPLICATION, TAG_SET, TAG_RUN].iter().any(|prefix| tag.starts_with(prefix));
    let mut tags: Vec<String> = snapshot.tags.iter().filter(own).map(|tag| safe(tag)).collect();
    tags.sort_by_key(|tag| tag != TAG_PARTIAL);
    if tags.is_empty() { "-".to_owned() } else { tags.join(",") }
}

/// The one snapshot that is meant; `latest` must hold the path.
fn one(session: &Session, repository: &dyn Repository, word: &str, narrow: &Narrow, paths: &[Vec<u8>]) -> Result<Snapshot, JobError> {
    let narrowing = request::narrowing(narrow)?;
    let items: Vec<Item> = paths.iter().filter(|path| path.as_slice() != b"/").cloned().map(Item::Path).collect();
    let request = Request { host: &session.config.host, items: &items, ..Request::default() };
    let (snapshot, notes) = snapshots::choose_one(repository, word, &narrowing, &request)?;
    for note in notes {
        session.output.warning(&note);
    }
    Ok(snapshot)
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
    let mut entries = 0_u64;
    for path in &paths {
        repository.list(&snapshot.id, path, !arguments.no_recursive, &mut |listed| {
            entries += 1;
            if session.output.is_json() {
                session.output.message(&node(&listed));
            } else {
                session.output.result(&if arguments.long { long(&listed) } else { printable(&listed.path) });
            }
            if session.control.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    }
    if session.control.is_cancelled() {
        return Err(JobError::Cancelled);
    }
    Done::well(&serde_json::json!({ "snapshot": snapshot, "entries": entries }))
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
        mtime: timestamp(metadata).map_or_else(String::new, |time| time.to_string()),
    }
}

fn timestamp(metadata: &Metadata) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(metadata.mtime.secs, i32::try_from(metadata.mtime.nanos).ok()?).ok()
}

/// As `ls -l` shows it.
fn long(listed: &Listed) -> String {
    let metadata = &listed.metadata;
    let owner = |name: &str, id: u32| if name.is_empty() { id.to_string() } else { safe(name) };
    let time = timestamp(metadata).map_or_else(|| "-".to_owned(), |time| text::time(time, &clock::local_zone()));
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
fn permissions(metadata: &Metadata) -> String {
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
    let dumped = if arguments.tar {
        snapshots::dump_tar(&*repository, &snapshot.id, &path, &mut out, &session.control, std::sync::Arc::new(Silent))
    } else {
        repository.dump(&snapshot.id, &path, &mut out).map(|()| Vec::new()).map_err(JobError::from)
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
    for sentence in dumped {
        session.output.warning(&sentence);
    }
    out.flush().map_err(|source| RepositoryError::Target { path: "standard output".to_owned(), source })?;
    Ok(Done::with_raw_output())
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

pub(in crate::cli) fn stats(session: &Session) -> Result<Done, JobError> {
    let repository = session.open(&session.repository(None)?)?;
    let (info, stats) = (repository.info(), repository.stats()?);
    let ratio = if stats.stored_bytes == 0 { 1.0 } else { stats.restore_bytes as f64 / stats.stored_bytes as f64 };
    for (name, value) in [
        ("repository", safe(&info.location)),
        ("id", info.id.clone()),
        ("format", format!("{} version {}", info.engine, info.version)),
        ("snapshots", text::grouped(stats.snapshots)),
        ("files in them", text::grouped(stats.files)),
        ("size of all, restored", ByteSize(stats.restore_bytes).to_string()),
        ("different data", ByteSize(stats.raw_bytes).to_string()),
        ("size on disk", ByteSize(stats.stored_bytes).to_string()),
        ("saved by dedup and zstd", format!("{ratio:.1} times")),
        ("blobs", text::grouped(stats.blobs)),
        ("packs", text::grouped(stats.packs)),
    ] {
        session.output.result(&format!("{name:<24}{value}"));
    }
    Done::well(&serde_json::json!({ "repository": info, "stats": stats }))
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

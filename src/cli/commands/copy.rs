//! `copy`: snapshots to another repository.

use super::Done;
use super::look::{several, tell_gone};
use crate::cli::arguments::copy::Copy;
use crate::cli::progress::Display;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::config::password::PasswordSource;
use crate::jobs::error::JobError;
use crate::model::size::ByteSize;
use crate::repository::contract::SnapshotId;
use crate::repository::contract::copy::{CopiedSnapshot, CopyRequest, CopySummary};

pub(in crate::cli) fn copy(session: &Session, arguments: &Copy) -> Result<Done, JobError> {
    let given = match (&arguments.to_password_file, &arguments.to_password_command) {
        (Some(file), _) => Some(PasswordSource::File(file.clone())),
        (None, Some(command)) => Some(PasswordSource::Command(command.clone())),
        (None, None) => None,
    };
    let source = session.repository(None)?;
    let target = session.other_repository(&arguments.to, given)?;
    let pair = session.open_pair(&source, &target, arguments.dry_run)?;
    let snapshots: Vec<SnapshotId> =
        several(session, pair.source(), &arguments.snapshots, &arguments.narrow)?.into_iter().map(|snapshot| snapshot.id).collect();
    let request = CopyRequest { snapshots, named: !arguments.snapshots.is_empty(), dry_run: arguments.dry_run };
    let summary = {
        let display = Display::start(&session.output, "copy");
        pair.copy(&request, &session.control, display.progress())?
    };
    tell_gone(session, &summary.gone);
    for one in &summary.snapshots {
        session.output.result(&line(one));
    }
    session.output.result(&end(&summary, arguments.dry_run, &safe(&pair.target().location)));
    if !summary.same_chunker && summary.copied > 0 {
        session.output.note("note: the two repositories cut files at different places, so copies share no data with backups made there.");
    }
    Done::well(&serde_json::json!({ "target": pair.target(), "dry_run": arguments.dry_run, "summary": summary }))
}

fn line(one: &CopiedSnapshot) -> String {
    let blobs = if one.was_there { "blob" } else { "new blob" };
    let sizes = format!("{}, {}", text::count(one.blobs, blobs), ByteSize(one.bytes));
    match (&one.target, one.was_there) {
        (Some(target), true) if one.blobs > 0 => {
            format!("{}  is there already as {}, and has {sizes} again", one.source.short(), target.short())
        }
        (Some(target), true) => format!("{}  is there already as {}", one.source.short(), target.short()),
        (Some(target), false) => format!("{}  is now {} ({sizes})", one.source.short(), target.short()),
        (None, _) => format!("{}  would be copied ({sizes})", one.source.short()),
    }
}

fn end(summary: &CopySummary, dry_run: bool, target: &str) -> String {
    let copied = text::count(summary.copied, "snapshot");
    let sizes = format!("{}, {} in packs", ByteSize(summary.bytes), ByteSize(summary.bytes_stored));
    if dry_run { format!("{copied} would be copied to {target}: {sizes}.") } else { format!("{copied} copied to {target}: {sizes}.") }
}

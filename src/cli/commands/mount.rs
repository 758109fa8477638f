//! `mount` and `umount`: snapshots as folders.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Done;
use super::look::several;
use crate::cli::arguments::look::{Mount, Umount};
use crate::cli::output::Output;
use crate::cli::request;
use crate::cli::session::Session;
use crate::cli::text::{self, safe};
use crate::jobs::error::JobError;
use crate::model::progress::{Event, Progress};
use crate::model::text::printable;
use crate::platform::mounts;
use crate::repository::contract::mount::{MountEnd, MountRequest};

pub(in crate::cli) fn mount(session: &Session, arguments: &Mount) -> Result<Done, JobError> {
    let mountpoint = request::absolute(&arguments.mountpoint)?;
    let repository = session.open(&session.repository(None)?)?;
    let mut chosen = several(session, &*repository, &arguments.snapshots, &arguments.narrow)?;
    chosen.sort_by_key(|snapshot| snapshot.time);
    let count = chosen.len() as u64;
    let named = !arguments.snapshots.is_empty();
    let request = MountRequest { mountpoint: mountpoint.clone(), snapshots: chosen, named, allow_other: arguments.allow_other };
    let shown = safe(&mountpoint.to_string_lossy());
    let mut mounted = || {
        session.output.message(&serde_json::json!({ "message_type": "mounted", "mountpoint": mountpoint, "snapshots": count }));
        session.output.note(&format!("{} at {shown}: applications, hosts, ids, snapshots, tags.", text::count(count, "snapshot")));
        session.output.note("Ctrl-C, or `bbackup umount` from elsewhere, ends it.");
    };
    let told = Arc::new(Told { output: session.output.clone(), said: Mutex::default() });
    let end = repository.mount(&request, &session.control, told, &mut mounted)?;
    let data = serde_json::json!({ "mountpoint": mountpoint, "snapshots": count, "busy": end == MountEnd::CancelledWhileBusy });
    if end == MountEnd::CancelledWhileBusy {
        session.output.warning(&format!("Files in {shown} were still open; they cannot be read any more."));
    }
    // To be interrupted is how a mount ends: nothing was left undone.
    Done::well(&data)
}

/// Says what cannot be read, each thing once: programs try again.
struct Told {
    output: Output,
    said: Mutex<HashSet<String>>,
}

impl Progress for Told {
    fn event(&self, event: Event<'_>) {
        /// So many different sentences are enough to know that a repository is damaged.
        const MOST: usize = 1000;
        let Event::Problem { path, message } = event else { return };
        let item = printable(path);
        let sentence = format!("{item}: {}", safe(message));
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < MOST && said.insert(sentence.clone()) {
            self.output
                .message(&serde_json::json!({ "message_type": "error", "error": { "message": message }, "during": "read", "item": item }));
            self.output.warning(&sentence);
        }
    }
}

pub(in crate::cli) fn umount(session: &Session, arguments: &Umount) -> Result<Done, JobError> {
    let own = |source| JobError::Own { action: "see what is mounted".to_owned(), source };
    let mounted = mounts::own().map_err(own)?;
    let path = match &arguments.mountpoint {
        Some(path) => named(path, &mounted)?,
        None => only(&mounted)?,
    };
    let shown = safe(&path.to_string_lossy());
    let unmounted = match mounts::unmount(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy && arguments.force => mounts::detach(&path),
        result => result,
    };
    match unmounted {
        Ok(()) => {
            session.output.result(&format!("{shown} is unmounted."));
            Done::well(&serde_json::json!({ "mountpoint": path }))
        }
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
            let message = format!("files in {shown} are open, or a program is in it");
            Err(JobError::request("busy", message, "Close them, or use --force."))
        }
        Err(source) => Err(JobError::Own { action: format!("unmount {shown}"), source }),
    }
}

/// The mount that a path names. Nothing is looked up in the mount itself: its process may be gone.
fn named(path: &Path, mounted: &[PathBuf]) -> Result<PathBuf, JobError> {
    let absolute = request::absolute(path)?;
    let resolved = absolute.parent().zip(absolute.file_name()).and_then(|(above, name)| Some(above.canonicalize().ok()?.join(name)));
    let found = mounted.iter().find(|mount| **mount == absolute || Some(*mount) == resolved.as_ref());
    found.cloned().ok_or_else(|| {
        let message = format!("nothing is mounted by bbackup at {}", safe(&absolute.to_string_lossy()));
        JobError::request("not_mounted", message, list(mounted))
    })
}

fn only(mounted: &[PathBuf]) -> Result<PathBuf, JobError> {
    match mounted {
        [one] => Ok(one.clone()),
        [] => Err(JobError::request("not_mounted", "nothing is mounted by bbackup", "")),
        _ => Err(JobError::request("which_mount", "there are several mounts of bbackup", list(mounted))),
    }
}

fn list(mounted: &[PathBuf]) -> String {
    if mounted.is_empty() {
        return String::new();
    }
    let names: Vec<String> = mounted.iter().map(|mount| safe(&mount.to_string_lossy())).collect();
    format!("There are: {}.", names.join(", "))
}

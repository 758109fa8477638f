//! Restore to files: what the trees say is planned, then each range of a pack is read once, verified and written to its places.
//!
//! How trees are read is `reader`'s business, where an application's volumes are that of the callers.
//!
//! The walk over the trees makes folders and collects files into batches, so that memory is bounded whatever the size of a
//! snapshot. A batch is worked off in four steps: files are compared with what is there already (`prepare`), missing data is
//! read in the order of the packs and written (`data`), hard links are made, and the folders that are complete get their
//! metadata, the deepest first.

#![expect(clippy::disallowed_methods, reason = "restore is one of the few places that write files")]

mod attributes;
mod data;
mod files;
mod plan;
mod prepare;
mod run;
mod target;

use std::io;
use std::sync::Arc;

use super::id::Id;
use super::reader::{self, Found};
use super::state::Indexed;
use crate::model::progress::Progress;
use crate::platform::control::Control;
use crate::repository::contract::{RepositoryError, RestoreRequest, RestoreSummary};
use attributes::Attributes;
use plan::Planner;
use run::Run;
use target::Target;

/// Restores what `request` says from the snapshot whose root is `tree`.
///
/// Run again after a cancel, a kill or a full disk, it finds what is there by its content and completes it.
///
/// # Errors
/// [`RepositoryError::Cancelled`]; [`RepositoryError::NoPath`]; [`RepositoryError::Target`] if the destination cannot be used,
/// is full or is read-only. What concerns single entries is in the summary.
pub fn restore(
    repo: &Indexed,
    tree: &Id,
    request: &RestoreRequest,
    control: &Control,
    progress: &dyn Progress,
) -> Result<RestoreSummary, RepositoryError> {
    control.checkpoint()?;
    let failed = |source: io::Error| RepositoryError::Target { path: request.destination.display().to_string(), source };
    match reader::lookup(repo, &request.snapshot, tree, &request.path)? {
        Found::Root(tree) => restore_folder(repo, &tree, None, request, control, progress),
        Found::Node(node) if node.metadata.is_dir() => {
            let tree = node.subtree.ok_or_else(|| RepositoryError::Damaged {
                file: format!("folder {}", crate::model::text::printable(&request.path)),
                offset: 0,
                expected: "a tree".into(),
            })?;
            restore_folder(repo, &tree, Some(Attributes::from(&node.metadata)), request, control, progress)
        }
        Found::Node(mut node) => {
            let (folder, name) = target::split(&request.destination).map_err(failed)?;
            let there = run::make_folder(folder, 0o755, request.dry_run).map_err(failed)?;
            let target = Target::new(there.path(folder)).map_err(failed)?;
            node.name = std::os::unix::ffi::OsStrExt::as_bytes(name).to_vec();
            let above = request.path.iter().rposition(|&byte| byte == b'/').map_or(&[][..], |at| &request.path[..at]);
            let root = Target::root(above, there.is_new());
            let run = Run::new(repo, request, control, progress, target);
            let mut planner = Planner::new(&run, Arc::clone(&root), None);
            planner.single(*node)?;
            planner.finish()?;
            run.into_summary()
        }
    }
}

/// Whether nothing is at this place yet, or an empty folder.
pub fn is_empty(destination: &std::path::Path) -> bool {
    match std::fs::read_dir(destination) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn restore_folder(
    repo: &Indexed,
    tree: &Id,
    attributes: Option<Attributes>,
    request: &RestoreRequest,
    control: &Control,
    progress: &dyn Progress,
) -> Result<RestoreSummary, RepositoryError> {
    let failed = |source: io::Error| RepositoryError::Target { path: request.destination.display().to_string(), source };
    let mode = if attributes.is_some() { 0o700 } else { 0o755 };
    let there = run::make_folder(&request.destination, mode, request.dry_run).map_err(failed)?;
    let target = Target::new(there.path(&request.destination)).map_err(failed)?;
    let path = request.path.strip_suffix(b"/").unwrap_or(&request.path);
    let root = Target::root(path, there.is_new());
    let run = Run::new(repo, request, control, progress, target);
    let mut planner = Planner::new(&run, root, attributes);
    reader::walk(repo, tree, &mut planner)?;
    planner.finish()?;
    run.into_summary()
}

#[cfg(test)]
mod tests;

//! What a container mounts, as places in its snapshot: where it is written as plain files, this comes with it.
//!
//! What comes with it onto an Engine is `targets/plan`'s business.

use std::path::Path;

use crate::docker::discover::binds::data_path;
use crate::jobs::backup::sentence;
use crate::jobs::error::JobError;
use crate::jobs::results::RestorePreview;
use crate::jobs::select::Item;
use crate::jobs::snapshots::holds;
use crate::model::application::{ApplicationDocument, DOCUMENT_NAME, ItemKind, MountKind};
use crate::model::text::printable;
use crate::repository::contract::{Repository, RepositoryError, Snapshot};

/// Where an item is that is at this place of its snapshot; of a container also where its volumes and bind mounts are. What is not there is told.
pub(super) fn with_what_it_mounts(
    repository: &dyn Repository,
    snapshot: &Snapshot,
    item: &Item,
    at: Vec<u8>,
    preview: &mut RestorePreview,
) -> Result<Vec<Vec<u8>>, JobError> {
    let Item::Container(name) = item else { return Ok(vec![at]) };
    let document = match document(repository, snapshot, &at) {
        Err(error) if !matches!(error, JobError::Cancelled | JobError::Repository(RepositoryError::Cancelled)) => {
            let (name, reason) = (printable(name.as_bytes()), sentence(&error));
            preview.warnings.push(format!(
                "what container {name} mounts is not known, and does not come with it: {reason} Name the volumes with --volume."
            ));
            return Ok(vec![at]);
        }
        read => read?,
    };
    let mut found = vec![at];
    let containers = document.iter().filter_map(|document| Some((document, document.application.container(name)?)));
    for (document, mount) in containers.flat_map(|(document, container)| container.mounts.iter().map(move |mount| (document, mount))) {
        let (what, place) = match mount.kind {
            MountKind::Volume => {
                let Some(volume) = mount.name.as_deref() else { continue };
                let item = document.item(ItemKind::Volume, volume);
                (format!("volume {}", printable(volume.as_bytes())), item.map(|item| item.path.clone()))
            }
            MountKind::Bind => {
                let Some(path) = data_path(mount) else { continue };
                (format!("bind mount {}", printable(path.as_bytes())), bind(document, path))
            }
            _ => continue,
        };
        match place {
            Some(place) if holds(repository, &snapshot.id, place.as_bytes())? => found.push(place.into_bytes()),
            _ => {
                let (name, snapshot) = (printable(name.as_bytes()), snapshot.id.short());
                preview.notes.push(format!("{what}, which container {name} mounts, is not in snapshot {snapshot}"));
            }
        }
    }
    Ok(found)
}

/// Where a bind mount is: it may lie in another one that was saved with it.
fn bind(document: &ApplicationDocument, path: &str) -> Option<String> {
    let mut around = document.items.iter().filter(|item| item.kind == ItemKind::Bind && Path::new(path).starts_with(&item.name));
    around.next().map(|item| format!("{}{}", item.path, path.strip_prefix(&item.name).unwrap_or_default()))
}

/// What the snapshot says of its application; none where another program has left it out.
fn document(repository: &dyn Repository, snapshot: &Snapshot, at: &[u8]) -> Result<Option<ApplicationDocument>, JobError> {
    let Some(root) = Path::new(std::str::from_utf8(at).unwrap_or_default()).ancestors().nth(2) else { return Ok(None) };
    let mut bytes = Vec::new();
    match repository.dump(&snapshot.id, format!("{}/{DOCUMENT_NAME}", root.display()).as_bytes(), &mut bytes) {
        Err(RepositoryError::NoPath { .. }) => return Ok(None),
        done => done?,
    }
    let document = ApplicationDocument::from_json(&bytes).map_err(|source| JobError::Document {
        application: snapshot.application().unwrap_or_default().to_owned(),
        snapshot: snapshot.id.short().to_owned(),
        source,
    })?;
    Ok(Some(document))
}

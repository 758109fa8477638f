//! Images and layers of a restore: an image that is nowhere else is loaded from the snapshot, a container's own files follow it.

use super::{Step, StoredApplication};
use crate::model::application::{Container, ItemKind};
use crate::model::outcome::ItemOutcome;

/// The step that loads the image of a container, if it was saved whole.
pub(super) fn load(applications: &[StoredApplication], application: &str, container: &Container) -> Option<Step> {
    let stored = applications.iter().find(|stored| stored.document.application.name == application)?;
    let image = &container.image;
    // As `sources/image` names them.
    let short = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    let exact = format!("{}@{}", image.reference, short.get(..12).unwrap_or(short));
    let item = stored.document.item(ItemKind::Image, &exact).or_else(|| stored.document.item(ItemKind::Image, &image.reference))?;
    // Of an image a part is worth nothing.
    let ItemOutcome::Complete { proof } = &item.outcome else { return None };
    Some(Step::LoadImage { reference: image.reference.clone(), id: image.id.clone(), from: item.path.clone(), bytes: proof.bytes })
}

/// The step that fills the layer of a container; `name` is what it is called now.
pub(super) fn layer(applications: &[StoredApplication], application: &str, container: &Container, name: String) -> Option<Step> {
    let stored = applications.iter().find(|stored| stored.document.application.name == application)?;
    let item = stored.document.item(ItemKind::Layer, &container.name)?;
    match &item.outcome {
        ItemOutcome::Complete { proof } | ItemOutcome::Partial { proof, .. } => {
            Some(Step::FillLayer { name, from: item.path.clone(), bytes: proof.bytes })
        }
        _ => None,
    }
}

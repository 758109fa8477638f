//! Images and layers of a restore: an image that is nowhere else is loaded from the snapshot, a container's own files follow it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::build::Draft;
use super::{Conflict, Step, StoredApplication};
use crate::docker::create::json::text;
use crate::model::application::{Container, ItemKind};
use crate::model::outcome::ItemOutcome;
use crate::model::text::printable;
use crate::targets::preflight::Host;

/// Where a container's image comes from.
enum Image {
    /// It is there, or at least one of its name is: `note` says so.
    There { reference: String, note: Option<String> },
    /// The snapshot has it.
    Load { id: String, step: Step },
    /// A registry may have it under one of these digests.
    Pull { digest: String, others: Vec<String> },
    /// It was built on the machine that was saved.
    Missing,
}

impl Image {
    /// What tells it from others that go by the same name.
    fn identity(&self) -> Option<&str> {
        match self {
            Self::Load { id, .. } => Some(id),
            Self::Pull { digest, .. } => Some(digest),
            Self::There { .. } | Self::Missing => None,
        }
    }
}

/// Finds each container's image; gives what create is to name, by the container's name.
pub(super) fn plan<'a>(draft: &mut Draft<'a>) -> BTreeMap<&'a str, String> {
    let mut found = Vec::new();
    for chosen in &draft.containers {
        let reference = text(chosen.inspect, "/Config/Image").unwrap_or(&chosen.container.image.reference);
        let image = image(draft.applications, chosen.application, chosen.container, chosen.inspect, draft.host);
        let created = text(chosen.inspect, "/Created").unwrap_or_default();
        found.push((chosen.application, chosen.container, reference, created, image));
    }
    let owners = owners(found.iter().map(|(_, _, reference, created, image)| (*reference, *created, image)), draft.host);
    let mut references = BTreeMap::new();
    let mut planned = BTreeSet::new();
    for (application, container, reference, _, image) in &found {
        let named = image.identity().is_some() && owners.get(with_tag(reference).as_str()).map(|(_, owner)| *owner) == image.identity();
        let used = match image {
            Image::There { reference, note } => {
                if let Some(note) = note {
                    draft.note(note.clone());
                }
                reference.clone()
            }
            Image::Load { id, step } => {
                if planned.insert((id.clone(), named)) {
                    let mut step = step.clone();
                    if let Step::LoadImage { nameless, .. } = &mut step {
                        *nameless = !named;
                    }
                    draft.step(application, step);
                }
                if named { (*reference).to_owned() } else { id.clone() }
            }
            Image::Pull { digest, others } => {
                let tag = named.then(|| (*reference).to_owned());
                let used = tag.clone().unwrap_or_else(|| digest.clone());
                if planned.insert((digest.clone(), named)) {
                    draft.note(format!("image {} is not on this Engine; it will be pulled", printable(digest.as_bytes())));
                    // Without a name the container is made by this very digest.
                    let others = if named { others.clone() } else { Vec::new() };
                    draft.step(application, Step::PullImage { reference: digest.clone(), tag, others });
                }
                used
            }
            Image::Missing => {
                draft.conflict(Conflict::ImageMissing { container: container.name.clone(), image: (*reference).to_owned() });
                (*reference).to_owned()
            }
        };
        references.insert(container.name.as_str(), used);
    }
    references
}

/// Which image gets a name that several go by: the one that the youngest of the containers was made from, as the name meant
/// that last. Nobody takes it from an image that is there.
fn owners<'a>(found: impl Iterator<Item = (&'a str, &'a str, &'a Image)>, host: &Host) -> BTreeMap<String, (&'a str, &'a str)> {
    let mut owners: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for (reference, created, image) in found {
        let tag = with_tag(reference);
        let Some(identity) = image.identity().filter(|_| is_name(reference) && !host.images.iter().any(|there| there.tags.contains(&tag)))
        else {
            continue;
        };
        let owner = owners.entry(tag).or_insert((created, identity));
        *owner = (*owner).max((created, identity));
    }
    owners
}

/// Finds a container's image: exactly the one that it had by id, digest or from the snapshot, else one of its name.
fn image(applications: &[StoredApplication], application: &str, container: &Container, inspect: &Value, host: &Host) -> Image {
    let id = text(inspect, "/Image").unwrap_or(&container.image.id);
    let reference = text(inspect, "/Config/Image").unwrap_or(&container.image.reference);
    let tag = with_tag(reference);
    let by_name = host.images.iter().find(|image| image.tags.contains(&tag) || image.digests.iter().any(|digest| digest == reference));
    let is_named = |id: &str| by_name.is_some_and(|named| named.id == id);
    let by_id = host.images.iter().find(|image| !id.is_empty() && image.id == id);
    if let Some(same) = by_id {
        return Image::There { reference: if is_named(&same.id) { reference.to_owned() } else { same.id.clone() }, note: None };
    }
    let digests = &container.image.digests;
    for digest in digests {
        if let Some(same) = host.images.iter().find(|image| image.digests.contains(digest)) {
            return Image::There { reference: if is_named(&same.id) { reference.to_owned() } else { digest.clone() }, note: None };
        }
    }
    if let Some(step) = load(applications, application, container) {
        return Image::Load { id: container.image.id.clone(), step };
    }
    if by_name.is_some() {
        let (container, reference_shown) = (printable(container.name.as_bytes()), printable(reference.as_bytes()));
        let note = format!(
            "container {container} gets image {reference_shown} as it is there, which is another build than the one that was saved"
        );
        return Image::There { reference: reference.to_owned(), note: Some(note) };
    }
    // The registry that it is named after first.
    let mut digests = digests.clone();
    digests.sort_by_key(|digest| repository(digest) != repository(reference));
    let mut digests = digests.into_iter();
    match digests.next() {
        Some(digest) => Image::Pull { digest, others: digests.collect() },
        // Named by digest, it came from a registry even if nobody wrote down from which.
        None if reference.contains('@') => Image::Pull { digest: reference.to_owned(), others: Vec::new() },
        None => Image::Missing,
    }
}

/// Whether it is a name that can be given to another image: no digest and no id.
fn is_name(reference: &str) -> bool {
    !reference.contains('@') && !reference.starts_with("sha256:")
}

/// A name without tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// A name as the list of images has it: with a tag.
pub(super) fn with_tag(reference: &str) -> String {
    let has_tag = reference.contains('@') || reference.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { reference.to_owned() } else { format!("{reference}:latest") }
}

/// The step that loads the image of a container, if it was saved whole.
fn load(applications: &[StoredApplication], application: &str, container: &Container) -> Option<Step> {
    let stored = applications.iter().find(|stored| stored.document.application.name == application)?;
    let image = &container.image;
    // Only what no registry has is saved; an item of the same name is another build.
    if !image.digests.is_empty() {
        return None;
    }
    // As `sources/image` names them.
    let short = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    let exact = format!("{}@{}", image.reference, short.get(..12).unwrap_or(short));
    let item = stored.document.item(ItemKind::Image, &exact).or_else(|| stored.document.item(ItemKind::Image, &image.reference))?;
    // Of an image a part is worth nothing.
    let ItemOutcome::Complete { proof } = &item.outcome else { return None };
    let (reference, id, from) = (image.reference.clone(), image.id.clone(), item.path.clone());
    Some(Step::LoadImage { reference, id, from, bytes: proof.bytes, nameless: false })
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

//! An image that no registry has, as `docker save` writes it: its layers are files, so that what images share is stored once.
//!
//! Loading it again is the business of `targets` and `jobs/restore`.

use std::collections::BTreeMap;

use super::tar::TarSource;
use super::volume::{OpenVolume, Receipt};
use crate::docker::archive::image_get;
use crate::docker::wire::encode;
use crate::docker::{DockerError, Engine};
use crate::model::application::{Container, Image};

/// The name that an image has in a snapshot where two of the same name are in it: a container keeps the image that it was
/// made from when its name has gone to a newer one.
pub fn exact_name(image: &Image) -> String {
    let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    format!("{}@{}", image.reference, id.get(..12).unwrap_or(id))
}

/// The images of these containers that cannot be pulled and are there, each once, with the name that it gets in a snapshot.
pub fn local<'a>(containers: &[&'a Container]) -> Vec<(String, &'a Image)> {
    let mut by_reference: BTreeMap<&str, BTreeMap<&str, &'a Image>> = BTreeMap::new();
    for image in containers.iter().map(|container| &container.image).filter(|image| image.present && image.digests.is_empty()) {
        by_reference.entry(&image.reference).or_default().insert(&image.id, image);
    }
    let mut found = Vec::new();
    for images in by_reference.into_values() {
        let several = images.len() > 1;
        found.extend(images.into_values().map(|image| (if several { exact_name(image) } else { image.reference.clone() }, image)));
    }
    found
}

/// Opens an image for reading: by its name if that still means it, so that the name comes back with it, else by its id.
///
/// # Errors
/// [`DockerError::NotFound`] if it is gone.
pub async fn open(engine: &Engine, image: &Image) -> Result<OpenVolume, DockerError> {
    #[derive(serde::Deserialize)]
    struct Found {
        #[serde(rename = "Id")]
        id: String,
    }
    let named = engine.wire().get_bytes(&format!("/images/{}/json", encode(&image.reference))).await;
    let same = named.ok().and_then(|bytes| serde_json::from_slice::<Found>(&bytes).ok()).is_some_and(|found| found.id == image.id);
    let stream = image_get(engine, if same { &image.reference } else { &image.id }).await?;
    let source = TarSource::new(stream, b"");
    let receipt = Receipt::streamed(source.counts());
    Ok(OpenVolume { source: Box::new(source), receipt })
}

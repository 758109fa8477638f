//! What the Engine has and is, beside what the containers were used to: drivers, mounted images, mapped user ids, another processor.
//!
//! Pure. Runtimes and volume drivers are looked at where their containers and volumes are planned.

use std::collections::BTreeSet;

use super::build::Draft;
use super::checks::has_driver;
use super::images::with_tag;
use super::{Conflict, Step};
use crate::docker::create::json::{array, text};
use crate::model::text::printable;

/// Finds what the Engine lacks for the containers and networks of the plan, and what will be different on it.
pub(super) fn compare(draft: &mut Draft<'_>) {
    networks(draft);
    containers(draft);
    user_ids(draft);
    platforms(draft);
}

fn networks(draft: &mut Draft<'_>) {
    let mut lacking = Vec::new();
    for planned in &draft.plan.steps {
        if let Step::CreateNetwork { network } = &planned.step
            && let Some(driver) = text(&network.body, "/Driver").filter(|driver| !driver.is_empty())
            && !has_driver(driver, &draft.host.network_drivers)
        {
            lacking.push(Conflict::Unsupported { what: format!("network {}", network.name), lacks: format!("network driver {driver}") });
        }
    }
    for conflict in lacking {
        draft.conflict(conflict);
    }
}

fn containers(draft: &mut Draft<'_>) {
    let mut conflicts = Vec::new();
    for chosen in &draft.containers {
        let name = draft.names.container(&chosen.container.name);
        // `none` is no driver, so no Engine lists it.
        let driver = text(chosen.inspect, "/HostConfig/LogConfig/Type").filter(|driver| !matches!(*driver, "" | "none"));
        if let Some(driver) = driver.filter(|driver| !has_driver(driver, &draft.host.log_drivers)) {
            conflicts.push(Conflict::Unsupported { what: format!("container {name}"), lacks: format!("log driver {driver}") });
        }
        let mounts = array(chosen.inspect, "/HostConfig/Mounts").iter();
        for image in mounts.filter(|mount| text(mount, "/Type") == Some("image")).filter_map(|mount| text(mount, "/Source")) {
            if !has_image(draft, image) {
                conflicts.push(Conflict::Missing {
                    container: name.clone(),
                    needs: format!("image {image}"),
                    reason: "it mounts it, and images that are only mounted are not saved".to_owned(),
                });
            }
        }
    }
    for conflict in conflicts {
        draft.conflict(conflict);
    }
}

/// Whether an image is there, or comes with the restore.
fn has_image(draft: &Draft<'_>, wanted: &str) -> bool {
    let tagged = with_tag(wanted);
    let there = draft.host.images.iter().any(|image| {
        image.id == wanted
            || image.id.strip_prefix("sha256:") == Some(wanted)
            || image.digests.iter().chain(&image.tags).any(|name| *name == tagged)
    });
    there
        || draft.plan.steps.iter().any(|planned| match &planned.step {
            Step::PullImage { reference, tag, .. } => *reference == tagged || tag.as_ref().is_some_and(|tag| with_tag(tag) == tagged),
            Step::LoadImage { reference, nameless, .. } => !nameless && with_tag(reference) == tagged,
            _ => false,
        })
}

/// Files are saved with the owners that they have on the host; those are right only where ids are mapped as they were.
fn user_ids(draft: &mut Draft<'_>) {
    let says = |ids: Option<&String>| {
        ids.map_or("does not map user ids".to_owned(), |ids| format!("has {} for root of a container", printable(ids.as_bytes())))
    };
    let mut notes = Vec::new();
    for stored in draft.applications {
        let (was, is) = (stored.document.engine.user_namespace.as_ref(), draft.host.identity.user_namespace.as_ref());
        let application = &stored.document.application.name;
        let writes = |step: &Step| matches!(step, Step::FillVolume { .. } | Step::FillPath { .. });
        if was != is && draft.plan.steps.iter().any(|planned| planned.application == *application && writes(&planned.step)) {
            notes.push(format!(
                "files of {} get owners that its containers do not expect, unless they go through a helper: the Engine that was saved {}, this \
                 one {} (userns-remap); change the owners before the containers are started (--no-start)",
                printable(application.as_bytes()),
                says(was),
                says(is)
            ));
        }
    }
    for note in notes {
        draft.note(note);
    }
}

/// What was built for another processor does not run.
fn platforms(draft: &mut Draft<'_>) {
    let is = &draft.host.identity.platform;
    let mut notes = BTreeSet::new();
    for chosen in draft.containers.iter().filter(|_| !is.is_empty()) {
        let image = &chosen.container.image;
        let stored = draft.applications.iter().find(|stored| stored.document.application.name == chosen.application);
        let was = stored.map_or("", |stored| stored.document.engine.platform.as_str());
        let shown = |text: &str| printable(text.as_bytes());
        if !image.platform.is_empty() {
            if !runs_on(&image.platform, is) {
                let pulled = |step: &Step| matches!(step, Step::PullImage { reference, .. } if image.digests.contains(reference));
                let (name, made, is) = (shown(&image.reference), shown(&image.platform), shown(is));
                let otherwise = if draft.plan.steps.iter().any(|planned| pulled(&planned.step)) {
                    "unless its registry has it for this one, too, it does not run"
                } else {
                    "it does not run unless that is emulated"
                };
                notes.insert(format!("image {name} was made for {made}, and this Engine is {is}: {otherwise}"));
            }
        } else if !was.is_empty() && was != is {
            let (application, was, is) = (shown(chosen.application), shown(was), shown(is));
            notes.insert(format!(
                "{application} was saved on {was}, and this Engine is {is}: images that are not made for {is} do not run on it"
            ));
        }
    }
    for note in notes {
        draft.note(note);
    }
}

/// Whether an Engine's processor (`linux/amd64`) runs by itself what an image is made for (`linux/arm/v7`).
fn runs_on(image: &str, engine: &str) -> bool {
    let parts = |text: &str| {
        let mut parts = text.split('/').map(str::to_owned);
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    };
    let ((image_os, image), (engine_os, engine)) = (parts(image), parts(engine));
    image_os == engine_os && (image == engine || matches!((&*image, &*engine), ("386", "amd64") | ("arm", "arm64")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_runs_its_own_and_what_it_has_grown_out_of() {
        for (image, engine, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/386", "linux/amd64", true),
            ("linux/arm/v7", "linux/arm64", true),
            ("linux/arm64/v8", "linux/arm/v7", false),
            ("linux/arm64", "linux/amd64", false),
            ("windows/amd64", "linux/amd64", false),
        ] {
            assert_eq!(runs_on(image, engine), expected, "{image} on {engine}");
        }
    }
}

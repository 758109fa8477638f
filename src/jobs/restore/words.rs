//! Steps and conflicts of a restore as people read them.

use super::{conflict, step};
use crate::jobs::results::{Conflict, RestoreStep};
use crate::model::size::ByteSize;
use crate::model::text::printable;
use crate::repository::contract::TAG_BEFORE_RESTORE;
use crate::targets::plan::{self, Step};

/// A step as people read it.
pub(super) fn shown(planned: &Step) -> RestoreStep {
    let name = |name: &str| printable(name.as_bytes());
    match planned {
        Step::PullImage { reference, .. } => step("pull image", name(reference), None),
        Step::LoadImage { reference, bytes, .. } => step("load image", name(reference), Some(ByteSize(*bytes).to_string())),
        Step::FillLayer { name: container, bytes, .. } => step("fill layer", name(container), Some(ByteSize(*bytes).to_string())),
        Step::UseNetwork { name: network } => step("use network", name(network), Some("it is there and equal".to_owned())),
        Step::CreateNetwork { network } => step("create network", name(&network.name), None),
        Step::UseVolume { name: volume } => step("use volume", name(volume), Some("it is there".to_owned())),
        Step::CreateVolume { name: volume, .. } => step("create volume", name(volume), None),
        Step::FillVolume { name: volume, bytes, replace, .. } => {
            step(if *replace { "overwrite volume" } else { "fill volume" }, name(volume), Some(ByteSize(*bytes).to_string()))
        }
        Step::FillPath { path, bytes, .. } => step("restore files", name(path), Some(ByteSize(*bytes).to_string())),
        Step::StopContainer { name: container, .. } => step("stop container", name(container), None),
        Step::SaveFirst { containers, volumes, paths } => {
            let all = containers.iter().chain(volumes).chain(paths).map(|one| name(one)).collect::<Vec<_>>();
            step("save first", all.join(", "), Some(format!("as a snapshot with the tag {TAG_BEFORE_RESTORE}")))
        }
        Step::SetAside { name: container, aside, .. } => step("set aside", name(container), Some(format!("as {}", name(aside)))),
        Step::RemoveAside { name: container, .. } => step("remove container", name(container), Some("it was replaced".to_owned())),
        Step::StartAgain { name: container, .. } => step("start again", name(container), None),
        Step::CreateContainer { container } => step("create container", name(&container.name), None),
        Step::StartContainer { name: container } => step("start container", name(container), None),
        Step::WaitHealthy { name: container } => step("wait until healthy", name(container), None),
        Step::PauseContainer { name: container } => step("pause container", name(container), None),
    }
}

/// A conflict as people read it.
pub(super) fn worded(found: &plan::Conflict) -> Conflict {
    use plan::Conflict as C;
    const RENAME: &str =
        "Replace it with --in-place, rename it with --rename OLD:NEW, restore under new names with --as-new, or remove what is there.";
    let (item, hint) = match found {
        C::ContainerExists { name, .. } => (format!("container {name}"), RENAME),
        C::KeptStill { container } => (format!("container {container}"), "Wait until that backup has ended."),
        C::BroughtBack { container } => (format!("container {container}"), "Wait until it runs again; `bbackup recover` says when."),
        C::ProjectName { name, .. } => (format!("project {name}"), "Choose another name with --rename OLD:NEW."),
        C::Twice { what } => (what.clone(), "Give each a name of its own with --rename OLD:NEW."),
        C::VolumeExists { name, .. } => (format!("volume {name}"), RENAME),
        C::NoVolume { name } => {
            (format!("volume {name}"), "Bring back all of it with --volume, or write the part to a folder with --to DIR.")
        }
        C::NetworkDiffers { name, .. } => (format!("network {name}"), RENAME),
        C::PathExists { path, .. } => (
            format!("path {path}"),
            "Overwrite it with --in-place, write it elsewhere with --to DIR, use it as it is by naming what to restore (--container), or move it away.",
        ),
        C::SubnetTaken { network, .. } => {
            (format!("network {network}"), "Remove the network that has the addresses, or let the Engine choose others with --as-new.")
        }
        C::AddressTaken { container, .. } => (format!("container {container}"), "Stop what has the address."),
        C::PortTaken { container, .. } => {
            (format!("container {container}"), "Stop what has the port, or give another one with --rename OLD:NEW (8080:18080).")
        }
        C::ImageMissing { image, .. } => (format!("image {image}"), "Build or load the image first."),
        C::Missing { container, needs, .. } if needs.starts_with("image ") => {
            (format!("container {container}"), "Pull, build or load the image first.")
        }
        C::Missing { container, .. } => (format!("container {container}"), "Restore what it needs with it."),
        C::Unsupported { what, .. } => (what.clone(), "Install it on the Engine."),
        C::EngineTooOld { what, .. } => (what.clone(), "Restore it to a newer Engine."),
        C::NoSpace { disk, .. } => (disk.clone(), "Make room there."),
        C::NotMounted { path, .. } => (
            path.clone(),
            "Mount it first. If the files are meant to go to the disk that is there now, put a file into that folder; --to writes them elsewhere.",
        ),
        C::Silent { path, .. } => (path.clone(), "If it is on the network, its server may be gone: bring it back, or unmount it."),
        C::NotSaved { what, .. } => (what.clone(), "Choose another snapshot; `bbackup snapshots` lists them."),
    };
    conflict(printable(item.as_bytes()), found.to_string(), hint)
}

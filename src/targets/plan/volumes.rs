//! The volumes of a restore: those that are there and can be used or overwritten, those that are made, and what is written into them.
//!
//! Whether one is in the way is found out in `checks`; what stands for files of the machine follows the rules of `binds`.

use serde_json::json;

use super::binds::{Fate, OVERWRITTEN, fate, is_beside};
use super::build::Draft;
use super::{Conflict, PlanError, Step, StoredApplication, checks, in_place, is_path};
use crate::docker::create::volume_body;
use crate::model::application::{ItemKind, Volume};
use crate::model::outcome::ItemOutcome;
use crate::model::text::printable;

/// How the files of a volume are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filling {
    /// Into nothing.
    Fresh,
    /// Over what is there; what is not in the snapshot goes.
    Replace,
    /// Over what is there; what is not in the snapshot stays.
    Over,
}

/// Plans the volumes and their files.
pub(super) fn plan(draft: &mut Draft<'_>) -> Result<(), PlanError> {
    for (name, (stored, volume)) in draft.volumes.clone() {
        let application = stored.document.application.name.as_str();
        let target = draft.names.volume(name);
        let filling = if draft.host.volumes.contains_key(&target) {
            Some(there(draft, application, volume, &target))
        } else {
            make(draft, application, volume, &target)?;
            made(draft, volume, &target)
        };
        if let Some(filling) = filling {
            fill(draft, stored, volume, target, filling);
        }
    }
    Ok(())
}

/// One that is there: used if it is empty and of the same kind, overwritten if that was asked for.
fn there(draft: &mut Draft<'_>, application: &str, volume: &Volume, target: &str) -> Filling {
    let in_the_way = checks::volume_in_the_way(target, draft.host);
    let is_fixed = in_place::why_not_overwritten(volume, target, draft.host);
    let is_overwritten = in_the_way.is_some() && draft.options.in_place;
    match in_the_way.filter(|_| !is_overwritten).or(is_fixed) {
        Some(reason) => draft.conflict(Conflict::VolumeExists { name: target.to_owned(), reason }),
        None if is_overwritten => {}
        // Also an empty one has to be of the same kind: what is written elsewhere is not where it was.
        None => draft.step(application, Step::UseVolume { name: target.to_owned() }),
    }
    if is_overwritten { Filling::Replace } else { Filling::Fresh }
}

fn make(draft: &mut Draft<'_>, application: &str, volume: &Volume, target: &str) -> Result<(), PlanError> {
    if !checks::has_driver(&volume.driver, &draft.host.volume_drivers) {
        draft.conflict(Conflict::Unsupported { what: format!("volume {target}"), lacks: format!("volume driver {}", volume.driver) });
    }
    let inspect = json!({"Name": volume.name, "Driver": volume.driver, "Options": volume.options, "Labels": volume.labels});
    let mut body = volume_body(&inspect, &draft.names)?;
    draft.naming.label(&mut body);
    draft.step(application, Step::CreateVolume { name: target.to_owned(), body });
    Ok(())
}

/// How one that is made is filled. What stands for files elsewhere finds there what others have put there, under whatever name it
/// is made. None if these files are left as they are.
fn made(draft: &mut Draft<'_>, volume: &Volume, target: &str) -> Option<Filling> {
    let Some(device) = volume.device() else { return Some(Filling::Fresh) };
    let (shown, shown_device) = (printable(target.as_bytes()), printable(device.as_bytes()));
    if target != volume.name {
        let old = printable(volume.name.as_bytes());
        draft.note(format!("volume {shown} stands for {shown_device}, as {old} does: the files there are left as they are"));
        return None;
    }
    let items = &draft.options.items;
    let beside = is_beside(draft) || !(items.is_everything() || items.volumes.contains(&volume.name));
    match fate(draft, device, beside) {
        Fate::Write => Some(Filling::Fresh),
        Fate::Overwrite => {
            draft.note(format!("volume {shown} stands for {shown_device}: {OVERWRITTEN}"));
            Some(Filling::Over)
        }
        Fate::Keep => {
            draft.note(format!("volume {shown} stands for {shown_device}: the files there are left as they are"));
            None
        }
        Fate::Refuse(reason) => {
            draft.conflict(Conflict::VolumeExists { name: target.to_owned(), reason: format!("it stands for {device}: {reason}") });
            Some(Filling::Fresh)
        }
    }
}

/// What a volume stands for as a place.
pub fn place_of(device: &str) -> String {
    if is_path(device) { device.to_owned() } else { format!("{device}/") }
}

fn fill(draft: &mut Draft<'_>, stored: &StoredApplication, volume: &Volume, target: String, filling: Filling) {
    let shown = printable(target.as_bytes());
    let replace = filling == Filling::Replace;
    // What is not overwritten stays as it is.
    let (stays, begins) =
        if filling == Filling::Fresh { ("stays empty", "begins empty") } else { ("keeps what is in it now", "keeps what is in it now") };
    if volume.is_volatile() {
        draft.note(format!("volume {shown} lives in memory: it is made, and its files are not restored"));
        return;
    }
    let item = stored.document.item(ItemKind::Volume, &volume.name);
    let (proof, path) = match item.map(|item| (&item.outcome, &item.path)) {
        Some((ItemOutcome::Complete { proof }, path)) => (proof, path),
        Some((ItemOutcome::Partial { proof, reasons }, path)) => {
            draft.note(format!("volume {shown} was saved in part only: {}", printable(reasons.join("; ").as_bytes())));
            (proof, path)
        }
        Some((ItemOutcome::Failed { reason }, _)) => {
            draft.note(format!("volume {shown} {stays}, saving it failed: {}", printable(reason.as_bytes())));
            return;
        }
        None if stored.document.leaves_out_volume(&volume.name) => {
            draft.asked(format!("volume {shown} {begins}: it is left out of backups"));
            return;
        }
        Some((ItemOutcome::Skipped, _)) | None => {
            draft.note(format!("volume {shown} {stays}: its files are not in the snapshot"));
            return;
        }
    };
    let application = &stored.document.application.name;
    if let Some(there) = draft.host.volumes.get(&target).filter(|there| !there.mountpoint.is_empty()) {
        draft.plan.folders.insert(target.clone(), there.mountpoint.clone());
    }
    if replace {
        draft.overwritten.push((application.clone(), target.clone()));
    }
    // A plain volume that is replaced has its files itself.
    let device = volume.device().map(place_of).filter(|_| !replace);
    let over = filling == Filling::Over;
    draft.step(application, Step::FillVolume { name: target, path: path.clone(), bytes: proof.bytes, replace, device, over });
}

//! The mounts of a container that is made again: anonymous volumes are attached by name instead of being made anew.
//!
//! What is in the volumes is `targets/volume`'s business.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::json::{array, clean_path, flag, object, text, texts};
use super::names::{Names, mounted_volume};

/// `HostConfig.Binds` and `HostConfig.Mounts` as create takes them.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// The binds; every volume in them has a name.
    pub(super) binds: Vec<Value>,
    /// The mounts; every volume in them has a source.
    pub(super) mounts: Vec<Value>,
}

/// A volume that the container has mounted.
struct Mounted<'a> {
    name: &'a str,
    read_only: bool,
}

/// Puts the mounts of `inspect` together. `empty` names the volumes that hold nothing: they are not to be filled from the
/// image, which the Engine does with an empty volume that is attached for the first time.
pub(super) fn attach(inspect: &Value, names: &Names, empty: &BTreeSet<String>) -> Attached {
    let mounted = mounted_volumes(inspect);
    let mut attached = Attached::default();
    let mut covered = BTreeSet::new();
    for bind in texts(inspect, "/HostConfig/Binds") {
        let (bind, destination) = one_bind(bind, &mounted, names, empty);
        covered.insert(destination);
        attached.binds.push(Value::String(bind));
    }
    for mount in array(inspect, "/HostConfig/Mounts") {
        let destination = clean_path(text(mount, "/Target").unwrap_or_default());
        attached.mounts.push(one_mount(mount, mounted.get(&destination), names, empty));
        covered.insert(destination);
    }
    // What is left came from `VOLUME` lines of the image or a bare `-v /path`, or through `VolumesFrom`.
    let declared: BTreeSet<String> =
        object(inspect, "/Config/Volumes").into_iter().flat_map(Map::keys).map(|path| clean_path(path)).collect();
    let inherits = !array(inspect, "/HostConfig/VolumesFrom").is_empty();
    for (destination, volume) in &mounted {
        if covered.contains(destination) || (inherits && !declared.contains(destination)) {
            continue;
        }
        let mut bind = format!("{}:{destination}", names.volume(volume.name));
        let options = [volume.read_only.then_some("ro"), empty.contains(volume.name).then_some("nocopy")];
        append_options(&mut bind, options.into_iter().flatten());
        attached.binds.push(Value::String(bind));
    }
    attached
}

fn mounted_volumes(inspect: &Value) -> BTreeMap<String, Mounted<'_>> {
    array(inspect, "/Mounts")
        .iter()
        .filter(|mount| text(mount, "/Type") == Some("volume"))
        .filter_map(|mount| {
            let destination = clean_path(text(mount, "/Destination")?);
            Some((destination, Mounted { name: mounted_volume(mount)?, read_only: !flag(mount, "/RW") }))
        })
        .collect()
}

/// One bind (`source:destination[:options]`) under its new name, and its destination.
fn one_bind(bind: &str, mounted: &BTreeMap<String, Mounted<'_>>, names: &Names, empty: &BTreeSet<String>) -> (String, String) {
    let (source, rest) = match bind.split_once(':') {
        Some((source, rest)) => (source, rest),
        None => ("", bind),
    };
    let (destination, options) = match rest.split_once(':') {
        Some((destination, options)) => (destination, Some(options)),
        None => (rest, None),
    };
    let clean = clean_path(destination);
    if source.starts_with('/') {
        return (bind.to_owned(), clean);
    }
    let old = if source.is_empty() { mounted.get(&clean).map_or("", |volume| volume.name) } else { source };
    let mut out = if old.is_empty() { destination.to_owned() } else { format!("{}:{destination}", names.volume(old)) };
    let has_nocopy = options.is_some_and(|options| options.split(',').any(|option| option == "nocopy"));
    let nocopy = (empty.contains(old) && !has_nocopy).then_some("nocopy");
    append_options(&mut out, options.into_iter().chain(nocopy));
    (out, clean)
}

fn append_options<'a>(bind: &mut String, options: impl Iterator<Item = &'a str>) {
    for (index, option) in options.filter(|option| !option.is_empty()).enumerate() {
        bind.push(if index == 0 { ':' } else { ',' });
        bind.push_str(option);
    }
}

fn one_mount(mount: &Value, mounted: Option<&Mounted<'_>>, names: &Names, empty: &BTreeSet<String>) -> Value {
    let mut mount = mount.clone();
    if text(&mount, "/Type") != Some("volume") {
        return mount;
    }
    let old = text(&mount, "/Source").map(str::to_owned).or_else(|| mounted.map(|volume| volume.name.to_owned()));
    if let (Some(old), Some(fields)) = (old, mount.as_object_mut()) {
        fields.insert("Source".to_owned(), json!(names.volume(&old)));
        if empty.contains(&old) {
            let options = fields.entry("VolumeOptions").or_insert_with(|| json!({}));
            if !options.is_object() {
                *options = json!({});
            }
            options["NoCopy"] = json!(true);
        }
    }
    mount
}

//! Where the files of volumes and bind mounts lie on the Engine's machine, and who reaches them by whatever name. Pure.
//!
//! A volume's files may have several names: its mountpoint, the folder that it stands for, another volume that stands for the same.
//! Who may write to them is what has to be kept still.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::binds::{above, data_path};
use super::links::Links;
use crate::model::application::{Mount, MountKind, Volume};

/// The places of volumes and bind mounts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Grounds {
    /// Of volumes, by their names.
    volumes: HashMap<String, BTreeSet<String>>,
    links: Links,
}

impl Grounds {
    /// The places of these volumes.
    pub fn of<'a>(volumes: impl IntoIterator<Item = &'a Volume>) -> Self {
        let volumes = volumes.into_iter().map(|volume| (volume.name.clone(), of_volume(volume))).collect();
        Self { volumes, links: Links::default() }
    }

    /// The same, where links lead from one place to another.
    #[must_use]
    pub fn with_links(mut self, links: Links) -> Self {
        self.links.extend(links);
        self
    }

    /// Where links lead from one place to another, as far as that is known.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// The places of a volume. One that is not known is at least where its mount says.
    pub fn volume(&self, name: &str, source: &str) -> BTreeSet<String> {
        let places = self.volumes.get(name).cloned();
        self.links.with_real(places.unwrap_or_else(|| path(source).into_iter().collect()))
    }

    /// The places of a file or folder.
    pub fn path(&self, path: &str) -> BTreeSet<String> {
        self.links.with_real(BTreeSet::from([path.to_owned()]))
    }

    /// The places of a mount; none where it is of no files that could be saved.
    pub fn mount(&self, mount: &Mount) -> BTreeSet<String> {
        match (mount.kind, &mount.name) {
            (MountKind::Volume, Some(name)) => self.volume(name, &mount.source),
            (MountKind::Bind, _) => data_path(mount).map(|path| self.path(path)).unwrap_or_default(),
            _ => BTreeSet::new(),
        }
    }
}

/// A clean absolute path, without a slash at its end.
fn path(text: &str) -> Option<String> {
    let path = text.trim_end_matches('/');
    let is_clean = path.starts_with('/') && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    is_clean.then(|| path.to_owned())
}

/// The places of a volume: paths, and for what is mounted from elsewhere a word that no path is.
fn of_volume(volume: &Volume) -> BTreeSet<String> {
    let mut places: BTreeSet<String> = path(&volume.mountpoint).into_iter().collect();
    if let Some(device) = volume.bound_folder() {
        places.extend(path(device));
    } else if volume.driver == "local" && !volume.is_volatile() {
        let option = |name: &str| volume.options.get(name).map_or("", String::as_str);
        let server = option("o").split(',').find(|word| word.starts_with("addr=")).unwrap_or_default();
        if !option("device").is_empty() {
            places.insert(format!("{}\0{server}\0{}", option("type"), option("device")));
        }
    }
    places
}

/// Whether two things share files: one of them is, or lies in, the other.
pub fn meet(one: &BTreeSet<String>, other: &BTreeSet<String>) -> bool {
    let reaches = |these: &BTreeSet<String>, those: &BTreeSet<String>| {
        these.iter().any(|place| those.contains(place) || place.starts_with('/') && above(place).any(|outer| those.contains(outer)))
    };
    reaches(one, other) || reaches(other, one)
}

/// Who is at which place, so that not everybody has to be compared with everybody.
#[derive(Debug)]
pub(super) struct Visitors<K>(BTreeMap<String, BTreeMap<K, bool>>);

impl<K: Ord + Clone> Visitors<K> {
    /// Of places and who mounts them; the flag says whether read-only.
    pub(super) fn of(mounted: impl IntoIterator<Item = (String, K, bool)>) -> Self {
        let mut visitors: BTreeMap<String, BTreeMap<K, bool>> = BTreeMap::new();
        for (place, who, read_only) in mounted {
            *visitors.entry(place).or_default().entry(who).or_insert(true) &= read_only;
        }
        Self(visitors)
    }

    /// Everybody who mounts one of these places, something in them, or something around them.
    pub(super) fn at(&self, places: &BTreeSet<String>) -> BTreeMap<K, bool> {
        let mut found: BTreeMap<K, bool> = BTreeMap::new();
        for place in places {
            let folder = format!("{place}/");
            let within = self.0.range(folder.clone()..).take_while(|(inner, _)| inner.starts_with(&folder)).map(|(_, who)| who);
            let around = above(place).filter(|_| place.starts_with('/')).filter_map(|outer| self.0.get(outer));
            for (who, read_only) in self.0.get(place).into_iter().chain(within).chain(around).flatten() {
                *found.entry(who.clone()).or_insert(true) &= read_only;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, options: &[(&str, &str)]) -> Volume {
        Volume {
            name: name.to_owned(),
            driver: "local".to_owned(),
            options: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            labels: BTreeMap::new(),
            mountpoint: format!("/var/lib/docker/volumes/{name}/_data"),
            scope: String::new(),
            created_at: String::new(),
            users: Vec::new(),
            reached_by: Vec::new(),
        }
    }

    #[test]
    fn volumes_meet_what_has_the_same_files_and_nothing_else() {
        let nfs = |name: &str, server: &str| volume(name, &[("type", "nfs"), ("o", server), ("device", ":/export")]);
        let volumes = [
            volume("plain", &[]),
            volume("bound", &[("type", "none"), ("o", "bind"), ("device", "/srv/data/")]),
            volume("again", &[("o", "rbind,ro"), ("device", "/srv/data")]),
            nfs("far", "addr=10.0.0.1,rw"),
            nfs("far-too", "ro,addr=10.0.0.1"),
            nfs("other-server", "addr=10.0.0.2"),
            volume("memory", &[("type", "tmpfs"), ("device", "tmpfs")]),
            volume("memory-too", &[("type", "tmpfs"), ("device", "tmpfs")]),
        ];
        let grounds = Grounds::of(&volumes);
        let places = |name: &str| if name.starts_with('/') { [name.to_owned()].into() } else { grounds.volume(name, "") };
        for (one, other, expected) in [
            ("bound", "again", true),
            ("bound", "/srv/data/inner", true),
            ("bound", "/srv", true),
            ("bound", "/srv/data-of-another", false),
            ("plain", "/var/lib/docker/volumes/plain/_data/x", true),
            ("plain", "/var/lib/docker/volumes", true),
            ("plain", "bound", false),
            ("far", "far-too", true),
            ("far", "other-server", false),
            ("memory", "memory-too", false),
        ] {
            assert_eq!(meet(&places(one), &places(other)), expected, "{one} and {other}");
            let visitors = Visitors::of(places(other).into_iter().map(|place| (place, 1, false)));
            assert_eq!(!visitors.at(&places(one)).is_empty(), expected, "who is in {other} for {one}");
        }
        assert_eq!(grounds.volume("new", "/x/_data"), ["/x/_data".to_owned()].into());
    }
}

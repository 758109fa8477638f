//! The folders above the snapshots: `applications`, `hosts`, `ids`, `snapshots`, `tags`, each with one entry for every snapshot
//! and, where a series is meant, a link `latest`.
//!
//! Pure: what is in a snapshot is not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::model::entry::Timestamp;
use crate::repository::contract::{Snapshot, TAG_BEFORE_RESTORE};
use crate::repository::restic::id::Id;

/// A folder that no snapshot holds.
#[derive(Debug, Default)]
pub(super) struct Virtual {
    pub(super) entries: BTreeMap<Vec<u8>, Entry>,
    /// When the newest snapshot in it was made.
    pub(super) time: Timestamp,
}

/// What is in such a folder.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Folder(Arc<Virtual>),
    /// The root of a snapshot.
    Snapshot {
        tree: Id,
        time: Timestamp,
    },
    /// A symbolic link in the same folder.
    Link {
        target: Vec<u8>,
        time: Timestamp,
    },
}

/// Builds the folders. The snapshots are sorted, the oldest first.
pub(super) fn build(snapshots: &[(&Snapshot, Id)], zone: &TimeZone) -> Virtual {
    let all: Vec<Item<'_>> = snapshots
        .iter()
        .map(|(snapshot, tree)| {
            let name = snapshot.time.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            let nanos = snapshot.time.subsec_nanosecond();
            let below = i64::from(nanos < 0);
            let nanos = (i64::from(nanos) + below * 1_000_000_000).cast_unsigned() as u32;
            Item { snapshot, tree: *tree, name, time: Timestamp { secs: snapshot.time.as_second() - below, nanos } }
        })
        .collect();
    let ids = all.iter().map(|item| (item.snapshot.id.short().as_bytes().to_vec(), item.entry()));
    let mut tags = groups(&all, |item| item.snapshot.tags.clone());
    // Who looks there asks for them.
    let overwritten: Vec<&Item<'_>> = all.iter().filter(|item| item.snapshot.is_aside(&[])).collect();
    if !overwritten.is_empty() {
        let asked = [TAG_BEFORE_RESTORE.to_owned()];
        tags.entries.insert(TAG_BEFORE_RESTORE.into(), Entry::Folder(Arc::new(series(&overwritten, &asked))));
    }
    let several = several_hosts(&all);
    let applications = |item: &Item<'_>| {
        let application = item.snapshot.application();
        let named = application.map(|name| if several.contains(name) { format!("{name}@{}", item.snapshot.host) } else { name.to_owned() });
        named.into_iter().collect()
    };
    let newest = all.last().map(|item| item.time).unwrap_or_default();
    let folders = [
        ("applications", groups(&all, applications)),
        ("hosts", groups(&all, |item| vec![item.snapshot.host.clone()])),
        ("ids", Virtual { entries: ids.collect(), time: newest }),
        ("snapshots", series(&all.iter().collect::<Vec<_>>(), &[])),
        ("tags", tags),
    ];
    let entries = folders.into_iter().map(|(name, folder)| (name.as_bytes().to_vec(), Entry::Folder(Arc::new(folder))));
    Virtual { entries: entries.collect(), time: newest }
}

struct Item<'a> {
    snapshot: &'a Snapshot,
    tree: Id,
    /// Its time, as the name of an entry.
    name: String,
    time: Timestamp,
}

impl Item<'_> {
    fn entry(&self) -> Entry {
        Entry::Snapshot { tree: self.tree, time: self.time }
    }
}

/// Names of applications that several hosts have.
fn several_hosts(all: &[Item<'_>]) -> BTreeSet<String> {
    let mut hosts: BTreeMap<&str, &str> = BTreeMap::new();
    let mut several = BTreeSet::new();
    for item in all {
        if let Some(application) = item.snapshot.application()
            && *hosts.entry(application).or_insert(&item.snapshot.host) != item.snapshot.host
        {
            several.insert(application.to_owned());
        }
    }
    several
}

/// One folder for each of the names that `names` gives.
fn groups(all: &[Item<'_>], names: impl Fn(&Item<'_>) -> Vec<String>) -> Virtual {
    let mut members: BTreeMap<Vec<u8>, Vec<&Item<'_>>> = BTreeMap::new();
    let mut time = Timestamp::default();
    for item in all {
        for name in names(item) {
            members.entry(safe(&name)).or_default().push(item);
            time = item.time;
        }
    }
    let entries = members.into_iter().map(|(name, items)| (name, Entry::Folder(Arc::new(series(&items, &[])))));
    Virtual { entries: entries.collect(), time }
}

/// A name that a folder can hold.
fn safe(name: &str) -> Vec<u8> {
    let name: String = name.chars().map(|c| if c == '/' || c == '\0' { '_' } else { c }).collect();
    // The kernel takes no longer ones.
    let end = (0..=name.len().min(255)).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    match &name[..end] {
        "" | "." | ".." => b"_".to_vec(),
        name => name.as_bytes().to_vec(),
    }
}

/// Snapshots by their times, and a link to the latest one that is no worse than it should be; `asked` are the tags that whoever
/// looks there asks for.
fn series(items: &[&Item<'_>], asked: &[String]) -> Virtual {
    let mut folder = Virtual::default();
    let mut latest = None;
    for item in items {
        // Snapshots of one second are told apart by a number.
        let name = (0..=items.len())
            .map(|number| if number == 0 { item.name.clone() } else { format!("{}-{number}", item.name) }.into_bytes())
            .find(|name| !folder.entries.contains_key(name));
        let Some(name) = name else { continue };
        if !item.snapshot.is_partial() && !item.snapshot.is_aside(asked) && item.snapshot.is_whole() {
            latest = Some((name.clone(), item.time));
        }
        folder.time = item.time;
        folder.entries.insert(name, item.entry());
    }
    if let Some((target, time)) = latest {
        folder.entries.insert(b"latest".to_vec(), Entry::Link { target, time });
    }
    folder
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::repository::contract::SnapshotId;

    fn snapshot(id: &str, second: i64, host: &str, tags: &[&str]) -> Snapshot {
        Snapshot {
            id: SnapshotId(id.repeat(64)),
            time: jiff::Timestamp::new(second, 5).unwrap(),
            offset: jiff::tz::Offset::UTC,
            host: host.to_owned(),
            username: String::new(),
            paths: Vec::new(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            parent: None,
            original: None,
            program: String::new(),
            summary: None,
        }
    }

    fn names(folder: &Virtual, path: &str) -> Vec<String> {
        let mut entries = &folder.entries;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Entry::Folder(below) = &entries[name.as_bytes()] else { panic!("{name}") };
            entries = &below.entries;
        }
        entries.keys().map(|name| String::from_utf8(name.clone()).unwrap()).collect()
    }

    #[test]
    fn every_snapshot_is_where_people_look_for_it() {
        let all = [
            snapshot("a", 0, "one", &["app:shop", "a/b"]),
            snapshot("b", 1, "two", &["app:shop", ".."]),
            snapshot("c", 1, "two", &["app:web"]),
            snapshot("d", 2, "two", &["app:web", "partial"]),
            snapshot("e", 3, "two", &["app:web", "before-restore"]),
        ];
        let all: Vec<(&Snapshot, Id)> = all.iter().map(|snapshot| (snapshot, Id([0; 32]))).collect();
        let root = build(&all, &TimeZone::UTC);
        assert_eq!(names(&root, ""), ["applications", "hosts", "ids", "snapshots", "tags"]);
        assert_eq!(names(&root, "applications"), ["shop@one", "shop@two", "web"]);
        assert_eq!(
            names(&root, "applications/web"),
            ["1970-01-01T00:00:01+00:00", "1970-01-01T00:00:02+00:00", "1970-01-01T00:00:03+00:00", "latest"]
        );
        assert_eq!(names(&root, "hosts"), ["one", "two"]);
        assert_eq!(
            names(&root, "hosts/two"),
            [
                "1970-01-01T00:00:01+00:00",
                "1970-01-01T00:00:01+00:00-1",
                "1970-01-01T00:00:02+00:00",
                "1970-01-01T00:00:03+00:00",
                "latest"
            ]
        );
        assert_eq!(names(&root, "ids"), ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd", "eeeeeeee"]);
        assert_eq!(names(&root, "tags"), ["_", "a_b", "app:shop", "app:web", "before-restore", "partial"]);
        assert_eq!(names(&root, "tags/partial"), ["1970-01-01T00:00:02+00:00"]);
        let latest = |folder: &str, name: &str| {
            let Entry::Folder(folder) = &root.entries[folder.as_bytes()] else { panic!() };
            let Entry::Folder(folder) = &folder.entries[name.as_bytes()] else { panic!() };
            let Entry::Link { target, .. } = &folder.entries[&b"latest"[..]] else { panic!() };
            String::from_utf8(target.clone()).unwrap()
        };
        // What is partial is never it, and what a restore has overwritten only where it is asked for.
        assert_eq!(latest("applications", "web"), "1970-01-01T00:00:01+00:00");
        assert_eq!(latest("tags", "app:web"), "1970-01-01T00:00:01+00:00");
        assert_eq!(latest("hosts", "two"), "1970-01-01T00:00:01+00:00-1");
        assert_eq!(latest("tags", "before-restore"), "1970-01-01T00:00:03+00:00");
        assert_eq!(names(&build(&[], &TimeZone::UTC), "snapshots"), [""; 0]);
    }
}

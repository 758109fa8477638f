//! Made-up trees beside what their snapshots say of themselves.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use super::*;
use crate::repository::contract::SnapshotId;

/// The places of a snapshot that says `said` and whose tree has these files.
fn places(program: &str, said: &[&str], files: &[&[u8]]) -> Places {
    let snapshot = Snapshot {
        id: SnapshotId("a".repeat(64)),
        time: jiff::Timestamp::from_second(0).unwrap(),
        offset: jiff::tz::Offset::UTC,
        host: String::new(),
        username: String::new(),
        paths: said.iter().map(|&path| path.to_owned()).collect(),
        tags: Vec::new(),
        parent: None,
        original: None,
        program: program.to_owned(),
        summary: None,
    };
    Places::among(&snapshot, &mut |folder| {
        let folder = if folder == b"/" { &b""[..] } else { folder };
        let inside = |file: &&&[u8]| file.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"));
        let mut entries = BTreeMap::new();
        for file in files.iter().filter(inside) {
            let end = file[folder.len() + 1..].iter().position(|&byte| byte == b'/');
            let name = end.map_or(file.len(), |end| folder.len() + 1 + end);
            entries.insert(file[..name].to_vec(), end.is_some());
        }
        Ok(entries.into_iter().collect())
    })
    .unwrap()
}

fn known(places: &Places) -> Vec<&str> {
    places.known().iter().map(|path| std::str::from_utf8(path).unwrap()).collect()
}

#[test]
fn absolute_paths_are_where_they_were() {
    let found = places("restic 0.18.0", &["/srv/www", "/etc/hostname", "/srv"], &[b"/etc/hostname", b"/srv/www/a", b"/srv/b"]);
    assert_eq!(known(&found), ["/etc/hostname", "/srv"]);
    assert_eq!((found.unplaced(b"/"), found.missing()), (None, &[][..]));
    assert!(!found.is_empty());
    let found = places("restic 0.18.0", &["/srv", "/gone"], &[b"/srv/b"]);
    assert_eq!(found.missing(), ["/gone"]);
    assert_eq!(known(&places("restic 0.18.0", &["/"], &[b"/srv/b"])), ["/"]);
    assert!(places("restic 0.18.0", &["/gone"], &[]).is_empty());
}

#[test]
fn what_was_named_relative_to_a_folder_has_no_place() {
    // restic backup other ../other, in /w/top
    let found = places("restic 0.18.0", &["/w/other", "/w/top/other"], &[b"/other/a", b"/other-1/b"]);
    assert_eq!(known(&found), [""; 0]);
    assert_eq!(found.unplaced(b"/").unwrap(), "/other, /other-1");
    assert_eq!(found.unplaced(b"/other/a").unwrap(), "/other/a");
    // restic backup . /w/other, in /w
    let found = places("restic 0.18.0", &["/w", "/w/other"], &[b"/other/a", b"/top/b", b"/w/other/a"]);
    assert_eq!(found.unplaced(b"/").unwrap(), "/other, /top");
    assert_eq!(found.unplaced(b"/w/other"), None);
    // restic backup . /etc/hostname, in /w
    let files: [&[u8]; 5] = [b"/a", b"/b", b"/c", b"/d", b"/etc/hostname"];
    let found = places("restic 0.18.0", &["/etc/hostname", "/w"], &files);
    assert_eq!(known(&found), ["/etc/hostname"]);
    assert_eq!(found.unplaced(b"/").unwrap(), "/a, /b, /c and 1 more");
    assert_eq!(found.unplaced(b"/etc"), None);
    // restic backup ., in /w/x, where a folder is called w
    let found = places("restic 0.18.0", &["/w/x"], &[b"/w/y"]);
    assert_eq!(found.unplaced(b"/").unwrap(), "/w");
    // Neither does a snapshot that says nothing of paths.
    assert_eq!(places("", &[], &[b"/a"]).unplaced(b"/").unwrap(), "/a");
}

#[test]
fn a_name_that_is_no_text_is_found_by_what_it_looks_like() {
    let said = "/w/nu\u{fffd}";
    let found = places("restic 0.18.0", &[said], &[b"/w/nu\xff/a"]);
    assert_eq!((found.known(), found.unplaced(b"/")), (&[b"/w/nu\xff".to_vec()][..], None));
    assert!(found.missing().is_empty());
    // Which of two it was is not known; if both were said, both are known.
    let both: [&[u8]; 2] = [b"/w/nu\xfe", b"/w/nu\xff"];
    let found = places("restic 0.18.0", &[said], &both);
    assert_eq!((found.known().len(), found.unplaced(b"/").unwrap()), (0, "/w/nu\\xfe, /w/nu\\xff".to_owned()));
    assert_eq!(places("restic 0.18.0", &[said, said], &both).known().len(), 2);
}

#[test]
fn what_bbackup_saved_is_where_it_was() {
    // The folder above what could not be saved.
    let found = places("bbackup 0.1.0", &["/srv/gone", "/w/x"], &[b"/srv/", b"/w/x/a"]);
    assert_eq!((found.unplaced(b"/"), found.missing()), (None, &["/srv/gone".to_owned()][..]));
    assert_eq!(known(&found), ["/w/x"]);
}

#[test]
fn only_what_was_saved_as_a_whole_counts_as_that() {
    let found = places("bbackup 0.1.0", &["/srv/a", "/srv/b"], &[b"/srv/a/x", b"/srv/b/y"]);
    let saved = |path: &str| found.saved_in(path.as_bytes()).map(printable).collect::<Vec<_>>();
    assert_eq!(saved("/"), ["/srv/a", "/srv/b"]);
    assert_eq!(saved("/srv"), ["/srv/a", "/srv/b"]);
    assert_eq!(saved("/srv/a"), ["/srv/a"]);
    assert_eq!(saved("/srv/a/x"), ["/srv/a/x"]);
}

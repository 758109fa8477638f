//! Whoever looks, the walk gives the same.

#![expect(clippy::unwrap_used, reason = "tests")]
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::model::entry::{Metadata, Source, Step};
use crate::sources::filter::{Case, Filter};
use crate::sources::walk::{Walk, WalkOptions};

/// A tree with folders of all sizes, and everything in them that a folder can hold.
fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    for (folder, count) in [("", 300), ("sub-100", 500), ("sub-100/deep", LEAST_NAMES), ("small", LEAST_NAMES - 1), ("zz", 7 * RANGE + 1)] {
        let folder = tree.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..count {
            let path = folder.join(format!("{number:03}"));
            match number % 11 {
                0 => std::fs::create_dir_all(path.join("inner")).unwrap(),
                1 => symlink("nowhere", path).unwrap(),
                2 => rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap(),
                3 => std::fs::write(folder.join(format!("{number:03}.tmp")), "left out").unwrap(),
                _ => {
                    std::fs::write(&path, vec![b'x'; number]).unwrap();
                    if number % 5 == 0 {
                        let value = number.to_string();
                        rustix::fs::setxattr(&path, "user.n", value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
                    }
                }
            }
        }
    }
    tree
}

fn options(lookers: usize) -> WalkOptions {
    let mut filter = Filter::new();
    filter.exclude(b"*.tmp", Case::Sensitive).unwrap();
    filter.exclude(b"zz/1*", Case::Sensitive).unwrap();
    WalkOptions { filter: Some(Arc::new(filter)), lookers: Some(lookers), ..WalkOptions::default() }
}

fn all(mut walk: Walk) -> (Vec<(Vec<u8>, Metadata)>, Vec<String>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    loop {
        match walk.next_step().unwrap() {
            Step::Entry(mut entry) => {
                // Looking at a folder may count as an access.
                entry.metadata.atime = entry.metadata.mtime;
                entries.push((entry.path, entry.metadata));
            }
            Step::Problem(problem) => problems.push(format!("{}: {}", String::from_utf8(problem.path).unwrap(), problem.error)),
            Step::End => return (entries, problems),
        }
    }
}

#[test]
fn it_finds_what_the_walk_finds_alone() {
    let tree = tree();
    let walk = |lookers| Walk::new(tree.path(), options(lookers)).unwrap();
    let (alone, problems) = all(walk(0));
    assert!(alone.len() > 1000 && problems.is_empty(), "{} {problems:?}", alone.len());
    assert!(!alone.iter().any(|(path, _)| path.ends_with(b".tmp")));
    assert!(alone.iter().any(|(_, metadata)| metadata.xattrs.iter().any(|xattr| xattr.name == b"user.n")));
    for lookers in [1, 3, THREADS] {
        let walk = walk(lookers);
        let counts = walk.counts();
        assert_eq!(all(walk), (alone.clone(), Vec::new()), "{lookers} lookers");
        assert!(counts.is_complete() && counts.entries() == alone.len() as u64);
    }
}

#[test]
fn what_vanishes_is_told_whoever_looks() {
    for lookers in [0, 2] {
        let tree = tree();
        let mut walk = Walk::new(tree.path(), options(lookers)).unwrap();
        walk.next_step().unwrap();
        // The folder was listed. Nobody has looked at what is far behind.
        for number in 250..300 {
            let _ = std::fs::remove_file(tree.path().join(format!("{number:03}")));
        }
        let (_, problems) = all(walk);
        assert!(problems.len() > 30, "{lookers} lookers: {problems:?}");
        assert!(problems.iter().all(|problem| problem.contains("vanished")), "{problems:?}");
    }
}

#[test]
fn it_ends_with_the_walk() {
    let tree = tree();
    let options = options(2);
    let users = || Arc::strong_count(options.filter.as_ref().unwrap());
    let mut walk = Walk::new(tree.path(), options.clone()).unwrap();
    while !matches!(walk.next_step().unwrap(), Step::Entry(entry) if entry.path == b"200") {}
    assert_eq!(users(), 4, "the walk and two more");
    drop(walk);
    assert_eq!(users(), 1);
}

#[test]
fn slow_storage_is_noticed() {
    let looker = |lookers| {
        let root = super::super::Root::open(Path::new("/")).unwrap();
        Looker::new(b"/", &root, WalkOptions { lookers, ..WalkOptions::default() })
    };
    let threads = |slow, looks, lookers| {
        let mut crew = Crew::Undecided { slow, looks, processors: 2 };
        crew.threads(&looker(lookers)).map_or(0, |threads| threads.handles.len())
    };
    assert_eq!(threads(0, SAMPLE, None), 0);
    assert_eq!(threads(SAMPLE / 2, SAMPLE, None), THREADS_THAT_WAIT);
    assert_eq!(threads(SAMPLE / 2 - 1, SAMPLE, None), 0, "what others kept from a processor");
    assert_eq!(threads(SAMPLE - 1, SAMPLE - 1, None), 0, "too few to say");
    assert_eq!(threads(SAMPLE, SAMPLE, Some(0)), 0);
    assert_eq!(threads(0, 0, Some(3)), 3);
    let mut many = Crew::Undecided { slow: 0, looks: 0, processors: 64 };
    assert_eq!(many.threads(&looker(None)).map(|threads| threads.handles.len()), Some(THREADS));
    let mut crew = Crew::default();
    for _ in 0..10 * SAMPLE {
        crew.timed(|| ());
    }
    assert!(matches!(crew, Crew::Undecided { looks, .. } if (SAMPLE..2 * SAMPLE).contains(&looks)));
}

//! Tests of the walk over real files; what patterns mean is in `filter/tests`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
use std::ffi::OsStr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::model::entry::{Content, Entry, Kind, Timestamp};
use crate::sources::filter::Case;

/// Reads a source to its end.
fn read(walk: &mut Walk) -> (Vec<Entry>, Vec<EntryProblem>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    loop {
        match walk.next_step().unwrap() {
            Step::Entry(entry) => entries.push(entry),
            Step::Problem(problem) => problems.push(problem),
            Step::End => return (entries, problems),
        }
    }
}

fn walk(path: &Path) -> Vec<Entry> {
    let mut walk = Walk::new(path, WalkOptions::default()).unwrap();
    let counts = walk.counts();
    let (entries, problems) = read(&mut walk);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(counts.entries(), entries.len() as u64);
    assert_eq!(counts.bytes(), entries.iter().map(|entry| entry.metadata.size).sum::<u64>());
    assert!(counts.is_complete());
    entries
}

fn paths(entries: &[Entry]) -> Vec<&[u8]> {
    entries.iter().map(|entry| &entry.path[..]).collect()
}

fn texts(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| str::from_utf8(&entry.path).unwrap()).collect()
}

fn write(path: PathBuf, data: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, data).unwrap();
}

#[test]
fn entries_come_in_tree_order() {
    let tree = tempfile::tempdir().unwrap();
    for file in ["a/x", "a.b", "a-b/y", "a/z/deep", "B", "\u{e4}"] {
        write(tree.path().join(file), b"1");
    }
    let entries = walk(tree.path());
    // The names of one folder by their bytes, so that `a` and what is in it stands behind `a-b` and before `a.b` only if
    // the bytes say so: here `a` < `a-b` < `a.b`.
    assert_eq!(texts(&entries), ["", "B", "a", "a/x", "a/z", "a/z/deep", "a-b", "a-b/y", "a.b", "\u{e4}"]);
}

#[test]
fn metadata_is_what_the_system_says() {
    let tree = tempfile::tempdir().unwrap();
    let path = tree.path().join("file");
    std::fs::write(&path, [1; 1000]).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::fs::hard_link(&path, tree.path().join("second")).unwrap();
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 6 },
        last_modification: rustix::fs::Timespec { tv_sec: -100, tv_nsec: 999_999_999 },
    };
    rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();
    rustix::fs::setxattr(&path, "user.note", b"\0\xff", rustix::fs::XattrFlags::empty()).unwrap();
    symlink(std::ffi::OsString::from_vec(b"no\xffwhere\n".to_vec()), tree.path().join("symlink")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.path().join("socket")).unwrap();
    mknod(&tree.path().join("fifo"), FileType::Fifo, 0);

    let entries = walk(tree.path());
    let found = |name: &str| &entries.iter().find(|entry| entry.path == name.as_bytes()).unwrap().metadata;
    let (file, expected) = (found("file"), std::fs::symlink_metadata(&path).unwrap());
    assert_eq!((file.mode, file.size, file.links), (0o4751, 1000, 2));
    assert_eq!((file.uid, file.gid), (expected.uid(), expected.gid()));
    assert_eq!((file.inode, file.device), (expected.ino(), expected.dev()));
    assert_eq!(file.mtime, Timestamp { secs: -100, nanos: 999_999_999 });
    assert_eq!(file.atime, Timestamp { secs: 5, nanos: 6 });
    assert_eq!((file.ctime.secs, i64::from(file.ctime.nanos)), (expected.ctime(), expected.ctime_nsec()));
    assert_eq!(file.xattrs.iter().find(|xattr| xattr.name == b"user.note").unwrap().value, b"\0\xff");
    assert_eq!(found("second").inode, file.inode);
    assert_eq!(found("symlink").kind, Kind::Symlink { target: b"no\xffwhere\n".to_vec() });
    assert_eq!((found("symlink").size, found("").size), (0, 0));
    assert_eq!(found("socket").kind, Kind::Socket);
    assert_eq!(found("fifo").kind, Kind::Fifo);
    assert!(found("").is_dir());
    if expected.uid() == 0 {
        assert_eq!((file.user.as_str(), file.group.as_str()), ("root", "root"));
    }
    for entry in &entries {
        match &entry.content {
            Content::File(file) => assert_eq!(*file, tree.path().join(str::from_utf8(&entry.path).unwrap())),
            Content::None => assert!(!entry.metadata.is_file()),
            other => panic!("{other:?}"),
        }
    }
}

fn mknod(path: &Path, kind: FileType, rdev: u64) -> bool {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, Mode::from_raw_mode(0o600), rdev).is_ok()
}

#[test]
fn devices_and_access_lists() {
    let tree = tempfile::tempdir().unwrap();
    // Only root may, and not in every container.
    if !mknod(&tree.path().join("char"), FileType::CharacterDevice, rustix::fs::makedev(1, 300)) {
        return;
    }
    assert!(mknod(&tree.path().join("disk"), FileType::BlockDevice, rustix::fs::makedev(259, 70_000)));
    // Version 2: the owner may all, user 1000 may read, the group none, the mask read, others none.
    let list = [[2, 0, 0, 0, 1, 0, 7, 0], [255, 255, 255, 255, 2, 0, 4, 0], [232, 3, 0, 0, 4, 0, 0, 0], [255, 255, 255, 255, 16, 0, 4, 0]];
    let mut list = list.concat();
    list.extend([255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255]);
    std::fs::write(tree.path().join("list"), b"").unwrap();
    let set = rustix::fs::setxattr(tree.path().join("list"), "system.posix_acl_access", &list, rustix::fs::XattrFlags::empty());
    let entries = walk(tree.path());
    assert_eq!(entries[1].metadata.kind, Kind::CharDevice { rdev: rustix::fs::makedev(1, 300) });
    assert_eq!(entries[2].metadata.kind, Kind::BlockDevice { rdev: rustix::fs::makedev(259, 70_000) });
    // Not every file system has them.
    if set.is_ok() {
        assert!(entries[3].metadata.xattrs.iter().any(|xattr| xattr.name == b"system.posix_acl_access" && xattr.value == list));
    }
}

#[test]
fn names_are_bytes() {
    let tree = tempfile::tempdir().unwrap();
    let mut names =
        vec![vec![b'x'; 255], b"new\nline".to_vec(), b"\xff\xfe".to_vec(), b"\x1b[31m".to_vec(), b" ".to_vec(), b"-rf".to_vec()];
    for name in &names {
        std::fs::write(tree.path().join(OsStr::from_bytes(name)), b"").unwrap();
    }
    names.push(Vec::new());
    names.sort();
    assert_eq!(paths(&walk(tree.path())), names);
}

#[test]
fn every_kind_of_root() {
    let tree = tempfile::tempdir().unwrap();
    let file = tree.path().join("file");
    std::fs::write(&file, b"data").unwrap();
    let link = tree.path().join("link");
    symlink(tree.path(), &link).unwrap();
    let entries = walk(&file);
    assert_eq!(paths(&entries), [b""]);
    assert!(matches!(&entries[0].content, Content::File(path) if *path == file));
    assert_eq!(entries[0].metadata.size, 4);
    let entries = walk(&link);
    assert_eq!(entries.len(), 1);
    assert!(matches!(&entries[0].metadata.kind, Kind::Symlink { target } if target == tree.path().as_os_str().as_bytes()));
    // A link in the middle is the caller's own way to the place.
    assert_eq!(walk(&link.join("file"))[0].metadata.inode, std::fs::metadata(&file).unwrap().ino());
    let open = |path: PathBuf| Walk::new(&path, WalkOptions::default()).map(|_| ());
    assert!(matches!(open(tree.path().join("none")), Err(SourceError::Missing { .. })));
    assert!(matches!(open(file.join("none")), Err(SourceError::Missing { .. })));
    assert!(matches!(Walk::folder(&link, WalkOptions::default()), Err(SourceError::NotAFolder { .. })));
    let walk = Walk::folder(tree.path(), WalkOptions::default()).unwrap();
    assert_eq!(walk.counts().root().unwrap().inode, std::fs::metadata(tree.path()).unwrap().ino());
}

#[test]
fn the_root_of_all_has_no_double_slash() {
    let mut walk = Walk::new(Path::new("/"), WalkOptions { one_file_system: true, ..WalkOptions::default() }).unwrap();
    let Step::Entry(root) = walk.next_step().unwrap() else { panic!() };
    assert_eq!(root.path, b"");
    for _ in 0..50 {
        let Step::Entry(entry) = walk.next_step().unwrap() else { continue };
        assert!(!entry.path.starts_with(b"/") && !entry.path.is_empty());
        if let Content::File(path) = entry.content {
            assert!(path.exists() && !path.as_os_str().as_bytes().starts_with(b"//"));
        }
    }
}

/// Makes a chain of folders that is deeper than any path may be long, with a file in each.
fn deep_tree(depth: usize) -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let mut handle = open_folder(rustix::fs::CWD, tree.path()).unwrap();
    for level in 0..depth {
        let file = rustix::fs::openat(&handle, "zfile", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600)).unwrap();
        rustix::io::write(&file, level.to_string().as_bytes()).unwrap();
        rustix::fs::mkdirat(&handle, "folder-name", Mode::from_raw_mode(0o700)).unwrap();
        handle = open_folder(handle.as_fd(), "folder-name").unwrap();
    }
    tree
}

#[test]
fn paths_longer_than_the_system_allows() {
    let depth = 700;
    let tree = deep_tree(depth);
    let mut walk = Walk::new(tree.path(), WalkOptions::default()).unwrap();
    let (mut folders, mut files, mut streams) = (0, 0, 0);
    loop {
        match walk.next_step().unwrap() {
            Step::Entry(Entry { metadata, content, path }) => {
                let level = path.split(|byte| *byte == b'/').count() - 1;
                let data = match content {
                    Content::None => {
                        folders += 1;
                        continue;
                    }
                    Content::File(path) => std::fs::read(path).unwrap(),
                    Content::Stream(mut stream) => {
                        streams += 1;
                        let mut data = Vec::new();
                        io::Read::read_to_end(&mut stream, &mut data).unwrap();
                        data
                    }
                    other => panic!("{other:?}"),
                };
                files += 1;
                assert_eq!(data, level.to_string().as_bytes());
                assert_eq!(metadata.size, data.len() as u64);
            }
            Step::Problem(problem) => panic!("{problem:?}"),
            Step::End => break,
        }
        let open = walk.folders.iter().filter(|folder| folder.handle.is_some()).count();
        assert!(open <= OPEN_FOLDERS + 1, "{open}");
    }
    assert_eq!((folders, files), (depth + 1, depth));
    assert!(streams > 300, "{streams}");
}

#[test]
fn a_folder_that_is_moved_away_is_found_again_or_told() {
    let tree = deep_tree(200);
    let mut walk = Walk::new(tree.path(), WalkOptions::default()).unwrap();
    // Down to the end of the chain.
    loop {
        let Step::Entry(entry) = walk.next_step().unwrap() else { panic!() };
        if entry.metadata.is_file() {
            break;
        }
    }
    // The lower half goes somewhere else, so that nothing above it can be reached from below nor it from above.
    let elsewhere = tempfile::tempdir().unwrap();
    let from = tree.path().join(["folder-name"; 100].join("/"));
    std::fs::rename(&from, elsewhere.path().join("moved")).unwrap();
    let (entries, problems) = read(&mut walk);
    // Everything below was open or found through `..`; the folders above are found from the root again.
    assert_eq!(problems.len(), 0, "{problems:?}");
    assert_eq!(entries.len(), 199);

    let tree = deep_tree(200);
    let mut walk = Walk::new(tree.path(), WalkOptions::default()).unwrap();
    while walk.folders.len() < 190 {
        walk.next_step().unwrap();
    }
    let from = tree.path().join(["folder-name"; 10].join("/"));
    let kept = tempfile::tempdir().unwrap();
    std::fs::rename(tree.path().join(["folder-name"; 50].join("/")), kept.path().join("lower")).unwrap();
    std::fs::rename(&from, kept.path().join("upper")).unwrap();
    std::fs::create_dir(&from).unwrap();
    let (entries, problems) = read(&mut walk);
    // The folders 49 to 10 cannot be found again; those above have their place still.
    assert_eq!(problems.len(), 40, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.error.to_string().contains("moved")), "{problems:?}");
    assert_eq!(texts(&entries[entries.len() - 3..]), ["folder-name/folder-name/zfile", "folder-name/zfile", "zfile"]);
}

#[test]
fn a_folder_replaced_by_a_link_leads_nowhere() {
    let tree = tempfile::tempdir().unwrap();
    write(tree.path().join("a/first"), b"");
    write(tree.path().join("b/second"), b"");
    let mut walk = Walk::new(tree.path(), WalkOptions::default()).unwrap();
    // The root, and with it the list of what is in it.
    walk.next_step().unwrap();
    std::fs::remove_dir_all(tree.path().join("b")).unwrap();
    symlink("/etc", tree.path().join("b")).unwrap();
    let (entries, problems) = read(&mut walk);
    assert!(problems.is_empty());
    assert_eq!(texts(&entries), ["a", "a/first", "b"]);
    assert!(matches!(entries[2].metadata.kind, Kind::Symlink { .. }));
}

#[test]
fn what_vanishes_is_told() {
    let tree = tempfile::tempdir().unwrap();
    for file in ["a", "b/x", "c"] {
        write(tree.path().join(file), b"");
    }
    let mut walk = Walk::new(tree.path(), WalkOptions::default()).unwrap();
    walk.next_step().unwrap();
    std::fs::remove_file(tree.path().join("a")).unwrap();
    std::fs::remove_dir_all(tree.path().join("b")).unwrap();
    let counts = walk.counts();
    let (entries, problems) = read(&mut walk);
    assert_eq!(texts(&entries), ["c"]);
    assert_eq!(problems.iter().map(|problem| &problem.path[..]).collect::<Vec<_>>(), [b"a", b"b"]);
    assert!(problems.iter().all(|problem| problem.error.to_string().contains("vanished")));
    assert_eq!((counts.entries(), counts.problems()), (2, 2));
}

#[test]
fn what_may_not_be_read_is_told_and_the_rest_is_given() {
    // Root may read everything, so this runs as somebody else where the tests do not.
    if rustix::process::geteuid().is_root() {
        let tree = tempfile::tempdir().unwrap();
        write(tree.path().join("folder/inside"), b"");
        write(tree.path().join("next"), b"");
        let mut walk = Walk::new(tree.path(), WalkOptions::default()).unwrap();
        let mut looked = walk.looker.look_into(open_folder(rustix::fs::CWD, tree.path()).unwrap(), &stat(tree.path()), 0, true).unwrap();
        looked.listing_failed = Some(Errno::ACCESS.into());
        assert!(matches!(walk.accept(looked), Some(Step::Entry(_))));
        assert!(matches!(walk.next_step().unwrap(), Step::Problem(problem) if problem.error.kind() == io::ErrorKind::PermissionDenied));
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    write(tree.path().join("folder/inside"), b"");
    write(tree.path().join("next"), b"");
    std::fs::set_permissions(tree.path().join("folder"), std::fs::Permissions::from_mode(0o000)).unwrap();
    let (entries, problems) = read(&mut Walk::new(tree.path(), WalkOptions::default()).unwrap());
    std::fs::set_permissions(tree.path().join("folder"), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(texts(&entries), ["", "folder", "next"]);
    assert_eq!((problems.len(), &problems[0].path[..]), (1, &b"folder"[..]));
}

fn stat(path: &Path) -> Stat {
    rustix::fs::stat(path).unwrap()
}

#[test]
fn own_folders_are_never_read_by_whatever_name() {
    let tree = tempfile::tempdir().unwrap();
    for file in ["data/x", "repository/config", "state"] {
        write(tree.path().join(file), b"");
    }
    symlink(tree.path().join("repository"), tree.path().join("other-name")).unwrap();
    let paths = ["other-name", "state", "missing"].map(|name| tree.path().join(name));
    let never_read = Arc::new(NeverRead::of(paths).unwrap());
    let options = WalkOptions { never_read, ..WalkOptions::default() };
    let mut walk = Walk::new(tree.path(), options.clone()).unwrap();
    let counts = walk.counts();
    let (entries, problems) = read(&mut walk);
    assert!(problems.is_empty());
    assert_eq!(texts(&entries), ["", "data", "data/x", "other-name"]);
    assert_eq!(counts.pruned(), [&b"repository"[..], b"state"]);
    let own = Walk::new(&tree.path().join("repository"), options);
    assert!(matches!(own, Err(SourceError::NeverRead { .. })));
}

#[test]
fn tags_leave_the_folder_and_themselves() {
    let tree = tempfile::tempdir().unwrap();
    for (file, data) in [
        ("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# and more"),
        ("cache/deep/file", ""),
        ("cache/file", ""),
        ("wrong/CACHEDIR.TAG", "Signature: none"),
        ("wrong/file", ""),
        ("none/.nobackup", ""),
        ("none/file", ""),
        ("both/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55"),
        ("both/.nobackup", ""),
        ("sub/.nobackup/file", ""),
    ] {
        write(tree.path().join(file), data.as_bytes());
    }
    let mut filter = Filter::new();
    filter.exclude_if_present(crate::sources::filter::CACHE_TAG.as_bytes()).unwrap();
    filter.exclude_if_present(b".nobackup").unwrap();
    let options = WalkOptions { filter: Some(Arc::new(filter)), ..WalkOptions::default() };
    let (entries, problems) = read(&mut Walk::new(tree.path(), options).unwrap());
    assert!(problems.is_empty());
    let kept = ["", "both", "cache", "cache/CACHEDIR.TAG", "none", "none/.nobackup", "sub", "sub/.nobackup", "sub/.nobackup/file"];
    assert_eq!(texts(&entries), [&kept[..], &["wrong", "wrong/CACHEDIR.TAG", "wrong/file"]].concat());
}

#[test]
fn the_filter_may_see_another_path() {
    let tree = tempfile::tempdir().unwrap();
    for file in ["log/x", "sub/log/y", "z.tmp"] {
        write(tree.path().join(file), b"");
    }
    let mut filter = Filter::new();
    filter.exclude(b"/volumes/data/log", Case::Sensitive).unwrap();
    filter.exclude(b"*.TMP", Case::Insensitive).unwrap();
    let filter = Some(Arc::new(filter));
    let options = WalkOptions { filter: filter.clone(), seen_as: Some(b"/volumes/data/".to_vec()), ..WalkOptions::default() };
    let (entries, _) = read(&mut Walk::new(tree.path(), options).unwrap());
    assert_eq!(texts(&entries), ["", "sub", "sub/log", "sub/log/y"]);
    let (entries, _) = read(&mut Walk::new(tree.path(), WalkOptions { filter, ..WalkOptions::default() }).unwrap());
    assert_eq!(texts(&entries), ["", "log", "log/x", "sub", "sub/log", "sub/log/y"]);
}

#[test]
fn one_file_system_stops_at_mounts() {
    // `/proc` is a file system of its own wherever it is mounted.
    let (root, proc) = (stat(Path::new("/")), stat(Path::new("/proc")));
    if root.st_dev == proc.st_dev {
        return;
    }
    let mut filter = Filter::new();
    filter.exclude(b"/*", Case::Sensitive).unwrap();
    filter.exclude(b"!/proc", Case::Sensitive).unwrap();
    filter.exclude(b"/proc/*", Case::Sensitive).unwrap();
    filter.exclude(b"!/proc/version", Case::Sensitive).unwrap();
    let options = WalkOptions { one_file_system: true, filter: Some(Arc::new(filter)), ..WalkOptions::default() };
    let (entries, _) = read(&mut Walk::new(Path::new("/"), options.clone()).unwrap());
    assert_eq!(texts(&entries), ["", "proc"]);
    let options = WalkOptions { also: vec![identity(&proc)], ..options };
    let (entries, _) = read(&mut Walk::new(Path::new("/"), options).unwrap());
    assert_eq!(texts(&entries), ["", "proc", "proc/version"]);
}

#[test]
fn a_folder_of_very_many_files() {
    let tree = tempfile::tempdir().unwrap();
    for index in 0..5_000 {
        std::fs::write(tree.path().join(format!("file-{index}")), b"").unwrap();
    }
    let entries = walk(tree.path());
    assert_eq!(entries.len(), 5_001);
    assert!(entries.is_sorted_by(|a, b| a.path < b.path));
}

#[test]
fn attributes_belong_to_their_own_file() {
    let tree = tempfile::tempdir().unwrap();
    for index in 0..40 {
        let path = tree.path().join(format!("{index:02}"));
        std::fs::write(&path, b"").unwrap();
        // In runs and alone, so that both ways to ask are taken and changed.
        if matches!(index, 3 | 10..=20 | 22 | 24) {
            rustix::fs::setxattr(&path, "user.index", index.to_string().as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
        }
    }
    for (index, entry) in walk(tree.path())[1..].iter().enumerate() {
        let found: Vec<_> = entry.metadata.xattrs.iter().filter(|xattr| xattr.name == b"user.index").collect();
        let expected = matches!(index, 3 | 10..=20 | 22 | 24).then(|| index.to_string().into_bytes());
        assert_eq!(found.first().map(|xattr| xattr.value.clone()), expected, "{index}");
    }
}

#[test]
fn attributes_are_never_those_of_another_place() {
    let tree = tempfile::tempdir().unwrap();
    write(tree.path().join("folder/file"), b"");
    write(tree.path().join("other/file"), b"");
    rustix::fs::setxattr(tree.path().join("other/file"), "user.secret", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    let mut walk = Walk::new(tree.path(), WalkOptions::default()).unwrap();
    walk.next_step().unwrap();
    // The folder was listed; now its name leads elsewhere.
    walk.next_step().unwrap();
    std::fs::rename(tree.path().join("folder"), tree.path().join("moved")).unwrap();
    symlink("other", tree.path().join("folder")).unwrap();
    let Step::Entry(entry) = walk.next_step().unwrap() else { panic!() };
    assert_eq!(entry.path, b"folder/file");
    assert!(!entry.metadata.xattrs.iter().any(|xattr| xattr.name == b"user.secret"));
}

//! Tests of the local store: what is written is there, and nothing else.
//!
//! Full disks are tested from outside.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn name(first: &str) -> String {
    format!("{first}{}", "0".repeat(64 - first.len()))
}

fn store() -> (tempfile::TempDir, LocalBackend) {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::new(folder.path().join("a/b"));
    backend.create().unwrap();
    (folder, backend)
}

const KINDS: [FileKind; 5] = [FileKind::Key, FileKind::Lock, FileKind::Snapshot, FileKind::Index, FileKind::Pack];

#[test]
fn what_is_written_is_there() {
    let (_folder, backend) = store();
    for kind in KINDS {
        assert_eq!(backend.list(kind).unwrap(), []);
        let name = name("ab");
        backend.write(kind, &name, &[b"first ", b"", b"second"]).unwrap();
        assert_eq!(backend.list(kind).unwrap(), [(name.clone(), 12)]);
        assert_eq!(backend.read(kind, &name).unwrap(), b"first second");
        let mut part = [0; 6];
        backend.read_at(kind, &name, 6, &mut part).unwrap();
        assert_eq!(&part, b"second");
        assert_eq!(backend.read_at(kind, &name, 7, &mut part).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(backend.read_at(kind, &self::name("ac"), 0, &mut part).unwrap_err().kind(), io::ErrorKind::NotFound);
        // Again, over a file that nobody may write.
        backend.write(kind, &name, &[b"first second"]).unwrap();
        backend.remove(kind, &name).unwrap();
        backend.remove(kind, &name).unwrap();
        assert_eq!(backend.read(kind, &name).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(backend.list(kind).unwrap(), []);
    }
}

#[test]
fn a_config_is_never_replaced() {
    let (_folder, backend) = store();
    assert_eq!(backend.list(FileKind::Config).unwrap(), []);
    backend.write(FileKind::Config, "", &[b"one"]).unwrap();
    assert_eq!(backend.write(FileKind::Config, "", &[b"two"]).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(backend.read(FileKind::Config, "").unwrap(), b"one");
    assert_eq!(backend.list(FileKind::Config).unwrap(), [(String::new(), 3)]);
    let left: Vec<_> = fs::read_dir(backend.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("-tmp-")), "{left:?}");
}

/// Two containers on one shared folder: in both, every process has the same number.
#[test]
fn what_others_are_writing_is_let_be() {
    let (_folder, backend) = store();
    let others: Vec<PathBuf> =
        (0..3).map(|number| backend.root().join(format!("config-tmp-{}-{number}", crate::platform::host::pid()))).collect();
    for path in &others {
        fs::write(path, "of somebody else").unwrap();
    }
    backend.write(FileKind::Config, "", &[b"ours"]).unwrap();
    for path in others {
        assert_eq!(fs::read(path).unwrap(), b"of somebody else");
    }
}

#[test]
fn what_dead_writers_left_goes_and_nothing_else() {
    let (_folder, backend) = store();
    let names: Vec<String> = ["ab", "cd", "ef"].iter().map(|first| name(first)).collect();
    for kind in KINDS {
        backend.write(kind, &names[0], &[b"whole"]).unwrap();
        let folder = backend.path(kind, &names[1]).unwrap().parent().unwrap().to_owned();
        fs::write(folder.join(format!("{}-tmp-77-0", names[1])), "half").unwrap();
        fs::write(folder.join("notes-tmp-1"), "somebody's").unwrap();
    }
    // Of keys and locks somebody else may be writing one at any time.
    assert_eq!(backend.remove_leftovers().unwrap(), 3);
    assert_eq!(backend.remove_leftovers().unwrap(), 0);
    for kind in KINDS {
        assert_eq!(backend.read(kind, &names[0]).unwrap(), b"whole");
        let folder = backend.path(kind, &names[1]).unwrap().parent().unwrap().to_owned();
        assert!(folder.join("notes-tmp-1").exists());
        let is_kept = matches!(kind, FileKind::Key | FileKind::Lock);
        assert_eq!(folder.join(format!("{}-tmp-77-0", names[1])).exists(), is_kept, "{kind:?}");
    }
}

#[test]
fn only_files_of_the_format_are_listed() {
    let (_folder, backend) = store();
    let data = backend.root().join("data");
    let good = name("ab");
    fs::write(data.join("ab").join(&good), "").unwrap();
    fs::write(data.join("ac").join(name("ab")), "in the wrong folder").unwrap();
    fs::write(data.join("ab").join(format!("{}-tmp-1-0", name("ab"))), "").unwrap();
    fs::write(data.join("ab").join(name("AB")), "").unwrap();
    fs::write(data.join("ab").join("abc"), "").unwrap();
    fs::write(data.join("x"), "").unwrap();
    fs::create_dir(data.join("ab").join(name("abc"))).unwrap();
    assert_eq!(backend.list(FileKind::Pack).unwrap(), [(good, 0)]);
    fs::remove_dir_all(data).unwrap();
    assert_eq!(backend.list(FileKind::Pack).unwrap(), []);
}

#[test]
fn names_never_lead_outside() {
    let (_folder, backend) = store();
    for bad in ["", "..", "../../config", "/etc/passwd", &name("AB"), &name("ab")[1..], &format!("../{}", &name("ab")[3..])] {
        for kind in KINDS {
            assert_eq!(backend.read(kind, bad).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad}");
            assert!(backend.write(kind, bad, &[b"x"]).is_err());
            assert!(backend.remove(kind, bad).is_err());
        }
    }
}

#[test]
fn missing_folders_are_made_and_permissions_follow_the_config() {
    let (_folder, backend) = store();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = backend.root().join("data/cd").join(name("cd"));
    fs::remove_dir(backend.root().join("data/cd")).unwrap();
    backend.write(FileKind::Pack, &name("cd"), &[b"x"]).unwrap();
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o400, 0o700));

    backend.write(FileKind::Config, "", &[b"x"]).unwrap();
    fs::set_permissions(backend.root().join("config"), fs::Permissions::from_mode(0o440)).unwrap();
    backend.remove(FileKind::Pack, &name("cd")).unwrap();
    fs::remove_dir(backend.root().join("data/cd")).unwrap();
    backend.write(FileKind::Pack, &name("cd"), &[b"x"]).unwrap();
    assert_eq!(mode(&file), 0o440);
    assert_eq!(mode(file.parent().unwrap()) & 0o750, 0o750);
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let (_folder, backend) = store();
    // The name is taken by a folder, so the rename fails after everything was written.
    fs::create_dir_all(backend.root().join("index").join(name("ab")).join("x")).unwrap();
    assert!(backend.write(FileKind::Index, &name("ab"), &[b"data"]).is_err());
    assert_eq!(fs::read_dir(backend.root().join("index")).unwrap().count(), 1);
}

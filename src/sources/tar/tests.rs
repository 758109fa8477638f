//! Tests of the source over tar streams, against GNU tar and our own sink; what the sink refuses is in `targets/tar/tests`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::model::entry::{Sink, Timestamp, Xattr};
use crate::sources::walk::{Walk, WalkOptions};
use crate::targets::tar::{Missing, TarSink};

/// An entry with its data read.
#[derive(Debug, Clone, PartialEq)]
struct Whole {
    path: Vec<u8>,
    metadata: Metadata,
    data: Vec<u8>,
    link: Option<Vec<u8>>,
}

fn read_all(source: &mut impl Source) -> io::Result<Vec<Whole>> {
    let mut entries = Vec::new();
    loop {
        match source.next_step()? {
            Step::Entry(Entry { path, metadata, content }) => {
                let (mut data, mut link) = (Vec::new(), None);
                match content {
                    Content::None => {}
                    Content::Bytes(bytes) => data = bytes,
                    Content::File(file) => data = std::fs::read(file)?,
                    Content::HardLink(target) => link = Some(target),
                    Content::Stream(mut body) => {
                        body.read_to_end(&mut data)?;
                    }
                }
                if link.is_none() {
                    assert_eq!(data.len() as u64, metadata.size, "{}", printable(&path));
                }
                entries.push(Whole { path, metadata, data, link });
            }
            Step::Problem(problem) => panic!("{problem:?}"),
            Step::End => return Ok(entries),
        }
    }
}

fn read_tar(bytes: &[u8], top: &str) -> io::Result<Vec<Whole>> {
    let mut source = TarSource::new(io::Cursor::new(bytes.to_vec()), top.as_bytes());
    let counts = source.counts();
    let entries = read_all(&mut source);
    assert_eq!(counts.is_complete(), entries.is_ok());
    entries
}

fn cause(error: &io::Error) -> &TarError {
    &failure(error).error
}

fn failure(error: &io::Error) -> &TarFailure {
    error.get_ref().unwrap().downcast_ref::<TarFailure>().unwrap()
}

/// Gives the entries to a sink the way a repository does.
fn write_tar(entries: &[Whole], top: &str) -> (Vec<u8>, Vec<crate::targets::tar::LeftOut>) {
    let mut sink = TarSink::new(Vec::new(), top.as_bytes());
    for entry in entries {
        sink.begin(&entry.path, &entry.metadata, entry.link.as_deref()).unwrap();
        for piece in entry.data.chunks(1000) {
            sink.data(piece).unwrap();
        }
        sink.end().unwrap();
    }
    sink.finish().unwrap();
    let left_out = sink.left_out().to_vec();
    (sink.into_inner().unwrap(), left_out)
}

fn gnu_tar(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A folder `top` with about everything that a file system can hold.
fn nasty_tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let top = tree.path().join("top");
    let write = |name: &[u8], data: &[u8]| {
        let path = top.join(std::ffi::OsStr::from_bytes(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, data).unwrap();
        path
    };
    write(b"a/plain", b"hello");
    write(b"a/empty", b"");
    write(b"a/block", &[7; 512]);
    write(b"a/more", &vec![8; 100_001]);
    write(b"new\nline", b"n");
    write(b"not-utf8-\xff\xfe", b"u");
    write(&[b'l'; 255], b"long");
    let deep = [&[b'd'; 90][..]; 4].join(&b'/');
    write(&[&deep[..], b"file"].join(&b'/'), b"deep");
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(&write(b"setuid", b"s"), 0o4755);
    // Only root reads what nobody may.
    mode(&write(b"secret", b"s"), if rustix::process::geteuid().is_root() { 0o000 } else { 0o400 });
    std::fs::create_dir(top.join("sticky")).unwrap();
    mode(&top.join("sticky"), 0o1777);
    std::fs::hard_link(top.join("a/plain"), top.join("b-link")).unwrap();
    std::fs::hard_link(top.join("a/plain"), top.join("a/second")).unwrap();
    symlink("../outside", top.join("symlink")).unwrap();
    symlink(std::ffi::OsString::from_vec(vec![b't'; 300]), top.join("symlink-long")).unwrap();
    let fifo = std::ffi::CString::new(top.join("fifo").as_os_str().as_bytes()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o640), 0).unwrap();
    let xattrs = write(b"xattrs", b"x");
    for (name, value) in [("user.one", &b"1"[..]), ("user.bin", &[0, 10, 61, 255])] {
        rustix::fs::setxattr(&xattrs, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    for (name, secs) in [("a/empty", -86_400), ("new\nline", 4_000_000_000_i64), ("xattrs", -1)] {
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
            last_modification: rustix::fs::Timespec { tv_sec: secs, tv_nsec: 123_456_789 },
        };
        rustix::fs::utimensat(rustix::fs::CWD, top.join(name), &times, rustix::fs::AtFlags::empty()).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(top.join("a/more"), Some(3_000_000_000), Some(2_097_152)).unwrap();
        let device = std::ffi::CString::new(top.join("null").as_os_str().as_bytes()).unwrap();
        let rdev = rustix::fs::makedev(1, 3);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        // Some containers forbid even this one.
        let _ = rustix::fs::mknodat(rustix::fs::CWD, &device, rustix::fs::FileType::CharacterDevice, mode, rdev);
    }
    tree
}

/// What a stream can tell of a walked tree: no owners' names (ours are numbers), inode numbers, access times and so on.
fn as_a_stream_tells(walked: &[Whole]) -> Vec<Whole> {
    let mut first = HashMap::new();
    let mut told = Vec::new();
    for entry in walked {
        let mut entry = entry.clone();
        let metadata = &mut entry.metadata;
        if metadata.is_file() && metadata.links > 1 {
            let target = first.entry(metadata.inode).or_insert_with(|| entry.path.clone());
            if *target != entry.path {
                entry.link = Some(target.clone());
                entry.data.clear();
            }
        }
        normalise(&mut entry);
        told.push(entry);
    }
    told
}

fn normalise(entry: &mut Whole) {
    let metadata = &mut entry.metadata;
    (metadata.atime, metadata.ctime) = (metadata.mtime, metadata.mtime);
    (metadata.inode, metadata.device, metadata.links) = (0, 0, 1);
    metadata.user.clear();
    metadata.group.clear();
    if entry.link.is_some() {
        metadata.size = 0;
        // Programs differ in whether they repeat these with a link.
        metadata.xattrs.clear();
    }
    metadata.xattrs.retain(|xattr| xattr.name.starts_with(b"user."));
    // In which order a file system lists them is its own affair.
    metadata.xattrs.sort_by(|left, right| left.name.cmp(&right.name));
}

fn normalised(mut entries: Vec<Whole>) -> Vec<Whole> {
    entries.iter_mut().for_each(normalise);
    entries
}

fn assert_same(left: &[Whole], right: &[Whole]) {
    for (left, right) in left.iter().zip(right) {
        assert_eq!(left, right, "{}", printable(&left.path));
    }
    assert_eq!(left.len(), right.len());
}

fn walked(path: &Path) -> Vec<Whole> {
    read_all(&mut Walk::new(path, WalkOptions::default()).unwrap()).unwrap()
}

#[test]
fn what_gnu_tar_writes_is_read_as_it_was() {
    let tree = nasty_tree();
    let expected = as_a_stream_tells(&walked(&tree.path().join("top")));
    assert!(expected.len() > 20);
    let common = ["--sort=name", "-c", "top"];
    let pax = gnu_tar(tree.path(), &[&["--format=pax", "--xattrs"][..], &common].concat());
    assert_same(&normalised(read_tar(&pax, "top").unwrap()), &expected);
    // The other form has whole seconds and no attributes.
    let mut coarse = expected;
    for entry in &mut coarse {
        let metadata = &mut entry.metadata;
        metadata.mtime.nanos = 0;
        (metadata.atime, metadata.ctime) = (metadata.mtime, metadata.mtime);
        metadata.xattrs.clear();
    }
    let gnu = gnu_tar(tree.path(), &[&["--format=gnu"][..], &common].concat());
    assert_same(&normalised(read_tar(&gnu, "/top/").unwrap()), &coarse);
}

#[test]
fn what_we_write_is_read_by_us_and_by_gnu_tar() {
    let tree = nasty_tree();
    let expected = as_a_stream_tells(&walked(&tree.path().join("top")));
    let (bytes, left_out) = write_tar(&expected, "volume");
    assert!(left_out.is_empty());
    assert_eq!(bytes, write_tar(&expected, "volume").0, "the same entries, the same bytes");
    assert_same(&normalised(read_tar(&bytes, "volume").unwrap()), &expected);
    assert_same(&normalised(read_tar(&write_tar(&expected, "").0, "").unwrap()), &expected);

    let extracted = tempfile::tempdir().unwrap();
    let mut child = Command::new("tar")
        .args(["-x", "-p", "--xattrs", "--xattrs-include=*", "--delay-directory-restore", "-C"])
        .arg(extracted.path())
        .stdin(std::process::Stdio::piped())
        // It finds some of our times implausible.
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    io::Write::write_all(&mut child.stdin.take().unwrap(), &bytes).unwrap();
    assert!(child.wait().unwrap().success());
    assert_same(&as_a_stream_tells(&walked(&extracted.path().join("volume"))), &expected);
}

#[test]
fn hard_links_are_told_apart_from_files() {
    let tree = nasty_tree();
    let bytes = gnu_tar(tree.path(), &["--sort=name", "-c", "top"]);
    let entries = read_tar(&bytes, "top").unwrap();
    let find = |path: &[u8]| entries.iter().find(|entry| entry.path == path).unwrap();
    let (first, second, third) = (find(b"a/plain"), find(b"a/second"), find(b"b-link"));
    assert_eq!((first.link.as_deref(), first.metadata.links, &first.data[..]), (None, 1, &b"hello"[..]));
    for link in [second, third] {
        assert_eq!(link.link.as_deref(), Some(&b"a/plain"[..]));
        assert_eq!((link.metadata.inode, link.metadata.links, link.metadata.size), (first.metadata.inode, 2, 0));
        assert_eq!((link.metadata.mode, link.metadata.mtime), (first.metadata.mode, first.metadata.mtime));
    }
    assert_ne!(first.metadata.inode, find(b"a/empty").metadata.inode);
    assert_ne!(first.metadata.inode, 0);
}

#[test]
fn holes_in_the_stream_are_zeros() {
    let tree = tempfile::tempdir().unwrap();
    let path = tree.path().join("sparse");
    let file = std::fs::File::create(&path).unwrap();
    // More stretches than fit into the header of the old form, and a hole at the end.
    for index in 0..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[index as u8 + 1; 5000], index * 1_000_000).unwrap();
    }
    file.set_len(41_000_000).unwrap();
    std::fs::write(tree.path().join("t-after"), b"after").unwrap();
    std::fs::File::create(tree.path().join("u-only-hole")).unwrap().set_len(3_000_000).unwrap();
    let expected = std::fs::read(&path).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let bytes = gnu_tar(tree.path(), &[format, &["--sparse", "--sort=name", "-c", "."]].concat());
        assert!(bytes.len() < 2_000_000, "GNU tar found the holes");
        let entries = read_tar(&bytes, ".").unwrap();
        assert_eq!(entries.len(), 4);
        assert_eq!(entries[1].path, b"sparse", "{format:?}");
        assert!(entries[1].data == expected, "{format:?}");
        assert_eq!(entries[2].data, b"after");
        assert!(entries[3].data == vec![0; 3_000_000]);
        // Cut in the middle of a stretch, and with stretches that nobody reads.
        assert!(matches!(cause(&read_tar(&bytes[..bytes.len() / 2], ".").unwrap_err()), TarError::Truncated { .. }));
        let mut source = TarSource::new(io::Cursor::new(bytes), b"");
        let mut entries = 0;
        while !matches!(source.next_step().unwrap(), Step::End) {
            entries += 1;
        }
        assert_eq!(entries, 4);
    }
}

fn file(path: &[u8], data: &[u8]) -> Whole {
    Whole { path: path.to_vec(), metadata: Metadata::virtual_file(data.len() as u64), data: data.to_vec(), link: None }
}

fn folder(path: &[u8]) -> Whole {
    Whole { path: path.to_vec(), metadata: Metadata::virtual_directory(), data: Vec::new(), link: None }
}

fn small_tar() -> Vec<u8> {
    let mut linked = file(b"c", b"");
    linked.link = Some(b"a/long".to_vec());
    let mut long = file(b"a/long", &[1; 700]);
    long.metadata.mtime.nanos = 5;
    write_tar(&[folder(b""), folder(b"a"), long, file(b"b", b"x"), linked], "v").0
}

#[test]
fn a_stream_that_is_cut_anywhere_is_an_error() {
    let whole = small_tar();
    assert_eq!(read_tar(&whole, "v").unwrap().len(), 5);
    for length in 0..whole.len() {
        let error = read_tar(&whole[..length], "v").unwrap_err();
        assert!(matches!(cause(&error), TarError::Truncated { .. }), "{length}: {error:?}");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(cause(&error).is_transient());
        assert_eq!(failure(&error).offset, length as u64);
    }
    let mut padded = whole.clone();
    padded.resize(10_240, 0);
    assert_eq!(read_tar(&padded, "v").unwrap().len(), 5);
    padded.push(1);
    assert!(matches!(cause(&read_tar(&padded, "v").unwrap_err()), TarError::DataBehindEnd));
    let lone = [&whole[..whole.len() - 1024], &[0; 512], &whole[..1024]].concat();
    assert!(matches!(cause(&read_tar(&lone, "v").unwrap_err()), TarError::LoneZeroBlock));
    assert!(matches!(cause(&read_tar(&[0; 1024], "v").unwrap_err()), TarError::Empty));
}

#[test]
fn errors_say_at_which_byte_and_after_what() {
    // A root, a file with a block of data, and one more: where each header begins.
    let whole = write_tar(&[folder(b""), file(b"f", b"x"), file(b"g", b"y")], "v").0;
    let said = |bytes: &[u8]| read_tar(bytes, "v").unwrap_err().to_string();
    assert_eq!(said(&whole[..100]), "the archive stream failed at byte 100, before its first entry");
    assert_eq!(said(&whole[..700]), "the archive stream failed at byte 700, after 1 entry, the last of them `.`");
    assert_eq!(said(&whole[..1024]), "the archive stream failed at byte 1024, after 2 entries, the last of them `f`");
    let mut damaged = whole.clone();
    damaged[1536 + 20] ^= 1;
    assert_eq!(said(&damaged), "the archive stream failed at byte 1536, after 2 entries, the last of them `f`");
    let mut behind = whole.clone();
    behind.extend([0, 0, 1]);
    let end = whole.len() + 2;
    assert_eq!(said(&behind), format!("the archive stream failed at byte {end}, after 3 entries, the last of them `g`"));
}

#[test]
fn a_reader_that_fails_fails_the_source_and_the_body() {
    struct Failing(io::Cursor<Vec<u8>>);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                got => Ok(got),
            }
        }
    }
    let bytes = write_tar(&[folder(b""), file(b"f", &vec![3; 200_000])], "").0;
    let mut source = TarSource::new(Failing(io::Cursor::new(bytes[..100_000].to_vec())), b"");
    source.next_step().unwrap();
    let Step::Entry(Entry { content: Content::Stream(mut body), .. }) = source.next_step().unwrap() else { panic!() };
    let error = body.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(source.next_step().is_err());
    assert!(!source.counts().is_complete());
}

#[test]
fn a_body_that_is_kept_reads_nothing_of_the_next_entry() {
    let bytes = write_tar(&[folder(b""), file(b"f", &[1; 2000]), file(b"g", &[2; 2000])], "").0;
    let mut source = TarSource::new(io::Cursor::new(bytes), b"");
    source.next_step().unwrap();
    let Step::Entry(Entry { content: Content::Stream(mut first), .. }) = source.next_step().unwrap() else { panic!() };
    first.read_exact(&mut [0; 10]).unwrap();
    let Step::Entry(Entry { content: Content::Stream(mut second), .. }) = source.next_step().unwrap() else { panic!() };
    assert!(first.read(&mut [0; 10]).is_err());
    let mut data = Vec::new();
    second.read_to_end(&mut data).unwrap();
    assert_eq!(data, [2; 2000]);
}

/// Makes a stream of one folder and one entry whose name is put in as it is.
fn with_name(name: &[u8], extended: bool) -> Vec<u8> {
    let mut bytes = write_tar(&[folder(b""), file(b"NAME", b"x")], "v").0;
    let header = if extended { pax_header(b"path", name) } else { Vec::new() };
    let block = &mut bytes[512..1024];
    if !extended {
        block[..100].fill(0);
        block[..name.len()].copy_from_slice(name);
        fix_checksum(block);
    }
    bytes.splice(512..512, header);
    bytes
}

fn pax_header(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut length = key.len() + value.len() + 3;
    while length != key.len() + value.len() + 3 + length.to_string().len() {
        length = key.len() + value.len() + 3 + length.to_string().len();
    }
    let record = [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat();
    let mut bytes = write_tar(&[file(b"", &record)], "x").0;
    bytes.truncate(bytes.len() - 1024);
    bytes[156] = b'x';
    fix_checksum(&mut bytes[..512]);
    bytes
}

fn fix_checksum(block: &mut [u8]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for (name, extended) in [
        (&b"/etc/passwd"[..], false),
        (b"v/../../etc", false),
        (b"..", false),
        (b"v/..", true),
        (b"w/file", false),
        (b"vv", false),
        (b"v/a\0b", true),
        (b"/v/a", true),
        (b"../v/a", true),
    ] {
        let error = read_tar(&with_name(name, extended), "v").unwrap_err();
        assert!(matches!(cause(&error), TarError::Name { .. }), "{name:?}: {error:?}");
    }
    for (name, path) in [(&b"v/./a//b"[..], &b"b"[..]), (b"./v/b", b"b"), (b"v/...", b"...")] {
        let entries = read_tar(&with_name(name, true), "v");
        match entries {
            Ok(entries) => assert_eq!(entries[1].path, path),
            // Its folder was never given.
            Err(error) => assert!(name.starts_with(b"v/./a") && matches!(cause(&error), TarError::Order { .. }), "{error:?}"),
        }
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    let order = |entries: &[Whole]| read_tar(&write_tar(entries, "v").0, "v");
    let refused = |entries: &[Whole]| matches!(cause(&order(entries).unwrap_err()), TarError::Order { .. });
    assert!(order(&[folder(b""), folder(b"a"), file(b"a/x", b""), file(b"a-b", b""), file(b"a.b", b"")]).is_ok());
    assert!(refused(&[folder(b""), file(b"b", b""), file(b"a", b"")]));
    assert!(refused(&[folder(b""), file(b"a", b""), file(b"a", b"")]));
    assert!(refused(&[folder(b""), file(b"a", b""), file(b"a/x", b"")]), "a file holds nothing");
    assert!(refused(&[folder(b""), file(b"a/x", b"")]), "its folder is missing");
    assert!(refused(&[folder(b""), folder(b"a"), file(b"a.b", b""), file(b"a/x", b"")]), "left already");
    assert!(refused(&[folder(b""), folder(b"a"), file(b"ab/x", b"")]));
    assert!(refused(&[file(b"", b"data"), file(b"a", b"")]), "the root is a file");
    assert!(matches!(cause(&order(&[file(b"a", b"")]).unwrap_err()), TarError::NoRoot { .. }));
    assert_eq!(order(&[file(b"", b"data")]).unwrap()[0].data, b"data", "a single file is a source too");
    assert!(matches!(cause(&order(&[]).unwrap_err()), TarError::Empty));
}

#[test]
fn links_to_what_is_not_there_are_refused() {
    for target in [&b"z"[..], b"b", b"", b"a"] {
        let mut link = file(b"a/b", b"");
        link.link = Some(target.to_vec());
        let bytes = write_tar(&[folder(b""), folder(b"a"), link], "v").0;
        let accepted = read_tar(&bytes, "v");
        assert!(matches!(cause(&accepted.unwrap_err()), TarError::Name { .. }), "{target:?}");
    }
}

#[test]
fn a_stream_without_a_root_gets_one() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir(tree.path().join("a")).unwrap();
    std::fs::write(tree.path().join("a/x"), b"x").unwrap();
    std::fs::write(tree.path().join("b"), b"y").unwrap();
    let entries = read_tar(&gnu_tar(tree.path(), &["--sort=name", "-c", "a", "b"]), "").unwrap();
    let paths: Vec<_> = entries.iter().map(|entry| String::from_utf8_lossy(&entry.path)).collect();
    assert_eq!(paths, ["", "a", "a/x", "b"]);
    assert_eq!(entries[0].metadata, Metadata::virtual_directory());
    assert_eq!(entries[3].data, b"y");
}

#[test]
fn a_hard_link_to_a_symbolic_link_is_one_itself() {
    let tree = tempfile::tempdir().unwrap();
    symlink("target", tree.path().join("a")).unwrap();
    std::fs::hard_link(tree.path().join("a"), tree.path().join("b")).unwrap();
    assert_eq!(std::fs::symlink_metadata(tree.path().join("b")).unwrap().nlink(), 2);
    let entries = read_tar(&gnu_tar(tree.path(), &["--sort=name", "-c", "."]), ".").unwrap();
    assert_eq!(entries[1].metadata.kind, entries[2].metadata.kind);
    assert_eq!(entries[1].metadata.inode, entries[2].metadata.inode);
    assert_eq!(entries[2].link, None);
}

#[test]
fn sockets_and_names_of_attributes_that_do_not_fit_are_told() {
    let mut socket = file(b"socket", b"");
    socket.metadata.kind = Kind::Socket;
    let mut odd = file(b"z", b"data");
    odd.metadata.xattrs =
        vec![Xattr { name: b"user.a=b".to_vec(), value: vec![] }, Xattr { name: b"user.fine".to_vec(), value: b"=\n".to_vec() }];
    let (bytes, left_out) = write_tar(&[folder(b""), socket, odd], "v");
    let told: Vec<_> = left_out.iter().map(|left| (&left.path[..], left.what.clone())).collect();
    assert_eq!(told, [(&b"socket"[..], Missing::Socket), (b"z", Missing::Xattr(b"user.a=b".to_vec()))]);
    let entries = read_tar(&bytes, "v").unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].metadata.xattrs, [Xattr { name: b"user.fine".to_vec(), value: b"=\n".to_vec() }]);
}

#[test]
fn global_headers_and_unknown_records() {
    let bytes = small_tar();
    let mut global = pax_header(b"uid", b"77");
    global[156] = b'g';
    fix_checksum(&mut global[..512]);
    let entries = read_tar(&[&global[..], &bytes].concat(), "v").unwrap();
    assert!(entries.iter().all(|entry| entry.metadata.uid == 77));
    let strange = [&pax_header(b"VENDOR.unknown", b"1")[..], &bytes].concat();
    assert_eq!(read_tar(&strange, "v").unwrap(), read_tar(&bytes, "v").unwrap());
    let acl = [&pax_header(b"SCHILY.acl.access", b"user::rwx")[..], &bytes].concat();
    let mut source = TarSource::new(io::Cursor::new(acl), b"v");
    assert!(matches!(source.next_step().unwrap(), Step::Entry(_)));
    assert!(matches!(source.next_step().unwrap(), Step::Problem(problem) if problem.path.is_empty()));
    assert!(matches!(source.next_step().unwrap(), Step::Entry(_)));
    assert_eq!(source.counts().problems(), 1);
    let described_nothing = [&bytes[..512], &pax_header(b"uid", b"1"), &[0; 1024][..]].concat();
    assert!(matches!(cause(&read_tar(&described_nothing, "v").unwrap_err()), TarError::ExtendedHeader));
    let huge = [&pax_header(b"size", b"18446744073709551615")[..], &bytes[512..]].concat();
    assert!(read_tar(&huge, "").is_err());
}

fn any_timestamp() -> impl Strategy<Value = Timestamp> {
    (-20_000_000_000_i64..200_000_000_000, prop_oneof![Just(0_u32), 0..1_000_000_000_u32])
        .prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => b'a'..=b'c', 1 => (1..=255_u8).prop_filter("a name", |byte| *byte != b'/')];
    let name = prop_oneof![9 => prop::collection::vec(byte.clone(), 1..6), 1 => prop::collection::vec(byte, 90..260)];
    name.prop_filter("no step", |name| name != b"." && name != b"..")
}

prop_compose! {
    fn any_file()(
        name in any_name(),
        data in prop_oneof![prop::collection::vec(any::<u8>(), 0..3), prop::collection::vec(any::<u8>(), 500..1500)],
        mode in 0..0o10_000_u32,
        owner in any::<(u32, u32)>(),
        mtime in any_timestamp(),
        xattrs in prop::collection::btree_map("user\\.[a-z.]{1,120}", prop::collection::vec(any::<u8>(), 0..300), 0..3),
    ) -> Whole {
        let mut entry = file(&name, &data);
        let metadata = &mut entry.metadata;
        (metadata.mode, metadata.uid, metadata.gid) = (mode, owner.0, owner.1);
        (metadata.mtime, metadata.atime, metadata.ctime) = (mtime, mtime, mtime);
        metadata.xattrs = xattrs.into_iter().map(|(name, value)| Xattr { name: name.into_bytes(), value }).collect();
        entry
    }
}

/// Streams of other programs, and broken ones.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/tar");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 1);
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn read_or_refused(bytes: &[u8]) -> bool {
    let read = read_tar(bytes, "");
    let leaves = |entry: &Whole| entry.path.starts_with(b"/") || entry.path.split(|byte| *byte == b'/').any(|name| name == b"..");
    assert!(!read.iter().flatten().any(leaves), "{read:?}");
    read.is_ok()
}

#[test]
fn the_corpus_is_read() {
    let read: Vec<bool> = corpus().iter().map(|bytes| read_or_refused(bytes)).collect();
    assert!(read.contains(&true) && read.contains(&false), "{read:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_stream_of_the_corpus_with_changes_is_read_or_refused(
        bytes in prop::sample::select(corpus()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..4),
    ) {
        let mut bytes = bytes;
        for (at, byte, mends) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if mends {
                let block = (at / 512 * 512).min(bytes.len() - 512);
                fix_checksum(&mut bytes[block..block + 512]);
            }
        }
        read_or_refused(&bytes);
    }

    #[test]
    fn every_entry_survives_the_stream(mut files in prop::collection::vec(any_file(), 0..8), top in "[a-z]{0,120}") {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        files.insert(0, folder(b""));
        let (bytes, left_out) = write_tar(&files, &top);
        prop_assert!(left_out.is_empty());
        let mut read = read_tar(&bytes, &top).unwrap();
        for entry in &mut read {
            entry.metadata.inode = 0;
        }
        prop_assert_eq!(read, files);
    }

    #[test]
    fn damage_never_panics_and_never_gives_other_names(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = small_tar();
        for (index, value) in changes {
            let place = index.index(bytes.len());
            bytes[place] = value;
        }
        if let Ok(entries) = read_tar(&bytes, "v") {
            for entry in entries {
                prop_assert!(!entry.path.split(|byte| *byte == b'/').any(|name| name == b".."));
            }
        }
    }

    #[test]
    fn noise_with_right_checksums_never_panics(
        mut block in prop::collection::vec(any::<u8>(), 512..4096),
        flag in prop::sample::select(&b"0123456gxLKS7V\0"[..]),
        magic in any::<bool>(),
    ) {
        block[156] = flag;
        if magic {
            block[257..265].copy_from_slice(b"ustar\x0000");
        }
        // Numbers that are valid, so that the parser gets further than the first of them.
        block[124..136].copy_from_slice(b"00000001000\0");
        fix_checksum(&mut block[..512]);
        prop_assert!(read_tar(&block, "").is_err(), "there is no end marker");
    }
}

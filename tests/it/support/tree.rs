//! Makes the trees that tests back up: nasty ones with everything a file system can hold, and large plain ones.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, utimensat};

use super::manifest::path_of;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Bytes that no compressor shortens and that are the same in every run with the same `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    // xorshift64*: quality does not matter, only that nothing repeats.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Bytes like those of a database: pages of 8 KiB with a header, rows of text and free space.
pub(crate) fn pages(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8192);
    let mut number = seed;
    while bytes.len() < length {
        let start = bytes.len();
        bytes.extend_from_slice(&number.to_le_bytes());
        while bytes.len() - start < 6000 {
            number = number.wrapping_add(1);
            let _ = write!(bytes, "{number:012},customer-{:05},ordered,{:x};", number % 9973, number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        }
        bytes.resize(start + 8192, 0);
    }
    bytes.truncate(length);
    bytes
}

/// Writes a file with a time of its own.
pub(crate) fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Sets the modification time, also of links and folders.
pub(crate) fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    utimensat(CWD, path, &Timestamps { last_access: time, last_modification: time }, AtFlags::SYMLINK_NOFOLLOW)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Makes the nasty tree at `root`, a folder that is there. As root it also has devices and odd owners.
pub(crate) fn nasty(root: &Path) {
    sizes(&root.join("sizes"));
    odd(root);
}

/// The nasty tree without the files of many sizes: names, links, holes, attributes, owners, modes, times, special files.
pub(crate) fn odd(root: &Path) {
    let as_root = rustix::process::geteuid().is_root();
    names(&root.join("names"));
    links(&root.join("links"), as_root);
    holes(&root.join("holes"));
    attributes(&root.join("attributes"));
    special(&root.join("special"), as_root);
    modes(&root.join("modes"), as_root);
    times(&root.join("times"));
    fs::create_dir_all(root.join("empty/a/b/c")).unwrap();
    set_mtime(&root.join("empty/a/b/c"), 1_000_000_000, 1);
    set_mtime(root, 1_600_000_000, 123_456_789);
}

/// Files whose sizes are at the borders of chunks.
pub(crate) fn sizes(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let borders = [1, KIB, 64 * KIB, 512 * KIB, MIB, 8 * MIB];
    let sizes = borders.iter().flat_map(|size| [size - 1, *size, size + 1]);
    for (seed, size) in sizes.enumerate() {
        write(&folder.join(format!("{size}-{seed}")), &noise(seed as u64, size as usize));
    }
    write(&folder.join("zeros"), &vec![0; 3 * MIB as usize]);
    write(&folder.join("pages"), &pages(7, 5 * MIB as usize));
    // Data that a chunker has to find again at another offset.
    let shifted = [b"a few bytes more at the beginning".as_slice(), &noise(14, MIB as usize)].concat();
    write(&folder.join("shifted"), &shifted);
}

/// Names that break what is careless with names.
pub(crate) fn names(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let names: [&[u8]; 17] = [
        b"plain",
        b"with space",
        b" leading and trailing ",
        b"new\nline",
        b"tab\tand\rreturn",
        b"quote\"back\\slash'single",
        b"escape\x1b[31mred\x1b[0m",
        b"bell\x07 and delete\x7f",
        b"-rf",
        b"*?[a-z]{x,y}!~$HOME`id`",
        b"\xff\xfe not utf-8 \x80",
        b"half a sign \xe2\x82",
        "übergrößenträger".as_bytes(),
        "日本語 \u{202e}rtl \u{feff}".as_bytes(),
        b"<html>&amp;",
        b"...",
        b"..dots",
    ];
    for name in names {
        write(&folder.join(path_of(name)), name);
    }
    write(&folder.join("n".repeat(255)), b"255 bytes");
    let deep = folder.join("d".repeat(200)).join("e".repeat(200)).join(path_of(b"\xfe\nfolder"));
    fs::create_dir_all(&deep).unwrap();
    write(&deep.join("file"), b"deep");
    // Sorted by bytes `a`, `a-b`, `a.b`, `a/…` is not the order of whole paths.
    fs::create_dir(folder.join("order")).unwrap();
    for name in ["a", "a-b", "a.b", "a0"] {
        fs::create_dir(folder.join("order").join(name)).unwrap();
        write(&folder.join("order").join(name).join("x"), name.as_bytes());
    }
}

fn links(folder: &Path, as_root: bool) {
    fs::create_dir_all(folder.join("other")).unwrap();
    write(&folder.join("first"), &noise(99, 700 * KIB as usize));
    fs::hard_link(folder.join("first"), folder.join("second")).unwrap();
    fs::hard_link(folder.join("first"), folder.join("other/third")).unwrap();
    write(&folder.join("empty"), b"");
    fs::hard_link(folder.join("empty"), folder.join("other/empty too")).unwrap();
    if as_root {
        // Owners that a later name of the same file could spoil.
        chown(folder.join("first"), Some(1234), Some(2345)).unwrap();
        chown(folder.join("empty"), Some(4321), Some(5432)).unwrap();
    }
    symlink("first", folder.join("relative")).unwrap();
    symlink("/nowhere/at all", folder.join("dangling")).unwrap();
    symlink("../..", folder.join("upwards")).unwrap();
    symlink("loop", folder.join("loop")).unwrap();
    symlink("/etc", folder.join("etc")).unwrap();
    symlink(path_of(b"target \xff\n"), folder.join("odd target")).unwrap();
    fs::hard_link(folder.join("dangling"), folder.join("dangling too")).unwrap();
    set_mtime(&folder.join("dangling"), 1_234_567_890, 42);
}

fn holes(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let sparse = |name: &str, length: u64, islands: &[u64]| {
        let file = File::create(folder.join(name)).unwrap();
        file.set_len(length).unwrap();
        for offset in islands {
            file.write_all_at(b"an island", *offset).unwrap();
        }
    };
    sparse("only a hole", 20 * MIB, &[]);
    sparse("hole first", 10 * MIB, &[10 * MIB - 9]);
    sparse("hole last", 10 * MIB, &[0]);
    sparse("islands", 30 * MIB + 17, &[4 * KIB, 9 * MIB + 1, 20 * MIB]);
}

fn attributes(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let set =
        |name: &str, attribute: &str, value: &[u8]| match rustix::fs::lsetxattr(folder.join(name), attribute, value, XattrFlags::empty()) {
            // Not every file system of a test machine keeps attributes.
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(error) => panic!("{name}: {attribute}: {error}"),
        };
    write(&folder.join("file"), b"with attributes");
    set("file", "user.comment", b"text");
    set("file", "user.binary", &[0, 1, 255, b'\n', 0]);
    set("file", "user.empty", b"");
    set("file", "user.long", &noise(5, 2000));
    fs::create_dir(folder.join("folder")).unwrap();
    set("folder", "user.comment", b"on a folder");
    // user::rwx user:1234:r-x group::r-- mask::rwx other::---, as the kernel keeps it.
    let acl = acl(&[(0x01, 7, u32::MAX), (0x02, 5, 1234), (0x04, 4, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)]);
    set("file", "system.posix_acl_access", &acl);
    set("folder", "system.posix_acl_access", &acl);
    set("folder", "system.posix_acl_default", &acl);
}

/// A POSIX ACL in the kernel's form, from tag, permissions and id.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn special(folder: &Path, as_root: bool) {
    fs::create_dir(folder).unwrap();
    let make = |name: &str, kind: FileType, device: u64| {
        mknodat(CWD, folder.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap_or_else(|error| panic!("{name}: {error}"));
    };
    make("fifo", FileType::Fifo, 0);
    make("socket", FileType::Socket, 0);
    if as_root {
        make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
        make("disk", FileType::BlockDevice, rustix::fs::makedev(259, 70_000));
    }
}

fn modes(folder: &Path, as_root: bool) {
    fs::create_dir(folder).unwrap();
    for mode in [0o644, 0o600, 0o755, 0o4755, 0o2755, 0o6711, 0o1644, 0o777] {
        let path = folder.join(format!("file-{mode:o}"));
        write(&path, b"mode");
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    for mode in [0o755, 0o1777, 0o2770, 0o700] {
        let path = folder.join(format!("folder-{mode:o}"));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    if as_root {
        write(&folder.join("no mode at all"), b"unreadable");
        fs::set_permissions(folder.join("no mode at all"), Permissions::from_mode(0o000)).unwrap();
        for (name, owner, group) in [("nobody", 65534, 65534), ("odd", 123_456, 7), ("large", 4_000_000_000, 4_000_000_001)] {
            let path = folder.join(format!("owner-{name}"));
            write(&path, name.as_bytes());
            chown(&path, Some(owner), Some(group)).unwrap();
            let link = folder.join(format!("link-{name}"));
            symlink("nowhere", &link).unwrap();
            std::os::unix::fs::lchown(&link, Some(owner), Some(group)).unwrap();
        }
        // Changing the owner clears these bits, so they come after it.
        let path = folder.join("owned set-user-id");
        write(&path, b"x");
        chown(&path, Some(1000), Some(1000)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o6755)).unwrap();
    }
}

fn times(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let times = [
        ("epoch", 0, 0),
        ("before 1970", -86_400, 500_000_000),
        ("one before", -1, 999_999_999),
        ("1905", -2_050_000_000, 1),
        ("2038", 2_147_483_648, 999_999_999),
    ];
    for (name, seconds, nanoseconds) in times {
        write(&folder.join(name), name.as_bytes());
        set_mtime(&folder.join(name), seconds, nanoseconds);
    }
    symlink("epoch", folder.join("link")).unwrap();
    set_mtime(&folder.join("link"), -5, 5);
}

/// Many small files in folders of 500, each different.
pub(crate) fn many(root: &Path, count: usize) {
    for number in 0..count {
        let folder = root.join(format!("{:04}", number / 500));
        if number % 500 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        write(&folder.join(format!("file-{number}")), format!("{number}: ").repeat(1 + number % 97).as_bytes());
    }
}

/// Something of everything, about `megabytes` large, without anything that takes root.
pub(crate) fn mixed(root: &Path, megabytes: usize) {
    let part = megabytes * 1024 * 1024 / 4;
    write(&root.join("incompressible"), &noise(1, part));
    write(&root.join("pages"), &pages(1, part * 2));
    let small = root.join("small");
    many(&small, part / 4096);
}

/// Whether a name's bytes are equal to a path's last part.
pub(crate) fn is_named(path: &Path, name: &[u8]) -> bool {
    path.file_name().is_some_and(|last| last.as_bytes() == name)
}

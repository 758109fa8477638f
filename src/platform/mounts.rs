//! Mounts of bbackup's own: found, unmounted, and detached when they are busy. And what there is to know of others': where they
//! are, whether they hold data, whether a folder is on another machine.
//!
//! What is shown in a mount is the repository's business.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::process::Run;

/// What stands as the source of such a mount in the list of mounts.
pub const SOURCE: &str = "bbackup";

/// Where bbackup has mounted something, in the order of mounting.
///
/// # Errors
/// The list of mounts cannot be read.
pub fn own() -> io::Result<Vec<PathBuf>> {
    let mounts = std::fs::read("/proc/self/mountinfo")?;
    Ok(mounts.split(|byte| *byte == b'\n').filter_map(own_mount).collect())
}

/// Where something is mounted on this machine, as this process sees it.
///
/// # Errors
/// The list of mounts cannot be read.
pub fn points() -> io::Result<Vec<PathBuf>> {
    let mounts = std::fs::read("/proc/self/mountinfo")?;
    Ok(mounts.split(|byte| *byte == b'\n').filter_map(point).collect())
}

/// The mount point that a path lies below, or is; none if that is the root folder, or `path` is not there.
pub fn point_of(path: &Path, points: &[PathBuf]) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let above = points.iter().filter(|point| path.starts_with(point));
    above.max_by_key(|point| point.as_os_str().len()).filter(|point| point.as_path() != Path::new("/")).cloned()
}

/// Whether an open folder is the top of a mount, also one of a folder of the same file system; none where the kernel does not say
/// (Linux before 5.8).
pub fn is_mount_point(folder: BorrowedFd<'_>) -> Option<bool> {
    let found = rustix::fs::statx(folder, c"", AtFlags::EMPTY_PATH, StatxFlags::empty()).ok()?;
    found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT).then(|| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// File systems that the kernel makes up, or whose files are saved where they really are.
const NO_DATA: [&str; 25] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// Mount points of this machine below which nobody looks for data to keep: what the kernel makes up, what is in memory where every machine
/// has that, images of programs, root folders of containers.
///
/// # Errors
/// The list of mounts cannot be read.
pub fn without_data() -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for line in std::fs::read("/proc/self/mountinfo")?.split(|byte| *byte == b'\n') {
        let Some(path) = point(line) else { continue };
        // What was mounted last hides the others.
        if has_no_data(line, &path) {
            found.insert(path)
        } else {
            found.remove(&path)
        };
    }
    Ok(found)
}

fn has_no_data(line: &[u8], path: &Path) -> bool {
    let kind = line.split(|byte| *byte == b' ').skip_while(|field| *field != b"-").nth(1).unwrap_or_default();
    ["/proc", "/sys", "/dev", "/run", "/var/run"].iter().any(|top| path.starts_with(top))
        || NO_DATA.iter().any(|no_data| no_data.as_bytes() == kind)
        || (kind == b"tmpfs" && ["/tmp", "/var/tmp", "/var/lock"].iter().any(|memory| path == Path::new(memory)))
        || (kind == b"overlay" && path.ends_with("merged"))
}

fn point(line: &[u8]) -> Option<PathBuf> {
    line.split(|byte| *byte == b' ').nth(4).map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
}

/// File systems whose files are on another machine, as the list of mounts calls them.
const REMOTE: [&str; 19] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "afs",
    "ceph",
    "lustre",
    "glusterfs",
    "ncpfs",
    "beegfs",
    "fuse.sshfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.glusterfs",
    "fuse.davfs",
    "fuse.gcsfuse",
    "fuse.juicefs",
    "fuse.curlftpfs",
];

/// Whether a path is on a network file system. What cannot be told is taken for local.
pub fn is_remote(path: &Path) -> bool {
    let Ok(found) = rustix::fs::stat(path) else { return false };
    let device = format!("{}:{}", rustix::fs::major(found.st_dev), rustix::fs::minor(found.st_dev));
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    mounts.split(|byte| *byte == b'\n').any(|line| is_remote_mount(line, device.as_bytes()))
}

/// Whether this line of `mountinfo` is about the device, and that is another machine's.
fn is_remote_mount(line: &[u8], device: &[u8]) -> bool {
    let mut fields = line.split(|byte| *byte == b' ');
    if fields.nth(2) != Some(device) {
        return false;
    }
    let kind = fields.skip_while(|field| *field != b"-").nth(1);
    kind.is_some_and(|kind| REMOTE.iter().any(|remote| remote.as_bytes() == kind))
}

/// The mount point of a line of `mountinfo`, if the mount is ours.
fn own_mount(line: &[u8]) -> Option<PathBuf> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let rest = fields.iter().position(|field| *field == b"-")?;
    let (kind, source) = (fields.get(rest + 1)?, fields.get(rest + 2)?);
    let ours = kind.starts_with(b"fuse") && *source == SOURCE.as_bytes();
    if ours { point(line) } else { None }
}

/// The kernel writes spaces, tabs, newlines and backslashes as three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        if let Some(digits) = octal {
            out.push(digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &after[3..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    out
}

/// Lets the kernel read further ahead in a mount than the 128 KiB that it does by itself, which keeps one reader waiting for one
/// answer after the other. Only root may; without it reading is only slower.
pub fn read_further_ahead(path: &Path) {
    const KIBIBYTES: &str = "4096";
    if let Ok(found) = rustix::fs::stat(path) {
        let (major, minor) = (rustix::fs::major(found.st_dev), rustix::fs::minor(found.st_dev));
        // Nobody who has no rights to do so is told.
        let _ = std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), KIBIBYTES);
    }
}

/// Unmounts, as root directly, else with `fusermount3`.
///
/// # Errors
/// `ResourceBusy` if files of it are open; else the cause.
pub fn unmount(path: &Path) -> io::Result<()> {
    unmount_with(path, UnmountFlags::NOFOLLOW, "-u")
}

/// Takes a mount away from its folder although files of it are open.
///
/// # Errors
/// It could not be done.
pub fn detach(path: &Path) -> io::Result<()> {
    unmount_with(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH, "-uz")
}

fn unmount_with(path: &Path, flags: UnmountFlags, flag: &str) -> io::Result<()> {
    match rustix::mount::unmount(path, flags) {
        Err(Errno::PERM) => {}
        result => return result.map_err(io::Error::from),
    }
    let arguments = [flag.as_ref(), "--".as_ref(), path.as_os_str()];
    let Err(error) = Run::new("fusermount3", arguments).output() else { return Ok(()) };
    let busy = own().is_ok_and(|mounts| mounts.iter().any(|mount| mount.as_os_str().as_bytes() == path.as_os_str().as_bytes()))
        && error.to_string().contains("busy");
    Err(if busy { io::ErrorKind::ResourceBusy.into() } else { io::Error::other(error) })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn own_mounts_are_told_from_others() {
        let line = |kind: &str, source: &str| {
            format!("36 35 0:52 / /mnt/a\\040b\\134 rw,nosuid shared:1 - {kind} {source} rw,user_id=0").into_bytes()
        };
        assert_eq!(own_mount(&line("fuse", "bbackup")), Some(PathBuf::from("/mnt/a b\\")));
        assert_eq!(own_mount(&line("fuse.restic", "restic")), None);
        assert_eq!(own_mount(&line("ext4", "bbackup")), None);
        assert_eq!(own_mount(b""), None);
        assert_eq!(unescape(b"\\777\\04"), b"\xff\\04");
    }

    #[test]
    fn a_path_lies_below_the_nearest_mount_point() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("disk/app")).unwrap();
        std::os::unix::fs::symlink("disk/app", top.join("link")).unwrap();
        let points = ["/".into(), top.join("disk"), top.join("dis")];
        for path in ["disk", "disk/app", "link"] {
            assert_eq!(point_of(&top.join(path), &points), Some(top.join("disk")), "{path}");
        }
        assert_eq!(point_of(&top, &points), None);
        assert_eq!(point_of(&top.join("gone"), &points), None);
        assert!(points_of_this_process().contains(&PathBuf::from("/proc")));
    }

    fn points_of_this_process() -> Vec<PathBuf> {
        points().unwrap()
    }

    #[test]
    fn mounts_that_hold_data_are_told_from_those_of_every_machine() {
        let no_data = |path: &str, kind: &str| {
            let line = format!("36 35 0:52 / {path} rw,nosuid shared:1 - {kind} something rw");
            has_no_data(line.as_bytes(), &point(line.as_bytes()).unwrap())
        };
        assert!(no_data("/proc", "proc") && no_data("/srv/chroot/proc", "proc") && no_data("/dev/shm", "tmpfs"));
        assert!(no_data("/tmp", "tmpfs") && no_data("/run/user/1000/doc", "fuse.portal") && no_data("/snap/core/1", "squashfs"));
        assert!(no_data("/var/lib/docker/overlay2/x/merged", "overlay"));
        assert!(!no_data("/srv/media", "ext4") && !no_data("/srv/fast", "tmpfs") && !no_data("/srv/both", "overlay"));
        assert!(without_data().unwrap().contains(Path::new("/proc")));
        let open = |path: &str| std::fs::File::open(path).unwrap();
        assert_eq!(is_mount_point(open("/proc").as_fd()), Some(true));
        assert_eq!(is_mount_point(open("/proc/self").as_fd()), Some(false));
    }

    #[test]
    fn network_file_systems_are_told_from_others() {
        let remote = |kind: &str, device: &[u8]| {
            let line = format!("36 35 0:52 /export /mnt/- rw,nosuid shared:1 - {kind} nas:/export rw");
            is_remote_mount(line.as_bytes(), device)
        };
        assert!(remote("nfs4", b"0:52") && remote("cifs", b"0:52") && remote("fuse.sshfs", b"0:52"));
        assert!(!remote("nfs4", b"0:5") && !remote("ext4", b"0:52") && !remote("fuse.mergerfs", b"0:52"));
        assert!(!is_remote_mount(b"", b"0:52") && !is_remote(Path::new("/proc/self")) && !is_remote(Path::new("/nowhere/at/all")));
    }
}

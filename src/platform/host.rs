//! Who and where we are: host name, user, process; and whether another process of this machine still runs.
//!
//! What follows from that, for a lock say, is decided by whoever asks.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, test_kill_process};

use super::clock;

/// The name of this machine as its kernel knows it; empty if that is no text.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_str().unwrap_or_default().to_owned()
}

/// Our process id.
pub fn pid() -> u32 {
    std::process::id()
}

/// The user id that we act as.
pub fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The group id that we act as.
pub fn gid() -> u32 {
    rustix::process::getgid().as_raw()
}

/// The name of our user: from the list of users, else from the environment, else the number.
pub fn username() -> String {
    let uid = uid().to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let listed = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    let told = || ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    listed.or_else(told).unwrap_or(uid)
}

/// Whether this machine can be trusted to tell about the processes of everybody who has its host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// A process of that number runs, here or in a container.
    Alive,
    /// None does.
    Gone,
    /// It cannot be told from here.
    Unknown,
}

/// How much the clock may have been set since something was dated.
const CLOCK_ERROR: SignedDuration = SignedDuration::from_mins(5);

/// Whether the process `pid`, which existed at `seen` on a machine of our host name and was one of these programs, still runs.
///
/// The number may be one of a container's own, which only shows in the list of all processes; and if we are in a
/// container ourselves, the processes outside are hidden from us, so that an absence proves nothing.
pub fn liveness(pid: i64, seen: Timestamp, programs: &[&str]) -> Liveness {
    // Before the machine was started, unless its clock was set since: then the process is still there.
    if clock::boot_time().duration_since(seen) > CLOCK_ERROR {
        return if another_runs(pid, programs) { Liveness::Alive } else { Liveness::Gone };
    }
    let Some(number) = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw) else { return Liveness::Unknown };
    if is_process_alive(number) {
        return Liveness::Alive;
    }
    if !sees_all_processes() {
        return Liveness::Unknown;
    }
    match is_in_some_namespace(Path::new("/proc"), pid) {
        Ok(true) => Liveness::Alive,
        Ok(false) => Liveness::Gone,
        Err(_) => Liveness::Unknown,
    }
}

/// Whether a process of this number, not our own, is one of these programs, here or in a container, and is not suspended. Their names
/// may go on (`restic-0.19`). Our own number, where somebody else had it, was that of a dead one: in a container it is always the same.
pub fn another_runs(pid: i64, programs: &[&str]) -> bool {
    if pid == i64::from(self::pid()) {
        return false;
    }
    let is_one = |status: &str| {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let name = field("Name:").unwrap_or_default();
        programs.iter().any(|program| name.starts_with(program))
            && !field("State:").is_some_and(|state| state.starts_with(['T', 't', 'Z', 'X']))
    };
    let wanted = pid.to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let statuses = processes.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
    statuses
        .filter(|status| numbers(status).is_some_and(|mut numbers| numbers.any(|number| number == wanted)))
        .any(|status| is_one(&status))
}

/// The numbers of a process in all namespaces that it is in.
fn numbers(status: &str) -> Option<impl Iterator<Item = &str>> {
    status.lines().find_map(|line| line.strip_prefix("NSpid:")).map(str::split_whitespace)
}

/// Whether a process of this number runs in our own process namespace. One that we may not signal is alive too.
fn is_process_alive(pid: Pid) -> bool {
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// The first process namespace of every kernel has this inode number.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Whether we are in the machine's first process namespace and `/proc` hides nothing from us.
fn sees_all_processes() -> bool {
    let namespace = fs::read_link("/proc/self/ns/pid");
    namespace.is_ok_and(|link| link.as_os_str() == OsStr::new(INITIAL_PID_NAMESPACE)) && fs::metadata("/proc/1/status").is_ok()
}

/// Whether any process has this number in one of the namespaces that it is in.
fn is_in_some_namespace(proc: &Path, pid: i64) -> io::Result<bool> {
    let wanted = pid.to_string();
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let status = match fs::read_to_string(entry.path().join("status")) {
            Ok(status) => status,
            // It ended while we were reading.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        if numbers(&status).ok_or(io::ErrorKind::Unsupported)?.any(|number| number == wanted) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::*;

    const PROGRAMS: &[&str] = &["bbackup", "restic"];

    #[test]
    fn we_are_alive() {
        assert_eq!(liveness(i64::from(pid()), clock::now(), PROGRAMS), Liveness::Alive);
        assert!(!hostname().is_empty());
        assert!(!username().is_empty());
    }

    #[test]
    fn a_process_that_ended_is_gone_or_out_of_sight() {
        // Numbers are never this high.
        let gone = if sees_all_processes() { Liveness::Gone } else { Liveness::Unknown };
        assert_eq!(liveness(i64::from(i32::MAX), clock::now(), PROGRAMS), gone);
        assert_eq!(liveness(0, clock::now(), PROGRAMS), Liveness::Unknown);
        assert_eq!(liveness(-1, clock::now(), PROGRAMS), Liveness::Unknown);
        assert_eq!(liveness(i64::MAX, clock::now(), PROGRAMS), Liveness::Unknown);
    }

    #[test]
    fn nothing_survives_a_restart_of_the_machine() {
        let before = clock::boot_time().checked_sub(Duration::from_mins(6)).unwrap();
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let number = i64::from(other.id());
        assert_eq!(liveness(number, clock::now(), PROGRAMS), Liveness::Alive);
        assert_eq!(liveness(number, before, PROGRAMS), Liveness::Gone, "another program has its number now");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_clock_that_was_set_forward_ends_no_process() {
        let before = clock::boot_time().checked_sub(Duration::from_hours(100)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("restic-0.19");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut other = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let number = i64::from(other.id());
        while !another_runs(number, PROGRAMS) {
            // Between its birth and the first instruction of its own it has our name.
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(liveness(number, before, PROGRAMS), Liveness::Alive);
        assert!(!another_runs(number, &["bbackup"]));
        rustix::process::kill_process(Pid::from_raw(other.id().cast_signed()).unwrap(), rustix::process::Signal::STOP).unwrap();
        while another_runs(number, PROGRAMS) {
            std::thread::sleep(Duration::from_millis(1));
        }
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!another_runs(number, PROGRAMS));
        assert_eq!(liveness(i64::from(pid()), before, PROGRAMS), Liveness::Gone, "a dead one had our number");
    }

    #[test]
    fn processes_of_containers_are_found() {
        let proc = tempfile::tempdir().unwrap();
        for (name, status) in [("1", "Name:\tinit\nNSpid:\t1\n"), ("4711", "Name:\tbackup\nNSpid:\t4711\t12\t7\n"), ("self", "x")] {
            fs::create_dir(proc.path().join(name)).unwrap();
            fs::write(proc.path().join(name).join("status"), status).unwrap();
        }
        for (pid, found) in [(1, true), (7, true), (12, true), (4711, true), (71, false), (2, false)] {
            assert_eq!(is_in_some_namespace(proc.path(), pid).unwrap(), found, "{pid}");
        }
        fs::create_dir(proc.path().join("5")).unwrap();
        fs::write(proc.path().join("5/status"), "Name:\told kernel\n").unwrap();
        assert!(is_in_some_namespace(proc.path(), 2).is_err());
    }
}

//! Marks that say which process left something behind, and whether that process still lives.
//!
//! A mark is text, so that it fits in a label or a file. What is done with what the dead have left is its finder's business.

use std::fmt;
use std::fs;

use rustix::process::{Pid, getpid, test_kill_process};

/// One process of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessMark {
    /// The machine, by `/etc/machine-id`; `-` where there is none.
    machine: String,
    /// The kernel's boot id.
    boot: String,
    /// The process's namespace of process ids.
    namespace: String,
    /// Its id there.
    pid: i32,
    /// When it started, in ticks since the boot: ids are given again, this is not.
    started: u64,
}

impl ProcessMark {
    /// The mark of this process.
    pub fn current() -> Self {
        let pid = getpid().as_raw_nonzero().get();
        Self { pid, started: started(pid).unwrap_or(0), ..Self::here() }
    }

    /// The mark of no process of this machine, boot and namespace.
    fn here() -> Self {
        let word = |path: &str| match fs::read_to_string(path) {
            Ok(text) if !text.trim().is_empty() => text.trim().replace(char::is_whitespace, "_"),
            _ => "-".to_owned(),
        };
        let namespace = fs::read_link("/proc/self/ns/pid").map_or_else(|_| "-".to_owned(), |link| link.display().to_string());
        Self { machine: word("/etc/machine-id"), boot: word("/proc/sys/kernel/random/boot_id"), namespace, pid: 0, started: 0 }
    }

    /// Reads a mark that was made with `Display`; none if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut part = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        let mark = Self {
            machine: part("machine")?,
            boot: part("boot")?,
            namespace: part("namespace")?,
            pid: part("pid")?.parse().ok().filter(|pid| *pid > 0)?,
            started: part("started")?.parse().ok()?,
        };
        parts.next().is_none().then_some(mark)
    }

    /// Whether the process is gone; none where that cannot be known from here (another machine, another namespace).
    pub fn is_dead(&self) -> Option<bool> {
        let here = Self::here();
        let known = |word: &str| word != "-";
        if !known(&self.boot) || self.boot != here.boot {
            // Another boot of this machine is over; another machine's is not ours to judge.
            return (known(&self.boot) && known(&here.boot) && known(&self.machine) && self.machine == here.machine).then_some(true);
        }
        if !known(&self.namespace) || self.namespace != here.namespace {
            return None;
        }
        // Where other users' processes are hidden, a signal still tells whether there is one.
        match test_kill_process(Pid::from_raw(self.pid)?) {
            Err(rustix::io::Errno::SRCH) => Some(true),
            _ => Some(started(self.pid).is_some_and(|started| started != self.started)),
        }
    }
}

impl fmt::Display for ProcessMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, boot, namespace, pid, started } = self;
        write!(f, "machine={machine} boot={boot} namespace={namespace} pid={pid} started={started}")
    }
}

/// When a process started, in ticks since the boot.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, and may hold anything; field 22 is the start.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_are_told_from_the_dead() {
        let me = ProcessMark::current();
        assert_ne!(me.started, 0);
        assert_eq!(ProcessMark::parse(&me.to_string()).as_ref(), Some(&me));
        assert_eq!(me.is_dead(), Some(false));
        assert_eq!(ProcessMark { started: me.started + 1, ..me.clone() }.is_dead(), Some(true), "the id was given again");
        // Ids end below 2^22.
        assert_eq!(ProcessMark { pid: 1 << 30, ..me.clone() }.is_dead(), Some(true));
        assert_eq!(ProcessMark { boot: "other".to_owned(), machine: "same".to_owned(), ..me.clone() }.is_dead(), None);
        assert_eq!(ProcessMark { namespace: "pid:[1]".to_owned(), ..me.clone() }.is_dead(), None);
        if me.machine != "-" {
            assert_eq!(ProcessMark { boot: "before".to_owned(), ..me.clone() }.is_dead(), Some(true));
        }
    }

    #[test]
    fn what_is_no_mark_is_refused() {
        let good = ProcessMark::current().to_string();
        for bad in ["", "x", &good[..good.len() / 2], &format!("{good} more"), &good.replace("pid=", "pid=-")] {
            assert_eq!(ProcessMark::parse(bad), None, "{bad}");
        }
        assert!(ProcessMark::parse(&good).is_some());
    }
}

//! The value of a helper's label: which run made it, and the process that the run lives in.

use std::fmt;

use crate::platform::identity::ProcessMark;

/// Who made a helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    run: String,
    process: ProcessMark,
}

impl Owner {
    /// This process, in the run of that name (a ULID).
    pub fn of_run(run: &str) -> Self {
        Self { run: run.replace(char::is_whitespace, "_"), process: ProcessMark::current() }
    }

    /// Reads a label; none if it is not one of ours.
    pub fn parse(label: &str) -> Option<Self> {
        let (run, process) = label.strip_prefix("run=")?.split_once(' ')?;
        Some(Self { run: run.to_owned(), process: ProcessMark::parse(process)? })
    }

    /// Whether the run has ended without removing what it made; none where that cannot be known from here.
    pub fn is_dead(&self) -> Option<bool> {
        self.process.is_dead()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run={} {}", self.run, self.process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_was_written() {
        let owner = Owner::of_run("01J0 X");
        assert_eq!(Owner::parse(&owner.to_string()), Some(owner.clone()));
        assert_eq!(owner.is_dead(), Some(false));
        for foreign in ["", "run=1", "true", "run=1 pid=2"] {
            assert_eq!(Owner::parse(foreign), None);
        }
    }
}

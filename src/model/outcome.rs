//! How an item and a run ended. The ends are told apart everywhere: partial is never success.

use serde::{Deserialize, Serialize};

/// How a volume or path was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadMethod {
    /// From the file system, where the Engine's mountpoint and this machine's agree.
    Direct,
    /// Through the archive API of a helper container.
    Helper,
    /// From an answer of the Engine's API, stored byte for byte.
    Api,
}

/// What shows that an item was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// How it was read.
    pub method: ReadMethod,
    /// What marked the end: a finished walk, the two zero blocks of a tar stream, a complete HTTP body.
    pub end: EndMark,
    /// `device:inode` of the root that was read, where one was seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mount: Option<String>,
    /// Entries given, the root included.
    pub entries: u64,
    /// Bytes of file data given.
    pub bytes: u64,
}

/// What marked the end of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndMark {
    /// Every folder was listed to its end.
    WalkFinished,
    /// The two zero blocks that end a tar archive, then the end of a body that was whole.
    TarEnd,
    /// A body whose length was announced and arrived.
    WholeBody,
}

/// How one item ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ItemOutcome {
    /// Everything was read.
    Complete {
        /// What shows it.
        proof: Proof,
    },
    /// Something of it could not be read; the rest is stored.
    Partial {
        /// What shows how far it went.
        proof: Proof,
        /// One sentence each.
        reasons: Vec<String>,
    },
    /// Nothing of it is stored.
    Failed {
        /// One sentence.
        reason: String,
    },
    /// Left out because somebody asked for it while it ran.
    Skipped,
}

impl ItemOutcome {
    /// Whether the item is stored whole.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Complete { .. })
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Everything that was asked for was done.
    Success,
    /// Done, with so many warnings.
    Warnings(u64),
    /// Not done.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// Nothing was done because everything was skipped.
    Skipped,
    /// The process ended before the run did; found at the next start.
    Interrupted,
}

impl RunStatus {
    /// The end of something that was done with so many warnings, be it none.
    pub fn with(warnings: usize) -> Self {
        match warnings {
            0 => Self::Success,
            count => Self::Warnings(count as u64),
        }
    }
}

//! An item that is one small document: configuration, log lines, a compose file.
//!
//! Where each comes from is said in the modules beside this one.

use crate::model::application::ItemKind;
use crate::model::outcome::{EndMark, Proof, ReadMethod};

/// One document with its place in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it is.
    pub kind: ItemKind,
    /// Name of the container or network, or path of the file.
    pub name: String,
    /// Absolute path in the snapshot.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How it was read.
    pub method: ReadMethod,
    /// What is missing in it, one sentence each.
    pub warnings: Vec<String>,
    /// What is worth knowing and as somebody wanted it, one sentence each.
    pub notes: Vec<String>,
}

impl Document {
    /// What shows that it is whole: it is in memory, and came with its length or its end.
    pub fn proof(&self) -> Proof {
        Proof { method: self.method.clone(), end: EndMark::WholeBody, mount: None, entries: 1, bytes: self.bytes.len() as u64 }
    }
}

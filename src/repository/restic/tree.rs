//! Trees: the nodes of one folder and their JSON (design document, section "Trees and Data"), byte for byte as restic writes it.
//!
//! Where trees are stored and how they are walked is `list`'s business, how a snapshot is built `archive`'s.

mod encode;
mod parse;
mod printable;
mod quote;
mod time;

pub use encode::Encoder;
pub use parse::{parse, parse_entry, parse_raw};

use serde_json::value::RawValue;

use crate::model::entry::{Kind, Metadata};

use super::id::Id;

/// The tree of a folder without content.
pub const EMPTY: &[u8] = b"{\"nodes\":[]}\n";

/// One entry of a folder.
///
/// [`Encoder`] writes what is here and [`parse`] gives it back, so that an unchanged tree keeps its id. What restic leaves
/// out depends on the kind: sizes are kept of regular files only, link counts of files, symbolic links and devices only (and of pipes and
/// sockets that have several names).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Name in its folder, byte for byte.
    pub name: Vec<u8>,
    /// Everything about it that is no data. restic stores `device` for every entry and keeps extended attributes in the
    /// order of `listxattr`; a tree equals restic's only if both are as the file system gave them.
    pub metadata: Metadata,
    /// The data blobs of a regular file, in order.
    pub content: Vec<Id>,
    /// The tree of a folder; none for other kinds, and for folders that restic could not read.
    pub subtree: Option<Id>,
}

impl Node {
    /// Whether the name may become a name on disk: no path, no reference to a folder itself or the one above.
    ///
    /// # Errors
    /// [`TreeError::Name`], which names it.
    pub fn check_name(&self) -> Result<(), TreeError> {
        let name = &self.name[..];
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            return Err(TreeError::Name { name: crate::model::text::printable(name) });
        }
        Ok(())
    }

    /// Whether the tree would say the same of both, content and subtree apart: only what is stored counts.
    pub fn is_described_as(&self, other: &Self) -> bool {
        let (a, b) = (&self.metadata, &other.metadata);
        self.name == other.name
            && a.kind == b.kind
            && to_go_mode(a.mode) == to_go_mode(b.mode)
            && (a.uid, a.gid, a.inode, a.device) == (b.uid, b.gid, b.inode, b.device)
            && (a.mtime, a.ctime, a.atime) == (b.mtime, b.ctime, b.atime)
            && (a.size == b.size || !a.is_file())
            && stored_links(a) == stored_links(b)
            && (&a.user, &a.group) == (&b.user, &b.group)
            && a.xattrs == b.xattrs
    }

    /// Whether this entry may share its inode with others: the same `device` and `inode` are then one file.
    pub fn is_linked(&self) -> bool {
        self.metadata.links > 1 && self.metadata.inode != 0 && !self.metadata.is_dir()
    }
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Its entries, in the order stored (restic: by the bytes of their names).
    pub nodes: Vec<Node>,
    /// Entries of a type that no file system known to this program has.
    pub unknown: Vec<UnknownNode>,
}

/// An entry whose type is not known: it can be named, not restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownNode {
    /// Name in its folder.
    pub name: Vec<u8>,
    /// The type as stored.
    pub kind: String,
}

/// An entry of any type.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are of the first kind, and are taken out of it at once")]
pub enum Entry {
    /// One that a file system may have.
    Known(Node),
    /// One of another type.
    Unknown(UnknownNode),
}

/// A tree of which only the entries are told apart, each byte for byte as it is stored.
#[derive(Debug)]
pub struct RawTree<'a> {
    json: &'a [u8],
    /// Its entries, in the order stored.
    pub nodes: Vec<&'a RawValue>,
    /// Whether it says more than its entries: that is lost if it is written anew.
    pub has_more: bool,
}

impl RawTree<'_> {
    /// The byte of the tree at which an entry of it begins.
    pub fn offset(&self, node: &RawValue) -> u64 {
        node.get().as_ptr().addr().saturating_sub(self.json.as_ptr().addr()) as u64
    }
}

/// Bytes that are not a tree, or a name that is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Not the JSON of a tree.
    #[error("not a tree")]
    Json {
        /// What was wrong where.
        #[source]
        source: serde_json::Error,
    },
    /// A name that would leave its folder.
    #[error("`{name}` is no name of an entry")]
    Name {
        /// The name, made printable.
        name: String,
    },
}

impl TreeError {
    /// Whether trying again may help: never.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// The number of links that is stored of an entry; zero is left out. restic stores none of pipes and sockets, and restores each name of
/// them for itself: so ours is there only where they have several names.
fn stored_links(metadata: &Metadata) -> u64 {
    match metadata.kind {
        Kind::Directory => 0,
        Kind::Fifo | Kind::Socket if metadata.links <= 1 => 0,
        _ => metadata.links,
    }
}

/// The bits of Go's `os.FileMode` that stand for a kind.
fn kind_bits(kind: &Kind) -> u32 {
    const DEVICE: u32 = 1 << 26;
    match kind {
        Kind::File => 0,
        Kind::Directory => 1 << 31,
        Kind::Symlink { .. } => 1 << 27,
        Kind::CharDevice { .. } => DEVICE | 1 << 21,
        Kind::BlockDevice { .. } => DEVICE,
        Kind::Fifo => 1 << 25,
        Kind::Socket => 1 << 24,
    }
}

/// The bits beside the permissions: (`st_mode`, `os.FileMode`).
const SPECIAL_BITS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

/// `st_mode & 0o7777` as the low part of Go's `os.FileMode`.
fn to_go_mode(mode: u32) -> u32 {
    SPECIAL_BITS.iter().filter(|(unix, _)| mode & unix != 0).fold(mode & 0o777, |all, (_, go)| all | go)
}

/// The reverse of [`to_go_mode`]; the bits that stand for kinds are dropped, since the type says it.
fn from_go_mode(mode: u32) -> u32 {
    SPECIAL_BITS.iter().filter(|(_, go)| mode & go != 0).fold(mode & 0o777, |all, (unix, _)| all | unix)
}

#[cfg(test)]
mod tests;

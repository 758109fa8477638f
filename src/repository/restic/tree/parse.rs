//! JSON to nodes. Trees are untrusted: everything that is no tree is an error, and fields that are not known are passed over.
//!
//! Whether a name may become a name on disk is asked of the node by whoever writes it there.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::model::entry::{Kind, Metadata, Timestamp, Xattr};
use crate::repository::restic::id::Id;

use super::quote::unquote;
use super::{Entry, Node, RawTree, Tree, TreeError, UnknownNode, from_go_mode, time};

/// Reads a tree.
///
/// # Errors
/// [`TreeError::Json`] for everything that is no tree.
pub fn parse(json: &[u8]) -> Result<Tree, TreeError> {
    // What is kept as it is has to be text, also where nobody reads it.
    if std::str::from_utf8(json).is_err() {
        parse_raw(json)?;
    }
    serde_json::from_slice(json).map_err(|source| TreeError::Json { source })
}

/// Reads a tree of which only the entries are told apart. Where [`parse`] is content, so is this; what is wrong with an entry says
/// [`parse_entry`].
///
/// # Errors
/// [`TreeError::Json`] if it is no tree whatever its entries are.
pub fn parse_raw(json: &[u8]) -> Result<RawTree<'_>, TreeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = deserializer.deserialize_map(Shell(PhantomData)).and_then(|read| deserializer.end().map(|()| read));
    let (nodes, has_more) = read.map_err(|source| TreeError::Json { source })?;
    Ok(RawTree { json, nodes, has_more })
}

/// Reads one entry of a tree, as [`parse`] does.
///
/// # Errors
/// [`TreeError::Json`] for everything that is no entry.
pub fn parse_entry(raw: &RawValue) -> Result<Entry, TreeError> {
    let node: Result<RawNode<'_>, _> = serde_json::from_str(raw.get());
    node.and_then(|node| node.take().map_err(serde_json::Error::custom)).map_err(|source| TreeError::Json { source })
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Shell(PhantomData)).map(|(Nodes(tree), _)| tree)
    }
}

/// What is around the nodes, whatever they become. Says also whether there was more than nodes.
struct Shell<L>(PhantomData<L>);

impl<'de, L: Deserialize<'de> + Default> Visitor<'de> for Shell<L> {
    type Value = (L, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the field `nodes`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut list, mut has_more) = (None, false);
        while let Some(Text(key)) = map.next_key()? {
            if key == "nodes" {
                has_more |= list.is_some();
                // A folder without entries, as `restic repair snapshots` writes it in the place of one that is lost.
                list = Some(map.next_value::<Option<L>>()?.unwrap_or_default());
            } else {
                map.next_value::<IgnoredAny>()?;
                has_more = true;
            }
        }
        list.map(|list| (list, has_more)).ok_or_else(|| A::Error::missing_field("nodes"))
    }
}

/// The list of nodes, taken apart as it is read so that no list of raw nodes is ever in memory.
#[derive(Default)]
struct Nodes(Tree);

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(NodesVisitor)
    }
}

struct NodesVisitor;

impl<'de> Visitor<'de> for NodesVisitor {
    type Value = Nodes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of nodes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Nodes, A::Error> {
        let mut tree = Tree::default();
        while let Some(raw) = list.next_element::<RawNode<'de>>()? {
            match raw.take().map_err(A::Error::custom)? {
                Entry::Known(node) => tree.nodes.push(node),
                Entry::Unknown(unknown) => tree.unknown.push(unknown),
            }
        }
        Ok(Nodes(tree))
    }
}

/// A string that is borrowed from the JSON where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A node as stored, with the names of restic's fields.
#[derive(Deserialize)]
struct RawNode<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    mode: Option<u32>,
    #[serde(default, deserialize_with = "read_time")]
    mtime: Timestamp,
    #[serde(default, deserialize_with = "read_time")]
    atime: Timestamp,
    #[serde(default, deserialize_with = "read_time")]
    ctime: Timestamp,
    uid: Option<u32>,
    gid: Option<u32>,
    user: Option<String>,
    group: Option<String>,
    inode: Option<u64>,
    device_id: Option<u64>,
    size: Option<u64>,
    links: Option<u64>,
    #[serde(borrow)]
    linktarget: Option<Text<'a>>,
    #[serde(borrow)]
    linktarget_raw: Option<Text<'a>>,
    #[serde(borrow)]
    extended_attributes: Option<Vec<RawXattr<'a>>>,
    device: Option<u64>,
    content: Option<Vec<Id>>,
    subtree: Option<Id>,
}

#[derive(Deserialize)]
struct RawXattr<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    value: Option<Text<'a>>,
}

impl RawNode<'_> {
    fn take(self) -> Result<Entry, String> {
        let name = unquote(&self.name.0).ok_or_else(|| format!("the name `{}` is wrongly quoted", self.name.0.escape_debug()))?;
        let rdev = self.device.unwrap_or(0);
        let kind = match &*self.kind.0 {
            "file" => Kind::File,
            "dir" => Kind::Directory,
            "symlink" => Kind::Symlink { target: link_target(self.linktarget, self.linktarget_raw)? },
            "chardev" => Kind::CharDevice { rdev },
            "dev" => Kind::BlockDevice { rdev },
            "fifo" => Kind::Fifo,
            "socket" => Kind::Socket,
            other => return Ok(Entry::Unknown(UnknownNode { name, kind: other.to_owned() })),
        };
        let is_file = kind == Kind::File;
        let is_dir = kind == Kind::Directory;
        let metadata = Metadata {
            kind,
            mode: from_go_mode(self.mode.unwrap_or(0)),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
            user: self.user.unwrap_or_default(),
            group: self.group.unwrap_or_default(),
            size: if is_file { self.size.unwrap_or(0) } else { 0 },
            mtime: self.mtime,
            atime: self.atime,
            ctime: self.ctime,
            inode: self.inode.unwrap_or(0),
            device: self.device_id.unwrap_or(0),
            links: self.links.unwrap_or(0),
            xattrs: self.extended_attributes.unwrap_or_default().into_iter().map(RawXattr::take).collect::<Result<_, _>>()?,
        };
        let content = if is_file { self.content.unwrap_or_default() } else { Vec::new() };
        let subtree = self.subtree.filter(|_| is_dir);
        Ok(Entry::Known(Node { name, metadata, content, subtree }))
    }
}

impl RawXattr<'_> {
    fn take(self) -> Result<Xattr, String> {
        let value = self.value.map_or(Ok(Vec::new()), |value| base64(&value.0))?;
        Ok(Xattr { name: self.name.0.into_owned().into_bytes(), value })
    }
}

fn link_target(text: Option<Text<'_>>, raw: Option<Text<'_>>) -> Result<Vec<u8>, String> {
    match (text, raw) {
        (_, Some(raw)) => base64(&raw.0),
        (Some(text), None) => Ok(text.0.into_owned().into_bytes()),
        (None, None) => Ok(Vec::new()),
    }
}

fn base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("not base64: {error}"))
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = Text::deserialize(deserializer)?;
    time::read(&text.0).ok_or_else(|| D::Error::custom(format!("`{}` is no time", text.0.escape_debug())))
}

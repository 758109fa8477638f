//! Nodes as bytes and back, exactly: what a tree cannot say (the size of what is no file, a second in a zone that is not a whole
//! number of minutes off) comes back too.
//!
//! Only the process that wrote them reads them. What the repository stores is `tree`'s business, where these bytes lie `aside`'s.

use crate::model::entry::{Kind, Metadata, Timestamp, Xattr};
use crate::repository::restic::id::Id;
use crate::repository::restic::tree::Node;

/// Appends the children of a folder.
pub(super) fn write(children: &[Option<Node>], out: &mut Vec<u8>) {
    for child in children {
        match child {
            None => out.push(0),
            Some(node) => {
                out.push(1);
                write_node(node, out);
            }
        }
    }
}

/// Reads what [`write`] has written; none if it is anything else.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Option<Node>>> {
    let mut rest = Rest(bytes);
    let mut children = Vec::new();
    while !rest.0.is_empty() {
        children.push(match rest.byte()? {
            0 => None,
            1 => Some(read_node(&mut rest)?),
            _ => return None,
        });
    }
    Some(children)
}

fn write_node(node: &Node, out: &mut Vec<u8>) {
    let Node { name, metadata, content, subtree } = node;
    let Metadata { kind, mode, uid, gid, user, group, size, mtime, atime, ctime, inode, device, links, xattrs } = metadata;
    list(name, out);
    write_kind(kind, out);
    for number in [mode, uid, gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for text in [user, group] {
        list(text.as_bytes(), out);
    }
    for time in [mtime, atime, ctime] {
        out.extend_from_slice(&time.secs.to_le_bytes());
        out.extend_from_slice(&time.nanos.to_le_bytes());
    }
    for number in [size, inode, device, links] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    count(xattrs.len(), out);
    for Xattr { name, value } in xattrs {
        list(name, out);
        list(value, out);
    }
    count(content.len(), out);
    for id in content {
        out.extend_from_slice(&id.0);
    }
    out.push(subtree.is_some().into());
    if let Some(id) = subtree {
        out.extend_from_slice(&id.0);
    }
}

fn write_kind(kind: &Kind, out: &mut Vec<u8>) {
    match kind {
        Kind::File => out.push(0),
        Kind::Directory => out.push(1),
        Kind::Symlink { target } => {
            out.push(2);
            list(target, out);
        }
        Kind::CharDevice { rdev } => {
            out.push(3);
            out.extend_from_slice(&rdev.to_le_bytes());
        }
        Kind::BlockDevice { rdev } => {
            out.push(4);
            out.extend_from_slice(&rdev.to_le_bytes());
        }
        Kind::Fifo => out.push(5),
        Kind::Socket => out.push(6),
    }
}

fn count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(count as u64).to_le_bytes());
}

fn list(bytes: &[u8], out: &mut Vec<u8>) {
    count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn read_node(rest: &mut Rest<'_>) -> Option<Node> {
    let name = rest.list()?;
    let kind = match rest.byte()? {
        0 => Kind::File,
        1 => Kind::Directory,
        2 => Kind::Symlink { target: rest.list()? },
        3 => Kind::CharDevice { rdev: rest.number()? },
        4 => Kind::BlockDevice { rdev: rest.number()? },
        5 => Kind::Fifo,
        6 => Kind::Socket,
        _ => return None,
    };
    let (mode, uid, gid) = (rest.short()?, rest.short()?, rest.short()?);
    let (user, group) = (rest.text()?, rest.text()?);
    let (mtime, atime, ctime) = (rest.time()?, rest.time()?, rest.time()?);
    let (size, inode, device, links) = (rest.number()?, rest.number()?, rest.number()?, rest.number()?);
    let xattrs = (0..rest.number()?).map(|_| Some(Xattr { name: rest.list()?, value: rest.list()? })).collect::<Option<_>>()?;
    let content = (0..rest.number()?).map(|_| rest.array().map(Id)).collect::<Option<_>>()?;
    let metadata = Metadata { kind, mode, uid, gid, user, group, size, mtime, atime, ctime, inode, device, links, xattrs };
    let subtree = match rest.byte()? {
        0 => None,
        _ => Some(Id(rest.array()?)),
    };
    Some(Node { name, metadata, content, subtree })
}

/// What was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn short(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp { secs: self.array().map(i64::from_le_bytes)?, nanos: self.short()? })
    }

    fn list(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length).map(<[u8]>::to_vec)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.list()?).ok()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn some_node()(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 4),
            kind in 0..7,
            short in any::<[u32; 6]>(),
            secs in any::<[i64; 3]>(),
            numbers in any::<[u64; 5]>(),
            names in any::<(String, String)>(),
            content in proptest::collection::vec(any::<[u8; 32]>(), 0..3),
            subtree in any::<Option<[u8; 32]>>(),
        ) -> Node {
            let [name, target, attribute, value] = texts.try_into().unwrap();
            let kind = match kind {
                0 => Kind::File,
                1 => Kind::Directory,
                2 => Kind::Symlink { target },
                3 => Kind::CharDevice { rdev: numbers[4] },
                4 => Kind::BlockDevice { rdev: numbers[4] },
                5 => Kind::Fifo,
                _ => Kind::Socket,
            };
            let time = |number: usize| Timestamp { secs: secs[number], nanos: short[3 + number] };
            let xattrs = if attribute.len() % 2 == 0 { Vec::new() } else { vec![Xattr { name: attribute, value }] };
            let metadata = Metadata {
                kind,
                mode: short[0],
                uid: short[1],
                gid: short[2],
                user: names.0,
                group: names.1,
                size: numbers[0],
                mtime: time(0),
                atime: time(1),
                ctime: time(2),
                inode: numbers[1],
                device: numbers[2],
                links: numbers[3],
                xattrs,
            };
            Node { name, metadata, content: content.into_iter().map(Id).collect(), subtree: subtree.map(Id) }
        }
    }

    proptest! {
        #[test]
        fn nodes_come_back_as_they_were(
            children in proptest::collection::vec(proptest::option::of(some_node()), 0..5),
            end in any::<proptest::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            write(&children, &mut bytes);
            prop_assert_eq!(read(&bytes).unwrap(), &children[..]);
            // Cut off anywhere it is less, or nothing.
            let cut = end.index(bytes.len() + 1);
            prop_assert!(cut == bytes.len() || read(&bytes[..cut]).is_none_or(|found| found.len() < children.len()));
        }
    }
}

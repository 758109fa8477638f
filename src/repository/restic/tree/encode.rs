//! Nodes to JSON: the fields in the order of restic's struct, those that are empty left out as Go's `omitempty` does.
//!
//! What a node says is the caller's; nothing is made up here.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::tz::TimeZone;

use crate::model::entry::{Kind, Timestamp};

use super::quote::{json_string, quote};
use super::{Node, kind_bits, stored_links, time, to_go_mode};

/// Writes trees.
///
/// restic writes times with the local offset that holds at each of them, so trees equal those that restic writes on this
/// machine only if `zone` is the machine's.
#[derive(Debug, Clone)]
pub struct Encoder {
    zone: TimeZone,
    /// The offset of a zone that has only one.
    fixed: Option<i32>,
}

impl Encoder {
    /// Writes times as they are in `zone`.
    pub fn new(zone: TimeZone) -> Self {
        let fixed = zone.to_fixed_offset().ok().map(jiff::tz::Offset::seconds);
        Self { zone, fixed }
    }

    /// Appends a whole tree. The nodes must be sorted by the bytes of their names, each name once.
    pub fn encode(&self, nodes: &[Node], out: &mut Vec<u8>) {
        self.begin(out);
        for (count, node) in nodes.iter().enumerate() {
            if count > 0 {
                out.push(b',');
            }
            self.node(node, out);
        }
        self.end(out);
    }

    /// About how long the tree of these nodes is, and seldom less: room for it need not be doubled again and again.
    pub fn estimate(nodes: &[Node]) -> usize {
        let of_one = |node: &Node| {
            let meta = &node.metadata;
            let xattrs: usize = meta.xattrs.iter().map(|xattr| 32 + xattr.name.len() + xattr.value.len() * 4 / 3).sum();
            320 + node.name.len() + meta.user.len() + meta.group.len() + 67 * node.content.len() + xattrs
        };
        nodes.iter().map(of_one).sum()
    }

    /// Begins a tree whose nodes follow one by one.
    pub fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"nodes\":[");
    }

    /// Appends the next node of a tree begun with [`begin`](Self::begin) in a buffer that holds nothing else.
    pub fn add(&self, node: &Node, out: &mut Vec<u8>) {
        if out.last() == Some(&b'}') {
            out.push(b',');
        }
        self.node(node, out);
    }

    /// Ends the tree. The newline belongs to it.
    pub fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"]}\n");
    }

    fn node(&self, node: &Node, out: &mut Vec<u8>) {
        let meta = &node.metadata;
        let mut name = String::with_capacity(node.name.len());
        quote(&node.name, &mut name);
        out.extend_from_slice(b"{\"name\":");
        json_string(name.as_bytes(), out);
        let _ = write!(out, ",\"type\":\"{}\"", meta.kind.word());
        number("mode", u64::from(to_go_mode(meta.mode) | kind_bits(&meta.kind)), out);
        self.time("mtime", meta.mtime, out);
        self.time("atime", meta.atime, out);
        self.time("ctime", meta.ctime, out);
        let _ = write!(out, ",\"uid\":{},\"gid\":{}", meta.uid, meta.gid);
        text("user", meta.user.as_bytes(), out);
        text("group", meta.group.as_bytes(), out);
        number("inode", meta.inode, out);
        number("device_id", meta.device, out);
        if meta.is_file() {
            number("size", meta.size, out);
        }
        number("links", stored_links(meta), out);
        if let Kind::Symlink { target } = &meta.kind {
            text("linktarget", target, out);
            if std::str::from_utf8(target).is_err() {
                let _ = write!(out, ",\"linktarget_raw\":\"{}\"", STANDARD.encode(target));
            }
        }
        extended_attributes(node, out);
        if let Kind::CharDevice { rdev } | Kind::BlockDevice { rdev } = meta.kind {
            number("device", rdev, out);
        }
        content(node, out);
        if let Some(subtree) = node.subtree {
            let _ = write!(out, ",\"subtree\":\"{subtree}\"");
        }
        out.push(b'}');
    }

    fn time(&self, field: &str, value: Timestamp, out: &mut Vec<u8>) {
        let _ = write!(out, ",\"{field}\":");
        time::write(value, |secs| self.offset_at(secs), out);
    }

    fn offset_at(&self, secs: i64) -> i32 {
        self.fixed.unwrap_or_else(|| {
            // The calendar, and so the rules of summer time, repeat every 400 years: years that jiff does not know are looked up
            // in one that it knows.
            const CYCLE: i64 = 146_097 * 86_400;
            let (first, last) = (jiff::Timestamp::MIN.as_second(), jiff::Timestamp::MAX.as_second());
            let secs = if secs > last {
                secs - ((secs - last) / CYCLE + 1) * CYCLE
            } else if secs < first {
                secs + ((first - secs) / CYCLE + 1) * CYCLE
            } else {
                secs
            };
            let at = jiff::Timestamp::from_second(secs);
            at.map_or(0, |at| self.zone.to_offset(at).seconds())
        })
    }
}

/// Appends a number unless it is zero.
fn number(field: &str, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        let _ = write!(out, ",\"{field}\":{value}");
    }
}

/// Appends a string unless it is empty.
fn text(field: &str, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        let _ = write!(out, ",\"{field}\":");
        json_string(value, out);
    }
}

fn extended_attributes(node: &Node, out: &mut Vec<u8>) {
    let mut separator = ",\"extended_attributes\":[";
    for attribute in &node.metadata.xattrs {
        out.extend_from_slice(separator.as_bytes());
        out.extend_from_slice(b"{\"name\":");
        json_string(&attribute.name, out);
        let _ = write!(out, ",\"value\":\"{}\"}}", STANDARD.encode(&attribute.value));
        separator = ",";
    }
    if !node.metadata.xattrs.is_empty() {
        out.push(b']');
    }
}

/// Regular files have a list, also an empty one; everything else has none.
fn content(node: &Node, out: &mut Vec<u8>) {
    if !node.metadata.is_file() {
        out.extend_from_slice(b",\"content\":null");
        return;
    }
    out.extend_from_slice(b",\"content\":[");
    for (count, id) in node.content.iter().enumerate() {
        let _ = write!(out, "{}\"{id}\"", if count > 0 { "," } else { "" });
    }
    out.push(b']');
}

//! The records of extended headers: what does not fit into the fields of a plain header.
//!
//! Written after POSIX.1 `pax` ("pax Extended Header") and, for extended attributes, after what star, GNU tar and Go write
//! (`SCHILY.xattr.`). What an entry is made of in the end is the parent module's.

use super::TarError;
use crate::model::entry::{Timestamp, Xattr};

/// What an extended header says of the next entry (or, a global one, of all that follow).
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) user: Option<Vec<u8>>,
    pub(super) group: Option<Vec<u8>>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) atime: Option<Timestamp>,
    pub(super) ctime: Option<Timestamp>,
    pub(super) xattrs: Vec<Xattr>,
    /// Records that say something of the entry which cannot be kept.
    pub(super) lost: Vec<&'static str>,
    pub(super) sparse: super::sparse::Records,
}

impl Records {
    /// Adds the records of a header to those that are there; a later one replaces an earlier one of the same name.
    pub(super) fn add(&mut self, mut data: &[u8]) -> Result<(), TarError> {
        while !data.is_empty() {
            let (record, rest) = split_record(data).ok_or(TarError::ExtendedHeader)?;
            data = rest;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(TarError::ExtendedHeader)?;
            self.set(&record[..equals], &record[equals + 1..])?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        // An empty value takes back what a global header said; of these no name has a meaning when it is empty.
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link_path = bytes(),
            b"uname" => self.user = bytes(),
            b"gname" => self.group = bytes(),
            b"size" => self.size = decimal("size", value)?,
            b"uid" => self.uid = decimal("uid", value)?,
            b"gid" => self.gid = decimal("gid", value)?,
            b"mtime" => self.mtime = time("mtime", value)?,
            b"atime" => self.atime = time("atime", value)?,
            b"ctime" => self.ctime = time("ctime", value)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.set_xattr(name, value)?;
                } else if key.starts_with(b"SCHILY.acl.") {
                    self.lost.push("an access control list in the form of text");
                } else if key.starts_with(b"LIBARCHIVE.xattr.") || key.starts_with(b"RHT.security.") {
                    self.lost.push("an extended attribute in a form that is not known");
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(name, value)?;
                }
                // All others are comments and what the program that wrote them wants to know.
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), TarError> {
        // GNU tar writes what would end the name or begin an escape as `%3D` and `%25`; an attribute's name has no `%` otherwise.
        let name = unescape(name);
        if name.is_empty() || name.contains(&0) {
            return Err(TarError::ExtendedHeader);
        }
        self.xattrs.retain(|xattr| xattr.name != name);
        self.xattrs.push(Xattr { name, value: value.to_vec() });
        Ok(())
    }
}

/// Takes the first `LENGTH KEY=VALUE\n` off; the length counts the whole of it.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = digits(&data[..space])?;
    let record = data.get(space + 1..length)?;
    Some((record.strip_suffix(b"\n")?, &data[length..]))
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    loop {
        rest = match rest {
            [] => return plain,
            [b'%', b'3', b'D', after @ ..] => {
                plain.push(b'=');
                after
            }
            [b'%', b'2', b'5', after @ ..] => {
                plain.push(b'%');
                after
            }
            [byte, after @ ..] => {
                plain.push(*byte);
                after
            }
        };
    }
}

/// Digits and nothing else: `parse` alone would take a sign.
pub(super) fn digits<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}

fn decimal<T: std::str::FromStr>(field: &'static str, value: &[u8]) -> Result<Option<T>, TarError> {
    if value.is_empty() {
        return Ok(None);
    }
    digits(value).map(Some).ok_or(TarError::Field { field })
}

/// Seconds with a fraction; of that nine digits count.
fn time(field: &'static str, value: &[u8]) -> Result<Option<Timestamp>, TarError> {
    if value.is_empty() {
        return Ok(None);
    }
    parse_time(value).map(Some).ok_or(TarError::Field { field })
}

fn parse_time(value: &[u8]) -> Option<Timestamp> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let point = value.iter().position(|byte| *byte == b'.').unwrap_or(value.len());
    let fraction = value.get(point + 1..).unwrap_or_default();
    if point == 0 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let secs: i64 = digits(&value[..point])?;
    let nanos = (0..9).fold(0, |nanos, place| nanos * 10 + u32::from(fraction.get(place).map_or(0, |digit| digit - b'0')));
    Some(match (negative, nanos) {
        (false, _) => Timestamp { secs, nanos },
        (true, 0) => Timestamp { secs: -secs, nanos },
        // The seconds are rounded down, so the rest counts upwards from there.
        (true, _) => Timestamp { secs: (-secs).checked_sub(1)?, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn times_before_1970_are_rounded_down() {
        let at = |secs, nanos| Some(Timestamp { secs, nanos });
        assert_eq!(parse_time(b"12"), at(12, 0));
        assert_eq!(parse_time(b"12.5"), at(12, 500_000_000));
        assert_eq!(parse_time(b"12.0000000019"), at(12, 1));
        assert_eq!(parse_time(b"-1"), at(-1, 0));
        assert_eq!(parse_time(b"-1.25"), at(-2, 750_000_000));
        assert_eq!(parse_time(b"-0.5"), at(-1, 500_000_000));
        for bad in [&b"."[..], b"-", b".5", b"1.x", b"1e3", b"--1", b"99999999999999999999", b"+1"] {
            assert_eq!(parse_time(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn values_may_hold_anything() {
        let mut records = Records::default();
        records.add(b"30 SCHILY.xattr.user.a=1\n=\0\xff\xfe\n22 path=new\nline=1.txt\n").unwrap_err();
        let mut records = Records::default();
        records.add(b"29 SCHILY.xattr.user.a=1\n=\xff\0\n19 path=new\nline=1\n12 size=123\n").unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"new\nline=1"[..]));
        assert_eq!(records.size, Some(123));
        assert_eq!(records.xattrs, [Xattr { name: b"user.a".to_vec(), value: b"1\n=\xff\0".to_vec() }]);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in
            [&b"5 a=1"[..], b"x a=1\n", b"6 a=1\n6", b"4 a\n", b"99 a=1\n", b"3 \n", b"-6 a=1\n", b"0 ", b" 6 a=1\n", b"12 size=-1x\n"]
        {
            assert!(Records::default().add(bad).is_err(), "{bad:?}");
        }
    }
}

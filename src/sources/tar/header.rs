//! The header blocks of a tar stream: fields, numbers, checksum.
//!
//! Written after POSIX.1 `pax` ("ustar Interchange Format") and the description of GNU tar's variants. The records of
//! extended headers are `pax`'s.

use super::TarError;
use crate::model::entry::Timestamp;

/// Size of a block: headers have this size, data is padded to it.
pub(super) const BLOCK: usize = 512;

/// A header whose checksum was right. Fields are taken out of it as they are asked for.
pub(super) struct Header<'a>(&'a [u8; BLOCK]);

/// The fields behind the checksum belong to one of these formats.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Neither owners' names nor a prefix.
    Old,
    Posix,
    /// Holds other things where POSIX has the prefix.
    Gnu,
}

impl<'a> Header<'a> {
    /// Takes a block that is not all zeros.
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Self, TarError> {
        let stored = octal(&block[148..156]).ok_or(TarError::Checksum)?;
        let sum = |value: fn(u8) -> i64| -> i64 {
            let of = |bytes: &[u8]| bytes.iter().map(|byte| value(*byte)).sum::<i64>();
            // The field itself counts as spaces.
            of(&block[..148]) + 8 * i64::from(b' ') + of(&block[156..])
        };
        // Some old programs summed signed bytes.
        if stored != sum(i64::from) && stored != sum(|byte| i64::from(byte.cast_signed())) {
            return Err(TarError::Checksum);
        }
        Ok(Self(block))
    }

    fn format(&self) -> Format {
        match &self.0[257..265] {
            b"ustar\x0000" => Format::Posix,
            b"ustar  \0" => Format::Gnu,
            // POSIX demands the version, but not all who write it do.
            magic if magic.starts_with(b"ustar\0") => Format::Posix,
            _ => Format::Old,
        }
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    /// The name, put together with its prefix.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = if self.format() == Format::Posix { text(&self.0[345..500]) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link_name(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, TarError> {
        self.number("mode", 100..108).map(|mode| mode as u32 & 0o7777)
    }

    pub(super) fn uid(&self) -> Result<u32, TarError> {
        u32::try_from(self.number("uid", 108..116)?).map_err(|_| TarError::Field { field: "uid" })
    }

    pub(super) fn gid(&self) -> Result<u32, TarError> {
        u32::try_from(self.number("gid", 116..124)?).map_err(|_| TarError::Field { field: "gid" })
    }

    pub(super) fn size(&self) -> Result<u64, TarError> {
        u64::try_from(self.number("size", 124..136)?).map_err(|_| TarError::Field { field: "size" })
    }

    pub(super) fn mtime(&self) -> Result<Timestamp, TarError> {
        Ok(Timestamp { secs: self.number("mtime", 136..148)?, nanos: 0 })
    }

    pub(super) fn user(&self) -> &'a [u8] {
        if self.format() == Format::Old { b"" } else { text(&self.0[265..297]) }
    }

    pub(super) fn group(&self) -> &'a [u8] {
        if self.format() == Format::Old { b"" } else { text(&self.0[297..329]) }
    }

    /// The device that a device file stands for, as Linux encodes it.
    pub(super) fn rdev(&self) -> Result<u64, TarError> {
        let part = |field, range| u32::try_from(self.number(field, range)?).map_err(|_| TarError::Field { field });
        Ok(rustix::fs::makedev(part("devmajor", 329..337)?, part("devminor", 337..345)?))
    }

    /// The whole block, for the fields of a sparse file.
    pub(super) fn block(&self) -> &'a [u8; BLOCK] {
        self.0
    }

    fn number(&self, field: &'static str, range: std::ops::Range<usize>) -> Result<i64, TarError> {
        number(&self.0[range]).ok_or(TarError::Field { field })
    }
}

/// Text ends at its first NUL, or with its field.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number: octal digits, or with the highest bit set a big-endian two's complement of the rest.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    // The second highest bit is the sign.
    let negative = first & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (index, byte) in field.iter().enumerate() {
        let byte = if index == 0 { (byte & 0x7f) | if negative { 0x80 } else { 0 } } else { *byte };
        if i64::try_from(value).is_err() {
            return None;
        }
        value = (value << 8) | i128::from(byte);
    }
    i64::try_from(value).ok()
}

/// Octal digits with spaces or NULs around them; nothing at all is zero.
fn octal(field: &[u8]) -> Option<i64> {
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if rest.iter().any(|byte| !matches!(byte, b' ' | 0)) {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary_and_nothing_else() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777777"), Some(0o777_7777_7777));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), Some(0xffff_ffff));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00]), Some(-256));
        assert_eq!(number(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        for bad in [&b"8"[..], b"-1", b"64x", b"6 4", b"+1"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }
}

//! Ids: the SHA-256 of what they name (design document, section "Repository Layout").

mod pair;

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The SHA-256 of a blob or of a repository file; random for keys' and repositories' own ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 32]);

impl Id {
    /// The id of these bytes.
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }

    /// The ids of both: where the processor can hash two things at once, in less time than one after the other takes.
    pub fn of_pair(a: &[u8], b: &[u8]) -> [Self; 2] {
        pair::digests(a, b).map(Self)
    }

    /// The first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

/// The id of something long that comes piece by piece.
#[derive(Debug, Clone, Default)]
pub struct RunningId(pair::Running);

impl RunningId {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Takes the next piece and gives the id of something else: where the processor can hash two things at once, in less time
    /// than one after the other takes.
    pub fn update_beside(&mut self, piece: &[u8], other: &[u8]) -> Id {
        let mut id = pair::Running::default();
        pair::Running::feed(&mut self.0, piece, &mut id, other);
        Id(id.finish())
    }

    /// The id of all pieces together.
    pub fn finish(self) -> Id {
        Id(self.0.finish())
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// In [`VALUES`]: not one of [`DIGITS`].
const NO_DIGIT: u8 = 0x80;

/// The value of each byte as a digit.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected 64 hexadecimal digits")]
pub struct IdError;

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(IdError);
        }
        // Millions of ids are read from trees and indexes: no branch for each digit, which nobody could foresee.
        let mut id = [0_u8; 32];
        let mut wrong = 0;
        for (byte, [high, low]) in id.iter_mut().zip(bytes.as_chunks::<2>().0) {
            let (high, low) = (VALUES[usize::from(*high)], VALUES[usize::from(*low)]);
            wrong |= high | low;
            *byte = high << 4 | low & 15;
        }
        if wrong & NO_DIGIT == 0 { Ok(Self(id)) } else { Err(IdError) }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl serde::de::Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hexadecimal digits")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(IdVisitor)
    }
}

/// Hashes ids by their first eight bytes: they are uniformly distributed already.
#[derive(Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0_u8; 8];
        let length = bytes.len().min(8);
        first[..length].copy_from_slice(&bytes[..length]);
        self.0 ^= u64::from_le_bytes(first);
    }

    /// The length prefix of arrays says nothing.
    fn write_usize(&mut self, _length: usize) {}
}

/// For maps keyed by [`Id`].
pub type BuildIdHasher = BuildHasherDefault<IdHasher>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = Id::of(b"");
        assert_eq!(id.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), "e3b0c442");
        let text = id.to_string();
        for bad in ["", &text[1..], &text.to_uppercase(), &text.replace('e', "g"), &format!("{text}0")] {
            assert_eq!(bad.parse::<Id>(), Err(IdError), "{bad}");
        }
    }
}

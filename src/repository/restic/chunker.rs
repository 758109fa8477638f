//! Cutting files into chunks where their content says so (design document, section "Backups and Deduplication"): Rabin
//! fingerprints over a window of 64 bytes, with the same cuts as restic makes.
//!
//! Reading files and hashing chunks is the archiver's business.
//!
//! A chunk ends after byte `n` if the fingerprint of the 64 bytes up to `n` ends in 20 zero bits. As nothing before the
//! window matters, the bytes before the shortest end need not be looked at, and several stretches can be scanned at once.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::crypto::{self, CryptoError};

/// The shortest chunk, except at the end of a file: 512 KiB.
pub const MIN_SIZE: usize = 512 * 1024;
/// The longest chunk: 8 MiB.
pub const MAX_SIZE: usize = 8 * 1024 * 1024;

/// Bytes that decide whether a chunk may end behind them.
pub const WINDOW: usize = 64;
/// An end is where these bits of the fingerprint are zero: once in 1 MiB.
const MASK: u64 = (1 << 20) - 1;
/// Stretches that are scanned at once: the fingerprints of one wait for memory while the others compute.
const LANES: usize = 6;
/// Bytes of one stretch. Short, as what is scanned behind an end is wasted; long beside the window, which is read twice.
const STRETCH: usize = 4096;

/// A polynomial over the field of two elements: bit `n` is the coefficient of `x` to the power of `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Polynomial(pub u64);

impl Polynomial {
    /// The degree of new polynomials: the largest prime that leaves room for a byte in 64 bits.
    const DEGREE: u32 = 53;

    /// A random irreducible polynomial of degree 53, for a new repository.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`]
    pub fn random() -> Result<Self, CryptoError> {
        // One in 53 of all polynomials of that degree is irreducible, one in 27 of the odd ones.
        loop {
            let mut bytes = [0; 8];
            crypto::random(&mut bytes)?;
            let candidate = Self(u64::from_le_bytes(bytes) & ((1 << Self::DEGREE) - 1) | 1 << Self::DEGREE | 1);
            if candidate.is_irreducible() {
                return Ok(candidate);
            }
        }
    }

    /// Whether files can be cut with it: a fingerprint and one byte more must fit 64 bits.
    pub fn is_usable(self) -> bool {
        self.degree().is_some_and(|degree| (9..=Self::DEGREE).contains(&degree)) && self.is_irreducible()
    }

    /// Whether it is no product of others (Ben-Or's test: no factor in common with `x^(2^i) - x` for `i` up to half the degree).
    pub fn is_irreducible(self) -> bool {
        let Some(degree) = self.degree().filter(|degree| *degree > 0) else { return false };
        let x = Self(2).modulo(self);
        let mut power = x;
        (0..degree / 2).all(|_| {
            power = power.square_modulo(self);
            self.common_divisor(Self(power.0 ^ x.0)) == Self(1)
        })
    }

    /// None for zero.
    fn degree(self) -> Option<u32> {
        self.0.checked_ilog2()
    }

    fn modulo(self, divisor: Self) -> Self {
        let Some(degree) = divisor.degree() else { return self };
        let mut rest = self;
        while let Some(excess) = rest.degree().and_then(|found| found.checked_sub(degree)) {
            rest.0 ^= divisor.0 << excess;
        }
        rest
    }

    /// `self` must be below `divisor` in degree.
    fn square_modulo(self, divisor: Self) -> Self {
        let Some(degree) = divisor.degree() else { return self };
        let mut product = 0;
        for bit in (0..degree).rev() {
            product <<= 1;
            if product >> degree & 1 == 1 {
                product ^= divisor.0;
            }
            if self.0 >> bit & 1 == 1 {
                product ^= self.0;
            }
        }
        Self(product)
    }

    fn common_divisor(self, other: Self) -> Self {
        let (mut a, mut b) = (self, other);
        while b.0 != 0 {
            (a, b) = (b, a.modulo(b));
        }
        a
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Text that is not a polynomial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a polynomial: expected up to 16 hexadecimal digits")]
pub struct PolynomialError;

impl FromStr for Polynomial {
    type Err = PolynomialError;

    fn from_str(text: &str) -> Result<Self, PolynomialError> {
        if text.starts_with('+') {
            return Err(PolynomialError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| PolynomialError)
    }
}

impl Serialize for Polynomial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Polynomial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Finds the ends of chunks for one polynomial. It keeps no state between calls: one serves all workers.
pub struct Chunker {
    /// `shift` moves the eight highest bits of a fingerprint to the bottom.
    shift: u32,
    /// What the eight bits above the degree come to, and the bits themselves, so that one XOR takes them away.
    modulo: [u64; 256],
    /// What a byte comes to once it has left the window by one place, so that one XOR takes it away.
    leave: [u64; 256],
}

impl fmt::Debug for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunker").finish_non_exhaustive()
    }
}

impl Chunker {
    /// Computes the tables. With a polynomial that is not [usable](Polynomial::is_usable) the cuts would be senseless.
    pub fn new(polynomial: Polynomial) -> Self {
        let degree = polynomial.degree().unwrap_or(0).clamp(8, Polynomial::DEGREE);
        let mut chunker = Self { shift: degree - 8, modulo: [0; 256], leave: [0; 256] };
        for (byte, entry) in (0_u64..).zip(&mut chunker.modulo) {
            let above = byte << degree;
            *entry = Polynomial(above).modulo(polynomial).0 | above;
        }
        for byte in 0..=u8::MAX {
            let entered = Polynomial(u64::from(byte)).modulo(polynomial).0;
            chunker.leave[usize::from(byte)] = (0..WINDOW).fold(entered, |fingerprint, _| chunker.shift_in(fingerprint, 0));
        }
        chunker
    }

    /// The length of the first chunk of `data`, which is the rest of a file or at least [`MAX_SIZE`] bytes of it.
    /// Zero only if `data` is empty.
    pub fn cut(&self, data: &[u8]) -> usize {
        let data = &data[..data.len().min(MAX_SIZE)];
        if data.len() <= MIN_SIZE {
            return data.len();
        }
        self.first_end(data, MIN_SIZE).unwrap_or(data.len())
    }

    /// As [`cut`](Self::cut) for a reader that brings a file piece by piece: `data` begins with a chunk and holds what has
    /// been read of it, `scanned` bytes of which an earlier call has seen. None if more is needed; at the end of the file
    /// all of `data` is then the last chunk.
    pub fn find_cut(&self, data: &[u8], scanned: usize) -> Option<usize> {
        let data = &data[..data.len().min(MAX_SIZE)];
        let end = if data.len() > MIN_SIZE { self.first_end(data, scanned.max(MIN_SIZE)) } else { None };
        end.or_else(|| (data.len() == MAX_SIZE).then_some(MAX_SIZE))
    }

    /// Every `n` above [`WINDOW`] such that the window before `n` is an end, in their order, for [`Cuts`]. Neighbours come as one
    /// run, from the first to the last of them: among zeroes every place is an end.
    pub fn ends(&self, data: &[u8]) -> Vec<(usize, usize)> {
        let mut ends: Vec<(usize, usize)> = Vec::new();
        let mut at = WINDOW;
        if data.len() <= at {
            return ends;
        }
        let mut fingerprint = self.fingerprint(&data[..WINDOW]);
        while at < data.len() {
            let to = data.len().min(at + LANES * STRETCH);
            if to - at == LANES * STRETCH
                && let Some(last) = self.scan_lanes(fingerprint, &data[at - WINDOW..to])
            {
                fingerprint = last;
                at = to;
                continue;
            }
            // The end of the data, or a few stretches with an end in them.
            while let Some(length) = self.scan(&mut fingerprint, &data[at - WINDOW..to]) {
                at += length;
                match ends.last_mut() {
                    Some((_, last)) if *last + 1 == at => *last = at,
                    _ => ends.push((at, at)),
                }
            }
            at = to;
        }
        ends
    }

    /// The first `n >= from` (which is at least [`WINDOW`]) such that the window before `n` is an end.
    fn first_end(&self, data: &[u8], from: usize) -> Option<usize> {
        // The end at `from` itself is looked at alone; from then on every byte that enters is a candidate.
        let mut at = from;
        let mut fingerprint = self.fingerprint(&data[at - WINDOW..at]);
        if fingerprint & MASK == 0 {
            return Some(at);
        }
        while data.len() - at >= LANES * STRETCH {
            let Some(last) = self.scan_lanes(fingerprint, &data[at - WINDOW..at + LANES * STRETCH]) else { break };
            fingerprint = last;
            at += LANES * STRETCH;
        }
        // What is left: the end of the file, or a few stretches of which one has an end.
        self.scan(&mut fingerprint, &data[at - WINDOW..]).map(|length| at + length)
    }

    /// Scans all of `data` behind its first window, whose fingerprint is given, in several lanes.
    /// Gives the last fingerprint, or none if there is an end somewhere. Its length is `WINDOW + LANES * STRETCH`.
    fn scan_lanes(&self, fingerprint: u64, data: &[u8]) -> Option<u64> {
        // Arrays of known length, so that nothing is checked in the loop. Every lane begins with its window.
        let (mut leaving, mut entering) = ([&[0; STRETCH]; LANES], [&[0; STRETCH]; LANES]);
        let mut prints = [fingerprint; LANES];
        for n in 0..LANES {
            let lane = &data[n * STRETCH..][..WINDOW + STRETCH];
            leaving[n] = lane.first_chunk()?;
            entering[n] = lane.last_chunk()?;
            if n > 0 {
                prints[n] = self.fingerprint(&lane[..WINDOW]);
            }
        }
        for at in 0..STRETCH {
            for n in 0..LANES {
                prints[n] = self.slide(prints[n], leaving[n][at], entering[n][at]);
                if prints[n] & MASK == 0 {
                    return None;
                }
            }
        }
        Some(prints[LANES - 1])
    }

    /// Scans `data` behind its first window, whose fingerprint is given and kept up. Gives the number of bytes that had
    /// entered the window at the first end.
    fn scan(&self, fingerprint: &mut u64, data: &[u8]) -> Option<usize> {
        data.iter()
            .zip(&data[WINDOW..])
            .position(|(old, new)| {
                *fingerprint = self.slide(*fingerprint, *old, *new);
                *fingerprint & MASK == 0
            })
            .map(|index| index + 1)
    }

    /// The fingerprint of one window.
    fn fingerprint(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |fingerprint, byte| self.shift_in(fingerprint, *byte))
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the innermost loop: a call would cost more than the work")]
    fn slide(&self, fingerprint: u64, old: u8, new: u8) -> u64 {
        // `old` is taken away after the shift and not before, so that it does not lengthen the chain from one
        // fingerprint to the next.
        self.shift_in(fingerprint, new) ^ self.leave[usize::from(old)]
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the innermost loop: a call would cost more than the work")]
    fn shift_in(&self, fingerprint: u64, byte: u8) -> u64 {
        (fingerprint << 8 | u64::from(byte)) ^ self.modulo[usize::from((fingerprint >> self.shift) as u8)]
    }
}

/// Makes the cuts of a file from the ends that were found in its ranges.
#[derive(Debug, Default)]
pub struct Cuts {
    /// Where the current chunk begins.
    start: u64,
    /// Runs of ends behind that, as places in the file.
    ends: VecDeque<(u64, u64)>,
}

impl Cuts {
    /// Adds the ends of the next range, which begins at `from`.
    pub fn add(&mut self, from: u64, ends: &[(usize, usize)]) {
        self.ends.extend(ends.iter().map(|(first, last)| (from + *first as u64, from + *last as u64)));
    }

    /// The length of the next chunk, of which `available` bytes are there; none if more ranges are needed, or, after the
    /// `last`, if nothing is left.
    pub fn next_length(&mut self, available: usize, last: bool) -> Option<usize> {
        let shortest = self.start + MIN_SIZE as u64;
        while self.ends.pop_front_if(|(_, last)| *last < shortest).is_some() {}
        let end = self.ends.front().map_or(MAX_SIZE, |(first, _)| ((*first).max(shortest) - self.start).min(MAX_SIZE as u64) as usize);
        let length = if end <= available {
            end
        } else if last && available > 0 {
            available
        } else {
            return None;
        };
        self.start += length as u64;
        Some(length)
    }
}

#[cfg(test)]
mod tests;

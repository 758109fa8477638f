//! SHA-256 of two things at once, for processors with instructions for it: each instruction waits for the one before it, and
//! meanwhile the other hash is computed.
//!
//! Elsewhere, and for what is left of the longer one, the library that hashes everything else does the work. Nothing is
//! known here of what is hashed.

#[cfg(target_arch = "x86_64")]
mod instructions;

use sha2::{Digest, Sha256};

/// The SHA-256 of both.
pub(super) fn digests(a: &[u8], b: &[u8]) -> [[u8; 32]; 2] {
    #[cfg(target_arch = "x86_64")]
    if let Some(digests) = instructions::digests(a, b) {
        return digests;
    }
    [Sha256::digest(a).into(), Sha256::digest(b).into()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that differ from place to place.
    fn bytes(length: usize, seed: u8) -> Vec<u8> {
        (0..length).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
    }

    fn expect_equal(a: &[u8], b: &[u8]) {
        let expected: [[u8; 32]; 2] = [Sha256::digest(a).into(), Sha256::digest(b).into()];
        assert!(digests(a, b) == expected, "{} and {} bytes", a.len(), b.len());
    }

    #[test]
    fn every_length_around_blocks_and_padding() {
        for a in 0..200 {
            for b in [0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 129, 1000] {
                expect_equal(&bytes(a, 1), &bytes(b, 2));
            }
        }
        expect_equal(&bytes(1 << 20, 3), &bytes((1 << 20) + 5, 4));
    }

    proptest! {
        #[test]
        fn as_the_library_says(a in prop::collection::vec(any::<u8>(), 0..5000), b in prop::collection::vec(any::<u8>(), 0..5000)) {
            expect_equal(&a, &b);
        }
    }
}

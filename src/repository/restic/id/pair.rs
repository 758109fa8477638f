//! SHA-256 of two things at once, for processors with instructions for it: each instruction waits for the one before it, and
//! meanwhile the other hash is computed.
//!
//! Elsewhere, and for what is left of the longer one, the library that hashes everything else does the work. Nothing is
//! known here of what is hashed.

#[cfg(target_arch = "x86_64")]
mod instructions;

use sha2::block_api::compress256;

const BLOCK: usize = 64;

type Block = [u8; BLOCK];
type State = [u32; 8];

/// FIPS 180-4, section 5.3.3.
const INITIAL: State = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The SHA-256 of both.
pub(super) fn digests(a: &[u8], b: &[u8]) -> [[u8; 32]; 2] {
    let (mut first, mut second) = (Running::default(), Running::default());
    Running::feed(&mut first, a, &mut second, b);
    [first.finish(), second.finish()]
}

/// A SHA-256 under way: what it is of comes piece by piece.
#[derive(Debug, Clone)]
pub(super) struct Running {
    state: State,
    /// What does not fill a block yet.
    waiting: Block,
    /// How much of `waiting` that is.
    filled: usize,
    /// Bytes taken so far.
    length: u64,
}

impl Default for Running {
    fn default() -> Self {
        Self { state: INITIAL, waiting: [0; BLOCK], filled: 0, length: 0 }
    }
}

impl Running {
    /// Takes more of one.
    pub(super) fn update(&mut self, data: &[u8]) {
        let (blocks, rest) = self.begin(data).as_chunks();
        compress256(&mut self.state, blocks);
        self.end(rest);
    }

    /// Takes more of two.
    pub(super) fn feed(one: &mut Self, data: &[u8], other: &mut Self, more: &[u8]) {
        let ((blocks, rest), (more_blocks, more_rest)) = (one.begin(data).as_chunks(), other.begin(more).as_chunks());
        let both = take_both(one, blocks, other, more_blocks);
        compress256(&mut one.state, &blocks[both..]);
        compress256(&mut other.state, &more_blocks[both..]);
        one.end(rest);
        other.end(more_rest);
    }

    /// Its value: with the padding of section 5.1.1.
    pub(super) fn finish(mut self) -> [u8; 32] {
        let bits = self.length * 8;
        self.update(&[0x80]);
        if self.filled > BLOCK - 8 {
            self.update(&[0; BLOCK][self.filled..]);
        }
        self.update(&[0; BLOCK][self.filled + 8..]);
        self.update(&bits.to_be_bytes());
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    /// Fills the block that waits; gives what is to be taken in whole blocks.
    fn begin<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        self.length += data.len() as u64;
        let (first, later) = data.split_at(data.len().min((BLOCK - self.filled) % BLOCK));
        self.end(first);
        later
    }

    /// Takes what is less than a block.
    fn end(&mut self, rest: &[u8]) {
        self.waiting[self.filled..self.filled + rest.len()].copy_from_slice(rest);
        self.filled += rest.len();
        if self.filled == BLOCK {
            compress256(&mut self.state, &[self.waiting]);
            self.filled = 0;
        }
    }
}

/// Takes blocks of both in lockstep, where that can be done; gives how many of each.
#[cfg(target_arch = "x86_64")]
fn take_both(one: &mut Running, blocks: &[Block], other: &mut Running, more: &[Block]) -> usize {
    let both = blocks.len().min(more.len());
    let mut states = [one.state, other.state];
    if both == 0 || !instructions::take_both(&mut states, [&blocks[..both], &more[..both]]) {
        return 0;
    }
    [one.state, other.state] = states;
    both
}

#[cfg(not(target_arch = "x86_64"))]
fn take_both(_: &mut Running, _: &[Block], _: &mut Running, _: &[Block]) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

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

        /// However both come in pieces, and whichever is fed alone.
        #[test]
        fn pieces_are_as_good_as_the_whole(pieces in prop::collection::vec((0_usize..300, 0_usize..300, any::<bool>()), 0..20)) {
            let (mut one, mut other) = (Running::default(), Running::default());
            let (mut all_of_one, mut all_of_other) = (Vec::new(), Vec::new());
            for (n, (a, b, alone)) in pieces.into_iter().enumerate() {
                let (a, b) = (bytes(a, n as u8), bytes(if alone { 0 } else { b }, !n as u8));
                if alone { one.update(&a) } else { Running::feed(&mut one, &a, &mut other, &b) }
                all_of_one.extend(a);
                all_of_other.extend(b);
            }
            prop_assert_eq!(one.finish(), <[u8; 32]>::from(Sha256::digest(&all_of_one)));
            prop_assert_eq!(other.finish(), <[u8; 32]>::from(Sha256::digest(&all_of_other)));
        }
    }
}

//! The compression function of SHA-256 (FIPS 180-4, section 6.2.2) for two messages in lockstep, with the instructions that
//! x86-64 has for it.
//!
//! Whether the processor has them is asked here too.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x, _mm_setzero_si128, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
};

use super::{BLOCK, Block, State};

/// Section 4.2.2.
const ROUNDS: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];

/// Takes blocks of both messages, as many of each as the shorter list has. False, and nothing is done, if the processor has no
/// instructions for it.
pub(super) fn take_both(states: &mut [State; 2], blocks: [&[Block]; 2]) -> bool {
    let available = is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1");
    if available {
        #[expect(
            unsafe_code,
            reason = "the processor was asked for the instructions; with two messages at once they do 1.4 to 1.8 times as much"
        )]
        // SAFETY: the features that the function is compiled for were found just above, and it has no other condition.
        unsafe {
            compress(states, blocks);
        }
    }
    available
}

/// Takes blocks of several messages, as many of each as the shortest list has.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
#[expect(clippy::many_single_char_names, reason = "the names of the standard (FIPS 180-4, section 6.2.2)")]
fn compress<const N: usize>(states: &mut [State; N], blocks: [&[Block]; N]) {
    // The instructions keep the eight words of a state in this order in two registers.
    let (mut abef, mut cdgh) = ([_mm_setzero_si128(); N], [_mm_setzero_si128(); N]);
    for n in 0..N {
        let [a, b, c, d, e, f, g, h] = states[n].map(u32::cast_signed);
        abef[n] = _mm_set_epi32(a, b, e, f);
        cdgh[n] = _mm_set_epi32(c, d, g, h);
    }
    let mut rest = blocks.map(|blocks| blocks.iter());
    while let Some(now) = next_of_each(&mut rest) {
        let before = (abef, cdgh);
        let mut words = [[_mm_setzero_si128(); 4]; N];
        for n in 0..N {
            words[n] = words_of(now[n]);
        }
        for (round, constants) in ROUNDS.iter().enumerate() {
            let [k0, k1, k2, k3] = constants.map(u32::cast_signed);
            let constants = _mm_set_epi32(k3, k2, k1, k0);
            for n in 0..N {
                let sum = _mm_add_epi32(words[n][round % 4], constants);
                cdgh[n] = _mm_sha256rnds2_epu32(cdgh[n], abef[n], sum);
                abef[n] = _mm_sha256rnds2_epu32(abef[n], cdgh[n], _mm_shuffle_epi32(sum, 0x0e));
                if round < 12 {
                    words[n][round % 4] = next_words(&words[n], round);
                }
            }
        }
        for n in 0..N {
            abef[n] = _mm_add_epi32(abef[n], before.0[n]);
            cdgh[n] = _mm_add_epi32(cdgh[n], before.1[n]);
        }
    }
    for n in 0..N {
        states[n] = [
            _mm_extract_epi32(abef[n], 3),
            _mm_extract_epi32(abef[n], 2),
            _mm_extract_epi32(cdgh[n], 3),
            _mm_extract_epi32(cdgh[n], 2),
            _mm_extract_epi32(abef[n], 1),
            _mm_extract_epi32(abef[n], 0),
            _mm_extract_epi32(cdgh[n], 1),
            _mm_extract_epi32(cdgh[n], 0),
        ]
        .map(i32::cast_unsigned);
    }
}

/// The next block of each message; none if one of them has no more.
#[inline]
fn next_of_each<'a, const N: usize>(rest: &mut [std::slice::Iter<'a, Block>; N]) -> Option<[&'a Block; N]> {
    let mut blocks = [&[0; BLOCK]; N];
    for (block, rest) in blocks.iter_mut().zip(rest) {
        *block = rest.next()?;
    }
    Some(blocks)
}

/// The sixteen big-endian words of a block.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn words_of(block: &Block) -> [__m128i; 4] {
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut words = [_mm_setzero_si128(); 4];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<16>().0) {
        let number = u128::from_le_bytes(*bytes);
        *word = _mm_shuffle_epi8(_mm_set_epi64x((number >> 64) as i64, number as i64), swap);
    }
    words
}

/// The four words of the message schedule that come sixteen after those of this round.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn next_words(words: &[__m128i; 4], round: usize) -> __m128i {
    let [oldest, second, third, latest] = [0, 1, 2, 3].map(|ahead| words[(round + ahead) % 4]);
    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(oldest, second), _mm_alignr_epi8(latest, third, 4));
    _mm_sha256msg2_epu32(sum, latest)
}

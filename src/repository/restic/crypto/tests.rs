//! Tests of encryption: known answers, slow definitions, changed bits.
//!
//! Compression and files are not in here.

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn key(encryption: &str, k: &str, r: &str) -> MasterKey {
    MasterKey::from_bytes(&[bytes(encryption), bytes(k), bytes(r)].concat().try_into().unwrap())
}

const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The vectors of the paper that the design document names (message, r, k, nonce, MAC).
const POLY1305_AES: [[&str; 5]; 4] = [
    [
        "f3f6",
        "851fc40c3467ac0be05cc20404f3f700",
        "ec074c835580741701425b623235add6",
        "fb447350c4e868c52ac3275cf9d4327e",
        "f4c633c3044fc145f84f335cb81953de",
    ],
    [
        "",
        "a0f3080000f46400d0c7e9076c834403",
        "75deaa25c09f208e1dc4ce6b5cad3fbf",
        "61ee09218d29b0aaed7e154a2c5509cc",
        "dd3fab2251f11ac759f0887129cc2ee7",
    ],
    [
        "663cea190ffb83d89593f3f476b6bc24d7e679107ea26adb8caf6652d0656136",
        "48443d0bb0d21109c89a100b5ce2c208",
        "6acb5f61a7176dd320c5c1eb2edcdc74",
        "ae212a55399729595dea458bc621ff0e",
        "0ee1c16bb73f0f4fd19881753c01cdbe",
    ],
    [
        "ab0812724a7f1e342742cbed374d94d136c6b8795d45b3819830f2c04491faf0990c62e48b8018b2c3e4a0fa3134cb67fa83e158c994d961c4cb21095c1bf9",
        "12976a08c4426d0ce8a82407c4f48207",
        "e1a5668a4d5b66a5f68cc5424ed5982d",
        "9ae831e743978d3a23527c7128149e3a",
        "5154ad0d2cb26e01274fc51148491f1b",
    ],
];

#[test]
fn macs_of_the_paper() {
    for [message, r, k, nonce, mac] in POLY1305_AES {
        let key = key(ZERO, k, r);
        let found = finish(key.authenticator(bytes(nonce).try_into().unwrap()), &bytes(message));
        assert_eq!(found.to_vec(), bytes(mac), "{message}");
    }
}

/// What restic's own tests hold to be right.
#[test]
fn opens_and_makes_what_restic_sealed() {
    let key = key(
        "303e8687b1d7db18421bdc6bb8588ccadac4d59ee87b8ff70c44e635790cafef",
        "ef4d8824cb80b2bcc5fbff8a9b12a42c",
        "cc8d4b948ee0ebfe1d415de921d10353",
    );
    let sealed = bytes("69fb41c62d12def4593bd71757138606338f621aeaeb39da0fe4f99233f8037a54ea63338a813bcf3f75d8c3cc75dddf8750");
    let mut again = Vec::new();
    key.seal_with(sealed[..16].try_into().unwrap(), b"Dies ist ein Test!", &mut again);
    assert_eq!(again, sealed);
    assert_eq!(key.open(&mut again).unwrap(), b"Dies ist ein Test!");
}

#[test]
fn what_was_sealed_is_compared_piece_by_piece() {
    let key = MasterKey::generate().unwrap();
    for length in [0, 1, 15, 16, 17, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 21] {
        let plain: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
        let mut sealed = Vec::new();
        key.seal(&plain, &mut sealed).unwrap();
        assert!(key.seals(&sealed, &plain), "{length}");
        for at in [0, 15, 16, 16 + length / 2, 15 + length, 16 + length, 31 + length] {
            let mut wrong = sealed.clone();
            wrong[at] ^= 0x10;
            assert!(!key.seals(&wrong, &plain), "{length} {at}");
        }
        for at in [0, length / 2, length.saturating_sub(1)].into_iter().filter(|at| *at < length) {
            let mut other = plain.clone();
            other[at] ^= 1;
            assert!(!key.seals(&sealed, &other), "{length} {at}");
        }
        assert!(!key.seals(&sealed, &[&plain[..], b"x"].concat()));
        assert!(!key.seals(&sealed[..sealed.len() - 1], &plain));
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let key = MasterKey::generate().unwrap();
    let mut sealed = Vec::new();
    key.seal(b"some text that fills a block", &mut sealed).unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let before = changed.clone();
        assert_eq!(key.open(&mut changed), Err(CryptoError::Unauthentic), "bit {bit}");
        assert_eq!(changed, before);
    }
    for length in 0..OVERHEAD {
        assert_eq!(key.open(&mut sealed[..length].to_vec()), Err(CryptoError::TooShort));
    }
    let longer = [&sealed[..], b"x"].concat();
    assert_eq!(key.open(&mut longer.clone()), Err(CryptoError::Unauthentic));
    assert_eq!(MasterKey::generate().unwrap().open(&mut sealed), Err(CryptoError::Unauthentic));
}

#[test]
fn nonces_differ() {
    let key = MasterKey::generate().unwrap();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    key.seal(b"", &mut one).unwrap();
    key.seal(b"", &mut two).unwrap();
    assert_eq!(one.len(), OVERHEAD);
    assert_ne!(one[..16], two[..16]);
}

/// Poly1305 as its definition reads, over slow big numbers: an oracle for all lengths around blocks and pieces.
fn slow_poly1305(r: [u8; 16], pad: [u8; 16], message: &[u8]) -> [u8; 16] {
    // Numbers are little-endian in 13 digits of 10 bits: 2^130 is just past the last.
    const DIGITS: usize = 13;
    fn digits(bytes: &[u8]) -> [u64; DIGITS] {
        let mut number = [0; DIGITS];
        for (bit, set) in bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1)).enumerate() {
            if set == 1 {
                number[bit / 10] |= 1 << (bit % 10);
            }
        }
        number
    }
    fn carry(number: &mut [u64; DIGITS]) {
        for _ in 0..3 {
            let mut over = 0;
            for digit in number.iter_mut() {
                *digit += over;
                over = *digit >> 10;
                *digit &= 1023;
            }
            number[0] += over * 5;
        }
    }
    let mut clamped = r;
    for at in [3, 7, 11, 15] {
        clamped[at] &= 0x0f;
    }
    for at in [4, 8, 12] {
        clamped[at] &= 0xfc;
    }
    let r = digits(&clamped);
    let mut sum = [0; DIGITS];
    for block in message.chunks(16) {
        let block = digits(&[block, &[1]].concat());
        let mut product = [0; DIGITS];
        for i in 0..DIGITS {
            for j in 0..DIGITS {
                let term = (sum[i] + block[i]) * r[j];
                product[(i + j) % DIGITS] += if i + j >= DIGITS { term * 5 } else { term };
            }
        }
        carry(&mut product);
        sum = product;
    }
    // Below 2^130 now; once more below 2^130 - 5.
    let mut reduced = sum;
    reduced[0] += 5;
    let mut over = 0;
    for digit in &mut reduced {
        *digit += over;
        over = *digit >> 10;
        *digit &= 1023;
    }
    let number = if over > 0 { reduced } else { sum };
    let mut low = 0_u128;
    for (at, digit) in number.iter().enumerate() {
        low = low.wrapping_add(u128::from(*digit) << (at * 10));
    }
    low.wrapping_add(u128::from_le_bytes(pad)).to_le_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn seals_as_defined_at_every_length(key in any::<[u8; 32]>().prop_flat_map(|a| any::<[u8; 32]>().prop_map(move |b| [a, b].concat())),
                                        nonce: [u8; 16], length in prop_oneof![0..200_usize, PIECE - 40..PIECE + 40, 0..3 * PIECE], seed: u8) {
        let key = MasterKey::from_bytes(&key.try_into().unwrap());
        let plain: Vec<u8> = (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        let mut out = b"before".to_vec();
        key.seal_with(nonce, &plain, &mut out);
        prop_assert_eq!(&out[..6], b"before");
        let mut sealed = out.split_off(6);
        prop_assert_eq!(sealed.len(), plain.len() + OVERHEAD);

        let mut pad = aes::Block::from(nonce);
        Aes128::new(&key.mac_k.into()).encrypt_block(&mut pad);
        let expected = slow_poly1305(key.mac_r, pad.into(), &sealed[16..sealed.len() - 16]);
        prop_assert_eq!(&sealed[sealed.len() - 16..], &expected);

        // Counter mode by hand: the nonce is a big-endian number of 128 bits that goes up by one.
        for (index, block) in sealed[16..16 + length].chunks(16).enumerate().step_by(7) {
            let mut stream = aes::Block::from(u128::from_be_bytes(nonce).wrapping_add(index as u128).to_be_bytes());
            Aes256::new(&key.encryption.into()).encrypt_block(&mut stream);
            for (at, byte) in block.iter().enumerate() {
                prop_assert_eq!(byte ^ stream[at], plain[index * 16 + at]);
            }
        }
        prop_assert_eq!(key.open(&mut sealed).unwrap(), &plain[..]);
    }
}

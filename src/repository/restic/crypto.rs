//! Encryption and authentication of everything in a repository (design document, section "Keys, Encryption and MAC"):
//! AES-256 in counter mode and Poly1305-AES over the ciphertext.
//!
//! How passwords become keys is `key`'s business, what is encrypted everybody else's.

use aes::Aes128;
use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use ctr::Ctr128BE;
use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes that [`MasterKey::seal`] adds: the nonce before and the MAC after the ciphertext.
pub const OVERHEAD: usize = NONCE + MAC;

const NONCE: usize = 16;
const MAC: usize = 16;
const BLOCK: usize = 16;

/// Both passes, over cipher and MAC, are made on pieces of this size, so that the second finds its data in the nearest cache.
const PIECE: usize = 16 * 1024;

/// What can go wrong with keys and sealed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// Sealed data shorter than nonce and MAC together.
    #[error("too short to be encrypted data")]
    TooShort,
    /// The MAC does not match: another key made it, or it was changed since.
    #[error("authentication failed")]
    Unauthentic,
    /// The kernel gave no random bytes.
    #[error("no random bytes from the operating system")]
    NoRandomness,
}

impl CryptoError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        self == Self::NoRandomness
    }
}

/// Fills `bytes` from the kernel's generator.
///
/// # Errors
/// [`CryptoError::NoRandomness`]
pub fn random(bytes: &mut [u8]) -> Result<(), CryptoError> {
    getrandom::fill(bytes).map_err(|_| CryptoError::NoRandomness)
}

/// The keys that encrypt and authenticate: the master keys of a repository, or what a password was turned into.
/// Never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey {
    encryption: [u8; 32],
    /// The AES-128 key that makes one-time pads of nonces.
    mac_k: [u8; 16],
    /// The polynomial evaluation point; its forbidden bits are masked at every use, as stored keys may have them set.
    mac_r: [u8; 16],
}

impl MasterKey {
    /// Makes new random keys.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`]
    pub fn generate() -> Result<Self, CryptoError> {
        let mut bytes = [0; 64];
        random(&mut bytes)?;
        let key = Self::from_bytes(&bytes);
        bytes.zeroize();
        Ok(key)
    }

    /// Takes the keys from 64 bytes: 32 for encryption, then `k` and `r` of the MAC.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let mut key = Self { encryption: [0; 32], mac_k: [0; 16], mac_r: [0; 16] };
        key.encryption.copy_from_slice(&bytes[..32]);
        key.mac_k.copy_from_slice(&bytes[32..48]);
        key.mac_r.copy_from_slice(&bytes[48..]);
        key
    }

    /// The encryption key, for the key file.
    pub(super) fn encryption(&self) -> &[u8; 32] {
        &self.encryption
    }

    /// The MAC's `k` and `r`, for the key file.
    pub(super) fn mac(&self) -> (&[u8; 16], &[u8; 16]) {
        (&self.mac_k, &self.mac_r)
    }

    /// Whether no part is all zeroes, as it would be if a key file left it out.
    pub(super) fn is_plausible(&self) -> bool {
        self.encryption != [0; 32] && self.mac_k != [0; 16] && self.mac_r != [0; 16]
    }

    /// Appends nonce, ciphertext and MAC of `plain` to `out`: [`OVERHEAD`] bytes more than `plain` has.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`]; then `out` is as it was.
    pub fn seal(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), CryptoError> {
        let mut nonce = [0; NONCE];
        random(&mut nonce)?;
        self.seal_with(nonce, plain, out);
        Ok(())
    }

    fn seal_with(&self, nonce: [u8; NONCE], plain: &[u8], out: &mut Vec<u8>) {
        let length = plain.len() + OVERHEAD;
        if length > out.capacity() - out.len() {
            // Packs are many and large: twice the room, as is usual, would be up to twice the memory.
            out.reserve_exact(length.max(out.len() / 4));
        }
        out.extend_from_slice(&nonce);
        let mut cipher = self.cipher(nonce);
        let mut mac = self.authenticator(nonce);
        // Whole pieces are whole blocks too, so only the last piece may leave an unfinished block to the MAC.
        let mut pieces = plain.chunks_exact(PIECE);
        for piece in &mut pieces {
            let start = out.len();
            out.extend_from_slice(piece);
            cipher.apply_keystream(&mut out[start..]);
            mac.update(poly1305::Block::slice_as_chunks(&out[start..]).0);
        }
        let start = out.len();
        out.extend_from_slice(pieces.remainder());
        cipher.apply_keystream(&mut out[start..]);
        let tag = finish(mac, &out[start..]);
        out.extend_from_slice(&tag);
    }

    /// Authenticates and then decrypts in place; gives the plain part of `sealed`.
    ///
    /// # Errors
    /// [`CryptoError::TooShort`] and [`CryptoError::Unauthentic`]; `sealed` is unchanged then.
    pub fn open<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], CryptoError> {
        let (nonce, rest) = sealed.split_first_chunk_mut::<NONCE>().ok_or(CryptoError::TooShort)?;
        let (body, tag) = rest.split_last_chunk_mut::<MAC>().ok_or(CryptoError::TooShort)?;
        let expected = finish(self.authenticator(*nonce), body);
        // In constant time, so that the time tells nothing of the expected MAC.
        let difference = expected.iter().zip(tag.iter()).fold(0, |sum, (a, b)| sum | (a ^ b));
        if std::hint::black_box(difference) != 0 {
            return Err(CryptoError::Unauthentic);
        }
        self.cipher(*nonce).apply_keystream(body);
        Ok(body)
    }

    /// Whether `sealed` is authentic and decrypts to `plain`, which is compared piece by piece: nothing is kept.
    pub fn seals(&self, sealed: &[u8], plain: &[u8]) -> bool {
        let Some((nonce, rest)) = sealed.split_first_chunk::<NONCE>() else { return false };
        let Some((body, tag)) = rest.split_last_chunk::<MAC>() else { return false };
        if body.len() != plain.len() {
            return false;
        }
        let mut cipher = self.cipher(*nonce);
        let mut mac = self.authenticator(*nonce);
        let mut decrypted = [0; PIECE];
        let mut same = true;
        let mut decrypts = |body: &[u8], plain: &[u8]| {
            let decrypted = &mut decrypted[..body.len()];
            cipher.apply_keystream_b2b(body, decrypted);
            decrypted == plain
        };
        let (mut pieces, mut plain_pieces) = (body.chunks_exact(PIECE), plain.chunks_exact(PIECE));
        for (piece, plain) in (&mut pieces).zip(&mut plain_pieces) {
            mac.update(poly1305::Block::slice_as_chunks(piece).0);
            same &= decrypts(piece, plain);
        }
        same &= decrypts(pieces.remainder(), plain_pieces.remainder());
        same && finish(mac, pieces.remainder()) == *tag
    }

    fn cipher(&self, nonce: [u8; NONCE]) -> Ctr128BE<Aes256> {
        Ctr128BE::<Aes256>::new(&self.encryption.into(), &nonce.into())
    }

    fn authenticator(&self, nonce: [u8; NONCE]) -> Poly1305 {
        let mut pad = aes::Block::from(nonce);
        Aes128::new(&self.mac_k.into()).encrypt_block(&mut pad);
        let mut key = [0; 32];
        key[..BLOCK].copy_from_slice(&self.mac_r);
        key[BLOCK..].copy_from_slice(&pad);
        let mac = Poly1305::new(&key.into());
        key.zeroize();
        mac
    }
}

/// Takes the last piece, whose last block may be unfinished, and gives the MAC.
fn finish(mut mac: Poly1305, last: &[u8]) -> [u8; MAC] {
    let (blocks, unfinished) = poly1305::Block::slice_as_chunks(last);
    mac.update(blocks);
    mac.compute_unpadded(unfinished).into()
}

#[cfg(test)]
mod tests;

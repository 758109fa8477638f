//! Tests of blobs going in and out, of bombs and wrong announcements.
//!
//! Encryption alone is tested with `crypto`.

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn noise(length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    super::super::crypto::random(&mut data).unwrap();
    data
}

fn text(length: usize) -> Vec<u8> {
    (0..).flat_map(|n: u32| format!("line {n} of a file that can be compressed\n").into_bytes()).take(length).collect()
}

const MODES: [Compression; 7] = [
    Compression::Off,
    Compression::Fastest,
    Compression::Auto,
    Compression::Better,
    Compression::Max,
    Compression::Level(-7),
    Compression::Level(22),
];

#[test]
fn every_blob_comes_back() {
    let key = MasterKey::generate().unwrap();
    let mut decoder = Decoder::new();
    for compression in MODES {
        for version in [1, 2] {
            let mut encoder = Encoder::new(compression, version, true).under(&Control::new());
            for plain in [Vec::new(), vec![7], text(100), text(300_000), noise(100), noise(300_000), vec![0; 1 << 20], text(3 * PIECE)] {
                for kind in [BlobKind::Data, BlobKind::Tree] {
                    let mut out = b"before".to_vec();
                    let encoded = encoder.encode(&key, kind, &plain, &mut out).unwrap();
                    assert_eq!(&out[..6], b"before");
                    let mut sealed = out.split_off(6);
                    assert_eq!(sealed.len(), encoded.length as usize);
                    match encoded.uncompressed {
                        None => assert_eq!(sealed.len(), plain.len() + OVERHEAD),
                        Some(length) => {
                            assert_eq!(length.get() as usize, plain.len());
                            assert!(sealed.len() < plain.len() + OVERHEAD);
                        }
                    }
                    if compression == Compression::Off && kind == BlobKind::Data || version == 1 {
                        assert_eq!(encoded.uncompressed, None);
                    } else if plain.starts_with(b"line ") && plain.len() > 1000 {
                        assert!(encoded.uncompressed.is_some());
                    }
                    let mut again = b"left over".to_vec();
                    decoder.decode(&key, &mut sealed, encoded.uncompressed, &mut again).unwrap();
                    assert_eq!(again, plain);
                }
            }
        }
    }
}

#[test]
fn auto_knows_noise_from_data() {
    assert!(looks_incompressible(&noise(1 << 20)));
    assert!(looks_incompressible(&noise(40_000)));
    assert!(!looks_incompressible(&text(1 << 20)));
    assert!(!looks_incompressible(&vec![0; 1 << 20]));
    // Base 64 and floating point numbers look like noise to people only.
    let base64: Vec<u8> = noise(1 << 20).iter().map(|byte| b'0' + (byte & 63)).collect();
    assert!(!looks_incompressible(&base64));
    // Repeated noise is stored once even though it looks incompressible.
    let key = MasterKey::generate().unwrap();
    let mut out = Vec::new();
    let encoded = Encoder::new(Compression::Auto, 2, true).encode(&key, BlobKind::Data, &noise(100_000).repeat(8), &mut out).unwrap();
    assert!(encoded.length < 150_000, "{encoded:?}");
}

#[test]
fn wrong_announcements_are_refused() {
    let key = MasterKey::generate().unwrap();
    let plain = text(100_000);
    let mut sealed = Vec::new();
    let encoded = Encoder::new(Compression::Auto, 2, true).encode(&key, BlobKind::Data, &plain, &mut sealed).unwrap();
    let decode = |uncompressed: u32, sealed: &[u8]| {
        let mut out = Vec::new();
        let result = Decoder::new().decode(&key, &mut sealed.to_vec(), NonZeroU32::new(uncompressed), &mut out);
        assert!(out.capacity() <= 2 * plain.len(), "{}", out.capacity());
        result
    };
    let length = encoded.uncompressed.unwrap().get();
    assert_eq!(decode(length, &sealed), Ok(()));
    assert_eq!(decode(length - 1, &sealed), Err(DecodeError::Length));
    assert_eq!(decode(length + 1, &sealed), Err(DecodeError::Length));
    // Compressed, but announced as raw: what comes out is not the blob, which its hash tells.
    assert_eq!(decode(0, &sealed), Ok(()));

    let mut raw = Vec::new();
    key.seal(&plain, &mut raw).unwrap();
    assert_eq!(decode(length, &raw), Err(DecodeError::Compression));
    assert_eq!(decode(length, &sealed[..20]), Err(DecodeError::Crypto(CryptoError::TooShort)));
    assert_eq!(decode(length, &sealed[1..]), Err(DecodeError::Crypto(CryptoError::Unauthentic)));
}

/// A stream without its length in the head, as some programs write it.
fn streamed(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut writer = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    for piece in plain.chunks(1000) {
        writer.write_all(piece).unwrap();
        writer.flush().unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn bombs_do_not_go_off() {
    let key = MasterKey::generate().unwrap();
    let bomb = streamed(&vec![0; 50_000_000]);
    assert!(bomb.len() < 2_000_000);
    let mut sealed = Vec::new();
    key.seal(&bomb, &mut sealed).unwrap();
    let mut out = Vec::new();
    let result = Decoder::new().decode(&key, &mut sealed, NonZeroU32::new(1000), &mut out);
    assert_eq!(result, Err(DecodeError::Compression));
    assert!(out.capacity() < 10_000);
}

#[test]
fn documents() {
    let mut decoder = Decoder::new();
    for plain in [Vec::new(), text(10), text(1_000_000)] {
        assert_eq!(decoder.decompress_document(&streamed(&plain)).unwrap(), plain);
        let whole = zstd::bulk::compress(&plain, 3).unwrap();
        assert_eq!(decoder.decompress_document(&whole).unwrap(), plain);
    }
    let cut = streamed(&text(100_000));
    for length in [0, 1, 3, 10, 500, cut.len() - 1] {
        assert!(decoder.decompress_document(&cut[..length]).is_err(), "{length}");
    }
    assert!(decoder.decompress_document(b"\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    assert!(decoder.decompress_document(b"plain").is_err());
}

#[test]
fn verification_finds_flipped_bits() {
    let key = MasterKey::generate().unwrap();
    let mut verifier = Verifier { decoder: Decoder::new(), plain: Vec::new() };
    let plain = text(40_000);
    let compressed = zstd::bulk::compress(&plain, 3).unwrap();
    let length = NonZeroU32::new(40_000);
    for (stored, length) in [(&plain, None), (&compressed, length)] {
        let mut sealed = Vec::new();
        key.seal(stored, &mut sealed).unwrap();
        let mut verify = |sealed: &[u8], stored: &[u8], plain: &[u8]| verifier.verify(&key, sealed, stored, length, plain, BlobKind::Data);
        verify(&sealed, stored, &plain).unwrap();
        for at in [0, 20, sealed.len() / 2, sealed.len() - 17, sealed.len() - 1] {
            let mut wrong = sealed.clone();
            wrong[at] ^= 1;
            assert!(matches!(verify(&wrong, stored, &plain), Err(RepositoryError::Corrupted { .. })), "{at}");
        }
        // What was encrypted is not what was to be.
        let mut other = stored.clone();
        other[stored.len() / 2] ^= 1;
        assert!(verify(&sealed, &other, &plain).is_err());
        let mut sealed_other = Vec::new();
        key.seal(&other, &mut sealed_other).unwrap();
        assert!(verify(&sealed_other, &other, &plain).is_err());
        let mut different = plain.clone();
        different[39_999] ^= 1;
        assert!(verify(&sealed, stored, &different).is_err());
        assert!(verify(&sealed[..sealed.len() - 1], stored, &plain).is_err());
    }
    assert!(!key.seals(b"short", b""));
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(stored in proptest::collection::vec(any::<u8>(), 0..300), flip in any::<(usize, u8)>(), announced in 0..5000_u32) {
        let key = MasterKey::generate().unwrap();
        let mut compressed = zstd::bulk::compress(&stored.repeat(5), 3).unwrap();
        let at = flip.0 % compressed.len();
        compressed[at] ^= flip.1;
        for bytes in [&stored, &compressed] {
            drop(Decoder::new().decompress_document(bytes));
            let mut sealed = Vec::new();
            key.seal(bytes, &mut sealed).unwrap();
            let mut out = Vec::new();
            if Decoder::new().decode(&key, &mut sealed, NonZeroU32::new(announced), &mut out).is_ok() && announced > 0 {
                prop_assert_eq!(out.len(), announced as usize);
            }
        }
    }
}

#[test]
fn a_cancel_is_heard_inside_a_blob_that_takes_long() {
    let key = MasterKey::generate().unwrap();
    let plain: Vec<u8> = noise(USUAL).iter().map(|byte| b"etaoinsh"[usize::from(byte % 8)]).collect();
    let control = Control::new();
    let mut encoder = Encoder::new(Compression::Level(22), 2, true).under(&control);
    let mut out = b"before".to_vec();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            control.cancel();
        });
        // Nothing else in it could end it: all at once it takes seconds and succeeds.
        let encoded = encoder.encode(&key, BlobKind::Data, &plain, &mut out);
        assert!(matches!(encoded, Err(RepositoryError::Cancelled)), "{encoded:?}");
    });
    assert_eq!(out, b"before");
    // What is left of it does not spoil the next one.
    encoder.control = None;
    let small = text(2 * PIECE);
    let encoded = encoder.encode(&key, BlobKind::Data, &small, &mut out).unwrap();
    let mut again = Vec::new();
    Decoder::new().decode(&key, &mut out[6..], encoded.uncompressed, &mut again).unwrap();
    assert_eq!(again, small);
}

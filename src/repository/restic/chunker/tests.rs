//! Tests of the chunker: against the definition, restic's own polynomials, and planted ends.
//!
//! That real files are cut as restic cuts them is tested with `state`.

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

/// The polynomial of restic's own tests.
const POLYNOMIAL: Polynomial = Polynomial(0x003D_A335_8B4D_C173);

/// The definition, byte by byte and without tables: an end is where the window's value modulo the polynomial ends in 20 zeroes.
fn slow_cut(polynomial: Polynomial, data: &[u8]) -> usize {
    let mut fingerprint = 0;
    let multiply = |value: u64, byte: u8| Polynomial(value << 8 | u64::from(byte)).modulo(polynomial).0;
    // x^(8 * 64): what a byte is multiplied by once it has left.
    let left: Vec<u64> = (0..=255).map(|byte| (0..WINDOW).fold(multiply(0, byte), |value, _| multiply(value, 0))).collect();
    for (index, byte) in data.iter().enumerate().skip(MIN_SIZE - WINDOW) {
        let length = index + 1;
        fingerprint = multiply(fingerprint, *byte);
        if index >= MIN_SIZE {
            fingerprint ^= left[usize::from(data[index - WINDOW])];
        }
        if (length >= MIN_SIZE && fingerprint & MASK == 0) || length == MAX_SIZE {
            return length;
        }
    }
    data.len()
}

/// Noise that is the same on every machine.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    };
    let mut data: Vec<u8> = (0..=length / 8).flat_map(|_| next().to_le_bytes()).collect();
    data.truncate(length);
    data
}

/// `data` whose windows before each of `ends` are an end of a chunk.
fn with_ends(mut data: Vec<u8>, polynomial: Polynomial, ends: &[usize]) -> Vec<u8> {
    let chunker = Chunker::new(polynomial);
    for end in ends {
        // Fingerprints are sums of what each bit gives, so the last eight bytes can make up for the others.
        let window = &mut data[end - WINDOW..*end];
        window[WINDOW - 8..].fill(0);
        let mut rest = chunker.fingerprint(window) & MASK;
        // What each of the last 20 bits of the window gives is itself, as nothing overflows there.
        for byte in window[WINDOW - 3..].iter_mut().rev() {
            *byte = rest as u8;
            rest >>= 8;
        }
        assert_eq!(chunker.fingerprint(window) & MASK, 0);
    }
    data
}

#[test]
fn zeroes_end_at_the_shortest() {
    // As restic: an empty window is an end. The last chunk of a file has no lower limit.
    let chunker = Chunker::new(POLYNOMIAL);
    let data = vec![0; 4 * MIN_SIZE + 5];
    assert_eq!(chunker.cut(&data), MIN_SIZE);
    assert_eq!(chunker.cut(&data[..=MIN_SIZE]), MIN_SIZE);
    assert_eq!(chunker.cut(&data[..MIN_SIZE]), MIN_SIZE);
    assert_eq!(chunker.cut(&data[..5]), 5);
    assert_eq!(chunker.cut(&[]), 0);
}

#[test]
fn nothing_is_longer_than_the_longest() {
    // 0xff in every place has one fingerprint, which is no end.
    let data = vec![0xff; MAX_SIZE + 4096];
    let chunker = Chunker::new(POLYNOMIAL);
    assert_eq!(chunker.cut(&data), MAX_SIZE);
    assert_eq!(chunker.cut(&data[..MAX_SIZE - 1]), MAX_SIZE - 1);
}

#[test]
fn ends_are_found_wherever_they_are() {
    let chunker = Chunker::new(POLYNOMIAL);
    let block = LANES * STRETCH;
    let near = |at: usize| [at.saturating_sub(1), at, at + 1];
    let places = (0..=2 * LANES).map(|n| n * STRETCH).chain([2 * block + 77, MAX_SIZE - MIN_SIZE - 1]).flat_map(near);
    for offset in places.filter(|offset| MIN_SIZE + offset <= MAX_SIZE) {
        let end = MIN_SIZE + offset;
        // What ends sooner than allowed, and what ends later, must not count.
        let ends: &[usize] = if end + 2 * WINDOW <= MAX_SIZE { &[MIN_SIZE - WINDOW, end, end + WINDOW] } else { &[end] };
        let data = with_ends(vec![0xff; MAX_SIZE], POLYNOMIAL, ends);
        assert_eq!(chunker.cut(&data), end, "offset {offset}");
    }
}

#[test]
fn polynomials() {
    // From restic's tests.
    for (polynomial, irreducible) in [
        (0x0038_f1e5_65e2_88df, false),
        (0x003d_a335_8b4d_c173, true),
        (0x0030_a829_5b9d_5c91, false),
        (0x0025_5f43_50b9_62cb, false),
        (0x0026_7f77_6110_a235, false),
        (0x002f_4dae_10d4_1227, false),
        (0x0024_8273_4cac_ca49, true),
        (0x0031_2daf_4b28_4899, false),
        (0x0b, true),
        (0x07, true),
        (0x05, false),
        (0x01, false),
        (0x00, false),
    ] {
        assert_eq!(Polynomial(polynomial).is_irreducible(), irreducible, "{polynomial:x}");
    }
    let random = Polynomial::random().unwrap();
    assert_eq!(random.0 >> 53, 1);
    assert!(random.is_usable());
    assert!(!Polynomial(0x0b).is_usable());
    assert_eq!(random.to_string().parse(), Ok(random));
    assert_eq!("25b468838dcb75".parse(), Ok(Polynomial(0x25_b468_838d_cb75)));
    for bad in ["", "0x12", "+1", "-1", " 1", "g", "12345678123456789"] {
        assert_eq!(bad.parse::<Polynomial>(), Err(PolynomialError), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn cuts_as_defined(seed: u64, length in 0..3 * 1024 * 1024_usize, repeated in 1..9_usize) {
        let polynomial = Polynomial::random().unwrap();
        let chunker = Chunker::new(polynomial);
        let data = noise(seed, length / repeated).repeat(repeated);
        let mut rest = &data[..];
        while !rest.is_empty() {
            let cut = chunker.cut(rest);
            prop_assert_eq!(cut, slow_cut(polynomial, rest));
            prop_assert!(cut > 0);
            rest = &rest[cut..];
        }
    }
    #[test]
    fn the_same_cuts_piece_by_piece(seed: u64, length in 0..12 * 1024 * 1024_usize, step in 1..2 * 1024 * 1024_usize) {
        let chunker = Chunker::new(Polynomial::random().unwrap());
        // The second half is zeroes, which cut only at the longest or the shortest.
        let mut data = noise(seed, length / 2);
        data.resize(length, 0);
        let (mut start, mut end, mut scanned) = (0, 0, 0);
        while start < data.len() {
            let cut = chunker.find_cut(&data[start..end], scanned).or((end == data.len()).then_some(end - start));
            if let Some(cut) = cut {
                prop_assert_eq!(cut, chunker.cut(&data[start..]));
                (start, scanned) = (start + cut, 0);
            } else {
                scanned = end - start;
                end = (end + step).min(data.len());
            }
        }
    }

    #[test]
    fn the_same_cuts_in_ranges(seed: u64, parts in prop::collection::vec((0..5_u8, 0..4 * 1024 * 1024_usize), 1..6), range in 1..3 * 1024 * 1024_usize) {
        let polynomial = Polynomial::random().unwrap();
        let chunker = Chunker::new(polynomial);
        let mut data = Vec::new();
        for (number, (kind, length)) in parts.into_iter().enumerate() {
            match kind {
                0 => data.resize(data.len() + length, 0),
                1 => data.resize(data.len() + length, 0xff),
                2 => data.extend(with_ends(noise(seed, length.max(4096)), polynomial, &[WINDOW, 700, 701, 4096])),
                _ => data.extend(noise(seed.wrapping_add(number as u64), length)),
            }
        }
        let (mut cuts, mut start, mut at) = (Cuts::default(), 0, 0);
        while at < data.len() {
            let (before, to) = (at.min(WINDOW), data.len().min(at + range));
            let ends = chunker.ends(&data[at - before..to]);
            cuts.add(at as u64, &ends.into_iter().map(|(first, last)| (first - before, last - before)).collect::<Vec<_>>());
            while let Some(length) = cuts.next_length(to - start, to == data.len()) {
                prop_assert_eq!(length, chunker.cut(&data[start..]), "at {}", start);
                start += length;
            }
            at = to;
        }
        prop_assert_eq!(start, data.len());
    }
}

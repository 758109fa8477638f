//! Reads the text of a file of patterns: its encoding and the variables in it.
//!
//! What a line means is the parent module's.

/// Turns UTF-16 with a byte order mark into UTF-8 and drops the mark of UTF-8; everything else stays as it is.
pub(super) fn to_utf8(bytes: Vec<u8>) -> Vec<u8> {
    let decode = |rest: &[u8], unit: fn([u8; 2]) -> u16| -> Vec<u8> {
        let units = rest.chunks(2).map(|pair| unit([pair[0], pair.get(1).copied().unwrap_or(0)]));
        char::decode_utf16(units).map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>().into_bytes()
    };
    match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, rest @ ..] => rest.to_vec(),
        [0xff, 0xfe, rest @ ..] => decode(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => decode(rest, u16::from_be_bytes),
        _ => bytes,
    }
}

/// Replaces `$NAME`, `${NAME}` and `$$`. A dollar sign before anything else stays.
pub(super) fn expand(line: &[u8], lookup: &dyn Fn(&str) -> Option<String>) -> Result<Vec<u8>, String> {
    let mut expanded = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(dollar) = rest.iter().position(|byte| *byte == b'$') {
        expanded.extend_from_slice(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let name = match rest.first() {
            Some(b'$') => {
                expanded.push(b'$');
                rest = &rest[1..];
                continue;
            }
            Some(b'{') => {
                let close = rest.iter().position(|byte| *byte == b'}').ok_or("a `${` without its `}`")?;
                let name = &rest[1..close];
                rest = &rest[close + 1..];
                name
            }
            Some(byte) if byte.is_ascii_alphabetic() || *byte == b'_' => {
                let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(rest.len());
                let name = &rest[..end];
                rest = &rest[end..];
                name
            }
            _ => {
                expanded.push(b'$');
                continue;
            }
        };
        let name = str::from_utf8(name).map_err(|_| "a variable's name that is not UTF-8")?;
        let value = lookup(name).ok_or_else(|| format!("the variable {name} is not set (a dollar sign itself is `$$`)"))?;
        expanded.extend_from_slice(value.as_bytes());
    }
    expanded.extend_from_slice(rest);
    Ok(expanded)
}

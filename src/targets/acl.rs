//! POSIX ACLs as text, as tar archives hold them; Linux keeps them in extended attributes in a form of its own.
//!
//! Owners stay numbers: a name would mean somebody else on another machine.

/// The records of a tar archive in which ACLs stand, by the attributes that hold them.
const RECORDS: [(&[u8], &[u8]); 2] =
    [(b"system.posix_acl_access", b"SCHILY.acl.access"), (b"system.posix_acl_default", b"SCHILY.acl.default")];

/// The record for an extended attribute, and what stands in it; none if the attribute holds no ACL.
pub(super) fn record(name: &[u8], value: &[u8]) -> Option<(&'static [u8], Vec<u8>)> {
    let (_, key) = RECORDS.iter().find(|(attribute, _)| *attribute == name)?;
    Some((key, text(value)?))
}

/// One line for each entry; none if this is no ACL of the only version there is.
fn text(value: &[u8]) -> Option<Vec<u8>> {
    let entries = value.strip_prefix(&2_u32.to_le_bytes())?;
    let (entries, rest) = entries.as_chunks::<8>();
    if !rest.is_empty() {
        return None;
    }
    let lines = entries.iter().copied().map(line).collect::<Option<Vec<String>>>()?;
    Some(lines.join("\n").into_bytes())
}

fn line(entry: [u8; 8]) -> Option<String> {
    let [tag_low, tag_high, low, high, id @ ..] = entry;
    let (permissions, id) = (u16::from_le_bytes([low, high]), u32::from_le_bytes(id));
    let who = match u16::from_le_bytes([tag_low, tag_high]) {
        0x01 => "user:".to_owned(),
        0x02 => format!("user:{id}"),
        0x04 => "group:".to_owned(),
        0x08 => format!("group:{id}"),
        0x10 => "mask:".to_owned(),
        0x20 => "other:".to_owned(),
        _ => return None,
    };
    let letter = |bit: u16, letter: char| if permissions & bit == 0 { '-' } else { letter };
    Some(format!("{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn acls_become_text() {
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in
            [(1_u16, 6_u16, u32::MAX), (2, 4, 1000), (4, 5, u32::MAX), (8, 7, 20), (16, 7, u32::MAX), (32, 0, u32::MAX)]
        {
            value.extend(tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()).chain(id.to_le_bytes()));
        }
        let (key, text) = record(b"system.posix_acl_access", &value).unwrap();
        assert_eq!(key, b"SCHILY.acl.access");
        assert_eq!(String::from_utf8(text).unwrap(), "user::rw-\nuser:1000:r--\ngroup::r-x\ngroup:20:rwx\nmask::rwx\nother::---");
        assert_eq!(record(b"system.posix_acl_default", &value).unwrap().0, b"SCHILY.acl.default");
        assert_eq!(record(b"user.x", &value), None);
        value[4] = 3;
        assert_eq!(record(b"system.posix_acl_access", &value), None);
        assert_eq!(record(b"system.posix_acl_access", &value[..7]), None);
    }
}

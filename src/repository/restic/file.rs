//! The small documents of a repository exactly as they are stored (design document, sections "Repository Format",
//! "Indexing", "Keys, Encryption and MAC", "Snapshots" and "Locks").
//!
//! Reading, decrypting and judging them is done by `state`, `index`, `key` and `lock`.

use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};
use serde_json::{Map, Value};

use super::chunker::Polynomial;
use super::codec::BlobKind;
use super::crypto::OVERHEAD;
use super::id::Id;
use crate::repository::contract::RepositoryError;

/// The file `config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// Version of the format: 1 or 2.
    pub version: u32,
    /// The repository's own random id, hexadecimal.
    pub id: String,
    /// Where chunks end.
    pub chunker_polynomial: Polynomial,
    /// What newer programs have put in.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A file of `keys/`: the master key, encrypted with what scrypt makes of a password. The file itself is not encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFile {
    /// When it was made.
    pub created: Time,
    /// Who made it.
    #[serde(default)]
    pub username: String,
    /// Where.
    #[serde(default)]
    pub hostname: String,
    /// `scrypt`.
    pub kdf: String,
    /// scrypt's cost: a power of two.
    #[serde(rename = "N")]
    pub n: u64,
    /// scrypt's block size.
    pub r: u64,
    /// scrypt's parallelism.
    pub p: u64,
    /// Random bytes that go into the key.
    pub salt: Base64,
    /// The sealed master key.
    pub data: Base64,
}

/// A file of `snapshots/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// When the backup began.
    pub time: Time,
    /// The snapshot that unchanged files were compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// The tree blob of its root.
    pub tree: Id,
    /// Absolute paths that were backed up.
    #[serde(default, deserialize_with = "or_null")]
    pub paths: Vec<String>,
    /// The host it is of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Who made it, as a number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The maker's group.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// Patterns of what was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub excludes: Vec<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub tags: Vec<String>,
    /// The first id that this snapshot had, if it was rewritten since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Id>,
    /// The program that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// What its backup did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<SummaryFile>,
    /// What other programs have put in; it survives a rewrite.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// What a snapshot's backup did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryFile {
    /// When the backup began.
    pub backup_start: Time,
    /// When it was done.
    pub backup_end: Time,
    /// Files not in the parent.
    #[serde(default)]
    pub files_new: u64,
    /// Files in the parent with other data.
    #[serde(default)]
    pub files_changed: u64,
    /// Files as in the parent.
    #[serde(default)]
    pub files_unmodified: u64,
    /// Folders not in the parent.
    #[serde(default)]
    pub dirs_new: u64,
    /// Folders with another content.
    #[serde(default)]
    pub dirs_changed: u64,
    /// Folders as in the parent.
    #[serde(default)]
    pub dirs_unmodified: u64,
    /// New data blobs.
    #[serde(default)]
    pub data_blobs: u64,
    /// New tree blobs.
    #[serde(default)]
    pub tree_blobs: u64,
    /// New bytes before compression.
    #[serde(default)]
    pub data_added: u64,
    /// New bytes in the repository.
    #[serde(default)]
    pub data_added_packed: u64,
    /// Files in the snapshot.
    #[serde(default)]
    pub total_files_processed: u64,
    /// Bytes of all files in the snapshot.
    #[serde(default)]
    pub total_bytes_processed: u64,
    /// What other programs have put in.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A file of `index/`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IndexFile {
    /// Index files that this one stands for.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub supersedes: Vec<Id>,
    /// Packs and what is in them.
    #[serde(deserialize_with = "or_null")]
    pub packs: Vec<IndexPack>,
}

/// A pack in an index file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexPack {
    /// Its id.
    pub id: Id,
    /// What is in it.
    #[serde(deserialize_with = "or_null")]
    pub blobs: Vec<IndexBlob>,
}

/// A blob in an index file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexBlob {
    /// Its id.
    pub id: Id,
    /// What it is of.
    #[serde(rename = "type")]
    pub kind: BlobKind,
    /// Where it begins in the pack.
    pub offset: u32,
    /// Bytes in the pack, encryption included.
    pub length: u32,
    /// Bytes before compression; absent if it is not compressed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_zero")]
    pub uncompressed_length: Option<NonZeroU32>,
}

impl IndexFile {
    /// Reads an index file. The oldest programs wrote the bare list of packs.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(json: &[u8]) -> serde_json::Result<Self> {
        if Self::is_bare(json) {
            return Ok(Self { supersedes: Vec::new(), packs: serde_json::from_slice(json)? });
        }
        serde_json::from_slice(json)
    }

    /// Whether this is the bare list of packs of restic before 0.2.
    pub fn is_bare(json: &[u8]) -> bool {
        json.trim_ascii_start().starts_with(b"[")
    }

    /// The first blob that fits no pack.
    pub fn misfit(&self) -> Option<Misfit> {
        let fits = |blob: &IndexBlob| blob.length >= OVERHEAD as u32 && blob.offset.checked_add(blob.length).is_some();
        let of_pack = |pack: &IndexPack| pack.blobs.iter().find(|blob| !fits(blob)).map(|blob| Misfit { pack: pack.id, blob: *blob });
        self.packs.iter().find_map(of_pack)
    }
}

/// A blob of an index file that cannot be where it is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfit {
    /// The pack.
    pub pack: Id,
    /// The blob.
    pub blob: IndexBlob,
}

impl Misfit {
    /// What is wrong with the file: where in its JSON, and what was expected there.
    pub fn damaged(&self, file: String, json: &[u8]) -> RepositoryError {
        let Self { pack, blob: IndexBlob { id, offset, length, .. } } = self;
        let find = |wanted: &Id, from: usize| {
            let wanted = format!("\"{wanted}\"");
            json.get(from..).and_then(|rest| rest.windows(wanted.len()).position(|part| part == wanted.as_bytes())).map(|at| from + at)
        };
        // The blobs of a pack may stand before its id.
        let at = find(pack, 0).and_then(|at| find(id, at)).or_else(|| find(id, 0)).unwrap_or_default();
        let expected = format!("blobs that fit a pack ({id} of pack {pack} has {length} bytes at {offset})");
        RepositoryError::Damaged { file, offset: at as u64, expected }
    }
}

/// A file of `locks/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockFile {
    /// When it was made or last refreshed.
    pub time: Time,
    /// Whether no other lock may be beside it.
    #[serde(default)]
    pub exclusive: bool,
    /// The real host name of the holder.
    #[serde(default)]
    pub hostname: String,
    /// Who holds it.
    #[serde(default)]
    pub username: String,
    /// The holder's process.
    #[serde(default)]
    pub pid: i64,
    /// Who holds it, as a number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The holder's group.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
}

/// A point in time as Go writes it: with the offset from UTC that its writer had, which a rewrite keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// The point in time.
    pub instant: jiff::Timestamp,
    /// How it is written.
    pub offset: Offset,
}

impl Time {
    /// Written in UTC.
    pub fn utc(instant: jiff::Timestamp) -> Self {
        Self { instant, offset: Offset::UTC }
    }

    /// Written in this time zone, to the minute, as the format has no seconds of offset.
    pub fn in_zone(instant: jiff::Timestamp, zone: &TimeZone) -> Self {
        let offset = zone.to_offset(instant);
        Self { instant, offset: Offset::from_seconds(offset.seconds() / 60 * 60).unwrap_or(Offset::UTC) }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = self.offset.to_datetime(self.instant);
        let (date, time) = (civil.date(), civil.time());
        write!(f, "{:04}-{:02}-{:02}T", date.year(), date.month(), date.day())?;
        write!(f, "{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())?;
        if time.subsec_nanosecond() != 0 {
            let digits = format!("{:09}", time.subsec_nanosecond());
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        match self.offset.seconds() / 60 {
            0 => f.write_str("Z"),
            minutes => {
                let sign = if minutes < 0 { '-' } else { '+' };
                write!(f, "{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            }
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const PARSER: DateTimeParser = DateTimeParser::new();
        let text = String::deserialize(deserializer)?;
        let read = || {
            let offset = PARSER.parse_pieces(&text).ok()?.to_numeric_offset()?;
            Some(Self { instant: PARSER.parse_timestamp(&text).ok()?, offset })
        };
        read().ok_or_else(|| serde::de::Error::custom("not a time with an offset from UTC"))
    }
}

/// Bytes that JSON holds in base 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Go writes lists without elements as `null`.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Zero stands for absence.
fn or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    u32::deserialize(deserializer).map(NonZeroU32::new)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Writes a document as Go's `encoding/json` does: `<`, `>`, `&` and two line separators are escaped.
///
/// # Errors
/// The value has no JSON (a map whose keys are not text).
pub fn to_json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoFormatter))?;
    Ok(out)
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut characters = special.chars();
            let code = characters.next().map_or(0, u32::from);
            write!(writer, "\\u{code:04x}")?;
            rest = characters.as_str();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

/// What is wrong with a file whose JSON is not what it should be: where in it, and why.
pub fn damaged_json(file: String, json: &[u8], expected: &str, error: &serde_json::Error) -> RepositoryError {
    RepositoryError::Damaged { file, offset: offset_of(json, error), expected: format!("{expected} ({error})") }
}

/// The byte at which JSON is not what it should be.
pub fn offset_of(json: &[u8], error: &serde_json::Error) -> u64 {
    let lines = json.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    (lines.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1)) as u64
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn same<T: Serialize + serde::de::DeserializeOwned>(json: &str) -> T {
        let value: T = serde_json::from_str(json).unwrap();
        assert_eq!(String::from_utf8(to_json(&value).unwrap()).unwrap(), json);
        value
    }

    const A: &str = "2da81727b6585232894cfbb8f8bdab8d1eccd3d8f7c92bc934d62e62e618ffdf";

    #[test]
    fn snapshots_come_out_as_they_went_in() {
        let snapshot: SnapshotFile = same(&format!(
            r#"{{"time":"2015-01-02T18:10:50.895208559+01:00","parent":"{A}","tree":"{A}","paths":["/a\u003cb\u0026c\u2028"],"hostname":"kasimir","username":"fd0","uid":1000,"gid":100,"excludes":["*.o"],"tags":["NL"],"original":"{A}","program_version":"restic 0.18.0","summary":{{"backup_start":"2015-01-02T18:10:50.895208559+01:00","backup_end":"2015-01-02T17:10:51Z","files_new":1,"files_changed":2,"files_unmodified":3,"dirs_new":4,"dirs_changed":5,"dirs_unmodified":6,"data_blobs":7,"tree_blobs":8,"data_added":9,"data_added_packed":10,"total_files_processed":11,"total_bytes_processed":12,"novel":[1]}},"label":"kept","delete":{{"after":null}}}}"#
        ));
        assert_eq!(snapshot.paths, ["/a<b&c\u{2028}"]);
        assert_eq!(snapshot.more.len(), 2);
        let least: SnapshotFile = same(&format!(r#"{{"time":"2015-01-02T18:10:50Z","tree":"{A}","paths":[]}}"#));
        assert_eq!(least.summary, None);
        let null = format!(r#"{{"time":"2015-01-02T18:10:50Z","tree":"{A}","paths":null,"tags":null}}"#);
        assert_eq!(serde_json::from_str::<SnapshotFile>(&null).unwrap(), least);
        for bad in [
            "{}".to_owned(),
            r#"{"time":"2015-01-02T18:10:50Z","tree":null,"paths":[]}"#.to_owned(),
            format!(r#"{{"time":"yesterday","tree":"{A}","paths":[]}}"#),
            format!(r#"{{"time":"2015-01-02T18:10:50","tree":"{A}","paths":[]}}"#),
            format!(r#"{{"time":"2015-01-02T18:10:50Z","tree":"{A}x","paths":[]}}"#),
        ] {
            assert!(serde_json::from_str::<SnapshotFile>(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn index_files() {
        let text = format!(
            r#"{{"supersedes":["{A}"],"packs":[{{"id":"{A}","blobs":[{{"id":"{A}","type":"data","offset":0,"length":38}},{{"id":"{A}","type":"tree","offset":38,"length":112,"uncompressed_length":511}}]}}]}}"#
        );
        let index: IndexFile = same(&text);
        assert_eq!(index.packs[0].blobs[1].uncompressed_length, NonZeroU32::new(511));
        assert_eq!(IndexFile::parse(text.as_bytes()).unwrap(), index);
        let bare = String::from_utf8(to_json(&index.packs).unwrap()).unwrap();
        assert_eq!(IndexFile::parse(bare.as_bytes()).unwrap().packs, index.packs);
        assert_eq!(IndexFile::parse(br#"{"packs":null}"#).unwrap(), IndexFile::default());
        for (from, to) in [("data", "other"), (":38}", ":4294967296}"), (":38}", ":-1}"), (":38}", ":1.5}"), ("packs", "pack")] {
            assert!(IndexFile::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn locks_keys_and_configurations() {
        same::<LockFile>(
            r#"{"time":"2015-06-27T12:18:51.759239612+02:00","exclusive":false,"hostname":"kasimir","username":"fd0","pid":13607,"uid":1000,"gid":100}"#,
        );
        let root: LockFile = same(r#"{"time":"2015-06-27T12:18:51-09:30","exclusive":true,"hostname":"k","username":"root","pid":1}"#);
        assert_eq!((root.uid, root.gid), (0, 0));
        same::<KeyFile>(
            r#"{"created":"2015-01-02T18:10:13.48307196+01:00","username":"fd0","hostname":"kasimir","kdf":"scrypt","N":65536,"r":8,"p":1,"salt":"uW4=","data":"tGwYeA=="}"#,
        );
        let config: ConfigFile = same(&format!(r#"{{"version":2,"id":"{A}","chunker_polynomial":"25b468838dcb75"}}"#));
        assert!(config.chunker_polynomial.is_irreducible());
    }

    #[test]
    fn times_before_the_epoch_and_with_offsets() {
        for text in ["1969-12-31T23:59:59.000000001Z", "2024-02-29T00:00:00.1+05:45", "0001-01-01T00:00:00Z", "2020-01-01T00:00:00-00:30"] {
            same::<Time>(&format!("\"{text}\""));
        }
        let time = Time::in_zone("2024-07-01T12:00:00Z".parse().unwrap(), &TimeZone::fixed(Offset::from_seconds(3723).unwrap()));
        assert_eq!(time.to_string(), "2024-07-01T13:02:00+01:02");
    }
}

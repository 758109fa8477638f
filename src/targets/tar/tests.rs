//! Tests of what the sink refuses, and of single fields; what the stream says is tested with the source that reads it.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn sink() -> TarSink<Vec<u8>> {
    TarSink::new(Vec::new(), b"volume/")
}

#[test]
fn data_is_exactly_as_long_as_was_said() {
    let metadata = Metadata::virtual_file(3);
    let mut sink = sink();
    sink.begin(b"f", &metadata, None).unwrap();
    sink.data(b"ab").unwrap();
    assert_eq!(sink.end().unwrap_err().kind(), io::ErrorKind::InvalidData);
    let mut sink = self::sink();
    sink.begin(b"f", &metadata, None).unwrap();
    sink.data(b"ab").unwrap();
    assert_eq!(sink.data(b"cd").unwrap_err().kind(), io::ErrorKind::InvalidData);
    let mut sink = self::sink();
    sink.begin(b"d", &Metadata::virtual_directory(), None).unwrap();
    assert!(sink.data(b"x").is_err());
    let mut sink = self::sink();
    sink.begin(b"f", &metadata, Some(b"e")).unwrap();
    assert!(sink.data(b"abc").is_err(), "a hard link has no data of its own");
    sink.end().unwrap();
}

#[test]
fn calls_out_of_turn_are_refused() {
    let folder = Metadata::virtual_directory();
    let mut sink = sink();
    assert!(sink.data(b"x").is_err());
    assert!(sink.end().is_err());
    sink.begin(b"", &folder, None).unwrap();
    assert!(sink.begin(b"a", &folder, None).is_err());
    assert!(sink.finish().is_err());
    sink.end().unwrap();
    sink.finish().unwrap();
    assert!(sink.finish().is_err());
    assert!(sink.begin(b"a", &folder, None).is_err());
    assert_eq!(sink.into_inner().unwrap().len(), 3 * BLOCK);
    assert!(self::sink().into_inner().is_err(), "a stream without its end is no stream");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [&b"../a"[..], b"a/..", b"/a", b"a//b", b"a/", b".", b"a\0b"] {
        let metadata = Metadata::virtual_file(0);
        assert_eq!(sink().begin(name, &metadata, None).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(sink().begin(b"z", &metadata, Some(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
    }
}

#[test]
fn extended_headers_only_where_they_are_needed() {
    let length = |change: fn(&mut Metadata)| {
        let mut metadata = Metadata::virtual_file(0);
        change(&mut metadata);
        let mut sink = sink();
        sink.begin(b"f", &metadata, None).unwrap();
        sink.end().unwrap();
        sink.finish().unwrap();
        sink.into_inner().unwrap().len() / BLOCK
    };
    assert_eq!(length(|_| {}), 3);
    assert_eq!(length(|metadata| metadata.uid = 0o7_777_777), 3);
    assert_eq!(length(|metadata| metadata.uid = 0o10_000_000), 5);
    assert_eq!(length(|metadata| metadata.mtime.secs = 0o77_777_777_777), 3);
    assert_eq!(length(|metadata| metadata.mtime.secs = 0o100_000_000_000), 5);
    assert_eq!(length(|metadata| metadata.mtime.secs = -1), 5);
    assert_eq!(length(|metadata| metadata.mtime.nanos = 1), 5);
    // Nine gigabytes do not fit into eleven octal digits.
    let mut huge = sink();
    huge.begin(b"f", &Metadata::virtual_file(9 << 30), None).unwrap();
    assert!(huge.writer.buffer().windows(15).any(|part| part == b"size=9663676416"));
}

#[test]
fn times_are_written_as_pax_reads_them() {
    let format = |secs, nanos| format_time(Timestamp { secs, nanos });
    assert_eq!(format(0, 0), "0");
    assert_eq!(format(100, 0), "100");
    assert_eq!(format(1, 500_000_000), "1.5");
    assert_eq!(format(1, 1), "1.000000001");
    assert_eq!(format(-1, 0), "-1");
    assert_eq!(format(-1, 500_000_000), "-0.5");
    assert_eq!(format(-2, 750_000_000), "-1.25");
    assert_eq!(format(i64::MIN, 1), "-9223372036854775807.999999999");
}

#[test]
fn a_records_length_counts_itself() {
    for value in [0, 1, 4, 5, 6, 90, 94, 95, 96, 991, 992, 993] {
        let mut bytes = Vec::new();
        record(&mut bytes, b"k", &vec![b'v'; value]);
        let length: usize = str::from_utf8(&bytes).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(length, bytes.len(), "{value}");
    }
}

#[test]
fn an_error_of_the_writer_is_told() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = TarSink::new(Full, b"v");
    sink.begin(b"", &Metadata::virtual_directory(), None).unwrap();
    sink.end().unwrap();
    assert_eq!(sink.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(sink.into_inner().is_err());
}

//! Tests of the text source: against a plain reference, at every split size, position and kind of damage.

use super::*;
use crate::base::batch::BATCH_RECORDS;
use crate::base::clock::SystemClock;
use crate::base::codec;
use crate::base::metrics::Counters;
use crate::base::vfs::OsVfs;
use crate::connectors::format::lines::CHUNK_BYTES;
use proptest::prelude::*;
use std::io::Write;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }
}

fn context() -> SourceContext {
    SourceContext {
        parallelism: 2,
        vfs: OsVfs::shared(),
        clock: SystemClock::new(),
        counters: Counters::new(),
    }
}

/// The lines of a file, as the documentation of [`TextSource`] defines them.
fn reference(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).unwrap();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.split_inclusive('\n')
        .map(|l| match l.strip_suffix('\n') {
            Some(l) => l.strip_suffix('\r').unwrap_or(l),
            None => l,
        })
        .map(str::to_string)
        .collect()
}

/// Reads on with a room of `room` records per poll; after each poll `seen` is told the lines so far.
fn drain(
    reader: &mut TextReader,
    room: usize,
    mut seen: impl FnMut(&[String], &TextReader),
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut out = SourceOutput::default();
        let taken = BATCH_RECORDS - room;
        out.batch_mut().values.resize(taken, String::new());
        let poll = reader.poll(&mut out)?;
        assert!(out.batch_mut().len() <= BATCH_RECORDS);
        lines.extend(out.batch_mut().values.drain(taken..));
        seen(&lines, reader);
        match poll {
            Poll::End => return Ok(lines),
            Poll::More => {}
            Poll::Idle(_) => panic!("a file is never idle"),
        }
    }
}

fn read_with(source: &TextSource, ctx: &SourceContext) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for split in source.splits(ctx)? {
        let mut reader = source.open(split, ctx)?;
        lines.extend(drain(&mut reader, BATCH_RECORDS, |_, _| {})?);
    }
    Ok(lines)
}

fn read(source: &TextSource) -> Result<Vec<String>> {
    read_with(source, &context())
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

/// Every split size, one line per poll, and a new reader at every position on the way.
fn check_all_ways(files: &Files, name: &str, stored: &[u8], expected: &[String]) {
    let path = files.write(name, stored);
    let ctx = context();
    let sizes: Vec<u64> = match Compression::of_path(&path) {
        Compression::None => (1..=stored.len() as u64 + 1).collect(),
        _ => vec![1],
    };
    for size in sizes {
        let source = TextSource::path(&path).split_bytes(ByteSize(size));
        assert_eq!(read(&source).unwrap(), expected, "split size {size}");
        for split in source.splits(&ctx).unwrap() {
            let mut positions = vec![(0, split.clone())];
            let mut reader = source.open(split, &ctx).unwrap();
            let lines = drain(&mut reader, 1, |lines, reader| {
                positions.push((lines.len(), reader.position()));
            })
            .unwrap();
            positions.dedup();
            for (count, position) in positions {
                let mut bytes = Vec::new();
                codec::encode(&position, &mut bytes).unwrap();
                let position: TextSplit = codec::decode(&bytes).unwrap();
                let mut resumed = source.open(position.clone(), &ctx).unwrap();
                assert_eq!(resumed.position(), position);
                let rest = drain(&mut resumed, 1, |_, _| {}).unwrap();
                assert_eq!(rest, lines[count..], "split size {size}, position {position:?}");
                assert_eq!(source.weight(&resumed.position()), 0);
            }
        }
    }
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just("\n"), 2 => Just("\r"), 2 => Just("\r\n"), 2 => Just("a"), 1 => Just("é"), 1 => Just("日"),
        1 => Just("😀"), 1 => Just("\u{feff}"),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|p| p.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn splits_and_positions_give_each_line_once(bytes in pieces()) {
        check_all_ways(&Files::new(), "x.txt", &bytes, &reference(&bytes));
    }
    #[test]
    fn positions_in_compressed_files_give_each_line_once(bytes in pieces(), cut in 0usize..20) {
        let files = Files::new();
        let (a, b) = bytes.split_at(cut.min(bytes.len()));
        check_all_ways(&files, "x.gz", &[gzip(a), gzip(b)].concat(), &reference(&bytes));
        let frames = [zstd::encode_all(a, 1).unwrap(), zstd::encode_all(b, 1).unwrap()].concat();
        check_all_ways(&files, "x.zst", &frames, &reference(&bytes));
    }
}

#[test]
fn lines_with_all_their_corners() {
    let files = Files::new();
    for (bytes, expected) in [
        ("", &[][..]),
        ("\n", &[""]),
        ("a", &["a"]),
        ("a\n\nb\r\n\r\nc", &["a", "", "b", "", "c"]),
        ("a\rb\n\r\r\nc\r", &["a\rb", "\r", "c\r"]),
        ("\u{feff}", &[]),
        ("\u{feff}a\n\u{feff}b\n", &["a", "\u{feff}b"]),
        ("\u{feff}\n", &[""]),
        ("é\r\n日本", &["é", "日本"]),
    ] {
        let path = files.write("x.txt", bytes);
        assert_eq!(read(&TextSource::path(&path)).unwrap(), expected, "{bytes:?}");
        check_all_ways(&files, "x.txt", bytes.as_bytes(), &reference(bytes.as_bytes()));
    }
}

#[test]
fn large_files_are_read_in_chunks_whole() {
    let files = Files::new();
    let mut text = String::new();
    for i in 0..60_000u64 {
        text.push_str(&"é".repeat((i % 7) as usize));
        text.push_str(&i.to_string());
        text.push_str(if i % 3 == 0 { "\r\n" } else { "\n" });
        if i % 20_000 == 0 {
            text.push_str(&"long ".repeat(CHUNK_BYTES / 4));
        }
    }
    assert!(text.len() > 3 * CHUNK_BYTES);
    let expected = reference(text.as_bytes());
    let path = files.write("x.txt", &text);
    for size in [70_001, 262_144, 1 << 24] {
        assert!(read(&TextSource::path(&path).split_bytes(ByteSize(size))).unwrap() == expected, "{size}");
    }
    let path = files.write("x.gz", gzip(text.as_bytes()));
    let source = TextSource::path(&path);
    assert!(read(&source).unwrap() == expected);
    // Continue far behind the first chunk.
    let ctx = context();
    let split = source.splits(&ctx).unwrap().remove(0);
    let mut positions = Vec::new();
    let mut reader = source.open(split, &ctx).unwrap();
    drain(&mut reader, 1000, |lines, reader| positions.push((lines.len(), reader.position()))).unwrap();
    for (count, position) in positions.into_iter().step_by(25) {
        let rest = drain(&mut source.open(position, &ctx).unwrap(), 1000, |_, _| {}).unwrap();
        assert!(rest == expected[count..], "{count}");
    }
}

#[test]
fn splits_are_of_equal_size_and_cover_the_file() {
    let files = Files::new();
    let path = files.write("x.txt", "x".repeat(1000));
    let ctx = context();
    let source = TextSource::path(&path).split_bytes(ByteSize(300));
    let splits = source.splits(&ctx).unwrap();
    let ranges: Vec<_> = splits.iter().map(|s| (s.start(), s.end())).collect();
    assert_eq!(ranges, [(0, 250), (250, 500), (500, 750), (750, 1000)]);
    assert!(splits.iter().all(|s| source.weight(s) == 250 && s.path() == path && s.position() == s.start()));
    let many = files.write("y.txt", "x".repeat(100_000));
    let splits = TextSource::path(many).split_bytes(ByteSize(1)).splits(&ctx).unwrap();
    assert_eq!(splits.len() as u64, FILE_SPLITS_MAX);
    assert_eq!(splits.last().map(|s| s.end()), Some(100_000));
}

#[test]
fn invalid_utf8_fails_with_its_offset_or_is_replaced_or_left_out() {
    let files = Files::new();
    for (bad, shown) in
        [(&b"\xff"[..], "\u{fffd}"), (b"\xc3", "\u{fffd}"), (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}")]
    {
        let bytes = [b"good\nb\xc3\xa9ad ", bad, b"\r\nlast\n\xe2\x82"].concat();
        let path = files.write("x.txt", &bytes);
        for size in 1..bytes.len() as u64 {
            let source = TextSource::path(&path).split_bytes(ByteSize(size));
            match read(&source).unwrap_err() {
                Error::Data { path: named, offset, message } => {
                    assert_eq!((named, offset), (path.clone(), 11), "{message}");
                    assert!(
                        message.contains("is not valid UTF-8") && message.contains("invalid_utf8"),
                        "{message}"
                    );
                }
                other => panic!("{other}"),
            }
            let ctx = context();
            let lines = read_with(&source.clone().invalid_utf8(InvalidUtf8::Replace), &ctx).unwrap();
            assert_eq!(lines, ["good", &format!("béad {shown}"), "last", "\u{fffd}"]);
            assert_eq!(ctx.counters.counter("lines_replaced_utf8").get(), 2);
            let lines = read_with(&source.invalid_utf8(InvalidUtf8::SkipLine), &ctx).unwrap();
            assert_eq!(lines, ["good", "last"]);
            assert_eq!(ctx.counters.counter("lines_invalid_utf8").get(), 2);
        }
    }
    let path = files.write("x.gz", gzip(b"\xef\xbb\xbfa\nbc\xffd\n"));
    let error = read(&TextSource::path(path)).unwrap_err();
    assert!(matches!(error, Error::Data { offset: 7, .. }), "{error}");
}

#[test]
fn line_beyond_the_limit_fails_where_it_starts() {
    let files = Files::new();
    for end in ["", "\n", "\r\n", "\r\nmore\n"] {
        for (len, fits) in [(9, true), (10, true), (11, false), (12, false), (CHUNK_BYTES * 3, false)] {
            let text = format!("{}0123456789\nab\n{}{end}", "\u{feff}", "x".repeat(len));
            for name in ["x.txt", "x.gz"] {
                let bytes = if name == "x.gz" { gzip(text.as_bytes()) } else { text.clone().into_bytes() };
                let source = TextSource::path(files.write(name, bytes)).line_bytes_max(ByteSize(10));
                match read(&source) {
                    Ok(lines) => assert!(fits && lines == reference(text.as_bytes()), "{len} {end:?}"),
                    Err(Error::Data { offset, message, .. }) => {
                        assert!(!fits && offset == 17, "{len} {end:?}: {offset} {message}");
                        assert!(
                            message.contains("10 bytes") && message.contains("line_bytes_max"),
                            "{message}"
                        );
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
    // A CR that is data counts.
    let path = files.write("x.txt", "0123456789\r");
    assert!(read(&TextSource::path(path).line_bytes_max(ByteSize(10))).is_err());
}

#[test]
fn endless_line_is_not_buffered_beyond_its_limit() {
    let files = Files::new();
    let path = files.write("x.gz", gzip(&vec![b'x'; 40 << 20]));
    let source = TextSource::path(path).line_bytes_max(ByteSize::mib(1));
    let ctx = context();
    let mut reader = source.open(source.splits(&ctx).unwrap().remove(0), &ctx).unwrap();
    drain(&mut reader, 1, |_, _| {}).unwrap_err();
    assert!(reader.lines.unwrap().bytes_read() < 2 << 20);
}

#[test]
fn poll_returns_after_its_share_of_bytes() {
    let files = Files::new();
    let path = files.write("x.gz", gzip(format!("{}\n", "x".repeat(5 << 20)).as_bytes()));
    let source = TextSource::path(path);
    let ctx = context();
    let mut reader = source.open(source.splits(&ctx).unwrap().remove(0), &ctx).unwrap();
    let mut polls = 0;
    drain(&mut reader, BATCH_RECORDS, |_, reader| {
        polls += 1;
        let read = reader.lines.as_ref().unwrap().bytes_read();
        assert!(read < polls * (POLL_BYTES + CHUNK_BYTES as u64));
    })
    .unwrap();
    assert!(polls >= 5);
}

#[test]
fn compressed_file_cut_off_anywhere_fails() {
    let files = Files::new();
    let whole = gzip("some lines\nof text\n".repeat(20).as_bytes());
    for n in 0..whole.len() {
        let error = read(&TextSource::path(files.write("x.gz", &whole[..n]))).unwrap_err();
        assert!(matches!(error, Error::Data { .. }) && error.to_string().contains("x.gz"), "{error}");
    }
}

#[test]
fn file_that_changed_since_it_was_planned_fails() {
    let files = Files::new();
    let ctx = context();
    for new in ["a\n", "a\nb\nc\nd\n"] {
        let source = TextSource::path(files.write("x.txt", "a\nb\nc\n")).split_bytes(ByteSize(2));
        let split = source.splits(&ctx).unwrap().remove(0);
        files.write("x.txt", new);
        let error = source.open(split, &ctx).err().unwrap().to_string();
        assert!(
            error.contains("had 6 bytes") && error.contains(&format!("{} bytes now", new.len())),
            "{error}"
        );
    }
    // The same size on the disk, less in it.
    let (long, short) = (gzip(&[b'\n'; 60]), gzip(&[b'\n'; 50]));
    assert_eq!(long.len(), short.len());
    let source = TextSource::path(files.write("x.gz", long));
    let mut split = source.splits(&ctx).unwrap().remove(0);
    split.position = 55;
    files.write("x.gz", short);
    let error = drain(&mut source.open(split, &ctx).unwrap(), 1, |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("up to byte 55"), "{error}");
}

#[test]
fn inputs_are_read_in_order_and_described() {
    let files = Files::new();
    files.write("b.txt", "b\n");
    files.write("a.txt", "a");
    files.write("c.GZ", gzip(b"c\n"));
    files.write("empty.txt", "");
    let all = TextSource::new([files.path(""), files.path("b.txt"), files.path("[ab].*")]);
    assert_eq!(read(&all).unwrap(), ["a", "b", "c", "b", "a", "b"]);
    assert_eq!(TextSource::new(["a", "b", "c", "d"]).describe(), "text a, b, c and 1 more");
    assert_eq!(all.boundedness(), Boundedness::Bounded);
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let files = Files::new();
    let ctx = context();
    let path = files.write("x.txt", "x");
    for (source, words) in [
        (TextSource::path(files.path("missing.txt")), "missing.txt"),
        (TextSource::path(files.path("*.csv")), "no file matches"),
        (TextSource::path(&path).split_bytes(ByteSize(0)), "split_bytes"),
        (TextSource::new([""; 0]), "no path"),
    ] {
        let error = source.splits(&ctx).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

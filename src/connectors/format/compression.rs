//! Byte input: the bytes of one file in order, decompressed if its name says that it is compressed.
//!
//! Place: opened by a reader of a split, read on the subtask's thread through the [`Vfs`].
//! Invariants: an input ends only where its file ends. A file whose size is not the one that was planned, a
//! compressed stream that stops early, or bytes behind it, are errors; never a shorter input.
//! Costs and limits: a compressed file is read from its start, since none of the codecs can seek; it needs a read
//! buffer of 64 KiB and the window of its codec (at most 128 MiB for zstd, which refuses larger ones).

use crate::base::error::{Error, Result};
use crate::base::vfs::{Vfs, VfsFile};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes of a compressed file that are read at once.
const COMPRESSED_READ_BYTES: usize = 64 << 10;

/// How the bytes of a file are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Compression {
    /// They are not.
    None,
    /// `.gz`, `.gzip`: one gzip member or several, one behind the other.
    Gzip,
    /// `.deflate`: one zlib stream.
    Zlib,
    /// `.zst`: one zstd frame or several, one behind the other.
    Zstd,
}

impl Compression {
    /// The compression that the extension of the file's name stands for, upper or lower case.
    pub(crate) fn of_path(path: &Path) -> Compression {
        let extension = path.extension().map(|e| e.to_ascii_lowercase());
        match extension.as_ref().and_then(|e| e.to_str()) {
            Some("gz" | "gzip") => Compression::Gzip,
            Some("deflate") => Compression::Zlib,
            Some("zst") => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// The decompressed bytes of a file, in order.
pub(crate) struct ByteInput {
    path: PathBuf,
    /// Offset of the next byte, in the decompressed data.
    offset: u64,
    bytes: Bytes,
}

enum Bytes {
    Plain(FileBytes),
    Decoded { decoder: Box<dyn Read + Send>, name: &'static str },
}

impl ByteInput {
    /// Opens a file that must still have the planned size. A plain file is read from `offset` on; a compressed
    /// one from its start, so look at [`ByteInput::offset`].
    pub(crate) fn open(
        vfs: &dyn Vfs,
        path: &Path,
        compression: Compression,
        file_bytes: u64,
        offset: u64,
    ) -> Result<ByteInput> {
        ByteInput::new(FileBytes::open(vfs, path, file_bytes)?, compression, offset)
    }

    fn new(mut file: FileBytes, compression: Compression, offset: u64) -> Result<ByteInput> {
        let path = file.path.clone();
        if compression == Compression::None {
            file.at = offset;
            return Ok(ByteInput { path, offset, bytes: Bytes::Plain(file) });
        }
        if file.planned == 0 {
            return Err(Error::Data {
                path,
                offset: 0,
                message: "the file is empty, which no compressed file is; was it written to its end?".into(),
            });
        }
        let file = BufReader::with_capacity(COMPRESSED_READ_BYTES, file);
        let (decoder, name): (Box<dyn Read + Send>, _) = match compression {
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(file);
                (Box::new(decoder.map_err(|e| Error::io("open the zstd data of", &path, e))?), "zstd")
            }
            Compression::Zlib => (Box::new(WholeZlib(flate2::bufread::ZlibDecoder::new(file))), "deflate"),
            _ => (Box::new(flate2::bufread::MultiGzDecoder::new(file)), "gzip"),
        };
        Ok(ByteInput { path, offset: 0, bytes: Bytes::Decoded { decoder, name } })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Offset of the next byte, in the decompressed data.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads some bytes; 0 only at the end (or into an empty buffer).
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let (read, name) = match &mut self.bytes {
            Bytes::Plain(file) => (file.read(buf), "file"),
            Bytes::Decoded { decoder, name } => (decoder.read(buf), *name),
        };
        match read {
            Ok(n) => {
                self.offset += n as u64;
                Ok(n)
            }
            Err(e) => Err(self.failure(e, name)),
        }
    }

    /// Our own error if the file under a decoder failed, else what the decoder says of the data.
    #[cold]
    fn failure(&self, error: io::Error, name: &str) -> Error {
        let error = match error.downcast::<Error>() {
            Ok(ours) => return ours,
            Err(e) => e,
        };
        let hint = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the file is cut off: ",
            _ => "",
        };
        Error::Data {
            path: self.path.clone(),
            offset: self.offset,
            message: format!(
                "the {name} data cannot be decompressed: {hint}{error} (the offset counts decompressed bytes)"
            ),
        }
    }
}

/// A file of known size as a [`Read`]. Its errors carry an [`Error`].
struct FileBytes {
    file: Box<dyn VfsFile>,
    path: PathBuf,
    at: u64,
    planned: u64,
}

impl FileBytes {
    fn open(vfs: &dyn Vfs, path: &Path, planned: u64) -> Result<FileBytes> {
        let file = vfs.open(path).map_err(|e| Error::io("open", path, e))?;
        let bytes = FileBytes { file, path: path.to_path_buf(), at: 0, planned };
        bytes.check_size()?;
        Ok(bytes)
    }

    fn check_size(&self) -> Result<()> {
        let now = self.file.len().map_err(|e| Error::io("read the size of", &self.path, e))?;
        if now == self.planned { Ok(()) } else { Err(self.changed(now)) }
    }

    #[cold]
    fn changed(&self, now: u64) -> Error {
        Error::Data {
            path: self.path.clone(),
            offset: now.min(self.planned),
            message: format!(
                "the file had {} bytes when the job was planned and has {now} bytes now; an input must not change \
                 while a job reads it: read a copy, or start when it is complete",
                self.planned
            ),
        }
    }

    fn read_some(&mut self, buf: &mut [u8]) -> Result<usize> {
        let left = self.planned.saturating_sub(self.at);
        if left == 0 {
            self.check_size()?;
            return Ok(0);
        }
        let want = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        loop {
            match self.file.read_at(&mut buf[..want], self.at) {
                Ok(0) if want > 0 => return Err(self.changed(self.at)),
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", &self.path, e)),
            }
        }
    }
}

impl Read for FileBytes {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_some(buf).map_err(io::Error::other)
    }
}

/// A zlib stream that must fill its file: the decoder alone would leave bytes behind it unread.
struct WholeZlib<R: BufRead>(flate2::bufread::ZlibDecoder<R>);

impl<R: BufRead> Read for WholeZlib<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buf)?;
        if n == 0 && !buf.is_empty() && !self.0.get_mut().fill_buf()?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes follow the end of the stream"));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::vfs::OsVfs;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        e.write_all(data).unwrap();
        e.finish().unwrap()
    }
    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut e = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        e.write_all(data).unwrap();
        e.finish().unwrap()
    }
    fn zstandard(data: &[u8]) -> Vec<u8> {
        zstd::encode_all(data, 1).unwrap()
    }

    fn text() -> Vec<u8> {
        (0..80).flat_map(|i| format!("line {} {}\n", i, i * i % 97).into_bytes()).collect()
    }

    fn read_file(path: &Path, planned: u64) -> Result<Vec<u8>> {
        let mut input = ByteInput::open(&OsVfs, path, Compression::of_path(path), planned, 0)?;
        let (mut all, mut buf) = (Vec::new(), [0; 100]);
        loop {
            match input.read(&mut buf)? {
                0 => return Ok(all),
                n => all.extend_from_slice(&buf[..n]),
            }
            assert_eq!(input.offset(), all.len() as u64);
        }
    }

    fn read_bytes(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read_file(&path, bytes.len() as u64)
    }

    #[test]
    fn extension_names_the_compression_in_any_case() {
        for (name, expected) in [
            ("a.gz", Compression::Gzip),
            ("a.GZIP", Compression::Gzip),
            ("a.txt.Zst", Compression::Zstd),
            ("a.deflate", Compression::Zlib),
            ("a.txt", Compression::None),
            ("gz", Compression::None),
        ] {
            assert_eq!(Compression::of_path(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn members_and_frames_follow_one_another() {
        let data = text();
        let (a, b) = data.split_at(500);
        assert_eq!(read_bytes("x.gz", &[gzip(a), gzip(b""), gzip(b)].concat()).unwrap(), data);
        assert_eq!(
            read_bytes("x.zst", &[zstandard(a), zstandard(b""), zstandard(b)].concat()).unwrap(),
            data
        );
        assert_eq!(read_bytes("x.deflate", &zlib(&data)).unwrap(), data);
        assert_eq!(read_bytes("x.txt", &data).unwrap(), data);
    }

    #[test]
    fn file_cut_off_anywhere_is_an_error_with_path_and_offset() {
        let data = text();
        for (name, whole) in [("x.gz", gzip(&data)), ("x.zst", zstandard(&data)), ("x.deflate", zlib(&data))]
        {
            for n in 0..whole.len() {
                let error = read_bytes(name, &whole[..n]).unwrap_err();
                assert!(matches!(error, Error::Data { .. }), "{error}");
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }

    #[test]
    fn members_cut_off_are_an_error_except_between_them() {
        let (a, b) = (gzip(b"one\n"), gzip(b"two\n"));
        let both = [a.clone(), b].concat();
        for n in 0..both.len() {
            let read = read_bytes("x.gz", &both[..n]);
            assert_eq!(read.is_ok(), n == a.len(), "{n}: {read:?}");
        }
    }

    #[test]
    fn damaged_byte_never_gives_other_data() {
        let data = text();
        for (name, whole) in [("x.gz", gzip(&data)), ("x.deflate", zlib(&data))] {
            for i in (0..whole.len()).step_by(7) {
                let mut damaged = whole.clone();
                damaged[i] ^= 0x10;
                if let Ok(read) = read_bytes(name, &damaged) {
                    assert!(read == data, "{name}: byte {i}");
                }
            }
        }
    }

    #[test]
    fn bytes_behind_the_data_are_an_error() {
        for (name, whole) in [("x.gz", gzip(b"a")), ("x.zst", zstandard(b"a")), ("x.deflate", zlib(b"a"))] {
            let error = read_bytes(name, &[&whole[..], b"tail of something"].concat()).unwrap_err();
            assert!(matches!(error, Error::Data { .. }), "{error}");
        }
    }

    #[test]
    fn file_of_another_size_than_planned_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x.txt", "x.gz"] {
            let path = dir.path().join(name);
            std::fs::write(&path, gzip(b"a\nb\n")).unwrap();
            let len = std::fs::metadata(&path).unwrap().len();
            assert!(read_file(&path, len).is_ok());
            for planned in [len - 1, len + 1] {
                let error = read_file(&path, planned).unwrap_err().to_string();
                assert!(error.contains(&format!("had {planned} bytes")), "{error}");
            }
        }
    }

    #[test]
    fn file_that_changes_while_it_is_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.txt");
        for new_len in [4, 6, 20] {
            std::fs::write(&path, b"0123456789").unwrap();
            let mut input = ByteInput::open(&OsVfs, &path, Compression::None, 10, 0).unwrap();
            let mut buf = [0; 6];
            assert_eq!(input.read(&mut buf).unwrap(), 6);
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(new_len).unwrap();
            let error = std::iter::repeat_with(|| input.read(&mut buf)).find_map(|r| match r {
                Ok(0) => Some(Ok(())),
                Ok(_) => None,
                Err(e) => Some(Err(e)),
            });
            let error = error.unwrap().unwrap_err().to_string();
            assert!(error.contains("had 10 bytes"), "{error}");
        }
    }

    /// Fails at a byte, as a disk does.
    struct Bad {
        bytes: Vec<u8>,
        fails_at: u64,
    }

    impl VfsFile for Bad {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            if offset == self.fails_at {
                return Err(io::Error::other("the disk is on fire"));
            }
            let end = self.fails_at.min(offset + buf.len() as u64).min(self.bytes.len() as u64);
            let bytes = &self.bytes[offset as usize..end as usize];
            buf[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
        fn append(&mut self, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn sync_data(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn set_len(&mut self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn try_lock(&mut self) -> io::Result<bool> {
            Ok(true)
        }
        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }
    }

    #[test]
    fn failing_disk_is_not_taken_for_bad_data() {
        let data = text();
        for (compression, bytes) in [
            (Compression::None, data.clone()),
            (Compression::Gzip, gzip(&data)),
            (Compression::Zlib, zlib(&data)),
            (Compression::Zstd, zstandard(&data)),
        ] {
            for fails_at in (0..bytes.len() as u64).step_by(11) {
                let (path, planned) = (PathBuf::from("x"), bytes.len() as u64);
                let file = Box::new(Bad { bytes: bytes.clone(), fails_at });
                let mut input =
                    ByteInput::new(FileBytes { file, path, at: 0, planned }, compression, 0).unwrap();
                let mut buf = [0; 64];
                let error = std::iter::repeat_with(|| input.read(&mut buf)).find_map(|r| match r {
                    Ok(n) => (n == 0).then_some(None),
                    Err(e) => Some(Some(e)),
                });
                let error = error.flatten().expect("the end is behind the failing byte");
                assert!(matches!(error, Error::Io { action: "read", .. }), "{compression:?}: {error}");
                assert_eq!(error.to_string(), "cannot read 'x': the disk is on fire");
            }
        }
    }
}

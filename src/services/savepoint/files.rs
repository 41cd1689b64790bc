//! Files of a savepoint: written once, through the file system of the job.

use crate::base::error::{Error, Result};
use crate::base::vfs::{SharedVfs, Vfs, VfsFile};
use bytes::Bytes;
use parquet::file::reader::{ChunkReader, Length};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;

/// The name of a file until it is whole.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("unfinished")
}

/// The content of a small file.
pub(super) fn read_all(vfs: &dyn Vfs, path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let file = vfs.open(path).map_err(|e| Error::io("open", path, e))?;
    let length = file.len().map_err(|e| Error::io("read", path, e))?;
    if length > bytes_max {
        let message = format!("it has {length} bytes, more than {bytes_max}");
        return Err(Error::Corrupt { path: path.to_path_buf(), offset: 0, message });
    }
    let mut content = vec![0; length as usize];
    file.read_exact_at(&mut content, 0).map_err(|e| Error::io("read", path, e))?;
    Ok(content)
}

/// Bytes as digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Digits as bytes.
pub(super) fn from_hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok().filter(|_| pair.len() == 2))
        .collect()
}

/// A file that is being written, with its checksum.
pub(super) struct Written {
    file: Box<dyn VfsFile>,
    digest: Xxh3,
    bytes: u64,
}

impl Written {
    pub(super) fn create(vfs: &SharedVfs, path: &Path) -> Result<Written> {
        match vfs.remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("remove", path, e)),
            _ => {}
        }
        let file = vfs.create(path).map_err(|e| Error::io("create", path, e))?;
        Ok(Written { file, digest: Xxh3::new(), bytes: 0 })
    }

    /// Makes it durable; its length and checksum.
    pub(super) fn finish(mut self, path: &Path) -> Result<(u64, String)> {
        self.file.sync_data().map_err(|e| Error::io("sync", path, e))?;
        Ok((self.bytes, hexadecimal(&self.digest.digest().to_be_bytes())))
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(bytes)?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is read, once it was verified.
#[derive(Clone)]
pub(super) struct Verified {
    file: Arc<Box<dyn VfsFile>>,
    length: u64,
}

impl Verified {
    /// Opens a file and reads it through.
    ///
    /// # Errors
    /// When it is missing, cannot be read, or is not what it should be.
    pub(super) fn open(vfs: &SharedVfs, path: &Path, bytes: u64, xxh3: &str) -> Result<Verified> {
        let file = vfs.open(path).map_err(|e| Error::io("open", path, e))?;
        let length = file.len().map_err(|e| Error::io("read", path, e))?;
        let damaged = |message| Error::Corrupt { path: path.to_path_buf(), offset: 0, message };
        if length != bytes {
            return Err(damaged(format!("it has {length} bytes, and the manifest says {bytes}")));
        }
        let mut digest = Xxh3::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        while offset < length {
            let piece = &mut buffer[..READ_BYTES.min((length - offset) as usize)];
            file.read_exact_at(piece, offset).map_err(|e| Error::io("read", path, e))?;
            digest.update(piece);
            offset += piece.len() as u64;
        }
        let found = hexadecimal(&digest.digest().to_be_bytes());
        if found != xxh3 {
            return Err(damaged(format!("its checksum is {found}, and the manifest says {xxh3}")));
        }
        Ok(Verified { file: Arc::new(file), length })
    }
}

impl Length for Verified {
    fn len(&self) -> u64 {
        self.length
    }
}

/// Reads on from a place in a file.
pub(super) struct From {
    file: Verified,
    offset: u64,
}

impl Read for From {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.file.read_at(into, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl ChunkReader for Verified {
    type T = From;
    fn get_read(&self, start: u64) -> parquet::errors::Result<From> {
        Ok(From { file: self.clone(), offset: start })
    }
    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(parquet::errors::ParquetError::EOF("a block lies behind the end of the file".into()));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

//! Content: whether the bytes of a file are those that a writer has handed over.
//!
//! Costs: the file is read once, in full: a part of it would leave the rest to chance, and writing it again costs more.

use super::io::io;
use super::staging::StagedFile;
use crate::base::error::{Error, Result};
use crate::base::vfs::VfsFile;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// Bytes read at once to compare a checksum.
const READ_BYTES: usize = 1 << 20;

/// Whether a file begins with what was written and handed over.
pub(super) fn check_content(opened: &dyn VfsFile, path: &Path, file: &StagedFile) -> Result<()> {
    let corrupt = |offset, message| Error::Corrupt { path: path.to_path_buf(), offset, message };
    let len = io("read", path, opened.len())?;
    if len < file.bytes {
        return Err(corrupt(len, format!("expected {} bytes of output, found {len}", file.bytes)));
    }
    let Some(checksum) = file.checksum else { return Ok(()) };
    let mut digest = Xxh3::new();
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(file.bytes).unwrap_or(READ_BYTES))];
    let mut at = 0;
    while at < file.bytes {
        let n = buffer.len().min(usize::try_from(file.bytes - at).unwrap_or(usize::MAX));
        io("read", path, opened.read_exact_at(&mut buffer[..n], at))?;
        digest.update(&buffer[..n]);
        at += n as u64;
    }
    match digest.digest() == checksum {
        true => Ok(()),
        false => Err(corrupt(0, format!("the first {} bytes are not those that were written", file.bytes))),
    }
}

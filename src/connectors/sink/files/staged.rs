//! Staged writer: writes the one part file of a unit of work, which becomes visible with all others.
//!
//! Place: the writer of [`FileSink`](super::FileSink) in jobs without checkpoints; see `staging`.

use super::rows::RowEncoder;
use super::staging::StagedFile;
use super::{BUFFER_BYTES, ENCODE_RECORDS};
use crate::base::error::{Error, Result};
use crate::base::metrics::Counter;
use crate::base::vfs::{SharedVfs, VfsFile};
use crate::operator::sink::SinkContext;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Writes one part file. Dropped before `finish` has succeeded, it removes the file.
pub(super) struct StagedWriter<E> {
    encoder: E,
    dir: PathBuf,
    path: PathBuf,
    staged: String,
    name: String,
    buffer: Vec<u8>,
    file: Option<Box<dyn VfsFile>>,
    bytes: u64,
    /// Of all bytes, where another process may have to check them.
    digest: Option<Box<Xxh3>>,
    synced: bool,
    vfs: SharedVfs,
    bytes_written: Counter,
}

impl<E> StagedWriter<E> {
    pub(super) fn new(
        encoder: E,
        dir: PathBuf,
        staged: String,
        name: String,
        synced: bool,
        ctx: &SinkContext,
        bytes_written: Counter,
    ) -> Self {
        let path = dir.join(&staged);
        StagedWriter {
            encoder,
            dir,
            path,
            staged,
            name,
            buffer: Vec::new(),
            file: None,
            bytes: 0,
            digest: ctx.resumable.then(|| Box::new(Xxh3::new())),
            synced,
            vfs: ctx.vfs.clone(),
            bytes_written,
        }
    }

    /// Writes records.
    pub(super) fn write<T>(&mut self, records: &[T]) -> Result<()>
    where
        E: RowEncoder<T>,
    {
        for records in records.chunks(ENCODE_RECORDS) {
            self.encoder.encode(records, &mut self.buffer)?;
            if self.buffer.len() >= BUFFER_BYTES {
                self.write_buffer()?;
            }
        }
        Ok(())
    }

    /// Makes the file durable, if there is one.
    pub(super) fn finish<T>(&mut self) -> Result<Vec<StagedFile>>
    where
        E: RowEncoder<T>,
    {
        if self.file.is_some() || !self.buffer.is_empty() {
            self.encoder.finish(&mut self.buffer)?;
        }
        self.write_buffer()?;
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        if self.synced {
            file.sync_data().map_err(|e| Error::io("sync", &self.path, e))?;
        }
        self.vfs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        self.file = None;
        let (staged, name) = (self.staged.clone(), self.name.clone());
        let checksum = self.digest.as_ref().map(|digest| digest.digest());
        Ok(vec![StagedFile { staged, name, bytes: self.bytes, checksum }])
    }

    fn write_buffer(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(&self.vfs, &self.path)?),
        };
        file.append(&self.buffer).map_err(|e| Error::io("write", &self.path, e))?;
        if let Some(digest) = &mut self.digest {
            digest.update(&self.buffer);
        }
        self.bytes += self.buffer.len() as u64;
        self.bytes_written.add(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }
}

/// A file of the same attempt can only be of a process that died: the job was resumed.
fn create(vfs: &SharedVfs, path: &Path) -> Result<Box<dyn VfsFile>> {
    match vfs.create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            vfs.remove_file(path).map_err(|e| Error::io("remove", path, e))?;
            vfs.create(path)
        }
        created => created,
    }
    .map_err(|e| Error::io("create", path, e))
}

impl<E> Drop for StagedWriter<E> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What cannot be removed here goes with the staging directory.
            let _ = self.vfs.remove_file(&self.path);
        }
    }
}

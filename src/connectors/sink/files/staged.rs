//! Staged writer: writes the part files of a unit of work, one for each bucket, which become visible with all others.
//!
//! Place: the writer of [`FileSink`](super::FileSink) in jobs without checkpoints; see `staging`.
//! Costs and limits: one buffer of [`BUFFER_BYTES`] and one open file for each bucket that was written to lately, at most
//! [`OPEN_BUCKETS_MAX`] of them; of the others an encoder and a name.

use super::buckets::BucketAssigner;
use super::names::bucket_dir;
use super::rows::{RowEncoder, RowFormat};
use super::staging::StagedFile;
use super::writer::OPEN_BUCKETS_MAX;
use super::{BUFFER_BYTES, ENCODE_RECORDS};
use crate::base::error::{Error, Result};
use crate::base::metrics::Counter;
use crate::base::vfs::{SharedVfs, VfsFile, create_anew};
use std::collections::BTreeMap;
use std::path::PathBuf;
use xxhash_rust::xxh3::Xxh3;

/// What a writer is made with.
pub(super) struct StagedWriterOptions<F, B> {
    pub(super) format: F,
    pub(super) buckets: B,
    /// The staging directory.
    pub(super) dir: PathBuf,
    /// What the hidden names of its files begin with.
    pub(super) staged: String,
    /// The name of its file in each bucket.
    pub(super) name: String,
    pub(super) synced: bool,
    /// Whether another process may have to check what is in the files.
    pub(super) digested: bool,
    pub(super) vfs: SharedVfs,
    pub(super) bytes_written: Counter,
}

/// Writes part files. Dropped before `finish` has succeeded, it removes them.
pub(super) struct StagedWriter<F, E, B> {
    options: StagedWriterOptions<F, B>,
    /// By the names that the program gives to buckets.
    parts: BTreeMap<String, StagedPart<E>>,
    /// Parts whose files are open or that have a buffer.
    open: usize,
    /// Counts batches, so that the part that has waited longest is known.
    now: u64,
    /// The name of a record's bucket.
    bucket: String,
    is_finished: bool,
}

struct StagedPart<E> {
    encoder: E,
    path: PathBuf,
    staged: String,
    name: String,
    buffer: Vec<u8>,
    is_open: bool,
    file: Option<Box<dyn VfsFile>>,
    bytes: u64,
    /// Of all bytes, where another process may have to check them.
    digest: Option<Box<Xxh3>>,
    last: u64,
}

impl<E> StagedPart<E> {
    fn write_buffer(&mut self, vfs: &SharedVfs, bytes_written: &Counter) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let file = match (&mut self.file, self.bytes) {
            (Some(file), _) => file,
            (none, 0) => {
                none.insert(create_anew(&**vfs, &self.path).map_err(|e| Error::io("create", &self.path, e))?)
            }
            (none, _) => {
                none.insert(vfs.open_append(&self.path).map_err(|e| Error::io("open", &self.path, e))?)
            }
        };
        file.append(&self.buffer).map_err(|e| Error::io("write", &self.path, e))?;
        if let Some(digest) = &mut self.digest {
            digest.update(&self.buffer);
        }
        self.bytes += self.buffer.len() as u64;
        bytes_written.add(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is in the buffer, and closes the file.
    fn close(&mut self, vfs: &SharedVfs, bytes_written: &Counter, synced: bool) -> Result<()> {
        self.write_buffer(vfs, bytes_written)?;
        if let (Some(file), true) = (&mut self.file, synced) {
            file.sync_data().map_err(|e| Error::io("sync", &self.path, e))?;
        }
        (self.file, self.buffer, self.is_open) = (None, Vec::new(), false);
        Ok(())
    }
}

impl<F, E, B> StagedWriter<F, E, B> {
    pub(super) fn new(options: StagedWriterOptions<F, B>) -> Self {
        StagedWriter {
            options,
            parts: BTreeMap::new(),
            open: 0,
            now: 0,
            bucket: String::new(),
            is_finished: false,
        }
    }

    /// Writes records.
    pub(super) fn write<T>(&mut self, records: &[T]) -> Result<()>
    where
        F: RowFormat<T, Encoder = E>,
        E: RowEncoder<T>,
        B: BucketAssigner<T>,
    {
        self.now += 1;
        if B::ONE {
            return self.encode(records);
        }
        // Neighbours of one bucket are encoded together.
        let (mut start, mut name) = (0, String::new());
        for (i, record) in records.iter().enumerate() {
            name.clear();
            self.options.buckets.assign(record, &mut name);
            if name != self.bucket {
                self.encode(&records[start..i])?;
                start = i;
                std::mem::swap(&mut self.bucket, &mut name);
            }
        }
        self.encode(&records[start..])
    }

    /// Encodes records of the bucket at hand.
    fn encode<T>(&mut self, records: &[T]) -> Result<()>
    where
        F: RowFormat<T, Encoder = E>,
        E: RowEncoder<T>,
        B: BucketAssigner<T>,
    {
        if records.is_empty() {
            return Ok(());
        }
        if !self.parts.get(&self.bucket).is_some_and(|part| part.is_open) {
            self.begin::<T>()?;
        }
        let Some(part) = self.parts.get_mut(&self.bucket) else { return Ok(()) };
        part.last = self.now;
        for records in records.chunks(ENCODE_RECORDS) {
            part.encoder.encode(records, &mut part.buffer)?;
            if part.buffer.len() >= BUFFER_BYTES {
                part.write_buffer(&self.options.vfs, &self.options.bytes_written)?;
            }
        }
        Ok(())
    }

    /// Begins the part of the bucket at hand, or opens it again.
    fn begin<T>(&mut self) -> Result<()>
    where
        F: RowFormat<T, Encoder = E>,
        B: BucketAssigner<T>,
    {
        let options = &self.options;
        if self.open >= OPEN_BUCKETS_MAX {
            let open = self.parts.values_mut().filter(|part| part.is_open);
            if let Some(oldest) = open.min_by_key(|part| part.last) {
                oldest.close(&options.vfs, &options.bytes_written, options.synced)?;
                self.open -= 1;
            }
        }
        self.open += 1;
        if let Some(part) = self.parts.get_mut(&self.bucket) {
            part.is_open = true;
            return Ok(());
        }
        let staged = match B::ONE {
            true => options.staged.clone(),
            false => format!("{}.{}", options.staged, self.parts.len()),
        };
        let part = StagedPart {
            encoder: options.format.encoder(),
            path: options.dir.join(&staged),
            staged,
            name: format!("{}{}", bucket_dir(&self.bucket), options.name),
            buffer: Vec::new(),
            is_open: true,
            file: None,
            bytes: 0,
            digest: options.digested.then(|| Box::new(Xxh3::new())),
            last: self.now,
        };
        self.parts.insert(self.bucket.clone(), part);
        Ok(())
    }

    /// Makes the files durable, if there are any.
    pub(super) fn finish<T>(&mut self) -> Result<Vec<StagedFile>>
    where
        E: RowEncoder<T>,
    {
        let options = &self.options;
        let mut files = Vec::new();
        for part in self.parts.values_mut() {
            part.encoder.finish(&mut part.buffer)?;
            part.close(&options.vfs, &options.bytes_written, options.synced)?;
            if part.bytes > 0 {
                let (staged, name) = (part.staged.clone(), part.name.clone());
                let checksum = part.digest.as_ref().map(|digest| digest.digest());
                files.push(StagedFile { staged, name, bytes: part.bytes, checksum });
            }
        }
        if !files.is_empty() {
            options.vfs.sync_dir(&options.dir).map_err(|e| Error::io("sync", &options.dir, e))?;
        }
        self.is_finished = true;
        Ok(files)
    }
}

impl<F, E, B> Drop for StagedWriter<F, E, B> {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        for part in self.parts.values_mut() {
            if part.file.take().is_some() || part.bytes > 0 {
                // What cannot be removed here goes with the staging directory.
                let _ = self.options.vfs.remove_file(&part.path);
            }
        }
    }
}

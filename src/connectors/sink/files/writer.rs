//! Part writer: writes the records of one subtask to part files, a file at a time for each bucket, and closes them by the
//! rolling policy.
//!
//! Place: the writer of [`FileSink`](super::FileSink) in jobs with checkpoints; see `parts` for what becomes of the files.
//! Invariants: what `prepare_commit` hands over, and what `snapshot` names, is durable: bytes, names and directories. A
//! file is created with its first bytes. After a failed sync nothing is tried again: the attempt has failed, and the file is
//! dropped when the next one begins.
//! Costs and limits: one buffer of [`BUFFER_BYTES`] for each open file, at most [`OPEN_BUCKETS_MAX`] of them; one sync for
//! each file that was written to since the barrier before, in the subtask.

use super::buckets::BucketAssigner;
use super::names::{PartId, bucket_dir};
use super::parts::{WriterState, create_bucket};
use super::rolling::RollingPolicy;
use super::rows::{RowEncoder, RowFormat};
use super::staging::StagedFile;
use super::{BUFFER_BYTES, ENCODE_RECORDS};
use crate::base::batch::Batch;
use crate::base::clock::Clock;
use crate::base::data::{Data, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::metrics::Counter;
use crate::base::vfs::{SharedVfs, VfsFile};
use crate::operator::sink::{CommitPoint, SinkWriter};
use crate::semantics::state::Section;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Buckets of one subtask whose files are open; one more closes the file that has waited longest for a record.
pub const OPEN_BUCKETS_MAX: usize = 128;

/// What a writer is made with.
pub(super) struct PartWriterOptions<F, B> {
    pub(super) format: F,
    pub(super) buckets: B,
    pub(super) policy: RollingPolicy,
    pub(super) dir: PathBuf,
    pub(super) subtask: usize,
    /// Number of its first file.
    pub(super) next: u64,
    pub(super) uid: String,
    pub(super) vfs: SharedVfs,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) bytes_written: Counter,
}

/// See the module.
pub struct PartWriter<F, E, B> {
    options: PartWriterOptions<F, B>,
    /// By the names that the program gives to buckets.
    open: BTreeMap<String, OpenPart<E>>,
    /// Files that were closed since the barrier before.
    closed: Vec<StagedFile>,
    /// Directories in which files were created since.
    unsynced: BTreeSet<PathBuf>,
    /// The name of a record's bucket.
    bucket: String,
}

/// What is written to one file.
struct OpenPart<E> {
    encoder: E,
    /// The directory of its bucket, below the output directory.
    below: String,
    extension: &'static str,
    buffer: Vec<u8>,
    /// With the first bytes, and with its number: so all numbers that were given out are of files that are there.
    file: Option<PartFile>,
    first_ms: i64,
    last_ms: i64,
}

struct PartFile {
    file: Box<dyn VfsFile>,
    staged: String,
    name: String,
    path: PathBuf,
    bytes: u64,
    digest: Xxh3,
    is_synced: bool,
}

impl PartFile {
    /// Creates the next file of a writer.
    fn create<F, B>(
        options: &mut PartWriterOptions<F, B>,
        below: &str,
        extension: &str,
        unsynced: &mut BTreeSet<PathBuf>,
    ) -> Result<PartFile> {
        // Its directories may have been synced since the part began.
        create_bucket(&*options.vfs, &options.dir, below, unsynced)?;
        let id = PartId { subtask: options.subtask, n: options.next };
        options.next += 1;
        let staged = format!("{below}{}", id.in_progress(&options.uid));
        let path = options.dir.join(&staged);
        Ok(PartFile {
            file: options.vfs.create(&path).map_err(|e| Error::io("create", &path, e))?,
            staged,
            name: format!("{below}{}", id.finished(extension)),
            path,
            bytes: 0,
            digest: Xxh3::new(),
            is_synced: true,
        })
    }

    fn described(&self) -> StagedFile {
        let (staged, name) = (self.staged.clone(), self.name.clone());
        StagedFile { staged, name, bytes: self.bytes, checksum: Some(self.digest.digest()) }
    }
}

impl<E> OpenPart<E> {
    fn write_buffer<F, B>(
        &mut self,
        options: &mut PartWriterOptions<F, B>,
        unsynced: &mut BTreeSet<PathBuf>,
    ) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let of = match &mut self.file {
            Some(file) => file,
            none => none.insert(PartFile::create(options, &self.below, self.extension, unsynced)?),
        };
        of.file.append(&self.buffer).map_err(|e| Error::io("write", &of.path, e))?;
        of.digest.update(&self.buffer);
        of.bytes += self.buffer.len() as u64;
        of.is_synced = false;
        options.bytes_written.add(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }

    /// Makes durable what was written; the file as it is now, if there is one.
    fn sync<F, B>(
        &mut self,
        options: &mut PartWriterOptions<F, B>,
        unsynced: &mut BTreeSet<PathBuf>,
    ) -> Result<Option<StagedFile>> {
        self.write_buffer(options, unsynced)?;
        let Some(of) = &mut self.file else { return Ok(None) };
        if !of.is_synced {
            of.file.sync_data().map_err(|e| Error::io("sync", &of.path, e))?;
            of.is_synced = true;
        }
        Ok(Some(of.described()))
    }

    /// Bytes of the file, with those that are not there yet.
    fn bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.bytes) + self.buffer.len() as u64
    }
}

impl<F, E, B> PartWriter<F, E, B> {
    pub(super) fn new(options: PartWriterOptions<F, B>) -> Self {
        PartWriter {
            options,
            open: BTreeMap::new(),
            closed: Vec::new(),
            unsynced: BTreeSet::new(),
            bucket: String::new(),
        }
    }

    /// The open file of the bucket at hand; it is begun if there is none.
    fn begin<T>(&mut self, now: i64) -> Result<()>
    where
        F: RowFormat<T, Encoder = E>,
        E: RowEncoder<T>,
    {
        if self.open.contains_key(&self.bucket) {
            return Ok(());
        }
        if self.open.len() >= OPEN_BUCKETS_MAX {
            let oldest =
                self.open.iter().min_by_key(|(_, part)| part.last_ms).map(|(bucket, _)| bucket.clone());
            oldest.map_or(Ok(()), |bucket| self.close::<T>(&bucket))?;
        }
        let (options, below) = (&self.options, bucket_dir(&self.bucket));
        create_bucket(&*options.vfs, &options.dir, &below, &mut self.unsynced)?;
        let part = OpenPart {
            encoder: options.format.encoder(),
            below,
            extension: options.format.extension(),
            buffer: Vec::new(),
            file: None,
            first_ms: now,
            last_ms: now,
        };
        self.open.insert(self.bucket.clone(), part);
        Ok(())
    }

    /// Encodes records of the bucket at hand.
    fn encode<T>(&mut self, records: &[T], now: i64) -> Result<()>
    where
        F: RowFormat<T, Encoder = E>,
        E: RowEncoder<T>,
    {
        for records in records.chunks(ENCODE_RECORDS) {
            self.begin::<T>(now)?;
            let Some(part) = self.open.get_mut(&self.bucket) else { return Ok(()) };
            part.encoder.encode(records, &mut part.buffer)?;
            part.last_ms = now;
            if part.buffer.len() >= BUFFER_BYTES {
                part.write_buffer(&mut self.options, &mut self.unsynced)?;
            }
            if self.options.policy.is_full(part.bytes()) {
                let bucket = self.bucket.clone();
                self.close::<T>(&bucket)?;
            }
        }
        Ok(())
    }

    /// Closes the file of a bucket; it waits for the next checkpoint.
    fn close<T>(&mut self, bucket: &str) -> Result<()>
    where
        F: RowFormat<T, Encoder = E>,
        E: RowEncoder<T>,
    {
        let Some(mut part) = self.open.remove(bucket) else { return Ok(()) };
        part.encoder.finish(&mut part.buffer)?;
        self.closed.extend(part.sync(&mut self.options, &mut self.unsynced)?);
        Ok(())
    }
}

impl<T, F, E, B> SinkWriter<T> for PartWriter<F, E, B>
where
    T: Data,
    F: RowFormat<T, Encoder = E>,
    E: RowEncoder<T>,
    B: BucketAssigner<T>,
{
    type Committable = StagedFile;

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let now = self.options.clock.now_ms();
        if B::ONE {
            self.encode(&batch.values, now)?;
        } else {
            // Neighbours of one bucket are encoded together.
            let (mut start, mut name) = (0, String::new());
            for (i, record) in batch.values.iter().enumerate() {
                name.clear();
                self.options.buckets.assign(record, &mut name);
                if name != self.bucket {
                    self.encode(&batch.values[start..i], now)?;
                    start = i;
                    std::mem::swap(&mut self.bucket, &mut name);
                }
            }
            self.encode(&batch.values[start..], now)?;
        }
        batch.clear();
        Ok(())
    }

    fn prepare_commit(&mut self, at: CommitPoint) -> Result<Vec<StagedFile>> {
        // Of a savepoint nothing may be left that only this directory has under a hidden name.
        let complete = match at {
            CommitPoint::End => true,
            CommitPoint::Barrier(barrier) => barrier.savepoint || self.options.format.is_bulk(),
        };
        if complete {
            for bucket in self.open.keys().cloned().collect::<Vec<_>>() {
                self.close::<T>(&bucket)?;
            }
        }
        for part in self.open.values_mut() {
            part.sync(&mut self.options, &mut self.unsynced)?;
        }
        while let Some(dir) = self.unsynced.pop_first() {
            self.options.vfs.sync_dir(&dir).map_err(|e| Error::io("sync", &dir, e))?;
        }
        Ok(std::mem::take(&mut self.closed))
    }

    fn snapshot(&mut self, states: &mut Section) -> Result<()> {
        let files = self.open.values().filter_map(|part| part.file.as_ref());
        states.put(&WriterState { next: self.options.next, open: files.map(PartFile::described).collect() })
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let policy = &self.options.policy;
        self.open.values().map(|part| policy.due_ms(part.first_ms, part.last_ms)).min()
    }

    fn processing_time(&mut self, now: Timestamp) -> Result<()> {
        let policy = self.options.policy;
        let due = self.open.iter().filter(|(_, part)| policy.due_ms(part.first_ms, part.last_ms) <= now);
        for bucket in due.map(|(bucket, _)| bucket.clone()).collect::<Vec<_>>() {
            self.close::<T>(&bucket)?;
        }
        Ok(())
    }
}

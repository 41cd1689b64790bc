//! FileSink: part files in a directory, visible all at once when the job has succeeded, or one by one with checkpoints.
//!
//! Place: one writer for each unit of work of each subtask. Without checkpoints the protocol of the directory is in
//! `staging`; with checkpoints it is in `parts`, and the writer in [`writer`].
//! Invariants: a file is created with its first record, so that a unit without records leaves none. Part files
//! sort by name as by (subtask, number). What `prepare_commit` hands over is durable.
//! Costs and limits: one buffer of [`BUFFER_BYTES`] for each open file; writing and syncing happen in the subtask.

mod buckets;
mod content;
mod io;
mod lock;
mod names;
mod parts;
#[cfg(test)]
mod parts_tests;
mod rolling;
pub mod rows;
mod scan;
mod staged;
#[cfg(test)]
mod staged_tests;
mod staging;
#[cfg(test)]
mod staging_tests;
pub mod writer;

use super::line::{Line, LineWith};
use super::{CommitPoint, Recovered, Section, Sink, SinkContext, SinkWriter};
use crate::base::batch::Batch;
use crate::base::data::{Data, Timestamp};
use crate::base::error::Result;
pub use buckets::{BucketAssigner, BucketBy, OneBucket, date_hour};
use parts::{GoingBack, Parts, WriterState};
pub use rolling::RollingPolicy;
use rows::{BytesFormat, CsvFormat, RowEncoder, RowFormat, TextFormat};
use staged::{StagedWriter, StagedWriterOptions};
pub use staging::StagedFile;
use staging::Staging;
use std::path::PathBuf;
use writer::{PartWriter, PartWriterOptions};

/// Bytes a writer collects before it writes: large enough that the call does not show in a profile.
pub const BUFFER_BYTES: usize = 256 << 10;

/// Records encoded between two looks at the buffer's size, so that it stays near its bound with large records.
const ENCODE_RECORDS: usize = 64;

/// Writes records to part files in a directory, which must be absent or empty unless
/// [`overwrite`](Self::overwrite) is given.
///
/// Without checkpoints the files are named `part-<subtask>-<unit>.<extension>`. They appear together once the job has
/// succeeded; a job that fails or is cancelled leaves nothing, and a job without records an empty directory.
///
/// With checkpoints they are named `part-<subtask>-<n>.<extension>`, are closed by the [`RollingPolicy`], and appear one by
/// one, each with the first checkpoint after it was closed. A file that has appeared never changes, so whoever reads
/// it reads each record once, whatever happens to the job: a job that is restored finishes the files of its checkpoint
/// with what was written before it, and removes what was written later. While it is written to, a file has a hidden name.
///
/// Going back to a checkpoint that is older than finished files is refused, since their records would come again. With
/// [`allow_output_rollback`](crate::api::Environment::allow_output_rollback) the files that were finished since are removed, and
/// those that were written to at the checkpoint are cut: all part files with such numbers in the directory count as the
/// job's, which had it for itself. A savepoint has finished files only. It may be restored into another output directory,
/// which then has what comes after it.
///
/// ```
/// use mainstem::connectors::sink::FileSink;
/// use std::fmt::Write;
/// let counts = FileSink::csv("out/counts").header(true);
/// let report = FileSink::text_with("out/report", |(word, n): &(String, u64), line| write!(line, "{n:>8} {word}"));
/// # let _ = (counts, report);
/// ```
pub struct FileSink<F, B = OneBucket> {
    staging: Staging,
    parts: Parts,
    format: F,
    buckets: B,
    policy: RollingPolicy,
    synced: bool,
}

/// One line per record, as its `Display` shows it. Made by [`FileSink::text`].
pub type TextSink = FileSink<TextFormat>;
/// One row of CSV per record. Made by [`FileSink::csv`].
pub type CsvSink = FileSink<CsvFormat>;

impl TextSink {
    /// One line per record, as its `Display` shows it.
    pub fn text(dir: impl Into<PathBuf>) -> Self {
        FileSink::with_format(dir, TextFormat::default())
    }
}

impl<G> FileSink<TextFormat<LineWith<G>>> {
    /// One line per record, as `format` writes it.
    pub fn text_with<T>(dir: impl Into<PathBuf>, format: G) -> Self
    where
        G: Fn(&T, &mut Line<'_>) -> std::fmt::Result + Clone + Send + Sync + 'static,
    {
        FileSink::with_format(dir, TextFormat(LineWith(format)))
    }
}

impl FileSink<BytesFormat> {
    /// The bytes of each record, one after the other, with nothing between them.
    pub fn bytes(dir: impl Into<PathBuf>) -> Self {
        FileSink::with_format(dir, BytesFormat)
    }
}

impl CsvSink {
    /// One row per record: a struct, or a tuple of plain fields. Fields are quoted where RFC 4180 asks for it.
    pub fn csv(dir: impl Into<PathBuf>) -> Self {
        FileSink::with_format(dir, CsvFormat::default())
    }
    /// Whether every file starts with the names of the fields; off unless set.
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.format.header = header;
        self
    }
}

impl<F> FileSink<F> {
    /// Files of any format.
    pub fn with_format(dir: impl Into<PathBuf>, format: F) -> Self {
        let dir = dir.into();
        FileSink {
            staging: Staging::new(dir.clone()),
            parts: Parts::new(dir),
            format,
            buckets: OneBucket,
            policy: RollingPolicy::default(),
            synced: true,
        }
    }
    /// Puts each record into a directory below the output directory, its bucket, which `name` writes: a `/` in the name
    /// separates directories, and what could mean something else to a file system is encoded. Without checkpoints each unit
    /// of work has a file in each bucket that it has records for, and all appear when the job has succeeded.
    ///
    /// ```
    /// use mainstem::connectors::sink::{FileSink, date_hour};
    /// let by_hour = FileSink::csv("out").bucket_by(|(time, _): &(i64, String), bucket| date_hour(*time, bucket));
    /// # let _ = by_hour;
    /// ```
    pub fn bucket_by<T, G>(self, name: G) -> FileSink<F, BucketBy<G>>
    where
        G: Fn(&T, &mut String) + Clone + Send + Sync + 'static,
    {
        let FileSink { mut staging, parts, format, policy, synced, .. } = self;
        staging.buckets = true;
        FileSink { staging, parts, format, buckets: BucketBy(name), policy, synced }
    }
}

impl<F, B> FileSink<F, B> {
    /// Whether the part files of a directory that is not empty are replaced; off unless set. Without checkpoints they stay
    /// untouched until the job has succeeded; with checkpoints they are removed when it starts. Files of other names stay
    /// for ever.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.staging.overwrite = overwrite;
        self
    }
    /// Whether the files of a job without checkpoints are on the disk before they appear; on unless set. Off, they appear when the
    /// operating system has their data, and a crash of the machine soon after may leave some of them empty: for results
    /// that can be computed again. With checkpoints they always are.
    #[must_use]
    pub fn synced(mut self, synced: bool) -> Self {
        self.synced = synced;
        self
    }
    /// When the files of a job with checkpoints are closed.
    #[must_use]
    pub fn rolling(mut self, policy: RollingPolicy) -> Self {
        self.policy = policy;
        self
    }
}

impl<T: Data, F: RowFormat<T>, B: BucketAssigner<T>> Sink<T> for FileSink<F, B> {
    type Committable = StagedFile;
    type Writer = FileWriter<F, F::Encoder, B>;

    fn describe(&self) -> String {
        format!("{} {}", self.format.name(), self.staging.dir().display())
    }
    fn prepare(&self, ctx: &SinkContext) -> Result<()> {
        match ctx.checkpoints {
            true => self.parts.prepare(&ctx.vfs, &self.staging, ctx.restored),
            false => self.staging.prepare(&*ctx.vfs, &ctx.job_id),
        }
    }
    fn writer(&self, ctx: &SinkContext) -> Result<Self::Writer> {
        let bytes_written = ctx.counters.counter("bytes_written");
        if ctx.checkpoints {
            return Ok(FileWriter(Protocol::Parts(PartWriter::new(PartWriterOptions {
                format: self.format.clone(),
                buckets: self.buckets.clone(),
                policy: self.policy,
                dir: self.staging.dir().to_path_buf(),
                subtask: ctx.subtask,
                next: self.parts.first(),
                uid: names::uid(&ctx.job_id, ctx.attempt),
                vfs: ctx.vfs.clone(),
                clock: ctx.clock.clone(),
                bytes_written,
            }))));
        }
        let (subtask, unit) = (ctx.subtask, ctx.unit);
        let staged = format!(".part-{subtask:05}-{unit:05}.attempt-{}.{}", ctx.process, ctx.attempt);
        let dir = self.staging.staging(&*ctx.vfs, &ctx.job_id)?;
        let name = format!("part-{subtask:05}-{unit:05}.{}", self.format.extension());
        Ok(FileWriter(Protocol::Staged(StagedWriter::new(StagedWriterOptions {
            format: self.format.clone(),
            buckets: self.buckets.clone(),
            dir,
            staged,
            name,
            synced: self.synced,
            digested: ctx.resumable,
            vfs: ctx.vfs.clone(),
            bytes_written,
        }))))
    }
    fn commit(&self, committables: Vec<StagedFile>, ctx: &SinkContext) -> Result<()> {
        match ctx.checkpoints {
            true => self.parts.commit(&*ctx.vfs, &committables),
            false => self.staging.commit(&*ctx.vfs, &ctx.job_id, committables),
        }
    }
    fn recover(&self, recovered: Recovered<'_, StagedFile>, ctx: &SinkContext) -> Result<()> {
        let states = recovered.states.entries::<WriterState>().collect::<Result<Vec<_>>>()?;
        let going_back = GoingBack { rollback: ctx.rollback, committed: recovered.committed };
        self.parts.recover(&*ctx.vfs, recovered.committables, states, going_back)
    }
    fn finish(&self, _ctx: &SinkContext) -> Result<()> {
        self.parts.release();
        Ok(())
    }
    fn is_intact(&self, file: &StagedFile, ctx: &SinkContext) -> Result<bool> {
        self.staging.is_intact(&*ctx.vfs, &ctx.job_id, file)
    }
    fn suspend(&self, _ctx: &SinkContext) -> Result<()> {
        self.parts.release();
        self.staging.let_go();
        Ok(())
    }
    fn abort(&self, ctx: &SinkContext) -> Result<()> {
        match ctx.checkpoints {
            true => self.parts.abort(&*ctx.vfs),
            false => self.staging.abort(&*ctx.vfs, &ctx.job_id),
        }
    }
}

/// Writes the part files of one subtask, or of one unit of work.
pub struct FileWriter<F, E, B>(Protocol<F, E, B>);

enum Protocol<F, E, B> {
    /// A file in each bucket, visible at the end of the job.
    Staged(StagedWriter<F, E, B>),
    /// Files that become visible with checkpoints.
    Parts(PartWriter<F, E, B>),
}

impl<T, F, E, B> SinkWriter<T> for FileWriter<F, E, B>
where
    T: Data,
    F: RowFormat<T, Encoder = E>,
    E: RowEncoder<T>,
    B: BucketAssigner<T>,
{
    type Committable = StagedFile;

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        match &mut self.0 {
            Protocol::Staged(writer) => {
                writer.write(&batch.values)?;
                batch.clear();
                Ok(())
            }
            Protocol::Parts(writer) => writer.write(batch),
        }
    }
    fn prepare_commit(&mut self, at: CommitPoint) -> Result<Vec<StagedFile>> {
        match &mut self.0 {
            Protocol::Staged(writer) => writer.finish::<T>(),
            Protocol::Parts(writer) => SinkWriter::<T>::prepare_commit(writer, at),
        }
    }
    fn snapshot(&mut self, states: &mut Section) -> Result<()> {
        match &mut self.0 {
            Protocol::Staged(_) => Ok(()),
            Protocol::Parts(writer) => SinkWriter::<T>::snapshot(writer, states),
        }
    }
    fn next_timer(&self) -> Option<Timestamp> {
        match &self.0 {
            Protocol::Staged(_) => None,
            Protocol::Parts(writer) => SinkWriter::<T>::next_timer(writer),
        }
    }
    fn processing_time(&mut self, now: Timestamp) -> Result<()> {
        match &mut self.0 {
            Protocol::Staged(_) => Ok(()),
            Protocol::Parts(writer) => SinkWriter::<T>::processing_time(writer, now),
        }
    }
}

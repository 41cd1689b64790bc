//! FileSink: part files in a directory, visible all at once when the job has succeeded.
//!
//! Place: one writer for each unit of work of each subtask; the protocol of the directory is in `staging`.
//! Invariants: a file is created with its first record, so that a unit without records leaves none. Part files
//! sort by name as by (subtask, unit). What `finish` hands over is durable.
//! Costs and limits: one buffer of [`BUFFER_BYTES`] per writer; writing and syncing happen in the subtask.

use super::line::{Line, LineWith};
use super::rows::{CsvFormat, RowEncoder, RowFormat, TextFormat};
use super::staging::{StagedFile, Staging};
use super::{Sink, SinkContext, SinkWriter};
use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::base::metrics::Counter;
use crate::base::vfs::{SharedVfs, VfsFile};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Bytes a writer collects before it writes: large enough that the call does not show in a profile.
pub const BUFFER_BYTES: usize = 256 << 10;

/// Records encoded between two looks at the buffer's size, so that it stays near its bound with large records.
const ENCODE_RECORDS: usize = 64;

/// Writes records to part files in a directory, which must be absent or empty unless
/// [`overwrite`](Self::overwrite) is given.
///
/// The files are named `part-<subtask>-<unit>.<extension>`. They appear together once the job has succeeded; a
/// job that fails or is cancelled leaves nothing, and a job without records an empty directory.
///
/// ```
/// use mainstem::connectors::sink::FileSink;
/// use std::fmt::Write;
/// let counts = FileSink::csv("out/counts").header(true);
/// let report = FileSink::text_with("out/report", |(word, n): &(String, u64), line| write!(line, "{n:>8} {word}"));
/// # let _ = (counts, report);
/// ```
pub struct FileSink<F> {
    staging: Staging,
    format: F,
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
        FileSink { staging: Staging::new(dir.into()), format }
    }
    /// Whether the part files of a directory that is not empty are replaced; off unless set. They stay untouched
    /// until the job has succeeded, and files of other names for ever.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.staging.overwrite = overwrite;
        self
    }
}

impl<T: Data, F: RowFormat<T>> Sink<T> for FileSink<F> {
    type Committable = StagedFile;
    type Writer = FileWriter<F::Encoder>;

    fn describe(&self) -> String {
        format!("{} {}", self.format.name(), self.staging.dir().display())
    }
    fn prepare(&self, ctx: &SinkContext) -> Result<()> {
        self.staging.prepare(&*ctx.vfs, &ctx.job_id)
    }
    fn writer(&self, ctx: &SinkContext) -> Result<Self::Writer> {
        let (subtask, unit) = (ctx.subtask, ctx.unit);
        let staged = format!(".part-{subtask:05}-{unit:05}.attempt-{}", ctx.attempt);
        let dir = self.staging.staging(&*ctx.vfs, &ctx.job_id)?;
        Ok(FileWriter {
            encoder: self.format.encoder(),
            path: dir.join(&staged),
            dir,
            staged,
            name: format!("part-{subtask:05}-{unit:05}.{}", self.format.extension()),
            buffer: Vec::new(),
            file: None,
            bytes: 0,
            vfs: ctx.vfs.clone(),
            bytes_written: ctx.counters.counter("bytes_written"),
        })
    }
    fn commit(&self, committables: Vec<StagedFile>, ctx: &SinkContext) -> Result<()> {
        self.staging.commit(&*ctx.vfs, &ctx.job_id, committables)
    }
    fn is_intact(&self, file: &StagedFile, ctx: &SinkContext) -> Result<bool> {
        self.staging.is_intact(&*ctx.vfs, &ctx.job_id, file)
    }
    fn suspend(&self, _ctx: &SinkContext) -> Result<()> {
        self.staging.let_go();
        Ok(())
    }
    fn abort(&self, ctx: &SinkContext) -> Result<()> {
        self.staging.abort(&*ctx.vfs, &ctx.job_id)
    }
}

/// Writes one part file. Dropped before `finish` has succeeded, it removes the file.
pub struct FileWriter<E> {
    encoder: E,
    dir: PathBuf,
    path: PathBuf,
    staged: String,
    name: String,
    buffer: Vec<u8>,
    file: Option<Box<dyn VfsFile>>,
    bytes: u64,
    vfs: SharedVfs,
    bytes_written: Counter,
}

impl<E> FileWriter<E> {
    fn write_buffer(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(&self.vfs, &self.path)?),
        };
        file.append(&self.buffer).map_err(|e| Error::io("write", &self.path, e))?;
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

impl<T: Data, E: RowEncoder<T>> SinkWriter<T> for FileWriter<E> {
    type Committable = StagedFile;

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        for records in batch.values.chunks(ENCODE_RECORDS) {
            self.encoder.encode(records, &mut self.buffer)?;
            if self.buffer.len() >= BUFFER_BYTES {
                self.write_buffer()?;
            }
        }
        batch.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<StagedFile>> {
        self.write_buffer()?;
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        file.sync_data().map_err(|e| Error::io("sync", &self.path, e))?;
        self.vfs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        self.file = None;
        Ok(vec![StagedFile { staged: self.staged.clone(), name: self.name.clone(), bytes: self.bytes }])
    }
}

impl<E> Drop for FileWriter<E> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What cannot be removed here goes with the staging directory.
            let _ = self.vfs.remove_file(&self.path);
        }
    }
}

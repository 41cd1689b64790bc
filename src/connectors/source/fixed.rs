//! Fixed source: files of records of one length, without anything between them.
//!
//! Place: planned on the client's thread; each reader lives in the subtask that owns its split.
//! Method: a file is cut into ranges of whole records. A reader reads a buffer of them at once.
//! Invariants: the splits of a file give each record exactly once; so do a reader and the one opened at its position.
//! Costs and limits: a buffer of 256 KiB for each reader, or one record if that is longer. No compression.

use super::files::{expand, path_bytes};
use super::{BYTES_READ, Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use crate::base::error::{Error, Result};
use crate::base::fixed::FixedBytes;
use crate::base::memory::ByteSize;
use crate::base::metrics::Counter;
use crate::base::vfs::VfsFile;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Splits of one file at most.
const FILE_SPLITS_MAX: u64 = 1 << 16;

/// Reads files of records of `N` bytes each. Paths, directories and patterns are those of a
/// [`TextSource`](super::TextSource); a file whose size is no multiple of `N` fails the job before anything runs.
///
/// ```
/// use mainstem::connectors::source::FixedSource;
/// let records = FixedSource::<100>::new(["input/*.dat"]);
/// # let _ = records;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct FixedSource<const N: usize> {
    inputs: Vec<PathBuf>,
    split_bytes: ByteSize,
}

impl<const N: usize> FixedSource<N> {
    /// Reads several files, directories or patterns, in this order.
    pub fn new(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let inputs = paths.into_iter().map(|path| path.as_ref().to_path_buf()).collect();
        FixedSource { inputs, split_bytes: ByteSize::mib(16) }
    }

    /// About how large the pieces are into which a file is cut. Default 16 MiB.
    pub fn split_bytes(mut self, size: ByteSize) -> Self {
        self.split_bytes = size;
        self
    }
}

/// A range of records of a file, with the position in it, all in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedSplit {
    #[serde(with = "path_bytes")]
    path: PathBuf,
    end: u64,
    position: u64,
}

impl<const N: usize> Source for FixedSource<N> {
    type Item = FixedBytes<N>;
    type Split = FixedSplit;
    type Reader = FixedReader<N>;

    fn describe(&self) -> String {
        let first = self.inputs.first().map(|path| path.display().to_string()).unwrap_or_default();
        match self.inputs.len() {
            0 | 1 => format!("records {first}"),
            n => format!("records {first} and {} more", n - 1),
        }
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, ctx: &SourceContext) -> Result<Vec<FixedSplit>> {
        if self.inputs.is_empty() || N == 0 || self.split_bytes.0 == 0 {
            return Err(Error::config(
                "a source of fixed records needs a path, a record length of at least 1 and split_bytes of at least 1",
            ));
        }
        let mut splits = Vec::new();
        for file in expand(&*ctx.vfs, &self.inputs, false)? {
            let records = file.bytes / N as u64;
            if file.bytes % N as u64 != 0 {
                return Err(Error::Data {
                    path: file.path,
                    offset: records * N as u64,
                    message: format!(
                        "the file has {} bytes, which are no whole number of records of {N} bytes; it may be cut off, or \
                         of another format",
                        file.bytes
                    ),
                });
            }
            let count = file.bytes.div_ceil(self.split_bytes.0).min(FILE_SPLITS_MAX).min(records);
            let border = |i: u64| (u128::from(records) * u128::from(i) / u128::from(count)) as u64 * N as u64;
            splits.extend((0..count).map(|i| FixedSplit {
                path: file.path.clone(),
                end: border(i + 1),
                position: border(i),
            }));
        }
        Ok(splits)
    }
    fn weight(&self, split: &FixedSplit) -> u64 {
        split.end.saturating_sub(split.position)
    }
    fn open(&self, split: FixedSplit, ctx: &SourceContext) -> Result<FixedReader<N>> {
        let file = ctx.vfs.open(&split.path).map_err(|e| Error::io("open input", &split.path, e))?;
        let buffer = vec![0; (BUFFER_BYTES / N).max(1) * N];
        let bytes_read = ctx.counters.counter(BYTES_READ);
        Ok(FixedReader { file, split, buffer, from: 0, to: 0, bytes_read })
    }
}

/// Reads the records of one split.
pub struct FixedReader<const N: usize> {
    file: Box<dyn VfsFile>,
    split: FixedSplit,
    buffer: Vec<u8>,
    /// The part of the buffer that was read and not emitted.
    from: usize,
    to: usize,
    bytes_read: Counter,
}

impl<const N: usize> SplitReader for FixedReader<N> {
    type Item = FixedBytes<N>;
    type Split = FixedSplit;

    fn poll(&mut self, out: &mut SourceOutput<FixedBytes<N>>) -> Result<Poll> {
        if self.from == self.to {
            let left = usize::try_from(self.split.end - self.split.position).unwrap_or(usize::MAX);
            if left == 0 {
                return Ok(Poll::End);
            }
            let to = left.min(self.buffer.len());
            let read = self.file.read_exact_at(&mut self.buffer[..to], self.split.position);
            read.map_err(|e| Error::io("read input", &self.split.path, e))?;
            self.bytes_read.add(to as u64);
            (self.from, self.to) = (0, to);
        }
        let (records, _) = self.buffer[self.from..self.to].as_chunks::<N>();
        let count = records.len().min(out.room());
        out.batch_mut().values.extend(records[..count].iter().copied().map(FixedBytes));
        self.from += count * N;
        self.split.position += (count * N) as u64;
        Ok(Poll::More)
    }
    fn position(&self) -> FixedSplit {
        self.split.clone()
    }
}

//! StoredOutput: what a process must know to read the outputs of one that has died.
//!
//! Place: made of an output whose rows are all in files with names, written into the record of its unit of work, opened by
//! the next process in the job directory.
//! Invariants: blocks are verified when they are read, as always; here only what is there at all is looked at. Names
//! never lead out of the directory.

use super::context::Identity;
use super::output::{ShuffleOutput, ShuffleStats, digest_of};
use super::range_cut::Sample;
use super::run::{Head, Place, Run, Segment};
use super::spill::{BlockLengths, SpillFile};
use crate::base::error::{Error, Result};
use crate::base::vfs::SharedVfs;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The index of an output in files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredOutput {
    identity: Identity,
    partitions: u64,
    timestamps: bool,
    stats: ShuffleStats,
    sample: Sample,
    /// Name and size; none for files that hold no run any more.
    files: Vec<Option<(String, u64)>>,
    runs: Vec<StoredRun>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredRun {
    level: u32,
    segments: Vec<StoredSegment>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredSegment {
    rows: u64,
    raw_bytes: u64,
    digest: u64,
    file: u64,
    offset: u64,
    first_sequence: u64,
    /// Raw and stored length of each block, and its first row.
    blocks: Vec<(u32, u32, Head)>,
}

impl ShuffleOutput {
    /// What another process must know to read it; `None` if some of its rows are in memory or in a file without a name.
    pub fn stored(&self) -> Option<StoredOutput> {
        let file = |file: &Option<Arc<SpillFile>>| match file {
            None => Some(None),
            Some(file) => file.name().map(Some),
        };
        let runs = self.runs.iter().map(|run| {
            let segments = run.segments.iter().map(stored_segment).collect::<Option<_>>()?;
            Some(StoredRun { level: run.level, segments })
        });
        Some(StoredOutput {
            identity: self.identity,
            partitions: self.partitions as u64,
            timestamps: self.timestamps,
            stats: self.stats,
            sample: self.sample.clone(),
            files: self.files.iter().map(file).collect::<Option<_>>()?,
            runs: runs.collect::<Option<_>>()?,
        })
    }

    /// Opens an output that another process has left in `dir`. Its files are kept.
    ///
    /// # Errors
    /// If a file is missing or shorter than it was, or if the index contradicts itself.
    pub fn open(vfs: &SharedVfs, dir: &Path, stored: &StoredOutput) -> Result<ShuffleOutput> {
        let wrong = || Error::Corrupt {
            path: dir.to_path_buf(),
            offset: 0,
            message: "the index of an output contradicts itself".into(),
        };
        let StoredOutput { identity, timestamps, stats, .. } = *stored;
        let partitions = usize::try_from(stored.partitions).map_err(|_| wrong())?;
        let open = |file: &Option<(String, u64)>| match file {
            None => Ok(None),
            Some((name, _)) if name.contains('/') || name.starts_with('.') => Err(wrong()),
            Some((name, bytes)) => {
                SpillFile::open(vfs, dir.join(name), *bytes, identity, timestamps).map(|f| Some(Arc::new(f)))
            }
        };
        let files = stored.files.iter().map(open).collect::<Result<Vec<_>>>()?;
        let run = |run: &StoredRun| {
            let segments = run.segments.iter().map(|s| segment(s, &files).ok_or_else(wrong));
            Ok(Run { level: run.level, segments: segments.collect::<Result<_>>()? })
        };
        let runs = stored.runs.iter().map(run).collect::<Result<Vec<_>>>()?;
        if runs.iter().any(|run| run.segments.len() != partitions) {
            return Err(wrong());
        }
        let sample = stored.sample.clone();
        Ok(ShuffleOutput { identity, runs, files, partitions, timestamps, stats, sample })
    }
}

impl StoredOutput {
    /// The names of its files.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().flatten().map(|(name, _)| name.as_str())
    }

    /// As [`ShuffleOutput::partition_digest`], of each partition.
    pub fn digests(&self) -> Vec<u64> {
        let digest = |partition: usize| {
            let segments = self.runs.iter().filter_map(|run| run.segments.get(partition));
            digest_of(segments.map(|segment| segment.digest))
        };
        (0..self.partitions()).map(digest).collect()
    }

    /// Rows by partition.
    pub fn rows(&self) -> Vec<u64> {
        let rows = |partition: usize| {
            let segments = self.runs.iter().filter_map(|run| run.segments.get(partition));
            segments.map(|segment| segment.rows).sum()
        };
        (0..self.partitions()).map(rows).collect()
    }

    /// As many as a run has; the index says nothing that is not in it.
    fn partitions(&self) -> usize {
        self.runs.first().map_or(self.partitions as usize, |run| run.segments.len())
    }

    /// Totals when it was finished.
    pub fn stats(&self) -> ShuffleStats {
        self.stats
    }
}

fn stored_segment(segment: &Segment) -> Option<StoredSegment> {
    let (rows, raw_bytes, digest) = (segment.rows, segment.raw_bytes, segment.digest);
    let empty =
        StoredSegment { rows, raw_bytes, digest, file: 0, offset: 0, first_sequence: 0, blocks: Vec::new() };
    match &segment.place {
        Place::Memory(_) => (rows == 0).then_some(empty),
        Place::File { file, offset, first_sequence, blocks, heads } => Some(StoredSegment {
            file: *file as u64,
            offset: *offset,
            first_sequence: *first_sequence,
            blocks: blocks.iter().zip(heads.iter()).map(|(b, &head)| (b.raw, b.stored, head)).collect(),
            ..empty
        }),
    }
}

fn segment(stored: &StoredSegment, files: &[Option<Arc<SpillFile>>]) -> Option<Segment> {
    let file = usize::try_from(stored.file).ok()?;
    if stored.rows > 0 && !files.get(file).is_some_and(Option::is_some) {
        return None;
    }
    let blocks = stored.blocks.iter().map(|&(raw, stored, _)| BlockLengths { raw, stored }).collect();
    let heads = stored.blocks.iter().map(|&(_, _, head)| head).collect();
    let (offset, first_sequence) = (stored.offset, stored.first_sequence);
    Some(Segment {
        rows: stored.rows,
        raw_bytes: stored.raw_bytes,
        digest: stored.digest,
        place: Place::File { file, offset, first_sequence, blocks, heads },
    })
}

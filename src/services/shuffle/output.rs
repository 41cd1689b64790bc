//! ShuffleOutput: what a producing unit of work leaves for the consumers of its edge.
//!
//! Place: made by a buffer's `finish`, shared by `Arc`, read by any number of merges at once.
//! Costs: runs in memory are held until their partition is released or the output is dropped; the disk space is
//! given back when the output and all readers are dropped.

use super::context::Identity;
use super::cursor::Cursor;
use super::range_cut::Sample;
use super::run::Run;
use super::spill::{SpillFile, Spiller};
use crate::base::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Totals of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShuffleStats {
    /// Rows.
    pub rows: u64,
    /// Bytes of rows in blocks before compression.
    pub raw_bytes: u64,
    /// Bytes that they take, in memory and in the file, after compression.
    pub stored_bytes: u64,
    /// Bytes written to disk, including what was merged and written again.
    pub spilled_bytes: u64,
    /// Runs that consumers read.
    pub runs: u64,
    /// How often a buffer was written to disk because the share was used up.
    pub spills: u64,
}

/// Totals of one partition of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionStats {
    /// Rows.
    pub rows: u64,
    /// Bytes of rows in blocks before compression.
    pub raw_bytes: u64,
}

/// The rows of one producing unit of work, by partition.
pub struct ShuffleOutput {
    pub(super) identity: Identity,
    pub(super) runs: Vec<Run>,
    pub(super) files: Vec<Option<Arc<SpillFile>>>,
    pub(super) partitions: usize,
    pub(super) timestamps: bool,
    pub(super) stats: ShuffleStats,
    pub(super) sample: Sample,
}

/// The checksum of a partition from those of its segments.
pub(super) fn digest_of(segments: impl Iterator<Item = u64>) -> u64 {
    let digests: Vec<u8> = segments.flat_map(u64::to_le_bytes).collect();
    xxhash_rust::xxh3::xxh3_64(&digests)
}

impl ShuffleOutput {
    /// Completes the spill file and takes everything over.
    pub(super) fn new(
        runs: Vec<Run>,
        mut spiller: Spiller,
        partitions: usize,
        timestamps: bool,
        spills: u64,
    ) -> Result<ShuffleOutput> {
        spiller.close()?;
        let segments = || runs.iter().flat_map(|run| &run.segments);
        let stats = ShuffleStats {
            rows: segments().map(|s| s.rows).sum(),
            raw_bytes: segments().map(|s| s.raw_bytes).sum(),
            stored_bytes: segments().map(|s| s.stored_bytes()).sum(),
            spilled_bytes: spiller.spilled_bytes(),
            runs: runs.len() as u64,
            spills,
        };
        let (identity, files) = (spiller.identity(), spiller.files().to_vec());
        Ok(ShuffleOutput { identity, runs, files, partitions, timestamps, stats, sample: Sample::default() })
    }

    /// Who left it.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether something of it could not be read.
    pub fn is_damaged(&self) -> bool {
        self.files.iter().flatten().any(|file| file.is_damaged())
    }

    /// Whether a partition can still be read: it was not released, as far as it is in memory.
    pub fn holds(&self, partition: usize) -> bool {
        self.runs
            .iter()
            .filter_map(|run| run.segments.get(partition))
            .all(|segment| segment.is_held(&self.files))
    }

    /// Whether files with a name outlive this value. They do not unless this was said.
    pub fn keep(&self, keep: bool) {
        self.files.iter().flatten().for_each(|file| file.keep(keep));
    }

    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Whether its rows have timestamps.
    pub fn has_timestamps(&self) -> bool {
        self.timestamps
    }

    /// Totals when it was finished.
    pub fn stats(&self) -> ShuffleStats {
        self.stats
    }

    /// Totals of one partition; zero for one that does not exist.
    pub fn partition_stats(&self, partition: usize) -> PartitionStats {
        let mut total = PartitionStats::default();
        for segment in self.runs.iter().filter_map(|run| run.segments.get(partition)) {
            total.rows += segment.rows;
            total.raw_bytes += segment.raw_bytes;
        }
        total
    }

    /// Checksum of a partition's rows in their order. A unit of work that is run again with the same input and share
    /// of memory gives the same, unless user code is not deterministic.
    pub fn partition_digest(&self, partition: usize) -> u64 {
        let segments = self.runs.iter().filter_map(|run| run.segments.get(partition));
        digest_of(segments.map(|segment| segment.digest))
    }

    /// Bytes held in memory now by partitions that were not released.
    pub fn memory_bytes(&self) -> usize {
        self.runs.iter().map(Run::memory_bytes).sum()
    }

    /// Gives back the memory of one partition and returns how many bytes that is. Readers that are open go on;
    /// new ones fail. Parts in the file stay until the output is dropped.
    pub fn release(&self, partition: usize) -> usize {
        self.runs.iter().filter_map(|run| run.segments.get(partition)).map(|s| s.release()).sum()
    }

    /// The sample of its hashes; empty unless the buffer was told to take one.
    pub(super) fn sample(&self) -> &Sample {
        &self.sample
    }

    /// The same output with a sample.
    pub(super) fn with_sample(self, sample: Sample) -> ShuffleOutput {
        ShuffleOutput { sample, ..self }
    }

    /// Number of runs.
    pub(super) fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Bytes that a cursor over a partition of a run allocates.
    pub(super) fn cursor_bytes(&self, run: usize, partition: usize) -> usize {
        self.runs.get(run).and_then(|run| run.segments.get(partition)).map_or(0, |s| s.cursor_bytes())
    }

    /// A cursor over a partition of a run; `None` if it has no rows.
    pub(super) fn cursor(&self, run: usize, partition: usize, input: usize) -> Result<Option<Cursor>> {
        self.cursor_over(run, partition, input, 0..=u64::MAX)
    }

    /// The same, over the rows whose hashes are in a range.
    pub(super) fn cursor_over(
        &self,
        run: usize,
        partition: usize,
        input: usize,
        range: RangeInclusive<u64>,
    ) -> Result<Option<Cursor>> {
        match self.runs.get(run).and_then(|run| run.segments.get(partition)) {
            Some(segment) => {
                Cursor::open_range(segment, &self.files, partition, self.timestamps, input, range)
            }
            None => Err(Error::Internal(format!(
                "partition {partition} is read from a shuffle with {} partitions",
                self.partitions
            ))),
        }
    }
}

//! Source contract: splits of input, each read by a reader of its own.
//!
//! Place: [`Source::splits`] runs once on the client's thread before anything starts; readers are opened, polled
//! and dropped by the subtask that owns the split.
//! Invariants: a reader never blocks for long (reading that must wait belongs on a thread of the source's own,
//! behind a bounded queue); opening a split at [`SplitReader::position`] continues exactly where the reader was.

use crate::base::batch::{BATCH_RECORDS, Batch};
use crate::base::clock::Clock;
use crate::base::codec::encode;
use crate::base::data::{Data, Timestamp};
use crate::base::error::Result;
use crate::base::metrics::Counters;
use crate::base::vfs::SharedVfs;
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// The counter in which a source counts the bytes that it has read: shown as the bytes in of its operator.
pub const BYTES_READ: &str = "bytes_read";

/// Whether a source ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundedness {
    /// It ends: both modes can run it.
    Bounded,
    /// It does not: only STREAMING can run it.
    Unbounded,
}

/// Input that is cut into splits. One value describes the source; it is shared by all subtasks.
pub trait Source: Send + Sync + 'static {
    /// The records.
    type Item: Data;
    /// A unit of input with the position in it. Written to checkpoints.
    type Split: Data;
    /// Reads one split.
    type Reader: SplitReader<Item = Self::Item, Split = Self::Split>;

    /// What the plan shows, for example `text clicks/*.gz`.
    fn describe(&self) -> String;
    /// Whether the source ends by itself.
    fn boundedness(&self) -> Boundedness;
    /// All splits, in a fixed order. Called once, before anything runs: a missing path is found here.
    fn splits(&self, ctx: &SourceContext) -> Result<Vec<Self::Split>>;
    /// Relative size of a split, to give every subtask the same share.
    fn weight(&self, _split: &Self::Split) -> u64 {
        1
    }
    /// Divides what a subtask reads in BATCH into at most `parts` units of work, each of which fails, is tried again and is resumed
    /// by itself: the same records in the same order, one unit after the other. It may cut splits; a unit costs about a
    /// millisecond, so little input is better left together. By default whole splits are put together by weight.
    fn divide(&self, splits: Vec<Self::Split>, parts: usize) -> Vec<Vec<Self::Split>> {
        divide(splits, parts, |split| self.weight(split))
    }
    /// Whether a subtask has all of its splits open at once in STREAMING, and polls them in turn; else it reads one
    /// after the other. An unbounded source is read at once in any case.
    fn reads_splits_at_once(&self) -> bool {
        false
    }
    /// What tells that the input is still what `splits` has found, as names and texts: a job is resumed only if all
    /// of them are as they were. By default it is a checksum of the splits; name files, their size and time, and
    /// a checksum of samples.
    fn fingerprint(&self, splits: &[Self::Split], _ctx: &SourceContext) -> Result<Vec<(String, String)>> {
        let mut bytes = Vec::new();
        encode(&splits, &mut bytes)?;
        let text = format!("{} splits with checksum {:016x}", splits.len(), xxh3_64(&bytes));
        Ok(vec![(format!("input '{}'", self.describe()), text)])
    }
    /// Opens a split at its position.
    fn open(&self, split: Self::Split, ctx: &SourceContext) -> Result<Self::Reader>;
}

/// Puts neighbouring items together into at most `parts` groups of about the same weight, none of them empty.
pub(crate) fn divide<P>(items: Vec<P>, parts: usize, weight: impl Fn(&P) -> u64) -> Vec<Vec<P>> {
    let weights: Vec<u128> = items.iter().map(|item| u128::from(weight(item).max(1))).collect();
    let total = weights.iter().sum::<u128>().max(1);
    let mut groups: Vec<Vec<P>> = Vec::new();
    let (mut before, mut last) = (0, None);
    for (item, weight) in items.into_iter().zip(weights) {
        // Where the middle of the item lies says to which group it belongs.
        let group = (2 * before + weight) * parts.max(1) as u128 / (2 * total);
        before += weight;
        match groups.last_mut().filter(|_| last == Some(group)) {
            Some(open) => open.push(item),
            None => groups.push(vec![item]),
        }
        last = Some(group);
    }
    groups
}

/// Reads one split.
pub trait SplitReader: Send {
    /// The records.
    type Item: Data;
    /// The split with a position.
    type Split: Data;
    /// Appends records to `out` until it is full or none is at hand, without waiting.
    fn poll(&mut self, out: &mut SourceOutput<Self::Item>) -> Result<Poll>;
    /// The split from which a new reader continues after the records emitted so far.
    fn position(&self) -> Self::Split;
}

/// What a reader has after a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Perhaps more records: poll again when there is room.
    More,
    /// Nothing now. Poll again after the given time (or soon, if there is none).
    Idle(Option<Duration>),
    /// The split has ended.
    End,
}

/// What a source may know and use.
#[derive(Clone)]
pub struct SourceContext {
    /// Number of subtasks that read.
    pub parallelism: usize,
    /// The file system.
    pub vfs: SharedVfs,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// Counters of the operator, shown in the job's result.
    pub counters: Counters,
}

/// Takes the records of a reader.
pub struct SourceOutput<T> {
    pub(crate) batch: Batch<T>,
    pub(crate) watermark: Option<Timestamp>,
    pub(crate) idle: bool,
    /// Records that a batch should have, from the size of those before.
    pub(crate) limit: usize,
}

impl<T> Default for SourceOutput<T> {
    fn default() -> Self {
        SourceOutput { batch: Batch::new(), watermark: None, idle: false, limit: BATCH_RECORDS }
    }
}

impl<T> SourceOutput<T> {
    /// Emits a record without a timestamp.
    #[inline]
    pub fn emit(&mut self, value: T) {
        self.batch.values.push(value);
    }
    /// Emits a record with a timestamp in milliseconds. A source gives all of its records a timestamp or none.
    #[inline]
    pub fn emit_at(&mut self, value: T, timestamp: Timestamp) {
        self.batch.values.push(value);
        self.batch.timestamps.push(timestamp);
    }
    /// Promises that no record with a timestamp at or below this one will follow from this split. Goes out
    /// behind the records emitted so far; the reader should return from `poll` after it. The watermark of a subtask is
    /// the lowest of its splits, and of none while splits wait to be read. Without effect where the stream has a
    /// [strategy](crate::semantics::time::WatermarkStrategy) of its own, and in BATCH.
    pub fn emit_watermark(&mut self, watermark: Timestamp) {
        self.watermark = Some(self.watermark.map_or(watermark, |w| w.max(watermark)));
    }
    /// Says that the split will have nothing for a while and holds no watermark back, until its next record or
    /// watermark. The reader should return from `poll` after it. Without effect where
    /// [`emit_watermark`](SourceOutput::emit_watermark) is.
    pub fn mark_idle(&mut self) {
        self.idle = true;
    }
    /// Whether the reader should return.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.batch.len() >= self.limit
    }
    /// Records that still fit.
    #[inline]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.batch.len())
    }
    /// The batch under way, for readers that append in bulk.
    pub fn batch_mut(&mut self) -> &mut Batch<T> {
        &mut self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::divide;

    /// M10: units of a source are what the subtask reads, in order, and about as large as each other.
    #[test]
    fn neighbours_are_put_together_by_weight() {
        type Row<'a> = (&'a [u64], usize, &'a [&'a [u64]]);
        let table: [Row<'_>; 7] = [
            (&[], 8, &[]),
            (&[5], 8, &[&[5]]),
            (&[1, 1, 1, 1], 2, &[&[1, 1], &[1, 1]]),
            (&[1, 2, 3], 8, &[&[1], &[2], &[3]]),
            (&[6, 1, 1, 1, 1, 2], 2, &[&[6], &[1, 1, 1, 1, 2]]),
            (&[0, 0, 9], 1, &[&[0, 0, 9]]),
            (&[u64::MAX, u64::MAX, 1], 2, &[&[u64::MAX], &[u64::MAX, 1]]),
        ];
        for (items, parts, expected) in table {
            assert_eq!(divide(items.to_vec(), parts, |weight| *weight), expected, "{items:?} {parts}");
        }
        let groups = divide((0..1000u64).collect(), 7, |_| 3);
        assert_eq!(groups.len(), 7);
        assert!(groups.iter().all(|group| (142..=143).contains(&group.len())));
        assert!(groups.concat().is_sorted());
    }
}

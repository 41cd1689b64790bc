//! Batch: the unit in which records travel, and the elements that travel between operators.

use super::data::Timestamp;
use std::any::Any;

/// Records in a full batch. Large enough that a dynamic call per batch costs nothing, small enough that a batch
/// stays in the first- or second-level cache.
pub const BATCH_RECORDS: usize = 1024;

/// Records with, where the stream has them, a timestamp and a key hash each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch<T> {
    /// The records.
    pub values: Vec<T>,
    /// Empty, or a timestamp for each record.
    pub timestamps: Vec<Timestamp>,
    /// Empty, or the hash of each record's key.
    pub hashes: Vec<u64>,
}

impl<T> Batch<T> {
    /// An empty batch that has allocated nothing.
    pub const fn new() -> Self {
        Batch { values: Vec::new(), timestamps: Vec::new(), hashes: Vec::new() }
    }
    /// Number of records.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.values.len()
    }
    /// Whether there is no record.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
    /// Drops the records, keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.timestamps.clear();
        self.hashes.clear();
    }
    /// The timestamp of record `i`, if the stream has timestamps.
    #[inline(always)]
    pub fn timestamp(&self, i: usize) -> Option<Timestamp> {
        self.timestamps.get(i).copied()
    }
    /// Keeps the first `at` records and returns the others.
    pub fn split(&mut self, at: usize) -> Batch<T> {
        fn cut<V>(values: &mut Vec<V>, at: usize) -> Vec<V> {
            values.split_off(at.min(values.len()))
        }
        Batch {
            values: cut(&mut self.values, at),
            timestamps: cut(&mut self.timestamps, at),
            hashes: cut(&mut self.hashes, at),
        }
    }
    /// Reverses the order, so that records can be taken from the end in the original order.
    pub fn reverse(&mut self) {
        self.values.reverse();
        self.timestamps.reverse();
        self.hashes.reverse();
    }
    /// Takes the last record with its timestamp.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<(T, Option<Timestamp>)> {
        let value = self.values.pop()?;
        self.hashes.pop();
        Some((value, self.timestamps.pop()))
    }
}

impl<T> From<Vec<T>> for Batch<T> {
    fn from(values: Vec<T>) -> Self {
        Batch { values, ..Batch::new() }
    }
}

/// A batch whose record type is known only to the two ends of its edge.
pub trait AnyBatch: Send {
    /// Number of records.
    fn len(&self) -> usize;
    /// Whether there is no record.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// For the downcast in [`typed`]; nowhere else.
    fn as_any(&mut self) -> &mut dyn Any;
    /// A copy, for a second consumer.
    fn clone_batch(&self) -> ErasedBatch;
    /// Cuts the batch: keeps the first `at` records and returns the others.
    fn split_off(&mut self, at: usize) -> ErasedBatch;
    /// Takes the first record out, as a batch of its own: for an executor that goes record by record.
    fn take_first(&mut self) -> Option<ErasedBatch>;
}

/// A boxed batch of any type.
pub type ErasedBatch = Box<dyn AnyBatch>;

impl<T: Clone + Send + 'static> AnyBatch for Batch<T> {
    fn len(&self) -> usize {
        self.values.len()
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
    fn clone_batch(&self) -> ErasedBatch {
        Box::new(self.clone())
    }
    fn take_first(&mut self) -> Option<ErasedBatch> {
        let rest = self.split(1);
        let first = std::mem::replace(self, rest);
        (!first.is_empty()).then(|| Box::new(first) as ErasedBatch)
    }
    fn split_off(&mut self, at: usize) -> ErasedBatch {
        Box::new(self.split(at))
    }
}

/// The typed view of an erased batch: the one downcast of the engine.
///
/// # Panics
/// If the plan connected two operators of different types, which the typed API makes impossible.
#[inline]
pub fn typed<T: 'static>(batch: &mut dyn AnyBatch) -> &mut Batch<T> {
    match batch.as_any().downcast_mut::<Batch<T>>() {
        Some(batch) => batch,
        None => unreachable!("an edge carries the record type of the handle it was built from"),
    }
}

/// Number of a checkpoint or savepoint: rises within a job, over all of its attempts.
pub type CheckpointId = u64;

/// The cut of a checkpoint through the stream: what is before it belongs to the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// The checkpoint.
    pub id: CheckpointId,
    /// Whether operators write all of their state. Else they may write what has changed since the barrier before.
    pub full: bool,
    /// Whether a savepoint may be made from the checkpoint, which outlives what operators have outside of it: writers of
    /// sinks complete what they have begun.
    pub savepoint: bool,
}

/// What travels on an edge, in order.
pub enum Element {
    /// Records.
    Batch(ErasedBatch),
    /// No record with a timestamp at or below this one will follow.
    Watermark(Timestamp),
    /// Cuts the stream for a checkpoint.
    Barrier(Barrier),
    /// The input will send nothing for a while: leave it out of the minimum of the watermarks.
    Idle,
    /// The input sends again.
    Active,
    /// The input has ended.
    End,
}

impl Element {
    /// Name of the kind, for traces.
    pub fn kind(&self) -> &'static str {
        match self {
            Element::Batch(_) => "batch",
            Element::Watermark(_) => "watermark",
            Element::Barrier(_) => "barrier",
            Element::Idle => "idle",
            Element::Active => "active",
            Element::End => "end",
        }
    }
    /// A copy, for a second consumer.
    pub fn duplicate(&self) -> Element {
        match self {
            Element::Batch(b) => Element::Batch(b.clone_batch()),
            Element::Watermark(t) => Element::Watermark(*t),
            Element::Barrier(barrier) => Element::Barrier(*barrier),
            Element::Idle => Element::Idle,
            Element::Active => Element::Active,
            Element::End => Element::End,
        }
    }
}

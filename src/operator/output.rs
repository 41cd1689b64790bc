//! Out: where an operator puts its records; cut into batches, sampled for their size.
//!
//! Records for side outputs go through an `Out` of their own type within it, so that everything leaves in one queue and
//! one look tells whether the operator should yield. An operator that makes watermarks puts them here, too: they
//! stay behind the records before them.
//! Invariants: a batch holds at most [`BATCH_RECORDS`] records, fewer when they are large (about
//! [`BATCH_BYTES`]), except that a bulk append may overshoot, [`Out::forward`] by one input batch, [`Out::map_from`] by as
//! many records as a batch should have; either all records of a batch
//! have a timestamp or none has.

use super::Progress;
use super::side_output::{SideOutput, SidePort};
use crate::base::batch::{BATCH_RECORDS, Batch, Element, ErasedBatch, typed};
use crate::base::codec;
use crate::base::data::{Data, Timestamp};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes, as they would be encoded, that a batch should not exceed by much.
pub const BATCH_BYTES: u64 = 256 << 10;

/// Emptied batches kept for reuse: one under way, one with the consumer, one to spare.
const POOL: usize = 3;

/// Number of an output of an operator: 0 is the main one, side outputs follow in the order in which the plan names
/// them.
pub type Port = usize;

/// The main output.
pub const MAIN: Port = 0;

/// The outputs of an operator as executors see them.
pub trait AnyOut: Send {
    /// Makes room for the records of side outputs that somebody reads; those of others are dropped.
    fn attach(&mut self, sides: &[Arc<dyn SidePort>]);
    /// Whether something waits to be taken.
    fn is_full(&self) -> bool;
    /// Makes batches that are under way available.
    fn flush(&mut self);
    /// From now on a batch holds at most so many records.
    fn hold_at_most(&mut self, records: usize);
    /// What waits longest. A control element is for all ports.
    fn take(&mut self) -> Option<(Port, Element)>;
    /// Takes an emptied batch that came from this port.
    fn recycle(&mut self, port: Port, batch: ErasedBatch);
    /// Records emitted so far, and their encoded size as estimated by sampling.
    fn totals(&self) -> (u64, u64);
    /// For the downcast in [`Out::push_to`]; nowhere else.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// What waits to be taken.
enum Sealed<T> {
    Main(Box<Batch<T>>),
    Other(Port, Element),
}

/// A side output that somebody reads.
struct Side {
    name: Arc<str>,
    out: Box<dyn AnyOut>,
}

/// The outputs of one operator.
pub struct Out<T> {
    current: Box<Batch<T>>,
    sealed: VecDeque<Sealed<T>>,
    sides: Vec<Side>,
    #[allow(clippy::vec_box, reason = "a batch travels in its box, which is reused with it")]
    pool: Vec<Box<Batch<T>>>,
    /// Records per batch, from the sampled size and from what the consumers want to have; 0 before the first record.
    limit: usize,
    /// Records per batch, from the sampled size alone.
    sized: usize,
    /// Records per batch that the consumers want to have at most.
    wanted: usize,
    sampler: SizeSampler,
    records: u64,
    bytes: u64,
}

impl<T: Data> Default for Out<T> {
    fn default() -> Self {
        Out {
            current: Box::default_batch(),
            sealed: VecDeque::new(),
            sides: Vec::new(),
            pool: Vec::new(),
            limit: 0,
            sized: 0,
            wanted: BATCH_RECORDS,
            sampler: SizeSampler::default(),
            records: 0,
            bytes: 0,
        }
    }
}

trait DefaultBatch {
    fn default_batch() -> Self;
}

impl<T> DefaultBatch for Box<Batch<T>> {
    fn default_batch() -> Self {
        Box::new(Batch::new())
    }
}

impl<T: Data> Out<T> {
    /// An output that nothing was put into.
    pub fn new() -> Self {
        Out::default()
    }

    /// Appends one record. All records of a stream carry a timestamp or none does; a change starts a new batch.
    #[inline(always)]
    pub fn push(&mut self, value: T, timestamp: Option<Timestamp>) {
        if self.current.values.len() >= self.limit
            || timestamp.is_some() == self.current.timestamps.is_empty()
        {
            // Without the value, which would have to be in memory to be handed on.
            self.make_room(timestamp.is_some());
        }
        self.current.values.push(value);
        if let Some(timestamp) = timestamp {
            self.current.timestamps.push(timestamp);
        }
    }

    #[inline(never)]
    fn make_room(&mut self, timestamps: bool) {
        // The first record shows how large a batch may be, as soon as there is a second one.
        if self.sampler.is_new() {
            self.learn();
        }
        let full = self.current.len() >= self.limit;
        let differs = timestamps == self.current.timestamps.is_empty();
        if !self.current.is_empty() && (full || differs) {
            self.seal();
        }
    }

    /// Takes the records out of `batch` and appends them as `f` makes them, with their timestamps. Where these are so large
    /// that a batch holds fewer of them, it may stop when one is full; it is called again with the rest then.
    #[inline]
    pub fn map_from<U>(&mut self, batch: &mut Batch<U>, mut f: impl FnMut(U) -> T) -> Progress {
        self.align(!batch.timestamps.is_empty());
        while batch.len() > self.limit() + self.limit() / 2 {
            self.map_some(batch, self.limit(), &mut f);
            if self.is_full() {
                return Progress::Yielded;
            }
        }
        self.current.values.extend(batch.values.drain(..).map(f));
        self.current.timestamps.append(&mut batch.timestamps);
        batch.clear();
        self.seal_full();
        Progress::Done
    }

    #[inline(never)]
    fn map_some<U>(&mut self, batch: &mut Batch<U>, records: usize, f: &mut impl FnMut(U) -> T) {
        let timestamps = batch.timestamps.len().min(records);
        self.current.values.extend(batch.values.drain(..records).map(f));
        self.current.timestamps.extend(batch.timestamps.drain(..timestamps));
        batch.hashes.clear();
        self.seal_full();
    }

    /// Passes a whole batch on, without copying where it is worth a batch of its own.
    pub fn forward(&mut self, batch: &mut Batch<T>) {
        batch.hashes.clear();
        if batch.is_empty() {
            return;
        }
        self.align(!batch.timestamps.is_empty());
        if self.current.is_empty() {
            std::mem::swap(&mut *self.current, batch);
        } else {
            self.current.values.append(&mut batch.values);
            self.current.timestamps.append(&mut batch.timestamps);
        }
        self.seal_full();
    }

    /// Takes records as an example of how large they are, if it has seen none. Says whether it has.
    pub(crate) fn learns_from(&mut self, values: &[T]) -> bool {
        if !self.sampler.is_new() || values.is_empty() {
            return false;
        }
        let sized = self.sampler.limit(values);
        self.hold(sized.unwrap_or(1));
        true
    }

    fn hold(&mut self, sized: usize) {
        self.sized = sized;
        self.limit = sized.min(self.wanted);
    }

    /// Records that a batch should have, as far as it is known how large they are; one at first.
    pub(crate) fn limit(&self) -> usize {
        self.limit.max(1)
    }

    /// Starts a new batch if the records that follow differ from the current ones in having timestamps.
    fn align(&mut self, timestamps: bool) {
        if !self.current.is_empty() && timestamps == self.current.timestamps.is_empty() {
            self.seal();
        }
    }

    fn seal_full(&mut self) {
        if self.sampler.is_new() {
            self.learn();
        }
        if !self.current.is_empty() && self.current.len() >= self.limit {
            self.seal();
        }
    }

    #[inline(never)]
    fn learn(&mut self) {
        if !self.current.is_empty() {
            let sized = self.sampler.limit(&self.current.values);
            self.hold(sized.unwrap_or(1));
        }
    }

    #[inline(never)]
    fn seal(&mut self) {
        let next = self.pool.pop().unwrap_or_else(|| {
            let mut batch: Box<Batch<T>> = Box::default_batch();
            batch.values.reserve(self.limit.min(self.current.len()));
            batch
        });
        let batch = std::mem::replace(&mut self.current, next);
        if let Some(sized) = self.sampler.limit(&batch.values) {
            self.hold(sized);
        }
        self.records += batch.len() as u64;
        self.bytes += self.sampler.bytes_per_record * batch.len() as u64;
        self.sealed.push_back(Sealed::Main(batch));
    }

    /// Appends a record to a side output. Dropped if nobody reads that output.
    pub fn push_to<U: Data>(&mut self, output: &SideOutput<U>, value: U, timestamp: Option<Timestamp>) {
        let Some(port) = self.sides.iter().position(|side| *side.name == **output.name()) else { return };
        let side = &mut self.sides[port].out;
        if let Some(out) = side.as_any().downcast_mut::<Out<U>>() {
            out.push(value, timestamp);
        }
        if side.is_full() {
            self.collect_side(port);
        }
    }

    fn collect_side(&mut self, index: usize) {
        while let Some((_, element)) = self.sides[index].out.take() {
            self.sealed.push_back(Sealed::Other(index + 1, element));
        }
    }

    /// Lets a watermark, or idleness, out behind the records emitted so far: for operators that
    /// [make watermarks](super::Operator::makes_watermarks).
    pub fn control(&mut self, element: Element) {
        self.flush();
        self.sealed.push_back(Sealed::Other(MAIN, element));
    }

    /// Whether the operator should yield: a batch waits to be taken, or the one under way is full.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        !self.sealed.is_empty() || self.is_batch_full()
    }

    #[inline(always)]
    fn is_batch_full(&self) -> bool {
        // Never before the first record has been looked at.
        self.current.values.len() > self.limit.wrapping_sub(1)
    }

    /// Lets the batch under way out if it is full and nothing waits before it.
    fn seal_if_full(&mut self) {
        if self.sealed.is_empty() && self.is_batch_full() {
            self.seal();
        }
    }

    /// Whether nothing waits for the main output, not even a part of a batch.
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.current.is_empty()
    }

    /// Makes the batch under way available though it is not full.
    pub fn flush(&mut self) {
        if !self.current.is_empty() {
            self.seal();
        }
        for index in 0..self.sides.len() {
            self.sides[index].out.flush();
            self.collect_side(index);
        }
    }

    /// The oldest waiting batch of the main output, before which nothing else may wait: for tests of operators.
    pub fn take(&mut self) -> Option<Box<Batch<T>>> {
        self.seal_if_full();
        match self.sealed.pop_front() {
            Some(Sealed::Main(batch)) => Some(batch),
            Some(other) => {
                self.sealed.push_front(other);
                None
            }
            None => None,
        }
    }

    /// Records emitted so far to all outputs, and their encoded size as estimated by sampling.
    pub fn totals(&self) -> (u64, u64) {
        let add = |sum: (u64, u64), more: (u64, u64)| (sum.0 + more.0, sum.1 + more.1);
        self.sides.iter().map(|side| side.out.totals()).fold((self.records, self.bytes), add)
    }
}

impl<T: Data> AnyOut for Out<T> {
    fn attach(&mut self, sides: &[Arc<dyn SidePort>]) {
        self.sides = sides.iter().map(|side| Side { name: side.name().clone(), out: side.out() }).collect();
    }
    fn is_full(&self) -> bool {
        Out::is_full(self)
    }
    fn flush(&mut self) {
        Out::flush(self)
    }
    fn hold_at_most(&mut self, records: usize) {
        self.wanted = records.clamp(1, BATCH_RECORDS);
        self.hold(self.sized);
        self.sides.iter_mut().for_each(|side| side.out.hold_at_most(records));
    }
    fn take(&mut self) -> Option<(Port, Element)> {
        self.seal_if_full();
        Some(match self.sealed.pop_front()? {
            Sealed::Main(batch) => (MAIN, Element::Batch(batch)),
            Sealed::Other(port, element) => (port, element),
        })
    }
    fn recycle(&mut self, port: Port, mut batch: ErasedBatch) {
        if port > MAIN {
            if let Some(side) = self.sides.get_mut(port - 1) {
                side.out.recycle(MAIN, batch);
            }
        } else if self.pool.len() < POOL {
            let batch = typed::<T>(&mut *batch);
            batch.clear();
            self.pool.push(Box::new(std::mem::replace(batch, Batch::new())));
        }
    }
    fn totals(&self) -> (u64, u64) {
        Out::totals(self)
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl<T> std::fmt::Debug for Out<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out").field("sealed", &self.sealed.len()).field("records", &self.records).finish()
    }
}

/// Estimates the encoded size of records: encodes the first one, one of the first batches, then of every 64th.
#[derive(Default)]
pub(super) struct SizeSampler {
    batches: u64,
    bytes_per_record: u64,
}

impl SizeSampler {
    /// Whether it was shown nothing yet.
    pub(super) fn is_new(&self) -> bool {
        self.batches == 0
    }

    /// Looks at a batch, perhaps; then how many such records a batch should have.
    pub(super) fn limit<T: Data>(&mut self, values: &[T]) -> Option<usize> {
        let size = self.sample(values)?;
        Some(((BATCH_BYTES / size.max(1)) as usize).clamp(1, BATCH_RECORDS))
    }

    fn sample<T: Data>(&mut self, values: &[T]) -> Option<u64> {
        let value = values.last()?;
        self.batches += 1;
        if !(self.batches.is_power_of_two() || self.batches.is_multiple_of(64)) {
            return None;
        }
        // A record that cannot be encoded is reported where it has to be: at the edge that encodes it.
        if let Some(size) = codec::encoded_len(value) {
            self.bytes_per_record =
                if self.batches == 1 { size } else { (3 * self.bytes_per_record + size).div_ceil(4) };
        }
        Some(self.bytes_per_record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_batches_are_sealed_and_the_rest_waits_for_a_flush() {
        let mut out = Out::new();
        for i in 0..2 * BATCH_RECORDS as u64 + 1 {
            out.push(i, None);
        }
        assert!(out.is_full());
        let first = out.take().unwrap();
        assert_eq!((first.len(), out.take().unwrap().values[0]), (BATCH_RECORDS, BATCH_RECORDS as u64));
        assert!(!out.is_full() && !out.is_empty() && out.take().is_none());
        out.flush();
        assert_eq!(out.take().unwrap().values, [2 * BATCH_RECORDS as u64]);
        assert_eq!(out.totals().0, 2 * BATCH_RECORDS as u64 + 1);
    }

    /// What a map makes may be much larger than what it was given.
    #[test]
    fn mapping_to_large_records_stops_with_each_of_them() {
        let mut out = Out::new();
        let mut batch = Batch { values: vec![1u64, 2, 3], timestamps: vec![10, 20, 30], hashes: vec![0; 3] };
        for i in 1..=3 {
            let mut made = 0;
            let progress = out.map_from(&mut batch, |n| {
                made += 1;
                vec![n as u8; 1 << 20]
            });
            assert_eq!((made, progress == Progress::Done), (1, i == 3));
            let taken = out.take().unwrap();
            assert_eq!((taken.values[0][0], taken.timestamps[0]), (i as u8, 10 * i));
        }
        assert!(batch.is_empty() && out.is_empty());
    }

    /// A full batch does not wait for the record behind it, which may be large.
    #[test]
    fn a_batch_that_is_full_can_be_taken() {
        let mut out = Out::new();
        out.push(vec![9; 1 << 17], None);
        out.push(vec![9; 1 << 17], None);
        assert!(out.take().is_some() && out.take().is_some());
        for i in 0..3u64 {
            out.push(vec![i; 1 << 17], None);
            assert!(out.is_full());
            assert_eq!(out.take().unwrap().values[0][0], i);
            assert!(!out.is_full() && out.is_empty());
        }
    }

    #[test]
    fn a_batch_has_timestamps_for_all_records_or_for_none() {
        let mut out = Out::new();
        out.push('a', Some(1));
        out.push('b', None);
        out.push('c', None);
        out.push('d', Some(4));
        out.flush();
        let batches: Vec<_> = std::iter::from_fn(|| out.take()).map(|b| (b.values, b.timestamps)).collect();
        assert_eq!(batches, [(vec!['a'], vec![1]), (vec!['b', 'c'], vec![]), (vec!['d'], vec![4])]);
    }

    #[test]
    fn large_records_make_small_batches() {
        let mut out = Out::new();
        for _ in 0..3 * BATCH_RECORDS {
            out.push(vec![7u8; 100_000], None);
            while out.take().is_some() {}
        }
        out.push(vec![7u8; 100_000], None);
        assert!(out.limit <= 3, "limit {}", out.limit);
    }
}

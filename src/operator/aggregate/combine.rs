//! Combine: folds records of a key before they are shuffled.
//!
//! Method: a table of accumulators is filled until it reaches its share of the memory, then emptied into the
//! output in the order in which its keys came; so what is emitted depends on the input and the share only. Where a
//! table has grown past the fast caches and its last records had hardly any key twice, the operator gives up and passes each record on as a partial
//! result of its own. A fold that depends on order is not combined where records have timestamps, since they
//! are put in time order behind the shuffle.
//! Costs: memory within the share, heap behind keys and accumulators estimated from samples.

use super::Fold;
use super::heap::HeapEstimate;
use crate::base::batch::Batch;
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::base::mutant;
use crate::operator::exchange::KeySelector;
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::state::{KeyTable, Slot, Upsert};
use std::marker::PhantomData;
use std::sync::Arc;

/// A table is worth its memory if it holds at least this many records for two keys.
const RECORDS_PER_TWO_KEYS_MIN: u64 = 3;
/// Entries handed to the output before it is asked whether it is full.
const DRAIN_ENTRIES: usize = 256;
/// A table of this size no longer fits the fast caches: from here on, each time it has doubled, it must have paid.
const CHECKED_ENTRIES: usize = 1 << 17;

/// Emits `(key, accumulator)` pairs; a key may come several times.
pub struct Combine<K, T, F: Fold<K, T>> {
    fold: F,
    selector: Arc<dyn KeySelector<T, K>>,
    table: KeyTable<K, F::Acc>,
    /// The highest timestamp of each entry, where records have timestamps.
    timestamps: Vec<Timestamp>,
    keys: Vec<K>,
    heap: HeapEstimate,
    /// Records since the table was last looked at, the keys it had then, and those at which it is looked at again.
    records: u64,
    keys_before: usize,
    keys_checked: usize,
    draining: Option<usize>,
    /// Entries and memory when the table was full.
    full_at: Option<(usize, u64)>,
    gave_up: bool,
    types: PhantomData<fn(T)>,
}

impl<K: Key, T: Data, F: Fold<K, T>> Combine<K, T, F> {
    /// The operator around a fold.
    pub fn new(fold: F, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        Combine {
            fold,
            selector,
            table: KeyTable::new(),
            timestamps: Vec::new(),
            keys: Vec::new(),
            heap: HeapEstimate::default(),
            records: 0,
            keys_before: 0,
            keys_checked: CHECKED_ENTRIES,
            draining: None,
            full_at: None,
            gave_up: false,
            types: PhantomData,
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.table.memory_bytes()
            + self.timestamps.capacity() as u64 * 8
            + self.heap.bytes(self.table.len() as u64)
    }

    /// Hands entries over until the output is full.
    fn drain(&mut self, out: &mut Out<(K, F::Acc)>) -> Progress {
        let Some(mut at) = self.draining else { return Progress::Done };
        loop {
            if out.is_full() {
                self.draining = Some(at);
                return Progress::Yielded;
            }
            let timestamps = &self.timestamps;
            let more = self.table.drain(DRAIN_ENTRIES, |_hash, key, acc| {
                out.push((key, acc), timestamps.get(at).copied());
                at += 1;
            });
            if !more {
                if self.gave_up {
                    self.table.release();
                }
                self.draining = None;
                self.timestamps.clear();
                (self.records, self.keys_before, self.keys_checked) = (0, 0, CHECKED_ENTRIES);
                return Progress::Done;
            }
        }
    }

    fn pass_on(&mut self, batch: &mut Batch<T>, out: &mut Out<(K, F::Acc)>) {
        self.keys.clear();
        self.selector.keys(&batch.values, &mut self.keys);
        for (i, (record, key)) in batch.values.drain(..).zip(self.keys.drain(..)).enumerate() {
            out.push((key, self.fold.create(record)), batch.timestamps.get(i).copied());
        }
        batch.clear();
    }
}

pub(super) fn out_of_records() -> Error {
    Error::Internal("a batch has fewer records than hashes".into())
}

struct Rows<'a, K, T, F: Fold<K, T>, I: Iterator<Item = T>> {
    fold: &'a mut F,
    keys: &'a [K],
    records: I,
    batch_timestamps: &'a [Timestamp],
    timestamps: &'a mut Vec<Timestamp>,
    heap: &'a mut HeapEstimate,
}

impl<K: Key, T: Data, F: Fold<K, T>, I: Iterator<Item = T>> Upsert<K, F::Acc> for Rows<'_, K, T, F, I> {
    #[inline(always)]
    fn is_key(&self, i: usize, key: &K) -> bool {
        self.keys[i] == *key
    }
    #[inline(always)]
    fn found(&mut self, i: usize, slot: Slot, acc: &mut F::Acc) -> Result<()> {
        let record = self.records.next().ok_or_else(out_of_records)?;
        self.fold.add(acc, record);
        if let Some(&timestamp) = self.batch_timestamps.get(i) {
            let highest = &mut self.timestamps[slot as usize];
            *highest = timestamp.max(*highest);
        }
        Ok(())
    }
    #[inline(always)]
    fn insert(&mut self, i: usize, _slot: Slot) -> Result<(K, F::Acc)> {
        let record = self.records.next().ok_or_else(out_of_records)?;
        let acc = self.fold.create(record);
        if let Some(&timestamp) = self.batch_timestamps.get(i) {
            self.timestamps.push(timestamp);
        }
        let entry = (self.keys[i].clone(), acc);
        self.heap.inserted(&entry);
        Ok(entry)
    }
}

impl<K: Key, T: Data, F: Fold<K, T>> Operator for Combine<K, T, F> {
    type In = T;
    type Out = (K, F::Acc);

    fn process(
        &mut self,
        batch: &mut Batch<T>,
        ctx: &mut Context,
        out: &mut Out<(K, F::Acc)>,
    ) -> Result<Progress> {
        if self.draining.is_some() && self.drain(out) == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        if batch.is_empty() {
            return Ok(Progress::Done);
        }
        let timed = !batch.timestamps.is_empty();
        if timed == self.timestamps.is_empty() && !self.table.is_empty() {
            // United streams with and without timestamps: an entry has one or not.
            self.draining = Some(0);
            return Ok(Progress::Yielded);
        }
        if self.gave_up || (timed && F::ORDERED && !mutant::is("combined_by_arrival")) {
            self.pass_on(batch, out);
            return Ok(Progress::Done);
        }
        self.records += batch.len() as u64;
        self.keys.clear();
        self.selector.keys(&batch.values, &mut self.keys);
        batch.hashes.clear();
        batch.hashes.extend(self.keys.iter().map(hash_of));
        let mut rows = Rows {
            fold: &mut self.fold,
            keys: &self.keys,
            records: batch.values.drain(..),
            batch_timestamps: &batch.timestamps,
            timestamps: &mut self.timestamps,
            heap: &mut self.heap,
        };
        self.table.upsert_batch(&batch.hashes, &mut rows)?;
        drop(rows);
        batch.clear();
        // The table keeps its memory when it is emptied: from then on it is full where it was full before, or where
        // it has grown.
        let memory = self.memory_bytes();
        let full = match self.full_at {
            Some((entries, bytes)) => self.table.len() >= entries || memory > bytes,
            None => memory >= ctx.memory_bytes,
        };
        if full || self.table.len() >= self.keys_checked {
            if full {
                self.full_at = Some((self.table.len(), memory.max(ctx.memory_bytes)));
            }
            self.gave_up =
                2 * self.records < RECORDS_PER_TWO_KEYS_MIN * (self.table.len() - self.keys_before) as u64;
            (self.records, self.keys_before, self.keys_checked) = (0, self.table.len(), 2 * self.table.len());
            if full || self.gave_up {
                self.draining = Some(0);
                ctx.runtime.counter("combine_flushes").add(1);
                return Ok(self.drain(out));
            }
        }
        Ok(Progress::Done)
    }

    fn end_of_input(&mut self, _ctx: &mut Context, out: &mut Out<(K, F::Acc)>) -> Result<Progress> {
        if self.draining.is_none() && !self.table.is_empty() {
            self.draining = Some(0);
        }
        let progress = self.drain(out);
        if progress == Progress::Done {
            self.table.release();
        }
        Ok(progress)
    }
}

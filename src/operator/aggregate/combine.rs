//! Combine: folds records of a key before they are shuffled.
//!
//! Method: a table of accumulators is filled until it reaches its share of the memory, then emptied into the
//! output in the order in which its keys came; so what is emitted depends on the input and the share only. Where a
//! table full of records had hardly any key twice, the operator gives up and passes each record on as a partial
//! result of its own. A fold that depends on order is not combined where records have timestamps, since they
//! are put in time order behind the shuffle.
//! Costs: memory within the share, heap behind keys and accumulators estimated from samples.

use super::Fold;
use crate::base::batch::Batch;
use crate::base::codec;
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::exchange::KeySelector;
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::state::{KeyTable, Slot, Upsert};
use std::marker::PhantomData;
use std::sync::Arc;

/// A table is worth its memory if it holds at least this many records for two keys.
const RECORDS_PER_TWO_KEYS_MIN: u64 = 3;
/// Entries handed to the output before it is asked whether it is full.
const DRAIN_ENTRIES: usize = 256;
/// One of so many new entries is encoded to estimate what it holds on the heap.
const SAMPLED_ENTRIES: u64 = 256;

/// Emits `(key, accumulator)` pairs; a key may come several times.
pub struct Combine<K, T, F: Fold<K, T>> {
    fold: F,
    selector: Arc<dyn KeySelector<T, K>>,
    table: KeyTable<K, F::Acc>,
    /// The highest timestamp of each entry, where records have timestamps.
    timestamps: Vec<Timestamp>,
    keys: Vec<K>,
    heap: HeapEstimate,
    records: u64,
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
            draining: None,
            full_at: None,
            gave_up: false,
            types: PhantomData,
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.table.memory_bytes() + self.timestamps.capacity() as u64 * 8 + self.heap.bytes(self.table.len() as u64)
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
                self.draining = None;
                self.timestamps.clear();
                self.records = 0;
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

    fn process(&mut self, batch: &mut Batch<T>, ctx: &mut Context, out: &mut Out<(K, F::Acc)>) -> Result<Progress> {
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
        if self.gave_up || (timed && F::ORDERED) {
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
        if full {
            self.full_at = Some((self.table.len(), memory.max(ctx.memory_bytes)));
            self.gave_up = 2 * self.records < RECORDS_PER_TWO_KEYS_MIN * self.table.len() as u64;
            self.draining = Some(0);
            ctx.runtime.counter("combine_flushes").add(1);
            return Ok(self.drain(out));
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

/// Estimates the heap memory behind entries from encoded samples.
#[derive(Default)]
struct HeapEstimate {
    entries: u64,
    sampled: u64,
    sampled_bytes: u64,
    scratch: Vec<u8>,
}

impl HeapEstimate {
    #[inline(always)]
    fn inserted<E: Data>(&mut self, entry: &E) {
        if std::mem::needs_drop::<E>() {
            if self.entries.is_multiple_of(SAMPLED_ENTRIES) || self.entries < 16 {
                self.sample(entry);
            }
            self.entries += 1;
        }
    }
    #[inline(never)]
    fn sample<E: Data>(&mut self, entry: &E) {
        self.scratch.clear();
        if codec::encode(entry, &mut self.scratch).is_ok() {
            self.sampled += 1;
            self.sampled_bytes += self.scratch.len() as u64;
        }
    }
    fn bytes(&self, entries: u64) -> u64 {
        (self.sampled_bytes * entries).checked_div(self.sampled).unwrap_or(0)
    }
}

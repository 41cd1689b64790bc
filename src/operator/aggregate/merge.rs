//! Merge: the final result of each key from its partial results, which come in any order of keys.
//!
//! Method: partial results are folded into a table as they come: by producer, then sequence. A table that outgrows its
//! share of the memory goes into sorted runs, and at the end the runs are merged and folded key by key. A fold
//! that depends on order takes the way over the runs at once where records have timestamps, since they say the
//! order. Results carry the timestamp of the key's last record.
//! Costs: memory within the share, half for the table and half for the runs; each spilled entry is written once.
//! Order of the results: that of the keys' first records, or if anything was spilled that of (hash, key).

use super::Fold;
use super::heap::HeapEstimate;
use crate::base::batch::Batch;
use crate::base::codec::{decode, encode};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::exchange::key_order;
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::state::{KeyTable, Slot, Upsert};
use crate::services::shuffle::{self, MergeInput, Partitioning, Remainder, ShuffleContext, SortBuffer};
use std::marker::PhantomData;
use std::sync::Arc;
use std::vec::Drain;

/// Entries handed to the output before it is asked whether it is full.
const DRAIN_ENTRIES: usize = 256;

/// Folds `(key, accumulator)` pairs.
pub struct Merge<K, T, F: Fold<K, T>> {
    fold: F,
    table: KeyTable<K, F::Acc>,
    /// The highest timestamp of each entry, where records have timestamps.
    timestamps: Vec<Timestamp>,
    heap: HeapEstimate,
    hashes: Vec<u64>,
    runs: Option<SortBuffer>,
    stage: Stage<K, F::Acc>,
    types: PhantomData<fn(T)>,
}

/// What is left to do at the end of the input.
enum Stage<K, A> {
    Reading,
    /// Entries of the table that have been emitted.
    Draining(usize),
    Merging {
        rows: Box<shuffle::Merge>,
        current: Option<(K, A)>,
        timestamp: Option<Timestamp>,
    },
}

impl<K: Key, T: Data, F: Fold<K, T>> Merge<K, T, F> {
    /// The operator around a fold.
    pub fn new(fold: F) -> Self {
        Merge {
            fold,
            table: KeyTable::new(),
            timestamps: Vec::new(),
            heap: HeapEstimate::default(),
            hashes: Vec::new(),
            runs: None,
            stage: Stage::Reading,
            types: PhantomData,
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.table.memory_bytes()
            + self.timestamps.capacity() as u64 * 8
            + self.heap.bytes(self.table.len() as u64)
    }

    fn shuffle_context(ctx: &Context, timestamps: bool) -> Result<ShuffleContext> {
        let mut context = ctx
            .spill
            .clone()
            .ok_or_else(|| Error::Internal("a merging fold has nowhere to spill to".into()))?;
        context.share_bytes = usize::try_from(ctx.memory_bytes / 2).unwrap_or(usize::MAX);
        context.timestamps = timestamps;
        Ok(context)
    }

    fn append(
        runs: &mut SortBuffer,
        hash: u64,
        timestamp: Option<Timestamp>,
        key: &K,
        acc: &F::Acc,
    ) -> Result<()> {
        let (mut key_bytes, mut acc_bytes) = (Vec::new(), Vec::new());
        encode(key, &mut key_bytes)?;
        encode(acc, &mut acc_bytes)?;
        runs.append(hash, timestamp, &key_bytes, &acc_bytes)
    }

    fn runs<'a>(
        runs: &'a mut Option<SortBuffer>,
        ctx: &Context,
        timestamps: bool,
    ) -> Result<&'a mut SortBuffer> {
        match runs {
            Some(runs) => Ok(runs),
            None => {
                let context = Self::shuffle_context(ctx, timestamps)?;
                Ok(runs.insert(SortBuffer::new(context, Partitioning::single(), key_order::<K>())))
            }
        }
    }

    /// Moves the whole table into the runs.
    fn spill(&mut self, ctx: &Context) -> Result<()> {
        ctx.runtime.counter("merge_spills").add(1);
        let timestamps = std::mem::take(&mut self.timestamps);
        let runs = Self::runs(&mut self.runs, ctx, !timestamps.is_empty())?;
        let (mut at, mut result) = (0, Ok(()));
        while self.table.drain(DRAIN_ENTRIES, |hash, key, acc| {
            if result.is_ok() {
                result = Self::append(runs, hash, timestamps.get(at).copied(), &key, &acc);
            }
            at += 1;
        }) {}
        self.table.release();
        result?;
        runs.settle()
    }

    fn fold_into_table(&mut self, batch: &mut Batch<(K, F::Acc)>) -> Result<()> {
        self.hashes.clear();
        self.hashes.extend(batch.values.iter().map(|(key, _)| hash_of(key)));
        let mut rows = Rows {
            fold: &mut self.fold,
            partials: batch.values.drain(..),
            batch_timestamps: &batch.timestamps,
            timestamps: &mut self.timestamps,
            heap: &mut self.heap,
            types: PhantomData,
        };
        self.table.upsert_batch(&self.hashes, &mut rows)
    }

    fn drain(&mut self, mut at: usize, out: &mut Out<F::Out>) -> Progress {
        let (fold, timestamps) = (&mut self.fold, &self.timestamps);
        loop {
            if out.is_full() {
                self.stage = Stage::Draining(at);
                return Progress::Yielded;
            }
            let more = self.table.drain(DRAIN_ENTRIES, |_hash, key, acc| {
                let timestamp = fold.timestamp(&key, timestamps.get(at).copied());
                out.push(fold.finish(key, acc), timestamp);
                at += 1;
            });
            if !more {
                self.table.release();
                self.stage = Stage::Reading;
                return Progress::Done;
            }
        }
    }

    fn merge_runs(&mut self, out: &mut Out<F::Out>) -> Result<Progress> {
        let Stage::Merging { rows, current, timestamp } = &mut self.stage else { return Ok(Progress::Done) };
        while !out.is_full() {
            let Some(row) = rows.next_row()? else {
                if let Some((key, acc)) = current.take() {
                    let timestamp = self.fold.timestamp(&key, *timestamp);
                    out.push(self.fold.finish(key, acc), timestamp);
                }
                self.stage = Stage::Reading;
                return Ok(Progress::Done);
            };
            let acc: F::Acc = row.decode_value()?;
            let ended = match current {
                Some((_, folded)) if !row.new_key => {
                    self.fold.merge(folded, acc);
                    None
                }
                _ => current.replace((decode(row.key)?, acc)),
            };
            if let Some((key, acc)) = ended {
                let timestamp = self.fold.timestamp(&key, timestamp.take());
                out.push(self.fold.finish(key, acc), timestamp);
            }
            *timestamp = (*timestamp).max(row.timestamp);
        }
        Ok(Progress::Yielded)
    }
}

struct Rows<'a, K, T, F: Fold<K, T>> {
    fold: &'a mut F,
    /// The table asks for them in order: the first is the one it is at.
    partials: Drain<'a, (K, F::Acc)>,
    batch_timestamps: &'a [Timestamp],
    timestamps: &'a mut Vec<Timestamp>,
    heap: &'a mut HeapEstimate,
    types: PhantomData<fn(T)>,
}

impl<K: Key, T: Data, F: Fold<K, T>> Upsert<K, F::Acc> for Rows<'_, K, T, F> {
    #[inline(always)]
    fn is_key(&self, _: usize, key: &K) -> bool {
        self.partials.as_slice().first().is_some_and(|partial| partial.0 == *key)
    }
    #[inline(always)]
    fn found(&mut self, i: usize, slot: Slot, acc: &mut F::Acc) -> Result<()> {
        let (_, later) = self.partials.next().ok_or_else(super::combine::out_of_records)?;
        self.fold.merge(acc, later);
        if let Some(&timestamp) = self.batch_timestamps.get(i) {
            let highest = &mut self.timestamps[slot as usize];
            *highest = timestamp.max(*highest);
        }
        Ok(())
    }
    #[inline(always)]
    fn insert(&mut self, i: usize, _slot: Slot) -> Result<(K, F::Acc)> {
        let entry = self.partials.next().ok_or_else(super::combine::out_of_records)?;
        if let Some(&timestamp) = self.batch_timestamps.get(i) {
            self.timestamps.push(timestamp);
        }
        self.heap.inserted(&entry);
        Ok(entry)
    }
}

impl<K: Key, T: Data, F: Fold<K, T>> Operator for Merge<K, T, F> {
    type In = (K, F::Acc);
    type Out = F::Out;

    fn process(
        &mut self,
        batch: &mut Batch<Self::In>,
        ctx: &mut Context,
        _out: &mut Out<F::Out>,
    ) -> Result<Progress> {
        let timed = !batch.timestamps.is_empty();
        if timed && F::ORDERED {
            let runs = Self::runs(&mut self.runs, ctx, true)?;
            for ((key, acc), &timestamp) in batch.values.drain(..).zip(&batch.timestamps) {
                Self::append(runs, hash_of(&key), Some(timestamp), &key, &acc)?;
            }
            runs.settle()?;
        } else {
            self.fold_into_table(batch)?;
            if self.memory_bytes() >= ctx.memory_bytes / 2 {
                self.spill(ctx)?;
            }
        }
        batch.clear();
        Ok(Progress::Done)
    }

    fn emits_at_end(&self) -> bool {
        true
    }

    fn end_of_input(&mut self, ctx: &mut Context, out: &mut Out<F::Out>) -> Result<Progress> {
        if let Stage::Reading = self.stage {
            if self.runs.is_some() && !self.table.is_empty() {
                self.spill(ctx)?;
            }
            self.stage = match self.runs.take() {
                Some(runs) => {
                    let output = runs.finish(Remainder::Memory)?;
                    let context = Self::shuffle_context(ctx, output.has_timestamps())?;
                    let input = MergeInput { input: 0, producer: 0, output: Arc::new(output) };
                    let rows = shuffle::Merge::open(context, 0, &[input], key_order::<K>())?;
                    Stage::Merging { rows: Box::new(rows), current: None, timestamp: None }
                }
                None => Stage::Draining(0),
            };
        }
        match self.stage {
            Stage::Draining(at) => Ok(self.drain(at, out)),
            _ => self.merge_runs(out),
        }
    }
}

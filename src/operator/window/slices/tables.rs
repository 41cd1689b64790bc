//! SliceTables: a table of accumulators for each open slice.
//!
//! Method: a batch is usually in one slice, which its lowest and highest timestamps tell; then it goes into the table of
//! the slice as a whole. Otherwise its records are dealt out to parts, one for each slice, first. Emptied tables are kept
//! for the next slice. Costs: one entry for each key and open slice.

use super::{Slicing, no_timestamps};
use crate::base::batch::Batch;
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::aggregate::Fold;
use crate::operator::exchange::KeySelector;
use crate::operator::window::{WindowFold, Windowed};
use crate::semantics::state::{Changes, KeyTable, Section, Slot, Upsert};
use crate::semantics::window::Window;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

/// Emptied tables that are kept.
const SPARE_TABLES: usize = 2;

/// An open slice.
pub(super) struct Slice<K, A> {
    pub(super) window: Window,
    pub(super) table: KeyTable<K, A>,
    pub(super) changes: Changes,
    /// The number of the last batch with a record of it.
    pub(super) touched: u64,
}

/// The open slices of a subtask, by start.
pub(super) struct SliceTables<K, T, F: WindowFold<T>> {
    pub(super) fold: F,
    pub(super) slicing: Slicing,
    selector: Arc<dyn KeySelector<T, K>>,
    /// Mostly opened at the end and retired at the front, of which there may be very many.
    pub(super) open: VecDeque<Slice<K, F::Acc>>,
    spare: Vec<KeyTable<K, F::Acc>>,
    keys: Vec<K>,
    parts: Vec<(Window, Batch<T>)>,
    /// The number of the batch, as its user counts them.
    pub(super) batch: u64,
    /// What was still to be written of slices that have closed since the barrier.
    pub(super) left_behind: Vec<(Window, Section)>,
}

impl<K: Key, T: Data, F: WindowFold<T>> SliceTables<K, T, F> {
    pub(super) fn new(fold: F, slicing: Slicing, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        SliceTables {
            fold,
            slicing,
            selector,
            open: VecDeque::new(),
            spare: Vec::new(),
            keys: Vec::new(),
            parts: Vec::new(),
            batch: 0,
            left_behind: Vec::new(),
        }
    }

    /// Folds a batch into its slices and empties it. Records of slices for which `refuses` holds are handed to it
    /// instead, with the timestamps that they have.
    pub(super) fn fold_batch(
        &mut self,
        batch: &mut Batch<T>,
        mut refuses: impl FnMut(&Window, &mut Batch<T>) -> bool,
    ) -> Result<()> {
        let Some((&first, rest)) = batch.timestamps.split_first().filter(|_| !batch.is_empty()) else {
            return if batch.is_empty() { Ok(()) } else { Err(no_timestamps()) };
        };
        let (lowest, highest) = rest.iter().fold((first, first), |(low, high), &t| (low.min(t), high.max(t)));
        let slice = self.slicing.slice_of(lowest)?;
        if slice.contains(highest) {
            if !refuses(&slice, batch) {
                self.fold_into(slice, batch)?;
            }
            batch.clear();
            return Ok(());
        }
        self.deal_out(batch)?;
        let mut parts = std::mem::take(&mut self.parts);
        for (slice, part) in parts.iter_mut().filter(|(_, part)| !part.is_empty()) {
            if !refuses(slice, part) {
                self.fold_into(*slice, part)?;
            }
            part.clear();
        }
        self.parts = parts;
        Ok(())
    }

    /// Moves records to the parts of their slices.
    fn deal_out(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let hashed = batch.hashes.len() == batch.len();
        let mut at = usize::MAX;
        let mut used = 0;
        for (i, (value, &timestamp)) in batch.values.drain(..).zip(&batch.timestamps).enumerate() {
            if self.parts[..used].get(at).is_none_or(|(slice, _)| !slice.contains(timestamp)) {
                let known = self.parts[..used].iter().position(|(slice, _)| slice.contains(timestamp));
                at = match known {
                    Some(at) => at,
                    None => {
                        let slice = self.slicing.slice_of(timestamp)?;
                        if used == self.parts.len() {
                            self.parts.push((slice, Batch::new()));
                        }
                        self.parts[used].0 = slice;
                        used += 1;
                        used - 1
                    }
                };
            }
            let part = &mut self.parts[at].1;
            part.values.push(value);
            part.timestamps.push(timestamp);
            if hashed {
                part.hashes.push(batch.hashes[i]);
            }
        }
        batch.clear();
        Ok(())
    }

    /// The index of an open slice, opened if it was not.
    pub(super) fn position(&mut self, slice: Window) -> usize {
        // Time goes forward: it is one of the last.
        let at = self.open.iter().rposition(|open| open.window.start <= slice.start);
        if let Some(at) = at
            && self.open[at].window == slice
        {
            return at;
        }
        let at = at.map_or(0, |at| at + 1);
        let table = self.spare.pop().unwrap_or_default();
        // Of a slice that has opened since the last barrier no checkpoint has anything, so the next one has all of it:
        // what has changed need not be noted before there was a barrier. Most slices see none.
        let changes = Changes::new();
        self.open.insert(at, Slice { window: slice, table, changes, touched: self.batch });
        at
    }

    fn fold_into(&mut self, slice: Window, batch: &mut Batch<T>) -> Result<()> {
        self.keys.clear();
        self.selector.keys(&batch.values, &mut self.keys);
        if batch.hashes.len() != batch.len() {
            batch.hashes.clear();
            batch.hashes.extend(self.keys.iter().map(hash_of));
        }
        let at = self.position(slice);
        let Slice { table, changes, touched, .. } = &mut self.open[at];
        *touched = self.batch;
        let records = batch.values.drain(..);
        table.upsert_batch(
            &batch.hashes,
            &mut Rows { fold: &mut self.fold, changes, keys: &self.keys, records },
        )
    }

    /// Forgets slice `at`, which must be empty, and keeps its table for another.
    pub(super) fn retire(&mut self, at: usize) {
        let Some(slice) = self.open.remove(at) else { return };
        let copies = slice.changes.into_copies();
        if !copies.is_empty() {
            self.left_behind.push((slice.window, copies));
        }
        if self.spare.len() < SPARE_TABLES {
            self.spare.push(slice.table);
        }
    }

    /// Memory of all tables, without what keys and accumulators own elsewhere.
    pub(super) fn memory_bytes(&self) -> u64 {
        let spare: u64 = self.spare.iter().map(KeyTable::memory_bytes).sum();
        spare + self.open.iter().map(|slice| slice.table.memory_bytes()).sum::<u64>()
    }
}

struct Rows<'a, K, T, F, I: Iterator<Item = T>> {
    fold: &'a mut F,
    changes: &'a mut Changes,
    keys: &'a [K],
    records: I,
}

fn out_of_records() -> Error {
    Error::Internal("a batch has fewer records than hashes".into())
}

impl<K: Key, T: Data, F: WindowFold<T>, I: Iterator<Item = T>> Upsert<K, F::Acc> for Rows<'_, K, T, F, I> {
    #[inline(always)]
    fn is_key(&self, i: usize, key: &K) -> bool {
        self.keys[i] == *key
    }
    #[inline(always)]
    fn found(&mut self, i: usize, slot: Slot, acc: &mut F::Acc) -> Result<()> {
        let record = self.records.next().ok_or_else(out_of_records)?;
        self.changes.changing(slot, |copies| copies.put_slot(slot, Some(&(&self.keys[i], &*acc))))?;
        self.fold.add(acc, record);
        Ok(())
    }
    #[inline(always)]
    fn insert(&mut self, i: usize, slot: Slot) -> Result<(K, F::Acc)> {
        self.changes.creating(slot)?;
        let record = self.records.next().ok_or_else(out_of_records)?;
        Ok((self.keys[i].clone(), self.fold.create(record)))
    }
}

/// The fold of partial results `((key, slice start), accumulator)` of tumbling windows behind a shuffle.
pub struct FoldPartials<T, F> {
    fold: F,
    slicing: Slicing,
    types: PhantomData<fn(T)>,
}

impl<T, F: Clone> Clone for FoldPartials<T, F> {
    fn clone(&self) -> Self {
        FoldPartials { fold: self.fold.clone(), slicing: self.slicing, types: PhantomData }
    }
}

impl<T, F> FoldPartials<T, F> {
    /// The fold over slices.
    pub fn new(fold: F, aligned: crate::semantics::window::Aligned) -> Self {
        FoldPartials { fold, slicing: Slicing::new(aligned), types: PhantomData }
    }
}

impl<K: Key, T: Data, F: WindowFold<T>> Fold<(K, Timestamp), T> for FoldPartials<T, F> {
    type Acc = F::Acc;
    type Out = Windowed<K, F::Value>;
    const ORDERED: bool = false;

    fn create(&mut self, record: T) -> F::Acc {
        self.fold.create(record)
    }
    fn add(&mut self, acc: &mut F::Acc, record: T) {
        self.fold.add(acc, record)
    }
    #[inline(always)]
    fn merge(&mut self, acc: &mut F::Acc, later: F::Acc) {
        self.fold.merge(acc, later)
    }
    fn result(&mut self, key: &(K, Timestamp), acc: &F::Acc) -> Self::Out {
        self.finish(key.clone(), acc.clone())
    }
    #[inline(always)]
    fn timestamp(&self, (_, start): &(K, Timestamp), _highest: Option<Timestamp>) -> Option<Timestamp> {
        Some(start.saturating_add(self.slicing.slice_ms - 1))
    }
    #[inline(always)]
    fn finish(&mut self, (key, start): (K, Timestamp), acc: F::Acc) -> Self::Out {
        let end = start.saturating_add(self.slicing.slice_ms);
        Windowed { key, window: Window { start, end }, value: self.fold.value(&acc) }
    }
}

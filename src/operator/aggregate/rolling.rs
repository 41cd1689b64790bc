//! Rolling: an updated result for each record. State per key: the accumulator, beside its key in one table.

use super::Fold;
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::Result;
use crate::operator::exchange::{KeySelector, keys_and_hashes};
use crate::operator::{Context, Operator, Out, Progress, SNAPSHOT_SLICE_BYTES};
use crate::semantics::state::tables::KeyedTable;
use crate::semantics::state::{Changes, KeyTable, OperatorSnapshot, OperatorState, Slot, StateTable, Upsert};
use std::marker::PhantomData;
use std::sync::Arc;

/// The section of a snapshot that holds a pair of key and accumulator for each key.
const ACCUMULATORS: &str = "accumulators";

/// Folds each record into its key's accumulator and emits the result with the record's timestamp.
pub struct Rolling<K, T, F: Fold<K, T>> {
    fold: F,
    selector: Arc<dyn KeySelector<T, K>>,
    table: KeyTable<K, F::Acc>,
    changes: Changes,
    keys: Vec<K>,
    types: PhantomData<fn(T)>,
}

impl<K: Key, T: Data, F: Fold<K, T>> Rolling<K, T, F> {
    /// The operator around a fold.
    pub fn new(fold: F, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        let (table, changes) = (KeyTable::new(), Changes::new());
        Rolling { fold, selector, table, changes, keys: Vec::new(), types: PhantomData }
    }
}

struct Rows<'a, K, T, F: Fold<K, T>, I: Iterator<Item = T>> {
    fold: &'a mut F,
    changes: &'a mut Changes,
    keys: &'a [K],
    timestamps: &'a [Timestamp],
    records: I,
    out: &'a mut Out<F::Out>,
}

impl<K: Key, T: Data, F: Fold<K, T>, I: Iterator<Item = T>> Rows<'_, K, T, F, I> {
    #[inline(always)]
    fn next(&mut self) -> Result<T> {
        self.records.next().ok_or_else(super::combine::out_of_records)
    }
}

impl<K: Key, T: Data, F: Fold<K, T>, I: Iterator<Item = T>> Upsert<K, F::Acc> for Rows<'_, K, T, F, I> {
    #[inline(always)]
    fn is_key(&self, i: usize, key: &K) -> bool {
        self.keys[i] == *key
    }
    #[inline(always)]
    fn found(&mut self, i: usize, slot: Slot, acc: &mut F::Acc) -> Result<()> {
        let record = self.next()?;
        self.changes.changing(slot, |copies| copies.put_slot(slot, Some(&(&self.keys[i], &*acc))))?;
        self.fold.add(acc, record);
        let result = self.fold.result(&self.keys[i], acc);
        self.out.push(result, self.timestamps.get(i).copied());
        Ok(())
    }
    #[inline(always)]
    fn insert(&mut self, i: usize, slot: Slot) -> Result<(K, F::Acc)> {
        let record = self.next()?;
        self.changes.creating(slot)?;
        let acc = self.fold.create(record);
        let result = self.fold.result(&self.keys[i], &acc);
        self.out.push(result, self.timestamps.get(i).copied());
        Ok((self.keys[i].clone(), acc))
    }
}

impl<K: Key, T: Data, F: Fold<K, T>> Operator for Rolling<K, T, F> {
    type In = T;
    type Out = F::Out;

    fn process(
        &mut self,
        batch: &mut Batch<T>,
        _ctx: &mut Context,
        out: &mut Out<F::Out>,
    ) -> Result<Progress> {
        keys_and_hashes(&*self.selector, batch, &mut self.keys);
        let mut rows = Rows {
            fold: &mut self.fold,
            changes: &mut self.changes,
            keys: &self.keys,
            timestamps: &batch.timestamps,
            records: batch.values.drain(..),
            out,
        };
        self.table.upsert_batch(&batch.hashes, &mut rows)?;
        drop(rows);
        batch.clear();
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        self.changes.cut(barrier.full, self.table.slots());
        self.snapshot_more(into)
    }

    fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        let table = &self.table;
        let section = into.section(ACCUMULATORS);
        let done =
            self.changes.write(section, SNAPSHOT_SLICE_BYTES, |slot, into| table.put_entry(slot, into))?;
        Ok(if done { Progress::Done } else { Progress::Yielded })
    }

    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![KeyedTable::<(K, F::Acc)>::boxed(ACCUMULATORS, &["key", "value"])]
    }

    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        self.table.reserve(state.table_len(ACCUMULATORS) / ctx.runtime.parallelism());
        let entries = state.table::<(K, F::Acc)>(ACCUMULATORS);
        self.table.insert_all(entries.map(|entry| Ok(entry?.2)), |hash| ctx.runtime.owns(hash))
    }
}

#[cfg(test)]
mod speed;

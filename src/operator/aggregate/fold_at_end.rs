//! FoldAtEnd: the final result of each key, when the input ends. State per key: the accumulator.
//!
//! Order of the results: that of the keys' first records.

use super::Fold;
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key};
use crate::base::error::Result;
use crate::operator::exchange::{KeySelector, keys_and_hashes};
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::state::tables::KeyedTable;
use crate::semantics::state::{KeyTable, OperatorSnapshot, OperatorState, Slot, StateTable, Upsert};
use std::marker::PhantomData;
use std::sync::Arc;

/// The section of a snapshot that holds a pair of key and accumulator for each key.
const ACCUMULATORS: &str = "accumulators";
/// Entries handed to the output before it is asked whether it is full.
const DRAIN_ENTRIES: usize = 256;

/// Folds each record into its key's accumulator.
pub struct FoldAtEnd<K, T, F: Fold<K, T>> {
    fold: F,
    selector: Arc<dyn KeySelector<T, K>>,
    table: KeyTable<K, F::Acc>,
    keys: Vec<K>,
    types: PhantomData<fn(T)>,
}

impl<K: Key, T: Data, F: Fold<K, T>> FoldAtEnd<K, T, F> {
    /// The operator around a fold.
    pub fn new(fold: F, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        FoldAtEnd { fold, selector, table: KeyTable::new(), keys: Vec::new(), types: PhantomData }
    }
}

struct Rows<'a, K, T, F: Fold<K, T>, I: Iterator<Item = T>> {
    fold: &'a mut F,
    keys: &'a [K],
    records: I,
}

impl<K: Key, T: Data, F: Fold<K, T>, I: Iterator<Item = T>> Upsert<K, F::Acc> for Rows<'_, K, T, F, I> {
    #[inline(always)]
    fn is_key(&self, i: usize, key: &K) -> bool {
        self.keys[i] == *key
    }
    #[inline(always)]
    fn found(&mut self, _i: usize, _slot: Slot, acc: &mut F::Acc) -> Result<()> {
        self.fold.add(acc, self.records.next().ok_or_else(super::combine::out_of_records)?);
        Ok(())
    }
    #[inline(always)]
    fn insert(&mut self, i: usize, _slot: Slot) -> Result<(K, F::Acc)> {
        let record = self.records.next().ok_or_else(super::combine::out_of_records)?;
        Ok((self.keys[i].clone(), self.fold.create(record)))
    }
}

impl<K: Key, T: Data, F: Fold<K, T>> Operator for FoldAtEnd<K, T, F> {
    type In = T;
    type Out = F::Out;

    fn process(
        &mut self,
        batch: &mut Batch<T>,
        _ctx: &mut Context,
        _out: &mut Out<F::Out>,
    ) -> Result<Progress> {
        keys_and_hashes(&*self.selector, batch, &mut self.keys);
        let mut rows = Rows { fold: &mut self.fold, keys: &self.keys, records: batch.values.drain(..) };
        self.table.upsert_batch(&batch.hashes, &mut rows)?;
        drop(rows);
        batch.clear();
        Ok(Progress::Done)
    }

    fn emits_at_end(&self) -> bool {
        true
    }

    fn end_of_input(&mut self, _ctx: &mut Context, out: &mut Out<F::Out>) -> Result<Progress> {
        let fold = &mut self.fold;
        loop {
            if out.is_full() {
                return Ok(Progress::Yielded);
            }
            if !self.table.drain(DRAIN_ENTRIES, |_, key, acc| out.push(fold.finish(key, acc), None)) {
                return Ok(Progress::Done);
            }
        }
    }

    fn snapshot(&mut self, _barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        for (_, _, key, acc) in self.table.iter() {
            into.put(ACCUMULATORS, &(key, acc))?;
        }
        Ok(Progress::Done)
    }

    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![KeyedTable::<(K, F::Acc)>::of_entries(ACCUMULATORS, &["key", "value"])]
    }
    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        self.table.insert_all(state.entries(ACCUMULATORS), |hash| ctx.runtime.owns(hash))
    }
}

//! Rolling: an updated result for each record. State per key: the accumulator, beside its key in one table.

use super::Fold;
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::exchange::KeySelector;
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::state::{KeyTable, OperatorSnapshot, OperatorState, Slot, Upsert};
use std::marker::PhantomData;
use std::sync::Arc;

/// The section of a snapshot that holds a pair of key and accumulator for each key.
const ACCUMULATORS: &str = "accumulators";

/// Folds each record into its key's accumulator and emits the result with the record's timestamp.
pub struct Rolling<K, T, F: Fold<K, T>> {
    fold: F,
    selector: Arc<dyn KeySelector<T, K>>,
    table: KeyTable<K, F::Acc>,
    keys: Vec<K>,
    types: PhantomData<fn(T)>,
}

impl<K: Key, T: Data, F: Fold<K, T>> Rolling<K, T, F> {
    /// The operator around a fold.
    pub fn new(fold: F, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        Rolling { fold, selector, table: KeyTable::new(), keys: Vec::new(), types: PhantomData }
    }
}

struct Rows<'a, K, T, F: Fold<K, T>, I: Iterator<Item = T>> {
    fold: &'a mut F,
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
    fn found(&mut self, i: usize, _slot: Slot, acc: &mut F::Acc) -> Result<()> {
        let record = self.next()?;
        self.fold.add(acc, record);
        let result = self.fold.result(&self.keys[i], acc);
        self.out.push(result, self.timestamps.get(i).copied());
        Ok(())
    }
    #[inline(always)]
    fn insert(&mut self, i: usize, _slot: Slot) -> Result<(K, F::Acc)> {
        let record = self.next()?;
        let acc = self.fold.create(record);
        let result = self.fold.result(&self.keys[i], &acc);
        self.out.push(result, self.timestamps.get(i).copied());
        Ok((self.keys[i].clone(), acc))
    }
}

/// An entry of a snapshot.
struct Restored<K, A> {
    key: K,
    acc: Option<A>,
}

impl<K: Key, A> Upsert<K, A> for Restored<K, A> {
    fn is_key(&self, _: usize, key: &K) -> bool {
        self.key == *key
    }
    fn found(&mut self, _: usize, _: Slot, _: &mut A) -> Result<()> {
        Err(Error::Internal("a snapshot has two accumulators of one key".into()))
    }
    fn insert(&mut self, _: usize, _: Slot) -> Result<(K, A)> {
        let acc = self.acc.take().ok_or_else(super::combine::out_of_records)?;
        Ok((self.key.clone(), acc))
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
        self.keys.clear();
        self.selector.keys(&batch.values, &mut self.keys);
        if batch.hashes.len() != batch.len() {
            batch.hashes.clear();
            batch.hashes.extend(self.keys.iter().map(hash_of));
        }
        let mut rows = Rows {
            fold: &mut self.fold,
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

    fn snapshot(&mut self, _barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        let accumulators = into.section(ACCUMULATORS);
        for (_, _, key, acc) in self.table.iter() {
            accumulators.put(&(key, acc))?;
        }
        Ok(Progress::Done)
    }

    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        for entry in state.entries::<(K, F::Acc)>(ACCUMULATORS) {
            let (key, acc) = entry?;
            let hash = hash_of(&key);
            if ctx.runtime.owns(hash) {
                self.table.upsert_batch(&[hash], &mut Restored { key, acc: Some(acc) })?;
            }
        }
        Ok(())
    }
}

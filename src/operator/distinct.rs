//! Distinct: the first record of each key. State per key: that it was there.

use super::exchange::{KeySelector, keys_and_hashes};
use super::{Context, Operator, Out, Progress};
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::operator::aggregate::Fold;
use crate::semantics::state::tables::KeyedTable;
use crate::semantics::state::{KeyTable, OperatorSnapshot, OperatorState, Slot, StateTable, Upsert};
use std::sync::Arc;

/// The section of a snapshot that holds the keys.
const KEYS: &str = "keys";

/// Passes on the first record of each key, as it comes.
pub struct Distinct<K, T> {
    selector: Arc<dyn KeySelector<T, K>>,
    table: KeyTable<K, ()>,
    keys: Vec<K>,
}

impl<K: Key, T: Data> Distinct<K, T> {
    /// The operator for keys of `selector`.
    pub fn new(selector: Arc<dyn KeySelector<T, K>>) -> Self {
        Distinct { selector, table: KeyTable::new(), keys: Vec::new() }
    }
}

struct Rows<'a, K, T, I: Iterator<Item = T>> {
    keys: &'a [K],
    timestamps: &'a [Timestamp],
    records: I,
    out: &'a mut Out<T>,
}

impl<K: Key, T: Data, I: Iterator<Item = T>> Upsert<K, ()> for Rows<'_, K, T, I> {
    #[inline(always)]
    fn is_key(&self, i: usize, key: &K) -> bool {
        self.keys[i] == *key
    }
    #[inline(always)]
    fn found(&mut self, _i: usize, _slot: Slot, _seen: &mut ()) -> Result<()> {
        self.records.next();
        Ok(())
    }
    #[inline(always)]
    fn insert(&mut self, i: usize, _slot: Slot) -> Result<(K, ())> {
        let record = self.records.next();
        let record = record.ok_or_else(|| Error::Internal("a batch has fewer records than hashes".into()))?;
        self.out.push(record, self.timestamps.get(i).copied());
        Ok((self.keys[i].clone(), ()))
    }
}

impl<K: Key, T: Data> Operator for Distinct<K, T> {
    type In = T;
    type Out = T;

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, out: &mut Out<T>) -> Result<Progress> {
        keys_and_hashes(&*self.selector, batch, &mut self.keys);
        let mut rows =
            Rows { keys: &self.keys, timestamps: &batch.timestamps, records: batch.values.drain(..), out };
        self.table.upsert_batch(&batch.hashes, &mut rows)?;
        drop(rows);
        batch.clear();
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        for (_, _, key, ()) in self.table.iter() {
            into.put(KEYS, key)?;
        }
        Ok(Progress::Done)
    }

    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![KeyedTable::<(K,)>::of_entries(KEYS, &["key"])]
    }
    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        let keys = state.entries::<K>(KEYS).map(|key| Ok((key?, ())));
        self.table.insert_all(keys, |hash| ctx.runtime.owns(hash))
    }
}

/// Keeps the first of equal records: nothing but the key.
#[derive(Clone)]
pub struct KeepKey;

impl<T: Key> Fold<T, T> for KeepKey {
    type Acc = ();
    type Out = T;
    const ORDERED: bool = false;

    fn create(&mut self, _record: T) {}
    fn add(&mut self, _acc: &mut (), _record: T) {}
    fn merge(&mut self, _acc: &mut (), _later: ()) {}
    fn result(&mut self, key: &T, _acc: &()) -> T {
        key.clone()
    }
    fn finish(&mut self, key: T, _acc: ()) -> T {
        key
    }
}

/// Keeps the first record of a key.
#[derive(Clone)]
pub struct KeepFirst;

impl<K: Key, T: Data> Fold<K, T> for KeepFirst {
    type Acc = T;
    type Out = T;
    const ORDERED: bool = true;

    fn create(&mut self, record: T) -> T {
        record
    }
    fn add(&mut self, _acc: &mut T, _record: T) {}
    fn merge(&mut self, _acc: &mut T, _later: T) {}
    fn result(&mut self, _key: &K, acc: &T) -> T {
        acc.clone()
    }
    fn finish(&mut self, _key: K, acc: T) -> T {
        acc
    }
}

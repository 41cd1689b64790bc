//! CombineGroup: a function over those records of a key that happen to be together in a subtask.
//!
//! Method: records are put into lists by key; when the share of memory is used up, and at the end, the function is called for each
//! key, in the order in which they came.

use super::group::draw;
use super::records::Records;
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::aggregate::HeapEstimate;
use crate::operator::exchange::KeySelector;
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::state::tables::KeyedTable;
use crate::semantics::state::{KeyTable, OperatorSnapshot, OperatorState, Slot, StateTable, Upsert};
use std::sync::Arc;

/// The section of a snapshot that holds the groups.
const GROUPS: &str = "groups";
/// Groups taken out of the table at once.
const DRAIN_GROUPS: usize = 64;

/// Calls `f(key, records)` for the records of a key that are in the table together.
pub struct CombineGroup<K, T: Data, I: IntoIterator, F> {
    f: F,
    selector: Arc<dyn KeySelector<T, K>>,
    table: KeyTable<K, Vec<T>>,
    keys: Vec<K>,
    heap: HeapEstimate,
    records: u64,
    draining: bool,
    /// Groups that have been taken out, the next one last.
    groups: Vec<(K, Vec<T>)>,
    results: Option<I::IntoIter>,
}

struct Rows<'a, K, I> {
    keys: &'a [K],
    records: I,
}

impl<K: Key, T, I: Iterator<Item = T>> Upsert<K, Vec<T>> for Rows<'_, K, I> {
    fn is_key(&self, i: usize, key: &K) -> bool {
        self.keys[i] == *key
    }
    fn found(&mut self, _i: usize, _slot: Slot, group: &mut Vec<T>) -> Result<()> {
        group.extend(self.records.next());
        Ok(())
    }
    fn insert(&mut self, i: usize, _slot: Slot) -> Result<(K, Vec<T>)> {
        let record = self.records.next();
        let record = record.ok_or_else(|| Error::Internal("a batch has fewer records than hashes".into()))?;
        Ok((self.keys[i].clone(), vec![record]))
    }
}

impl<K: Key, T: Data, I: IntoIterator, F> CombineGroup<K, T, I, F> {
    /// The operator around `f`.
    pub fn new(f: F, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        CombineGroup {
            f,
            selector,
            table: KeyTable::new(),
            keys: Vec::new(),
            heap: HeapEstimate::default(),
            records: 0,
            draining: false,
            groups: Vec::new(),
            results: None,
        }
    }
}

impl<K, T, U, I, F> CombineGroup<K, T, I, F>
where
    K: Key,
    T: Data,
    U: Data,
    I: IntoIterator<Item = U, IntoIter: Send> + 'static,
    F: FnMut(&K, Records<T>) -> I + Send + 'static,
{
    fn drain(&mut self, out: &mut Out<U>) -> Progress {
        loop {
            if draw(&mut self.results, out) == Progress::Yielded {
                return Progress::Yielded;
            }
            if let Some((key, records)) = self.groups.pop() {
                let records = Records::new(records, &[], Arc::default());
                self.results = Some((self.f)(&key, records).into_iter());
                continue;
            }
            if !self.draining {
                return Progress::Done;
            }
            let groups = &mut self.groups;
            self.draining = self.table.drain(DRAIN_GROUPS, |_, key, records| groups.push((key, records)));
            self.groups.reverse();
            if !self.draining {
                self.records = 0;
            }
        }
    }
}

impl<K, T, U, I, F> Operator for CombineGroup<K, T, I, F>
where
    K: Key,
    T: Data,
    U: Data,
    I: IntoIterator<Item = U, IntoIter: Send> + 'static,
    F: FnMut(&K, Records<T>) -> I + Send + 'static,
{
    type In = T;
    type Out = U;

    fn process(&mut self, batch: &mut Batch<T>, ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        if self.drain(out) == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        if batch.is_empty() {
            return Ok(Progress::Done);
        }
        self.keys.clear();
        self.selector.keys(&batch.values, &mut self.keys);
        let hashes: Vec<u64> = self.keys.iter().map(hash_of).collect();
        batch.values.iter().for_each(|record| self.heap.inserted(record));
        self.records += batch.len() as u64;
        let mut rows = Rows { keys: &self.keys, records: batch.values.drain(..) };
        self.table.upsert_batch(&hashes, &mut rows)?;
        drop(rows);
        batch.clear();
        // A list has up to twice the room that it needs.
        let held = self.table.memory_bytes()
            + 2 * self.records * size_of::<T>() as u64
            + self.heap.bytes(self.records);
        if held >= ctx.memory_bytes {
            self.draining = true;
            return Ok(self.drain(out));
        }
        Ok(Progress::Done)
    }

    fn end_of_input(&mut self, _ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        if !self.table.is_empty() {
            self.draining = true;
        }
        Ok(self.drain(out))
    }

    fn snapshot(&mut self, _barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        for (_, _, key, records) in self.table.iter() {
            into.put(GROUPS, &(key, records))?;
        }
        Ok(Progress::Done)
    }

    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![KeyedTable::<(K, Vec<T>)>::of_entries(GROUPS, &["key", "records"])]
    }
    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        for entry in super::share::<(K, Vec<T>)>(state, GROUPS, ctx) {
            let (key, records) = entry?;
            self.records += records.len() as u64;
            records.iter().for_each(|record| self.heap.inserted(record));
            let keys: Vec<K> = vec![key; records.len()];
            let hashes: Vec<u64> = keys.iter().map(hash_of).collect();
            self.table.upsert_batch(&hashes, &mut Rows { keys: &keys, records: records.into_iter() })?;
        }
        Ok(())
    }
}

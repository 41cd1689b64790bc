//! GroupReduce and MapPartition: a function over all records of a key, or of a subtask.
//!
//! Method: records are spooled; when the key, or the input, ends, the function is called with an iterator over them,
//! and what it returns is drawn from as long as there is room for output.

use super::records::Records;
use super::spool::Spool;
use crate::base::batch::{Barrier, Batch};
use crate::base::codec;
use crate::base::data::{Data, Key};
use crate::base::error::Result;
use crate::operator::exchange::KeySelector;
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::state::tables::{EntryTable, Layout};
use crate::semantics::state::{OperatorSnapshot, OperatorState, StateTable};
use std::sync::Arc;

/// Draws results until the output is full or there are no more.
#[inline]
pub(super) fn draw<U: Data, I: Iterator<Item = U>>(results: &mut Option<I>, out: &mut Out<U>) -> Progress {
    if let Some(iterator) = results {
        loop {
            if out.is_full() {
                return Progress::Yielded;
            }
            match iterator.next() {
                Some(result) => out.push(result, None),
                None => break,
            }
        }
        *results = None;
    }
    Progress::Done
}

/// Calls `f(key, records)` at the end of each key.
pub struct GroupReduce<K, T: Data, I: IntoIterator, F> {
    f: F,
    selector: Arc<dyn KeySelector<T, K>>,
    key: Option<K>,
    records: Spool<T>,
    results: Option<I::IntoIter>,
}

impl<K: Key, T: Data, I: IntoIterator, F> GroupReduce<K, T, I, F> {
    /// The operator around `f`.
    pub fn new(f: F, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        GroupReduce { f, selector, key: None, records: Spool::new(0), results: None }
    }
}

impl<K, T, U, I, F> Operator for GroupReduce<K, T, I, F>
where
    K: Key,
    T: Data,
    U: Data,
    I: IntoIterator<Item = U, IntoIter: Send> + 'static,
    F: FnMut(&K, Records<T>) -> I + Send + 'static,
{
    type In = T;
    type Out = U;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.records = Spool::new(ctx.memory_bytes / 2);
        Ok(())
    }

    fn process(&mut self, batch: &mut Batch<T>, ctx: &mut Context, _out: &mut Out<U>) -> Result<Progress> {
        if let (None, Some(first)) = (&self.key, batch.values.first()) {
            self.key = Some(self.selector.key(first));
        }
        for record in batch.values.drain(..) {
            self.records.push(record, ctx)?;
        }
        batch.clear();
        Ok(Progress::Done)
    }

    fn end_of_key(&mut self, _ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        if let Some(key) = self.key.take() {
            let records = self.records.take()?;
            self.results = Some((self.f)(&key, records).into_iter());
        }
        if draw(&mut self.results, out) == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        self.records.check()?;
        Ok(Progress::Done)
    }

    fn emits_at_end(&self) -> bool {
        true
    }
}

/// Calls `f(records)` at the end of the input.
pub struct MapPartition<T: Data, I: IntoIterator, F> {
    f: F,
    records: Spool<T>,
    results: Option<I::IntoIter>,
    called: bool,
}

impl<T: Data, I: IntoIterator, F> MapPartition<T, I, F> {
    /// The operator around `f`.
    pub fn new(f: F) -> Self {
        MapPartition { f, records: Spool::new(0), results: None, called: false }
    }
}

/// The section of a snapshot that holds the records of a subtask.
const RECORDS: &str = "records";

impl<T, U, I, F> Operator for MapPartition<T, I, F>
where
    T: Data,
    U: Data,
    I: IntoIterator<Item = U, IntoIter: Send> + 'static,
    F: FnMut(Records<T>) -> I + Send + 'static,
{
    type In = T;
    type Out = U;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.records = Spool::new(ctx.memory_bytes);
        Ok(())
    }

    fn process(&mut self, batch: &mut Batch<T>, ctx: &mut Context, _out: &mut Out<U>) -> Result<Progress> {
        for record in batch.values.drain(..) {
            self.records.push(record, ctx)?;
        }
        batch.clear();
        Ok(Progress::Done)
    }

    fn end_of_input(&mut self, ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        // Where the stage has several units of work for a subtask, all records come to the first.
        let called = std::mem::replace(&mut self.called, true);
        if !called && ctx.runtime.unit == 0 {
            let records = self.records.take()?;
            self.results = Some((self.f)(records).into_iter());
        }
        if draw(&mut self.results, out) == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        self.records.check()?;
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        self.records.show(barrier.full)?;
        self.snapshot_more(into)
    }

    fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        self.records.show_more(into.section(RECORDS))
    }

    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![EntryTable::<(T,)>::boxed(RECORDS, Layout::Entries, &["record"])]
    }
    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        let part = state.appended_part(RECORDS, ctx.runtime.subtask_index(), ctx.runtime.parallelism());
        let mut own = state.appended(RECORDS).skip(part.start).take(part.len());
        own.try_for_each(|record| self.records.push(codec::decode(record?)?, ctx))
    }

    fn emits_at_end(&self) -> bool {
        true
    }
}

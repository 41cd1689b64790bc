//! FoldPartition, CountAll, FirstN, TopN: results of a subtask from few numbers or few records.

use crate::base::batch::{Barrier, Batch};
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::operator::aggregate::{Aggregator, Fold};
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::state::tables::{EntryTable, Layout};
use crate::semantics::state::{OperatorSnapshot, OperatorState, StateTable};
use std::cmp::Ordering;

/// An [`Aggregator`] as a fold whose result comes alone.
#[derive(Clone)]
pub struct Whole<A>(pub A);

impl<T: Data, A: Aggregator<T>> Fold<(), T> for Whole<A> {
    type Acc = A::Acc;
    type Out = A::Out;
    const ORDERED: bool = false;

    fn create(&mut self, record: T) -> A::Acc {
        let mut acc = self.0.create();
        self.0.add(&mut acc, record);
        acc
    }
    fn add(&mut self, acc: &mut A::Acc, record: T) {
        self.0.add(acc, record);
    }
    fn merge(&mut self, acc: &mut A::Acc, later: A::Acc) {
        self.0.merge(acc, later);
    }
    fn result(&mut self, _key: &(), acc: &A::Acc) -> A::Out {
        self.0.result(acc)
    }
}

/// The section of a snapshot that holds what was kept so far.
const KEPT: &str = "kept";

/// Folds all records of a subtask; nothing comes out where there was none.
pub struct FoldPartition<T, F: Fold<(), T>> {
    fold: F,
    acc: Option<F::Acc>,
}

impl<T, F: Fold<(), T>> FoldPartition<T, F> {
    /// The operator around a fold.
    pub fn new(fold: F) -> Self {
        FoldPartition { fold, acc: None }
    }
}

impl<T: Data, F: Fold<(), T>> Operator for FoldPartition<T, F> {
    type In = T;
    type Out = F::Out;

    fn process(
        &mut self,
        batch: &mut Batch<T>,
        _ctx: &mut Context,
        _out: &mut Out<F::Out>,
    ) -> Result<Progress> {
        let mut records = batch.values.drain(..);
        if self.acc.is_none() {
            self.acc = records.next().map(|first| self.fold.create(first));
        }
        if let Some(acc) = &mut self.acc {
            records.by_ref().for_each(|record| self.fold.add(acc, record));
        }
        drop(records);
        batch.clear();
        Ok(Progress::Done)
    }
    fn end_of_input(&mut self, _ctx: &mut Context, out: &mut Out<F::Out>) -> Result<Progress> {
        if let Some(acc) = self.acc.take() {
            out.push(self.fold.finish((), acc), None);
        }
        Ok(Progress::Done)
    }
    fn emits_at_end(&self) -> bool {
        true
    }
    fn snapshot(&mut self, _barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        self.acc.iter().try_for_each(|acc| into.put(KEPT, acc))?;
        Ok(Progress::Done)
    }
    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![EntryTable::<(F::Acc,)>::boxed(KEPT, Layout::Entries, &["value"])]
    }
    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        // Several, where there were more subtasks.
        for acc in super::share(state, KEPT, ctx) {
            match &mut self.acc {
                Some(before) => self.fold.merge(before, acc?),
                none => *none = Some(acc?),
            }
        }
        Ok(())
    }
}

/// Adds numbers up; the sum comes out, though there may have been none.
#[derive(Default)]
pub struct CountAll(u64);

impl Operator for CountAll {
    type In = u64;
    type Out = u64;

    fn process(
        &mut self,
        batch: &mut Batch<u64>,
        _ctx: &mut Context,
        _out: &mut Out<u64>,
    ) -> Result<Progress> {
        self.0 += batch.values.iter().sum::<u64>();
        batch.clear();
        Ok(Progress::Done)
    }
    fn end_of_input(&mut self, ctx: &mut Context, out: &mut Out<u64>) -> Result<Progress> {
        // Where the stage has several units of work, all numbers come to the first.
        if ctx.runtime.unit == 0 {
            out.push(self.0, None);
        }
        Ok(Progress::Done)
    }
    fn emits_at_end(&self) -> bool {
        true
    }
    fn snapshot(&mut self, _barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        into.put(KEPT, &self.0)?;
        Ok(Progress::Done)
    }
    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![EntryTable::<(u64,)>::boxed(KEPT, Layout::Entries, &["count"])]
    }
    fn restore(&mut self, state: &OperatorState, _ctx: &mut Context) -> Result<()> {
        state.entries::<u64>(KEPT).try_for_each(|n| {
            self.0 += n?;
            Ok(())
        })
    }
}

/// Passes the first records on and drops the others.
pub struct FirstN<T> {
    left: u64,
    types: std::marker::PhantomData<fn(T)>,
}

impl<T> FirstN<T> {
    /// The operator for so many records.
    pub fn new(n: u64) -> Self {
        FirstN { left: n, types: std::marker::PhantomData }
    }
}

impl<T: Data> Operator for FirstN<T> {
    type In = T;
    type Out = T;

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, out: &mut Out<T>) -> Result<Progress> {
        if batch.len() as u64 > self.left {
            batch.split(self.left as usize);
        }
        self.left -= batch.len() as u64;
        out.forward(batch);
        batch.clear();
        Ok(Progress::Done)
    }
    fn snapshot(&mut self, _barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        into.put(KEPT, &self.left)?;
        Ok(Progress::Done)
    }
    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![EntryTable::<(u64,)>::boxed(KEPT, Layout::Entries, &["left"])]
    }
    fn restore(&mut self, state: &OperatorState, _ctx: &mut Context) -> Result<()> {
        // Of several subtasks the one that may pass the most: the one behind them passes no more than all in all.
        let most = state.entries::<u64>(KEPT).try_fold(None, |most, left| Ok(most.max(Some(left?))));
        let most: Option<u64> = most.map_err(|e: Error| e)?;
        self.left = most.unwrap_or(self.left);
        Ok(())
    }
}

/// The largest records by a key, at most so many.
///
/// Method: candidates are collected up to twice the number, then sorted and cut; so a record costs a constant on average,
/// and what is no candidate a comparison.
#[derive(Clone)]
pub struct Largest<T, K> {
    n: usize,
    kept: Vec<(K, T)>,
    /// The lowest key that is among the largest so far, if there are as many.
    lowest: Option<K>,
}

impl<T, K: Ord + Clone> Largest<T, K> {
    /// None yet.
    pub fn new(n: usize) -> Self {
        Largest { n, kept: Vec::new(), lowest: None }
    }

    /// Takes a record that came after those before.
    #[inline]
    pub fn add(&mut self, key: K, record: T) {
        if self.lowest.as_ref().is_some_and(|lowest| key <= *lowest) || self.n == 0 {
            return;
        }
        self.kept.push((key, record));
        if self.kept.len() >= self.n.saturating_mul(2).max(16) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        // Stable: of equal keys those that came first stay.
        self.kept.sort_by(|a, b| b.0.cmp(&a.0));
        self.kept.truncate(self.n);
        if self.kept.len() == self.n {
            self.lowest = self.kept.last().map(|(key, _)| key.clone());
        }
    }

    /// The records, the largest first; of equal keys those that came first.
    pub fn finish(mut self) -> impl Iterator<Item = T> {
        self.cut();
        self.kept.into_iter().map(|(_, record)| record)
    }
}

/// Emits the largest records at the end.
pub struct TopN<T, K, F> {
    key: F,
    largest: Option<Largest<T, K>>,
    results: Option<std::vec::IntoIter<T>>,
}

impl<T, K: Ord + Clone, F> TopN<T, K, F> {
    /// The operator for so many records, by `key`.
    pub fn new(key: F, n: usize) -> Self {
        TopN { key, largest: Some(Largest::new(n)), results: None }
    }
}

impl<T: Data, K: Ord + Clone + Send + 'static, F: FnMut(&T) -> K + Send + 'static> Operator
    for TopN<T, K, F>
{
    type In = T;
    type Out = T;

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, _out: &mut Out<T>) -> Result<Progress> {
        if let Some(largest) = &mut self.largest {
            batch.values.drain(..).for_each(|record| largest.add((self.key)(&record), record));
        }
        batch.clear();
        Ok(Progress::Done)
    }
    fn end_of_input(&mut self, _ctx: &mut Context, out: &mut Out<T>) -> Result<Progress> {
        if let Some(largest) = self.largest.take() {
            self.results = Some(largest.finish().collect::<Vec<T>>().into_iter());
        }
        Ok(super::group::draw(&mut self.results, out))
    }
    fn emits_at_end(&self) -> bool {
        true
    }
    fn snapshot(&mut self, _barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        let kept = self.largest.iter().flat_map(|largest| &largest.kept);
        kept.into_iter().try_for_each(|(_, record)| into.put(KEPT, record))?;
        Ok(Progress::Done)
    }
    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![EntryTable::<(T,)>::boxed(KEPT, Layout::Entries, &["record"])]
    }
    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        for record in super::share::<T>(state, KEPT, ctx) {
            let record = record?;
            if let Some(largest) = &mut self.largest {
                largest.add((self.key)(&record), record);
            }
        }
        Ok(())
    }
}

/// The largest records of a key as a fold: partial results are cut to as many before a shuffle.
#[derive(Clone)]
pub struct TopOfKey<F> {
    /// How many.
    pub n: usize,
    /// What they are compared by.
    pub by: F,
}

impl<F> TopOfKey<F> {
    fn cut<T, K: Ord>(&mut self, acc: &mut Vec<T>)
    where
        F: FnMut(&T) -> K,
    {
        let by = &mut self.by;
        acc.sort_by_cached_key(|record| Descending(by(record)));
        acc.truncate(self.n);
    }
}

struct Descending<K>(K);

impl<K: Ord> PartialEq for Descending<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K: Ord> Eq for Descending<K> {}
impl<K: Ord> PartialOrd for Descending<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K: Ord> Ord for Descending<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.cmp(&self.0)
    }
}

impl<G, T: Data, K: Ord, F: FnMut(&T) -> K + Clone + Send + 'static> Fold<G, T> for TopOfKey<F> {
    type Acc = Vec<T>;
    type Out = Vec<T>;
    const ORDERED: bool = false;

    fn create(&mut self, record: T) -> Vec<T> {
        vec![record]
    }
    fn add(&mut self, acc: &mut Vec<T>, record: T) {
        acc.push(record);
        if acc.len() >= self.n.saturating_mul(2).max(16) {
            self.cut(acc);
        }
    }
    fn merge(&mut self, acc: &mut Vec<T>, mut later: Vec<T>) {
        acc.append(&mut later);
        if acc.len() >= self.n.saturating_mul(2).max(16) {
            self.cut(acc);
        }
    }
    fn result(&mut self, _key: &G, acc: &Vec<T>) -> Vec<T> {
        let mut result = acc.clone();
        self.cut(&mut result);
        result
    }
    fn finish(&mut self, _key: G, mut acc: Vec<T>) -> Vec<T> {
        self.cut(&mut acc);
        acc
    }
}

//! Fold: how records of a key become one result; the functions behind `reduce`, `aggregate`, `sum`, `min`, ...

use crate::base::data::{Data, Key, Timestamp};
use crate::semantics::aggregate::Aggregator;
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::ops::AddAssign;

/// A fold over the records of a key.
pub trait Fold<K, T>: Clone + Send + 'static {
    /// What is kept for a key.
    type Acc: Data;
    /// What comes out.
    type Out: Data;
    /// Whether the result may depend on the order of the records; then nothing is folded out of time order.
    const ORDERED: bool;

    /// Starts with a first record.
    fn create(&mut self, record: T) -> Self::Acc;
    /// Folds in one more record.
    fn add(&mut self, acc: &mut Self::Acc, record: T);
    /// Folds in what was made from later records.
    fn merge(&mut self, acc: &mut Self::Acc, later: Self::Acc);
    /// The result so far.
    fn result(&mut self, key: &K, acc: &Self::Acc) -> Self::Out;
    /// The timestamp of the result, given the highest of the records: that, unless the key says more.
    fn timestamp(&self, _key: &K, highest: Option<Timestamp>) -> Option<Timestamp> {
        highest
    }
    /// The result, when nothing will be folded in any more.
    fn finish(&mut self, key: K, acc: Self::Acc) -> Self::Out {
        self.result(&key, &acc)
    }
}

/// An [`Aggregator`] as a fold whose result comes with its key.
#[derive(Clone)]
pub struct Aggregate<A>(pub A);

impl<K: Key, T: Data, A: Aggregator<T>> Fold<K, T> for Aggregate<A> {
    type Acc = A::Acc;
    type Out = (K, A::Out);
    const ORDERED: bool = false;

    #[inline(always)]
    fn create(&mut self, record: T) -> A::Acc {
        let mut acc = self.0.create();
        self.0.add(&mut acc, record);
        acc
    }
    #[inline(always)]
    fn add(&mut self, acc: &mut A::Acc, record: T) {
        self.0.add(acc, record);
    }
    #[inline(always)]
    fn merge(&mut self, acc: &mut A::Acc, later: A::Acc) {
        self.0.merge(acc, later);
    }
    #[inline(always)]
    fn result(&mut self, key: &K, acc: &A::Acc) -> (K, A::Out) {
        (key.clone(), self.0.result(acc))
    }
    #[inline(always)]
    fn finish(&mut self, key: K, acc: A::Acc) -> (K, A::Out) {
        let result = self.0.result(&acc);
        (key, result)
    }
}

/// A closure that folds a record into the one accumulated so far.
pub struct Reduce<T, F> {
    f: F,
    types: PhantomData<fn(T)>,
}

impl<T, F> Reduce<T, F> {
    /// The fold around `f`.
    pub fn new(f: F) -> Self {
        Reduce { f, types: PhantomData }
    }
}

impl<T, F: Clone> Clone for Reduce<T, F> {
    fn clone(&self) -> Self {
        Reduce::new(self.f.clone())
    }
}

impl<K: Key, T: Data, F: FnMut(&mut T, T) + Clone + Send + 'static> Fold<K, T> for Reduce<T, F> {
    type Acc = T;
    type Out = T;
    const ORDERED: bool = true;

    #[inline(always)]
    fn create(&mut self, record: T) -> T {
        record
    }
    #[inline(always)]
    fn add(&mut self, acc: &mut T, record: T) {
        (self.f)(acc, record);
    }
    #[inline(always)]
    fn merge(&mut self, acc: &mut T, later: T) {
        (self.f)(acc, later);
    }
    #[inline(always)]
    fn result(&mut self, _key: &K, acc: &T) -> T {
        acc.clone()
    }
    #[inline(always)]
    fn finish(&mut self, _key: K, acc: T) -> T {
        acc
    }
}

/// Sums one field, for [`Reduce`]; the other fields are those of the first record.
pub fn sum_field<T, N: AddAssign + Clone>(
    mut field: impl FnMut(&mut T) -> &mut N + Clone + Send + 'static,
) -> impl FnMut(&mut T, T) + Clone + Send + 'static {
    move |acc, mut record| {
        let more = field(&mut record).clone();
        *field(acc) += more;
    }
}

/// Keeps the extreme of one field, for [`Reduce`]; the other fields are those of the first record. A value is kept if it
/// is `wanted` (`Less`: smaller) than the one before.
pub fn extreme_field<T, N: PartialOrd + Clone>(
    wanted: Ordering,
    mut field: impl FnMut(&mut T) -> &mut N + Clone + Send + 'static,
) -> impl FnMut(&mut T, T) + Clone + Send + 'static {
    move |acc, mut record| {
        let (old, new) = (field(acc), field(&mut record));
        if new.partial_cmp(&old) == Some(wanted) {
            *old = new.clone();
        }
    }
}

/// Keeps the whole record with the extreme of one field, the first of several, for [`Reduce`].
pub fn extreme_record<T, N: PartialOrd>(
    wanted: Ordering,
    mut field: impl FnMut(&mut T) -> &mut N + Clone + Send + 'static,
) -> impl FnMut(&mut T, T) + Clone + Send + 'static {
    move |acc, mut record| {
        if field(&mut record).partial_cmp(&field(acc)) == Some(wanted) {
            *acc = record;
        }
    }
}

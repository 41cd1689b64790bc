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

/// Sums one field; the other fields are those of the first record.
pub struct SumField<T, N, F> {
    field: F,
    types: PhantomData<fn(T) -> N>,
}

impl<T, N, F> SumField<T, N, F> {
    /// The fold over the field that `field` points to.
    pub fn new(field: F) -> Self {
        SumField { field, types: PhantomData }
    }
}

impl<T, N, F: Clone> Clone for SumField<T, N, F> {
    fn clone(&self) -> Self {
        SumField::new(self.field.clone())
    }
}

impl<K, T, N, F> Fold<K, T> for SumField<T, N, F>
where
    K: Key,
    T: Data,
    N: AddAssign + Clone + 'static,
    F: FnMut(&mut T) -> &mut N + Clone + Send + 'static,
{
    type Acc = T;
    type Out = T;
    const ORDERED: bool = true;

    #[inline(always)]
    fn create(&mut self, record: T) -> T {
        record
    }
    #[inline(always)]
    fn add(&mut self, acc: &mut T, mut record: T) {
        let more = (self.field)(&mut record).clone();
        *(self.field)(acc) += more;
    }
    #[inline(always)]
    fn merge(&mut self, acc: &mut T, later: T) {
        Fold::<K, T>::add(self, acc, later);
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

/// Keeps the extreme of one field (`WHOLE` false: the other fields are those of the first record), or the whole
/// record that has it (`WHOLE` true: the first of several).
pub struct ExtremeField<T, N, F, const WHOLE: bool> {
    field: F,
    wanted: Ordering,
    types: PhantomData<fn(T) -> N>,
}

impl<T, N, F, const WHOLE: bool> ExtremeField<T, N, F, WHOLE> {
    /// The record or field that is `wanted` (`Less`: the smallest) than all others.
    pub fn new(field: F, wanted: Ordering) -> Self {
        ExtremeField { field, wanted, types: PhantomData }
    }
}

impl<T, N, F: Clone, const WHOLE: bool> Clone for ExtremeField<T, N, F, WHOLE> {
    fn clone(&self) -> Self {
        ExtremeField::new(self.field.clone(), self.wanted)
    }
}

impl<K, T, N, F, const WHOLE: bool> Fold<K, T> for ExtremeField<T, N, F, WHOLE>
where
    K: Key,
    T: Data,
    N: PartialOrd + Clone + 'static,
    F: FnMut(&mut T) -> &mut N + Clone + Send + 'static,
{
    type Acc = T;
    type Out = T;
    const ORDERED: bool = true;

    #[inline(always)]
    fn create(&mut self, record: T) -> T {
        record
    }
    #[inline(always)]
    fn add(&mut self, acc: &mut T, mut record: T) {
        let new = (self.field)(&mut record);
        let old = (self.field)(acc);
        if new.partial_cmp(&old) == Some(self.wanted) {
            if WHOLE {
                *acc = record;
            } else {
                *old = new.clone();
            }
        }
    }
    #[inline(always)]
    fn merge(&mut self, acc: &mut T, later: T) {
        Fold::<K, T>::add(self, acc, later);
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

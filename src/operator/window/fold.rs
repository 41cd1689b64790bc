//! WindowFold: how the records of a key and window become one accumulator, whichever operator keeps it.

use crate::base::data::Data;
use crate::operator::aggregate::Aggregator;
use std::marker::PhantomData;

/// A fold over the records of a key and window. `merge` must not depend on which records were added to which
/// accumulator.
pub trait WindowFold<T>: Clone + Send + 'static {
    /// What is kept for a key and window.
    type Acc: Data;
    /// What comes out.
    type Value: Data;

    /// Starts with a first record.
    fn create(&mut self, record: T) -> Self::Acc;
    /// Folds in one more record.
    fn add(&mut self, acc: &mut Self::Acc, record: T);
    /// Folds in another accumulator.
    fn merge(&mut self, acc: &mut Self::Acc, other: Self::Acc);
    /// The result so far.
    fn value(&mut self, acc: &Self::Acc) -> Self::Value;
}

/// An [`Aggregator`] as a fold.
#[derive(Clone)]
pub struct AggregateWindow<A>(pub A);

impl<T: Data, A: Aggregator<T>> WindowFold<T> for AggregateWindow<A> {
    type Acc = A::Acc;
    type Value = A::Out;

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
    fn merge(&mut self, acc: &mut A::Acc, other: A::Acc) {
        self.0.merge(acc, other);
    }
    #[inline(always)]
    fn value(&mut self, acc: &A::Acc) -> A::Out {
        self.0.result(acc)
    }
}

/// A closure that folds a record into the one accumulated so far.
pub struct ReduceWindow<T, F> {
    f: F,
    types: PhantomData<fn(T)>,
}

impl<T, F> ReduceWindow<T, F> {
    /// The fold around `f`.
    pub fn new(f: F) -> Self {
        ReduceWindow { f, types: PhantomData }
    }
}

impl<T, F: Clone> Clone for ReduceWindow<T, F> {
    fn clone(&self) -> Self {
        ReduceWindow::new(self.f.clone())
    }
}

impl<T: Data, F: FnMut(&mut T, T) + Clone + Send + 'static> WindowFold<T> for ReduceWindow<T, F> {
    type Acc = T;
    type Value = T;

    #[inline(always)]
    fn create(&mut self, record: T) -> T {
        record
    }
    #[inline(always)]
    fn add(&mut self, acc: &mut T, record: T) {
        (self.f)(acc, record)
    }
    #[inline(always)]
    fn merge(&mut self, acc: &mut T, other: T) {
        (self.f)(acc, other)
    }
    #[inline(always)]
    fn value(&mut self, acc: &T) -> T {
        acc.clone()
    }
}

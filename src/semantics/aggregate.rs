//! Aggregator: an aggregate function, for streams, windows and state alike.

use crate::base::data::Data;

/// An aggregate function over records, after Flink's `AggregateFunction`. `merge` must not depend on which
/// records were added to which accumulator.
pub trait Aggregator<In>: Clone + Send + 'static {
    /// What is kept for a key.
    type Acc: Data;
    /// What comes out.
    type Out: Data;

    /// An accumulator that no record was added to.
    fn create(&self) -> Self::Acc;
    /// Adds one record.
    fn add(&self, acc: &mut Self::Acc, record: In);
    /// Adds what another accumulator has seen.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc);
    /// The result so far.
    fn result(&self, acc: &Self::Acc) -> Self::Out;
}

/// Counts records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count;

impl<In> Aggregator<In> for Count {
    type Acc = u64;
    type Out = u64;
    fn create(&self) -> u64 {
        0
    }
    #[inline(always)]
    fn add(&self, acc: &mut u64, _record: In) {
        *acc += 1;
    }
    #[inline(always)]
    fn merge(&self, acc: &mut u64, other: u64) {
        *acc += other;
    }
    #[inline(always)]
    fn result(&self, acc: &u64) -> u64 {
        *acc
    }
}

//! Folds over the records of a key, as four operators that the planner chooses from.
//!
//! - [`Rolling`]: an updated result for each record (STREAMING).
//! - [`FoldAtEnd`]: the final result of each key, when the input ends (STREAMING).
//! - [`Combine`]: partial results by key, as many as memory allows, before a shuffle (BATCH).
//! - [`Merge`]: the final result of a key from its partial results, behind the shuffle (BATCH).

mod combine;
mod fold;
mod fold_at_end;
mod heap;
mod merge;
mod rolling;

pub use crate::semantics::aggregate::{Aggregator, Count};
pub use combine::Combine;
pub use fold::{Aggregate, Fold, Reduce, extreme_field, extreme_record, sum_field};
pub use fold_at_end::FoldAtEnd;
pub(crate) use heap::HeapEstimate;
pub use merge::Merge;
pub use rolling::Rolling;

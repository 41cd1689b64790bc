//! Operators over all records of a bounded input: of a subtask, of a key, or of both sides of a join.
//!
//! Each is written once, for input that comes as BATCH reads it: of a key all records before the next key's, or all of a
//! subtask in order. [`AtEnd`] brings input of STREAMING into that form: it keeps it, sorted, within the share of memory
//! of its subtask and on disk, and hands it to the same operator when it ends.
//!
//! What they hand to user code are [`Records`], an iterator that may read from disk. User code hands back an
//! iterator, which is drawn from only while there is room in the output; so neither side need fit into memory.

mod at_end;
mod combine_group;
mod fold_partition;
mod group;
mod hash_join;
mod merge_join;
mod pairs;
mod product;
mod records;
mod sealed;
mod spool;

pub use at_end::{Arrangement, AtEnd};
pub use combine_group::CombineGroup;
pub use fold_partition::{CountAll, FirstN, FoldPartition, Largest, TopN, TopOfKey, Whole};
pub use group::{GroupReduce, MapPartition};
pub use hash_join::{Cross, HashJoin, Meets, Pairs, Probe};
pub use merge_join::{CoGroup, MergeJoin, SemiJoin};
pub use pairs::{FullOuter, Inner, LeftOuter, Pairing, RightOuter};
pub use records::Records;

use super::Context;
use crate::base::data::Data;
use crate::base::error::Result;
use crate::semantics::state::OperatorState;

/// This subtask's share of entries that belong to no key.
fn share<T: Data>(state: &OperatorState, section: &str, ctx: &Context) -> impl Iterator<Item = Result<T>> {
    let part = state.part(section, ctx.runtime.subtask_index(), ctx.runtime.parallelism());
    state.entries(section).skip(part.start).take(part.len())
}

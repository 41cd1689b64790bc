//! Shuffle: serialised rows sorted, kept or spilled by producers, and merged by consumers.
//!
//! Place: between two stages of the staged executor. It knows rows as bytes, files and memory; it knows no
//! operators, plans or threads. A producing unit of work owns one buffer; what it leaves is shared by `Arc`
//! and read by any number of consumers at once.
//! Method:
//!
//! ```text
//! producer   SortBuffer / PartitionBuffer --finish--> ShuffleOutput (runs in memory, runs in one unnamed file)
//! consumer   Merge / Concat over Arc<ShuffleOutput> of all producers, one partition --next--> RowRef
//! ```
//!
//! Keyed rows are in the order (hash, key, timestamp, input, producer, sequence) from the moment a run exists,
//! so a consumer only merges. Partitions are ranges of the hash: sorting by it partitions and groups as well.
//! Invariants: the same rows appended in the same order with the same share of memory give the same bytes.
//! Different keys never interleave, even if their hashes are equal. Every byte that comes back from a file was
//! verified first.
//! Costs and limits: a row holds at most [`ROW_BYTES_MAX`] bytes. Nothing is fsynced: it can be recomputed.

mod arena;
mod concat;
mod context;
mod cursor;
mod merge;
mod merger;
mod output;
mod partition_buffer;
mod partitioning;
mod prefetch;
mod radix;
mod range_cut;
mod row;
mod run;
mod sort_buffer;
mod spill;
mod stored;

pub use concat::Concat;
pub use context::{Identity, KeyOrder, ShuffleContext, key_bytes_order};
pub use merge::{Ahead, Merge, MergeInput};
pub use output::{PartitionStats, ShuffleOutput, ShuffleStats};
pub use partition_buffer::PartitionBuffer;
pub use partitioning::Partitioning;
pub use range_cut::RangeCut;
pub use row::{ROW_BYTES_MAX, RowRef};
pub use sort_buffer::{Remainder, SortBuffer};
pub use stored::StoredOutput;
#[cfg(test)]
mod tests;

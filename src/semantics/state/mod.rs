//! State of keys: declared before use, stored in columns, looked up for a whole batch at once.

mod declare;
mod index;
pub mod paged;
mod prefetch;
mod snapshot;
pub mod table;
mod value;

pub use declare::{AnyColumn, StateDescriptor, States};
pub use paged::Paged;
pub use snapshot::OperatorSnapshot;
pub use table::{KeyTable, Slot, Upsert};
pub use value::{KeyedAccess, ValueState};

/// How the records of a keyed input come, and with them where state lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateScope {
    /// Records of all keys interleave: state of every key is kept in a table.
    AllKeys,
    /// All records of a key come before those of the next: a single slot, cleared at the key's end.
    OneKey,
}

//! State of keys: declared before use, stored in columns, looked up for a whole batch at once.

mod ages;
mod broadcast;
mod cells;
mod changes;
mod column;
mod declare;
mod edits;
mod folded;
mod index;
mod list;
mod map;
mod operator_list;
pub mod paged;
mod prefetch;
mod restored;
mod scope;
mod serializer;
mod snapshot;
mod stored;
pub mod table;
pub mod tables;
mod ttl;
mod value;

pub use broadcast::{BroadcastRead, BroadcastState, BroadcastWrite};
pub use cells::{
    CellSource, KeySections, OfKeys, TakeCells, TimerTable, tables_of_broadcast, tables_of_states,
};
pub use changes::Changes;
pub use column::AnyColumn;
pub use declare::{StateDescriptor, States, TtlStates};
pub use folded::{AggregatingState, ReducingState};
pub use list::ListState;
pub use map::MapState;
pub use operator_list::{OperatorAccess, OperatorListState, Redistribution, tables_of_operator_lists};
pub use paged::Paged;
pub(crate) use prefetch::{prefetch_element, prefetch_reference};
pub use restored::{OperatorState, SlotEntry, SnapshotChain};
pub use scope::{KeyedAccess, KeyedScope, TtlUse};
pub use serializer::{Compatibility, SerializerSnapshot, StateSerializer};
pub use snapshot::{OperatorSnapshot, Section};
pub use stored::{StoredStates, WrittenState, has_edits};
pub use table::{KeyTable, Slot, Upsert};
pub use tables::{ImportedState, StateTable};
pub use ttl::{StateTtl, TtlUpdate, TtlVisibility};
pub use value::ValueState;

/// How the records of a keyed input come, and with them where state lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateScope {
    /// Records of all keys interleave: state of every key is kept in a table.
    AllKeys,
    /// All records of a key come before those of the next: a single slot, cleared at the key's end.
    OneKey,
}

#[cfg(test)]
mod tests;

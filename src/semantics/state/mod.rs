//! Where the values of keys live.

mod index;
pub mod paged;
mod prefetch;
pub mod table;

pub use paged::Paged;
pub use table::{KeyTable, Slot, Upsert};

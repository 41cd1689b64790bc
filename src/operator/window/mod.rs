//! Window operators: three implementations behind one API, between which the planner chooses.
//!
//! - slices, for aligned event-time windows (tumbling, sliding) with an incremental fold and the default trigger;
//! - [`sessions`], for event-time windows that merge, with an incremental fold and the default trigger;
//! - [`general`], the general operator, for everything else.

mod either;
mod fold;
pub mod general;
pub mod join;
pub mod process;
pub mod sessions;
pub mod slices;

pub use either::Either;
pub use fold::{AggregateWindow, ReduceWindow, WindowFold};

use crate::semantics::window::Window;
use serde::{Deserialize, Serialize};

/// What a window has come to: the key, the window and the value. A later result of the same key and window replaces it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Windowed<K, V> {
    /// The key; `()` where windows are over all records.
    pub key: K,
    /// The window.
    pub window: Window,
    /// What its records have come to.
    pub value: V,
}

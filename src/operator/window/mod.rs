//! Window operators: two implementations behind one API, between which the planner chooses.
//!
//! - slices, for aligned event-time windows (tumbling, sliding) with an incremental fold and the default trigger;
//! - the general operator, for everything else.

mod fold;
pub mod slices;

pub use fold::{AggregateWindow, ReduceWindow, WindowFold};

use crate::semantics::window::Window;
use serde::{Deserialize, Serialize};

/// A result of a window: whose, which, and what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Windowed<K, V> {
    /// The key; `()` where all records are windowed together.
    pub key: K,
    /// The window.
    pub window: Window,
    /// The result.
    pub value: V,
}

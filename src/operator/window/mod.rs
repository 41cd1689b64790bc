//! Window operators: two implementations behind one API, between which the planner chooses.
//!
//! - slices, for aligned event-time windows (tumbling, sliding) with an incremental fold and the default trigger;
//! - the general operator, for everything else.

mod fold;

pub use fold::{AggregateWindow, ReduceWindow, WindowFold};

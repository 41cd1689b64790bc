//! Event time: how the watermarks of several inputs become one, and the timers of keys.

mod merge;
mod timers;

pub use merge::{MergeChange, WatermarkMerge};
pub use timers::{Timer, Timers};

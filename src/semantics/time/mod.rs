//! Event time: where timestamps and watermarks come from, how the watermarks of several inputs become one, and the
//! timers that wait for a time.

mod merge;
mod strategy;
mod timers;

pub use merge::{MergeChange, WatermarkMerge};
pub use strategy::{Timing, WatermarkGenerator, WatermarkOutput, WatermarkStrategy};
pub use timers::{Timer, TimerCall, Timers};

//! Event time: where timestamps and watermarks come from, and how the watermarks of several inputs become one.

mod merge;
mod strategy;

pub use merge::{MergeChange, WatermarkMerge};
pub use strategy::{Timing, WatermarkGenerator, WatermarkOutput, WatermarkStrategy};

//! Event time: how the watermarks of several inputs become one.

mod merge;

pub use merge::{MergeChange, WatermarkMerge};

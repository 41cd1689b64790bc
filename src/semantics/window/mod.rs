//! Windows: which windows a record belongs to, when they give results and what is in them then.
//!
//! Place: definitions only. A window operator calls them for the current key: it keeps the records or the
//! accumulator of each window, its trigger state and its timers, and knows the watermark.
//! - [`WindowAssigner`]: the windows of a record ([`Tumbling`], [`Sliding`], [`Sessions`], [`GlobalWindows`]).
//! - [`Trigger`]: when a window fires, and whether its content goes ([`trigger`]).
//! - [`Evictor`]: which records a firing leaves out ([`evictor`]).
//! - [`merging`]: how windows of sessions become one.
//!
//! Invariants: a window starts before it ends; every timestamp from `i64::MIN` to `i64::MAX` is legal, and one
//! whose window does not fit between them is an error of the user's, never a panic or a wrapped number.

pub mod assigner;
pub mod evictor;
pub mod merging;
mod time_window;
pub mod trigger;

pub use assigner::{
    Aligned, AlignedWindows, DynamicGap, FixedGap, GlobalWindows, SessionGap, Sessions, Sliding, TimeDomain,
    Tumbling, WindowAssigner,
};
pub use evictor::{CountEvictor, DeltaEvictor, Evictor, TimeEvictor, Timestamped};
pub use merging::{Merged, merge, merge_by};
pub use time_window::{Window, cleanup_time, is_late};
pub use trigger::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DeltaTrigger,
    EventTimeTrigger, NeverTrigger, ProcessingTimeTrigger, PurgingTrigger, TimeTrigger, TimerRequest,
    Trigger, TriggerContext, TriggerResult,
};

use std::time::Duration;

/// A duration of a plan in whole milliseconds, or what is wrong with it.
pub(crate) fn whole_ms(what: &str, duration: Duration) -> Result<i64, String> {
    if duration.is_zero() {
        return Err(format!("the {what} is 0; it must be at least 1 ms"));
    }
    if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(format!("the {what} of {duration:?} is not a whole number of milliseconds"));
    }
    i64::try_from(duration.as_millis())
        .map_err(|_| format!("the {what} of {duration:?} is longer than the range of timestamps"))
}

/// Milliseconds in the largest of `h`, `s` and `ms` that leaves no fraction.
pub(crate) fn ms_text(ms: i64) -> String {
    match ms {
        0 => "0ms".to_string(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

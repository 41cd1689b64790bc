//! WindowAssigner: the windows of a record.
//!
//! A clock decides: the timestamp of the record, or the time at which it is processed. Mistakes in the arguments are
//! kept until the plan is built, where [`WindowAssigner::check`] names them.

mod aligned;
mod global;
mod sessions;
mod sliding;
#[cfg(test)]
mod tests;
mod tumbling;

pub use aligned::{Aligned, AlignedWindows};
pub use global::GlobalWindows;
pub use sessions::{DynamicGap, FixedGap, SessionGap, Sessions};
pub use sliding::Sliding;
pub use tumbling::Tumbling;

use super::{Trigger, Window};
use crate::base::data::Timestamp;
use crate::base::error::{Error, Result};

/// The clock of a window.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TimeDomain {
    /// The timestamps of records and the watermark.
    Event,
    /// The clock of the machine.
    Processing,
}

/// Decides which windows a record belongs to. Implement it for windows of your own.
pub trait WindowAssigner<T>: Clone + Send + Sync + 'static {
    /// When its windows fire if nothing else was said.
    type Trigger: Trigger<T>;

    /// The trigger of its windows if nothing else was said.
    fn default_trigger(&self) -> Self::Trigger;

    /// Adds the windows of a record to `into`, the latest start first. `timestamp` is that of the record, or for
    /// windows over processing time the current time, or any value if [`time`](Self::time) is `None`.
    ///
    /// # Errors
    /// When a window of this timestamp does not fit into the range of timestamps, and errors of user code.
    fn assign(&self, record: &T, timestamp: Timestamp, into: &mut Vec<Window>) -> Result<()>;

    /// The clock of its windows; `None` if it needs none, so that records may come without timestamps.
    fn time(&self) -> Option<TimeDomain>;

    /// Whether windows of a key that meet become one, as sessions do. The trigger must agree to it.
    fn merges(&self) -> bool {
        false
    }
    /// Whether a record has exactly one window, which starts at its timestamp. Of windows that merge: where records come
    /// in the order of time, one that ends before a record is complete then.
    fn starts_at_record(&self) -> bool {
        false
    }
    /// How its windows lie, if they are the same for all keys and records and only the timestamp decides.
    fn aligned(&self) -> Option<Aligned> {
        None
    }
    /// What is wrong with the arguments, found when the plan is built.
    fn check(&self) -> std::result::Result<(), String> {
        Ok(())
    }
    /// What it does, for explain: `tumbling 10s`.
    fn describe(&self) -> String;
}

/// The error of a timestamp whose window does not fit into the range of timestamps.
#[cold]
fn outside(windows: String, timestamp: Timestamp) -> Error {
    Error::user(format!(
        "a window ({windows}) of timestamp {timestamp} does not fit into the range of timestamps, which are 64-bit \
         milliseconds since 1970; correct or drop such records where timestamps are assigned"
    ))
}

fn domain_text(domain: TimeDomain) -> &'static str {
    match domain {
        TimeDomain::Event => "",
        TimeDomain::Processing => " of processing time",
    }
}

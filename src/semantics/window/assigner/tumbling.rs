//! Tumbling windows: of one size, one after the other, so that a record is in exactly one.

use super::aligned::Arguments;
use super::{Aligned, TimeDomain, WindowAssigner, outside};
use crate::base::data::Timestamp;
use crate::base::error::Result;
use crate::semantics::window::{TimeTrigger, Window};
use std::time::Duration;

/// Windows of one size that follow each other without gap or overlap, aligned to the epoch: windows of an hour start
/// at full hours (UTC) unless there is an offset.
#[derive(Clone, Debug)]
pub struct Tumbling(Arguments);

impl Tumbling {
    /// Windows of this size over event time.
    pub fn of(size: Duration) -> Tumbling {
        Tumbling(Arguments::new(size, size))
    }
    /// Moves all windows forwards by less than their size: windows of an hour with an offset of 15 minutes start at
    /// a quarter past.
    #[must_use]
    pub fn offset(self, offset: Duration) -> Tumbling {
        Tumbling(self.0.offset(offset))
    }
    /// Moves all windows by milliseconds, backwards if negative: days in China (UTC+8) have an offset of -8 h.
    #[must_use]
    pub fn offset_ms(self, offset_ms: i64) -> Tumbling {
        Tumbling(self.0.offset_ms(offset_ms))
    }
    /// Takes the clock of the machine instead of the timestamps of records.
    #[must_use]
    pub fn processing_time(self) -> Tumbling {
        Tumbling(self.0.processing_time())
    }
    fn text(&self) -> String {
        self.0.aligned.describe(true, self.0.domain)
    }
}

impl<T> WindowAssigner<T> for Tumbling {
    type Trigger = TimeTrigger;

    fn default_trigger(&self) -> TimeTrigger {
        self.0.domain.into()
    }
    #[inline]
    fn assign(&self, _: &T, timestamp: Timestamp, into: &mut Vec<Window>) -> Result<()> {
        let aligned = &self.0.aligned;
        let window = aligned
            .last_window_start(timestamp)
            .and_then(|start| Some(Window { start, end: start.checked_add(aligned.size_ms)? }));
        into.push(window.ok_or_else(|| outside(self.text(), timestamp))?);
        Ok(())
    }
    fn time(&self) -> Option<TimeDomain> {
        Some(self.0.domain)
    }
    fn aligned(&self) -> Option<Aligned> {
        Some(self.0.aligned)
    }
    fn check(&self) -> std::result::Result<(), String> {
        self.0.check(true)
    }
    fn describe(&self) -> String {
        self.text()
    }
}

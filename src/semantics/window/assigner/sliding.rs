//! Sliding windows: of one size, a new one with every slide, so that a record is in several or, between windows, in
//! none.

use super::aligned::Arguments;
use super::{Aligned, TimeDomain, WindowAssigner, outside};
use crate::base::data::Timestamp;
use crate::base::error::Result;
use crate::semantics::window::{TimeTrigger, Window};
use std::time::Duration;

/// Windows of one size that start one slide after the other, aligned to the epoch. With a slide longer than the size
/// there are gaps, and what falls into them is in no window.
#[derive(Clone, Debug)]
pub struct Sliding(Arguments);

impl Sliding {
    /// Windows of this size over event time, a new one every `slide`.
    pub fn of(size: Duration, slide: Duration) -> Sliding {
        Sliding(Arguments::new(size, slide))
    }
    /// Moves all windows forwards by less than the slide.
    #[must_use]
    pub fn offset(self, offset: Duration) -> Sliding {
        Sliding(self.0.offset(offset))
    }
    /// Moves all windows by milliseconds, backwards if negative.
    #[must_use]
    pub fn offset_ms(self, offset_ms: i64) -> Sliding {
        Sliding(self.0.offset_ms(offset_ms))
    }
    /// Takes the clock of the machine instead of the timestamps of records.
    #[must_use]
    pub fn processing_time(self) -> Sliding {
        Sliding(self.0.processing_time())
    }
    fn text(&self) -> String {
        self.0.aligned.describe(false, self.0.domain)
    }
}

impl<T> WindowAssigner<T> for Sliding {
    type Trigger = TimeTrigger;

    fn default_trigger(&self) -> TimeTrigger {
        self.0.domain.into()
    }
    #[inline]
    fn assign(&self, _: &T, timestamp: Timestamp, into: &mut Vec<Window>) -> Result<()> {
        let windows = self.0.aligned.windows_of(timestamp);
        into.extend(windows.ok_or_else(|| outside(self.text(), timestamp))?);
        Ok(())
    }
    fn time(&self) -> Option<TimeDomain> {
        Some(self.0.domain)
    }
    fn aligned(&self) -> Option<Aligned> {
        Some(self.0.aligned)
    }
    fn check(&self) -> std::result::Result<(), String> {
        self.0.check(false)
    }
    fn describe(&self) -> String {
        self.text()
    }
}

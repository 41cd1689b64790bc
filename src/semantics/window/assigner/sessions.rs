//! Sessions: windows that last as long as records of a key follow each other within a gap.
//!
//! Method: each record opens a window from its timestamp over the gap, and windows that meet become one
//! ([`merging`](crate::semantics::window::merging)).

use super::{TimeDomain, WindowAssigner, domain_text, outside};
use crate::base::data::Timestamp;
use crate::base::error::{Error, Result};
use crate::semantics::window::{TimeTrigger, Window, ms_text, whole_ms};
use std::time::Duration;

/// How long a session stays open after a record.
pub trait SessionGap<T>: Clone + Send + Sync + 'static {
    /// The gap after this record, in milliseconds, at least 1.
    ///
    /// # Errors
    /// When there is none for this record.
    fn gap_ms(&self, record: &T) -> Result<i64>;
    /// What is wrong with the arguments, found when the plan is built.
    fn check(&self) -> std::result::Result<(), String>;
    /// The gap, for explain.
    fn describe(&self) -> String;
}

/// The same gap after each record.
#[derive(Clone, Debug)]
pub struct FixedGap {
    ms: i64,
    mistake: Option<String>,
}

/// A gap that depends on the record.
#[derive(Clone, Debug)]
pub struct DynamicGap<F>(F);

/// Windows of activity: records of a key that follow each other by no more than a gap are in one window, which ends
/// one gap after the last of them. Windows that touch are one.
#[derive(Clone, Debug)]
pub struct Sessions<G> {
    gap: G,
    domain: TimeDomain,
}

impl Sessions<FixedGap> {
    /// Sessions over event time that end after a gap of this length.
    pub fn with_gap(gap: Duration) -> Sessions<FixedGap> {
        let ms = whole_ms("session gap", gap);
        let gap = FixedGap { ms: ms.as_ref().copied().unwrap_or(0), mistake: ms.err() };
        Sessions { gap, domain: TimeDomain::Event }
    }
}

impl<F> Sessions<DynamicGap<F>> {
    /// Sessions over event time with a gap for each record, in milliseconds rounded down. A gap below 1 ms fails the
    /// job.
    pub fn with_dynamic_gap<T>(gap: F) -> Sessions<DynamicGap<F>>
    where
        F: Fn(&T) -> Duration + Clone + Send + Sync + 'static,
    {
        Sessions { gap: DynamicGap(gap), domain: TimeDomain::Event }
    }
}

impl<G> Sessions<G> {
    /// Takes the clock of the machine instead of the timestamps of records.
    #[must_use]
    pub fn processing_time(self) -> Sessions<G> {
        Sessions { domain: TimeDomain::Processing, ..self }
    }
}

impl<T> SessionGap<T> for FixedGap {
    #[inline(always)]
    fn gap_ms(&self, _: &T) -> Result<i64> {
        Ok(self.ms)
    }
    fn check(&self) -> std::result::Result<(), String> {
        self.mistake.clone().map_or(Ok(()), Err)
    }
    fn describe(&self) -> String {
        format!("gap {}", ms_text(self.ms))
    }
}

impl<T, F> SessionGap<T> for DynamicGap<F>
where
    F: Fn(&T) -> Duration + Clone + Send + Sync + 'static,
{
    #[inline]
    fn gap_ms(&self, record: &T) -> Result<i64> {
        let gap = (self.0)(record);
        match i64::try_from(gap.as_millis()) {
            Ok(ms) if ms > 0 => Ok(ms),
            Ok(_) => Err(Error::user(format!(
                "the function for the gap of a session returned {gap:?}; a gap must be at least 1 ms"
            ))),
            // No window of that length fits anywhere: the assigner says so.
            Err(_) => Ok(i64::MAX),
        }
    }
    fn check(&self) -> std::result::Result<(), String> {
        Ok(())
    }
    fn describe(&self) -> String {
        "a gap for each record".to_string()
    }
}

impl<T, G: SessionGap<T>> WindowAssigner<T> for Sessions<G> {
    type Trigger = TimeTrigger;

    fn default_trigger(&self) -> TimeTrigger {
        self.domain.into()
    }
    #[inline]
    fn assign(&self, record: &T, timestamp: Timestamp, into: &mut Vec<Window>) -> Result<()> {
        let gap = self.gap.gap_ms(record)?;
        let Some(end) = timestamp.checked_add(gap) else {
            return Err(outside(WindowAssigner::<T>::describe(self), timestamp));
        };
        into.push(Window { start: timestamp, end });
        Ok(())
    }
    fn time(&self) -> Option<TimeDomain> {
        Some(self.domain)
    }
    fn merges(&self) -> bool {
        true
    }
    fn starts_at_record(&self) -> bool {
        true
    }
    fn check(&self) -> std::result::Result<(), String> {
        self.gap.check()
    }
    fn describe(&self) -> String {
        format!("sessions with {}{}", self.gap.describe(), domain_text(self.domain))
    }
}

//! Continuous triggers: early results at regular intervals, and one at the end of the window.
//!
//! Method: the state is the next whole multiple of the interval. Over event time its timer is left out where it would
//! lie behind the end of the window, which has a timer of its own; a session that grows registers it later.

use super::{Trigger, TriggerContext, TriggerResult};
use crate::base::data::Timestamp;
use crate::semantics::window::{Window, ms_text, whole_ms};
use std::time::Duration;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Interval {
    ms: i64,
    mistake: Option<String>,
}

impl Interval {
    fn of(interval: Duration) -> Interval {
        let ms = whole_ms("interval of a continuous trigger", interval);
        Interval { ms: ms.as_ref().copied().unwrap_or(1), mistake: ms.err() }
    }
    /// The next whole multiple after `time`, at most the largest timestamp.
    fn after(&self, time: Timestamp) -> Timestamp {
        time.saturating_add(self.ms - time.rem_euclid(self.ms))
    }
    fn check(&self) -> Result<(), String> {
        self.mistake.clone().map_or(Ok(()), Err)
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Fires each time the watermark has passed a whole multiple of an interval, at the end of the window, and with each
/// late record that the window still takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContinuousEventTimeTrigger(Interval);

impl ContinuousEventTimeTrigger {
    /// Fires at whole multiples of this interval.
    pub fn of(interval: Duration) -> ContinuousEventTimeTrigger {
        ContinuousEventTimeTrigger(Interval::of(interval))
    }
    fn register(next: Timestamp, window: &Window, ctx: &mut TriggerContext<'_>) {
        if next < window.max_timestamp() {
            ctx.register_event_time_timer(next);
        }
    }
}

impl<T> Trigger<T> for ContinuousEventTimeTrigger {
    /// The next early firing.
    type State = Option<Timestamp>;

    fn on_element(
        &mut self,
        _: &T,
        timestamp: Timestamp,
        window: &Window,
        next: &mut Option<Timestamp>,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if ctx.has_passed(window.max_timestamp()) {
            return TriggerResult::Fire;
        }
        ctx.register_event_time_timer(window.max_timestamp());
        if next.is_none() {
            let first = self.0.after(timestamp);
            Self::register(first, window, ctx);
            *next = Some(first);
        }
        TriggerResult::Continue
    }
    fn on_event_time(
        &mut self,
        time: Timestamp,
        window: &Window,
        next: &mut Option<Timestamp>,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if time == window.max_timestamp() {
            return TriggerResult::Fire;
        }
        if *next != Some(time) {
            return TriggerResult::Continue;
        }
        let following = self.0.after(time);
        Self::register(following, window, ctx);
        *next = Some(following);
        TriggerResult::Fire
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(
        &mut self,
        window: &Window,
        next: &mut Option<Timestamp>,
        merged: Option<Timestamp>,
        ctx: &mut TriggerContext<'_>,
    ) {
        *next = earlier(*next, merged);
        if !ctx.has_passed(window.max_timestamp()) {
            ctx.register_event_time_timer(window.max_timestamp());
            if let Some(next) = *next {
                Self::register(next, window, ctx);
            }
        }
    }
    fn clear(&mut self, window: &Window, next: &mut Option<Timestamp>, ctx: &mut TriggerContext<'_>) {
        ctx.delete_event_time_timer(window.max_timestamp());
        if let Some(next) = *next {
            ctx.delete_event_time_timer(next);
        }
    }
    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
    fn describe(&self) -> String {
        format!("every {} of event time", ms_text(self.0.ms))
    }
    fn fires_early(&self) -> bool {
        true
    }
}

/// Fires each time the clock has passed a whole multiple of an interval, and when it reaches the end of the window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContinuousProcessingTimeTrigger(Interval);

impl ContinuousProcessingTimeTrigger {
    /// Fires at whole multiples of this interval.
    pub fn of(interval: Duration) -> ContinuousProcessingTimeTrigger {
        ContinuousProcessingTimeTrigger(Interval::of(interval))
    }
    fn register_end(window: &Window, ctx: &mut TriggerContext<'_>) {
        // A window over event time may have ended by the clock already.
        if window.max_timestamp() > ctx.processing_time() {
            ctx.register_processing_time_timer(window.max_timestamp());
        }
    }
}

impl<T> Trigger<T> for ContinuousProcessingTimeTrigger {
    /// The next early firing.
    type State = Option<Timestamp>;

    fn on_element(
        &mut self,
        _: &T,
        _: Timestamp,
        window: &Window,
        next: &mut Option<Timestamp>,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        Self::register_end(window, ctx);
        if next.is_none() {
            let first = self.0.after(ctx.processing_time());
            ctx.register_processing_time_timer(first);
            *next = Some(first);
        }
        TriggerResult::Continue
    }
    fn on_processing_time(
        &mut self,
        time: Timestamp,
        window: &Window,
        next: &mut Option<Timestamp>,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        let is_next = *next == Some(time);
        if is_next {
            let following = self.0.after(time);
            ctx.register_processing_time_timer(following);
            *next = Some(following);
        }
        if is_next || time == window.max_timestamp() { TriggerResult::Fire } else { TriggerResult::Continue }
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(
        &mut self,
        window: &Window,
        next: &mut Option<Timestamp>,
        merged: Option<Timestamp>,
        ctx: &mut TriggerContext<'_>,
    ) {
        *next = earlier(*next, merged);
        Self::register_end(window, ctx);
        if let Some(next) = *next {
            ctx.register_processing_time_timer(next);
        }
    }
    fn clear(&mut self, window: &Window, next: &mut Option<Timestamp>, ctx: &mut TriggerContext<'_>) {
        ctx.delete_processing_time_timer(window.max_timestamp());
        if let Some(next) = *next {
            ctx.delete_processing_time_timer(next);
        }
    }
    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
    fn describe(&self) -> String {
        format!("every {} of processing time", ms_text(self.0.ms))
    }
    fn fires_early(&self) -> bool {
        true
    }
    fn uses_clock(&self) -> bool {
        true
    }
}

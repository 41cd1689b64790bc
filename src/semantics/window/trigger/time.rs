//! The triggers of windows that end: over event time, over processing time; and the one that never fires.

use super::{Trigger, TriggerContext, TriggerResult};
use crate::base::data::Timestamp;
use crate::semantics::window::{TimeDomain, Window};

/// Fires when the watermark has reached the last timestamp of the window, and again with each late record that the
/// window still takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventTimeTrigger;

impl EventTimeTrigger {
    fn element(window: &Window, ctx: &mut TriggerContext<'_>) -> TriggerResult {
        let end = window.max_timestamp();
        if ctx.has_passed(end) {
            return TriggerResult::Fire;
        }
        ctx.register_event_time_timer(end);
        TriggerResult::Continue
    }
    fn merge(window: &Window, ctx: &mut TriggerContext<'_>) {
        // Past its end the record that caused the merge fires the window; a timer would fire it twice.
        if !ctx.has_passed(window.max_timestamp()) {
            ctx.register_event_time_timer(window.max_timestamp());
        }
    }
}

/// Fires when the clock has reached the last timestamp of the window.
///
/// It is made for windows over processing time. On windows over event time it compares their end with the clock,
/// which fires with every record where the timestamps lie in the past.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProcessingTimeTrigger;

impl ProcessingTimeTrigger {
    fn element(window: &Window, ctx: &mut TriggerContext<'_>) -> TriggerResult {
        ctx.register_processing_time_timer(window.max_timestamp());
        TriggerResult::Continue
    }
    fn merge(window: &Window, ctx: &mut TriggerContext<'_>) {
        // As over event time.
        if window.max_timestamp() > ctx.processing_time() {
            ctx.register_processing_time_timer(window.max_timestamp());
        }
    }
}

fn fire_at_end(time: Timestamp, window: &Window) -> TriggerResult {
    if time == window.max_timestamp() { TriggerResult::Fire } else { TriggerResult::Continue }
}

impl<T> Trigger<T> for EventTimeTrigger {
    type State = ();

    #[inline]
    fn on_element(
        &mut self,
        _: &T,
        _: Timestamp,
        window: &Window,
        _: &mut (),
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        Self::element(window, ctx)
    }
    fn on_event_time(
        &mut self,
        time: Timestamp,
        window: &Window,
        _: &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        fire_at_end(time, window)
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&mut self, window: &Window, _: &mut (), _: (), ctx: &mut TriggerContext<'_>) {
        Self::merge(window, ctx);
    }
    fn clear(&mut self, window: &Window, _: &mut (), ctx: &mut TriggerContext<'_>) {
        ctx.delete_event_time_timer(window.max_timestamp());
    }
    fn describe(&self) -> String {
        "at the end of the window".to_string()
    }
    fn fires_early(&self) -> bool {
        false
    }
    fn is_event_time(&self) -> bool {
        true
    }
}

impl<T> Trigger<T> for ProcessingTimeTrigger {
    type State = ();

    #[inline]
    fn on_element(
        &mut self,
        _: &T,
        _: Timestamp,
        window: &Window,
        _: &mut (),
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        Self::element(window, ctx)
    }
    fn on_processing_time(
        &mut self,
        time: Timestamp,
        window: &Window,
        _: &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        fire_at_end(time, window)
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&mut self, window: &Window, _: &mut (), _: (), ctx: &mut TriggerContext<'_>) {
        Self::merge(window, ctx);
    }
    fn clear(&mut self, window: &Window, _: &mut (), ctx: &mut TriggerContext<'_>) {
        ctx.delete_processing_time_timer(window.max_timestamp());
    }
    fn describe(&self) -> String {
        "when the clock is at the end of the window".to_string()
    }
    fn fires_early(&self) -> bool {
        true
    }
    fn uses_clock(&self) -> bool {
        true
    }
}

/// The default trigger of windows that end: at their end, by the clock that they are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeTrigger {
    /// As [`EventTimeTrigger`].
    Event,
    /// As [`ProcessingTimeTrigger`], on windows over processing time, which fire once.
    Processing,
}

impl From<TimeDomain> for TimeTrigger {
    fn from(domain: TimeDomain) -> TimeTrigger {
        match domain {
            TimeDomain::Event => TimeTrigger::Event,
            TimeDomain::Processing => TimeTrigger::Processing,
        }
    }
}

impl<T> Trigger<T> for TimeTrigger {
    type State = ();

    #[inline]
    fn on_element(
        &mut self,
        _: &T,
        _: Timestamp,
        window: &Window,
        _: &mut (),
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        match self {
            TimeTrigger::Event => EventTimeTrigger::element(window, ctx),
            TimeTrigger::Processing => ProcessingTimeTrigger::element(window, ctx),
        }
    }
    fn on_event_time(
        &mut self,
        time: Timestamp,
        window: &Window,
        _: &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        match self {
            TimeTrigger::Event => fire_at_end(time, window),
            TimeTrigger::Processing => TriggerResult::Continue,
        }
    }
    fn on_processing_time(
        &mut self,
        time: Timestamp,
        window: &Window,
        _: &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        match self {
            TimeTrigger::Event => TriggerResult::Continue,
            TimeTrigger::Processing => fire_at_end(time, window),
        }
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&mut self, window: &Window, _: &mut (), _: (), ctx: &mut TriggerContext<'_>) {
        match self {
            TimeTrigger::Event => EventTimeTrigger::merge(window, ctx),
            TimeTrigger::Processing => ProcessingTimeTrigger::merge(window, ctx),
        }
    }
    fn clear(&mut self, window: &Window, _: &mut (), ctx: &mut TriggerContext<'_>) {
        match self {
            TimeTrigger::Event => ctx.delete_event_time_timer(window.max_timestamp()),
            TimeTrigger::Processing => ctx.delete_processing_time_timer(window.max_timestamp()),
        }
    }
    fn describe(&self) -> String {
        "at the end of the window".to_string()
    }
    fn fires_early(&self) -> bool {
        false
    }
    fn is_event_time(&self) -> bool {
        *self == TimeTrigger::Event
    }
}

/// Never fires: the default of the global window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NeverTrigger;

impl<T> Trigger<T> for NeverTrigger {
    type State = ();

    #[inline]
    fn on_element(
        &mut self,
        _: &T,
        _: Timestamp,
        _: &Window,
        _: &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn describe(&self) -> String {
        "never".to_string()
    }
    fn fires_early(&self) -> bool {
        false
    }
}

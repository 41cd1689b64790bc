//! Trigger: when a window gives a result, and whether its content goes then.
//!
//! Place: called by the window operator with the state of one key and window. It registers timers by requests, which
//! the operator applies for that key and window when the call has returned.
//!
//! What the operator does with a [`TriggerResult`]: *fire* hands the content to the window function and keeps it,
//! *purge* drops the content and nothing else: window, trigger state and timers stay. A trigger replaces the
//! default one altogether: a count trigger on windows of time does not fire at their end.

mod continuous;
mod count;
mod delta;
mod purging;
#[cfg(test)]
mod tests;
mod time;

pub use continuous::{ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger};
pub use count::CountTrigger;
pub use delta::DeltaTrigger;
pub use purging::PurgingTrigger;
pub use time::{EventTimeTrigger, NeverTrigger, ProcessingTimeTrigger, TimeTrigger};

use super::Window;
use crate::base::data::{Data, Timestamp, WATERMARK_MIN};

/// What a window does now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// Give a result and keep the content.
    Fire,
    /// Drop the content without a result.
    Purge,
    /// Give a result, then drop the content.
    FireAndPurge,
}

impl TriggerResult {
    /// Whether there is a result.
    #[inline(always)]
    pub fn is_fire(self) -> bool {
        matches!(self, TriggerResult::Fire | TriggerResult::FireAndPurge)
    }
    /// Whether the content is dropped.
    #[inline(always)]
    pub fn is_purge(self) -> bool {
        matches!(self, TriggerResult::Purge | TriggerResult::FireAndPurge)
    }
}

/// What a trigger asks of the timers of the current key and window. Registering one that is there and deleting one
/// that is not change nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TimerRequest {
    /// Call `on_event_time` once the watermark has reached this time.
    RegisterEvent(Timestamp),
    /// Do not, after all.
    DeleteEvent(Timestamp),
    /// Call `on_processing_time` once the clock has reached this time.
    RegisterProcessing(Timestamp),
    /// Do not, after all.
    DeleteProcessing(Timestamp),
}

/// The clocks, and the timers of the current key and window.
pub struct TriggerContext<'a> {
    watermark: Timestamp,
    processing_time: Timestamp,
    requests: &'a mut Vec<TimerRequest>,
}

impl<'a> TriggerContext<'a> {
    /// For the window operator, which applies the requests in their order.
    #[inline(always)]
    pub fn new(
        watermark: Timestamp,
        processing_time: Timestamp,
        requests: &'a mut Vec<TimerRequest>,
    ) -> TriggerContext<'a> {
        TriggerContext { watermark, processing_time, requests }
    }
    /// The current watermark.
    #[inline(always)]
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }
    /// Whether the watermark has reached a time. The smallest one promises nothing, so it has reached none.
    #[inline(always)]
    pub fn has_passed(&self, time: Timestamp) -> bool {
        time <= self.watermark && self.watermark > WATERMARK_MIN
    }
    /// The clock of the machine, in milliseconds since the epoch.
    #[inline(always)]
    pub fn processing_time(&self) -> Timestamp {
        self.processing_time
    }
    /// Asks for a call of `on_event_time` once the watermark has reached `time`.
    #[inline(always)]
    pub fn register_event_time_timer(&mut self, time: Timestamp) {
        self.requests.push(TimerRequest::RegisterEvent(time));
    }
    /// Takes back [`register_event_time_timer`](Self::register_event_time_timer).
    #[inline(always)]
    pub fn delete_event_time_timer(&mut self, time: Timestamp) {
        self.requests.push(TimerRequest::DeleteEvent(time));
    }
    /// Asks for a call of `on_processing_time` once the clock has reached `time`.
    #[inline(always)]
    pub fn register_processing_time_timer(&mut self, time: Timestamp) {
        self.requests.push(TimerRequest::RegisterProcessing(time));
    }
    /// Takes back [`register_processing_time_timer`](Self::register_processing_time_timer).
    #[inline(always)]
    pub fn delete_processing_time_timer(&mut self, time: Timestamp) {
        self.requests.push(TimerRequest::DeleteProcessing(time));
    }
}

/// Decides when windows fire. Implement it for conditions of your own; what it must remember goes into its state,
/// since `self` serves all keys and windows.
pub trait Trigger<T>: Clone + Send + Sync + 'static {
    /// Kept for each key and window, and dropped with the window.
    type State: Data + Default;

    /// A record has been added to the window.
    fn on_element(
        &mut self,
        record: &T,
        timestamp: Timestamp,
        window: &Window,
        state: &mut Self::State,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult;

    /// An event-time timer of this window is due. Nothing happens unless the trigger says what.
    fn on_event_time(
        &mut self,
        _time: Timestamp,
        _window: &Window,
        _state: &mut Self::State,
        _ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    /// A processing-time timer of this window is due. Nothing happens unless the trigger says what.
    fn on_processing_time(
        &mut self,
        _time: Timestamp,
        _window: &Window,
        _state: &mut Self::State,
        _ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    /// Whether its windows may be merged. One that says no is refused for sessions when the plan is built.
    fn can_merge(&self) -> bool;

    /// An older window has become part of `window`: folds its state into that of `window` and registers the timers
    /// that `window` needs now. Called once for each such window; the timers of the older one have been deleted
    /// by [`clear`](Self::clear). The record that caused it comes afterwards, in `on_element`.
    fn on_merge(
        &mut self,
        _window: &Window,
        _state: &mut Self::State,
        _merged: Self::State,
        _ctx: &mut TriggerContext<'_>,
    ) {
    }

    /// The window goes, for good or into another: deletes its timers. It leaves the state as it is, which is either
    /// dropped next or handed to [`on_merge`](Self::on_merge).
    fn clear(&mut self, _window: &Window, _state: &mut Self::State, _ctx: &mut TriggerContext<'_>) {}

    /// What is wrong with the arguments, found when the plan is built.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
    /// When it fires, for explain: `every 100 records`.
    fn describe(&self) -> String;

    /// Whether a window may fire before its end or more than once, so that the execution modes give different numbers
    /// of results. (Late records that fire a window again are not meant.)
    fn fires_early(&self) -> bool;

    /// Whether the order of records decides when it fires, as counts do.
    fn is_ordered(&self) -> bool {
        false
    }
    /// Whether it goes by the clock of the machine.
    fn uses_clock(&self) -> bool {
        false
    }

    /// Whether it fires once when the watermark reaches the end of the window, and with each late record: the default
    /// over event time. Then the records of a window need not be seen one by one.
    fn is_event_time(&self) -> bool {
        false
    }
}

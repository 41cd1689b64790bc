//! PurgingTrigger: makes each firing of another trigger drop the content.

use super::{Trigger, TriggerContext, TriggerResult};
use crate::base::data::Timestamp;
use crate::semantics::window::Window;

/// Fires when another trigger does, and drops the content of the window each time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PurgingTrigger<G> {
    inner: G,
}

impl<G> PurgingTrigger<G> {
    /// Purges whenever `trigger` fires.
    pub fn of(trigger: G) -> PurgingTrigger<G> {
        PurgingTrigger { inner: trigger }
    }
}

/// Everything else stays as it is, `Purge` too.
#[inline(always)]
fn purging(result: TriggerResult) -> TriggerResult {
    if result.is_fire() { TriggerResult::FireAndPurge } else { result }
}

impl<T, G: Trigger<T>> Trigger<T> for PurgingTrigger<G> {
    type State = G::State;

    #[inline]
    fn on_element(
        &mut self,
        record: &T,
        timestamp: Timestamp,
        window: &Window,
        state: &mut G::State,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        purging(self.inner.on_element(record, timestamp, window, state, ctx))
    }
    fn on_event_time(
        &mut self,
        time: Timestamp,
        window: &Window,
        state: &mut G::State,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        purging(self.inner.on_event_time(time, window, state, ctx))
    }
    fn on_processing_time(
        &mut self,
        time: Timestamp,
        window: &Window,
        state: &mut G::State,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        purging(self.inner.on_processing_time(time, window, state, ctx))
    }
    fn can_merge(&self) -> bool {
        self.inner.can_merge()
    }
    fn on_merge(
        &mut self,
        window: &Window,
        state: &mut G::State,
        merged: G::State,
        ctx: &mut TriggerContext<'_>,
    ) {
        self.inner.on_merge(window, state, merged, ctx);
    }
    fn clear(&mut self, window: &Window, state: &mut G::State, ctx: &mut TriggerContext<'_>) {
        self.inner.clear(window, state, ctx);
    }
    fn check(&self) -> Result<(), String> {
        self.inner.check()
    }
    fn describe(&self) -> String {
        format!("{}, purging", self.inner.describe())
    }
    fn fires_early(&self) -> bool {
        self.inner.fires_early()
    }
    fn is_ordered(&self) -> bool {
        self.inner.is_ordered()
    }
    fn uses_clock(&self) -> bool {
        self.inner.uses_clock()
    }
}

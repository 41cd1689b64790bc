//! What happens to windows when time passes: timers, firings, the end of a window, the end of a key.

use super::alarms::Alarms;
use super::few::Few;
use super::keys::{Kept, Keys, find, lost};
use super::{Contents, Firing, GeneralWindows, not_open};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::Result;
use crate::operator::{Context, Out, Progress};
use crate::semantics::state::Slot;
use crate::semantics::window::{TimeDomain, Trigger, TriggerContext, TriggerResult, WindowAssigner};

/// Timers between two looks ahead.
const PREFETCHED: usize = 8;

impl<K, T, W, G, C> GeneralWindows<K, T, W, G, C>
where
    K: Key,
    T: Data,
    W: WindowAssigner<T>,
    G: Trigger<T>,
    C: Contents<K, T>,
{
    /// Lets the window fire, drops its content if `purge`, drops the window if `end`.
    pub(super) fn fire(
        &mut self,
        slot: Slot,
        at: usize,
        fire: bool,
        purge: bool,
        end: bool,
        out: &mut Out<C::Out>,
    ) -> Result<Progress> {
        if (fire || purge)
            && let Some(content) = self.keys.window(slot, at)?.content.take()
        {
            if fire {
                self.firing = Some(Firing { slot, at, content, purge, end });
                return self.resume(out);
            }
            self.contents.recycle(content);
        }
        if end {
            self.remove(slot, at)?;
        }
        Ok(Progress::Done)
    }

    /// Goes on with the firing under way.
    pub(super) fn resume(&mut self, out: &mut Out<C::Out>) -> Result<Progress> {
        let Some(mut firing) = self.firing.take() else { return Ok(Progress::Done) };
        let Firing { slot, at, purge, end, .. } = firing;
        let kept = self.keys.window(slot, at)?;
        let timestamp = kept.timestamp();
        let context = self.context.as_mut().ok_or_else(not_open)?;
        context.set(kept.window, slot, kept.id);
        let key = self.keys.key(slot)?;
        let progress = self.contents.fire(key, &mut firing.content, timestamp, context, out)?;
        context.clean_up();
        if progress == Progress::Yielded {
            self.firing = Some(firing);
            return Ok(progress);
        }
        if purge || end || self.contents.is_empty(&firing.content) {
            self.contents.recycle(firing.content);
        } else {
            self.keys.window(slot, at)?.content = Some(firing.content);
        }
        if end {
            self.remove(slot, at)?;
        }
        Ok(Progress::Done)
    }

    /// Drops a window with all that belongs to it, and its key if nothing is left of that.
    fn remove(&mut self, slot: Slot, at: usize) -> Result<()> {
        let windows = self.keys.windows(slot).ok_or_else(lost)?;
        let kept = windows.remove(at).ok_or_else(lost)?;
        let is_empty = windows.is_empty();
        self.drop_window(slot, kept)?;
        if is_empty && let Keys::All(table) = &mut self.keys {
            let context = self.context.as_mut().ok_or_else(not_open)?;
            if context.key_scope().states().is_empty(slot) {
                table.remove(slot);
            }
        }
        Ok(())
    }

    fn drop_window(&mut self, slot: Slot, mut kept: Kept<C::Content, G::State>) -> Result<()> {
        let mut time = TriggerContext::new(self.watermark, self.now, &mut self.schedule.requests);
        self.setup.trigger.clear(&kept.window, &mut kept.state, &mut time);
        self.schedule.requests.clear();
        let context = self.context.as_mut().ok_or_else(not_open)?;
        context.set(kept.window, slot, kept.id);
        self.contents.clear(self.keys.key(slot)?, context)?;
        if let Some(content) = kept.content {
            self.contents.recycle(content);
        }
        if let Some(ids) = &mut self.ids {
            context.window_scope().states_mut().clear(kept.id);
            ids.give_back(kept.id);
        }
        Ok(())
    }

    /// Wakes the windows whose time has come.
    pub(super) fn ring(
        &mut self,
        domain: TimeDomain,
        ctx: &Context,
        out: &mut Out<C::Out>,
    ) -> Result<Progress> {
        if self.resume(out)? == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        loop {
            if out.is_full() {
                return Ok(Progress::Yielded);
            }
            let timers = match domain {
                TimeDomain::Event => &mut self.schedule.event,
                TimeDomain::Processing => &mut self.schedule.processing,
            };
            if self.popped.is_multiple_of(PREFETCHED as u32) {
                // Entries first, and what they point to a little later.
                timers
                    .upcoming(3 * PREFETCHED)
                    .skip(2 * PREFETCHED)
                    .for_each(|slot| self.keys.prefetch(slot));
                let near = timers.upcoming(2 * PREFETCHED).skip(PREFETCHED);
                near.for_each(|slot| self.keys.prefetch_windows(slot));
            }
            self.popped = self.popped.wrapping_add(1);
            let timer = timers.pop_due();
            let Some(timer) = timer else { break };
            let slot = timer.slot;
            self.touch(slot)?;
            let Some(windows) = self.keys.windows(slot).map(Few::as_mut_slice) else { continue };
            let Some(at) = find(windows, timer.namespace, self.merges) else { continue };
            let rings = windows.get_mut(at).is_some_and(|kept| kept.alarms.rings(domain, timer.time));
            if rings && self.reached(domain, slot, at, timer.time, out)? == Progress::Yielded {
                return Ok(Progress::Yielded);
            }
        }
        self.settle(ctx);
        Ok(Progress::Done)
    }

    /// The time of a window has come, or it was looked at too early.
    fn reached(
        &mut self,
        domain: TimeDomain,
        slot: Slot,
        at: usize,
        time: Timestamp,
        out: &mut Out<C::Out>,
    ) -> Result<Progress> {
        let kept = self.keys.window(slot, at)?;
        let mut result = TriggerResult::Continue;
        if kept.alarms.take(domain, time) {
            let trigger = &mut self.setup.trigger;
            let mut times = TriggerContext::new(self.watermark, self.now, &mut self.schedule.requests);
            let (window, state) = (&kept.window, &mut kept.state);
            result = match domain {
                TimeDomain::Event => trigger.on_event_time(time, window, state, &mut times),
                TimeDomain::Processing => trigger.on_processing_time(time, window, state, &mut times),
            };
            self.schedule.apply(&mut kept.alarms);
        }
        let was_over = kept.alarms.over;
        let is_over =
            self.schedule.cleanup(domain, kept.window, &kept.alarms).is_some_and(|cleanup| cleanup <= time);
        kept.alarms.over |= is_over;
        let is_last = is_over || self.schedule.next(domain, kept.window, &kept.alarms).is_none();
        let (mut fire, mut purge) = (result.is_fire(), result.is_purge());
        if self.one_key {
            // M13: what would fire several times fires once, at the last of its timers.
            kept.alarms.fires_at_last |= fire;
            if fire && !is_last {
                (fire, purge) = (false, false);
            } else if purge && !fire {
                kept.alarms.fires_at_last = false;
            }
            if is_last {
                fire = std::mem::take(&mut kept.alarms.fires_at_last);
            }
        }
        let end = match domain {
            // At the end timers of the clock come after those of event time, and find the window.
            TimeDomain::Event => is_over && !(self.schedule.draining && waits_for_clock(&kept.alarms)),
            TimeDomain::Processing => is_over || was_over && is_last,
        };
        if !end {
            self.schedule.queue(slot, kept.window, &mut kept.alarms);
        }
        self.fire(slot, at, fire, purge, end, out)
    }

    /// BATCH: all timers of the key, those of event time first, then the key goes.
    pub(super) fn drain_key(&mut self, ctx: &Context, out: &mut Out<C::Out>) -> Result<Progress> {
        if self.resume(out)? == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        loop {
            let domain = match self.drain.under_way {
                Some(domain) => domain,
                None => {
                    self.schedule.draining = true;
                    self.gather(TimeDomain::Event)
                }
            };
            while let Some(&(time, window)) = self.drain.timers.get(self.drain.next) {
                if out.is_full() {
                    return Ok(Progress::Yielded);
                }
                self.drain.next += 1;
                let windows = self.keys.windows(0).ok_or_else(lost)?;
                let Some(at) = find(windows.as_slice(), window, self.merges) else { continue };
                if self.reached(domain, 0, at, time, out)? == Progress::Yielded {
                    return Ok(Progress::Yielded);
                }
            }
            if domain == TimeDomain::Processing {
                break;
            }
            self.gather(TimeDomain::Processing);
        }
        self.drain.under_way = None;
        self.schedule.draining = false;
        // Windows that never end.
        while let Some(kept) = self.keys.windows(0).and_then(|windows| windows.remove(0)) {
            self.drop_window(0, kept)?;
        }
        let context = self.context.as_mut().ok_or_else(not_open)?;
        context.key_scope().states_mut().clear(0);
        if let Keys::One(key, _) = &mut self.keys {
            *key = None;
        }
        self.settle(ctx);
        Ok(Progress::Done)
    }

    /// Lists the timers of the key.
    fn gather(&mut self, domain: TimeDomain) -> TimeDomain {
        let timers = &mut self.drain.timers;
        timers.clear();
        for kept in self.keys.windows(0).map_or(&[][..], |windows| windows.as_slice()) {
            timers.extend(kept.alarms.times(domain).map(|time| (time, kept.window)));
            timers.extend(self.schedule.cleanup(domain, kept.window, &kept.alarms).map(|t| (t, kept.window)));
        }
        timers.sort_unstable();
        timers.dedup();
        self.drain.next = 0;
        self.drain.under_way = Some(domain);
        domain
    }
}

fn waits_for_clock(alarms: &Alarms) -> bool {
    alarms.first(TimeDomain::Processing).is_some()
}

//! What happens to the key of a slot around a call, and when nothing is left of it.

use super::context::{KeyedContext, Keys};
use super::snapshot::put_key;
use crate::base::data::Key;
use crate::base::error::Result;
use crate::semantics::state::Slot;
use crate::semantics::window::TimeDomain;

/// Records, or timers, ahead of the current one whose state is being fetched.
pub(super) const PREFETCH: usize = 16;

/// What became of the key of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Released {
    /// It is gone.
    Gone,
    /// It has state.
    Used,
    /// It has no state, and a timer.
    Held,
}

impl<K: Key> KeyedContext<K> {
    /// State with a time to live goes by the clock as it is now.
    #[inline(always)]
    pub(super) fn set_now(&mut self) {
        if self.scope.states().has_ttl() {
            let now = self.processing_time();
            self.scope.set_now(now);
        }
    }

    /// A call for the key of a slot begins: what it holds is written first if a snapshot still needs it.
    #[inline(always)]
    pub(super) fn enter(&mut self, slot: Slot) -> Result<()> {
        self.scope.set_slot(slot);
        let KeyedContext { scope, keys, changes, under_way, .. } = self;
        changes.touching(slot, |copies| match keys {
            Keys::All(table) => put_key(table, scope.states(), under_way, slot, copies).map(drop),
            Keys::One(_) => Ok(()),
        })
    }

    /// A call for the current key has ended.
    #[inline(always)]
    pub(super) fn leave(&mut self) -> Result<()> {
        if self.scope.take_changed() {
            self.changes.changed(self.scope.slot());
        }
        if self.scope.states().has_ttl() { self.clean_up() } else { Ok(()) }
    }

    /// Forgets the key of a slot if it holds nothing.
    #[inline]
    pub(super) fn release(&mut self, slot: Slot) -> Result<Released> {
        if !self.scope.states().is_empty(slot) {
            return Ok(Released::Used);
        }
        if self.timers.holds(slot) {
            return Ok(Released::Held);
        }
        let KeyedContext { scope, keys, changes, under_way, .. } = self;
        if let Keys::All(table) = keys {
            changes
                .changing(slot, |copies| put_key(table, scope.states(), under_way, slot, copies).map(drop))?;
            table.remove(slot);
        }
        Ok(Released::Gone)
    }

    /// Fetches what calls with these slots will use.
    #[inline(always)]
    pub(super) fn prefetch(&self, slots: &[Slot]) {
        self.scope.states().prefetch(slots);
        if !self.timers.event.is_empty() {
            slots.iter().for_each(|&slot| self.timers.event.prefetch(slot));
        }
    }

    /// Fetches keys and state of timers that fire soon.
    #[inline]
    pub(super) fn prefetch_upcoming(&mut self, domain: TimeDomain) {
        let mut slots = [0; PREFETCH];
        let mut count = 0;
        let upcoming = self.timers.of(domain).upcoming(2 * PREFETCH).skip(PREFETCH);
        for (place, slot) in slots.iter_mut().zip(upcoming) {
            *place = slot;
            count += 1;
        }
        let slots = &slots[..count];
        self.scope.states().prefetch(slots);
        if let Keys::All(table) = &self.keys {
            slots.iter().for_each(|&slot| table.prefetch(slot));
        }
    }
}

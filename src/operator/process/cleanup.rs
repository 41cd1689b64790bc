//! Cleanup: drops state whose time to live is over, a few keys with each call.
//!
//! Method: after a call, what it found expired of its own key goes, and of each state with a time to live the next few slots
//! are looked at, around and around. A key that is left with nothing is forgotten at the end of the batch.

use super::context::{KeyedContext, Keys};
use super::snapshot::put_key;
use crate::base::data::Key;
use crate::base::error::Result;
use crate::semantics::state::{Slot, StateTtl, States, TtlUse};

/// The clean-up of all states with a time to live.
#[derive(Default)]
pub(super) struct Cleanup(Vec<OfColumn>);

/// That of one state.
struct OfColumn {
    column: usize,
    ttl: StateTtl,
    /// The slot to be looked at next.
    next: Slot,
}

impl Cleanup {
    pub(super) fn new(states: &States) -> Cleanup {
        let of_column = |column| Some(OfColumn { column, ttl: states.ttl(column)?, next: 0 });
        Cleanup((0..states.columns()).filter_map(of_column).collect())
    }
}

impl<K: Key> KeyedContext<K> {
    /// Cleans up after a call for the current key.
    #[inline(never)]
    pub(super) fn clean_up(&mut self) -> Result<()> {
        let TtlUse { accessed, expired } = self.scope.take_used();
        let Keys::All(table) = &self.keys else { return Ok(()) };
        let slots = table.slots();
        let mut cleanup = std::mem::take(&mut self.cleanup);
        for OfColumn { column, ttl, next } in &mut cleanup.0 {
            if expired {
                self.purge(*column, self.scope.slot())?;
            }
            for _ in 0..ttl.looked_at(accessed).min(slots as usize) {
                *next = if *next < slots { *next } else { 0 };
                self.purge(*column, *next)?;
                *next += 1;
            }
        }
        self.cleanup = cleanup;
        Ok(())
    }

    /// Drops what has expired at a slot.
    fn purge(&mut self, column: usize, slot: Slot) -> Result<()> {
        let now = self.scope.now();
        if !self.scope.states().has_expired(column, slot, now) {
            return Ok(());
        }
        let KeyedContext { scope, keys, changes, under_way, .. } = self;
        let Keys::All(table) = keys else { return Ok(()) };
        changes.changing(slot, |copies| put_key(table, scope.states(), under_way, slot, copies).map(drop))?;
        scope.states_mut().purge(column, slot, now);
        scope.note_cleared(slot);
        Ok(())
    }
}

//! Scope: which key's state the handles open.
//!
//! Place: contexts of user functions embed a [`KeyedScope`] for each scope they offer (a key; a window of a key), and
//! state handles reach it through [`KeyedAccess`].

use super::declare::States;
use super::table::Slot;
use crate::base::data::Timestamp;
use qcell::QCellOwner;
use std::cell::Cell;

/// What a state handle needs of a context: the scope with the token that opens columns, and the current key's slot.
pub trait KeyedAccess {
    /// The scope.
    fn scope(&self) -> &KeyedScope;
    /// The scope, for writing.
    fn scope_mut(&mut self) -> &mut KeyedScope;

    /// The token and the slot, for reading.
    #[inline(always)]
    fn state(&self) -> (&QCellOwner, Slot) {
        let scope = self.scope();
        (scope.states.owner(), scope.slot)
    }
    /// The token and the slot, for writing.
    #[inline(always)]
    fn state_mut(&mut self) -> (&mut QCellOwner, Slot) {
        let scope = self.scope_mut();
        scope.changed.set(true);
        (scope.states.owner_mut(), scope.slot)
    }
    /// The current key's state may have become empty.
    #[inline]
    fn cleared(&mut self) {
        let scope = self.scope_mut();
        scope.note_cleared(scope.slot);
    }
}

/// What was done with state that has a time to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TtlUse {
    /// It was used.
    pub accessed: bool,
    /// Something of the current key was found that has expired.
    pub expired: bool,
}

/// Declared states, and the slot of the current key.
pub struct KeyedScope {
    states: States,
    slot: Slot,
    /// Slots that may hold no state any more.
    cleared: Vec<Slot>,
    notes_cleared: bool,
    /// What state with a time to live goes by.
    now: Timestamp,
    /// Something may have been written since this was asked.
    changed: Cell<bool>,
    used: Cell<TtlUse>,
    /// Barriers that have come.
    barriers: u64,
}

impl Default for KeyedScope {
    fn default() -> Self {
        KeyedScope::new(States::default())
    }
}

impl KeyedScope {
    /// The scope over `states`, at slot 0.
    pub fn new(states: States) -> Self {
        KeyedScope {
            states,
            slot: 0,
            cleared: Vec::new(),
            notes_cleared: true,
            now: 0,
            changed: Cell::new(false),
            used: Cell::default(),
            barriers: 0,
        }
    }

    /// As [`KeyedScope::new`], for an engine that finds out by itself which slots have become empty.
    pub fn unnoted(states: States) -> Self {
        KeyedScope { notes_cleared: false, ..KeyedScope::new(states) }
    }

    /// The slot of the current key.
    #[inline(always)]
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Makes the key of `slot` the current one.
    #[inline(always)]
    pub fn set_slot(&mut self, slot: Slot) {
        self.slot = slot;
    }

    /// The time that state with a time to live goes by.
    #[inline(always)]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Sets the time that state with a time to live goes by.
    #[inline(always)]
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Number of barriers that have come: what changes from then on is noted.
    #[inline(always)]
    pub fn barriers(&self) -> u64 {
        self.barriers
    }

    /// A barrier has come; its number, from 1.
    pub fn barrier(&mut self) -> u64 {
        self.barriers += 1;
        self.barriers
    }

    /// Moves the slots that may hold no state any more to the end of `into`; one can be there more than once.
    pub fn take_cleared(&mut self, into: &mut Vec<Slot>) {
        into.append(&mut self.cleared);
    }

    /// Whether something may have been written since the last call.
    #[inline(always)]
    pub fn take_changed(&mut self) -> bool {
        self.changed.replace(false)
    }

    /// What was done with state that has a time to live since the last call.
    #[inline(always)]
    pub fn take_used(&mut self) -> TtlUse {
        self.used.take()
    }

    /// The state of another key than the current one may have become empty.
    pub fn note_cleared(&mut self, slot: Slot) {
        if self.notes_cleared {
            self.cleared.push(slot);
        }
    }

    pub(super) fn note_access(&self) {
        self.used.set(TtlUse { accessed: true, ..self.used.get() });
    }

    pub(super) fn note_expired(&self) {
        self.used.set(TtlUse { accessed: true, expired: true });
    }

    pub(super) fn note_change(&self) {
        self.changed.set(true);
    }

    /// What is declared.
    #[inline(always)]
    pub fn states(&self) -> &States {
        &self.states
    }

    /// What is declared, to change.
    #[inline(always)]
    pub fn states_mut(&mut self) -> &mut States {
        &mut self.states
    }
}

impl KeyedAccess for KeyedScope {
    #[inline(always)]
    fn scope(&self) -> &KeyedScope {
        self
    }
    #[inline(always)]
    fn scope_mut(&mut self) -> &mut KeyedScope {
        self
    }
}

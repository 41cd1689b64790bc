//! Scope: which key's state the handles open.
//!
//! Place: contexts of user functions embed a [`KeyedScope`] for each scope they offer (a key; a window of a key), and
//! state handles reach it through [`KeyedAccess`].

use super::declare::States;
use super::table::Slot;
use qcell::QCellOwner;

/// What a state handle needs of a context: the token that opens columns, and the current key's slot.
pub trait KeyedAccess {
    /// The token and the slot, for reading.
    fn state(&self) -> (&QCellOwner, Slot);
    /// The token and the slot, for writing.
    fn state_mut(&mut self) -> (&mut QCellOwner, Slot);
    /// The current key's state may have become empty.
    fn cleared(&mut self);
}

/// Declared states, and the slot of the current key.
#[derive(Default)]
pub struct KeyedScope {
    states: States,
    slot: Slot,
    /// Slots that may hold no state any more.
    cleared: Vec<Slot>,
}

impl KeyedScope {
    /// The scope over `states`, at slot 0.
    pub fn new(states: States) -> Self {
        KeyedScope { states, slot: 0, cleared: Vec::new() }
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

    /// Moves the slots that may hold no state any more to the end of `into`; one can be there more than once.
    pub fn take_cleared(&mut self, into: &mut Vec<Slot>) {
        into.append(&mut self.cleared);
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
    fn state(&self) -> (&QCellOwner, Slot) {
        (self.states.owner(), self.slot)
    }
    #[inline(always)]
    fn state_mut(&mut self) -> (&mut QCellOwner, Slot) {
        (self.states.owner_mut(), self.slot)
    }
    #[inline]
    fn cleared(&mut self) {
        self.cleared.push(self.slot);
    }
}

//! ValueState: one value for each key.

use super::declare::AnyColumn;
use super::paged::Paged;
use super::table::Slot;
use crate::base::data::State;
use qcell::{QCell, QCellOwner};
use std::sync::Arc;

/// The values of all keys, by slot.
pub struct Column<S> {
    cells: Paged<Option<S>>,
}

impl<S> Default for Column<S> {
    fn default() -> Self {
        Column { cells: Paged::default() }
    }
}

impl<S> Column<S> {
    #[inline(always)]
    fn get(&self, slot: Slot) -> Option<&S> {
        self.cells.get(slot as usize)?.as_ref()
    }

    #[inline(always)]
    fn cell(&mut self, slot: Slot) -> &mut Option<S> {
        while self.cells.len() <= slot as usize {
            self.cells.push(None);
        }
        match self.cells.get_mut(slot as usize) {
            Some(cell) => cell,
            None => unreachable!("the column has just grown to this slot"),
        }
    }
}

impl<S: State> AnyColumn for QCell<Column<S>> {
    fn is_empty(&self, owner: &QCellOwner, slot: Slot) -> bool {
        self.ro(owner).get(slot).is_none()
    }
    fn clear(&self, owner: &mut QCellOwner, slot: Slot) {
        if let Some(cell) = self.rw(owner).cells.get_mut(slot as usize) {
            *cell = None;
        }
    }
    fn prefetch(&self, owner: &QCellOwner, slots: &[Slot]) {
        let column = self.ro(owner);
        slots.iter().for_each(|&slot| column.cells.prefetch(slot as usize));
    }
}

/// What a state handle needs of a context: the token that opens columns, and the current key's slot.
pub trait KeyedAccess {
    /// The token and the slot, for reading.
    fn state(&self) -> (&QCellOwner, Slot);
    /// The token and the slot, for writing.
    fn state_mut(&mut self) -> (&mut QCellOwner, Slot);
    /// The current key's state may have become empty.
    fn cleared(&mut self);
}

/// A handle to one value for each key; made by [`States::value`](super::States::value). State per key: the value,
/// and nothing for keys that never write.
pub struct ValueState<S> {
    column: Arc<QCell<Column<S>>>,
}

impl<S: State> ValueState<S> {
    pub(super) fn new(column: Arc<QCell<Column<S>>>) -> Self {
        ValueState { column }
    }

    /// The value of the current key.
    #[inline(always)]
    pub fn get<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> Option<&'a S> {
        let (owner, slot) = ctx.state();
        self.column.ro(owner).get(slot)
    }

    /// Sets the value of the current key.
    #[inline(always)]
    pub fn set<C: KeyedAccess>(&self, ctx: &mut C, value: S) {
        let (owner, slot) = ctx.state_mut();
        *self.column.rw(owner).cell(slot) = Some(value);
    }

    /// The value of the current key to change in place, after setting it to `initial()` if there is none.
    #[inline(always)]
    pub fn get_or_insert_with<'a, C: KeyedAccess>(
        &'a self,
        ctx: &'a mut C,
        initial: impl FnOnce() -> S,
    ) -> &'a mut S {
        let (owner, slot) = ctx.state_mut();
        self.column.rw(owner).cell(slot).get_or_insert_with(initial)
    }

    /// Changes the value of the current key in place, starting from the default if there is none.
    #[inline(always)]
    pub fn update<C: KeyedAccess, R>(&self, ctx: &mut C, change: impl FnOnce(&mut S) -> R) -> R
    where
        S: Default,
    {
        change(self.get_or_insert_with(ctx, S::default))
    }

    /// Takes the value of the current key out.
    pub fn take<C: KeyedAccess>(&self, ctx: &mut C) -> Option<S> {
        let (owner, slot) = ctx.state_mut();
        let value = self.column.rw(owner).cell(slot).take();
        ctx.cleared();
        value
    }

    /// Drops the value of the current key.
    pub fn clear<C: KeyedAccess>(&self, ctx: &mut C) {
        self.take(ctx);
    }
}

//! Column: what all keys keep under one state name, by slot.
//!
//! Place: between the handles of user code, which know the type, and the engine, which knows [`AnyColumn`] only.
//! Method: all kinds of keyed state share one column, with a cell for each slot: a value, a list, a map or an
//! accumulator. A cell without content holds nothing at all.
//! Invariant: a list or a map in a cell is not empty, so that "nothing in any cell" tells that a key holds no state.
//! Costs: one `Option` for each slot up to the highest one written.

use super::paged::Paged;
use super::scope::KeyedAccess;
use super::table::Slot;
use crate::base::codec;
use crate::base::data::State;
use crate::base::error::Result;
use qcell::{QCell, QCellOwner};
use std::sync::Arc;

/// A column of state as the engine sees it.
pub trait AnyColumn: Send + Sync {
    /// Whether nothing is stored at `slot`.
    fn is_empty(&self, owner: &QCellOwner, slot: Slot) -> bool;
    /// Drops what is stored at `slot`.
    fn clear(&self, owner: &mut QCellOwner, slot: Slot);
    /// Fetches cells into the cache.
    fn prefetch(&self, owner: &QCellOwner, slots: &[Slot]);
    /// Appends what is stored at `slot` as bytes; false if nothing is.
    ///
    /// # Errors
    /// If the type cannot be encoded.
    fn encode(&self, owner: &QCellOwner, slot: Slot, into: &mut Vec<u8>) -> Result<bool>;
    /// Stores at `slot` what [`AnyColumn::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not those of the column's type.
    fn decode(&self, owner: &mut QCellOwner, slot: Slot, from: &[u8]) -> Result<()>;
}

/// The cells of all keys, by slot.
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
    fn get_mut(&mut self, slot: Slot) -> Option<&mut S> {
        self.cells.get_mut(slot as usize)?.as_mut()
    }

    #[inline(always)]
    fn take(&mut self, slot: Slot) -> Option<S> {
        self.cells.get_mut(slot as usize)?.take()
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
        self.rw(owner).take(slot);
    }
    fn prefetch(&self, owner: &QCellOwner, slots: &[Slot]) {
        let column = self.ro(owner);
        slots.iter().for_each(|&slot| column.cells.prefetch(slot as usize));
    }
    fn encode(&self, owner: &QCellOwner, slot: Slot, into: &mut Vec<u8>) -> Result<bool> {
        match self.ro(owner).get(slot) {
            Some(stored) => codec::encode(stored, into).map(|()| true),
            None => Ok(false),
        }
    }
    fn decode(&self, owner: &mut QCellOwner, slot: Slot, from: &[u8]) -> Result<()> {
        let stored = codec::decode(from)?;
        *self.rw(owner).cell(slot) = Some(stored);
        Ok(())
    }
}

/// What the handles of all kinds have in common: a column, opened by a context at the current key's cell.
pub(super) struct Handle<S> {
    column: Arc<QCell<Column<S>>>,
}

impl<S: State> Handle<S> {
    pub(super) fn new(owner: &QCellOwner) -> Self {
        Handle { column: Arc::new(QCell::new(owner, Column::default())) }
    }

    pub(super) fn column(&self) -> Arc<dyn AnyColumn> {
        self.column.clone()
    }

    #[inline(always)]
    pub(super) fn get<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> Option<&'a S> {
        let (owner, slot) = ctx.state();
        self.column.ro(owner).get(slot)
    }

    #[inline(always)]
    pub(super) fn get_mut<'a, C: KeyedAccess>(&'a self, ctx: &'a mut C) -> Option<&'a mut S> {
        let (owner, slot) = ctx.state_mut();
        self.column.rw(owner).get_mut(slot)
    }

    /// The current key's cell. Whoever empties it calls [`KeyedAccess::cleared`].
    #[inline(always)]
    pub(super) fn cell<'a, C: KeyedAccess>(&'a self, ctx: &'a mut C) -> &'a mut Option<S> {
        let (owner, slot) = ctx.state_mut();
        self.column.rw(owner).cell(slot)
    }

    /// Empties the current key's cell.
    #[inline(always)]
    pub(super) fn take<C: KeyedAccess>(&self, ctx: &mut C) -> Option<S> {
        let (owner, slot) = ctx.state_mut();
        let stored = self.column.rw(owner).take(slot);
        if stored.is_some() {
            ctx.cleared();
        }
        stored
    }

    /// Changes the content of the current key's cell, which may be empty before (then it is the default) and
    /// after: then the cell holds nothing.
    #[inline(always)]
    pub(super) fn change<C: KeyedAccess, R>(
        &self,
        ctx: &mut C,
        change: impl FnOnce(&mut S) -> R,
        is_empty: impl FnOnce(&S) -> bool,
    ) -> R
    where
        S: Default,
    {
        let stored = self.cell(ctx).get_or_insert_default();
        let result = change(stored);
        if is_empty(stored) {
            self.take(ctx);
        }
        result
    }
}

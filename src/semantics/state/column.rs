//! Column: what all keys keep under one state name, by slot.
//!
//! Place: between the handles of user code, which know the type, and the engine, which knows [`AnyColumn`] only.
//! Method: all kinds of keyed state share one column, with a cell for each slot: a value, a list, a map or an
//! accumulator. A cell without content holds nothing at all. State with a time to live has [`Ages`] beside its cells.
//! Invariant: a list or a map in a cell is not empty, so that "nothing in any cell" tells that a key holds no state.
//! Costs: one `Option` for each slot up to the highest one written.

use super::ages::{Aged, AgedMut, Ages, Whole};
use super::cells::{AgedRow, Shape, cell_rows};
use super::edits::{Edits, Noting};
use super::paged::Paged;
use super::scope::KeyedAccess;
use super::serializer::{Compatibility, SerializerSnapshot, StateSerializer};
use super::stored::WrittenState;
use super::table::Slot;
use super::tables::Part;
use super::ttl::{StateTtl, TtlVisibility};
use crate::base::codec;
use crate::base::data::{State, Timestamp};
use crate::base::error::{Error, Result};
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
    /// Appends what is stored at `slot` as bytes, without what has expired at `live_at`, if that is given; false if there is
    /// nothing.
    ///
    /// # Errors
    /// If the type cannot be encoded.
    fn encode(
        &self,
        owner: &QCellOwner,
        slot: Slot,
        live_at: Option<Timestamp>,
        into: &mut Vec<u8>,
    ) -> Result<bool>;
    /// Appends what has changed at `slot` between the barrier before `cut` and that; false if the whole is needed, or there is
    /// nothing.
    ///
    /// # Errors
    /// If the type cannot be encoded.
    fn encode_edits(&self, owner: &QCellOwner, slot: Slot, cut: u64, into: &mut Vec<u8>) -> Result<bool>;
    /// Changes what is stored at `slot` as [`AnyColumn::encode_edits`] wrote.
    ///
    /// # Errors
    /// If there is nothing, or the bytes are not those of the column's type.
    fn apply_edits(&self, owner: &mut QCellOwner, slot: Slot, from: &[u8]) -> Result<()>;
    /// Stores at `slot` what [`AnyColumn::encode`] wrote, with the serializer that `written` tells of, if it was a user's.
    ///
    /// # Errors
    /// If the bytes are not those of the column's type.
    fn decode(
        &self,
        owner: &mut QCellOwner,
        slot: Slot,
        from: &[u8],
        written: Option<&SerializerSnapshot>,
    ) -> Result<()>;
    /// What a cell holds.
    fn shape(&self) -> Shape;
    /// The parts of the rows that a cell is, in tables of state.
    fn parts(&self) -> Vec<Part>;
    /// Calls `row` with the rows of a cell that [`AnyColumn::encode`] wrote: parts, and the time of last use.
    ///
    /// # Errors
    /// If the bytes are not those of the column's type, or `row` fails.
    fn rows(&self, written: &WrittenState, cell: &[u8], row: &mut AgedRow<'_>) -> Result<()>;
    /// How long what is stored lives.
    fn ttl(&self, owner: &QCellOwner) -> Option<StateTtl>;
    /// Whether something at `slot` has expired.
    fn has_expired(&self, owner: &QCellOwner, slot: Slot, now: Timestamp) -> bool;
    /// Drops what has expired at `slot`.
    fn purge(&self, owner: &mut QCellOwner, slot: Slot, now: Timestamp);
    /// What a snapshot says of the user's serializer.
    fn serializer(&self, owner: &QCellOwner) -> Option<SerializerSnapshot>;
    /// Whether the column reads what another serializer wrote, or, without one, the engine.
    fn compatibility(&self, owner: &QCellOwner, written: Option<&SerializerSnapshot>) -> Compatibility;
    /// The same, for somebody who does not have the token.
    fn judge(&self, owner: &QCellOwner) -> Judge;
}

/// The cells of all keys, by slot.
pub struct Column<S, A: Noting> {
    cells: Paged<Option<S>>,
    /// Only of state with a time to live.
    ages: Paged<A>,
    /// Only of maps, from the first barrier on.
    edits: Paged<A::Edits>,
    ttl: Option<StateTtl>,
    serializer: Option<Arc<dyn StateSerializer<S>>>,
}

impl<S, A: Default + Noting> Column<S, A> {
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
        if let Some(edits) = self.edits.get_mut(slot as usize) {
            *edits = A::Edits::default();
        }
        self.cells.get_mut(slot as usize)?.take()
    }

    /// Drops the ages of what was stored at a slot.
    #[inline(always)]
    fn forget(&mut self, slot: Slot) {
        if self.ttl.is_some()
            && let Some(ages) = self.ages.get_mut(slot as usize)
        {
            *ages = A::default();
        }
    }

    #[inline(always)]
    fn cell(&mut self, slot: Slot) -> &mut Option<S> {
        reach(&mut self.cells, slot)
    }
}

/// The element of a slot, up to which the array grows.
#[inline(always)]
fn reach<T: Default>(elements: &mut Paged<T>, slot: Slot) -> &mut T {
    while elements.len() <= slot as usize {
        elements.push(T::default());
    }
    match elements.get_mut(slot as usize) {
        Some(element) => element,
        None => unreachable!("the array has just grown to this slot"),
    }
}

impl<S: State, A: Ages<S>> AnyColumn for QCell<Column<S, A>> {
    fn is_empty(&self, owner: &QCellOwner, slot: Slot) -> bool {
        self.ro(owner).get(slot).is_none()
    }
    fn clear(&self, owner: &mut QCellOwner, slot: Slot) {
        let column = self.rw(owner);
        column.take(slot);
        column.forget(slot);
    }
    fn prefetch(&self, owner: &QCellOwner, slots: &[Slot]) {
        let column = self.ro(owner);
        slots.iter().for_each(|&slot| column.cells.prefetch(slot as usize));
        if column.ttl.is_some() {
            slots.iter().for_each(|&slot| column.ages.prefetch(slot as usize));
        }
    }
    fn encode(
        &self,
        owner: &QCellOwner,
        slot: Slot,
        live_at: Option<Timestamp>,
        into: &mut Vec<u8>,
    ) -> Result<bool> {
        let column = self.ro(owner);
        let Some(stored) = column.get(slot) else { return Ok(false) };
        let ages = column.ttl.and_then(|ttl| Some((ttl, column.ages.get(slot as usize)?)));
        if let (Some((ttl, ages)), Some(now)) = (ages, live_at)
            && ttl.cleans_snapshots()
            && ages.has_expired(stored, ttl.limit(now))
        {
            return ages.encode_live(stored, ttl.limit(now), into);
        }
        if let Some((_, ages)) = ages {
            codec::encode(ages, into)?;
        }
        match &column.serializer {
            None => codec::encode(stored, into)?,
            Some(serializer) => serializer.serialize(stored, into).map_err(Error::User)?,
        }
        Ok(true)
    }
    fn encode_edits(&self, owner: &QCellOwner, slot: Slot, cut: u64, into: &mut Vec<u8>) -> Result<bool> {
        let column = self.ro(owner);
        match (column.get(slot), column.edits.get(slot as usize)) {
            (Some(stored), Some(edits)) => edits.encode(stored, cut, into),
            _ => Ok(false),
        }
    }
    fn apply_edits(&self, owner: &mut QCellOwner, slot: Slot, from: &[u8]) -> Result<()> {
        match self.rw(owner).get_mut(slot) {
            Some(stored) => A::Edits::apply(stored, from),
            None => Err(Error::Codec("changes of a state come before the state".into())),
        }
    }
    fn decode(
        &self,
        owner: &mut QCellOwner,
        slot: Slot,
        from: &[u8],
        written: Option<&SerializerSnapshot>,
    ) -> Result<()> {
        let column = self.rw(owner);
        let mut from = from;
        if column.ttl.is_some() {
            let (ages, rest) = codec::decode_front(from)?;
            *reach(&mut column.ages, slot) = ages;
            from = rest;
        }
        let stored = match (&column.serializer, written) {
            (Some(serializer), Some(written)) => {
                serializer.deserialize(written, from).map_err(Error::User)?
            }
            _ => codec::decode(from)?,
        };
        *column.cell(slot) = Some(stored);
        Ok(())
    }
    fn shape(&self) -> Shape {
        A::SHAPE
    }
    fn parts(&self) -> Vec<Part> {
        A::parts()
    }
    fn rows(&self, written: &WrittenState, cell: &[u8], row: &mut AgedRow<'_>) -> Result<()> {
        cell_rows::<S, A>(written, cell, row)
    }
    fn ttl(&self, owner: &QCellOwner) -> Option<StateTtl> {
        self.ro(owner).ttl
    }
    fn has_expired(&self, owner: &QCellOwner, slot: Slot, now: Timestamp) -> bool {
        let column = self.ro(owner);
        let (Some(ttl), Some(stored)) = (column.ttl, column.get(slot)) else { return false };
        column.ages.get(slot as usize).is_some_and(|ages| ages.has_expired(stored, ttl.limit(now)))
    }
    fn purge(&self, owner: &mut QCellOwner, slot: Slot, now: Timestamp) {
        let column = self.rw(owner);
        let Some(ttl) = column.ttl else { return };
        let Some(cell) = column.cells.get_mut(slot as usize) else { return };
        if let (Some(stored), Some(ages)) = (cell.as_mut(), column.ages.get_mut(slot as usize))
            && ages.purge(stored, ttl.limit(now))
        {
            *cell = None;
        }
    }
    fn serializer(&self, owner: &QCellOwner) -> Option<SerializerSnapshot> {
        self.ro(owner).serializer.as_ref().map(|serializer| serializer.written())
    }
    fn compatibility(&self, owner: &QCellOwner, written: Option<&SerializerSnapshot>) -> Compatibility {
        compatibility_of(self.ro(owner).serializer.as_deref(), written)
    }
    fn judge(&self, owner: &QCellOwner) -> Judge {
        let own = self.ro(owner).serializer.clone();
        Box::new(move |written| compatibility_of(own.as_deref(), written))
    }
}

/// Tells whether a state can be read that this serializer, if any, wrote.
pub type Judge = Box<dyn Fn(Option<&SerializerSnapshot>) -> Compatibility + Send>;

fn compatibility_of<S: State>(
    own: Option<&dyn StateSerializer<S>>,
    written: Option<&SerializerSnapshot>,
) -> Compatibility {
    match (own, written) {
        (None, None) => Compatibility::AsIs,
        (Some(serializer), Some(written)) => serializer.compatibility(written),
        // It was written before the state had a serializer: the engine reads it, and the serializer writes on.
        (Some(_), None) => Compatibility::Migrate,
        (None, Some(written)) => Compatibility::Incompatible(format!(
            "it was written by the serializer '{}', version {}, and is declared without one",
            written.name, written.version
        )),
    }
}

/// What the handles of all kinds have in common: a column, opened by a context at the current key's cell.
pub(super) struct Handle<S, A: Noting> {
    column: Arc<QCell<Column<S, A>>>,
    ttl: Option<StateTtl>,
}

impl<S: State, A: Ages<S>> Handle<S, A> {
    pub(super) fn new(
        owner: &QCellOwner,
        ttl: Option<StateTtl>,
        serializer: Option<Box<dyn StateSerializer<S>>>,
    ) -> Self {
        let serializer = serializer.map(Arc::from);
        let column = Column { cells: Paged::new(), ages: Paged::new(), edits: Paged::new(), ttl, serializer };
        Handle { column: Arc::new(QCell::new(owner, column)), ttl }
    }

    pub(super) fn column(&self) -> Arc<dyn AnyColumn> {
        self.column.clone()
    }

    /// The current key's content, and its ages where it has any.
    #[inline(always)]
    pub(super) fn aged<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> Option<(&'a S, Option<Aged<'a, A>>)> {
        let (owner, slot) = ctx.state();
        let column = self.column.ro(owner);
        let stored = column.get(slot)?;
        Some((stored, self.ttl.and_then(|ttl| ages_of(column, slot, ttl, ctx))))
    }

    /// The current key's cell, and its ages where it has any. Whoever empties it calls [`KeyedAccess::cleared`].
    #[inline(always)]
    pub(super) fn open<'a, C: KeyedAccess>(
        &'a self,
        ctx: &'a mut C,
    ) -> (&'a mut Option<S>, Option<AgedMut<'a, A>>) {
        let now = ctx.scope().now();
        if self.ttl.is_some() {
            ctx.scope().note_access();
        }
        let (owner, slot) = ctx.state_mut();
        let Column { cells, ages, .. } = self.column.rw(owner);
        let aged = self.ttl.map(|ttl| AgedMut {
            ages: reach(ages, slot),
            now,
            limit: ttl.limit(now),
            shows_expired: ttl.visibility == TtlVisibility::ReturnExpiredIfNotCleanedUp,
        });
        (reach(cells, slot), aged)
    }

    /// The current key's content is about to change: `note` is called with what is known of its changes, the number of
    /// barriers before, and the content. Not before the first barrier, nor where there is a time to live.
    #[inline(always)]
    pub(super) fn editing<C: KeyedAccess>(
        &self,
        ctx: &mut C,
        note: impl FnOnce(&mut A::Edits, u64, Option<&S>),
    ) {
        let barriers = ctx.scope().barriers();
        if barriers > 0 && self.ttl.is_none() {
            self.note_edit(ctx, barriers, note);
        }
    }

    #[inline(never)]
    fn note_edit<C: KeyedAccess>(
        &self,
        ctx: &mut C,
        barriers: u64,
        note: impl FnOnce(&mut A::Edits, u64, Option<&S>),
    ) {
        let (owner, slot) = ctx.state_mut();
        let Column { cells, edits, .. } = self.column.rw(owner);
        let stored = cells.get(slot as usize).and_then(Option::as_ref);
        note(reach(edits, slot), barriers, stored);
    }

    /// The current key's content to change, and its ages; without what has expired, unless that is seen.
    #[inline(always)]
    pub(super) fn open_live<'a, C: KeyedAccess>(
        &'a self,
        ctx: &'a mut C,
    ) -> Option<(&'a mut S, Option<AgedMut<'a, A>>)> {
        if self.ttl.is_some() {
            self.purge(ctx);
            let (cell, aged) = self.open(ctx);
            return Some((cell.as_mut()?, aged));
        }
        let (owner, slot) = ctx.state_mut();
        Some((self.column.rw(owner).get_mut(slot)?, None))
    }

    /// Drops what has expired and is not seen.
    #[cold]
    fn purge<C: KeyedAccess>(&self, ctx: &mut C) {
        let (cell, aged) = self.open(ctx);
        let Some(aged) = aged.filter(|aged| !aged.shows_expired) else { return };
        if let Some(stored) = cell
            && aged.ages.purge(stored, aged.limit)
        {
            *cell = None;
            ctx.cleared();
        }
    }

    /// Empties the current key's cell.
    #[inline(always)]
    pub(super) fn take<C: KeyedAccess>(&self, ctx: &mut C) -> Option<S> {
        if self.ttl.is_some() {
            self.purge(ctx);
        }
        let (owner, slot) = ctx.state_mut();
        let column = self.column.rw(owner);
        let stored = column.take(slot);
        column.forget(slot);
        if stored.is_some() {
            ctx.cleared();
        }
        stored
    }
}

impl<S: State> Handle<S, Whole> {
    /// The current key's value, if it is seen.
    #[inline(always)]
    pub(super) fn read<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> Option<&'a S> {
        let (stored, aged) = self.aged(ctx)?;
        match aged {
            None => Some(stored),
            Some(aged) => aged.read(&aged.ages.0).then_some(stored),
        }
    }

    /// The current key's cell, to be written. Whoever empties it calls [`KeyedAccess::cleared`].
    #[inline(always)]
    pub(super) fn cell<'a, C: KeyedAccess>(&'a self, ctx: &'a mut C) -> &'a mut Option<S> {
        let (cell, aged) = self.open(ctx);
        if let Some(mut aged) = aged {
            aged.write(cell);
        }
        cell
    }
}

#[cold]
fn ages_of<'a, S, A: Noting, C: KeyedAccess>(
    column: &'a Column<S, A>,
    slot: Slot,
    ttl: StateTtl,
    ctx: &'a C,
) -> Option<Aged<'a, A>> {
    Some(Aged::new(column.ages.get(slot as usize)?, ttl, ctx.scope()))
}

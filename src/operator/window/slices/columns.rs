//! Columns: the closed slices of all keys, side by side by slot, from which sliding windows are put together.
//!
//! Method: the two stacks of [`Panes`], for all keys at once: windows end at the same time for all of them.
//!
//! ```text
//!   front: suffixes            middle: slices, folded into `back`     rest: slices no window has reached
//!   | a+b+c | b+c | c |        | d | e |    back = d+e                | f | g |       each a column over all slots
//! ```
//!
//! A window over `b..=e` is `front[b] + back`. Everything is done for some hundred slots at a time: fold into `back` what
//! the window reaches, turn the middle into suffixes if it is time to, emit. So memory is read in order, and the columns of
//! a block of slots stay in the cache.
//! Costs: a place for each slot and slice, whether the key has records in it or not; where most have none
//! ([`Columns::is_sparse`]), [`Panes`] of each key take less.

use super::panes::Panes;
use crate::base::data::{Data, Timestamp};
use crate::operator::window::WindowFold;
use crate::semantics::state::{Paged, Slot};
use std::collections::VecDeque;
use std::ops::Range;

/// Slots that are treated together: their places in 60 slices fit into the second-level cache.
pub(super) const BLOCK_SLOTS: usize = 256;
/// Fewer slots than this cost little, however empty they are.
const SPARSE_SLOTS_MIN: usize = 1 << 12;
/// Of so many places one has to be used.
const SPARSE_RATIO: usize = 8;
/// Emptied columns that are kept.
const SPARE_COLUMNS: usize = 2;

/// A slice: an accumulator for each key that has records in it, by slot.
pub(super) struct Column<A> {
    pub(super) start: Timestamp,
    pub(super) cells: Paged<Option<A>>,
    /// The slots of its keys, in the order in which they came.
    pub(super) touched: Vec<Slot>,
}

impl<A> Column<A> {
    pub(super) const fn new(start: Timestamp) -> Self {
        Column { start, cells: Paged::new(), touched: Vec::new() }
    }

    /// The place of a key's accumulator.
    #[inline(always)]
    pub(super) fn cell(&mut self, slot: Slot) -> &mut Option<A> {
        self.cells.grow(slot as usize + 1, || None);
        match self.cells.get_mut(slot as usize) {
            Some(cell) => cell,
            None => unreachable!("the column has just grown to this slot"),
        }
    }
}

/// The closed slices of all keys.
pub(super) struct Columns<A> {
    front: VecDeque<Column<A>>,
    middle: VecDeque<Column<A>>,
    rest: VecDeque<Column<A>>,
    back: Paged<Option<A>>,
    /// The start of each key's last slice.
    last: Paged<Timestamp>,
    /// The end of the last window that was begun.
    reached: Timestamp,
    /// Where the window after it starts: what is before is dropped with the next one.
    next_start: Timestamp,
    /// The columns in front are no suffixes yet, and `back` holds what is in them.
    flips: bool,
    /// How many of the last columns in the middle are not in `back`.
    fresh: usize,
    spare: Vec<Column<A>>,
}

/// Folds `more` into a place.
#[inline(always)]
fn fold_into<T, F: WindowFold<T>>(fold: &mut F, place: &mut Option<F::Acc>, more: &F::Acc) {
    match place {
        Some(acc) => fold.merge(acc, more.clone()),
        empty => *empty = Some(more.clone()),
    }
}

#[inline(always)]
fn fold_run<T, F: WindowFold<T>>(fold: &mut F, into: &mut [Option<F::Acc>], from: &[Option<F::Acc>]) {
    for (place, more) in into.iter_mut().zip(from) {
        if let Some(more) = more {
            fold_into(fold, place, more);
        }
    }
}

impl<A: Data> Columns<A> {
    pub(super) const fn new() -> Self {
        Columns {
            front: VecDeque::new(),
            middle: VecDeque::new(),
            rest: VecDeque::new(),
            back: Paged::new(),
            last: Paged::new(),
            reached: Timestamp::MIN,
            next_start: Timestamp::MIN,
            flips: false,
            fresh: 0,
            spare: Vec::new(),
        }
    }

    /// A column for a slice, from those that were emptied.
    pub(super) fn column(&mut self, start: Timestamp) -> Column<A> {
        self.spare.pop().map_or_else(|| Column::new(start), |spare| Column { start, ..spare })
    }

    /// Keeps a column for later, or drops it.
    fn recycle(&mut self, mut column: Column<A>) {
        if self.spare.len() < SPARE_COLUMNS {
            column.cells.clear();
            column.touched.clear();
            self.spare.push(column);
        }
    }

    /// Slots up to the highest that a closed slice has.
    pub(super) fn slots(&self) -> usize {
        self.last.len()
    }

    /// The start of the last slice of a key.
    #[inline(always)]
    pub(super) fn last(&self, slot: Slot) -> Option<Timestamp> {
        self.last.get(slot as usize).copied().filter(|&last| last > Timestamp::MIN)
    }

    fn all(&self) -> impl Iterator<Item = &Column<A>> {
        self.front.iter().chain(&self.middle).chain(&self.rest)
    }

    /// The start of the first slice that a window to come needs.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        self.all().map(|column| column.start).find(|&start| start >= self.next_start)
    }

    /// Whether most places are empty.
    pub(super) fn is_sparse(&self) -> bool {
        let used: usize = self.all().map(|column| column.touched.len()).sum();
        let places = self.slots() * self.all().count();
        self.slots() > SPARSE_SLOTS_MIN && used * SPARSE_RATIO < places
    }

    fn keeps(&mut self, slot: Slot, start: Timestamp) {
        self.last.grow(slot as usize + 1, || Timestamp::MIN);
        if let Some(last) = self.last.get_mut(slot as usize) {
            *last = start.max(*last);
        }
    }

    /// Takes a slice that has closed: later than all before it.
    pub(super) fn close(&mut self, column: Column<A>) {
        self.last.grow(column.cells.len(), || Timestamp::MIN);
        let mut at = 0;
        while at < column.cells.len() {
            let cells = column.cells.run(at, BLOCK_SLOTS);
            // Pages of both differ in length.
            let last = self.last.run_mut(at, cells.len());
            for (last, _) in last.iter_mut().zip(cells).filter(|(_, cell)| cell.is_some()) {
                *last = column.start;
            }
            at += last.len().max(1);
        }
        self.rest.push_back(column);
    }

    /// Folds an accumulator into a slice that has closed already.
    pub(super) fn merge<T, F: WindowFold<T, Acc = A>>(
        &mut self,
        fold: &mut F,
        slot: Slot,
        start: Timestamp,
        acc: A,
    ) {
        self.keeps(slot, start);
        if start >= self.reached {
            let column = column_of(&mut self.rest, start);
            return fold_late(fold, column, slot, &acc);
        }
        if self.front.back().is_none_or(|last| last.start < start) {
            fold_late(fold, column_of(&mut self.middle, start), slot, &acc);
            self.back.grow(slot as usize + 1, || None);
            if let Some(back) = self.back.get_mut(slot as usize) {
                fold_into(fold, back, &acc);
            }
            return;
        }
        // Into every suffix that holds the slice. A slice that was not there begins with the suffix behind it.
        let at = self.front.partition_point(|column| column.start < start);
        if self.front.get(at).is_some_and(|column| column.start != start)
            && let Some(behind) = self.front.get(at)
        {
            let cells = behind.cells.clone();
            self.front.insert(at, Column { start, cells, touched: Vec::new() });
        }
        for column in self.front.iter_mut().take(at + 1) {
            fold_late(fold, column, slot, &acc);
        }
    }

    /// Begins the window over the slices from `start` up to `end`, neither of which may be lower than before. Slices before
    /// `start` are dropped.
    pub(super) fn begin(&mut self, start: Timestamp, end: Timestamp) {
        while self.front.front().is_some_and(|column| column.start < start) {
            self.drop_first(|columns| &mut columns.front);
        }
        if self.front.is_empty() && self.middle.front().is_some_and(|column| column.start < start) {
            while self.middle.front().is_some_and(|column| column.start < start) {
                self.drop_first(|columns| &mut columns.middle);
            }
            self.front = std::mem::take(&mut self.middle);
            self.flips = true;
        }
        while self.rest.front().is_some_and(|column| column.start < start) {
            self.drop_first(|columns| &mut columns.rest);
        }
        while self.rest.front().is_some_and(|column| column.start < end) {
            self.middle.extend(self.rest.pop_front());
            self.fresh += 1;
        }
        self.reached = self.reached.max(end);
        self.back.grow(self.slots(), || None);
    }

    fn drop_first(&mut self, of: impl Fn(&mut Self) -> &mut VecDeque<Column<A>>) {
        if let Some(column) = of(self).pop_front() {
            self.recycle(column);
        }
    }

    /// Emits the window that has begun for some slots from `slot` on. Returns the slot behind them.
    pub(super) fn window<T, F: WindowFold<T, Acc = A>>(
        &mut self,
        fold: &mut F,
        slot: Slot,
        mut emit: impl FnMut(&mut F, Slot, A),
    ) -> Slot {
        let at = slot as usize;
        let back = self.back.run_mut(at, BLOCK_SLOTS);
        let len = back.len();
        if self.flips {
            back.fill_with(|| None);
            let front = self.front.make_contiguous();
            for i in (1..front.len()).rev() {
                let (earlier, later) = front.split_at_mut(i);
                let (Some(earlier), Some(later)) = (earlier.last_mut(), later.first()) else { continue };
                let later = later.cells.run(at, len);
                if !later.is_empty() {
                    // The later one may have slots that the earlier one never had.
                    earlier.cells.grow(at + later.len(), || None);
                    fold_run(fold, earlier.cells.run_mut(at, len), later);
                }
            }
        }
        for column in self.middle.iter().skip(self.middle.len() - self.fresh) {
            fold_run(fold, back, column.cells.run(at, len));
        }
        let suffixes = self.front.front().map_or(&[][..], |first| first.cells.run(at, len));
        for (i, back) in back.iter().enumerate() {
            let acc = match (suffixes.get(i), back) {
                (Some(Some(suffix)), Some(back)) => {
                    let mut acc = suffix.clone();
                    fold.merge(&mut acc, back.clone());
                    acc
                }
                (Some(Some(suffix)), None) => suffix.clone(),
                (_, Some(back)) => back.clone(),
                (_, None) => continue,
            };
            emit(fold, slot + i as Slot, acc);
        }
        slot + len.max(1) as Slot
    }

    /// Forgets the keys among `slots` whose slices all start before `next_start`; `gone` gets them.
    pub(super) fn leave(&mut self, slots: Range<Slot>, next_start: Timestamp, gone: &mut Vec<Slot>) {
        let lasts = self.last.run_mut(slots.start as usize, slots.len());
        for (slot, last) in slots.zip(lasts) {
            if *last < next_start && *last > Timestamp::MIN {
                *last = Timestamp::MIN;
                gone.push(slot);
            }
        }
    }

    /// Ends the window, which was emitted for all slots.
    pub(super) fn end(&mut self, next_start: Timestamp) {
        (self.flips, self.fresh) = (false, 0);
        self.next_start = next_start;
    }

    /// The slices of each key, apart.
    pub(super) fn into_panes(self) -> Paged<Panes<A>> {
        let mut panes = Paged::new();
        for slot in 0..self.slots() {
            panes.push(self.panes(slot as Slot));
        }
        panes
    }

    /// A copy of the slices of a key that a window to come needs. While a window is emitted, of a key that it was not
    /// emitted for yet.
    pub(super) fn panes(&self, slot: Slot) -> Panes<A> {
        let of = |columns: &mut dyn Iterator<Item = &Column<A>>| -> Vec<(Timestamp, A)> {
            let needed = columns.filter(|column| column.start >= self.next_start);
            let part = |column: &Column<A>| Some((column.start, column.cells.get(slot as usize)?.clone()?));
            needed.filter_map(part).collect()
        };
        if self.flips || self.middle.front().is_some_and(|column| column.start < self.next_start) {
            // There are no suffixes, or none that is needed, and `back` holds too much: as if no window had reached the slices.
            let front = self.front.iter().filter(|_| self.flips);
            let rest = of(&mut front.chain(&self.middle).chain(&self.rest));
            return Panes::from_parts(Vec::new(), Vec::new(), rest, None);
        }
        let folded = self.middle.len() - self.fresh;
        let front = of(&mut self.front.iter());
        let middle = of(&mut self.middle.iter().take(folded));
        let rest = of(&mut self.middle.iter().skip(folded).chain(&self.rest));
        Panes::from_parts(front, middle, rest, self.back.get(slot as usize).cloned().flatten())
    }
}

/// The column of a slice, made if there is none.
fn column_of<A>(columns: &mut VecDeque<Column<A>>, start: Timestamp) -> &mut Column<A> {
    let at = columns.partition_point(|column| column.start < start);
    if columns.get(at).is_none_or(|column| column.start != start) {
        columns.insert(at, Column::new(start));
    }
    &mut columns[at]
}

fn fold_late<T, F: WindowFold<T>>(fold: &mut F, column: &mut Column<F::Acc>, slot: Slot, acc: &F::Acc) {
    let cell = column.cell(slot);
    let is_new = cell.is_none();
    fold_into(fold, cell, acc);
    if is_new {
        column.touched.push(slot);
    }
}

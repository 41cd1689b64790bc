//! Closed slices: of all keys as [`Columns`], or, where most places of those would be empty, of each key as [`Panes`].

use super::columns::{BLOCK_SLOTS, Column, Columns};
use super::panes::Panes;
use crate::base::data::{Data, Timestamp};
use crate::operator::window::WindowFold;
use crate::semantics::state::{Paged, Slot};
use std::ops::Range;

/// Keys ahead of the current one whose slices are being fetched.
const AHEAD: usize = 16;
/// Keys whose windows are emitted between two looks at the output.
const STEP_KEYS: usize = BLOCK_SLOTS;

/// The closed slices that some window still needs.
pub(super) enum Closed<A> {
    Columns(Columns<A>),
    /// By slot; and a start that is not above that of any slice.
    Keys(Paged<Panes<A>>, Timestamp),
}

/// A window that is being emitted, one key after the other.
#[derive(Clone, Copy)]
pub(super) struct Firing {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    /// The next window starts here: slices before are needed no longer.
    pub(super) next_start: Timestamp,
    /// The next key.
    slot: Slot,
    /// The lowest start of a slice among the keys before it.
    earliest: Timestamp,
}

impl Firing {
    pub(super) const fn new(start: Timestamp, end: Timestamp, next_start: Timestamp) -> Firing {
        Firing { start, end, next_start, slot: 0, earliest: Timestamp::MAX }
    }

    /// The next call of [`Closed::fire`] changes what these keys have, and no others.
    pub(super) fn slots(&self) -> Range<Slot> {
        self.slot..self.slot.saturating_add(STEP_KEYS as Slot)
    }
}

fn panes_of<A: Data>(closed: &mut Paged<Panes<A>>, slot: Slot) -> &mut Panes<A> {
    closed.grow(slot as usize + 1, Panes::empty);
    match closed.get_mut(slot as usize) {
        Some(panes) => panes,
        None => unreachable!("there are panes up to this slot by now"),
    }
}

impl<A: Data> Closed<A> {
    pub(super) const fn new() -> Self {
        Closed::Columns(Columns::new())
    }

    /// Empty columns again, once no slice is left.
    pub(super) fn reset(&mut self) {
        if matches!(self, Closed::Keys(..)) {
            *self = Closed::new();
        }
    }

    /// A column for a slice that opens.
    pub(super) fn column(&mut self, start: Timestamp) -> Column<A> {
        match self {
            Closed::Columns(columns) => columns.column(start),
            Closed::Keys(..) => Column::new(start),
        }
    }

    /// Whether a key has closed slices.
    pub(super) fn holds(&self, slot: Slot) -> bool {
        match self {
            Closed::Columns(columns) => columns.last(slot).is_some(),
            Closed::Keys(panes, _) => panes.get(slot as usize).is_some_and(|panes| panes.first().is_some()),
        }
    }

    /// Not above the start of any slice; none if there is none.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        match self {
            Closed::Columns(columns) => columns.earliest(),
            Closed::Keys(_, earliest) => Some(*earliest).filter(|&earliest| earliest < Timestamp::MAX),
        }
    }

    /// Takes a slice that has closed: later than all before it.
    pub(super) fn close<T, F: WindowFold<T, Acc = A>>(&mut self, fold: &mut F, mut column: Column<A>) {
        match self {
            Closed::Columns(columns) => {
                columns.close(column);
                if columns.is_sparse() {
                    let earliest = columns.earliest().unwrap_or(Timestamp::MAX);
                    let columns = std::mem::replace(columns, Columns::new());
                    *self = Closed::Keys(columns.into_panes(), earliest);
                }
            }
            Closed::Keys(closed, earliest) => {
                *earliest = column.start.min(*earliest);
                let touched = std::mem::take(&mut column.touched);
                if let Some(&highest) = touched.iter().max() {
                    panes_of(closed, highest);
                }
                for (i, &slot) in touched.iter().enumerate() {
                    if let Some(&far) = touched.get(i + 2 * AHEAD) {
                        closed.prefetch(far as usize);
                        column.cells.prefetch(far as usize);
                    }
                    if let Some(near) = touched.get(i + AHEAD).and_then(|&slot| closed.get(slot as usize)) {
                        near.prefetch_last();
                    }
                    if let (Some(acc), Some(panes)) =
                        (column.cell(slot).take(), closed.get_mut(slot as usize))
                    {
                        panes.merge(fold, column.start, acc);
                    }
                }
            }
        }
    }

    /// Folds an accumulator into a slice that has closed already.
    pub(super) fn merge<T, F: WindowFold<T, Acc = A>>(
        &mut self,
        fold: &mut F,
        slot: Slot,
        start: Timestamp,
        acc: A,
    ) {
        match self {
            Closed::Columns(columns) => columns.merge(fold, slot, start, acc),
            Closed::Keys(closed, earliest) => {
                *earliest = start.min(*earliest);
                panes_of(closed, slot).merge(fold, start, acc);
            }
        }
    }

    /// Emits the window for some keys. `gone` gets the slots of those that have no closed slice any more. Says whether
    /// there are more keys.
    pub(super) fn fire<T, F: WindowFold<T, Acc = A>>(
        &mut self,
        fold: &mut F,
        firing: &mut Firing,
        gone: &mut Vec<Slot>,
        mut emit: impl FnMut(&mut F, Slot, A),
    ) -> bool {
        let from = firing.slot;
        match self {
            Closed::Columns(columns) => {
                if from == 0 {
                    columns.begin(firing.start, firing.end);
                }
                firing.slot = columns.window(fold, from, emit);
                columns.leave(from..firing.slot, firing.next_start, gone);
                let more = (firing.slot as usize) < columns.slots();
                if !more {
                    columns.end(firing.next_start);
                }
                more
            }
            Closed::Keys(closed, earliest) => {
                let to = closed.len().min(from as usize + STEP_KEYS);
                for slot in from as usize..to {
                    if let Some(panes) = closed.get(slot + AHEAD) {
                        panes.prefetch();
                    }
                    let Some(panes) = closed.get_mut(slot) else { continue };
                    if panes.first().is_none() {
                        continue;
                    }
                    let acc = panes.window(fold, firing.start, firing.end);
                    panes.drop_before(fold, firing.next_start);
                    match panes.first() {
                        Some(first) => firing.earliest = firing.earliest.min(first),
                        None => gone.push(slot as Slot),
                    }
                    if let Some(acc) = acc {
                        emit(fold, slot as Slot, acc);
                    }
                }
                firing.slot = to as Slot;
                let more = to < closed.len();
                if !more {
                    *earliest = firing.earliest;
                }
                more
            }
        }
    }

    /// The slices of each key, apart, by slot; none for keys without any.
    pub(super) fn panes(&self, slot: Slot) -> Option<Panes<A>> {
        match self {
            Closed::Columns(columns) => Some(columns.panes(slot)),
            Closed::Keys(closed, _) => closed.get(slot as usize).cloned(),
        }
        .filter(|panes| panes.first().is_some())
    }

    /// Takes up the slices of a key.
    pub(super) fn restore(&mut self, slot: Slot, panes: Panes<A>) {
        if let Closed::Columns(columns) = self {
            *self = Closed::Keys(std::mem::replace(columns, Columns::new()).into_panes(), Timestamp::MAX);
        }
        if let Closed::Keys(closed, earliest) = self {
            *earliest = panes.first().map_or(*earliest, |first| first.min(*earliest));
            *panes_of(closed, slot) = panes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::{hash_of, key_group};
    use crate::operator::window::ReduceWindow;
    use std::collections::BTreeMap;

    const SLOTS: usize = 40;

    fn as_keys(closed: &mut Closed<i64>) {
        if let Closed::Columns(columns) = closed {
            let earliest = columns.earliest().unwrap_or(Timestamp::MAX);
            *closed = Closed::Keys(std::mem::replace(columns, Columns::new()).into_panes(), earliest);
        }
    }

    /// X2: columns, slices of each key, and columns that are taken apart in between, give the windows of a model,
    /// whatever comes when; seeds printed.
    #[test]
    fn windows_do_not_depend_on_how_slices_are_kept() {
        for seed in 0..200u64 {
            let mut draws = 0u64;
            let mut below = |limit: usize| {
                draws += 1;
                key_group(hash_of(&(seed, draws)), limit) as i64
            };
            let slices_of_window = 1 + below(7);
            let density = 1 + below(SLOTS);
            let mut fold = ReduceWindow::new(|sum: &mut i64, more: i64| *sum += more);
            let mut closed: Closed<i64> = Closed::new();
            // By slot and slice; a key that has gone has none.
            let mut model: BTreeMap<(Slot, i64), i64> = BTreeMap::new();
            let (mut open, mut fired) = (0, 0);
            for step in 0..150 {
                match below(8) {
                    0 => as_keys(&mut closed),
                    // A slice closes.
                    1..4 => {
                        let mut column = closed.column(open);
                        for _ in 0..density {
                            let (slot, more) = (below(SLOTS) as Slot, 1 + below(1 << 20));
                            match column.cell(slot) {
                                Some(acc) => *acc += more,
                                empty => {
                                    *empty = Some(more);
                                    column.touched.push(slot);
                                }
                            }
                            *model.entry((slot, open)).or_insert(0) += more;
                        }
                        closed.close(&mut fold, column);
                        open += 1 + below(2) * below(3);
                    }
                    // A late record, as far back as some window still holds the slice.
                    4 | 5 if open > 0 => {
                        let start = (fired - slices_of_window + 1 + below(slices_of_window as usize + 2))
                            .min(open - 1);
                        let (slot, more) = (below(SLOTS) as Slot, 1 + below(1 << 20));
                        if start < fired - slices_of_window + 1 {
                            continue;
                        }
                        closed.merge(&mut fold, slot, start, more);
                        *model.entry((slot, start)).or_insert(0) += more;
                    }
                    // The next window that holds a slice fires.
                    _ => {
                        let Some(earliest) = closed.earliest() else { continue };
                        let first = model.keys().map(|key| key.1).min();
                        assert!(first.is_some_and(|first| earliest <= first), "seed {seed}, step {step}");
                        let end = (earliest + 1).max(fired + 1);
                        if end > open {
                            continue;
                        }
                        let start = end - slices_of_window;
                        let mut firing = Firing::new(start, end, start + 1);
                        let (mut gone, mut got) = (Vec::new(), BTreeMap::new());
                        while closed.fire(&mut fold, &mut firing, &mut gone, |_, slot, sum| {
                            got.insert(slot, sum);
                        }) {}
                        let mut expected: BTreeMap<Slot, i64> = BTreeMap::new();
                        for ((slot, slice), sum) in &model {
                            if (start..end).contains(slice) {
                                *expected.entry(*slot).or_insert(0) += sum;
                            }
                        }
                        assert_eq!(got, expected, "seed {seed}, step {step}, slices {start}..{end}");
                        model.retain(|(_, slice), _| *slice > start);
                        fired = end;
                        for slot in gone {
                            assert!(!model.keys().any(|key| key.0 == slot) && !closed.holds(slot));
                        }
                        for (slot, _) in model.keys() {
                            assert!(closed.holds(*slot), "seed {seed}, step {step}, slot {slot}");
                        }
                    }
                }
            }
        }
    }
}

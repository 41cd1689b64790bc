//! SlidingSlices: sliding windows, put together from slices.
//!
//! State: a column of accumulators for each open slice, by the slot of the key; and for each key the closed slices that
//! some window still needs, side by side in [`Panes`]. When the watermark passes the end of a slice, its accumulators move
//! from the one to the other. When it passes the end of a window, the window of every key is put together, in the order in which the keys
//! came. Ends without any slice are skipped, however far the watermark jumps. A key leaves with its last slice.

use super::combine::Partial;
use super::panes::Panes;
use super::tumbling::divert;
use super::{Slicing, no_timestamps};
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key, Timestamp, WATERMARK_MIN};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::base::metrics::Counter;
use crate::operator::exchange::KeySelector;
use crate::operator::side_output::SideOutput;
use crate::operator::window::{WindowFold, Windowed};
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::state::{KeyTable, OperatorSnapshot, OperatorState, Paged, Slot};
use crate::semantics::window::{Aligned, Window};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

/// Keys ahead of the current one whose slices are being fetched.
const AHEAD: usize = 16;

/// Emptied columns that are kept.
const SPARE_COLUMNS: usize = 2;

/// Windows that end at `end` are being emitted.
#[derive(Clone, Copy)]
struct Firing {
    end: Timestamp,
    /// The next key.
    slot: Slot,
    /// The lowest start of a slice among the keys before it.
    earliest: Timestamp,
}

/// An open slice: an accumulator for each key that has records in it.
struct Column<A> {
    window: Window,
    cells: Paged<Option<A>>,
    /// The slots of its keys, in the order in which they came.
    touched: Vec<Slot>,
}

impl<A> Column<A> {
    /// The place of a key's accumulator.
    #[inline(always)]
    fn cell(&mut self, slot: Slot) -> &mut Option<A> {
        while self.cells.len() <= slot as usize {
            self.cells.push(None);
        }
        match self.cells.get_mut(slot as usize) {
            Some(cell) => cell,
            None => unreachable!("the column has just grown to this slot"),
        }
    }
}

/// Folds the records of each key and sliding window. Records of whose windows all have fired are late.
pub struct SlidingSlices<K, T, F: WindowFold<T>> {
    fold: F,
    slicing: Slicing,
    selector: Arc<dyn KeySelector<T, K>>,
    late_to: Option<SideOutput<T>>,
    late: Option<Counter>,
    late_records: Batch<T>,
    table: KeyTable<K, ()>,
    /// Slices that the watermark has not passed, by start.
    open: VecDeque<Column<F::Acc>>,
    spare: Vec<Column<F::Acc>>,
    /// The slices of each key that the watermark has passed, by slot.
    closed: Paged<Panes<F::Acc>>,
    keys: Vec<K>,
    slots: Vec<Slot>,
    created: Vec<Slot>,
    /// Not above the start of any closed slice; the maximum if there is none.
    earliest: Timestamp,
    /// Windows that end at or before this have fired.
    fired: Timestamp,
    firing: Option<Firing>,
}

impl<K: Key, T: Data, F: WindowFold<T>> SlidingSlices<K, T, F> {
    /// The operator around a fold. Late records go to `late_to`, or are counted.
    pub fn new(
        fold: F,
        aligned: Aligned,
        selector: Arc<dyn KeySelector<T, K>>,
        late_to: Option<SideOutput<T>>,
    ) -> Self {
        SlidingSlices {
            fold,
            slicing: Slicing::new(aligned),
            selector,
            late_to,
            late: None,
            late_records: Batch::new(),
            table: KeyTable::new(),
            open: VecDeque::new(),
            spare: Vec::new(),
            closed: Paged::new(),
            keys: Vec::new(),
            slots: Vec::new(),
            created: Vec::new(),
            earliest: Timestamp::MAX,
            fired: WATERMARK_MIN,
            firing: None,
        }
    }

    /// The index of an open slice, opened if it was not.
    fn position(&mut self, slice: Window) -> usize {
        let at = self.open.iter().rposition(|open| open.window.start <= slice.start);
        if let Some(at) = at
            && self.open[at].window == slice
        {
            return at;
        }
        let at = at.map_or(0, |at| at + 1);
        let column = match self.spare.pop() {
            Some(spare) => Column { window: slice, ..spare },
            None => Column { window: slice, cells: Paged::new(), touched: Vec::new() },
        };
        self.open.insert(at, column);
        at
    }

    /// The closed slices of a key.
    fn panes(&mut self, slot: Slot) -> &mut Panes<F::Acc> {
        while self.closed.len() <= slot as usize {
            self.closed.push(Panes::empty());
        }
        match self.closed.get_mut(slot as usize) {
            Some(panes) => panes,
            None => unreachable!("there are panes up to this slot by now"),
        }
    }

    /// Adds an accumulator to a slice that is closed.
    fn add_closed(&mut self, slot: Slot, start: Timestamp, acc: F::Acc) {
        self.panes(slot);
        if let Some(panes) = self.closed.get_mut(slot as usize) {
            panes.merge(&mut self.fold, start, acc);
        }
        self.earliest = self.earliest.min(start);
    }

    /// Adds a record whose slice is not the last one that had a record: says which it is.
    #[inline(never)]
    fn turn_to(&mut self, timestamp: Timestamp, watermark: Timestamp) -> Result<Turn> {
        let slice = self.slicing.slice_of(timestamp)?;
        Ok(if slice.max_timestamp() > watermark {
            Turn::Open(self.position(slice))
        } else if self.slicing.last_end(slice.start).saturating_sub(1) <= watermark {
            Turn::Late(slice)
        } else {
            Turn::Closed(slice)
        })
    }

    /// Moves the slices that the watermark has passed to their keys.
    fn close(&mut self, watermark: Timestamp) {
        while self.open.front().is_some_and(|slice| slice.window.max_timestamp() <= watermark) {
            let Some(mut column) = self.open.pop_front() else { break };
            let start = column.window.start;
            self.earliest = self.earliest.min(start);
            let mut touched = std::mem::take(&mut column.touched);
            if let Some(&highest) = touched.iter().max() {
                self.panes(highest);
            }
            for (i, &slot) in touched.iter().enumerate() {
                if let Some(&far) = touched.get(i + 2 * AHEAD) {
                    self.closed.prefetch(far as usize);
                    column.cells.prefetch(far as usize);
                }
                if let Some(near) = touched.get(i + AHEAD).and_then(|&slot| self.closed.get(slot as usize)) {
                    near.prefetch_last();
                }
                if let (Some(acc), Some(panes)) =
                    (column.cell(slot).take(), self.closed.get_mut(slot as usize))
                {
                    panes.merge(&mut self.fold, start, acc);
                }
            }
            touched.clear();
            column.touched = touched;
            if self.spare.len() < SPARE_COLUMNS {
                self.spare.push(column);
            }
        }
    }

    /// The end of the next window that holds a closed slice.
    fn next_end(&self) -> Option<Timestamp> {
        (self.earliest < Timestamp::MAX).then(|| self.slicing.first_end(self.earliest, self.fired))
    }

    /// Whether an open slice has records of the key.
    fn is_open(&self, slot: Slot) -> bool {
        self.open.iter().any(|column| column.cells.get(slot as usize).is_some_and(Option::is_some))
    }

    /// Emits the windows that end at `firing.end`, one key after the other.
    fn fire(&mut self, mut firing: Firing, out: &mut Out<Windowed<K, F::Value>>) -> Progress {
        let Aligned { size_ms, slide_ms, .. } = self.slicing.aligned;
        let window = Window { start: firing.end.saturating_sub(size_ms), end: firing.end };
        // What the next window no longer holds.
        let next_start = window.start.saturating_add(slide_ms);
        while (firing.slot as usize) < self.closed.len() {
            if out.is_full() {
                self.firing = Some(firing);
                return Progress::Yielded;
            }
            let slot = firing.slot;
            firing.slot += 1;
            if let Some(panes) = self.closed.get(slot as usize + AHEAD) {
                panes.prefetch();
            }
            let Some(panes) = self.closed.get_mut(slot as usize) else { continue };
            if panes.first().is_none() {
                continue;
            }
            let acc = panes.window(&mut self.fold, window.start, window.end);
            panes.drop_before(&mut self.fold, next_start);
            let first = panes.first();
            if let (Some(acc), Some(key)) = (acc, self.table.key(slot)) {
                let value = self.fold.value(&acc);
                out.push(Windowed { key: key.clone(), window, value }, Some(window.max_timestamp()));
            }
            match first {
                Some(first) => firing.earliest = firing.earliest.min(first),
                None if !self.is_open(slot) => {
                    self.table.remove(slot);
                }
                None => {}
            }
        }
        self.table.end_batch();
        self.earliest = firing.earliest;
        self.fired = firing.end;
        self.firing = None;
        Progress::Done
    }
}

/// Where a record goes.
enum Turn {
    /// Into the open slice of this index.
    Open(usize),
    /// Into a slice that is closed, though some of its windows have not fired.
    Closed(Window),
    /// Nowhere: all of its windows have fired.
    Late(Window),
}

impl<K: Key, T: Data, F: WindowFold<T>> Operator for SlidingSlices<K, T, F> {
    type In = T;
    type Out = Windowed<K, F::Value>;

    fn process(
        &mut self,
        batch: &mut Batch<T>,
        ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        if batch.timestamps.len() != batch.len() {
            return Err(no_timestamps());
        }
        self.keys.clear();
        self.selector.keys(&batch.values, &mut self.keys);
        if batch.hashes.len() != batch.len() {
            batch.hashes.clear();
            batch.hashes.extend(self.keys.iter().map(hash_of));
        }
        let mut slots = std::mem::take(&mut self.slots);
        self.table.resolve(&self.keys, &batch.hashes, &mut slots, &mut self.created, || ())?;
        let mut turn = Turn::Late(Window { start: 0, end: 0 });
        let mut slice = Window { start: 0, end: 0 };
        let records = batch.values.drain(..).zip(&batch.timestamps).zip(&slots);
        for (i, ((record, &timestamp), &slot)) in records.enumerate() {
            if let Some(&ahead) = slots.get(i + AHEAD) {
                // Disorder is seldom longer than a slice: it will be in one of the last two.
                let last = self.open.iter().rev().take(2);
                last.for_each(|column| column.cells.prefetch(ahead as usize));
            }
            if !slice.contains(timestamp) {
                turn = self.turn_to(timestamp, ctx.watermark)?;
                slice = match &turn {
                    Turn::Open(at) => self.open[*at].window,
                    Turn::Closed(slice) | Turn::Late(slice) => *slice,
                };
            }
            match turn {
                Turn::Open(at) => {
                    let column = &mut self.open[at];
                    match column.cell(slot) {
                        Some(acc) => self.fold.add(acc, record),
                        cell => {
                            *cell = Some(self.fold.create(record));
                            column.touched.push(slot);
                        }
                    }
                }
                Turn::Closed(slice) => {
                    let acc = self.fold.create(record);
                    self.add_closed(slot, slice.start, acc);
                }
                Turn::Late(_) => {
                    self.late_records.values.push(record);
                    self.late_records.timestamps.push(timestamp);
                }
            }
        }
        self.slots = slots;
        if !self.late_records.is_empty() {
            divert(&mut self.late_records, &self.late_to, &mut self.late, ctx, out);
            // Keys that came with late records only leave no entry.
            for at in 0..self.created.len() {
                let slot = self.created[at];
                let closed = self.closed.get(slot as usize).is_some_and(|panes| panes.first().is_some());
                if !closed && !self.is_open(slot) {
                    self.table.remove(slot);
                }
            }
            self.table.end_batch();
        }
        batch.clear();
        Ok(Progress::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        _ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        if self.firing.is_none() {
            self.close(watermark);
        }
        loop {
            let firing = match self.firing.take() {
                Some(firing) => firing,
                None => match self.next_end().filter(|end| end.saturating_sub(1) <= watermark) {
                    Some(end) => Firing { end, slot: 0, earliest: Timestamp::MAX },
                    None => break,
                },
            };
            if self.fire(firing, out) == Progress::Yielded {
                return Ok(Progress::Yielded);
            }
        }
        // Windows that were empty have fired, too.
        self.fired = self.fired.max(watermark.saturating_add(1));
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        into.put("fired", &self.fired)?;
        for (slot, _, key, ()) in self.table.iter() {
            if let Some(panes) = self.closed.get(slot as usize).filter(|panes| panes.first().is_some()) {
                into.put("keys", &(key, panes))?;
            }
            for column in &self.open {
                if let Some(Some(acc)) = column.cells.get(slot as usize) {
                    into.put("slices", &(column.window.start, key, acc))?;
                }
            }
        }
        Ok(Progress::Done)
    }

    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        for fired in state.entries::<Timestamp>("fired") {
            self.fired = self.fired.max(fired?);
        }
        for entry in state.entries::<(K, Panes<F::Acc>)>("keys") {
            let (key, panes) = entry?;
            if !ctx.runtime.owns(hash_of(&key)) {
                continue;
            }
            self.earliest = self.earliest.min(panes.first().unwrap_or(Timestamp::MAX));
            let slot = self.slot_of(key)?;
            *self.panes(slot) = panes;
        }
        for entry in state.entries::<(Timestamp, K, F::Acc)>("slices") {
            let (start, key, acc) = entry?;
            if !ctx.runtime.owns(hash_of(&key)) {
                continue;
            }
            let slot = self.slot_of(key)?;
            let slice = self.slicing.slice_of(start)?;
            let at = self.position(slice);
            if self.open[at].cell(slot).replace(acc).is_none() {
                self.open[at].touched.push(slot);
            }
        }
        Ok(())
    }
}

impl<K: Key, T: Data, F: WindowFold<T>> SlidingSlices<K, T, F> {
    /// The slot of a key that is restored.
    fn slot_of(&mut self, key: K) -> Result<Slot> {
        let hash = hash_of(&key);
        self.table.resolve(&[key], &[hash], &mut self.slots, &mut self.created, || ())?;
        let slot = self.slots.first().copied();
        slot.ok_or_else(|| Error::Internal("a restored key has no place".into()))
    }
}

/// BATCH, behind the shuffle: puts the sliding windows of a key together from its partial results, which come slice by
/// slice. State: the slices of the current key.
pub struct SlidePartials<K, T, F: WindowFold<T>> {
    fold: F,
    slicing: Slicing,
    current: Option<(K, Panes<F::Acc>)>,
    /// Windows of the current key that end at or before this have been emitted.
    fired: Timestamp,
    types: PhantomData<fn(T)>,
}

impl<K: Key, T: Data, F: WindowFold<T>> SlidePartials<K, T, F> {
    /// The operator around a fold.
    pub fn new(fold: F, aligned: Aligned) -> Self {
        SlidePartials {
            fold,
            slicing: Slicing::new(aligned),
            current: None,
            fired: WATERMARK_MIN,
            types: PhantomData,
        }
    }

    /// Emits the windows of the current key that end at or before `until`.
    fn fire(&mut self, until: Timestamp, out: &mut Out<Windowed<K, F::Value>>) -> Progress {
        let Some((key, panes)) = &mut self.current else { return Progress::Done };
        while let Some(first) = panes.first() {
            let end = self.slicing.first_end(first, self.fired);
            if end > until {
                break;
            }
            if out.is_full() {
                return Progress::Yielded;
            }
            let window = Window { start: end.saturating_sub(self.slicing.aligned.size_ms), end };
            if let Some(acc) = panes.window(&mut self.fold, window.start, end) {
                let value = self.fold.value(&acc);
                out.push(Windowed { key: key.clone(), window, value }, Some(window.max_timestamp()));
            }
            panes.drop_before(&mut self.fold, window.start.saturating_add(self.slicing.aligned.slide_ms));
            self.fired = end;
        }
        Progress::Done
    }
}

impl<K: Key, T: Data, F: WindowFold<T>> Operator for SlidePartials<K, T, F> {
    type In = Partial<K, F::Acc>;
    type Out = Windowed<K, F::Value>;

    fn process(
        &mut self,
        batch: &mut Batch<Self::In>,
        _ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        batch.reverse();
        while let Some(((_, start), _)) = batch.values.last() {
            // Slices come in order: windows that end before this one are complete.
            if self.fire(*start, out) == Progress::Yielded {
                batch.reverse();
                return Ok(Progress::Yielded);
            }
            let Some((((key, start), acc), _)) = batch.pop() else { break };
            match &mut self.current {
                Some((_, panes)) => panes.merge(&mut self.fold, start, acc),
                None => self.current = Some((key, Panes::new(start, acc))),
            }
        }
        Ok(Progress::Done)
    }

    fn end_of_key(&mut self, _ctx: &mut Context, out: &mut Out<Self::Out>) -> Result<Progress> {
        if self.fire(Timestamp::MAX, out) == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        (self.current, self.fired) = (None, WATERMARK_MIN);
        Ok(Progress::Done)
    }
}

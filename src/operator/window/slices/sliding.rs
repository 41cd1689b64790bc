//! SlidingSlices: sliding windows, put together from slices.
//!
//! State: a column of accumulators for each open slice, by the slot of the key, and the closed slices that some window
//! still needs ([`Closed`]). When the watermark passes the end of a slice, its column moves from the one to the other. When
//! it passes the end of a window, the window of every key is put together, in the order in which the keys came. Ends
//! without any slice are skipped, however far the watermark jumps. A key leaves with its last slice.

use super::closed::{Closed, Firing};
use super::columns::Column;
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
use crate::operator::{Context, Operator, Out, Progress, SNAPSHOT_SLICE_BYTES};
use crate::semantics::state::tables::{EntryTable, KeyedTable, Layout};
use crate::semantics::state::{
    Changes, KeyTable, OperatorSnapshot, OperatorState, Section, Slot, StateTable,
};
use crate::semantics::window::{Aligned, Window};
use std::collections::VecDeque;
use std::sync::Arc;

/// Keys ahead of the current one whose slices are being fetched.
const AHEAD: usize = 16;
/// Of so many slices, the last ones: where disorder spans more, finding the slice would cost more than it saves.
const AHEAD_SLICES: usize = 8;

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
    closed: Closed<F::Acc>,
    keys: Vec<K>,
    slots: Vec<Slot>,
    created: Vec<Slot>,
    /// Keys without closed slices.
    gone: Vec<Slot>,
    /// Windows that end at or before this have fired.
    fired: Timestamp,
    firing: Option<Firing>,
    /// Of what the keys have, in open and in closed slices.
    changes: Changes,
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
            closed: Closed::new(),
            keys: Vec::new(),
            slots: Vec::new(),
            created: Vec::new(),
            gone: Vec::new(),
            fired: WATERMARK_MIN,
            firing: None,
            changes: Changes::new(),
        }
    }

    /// The index of an open slice, opened if it was not.
    fn position(&mut self, slice: Window) -> usize {
        let at = self.open.iter().rposition(|open| open.start <= slice.start);
        if let Some(at) = at
            && self.open[at].start == slice.start
        {
            return at;
        }
        let at = at.map_or(0, |at| at + 1);
        self.open.insert(at, self.closed.column(slice.start));
        at
    }

    /// Adds a record whose slice is not the last one that had a record: says which it is.
    #[inline(never)]
    fn turn_to(&mut self, timestamp: Timestamp, watermark: Timestamp) -> Result<Turn> {
        let slice = self.slicing.slice_of(timestamp)?;
        Ok(if slice.max_timestamp() > watermark {
            Turn::Open(self.position(slice))
        } else if self.slicing.last_end(slice.start).saturating_sub(1) <= watermark {
            Turn::Late
        } else {
            Turn::Closed
        })
    }

    /// Closes the slices that the watermark has passed.
    fn close(&mut self, watermark: Timestamp) {
        if self.closed.earliest().is_none() {
            self.closed.reset();
        }
        let last_of = |start: Timestamp| start.saturating_add(self.slicing.slice_ms - 1);
        while self.open.front().is_some_and(|slice| last_of(slice.start) <= watermark) {
            let Some(column) = self.open.pop_front() else { break };
            self.closed.close(&mut self.fold, column);
        }
    }

    /// The end of the next window that holds a closed slice.
    fn next_end(&self) -> Option<Timestamp> {
        self.closed.earliest().map(|earliest| self.slicing.first_end(earliest, self.fired))
    }

    /// Whether an open slice has records of the key.
    fn is_open(&self, slot: Slot) -> bool {
        self.open.iter().any(|column| column.cells.get(slot as usize).is_some_and(Option::is_some))
    }

    /// Emits the window of each key, one after the other.
    fn fire(&mut self, mut firing: Firing, out: &mut Out<Windowed<K, F::Value>>) -> Result<Progress> {
        let window = Window { start: firing.start, end: firing.end };
        let timestamp = Some(window.max_timestamp());
        loop {
            if out.is_full() {
                self.firing = Some(firing);
                return Ok(Progress::Yielded);
            }
            for slot in firing.slots().filter(|&slot| self.closed.holds(slot)) {
                changing(&mut self.changes, &self.table, &self.closed, &self.open, slot)?;
            }
            let (table, gone) = (&self.table, &mut self.gone);
            let more = self.closed.fire(&mut self.fold, &mut firing, gone, |fold, slot, acc| {
                if let Some(key) = table.key(slot) {
                    out.push(Windowed { key: key.clone(), window, value: fold.value(&acc) }, timestamp);
                }
            });
            while let Some(slot) = self.gone.pop() {
                if !self.is_open(slot) {
                    self.table.remove(slot);
                }
            }
            if !more {
                break;
            }
        }
        self.table.end_batch();
        self.fired = firing.end;
        Ok(Progress::Done)
    }
}

/// Where a record goes.
enum Turn {
    /// Into the open slice of this index.
    Open(usize),
    /// Into a slice that is closed, though some of its windows have not fired.
    Closed,
    /// Nowhere: all of its windows have fired.
    Late,
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
        self.created.iter().try_for_each(|&slot| self.changes.creating(slot))?;
        let mut turn = Turn::Late;
        let mut slice = Window { start: 0, end: 0 };
        let records = batch.values.drain(..).zip(&batch.timestamps).zip(&slots);
        for (i, ((record, &timestamp), &slot)) in records.enumerate() {
            if let (Some(&ahead), Some(&at)) = (slots.get(i + AHEAD), batch.timestamps.get(i + AHEAD)) {
                // One of the last, mostly: how far apart the inputs are, and their disorder.
                let mut last = self.open.iter().rev().take(AHEAD_SLICES);
                if let Some(column) = last.find(|column| column.start <= at) {
                    column.cells.prefetch(ahead as usize);
                }
            }
            if !slice.contains(timestamp) {
                turn = self.turn_to(timestamp, ctx.watermark)?;
                slice = self.slicing.slice_of(timestamp)?;
            }
            changing(&mut self.changes, &self.table, &self.closed, &self.open, slot)?;
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
                Turn::Closed => {
                    let acc = self.fold.create(record);
                    self.closed.merge(&mut self.fold, slot, slice.start, acc);
                }
                Turn::Late => {
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
                if !self.closed.holds(slot) && !self.is_open(slot) {
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
                    Some(end) => {
                        let start = end.saturating_sub(self.slicing.aligned.size_ms);
                        Firing::new(start, end, start.saturating_add(self.slicing.aligned.slide_ms))
                    }
                    None => break,
                },
            };
            if self.fire(firing, out)? == Progress::Yielded {
                return Ok(Progress::Yielded);
            }
        }
        // Windows that were empty have fired, too.
        self.fired = self.fired.max(watermark.saturating_add(1));
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        into.put(FIRED, &self.fired)?;
        self.changes.cut(barrier.full, self.table.slots());
        self.snapshot_more(into)
    }

    fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        let SlidingSlices { changes, table, closed, open, .. } = self;
        let done = changes.write(into.section(KEYS), SNAPSHOT_SLICE_BYTES, |slot, into| {
            put(table, closed, open, slot, into)
        })?;
        Ok(if done { Progress::Done } else { Progress::Yielded })
    }

    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        let keys = KeyedTable::<Saved<K, Panes<F::Acc>, F::Acc>>::boxed(KEYS, &["key", "closed", "open"]);
        vec![keys, EntryTable::<(Timestamp,)>::boxed(FIRED, Layout::Entries, &["time"])]
    }

    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        for fired in state.entries::<Timestamp>(FIRED) {
            self.fired = self.fired.max(fired?);
        }
        self.table.reserve(state.table_len(KEYS) / ctx.runtime.parallelism());
        for entry in state.table::<Saved<K, Panes<F::Acc>, F::Acc>>(KEYS) {
            let (_, _, (key, panes, slices)) = entry?;
            let hash = hash_of(&key);
            if !ctx.runtime.owns(hash) {
                continue;
            }
            self.table.resolve(&[key], &[hash], &mut self.slots, &mut self.created, || ())?;
            let slot = self.slots.first().copied();
            let slot = slot.ok_or_else(|| Error::Internal("a restored key has no place".into()))?;
            if let Some(panes) = panes {
                self.closed.restore(slot, panes);
            }
            for (start, acc) in slices {
                let slice = self.slicing.slice_of(start)?;
                let at = self.position(slice);
                if self.open[at].cell(slot).replace(acc).is_none() {
                    self.open[at].touched.push(slot);
                }
            }
        }
        self.created.clear();
        Ok(())
    }
}

/// Sections of a snapshot: the end of the last windows that have fired, ...
const FIRED: &str = "fired";
/// ... and what each key has, a table by slot.
const KEYS: &str = "keys";

/// A key with its closed slices, and its accumulators in open ones by start.
type Saved<K, P, A> = (K, Option<P>, Vec<(Timestamp, A)>);

/// Writes a key with all its slices; false if the slot is empty. Whether a slice is open or closed makes no difference to who
/// restores it.
fn put<K: Key, A: Data>(
    table: &KeyTable<K, ()>,
    closed: &Closed<A>,
    open: &VecDeque<Column<A>>,
    slot: Slot,
    into: &mut Section,
) -> Result<bool> {
    let Some(key) = table.key(slot) else { return Ok(false) };
    let cells = open.iter().filter_map(|column| {
        let acc = column.cells.get(slot as usize)?.as_ref()?;
        Some((column.start, acc))
    });
    let panes = if closed.holds(slot) { closed.panes(slot) } else { None };
    let saved: Saved<&K, Panes<A>, &A> = (key, panes, cells.collect());
    into.put_slot(slot, Some(&saved)).map(|()| true)
}

/// What the key of a slot has is about to change: it is written first if a snapshot still needs it.
#[inline(always)]
fn changing<K: Key, A: Data>(
    changes: &mut Changes,
    table: &KeyTable<K, ()>,
    closed: &Closed<A>,
    open: &VecDeque<Column<A>>,
    slot: Slot,
) -> Result<()> {
    changes.changing(slot, |copies| put(table, closed, open, slot, copies).map(drop))
}

//! SlidingSlices: sliding windows, put together from slices.
//!
//! State: a table for each open slice, as for tumbling windows; and for each key the closed slices that some window still
//! needs, side by side in [`Panes`]. When the watermark passes the end of a slice, its accumulators move from the one to the
//! other. When it passes the end of a window, the window of every key is put together, in the order in which the keys
//! came. Ends without any slice are skipped, however far the watermark jumps. A key leaves with its last slice.

use super::Slicing;
use super::combine::Partial;
use super::panes::Panes;
use super::tables::SliceTables;
use super::tumbling::{Restore, divert};
use crate::base::batch::Batch;
use crate::base::data::{Data, Key, Timestamp, WATERMARK_MIN};
use crate::base::error::Result;
use crate::base::hash::hash_of;
use crate::base::metrics::Counter;
use crate::operator::exchange::KeySelector;
use crate::operator::side_output::SideOutput;
use crate::operator::window::{WindowFold, Windowed};
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::state::{KeyTable, OperatorSnapshot, Slot};
use crate::semantics::window::{Aligned, Window};
use std::marker::PhantomData;
use std::sync::Arc;

/// Keys between two looks at the output.
const FIRED_KEYS: Slot = 64;

/// Keys of a closed slice that are moved at a time.
const CLOSED_KEYS: usize = 1024;

/// Keys ahead of the one that fires whose slices are being fetched.
const PREFETCHED_KEYS: Slot = 8;

/// Windows that end at `end` are being emitted.
#[derive(Clone, Copy)]
struct Firing {
    end: Timestamp,
    /// The next key.
    slot: Slot,
    /// The lowest start of a slice among the keys before it.
    earliest: Timestamp,
}

/// Folds the records of each key and sliding window. Records of whose windows all have fired are late.
pub struct SlidingSlices<K, T, F: WindowFold<T>> {
    /// Slices that the watermark has not passed.
    open: SliceTables<K, T, F>,
    late_to: Option<SideOutput<T>>,
    late: Option<Counter>,
    /// The slices of each key that the watermark has passed.
    table: KeyTable<K, Panes<F::Acc>>,
    /// Records of the batch whose slice the watermark has passed, though not all of its windows.
    behind: Batch<T>,
    keys: Vec<K>,
    hashes: Vec<u64>,
    accs: Vec<F::Acc>,
    slots: Vec<Slot>,
    created: Vec<Slot>,
    /// Not above the start of any slice in the table.
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
            open: SliceTables::new(fold, Slicing::new(aligned), selector),
            late_to,
            late: None,
            table: KeyTable::new(),
            behind: Batch::new(),
            keys: Vec::new(),
            hashes: Vec::new(),
            accs: Vec::new(),
            slots: Vec::new(),
            created: Vec::new(),
            earliest: Timestamp::MAX,
            fired: WATERMARK_MIN,
            firing: None,
        }
    }

    /// Adds accumulators, one for each of `self.keys`, to the slice that starts at `start`.
    fn add(&mut self, start: Timestamp) -> Result<()> {
        let (slots, created) = (&mut self.slots, &mut self.created);
        self.table.resolve(&self.keys, &self.hashes, slots, created, Panes::empty)?;
        // Keys first, then slices: those of a key lie elsewhere, and can be fetched ahead once it is known.
        for (i, (acc, &slot)) in self.accs.drain(..).zip(&*slots).enumerate() {
            if let Some(ahead) =
                slots.get(i + PREFETCHED_KEYS as usize).and_then(|&slot| self.table.value(slot))
            {
                ahead.prefetch_last();
            }
            if let Some(panes) = self.table.value_mut(slot) {
                panes.merge(&mut self.open.fold, start, acc);
            }
        }
        self.earliest = self.earliest.min(start);
        self.keys.clear();
        self.hashes.clear();
        Ok(())
    }

    /// Moves the slices that the watermark has passed to their keys.
    fn close(&mut self, watermark: Timestamp) -> Result<()> {
        while let Some(slice) = self.open.open.first_mut()
            && slice.window.max_timestamp() <= watermark
        {
            let start = slice.window.start;
            let (keys, hashes, accs) = (&mut self.keys, &mut self.hashes, &mut self.accs);
            let more = slice.table.drain(CLOSED_KEYS, |hash, key, acc| {
                keys.push(key);
                hashes.push(hash);
                accs.push(acc);
            });
            if !more {
                self.open.retire(0);
            }
            self.add(start)?;
        }
        Ok(())
    }

    /// Adds the records whose slices have been closed.
    fn add_behind(&mut self) -> Result<()> {
        let behind = std::mem::replace(&mut self.behind, Batch::new());
        for (record, timestamp) in behind.values.into_iter().zip(behind.timestamps) {
            let start = self.open.slicing.slice_of(timestamp)?.start;
            let key = self.open.key(&record);
            self.hashes.push(hash_of(&key));
            self.keys.push(key);
            self.accs.push(self.open.fold.create(record));
            self.add(start)?;
        }
        Ok(())
    }

    /// The end of the next window that holds a slice.
    fn next_end(&self) -> Option<Timestamp> {
        (!self.table.is_empty()).then(|| self.open.slicing.first_end(self.earliest, self.fired))
    }

    /// Emits the windows that end at `firing.end`, one key after the other.
    fn fire(&mut self, mut firing: Firing, out: &mut Out<Windowed<K, F::Value>>) -> Progress {
        let Aligned { size_ms, slide_ms, .. } = self.open.slicing.aligned;
        let window = Window { start: firing.end.saturating_sub(size_ms), end: firing.end };
        // What the next window no longer holds.
        let next_start = window.start.saturating_add(slide_ms);
        let fold = &mut self.open.fold;
        let slots = self.table.slots();
        while firing.slot < slots {
            if firing.slot.is_multiple_of(FIRED_KEYS) && out.is_full() {
                self.firing = Some(firing);
                return Progress::Yielded;
            }
            let slot = firing.slot;
            firing.slot += 1;
            if let Some(panes) = self.table.value(slot.saturating_add(PREFETCHED_KEYS)) {
                panes.prefetch();
            }
            let Some((key, panes)) = self.table.entry_mut(slot) else { continue };
            if let Some(acc) = panes.window(fold, window.start, window.end) {
                let value = fold.value(&acc);
                out.push(Windowed { key: key.clone(), window, value }, Some(window.max_timestamp()));
            }
            panes.drop_before(fold, next_start);
            match panes.first() {
                Some(first) => firing.earliest = firing.earliest.min(first),
                None => {
                    self.table.remove(slot);
                }
            }
        }
        self.table.end_batch();
        self.earliest = firing.earliest;
        self.fired = firing.end;
        self.firing = None;
        Progress::Done
    }
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
        let (late_to, late, behind) = (&self.late_to, &mut self.late, &mut self.behind);
        let (ctx, slicing) = (&*ctx, self.open.slicing);
        self.open.fold_batch(batch, |slice, part| {
            if slice.max_timestamp() > ctx.watermark {
                return false;
            }
            if slicing.last_end(slice.start).saturating_sub(1) <= ctx.watermark {
                divert(part, late_to, late, ctx, out);
            } else {
                behind.values.append(&mut part.values);
                behind.timestamps.append(&mut part.timestamps);
            }
            true
        })?;
        if !self.behind.is_empty() {
            self.add_behind()?;
        }
        Ok(Progress::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        _ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        if self.firing.is_none() {
            self.close(watermark)?;
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

    fn snapshot(&mut self) -> Result<OperatorSnapshot> {
        let mut snapshot = OperatorSnapshot::default();
        snapshot.put("fired", &self.fired)?;
        for slice in &self.open.open {
            for (_, _, key, acc) in slice.table.iter() {
                snapshot.put("slices", &(slice.window.start, key, acc))?;
            }
        }
        for (_, _, key, panes) in self.table.iter() {
            snapshot.put("keys", &(key, panes))?;
        }
        Ok(snapshot)
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot, _ctx: &mut Context) -> Result<()> {
        for fired in snapshot.entries::<Timestamp>("fired") {
            self.fired = self.fired.max(fired?);
        }
        for entry in snapshot.entries::<(K, Panes<F::Acc>)>("keys") {
            let (key, panes) = entry?;
            self.earliest = self.earliest.min(panes.first().unwrap_or(Timestamp::MAX));
            let hash = hash_of(&key);
            self.table.upsert_batch(&[hash], &mut Restore(Some((key, panes))))?;
        }
        for entry in snapshot.entries::<(Timestamp, K, F::Acc)>("slices") {
            let (start, key, acc) = entry?;
            self.hashes.push(hash_of(&key));
            self.keys.push(key);
            self.accs.push(acc);
            self.add(start)?;
        }
        Ok(())
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

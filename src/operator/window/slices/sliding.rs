//! SlidingSlices: sliding windows, put together from slices.
//!
//! State: for each key the slices that some window still needs, side by side in [`Panes`]. When the watermark passes
//! the end of a window, the window of every key is put together, in the order in which the keys came. Ends without any
//! slice are skipped, however far the watermark jumps. A key leaves with its last slice.

use super::combine::Partial;
use super::panes::Panes;
use super::tumbling::{Restore, divert};
use super::{Slicing, no_timestamps};
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
    fold: F,
    slicing: Slicing,
    selector: Arc<dyn KeySelector<T, K>>,
    late_to: Option<SideOutput<T>>,
    late: Option<Counter>,
    table: KeyTable<K, Panes<F::Acc>>,
    keys: Vec<K>,
    slots: Vec<Slot>,
    created: Vec<Slot>,
    starts: Vec<Timestamp>,
    late_records: Batch<T>,
    /// Not above the start of any slice.
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
            table: KeyTable::new(),
            keys: Vec::new(),
            slots: Vec::new(),
            created: Vec::new(),
            starts: Vec::new(),
            late_records: Batch::new(),
            earliest: Timestamp::MAX,
            fired: WATERMARK_MIN,
            firing: None,
        }
    }

    /// Computes the slice of each record. Says whether some are late.
    fn find_slices(&mut self, batch: &Batch<T>, watermark: Timestamp) -> Result<bool> {
        self.starts.clear();
        let mut slice = Window { start: 0, end: 0 };
        let mut some_late = false;
        for &timestamp in &batch.timestamps {
            if !slice.contains(timestamp) {
                slice = self.slicing.slice_of(timestamp)?;
                let is_late = self.slicing.last_end(slice.start) - 1 <= watermark;
                some_late |= is_late;
                if !is_late {
                    self.earliest = self.earliest.min(slice.start);
                }
            }
            self.starts.push(slice.start);
        }
        Ok(some_late)
    }

    /// Takes late records out.
    fn take_late(&mut self, batch: &mut Batch<T>, watermark: Timestamp) {
        let hashed = batch.hashes.len() == batch.len();
        let all = std::mem::replace(batch, Batch::new());
        let starts = std::mem::take(&mut self.starts);
        for (i, ((value, timestamp), start)) in
            all.values.into_iter().zip(all.timestamps).zip(starts).enumerate()
        {
            let is_late = self.slicing.last_end(start) - 1 <= watermark;
            let part = if is_late { &mut self.late_records } else { &mut *batch };
            part.values.push(value);
            part.timestamps.push(timestamp);
            if !is_late {
                self.starts.push(start);
                if hashed {
                    part.hashes.push(all.hashes[i]);
                }
            }
        }
    }

    /// The end of the next window that holds a slice.
    fn next_end(&self) -> Option<Timestamp> {
        (!self.table.is_empty()).then(|| self.slicing.first_end(self.earliest, self.fired))
    }

    /// Emits the windows that end at `firing.end`, one key after the other.
    fn fire(&mut self, mut firing: Firing, out: &mut Out<Windowed<K, F::Value>>) -> Progress {
        let window =
            Window { start: firing.end.saturating_sub(self.slicing.aligned.size_ms), end: firing.end };
        // What the next window no longer holds.
        let next_start = window.start.saturating_add(self.slicing.aligned.slide_ms);
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
            if let Some(acc) = panes.window(&mut self.fold, window.start, window.end) {
                let value = self.fold.value(&acc);
                out.push(Windowed { key: key.clone(), window, value }, Some(window.max_timestamp()));
            }
            panes.drop_before(&mut self.fold, next_start);
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
        if batch.timestamps.len() != batch.len() {
            return Err(no_timestamps());
        }
        if self.find_slices(batch, ctx.watermark)? {
            self.take_late(batch, ctx.watermark);
            divert(&mut self.late_records, &self.late_to, &mut self.late, ctx, out);
        }
        self.keys.clear();
        self.selector.keys(&batch.values, &mut self.keys);
        if batch.hashes.len() != batch.len() {
            batch.hashes.clear();
            batch.hashes.extend(self.keys.iter().map(hash_of));
        }
        // Keys first, then slices: those of a key lie elsewhere, and can be fetched ahead once it is known.
        let (slots, created) = (&mut self.slots, &mut self.created);
        self.table.resolve(&self.keys, &batch.hashes, slots, created, Panes::empty)?;
        for (i, record) in batch.values.drain(..).enumerate() {
            if let Some(ahead) =
                slots.get(i + PREFETCHED_KEYS as usize).and_then(|&slot| self.table.value(slot))
            {
                ahead.prefetch_last();
            }
            if let Some(panes) = self.table.value_mut(slots[i]) {
                panes.add(&mut self.fold, self.starts[i], record);
            }
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

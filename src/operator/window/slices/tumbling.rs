//! TumblingSlices: tumbling windows, where a window is a slice.
//!
//! State: a table for each open window, with an accumulator for each key that has records in it. When the watermark
//! passes the end of a window its table is emptied into the output, in the order in which its keys came.

use super::Slicing;
use super::tables::{Slice, SliceTables};
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::base::metrics::Counter;
use crate::operator::exchange::KeySelector;
use crate::operator::side_output::SideOutput;
use crate::operator::window::{WindowFold, Windowed};
use crate::operator::{Context, LATE_RECORDS_DROPPED, Operator, Out, Progress};
use crate::semantics::state::{OperatorSnapshot, OperatorState, Slot, Upsert};
use crate::semantics::window::Aligned;
use std::sync::Arc;

/// Entries handed to the output before it is asked whether it is full.
const DRAIN_ENTRIES: usize = 256;

/// Folds the records of each key and tumbling window. Records whose window has fired are late.
pub struct TumblingSlices<K, T, F: WindowFold<T>> {
    tables: SliceTables<K, T, F>,
    late_to: Option<SideOutput<T>>,
    late: Option<Counter>,
    /// The first open window is being emptied.
    firing: bool,
}

impl<K: Key, T: Data, F: WindowFold<T>> TumblingSlices<K, T, F> {
    /// The operator around a fold. Late records go to `late_to`, or are counted.
    pub fn new(
        fold: F,
        aligned: Aligned,
        selector: Arc<dyn KeySelector<T, K>>,
        late_to: Option<SideOutput<T>>,
    ) -> Self {
        let tables = SliceTables::new(fold, Slicing::new(aligned), selector);
        TumblingSlices { tables, late_to, late: None, firing: false }
    }
}

/// Sends late records on, or counts them; empties the batch.
pub(in crate::operator::window) fn divert<T: Data, U: Data>(
    late: &mut Batch<T>,
    late_to: &Option<SideOutput<T>>,
    dropped: &mut Option<Counter>,
    ctx: &Context,
    out: &mut Out<U>,
) {
    match late_to {
        Some(output) => {
            for (value, &timestamp) in late.values.drain(..).zip(&late.timestamps) {
                out.push_to(output, value, Some(timestamp));
            }
        }
        None => {
            let counter = dropped.get_or_insert_with(|| ctx.runtime.counter(LATE_RECORDS_DROPPED));
            counter.add(late.len() as u64);
        }
    }
    late.clear();
}

impl<K: Key, T: Data, F: WindowFold<T>> Operator for TumblingSlices<K, T, F> {
    type In = T;
    type Out = Windowed<K, F::Value>;

    fn process(
        &mut self,
        batch: &mut Batch<T>,
        ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        let (late_to, late) = (&self.late_to, &mut self.late);
        let ctx = &*ctx;
        self.tables.fold_batch(batch, |slice, part| {
            let is_late = slice.max_timestamp() <= ctx.watermark;
            if is_late {
                divert(part, late_to, late, ctx, out);
            }
            is_late
        })?;
        Ok(Progress::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        _ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        loop {
            let SliceTables { fold, open, .. } = &mut self.tables;
            let Some(Slice { window, table, .. }) = open.front_mut() else { return Ok(Progress::Done) };
            let (window, timestamp) = (*window, window.max_timestamp());
            if !self.firing && timestamp > watermark {
                return Ok(Progress::Done);
            }
            self.firing = true;
            loop {
                if out.is_full() {
                    return Ok(Progress::Yielded);
                }
                let more = table.drain(DRAIN_ENTRIES, |_hash, key, acc| {
                    out.push(Windowed { key, window, value: fold.value(&acc) }, Some(timestamp));
                });
                if !more {
                    break;
                }
            }
            self.firing = false;
            self.tables.retire(0);
        }
    }

    fn snapshot(&mut self, _barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        let section = into.section("slices");
        for slice in &self.tables.open {
            for (_, _, key, acc) in slice.table.iter() {
                section.put(&(slice.window.start, key, acc))?;
            }
        }
        Ok(Progress::Done)
    }

    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        for entry in state.entries::<(Timestamp, K, F::Acc)>("slices") {
            let (start, key, acc) = entry?;
            let hash = hash_of(&key);
            if !ctx.runtime.owns(hash) {
                continue;
            }
            let slice = self.tables.slicing.slice_of(start)?;
            let at = self.tables.position(slice);
            let mut row = Restore(Some((key, acc)));
            self.tables.open[at].table.upsert_batch(&[hash], &mut row)?;
        }
        Ok(())
    }
}

/// One entry that comes back from a snapshot.
pub(super) struct Restore<K, V>(pub(super) Option<(K, V)>);

impl<K: Key, V> Upsert<K, V> for Restore<K, V> {
    fn is_key(&self, _i: usize, key: &K) -> bool {
        self.0.as_ref().is_some_and(|entry| entry.0 == *key)
    }
    fn found(&mut self, _i: usize, _slot: Slot, _value: &mut V) -> Result<()> {
        Err(Error::user("a snapshot holds a key of a window twice"))
    }
    fn insert(&mut self, _i: usize, _slot: Slot) -> Result<(K, V)> {
        self.0.take().ok_or_else(|| Error::Internal("an entry was restored twice".into()))
    }
}

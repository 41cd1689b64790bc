//! CombineSlices: folds the records of a key and slice before they are shuffled (BATCH).
//!
//! Method: a table for each slice that has come, filled until all of them reach their share of the memory; then the
//! older half of the slices, at least one, is emptied into the output: where records come in some order of time, those are
//! the slices that are complete. What is emitted depends on the input and the share only.
//! Costs: memory within the share, heap behind keys and accumulators estimated from samples.

use super::Slicing;
use super::tables::SliceTables;
use crate::base::batch::Batch;
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::Result;
use crate::operator::aggregate::HeapEstimate;
use crate::operator::exchange::KeySelector;
use crate::operator::window::WindowFold;
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::window::Aligned;
use std::sync::Arc;

/// Entries handed to the output before it is asked whether it is full.
const DRAIN_ENTRIES: usize = 256;

/// A partial result: key and start of the slice, accumulator.
pub type Partial<K, A> = ((K, Timestamp), A);

/// Emits `((key, slice start), accumulator)` with the highest timestamp of the slice; a key and slice may come several
/// times.
pub struct CombineSlices<K, T, F: WindowFold<T>> {
    tables: SliceTables<K, T, F>,
    heap: HeapEstimate,
    /// Slices at the front that are being emptied.
    emptying: usize,
}

impl<K: Key, T: Data, F: WindowFold<T>> CombineSlices<K, T, F> {
    /// The operator around a fold.
    pub fn new(fold: F, aligned: Aligned, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        CombineSlices {
            tables: SliceTables::new(fold, Slicing::new(aligned), selector),
            heap: HeapEstimate::default(),
            emptying: 0,
        }
    }

    fn empty(&mut self, out: &mut Out<Partial<K, F::Acc>>) -> Progress {
        while self.emptying > 0 {
            let slice = &mut self.tables.open[0];
            let (start, timestamp) = (slice.window.start, slice.window.max_timestamp());
            loop {
                if out.is_full() {
                    return Progress::Yielded;
                }
                let more = slice.table.drain(DRAIN_ENTRIES, |_hash, key, acc| {
                    out.push(((key, start), acc), Some(timestamp));
                });
                if !more {
                    break;
                }
            }
            self.tables.retire(0);
            self.emptying -= 1;
        }
        Progress::Done
    }
}

impl<K: Key, T: Data, F: WindowFold<T>> Operator for CombineSlices<K, T, F> {
    type In = T;
    type Out = Partial<K, F::Acc>;

    fn process(
        &mut self,
        batch: &mut Batch<T>,
        ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        if self.empty(out) == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        self.tables.fold_batch(batch, |_, _| false)?;
        let entries: u64 = self.tables.open.iter().map(|slice| slice.table.len() as u64).sum();
        if std::mem::needs_drop::<(K, F::Acc)>()
            && let Some((_, _, key, acc)) =
                self.tables.open.last().and_then(|slice| slice.table.iter().next())
        {
            self.heap.inserted(&(key.clone(), acc.clone()));
        }
        if self.tables.memory_bytes() + self.heap.bytes(entries) >= ctx.memory_bytes {
            self.emptying = self.tables.open.len().div_ceil(2);
            ctx.runtime.counter("combine_flushes").add(1);
            self.empty(out);
        }
        Ok(Progress::Done)
    }

    fn end_of_input(&mut self, _ctx: &mut Context, out: &mut Out<Self::Out>) -> Result<Progress> {
        if self.emptying == 0 {
            self.emptying = self.tables.open.len();
        }
        Ok(self.empty(out))
    }
}

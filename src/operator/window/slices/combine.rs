//! CombineSlices: folds the records of a key and slice before they are shuffled (BATCH).
//!
//! Method: a table for each slice that has come. Where records come in some order of time a slice is complete sooner or
//! later; one that had no record for a while is emptied into the output, and its table, still in the cache, serves
//! the next one. When all tables together reach their share of the memory the older half of them, at least one, is
//! emptied. What is emitted depends on the input and the share only.
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

/// Batches without a record of a slice after which it counts as complete.
const IDLE_BATCHES: u64 = 128;

/// A partial result: key and start of the slice, accumulator.
pub type Partial<K, A> = ((K, Timestamp), A);

/// Emits `((key, slice start), accumulator)`, for sliding windows with the start as timestamp; a key and slice may come
/// several times.
pub struct CombineSlices<K, T, F: WindowFold<T>> {
    tables: SliceTables<K, T, F>,
    heap: HeapEstimate,
    batches: u64,
    /// Partial results carry the start of their slice as a timestamp.
    ordered: bool,
    /// Some slices are being emptied: those that are older than this.
    emptying: Option<u64>,
}

impl<K: Key, T: Data, F: WindowFold<T>> CombineSlices<K, T, F> {
    /// The operator around a fold.
    pub fn new(fold: F, aligned: Aligned, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        CombineSlices {
            tables: SliceTables::new(fold, Slicing::new(aligned), selector),
            heap: HeapEstimate::default(),
            batches: 0,
            ordered: aligned.size_ms != aligned.slide_ms,
            emptying: None,
        }
    }

    /// Empties the slices that had no record since batch `self.emptying`.
    fn empty(&mut self, out: &mut Out<Partial<K, F::Acc>>) -> Progress {
        let Some(since) = self.emptying else { return Progress::Done };
        while let Some(at) = self.tables.open.iter().position(|slice| slice.touched < since) {
            let slice = &mut self.tables.open[at];
            let start = slice.window.start;
            // Rows are put in order by their timestamps; where no order is needed they can do without.
            let timestamp = self.ordered.then_some(start);
            loop {
                if out.is_full() {
                    return Progress::Yielded;
                }
                let more = slice.table.drain(DRAIN_ENTRIES, |_hash, key, acc| {
                    out.push(((key, start), acc), timestamp);
                });
                if !more {
                    break;
                }
            }
            self.tables.retire(at);
        }
        self.emptying = None;
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
                self.tables.open.back().and_then(|slice| slice.table.iter().next())
        {
            self.heap.inserted(&(key.clone(), acc.clone()));
        }
        self.batches += 1;
        if self.tables.memory_bytes() + self.heap.bytes(entries) >= ctx.memory_bytes {
            let mut touched: Vec<u64> = self.tables.open.iter().map(|slice| slice.touched).collect();
            touched.sort_unstable();
            self.emptying = touched.get(touched.len().saturating_sub(1) / 2).map(|median| median + 1);
            ctx.runtime.counter("combine_flushes").add(1);
        } else if self.batches.is_multiple_of(IDLE_BATCHES) {
            self.emptying = Some(self.batches - IDLE_BATCHES);
        }
        self.tables.batch = self.batches;
        self.empty(out);
        Ok(Progress::Done)
    }

    fn end_of_input(&mut self, _ctx: &mut Context, out: &mut Out<Self::Out>) -> Result<Progress> {
        self.emptying = Some(u64::MAX);
        Ok(self.empty(out))
    }
}

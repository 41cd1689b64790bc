//! Merge: the final result of each key from its partial results. Reads input that is grouped by key.
//!
//! Partial results are folded in the order in which they come: by timestamp, then producer, then sequence. The
//! result carries the timestamp of the key's last record.

use super::Fold;
use crate::base::batch::Batch;
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::Result;
use crate::operator::{Context, Operator, Out, Progress};
use std::marker::PhantomData;

/// Folds `(key, accumulator)` pairs of one key after the other.
pub struct Merge<K, T, F: Fold<K, T>> {
    fold: F,
    current: Option<(K, F::Acc)>,
    timestamp: Option<Timestamp>,
    types: PhantomData<fn(T)>,
}

impl<K: Key, T: Data, F: Fold<K, T>> Merge<K, T, F> {
    /// The operator around a fold.
    pub fn new(fold: F) -> Self {
        Merge { fold, current: None, timestamp: None, types: PhantomData }
    }
}

impl<K: Key, T: Data, F: Fold<K, T>> Operator for Merge<K, T, F> {
    type In = (K, F::Acc);
    type Out = F::Out;

    fn process(&mut self, batch: &mut Batch<Self::In>, _ctx: &mut Context, _out: &mut Out<F::Out>) -> Result<Progress> {
        self.timestamp = self.timestamp.max(batch.timestamps.iter().max().copied());
        for (key, acc) in batch.values.drain(..) {
            match &mut self.current {
                Some((_, current)) => self.fold.merge(current, acc),
                None => self.current = Some((key, acc)),
            }
        }
        batch.clear();
        Ok(Progress::Done)
    }

    fn end_of_key(&mut self, _ctx: &mut Context, out: &mut Out<F::Out>) -> Result<Progress> {
        let timestamp = self.timestamp.take();
        if let Some((key, acc)) = self.current.take() {
            out.push(self.fold.finish(key, acc), timestamp);
        }
        Ok(Progress::Done)
    }
}

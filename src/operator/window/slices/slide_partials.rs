//! SlidePartials: sliding windows behind a shuffle, put together from partial results key by key.

use super::Slicing;
use super::combine::Partial;
use super::panes::Panes;
use crate::base::batch::Batch;
use crate::base::data::{Data, Key, Timestamp, WATERMARK_MIN};
use crate::base::error::Result;
use crate::operator::window::{WindowFold, Windowed};
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::window::{Aligned, Window};
use std::marker::PhantomData;

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

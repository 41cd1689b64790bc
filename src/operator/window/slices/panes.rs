//! Panes: the slices of one key, from which sliding windows are put together.
//!
//! Method: two stacks (Tangwongsan, Hirzel and Schneider, 2015, after an old way to make a queue of stacks). Windows end
//! later and later, and so do they start. Slices are kept by start, in three parts:
//!
//! ```text
//!   front: suffixes            middle: slices, folded into `back`     rest: slices no window has reached
//!   | a+b+c | b+c | c |        | d | e |    back = d+e                | f | g |
//! ```
//!
//! A window over `b..=e` is `front[b] + back`: one fold. When slices leave, the front gets shorter; when it is empty
//! the middle becomes the new front, one fold a slice. So a slice is folded three times, however many windows hold
//! it. A record that comes for a slice in front or middle, which only a late one does, is added to all suffixes
//! that hold it.

use crate::base::data::{Data, Timestamp};
use crate::operator::window::WindowFold;
use crate::semantics::state::prefetch_reference;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The slices of a key that some window still needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Panes<A> {
    /// By start: front, middle, rest.
    slices: VecDeque<(Timestamp, A)>,
    front: u32,
    middle: u32,
    back: Option<A>,
}

impl<A: Data> Panes<A> {
    /// No slice yet.
    pub(super) const fn empty() -> Self {
        Panes { slices: VecDeque::new(), front: 0, middle: 0, back: None }
    }

    /// A first slice.
    pub(super) fn new(start: Timestamp, acc: A) -> Self {
        Panes { slices: VecDeque::from([(start, acc)]), front: 0, middle: 0, back: None }
    }

    /// The suffixes in front, the slices of the middle and what they fold to, and the rest, each by start.
    pub(super) fn from_parts(
        front: Vec<(Timestamp, A)>,
        middle: Vec<(Timestamp, A)>,
        rest: Vec<(Timestamp, A)>,
        back: Option<A>,
    ) -> Self {
        let (in_front, in_middle) = (front.len() as u32, middle.len() as u32);
        let slices = front.into_iter().chain(middle).chain(rest).collect();
        // Without slices in the middle it is left over from a key that has gone.
        let back = back.filter(|_| in_middle > 0);
        Panes { slices, front: in_front, middle: in_middle, back }
    }

    /// Fetches the slices at both ends into the cache.
    #[inline(always)]
    pub(super) fn prefetch(&self) {
        prefetch_reference(self.slices.front());
        prefetch_reference(self.slices.back());
    }

    /// Fetches the last slice into the cache.
    #[inline(always)]
    pub(super) fn prefetch_last(&self) {
        prefetch_reference(self.slices.back());
    }

    /// Slices that some window has reached.
    #[inline(always)]
    fn reached(&self) -> usize {
        (self.front + self.middle) as usize
    }

    /// Where the first slice starts.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.slices.front().map(|slice| slice.0)
    }

    /// Folds an accumulator into a slice.
    #[inline]
    pub(super) fn merge<T, F: WindowFold<T, Acc = A>>(&mut self, fold: &mut F, start: Timestamp, acc: A) {
        // Mostly it is a new slice behind all others.
        if self.slices.back().is_none_or(|last| last.0 < start) {
            return self.slices.push_back((start, acc));
        }
        self.merge_within(fold, start, acc);
    }

    fn merge_within<T, F: WindowFold<T, Acc = A>>(&mut self, fold: &mut F, start: Timestamp, acc: A) {
        let behind = self.slices.iter().rposition(|slice| slice.0 <= start).map_or(0, |at| at + 1);
        let exists = behind > 0 && self.slices[behind - 1].0 == start;
        let at = if exists { behind - 1 } else { behind };
        if at < self.front as usize {
            // Into every suffix that holds the slice. A slice that was not there begins with the suffix behind it.
            if exists {
                fold.merge(&mut self.slices[at].1, acc.clone());
            } else {
                let mut suffix = self.slices[at].1.clone();
                fold.merge(&mut suffix, acc.clone());
                self.slices.insert(at, (start, suffix));
                self.front += 1;
            }
            for slice in self.slices.iter_mut().take(at) {
                fold.merge(&mut slice.1, acc.clone());
            }
            return;
        }
        let in_middle = at < self.reached();
        if in_middle {
            match &mut self.back {
                Some(back) => fold.merge(back, acc.clone()),
                None => self.back = Some(acc.clone()),
            }
        }
        if exists {
            fold.merge(&mut self.slices[at].1, acc);
        } else {
            self.slices.insert(at, (start, acc));
            self.middle += u32::from(in_middle);
        }
    }

    /// Drops the slices that start before `start`.
    pub(super) fn drop_before<T, F: WindowFold<T, Acc = A>>(&mut self, fold: &mut F, start: Timestamp) {
        while let Some(slice) = self.slices.front()
            && slice.0 < start
        {
            if self.front == 0 && self.middle > 0 {
                self.flip(fold, start);
                continue;
            }
            self.slices.pop_front();
            self.front = self.front.saturating_sub(1);
        }
    }

    /// The fold over the slices from `start` up to `end`, neither of which may be lower than before. Slices before `start`
    /// are dropped.
    pub(super) fn window<T, F: WindowFold<T, Acc = A>>(
        &mut self,
        fold: &mut F,
        start: Timestamp,
        end: Timestamp,
    ) -> Option<A> {
        self.drop_before(fold, start);
        while let Some(slice) = self.slices.get(self.reached())
            && slice.0 < end
        {
            match &mut self.back {
                Some(back) => fold.merge(back, slice.1.clone()),
                None => self.back = Some(slice.1.clone()),
            }
            self.middle += 1;
        }
        match (self.slices.front().filter(|_| self.front > 0), &self.back) {
            (Some((_, suffix)), Some(back)) => {
                let mut acc = suffix.clone();
                fold.merge(&mut acc, back.clone());
                Some(acc)
            }
            (Some((_, suffix)), None) => Some(suffix.clone()),
            (None, back) => back.clone(),
        }
    }

    /// Drops the slices of the middle that start before `start`, and turns the others into suffixes.
    fn flip<T, F: WindowFold<T, Acc = A>>(&mut self, fold: &mut F, start: Timestamp) {
        while self.middle > 0 && self.slices.front().is_some_and(|slice| slice.0 < start) {
            self.slices.pop_front();
            self.middle -= 1;
        }
        for at in (1..self.middle as usize).rev() {
            let later = self.slices[at].1.clone();
            fold.merge(&mut self.slices[at - 1].1, later);
        }
        (self.front, self.middle, self.back) = (self.middle, 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::{hash_of, key_group};
    use crate::operator::window::ReduceWindow;
    use std::collections::BTreeMap;

    /// X2: windows put together from slices are folds over the records in them, whatever comes when; seeds printed.
    #[test]
    fn windows_are_folds_over_their_records() {
        for seed in 0..300u64 {
            let mut draws = 0u64;
            let mut below = |limit: usize| {
                draws += 1;
                key_group(hash_of(&(seed, draws)), limit) as i64
            };
            let slices_of_window = 1 + below(7);
            let mut fold = ReduceWindow::new(|sum: &mut (i64, i64), more: (i64, i64)| {
                *sum = (sum.0 + more.0, sum.1.max(more.1));
            });
            let mut panes: Option<Panes<(i64, i64)>> = None;
            let mut model: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
            let mut end = 0;
            for step in 0..120 {
                if below(3) > 0 {
                    // Also behind the end of the last window, as far as some window still holds the slice.
                    let slice = end - slices_of_window + 1 + below(slices_of_window as usize + 3);
                    let record = (1 << below(20), below(100));
                    match &mut panes {
                        Some(panes) => panes.merge(&mut fold, slice, record),
                        None => panes = Some(Panes::new(slice, record)),
                    }
                    let sum = model.entry(slice).or_insert((0, i64::MIN));
                    *sum = (sum.0 + record.0, sum.1.max(record.1));
                } else {
                    end += 1 + below(2) * below(3);
                    let start = end - slices_of_window;
                    let expected =
                        model.range(start..end).map(|(_, sum)| *sum).reduce(|a, b| (a.0 + b.0, a.1.max(b.1)));
                    let got = panes.as_mut().and_then(|panes| panes.window(&mut fold, start, end));
                    assert_eq!(got, expected, "seed {seed}, step {step}, slices {start}..{end}");
                    model.retain(|slice, _| *slice >= start);
                    if let Some(left) = &panes {
                        assert_eq!(left.first(), model.keys().next().copied(), "seed {seed}, step {step}");
                    }
                    panes = panes.filter(|panes| panes.first().is_some());
                }
            }
        }
    }

    /// A slice is folded a bounded number of times, however many windows hold it.
    #[test]
    fn the_cost_of_a_window_does_not_depend_on_its_slices() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicU64, Ordering};
        for slices_of_window in [10, 60, 600] {
            let folds = Arc::new(AtomicU64::new(0));
            let counted = folds.clone();
            let mut fold = ReduceWindow::new(move |sum: &mut u64, more: u64| {
                counted.fetch_add(1, Ordering::Relaxed);
                *sum += more;
            });
            let mut panes = Panes::new(0, 1u64);
            for slice in 1..6_000 {
                panes.merge(&mut fold, slice, 1u64);
                let sum = panes.window(&mut fold, slice + 1 - slices_of_window, slice + 1);
                assert_eq!(sum, Some((slice + 1).min(slices_of_window) as u64));
            }
            let folds = folds.load(Ordering::Relaxed);
            assert!(folds < 3 * 6_000, "{folds} folds for windows of {slices_of_window} slices");
        }
    }
}

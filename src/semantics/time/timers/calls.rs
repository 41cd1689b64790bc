//! Calls: what a queue was at a barrier, as the calls that made it.
//!
//! Method: a bucket only grows until it is emptied or compacted, so what it held at a cut is its first entries. They are read
//! bit by bit; what is left of them is saved before the bucket is emptied, which costs less than emptying it. What is
//! live is decided by who reads them again: of each timer the last call counts.

use super::bucket::{Bucket, Entry, Held, PART_LEN, resolve};
use super::{Timers, from_order, to_order};
use crate::base::data::Timestamp;
use crate::semantics::state::Slot;
use std::collections::VecDeque;

/// A timer was registered or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerCall<N> {
    /// When it is due.
    pub time: Timestamp,
    /// The slot of the key.
    pub slot: Slot,
    /// Whether it was registered; else it was deleted.
    pub registers: bool,
    /// What tells timers of the same key and time apart.
    pub namespace: N,
}

/// What a queue was at its last cut, as far as it has not been read.
pub(super) struct Cut<N> {
    /// Of places that have been emptied since.
    saved: VecDeque<Entry<N>>,
    /// What is being read, ...
    part: Vec<Entry<N>>,
    /// ... and how far.
    next: usize,
    /// Nothing has been read.
    untouched: bool,
}

impl<N: Copy + Ord> Cut<N> {
    pub(super) const fn new() -> Cut<N> {
        Cut { saved: VecDeque::new(), part: Vec::new(), next: 0, untouched: false }
    }

    /// A bucket is about to be emptied or compacted.
    pub(super) fn save(&mut self, bucket: &mut Bucket<N>) {
        while let Some(chunk) = bucket.read(usize::MAX) {
            self.saved.extend(chunk);
        }
    }

    /// Sorts what is being read, and leaves of each of its timers the last call.
    fn sort(&mut self, is_whole: bool) {
        let part = &mut self.part;
        // Stable, which keeps the order of the calls within a timer.
        part.sort_by(Entry::compare);
        // Those that stay move to the end.
        let mut kept = part.len();
        let mut later: Option<Entry<N>> = None;
        for i in (0..part.len()).rev() {
            let entry = part[i];
            let is_last = later.is_none_or(|later| entry.compare(&later).is_ne());
            later = Some(entry);
            if is_last && (entry.registers || !is_whole) {
                kept -= 1;
                part[kept] = entry;
            }
        }
        self.next = kept;
    }
}

impl<N: Copy + Ord> Timers<N> {
    /// Cuts the queue: [`next_call`](Timers::next_call) hands over the calls that made it what it is now, whatever is
    /// called meanwhile. What was not read of the cut before is dropped. Outside of an advance it costs nothing.
    pub fn cut(&mut self) {
        let Timers { buckets, overdue, cut, .. } = self;
        buckets.iter_mut().chain([overdue]).for_each(Bucket::cut);
        cut.saved.clear();
        cut.part.clear();
        (cut.next, cut.untouched) = (0, true);
        // Nothing, unless it was called within an advance.
        cut.saved.extend(self.due.iter().skip(self.popped));
        let joined = self.joined.iter();
        cut.saved.extend(joined.map(|&(time, slot, namespace)| Entry {
            time,
            slot,
            registers: true,
            namespace,
        }));
    }

    /// The next call of the cut; none when all have been handed over. Calls that neighbours have made void are left
    /// out, and in a small queue all those.
    #[inline]
    pub fn next_call(&mut self) -> Option<TimerCall<N>> {
        while self.cut.next == self.cut.part.len() {
            if !self.read_part() {
                return None;
            }
        }
        let Entry { time, slot, registers, namespace } = *self.cut.part.get(self.cut.next)?;
        self.cut.next += 1;
        Some(TimerCall { time: from_order(time), slot, registers, namespace })
    }

    /// Reads the next part of the cut; false if there is none.
    #[cold]
    fn read_part(&mut self) -> bool {
        let Timers { buckets, overdue, cut, .. } = self;
        cut.part.clear();
        let saved = cut.saved.len().min(PART_LEN);
        cut.part.extend(cut.saved.drain(..saved));
        for bucket in buckets.iter_mut().chain([&mut *overdue]) {
            while cut.part.len() < PART_LEN
                && let Some(chunk) = bucket.read(PART_LEN - cut.part.len())
            {
                cut.part.extend_from_slice(chunk);
            }
        }
        let rest = buckets.iter().chain([&*overdue]).any(|bucket| bucket.has_unread());
        let is_whole = std::mem::take(&mut cut.untouched) && !rest && cut.saved.is_empty();
        if cut.part.is_empty() {
            // All is read: the memory goes, which is that of all timers at worst.
            (cut.saved, cut.next) = (VecDeque::new(), 0);
            return false;
        }
        cut.sort(is_whole);
        true
    }

    /// Registers the timers that are live after these calls, all of which are there for each timer, in their order.
    pub fn register_live(&mut self, calls: Vec<TimerCall<N>>) {
        let entry = |TimerCall { time, slot, registers, namespace }| Entry {
            time: to_order(time),
            slot,
            registers,
            namespace,
        };
        let mut entries: Vec<Entry<N>> = calls.into_iter().map(entry).collect();
        resolve(&mut entries, &mut Held::default());
        for entry in entries {
            self.register(from_order(entry.time), entry.slot, entry.namespace);
        }
    }
}

//! Calls: a copy of a queue, as the calls that made it.
//!
//! Method: the entries of all buckets are copied as they are, which costs no more than copying their bytes. What is live is
//! decided by who reads them again: of each timer the last call counts.

use super::bucket::{Bucket, Entry, Held, PART_LEN, resolve};
use super::{Timers, from_order, to_order};
use crate::base::data::Timestamp;
use crate::semantics::state::Slot;

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

/// The calls that made a queue what it was when they were copied. Keeps its memory for the next copy.
pub struct TimerCalls<N> {
    entries: Vec<Entry<N>>,
    next: usize,
    /// Where the part ends that is being read.
    part: usize,
}

impl<N> Default for TimerCalls<N> {
    fn default() -> Self {
        TimerCalls { entries: Vec::new(), next: 0, part: 0 }
    }
}

impl<N: Copy + Ord> TimerCalls<N> {
    /// The next call. Calls that neighbours have made void are left out, and in a small queue all those.
    #[inline]
    pub fn take(&mut self) -> Option<TimerCall<N>> {
        if self.next == self.part {
            self.begin_part();
        }
        let Entry { time, slot, registers, namespace } = *self.entries.get(self.next)?;
        self.next += 1;
        Some(TimerCall { time: from_order(time), slot, registers, namespace })
    }

    /// Sorts the next part and leaves of each of its timers the last call.
    #[cold]
    fn begin_part(&mut self) {
        let from = self.next;
        self.part = self.entries.len().min(from + PART_LEN);
        let is_whole = from == 0 && self.part == self.entries.len();
        let Some(part) = self.entries.get_mut(from..self.part) else { return };
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
        self.next = from + kept;
        if self.next == self.part && self.part < self.entries.len() {
            self.begin_part();
        }
    }
}

impl<N: Copy + Ord> Timers<N> {
    /// Copies the calls that made the queue what it is, outside of an advance, in place of what was copied before.
    pub fn copy_calls(&self, copy: &mut TimerCalls<N>) {
        (copy.next, copy.part) = (0, 0);
        let entries = &mut copy.entries;
        entries.clear();
        let buckets = || self.buckets.iter().chain([&self.overdue]);
        entries.reserve(buckets().map(Bucket::len).sum());
        for chunk in buckets().flat_map(Bucket::chunks) {
            entries.extend_from_slice(chunk);
        }
        // Nothing, unless it was called within an advance.
        entries.extend(self.due.iter().skip(self.popped));
        let joined = self.joined.iter();
        entries.extend(joined.map(|&(time, slot, namespace)| Entry {
            time,
            slot,
            registers: true,
            namespace,
        }));
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

//! Timers: when which key wants to be called again.
//!
//! Place: each subtask of a keyed operator has one queue for event time and one for processing time. The state
//! backend asks it which slots must stay. A timer is a time, the slot of a key and a namespace: nothing for
//! process functions, a window for windows.
//! Method: a radix heap (Ahuja, Mehlhorn, Orlin, Tarjan, Faster Algorithms for the Shortest Path Problem, 1990).
//! A bucket holds the times whose highest bit that differs from the base is the same; the base rises, and with
//! it the lowest bucket is opened and its entries move to lower buckets, or to the due list.
//!
//! ```text
//!   due list    up to the base: sorted, each timer once       <- pop_due
//!   bucket 0    base + 1, if the base is even
//!   bucket b    2^b times, which have bit b where the base has not, and agree with it above
//!   overdue     up to the base, registered outside of an advance: due with the next one
//! ```
//!
//! Registering and deleting append an entry and look up nothing. What is live is decided when entries become due:
//! they are sorted, and the last of each timer counts. A bucket that has grown much since it was last compacted
//! is compacted in the same way, so that the same timer may be registered for each record.
//! Invariants: entries in buckets are later than the base, and the base is not later than the time. Outside of an
//! advance the two are equal and the due list is empty; within one nothing is overdue. All entries of a timer are
//! in one place, in the order of the calls: a bucket, or what is overdue. So whoever has read the whole place may
//! forget a timer whose last entry deletes it. In the due list timers are registered and deleted at once.
//! Costs and limits: an entry takes 16 bytes without a namespace and 32 with a window. A bucket has at most four for
//! each timer that was live when it was last compacted, and a thousand more. An entry moves at most once per bit
//! of the time, in practice fewer than ten times. A due list of many timers is made piece by piece. A timer
//! registered for a time that the advance under way has passed costs a search in the piece. Memory is kept until
//! the queue is dropped.

mod bucket;
mod calls;

use crate::base::data::Timestamp;
use crate::semantics::state::Slot;
use bucket::{Bucket, Entry, Held, PART_LEN, Pool, resolve, resolve_equal_times};
use calls::Cut;
pub use calls::TimerCall;
use std::collections::BTreeSet;

/// Pops between starting to load the count of a slot and changing it.
const COUNT_AHEAD: usize = 16;
/// Bytes of an element of a `BTreeSet` besides the element: places in its nodes that are empty, and links.
const SET_OVERHEAD: usize = 16;

/// A call that a key asked for. Ordered by time, slot and namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer<N> {
    /// When it is due: once time has reached this.
    pub time: Timestamp,
    /// The slot of the key.
    pub slot: Slot,
    /// What tells timers of the same key and time apart.
    pub namespace: N,
}

/// The timers of one time domain of one subtask.
pub struct Timers<N> {
    /// Indexed by the highest bit in which a time differs from the base.
    buckets: [Bucket<N>; 64],
    /// Bit `b` is set if bucket `b` has entries.
    occupied: u64,
    overdue: Bucket<N>,
    base: u64,
    time: u64,
    /// Whether an advance is under way: until `pop_due` found nothing.
    advancing: bool,
    due: Vec<Entry<N>>,
    /// How many of the due list are popped. Those behind that do not register were deleted meanwhile.
    popped: usize,
    /// Timers that joined the due list during the advance.
    joined: BTreeSet<(u64, Slot, N)>,
    held: Held,
    pool: Pool<N>,
    /// Takes the place of the bucket that is being opened.
    spare: Bucket<N>,
    scratch: Vec<Entry<N>>,
    cut: Cut<N>,
}

/// The time as a number of the same order.
#[inline(always)]
fn to_order(time: Timestamp) -> u64 {
    time as u64 ^ 1 << 63
}

#[inline(always)]
fn from_order(time: u64) -> Timestamp {
    (time ^ 1 << 63) as Timestamp
}

/// The bucket of a time later than the base.
#[inline(always)]
fn bucket_of(time: u64, base: u64) -> usize {
    (63 ^ (time ^ base).leading_zeros() as usize) & 63
}

impl<N: Copy + Ord> Default for Timers<N> {
    fn default() -> Self {
        Timers::new()
    }
}

impl<N: Copy + Ord> Timers<N> {
    /// An empty queue at the smallest time. Allocates nothing.
    pub fn new() -> Self {
        Timers {
            buckets: [const { Bucket::new() }; 64],
            occupied: 0,
            overdue: Bucket::new(),
            base: to_order(Timestamp::MIN),
            time: to_order(Timestamp::MIN),
            advancing: false,
            due: Vec::new(),
            popped: 0,
            joined: BTreeSet::new(),
            held: Held::default(),
            pool: Pool::new(),
            spare: Bucket::new(),
            scratch: Vec::new(),
            cut: Cut::new(),
        }
    }

    /// Registers a timer; nothing changes if it is registered already. If time has reached it, it becomes due
    /// with the next advance; during an advance, with this one.
    #[inline]
    pub fn register(&mut self, time: Timestamp, slot: Slot, namespace: N) {
        let entry = Entry { time: to_order(time), slot, registers: true, namespace };
        if entry.time <= self.base && self.advancing {
            return self.join_due(entry);
        }
        self.held.add(slot);
        self.append(entry);
    }

    /// Deletes a timer; nothing changes if there is none.
    #[inline]
    pub fn delete(&mut self, time: Timestamp, slot: Slot, namespace: N) {
        if !self.held.holds(slot) {
            return;
        }
        let entry = Entry { time: to_order(time), slot, registers: false, namespace };
        if entry.time <= self.base && self.advancing {
            return self.leave_due(entry);
        }
        self.held.add(slot);
        self.append(entry);
    }

    #[inline]
    fn append(&mut self, entry: Entry<N>) {
        let bucket = if entry.time > self.base {
            let b = bucket_of(entry.time, self.base);
            self.occupied |= 1 << b;
            &mut self.buckets[b]
        } else {
            &mut self.overdue
        };
        bucket.push(entry, &mut self.pool);
        if bucket.is_overgrown() {
            self.cut.save(bucket);
            bucket.compact(&mut self.pool, &mut self.held, &mut self.scratch);
            if bucket.len() == 0 && entry.time > self.base {
                self.occupied &= !(1 << bucket_of(entry.time, self.base));
            }
        }
    }

    /// The entry of a timer in what is left of the due list.
    fn find_due(&mut self, entry: &Entry<N>) -> Option<&mut Entry<N>> {
        let left = self.due.get_mut(self.popped..)?;
        let i = left.binary_search_by(|due| due.compare(entry)).ok()?;
        left.get_mut(i)
    }

    #[cold]
    fn join_due(&mut self, entry: Entry<N>) {
        let is_new = match self.find_due(&entry) {
            Some(due) => !std::mem::replace(&mut due.registers, true),
            None => self.joined.insert((entry.time, entry.slot, entry.namespace)),
        };
        if is_new {
            self.held.add(entry.slot);
        }
    }

    #[cold]
    fn leave_due(&mut self, entry: Entry<N>) {
        let was_there = match self.find_due(&entry) {
            Some(due) => std::mem::replace(&mut due.registers, false),
            None => self.joined.remove(&(entry.time, entry.slot, entry.namespace)),
        };
        if was_there {
            self.held.release(entry.slot);
        }
    }

    /// Time rises to `to`, or stays if that is earlier: all timers up to it become due. Then
    /// [`Timers::pop_due`] hands them over, and the advance ends when it has found nothing.
    pub fn advance(&mut self, to: Timestamp) {
        self.time = self.time.max(to_order(to));
        if !self.advancing {
            self.advancing = true;
            self.due.clear();
            self.popped = 0;
            if self.overdue.len() > 0 {
                self.cut.save(&mut self.overdue);
                self.overdue.empty(&mut self.pool, |chunk, _| self.due.extend_from_slice(chunk));
                resolve(&mut self.due, &mut self.held);
            }
        }
        if self.popped >= self.due.len() && self.joined.is_empty() {
            self.fill_due();
        }
    }

    /// Takes out the smallest timer that is due, by time, slot and namespace.
    #[inline]
    pub fn pop_due(&mut self) -> Option<Timer<N>> {
        loop {
            if !self.joined.is_empty() {
                return self.pop_joined();
            }
            while let Some(entry) = self.due.get(self.popped) {
                let Entry { time, slot, registers, namespace } = *entry;
                self.popped += 1;
                if let Some(ahead) = self.due.get(self.popped + COUNT_AHEAD) {
                    self.held.prefetch(ahead.slot);
                }
                if registers {
                    self.held.release(slot);
                    return Some(Timer { time: from_order(time), slot, namespace });
                }
            }
            if !self.advancing || !self.fill_due() {
                self.advancing = false;
                return None;
            }
        }
    }

    /// Takes out the smallest timer of the due list and those that joined it, of which there is one.
    #[cold]
    fn pop_joined(&mut self) -> Option<Timer<N>> {
        while self.due.get(self.popped).is_some_and(|due| !due.registers) {
            self.popped += 1;
        }
        let due = self.due.get(self.popped).map(|due| (due.time, due.slot, due.namespace));
        let (time, slot, namespace) = match due {
            Some(due) if self.joined.first().is_none_or(|joined| due < *joined) => {
                self.popped += 1;
                due
            }
            _ => self.joined.pop_first()?,
        };
        self.held.release(slot);
        Some(Timer { time: from_order(time), slot, namespace })
    }

    /// Raises the base until there is something in the due list, which must have been popped. If it returns
    /// false there is nothing more, and the base has reached the time.
    #[cold]
    fn fill_due(&mut self) -> bool {
        self.due.clear();
        self.popped = 0;
        while self.occupied != 0 {
            let b = self.occupied.trailing_zeros() as usize & 63;
            // The times that belong into the bucket. All lower buckets are empty, so that with a base before
            // `first` the higher ones, too, are where they belong, and with one up to `last` once this is opened.
            let first = (self.base >> b | 1) << b;
            let last = first | ((1 << b) - 1);
            if first > self.time {
                break;
            }
            // Not more than a part is sorted at once, but for timers of equal time. The rest gets nearer.
            let smallest = self.buckets[b].min().unwrap_or(last);
            let to = if self.buckets[b].len() <= PART_LEN { last } else { smallest };
            self.open(b, to.min(self.time));
            if self.due.len() <= PART_LEN {
                resolve(&mut self.due, &mut self.held);
            } else {
                resolve_equal_times(&mut self.due, &mut self.pool, &mut self.held, &mut self.scratch);
            }
            if !self.due.is_empty() {
                return true;
            }
        }
        self.base = self.time;
        false
    }

    /// Raises the base to a time of the lowest bucket or its last, and moves its entries where they belong now.
    fn open(&mut self, b: usize, base: u64) {
        self.base = base;
        self.cut.save(&mut self.buckets[b]);
        std::mem::swap(&mut self.spare, &mut self.buckets[b]);
        let (len, compacted) = (self.spare.len(), self.spare.compacted());
        let mut occupied = 0;
        self.spare.empty(&mut self.pool, |chunk, pool| {
            for entry in chunk {
                if entry.time <= base {
                    self.due.push(*entry);
                } else {
                    let b = bucket_of(entry.time, base);
                    occupied |= 1 << b;
                    self.buckets[b].push(*entry, pool);
                }
            }
        });
        self.occupied = self.occupied & !(1 << b) | occupied;
        while occupied != 0 {
            self.buckets[occupied.trailing_zeros() as usize & 63].inherit(len, compacted);
            occupied &= occupied - 1;
        }
    }

    /// The slots of up to `n` timers that are popped next, for loading them ahead; some may have been deleted,
    /// and some be missing.
    #[inline]
    pub fn upcoming(&self, n: usize) -> impl Iterator<Item = Slot> {
        self.due.iter().skip(self.popped).take(n).map(|entry| entry.slot)
    }

    /// No timer is earlier than this; none if there is no timer at all. It is the time of the earliest timer
    /// unless that was deleted and time has not reached it since.
    pub fn next(&self) -> Option<Timestamp> {
        let due = self.due.get(self.popped).map(|due| due.time);
        let joined = self.joined.first().map(|joined| joined.0);
        let overdue = self.overdue.min();
        let first = [due, joined, overdue].into_iter().flatten().min();
        let lowest = || self.buckets[self.occupied.trailing_zeros() as usize & 63].min();
        if self.is_empty() { None } else { first.or_else(lowest).map(from_order) }
    }

    /// Whether there is an entry of this slot, so that its key must keep it. True for deleted timers, too, until
    /// time has reached them.
    #[inline]
    pub fn holds(&self, slot: Slot) -> bool {
        self.held.holds(slot)
    }

    /// Starts loading what a call with this slot will change.
    #[inline(always)]
    pub fn prefetch(&self, slot: Slot) {
        self.held.prefetch(slot);
    }

    /// Drops all timers and goes back to the smallest time. Keeps the memory.
    pub fn clear(&mut self) {
        while self.occupied != 0 {
            self.buckets[self.occupied.trailing_zeros() as usize & 63].empty(&mut self.pool, |_, _| ());
            self.occupied &= self.occupied - 1;
        }
        self.overdue.empty(&mut self.pool, |_, _| ());
        (self.base, self.time, self.advancing) = (to_order(Timestamp::MIN), to_order(Timestamp::MIN), false);
        self.due.clear();
        self.popped = 0;
        self.joined.clear();
        self.held.clear();
        self.cut = Cut::new();
    }

    /// All timers, sorted by time, slot and namespace.
    pub fn iter_live(&self) -> Vec<Timer<N>> {
        let waiting = self.buckets.iter().chain([&self.overdue]).flat_map(Bucket::iter);
        let mut entries: Vec<Entry<N>> = waiting.chain(self.due.iter().skip(self.popped)).copied().collect();
        let joined = self.joined.iter();
        entries.extend(joined.map(|&(time, slot, namespace)| Entry {
            time,
            slot,
            registers: true,
            namespace,
        }));
        // Whatever the copy drops is still held by the queue.
        resolve(&mut entries, &mut Held::default());
        let timer = |e: Entry<N>| Timer { time: from_order(e.time), slot: e.slot, namespace: e.namespace };
        entries.into_iter().map(timer).collect()
    }

    /// Number of entries: timers that are registered more than once or deleted count for each call until they
    /// are resolved.
    pub fn len(&self) -> usize {
        self.held.total()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory of entries and counts; what is kept for later counts as well.
    pub fn memory_bytes(&self) -> u64 {
        let entries = (self.due.capacity() + self.scratch.capacity()) * size_of::<Entry<N>>();
        let joined = self.joined.len() * (size_of::<(u64, Slot, N)>() + SET_OVERHEAD);
        self.pool.memory_bytes() + self.held.memory_bytes() + (entries + joined) as u64
    }
}

#[cfg(test)]
mod tests;

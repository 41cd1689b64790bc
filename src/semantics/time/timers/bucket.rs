//! Bucket: a growing list of timer entries in chunks that many buckets share through a pool.
//!
//! Method: a bucket appends to its last chunk. Who empties a bucket gives each chunk back as soon as it is read,
//! so that entries move between buckets without a second copy of all of them. Nothing is looked up on the way:
//! what registered a timer and what deleted it stand in a bucket in the order of the calls, and [`resolve`] makes
//! of them what is live.
//! Costs and limits: a chunk is 4 KiB; the first of a bucket starts small and doubles. The pool keeps all memory
//! until it is dropped.

use crate::semantics::state::{Paged, Slot};
use std::cmp::Ordering;

/// Bytes of a chunk: small, because a thousand of them are filled side by side in [`Bucket::compact`].
const CHUNK_BYTES: usize = 4 << 10;
/// Entries of the first chunk of a bucket when it is made.
const FIRST_LEN: usize = 4;
/// Entries up to which a bucket is resolved as a whole: in the cache, also at 32 bytes each.
pub(super) const PART_LEN: usize = 8 << 10;
/// Most parts of a bucket that is compacted: each has a chunk that is not full.
const PARTS_MAX: usize = 1 << 10;
/// A bucket is compacted when it has this many entries for each that the last compaction left, ...
const GROWTH: usize = 4;
/// ... and this many more.
const COMPACT_MIN: usize = 1 << 10;

/// One call: a timer was registered or deleted.
#[derive(Clone, Copy)]
pub(super) struct Entry<N> {
    /// Order-preserving image of the timer's time.
    pub(super) time: u64,
    pub(super) slot: Slot,
    /// Whether the call registered the timer; else it deleted it.
    pub(super) registers: bool,
    pub(super) namespace: N,
}

impl<N: Copy + Ord> Entry<N> {
    /// Time and slot as one number, so that entries compare without a branch unless both are equal.
    #[inline(always)]
    fn time_and_slot(&self) -> u128 {
        (self.time as u128) << 32 | self.slot as u128
    }

    /// How the timers of two entries are ordered; equal entries are about the same timer.
    #[inline(always)]
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.time_and_slot().cmp(&other.time_and_slot()).then_with(|| self.namespace.cmp(&other.namespace))
    }

    /// The part of a bucket that all entries of a timer belong to.
    #[inline(always)]
    fn part(&self, bits: u32) -> usize {
        let mixed = self.time.wrapping_add((self.slot as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 << bits >> 32) as usize
    }
}

/// How many entries each slot has in the queue.
#[derive(Default)]
pub(super) struct Held {
    counts: Paged<u32>,
    total: usize,
}

impl Held {
    #[inline]
    pub(super) fn add(&mut self, slot: Slot) {
        self.total += 1;
        if let Some(count) = self.counts.get_mut(slot as usize) {
            *count = count.saturating_add(1);
        } else {
            self.grow(slot);
        }
    }

    #[cold]
    fn grow(&mut self, slot: Slot) {
        while self.counts.len() < slot as usize {
            self.counts.push(0);
        }
        self.counts.push(1);
    }

    #[inline]
    pub(super) fn release(&mut self, slot: Slot) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.counts.get_mut(slot as usize) {
            *count = count.saturating_sub(1);
        }
    }

    #[inline]
    pub(super) fn holds(&self, slot: Slot) -> bool {
        self.counts.get(slot as usize).is_some_and(|&count| count > 0)
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, slot: Slot) {
        self.counts.prefetch(slot as usize);
    }

    /// Number of entries of all slots.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn clear(&mut self) {
        self.counts.clear();
        self.total = 0;
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.counts.memory_bytes()
    }
}

/// Sorts entries by timer and leaves the last of each timer if it registers: what is live. All entries of a timer
/// must be among them, in the order of the calls. Those that go are no longer held.
pub(super) fn resolve<N: Copy + Ord>(entries: &mut Vec<Entry<N>>, held: &mut Held) {
    // Stable, which keeps the order of the calls within a timer.
    entries.sort_by(Entry::compare);
    let mut kept = 0;
    for i in 0..entries.len() {
        let entry = entries[i];
        let is_last = entries.get(i + 1).is_none_or(|next| entry.compare(next).is_ne());
        if is_last && entry.registers {
            entries[kept] = entry;
            kept += 1;
        } else {
            held.release(entry.slot);
        }
    }
    entries.truncate(kept);
}

/// As [`resolve`], for many entries of one time: in parts of neighbouring slots that fit into the cache.
#[cold]
pub(super) fn resolve_equal_times<N: Copy + Ord>(
    entries: &mut Vec<Entry<N>>,
    pool: &mut Pool<N>,
    held: &mut Held,
    scratch: &mut Vec<Entry<N>>,
) {
    let slots = || entries.iter().map(|entry| entry.slot);
    let first = slots().min().unwrap_or(0);
    let range = slots().max().unwrap_or(0) - first;
    let bits = (entries.len() / PART_LEN).next_power_of_two().min(PARTS_MAX).ilog2();
    let shift = (Slot::BITS - range.leading_zeros()).saturating_sub(bits);
    let mut parts: Vec<Bucket<N>> = (0..1 << bits).map(|_| Bucket::new()).collect();
    for entry in entries.drain(..) {
        parts[((entry.slot - first) as u64 >> shift) as usize].push(entry, pool);
    }
    for mut part in parts {
        scratch.clear();
        part.empty(pool, |chunk, _| scratch.extend_from_slice(chunk));
        resolve(scratch, held);
        entries.extend_from_slice(scratch);
    }
}

/// Empty chunks, and the count of all.
pub(super) struct Pool<N> {
    free: Vec<Vec<Entry<N>>>,
    /// Bytes of all chunks, also of those in use.
    bytes: usize,
}

impl<N> Pool<N> {
    const ENTRY_BYTES: usize = size_of::<Entry<N>>();
    const CHUNK_LEN: usize = {
        let entries = CHUNK_BYTES / Self::ENTRY_BYTES;
        if entries == 0 { 1 } else { entries }
    };

    pub(super) fn new() -> Self {
        Pool { free: Vec::new(), bytes: 0 }
    }

    /// Takes a chunk back, whose entries are dropped.
    pub(super) fn give(&mut self, mut chunk: Vec<Entry<N>>) {
        chunk.clear();
        self.free.push(chunk);
    }

    fn take(&mut self, capacity: usize) -> Vec<Entry<N>> {
        self.free.pop().unwrap_or_else(|| {
            self.bytes += capacity * Self::ENTRY_BYTES;
            Vec::with_capacity(capacity)
        })
    }

    /// Makes place for one more entry, in this chunk if that may grow.
    fn grow(&mut self, chunk: &mut Vec<Entry<N>>) -> bool {
        let more = chunk.capacity().min(Self::CHUNK_LEN.saturating_sub(chunk.capacity()));
        chunk.reserve_exact(more);
        self.bytes += more * Self::ENTRY_BYTES;
        more > 0
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        (self.bytes + self.free.capacity() * size_of::<Vec<Entry<N>>>()) as u64
    }
}

/// Entries in the order of the calls.
pub(super) struct Bucket<N> {
    chunks: Vec<Vec<Entry<N>>>,
    len: usize,
    /// The smallest time.
    min: u64,
    /// How many entries the last compaction left, as far as they are still here.
    compacted: usize,
    unread: Unread,
}

/// What has not been read of the first entries of a bucket.
#[derive(Clone, Copy)]
struct Unread {
    chunk: usize,
    /// Index in the chunk.
    at: usize,
    entries: usize,
}

impl Unread {
    const NOTHING: Unread = Unread { chunk: 0, at: 0, entries: 0 };
}

impl<N: Copy + Ord> Bucket<N> {
    pub(super) const fn new() -> Self {
        Bucket { chunks: Vec::new(), len: 0, min: u64::MAX, compacted: 0, unread: Unread::NOTHING }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The smallest time, if there is an entry.
    pub(super) fn min(&self) -> Option<u64> {
        (self.len > 0).then_some(self.min)
    }

    #[inline]
    pub(super) fn push(&mut self, entry: Entry<N>, pool: &mut Pool<N>) {
        self.len += 1;
        self.min = self.min.min(entry.time);
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < chunk.capacity() => chunk.push(entry),
            _ => self.push_grown(entry, pool),
        }
    }

    #[cold]
    fn push_grown(&mut self, entry: Entry<N>, pool: &mut Pool<N>) {
        if let Some(chunk) = self.chunks.last_mut()
            && pool.grow(chunk)
        {
            return chunk.push(entry);
        }
        let mut chunk = pool.take(if self.chunks.is_empty() { FIRST_LEN } else { Pool::<N>::CHUNK_LEN });
        chunk.push(entry);
        self.chunks.push(chunk);
    }

    /// The entries in the order of the calls.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<N>> {
        self.chunks.iter().flatten()
    }

    /// All entries that are here now are to be read.
    pub(super) fn cut(&mut self) {
        self.unread = Unread { entries: self.len, ..Unread::NOTHING };
    }

    pub(super) fn has_unread(&self) -> bool {
        self.unread.entries > 0
    }

    /// Reads up to `max` neighbouring entries, in the order of the calls.
    pub(super) fn read(&mut self, max: usize) -> Option<&[Entry<N>]> {
        let Unread { chunk, at, entries } = &mut self.unread;
        while *entries > 0 {
            let rest = self.chunks.get(*chunk)?.get(*at..)?;
            if !rest.is_empty() {
                let read = rest.len().min(max).min(*entries);
                *at += read;
                *entries -= read;
                return rest.get(..read);
            }
            (*chunk, *at) = (*chunk + 1, 0);
        }
        None
    }

    /// Hands over the entries chunk by chunk; `sink` may use the chunks that are already read.
    #[inline]
    pub(super) fn empty(&mut self, pool: &mut Pool<N>, mut sink: impl FnMut(&[Entry<N>], &mut Pool<N>)) {
        for chunk in self.chunks.drain(..) {
            sink(&chunk, pool);
            pool.give(chunk);
        }
        (self.len, self.min, self.compacted) = (0, u64::MAX, 0);
        self.unread = Unread::NOTHING;
    }

    /// Tells a bucket that all its entries come from one of `len` entries of which `compacted` were compacted. The
    /// shares of all such buckets together are not more than that one had.
    pub(super) fn inherit(&mut self, len: usize, compacted: usize) {
        self.compacted = (self.len as u128 * compacted as u128 / len.max(1) as u128) as usize;
    }

    pub(super) fn compacted(&self) -> usize {
        self.compacted
    }

    /// Whether a compaction would pay: it is paid for by the calls since the last one.
    #[inline(always)]
    pub(super) fn is_overgrown(&self) -> bool {
        self.len > self.compacted.saturating_mul(GROWTH).saturating_add(COMPACT_MIN)
    }

    /// Leaves the last entry of each timer if it registers: all entries of these timers must be here.
    #[cold]
    pub(super) fn compact(&mut self, pool: &mut Pool<N>, held: &mut Held, scratch: &mut Vec<Entry<N>>) {
        // In parts that fit into the cache, each with all entries of its timers.
        let bits = (self.len / PART_LEN).next_power_of_two().min(PARTS_MAX).ilog2();
        let mut parts: Vec<Bucket<N>> = (0..1 << bits).map(|_| Bucket::new()).collect();
        self.empty(pool, |chunk, pool| {
            for entry in chunk {
                parts[entry.part(bits)].push(*entry, pool);
            }
        });
        for mut part in parts {
            scratch.clear();
            part.empty(pool, |chunk, _| scratch.extend_from_slice(chunk));
            resolve(scratch, held);
            for entry in scratch.iter() {
                self.push(*entry, pool);
            }
        }
        self.compacted = self.len;
    }
}

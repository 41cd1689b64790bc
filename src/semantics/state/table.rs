//! KeyTable: the keyed hash table of every keyed operator, fast because it sees a whole batch of hashes at once.
//!
//! Place: rolling aggregates and map-side combining keep their accumulators in it; the state backend uses it
//! with `V = ()` to turn keys into slots, by which the columns of state are indexed. One thread at a time.
//! Method: an index of cells (tag of the hash, slot) leads to entries (hash, key, value side by side) in fixed
//! pages. In a large table nearly every step is a cache miss, so a batch runs as a pipeline over its records:
//!
//! ```text
//!   record i + 32   start loading the home cell of its hash
//!   record i + 16   probe the cells, now loaded, for its tag; start loading the entry it points to
//!   record i        compare the key of the entry, now loaded; update it, or insert
//! ```
//!
//! A small table is in the cache anyway, and takes a short loop without the pipeline.
//! Invariants: a slot belongs to its key until the key is removed, and to no other key before the next
//! [`KeyTable::end_batch`]: slots noted during a batch stay unambiguous until its end. The order of entries
//! depends on the calls alone, never on addresses or random seeds.
//! Costs and limits: 13 to 26 bytes of index a key and one entry of hash, key and value. Growth copies one
//! segment of the index and no entry. Removal leaves no tombstone; memory stays at its peak until
//! [`KeyTable::release`]. At most `u32::MAX - 1` slots. Keys with equal hashes are told apart by comparing them,
//! so n of them cost n comparisons a look-up.

use super::index::{Index, NO_SLOT};
use super::paged::Paged;
use super::snapshot::Section;
use crate::base::data::Key;
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::base::mutant;
use serde::Serialize;
use std::num::NonZeroU64;

/// Number of a key in its table.
pub type Slot = u32;

/// Most slots of one table: the index stores slots plus one in 32 bits.
const SLOTS_MAX: usize = u32::MAX as usize - 1;
/// Records between starting to load a cell and probing it.
const CELL_AHEAD: usize = 32;
/// Records between starting to load an entry and using it: a power of two.
const ENTRY_AHEAD: usize = 16;

/// The hash as an entry stores it, so that an empty place costs no extra byte. Zero becomes `ZERO_HASH`, which
/// has the same segment and tag.
#[derive(Clone, Copy, Debug)]
struct StoredHash(NonZeroU64);

const ZERO_HASH: NonZeroU64 = NonZeroU64::new(1 << 63).unwrap();

impl StoredHash {
    #[inline(always)]
    fn new(hash: u64) -> StoredHash {
        StoredHash(NonZeroU64::new(hash).unwrap_or(ZERO_HASH))
    }
}

#[derive(Debug)]
struct Entry<K, V> {
    hash: StoredHash,
    key: K,
    value: V,
}

/// What a batch does with the entries of its keys; see [`KeyTable::upsert_batch`].
pub trait Upsert<K, V> {
    /// Whether the key of record `i` is this one.
    fn is_key(&self, i: usize, key: &K) -> bool;
    /// Record `i` belongs to the entry at `slot`.
    ///
    /// # Errors
    /// Whatever user code returns; the records before `i` have been applied.
    fn found(&mut self, i: usize, slot: Slot, value: &mut V) -> Result<()>;
    /// Record `i` has a new key: makes its entry, which will be at `slot`.
    ///
    /// # Errors
    /// Whatever user code returns; the records before `i` have been applied and no entry is made.
    fn insert(&mut self, i: usize, slot: Slot) -> Result<(K, V)>;
}

/// A hash table from keys to values that works on batches.
#[derive(Debug)]
pub struct KeyTable<K, V> {
    index: Index,
    entries: Paged<Option<Entry<K, V>>>,
    live: usize,
    /// Empty slots to be used again.
    free: Vec<Slot>,
    /// Slots that became empty in this batch.
    removed: Vec<Slot>,
    /// Places passed so far, while [`KeyTable::drain`] is under way.
    drained: Option<usize>,
    slots_max: usize,
}

impl<K: Key, V> Default for KeyTable<K, V> {
    fn default() -> Self {
        KeyTable::new()
    }
}

impl<K: Key, V> KeyTable<K, V> {
    /// An empty table that has allocated nothing.
    pub const fn new() -> Self {
        KeyTable {
            index: Index::new(),
            entries: Paged::new(),
            live: 0,
            free: Vec::new(),
            removed: Vec::new(),
            drained: None,
            slots_max: SLOTS_MAX,
        }
    }

    /// Number of keys.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there is no key.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Memory of index, entries and lists of slots, without what keys and values own elsewhere.
    pub fn memory_bytes(&self) -> u64 {
        let lists = (self.free.capacity() + self.removed.capacity()) * size_of::<Slot>();
        self.index.memory_bytes() + self.entries.memory_bytes() + lists as u64
    }

    /// Finds or inserts the entry of each record of a batch, in order, and applies `rows` to it. `hashes[i]` is
    /// the hash of record `i`'s key, the same for equal keys in all calls.
    ///
    /// # Errors
    /// What `rows` returns; [`Error::Memory`] when the table has no slot left; a call between two of
    /// [`KeyTable::drain`].
    pub fn upsert_batch<U: Upsert<K, V>>(&mut self, hashes: &[u64], rows: &mut U) -> Result<()> {
        if self.drained.is_some() {
            return Err(Error::Internal("a keyed table was used while it was being drained".into()));
        }
        let mut at = 0;
        while at < hashes.len() {
            if !self.index.is_small() || self.entries.pages() > 1 {
                return self.upsert_ahead(hashes, at, rows);
            }
            at = self.update_small(hashes, at, rows)?;
            if let Some(&hash) = hashes.get(at) {
                self.upsert(at, hash, rows)?;
                at += 1;
            }
        }
        Ok(())
    }

    /// Updates records from `from` on in a table that is in the cache, as long as each is found at once. Returns
    /// the first that is not.
    #[inline]
    fn update_small<U: Upsert<K, V>>(&mut self, hashes: &[u64], from: usize, rows: &mut U) -> Result<usize> {
        let (Some(segment), Some(page)) = (self.index.single(), self.entries.first_page_mut()) else {
            return Ok(from);
        };
        for (i, &hash) in hashes.iter().enumerate().skip(from) {
            let slot = segment.likely_at_home(hash);
            match page.get_mut(slot as usize) {
                Some(Some(entry)) if rows.is_key(i, &entry.key) => rows.found(i, slot, &mut entry.value)?,
                _ => return Ok(i),
            }
        }
        Ok(hashes.len())
    }

    /// The pipeline: for tables that are not in the cache.
    fn upsert_ahead<U: Upsert<K, V>>(&mut self, hashes: &[u64], from: usize, rows: &mut U) -> Result<()> {
        for &hash in hashes.iter().skip(from).take(CELL_AHEAD) {
            self.index.prefetch(hash);
        }
        // Where the entry of record i is if its tag does not lie.
        let mut likely = [NO_SLOT; ENTRY_AHEAD];
        for i in from..hashes.len() + ENTRY_AHEAD {
            if let Some(&hash) = hashes.get(i + CELL_AHEAD - ENTRY_AHEAD) {
                self.index.prefetch(hash);
            }
            let ring = i % ENTRY_AHEAD;
            let due = likely[ring];
            if let Some(&hash) = hashes.get(i) {
                likely[ring] = self.index.likely(hash);
                self.entries.prefetch(likely[ring] as usize);
            }
            if i >= from + ENTRY_AHEAD {
                let i = i - ENTRY_AHEAD;
                match self.entries.get_mut(due as usize) {
                    Some(Some(entry)) if rows.is_key(i, &entry.key) => {
                        rows.found(i, due, &mut entry.value)?;
                    }
                    _ => self.upsert(i, hashes[i], rows)?,
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn upsert<U: Upsert<K, V>>(&mut self, i: usize, hash: u64, rows: &mut U) -> Result<()> {
        // A new key, nearly always. To learn so costs no branch that depends on how far it is to an empty cell.
        if self.index.likely(hash) == NO_SLOT {
            return self.insert(i, hash, rows);
        }
        let entries = &self.entries;
        let is_key = |slot| match entries.get(slot as usize) {
            Some(Some(entry)) => rows.is_key(i, &entry.key),
            _ => false,
        };
        if let Some(slot) = self.index.find(hash, is_key)
            && let Some(Some(entry)) = self.entries.get_mut(slot as usize)
        {
            return rows.found(i, slot, &mut entry.value);
        }
        self.insert(i, hash, rows)
    }

    fn insert<U: Upsert<K, V>>(&mut self, i: usize, hash: u64, rows: &mut U) -> Result<()> {
        let slot = match self.free.last() {
            Some(&slot) => slot,
            None if self.entries.len() < self.slots_max => self.entries.len() as Slot,
            None => return Err(too_many_keys(self.slots_max)),
        };
        // User code may fail or panic: nothing has changed yet.
        let (key, value) = rows.insert(i, slot)?;
        let entry = Some(Entry { hash: StoredHash::new(hash), key, value });
        if self.free.pop().is_some() {
            if let Some(place) = self.entries.get_mut(slot as usize) {
                *place = entry;
            }
        } else {
            self.entries.push(entry);
        }
        let entries = &self.entries;
        self.index.insert(hash, slot, |slot| match entries.get(slot as usize) {
            Some(Some(entry)) => entry.hash.0.get(),
            _ => 0,
        });
        self.live += 1;
        Ok(())
    }

    /// Finds or inserts each key of a batch. `hashes[i]` belongs to `keys[i]`. `slots` is cleared and filled
    /// with a slot for each key; `created` is cleared and filled with the slots of the keys that are new, whose
    /// values `fresh` makes.
    ///
    /// # Errors
    /// [`Error::Memory`] when the table has no slot left; keys and hashes of different number; a call between
    /// two of [`KeyTable::drain`].
    pub fn resolve(
        &mut self,
        keys: &[K],
        hashes: &[u64],
        slots: &mut Vec<Slot>,
        created: &mut Vec<Slot>,
        fresh: impl FnMut() -> V,
    ) -> Result<()> {
        slots.clear();
        created.clear();
        if keys.len() != hashes.len() {
            return Err(Error::Internal(format!("{} keys came with {} hashes", keys.len(), hashes.len())));
        }
        slots.reserve(keys.len());
        self.upsert_batch(hashes, &mut Resolve { keys, slots, created, fresh })
    }

    /// The slot of a key, if it has one.
    pub fn get(&self, key: &K, hash: u64) -> Option<Slot> {
        self.index.find(hash, |slot| self.entry(slot).is_some_and(|entry| entry.key == *key))
    }

    #[inline(always)]
    fn entry(&self, slot: Slot) -> Option<&Entry<K, V>> {
        self.entries.get(slot as usize)?.as_ref()
    }

    /// The key at a slot; none if the slot is empty.
    #[inline(always)]
    pub fn key(&self, slot: Slot) -> Option<&K> {
        Some(&self.entry(slot)?.key)
    }

    /// The value at a slot; none if the slot is empty.
    #[inline(always)]
    pub fn value(&self, slot: Slot) -> Option<&V> {
        Some(&self.entry(slot)?.value)
    }

    /// Starts loading the entry at a slot.
    #[inline(always)]
    pub fn prefetch(&self, slot: Slot) {
        self.entries.prefetch(slot as usize);
    }

    /// The value at a slot to change; none if the slot is empty.
    #[inline(always)]
    pub fn value_mut(&mut self, slot: Slot) -> Option<&mut V> {
        Some(&mut self.entries.get_mut(slot as usize)?.as_mut()?.value)
    }

    /// Key and value at a slot, the value to change; none if the slot is empty.
    #[inline(always)]
    pub fn entry_mut(&mut self, slot: Slot) -> Option<(&K, &mut V)> {
        let entry = self.entries.get_mut(slot as usize)?.as_mut()?;
        Some((&entry.key, &mut entry.value))
    }

    /// The first slot that was never used: all keys lie below it.
    #[inline(always)]
    pub fn slots(&self) -> Slot {
        self.entries.len() as Slot
    }

    /// The hash a key was inserted with; none if the slot is empty.
    #[inline(always)]
    pub fn hash(&self, slot: Slot) -> Option<u64> {
        Some(self.entry(slot)?.full_hash())
    }

    /// Takes a key out; none if the slot is empty. The slot stays empty until [`KeyTable::end_batch`].
    pub fn remove(&mut self, slot: Slot) -> Option<(K, V)> {
        let entry = self.entries.get_mut(slot as usize)?.take()?;
        let indexed = self.index.remove(entry.hash.0.get(), slot);
        debug_assert!(indexed || self.drained.is_some(), "a live entry is in the index");
        self.live -= 1;
        let empty = if mutant::is("slot_reused_in_batch") { &mut self.free } else { &mut self.removed };
        empty.push(slot);
        Some((entry.key, entry.value))
    }

    /// Ends a batch: slots emptied so far may be given to new keys from now on.
    #[inline]
    pub fn end_batch(&mut self) {
        self.free.append(&mut self.removed);
    }

    /// The live entries as slot, hash, key and value, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, u64, &K, &V)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(i, e)| e.as_ref().map(|e| (i as Slot, e.full_hash(), &e.key, &e.value)))
    }

    /// Writes key and value at a slot into a section of a snapshot; false if the slot is empty.
    ///
    /// # Errors
    /// If the type of the value cannot be encoded.
    #[inline]
    pub fn put_entry(&self, slot: Slot, into: &mut Section) -> Result<bool>
    where
        V: Serialize,
    {
        let Some(entry) = self.entry(slot) else { return Ok(false) };
        into.put_slot(slot, Some(&(&entry.key, &entry.value)))?;
        Ok(true)
    }

    /// Hands over up to `max` entries as hash, key and value, in the order of their slots, and tells whether
    /// there are more. After the last one the table is empty, ready for use, and keeps its memory. Until then
    /// nothing can be looked up or inserted.
    pub fn drain(&mut self, max: usize, mut sink: impl FnMut(u64, K, V)) -> bool {
        self.drain_slots(max, |_, hash, key, value| sink(hash, key, value))
    }

    /// As [`KeyTable::drain`], with the slot of each entry.
    pub fn drain_slots(&mut self, max: usize, mut sink: impl FnMut(Slot, u64, K, V)) -> bool {
        if self.drained.is_none() {
            self.index.clear();
        }
        let mut at = self.drained.unwrap_or(0);
        let mut left = max;
        while at < self.entries.len() && left > 0 {
            let entry = self.entries.get_mut(at).and_then(Option::take);
            let slot = at as Slot;
            at += 1;
            self.drained = Some(at);
            if let Some(entry) = entry {
                left -= 1;
                self.live -= 1;
                sink(slot, entry.full_hash(), entry.key, entry.value);
            }
        }
        self.drained = Some(at);
        if self.live > 0 {
            return true;
        }
        self.entries.clear();
        self.free.clear();
        self.removed.clear();
        self.drained = None;
        false
    }

    /// Drops all entries and gives the memory back.
    pub fn release(&mut self) {
        *self = KeyTable { slots_max: self.slots_max, ..KeyTable::new() };
    }
}

impl<K: Key, V> Entry<K, V> {
    #[inline(always)]
    fn full_hash(&self) -> u64 {
        if self.hash.0 == ZERO_HASH { hash_of(&self.key) } else { self.hash.0.get() }
    }
}

#[cold]
fn too_many_keys(slots_max: usize) -> Error {
    Error::Memory(format!(
        "a keyed table holds {slots_max} keys, the most that one subtask can keep, and got a new one; \
         raise the parallelism, or let state expire"
    ))
}

struct Resolve<'a, K, F> {
    keys: &'a [K],
    slots: &'a mut Vec<Slot>,
    created: &'a mut Vec<Slot>,
    fresh: F,
}

impl<K: Key, V, F: FnMut() -> V> Upsert<K, V> for Resolve<'_, K, F> {
    #[inline(always)]
    fn is_key(&self, i: usize, key: &K) -> bool {
        self.keys[i] == *key
    }
    #[inline(always)]
    fn found(&mut self, _: usize, slot: Slot, _: &mut V) -> Result<()> {
        self.slots.push(slot);
        Ok(())
    }
    fn insert(&mut self, i: usize, slot: Slot) -> Result<(K, V)> {
        self.slots.push(slot);
        self.created.push(slot);
        Ok((self.keys[i].clone(), (self.fresh)()))
    }
}

mod bulk;
#[cfg(test)]
mod tests;

//! Keys: the buffers of all keys, or of the one key at hand.

use super::buffer::{Buffer, Item};
use super::function::JoinFunction;
use super::interval::Reach;
use super::{Inputs, MAX, by_side};
use crate::base::batch::Batch;
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::Result;
use crate::base::hash::hash_of;
use crate::operator::Out;
use crate::operator::RuntimeContext;
use crate::operator::exchange::KeySelector;
use crate::semantics::state::{
    KeyTable, OperatorSnapshot, OperatorState, Slot, StateScope, prefetch_element,
};

/// Section of the snapshot with an entry for each key.
const SECTION: &str = "interval join";

/// What is kept for a key.
pub(super) struct Buffers<L, R> {
    pub left: Buffer<L>,
    pub right: Buffer<R>,
    /// When the key's timer is due; at the maximum there may be none.
    pub timer: Timestamp,
}

impl<L, R> Default for Buffers<L, R> {
    fn default() -> Self {
        Buffers { left: Buffer::default(), right: Buffer::default(), timer: MAX }
    }
}

/// Up to which timestamp the records of each side have expired; none if nothing has.
pub(super) type Expired = Inputs<Option<Timestamp>, Option<Timestamp>>;

/// A key in a snapshot, with its left and right records, each with timestamp and mark.
type Entry<K, L, R> = (K, Vec<(Timestamp, bool, L)>, Vec<(Timestamp, bool, R)>);

impl<L, R> Buffers<L, R> {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.left.items.is_empty() && self.right.items.is_empty()
    }

    /// Drops what has expired, and emits those records without a partner that are to be emitted, in the order in which
    /// they expire. False if `out` is full before the end.
    #[inline(always)]
    pub fn expire<F: JoinFunction<L, R>>(
        &mut self,
        expired: Expired,
        reach: Inputs<Reach, Reach>,
        f: &mut F,
        out: &mut Out<F::Out>,
    ) -> bool {
        if !F::LEFT {
            self.left.drop_to(expired.left);
        }
        if !F::RIGHT {
            self.right.drop_to(expired.right);
        }
        !(F::LEFT || F::RIGHT) || self.expire_outer(expired, reach, f, out)
    }

    fn expire_outer<F: JoinFunction<L, R>>(
        &mut self,
        expired: Expired,
        reach: Inputs<Reach, Reach>,
        f: &mut F,
        out: &mut Out<F::Out>,
    ) -> bool {
        let expiry = |ts: Timestamp, reach: Reach| i128::from(ts) + reach.to;
        loop {
            let left = self.left.first_to(expired.left);
            let right = self.right.first_to(expired.right);
            let left_first = match (left, right) {
                (None, None) => return true,
                (Some(left), Some(right)) => expiry(left.ts, reach.left) <= expiry(right.ts, reach.right),
                (left, _) => left.is_some(),
            };
            let matched = if left_first { left.map(|i| i.matched) } else { right.map(|i| i.matched) };
            if matched == Some(false) && out.is_full() {
                return false;
            }
            let alone = if left_first {
                let item = self.left.items.pop_front().filter(|item| !item.matched);
                item.and_then(|item| Some((f.left(&item.value)?, item.ts)))
            } else {
                let item = self.right.items.pop_front().filter(|item| !item.matched);
                item.and_then(|item| Some((f.right(&item.value)?, item.ts)))
            };
            if let Some((value, ts)) = alone {
                out.push(value, Some(ts));
            }
        }
    }

    /// When a timer should be due: as the first record expires on a side whose records are emitted without a partner;
    /// on others as the last expires, but not more than the width of the interval after the first.
    pub fn due<F: JoinFunction<L, R>>(&self, reach: Inputs<Reach, Reach>) -> Option<Timestamp> {
        fn due<T>(buffer: &Buffer<T>, reach: Reach, exact: bool) -> Option<Timestamp> {
            let (first, last) = (buffer.items.front()?, buffer.items.back()?);
            Some(match exact {
                true => reach.expiry(first.ts, 0),
                false => reach.expiry(first.ts, reach.width()).min(reach.expiry(last.ts, 0)),
            })
        }
        let left = due(&self.left, reach.left, F::LEFT);
        let right = due(&self.right, reach.right, F::RIGHT);
        match (left, right) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (left, right) => left.or(right),
        }
    }

    /// Starts loading the ends of the buffers.
    #[inline(always)]
    fn prefetch(&self) {
        fn ends<T>(buffer: &Buffer<T>) {
            let (front, back) = buffer.items.as_slices();
            prefetch_element(front, 0);
            let last = if back.is_empty() { front } else { back };
            prefetch_element(last, last.len().saturating_sub(1));
        }
        ends(&self.left);
        ends(&self.right);
    }
}

/// The buffers by key.
pub(super) enum Keys<K, L, R> {
    /// Of all keys.
    All(KeyTable<K, Buffers<L, R>>),
    /// Of the key whose records come now.
    One(Option<K>, Buffers<L, R>),
}

/// Slots of a batch; what the buffers are found by.
pub(super) struct Found<K> {
    /// Slot of each record that is still in the batch, the next one last.
    pub slots: Vec<Slot>,
    /// Slots that may have become empty.
    pub emptied: Vec<Slot>,
    keys: Vec<K>,
    created: Vec<Slot>,
}

impl<K> Found<K> {
    pub fn new() -> Self {
        Found { slots: Vec::new(), emptied: Vec::new(), keys: Vec::new(), created: Vec::new() }
    }
}

impl<K: Key, L: Data, R: Data> Keys<K, L, R> {
    pub fn new(scope: StateScope) -> Self {
        match scope {
            StateScope::AllKeys => Keys::All(KeyTable::new()),
            StateScope::OneKey => Keys::One(None, Buffers::default()),
        }
    }

    /// Finds the slot of each record, then turns the batch around so that records are taken from its end.
    pub fn look_up<T: Data>(
        &mut self,
        batch: &mut Batch<T>,
        selector: &dyn KeySelector<T, K>,
        found: &mut Found<K>,
    ) -> Result<()> {
        match self {
            Keys::All(table) => {
                found.keys.clear();
                selector.keys(&batch.values, &mut found.keys);
                if batch.hashes.len() != batch.len() {
                    batch.hashes.clear();
                    batch.hashes.extend(found.keys.iter().map(hash_of));
                }
                let Found { slots, keys, created, .. } = found;
                table.resolve(keys, &batch.hashes, slots, created, Buffers::default)?;
                slots.reverse();
            }
            Keys::One(key, _) => {
                if let (None, Some(first)) = (&key, batch.values.first()) {
                    *key = Some(selector.key(first));
                }
                found.slots.clear();
                found.slots.resize(batch.len(), 0);
            }
        }
        batch.reverse();
        Ok(())
    }

    #[inline(always)]
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Buffers<L, R>> {
        match self {
            Keys::All(table) => table.value_mut(slot),
            Keys::One(_, buffers) => Some(buffers),
        }
    }

    /// Starts loading entries.
    pub fn prefetch_entries(&self, slots: impl Iterator<Item = Slot>) {
        if let Keys::All(table) = self {
            slots.for_each(|slot| table.prefetch(slot));
        }
    }

    /// Starts loading the ends of buffers whose entries are there.
    pub fn prefetch_buffers(&self, slots: impl Iterator<Item = Slot>) {
        if let Keys::All(table) = self {
            slots.filter_map(|slot| table.value(slot)).for_each(Buffers::prefetch);
        }
    }

    /// Forgets those of the emptied keys that are still empty.
    pub fn release(&mut self, emptied: &mut Vec<Slot>) {
        if let Keys::All(table) = self {
            for &slot in &*emptied {
                if table.value(slot).is_some_and(Buffers::is_empty) {
                    table.remove(slot);
                }
            }
            table.end_batch();
        }
        emptied.clear();
    }

    /// Writes the records that have not expired.
    pub fn snapshot(&self, expired: Expired, into: &mut OperatorSnapshot) -> Result<()> {
        fn live<T>(buffer: &Buffer<T>, expired: Option<Timestamp>) -> Vec<(Timestamp, bool, &T)> {
            let live = buffer.items.iter().filter(|item| expired.is_none_or(|to| item.ts > to));
            live.map(|item| (item.ts, item.matched, &item.value)).collect()
        }
        let section = into.section(SECTION);
        let mut put = |key: &K, buffers: &Buffers<L, R>| {
            let (left, right) = (live(&buffers.left, expired.left), live(&buffers.right, expired.right));
            if left.is_empty() && right.is_empty() {
                return Ok(());
            }
            section.put(&(key, left, right))
        };
        match self {
            Keys::All(table) => table.iter().try_for_each(|(_, _, key, buffers)| put(key, buffers))?,
            Keys::One(Some(key), buffers) => put(key, buffers)?,
            Keys::One(None, _) => (),
        }
        Ok(())
    }

    /// Takes up what [`Keys::snapshot`] wrote; `restored` is called for each key.
    pub fn restore(
        &mut self,
        state: &OperatorState,
        runtime: &RuntimeContext,
        mut restored: impl FnMut(Slot, &mut Buffers<L, R>),
    ) -> Result<()> {
        fn fill<T>(buffer: &mut Buffer<T>, items: Vec<(Timestamp, bool, T)>) {
            items.into_iter().for_each(|(ts, matched, value)| buffer.insert(Item { ts, matched, value }));
        }
        let (mut slots, mut created) = (Vec::new(), Vec::new());
        for entry in state.entries::<Entry<K, L, R>>(SECTION) {
            let (key, left, right) = entry?;
            let slot = match self {
                Keys::All(table) => {
                    let hash = hash_of(&key);
                    if !runtime.owns(hash) {
                        continue;
                    }
                    table.resolve(&[key], &[hash], &mut slots, &mut created, Buffers::default)?;
                    slots.first().copied().unwrap_or(0)
                }
                Keys::One(current, _) => {
                    *current = Some(key);
                    0
                }
            };
            if let Some(buffers) = self.get_mut(slot) {
                fill(&mut buffers.left, left);
                fill(&mut buffers.right, right);
                restored(slot, buffers);
            }
        }
        Ok(())
    }
}

/// What has expired at a watermark.
pub(super) fn expired_at(watermark: Timestamp, reach: Inputs<Reach, Reach>) -> Expired {
    by_side(reach.left.expired_to(watermark), reach.right.expired_to(watermark))
}

//! Keys: the buffers of all keys, or of the one key at hand.

use super::buffer::{Buffer, Item};
use super::function::JoinFunction;
use super::interval::Reach;
use super::{Inputs, MAX, by_side};
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::exchange::KeySelector;
use crate::operator::{Out, Progress, RuntimeContext, SNAPSHOT_SLICE_BYTES};
use crate::semantics::state::tables::KeyedTable;
use crate::semantics::state::{
    Changes, KeyTable, OperatorSnapshot, OperatorState, Section, Slot, StateScope, StateTable,
    prefetch_element,
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

/// The buffers of all keys, and what has changed of them.
pub(super) struct AllKeys<K, L, R> {
    table: KeyTable<K, Buffers<L, R>>,
    changes: Changes,
    /// What had expired at the last barrier.
    expired: Expired,
}

impl<K: Key, L: Data, R: Data> AllKeys<K, L, R> {
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// The buffers of a slot are about to change: they are written first if a snapshot still needs them.
    #[inline(always)]
    fn changing(&mut self, slot: Slot) -> Result<()> {
        let AllKeys { table, changes, expired } = self;
        changes.changing(slot, |copies| put(table, *expired, slot, copies).map(drop))
    }
}

/// The buffers by key.
pub(super) enum Keys<K, L, R> {
    /// Of all keys.
    All(AllKeys<K, L, R>),
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
            StateScope::AllKeys => Keys::All(AllKeys {
                table: KeyTable::new(),
                changes: Changes::new(),
                expired: by_side(None, None),
            }),
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
            Keys::All(AllKeys { table, changes, .. }) => {
                found.keys.clear();
                selector.keys(&batch.values, &mut found.keys);
                if batch.hashes.len() != batch.len() {
                    batch.hashes.clear();
                    batch.hashes.extend(found.keys.iter().map(hash_of));
                }
                let Found { slots, keys, created, .. } = found;
                table.resolve(keys, &batch.hashes, slots, created, Buffers::default)?;
                created.iter().try_for_each(|&slot| changes.creating(slot))?;
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
    pub fn get(&self, slot: Slot) -> Option<&Buffers<L, R>> {
        match self {
            Keys::All(all) => all.table.value(slot),
            Keys::One(_, buffers) => Some(buffers),
        }
    }

    /// The buffers of a slot, to be changed.
    #[inline(always)]
    pub fn get_mut(&mut self, slot: Slot) -> Result<Option<&mut Buffers<L, R>>> {
        Ok(match self {
            Keys::All(all) => {
                all.changing(slot)?;
                all.table.value_mut(slot)
            }
            Keys::One(_, buffers) => Some(buffers),
        })
    }

    /// Starts loading entries.
    pub fn prefetch_entries(&self, slots: impl Iterator<Item = Slot>) {
        if let Keys::All(all) = self {
            slots.for_each(|slot| all.table.prefetch(slot));
        }
    }

    /// Starts loading the ends of buffers whose entries are there.
    pub fn prefetch_buffers(&self, slots: impl Iterator<Item = Slot>) {
        if let Keys::All(all) = self {
            slots.filter_map(|slot| all.table.value(slot)).for_each(Buffers::prefetch);
        }
    }

    /// Forgets those of the emptied keys that are still empty.
    pub fn release(&mut self, emptied: &mut Vec<Slot>) -> Result<()> {
        if let Keys::All(all) = self {
            for &slot in &*emptied {
                if all.table.value(slot).is_some_and(Buffers::is_empty) {
                    all.changing(slot)?;
                    all.table.remove(slot);
                }
            }
            all.table.end_batch();
        }
        emptied.clear();
        Ok(())
    }

    /// The cut at a barrier: the records that have not expired.
    pub fn snapshot(
        &mut self,
        barrier: Barrier,
        expired: Expired,
        into: &mut OperatorSnapshot,
    ) -> Result<Progress> {
        let all = match self {
            Keys::All(all) => all,
            Keys::One(None, _) => return Ok(Progress::Done),
            Keys::One(Some(_), _) => {
                return Err(Error::Internal("a snapshot was asked for in the middle of a key".into()));
            }
        };
        all.changes.cut(barrier.full, all.table.slots());
        all.expired = expired;
        self.snapshot_more(into)
    }

    /// Writes more of the cut.
    pub fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        let Keys::All(AllKeys { table, changes, expired }) = self else { return Ok(Progress::Done) };
        let section = into.section(SECTION);
        let done =
            changes.write(section, SNAPSHOT_SLICE_BYTES, |slot, into| put(table, *expired, slot, into))?;
        Ok(if done { Progress::Done } else { Progress::Yielded })
    }

    /// What snapshots hold: of each key the records of both inputs, with their times, and whether they have been joined.
    pub fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![KeyedTable::<Entry<K, L, R>>::boxed(SECTION, &["key", "left", "right"])]
    }

    /// Takes up what [`Keys::snapshot`] wrote; `restored` is called for each key.
    pub fn restore(
        &mut self,
        state: &OperatorState,
        runtime: &RuntimeContext,
        mut restored: impl FnMut(Slot, &mut Buffers<L, R>),
    ) -> Result<()> {
        fn filled<T>(items: Vec<(Timestamp, bool, T)>) -> Buffer<T> {
            let mut buffer = Buffer::default();
            items.into_iter().for_each(|(ts, matched, value)| buffer.insert(Item { ts, matched, value }));
            buffer
        }
        let Keys::All(AllKeys { table, .. }) = self else { return Ok(()) };
        table.reserve(state.table_len(SECTION) / runtime.parallelism());
        let entries = state.table::<Entry<K, L, R>>(SECTION).map(|entry| {
            let (_, _, (key, left, right)) = entry?;
            Ok((key, Buffers { left: filled(left), right: filled(right), timer: MAX }))
        });
        // What had nothing but expired records is not kept.
        let live = entries.filter(|entry| entry.as_ref().map_or(true, |(_, buffers)| !buffers.is_empty()));
        table.insert_all(live, |hash| runtime.owns(hash))?;
        for slot in 0..table.slots() {
            if let Some(buffers) = table.value_mut(slot) {
                restored(slot, buffers);
            }
        }
        Ok(())
    }
}

/// Writes a key with its records, but for those that have expired; false if the slot is empty.
fn put<K: Key, L: Data, R: Data>(
    table: &KeyTable<K, Buffers<L, R>>,
    expired: Expired,
    slot: Slot,
    into: &mut Section,
) -> Result<bool> {
    fn live<T>(buffer: &Buffer<T>, expired: Option<Timestamp>) -> Vec<(Timestamp, bool, &T)> {
        let live = buffer.items.iter().filter(|item| expired.is_none_or(|to| item.ts > to));
        live.map(|item| (item.ts, item.matched, &item.value)).collect()
    }
    let Some((key, buffers)) = table.key(slot).zip(table.value(slot)) else { return Ok(false) };
    let (left, right) = (live(&buffers.left, expired.left), live(&buffers.right, expired.right));
    into.put_slot(slot, Some(&(key, left, right)))?;
    Ok(true)
}

/// What has expired at a watermark.
pub(super) fn expired_at(watermark: Timestamp, reach: Inputs<Reach, Reach>) -> Expired {
    by_side(reach.left.expired_to(watermark), reach.right.expired_to(watermark))
}

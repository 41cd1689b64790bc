//! MapState: a map for each key.

use super::ages::{Aged, AgedMut, OfEntries};
use super::column::Handle;
use super::scope::KeyedAccess;
use crate::base::data::{Key, State};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

/// A handle to a map for each key; made by [`States::map`](super::States::map). State per key: the entries, in the
/// order of their map keys; a key whose map is empty keeps nothing.
///
/// The pages that a user came to a second time:
///
/// ```
/// # use mainstem::prelude::*;
/// struct Pages { visits: MapState<String, u32> }
/// impl KeyedProcessFunction<u32, (u32, String), (u32, String)> for Pages {
///     fn process(
///         &mut self,
///         (user, page): (u32, String),
///         ctx: &mut KeyedContext<u32>,
///         out: &mut Collector<'_, (u32, String)>,
///     ) -> UserResult {
///         let visits = self.visits.update(ctx, page.clone(), |visits| { *visits += 1; *visits });
///         if visits == 2 {
///             out.emit((user, page));
///         }
///         Ok(())
///     }
/// }
/// for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
///     let env = Environment::new().execution_mode(mode);
///     let again = env
///         .from_iter([(1, "in"), (2, "in"), (1, "out"), (1, "in"), (1, "in")].map(|(n, page)| (n, page.to_string())))
///         .key_by(|record| record.0)
///         .process(|states| Pages { visits: states.map("visits") });
///     assert_eq!(again.execute_and_collect("again")?.into_vec()?, [(1, "in".to_string())]);
/// }
/// # Ok::<(), mainstem::Error>(())
/// ```
pub struct MapState<MK, MV> {
    handle: Handle<BTreeMap<MK, MV>, OfEntries<MK>>,
}

impl<MK: Key + Sync, MV: State> MapState<MK, MV> {
    pub(super) fn new(handle: Handle<BTreeMap<MK, MV>, OfEntries<MK>>) -> Self {
        MapState { handle }
    }

    /// The value at a map key.
    #[inline(always)]
    pub fn get<'a, C: KeyedAccess, Q>(&'a self, ctx: &'a C, key: &Q) -> Option<&'a MV>
    where
        MK: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (map, aged) = self.handle.aged(ctx)?;
        let value = map.get(key)?;
        match aged {
            None => Some(value),
            Some(aged) => aged.ages.0.get(key).is_none_or(|stamp| aged.read(stamp)).then_some(value),
        }
    }

    /// The value at a map key to change in place.
    #[inline(always)]
    pub fn get_mut<'a, C: KeyedAccess, Q>(&'a self, ctx: &'a mut C, key: &Q) -> Option<&'a mut MV>
    where
        MK: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.handle.editing(ctx, |edits, barriers, map: Option<&BTreeMap<MK, MV>>| {
            if let Some((map, (own, _))) = map.and_then(|map| Some((map, map.get_key_value(key)?))) {
                edits.entry(barriers, map.len(), || own.clone());
            }
        });
        let (map, aged) = self.handle.open_live(ctx)?;
        let value = map.get_mut(key)?;
        if let Some(aged) = aged
            && let Some(stamp) = aged.ages.0.get_mut(key)
        {
            *stamp.get_mut() = aged.now;
        }
        Some(value)
    }

    /// The value at a map key to change in place, after setting it to `initial()` if there is none.
    #[inline(always)]
    pub fn get_or_insert_with<'a, C: KeyedAccess>(
        &'a self,
        ctx: &'a mut C,
        key: MK,
        initial: impl FnOnce() -> MV,
    ) -> &'a mut MV {
        self.writing(ctx, &key).entry(key).or_insert_with(initial)
    }

    /// The map, in which the entry of a key is about to be written: it is not there if it has expired.
    #[inline(always)]
    fn writing<'a, C: KeyedAccess>(&'a self, ctx: &'a mut C, key: &MK) -> &'a mut BTreeMap<MK, MV> {
        self.handle.editing(ctx, |edits, barriers, map| {
            edits.entry(barriers, map.map_or(0, BTreeMap::len), || key.clone());
        });
        let (cell, aged) = self.handle.open(ctx);
        let map = cell.get_or_insert_default();
        if let Some(aged) = aged {
            write(map, aged, key);
        }
        map
    }

    /// Changes the value at a map key in place, starting from the default if there is none.
    #[inline(always)]
    pub fn update<C: KeyedAccess, R>(&self, ctx: &mut C, key: MK, change: impl FnOnce(&mut MV) -> R) -> R
    where
        MV: Default,
    {
        change(self.get_or_insert_with(ctx, key, MV::default))
    }

    /// Sets the value at a map key; returns the one before.
    #[inline(always)]
    pub fn insert<C: KeyedAccess>(&self, ctx: &mut C, key: MK, value: MV) -> Option<MV> {
        self.writing(ctx, &key).insert(key, value)
    }

    /// Sets the values at several map keys.
    pub fn extend<C: KeyedAccess>(&self, ctx: &mut C, entries: impl IntoIterator<Item = (MK, MV)>) {
        for (key, value) in entries {
            self.insert(ctx, key, value);
        }
    }

    /// Takes the value at a map key out.
    pub fn remove<C: KeyedAccess, Q>(&self, ctx: &mut C, key: &Q) -> Option<MV>
    where
        MK: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.handle.editing(ctx, |edits, barriers, map: Option<&BTreeMap<MK, MV>>| {
            if let Some((map, (own, _))) = map.and_then(|map| Some((map, map.get_key_value(key)?))) {
                edits.entry(barriers, map.len(), || own.clone());
            }
        });
        let (map, aged) = self.handle.open_live(ctx)?;
        let value = map.remove(key);
        if let Some(aged) = aged {
            aged.ages.0.remove(key);
        }
        if map.is_empty() {
            self.handle.take(ctx);
        }
        value
    }

    /// Keeps those entries of the current key for which `keep` is true. With a time to live, that does not count as
    /// using them.
    pub fn retain<C: KeyedAccess>(&self, ctx: &mut C, keep: impl FnMut(&MK, &mut MV) -> bool) {
        self.all_change(ctx);
        let Some((map, aged)) = self.handle.open_live(ctx) else { return };
        map.retain(keep);
        if let Some(aged) = aged {
            aged.ages.0.retain(|key, _| map.contains_key(key));
        }
        if map.is_empty() {
            self.handle.take(ctx);
        }
    }

    fn all_change<C: KeyedAccess>(&self, ctx: &mut C) {
        self.handle.editing(ctx, |edits, barriers, map: Option<&BTreeMap<MK, MV>>| {
            edits.all(barriers, map.map_or(0, BTreeMap::len));
        });
    }

    /// Whether there is a value at a map key.
    pub fn contains_key<C: KeyedAccess, Q>(&self, ctx: &C, key: &Q) -> bool
    where
        MK: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get(ctx, key).is_some()
    }

    /// The entries of the current key, in the order of their map keys.
    pub fn iter<'a, C: KeyedAccess>(
        &'a self,
        ctx: &'a C,
    ) -> impl DoubleEndedIterator<Item = (&'a MK, &'a MV)> {
        let (map, aged) = self.handle.aged(ctx).unzip();
        map.into_iter().flatten().filter(reads(aged.flatten()))
    }

    /// The entries of the current key to change in place, in the order of their map keys.
    pub fn iter_mut<'a, C: KeyedAccess>(
        &'a self,
        ctx: &'a mut C,
    ) -> impl DoubleEndedIterator<Item = (&'a MK, &'a mut MV)> {
        self.all_change(ctx);
        let (map, aged) = self.handle.open_live(ctx).unzip();
        if let (Some(map), Some(aged)) = (&map, aged.flatten()) {
            aged.ages.write_all(map.keys(), aged.now);
        }
        map.into_iter().flatten()
    }

    /// The entries whose map keys lie in `range`, in order; none if the range ends before it starts.
    pub fn range<'a, C: KeyedAccess, Q>(
        &'a self,
        ctx: &'a C,
        range: impl RangeBounds<Q>,
    ) -> impl DoubleEndedIterator<Item = (&'a MK, &'a MV)>
    where
        MK: Borrow<Q>,
        Q: Ord + ?Sized + 'a,
    {
        let (map, aged) = self.handle.aged(ctx).filter(|_| !is_reversed(&range)).unzip();
        let entries = map.map(|map| map.range::<Q, _>(range));
        entries.into_iter().flatten().filter(reads(aged.flatten()))
    }

    /// The map keys of the current key, in order.
    pub fn keys<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> impl DoubleEndedIterator<Item = &'a MK> {
        self.iter(ctx).map(|(key, _)| key)
    }

    /// The values of the current key, in the order of their map keys.
    pub fn values<'a, C: KeyedAccess>(&'a self, ctx: &'a C) -> impl DoubleEndedIterator<Item = &'a MV> {
        self.iter(ctx).map(|(_, value)| value)
    }

    /// Number of entries of the current key. With a time to live all are looked at.
    pub fn len<C: KeyedAccess>(&self, ctx: &C) -> usize {
        match self.handle.aged(ctx) {
            None => 0,
            Some((map, None)) => map.len(),
            Some((_, Some(aged))) => aged.ages.0.values().filter(|stamp| aged.shows(stamp)).count(),
        }
    }

    /// Whether the current key has no entry.
    pub fn is_empty<C: KeyedAccess>(&self, ctx: &C) -> bool {
        match self.handle.aged(ctx) {
            None => true,
            Some((_, None)) => false,
            Some((_, Some(aged))) => !aged.ages.0.values().any(|stamp| aged.shows(stamp)),
        }
    }

    /// Takes the map of the current key out.
    pub fn take<C: KeyedAccess>(&self, ctx: &mut C) -> BTreeMap<MK, MV> {
        self.handle.take(ctx).unwrap_or_default()
    }

    /// Drops the map of the current key.
    pub fn clear<C: KeyedAccess>(&self, ctx: &mut C) {
        self.handle.take(ctx);
    }
}

/// Whether an entry is seen; it has been read then.
#[inline(always)]
fn reads<'a, MK: Key, MV>(aged: Option<Aged<'a, OfEntries<MK>>>) -> impl FnMut(&(&'a MK, &'a MV)) -> bool {
    move |(key, _)| match &aged {
        None => true,
        Some(aged) => aged.ages.0.get(*key).is_none_or(|stamp| aged.read(stamp)),
    }
}

/// The entry of a key is about to be written: it is dropped first if it has expired.
#[cold]
fn write<MK: Key, MV>(map: &mut BTreeMap<MK, MV>, aged: AgedMut<'_, OfEntries<MK>>, key: &MK) {
    let AgedMut { ages, now, limit, shows_expired } = aged;
    if map.is_empty() {
        ages.0.clear();
    }
    if !shows_expired && ages.0.get_mut(key).is_some_and(|stamp| *stamp.get_mut() <= limit) {
        map.remove(key);
    }
    ages.write(key.clone(), now);
}

/// Whether a range is one that `BTreeMap::range` panics at: it ends before it starts, or excludes its only element.
fn is_reversed<Q: Ord + ?Sized>(range: &impl RangeBounds<Q>) -> bool {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
            start > end
        }
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

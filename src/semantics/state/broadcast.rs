//! BroadcastState: a map that every subtask has a copy of.
//!
//! Place: for functions with a broadcast input. All subtasks see the same broadcast records, in an order of their
//! own, so their copies agree if what is written depends on the records only.
//! Method: the context of the broadcast side implements [`BroadcastWrite`], that of the other side [`BroadcastRead`]
//! only: writing there does not compile.

use super::tables::{Erased, Part};
use crate::base::codec;
use crate::base::data::{Key, State};
use crate::base::error::Result;
use qcell::{QCell, QCellOwner};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A context in which broadcast state can be read.
pub trait BroadcastRead {
    /// The token that opens the maps for reading.
    fn broadcast(&self) -> &QCellOwner;
}

/// A context in which broadcast state can be written.
pub trait BroadcastWrite: BroadcastRead {
    /// The token that opens the maps for writing.
    fn broadcast_mut(&mut self) -> &mut QCellOwner;
}

/// A map of broadcast state as the engine sees it.
pub(super) trait AnyBroadcast: Send + Sync {
    /// Appends the map as bytes.
    fn encode(&self, owner: &QCellOwner, into: &mut Vec<u8>) -> Result<()>;
    /// Replaces the map by what [`AnyBroadcast::encode`] wrote.
    fn decode(&self, owner: &mut QCellOwner, from: &[u8]) -> Result<()>;
    /// The parts of the rows of the map in tables of state.
    fn parts(&self) -> Vec<Part>;
    /// Calls `row` with the entries of a map that [`AnyBroadcast::encode`] wrote.
    fn rows(&self, map: &[u8], row: &mut dyn FnMut(&[&dyn Erased]) -> Result<()>) -> Result<()>;
}

impl<K: Key + Sync, V: State> AnyBroadcast for QCell<BTreeMap<K, V>> {
    fn encode(&self, owner: &QCellOwner, into: &mut Vec<u8>) -> Result<()> {
        codec::encode(self.ro(owner), into)
    }
    fn decode(&self, owner: &mut QCellOwner, from: &[u8]) -> Result<()> {
        *self.rw(owner) = codec::decode(from)?;
        Ok(())
    }
    fn parts(&self) -> Vec<Part> {
        vec![Part::of::<K>("map_key"), Part::of::<V>("value")]
    }
    fn rows(&self, map: &[u8], row: &mut dyn FnMut(&[&dyn Erased]) -> Result<()>) -> Result<()> {
        let map: BTreeMap<K, V> = codec::decode(map)?;
        map.iter().try_for_each(|(key, value)| row(&[key, value]))
    }
}

/// A handle to a map that belongs to the subtask, not to a key; made by
/// [`States::broadcast`](super::States::broadcast). It is kept in memory, in the order of its keys, until the subtask
/// ends.
///
/// A context that only reads cannot write:
///
/// ```compile_fail,E0277
/// use mainstem::semantics::state::{BroadcastRead, BroadcastState};
/// fn write<C: BroadcastRead>(rules: &BroadcastState<u64, u64>, ctx: &mut C) {
///     rules.insert(ctx, 1, 2);
/// }
/// ```
///
/// One that writes also reads:
///
/// ```
/// use mainstem::semantics::state::{BroadcastState, BroadcastWrite};
/// fn write<C: BroadcastWrite>(rules: &BroadcastState<u64, u64>, ctx: &mut C) -> bool {
///     rules.insert(ctx, 1, 2);
///     rules.contains_key(ctx, &1)
/// }
/// ```
pub struct BroadcastState<K, V> {
    map: Arc<QCell<BTreeMap<K, V>>>,
}

impl<K: Key + Sync, V: State> BroadcastState<K, V> {
    pub(super) fn new(owner: &QCellOwner) -> Self {
        BroadcastState { map: Arc::new(QCell::new(owner, BTreeMap::new())) }
    }

    pub(super) fn map(&self) -> Arc<dyn AnyBroadcast> {
        self.map.clone()
    }

    #[inline(always)]
    fn read<'a, C: BroadcastRead>(&'a self, ctx: &'a C) -> &'a BTreeMap<K, V> {
        self.map.ro(ctx.broadcast())
    }

    #[inline(always)]
    fn write<'a, C: BroadcastWrite>(&'a self, ctx: &'a mut C) -> &'a mut BTreeMap<K, V> {
        self.map.rw(ctx.broadcast_mut())
    }

    /// The value at a key of the map.
    #[inline(always)]
    pub fn get<'a, C: BroadcastRead, Q>(&'a self, ctx: &'a C, key: &Q) -> Option<&'a V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.read(ctx).get(key)
    }

    /// Whether there is a value at a key of the map.
    pub fn contains_key<C: BroadcastRead, Q>(&self, ctx: &C, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.read(ctx).contains_key(key)
    }

    /// The entries, in the order of their keys.
    pub fn iter<'a, C: BroadcastRead>(&'a self, ctx: &'a C) -> std::collections::btree_map::Iter<'a, K, V> {
        self.read(ctx).iter()
    }

    /// The keys, in order.
    pub fn keys<'a, C: BroadcastRead>(&'a self, ctx: &'a C) -> std::collections::btree_map::Keys<'a, K, V> {
        self.read(ctx).keys()
    }

    /// The values, in the order of their keys.
    pub fn values<'a, C: BroadcastRead>(
        &'a self,
        ctx: &'a C,
    ) -> std::collections::btree_map::Values<'a, K, V> {
        self.read(ctx).values()
    }

    /// Number of entries.
    pub fn len<C: BroadcastRead>(&self, ctx: &C) -> usize {
        self.read(ctx).len()
    }

    /// Whether there is no entry.
    pub fn is_empty<C: BroadcastRead>(&self, ctx: &C) -> bool {
        self.read(ctx).is_empty()
    }

    /// Sets the value at a key; returns the one before.
    pub fn insert<C: BroadcastWrite>(&self, ctx: &mut C, key: K, value: V) -> Option<V> {
        self.write(ctx).insert(key, value)
    }

    /// Changes the value at a key in place, starting from the default if there is none.
    pub fn update<C: BroadcastWrite, R>(&self, ctx: &mut C, key: K, change: impl FnOnce(&mut V) -> R) -> R
    where
        V: Default,
    {
        change(self.write(ctx).entry(key).or_default())
    }

    /// Takes the value at a key out.
    pub fn remove<C: BroadcastWrite, Q>(&self, ctx: &mut C, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.write(ctx).remove(key)
    }

    /// Keeps those entries for which `keep` is true.
    pub fn retain<C: BroadcastWrite>(&self, ctx: &mut C, keep: impl FnMut(&K, &mut V) -> bool) {
        self.write(ctx).retain(keep);
    }

    /// Drops all entries.
    pub fn clear<C: BroadcastWrite>(&self, ctx: &mut C) {
        self.write(ctx).clear();
    }
}

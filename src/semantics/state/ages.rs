//! Ages: when the entries of a cell of state were last used.
//!
//! Place: beside the cells of a [`Column`](super::column::Column) whose state has a time to live; of others there are none.
//! Method: a value has one stamp, a list one for each element, a map one for each entry. Reading may refresh them, through a
//! shared reference, hence the atomics: they are used by one thread at a time.
//! Invariant: the stamps of a list rise, since elements are added at its end and everything else refreshes all: what has
//! expired is a prefix of it.

use super::cells::Cells;
use super::edits::{Edits, EntryEdits, Noting};
use super::scope::KeyedScope;
use super::ttl::{StateTtl, TtlUpdate, TtlVisibility};
use crate::base::codec;
use crate::base::data::{Key, State, Timestamp};
use crate::base::error::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

/// The stamps of what a cell holds.
pub(super) trait Ages<S>:
    Cells<S> + Noting<Edits: Edits<S>> + Default + Send + Sync + Serialize + DeserializeOwned + 'static
{
    /// Whether something was last used at or before `limit`.
    fn has_expired(&self, content: &S, limit: Timestamp) -> bool;
    /// Drops what was last used at or before `limit`. True if nothing is left.
    fn purge(&mut self, content: &mut S, limit: Timestamp) -> bool;
    /// Appends stamps and content, without what was last used at or before `limit`. False if nothing is left.
    fn encode_live(&self, content: &S, limit: Timestamp, into: &mut Vec<u8>) -> Result<bool>;
}

/// The ages of a cell that is being read.
pub(super) struct Aged<'a, A> {
    pub(super) ages: &'a A,
    ttl: StateTtl,
    scope: &'a KeyedScope,
}

impl<'a, A> Aged<'a, A> {
    pub(super) fn new(ages: &'a A, ttl: StateTtl, scope: &'a KeyedScope) -> Self {
        scope.note_access();
        Aged { ages, ttl, scope }
    }

    /// What was last used at or before this has expired.
    pub(super) fn limit(&self) -> Timestamp {
        self.ttl.limit(self.scope.now())
    }

    /// Whether what has expired is seen.
    pub(super) fn shows_expired(&self) -> bool {
        self.ttl.visibility == TtlVisibility::ReturnExpiredIfNotCleanedUp
    }

    /// An entry with this stamp is read: tells whether it is seen.
    pub(super) fn read(&self, stamp: &AtomicI64) -> bool {
        if stamp.load(Relaxed) <= self.limit() {
            self.scope.note_expired();
            return self.shows_expired();
        }
        if self.ttl.update == TtlUpdate::OnReadAndWrite {
            stamp.store(self.scope.now(), Relaxed);
            self.scope.note_change();
        }
        true
    }

    /// Whether an entry is seen that is not used now.
    pub(super) fn shows(&self, stamp: &AtomicI64) -> bool {
        self.shows_expired() || stamp.load(Relaxed) > self.limit()
    }
}

/// The ages of a cell that is being written.
pub(super) struct AgedMut<'a, A> {
    pub(super) ages: &'a mut A,
    pub(super) now: Timestamp,
    pub(super) limit: Timestamp,
    pub(super) shows_expired: bool,
}

/// Of a value as a whole.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Whole(pub(super) AtomicI64);

impl Noting for Whole {
    type Edits = ();
}

impl<S: State> Ages<S> for Whole {
    fn has_expired(&self, _: &S, limit: Timestamp) -> bool {
        self.0.load(Relaxed) <= limit
    }
    fn purge(&mut self, _: &mut S, limit: Timestamp) -> bool {
        *self.0.get_mut() <= limit
    }
    fn encode_live(&self, content: &S, limit: Timestamp, into: &mut Vec<u8>) -> Result<bool> {
        if self.has_expired(content, limit) {
            return Ok(false);
        }
        codec::encode(&(self, content), into).map(|()| true)
    }
}

impl AgedMut<'_, Whole> {
    /// The value is about to be written: it starts anew if it has expired.
    pub(super) fn write<S>(&mut self, cell: &mut Option<S>) {
        if *self.ages.0.get_mut() <= self.limit && !self.shows_expired {
            *cell = None;
        }
        *self.ages.0.get_mut() = self.now;
    }
}

/// Of each element of a list, in its order.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct OfElements(pub(super) Vec<AtomicI64>);

impl OfElements {
    /// How many elements, from the first on, have expired.
    pub(super) fn expired(&self, limit: Timestamp) -> usize {
        self.0.partition_point(|stamp| stamp.load(Relaxed) <= limit)
    }

    /// There are `len` elements now, all just written.
    pub(super) fn write_all(&mut self, len: usize, now: Timestamp) {
        self.0.clear();
        self.write_more(len, now);
    }

    /// There are `len` elements now, those at the end just written.
    pub(super) fn write_more(&mut self, len: usize, now: Timestamp) {
        let last = self.0.last().map_or(Timestamp::MIN, |stamp| stamp.load(Relaxed));
        self.0.resize_with(len, || AtomicI64::new(now.max(last)));
    }
}

impl Noting for OfElements {
    type Edits = ();
}

impl<E: State> Ages<Vec<E>> for OfElements {
    fn has_expired(&self, _: &Vec<E>, limit: Timestamp) -> bool {
        self.expired(limit) > 0
    }
    fn purge(&mut self, list: &mut Vec<E>, limit: Timestamp) -> bool {
        let expired = self.expired(limit);
        self.0.drain(..expired);
        list.drain(..expired.min(list.len()));
        list.is_empty()
    }
    fn encode_live(&self, list: &Vec<E>, limit: Timestamp, into: &mut Vec<u8>) -> Result<bool> {
        let expired = self.expired(limit);
        let (stamps, list) = (self.0.get(expired..), list.get(expired..));
        let Some((stamps, list)) = stamps.zip(list).filter(|(_, list)| !list.is_empty()) else {
            return Ok(false);
        };
        codec::encode(&(stamps, list), into).map(|()| true)
    }
}

/// Of each entry of a map.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "MK: Serialize", deserialize = "MK: DeserializeOwned + Ord"))]
pub(super) struct OfEntries<MK>(pub(super) BTreeMap<MK, AtomicI64>);

impl<MK> Default for OfEntries<MK> {
    fn default() -> Self {
        OfEntries(BTreeMap::new())
    }
}

impl<MK> Noting for OfEntries<MK> {
    type Edits = EntryEdits<MK>;
}

impl<MK: Key + Sync, MV: State> Ages<BTreeMap<MK, MV>> for OfEntries<MK> {
    fn has_expired(&self, _: &BTreeMap<MK, MV>, limit: Timestamp) -> bool {
        self.0.values().any(|stamp| stamp.load(Relaxed) <= limit)
    }
    fn purge(&mut self, map: &mut BTreeMap<MK, MV>, limit: Timestamp) -> bool {
        self.0.retain(|key, stamp| {
            let lives = *stamp.get_mut() > limit;
            if !lives {
                map.remove(key);
            }
            lives
        });
        map.is_empty()
    }
    fn encode_live(&self, map: &BTreeMap<MK, MV>, limit: Timestamp, into: &mut Vec<u8>) -> Result<bool> {
        let lives = |key: &MK| self.0.get(key).is_none_or(|stamp| stamp.load(Relaxed) > limit);
        let stamps: BTreeMap<&MK, &AtomicI64> = self.0.iter().filter(|(key, _)| lives(key)).collect();
        let live: BTreeMap<&MK, &MV> = map.iter().filter(|(key, _)| lives(key)).collect();
        if live.is_empty() {
            return Ok(false);
        }
        codec::encode(&(stamps, live), into).map(|()| true)
    }
}

impl<MK: Key> OfEntries<MK> {
    /// An entry was just written.
    pub(super) fn write(&mut self, key: MK, now: Timestamp) {
        self.0.insert(key, AtomicI64::new(now));
    }

    /// All entries of a map were just written.
    pub(super) fn write_all<'k>(&mut self, keys: impl Iterator<Item = &'k MK>, now: Timestamp) {
        self.0.clear();
        self.0.extend(keys.map(|key| (key.clone(), AtomicI64::new(now))));
    }
}

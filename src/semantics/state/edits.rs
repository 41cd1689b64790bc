//! Edits: which entries of a map have changed since the last barrier, so that a checkpoint of changes need not have the
//! whole map.
//!
//! Place: beside the cells of a [`Column`](super::column::Column); only maps have any, and only those without a time to live,
//! whose stamps change when they are read.
//! Method: barriers are counted. A map notes the keys that were written or removed since a barrier, and which one that was. What
//! a barrier cuts is written before it changes again, so nobody need tell the map that it was written: keys noted since
//! the barrier before the cut are what the cut needs; if keys were noted since an older one, nothing has changed.
//! Invariants: whoever changes a map notes it first. A map that is new, was emptied, is small, or of which much has changed, is
//! written whole. Edits follow, in a chain of snapshots, an entry that has the map.
//! Costs: before the first barrier a comparison for each change; after it, of maps that are not small, a copy of each key that
//! changes, of at most half of the map.

use crate::base::codec;
use crate::base::data::{Key, State};
use crate::base::error::Result;
use std::collections::{BTreeMap, BTreeSet};

/// Maps with fewer entries are written whole: then little is saved, and keys with small maps are many.
pub(super) const SMALL_ENTRIES: usize = 32;

/// What is known of the changes of a cell's content.
pub(super) trait Edits<S>: Default + Send + Sync + 'static {
    /// Appends what has changed between the barrier before `cut` and that; false if the whole is needed.
    fn encode(&self, _content: &S, _cut: u64, _into: &mut Vec<u8>) -> Result<bool> {
        Ok(false)
    }
    /// Changes the content as [`Edits::encode`] wrote.
    fn apply(_content: &mut S, _from: &[u8]) -> Result<()> {
        Err(torn())
    }
}

#[cold]
fn torn() -> crate::base::error::Error {
    crate::base::error::Error::Codec("changes of a state whose changes are not written".into())
}

/// A kind of state: what its cells note of their changes.
pub trait Noting {
    /// See [`Edits`].
    type Edits: Default;
}

/// What is always written whole.
impl<S> Edits<S> for () {}

/// Of a map; nothing where the map is written whole.
pub(super) struct EntryEdits<MK>(Option<Box<Noted<MK>>>);

struct Noted<MK> {
    /// The barrier behind which this was noted.
    since: u64,
    /// Nearly everything has changed.
    whole: bool,
    keys: BTreeSet<MK>,
}

impl<MK> Default for EntryEdits<MK> {
    fn default() -> Self {
        EntryEdits(None)
    }
}

impl<MK: Ord> EntryEdits<MK> {
    /// The entry of a key is about to change behind barrier `since`, of a map with so many entries.
    pub(super) fn entry(&mut self, since: u64, entries: usize, key: impl FnOnce() -> MK) {
        let Some(noted) = self.noted(since, entries) else { return };
        if noted.whole {
            return;
        }
        if noted.keys.len() >= entries / 2 {
            (noted.whole, noted.keys) = (true, BTreeSet::new());
            return;
        }
        noted.keys.insert(key());
    }

    /// Anything may change.
    pub(super) fn all(&mut self, since: u64, entries: usize) {
        if let Some(noted) = self.noted(since, entries) {
            (noted.whole, noted.keys) = (true, BTreeSet::new());
        }
    }

    fn noted(&mut self, since: u64, entries: usize) -> Option<&mut Noted<MK>> {
        if entries + 1 < SMALL_ENTRIES {
            self.0 = None;
            return None;
        }
        // One that grows comes by here, with changes that were not noted. One that is larger already has had none since the
        // first barrier.
        let whole = entries < SMALL_ENTRIES;
        let noted = self.0.get_or_insert_with(|| Box::new(Noted { since, whole, keys: BTreeSet::new() }));
        if noted.since != since {
            **noted = Noted { since, whole: false, keys: BTreeSet::new() };
        }
        Some(noted)
    }
}

impl<MK: Key + Sync, MV: State> Edits<BTreeMap<MK, MV>> for EntryEdits<MK> {
    fn encode(&self, map: &BTreeMap<MK, MV>, cut: u64, into: &mut Vec<u8>) -> Result<bool> {
        let Some(noted) = &self.0 else { return Ok(false) };
        let mut edits: Vec<(&MK, Option<&MV>)> = Vec::new();
        match noted.since.checked_add(1) {
            Some(next) if next < cut => {}
            Some(next) if next == cut && !noted.whole => {
                edits.extend(noted.keys.iter().map(|key| (key, map.get(key))));
            }
            _ => return Ok(false),
        }
        codec::encode(&edits, into).map(|()| true)
    }
    fn apply(map: &mut BTreeMap<MK, MV>, from: &[u8]) -> Result<()> {
        for (key, value) in codec::decode::<Vec<(MK, Option<MV>)>>(from)? {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }
}

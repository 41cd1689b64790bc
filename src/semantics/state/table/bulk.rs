//! Bulk: many entries put into a table at once, when state is restored.

use super::{KeyTable, Slot, Upsert};
use crate::base::data::Key;
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;

/// Entries that are put in together: enough for the pipeline, few enough to stay in the cache.
const BATCH: usize = 1 << 10;

impl<K: Key, V> KeyTable<K, V> {
    /// Puts in entries whose keys are not in the table yet, those for whose hash `owned` holds; the others are dropped.
    ///
    /// # Errors
    /// The first error among the entries; a key that is there already; [`Error::Memory`] when the table has no slot left.
    pub fn insert_all(
        &mut self,
        entries: impl Iterator<Item = Result<(K, V)>>,
        owned: impl Fn(u64) -> bool,
    ) -> Result<()> {
        let mut batch = Entries { keys: Vec::with_capacity(BATCH), values: Vec::with_capacity(BATCH) };
        let mut hashes = Vec::with_capacity(BATCH);
        for entry in entries {
            let (key, value) = entry?;
            let hash = hash_of(&key);
            if !owned(hash) {
                continue;
            }
            hashes.push(hash);
            batch.keys.push(Some(key));
            batch.values.push(Some(value));
            if hashes.len() == BATCH {
                self.insert_batch(&mut hashes, &mut batch)?;
            }
        }
        self.insert_batch(&mut hashes, &mut batch)
    }

    fn insert_batch(&mut self, hashes: &mut Vec<u64>, batch: &mut Entries<K, V>) -> Result<()> {
        self.upsert_batch(hashes, batch)?;
        hashes.clear();
        batch.keys.clear();
        batch.values.clear();
        Ok(())
    }

    /// Makes room for so many more keys than there are, if the table is empty.
    pub fn reserve(&mut self, keys: usize) {
        if self.is_empty() {
            self.index.reserve(keys);
        }
    }
}

/// Entries that are moved into a table.
struct Entries<K, V> {
    keys: Vec<Option<K>>,
    values: Vec<Option<V>>,
}

impl<K: Key, V> Upsert<K, V> for Entries<K, V> {
    #[inline(always)]
    fn is_key(&self, i: usize, key: &K) -> bool {
        self.keys[i].as_ref() == Some(key)
    }
    fn found(&mut self, _: usize, _: Slot, _: &mut V) -> Result<()> {
        Err(Error::Codec("a snapshot holds two entries of one key; it is damaged".into()))
    }
    fn insert(&mut self, i: usize, _: Slot) -> Result<(K, V)> {
        let entry = self.keys[i].take().zip(self.values[i].take());
        entry.ok_or_else(|| Error::Internal("an entry was restored twice".into()))
    }
}

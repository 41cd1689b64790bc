//! KeySelector: from a record to its key, one dynamic call for a batch.

use crate::base::batch::Batch;
use crate::base::codec;
use crate::base::data::{Data, Key};
use crate::base::error::Result;
use crate::base::hash::hash_of;

/// Extracts keys. Must be deterministic: equal records have equal keys, each time.
pub trait KeySelector<T, K>: Send + Sync + 'static {
    /// The key of one record.
    fn key(&self, record: &T) -> K;
    /// Appends the keys of records.
    fn keys(&self, records: &[T], into: &mut Vec<K>);
    /// Appends the hashes of the keys of records.
    fn hashes(&self, records: &[T], into: &mut Vec<u64>);
    /// Checks that the key of a record survives encoding.
    fn check(&self, record: &T) -> Result<()>;
}

/// A closure as a [`KeySelector`].
pub struct FnKey<F>(pub F);

impl<T: Data, K: Key, F: Fn(&T) -> K + Send + Sync + 'static> KeySelector<T, K> for FnKey<F> {
    fn key(&self, record: &T) -> K {
        (self.0)(record)
    }
    fn keys(&self, records: &[T], into: &mut Vec<K>) {
        into.reserve(records.len());
        for (record, place) in records.iter().zip(into.spare_capacity_mut()) {
            // Straight to its place: a key of several words that is passed on by `extend` is built on the stack first.
            place.write((self.0)(record));
        }
        // SAFETY: there was room for as many keys as there are records, so each has been written.
        unsafe { into.set_len(into.len() + records.len()) };
    }
    fn hashes(&self, records: &[T], into: &mut Vec<u64>) {
        into.extend(records.iter().map(|record| hash_of(&(self.0)(record))));
    }
    fn check(&self, record: &T) -> Result<()> {
        codec::check_key(&(self.0)(record))
    }
}

/// The keys of a batch, in place of those in `keys`, and beside its records the hashes of these, unless the edge has computed them.
pub(crate) fn keys_and_hashes<T: Data, K: Key>(
    selector: &dyn KeySelector<T, K>,
    batch: &mut Batch<T>,
    keys: &mut Vec<K>,
) {
    keys.clear();
    selector.keys(&batch.values, keys);
    if batch.hashes.len() != batch.len() {
        batch.hashes.clear();
        batch.hashes.extend(keys.iter().map(hash_of));
    }
}

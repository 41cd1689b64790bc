//! HeapEstimate: what the entries of a table hold on the heap, which `size_of` does not see.

use crate::base::codec;
use crate::base::data::Data;

/// One of so many new entries is encoded.
const SAMPLED_ENTRIES: u64 = 256;

/// Estimates the heap memory behind entries from encoded samples.
#[derive(Default)]
pub(crate) struct HeapEstimate {
    entries: u64,
    sampled: u64,
    sampled_bytes: u64,
}

impl HeapEstimate {
    #[inline(always)]
    pub(crate) fn inserted<E: Data>(&mut self, entry: &E) {
        if std::mem::needs_drop::<E>() {
            if self.entries.is_multiple_of(SAMPLED_ENTRIES) || self.entries < 16 {
                self.sample(entry);
            }
            self.entries += 1;
        }
    }
    #[inline(never)]
    pub(crate) fn sample<E: Data>(&mut self, entry: &E) {
        if let Some(bytes) = codec::encoded_len(entry) {
            self.sampled += 1;
            self.sampled_bytes += bytes;
        }
    }
    pub(crate) fn bytes(&self, entries: u64) -> u64 {
        (self.sampled_bytes * entries).checked_div(self.sampled).unwrap_or(0)
    }
}

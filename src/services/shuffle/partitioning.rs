//! Partitioning: which range of hashes belongs to which partition.
//!
//! Method: the caller's function is monotone in the hash, so the lowest hash of every partition is found once by
//! bisection. A sorted run is then cut by comparing with one number per row.

use crate::base::error::{Error, Result};
use std::sync::Arc;

/// The ranges of hashes of a number of partitions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Partitioning {
    /// `starts[p]`: the lowest hash whose partition is at least `p`; 2^64 if there is none. `starts[0]` is 0.
    starts: Arc<[u128]>,
}

impl Partitioning {
    /// Cuts the hashes into `count` partitions by `partition_of`, which must be monotone.
    ///
    /// # Errors
    /// If `count` is 0 or the highest hash falls into a partition that does not exist.
    pub fn new(count: usize, partition_of: impl Fn(u64) -> usize) -> Result<Partitioning> {
        let highest = partition_of(u64::MAX);
        if count == 0 || highest >= count {
            return Err(Error::Internal(format!(
                "a shuffle has {count} partitions but its highest hash falls into partition {highest}"
            )));
        }
        let mut starts = Vec::with_capacity(count);
        let mut low = 0u128;
        for partition in 0..count {
            let mut high = 1u128 << 64;
            while low < high {
                let middle = (low + high) / 2;
                if partition_of(middle as u64) >= partition { high = middle } else { low = middle + 1 }
            }
            starts.push(low);
        }
        Ok(Partitioning { starts: starts.into() })
    }

    /// One partition for all hashes.
    pub fn single() -> Partitioning {
        Partitioning { starts: Arc::new([0]) }
    }

    /// Number of partitions.
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// The partition of a hash.
    pub fn partition_of(&self, hash: u64) -> usize {
        self.starts.partition_point(|&start| start <= hash as u128) - 1
    }

    /// The highest hash that belongs to the partition or to one below it, if there is any.
    pub(super) fn last_hash(&self, partition: usize) -> u64 {
        match self.starts.get(partition + 1) {
            Some(&next) => next.saturating_sub(1) as u64,
            None => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::{hash_of, key_group, subtask_of_group};

    #[test]
    fn agrees_with_the_function_it_was_made_from() {
        for (max, parallelism) in [(128, 1), (128, 3), (128, 128), (7, 5), (32_768, 1000)] {
            let function = |hash| subtask_of_group(key_group(hash, max), parallelism, max);
            let cut = Partitioning::new(parallelism, function).unwrap();
            let edges = (0..parallelism).flat_map(|p| [cut.last_hash(p), cut.last_hash(p).saturating_add(1)]);
            for hash in (0..2000u64).map(|i| hash_of(&i)).chain([0, 1, u64::MAX]).chain(edges) {
                assert_eq!(cut.partition_of(hash), function(hash), "{hash} of {parallelism}");
            }
        }
    }

    #[test]
    fn partitions_without_any_hash_are_empty() {
        let cut = Partitioning::new(6, |hash| if hash < 10 { 1 } else { 4 }).unwrap();
        assert_eq!((cut.partition_of(0), cut.partition_of(9), cut.partition_of(10)), (1, 1, 4));
        assert_eq!(cut.partition_of(u64::MAX), 4);
        assert_eq!(cut.count(), 6);
    }

    #[test]
    fn a_partition_out_of_range_is_refused() {
        assert!(Partitioning::new(0, |_| 0).is_err());
        assert!(Partitioning::new(4, |hash| (hash >> 61) as usize).is_err());
    }
}

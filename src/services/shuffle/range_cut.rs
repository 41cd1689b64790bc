//! RangeCut: where sorted outputs are cut, so that each of several consumers reads a range of about equal size.
//!
//! Place: for rows whose hash is the prefix of a sort key (see [`SortKey`](crate::SortKey)). Every consumer computes the
//! cut for itself and comes to the same.
//! Method: each buffer keeps a [`Sample`] of the hashes of its rows as they come: every row at first, then every second,
//! every fourth, so that it stays small. The cut is at the quantiles of all samples, each weighted with the rows that
//! one of it stands for.
//! Invariants: rows of equal hash are in one range. The same rows in the same order give the same cut, wherever they
//! were kept and however often they were merged.
//! Costs and limits: at most 64 KiB for each producer; ranges of many rows are off by a percent or two, unless one hash
//! has more rows than a range should.

use super::merge::{MergeInput, in_order};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Hashes that a sample holds at most.
const SAMPLE_MAX: usize = 8192;

/// Hashes of some rows, in the order in which they came: each stands for as many rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sample {
    hashes: Vec<u64>,
    /// Rows that one stands for, as a power of two.
    stride_log: u32,
    rows: u64,
}

impl Sample {
    /// Sees a row.
    #[inline(always)]
    pub(super) fn row(&mut self, hash: u64) {
        if self.rows & ((1 << self.stride_log) - 1) == 0 {
            self.take(hash);
        }
        self.rows += 1;
    }

    fn take(&mut self, hash: u64) {
        if self.hashes.len() == SAMPLE_MAX {
            let mut index = 0;
            self.hashes.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride_log += 1;
            if self.rows & ((1 << self.stride_log) - 1) != 0 {
                return;
            }
        }
        self.hashes.push(hash);
    }
}

/// The hashes at which ranges start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeCut {
    /// Lowest hash of each range but the first.
    starts: Vec<u64>,
}

impl RangeCut {
    /// Cuts the rows of the outputs into so many ranges. They must have been sampled.
    pub fn new(count: usize, inputs: &[MergeInput]) -> RangeCut {
        let mut sample: Vec<(u64, u64)> = Vec::new();
        for input in in_order(inputs) {
            let Sample { hashes, stride_log, .. } = input.output.sample();
            sample.extend(hashes.iter().map(|&hash| (hash, 1 << stride_log)));
        }
        sample.sort_unstable();
        let total: u128 = sample.iter().map(|&(_, rows)| u128::from(rows)).sum();
        let mut starts = Vec::with_capacity(count.saturating_sub(1));
        let (mut before, mut at) = (0u128, 0);
        for range in 1..count {
            let wanted = total * range as u128 / count as u128;
            while at < sample.len() && before < wanted {
                before += u128::from(sample[at].1);
                at += 1;
            }
            starts.push(sample.get(at).map_or(u64::MAX, |&(hash, _)| hash));
        }
        RangeCut { starts }
    }

    /// The hashes of a range; none if there is no such range, or nothing is in it.
    pub fn hashes(&self, range: usize) -> Option<RangeInclusive<u64>> {
        let first = match range.checked_sub(1) {
            None => 0,
            Some(before) => *self.starts.get(before)?,
        };
        let last = match self.starts.get(range) {
            Some(next) => next.checked_sub(1)?,
            None => u64::MAX,
        };
        (first <= last).then_some(first..=last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_stays_small_and_even() {
        let mut sample = Sample::default();
        for hash in 0..1_000_003u64 {
            sample.row(hash);
        }
        let stride = 1 << sample.stride_log;
        assert!((SAMPLE_MAX / 2..=SAMPLE_MAX).contains(&sample.hashes.len()));
        assert!(sample.hashes.iter().enumerate().all(|(i, &hash)| hash == i as u64 * stride));
    }
}

//! Keyed sum, written by hand: a running sum and count per key, or the final sum per key.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::exchange::{self, Fold};
use crate::harness::data::Event;
use crate::harness::{Job, ProgramResult};

/// One output (sum so far, count so far) per event.
pub fn running(job: &Job) -> ProgramResult {
    let [outputs, counts, _sum] = exchange::run::<Running>(job.records, job.keys);
    // Running sums depend on how the two threads interleave, running counts in all do not.
    Ok(format!("outputs:{outputs},running-counts:{counts}"))
}

/// One output (sum) per key, at the end.
pub fn last(job: &Job) -> ProgramResult {
    let [outputs, sum, check] = exchange::run::<Last>(job.records, job.keys);
    Ok(format!("outputs:{outputs},final-sum:{sum},check:{check}"))
}

#[derive(Default)]
struct Running {
    by_key: HashMap<u64, (i64, i64), FixedState>,
    outputs: u64,
    counts: u64,
}

impl Fold for Running {
    fn on_batch(&mut self, events: &[Event], _watermark: i64) {
        for &(key, _, value) in events {
            let (sum, count) = self.by_key.entry(key).or_insert((0, 0));
            *sum += value;
            *count += 1;
            self.outputs += 1;
            self.counts = self.counts.wrapping_add(*count as u64);
        }
    }

    fn finish(self) -> [u64; 3] {
        let sum: i64 = self.by_key.values().map(|(sum, _)| sum).sum();
        // The process ends now; returning the pages one by one is no part of the job.
        std::mem::forget(self.by_key);
        [self.outputs, self.counts, sum as u64]
    }
}

#[derive(Default)]
struct Last {
    by_key: HashMap<u64, i64, FixedState>,
}

impl Fold for Last {
    fn on_batch(&mut self, events: &[Event], _watermark: i64) {
        for &(key, _, value) in events {
            *self.by_key.entry(key).or_insert(0) += value;
        }
    }

    fn finish(self) -> [u64; 3] {
        let outputs = self.by_key.len() as u64;
        let (mut total, mut check) = (0u64, 0u64);
        for (&key, &sum) in &self.by_key {
            total = total.wrapping_add(sum as u64);
            check = check.wrapping_add(last_check(key, sum));
        }
        std::mem::forget(self.by_key);
        [outputs, total, check]
    }
}

/// What one result of the final sum adds to the checksum: ties the sum to its key.
#[inline(always)]
pub fn last_check(key: u64, sum: i64) -> u64 {
    key.wrapping_mul(sum as u64)
}

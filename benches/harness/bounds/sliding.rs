//! Oracle of sliding windows: what all windows together hold, computed without any window.
//!
//! Method: a record is in as many windows as there are slides in a size. A key has a window wherever one of its slices
//! is among the slices of the window: a bit for each slice of each key, and runs of bits tell how many.

use crate::harness::data::event;
use crate::harness::{Job, ProgramResult};

/// Results, records in them and the sum of their values, for windows of `size_ms` every `slide_ms`, which divides it.
pub fn totals(job: &Job, size_ms: i64, slide_ms: i64) -> ProgramResult {
    let windows = (size_ms / slide_ms) as u64;
    let last_ms = 1000 + (job.records / 100) as i64;
    let slices = (last_ms / slide_ms + 1) as usize;
    let words = slices.div_ceil(64);
    let mut bits = vec![0u64; words * job.keys as usize];
    let mut sum = 0u64;
    for i in 0..job.records {
        let (key, at_ms, value) = event(i, job.keys);
        let slice = (at_ms / slide_ms) as usize;
        bits[key as usize * words + slice / 64] |= 1 << (slice % 64);
        sum = sum.wrapping_add(value as u64);
    }
    let mut results = 0u64;
    for of_key in bits.chunks(words) {
        let mut covered_to = 0;
        for (at, mut word) in of_key.iter().copied().enumerate() {
            while word > 0 {
                let slice = (at * 64) as u64 + u64::from(word.trailing_zeros());
                word &= word - 1;
                results += slice + windows - slice.max(covered_to);
                covered_to = slice + windows;
            }
        }
    }
    Ok(format!("results:{results},counts:{},sums:{}", job.records * windows, sum.wrapping_mul(windows)))
}

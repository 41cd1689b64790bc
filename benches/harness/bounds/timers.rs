//! Oracle of timers: the different pairs of key and time.

use crate::harness::data::{event, splitmix64};
use crate::harness::{Job, ProgramResult};

/// When the timer of event `i` rings: up to ten seconds after it.
#[inline(always)]
pub fn due_ms(i: u64, at_ms: i64) -> i64 {
    at_ms + 1 + (splitmix64(i ^ 0x7469_6D65) % 10_000) as i64
}

/// Timers that ring, and the sum of their times.
pub fn totals(job: &Job) -> ProgramResult {
    let mut timers: Vec<(u32, i64)> = (0..job.records)
        .map(|i| {
            let (key, at_ms, _) = event(i, job.keys);
            (key as u32, due_ms(i, at_ms))
        })
        .collect();
    timers.sort_unstable();
    timers.dedup();
    let sum = timers.iter().fold(0u64, |sum, timer| sum.wrapping_add(timer.1 as u64));
    Ok(format!("fired:{},times:{sum}", timers.len()))
}

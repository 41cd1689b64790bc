//! Oracle of the interval join: both streams sorted by key and time, and for each event of the first the range of the
//! second.

use crate::harness::data::{Event, event};
use crate::harness::{Job, ProgramResult};

/// How far apart in time two events may be.
pub const APART_MS: i64 = 1000;

/// Event `i` of the second stream: another event of about the same time.
#[inline(always)]
pub fn right_event(i: u64, keys: u64) -> Event {
    let (_, at_ms, value) = event(i, keys);
    let (key, _, _) = event(i ^ (1 << 40), keys);
    (key, at_ms, value)
}

/// What a pair adds to the checksum.
#[inline(always)]
pub fn pair_check(left: &Event, right: &Event) -> u64 {
    (left.2 as u64).wrapping_mul(31).wrapping_add(right.2 as u64) ^ left.0
}

/// Pairs, and their checksum. Each stream has half of the job's records.
pub fn totals(job: &Job) -> ProgramResult {
    let side = |make: fn(u64, u64) -> Event| {
        let mut events: Vec<Event> = (0..job.records / 2).map(|i| make(i, job.keys)).collect();
        events.sort_unstable();
        events
    };
    let (left, right) = (side(event), side(right_event));
    let (mut pairs, mut check) = (0u64, 0u64);
    let mut from = 0;
    for l in &left {
        while from < right.len() && (right[from].0, right[from].1) < (l.0, l.1 - APART_MS) {
            from += 1;
        }
        for r in right[from..].iter().take_while(|r| r.0 == l.0 && r.1 <= l.1 + APART_MS) {
            pairs += 1;
            check = check.wrapping_add(pair_check(l, r));
        }
    }
    Ok(format!("pairs:{pairs},check:{check}"))
}

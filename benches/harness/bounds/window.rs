//! Event-time window, written by hand: count, sum and maximum per key and tumbling window of ten seconds.
//!
//! Method: one hash table per open window, taken in turn from those of fired windows. At most a few windows are open,
//! so the one of an event is found by looking through them, and only when it is not that of the event before.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::exchange::{self, Fold};
use crate::harness::data::Event;
use crate::harness::{Job, ProgramResult};

/// Length of a window.
pub const WINDOW_MS: i64 = 10_000;

/// One output (count, sum, maximum) per key and window.
pub fn run(job: &Job) -> ProgramResult {
    let [results, counts, sums] = exchange::run::<Windows>(job.records, job.keys);
    Ok(format!("results:{results},counts:{counts},sums:{sums}"))
}

type ByKey = HashMap<u64, (i64, i64, i64), FixedState>;

#[derive(Default)]
struct Windows {
    open: Vec<(i64, ByKey)>,
    spare: Vec<ByKey>,
    results: u64,
    counts: u64,
    sums: u64,
}

impl Windows {
    fn position_of(&mut self, window: i64) -> usize {
        self.open.iter().position(|open| open.0 == window).unwrap_or_else(|| {
            self.open.push((window, self.spare.pop().unwrap_or_default()));
            self.open.len() - 1
        })
    }

    fn fire(&mut self, mut by_key: ByKey) {
        for (_, (count, sum, _)) in by_key.drain() {
            self.results += 1;
            self.counts += count as u64;
            self.sums = self.sums.wrapping_add(sum as u64);
        }
        self.spare.push(by_key);
    }
}

impl Fold for Windows {
    fn on_batch(&mut self, events: &[Event], watermark: i64) {
        let mut rest = events;
        while let Some(first) = rest.first() {
            let window = first.1 / WINDOW_MS;
            let position = self.position_of(window);
            let by_key = &mut self.open[position].1;
            let mut taken = 0;
            for &(key, at_ms, value) in rest {
                if at_ms / WINDOW_MS != window {
                    break;
                }
                let (count, sum, max) = by_key.entry(key).or_insert((0, 0, i64::MIN));
                *count += 1;
                *sum += value;
                *max = (*max).max(value);
                taken += 1;
            }
            rest = &rest[taken..];
        }
        while let Some(due) = self
            .open
            .iter()
            .position(|open| watermark == i64::MAX || (open.0 + 1) * WINDOW_MS - 1 <= watermark)
        {
            let (_, by_key) = self.open.swap_remove(due);
            self.fire(by_key);
        }
    }

    fn finish(self) -> [u64; 3] {
        [self.results, self.counts, self.sums]
    }
}

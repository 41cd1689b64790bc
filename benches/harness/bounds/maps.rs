//! Map-filter-map, written by hand: three loops per batch, as an engine that works on batches must do, and one
//! fused loop, as a compiler that sees the whole program would.

use super::THREADS;
use crate::harness::data::{maps_fold, maps_keep, maps_spread};
use crate::harness::{Job, ProgramResult};

/// Records in a batch.
const BATCH_RECORDS: usize = 1024;

/// A batch of integers is generated; a loop maps it into a second buffer, a loop filters, a loop maps.
pub fn batched(job: &Job) -> ProgramResult {
    Ok(on_threads(job.records, |first, records| {
        let mut numbers = Vec::with_capacity(BATCH_RECORDS);
        let mut spread = Vec::with_capacity(BATCH_RECORDS);
        let mut kept = Vec::with_capacity(BATCH_RECORDS);
        let mut totals = Totals::default();
        let mut next = first;
        while next < records {
            numbers.clear();
            numbers.extend((next..records).step_by(THREADS).take(BATCH_RECORDS));
            next += (BATCH_RECORDS * THREADS) as u64;
            spread.clear();
            spread.extend(numbers.iter().map(|&x| maps_spread(x)));
            kept.clear();
            for &x in &spread {
                if maps_keep(x) {
                    kept.push(x);
                }
            }
            for x in &mut kept {
                *x = maps_fold(*x);
            }
            for &x in &kept {
                totals.add(x);
            }
        }
        totals
    }))
}

/// Everything in one loop.
pub fn fused(job: &Job) -> ProgramResult {
    Ok(on_threads(job.records, |first, records| {
        let mut totals = Totals::default();
        let mut next = first;
        while next < records {
            let x = maps_spread(next);
            if maps_keep(x) {
                totals.add(maps_fold(x));
            }
            next += THREADS as u64;
        }
        totals
    }))
}

/// What the end of the chain adds up.
#[derive(Default)]
pub struct Totals {
    outputs: u64,
    sum: u64,
}

impl Totals {
    /// Takes in one number.
    #[inline(always)]
    pub fn add(&mut self, x: u64) {
        self.outputs += 1;
        self.sum = self.sum.wrapping_add(x);
    }

    /// Takes in the totals of another thread.
    pub fn merge(&mut self, other: &Totals) {
        self.outputs += other.outputs;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// The line that every program of this workload prints.
    pub fn line(&self) -> String {
        format!("outputs:{},sum:{}", self.outputs, self.sum)
    }
}

fn on_threads(records: u64, half: impl Fn(u64, u64) -> Totals + Sync) -> String {
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        let half = &half;
        let threads: Vec<_> =
            (0..THREADS as u64).map(|first| scope.spawn(move || half(first, records))).collect();
        for thread in threads {
            totals.merge(&thread.join().expect("a thread of the bound panicked"));
        }
    });
    totals.line()
}

//! The engine's side of the windows bench: each workload as a user would write it.

#[path = "total.rs"]
mod total;

use crate::harness::bounds::interval::{APART_MS, pair_check, right_event};
use crate::harness::bounds::sessions::GAP_MS;
use crate::harness::bounds::timers::due_ms;
use crate::harness::bounds::window::WINDOW_MS;
use crate::harness::data::{Event, OUT_OF_ORDER_MS, event};
use crate::harness::{Job, ProgramResult, report_seconds};
use mainstem::operator::window::Windowed;
use mainstem::prelude::*;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use total::{TotalSink, environment, sums};

/// Count, sum and maximum.
#[derive(Clone)]
struct Stats;

impl Aggregator<Event> for Stats {
    type Acc = (i64, i64, i64);
    type Out = (i64, i64, i64);
    #[inline(always)]
    fn create(&self) -> Self::Acc {
        (0, 0, i64::MIN)
    }
    #[inline(always)]
    fn add(&self, acc: &mut Self::Acc, record: Event) {
        *acc = (acc.0 + 1, acc.1 + record.2, acc.2.max(record.2));
    }
    #[inline(always)]
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        *acc = (acc.0 + other.0, acc.1 + other.1, acc.2.max(other.2));
    }
    #[inline(always)]
    fn result(&self, acc: &Self::Acc) -> Self::Out {
        *acc
    }
}

fn out_of_order<T: 'static>(at_ms: fn(&T) -> i64) -> WatermarkStrategy<T> {
    WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(OUT_OF_ORDER_MS as u64))
        .timestamp(at_ms)
}

fn events(env: &Environment, job: &Job) -> DataStream<Event> {
    let keys = job.keys;
    env.generate(job.records, move |i| event(i, keys))
        .assign_timestamps(out_of_order(|event: &Event| event.1))
}

fn total_of(results: &DataStream<Windowed<u64, (i64, i64, i64)>>, env: &Environment) -> ProgramResult {
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 3], result: Windowed<u64, (i64, i64, i64)>| {
        total[0] += 1;
        total[1] += result.value.0 as u64;
        total[2] = total[2].wrapping_add(result.value.1 as u64);
    });
    results.sink_to(sink);
    env.execute("windows")?;
    let [results, counts, sums] = sums(&totals);
    Ok(format!("results:{results},counts:{counts},sums:{sums}"))
}

fn tumbling(job: &Job, mode: ExecutionMode) -> ProgramResult {
    let env = environment(mode);
    let windows =
        mainstem::semantics::window::Aligned { size_ms: WINDOW_MS, slide_ms: WINDOW_MS, offset_ms: 0 };
    let results = events(&env, job).key_by(|event| event.0).temp_slices(windows, Stats);
    total_of(&results, &env)
}

pub fn tumbling_streaming(job: &Job) -> ProgramResult {
    tumbling(job, ExecutionMode::Streaming)
}

pub fn tumbling_batch(job: &Job) -> ProgramResult {
    tumbling(job, ExecutionMode::Batch)
}

fn sliding(job: &Job, mode: ExecutionMode, size_ms: u64, slide_ms: u64) -> ProgramResult {
    let env = environment(mode);
    let windows = mainstem::semantics::window::Aligned {
        size_ms: size_ms as i64,
        slide_ms: slide_ms as i64,
        offset_ms: 0,
    };
    let results = events(&env, job).key_by(|event| event.0).temp_slices(windows, Stats);
    total_of(&results, &env)
}

pub fn sliding_10(job: &Job) -> ProgramResult {
    sliding(job, ExecutionMode::Streaming, 10_000, 1_000)
}

pub fn sliding_60(job: &Job) -> ProgramResult {
    sliding(job, ExecutionMode::Streaming, 60_000, 1_000)
}

pub fn sliding_600(job: &Job) -> ProgramResult {
    sliding(job, ExecutionMode::Streaming, 600_000, 1_000)
}

pub fn sliding_batch(job: &Job) -> ProgramResult {
    sliding(job, ExecutionMode::Batch, 60_000, 1_000)
}

//! The engine's side of the windows bench: each workload as a user would write it.

#[path = "folds.rs"]
mod folds;
#[path = "total.rs"]
mod total;

use crate::harness::bounds::interval::{APART_MS, pair_check, right_event};
use crate::harness::bounds::sessions::GAP_MS;
use crate::harness::bounds::timers::due_ms;
use crate::harness::bounds::window::WINDOW_MS;
use crate::harness::data::{Event, OUT_OF_ORDER_MS, event};
use crate::harness::{Job, ProgramResult, report_seconds};
use folds::Stats;
use mainstem::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use total::{TotalSink, environment, sums};

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
    let windows = Tumbling::of(Duration::from_millis(WINDOW_MS as u64));
    let results = events(&env, job).key_by(|event| event.0).window(windows).aggregate(Stats);
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
    let windows = Sliding::of(Duration::from_millis(size_ms), Duration::from_millis(slide_ms));
    let results = events(&env, job).key_by(|event| event.0).window(windows).aggregate(Stats);
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

pub fn sessions(job: &Job) -> ProgramResult {
    let env = environment(ExecutionMode::Streaming);
    let sessions = events(&env, job)
        .key_by(|event| event.0)
        .window(Sessions::with_gap(Duration::from_millis(GAP_MS as u64)))
        .aggregate(Count);
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 3], session: Windowed<u64, u64>| {
        total[0] += 1;
        total[1] += session.value;
        total[2] += (session.window.end - session.window.start) as u64;
    });
    sessions.sink_to(sink);
    env.execute("sessions")?;
    let [results, counts, length] = sums(&totals);
    Ok(format!("results:{results},counts:{counts},length:{length}"))
}

/// Registers a timer for each record and counts those that ring.
struct Alarm;

impl KeyedProcessFunction<u64, (u64, i64), i64> for Alarm {
    fn process(
        &mut self,
        record: (u64, i64),
        ctx: &mut KeyedContext<u64>,
        _out: &mut Collector<'_, i64>,
    ) -> UserResult {
        ctx.register_event_time_timer(record.1);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        _ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, i64>,
    ) -> UserResult {
        out.emit(timer.time);
        Ok(())
    }
}

pub fn timers(job: &Job) -> ProgramResult {
    let env = environment(ExecutionMode::Streaming);
    let keys = job.keys;
    let source = Generate::new(job.records, move |i| {
        let (key, at_ms, _) = event(i, keys);
        (key, due_ms(i, at_ms), at_ms)
    });
    let fired = env
        .read(source)
        .assign_timestamps(out_of_order(|event: &(u64, i64, i64)| event.2))
        .map(|(key, due, _)| (key, due))
        .key_by(|event| event.0)
        .process(|_| Alarm);
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 2], time: i64| {
        total[0] += 1;
        total[1] = total[1].wrapping_add(time as u64);
    });
    fired.sink_to(sink);
    env.execute("timers")?;
    let [fired, times] = sums(&totals);
    Ok(format!("fired:{fired},times:{times}"))
}

pub fn interval_join(job: &Job) -> ProgramResult {
    let env = environment(ExecutionMode::Streaming);
    let (keys, each) = (job.keys, job.records / 2);
    let side = |make: fn(u64, u64) -> Event| {
        env.generate(each, move |i| make(i, keys)).assign_timestamps(out_of_order(|event: &Event| event.1))
    };
    let (left, right) = (side(event), side(right_event));
    let pairs = left
        .key_by(|event| event.0)
        .interval_join(&right.key_by(|event| event.0))
        .between(-APART_MS, APART_MS)
        .apply(pair_check);
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 2], check: u64| {
        total[0] += 1;
        total[1] = total[1].wrapping_add(check);
    });
    pairs.sink_to(sink);
    env.execute("interval join")?;
    let [pairs, check] = sums(&totals);
    Ok(format!("pairs:{pairs},check:{check}"))
}

/// A watermark for the end of each window, and when it was sent.
struct Noted {
    sent: Arc<Mutex<Vec<(i64, Instant)>>>,
    highest: i64,
    end: i64,
}

impl WatermarkGenerator<Event> for Noted {
    fn on_event(&mut self, _record: &Event, timestamp: i64, output: &mut WatermarkOutput) {
        self.highest = self.highest.max(timestamp);
        let end = (self.highest - OUT_OF_ORDER_MS) / WINDOW_MS * WINDOW_MS;
        if end > self.end {
            self.end = end;
            output.emit(end - 1);
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).push((end, Instant::now()));
        }
    }
    fn on_periodic_emit(&mut self, _output: &mut WatermarkOutput) {}
}

/// Reports the 99th percentile of the time from the last of the sources' watermarks that ends a window to each of its
/// results.
pub fn latency(job: &Job) -> ProgramResult {
    let env = environment(ExecutionMode::Streaming);
    let keys = job.keys;
    let sent: Arc<Mutex<Vec<(i64, Instant)>>> = Arc::default();
    let noted = sent.clone();
    let strategy = WatermarkStrategy::generator(move || Noted { sent: noted.clone(), highest: 0, end: 0 })
        .timestamp(|event: &Event| event.1);
    let results = env
        // Half of what the job can do, so that it is latency that is measured, not a queue.
        .read(Generate::new(job.records, move |i| event(i, keys)).rate(5e6))
        .assign_timestamps(strategy)
        .key_by(|event| event.0)
        .window(Tumbling::of(Duration::from_millis(WINDOW_MS as u64)))
        .aggregate(Stats);
    let (sink, seen) =
        TotalSink::new(|seen: &mut Vec<(i64, Instant)>, result: Windowed<u64, (i64, i64, i64)>| {
            seen.push((result.window.end, Instant::now()));
        });
    results.sink_to(sink);
    env.execute("latency")?;
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut waits = Vec::new();
    for (end, at) in seen.iter().flatten() {
        // Both sources must have said it; the windows of the end of the input are another matter.
        let mut times: Vec<Instant> = sent.iter().filter(|sent| sent.0 == *end).map(|sent| sent.1).collect();
        times.sort();
        if let (2, Some(last)) = (times.len(), times.last()) {
            waits.push(at.saturating_duration_since(*last).as_secs_f64());
        }
    }
    waits.sort_by(f64::total_cmp);
    let p99 = waits.get(waits.len() * 99 / 100).copied().ok_or("no window ended before the input did")?;
    report_seconds(p99);
    let results: usize = seen.iter().map(Vec::len).sum();
    Ok(format!("results:{results}"))
}

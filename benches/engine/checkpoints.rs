//! The engine's side of the checkpoints bench: jobs of the other benches, with and without checkpoints.

#[path = "folds.rs"]
mod folds;
#[path = "total.rs"]
mod total;

#[path = "failures.rs"]
pub mod failures;

use crate::harness::bounds::window::WINDOW_MS;
use crate::harness::data::{Event, OUT_OF_ORDER_MS, event};
use crate::harness::{Job, ProgramResult, report_seconds};
use folds::{Stats, SumAndCount};
use mainstem::api::report::CheckpointReport;
use mainstem::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use total::{TotalSink, environment, sums};

/// Runs at least this long hold enough checkpoints to say something.
const LONG_RUN: Duration = Duration::from_secs(40);
/// Checkpoints of a long run.
const CHECKPOINTS_MIN: u64 = 6;

/// The environment of a job that takes checkpoints into the output folder, or none.
fn checkpointed(job: &Job, interval: Option<Duration>) -> Environment {
    let env = environment(ExecutionMode::Streaming);
    match interval {
        Some(interval) => env.job_dir(&job.out).checkpoint_interval(interval),
        None => env,
    }
}

/// Prints what the checkpoints of a run came to; too few of them in a long run are an error. Without checkpoints the longest
/// step is what the machine and the job itself come to.
fn report(result: &JobResult) -> Result<(), Box<dyn std::error::Error>> {
    let longest = result.operators.iter().map(|operator| operator.longest_step).max().unwrap_or_default();
    let Some(checkpoints) = &result.checkpoints else {
        eprintln!("  no checkpoints; longest step of a subtask {longest:?}");
        return Ok(());
    };
    eprintln!("  {checkpoints}; longest step of a subtask {longest:?}");
    if result.duration > LONG_RUN && checkpoints.completed < CHECKPOINTS_MIN {
        return Err(format!("only {} checkpoints were completed", checkpoints.completed).into());
    }
    Ok(())
}

fn tumbling(job: &Job, interval: Option<Duration>) -> ProgramResult {
    let env = checkpointed(job, interval);
    let keys = job.keys;
    let disorder = Duration::from_millis(OUT_OF_ORDER_MS as u64);
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 2], result: Windowed<u64, (i64, i64, i64)>| {
        total[0] += 1;
        total[1] += result.value.0 as u64;
    });
    env.generate(job.records, move |i| event(i, keys))
        .uid("events")
        .assign_timestamps(
            WatermarkStrategy::bounded_out_of_orderness(disorder).timestamp(|event: &Event| event.1),
        )
        .key_by(|event| event.0)
        .window(Tumbling::of(Duration::from_millis(WINDOW_MS as u64)))
        .aggregate(Stats)
        .uid("windows")
        .sink_to(sink);
    report(&env.execute("tumbling")?)?;
    let [results, counts] = sums(&totals);
    Ok(format!("results:{results},counts:{counts}"))
}

pub fn tumbling_checkpoints(job: &Job) -> ProgramResult {
    tumbling(job, Some(Duration::from_secs(1)))
}

pub fn tumbling_none(job: &Job) -> ProgramResult {
    tumbling(job, None)
}

fn sum(job: &Job, interval: Option<Duration>) -> ProgramResult {
    let env = checkpointed(job, interval);
    let keys = job.keys;
    let (sink, totals) = TotalSink::new(|total: &mut [u64; 2], (_, (_, count)): (u64, (i64, u64))| {
        total[0] += 1;
        total[1] = total[1].wrapping_add(count);
    });
    env.generate(job.records, move |i| event(i, keys))
        .uid("events")
        .key_by(|event| event.0)
        .aggregate(SumAndCount)
        .uid("sums")
        .sink_to(sink);
    report(&env.execute("running sum")?)?;
    let [outputs, counts] = sums(&totals);
    Ok(format!("outputs:{outputs},running-counts:{counts}"))
}

pub fn sum_checkpoints(job: &Job) -> ProgramResult {
    sum(job, Some(Duration::from_secs(5)))
}

pub fn sum_none(job: &Job) -> ProgramResult {
    sum(job, None)
}

/// The state of the job below, for each key: 8 bytes of key and 16 of value.
const ENTRY_BYTES: u64 = 24;

/// Time between two looks at a job.
const LOOK: Duration = Duration::from_millis(10);

/// One record for each key, then records of a twentieth of the keys only, until there were enough of them. A checkpoint behind
/// one that all keys had come before holds what has changed since: those of the twentieth.
pub fn changes(job: &Job) -> ProgramResult {
    let env = checkpointed(job, Some(Duration::from_secs(1)));
    let (keys, some) = (job.keys, (job.keys / 20).max(1));
    env.read(Generate::unbounded(move |i| {
        let (_, at_ms, value) = event(i, keys);
        (if i < keys { i } else { i.wrapping_mul(0x9E37_79B9) % some }, at_ms, value)
    }))
    .uid("events")
    .key_by(|event| event.0)
    .aggregate(SumAndCount)
    .uid("sums")
    .sink_to(DiscardSink);
    let client = env.execute_async("changes")?;
    let (mut before, mut have_all_come, mut sizes) = (CheckpointReport::default(), false, Vec::new());
    loop {
        std::thread::sleep(LOOK);
        let now = client.report()?;
        let records = now.operators.iter().map(|operator| operator.records_in).max().unwrap_or(0);
        let checkpoints = now.checkpoints.unwrap_or_default();
        if checkpoints.completed > before.completed {
            if have_all_come && checkpoints.full == before.full {
                sizes.push(checkpoints.last_bytes);
            }
            // Those that count begin behind this one.
            have_all_come = records > 2 * keys;
            before = checkpoints;
        }
        if records >= job.records || client.status() != JobStatus::Running {
            break;
        }
    }
    client.cancel();
    let longest = before.longest_seconds;
    let times = |bytes: u64| bytes as f64 / (some * ENTRY_BYTES) as f64;
    let (least, most) = (sizes.iter().min().copied().unwrap_or(0), sizes.iter().max().copied().unwrap_or(0));
    eprintln!(
        "  {} checkpoints of changes, {} full, the longest took {longest:.3} s; of changes {:.2} to {:.2} times the bytes of what can have changed",
        sizes.len(),
        before.full,
        times(least),
        times(most)
    );
    if (sizes.is_empty() && before.completed > CHECKPOINTS_MIN) || times(most) > 2.0 {
        return Err(
            format!("of {} checkpoints one has {:.2} times what changed", sizes.len(), times(most)).into()
        );
    }
    report_seconds(longest);
    Ok("done".into())
}

/// Keeps a text of a hundred bytes for each key.
struct Remember {
    text: ValueState<String>,
}

/// When the first record came, of those that a run sees.
static FIRST_RECORD: Mutex<Option<Instant>> = Mutex::new(None);

impl KeyedProcessFunction<u64, u64, u64> for Remember {
    fn process(&mut self, key: u64, ctx: &mut KeyedContext<u64>, out: &mut Collector<'_, u64>) -> UserResult {
        if self.text.get(ctx).is_none() {
            self.text.set(ctx, format!("{key:0>100}"));
        }
        out.emit(key);
        Ok(())
    }
}

fn remembering(job: &Job, restore: Option<Restore>) -> (Environment, DataStream<u64>) {
    let env = environment(ExecutionMode::Streaming)
        .job_dir(&job.out)
        .checkpoint_interval(Duration::from_secs(3600));
    let env = match restore {
        Some(restore) => env.restore(restore),
        None => env,
    };
    let keys = job.keys;
    let stream = env
        .read(Generate::unbounded(move |i| i % keys))
        .uid("keys")
        .key_by(|key| *key)
        .process(|states| Remember { text: states.value("text") })
        .uid("texts");
    (env, stream)
}

/// Builds state, stops behind a checkpoint, and goes on from it: reports the time to the first record.
pub fn restore(job: &Job) -> ProgramResult {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let (env, stream) = remembering(job, None);
    stream.sink_to(FnSink::new(|_: u64| {
        SEEN.fetch_add(1, Ordering::Relaxed);
    }));
    let client = env.execute_async("remember")?;
    while SEEN.load(Ordering::Relaxed) < job.keys + job.keys / 10 {
        std::thread::sleep(Duration::from_millis(20));
    }
    client.stop(false)?;
    let result = client.result()?;
    report(&result)?;

    let (env, stream) = remembering(job, Some(Restore::Latest));
    stream.sink_to(FnSink::new(|_: u64| {
        FIRST_RECORD.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    }));
    let started = Instant::now();
    let client = env.execute_async("remember")?;
    let first = loop {
        if let Some(first) = *FIRST_RECORD.lock().unwrap_or_else(PoisonError::into_inner) {
            break first;
        }
        if client.status() != JobStatus::Running {
            return Err(client.result().err().map_or("the endless job ended".into(), Into::into));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    client.cancel();
    let _ = client.result();
    report_seconds((first - started).as_secs_f64());
    Ok("restored".into())
}

/// A few records a second, checkpoints ten times a second: reports the longest checkpoint.
pub fn idle(job: &Job) -> ProgramResult {
    let env = checkpointed(job, Some(Duration::from_millis(100)));
    env.read(Generate::unbounded(|i| i % 10).rate(10.0))
        .uid("numbers")
        .key_by(|n| *n)
        .count()
        .uid("counts")
        .sink_to(DiscardSink);
    let client = env.execute_async("idle")?;
    std::thread::sleep(Duration::from_secs(job.records.max(1)));
    client.stop(false)?;
    let result = client.result()?;
    report(&result)?;
    let Some(checkpoints) = &result.checkpoints else { return Err("there were no checkpoints".into()) };
    if checkpoints.completed < 10 * job.records / 2 {
        return Err(format!("only {} checkpoints were completed", checkpoints.completed).into());
    }
    report_seconds(checkpoints.longest.as_secs_f64());
    Ok("idled".into())
}

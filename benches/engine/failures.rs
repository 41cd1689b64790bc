//! Failures: how soon a job is back after it has failed, or its process was killed.

use super::folds::SumAndCount;
use super::total::environment;
use super::{checkpointed, report};
use crate::harness::data::event;
use crate::harness::{Job, ProgramResult, child, report_seconds};
use mainstem::prelude::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Running sums that fail once, after two thirds of the records, and how many outputs there were when.
struct Story {
    failed: Instant,
    /// Every few milliseconds, the outputs so far, those that come again too.
    outputs: Vec<(Instant, u64)>,
}

/// Time between two looks at the outputs.
const LOOK: Duration = Duration::from_millis(2);
/// Outputs that a sink counts before it tells.
const TOLD: u64 = 256;
/// No attempt ends, and none begins, sooner than this after a failure: what comes before is of the attempt that failed.
const SETTLED: Duration = Duration::from_millis(50);
/// Over so much time the rate before the failure is taken, and over so much the one after it.
const RATE_BEFORE: Duration = Duration::from_secs(2);
const RATE_AFTER: Duration = Duration::from_millis(250);

/// Counts the outputs of one subtask, and tells a sum that all share now and then.
#[derive(Clone)]
struct Counter(u64);

impl Counter {
    fn add(&mut self, all: &AtomicU64) {
        self.0 += 1;
        if self.0.is_multiple_of(TOLD) {
            all.fetch_add(TOLD, Ordering::Relaxed);
        }
    }
}

fn fails_once(job: &Job) -> Result<Story, Box<dyn std::error::Error>> {
    static FAILED: AtomicBool = AtomicBool::new(false);
    static FAILED_AT: Mutex<Option<Instant>> = Mutex::new(None);
    static OUTPUTS: AtomicU64 = AtomicU64::new(0);
    let env = checkpointed(job, Some(Duration::from_secs(5)))
        .restart_strategy(RestartStrategy::FixedDelay { attempts: 1, delay: Duration::ZERO });
    let (keys, fails_at) = (job.keys, job.records / 3 * 2);
    let mut counter = Counter(0);
    env.generate(job.records, move |i| {
        if i == fails_at && !FAILED.swap(true, Ordering::Relaxed) {
            *FAILED_AT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            panic!("the failure that this bench is about");
        }
        event(i, keys)
    })
    .uid("events")
    .key_by(|event| event.0)
    .aggregate(SumAndCount)
    .uid("sums")
    .sink_to(FnSink::new(move |_: (u64, (i64, u64))| counter.add(&OUTPUTS)));
    let client = env.execute_async("fails once")?;
    let mut outputs = Vec::new();
    while client.status() == JobStatus::Running {
        outputs.push((Instant::now(), OUTPUTS.load(Ordering::Relaxed)));
        std::thread::sleep(LOOK);
    }
    report(&client.result()?)?;
    match *FAILED_AT.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(failed) => Ok(Story { failed, outputs }),
        None => Err("the job did not fail".into()),
    }
}

impl Story {
    /// The outputs at a time.
    fn outputs_at(&self, at: Instant) -> u64 {
        let later = self.outputs.partition_point(|&(time, _)| time <= at);
        later.checked_sub(1).map_or(0, |last| self.outputs[last].1)
    }
    /// Outputs a second in the time that ends there.
    fn rate(&self, end: Instant, time: Duration) -> f64 {
        let begin = end.checked_sub(time).unwrap_or(end);
        (self.outputs_at(end) - self.outputs_at(begin)) as f64 / time.as_secs_f64()
    }
    /// The first look after the failure for which something holds: how long after it that was.
    fn first(&self, mut holds: impl FnMut(Instant, u64) -> bool) -> Option<f64> {
        let after = self.outputs.iter().filter(|(time, _)| *time > self.failed + SETTLED);
        after
            .clone()
            .find(|&&(time, outputs)| holds(time, outputs))
            .map(|(time, _)| (*time - self.failed).as_secs_f64())
    }
}

/// Reports the time from a failure to the next output.
pub fn output_again(job: &Job) -> ProgramResult {
    let story = fails_once(job)?;
    let before = story.outputs_at(story.failed + SETTLED);
    report_seconds(story.first(|_, outputs| outputs > before).ok_or("nothing came after the failure")?);
    Ok("recovered".into())
}

/// Reports the time from a failure until the rate is nine tenths of what it was before.
pub fn rate_again(job: &Job) -> ProgramResult {
    let story = fails_once(job)?;
    let wanted = 0.9 * story.rate(story.failed, RATE_BEFORE);
    let reached =
        story.first(|time, _| time > story.failed + RATE_AFTER && story.rate(time, RATE_AFTER) >= wanted);
    report_seconds(reached.ok_or("the rate did not come back")?);
    Ok("recovered".into())
}

/// In the environment of the process that is killed: `begin`, or `restore`.
const KILLED: &str = "MAINSTEM_BENCH_KILLED";
/// How long it runs before.
const RUNS: Duration = Duration::from_secs(3);

/// Starts a job as a process of its own, kills it, starts it again, and reports the time from there to its first record.
pub fn killed(job: &Job) -> ProgramResult {
    match std::env::var(KILLED) {
        Ok(how) => return counts_until_killed(job, how == "restore"),
        Err(_) => std::fs::create_dir_all(&job.out)?,
    }
    let start = |how: &str| -> Result<Child, Box<dyn std::error::Error>> {
        Ok(child("killed", job)?.env(KILLED, how).stdout(Stdio::piped()).spawn()?)
    };
    let mut first = start("begin")?;
    first_record(&mut first)?;
    std::thread::sleep(RUNS);
    first.kill()?;
    first.wait()?;
    let started = Instant::now();
    let mut second = start("restore")?;
    let line = first_record(&mut second)?;
    report_seconds(started.elapsed().as_secs_f64());
    second.kill()?;
    second.wait()?;
    if line == "0" {
        return Err("the second process began at the beginning".into());
    }
    Ok("came back".into())
}

/// What the first record of a process was.
fn first_record(process: &mut Child) -> Result<String, Box<dyn std::error::Error>> {
    let stdout = process.stdout.take().ok_or("a process without output")?;
    match BufReader::new(stdout).lines().next() {
        Some(line) => Ok(line?),
        None => Err("the process ended without a record".into()),
    }
}

/// Counts for a thousand keys, a checkpoint five times a second; prints the number of the first record.
fn counts_until_killed(job: &Job, restores: bool) -> ProgramResult {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    let env = environment(ExecutionMode::Streaming)
        .job_dir(&job.out)
        .checkpoint_interval(Duration::from_millis(200));
    let env = if restores { env.restore(Restore::Latest) } else { env };
    env.read(Generate::unbounded(|i| i).rate(100_000.0))
        .uid("numbers")
        .map(|i| (i % 1000, i))
        .key_by(|record| record.0)
        .max_by(|record| &mut record.1)
        .uid("highest")
        .sink_to(FnSink::new(|record: (u64, u64)| {
            if !BEGUN.swap(true, Ordering::Relaxed) {
                println!("{}", record.1);
            }
        }));
    env.execute("counts until it is killed")?;
    Err("an endless job has ended".into())
}

//! Report: how far a running job is, as data, with rates of the last moments.
//!
//! Place: made on the thread that asks; the job itself only raises its counters.
//! Method: a rate is the difference between now and an observation at least [`SPAN`] ago, or the begin of the job.

use crate::api::JobStatus;
use crate::base::clock::Clock;
use crate::base::data::{Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::text::{self, Table};
use crate::executors::job::{JobEnvironment, StepMetrics};
use crate::executors::pipelined::checkpoints::CheckpointStats;
use crate::executors::times::TaskTimes;
use crate::plan::PhysicalPlan;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Rates are over at least this time.
pub const SPAN: Duration = Duration::from_secs(1);

/// How far a job is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobReport {
    /// The id of the execution.
    pub job_id: String,
    /// The name given to `execute`.
    pub job_name: String,
    /// How it is run.
    pub mode: String,
    /// What it is doing.
    pub status: JobStatus,
    /// Since it was started.
    pub running_seconds: f64,
    /// The operators in the order of the plan.
    pub operators: Vec<OperatorReport>,
    /// Its checkpoints, if it takes any.
    #[serde(default)]
    pub checkpoints: Option<CheckpointReport>,
}

/// How far an operator is, over all of its subtasks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OperatorReport {
    /// Its number in the plan.
    pub id: usize,
    /// Its name.
    pub name: String,
    /// Its uid, if it has one.
    pub uid: Option<String>,
    /// Number of subtasks.
    pub parallelism: usize,
    /// Records it has received.
    pub records_in: u64,
    /// Records it has emitted.
    pub records_out: u64,
    /// Records a second that it received in the last moments.
    pub records_in_per_second: f64,
    /// Records a second that it emitted in the last moments.
    pub records_out_per_second: f64,
    /// How far event time has come in all subtasks of its chain; none before the first watermark.
    pub watermark: Option<Timestamp>,
    /// Part of the time, from 0 to 1, that the subtasks of its chain worked in the last moments.
    pub busy: f64,
    /// Part of the time that they waited for input.
    pub idle: f64,
    /// Part of the time that they waited for room in an output.
    pub backpressured: f64,
}

/// The checkpoints of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointReport {
    /// Those that were completed.
    pub completed: u64,
    /// Of those, the ones that hold all state and not only what had changed.
    #[serde(default)]
    pub full: u64,
    /// Those that failed or took too long.
    pub failed: u64,
    /// The number of the last one that was completed; 0 if there was none.
    pub last: u64,
    /// Bytes of state in the last one.
    pub last_bytes: u64,
    /// The longest time from begin to completion.
    pub longest_seconds: f64,
    /// Attempts after failures.
    pub restarts: u32,
}

impl From<&CheckpointStats> for CheckpointReport {
    fn from(stats: &CheckpointStats) -> CheckpointReport {
        CheckpointReport {
            completed: stats.completed,
            full: stats.full,
            failed: stats.failed,
            last: stats.last,
            last_bytes: stats.last_bytes,
            longest_seconds: stats.longest.as_secs_f64(),
            restarts: stats.restarts,
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct Counts {
    at: Duration,
    /// By step: in and out.
    records: Vec<(u64, u64)>,
    /// By task: busy, idle, backpressured.
    nanos: Vec<[u64; 3]>,
}

/// Looks at the counters of a job and remembers where they were, for rates. Holds nothing else of the job.
pub(super) struct Observer {
    plan: Arc<PhysicalPlan>,
    metrics: Arc<Vec<Arc<StepMetrics>>>,
    times: Arc<Vec<TaskTimes>>,
    clock: Arc<dyn Clock>,
    began: Duration,
    /// The older one counts until the newer one is old enough.
    observed: Mutex<[Counts; 2]>,
}

impl Observer {
    /// Begins now.
    pub(super) fn new(plan: Arc<PhysicalPlan>, job: &JobEnvironment) -> Observer {
        let (metrics, times, clock) = (job.metrics.clone(), job.times.clone(), job.clock.clone());
        let began = clock.monotonic();
        let observer = Observer { plan, metrics, times, clock, began, observed: Mutex::default() };
        let begin = observer.counts();
        *observer.lock() = [begin.clone(), begin];
        observer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, [Counts; 2]> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> Counts {
        let records = self.metrics.iter().map(|of| (of.records_in.get(), of.records_out.get()));
        let nanos = self.times.iter().map(|t| [t.busy.get(), t.idle.get(), t.backpressured.get()]);
        Counts { at: self.clock.monotonic(), records: records.collect(), nanos: nanos.collect() }
    }

    /// Takes a look; to be called about every [`SPAN`]. Then and now.
    pub(super) fn look(&self) -> (Counts, Counts) {
        let now = self.counts();
        let mut observed = self.lock();
        if now.at.saturating_sub(observed[1].at) >= SPAN {
            observed.swap(0, 1);
            observed[1] = now.clone();
        }
        (observed[0].clone(), now)
    }

    /// Time since the begin.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began)
    }

    /// How the job is run.
    pub(super) fn mode(&self) -> String {
        self.plan.mode.to_string()
    }

    /// The operators, as they are now.
    pub(super) fn operators(&self) -> Vec<OperatorReport> {
        let (before, now) = self.look();
        let seconds = now.at.saturating_sub(before.at).as_secs_f64();
        let rate = |now: u64, before: u64| match seconds > 0.0 {
            true => now.saturating_sub(before) as f64 / seconds,
            false => 0.0,
        };
        let report = |step: &crate::plan::Step| {
            let (was, is) = (before.records[step.id], now.records[step.id]);
            let (was_spent, spent) = (before.nanos[step.task], now.nanos[step.task]);
            let part = |i: usize| spent[i].saturating_sub(was_spent[i]) as f64;
            let whole = (part(0) + part(1) + part(2)).max(1.0);
            let watermark = self.times[step.task].watermark();
            OperatorReport {
                id: step.id,
                name: step.name.clone(),
                uid: step.uid.clone(),
                parallelism: step.parallelism,
                records_in: is.0,
                records_out: is.1,
                records_in_per_second: rate(is.0, was.0),
                records_out_per_second: rate(is.1, was.1),
                watermark: (watermark > WATERMARK_MIN).then_some(watermark),
                busy: part(0) / whole,
                idle: part(1) / whole,
                backpressured: part(2) / whole,
            }
        };
        self.plan.steps.iter().map(report).collect()
    }
}

impl fmt::Display for JobReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "job '{}' ({}, id {}): {}, {} since its start",
            self.job_name,
            self.mode,
            self.job_id,
            self.status,
            text::duration(Duration::try_from_secs_f64(self.running_seconds).unwrap_or_default())
        )?;
        let mut table = Table::new(&[
            "id",
            "<operator",
            "subtasks",
            "records in",
            "records out",
            "in/s",
            "out/s",
            "<watermark",
            "busy",
            "idle",
            "blocked",
        ]);
        let percent = |part: f64| format!("{:.0} %", part * 100.0);
        for operator in &self.operators {
            table.row([
                operator.id.to_string(),
                operator.name.clone(),
                operator.parallelism.to_string(),
                text::count(operator.records_in),
                text::count(operator.records_out),
                text::count(operator.records_in_per_second as u64),
                text::count(operator.records_out_per_second as u64),
                match operator.watermark {
                    None => "-".to_string(),
                    Some(WATERMARK_MAX) => "end".to_string(),
                    Some(at) => text::utc(at),
                },
                percent(operator.busy),
                percent(operator.idle),
                percent(operator.backpressured),
            ]);
        }
        write!(f, "{table}")?;
        if let Some(checkpoints) = &self.checkpoints {
            writeln!(
                f,
                "checkpoints: {} complete ({} full), {} failed, the last is {} with {}, the longest took {:.3} s; {} restarts",
                checkpoints.completed,
                checkpoints.full,
                checkpoints.failed,
                checkpoints.last,
                text::bytes(checkpoints.last_bytes),
                checkpoints.longest_seconds,
                checkpoints.restarts
            )?;
        }
        Ok(())
    }
}

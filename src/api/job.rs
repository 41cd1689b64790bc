//! Job: one execution of a plan, from the client's side.

use super::progress::{ProgressLine, ProgressPhase, ProgressSnapshot};
use super::result::{JobResult, OperatorStats, StageStats, peak_memory_bytes};
use super::resume;
use crate::base::clock::{Clock, VirtualClock};
use crate::base::config::{Driver, ExecutionMode, Settings};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::base::parameters::Parameters;
use crate::base::vfs::SharedVfs;
use crate::executors::job::{Cancellation, JobEnvironment};
use crate::executors::pipelined::simulation::{Random, Trace};
use crate::executors::pipelined::{channel, simulation, threads, wire};
use crate::executors::resume::{CommitRecord, JobState, ResumableJob};
use crate::executors::staged;
use crate::operator::context::JobContext;
use crate::operator::exchange::Partitioning;
use crate::operator::source::{BYTES_READ, SplitAssignment};
use crate::plan::{Edge, PhysicalPlan};
use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Its subtasks run.
    Running,
    /// It succeeded: all output is visible.
    Finished,
    /// It failed: none of its output is visible.
    Failed,
    /// It was cancelled: none of its output is visible.
    Cancelled,
}

/// A job that was started: a handle from the client's side. Dropping it leaves the job running, and nobody learns how
/// it ends.
///
/// ```
/// # use mainstem::prelude::*;
/// let env = Environment::new().execution_mode(ExecutionMode::Streaming);
/// env.read(Generate::unbounded(|i| i)).sink_to(DiscardSink);
/// let job = env.execute_async("endless")?;
/// job.cancel();
/// assert!(matches!(job.result(), Err(mainstem::Error::Cancelled)));
/// # Ok::<(), mainstem::Error>(())
/// ```
#[must_use = "the outcome of the job is in `result`"]
pub struct JobClient {
    id: String,
    cancellation: Cancellation,
    outcome: Arc<Mutex<Option<Result<JobResult>>>>,
    thread: Option<std::thread::JoinHandle<()>>,
    status: Arc<Mutex<JobStatus>>,
}

impl JobClient {
    /// A job whose plan was shown and that has nothing left to do.
    pub(super) fn explained(name: &str, mode: ExecutionMode) -> JobClient {
        let result = JobResult { job_name: name.to_string(), mode, explained: true, ..JobResult::default() };
        JobClient {
            id: String::new(),
            cancellation: Cancellation::default(),
            outcome: Arc::new(Mutex::new(Some(Ok(result)))),
            thread: None,
            status: Arc::new(Mutex::new(JobStatus::Finished)),
        }
    }

    /// A job that a process before this one has finished.
    fn finished(name: &str, id: String, plan: &PhysicalPlan) -> JobClient {
        let result = JobResult {
            job_name: name.to_string(),
            job_id: id.clone(),
            mode: plan.mode,
            parallelism: plan.parallelism,
            ..JobResult::default()
        };
        JobClient {
            id,
            outcome: Arc::new(Mutex::new(Some(Ok(result)))),
            ..JobClient::explained(name, plan.mode)
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.thread.is_some()
    }

    /// The id of this execution: unique, fit for a file name. Empty if the plan was only explained.
    pub fn id(&self) -> &str {
        &self.id
    }
    /// What the job is doing. Once it is not [`Running`](JobStatus::Running), [`result`](JobClient::result) returns
    /// at once.
    pub fn status(&self) -> JobStatus {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Asks the job to stop. It ends within about a second; [`result`](JobClient::result) is then
    /// [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.cancellation.cancel();
    }
    /// A handle that cancels the job from elsewhere, for example a signal handler.
    pub fn cancellation(&self) -> Cancellation {
        self.cancellation.clone()
    }
    /// Waits for the end of the job.
    ///
    /// # Errors
    /// The first failure of the job, or [`Error::Cancelled`].
    pub fn result(mut self) -> Result<JobResult> {
        if let Some(thread) = self.thread.take()
            && let Err(payload) = thread.join()
        {
            return Err(Error::Internal(format!("the job's thread failed: {}", Error::panic(payload))));
        }
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.unwrap_or_else(|| Err(Error::Internal("the job ended without a result".into())))
    }
}

/// What one execution needs.
pub(super) struct JobPlan {
    pub physical: Arc<PhysicalPlan>,
    pub settings: Settings,
    pub parameters: Parameters,
    pub vfs: SharedVfs,
    pub clock: Arc<dyn Clock>,
}

/// Starts a job on a thread of its own. Sources are enumerated and sinks prepared before this returns.
pub(super) fn start(name: &str, plan: JobPlan) -> Result<JobClient> {
    let id = new_job_id();
    let resumable = resume::open(&plan, &id)?;
    let id = resumable.as_ref().map_or(id, ResumableJob::id);
    let state = resumable.as_ref().map(ResumableJob::state);
    if let Some(resumable) = resumable.as_ref().filter(|job| job.state() == JobState::Finished) {
        remove_stages(resumable);
        tracing::info!(name, id, "nothing to resume: the job has finished");
        return Ok(JobClient::finished(name, id, &plan.physical));
    }
    let committing = state == Some(JobState::Committing);
    let cancellation = Cancellation::default();
    let context = JobContext {
        name: name.to_string(),
        id: id.clone(),
        parameters: plan.parameters.clone(),
        auto_watermark_interval: plan.settings.auto_watermark_interval,
    };
    let simulated = match plan.settings.driver {
        Driver::Simulation { seed } => Some((VirtualClock::new(), seed)),
        Driver::Threads => None,
    };
    let clock = simulated.as_ref().map_or(plan.clock.clone(), |(clock, _)| clock.clone() as Arc<dyn Clock>);
    // Splits taken on demand would depend on the schedule; a simulation draws the schedule from its seed.
    let assignment = match plan.physical.mode {
        ExecutionMode::Batch => SplitAssignment::Fixed,
        _ => SplitAssignment::OnDemand,
    };
    let started = JobEnvironment::start_if(
        &plan.physical,
        context,
        clock,
        plan.vfs.clone(),
        assignment,
        cancellation.clone(),
        committing,
        |sources| match &resumable {
            None => Ok(()),
            // Before the sinks: the next process must know the id under which they have left something.
            Some(job) => {
                job.begin(resume::facts(name, &plan, sources)?, plan.settings.resume_other_executable)
            }
        },
    );
    let mut job = started.inspect_err(|_| resumable.iter().for_each(ResumableJob::did_not_begin))?;
    job.resumable = resumable.is_some();
    let outcome = Arc::new(Mutex::new(None));
    let status = Arc::new(Mutex::new(JobStatus::Running));
    let (outcome_in, status_in) = (outcome.clone(), status.clone());
    let run_job = job.clone();
    let run = move || {
        let span = run_job.span.clone();
        let _in_span = span.enter();
        // User code also runs while operators are made and sinks commit. Without an end the sinks would keep
        // readers waiting.
        let ran = catch_unwind(AssertUnwindSafe(|| run(&plan, &run_job, simulated, resumable.as_ref())));
        let result = ran.unwrap_or_else(|payload| {
            let failed = Err(Error::panic(payload));
            catch_unwind(AssertUnwindSafe(|| run_job.finish(&plan.physical, failed)))
                .unwrap_or_else(|payload| Err(Error::panic(payload)))
                .and_then(|()| Err(Error::Internal("a job that panicked has no failure".into())))
        });
        let now = match &result {
            Ok(_) => JobStatus::Finished,
            Err(Error::Cancelled) => JobStatus::Cancelled,
            Err(_) => JobStatus::Failed,
        };
        // Another process may take the job directory before somebody learns of the end.
        drop(resumable);
        *outcome_in.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        *status_in.lock().unwrap_or_else(PoisonError::into_inner) = now;
    };
    let thread = std::thread::Builder::new().name("job".into()).spawn(run).map_err(|e| {
        let _ = job.sinks.values().map(|sink| sink.abort()).collect::<Result<Vec<_>>>();
        Error::Memory(format!("cannot start the job's thread: {e}"))
    })?;
    Ok(JobClient { id, cancellation, outcome, thread: Some(thread), status })
}

/// Unique in time, process and count; fit for a file name.
fn new_job_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    format!("{:016x}", hash_of(&(nanos, std::process::id(), count)))
}

fn run(
    plan: &JobPlan,
    job: &JobEnvironment,
    simulated: Option<(Arc<VirtualClock>, u64)>,
    resumable: Option<&ResumableJob>,
) -> Result<JobResult> {
    let start = Instant::now();
    let physical = &plan.physical;
    let mut progress = ProgressLine::new(plan.settings.progress, std::io::stderr().is_terminal());
    let records = || job.sources.keys().map(|&step| job.metrics[step].records_out.get()).sum::<u64>();
    let mut trace = None;
    let mut stages = Vec::new();
    let mut budget_peak_bytes = 0;
    let mut summaries = Vec::new();
    let committing = resumable.filter(|job| job.state() == JobState::Committing);
    let outcome = if let Some(resumable) = committing {
        resumable.commit_record().hand_over(job)
    } else if physical.mode == ExecutionMode::Batch {
        let mut tick = |phase: ProgressPhase| {
            let elapsed = start.elapsed();
            if progress.is_due(elapsed) {
                progress.update(&ProgressSnapshot { elapsed, records: records(), phase });
            }
        };
        staged::run(physical, job, &plan.settings, simulated.clone(), resumable, &mut tick).map(|outcome| {
            stages = outcome.stages;
            budget_peak_bytes = outcome.budget_peak_bytes;
            summaries = outcome.summaries;
        })
    } else if let Some((clock, seed)) = &simulated {
        let mut random = Random::new(*seed);
        wire(physical, job, plan.settings.buffer_timeout, || 1 + random.below(8))
            .and_then(|wiring| {
                let mut random = Random::new(seed.wrapping_add(1));
                simulation::run(wiring, &mut random, clock, &job.cancellation)
            })
            .map(|done| trace = Some(done))
    } else {
        let mut tick = || {
            let elapsed = start.elapsed();
            if progress.is_due(elapsed) {
                let phase = ProgressPhase::Streaming { watermark: job.watermark() };
                progress.update(&ProgressSnapshot { elapsed, records: records(), phase });
            }
        };
        wire(physical, job, plan.settings.buffer_timeout, || channel::CHANNEL_ELEMENTS)
            .and_then(|wiring| threads::run(physical, wiring, &job.cancellation, &mut tick))
    };
    progress.finish();
    let outcome = match (outcome, resumable) {
        (Ok(()), Some(resumable)) if committing.is_none() => {
            CommitRecord::of(job, summaries).and_then(|commit| resumable.committing(commit))
        }
        (outcome, _) => outcome,
    };
    job.finish(physical, outcome)?;
    if let Some(resumable) = resumable {
        resumable.reached(JobState::Finished)?;
        remove_stages(resumable);
    }
    if let Some(name) = committing.and_then(|_| collecting(physical, job)) {
        return Err(Error::config(format!(
            "the output of the job is there, but what '{name}' has collected went with the process before this one"
        )));
    }
    if physical.mode != ExecutionMode::Batch {
        stages.push(pipelined_stage(physical, job, start.elapsed()));
    }
    Ok(JobResult {
        explained: false,
        job_name: job.context.name.clone(),
        job_id: job.context.id.clone(),
        mode: physical.mode,
        parallelism: physical.parallelism,
        duration: start.elapsed(),
        operators: operator_stats(physical, job),
        stages,
        accumulators: job.accumulators.results()?,
        memory_peak_bytes: peak_memory_bytes(),
        budget_peak_bytes,
        trace: trace.as_ref().map(Trace::hash),
    })
}

/// What units have left for a process after this one is of no use any more.
fn remove_stages(finished: &ResumableJob) {
    if let Err(error) = finished.remove_stages() {
        tracing::warn!(%error, "the outputs of the stages of a finished job remain");
    }
}

/// A sink whose records are gone with the process that has written them.
fn collecting<'a>(plan: &'a PhysicalPlan, job: &JobEnvironment) -> Option<&'a str> {
    let gone = job.sinks.iter().find(|(_, sink)| !sink.outlives_process());
    gone.map(|(step, _)| plan.steps[*step].name.as_str())
}

fn operator_stats(plan: &PhysicalPlan, job: &JobEnvironment) -> Vec<OperatorStats> {
    // What came over an edge, as its producer emitted it; of a broadcast each subtask has a copy.
    let bytes_over = |edge: &Edge| {
        let copies = match edge.partitioning {
            Partitioning::Broadcast => plan.steps[edge.to].parallelism as u64,
            _ => 1,
        };
        job.metrics[edge.from].bytes_out.get() * copies
    };
    plan.steps
        .iter()
        .map(|step| {
            let metrics = &job.metrics[step.id];
            let times = &job.times[step.task];
            let mut counters = metrics.counters.values();
            let read: u64 =
                counters.iter().filter(|(name, _)| name == BYTES_READ).map(|(_, bytes)| bytes).sum();
            counters.retain(|(name, _)| name != BYTES_READ);
            OperatorStats {
                id: step.id,
                name: step.name.clone(),
                parallelism: step.parallelism,
                operator_type: metrics.operator_type.get().copied().unwrap_or_default().to_string(),
                records_in: metrics.records_in.get(),
                records_out: metrics.records_out.get(),
                bytes_in: read + plan.edges_into(step.id).map(bytes_over).sum::<u64>(),
                bytes_out: metrics.bytes_out.get(),
                busy: Duration::from_nanos(times.busy.get()),
                idle: Duration::from_nanos(times.idle.get()),
                backpressured: Duration::from_nanos(times.backpressured.get()),
                counters,
            }
        })
        .collect()
}

/// A streaming job is a single stage.
fn pipelined_stage(plan: &PhysicalPlan, job: &JobEnvironment, duration: Duration) -> StageStats {
    let sinks = plan.steps.iter().filter(|s| plan.edges_from(s.id).next().is_none());
    let subtasks = plan.tasks.iter().map(|t| t.parallelism).sum();
    StageStats {
        name: "pipeline".to_string(),
        operators: plan.steps.iter().map(|s| s.name.clone()).collect(),
        units: subtasks,
        attempts: subtasks,
        duration,
        records_out: sinks.map(|s| job.metrics[s.id].records_in.get()).sum(),
        ..StageStats::default()
    }
}

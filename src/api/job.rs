//! Job: one execution of a plan: what is prepared before it runs, its thread, and what is made of its end.

use super::client::{JobClient, JobStatus, Outcome};
use super::control::Server;
use super::figures;
use super::handle::JobHandle;
use super::progress::{ProgressLine, ProgressPhase, ProgressSnapshot};
use super::result::{JobResult, OperatorStats, StageStats, peak_memory_bytes};
use super::resume;
use crate::base::clock::{Clock, VirtualClock};
use crate::base::config::{CheckpointStorage, Driver, ExecutionMode, Restore, Settings};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::base::parameters::Parameters;
use crate::base::vfs::SharedVfs;
use crate::executors::job::{Cancellation, Continuity, JobEnvironment};
use crate::executors::pipelined::checkpoints::Restored;
use crate::executors::pipelined::control::Control;
use crate::executors::pipelined::run::{self as pipelined, PipelinedJob};
use crate::executors::pipelined::savepoints::Savepoints;
use crate::executors::pipelined::simulation::{StepHook, Trace};
use crate::executors::resume::{CommitRecord, JobState, ResumableJob};
use crate::executors::staged;
use crate::operator::context::JobContext;
use crate::operator::exchange::Partitioning;
use crate::operator::source::{BYTES_READ, SplitAssignment};
use crate::plan::{Edge, PhysicalPlan};
use crate::services::checkpoint::{Copies, Store};
use crate::services::job_dir::JobDirectory;
use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What one execution needs.
pub(super) struct JobPlan {
    pub physical: Arc<PhysicalPlan>,
    pub settings: Settings,
    pub parameters: Parameters,
    pub vfs: SharedVfs,
    pub clock: Arc<dyn Clock>,
    pub hook: Option<StepHook>,
}

/// What a job keeps, and what it goes on from.
#[derive(Default)]
struct Kept {
    store: Option<Store>,
    restored: Option<Restored>,
    /// A process before this one has worked on the job, though it may not have completed a checkpoint.
    goes_on: bool,
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
    let context = JobContext {
        name: name.to_string(),
        id,
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
    let kept = match plan.physical.mode {
        ExecutionMode::Batch if plan.settings.restore.is_some() => {
            return Err(Error::config(
                "restore goes on from a checkpoint, which only STREAMING takes; use --execution-mode streaming",
            ));
        }
        ExecutionMode::Batch => Kept::default(),
        _ => kept(&plan)?,
    };
    let continuity = Continuity {
        checkpoints: kept.store.is_some(),
        restored: kept.goes_on,
        rollback: plan.settings.allow_output_rollback,
        committing: state == Some(JobState::Committing),
        resumable: resumable.is_some(),
        process: resumable.as_ref().map_or(0, |job| job.directory().attempt()),
    };
    let started = JobEnvironment::start_as(
        &plan.physical,
        context,
        clock,
        plan.vfs.clone(),
        assignment,
        Cancellation::default(),
        continuity,
        |sources| match &resumable {
            None => Ok(()),
            // Before the sinks: the next process must know the id under which they have left something.
            Some(job) => {
                job.begin(resume::facts(name, &plan, sources)?, plan.settings.resume_other_executable)
            }
        },
    );
    let mut job = started.inspect_err(|_| resumable.iter().for_each(ResumableJob::did_not_begin))?;
    job.bounded = (plan.settings.memory.0 / 2, plan.settings.temp_dir.clone());
    let outcome = Outcome::default();
    let outcome_in = outcome.clone();
    let run_job = job.clone();
    let control = Control::default();
    if kept.store.is_some() {
        control.open();
    }
    let savepoints = |store| Savepoints::new(plan.physical.clone(), plan.vfs.clone(), store);
    let savepoints = kept.store.as_ref().map(savepoints);
    let handle = JobHandle::new(plan.physical.clone(), &job, control.clone(), savepoints);
    let not_started = |e| {
        let _ = job.sinks.values().map(|sink| sink.abort()).collect::<Result<Vec<_>>>();
        e
    };
    let server = plan.settings.control.as_deref().map(|dir| Server::start(dir, &handle));
    let server = server.transpose().map_err(not_started)?;
    let handle_in = handle.clone();
    let run = move || {
        let span = run_job.span.clone();
        let _in_span = span.enter();
        // User code also runs while operators are made and sinks commit. Without an end the sinks would keep
        // readers waiting.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            run(&plan, &run_job, simulated, kept, resumable.as_ref(), &control, &handle_in)
        }));
        control.close();
        let result = ran.unwrap_or_else(|payload| {
            let failed = Err(Error::panic(payload));
            catch_unwind(AssertUnwindSafe(|| run_job.finish(&plan.physical, failed)))
                .unwrap_or_else(|payload| Err(Error::panic(payload)))
                .and_then(|()| Err(Error::Internal("a job that panicked has no failure".into())))
        });
        let now = match &result {
            Ok(result) if result.stopped => JobStatus::Stopped,
            Ok(_) => JobStatus::Finished,
            Err(Error::Cancelled) => JobStatus::Cancelled,
            Err(_) => JobStatus::Failed,
        };
        // Another process may take the job directory before somebody learns of the end.
        drop(resumable);
        let error = result.as_ref().err().map(Error::to_string);
        *outcome_in.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        handle_in.end(now);
        if let Some(server) = server {
            server.end(error);
        }
    };
    let thread = std::thread::Builder::new().name("job".into()).spawn(run);
    let thread =
        thread.map_err(|e| not_started(Error::Memory(format!("cannot start the job's thread: {e}"))))?;
    Ok(JobClient::new(handle, outcome, thread))
}

/// Opens the place where a job keeps its checkpoints, and reads the one that it goes on from.
fn kept(plan: &JobPlan) -> Result<Kept> {
    let (settings, physical) = (&plan.settings, &*plan.physical);
    let allowed = settings.allow_non_restored_state;
    let retained = settings.checkpoints.retained;
    let mut worked_on = false;
    let mut store = match (settings.checkpoints.storage, settings.checkpoint_directory()) {
        (CheckpointStorage::Directory, Some(dir)) => {
            let open = |dir| JobDirectory::open(plan.vfs.clone(), dir, &process_name()).map(Arc::new);
            let home = open(dir)?;
            worked_on = home.attempt() > 1;
            let store = Store::in_directory(home, retained)?;
            Some(match settings.job_directory().filter(|job_dir| *job_dir != dir) {
                Some(job_dir) => store.with_copies(Copies::in_directory(open(job_dir)?)),
                None => store,
            })
        }
        (CheckpointStorage::Memory, _) if settings.checkpoints.is_on() => Some(Store::in_memory(retained)?),
        _ => None,
    };
    let restored = match (&settings.restore, &mut store) {
        (Some(Restore::Path(path)), store) => {
            let restored = pipelined::at_path(physical, &plan.vfs, path, allowed)?;
            // From here on this is what `latest` means, until the job has a checkpoint of its own.
            store.as_mut().map_or(Ok(()), |store| store.begin_from(path))?;
            Some(restored)
        }
        (Some(Restore::Latest), Some(store)) => {
            store.find_origin()?;
            pipelined::latest(physical, &plan.vfs, store, allowed)?
        }
        (Some(Restore::Latest), None) => None,
        (None, Some(store)) if !store.completed().is_empty() => {
            return Err(Error::config(format!(
                "'{}' holds checkpoints of an earlier run of a job; go on from them with restore latest, or give the job \
                 an empty job-dir",
                store.root().display()
            )));
        }
        (None, Some(store)) => {
            if let Some(origin) = store.find_origin()? {
                return Err(Error::config(format!(
                    "the job directory is that of a job that was started from '{}' and has no checkpoint of its own yet; \
                     go on with it with restore latest, or give the job an empty job-dir",
                    origin.path.display()
                )));
            }
            None
        }
        (None, None) => None,
    };
    if let Some(restored) = &restored {
        tracing::info!(
            checkpoint = restored.checkpoint,
            job = restored.job.name,
            "the job goes on from a checkpoint"
        );
    }
    let goes_on = restored.is_some() || worked_on && settings.restore.is_some();
    Ok(Kept { store, restored, goes_on })
}

/// This process, for people.
pub(super) fn process_name() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    match host.trim() {
        "" => format!("process {}", std::process::id()),
        host => format!("process {} on {host}", std::process::id()),
    }
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
    kept: Kept,
    resumable: Option<&ResumableJob>,
    control: &Control,
    handle: &JobHandle,
) -> Result<JobResult> {
    let start = Instant::now();
    let physical = &plan.physical;
    let mut progress = ProgressLine::new(plan.settings.progress, std::io::stderr().is_terminal());
    let records = || job.sources.keys().map(|&step| job.metrics[step].records_out.get()).sum::<u64>();
    let mut trace = None;
    let (mut stopped, mut suspended) = (false, false);
    let mut checkpoints = None;
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
    } else {
        let mut tick = || {
            let elapsed = start.elapsed();
            if progress.is_due(elapsed) {
                let phase = ProgressPhase::Streaming { watermark: job.watermark() };
                progress.update(&ProgressSnapshot { elapsed, records: records(), phase });
            }
        };
        let of = PipelinedJob {
            plan: physical,
            job,
            settings: &plan.settings,
            simulated: simulated.clone(),
            hook: plan.hook.clone(),
            control: control.clone(),
            store: kept.store,
            restored: kept.restored,
            goes_on: kept.goes_on,
        };
        pipelined::run(of, &mut tick).map(|outcome| {
            (trace, checkpoints) = (outcome.trace, outcome.checkpoints);
            (stopped, suspended) = (outcome.stopped, outcome.suspended);
        })
    };
    progress.finish();
    if let (true, Some(checkpoints)) = (stopped, &checkpoints) {
        handle.stopped_behind(checkpoints.last);
    }
    let outcome = match (outcome, resumable) {
        (Ok(()), Some(resumable)) if committing.is_none() => {
            CommitRecord::of(job, summaries).and_then(|commit| resumable.committing(commit))
        }
        (outcome, _) => outcome,
    };
    match suspended {
        true => job.suspend(physical)?,
        false => job.finish(physical, outcome)?,
    }
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
    let mut result = JobResult {
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
        stopped,
        checkpoints,
        trace: trace.as_ref().map(Trace::hash),
        graph: String::new(),
    };
    result.graph = figures::graph(physical, &result);
    Ok(result)
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
                longest_step: times.longest_step(),
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

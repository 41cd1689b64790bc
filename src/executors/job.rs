//! JobEnvironment: what the subtasks of one execution share.

use super::times::TaskTimes;
use crate::base::accumulator::{Accumulators, AttemptAccumulators};
use crate::base::clock::Clock;
use crate::base::data::{Timestamp, WATERMARK_MAX};
use crate::base::error::{Error, Result};
use crate::base::metrics::{Counter, Counters};
use crate::base::vfs::SharedVfs;
use crate::operator::RuntimeContext;
use crate::operator::context::JobContext;
use crate::operator::sink::{SinkContext, SinkRun};
use crate::operator::source::{SourceContext, SourceRun, SplitAssignment};
use crate::plan::{PhysicalPlan, Step, StepOperation};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Memory of operators that keep their input until its end where nobody says how much: in tests of operators.
const BOUNDED_BYTES: u64 = 64 << 20;

/// Numbers of one step, over all of its subtasks.
#[derive(Default)]
pub struct StepMetrics {
    /// Records taken.
    pub records_in: Counter,
    /// Records emitted.
    pub records_out: Counter,
    /// Bytes emitted, estimated from samples.
    pub bytes_out: Counter,
    /// Counters of connectors and user code.
    pub counters: Counters,
    /// The type of the operator that ran, for plans and tests.
    pub operator_type: std::sync::OnceLock<&'static str>,
    /// Where records and bytes are counted at once as well, while an attempt may still fail.
    live: Option<Arc<StepMetrics>>,
}

impl StepMetrics {
    /// Numbers of one attempt. Records and bytes are seen in `total` at once, counters only when they are taken in.
    pub fn of_attempt(total: &Arc<StepMetrics>) -> Arc<StepMetrics> {
        Arc::new(StepMetrics { live: Some(total.clone()), ..StepMetrics::default() })
    }

    /// Counts records and bytes.
    pub fn count(&self, records_in: u64, records_out: u64, bytes_out: u64) {
        self.records_in.add(records_in);
        self.records_out.add(records_out);
        self.bytes_out.add(bytes_out);
        if let Some(total) = &self.live {
            total.count(records_in, records_out, bytes_out);
        }
    }

    /// Takes back records and bytes that were counted in an attempt that does not count.
    pub fn take_back(&self, records_in: u64, records_out: u64, bytes_out: u64) {
        self.records_in.take_back(records_in);
        self.records_out.take_back(records_out);
        self.bytes_out.take_back(bytes_out);
    }
}

/// Asks a job to stop.
#[derive(Clone, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// Asks; the job ends within about a second unless user code does not return.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
    /// Whether it was asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    /// An error if it was asked.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Whether a job is to go on after failures, and does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Continuity {
    /// It takes checkpoints.
    pub checkpoints: bool,
    /// It goes on with what a process before this one has left.
    pub restored: bool,
    /// Output that became visible after the checkpoint that it goes back to may be taken back.
    pub rollback: bool,
    /// A process before this one has begun to commit its sinks at its end.
    pub committing: bool,
    /// Another process may go on with it from its job directory.
    pub resumable: bool,
    /// The number of this process among those that have gone on with it so; 0 where none can.
    pub process: u64,
}

/// What the subtasks of one execution share.
#[derive(Clone)]
pub struct JobEnvironment {
    /// Name and id.
    pub context: Arc<JobContext>,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// Files.
    pub vfs: SharedVfs,
    /// Sources by step.
    pub sources: Arc<BTreeMap<usize, Arc<dyn SourceRun>>>,
    /// Sinks by step.
    pub sinks: Arc<BTreeMap<usize, Arc<dyn SinkRun>>>,
    /// Numbers by step.
    pub metrics: Arc<Vec<Arc<StepMetrics>>>,
    /// Times and watermarks by task.
    pub times: Arc<Vec<TaskTimes>>,
    /// What user code accumulates.
    pub accumulators: Accumulators,
    /// Whether the job was asked to stop.
    pub cancellation: Cancellation,
    /// STREAMING: what operators that keep their input until its end may hold in memory, all together, and where the
    /// rest goes.
    pub bounded: (u64, PathBuf),
    /// Whether another process may go on with the job if this one does not succeed.
    pub resumable: bool,
    /// Around the spans of subtasks and units: what is logged tells its job.
    pub span: tracing::Span,
}

impl JobEnvironment {
    /// Starts sources and sinks: a missing input or a refused output is found here, before any record moves.
    pub fn start(
        plan: &PhysicalPlan,
        context: JobContext,
        clock: Arc<dyn Clock>,
        vfs: SharedVfs,
        assignment: SplitAssignment,
        cancellation: Cancellation,
    ) -> Result<JobEnvironment> {
        let continuity = Continuity::default();
        JobEnvironment::start_as(plan, context, clock, vfs, assignment, cancellation, continuity, |_| Ok(()))
    }

    /// As [`start`](JobEnvironment::start), for a job that may go on after failures, and if `before_sinks` agrees with the
    /// sources that have started; if not, nothing has left a trace.
    #[allow(clippy::too_many_arguments, reason = "each is another thing that a job is given")]
    pub fn start_as(
        plan: &PhysicalPlan,
        context: JobContext,
        clock: Arc<dyn Clock>,
        vfs: SharedVfs,
        assignment: SplitAssignment,
        cancellation: Cancellation,
        continuity: Continuity,
        before_sinks: impl FnOnce(&BTreeMap<usize, Arc<dyn SourceRun>>) -> Result<()>,
    ) -> Result<JobEnvironment> {
        let metrics: Vec<Arc<StepMetrics>> = plan.steps.iter().map(|_| Arc::default()).collect();
        let mut sources = BTreeMap::new();
        for step in &plan.steps {
            if let StepOperation::Source(source, strategy) = &step.operation {
                let ctx = SourceContext {
                    parallelism: step.parallelism,
                    vfs: vfs.clone(),
                    clock: clock.clone(),
                    counters: metrics[step.id].counters.clone(),
                };
                let strategy = strategy.as_ref().map(|strategy| &**strategy as &dyn std::any::Any);
                let run = source.clone().start(ctx, assignment, strategy);
                let run = run.map_err(|e| e.in_operator(&step.name, 0))?;
                sources.insert(step.id, run);
            }
        }
        before_sinks(&sources)?;
        // Sinks last: they are the first to leave traces.
        let mut sinks: BTreeMap<usize, Arc<dyn SinkRun>> = BTreeMap::new();
        for step in &plan.steps {
            if let StepOperation::Sink(sink) = &step.operation {
                let ctx = SinkContext {
                    job_id: format!("{}-{}", context.id, step.id),
                    subtask: 0,
                    parallelism: step.parallelism,
                    unit: 0,
                    attempt: 0,
                    checkpoints: continuity.checkpoints,
                    restored: continuity.restored,
                    rollback: continuity.rollback,
                    from_start: assignment == SplitAssignment::Fixed,
                    committing: continuity.committing,
                    resumable: continuity.resumable,
                    process: continuity.process,
                    vfs: vfs.clone(),
                    clock: clock.clone(),
                    counters: metrics[step.id].counters.clone(),
                };
                match sink.clone().start(ctx) {
                    Ok(run) => {
                        sinks.insert(step.id, run);
                    }
                    Err(e) => {
                        for run in sinks.values() {
                            let _ = run.abort();
                        }
                        return Err(e.in_operator(&step.name, 0));
                    }
                }
            }
        }
        Ok(JobEnvironment {
            span: tracing::info_span!("job", name = %context.name, id = %context.id),
            context: Arc::new(context),
            clock,
            vfs,
            sources: Arc::new(sources),
            sinks: Arc::new(sinks),
            metrics: Arc::new(metrics),
            times: Arc::new(plan.tasks.iter().map(|task| TaskTimes::new(task.parallelism)).collect()),
            accumulators: Accumulators::new(),
            cancellation,
            bounded: (BOUNDED_BYTES, std::env::temp_dir()),
            resumable: continuity.resumable,
        })
    }

    /// What user code may know about one attempt of one subtask of a step.
    pub fn runtime(
        &self,
        step: &Step,
        subtask: usize,
        unit: usize,
        attempt: usize,
        accumulators: &AttemptAccumulators,
    ) -> RuntimeContext {
        RuntimeContext {
            job: self.context.clone(),
            operator: Arc::from(step.name.as_str()),
            subtask,
            parallelism: step.parallelism,
            max_parallelism: step.max_parallelism,
            unit,
            attempt,
            counters: self.metrics[step.id].counters.clone(),
            accumulators: accumulators.handles(),
        }
    }

    /// The lowest watermark that all sinks have been told.
    pub fn watermark(&self) -> Timestamp {
        self.times.iter().map(TaskTimes::watermark).min().unwrap_or(WATERMARK_MAX)
    }

    /// Ends the execution behind a checkpoint from which it may go on: what is committed stays, and what that needs.
    pub fn suspend(&self, plan: &PhysicalPlan) -> Result<()> {
        let mut result = Ok(());
        for (step, sink) in self.sinks.iter() {
            // A sink knows whether there is a checkpoint.
            let suspended = sink.abort().map_err(|e| e.in_operator(&plan.steps[*step].name, 0));
            result = result.and(suspended);
        }
        result
    }

    /// Ends the execution: commits all sinks if it succeeded, else removes their traces, unless another process may go on
    /// with it.
    pub fn finish(&self, plan: &PhysicalPlan, outcome: Result<()>) -> Result<()> {
        let mut result = outcome;
        if result.is_ok() {
            for (step, sink) in self.sinks.iter() {
                result = sink.commit().map_err(|e| e.in_operator(&plan.steps[*step].name, 0));
                if result.is_err() {
                    break;
                }
            }
        }
        if result.is_err() {
            for (step, sink) in self.sinks.iter() {
                let ended = if self.resumable { sink.suspend() } else { sink.abort() };
                if let Err(e) = ended {
                    tracing::warn!(operator = plan.steps[*step].name, error = %e, "traces of a failed job remain");
                }
            }
        }
        result
    }
}

//! A driver for tests of sinks: plays the executor, call by call, with all subtasks on one thread.

use super::{AnySink, SinkContext, SinkRun};
use crate::base::accumulator::Accumulators;
use crate::base::batch::{Barrier, Batch, CheckpointId, ErasedBatch};
use crate::base::clock::VirtualClock;
use crate::base::codec;
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::base::metrics::Counters;
use crate::base::parameters::Parameters;
use crate::base::vfs::SharedVfs;
use crate::operator::context::JobContext;
use crate::operator::erased::AnyOperator;
use crate::operator::{Context, Progress, RuntimeContext};
use crate::semantics::state::{OperatorSnapshot, OperatorState, SnapshotChain, StateScope};
use std::sync::Arc;
use std::time::Duration;

/// One process that runs a job which is nothing but a sink.
pub(crate) struct Process {
    run: Arc<dyn SinkRun>,
    ctx: SinkContext,
    clock: Arc<VirtualClock>,
    attempt: usize,
    subtasks: Vec<Subtask>,
}

struct Subtask {
    operator: Box<dyn AnyOperator>,
    context: Context,
    /// The last snapshot, once the input has ended.
    last: Option<OperatorSnapshot>,
}

impl Process {
    /// Starts the sink in a job with checkpoints.
    pub(crate) fn start(
        sink: Arc<dyn AnySink>,
        vfs: SharedVfs,
        clock: Arc<VirtualClock>,
        restored: bool,
    ) -> Result<Process> {
        Process::start_with(sink, vfs, clock, restored, false)
    }

    /// The same; what became visible after a checkpoint may be taken back.
    pub(crate) fn start_with(
        sink: Arc<dyn AnySink>,
        vfs: SharedVfs,
        clock: Arc<VirtualClock>,
        restored: bool,
        rollback: bool,
    ) -> Result<Process> {
        let ctx = SinkContext {
            job_id: "job".to_string(),
            subtask: 0,
            parallelism: 1,
            unit: 0,
            attempt: 0,
            checkpoints: true,
            restored,
            rollback,
            from_start: false,
            committing: false,
            resumable: false,
            process: 0,
            vfs,
            clock: clock.clone(),
            counters: Counters::new(),
        };
        let run = sink.start(ctx.clone())?;
        Ok(Process { run, ctx, clock, attempt: 0, subtasks: Vec::new() })
    }

    /// Begins an attempt from a checkpoint, or from the beginning.
    pub(crate) fn attempt(&mut self, parallelism: usize, from: Option<&OperatorState>) -> Result<()> {
        self.attempt_from(parallelism, from, false)
    }

    /// Begins an attempt from a savepoint.
    pub(crate) fn attempt_from_savepoint(&mut self, parallelism: usize, from: &OperatorState) -> Result<()> {
        self.attempt_from(parallelism, Some(from), true)
    }

    fn attempt_from(
        &mut self,
        parallelism: usize,
        from: Option<&OperatorState>,
        committed: bool,
    ) -> Result<()> {
        self.subtasks.clear();
        if self.attempt > 0 || self.ctx.restored {
            self.run.recover(from.unwrap_or(&OperatorState::default()), committed)?;
        }
        for subtask in 0..parallelism {
            let runtime = RuntimeContext {
                job: Arc::new(JobContext {
                    name: "job".into(),
                    id: "job".into(),
                    parameters: Parameters::default(),
                    auto_watermark_interval: Duration::from_millis(200),
                }),
                operator: Arc::from("sink"),
                subtask,
                parallelism,
                max_parallelism: 128,
                unit: 0,
                attempt: self.attempt,
                counters: self.ctx.counters.clone(),
                accumulators: Accumulators::new().attempt().handles(),
            };
            let mut context = Context::new(runtime, StateScope::AllKeys, 0, None, self.clock.clone());
            let mut operator = self.run.operator();
            operator.open(&mut context)?;
            if let Some(state) = from {
                operator.restore(state, &mut context)?;
            }
            self.subtasks.push(Subtask { operator, context, last: None });
        }
        self.attempt += 1;
        Ok(())
    }

    /// Whether the input of a subtask has not ended.
    pub(crate) fn is_running(&self, subtask: usize) -> bool {
        self.subtasks[subtask].last.is_none()
    }

    /// Hands records to a subtask.
    pub(crate) fn write<T: Data>(&mut self, subtask: usize, records: Vec<T>) -> Result<()> {
        let Subtask { operator, context, .. } = &mut self.subtasks[subtask];
        let mut batch: ErasedBatch = Box::new(Batch::from(records));
        assert_eq!(operator.process(0, &mut batch, context)?, Progress::Done);
        Ok(())
    }

    /// The time at which a subtask wants to be called.
    pub(crate) fn next_timer(&self, subtask: usize) -> Option<i64> {
        self.subtasks[subtask].operator.next_timer()
    }

    /// Calls a subtask at a time.
    pub(crate) fn processing_time(&mut self, subtask: usize, now: i64) -> Result<()> {
        let Subtask { operator, context, .. } = &mut self.subtasks[subtask];
        operator.processing_time(now, context).map(drop)
    }

    /// The barrier of a checkpoint comes to all subtasks; what they keep, as it is read back from a file.
    pub(crate) fn barrier(&mut self, id: CheckpointId) -> Result<OperatorState> {
        self.barrier_of(Barrier { id, full: true, savepoint: false })
    }

    /// The same for a savepoint.
    pub(crate) fn savepoint(&mut self, id: CheckpointId) -> Result<OperatorState> {
        self.barrier_of(Barrier { id, full: true, savepoint: true })
    }

    fn barrier_of(&mut self, barrier: Barrier) -> Result<OperatorState> {
        let mut chains = Vec::new();
        for subtask in &mut self.subtasks {
            let snapshot = match &subtask.last {
                Some(last) => last.clone(),
                None => snapshot(&mut *subtask.operator, barrier)?,
            };
            let mut bytes = Vec::new();
            codec::encode(&snapshot, &mut bytes)?;
            chains.push(SnapshotChain::from(codec::decode::<OperatorSnapshot>(&bytes)?));
        }
        Ok(OperatorState::new(chains))
    }

    /// A checkpoint is complete.
    pub(crate) fn complete(&mut self, id: CheckpointId) -> Result<()> {
        self.run.checkpoint_complete(id)
    }

    /// The input of a subtask ends.
    pub(crate) fn end(&mut self, at: usize) -> Result<()> {
        let subtask = &mut self.subtasks[at];
        if subtask.operator.end_of_input(0, &mut subtask.context)? != Progress::Done {
            return Err(Error::Internal("a sink is blocked".into()));
        }
        let barrier = Barrier { id: CheckpointId::MAX, full: true, savepoint: false };
        subtask.last = Some(snapshot(&mut *subtask.operator, barrier)?);
        Ok(())
    }

    /// The job has succeeded.
    pub(crate) fn commit(self) -> Result<()> {
        self.run.commit()
    }

    /// The job has failed for good.
    pub(crate) fn abort(mut self) -> Result<()> {
        self.subtasks.clear();
        self.run.abort()
    }
}

fn snapshot(operator: &mut dyn AnyOperator, barrier: Barrier) -> Result<OperatorSnapshot> {
    let mut into = OperatorSnapshot::default();
    let mut progress = operator.snapshot(barrier, &mut into)?;
    while progress == Progress::Yielded {
        progress = operator.snapshot_more(&mut into)?;
    }
    Ok(into)
}

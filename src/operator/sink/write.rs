//! Sink operator: hands records to a sink's writer, and keeps what it has prepared until it is committed.
//!
//! Method: at a barrier, and at the end, the operator asks the writer for its committables and notes them for that
//! checkpoint. A snapshot holds all committables of the subtask that are not known to be committed, and what the
//! writer keeps. What a writer prepares at its end belongs to the first checkpoint after the last barrier it has seen: that one
//! holds the last snapshot of the subtask.
//! Invariants: the job's thread commits what belongs to a checkpoint only after that is complete, in the order in
//! which it was prepared.

use super::contract::{CommitPoint, Recovered, Sink, SinkContext, SinkWriter};
use super::notes::Notes;
use super::states::{STATES, WriterStates};
use crate::base::batch::{Barrier, Batch, CheckpointId};
use crate::base::codec::{decode, encode};
use crate::base::data::{Data, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::base::mutant;
use crate::operator::erased::{AnyOperator, OneInput};
use crate::operator::{Context, Operator, Out, Progress};
use crate::semantics::state::tables::{EntryTable, Layout};
use crate::semantics::state::{OperatorSnapshot, OperatorState, Section, StateTable};
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Name of the section of a snapshot that holds committables. What a subtask keeps that has finished has none once they are
/// committed.
pub const COMMITTABLES: &str = "committables";

/// Where a job without barriers notes what was prepared at its end.
const AT_END: CheckpointId = 1;

/// A sink as plan and executors see it.
pub trait AnySink: Send + Sync {
    /// What the plan shows.
    fn describe(&self) -> String;
    /// What the snapshots of its operators hold, but for what a writer writes, of which only its sink knows the type; see
    /// [`Operator::state_tables`].
    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        Vec::new()
    }
    /// Checks and prepares the target for one execution.
    fn start(self: Arc<Self>, ctx: SinkContext) -> Result<Arc<dyn SinkRun>>;
}

/// A sink in one execution of a job. All calls but `operator` on the thread of the job.
pub trait SinkRun: Send + Sync {
    /// The writing operator of one attempt.
    fn operator(&self) -> Box<dyn AnyOperator>;
    /// Before the operators of an attempt are opened, unless it is the first one of a new job: commits again what the
    /// checkpoint holds as prepared, and removes what was written after it. An attempt that starts from the beginning
    /// gives an empty state. The subtasks of the attempt before must have ended. `committed`: all that was prepared has been
    /// committed since.
    fn recover(&self, _state: &OperatorState, _committed: bool) -> Result<()> {
        Ok(())
    }
    /// From now on there may be a checkpoint from which the job can go on, even if nobody learns that it is complete: what
    /// is prepared stays, however the job ends.
    fn keep(&self) {}
    /// A checkpoint of this attempt is complete and durable: commits what the writers prepared for it, and for those
    /// before it. After an error it may be called again. Not for the checkpoint that the attempt goes on from, which
    /// `recover` has seen.
    fn checkpoint_complete(&self, _checkpoint: CheckpointId) -> Result<()> {
        Ok(())
    }
    /// The job has succeeded, and the last checkpoint, where there are any, is durable: makes visible what is left.
    fn commit(&self) -> Result<()>;
    /// The job has ended otherwise: removes all traces of the execution, but for those that a checkpoint refers to.
    fn abort(&self) -> Result<()>;
    /// The job has ended otherwise, and may go on from its job directory.
    fn suspend(&self) -> Result<()> {
        self.abort()
    }
    /// Whether another process can commit what writers have handed over.
    fn outlives_process(&self) -> bool {
        false
    }
    /// The units `(subtask, unit)` whose writers have handed something over.
    fn places(&self) -> Vec<(usize, usize)> {
        Vec::new()
    }
    /// What the last attempt of a unit has handed over, fit to be written down; `None` if another process could not
    /// commit it.
    fn handed_over(&self, _at: (usize, usize)) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
    /// Takes over what a process before this one has written down for a unit. False if it is not there any more.
    fn take_over(&self, _at: (usize, usize), _written_down: &[u8]) -> Result<bool> {
        Ok(false)
    }
}

/// A sink together with its record type.
pub struct TypedSink<T, S> {
    sink: S,
    types: PhantomData<fn(T)>,
}

impl<T, S> TypedSink<T, S> {
    /// The sink for records of type `T`.
    pub fn new(sink: S) -> Self {
        TypedSink { sink, types: PhantomData }
    }
}

impl<T: Data, S: Sink<T>> AnySink for TypedSink<T, S> {
    fn describe(&self) -> String {
        self.sink.describe()
    }
    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![EntryTable::<(S::Committable,)>::boxed(COMMITTABLES, Layout::Entries, &["committable"])]
    }
    fn start(self: Arc<Self>, ctx: SinkContext) -> Result<Arc<dyn SinkRun>> {
        if !ctx.committing {
            self.sink.prepare(&ctx)?;
        }
        let resumable = AtomicBool::new(ctx.restored);
        Ok(Arc::new(Run { sink: self, ctx, notes: Notes::default(), resumable }))
    }
}

struct Run<T: Data, S: Sink<T>> {
    sink: Arc<TypedSink<T, S>>,
    ctx: SinkContext,
    notes: Notes<S::Committable>,
    /// Whether there is a checkpoint from which the job may go on.
    resumable: AtomicBool,
}

impl<T: Data, S: Sink<T>> SinkRun for Run<T, S> {
    fn operator(&self) -> Box<dyn AnyOperator> {
        OneInput::boxed(Write {
            sink: self.sink.clone(),
            ctx: self.ctx.clone(),
            writer: None,
            notes: self.notes.clone(),
            last_barrier: 0,
            last_states: Section::default(),
            failure: None,
        })
    }

    fn recover(&self, state: &OperatorState, committed: bool) -> Result<()> {
        self.notes.clear();
        let committables = state.entries(COMMITTABLES).collect::<Result<Vec<S::Committable>>>()?;
        let states = WriterStates::all(state);
        self.sink.sink.recover(Recovered { committables, committed, states }, &self.ctx)
    }

    fn keep(&self) {
        self.resumable.store(true, Ordering::Relaxed);
    }

    fn checkpoint_complete(&self, checkpoint: CheckpointId) -> Result<()> {
        self.keep();
        let due = self.notes.up_to(checkpoint);
        if !due.is_empty() {
            failpoint::check("sink.commit")?;
            self.sink.sink.commit(due, &self.ctx)?;
            failpoint::check("sink.committed")?;
            self.notes.strike(checkpoint);
        }
        Ok(())
    }

    fn commit(&self) -> Result<()> {
        let rest = self.notes.up_to(CheckpointId::MAX);
        if !self.ctx.checkpoints || !rest.is_empty() {
            self.sink.sink.commit(rest, &self.ctx)?;
            self.notes.clear();
        }
        failpoint::check("sink.finish")?;
        self.sink.sink.finish(&self.ctx)
    }

    fn abort(&self) -> Result<()> {
        match self.ctx.checkpoints && self.resumable.load(Ordering::Relaxed) {
            true => self.sink.sink.suspend(&self.ctx),
            false => self.sink.sink.abort(&self.ctx),
        }
    }

    fn suspend(&self) -> Result<()> {
        self.sink.sink.suspend(&self.ctx)
    }

    fn outlives_process(&self) -> bool {
        self.sink.sink.outlives_process()
    }

    fn places(&self) -> Vec<(usize, usize)> {
        self.notes.places()
    }

    fn handed_over(&self, at: (usize, usize)) -> Result<Option<Vec<u8>>> {
        if !self.outlives_process() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        encode(&self.notes.of(at), &mut bytes)?;
        Ok(Some(bytes))
    }

    fn take_over(&self, at: (usize, usize), written_down: &[u8]) -> Result<bool> {
        let committables: Vec<S::Committable> = decode(written_down)?;
        for committable in &committables {
            if !self.sink.sink.is_intact(committable, &self.ctx)? {
                return Ok(false);
            }
        }
        self.notes.restart(at);
        self.notes.add(AT_END, at, committables);
        Ok(true)
    }
}

struct Write<T: Data, S: Sink<T>> {
    sink: Arc<TypedSink<T, S>>,
    ctx: SinkContext,
    /// None before `open`, after the end, and after a failure.
    writer: Option<S::Writer>,
    notes: Notes<S::Committable>,
    /// The last barrier that has come; 0 before the first.
    last_barrier: CheckpointId,
    /// What the writer kept at its end.
    last_states: Section,
    /// Why a commit could not be prepared: nothing is written after that.
    failure: Option<String>,
}

impl<T: Data, S: Sink<T>> Write<T, S> {
    fn at(&self) -> (usize, usize) {
        (self.ctx.subtask, self.ctx.unit)
    }

    fn writer(&mut self) -> Result<&mut S::Writer> {
        match (&mut self.writer, &self.failure) {
            (Some(writer), _) => Ok(writer),
            (None, Some(failure)) => {
                let message = format!("an earlier attempt to make its output durable has failed: {failure}");
                Err(Error::io("go on with", self.sink.sink.describe(), io::Error::other(message)))
            }
            (None, None) => Err(Error::Internal("a sink was not opened".into())),
        }
    }

    /// Asks the writer to prepare a commit, and notes what it hands over for a checkpoint.
    fn prepare_commit(&mut self, at: CommitPoint, noted_for: CheckpointId) -> Result<Section> {
        failpoint::check("sink.prepare")?;
        let writer = self.writer()?;
        let mut states = Section::default();
        let prepared = writer.prepare_commit(at).and_then(|prepared| {
            writer.snapshot(&mut states)?;
            Ok(prepared)
        });
        match prepared {
            Ok(_) if mutant::is("last_part_dropped") && at == CommitPoint::End => {}
            Ok(prepared) => self.notes.add(noted_for, self.at(), prepared),
            Err(e) => {
                self.failure = Some(e.to_string());
                self.writer = None;
                return Err(e);
            }
        }
        failpoint::check("sink.prepared")?;
        Ok(states)
    }
}

impl<T: Data, S: Sink<T>> Operator for Write<T, S> {
    type In = T;
    type Out = ();

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        let runtime = &ctx.runtime;
        self.ctx.subtask = runtime.subtask;
        self.ctx.parallelism = runtime.parallelism;
        self.ctx.unit = runtime.unit;
        self.ctx.attempt = runtime.attempt;
        // Those of the attempt.
        self.ctx.counters = runtime.counters.clone();
        self.notes.restart(self.at());
        self.writer = Some(self.sink.sink.writer(&self.ctx)?);
        Ok(())
    }

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, _out: &mut Out<()>) -> Result<Progress> {
        let writer = self.writer()?;
        if writer.is_blocked() {
            return Ok(Progress::Blocked);
        }
        writer.write(batch)?;
        Ok(Progress::Done)
    }

    fn processing_time(
        &mut self,
        now: Timestamp,
        _ctx: &mut Context,
        _out: &mut Out<()>,
    ) -> Result<Progress> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.processing_time(now))?;
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.writer.as_ref()?.next_timer()
    }

    fn end_of_input(&mut self, _ctx: &mut Context, _out: &mut Out<()>) -> Result<Progress> {
        let writer = self.writer()?;
        if writer.is_blocked() {
            return Ok(Progress::Blocked);
        }
        self.last_states = self.prepare_commit(CommitPoint::End, self.last_barrier.saturating_add(1))?;
        self.writer = None;
        Ok(Progress::Done)
    }

    fn idle(&mut self) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.flush())
    }

    fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        if !self.ctx.checkpoints {
            // What is looked at in a test: the job itself commits at its end.
            return Ok(Progress::Done);
        }
        let states = match (&self.writer, &self.failure) {
            (None, None) => self.last_states.clone(),
            _ => self.prepare_commit(CommitPoint::Barrier(barrier), barrier.id)?,
        };
        self.last_barrier = self.last_barrier.max(barrier.id);
        if !states.is_empty() {
            into.section(STATES).append(states.bytes(), states.len());
        }
        let committables = self.notes.of(self.at());
        committables.iter().try_for_each(|committable| into.put(COMMITTABLES, committable))?;
        Ok(Progress::Done)
    }

    fn restore(&mut self, state: &OperatorState, _ctx: &mut Context) -> Result<()> {
        let (subtask, parallelism) = (self.ctx.subtask, self.ctx.parallelism);
        self.writer()?.restore(&WriterStates::of_writer(state, subtask, parallelism))
    }

    fn close(&mut self) -> Result<()> {
        self.writer = None;
        Ok(())
    }
}

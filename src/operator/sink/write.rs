//! Sink operator: hands records to a sink's writer and keeps what is to be committed when the job succeeds.

use super::contract::{Sink, SinkContext, SinkWriter};
use crate::base::batch::Batch;
use crate::base::codec::{decode, encode};
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::operator::erased::{AnyOperator, OneInput};
use crate::operator::{Context, Operator, Out, Progress};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// A sink as plan and executors see it.
pub trait AnySink: Send + Sync {
    /// What the plan shows.
    fn describe(&self) -> String;
    /// Checks and prepares the target for one execution.
    fn start(self: Arc<Self>, ctx: SinkContext) -> Result<Arc<dyn SinkRun>>;
}

/// A sink in one execution of a job.
pub trait SinkRun: Send + Sync {
    /// The writing operator of one attempt.
    fn operator(&self) -> Box<dyn AnyOperator>;
    /// Makes visible what the finished attempts wrote.
    fn commit(&self) -> Result<()>;
    /// Removes all traces of the execution.
    fn abort(&self) -> Result<()>;
    /// Lets go of an execution that may be resumed.
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
    /// What the last attempt of a unit has handed over, fit to be written down; `None` if another
    /// process could not commit it.
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
    fn start(self: Arc<Self>, ctx: SinkContext) -> Result<Arc<dyn SinkRun>> {
        if !ctx.committing {
            self.sink.prepare(&ctx)?;
        }
        Ok(Arc::new(Run { sink: self, ctx, committables: Arc::default() }))
    }
}

/// What finished attempts wrote, by subtask and unit: a later attempt replaces an earlier one.
type Committables<C> = Arc<Mutex<BTreeMap<(usize, usize), Vec<C>>>>;

struct Run<T: Data, S: Sink<T>> {
    sink: Arc<TypedSink<T, S>>,
    ctx: SinkContext,
    committables: Committables<S::Committable>,
}

impl<T: Data, S: Sink<T>> SinkRun for Run<T, S> {
    fn operator(&self) -> Box<dyn AnyOperator> {
        OneInput::boxed(Write {
            sink: self.sink.clone(),
            ctx: self.ctx.clone(),
            writer: None,
            committables: self.committables.clone(),
        })
    }
    fn commit(&self) -> Result<()> {
        let all = self.committables.lock().unwrap_or_else(PoisonError::into_inner);
        self.sink.sink.commit(all.values().flatten().cloned().collect(), &self.ctx)
    }
    fn abort(&self) -> Result<()> {
        self.sink.sink.abort(&self.ctx)
    }
    fn suspend(&self) -> Result<()> {
        self.sink.sink.suspend(&self.ctx)
    }
    fn outlives_process(&self) -> bool {
        self.sink.sink.outlives_process()
    }
    fn places(&self) -> Vec<(usize, usize)> {
        self.committables.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
    fn handed_over(&self, at: (usize, usize)) -> Result<Option<Vec<u8>>> {
        if !self.sink.sink.outlives_process() {
            return Ok(None);
        }
        let all = self.committables.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        encode(&all.get(&at).map_or(&[][..], Vec::as_slice), &mut bytes)?;
        Ok(Some(bytes))
    }
    fn take_over(&self, at: (usize, usize), written_down: &[u8]) -> Result<bool> {
        let committables: Vec<S::Committable> = decode(written_down)?;
        for committable in &committables {
            if !self.sink.sink.is_intact(committable, &self.ctx)? {
                return Ok(false);
            }
        }
        self.committables.lock().unwrap_or_else(PoisonError::into_inner).insert(at, committables);
        Ok(true)
    }
}

struct Write<T: Data, S: Sink<T>> {
    sink: Arc<TypedSink<T, S>>,
    ctx: SinkContext,
    writer: Option<S::Writer>,
    committables: Committables<S::Committable>,
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
        self.writer = Some(self.sink.sink.writer(&self.ctx)?);
        Ok(())
    }

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, _out: &mut Out<()>) -> Result<Progress> {
        let writer = self.writer.as_mut().ok_or_else(|| Error::Internal("a sink was not opened".into()))?;
        if writer.is_blocked() {
            return Ok(Progress::Blocked);
        }
        writer.write(batch)?;
        Ok(Progress::Done)
    }

    fn end_of_input(&mut self, _ctx: &mut Context, _out: &mut Out<()>) -> Result<Progress> {
        let Some(writer) = &mut self.writer else { return Ok(Progress::Done) };
        if writer.is_blocked() {
            return Ok(Progress::Blocked);
        }
        let finished = writer.finish()?;
        self.writer = None;
        let at = (self.ctx.subtask, self.ctx.unit);
        self.committables.lock().unwrap_or_else(PoisonError::into_inner).insert(at, finished);
        Ok(Progress::Done)
    }

    fn idle(&mut self) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.flush())
    }

    fn close(&mut self) -> Result<()> {
        self.writer = None;
        Ok(())
    }
}

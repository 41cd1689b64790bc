//! Process: a user function with a life of its own, called for each record.

use super::collector::Collector;
use super::{Context, Operator, Out, Progress, RuntimeContext, UserResult};
use crate::base::batch::Batch;
use crate::base::data::{Data, Timestamp};
use crate::base::error::{Error, Result};
use std::marker::PhantomData;

/// A function over records without a key. One value serves one attempt of one subtask: `open`, then `process` for
/// each record, `finish` after the last one, then `close`, all from one thread at a time. An error or a panic in any of
/// them fails the job and names the operator.
pub trait ProcessFunction<In, Out: Data>: Send + 'static {
    /// Before the first record.
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        Ok(())
    }
    /// One record, with its timestamp and the current watermark in `ctx`.
    fn process(&mut self, record: In, ctx: &ProcessContext<'_>, out: &mut Collector<'_, Out>) -> UserResult;
    /// After the last record, also after a failure.
    fn close(&mut self) -> UserResult {
        Ok(())
    }
}

/// What a [`ProcessFunction`] may know about the record at hand.
pub struct ProcessContext<'a> {
    context: &'a Context,
    timestamp: Option<Timestamp>,
}

impl ProcessContext<'_> {
    /// Event time of the record, if the stream has timestamps.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }
    /// The watermark: no record with a timestamp at or below it is expected any more.
    pub fn watermark(&self) -> Timestamp {
        self.context.watermark
    }
    /// The subtask this function runs in.
    pub fn runtime(&self) -> &RuntimeContext {
        &self.context.runtime
    }
}

/// Runs a [`ProcessFunction`].
pub struct Process<T, U, P> {
    function: P,
    reversed: bool,
    types: PhantomData<fn(T) -> U>,
}

impl<T, U, P> Process<T, U, P> {
    /// The operator around `function`.
    pub fn new(function: P) -> Self {
        Process { function, reversed: false, types: PhantomData }
    }
}

impl<T: Data, U: Data, P: ProcessFunction<T, U>> Operator for Process<T, U, P> {
    type In = T;
    type Out = U;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.function.open(&ctx.runtime).map_err(Error::User)
    }

    fn process(&mut self, batch: &mut Batch<T>, ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        if !std::mem::replace(&mut self.reversed, true) {
            batch.reverse();
        }
        while !out.is_full() {
            let Some((value, timestamp)) = batch.pop() else { break };
            let context = ProcessContext { context: ctx, timestamp };
            self.function
                .process(value, &context, &mut Collector::new(out, timestamp))
                .map_err(Error::User)?;
        }
        if !batch.is_empty() {
            return Ok(Progress::Yielded);
        }
        self.reversed = false;
        Ok(Progress::Done)
    }

    fn close(&mut self) -> Result<()> {
        self.function.close().map_err(Error::User)
    }
}

//! Process: a user function over records without a key.

use super::hooks::{SubtaskState, subtask_calls};
use super::snapshot::subtask_tables;
use super::{OperatorContext, Reversed, each};
use crate::base::batch::{Barrier, Batch, CheckpointId};
use crate::base::data::{Data, Timestamp};
use crate::base::error::{Error, Result};
use crate::operator::collector::Collector;
use crate::operator::{Context, Operator, Out, Progress, RuntimeContext, UserResult};
use crate::semantics::state::{OperatorSnapshot, OperatorState, StateTable, States};
use std::marker::PhantomData;

/// A function over records without a key. One value serves one attempt of one subtask: `open`, then `process` for
/// each record, then `close`, all from one thread at a time. An error or a panic in any of them fails the job and names
/// the operator.
///
/// ```
/// # use mainstem::prelude::*;
/// /// Numbers the records of its subtask.
/// #[derive(Clone, Default)]
/// struct Numbered { seen: u64 }
/// impl ProcessFunction<&'static str, String> for Numbered {
///     fn process(
///         &mut self, record: &'static str, ctx: &ProcessContext<'_>, out: &mut Collector<'_, String>,
///     ) -> UserResult {
///         self.seen += 1;
///         out.emit(format!("{record} is {} of subtask {}", self.seen, ctx.runtime().subtask_index()));
///         Ok(())
///     }
/// }
/// ```
pub trait ProcessFunction<In, Out: Data>: Send + 'static {
    /// Before the first record.
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        Ok(())
    }
    /// One record, with its timestamp and the current watermark in `ctx`.
    fn process(&mut self, record: In, ctx: &ProcessContext<'_>, out: &mut Collector<'_, Out>) -> UserResult;
    /// Once before the first record, also where nothing was kept before: takes up operator state. There is no current key.
    fn initialize_state(&mut self, _state: &mut OperatorContext<'_>) -> UserResult {
        Ok(())
    }
    /// A snapshot is taken: puts what the function keeps in fields into operator state. There is no current key.
    fn snapshot_state(&mut self, _state: &mut OperatorContext<'_>) -> UserResult {
        Ok(())
    }
    /// The checkpoint is complete: what was kept in its snapshot will not be lost. May be skipped for one that is followed by
    /// another.
    fn checkpoint_complete(&mut self, _checkpoint: CheckpointId) -> UserResult {
        Ok(())
    }
    /// After the last record, also after a failure.
    fn close(&mut self) -> UserResult {
        Ok(())
    }
}

/// What a function without a key may know about the record at hand.
pub struct ProcessContext<'a> {
    context: &'a Context,
    timestamp: Option<Timestamp>,
}

impl<'a> ProcessContext<'a> {
    #[inline(always)]
    pub(super) fn new(context: &'a Context, timestamp: Option<Timestamp>) -> Self {
        ProcessContext { context, timestamp }
    }
    /// Event time of the record, if the stream has timestamps.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }
    /// The watermark: no record with a timestamp at or below it is expected any more. In BATCH it is at its minimum.
    pub fn watermark(&self) -> Timestamp {
        self.context.watermark
    }
    /// The clock, in milliseconds since the epoch.
    pub fn processing_time(&self) -> Timestamp {
        self.context.clock.now_ms()
    }
    /// The subtask this function runs in.
    pub fn runtime(&self) -> &RuntimeContext {
        &self.context.runtime
    }
}

/// Runs a [`ProcessFunction`].
pub struct Process<T, U, P> {
    function: P,
    kept: SubtaskState,
    reversed: Reversed,
    types: PhantomData<fn(T) -> U>,
}

impl<T, U, P> Process<T, U, P> {
    /// The operator around `function`.
    pub fn new(function: P) -> Self {
        Process::with_states(function, States::default())
    }

    /// The operator around `function`, whose operator state was declared in `states`.
    pub fn with_states(function: P, states: States) -> Self {
        Process {
            function,
            kept: SubtaskState::new(states),
            reversed: Reversed::default(),
            types: PhantomData,
        }
    }
}

impl<T: Data, U: Data, P: ProcessFunction<T, U>> Operator for Process<T, U, P> {
    type In = T;
    type Out = U;

    subtask_calls!();

    fn process(&mut self, batch: &mut Batch<T>, ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        let Process { function, kept, reversed, .. } = self;
        kept.initialize(|state| function.initialize_state(state))?;
        each(batch, reversed, out, |record, timestamp, out| {
            let context = ProcessContext::new(ctx, timestamp);
            function.process(record, &context, &mut Collector::new(out, timestamp))
        })
    }
}

//! BroadcastProcess: a user function over a stream, and over another that every subtask sees as a whole.
//!
//! Method: both sides reach the maps of the subtask through contexts of their own; that of the stream only reads.

use super::hooks::{SubtaskState, subtask_calls};
use super::snapshot::subtask_tables;
use super::{OperatorContext, Reversed, each};
use crate::base::batch::{Barrier, Batch, CheckpointId};
use crate::base::data::{Data, Timestamp};
use crate::base::error::{Error, Result};
use crate::operator::collector::Collector;
use crate::operator::{Context, Out, Progress, RuntimeContext, TwoInputOperator, UserResult};
use crate::semantics::state::{
    BroadcastRead, BroadcastWrite, OperatorSnapshot, OperatorState, StateTable, States,
};
use qcell::QCellOwner;
use std::marker::PhantomData;

/// A function over a stream without a key and over broadcast records, which every subtask sees all of. What they say is
/// kept in broadcast state: the broadcast side writes it, the other one reads it. Between the two there is no order in
/// STREAMING; in BATCH all broadcast records come first. Each subtask writes its own copy, so what is written must depend
/// on the broadcast records only, not on their order.
///
/// ```
/// # use mainstem::prelude::*;
/// struct Named { names: BroadcastState<u32, String> }
/// impl BroadcastProcessFunction<u32, (u32, String), String> for Named {
///     fn process(&mut self, id: u32, ctx: &ReadOnlyContext<'_>, out: &mut Collector<'_, String>) -> UserResult {
///         out.emit(self.names.get(ctx, &id).cloned().unwrap_or_default());
///         Ok(())
///     }
///     fn process_broadcast(
///         &mut self, (id, name): (u32, String), ctx: &mut BroadcastContext<'_>, _: &mut Collector<'_, String>,
///     ) -> UserResult {
///         self.names.insert(ctx, id, name);
///         Ok(())
///     }
/// }
/// let env = Environment::new().execution_mode(ExecutionMode::Batch);
/// let names = env.from_iter([(1, "one".to_string()), (2, "two".to_string())]);
/// let named = env.from_iter([2, 1, 2]).connect_broadcast(&names).process(|states| Named {
///     names: states.broadcast("names"),
/// });
/// let mut named = named.execute_and_collect("named")?.into_vec()?;
/// named.sort();
/// assert_eq!(named, ["one", "two", "two"]);
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// The side of the stream cannot write:
///
/// ```compile_fail,E0277
/// # use mainstem::prelude::*;
/// fn process(names: &BroadcastState<u32, String>, ctx: &mut ReadOnlyContext<'_>) {
///     names.insert(ctx, 1, "one".to_string());
/// }
/// ```
pub trait BroadcastProcessFunction<In, R, Out: Data>: Send + 'static {
    /// Before the first record.
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        Ok(())
    }
    /// One record of the stream.
    fn process(&mut self, record: In, ctx: &ReadOnlyContext<'_>, out: &mut Collector<'_, Out>) -> UserResult;
    /// One broadcast record.
    fn process_broadcast(
        &mut self,
        record: R,
        ctx: &mut BroadcastContext<'_>,
        out: &mut Collector<'_, Out>,
    ) -> UserResult;
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

/// What the side of the stream sees: broadcast state to read, and what is known of the record at hand.
pub struct ReadOnlyContext<'a> {
    context: &'a Context,
    states: &'a States,
    timestamp: Option<Timestamp>,
}

/// What the broadcast side sees: broadcast state to read and to write, and what is known of the record at hand.
pub struct BroadcastContext<'a> {
    context: &'a Context,
    states: &'a mut States,
    timestamp: Option<Timestamp>,
}

impl BroadcastContext<'_> {
    pub(super) fn states(&self) -> &States {
        self.states
    }
    pub(super) fn states_mut(&mut self) -> &mut States {
        self.states
    }
}

macro_rules! clocks {
    ($name:ident) => {
        impl $name<'_> {
            /// Event time of the record, if the stream has timestamps.
            pub fn timestamp(&self) -> Option<Timestamp> {
                self.timestamp
            }
            /// The watermark of both inputs together. In BATCH it is at its minimum.
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
        impl BroadcastRead for $name<'_> {
            #[inline(always)]
            fn broadcast(&self) -> &QCellOwner {
                self.states.owner()
            }
        }
    };
}
clocks!(ReadOnlyContext);
clocks!(BroadcastContext);

impl BroadcastWrite for BroadcastContext<'_> {
    #[inline(always)]
    fn broadcast_mut(&mut self) -> &mut QCellOwner {
        self.states.owner_mut()
    }
}

/// Runs a [`BroadcastProcessFunction`]: the stream is the first input, the broadcast one the second.
pub struct BroadcastProcess<T, R, U, P> {
    function: P,
    kept: SubtaskState,
    reversed: Reversed,
    types: PhantomData<fn(T, R) -> U>,
}

impl<T, R, U, P> BroadcastProcess<T, R, U, P> {
    /// The operator around `function`, whose state was declared in `states`.
    pub fn new(function: P, states: States) -> Self {
        let (kept, reversed) = (SubtaskState::new(states), Reversed::default());
        BroadcastProcess { function, kept, reversed, types: PhantomData }
    }
}

impl<T, R, U, P> TwoInputOperator for BroadcastProcess<T, R, U, P>
where
    T: Data,
    R: Data,
    U: Data,
    P: BroadcastProcessFunction<T, R, U>,
{
    type Left = T;
    type Right = R;
    type Out = U;

    subtask_calls!();

    fn process_left(
        &mut self,
        batch: &mut Batch<T>,
        context: &mut Context,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        let BroadcastProcess { function, kept, reversed, .. } = self;
        kept.initialize(|state| function.initialize_state(state))?;
        let states = &mut kept.states;
        each(batch, reversed, out, |record, timestamp, out| {
            let context = ReadOnlyContext { context, states, timestamp };
            function.process(record, &context, &mut Collector::new(out, timestamp))
        })
    }

    fn process_right(
        &mut self,
        batch: &mut Batch<R>,
        context: &mut Context,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        let BroadcastProcess { function, kept, reversed, .. } = self;
        kept.initialize(|state| function.initialize_state(state))?;
        let states = &mut kept.states;
        each(batch, reversed, out, |record, timestamp, out| {
            let mut context = BroadcastContext { context, states, timestamp };
            function.process_broadcast(record, &mut context, &mut Collector::new(out, timestamp))
        })
    }
}

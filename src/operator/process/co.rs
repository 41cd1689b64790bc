//! CoProcess, CoMap, CoFlatMap: user functions over two connected streams without a key.

use super::hooks::{SubtaskState, subtask_calls};
use super::snapshot::subtask_tables;
use super::{OperatorContext, ProcessContext, Reversed, each};
use crate::base::batch::{Barrier, Batch, CheckpointId};
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::operator::collector::Collector;
use crate::operator::{Context, Out, Progress, RuntimeContext, TwoInputOperator, UserResult};
use crate::semantics::state::{OperatorSnapshot, OperatorState, StateTable, States};
use std::marker::PhantomData;

/// A function over the records of two streams without a key, which may share its fields. One value serves one attempt
/// of one subtask; calls come from one thread at a time. Between the two streams there is no order. An error or a
/// panic in any of the calls fails the job and names the operator.
///
/// ```
/// # use mainstem::prelude::*;
/// /// Lets the numbers through that are larger than the last limit.
/// #[derive(Clone, Default)]
/// struct Limited { limit: u64 }
/// impl CoProcessFunction<u64, u64, u64> for Limited {
///     fn process_left(&mut self, n: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
///         if n > self.limit {
///             out.emit(n);
///         }
///         Ok(())
///     }
///     fn process_right(&mut self, limit: u64, _: &ProcessContext<'_>, _: &mut Collector<'_, u64>) -> UserResult {
///         self.limit = limit;
///         Ok(())
///     }
/// }
/// let env = Environment::new().parallelism(1);
/// let limited = env.from_iter([1, 2, 3]).connect(&env.from_iter([0])).process(Limited::default());
/// assert_eq!(limited.execute_and_collect("limited")?.into_vec()?, [1, 2, 3]);
/// # Ok::<(), mainstem::Error>(())
/// ```
pub trait CoProcessFunction<L, R, Out: Data>: Send + 'static {
    /// Before the first record.
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        Ok(())
    }
    /// One record of the first stream.
    fn process_left(
        &mut self,
        record: L,
        ctx: &ProcessContext<'_>,
        out: &mut Collector<'_, Out>,
    ) -> UserResult;
    /// One record of the second stream.
    fn process_right(
        &mut self,
        record: R,
        ctx: &ProcessContext<'_>,
        out: &mut Collector<'_, Out>,
    ) -> UserResult;
    /// Once before the first record, also where nothing was kept before: takes up operator state.
    fn initialize_state(&mut self, _state: &mut OperatorContext<'_>) -> UserResult {
        Ok(())
    }
    /// A snapshot is taken: puts what the function keeps in fields into operator state.
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

/// Runs a [`CoProcessFunction`].
pub struct CoProcess<L, R, U, P> {
    function: P,
    kept: SubtaskState,
    reversed: Reversed,
    types: PhantomData<fn(L, R) -> U>,
}

impl<L, R, U, P> CoProcess<L, R, U, P> {
    /// The operator around `function`.
    pub fn new(function: P) -> Self {
        CoProcess::with_states(function, States::default())
    }

    /// The operator around `function`, whose operator state was declared in `states`.
    pub fn with_states(function: P, states: States) -> Self {
        let (kept, reversed) = (SubtaskState::new(states), Reversed::default());
        CoProcess { function, kept, reversed, types: PhantomData }
    }
}

impl<L: Data, R: Data, U: Data, P: CoProcessFunction<L, R, U>> TwoInputOperator for CoProcess<L, R, U, P> {
    type Left = L;
    type Right = R;
    type Out = U;

    subtask_calls!();

    fn process_left(
        &mut self,
        batch: &mut Batch<L>,
        ctx: &mut Context,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        let CoProcess { function, kept, reversed, .. } = self;
        kept.initialize(|state| function.initialize_state(state))?;
        each(batch, reversed, out, |record, timestamp, out| {
            let context = ProcessContext::new(ctx, timestamp);
            function.process_left(record, &context, &mut Collector::new(out, timestamp))
        })
    }

    fn process_right(
        &mut self,
        batch: &mut Batch<R>,
        ctx: &mut Context,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        let CoProcess { function, kept, reversed, .. } = self;
        kept.initialize(|state| function.initialize_state(state))?;
        each(batch, reversed, out, |record, timestamp, out| {
            let context = ProcessContext::new(ctx, timestamp);
            function.process_right(record, &context, &mut Collector::new(out, timestamp))
        })
    }
}

/// Two closures as a [`CoProcessFunction`] with one record out for each record in.
#[derive(Clone)]
pub struct CoMap<F, G>(pub F, pub G);

impl<L, R, U, F, G> CoProcessFunction<L, R, U> for CoMap<F, G>
where
    U: Data,
    F: FnMut(L) -> U + Send + 'static,
    G: FnMut(R) -> U + Send + 'static,
{
    #[inline(always)]
    fn process_left(&mut self, record: L, _: &ProcessContext<'_>, out: &mut Collector<'_, U>) -> UserResult {
        out.emit((self.0)(record));
        Ok(())
    }
    #[inline(always)]
    fn process_right(&mut self, record: R, _: &ProcessContext<'_>, out: &mut Collector<'_, U>) -> UserResult {
        out.emit((self.1)(record));
        Ok(())
    }
}

/// Two closures as a [`CoProcessFunction`] with any number of records out for each record in.
#[derive(Clone)]
pub struct CoFlatMap<F, G>(pub F, pub G);

impl<L, R, U, F, G> CoProcessFunction<L, R, U> for CoFlatMap<F, G>
where
    U: Data,
    F: FnMut(L, &mut Collector<'_, U>) + Send + 'static,
    G: FnMut(R, &mut Collector<'_, U>) + Send + 'static,
{
    #[inline(always)]
    fn process_left(&mut self, record: L, _: &ProcessContext<'_>, out: &mut Collector<'_, U>) -> UserResult {
        (self.0)(record, out);
        Ok(())
    }
    #[inline(always)]
    fn process_right(&mut self, record: R, _: &ProcessContext<'_>, out: &mut Collector<'_, U>) -> UserResult {
        (self.1)(record, out);
        Ok(())
    }
}

//! KeyedCoProcess: a user function over two streams with state and timers for each key they have in common.

use super::OperatorContext;
use super::backend::{Backend, keyed_calls};
use super::context::{KeyedContext, TimerFired};
use crate::base::batch::{Batch, CheckpointId};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::operator::collector::Collector;
use crate::operator::exchange::KeySelector;
use crate::operator::{Context, Out, Progress, RuntimeContext, TwoInputOperator, UserResult};
use crate::semantics::state::States;
use std::marker::PhantomData;
use std::sync::Arc;

/// A function over the records of a key from two streams, which share the key's state and timers. In STREAMING
/// there is no order between the streams; in BATCH the records of a key come in the order of their timestamps, those of the
/// first stream before those of the second where they are equal. For all else see
/// [`KeyedProcessFunction`](super::KeyedProcessFunction).
///
/// ```
/// # use mainstem::prelude::*;
/// /// The price of an order and its payment, whichever comes first.
/// struct Paid { price: ValueState<u64>, payment: ValueState<u64> }
/// impl KeyedCoProcessFunction<u32, (u32, u64), (u32, u64), (u32, u64, u64)> for Paid {
///     fn process_left(
///         &mut self, order: (u32, u64), ctx: &mut KeyedContext<u32>, out: &mut Collector<'_, (u32, u64, u64)>,
///     ) -> UserResult {
///         match self.payment.take(ctx) {
///             Some(payment) => out.emit((order.0, order.1, payment)),
///             None => self.price.set(ctx, order.1),
///         }
///         Ok(())
///     }
///     fn process_right(
///         &mut self, payment: (u32, u64), ctx: &mut KeyedContext<u32>, out: &mut Collector<'_, (u32, u64, u64)>,
///     ) -> UserResult {
///         match self.price.take(ctx) {
///             Some(price) => out.emit((payment.0, price, payment.1)),
///             None => self.payment.set(ctx, payment.1),
///         }
///         Ok(())
///     }
/// }
/// let env = Environment::new();
/// let orders = env.from_iter([(1, 500), (2, 70)]).key_by(|order: &(u32, u64)| order.0);
/// let payments = env.from_iter([(2, 70), (1, 499)]).key_by(|payment: &(u32, u64)| payment.0);
/// let paid = orders.connect(&payments).process(|states| Paid {
///     price: states.value("price"),
///     payment: states.value("payment"),
/// });
/// let mut paid = paid.execute_and_collect("paid")?.into_vec()?;
/// paid.sort();
/// assert_eq!(paid, [(1, 500, 499), (2, 70, 70)]);
/// # Ok::<(), mainstem::Error>(())
/// ```
pub trait KeyedCoProcessFunction<K: Key, L, R, Out: Data>: Send + 'static {
    /// Before the first record. There is no current key.
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        Ok(())
    }
    /// One record of the first stream.
    fn process_left(
        &mut self,
        record: L,
        ctx: &mut KeyedContext<K>,
        out: &mut Collector<'_, Out>,
    ) -> UserResult;
    /// One record of the second stream.
    fn process_right(
        &mut self,
        record: R,
        ctx: &mut KeyedContext<K>,
        out: &mut Collector<'_, Out>,
    ) -> UserResult;
    /// One timer of the key that `ctx` knows. What is emitted carries the time of an event-time timer, and no
    /// timestamp if the timer is of processing time.
    fn on_timer(
        &mut self,
        _timer: TimerFired,
        _ctx: &mut KeyedContext<K>,
        _out: &mut Collector<'_, Out>,
    ) -> UserResult {
        Ok(())
    }
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
    /// After the last call, also after a failure.
    fn close(&mut self) -> UserResult {
        Ok(())
    }
}

/// Runs a [`KeyedCoProcessFunction`].
pub struct KeyedCoProcess<K, L, R, U, P> {
    function: P,
    left: Arc<dyn KeySelector<L, K>>,
    right: Arc<dyn KeySelector<R, K>>,
    pub(super) backend: Backend<K>,
    types: PhantomData<fn() -> U>,
}

impl<K: Key, L, R, U, P> KeyedCoProcess<K, L, R, U, P> {
    /// The operator around `function`, whose state was declared in `states`.
    pub fn new(
        function: P,
        states: States,
        left: Arc<dyn KeySelector<L, K>>,
        right: Arc<dyn KeySelector<R, K>>,
    ) -> Self {
        KeyedCoProcess { function, left, right, backend: Backend::new(states), types: PhantomData }
    }
}

impl<K, L, R, U, P> TwoInputOperator for KeyedCoProcess<K, L, R, U, P>
where
    K: Key,
    L: Data,
    R: Data,
    U: Data,
    P: KeyedCoProcessFunction<K, L, R, U>,
{
    type Left = L;
    type Right = R;
    type Out = U;

    keyed_calls!();

    fn process_left(
        &mut self,
        batch: &mut Batch<L>,
        ctx: &mut Context,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        let KeyedCoProcess { function, left, backend, .. } = self;
        let backend = backend.get()?;
        backend.initialize(|state| function.initialize_state(state))?;
        backend.process(batch, &**left, ctx, out, |record, ctx, out| function.process_left(record, ctx, out))
    }

    fn process_right(
        &mut self,
        batch: &mut Batch<R>,
        ctx: &mut Context,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        let KeyedCoProcess { function, right, backend, .. } = self;
        let backend = backend.get()?;
        backend.initialize(|state| function.initialize_state(state))?;
        backend
            .process(batch, &**right, ctx, out, |record, ctx, out| function.process_right(record, ctx, out))
    }
}

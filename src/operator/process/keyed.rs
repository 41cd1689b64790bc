//! KeyedProcess: a user function with state and timers for each key.

use super::OperatorContext;
use super::backend::{Backend, keyed_calls};
use super::context::{KeyedContext, TimerFired};
use crate::base::batch::{Batch, CheckpointId};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::operator::collector::Collector;
use crate::operator::exchange::KeySelector;
use crate::operator::{Context, Operator, Out, Progress, RuntimeContext, UserResult};
use crate::semantics::state::States;
use std::marker::PhantomData;
use std::sync::Arc;

/// A function over the records of a key. One value serves one attempt of one subtask and all of its keys (in BATCH one
/// of up to 8 hash ranges of them); calls come from one thread at a time: `open`, `process` for each record, `on_timer` for
/// each timer, `close`. State is declared while the function is made, see [`States`]; fields of the function are
/// shared by all keys and not restored. An error or a panic in any of the calls fails the job and names the operator.
///
/// ```
/// # use mainstem::prelude::*;
/// /// Emits how many records a key had, ten seconds after its first one.
/// struct CountTen { count: ValueState<u64> }
/// impl KeyedProcessFunction<String, String, (String, u64)> for CountTen {
///     fn process(
///         &mut self, _: String, ctx: &mut KeyedContext<String>, _: &mut Collector<'_, (String, u64)>,
///     ) -> UserResult {
///         let count = self.count.update(ctx, |count| { *count += 1; *count });
///         if let (1, Some(first)) = (count, ctx.timestamp()) {
///             ctx.register_event_time_timer(first + 10_000);
///         }
///         Ok(())
///     }
///     fn on_timer(
///         &mut self, _: TimerFired, ctx: &mut KeyedContext<String>, out: &mut Collector<'_, (String, u64)>,
///     ) -> UserResult {
///         let count = self.count.take(ctx).unwrap_or(0);
///         out.emit((ctx.key().clone(), count));
///         Ok(())
///     }
/// }
/// let env = Environment::new();
/// let counts = env.from_iter([(0, "a"), (2_000, "b"), (9_000, "a")].map(|(time, name)| (time, name.to_string())))
///     .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|record: &(i64, String)| record.0))
///     .map(|(_, name)| name)
///     .key_by(|name| name.clone())
///     .process(|states| CountTen { count: states.value("count") });
/// let mut counts = counts.execute_and_collect("counts")?.into_vec()?;
/// counts.sort();
/// assert_eq!(counts, [("a".to_string(), 2), ("b".to_string(), 1)]);
/// # Ok::<(), mainstem::Error>(())
/// ```
pub trait KeyedProcessFunction<K: Key, In, Out: Data>: Send + 'static {
    /// Before the first record. There is no current key.
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        Ok(())
    }
    /// One record; `ctx` knows its key, its timestamp and the watermark, and opens the key's state and timers.
    fn process(&mut self, record: In, ctx: &mut KeyedContext<K>, out: &mut Collector<'_, Out>) -> UserResult;
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

/// Runs a [`KeyedProcessFunction`].
pub struct KeyedProcess<K, T, U, P> {
    function: P,
    selector: Arc<dyn KeySelector<T, K>>,
    pub(super) backend: Backend<K>,
    types: PhantomData<fn(T) -> U>,
}

impl<K: Key, T, U, P> KeyedProcess<K, T, U, P> {
    /// The operator around `function`, whose state was declared in `states`.
    pub fn new(function: P, states: States, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        KeyedProcess { function, selector, backend: Backend::new(states), types: PhantomData }
    }
}

impl<K: Key, T: Data, U: Data, P: KeyedProcessFunction<K, T, U>> Operator for KeyedProcess<K, T, U, P> {
    type In = T;
    type Out = U;

    keyed_calls!();

    fn process(&mut self, batch: &mut Batch<T>, ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        let KeyedProcess { function, selector, backend, .. } = self;
        let backend = backend.get()?;
        backend.initialize(|state| function.initialize_state(state))?;
        backend.process(batch, &**selector, ctx, out, |record, ctx, out| function.process(record, ctx, out))
    }
}

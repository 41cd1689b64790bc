//! KeyedBroadcastProcess: state and timers for each key of a stream, and another stream that every subtask sees as a
//! whole.

use super::backend::{Backend, keyed_calls};
use super::context::{KeyedContext, Keys, TimerFired};
use super::{OperatorContext, Reversed, each};
use crate::base::batch::{Batch, CheckpointId};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::operator::collector::Collector;
use crate::operator::exchange::KeySelector;
use crate::operator::{Context, Out, Progress, RuntimeContext, TwoInputOperator, UserResult};
use crate::semantics::state::{BroadcastRead, BroadcastWrite, KeyedAccess, KeyedScope, States};
use qcell::QCellOwner;
use std::marker::PhantomData;
use std::sync::Arc;

/// A function over the records of a key and over broadcast records, which every subtask sees all of. The side of the
/// keys has state and timers, and reads broadcast state; the broadcast side writes that, and has no current key. For all else
/// see [`BroadcastProcessFunction`](super::BroadcastProcessFunction) and
/// [`KeyedProcessFunction`](super::KeyedProcessFunction).
///
/// ```
/// # use mainstem::prelude::*;
/// /// Counts the records of each key, up to a limit.
/// struct UpTo { limit: BroadcastState<(), u64>, count: ValueState<u64> }
/// impl KeyedBroadcastProcessFunction<char, char, u64, (char, u64)> for UpTo {
///     fn process(
///         &mut self, _: char, ctx: &mut KeyedContext<char>, out: &mut Collector<'_, (char, u64)>,
///     ) -> UserResult {
///         let limit = self.limit.get(ctx, &()).copied().unwrap_or(0);
///         let count = self.count.update(ctx, |count| { *count += 1; *count });
///         if count <= limit {
///             out.emit((*ctx.key(), count));
///         }
///         Ok(())
///     }
///     fn process_broadcast(
///         &mut self, limit: u64, ctx: &mut KeyedBroadcastContext<'_, char>, _: &mut Collector<'_, (char, u64)>,
///     ) -> UserResult {
///         self.limit.insert(ctx, (), limit);
///         Ok(())
///     }
/// }
/// let env = Environment::new().execution_mode(ExecutionMode::Batch);
/// let counts = env.from_iter(['a', 'a', 'a', 'b'])
///     .key_by(|c| *c)
///     .connect_broadcast(&env.from_iter([2]))
///     .process(|states| UpTo { limit: states.broadcast("limit"), count: states.value("count") });
/// let mut counts = counts.execute_and_collect("counts")?.into_vec()?;
/// counts.sort();
/// assert_eq!(counts, [('a', 1), ('a', 2), ('b', 1)]);
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// The broadcast side has no current key, so it has neither state of one nor timers:
///
/// ```compile_fail,E0277
/// # use mainstem::prelude::*;
/// fn process_broadcast(count: &ValueState<u64>, ctx: &mut KeyedBroadcastContext<'_, char>) {
///     count.set(ctx, 1);
/// }
/// ```
///
/// ```compile_fail,E0599
/// # use mainstem::prelude::*;
/// fn process_broadcast(ctx: &mut KeyedBroadcastContext<'_, char>) {
///     ctx.register_event_time_timer(1);
/// }
/// ```
///
/// And the side of the keys only reads broadcast state:
///
/// ```compile_fail,E0277
/// # use mainstem::prelude::*;
/// fn process(limit: &BroadcastState<u64, u64>, ctx: &mut KeyedContext<char>) {
///     limit.insert(ctx, 1, 1);
/// }
/// ```
pub trait KeyedBroadcastProcessFunction<K: Key, In, R, Out: Data>: Send + 'static {
    /// Before the first record. There is no current key.
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        Ok(())
    }
    /// One record of the keyed stream.
    fn process(&mut self, record: In, ctx: &mut KeyedContext<K>, out: &mut Collector<'_, Out>) -> UserResult;
    /// One broadcast record.
    fn process_broadcast(
        &mut self,
        record: R,
        ctx: &mut KeyedBroadcastContext<'_, K>,
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

/// What the broadcast side sees: broadcast state to read and to write, the state of all keys one after the other, and
/// what is known of the record at hand.
pub struct KeyedBroadcastContext<'a, K> {
    keyed: &'a mut KeyedContext<K>,
}

impl<K> KeyedBroadcastContext<'_, K> {
    pub(super) fn keyed(&self) -> &KeyedContext<K> {
        self.keyed
    }
    pub(super) fn keyed_mut(&mut self) -> &mut KeyedContext<K> {
        self.keyed
    }
}

impl<K: Key> KeyedBroadcastContext<'_, K> {
    /// Event time of the record, if the stream has timestamps.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.keyed.timestamp
    }
    /// The watermark of both inputs together. In BATCH it is at its minimum.
    pub fn watermark(&self) -> Timestamp {
        self.keyed.watermark
    }
    /// The clock, in milliseconds since the epoch. In BATCH it stands still.
    pub fn processing_time(&self) -> Timestamp {
        self.keyed.processing_time()
    }
    /// The subtask this function runs in.
    pub fn runtime(&self) -> &RuntimeContext {
        &self.keyed.runtime
    }
    /// Calls `f` for each key that has state, in no promised order: for changes that concern all keys. An error ends
    /// the calls. In BATCH there are no keys yet when broadcast records come.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn for_each_key(&mut self, mut f: impl FnMut(&mut KeyState<'_, K>) -> UserResult) -> UserResult {
        let Keys::All(table) = &self.keyed.keys else { return Ok(()) };
        for slot in 0..table.slots() {
            let has_key = matches!(&self.keyed.keys, Keys::All(table) if table.key(slot).is_some());
            if !has_key || self.keyed.scope.states().is_empty(slot) {
                continue;
            }
            self.keyed.enter(slot)?;
            f(&mut KeyState { keyed: &mut *self.keyed })?;
            self.keyed.leave()?;
        }
        Ok(())
    }
}

impl<K> BroadcastRead for KeyedBroadcastContext<'_, K> {
    #[inline(always)]
    fn broadcast(&self) -> &QCellOwner {
        self.keyed.scope.states().owner()
    }
}

impl<K> BroadcastWrite for KeyedBroadcastContext<'_, K> {
    #[inline(always)]
    fn broadcast_mut(&mut self) -> &mut QCellOwner {
        self.keyed.scope.states_mut().owner_mut()
    }
}

/// A key with its state, as [`KeyedBroadcastContext::for_each_key`] shows it.
pub struct KeyState<'a, K> {
    keyed: &'a mut KeyedContext<K>,
}

impl<K: Key> KeyState<'_, K> {
    /// The key.
    pub fn key(&self) -> &K {
        self.keyed.key()
    }
}

impl<K> KeyedAccess for KeyState<'_, K> {
    #[inline(always)]
    fn scope(&self) -> &KeyedScope {
        &self.keyed.scope
    }
    #[inline(always)]
    fn scope_mut(&mut self) -> &mut KeyedScope {
        &mut self.keyed.scope
    }
}

impl<K> BroadcastRead for KeyState<'_, K> {
    #[inline(always)]
    fn broadcast(&self) -> &QCellOwner {
        self.keyed.scope.states().owner()
    }
}

/// Runs a [`KeyedBroadcastProcessFunction`]: the keyed stream is the first input, the broadcast one the second.
pub struct KeyedBroadcastProcess<K, T, R, U, P> {
    function: P,
    selector: Arc<dyn KeySelector<T, K>>,
    pub(super) backend: Backend<K>,
    reversed: Reversed,
    types: PhantomData<fn(R) -> U>,
}

impl<K: Key, T, R, U, P> KeyedBroadcastProcess<K, T, R, U, P> {
    /// The operator around `function`, whose state was declared in `states`.
    pub fn new(function: P, states: States, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        KeyedBroadcastProcess {
            function,
            selector,
            backend: Backend::new(states),
            reversed: Reversed::default(),
            types: PhantomData,
        }
    }
}

impl<K, T, R, U, P> TwoInputOperator for KeyedBroadcastProcess<K, T, R, U, P>
where
    K: Key,
    T: Data,
    R: Data,
    U: Data,
    P: KeyedBroadcastProcessFunction<K, T, R, U>,
{
    type Left = T;
    type Right = R;
    type Out = U;

    keyed_calls!();

    fn process_left(
        &mut self,
        batch: &mut Batch<T>,
        ctx: &mut Context,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        let KeyedBroadcastProcess { function, selector, backend, .. } = self;
        let backend = backend.get()?;
        backend.initialize(|state| function.initialize_state(state))?;
        backend.process(batch, &**selector, ctx, out, |record, ctx, out| function.process(record, ctx, out))
    }

    fn process_right(
        &mut self,
        batch: &mut Batch<R>,
        ctx: &mut Context,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        let KeyedBroadcastProcess { function, backend, reversed, .. } = self;
        let backend = backend.get()?;
        backend.initialize(|state| function.initialize_state(state))?;
        let keyed = &mut backend.context;
        keyed.watermark = ctx.watermark;
        keyed.set_now();
        let progress = each(batch, reversed, out, |record, timestamp, out| {
            keyed.timestamp = timestamp;
            let mut context = KeyedBroadcastContext { keyed };
            function.process_broadcast(record, &mut context, &mut Collector::new(out, timestamp))
        })?;
        if progress == Progress::Done {
            backend.release()?;
        }
        Ok(progress)
    }
}

//! KeyedProcess: a user function with state for each key.
//!
//! Method: the keys of a whole batch are looked up before the first call, so that the table and the state of keys
//! further on can be fetched ahead. Keys whose calls leave no state leave no entry; their slots are used again
//! only after the batch.

use super::collector::Collector;
use super::exchange::KeySelector;
use super::{Context, Operator, Out, Progress, RuntimeContext, UserResult};
use crate::base::batch::Batch;
use crate::base::data::{Data, Key, Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::semantics::state::{KeyTable, KeyedAccess, KeyedScope, Slot, StateScope, States};
use qcell::QCellOwner;
use std::marker::PhantomData;
use std::sync::Arc;

/// Records ahead of the current one whose state is being fetched.
const PREFETCH: usize = 16;

/// A function over the records of a key. One value serves one attempt of one subtask and all of its keys (in BATCH one
/// of up to 8 hash ranges of them); calls come from one thread at a time: `open`, `process` for each record, `close`.
/// State is declared while the function is made, see [`States`]; fields of the function are shared by all keys and
/// not restored. An error or a panic in any of the calls fails the job and names the operator.
pub trait KeyedProcessFunction<K: Key, In, Out: Data>: Send + 'static {
    /// Before the first record. There is no current key.
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        Ok(())
    }
    /// One record; `ctx` knows its key, its timestamp and the watermark, and opens the key's state.
    fn process(&mut self, record: In, ctx: &mut KeyedContext<K>, out: &mut Collector<'_, Out>) -> UserResult;
    /// After the last call, also after a failure.
    fn close(&mut self) -> UserResult {
        Ok(())
    }
}

/// The current key with its state, and what is known of the record at hand.
pub struct KeyedContext<K> {
    scope: KeyedScope,
    keys: Keys<K>,
    timestamp: Option<Timestamp>,
    watermark: Timestamp,
    runtime: RuntimeContext,
}

enum Keys<K> {
    All(KeyTable<K, ()>),
    One(Option<K>),
}

impl<K: Key> KeyedContext<K> {
    /// The current key.
    pub fn key(&self) -> &K {
        let key = match &self.keys {
            Keys::All(table) => table.key(self.scope.slot()),
            Keys::One(key) => key.as_ref(),
        };
        match key {
            Some(key) => key,
            None => unreachable!("user code is only called with a current key"),
        }
    }
    /// Event time of the record, if the stream has timestamps.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }
    /// The watermark. In BATCH it is at its minimum until the end of each key.
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }
    /// The subtask this function runs in.
    pub fn runtime(&self) -> &RuntimeContext {
        &self.runtime
    }
}

impl<K> KeyedAccess for KeyedContext<K> {
    #[inline(always)]
    fn state(&self) -> (&QCellOwner, Slot) {
        self.scope.state()
    }
    #[inline(always)]
    fn state_mut(&mut self) -> (&mut QCellOwner, Slot) {
        self.scope.state_mut()
    }
    #[inline]
    fn cleared(&mut self) {
        self.scope.cleared();
    }
}

/// Runs a [`KeyedProcessFunction`].
pub struct KeyedProcess<K, T, U, P> {
    function: P,
    selector: Arc<dyn KeySelector<T, K>>,
    states: Option<States>,
    context: Option<KeyedContext<K>>,
    /// Slot of each record that is still in the batch, the next one last.
    slots: Vec<Slot>,
    keys: Vec<K>,
    /// Slots of keys that are new in the batch.
    created: Vec<Slot>,
    looked_up: bool,
    types: PhantomData<fn(T) -> U>,
}

impl<K, T, U, P> KeyedProcess<K, T, U, P> {
    /// The operator around `function`, whose state was declared in `states`.
    pub fn new(function: P, states: States, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        KeyedProcess {
            function,
            selector,
            states: Some(states),
            context: None,
            slots: Vec::new(),
            keys: Vec::new(),
            created: Vec::new(),
            looked_up: false,
            types: PhantomData,
        }
    }
}

fn not_open() -> Error {
    Error::Internal("a keyed function was not opened".into())
}

impl<K: Key, T: Data, U: Data, P: KeyedProcessFunction<K, T, U>> KeyedProcess<K, T, U, P> {
    /// Finds the slot of each record, then turns the batch around so that records are taken from its end.
    fn look_up(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let context = self.context.as_mut().ok_or_else(not_open)?;
        match &mut context.keys {
            Keys::All(table) => {
                self.keys.clear();
                self.selector.keys(&batch.values, &mut self.keys);
                if batch.hashes.len() != batch.len() {
                    batch.hashes.clear();
                    batch.hashes.extend(self.keys.iter().map(hash_of));
                }
                table.resolve(&self.keys, &batch.hashes, &mut self.slots, &mut self.created, || ())?;
                self.slots.reverse();
            }
            Keys::One(key) => {
                if let (None, Some(first)) = (&key, batch.values.first()) {
                    *key = Some(self.selector.key(first));
                }
                self.slots.clear();
                self.slots.resize(batch.len(), 0);
            }
        }
        batch.reverse();
        Ok(())
    }

    /// Forgets the keys that hold no state after the batch.
    fn release(&mut self) {
        let Some(context) = &mut self.context else { return };
        let mut touched = std::mem::take(&mut self.created);
        context.scope.take_cleared(&mut touched);
        if let Keys::All(table) = &mut context.keys {
            for &slot in &touched {
                if context.scope.states().is_empty(slot) {
                    table.remove(slot);
                }
            }
            table.end_batch();
        }
        touched.clear();
        self.created = touched;
    }
}

impl<K: Key, T: Data, U: Data, P: KeyedProcessFunction<K, T, U>> Operator for KeyedProcess<K, T, U, P> {
    type In = T;
    type Out = U;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        let keys = match ctx.state_scope {
            StateScope::AllKeys => Keys::All(KeyTable::new()),
            StateScope::OneKey => Keys::One(None),
        };
        self.context = Some(KeyedContext {
            scope: KeyedScope::new(self.states.take().ok_or_else(not_open)?),
            keys,
            timestamp: None,
            watermark: WATERMARK_MIN,
            runtime: ctx.runtime.clone(),
        });
        self.function.open(&ctx.runtime).map_err(Error::User)
    }

    fn process(&mut self, batch: &mut Batch<T>, ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        if !std::mem::replace(&mut self.looked_up, true) {
            self.look_up(batch)?;
        }
        let context = self.context.as_mut().ok_or_else(not_open)?;
        context.watermark = ctx.watermark;
        while !out.is_full() {
            let left = self.slots.len();
            if left.is_multiple_of(PREFETCH) {
                let near = left.saturating_sub(PREFETCH);
                context.scope.states().prefetch(&self.slots[near.saturating_sub(PREFETCH)..near]);
            }
            let (Some((record, timestamp)), Some(slot)) = (batch.pop(), self.slots.pop()) else { break };
            context.scope.set_slot(slot);
            context.timestamp = timestamp;
            self.function
                .process(record, context, &mut Collector::new(out, timestamp))
                .map_err(Error::User)?;
        }
        if !batch.is_empty() {
            return Ok(Progress::Yielded);
        }
        self.looked_up = false;
        self.release();
        Ok(Progress::Done)
    }

    fn end_of_key(&mut self, _ctx: &mut Context, _out: &mut Out<U>) -> Result<Progress> {
        let context = self.context.as_mut().ok_or_else(not_open)?;
        context.watermark = WATERMARK_MAX;
        context.scope.states_mut().clear(0);
        if let Keys::One(key) = &mut context.keys {
            *key = None;
        }
        context.watermark = WATERMARK_MIN;
        Ok(Progress::Done)
    }

    fn close(&mut self) -> Result<()> {
        self.function.close().map_err(Error::User)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::accumulator::Accumulators;
    use crate::base::clock::VirtualClock;
    use crate::base::metrics::Counters;
    use crate::base::parameters::Parameters;
    use crate::operator::context::JobContext;
    use crate::operator::exchange::FnKey;
    use crate::semantics::state::{ListState, MapState, ReducingState};

    fn context(state_scope: StateScope) -> Context {
        let runtime = RuntimeContext {
            job: Arc::new(JobContext {
                name: "job".into(),
                id: "id".into(),
                parameters: Parameters::default(),
                auto_watermark_interval: std::time::Duration::from_millis(200),
            }),
            operator: Arc::from("process"),
            subtask: 0,
            parallelism: 1,
            max_parallelism: 128,
            unit: 0,
            attempt: 0,
            counters: Counters::new(),
            accumulators: Accumulators::new().attempt().handles(),
        };
        Context::new(runtime, state_scope, 1 << 20, None, VirtualClock::new())
    }

    /// Keeps what comes with `true`, and forgets it all again, each kind in its own way, with `false`.
    struct Kept {
        list: ListState<u64>,
        map: MapState<u64, u64>,
        sum: ReducingState<u64>,
    }

    impl KeyedProcessFunction<u64, (u64, bool), usize> for Kept {
        fn process(
            &mut self,
            (n, keep): (u64, bool),
            ctx: &mut KeyedContext<u64>,
            out: &mut Collector<'_, usize>,
        ) -> UserResult {
            if keep {
                self.list.add(ctx, n);
                self.map.insert(ctx, n, n);
                self.sum.add(ctx, n);
            } else {
                self.list.retain(ctx, |_| false);
                self.map.remove(ctx, &n);
                self.sum.clear(ctx);
            }
            out.emit(self.list.len(ctx) + self.map.len(ctx) + self.sum.get(ctx).iter().count());
            Ok(())
        }
    }

    type Kept64 = KeyedProcess<u64, (u64, bool), usize, Kept>;

    fn opened(ctx: &mut Context) -> Kept64 {
        let mut states = States::default();
        let function = Kept {
            list: states.list("list"),
            map: states.map("map"),
            sum: states.reducing("sum", |sum, n| *sum += n),
        };
        let mut operator = Kept64::new(function, states, Arc::new(FnKey(|record: &(u64, bool)| record.0)));
        operator.open(ctx).unwrap();
        operator
    }

    fn run(operator: &mut Kept64, ctx: &mut Context, values: Vec<(u64, bool)>) -> Vec<usize> {
        let mut out = Out::new();
        let mut batch = Batch { values, ..Batch::default() };
        assert_eq!(operator.process(&mut batch, ctx, &mut out).unwrap(), Progress::Done);
        out.flush();
        out.take().map(|batch| batch.values).unwrap_or_default()
    }

    fn keys(operator: &Kept64) -> usize {
        match &operator.context.as_ref().unwrap().keys {
            Keys::All(table) => table.len(),
            Keys::One(key) => key.iter().count(),
        }
    }

    /// S1: a key whose list and map became empty holds nothing, and leaves no entry behind.
    #[test]
    fn s1_keys_that_hold_nothing_are_forgotten() {
        let mut ctx = context(StateScope::AllKeys);
        let mut operator = opened(&mut ctx);
        assert_eq!(run(&mut operator, &mut ctx, (0..100).map(|n| (n, true)).collect()), [3; 100]);
        assert_eq!(keys(&operator), 100);
        assert_eq!(run(&mut operator, &mut ctx, (0..60).map(|n| (n, false)).collect()), [0; 60]);
        assert_eq!(keys(&operator), 40);
        // Emptied and filled again within a batch; new, filled and emptied; new, and never filled.
        let mixed = vec![(99, false), (99, true), (500, true), (500, false), (501, false)];
        assert_eq!(run(&mut operator, &mut ctx, mixed), [0, 3, 3, 0, 0]);
        assert_eq!(keys(&operator), 40);
        // The slots that became free serve new keys, which find nothing of the old ones.
        assert_eq!(run(&mut operator, &mut ctx, (1000..1100).map(|n| (n, true)).collect()), [3; 100]);
        assert_eq!(keys(&operator), 140);
    }

    /// S1: key by key, the next one starts with nothing.
    #[test]
    fn s1_state_ends_with_its_key() {
        let mut ctx = context(StateScope::OneKey);
        let mut operator = opened(&mut ctx);
        for key in 0..3 {
            assert_eq!(run(&mut operator, &mut ctx, vec![(key, true), (key, true)]), [3, 4]);
            assert_eq!(run(&mut operator, &mut ctx, vec![(key, true)]), [5]);
            assert_eq!(operator.end_of_key(&mut ctx, &mut Out::new()).unwrap(), Progress::Done);
            assert_eq!(keys(&operator), 0);
        }
    }
}

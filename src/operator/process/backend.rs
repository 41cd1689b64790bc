//! KeyedBackend: what all functions over keys have in common.
//!
//! Method: the keys of a whole batch are looked up before the first call, so that the table, the state and the timers of
//! keys further on can be fetched ahead. While timers fire, the state of those that fire next is fetched.
//! Invariants: a key without state and without a timer leaves no entry; its slot is used again only after the batch,
//! or after the advance of time, in which it became free.
//! Costs: a key whose state was cleared while entries about deleted timers still name it is looked at again when
//! the number of such keys has doubled, or no timer is left, so a look costs a constant for each call that made it
//! necessary.

use super::cleanup::Cleanup;
use super::context::{KeyTimers, KeyedContext, Keys, TimerFired};
use super::hooks::{Hooks, OperatorContext};
use super::slots::{PREFETCH, Released};
use super::snapshot::{UnderWay, tables};
use crate::base::batch::Batch;
use crate::base::data::{Data, Key, Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::collector::Collector;
use crate::operator::exchange::KeySelector;
use crate::operator::{Context, Out, Progress, UserResult};
use crate::semantics::state::{
    Changes, KeyTable, KeyedScope, OperatorSnapshot, OperatorState, Slot, StateScope, StateTable, States,
};
use crate::semantics::window::TimeDomain;

/// Keys that are kept by deleted timers before they are looked at.
const LINGERING_MIN: usize = 1 << 10;
/// Counts what [`KeyedContext`] says of timers at the end.
const DROPPED: &str = crate::operator::TIMERS_DROPPED_AT_END;

/// The backend of an operator, which is there once the operator is open.
pub(super) enum Backend<K> {
    Declared(States),
    Open(Box<KeyedBackend<K>>),
}

impl<K: Key> Backend<K> {
    pub(super) fn new(states: States) -> Self {
        Backend::Declared(states)
    }

    pub(super) fn open(&mut self, ctx: &Context) {
        if let Backend::Declared(states) = self {
            *self = Backend::Open(Box::new(KeyedBackend::new(std::mem::take(states), ctx)));
        }
    }

    #[inline(always)]
    pub(super) fn get(&mut self) -> Result<&mut KeyedBackend<K>> {
        match self {
            Backend::Open(backend) => Ok(backend),
            Backend::Declared(_) => Err(not_open()),
        }
    }

    /// What snapshots hold.
    pub(super) fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        match self {
            Backend::Declared(states) => tables::<K>(states),
            Backend::Open(backend) => tables::<K>(backend.context.scope.states()),
        }
    }

    /// When the clock's next timer is due.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        match self {
            // Key by key the clock stands still.
            Backend::Open(backend) if matches!(backend.context.keys, Keys::All(_)) => {
                backend.context.timers.processing.next()
            }
            _ => None,
        }
    }
}

/// The calls that all operators over keys answer alike: in an `impl` of `Operator` or `TwoInputOperator` for a struct with
/// a `function` and a `backend`.
macro_rules! keyed_calls {
    () => {
        fn open(&mut self, ctx: &mut Context) -> Result<()> {
            self.backend.open(ctx);
            self.function.open(&ctx.runtime).map_err(Error::User)
        }
        fn watermark(
            &mut self,
            watermark: Timestamp,
            _ctx: &mut Context,
            out: &mut Out<Self::Out>,
        ) -> Result<Progress> {
            let function = &mut self.function;
            let backend = self.backend.get()?;
            backend.initialize(|state| function.initialize_state(state))?;
            backend.watermark(watermark, out, |timer, ctx, out| function.on_timer(timer, ctx, out))
        }
        fn processing_time(
            &mut self,
            now: Timestamp,
            ctx: &mut Context,
            out: &mut Out<Self::Out>,
        ) -> Result<Progress> {
            let function = &mut self.function;
            let backend = self.backend.get()?;
            backend.initialize(|state| function.initialize_state(state))?;
            backend.processing_time(now, ctx, out, |timer, ctx, out| function.on_timer(timer, ctx, out))
        }
        fn next_timer(&self) -> Option<Timestamp> {
            self.backend.next_timer()
        }
        fn end_of_key(&mut self, _ctx: &mut Context, out: &mut Out<Self::Out>) -> Result<Progress> {
            let function = &mut self.function;
            let backend = self.backend.get()?;
            backend.initialize(|state| function.initialize_state(state))?;
            backend.end_of_key(out, |timer, ctx, out| function.on_timer(timer, ctx, out))
        }
        fn end_of_input(&mut self, ctx: &mut Context, out: &mut Out<Self::Out>) -> Result<Progress> {
            let function = &mut self.function;
            let backend = self.backend.get()?;
            backend.initialize(|state| function.initialize_state(state))?;
            backend.end_of_input(ctx, out, |timer, ctx, out| function.on_timer(timer, ctx, out))
        }
        fn snapshot(
            &mut self,
            barrier: $crate::base::batch::Barrier,
            into: &mut $crate::semantics::state::OperatorSnapshot,
        ) -> Result<Progress> {
            let function = &mut self.function;
            let backend = self.backend.get()?;
            backend.initialize(|state| function.initialize_state(state))?;
            backend.snapshot_operator(into, |state| function.snapshot_state(state))?;
            backend.snapshot(barrier, into)
        }
        fn snapshot_more(
            &mut self,
            into: &mut $crate::semantics::state::OperatorSnapshot,
        ) -> Result<Progress> {
            self.backend.get()?.snapshot_more(into)
        }
        fn restore(
            &mut self,
            state: &$crate::semantics::state::OperatorState,
            _ctx: &mut Context,
        ) -> Result<()> {
            let backend = self.backend.get()?;
            backend.restore(state)?;
            let function = &mut self.function;
            backend.initialize(|state| function.initialize_state(state))
        }
        fn checkpoint_complete(&mut self, checkpoint: $crate::base::batch::CheckpointId) -> Result<()> {
            self.function.checkpoint_complete(checkpoint).map_err(Error::User)
        }
        fn state_tables(&self) -> Vec<Box<dyn $crate::semantics::state::StateTable>> {
            self.backend.state_tables()
        }
        fn close(&mut self) -> Result<()> {
            self.function.close().map_err(Error::User)
        }
    };
}
pub(super) use keyed_calls;

#[cold]
fn not_open() -> Error {
    Error::Internal("a keyed function was not opened".into())
}

/// How far the last timers have fired.
#[derive(Clone, Copy)]
enum Drain {
    No,
    Event,
    Processing,
}

/// Keys with their state and timers, and the batch at hand.
pub(super) struct KeyedBackend<K> {
    pub(super) context: KeyedContext<K>,
    /// Slot of each record that is still in the batch, the next one last.
    pub(super) slots: Vec<Slot>,
    /// The keys of a batch, while they are looked up.
    batch_keys: Vec<K>,
    /// Slots of keys that are new in the batch.
    pub(super) created: Vec<Slot>,
    looked_up: bool,
    drain: Drain,
    /// Slots without state that a timer held when they were looked at, maybe one that was deleted.
    lingering: Vec<Slot>,
    /// Number of those at which they are looked at again.
    lingering_max: usize,
    hooks: Hooks,
}

impl<K: Key> KeyedBackend<K> {
    fn new(states: States, ctx: &Context) -> Self {
        let keys = match ctx.state_scope {
            StateScope::AllKeys => Keys::All(KeyTable::new()),
            StateScope::OneKey => Keys::One(None),
        };
        let standing = matches!(keys, Keys::One(_)).then(|| ctx.clock.now_ms());
        let cleanup = Cleanup::new(&states);
        KeyedBackend {
            context: KeyedContext {
                scope: KeyedScope::new(states),
                keys,
                timers: KeyTimers::default(),
                timestamp: None,
                watermark: WATERMARK_MIN,
                runtime: ctx.runtime.clone(),
                clock: ctx.clock.clone(),
                standing,
                changes: Changes::new(),
                under_way: UnderWay::default(),
                cleanup,
            },
            slots: Vec::new(),
            batch_keys: Vec::new(),
            created: Vec::new(),
            looked_up: false,
            drain: Drain::No,
            lingering: Vec::new(),
            lingering_max: LINGERING_MIN,
            hooks: Hooks::default(),
        }
    }

    /// Calls the function's `initialize_state`, if it was not called before.
    #[inline(always)]
    pub(super) fn initialize(
        &mut self,
        call: impl FnOnce(&mut OperatorContext<'_>) -> UserResult,
    ) -> Result<()> {
        let KeyedContext { scope, runtime, .. } = &mut self.context;
        self.hooks.initialize(scope.states_mut(), runtime, call)
    }

    /// Calls the function's `snapshot_state`, and writes the lists of the subtask.
    pub(super) fn snapshot_operator(
        &mut self,
        into: &mut OperatorSnapshot,
        call: impl FnOnce(&mut OperatorContext<'_>) -> UserResult,
    ) -> Result<()> {
        let KeyedContext { scope, runtime, .. } = &mut self.context;
        self.hooks.snapshot(scope.states_mut(), runtime, into, call)
    }

    /// Takes up the lists of the subtask.
    pub(super) fn restore_operator(&mut self, state: &OperatorState) -> Result<()> {
        let KeyedContext { scope, runtime, .. } = &mut self.context;
        self.hooks.restore(scope.states_mut(), runtime, state)
    }

    /// Finds the slot of each record, then turns the batch around so that records are taken from its end.
    fn look_up<T: Data>(&mut self, batch: &mut Batch<T>, selector: &dyn KeySelector<T, K>) -> Result<()> {
        match &mut self.context.keys {
            Keys::All(table) => {
                self.batch_keys.clear();
                selector.keys(&batch.values, &mut self.batch_keys);
                if batch.hashes.len() != batch.len() {
                    batch.hashes.clear();
                    batch.hashes.extend(self.batch_keys.iter().map(hash_of));
                }
                table.resolve(&self.batch_keys, &batch.hashes, &mut self.slots, &mut self.created, || ())?;
                self.created.iter().try_for_each(|&slot| self.context.changes.creating(slot))?;
                self.slots.reverse();
            }
            Keys::One(key) => {
                if let (None, Some(first)) = (&key, batch.values.first()) {
                    *key = Some(selector.key(first));
                }
                self.slots.clear();
                self.slots.resize(batch.len(), 0);
            }
        }
        batch.reverse();
        Ok(())
    }

    /// Calls `call` for the records of a batch, one after the other, as long as there is room for output.
    #[inline]
    pub(super) fn process<T: Data, U: Data>(
        &mut self,
        batch: &mut Batch<T>,
        selector: &dyn KeySelector<T, K>,
        ctx: &Context,
        out: &mut Out<U>,
        mut call: impl FnMut(T, &mut KeyedContext<K>, &mut Collector<'_, U>) -> UserResult,
    ) -> Result<Progress> {
        if !std::mem::replace(&mut self.looked_up, true) {
            self.look_up(batch, selector)?;
        }
        let context = &mut self.context;
        context.watermark = ctx.watermark;
        context.set_now();
        while !out.is_full() {
            let left = self.slots.len();
            if left.is_multiple_of(PREFETCH) {
                let near = left.saturating_sub(PREFETCH);
                context.prefetch(&self.slots[near.saturating_sub(PREFETCH)..near]);
            }
            let (Some((record, timestamp)), Some(slot)) = (batch.pop(), self.slots.pop()) else { break };
            context.enter(slot)?;
            context.timestamp = timestamp;
            call(record, context, &mut Collector::new(out, timestamp)).map_err(Error::User)?;
            context.leave()?;
        }
        if !batch.is_empty() {
            return Ok(Progress::Yielded);
        }
        self.looked_up = false;
        self.release()?;
        Ok(Progress::Done)
    }

    /// F2: the watermark has risen: the event-time timers up to it fire, all of them at the maximum.
    pub(super) fn watermark<U: Data>(
        &mut self,
        watermark: Timestamp,
        out: &mut Out<U>,
        call: impl FnMut(TimerFired, &mut KeyedContext<K>, &mut Collector<'_, U>) -> UserResult,
    ) -> Result<Progress> {
        self.context.watermark = watermark;
        if self.context.timers.event.is_empty() || matches!(self.context.keys, Keys::One(_)) {
            return Ok(Progress::Done);
        }
        self.context.timers.draining = watermark == WATERMARK_MAX;
        self.context.timers.event.advance(watermark);
        let progress = self.fire(TimeDomain::Event, out, call)?;
        if progress == Progress::Done {
            self.end_of_advance()?;
        }
        Ok(progress)
    }

    /// F2: the clock has reached `now`: the processing-time timers up to it fire.
    pub(super) fn processing_time<U: Data>(
        &mut self,
        now: Timestamp,
        ctx: &Context,
        out: &mut Out<U>,
        call: impl FnMut(TimerFired, &mut KeyedContext<K>, &mut Collector<'_, U>) -> UserResult,
    ) -> Result<Progress> {
        self.context.watermark = ctx.watermark;
        if self.context.timers.processing.is_empty() || matches!(self.context.keys, Keys::One(_)) {
            return Ok(Progress::Done);
        }
        self.context.timers.processing.advance(now);
        let progress = self.fire(TimeDomain::Processing, out, call)?;
        if progress == Progress::Done {
            self.end_of_advance()?;
        }
        Ok(progress)
    }

    /// F3: the records of the current key have ended: its timers fire, and nothing of it is left.
    pub(super) fn end_of_key<U: Data>(
        &mut self,
        out: &mut Out<U>,
        call: impl FnMut(TimerFired, &mut KeyedContext<K>, &mut Collector<'_, U>) -> UserResult,
    ) -> Result<Progress> {
        self.context.watermark = WATERMARK_MAX;
        self.context.scope.set_slot(0);
        if self.drain(out, call)? == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        let KeyedContext { scope, keys, watermark, .. } = &mut self.context;
        scope.states_mut().clear(0);
        if let Keys::One(key) = keys {
            *key = None;
        }
        *watermark = WATERMARK_MIN;
        self.release()?;
        Ok(Progress::Done)
    }

    /// The input has ended: what timers are left fire.
    pub(super) fn end_of_input<U: Data>(
        &mut self,
        ctx: &Context,
        out: &mut Out<U>,
        call: impl FnMut(TimerFired, &mut KeyedContext<K>, &mut Collector<'_, U>) -> UserResult,
    ) -> Result<Progress> {
        self.context.watermark = ctx.watermark;
        let progress = self.drain(out, call)?;
        if progress == Progress::Done {
            self.release()?;
        }
        Ok(progress)
    }

    /// Fires all timers, those of event time first. What the calls register is counted and dropped: else a timer that
    /// registers itself would never end.
    fn drain<U: Data>(
        &mut self,
        out: &mut Out<U>,
        mut call: impl FnMut(TimerFired, &mut KeyedContext<K>, &mut Collector<'_, U>) -> UserResult,
    ) -> Result<Progress> {
        loop {
            let timers = &mut self.context.timers;
            let domain = match self.drain {
                Drain::No if timers.event.is_empty() && timers.processing.is_empty() => {
                    return Ok(Progress::Done);
                }
                Drain::No => {
                    timers.draining = true;
                    timers.event.advance(WATERMARK_MAX);
                    self.drain = Drain::Event;
                    continue;
                }
                Drain::Event => TimeDomain::Event,
                Drain::Processing => TimeDomain::Processing,
            };
            if self.fire(domain, out, &mut call)? == Progress::Yielded {
                return Ok(Progress::Yielded);
            }
            let timers = &mut self.context.timers;
            if domain == TimeDomain::Event {
                timers.processing.advance(WATERMARK_MAX);
                self.drain = Drain::Processing;
                continue;
            }
            self.drain = Drain::No;
            // The next key's time begins at the minimum.
            if matches!(self.context.keys, Keys::One(_)) {
                timers.event.clear();
                timers.processing.clear();
            }
            self.end_of_advance()?;
            return Ok(Progress::Done);
        }
    }

    /// Calls `call` for the timers that are due, one after the other, as long as there is room for output.
    fn fire<U: Data>(
        &mut self,
        domain: TimeDomain,
        out: &mut Out<U>,
        mut call: impl FnMut(TimerFired, &mut KeyedContext<K>, &mut Collector<'_, U>) -> UserResult,
    ) -> Result<Progress> {
        let context = &mut self.context;
        context.set_now();
        let mut fired = 0usize;
        loop {
            // Not if nothing is left, so that the advance has an end.
            if out.is_full() && !context.timers.of(domain).is_empty() {
                return Ok(Progress::Yielded);
            }
            if fired.is_multiple_of(PREFETCH) {
                context.prefetch_upcoming(domain);
            }
            fired += 1;
            let Some(timer) = context.timers.of(domain).pop_due() else { return Ok(Progress::Done) };
            context.enter(timer.slot)?;
            // What comes out carries the time of event-time timers; the clock's time is not event time.
            context.timestamp = (domain == TimeDomain::Event).then_some(timer.time);
            let timestamp = context.timestamp;
            let timer_fired = TimerFired { time: timer.time, domain };
            call(timer_fired, context, &mut Collector::new(out, timestamp)).map_err(Error::User)?;
            context.leave()?;
            context.release(timer.slot)?;
        }
    }

    fn end_of_advance(&mut self) -> Result<()> {
        let timers = &mut self.context.timers;
        timers.draining = false;
        if timers.dropped > 0 {
            self.context.runtime.counter(DROPPED).add(std::mem::take(&mut timers.dropped));
        }
        self.release()
    }

    /// Forgets the keys that hold nothing any more, after a batch or an advance of time.
    pub(super) fn release(&mut self) -> Result<()> {
        let context = &mut self.context;
        let mut touched = std::mem::take(&mut self.created);
        context.scope.take_cleared(&mut touched);
        if matches!(context.keys, Keys::All(_)) {
            for &slot in &touched {
                // Where no timer was ever deleted, the one that holds the key will fire.
                if context.release(slot)? == Released::Held && context.timers.deletes {
                    self.lingering.push(slot);
                }
            }
            let none = context.timers.event.is_empty() && context.timers.processing.is_empty();
            if self.lingering.len() > self.lingering_max || none && !self.lingering.is_empty() {
                self.lingering.sort_unstable();
                self.lingering.dedup();
                let mut kept = 0;
                for i in 0..self.lingering.len() {
                    let slot = self.lingering[i];
                    if context.release(slot)? == Released::Held {
                        self.lingering[kept] = slot;
                        kept += 1;
                    }
                }
                self.lingering.truncate(kept);
                self.lingering_max = 2 * self.lingering.len() + LINGERING_MIN;
            }
            if let Keys::All(table) = &mut context.keys {
                table.end_batch();
            }
        }
        touched.clear();
        self.created = touched;
        Ok(())
    }
}

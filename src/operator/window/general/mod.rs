//! GeneralWindows: windows of any kind, for each key a list of those that hold something.
//!
//! Place: everything that [slices](super) cannot do: sessions, processing time, global windows, triggers, evictors, lateness,
//! functions that see all records.
//! Method: the keys of a whole batch are looked up at once ([`KeyTable`](crate::semantics::state::KeyTable)); an entry
//! holds the windows of its key, sorted by start. A window keeps its content, its trigger's state and its timers, of which the
//! earliest is in a queue of all keys (`alarms`). Key by key (BATCH) there is no queue: at the end of a key its windows
//! are asked for their timers, and what would have fired several times fires once, at the last of them.
//! Invariants: a window exists from its first record to its cleanup time. While a firing is under way (it has
//! yielded) nothing else happens to its key.
//! Costs: an entry and about 110 bytes for each window, with the content; a record costs a look-up and, for each of its windows,
//! a binary search among those of its key. A window that goes moves those behind it in its key's list.

mod alarms;
mod contents;
mod drive;
mod few;
mod keys;
mod records;
mod snapshot;
mod tables;
#[cfg(test)]
mod tests;

pub use contents::{AnyEvictor, Buffered, Contents, Emit, Evicting, Finish, Incremental, Process};

use super::process::{WindowContext, WindowStates};
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key, Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::error::{Error, Result};
use crate::operator::exchange::KeySelector;
use crate::operator::side_output::SideOutput;
use crate::operator::{Context, LATE_RECORDS_DROPPED, Operator, Out, Progress, TIMERS_DROPPED_AT_END};
use crate::semantics::state::{Changes, OperatorSnapshot, OperatorState, Slot, StateScope, StateTable};
use crate::semantics::window::{TimeDomain, Trigger, Window, WindowAssigner};
use alarms::Schedule;
use keys::{Ids, Keys, Windows};
use std::sync::Arc;

/// Which windows there are, when they fire, and what becomes of late records.
#[derive(Clone)]
pub struct WindowSetup<T, W, G> {
    /// The windows of a record.
    pub assigner: W,
    /// When they fire.
    pub trigger: G,
    /// How long after its end a window takes late records, in milliseconds of event time.
    pub lateness_ms: i64,
    /// Where records go that are too late.
    pub late: Option<SideOutput<T>>,
}

/// Records ahead of the current one whose windows are being fetched.
const PREFETCHED: usize = 12;

/// The record under way.
struct Current<T> {
    /// Gone once it is in its last window.
    record: Option<T>,
    timestamp: Option<Timestamp>,
    slot: Slot,
    /// The next of its windows.
    next: usize,
    /// It is in a window.
    placed: bool,
}

/// A window that fires.
struct Firing<C> {
    slot: Slot,
    at: usize,
    content: C,
    /// What becomes of it afterwards.
    purge: bool,
    end: bool,
}

/// The end of a key: its timers in order.
#[derive(Default)]
struct Drain {
    under_way: Option<TimeDomain>,
    timers: Vec<(Timestamp, Window)>,
    next: usize,
}

/// The operator; see the module.
pub struct GeneralWindows<K, T, W, G, C>
where
    K: Key,
    T: Data,
    W: WindowAssigner<T>,
    G: Trigger<T>,
    C: Contents<K, T>,
{
    setup: WindowSetup<T, W, G>,
    contents: C,
    selector: Arc<dyn KeySelector<T, K>>,
    states: Option<WindowStates>,
    context: Option<WindowContext>,
    keys: Keys<K, Windows<C::Content, G::State>>,
    merges: bool,
    one_key: bool,
    schedule: Schedule,
    ids: Option<Ids>,
    watermark: Timestamp,
    now: Timestamp,
    /// Slot of each record that is still in the batch, the next one last.
    slots: Vec<Slot>,
    key_buffer: Vec<K>,
    /// Slots of keys that are new in the batch.
    created: Vec<Slot>,
    looked_up: bool,
    /// Windows of the current record.
    assigned: Vec<Window>,
    current: Option<Current<T>>,
    firing: Option<Firing<C::Content>>,
    drain: Drain,
    late_dropped: u64,
    /// Timers taken from the queues.
    popped: u32,
    /// Of the keys, with their windows.
    changes: Changes,
    /// The time of a full snapshot under way.
    live_at: Option<Timestamp>,
}

impl<K, T, W, G, C> GeneralWindows<K, T, W, G, C>
where
    K: Key,
    T: Data,
    W: WindowAssigner<T>,
    G: Trigger<T>,
    C: Contents<K, T>,
{
    /// The operator. `states` are those that the function in `contents` declared.
    pub fn new(
        setup: WindowSetup<T, W, G>,
        contents: C,
        states: WindowStates,
        selector: Arc<dyn KeySelector<T, K>>,
    ) -> Self {
        let schedule = Schedule::new(setup.assigner.time(), setup.lateness_ms);
        GeneralWindows {
            merges: setup.assigner.merges(),
            setup,
            contents,
            selector,
            states: Some(states),
            context: None,
            keys: Keys::new(StateScope::AllKeys),
            one_key: false,
            schedule,
            ids: None,
            watermark: WATERMARK_MIN,
            now: 0,
            slots: Vec::new(),
            key_buffer: Vec::new(),
            created: Vec::new(),
            looked_up: false,
            assigned: Vec::new(),
            current: None,
            firing: None,
            drain: Drain::default(),
            late_dropped: 0,
            popped: 0,
            changes: Changes::new(),
            live_at: None,
        }
    }

    /// What a call starts with.
    fn begin(&mut self, ctx: &Context) -> Result<()> {
        if !self.one_key {
            self.now = ctx.clock.now_ms();
        }
        self.watermark = ctx.watermark;
        let context = self.context.as_mut().ok_or_else(not_open)?;
        context.set_time(self.watermark, self.now);
        Ok(())
    }

    /// What a call ends with.
    fn settle(&mut self, ctx: &Context) {
        for (count, name) in [
            (&mut self.late_dropped, LATE_RECORDS_DROPPED),
            (&mut self.schedule.dropped, TIMERS_DROPPED_AT_END),
        ] {
            if *count > 0 {
                ctx.runtime.counter(name).add(std::mem::take(count));
            }
        }
        if let Keys::All(table) = &mut self.keys {
            table.end_batch();
        }
    }
}

#[cold]
fn not_open() -> Error {
    Error::Internal("a window operator was not opened".into())
}

impl<K, T, W, G, C> Operator for GeneralWindows<K, T, W, G, C>
where
    K: Key,
    T: Data,
    W: WindowAssigner<T>,
    G: Trigger<T>,
    C: Contents<K, T>,
{
    type In = T;
    type Out = C::Out;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.one_key = ctx.state_scope == StateScope::OneKey;
        self.schedule.queues = !self.one_key;
        self.keys = Keys::new(ctx.state_scope);
        self.now = ctx.clock.now_ms();
        let states = self.states.take().ok_or_else(not_open)?;
        self.ids = (!states.window.descriptors().is_empty()).then(Ids::default);
        self.context = Some(WindowContext::new(ctx.runtime.clone(), states));
        self.contents.open(&ctx.runtime)
    }

    fn process(
        &mut self,
        batch: &mut Batch<T>,
        ctx: &mut Context,
        out: &mut Out<C::Out>,
    ) -> Result<Progress> {
        self.begin(ctx)?;
        if !std::mem::replace(&mut self.looked_up, true) {
            self.look_up(batch)?;
        }
        if self.resume(out)? == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        loop {
            let current = match self.current.take() {
                Some(current) => current,
                None => {
                    if out.is_full() {
                        break;
                    }
                    let (Some((record, timestamp)), Some(slot)) = (batch.pop(), self.slots.pop()) else {
                        break;
                    };
                    if let Some(ahead) = self.slots.len().checked_sub(PREFETCHED) {
                        self.keys.prefetch_windows(self.slots[ahead]);
                    }
                    self.assign(&record, timestamp)?;
                    self.touch(slot)?;
                    Current { record: Some(record), timestamp, slot, next: 0, placed: false }
                }
            };
            if self.element(current, out)? == Progress::Yielded {
                return Ok(Progress::Yielded);
            }
        }
        if !batch.is_empty() {
            return Ok(Progress::Yielded);
        }
        self.looked_up = false;
        self.release();
        self.settle(ctx);
        Ok(Progress::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        ctx: &mut Context,
        out: &mut Out<C::Out>,
    ) -> Result<Progress> {
        self.begin(ctx)?;
        self.schedule.draining = watermark == WATERMARK_MAX;
        self.schedule.event.advance(watermark);
        let progress = self.ring(TimeDomain::Event, ctx, out)?;
        if progress == Progress::Done {
            // A generator may say so before the end: then records still come, and their triggers ask for timers.
            self.schedule.draining = false;
        }
        Ok(progress)
    }

    fn processing_time(
        &mut self,
        now: Timestamp,
        ctx: &mut Context,
        out: &mut Out<C::Out>,
    ) -> Result<Progress> {
        self.begin(ctx)?;
        self.now = now;
        self.context.as_mut().ok_or_else(not_open)?.set_time(self.watermark, now);
        self.schedule.processing.advance(now);
        self.ring(TimeDomain::Processing, ctx, out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.schedule.processing.next()
    }

    fn end_of_key(&mut self, ctx: &mut Context, out: &mut Out<C::Out>) -> Result<Progress> {
        self.begin(ctx)?;
        self.drain_key(ctx, out)
    }

    fn end_of_input(&mut self, ctx: &mut Context, out: &mut Out<C::Out>) -> Result<Progress> {
        self.begin(ctx)?;
        self.schedule.draining = true;
        // What was asked for behind a watermark that said it was the last.
        self.schedule.event.advance(WATERMARK_MAX);
        if self.ring(TimeDomain::Event, ctx, out)? == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        self.schedule.processing.advance(Timestamp::MAX);
        self.ring(TimeDomain::Processing, ctx, out)
    }

    fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        self.save(barrier, into)
    }

    fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        self.save_more(into)
    }

    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        tables::state_tables::<K, C::Content, G::State>(self.states.as_ref())
    }

    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        self.load(state, &ctx.runtime)
    }

    fn close(&mut self) -> Result<()> {
        self.contents.close()
    }
}

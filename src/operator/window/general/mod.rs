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
mod snapshot;
#[cfg(test)]
mod tests;

pub use contents::{AnyEvictor, Buffered, Contents, Emit, Evicting, Finish, Incremental, Process};

use super::process::{WindowContext, WindowStates};
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key, Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::base::mutant;
use crate::operator::exchange::KeySelector;
use crate::operator::side_output::SideOutput;
use crate::operator::{Context, LATE_RECORDS_DROPPED, Operator, Out, Progress, TIMERS_DROPPED_AT_END};
use crate::semantics::state::{Changes, OperatorSnapshot, OperatorState, Slot, StateScope};
use crate::semantics::window::{
    TimeDomain, Trigger, TriggerContext, Window, WindowAssigner, is_late, merge_by,
};
use alarms::{Alarms, Schedule};
use few::Few;
use keys::{Ids, Kept, Keys, Windows, lost};
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

    /// Finds the slot of each record, then turns the batch around so that records are taken from its end.
    fn look_up(&mut self, batch: &mut Batch<T>) -> Result<()> {
        match &mut self.keys {
            Keys::All(table) => {
                self.key_buffer.clear();
                self.selector.keys(&batch.values, &mut self.key_buffer);
                if batch.hashes.len() != batch.len() {
                    batch.hashes.clear();
                    batch.hashes.extend(self.key_buffer.iter().map(hash_of));
                }
                let (slots, created) = (&mut self.slots, &mut self.created);
                table.resolve(&self.key_buffer, &batch.hashes, slots, created, || Few::None)?;
                self.created.iter().try_for_each(|&slot| self.changes.creating(slot))?;
                self.slots.reverse();
            }
            Keys::One(key, _) => {
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

    /// Finds the windows of a record.
    #[inline]
    fn assign(&mut self, record: &T, timestamp: Option<Timestamp>) -> Result<()> {
        self.assigned.clear();
        let time = match (self.schedule.time, timestamp) {
            (Some(TimeDomain::Processing), _) => self.now,
            (_, Some(timestamp)) => timestamp,
            (None, None) => Timestamp::MIN,
            (Some(TimeDomain::Event), None) => {
                return Err(Error::user(format!(
                    "the records have no timestamps, which windows over event time ({}) go by; give them some with \
                     assign_timestamps, or use windows over processing time",
                    self.setup.assigner.describe()
                )));
            }
        };
        self.setup.assigner.assign(record, time, &mut self.assigned)
    }

    /// X15: whether the window takes no more records.
    #[inline(always)]
    fn is_late(&self, window: Window) -> bool {
        self.schedule.time == Some(TimeDomain::Event)
            && self.watermark > WATERMARK_MIN
            && is_late(window, self.setup.lateness_ms, self.watermark)
    }

    /// The position of the window among those of the key, after making it or merging it; none if it is late.
    #[inline]
    fn place(&mut self, slot: Slot, window: Window) -> Result<Option<usize>> {
        let windows = self.keys.windows(slot).ok_or_else(lost)?;
        let (at, is_new) = if self.merges {
            let merged = merge_by(windows.as_slice(), |kept| kept.window, window);
            let at = merged.swallowed.start;
            let swallowed = merged.swallowed.len();
            let grows = windows.as_slice().get(at).is_some_and(|kept| kept.window != merged.window);
            if swallowed > 0 && (swallowed > 1 || grows) {
                self.merge(slot, at, swallowed, merged.window)?;
            }
            (at, swallowed == 0)
        } else {
            match windows.as_slice().binary_search_by(|kept| kept.window.cmp(&window)) {
                Ok(at) => (at, false),
                Err(at) => (at, true),
            }
        };
        if is_new {
            if self.is_late(window) && !mutant::is("late_window_again") {
                return Ok(None);
            }
            let id = self.ids.as_mut().map_or(Ok(0), Ids::take)?;
            let state = G::State::default();
            let kept = Kept { window, content: None, state, alarms: Alarms::new(), last: None, id };
            self.keys.windows(slot).ok_or_else(lost)?.insert(at, kept);
        }
        Ok(Some(at))
    }

    /// Makes one window of `swallowed` neighbours from position `at` on.
    fn merge(&mut self, slot: Slot, at: usize, swallowed: usize, window: Window) -> Result<()> {
        let windows = self.keys.windows(slot).ok_or_else(lost)?;
        let trigger = &mut self.setup.trigger;
        for i in 0..swallowed {
            // The first becomes the merged window, the others go into it.
            let other = if i > 0 { Some(windows.remove(at + 1).ok_or_else(lost)?) } else { None };
            let kept = windows.as_mut_slice().get_mut(at).ok_or_else(lost)?;
            let mut time = TriggerContext::new(self.watermark, self.now, &mut self.schedule.requests);
            let state = match other {
                None => {
                    trigger.clear(&kept.window, &mut kept.state, &mut time);
                    kept.window = window;
                    let alarms = std::mem::replace(&mut kept.alarms, Alarms::new());
                    kept.alarms.absorb(&alarms);
                    std::mem::take(&mut kept.state)
                }
                Some(mut other) => {
                    trigger.clear(&other.window, &mut other.state, &mut time);
                    kept.alarms.absorb(&other.alarms);
                    match (&mut kept.content, other.content) {
                        (Some(content), Some(other)) => self.contents.merge(content, other),
                        (content @ None, other) => *content = other,
                        (Some(_), None) => {}
                    }
                    other.state
                }
            };
            // The timers of the older window have gone with it.
            self.schedule.requests.clear();
            let mut time = TriggerContext::new(self.watermark, self.now, &mut self.schedule.requests);
            trigger.on_merge(&window, &mut kept.state, state, &mut time);
            self.schedule.apply(&mut kept.alarms);
        }
        Ok(())
    }

    /// Puts the record into its windows, one after the other, until one has filled the output.
    #[inline]
    fn element(&mut self, mut current: Current<T>, out: &mut Out<C::Out>) -> Result<Progress> {
        while let Some(&window) = self.assigned.get(current.next) {
            if current.next > 0 && out.is_full() {
                self.current = Some(current);
                return Ok(Progress::Yielded);
            }
            current.next += 1;
            let slot = current.slot;
            let Some(at) = self.place(slot, window)? else { continue };
            current.placed = true;
            let is_last = current.next == self.assigned.len();
            let record = if is_last { current.record.take() } else { current.record.clone() };
            let record = record.ok_or_else(lost)?;
            let kept = self.keys.window(slot, at)?;
            let timestamp = current.timestamp;
            kept.last = timestamp;
            let mut time = TriggerContext::new(self.watermark, self.now, &mut self.schedule.requests);
            let stamp = timestamp.unwrap_or(Timestamp::MIN);
            let result =
                self.setup.trigger.on_element(&record, stamp, &kept.window, &mut kept.state, &mut time);
            match &mut kept.content {
                Some(content) => self.contents.add(content, record, timestamp),
                content => *content = Some(self.contents.create(record, timestamp)),
            }
            self.schedule.apply(&mut kept.alarms);
            self.schedule.queue(slot, kept.window, &mut kept.alarms);
            if result.is_fire() || result.is_purge() {
                let progress = self.fire(slot, at, result.is_fire(), result.is_purge(), false, out)?;
                if progress == Progress::Yielded {
                    self.current = Some(current);
                    return Ok(progress);
                }
            }
        }
        if !current.placed {
            self.skip(current, out);
        }
        Ok(Progress::Done)
    }

    /// X16: a record that is in no window.
    #[cold]
    fn skip(&mut self, current: Current<T>, out: &mut Out<C::Out>) {
        let (Some(record), timestamp) = (current.record, current.timestamp) else { return };
        let is_late = self.schedule.time == Some(TimeDomain::Event)
            && self.watermark > WATERMARK_MIN
            && timestamp.is_some_and(|t| t.saturating_add(self.setup.lateness_ms) <= self.watermark);
        match &self.setup.late {
            Some(output) if is_late => out.push_to(output, record, timestamp),
            _ => self.late_dropped += 1,
        }
    }

    /// Forgets the keys that hold nothing after the batch.
    fn release(&mut self) {
        let Keys::All(table) = &mut self.keys else { return };
        for slot in self.created.drain(..) {
            let has_windows = table.value(slot).is_some_and(|windows| !windows.is_empty());
            let has_state = self.context.as_ref().is_some_and(|c| !c.key_states().is_empty(slot));
            if !has_windows && !has_state {
                // Not in any cut: it was made in this batch.
                self.changes.changed(slot);
                table.remove(slot);
            }
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

    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        self.load(state, &ctx.runtime)
    }

    fn close(&mut self) -> Result<()> {
        self.contents.close()
    }
}

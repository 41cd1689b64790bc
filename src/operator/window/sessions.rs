//! SessionFold: windows of event time that merge (sessions), with an incremental fold and the default trigger.
//!
//! Place: chosen by the planner where each record has one window, which starts at its timestamp. A trigger, an evictor,
//! allowed lateness or a process function need the general operator, which gives the same results more slowly.
//! Method: the sessions of a key lie side by side in the order of time, since they never touch. A key has one live
//! timer, for the end of its first session as that was when it was set; one that rings too early is set anew, so
//! that a session which grows with every record costs one timer for each gap. Entries and sessions are fetched
//! ahead of the records and timers that need them.
//! Key by key (BATCH) records come in the order of time, so a session is complete when a record lies behind it.
//! State: for each key its open sessions, an accumulator each; a key leaves with its last session.

use super::slices::{divert, no_timestamps};
use super::{WindowFold, Windowed};
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key, Timestamp, WATERMARK_MIN};
use crate::base::error::Result;
use crate::base::hash::hash_of;
use crate::base::metrics::Counter;
use crate::operator::exchange::KeySelector;
use crate::operator::side_output::SideOutput;
use crate::operator::{Context, Operator, Out, Progress, SNAPSHOT_SLICE_BYTES};
use crate::semantics::state::tables::ListTable;
use crate::semantics::state::{
    Changes, KeyTable, OperatorSnapshot, OperatorState, Slot, StateScope, StateTable, prefetch_reference,
};
use crate::semantics::time::Timers;
use crate::semantics::window::{Window, WindowAssigner, merge_by};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Records or timers ahead of the current one that are being fetched.
const AHEAD: usize = 8;

/// An open session.
#[derive(Serialize, Deserialize)]
struct Session<A> {
    window: Window,
    acc: A,
}

/// The open sessions of a key, by time.
struct OfKey<A> {
    sessions: Vec<Session<A>>,
    /// The time of its live timer; none if there is no session.
    timer: Option<Timestamp>,
}

impl<A> OfKey<A> {
    const fn new() -> Self {
        OfKey { sessions: Vec::new(), timer: None }
    }

    fn prefetch(&self) {
        prefetch_reference(self.sessions.first());
        prefetch_reference(self.sessions.last());
    }
}

/// Folds the records of each key and session. Records whose session has fired are late.
pub struct SessionFold<K, T, W, F: WindowFold<T>> {
    fold: F,
    assigner: W,
    selector: Arc<dyn KeySelector<T, K>>,
    late_to: Option<SideOutput<T>>,
    late: Option<Counter>,
    late_records: Batch<T>,
    table: KeyTable<K, OfKey<F::Acc>>,
    changes: Changes,
    timers: Timers<()>,
    /// The one key whose records come, key by key.
    one: Option<(K, OfKey<F::Acc>)>,
    one_key: bool,
    /// The timers of a watermark are being looked at.
    firing: bool,
    /// The key whose sessions were being emitted when the output was full.
    under_way: Option<Slot>,
    /// How many sessions of the key under way are out.
    emitted: usize,
    popped: usize,
    keys: Vec<K>,
    slots: Vec<Slot>,
    created: Vec<Slot>,
    assigned: Vec<Window>,
}

impl<K: Key, T: Data, W: WindowAssigner<T>, F: WindowFold<T>> SessionFold<K, T, W, F> {
    /// The operator around a fold. Late records go to `late_to`, or are counted.
    pub fn new(
        fold: F,
        assigner: W,
        selector: Arc<dyn KeySelector<T, K>>,
        late_to: Option<SideOutput<T>>,
    ) -> Self {
        SessionFold {
            fold,
            assigner,
            selector,
            late_to,
            late: None,
            late_records: Batch::new(),
            table: KeyTable::new(),
            changes: Changes::new(),
            timers: Timers::new(),
            one: None,
            one_key: false,
            firing: false,
            under_way: None,
            emitted: 0,
            popped: 0,
            keys: Vec::new(),
            slots: Vec::new(),
            created: Vec::new(),
            assigned: Vec::new(),
        }
    }

    /// Puts all records into the sessions of their keys, which lie in the table.
    fn process_all(&mut self, batch: &mut Batch<T>, watermark: Timestamp) -> Result<()> {
        self.keys.clear();
        self.selector.keys(&batch.values, &mut self.keys);
        if batch.hashes.len() != batch.len() {
            batch.hashes.clear();
            batch.hashes.extend(self.keys.iter().map(hash_of));
        }
        let (slots, created) = (&mut self.slots, &mut self.created);
        self.table.resolve(&self.keys, &batch.hashes, slots, created, OfKey::new)?;
        created.iter().try_for_each(|&slot| self.changes.creating(slot))?;
        let records = batch.values.drain(..).zip(&batch.timestamps).zip(&*slots);
        for (i, ((record, &timestamp), &slot)) in records.enumerate() {
            if let Some(ahead) = slots.get(i + AHEAD).and_then(|&slot| self.table.value(slot)) {
                ahead.prefetch();
            }
            self.assigned.clear();
            self.assigner.assign(&record, timestamp, &mut self.assigned)?;
            let Some((key, of_key)) = self.table.entry_mut(slot) else { continue };
            let sessions = &of_key.sessions;
            self.changes.changing(slot, |copies| copies.put_slot(slot, Some(&(key, sessions))))?;
            let rest = place(&mut self.fold, of_key, &self.assigned, record, watermark);
            if let Some(record) = rest {
                self.late_records.values.push(record);
                self.late_records.timestamps.push(timestamp);
                continue;
            }
            set_timer(&mut self.timers, of_key, slot);
        }
        for &slot in &self.created {
            if self.table.value(slot).is_some_and(|of_key| of_key.sessions.is_empty()) {
                // Not in any cut: it was made in this batch, and is noted as changed.
                self.table.remove(slot);
            }
        }
        self.table.end_batch();
        batch.clear();
        Ok(())
    }

    /// Emits the sessions of a key that are complete, as far as there is room; drops the key, or sets its next timer.
    fn fire(
        &mut self,
        slot: Slot,
        watermark: Timestamp,
        out: &mut Out<Windowed<K, F::Value>>,
    ) -> Result<Progress> {
        let Some((key, of_key)) = self.table.entry_mut(slot) else { return Ok(Progress::Done) };
        let sessions = &of_key.sessions;
        self.changes.changing(slot, |copies| copies.put_slot(slot, Some(&(key, sessions))))?;
        if emit_complete(&mut self.fold, key, of_key, watermark, &mut self.emitted, out) == Progress::Yielded
        {
            return Ok(Progress::Yielded);
        }
        of_key.timer = None;
        if of_key.sessions.is_empty() {
            self.table.remove(slot);
        } else {
            set_timer(&mut self.timers, of_key, slot);
        }
        Ok(Progress::Done)
    }
}

/// Emits the sessions that are complete, as far as there is room. They leave when all of them are out, since those
/// behind them move up.
#[inline]
fn emit_complete<K: Key, T: Data, F: WindowFold<T>>(
    fold: &mut F,
    key: &K,
    of_key: &mut OfKey<F::Acc>,
    watermark: Timestamp,
    emitted: &mut usize,
    out: &mut Out<Windowed<K, F::Value>>,
) -> Progress {
    while let Some(Session { window, acc }) = of_key.sessions.get(*emitted)
        && window.max_timestamp() <= watermark
    {
        if out.is_full() {
            return Progress::Yielded;
        }
        let (window, value) = (*window, fold.value(acc));
        out.push(Windowed { key: key.clone(), window, value }, Some(window.max_timestamp()));
        *emitted += 1;
    }
    of_key.sessions.drain(..std::mem::take(emitted));
    Progress::Done
}

/// Puts a record into a session, which may join others. Gives it back if its session has fired.
#[inline]
fn place<T: Data, F: WindowFold<T>>(
    fold: &mut F,
    of_key: &mut OfKey<F::Acc>,
    assigned: &[Window],
    record: T,
    watermark: Timestamp,
) -> Option<T> {
    // The planner has seen to it that there is one window for a record.
    let Some(&window) = assigned.first() else { return Some(record) };
    let merged = merge_by(&of_key.sessions, |session| session.window, window);
    let at = merged.swallowed.start;
    if merged.is_new() {
        if watermark > WATERMARK_MIN && window.max_timestamp() <= watermark {
            return Some(record);
        }
        of_key.sessions.insert(at, Session { window, acc: fold.create(record) });
        return None;
    }
    if merged.swallowed.len() > 1 {
        let others: Vec<Session<F::Acc>> = of_key.sessions.drain(at + 1..merged.swallowed.end).collect();
        if let Some(session) = of_key.sessions.get_mut(at) {
            others.into_iter().for_each(|other| fold.merge(&mut session.acc, other.acc));
        }
    }
    if let Some(session) = of_key.sessions.get_mut(at) {
        session.window = merged.window;
        fold.add(&mut session.acc, record);
    }
    None
}

/// Sees to it that there is a timer no later than the end of the first session.
#[inline]
fn set_timer<A>(timers: &mut Timers<()>, of_key: &mut OfKey<A>, slot: Slot) {
    let end = of_key.sessions.first().map(|session| session.window.max_timestamp());
    if let Some(end) = end
        && of_key.timer.is_none_or(|timer| end < timer)
    {
        of_key.timer = Some(end);
        timers.register(end, slot, ());
    }
}

impl<K: Key, T: Data, W: WindowAssigner<T>, F: WindowFold<T>> Operator for SessionFold<K, T, W, F> {
    type In = T;
    type Out = Windowed<K, F::Value>;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.one_key = ctx.state_scope == StateScope::OneKey;
        Ok(())
    }

    fn process(
        &mut self,
        batch: &mut Batch<T>,
        ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        if batch.timestamps.len() != batch.len() {
            return Err(no_timestamps());
        }
        if !self.one_key {
            self.process_all(batch, ctx.watermark)?;
            if !self.late_records.is_empty() {
                divert(&mut self.late_records, &self.late_to, &mut self.late, ctx, out);
            }
            return Ok(Progress::Done);
        }
        batch.reverse();
        while !out.is_full() {
            // What ends before the next record cannot be reached by later ones either; touching sessions are one.
            if let (Some(&timestamp), Some((key, of_key))) = (batch.timestamps.last(), &mut self.one) {
                let until = timestamp.saturating_sub(2);
                if emit_complete(&mut self.fold, key, of_key, until, &mut self.emitted, out)
                    == Progress::Yielded
                {
                    break;
                }
            }
            let Some((record, Some(timestamp))) = batch.pop() else { break };
            self.assigned.clear();
            self.assigner.assign(&record, timestamp, &mut self.assigned)?;
            let (_, of_key) = self.one.get_or_insert_with(|| (self.selector.key(&record), OfKey::new()));
            place(&mut self.fold, of_key, &self.assigned, record, ctx.watermark);
        }
        batch.reverse();
        Ok(if batch.is_empty() { Progress::Done } else { Progress::Yielded })
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        _ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        if !std::mem::replace(&mut self.firing, true) {
            self.timers.advance(watermark);
        }
        loop {
            if out.is_full() {
                return Ok(Progress::Yielded);
            }
            if self.popped.is_multiple_of(AHEAD) {
                let timers = &self.timers;
                timers.upcoming(3 * AHEAD).skip(2 * AHEAD).for_each(|slot| self.table.prefetch(slot));
                let near = timers.upcoming(2 * AHEAD).skip(AHEAD);
                near.filter_map(|slot| self.table.value(slot)).for_each(OfKey::prefetch);
            }
            let slot = match self.under_way.take() {
                Some(slot) => slot,
                None => {
                    self.popped = self.popped.wrapping_add(1);
                    let Some(timer) = self.timers.pop_due() else { break };
                    timer.slot
                }
            };
            // A timer of a key that has left, or of one that came after it, finds nothing to do.
            if self.fire(slot, watermark, out)? == Progress::Yielded {
                self.under_way = Some(slot);
                return Ok(Progress::Yielded);
            }
        }
        self.firing = false;
        self.table.end_batch();
        Ok(Progress::Done)
    }

    fn end_of_key(&mut self, _ctx: &mut Context, out: &mut Out<Self::Out>) -> Result<Progress> {
        if let Some((key, of_key)) = &mut self.one
            && emit_complete(&mut self.fold, key, of_key, Timestamp::MAX, &mut self.emitted, out)
                == Progress::Yielded
        {
            return Ok(Progress::Yielded);
        }
        self.one = None;
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        self.changes.cut(barrier.full, self.table.slots());
        self.snapshot_more(into)
    }

    fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        let table = &self.table;
        let done = self.changes.write(into.section(KEYS), SNAPSHOT_SLICE_BYTES, |slot, into| {
            let Some((key, of_key)) = table.key(slot).zip(table.value(slot)) else { return Ok(false) };
            into.put_slot(slot, Some(&(key, &of_key.sessions))).map(|()| true)
        })?;
        Ok(if done { Progress::Done } else { Progress::Yielded })
    }

    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        // A session is written as the tuple of its fields.
        vec![ListTable::<K, (Window, F::Acc)>::boxed(KEYS, &["key", "window", "value"])]
    }

    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        self.table.reserve(state.table_len(KEYS) / ctx.runtime.parallelism());
        let entries = state.table::<(K, Vec<Session<F::Acc>>)>(KEYS).map(|entry| {
            let (_, _, (key, sessions)) = entry?;
            Ok((key, OfKey { sessions, timer: None }))
        });
        self.table.insert_all(entries, |hash| ctx.runtime.owns(hash))?;
        for slot in 0..self.table.slots() {
            if let Some(of_key) = self.table.value_mut(slot) {
                set_timer(&mut self.timers, of_key, slot);
            }
        }
        Ok(())
    }
}

/// Section of a snapshot with the open sessions of each key, a table by slot.
const KEYS: &str = "keys";

//! IntervalJoin: joins the records of two keyed inputs whose timestamps are near each other.
//!
//! Place: behind two edges that are keyed by the same type of key. A left record is joined with the right ones for which
//! `left + lower <= right <= left + upper`; a result carries the later timestamp of the two. Event time only.
//! Method: a key has two buffers, ordered by timestamp. A record looks for partners in the other side's buffer,
//! then waits in its own until it cannot find any more: a left one until the watermark has reached its timestamp plus
//! `upper`, a right one until it has reached its own minus `lower`. Outer joins emit a record that has found nothing as it
//! goes, in that order within a key, with its own timestamp. The watermark may be later than that by then: windows behind an
//! outer join need an allowed lateness of the interval's reach.
//!
//! A record costs no timer. Keys that are touched drop what has expired first, and one timer for each key sees to those
//! that are not: with inner joins, where nobody sees when a record goes, it comes as the last known record expires, and
//! at most the width of the interval after the first. Expired records find no partners and are in no snapshot,
//! whether their memory is still held or not.
//! Where records come key by key they come in the order of time, so that the timestamp of each is a promise for those that
//! follow: everything before it has come. This keeps the buffers of a key as short as its interval there, too.
//! Invariants: an expired record is never joined; a timer of a key is due no later than the first of its records that must
//! be emitted. A timer that a key no longer waits for is ignored when it comes.
//! Costs and limits: a record is looked for by bisection and put in from the nearer end. One that is late, before the
//! watermark, is dropped and counted, or goes to a side output.

mod buffer;
mod function;
mod interval;
mod keys;
mod side;

use super::exchange::KeySelector;
use super::side_output::SideOutput;
use super::{Context, Out, Progress, TwoInputOperator};
use crate::base::batch::{Barrier, Batch};
use crate::base::data::{Data, Key, Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::error::{Error, Result};
use crate::base::metrics::Counter;
use crate::semantics::state::{OperatorSnapshot, OperatorState, Slot, StateScope, StateTable};
use crate::semantics::time::Timers;
use buffer::Item;
pub use function::{FullOuter, Inner, JoinFunction, LeftOuter, RightOuter};
pub use interval::Interval;
use interval::Reach;
use keys::{Expired, Found, Keys, expired_at};
use side::{LeftSide, RightSide, Side};
use std::sync::Arc;

/// Records ahead of the current one whose buffers are being fetched.
const PREFETCH: usize = 16;

const MAX: Timestamp = Timestamp::MAX;

/// Counter of records that came behind the watermark and were dropped.
pub const LATE_DROPPED: &str = crate::operator::LATE_RECORDS_DROPPED;

/// Something of each input.
#[derive(Clone, Copy)]
struct Inputs<A, B> {
    left: A,
    right: B,
}

fn by_side<A, B>(left: A, right: B) -> Inputs<A, B> {
    Inputs { left, right }
}

/// What a program says of an input.
pub struct Setting<K, T> {
    /// The key of a record.
    pub selector: Arc<dyn KeySelector<T, K>>,
    /// Where late records go; dropped and counted if nowhere.
    pub late_to: Option<SideOutput<T>>,
}

impl<K, T> Clone for Setting<K, T> {
    fn clone(&self) -> Self {
        Setting { selector: self.selector.clone(), late_to: self.late_to.clone() }
    }
}

/// How far the record at the end of the batch has come.
#[derive(Clone, Copy)]
struct Cursor {
    /// Index of the next partner.
    next: usize,
    matched: bool,
}

/// Joins two inputs by key and time.
pub struct IntervalJoin<K, L, R, F> {
    function: F,
    settings: Inputs<Setting<K, L>, Setting<K, R>>,
    reach: Inputs<Reach, Reach>,
    keys: Keys<K, L, R>,
    timers: Timers<()>,
    found: Found<K>,
    looked_up: bool,
    /// Of the record that was interrupted.
    cursor: Option<Cursor>,
    /// The key that was interrupted while what it holds expired.
    firing: Option<Slot>,
    /// The time that has passed: the watermark, or what the order of records tells.
    now: Timestamp,
    expired: Expired,
    sorted: bool,
    late: Counter,
}

impl<K: Key, L: Data, R: Data, F: JoinFunction<L, R>> IntervalJoin<K, L, R, F> {
    /// The join within `interval`, which has no [mistake](Interval::mistake).
    pub fn new(function: F, interval: Interval, left: Setting<K, L>, right: Setting<K, R>) -> Self {
        IntervalJoin {
            function,
            settings: by_side(left, right),
            reach: by_side(interval.of_left(), interval.of_right()),
            keys: Keys::new(StateScope::AllKeys),
            timers: Timers::new(),
            found: Found::new(),
            looked_up: false,
            cursor: None,
            firing: None,
            now: WATERMARK_MIN,
            expired: by_side(None, None),
            sorted: false,
            late: Counter::new(),
        }
    }

    /// Time has come to `now`.
    #[inline(always)]
    fn set_now(&mut self, now: Timestamp) {
        if now != self.now {
            self.now = now;
            self.expired = expired_at(now, self.reach);
        }
    }

    fn process<S: Side<K, L, R>>(
        &mut self,
        batch: &mut Batch<S::Own>,
        ctx: &mut Context,
        out: &mut Out<F::Out>,
    ) -> Result<Progress>
    where
        S::Own: Data,
    {
        if !std::mem::replace(&mut self.looked_up, true) {
            if batch.timestamps.len() != batch.len() {
                return Err(without_timestamps(S::NAME));
            }
            self.keys.look_up(batch, S::selector(&self.settings), &mut self.found)?;
            let near = self.found.slots.iter().rev().take(PREFETCH);
            self.keys.prefetch_buffers(near.copied());
        }
        if !self.sorted {
            self.set_now(ctx.watermark);
        }
        while let (Some(&ts), Some(&slot)) = (batch.timestamps.last(), self.found.slots.last()) {
            let left = self.found.slots.len();
            if left.is_multiple_of(PREFETCH) {
                let near = left.saturating_sub(PREFETCH);
                let ahead = self.found.slots.get(near.saturating_sub(PREFETCH)..near).unwrap_or_default();
                self.keys.prefetch_buffers(ahead.iter().copied());
            }
            if self.sorted {
                // Everything before this record has come.
                self.set_now(self.now.max(ts.saturating_sub(1)));
            } else if ts < self.now {
                if out.is_full() {
                    return Ok(Progress::Yielded);
                }
                self.drop_late::<S>(batch, slot, out);
                continue;
            }
            if !self.join::<S>(batch, ts, slot, out)? {
                return Ok(Progress::Yielded);
            }
        }
        self.looked_up = false;
        batch.clear();
        self.keys.release(&mut self.found.emptied)?;
        Ok(Progress::Done)
    }

    #[cold]
    fn drop_late<S: Side<K, L, R>>(&mut self, batch: &mut Batch<S::Own>, slot: Slot, out: &mut Out<F::Out>)
    where
        S::Own: Data,
    {
        self.found.slots.pop();
        self.found.emptied.push(slot);
        let Some((value, ts)) = batch.pop() else { return };
        match S::late_to(&self.settings) {
            Some(output) => out.push_to(output, value, ts),
            None => self.late.add(1),
        }
    }

    /// Joins the last record of the batch with what the other side holds, and keeps it. False if `out` is full before the
    /// end.
    #[inline(always)]
    fn join<S: Side<K, L, R>>(
        &mut self,
        batch: &mut Batch<S::Own>,
        ts: Timestamp,
        slot: Slot,
        out: &mut Out<F::Out>,
    ) -> Result<bool> {
        let (own_outer, other_outer) = S::outer::<F>();
        let reach = *S::setting(&self.reach);
        let (from, to) = reach.around(ts);
        let buffers = self.keys.get_mut(slot)?.ok_or_else(lost_key)?;
        let Cursor { mut next, mut matched } = match self.cursor.take() {
            Some(cursor) => cursor,
            None => {
                if !buffers.expire(self.expired, self.reach, &mut self.function, out) {
                    return Ok(false);
                }
                Cursor { next: S::buffers(buffers).1.first_from(from), matched: false }
            }
        };
        let (own, other) = S::buffers(buffers);
        let value = batch.values.last().ok_or_else(lost_key)?;
        while let Some(partner) = other.items.get_mut(next)
            && partner.ts <= to
        {
            if out.is_full() {
                self.cursor = Some(Cursor { next, matched });
                return Ok(false);
            }
            if other_outer {
                partner.matched = true;
            }
            out.push(S::pair(&mut self.function, value, &partner.value), Some(ts.max(partner.ts)));
            matched = true;
            next += 1;
        }
        let expired = S::setting(&self.expired).is_some_and(|to| ts <= to);
        if expired && own_outer && !matched {
            if out.is_full() {
                self.cursor = Some(Cursor { next, matched });
                return Ok(false);
            }
            if let Some(alone) = S::alone(&mut self.function, value) {
                out.push(alone, Some(ts));
            }
        }
        let Some((value, _)) = batch.pop() else { return Ok(true) };
        self.found.slots.pop();
        if !expired {
            own.insert(Item { ts, matched, value });
            if !self.sorted {
                let slack = if own_outer { 0 } else { reach.width() };
                let due = reach.expiry(ts, slack);
                if due < buffers.timer || buffers.timer == MAX {
                    let due = buffers.due::<F>(self.reach).unwrap_or(due);
                    buffers.timer = due;
                    self.timers.register(due, slot, ());
                }
            }
        } else if buffers.is_empty() {
            self.found.emptied.push(slot);
        }
        Ok(true)
    }

    /// Lets the records of the keys whose timers are due expire.
    fn fire(&mut self, out: &mut Out<F::Out>) -> Result<Progress> {
        let mut fired = 0_usize;
        loop {
            let slot = match self.firing.take() {
                Some(slot) => slot,
                None => {
                    if fired.is_multiple_of(PREFETCH) {
                        self.keys.prefetch_entries(self.timers.upcoming(2 * PREFETCH).skip(PREFETCH));
                        self.keys.prefetch_buffers(self.timers.upcoming(PREFETCH));
                    }
                    fired += 1;
                    let Some(timer) = self.timers.pop_due() else { break };
                    match self.keys.get(timer.slot) {
                        Some(buffers) if buffers.timer == timer.time => timer.slot,
                        // The key asked for an earlier one since, or is another.
                        _ => continue,
                    }
                }
            };
            let Some(buffers) = self.keys.get_mut(slot)? else { continue };
            if !buffers.expire(self.expired, self.reach, &mut self.function, out) {
                self.firing = Some(slot);
                return Ok(Progress::Yielded);
            }
            buffers.left.shrink();
            buffers.right.shrink();
            buffers.timer = MAX;
            match buffers.due::<F>(self.reach) {
                Some(due) => {
                    buffers.timer = due;
                    self.timers.register(due, slot, ());
                }
                None => self.found.emptied.push(slot),
            }
        }
        self.keys.release(&mut self.found.emptied)?;
        Ok(Progress::Done)
    }
}

#[cold]
fn without_timestamps(side: &str) -> Error {
    Error::user(format!(
        "an interval join compares timestamps, and the records of its {side} input have none; give that stream \
         assign_timestamps(...), or its source timestamps"
    ))
}

#[cold]
fn lost_key() -> Error {
    Error::Internal("a record of an interval join lost its key".into())
}

impl<K: Key, L: Data, R: Data, F: JoinFunction<L, R>> TwoInputOperator for IntervalJoin<K, L, R, F> {
    type Left = L;
    type Right = R;
    type Out = F::Out;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.keys = Keys::new(ctx.state_scope);
        self.sorted = ctx.state_scope == StateScope::OneKey;
        self.late = ctx.runtime.counter(LATE_DROPPED);
        Ok(())
    }

    fn process_left(
        &mut self,
        batch: &mut Batch<L>,
        ctx: &mut Context,
        out: &mut Out<F::Out>,
    ) -> Result<Progress> {
        self.process::<LeftSide>(batch, ctx, out)
    }

    fn process_right(
        &mut self,
        batch: &mut Batch<R>,
        ctx: &mut Context,
        out: &mut Out<F::Out>,
    ) -> Result<Progress> {
        self.process::<RightSide>(batch, ctx, out)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        _ctx: &mut Context,
        out: &mut Out<F::Out>,
    ) -> Result<Progress> {
        if self.sorted {
            return Ok(Progress::Done);
        }
        self.set_now(watermark);
        self.timers.advance(watermark);
        self.fire(out)
    }

    fn end_of_key(&mut self, _ctx: &mut Context, out: &mut Out<F::Out>) -> Result<Progress> {
        self.set_now(WATERMARK_MAX);
        if let Keys::One(key, buffers) = &mut self.keys {
            if !buffers.expire(self.expired, self.reach, &mut self.function, out) {
                return Ok(Progress::Yielded);
            }
            buffers.left.shrink();
            buffers.right.shrink();
            *key = None;
        }
        self.found.emptied.clear();
        self.set_now(WATERMARK_MIN);
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        self.keys.snapshot(barrier, self.expired, into)
    }

    fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        self.keys.snapshot_more(into)
    }

    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        self.keys.state_tables()
    }

    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        let (reach, sorted, timers) = (self.reach, self.sorted, &mut self.timers);
        self.keys.restore(state, &ctx.runtime, |slot, buffers| {
            if let Some(due) = buffers.due::<F>(reach)
                && !sorted
            {
                buffers.timer = due;
                timers.register(due, slot, ());
            }
        })
    }
}

#[cfg(test)]
mod tests;

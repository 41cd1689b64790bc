//! AssignTimestamps: timestamps and watermarks in the middle of a plan, one strategy for each subtask.
//!
//! Where the strategy stands directly behind a source the planner moves it into the source, which keeps a watermark for
//! each split. The watermarks of the inputs end here.

use super::{Context, Operator, Out, Progress};
use crate::base::batch::{Batch, Element};
use crate::base::data::{Data, Timestamp};
use crate::base::error::{Error, Result};
use crate::semantics::time::{Timing, WatermarkStrategy};
use std::time::Duration;

/// Gives records timestamps and makes watermarks.
pub struct AssignTimestamps<T> {
    strategy: WatermarkStrategy<T>,
    timing: Option<Timing<T>>,
    /// The batch under way has its timestamps.
    stamped: bool,
    /// When the next periodic watermark is due, in milliseconds of processing time.
    next_periodic: Timestamp,
    /// When the subtask may become idle.
    idle_at: Option<Timestamp>,
    interval_ms: i64,
}

impl<T: Data> AssignTimestamps<T> {
    /// The operator for a strategy.
    pub fn new(strategy: WatermarkStrategy<T>) -> Self {
        AssignTimestamps {
            strategy,
            timing: None,
            stamped: false,
            next_periodic: i64::MIN,
            idle_at: None,
            interval_ms: 0,
        }
    }

    fn timing(&mut self) -> Result<&mut Timing<T>> {
        self.timing.as_mut().ok_or_else(|| Error::Internal("a watermark strategy was not opened".into()))
    }

    /// Sends what is due at `now`, and says when to look again.
    fn tick(&mut self, now: Timestamp, input_is_empty: bool, ctx: &Context, out: &mut Out<T>) -> Result<()> {
        let interval = self.interval_ms;
        let due = interval == 0 || now >= self.next_periodic;
        let monotonic = ctx.clock.monotonic();
        let timing = self.timing()?;
        if (due || timing.is_overdue())
            && let Some(watermark) = timing.periodic()
        {
            out.control(Element::Watermark(watermark));
        }
        if !input_is_empty {
            timing.was_blocked(monotonic);
        } else if timing.falls_idle(monotonic) {
            out.control(Element::Idle);
        }
        self.idle_at = timing.idle_in(monotonic).map(|wait| now.saturating_add(to_ms(wait)));
        if due {
            self.next_periodic = now.saturating_add(interval.max(1));
        }
        Ok(())
    }
}

/// Whole milliseconds, rounded up: a timer must not ring too early.
pub(super) fn to_ms(time: Duration) -> i64 {
    i64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
}

impl<T: Data> Operator for AssignTimestamps<T> {
    type In = T;
    type Out = T;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        let timing = self.strategy.start(ctx.clock.monotonic());
        // A subtask that never gets a record falls idle as well.
        let wait = timing.idle_in(ctx.clock.monotonic());
        self.idle_at = wait.map(|wait| ctx.clock.now_ms().saturating_add(to_ms(wait)));
        self.timing = Some(timing);
        self.interval_ms = to_ms(ctx.runtime.job.auto_watermark_interval);
        Ok(())
    }

    fn process(&mut self, batch: &mut Batch<T>, ctx: &mut Context, out: &mut Out<T>) -> Result<Progress> {
        let monotonic = ctx.clock.monotonic();
        let stamped = std::mem::replace(&mut self.stamped, true);
        let timing = self.timing()?;
        if !stamped {
            timing.stamp(&batch.values, &mut batch.timestamps, || ctx.clock.now_ms());
        }
        if timing.makes_watermarks() {
            if batch.timestamps.len() != batch.len() {
                return Err(Error::user(
                    "records without timestamps cannot have watermarks; give the strategy a timestamp(...)",
                ));
            }
            if timing.awake(monotonic) {
                out.control(Element::Active);
            }
            while let Some((to, watermark)) = timing.observe(&batch.values, &batch.timestamps, 0) {
                let rest = batch.split(to);
                out.forward(batch);
                *batch = rest;
                out.control(Element::Watermark(watermark));
                if out.is_full() && !batch.is_empty() {
                    return Ok(Progress::Yielded);
                }
            }
        }
        out.forward(batch);
        batch.clear();
        self.stamped = false;
        if self.timing()?.makes_watermarks() {
            self.tick(ctx.clock.now_ms(), false, ctx, out)?;
        }
        Ok(Progress::Done)
    }

    fn processing_time(&mut self, now: Timestamp, ctx: &mut Context, out: &mut Out<T>) -> Result<Progress> {
        self.tick(now, ctx.input_is_empty, ctx, out)?;
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let timing = self.timing.as_ref().filter(|timing| timing.makes_watermarks())?;
        let periodic = timing.wants_periodic().then_some(self.next_periodic);
        let next = match (periodic, self.idle_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        // At the end of time nothing comes later.
        next.filter(|&time| time < Timestamp::MAX)
    }

    fn makes_watermarks(&self) -> bool {
        true
    }

    fn end_of_input(&mut self, _ctx: &mut Context, _out: &mut Out<T>) -> Result<Progress> {
        // Nothing is left to promise: the maximum follows.
        self.timing = None;
        Ok(Progress::Done)
    }
}

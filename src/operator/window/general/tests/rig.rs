//! Rig: an operator of windows with its context, fed and read as text.
//!
//! `a1@3` is the record 1 of key a with timestamp 3; `a[0,10)=1+2@9` the result 1+2 of a window of it, with timestamp 9;
//! `late:2@3` a record in the late output. A result that is no [`Windowed`] is shown as it is.

use super::{Record, WindowSetup};
use crate::base::accumulator::Accumulators;
use crate::base::batch::{Batch, Element, typed};
use crate::base::clock::VirtualClock;
use crate::base::data::{Data, Timestamp, WATERMARK_MAX};
use crate::base::error::Result;
use crate::base::metrics::Counters;
use crate::base::parameters::Parameters;
use crate::operator::context::JobContext;
use crate::operator::exchange::{FnKey, KeySelector};
use crate::operator::output::{AnyOut, MAIN};
use crate::operator::side_output::SideOutput;
use crate::operator::tests::snapshot_of;
use crate::operator::window::Windowed;
use crate::operator::{Context, Operator, Out, Progress, RuntimeContext};
use crate::semantics::state::{OperatorSnapshot, StateScope};
use crate::semantics::window::WindowAssigner;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

pub(in super::super) struct Rig<O: Operator> {
    pub(super) operator: O,
    ctx: Context,
    out: Out<O::Out>,
    clock: Arc<VirtualClock>,
    shown: String,
    /// How often it waited for room.
    pub(super) yields: usize,
}

pub(super) fn by_key() -> Arc<dyn KeySelector<Record, char>> {
    Arc::new(FnKey(|record: &Record| record.0))
}

pub(super) fn setup<W: WindowAssigner<Record>>(assigner: W) -> WindowSetup<Record, W, W::Trigger> {
    setup_of(assigner)
}

pub(super) fn setup_of<T, W: WindowAssigner<T>>(assigner: W) -> WindowSetup<T, W, W::Trigger> {
    WindowSetup { trigger: assigner.default_trigger(), assigner, lateness_ms: 0, late: None }
}

pub(super) fn context(state_scope: StateScope, clock: Arc<VirtualClock>) -> Context {
    let runtime = RuntimeContext {
        job: Arc::new(JobContext {
            name: "job".into(),
            id: "id".into(),
            parameters: Parameters::default(),
            auto_watermark_interval: Duration::from_millis(200),
        }),
        operator: Arc::from("windows"),
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        unit: 0,
        attempt: 0,
        counters: Counters::new(),
        accumulators: Accumulators::new().attempt().handles(),
    };
    Context::new(runtime, state_scope, 1 << 20, None, clock)
}

/// How a result is shown.
pub(super) trait Show {
    fn show(&self) -> String;
}

impl<V: Data + ShowValue> Show for Windowed<char, V> {
    fn show(&self) -> String {
        let value = self.value.show_value();
        if self.window.is_global() {
            return format!("{}={value}", self.key);
        }
        format!("{}[{},{})={value}", self.key, self.window.start, self.window.end)
    }
}

impl Show for String {
    fn show(&self) -> String {
        self.clone()
    }
}

pub(super) trait ShowValue {
    fn show_value(&self) -> String;
}

fn display(value: &dyn Display) -> String {
    value.to_string()
}

impl ShowValue for String {
    fn show_value(&self) -> String {
        display(self)
    }
}

impl ShowValue for u64 {
    fn show_value(&self) -> String {
        display(self)
    }
}

impl ShowValue for Record {
    fn show_value(&self) -> String {
        let debug: &dyn Debug = self;
        format!("{debug:?}")
    }
}

fn records(text: &str) -> Vec<(Record, Option<Timestamp>)> {
    let record = |text: &str| {
        let (record, timestamp) = match text.split_once('@') {
            Some((record, timestamp)) => (record, Some(timestamp.parse().unwrap())),
            None => (text, None),
        };
        let mut chars = record.chars();
        ((chars.next().unwrap(), chars.collect()), timestamp)
    };
    text.split_whitespace().map(record).collect()
}

impl<O: Operator<In = Record>> Rig<O>
where
    O::Out: Show,
{
    fn new(mut operator: O, scope: StateScope) -> Self {
        let clock = VirtualClock::new();
        let mut ctx = context(scope, clock.clone());
        operator.open(&mut ctx).unwrap();
        let mut out = Out::new();
        out.attach(&[Arc::new(SideOutput::<Record>::new("late"))]);
        Rig { operator, ctx, out, clock, shown: String::new(), yields: 0 }
    }
    pub(super) fn all_keys(operator: O) -> Self {
        Rig::new(operator, StateScope::AllKeys)
    }
    pub(super) fn one_key(operator: O) -> Self {
        Rig::new(operator, StateScope::OneKey)
    }

    fn show(&mut self, what: String, timestamp: Option<Timestamp>) {
        let at = timestamp.map_or(String::new(), |t| format!("@{t}"));
        let space = if self.shown.is_empty() { "" } else { " " };
        self.shown = format!("{}{space}{what}{at}", self.shown);
    }
    fn drain(&mut self) {
        self.out.flush();
        while let Some((port, element)) = AnyOut::take(&mut self.out) {
            let Element::Batch(mut batch) = element else { panic!("{}", element.kind()) };
            if port == MAIN {
                let batch = typed::<O::Out>(&mut *batch);
                for i in 0..batch.len() {
                    self.show(batch.values[i].show(), batch.timestamp(i));
                }
            } else {
                let batch = typed::<Record>(&mut *batch);
                for i in 0..batch.len() {
                    self.show(format!("late:{}", batch.values[i].1), batch.timestamp(i));
                }
            }
        }
    }
    /// Makes a call until it is done.
    fn call(
        &mut self,
        mut call: impl FnMut(&mut O, &mut Context, &mut Out<O::Out>) -> Result<Progress>,
    ) -> Result<String> {
        while call(&mut self.operator, &mut self.ctx, &mut self.out)? == Progress::Yielded {
            assert!(self.out.is_full(), "it yields only where there is no room");
            self.yields += 1;
            self.drain();
        }
        self.drain();
        Ok(std::mem::take(&mut self.shown))
    }
    pub(super) fn try_feed(&mut self, text: &str) -> Result<String> {
        let mut shown = Vec::new();
        let mut records = records(text).into_iter().peekable();
        while let Some((record, timestamp)) = records.next() {
            let mut batch = Batch { values: vec![record], ..Batch::new() };
            batch.timestamps.extend(timestamp);
            // As many as have a timestamp or have none.
            while let Some((record, timestamp)) = records.next_if(|r| r.1.is_some() == timestamp.is_some()) {
                batch.values.push(record);
                batch.timestamps.extend(timestamp);
            }
            shown.push(self.call(|operator, ctx, out| operator.process(&mut batch, ctx, out))?);
        }
        shown.retain(|text| !text.is_empty());
        Ok(shown.join(" "))
    }
    pub(super) fn feed(&mut self, text: &str) -> String {
        self.try_feed(text).unwrap()
    }
    pub(super) fn watermark(&mut self, watermark: Timestamp) -> String {
        self.ctx.watermark = watermark;
        self.call(|operator, ctx, out| operator.watermark(watermark, ctx, out)).unwrap()
    }
    /// Moves the clock, and calls the operator if it has asked for that.
    pub(super) fn clock(&mut self, to: Timestamp) -> String {
        use crate::base::clock::Clock;
        let by = to - self.clock.now_ms();
        self.clock.advance(Duration::from_millis(by as u64));
        if self.operator.next_timer().is_none_or(|next| next > to) {
            return String::new();
        }
        self.call(|operator, ctx, out| operator.processing_time(to, ctx, out)).unwrap()
    }
    /// The end of a bounded input.
    pub(super) fn end(&mut self) -> String {
        let by_event_time = self.watermark(WATERMARK_MAX);
        let by_clock = self.call(|operator, ctx, out| operator.end_of_input(ctx, out)).unwrap();
        [by_event_time, by_clock].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" ")
    }
    pub(super) fn end_of_key(&mut self) -> String {
        let before = std::mem::replace(&mut self.ctx.watermark, WATERMARK_MAX);
        let shown = self.call(|operator, ctx, out| operator.end_of_key(ctx, out)).unwrap();
        self.ctx.watermark = before;
        shown
    }
    pub(super) fn counter(&self, name: &str) -> u64 {
        self.ctx.runtime.counter(name).get()
    }
    pub(super) fn snapshot(&mut self) -> OperatorSnapshot {
        snapshot_of!(self.operator)
    }
    /// Number of keys that hold something.
    pub(super) fn kept(&mut self) -> usize {
        self.snapshot().len("windows")
    }
    pub(super) fn restore(&mut self, snapshot: &OperatorSnapshot) {
        self.operator.restore(&snapshot.clone().into(), &mut self.ctx).unwrap();
    }
}

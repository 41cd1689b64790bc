//! Functions over keys, driven by hand in both scopes: elements in, elements out.

mod broadcast;
mod co;
mod edits;
mod keys;
mod snapshot;
mod speed;
mod timers;

use super::backend::Backend;
use super::context::Keys;
use super::*;
use crate::base::accumulator::Accumulators;
use crate::base::batch::Batch;
use crate::base::clock::VirtualClock;
use crate::base::data::{Key, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::metrics::Counters;
use crate::base::parameters::Parameters;
use crate::operator::collector::Collector;
use crate::operator::context::JobContext;
use crate::operator::exchange::FnKey;
use crate::operator::{Context, Operator, RuntimeContext};
use crate::semantics::state::{MapState, StateScope, States, ValueState};
use crate::semantics::window::TimeDomain;
use std::sync::Arc;
use std::time::Duration;

const SCOPES: [StateScope; 2] = [StateScope::AllKeys, StateScope::OneKey];

/// A context whose clock stands at 0 until it is moved.
fn context(state_scope: StateScope) -> (Context, Arc<VirtualClock>) {
    let runtime = RuntimeContext {
        job: Arc::new(JobContext {
            name: "job".into(),
            id: "id".into(),
            parameters: Parameters::default(),
            auto_watermark_interval: Duration::from_millis(200),
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
    let clock = VirtualClock::new();
    (Context::new(runtime, state_scope, 1 << 20, None, clock.clone()), clock)
}

/// What one call of a [`Script`] does.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
enum Do {
    Event(Timestamp),
    Processing(Timestamp),
    DeleteEvent(Timestamp),
    DeleteProcessing(Timestamp),
    /// Adds to the key's number.
    Add(u64),
    /// Drops the key's number.
    Forget,
    /// Emits that many records with the key's number.
    Emit(u64),
}
use Do::{Add, DeleteEvent, DeleteProcessing, Emit, Event, Forget, Processing};

type Call = (u64, Vec<Do>);

/// What came out: the key, what called (a record, or a timer), the key's number, the watermark.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
struct Seen {
    key: u64,
    timer: Option<(bool, Timestamp)>,
    number: u64,
    watermark: Timestamp,
}

/// Does what records say, and what `on` says for a timer. A timer emits once, unless `on` says otherwise.
struct Script {
    number: ValueState<u64>,
    on: fn(u64, TimerFired) -> Vec<Do>,
}

impl Script {
    fn run(
        &mut self,
        todo: Vec<Do>,
        timer: Option<TimerFired>,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Seen>,
    ) {
        for step in todo {
            match step {
                Event(time) => ctx.register_event_time_timer(time),
                Processing(time) => ctx.register_processing_time_timer(time),
                DeleteEvent(time) => ctx.delete_event_time_timer(time),
                DeleteProcessing(time) => ctx.delete_processing_time_timer(time),
                Add(n) => self.number.update(ctx, |number| *number += n),
                Forget => drop(self.number.take(ctx)),
                Emit(n) => (0..n).for_each(|_| {
                    out.emit(Seen {
                        key: *ctx.key(),
                        timer: timer.map(|timer| (timer.domain == TimeDomain::Event, timer.time)),
                        number: self.number.get(ctx).copied().unwrap_or(0),
                        watermark: ctx.watermark(),
                    })
                }),
            }
        }
    }
}

impl KeyedProcessFunction<u64, Call, Seen> for Script {
    fn process(
        &mut self,
        (_, todo): Call,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Seen>,
    ) -> UserResult {
        self.run(todo, None, ctx, out);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Seen>,
    ) -> UserResult {
        let expected = (timer.domain == TimeDomain::Event).then_some(timer.time);
        assert_eq!((ctx.timestamp(), out.timestamp()), (expected, expected));
        let todo = (self.on)(*ctx.key(), timer);
        self.run(todo, Some(timer), ctx, out);
        Ok(())
    }
}

type Scripted = KeyedProcess<u64, Call, Seen, Script>;

/// An open operator and its surroundings.
struct Rig {
    operator: Scripted,
    ctx: Context,
    clock: Arc<VirtualClock>,
    out: Out<Seen>,
    /// How often a call had to be repeated.
    yields: usize,
}

impl Rig {
    fn new(scope: StateScope, on: fn(u64, TimerFired) -> Vec<Do>) -> Rig {
        let (mut ctx, clock) = context(scope);
        let mut states = States::default();
        let function = Script { number: states.value("number"), on };
        let mut operator = Scripted::new(function, states, Arc::new(FnKey(|call: &Call| call.0)));
        operator.open(&mut ctx).unwrap();
        Rig { operator, ctx, clock, out: Out::new(), yields: 0 }
    }

    /// Makes a call until it is done, with room for output in between, and returns what came out.
    fn call(
        &mut self,
        mut call: impl FnMut(&mut Scripted, &mut Context, &mut Out<Seen>) -> Result<Progress>,
    ) -> Vec<(Seen, Option<Timestamp>)> {
        let mut seen = Vec::new();
        loop {
            let progress = call(&mut self.operator, &mut self.ctx, &mut self.out).unwrap();
            if progress == Progress::Done {
                self.out.flush();
            }
            while let Some(mut batch) = self.out.take() {
                batch.reverse();
                seen.extend(std::iter::from_fn(|| batch.pop()));
            }
            match progress {
                Progress::Done => return seen,
                _ => self.yields += 1,
            }
        }
    }

    fn records(&mut self, calls: Vec<Call>) -> Vec<Seen> {
        let mut batch = Batch { values: calls, ..Batch::default() };
        let seen = self.call(|operator, ctx, out| operator.process(&mut batch, ctx, out));
        seen.into_iter().map(|(seen, _)| seen).collect()
    }

    fn watermark(&mut self, watermark: Timestamp) -> Vec<(u64, Timestamp)> {
        self.ctx.watermark = watermark;
        let seen = self.call(|operator, ctx, out| operator.watermark(watermark, ctx, out));
        assert!(seen.iter().all(|(seen, _)| seen.watermark == watermark));
        timers(seen, true)
    }

    fn processing_time(&mut self, now: Timestamp) -> Vec<(u64, Timestamp)> {
        timers(self.call(|operator, ctx, out| operator.processing_time(now, ctx, out)), false)
    }

    /// Event-time and processing-time timers, in the order in which they fired.
    fn end(&mut self) -> Vec<(u64, bool, Timestamp)> {
        self.ctx.watermark = WATERMARK_MAX;
        let mut seen = Vec::new();
        if self.ctx.state_scope == StateScope::OneKey {
            seen.extend(self.call(|operator, ctx, out| operator.end_of_key(ctx, out)));
            self.ctx.watermark = WATERMARK_MIN;
        } else {
            seen.extend(self.call(|operator, ctx, out| operator.watermark(WATERMARK_MAX, ctx, out)));
            seen.extend(self.call(|operator, ctx, out| operator.end_of_input(ctx, out)));
        }
        assert!(seen.iter().all(|(seen, _)| seen.watermark == WATERMARK_MAX));
        seen.into_iter().map(|(seen, time)| fired(seen, time)).collect()
    }

    fn keys(&self) -> usize {
        keys_of(&self.operator.backend)
    }

    fn dropped(&self) -> u64 {
        self.ctx.runtime.counter("timers_dropped_at_end").get()
    }
}

fn keys_of<K: Key>(backend: &Backend<K>) -> usize {
    let Backend::Open(backend) = backend else { return 0 };
    match &backend.context.keys {
        Keys::All(table) => table.len(),
        Keys::One(key) => key.iter().count(),
    }
}

fn fired(seen: Seen, timestamp: Option<Timestamp>) -> (u64, bool, Timestamp) {
    let (event, time) = seen.timer.expect("only timers fire here");
    assert_eq!(
        timestamp,
        event.then_some(time),
        "what a timer emits carries its time, if that is event time"
    );
    (seen.key, event, time)
}

/// The timers that fired, all of one domain.
fn timers(seen: Vec<(Seen, Option<Timestamp>)>, event: bool) -> Vec<(u64, Timestamp)> {
    let fired = seen.into_iter().map(|(seen, timestamp)| fired(seen, timestamp));
    fired
        .map(|(key, domain, time)| (domain == event).then_some((key, time)).expect("of this domain"))
        .collect()
}

fn emits(_: u64, _: TimerFired) -> Vec<Do> {
    vec![Emit(1)]
}

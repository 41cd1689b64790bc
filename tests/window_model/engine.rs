//! Engine: a case as a program, run in some way.

use crate::cases::{Case, Function};
use crate::definition::{Definition, Evicts, Fires, Kind, Rec, dynamic_gap};
use mainstem::api::WindowedStream;
use mainstem::prelude::*;
use mainstem::semantics::window::{
    Aligned, Evictor, TimeDomain, Timestamped, Trigger, TriggerContext, TriggerResult, Window, WindowAssigner,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A firing: key, start, end, timestamp, and what the function made of the values.
pub type Row = (u8, i64, i64, i64, Vec<i64>);

/// What a run gave, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub rows: Vec<Row>,
    pub late: Vec<Rec>,
    pub dropped: u64,
    /// Not compared.
    pub spilled: bool,
    pub implementation: &'static str,
}

/// Which implementation runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// The assigners and triggers of the crate where there is no more to say than they do.
    Plain,
    /// Assigners and triggers of the user's own that say what those of the crate do.
    Wrapped,
    /// The general one: the trigger does not say that it is the default one.
    General,
}

#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub mode: ExecutionMode,
    pub driver: Driver,
    pub parallelism: usize,
    pub memory: ByteSize,
    pub wanted: Wanted,
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

pub fn run(case: &Case, way: &Way) -> mainstem::Result<Found> {
    let env = Environment::new()
        .execution_mode(way.mode)
        .driver(way.driver)
        .parallelism(way.parallelism)
        .memory(way.memory);
    let source = env.from_iter(case.arrivals.clone());
    let strategy = WatermarkStrategy::generator(|| Marks).timestamp(|record: &Rec| record.at);
    // As the source: it moves into it, and the watermarks are where the case says.
    run_on(&env, &source.assign_timestamps(strategy).parallelism(1), case, way)
}

/// Runs the windows of a case over a stream.
pub fn run_on(
    env: &Environment,
    stream: &DataStream<Rec>,
    case: &Case,
    way: &Way,
) -> mainstem::Result<Found> {
    let keyed = stream.key_by(|record| record.key);
    let Definition { kind, fires, purging, evicts, .. } = case.definition;
    let default = fires == Fires::AtEnd && !purging && evicts.is_none() && way.wanted == Wanted::Plain;
    let late = SideOutput::new("late");
    let (rows, late) = match kind {
        Kind::Tumbling { size, offset } if default => {
            let windows = keyed.window(Tumbling::of(ms(size)).offset_ms(offset));
            folded(windows, case, &late)
        }
        Kind::Sliding { size, slide, offset } if default => {
            let windows = keyed.window(Sliding::of(ms(size), ms(slide)).offset_ms(offset));
            folded(windows, case, &late)
        }
        kind => {
            let claims = way.wanted != Wanted::General;
            let windows = keyed.window(AnyWindows(kind)).trigger(AnyTrigger { fires, purging, claims });
            match evicts {
                Some((evicts, after)) => folded(windows.evictor(AnyEvictor { evicts, after }), case, &late),
                None => folded(windows, case, &late),
            }
        }
    };
    let found = Arc::new(Mutex::new(Found::default()));
    let (rows_into, late_into) = (found.clone(), found.clone());
    if case.definition.late_output {
        late.sink_to(FnSink::new(move |record: Rec| late_into.lock().unwrap().late.push(record)));
    }
    rows.process(Stamp).sink_to(FnSink::new(move |row: Row| rows_into.lock().unwrap().rows.push(row)));
    let plan = env.explain()?.to_string();
    let implementation = ["slices", "sessions"].into_iter().find(|name| plan.contains(&format!("{name}: ")));
    let result = env.execute("windows")?;
    let mut found = std::mem::take(&mut *found.lock().unwrap());
    if case.merges() && case.function == Function::Process {
        // Bridged sessions have no order of their own.
        found.rows.iter_mut().for_each(|row| row.4.sort());
    }
    let counters = result.operators.iter().flat_map(|operator| &operator.counters);
    found.dropped =
        counters.filter(|(name, _)| name.as_str() == "late_records_dropped").map(|(_, n)| *n).sum();
    found.spilled = result.spilled_bytes() > 0;
    found.implementation = implementation.unwrap_or("general");
    found.rows.sort();
    found.late.sort();
    Ok(found)
}

/// The results and the late records.
fn folded<W: WindowAssigner<Rec>, G: Trigger<Rec>>(
    windows: WindowedStream<u8, Rec, W, G>,
    case: &Case,
    late: &SideOutput<Rec>,
) -> (DataStream<Windowed<u8, Vec<i64>>>, DataStream<Rec>) {
    let windows = windows.allowed_lateness(ms(case.definition.lateness));
    let windows = if case.definition.late_output { windows.late_to(late) } else { windows };
    let max = |max: &mut Rec, record: Rec| max.value = max.value.max(record.value);
    let results = match case.function {
        Function::Reduce => {
            let results = windows.reduce(max);
            let late = results.side_output(late);
            let listed = |Windowed { key, window, value }: Windowed<u8, Rec>| Windowed {
                key,
                window,
                value: vec![value.value],
            };
            return (results.map(listed), late);
        }
        Function::Aggregate => windows.aggregate(Three),
        Function::ReduceProcess => windows.reduce_process(max, |_| Values),
        Function::Process => windows.process(|_| Values),
    };
    let late = results.side_output(late);
    (results, late)
}

/// Emits the watermark that comes with a record.
struct Marks;

impl WatermarkGenerator<Rec> for Marks {
    fn on_event(&mut self, record: &Rec, _: Timestamp, output: &mut WatermarkOutput) {
        if let Some(mark) = record.mark {
            output.emit(mark);
        }
    }
    fn on_periodic_emit(&mut self, _: &mut WatermarkOutput) {}
}

/// What a function makes of the values of a window.
pub fn digest(case: &Case, mut values: Vec<i64>) -> Vec<i64> {
    let max = values.iter().copied().max().unwrap_or_default();
    match case.function {
        Function::Aggregate => vec![values.len() as i64, values.iter().sum(), max],
        Function::Reduce | Function::ReduceProcess => vec![max],
        Function::Process => {
            if case.merges() {
                values.sort();
            }
            values
        }
    }
}

/// Number, sum and maximum.
#[derive(Clone)]
struct Three;

impl Aggregator<Rec> for Three {
    type Acc = (i64, i64, i64);
    type Out = Vec<i64>;
    fn create(&self) -> Self::Acc {
        (0, 0, i64::MIN)
    }
    fn add(&self, acc: &mut Self::Acc, record: Rec) {
        self.merge(acc, (1, record.value, record.value));
    }
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        *acc = (acc.0 + other.0, acc.1 + other.1, acc.2.max(other.2));
    }
    fn result(&self, acc: &Self::Acc) -> Vec<i64> {
        vec![acc.0, acc.1, acc.2]
    }
}

struct Values;

impl ProcessWindowFunction<u8, Rec, Windowed<u8, Vec<i64>>> for Values {
    fn process(
        &mut self,
        key: &u8,
        ctx: &mut WindowContext,
        records: &[Rec],
        out: &mut Collector<'_, Windowed<u8, Vec<i64>>>,
    ) -> UserResult {
        let value = records.iter().map(|record| record.value).collect();
        out.emit(Windowed { key: *key, window: ctx.window(), value });
        Ok(())
    }
}

/// Writes the timestamp into the row.
#[derive(Clone)]
struct Stamp;

impl ProcessFunction<Windowed<u8, Vec<i64>>, Row> for Stamp {
    fn process(
        &mut self,
        result: Windowed<u8, Vec<i64>>,
        ctx: &ProcessContext<'_>,
        out: &mut Collector<'_, Row>,
    ) -> UserResult {
        let Windowed { key, window, value } = result;
        out.emit((key, window.start, window.end, ctx.timestamp().unwrap_or(i64::MIN), value));
        Ok(())
    }
}

/// Any of the assigners, as one of the user's own.
#[derive(Clone)]
struct AnyWindows(Kind);

impl AnyWindows {
    fn with<R>(&self, f: impl FnOnce(&dyn Assigner) -> R) -> R {
        match self.0 {
            Kind::Tumbling { size, offset } => f(&Tumbling::of(ms(size)).offset_ms(offset)),
            Kind::Sliding { size, slide, offset } => f(&Sliding::of(ms(size), ms(slide)).offset_ms(offset)),
            Kind::Sessions { gap } => f(&Sessions::with_gap(ms(gap))),
            Kind::DynamicSessions { least } => {
                f(&Sessions::with_dynamic_gap(move |record: &Rec| ms(dynamic_gap(least, record.value))))
            }
            Kind::Global => f(&GlobalWindows),
        }
    }
}

/// What of an assigner can be called without knowing its type.
trait Assigner {
    fn windows(&self, record: &Rec, at: Timestamp, into: &mut Vec<Window>) -> mainstem::Result<()>;
    fn clock(&self) -> Option<TimeDomain>;
    fn merging(&self) -> bool;
    fn lie(&self) -> Option<Aligned>;
    fn text(&self) -> String;
}

impl<W: WindowAssigner<Rec>> Assigner for W {
    fn windows(&self, record: &Rec, at: Timestamp, into: &mut Vec<Window>) -> mainstem::Result<()> {
        self.assign(record, at, into)
    }
    fn clock(&self) -> Option<TimeDomain> {
        self.time()
    }
    fn merging(&self) -> bool {
        self.merges()
    }
    fn lie(&self) -> Option<Aligned> {
        self.aligned()
    }
    fn text(&self) -> String {
        self.describe()
    }
}

impl WindowAssigner<Rec> for AnyWindows {
    type Trigger = AnyTrigger;

    fn default_trigger(&self) -> AnyTrigger {
        AnyTrigger { fires: Fires::AtEnd, purging: false, claims: true }
    }
    fn assign(&self, record: &Rec, at: Timestamp, into: &mut Vec<Window>) -> mainstem::Result<()> {
        self.with(|windows| windows.windows(record, at, into))
    }
    fn time(&self) -> Option<TimeDomain> {
        self.with(|windows| windows.clock())
    }
    fn merges(&self) -> bool {
        self.with(|windows| windows.merging())
    }
    fn aligned(&self) -> Option<Aligned> {
        self.with(|windows| windows.lie())
    }
    fn describe(&self) -> String {
        self.with(|windows| windows.text())
    }
}

/// Any of the triggers.
#[derive(Clone)]
struct AnyTrigger {
    fires: Fires,
    purging: bool,
    /// It says so if it is the default one.
    claims: bool,
}

/// The state of each of them.
type Remembered = (u64, Option<Timestamp>, Option<Rec>);

/// How far the value of a record is from that of another.
fn distance(a: &Rec, b: &Rec) -> f64 {
    (a.value - b.value).abs() as f64
}

/// Calls a method of the trigger that it stands for, with that trigger's part of the state.
macro_rules! inner {
    ($self:ident, $state:ident, |$trigger:ident, $own:ident| $call:expr) => {{
        let result = match $self.fires {
            Fires::AtEnd => {
                let ($trigger, $own) = (&mut EventTimeTrigger, &mut ());
                $call
            }
            Fires::Count(n) => {
                let ($trigger, $own) = (&mut CountTrigger::of(n), &mut $state.0);
                $call
            }
            Fires::Continuous(every) => {
                let ($trigger, $own) = (&mut ContinuousEventTimeTrigger::of(ms(every)), &mut $state.1);
                $call
            }
            Fires::Delta(threshold) => {
                let ($trigger, $own) = (&mut DeltaTrigger::of(threshold as f64, distance), &mut $state.2);
                $call
            }
        };
        result
    }};
}

impl AnyTrigger {
    fn purged(&self, result: TriggerResult) -> TriggerResult {
        if self.purging && result.is_fire() { TriggerResult::FireAndPurge } else { result }
    }
}

impl Trigger<Rec> for AnyTrigger {
    type State = Remembered;

    fn on_element(
        &mut self,
        record: &Rec,
        at: Timestamp,
        window: &Window,
        state: &mut Remembered,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        let result = inner!(self, state, |trigger, own| trigger.on_element(record, at, window, own, ctx));
        self.purged(result)
    }
    fn on_event_time(
        &mut self,
        time: Timestamp,
        window: &Window,
        state: &mut Remembered,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        let result = inner!(self, state, |trigger, own| Trigger::<Rec>::on_event_time(
            trigger, time, window, own, ctx
        ));
        self.purged(result)
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(
        &mut self,
        window: &Window,
        state: &mut Remembered,
        merged: Remembered,
        ctx: &mut TriggerContext<'_>,
    ) {
        match self.fires {
            Fires::AtEnd => Trigger::<Rec>::on_merge(&mut EventTimeTrigger, window, &mut (), (), ctx),
            Fires::Count(n) => {
                Trigger::<Rec>::on_merge(&mut CountTrigger::of(n), window, &mut state.0, merged.0, ctx);
            }
            Fires::Continuous(every) => {
                let mut trigger = ContinuousEventTimeTrigger::of(ms(every));
                Trigger::<Rec>::on_merge(&mut trigger, window, &mut state.1, merged.1, ctx);
            }
            Fires::Delta(_) => unreachable!("no case has it with windows that merge"),
        }
    }
    fn clear(&mut self, window: &Window, state: &mut Remembered, ctx: &mut TriggerContext<'_>) {
        inner!(self, state, |trigger, own| Trigger::<Rec>::clear(trigger, window, own, ctx));
    }
    fn describe(&self) -> String {
        format!("{:?}", self.fires)
    }
    fn fires_early(&self) -> bool {
        self.fires != Fires::AtEnd
    }
    fn is_event_time(&self) -> bool {
        self.claims && self.fires == Fires::AtEnd && !self.purging
    }
}

/// Any of the evictors.
#[derive(Clone)]
struct AnyEvictor {
    evicts: Evicts,
    after: bool,
}

impl AnyEvictor {
    fn with(&self, f: impl FnOnce(&mut dyn Evicting)) {
        match (self.evicts, self.after) {
            (Evicts::Count(n), false) => f(&mut CountEvictor::of(n)),
            (Evicts::Count(n), true) => f(&mut CountEvictor::of(n).after()),
            (Evicts::Time(keep), false) => f(&mut TimeEvictor::of(ms(keep))),
            (Evicts::Time(keep), true) => f(&mut TimeEvictor::of(ms(keep)).after()),
            (Evicts::Delta(threshold), after) => {
                let evictor = DeltaEvictor::of(threshold as f64, distance);
                if after { f(&mut evictor.after()) } else { f(&mut { evictor }) }
            }
        }
    }
}

/// What of an evictor can be called without knowing its type.
trait Evicting {
    fn before(&mut self, elements: &mut Vec<Timestamped<Rec>>, window: &Window);
    fn after(&mut self, elements: &mut Vec<Timestamped<Rec>>, window: &Window);
}

impl<E: Evictor<Rec>> Evicting for E {
    fn before(&mut self, elements: &mut Vec<Timestamped<Rec>>, window: &Window) {
        self.evict_before(elements, window);
    }
    fn after(&mut self, elements: &mut Vec<Timestamped<Rec>>, window: &Window) {
        self.evict_after(elements, window);
    }
}

impl Evictor<Rec> for AnyEvictor {
    fn evict_before(&mut self, elements: &mut Vec<Timestamped<Rec>>, window: &Window) {
        self.with(|evictor| evictor.before(elements, window));
    }
    fn evict_after(&mut self, elements: &mut Vec<Timestamped<Rec>>, window: &Window) {
        self.with(|evictor| evictor.after(elements, window));
    }
    fn describe(&self) -> String {
        format!("{:?}", self.evicts)
    }
}

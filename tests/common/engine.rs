//! Engine: builds a program with the typed API and runs it.

use super::program::{CENTURY, DISORDER, END, GAP, LOWER, OFFSET, SIZE, SLIDE, UPPER};
use super::program::{Chaining, Edge, Event, Fold, Key, Op, Program, Rec, Step, Windows};
use super::program::{event_time, expanded, joined, kept, mapped, mixed, rekeyed, source_record, stamped};
use super::program::{stretch_end, timed_record, timestamp, without_text};
use mainstem::connectors::sink::FileSink;
use mainstem::operator::process::TimerFired;
use mainstem::prelude::*;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a program is run.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub mode: ExecutionMode,
    pub driver: Driver,
    pub parallelism: usize,
    pub buffer_timeout: BufferTimeout,
    pub chaining: bool,
    pub memory: ByteSize,
    /// Between two periodic watermarks.
    pub watermarks: Duration,
}

impl Config {
    pub fn environment(&self) -> Environment {
        Environment::new()
            .execution_mode(self.mode)
            .driver(self.driver)
            .parallelism(self.parallelism)
            .buffer_timeout(self.buffer_timeout)
            .chaining(self.chaining)
            .memory(self.memory)
            .auto_watermark_interval(self.watermarks)
    }
}

/// The records that reach the sink, in the order in which they do.
pub type Output = Arc<Mutex<Vec<Rec>>>;

/// Runs the program.
pub fn run(program: &Program, config: &Config) -> mainstem::Result<(Vec<Rec>, JobResult)> {
    let env = config.environment();
    let output = build(program, &env);
    let result = env.execute("program")?;
    let records = std::mem::take(&mut *output.lock().unwrap());
    Ok((records, result))
}

/// Adds the program to the environment's plan.
pub fn build(program: &Program, env: &Environment) -> Output {
    let output = Output::default();
    let into = output.clone();
    let stream = build_stream(program, env);
    let sink = stream.sink_to(FnSink::new(move |record: Rec| into.lock().unwrap().push(record)));
    placed(sink, &program.sink);
    output
}

/// Adds the program to the environment's plan, with lines of JSON into this directory for an output.
pub fn build_into_files(program: &Program, env: &Environment, dir: &std::path::Path) {
    let lines = FileSink::text_with(dir, |record: &Rec, line| {
        write!(line, "{}", serde_json::to_string(record).map_err(|_| std::fmt::Error)?)
    });
    placed(build_stream(program, env).sink_to(lines), &program.sink);
}

/// Everything before the sink.
fn build_stream(program: &Program, env: &Environment) -> DataStream<Rec> {
    let mut streams: Vec<DataStream<Rec>> = Vec::new();
    for node in &program.nodes {
        let stream = match (node.op, &node.inputs[..]) {
            (Op::Event(event), &[left, right]) if event.is_join() => {
                join(&streams[left], &streams[right], event, &node.step)
            }
            (op, []) => source(env, op, &node.step),
            (_, [first, others @ ..]) => {
                let others: Vec<&DataStream<Rec>> = others.iter().map(|&i| &streams[i]).collect();
                let united = streams[*first].union(&others);
                operator(&partitioned(&united, node.step.edge), node.op, &node.step)
            }
        };
        streams.push(stream);
    }
    partitioned(&streams[streams.len() - 1], program.sink.edge)
}

fn source(env: &Environment, op: Op, step: &Step) -> DataStream<Rec> {
    let stream = match op {
        Op::FromIter { count, fat } => {
            env.from_iter((0..count).map(move |i| source_record(i, fat)).collect::<Vec<_>>())
        }
        Op::Generate { count, fat, timestamps: false } => env.generate(count, move |i| source_record(i, fat)),
        Op::Generate { count, fat, timestamps: true } => {
            env.read(Generate::new(count, move |i| source_record(i, fat)).timestamps(timestamp))
        }
        Op::Timed { count, punctuated } => {
            let strategy = match punctuated {
                true => WatermarkStrategy::generator(|| EachEighth { highest: i64::MIN, seen: 0 }),
                false => WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(DISORDER as u64)),
            };
            // As the source, which it moves into.
            let same = Step { parallelism: step.parallelism, ..Step::default() };
            let stream = placed(env.generate(count, timed_record), step);
            return placed(stream.assign_timestamps(strategy.timestamp(event_time)), &same);
        }
        other => unreachable!("{other:?} has no input"),
    };
    placed(stream, step)
}

/// A watermark behind every eighth record.
struct EachEighth {
    highest: i64,
    seen: u64,
}

impl WatermarkGenerator<Rec> for EachEighth {
    fn on_event(&mut self, _: &Rec, timestamp: Timestamp, output: &mut WatermarkOutput) {
        self.highest = self.highest.max(timestamp);
        self.seen += 1;
        if self.seen.is_multiple_of(8) {
            output.emit(self.highest - DISORDER - 1);
        }
    }
    fn on_periodic_emit(&mut self, _: &mut WatermarkOutput) {}
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

fn join(left: &DataStream<Rec>, right: &DataStream<Rec>, event: Event, step: &Step) -> DataStream<Rec> {
    if event == Event::Broadcast {
        let connected = left.key_by(|r| r.key).connect_broadcast(right);
        let told = connected.process(|states| CountAndTotal {
            count: states.value("count"),
            totals: states.broadcast("totals"),
        });
        return placed(told, step);
    }
    let (left, right) = (left.key_by(|r| r.key), right.key_by(|r| r.key));
    let stream = match event {
        Event::WindowJoin => left.join(&right).window(Tumbling::of(ms(SIZE)).offset_ms(OFFSET)).apply(joined),
        _ => left.interval_join(&right).between(LOWER, UPPER).apply(joined),
    };
    placed(stream, step)
}

fn event(stream: &DataStream<Rec>, event: Event, step: &Step) -> DataStream<Rec> {
    let same = Step { parallelism: step.parallelism, ..Step::default() };
    let keyed = stream.key_by(|r| r.key);
    let (tumbling, sliding) = (Tumbling::of(ms(SIZE)).offset_ms(OFFSET), Sliding::of(ms(SIZE), ms(SLIDE)));
    let sessions = Sessions::with_gap(ms(GAP));
    match event {
        Event::Folded(windows) => {
            let folded = match windows {
                Windows::Tumbling => keyed.window(tumbling).aggregate(Spread),
                Windows::Sliding => keyed.window(sliding).aggregate(Spread),
                Windows::Session => keyed.window(sessions).aggregate(Spread),
            };
            let value = |result: &Windowed<u8, i64>| mixed(result.value, result.window.end);
            placed(placed(folded, step).map(move |w| Rec::new(w.key, value(&w), "")), &same)
        }
        Event::ByClock => {
            let century = keyed.window(Tumbling::of(ms(CENTURY)).processing_time());
            let value = |result: &Windowed<u8, i64>| mixed(result.value, result.window.end);
            let spread = placed(century.aggregate(Spread), step);
            placed(spread.map(move |w| Rec::new(w.key, value(&w), "")), &same)
        }
        Event::Listed(windows) => {
            let listed = match windows {
                Windows::Tumbling => keyed.window(tumbling).process(|_| Listed),
                Windows::Sliding => keyed.window(sliding).apply(listed),
                Windows::Session => keyed.window(sessions).process(|_| Listed),
            };
            placed(listed, step)
        }
        Event::CountAtEnd => {
            placed(keyed.process(|states| CountAtEnd { count: states.value("count") }), step)
        }
        _ => placed(keyed.process(|states| CountOften { counts: states.map("counts") }), step),
    }
}

/// Each record with how many there are in the window.
fn listed(key: &u8, window: Window, records: &[Rec], out: &mut Collector<'_, Rec>) {
    let n = mixed(records.len() as i64, window.start);
    out.extend(records.iter().map(|r| Rec::new(*key, mixed(r.body.value, n), r.body.text.as_str())));
}

struct Listed;

impl ProcessWindowFunction<u8, Rec, Rec> for Listed {
    fn process(
        &mut self,
        key: &u8,
        ctx: &mut WindowContext,
        records: &[Rec],
        out: &mut Collector<'_, Rec>,
    ) -> UserResult {
        listed(key, ctx.window(), records, out);
        Ok(())
    }
}

/// Counts the records of a key and tells at the end.
struct CountAtEnd {
    count: ValueState<i64>,
}

impl KeyedProcessFunction<u8, Rec, Rec> for CountAtEnd {
    fn process(&mut self, _: Rec, ctx: &mut KeyedContext<u8>, _: &mut Collector<'_, Rec>) -> UserResult {
        self.count.update(ctx, |count| *count += 1);
        ctx.register_event_time_timer(END);
        Ok(())
    }
    fn on_timer(
        &mut self,
        _: TimerFired,
        ctx: &mut KeyedContext<u8>,
        out: &mut Collector<'_, Rec>,
    ) -> UserResult {
        let count = self.count.take(ctx).unwrap_or(0);
        out.emit(Rec::new(*ctx.key(), count, ""));
        Ok(())
    }
}

/// Counts the records of a key, adds up those of the broadcast, and tells at the end.
struct CountAndTotal {
    count: ValueState<i64>,
    /// By value, how often it came.
    totals: BroadcastState<i64, i64>,
}

impl KeyedBroadcastProcessFunction<u8, Rec, Rec, Rec> for CountAndTotal {
    fn process(&mut self, _: Rec, ctx: &mut KeyedContext<u8>, _: &mut Collector<'_, Rec>) -> UserResult {
        self.count.update(ctx, |count| *count += 1);
        ctx.register_event_time_timer(END);
        Ok(())
    }
    fn process_broadcast(
        &mut self,
        record: Rec,
        ctx: &mut KeyedBroadcastContext<'_, u8>,
        _: &mut Collector<'_, Rec>,
    ) -> UserResult {
        let count = self.totals.get(ctx, &record.body.value).copied().unwrap_or(0);
        self.totals.insert(ctx, record.body.value, count + 1);
        Ok(())
    }
    fn on_timer(
        &mut self,
        _: TimerFired,
        ctx: &mut KeyedContext<u8>,
        out: &mut Collector<'_, Rec>,
    ) -> UserResult {
        let total = self.totals.iter(ctx).map(|(value, count)| value * count).sum();
        let count = self.count.take(ctx).unwrap_or(0);
        out.emit(Rec::new(*ctx.key(), mixed(count, total), ""));
        Ok(())
    }
}

/// Counts the records of a key in each stretch of time and tells behind it.
struct CountOften {
    counts: MapState<i64, i64>,
}

impl KeyedProcessFunction<u8, Rec, Rec> for CountOften {
    fn process(&mut self, _: Rec, ctx: &mut KeyedContext<u8>, _: &mut Collector<'_, Rec>) -> UserResult {
        let end = stretch_end(ctx.timestamp().unwrap());
        let count = self.counts.get(ctx, &end).copied().unwrap_or(0);
        self.counts.insert(ctx, end, count + 1);
        ctx.register_event_time_timer(end);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        ctx: &mut KeyedContext<u8>,
        out: &mut Collector<'_, Rec>,
    ) -> UserResult {
        let count = self.counts.remove(ctx, &timer.time).unwrap_or(0);
        out.emit(Rec::new(*ctx.key(), mixed(count, timer.time), ""));
        Ok(())
    }
}

fn partitioned(stream: &DataStream<Rec>, edge: Edge) -> DataStream<Rec> {
    match edge {
        Edge::Auto => stream.clone(),
        Edge::Forward => stream.forward(),
        Edge::Rebalance => stream.rebalance(),
        Edge::Rescale => stream.rescale(),
        Edge::Shuffle => stream.shuffle(),
        Edge::Broadcast => stream.broadcast(),
        Edge::Global => stream.global(),
        Edge::Custom => stream.partition_custom(|record, consumers| record.key as usize % consumers),
    }
}

fn placed<T: Data>(mut stream: DataStream<T>, step: &Step) -> DataStream<T> {
    if let Some(parallelism) = step.parallelism {
        stream = stream.parallelism(parallelism);
    }
    stream = match step.chaining {
        Chaining::Default => stream,
        Chaining::StartNew => stream.start_new_chain(),
        Chaining::Disabled => stream.disable_chaining(),
    };
    if let Some(group) = step.slot_group {
        stream = stream.slot_group(group);
    }
    if step.blocking { stream.blocking() } else { stream }
}

fn operator(stream: &DataStream<Rec>, op: Op, step: &Step) -> DataStream<Rec> {
    let stream = match op {
        Op::Map(n) => stream.map(move |record| mapped(record, n)),
        Op::TryMap(n) => stream.try_map(move |record| Ok::<_, Infallible>(mapped(record, n))),
        Op::Rekey(n) => stream.map(move |record| rekeyed(record, n)),
        Op::Filter(n) => stream.filter(move |record| kept(record, n)),
        Op::TryFilter(n) => stream.try_filter(move |record| Ok::<_, Infallible>(kept(record, n))),
        Op::FlatMap(n) => stream.flat_map(move |record, out| out.extend(expanded(&record, n))),
        Op::TryFlatMap(n) => stream.try_flat_map(move |record, out| {
            out.extend(expanded(&record, n));
            Ok::<_, Infallible>(())
        }),
        Op::Process => stream.process(Stamp),
        Op::Keyed(Key::Number, fold) => return keyed(stream, |r| r.key, |key| *key, fold, step),
        Op::Keyed(Key::Text, fold) => {
            return keyed(stream, |r| format!("key {}", r.key), |key| key[4..].parse().unwrap(), fold, step);
        }
        Op::Keyed(Key::Pair, fold) => {
            return keyed(stream, |r| (r.key, -i64::from(r.key)), |key| key.0, fold, step);
        }
        Op::Event(what) => return event(stream, what, step),
        other => unreachable!("{other:?} has no input"),
    };
    placed(stream, step)
}

fn keyed<K: mainstem::Key>(
    stream: &DataStream<Rec>,
    key: fn(&Rec) -> K,
    number: fn(&K) -> u8,
    fold: Fold,
    step: &Step,
) -> DataStream<Rec> {
    // A map behind the operator keeps its order only at the same parallelism.
    let same = Step { parallelism: step.parallelism, ..Step::default() };
    let plain = || stream.map(without_text).key_by(key);
    let whole = || stream.key_by(key);
    let folded = match fold {
        Fold::Reduce => plain().reduce(|sum, record| sum.body.value += record.body.value),
        Fold::ReduceInOrder => whole().reduce(|all, record| all.body.text.push_str(&record.body.text)),
        Fold::Sum => plain().sum(|record| &mut record.body.value),
        Fold::Min => plain().min(|record| &mut record.body.value),
        Fold::Max => plain().max(|record| &mut record.body.value),
        Fold::MinBy => whole().min_by(|record| &mut record.body),
        Fold::MaxBy => whole().max_by(|record| &mut record.body),
        Fold::Aggregate => {
            let spread = placed(whole().aggregate(Spread), step);
            return placed(spread.map(move |(key, value)| Rec::new(number(&key), value, "")), &same);
        }
        Fold::Count => {
            let counts = placed(whole().count(), step);
            return placed(counts.map(move |(key, count)| Rec::new(number(&key), count as i64, "")), &same);
        }
        Fold::Process => whole().process(|states| Numbered { count: states.value("count") }),
        Fold::ProcessInOrder => whole().process(|states| Running { total: states.value("total") }),
        Fold::MapWithState => whole().map_with_state(|record, count: Option<i64>| {
            let count = count.unwrap_or(0);
            (Rec::new(record.key, count, ""), (count < 2).then_some(count + 1))
        }),
    };
    placed(folded, step)
}

/// Writes the timestamp of a record into it.
#[derive(Clone)]
struct Stamp;

impl ProcessFunction<Rec, Rec> for Stamp {
    fn process(&mut self, record: Rec, ctx: &ProcessContext<'_>, out: &mut Collector<'_, Rec>) -> UserResult {
        out.emit(stamped(record, ctx.timestamp()));
        Ok(())
    }
}

/// Sum, maximum and number of the values, in one number.
#[derive(Clone)]
struct Spread;

impl Aggregator<Rec> for Spread {
    type Acc = (i64, i64, i64);
    type Out = i64;
    fn create(&self) -> Self::Acc {
        (0, i64::MIN, 0)
    }
    fn add(&self, acc: &mut Self::Acc, record: Rec) {
        self.merge(acc, (record.body.value, record.body.value, 1));
    }
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        *acc = (acc.0 + other.0, acc.1.max(other.1), acc.2 + other.2);
    }
    fn result(&self, acc: &Self::Acc) -> i64 {
        acc.0 + 7 * acc.1 + 13 * acc.2
    }
}

/// Numbers the records of a key from 1.
struct Numbered {
    count: ValueState<i64>,
}

impl<K: mainstem::Key> KeyedProcessFunction<K, Rec, Rec> for Numbered {
    fn process(
        &mut self,
        record: Rec,
        ctx: &mut KeyedContext<K>,
        out: &mut Collector<'_, Rec>,
    ) -> UserResult {
        let count = self.count.update(ctx, |count| {
            *count += 1;
            *count
        });
        out.emit(Rec::new(record.key, count, ""));
        Ok(())
    }
}

/// Emits the running total of a key with the text of each record.
struct Running {
    total: ValueState<i64>,
}

impl<K: mainstem::Key> KeyedProcessFunction<K, Rec, Rec> for Running {
    fn process(
        &mut self,
        record: Rec,
        ctx: &mut KeyedContext<K>,
        out: &mut Collector<'_, Rec>,
    ) -> UserResult {
        let total = self.total.get(ctx).copied().unwrap_or(0) + record.body.value;
        self.total.set(ctx, total);
        out.emit(Rec::new(record.key, total, record.body.text));
        Ok(())
    }
}

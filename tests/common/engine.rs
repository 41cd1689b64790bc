//! Engine: builds a program with the typed API and runs it.

use super::program::{Chaining, Edge, Fold, Key, Op, Program, Rec, Step};
use super::program::{expanded, kept, mapped, rekeyed, source_record, stamped, timestamp, without_text};
use mainstem::prelude::*;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

/// How a program is run.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub mode: ExecutionMode,
    pub driver: Driver,
    pub parallelism: usize,
    pub buffer_timeout: BufferTimeout,
    pub chaining: bool,
    pub memory: ByteSize,
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
    let mut streams: Vec<DataStream<Rec>> = Vec::new();
    for node in &program.nodes {
        let stream = match node.inputs[..] {
            [] => source(env, node.op, &node.step),
            [first, ref others @ ..] => {
                let others: Vec<&DataStream<Rec>> = others.iter().map(|&i| &streams[i]).collect();
                let united = streams[first].union(&others);
                operator(&partitioned(&united, node.step.edge), node.op, &node.step)
            }
        };
        streams.push(stream);
    }
    let output = Output::default();
    let into = output.clone();
    let last = &streams[streams.len() - 1];
    let sink = partitioned(last, program.sink.edge).sink_to(FnSink::new(move |record: Rec| into.lock().unwrap().push(record)));
    placed(sink, &program.sink);
    output
}

fn source(env: &Environment, op: Op, step: &Step) -> DataStream<Rec> {
    let stream = match op {
        Op::FromIter { count, fat } => env.from_iter((0..count).map(move |i| source_record(i, fat)).collect::<Vec<_>>()),
        Op::Generate { count, fat, timestamps: false } => env.generate(count, move |i| source_record(i, fat)),
        Op::Generate { count, fat, timestamps: true } => {
            env.read(Generate::new(count, move |i| source_record(i, fat)).timestamps(timestamp))
        }
        other => unreachable!("{other:?} has no input"),
    };
    placed(stream, step)
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
        Op::Keyed(Key::Pair, fold) => return keyed(stream, |r| (r.key, -i64::from(r.key)), |key| key.0, fold, step),
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
    fn process(&mut self, record: Rec, ctx: &mut KeyedContext<K>, out: &mut Collector<'_, Rec>) -> UserResult {
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
    fn process(&mut self, record: Rec, ctx: &mut KeyedContext<K>, out: &mut Collector<'_, Rec>) -> UserResult {
        let total = self.total.get(ctx).copied().unwrap_or(0) + record.body.value;
        self.total.set(ctx, total);
        out.emit(Rec::new(record.key, total, record.body.text));
        Ok(())
    }
}

//! Operators with several keyed inputs in BATCH: random plans below the API, against a sorted model.

#[path = "common/random.rs"]
#[allow(dead_code, reason = "each test uses its share of it")]
mod random;

use mainstem::base::batch::{Batch, ErasedBatch, typed};
use mainstem::base::clock::VirtualClock;
use mainstem::base::config::Settings;
use mainstem::base::data::{WATERMARK_MAX, WATERMARK_MIN};
use mainstem::base::hash::hash_of;
use mainstem::base::vfs::OsVfs;
use mainstem::connectors::sink::DiscardSink;
use mainstem::connectors::source::Generate;
use mainstem::executors::job::{Cancellation, JobEnvironment};
use mainstem::executors::staged;
use mainstem::operator::context::JobContext;
use mainstem::operator::erased::AnyOperator;
use mainstem::operator::exchange::{ExchangeType, FnKey, Keyed, Partitioning, Unkeyed};
use mainstem::operator::output::AnyOut;
use mainstem::operator::sink::TypedSink;
use mainstem::operator::source::SplitAssignment;
use mainstem::operator::{Context, Out, Progress};
use mainstem::plan::{LogicalEdge, LogicalPlan, Node, NodeId, Operation, PhysicalPlan, PlanOptions};
use mainstem::prelude::*;
use random::Random;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Records of even inputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Left {
    key: String,
    id: u64,
    padding: Vec<u8>,
}

/// Records of odd inputs: another type with the same type of key.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Right(u64, String);

/// What an operator saw of a record; the id is unique in the job.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    key: String,
    input: usize,
    timestamp: Option<i64>,
    id: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Record(Seen),
    EndOfKey,
    Watermark,
    EndOfInput(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Keyed,
    Broadcast,
    Rebalance,
}

/// One source of an input.
#[derive(Clone, Debug)]
struct From {
    records: u64,
    parallelism: usize,
    keys: (usize, usize),
}

#[derive(Clone, Debug)]
struct Input {
    kind: Kind,
    timestamps: bool,
    from: Vec<From>,
}

#[derive(Debug)]
struct Case {
    seed: u64,
    inputs: Vec<Input>,
    parallelism: usize,
    memory: u64,
    value_bytes: usize,
    simulated: bool,
}

/// Every attribute of a record follows from its id, which holds input, source and index.
fn seen(case: &Case, input: usize, from: usize, index: u64) -> Seen {
    let id = (input as u64) << 40 | (from as u64) << 32 | index;
    let mut random = Random::new(case.seed << 44 ^ id);
    let (first, count) = case.inputs[input].from[from].keys;
    let key = format!("key {}", first + random.below(count));
    let timestamp = match random.below(12) {
        0 => i64::MIN,
        1 => i64::MAX,
        _ => random.below(9) as i64 - 4,
    };
    Seen { key, input, timestamp: case.inputs[input].timestamps.then_some(timestamp), id }
}

/// Writes down what it sees and emits each record twice, so that it has to yield.
struct Recorder {
    out: Out<u64>,
    events: Vec<Event>,
    left_of_watermark: usize,
    all: Arc<Mutex<Vec<Vec<Event>>>>,
}

impl Recorder {
    fn take<T: Clone + Send + 'static>(
        &mut self,
        input: usize,
        batch: &mut Batch<T>,
        parts: impl Fn(T) -> (String, u64),
    ) -> Progress {
        batch.reverse();
        while !self.out.is_full() {
            let Some((value, timestamp)) = batch.pop() else { break };
            let (key, id) = parts(value);
            self.events.push(Event::Record(Seen { key, input, timestamp, id }));
            self.out.push(id, None);
            self.out.push(id, None);
        }
        batch.reverse();
        if batch.is_empty() { Progress::Done } else { Progress::Yielded }
    }
}

impl AnyOperator for Recorder {
    fn process(
        &mut self,
        input: usize,
        batch: &mut ErasedBatch,
        ctx: &mut Context,
    ) -> mainstem::Result<Progress> {
        assert_eq!(ctx.watermark, WATERMARK_MIN);
        assert!(!batch.is_empty());
        Ok(match input % 2 {
            0 => self.take(input, typed::<Left>(&mut **batch), |left| (left.key, left.id)),
            _ => self.take(input, typed::<Right>(&mut **batch), |right| (right.1, right.0)),
        })
    }
    fn watermark(&mut self, watermark: Timestamp, _ctx: &mut Context) -> mainstem::Result<Progress> {
        assert_eq!(watermark, WATERMARK_MAX);
        self.events.push(Event::Watermark);
        Ok(Progress::Done)
    }
    fn end_of_key(&mut self, ctx: &mut Context) -> mainstem::Result<Progress> {
        assert_eq!(ctx.watermark, WATERMARK_MAX);
        if self.left_of_watermark == 0 {
            // The same call comes again.
            (self.left_of_watermark, ctx.watermark) = (1, WATERMARK_MIN);
            return Ok(Progress::Yielded);
        }
        self.left_of_watermark = 0;
        self.events.push(Event::EndOfKey);
        Ok(Progress::Done)
    }
    fn end_of_input(&mut self, input: usize, _ctx: &mut Context) -> mainstem::Result<Progress> {
        self.events.push(Event::EndOfInput(input));
        Ok(Progress::Done)
    }
    fn close(&mut self) -> mainstem::Result<()> {
        self.all.lock().unwrap().push(std::mem::take(&mut self.events));
        Ok(())
    }
    fn out(&mut self) -> &mut dyn AnyOut {
        &mut self.out
    }
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

fn exchange<T: Data>(kind: Kind, key: fn(&T) -> String) -> Arc<dyn ExchangeType> {
    match kind {
        Kind::Keyed => Arc::new(Keyed::new(Arc::new(FnKey(key)))),
        Kind::Broadcast => Arc::new(Unkeyed::<T>::new(Partitioning::Broadcast)),
        Kind::Rebalance => Arc::new(Unkeyed::<T>::new(Partitioning::Rebalance)),
    }
}

/// Adds a source and gives the edge out of it.
fn add_source<T: Data>(
    plan: &mut LogicalPlan,
    case: &Arc<Case>,
    (input, from): (usize, usize),
    make: impl Fn(Seen) -> T + Clone + Send + Sync + 'static,
    key: fn(&T) -> String,
    id: fn(&T) -> u64,
) -> LogicalEdge {
    let (of, by) = (case.clone(), case.clone());
    let mut source = Generate::new(case.inputs[input].from[from].records, move |index| {
        make(seen(&of, input, from, index))
    });
    if case.inputs[input].timestamps {
        source = source
            .timestamps(move |record| seen(&by, input, from, id(record) & 0xffff_ffff).timestamp.unwrap());
    }
    let mut node = Node::new(format!("source {input} {from}"), Operation::Source(Arc::new(source)), vec![]);
    node.parallelism = Some(case.inputs[input].from[from].parallelism);
    LogicalEdge::new(plan.add(node), exchange(case.inputs[input].kind, key))
}

fn plan_of(case: &Arc<Case>, all: &Arc<Mutex<Vec<Vec<Event>>>>) -> LogicalPlan {
    let mut plan = LogicalPlan::default();
    let mut inputs = Vec::new();
    for (input, of) in case.inputs.iter().enumerate() {
        let mut edges = Vec::new();
        for from in 0..of.from.len() {
            let bytes = case.value_bytes;
            let place = (input, from);
            edges.push(match input % 2 {
                0 => {
                    let make =
                        move |s: Seen| Left { padding: vec![7; s.id as usize % bytes], key: s.key, id: s.id };
                    add_source(&mut plan, case, place, make, |left| left.key.clone(), |left| left.id)
                }
                _ => add_source(&mut plan, case, place, |s| Right(s.id, s.key), |r| r.1.clone(), |r| r.0),
            });
        }
        inputs.push(edges);
    }
    let all = all.clone();
    let factory = move || -> Box<dyn AnyOperator> {
        let (out, all) = (Out::new(), all.clone());
        Box::new(Recorder { out, events: Vec::new(), left_of_watermark: 0, all })
    };
    let operator = plan.add(Node::new("record", Operation::Operator(Arc::new(factory)), inputs));
    add_sink(&mut plan, operator);
    plan
}

fn add_sink(plan: &mut LogicalPlan, from: NodeId) {
    let exchange: Arc<dyn ExchangeType> = Arc::new(Unkeyed::<u64>::new(Partitioning::Auto));
    let sink = Operation::Sink(Arc::new(TypedSink::<u64, _>::new(DiscardSink)));
    plan.add(Node::new("discard", sink, vec![vec![LogicalEdge::new(from, exchange)]]));
}

/// What each instance of the operator saw, and how often producers spilled.
fn run(case: &Arc<Case>) -> mainstem::Result<(Vec<Vec<Event>>, u64)> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let options = PlanOptions {
        mode: ExecutionMode::Batch,
        parallelism: case.parallelism,
        max_parallelism: None,
        chaining: true,
    };
    let plan = Arc::new(PhysicalPlan::new(&plan_of(case, &all), &options)?);
    let context = JobContext {
        name: "joint".into(),
        id: "joint".into(),
        parameters: Parameters::new(),
        auto_watermark_interval: std::time::Duration::from_millis(200),
    };
    let clock = VirtualClock::new();
    let job = JobEnvironment::start(
        &plan,
        context,
        clock.clone(),
        OsVfs::shared(),
        SplitAssignment::Fixed,
        Cancellation::default(),
    )?;
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        memory: ByteSize(case.memory),
        temp_dir: dir.path().to_path_buf(),
        parallelism: case.parallelism,
        ..Settings::default()
    };
    let simulated = case.simulated.then_some((clock, case.seed));
    let outcome = staged::run(&plan, &job, &settings, simulated, None, &mut |_| {});
    let spills = outcome.as_ref().map_or(0, |o| o.stages.iter().map(|stage| stage.spills).sum());
    job.finish(&plan, outcome.map(|_| ()))?;
    let events = std::mem::take(&mut *all.lock().unwrap());
    Ok((events, spills))
}

/// The keyed records of each key in the order that A9 and M5 ask for; then all others, in order, by input.
fn model(case: &Case) -> (BTreeMap<String, Vec<Seen>>, Vec<Vec<Seen>>) {
    let (mut keyed, mut others) = (Vec::new(), vec![Vec::new(); case.inputs.len()]);
    for (input, of) in case.inputs.iter().enumerate() {
        for (from, source) in of.from.iter().enumerate() {
            // A subtask of a source makes each n-th record; producers come one after the other.
            for subtask in 0..source.parallelism as u64 {
                for index in (subtask..source.records).step_by(source.parallelism) {
                    let seen = seen(case, input, from, index);
                    if of.kind == Kind::Keyed { &mut keyed } else { &mut others[input] }.push(seen);
                }
            }
        }
    }
    keyed.sort_by_key(|seen: &Seen| (seen.timestamp.unwrap_or(i64::MIN), seen.input));
    let mut by_key: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for seen in keyed {
        by_key.entry(seen.key.clone()).or_default().push(seen);
    }
    (by_key, others)
}

fn check(case: Case) -> u64 {
    let case = Arc::new(case);
    let (instances, spills) = run(&case).unwrap_or_else(|e| panic!("{e}: {case:#?}"));
    let (mut expected, others) = model(&case);
    let of_kind = |input: usize| case.inputs[input].kind;
    let mut rebalanced = vec![Vec::new(); case.inputs.len()];
    for events in &instances {
        let inputs = 0..case.inputs.len();
        // What is left is eaten from the front.
        let mut rest = &events[..];
        for kind in [Kind::Broadcast, Kind::Rebalance] {
            for input in inputs.clone().filter(|&input| of_kind(input) == kind) {
                let mut found = Vec::new();
                while let [Event::Record(seen), more @ ..] = rest
                    && seen.input == input
                {
                    found.push(seen.clone());
                    rest = more;
                }
                if kind == Kind::Broadcast {
                    assert_eq!(found, others[input], "M8: every unit reads a broadcast first: {case:#?}");
                }
                rebalanced[input].extend(found);
                let [Event::EndOfInput(ended), more @ ..] = rest else { panic!("{rest:?}: {case:#?}") };
                assert_eq!(*ended, input);
                rest = more;
            }
        }
        let mut last_hash = 0;
        while let [Event::Record(first), ..] = rest {
            let wanted = expected.remove(&first.key);
            let wanted =
                wanted.unwrap_or_else(|| panic!("M5: key '{}' comes a second time: {case:#?}", first.key));
            let end = rest.iter().position(|event| *event == Event::EndOfKey).unwrap();
            let found: Vec<Event> = wanted.into_iter().map(Event::Record).collect();
            assert!(rest[..end] == found, "A9: found {:?}\nwanted {found:?}\n{case:#?}", &rest[..end]);
            assert!(hash_of(&first.key) >= last_hash);
            last_hash = hash_of(&first.key);
            rest = &rest[end + 1..];
        }
        let mut ends: Vec<Event> =
            inputs.filter(|&i| of_kind(i) == Kind::Keyed).map(Event::EndOfInput).collect();
        ends.insert(ends.len() - 1, Event::Watermark);
        assert_eq!(rest, ends, "{case:#?}");
    }
    assert!(expected.is_empty(), "{} keys are missing: {case:#?}", expected.len());
    for input in (0..case.inputs.len()).filter(|&input| of_kind(input) == Kind::Rebalance) {
        let by_id = |seen: &Seen| seen.id;
        let mut wanted = others[input].clone();
        rebalanced[input].sort_by_key(by_id);
        wanted.sort_by_key(by_id);
        assert_eq!(rebalanced[input], wanted, "{case:#?}");
    }
    spills
}

fn random_case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let mut kinds = vec![Kind::Keyed, Kind::Keyed];
    for (kind, one_in) in [(Kind::Keyed, 4), (Kind::Broadcast, 3), (Kind::Rebalance, 3)] {
        if random.one_in(one_in) {
            kinds.insert(random.below(kinds.len() + 1), kind);
        }
    }
    let most = random.pick(&[20, 400, 3000]);
    let inputs = kinds.into_iter().map(|kind| {
        let sources = 1 + random.one_in(3) as usize;
        let from = (0..sources).map(|_| From {
            records: if random.one_in(8) { 0 } else { random.below(most) as u64 },
            parallelism: 1 + random.below(3),
            // Some keys are in one input only.
            keys: (random.below(40), random.pick(&[1, 10, 100, 1000])),
        });
        let from: Vec<From> = from.collect();
        Input { kind, timestamps: !random.one_in(3), from }
    });
    let inputs = inputs.collect();
    Case {
        seed,
        inputs,
        parallelism: 1 + random.below(3),
        memory: random.pick(&[16 << 10, 128 << 10, 16 << 20]),
        value_bytes: random.pick(&[1, 20, 200]),
        simulated: random.one_in(2),
    }
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A9, M5, M8: broadcast inputs, then regular ones, then all keyed ones as one, key by key.
#[test]
fn inputs_come_in_the_order_of_the_model() {
    let first = variable("MAINSTEM_TEST_SEED", 1);
    let mut spilled = 0;
    for seed in first..first + variable("MAINSTEM_TEST_CASES", 150) {
        println!("MAINSTEM_TEST_SEED={seed} MAINSTEM_TEST_CASES=1");
        spilled += (check(random_case(seed)) > 0) as u64;
    }
    println!("{spilled} cases spilled");
}

fn two(left: (u64, (usize, usize), bool), right: (u64, (usize, usize), bool)) -> Vec<Input> {
    let input = |(records, keys, timestamps)| Input {
        kind: Kind::Keyed,
        timestamps,
        from: vec![From { records, parallelism: 2, keys }],
    };
    vec![input(left), input(right)]
}

fn fixed(inputs: Vec<Input>, parallelism: usize) -> Case {
    Case { seed: 5, inputs, parallelism, memory: 1 << 20, value_bytes: 10, simulated: false }
}

/// M5: an input may be empty, all may be, and a key may be in one of them only.
#[test]
fn empty_inputs_and_keys_of_one_input_are_nothing_special() {
    for parallelism in 1..=3 {
        for timestamps in [false, true] {
            let (none, some) = ((0, (0, 1), timestamps), (900, (0, 50), timestamps));
            let (other, one) = ((700, (50, 50), timestamps), (3000, (7, 1), timestamps));
            for (left, right) in [
                (none, none),
                (none, some),
                (some, none),
                (some, other),
                (one, some),
                (one, one),
                (one, none),
            ] {
                check(fixed(two(left, right), parallelism));
            }
        }
    }
}

/// A9: records without timestamps come before those of the other input that have them, and stay without.
#[test]
fn one_input_with_timestamps_and_one_without() {
    for parallelism in 1..=3 {
        for memory in [8 << 10, 1 << 20] {
            for timed in [0, 1] {
                let inputs = two((2500, (0, 9), timed == 0), (2500, (3, 9), timed == 1));
                check(Case { memory, ..fixed(inputs, parallelism) });
            }
        }
    }
}

/// M5: far less memory than data, so that producers spill and consumers merge in several passes.
#[test]
fn tiny_memory_changes_nothing() {
    for parallelism in 1..=3 {
        for timed in [false, true] {
            let mut inputs = two((12_000, (0, 400), true), (9000, (200, 400), timed));
            inputs[0].from.push(From { records: 5000, parallelism: 3, keys: (0, 10) });
            let case = Case { memory: 12 << 10, value_bytes: 30, ..fixed(inputs, parallelism) };
            assert!(check(case) > 100);
        }
    }
}

//! Semantics of operators, state and results, one small test for each rule, named by its id.

use mainstem::base::clock::VirtualClock;
use mainstem::base::vfs::OsVfs;
use mainstem::connectors::source::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use mainstem::executors::job::{Cancellation, JobEnvironment};
use mainstem::executors::pipelined::wire;
use mainstem::operator::context::JobContext;
use mainstem::operator::source::SplitAssignment;
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MODES: [ExecutionMode; 2] = [ExecutionMode::Streaming, ExecutionMode::Batch];

fn env(mode: ExecutionMode, parallelism: usize) -> Environment {
    Environment::new().execution_mode(mode).parallelism(parallelism)
}

fn sorted<T: Data + Ord>(stream: &DataStream<T>) -> Vec<T> {
    let mut records = stream.execute_and_collect("sorted").unwrap().into_vec().unwrap();
    records.sort();
    records
}

/// A1, A18: one program, whatever the environment, with closures or with functions.
#[test]
fn a1_a18_the_same_program_everywhere() {
    fn twice(n: u64) -> u64 {
        2 * n
    }
    let expected: Vec<u64> = (0..100).map(twice).collect();
    for mode in MODES {
        for driver in [Driver::Threads, Driver::Simulation { seed: 1 }] {
            let numbers = || env(mode, 3).driver(driver).generate(100, |i| i);
            assert_eq!(sorted(&numbers().map(twice)), expected, "{mode}");
            assert_eq!(sorted(&numbers().map(|n| 2 * n)), expected, "{mode}");
        }
    }
}

/// A2: nothing happens before `execute`; `execute_async` returns before the end, `result` waits for it, `cancel` works.
#[test]
fn a2_lazy_and_asynchronous() {
    let seen = Arc::new(AtomicU64::new(0));
    let into = seen.clone();
    let env = Environment::new().parallelism(2);
    let endless = env.read(Generate::unbounded(|i| i)).map(move |n| {
        into.fetch_add(1, Ordering::SeqCst);
        n
    });
    endless.sink_to(DiscardSink);
    env.explain().unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 0, "before execute");
    let client = env.execute_async("endless").unwrap();
    assert!(!client.id().is_empty());
    assert_eq!(client.status(), JobStatus::Running);
    client.cancel();
    assert!(matches!(client.result(), Err(mainstem::Error::Cancelled)));
    let env = Environment::new();
    env.from_iter([1, 2, 3]).sink_to(DiscardSink);
    assert_eq!(env.execute_async("finite").unwrap().result().unwrap().operators[0].records_out, 3);
}

/// A5: one to one, one to none or one, one to many; in order within a partition. A11: a projection is a map.
#[test]
fn a5_a11_map_filter_flat_map_projection() {
    for mode in MODES {
        let numbers =
            env(mode, 1).from_iter(0..5000u64).map(|n| n + 1).filter(|n| n % 2 == 0).flat_map(|n, out| {
                out.emit(n);
                out.emit(n);
            });
        let expected: Vec<u64> = (1..=5000).filter(|n| n % 2 == 0).flat_map(|n| [n, n]).collect();
        assert_eq!(numbers.execute_and_collect("order").unwrap().into_vec().unwrap(), expected, "{mode}");
        let projected = env(mode, 1).from_iter([(1, 'a', true), (2, 'b', false)]).map(|(n, _, yes)| (yes, n));
        assert_eq!(
            projected.execute_and_collect("project").unwrap().into_vec().unwrap(),
            [(true, 1), (false, 2)]
        );
    }
}

/// A6: equal keys meet in one subtask, whatever the type of the key.
#[test]
fn a6_equal_keys_meet() {
    #[derive(Clone)]
    struct Whose;
    impl<K: Key> KeyedProcessFunction<K, u64, (u64, usize)> for Whose {
        fn process(
            &mut self,
            n: u64,
            ctx: &mut KeyedContext<K>,
            out: &mut Collector<'_, (u64, usize)>,
        ) -> UserResult {
            out.emit((n % 23, ctx.runtime().subtask_index()));
            Ok(())
        }
    }
    for mode in MODES {
        let numbers = || env(mode, 4).generate(2000, |i| i);
        for placed in [
            numbers().key_by(|n| n % 23).process(|_| Whose),
            numbers().key_by(|n| format!("{}", n % 23)).process(|_| Whose),
            numbers().key_by(|n| (n % 23, true, CompactString::from("x"))).process(|_| Whose),
        ] {
            let pairs: BTreeSet<(u64, usize)> = sorted(&placed).into_iter().collect();
            assert_eq!(pairs.len(), 23, "{mode}: a key in several subtasks: {pairs:?}");
            assert!(
                pairs.iter().map(|pair| pair.1).collect::<BTreeSet<_>>().len() > 1,
                "{mode}: one subtask has all"
            );
        }
    }
}

/// A7, M9: STREAMING emits one output for each input, BATCH one for each key. `min` keeps the other fields of the first
/// record, `min_by` is the whole record, the first of several.
#[test]
fn a7_m9_rolling() {
    let records = [('a', 3, 0), ('a', 1, 1), ('b', 5, 2), ('a', 1, 3), ('a', 7, 4)];
    type Triple = (char, i32, i32);
    type Roll = fn(&KeyedStream<char, Triple>) -> DataStream<Triple>;
    let run = |mode, by: Roll| {
        by(&env(mode, 1).from_iter(records).key_by(|r| r.0))
            .execute_and_collect("a7")
            .unwrap()
            .into_vec()
            .unwrap()
    };
    let (streaming, batch) = (ExecutionMode::Streaming, ExecutionMode::Batch);
    let min = |k: &KeyedStream<char, (char, i32, i32)>| k.min(|r| &mut r.1);
    assert_eq!(run(streaming, min), [('a', 3, 0), ('a', 1, 0), ('b', 5, 2), ('a', 1, 0), ('a', 1, 0)]);
    let final_ones = |by| run(batch, by).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(final_ones(min), BTreeSet::from([('a', 1, 0), ('b', 5, 2)]));
    assert_eq!(final_ones(|k| k.min_by(|r| &mut r.1)), BTreeSet::from([('a', 1, 1), ('b', 5, 2)]));
    assert_eq!(final_ones(|k| k.max(|r| &mut r.1)), BTreeSet::from([('a', 7, 0), ('b', 5, 2)]));
    assert_eq!(final_ones(|k| k.max_by(|r| &mut r.1)), BTreeSet::from([('a', 7, 4), ('b', 5, 2)]));
    assert_eq!(final_ones(|k| k.sum(|r| &mut r.1)), BTreeSet::from([('a', 12, 0), ('b', 5, 2)]));
    assert_eq!(run(batch, min).len(), 2);
}

/// A8: a union keeps duplicates; a stream united with itself doubles.
#[test]
fn a8_union() {
    for mode in MODES {
        let env = env(mode, 2);
        let (a, b) = (env.from_iter([1, 2]), env.from_iter([2, 3]));
        assert_eq!(sorted(&a.union(&[&b, &a])), [1, 1, 2, 2, 2, 3], "{mode}");
    }
}

/// A12: `open` once for each attempt before its first record, `close` once after its last.
#[test]
fn a12_open_and_close() {
    /// Calls by subtask and attempt.
    type Lives = BTreeMap<(usize, usize), Vec<&'static str>>;
    #[derive(Clone)]
    struct Life(Arc<Mutex<Lives>>, (usize, usize), Arc<AtomicU64>);
    impl Life {
        fn note(&self, what: &'static str) {
            let mut lives = self.0.lock().unwrap();
            let life = lives.entry(self.1).or_default();
            if what != "record" || life.last() != Some(&"record") {
                life.push(what);
            }
        }
    }
    impl ProcessFunction<u64, u64> for Life {
        fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
            self.1 = (ctx.subtask_index(), self.2.fetch_add(1, Ordering::SeqCst) as usize);
            self.note("open");
            Ok(())
        }
        fn process(&mut self, n: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
            self.note("record");
            out.emit(n);
            Ok(())
        }
        fn close(&mut self) -> UserResult {
            self.note("close");
            Ok(())
        }
    }
    for mode in MODES {
        let lives = Arc::new(Mutex::new(BTreeMap::new()));
        let life = Life(lives.clone(), (0, 0), Arc::default());
        assert_eq!(sorted(&env(mode, 3).generate(100, |i| i).rebalance().process(life)).len(), 100);
        let lives = lives.lock().unwrap();
        assert_eq!(lives.keys().map(|k| k.0).collect::<Vec<_>>(), [0, 1, 2], "{mode}: {lives:?}");
        assert!(lives.values().all(|life| life[..] == ["open", "record", "close"]), "{mode}: {lives:?}");
    }
}

/// A13: `None` clears the state.
#[test]
fn a13_map_with_state() {
    for mode in MODES {
        let counted =
            env(mode, 1).from_iter([0u8; 5]).key_by(|n| *n).map_with_state(|_, seen: Option<u64>| {
                let seen = seen.unwrap_or(0);
                (seen, (seen < 2).then_some(seen + 1))
            });
        assert_eq!(
            counted.execute_and_collect("a13").unwrap().into_vec().unwrap(),
            [0, 1, 2, 0, 1],
            "{mode}"
        );
    }
}

/// A14: whatever serde can write comes back as it was, over a shuffle and out of state.
#[test]
fn a14_types_round_trip() {
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    enum Shape {
        Point,
        Named { name: String, size: Option<u16> },
        Many(Vec<Shape>, BTreeMap<i8, [u8; 3]>, (char, bool, u128)),
    }
    let shapes = || {
        let named = Shape::Named { name: "ü\n\"".into(), size: Some(7) };
        let many = Shape::Many(
            vec![named.clone(), Shape::Point],
            BTreeMap::from([(-1, [1, 2, 3])]),
            ('𝄞', true, u128::MAX),
        );
        vec![Shape::Point, Shape::Named { name: String::new(), size: None }, named, many]
    };
    for mode in MODES {
        let stream =
            env(mode, 2).from_iter(shapes()).rebalance().map(|shape| shape).key_by(|shape| shape.clone());
        let stored = stream.map_with_state(|shape, _: Option<Shape>| (shape.clone(), Some(shape)));
        let mut expected = shapes();
        expected.sort();
        assert_eq!(sorted(&stored), expected, "{mode}");
    }
}

/// A15: what is collected is what a sink gets.
#[test]
fn a15_collect_and_sink() {
    for mode in MODES {
        let env = env(mode, 3);
        let numbers = env.generate(5000, |i| i * i);
        let sunk = Arc::new(Mutex::new(Vec::new()));
        let into = sunk.clone();
        numbers.sink_to(FnSink::new(move |n| into.lock().unwrap().push(n)));
        let collected = sorted(&numbers);
        let mut sunk = std::mem::take(&mut *sunk.lock().unwrap());
        sunk.sort();
        assert_eq!(collected, sunk, "{mode}");
        assert_eq!(collected.len(), 5000);
    }
}

/// One record for each poll, never idle, so that only the timeout can send a batch that is not full.
struct Drip;
struct DripReader(u64);

impl Source for Drip {
    type Item = u64;
    type Split = u64;
    type Reader = DripReader;
    fn describe(&self) -> String {
        "drip".into()
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }
    fn splits(&self, _ctx: &SourceContext) -> mainstem::Result<Vec<u64>> {
        Ok(vec![0])
    }
    fn open(&self, split: u64, _ctx: &SourceContext) -> mainstem::Result<DripReader> {
        Ok(DripReader(split))
    }
}

impl SplitReader for DripReader {
    type Item = u64;
    type Split = u64;
    fn poll(&mut self, out: &mut SourceOutput<u64>) -> mainstem::Result<Poll> {
        out.emit(self.0);
        self.0 += 1;
        Ok(Poll::More)
    }
    fn position(&self) -> u64 {
        self.0
    }
}

/// A16: no record waits longer than the timeout in a batch that is not full; with none only full batches go out; with
/// 0 every record at once.
#[test]
fn a16_buffer_timeout() {
    let timeout = Duration::from_millis(100);
    // Records that have arrived after three turns at 0 ms, one at 99 ms and one at 100 ms. A turn is a poll or a flush;
    // the first has two polls, since the first record shows how large the others may be.
    let cases = [
        (BufferTimeout::After(timeout), [0, 0, 5]),
        (BufferTimeout::EveryRecord, [2, 3, 3]),
        (BufferTimeout::WhenFull, [0, 0, 0]),
    ];
    for (timeout, expected) in cases {
        let env = Environment::new().parallelism(1);
        let arrived = Arc::new(AtomicU64::new(0));
        let into = arrived.clone();
        env.read(Drip).rebalance().sink_to(FnSink::new(move |_| {
            into.fetch_add(1, Ordering::SeqCst);
        }));
        let plan = env.physical_plan().unwrap();
        let context = JobContext {
            name: "job".into(),
            id: "job".into(),
            parameters: Parameters::new(),
            auto_watermark_interval: std::time::Duration::from_millis(200),
        };
        let clock = VirtualClock::new();
        let (vfs, cancel) = (OsVfs::shared(), Cancellation::default());
        let job = JobEnvironment::start(&plan, context, clock.clone(), vfs, SplitAssignment::Fixed, cancel)
            .unwrap();
        let mut wiring = wire(&plan, &job, timeout, || 4096).unwrap();
        let mut step = |turns: usize| {
            wiring.subtasks[0].step(turns).unwrap();
            wiring.subtasks[1].step(5000).unwrap();
            arrived.load(Ordering::SeqCst)
        };
        let at_once = step(3);
        clock.advance(Duration::from_millis(99));
        let before = step(1);
        clock.advance(Duration::from_millis(1));
        let after = step(1);
        assert_eq!([at_once, before, after], expected, "{timeout}");
        // Few may wait before a consumer whose rate is not known yet.
        let at_last = (0..40).map(|_| step(400)).last();
        assert!(at_last >= Some(1024), "{timeout}: full batches go out, {at_last:?}");
    }
}

/// M5: in BATCH the state of one key is alive, whatever their number. Counts values of a state that are alive.
#[test]
fn m5_one_key_at_a_time() {
    static ALIVE: AtomicI64 = AtomicI64::new(0);
    static PEAK: AtomicI64 = AtomicI64::new(0);
    #[derive(Serialize, Deserialize)]
    #[serde(from = "u64", into = "u64")]
    struct Alive(u64);
    impl From<u64> for Alive {
        fn from(n: u64) -> Alive {
            PEAK.fetch_max(ALIVE.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Alive(n)
        }
    }
    impl From<Alive> for u64 {
        fn from(alive: Alive) -> u64 {
            alive.0
        }
    }
    impl Clone for Alive {
        fn clone(&self) -> Alive {
            Alive::from(self.0)
        }
    }
    impl Drop for Alive {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    struct Total {
        total: ValueState<Alive>,
    }
    impl KeyedProcessFunction<u64, u64, u64> for Total {
        fn process(
            &mut self,
            n: u64,
            ctx: &mut KeyedContext<u64>,
            out: &mut Collector<'_, u64>,
        ) -> UserResult {
            let total = self.total.get_or_insert_with(ctx, || Alive::from(0));
            total.0 += n;
            out.emit(total.0);
            Ok(())
        }
    }
    for (mode, peak) in [(ExecutionMode::Batch, 1), (ExecutionMode::Streaming, 100)] {
        PEAK.store(0, Ordering::SeqCst);
        let keyed = env(mode, 1).generate(1000, |i| i).key_by(|n| n % 100);
        assert_eq!(sorted(&keyed.process(|states| Total { total: states.value("total") })).len(), 1000);
        assert_eq!(PEAK.load(Ordering::SeqCst), peak, "{mode}");
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0, "{mode}: state that outlives the job");
    }
}

/// O1: accumulators are merged over subtasks. O2: parameters can be read in `open`.
#[test]
fn o1_o2_accumulators_and_parameters() {
    #[derive(Clone)]
    struct Counting {
        step: u64,
        lines: Option<Arc<Mutex<mainstem::base::accumulator::AccumulatorHandle<LongCounter>>>>,
    }
    impl ProcessFunction<u64, u64> for Counting {
        fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
            self.step = ctx.parameters().required("step")?.parse()?;
            self.lines = Some(Arc::new(Mutex::new(ctx.accumulator("lines")?)));
            Ok(())
        }
        fn process(&mut self, n: u64, _: &ProcessContext<'_>, _: &mut Collector<'_, u64>) -> UserResult {
            if let Some(lines) = &self.lines {
                lines.lock().unwrap().add((n * self.step) as i64);
            }
            Ok(())
        }
    }
    for mode in MODES {
        let build = |parameters| {
            let env = env(mode, 3).parameters(parameters);
            let counting = Counting { step: 0, lines: None };
            env.generate(100, |_| 1).process(counting).name("suspect").sink_to(DiscardSink);
            env
        };
        let env = build(Parameters::from_args(["--step", "2"]).unwrap());
        let result = env.execute("counting").unwrap();
        assert_eq!(result.accumulators.get::<LongCounter>("lines").unwrap(), 200, "{mode}");
        let error = build(Parameters::new()).execute("counting").unwrap_err();
        assert!(error.operator() == Some("suspect") && error.to_string().contains("step"), "{mode}: {error}");
    }
}

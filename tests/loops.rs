//! Loops in STREAMING: `iterate` with its feedback edge, on both drivers, with one to three subtasks. A10.

use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DROPPED: &str = "feedback_dropped_at_end";
const SPILLED: &str = "feedback_spilled_bytes";

fn streaming(parallelism: usize, driver: Driver) -> Environment {
    Environment::new()
        .execution_mode(ExecutionMode::Streaming)
        .parallelism(parallelism)
        .driver(driver)
        .memory(ByteSize::mib(8))
}

/// Threads, and a few seeds, with one to three subtasks.
fn environments() -> Vec<(String, Environment)> {
    let mut all = Vec::new();
    for parallelism in 1..=3 {
        let mut drivers = vec![Driver::Threads];
        drivers.extend((0..4).map(|seed| Driver::Simulation { seed: 10 * parallelism as u64 + seed }));
        for driver in drivers {
            all.push((format!("x{parallelism} {driver:?}"), streaming(parallelism, driver)));
        }
    }
    all
}

fn sorted<T: Data + Ord>(stream: &DataStream<T>) -> Vec<T> {
    let mut records = stream.execute_and_collect("loop").unwrap().into_vec().unwrap();
    records.sort();
    records
}

/// A counter of the head, from the result of a job.
fn counter(result: &JobResult, name: &str) -> u64 {
    let mut counters = result.operators.iter().flat_map(|operator| &operator.counters);
    counters.find(|(counter, _)| counter == name).expect("the head has the counter").1
}

/// A10: Flink's example: for each pair the steps of its Fibonacci sequence until it has passed a bound.
#[test]
fn a10_fibonacci_pairs() {
    const BOUND: u64 = 100;
    let pair = |i: u64| (i * 31 % 49 + 1, i * 17 % 49 + 1);
    let mut expected: Vec<((u64, u64), u64)> = (0..1000)
        .map(|i| {
            let (mut a, mut b, mut steps) = (pair(i).0, pair(i).1, 0);
            loop {
                (a, b, steps) = (b, a + b, steps + 1);
                if a >= BOUND || b >= BOUND {
                    return (pair(i), steps);
                }
            }
        })
        .collect();
    expected.sort();
    for (name, env) in environments() {
        let pairs = env.generate(1000, pair).map(|pair| (pair, pair, 0u64));
        let steps = pairs.iterate("fibonacci", |pairs| {
            let next = pairs.map(|(start, (a, b), steps)| (start, (b, a + b), steps + 1));
            let is_done = |(_, (a, b), _): &((u64, u64), (u64, u64), u64)| *a >= BOUND || *b >= BOUND;
            (next.filter(move |pair| !is_done(pair)), next.filter(is_done))
        });
        assert_eq!(sorted(&steps.map(|(start, _, steps)| (start, steps))), expected, "{name}");
    }
}

fn collatz_steps(mut n: u64) -> u64 {
    let mut steps = 0;
    while n != 1 {
        n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    steps
}

/// `(start, now, steps)` until it is 1; the way back is what `back` makes of the stream.
fn collatz(
    numbers: &DataStream<(u64, u64, u64)>,
    back: impl FnOnce(DataStream<(u64, u64, u64)>) -> DataStream<(u64, u64, u64)>,
) -> DataStream<(u64, u64)> {
    numbers
        .iterate("collatz", |numbers| {
            let open = numbers.filter(|(_, n, _)| *n != 1);
            let next =
                open.map(|(start, n, steps)| (start, if n % 2 == 0 { n / 2 } else { 3 * n + 1 }, steps + 1));
            (back(next), numbers.filter(|(_, n, _)| *n == 1))
        })
        .map(|(start, _, steps)| (start, steps))
}

/// A10: each record leaves after as many rounds as it needs, however the way back is partitioned, and whenever batches go out.
#[test]
fn a10_collatz_however_records_come_back() {
    type Numbers = DataStream<(u64, u64, u64)>;
    type Way = fn(Numbers) -> Numbers;
    let expected: Vec<(u64, u64)> = (1..=300).map(|n| (n, collatz_steps(n))).collect();
    let ways: [(&str, Way); 4] = [
        ("as they come", |back| back),
        ("rebalanced", |back| back.rebalance()),
        ("chosen", |back| back.partition_custom(|(n, ..), targets| *n as usize % targets)),
        ("with another parallelism", |back| back.map(|n| n).parallelism(2)),
    ];
    for (way, back) in ways {
        for (name, env) in environments() {
            let found = sorted(&collatz(&env.generate(300, |i| (i + 1, i + 1, 0)), back));
            assert_eq!(found, expected, "{way}, {name}");
        }
    }
    for timeout in [BufferTimeout::WhenFull, BufferTimeout::EveryRecord] {
        for (name, env) in environments() {
            let env = env.buffer_timeout(timeout);
            let found = sorted(&collatz(&env.generate(300, |i| (i + 1, i + 1, 0)), |back| back));
            assert_eq!(found, expected, "{timeout:?}, {name}");
        }
    }
}

/// A10: the end is never too early and always comes, whatever the order of steps: many schedules, with a shuffle in the body.
#[test]
fn a10_the_end_comes_when_nothing_goes_round_with_many_seeds() {
    let expected: Vec<(u64, u64)> = (1..=30).map(|n| (n, collatz_steps(n))).collect();
    for seed in 0..300 {
        let env = streaming(1 + seed as usize % 3, Driver::Simulation { seed });
        let numbers = env.generate(30, |i| (i + 1, i + 1, 0));
        assert_eq!(sorted(&collatz(&numbers, |back| back.rebalance())), expected, "seed {seed}");
    }
}

/// The shortest way to a node so far; tells its neighbours when it has become shorter.
struct Shortest {
    distance: ValueState<u64>,
    neighbours: Arc<Vec<Vec<usize>>>,
}

impl KeyedProcessFunction<usize, (usize, u64), (usize, usize, u64)> for Shortest {
    fn process(
        &mut self,
        (node, distance): (usize, u64),
        ctx: &mut KeyedContext<usize>,
        out: &mut Collector<'_, (usize, usize, u64)>,
    ) -> UserResult {
        if self.distance.get(ctx).is_none_or(|before| *before > distance) {
            self.distance.set(ctx, distance);
            self.neighbours[node].iter().for_each(|&to| out.emit((node, to, distance)));
        }
        Ok(())
    }
}

/// A10: state of keys within the loop: shortest ways through a graph, against a search by breadth.
#[test]
fn a10_state_of_keys_in_the_loop() {
    const NODES: usize = 400;
    let neighbours: Vec<Vec<usize>> =
        (0..NODES).map(|n| vec![(n * 7 + 3) % NODES, (n + 1) % NODES, (n * n + 5) % NODES]).collect();
    let mut distances = vec![u64::MAX; NODES];
    distances[0] = 0;
    let mut round = vec![0];
    while !round.is_empty() {
        let mut next = Vec::new();
        for node in round {
            for &to in &neighbours[node] {
                if distances[to] == u64::MAX {
                    distances[to] = distances[node] + 1;
                    next.push(to);
                }
            }
        }
        round = next;
    }
    let neighbours = Arc::new(neighbours);
    for (name, env) in environments() {
        let start = env.from_iter([(0usize, 0u64)]);
        let known = neighbours.clone();
        let ways = start.iterate("ways", |reached| {
            let known = known.clone();
            let told = reached.key_by(|(node, _)| *node).process(move |states| Shortest {
                distance: states.value("distance"),
                neighbours: known.clone(),
            });
            (told.map(|(_, to, distance)| (to, distance + 1)), told)
        });
        let mut found = vec![u64::MAX; NODES];
        for (node, _, distance) in ways.execute_and_collect("ways").unwrap().into_vec().unwrap() {
            found[node] = found[node].min(distance);
        }
        assert_eq!(found, distances, "{name}");
    }
}

/// Records that are alive as values, now and at most.
static ALIVE: AtomicI64 = AtomicI64::new(0);
static ALIVE_MOST: AtomicI64 = AtomicI64::new(0);

struct Alive;

impl Alive {
    fn new() -> Alive {
        ALIVE_MOST.fetch_max(1 + ALIVE.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
        Alive
    }
}
impl Default for Alive {
    fn default() -> Self {
        Alive::new()
    }
}
impl Clone for Alive {
    fn clone(&self) -> Self {
        Alive::new()
    }
}
impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Seed {
    generation: u32,
    path: u64,
    load: Vec<u8>,
    #[serde(skip)]
    _alive: Alive,
}

impl Seed {
    fn new(generation: u32, path: u64) -> Seed {
        // Not to be compressed.
        let mut x = path + 1;
        let mut next = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 56) as u8
        };
        let load = (0..500).map(|_| next()).collect();
        Seed { generation, path, load, _alive: Alive::new() }
    }
}

/// A10: a body that makes many records of one, far more than channels hold: no deadlock, and what waits is on disk.
#[test]
fn a10_a_body_that_multiplies_does_not_wait_for_itself() {
    const CHILDREN: u64 = 32;
    const GENERATIONS: u32 = 3;
    let total = CHILDREN.pow(GENERATIONS);
    for parallelism in 1..=3 {
        for driver in [Driver::Threads, Driver::Simulation { seed: 7 }] {
            ALIVE_MOST.store(0, Ordering::SeqCst);
            let env = streaming(parallelism, driver);
            let leaves = env.from_iter([0u64]).map(|path| Seed::new(0, path)).iterate("tree", |seeds| {
                let children = seeds.filter(|seed| seed.generation < GENERATIONS).flat_map(|seed, out| {
                    for child in 0..CHILDREN {
                        out.emit(Seed::new(seed.generation + 1, seed.path * CHILDREN + child));
                    }
                });
                (children.rebalance(), seeds.filter(|seed| seed.generation == GENERATIONS))
            });
            let seen = Arc::new(Mutex::new((BTreeSet::new(), 0u64)));
            let into = seen.clone();
            leaves.sink_to(FnSink::new(move |seed: Seed| {
                let mut seen = into.lock().unwrap();
                assert_eq!(seed.load, Seed::new(0, seed.path).load, "a record has changed on its way");
                seen.0.insert(seed.path);
                seen.1 += 1;
            }));
            let result = env.execute("tree").unwrap();
            let (paths, records) = &*seen.lock().unwrap();
            let name = format!("x{parallelism} {driver:?}");
            assert_eq!((paths.len() as u64, *records), (total, total), "{name}");
            assert_eq!(counter(&result, DROPPED), 0, "{name}");
            // 16 MB go round in a loop whose share is 4 MiB.
            let spilled = counter(&result, SPILLED);
            assert!(spilled > 4 << 20, "{name}: {spilled} bytes were spilled");
            let most = ALIVE_MOST.load(Ordering::SeqCst);
            assert!(most < total as i64 / 2, "{name}: {most} of {total} records in memory at once");
        }
    }
}

/// A10: where every record comes back twice and nothing is taken out, the job runs until it is cancelled, and ends at once then.
#[test]
fn a10_a_loop_without_end_is_cancelled() {
    for parallelism in 1..=3 {
        for driver in [Driver::Threads, Driver::Simulation { seed: 3 }] {
            let env = streaming(parallelism, driver);
            let rounds = Arc::new(AtomicU64::new(0));
            let count = rounds.clone();
            let none = env.from_iter([1u64]).iterate("endless", |numbers| {
                let counted = numbers.map(move |n| {
                    count.fetch_add(1, Ordering::SeqCst);
                    n
                });
                (counted.rebalance(), counted.filter(|_| false))
            });
            none.sink_to(DiscardSink);
            let client = env.execute_async("endless").unwrap();
            while rounds.load(Ordering::SeqCst) < 1000 {
                assert_eq!(client.status(), JobStatus::Running);
                std::thread::yield_now();
            }
            client.cancel();
            assert!(matches!(client.result(), Err(mainstem::Error::Cancelled)), "x{parallelism} {driver:?}");
        }
    }
}

/// A10: an error and a panic in the loop end the job and name the operator.
#[test]
fn a10_failures_in_the_loop_end_the_job() {
    for panics in [false, true] {
        for (name, env) in environments() {
            let numbers = env.generate(100, |i| i).iterate("counting", |numbers| {
                let next = numbers.try_map(move |n| match (n, panics) {
                    (5_000, true) => panic!("too far"),
                    (5_000, false) => Err("too far"),
                    _ => Ok(n + 1),
                });
                let next = next.name("step");
                (next.rebalance(), next.filter(|_| false))
            });
            let error = numbers.execute_and_collect("failing").and_then(|found| found.into_vec());
            let error = error.map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("'step'") && error.contains("too far"), "{name}: {error}");
        }
    }
}

fn refusal(env: &Environment) -> String {
    env.execute("refused").map(|_| ()).unwrap_err().to_string()
}

fn counting(env: &Environment) -> DataStream<u64> {
    env.generate(10, |i| i).iterate("counting", |numbers| {
        let next = numbers.map(|n| n + 1);
        (next.filter(|n| *n < 20), next.filter(|n| *n >= 20))
    })
}

/// A10: what a loop cannot be is refused before anything runs, with what to do instead.
#[test]
fn a10_what_is_refused() {
    for mode in [ExecutionMode::Batch, ExecutionMode::Automatic] {
        let env = Environment::new().execution_mode(mode);
        counting(&env).sink_to(DiscardSink);
        let error = refusal(&env);
        assert!(error.contains("'counting'") && error.contains("iterate_bulk"), "{error}");
        assert!(error.contains("--execution-mode streaming"), "{error}");
    }
    for mode in [CheckpointMode::ExactlyOnce, CheckpointMode::AtLeastOnce] {
        let env = streaming(1, Driver::Threads)
            .checkpoint_interval(Duration::from_secs(1))
            .checkpoint_mode(mode)
            .checkpoint_storage(CheckpointStorage::Memory);
        counting(&env).sink_to(DiscardSink);
        let error = refusal(&env);
        assert!(error.contains("'counting'") && error.contains("--checkpoint-lossy-loops"), "{error}");
        assert_eq!(env.explain().unwrap_err().to_string(), error);
    }
    let env = streaming(1, Driver::Threads);
    let outside = env.generate(10, |i| i).name("outside");
    env.generate(10, |i| i).iterate("odd", |numbers| (outside, numbers.clone())).sink_to(DiscardSink);
    let error = refusal(&env);
    assert!(error.contains("'odd'") && error.contains("'outside'"), "{error}");
    let (env, other) = (streaming(1, Driver::Threads), streaming(1, Driver::Threads));
    let foreign = other.generate(10, |i| i);
    env.generate(10, |i| i).iterate("odd", |numbers| (foreign, numbers.clone())).sink_to(DiscardSink);
    assert!(refusal(&env).contains("another environment"), "{}", refusal(&env));
    let env = streaming(1, Driver::Threads);
    let sums = env.generate(10, |i| i).iterate("sums", |numbers| {
        let all = numbers.count();
        (all.clone(), all)
    });
    sums.sink_to(DiscardSink);
    let error = refusal(&env);
    assert!(error.contains("loop 'sums'") && error.contains("iterate_bulk"), "{error}");
}

/// A10: a loop of which nothing is used runs no part of itself.
#[test]
fn a10_a_loop_that_leads_to_no_sink_does_not_run() {
    let env = streaming(2, Driver::Threads);
    counting(&env);
    env.generate(3, |i| i).sink_to(DiscardSink);
    assert_eq!(env.execute("without").unwrap().operators.len(), 2);
}

/// A10: watermarks are those of the input: windows in the loop fire while the input flows, what they emit goes round, at the
/// end too, and nothing waits for records that go round.
#[test]
fn a10_windows_in_the_loop() {
    for (name, env) in environments() {
        let times = env
            .from_iter(0..100u64)
            .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|i: &u64| *i as i64));
        // Sums of ten, once: what comes back is out of the loop again.
        let sums = times.map(|n| (false, n)).iterate("sums", |records| {
            let sums = records
                .filter(|(is_sum, _)| !is_sum)
                .key_by(|_| ())
                .window(Tumbling::of(Duration::from_millis(10)))
                .aggregate(Sum);
            (sums.map(|sum| (true, sum.value)), records.filter(|(is_sum, _)| *is_sum))
        });
        let expected: Vec<u64> = (0..10).map(|w| (10 * w..10 * w + 10).sum()).collect();
        assert_eq!(sorted(&sums.map(|(_, sum)| sum)), expected, "{name}");
    }
}

/// A10, W4: while input flows that never ends, its watermarks pass through the loop: windows in it fire, and what they emit has gone
/// round before there is an end.
#[test]
fn a10_watermarks_pass_while_input_flows() {
    for parallelism in 1..=3 {
        for driver in [Driver::Threads, Driver::Simulation { seed: 5 }] {
            let env = streaming(parallelism, driver).auto_watermark_interval(Duration::from_millis(1));
            let times = env
                .read(Generate::unbounded(|i| i))
                .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|i: &u64| *i as i64));
            let sums = times.map(|n| (false, n)).iterate("sums", |records| {
                let sums = records
                    .filter(|(is_sum, _)| !is_sum)
                    .key_by(|_| ())
                    .window(Tumbling::of(Duration::from_millis(10)))
                    .aggregate(Sum);
                (sums.map(|sum| (true, sum.value)), records.filter(|(is_sum, _)| *is_sum))
            });
            let seen = Arc::new(AtomicU64::new(0));
            let into = seen.clone();
            sums.sink_to(FnSink::new(move |_: (bool, u64)| {
                into.fetch_add(1, Ordering::SeqCst);
            }));
            let client = env.execute_async("endless").unwrap();
            while seen.load(Ordering::SeqCst) < 100 {
                assert_eq!(client.status(), JobStatus::Running, "x{parallelism} {driver:?}");
                std::thread::yield_now();
            }
            client.cancel();
            assert!(matches!(client.result(), Err(mainstem::Error::Cancelled)), "x{parallelism} {driver:?}");
        }
    }
}

#[derive(Clone)]
struct Sum;

impl Aggregator<(bool, u64)> for Sum {
    type Acc = u64;
    type Out = u64;
    fn create(&self) -> u64 {
        0
    }
    fn add(&self, sum: &mut u64, record: (bool, u64)) {
        *sum += record.1;
    }
    fn merge(&self, sum: &mut u64, other: u64) {
        *sum += other;
    }
    fn result(&self, sum: &u64) -> u64 {
        *sum
    }
}

/// Gives each record back when its timer fires.
struct Later;

impl KeyedProcessFunction<u64, u64, u64> for Later {
    fn process(&mut self, _: u64, ctx: &mut KeyedContext<u64>, _: &mut Collector<'_, u64>) -> UserResult {
        ctx.register_processing_time_timer(i64::MAX);
        Ok(())
    }
    fn on_timer(
        &mut self,
        _: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        out.emit(*ctx.key());
        Ok(())
    }
}

/// A10, F2: what the end of the loop itself would feed back is dropped, and counted.
#[test]
fn a10_what_comes_of_the_end_is_dropped_and_counted() {
    for (name, env) in environments() {
        let later = env.generate(50, |i| i).iterate("later", |numbers| {
            let later = numbers.key_by(|n| *n).process(|_| Later);
            (later.clone(), later)
        });
        let seen = Arc::new(AtomicU64::new(0));
        let into = seen.clone();
        later.sink_to(FnSink::new(move |_: u64| {
            into.fetch_add(1, Ordering::SeqCst);
        }));
        let result = env.execute("later").unwrap();
        assert_eq!((seen.load(Ordering::SeqCst), counter(&result, DROPPED)), (50, 50), "{name}");
    }
}

/// A10: a loop within a loop, an input that comes in at the middle of a body, and two loops one after the other.
#[test]
fn a10_loops_within_and_behind_loops() {
    const ROUNDS: u32 = 5;
    let mut expected: Vec<u64> = (1..=40)
        .chain(100..120)
        .map(|mut n: u64| {
            for _ in 0..ROUNDS {
                n = (n >> n.trailing_zeros()) + 1;
            }
            1000 + (n >> n.trailing_zeros())
        })
        .collect();
    expected.sort();
    for (name, env) in environments() {
        let more = env.generate(20, |i| (0u32, 100 + i));
        // The inner loop halves while it can, the outer one adds 1, five times.
        let found = env.generate(40, |i| (0u32, i + 1)).iterate("outer", |outer| {
            let odd = outer.union(&[&more]).iterate("inner", |inner| {
                let halved = inner.filter(|(_, n)| n % 2 == 0).map(|(round, n)| (round, n / 2));
                (halved.rebalance(), inner.filter(|(_, n)| n % 2 == 1))
            });
            let next = odd.filter(|(round, _)| *round < ROUNDS).map(|(round, n)| (round + 1, n + 1));
            (next, odd.filter(|(round, _)| *round == ROUNDS))
        });
        let behind = found.map(|(_, n)| n).iterate("behind", |all| {
            (all.filter(|n| *n < 1000).map(|n| n + 1000), all.filter(|n| *n >= 1000))
        });
        assert_eq!(sorted(&behind), expected, "{name}");
    }
}

/// A10, A3: the plan shows the way back, as text and as a graph.
#[test]
fn a10_the_plan_shows_the_loop() {
    let env = streaming(2, Driver::Threads);
    counting(&env).sink_to(DiscardSink);
    let plan = env.explain().unwrap();
    assert!(plan.contains("1: operator 'counting' <- 0, fed back from 3"), "{plan}");
    assert!(plan.contains("by forward, fed back (u64)"), "{plan}");
    let graph = env.explain_graph().unwrap();
    assert!(graph.contains("s3 -. fed back by forward .-> s1"), "{graph}");
}

/// A10, C13: where it is accepted that what is in the loop is lost, checkpoints are taken, and a job that fails goes on and ends. What has
/// left the loop is there once, and what is there is right.
#[test]
fn a10_checkpoints_that_lose_what_goes_round() {
    let expected: BTreeMap<u64, u64> = (1..=2000).map(|n| (n, collatz_steps(n))).collect();
    for seed in 0..30 {
        let failed = AtomicU64::new(0);
        let env = streaming(1 + seed as usize % 3, Driver::Simulation { seed })
            .checkpoint_interval(Duration::from_millis(2))
            .checkpoint_storage(CheckpointStorage::Memory)
            .checkpoint_lossy_loops(true)
            .restart_strategy(RestartStrategy::FixedDelay { attempts: 3, delay: Duration::from_millis(1) })
            .on_simulated_step(move |step, _| {
                if step == 100 * (1 + seed) && failed.fetch_add(1, Ordering::SeqCst) == 0 {
                    return Err(mainstem::Error::user("a failure"));
                }
                Ok(())
            });
        let steps = collatz(&env.generate(2000, |i| (i + 1, i + 1, 0)), |back| back);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = seen.clone();
        steps.sink_to(FnSink::new(move |record| into.lock().unwrap().push(record)));
        let result = env.execute("lossy").unwrap();
        let stats = result.checkpoints.unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|(n, steps)| expected[n] == *steps), "seed {seed}");
        if stats.restarts == 0 {
            assert_eq!(seen.len(), 2000, "seed {seed}");
        }
    }
}

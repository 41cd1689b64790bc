//! Failures of user code, sources and sinks, answered by restarts from the last checkpoint.

use crate::ledger::{Faults, Ledger};
use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const RECORDS: u64 = 20_000;
const KEYS: u64 = 997;
/// Milliseconds of a window.
const WINDOW: i64 = 500;

/// Where faults strike.
#[derive(Clone, Default)]
pub struct Strikes {
    pub source: Faults,
    pub map: Faults,
    pub keyed: Faults,
    pub sink: Faults,
}

/// What comes out of the job.
#[derive(Debug, PartialEq, Eq, Clone, Default)]
pub struct Outputs {
    /// Of each key each count once.
    pub counts: Vec<(u64, u64)>,
    /// Key, start of the window, records in it.
    pub windows: Vec<(u64, i64, u64)>,
    /// Key, time of the timer, records so far.
    pub timers: Vec<(u64, i64, u64)>,
}

pub struct Ledgers {
    counts: Ledger<(u64, u64)>,
    windows: Ledger<(u64, i64, u64)>,
    timers: Ledger<(u64, i64, u64)>,
}

impl Ledgers {
    pub fn new(strikes: &Strikes) -> Ledgers {
        Ledgers {
            counts: Ledger::with_faults(strikes.sink.clone()),
            windows: Ledger::new(),
            timers: Ledger::new(),
        }
    }
    pub fn outputs(&self) -> Outputs {
        Outputs {
            counts: self.counts.records(),
            windows: self.windows.records(),
            timers: self.timers.records(),
        }
    }
}

/// Counts the records of a key, and says so every so often in event time.
struct Ticker {
    seen: ValueState<u64>,
    /// So much that it does not fit into the metadata.
    padding: ValueState<Vec<u8>>,
    faults: Faults,
}

impl KeyedProcessFunction<u64, u64, (u64, i64, u64)> for Ticker {
    fn process(
        &mut self,
        _n: u64,
        ctx: &mut KeyedContext<u64>,
        _out: &mut Collector<'_, (u64, i64, u64)>,
    ) -> UserResult {
        self.faults.check()?;
        let seen = self.seen.get(ctx).copied().unwrap_or(0);
        self.seen.set(ctx, seen + 1);
        if seen == 0 {
            self.padding.set(ctx, vec![7; 100]);
        }
        let timestamp = ctx.timestamp().unwrap_or(0);
        ctx.register_event_time_timer((timestamp / 1_000 + 1) * 1_000);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, (u64, i64, u64)>,
    ) -> UserResult {
        let seen = self.seen.get(ctx).copied().unwrap_or(0);
        out.emit((*ctx.key(), timer.time, seen));
        Ok(())
    }
}

/// A job with a shuffle, a rolling fold, windows, a function with state and timers, and three sinks.
pub fn build(env: &Environment, strikes: &Strikes, ledgers: &Ledgers) {
    let faults = strikes.source.clone();
    let make = move |i: u64| {
        if faults.strikes() {
            panic!("a fault of the source");
        }
        i
    };
    let source = Generate::new(RECORDS, make).rate(50_000.0).timestamps(|n| *n as i64);
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(50));
    let numbers = env.read(source).assign_timestamps(strategy).uid("numbers");
    let faults = strikes.map.clone();
    let numbers = numbers.try_map(move |n| faults.check().map(|()| n)).filter(|n| n % 10 != 3);
    let by_key = numbers.key_by(|n| n % KEYS);
    by_key.count().uid("counts").sink_to(ledgers.counts.clone()).uid("counts out");
    by_key
        .window(Tumbling::of(Duration::from_millis(WINDOW as u64)))
        .aggregate(Count)
        .uid("windows")
        .map(|w| (w.key, w.window.start, w.value))
        .sink_to(ledgers.windows.clone())
        .uid("windows out");
    let faults = strikes.keyed.clone();
    by_key
        .process(move |states| Ticker {
            seen: states.value("seen"),
            padding: states.value("padding"),
            faults: faults.clone(),
        })
        .uid("ticker")
        .sink_to(ledgers.timers.clone())
        .uid("timers out");
}

/// What an uninterrupted run gives, but for the timers, which depend on how watermarks and records interleave.
pub fn expected() -> Outputs {
    let mut outputs = Outputs::default();
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let mut windows: BTreeMap<(u64, i64), u64> = BTreeMap::new();
    for n in (0..RECORDS).filter(|n| n % 10 != 3) {
        let count = counts.entry(n % KEYS).or_default();
        *count += 1;
        outputs.counts.push((n % KEYS, *count));
        *windows.entry((n % KEYS, n as i64 / WINDOW * WINDOW)).or_default() += 1;
    }
    outputs.counts.sort();
    outputs.windows = windows.into_iter().map(|((key, start), count)| (key, start, count)).collect();
    outputs
}

/// Fails with the first difference.
fn same<T: PartialEq + std::fmt::Debug>(found: &[T], expected: &[T], what: &str) {
    let differ = found.iter().zip(expected).position(|(a, b)| a != b);
    let at = differ.unwrap_or(found.len().min(expected.len()));
    assert!(
        found == expected,
        "{what}: {} found, {} expected; first difference at {at}: {:?} for {:?}",
        found.len(),
        expected.len(),
        found.get(at),
        expected.get(at)
    );
}

/// The outputs with each timer once; what it has seen is at least what was before it, and the last one has seen all.
pub fn check(outputs: &Outputs, what: &str) {
    let expected = expected();
    same(&outputs.counts, &expected.counts, &format!("{what}: counts"));
    same(&outputs.windows, &expected.windows, &format!("{what}: windows"));
    let mut timers: BTreeMap<(u64, i64), u64> = BTreeMap::new();
    for &(key, time, seen) in &outputs.timers {
        assert!(timers.insert((key, time), seen).is_none(), "{what}: the timer {time} of {key} fired twice");
    }
    let mut before: BTreeMap<u64, u64> = BTreeMap::new();
    let mut due: BTreeMap<(u64, i64), u64> = BTreeMap::new();
    for n in (0..RECORDS).filter(|n| n % 10 != 3) {
        let seen = before.entry(n % KEYS).or_default();
        *seen += 1;
        due.insert((n % KEYS, (n as i64 / 1_000 + 1) * 1_000), *seen);
    }
    assert_eq!(timers.len(), due.len(), "{what}: timers");
    for (timer, least) in due {
        let seen = timers.get(&timer).copied();
        assert!(seen.is_some_and(|seen| seen >= least), "{what}: timer {timer:?}: {seen:?} for {least}");
    }
}

pub fn environment(parallelism: usize, seed: Option<u64>) -> Environment {
    let env = Environment::new()
        .parallelism(parallelism)
        .max_parallelism(16)
        .auto_watermark_interval(Duration::from_millis(1))
        .checkpoint_interval(Duration::from_millis(2))
        .restart_strategy(RestartStrategy::FixedDelay { attempts: 10, delay: Duration::from_millis(1) });
    match seed {
        Some(seed) => env.driver(Driver::Simulation { seed }),
        None => env,
    }
}

/// Faults of all kinds at calls that depend on the seed.
fn strikes(seed: u64) -> Strikes {
    let at = |n: u64| {
        let x = (seed * 4 + n).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        Faults::at([2_000 + x % (RECORDS / 2)])
    };
    let sink = Faults::at([(seed * 7 + 3) % 100 + 10]);
    Strikes { source: at(0), map: at(1), keyed: at(2), sink }
}

/// C1, C2, C12: whatever fails, at p 1 to 3, the results are those of an uninterrupted run.
#[test]
fn simulated_failures_leave_no_trace() {
    for seed in 0..12 {
        let parallelism = 1 + seed as usize % 3;
        let strikes = strikes(seed);
        let ledgers = Ledgers::new(&strikes);
        let env = environment(parallelism, Some(seed)).checkpoint_storage(CheckpointStorage::Memory);
        build(&env, &strikes, &ledgers);
        let result = env.execute("simulated").unwrap();
        let what = format!("seed {seed}, parallelism {parallelism}");
        check(&ledgers.outputs(), &what);
        let stats = result.checkpoints.unwrap();
        assert!(stats.restarts >= 3 && stats.completed >= 2 && stats.restored > 0, "{what}: {stats:?}");
        for faults in [&strikes.source, &strikes.map, &strikes.keyed, &strikes.sink] {
            assert_eq!(faults.left(), 0, "{what}: a fault did not strike");
        }
    }
}

/// C1, C3: whatever step of the schedule a failure comes at, and with several checkpoints under way.
#[test]
fn failures_at_any_step_leave_no_trace() {
    for seed in 200..215 {
        let parallelism = 1 + seed as usize % 3;
        let strikes = Strikes::default();
        let ledgers = Ledgers::new(&strikes);
        let steps: Vec<u64> = (1..4).map(|n| 40 + (seed * n * 7919) % 150).collect();
        let failed = AtomicU64::new(0);
        let env = environment(parallelism, Some(seed))
            .checkpoint_storage(CheckpointStorage::Memory)
            .checkpoint_max_concurrent(1 + seed as usize % 4)
            .on_simulated_step(move |step, _| {
                let next = failed.load(Ordering::SeqCst) as usize;
                if steps.get(next).is_some_and(|&at| step == at) {
                    failed.fetch_add(1, Ordering::SeqCst);
                    return Err(mainstem::Error::user("a failure at a step"));
                }
                Ok(())
            });
        build(&env, &strikes, &ledgers);
        let result = env.execute("simulated").unwrap();
        let what = format!("seed {seed}, parallelism {parallelism}");
        check(&ledgers.outputs(), &what);
        let stats = result.checkpoints.unwrap();
        assert!(stats.restarts == 3 && stats.completed >= 1, "{what}: {stats:?}");
    }
}

/// C4: a commit that fails in the middle, by a panic on the job's thread, is made again after the restart.
#[test]
fn a_commit_that_fails_is_made_again() {
    for (seed, threads) in [(1, false), (2, false), (3, true)] {
        let mut ledger = Ledger::new();
        ledger.commit_faults = Faults::at([1, 5, 8]);
        let env = environment(2, (!threads).then_some(seed)).checkpoint_storage(CheckpointStorage::Memory);
        let numbers = env.read(Generate::new(5_000, |i| i).rate(50_000.0)).uid("numbers");
        numbers.key_by(|n| n % 7).count().uid("counts").sink_to(ledger.clone()).uid("out");
        let stats = env.execute("commits fail").unwrap().checkpoints.unwrap();
        let all: Vec<(u64, u64)> =
            (0..7).flat_map(|key| (1..=(4_999 - key) / 7 + 1).map(move |count| (key, count))).collect();
        same(&ledger.records(), &all, &format!("seed {seed}"));
        assert_eq!((stats.restarts, ledger.commit_faults.left()), (3, 0), "seed {seed}");
    }
}

/// C1: a stream that is split and comes together again within a task's reach, and one that joins two inputs: the faster
/// side waits for the slower one at a barrier.
#[test]
fn diamonds_and_joint_inputs_are_aligned() {
    struct Both {
        left: ValueState<u64>,
        right: ValueState<u64>,
    }
    impl KeyedCoProcessFunction<u64, u64, u64, (u64, u64, u64)> for Both {
        fn process_left(
            &mut self,
            n: u64,
            ctx: &mut KeyedContext<u64>,
            out: &mut Collector<'_, (u64, u64, u64)>,
        ) -> UserResult {
            let left = self.left.get(ctx).copied().unwrap_or(0) + 1;
            self.left.set(ctx, left);
            out.emit((n % 7, 1, left));
            Ok(())
        }
        fn process_right(
            &mut self,
            n: u64,
            ctx: &mut KeyedContext<u64>,
            out: &mut Collector<'_, (u64, u64, u64)>,
        ) -> UserResult {
            let right = self.right.get(ctx).copied().unwrap_or(0) + 1;
            self.right.set(ctx, right);
            out.emit((n % 7, 2, right));
            Ok(())
        }
    }
    const NUMBERS: u64 = 7_000;
    for seed in 300..312 {
        let parallelism = 1 + seed as usize % 3;
        let ledger = Ledger::new();
        let env = environment(parallelism, Some(seed))
            .checkpoint_storage(CheckpointStorage::Memory)
            .checkpoint_max_concurrent(1 + seed as usize % 2);
        let numbers = env.read(Generate::new(NUMBERS, |i| i).rate(70_000.0)).uid("numbers");
        let faults = Faults::at([2_000 + seed * 2, 4_000 + seed * 2]);
        let slow = numbers.try_map(move |n| faults.check().map(|()| n));
        let diamond = numbers.filter(|_| true).union(&[&slow]).map(|n| n);
        let (left, right) = (diamond.key_by(|n| n % 7), numbers.key_by(|n| n % 7));
        let both = left.connect(&right);
        both.process(|states| Both { left: states.value("left"), right: states.value("right") })
            .uid("both")
            .sink_to(ledger.clone())
            .uid("out");
        let stats = env.execute("diamond").unwrap().checkpoints.unwrap();
        let mut all = Vec::new();
        for key in 0..7 {
            all.extend((1..=2 * NUMBERS / 7).map(|count| (key, 1, count)));
            all.extend((1..=NUMBERS / 7).map(|count| (key, 2, count)));
        }
        same(&ledger.records(), &all, &format!("seed {seed}, parallelism {parallelism}, {stats:?}"));
        assert!(stats.restarts == 2 && stats.restored > 0, "seed {seed}: {stats:?}");
    }
}

/// C1, C2, C12: the same on threads and under the clock of the machine.
#[test]
fn failures_on_threads_leave_no_trace() {
    for seed in 100..104 {
        let parallelism = 1 + seed as usize % 3;
        let strikes = strikes(seed);
        let ledgers = Ledgers::new(&strikes);
        let env = environment(parallelism, None).checkpoint_storage(CheckpointStorage::Memory);
        build(&env, &strikes, &ledgers);
        let result = env.execute("on threads").unwrap();
        let what = format!("seed {seed}, parallelism {parallelism}");
        check(&ledgers.outputs(), &what);
        let stats = result.checkpoints.unwrap();
        assert!(stats.restarts >= 3 && stats.completed >= 1, "{what}: {stats:?}");
    }
}

/// The same seed, the same trace: attempts and all.
#[test]
fn a_simulated_failure_can_be_replayed() {
    let run = |seed| {
        let strikes = strikes(seed);
        let ledgers = Ledgers::new(&strikes);
        let env = environment(2, Some(seed)).checkpoint_storage(CheckpointStorage::Memory);
        build(&env, &strikes, &ledgers);
        let result = env.execute("replayed").unwrap();
        (result.trace.unwrap(), result.checkpoints.unwrap(), ledgers.outputs())
    };
    for seed in [3, 8] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(3).0, run(8).0);
}

/// C12: if nothing is said, a job with checkpoints survives what passes and ends with what fails again and again; a job
/// without them ends with its first failure.
#[test]
fn without_a_strategy_a_job_with_checkpoints_restarts() {
    let run = |checkpoints: bool, failures: u64| {
        let env = Environment::new().parallelism(1).driver(Driver::Simulation { seed: 1 });
        let env = match checkpoints {
            true => env
                .checkpoint_interval(Duration::from_millis(10))
                .checkpoint_storage(CheckpointStorage::Memory),
            false => env,
        };
        let faults = Faults::at(0..failures);
        let out = Ledger::new();
        let numbers = env.read(Generate::new(100, |i| i).rate(10_000.0));
        let counted = faults.clone();
        numbers.try_map(move |n| counted.check().map(|()| n)).sink_to(out.clone());
        let ended = env.execute("a job").map(|result| result.checkpoints.map_or(0, |stats| stats.restarts));
        assert!(ended.is_err() || out.records() == (0..100).collect::<Vec<u64>>());
        (ended.map_err(|e| e.to_string()), failures - faults.left() as u64)
    };
    assert_eq!(run(true, 3), (Ok(3), 3));
    let (ended, failures) = run(true, 1_000);
    assert!(ended.is_err_and(|e| e.contains("a fault")));
    assert_eq!(failures, 61);
    assert_eq!(run(false, 0).0, Ok(0));
    let (ended, failures) = run(false, 3);
    assert!(ended.is_err() && failures == 1);
}

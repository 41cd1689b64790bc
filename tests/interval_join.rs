//! Interval joins as whole jobs: both modes and drivers, several parallelisms, against a nested loop.

#[path = "common/random.rs"]
#[allow(dead_code, reason = "each test uses its share of it")]
mod random;

use mainstem::prelude::*;
use random::Random;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

const DISORDER: i64 = 40;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Event {
    key: u32,
    at: i64,
    id: u64,
}

/// A type of its own, so that sides cannot be mistaken for each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Other(Event);

/// Left id, right id, timestamp of the result.
type Row = (Option<u64>, Option<u64>, Option<i64>);

/// Emits a watermark behind every record.
struct Punctuated {
    highest: i64,
}

impl<T> WatermarkGenerator<T> for Punctuated {
    fn on_event(&mut self, _: &T, timestamp: i64, output: &mut WatermarkOutput) {
        self.highest = self.highest.max(timestamp);
        output.emit(self.highest - DISORDER - 1);
    }
    fn on_periodic_emit(&mut self, _: &mut WatermarkOutput) {}
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Inner,
    Left,
    Right,
    Full,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    kind: Kind,
    records: (u64, u64),
    keys: usize,
    lower: i64,
    upper: i64,
    lower_exclusive: bool,
    upper_exclusive: bool,
    punctuated: bool,
}

fn event(seed: u64, side: u64, id: u64, keys: usize) -> Event {
    let mut random = Random::new(seed << 33 ^ side << 32 ^ id);
    // Some keys are on one side only.
    let key = random.below(keys) as u32 + side as u32;
    Event { key, at: id as i64 * 3 + random.below(DISORDER as usize + 1) as i64 - 500, id }
}

fn strategy<T: 'static>(punctuated: bool) -> WatermarkStrategy<T> {
    match punctuated {
        true => WatermarkStrategy::generator(|| Punctuated { highest: i64::MIN / 2 }),
        false => WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(DISORDER as u64)),
    }
}

fn run(case: Case, env: &Environment) -> mainstem::Result<Vec<Row>> {
    let Case { seed, keys, punctuated, .. } = case;
    let left = env
        .generate(case.records.0, move |i| event(seed, 0, i, keys))
        .assign_timestamps(strategy(punctuated).timestamp(|left: &Event| left.at))
        .key_by(|left| left.key);
    let right = env
        .generate(case.records.1, move |i| Other(event(seed, 1, i, keys)))
        .assign_timestamps(strategy(punctuated).timestamp(|right: &Other| right.0.at))
        .key_by(|right| right.0.key);
    let mut joined = left.interval_join(&right).between(case.lower, case.upper);
    if case.lower_exclusive {
        joined = joined.lower_bound_exclusive();
    }
    if case.upper_exclusive {
        joined = joined.upper_bound_exclusive();
    }
    let pairs = match case.kind {
        Kind::Inner => joined.apply(|l, r| (Some(l.id), Some(r.0.id))),
        Kind::Left => joined.apply_left(|l, r| (Some(l.id), r.map(|r| r.0.id))),
        Kind::Right => joined.apply_right(|l, r| (l.map(|l| l.id), Some(r.0.id))),
        Kind::Full => joined.apply_full(|l, r| (l.map(|l| l.id), r.map(|r| r.0.id))),
    };
    let rows = pairs.flat_map(|(l, r), out| {
        let at = out.timestamp();
        out.emit((l, r, at));
    });
    let mut rows = rows.execute_and_collect("joined")?.into_vec()?;
    rows.sort();
    Ok(rows)
}

fn nested_loop(case: Case) -> Vec<Row> {
    let side = |side, n| (0..n).map(|i| event(case.seed, side, i, case.keys)).collect::<Vec<_>>();
    let (left, right) = (side(0, case.records.0), side(1, case.records.1));
    let mut found = (vec![false; left.len()], vec![false; right.len()]);
    let mut rows = Vec::new();
    for (i, l) in left.iter().enumerate() {
        for (j, r) in right.iter().enumerate() {
            let distance = r.at - l.at;
            let above = distance > case.lower || distance == case.lower && !case.lower_exclusive;
            let below = distance < case.upper || distance == case.upper && !case.upper_exclusive;
            if l.key == r.key && above && below {
                rows.push((Some(l.id), Some(r.id), Some(l.at.max(r.at))));
                (found.0[i], found.1[j]) = (true, true);
            }
        }
    }
    if matches!(case.kind, Kind::Left | Kind::Full) {
        rows.extend(left.iter().zip(&found.0).filter(|x| !x.1).map(|(l, _)| (Some(l.id), None, Some(l.at))));
    }
    if matches!(case.kind, Kind::Right | Kind::Full) {
        rows.extend(right.iter().zip(&found.1).filter(|x| !x.1).map(|(r, _)| (None, Some(r.id), Some(r.at))));
    }
    rows.sort();
    rows
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn random_case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let (lower, upper) = loop {
        let bounds = (random.below(300) as i64 - 200, random.below(300) as i64 - 100);
        if bounds.0 + 2 <= bounds.1 {
            break bounds;
        }
    };
    Case {
        seed,
        kind: random.pick(&[Kind::Inner, Kind::Left, Kind::Right, Kind::Full]),
        records: (random.below(1500) as u64, random.below(1500) as u64),
        keys: random.pick(&[1, 7, 60, 1000]),
        lower,
        upper,
        lower_exclusive: random.one_in(3),
        upper_exclusive: random.one_in(3),
        punctuated: random.one_in(2),
    }
}

/// J3, M8: every way to run the job gives the rows of a nested loop.
#[test]
fn j3_jobs_give_what_a_nested_loop_gives() {
    let first = variable("MAINSTEM_TEST_SEED", 1);
    for seed in first..first + variable("MAINSTEM_TEST_CASES", 25) {
        println!("MAINSTEM_TEST_SEED={seed} MAINSTEM_TEST_CASES=1");
        let case = random_case(seed);
        let expected = nested_loop(case);
        for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
            for parallelism in 1..=3 {
                for driver in [Driver::Threads, Driver::Simulation { seed }] {
                    let env = Environment::new().execution_mode(mode).parallelism(parallelism).driver(driver);
                    let rows = run(case, &env).unwrap_or_else(|e| panic!("{e}: {case:?}"));
                    assert!(
                        rows == expected,
                        "{mode} {parallelism} {driver:?}: {} rows for {} in {case:?}",
                        rows.len(),
                        expected.len()
                    );
                }
            }
        }
    }
}

fn inner(case_of: impl FnOnce(&mut Case)) -> Case {
    let mut case = Case {
        seed: 1,
        kind: Kind::Inner,
        records: (10, 10),
        keys: 1,
        lower: 0,
        upper: 10,
        lower_exclusive: false,
        upper_exclusive: false,
        punctuated: false,
    };
    case_of(&mut case);
    case
}

/// J3: bounds that join nothing are found before anything runs, and so are streams of two environments.
#[test]
fn j3_mistakes_are_found_in_the_plan() {
    let error = |case| run(case, &Environment::new()).unwrap_err().to_string();
    let above = error(inner(|case| (case.lower, case.upper) = (5, 4)));
    assert!(above.contains("'interval_join': lower bound above upper"), "{above}");
    let empty = error(inner(|case| (case.lower, case.upper, case.lower_exclusive) = (5, 5, true)));
    assert!(empty.contains("leaves no millisecond"), "{empty}");
    let (here, there) = (Environment::new(), Environment::new());
    let left = here.generate(10, |i| i).key_by(|n| *n);
    let right = there.generate(10, |i| i).key_by(|n| *n);
    left.interval_join(&right).between(0, 1).apply(|l, r| l + r).sink_to(DiscardSink);
    let apart = here.execute("two").unwrap_err().to_string();
    assert!(apart.contains("different environments"), "{apart}");
}

/// J3: event time only.
#[test]
fn j3_records_without_timestamps_are_refused() {
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        let env = Environment::new().execution_mode(mode).parallelism(2);
        let timed = env.read(Generate::new(10, |i| i).timestamps(|n| *n as i64)).key_by(|n| *n);
        let plain = env.generate(10, |i| i).key_by(|n| *n);
        timed.interval_join(&plain).between(0, 1).apply(|l, r| l + r).sink_to(DiscardSink);
        let error = env.execute("plain").unwrap_err().to_string();
        assert!(error.contains("right input have none"), "{mode}: {error}");
    }
}

/// J3: late records are counted, or go where the program says. Whichever input comes last with its second record, both
/// are at 1000 by then, and its third is late.
#[test]
fn j3_late_records_are_counted_or_have_outputs() {
    let late_left = SideOutput::<(u8, i64)>::new("late left");
    let late_right = SideOutput::<(u8, i64)>::new("late right");
    let joined = |env: &Environment, tagged: bool| {
        let stream = |third: i64| {
            env.from_iter([0, 1000, third, 2000].map(|at| (0, at)))
                .assign_timestamps(strategy(true).timestamp(|record: &(u8, i64)| record.1))
                .parallelism(1)
                .key_by(|record| record.0)
        };
        let joined = stream(10).interval_join(&stream(20)).between(-5, 5);
        let joined = match tagged {
            true => joined.late_left_to(&late_left).late_right_to(&late_right),
            false => joined,
        };
        joined.apply(|l, r| (l.1, r.1))
    };
    for parallelism in 1..=2 {
        let env = Environment::new().parallelism(parallelism);
        let joined_with_outputs = joined(&env, true);
        let late = joined_with_outputs
            .side_output(&late_left)
            .union(&[&joined_with_outputs.side_output(&late_right)]);
        let late = late.map(|record| record.1).execute_and_collect("late").unwrap().into_vec().unwrap();
        assert!(!late.is_empty() && late.iter().all(|at| [10, 20].contains(at)), "{late:?}");

        let env = Environment::new().parallelism(parallelism);
        joined(&env, false).sink_to(DiscardSink);
        let result = env.execute("dropped").unwrap();
        let counters = &result.operator("interval_join").unwrap().counters;
        let dropped = counters.iter().find(|(name, _)| *name == "late_records_dropped").unwrap().1;
        assert!((1..=2).contains(&dropped), "{dropped}");
    }
}

/// Seconds of processor time that this process has used.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Not a test: how many events a second a join of two streams takes, sources and shuffle included.
#[test]
#[ignore = "measures"]
fn measure() {
    let events = variable("EVENTS", 10_000_000);
    let keys = variable("KEYS", 100_000);
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        for kind in [Kind::Inner, Kind::Full] {
            let env = Environment::new().execution_mode(mode).parallelism(2);
            let stream = |seed: u64| {
                let records = Generate::new(events, move |i| {
                    let hash = Random::new(seed << 40 ^ i).next() >> 1;
                    // 100,000 events a second.
                    ((hash % keys) as u32, i as i64 / 100, i)
                });
                env.read(records)
                    .assign_timestamps(
                        WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(10))
                            .timestamp(|record: &(u32, i64, u64)| record.1),
                    )
                    .key_by(|record| record.0)
            };
            let (left, right) = (stream(0), stream(1));
            let joined = left.interval_join(&right).between(-1000, 1000);
            let joined = match kind {
                Kind::Inner => joined.apply(|l, r| l.2 ^ r.2),
                _ => joined.apply_full(|l, r| l.map_or(0, |l| l.2) ^ r.map_or(0, |r| r.2)),
            };
            joined.sink_to(DiscardSink);
            let (start, before) = (Instant::now(), processor_seconds());
            let result = env.execute("measure").unwrap();
            let seconds = start.elapsed().as_secs_f64();
            let processor = processor_seconds() - before;
            let join = result.operator("interval_join").unwrap();
            println!(
                "{mode} {kind:?}: {seconds:.2} s, {:.2} M events/s; {processor:.2} s of processors, which is {:.2} M \
                 events/s on two that are free; {} results",
                2.0 * events as f64 / seconds / 1e6,
                4.0 * events as f64 / processor / 1e6,
                join.records_out
            );
        }
    }
}

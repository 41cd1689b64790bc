//! W1 to W9: event time comes from the data, and how fast the data comes does not matter.

use mainstem::prelude::*;
use mainstem::testing::{Event, Harness, Probe, Script, ScriptedSource};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A simulated job: pauses pass at once.
fn simulated(parallelism: usize, seed: u64) -> Environment {
    let driver = Driver::Simulation { seed };
    Environment::new().execution_mode(ExecutionMode::Streaming).parallelism(parallelism).driver(driver)
}

fn millis(n: &i64) -> i64 {
    *n
}

fn monotonous() -> WatermarkStrategy<i64> {
    WatermarkStrategy::monotonous().timestamp(millis)
}

/// Emits each record with the watermark it finds.
#[derive(Clone)]
struct Seen;

impl ProcessFunction<i64, (i64, i64)> for Seen {
    fn process(
        &mut self,
        n: i64,
        ctx: &ProcessContext<'_>,
        out: &mut Collector<'_, (i64, i64)>,
    ) -> UserResult {
        out.emit((n, ctx.watermark()));
        Ok(())
    }
}

/// What the watermark was when each record came, and all watermarks behind everything.
fn run(env: &Environment, stream: &DataStream<i64>) -> (Vec<(i64, i64)>, Vec<i64>) {
    let probe = Probe::on(&stream.process(Seen).parallelism(1));
    env.execute("event time").unwrap();
    (probe.take(), probe.watermarks())
}

fn found(seen: &[(i64, i64)], record: i64) -> i64 {
    seen.iter().find(|(n, _)| *n == record).unwrap().1
}

/// The records of a split, each a second before the next.
fn slow(from: i64, count: i64) -> Script<i64> {
    (0..count).fold(Script::new(), |script, i| script.record(from + i).pause(SECOND))
}

/// W1: records as late as the disorder allows come before what waits for them, however fast they come.
#[test]
fn w1_arrival_speed_does_not_matter() {
    let strategy =
        || WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(50)).timestamp(millis);
    let events = |pause_every: usize, seed: u64| {
        let mut script = Script::new();
        for i in 0..300i64 {
            // Out of order within 40 ms.
            script = script.record(i * 10 + (i * 7 % 5) * 10 - 20);
            if pause_every > 0 && (i as usize).is_multiple_of(pause_every) {
                script = script.pause(SECOND);
            }
        }
        let env = simulated(1, seed);
        let stream = env.read(ScriptedSource::new([script])).assign_timestamps(strategy());
        let probe = Probe::on(&stream);
        env.execute("speed").unwrap();
        probe.take_events()
    };
    let mut all = Vec::new();
    for (pause_every, seed) in [(0, 1), (1, 2), (7, 3), (50, 4)] {
        let mut watermark = i64::MIN;
        let mut records = Vec::new();
        for event in events(pause_every, seed) {
            match event {
                Event::Watermark(to) => {
                    assert!(to > watermark);
                    watermark = to;
                }
                Event::Record(n, timestamp) => {
                    assert_eq!(timestamp, Some(n));
                    assert!(n > watermark, "{n} is late at {watermark}");
                    records.push(n);
                }
            }
        }
        all.push(records);
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]) && all[0].len() == 300);
}

/// W2: the watermark is the highest timestamp less the disorder, less one.
#[test]
fn w2_bounded_disorder() {
    let strategy = WatermarkStrategy::bounded_out_of_orderness(SECOND).timestamp(millis);
    for behind_a_source in [true, false] {
        let strategy = strategy.clone();
        let mut harness = Harness::new(move |n: DataStream<i64>| {
            if behind_a_source {
                n.assign_timestamps(strategy)
            } else {
                n.map(|n| n).assign_timestamps(strategy)
            }
        });
        harness.push_all([5_000, 9_000, 7_000]).unwrap();
        let expected = [5_000, 9_000, 7_000].map(|n| (n, Some(n)));
        assert_eq!(harness.watermarks(), [7_999]);
        assert_eq!(harness.take_records(), expected);
        harness.push(8_000).unwrap();
        assert_eq!(harness.watermarks(), [7_999]);
        harness.push(9_001).unwrap();
        assert_eq!(harness.watermarks(), [7_999, 8_000]);
        harness.watermark(20_000).unwrap();
        assert_eq!(harness.watermarks(), [7_999, 8_000], "the strategy alone makes watermarks");
        harness.push_all([i64::MIN, i64::MIN + 1]).unwrap();
        harness.end().unwrap();
        assert_eq!(harness.watermarks(), [7_999, 8_000, i64::MAX]);
    }
    let mut harness = Harness::new(|n: DataStream<i64>| n.assign_timestamps(monotonous()));
    harness.push(5_000).unwrap();
    assert_eq!(harness.watermarks(), [4_999]);
    let endless = WatermarkStrategy::bounded_out_of_orderness(Duration::MAX).timestamp(millis);
    let mut harness = Harness::new(|n: DataStream<i64>| n.assign_timestamps(endless));
    harness.push_all([i64::MIN, -5]).unwrap();
    assert!(harness.watermarks().is_empty());
}

/// Promises what a record says; a negative record is a marker for its opposite.
struct Markers;

impl WatermarkGenerator<i64> for Markers {
    fn on_event(&mut self, n: &i64, _: i64, output: &mut WatermarkOutput) {
        if *n < 0 {
            output.emit(-n);
        }
    }
    fn on_periodic_emit(&mut self, _: &mut WatermarkOutput) {}
}

/// W3: a punctuated generator emits behind its marker, and nothing that does not exceed what went out before.
#[test]
fn w3_punctuated() {
    for behind_a_source in [true, false] {
        let mut harness = Harness::new(move |n: DataStream<i64>| {
            let strategy = WatermarkStrategy::generator(|| Markers).timestamp(|n: &i64| n.abs());
            if behind_a_source {
                n.assign_timestamps(strategy)
            } else {
                n.map(|n| n).assign_timestamps(strategy)
            }
        });
        harness.push_all([1, 2, -2, 3, -1, 4, -4, -4]).unwrap();
        let expected = [
            Event::Record(1, Some(1)),
            Event::Record(2, Some(2)),
            Event::Record(-2, Some(2)),
            Event::Watermark(2),
            Event::Record(3, Some(3)),
            Event::Record(-1, Some(1)),
            Event::Record(4, Some(4)),
            Event::Record(-4, Some(4)),
            Event::Watermark(4),
            Event::Record(-4, Some(4)),
        ];
        assert_eq!(harness.take_events(), expected, "{behind_a_source}");
    }
}

/// W3: a periodic generator is asked at every interval of processing time, and emits only what is higher.
#[test]
fn w3_periodic() {
    for behind_a_source in [true, false] {
        let env = simulated(1, 1).auto_watermark_interval(SECOND);
        // Within the first interval nothing but the first watermark goes out; pauses let intervals pass.
        let script = Script::new()
            .record(10)
            .pause(SECOND / 10)
            .record(20)
            .pause(SECOND / 10)
            .record(30)
            .pause(2 * SECOND)
            .record(25)
            .pause(3 * SECOND)
            .record(40)
            .pause(SECOND);
        let stream = env.read(ScriptedSource::new([script]));
        let stream = if behind_a_source { stream } else { stream.map(|n| n) };
        let (seen, watermarks) = run(&env, &stream.assign_timestamps(monotonous()));
        assert_eq!(watermarks, [9, 29, 39, i64::MAX], "{behind_a_source}");
        assert_eq!(seen, [(10, i64::MIN), (20, 9), (30, 9), (25, 29), (40, 29)], "{behind_a_source}");
    }
}

/// W4: the lowest of the streams that meet counts; it never goes back, and goes on behind its effects.
#[test]
fn w4_minimum_of_a_union() {
    let scripts = [
        Script::new()
            .record_at(1, 10)
            .watermark(20)
            .pause(SECOND)
            .record_at(2, 50)
            .watermark(60)
            .pause(9 * SECOND),
        Script::new()
            .watermark(5)
            .pause(2 * SECOND)
            .record_at(3, 30)
            .watermark(40)
            .pause(SECOND)
            .watermark(80)
            .pause(SECOND)
            .record_at(4, 90),
    ];
    for parallelism in [1, 3] {
        for seed in 0..5 {
            let env = simulated(parallelism, seed);
            let [a, b] = scripts.clone().map(|script| env.read(ScriptedSource::new([script])).parallelism(1));
            let (seen, watermarks) = run(&env, &a.union(&[&b]));
            assert_eq!(watermarks, [5, 40, 60, i64::MAX], "{parallelism} {seed}");
            assert_eq!((found(&seen, 3), found(&seen, 4)), (5, 60), "{parallelism} {seed}");
        }
    }
}

/// W4: watermarks of a chain pass each operator behind what it made of the records before.
#[test]
fn w4_behind_its_effects() {
    let mut harness = Harness::new(|n: DataStream<i64>| {
        n.flat_map(|n, out| out.extend(n..n + 3_000)).map(|n| n).key_by(|n| n % 3).count()
    });
    harness.push_at(0, 1).unwrap();
    harness.watermark(1).unwrap();
    let events = harness.take_events();
    assert_eq!((events.len(), events.last()), (3_001, Some(&Event::Watermark(1))));
}

/// Three splits of one subtask or of several, of which two never have a record: the classic trap.
fn three_splits(
    parallelism: usize,
    seed: u64,
    strategy: WatermarkStrategy<i64>,
    by_split: bool,
) -> Vec<(i64, i64)> {
    let env = simulated(parallelism, seed);
    let empty = || Script::new().pause(60 * SECOND);
    let stream = env.read(ScriptedSource::new([empty(), slow(1_000, 20), empty()]));
    let stream = if by_split { stream } else { stream.map(|n| n) };
    run(&env, &stream.assign_timestamps(strategy)).0
}

/// W5: empty splits hold event time back for as long as they are not said to fall idle.
#[test]
fn w5_empty_splits() {
    for parallelism in [1, 2, 3] {
        for seed in 0..4 {
            let stuck = three_splits(parallelism, seed, monotonous(), true);
            assert!(
                stuck.iter().all(|(_, watermark)| *watermark == i64::MIN),
                "{parallelism} {seed} {stuck:?}"
            );
            let moves = three_splits(parallelism, seed, monotonous().idle_after(5 * SECOND), true);
            assert_eq!(found(&moves, 1_001), i64::MIN, "{parallelism} {seed}");
            for (record, watermark) in moves.iter().filter(|(record, _)| *record >= 1_010) {
                assert!(
                    (1_005..*record).contains(watermark),
                    "{parallelism} {seed}: {record} at {watermark}"
                );
            }
        }
    }
}

/// W5: so do subtasks in the middle of a plan, where there is one strategy for each.
#[test]
fn w5_subtasks_without_records() {
    for seed in 0..4 {
        let stuck = three_splits(3, seed, monotonous(), false);
        assert!(stuck.iter().all(|(_, watermark)| *watermark == i64::MIN), "{seed} {stuck:?}");
        let moves = three_splits(3, seed, monotonous().idle_after(5 * SECOND), false);
        for (record, watermark) in moves.iter().filter(|(record, _)| *record >= 1_010) {
            assert!((1_005..*record).contains(watermark), "{seed}: {record} at {watermark}");
        }
    }
}

/// W5: a split that has records at hand is not idle, however long nobody reads it: another one has its turn, the output
/// is full, the machine is busy.
#[test]
fn w5_records_at_hand_are_not_idleness() {
    const RECORDS: i64 = 5_000;
    let records = |from: i64| (from..from + RECORDS).fold(Script::new(), Script::record);
    for (parallelism, by_split) in [(1, true), (2, true), (2, false)] {
        for seed in 0..4 {
            let env = simulated(parallelism, seed);
            let stream = env.read(ScriptedSource::new([records(0), records(1_000_000)]));
            let stream = if by_split { stream } else { stream.map(|n| n) };
            // Shorter than the time between two turns.
            let strategy = monotonous().idle_after(Duration::from_micros(1));
            let (seen, _) = run(&env, &stream.assign_timestamps(strategy));
            let late = seen.iter().filter(|(n, watermark)| watermark >= n).count();
            assert_eq!((seen.len() as i64, late), (2 * RECORDS, 0), "{parallelism} {by_split} {seed}");
        }
    }
}

/// W5: when all fall idle the highest watermark goes out; who comes back behind it holds nothing back until it has
/// caught up.
#[test]
fn w5_all_idle_and_back() {
    let ahead = Script::new().record(100).pause(100 * SECOND);
    let behind = Script::new()
        .record(10)
        .pause(20 * SECOND)
        .record(20)
        .pause(SECOND)
        .record(21)
        .pause(SECOND)
        .record(120)
        .pause(SECOND)
        .record(121)
        .pause(20 * SECOND);
    for parallelism in [1, 2] {
        for seed in 0..4 {
            let env = simulated(parallelism, seed);
            let stream = env.read(ScriptedSource::new([ahead.clone(), behind.clone()]));
            let strategy = monotonous().idle_after(5 * SECOND);
            let (seen, watermarks) = run(&env, &stream.assign_timestamps(strategy));
            assert_eq!(watermarks, [9, 99, 119, 120, i64::MAX], "{parallelism} {seed}");
            let found = [20, 21, 121].map(|n| found(&seen, n));
            assert_eq!(found, [99, 99, 119], "{parallelism} {seed}");
        }
    }
}

/// W5: the end of one stream is not the end of one that is idle.
#[test]
fn w5_an_idle_stream_outlives_the_other() {
    for seed in 0..4 {
        let env = simulated(1, seed);
        let short = Script::new().record_at(1, 10).watermark(10).pause(10 * SECOND);
        let long = Script::new().watermark(5).idle().pause(20 * SECOND).record_at(2, 30).watermark(30);
        let [short, long] = [short, long].map(|script| env.read(ScriptedSource::new([script])));
        let (seen, watermarks) = run(&env, &short.union(&[&long]));
        assert_eq!(watermarks, [5, 10, 30, i64::MAX], "{seed} {seen:?}");
        assert_eq!(found(&seen, 2), 10);
    }
}

/// W5: idleness of what comes before a strategy ends there, as watermarks do.
#[test]
fn w5_a_strategy_of_its_own() {
    let mut harness = Harness::new(|n: DataStream<i64>| n.map(|n| n).assign_timestamps(monotonous()));
    harness.push(5).unwrap();
    harness.mark_idle().unwrap();
    assert!(!harness.is_idle());
    let mut harness =
        Harness::new(|n: DataStream<i64>| n.map(|n| n).assign_timestamps(monotonous().idle_after(SECOND)));
    harness.push(5).unwrap();
    harness.advance_processing_time(SECOND / 2).unwrap();
    assert!(!harness.is_idle());
    harness.advance_processing_time(SECOND / 2).unwrap();
    assert!(harness.is_idle());
    harness.push(4).unwrap();
    assert!(!harness.is_idle());
    assert_eq!(harness.watermarks(), [4]);
}

/// W6: each split promises for itself; a subtask the lowest of its splits, an operator the lowest of its subtasks.
#[test]
fn w6_by_split() {
    // Splits far apart from each other, each in order: one strategy for all of them would make most records late.
    let scripts = || [0, 10_000, 500, 7_000].map(|from| slow(from, 30));
    for parallelism in [1, 2, 3, 4] {
        for seed in 0..3 {
            let env = simulated(parallelism, seed);
            let stream = env.read(ScriptedSource::new(scripts())).assign_timestamps(monotonous());
            let probe = Probe::on(&stream);
            env.execute("splits").unwrap();
            let mut watermark = i64::MIN;
            let mut rose = 0;
            for event in probe.take_events() {
                match event {
                    Event::Watermark(to) => {
                        watermark = to;
                        rose += 1;
                    }
                    Event::Record(n, _) => assert!(n > watermark, "{parallelism} {seed}: {n} at {watermark}"),
                }
            }
            assert!(rose > 20, "{parallelism} {seed}: rose {rose} times");
        }
    }
}

/// W7: a source gives timestamps and watermarks itself.
#[test]
fn w7_of_the_source() {
    let script = Script::new()
        .record_at(1, 10)
        .watermark(15)
        .record_at(2, 20)
        .watermark(12)
        .watermark(25)
        .record_at(3, 7);
    let env = simulated(1, 1);
    let (seen, watermarks) = run(&env, &env.read(ScriptedSource::new([script.clone()])));
    assert_eq!(seen, [(1, i64::MIN), (2, 15), (3, 25)]);
    assert_eq!(watermarks, [15, 25, i64::MAX]);
    // A strategy without a timestamp(...) keeps those of the source.
    let env = simulated(1, 1);
    let stream = env.read(ScriptedSource::new([script]));
    let probe = Probe::on(&stream.assign_timestamps(WatermarkStrategy::monotonous()));
    env.execute("own timestamps").unwrap();
    assert_eq!(probe.take_records(), [(1, Some(10)), (2, Some(20)), (3, Some(7))]);
    let mut harness = Harness::new(|n: DataStream<i64>| n.assign_timestamps(WatermarkStrategy::monotonous()));
    let error = harness.push(1).unwrap_err().to_string();
    assert!(error.contains("timestamp(...)"), "{error}");
}

/// Promises the highest timestamp less a disorder that the data changes.
struct Adaptive {
    highest: i64,
    disorder: i64,
}

impl WatermarkGenerator<i64> for Adaptive {
    fn on_event(&mut self, n: &i64, timestamp: i64, _: &mut WatermarkOutput) {
        if *n < 0 {
            self.disorder = -n;
        } else {
            self.highest = self.highest.max(timestamp);
        }
    }
    fn on_periodic_emit(&mut self, output: &mut WatermarkOutput) {
        output.emit(self.highest.saturating_sub(self.disorder).saturating_sub(1));
    }
}

/// W8: a generator that allows more disorder than before takes no promise back.
#[test]
fn w8_adaptive() {
    for behind_a_source in [true, false] {
        let mut harness = Harness::new(move |n: DataStream<i64>| {
            let make = || Adaptive { highest: i64::MIN, disorder: 10 };
            let strategy = WatermarkStrategy::generator(make).timestamp(millis);
            if behind_a_source {
                n.assign_timestamps(strategy)
            } else {
                n.map(|n| n).assign_timestamps(strategy)
            }
        });
        for (n, expected) in [(100, 89), (-500, 89), (200, 89), (700, 199), (-1, 698), (701, 699)] {
            harness.push(n).unwrap();
            assert_eq!(harness.watermarks().last(), Some(&expected), "{behind_a_source} {n}");
        }
    }
}

/// W9: bounded input ends with the maximum, once, whatever was promised; without any promise, too.
#[test]
fn w9_the_end() {
    for parallelism in [1, 3] {
        for strategy in [None, Some(monotonous()), Some(WatermarkStrategy::no_watermarks().timestamp(millis))]
        {
            let env = simulated(parallelism, 9);
            let mut stream = env.read(ScriptedSource::new([0, 50, 90].map(|from| slow(from, 5))));
            if let Some(strategy) = &strategy {
                stream = stream.assign_timestamps(strategy.clone());
            }
            let (seen, watermarks) = run(&env, &stream);
            assert!(seen.iter().all(|(_, watermark)| *watermark < i64::MAX));
            assert_eq!(watermarks.iter().filter(|w| **w == i64::MAX).count(), 1);
            assert_eq!(watermarks.last(), Some(&i64::MAX));
        }
    }
    let env = simulated(2, 9);
    let (seen, watermarks) = run(&env, &env.read(ScriptedSource::new([])));
    assert_eq!((seen.len(), watermarks), (0, vec![i64::MAX]));
}

/// M6: BATCH keeps the timestamps of a strategy and leaves its watermarks out, those of a source and of a generator,
/// too.
#[test]
fn m6_perfect_watermarks() {
    for behind_a_source in [true, false] {
        for parallelism in [1, 2] {
            let env = simulated(parallelism, 1).execution_mode(ExecutionMode::Batch);
            let script = Script::new().record(30).record(-30).watermark(99).idle().record(10).record(20);
            let stream = env.read(ScriptedSource::new([script, slow(50, 3)]));
            let stream = if behind_a_source { stream } else { stream.map(|n| n) };
            let strategy =
                WatermarkStrategy::generator(|| Markers).timestamp(|n: &i64| n.abs()).idle_after(SECOND);
            let stamped = stream.assign_timestamps(strategy);
            let probe = Probe::on(&stamped);
            let (mut seen, watermarks) = run(&env, &stamped);
            seen.sort();
            assert_eq!(seen, [-30, 10, 20, 30, 50, 51, 52].map(|n| (n, i64::MIN)));
            assert_eq!(watermarks, [i64::MAX]);
            assert!(probe.take_records().iter().all(|(n, timestamp)| *timestamp == Some(n.abs())));
        }
    }
}

//! Windows in whole jobs: both modes, several parallelisms, both drivers, against plain computations.

use mainstem::prelude::*;
use mainstem::semantics::window::WindowAssigner;
use mainstem::testing::Harness;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Key, timestamp, amount.
type Event = (u64, i64, u64);
/// Key, start, end.
type Id = (u64, i64, i64);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Events of 7 keys over a minute or so, up to 50 ms out of order, also before 1970.
fn event(i: u64) -> Event {
    let shaken = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    // A pause now and then.
    let time = 20 * i as i64 + 900 * (i as i64 / 37) - (shaken % 50) as i64 - 20_000;
    (shaken % 7, time, i)
}

const EVENTS: u64 = 2_000;

fn events() -> Vec<Event> {
    (0..EVENTS).map(event).collect()
}

/// Every way to run a job.
fn environments() -> impl Iterator<Item = (String, Environment)> {
    let modes = [ExecutionMode::Streaming, ExecutionMode::Batch];
    let drivers = [Driver::Threads, Driver::Simulation { seed: 5 }];
    modes.into_iter().flat_map(move |mode| {
        drivers.into_iter().flat_map(move |driver| {
            (1..=3).map(move |p| {
                let env = Environment::new().execution_mode(mode).driver(driver).parallelism(p);
                (format!("{mode}, {driver:?}, parallelism {p}"), env)
            })
        })
    })
}

fn stamped(env: &Environment) -> DataStream<Event> {
    let strategy = WatermarkStrategy::bounded_out_of_orderness(ms(60)).timestamp(|e: &Event| e.1);
    env.generate(EVENTS, event).assign_timestamps(strategy)
}

fn keyed(env: &Environment) -> KeyedStream<u64, Event> {
    stamped(env).key_by(|e| e.0)
}

fn all<T: Data>(stream: &DataStream<T>) -> Vec<T> {
    stream.execute_and_collect("windows").unwrap().into_vec().unwrap()
}

fn sorted<T: Data + Ord>(stream: &DataStream<T>) -> Vec<T> {
    let mut records = all(stream);
    records.sort();
    records
}

/// Amounts by key and window, sorted, for windows of a size and slide.
fn expected(size: i64, slide: i64) -> Vec<(Id, Vec<u64>)> {
    let mut windows: BTreeMap<Id, Vec<u64>> = BTreeMap::new();
    for (key, time, amount) in events() {
        let mut start = time.div_euclid(slide) * slide;
        while start > time - size {
            windows.entry((key, start, start + size)).or_default().push(amount);
            start -= slide;
        }
    }
    windows
        .into_iter()
        .map(|(id, mut amounts)| {
            amounts.sort();
            (id, amounts)
        })
        .collect()
}

/// As [`expected`], for sessions.
fn sessions(gap: i64) -> Vec<(Id, Vec<u64>)> {
    let mut by_key: BTreeMap<u64, Vec<(i64, u64)>> = BTreeMap::new();
    events().into_iter().for_each(|(key, time, amount)| by_key.entry(key).or_default().push((time, amount)));
    let mut found: Vec<(Id, Vec<u64>)> = Vec::new();
    for (key, mut events) in by_key {
        events.sort();
        for (time, amount) in events {
            match found.last_mut() {
                Some(((k, _, end), amounts)) if *k == key && time <= *end => {
                    *end = time + gap;
                    amounts.push(amount);
                }
                _ => found.push(((key, time, time + gap), vec![amount])),
            }
        }
    }
    found.iter_mut().for_each(|(_, amounts)| amounts.sort());
    found.sort();
    found
}

/// Emits the amounts of a window, sorted.
fn amounts(key: &u64, window: Window, events: &[Event], out: &mut Collector<'_, (Id, Vec<u64>)>) {
    let mut amounts: Vec<u64> = events.iter().map(|e| e.2).collect();
    amounts.sort();
    out.emit(((*key, window.start, window.end), amounts));
}

/// X1, X2, M2: all records of tumbling and sliding windows, the same in every environment.
#[test]
fn x1_x2_m2_aligned_windows() {
    for (name, env) in environments() {
        let tumbling = keyed(&env).window(Tumbling::of(ms(1_000))).apply(amounts);
        assert_eq!(sorted(&tumbling), expected(1_000, 1_000), "{name}");
        let sliding = keyed(&env).window(Sliding::of(ms(3_000), ms(1_000))).apply(amounts);
        assert_eq!(sorted(&sliding), expected(3_000, 1_000), "{name}");
    }
}

/// X3, X10, M2: sessions, counted and with all records.
#[test]
fn x3_x10_m2_sessions() {
    let expected = sessions(500);
    assert!(expected.len() > 100 && expected.iter().any(|(_, amounts)| amounts.len() > 3));
    let counts: Vec<(Id, u64)> = expected.iter().map(|(id, amounts)| (*id, amounts.len() as u64)).collect();
    for (name, env) in environments() {
        let sessions = keyed(&env).window(Sessions::with_gap(ms(500)));
        let counted = sessions.aggregate(Count).map(|w| ((w.key, w.window.start, w.window.end), w.value));
        assert_eq!(sorted(&counted), counts, "{name}");
        assert_eq!(sorted(&sessions.apply(amounts)), expected, "{name}");
    }
}

/// X6: windows over all records have one subtask, and do not take another parallelism.
#[test]
fn x6_window_all() {
    for (name, env) in environments() {
        let sums = stamped(&env).window_all(Tumbling::of(ms(5_000))).reduce(|a, b| a.2 += b.2);
        let sums: BTreeMap<i64, u64> = all(&sums).into_iter().map(|w| (w.window.start, w.value.2)).collect();
        let mut expected = BTreeMap::new();
        events().into_iter().for_each(|e| *expected.entry(e.1.div_euclid(5_000) * 5_000).or_default() += e.2);
        assert_eq!(sums, expected, "{name}");
        let counts = stamped(&env).count_window_all(300).aggregate(Count);
        assert_eq!(all(&counts).into_iter().map(|w| w.value).collect::<Vec<_>>(), [300; 6], "{name}");
    }
    let env = Environment::new();
    stamped(&env).window_all(GlobalWindows).aggregate(Count).parallelism(2).sink_to(DiscardSink);
    let e = env.execute("x6").unwrap_err().to_string();
    assert!(e.contains("parallelism 2") && e.contains("it must be 1"), "{e}");
}

/// X4: windows of counts; in BATCH in the order of timestamps.
#[test]
fn x4_count_windows() {
    for (name, env) in environments() {
        let counted =
            keyed(&env).count_window(10).apply(|key, _, events, out| out.emit((*key, events.len())));
        let mut expected: BTreeMap<u64, usize> = BTreeMap::new();
        events().iter().for_each(|e| *expected.entry(e.0).or_default() += 1);
        let expected: Vec<(u64, usize)> =
            expected.into_iter().flat_map(|(key, n)| vec![(key, 10); n / 10]).collect();
        assert_eq!(sorted(&counted), expected, "{name}");
    }
    let env = Environment::new().execution_mode(ExecutionMode::Batch).parallelism(2);
    let lasts = keyed(&env).count_window_sliding(3, 2).apply(|key, _, events, out| {
        out.emit((*key, events.iter().map(|e| e.1).collect::<Vec<_>>()));
    });
    let mut by_key: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    events().into_iter().for_each(|e| by_key.entry(e.0).or_default().push(e.1));
    let mut expected = Vec::new();
    for (key, mut times) in by_key {
        times.sort();
        expected.extend((2..=times.len()).step_by(2).map(|n| (key, times[n.saturating_sub(3)..n].to_vec())));
    }
    expected.sort();
    assert_eq!(sorted(&lasts), expected);
}

/// X8: windows of the same size behind windows see their results in the same window.
#[test]
fn x8_consecutive_windows() {
    let expected: BTreeSet<i64> =
        expected(1_000, 1_000).into_iter().map(|((_, start, _), _)| start).collect();
    for (name, env) in environments() {
        let counts = keyed(&env).window(Tumbling::of(ms(1_000))).apply(|_, w, events, out| {
            out.emit((w.start, events.len() as u64));
        });
        let per_window = counts.window_all(Tumbling::of(ms(1_000))).apply(|_, window, counts, out| {
            assert!(counts.iter().all(|(start, _)| *start == window.start));
            out.emit((window.start, counts.iter().map(|c| c.1).sum::<u64>()));
        });
        let sums = sorted(&per_window);
        assert_eq!(sums.iter().map(|s| s.0).collect::<BTreeSet<_>>(), expected, "{name}");
        assert_eq!((sums.len(), sums.iter().map(|s| s.1).sum::<u64>()), (expected.len(), EVENTS), "{name}");
    }
}

/// X11: a function with state; X10: behind an aggregate.
#[test]
fn x10_x11_functions_with_state() {
    /// Emits key, how many windows of it have fired, and the only record.
    struct Numbered(ValueState<u64>);
    impl ProcessWindowFunction<u64, u64, (u64, u64, u64)> for Numbered {
        fn process(
            &mut self,
            key: &u64,
            ctx: &mut WindowContext,
            records: &[u64],
            out: &mut Collector<'_, (u64, u64, u64)>,
        ) -> UserResult {
            let n = self.0.update(ctx.per_key(), |n| {
                *n += 1;
                *n
            });
            let [count] = records else { return Err("an aggregate is one record".into()) };
            out.emit((*key, n, *count));
            Ok(())
        }
    }
    let mut expected: Vec<(u64, u64, u64)> = Vec::new();
    for ((key, _, _), amounts) in sessions(500) {
        let before = expected.iter().filter(|e| e.0 == key).count() as u64;
        expected.push((key, before + 1, amounts.len() as u64));
    }
    for (name, env) in environments() {
        let windows = keyed(&env).window(Sessions::with_gap(ms(500)));
        let numbered = windows.aggregate_process(Count, |states| Numbered(states.key.value("windows")));
        assert_eq!(sorted(&numbered), expected, "{name}");
    }
}

/// X15, X16, M6: late records fire again, or go to the late output, in STREAMING; in BATCH nothing is late.
#[test]
fn x15_x16_m6_late_records() {
    /// Promises after each record that nothing before it will follow.
    struct Strict;
    impl WatermarkGenerator<i64> for Strict {
        fn on_event(&mut self, _: &i64, timestamp: Timestamp, output: &mut WatermarkOutput) {
            output.emit(timestamp - 1);
        }
        fn on_periodic_emit(&mut self, _: &mut WatermarkOutput) {}
    }
    for (mode, counted, dropped) in [
        (ExecutionMode::Streaming, vec![(0, 2), (0, 3), (10, 1), (30, 1)], vec![4]),
        (ExecutionMode::Batch, vec![(0, 4), (10, 1), (30, 1)], vec![]),
    ] {
        let env = Environment::new().execution_mode(mode).parallelism(1);
        let late = SideOutput::new("late");
        let counts = env
            .from_iter([1, 2, 12, 3, 30, 4])
            .assign_timestamps(WatermarkStrategy::generator(|| Strict).timestamp(|t: &i64| *t))
            .key_by(|_| 'k')
            .window(Tumbling::of(ms(10)))
            .allowed_lateness(ms(10))
            .late_to(&late)
            .aggregate(Count);
        let late = counts.side_output(&late);
        let counts = counts.map(|w| (w.window.start, w.value));
        let both = counts.map(Some).union(&[&late.map(|t| (t, 0)).map(Some)]);
        let (mut seen, mut lates) = (Vec::new(), Vec::new());
        for record in all(&both).into_iter().flatten() {
            if record.1 == 0 { lates.push(record.0) } else { seen.push(record) }
        }
        assert_eq!((seen, lates), (counted, dropped), "{mode}");
    }
}

/// W1, M13: windows of the clock hold every record once, in both modes.
#[test]
fn windows_of_the_clock() {
    for (name, env) in environments() {
        let counts = keyed(&env).window(Tumbling::of(ms(5)).processing_time()).aggregate(Count);
        assert_eq!(all(&counts).iter().map(|w| w.value).sum::<u64>(), EVENTS, "{name}");
        let plain =
            env.generate(100, |i| i).key_by(|i| i % 3).window(Sessions::with_gap(ms(5)).processing_time());
        assert_eq!(all(&plain.aggregate(Count)).iter().map(|w| w.value).sum::<u64>(), 100, "{name}");
    }
}

/// J1, J2: joins and co-groups in every environment.
#[test]
fn j1_j2_joins() {
    let windows = |parity: u64| {
        let mut windows: BTreeMap<(u64, i64), Vec<u64>> = BTreeMap::new();
        for (key, time, amount) in events().into_iter().filter(|e| e.2 % 3 == parity) {
            windows.entry((key, time.div_euclid(400) * 400)).or_default().push(amount);
        }
        windows
    };
    let (lefts, rights) = (windows(0), windows(1));
    let mut pairs = Vec::new();
    for (id, lefts) in &lefts {
        for right in rights.get(id).into_iter().flatten() {
            pairs.extend(lefts.iter().map(|left| (id.0, *left, *right)));
        }
    }
    pairs.sort();
    let ids: BTreeSet<(u64, i64)> = lefts.keys().chain(rights.keys()).copied().collect();
    let groups: Vec<(u64, i64, usize, usize)> = ids
        .iter()
        .map(|id| (id.0, id.1, lefts.get(id).map_or(0, Vec::len), rights.get(id).map_or(0, Vec::len)))
        .collect();
    assert!(groups.iter().any(|g| g.2 == 0) && groups.iter().any(|g| g.3 == 0) && pairs.len() > 50);
    for (name, env) in environments() {
        let side = |parity| stamped(&env).filter(move |e| e.2 % 3 == parity).key_by(|e| e.0);
        let (left, right) = (side(0), side(1));
        let joined = left.join(&right).window(Tumbling::of(ms(400))).apply(|l, r| (l.0, l.2, r.2));
        assert_eq!(sorted(&joined), pairs, "{name}");
        let grouped =
            left.co_group(&right).window(Tumbling::of(ms(400))).apply(|key, window, lefts, rights, out| {
                out.emit((*key, window.start, lefts.len(), rights.len()));
            });
        assert_eq!(sorted(&grouped), groups, "{name}");
    }
}

/// Timestamps without a window, and records without timestamps, fail the job and name the operator.
#[test]
fn bad_records_name_the_operator() {
    for (name, env) in environments() {
        let at = env.from_iter([5, i64::MAX]);
        let strategy = WatermarkStrategy::monotonous().timestamp(|t: &i64| *t);
        let windows = at.assign_timestamps(strategy).key_by(|_| 0).window(Sessions::with_gap(ms(10)));
        windows.aggregate(Count).name("my sessions").sink_to(DiscardSink);
        let e = env.execute("bad").unwrap_err().to_string();
        assert!(e.contains("'my sessions'") && e.contains(&i64::MAX.to_string()), "{name}: {e}");
    }
    let env = Environment::new();
    let bare = env.from_iter([5]).key_by(|_| 0).window(Sessions::with_gap(ms(10))).aggregate(Count);
    bare.name("bare").sink_to(DiscardSink);
    let e = env.execute("bad").unwrap_err().to_string();
    assert!(e.contains("'bare'") && e.contains("assign_timestamps"), "{e}");
}

/// Mistakes in windows are found before anything runs.
#[test]
fn mistakes_are_found_in_the_plan() {
    fn mistake<T: Data>(build: impl FnOnce(KeyedStream<u64, Event>) -> DataStream<T>) -> String {
        let env = Environment::new();
        build(keyed(&env)).name("here").sink_to(DiscardSink);
        let e = env.explain().unwrap_err().to_string();
        assert!(e.starts_with("operator 'here': "), "{e}");
        e
    }
    struct Two(#[allow(dead_code)] ValueState<u64>);
    impl ProcessWindowFunction<u64, Event, u64> for Two {
        fn process(
            &mut self,
            _: &u64,
            _: &mut WindowContext,
            _: &[Event],
            _: &mut Collector<'_, u64>,
        ) -> UserResult {
            Ok(())
        }
    }
    let second = || Tumbling::of(ms(1_000));
    assert!(mistake(|k| k.window(Tumbling::of(ms(0))).aggregate(Count)).contains("window size is 0"));
    let standing = mistake(|k| k.window(Sliding::of(ms(10), ms(0))).aggregate(Count));
    assert!(standing.contains("window slide is 0; it must be at least 1 ms"), "{standing}");
    assert!(mistake(|k| k.window(Sessions::with_gap(ms(0))).aggregate(Count)).contains("session gap is 0"));
    assert!(mistake(|k| k.count_window(0).aggregate(Count)).contains("count trigger of 0"));
    assert!(mistake(|k| k.count_window_sliding(0, 1).aggregate(Count)).contains("keeps 0"));
    assert!(
        mistake(|k| k.window(second()).allowed_lateness(Duration::MAX).aggregate(Count)).contains("lateness")
    );
    let delta = DeltaTrigger::of(1.0, |a: &Event, b: &Event| (b.1 - a.1) as f64);
    assert!(
        mistake(|k| k.window(Sessions::with_gap(ms(1))).trigger(delta).aggregate(Count)).contains("merge")
    );
    let late = mistake(|k| k.window(second().processing_time()).allowed_lateness(ms(1)).aggregate(Count));
    assert!(late.contains("nothing is late by the clock"), "{late}");
    let twice = mistake(|k| {
        k.window(second()).process(|states| {
            states.key.value::<u64>("n");
            Two(states.window.value("n"))
        })
    });
    assert!(twice.contains("'n' is declared twice"), "{twice}");
    let merging =
        mistake(|k| k.window(Sessions::with_gap(ms(1))).process(|states| Two(states.window.value("n"))));
    assert!(merging.contains("'n' is of a window"), "{merging}");
}

/// M13, A3: explain names implementation and windows, and what the modes do differently.
#[test]
fn m13_explain_tells_of_windows() {
    let env = Environment::new();
    let windows = keyed(&env).window(Sessions::with_gap(ms(30_000)));
    windows.aggregate(Count).name("sessions").sink_to(DiscardSink);
    keyed(&env).count_window(5).aggregate(Count).name("counts").sink_to(DiscardSink);
    let by_clock = keyed(&env).window(Tumbling::of(ms(1_000)).processing_time());
    by_clock.aggregate(Count).name("clock").sink_to(DiscardSink);
    let again = keyed(&env).window(Tumbling::of(ms(1_000))).allowed_lateness(ms(5));
    again.aggregate(Count).name("again").sink_to(DiscardSink);
    let text = env.explain().unwrap();
    for expected in [
        "sessions: sessions with gap 30s",
        "general windows: global, firing every 5 records, purging",
        "general windows: tumbling 1s, firing at the end of the window, lateness 5ms",
        "'sessions' finds records late",
        "'counts' depends on the order of records",
        "'clock' uses processing time",
        "'again' may emit several results",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains("'sessions' may emit several"), "{text}");
}

/// M13: explain has a sentence for each row of the list that the plan can show, and no other.
#[test]
fn m13_explain_has_a_sentence_for_each_row() {
    let explained = |build: &dyn Fn(&Environment)| -> Vec<String> {
        let env = Environment::new();
        build(&env);
        let text = env.explain().unwrap().to_string();
        let warnings = text.split("Where the modes differ\n").nth(1).unwrap_or("");
        warnings.lines().take_while(|line| !line.is_empty()).map(|line| line.trim().to_string()).collect()
    };
    let second = || Tumbling::of(ms(1_000));
    let rolling =
        "'rolling' emits a result for each record in STREAMING and one final result for each key in BATCH";
    assert_eq!(explained(&|env| drop(keyed(env).count().name("rolling").sink_to(DiscardSink))), [rolling]);
    let behind = explained(&|env| {
        let counts = env.from_iter([1u64, 2]).key_by(|n| *n).count().name("rolling");
        counts.key_by(|count| count.0).count().name("behind").sink_to(DiscardSink);
    });
    assert_eq!(
        behind,
        [
            rolling,
            "'behind' emits a result for each record in STREAMING and one final result for each key in BATCH",
            "'behind' sees every intermediate result of 'rolling' in STREAMING and only the final ones in BATCH",
        ]
    );
    let late = "finds records late in STREAMING; in BATCH nothing is late";
    let ordered = "depends on the order of records: arrival in STREAMING, timestamps in BATCH";
    let repeated = "may emit several results for a window in STREAMING and the final one in BATCH";
    let row = |name: &str, what: &str| format!("'{name}' {what}");
    let clock = explained(&|env| {
        let windows = keyed(env).window(second().processing_time());
        windows.aggregate(Count).name("clock").sink_to(DiscardSink);
    });
    let stands = "uses processing time, which follows the clock in STREAMING and stands still in BATCH";
    assert_eq!(clock, [row("clock", stands)]);
    let once = explained(&|env| {
        drop(keyed(env).window(second()).aggregate(Count).name("once").sink_to(DiscardSink))
    });
    assert_eq!(once, [row("once", late)]);
    let again = explained(&|env| {
        let windows = keyed(env).window(second()).allowed_lateness(ms(5));
        windows.aggregate(Count).name("again").sink_to(DiscardSink);
    });
    assert_eq!(again, [row("again", late), row("again", repeated)]);
    let counted = explained(&|env| {
        drop(keyed(env).count_window(5).aggregate(Count).name("counted").sink_to(DiscardSink))
    });
    assert_eq!(counted, [row("counted", ordered)]);
    let both = explained(&|env| {
        let (a, b) = (env.from_iter([1u64]), env.from_iter([2u64]));
        a.connect(&b).co_map(|n| n, |n| n).name("both").sink_to(DiscardSink);
    });
    let interleaved = "sees its inputs as they arrive in STREAMING, and in a fixed order in BATCH";
    assert_eq!(both, [row("both", interleaved)]);
    let reads = explained(&|env| {
        let windows = keyed(env).window(second());
        windows.process(|_| Times).name("reads").sink_to(DiscardSink);
    });
    let watermark =
        "may read the watermark, which rises in STREAMING and stands at its minimum until the end in BATCH";
    assert_eq!(reads, [row("reads", late), row("reads", watermark)]);
    assert_eq!(explained(&|env| drop(env.from_iter([1u64]).map(|n| n).sink_to(DiscardSink))), [""; 0]);
}

/// Emits what a window can know of time, and how many records it has.
struct Times;

impl ProcessWindowFunction<u64, Event, (i64, i64, usize)> for Times {
    fn process(
        &mut self,
        _: &u64,
        ctx: &mut WindowContext,
        events: &[Event],
        out: &mut Collector<'_, (i64, i64, usize)>,
    ) -> UserResult {
        out.emit((ctx.watermark(), ctx.processing_time(), events.len()));
        Ok(())
    }
}

/// X11: a window function knows the watermark and the processing time: in STREAMING those of its firing, in BATCH the minimum
/// until the key ends, and a clock that stands.
#[test]
fn x11_watermark_and_processing_time_of_a_firing() {
    let by_key = |events: DataStream<Event>| events.key_by(|event| event.0);
    let mut harness = Harness::new(|events| {
        by_key(events).window(Tumbling::of(ms(10))).allowed_lateness(ms(100)).process(|_| Times)
    });
    harness.set_processing_time(1_000).unwrap();
    harness.push_at((1, 3, 0), 3).unwrap();
    harness.watermark(8).unwrap();
    assert_eq!(harness.take_output(), []);
    harness.set_processing_time(2_000).unwrap();
    harness.watermark(12).unwrap();
    assert_eq!(harness.take_output(), [(12, 2_000, 1)]);
    harness.set_processing_time(3_000).unwrap();
    harness.watermark(40).unwrap();
    harness.push_at((1, 4, 0), 4).unwrap();
    assert_eq!(harness.take_output(), [(40, 3_000, 2)], "a late firing has the watermark of now");
    let mut batch = Harness::batch(|events| {
        by_key(events).window(Tumbling::of(ms(10))).trigger(CountTrigger::of(2)).process(|_| Times)
    });
    batch.push_all_at([((1, 3, 0), 3), ((1, 4, 0), 4), ((1, 5, 0), 5)]).unwrap();
    batch.end().unwrap();
    let early = batch.take_output();
    assert_eq!(early.iter().map(|(mark, _, n)| (*mark, *n)).collect::<Vec<_>>(), [(i64::MIN, 2)]);
    let mut batch = Harness::batch(|events| by_key(events).window(Tumbling::of(ms(10))).process(|_| Times));
    batch.push_all_at([((1, 3, 0), 3), ((1, 14, 0), 14), ((2, 5, 0), 5)]).unwrap();
    batch.end().unwrap();
    let at_end = batch.take_output();
    assert_eq!(at_end.len(), 3);
    assert!(at_end.iter().all(|times| *times == (i64::MAX, early[0].1, 1)), "{at_end:?}");
}

/// X13: a delta trigger in a whole job fires when the amount has moved far enough since the last firing.
#[test]
fn x13_a_delta_trigger_in_whole_jobs() {
    const FAR: u64 = 25;
    let amounts: Vec<Event> = (0..400).map(|i| (i % 3, i as i64, (i * i) % 97)).collect();
    let mut expected = Vec::new();
    for key in 0..3 {
        let of_key: Vec<u64> = amounts.iter().filter(|event| event.0 == key).map(|event| event.2).collect();
        let mut last = of_key[0];
        for (i, &amount) in of_key.iter().enumerate() {
            if amount.abs_diff(last) > FAR {
                last = amount;
                expected.push((key, i as u64 + 1));
            }
        }
    }
    expected.sort();
    assert!(expected.len() > 50);
    for (name, env) in environments() {
        let moved = DeltaTrigger::of(FAR as f64, |a: &Event, b: &Event| a.2.abs_diff(b.2) as f64);
        let counts = env
            .from_iter(amounts.clone())
            .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|event: &Event| event.1))
            .key_by(|event| event.0)
            .window(GlobalWindows)
            .trigger(moved)
            .aggregate(Count)
            .map(|count| (count.key, count.value));
        assert_eq!(sorted(&counts), expected, "{name}");
    }
}

/// X3: a gap that a function gives for a record must be at least a millisecond: else the job fails, with the name of the
/// windows.
#[test]
fn x3_a_dynamic_gap_of_nothing_is_refused() {
    for (name, env) in environments() {
        let gap = |event: &Event| if event.2 == 77 { Duration::from_micros(999) } else { ms(5) };
        let windows = keyed(&env).window(Sessions::with_dynamic_gap(gap)).aggregate(Count).name("here");
        let error =
            windows.execute_and_collect("gap").and_then(|all| all.into_vec()).unwrap_err().to_string();
        assert!(error.contains("operator 'here'"), "{name}: {error}");
        assert!(error.contains("returned 999µs; a gap must be at least 1 ms"), "{name}: {error}");
    }
}

/// X3: a session of one millisecond at the smallest timestamp is not late before there is a watermark.
#[test]
fn x3_a_session_at_the_smallest_timestamp() {
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        let env = Environment::new().execution_mode(mode).parallelism(1);
        let counts = env
            .from_iter([i64::MIN])
            .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|t: &i64| *t))
            .key_by(|_| ())
            .window(Sessions::with_gap(ms(1)))
            .aggregate(Count)
            .map(|count| (count.window.start, count.value));
        assert_eq!(all(&counts), [(i64::MIN, 1)], "{mode}");
    }
}

/// X9: a hundred thousand windows of a key that are open at once end one after the other, at the same cost each.
#[test]
fn x9_very_many_open_windows() {
    const WINDOWS: u64 = 100_000;
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        let env = Environment::new().execution_mode(mode).parallelism(1);
        let strategy = WatermarkStrategy::no_watermarks().timestamp(|n: &u64| 10 * *n as i64);
        let windows = env
            .generate(WINDOWS, |n| n)
            .assign_timestamps(strategy)
            .key_by(|_| ())
            .window(Tumbling::of(ms(10)));
        assert_eq!(all(&windows.aggregate(Count)).len() as u64, WINDOWS, "{mode}");
        let records = windows.apply(|_, _, records, out| out.emit(records.len()));
        assert_eq!(all(&records).len() as u64, WINDOWS, "{mode}");
    }
}

/// Windows that merge, from before a record until after it.
#[derive(Clone)]
struct Around;

impl WindowAssigner<i64> for Around {
    type Trigger = EventTimeTrigger;

    fn default_trigger(&self) -> EventTimeTrigger {
        EventTimeTrigger
    }
    fn assign(&self, _: &i64, timestamp: i64, into: &mut Vec<Window>) -> mainstem::Result<()> {
        // The second one is a window of its own.
        into.push(Window { start: timestamp + 1_000, end: timestamp + 1_001 });
        into.push(Window { start: timestamp - 5, end: timestamp + 5 });
        Ok(())
    }
    fn time(&self) -> Option<TimeDomain> {
        Some(TimeDomain::Event)
    }
    fn merges(&self) -> bool {
        true
    }
    fn describe(&self) -> String {
        "around".to_string()
    }
}

/// X3, M2: an assigner of one's own that merges may give a record several windows, and such as start before it.
#[test]
fn x3_m2_other_windows_that_merge() {
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        let env = Environment::new().execution_mode(mode).parallelism(1);
        let windows = env
            .from_iter([0, 9])
            .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|t: &i64| *t))
            .key_by(|_| ())
            .window(Around)
            .aggregate(Count)
            .map(|count| (count.window.start, count.window.end, count.value));
        assert_eq!(sorted(&windows), [(-5, 14, 2), (1_000, 1_001, 1), (1_009, 1_010, 1)], "{mode}");
    }
}

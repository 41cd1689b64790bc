//! U1: the harness: what is pushed comes out at once, time is the test's, state can be taken and given back.

use mainstem::prelude::*;
use mainstem::testing::{
    Event, Harness, HarnessSnapshot, Probe, Script, ScriptedSource, TwoInputHarness,
    assert_same_final_results, assert_same_in_both_modes, both_modes,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// What a function does beside: calls in order.
type Calls = Arc<Mutex<Vec<&'static str>>>;

/// Emits even numbers, sends odd ones to the side output `odd`, fails at 13, panics at 14.
#[derive(Clone)]
struct Sorter {
    odd: SideOutput<u64>,
    calls: Calls,
}

impl Sorter {
    fn new() -> Sorter {
        Sorter { odd: SideOutput::new("odd"), calls: Calls::default() }
    }
}

impl ProcessFunction<u64, u64> for Sorter {
    fn open(&mut self, _: &RuntimeContext) -> UserResult {
        self.calls.lock().unwrap().push("open");
        Ok(())
    }
    fn process(&mut self, n: u64, ctx: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        ctx.runtime().counter("seen").add(1);
        match n {
            13 => return Err("unlucky".into()),
            14 => panic!("worse"),
            n if n % 2 == 0 => out.emit(n),
            n => out.emit_to(&self.odd, n),
        }
        Ok(())
    }
    fn close(&mut self) -> UserResult {
        self.calls.lock().unwrap().push("close");
        Ok(())
    }
}

/// U1: elements in, main and side outputs out, with their timestamps, watermarks between them.
#[test]
fn u1_pushes_come_out_at_once() {
    let sorter = Sorter::new();
    let odd = sorter.odd.clone();
    let calls = sorter.calls.clone();
    let mut harness =
        Harness::new(move |numbers: DataStream<u64>| numbers.process(sorter)).read_side_output(&odd);
    assert!(calls.lock().unwrap().is_empty(), "nothing runs before the first push");
    harness.push(2).unwrap();
    assert_eq!(*calls.lock().unwrap(), ["open"]);
    assert_eq!(harness.take_records(), [(2, None)]);
    harness.push_at(3, 1_000).unwrap();
    harness.push_at(4, 1_001).unwrap();
    harness.watermark(1_000).unwrap();
    harness.watermark(900).unwrap();
    harness.push_all_at([(6, 2_000), (7, 3_000)]).unwrap();
    harness.push_all([8]).unwrap();
    harness.watermark(1_500).unwrap();
    let expected = [
        Event::Record(4, Some(1_001)),
        Event::Watermark(1_000),
        Event::Record(6, Some(2_000)),
        Event::Record(8, None),
        Event::Watermark(1_500),
    ];
    assert_eq!(harness.take_events(), expected);
    assert_eq!(harness.take_side_records(&odd).unwrap(), [(3, Some(1_000)), (7, Some(3_000))]);
    assert!(harness.take_side_output(&odd).unwrap().is_empty());
    assert_eq!(harness.watermarks(), [1_000, 1_500]);
    assert_eq!(harness.counter("process", "seen"), 6);
    harness.end().unwrap();
    assert_eq!(harness.watermarks(), [1_000, 1_500, i64::MAX]);
    assert_eq!(*calls.lock().unwrap(), ["open", "close"]);
    let error = harness.push(1).unwrap_err().to_string();
    assert!(error.contains("has ended"), "{error}");
}

/// U1: errors and panics of user code come back from the call that led to them, and name the operator.
#[test]
fn u1_failures_of_user_code_are_errors() {
    for (n, expected) in [(13, "user code failed: unlucky"), (14, "user code panicked: worse")] {
        let sorter = Sorter::new();
        let calls = sorter.calls.clone();
        let mut harness =
            Harness::new(move |numbers: DataStream<u64>| numbers.process(sorter).name("sorter"));
        harness.push(2).unwrap();
        let error = harness.push(n).unwrap_err().to_string();
        assert!(error.contains("'sorter'") && error.contains(expected), "{error}");
        assert_eq!(*calls.lock().unwrap(), ["open", "close"]);
        assert!(harness.push(2).unwrap_err().to_string().contains("ended or failed"));
        assert!(harness.end().is_err() && harness.snapshot().is_err());
        assert_eq!(harness.take_output(), [2], "what came out before stays");
    }
}

/// U1: a harness that is dropped closes its functions.
#[test]
fn u1_dropped_early() {
    let sorter = Sorter::new();
    let calls = sorter.calls.clone();
    let mut harness = Harness::new(move |numbers: DataStream<u64>| numbers.process(sorter));
    harness.push(2).unwrap();
    drop(harness);
    assert_eq!(*calls.lock().unwrap(), ["open", "close"]);
}

#[test]
fn mistakes_come_back_from_the_first_call() {
    let mut harness = Harness::new(|n: DataStream<u64>| n.map(|n| n).parallelism(0).name("none"));
    let error = harness.push(1).unwrap_err().to_string();
    assert!(error.contains("'none'") && error.contains("parallelism 0"), "{error}");

    let odd = SideOutput::<u64>::new("odd");
    let mut harness = Harness::new(|n: DataStream<u64>| n.map(|n| n));
    assert!(harness.take_side_output(&odd).unwrap_err().to_string().contains("does not read"));
    harness.push(1).unwrap();
    let mut harness = harness.read_side_output(&odd);
    let error = harness.push(1).unwrap_err().to_string();
    assert!(error.contains("before the first push"), "{error}");
    let mut harness = Harness::new(|n: DataStream<u64>| n.map(|n| n)).read_side_output(&odd);
    let error = harness.take_side_output(&SideOutput::<String>::new("odd")).unwrap_err().to_string();
    assert!(error.contains("String"), "{error}");
}

fn counts(words: DataStream<String>) -> DataStream<(String, u64)> {
    words.key_by(|word| word.clone()).count()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(String::from).collect()
}

fn pairs(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(word, n)| (word.to_string(), *n)).collect()
}

/// U1: a rolling fold goes on from its snapshot; the harness that was asked goes on, too.
#[test]
fn u1_snapshot_and_restore() {
    let mut first = Harness::new(counts);
    assert!(first.snapshot().unwrap().is_empty());
    first.push_all(words("to be or not to be")).unwrap();
    first.set_processing_time(5_000).unwrap();
    let snapshot = first.snapshot().unwrap();
    assert_eq!(snapshot.operators().map(|(name, _)| name).collect::<Vec<_>>(), ["count"]);
    first.take_output();
    first.push_all(words("to")).unwrap();
    assert_eq!(first.take_output(), pairs(&[("to", 3)]));

    let stored = serde_json::to_string(&snapshot).unwrap();
    let snapshot: HarnessSnapshot = serde_json::from_str(&stored).unwrap();
    let mut second = Harness::new(counts).restore(&snapshot).unwrap();
    assert_eq!(second.processing_time(), 5_000);
    assert!(second.take_output().is_empty());
    second.push_all(words("to that not")).unwrap();
    assert_eq!(second.take_output(), pairs(&[("to", 3), ("that", 1), ("not", 2)]));
    assert_eq!(
        second.snapshot().unwrap().operators().map(|(_, state)| state.len("accumulators")).sum::<usize>(),
        5
    );
}

/// U1, C8: operators are found by their uids, wherever they stand; without one by their places.
#[test]
fn u1_restore_into_another_program() {
    let mut old = Harness::new(|w| counts(w).uid("counts"));
    old.push_all(words("to be")).unwrap();
    let snapshot = old.snapshot().unwrap();
    let longer = |w: DataStream<String>| {
        counts(w.map(|word| word.to_lowercase())).uid("counts").filter(|(_, n)| *n > 1)
    };
    let mut new = Harness::new(longer).restore(&snapshot).unwrap();
    new.push_all(words("To or")).unwrap();
    assert_eq!(new.take_output(), pairs(&[("to", 2)]));
    let error = Harness::new(counts).restore(&snapshot).err().unwrap().to_string();
    assert!(error.contains("uid 'counts'"), "{error}");

    let mut old = Harness::new(counts);
    old.push_all(words("to be")).unwrap();
    let snapshot = old.snapshot().unwrap();
    let moved = |w: DataStream<String>| counts(w.map(|word| word));
    let error = Harness::new(moved).restore(&snapshot).err().unwrap().to_string();
    assert!(error.contains("'count' at place 0") && error.contains("'map' stands there"), "{error}");
    let tail = |w: DataStream<String>| counts(w).map(|(_, n)| n);
    assert!(Harness::new(tail).restore(&snapshot).is_ok());
    let other = |n: DataStream<u64>| n.key_by(|n| *n).count();
    let mut wrong = Harness::new(other);
    wrong.push(7).unwrap();
    let error = wrong.restore(&snapshot).err().unwrap().to_string();
    assert!(error.contains("before its first push"), "{error}");
}

/// U1: the operators that fold keep their accumulators, each kind; big tables, too.
#[test]
fn u1_rolling_folds_are_restored() {
    let program = |n: DataStream<(u64, i64)>| {
        let by = n.key_by(|(key, _)| *key);
        let (sum, low) = (by.sum(|(_, n)| n), by.min(|(_, n)| n));
        sum.union(&[&low, &by.max_by(|(_, n)| n), &by.reduce(|a, b| a.1 = 10 * a.1 + b.1)])
    };
    let records = |seed: u64| (0..5_000u64).map(move |i| (i * seed % 3_000, (i * 31 % 7) as i64));
    let mut whole = Harness::new(program);
    whole.push_all(records(7)).unwrap();
    whole.take_output();
    let snapshot = whole.snapshot().unwrap();
    let mut restored = Harness::new(program).restore(&snapshot).unwrap();
    for harness in [&mut whole, &mut restored] {
        harness.push_all(records(11)).unwrap();
    }
    // In what order four streams come together depends on the batches, which grow with what an operator has seen.
    let [whole_output, restored_output] = [&mut whole, &mut restored].map(|harness| {
        let mut output = harness.take_output();
        output.sort();
        output
    });
    assert!(whole_output == restored_output);
    assert_eq!(whole.snapshot().unwrap().operators().count(), 4);
}

/// U1: two inputs: the lower watermark counts, an idle or ended input does not.
#[test]
fn u1_two_inputs() {
    let program = |left: DataStream<u64>, right: DataStream<String>| {
        left.map(|n| n.to_string()).union(&[&right]).map(|text| text + ".")
    };
    let mut harness = TwoInputHarness::new(program);
    harness.push_right("a".into()).unwrap();
    harness.push_left(1).unwrap();
    assert_eq!(harness.take_output(), ["a.", "1."]);
    harness.watermark_left(10).unwrap();
    assert!(harness.watermarks().is_empty());
    harness.watermark_right(5).unwrap();
    assert_eq!(harness.watermarks(), [5]);
    harness.mark_right_idle().unwrap();
    assert_eq!((harness.watermarks(), harness.is_idle()), (vec![5, 10], false));
    harness.mark_left_idle().unwrap();
    assert!(harness.is_idle());
    harness.push_left_at(2, 30).unwrap();
    assert!(!harness.is_idle());
    harness.end_right().unwrap();
    harness.watermark(40).unwrap();
    assert_eq!(harness.watermarks(), [5, 10, 40]);
    harness.end_left().unwrap();
    assert_eq!(harness.watermarks(), [5, 10, 40, i64::MAX]);
    harness.end().unwrap();

    let mut batch = TwoInputHarness::batch(program);
    batch.push_right("a".into()).unwrap();
    batch.push_left(1).unwrap();
    batch.watermark(5).unwrap();
    assert_eq!(batch.take_output().len(), 0);
    batch.end().unwrap();
    let mut output = batch.take_output();
    output.sort();
    assert_eq!((output, batch.watermarks()), (vec!["1.".to_string(), "a.".to_string()], vec![i64::MAX]));
}

/// U1: BATCH runs at the end, with what was pushed.
#[test]
fn u1_batch() {
    let mut harness = Harness::batch(counts);
    harness.push_all(words("to be or not to be")).unwrap();
    harness.set_processing_time(1_000).unwrap();
    harness.watermark(1).unwrap();
    assert!(harness.take_output().is_empty());
    harness.end().unwrap();
    let mut output = harness.take_output();
    output.sort();
    assert_eq!(output, pairs(&[("be", 2), ("not", 1), ("or", 1), ("to", 2)]));
    assert!(harness.push("late".into()).is_err());
    assert!(harness.snapshot().is_err());

    let odd = SideOutput::<u64>::new("odd");
    let mut harness = Harness::batch(|n: DataStream<u64>| n.process(Sorter::new())).read_side_output(&odd);
    harness.push_all([1, 2, 3]).unwrap();
    harness.end().unwrap();
    assert_eq!((harness.take_output(), harness.take_side_output(&odd).unwrap()), (vec![2], vec![1, 3]));
    assert_eq!(harness.counter("process", "seen"), 3);
    let mut harness = Harness::batch(|n: DataStream<u64>| n.process(Sorter::new()));
    harness.push_all([13]).unwrap();
    let error = harness.end().unwrap_err().to_string();
    assert!(error.contains("'process'") && error.contains("unlucky"), "{error}");
}

/// U1: many records, several tasks: nothing is left behind in channels and batches.
#[test]
fn u1_a_chain_with_shuffles_settles() {
    let mut harness = Harness::new(|n: DataStream<u64>| {
        n.rebalance()
            .map(|n| n + 1)
            .parallelism(3)
            .key_by(|n| n % 100)
            .count()
            .parallelism(2)
            .rebalance()
            .map(|x| x)
    });
    harness.push_all(0..100_000).unwrap();
    let output = harness.take_output();
    assert_eq!(output.len(), 100_000);
    assert_eq!(output.iter().filter(|(_, n)| *n == 1_000).count(), 100);
    harness.watermark(77).unwrap();
    assert_eq!(harness.watermarks(), [77]);
    let snapshot = harness.snapshot().unwrap();
    assert_eq!(snapshot.operators().count(), 2, "one for each subtask that keeps something");
    harness.end().unwrap();
}

/// U1: watermarks and times at the ends of their range.
#[test]
fn u1_extremes() {
    let strategy = || WatermarkStrategy::monotonous().timestamp(|n: &i64| *n).idle_after(SECOND);
    let mut harness = Harness::new(|n: DataStream<i64>| n.map(|n| n).assign_timestamps(strategy()));
    for now in [i64::MAX, i64::MIN, 0, i64::MAX] {
        harness.set_processing_time(now).unwrap();
        assert_eq!(harness.processing_time(), now);
    }
    harness.push_all([i64::MIN, 5, i64::MAX]).unwrap();
    assert_eq!(harness.watermarks(), [i64::MAX - 1]);
    harness.advance_processing_time(Duration::MAX).unwrap();
    harness.end().unwrap();
    let mut harness = Harness::new(|n: DataStream<i64>| n.map(|n| n));
    harness.watermark(i64::MIN).unwrap();
    assert!(harness.watermarks().is_empty());
    harness.watermark(i64::MAX).unwrap();
    assert_eq!(harness.watermarks(), [i64::MAX]);
    harness.push_at(1, i64::MAX).unwrap();
    harness.end().unwrap();
    assert_eq!(harness.watermarks(), [i64::MAX]);
}

/// U1: parameters reach user code.
#[test]
fn u1_parameters() {
    #[derive(Clone)]
    struct Plus(u64);
    impl ProcessFunction<u64, u64> for Plus {
        fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
            self.0 = ctx.parameters().required("plus")?.parse()?;
            Ok(())
        }
        fn process(&mut self, n: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
            out.emit(n + self.0);
            Ok(())
        }
    }
    let parameters = Parameters::from_args(["--plus", "3"].map(String::from)).unwrap();
    let mut harness =
        Harness::new_in(Environment::new().parameters(parameters), |n: DataStream<u64>| n.process(Plus(0)));
    harness.push(1).unwrap();
    assert_eq!(harness.take_output(), [4]);
    let mut harness = Harness::new(|n: DataStream<u64>| n.process(Plus(0)));
    let error = harness.push(1).unwrap_err().to_string();
    assert!(error.contains("plus") && error.contains("'process'"), "{error}");
}

/// U1, M2: programs that give the same in both modes pass, those that do not are told.
#[test]
fn u1_both_modes() {
    let records = || (0..500u64).map(|n| (n * 7 % 30, (n * 13 % 500) as i64));
    let sums = |n: DataStream<u64>| n.key_by(|n| n % 10).max(|n| n);
    let finals = assert_same_final_results(sums, records(), |n| n % 10);
    assert!(!finals.is_empty());
    let doubled = assert_same_in_both_modes(|n: DataStream<u64>| n.map(|n| n as f64 * 2.0), records());
    assert_eq!(doubled.len(), 500);
    let differ = std::panic::catch_unwind(|| assert_same_in_both_modes(sums, records())).unwrap_err();
    let text = differ.downcast_ref::<String>().unwrap();
    assert!(text.contains("only the second has") && text.contains("streaming at parallelism 1"), "{text}");
    assert!(text.contains("why:") && text.contains("compare with assert_same_final_results"), "{text}");
    let failed = std::panic::catch_unwind(|| {
        assert_same_in_both_modes(|n: DataStream<u64>| n.process(Sorter::new()), [(13, 0)])
    });
    assert!(failed.unwrap_err().downcast_ref::<String>().unwrap().contains("unlucky"));
    let both = both_modes(sums, records()).unwrap();
    assert_eq!((both.streaming.len(), both.batch.len()), (500, 10));
}

/// Promises that nothing older will come, after every record.
struct Hasty;

impl WatermarkGenerator<u64> for Hasty {
    fn on_event(&mut self, _: &u64, timestamp: i64, output: &mut WatermarkOutput) {
        output.emit(timestamp);
    }
    fn on_periodic_emit(&mut self, _: &mut WatermarkOutput) {}
}

/// U1, M13: a difference is explained: late records with their operator, a function that depends on order with the key and
/// both values.
#[test]
fn u1_both_modes_tell_why() {
    let told = |run: &(dyn Fn() + std::panic::RefUnwindSafe)| {
        let differ = std::panic::catch_unwind(run).unwrap_err();
        differ.downcast_ref::<String>().unwrap().clone()
    };
    let records = || (0..200u64).map(|n| (n * 7 % 30, (n * 13 % 200) as i64));
    let late = told(&|| {
        let windows = |n: DataStream<u64>| {
            let strategy = WatermarkStrategy::generator(|| Hasty).timestamp(|n: &u64| *n as i64);
            let windows =
                n.assign_timestamps(strategy).key_by(|_| ()).window(Tumbling::of(Duration::from_millis(10)));
            windows.aggregate(Count).name("hasty").map(|count| count.value)
        };
        assert_same_in_both_modes(windows, records());
    });
    assert!(late.contains("why:") && late.contains("'hasty' dropped"), "{late}");
    let order = told(&|| {
        // The last to arrive wins, and two subtasks send to one key.
        let last = |n: DataStream<u64>| {
            n.rebalance()
                .map(|n| (n % 2, n))
                .key_by(|pair| pair.0)
                .reduce(|last, pair| last.1 = 3 * last.1 % 1009 + pair.1)
        };
        let untimed = (0..200u64).map(|n| (n, 0));
        assert_same_final_results(last, untimed, |pair| pair.0);
    });
    assert!(order.contains("key 0 has (0, ") || order.contains("key 1 has (1, "), "{order}");
    assert!(order.contains("depend on the order"), "{order}");
}

/// U1: a scripted source is bounded input like any other: both modes, every parallelism, on threads and simulated.
#[test]
fn u1_scripted_source() {
    let pause = Duration::from_millis(1);
    let script = |from: u64| {
        let records = (from..from + 3_000).map(|n| (n, n as i64));
        Script::new()
            .records_at(records)
            .watermark(10)
            .pause(pause)
            .record_at(from, 5)
            .idle()
            .record_at(from, 9)
    };
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        for driver in [Driver::Threads, Driver::Simulation { seed: 5 }] {
            for parallelism in [1, 2, 4] {
                let env = Environment::new().execution_mode(mode).driver(driver).parallelism(parallelism);
                let probe =
                    Probe::on(&env.read(ScriptedSource::new([script(0), script(5_000), Script::new()])));
                env.execute("scripts").unwrap();
                let mut records = probe.take();
                records.sort();
                let expected = [0, 5_000]
                    .into_iter()
                    .flat_map(|from| [from, from].into_iter().chain(from..from + 3_000));
                let mut expected: Vec<u64> = expected.collect();
                expected.sort();
                assert_eq!(records, expected, "{mode} {driver:?} {parallelism}");
                let watermarks = probe.watermarks();
                assert_eq!(watermarks.last(), Some(&i64::MAX));
                assert!(mode == ExecutionMode::Streaming || watermarks.len() == 1);
            }
        }
    }
}

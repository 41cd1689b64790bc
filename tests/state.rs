//! S2 to S6: time to live of state, and operator state, in whole programs with a clock of their own.

use mainstem::prelude::*;
use mainstem::testing::{Harness, TwoInputHarness};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TTL: Duration = Duration::from_millis(100);

/// What a record asks for: the key's things are shown after it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
enum Ask {
    Show,
    Set(u32),
    Add(u32),
    Put(u32, u32),
}

/// Value, list, map entries, sum.
type Shown = (u64, Option<u32>, Vec<u32>, Vec<(u32, u32)>, Option<u32>);

struct Keeps {
    value: ValueState<u32>,
    list: ListState<u32>,
    map: MapState<u32, u32>,
    sum: ReducingState<u32>,
}

impl Keeps {
    fn new(states: &mut States, ttl: Option<StateTtl>) -> Keeps {
        let fold: fn(&mut u32, u32) = |sum, n| *sum += n;
        match ttl {
            None => Keeps {
                value: states.value("value"),
                list: states.list("list"),
                map: states.map("map"),
                sum: states.reducing("sum", fold),
            },
            Some(ttl) => {
                let mut states = states.with_ttl(ttl);
                Keeps {
                    value: states.value("value"),
                    list: states.list("list"),
                    map: states.map("map"),
                    sum: states.reducing("sum", fold),
                }
            }
        }
    }
}

impl KeyedProcessFunction<u64, (u64, Ask), Shown> for Keeps {
    fn process(
        &mut self,
        (_, ask): (u64, Ask),
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Shown>,
    ) -> UserResult {
        match ask {
            Ask::Show => {
                let map = self.map.iter(ctx).map(|(&key, &value)| (key, value)).collect();
                let value = self.value.get(ctx).copied();
                let sum = self.sum.get(ctx).copied();
                out.emit((*ctx.key(), value, self.list.get(ctx).to_vec(), map, sum));
            }
            Ask::Set(n) => {
                self.value.set(ctx, n);
                self.sum.add(ctx, n);
            }
            Ask::Add(n) => self.list.add(ctx, n),
            Ask::Put(key, value) => drop(self.map.insert(ctx, key, value)),
        }
        Ok(())
    }
}

type Keeping = Harness<(u64, Ask), Shown>;

fn keeping(ttl: Option<StateTtl>) -> Keeping {
    Harness::new(move |asks: DataStream<(u64, Ask)>| {
        asks.key_by(|ask| ask.0).process(move |states| Keeps::new(states, ttl))
    })
}

fn ttl() -> StateTtl {
    StateTtl::new(TTL)
}

fn show(harness: &mut Keeping, key: u64) -> Shown {
    harness.push((key, Ask::Show)).unwrap();
    harness.take_output().pop().unwrap()
}

/// Bytes that the operator keeps.
fn kept(harness: &mut Keeping) -> u64 {
    harness.snapshot().unwrap().operators().map(|(_, state)| state.bytes()).sum()
}

/// S2: each entry of a list and a map lives by itself; writing gives it its time again, reading only if it is to.
#[test]
fn s2_entries_expire_one_by_one() {
    for read in [false, true] {
        let update = if read { TtlUpdate::OnReadAndWrite } else { TtlUpdate::OnCreateAndWrite };
        let mut harness = keeping(Some(ttl().update(update)));
        harness
            .push_all([(1, Ask::Set(7)), (1, Ask::Add(1)), (1, Ask::Put(1, 1)), (1, Ask::Put(2, 2))])
            .unwrap();
        harness.set_processing_time(60).unwrap();
        harness.push_all([(1, Ask::Add(2)), (1, Ask::Put(2, 3))]).unwrap();
        harness.set_processing_time(99).unwrap();
        assert_eq!(show(&mut harness, 1), (1, Some(7), vec![1, 2], vec![(1, 1), (2, 3)], Some(7)));
        harness.set_processing_time(100).unwrap();
        let all = (1, Some(7), vec![1, 2], vec![(1, 1), (2, 3)], Some(7));
        let late = (1, None, vec![2], vec![(2, 3)], None);
        assert_eq!(show(&mut harness, 1), if read { all } else { late });
        harness.set_processing_time(250).unwrap();
        assert_eq!(show(&mut harness, 1), (1, None, vec![], vec![], None));
        harness.push((1, Ask::Set(5))).unwrap();
        assert_eq!(
            show(&mut harness, 1),
            (1, Some(5), vec![], vec![], Some(5)),
            "what has expired is not added to"
        );
    }
}

/// S2, S3: with the other visibility what has expired is read once more, and reading cleans it up.
#[test]
fn s3_reading_cleans_up() {
    let shows = ttl().visibility(TtlVisibility::ReturnExpiredIfNotCleanedUp).cleanup_incrementally(0, false);
    let mut harness = keeping(Some(shows));
    harness.push_all([(1, Ask::Set(7)), (1, Ask::Add(1)), (1, Ask::Put(1, 1))]).unwrap();
    harness.set_processing_time(100).unwrap();
    let full = kept(&mut harness);
    assert_eq!(show(&mut harness, 1), (1, Some(7), vec![1], vec![(1, 1)], Some(7)));
    assert!(kept(&mut harness) < full, "nothing is left of the key");
    assert_eq!(show(&mut harness, 1), (1, None, vec![], vec![], None));
}

/// S3: accesses clean up a few other keys each; with `each_record` so do calls that use no such state. Full snapshots may
/// leave out what has expired, and do not touch what is in memory.
#[test]
fn s3_clean_up_along_with_accesses_and_in_full_snapshots() {
    let filled = |ttl: StateTtl| {
        let shows = ttl.visibility(TtlVisibility::ReturnExpiredIfNotCleanedUp);
        let mut harness = keeping(Some(shows));
        harness.push_all((0..100).map(|key| (key, Ask::Set(1)))).unwrap();
        let full = kept(&mut harness);
        harness.set_processing_time(200).unwrap();
        (harness, full)
    };
    let (mut harness, full) = filled(ttl().cleanup_incrementally(0, false));
    harness.push_all((100..150).map(|key| (key, Ask::Show))).unwrap();
    assert_eq!(kept(&mut harness), full, "nobody has read them");

    let (mut harness, full) = filled(ttl().cleanup_incrementally(5, false));
    harness.push((1_000, Ask::Set(1))).unwrap();
    let after_one = kept(&mut harness);
    assert!(after_one < full);
    harness.push_all((0..30).map(|_| (1_000, Ask::Set(1)))).unwrap();
    assert!(kept(&mut harness) < full / 10);
    assert_eq!(show(&mut harness, 50), (50, None, vec![], vec![], None));

    let (mut harness, full) = filled(ttl().cleanup_incrementally(0, false).cleanup_full_snapshot());
    assert!(kept(&mut harness) < full / 2);
    assert_eq!(show(&mut harness, 50), (50, Some(1), vec![], vec![], Some(1)), "it was still there");
}

/// S2: the time of last use survives a restore, the time to live is the program's; having one or not is not exchangeable.
#[test]
fn s2_restored_state_goes_on_ageing() {
    let mut harness = keeping(Some(ttl()));
    harness.push_all([(1, Ask::Set(7)), (1, Ask::Add(1))]).unwrap();
    harness.set_processing_time(50).unwrap();
    let snapshot = harness.snapshot().unwrap();
    let mut again = keeping(Some(ttl())).restore(&snapshot).unwrap();
    again.set_processing_time(99).unwrap();
    assert_eq!(show(&mut again, 1).1, Some(7));
    again.set_processing_time(100).unwrap();
    assert_eq!(show(&mut again, 1), (1, None, vec![], vec![], None));
    let mut longer = keeping(Some(StateTtl::new(TTL * 3))).restore(&snapshot).unwrap();
    longer.set_processing_time(299).unwrap();
    assert_eq!(show(&mut longer, 1).1, Some(7));
    let error = keeping(None).restore(&snapshot).err().unwrap().to_string();
    assert!(error.contains("'value'") && error.contains("time to live"), "{error}");
    let plain = keeping(None).snapshot().unwrap();
    let mut without = keeping(None);
    without.push((1, Ask::Set(1))).unwrap();
    let error = keeping(Some(ttl())).restore(&without.snapshot().unwrap()).err().unwrap().to_string();
    assert!(error.contains("'value'") && error.contains("time to live"), "{error}");
    drop(plain);
}

/// M13: in BATCH the clock stands still, and nothing expires.
#[test]
fn m13_nothing_expires_in_batch() {
    let asks = vec![(1, Ask::Set(7)), (1, Ask::Add(1)), (1, Ask::Show)];
    let mut harness = Harness::batch(|asks: DataStream<(u64, Ask)>| {
        let slow = asks.map(|ask| {
            std::thread::yield_now();
            ask
        });
        slow.key_by(|ask| ask.0).process(|states| Keeps::new(states, Some(StateTtl::new(Duration::ZERO))))
    });
    harness.push_all(asks).unwrap();
    harness.end().unwrap();
    assert_eq!(harness.take_output(), [(1, Some(7), vec![1], vec![], Some(7))]);
}

/// What a function was called for.
type Calls = Arc<Mutex<Vec<String>>>;

/// Counts its records in a field, which operator state keeps.
struct Counts {
    seen: u64,
    kept: OperatorListState<u64>,
    calls: Calls,
}

impl KeyedProcessFunction<u64, u64, u64> for Counts {
    fn initialize_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        self.calls.lock().unwrap().push(format!("initialize {}", state.is_restored()));
        self.seen = self.kept.take(state).iter().sum();
        Ok(())
    }
    fn process(&mut self, _: u64, _: &mut KeyedContext<u64>, out: &mut Collector<'_, u64>) -> UserResult {
        self.seen += 1;
        out.emit(self.seen);
        Ok(())
    }
    fn snapshot_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        self.calls.lock().unwrap().push("snapshot".to_string());
        self.kept.set(state, vec![self.seen]);
        Ok(())
    }
}

/// S5: `initialize_state` is called once, on the first start and after a restore, which it can tell apart.
#[test]
fn s5_hooks_of_operator_state() {
    let calls = Calls::default();
    let counting = || {
        let calls = calls.clone();
        Harness::new(move |numbers: DataStream<u64>| {
            numbers.key_by(|n| *n).process(move |states| Counts {
                seen: 0,
                kept: states.operator_list("kept"),
                calls: calls.clone(),
            })
        })
    };
    let mut harness = counting();
    harness.push_all([1, 2]).unwrap();
    harness.push(3).unwrap();
    let snapshot = harness.snapshot().unwrap();
    harness.push(4).unwrap();
    assert_eq!(harness.take_output(), [1, 2, 3, 4]);
    assert_eq!(*calls.lock().unwrap(), ["initialize false", "snapshot"]);
    let mut again = counting().restore(&snapshot).unwrap();
    again.push(5).unwrap();
    assert_eq!(again.take_output(), [4]);
    assert_eq!(calls.lock().unwrap()[2..], ["initialize true"]);
    let mut idle = counting();
    idle.end().unwrap();
    assert_eq!(calls.lock().unwrap()[3..], ["initialize false"], "also where no record comes");
    // In BATCH too: before the first record of each unit of work.
    calls.lock().unwrap().clear();
    let in_batch = calls.clone();
    let mut batch = Harness::batch(move |numbers: DataStream<u64>| {
        numbers.key_by(|n| *n).process(move |states| Counts {
            seen: 0,
            kept: states.operator_list("kept"),
            calls: in_batch.clone(),
        })
    });
    batch.push_all([3, 1, 2, 1]).unwrap();
    assert_eq!(*calls.lock().unwrap(), [""; 0], "nothing runs before the input ends");
    batch.end().unwrap();
    let units = batch.take_output().iter().filter(|seen| **seen == 1).count();
    assert!(units > 0);
    let calls = calls.lock().unwrap();
    assert!(calls.len() >= units && calls.iter().all(|call| call == "initialize false"), "{calls:?}");
}

/// S4: operator state without a key; what a function cannot keep is a mistake in the plan.
#[test]
fn s4_what_cannot_be_declared_is_a_mistake() {
    struct Nothing;
    impl ProcessFunction<u64, u64> for Nothing {
        fn process(&mut self, n: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
            out.emit(n);
            Ok(())
        }
    }
    let mut harness = Harness::new(|numbers: DataStream<u64>| {
        numbers.process_with_states(|states| {
            states.value::<u64>("of a key");
            Nothing
        })
    });
    let error = harness.push(1).unwrap_err().to_string();
    assert!(error.contains("'of a key'") && error.contains("key_by"), "{error}");
}

/// Numbers the records of its left input, from a list of the subtask; the right input is another one or a broadcast one.
struct Numbers {
    next: u64,
    kept: OperatorListState<u64>,
}

impl Numbers {
    fn new(states: &mut States) -> Numbers {
        Numbers { next: 0, kept: states.operator_list("kept") }
    }
    fn take_up(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        self.next = self.kept.take(state).iter().sum();
        Ok(())
    }
    fn keep(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        self.kept.set(state, vec![self.next]);
        Ok(())
    }
    fn number(&mut self, out: &mut Collector<'_, u64>) -> UserResult {
        self.next += 1;
        out.emit(self.next);
        Ok(())
    }
}

impl CoProcessFunction<u64, String, u64> for Numbers {
    fn initialize_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        self.take_up(state)
    }
    fn snapshot_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        self.keep(state)
    }
    fn process_left(&mut self, _: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        self.number(out)
    }
    fn process_right(&mut self, _: String, _: &ProcessContext<'_>, _: &mut Collector<'_, u64>) -> UserResult {
        Ok(())
    }
}

impl BroadcastProcessFunction<u64, String, u64> for Numbers {
    fn initialize_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        self.take_up(state)
    }
    fn snapshot_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        self.keep(state)
    }
    fn process(&mut self, _: u64, _: &ReadOnlyContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        self.number(out)
    }
    fn process_broadcast(
        &mut self,
        _: String,
        _: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, u64>,
    ) -> UserResult {
        Ok(())
    }
}

/// S4, S5: functions over two inputs without a key keep lists of the subtask, too.
#[test]
fn s4_lists_of_functions_over_two_inputs() {
    type Program = fn(DataStream<u64>, DataStream<String>) -> DataStream<u64>;
    let programs: [Program; 2] = [
        |left, right| left.connect(&right).process_with_states(Numbers::new),
        |left, right| left.connect_broadcast(&right).process(Numbers::new),
    ];
    for program in programs {
        let mut harness = TwoInputHarness::new(program);
        harness.push_left(7).unwrap();
        harness.push_right("b".to_string()).unwrap();
        harness.push_left(7).unwrap();
        let snapshot = harness.snapshot().unwrap();
        let mut again = TwoInputHarness::new(program).restore(&snapshot).unwrap();
        again.push_left(7).unwrap();
        assert_eq!(again.take_output(), [3]);
        let mut batch = TwoInputHarness::batch(program);
        batch.push_left(7).unwrap();
        batch.end().unwrap();
        assert_eq!(batch.take_output(), [1]);
    }
}

/// M13: state that expires by the clock is named in the plan, in windows, too.
#[test]
fn m13_explain_tells_of_a_time_to_live() {
    struct Seen(ValueState<u64>);
    impl KeyedProcessFunction<u64, u64, u64> for Seen {
        fn process(&mut self, n: u64, ctx: &mut KeyedContext<u64>, _: &mut Collector<'_, u64>) -> UserResult {
            self.0.set(ctx, n);
            Ok(())
        }
    }
    impl ProcessWindowFunction<u64, u64, u64> for Seen {
        fn process(
            &mut self,
            _: &u64,
            ctx: &mut WindowContext,
            _: &[u64],
            _: &mut Collector<'_, u64>,
        ) -> UserResult {
            self.0.set(ctx.per_key(), 1);
            Ok(())
        }
    }
    let env = Environment::new();
    let keyed = env.generate(9, |n| n).key_by(|n| *n);
    let ttl = StateTtl::new(TTL);
    keyed
        .process(move |states| Seen(states.with_ttl(ttl).value("seen")))
        .name("expires")
        .sink_to(DiscardSink);
    keyed.process(|states| Seen(states.value("seen"))).name("stays").sink_to(DiscardSink);
    let windows = keyed.window(Tumbling::of(TTL));
    windows
        .process(move |states| Seen(states.key.with_ttl(ttl).value("seen")))
        .name("window")
        .sink_to(DiscardSink);
    let text = env.explain().unwrap();
    for (name, tells) in [("expires", true), ("stays", false), ("window", true)] {
        assert_eq!(text.contains(&format!("'{name}' uses processing time")), tells, "{name}: {text}");
    }
}

//! Process functions in whole jobs: timers, connected streams, broadcast state and side outputs, in both modes, by
//! threads and by simulation, with the same results.

use mainstem::base::clock::{Clock, SystemClock};
use mainstem::prelude::*;
use mainstem::testing::Harness;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const MODES: [ExecutionMode; 2] = [ExecutionMode::Streaming, ExecutionMode::Batch];

/// Runs a program in both modes, with 1 to 3 subtasks, by threads and by simulation: always the same records.
fn everywhere<T>(expected: &[T], program: impl Fn(&Environment) -> DataStream<T>)
where
    T: Data + Ord + std::fmt::Debug,
{
    for mode in MODES {
        in_mode(mode, expected, &program);
    }
}

fn in_mode<T>(mode: ExecutionMode, expected: &[T], program: impl Fn(&Environment) -> DataStream<T>)
where
    T: Data + Ord + std::fmt::Debug,
{
    for parallelism in 1..=3 {
        let seeds = (0..5).map(|seed| Driver::Simulation { seed });
        for driver in [Driver::Threads].into_iter().chain(seeds) {
            let env = Environment::new().execution_mode(mode).parallelism(parallelism).driver(driver);
            let stream = program(&env);
            let mut records = stream.execute_and_collect("everywhere").unwrap().into_vec().unwrap();
            records.sort();
            assert_eq!(records, expected, "{mode}, {parallelism} subtasks, {driver:?}");
        }
    }
}

fn in_time<T: Data>(stream: &DataStream<(i64, T)>) -> DataStream<(i64, T)> {
    let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(50));
    stream.assign_timestamps(strategy.timestamp(|record: &(i64, T)| record.0))
}

/// Every record of a key moves the key's timer to 20 ms behind it: what fires is the end of a session, with the number
/// of its records.
struct Sessions {
    count: ValueState<u64>,
    end: ValueState<i64>,
}

impl KeyedProcessFunction<u64, (i64, u64), (u64, i64, u64)> for Sessions {
    fn process(
        &mut self,
        record: (i64, u64),
        ctx: &mut KeyedContext<u64>,
        _: &mut Collector<'_, (u64, i64, u64)>,
    ) -> UserResult {
        let end = record.0 + 20;
        let before = self.end.get(ctx).copied();
        if before.is_none_or(|before| before < end) {
            before.into_iter().for_each(|before| ctx.delete_event_time_timer(before));
            ctx.register_event_time_timer(end);
            self.end.set(ctx, end);
        }
        self.count.update(ctx, |count| *count += 1);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, (u64, i64, u64)>,
    ) -> UserResult {
        assert_eq!((ctx.timestamp(), self.end.get(ctx)), (Some(timer.time), Some(&timer.time)));
        self.end.clear(ctx);
        let count = self.count.take(ctx).unwrap_or(0);
        out.emit((*ctx.key(), timer.time, count));
        Ok(())
    }
}

/// F1, F2, F3: one timer a key that moves with its records. Keys have one burst each, so that both modes agree.
#[test]
fn f2_f3_a_timer_that_moves_with_the_records() {
    let record = |i: u64| ((i / 7) as i64, i / 35);
    let mut expected = BTreeMap::new();
    for (time, key) in (0..7000).map(record) {
        let session = expected.entry(key).or_insert((key, time + 20, 0));
        *session = (key, time + 20, session.2 + 1);
    }
    let expected: Vec<_> = expected.into_values().collect();
    everywhere(&expected, |env| {
        in_time(&env.generate(7000, record))
            .key_by(|record| record.1)
            .process(|states| Sessions { count: states.value("count"), end: states.value("end") })
    });
}

/// Registers timers at the ends of time, of both domains, and one that comes again and again.
struct Ends;

impl KeyedProcessFunction<u64, u64, (u64, bool, i64, bool)> for Ends {
    fn process(
        &mut self,
        _: u64,
        ctx: &mut KeyedContext<u64>,
        _: &mut Collector<'_, (u64, bool, i64, bool)>,
    ) -> UserResult {
        for time in [i64::MIN, 5, i64::MAX] {
            ctx.register_event_time_timer(time);
        }
        ctx.register_processing_time_timer(i64::MAX);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, (u64, bool, i64, bool)>,
    ) -> UserResult {
        if timer.time == 5 {
            ctx.register_event_time_timer(6);
        }
        if timer.domain == TimeDomain::Processing {
            ctx.register_processing_time_timer(i64::MAX);
        }
        out.emit((*ctx.key(), timer.domain == TimeDomain::Event, timer.time, ctx.timestamp().is_some()));
        Ok(())
    }
}

/// F2, F3: timers at the ends of time fire once; what is registered at the end does not fire and is counted.
#[test]
fn f2_f3_timers_at_the_ends_of_time_fire_and_the_input_ends() {
    let mut expected: Vec<_> = (0..50)
        .flat_map(|key| {
            let event = [i64::MIN, 5, i64::MAX].map(|time| (key, true, time, true));
            event.into_iter().chain([(key, false, i64::MAX, false)])
        })
        .collect();
    expected.sort();
    everywhere(&expected, |env| env.generate(200, |i| i % 50).key_by(|n| *n).process(|_| Ends));
    for mode in MODES {
        let env = Environment::new().execution_mode(mode).parallelism(2);
        env.generate(200, |i| i % 50).key_by(|n| *n).process(|_| Ends).sink_to(DiscardSink);
        let result = env.execute("dropped").unwrap();
        let counters: Vec<_> =
            result.operators.iter().flat_map(|operator| operator.counters.clone()).collect();
        // One of event time and one of the clock for each key.
        assert!(counters.contains(&("timers_dropped_at_end".to_string(), 100)), "{mode}: {counters:?}");
    }
}

/// J4: the low-level join: each key's order and payment meet, and a timer reports those that remain alone.
struct Join {
    order: ValueState<i64>,
    payment: ValueState<i64>,
}

type Joined = (u64, Option<i64>, Option<i64>);

impl KeyedCoProcessFunction<u64, (i64, u64), (i64, u64), Joined> for Join {
    fn process_left(
        &mut self,
        order: (i64, u64),
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Joined>,
    ) -> UserResult {
        match self.payment.take(ctx) {
            Some(payment) => {
                ctx.delete_event_time_timer(payment + 500);
                out.emit((order.1, Some(order.0), Some(payment)));
            }
            None => {
                self.order.set(ctx, order.0);
                ctx.register_event_time_timer(order.0 + 500);
            }
        }
        Ok(())
    }
    fn process_right(
        &mut self,
        payment: (i64, u64),
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Joined>,
    ) -> UserResult {
        match self.order.take(ctx) {
            Some(order) => {
                ctx.delete_event_time_timer(order + 500);
                out.emit((payment.1, Some(order), Some(payment.0)));
            }
            None => {
                self.payment.set(ctx, payment.0);
                ctx.register_event_time_timer(payment.0 + 500);
            }
        }
        Ok(())
    }
    fn on_timer(
        &mut self,
        _: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Joined>,
    ) -> UserResult {
        out.emit((*ctx.key(), self.order.take(ctx), self.payment.take(ctx)));
        Ok(())
    }
}

/// J4, A9: who comes first does not matter, neither does the mode.
#[test]
fn j4_the_low_level_join_is_the_same_everywhere() {
    let mut expected: Vec<Joined> = (0..3000u64)
        .filter(|key| key % 3 == 0 || key % 5 == 0)
        .map(|key| {
            let time = key as i64;
            (key, (key % 3 == 0).then_some(time), (key % 5 == 0).then_some(time + (key % 40) as i64))
        })
        .collect();
    expected.sort();
    everywhere(&expected, |env| {
        let all = env.generate(3000, |key| key);
        let orders = all.filter(|key| key % 3 == 0).map(|key| (key as i64, key));
        let payments = all.filter(|key| key % 5 == 0).map(|key| (key as i64 + (key % 40) as i64, key));
        let orders = in_time(&orders).key_by(|record| record.1);
        orders
            .connect(&in_time(&payments).key_by(|record| record.1))
            .process(|states| Join { order: states.value("order"), payment: states.value("payment") })
    });
}

/// A9: both streams go through one operator, each with its own type; keyed or not.
#[test]
fn a9_co_map_and_co_flat_map() {
    let mut expected: Vec<String> = (0..100).map(|n| format!("n{n}")).collect();
    expected.extend((0..50).map(|n| format!("wx{n}")));
    expected.sort();
    let words = |env: &Environment| env.generate(50, |n| format!("x{n}"));
    everywhere(&expected, |env| {
        let connected = env.generate(100, |n| n).connect(&words(env));
        connected.co_map(|n| format!("n{n}"), |word| format!("w{word}"))
    });
    everywhere(&expected, |env| {
        let connected = env.generate(100, |n| n).connect(&words(env)).key_by(|n| n % 7, |w| w.len() as u64);
        connected.co_flat_map(|n, out| out.emit(format!("n{n}")), |word, out| out.emit(format!("w{word}")))
    });
}

/// A9: a stream that is connected with itself comes twice, and streams of two environments do not meet.
#[test]
fn a9_connected_with_itself_and_with_a_stranger() {
    let mut expected: Vec<u64> = (0..100).chain(1000..1100).collect();
    expected.sort();
    everywhere(&expected, |env| {
        let numbers = env.generate(100, |n| n);
        numbers.connect(&numbers).co_map(|n| n, |n| n + 1000)
    });
    let (env, other) = (Environment::new(), Environment::new());
    let (here, there) = (env.generate(10, |n| n), other.generate(10, |n| n).name("there"));
    here.connect(&there).co_map(|n| n, |n| n).sink_to(DiscardSink);
    let error = env.execute("strangers").unwrap_err().to_string();
    assert!(error.contains("'there'") && error.contains("different environment"), "{error}");
}

/// Multiplies by what the rule of the record's last digit says.
struct Apply {
    rules: BroadcastState<u64, u64>,
}

impl BroadcastProcessFunction<u64, (u64, u64), u64> for Apply {
    fn process(&mut self, n: u64, ctx: &ReadOnlyContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        out.emit(n * self.rules.get(ctx, &(n % 10)).copied().unwrap_or(0));
        Ok(())
    }
    fn process_broadcast(
        &mut self,
        (digit, by): (u64, u64),
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, u64>,
    ) -> UserResult {
        self.rules.insert(ctx, digit, by);
        Ok(())
    }
}

/// S7: in BATCH every subtask has all rules before the first record, whatever stands in between.
#[test]
fn s7_rules_come_first_in_batch() {
    let mut expected: Vec<u64> = (0..2000).map(|n| n * (n % 10 + 1)).collect();
    expected.sort();
    for between in 0..3 {
        in_mode(ExecutionMode::Batch, &expected, |env| {
            let numbers = env.generate(2000, |n| n);
            let numbers = match between {
                0 => numbers,
                1 => numbers.map(|n| n),
                _ => numbers.rebalance(),
            };
            let rules = env.generate(10, |digit| (digit, digit + 1));
            numbers.connect_broadcast(&rules).process(|states| Apply { rules: states.broadcast("rules") })
        });
    }
}

/// Keeps the numbers of a key until the limit that was broadcast says what is to become of them: the sum of those up to
/// it comes out, once all is known.
struct Limited {
    limit: BroadcastState<(), u64>,
    numbers: ListState<u64>,
}

impl KeyedBroadcastProcessFunction<u64, u64, u64, (u64, u64)> for Limited {
    fn process(
        &mut self,
        n: u64,
        ctx: &mut KeyedContext<u64>,
        _: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        self.numbers.add(ctx, n);
        ctx.register_event_time_timer(i64::MAX);
        Ok(())
    }
    fn process_broadcast(
        &mut self,
        limit: u64,
        ctx: &mut KeyedBroadcastContext<'_, u64>,
        _: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        self.limit.insert(ctx, (), limit);
        ctx.for_each_key(|key| {
            self.numbers.retain(key, |n| *n <= limit);
            Ok(())
        })
    }
    fn on_timer(
        &mut self,
        _: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        let limit = self.limit.get(ctx, &()).copied().unwrap_or(0);
        let sum = self.numbers.iter(ctx).filter(|n| **n <= limit).sum();
        out.emit((*ctx.key(), sum));
        Ok(())
    }
}

/// S7, F3: keyed state, timers and broadcast state together, whichever side is first.
#[test]
fn s7_keyed_state_and_timers_beside_broadcast_state() {
    let expected: Vec<(u64, u64)> =
        (0..20).map(|key| (key, (0..1000).filter(|n| n % 20 == key && *n <= 700).sum())).collect();
    everywhere(&expected, |env| {
        let limit = env.from_iter([700u64]);
        env.generate(1000, |n| n)
            .key_by(|n| n % 20)
            .connect_broadcast(&limit)
            .process(|states| Limited { limit: states.broadcast("limit"), numbers: states.list("numbers") })
    });
}

/// S7: state in the wrong place is a mistake of the plan.
#[test]
fn s7_state_in_the_wrong_place_is_a_mistake() {
    struct Nothing;
    impl KeyedProcessFunction<u64, u64, u64> for Nothing {
        fn process(&mut self, _: u64, _: &mut KeyedContext<u64>, _: &mut Collector<'_, u64>) -> UserResult {
            Ok(())
        }
    }
    let env = Environment::new();
    let keyed = env.generate(10, |n| n).key_by(|n| *n);
    keyed
        .process(|states| {
            states.broadcast::<u64, u64>("rules");
            Nothing
        })
        .sink_to(DiscardSink);
    let error = env.execute("misplaced").unwrap_err().to_string();
    assert!(error.contains("'rules'") && error.contains("connect_broadcast"), "{error}");
    let env = Environment::new();
    let stream = env.generate(10, |n| n).connect_broadcast(&env.generate(1, |n| (n, n)));
    stream
        .process(|states| {
            states.value::<u64>("count");
            Apply { rules: states.broadcast("rules") }
        })
        .sink_to(DiscardSink);
    let error = env.execute("misplaced").unwrap_err().to_string();
    assert!(error.contains("'count'") && error.contains("key_by"), "{error}");
}

/// Sends each number to the outputs of its divisors among 2, 3 and 5, and to the main one if there are none; a timer
/// of each key goes to a side output, too.
#[derive(Clone)]
struct Divide {
    tags: [SideOutput<u64>; 3],
    texts: SideOutput<String>,
}

impl Divide {
    fn new() -> Divide {
        let tags = [2, 3, 5].map(|n| SideOutput::new(&format!("by {n}")));
        Divide { tags, texts: SideOutput::new("texts") }
    }

    fn divide(&self, n: u64, out: &mut Collector<'_, u64>) {
        let divisors = [2, 3, 5].map(|divisor| n.is_multiple_of(divisor));
        for (tag, _) in self.tags.iter().zip(divisors).filter(|(_, divides)| *divides) {
            out.emit_to(tag, n);
        }
        if divisors == [false; 3] {
            out.emit(n);
        }
        out.emit_to(&self.texts, n.to_string());
    }
}

impl ProcessFunction<u64, u64> for Divide {
    fn process(&mut self, n: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        self.divide(n, out);
        Ok(())
    }
}

impl CoProcessFunction<u64, u64, u64> for Divide {
    fn process_left(&mut self, n: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        self.divide(n, out);
        Ok(())
    }
    fn process_right(&mut self, n: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        self.divide(n, out);
        Ok(())
    }
}

impl KeyedProcessFunction<u64, u64, u64> for Divide {
    fn process(&mut self, n: u64, ctx: &mut KeyedContext<u64>, _: &mut Collector<'_, u64>) -> UserResult {
        ctx.register_event_time_timer(n as i64);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        _: &mut KeyedContext<u64>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        self.divide(timer.time as u64, out);
        Ok(())
    }
}

impl BroadcastProcessFunction<u64, u64, u64> for Divide {
    fn process(&mut self, n: u64, _: &ReadOnlyContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        self.divide(n, out);
        Ok(())
    }
    fn process_broadcast(
        &mut self,
        _: u64,
        _: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, u64>,
    ) -> UserResult {
        Ok(())
    }
}

impl KeyedCoProcessFunction<u64, u64, u64, u64> for Divide {
    fn process_left(
        &mut self,
        n: u64,
        ctx: &mut KeyedContext<u64>,
        _: &mut Collector<'_, u64>,
    ) -> UserResult {
        ctx.register_event_time_timer(n as i64);
        Ok(())
    }
    fn process_right(
        &mut self,
        n: u64,
        _: &mut KeyedContext<u64>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        self.divide(n, out);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        _: &mut KeyedContext<u64>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        self.divide(timer.time as u64, out);
        Ok(())
    }
}

impl KeyedBroadcastProcessFunction<u64, u64, u64, u64> for Divide {
    fn process(&mut self, n: u64, _: &mut KeyedContext<u64>, out: &mut Collector<'_, u64>) -> UserResult {
        self.divide(n, out);
        Ok(())
    }
    /// From the broadcast side, by one subtask of several: the side output only, so that it is told apart.
    fn process_broadcast(
        &mut self,
        text: u64,
        ctx: &mut KeyedBroadcastContext<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        if ctx.runtime().subtask_index() == 0 {
            out.emit_to(&self.tags[2], text);
        }
        Ok(())
    }
}

/// F4: main and side outputs are disjoint; an output that nobody reads is dropped; a record may go to several.
#[test]
fn f4_side_outputs_of_all_functions() {
    let main: Vec<u64> = (0..3000).filter(|n| n % 2 != 0 && n % 3 != 0 && n % 5 != 0).collect();
    // What is read says which output it came from.
    let mut expected: Vec<(u64, u64)> = main.iter().map(|&n| (0, n)).collect();
    expected.extend(
        [2, 3].into_iter().flat_map(|by| (0..3000).filter(move |n| n % by == 0).map(move |n| (by, n))),
    );
    expected.sort();
    let functions: [fn(&Environment) -> DataStream<u64>; 6] = [
        |env| env.generate(3000, |n| n).process(Divide::new()),
        |env| {
            let small = env.generate(1000, |n| n);
            small.connect(&env.generate(2000, |n| n + 1000)).process(Divide::new())
        },
        |env| env.generate(3000, |n| n).key_by(|n| n % 10).process(|_| Divide::new()),
        |env| env.generate(3000, |n| n).connect_broadcast(&env.from_iter([1u64])).process(|_| Divide::new()),
        |env| {
            let small = env.generate(1000, |n| n).key_by(|n| n % 10);
            small.connect(&env.generate(2000, |n| n + 1000).key_by(|n| n % 10)).process(|_| Divide::new())
        },
        |env| {
            let numbers = env.generate(3000, |n| n).key_by(|n| n % 10);
            numbers.connect_broadcast(&env.from_iter([1u64])).process(|_| Divide::new())
        },
    ];
    for function in functions {
        everywhere(&expected, |env| {
            let divided = function(env);
            let tags = Divide::new().tags;
            let by = |i: usize, by: u64| divided.side_output(&tags[i]).map(move |n| (by, n));
            divided.map(|n| (0, n)).union(&[&by(0, 2), &by(1, 3)])
        });
    }
}

/// The clock of a machine that somebody sets: what has passed is real, what it says is not.
struct SetClock {
    real: Arc<SystemClock>,
    off_by_ms: AtomicI64,
}

impl Clock for SetClock {
    fn monotonic(&self) -> Duration {
        self.real.monotonic()
    }
    fn now_ms(&self) -> i64 {
        self.real.now_ms() + self.off_by_ms.load(Ordering::SeqCst)
    }
}

/// Asks for a timer a little later for each record, and emits the number of records and timers of each.
struct Later {
    asked: MapState<i64, u64>,
}

impl KeyedProcessFunction<u64, u64, (u64, u64)> for Later {
    fn process(
        &mut self,
        n: u64,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        let time = ctx.processing_time() + 1 + (n % 3) as i64;
        ctx.register_processing_time_timer(time);
        self.asked.update(ctx, time, |asked| *asked += 1);
        out.emit((1, 0));
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        let asked = self.asked.remove(ctx, &timer.time);
        out.emit((0, asked.expect("a timer fires once")));
        Ok(())
    }
}

/// T11: the clock jumps back and forth by hours while the job runs: each record is in one window of the clock, each timer
/// fires once. By threads, with the clock of a machine that is set.
#[test]
fn t11_the_clock_is_set_while_a_job_runs() {
    const HOUR_MS: i64 = 3_600_000;
    const RECORDS: u64 = 2_000;
    let jumps = [3, -5, 0, -1, 7, -2].map(|hours| hours * HOUR_MS);
    for parallelism in [1, 2] {
        let clock = Arc::new(SetClock { real: SystemClock::new(), off_by_ms: AtomicI64::new(0) });
        let env = Environment::new().parallelism(parallelism).clock(clock.clone());
        let set = clock.clone();
        let numbers = env.read(Generate::new(RECORDS, |n| n).rate(8_000.0)).map(move |n| {
            if n % 250 == 125 {
                set.off_by_ms.store(jumps[(n / 250) as usize % jumps.len()], Ordering::SeqCst);
            }
            n
        });
        let by_key = numbers.key_by(|n| n % 7);
        let windows =
            by_key.window(Tumbling::of(Duration::from_millis(5)).processing_time()).aggregate(Count);
        let timers = by_key.process(|states| Later { asked: states.map("asked") });
        let all = windows.map(|window| (2, window.value)).union(&[&timers]);
        let all = all.execute_and_collect("set").unwrap().into_vec().unwrap();
        let sum = |of: u64| all.iter().filter(|(what, _)| *what == of).map(|(_, n)| n).sum::<u64>();
        assert_eq!((sum(2), sum(0)), (RECORDS, RECORDS), "windows, timers");
        assert!(all.iter().filter(|(what, _)| *what == 2).count() > 30, "there are several windows");
    }
}

/// T11: the same step by step. A clock that is put back lets nothing fire again, and what is asked for then fires at its own
/// time.
#[test]
fn t11_a_clock_that_is_put_back_fires_nothing_twice() {
    const HOUR_MS: i64 = 3_600_000;
    let mut harness = Harness::new(|numbers: DataStream<u64>| {
        numbers.key_by(|n| n % 7).process(|states| Later { asked: states.map("asked") })
    });
    let fired = |harness: &mut Harness<u64, (u64, u64)>| {
        let fired = harness.take_output().into_iter().map(|(_, fired)| fired);
        fired.sum::<u64>()
    };
    let base = 10 * HOUR_MS;
    harness.set_processing_time(base).unwrap();
    harness.push_all([0, 3, 6]).unwrap();
    assert_eq!(fired(&mut harness), 0);
    harness.set_processing_time(base + 3 * HOUR_MS).unwrap();
    assert_eq!(fired(&mut harness), 3, "forward: what was due fires");
    harness.push_all([9, 12]).unwrap();
    harness.set_processing_time(base - 2 * HOUR_MS).unwrap();
    assert_eq!(fired(&mut harness), 0, "back: nothing fires, and nothing again");
    harness.push_all([15]).unwrap();
    harness.advance_processing_time(Duration::from_millis(1)).unwrap();
    assert_eq!(fired(&mut harness), 1, "at its own time");
    harness.set_processing_time(base + 3 * HOUR_MS).unwrap();
    assert_eq!(fired(&mut harness), 0, "not due yet");
    harness.advance_processing_time(Duration::from_millis(1)).unwrap();
    assert_eq!(fired(&mut harness), 2);
    harness.end().unwrap();
    assert_eq!(fired(&mut harness), 0);
}

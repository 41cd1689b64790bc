//! User code of windows and of operators with two inputs that fails: the error names the operator.

use mainstem::ErrorKind;
use mainstem::prelude::*;
use mainstem::semantics::window::{
    TimeDomain, Trigger, TriggerContext, TriggerResult, Window, WindowAssigner,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Every way to run a job.
fn environments() -> impl Iterator<Item = (String, Environment)> {
    [ExecutionMode::Streaming, ExecutionMode::Batch].into_iter().flat_map(|mode| {
        [Driver::Threads, Driver::Simulation { seed: 3 }].into_iter().map(move |driver| {
            let env = Environment::new().execution_mode(mode).driver(driver).parallelism(2);
            (format!("{mode}, {driver:?}"), env)
        })
    })
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Where the user's code panics.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Nowhere,
    Assign,
    OnElement,
    OnEventTime,
    OnProcessingTime,
    OnMerge,
    Clear,
}

const ALL: [Place; 6] = [
    Place::Assign,
    Place::OnElement,
    Place::OnEventTime,
    Place::OnProcessingTime,
    Place::OnMerge,
    Place::Clear,
];

impl Place {
    fn reached(self, place: Place) {
        assert!(self != place, "no more of this in {place:?}");
    }
}

/// Sessions of 10 ms, and their trigger: it asks for a timer of each clock.
#[derive(Clone)]
struct Fragile(Place);

impl WindowAssigner<i64> for Fragile {
    type Trigger = Fragile;
    fn default_trigger(&self) -> Fragile {
        self.clone()
    }
    fn assign(&self, _: &i64, timestamp: i64, into: &mut Vec<Window>) -> mainstem::Result<()> {
        self.0.reached(Place::Assign);
        into.push(Window { start: timestamp, end: timestamp + 10 });
        Ok(())
    }
    fn time(&self) -> Option<TimeDomain> {
        Some(TimeDomain::Event)
    }
    fn merges(&self) -> bool {
        true
    }
    fn describe(&self) -> String {
        "fragile".into()
    }
}

impl Trigger<i64> for Fragile {
    type State = ();
    fn on_element(
        &mut self,
        _: &i64,
        _: i64,
        window: &Window,
        (): &mut (),
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        self.0.reached(Place::OnElement);
        ctx.register_event_time_timer(window.end - 1);
        ctx.register_processing_time_timer(window.end);
        TriggerResult::Continue
    }
    fn on_event_time(
        &mut self,
        _: i64,
        _: &Window,
        (): &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        self.0.reached(Place::OnEventTime);
        TriggerResult::Fire
    }
    fn on_processing_time(
        &mut self,
        _: i64,
        _: &Window,
        (): &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        self.0.reached(Place::OnProcessingTime);
        TriggerResult::Continue
    }
    fn can_merge(&self) -> bool {
        true
    }
    fn on_merge(&mut self, _: &Window, (): &mut (), (): (), _: &mut TriggerContext<'_>) {
        self.0.reached(Place::OnMerge);
    }
    fn clear(&mut self, _: &Window, (): &mut (), _: &mut TriggerContext<'_>) {
        self.0.reached(Place::Clear);
    }
    fn describe(&self) -> String {
        "fragile".into()
    }
    fn fires_early(&self) -> bool {
        false
    }
    fn uses_clock(&self) -> bool {
        true
    }
}

/// X12, X13: a panic in any method of a trigger or an assigner that is called while the job runs fails it with the name
/// of the windows; without one the same job is done.
#[test]
fn x12_x13_panics_in_triggers_and_assigners_name_the_operator() {
    // Two records of each key that meet, and one that stays alone.
    let build = |env: &Environment, place: Place| {
        let strategy = WatermarkStrategy::monotonous().timestamp(|t: &i64| *t);
        let records = env.from_iter([0, 5, 100]).assign_timestamps(strategy);
        records.key_by(|_| 7u8).window(Fragile(place)).aggregate(Count).name("mine")
    };
    for (name, env) in environments() {
        let counts = build(&env, Place::Nowhere);
        let mut counts: Vec<u64> =
            counts.map(|w| w.value).execute_and_collect("whole").unwrap().into_vec().unwrap();
        counts.sort_unstable();
        assert_eq!(counts, [1, 2], "{name}");
    }
    for place in ALL {
        for (name, env) in environments() {
            build(&env, place).sink_to(DiscardSink);
            let error = env.execute("fragile").unwrap_err();
            let text = error.to_string();
            assert_eq!((error.kind(), error.operator()), (ErrorKind::User, Some("mine")), "{name}: {text}");
            assert!(text.contains(&format!("no more of this in {place:?}")), "{name}: {text}");
        }
    }
}

/// A key whose decoding is another key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Forgets {
    #[serde(skip)]
    number: u64,
}

fn forgets(n: &u64) -> Forgets {
    Forgets { number: n + 1 }
}

struct Both;

impl KeyedCoProcessFunction<Forgets, u64, u64, u64> for Both {
    fn process_left(
        &mut self,
        n: u64,
        _: &mut KeyedContext<Forgets>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        out.emit(n);
        Ok(())
    }
    fn process_right(
        &mut self,
        n: u64,
        _: &mut KeyedContext<Forgets>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        out.emit(n);
        Ok(())
    }
}

struct Beside;

impl KeyedBroadcastProcessFunction<Forgets, u64, u64, u64> for Beside {
    fn process(&mut self, n: u64, _: &mut KeyedContext<Forgets>, out: &mut Collector<'_, u64>) -> UserResult {
        out.emit(n);
        Ok(())
    }
    fn process_broadcast(
        &mut self,
        _: u64,
        _: &mut KeyedBroadcastContext<'_, Forgets>,
        _: &mut Collector<'_, u64>,
    ) -> UserResult {
        Ok(())
    }
}

/// A9, J1, J2, J3, S7: a key that does not survive encoding is found on the first records of either input of an
/// operator that has two, and named.
#[test]
fn a9_keys_that_do_not_survive_encoding_in_operators_with_two_inputs() {
    let operators = ["co_process", "broadcast", "window join", "co-group", "interval join"];
    for operator in operators {
        for (name, env) in environments() {
            let numbers = |n: u64| {
                let strategy = WatermarkStrategy::monotonous().timestamp(|n: &u64| *n as i64);
                env.generate(n, |n| n).assign_timestamps(strategy)
            };
            // Only one of the inputs has records, so both are tried, in turn.
            for (left, right) in [(20, 0), (0, 20)] {
                if operator == "broadcast" && left == 0 {
                    continue;
                }
                let (env, job) = (&env, format!("{operator}, {name}, {left} and {right} records"));
                let (left, right) = (numbers(left), numbers(right));
                let (l, r) = (left.key_by(forgets), right.key_by(forgets));
                let second = Tumbling::of(ms(1_000));
                let out = match operator {
                    "co_process" => l.connect(&r).process(|_| Both),
                    "broadcast" => l.connect_broadcast(&right).process(|_| Beside),
                    "window join" => l.join(&r).window(second).apply(|a, b| a + b),
                    "co-group" => l.co_group(&r).window(second).apply(
                        |_: &Forgets, _: Window, l: &[u64], r: &[u64], out: &mut Collector<'_, u64>| {
                            out.emit((l.len() + r.len()) as u64)
                        },
                    ),
                    _ => l.interval_join(&r).between(-1, 1).apply(|a, b| a + b),
                };
                out.sink_to(DiscardSink);
                let error = env.execute("keys").unwrap_err();
                let text = error.to_string();
                assert_eq!(error.kind(), ErrorKind::Usage, "{job}: {text}");
                assert!(error.operator().is_some() && text.contains("Forgets"), "{job}: {text}");
            }
        }
    }
}

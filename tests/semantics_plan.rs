//! Semantics of plans: parallelism, partitioning, chains, stages, modes, and the mistakes that are found before anything
//! runs.

use mainstem::plan::PhysicalPlan;
use mainstem::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const MODES: [ExecutionMode; 2] = [ExecutionMode::Streaming, ExecutionMode::Batch];

fn env(mode: ExecutionMode, parallelism: usize) -> Environment {
    Environment::new().execution_mode(mode).parallelism(parallelism)
}

fn discard<T: Data>(stream: &DataStream<T>) -> DataStream<()> {
    stream.sink_to(DiscardSink)
}

fn chains(env: &Environment) -> Vec<String> {
    env.physical_plan().unwrap().tasks.into_iter().map(|task| task.name).collect()
}

/// Emits the subtask and the record.
#[derive(Clone)]
struct Where(usize);

impl ProcessFunction<u64, (usize, u64)> for Where {
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        self.0 = ctx.subtask_index();
        Ok(())
    }
    fn process(
        &mut self,
        n: u64,
        _ctx: &ProcessContext<'_>,
        out: &mut Collector<'_, (usize, u64)>,
    ) -> UserResult {
        out.emit((self.0, n));
        Ok(())
    }
}

/// What [`Where`] emits: the subtask and the record.
type Sent = DataStream<(usize, u64)>;

/// Which senders reach which of 4 subtasks with 40 records: (sender, record) by receiver.
fn received(
    mode: ExecutionMode,
    senders: usize,
    edge: fn(&Sent) -> Sent,
) -> BTreeMap<usize, Vec<(usize, u64)>> {
    let sent = env(mode, senders).generate(40, |i| i).process(Where(0));
    let seen = edge(&sent).process(Whereto(0)).parallelism(4);
    let mut by_receiver: BTreeMap<usize, Vec<(usize, u64)>> = BTreeMap::new();
    for record in seen.execute_and_collect("where").unwrap() {
        let (receiver, record) = record.unwrap();
        by_receiver.entry(receiver).or_default().push(record);
    }
    by_receiver.values_mut().for_each(|records| records.sort_by_key(|record| record.1));
    by_receiver
}

/// Emits the subtask and what [`Where`] has emitted.
#[derive(Clone)]
struct Whereto(usize);

impl ProcessFunction<(usize, u64), (usize, (usize, u64))> for Whereto {
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        self.0 = ctx.subtask_index();
        Ok(())
    }
    fn process(
        &mut self,
        record: (usize, u64),
        _ctx: &ProcessContext<'_>,
        out: &mut Collector<'_, (usize, (usize, u64))>,
    ) -> UserResult {
        out.emit((self.0, record));
        Ok(())
    }
}

fn numbers(records: impl IntoIterator<Item = (usize, u64)>) -> Vec<u64> {
    let mut numbers: Vec<u64> = records.into_iter().map(|(_, n)| n).collect();
    numbers.sort();
    numbers
}

/// P2: rebalance: counts differ by at most one for each sender; rescale: 2 to 4 is A to {0, 1}, B to {2, 3}; shuffle
/// loses nothing.
#[test]
fn p2_round_robin_and_random() {
    for mode in MODES {
        let balanced = received(mode, 2, DataStream::rebalance);
        for sender in 0..2 {
            let count =
                |receiver| balanced.get(&receiver).into_iter().flatten().filter(|r| r.0 == sender).count();
            let counts = [0, 1, 2, 3].map(count);
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{mode}: {counts:?}");
        }
        let rescaled = received(mode, 2, DataStream::rescale);
        for (receiver, records) in &rescaled {
            assert!(
                records.iter().all(|(sender, _)| *sender == receiver / 2),
                "{mode}: {receiver} got {records:?}"
            );
        }
        let shuffled = received(mode, 2, DataStream::shuffle);
        assert!(shuffled.len() > 1, "{mode}: all went to one");
        for all in [balanced, rescaled, shuffled] {
            assert_eq!(numbers(all.into_values().flatten()), (0..40).collect::<Vec<_>>(), "{mode}");
        }
    }
}

/// P3: global reaches subtask 0, forward the same index, broadcast everyone, a custom partitioner whom it says.
#[test]
fn p3_global_forward_broadcast_custom() {
    let all: Vec<u64> = (0..40).collect();
    for mode in MODES {
        let global = received(mode, 2, DataStream::global);
        assert_eq!(global.keys().collect::<Vec<_>>(), [&0], "{mode}");
        assert_eq!(numbers(global[&0].clone()), all, "{mode}");
        for (receiver, records) in received(mode, 4, DataStream::forward) {
            assert!(
                records.iter().all(|(sender, _)| *sender == receiver),
                "{mode}: {receiver} got {records:?}"
            );
        }
        let broadcast = received(mode, 2, DataStream::broadcast);
        assert_eq!(broadcast.len(), 4, "{mode}");
        broadcast.into_values().for_each(|records| assert_eq!(numbers(records), all, "{mode}"));
        let custom =
            received(mode, 2, |s| s.partition_custom(|(_, n), consumers| (*n as usize / 10) % consumers));
        for (receiver, records) in custom {
            let first = 10 * receiver as u64;
            assert_eq!(numbers(records), (first..first + 10).collect::<Vec<_>>(), "{mode}");
        }
    }
}

/// P3: a partitioner whose index is out of range fails the job.
#[test]
fn p3_custom_out_of_range() {
    for mode in MODES {
        let env = env(mode, 2);
        discard(
            &env.generate(4, |i| i).name("numbers").partition_custom(|_, consumers| consumers).map(|n| n),
        );
        let error = env.execute("custom").unwrap_err().to_string();
        assert!(error.contains("numbers") && error.contains("consumer 2 of 2"), "{mode}: {error}");
    }
}

/// P4: neighbours are chained where every condition holds, and only there.
#[test]
fn p4_chain_conditions() {
    type Change = fn(&DataStream<u64>) -> DataStream<u64>;
    let chains_with = |change: Change| {
        let env = env(ExecutionMode::Streaming, 2);
        discard(&change(&env.generate(1, |i| i).name("a").map(|n| n).name("b"))).name("c");
        chains(&env)
    };
    assert_eq!(chains_with(|b| b.clone()), ["a -> b -> c"]);
    assert_eq!(
        chains_with(|b| b.slot_group("other")),
        ["a", "b -> c"],
        "another slot group, inherited by the sink"
    );
    assert_eq!(chains_with(|b| b.parallelism(3)), ["a", "b", "c"], "another parallelism");
    assert_eq!(chains_with(|b| b.rebalance()), ["a -> b", "c"], "not a forward edge");
    assert_eq!(chains_with(|b| b.start_new_chain()), ["a", "b -> c"]);
    assert_eq!(chains_with(|b| b.disable_chaining()), ["a", "b", "c"]);
    assert_eq!(chains_with(|b| b.blocking()), ["a", "b", "c"], "a thread of its own");
    assert_eq!(chains_with(|b| b.union(&[b])), ["a -> b", "c"], "more than one input edge");
    let off = env(ExecutionMode::Streaming, 2).chaining(false);
    discard(&off.generate(1, |i| i).map(|n| n));
    assert_eq!(chains(&off).len(), 3, "chaining is off");
}

/// P5: a new chain begins at the operator; disabling isolates it on both sides. In BATCH a stage ignores both.
#[test]
fn p5_chaining_controls() {
    for (disable, streaming) in [(false, vec!["a", "b -> c -> d"]), (true, vec!["a", "b", "c -> d"])] {
        for mode in MODES {
            let env = env(mode, 2);
            let b = env.generate(1, |i| i).name("a").map(|n| n).name("b");
            let b = if disable { b.disable_chaining() } else { b.start_new_chain() };
            discard(&b.map(|n| n).name("c")).name("d");
            let expected =
                if mode == ExecutionMode::Batch { vec!["a -> b -> c -> d"] } else { streaming.clone() };
            assert_eq!(chains(&env), expected, "{mode}");
        }
    }
}

/// Counts the threads that it runs on.
#[derive(Clone)]
struct ThreadName(BTreeSet<String>);

impl ProcessFunction<u64, u64> for ThreadName {
    fn process(&mut self, n: u64, ctx: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        if self.0.insert(format!("{:?}", std::thread::current().id())) {
            self.0.iter().for_each(|thread| ctx.runtime().counter(thread).add(1));
        }
        out.emit(n);
        Ok(())
    }
}

/// P6: a slot group is inherited downstream; operators of different groups share no thread.
#[test]
fn p6_slot_groups() {
    let env = env(ExecutionMode::Streaming, 2);
    let name = || ThreadName(BTreeSet::new());
    let first = env.generate(100, |i| i).process(name()).name("first");
    let second = first.process(name()).name("second").slot_group("other");
    discard(&second.rebalance().process(name()).name("third"));
    let plan: PhysicalPlan = env.physical_plan().unwrap();
    let groups: Vec<&str> = plan.tasks.iter().map(|task| task.slot_group.as_str()).collect();
    assert_eq!(groups, ["default", "other", "other"]);
    let result = env.execute("groups").unwrap();
    let threads = |name| -> BTreeSet<String> {
        result.operator(name).unwrap().counters.iter().map(|(thread, _)| thread.clone()).collect()
    };
    assert!(threads("first").is_disjoint(&threads("second")), "{result}");
    assert!(threads("first").is_disjoint(&threads("third")), "{result}");
}

/// M1, M2: the mode is a setting; AUTOMATIC is BATCH exactly if all sources are bounded.
#[test]
fn m1_m2_modes() {
    let mode_of = |mode, bounded: bool| {
        let env = env(mode, 1);
        match bounded {
            true => discard(&env.generate(1, |i| i)),
            false => discard(&env.read(Generate::unbounded(|i| i)).name("endless")),
        };
        env.physical_plan().map(|plan| plan.mode)
    };
    use ExecutionMode::{Automatic, Batch, Streaming};
    for (asked, bounded, runs) in [
        (Streaming, true, Streaming),
        (Streaming, false, Streaming),
        (Automatic, true, Batch),
        (Automatic, false, Streaming),
        (Batch, true, Batch),
    ] {
        assert_eq!(mode_of(asked, bounded).unwrap(), runs, "{asked}, bounded: {bounded}");
    }
    let error = mode_of(Batch, false).map(|_| ()).unwrap_err();
    assert_eq!(error.operator(), Some("endless"), "{error}");
    assert_eq!(Environment::new().settings().execution_mode, Streaming, "the default");
}

/// M3: a shuffle cuts a stage; forward edges do not.
#[test]
fn m3_stages() {
    let env = env(ExecutionMode::Batch, 2);
    let mapped = env.generate(10, |i| i).map(|n| n).rebalance().map(|n| n);
    discard(&mapped.key_by(|n| n % 3).reduce(|a, b| *a += b));
    assert_eq!(chains(&env).len(), 3, "{:?}", chains(&env));
    assert_eq!(env.execute("stages").unwrap().stages.len(), 3);
}

/// A17: an operator's setting beats the job's; the job's is the highest of all.
#[test]
fn a17_parallelism() {
    for mode in MODES {
        let env = env(mode, 2);
        discard(&env.generate(10, |i| i).map(|n| n).name("wide").parallelism(5));
        let result = env.execute("parallelism").unwrap();
        assert_eq!(result.operator("wide").unwrap().parallelism, 5);
        assert_eq!(result.operators[0].parallelism, 2);
        assert_eq!(result.parallelism, 5, "{mode}");
    }
}

/// A function with two states of one name.
struct Twice {
    _states: [ValueState<u64>; 2],
}

impl KeyedProcessFunction<u64, u64, u64> for Twice {
    fn process(&mut self, _: u64, _: &mut KeyedContext<u64>, _: &mut Collector<'_, u64>) -> UserResult {
        Ok(())
    }
}

/// Mistakes are found before anything runs, in both modes, and name the operator.
#[test]
fn mistakes_in_the_plan_name_the_operator() {
    type Build = fn(&Environment, &DataStream<u64>) -> DataStream<u64>;
    let cases: [(&str, &str, Build); 7] = [
        ("suspect", "needs equal parallelism", |_, s| s.forward().map(|n| n).name("suspect").parallelism(3)),
        ("suspect", "uid 'twin' is already", |_, s| {
            s.map(|n| n).uid("twin").map(|n| n).name("suspect").uid("twin")
        }),
        ("suspect", "state 'total' is declared twice", |_, s| {
            let make =
                |states: &mut States| Twice { _states: [states.value("total"), states.value("total")] };
            s.key_by(|n| *n).process(make).name("suspect")
        }),
        ("suspect", "parallelism 0", |_, s| s.map(|n| n).name("suspect").parallelism(0)),
        ("suspect", "above max parallelism 4", |_, s| {
            s.map(|n| n).name("suspect").max_parallelism(4).parallelism(5)
        }),
        ("suspect", "must be 1", |env, _| env.from_iter([1u64]).name("suspect").parallelism(2)),
        ("suspect", "different environments", |_, s| {
            s.name("suspect").union(&[&Environment::new().from_iter([1u64]).name("stranger")])
        }),
    ];
    for mode in MODES {
        for (operator, message, build) in cases {
            let env = env(mode, 2);
            discard(&build(&env, &env.generate(10, |i| i)));
            let error = env.execute("mistake").unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("'{operator}'")) && text.contains(message), "{mode}: {text}");
            assert_eq!(error.kind(), mainstem::ErrorKind::Usage, "{mode}: {text}");
            assert_eq!(env.explain().unwrap_err().to_string(), text, "explain reports the same");
        }
        let env = env(mode, 2);
        env.generate(10, |i| i);
        let text = env.execute("nothing").unwrap_err().to_string();
        assert!(text.contains("no sink"), "{text}");
    }
}

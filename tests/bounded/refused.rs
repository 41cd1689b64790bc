//! What cannot run is refused when the plan is built, with the reason (issue of M1, M12).

use mainstem::connectors::source::Generate;
use mainstem::prelude::*;

fn refusal(build: impl Fn(DataStream<u64>) -> DataStream<()>) -> String {
    let env = Environment::new().execution_mode(ExecutionMode::Streaming);
    build(env.read(Generate::unbounded(|i| i)).name("ticks"));
    env.explain().unwrap_err().to_string()
}

fn discard<T: Data>(stream: DataStream<T>) -> DataStream<()> {
    stream.sink_to(DiscardSink)
}

/// M12: each operator that needs the end of its input says so and names the source.
#[test]
fn operators_over_bounded_input_refuse_a_source_that_does_not_end() {
    let other = |s: &DataStream<u64>| s.key_by(|n| *n);
    let refusals = [
        ("count", refusal(|s| discard(s.count()))),
        ("top_n", refusal(|s| discard(s.top_n(3, |n| *n)))),
        ("map_partition", refusal(|s| discard(s.map_partition(|r| r)))),
        ("sort_partition", refusal(|s| discard(s.sort_partition(|n| *n)))),
        ("reduce_partition", refusal(|s| discard(s.reduce_partition(|a, b| *a += b)))),
        ("sort_by", refusal(|s| discard(s.sort_by(|n| *n)))),
        ("reduce_group", refusal(|s| discard(s.key_by(|n| *n).reduce_group(|_, r| r)))),
        ("combine_group", refusal(|s| discard(s.key_by(|n| *n).combine_group(|_, r| r)))),
        ("top_n", refusal(|s| discard(s.key_by(|n| *n).top_n(2, |n| *n)))),
        ("join", refusal(|s| discard(other(&s).join(&other(&s)).apply(|a, b| a + b)))),
        ("semi join", refusal(|s| discard(other(&s).join(&other(&s)).semi()))),
        ("co_group", refusal(|s| discard(other(&s).co_group(&other(&s)).apply(|k, _, _| [*k])))),
        ("cross", refusal(|s| discard(s.map(|n| n).cross(&s, |a, b| a + b)))),
    ];
    for (operator, refusal) in refusals {
        assert!(refusal.contains(operator), "{operator}: {refusal}");
        assert!(refusal.contains("'ticks' is unbounded"), "{operator}: {refusal}");
    }
}

/// What does not need the end runs on: `distinct` and `first_n`.
#[test]
fn what_emits_on_the_way_takes_any_source() {
    let env = Environment::new().execution_mode(ExecutionMode::Streaming).parallelism(1);
    let ticks = env.read(Generate::unbounded(|i| i % 10));
    let found: Vec<u64> =
        ticks.distinct().execute_and_collect("distinct").unwrap().take(10).map(Result::unwrap).collect();
    assert_eq!(found, (0..10).collect::<Vec<_>>());
    let ticks = env.read(Generate::unbounded(|i| i));
    let found: Vec<u64> =
        ticks.first_n(5).execute_and_collect("first").unwrap().take(5).map(Result::unwrap).collect();
    assert_eq!(found, (0..5).collect::<Vec<_>>());
    let keyed = ticks.key_by(|i| i % 2).first_n(2);
    assert_eq!(keyed.execute_and_collect("first").unwrap().take(4).count(), 4);
}

/// M13: ranges need all records, so STREAMING refuses the partitioning and says what to use.
#[test]
fn range_partitioning_is_for_batch() {
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        let env = Environment::new().execution_mode(mode);
        discard(env.generate(10, |i| i).partition_by_range(|n| *n).map(|n| n));
        let plan = env.explain();
        match mode {
            ExecutionMode::Batch => assert!(plan.unwrap().contains("by range")),
            _ => {
                let refusal = plan.unwrap_err().to_string();
                assert!(refusal.contains("BATCH") && refusal.contains("partition_custom"), "{refusal}");
            }
        }
    }
}

//! distinct, count, first_n, top_n, map_partition, sort_partition, aggregates of a partition.

use crate::support::{environments, gives, mixed, sorted, threaded};
use mainstem::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const N: u64 = 5000;

fn numbers(env: &Environment) -> DataStream<u64> {
    env.generate(N, |i| mixed(i) % 1000)
}

fn plain() -> Vec<u64> {
    (0..N).map(|i| mixed(i) % 1000).collect()
}

/// M12, M2: each record once, the same in both modes.
#[test]
fn distinct_records_come_once() {
    let expected: BTreeSet<u64> = plain().into_iter().collect();
    gives(|env| numbers(env).distinct(), expected.into_iter().collect());
}

/// M12: each key once, with a record that is one of the key's.
#[test]
fn distinct_by_key_keeps_a_record_of_each_key() {
    for (name, env) in environments() {
        let found = sorted(&numbers(&env).key_by(|n| n % 77).distinct());
        let keys: BTreeSet<u64> = found.iter().map(|n| n % 77).collect();
        assert_eq!((found.len(), keys.len()), (77, 77), "{name}");
    }
}

/// M13: of the records of a key BATCH keeps that of the lowest timestamp.
#[test]
fn distinct_by_key_goes_by_time_in_batch() {
    let env = Environment::new().execution_mode(ExecutionMode::Batch).parallelism(2);
    let stamped = env
        .generate(1000, |i| (i % 10, mixed(i) % 5000))
        .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|r: &(u64, u64)| r.1 as i64));
    let found = sorted(&stamped.key_by(|r| r.0).distinct());
    let mut first: BTreeMap<u64, u64> = BTreeMap::new();
    for i in 0..1000 {
        let at = mixed(i) % 5000;
        first.entry(i % 10).and_modify(|least| *least = at.min(*least)).or_insert(at);
    }
    assert_eq!(found, first.into_iter().collect::<Vec<_>>());
}

#[test]
fn distinct_spills_more_records_than_fit() {
    for (name, env) in threaded() {
        let words = env.generate(400_000, |i| format!("{:0>40}", mixed(i) % 150_000));
        let expected: BTreeSet<u64> = (0..400_000).map(|i| mixed(i) % 150_000).collect();
        let count = words.distinct().count().execute_and_collect("distinct").unwrap().into_vec().unwrap();
        assert_eq!(count, [expected.len() as u64], "{name}");
    }
}

#[test]
fn count_counts_also_nothing() {
    gives(|env| numbers(env).count(), vec![N]);
    gives(|env| numbers(env).filter(|_| false).count(), vec![0]);
    // Behind keys, where BATCH divides subtasks.
    let keys: BTreeSet<u64> = plain().into_iter().map(|n| n % 100).collect();
    gives(|env| numbers(env).key_by(|n| n % 100).reduce_group(|k, _| [*k]).count(), vec![keys.len() as u64]);
}

#[test]
fn first_n_are_as_many_records_of_the_stream() {
    for (name, env) in environments() {
        for (n, expected) in [(0, 0), (1, 1), (700, 700), (N + 5, N)] {
            let found = sorted(&env.generate(N, |i| i).first_n(n));
            assert_eq!(found.len() as u64, expected, "{name}");
            assert!(found.windows(2).all(|w| w[0] < w[1]) && found.iter().all(|i| *i < N), "{name}");
        }
    }
}

#[test]
fn first_n_of_each_key() {
    for (name, env) in environments() {
        let found = sorted(&env.generate(N, |i| i).key_by(|i| i % 13).first_n(4));
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        found.iter().for_each(|i| *counts.entry(i % 13).or_default() += 1);
        assert_eq!(counts, (0..13).map(|key| (key, 4)).collect(), "{name}");
    }
}

#[test]
fn top_n_are_the_largest_in_order() {
    let mut expected: Vec<u64> = (0..N).map(mixed).collect();
    expected.sort_by(|a, b| b.cmp(a));
    for (name, env) in environments() {
        for n in [0, 1, 10, 333, N as usize + 10] {
            let top = env.generate(N, mixed).top_n(n, |x| *x);
            let found = top.execute_and_collect("top").unwrap().into_vec().unwrap();
            assert!(found == expected[..n.min(expected.len())], "{name} {n}");
        }
    }
}

#[test]
fn top_n_of_each_key() {
    let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    (0..N).map(mixed).for_each(|x| by_key.entry(x % 50).or_default().push(x));
    let expected = by_key.into_values().flat_map(|mut values| {
        values.sort_by(|a, b| b.cmp(a));
        values.truncate(7);
        values
    });
    gives(|env| env.generate(N, mixed).key_by(|x| x % 50).top_n(7, |x| *x), expected.collect());
}

/// M12: all records of a subtask in one call, one call for each subtask.
#[test]
fn map_partition_sees_a_whole_subtask() {
    for (name, env) in environments() {
        let p = env.settings().parallelism;
        let sums = env.generate(N, |i| i).rebalance().map_partition(|records| [records.sum::<u64>()]);
        let found = sorted(&sums);
        assert_eq!((found.len(), found.iter().sum::<u64>()), (p, N * (N - 1) / 2), "{name}");
        // Behind keys BATCH divides a subtask into units; the partition is that of the subtask still.
        let counts = env
            .generate(N, |i| i)
            .key_by(|i| *i)
            .process(|_| Keep)
            .map_partition(|records| [records.count()]);
        let found = sorted(&counts);
        assert_eq!((found.len(), found.iter().sum::<usize>()), (p, N as usize), "{name}");
    }
}

#[derive(Clone)]
struct Keep;

impl KeyedProcessFunction<u64, u64, u64> for Keep {
    fn process(&mut self, n: u64, _: &mut KeyedContext<u64>, out: &mut Collector<'_, u64>) -> UserResult {
        out.emit(n);
        Ok(())
    }
}

/// Neither what goes in nor what comes out fits into the memory of the job.
#[test]
fn map_partition_streams_in_and_out() {
    for (name, env) in threaded() {
        let copies = env
            .generate(60_000, |i| format!("{i:0>200}"))
            .map_partition(|records| records.flat_map(|record| [record.clone(), record]));
        let lengths = copies.map(|copy| copy.len() as u64).reduce_partition(|sum, n| *sum += n);
        assert_eq!(sorted(&lengths).iter().sum::<u64>(), 2 * 60_000 * 200, "{name}");
    }
}

#[test]
fn aggregates_of_a_partition() {
    for (name, env) in environments() {
        let p = env.settings().parallelism as u64;
        let spread = env.generate(N, |i| i).global();
        assert_eq!(sorted(&spread.aggregate_partition(Count)), [N], "{name}");
        assert_eq!(sorted(&spread.reduce_partition(|a, b| *a = b.max(*a))), [N - 1], "{name}");
        let counts = sorted(&env.generate(N, |i| i).rebalance().aggregate_partition(Count));
        assert_eq!((counts.len() as u64, counts.iter().sum::<u64>()), (p, N), "{name}");
    }
}

/// A failure of a function names its operator, and a panic in an iterator that it returned does, too.
#[test]
fn a_panic_of_what_was_returned_names_the_operator() {
    for (name, env) in environments() {
        let failing = env
            .generate(10, |i| i)
            .map_partition(|records| records.map(|n| if n == 3 { panic!("three") } else { n }));
        let failure = failing.name("fragile").execute_and_collect("test").unwrap().into_vec();
        let message = failure.unwrap_err().to_string();
        assert!(message.contains("fragile") && message.contains("three"), "{name}: {message}");
    }
}

//! reduce_group, combine_group, co_group.

use crate::support::{environments, gives, mixed, sorted, threaded};
use mainstem::prelude::*;
use std::collections::BTreeMap;

const N: u64 = 4000;

/// M12, M2: the function sees each key once with all of its records.
#[test]
fn reduce_group_sees_all_records_of_a_key() {
    let mut expected: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    (0..N).for_each(|i| expected.entry(mixed(i) % 97).or_default().push(i));
    let program = |env: &Environment| {
        env.generate(N, |i| i).key_by(|i| mixed(*i) % 97).reduce_group(|key, records| {
            let mut records: Vec<u64> = records.collect();
            records.sort();
            [(*key, records)]
        })
    };
    gives(program, expected.into_iter().collect());
}

/// Records with timestamps come to the function in the order of time, in both modes.
#[test]
fn reduce_group_is_in_the_order_of_time() {
    for (name, env) in environments() {
        let stamped = env
            .generate(N, |i| (i % 7, mixed(i) % 1_000_000))
            .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|r: &(u64, u64)| r.1 as i64));
        let disorder = stamped.key_by(|r| r.0).reduce_group(|key, records| {
            let times: Vec<u64> = records.map(|r| r.1).collect();
            [(*key, times.len(), times.is_sorted())]
        });
        let found = sorted(&disorder);
        assert!(
            found.len() == 7 && found.iter().all(|(_, n, sorted)| *n > 500 && *sorted),
            "{name}: {found:?}"
        );
    }
}

/// One key has more records than fit into memory, and its results do not fit either.
#[test]
fn a_key_larger_than_memory_streams_through() {
    for (name, env) in threaded() {
        let groups = env
            .generate(60_000, |i| (u64::from(i % 1000 == 0), format!("{i:0>200}")))
            .key_by(|r| r.0)
            .reduce_group(|_, records| records.map(|r| (r.0, r.1.len() as u64)));
        let totals =
            groups.key_by(|r| r.0).reduce_group(|key, sizes| [(*key, sizes.map(|r| r.1).sum::<u64>())]);
        assert_eq!(sorted(&totals), [(0, 59_940 * 200), (1, 60 * 200)], "{name}");
    }
}

#[test]
fn combine_group_is_partial_and_complete() {
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    (0..N).for_each(|i| *expected.entry(mixed(i) % 300).or_default() += i);
    let program = |env: &Environment| {
        let partial = env
            .generate(N, |i| i)
            .key_by(|i| mixed(*i) % 300)
            .combine_group(|key, records| [(*key, records.sum::<u64>())]);
        partial.key_by(|p| p.0).reduce_group(|key, partial| [(*key, partial.map(|p| p.1).sum::<u64>())])
    };
    gives(program, expected.into_iter().collect());
}

#[test]
fn combine_group_empties_its_table_when_memory_is_used_up() {
    for (name, env) in threaded() {
        let partial = env
            .generate(100_000, |i| format!("{:0>100}", mixed(i) % 30_000))
            .key_by(|w| w.clone())
            .combine_group(|_, records| [records.count() as u64]);
        let counts = partial.execute_and_collect("combine").unwrap().into_vec().unwrap();
        assert_eq!(counts.iter().sum::<u64>(), 100_000, "{name}");
        assert!(counts.len() > 30_000, "{name}: {} partial groups", counts.len());
    }
}

#[test]
fn co_group_has_the_keys_of_both_sides() {
    let mut expected: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    (0..N).for_each(|i| expected.entry(i % 100).or_default().0 += i);
    (0..N / 2).for_each(|i| expected.entry(50 + i % 100).or_default().1 += 1);
    let program = |env: &Environment| {
        let (left, right) = (env.generate(N, |i| i), env.generate(N / 2, |i| format!("{}", 50 + i % 100)));
        left.key_by(|i| i % 100)
            .co_group(&right.key_by(|s| s.parse::<u64>().unwrap_or(0)))
            .apply(|key, lefts, rights| [(*key, (lefts.sum::<u64>(), rights.count() as u64))])
    };
    gives(program, expected.into_iter().collect());
}

//! Joins by key, sorted and broadcast, and cross products.

use crate::support::{environments, gives, mixed, sorted, threaded};
use mainstem::prelude::*;

type Left = (u64, u64);
type Right = (u64, String);

fn lefts() -> Vec<Left> {
    (0..900).map(|i| (mixed(i) % 120, i)).collect()
}

fn rights() -> Vec<Right> {
    (0..400).map(|i| (60 + mixed(i * 7) % 120, format!("r{i}"))).collect()
}

fn streams(env: &Environment) -> (KeyedStream<u64, Left>, KeyedStream<u64, Right>) {
    let left = env.from_iter(lefts()).rebalance().map(|l| l);
    let right = env.from_iter(rights()).rebalance().map(|r| r);
    (left.key_by(|l| l.0), right.key_by(|r| r.0))
}

type Pair = (Option<u64>, Option<String>);

fn expected(left_too: bool, right_too: bool) -> Vec<Pair> {
    let (lefts, rights) = (lefts(), rights());
    let mut pairs: Vec<Pair> = Vec::new();
    for l in &lefts {
        let met: Vec<&Right> = rights.iter().filter(|r| r.0 == l.0).collect();
        pairs.extend(met.iter().map(|r| (Some(l.1), Some(r.1.clone()))));
        if met.is_empty() && left_too {
            pairs.push((Some(l.1), None));
        }
    }
    if right_too {
        let alone = rights.iter().filter(|r| lefts.iter().all(|l| l.0 != r.0));
        pairs.extend(alone.map(|r| (None, Some(r.1.clone()))));
    }
    pairs
}

fn pair(l: Option<&Left>, r: Option<&Right>) -> Pair {
    (l.map(|l| l.1), r.map(|r| r.1.clone()))
}

/// M12, M2: all kinds of join, against nested loops.
#[test]
fn joins_are_those_of_nested_loops() {
    gives(
        |env| {
            let (l, r) = streams(env);
            l.join(&r).apply(|l, r| pair(Some(l), Some(r)))
        },
        expected(false, false),
    );
    gives(
        |env| {
            let (l, r) = streams(env);
            l.join(&r).apply_left(|l, r| pair(Some(l), r))
        },
        expected(true, false),
    );
    gives(
        |env| {
            let (l, r) = streams(env);
            l.join(&r).apply_right(|l, r| pair(l, Some(r)))
        },
        expected(false, true),
    );
    gives(
        |env| {
            let (l, r) = streams(env);
            l.join(&r).apply_full(pair)
        },
        expected(true, true),
    );
}

fn meeting(wanted: bool) -> Vec<Left> {
    let rights = rights();
    lefts().into_iter().filter(|l| rights.iter().any(|r| r.0 == l.0) == wanted).collect()
}

#[test]
fn semi_and_anti_joins_split_the_left_side() {
    for wanted in [true, false] {
        gives(
            |env| {
                let (l, r) = streams(env);
                if wanted { l.join(&r).semi() } else { l.join(&r).anti() }
            },
            meeting(wanted),
        );
        gives(
            |env| {
                let (l, r) = streams(env);
                let join = l.join(&r).broadcast_right();
                if wanted { join.semi() } else { join.anti() }
            },
            meeting(wanted),
        );
    }
}

#[test]
fn broadcast_joins_are_the_sorted_ones() {
    gives(
        |env| {
            let (l, r) = streams(env);
            l.join(&r).broadcast_right().apply(|l, r| pair(Some(l), Some(r)))
        },
        expected(false, false),
    );
    gives(
        |env| {
            let (l, r) = streams(env);
            l.join(&r).broadcast_right().apply_left(|l, r| pair(Some(l), r))
        },
        expected(true, false),
    );
}

/// Timestamps of the two sides interleave within a key; the join does not care.
#[test]
fn joins_do_not_depend_on_time() {
    gives(
        |env| {
            let stamped = WatermarkStrategy::monotonous().timestamp(|l: &Left| (mixed(l.1) % 50) as i64);
            let left = env.from_iter(lefts()).assign_timestamps(stamped);
            let right = env.from_iter(rights()).assign_timestamps(
                WatermarkStrategy::monotonous().timestamp(|r: &Right| (r.1.len() * 9) as i64),
            );
            left.key_by(|l| l.0).join(&right.key_by(|r| r.0)).apply_full(pair)
        },
        expected(true, true),
    );
}

/// Both sides of one key are larger than the memory of the job.
#[test]
fn both_sides_of_a_key_may_spill() {
    const L: u64 = 400;
    const R: u64 = 500;
    for (name, env) in threaded().into_iter().filter(|(name, _)| !name.contains("x3")) {
        let left = env.generate(L, |i| (7u64, format!("{i:0>20000}")));
        let right = env.generate(R, |i| (7u64, format!("{i:0>20000}")));
        let joined = left.key_by(|l| l.0).join(&right.key_by(|r| r.0)).apply(|l, r| {
            l.1[19_990..].parse::<u64>().unwrap_or(0) * R + r.1[19_990..].parse::<u64>().unwrap_or(0)
        });
        let mut found = joined.execute_and_collect("join").unwrap().into_vec().unwrap();
        found.sort();
        assert!(found == (0..L * R).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn sides_larger_than_memory_join() {
    for (name, env) in threaded() {
        let left = env.generate(60_000, |i| (mixed(i) % 40_000, format!("{i:0>100}")));
        let right = env.generate(40_000, |i| (i, format!("{i:0>100}")));
        let joined = left.key_by(|l| l.0).join(&right.key_by(|r| r.0)).apply(|l, r| (l.0 == r.0) as u64);
        assert_eq!(sorted(&joined.reduce_partition(|a, b| *a += b)).iter().sum::<u64>(), 60_000, "{name}");
    }
}

#[test]
fn a_broadcast_side_that_does_not_fit_is_a_sentence() {
    for (name, env) in threaded() {
        let left = env.generate(10, |i| i);
        let right = env.generate(100_000, |i| (i, format!("{i:0>200}")));
        let joined = left.key_by(|l| *l).join(&right.key_by(|r| r.0)).broadcast_right().apply(|l, _| *l);
        let error = joined.execute_and_collect("join").unwrap().into_vec().unwrap_err().to_string();
        assert!(error.contains("broadcast_right") && error.contains("memory"), "{name}: {error}");
    }
}

#[test]
fn cross_gives_all_pairs() {
    let pairs = (0..300u64).flat_map(|a| (0..70u64).map(move |b| (a, b)));
    gives(|env| env.generate(300, |a| a).cross(&env.generate(70, |b| b), |a, b| (*a, *b)), pairs.collect());
    gives(|env| env.generate(300, |a| a).cross(&env.generate(0, |b| b), |a, b| (*a, *b)), vec![]);
    for (name, env) in threaded() {
        // The right side spills.
        let crossed = env
            .generate(3000, |a| a)
            .cross(&env.generate(2000, |b| format!("{b:0>5000}")), |a, b| a + b.len() as u64);
        let sum = sorted(&crossed.reduce_partition(|a, b| *a += b)).iter().sum::<u64>();
        assert_eq!(sum, 2000 * (3000 * 2999 / 2) + 3000 * 2000 * 5000, "{name}");
    }
}

/// A plan says which join it is, and the warnings of M13 are not there: both modes give the same.
#[test]
fn explain_names_the_join() {
    let (_, env) = environments().remove(0);
    let (l, r) = streams(&env);
    l.join(&r).apply(|l, _| l.1).sink_to(DiscardSink);
    let text = env.explain().unwrap();
    assert!(text.contains("'join'") && !text.contains("Where the modes differ"), "{text}");
}

/// Behind keys BATCH divides a subtask into units of work, each of which needs the whole of what is broadcast.
#[test]
fn what_is_broadcast_reaches_records_behind_keys() {
    let keyed =
        |env: &Environment| env.generate(500, |i| i).key_by(|i| *i).reduce_group(|_, records| records);
    gives(|env| keyed(env).cross(&env.generate(3, |b| b), |a, b| a * 3 + b), (0..1500).collect());
    gives(
        |env| {
            let right = env.generate(100, |b| b);
            keyed(env).key_by(|a| a % 200).join(&right.key_by(|b| *b)).broadcast_right().apply(|a, _| *a)
        },
        (0..500).filter(|a| a % 200 < 100).collect(),
    );
    // And on the other side of it, where each subtask has it once.
    gives(
        |env| {
            let p = env.settings().parallelism as u64;
            let all = env.generate(5, |b| b).broadcast().map(move |b| b * p / p);
            all.union(&[&keyed(env).filter(|_| false)]).distinct()
        },
        (0..5).collect(),
    );
}

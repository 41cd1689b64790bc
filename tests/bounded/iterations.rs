//! keep and iterate_bulk.

use crate::support::{environments, sorted};
use mainstem::api::IterationStep;
use mainstem::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Records are computed once and read as often as wanted, with their timestamps.
#[test]
fn what_is_kept_is_not_computed_again() {
    for (name, env) in environments() {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = calls.clone();
        let kept = env
            .generate(1000, |i| i)
            .map(move |i| {
                counted.fetch_add(1, Ordering::SeqCst);
                i
            })
            .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|i: &u64| *i as i64))
            .keep("kept")
            .unwrap();
        for _ in 0..2 {
            assert_eq!(sorted(&kept), (0..1000).collect::<Vec<_>>(), "{name}");
        }
        let windows =
            kept.key_by(|_| ()).window(Tumbling::of(std::time::Duration::from_millis(100))).aggregate(Count);
        assert_eq!(windows.execute_and_collect("windows").unwrap().into_vec().unwrap().len(), 10, "{name}");
        assert_eq!(calls.load(Ordering::SeqCst), 1000, "{name}");
    }
}

/// Keeping runs nothing else: a sink declared before waits for `execute`, and runs once.
#[test]
fn other_sinks_wait_for_execute() {
    let env = Environment::new().execution_mode(ExecutionMode::Batch);
    let written = Arc::new(AtomicU64::new(0));
    let count = written.clone();
    env.generate(10, |i| i).sink_to(FnSink::new(move |_: u64| {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    let kept = env.generate(5, |i| i).keep("kept").unwrap();
    assert_eq!(written.load(Ordering::SeqCst), 0);
    assert_eq!(sorted(&kept).len(), 5);
    assert_eq!(written.load(Ordering::SeqCst), 10);
}

/// M12: a fixed number of rounds, against a loop.
#[test]
fn a_fixed_number_of_rounds() {
    for (name, env) in environments() {
        let start = env.generate(50, |i| i + 1);
        let iterated = start
            .iterate_bulk("collatz", 4, |numbers, round| {
                IterationStep::new(numbers.map(move |n| if n % 2 == 0 { n / 2 } else { 3 * n + 1 } + round))
            })
            .unwrap();
        let mut expected: Vec<u64> = (1..=50).collect();
        for round in 0..4 {
            expected.iter_mut().for_each(|n| *n = if *n % 2 == 0 { *n / 2 } else { 3 * *n + 1 } + round);
        }
        expected.sort();
        assert_eq!(
            (sorted(&iterated.stream), iterated.rounds, iterated.converged),
            (expected, 4, false),
            "{name}"
        );
        let none = start.iterate_bulk("none", 0, |numbers, _| IterationStep::new(numbers.clone())).unwrap();
        assert_eq!((sorted(&none.stream).len(), none.rounds), (50, 0), "{name}");
    }
}

/// M12: connected components by the smallest label, until no label changes.
#[test]
fn rounds_until_nothing_changes() {
    for (name, env) in environments() {
        // Chains of ten vertices.
        let edges: Vec<(u64, u64)> =
            (0..90).filter(|v| v % 10 != 9).flat_map(|v| [(v, v + 1), (v + 1, v)]).collect();
        let edges = env.from_iter(edges).keep("edges").unwrap();
        let labels = env.generate(90, |v| (v, v));
        let iterated = labels
            .iterate_bulk("components", 100, |labels, _| {
                let sent = labels.key_by(|l| l.0).join(&edges.key_by(|e| e.0)).apply(|l, e| (e.1, l.1));
                let next = labels
                    .map(|l| (l.0, l.1, l.1))
                    .union(&[&sent.map(|s| (s.0, s.1, u64::MAX))])
                    .key_by(|l| l.0)
                    .reduce_group(|v, candidates| {
                        let (least, own) = candidates
                            .fold((u64::MAX, u64::MAX), |(least, own), c| (c.1.min(least), c.2.min(own)));
                        [(*v, least, own)]
                    });
                let changes = next.filter(|l| l.1 < l.2);
                IterationStep::new(next.map(|l| (l.0, l.1))).until_empty(&changes)
            })
            .unwrap();
        let expected: Vec<(u64, u64)> = (0..90).map(|v| (v, v / 10 * 10)).collect();
        assert_eq!(sorted(&iterated.stream), expected, "{name}");
        assert!(iterated.converged && iterated.rounds == 10, "{name}: {} rounds", iterated.rounds);
    }
}

/// The failure of a round is that of the call, and names the operator.
#[test]
fn a_round_that_fails() {
    let env = Environment::new();
    let failure = env.generate(5, |i| i).iterate_bulk("rounds", 3, |numbers, round| {
        IterationStep::new(
            numbers.try_map(move |n| if round == 1 { Err("no") } else { Ok(n) }).name("fragile"),
        )
    });
    let message = failure.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("fragile") && message.contains("no"), "{message}");
}

//! Operators over bounded input in STREAMING keep their input in snapshots (C1): a run that is restored half way gives what an
//! undisturbed one gives, and taking a snapshot disturbs nothing.

use crate::support::mixed;
use mainstem::prelude::*;
use mainstem::testing::{Harness, HarnessSnapshot};
use std::fmt::Debug;

#[track_caller]
fn survives<U: Data + Ord + Debug>(records: Vec<u64>, program: impl Fn(DataStream<u64>) -> DataStream<U>) {
    let finish = |mut harness: Harness<u64, U>, rest: &[u64]| {
        harness.push_all(rest.to_vec()).unwrap();
        harness.end().unwrap();
        let mut out = harness.take_output();
        out.sort();
        out
    };
    let expected = finish(Harness::new(&program), &records);
    assert!(!expected.is_empty());
    let mut first = Harness::new(&program);
    let mut early = Vec::new();
    let mut snapshots: Vec<(usize, HarnessSnapshot)> = Vec::new();
    for (at, part) in records.chunks(records.len().div_ceil(4)).enumerate() {
        first.push_all(part.to_vec()).unwrap();
        early.extend(first.take_output());
        snapshots.push((at + 1, first.snapshot().unwrap()));
    }
    let mut undisturbed = finish(first, &[]);
    undisturbed.extend(early.clone());
    undisturbed.sort();
    assert!(undisturbed == expected, "a snapshot disturbs");
    for (parts, snapshot) in snapshots {
        let read = (parts * records.len().div_ceil(4)).min(records.len());
        let restored = Harness::new(&program).restore(&snapshot).unwrap();
        let mut out = finish(restored, &records[read..]);
        if out.len() < expected.len() {
            // What came out before, of an operator that emits on the way.
            out.extend(early.clone());
            out.sort();
            out.dedup();
        }
        assert!(out == expected, "restored after {read} records");
    }
}

fn numbers() -> Vec<u64> {
    (0..400).map(|i| mixed(i) % 90).collect()
}

#[test]
fn what_is_kept_until_the_end_is_in_the_snapshot() {
    survives(numbers(), |s| s.count());
    survives(numbers(), |s| s.top_n(20, |n| *n));
    survives(numbers(), |s| s.map_partition(|records| [records.sum::<u64>()]));
    survives(numbers(), |s| s.reduce_partition(|a, b| *a += b));
    survives(numbers(), |s| s.sort_partition(|n| *n));
    survives(numbers(), |s| s.sort_by(|n| *n));
    survives(numbers(), |s| s.key_by(|n| n % 7).reduce_group(|k, r| [(*k, r.sum::<u64>())]));
    survives(numbers(), |s| s.key_by(|n| n % 7).combine_group(|k, r| [(*k, r.sum::<u64>())]));
    survives(numbers(), |s| s.key_by(|n| n % 7).top_n(3, |n| *n));
    survives(numbers(), |s| s.key_by(|n| n % 7).join(&s.key_by(|n| n % 11)).apply(|a, b| (*a, *b)));
    survives(numbers(), |s| s.key_by(|n| n % 70).join(&s.filter(|n| n % 2 == 0).key_by(|n| n % 70)).anti());
    survives(numbers(), |s| s.cross(&s.filter(|n| *n < 5), |a, b| (*a, *b)));
}

#[test]
fn what_was_emitted_is_not_emitted_again() {
    survives(numbers(), |s| s.distinct());
    survives((0..400).collect(), |s| s.first_n(150));
    survives((0..400).collect(), |s| s.key_by(|n| n % 7).first_n(20));
}

/// More than the memory of a test: what is on disk is in the snapshot, too.
#[test]
fn what_has_spilled_is_in_the_snapshot() {
    fn large(s: DataStream<u64>) -> DataStream<(u64, String)> {
        s.map(|n| (n, format!("{n:0>60000}")))
    }
    survives((0..400).collect(), |s| large(s).map_partition(|records| [records.map(|r| r.0).sum::<u64>()]));
    survives((0..400).collect(), |s| {
        large(s).key_by(|r| r.0 % 2).reduce_group(|k, records| [(*k, records.map(|r| r.0).sum::<u64>())])
    });
}

//! Skew: keys that have most of the records, and keys that have more than fits.

use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const MODES: [ExecutionMode; 2] = [ExecutionMode::Streaming, ExecutionMode::Batch];

/// Half, nine tenths, or none of the records have the same key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Share {
    Uniform,
    Half,
    NineTenths,
    /// The k-th key has a share that falls with k (Zipf, 1.2).
    Zipf,
}

const KEYS: u64 = 1_000;

impl Share {
    fn key(self, i: u64) -> u64 {
        let mixed = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let other = mixed % KEYS;
        match self {
            Share::Uniform => other,
            Share::Half if mixed % 10 < 5 => 0,
            Share::NineTenths if mixed % 10 < 9 => 0,
            Share::Half | Share::NineTenths => mixed / 10 % KEYS,
            Share::Zipf => {
                let uniform = (mixed % 65_536) as f64 / 65_536.0;
                ((1.0 - uniform * (1.0 - (KEYS as f64).powf(-0.2))).powf(-5.0) as u64).min(KEYS) - 1
            }
        }
    }
}

fn counts(mode: ExecutionMode, share: Share, records: u64) -> (BTreeMap<u64, u64>, Duration) {
    let env = Environment::new().execution_mode(mode).parallelism(2);
    let counts = env.generate(records, move |i| share.key(i)).key_by(|key| *key).count();
    let start = Instant::now();
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for (key, count) in counts.execute_and_collect("skew").unwrap().into_vec().unwrap() {
        let seen = last.entry(key).or_default();
        *seen = count.max(*seen);
    }
    (last, start.elapsed())
}

/// T8: counts are exact whatever the distribution of keys.
#[test]
fn t8_counts_are_exact_with_any_skew() {
    let records = 200_000;
    for share in [Share::Uniform, Share::Half, Share::NineTenths, Share::Zipf] {
        let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
        (0..records).for_each(|i| *expected.entry(share.key(i)).or_default() += 1);
        let most = expected.values().max().unwrap();
        assert_eq!(*most > records / 10, share != Share::Uniform, "{share:?}: {most}");
        for mode in MODES {
            assert_eq!(counts(mode, share, records).0, expected, "{mode}, {share:?}");
        }
    }
}

/// T8: a fold that can be combined has at least half of the throughput: the best of several runs of each.
#[test]
#[ignore = "compares times; for a quiet machine and --release"]
fn t8_a_combinable_fold_keeps_half_of_its_speed() {
    for mode in MODES {
        let best = |share| (0..5).map(|_| counts(mode, share, 3_000_000).1).min().unwrap();
        let uniform = best(Share::Uniform);
        for share in [Share::Half, Share::NineTenths, Share::Zipf] {
            let skewed = best(share);
            println!("T8: {mode}, uniform {uniform:?}, {share:?} {skewed:?}");
            assert!(skewed < uniform * 2, "{mode}, {share:?}: {skewed:?} against {uniform:?}");
        }
    }
}

/// T8: BATCH, a function that must see all records of a key, one of which has four times the memory of the job: it is
/// spilled, and the budget is kept.
#[test]
fn t8_a_key_larger_than_the_memory_is_spilled() {
    let (records, ballast) = (140_000, 240);
    let env = Environment::new().execution_mode(ExecutionMode::Batch).parallelism(2).memory(ByteSize::mib(8));
    let seen = env
        .generate(records, move |i| (Share::NineTenths.key(i), i, "x".repeat(ballast)))
        .key_by(|record| record.0)
        .map_with_state(|(key, i, text): (u64, u64, String), state: Option<(u64, u64)>| {
            let (count, sum) = state.unwrap_or_default();
            let state = (count + 1, sum + i + text.len() as u64);
            ((key, state), Some(state))
        });
    let mut running = seen.execute_and_collect("one large key").unwrap();
    let mut last: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for record in running.by_ref() {
        let (key, state) = record.unwrap();
        let seen = last.entry(key).or_default();
        *seen = state.max(*seen);
    }
    let result = running.result().unwrap();
    let mut expected: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for i in 0..records {
        let (count, sum) = expected.entry(Share::NineTenths.key(i)).or_default();
        (*count, *sum) = (*count + 1, *sum + i + ballast as u64);
    }
    assert_eq!(last, expected);
    assert!(result.spilled_bytes() > 0 && result.budget_peak_bytes <= 8 << 20, "{result}");
}

//! sort_partition, sort_by, partition_by_range.

use crate::support::{environments, mixed, threaded};
use mainstem::connectors::sink::FileSink;
use mainstem::prelude::*;
use std::cmp::Reverse;
use std::path::Path;

/// The lines of all part files in the order of their names.
fn lines(dir: &Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .flat_map(|f| std::fs::read_to_string(f).unwrap().lines().map(String::from).collect::<Vec<_>>())
        .collect()
}

fn written<T: Data + std::fmt::Display>(env: &Environment, stream: &DataStream<T>) -> (Vec<String>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    stream.sink_to(FileSink::text(&out));
    env.execute("sort").unwrap();
    (lines(&out), std::fs::read_dir(&out).unwrap().count())
}

/// M12: part files in the order of their names are sorted, in both modes.
#[test]
fn a_global_sort_is_sorted_over_all_files() {
    for (name, env) in environments() {
        for (n, range) in [(0u64, 1u64), (1, 1), (3000, 1 << 40), (3000, 5), (3000, 1)] {
            let mut expected: Vec<u64> = (0..n).map(|i| mixed(i) % range).collect();
            expected.sort();
            let (found, files) = written(&env, &env.generate(n, move |i| mixed(i) % range).sort_by(|x| *x));
            let found: Vec<u64> = found.iter().map(|line| line.parse().unwrap()).collect();
            assert!(found == expected, "{name} {n} below {range}");
            if name.contains("batch") && range > 5 {
                assert_eq!(files, env.settings().parallelism, "{name}: ranges are of about equal size");
            }
        }
    }
}

/// Keys of all kinds: prefixes that decide little or nothing, descending, ties.
#[test]
fn a_global_sort_of_keys_that_begin_alike() {
    #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
    struct Plain(u64, String);
    impl mainstem::SortKey for Plain {}
    for (name, env) in environments() {
        let words = env.generate(2000, |i| format!("https://example.org/{}", mixed(i) % 500));
        let mut expected: Vec<String> =
            (0..2000).map(|i| format!("https://example.org/{}", mixed(i) % 500)).collect();
        expected.sort();
        assert!(written(&env, &words.sort_by(|w| w.clone())).0 == expected, "{name}");
        assert!(written(&env, &words.sort_by(|w| Plain(1, w.clone()))).0 == expected, "{name}");
        expected.reverse();
        assert!(written(&env, &words.sort_by(|w| Reverse(w.clone()))).0 == expected, "{name}");
    }
}

/// More than fits into memory; in BATCH the same bytes each time.
#[test]
fn a_global_sort_spills_and_repeats() {
    const N: u64 = 150_000;
    let mut expected: Vec<String> = (0..N).map(|i| format!("{:016x}{:0>60}", mixed(i), i)).collect();
    expected.sort();
    for (name, env) in threaded() {
        let program = || env.generate(N, |i| format!("{:016x}{:0>60}", mixed(i), i)).sort_by(|r| r.clone());
        let (found, files) = written(&env, &program());
        assert!(found == expected, "{name}");
        if name.contains("batch") {
            assert_eq!(files, env.settings().parallelism, "{name}");
            let dir = tempfile::tempdir().unwrap();
            let outs = [dir.path().join("a"), dir.path().join("b")];
            for out in &outs {
                program().sink_to(FileSink::text(out));
                let result = env.execute("sort").unwrap();
                assert!(result.stages.iter().any(|stage| stage.spilled_bytes > 0), "{name}: {result}");
            }
            for part in std::fs::read_dir(&outs[0]).unwrap() {
                let part = part.unwrap();
                let other = outs[1].join(part.file_name());
                assert!(std::fs::read(part.path()).unwrap() == std::fs::read(other).unwrap(), "{name}");
            }
        }
    }
}

/// M12: each subtask is sorted, records of equal keys in the order of time, and nothing is lost.
#[test]
fn sort_partition_sorts_each_subtask() {
    for (name, env) in environments() {
        let sorted = env
            .generate(4000, |i| (mixed(i) % 50, mixed(i * 3) % 100_000))
            .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|r: &(u64, u64)| r.1 as i64))
            .rebalance()
            .sort_partition(|r| r.0);
        let checked = sorted.map_partition(|records| [records.collect::<Vec<_>>()]);
        let parts = checked.execute_and_collect("sort").unwrap().into_vec().unwrap();
        assert_eq!(parts.len(), env.settings().parallelism, "{name}");
        assert!(parts.iter().all(|part| part.is_sorted()), "{name}");
        let mut all = parts.concat();
        all.sort();
        let mut expected: Vec<_> = (0..4000).map(|i| (mixed(i) % 50, mixed(i * 3) % 100_000)).collect();
        expected.sort();
        assert!(all == expected, "{name}");
    }
}

/// W4, M2: the highest watermark waits for what comes at the end, so windows behind find nothing late in either mode.
#[test]
fn windows_behind_a_sort_lose_nothing() {
    for (name, env) in environments() {
        let stamped = env.generate(2000, |i| mixed(i) % 10_000).assign_timestamps(
            WatermarkStrategy::bounded_out_of_orderness(std::time::Duration::from_secs(10))
                .timestamp(|n: &u64| *n as i64),
        );
        let counts = stamped
            .sort_partition(|n| *n)
            .key_by(|n| n % 3)
            .window(Tumbling::of(std::time::Duration::from_millis(100)))
            .aggregate(Count);
        let counts = counts.execute_and_collect("windows").unwrap().into_vec().unwrap();
        assert_eq!(counts.iter().map(|w| w.value).sum::<u64>(), 2000, "{name}");
    }
}

#[test]
fn ranges_follow_each_other() {
    for (name, env) in environments().into_iter().filter(|(name, _)| name.contains("batch")) {
        let ranges = env.generate(3000, mixed).partition_by_range(|n| *n).map_partition(|records| {
            let mut records = records.peekable();
            let first = records.peek().copied();
            [(first, records.last())]
        });
        let mut found = ranges.execute_and_collect("ranges").unwrap().into_vec().unwrap();
        found.sort();
        assert_eq!(found.len(), env.settings().parallelism, "{name}");
        assert!(found.windows(2).all(|w| w[0].1 < w[1].0), "{name}: {found:?}");
    }
}

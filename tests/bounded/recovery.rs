//! Operators over bounded input where something fails once (M10, C13): the results are those of an undisturbed run.

use crate::support::mixed;
use mainstem::base::restart::RestartStrategy;
use mainstem::connectors::sink::FileSink;
use mainstem::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const N: u64 = 30_000;

fn env(mode: ExecutionMode, parallelism: usize) -> Environment {
    let restarts = RestartStrategy::FixedDelay { attempts: 3, delay: Duration::ZERO };
    let env = Environment::new().execution_mode(mode).parallelism(parallelism).memory(ByteSize::mib(8));
    env.restart_strategy(restarts)
}

/// Passes records on and fails at the record number `at`, once.
fn fails_once<T: Data>(stream: &DataStream<T>, at: u64) -> DataStream<T> {
    let seen = Arc::new(AtomicU64::new(0));
    stream.try_map(move |record| match seen.fetch_add(1, Ordering::SeqCst) == at {
        true => Err("once"),
        false => Ok(record),
    })
}

/// A subtask of the sorting stage, or of the one before it, is run again: the files are the same bytes.
#[test]
fn a_global_sort_survives_a_failure_before_and_behind_it() {
    let run = |parallelism, before: u64, behind: u64| {
        let dir = tempfile::tempdir().unwrap();
        let env = env(ExecutionMode::Batch, parallelism);
        let records = env.generate(N, |i| format!("{:016x}{i:0>60}", mixed(i) >> 3));
        let sorted = fails_once(&fails_once(&records, before).sort_by(|r| r.clone()), behind);
        sorted.sink_to(FileSink::text(dir.path().join("out")));
        env.execute("sort").unwrap();
        let mut files: Vec<_> =
            std::fs::read_dir(dir.path().join("out")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect::<Vec<_>>()
    };
    for parallelism in [1, 3] {
        let undisturbed = run(parallelism, u64::MAX, u64::MAX);
        assert_eq!(undisturbed.len(), parallelism);
        for (before, behind) in [(N / 2, u64::MAX), (u64::MAX, N / 2), (N - 1, 0), (5, N - 1)] {
            assert!(run(parallelism, before, behind) == undisturbed, "x{parallelism} {before} {behind}");
        }
    }
}

/// Groups and joins of a unit that is run again come out once.
#[test]
fn joins_and_groups_survive_a_failure_in_the_middle() {
    for parallelism in [1, 2] {
        for at in [10, N / 3] {
            let env = env(ExecutionMode::Batch, parallelism);
            let left = env.generate(N, |i| (mixed(i) % 5000, i));
            let right = env.generate(5000, |i| i);
            let joined = left.key_by(|l| l.0).join(&right.key_by(|r| *r)).apply(|l, _| l.1);
            let groups =
                fails_once(&joined, at).key_by(|i| i % 100).reduce_group(|k, r| [(*k, r.count() as u64)]);
            let mut found = groups.execute_and_collect("join").unwrap().into_vec().unwrap();
            found.sort();
            assert_eq!(found, (0..100).map(|k| (k, N / 100)).collect::<Vec<_>>(), "x{parallelism} at {at}");
        }
    }
}

/// C1, C9: STREAMING goes on from a checkpoint that holds what was kept until the end.
#[test]
fn streaming_goes_on_from_what_it_has_kept() {
    let dir = tempfile::tempdir().unwrap();
    for parallelism in [1, 2] {
        for seed in 0..4 {
            let env = env(ExecutionMode::Streaming, parallelism)
                .driver(Driver::Simulation { seed })
                .checkpoint_interval(Duration::from_millis(1))
                .job_dir(dir.path().join(format!("{parallelism}-{seed}")));
            let records = fails_once(&env.generate(N, |i| i), N - 100);
            let groups = records.key_by(|i| i % 100).reduce_group(|k, r| [(*k, r.count() as u64)]);
            let out = dir.path().join(format!("out-{parallelism}-{seed}"));
            groups.map(|(k, n)| k * 1_000_000 + n).sink_to(FileSink::text(&out));
            env.execute("groups").unwrap();
            let mut found: Vec<u64> = Vec::new();
            for file in std::fs::read_dir(&out).unwrap() {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                found.extend(text.lines().map(|line| line.parse::<u64>().unwrap()));
            }
            found.sort();
            let expected: Vec<u64> = (0..100).map(|k| k * 1_000_000 + N / 100).collect();
            assert_eq!(found, expected, "x{parallelism} seed {seed}");
        }
    }
}

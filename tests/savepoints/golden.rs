//! Savepoints of versions that were released, kept forever: each later version must go on from them.

use super::jobs::{Output, build, environment, until};
use std::collections::BTreeSet;
use std::path::PathBuf;

const RECORDS: u64 = 600;

fn fixture(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("savepoint-{version}"))
}

/// Writes the fixture of this version: once, when the format is new. `cargo test --test savepoints write_golden -- --ignored`.
#[test]
#[ignore = "writes into the source folder"]
fn write_golden() {
    let output = Output::default();
    let env = environment(2, None).max_parallelism(16);
    build(&env, RECORDS, Some(1_000.0), &output);
    let job = env.execute_async("golden").unwrap();
    until("half has come out", || output.len() > 800);
    job.stop_with_savepoint(fixture("v1"), false).unwrap();
    job.result().unwrap();
}

/// T14: a savepoint of each version restores, at other parallelisms too.
#[test]
fn savepoints_of_all_versions_restore() {
    let all = Output::default();
    let env = environment(1, None);
    build(&env, RECORDS, None, &all);
    env.execute("uninterrupted").unwrap();
    let all: BTreeSet<String> = all.sorted().into_iter().collect();
    let at_end = |lines: &BTreeSet<String>| -> Vec<String> {
        lines
            .iter()
            .filter(|line| line.starts_with("kitchen") || line.starts_with("ruled"))
            .cloned()
            .collect()
    };
    assert_eq!(at_end(&all).len(), 14);
    for version in ["v1"] {
        for parallelism in [1, 2, 3] {
            let rest = Output::default();
            let env = environment(parallelism, Some(&fixture(version)));
            build(&env, RECORDS, None, &rest);
            env.execute("from golden").unwrap();
            let rest: BTreeSet<String> = rest.sorted().into_iter().collect();
            assert_eq!(at_end(&rest), at_end(&all), "{version} at {parallelism}");
            assert!(rest.is_subset(&all) && rest.len() < all.len());
            for operator in ["rolling", "tumbling", "sliding", "sessions", "general", "joined"] {
                assert!(rest.iter().any(|line| line.starts_with(operator)), "{operator}");
            }
        }
    }
}

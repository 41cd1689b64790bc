//! Savepoints of jobs that write files: these are finished with the savepoint, so that it is of use whatever becomes of
//! their directory.

use mainstem::connectors::sink::FileSink;
use mainstem::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const RECORDS: u64 = 3_000;

/// A number for each row, in files that would never be closed by themselves.
fn job(root: &Path, out: &str, from: Option<&Path>, rollback: bool) -> Environment {
    let env = Environment::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(20))
        .job_dir(root.join(format!("job of {out} {} {rollback}", from.is_some())))
        .allow_output_rollback(rollback);
    let env = if let Some(from) = from { env.restore(Restore::Path(from.to_path_buf())) } else { env };
    let rate = if from.is_some() { 1e9 } else { 3_000.0 };
    let numbers = env.read(Generate::new(RECORDS, |i| i).rate(rate)).uid("numbers");
    numbers.map(|n| (n, n % 7)).sink_to(FileSink::csv(root.join(out))).uid("rows");
    env
}

/// The numbers in the files of a directory, in order; nothing else may be there.
fn numbers(root: &Path, out: &str) -> Vec<u64> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(root.join(out)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with("part-"), "left behind: {name}");
        let text = std::fs::read_to_string(&path).unwrap();
        numbers.extend(text.lines().map(|line| line.split(',').next().unwrap().parse::<u64>().unwrap()));
    }
    numbers.sort_unstable();
    numbers
}

/// C8, K7: a job that stops with a savepoint has finished its files; what follows goes into the same directory or another.
#[test]
fn a_job_that_has_stopped_goes_on_in_the_same_or_another_directory() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let running = job(root, "out", None, false).execute_async("files").unwrap();
    running.checkpoint_now().unwrap();
    let savepoint = root.join("savepoint");
    running.stop_with_savepoint(&savepoint, false).unwrap();
    running.result().unwrap();
    let before = numbers(root, "out");
    assert!(!before.is_empty() && before.len() < RECORDS as usize, "{}", before.len());
    job(root, "other", Some(&savepoint), false).execute("files").unwrap();
    job(root, "out", Some(&savepoint), false).execute("files").unwrap();
    let all: Vec<u64> = (0..RECORDS).collect();
    assert_eq!(numbers(root, "out"), all);
    let rest: BTreeSet<u64> = numbers(root, "other").into_iter().collect();
    assert_eq!(rest, all.iter().copied().filter(|n| before.binary_search(n).is_err()).collect());
    assert_eq!(numbers(root, "other").len(), rest.len());
}

/// C8, K7: a job that goes on after its savepoint has finished what comes after it. Going back to the savepoint would give
/// that again: into the same directory it is refused unless the files may be taken back.
#[test]
fn a_savepoint_of_a_job_that_went_on() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let running = job(root, "out", None, false).execute_async("files").unwrap();
    running.checkpoint_now().unwrap();
    let savepoint = root.join("savepoint");
    running.savepoint(&savepoint).unwrap();
    running.result().unwrap();
    let all: Vec<u64> = (0..RECORDS).collect();
    assert_eq!(numbers(root, "out"), all);
    let refused = job(root, "out", Some(&savepoint), false).execute("files").unwrap_err().to_string();
    assert!(refused.contains("was finished after") && refused.contains("allow-output-rollback"), "{refused}");
    assert_eq!(numbers(root, "out"), all);
    job(root, "other", Some(&savepoint), false).execute("files").unwrap();
    let rest = numbers(root, "other");
    assert!(!rest.is_empty() && rest.len() < all.len(), "{}", rest.len());
    job(root, "out", Some(&savepoint), true).execute("files").unwrap();
    assert_eq!(numbers(root, "out"), all);
}

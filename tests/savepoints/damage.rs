//! Savepoints that are not what they were, or never were any.

use super::jobs::{Output, build, environment, until};
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, MemVfs, SharedVfs, Vfs};
use mainstem::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const RECORDS: u64 = 3_000;

fn savepoint(dir: &Path) -> PathBuf {
    let output = Output::default();
    let env = environment(1, None);
    build(&env, RECORDS, Some(6_000.0), &output);
    let job = env.execute_async("damaged").unwrap();
    until("something has come out", || output.len() > 1_000);
    let path = dir.join("savepoint");
    job.stop_with_savepoint(&path, false).unwrap();
    job.result().unwrap();
    path
}

fn restored(path: &Path) -> Result<(), String> {
    let output = Output::default();
    let env = environment(1, Some(path));
    build(&env, RECORDS, None, &output);
    let done = env.execute("again").map(|_| ()).map_err(|e| e.to_string());
    if done.is_err() {
        assert_eq!(output.len(), 0, "nothing ran");
    }
    done
}

/// T4: every file, damaged in any way, is an error that names it, and nothing runs.
#[test]
fn damage_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = savepoint(dir.path());
    restored(&path).unwrap();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as usize;
    println!("seed {seed}");
    for (i, file) in files.iter().enumerate() {
        let good = std::fs::read(file).unwrap();
        let at = seed.wrapping_mul(i * 2 + 1) % good.len();
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (i % 8);
        for bad in [&flipped[..], &good[..at], b""] {
            std::fs::write(file, bad).unwrap();
            let error =
                restored(&path).expect_err(&format!("{} byte {at} of {}", file.display(), good.len()));
            assert!(error.contains(file.to_str().unwrap()), "{error}");
        }
        std::fs::remove_file(file).unwrap();
        let error = restored(&path).unwrap_err();
        let named = if file.ends_with("manifest.json") { &path } else { file };
        assert!(error.contains(named.to_str().unwrap()), "{error}");
        std::fs::write(file, good).unwrap();
    }
    restored(&path).unwrap();
}

fn change_manifest(path: &Path, change: impl FnOnce(&mut Value)) {
    let file = path.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(&file, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

/// Other people's files, and those of other versions, are told apart from damage.
#[test]
fn what_is_no_savepoint_of_this_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = savepoint(dir.path());
    // As compact JSON, with the same content: whitespace and order mean nothing.
    change_manifest(&path, |_| {});
    restored(&path).unwrap();
    change_manifest(&path, |manifest| manifest["format_version"] = 2.into());
    let error = restored(&path).unwrap_err();
    assert!(error.contains("format version 2") && error.contains("reads version 1"), "{error}");
    change_manifest(&path, |manifest| manifest["format_version"] = 1.into());
    change_manifest(&path, |manifest| {
        manifest["savepoint"]["operators"][0]["subtasks"][0]["watermark"] = 5.into()
    });
    let error = restored(&path).unwrap_err();
    assert!(error.contains("manifest.json") && error.contains("checksum"), "{error}");
    std::fs::write(path.join("manifest.json"), "{\"name\":\"app\"}").unwrap();
    assert!(restored(&path).unwrap_err().contains("it is not the manifest of a savepoint"));
    let error = restored(&dir.path().join("nowhere")).unwrap_err();
    assert!(error.contains("nowhere"), "{error}");
}

/// A savepoint of another job: its operators are not those of the program.
#[test]
fn a_savepoint_of_another_job_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = savepoint(dir.path());
    let env = environment(1, Some(&path));
    env.from_iter([1, 2]).uid("other").key_by(|n| *n).count().uid("else").sink_to(DiscardSink);
    let error = env.execute("another").unwrap_err().to_string();
    assert!(error.contains("of job 'damaged' holds state of") && error.contains("uid 'events'"), "{error}");
}

/// A savepoint that cannot be written leaves the job running, and nothing that looks like one.
#[test]
fn a_savepoint_that_cannot_be_written_does_not_stop_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let output = Output::default();
    let env = environment(1, None);
    build(&env, RECORDS, Some(6_000.0), &output);
    let job = env.execute_async("goes on").unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("savepoint");
    for error in [job.savepoint(&below), job.stop_with_savepoint(&below, false)] {
        assert!(error.unwrap_err().to_string().contains(file.to_str().unwrap()));
    }
    assert_eq!(job.status(), JobStatus::Running);
    job.cancel();
    assert!(job.result().is_err());
    let env = Environment::new().parallelism(1);
    env.read(Generate::unbounded(|i| i)).sink_to(DiscardSink);
    let job = env.execute_async("without checkpoints").unwrap();
    let error = job.savepoint(dir.path().join("s")).unwrap_err().to_string();
    assert!(error.contains("takes no checkpoints") && error.contains("job-dir"), "{error}");
    assert!(!dir.path().join("s").exists());
    job.cancel();
    assert!(job.result().is_err());
}

/// What came out: the numbers, and how many of a key there were up to each.
type Numbers = Arc<Mutex<Vec<(u64, u64)>>>;

/// Numbers, each with how many of its key there were so far, from state: number `n` is the `n / 3 + 1`-th of its key.
fn numbers(vfs: SharedVfs, from: Option<Restore>) -> (mainstem::Result<JobClient>, Numbers) {
    let env = Environment::new().vfs(vfs).job_dir("/job").checkpoint_interval(Duration::from_secs(3_600));
    let env = from.into_iter().fold(env.parallelism(1), Environment::restore);
    let out = Numbers::default();
    let seen = out.clone();
    env.read(Generate::unbounded(|i| i).rate(2_000.0))
        .uid("numbers")
        .key_by(|n| n % 3)
        .map_with_state(|n, count: Option<u64>| ((n, count.unwrap_or(0) + 1), Some(count.unwrap_or(0) + 1)))
        .uid("counts")
        .sink_to(FnSink::new(move |row| seen.lock().unwrap().push(row)));
    (env.execute_async("numbers"), out)
}

/// The first number of a job that goes on from there; every number has its count.
fn goes_on(vfs: SharedVfs, from: Restore) -> mainstem::Result<u64> {
    let (job, out) = numbers(vfs, Some(from));
    let job = job?;
    until("a number has come", || out.lock().unwrap().len() > 3 || job.status() != JobStatus::Running);
    job.cancel();
    let ended = job.result();
    let out = out.lock().unwrap();
    let Some(first) = out.first() else { return Err(ended.expect_err("it was cancelled or has failed")) };
    assert!(out.iter().all(|(n, count)| *count == n / 3 + 1), "{out:?}");
    Ok(first.0)
}

/// T5, T6: a disk that is full or fails while a savepoint is written: the job lives on and says what has failed; what is there
/// then is no savepoint, or a whole one; the next one succeeds at the same place.
#[test]
fn a_disk_may_fail_at_each_operation_of_a_savepoint() {
    let disk = MemVfs::new();
    let faulty = FaultVfs::new(Arc::new(disk.clone()), FaultPlan::none());
    let (job, out) = numbers(faulty.clone(), None);
    let job = job.unwrap();
    until("some numbers have come", || out.lock().unwrap().len() > 10);
    let below = |plan: FaultPlan| plan.on_path("/savepoints");
    // The first one also makes the directory above.
    job.savepoint("/savepoints/first").unwrap();
    faulty.set_plan(below(FaultPlan::none()));
    job.savepoint("/savepoints/calm").unwrap();
    let operations = faulty.operations();
    assert!(operations > 20, "{operations}");
    let (mut refused, mut whole) = (0, 0);
    for k in 0..operations {
        for (fault, lasting) in [(Fault::NoSpace, false), (Fault::Io, true)] {
            let what = format!("{fault:?} at operation {k} of {operations}, lasting: {lasting}");
            let dir = PathBuf::from(format!("/savepoints/{k}-{lasting}"));
            let plan = below(FaultPlan::fail_at(k, fault));
            faulty.set_plan(if lasting { plan.and_from_then_on() } else { plan });
            let written = job.savepoint(&dir);
            assert!(faulty.failures() > 0, "{what}: no operation has failed");
            faulty.set_plan(FaultPlan::none());
            assert_eq!(job.status(), JobStatus::Running, "{what}");
            // A job that goes on from it has a directory of its own: another disk with the same content.
            let elsewhere = || {
                let copy = MemVfs::new();
                for (path, content) in disk.snapshot() {
                    if let Some(content) = content.filter(|_| path.starts_with("/savepoints")) {
                        copy.create_dir_all(path.parent().unwrap()).unwrap();
                        copy.create(&path).unwrap().append(&content).unwrap();
                    }
                }
                Arc::new(copy)
            };
            let restored = goes_on(elsewhere(), Restore::Path(dir.clone()));
            match (&written, &restored) {
                (Err(e), Err(_)) => {
                    assert!(e.to_string().contains("/savepoints"), "{what}: {e}");
                    refused += 1;
                }
                (_, Ok(first)) => {
                    assert!(*first > 0, "{what}: it starts again");
                    whole += 1;
                }
                (Ok(()), Err(e)) => panic!("{what}: it is said to be written, and {e}"),
            }
            if written.is_err() && !lasting {
                job.savepoint(&dir).unwrap_or_else(|e| panic!("{what}, and then again: {e}"));
                assert!(goes_on(elsewhere(), Restore::Path(dir)).unwrap() > 0, "{what}");
            }
        }
    }
    println!("{refused} savepoints failed, {whole} were whole in spite of a fault");
    assert!(refused >= operations);
    job.cancel();
    assert!(job.result().is_err());
}

/// T5: a job that stops and cannot write its savepoint says so, and goes on from its checkpoint.
#[test]
fn a_stop_whose_savepoint_fails_leaves_the_checkpoint() {
    let disk = MemVfs::new();
    let faulty = FaultVfs::new(Arc::new(disk.clone()), FaultPlan::none());
    let mut from = None;
    let mut next = 0;
    for (file, k) in [("parquet", 0), ("parquet", 4), ("manifest", 0), ("manifest", 3)] {
        let (job, out) = numbers(faulty.clone(), from.replace(Restore::Latest));
        let job = job.unwrap();
        until("some numbers have come", || out.lock().unwrap().len() > 10);
        faulty.set_plan(FaultPlan::fail_at(k, Fault::NoSpace).and_from_then_on().on_path(file));
        // No path but that of the file has its name in it.
        let savepoint = format!("/savepoints/{}-{k}", file.len());
        let error = job.stop_with_savepoint(&savepoint, false).unwrap_err().to_string();
        assert!(error.contains(&savepoint), "{error}");
        job.result().unwrap();
        faulty.set_plan(FaultPlan::none());
        let out = out.lock().unwrap();
        let expected: Vec<_> = (next..).map(|n| (n, n / 3 + 1)).take(out.len()).collect();
        assert_eq!(*out, expected, "it goes on where it stopped");
        next += out.len() as u64;
    }
}

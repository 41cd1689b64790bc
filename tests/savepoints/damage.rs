//! Savepoints that are not what they were, or never were any.

use super::jobs::{Output, build, environment, until};
use mainstem::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};

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

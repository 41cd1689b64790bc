//! Files of jobs with checkpoints: a reader of the directory sees each result once, whatever fails.

use crate::ledger::Faults;
use crate::restarts::environment;
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, Keep, MemVfs, SharedVfs, Vfs};
use mainstem::connectors::sink::{FileSink, RollingPolicy};
use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const RECORDS: u64 = 3_000;
const KEYS: u64 = 7;

/// Counts by key, each of them a row; the files are small, so that many are finished.
fn build(env: &Environment, faults: &Faults) {
    let faults = faults.clone();
    let numbers = env.read(Generate::new(RECORDS, |i| i).rate(50_000.0)).uid("numbers");
    let numbers = numbers.try_map(move |n| faults.check().map(|()| n));
    let counts = numbers.key_by(|n| n % KEYS).count().uid("counts");
    let rows = FileSink::csv("/out/rows").rolling(RollingPolicy::default().max_bytes(700));
    counts.sink_to(rows).uid("rows");
    let by_key = FileSink::csv("/out/by-key").bucket_by(|(key, _): &(u64, u64), bucket| {
        bucket.push_str(["even", "odd/1"][*key as usize % 2]);
    });
    counts.sink_to(by_key).uid("by key");
}

type Files = BTreeMap<String, String>;

/// The files that a reader of a directory sees.
fn files(vfs: &MemVfs, dir: &str) -> Files {
    let hidden = |path: &std::path::Path| {
        path.components().any(|component| component.as_os_str().to_string_lossy().starts_with('.'))
    };
    let all = vfs.snapshot().into_iter().filter(|(path, _)| path.starts_with(dir) && !hidden(path));
    all.filter_map(|(path, content)| Some((path.display().to_string(), String::from_utf8(content?).unwrap())))
        .collect()
}

/// Files that were seen before are still there and as they were.
fn check_unchanged(before: &Files, after: &Files, what: &str) {
    for (name, content) in before {
        assert_eq!(after.get(name), Some(content), "{what}: {name} has changed");
    }
}

fn check(vfs: &MemVfs, what: &str) {
    let mut expected = Vec::new();
    for key in 0..KEYS {
        let of_key = (0..RECORDS).filter(|n| n % KEYS == key).count();
        expected.extend((1..=of_key).map(|count| format!("{key},{count}")));
    }
    expected.sort();
    for dir in ["/out/rows", "/out/by-key"] {
        let files = files(vfs, dir);
        let mut rows: Vec<&str> = files.values().flat_map(|content| content.lines()).collect();
        rows.sort_unstable();
        let lost = expected.iter().filter(|row| rows.binary_search(&row.as_str()).is_err()).count();
        assert!(rows == expected, "{what}: {dir} has {} rows of {}, {lost} lost", rows.len(), expected.len());
    }
    let hidden = vfs
        .snapshot()
        .into_keys()
        .find(|path| path.starts_with("/out") && path.display().to_string().contains("/."));
    assert_eq!(hidden, None, "{what}: left behind");
}

/// C4, C12, K7: restarts within a process.
#[test]
fn restarts_leave_no_trace_in_files() {
    let mut restored = 0;
    for seed in 0..9 {
        let vfs = MemVfs::new();
        let faults = Faults::at([700 + seed * 31, 2_000 + seed * 17, 3_100 + seed * 13]);
        let parallelism = 1 + seed as usize % 3;
        let env = environment(parallelism, Some(seed)).vfs(Arc::new(vfs.clone())).job_dir("/job");
        build(&env, &faults);
        let stats = env.execute("files").unwrap().checkpoints.unwrap();
        assert_eq!(stats.restarts, 3);
        restored += u32::from(stats.restored > 0);
        check(&vfs, &format!("seed {seed}, parallelism {parallelism}"));
        assert!(files(&vfs, "/out/rows").len() > 20);
    }
    assert!(restored > 4, "{restored} of 9 went on from a checkpoint last");
}

/// Runs the job on a file system until it fails, or to its end.
fn run(vfs: SharedVfs, parallelism: usize, seed: u64, fault_at: Option<u64>) -> mainstem::Result<JobResult> {
    let env = environment(parallelism, Some(seed))
        .restart_strategy(RestartStrategy::None)
        .vfs(vfs)
        .job_dir("/job")
        .restore(Restore::Latest);
    build(&env, &Faults::at(fault_at));
    env.execute("files")
}

/// C4, C9, T3: processes that die with the power, at other parallelisms.
#[test]
fn processes_that_lose_power_leave_no_trace_in_files() {
    for (seed, keep) in [Keep::Nothing, Keep::Random, Keep::Torn, Keep::Torn].into_iter().enumerate() {
        let mut vfs = MemVfs::new();
        let mut seen = Files::new();
        for (i, parallelism) in [2usize, 3, 1, 4, 2].into_iter().enumerate() {
            let what = format!("seed {seed}, run {i}");
            let seed = seed as u64 * 10 + i as u64;
            // The process dies with all its operations failing, not by an error that it could clean up after.
            let fault = FaultVfs::new(Arc::new(vfs.clone()), FaultPlan::none());
            let plan = FaultPlan::fail_at(150 + seed % 7, Fault::Io).and_from_then_on();
            if i < 4 {
                fault.set_plan(plan);
            }
            let ran = run(fault, parallelism, seed, None);
            assert_eq!(ran.is_ok(), i == 4, "{what}: {:?}", ran.err());
            // Removals at the very end need not be durable: the file of a lock may come back.
            vfs = if i < 4 { vfs.crash(seed, keep) } else { vfs };
            let now = files(&vfs, "/out");
            check_unchanged(&seen, &now, &what);
            seen = now;
        }
        check(&vfs, &format!("seed {seed}"));
    }
}

/// C4, T3: power is lost at operations all over the life of a job, of its checkpoints, its files and its restore.
#[test]
fn power_lost_at_any_time_loses_and_doubles_no_row() {
    let mem = MemVfs::new();
    let whole = FaultVfs::new(Arc::new(mem.clone()), FaultPlan::none());
    run(whole.clone(), 2, 1, None).unwrap();
    check(&mem, "no fault");
    let operations = whole.operations();
    assert!(operations > 250, "{operations}");
    for round in 0..48 {
        let k = operations * round / 48 + round % 5;
        let mem = MemVfs::new();
        let fault = FaultVfs::new(Arc::new(mem.clone()), FaultPlan::fail_at(k, Fault::Io).and_from_then_on());
        let what = format!("operation {k} of {operations}");
        // What fails at the very end is a removal that nobody waits for.
        let _ = run(fault, 2, 1, None);
        let after = mem.crash(round, if round % 3 == 0 { Keep::Nothing } else { Keep::Torn });
        let seen = files(&after, "/out");
        run(Arc::new(after.clone()), 1 + round as usize % 3, round, None)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        check_unchanged(&seen, &files(&after, "/out"), &what);
        check(&after, &what);
    }
}

/// T5: an operation fails once: the job restarts and loses nothing.
#[test]
fn a_fault_of_the_disk_leaves_no_trace_in_files() {
    for round in 0..24 {
        let mem = MemVfs::new();
        let k = 40 + round * 17;
        let plan = FaultPlan::fail_at(k, Fault::Io).on_path("/out");
        let vfs = FaultVfs::new(Arc::new(mem.clone()), plan);
        let env = environment(2, Some(round)).vfs(vfs.clone()).job_dir("/job");
        build(&env, &Faults::default());
        env.execute("files").unwrap_or_else(|e| panic!("operation {k}: {e}"));
        check(&mem, &format!("operation {k}"));
        assert!(vfs.failures() == 1 || round > 10, "operation {k} of {}", vfs.operations());
    }
}

/// C8: a job that is stopped has finished what comes before the place where it stops; the rest follows.
#[test]
fn a_job_that_is_stopped_has_finished_its_files() {
    let vfs = MemVfs::new();
    let (mut stops, mut seen) = (0, Files::new());
    for run in 0..40 {
        let env = environment(1 + run % 3, None)
            .vfs(Arc::new(vfs.clone()))
            .job_dir("/job")
            .restore(Restore::Latest);
        build(&env, &Faults::default());
        let job = env.execute_async("files").unwrap();
        if run < 8 && job.checkpoint_now().is_ok() {
            let _ = job.stop(false);
        }
        let stopped = job.result().unwrap().stopped;
        let now = files(&vfs, "/out");
        check_unchanged(&seen, &now, &format!("run {run}"));
        seen = now;
        if !stopped {
            break;
        }
        stops += 1;
    }
    check(&vfs, &format!("{stops} stops"));
    assert!(stops > 0, "no run was stopped");
}

/// C11, K7: the newest checkpoint is damaged, and files were finished since the one before it. Their records would come
/// twice, so the job does not go on, unless it may take these files back.
#[test]
fn an_older_checkpoint_takes_finished_files_back_only_where_that_is_allowed() {
    let mut refused = 0;
    for seed in 0..12 {
        let vfs = MemVfs::new();
        run(Arc::new(vfs.clone()), 2, seed, Some(2_400 + seed * 50)).unwrap_err();
        let dirs = vfs.list(std::path::Path::new("/job/checkpoints")).unwrap();
        let metadata = |dir: &std::path::PathBuf| {
            let id: u64 = dir.file_name()?.to_str()?.strip_prefix("chk-")?.parse().ok()?;
            let path = dir.join("metadata");
            vfs.metadata(&path).ok().map(|_| (id, path))
        };
        let checkpoints: BTreeMap<u64, std::path::PathBuf> = dirs.iter().filter_map(metadata).collect();
        if checkpoints.len() < 2 {
            continue;
        }
        let newest = checkpoints.values().next_back().unwrap();
        vfs.open_append(newest).unwrap().set_len(20).unwrap();
        let before = files(&vfs, "/out");
        if let Err(e) = run(Arc::new(vfs.clone()), 2, seed, None) {
            let e = e.to_string();
            assert!(e.contains("was finished after") && e.contains("allow-output-rollback"), "{e}");
            assert_eq!(files(&vfs, "/out"), before, "seed {seed}");
            refused += 1;
            let env = environment(2, Some(seed))
                .vfs(Arc::new(vfs.clone()))
                .job_dir("/job")
                .restore(Restore::Latest)
                .allow_output_rollback(true);
            build(&env, &Faults::default());
            env.execute("files").unwrap();
        }
        check(&vfs, &format!("seed {seed}"));
    }
    assert!(refused > 2, "{refused}");
}

//! Jobs that go on in another process: here, another environment on the same job directory.

use crate::ledger::Faults;
use crate::restarts::{Ledgers, Strikes, build, check, environment};
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, MemVfs, SharedVfs, Vfs};
use mainstem::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Runs the job at each parallelism in turn; each run but the last ends with a fault. Returns the checkpoints that the
/// runs went on from.
fn run_on(vfs: &MemVfs, parallelisms: &[usize], seed: u64) -> Vec<u64> {
    let strikes = Strikes::default();
    let ledgers = Ledgers::new(&strikes);
    let mut restored = Vec::new();
    for (run, &parallelism) in parallelisms.iter().enumerate() {
        let last = run + 1 == parallelisms.len();
        let strikes = Strikes { map: Faults::at((!last).then_some(5_000)), ..Strikes::default() };
        let env = environment(parallelism, Some(seed + run as u64))
            .restart_strategy(RestartStrategy::None)
            .vfs(Arc::new(vfs.clone()))
            .job_dir("/job")
            .restore(Restore::Latest);
        build(&env, &strikes, &ledgers);
        match env.execute("a job") {
            Ok(result) => {
                assert!(last);
                restored.push(result.checkpoints.unwrap().restored);
            }
            Err(e) => assert!(!last && e.to_string().contains("a fault"), "{e}"),
        }
    }
    check(&ledgers.outputs(), &format!("seed {seed}, parallelism {parallelisms:?}"));
    restored
}

/// C11: what a process has left another one goes on with.
#[test]
fn another_process_goes_on_from_the_last_checkpoint() {
    for seed in 0..3 {
        let restored = run_on(&MemVfs::new(), &[2, 2, 2], seed * 10);
        assert!(restored[0] > 5, "{restored:?}");
    }
}

/// C9: and so it does at another parallelism.
#[test]
fn a_job_goes_on_at_another_parallelism() {
    for (seed, parallelisms) in [[2, 3, 1], [1, 3, 2], [3, 2, 3], [1, 2, 1]].iter().enumerate() {
        run_on(&MemVfs::new(), parallelisms, seed as u64 * 10);
    }
}

fn chk_dirs(vfs: &MemVfs) -> Vec<String> {
    let dirs = vfs.list(Path::new("/job/checkpoints")).unwrap();
    dirs.iter().map(|dir| dir.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// More snapshots are not put on top of a full one.
const CHAIN_MAX: usize = 8;

/// C3: as many completed checkpoints are kept as asked for, and nothing else.
#[test]
fn only_the_newest_checkpoints_are_kept() {
    for retained in [2, 4] {
        let vfs = MemVfs::new();
        let strikes = Strikes::default();
        let ledgers = Ledgers::new(&strikes);
        let env =
            environment(2, Some(7)).vfs(Arc::new(vfs.clone())).job_dir("/job").checkpoint_retained(retained);
        build(&env, &strikes, &ledgers);
        let stats = env.execute("a job").unwrap().checkpoints.unwrap();
        assert!(stats.completed > 10, "{stats:?}");
        // Beside them is what subtasks kept that had finished, and files of older ones that the kept ones refer to.
        let mut kept = chk_dirs(&vfs);
        assert!(kept.len() <= retained + CHAIN_MAX + 1, "{kept:?}");
        let complete = |dir: &String| {
            let files = vfs.list(&Path::new("/job/checkpoints").join(dir)).unwrap();
            files.iter().any(|file| file.file_name().is_some_and(|name| name == "metadata"))
        };
        kept.retain(complete);
        assert!(kept.len() == retained && kept.contains(&format!("chk-{}", stats.last)), "{kept:?}");
    }
}

/// C6: a job that has ended and is started again has nothing left to do, and commits nothing twice.
#[test]
fn a_job_that_has_ended_does_not_run_again() {
    for parallelism in [2, 3] {
        let vfs: SharedVfs = Arc::new(MemVfs::new());
        let strikes = Strikes::default();
        let ledgers = Ledgers::new(&strikes);
        for (run, parallelism) in [2, parallelism].into_iter().enumerate() {
            let env =
                environment(parallelism, Some(5)).vfs(vfs.clone()).job_dir("/job").restore(Restore::Latest);
            // The second run must not read anything.
            let faults = Faults::at((run == 1).then_some(0));
            build(&env, &Strikes { map: faults.clone(), ..Strikes::default() }, &ledgers);
            env.execute("a job").unwrap();
            assert_eq!(faults.left(), run, "a record was read again");
            check(&ledgers.outputs(), &format!("run {run}, parallelism {parallelism}"));
        }
    }
}

/// C11: a job that was started from a checkpoint elsewhere, and dies before it has one of its own, goes on from there; also
/// where its directory has checkpoints of runs before it.
#[test]
fn what_a_job_was_started_from_is_not_forgotten() {
    let (mut died_before, mut died_behind) = (0, 0);
    for round in 0..10 {
        let disk = MemVfs::new();
        let strikes = Strikes::default();
        let ledgers = Ledgers::new(&strikes);
        let run =
            |vfs: SharedVfs, dir: &str, restore: Option<Restore>, ledgers: &Ledgers, fault: Option<u64>| {
                let env =
                    environment(2, Some(round)).restart_strategy(RestartStrategy::None).vfs(vfs).job_dir(dir);
                let env = if let Some(restore) = restore { env.restore(restore) } else { env };
                build(&env, &Strikes { map: Faults::at(fault), ..Strikes::default() }, ledgers);
                env.execute("a job").map(|result| result.checkpoints.unwrap().restored)
            };
        let shared: SharedVfs = Arc::new(disk.clone());
        run(shared.clone(), "/first", None, &ledgers, Some(9_000)).unwrap_err();
        let has_old = round % 2 == 1;
        if has_old {
            run(shared.clone(), "/second", None, &Ledgers::new(&strikes), Some(15_000)).unwrap_err();
        }
        let from = Restore::Path("/first".into());
        let noted = || disk.metadata(Path::new("/second/origin")).is_ok();
        let dies = |k: u64, restore: Restore| {
            let plan = FaultPlan::fail_at(k, Fault::Io).and_from_then_on();
            let faulty = FaultVfs::new(Arc::new(disk.clone()), plan);
            run(faulty, "/second", Some(restore), &ledgers, None).unwrap_err();
        };
        // Before it is noted the process has done nothing.
        let mut k = round % 5;
        while !noted() {
            dies(k, from.clone());
            k += 5;
        }
        assert!(k > 10, "{k}");
        // The next one dies while it goes on.
        dies(k + round, Restore::Latest);
        let anew = run(shared.clone(), "/second", None, &ledgers, None).unwrap_err().to_string();
        assert!(anew.contains("restore latest"), "{anew}");
        let newest = run(shared.clone(), "/second", Some(Restore::Latest), &ledgers, None).unwrap();
        check(&ledgers.outputs(), &format!("round {round}, restored {newest}"));
        died_before += u64::from(!has_old && newest < 30);
        died_behind += u64::from(has_old);
    }
    assert!(died_before > 2 && died_behind > 4, "{died_before} {died_behind}");
}

/// A directory with checkpoints is not begun anew by mistake, and not used by two at once.
#[test]
fn a_directory_in_use_or_with_checkpoints_is_refused() {
    let vfs: SharedVfs = Arc::new(MemVfs::new());
    let job = |restore: bool| {
        let env = environment(1, None).vfs(vfs.clone()).job_dir("/job");
        let env = if restore { env.restore(Restore::Latest) } else { env };
        env.read(Generate::unbounded(|i| i).rate(1_000.0)).sink_to(DiscardSink);
        env.execute_async("a job")
    };
    let first = job(false).unwrap();
    first.checkpoint_now().unwrap();
    let refused = job(true).err().unwrap().to_string();
    assert!(refused.contains("is in use by process"), "{refused}");
    first.cancel();
    assert!(first.result().is_err());
    let refused = job(false).err().unwrap().to_string();
    assert!(refused.contains("holds checkpoints of an earlier run"), "{refused}");
    let second = job(true).unwrap();
    second.stop(false).unwrap();
    let result = second.result().unwrap();
    assert!(result.stopped && result.checkpoints.unwrap().restored > 0);
}

/// C8: a job that is stopped commits everything before the place where it stops, and goes on from there.
#[test]
fn a_job_that_is_stopped_goes_on_where_it_stopped() {
    let vfs: SharedVfs = Arc::new(MemVfs::new());
    let strikes = Strikes::default();
    let ledgers = Ledgers::new(&strikes);
    let mut stops = 0;
    for run in 0..50 {
        let env = environment(1 + run % 3, None).vfs(vfs.clone()).job_dir("/job").restore(Restore::Latest);
        build(&env, &strikes, &ledgers);
        let job = env.execute_async("a job").unwrap();
        // One that has ended in the meantime cannot be stopped.
        if run < 12 && job.checkpoint_now().is_ok() {
            let _ = job.stop(false);
        }
        let result = job.result().unwrap();
        if !result.stopped {
            break;
        }
        stops += 1;
    }
    check(&ledgers.outputs(), &format!("{stops} stops"));
    assert!(stops > 0, "no run was stopped");
}

/// C8: a job that is drained ends as if its input had.
#[test]
fn a_job_that_is_drained_lets_out_all_windows() {
    use crate::ledger::Ledger;
    let env = environment(2, None).checkpoint_storage(CheckpointStorage::Memory);
    let source = Generate::unbounded(|i| i).rate(10_000.0).timestamps(|n| *n as i64);
    let windows = Ledger::new();
    let numbers = env.read(source).assign_timestamps(WatermarkStrategy::monotonous());
    numbers
        .key_by(|n| n % 2)
        .window(Tumbling::of(Duration::from_secs(3_600)))
        .aggregate(Count)
        .map(|w| (w.key, w.value))
        .sink_to(windows.clone());
    let job = env.execute_async("drained").unwrap();
    job.checkpoint_now().unwrap();
    job.stop(true).unwrap();
    let result = job.result().unwrap();
    assert!(result.stopped);
    let counted: u64 = windows.records().iter().map(|(_, count)| count).sum();
    let read: u64 = result.operators[0].records_out;
    assert_eq!((counted, windows.records().len()), (read, 2));
}

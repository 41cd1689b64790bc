//! Disks that fail, checkpoints that are damaged or of another program, and what is promised where less was asked for.

use crate::ledger::{Faults, Ledger};
use crate::restarts::{Ledgers, Outputs, Strikes, build, check, environment, expected};
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp, MemVfs, SharedVfs, Vfs};
use mainstem::prelude::*;
use mainstem::testing::{Script, ScriptedSource};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// C3, T3: a disk that is full for a while costs checkpoints; as many as are tolerated do not cost the job.
#[test]
fn a_full_disk_costs_checkpoints_and_not_the_job() {
    for tolerable in [100, 0] {
        let mem = MemVfs::new();
        let faulty = FaultVfs::new(Arc::new(mem.clone()), FaultPlan::none());
        let (disk, outages) = (faulty.clone(), AtomicU64::new(0));
        let strikes = Strikes::default();
        let ledgers = Ledgers::new(&strikes);
        let env = environment(2, Some(4))
            .vfs(faulty)
            .job_dir("/job")
            .checkpoint_tolerable_failures(tolerable)
            .on_simulated_step(move |step, _| {
                if step == 300 && outages.fetch_add(1, Ordering::SeqCst) == 0 {
                    let full = FaultPlan::fail_at(0, Fault::NoSpace).and_from_then_on();
                    disk.set_plan(full.only(FileOp::NEEDS_SPACE).on_path("checkpoints"));
                }
                // A restarted attempt counts its steps from 0.
                if step == 700 || step == 10 {
                    disk.set_plan(FaultPlan::none());
                }
                Ok(())
            });
        build(&env, &strikes, &ledgers);
        let stats = env.execute("on a full disk").unwrap().checkpoints.unwrap();
        check(&ledgers.outputs(), &format!("{tolerable} tolerable"));
        assert!(stats.failed >= 1 && (stats.restarts > 0) == (tolerable == 0), "{tolerable}: {stats:?}");
    }
}

/// C3: with no restarts the job fails, and says which checkpoint failed and why.
#[test]
fn a_failed_checkpoint_is_named() {
    let plan = FaultPlan::fail_at(0, Fault::NoSpace).only(&[FileOp::Rename]).on_path("chk-3");
    let strikes = Strikes::default();
    let env = environment(1, Some(4))
        .restart_strategy(RestartStrategy::None)
        .vfs(FaultVfs::new(Arc::new(MemVfs::new()), plan))
        .job_dir("/job");
    build(&env, &strikes, &Ledgers::new(&strikes));
    let error = env.execute("on a full disk").unwrap_err().to_string();
    assert!(error.contains("checkpoint 3 failed (1 in a row, 0 tolerated)"), "{error}");
    assert!(error.contains("chk-3/metadata") && error.contains("No space left"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_before_anything_runs() {
    let plan = FaultPlan::fail_at(0, Fault::Os(30)).and_from_then_on().only(&[FileOp::CreateDirAll]);
    let env = environment(1, Some(4)).vfs(FaultVfs::new(Arc::new(MemVfs::new()), plan)).job_dir("/job");
    let strikes = Strikes::default();
    build(&env, &strikes, &Ledgers::new(&strikes));
    let error = env.execute_async("read-only").err().unwrap().to_string();
    assert!(error.contains("cannot create '/job'") && error.contains("Read-only"), "{error}");
}

/// Runs the job until it fails, with checkpoints in `/job`.
fn interrupted(vfs: &SharedVfs, ledgers: &Ledgers) {
    let env =
        environment(2, Some(9)).restart_strategy(RestartStrategy::None).vfs(vfs.clone()).job_dir("/job");
    build(&env, &Strikes { map: Faults::at([9_000]), ..Strikes::default() }, ledgers);
    assert!(env.execute("interrupted").is_err());
}

fn checkpoints(mem: &MemVfs) -> Vec<u64> {
    let dirs = mem.list(Path::new("/job/checkpoints")).unwrap();
    let id = |dir: &Path| dir.file_name()?.to_str()?.strip_prefix("chk-")?.parse().ok();
    let mut ids: Vec<u64> = dirs.iter().filter_map(|dir| id(dir)).collect();
    ids.sort();
    ids.retain(|id| mem.metadata(Path::new(&format!("/job/checkpoints/chk-{id}/metadata"))).is_ok());
    ids
}

fn damage(mem: &MemVfs, id: u64) {
    let path = format!("/job/checkpoints/chk-{id}/metadata");
    let mut bytes = mem.snapshot()[Path::new(&path)].clone().unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    mem.remove_file(Path::new(&path)).unwrap();
    mem.create(Path::new(&path)).unwrap().append(&bytes).unwrap();
}

/// T4: a damaged checkpoint is passed over for the one before; if all are damaged the job does not begin anew.
#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let mem = MemVfs::new();
    let vfs: SharedVfs = Arc::new(mem.clone());
    let strikes = Strikes::default();
    let ledgers = Ledgers::new(&strikes);
    interrupted(&vfs, &ledgers);
    let ids = checkpoints(&mem);
    assert_eq!(ids.len(), 2);
    let restore = |ledgers: &Ledgers| {
        let env = environment(2, Some(10)).vfs(vfs.clone()).job_dir("/job").restore(Restore::Latest);
        build(&env, &strikes, ledgers);
        env
    };
    damage(&mem, ids[1]);
    damage(&mem, ids[0]);
    let error = restore(&ledgers).execute("restored").unwrap_err().to_string();
    assert!(error.contains(&format!("chk-{}/metadata", ids[1])) && error.contains("damaged"), "{error}");
    damage(&mem, ids[0]); // The same bit again: it is whole.
    let stats = restore(&ledgers).execute("restored").unwrap().checkpoints.unwrap();
    assert_eq!(stats.restored, ids[0]);
}

/// C8: state that no operator is for is an error that names it, before anything runs, or left out on demand; the others keep
/// theirs.
#[test]
fn state_of_another_program_is_refused() {
    let vfs: SharedVfs = Arc::new(MemVfs::new());
    let job = |uid: &str, fails: bool| {
        let faults = Faults::at(fails.then_some(15_000));
        let env = environment(2, Some(1)).vfs(vfs.clone()).job_dir("/job").restore(Restore::Latest);
        let env = env.restart_strategy(RestartStrategy::None);
        let numbers = env.read(Generate::new(20_000, |i| i).rate(50_000.0)).uid("numbers");
        let numbers = numbers.try_map(move |n| faults.check().map(|()| n));
        let counts = numbers.key_by(|n| n % 3).count().uid(uid);
        counts.sink_to(DiscardSink).uid("out");
        env
    };
    job("counts", true).execute("first").unwrap_err();
    let refused = job("sums", false).execute("second").unwrap_err().to_string();
    assert!(
        refused.contains("holds state of the operator with uid 'counts', which the program does not have"),
        "{refused}"
    );
    let result = job("sums", false).allow_non_restored_state(true).execute("third").unwrap();
    let read = result.operators[0].records_out;
    assert!((1..20_000).contains(&read), "the source has kept its position: {read}");
}

/// A program without uids fits by place and name.
#[test]
fn operators_without_uids_are_found_by_place_and_name() {
    let vfs: SharedVfs = Arc::new(MemVfs::new());
    let job = |other: bool| {
        let env = environment(1, Some(1)).vfs(vfs.clone()).job_dir("/job").restore(Restore::Latest);
        let numbers = env.generate(30, |i| i);
        let numbers = if other { numbers.map(|n| n + 1) } else { numbers };
        numbers.key_by(|n| n % 3).count().sink_to(FnSink::new(|_: (u64, u64)| ()));
        env
    };
    job(false).execute("first").unwrap();
    job(false).execute("the same").unwrap();
    let refused = job(true).execute("another");
    assert!(refused.is_ok(), "what is between keeps nothing: {refused:?}");
}

/// C2: at least once, nothing is lost, and nobody waits.
#[test]
fn at_least_once_loses_nothing() {
    for seed in 0..6 {
        let strikes = Strikes { keyed: Faults::at([4_000, 9_000]), ..Strikes::default() };
        let ledgers = Ledgers::new(&strikes);
        let env = environment(3, Some(seed))
            .checkpoint_storage(CheckpointStorage::Memory)
            .checkpoint_mode(CheckpointMode::AtLeastOnce);
        build(&env, &strikes, &ledgers);
        let stats = env.execute("at least once").unwrap().checkpoints.unwrap();
        assert_eq!(stats.restarts, 2);
        let Outputs { counts, windows, .. } = ledgers.outputs();
        let expected = expected();
        let most = |counts: &[(u64, u64)], key| counts.iter().filter(|c| c.0 == key).map(|c| c.1).max();
        for key in 0..997 {
            assert!(
                most(&counts, key) >= most(&expected.counts, key),
                "seed {seed}: records of key {key} are lost"
            );
        }
        let all = |windows: &[(u64, i64, u64)]| windows.iter().map(|w| w.2).sum::<u64>();
        assert!(all(&windows) >= all(&expected.windows), "seed {seed}");
    }
}

/// C1: what was late stays late after a restore, however the inputs come back: no window comes out twice.
#[test]
fn late_records_stay_late_after_a_restore() {
    for seed in 0..20 {
        let pause = Duration::from_millis(500);
        let script = |key: u64| {
            let early = (0..20).map(|i| (key, i * 10));
            Script::new()
                .records_at(early)
                .watermark(1_000)
                .pause(pause)
                .records_at([(key, 50), (key + 1, 60)])
                .pause(pause)
                .records_at((0..5).map(|i| (key, 2_000 + i)))
        };
        let ledger = Ledger::new();
        let env = environment(2, Some(seed)).checkpoint_storage(CheckpointStorage::Memory);
        let numbers = env.read(ScriptedSource::new((0..3).map(script))).uid("scripts");
        numbers
            .key_by(|key| *key)
            .window(Tumbling::of(Duration::from_millis(100)))
            .aggregate(Count)
            .map(|w| (w.key, w.window.start, w.value))
            .sink_to(ledger.clone());
        let failed = AtomicU64::new(0);
        let env = env.on_simulated_step(move |_, now| {
            let at = Duration::from_millis(20 + (seed * 57) % 900);
            if now > at && failed.swap(1, Ordering::SeqCst) == 0 {
                return Err(mainstem::Error::user("a failure"));
            }
            Ok(())
        });
        let result = env.execute("late").unwrap();
        assert_eq!(result.checkpoints.unwrap().restarts, 1, "seed {seed}");
        let mut expected: Vec<(u64, i64, u64)> = Vec::new();
        for key in 0..3 {
            expected.extend([(key, 0, 10), (key, 100, 10), (key, 2_000, 5)]);
        }
        assert_eq!(ledger.records(), expected, "seed {seed}");
    }
}

/// Counts how often it is opened.
#[derive(Clone)]
struct Opened(Arc<AtomicU64>);

impl ProcessFunction<u64, u64> for Opened {
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn process(&mut self, n: u64, _ctx: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        out.emit(n);
        Ok(())
    }
}

/// C6: checkpoints go on when some sources have ended; their subtasks are not run again after a restore.
#[test]
fn finished_subtasks_are_not_run_again() {
    for seed in 0..4 {
        let (short, long) = (Opened(Arc::default()), Opened(Arc::default()));
        let ledger = Ledger::new();
        let env = environment(2, Some(seed)).checkpoint_storage(CheckpointStorage::Memory);
        let few = env.generate(10, |i| i).uid("few").process(short.clone()).uid("short");
        let many = env.read(Generate::new(5_000, |i| 100 + i).rate(50_000.0)).uid("many");
        let faults = Faults::at([3_000, 4_000]);
        let many = many.process(long.clone()).uid("long").try_map(move |n| faults.check().map(|()| n));
        few.union(&[&many]).key_by(|n| n % 7).count().uid("counts").sink_to(ledger.clone()).uid("out");
        let stats = env.execute("some sources end").unwrap().checkpoints.unwrap();
        assert_eq!((stats.restarts, ledger.records().len()), (2, 5_010), "seed {seed}");
        let opened = [short, long].map(|of| of.0.load(Ordering::SeqCst));
        assert_eq!(opened, [2, 6], "seed {seed}: {stats:?}");
    }
}

/// A stateful operator without a uid is named in the plan of a job that takes checkpoints.
#[test]
fn state_without_a_uid_is_shown_in_the_plan() {
    let plan = |on: bool| {
        let env = Environment::new().parallelism(1).checkpoint_storage(CheckpointStorage::Memory);
        let env = if on { env.checkpoint_interval(Duration::from_secs(1)) } else { env };
        let numbers = env.generate(3, |i| i).uid("numbers").map(|n| n);
        numbers.key_by(|n| *n).count().name("nameless").sink_to(DiscardSink).uid("out");
        numbers.key_by(|n| *n).count().name("named").uid("counts").sink_to(DiscardSink).uid("other");
        env.explain().unwrap()
    };
    let shown = plan(true);
    let (_, warning) = shown.split_once("State without a uid").unwrap();
    assert!(
        warning.contains("'nameless'") && !warning.contains("'named'") && !warning.contains("map"),
        "{shown}"
    );
    assert!(!plan(false).contains("without a uid"));
}

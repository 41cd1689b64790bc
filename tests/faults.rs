//! Faults inside a job: each file operation fails in turn, blocks are damaged, types cannot be read back, user code
//! panics. The job ends with one sentence that names the operator, or succeeds; it leaves no half of an output.

use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp, MemVfs, Vfs};
use mainstem::connectors::sink::RollingPolicy;
use mainstem::prelude::*;
use mainstem::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const MODES: [ExecutionMode; 2] = [ExecutionMode::Batch, ExecutionMode::Streaming];
/// Threads as in production, and the simulation, whose order of operations is the same each time.
const DRIVERS: [Driver; 2] = [Driver::Threads, Driver::Simulation { seed: 11 }];
/// A job that runs longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Different words that do not fit into 8 MiB.
const SPILLING: u64 = 160_000;

type Snapshot = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// A job over one in-memory file system.
#[derive(Clone, Copy, Debug)]
struct Job {
    mode: ExecutionMode,
    driver: Driver,
    /// Different words, each twice.
    words: u64,
    /// Whether the output directory is there before.
    existing: bool,
    /// Whether nothing is tried again.
    strict: bool,
}

/// What a run came to, and the file system after it.
struct Outcome {
    result: mainstem::Result<JobResult>,
    before: Snapshot,
    after: Snapshot,
}

impl Job {
    fn run(self, plan: FaultPlan) -> (Outcome, Arc<FaultVfs>) {
        let disk = MemVfs::new();
        for dir in ["/in", "/tmp", if self.existing { "/out/counts" } else { "/out" }] {
            disk.create_dir_all(Path::new(dir)).unwrap();
        }
        for name in ["/in/a.txt", "/in/b.txt"] {
            let text: String =
                (0..self.words).map(|i| format!("word-{i}{}", if i % 9 == 0 { '\n' } else { ' ' })).collect();
            disk.create(Path::new(name)).unwrap().append(text.as_bytes()).unwrap();
        }
        let before = disk.snapshot();
        let faulty = FaultVfs::new(Arc::new(disk.clone()), plan);
        let env = Environment::new()
            .execution_mode(self.mode)
            .driver(self.driver)
            .parallelism(2)
            .memory(ByteSize::mib(8))
            .temp_dir("/tmp")
            .vfs(faulty.clone());
        let env = if self.strict { env.restart_strategy(RestartStrategy::None) } else { env };
        env.read(TextSource::path("/in"))
            .name("lines")
            .flat_map(|line, out| words(&line).for_each(|word| out.emit(word.to_string())))
            .key_by(|word| word.clone())
            .count()
            .name("counts")
            .sink_to(CsvSink::csv("/out/counts"))
            .name("write");
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || drop(send.send(env.execute("faults"))));
        let result = receive.recv_timeout(TIME_LIMIT).unwrap_or_else(|_| panic!("{self:?} hangs"));
        (Outcome { result, before, after: disk.snapshot() }, faulty)
    }

    /// Whether the output is there, whole, with nothing beside it.
    fn is_complete(self, outcome: &Outcome) -> bool {
        let is_part =
            |path: &PathBuf| path.starts_with("/out/counts") && path.to_string_lossy().contains("/part-");
        let mut counts = BTreeMap::new();
        for content in
            outcome.after.iter().filter(|(path, _)| is_part(path)).filter_map(|(_, content)| content.as_ref())
        {
            for line in std::str::from_utf8(content).unwrap().lines() {
                let (word, count) = line.split_once(',').unwrap();
                let last = counts.entry(word.to_string()).or_insert(0u64);
                *last = count.parse::<u64>().unwrap().max(*last);
            }
        }
        let rest: Snapshot = outcome
            .after
            .iter()
            .filter(|(path, _)| !is_part(path))
            .map(|(p, c)| (p.clone(), c.clone()))
            .collect();
        let mut expected = outcome.before.clone();
        expected.insert("/out/counts".into(), None);
        rest == expected && counts.len() as u64 == self.words && counts.values().all(|&count| count == 2)
    }

    /// Success with the whole output, or an error that names operator and path and leaves nothing.
    fn check(self, outcome: &Outcome, what: &str) {
        match &outcome.result {
            Ok(_) => assert!(
                self.is_complete(outcome),
                "{self:?} {what}: succeeded without its output; there is {:?}",
                outcome.after.keys()
            ),
            Err(e) => {
                let text = e.to_string();
                assert_eq!(e.kind(), ErrorKind::Environment, "{self:?} {what}: {text}");
                assert!(text.starts_with("operator '") && text.contains("'/"), "{self:?} {what}: {text}");
                assert!(!text.contains('\n') && !text.contains("internal"), "{self:?} {what}: {text}");
                let left: Vec<_> =
                    outcome.after.keys().filter(|path| !outcome.before.contains_key(*path)).collect();
                // Behind the point of no return a commit is only ever completed, whatever fails then.
                let nothing_left = outcome.after == outcome.before;
                assert!(nothing_left || self.is_complete(outcome), "{self:?} {what}: {text}; left: {left:?}");
            }
        }
    }
}

/// Runs with a fault at each operation that `plan` counts, or at every `step`-th, until none is left.
fn sweep(job: Job, step: u64, plan: impl Fn(u64) -> FaultPlan) -> u64 {
    let mut failed = 0;
    for k in (0..).step_by(step as usize) {
        let (outcome, faulty) = job.run(plan(k));
        job.check(&outcome, &format!("with a fault at operation {k}"));
        failed += u64::from(outcome.result.is_err());
        if faulty.failures() == 0 {
            assert!(outcome.result.is_ok() && k > 0, "{job:?}: {:?}", outcome.result.err());
            break;
        }
    }
    failed
}

#[test]
fn any_operation_that_fails_ends_the_job_cleanly() {
    for mode in MODES {
        for existing in [false, true] {
            let job = Job { mode, driver: DRIVERS[1], words: 40, existing, strict: true };
            let failed = sweep(job, 1, |k| FaultPlan::fail_at(k, Fault::Io));
            assert!(failed > 20, "{job:?}: only {failed} runs failed");
        }
        let job = Job { mode, driver: DRIVERS[0], words: 40, existing: false, strict: true };
        assert!(sweep(job, 3, |k| FaultPlan::fail_at(k, Fault::Io)) > 7);
    }
}

#[test]
fn a_disk_that_is_full_while_writing_ends_the_job_cleanly() {
    for mode in MODES {
        for driver in DRIVERS {
            for fault in [Fault::NoSpace, Fault::ShortWrite] {
                let job =
                    Job { mode, driver, words: 5_000, existing: driver == Driver::Threads, strict: false };
                let plan = |k| FaultPlan::fail_at(k, fault).and_from_then_on().only(FileOp::NEEDS_SPACE);
                let failed = sweep(job, 1, plan);
                assert!(failed > 3, "{job:?}: only {failed} runs failed");
            }
        }
    }
}

#[test]
fn a_disk_that_is_full_while_spilling_ends_the_job_cleanly() {
    for driver in DRIVERS {
        let job = Job { mode: ExecutionMode::Batch, driver, words: SPILLING, existing: false, strict: false };
        let (outcome, faulty) = job.run(FaultPlan::none().only(FileOp::NEEDS_SPACE).on_path("/tmp"));
        assert!(outcome.result.unwrap().spilled_bytes() > 0, "{job:?} spills nothing");
        let step = faulty.operations() / 7 + 1;
        let plan = |k| {
            FaultPlan::fail_at(k, Fault::NoSpace).and_from_then_on().only(FileOp::NEEDS_SPACE).on_path("/tmp")
        };
        assert!(sweep(job, step, plan) > 3, "{job:?}");
    }
}

/// What the consumer of a shuffle cannot read names the consumer.
#[test]
fn spilled_data_that_cannot_be_read_names_the_operator() {
    let job = Job {
        mode: ExecutionMode::Batch,
        driver: DRIVERS[1],
        words: SPILLING,
        existing: false,
        strict: true,
    };
    let reads = |plan: FaultPlan| plan.only(&[FileOp::Read]).on_path("/tmp");
    let (outcome, faulty) = job.run(reads(FaultPlan::none()));
    assert!(outcome.result.is_ok() && faulty.operations() > 8);
    let last = faulty.operations() - 1;
    for k in [0, last / 2, last] {
        let (outcome, _) = job.run(reads(FaultPlan::fail_at(k, Fault::Io)));
        job.check(&outcome, &format!("with read {k} failing"));
        assert!(outcome.result.unwrap_err().operator().is_some());
    }
    let (outcome, _) = job.run(reads(FaultPlan::fail_at(last, Fault::Io)));
    assert_eq!(outcome.result.unwrap_err().operator(), Some("counts"));
    for offset in [10, 500, 100_000] {
        let (outcome, _) = job.run(FaultPlan::none().flip_bit("/tmp", offset, 3));
        job.check(&outcome, &format!("with a bit flipped at {offset}"));
        let error = outcome.result.unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("/tmp/"), "{error}");
    }
}

/// C12, C13: a single failure of the disk while a batch runs is repaired: the unit is tried again, or, where what it
/// reads is gone, made again by its producer. Only what happens before the first unit and after the last one fails the job.
#[test]
fn a_single_failure_of_the_disk_does_not_end_a_batch() {
    let job = Job {
        mode: ExecutionMode::Batch,
        driver: DRIVERS[1],
        words: SPILLING,
        existing: false,
        strict: false,
    };
    let spills = |plan: FaultPlan| plan.on_path("/tmp");
    let (outcome, faulty) = job.run(spills(FaultPlan::none()));
    let undisturbed = outcome.after;
    assert!(outcome.result.unwrap().spilled_bytes() > 0);
    let operations = faulty.operations();
    assert!(operations > 100);
    let mut again = 0;
    for k in (0..operations).step_by(operations as usize / 25) {
        let (outcome, faulty) = job.run(spills(FaultPlan::fail_at(k, Fault::Io)));
        let result = outcome.result.unwrap_or_else(|e| panic!("operation {k}: {e}"));
        assert_eq!(faulty.failures(), 1);
        assert_eq!(outcome.after, undisturbed, "operation {k}");
        again += result.stages.iter().map(|stage| stage.retries()).sum::<usize>();
        assert!(result.stages.iter().all(|stage| stage.retries() <= 2), "operation {k}: {result}");
    }
    assert!(again >= 25, "{again}");
    // Whatever the file operation is, also of sources and sinks, the job succeeds or says why, and leaves nothing.
    let small = Job { words: 40, ..job };
    let failed = sweep(small, 1, |k| FaultPlan::fail_at(k, Fault::Io));
    let strict = sweep(Job { strict: true, ..small }, 1, |k| FaultPlan::fail_at(k, Fault::Io));
    assert!(failed < strict, "{failed} of {strict} failures are left");
}

#[test]
fn a_line_above_the_limit_names_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.txt");
    std::fs::write(&path, format!("short\n{}\n", "x".repeat(5_000))).unwrap();
    for mode in MODES {
        let env = Environment::new().execution_mode(mode).parallelism(2);
        let out = dir.path().join("out");
        env.read(TextSource::path(&path).line_bytes_max(ByteSize(1_000)))
            .name("lines")
            .sink_to(TextSink::text(&out));
        let error = env.execute("long line").unwrap_err();
        let text = error.to_string();
        assert!(matches!(&error, Error::Operator { operator, .. } if operator == "lines"), "{text}");
        assert!(text.contains("long.txt' at byte 6") && text.contains("1000 bytes"), "{text}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{mode}: something is left");
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sparse {
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    number: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(u64),
    Text(String),
}

/// A key whose decoding is another key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Forgets {
    #[serde(skip)]
    number: u64,
}

#[test]
fn a_type_that_does_not_survive_encoding_is_named_in_both_modes() {
    for mode in MODES {
        for driver in DRIVERS {
            let start = || Environment::new().execution_mode(mode).driver(driver).parallelism(2);
            let error = |env: Environment, name: &str| {
                let error = env.execute("types").unwrap_err();
                let text = error.to_string();
                assert_eq!(error.kind(), ErrorKind::Usage, "{mode}: {text}");
                assert!(error.operator().is_some() && text.contains(name), "{mode}: {text}");
                text
            };
            let env = start();
            let records = env.generate(10, |number| Sparse { note: None, number });
            records.key_by(|r| r.number).reduce(|a, b| a.number += b.number).sink_to(DiscardSink);
            assert!(error(env, "Sparse").contains("skip_serializing_if"));
            let env = start();
            env.generate(10, |number| Sparse { note: None, number }).rebalance().sink_to(DiscardSink);
            assert!(error(env, "Sparse").contains("skip_serializing_if"));
            let env = start();
            let records = env
                .generate(10, |n| if n % 2 == 0 { Either::Number(n) } else { Either::Text(n.to_string()) });
            records.key_by(|_| 0).reduce(|_, _| ()).sink_to(DiscardSink);
            error(env, "Either");
            let env = start();
            env.generate(10, |n| n + 1).key_by(|n| Forgets { number: *n }).count().sink_to(DiscardSink);
            error(env, "Forgets");
        }
    }
}

#[test]
fn user_code_that_fails_or_panics_names_the_operator_and_leaves_no_output() {
    let dir = tempfile::tempdir().unwrap();
    for mode in MODES {
        for driver in DRIVERS {
            for place in ["map", "try_map", "key", "fold", "sink", "clone"] {
                let env = Environment::new().execution_mode(mode).driver(driver).parallelism(2);
                let at = move |here: &str, n: u64| n == 4_321 && place == here;
                let armed = Arc::new(AtomicBool::new(false));
                let bomb = Bomb(armed.clone());
                env.generate(5_000, |n| n)
                    .map(move |n| if at("map", n) { panic!("no {n}") } else { n })
                    .name("map")
                    .try_map(move |n| if at("try_map", n) { Err("no 4321") } else { Ok(n) })
                    .name("try_map")
                    .filter(move |_| {
                        let _holds = &bomb;
                        true
                    })
                    .key_by(move |n| if at("key", *n) { panic!("no {n}") } else { *n })
                    .reduce(move |a, b| *a += b)
                    .name("fold")
                    .map(move |n| if at("fold", n) { panic!("no {n}") } else { n.to_string() })
                    .sink_to(TextSink::text(dir.path().join("out")));
                env.generate(5_000, |n| n)
                    .sink_to(FnSink::new(move |n: u64| {
                        if at("sink", n) {
                            panic!("no {n}")
                        }
                    }))
                    .name("sink");
                armed.store(place == "clone", Ordering::Relaxed);
                let error = env.execute("fails").unwrap_err();
                let text = error.to_string();
                assert_eq!(error.kind(), ErrorKind::User, "{mode} {driver:?} {place}: {text}");
                let expected = if place == "clone" { "no clone" } else { "no 4321" };
                assert!(text.contains(expected), "{mode} {driver:?} {place}: {text}");
                if ["map", "try_map", "sink"].contains(&place) {
                    assert_eq!(error.operator(), Some(place), "{mode} {driver:?}: {text}");
                }
                assert!(error.operator().is_some() || place == "clone", "{text}");
                assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{mode} {driver:?} {place}");
            }
        }
    }
}

/// Cannot be cloned any more once it is armed.
struct Bomb(Arc<AtomicBool>);

impl Clone for Bomb {
    fn clone(&self) -> Bomb {
        assert!(!self.0.load(Ordering::Relaxed), "no clone");
        Bomb(self.0.clone())
    }
}

/// M11: in BATCH files roll by no checkpoint and by no size: each is whole, and none is there before the end. The same policy makes
/// many in STREAMING with checkpoints.
#[test]
fn m11_batch_has_no_rolling() {
    let files = |disk: &MemVfs| -> Vec<(PathBuf, Vec<u8>)> {
        let all = disk.snapshot().into_iter().filter_map(|(path, content)| Some((path, content?)));
        all.filter(|(path, _)| path.starts_with("/out") && path.to_string_lossy().contains("/part-"))
            .collect()
    };
    let run = |mode, small: bool| {
        let disk = MemVfs::new();
        ["/out", "/tmp"].iter().for_each(|dir| disk.create_dir_all(Path::new(dir)).unwrap());
        let env = Environment::new().execution_mode(mode).parallelism(1).temp_dir("/tmp");
        let env = env.vfs(Arc::new(disk.clone()));
        let env = match mode {
            ExecutionMode::Batch => env,
            _ => env
                .driver(Driver::Simulation { seed: 3 })
                .checkpoint_storage(CheckpointStorage::Memory)
                .checkpoint_interval(Duration::from_millis(5)),
        };
        let policy = if small { RollingPolicy::default().max_bytes(100) } else { RollingPolicy::default() };
        let before_the_end = disk.clone();
        env.read(Generate::new(5_000, |n| n).rate(100_000.0))
            .map(move |n| {
                let batch = mode == ExecutionMode::Batch;
                assert!(!batch || n % 500 > 0 || files(&before_the_end).is_empty(), "a file before the end");
                n.to_string()
            })
            .sink_to(TextSink::text("/out/rows").rolling(policy));
        env.execute("rolls").unwrap();
        files(&disk)
    };
    let (rolling, whole) = (run(ExecutionMode::Batch, true), run(ExecutionMode::Batch, false));
    assert!(
        !rolling.is_empty() && rolling == whole,
        "{} files, {} without the policy",
        rolling.len(),
        whole.len()
    );
    let lines = rolling.iter().map(|(_, content)| content.iter().filter(|byte| **byte == b'\n').count());
    assert_eq!(lines.sum::<usize>(), 5_000);
    assert!(run(ExecutionMode::Streaming, true).len() > 10 * rolling.len());
}

//! Jobs in a job directory that end before their end, and are resumed.

use super::support::{Files, Log, Numbers, Place, SPLITS, Trouble, build, no_trouble, undisturbed};
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp, Keep, MemVfs, Vfs};
use mainstem::prelude::*;
use mainstem::{Error, ErrorKind};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const COUNT: u64 = 3_000;
const DRIVER: Driver = Driver::Simulation { seed: 4 };
const STEPS: [&str; 4] = ["first", "second", "third", "fourth"];

struct Outcome {
    result: mainstem::Result<JobResult>,
    log: Log,
}

/// Begins a job in `/job`, or goes on with it.
fn run_on(disk: &MemVfs, vfs: Arc<dyn Vfs>, resume: bool, driver: Driver, trouble: &Trouble) -> Outcome {
    let (place, log) = (Place::on(disk.clone(), vfs), Log::default());
    let env = place.environment(driver);
    let env = if resume { env.resume("/job") } else { env.job_dir("/job") };
    build(&env, COUNT, &log, trouble, Path::new("/out/rows"));
    let result = env.execute("resumable");
    Outcome { result, log }
}

fn run(disk: &MemVfs, resume: bool, trouble: &Trouble) -> Outcome {
    run_on(disk, Arc::new(disk.clone()), resume, DRIVER, trouble)
}

fn failing(step: &'static str, record: u64) -> Trouble {
    Arc::new(move |name, n, _| match name == step && n == record {
        true => Err("trouble".into()),
        false => Ok(()),
    })
}

/// The output, and that beside it there is only the directory of the finished job.
fn output(disk: &MemVfs, what: &str) -> Files {
    let all = disk.snapshot();
    let (output, rest): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(path, _)| path.starts_with("/out/rows"));
    let rest: Vec<PathBuf> = rest.into_iter().map(|(path, _)| path).collect();
    let left = ["/job", "/job/job", "/job/lock", "/job/owner", "/out", "/tmp"].map(PathBuf::from);
    assert_eq!(rest, left, "{what}");
    output.into_iter().filter_map(|(path, content)| Some((path, content?))).collect()
}

/// A job that has failed in the last stage, with its disk.
fn interrupted() -> MemVfs {
    let disk = MemVfs::new();
    assert!(run(&disk, false, &failing("fourth", 1500)).result.is_err());
    disk
}

/// M10: what a source reads is several units of work for a subtask. Those that were finished are not read again, whichever they are, and
/// the output is that of an undisturbed run.
#[test]
fn a_source_that_was_read_in_part_is_read_on() {
    let run = |disk: &MemVfs, resume: bool, fails_at: Option<u64>, seed| {
        let (place, log) = (Place::on(disk.clone(), Arc::new(disk.clone())), Log::default());
        let env = place.environment(Driver::Simulation { seed });
        let env = if resume { env.resume("/job") } else { env.job_dir("/job") };
        env.read(Numbers { count: COUNT, log: log.clone() })
            .uid("numbers")
            .try_map::<_, String>(move |n| match fails_at == Some(n) {
                true => Err(format!("trouble at {n}")),
                false => Ok((n % 7, n)),
            })
            .key_by(|row| row.0)
            .reduce_group(|key, rows| {
                [(*key, rows.map(|row| row.1.to_string()).collect::<Vec<_>>().join(" "))]
            })
            .sink_to(CsvSink::csv("/out/rows"));
        (env.execute("read in part").map(|_| ()), log.opened())
    };
    let disk = MemVfs::new();
    run(&disk, false, None, 0).0.unwrap();
    let expected = output(&disk, "undisturbed");
    let mut finished = 0;
    for seed in 0..8 {
        let disk = MemVfs::new();
        let (result, opened) = run(&disk, false, Some(COUNT - 1), seed);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::User);
        let (result, opened_again) = run(&disk, true, None, seed);
        result.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(output(&disk, "resumed"), expected, "seed {seed}");
        assert_eq!(
            opened_again,
            SPLITS - (opened - 1),
            "seed {seed}: all but the one that failed were finished"
        );
        finished += opened - 1;
    }
    assert!(finished > 0, "none of the seeds finished a part before the one that fails");
}

/// M3, M10, C13: what was finished is not run again: no source is opened again that was read into a finished stage, and the
/// output is that of an undisturbed run. Numbers and accumulators are those of the whole job.
#[test]
fn a_resumed_job_runs_only_what_is_missing() {
    let expected = undisturbed(COUNT);
    for (at, step) in STEPS.into_iter().enumerate() {
        let disk = MemVfs::new();
        let first = run(&disk, false, &failing(step, 1500));
        assert_eq!(first.result.unwrap_err().kind(), ErrorKind::User);
        let Outcome { result, log } = run(&disk, true, &no_trouble());
        let result = result.unwrap_or_else(|e| panic!("{step}: {e}"));
        assert_eq!(output(&disk, step), expected, "{step}");
        if at > 0 {
            assert_eq!((log.opened(), log.read()), (0, 0), "{step}");
        } else {
            assert!(log.opened() <= SPLITS, "{step}");
        }
        // Stages before the one that failed have nothing to do, and those behind it all of it.
        let attempts: Vec<_> = result.stages.iter().map(|stage| stage.attempts).collect();
        let units: Vec<_> = result.stages.iter().map(|stage| stage.units).collect();
        assert!(attempts[..at].iter().all(|&n| n == 0), "{step}: {attempts:?}");
        assert!((1..=units[at]).contains(&attempts[at]), "{step}: {attempts:?}");
        assert_eq!(attempts[at + 1..], units[at + 1..], "{step}");
        for step in STEPS {
            assert_eq!(result.accumulators.get::<LongCounter>(step).unwrap(), COUNT as i64, "{step}");
        }
        let seen = |name: &str| result.operator(name).unwrap().records_out;
        assert_eq!((seen("read"), result.operator("write").unwrap().records_in), (COUNT, COUNT));
        assert!(result.stages.iter().take(3).all(|stage| stage.shuffle_rows == COUNT), "{result}");
    }
}

/// A job that is not disturbed leaves the mark that it has finished, and resuming it does nothing.
#[test]
fn a_finished_job_is_not_run_again() {
    let disk = MemVfs::new();
    run(&disk, false, &no_trouble()).result.unwrap();
    let expected = undisturbed(COUNT);
    assert_eq!(output(&disk, "finished"), expected);
    let again = run(&disk, true, &failing("first", 0));
    let result = again.result.unwrap();
    assert_eq!((again.log.opened(), result.stages.len()), (0, 0));
    assert_eq!(output(&disk, "resumed"), expected);
}

#[test]
fn what_cannot_be_resumed_says_why() {
    let text = |outcome: Outcome| outcome.result.unwrap_err().to_string();
    let disk = MemVfs::new();
    assert!(text(run(&disk, true, &no_trouble())).contains("there is no job to resume in '/job'"));
    let streaming = Environment::new().execution_mode(ExecutionMode::Streaming).resume("/job");
    streaming.generate(3, |n| n).sink_to(DiscardSink);
    let refused = streaming.execute("streaming").unwrap_err().to_string();
    assert!(refused.starts_with("a job in STREAMING is not resumed from '/job'"), "{refused}");
    let disk = interrupted();
    assert!(text(run(&disk, false, &no_trouble())).contains("holds a job that is not finished"));
    // T19: a second process while the first one runs.
    let held = mainstem::services::job_dir::JobDirectory::open(
        Arc::new(disk.clone()),
        Path::new("/job"),
        "process 7",
    );
    let refused = text(run(&disk, true, &no_trouble()));
    assert!(refused.contains("'/job' is in use by process 7"), "{refused}");
    drop(held);
    run(&disk, true, &no_trouble()).result.unwrap();
}

/// Plan, memory, parallelism, parameters, name and input must be as they were.
#[test]
fn a_changed_job_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.txt");
    let write = |text: &str| std::fs::write(&input, text).unwrap();
    type Change = fn(Environment) -> Environment;
    let run = |resume: bool, name: &str, top: u64, change: Change| {
        let env = Environment::new()
            .execution_mode(ExecutionMode::Batch)
            .parallelism(2)
            .memory(ByteSize::mib(16))
            .driver(DRIVER);
        let env = change(env);
        let env =
            if resume { env.resume(dir.path().join("job")) } else { env.job_dir(dir.path().join("job")) };
        let lines = env.read(TextSource::path(&input));
        let lines = if top > 1 { lines.map(|line| line) } else { lines };
        lines
            .key_by(|line| line.clone())
            .count()
            .map(move |(line, count)| {
                assert!(resume || count == 0, "the first run fails");
                format!("{line} {count}")
            })
            .name("last")
            .sink_to(TextSink::text(dir.path().join("out")));
        env.execute(name).map(|_| ())
    };
    let text = "a line\nanother line\n".repeat(3_000);
    write(&text);
    let metadata = std::fs::metadata(&input).unwrap();
    assert_eq!(run(false, "job", 1, |env| env).unwrap_err().kind(), ErrorKind::User);
    let cases: [(&str, u64, Change, &str); 5] = [
        ("other", 1, |env| env, "job was 'job', and is 'other'"),
        ("job", 2, |env| env, "number of operators was"),
        ("job", 1, |env| env.memory(ByteSize::mib(17)), "memory was 16MiB, and is 17MiB"),
        ("job", 1, |env| env.parallelism(3), "parallelism was 2, and is 3"),
        ("job", 1, |env| env.parameters(Parameters::from_args(["--x", "1"]).unwrap()), "parameters was"),
    ];
    for (name, top, change, expected) in cases {
        let text = run(true, name, top, change).unwrap_err().to_string();
        assert!(text.contains("cannot be resumed") && text.contains(expected), "{text}");
    }
    // The same size and time, but another letter in the middle.
    let restore_time = || {
        let file = std::fs::File::options().write(true).open(&input).unwrap();
        file.set_modified(metadata.modified().unwrap()).unwrap();
    };
    let mut other = text.clone().into_bytes();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    for (content, back) in [(other.clone(), true), (text.clone().into_bytes(), false)] {
        std::fs::write(&input, content).unwrap();
        if back {
            restore_time();
        }
        let text = run(true, "job", 1, |env| env).unwrap_err().to_string();
        assert!(text.contains("input file '") && text.contains("in.txt' was of"), "{text}");
    }
    write(&text);
    restore_time();
    run(true, "job", 1, |env| env).unwrap();
}

/// Anything that the death of a process may leave: the job ends at each file operation in turn, and is resumed. The same
/// with what a power loss leaves, since nothing of what can be computed again is synced.
#[test]
fn a_job_that_dies_at_any_operation_is_resumed() {
    let expected = undisturbed(COUNT);
    let dies_at = |k: u64| {
        let disk = MemVfs::new();
        let plan = FaultPlan::fail_at(k, Fault::Io).and_from_then_on();
        let faulty = FaultVfs::new(Arc::new(disk.clone()), plan);
        let outcome = run_on(&disk, faulty.clone(), false, DRIVER, &no_trouble());
        (disk, outcome, faulty)
    };
    let (_, outcome, faulty) = dies_at(u64::MAX);
    outcome.result.unwrap();
    let operations = faulty.operations();
    let long = std::env::var("MAINSTEM_LONG").is_ok();
    let step = if long { 1 } else { operations as usize / 60 + 1 };
    let mut resumed = 0;
    // The last operations are those of the commit: every one of them.
    let points = (0..operations - 60).step_by(step).chain(operations - 60..operations);
    for k in points {
        let (disk, outcome, _) = dies_at(k);
        let mut images = vec![(disk.clone(), "killed".to_string())];
        for (seed, keep) in [(k, Keep::Nothing), (k, Keep::Random), (k + 1, Keep::Torn)] {
            images.push((disk.crash(seed, keep), format!("power lost, {keep:?}, seed {seed}")));
        }
        drop(outcome);
        for (disk, how) in images {
            let what = format!("operation {k}, {how}");
            for dir in ["/tmp", "/out"] {
                disk.create_dir_all(Path::new(dir)).unwrap();
            }
            let mut again = run(&disk, true, &no_trouble());
            if let Err(e) = &again.result
                && e.to_string().contains("there is no job to resume")
            {
                again = run(&disk, false, &no_trouble());
            } else {
                resumed += 1;
            }
            again.result.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(output(&disk, &what), expected, "{what}");
        }
    }
    assert!(resumed > 100, "{resumed}");
}

/// T5, T6: each file operation fails once, or the disk is full from then on until the job is resumed: the job repairs it or
/// ends with an error that names path and operation, and can be resumed with the output of an undisturbed run.
#[test]
fn a_disk_that_fails_costs_at_most_a_resume() {
    let expected = undisturbed(COUNT);
    let plans: [fn(u64) -> FaultPlan; 3] = [
        |k| FaultPlan::fail_at(k, Fault::Io),
        |k| FaultPlan::fail_at(k, Fault::NoSpace).and_from_then_on().only(FileOp::NEEDS_SPACE),
        |k| FaultPlan::fail_at(k, Fault::ShortWrite).only(FileOp::NEEDS_SPACE),
    ];
    let long = std::env::var("MAINSTEM_LONG").is_ok();
    for plan in plans {
        let (mut repaired, mut ended, mut k) = (0, 0, 0u64);
        loop {
            let disk = MemVfs::new();
            let faulty = FaultVfs::new(Arc::new(disk.clone()), plan(k));
            let outcome = run_on(&disk, faulty.clone(), false, DRIVER, &no_trouble());
            let what = format!("{:?}", plan(k));
            match outcome.result {
                Ok(_) if faulty.failures() == 0 => break,
                Ok(_) => repaired += 1,
                Err(e) => {
                    ended += 1;
                    let text = e.to_string();
                    assert_eq!(e.kind(), ErrorKind::Environment, "{what}: {text}");
                    assert!(text.contains("cannot ") && text.contains("'/"), "{what}: {text}");
                    let again = run(&disk, true, &no_trouble());
                    match again.result {
                        Err(e) if e.to_string().contains("there is no job to resume") => {
                            run(&disk, false, &no_trouble()).result.unwrap_or_else(|e| panic!("{what}: {e}"));
                        }
                        again => drop(again.unwrap_or_else(|e| panic!("{what}: {e}"))),
                    }
                }
            }
            let all = disk.snapshot().into_iter().filter(|(path, _)| path.starts_with("/out/rows"));
            let found: Files = all.filter_map(|(path, content)| Some((path, content?))).collect();
            assert_eq!(found, expected, "{what}");
            k += if long { 1 } else { 13 };
        }
        assert!(repaired + ended > 9 && ended > 0, "{repaired} {ended}");
    }
}

/// T4: every kind of file in the job directory is damaged in every way before the job is resumed: outputs and records of
/// units are made again, what tells what the job is gives a clear error. Never a wrong output.
#[test]
fn damaged_files_of_a_job_are_repaired_or_refused() {
    let expected = undisturbed(COUNT);
    let files: Vec<PathBuf> = interrupted()
        .snapshot()
        .into_iter()
        .filter(|(path, content)| {
            path.starts_with("/job") && content.as_ref().is_some_and(|content| !content.is_empty())
        })
        .map(|(path, _)| path)
        .collect();
    let of = |extension: &str| files.iter().filter(|f| f.to_string_lossy().ends_with(extension)).count();
    assert!(of(".rows") >= 16 && of(".unit") >= 21, "{files:?}");
    let long = std::env::var("MAINSTEM_LONG").is_ok();
    let (mut repaired, mut refused) = (0, 0);
    for (at, path) in files.iter().enumerate() {
        let is_engine = path.parent() == Some(Path::new("/job"));
        if !long && !is_engine && at % 4 != 0 {
            continue;
        }
        for damage in 0..6u64 {
            let disk = interrupted();
            let good = disk.snapshot()[path].clone().unwrap();
            let mut bad = good.clone();
            let part = |n: u64| (good.len() as u64 * n / 10) as usize;
            let other = files[(at + 1) % files.len()].clone();
            match damage {
                0 => bad[part(3)] ^= 4,
                1 => bad[good.len() - 1] ^= 128,
                2 => bad.truncate(part(6)),
                3 => bad.clear(),
                4 => bad.clone_from(disk.snapshot()[&other].as_ref().unwrap()),
                _ => bad.rotate_left(part(5).max(1)),
            }
            disk.remove_file(path).unwrap();
            disk.create(path).unwrap().append(&bad).unwrap();
            let what = format!("{} with damage {damage}", path.display());
            match run(&disk, true, &no_trouble()).result {
                Ok(_) => {
                    assert_eq!(output(&disk, &what), expected, "{what}");
                    assert!(!is_engine || bad == good, "{what} was not noticed");
                    repaired += 1;
                }
                Err(e) => {
                    assert!(is_engine && e.to_string().contains("is damaged"), "{what}: {e}");
                    assert!(
                        !disk.snapshot().keys().any(|p| p.to_string_lossy().contains("/part-")),
                        "{what}"
                    );
                    refused += 1;
                }
            }
        }
        // And gone.
        if !is_engine {
            let disk = interrupted();
            disk.remove_file(path).unwrap();
            run(&disk, true, &no_trouble()).result.unwrap();
            assert_eq!(output(&disk, "gone"), expected, "{} is gone", path.display());
        }
    }
    assert!(repaired > 50 && refused >= 10, "{repaired} {refused}");
}

/// Failures while a resumed job runs are tried again as always, and it may die and be resumed any number of times.
#[test]
fn a_job_may_be_resumed_again_and_again() {
    let expected = undisturbed(COUNT);
    for driver in [DRIVER, Driver::Threads] {
        let disk = MemVfs::new();
        let vfs = || Arc::new(disk.clone());
        assert!(run_on(&disk, vfs(), false, driver, &failing("first", 2)).result.is_err());
        for step in STEPS {
            for record in [2_999, 0, 1_500] {
                // Where the unit is done already, the last stage fails.
                let trouble: Trouble = Arc::new(move |name, n, _| match name {
                    "fourth" => Err("trouble".into()),
                    name => match name == step && n == record {
                        true => Err("trouble".into()),
                        false => Ok(()),
                    },
                });
                let ended = run_on(&disk, vfs(), true, driver, &trouble);
                assert!(ended.result.is_err(), "{step} {record} {driver:?}");
            }
        }
        let trouble: Trouble = Arc::new(|_, n, ctx| match n % 700 == 0 && ctx.attempt() == 0 {
            true => Err(Error::io("read", "/elsewhere", io::Error::other("trouble")).into()),
            false => Ok(()),
        });
        let (place, log) = (Place::on(disk.clone(), vfs()), Log::default());
        let env = place
            .environment(driver)
            .resume("/job")
            .restart_strategy("exponential:1ms:2ms:1:0".parse().unwrap());
        build(&env, COUNT, &log, &trouble, Path::new("/out/rows"));
        env.execute("resumable").unwrap();
        assert_eq!(output(&disk, "again and again"), expected, "{driver:?}");
        assert_eq!(log.opened(), 0);
    }
}

/// What was collected cannot be taken over: the stage that collects is run again, and what it reads is kept for that.
#[test]
fn collected_records_are_collected_again() {
    let run = |disk: &MemVfs, resume: bool, fails: bool| {
        let place = Place::on(disk.clone(), Arc::new(disk.clone()));
        let log = Log::default();
        let env = place.environment(DRIVER);
        let env = if resume { env.resume("/job") } else { env.job_dir("/job") };
        let sums = env
            .read(super::support::Numbers { count: COUNT, log: log.clone() })
            .key_by(|n| n % 100)
            .reduce(|a, b| *a += b)
            .map(move |n| {
                assert!(!fails || n % 7 != 3, "trouble");
                n
            });
        let mut records = Vec::new();
        let collected = sums.execute_and_collect("collect").unwrap();
        let ended = collected.into_vec().map(|all| records = all);
        records.sort();
        (ended, records, log.opened())
    };
    let disk = MemVfs::new();
    assert!(run(&disk, false, true).0.is_err());
    let (ended, records, opened) = run(&disk, true, false);
    ended.unwrap();
    let mut expected: Vec<u64> = (0..100).map(|key| (0..COUNT).filter(|n| n % 100 == key).sum()).collect();
    expected.sort();
    assert_eq!((records, opened), (expected, 0));
}

/// C13: what must be made again by another process is compared with what was recorded: a function that is not
/// deterministic, here one that knows the run, has all that read from it run again, so that the output fits together.
#[test]
fn what_another_process_makes_differently_is_made_everywhere() {
    let run = |disk: &MemVfs, number: u64| {
        let place = Place::on(disk.clone(), Arc::new(disk.clone()));
        let env = place.environment(DRIVER);
        let env = if number > 1 { env.resume("/job") } else { env.job_dir("/job") };
        env.read(super::support::Numbers { count: COUNT, log: Log::default() })
            .map(move |n| (n, number))
            .key_by(|record| record.0)
            .reduce(|_, _| ())
            .rebalance()
            .map(move |record| {
                assert!(number > 1 || record.0 != 1_500, "the first run fails");
                record
            })
            .sink_to(CsvSink::csv("/out/rows"));
        env.execute("runs")
    };
    for damaged in [false, true] {
        let disk = MemVfs::new();
        assert!(run(&disk, 1).is_err());
        let rows = disk.snapshot().into_keys().filter(|path| path.to_string_lossy().ends_with(".rows"));
        let of_second_stage = rows.filter(|path| path.to_string_lossy().contains("stage001")).nth(5).unwrap();
        if damaged {
            disk.remove_file(&of_second_stage).unwrap();
        }
        let result = run(&disk, 2).unwrap();
        let files = output(&disk, "runs");
        let lines: Vec<&str> = files.values().flat_map(|c| std::str::from_utf8(c).unwrap().lines()).collect();
        assert_eq!(lines.len() as u64, COUNT);
        let run = if damaged { ",2" } else { ",1" };
        assert!(lines.iter().all(|line| line.ends_with(run)), "records of two runs are mixed");
        // Without damage no unit of the first two stages runs.
        assert_eq!(result.stages[0].attempts + result.stages[1].attempts > 0, damaged);
    }
}

/// T4: the output of a finished unit is damaged while no process runs, without another length: what would become wrong output is found
/// before the job goes on, and its unit runs again. What is whole is taken over.
#[test]
fn damaged_output_of_finished_units_is_found() {
    let expected = undisturbed(COUNT);
    // Each job hides its files in a directory of its own name.
    let staged = |disk: &MemVfs| -> Vec<(PathBuf, Vec<u8>)> {
        let files = disk.snapshot().into_iter().filter_map(|(path, content)| Some((path, content?)));
        files
            .filter(|(path, content)| path.to_string_lossy().contains(".part-") && !content.is_empty())
            .collect()
    };
    let attempts = |disk: &MemVfs, what: &str| {
        let result = run(disk, true, &no_trouble()).result.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(output(disk, what), expected, "{what}");
        result.stages[3].attempts
    };
    let calm = attempts(&interrupted(), "calm");
    let files = staged(&interrupted()).len();
    let mut found = 0;
    for file in 0..files {
        for part in [0, 3, 7, 10] {
            let disk = interrupted();
            let (path, mut content) = staged(&disk).swap_remove(file);
            let at = (content.len() - 1) * part / 10;
            // Another digit: still a row that looks right.
            content[at] ^= 1;
            disk.remove_file(&path).unwrap();
            disk.create(&path).unwrap().append(&content).unwrap();
            let what = format!("{} at byte {at}", path.display());
            found += usize::from(attempts(&disk, &what) == calm + 1);
        }
    }
    // The file of the unit that has failed is nobody's.
    assert!(found >= 4 && found >= 4 * (files - 1), "{found} of {files} files");
}

//! Attempts that fail.

use super::support::{Files, Log, Place, SPLITS, Trouble, build, no_trouble, undisturbed};
use mainstem::ErrorKind;
use mainstem::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const COUNT: u64 = 3_000;
const STEPS: [&str; 4] = ["first", "second", "third", "fourth"];
const DRIVERS: [Driver; 3] =
    [Driver::Threads, Driver::Simulation { seed: 5 }, Driver::Simulation { seed: 6 }];

fn strategy(text: &str) -> RestartStrategy {
    text.parse().unwrap()
}

fn run(
    driver: Driver,
    strategy: Option<RestartStrategy>,
    trouble: &Trouble,
) -> (mainstem::Result<JobResult>, Log, Files) {
    let (place, log) = (Place::new(), Log::default());
    let mut env = place.environment(driver);
    if let Some(strategy) = strategy {
        env = env.restart_strategy(strategy);
    }
    build(&env, COUNT, &log, trouble, Path::new("/out/rows"));
    let result = env.execute("retries");
    (result, log, place.output())
}

/// Fails at one record of one step in its first `times` attempts, with an error or a panic.
fn failing(step: &'static str, record: u64, times: usize, panics: bool) -> Trouble {
    Arc::new(move |name, n, ctx| match name == step && n == record && ctx.attempt() < times {
        true if panics => panic!("trouble at {n}"),
        true => Err(format!("trouble at {n}").into()),
        false => Ok(()),
    })
}

/// C12, M10: whichever stage fails, only its unit is run again; sources are opened again only for a unit that reads them.
#[test]
fn only_the_unit_that_fails_runs_again() {
    let expected = undisturbed(COUNT);
    for (at, step) in STEPS.into_iter().enumerate() {
        for driver in DRIVERS {
            for panics in [false, true] {
                let trouble = failing(step, 1234, 2, panics);
                let (result, log, files) = run(driver, Some(strategy("fixed-delay:3:1ms")), &trouble);
                let result = result.unwrap_or_else(|e| panic!("{step} {driver:?}: {e}"));
                assert_eq!(files, expected, "{step} {driver:?}");
                let retries: Vec<_> = result.stages.iter().map(|stage| stage.retries()).collect();
                let mut one = vec![0; 4];
                one[at] = 2;
                assert_eq!(retries, one, "{step} {driver:?}");
                for other in STEPS {
                    assert_eq!(log.retries(other), if other == step { 2 } else { 0 }, "{step} {other}");
                }
                // One of two subtasks reads its splits three times.
                let opened = if at == 0 { SPLITS + SPLITS } else { SPLITS };
                assert_eq!(log.opened(), opened, "{step} {driver:?}");
            }
        }
    }
}

/// O1, O2: records, counters and accumulators are those of the attempts that count.
#[test]
fn failed_attempts_do_not_count() {
    let counted = |result: &JobResult| {
        let numbers = result
            .operators
            .iter()
            .map(|o| (o.name.clone(), o.records_in, o.records_out, o.bytes_out, o.counters.clone()));
        let accumulated = STEPS.map(|step| result.accumulators.get::<LongCounter>(step).unwrap());
        (numbers.collect::<Vec<_>>(), accumulated)
    };
    let (result, ..) = run(Driver::Threads, None, &no_trouble());
    let expected = counted(&result.unwrap());
    assert_eq!(expected.1, [COUNT as i64; 4]);
    for step in STEPS {
        let trouble = failing(step, COUNT - 1, 2, true);
        let (result, ..) = run(Driver::Threads, Some(strategy("fixed-delay:2:0s")), &trouble);
        assert_eq!(counted(&result.unwrap()), expected, "{step}");
    }
}

/// C12, M10: what a source reads is several units of work for a subtask. One that fails reads its part again and no other, and what
/// comes out is what an undisturbed run gives: to each consumer in the order in which the subtask would have read it.
#[test]
fn a_source_reads_again_what_the_unit_that_failed_has_read() {
    /// Enough for four units of each of two subtasks.
    const RECORDS: u64 = 8 * (1 << 16);
    let run = |fails_at: Option<u64>| {
        let (read, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let env = Environment::new()
            .execution_mode(ExecutionMode::Batch)
            .parallelism(2)
            .restart_strategy(strategy("fixed-delay:1:0s"));
        let counted = read.clone();
        let stream = env.generate(RECORDS, move |i| {
            counted.fetch_add(1, Ordering::Relaxed);
            i
        });
        let rows = stream
            .try_map::<_, String>(move |i| {
                match fails_at == Some(i) && failed.fetch_add(1, Ordering::Relaxed) == 0 {
                    true => Err(format!("trouble at {i}")),
                    false => Ok(i),
                }
            })
            .key_by(|i| i % 4)
            .reduce_group(|key, records| {
                let records: Vec<u64> = records.collect();
                [(*key, records.is_sorted(), records.len() as u64, records.iter().sum::<u64>())]
            })
            .execute_and_collect("parts")
            .unwrap()
            .into_vec();
        let mut rows = rows.unwrap();
        rows.sort_unstable();
        (rows, read.load(Ordering::Relaxed))
    };
    let (expected, read) = run(None);
    assert_eq!(read, RECORDS);
    assert!(expected.iter().all(|row| row.1 && row.2 == RECORDS / 4), "{expected:?}");
    for fails_at in [0, RECORDS / 2 + 1, RECORDS - 1] {
        let (rows, read) = run(Some(fails_at));
        assert_eq!(rows, expected, "{fails_at}");
        assert!(read - RECORDS <= RECORDS / 2 / 4, "{} records were read again", read - RECORDS);
    }
}

/// C12: attempts as configured, then the error of the last one, and nothing is left.
#[test]
fn a_strategy_gives_up_as_configured() {
    for (text, allowed) in [
        ("none", 0),
        ("fixed-delay:0:1s", 0),
        ("fixed-delay:2:1s", 2),
        ("failure-rate:3:1h:1s", 3),
        ("failure-rate:3:1ms:10ms", usize::MAX),
    ] {
        for times in [1, 2, 3, 4] {
            let trouble = failing("third", 77, times, false);
            let driver = Driver::Simulation { seed: 3 };
            let (result, log, files) = run(driver, Some(strategy(text)), &trouble);
            assert_eq!(log.retries("third"), times.min(allowed), "{text}, fails {times} times");
            match result {
                Ok(_) => assert!(times <= allowed, "{text} {times}"),
                Err(e) => {
                    assert!(
                        times > allowed && e.to_string().contains("trouble at 77"),
                        "{text} {times}: {e}"
                    );
                    assert!(files.is_empty());
                }
            }
        }
    }
}

/// C12: delays pass on the clock of the job.
#[test]
fn delays_are_those_of_the_strategy() {
    for (text, times, expected_ms) in
        [("fixed-delay:9:5s", 2, 10_000), ("exponential:1s:60s:2:0", 3, 7_000), ("fixed-delay:9:0s", 2, 0)]
    {
        let trouble = failing("second", 5, times, false);
        let driver = Driver::Simulation { seed: 9 };
        let (result, log, _) = run(driver, Some(strategy(text)), &trouble);
        assert_eq!(result.unwrap().stages[1].retries(), times, "{text}");
        let (result, undisturbed, _) = run(driver, None, &no_trouble());
        result.unwrap();
        let time = |log: &Log| log.now_ms.load(Ordering::Relaxed);
        assert_eq!(time(&log) - time(&undisturbed), expected_ms, "{text}");
    }
}

/// Without a strategy user code that fails ends the job at once.
#[test]
fn user_code_is_not_tried_again_unless_asked_for() {
    for driver in DRIVERS {
        let (result, log, files) = run(driver, None, &failing("second", 9, 1, false));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::User);
        assert_eq!(log.retries("second"), 0);
        assert!(files.is_empty());
    }
}

/// C13: collected records are not sent twice.
#[test]
fn collected_records_arrive_once() {
    for driver in DRIVERS {
        let env = Environment::new()
            .execution_mode(ExecutionMode::Batch)
            .driver(driver)
            .parallelism(2)
            .restart_strategy(strategy("fixed-delay:9:0s"));
        let tries = Arc::new(AtomicU64::new(0));
        let stream = env.generate(10_000, |n| n).key_by(|n| n % 50).reduce(|a, b| *a += b).map(move |n| {
            // Every third record fails its attempt, until there have been nine.
            let count = tries.fetch_add(1, Ordering::Relaxed);
            assert!(count % 3 != 2 || count > 27, "trouble");
            n
        });
        let mut sums = stream.execute_and_collect("collect").unwrap().into_vec().unwrap();
        sums.sort();
        let mut expected: Vec<u64> =
            (0..50).map(|key| (0..10_000u64).filter(|n| n % 50 == key).sum()).collect();
        expected.sort();
        assert_eq!(sums, expected, "{driver:?}");
    }
}

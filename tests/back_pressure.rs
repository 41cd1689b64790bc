//! A source without end before a slow consumer: what is in flight stays bounded, and the job ends when it is asked
//! to: by its client, by a reader that stops, and even where user code never returns.

use mainstem::prelude::*;
use mainstem::{Error, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const MODES: [ExecutionMode; 2] = [ExecutionMode::Batch, ExecutionMode::Streaming];
/// A cancelled job ends within this.
const CANCEL_MAX: Duration = Duration::from_secs(2);
/// Something that should happen and has not happened by then never will.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Records of a batch.
const BATCH: u64 = 1_024;
/// Batches between one producer and one consumer: a full channel, one that waits for room, one that is filled, and
/// those in the queues of both chains.
const BATCHES_IN_FLIGHT: u64 = 16 + 8;

/// Records that are made at least while the first ones are being taken.
const RECORDS_AHEAD: u64 = 64;

/// A number that can be waited for.
#[derive(Clone, Default)]
struct Count(Arc<(Mutex<u64>, Condvar)>);

impl Count {
    fn add(&self, n: u64) -> u64 {
        let mut count = self.0.0.lock().unwrap();
        *count += n;
        self.0.1.notify_all();
        *count
    }
    fn get(&self) -> u64 {
        *self.0.0.lock().unwrap()
    }
    /// Whether it came to `n` in time.
    fn reaches(&self, n: u64, time: Duration) -> bool {
        let guard = self.0.0.lock().unwrap();
        let (count, _) = self.0.1.wait_timeout_while(guard, time, |count| *count < n).unwrap();
        *count >= n
    }
}

/// Waits for the end of a job that was asked to end.
fn ends(job: JobClient, what: &str) -> Error {
    let start = Instant::now();
    let error = job.result().expect_err(what);
    assert!(start.elapsed() < CANCEL_MAX, "{what}: {:?}", start.elapsed());
    error
}

/// P7: what is in flight before a sink that takes nothing is bounded, so that its source stops, too.
#[test]
fn a_blocked_sink_holds_a_source_without_end_back() {
    for parallelism in [1, 2] {
        for blocking in [false, true] {
            let (made, taken, room) = (Count::default(), Count::default(), Count::default());
            let env = Environment::new().parallelism(parallelism);
            let (counted, seen, gate) = (made.clone(), taken.clone(), room.clone());
            let numbers = env.read(Generate::unbounded(|i| i)).map(move |i| {
                counted.add(1);
                i
            });
            let written = numbers.rebalance().sink_to(FnSink::new(move |_: u64| {
                let n = seen.add(1);
                // Bounded, so that a job that fails otherwise ends, too.
                gate.reaches(n, TIME_LIMIT);
            }));
            if blocking {
                written.blocking();
            }
            let job = env.execute_async("blocked sink").unwrap();
            let p = parallelism as u64;
            let bound = p * p * BATCHES_IN_FLIGHT * BATCH;
            let mut let_through = 0;
            for _ in 0..3 {
                // The sinks are in their calls; the source goes on until the queues are full, and no further.
                assert!(taken.reaches(let_through + 1, TIME_LIMIT));
                // With `blocking` the source has a thread of its own and goes on, though nobody knows how fast the sink is.
                if blocking {
                    assert!(made.reaches(taken.get() + RECORDS_AHEAD, TIME_LIMIT), "{} made", made.get());
                }
                let limit = let_through + p + bound;
                assert!(
                    !made.reaches(limit, Duration::from_millis(60)),
                    "{parallelism}: more than {bound} in flight"
                );
                let_through += 20 * BATCH;
                room.add(20 * BATCH);
            }
            assert_eq!(job.status(), JobStatus::Running);
            job.cancel();
            room.add(u64::MAX / 2);
            assert!(matches!(ends(job, "cancelled"), Error::Cancelled));
        }
    }
}

#[test]
fn a_slow_sink_is_cancelled_between_its_calls() {
    let taken = Count::default();
    let seen = taken.clone();
    let env = Environment::new().parallelism(2);
    let slow = FnSink::new(move |_: u64| {
        seen.add(1);
        std::thread::park_timeout(Duration::from_micros(20));
    });
    env.read(Generate::unbounded(|i| i)).key_by(|i| i % 7).count().map(|(_, n)| n).sink_to(slow);
    let job = env.execute_async("slow sink").unwrap();
    assert!(taken.reaches(5_000, TIME_LIMIT));
    job.cancel();
    assert!(matches!(ends(job, "cancelled"), Error::Cancelled));
}

#[test]
fn a_reader_that_stops_cancels_the_job() {
    let made = Arc::new(AtomicU64::new(0));
    let counted = made.clone();
    let env = Environment::new().parallelism(2);
    let numbers = env.read(Generate::unbounded(|i| i)).map(move |i| {
        counted.fetch_add(1, Ordering::Relaxed);
        i
    });
    let mut records = numbers.rebalance().execute_and_collect("first ones").unwrap();
    let first: Vec<u64> = records.by_ref().take(3_000).map(Result::unwrap).collect();
    assert_eq!(first.len(), 3_000);
    let start = Instant::now();
    drop(records);
    assert!(start.elapsed() < CANCEL_MAX, "{:?}", start.elapsed());
    // The job has ended when the reader is gone: nothing is made any more.
    let after = made.load(Ordering::SeqCst);
    let waiting = 16 * BATCH;
    assert!(after <= 3_000 + waiting + 4 * BATCHES_IN_FLIGHT * BATCH + 4 * BATCH, "{after}");
    std::thread::yield_now();
    assert_eq!(made.load(Ordering::SeqCst), after);
    // A reader that stops a bounded job early ends it, too, in both modes.
    for mode in MODES {
        let env = Environment::new().execution_mode(mode).parallelism(2);
        let mut records =
            env.generate(50_000_000, |i| i).rebalance().filter(|_| true).execute_and_collect("few").unwrap();
        if mode == ExecutionMode::Streaming {
            assert!(records.next().unwrap().is_ok());
        }
        let start = Instant::now();
        drop(records);
        assert!(start.elapsed() < CANCEL_MAX, "{mode}: {:?}", start.elapsed());
    }
}

#[test]
fn a_client_sees_its_job_run_and_end() {
    for mode in MODES {
        let (started, gate) = (Count::default(), Count::default());
        let build = || {
            let (started, gate) = (started.clone(), gate.clone());
            let env = Environment::new().execution_mode(mode).parallelism(1);
            env.generate(10, |i| i)
                .map(move |i| {
                    started.add(1);
                    gate.reaches(1, TIME_LIMIT);
                    i
                })
                .sink_to(DiscardSink);
            env
        };
        // It returns while the job is in its first record.
        let job = build().execute_async("waits").unwrap();
        let other = build().execute_async("waits").unwrap();
        assert!(started.reaches(2, TIME_LIMIT));
        assert_eq!((job.status(), other.status()), (JobStatus::Running, JobStatus::Running));
        assert!(job.id() != other.id() && !job.id().is_empty() && job.id() == job.id());
        let id = other.id().to_string();
        job.cancel();
        gate.add(1);
        assert!(matches!(ends(job, "cancelled"), Error::Cancelled), "{mode}");
        let result = other.result().unwrap();
        assert_eq!(
            (result.job_id.clone(), result.operator("discard").map(|o| o.records_in)),
            (id, Some(10)),
            "{mode}"
        );
        // The state of a job can be asked for after its end.
        let job = build().execute_async("runs").unwrap();
        while job.status() == JobStatus::Running {
            std::thread::yield_now();
        }
        assert_eq!(job.status(), JobStatus::Finished);
        // Too late to change anything.
        job.cancel();
        assert!(job.result().is_ok());
    }
}

#[test]
fn a_client_that_is_dropped_leaves_the_job_running() {
    for mode in MODES {
        let (taken, gate) = (Count::default(), Count::default());
        let (seen, open) = (taken.clone(), gate.clone());
        let env = Environment::new().execution_mode(mode).parallelism(1);
        env.generate(10, |i| i).sink_to(FnSink::new(move |_: u64| {
            open.reaches(1, TIME_LIMIT);
            seen.add(1);
        }));
        drop(env.execute_async("left alone").unwrap());
        gate.add(1);
        assert!(taken.reaches(10, TIME_LIMIT), "{mode}");
    }
}

#[test]
fn user_code_that_never_returns_is_named_and_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    for mode in MODES {
        let (entered, never) = (Count::default(), Count::default());
        let (inside, gate) = (entered.clone(), never.clone());
        let env = Environment::new().execution_mode(mode).parallelism(2);
        env.generate(100_000, |i| i)
            .name("numbers")
            .map(move |i| {
                if i == 50_000 {
                    inside.add(1);
                    while !gate.reaches(1, TIME_LIMIT) {}
                }
                i.to_string()
            })
            .name("endless")
            .sink_to(TextSink::text(dir.path().join("out")));
        let job = env.execute_async("stuck").unwrap();
        assert!(entered.reaches(1, TIME_LIMIT));
        job.cancel();
        let error = ends(job, "user code does not return");
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::User, "{mode}: {text}");
        assert_eq!(error.operator(), Some("endless"), "{mode}: {text}");
        assert!(text.contains("did not return within 1s"), "{mode}: {text}");
        // The output is cleaned up, although the thread still has its file open.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{mode}");
        never.add(1);
    }
}

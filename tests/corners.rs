//! The corners of the engine: user code that panics where nobody looks, slow readers, small budgets, odd keys and
//! plans. Each test is a way in which records could be lost, come twice or never come.

use mainstem::Error;
use mainstem::base::batch::Batch;
use mainstem::connectors::sink::{FileSink, Sink, SinkContext, SinkWriter};
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const MODES: [ExecutionMode; 2] = [ExecutionMode::Streaming, ExecutionMode::Batch];

/// Runs `f` on a thread; a hang fails the test instead of blocking it.
fn ends<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(f()));
    receive.recv_timeout(Duration::from_secs(20)).expect("it hangs, or panics")
}

fn env(mode: ExecutionMode, parallelism: usize) -> Environment {
    Environment::new().execution_mode(mode).parallelism(parallelism)
}

/// Panics when it is dropped on a worker thread, after it was told to.
struct Bomb(bool);
impl Clone for Bomb {
    fn clone(&self) -> Bomb {
        Bomb(true)
    }
}
impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 && !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

/// The failure of a job is not lost when dropping its operators panics, too.
#[test]
fn a_panic_in_drop_does_not_hide_a_failure() {
    for mode in MODES {
        let e = ends(move || {
            let bomb = Bomb(false);
            let failing = move |x: u64| -> Result<u64, String> {
                let _ = &bomb;
                if x == 500 { Err("no 500".into()) } else { Ok(x) }
            };
            env(mode, 2)
                .generate(1000, |i| i)
                .try_map(failing)
                .execute_and_collect("drop")
                .unwrap()
                .into_vec()
        });
        assert!(e.as_ref().is_err_and(|e| e.to_string().contains("no 500")), "{mode}: {e:?}");
    }
}

struct Unclonable;
impl Clone for Unclonable {
    fn clone(&self) -> Unclonable {
        panic!("cannot be cloned")
    }
}

/// User code also runs while operators are made.
#[test]
fn a_panic_in_clone_fails_the_job() {
    for mode in MODES {
        for driver in [Driver::Threads, Driver::Simulation { seed: 1 }] {
            let e = ends(move || {
                let unclonable = Unclonable;
                let f = move |x: u64| {
                    let _ = &unclonable;
                    x
                };
                let env = env(mode, 2).driver(driver);
                env.generate(10, |i| i).map(f).execute_and_collect("clone").unwrap().into_vec()
            });
            assert!(e.as_ref().is_err_and(|e| e.to_string().contains("cannot be cloned")), "{mode}: {e:?}");
        }
    }
}

/// All keys have one hash, so that sorting must compare them; that panics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NoOrder(u64);
impl std::hash::Hash for NoOrder {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u8(7)
    }
}
impl PartialOrd for NoOrder {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for NoOrder {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        panic!("no order")
    }
}

/// User code also runs while an output is sorted.
#[test]
fn a_panic_while_sorting_fails_the_job() {
    let e = ends(|| {
        let keyed = env(ExecutionMode::Batch, 2).generate(100, |i| i).key_by(|i| NoOrder(i % 3));
        keyed.map_with_state(|i, _: Option<u64>| (i, None)).execute_and_collect("order").unwrap().into_vec()
    });
    assert!(e.as_ref().is_err_and(|e| e.to_string().contains("no order")), "{e:?}");
}

/// P3: every subtask gets one copy, also where its neighbours in a stage run in several units of work.
#[test]
fn broadcast_into_a_stage_with_keyed_steps_copies_once_for_each_subtask() {
    for mode in MODES {
        let env = env(mode, 2);
        let counts = env.generate(50, |i| i).key_by(|i| i % 5).count().map(|(_, n)| n);
        let few = env.generate(3, |_| 1_000_000u64).broadcast();
        let all =
            counts.union(&[&few]).map(|x| x).execute_and_collect("broadcast").unwrap().into_vec().unwrap();
        assert_eq!(all.iter().filter(|&&x| x == 1_000_000).count(), 6, "{mode}");
    }
}

/// P7: a slow reader stops a keyed stage, too.
#[test]
fn a_keyed_stage_waits_for_its_reader() {
    let made = Arc::new(AtomicUsize::new(0));
    let (counted, total) = (made.clone(), 200_000);
    let read = ends(move || {
        let keyed = env(ExecutionMode::Batch, 1).generate(total, |i| i).key_by(|i| *i);
        let stream = keyed.map_with_state(move |i, _: Option<u64>| {
            counted.fetch_add(1, SeqCst);
            (i, None)
        });
        let mut records = stream.execute_and_collect("slow").unwrap();
        records.next().unwrap().unwrap();
        // The job runs on while nobody reads: it must come to a halt.
        let mut last = usize::MAX;
        while last != made.load(SeqCst) {
            last = made.load(SeqCst);
            std::thread::park_timeout(Duration::from_millis(100));
        }
        let read = last;
        assert_eq!(records.count() as u64 + 1, total);
        read
    });
    assert!(read < 100_000, "{read} records were made for a reader that had taken one");
}

/// With `explain` nothing runs, so there is nothing to wait for.
#[test]
fn explain_ends_a_collected_stream() {
    let explain = Some(mainstem::base::config::ExplainFormat::Text);
    let settings = mainstem::base::config::Settings { explain, ..Default::default() };
    let (n, env) = ends(move || {
        let env = Environment::with_settings(settings);
        (env.generate(10, |i| i).execute_and_collect("explained").unwrap().count(), env)
    });
    assert_eq!(n, 0);
    drop(env);
}

/// Combining goes on after the table was full once.
#[test]
fn combining_goes_on_after_a_flush() {
    let env = env(ExecutionMode::Batch, 1).memory("8 MiB".parse().unwrap());
    // Far more keys than fit; each ten times in a row of ten thousand.
    let stream = env.generate(6_000_000, |i| i / 100_000 * 10_000 + i % 10_000).key_by(|k| *k).count();
    let mut counts = stream.execute_and_collect("combine").unwrap();
    assert!(counts.by_ref().all(|r| r.unwrap().1 == 10));
    let result = counts.result().unwrap();
    let combined = result.operator("combine count").unwrap();
    assert!(
        combined.counters.iter().any(|(n, v)| n == "combine_flushes" && *v > 0),
        "{:?}",
        combined.counters
    );
    assert!(combined.records_out < 2_400_000, "{} of 6000000 records were passed on", combined.records_out);
}

/// Virtual time passes for a source that waits, in both modes.
#[test]
fn a_simulated_source_with_a_rate_ends() {
    for mode in MODES {
        let n = ends(move || {
            let env = env(mode, 2).driver(Driver::Simulation { seed: 3 });
            let stream = env.read(Generate::new(100, |i| i).rate(50.0));
            stream.execute_and_collect("rate").unwrap().into_vec().unwrap().len()
        });
        assert_eq!(n, 100, "{mode}");
    }
}

/// The trace depends on the seed and not on how fast somebody reads.
#[test]
fn a_simulated_run_does_not_depend_on_its_reader() {
    let trace = |slow: bool| {
        let env = env(ExecutionMode::Streaming, 2).driver(Driver::Simulation { seed: 5 });
        let mut records =
            env.generate(60_000, |i| i).rebalance().map(|i| i).execute_and_collect("trace").unwrap();
        for record in records.by_ref() {
            if slow && record.unwrap().is_multiple_of(1000) {
                std::thread::park_timeout(Duration::from_micros(500));
            }
        }
        records.result().unwrap().trace.unwrap()
    };
    assert_eq!(trace(false), trace(true));
}

#[derive(Clone)]
struct FailingClose(Arc<AtomicUsize>);
impl ProcessFunction<u64, u64> for FailingClose {
    fn process(&mut self, n: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        out.emit(n);
        Ok(())
    }
    fn close(&mut self) -> UserResult {
        self.0.fetch_add(1, SeqCst);
        Err("cannot close".into())
    }
}

/// The contract of an operator: `close` once, and its failure fails the job.
#[test]
fn close_is_called_once_also_when_it_fails() {
    for mode in MODES {
        let closed = Arc::new(AtomicUsize::new(0));
        let stream = env(mode, 1).generate(10, |i| i).process(FailingClose(closed.clone()));
        let e = stream.execute_and_collect("close").unwrap().into_vec().unwrap_err();
        assert!(e.to_string().contains("cannot close"), "{mode}: {e}");
        assert_eq!(closed.load(SeqCst), 1, "{mode}");
    }
}

/// A plan with a mistake leaves nothing behind that spoils the next one.
#[test]
fn collecting_again_after_a_mistake_works() {
    let env = env(ExecutionMode::Streaming, 2);
    let stream = env.generate(10, |i| i).map(|i| i);
    let wrong = env.clone().execution_mode(ExecutionMode::Batch);
    let endless = wrong.read(Generate::unbounded(|i| i));
    assert!(endless.execute_and_collect("wrong").is_err());
    let _ = env.clone().execution_mode(ExecutionMode::Streaming);
    let n = ends(move || stream.execute_and_collect("right").unwrap().into_vec().map(|v| v.len()));
    assert!(matches!(n, Ok(10)), "{n:?}");
}

struct PanicsInCommit;
struct Nothing;
impl Sink<u64> for PanicsInCommit {
    type Committable = ();
    type Writer = Nothing;
    fn describe(&self) -> String {
        "panics".into()
    }
    fn writer(&self, _: &SinkContext) -> mainstem::Result<Nothing> {
        Ok(Nothing)
    }
    fn commit(&self, _: Vec<()>, _: &SinkContext) -> mainstem::Result<()> {
        panic!("no commit")
    }
}
impl SinkWriter<u64> for Nothing {
    type Committable = ();
    fn write(&mut self, batch: &mut Batch<u64>) -> mainstem::Result<()> {
        batch.clear();
        Ok(())
    }
}

/// A commit that panics fails the job, and the other sinks are told.
#[test]
fn a_panic_in_commit_fails_the_job() {
    for mode in MODES {
        let e = ends(move || {
            let stream = env(mode, 1).generate(10, |i| i);
            stream.sink_to(PanicsInCommit);
            stream.execute_and_collect("commit").unwrap().into_vec()
        });
        assert!(e.as_ref().is_err_and(|e| e.to_string().contains("no commit")), "{mode}: {e:?}");
    }
}

/// P1: fewer key groups than workers, odd ones, one.
#[test]
fn few_key_groups() {
    for mode in MODES {
        for (parallelism, groups) in [(1, 1), (1, 3), (3, 3), (2, 3), (5, 7)] {
            let env = env(mode, parallelism).max_parallelism(groups);
            let stream = env.generate(1000, |i| i).key_by(|i| i % 100).count();
            let mut last = BTreeMap::new();
            for (k, n) in stream.execute_and_collect("groups").unwrap().into_vec().unwrap() {
                let max: &mut u64 = last.entry(k).or_default();
                *max = n.max(*max);
            }
            assert!(last.len() == 100 && last.values().all(|&n| n == 10), "{mode} {parallelism} {groups}");
        }
    }
}

/// All keys have one hash; what is equal is encoded differently.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Coarse(String);
impl PartialEq for Coarse {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Coarse {}
impl PartialOrd for Coarse {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Coarse {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.to_lowercase().cmp(&other.0.to_lowercase())
    }
}
impl std::hash::Hash for Coarse {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u8(7)
    }
}

#[test]
fn keys_that_collide_and_keys_that_are_equal_but_look_different() {
    for mode in MODES {
        for parallelism in [1, 3] {
            let words = env(mode, parallelism).generate(6000, |i| {
                if i % 2 == 0 { format!("Key{}", i % 600 / 2) } else { format!("kEY{}", i % 600 / 2) }
            });
            let counts = words.key_by(|w| Coarse(w.clone())).count();
            let mut last: BTreeMap<Coarse, u64> = BTreeMap::new();
            for (k, n) in counts.execute_and_collect("coarse").unwrap().into_vec().unwrap() {
                let max = last.entry(k).or_default();
                *max = n.max(*max);
            }
            assert!(last.len() == 300 && last.values().all(|&n| n == 20), "{mode} {parallelism}: {last:?}");
        }
    }
}

/// Records without a byte, and no records at all, through every kind of edge.
#[test]
fn records_of_no_size_and_empty_inputs() {
    for mode in MODES {
        for n in [0u64, 1, 5000] {
            let env = env(mode, 5);
            let units = env.generate(n, |_| ());
            let single = units.map(|u| u).parallelism(1);
            let all = single.rebalance().map(|u| u).union(&[&units.shuffle(), &units.global()]);
            let counted = all.key_by(|_| ()).count().execute_and_collect("units").unwrap();
            let highest = counted.map(|r| r.unwrap().1).max().unwrap_or(0);
            assert_eq!(highest, 3 * n, "{mode} {n}");
        }
    }
}

/// A stream that several operators read, and its mapped copy united with it again.
#[test]
fn diamonds_and_tees() {
    for mode in MODES {
        for parallelism in [1, 5] {
            for driver in [Driver::Threads, Driver::Simulation { seed: 11 }] {
                let env = env(mode, parallelism).driver(driver);
                let base = env.generate(20_000, |i| i);
                let seen = Arc::new(AtomicUsize::new(0));
                let in_sink = seen.clone();
                base.sink_to(FnSink::new(move |_: u64| {
                    in_sink.fetch_add(1, SeqCst);
                }));
                let mapped = base.map(|i| i + 1);
                let far = base.rebalance().map(|i| i + 2).parallelism(1);
                let doubled = mapped.union(&[&base, &base, &far, &mapped]);
                let again = doubled.map(|i| i).union(&[&mapped]);
                let all = again.execute_and_collect("diamond").unwrap().into_vec().unwrap();
                assert_eq!(all.len(), 120_000, "{mode} {parallelism} {driver:?}");
                assert_eq!(seen.load(SeqCst), 20_000, "{mode} {parallelism} {driver:?}");
            }
        }
    }
}

/// The smallest budget for many workers.
#[test]
fn a_tiny_budget_for_many_workers() {
    let env = env(ExecutionMode::Batch, 32).memory("8 MiB".parse().unwrap());
    let stream = env.generate(50_000, |i| (i % 5000, "x".repeat(50)));
    let keyed = stream.key_by(|r| r.0).map_with_state(|r, n: Option<u64>| {
        let n = n.unwrap_or(0) + 1;
        ((r.0, n), Some(n))
    });
    let all =
        keyed.key_by(|r| r.0).max(|r| &mut r.1).execute_and_collect("tiny").unwrap().into_vec().unwrap();
    assert!(all.len() == 5000 && all.iter().all(|r| r.1 == 10), "{}", all.len());
}

/// Large records through channels, shuffles and keyed state.
#[test]
fn records_of_ten_megabytes() {
    for mode in MODES {
        let env = env(mode, 2).memory("8 MiB".parse().unwrap());
        let large = env.generate(6, |i| (i % 2, vec![i as u8; 10 << 20]));
        let sums = large.key_by(|r| r.0).map_with_state(|r, n: Option<u64>| {
            let n = n.unwrap_or(0) + r.1.iter().map(|&b| b as u64).sum::<u64>();
            ((r.0, n), Some(n))
        });
        let mut sums = sums.execute_and_collect("large").unwrap().into_vec().unwrap();
        sums.sort();
        assert_eq!(sums.len(), 6);
        assert_eq!((sums[2], sums[5]), ((0, 6 * (10 << 20)), (1, 9 * (10 << 20))), "{mode}");
    }
}

/// The same environment runs again: only the sinks that are new, upstream afresh.
#[test]
fn executing_twice() {
    for mode in MODES {
        let env = env(mode, 2);
        let stream = env.generate(100, |i| i).key_by(|i| i % 3).max(|i| i);
        let first = stream.execute_and_collect("one").unwrap().into_vec().unwrap();
        let second = stream.execute_and_collect("two").unwrap().into_vec().unwrap();
        assert_eq!(first.iter().max(), second.iter().max(), "{mode}");
        assert!(matches!(env.execute("three"), Err(Error::Config(_))), "{mode}: no sink is left");
    }
}

/// K5: without checkpoints, files of all buckets are finished with the job, in both modes, and each record is in its own.
#[test]
fn k5_buckets_without_checkpoints() {
    for mode in MODES {
        for parallelism in [1, 3] {
            let root = tempfile::tempdir().unwrap();
            let out = root.path().join("out");
            let env = env(mode, parallelism);
            let buckets = |n: &u64, bucket: &mut String| {
                bucket.push_str("rest=");
                bucket.push(char::from(b'0' + (n % 5) as u8));
            };
            env.generate(1_000, |i| i).rebalance().sink_to(FileSink::text(&out).bucket_by(buckets));
            env.execute("buckets").unwrap();
            let mut found: Vec<u64> = Vec::new();
            for dir in std::fs::read_dir(&out).unwrap() {
                let dir = dir.unwrap();
                for file in std::fs::read_dir(dir.path()).unwrap() {
                    let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                    let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
                    let name = format!("rest={}", numbers[0] % 5);
                    assert!(numbers.iter().all(|n| n % 5 == numbers[0] % 5));
                    assert_eq!(dir.file_name().to_string_lossy(), name);
                    found.extend(numbers);
                }
            }
            found.sort_unstable();
            assert!(found.into_iter().eq(0..1_000), "{mode}, parallelism {parallelism}");
        }
    }
}

//! Stopped with a savepoint, gone on with, at other parallelisms.

use super::jobs::{Event, Output, build, environment, event, until};
use super::tables::table;
use arrow_schema::DataType::Binary;
use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const RECORDS: u64 = 6_000;
const RATE: f64 = 8_000.0;

fn uninterrupted() -> Vec<String> {
    let output = Output::default();
    let env = Environment::new().parallelism(1);
    build(&env, RECORDS, None, &output);
    env.execute("all").unwrap();
    output.sorted()
}

/// Runs the job in parts at these parallelisms, each stopped at a random place.
fn in_parts(parallelisms: &[usize]) {
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as usize;
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let output = Output::default();
    let mut from = None;
    let all = uninterrupted();
    for (part, &parallelism) in parallelisms.iter().enumerate() {
        let env = environment(parallelism, from.as_deref());
        build(&env, RECORDS, Some(RATE), &output);
        let job = env.execute_async("parts").unwrap();
        if part + 1 < parallelisms.len() {
            let share = all.len() * (part + 1) / parallelisms.len() + (seed >> part) % 500;
            until("the job has come so far", || output.len() >= share);
            let path = dir.path().join(format!("savepoint {part}"));
            job.stop_with_savepoint(&path, false).unwrap();
            from = Some(path);
            assert_eq!(job.status(), JobStatus::Stopped);
        }
        job.result().unwrap();
    }
    let found = output.sorted();
    let count = |lines: &[String]| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        lines.iter().for_each(|line| *counts.entry(line.clone()).or_default() += 1);
        counts
    };
    let (found, all) = (count(&found), count(&all));
    let missing: Vec<_> = all.iter().filter(|(line, n)| found.get(*line) != Some(n)).take(5).collect();
    let surplus: Vec<_> = found.iter().filter(|(line, n)| all.get(*line) != Some(n)).take(5).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "expected {missing:#?}, found {surplus:#?}");
}

/// C8, C9, T12: every kind of state, 2 -> 3 -> 1.
#[test]
fn a_job_goes_on_at_two_three_and_one() {
    in_parts(&[2, 3, 1]);
}

/// C8, C9, T12: every kind of state, 1 -> 4 -> 2.
#[test]
fn a_job_goes_on_at_one_four_and_two() {
    in_parts(&[1, 4, 2]);
}

/// C8: a job that writes savepoints goes on, and each of them can be gone on from, as often as one likes.
#[test]
fn a_job_goes_on_behind_a_savepoint_which_can_be_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = Output::default();
    let env = environment(2, None);
    build(&env, RECORDS, Some(RATE / 4.0), &first);
    let job = env.execute_async("goes on").unwrap();
    until("something has come out", || first.len() > 500);
    let paths = [dir.path().join("one"), dir.path().join("two")];
    paths.iter().for_each(|path| job.savepoint(path).unwrap());
    assert_eq!(job.status(), JobStatus::Running);
    let refused = job.savepoint(&paths[0]).unwrap_err().to_string();
    assert!(refused.contains("is not empty"), "{refused}");
    job.result().unwrap();
    let all = uninterrupted();
    assert_eq!(first.sorted(), all);
    for path in [&paths[1], &paths[0], &paths[1]] {
        let rest = Output::default();
        let env = environment(3, Some(path));
        build(&env, RECORDS, None, &rest);
        env.execute("the rest").unwrap();
        let rest = rest.sorted();
        assert!(!rest.is_empty() && rest.len() < all.len());
        // What comes at the end of the input comes from the restored state.
        let at_end = |lines: &[String]| -> Vec<String> {
            lines
                .iter()
                .filter(|line| line.starts_with("kitchen") || line.starts_with("ruled"))
                .cloned()
                .collect()
        };
        assert_eq!(at_end(&rest), at_end(&all));
    }
}

/// C8: where checkpoints are kept is no matter to a savepoint: from memory to a directory, and back.
#[test]
fn a_savepoint_goes_from_memory_to_a_directory_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let all = uninterrupted();
    let output = Output::default();
    let mut from = None;
    for (part, in_directory) in [false, true, false].into_iter().enumerate() {
        let mut env = environment(2, from.as_deref());
        if in_directory {
            env = env.job_dir(dir.path().join("job")).checkpoint_storage(CheckpointStorage::Directory);
        }
        build(&env, RECORDS, Some(RATE), &output);
        let job = env.execute_async("moves").unwrap();
        if part < 2 {
            until("the job has come so far", || output.len() >= all.len() * (part + 1) / 3);
            let path = dir.path().join(format!("savepoint {part}"));
            job.stop_with_savepoint(&path, false).unwrap();
            from = Some(path);
        }
        job.result().unwrap();
        assert_eq!(dir.path().join("job/checkpoints").exists(), part > 0, "part {part}");
    }
    assert_eq!(output.sorted(), all);
}

/// C8: a job that is drained fires its windows and timers, and its savepoint is one of a job that is over.
#[test]
fn a_drained_job_gives_its_last_results() {
    let dir = tempfile::tempdir().unwrap();
    let output = Output::default();
    let env = environment(2, None);
    build(&env, RECORDS, Some(RATE), &output);
    let job = env.execute_async("drained").unwrap();
    until("something has come out", || output.len() > 500);
    let path = dir.path().join("savepoint");
    job.stop_with_savepoint(&path, true).unwrap();
    job.result().unwrap();
    assert_eq!(output.sorted().iter().filter(|line| line.starts_with("kitchen")).count(), 7);
    let after = Output::default();
    let env = environment(2, Some(&path));
    build(&env, RECORDS, None, &after);
    env.execute("nothing is left").unwrap();
    assert_eq!(after.len(), 0);
}

/// What each subtask has found in its lists: those that are dealt out, and those that all get.
type Found = Arc<Mutex<Vec<(Vec<u64>, Vec<String>)>>>;

struct Listed {
    ids: OperatorListState<u64>,
    names: OperatorListState<String>,
    seen: Vec<u64>,
    found: Found,
}

impl ProcessFunction<u64, u64> for Listed {
    fn initialize_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        if state.is_restored() {
            let found = (self.ids.get(state).to_vec(), self.names.get(state).to_vec());
            self.found.lock().unwrap().push(found);
        }
        let name =
            format!("subtask {} of {}", state.runtime().subtask_index(), state.runtime().parallelism());
        self.names.set(state, vec![name]);
        Ok(())
    }
    fn process(&mut self, id: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, u64>) -> UserResult {
        out.emit(id);
        self.seen.push(id);
        Ok(())
    }
    fn snapshot_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        self.ids.set(state, self.seen.clone());
        Ok(())
    }
}

/// S4, C9: lists of subtasks are dealt out anew, and those of a union come to each.
#[test]
fn lists_of_subtasks_are_dealt_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("savepoint");
    let found = Found::default();
    let run = |parallelism: usize, restored: bool, ids: &Output| {
        let env = environment(parallelism, restored.then_some(&*path));
        let shared = found.clone();
        let numbers = env.read(Generate::unbounded(|i| i).rate(2_000.0)).uid("numbers");
        let listed = numbers.rebalance().process_with_states(move |states| Listed {
            ids: states.operator_list("ids"),
            names: states.union_list("names"),
            seen: Vec::new(),
            found: shared.clone(),
        });
        ids.sink(&listed.name("listed").uid("listed"), "id");
        let job = env.execute_async("lists").unwrap();
        until("some have been seen", || ids.len() > 200);
        match restored {
            true => job.cancel(),
            false => job.stop_with_savepoint(&path, false).unwrap(),
        }
        let _ = job.result();
    };
    let ids = Output::default();
    run(2, false, &ids);
    run(3, true, &Output::default());
    let found = found.lock().unwrap();
    assert_eq!(found.len(), 3);
    let mut all: Vec<String> = found.iter().flat_map(|(ids, _)| ids).map(|id| format!("id {id}")).collect();
    all.sort();
    assert_eq!(all, ids.sorted());
    for (_, names) in found.iter() {
        assert_eq!(*names, ["subtask 0 of 2", "subtask 1 of 2"]);
    }
}

/// How many windows of a key have fired, and how often this one has.
struct Fired {
    windows: ValueState<u64>,
    times: ValueState<u64>,
}

impl ProcessWindowFunction<u64, Event, String> for Fired {
    fn process(
        &mut self,
        key: &u64,
        ctx: &mut WindowContext,
        records: &[Event],
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let more = |n: &mut u64| {
            *n += 1;
            *n
        };
        let windows = self.windows.update(ctx.per_key(), more);
        let times = self.times.update(ctx.per_window(), more);
        out.emit(format!(
            "{key} {:?}: {} records, {times} times, {windows} windows",
            ctx.window(),
            records.len()
        ));
        Ok(())
    }
}

/// C4, C9, S1: state of window functions, and files that are committed with checkpoints, each line once, at 2, 3 and 1.
#[test]
fn window_functions_and_files_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let run =
        |out: &std::path::Path, parallelism: usize, rate: Option<f64>, env: Environment, seen: &Output| {
            let mut source = Generate::new(RECORDS, event);
            if let Some(rate) = rate {
                source = source.rate(rate);
            }
            let events = env.read(source).uid("events").parallelism(parallelism);
            let strategy = WatermarkStrategy::monotonous().timestamp(|event: &Event| event.at);
            let fired = events
                .assign_timestamps(strategy)
                .key_by(|event| event.id % 5)
                .window(Tumbling::of(Duration::from_millis(300)))
                .allowed_lateness(Duration::from_millis(2_000))
                .process(|states| Fired {
                    windows: states.key.value("windows"),
                    times: states.window.value("Windows"),
                });
            let fired = fired.name("fired").uid("fired");
            fired.sink_to(TextSink::text(out).overwrite(true)).uid("files");
            seen.sink(&fired, "fired");
            env.execute_async("files").unwrap()
        };
    let lines = |dir: &std::path::Path| -> Vec<String> {
        let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|file| !file.file_name().unwrap().to_str().unwrap().starts_with(['.', '_']));
        let files = files.filter(|file| file.is_file());
        let mut lines: Vec<String> = files
            .flat_map(|file| {
                std::fs::read_to_string(file).unwrap().lines().map(str::to_string).collect::<Vec<_>>()
            })
            .collect();
        lines.sort();
        lines
    };
    let all = dir.path().join("all");
    run(&all, 1, None, Environment::new().parallelism(1), &Output::default()).result().unwrap();
    let (parts, seen) = (dir.path().join("parts"), Output::default());
    let mut from = None;
    for (part, parallelism) in [2, 3, 1].into_iter().enumerate() {
        let env = environment(parallelism, from.as_deref());
        let job = run(&parts, parallelism, Some(RATE), env, &seen);
        if part < 2 {
            until("the job has come so far", || seen.len() >= 60 * (part + 1));
            let path = dir.path().join(format!("savepoint {part}"));
            job.stop_with_savepoint(&path, false).unwrap();
            // The table of windows, and two states whose names look like its name as names of files.
            for file in ["fired-windows", "fired-windows-2", "fired-windows-3"] {
                assert!(
                    !table(&path, file)[0].schema().fields().iter().any(|field| field.data_type() == &Binary)
                );
            }
            from = Some(path);
        }
        job.result().unwrap();
    }
    let (parts, all) = (lines(&parts), lines(&all));
    assert!(all.len() > 200 && all[0].contains("1 times"), "{}", all.len());
    assert_eq!(parts, all);
}

/// C9: operators that wait for the end of their input keep what they have, at 2, 3 and 1; what is kept in the form of the
/// shuffle goes as bytes.
#[test]
fn operators_of_bounded_input_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let build = |env: &Environment, rate: Option<f64>, output: &Output| {
        let mut source = Generate::new(3_000, event);
        if let Some(rate) = rate {
            source = source.rate(rate);
        }
        let events = env.read(source).uid("events");
        // Shows how far the input is.
        output.sink(&events.map(|event| event.id).name("seen").uid("seen"), "seen");
        let pages = events.map(|event| event.page).name("pages").uid("pages");
        output.sink(&pages.distinct().name("distinct").uid("distinct"), "distinct");
        output.sink(&events.count().name("count").uid("count"), "count");
        output.sink(
            &events.top_n(5, |event| event.at * 10_000 + event.id as i64).name("top").uid("top"),
            "top",
        );
        let by_page = events.key_by(|event| event.page.clone());
        let best = by_page.top_n(2, |event| event.id).name("best").uid("best");
        output.sink(&best.map(|event| event.id), "best");
        let some = events.filter(|event| event.id % 100 == 7).key_by(|event| event.page.clone());
        let joined = by_page.join(&some).apply(|a, b| (a.id, b.id));
        output.sink(&joined.name("joined").uid("joined"), "joined");
    };
    let all = Output::default();
    let env = Environment::new().parallelism(1);
    build(&env, None, &all);
    env.execute("all").unwrap();
    let (output, mut from) = (Output::default(), None::<std::path::PathBuf>);
    for (part, parallelism) in [2, 3, 1].into_iter().enumerate() {
        let env = environment(parallelism, from.as_deref());
        build(&env, Some(4_000.0), &output);
        let job = env.execute_async("bounded").unwrap();
        if part < 2 {
            until("the job has come so far", || output.len() > 900 * (part + 1));
            let path = dir.path().join(format!("savepoint {part}"));
            job.stop_with_savepoint(&path, false).unwrap();
            from = Some(path);
        }
        job.result().unwrap();
    }
    assert_eq!(output.sorted(), all.sorted());
}

/// C11: a job that went on from a savepoint and fails before its first checkpoint goes on from the savepoint again, and not from
/// the beginning, nor from checkpoints of a run before.
#[test]
fn a_failure_before_the_first_checkpoint_leads_back_to_the_savepoint() {
    let dir = tempfile::tempdir().unwrap();
    let (path, job_dir) = (dir.path().join("savepoint"), dir.path().join("job"));
    let lines = Output::default();
    let run = |restored: bool| {
        let env = Environment::new().parallelism(2).job_dir(&job_dir);
        let env = env.checkpoint_interval(Duration::from_secs(3_600));
        let env = match restored {
            true => env.restore(Restore::Path(path.clone())).restart_strategy(RestartStrategy::FixedDelay {
                attempts: 1,
                delay: Duration::from_millis(1),
            }),
            false => env,
        };
        let fails = Arc::new(std::sync::atomic::AtomicBool::new(restored));
        let numbers = env.read(Generate::new(6_000, |i| i).rate(3_000.0)).uid("numbers");
        let numbers = numbers.map(move |n| {
            let strikes = n > 4_000 && fails.swap(false, std::sync::atomic::Ordering::SeqCst);
            assert!(!strikes, "once, on purpose");
            n
        });
        lines.sink(&numbers.uid("map").key_by(|n| n % 3).count().uid("counts"), "count");
        env.execute_async("fails").unwrap()
    };
    let job = run(false);
    until("something has been counted", || lines.len() > 100);
    // A later checkpoint of the first run must not be taken for one of the second.
    job.savepoint(&path).unwrap();
    let written = lines.len();
    until("more has been counted", || lines.len() > written + 200);
    job.stop(false).unwrap();
    job.result().unwrap();
    let before = lines.len();
    let result = run(true).result().unwrap();
    assert_eq!(result.checkpoints.unwrap().restarts, 1);
    let all = lines.sorted();
    let times = |line: &str| all.iter().filter(|other| *other == line).count();
    assert_eq!(times("count (0, 1)"), 1, "counted before the savepoint");
    assert_eq!(times("count (0, 2000)"), 1, "at the end");
    // Between the savepoint and the end of the first run: in that, and in both attempts of the second.
    let line = format!("count (0, {})", before / 3 - 30);
    assert_eq!(times(&line), 3, "{line}");
}

//! Programs that have changed since their savepoint was written.

use super::jobs::until;
use mainstem::prelude::*;
use mainstem::semantics::state::{Compatibility, SerializerSnapshot, StateSerializer};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The program: a value of type `S` for each of four keys, kept under the name `state`; `with` makes a line of what is there
/// from before and leaves a new value.
struct Program<S> {
    uid: &'static str,
    state: &'static str,
    with: fn(Option<S>, u64) -> (S, String),
}

struct Keep<S> {
    state: ValueState<S>,
    with: fn(Option<S>, u64) -> (S, String),
}

impl<S: State> KeyedProcessFunction<u64, u64, String> for Keep<S> {
    fn process(
        &mut self,
        n: u64,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let before = self.state.take(ctx);
        let (now, line) = (self.with)(before, n);
        self.state.set(ctx, now);
        out.emit(line);
        Ok(())
    }
}

impl<S: State> Program<S> {
    /// Runs the program from a savepoint, if there is one, until it has seen `records` more records than before, and
    /// stops it with another. The lines, sorted.
    fn run(&self, from: Option<&Path>, to: &Path) -> mainstem::Result<Vec<String>> {
        self.run_as(from, to, |env| env)
    }

    fn run_as(
        &self,
        from: Option<&Path>,
        to: &Path,
        change: impl FnOnce(Environment) -> Environment,
    ) -> mainstem::Result<Vec<String>> {
        let env = Environment::new().parallelism(2).checkpoint_storage(CheckpointStorage::Memory);
        let mut env = change(env.checkpoint_interval(Duration::from_secs(3_600)));
        if let Some(from) = from {
            env = env.restore(Restore::Path(from.to_path_buf()));
        }
        let (state, with) = (self.state, self.with);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = lines.clone();
        env.read(Generate::unbounded(|i| i).rate(400.0))
            .uid("numbers")
            .key_by(|n| n / 2 % 4)
            .process(move |states| Keep { state: states.value(state), with })
            .name("keep")
            .uid(self.uid)
            .sink_to(FnSink::new(move |line: String| seen.lock().unwrap().push(line)));
        let job = env.execute_async("program")?;
        until("each key has been seen", || lines.lock().unwrap().len() >= 40);
        job.stop_with_savepoint(to, false)?;
        job.result()?;
        let mut lines = lines.lock().unwrap().clone();
        lines.sort();
        Ok(lines)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct First {
    page: String,
    count: i32,
    weight: f32,
    gone: Vec<u8>,
}

fn first() -> Program<First> {
    Program {
        uid: "keep",
        state: "state",
        with: |before, n| {
            let count = before.map_or(0, |before| before.count) + 1;
            (First { page: format!("p{}", n / 2 % 4), count, weight: 0.5, gone: vec![1, 2] }, String::new())
        },
    }
}

fn written(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("first");
    first().run(None, &path).unwrap();
    path
}

/// S9, T14: fields that are added have their defaults, those that are removed are passed over, numbers become wider; order does
/// not matter.
#[test]
fn fields_come_go_and_become_wider() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Second {
        weight: f64,
        count: i64,
        #[serde(default)]
        new: u64,
        also_new: Option<String>,
        page: String,
    }
    let dir = tempfile::tempdir().unwrap();
    let from = written(dir.path());
    let second = Program::<Second> {
        uid: "keep",
        state: "state",
        with: |before, n| {
            let before = before.expect("every key has state");
            let Second { weight, count, new, also_new, page } = before;
            let line = match new {
                0 => {
                    format!("{weight} {new} {also_new:?} {}", page == format!("p{}", n / 2 % 4) && count > 0)
                }
                _ => String::new(),
            };
            (Second { weight, count: count + (1 << 40), new: 7, also_new: Some("x".into()), page }, line)
        },
    };
    let to = dir.path().join("second");
    let lines = second.run(Some(&from), &to).unwrap();
    let restored: Vec<&String> = lines.iter().filter(|line| !line.is_empty()).collect();
    assert_eq!(restored, vec!["0.5 0 None true"; 4]);
    // And on, from what the second form has written.
    second.run(Some(&to), &dir.path().join("third")).unwrap();
}

/// What a program with another type of state answers to a savepoint of the first.
fn refused<S: State + std::fmt::Debug>(uid: &'static str, state: &'static str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let from = written(dir.path());
    let program = Program::<S> { uid, state, with: |before, n| panic!("{before:?} {n}: it must not run") };
    program.run(Some(&from), &dir.path().join("to")).unwrap_err().to_string()
}

/// S9, T14: what cannot be read is refused before anything runs, with operator, state and field.
#[test]
fn what_does_not_fit_is_refused() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Narrow {
        count: i16,
    }
    let message = refused::<Narrow>("keep", "state");
    assert!(message.contains("operator 'keep', state 'state'"), "{message}");
    assert!(message.contains("'value.count' was i32, and is i16"), "{message}");
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Text {
        count: String,
    }
    let message = refused::<Text>("keep", "state");
    assert!(message.contains("'value.count' was i32, and is text"), "{message}");
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Demanding {
        count: i32,
        new: u64,
    }
    let message = refused::<Demanding>("keep", "state");
    assert!(message.contains("operator 'keep', state 'state'") && message.contains("`new`"), "{message}");
    let message = refused::<u64>("keep", "state");
    assert!(message.contains("'value' was a struct, and is u64"), "{message}");
    let message = refused::<First>("keep", "other");
    assert!(
        message.contains("'keep'")
            && message.contains("'state'")
            && message.contains("which the operator does not have"),
        "{message}"
    );
    let message = refused::<First>("renamed", "state");
    assert!(message.contains("uid 'keep'") && message.contains("allow-non-restored-state"), "{message}");
}

/// C8: state that nobody is for is left out where that is allowed; the operator starts empty.
#[test]
fn state_without_an_operator_is_left_out_where_that_is_allowed() {
    for (uid, state) in [("renamed", "state"), ("keep", "other")] {
        let dir = tempfile::tempdir().unwrap();
        let from = written(dir.path());
        let with = |before: Option<u64>, n| (n, format!("{}", before.is_none()));
        let program = Program::<u64> { uid, state, with };
        let lines = program
            .run_as(Some(&from), &dir.path().join("to"), |env| env.allow_non_restored_state(true))
            .unwrap();
        assert_eq!(lines.iter().filter(|line| *line == "true").count(), 4, "{uid} {state}");
    }
}

/// C9: the number of key groups is fixed for the life of a job.
#[test]
fn parallelism_above_max_parallelism_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("first");
    first().run_as(None, &from, |env| env.max_parallelism(4)).unwrap();
    let again = |env: Environment| env.parallelism(5);
    let error = first().run_as(Some(&from), &dir.path().join("to"), again).unwrap_err().to_string();
    assert!(error.contains("parallelism 5 is above the max parallelism 4"), "{error}");
    first().run_as(Some(&from), &dir.path().join("to"), |env| env.parallelism(4)).unwrap();
}

/// C10: an operator that is added starts empty, one that is removed takes nothing with it that others need.
#[test]
fn operators_are_added_and_removed() {
    /// The numbers that the added operator has counted for itself are 0 where there is none.
    type Counted = ((u64, u64), u64);
    fn run(from: Option<&Path>, to: &Path, both: bool, allowed: bool) -> mainstem::Result<Vec<Counted>> {
        let env = Environment::new().parallelism(2).checkpoint_storage(CheckpointStorage::Memory);
        let mut env = env.checkpoint_interval(Duration::from_secs(3_600)).allow_non_restored_state(allowed);
        if let Some(from) = from {
            env = env.restore(Restore::Path(from.to_path_buf()));
        }
        let numbers = env.read(Generate::unbounded(|i| i).rate(2_000.0)).uid("numbers");
        let counts = numbers.key_by(|n| n % 3).count().name("counts").uid("counts");
        let counted: DataStream<Counted> = if both {
            let seen = |count, seen: Option<u64>| {
                let seen = seen.unwrap_or(0) + 1;
                ((count, seen), Some(seen))
            };
            counts.key_by(|count| count.0).map_with_state(seen).name("added").uid("added")
        } else {
            counts.map(|count| (count, 0))
        };
        let all = Arc::new(Mutex::new(Vec::new()));
        let shared = all.clone();
        counted.sink_to(FnSink::new(move |counted| shared.lock().unwrap().push(counted)));
        let job = env.execute_async("added")?;
        until("each key has been counted", || {
            (0..3).all(|key| all.lock().unwrap().iter().filter(|(count, _)| count.0 == key).count() > 20)
        });
        job.stop_with_savepoint(to, false)?;
        job.result()?;
        let all = all.lock().unwrap().clone();
        Ok(all)
    }
    /// The first and last counts of each key; nothing is missing between them.
    fn ends(counted: &[Counted]) -> [(u64, u64); 3] {
        [0, 1, 2].map(|key| {
            let mut counts: Vec<u64> =
                counted.iter().filter(|(count, _)| count.0 == key).map(|(count, _)| count.1).collect();
            counts.sort();
            assert!(counts.windows(2).all(|pair| pair[1] == pair[0] + 1), "key {key}: {counts:?}");
            (counts[0], counts[counts.len() - 1])
        })
    }
    let goes_on = |before: &[Counted], after: &[Counted]| {
        for ((_, last), (first, _)) in ends(before).into_iter().zip(ends(after)) {
            assert_eq!(first, last + 1, "the counts go on where they were");
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let [one, two, three] = ["one", "two", "three"].map(|name| dir.path().join(name));
    let first = run(None, &one, false, false).unwrap();
    assert!(ends(&first).iter().all(|(first, _)| *first == 1));
    let second = run(Some(&one), &two, true, false).unwrap();
    goes_on(&first, &second);
    for key in 0..3 {
        let mut seen: Vec<u64> =
            second.iter().filter(|(count, _)| count.0 == key).map(|(_, seen)| *seen).collect();
        seen.sort();
        assert!(seen.iter().copied().eq(1..=seen.len() as u64), "the added operator starts empty: {seen:?}");
    }
    let error = run(Some(&two), &three, false, false).unwrap_err().to_string();
    assert!(error.contains("uid 'added'") && error.contains("allow-non-restored-state"), "{error}");
    let third = run(Some(&two), &three, false, true).unwrap();
    goes_on(&second, &third);
}

/// Temperatures: whole degrees in version 1, tenths in version 2; version 3 reads neither.
struct Temperature(u32);

impl StateSerializer<i32> for Temperature {
    fn written(&self) -> SerializerSnapshot {
        SerializerSnapshot { name: "temperature".to_string(), version: self.0, bytes: Vec::new() }
    }
    fn compatibility(&self, written: &SerializerSnapshot) -> Compatibility {
        match (self.0, written.version) {
            (own, other) if own == other => Compatibility::AsIs,
            (2, 1) => Compatibility::Migrate,
            _ => Compatibility::Incompatible(format!("version {} is too old", written.version)),
        }
    }
    fn serialize(&self, value: &i32, into: &mut Vec<u8>) -> UserResult {
        into.extend(value.to_le_bytes());
        Ok(())
    }
    fn deserialize(&self, written: &SerializerSnapshot, from: &[u8]) -> UserResult<i32> {
        let number = i32::from_le_bytes(from.try_into()?);
        Ok(if written.version < self.0 { number * 10 } else { number })
    }
}

/// S10: a serializer of the user migrates what an older version of it wrote, and an incompatible one is refused by name.
#[test]
fn serializers_migrate_or_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, three] = ["one", "two", "three"].map(|name| dir.path().join(name));
    let run = |version: u32, from: Option<&Path>, to: &Path| -> mainstem::Result<Vec<String>> {
        let env = Environment::new().parallelism(2).checkpoint_storage(CheckpointStorage::Memory);
        let mut env = env.checkpoint_interval(Duration::from_secs(3_600));
        if let Some(from) = from {
            env = env.restore(Restore::Path(from.to_path_buf()));
        }
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = lines.clone();
        env.read(Generate::unbounded(|i| i).rate(400.0))
            .uid("numbers")
            .key_by(|n| n % 3)
            .process(move |states| Keep {
                state: states.value_with("degrees", Temperature(version)),
                with: |before: Option<i32>, _| (before.unwrap_or(21), format!("{before:?}")),
            })
            .name("keep")
            .uid("keep")
            .sink_to(FnSink::new(move |line: String| seen.lock().unwrap().push(line)));
        let job = env.execute_async("temperatures")?;
        until("each key has been seen", || lines.lock().unwrap().len() >= 20);
        job.stop_with_savepoint(to, false)?;
        job.result()?;
        let lines = lines.lock().unwrap().clone();
        Ok(lines)
    };
    run(1, None, &one).unwrap();
    let lines = run(2, Some(&one), &two).unwrap();
    assert!(lines.iter().all(|line| line == "Some(210)"), "{lines:?}");
    let error = run(3, Some(&two), &three).unwrap_err().to_string();
    assert!(error.contains("'degrees'") && error.contains("version 2 is too old"), "{error}");
}

/// S9: bytes say nothing of their type: they are read as the type only that they were written as.
#[test]
fn bytes_are_not_read_as_another_type() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    enum Shape {
        Point,
        Line(u64),
    }
    #[derive(Clone, Debug, Serialize, Deserialize)]
    enum Other {
        Circle(u32),
        Nothing,
    }
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    let with = |before: Option<Shape>, n| {
        let shape = if n % 3 == 0 { Shape::Point } else { Shape::Line(n) };
        (shape, format!("{}", before.is_some()))
    };
    let shapes = Program::<Shape> { uid: "keep", state: "state", with };
    shapes.run(None, &one).unwrap();
    let lines = shapes.run(Some(&one), &two).unwrap();
    assert!(lines.iter().all(|line| line == "true"), "{lines:?}");
    let other = Program::<Other> {
        uid: "keep",
        state: "state",
        with: |_, n| (if n == 0 { Other::Nothing } else { Other::Circle(1) }, String::new()),
    };
    let error = other.run(Some(&two), &dir.path().join("three")).unwrap_err().to_string();
    assert!(error.contains("operator 'keep', state 'state'"), "{error}");
    assert!(error.contains("Shape") && error.contains("Other") && error.contains("written as"), "{error}");
}

//! Registry: where the accumulators of a job come together.
//!
//! Method: three levels. The handle holds a value of its own type; the attempt and the job hold encoded values with
//! the functions of their type. A handle that is dropped after its attempt was published goes straight to the job,
//! so the executor may publish before or after it drops the user's functions.
//! Invariants: user code (`merge`, `Display`) runs here only inside `catch_unwind`; no thread holds the lock
//! of an attempt and of the job at once.

use super::Accumulator;
use super::results::{AccumulatorResults, Entry};
use crate::base::codec;
use crate::base::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most accumulators of one job: a name per record or key is a mistake that would fill the memory.
const NAMES_MAX: usize = 10_000;

/// What is done with encoded values of one type, captured where the type was known.
#[derive(Clone, Copy)]
struct Functions {
    type_name: &'static str,
    merge: fn(&[u8], &[u8]) -> Result<Vec<u8>>,
    show: fn(&[u8]) -> Result<(String, serde_json::Value)>,
}

impl Functions {
    fn of<A: Accumulator>() -> Functions {
        Functions {
            type_name: std::any::type_name::<A>(),
            merge: |a, b| {
                guarded(AssertUnwindSafe(|| {
                    let (mut a, b): (A, A) = (codec::decode(a)?, codec::decode(b)?);
                    a.merge(b);
                    encoded(&a)
                }))
            },
            show: |a| {
                guarded(AssertUnwindSafe(|| {
                    let a: A = codec::decode(a)?;
                    let json = serde_json::to_value(a.result()).map_err(Error::user)?;
                    Ok((a.to_string(), json))
                }))
            },
        }
    }
}

impl Functions {
    /// The functions of a type that comes with the engine, and its empty value.
    fn by_name(type_name: &str) -> Option<(Functions, Result<Vec<u8>>)> {
        fn of<A: Accumulator>(type_name: &str) -> Option<(Functions, Result<Vec<u8>>)> {
            let functions = Functions::of::<A>();
            (functions.type_name == type_name).then(|| (functions, encoded(&A::default())))
        }
        use super::{DoubleCounter, Histogram, LongCounter};
        of::<LongCounter>(type_name)
            .or_else(|| of::<DoubleCounter>(type_name))
            .or_else(|| of::<Histogram>(type_name))
    }
}

/// What one attempt accumulated under one name, fit to be written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accumulated {
    name: String,
    type_name: String,
    value: Vec<u8>,
}

fn guarded<T>(code: AssertUnwindSafe<impl FnOnce() -> Result<T>>) -> Result<T> {
    catch_unwind(code).unwrap_or_else(|payload| Err(Error::panic(payload)))
}

fn encoded<A: Accumulator>(value: &A) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes)?;
    Ok(bytes)
}

/// A panic never leaves these maps half changed, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The accumulators of one job. Cloning gives another handle to the same set.
#[derive(Clone, Default)]
pub struct Accumulators(Arc<Mutex<Job>>);

#[derive(Default)]
struct Job {
    slots: BTreeMap<String, (Functions, Vec<u8>)>,
    /// The first error of a handle that was dropped when nobody could be told.
    failed: Option<Error>,
}

impl Job {
    fn merge(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let Some((functions, total)) = self.slots.get_mut(name) else {
            return Err(Error::Internal(format!("accumulator '{name}' was never registered")));
        };
        *total = (functions.merge)(total, value).map_err(|e| at(name, e))?;
        Ok(())
    }
}

/// The error with the accumulator it happened in.
fn at(name: &str, error: Error) -> Error {
    match error {
        Error::Panic(message) => Error::Panic(format!("accumulator '{name}': {message}")),
        Error::Codec(message) => Error::Codec(format!("accumulator '{name}': {message}")),
        Error::User(source) => Error::user(format!("accumulator '{name}': {source}")),
        other => other,
    }
}

impl Accumulators {
    /// An empty set.
    pub fn new() -> Self {
        Accumulators::default()
    }

    /// The accumulators of one attempt of a subtask.
    pub fn attempt(&self) -> AttemptAccumulators {
        let shared = Shared { job: self.clone(), state: Mutex::new(State::Open(BTreeMap::new())) };
        AttemptAccumulators { local: LocalAccumulators(Arc::new(shared)) }
    }

    /// Forgets what was published: the job begins another attempt.
    pub fn reset(&self) {
        *lock(&self.0) = Job::default();
    }

    /// What was published so far.
    ///
    /// # Errors
    /// When code of an accumulator failed or panicked.
    pub fn results(&self) -> Result<AccumulatorResults> {
        let mut job = lock(&self.0);
        if let Some(error) = job.failed.take() {
            return Err(error);
        }
        let entry = |(name, (functions, bytes)): (&String, &(Functions, Vec<u8>))| {
            let (text, json) = (functions.show)(bytes).map_err(|e| at(name, e))?;
            Ok((name.clone(), Entry { type_name: functions.type_name, bytes: bytes.clone(), text, json }))
        };
        Ok(AccumulatorResults::new(job.slots.iter().map(entry).collect::<Result<_>>()?))
    }

    /// Merges what attempts have accumulated, in the order in which they are given. A value of a type that nobody has used
    /// in this process, and that does not come with the engine, is left out with a warning.
    ///
    /// # Errors
    /// When code of an accumulator failed or panicked.
    pub fn merge<'a>(&self, values: impl IntoIterator<Item = &'a Accumulated>) -> Result<()> {
        let mut job = lock(&self.0);
        for Accumulated { name, type_name, value } in values {
            if !job.slots.contains_key(name) {
                match Functions::by_name(type_name) {
                    Some((functions, empty)) => {
                        job.slots.insert(name.clone(), (functions, empty?));
                    }
                    None => {
                        tracing::warn!(
                            name,
                            type_name,
                            "an accumulator of a job before is of an unknown type"
                        );
                        continue;
                    }
                }
            }
            job.merge(name, value)?;
        }
        Ok(())
    }

    fn register<A: Accumulator>(&self, name: &str) -> Result<()> {
        let functions = Functions::of::<A>();
        let mut job = lock(&self.0);
        if let Some((known, _)) = job.slots.get(name) {
            if known.type_name != functions.type_name {
                return Err(Error::config(format!(
                    "accumulator '{name}' is used as {} and as {}; give one of them another name",
                    known.type_name, functions.type_name
                )));
            }
            return Ok(());
        }
        if job.slots.len() >= NAMES_MAX {
            return Err(Error::config(format!(
                "accumulator '{name}' is one more than the {NAMES_MAX} that a job may have; use one accumulator \
                 that counts by name instead of one name for each"
            )));
        }
        let empty = encoded(&A::default())?;
        job.slots.insert(name.to_string(), (functions, empty));
        Ok(())
    }
}

/// The accumulators of one attempt of a subtask, held by the executor. Publish it when the attempt succeeded; when
/// it is dropped instead, what the attempt accumulated is discarded.
#[must_use = "an attempt that is not published is discarded"]
pub struct AttemptAccumulators {
    local: LocalAccumulators,
}

/// What user functions get their handles from; cloning gives another handle to the same attempt.
#[derive(Clone)]
pub struct LocalAccumulators(Arc<Shared>);

struct Shared {
    job: Accumulators,
    state: Mutex<State>,
}

enum State {
    Open(BTreeMap<Arc<str>, Staged>),
    Published,
    Discarded,
}

/// The values of one name in one attempt: merged as they come, or the error that doing so gave.
struct Staged {
    functions: Functions,
    value: Result<Vec<u8>>,
}

impl AttemptAccumulators {
    /// The part that is given to the user functions of the attempt.
    pub fn handles(&self) -> LocalAccumulators {
        self.local.clone()
    }

    /// As [`LocalAccumulators::local`].
    ///
    /// # Errors
    /// As [`LocalAccumulators::local`].
    pub fn local<A: Accumulator>(&self, name: &str) -> Result<AccumulatorHandle<A>> {
        self.local.local(name)
    }

    /// Ends the attempt and takes what it accumulated. Handles that still live have no effect any more, so user
    /// functions are dropped before.
    ///
    /// # Errors
    /// When code of an accumulator failed or panicked.
    pub fn take(self) -> Result<Vec<Accumulated>> {
        let staged = match std::mem::replace(&mut *lock(&self.local.0.state), State::Discarded) {
            State::Open(staged) => staged,
            State::Published | State::Discarded => return Ok(Vec::new()),
        };
        let taken = staged.into_iter().map(|(name, staged)| {
            let type_name = staged.functions.type_name.to_string();
            Ok(Accumulated { name: name.to_string(), type_name, value: staged.value? })
        });
        taken.collect()
    }

    /// Merges what the attempt accumulated into the job. Handles that still live go to the job when they are
    /// flushed or dropped.
    ///
    /// # Errors
    /// When code of an accumulator failed or panicked; nothing of that accumulator is merged then.
    pub fn publish(self) -> Result<()> {
        let shared = &self.local.0;
        let staged = match std::mem::replace(&mut *lock(&shared.state), State::Published) {
            State::Open(staged) => staged,
            State::Published | State::Discarded => return Ok(()),
        };
        let mut job = lock(&shared.job.0);
        for (name, staged) in staged {
            job.merge(&name, &staged.value?)?;
        }
        Ok(())
    }
}

impl Drop for AttemptAccumulators {
    fn drop(&mut self) {
        let mut state = lock(&self.local.0.state);
        if let State::Open(_) = *state {
            *state = State::Discarded;
        }
    }
}

impl LocalAccumulators {
    /// A handle with a value of its own for the accumulator of that name. Several handles of one name are merged.
    ///
    /// # Errors
    /// When the name is used with another type in this job, or the job has too many accumulators.
    pub fn local<A: Accumulator>(&self, name: &str) -> Result<AccumulatorHandle<A>> {
        self.0.job.register::<A>(name)?;
        Ok(AccumulatorHandle {
            name: name.into(),
            value: A::default(),
            changed: false,
            attempt: Arc::clone(&self.0),
        })
    }
}

/// One function's own value of an accumulator. Adding takes no lock; the value reaches the attempt when the handle
/// is flushed or dropped.
pub struct AccumulatorHandle<A: Accumulator> {
    name: Arc<str>,
    value: A,
    changed: bool,
    attempt: Arc<Shared>,
}

impl<A: Accumulator> AccumulatorHandle<A> {
    /// Adds one value.
    #[inline]
    pub fn add(&mut self, value: A::Value) {
        self.value.add(value);
        self.changed = true;
    }

    /// What was added to this handle since it was last flushed.
    pub fn value(&self) -> &A {
        &self.value
    }

    /// Hands what was added to the attempt. An error of the accumulator's code is reported when the attempt is
    /// published, or with the results of the job if it already was.
    pub fn flush(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let value = std::mem::take(&mut self.value);
        let bytes = guarded(AssertUnwindSafe(|| encoded(&value))).map_err(|e| at(&self.name, e));
        let mut state = lock(&self.attempt.state);
        match &mut *state {
            State::Discarded => {}
            State::Open(staged) => match staged.get_mut(&self.name) {
                None => {
                    let functions = Functions::of::<A>();
                    staged.insert(Arc::clone(&self.name), Staged { functions, value: bytes });
                }
                Some(staged) => {
                    if let Ok(total) = &staged.value {
                        staged.value = bytes
                            .and_then(|b| (staged.functions.merge)(total, &b).map_err(|e| at(&self.name, e)));
                    }
                }
            },
            State::Published => {
                drop(state);
                let mut job = lock(&self.attempt.job.0);
                if let Err(error) = bytes.and_then(|bytes| job.merge(&self.name, &bytes)) {
                    job.failed.get_or_insert(error);
                }
            }
        }
    }
}

impl<A: Accumulator> Drop for AccumulatorHandle<A> {
    fn drop(&mut self) {
        // While a panic unwinds the attempt has failed, and a second panic would end the process.
        if !std::thread::panicking() {
            self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DoubleCounter, Histogram, LongCounter, Max};
    use super::*;
    use serde::{Deserialize, Serialize};
    use std::fmt;

    fn count(job: &Accumulators, name: &str) -> i64 {
        job.results().unwrap().get::<LongCounter>(name).unwrap()
    }

    /// O1: merged over subtasks and read from the result.
    #[test]
    fn values_of_all_subtasks_and_handles_are_merged() {
        let job = Accumulators::new();
        std::thread::scope(|scope| {
            for subtask in 0..4 {
                let attempt = job.attempt();
                scope.spawn(move || {
                    let handles = attempt.handles();
                    let mut lines = handles.local::<LongCounter>("lines").unwrap();
                    let mut again = handles.local::<LongCounter>("lines").unwrap();
                    let mut sizes = handles.local::<Histogram>("sizes").unwrap();
                    for i in 0..100 {
                        lines.add(1);
                        again.add(10);
                        sizes.add(i + subtask);
                    }
                    assert_eq!(lines.value().result(), 100);
                    lines.flush();
                    lines.add(5);
                    drop((lines, again, sizes));
                    attempt.publish().unwrap();
                });
            }
        });
        assert_eq!(count(&job, "lines"), 4 * (100 + 1_000 + 5));
        let sizes = job.results().unwrap().get::<Histogram>("sizes").unwrap();
        assert_eq!((sizes.count(), sizes.max()), (400, 102));
    }

    #[test]
    fn a_failed_attempt_leaves_no_trace() {
        let job = Accumulators::new();
        let attempt = job.attempt();
        let mut early = attempt.local::<LongCounter>("n").unwrap();
        let mut late = attempt.local::<LongCounter>("n").unwrap();
        early.add(1);
        late.add(1);
        drop(early);
        drop(attempt);
        drop(late);
        assert_eq!(count(&job, "n"), 0, "registered but never added to");
        let attempt = job.attempt();
        attempt.local::<LongCounter>("n").unwrap().add(7);
        attempt.publish().unwrap();
        assert_eq!(count(&job, "n"), 7);
    }

    #[test]
    fn a_handle_that_outlives_a_published_attempt_still_counts() {
        let job = Accumulators::new();
        let attempt = job.attempt();
        let mut n = attempt.local::<LongCounter>("n").unwrap();
        n.add(1);
        attempt.publish().unwrap();
        assert_eq!(count(&job, "n"), 0);
        n.add(1);
        drop(n);
        assert_eq!(count(&job, "n"), 2);
    }

    #[test]
    fn a_handle_dropped_by_a_panic_adds_nothing() {
        let job = Accumulators::new();
        let attempt = job.attempt();
        let mut n = attempt.local::<LongCounter>("n").unwrap();
        let _ = catch_unwind(AssertUnwindSafe(move || {
            n.add(1);
            panic!("user code");
        }));
        attempt.publish().unwrap();
        assert_eq!(count(&job, "n"), 0);
    }

    #[test]
    fn one_name_with_two_types_names_both() {
        let job = Accumulators::new();
        let attempt = job.attempt();
        let _n = attempt.local::<LongCounter>("n").unwrap();
        let e = job.attempt().local::<Max<u64>>("n").err().unwrap().to_string();
        assert!(
            e.starts_with("accumulator 'n' is used as mainstem::base::accumulator::builtin::LongCounter"),
            "{e}"
        );
        assert!(
            e.contains("and as mainstem::base::accumulator::builtin::Max<u64>; give one of them another"),
            "{e}"
        );
        let results = job.results().unwrap();
        let e = results.get::<DoubleCounter>("n").unwrap_err().to_string();
        assert!(e.contains("LongCounter, not") && e.contains("DoubleCounter"), "{e}");
        let e = results.get::<LongCounter>("m").unwrap_err().to_string();
        assert_eq!(e, "there is no accumulator 'm'; the job has: n");
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let attempt = Accumulators::new().attempt();
        let first_error = (0..=NAMES_MAX)
            .find_map(|i| attempt.local::<LongCounter>(&format!("n{i}")).err().map(|e| (i, e.to_string())));
        let (i, e) = first_error.unwrap();
        assert_eq!(i, NAMES_MAX);
        assert!(e.contains("one more than the 10000"), "{e}");
    }

    /// Panics when it is merged with another that was added to.
    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Fragile(u8);

    impl Accumulator for Fragile {
        type Value = u8;
        type Result = u8;
        fn add(&mut self, value: u8) {
            self.0 = value;
        }
        fn merge(&mut self, other: Self) {
            assert!(self.0 == 0, "merged twice");
            self.0 = other.0;
        }
        fn result(&self) -> u8 {
            self.0
        }
    }

    impl fmt::Display for Fragile {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)
        }
    }

    #[test]
    fn a_panic_of_an_accumulator_is_an_error_with_its_name() {
        let job = Accumulators::new();
        let expected = "user code panicked: accumulator 'f': merged twice";
        let attempt = job.attempt();
        attempt.local::<Fragile>("f").unwrap().add(1);
        attempt.local::<Fragile>("f").unwrap().add(2);
        let e = attempt.publish().unwrap_err().to_string();
        assert!(e.contains(expected), "{e}");
        for fails in [false, true] {
            let attempt = job.attempt();
            attempt.local::<Fragile>("f").unwrap().add(1);
            assert_eq!(attempt.publish().is_err(), fails);
        }
        let attempt = job.attempt();
        let mut late = attempt.local::<Fragile>("f").unwrap();
        attempt.publish().unwrap();
        late.add(3);
        drop(late);
        assert!(job.results().unwrap_err().to_string().contains(expected));
    }
}

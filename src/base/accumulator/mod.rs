//! Accumulators: named values that user functions add to and the job result reports, merged over all subtasks.
//!
//! Place: the executor makes one [`Accumulators`] per job and one [`AttemptAccumulators`] per attempt of a subtask;
//! user functions get an [`AccumulatorHandle`] when they are opened.
//! Method: a handle owns its local value, so adding takes no lock; the value goes to the attempt when the handle is
//! flushed or dropped, and from the attempt to the job when the attempt is published. On the way values are encoded,
//! together with the functions of their type captured where the type was known.
//! Invariants: an attempt that is dropped without being published leaves no trace; one name has one type.
//! Costs and limits: a handle costs its value; publishing decodes and encodes each value once. Not exactly-once:
//! what a job did before it was restored is not undone.

mod builtin;
mod histogram;
mod registry;
mod results;

pub use builtin::{DoubleCounter, LongCounter, Max, Min};
pub use histogram::Histogram;
pub use registry::{Accumulated, AccumulatorHandle, Accumulators, AttemptAccumulators, LocalAccumulators};
pub use results::AccumulatorResults;

use crate::base::data::Data;
use serde::Serialize;
use std::fmt;

/// A value that can be added to in many places and merged afterwards. `Default` is the value before anything was
/// added, `Display` how the job result shows it.
///
/// Merging must not depend on order: `a.merge(b)` and `b.merge(a)` give the same result, whatever the grouping,
/// and merging a default value changes nothing.
///
/// ```
/// use mainstem::base::accumulator::{Accumulator, Accumulators};
/// use serde::{Deserialize, Serialize};
/// use std::{collections::BTreeSet, fmt};
///
/// /// The different words that were seen.
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Distinct(BTreeSet<String>);
///
/// impl Accumulator for Distinct {
///     type Value = String;
///     type Result = usize;
///     fn add(&mut self, word: String) {
///         self.0.insert(word);
///     }
///     fn merge(&mut self, other: Self) {
///         self.0.extend(other.0);
///     }
///     fn result(&self) -> usize {
///         self.0.len()
///     }
/// }
///
/// impl fmt::Display for Distinct {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         write!(f, "{} different", self.0.len())
///     }
/// }
///
/// let job = Accumulators::new();
/// for words in [["a", "b"], ["b", "c"]] {
///     let attempt = job.attempt();
///     let mut seen = attempt.local::<Distinct>("words")?;
///     words.map(|word| seen.add(word.to_string()));
///     drop(seen);
///     attempt.publish()?;
/// }
/// assert_eq!(job.results()?.get::<Distinct>("words")?, 3);
/// # Ok::<(), mainstem::Error>(())
/// ```
pub trait Accumulator: Data + Default + fmt::Display {
    /// What is added.
    type Value;
    /// What comes out in the end.
    type Result: Serialize;

    /// Adds one value.
    fn add(&mut self, value: Self::Value);
    /// Takes in everything that was added to `other`.
    fn merge(&mut self, other: Self);
    /// What was accumulated.
    fn result(&self) -> Self::Result;
}

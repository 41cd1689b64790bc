//! Results that are kept between jobs, and bulk iterations over them.

use crate::api::data_stream::DataStream;
use crate::base::data::Data;
use crate::base::error::Result;
use crate::connectors::kept::Kept;
use crate::connectors::sink::FnSink;
use crate::plan::NodeId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Part of the memory of a job that kept records may hold; the rest is on disk.
const KEPT_PART: u64 = 8;
/// Units of work of a subtask at most, each of which writes.
const UNITS: usize = 8;

/// One round of [`iterate_bulk`](DataStream::iterate_bulk): the records of the next one, and perhaps when to stop.
pub struct IterationStep<T> {
    next: DataStream<T>,
    /// A sink that counts, and what it counts in.
    changes: Option<(NodeId, Arc<AtomicU64>)>,
}

/// What an iteration came to.
pub struct Iterated<T> {
    /// The records of the last round.
    pub stream: DataStream<T>,
    /// Rounds that ran.
    pub rounds: u64,
    /// Whether the stream given to [`until_empty`](IterationStep::until_empty) was empty in the last round.
    pub converged: bool,
}

impl<T: Data> IterationStep<T> {
    /// Goes on with these records, as many rounds as there may be.
    pub fn new(next: DataStream<T>) -> Self {
        IterationStep { next, changes: None }
    }

    /// Ends the iteration with the first round in which there is no record in this stream, such as one of all records that
    /// have changed.
    #[must_use]
    pub fn until_empty<C: Data>(mut self, changes: &DataStream<C>) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        let sink = changes.count().sink_to(FnSink::new(move |n: u64| counted.store(n, Ordering::SeqCst)));
        self.changes = sink.from.first().map(|edge| (edge.from, count));
        self
    }
}

impl<T: Data> DataStream<T> {
    /// Runs a job that computes this stream, now, and keeps its records: what reads the stream that comes back does not compute
    /// them again. Sinks that the program has are left for [`execute`](crate::api::Environment::execute). Records are kept
    /// within an eighth of the job's memory and on disk, as long as anything refers to them, and have the timestamps that they had.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// let squares = env.from_iter([1, 2, 3]).map(|n| n * n).keep("squares")?;
    /// assert_eq!(squares.count().execute_and_collect("count")?.into_vec()?, [3]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    ///
    /// # Errors
    /// As those of [`execute`](crate::api::Environment::execute); an unbounded source is refused.
    pub fn keep(&self, name: &str) -> Result<DataStream<T>> {
        let kept = self.kept_sink();
        self.env.execute_only(name, &[kept.1])?;
        Ok(self.env.read(kept.0))
    }

    fn kept_sink(&self) -> (Kept<T>, NodeId) {
        let settings = self.env.settings();
        let writers = settings.parallelism.saturating_mul(UNITS);
        let kept = Kept::new(settings.memory.0 / KEPT_PART, writers, settings.temp_dir);
        let sink = self.sink_to(kept.clone());
        let node = sink.from.first().map_or(0, |edge| edge.from);
        self.env.change(node, |node| node.needs_end = Some("it keeps all records for other jobs"));
        (kept, node)
    }

    /// Computes a stream from itself, round after round: `body` is given the records so far and the number of the round, from 0, and
    /// says what the next ones are. Ends after `rounds_max` rounds, or before if the body says so with
    /// [`until_empty`](IterationStep::until_empty). With `rounds_max` 0 the stream comes back as it is.
    ///
    /// Each round is a job, which runs now, in the mode of the environment; between rounds records are [kept](DataStream::keep). The body
    /// may use other streams of the environment: they are computed in each round unless they are kept, too. It should give no
    /// `uid`: its operators are other ones in each round.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// # use mainstem::api::IterationStep;
    /// let env = Environment::new();
    /// let halved = env.from_iter([40u32, 7]).iterate_bulk("halving", 100, |numbers, _round| {
    ///     let next = numbers.map(|n| if n % 2 == 0 { n / 2 } else { n });
    ///     IterationStep::new(next.clone()).until_empty(&next.filter(|n| n % 2 == 0))
    /// })?;
    /// assert!(halved.converged && halved.rounds == 3);
    /// let mut odd = halved.stream.execute_and_collect("odd")?.into_vec()?;
    /// odd.sort();
    /// assert_eq!(odd, [5, 7]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    ///
    /// # Errors
    /// The failure of a round; its name has the number of the round. An unbounded source is refused.
    pub fn iterate_bulk(
        &self,
        name: &str,
        rounds_max: u64,
        mut body: impl FnMut(&DataStream<T>, u64) -> IterationStep<T>,
    ) -> Result<Iterated<T>> {
        let mut iterated = Iterated { stream: self.clone(), rounds: 0, converged: false };
        while iterated.rounds < rounds_max && !iterated.converged {
            let step = body(&iterated.stream, iterated.rounds);
            let (kept, node) = step.next.kept_sink();
            let mut sinks = vec![node];
            sinks.extend(step.changes.iter().map(|(sink, _)| *sink));
            let result = self.env.execute_only(&format!("{name} {}", iterated.rounds), &sinks)?;
            iterated.stream = self.env.read(kept);
            iterated.rounds += 1;
            iterated.converged = step.changes.is_some_and(|(_, count)| count.load(Ordering::SeqCst) == 0);
            if result.explained {
                break;
            }
        }
        Ok(iterated)
    }
}

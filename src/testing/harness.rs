//! Harness: a program between a test's input and its assertions.
//!
//! Method: the subtasks of the pipelined executor are stepped on the calling thread until nothing moves: everything
//! that a push leads to has come out when the push returns.

use super::feed::{Feed, FeedSource};
use super::inner::{Core, outputs_and_time, planned};
use super::snapshot::HarnessSnapshot;
use crate::api::{DataStream, Environment};
use crate::base::config::ExecutionMode;
use crate::base::data::{Data, Timestamp};
use crate::base::error::Result;
use crate::operator::side_output::SideOutput;
use std::time::Duration;

/// Drives a program with one input, step by step, on the calling thread: see the [module](super).
///
/// The program runs at parallelism 1, in STREAMING. What a call leads to has happened when it returns. A
/// [`WatermarkStrategy`](crate::semantics::time::WatermarkStrategy) in the program promises what it can after each
/// push. An error or a panic of user code comes back from the call that led to it, with the name of the operator, and
/// ends the harness; a mistake in the program comes back from the first call.
pub struct Harness<In, Out> {
    feed: Feed<In>,
    core: Core<Out>,
}

impl<In: Data, Out: Data> Harness<In, Out> {
    /// A harness around what `program` makes of its input.
    pub fn new(program: impl FnOnce(DataStream<In>) -> DataStream<Out>) -> Self {
        Harness::new_in(Environment::new(), program)
    }

    /// As [`new`](Harness::new), with the parameters and the file system of an environment.
    pub fn new_in(env: Environment, program: impl FnOnce(DataStream<In>) -> DataStream<Out>) -> Self {
        Harness::planned(planned(env, ExecutionMode::Streaming), program)
    }

    /// A harness that runs the program in BATCH, when the input ends: [`end`](Harness::end) is the call that returns
    /// its errors, and nothing comes out before. Watermarks and processing time that are pushed have no effect there.
    pub fn batch(program: impl FnOnce(DataStream<In>) -> DataStream<Out>) -> Self {
        Harness::planned(planned(Environment::new(), ExecutionMode::Batch), program)
    }

    fn planned(env: Environment, program: impl FnOnce(DataStream<In>) -> DataStream<Out>) -> Self {
        let feed = Feed::new();
        let output = program(env.read(FeedSource { feed: feed.clone() }));
        Harness { feed, core: Core::new(env, output) }
    }

    /// Pushes a record without a timestamp.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn push(&mut self, value: In) -> Result<()> {
        self.push_records([(value, None)])
    }

    /// Pushes a record with a timestamp, in milliseconds since the epoch.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn push_at(&mut self, value: In, timestamp: Timestamp) -> Result<()> {
        self.push_records([(value, Some(timestamp))])
    }

    /// Pushes records without timestamps, together: they may share a batch.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn push_all(&mut self, values: impl IntoIterator<Item = In>) -> Result<()> {
        self.push_records(values.into_iter().map(|value| (value, None)))
    }

    /// Pushes records with timestamps, together: they may share a batch.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn push_all_at(&mut self, records: impl IntoIterator<Item = (In, Timestamp)>) -> Result<()> {
        self.push_records(records.into_iter().map(|(value, timestamp)| (value, Some(timestamp))))
    }

    fn push_records(&mut self, records: impl IntoIterator<Item = (In, Option<Timestamp>)>) -> Result<()> {
        self.core.check()?;
        records.into_iter().for_each(|(value, timestamp)| self.feed.record(value, timestamp));
        self.core.settle()
    }

    /// Promises that no record with a timestamp at or below `watermark` will be pushed; one that is pushed nevertheless
    /// is late. Without effect if the program has a watermark strategy.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.core.check()?;
        self.feed.watermark(watermark);
        self.core.settle()
    }

    /// Makes the input idle, until the next record or watermark is pushed.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn mark_idle(&mut self) -> Result<()> {
        self.core.check()?;
        self.feed.idle();
        self.core.settle()
    }

    /// Ends the input: the watermark rises to its maximum, the operators learn of the end and are closed, sinks
    /// within the program commit.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn end(&mut self) -> Result<()> {
        self.core.check()?;
        self.feed.end();
        self.core.end()
    }

    outputs_and_time!();
}

/// Drives a program with two inputs; otherwise as [`Harness`]. Calls for one input have its name: the watermark of the
/// program is the lower of both.
///
/// ```
/// use mainstem::prelude::*;
/// use mainstem::testing::TwoInputHarness;
/// let mut harness = TwoInputHarness::new(|numbers: DataStream<u64>, words: DataStream<String>| {
///     numbers.map(|n| n.to_string()).union(&[&words]).map(|word| word + "!")
/// });
/// harness.push_left_at(1, 1_000)?;
/// harness.push_right_at("two".to_string(), 2_000)?;
/// assert_eq!(harness.take_output(), ["1!", "two!"]);
/// harness.watermark_left(5_000)?;
/// harness.watermark_right(3_000)?;
/// assert_eq!(harness.watermarks(), [3_000]);
/// harness.end()?;
/// # Ok::<(), mainstem::Error>(())
/// ```
pub struct TwoInputHarness<Left, Right, Out> {
    left: Feed<Left>,
    right: Feed<Right>,
    core: Core<Out>,
}

impl<Left: Data, Right: Data, Out: Data> TwoInputHarness<Left, Right, Out> {
    /// A harness around what `program` makes of its inputs.
    pub fn new(program: impl FnOnce(DataStream<Left>, DataStream<Right>) -> DataStream<Out>) -> Self {
        TwoInputHarness::new_in(Environment::new(), program)
    }

    /// As [`new`](TwoInputHarness::new), with the parameters and the file system of an environment.
    pub fn new_in(
        env: Environment,
        program: impl FnOnce(DataStream<Left>, DataStream<Right>) -> DataStream<Out>,
    ) -> Self {
        TwoInputHarness::planned(planned(env, ExecutionMode::Streaming), program)
    }

    /// A harness that runs the program in BATCH, when the inputs end; see [`Harness::batch`].
    pub fn batch(program: impl FnOnce(DataStream<Left>, DataStream<Right>) -> DataStream<Out>) -> Self {
        TwoInputHarness::planned(planned(Environment::new(), ExecutionMode::Batch), program)
    }

    fn planned(
        env: Environment,
        program: impl FnOnce(DataStream<Left>, DataStream<Right>) -> DataStream<Out>,
    ) -> Self {
        let (left, right) = (Feed::new(), Feed::new());
        let streams =
            (env.read(FeedSource { feed: left.clone() }), env.read(FeedSource { feed: right.clone() }));
        let output = program(streams.0, streams.1);
        TwoInputHarness { left, right, core: Core::new(env, output) }
    }

    fn push_to<T>(
        core: &mut Core<Out>,
        feed: &Feed<T>,
        value: T,
        timestamp: Option<Timestamp>,
    ) -> Result<()> {
        core.check()?;
        feed.record(value, timestamp);
        core.settle()
    }

    /// Pushes a record without a timestamp into the first input.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn push_left(&mut self, value: Left) -> Result<()> {
        Self::push_to(&mut self.core, &self.left, value, None)
    }

    /// Pushes a record with a timestamp into the first input.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn push_left_at(&mut self, value: Left, timestamp: Timestamp) -> Result<()> {
        Self::push_to(&mut self.core, &self.left, value, Some(timestamp))
    }

    /// Pushes a record without a timestamp into the second input.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn push_right(&mut self, value: Right) -> Result<()> {
        Self::push_to(&mut self.core, &self.right, value, None)
    }

    /// Pushes a record with a timestamp into the second input.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn push_right_at(&mut self, value: Right, timestamp: Timestamp) -> Result<()> {
        Self::push_to(&mut self.core, &self.right, value, Some(timestamp))
    }

    /// Raises the watermark of both inputs; see [`Harness::watermark`].
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.core.check()?;
        self.left.watermark(watermark);
        self.right.watermark(watermark);
        self.core.settle()
    }

    /// Raises the watermark of the first input.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn watermark_left(&mut self, watermark: Timestamp) -> Result<()> {
        self.core.check()?;
        self.left.watermark(watermark);
        self.core.settle()
    }

    /// Raises the watermark of the second input.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn watermark_right(&mut self, watermark: Timestamp) -> Result<()> {
        self.core.check()?;
        self.right.watermark(watermark);
        self.core.settle()
    }

    /// Makes the first input idle, until its next record or watermark.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn mark_left_idle(&mut self) -> Result<()> {
        self.core.check()?;
        self.left.idle();
        self.core.settle()
    }

    /// Makes the second input idle, until its next record or watermark.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn mark_right_idle(&mut self) -> Result<()> {
        self.core.check()?;
        self.right.idle();
        self.core.settle()
    }

    /// Ends the first input; the second goes on.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn end_left(&mut self) -> Result<()> {
        self.core.check()?;
        self.left.end();
        self.core.settle()
    }

    /// Ends the second input; the first goes on.
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn end_right(&mut self) -> Result<()> {
        self.core.check()?;
        self.right.end();
        self.core.settle()
    }

    /// Ends both inputs; see [`Harness::end`].
    ///
    /// # Errors
    /// What user code returns; a harness that has ended or failed.
    pub fn end(&mut self) -> Result<()> {
        self.core.check()?;
        self.left.end();
        self.right.end();
        self.core.end()
    }

    outputs_and_time!();
}

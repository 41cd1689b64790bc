//! Harness: a program between a test's input and its assertions.
//!
//! Method: the program is planned at parallelism 1 with a source that the test feeds and probes that keep what comes out,
//! and the subtasks of the pipelined executor are stepped on the calling thread until nothing moves: everything that a
//! push leads to has come out when the push returns. Nothing runs before the first call that needs it.

use super::engine::{Engine, made};
use super::feed::{Feed, FeedSource};
use super::probe::Probe;
use super::snapshot::HarnessSnapshot;
use crate::api::result::JobResult;
use crate::api::{DataStream, Environment};
use crate::base::clock::Clock;
use crate::base::config::{Driver, ExecutionMode};
use crate::base::data::{Data, Timestamp};
use crate::base::error::{Error, Result};
use crate::operator::side_output::SideOutput;
use std::any::{Any, type_name};
use std::sync::Arc;
use std::time::Duration;

/// What both kinds of harness are made of: everything but the inputs.
struct Core<Out> {
    env: Environment,
    output: DataStream<Out>,
    probe: Probe<Out>,
    sides: Vec<(Arc<str>, Box<dyn Any>)>,
    engine: Option<Engine>,
    batch: bool,
    /// What came of a BATCH run.
    result: Option<JobResult>,
    /// No input is taken any more.
    over: bool,
    mistake: Option<String>,
}

fn planned(env: Environment, mode: ExecutionMode) -> Environment {
    env.execution_mode(mode).parallelism(1).driver(Driver::Simulation { seed: 0 })
}

impl<Out: Data> Core<Out> {
    fn new(env: Environment, output: DataStream<Out>) -> Core<Out> {
        let batch = env.settings().execution_mode == ExecutionMode::Batch;
        let probe = Probe::on(&output);
        Core {
            env,
            output,
            probe,
            sides: Vec::new(),
            engine: None,
            batch,
            result: None,
            over: false,
            mistake: None,
        }
    }

    fn read_side_output<U: Data>(&mut self, side: &SideOutput<U>) {
        if self.engine.is_some() || self.over {
            self.mistake.get_or_insert_with(|| {
                format!(
                    "side output '{}' is read by a harness that has run; name all that are read before the first push",
                    side.name()
                )
            });
            return;
        }
        let probe = Probe::on(&self.output.side_output(side));
        self.sides.push((side.name().clone(), Box::new(probe)));
    }

    fn take_side_records<U: Data>(&self, side: &SideOutput<U>) -> Result<Vec<(U, Option<Timestamp>)>> {
        let mut known = self.sides.iter().filter(|(name, _)| name == side.name()).peekable();
        if known.peek().is_none() {
            return Err(Error::config(format!(
                "the harness does not read side output '{}'; call read_side_output before the first push",
                side.name()
            )));
        }
        let probe = known.find_map(|(_, probe)| probe.downcast_ref::<Probe<U>>());
        probe.map(Probe::take_records).ok_or_else(|| {
            Error::config(format!(
                "side output '{}' is not read with records of type {}",
                side.name(),
                type_name::<U>()
            ))
        })
    }

    /// Refuses what comes too late or cannot be.
    fn check(&self) -> Result<()> {
        if let Some(mistake) = &self.mistake {
            return Err(Error::config(mistake));
        }
        if self.over || self.engine.as_ref().is_some_and(Engine::is_over) {
            return Err(Error::config(
                "the harness has ended or failed and takes nothing more; make a new one",
            ));
        }
        Ok(())
    }

    fn engine(&mut self) -> Result<&mut Engine> {
        self.check()?;
        if self.engine.is_none() {
            self.start(None)?;
        }
        self.engine.as_mut().ok_or_else(|| Error::Internal("a harness has no engine".into()))
    }

    fn start(&mut self, snapshot: Option<&HarnessSnapshot>) -> Result<()> {
        self.check()?;
        if self.batch {
            return Err(Error::config(
                "a harness in BATCH runs at its end, with the whole input: it has no state to look at or to restore \
                 before; use Harness::new",
            ));
        }
        if self.engine.is_some() {
            return Err(Error::config("a harness is restored before its first push"));
        }
        self.engine = Some(made(|| Engine::start(&self.env, snapshot)).inspect_err(|_| self.over = true)?);
        self.settle()
    }

    /// Lets everything happen that can.
    fn settle(&mut self) -> Result<()> {
        if self.batch { self.check() } else { self.engine()?.settle() }
    }

    fn end(&mut self) -> Result<()> {
        self.check()?;
        if self.batch {
            self.over = true;
            self.result = Some(self.env.execute("harness")?);
            return Ok(());
        }
        let ended = self.engine()?.end();
        self.over = true;
        ended
    }

    fn snapshot(&mut self) -> Result<HarnessSnapshot> {
        if self.batch {
            return self.start(None).and(Err(Error::Internal("BATCH has a snapshot".into())));
        }
        self.engine()?.snapshot()
    }

    fn set_processing_time(&mut self, now_ms: Timestamp) -> Result<()> {
        if self.batch {
            return self.check();
        }
        let engine = self.engine()?;
        engine.clock().set_ms(now_ms);
        engine.settle()
    }

    fn advance_processing_time(&mut self, by: Duration) -> Result<()> {
        if self.batch {
            return self.check();
        }
        let engine = self.engine()?;
        engine.clock().advance(by);
        engine.settle()
    }

    fn processing_time(&self) -> Timestamp {
        self.engine.as_ref().map_or(0, |engine| engine.clock().now_ms())
    }

    fn is_idle(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.is_idle(self.probe.node))
    }

    fn counter(&self, operator: &str, counter: &str) -> u64 {
        if let Some(result) = &self.result {
            let operators = result.operators.iter().filter(|stats| stats.name == operator);
            let values = operators.flat_map(|stats| &stats.counters);
            return values.filter(|(name, _)| name == counter).map(|(_, value)| value).sum();
        }
        self.engine.as_ref().map_or(0, |engine| engine.counter(operator, counter))
    }
}

/// The calls that do not depend on the inputs, the same for both kinds of harness.
macro_rules! outputs_and_time {
    () => {
        /// Reads a side output of the operator that the program's result comes from. To read those of operators before it,
        /// put a [`Probe`] on them within the program.
        #[must_use]
        pub fn read_side_output<U: Data>(mut self, side: &SideOutput<U>) -> Self {
            self.core.read_side_output(side);
            self
        }

        /// Opens the operators and gives them the state of a snapshot, taken of this program or of an earlier form of
        /// it. Processing time goes on from where the snapshot was taken, the watermark from its minimum.
        ///
        /// # Errors
        /// A mistake in the program, an error of user code, state that no operator is for or that its operator cannot
        /// read; a harness that runs already.
        pub fn restore(mut self, snapshot: &HarnessSnapshot) -> Result<Self> {
            self.core.start(Some(snapshot))?;
            Ok(self)
        }

        /// What the operators keep. The harness goes on.
        ///
        /// # Errors
        /// An error of user code, state that cannot be encoded; a harness in BATCH, or one that has ended.
        pub fn snapshot(&mut self) -> Result<HarnessSnapshot> {
            self.core.snapshot()
        }

        /// Sets the clock, in milliseconds since the epoch, and lets the timers that are due by then fire, each once and in
        /// the order of their times. A harness starts at 0. In BATCH nothing happens: the clock stands still.
        ///
        /// # Errors
        /// What user code returns; a harness that has ended or failed.
        pub fn set_processing_time(&mut self, now_ms: Timestamp) -> Result<()> {
            self.core.set_processing_time(now_ms)
        }

        /// As [`set_processing_time`](Self::set_processing_time), to as much later than now.
        ///
        /// # Errors
        /// What user code returns; a harness that has ended or failed.
        pub fn advance_processing_time(&mut self, by: Duration) -> Result<()> {
            self.core.advance_processing_time(by)
        }

        /// What the clock says, in milliseconds since the epoch.
        pub fn processing_time(&self) -> Timestamp {
            self.core.processing_time()
        }

        /// Takes the records that have come out since the last call.
        pub fn take_output(&mut self) -> Vec<Out> {
            self.core.probe.take()
        }

        /// As [`take_output`](Self::take_output), each with its timestamp, if it has one.
        pub fn take_records(&mut self) -> Vec<(Out, Option<Timestamp>)> {
            self.core.probe.take_records()
        }

        /// As [`take_records`](Self::take_records), with the watermarks that have come out between them.
        pub fn take_events(&mut self) -> Vec<super::Event<Out>> {
            self.core.probe.take_events()
        }

        /// Takes the records that have come out of a side output since the last call.
        ///
        /// # Errors
        /// A side output that is not [read](Self::read_side_output), or one of other records.
        pub fn take_side_output<U: Data>(&mut self, side: &SideOutput<U>) -> Result<Vec<U>> {
            Ok(self.core.take_side_records(side)?.into_iter().map(|(value, _)| value).collect())
        }

        /// As [`take_side_output`](Self::take_side_output), each with its timestamp, if it has one.
        ///
        /// # Errors
        /// As [`take_side_output`](Self::take_side_output).
        pub fn take_side_records<U: Data>(
            &mut self,
            side: &SideOutput<U>,
        ) -> Result<Vec<(U, Option<Timestamp>)>> {
            self.core.take_side_records(side)
        }

        /// All watermarks that have come out so far.
        pub fn watermarks(&self) -> Vec<Timestamp> {
            self.core.probe.watermarks()
        }

        /// Whether what comes out is idle: nothing will for a while, and it holds no watermark back.
        pub fn is_idle(&self) -> bool {
            self.core.is_idle()
        }

        /// A counter of an operator, by their names; 0 if there is none.
        pub fn counter(&self, operator: &str, counter: &str) -> u64 {
            self.core.counter(operator, counter)
        }
    };
}

/// Drives a program with one input, step by step, on the calling thread: see the [module](super).
///
/// The program runs at parallelism 1, in STREAMING. What a call leads to has happened when it returns. A
/// [`WatermarkStrategy`](crate::semantics::time::WatermarkStrategy) in the program promises what it can after each push.
/// An error or a panic of user code comes back from the call that led to it, with the name of the operator, and ends the
/// harness; a mistake in the program comes back from the first call.
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

    /// A harness that runs the program in BATCH, when the input ends: [`end`](Harness::end) is the call that returns its
    /// errors, and nothing comes out before. Watermarks and processing time that are pushed have no effect there.
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

    /// Ends the input: the watermark rises to its maximum, the operators learn of the end and are closed, sinks within the
    /// program commit.
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

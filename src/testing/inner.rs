//! Inner: what both kinds of harness are made of: everything but the inputs.
//!
//! Method: the program is planned at parallelism 1 with a source that the test feeds and probes that keep what comes
//! out. Nothing runs before the first call that needs it.

use super::engine::{Engine, made};
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
pub(super) struct Core<Out> {
    env: Environment,
    output: DataStream<Out>,
    pub(super) probe: Probe<Out>,
    sides: Vec<(Arc<str>, Box<dyn Any>)>,
    engine: Option<Engine>,
    batch: bool,
    /// What came of a BATCH run.
    result: Option<JobResult>,
    /// No input is taken any more.
    over: bool,
    mistake: Option<String>,
}

/// The settings of a harness.
pub(super) fn planned(env: Environment, mode: ExecutionMode) -> Environment {
    env.execution_mode(mode).parallelism(1).driver(Driver::Simulation { seed: 0 })
}

impl<Out: Data> Core<Out> {
    pub(super) fn new(env: Environment, output: DataStream<Out>) -> Core<Out> {
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

    pub(super) fn read_side_output<U: Data>(&mut self, side: &SideOutput<U>) {
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

    pub(super) fn take_side_records<U: Data>(
        &self,
        side: &SideOutput<U>,
    ) -> Result<Vec<(U, Option<Timestamp>)>> {
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
    pub(super) fn check(&self) -> Result<()> {
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

    pub(super) fn start(&mut self, snapshot: Option<&HarnessSnapshot>) -> Result<()> {
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
    pub(super) fn settle(&mut self) -> Result<()> {
        if self.batch { self.check() } else { self.engine()?.settle() }
    }

    pub(super) fn end(&mut self) -> Result<()> {
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

    pub(super) fn snapshot(&mut self) -> Result<HarnessSnapshot> {
        if self.batch {
            return self.start(None).and(Err(Error::Internal("BATCH has a snapshot".into())));
        }
        self.engine()?.snapshot()
    }

    pub(super) fn set_processing_time(&mut self, now_ms: Timestamp) -> Result<()> {
        if self.batch {
            return self.check();
        }
        let engine = self.engine()?;
        engine.clock().set_ms(now_ms);
        engine.settle()
    }

    pub(super) fn advance_processing_time(&mut self, by: Duration) -> Result<()> {
        if self.batch {
            return self.check();
        }
        let engine = self.engine()?;
        engine.clock().advance(by);
        engine.settle()
    }

    pub(super) fn processing_time(&self) -> Timestamp {
        self.engine.as_ref().map_or(0, |engine| engine.clock().now_ms())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.is_idle(self.probe.node))
    }

    pub(super) fn counter(&self, operator: &str, counter: &str) -> u64 {
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
        /// Reads a side output of the operator that the program's result comes from. To read those of operators
        /// before it, put a [`Probe`](crate::testing::Probe) on them within the program.
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

        /// Sets the clock, in milliseconds since the epoch, and lets the timers that are due by then fire, each once
        /// and in the order of their times. A harness starts at 0. In BATCH nothing happens: the clock stands still.
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

pub(super) use outputs_and_time;

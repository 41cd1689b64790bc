//! Engine: what a harness runs its program on: the subtasks of the pipelined executor, stepped on the calling thread
//! until nothing moves.

use super::snapshot::HarnessSnapshot;
use crate::api::Environment;
use crate::base::clock::{Clock, VirtualClock};
use crate::base::config::{BufferTimeout, ExecutionMode};
use crate::base::error::{Error, Result};
use crate::executors::job::{Cancellation, JobEnvironment};
use crate::executors::pipelined::channel::CHANNEL_ELEMENTS;
use crate::executors::pipelined::subtask::{StepState, Subtask};
use crate::executors::pipelined::wire;
use crate::operator::context::JobContext;
use crate::operator::source::SplitAssignment;
use crate::plan::{NodeId, PhysicalPlan};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Elements of one step of a subtask.
const STEP_BUDGET: usize = 1024;
/// Rounds after which a program that has been given one thing counts as endless.
const ROUNDS_MAX: usize = 1_000_000;

/// A program that runs on the calling thread.
pub(super) struct Engine {
    plan: PhysicalPlan,
    job: JobEnvironment,
    subtasks: Vec<Subtask>,
    done: Vec<bool>,
    clock: Arc<VirtualClock>,
    /// The sinks have been told how it ended.
    finished: bool,
}

impl Engine {
    /// Opens all operators, and gives them their state if there is a snapshot.
    pub(super) fn start(env: &Environment, snapshot: Option<&HarnessSnapshot>) -> Result<Engine> {
        let plan = env.physical_plan()?;
        if plan.mode != ExecutionMode::Streaming {
            return Err(Error::Internal("a harness was planned for BATCH".into()));
        }
        let states = snapshot.map(|snapshot| snapshot.by_step(&plan)).transpose()?.unwrap_or_default();
        let clock = VirtualClock::at(snapshot.map_or(0, |snapshot| snapshot.processing_time_ms));
        let context = JobContext {
            name: "harness".to_string(),
            id: "harness".to_string(),
            parameters: env.job_parameters(),
            // Periodic watermarks after every record: a test need not move the clock for them.
            auto_watermark_interval: Duration::ZERO,
        };
        let job = JobEnvironment::start(
            &plan,
            context,
            clock.clone(),
            env.file_system(),
            SplitAssignment::OnDemand,
            Cancellation::default(),
        )?;
        let subtasks = match made(|| wire(&plan, &job, BufferTimeout::EveryRecord, || CHANNEL_ELEMENTS)) {
            Ok(wiring) => wiring.subtasks,
            Err(e) => return Err(job.finish(&plan, Err(e)).err().unwrap_or(Error::Cancelled)),
        };
        let done = vec![false; subtasks.len()];
        let mut engine = Engine { plan, job, subtasks, done, clock, finished: false };
        // Consumers first, as within a chain.
        let opened = engine.subtasks.iter_mut().rev().try_for_each(|subtask| {
            let index = subtask.index;
            subtask.open()?;
            subtask.restore(|step| states.get(&(step, index)))
        });
        match opened {
            Ok(()) => Ok(engine),
            Err(e) => Err(engine.fail(e)),
        }
    }

    /// Steps all subtasks until nothing moves.
    pub(super) fn settle(&mut self) -> Result<()> {
        match self.run() {
            Ok(()) => Ok(()),
            Err(e) => Err(self.fail(e)),
        }
    }

    fn run(&mut self) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            for (subtask, done) in self.subtasks.iter_mut().zip(&mut self.done).filter(|(_, done)| !**done) {
                let before = subtask.work_done();
                let state = subtask.step(STEP_BUDGET)?;
                *done = state == StepState::Done;
                moved |= !matches!(state, StepState::Waiting(_)) || subtask.work_done() != before;
            }
            if !moved {
                return Ok(());
            }
        }
        Err(Error::user(
            "the program does not come to rest; does a timer register itself again for a time that has passed?",
        ))
    }

    /// Ends the job after the sources have been told to end.
    pub(super) fn end(&mut self) -> Result<()> {
        self.settle()?;
        if let Some(open) = self.done.iter().position(|&done| !done) {
            let operators = self.plan.tasks[self.subtasks[open].task].name.clone();
            let waiting = Error::user("it waits for something outside of the harness");
            return Err(self.fail(waiting.in_operator(&operators, self.subtasks[open].index)));
        }
        self.finished = true;
        self.job.finish(&self.plan, Ok(()))
    }

    /// Closes everything after a failure.
    fn fail(&mut self, error: Error) -> Error {
        self.subtasks.iter_mut().for_each(Subtask::abandon);
        self.finished = true;
        self.job.finish(&self.plan, Err(error)).err().unwrap_or(Error::Cancelled)
    }

    pub(super) fn snapshot(&mut self) -> Result<HarnessSnapshot> {
        let mut all = Vec::with_capacity(self.subtasks.len());
        for subtask in &mut self.subtasks {
            match subtask.snapshot() {
                Ok(states) => all.push((subtask.index, states)),
                Err(e) => return Err(self.fail(e)),
            }
        }
        Ok(HarnessSnapshot::new(&self.plan, self.clock.now_ms(), all))
    }

    /// Whether it has ended or failed.
    pub(super) fn is_over(&self) -> bool {
        self.finished
    }

    pub(super) fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// Whether all that a sink reads is idle.
    pub(super) fn is_idle(&self, sink: NodeId) -> bool {
        let Some(step) = self.plan.steps.iter().find(|step| step.node == sink) else { return false };
        self.subtasks.iter().any(|subtask| subtask.is_idle(step.id) == Some(true))
    }

    pub(super) fn counter(&self, operator: &str, counter: &str) -> u64 {
        let steps = self.plan.steps.iter().filter(|step| step.name == operator);
        let values = steps.flat_map(|step| self.job.metrics[step.id].counters.values());
        values.filter(|(name, _)| name == counter).map(|(_, value)| value).sum()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.finished {
            self.fail(Error::Cancelled);
        }
    }
}

/// The outcome of calls that make user code; a panic becomes an error.
pub(super) fn made<T>(make: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|payload| Err(Error::panic(payload)))
}

//! Subtask: one parallel instance of a task as a state machine.
//!
//! Invariants: a step takes at most `budget` elements, never blocks and never sleeps. Records wait in a batch that
//! is not full no longer than the buffer timeout, and go out at once when the input runs idle (unless the timeout
//! says "only when full").
//! A step runs inside the subtask's span, so that what user code logs tells job, operators and subtask.

use super::channel::Waker;
use super::checkpoints::{Port, Restored};
use super::feedback::LoopGate;
use super::flow::Spent;
use super::gate::InputGate;
use super::rest::Loops;
use crate::base::batch::{Barrier, Element};
use crate::base::clock::Clock;
use crate::base::config::BufferTimeout;
use crate::base::data::{Timestamp, WATERMARK_MAX};
use crate::base::error::{Error, Result};
use crate::executors::chain::{Chain, ChainState, Whereabouts};
use crate::executors::job::JobEnvironment;
use crate::executors::times::{Lack, Stopwatch, TaskTimes};
use crate::operator::source::Poll;
use crate::semantics::state::{OperatorSnapshot, OperatorState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// There is more to do now.
    Ready,
    /// Nothing can be done until a channel changes, or this much time has passed.
    Waiting(Option<Duration>),
    /// The subtask has ended and closed its operators.
    Done,
}

/// Time after which a subtask that waits for something outside the job looks again.
const EXTERNAL_WAIT: Duration = Duration::from_millis(1);

/// A step that takes longer is followed by shorter ones, so that whoever shares the worker has its turn, and a barrier with
/// it.
const STEP_LONG: Duration = Duration::from_millis(20);

/// Where the elements of a subtask come from.
enum Head {
    /// A source in the chain, by its link.
    Source(usize),
    /// Channels, merged, into the first link.
    Gate { gate: InputGate, inputs_open: usize },
    /// Channels into the head of a loop, and those that lead back to it.
    Loop(LoopGate),
    /// Everything has been read.
    Ended,
    /// It had finished before the attempt began: all there is to do is to say so.
    Before,
    /// It has said so.
    Passed,
}

/// One parallel instance of a task.
pub struct Subtask {
    /// Index of the task.
    pub task: usize,
    /// Index within the task.
    pub index: usize,
    chain: Chain,
    head: Head,
    opened: bool,
    closed: bool,
    clock: Arc<dyn Clock>,
    timeout: BufferTimeout,
    flushed_at: Duration,
    /// Something may wait in a batch that is not full.
    unflushed: bool,
    /// The operators have not been told that there is nothing to do.
    unshown: bool,
    /// The source had nothing when it was last asked.
    source_idle: bool,
    /// Elements read so far.
    elements: u64,
    /// Elements of a step at most, while steps take long.
    budget_max: usize,
    /// Its own waker, which counts changes of how much may wait before its consumers.
    waker: Waker,
    /// Changes that have been looked at.
    changes_seen: u64,
    watch: Stopwatch,
    /// What it waits for while it waits.
    lack: Lack,
    times: Arc<Vec<TaskTimes>>,
    span: tracing::Span,
    checkpoints: Option<Checkpointing>,
    restored: Option<Arc<Restored>>,
    /// The loops that it is in.
    loops: Loops,
    /// It has told them that it waits for its input, and has nothing.
    at_rest: bool,
}

/// Of a subtask that takes part in checkpoints.
struct Checkpointing {
    port: Port,
    /// Steps whose state is kept when the subtask has finished.
    keeps: Vec<usize>,
    /// Its source reads nothing more.
    stopped: bool,
    /// What the subtask keeps has been handed over.
    finished: bool,
}

impl Subtask {
    pub(super) fn new(
        task: usize,
        index: usize,
        chain: Chain,
        gate: Option<(InputGate, usize)>,
        job: &JobEnvironment,
        span: tracing::Span,
        timeout: BufferTimeout,
    ) -> Subtask {
        let head = match (gate, chain.sources().first()) {
            (Some((gate, inputs_open)), _) => Head::Gate { gate, inputs_open },
            (None, Some(&source)) => Head::Source(source),
            (None, None) => Head::Ended,
        };
        let clock = job.clock.clone();
        let flushed_at = clock.monotonic();
        let watch = Stopwatch::start(job.times.clone(), task, clock.clone());
        Subtask {
            task,
            index,
            chain,
            head,
            opened: false,
            closed: false,
            clock,
            timeout,
            flushed_at,
            unflushed: false,
            unshown: false,
            source_idle: false,
            elements: 0,
            budget_max: usize::MAX,
            waker: Waker::default(),
            changes_seen: 0,
            watch,
            lack: Lack::Input,
            times: job.times.clone(),
            span,
            checkpoints: None,
            restored: None,
            loops: Loops::default(),
            at_rest: false,
        }
    }

    /// Makes it notice how much may wait before its consumers, which this waker counts.
    pub(super) fn notices(&mut self, waker: Waker) {
        self.waker = waker;
    }

    /// Makes it take part in checkpoints; the state of the steps `keeps` is part of them after its end.
    pub(super) fn takes_checkpoints(&mut self, port: Port, keeps: Vec<usize>) {
        self.checkpoints = Some(Checkpointing { port, keeps, stopped: false, finished: false });
    }

    /// Makes it a part of loops, in which it counts as at work until it waits for its input.
    pub(super) fn is_in(&mut self, loops: Loops) {
        loops.begin();
        self.loops = loops;
    }

    /// Makes it the head of a loop.
    pub(super) fn is_head(&mut self, gate: impl FnOnce(InputGate) -> LoopGate) {
        self.head = match std::mem::replace(&mut self.head, Head::Ended) {
            Head::Gate { gate: input, .. } => Head::Loop(gate(input)),
            other => other,
        };
    }

    /// Makes it go on from a checkpoint, at which it may have `finished`.
    pub(super) fn goes_on_from(&mut self, restored: Arc<Restored>, finished: bool) {
        if finished {
            self.head = Head::Before;
            self.checkpoints = None;
        } else {
            self.restored = Some(restored);
        }
    }

    /// Does up to `budget` elements of work. A panic of user code becomes an error.
    pub fn step(&mut self, budget: usize) -> Result<StepState> {
        self.watch.resume();
        let before = self.work_done();
        if !self.loops.is_empty() && std::mem::take(&mut self.at_rest) {
            self.loops.begin();
        }
        let budget = budget.min(self.budget_max);
        let outcome = self.guarded(|subtask| subtask.advance(budget));
        if !self.loops.is_empty() {
            self.rest(&outcome);
        }
        let lack = if matches!(outcome, Ok(StepState::Waiting(_))) { self.lack } else { Lack::Input };
        let took = self.watch.pause(self.work_done() != before, lack);
        if took > STEP_LONG {
            self.budget_max = (budget / 2).max(1);
        } else if took < STEP_LONG / 4 {
            self.budget_max = self.budget_max.saturating_mul(2);
        }
        if let Head::Gate { gate, .. } = &mut self.head {
            let (active, idle) = self.watch.active_and_idle();
            let spent = Spent { active, idle };
            if gate.is_to_be_regulated(spent) {
                gate.regulate(spent, self.chain.outlets());
            }
        }
        let watermark = if self.closed { WATERMARK_MAX } else { self.chain.watermark() };
        self.times[self.task].reached(self.index, watermark);
        outcome
    }

    /// Tells its loops if there is nothing that it could go on with, and nothing that it holds back.
    fn rest(&mut self, outcome: &Result<StepState>) {
        let rests = match outcome {
            Ok(StepState::Waiting(_)) => self.lack == Lack::Input && !self.unflushed,
            Ok(StepState::Done) => true,
            _ => false,
        };
        if rests {
            self.at_rest = true;
            self.loops.end();
        }
    }

    /// Makes calls inside the span of the subtask; a panic of user code becomes an error.
    fn guarded<T>(&mut self, calls: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let span = self.span.clone();
        let _in_span = span.enter();
        catch_unwind(AssertUnwindSafe(|| calls(self))).unwrap_or_else(|payload| {
            let (operator, subtask) = self.chain.last_called();
            Err(Error::panic(payload).in_operator(operator, subtask))
        })
    }

    /// Opens the operators, if no step has yet.
    pub fn open(&mut self) -> Result<()> {
        self.guarded(Subtask::open_chain)
    }

    fn open_chain(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.opened, true) {
            self.chain.open()?;
            if let Some(restored) = self.restored.take() {
                self.chain.restore(|step| restored.state(step))?;
                self.chain.resume_time(|step| restored.watermark(step));
            }
        }
        Ok(())
    }

    /// What each operator keeps, by the number of its step in the plan; see [`Chain::snapshot`].
    pub fn snapshot(&mut self) -> Result<Vec<(usize, OperatorSnapshot)>> {
        self.guarded(|subtask| subtask.chain.snapshot(Barrier { id: 0, full: true, savepoint: false }))
    }

    /// Opens the operators and gives them their state; see [`Chain::restore`].
    pub fn restore<'a>(&mut self, state_of: impl Fn(usize) -> Option<&'a OperatorState>) -> Result<()> {
        self.guarded(|subtask| {
            subtask.open_chain()?;
            subtask.chain.restore(state_of)
        })
    }

    /// Whether all inputs of a step are idle; none if the step is not in this task.
    pub fn is_idle(&self, step: usize) -> Option<bool> {
        self.chain.is_idle(step)
    }

    /// Closes the operators after a failure or a cancellation.
    pub fn abandon(&mut self) {
        if self.opened {
            self.closed = true;
            let _in_span = self.span.enter();
            let _ = catch_unwind(AssertUnwindSafe(|| self.chain.close()));
        }
    }

    /// Name of the operator that user code was last called for.
    pub fn last_called(&self) -> (&str, usize) {
        self.chain.last_called()
    }

    /// The same for another thread.
    pub fn whereabouts(&self) -> Whereabouts {
        self.chain.whereabouts()
    }

    /// Elements read so far.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// The lowest watermark of its last steps.
    pub fn watermark(&self) -> Timestamp {
        self.chain.watermark()
    }

    /// Looks at what is asked of the subtask for checkpoints, and hands over what it has taken. Says whether a slice of a
    /// snapshot was written.
    fn checkpoint(&mut self) -> Result<bool> {
        let Some(Checkpointing { port, stopped, .. }) = &mut self.checkpoints else { return Ok(false) };
        if port.has_orders() {
            let orders = port.orders(&mut self.chain);
            *stopped = orders.stopped;
            if let Head::Source(source) = self.head {
                for barrier in orders.barriers {
                    self.chain.cut_source(source, barrier)?;
                }
                if orders.drain {
                    self.chain.end_source(source);
                    self.head = Head::Ended;
                }
            }
            if let Some(completed) = orders.completed {
                self.chain.checkpoint_complete(completed)?;
            }
        }
        if port.send(&mut self.chain) && self.chain.is_writing() {
            port.supply(&mut self.chain);
            self.chain.slice()?;
            port.send(&mut self.chain);
            return Ok(true);
        }
        Ok(false)
    }

    /// Hands over what the subtask keeps at its end, behind what it has taken before. True when that is done.
    fn hand_over(&mut self) -> Result<bool> {
        let Some(Checkpointing { port, keeps, finished, .. }) = &mut self.checkpoints else {
            return Ok(true);
        };
        if !port.send(&mut self.chain) {
            return Ok(false);
        }
        if self.chain.is_writing() {
            self.chain.slice()?;
            return Ok(false);
        }
        if std::mem::replace(finished, true) {
            return Ok(true);
        }
        // It belongs to the first checkpoint after the last one that the subtask has seen, and to all later ones.
        let barrier = Barrier { id: self.chain.newest_barrier() + 1, full: true, savepoint: false };
        let states = self.chain.snapshot_of(barrier, keeps)?;
        Ok(port.finished(states))
    }

    fn advance(&mut self, budget: usize) -> Result<StepState> {
        let state = self.advance_elements(budget)?;
        Ok(match (&mut self.checkpoints, state) {
            // What is left of a snapshot is written while there is nothing else to do.
            (Some(checkpoints), StepState::Waiting(wait)) => {
                let unsent = !checkpoints.port.send(&mut self.chain);
                match (unsent, self.chain.is_writing()) {
                    (true, _) => StepState::Waiting(Some(wait.unwrap_or(EXTERNAL_WAIT).min(EXTERNAL_WAIT))),
                    (false, true) => StepState::Ready,
                    (false, false) => state,
                }
            }
            (_, state) => state,
        })
    }

    fn advance_elements(&mut self, budget: usize) -> Result<StepState> {
        if self.closed {
            return Ok(StepState::Done);
        }
        if !matches!(self.head, Head::Before | Head::Passed) {
            self.open_chain()?;
        }
        let mut left = budget.max(1);
        while left > 0 {
            left -= 1;
            // A slice and an element are a step: no pause is longer because there is a snapshot to write.
            if self.checkpoints.is_some() && self.checkpoint()? {
                left = 0;
            }
            if self.waker.changes() != self.changes_seen {
                self.changes_seen = self.waker.changes();
                self.chain.fit_batches();
            }
            match self.chain.run()? {
                ChainState::Drained => {}
                ChainState::Full => return Ok(self.no_room(None)),
                ChainState::Blocked => return Ok(self.no_room(Some(EXTERNAL_WAIT))),
            }
            if let Some(time) = self.chain.next_timer()
                && self.clock.now_ms() >= time
            {
                let input_is_empty = match &self.head {
                    Head::Source(_) => self.source_idle,
                    Head::Gate { gate, .. } => gate.is_empty(),
                    Head::Loop(gate) => gate.is_empty(),
                    Head::Ended | Head::Before | Head::Passed => true,
                };
                self.chain.clock_reached(self.clock.now_ms(), input_is_empty);
                self.unflushed = true;
                self.unshown = true;
                continue;
            }
            if self.unflushed && self.waited_enough() {
                self.flush()?;
                if self.unflushed && !self.chain.exits_drained() {
                    return Ok(self.no_room(None));
                }
                continue;
            }
            let stopped = self.checkpoints.as_ref().is_some_and(|c| c.stopped);
            match &mut self.head {
                Head::Source(_) if stopped => return self.idle(None),
                Head::Source(source) => {
                    let source = *source;
                    let polled = self.chain.poll(source)?;
                    self.source_idle = matches!(polled, Poll::Idle(_));
                    match polled {
                        Poll::More => self.took(),
                        Poll::End => {
                            self.took();
                            self.head = Head::Ended;
                        }
                        // A watermark, or that a split is idle: it goes out now, and not with the next records.
                        Poll::Idle(_) if self.chain.has_emitted(source) => self.took(),
                        Poll::Idle(wait) => return self.idle(wait),
                    }
                }
                Head::Gate { gate, inputs_open } => match gate.next() {
                    Some((input, element)) => {
                        if matches!(element, Element::End) {
                            *inputs_open -= 1;
                        }
                        let ended = *inputs_open == 0;
                        self.chain.push(0, input, element);
                        self.took();
                        if ended {
                            self.head = Head::Ended;
                        }
                    }
                    None => return self.idle(None),
                },
                Head::Loop(gate) => match gate.next()? {
                    Some(element) => {
                        let ended = matches!(element, Element::End);
                        self.chain.push(0, 0, element);
                        self.took();
                        if ended {
                            self.head = Head::Ended;
                        }
                    }
                    None => return self.idle(None),
                },
                Head::Ended => {
                    if !self.chain.exits_drained() {
                        return Ok(self.no_room(None));
                    }
                    if !self.hand_over()? {
                        return Ok(self.no_room(Some(EXTERNAL_WAIT)));
                    }
                    self.chain.finish()?;
                    self.closed = true;
                    return Ok(StepState::Done);
                }
                Head::Before => {
                    // Behind it there is nothing of the chain: it is neither opened nor closed.
                    self.chain.pass_end()?;
                    self.head = Head::Passed;
                }
                Head::Passed => {
                    if !self.chain.exits_drained() {
                        return Ok(self.no_room(None));
                    }
                    self.closed = true;
                    return Ok(StepState::Done);
                }
            }
        }
        Ok(StepState::Ready)
    }

    /// A16: whether what waits in batches that are not full has to go out.
    fn waited_enough(&self) -> bool {
        match self.timeout {
            BufferTimeout::After(timeout) => {
                self.clock.monotonic().saturating_sub(self.flushed_at) >= timeout
            }
            BufferTimeout::EveryRecord => true,
            BufferTimeout::WhenFull => false,
        }
    }

    fn took(&mut self) {
        self.elements += 1;
        self.unshown = true;
        if !self.unflushed {
            self.unflushed = true;
            if matches!(self.timeout, BufferTimeout::After(_)) {
                self.flushed_at = self.clock.monotonic();
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.unflushed = !self.chain.flush()?;
        Ok(())
    }

    /// Changes when an operator is called for more than a look at what there is.
    pub fn work_done(&self) -> (u64, u64, bool, bool) {
        (self.elements, self.chain.calls(), self.opened, self.closed)
    }

    fn no_room(&mut self, wait: Option<Duration>) -> StepState {
        self.lack = Lack::Room;
        StepState::Waiting(wait)
    }

    /// Nothing to read: what has been emitted goes out now.
    fn idle(&mut self, wait: Option<Duration>) -> Result<StepState> {
        // In a loop a batch that is not full may be waited for by whoever would fill it.
        let flushes = self.timeout != BufferTimeout::WhenFull || !self.loops.is_empty();
        if self.unshown && flushes && self.unflushed {
            self.flush()?;
        }
        // What did not fit into a channel is sent by nobody else while nothing comes in.
        if !self.chain.exits_drained() {
            return Ok(self.no_room(None));
        }
        if self.unshown && flushes {
            if self.unflushed {
                return Ok(StepState::Ready);
            }
            self.chain.idle()?;
            self.unshown = false;
        }
        self.lack = Lack::Input;
        let timer = self.chain.next_timer().map(|time| {
            Duration::from_millis(time.saturating_sub(self.clock.now_ms()).clamp(0, i64::MAX) as u64)
        });
        Ok(StepState::Waiting(match (wait, timer) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }))
    }
}

//! Simulation driver: all subtasks on one thread, in an order drawn from a seed, under a virtual clock.
//!
//! The same seed gives the same trace, byte for byte, and the same job result; other seeds give other schedules,
//! other channel sizes and other step budgets. It is how a job's races are found and replayed.

use super::checkpoints::Verdict;
use super::subtask::StepState;
use super::threads::Checkpointing;
use super::wiring::Wiring;
use crate::base::clock::VirtualClock;
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::executors::job::Cancellation;
use std::sync::Arc;
use std::time::Duration;

/// Rounds in which nothing moves, with the clock advancing, before the job counts as hanging: about a
/// simulated hour.
const STALLED_ROUNDS_MAX: u64 = 100_000;

/// A sequence of random numbers that depends on nothing but its seed.
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }
    /// The next number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        crate::base::hash::key_group(hash_of(&self.0), limit.max(1))
    }
}

/// What a simulated run did, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    hash: u64,
    steps: u64,
}

impl Trace {
    /// Goes on after the trace of an attempt before.
    pub fn after(self, before: Trace) -> Trace {
        match before.steps {
            0 => self,
            _ => Trace { hash: hash_of(&(before.hash, self.hash)), steps: before.steps + self.steps },
        }
    }

    fn record(&mut self, subtask: usize, state: StepState, elements: u64, now: Duration) {
        let state = match state {
            StepState::Ready => 0u8,
            StepState::Waiting(_) => 1,
            StepState::Done => 2,
        };
        self.hash = hash_of(&(self.hash, subtask, state, elements, now.as_nanos() as u64));
        self.steps += 1;
    }
    /// A hash over all steps: which subtask, its outcome, the elements it has read, the time.
    pub fn hash(&self) -> u64 {
        self.hash
    }
    /// Number of steps.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

/// Called behind each step of a simulation, with the number of the step and the time: an error is a failure of the job
/// at that place.
pub type StepHook = Arc<dyn Fn(u64, Duration) -> Result<()> + Send + Sync>;

/// What a simulated attempt is run with.
pub struct Simulated<'a> {
    /// Draws what comes next.
    pub random: &'a mut Random,
    /// The clock, which the simulation moves.
    pub clock: &'a Arc<VirtualClock>,
    /// A wish to stop.
    pub cancellation: &'a Cancellation,
    /// The checkpoints; state is written inline, whenever the schedule says so.
    pub checkpointing: Option<Checkpointing<'a>>,
    /// Fails the job where a test wants it to.
    pub hook: Option<StepHook>,
}

/// Runs all subtasks to their end, or to where the job was asked to stop, in the order of the simulation. The trace is
/// there also after a failure.
pub fn run(mut wiring: Wiring, simulated: Simulated<'_>) -> (Trace, Result<Verdict>) {
    let mut trace = Trace::default();
    let outcome = drive(&mut wiring, simulated, &mut trace);
    wiring.subtasks.iter_mut().for_each(|subtask| subtask.abandon());
    (trace, outcome)
}

/// Lets the writer take some messages, and the shell hear of it.
fn write(checkpointing: &mut Checkpointing<'_>, messages: usize) -> Result<Verdict> {
    let Checkpointing { shell, writer, messages: queue } = checkpointing;
    for message in queue.try_iter().take(messages) {
        if let Some(news) = writer.handle(message) {
            let verdict = shell.news(news)?;
            if verdict != Verdict::GoesOn {
                return Ok(verdict);
            }
        }
    }
    shell.tick()
}

fn drive(wiring: &mut Wiring, simulated: Simulated<'_>, trace: &mut Trace) -> Result<Verdict> {
    use crate::base::clock::Clock;
    let Simulated { random, clock, cancellation, mut checkpointing, hook } = simulated;
    let mut open: Vec<usize> = (0..wiring.subtasks.len()).collect();
    let mut stalled = 0;
    let mut since_progress = 0;
    while !open.is_empty() {
        cancellation.check()?;
        let at = random.below(open.len());
        let subtask = &mut wiring.subtasks[open[at]];
        let before = subtask.elements();
        let state = subtask.step(1 + random.below(4))?;
        trace.record(open[at], state, subtask.elements(), clock.monotonic());
        if let Some(hook) = &hook {
            hook(trace.steps, clock.monotonic())?;
        }
        if let Some(checkpointing) = &mut checkpointing {
            let verdict = write(checkpointing, random.below(4))?;
            if verdict != Verdict::GoesOn {
                return Ok(verdict);
            }
        }
        let moved = subtask.elements() > before || state != StepState::Waiting(None);
        if state == StepState::Done {
            open.remove(at);
        }
        clock.advance(Duration::from_micros(random.below(50) as u64));
        if moved && !matches!(state, StepState::Waiting(_)) {
            (stalled, since_progress) = (0, 0);
            continue;
        }
        since_progress += 1;
        if since_progress > 4 * open.len() + 4 {
            // Everyone waits, perhaps for time, perhaps for a reader outside the job.
            clock.advance(Duration::from_millis(1 + random.below(50) as u64));
            std::thread::yield_now();
            stalled += 1;
            if stalled > STALLED_ROUNDS_MAX {
                return Err(Error::Internal("the simulated job makes no progress".into()));
            }
        }
    }
    let Some(checkpointing) = &mut checkpointing else { return Ok(Verdict::Finished) };
    // What was handed over last becomes the last checkpoint; one that fails is tried again.
    for _ in 0..STALLED_ROUNDS_MAX {
        cancellation.check()?;
        let verdict = write(checkpointing, usize::MAX)?;
        if verdict != Verdict::GoesOn {
            return Ok(verdict);
        }
        clock.advance(Duration::from_millis(1));
    }
    Err(Error::Internal("the last checkpoint of a simulated job does not come".into()))
}

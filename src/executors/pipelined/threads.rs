//! Threads driver: one worker thread for each slot.
//!
//! A slot holds one subtask of each task of a slot group; the worker steps those that are ready, downstream first,
//! and parks when none is. Tasks whose user code may block get a thread for each subtask.

use super::checkpoints::{Message, News, Shell, Verdict, Writer};
use super::subtask::{StepState, Subtask};
use super::wiring::Wiring;
use crate::base::error::{Error, Result};
use crate::executors::chain::Whereabouts;
use crate::executors::job::Cancellation;
use crate::plan::PhysicalPlan;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use crossbeam::sync::{Parker, Unparker};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Elements that a subtask takes before the next one has its turn.
const STEP_BUDGET: usize = 8;
/// A step that takes longer is reported.
const SLOW_STEP: Duration = Duration::from_millis(100);
/// The longest time a worker sleeps.
const PARK_MAX: Duration = Duration::from_millis(50);
/// How long a cancelled job waits for user code to return.
const CANCEL_GRACE: Duration = Duration::from_secs(1);
/// How long a job that may be restarted does.
const RESTART_GRACE: Duration = Duration::from_secs(30);
/// How often the job's thread looks at what nobody tells it.
const LOOK: Duration = Duration::from_millis(20);

/// The checkpoints of a running attempt: what decides, what writes, and the queue between subtasks and writer.
pub struct Checkpointing<'a> {
    /// Decides.
    pub shell: Shell<'a>,
    /// Writes, on a thread of its own.
    pub writer: Writer,
    /// What it reads.
    pub messages: Receiver<Message>,
}

/// How an attempt ended.
pub struct Ended {
    /// Whether it finished or stopped, or the first failure.
    pub result: Result<Verdict>,
    /// Whether all threads have ended: otherwise there must not be another attempt.
    pub all_ended: bool,
}

/// What the job's thread hears.
enum Event {
    /// A worker has ended.
    Ended(usize, Result<()>),
    /// The writer has done something. It says no more than it was sent, and that is bounded.
    News(News),
}

/// What a worker is doing, for the thread that waits for it.
struct Watched {
    unparker: Unparker,
    subtasks: Vec<Whereabouts>,
    /// The subtask that it steps.
    current: Arc<AtomicUsize>,
}

/// Runs all subtasks to their end, or to where the job was asked to stop, which is the answer. The first error stops the
/// others and is returned. `tick` is called first and every now and then.
pub fn run(
    plan: &PhysicalPlan,
    wiring: Wiring,
    cancellation: &Cancellation,
    checkpointing: Option<Checkpointing<'_>>,
    tick: &mut dyn FnMut(),
) -> Ended {
    let workers = assign(plan, wiring);
    let (ended, endings) = unbounded();
    // Failure of one worker stops the others, which is not the same as a wish of the user to stop.
    let stop = Cancellation::default();
    let mut watched: Vec<Watched> = Vec::new();
    let mut threads = Vec::new();
    let mut result = Ok(());
    for (id, worker) in workers.into_iter().enumerate() {
        let current = Arc::new(AtomicUsize::new(0));
        watched.push(Watched {
            unparker: worker.parker.unparker().clone(),
            subtasks: worker.subtasks.iter().map(Subtask::whereabouts).collect(),
            current: current.clone(),
        });
        let (ended, stopping, cancellation) = (ended.clone(), stop.clone(), cancellation.clone());
        let thread = std::thread::Builder::new()
            .name(format!("{}-{id}", worker.name))
            .spawn(move || worker.run(id, &stopping, &cancellation, &current, &ended))
            .map_err(|e| {
                Error::Memory(format!("cannot start a worker thread: {e}; use a lower parallelism"))
            });
        match thread {
            Ok(thread) => threads.push(Some(thread)),
            Err(e) => {
                // Those that run already must end before the sinks are told to clean up.
                stop.cancel();
                result = Err(e);
                break;
            }
        }
    }
    let mut background = None;
    let mut shell = checkpointing.map(|Checkpointing { shell, writer, messages }| {
        let (news, stopping) = (ended.clone(), stop.clone());
        let write = move || write(writer, &messages, &news, &stopping);
        match std::thread::Builder::new().name("checkpoints".into()).spawn(write) {
            Ok(thread) => background = Some(thread),
            Err(e) => {
                stop.cancel();
                result = Err(Error::Memory(format!("cannot start the thread that writes checkpoints: {e}")));
            }
        }
        shell
    });
    drop(ended);
    let mut verdict = if shell.is_some() { Verdict::GoesOn } else { Verdict::Finished };
    let wake_all = || watched.iter().for_each(|worker| worker.unparker.unpark());
    let mut open: Vec<usize> = (0..threads.len()).collect();
    let mut deadline: Option<Instant> = None;
    tick();
    // With checkpoints it is not over before the last one is complete.
    while !open.is_empty() || verdict == Verdict::GoesOn && result.is_ok() && !cancellation.is_cancelled() {
        let until_next = shell.as_ref().and_then(Shell::until_next).unwrap_or(LOOK);
        let mut judged = Ok(verdict);
        match endings.recv_timeout(LOOK.min(until_next)) {
            Ok(Event::Ended(id, outcome)) => {
                open.retain(|&worker| worker != id);
                if let Some(thread) = threads[id].take() {
                    let _ = thread.join();
                }
                judged = outcome.map(|()| verdict);
            }
            Ok(Event::News(news)) => {
                if let (Some(shell), Ok(()), Verdict::GoesOn) = (&mut shell, &result, verdict) {
                    judged = guarded(|| shell.news(news));
                }
            }
            Err(RecvTimeoutError::Timeout) => tick(),
            Err(RecvTimeoutError::Disconnected) => {
                result = result.and(Err(Error::Internal("a worker thread ended without a word".into())));
                break;
            }
        }
        if let (Some(shell), Ok(()), Ok(Verdict::GoesOn)) = (&mut shell, &result, &judged) {
            judged = guarded(|| shell.tick());
            if shell.take_wake() {
                wake_all();
            }
        }
        match judged {
            Ok(judged) => {
                verdict = judged;
                if verdict == Verdict::Stopped && !stop.is_cancelled() {
                    stop.cancel();
                }
            }
            Err(e) => {
                // A failure that names its operator says more than a panic while cleaning up.
                let vague = |e: &Error| matches!(e, Error::Cancelled | Error::Panic(_));
                if result.as_ref().err().is_none_or(|first| vague(first) && !vague(&e)) {
                    result = Err(e);
                }
                stop.cancel();
            }
        }
        if stop.is_cancelled() || cancellation.is_cancelled() {
            wake_all();
            // Before a restart all must have ended.
            let grace = match shell.is_some() && !cancellation.is_cancelled() {
                true => RESTART_GRACE,
                false => CANCEL_GRACE,
            };
            if deadline.get_or_insert_with(Instant::now).elapsed() > grace {
                for worker in open.iter().map(|&worker| &watched[worker]) {
                    let stuck =
                        worker.subtasks[worker.current.load(Ordering::Relaxed)].does_not_return(grace);
                    if result.is_ok() || matches!(result, Err(Error::Cancelled)) {
                        result = Err(stuck);
                    }
                }
                break;
            }
        }
    }
    if let Some(shell) = &mut shell {
        shell.close();
    }
    if result.is_err() || cancellation.is_cancelled() {
        stop.cancel();
    }
    if let Some(background) = background {
        let _ = background.join();
    }
    let result =
        if result.is_ok() { cancellation.check().map(|()| verdict) } else { result.map(|()| verdict) };
    Ended { result, all_ended: open.is_empty() }
}

/// Sinks commit on the job's thread: code of the user, whose panic must not leave the workers behind.
fn guarded(call: impl FnOnce() -> Result<Verdict>) -> Result<Verdict> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| Err(Error::panic(payload)))
}

/// Writes what subtasks have taken, until nobody sends any more or the attempt is over.
fn write(mut writer: Writer, messages: &Receiver<Message>, news: &Sender<Event>, stop: &Cancellation) {
    while !stop.is_cancelled() {
        let message = match messages.recv_timeout(LOOK) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Some(done) = writer.handle(message)
            && news.send(Event::News(done)).is_err()
        {
            return;
        }
    }
}

struct Worker {
    name: String,
    subtasks: Vec<Subtask>,
    parker: Parker,
}

fn assign(plan: &PhysicalPlan, wiring: Wiring) -> Vec<Worker> {
    let mut workers: Vec<Worker> = Vec::new();
    let mut slots: BTreeMap<(String, usize), usize> = BTreeMap::new();
    for (subtask, waker) in wiring.subtasks.into_iter().zip(wiring.wakers) {
        let task = &plan.tasks[subtask.task];
        let mut new_worker = |name: String| {
            workers.push(Worker { name, subtasks: Vec::new(), parker: Parker::new() });
            workers.len() - 1
        };
        let worker = if task.blocking {
            new_worker(format!("blocking-{}", task.id))
        } else {
            let slot = (task.slot_group.clone(), subtask.index);
            *slots.entry(slot).or_insert_with(|| new_worker(format!("slot-{}", subtask.index)))
        };
        waker.bind(workers[worker].parker.unparker().clone());
        workers[worker].subtasks.push(subtask);
    }
    workers
}

impl Worker {
    fn run(
        mut self,
        id: usize,
        stop: &Cancellation,
        cancellation: &Cancellation,
        current: &AtomicUsize,
        ended: &Sender<Event>,
    ) {
        let outcome = self.drive(stop, cancellation, current);
        self.subtasks.iter_mut().for_each(Subtask::abandon);
        // User code has destructors, too: whatever they do, the end of the worker must be known.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(self))).map_err(Error::panic);
        let _ = ended.send(Event::Ended(id, outcome.and(dropped)));
    }

    fn drive(
        &mut self,
        stop: &Cancellation,
        cancellation: &Cancellation,
        current: &AtomicUsize,
    ) -> Result<()> {
        let mut done = vec![false; self.subtasks.len()];
        loop {
            let mut ready = false;
            let mut wait = PARK_MAX;
            for i in (0..self.subtasks.len()).rev().filter(|&i| !done[i]).collect::<Vec<_>>() {
                if stop.is_cancelled() {
                    return Ok(());
                }
                cancellation.check()?;
                let subtask = &mut self.subtasks[i];
                current.store(i, Ordering::Relaxed);
                let start = Instant::now();
                let state = subtask.step(STEP_BUDGET)?;
                let took = start.elapsed();
                if took > SLOW_STEP {
                    let (operator, subtask) = subtask.last_called();
                    tracing::warn!(
                        operator,
                        subtask,
                        ?took,
                        "a step took long; mark code that blocks as blocking"
                    );
                }
                match state {
                    StepState::Ready => ready = true,
                    StepState::Waiting(hint) => wait = hint.map_or(wait, |hint| wait.min(hint)),
                    StepState::Done => done[i] = true,
                }
            }
            if done.iter().all(|&done| done) {
                return Ok(());
            }
            if !ready {
                self.parker.park_timeout(wait);
            }
        }
    }
}

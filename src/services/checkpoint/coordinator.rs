//! Coordinator: decides when checkpoints begin, which are complete, and which are given up.
//!
//! Method: a pure state machine. It is told the time with each event and answers with actions; a shell does them.
//! Rules:
//! - A checkpoint is complete when each subtask has acknowledged it or has finished. What a finished subtask kept last is
//!   part of all later checkpoints.
//! - A barrier asks for all state unless the checkpoint of the barrier before was completed in this attempt: so operators
//!   need not know of checkpoints that are given up. A chain of changes is at most [`CHANGES_MAX`] long and not larger than
//!   what it began with.
//! - A completed checkpoint ends all older ones.
//! - When all subtasks have finished one last checkpoint is written.
//!
//! Limits: at most `max_concurrent` checkpoints are under way, and one of each purpose waits to begin.

use crate::base::batch::{Barrier, CheckpointId};
use crate::base::config::CheckpointSettings;
use std::collections::VecDeque;
use std::time::Duration;

/// Checkpoints of changes behind one of everything.
pub const CHANGES_MAX: usize = 8;
/// Changes that are smaller than this never make the next checkpoint one of everything.
const SMALL_BYTES: u64 = 64 << 10;

/// When checkpoints are taken.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Time between the begins of two periodic ones; without one there are none.
    pub interval: Option<Duration>,
    /// A checkpoint that is not complete after this time is given up.
    pub timeout: Duration,
    /// Time between the end of one and the begin of the next.
    pub min_pause: Duration,
    /// How many may be under way at once.
    pub max_concurrent: usize,
    /// How many may fail one after the other.
    pub tolerable_failures: usize,
}

impl From<&CheckpointSettings> for Rules {
    fn from(settings: &CheckpointSettings) -> Rules {
        Rules {
            interval: settings.interval,
            timeout: settings.timeout,
            min_pause: settings.min_pause,
            // A pause between one and the next leaves no room for two.
            max_concurrent: if settings.min_pause.is_zero() { settings.max_concurrent } else { 1 },
            tolerable_failures: settings.tolerable_failures,
        }
    }
}

/// Why a checkpoint is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Its time has come.
    Periodic,
    /// Somebody asked for it.
    Asked,
    /// A savepoint is made from it: it holds all state.
    Savepoint,
    /// The job stops behind it: sources read nothing after its barrier.
    Stop,
    /// All subtasks have finished.
    Last,
}

/// What happened. `H` is where the state of a subtask is.
#[derive(Clone, Debug)]
pub enum Event<H> {
    /// Time has passed.
    Tick,
    /// A subtask's state is safe.
    Acknowledged {
        /// The subtask.
        subtask: usize,
        /// The checkpoint.
        id: CheckpointId,
        /// Bytes of the state.
        bytes: u64,
        /// Where it is.
        state: H,
    },
    /// State could not be written.
    Declined {
        /// The checkpoint.
        id: CheckpointId,
        /// What happened.
        why: String,
    },
    /// A subtask has read and written everything.
    Finished {
        /// The subtask.
        subtask: usize,
        /// Where the state is that it kept last.
        state: H,
    },
    /// A checkpoint is wanted now.
    Asked(Purpose),
    /// What [`Action::Write`] asked for has been done.
    Written(CheckpointId),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action<H> {
    /// Send a barrier out of all sources.
    Begin(Barrier, Purpose),
    /// Make the checkpoint durable: then comes [`Event::Written`] or [`Event::Declined`].
    Write {
        /// The checkpoint.
        id: CheckpointId,
        /// Why it is taken.
        purpose: Purpose,
        /// Whether it has all state, or what changed since the one before.
        full: bool,
        /// Of each subtask, where its state is, and whether it has finished.
        states: Vec<(H, bool)>,
    },
    /// The checkpoint is complete.
    Complete {
        /// The checkpoint.
        id: CheckpointId,
        /// Why it was taken.
        purpose: Purpose,
        /// Bytes of state.
        bytes: u64,
        /// From its begin to now.
        took: Duration,
    },
    /// The checkpoint is given up: what was written of it can go.
    Abort {
        /// The checkpoint.
        id: CheckpointId,
        /// Why it was taken.
        purpose: Purpose,
        /// What happened; nothing if a newer one was completed first, or the job has ended.
        why: Option<String>,
    },
    /// More checkpoints failed than are tolerated: the job fails.
    Fail(String),
}

struct Pending<H> {
    id: CheckpointId,
    purpose: Purpose,
    full: bool,
    begun: Duration,
    acknowledged: Vec<Option<H>>,
    bytes: u64,
    writing: bool,
}

/// Decides about the checkpoints of one attempt of a job.
pub struct Coordinator<H> {
    rules: Rules,
    /// The last state of each subtask that has finished.
    finished: Vec<Option<H>>,
    pending: VecDeque<Pending<H>>,
    asked: VecDeque<Purpose>,
    next_id: CheckpointId,
    next_periodic: Option<Duration>,
    ended_at: Option<Duration>,
    failures: usize,
    last_begun: Option<CheckpointId>,
    last_completed: Option<CheckpointId>,
    /// Bytes of the last checkpoint of everything, bytes and number of those of changes since.
    chain: (u64, u64, usize),
    /// The last checkpoint was begun, or nothing follows any more.
    over: bool,
}

impl<H: Clone> Coordinator<H> {
    /// For an attempt that begins at `now` with so many subtasks, of which some have finished before. Checkpoints are
    /// numbered from `next_id`.
    pub fn new(rules: Rules, finished: Vec<Option<H>>, next_id: CheckpointId, now: Duration) -> Self {
        Coordinator {
            next_periodic: rules.interval.map(|interval| now.saturating_add(interval)),
            rules,
            finished,
            pending: VecDeque::new(),
            asked: VecDeque::new(),
            next_id,
            ended_at: None,
            failures: 0,
            last_begun: None,
            last_completed: None,
            chain: (0, 0, 0),
            over: false,
        }
    }

    /// The number of the next checkpoint.
    pub fn next_id(&self) -> CheckpointId {
        self.next_id
    }

    /// Whether a checkpoint is under way.
    pub fn is_pending(&self, id: CheckpointId) -> bool {
        self.pending.iter().any(|pending| pending.id == id)
    }

    /// When something happens by itself.
    pub fn next_deadline(&self) -> Option<Duration> {
        let timeout = self.pending.iter().map(|p| p.begun.saturating_add(self.rules.timeout)).min();
        let begin = self.next_periodic.filter(|_| !self.over && self.has_room());
        let begin = begin.map(|at| at.max(self.pause_ends()));
        [timeout, begin].into_iter().flatten().min()
    }

    fn has_room(&self) -> bool {
        self.pending.len() < self.rules.max_concurrent
    }

    fn pause_ends(&self) -> Duration {
        self.ended_at.map_or(Duration::ZERO, |at| at.saturating_add(self.rules.min_pause))
    }

    /// Takes an event in. Actions are to be done in order.
    pub fn handle(&mut self, now: Duration, event: Event<H>) -> Vec<Action<H>> {
        let mut actions = Vec::new();
        match event {
            Event::Tick => {}
            Event::Acknowledged { subtask, id, bytes, state } => {
                if let Some(pending) = self.pending.iter_mut().find(|p| p.id == id)
                    && pending.acknowledged[subtask].is_none()
                {
                    pending.acknowledged[subtask] = Some(state);
                    pending.bytes += bytes;
                }
            }
            Event::Declined { id, why } => self.fail(id, why, now, &mut actions),
            Event::Finished { subtask, state } => self.finished[subtask] = Some(state),
            Event::Asked(purpose) => {
                // One that the job stops behind may fail: then it is the turn of what was asked for meanwhile.
                if !self.asked.contains(&purpose) {
                    self.asked.push_back(purpose);
                }
            }
            Event::Written(id) => self.complete(id, now, &mut actions),
        }
        self.expire(now, &mut actions);
        self.write_complete(&mut actions);
        self.begin(now, &mut actions);
        actions
    }

    fn expire(&mut self, now: Duration, actions: &mut Vec<Action<H>>) {
        let timeout = self.rules.timeout;
        let late = |p: &&Pending<H>| !p.writing && now >= p.begun.saturating_add(timeout);
        while let Some(id) = self.pending.iter().find(late).map(|p| p.id) {
            let why = format!("it was not complete after {timeout:?}");
            self.fail(id, why, now, actions);
        }
    }

    fn fail(&mut self, id: CheckpointId, why: String, now: Duration, actions: &mut Vec<Action<H>>) {
        let Some(at) = self.pending.iter().position(|p| p.id == id) else { return };
        let Some(pending) = self.pending.remove(at) else { return };
        self.ended_at = Some(now);
        self.failures += 1;
        let last = pending.purpose == Purpose::Last;
        let in_a_row = (self.failures, self.rules.tolerable_failures);
        actions.push(Action::Abort { id, purpose: pending.purpose, why: Some(why.clone()) });
        if last || in_a_row.0 > in_a_row.1 {
            let tolerated = match last {
                true => String::new(),
                false => format!(" ({} in a row, {} tolerated)", in_a_row.0, in_a_row.1),
            };
            actions.push(Action::Fail(format!("checkpoint {id} failed{tolerated}: {why}")));
        }
    }

    fn complete(&mut self, id: CheckpointId, now: Duration, actions: &mut Vec<Action<H>>) {
        let Some(at) = self.pending.iter().position(|p| p.id == id) else { return };
        let Some(done) = self.pending.remove(at) else { return };
        self.failures = 0;
        self.ended_at = Some(now);
        self.last_completed = Some(id);
        if done.full {
            self.chain = (done.bytes, 0, 0);
        } else {
            self.chain.1 += done.bytes;
            self.chain.2 += 1;
        }
        actions.push(Action::Complete {
            id,
            purpose: done.purpose,
            bytes: done.bytes,
            took: now.saturating_sub(done.begun),
        });
        while self.pending.front().is_some_and(|p| p.id < id)
            && let Some(older) = self.pending.pop_front()
        {
            actions.push(Action::Abort { id: older.id, purpose: older.purpose, why: None });
        }
    }

    fn write_complete(&mut self, actions: &mut Vec<Action<H>>) {
        for pending in self.pending.iter_mut().filter(|p| !p.writing) {
            let states = pending.acknowledged.iter().zip(&self.finished).map(|(taken, finished)| {
                match (taken, finished) {
                    (Some(state), _) => Some((state.clone(), false)),
                    (None, Some(state)) => Some((state.clone(), true)),
                    (None, None) => None,
                }
            });
            if let Some(states) = states.collect::<Option<Vec<_>>>() {
                pending.writing = true;
                let Pending { id, purpose, full, .. } = *pending;
                actions.push(Action::Write { id, purpose, full, states });
            }
        }
    }

    fn begin(&mut self, now: Duration, actions: &mut Vec<Action<H>>) {
        if self.over {
            return;
        }
        if self.finished.iter().all(Option::is_some) {
            // One that waits to be written is the same as the last.
            for old in std::mem::take(&mut self.pending) {
                actions.retain(|action| !matches!(action, Action::Write { id, .. } if *id == old.id));
                actions.push(Action::Abort { id: old.id, purpose: old.purpose, why: None });
            }
            self.over = true;
            self.start(Purpose::Last, now);
            self.write_complete(actions);
            return;
        }
        let due = self.next_periodic.is_some_and(|at| now >= at && now >= self.pause_ends());
        if !self.has_room() || !due && self.asked.is_empty() {
            return;
        }
        let purpose = self.asked.pop_front().unwrap_or(Purpose::Periodic);
        self.next_periodic = self.rules.interval.map(|interval| now.saturating_add(interval));
        self.over = purpose == Purpose::Stop;
        let barrier = self.start(purpose, now);
        actions.push(Action::Begin(barrier, purpose));
    }

    fn start(&mut self, purpose: Purpose, now: Duration) -> Barrier {
        let id = self.next_id;
        self.next_id += 1;
        let (base, changes, number) = self.chain;
        let full = self.last_begun.is_none()
            || self.last_completed != self.last_begun
            || number >= CHANGES_MAX
            || changes > base.max(SMALL_BYTES)
            || matches!(purpose, Purpose::Savepoint | Purpose::Stop | Purpose::Last);
        self.last_begun = Some(id);
        self.pending.push_back(Pending {
            id,
            purpose,
            full,
            begun: now,
            acknowledged: self.finished.iter().map(|_| None).collect(),
            bytes: 0,
            writing: false,
        });
        Barrier { id, full, savepoint: matches!(purpose, Purpose::Savepoint | Purpose::Stop) }
    }

    /// What a finished subtask kept is here from now on, for checkpoints that are still to be written.
    pub fn keep(&mut self, subtask: usize, state: H) {
        if let Some(kept) = self.finished.get_mut(subtask) {
            *kept = Some(state);
        }
    }

    /// Checkpoints may be taken again after one to stop behind was given up.
    pub fn resume(&mut self) {
        self.over = false;
    }
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;

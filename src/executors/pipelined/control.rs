//! Control: what somebody outside of a running job wants of its checkpoints, and what came of it.

use super::checkpoints::CheckpointStats;
use crate::base::batch::CheckpointId;
use crate::base::error::{Error, Result};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A checkpoint now.
    Checkpoint,
    /// A checkpoint of all state, now.
    Savepoint,
    /// A checkpoint behind which the job stops.
    Stop,
    /// That the sources end as if there were no more input.
    Drain,
}

/// Connects a client with the checkpoints of its job. Cloning gives another handle.
#[derive(Clone, Default)]
pub struct Control(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The job takes checkpoints and has not ended.
    open: bool,
    checkpoint: bool,
    savepoint: bool,
    /// What came of the checkpoint for a savepoint, until somebody has heard it.
    savepoint_answer: Option<std::result::Result<CheckpointId, String>>,
    /// Somebody waits for that.
    savepoint_asked: bool,
    stop: bool,
    drain: bool,
    /// Somebody has asked to stop or drain it, which outlasts an attempt.
    stopping: bool,
    draining: bool,
    /// Callers that wait for a checkpoint.
    waiting: usize,
    /// Number of checkpoints that were completed or have failed, and the last of them.
    answers: u64,
    last: Option<std::result::Result<CheckpointId, String>>,
    stops_failed: u64,
    /// What has come of all checkpoints, if the job takes any.
    stats: Option<CheckpointStats>,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job takes checkpoints from now on.
    pub fn open(&self) {
        self.lock().open = true;
    }

    /// What has come of all checkpoints; none if the job takes none.
    pub fn checkpoints(&self) -> Option<CheckpointStats> {
        self.lock().stats.clone()
    }

    /// Tells what has come of all checkpoints.
    pub(super) fn publish(&self, stats: &CheckpointStats) {
        self.lock().stats = Some(stats.clone());
    }

    /// The job has ended.
    pub fn close(&self) {
        self.lock().open = false;
        self.0.changed.notify_all();
    }

    /// Whether somebody has asked to drain it.
    pub fn is_draining(&self) -> bool {
        self.lock().draining
    }

    fn refused() -> Error {
        Error::config(
            "the job takes no checkpoints, or has ended; give it a checkpoint-interval, and a job-dir to keep them in",
        )
    }

    /// Asks the job to stop: behind a last checkpoint, or, to `drain` it, as if its input had ended.
    ///
    /// # Errors
    /// If the job takes no checkpoints or has ended.
    pub fn stop(&self, drain: bool) -> Result<()> {
        let mut state = self.lock();
        if !state.open {
            return Err(Control::refused());
        }
        match drain {
            true => (state.drain, state.draining) = (true, true),
            false => (state.stop, state.stopping) = (true, true),
        }
        Ok(())
    }

    /// Takes a checkpoint and waits until it is complete.
    ///
    /// # Errors
    /// If it fails, or the job takes no checkpoints or ends before.
    pub fn checkpoint(&self) -> Result<CheckpointId> {
        let mut state = self.lock();
        if !state.open {
            return Err(Control::refused());
        }
        state.checkpoint = true;
        state.waiting += 1;
        let before = state.answers;
        let outcome = loop {
            // The next one may have been begun before it was asked for.
            if !state.checkpoint && state.answers > before {
                break match &state.last {
                    Some(Ok(id)) => Ok(*id),
                    Some(Err(why)) => Err(Error::config(why)),
                    None => Err(Error::Internal("a checkpoint has no outcome".into())),
                };
            }
            if !state.open {
                break Err(Control::refused());
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.waiting -= 1;
        outcome
    }

    /// Another attempt begins: what was wanted of the one before is still wanted.
    pub(super) fn begin_attempt(&self) {
        let mut state = self.lock();
        state.checkpoint = state.waiting > 0;
        state.savepoint = state.savepoint_asked && state.savepoint_answer.is_none();
        state.stop = state.stopping;
        state.drain = state.draining;
    }

    /// The checkpoint to stop behind has failed, and the job goes on.
    pub(super) fn does_not_stop(&self) {
        let mut state = self.lock();
        state.stopping = false;
        state.stops_failed += 1;
    }

    /// How often the checkpoint to stop behind has failed, and the job has gone on.
    pub fn stops_failed(&self) -> u64 {
        self.lock().stops_failed
    }

    /// Takes a checkpoint of all state, which is kept for who asked, and waits until it is complete. One after the other.
    ///
    /// # Errors
    /// If it fails, or the job takes no checkpoints or ends before.
    pub fn savepoint(&self) -> Result<CheckpointId> {
        let wait = |state| self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        while state.open && state.savepoint_asked {
            state = wait(state);
        }
        if !state.open {
            return Err(Control::refused());
        }
        (state.savepoint, state.savepoint_asked) = (true, true);
        loop {
            let answer = state.savepoint_answer.take();
            if answer.is_some() || !state.open {
                (state.savepoint, state.savepoint_asked) = (false, false);
                drop(state);
                self.0.changed.notify_all();
                return match answer {
                    Some(answer) => answer.map_err(Error::config),
                    None => Err(Control::refused()),
                };
            }
            state = wait(state);
        }
    }

    /// The checkpoint for a savepoint is complete, or has failed.
    pub(super) fn savepointed(&self, outcome: std::result::Result<CheckpointId, String>) {
        let mut state = self.lock();
        if state.savepoint_asked {
            state.savepoint_answer = Some(outcome);
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Takes the wishes that have come since the last call.
    pub(super) fn wishes(&self) -> Vec<Wish> {
        let mut state = self.lock();
        let mut wishes = Vec::new();
        for (wanted, wish) in [
            (state.checkpoint, Wish::Checkpoint),
            (state.savepoint, Wish::Savepoint),
            (state.stop, Wish::Stop),
            (state.drain, Wish::Drain),
        ] {
            if wanted {
                wishes.push(wish);
            }
        }
        (state.checkpoint, state.savepoint, state.stop, state.drain) = (false, false, false, false);
        wishes
    }

    /// A checkpoint is complete.
    pub(super) fn completed(&self, id: CheckpointId) {
        self.answer(Ok(id));
    }

    /// A checkpoint has failed.
    pub(super) fn failed(&self, why: &str) {
        self.answer(Err(why.to_string()));
    }

    fn answer(&self, answer: std::result::Result<CheckpointId, String>) {
        let mut state = self.lock();
        state.answers += 1;
        state.last = Some(answer);
        drop(state);
        self.0.changed.notify_all();
    }
}

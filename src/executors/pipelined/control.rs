//! Control: what somebody outside of a running job wants of its checkpoints, and what came of it.

use crate::base::batch::CheckpointId;
use crate::base::error::{Error, Result};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A checkpoint now.
    Checkpoint,
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
    /// Why no checkpoints can be asked for, before the job has begun, where it takes none, and when it has ended.
    open: bool,
    checkpoint: bool,
    stop: bool,
    drain: bool,
    /// Somebody has asked to stop.
    stopping: bool,
    /// Number of checkpoints that were completed or have failed, and the last of them.
    answers: u64,
    last: Option<std::result::Result<CheckpointId, String>>,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job takes checkpoints from now on.
    pub fn open(&self) {
        self.lock().open = true;
    }

    /// The job has ended.
    pub fn close(&self) {
        self.lock().open = false;
        self.0.changed.notify_all();
    }

    /// Whether somebody has asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
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
        state.stopping = true;
        match drain {
            true => state.drain = true,
            false => state.stop = true,
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
        let before = state.answers;
        loop {
            // The next one may have been begun before it was asked for.
            if !state.checkpoint && state.answers > before {
                return match &state.last {
                    Some(Ok(id)) => Ok(*id),
                    Some(Err(why)) => Err(Error::config(why)),
                    None => Err(Error::Internal("a checkpoint has no outcome".into())),
                };
            }
            if !state.open {
                return Err(Control::refused());
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the wishes that have come since the last call.
    pub(super) fn wishes(&self) -> Vec<Wish> {
        let mut state = self.lock();
        let mut wishes = Vec::new();
        for (wanted, wish) in
            [(state.checkpoint, Wish::Checkpoint), (state.stop, Wish::Stop), (state.drain, Wish::Drain)]
        {
            if wanted {
                wishes.push(wish);
            }
        }
        (state.checkpoint, state.stop, state.drain) = (false, false, false);
        wishes
    }

    /// A checkpoint is complete.
    pub(super) fn completed(&self, id: CheckpointId) {
        self.answer(Ok(id));
    }

    /// A checkpoint has failed; if it was one to stop behind the job goes on.
    pub(super) fn failed(&self, stop: bool, why: &str) {
        if stop {
            self.lock().stopping = false;
        }
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

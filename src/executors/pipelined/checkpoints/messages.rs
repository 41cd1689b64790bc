//! Messages: how the job's thread, the subtasks and the writer speak with each other.

use crate::base::batch::{Barrier, CheckpointId};
use crate::base::data::Timestamp;
use crate::base::error::Error;
use crate::executors::chain::{Chain, Taken};
use crate::semantics::state::OperatorSnapshot;
use crate::services::checkpoint::StateHandle;
use crossbeam::channel::{Sender, TrySendError};
use crossbeam::queue::ArrayQueue;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Messages that may wait for the writer. A part is about a slice of a snapshot, or all of one that is taken at once.
pub const QUEUE_MESSAGES: usize = 64;

/// Parts that have been written and wait to be filled again.
const EMPTIED_PARTS: usize = 16;

/// What subtasks are asked to do. They look at a counter; behind it is what has changed.
pub struct Requests {
    changes: AtomicU64,
    wanted: Mutex<Wanted>,
    /// Parts that the writer has written, for whoever writes the next slice.
    emptied: ArrayQueue<OperatorSnapshot>,
}

impl Default for Requests {
    fn default() -> Requests {
        let emptied = ArrayQueue::new(EMPTIED_PARTS);
        Requests { changes: AtomicU64::default(), wanted: Mutex::default(), emptied }
    }
}

#[derive(Default)]
struct Wanted {
    /// Barriers of the checkpoints that are under way, oldest first.
    live: VecDeque<Barrier>,
    completed: CheckpointId,
    /// Sources read nothing behind this barrier.
    stop_behind: Option<CheckpointId>,
    /// Sources end.
    drain: bool,
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.lock());
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Takes back a part that has been written. What nobody needs goes.
    pub(super) fn recycle(&self, mut part: OperatorSnapshot) {
        part.recycle();
        let _ = self.emptied.push(part);
    }

    /// Asks sources to send a barrier, and to read nothing behind it if they are to stop.
    pub(super) fn begin(&self, barrier: Barrier, stop: bool) {
        self.change(|wanted| {
            wanted.live.push_back(barrier);
            if stop {
                wanted.stop_behind = Some(barrier.id);
            }
        });
    }

    /// A checkpoint is not under way any more.
    pub(super) fn over(&self, id: CheckpointId, completed: bool) {
        self.change(|wanted| {
            wanted.live.retain(|barrier| barrier.id != id);
            if completed {
                wanted.completed = wanted.completed.max(id);
            } else if wanted.stop_behind == Some(id) {
                wanted.stop_behind = None;
            }
        });
    }

    /// Asks sources to end as if there were no more input.
    pub(super) fn drain(&self) {
        self.change(|wanted| wanted.drain = true);
    }

    /// Whether a checkpoint is under way.
    pub(super) fn is_live(&self, id: CheckpointId) -> bool {
        self.lock().live.iter().any(|barrier| barrier.id == id)
    }
}

/// From a subtask to the writer.
pub enum Message {
    /// Something of a snapshot.
    Taken {
        /// Number of the subtask among all.
        subtask: usize,
        /// What.
        taken: Taken,
    },
    /// The subtask has read and written everything.
    Finished {
        /// Number of the subtask among all.
        subtask: usize,
        /// What its steps keep: step, watermark, snapshot.
        states: Vec<(usize, Timestamp, OperatorSnapshot)>,
    },
    /// What was written of a checkpoint can go.
    Discard(CheckpointId),
}

/// Where the state of one subtask is: step, watermark, snapshot.
pub type SubtaskState = Arc<Vec<(usize, Timestamp, StateHandle)>>;

/// From the writer to the job's thread.
pub enum News {
    /// A subtask's part of a checkpoint is durable.
    Written {
        /// Number of the subtask among all.
        subtask: usize,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Where it is.
        state: SubtaskState,
    },
    /// A subtask has finished, and what it keeps is durable.
    Finished {
        /// Number of the subtask among all.
        subtask: usize,
        /// Where it is.
        state: SubtaskState,
        /// Where it is without what is to be committed.
        committed: SubtaskState,
    },
    /// State of a checkpoint, or what a subtask keeps at its end, could not be written.
    Failed {
        /// The checkpoint, if it is one's.
        checkpoint: Option<CheckpointId>,
        /// What happened.
        error: Error,
    },
}

/// The end of a subtask.
pub struct Port {
    /// Number of the subtask among all.
    subtask: usize,
    requests: Arc<Requests>,
    /// Changes that have been looked at.
    seen: u64,
    /// The newest barrier that was sent out of the source.
    barrier: CheckpointId,
    completed: CheckpointId,
    sender: Sender<Message>,
    /// The last message, while the queue is full.
    unsent: Option<Message>,
}

/// What a subtask is to do.
#[derive(Default)]
pub(crate) struct Orders {
    /// Barriers that a source has to send.
    pub(crate) barriers: Vec<Barrier>,
    /// Whether a source reads nothing more.
    pub(crate) stopped: bool,
    /// Whether a source ends.
    pub(crate) drain: bool,
    /// A checkpoint that is complete.
    pub(crate) completed: Option<CheckpointId>,
}

impl Port {
    pub(super) fn new(subtask: usize, requests: Arc<Requests>, sender: Sender<Message>) -> Port {
        Port { subtask, requests, seen: 0, barrier: 0, completed: 0, sender, unsent: None }
    }

    /// Whether something was asked since the last look.
    #[inline]
    pub(crate) fn has_orders(&self) -> bool {
        self.requests.changes.load(Ordering::Relaxed) != self.seen
    }

    /// Looks at what is asked; gives up what is not under way any more.
    pub(crate) fn orders(&mut self, chain: &mut Chain) -> Orders {
        self.seen = self.requests.changes.load(Ordering::Acquire);
        let wanted = self.requests.lock();
        chain.give_up(|id| wanted.live.iter().any(|barrier| barrier.id == id));
        let barriers: Vec<Barrier> =
            wanted.live.iter().filter(|barrier| barrier.id > self.barrier).copied().collect();
        self.barrier = barriers.last().map_or(self.barrier, |barrier| barrier.id);
        let completed = (wanted.completed > self.completed).then_some(wanted.completed);
        self.completed = wanted.completed;
        Orders { barriers, stopped: wanted.stop_behind.is_some(), drain: wanted.drain, completed }
    }

    /// Gives the chain memory for its next slice.
    pub(crate) fn supply(&self, chain: &mut Chain) {
        if !chain.has_spare_part()
            && let Some(part) = self.requests.emptied.pop()
        {
            chain.supply_part(part);
        }
    }

    /// Sends what the chain has taken. False where the queue is full.
    pub(crate) fn send(&mut self, chain: &mut Chain) -> bool {
        if !self.retry() {
            return false;
        }
        while let Some(taken) = chain.taken() {
            if !self.offer(Message::Taken { subtask: self.subtask, taken }) {
                return false;
            }
        }
        true
    }

    /// Sends the last message. False where the queue is full; then [`retry`](Port::retry) is to be called.
    pub(crate) fn finished(&mut self, states: Vec<(usize, Timestamp, OperatorSnapshot)>) -> bool {
        self.offer(Message::Finished { subtask: self.subtask, states })
    }

    /// Sends what there was no room for. False where there still is none.
    pub(crate) fn retry(&mut self) -> bool {
        self.unsent.take().is_none_or(|message| self.offer(message))
    }

    fn offer(&mut self, message: Message) -> bool {
        match self.sender.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(message)) => {
                self.unsent = Some(message);
                false
            }
            // The attempt is over; nobody will ask for it.
            Err(TrySendError::Disconnected(_)) => true,
        }
    }
}

//! Shell: does what the coordinator decides, for one attempt of a job, on the job's thread.

use super::messages::{Message, News, Port, QUEUE_MESSAGES, Requests, SubtaskState};
use super::restore::{Restored, tag};
use super::writer::{Writer, append_committed};
use crate::base::batch::CheckpointId;
use crate::base::config::CheckpointSettings;
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::base::mutant;
use crate::base::text;
use crate::executors::job::JobEnvironment;
use crate::executors::pipelined::control::{Control, Wish};
use crate::operator::exchange::Partitioning;
use crate::plan::{PhysicalPlan, StepOperation, operator_names};
use crate::services::checkpoint::{
    Action, Coordinator, Event, JobTag, Metadata, OperatorEntry, OperatorName, Purpose, Rules, StateHandle,
    Store, SubtaskEntry,
};
use crossbeam::channel::{Receiver, Sender, bounded};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What the checkpoints of a job came to, over all attempts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CheckpointStats {
    /// Those that were completed.
    pub completed: u64,
    /// Of those, the ones that hold all state and not only what had changed.
    pub full: u64,
    /// Those that failed or took too long.
    pub failed: u64,
    /// Bytes of state in the last one that was completed, not counting older ones that it refers to.
    pub last_bytes: u64,
    /// Bytes of state in all of them.
    pub bytes: u64,
    /// The longest time from begin to completion.
    #[serde(rename = "longest_seconds", serialize_with = "crate::executors::report::seconds")]
    pub longest: Duration,
    /// The time from begin to completion of all of them together.
    #[serde(rename = "total_seconds", serialize_with = "crate::executors::report::seconds")]
    pub total: Duration,
    /// The number of the last one that was completed; 0 if there was none.
    pub last: CheckpointId,
    /// The checkpoint that the job went on from last; 0 if it began at the beginning.
    pub restored: CheckpointId,
    /// Attempts after failures.
    pub restarts: u32,
}

impl fmt::Display for CheckpointStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let average =
            self.total.checked_div(self.completed.try_into().unwrap_or(u32::MAX)).unwrap_or_default();
        write!(
            f,
            "checkpoints: {} completed ({} full), {} failed, last {}, all {}, average {}, longest {}",
            text::count(self.completed),
            text::count(self.full),
            text::count(self.failed),
            text::bytes(self.last_bytes),
            text::bytes(self.bytes),
            text::duration(average),
            text::duration(self.longest)
        )?;
        if self.restored > 0 {
            write!(f, ", went on from {}", self.restored)?;
        }
        if self.restarts > 0 {
            write!(f, ", {} restarts", text::count(u64::from(self.restarts)))?;
        }
        Ok(())
    }
}

/// Whether the attempt is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    GoesOn,
    /// All subtasks have finished, and the last checkpoint is complete.
    Finished,
    /// The checkpoint behind which the job was to stop is complete.
    Stopped,
}

/// What an attempt needs for its checkpoints.
pub struct Shell<'a> {
    plan: &'a PhysicalPlan,
    names: Vec<OperatorName>,
    job: &'a JobEnvironment,
    store: &'a mut Store,
    tag: JobTag,
    coordinator: Coordinator<SubtaskState>,
    requests: Arc<Requests>,
    /// To the writer; none once nothing more is to be written.
    sender: Option<Sender<Message>>,
    /// Checkpoints whose files the writer is still to be told to remove.
    discards: Vec<CheckpointId>,
    /// Task and index of each subtask.
    subtasks: Vec<(usize, usize)>,
    /// What subtasks keep that have finished, for when what they prepared is committed.
    committed: BTreeMap<usize, SubtaskState>,
    /// Subtasks of which a checkpoint that is being written has what they keep at their end.
    ended_in: BTreeMap<CheckpointId, Vec<usize>>,
    /// The snapshots of each step and index, as the last completed checkpoint of the attempt has them.
    chains: BTreeMap<(usize, usize), Vec<StateHandle>>,
    /// Operators that were over before the attempt began, with what they kept.
    over: BTreeMap<usize, Vec<SubtaskEntry>>,
    stats: &'a mut CheckpointStats,
    control: Control,
    verdict: Verdict,
    /// Subtasks have been asked for something and may sleep.
    wake: bool,
    /// The checkpoint to stop behind has failed.
    stop_failed: bool,
}

/// What a shell is made from.
pub struct ShellParts<'a> {
    /// What is run.
    pub plan: &'a PhysicalPlan,
    /// What its subtasks share.
    pub job: &'a JobEnvironment,
    /// When checkpoints are taken.
    pub settings: &'a CheckpointSettings,
    /// Where they are kept.
    pub store: &'a mut Store,
    /// Number of the attempt.
    pub attempt: u64,
    /// What the checkpoints of all attempts came to.
    pub stats: &'a mut CheckpointStats,
    /// Wishes of the client.
    pub control: Control,
}

impl<'a> Shell<'a> {
    /// The shell of an attempt, with the writer and the end of the queue that it reads.
    ///
    /// # Errors
    /// When what subtasks have kept that had finished at the checkpoint that was `restored` cannot be written.
    pub fn new(
        parts: ShellParts<'a>,
        restored: Option<&Restored>,
    ) -> Result<(Shell<'a>, Writer, Receiver<Message>)> {
        let ShellParts { plan, job, settings, store, attempt, stats, control } = parts;
        let tag = tag(&job.context, attempt);
        let dir = store.state_dir(tag.clone());
        let subtasks: Vec<(usize, usize)> =
            plan.tasks.iter().flat_map(|task| (0..task.parallelism).map(move |i| (task.id, i))).collect();
        let mut over = BTreeMap::new();
        let mut finished = vec![None; subtasks.len()];
        if let Some(restored) = restored {
            // What subtasks kept that had finished stays part of every checkpoint, in files of this attempt.
            let mut kept: BTreeMap<(usize, usize), (i64, StateHandle)> = BTreeMap::new();
            for step in &plan.steps {
                let task_is_over = (0..step.parallelism).all(|i| restored.is_finished(step.task, i));
                let mut entries = Vec::new();
                let kept_on = |index: usize| task_is_over || restored.is_finished(step.task, index);
                for (index, watermark, snapshot) in
                    restored.ended(step.id).into_iter().filter(|of| kept_on(of.0))
                {
                    // What sinks had prepared they have committed while they were put back.
                    let handle = append_committed(dir.at_end(step.id, index, true), &snapshot)?;
                    entries.push(SubtaskEntry { finished: true, watermark, states: vec![handle.clone()] });
                    kept.insert((step.id, index), (watermark, handle));
                }
                if task_is_over {
                    over.insert(step.id, entries);
                }
            }
            for (number, &(task, index)) in subtasks.iter().enumerate() {
                if restored.is_finished(task, index) {
                    let steps = plan.tasks[task].steps.iter().filter_map(|&step| {
                        let (watermark, handle) = kept.get(&(step, index))?;
                        Some((step, *watermark, handle.clone()))
                    });
                    finished[number] = Some(Arc::new(steps.collect()));
                }
            }
        }
        let now = job.clock.monotonic();
        let coordinator = Coordinator::new(Rules::from(settings), finished, store.next_id(), now);
        let requests = Arc::new(Requests::default());
        let (sender, receiver) = bounded(QUEUE_MESSAGES);
        let indices = subtasks.iter().map(|&(_, index)| index).collect();
        let writer = Writer::new(dir, requests.clone(), indices);
        let shell = Shell {
            plan,
            names: operator_names(plan),
            job,
            store,
            tag,
            coordinator,
            requests,
            sender: Some(sender),
            discards: Vec::new(),
            subtasks,
            committed: BTreeMap::new(),
            ended_in: BTreeMap::new(),
            chains: BTreeMap::new(),
            over,
            stats,
            control,
            verdict: Verdict::GoesOn,
            wake: false,
            stop_failed: false,
        };
        Ok((shell, writer, receiver))
    }

    /// The port of a subtask.
    pub fn port(&self, subtask: usize) -> Option<Port> {
        Some(Port::new(subtask, self.requests.clone(), self.sender.clone()?))
    }

    /// Time until something happens by itself.
    pub fn until_next(&self) -> Option<Duration> {
        Some(self.coordinator.next_deadline()?.saturating_sub(self.job.clock.monotonic()))
    }

    /// Whether subtasks that sleep must be woken, once.
    pub fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.wake)
    }

    /// Nothing more is written: lets the writer end when it has read what is in the queue.
    pub fn close(&mut self) {
        self.sender = None;
    }

    /// Time has passed.
    pub fn tick(&mut self) -> Result<Verdict> {
        self.discard();
        // If the job had failed for it, the next attempt would stop.
        if std::mem::take(&mut self.stop_failed) {
            tracing::warn!("the job does not stop, since the checkpoint for it has failed");
            self.control.does_not_stop();
        }
        let mut events = vec![Event::Tick];
        for wish in self.control.wishes() {
            match wish {
                Wish::Checkpoint => events.push(Event::Asked(Purpose::Asked)),
                Wish::Savepoint => events.push(Event::Asked(Purpose::Savepoint)),
                Wish::Stop => events.push(Event::Asked(Purpose::Stop)),
                Wish::Drain => {
                    self.requests.drain();
                    self.wake = true;
                }
            }
        }
        for event in events {
            self.handle(event)?;
        }
        Ok(self.verdict)
    }

    /// The writer has done something.
    pub fn news(&mut self, news: News) -> Result<Verdict> {
        let event = match news {
            News::Written { subtask, checkpoint: id, state } => {
                failpoint::check("checkpoint.acknowledge")?;
                let bytes = state.iter().map(|(_, _, handle)| handle.bytes()).sum();
                Event::Acknowledged { subtask, id, bytes, state }
            }
            News::Finished { subtask, state, committed } => {
                failpoint::check("checkpoint.finished")?;
                self.committed.insert(subtask, committed);
                Event::Finished { subtask, state }
            }
            News::Failed { checkpoint: Some(id), error } => Event::Declined { id, why: error.to_string() },
            // Without it no later checkpoint can be complete.
            News::Failed { checkpoint: None, error } => return Err(error),
        };
        self.handle(event)?;
        Ok(self.verdict)
    }

    fn handle(&mut self, event: Event<SubtaskState>) -> Result<()> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.coordinator.handle(self.job.clock.monotonic(), event) {
                if let Some(next) = self.act(action)? {
                    events.push_back(next);
                }
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action<SubtaskState>) -> Result<Option<Event<SubtaskState>>> {
        match action {
            Action::Begin(barrier, purpose) => {
                failpoint::check("checkpoint.begin")?;
                tracing::debug!(checkpoint = barrier.id, full = barrier.full, ?purpose, "checkpoint begins");
                self.store.given(barrier.id);
                self.requests.begin(barrier, purpose == Purpose::Stop);
                self.wake = true;
            }
            Action::Write { id, full, states, .. } => {
                // A process that is not the owner any more must stop, whatever failures are tolerated.
                self.store.check_owner()?;
                let (metadata, chains) = self.metadata(id, full, &states);
                let ended = states.iter().enumerate().filter(|(_, (_, finished))| *finished);
                self.ended_in.insert(id, ended.map(|(subtask, _)| subtask).collect());
                self.job.sinks.values().for_each(|sink| sink.keep());
                failpoint::check("checkpoint.write")?;
                if mutant::is("committed_before_durable") {
                    self.job.sinks.values().try_for_each(|sink| sink.checkpoint_complete(id))?;
                }
                return Ok(Some(match self.store.complete(&metadata) {
                    Ok(()) => {
                        self.stats.full += u64::from(full);
                        self.chains = chains;
                        Event::Written(id)
                    }
                    Err(error) => Event::Declined { id, why: error.to_string() },
                }));
            }
            Action::Complete { id, purpose, bytes, took } => {
                tracing::debug!(checkpoint = id, bytes, ?took, ?purpose, "checkpoint complete");
                let stats = &mut self.stats;
                stats.completed += 1;
                stats.last = id;
                stats.last_bytes = bytes;
                stats.bytes += bytes;
                stats.longest = stats.longest.max(took);
                stats.total += took;
                self.store.check_owner()?;
                failpoint::check("checkpoint.complete")?;
                for (step, sink) in self.job.sinks.iter() {
                    let committed = sink.checkpoint_complete(id);
                    committed.map_err(|e| e.in_operator(&self.plan.steps[*step].name, 0))?;
                }
                for subtask in self.ended_in.remove(&id).into_iter().flatten() {
                    if let Some(state) = self.committed.remove(&subtask) {
                        self.coordinator.keep(subtask, state);
                    }
                }
                failpoint::check("checkpoint.notify")?;
                self.requests.over(id, true);
                match purpose {
                    Purpose::Stop => self.verdict = Verdict::Stopped,
                    Purpose::Last => self.verdict = Verdict::Finished,
                    Purpose::Savepoint => {
                        self.store.pins().pin(id);
                        self.control.savepointed(Ok(id));
                    }
                    Purpose::Periodic | Purpose::Asked => {}
                }
                self.control.publish(self.stats);
                self.control.completed(id);
            }
            Action::Abort { id, purpose, why } => {
                self.requests.over(id, false);
                self.ended_in.remove(&id);
                self.discards.push(id);
                self.discard();
                if purpose == Purpose::Stop {
                    // The sources read on.
                    self.coordinator.resume();
                    self.wake = true;
                    self.stop_failed = true;
                }
                if purpose == Purpose::Savepoint {
                    let why =
                        why.as_deref().unwrap_or("a newer one was complete before it, or the job has ended");
                    self.control.savepointed(Err(format!("checkpoint {id} for a savepoint failed: {why}")));
                }
                if let Some(why) = why {
                    tracing::warn!(checkpoint = id, why, "checkpoint failed");
                    self.stats.failed += 1;
                    self.control.publish(self.stats);
                    self.control.failed(&format!("checkpoint {id} failed: {why}"));
                }
            }
            Action::Fail(why) => return Err(failure(why)),
        }
        Ok(None)
    }

    fn discard(&mut self) {
        let Some(sender) = &self.sender else { return };
        while let Some(id) = self.discards.pop() {
            if sender.try_send(Message::Discard(id)).is_err() {
                self.discards.push(id);
                return;
            }
        }
    }

    /// The metadata of a checkpoint, and the chain of snapshots of each step and index in it.
    #[allow(clippy::type_complexity, reason = "used once")]
    fn metadata(
        &mut self,
        id: CheckpointId,
        full: bool,
        states: &[(SubtaskState, bool)],
    ) -> (Metadata, BTreeMap<(usize, usize), Vec<StateHandle>>) {
        let mut chains = BTreeMap::new();
        let mut entries: BTreeMap<(usize, usize), SubtaskEntry> = BTreeMap::new();
        for ((state, finished), &(_, index)) in states.iter().zip(&self.subtasks) {
            for (step, watermark, handle) in state.iter() {
                let before = self.chains.get(&(*step, index)).filter(|_| !full && !finished);
                let mut chain = before.cloned().unwrap_or_default();
                // An operator that has never kept anything keeps nothing.
                if !(chain.is_empty() && handle.is_empty()) {
                    chain.push(handle.clone());
                }
                let entry =
                    SubtaskEntry { finished: *finished, watermark: *watermark, states: chain.clone() };
                entries.insert((*step, index), entry);
                chains.insert((*step, index), chain);
            }
        }
        let operators = self.plan.steps.iter().map(|step| OperatorEntry {
            operator: self.names[step.id].clone(),
            subtasks: match self.over.get(&step.id) {
                Some(over) => over.clone(),
                None => {
                    (0..step.parallelism).map(|i| entries.remove(&(step.id, i)).unwrap_or_default()).collect()
                }
            },
        });
        let metadata = Metadata {
            job: self.tag.clone(),
            checkpoint: id,
            completed_ms: self.job.clock.now_ms(),
            full,
            operators: operators.collect(),
        };
        (metadata, chains)
    }
}

fn failure(why: String) -> Error {
    Error::Io {
        action: "complete a checkpoint below",
        path: "checkpoints".into(),
        source: std::io::Error::other(why),
    }
}

/// Whether a subtask that has finished keeps the state of a step: that of a source, of a sink, and of what has no keys. A
/// keyed operator whose input has ended has let out all results: what is left there nobody asks for.
pub(crate) fn keeps_state_at_end(plan: &PhysicalPlan, step: usize) -> bool {
    !matches!(plan.steps[step].operation, StepOperation::Operator(_))
        || plan.edges_into(step).all(|edge| edge.partitioning != Partitioning::Hash)
}

//! Restore: a checkpoint as the operators of a program see it.

use crate::base::data::{Timestamp, WATERMARK_MAX};
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::operator::context::JobContext;
use crate::operator::exchange::consumers_of;
use crate::plan::{PhysicalPlan, find_step, operator_names};
use crate::semantics::state::{OperatorSnapshot, OperatorState, SnapshotChain};
use crate::services::checkpoint::{JobTag, Metadata, OperatorEntry, StateHandle};
use crate::services::savepoint::SubtaskEntry as Subtask;
use std::collections::BTreeMap;

/// A checkpoint, read and laid out for a plan.
#[derive(Default)]
pub struct Restored {
    /// Who took it.
    pub job: JobTag,
    /// Its number.
    pub checkpoint: u64,
    /// Whether it is a savepoint: what sinks had prepared is committed.
    pub is_savepoint: bool,
    /// What the operators kept, by step; those that were not in the program then have nothing.
    states: BTreeMap<usize, Operator>,
    /// Of each task and subtask, whether it has nothing left to do.
    finished: Vec<Vec<bool>>,
}

struct Operator {
    state: OperatorState,
    /// Of each subtask there was: whether it had finished.
    finished: Vec<bool>,
    /// The event time that all subtasks had reached.
    watermark: Timestamp,
    watermarks: Vec<Timestamp>,
}

impl Restored {
    /// Nothing yet, of a checkpoint of a job.
    pub(in crate::executors) fn new(job: JobTag, checkpoint: u64) -> Restored {
        Restored { job, checkpoint, ..Restored::default() }
    }

    /// Adds what an operator kept.
    pub(in crate::executors) fn insert(&mut self, step: usize, state: OperatorState, subtasks: &[Subtask]) {
        self.states.insert(step, Operator::new(state, subtasks));
    }

    /// What the subtasks of a step kept.
    pub fn state(&self, step: usize) -> Option<&OperatorState> {
        self.states.get(&step).map(|operator| &operator.state)
    }

    /// The event time from which a step goes on.
    pub fn watermark(&self, step: usize) -> Option<Timestamp> {
        self.states.get(&step).map(|operator| operator.watermark)
    }

    /// Whether a subtask has nothing left to do.
    pub fn is_finished(&self, task: usize, index: usize) -> bool {
        self.finished.get(task).and_then(|task| task.get(index)).is_some_and(|&finished| finished)
    }

    /// A subtask has nothing left to do if it had finished, as had the same subtask of all steps of its task, or all
    /// subtasks had, however many there are now; and if all that it reads from has nothing left either. The last is only in
    /// doubt where operators are found by their places, and one was taken for another.
    pub(in crate::executors) fn find_finished(&mut self, plan: &PhysicalPlan) {
        for task in &plan.tasks {
            let had_finished = |index: usize| {
                task.steps.iter().all(|&step| {
                    self.states.get(&step).is_some_and(|operator| {
                        let same = operator.finished.len() == task.parallelism;
                        operator.is_over() || same && operator.finished[index]
                    })
                })
            };
            let reads_nothing = |index: usize| {
                let into = task
                    .steps
                    .iter()
                    .flat_map(|&step| plan.edges_into(step))
                    .filter(|edge| !edge.local && !edge.feedback);
                into.into_iter().all(|edge| {
                    let from = &plan.steps[edge.from];
                    let feeds = |producer: &usize| {
                        consumers_of(edge.partitioning, *producer, from.parallelism, task.parallelism)
                            .contains(&index)
                    };
                    (0..from.parallelism).filter(feeds).all(|producer| self.is_finished(from.task, producer))
                })
            };
            let finished = (0..task.parallelism).map(|index| had_finished(index) && reads_nothing(index));
            // Tasks are in order: those that this one reads from are there.
            let finished = finished.collect();
            self.finished.push(finished);
        }
    }

    /// What the subtasks that had finished kept, by step and index: it stays part of later checkpoints.
    pub fn ended(&self, step: usize) -> Vec<(usize, Timestamp, OperatorSnapshot)> {
        let Some(operator) = self.states.get(&step) else { return Vec::new() };
        let subtasks = operator.state.subtasks().iter().enumerate();
        subtasks
            .filter(|(index, _)| operator.finished[*index])
            .map(|(index, chain)| {
                (index, operator.watermarks[index], chain.newest().cloned().unwrap_or_default())
            })
            .collect()
    }
}

impl Operator {
    fn is_over(&self) -> bool {
        !self.finished.is_empty() && self.finished.iter().all(|&finished| finished)
    }
}

/// What reads a snapshot piece by piece.
pub(crate) type Read<'a> =
    &'a dyn Fn(&StateHandle, &mut dyn FnMut(&str, u64, &[u8]) -> Result<()>) -> Result<()>;

/// Reads the state of a checkpoint and finds the operators that it is for.
///
/// # Errors
/// State that cannot be read, or that no operator of the plan is for, unless that is `allowed`.
pub fn restore(plan: &PhysicalPlan, metadata: &Metadata, read: Read<'_>, allowed: bool) -> Result<Restored> {
    let names = operator_names(plan);
    let mut restored = Restored::new(metadata.job.clone(), metadata.checkpoint);
    for entry in &metadata.operators {
        match find_step(&names, &entry.operator) {
            Ok(step) => {
                let (state, subtasks) = restored_operator(entry, read)?;
                restored.insert(step, state, &subtasks);
            }
            Err(_) if keeps_nothing(entry) => {}
            Err(why) if allowed => {
                tracing::warn!(operator = %entry.operator, why, "state of the checkpoint is left out");
            }
            Err(why) => {
                return Err(Error::config(format!(
                    "checkpoint {} of job '{}' holds state of {}, {why}; give operators the uids that they had when it \
                     was taken, or leave the state out with allow-non-restored-state",
                    metadata.checkpoint, metadata.job.name, entry.operator
                )));
            }
        }
    }
    restored.find_finished(plan);
    Ok(restored)
}

fn keeps_nothing(entry: &OperatorEntry) -> bool {
    entry.subtasks.iter().all(|subtask| subtask.states.iter().all(StateHandle::is_empty))
}

/// What an operator kept, and what is known of its subtasks beside that.
pub(in crate::executors) fn restored_operator(
    entry: &OperatorEntry,
    read: Read<'_>,
) -> Result<(OperatorState, Vec<Subtask>)> {
    let mut chains = Vec::with_capacity(entry.subtasks.len());
    for subtask in &entry.subtasks {
        let snapshots = subtask.states.iter().map(|handle| {
            let mut snapshot = OperatorSnapshot::default();
            failpoint::check("restore.read")?;
            read(handle, &mut |section, entries, bytes| {
                snapshot.section(section).append(bytes, entries);
                Ok(())
            })?;
            Ok(snapshot)
        });
        chains.push(SnapshotChain::new(snapshots.collect::<Result<Vec<_>>>()?));
    }
    let subtasks = entry.subtasks.iter().map(|of| Subtask { finished: of.finished, watermark: of.watermark });
    Ok((OperatorState::new(chains), subtasks.collect()))
}

impl Operator {
    fn new(state: OperatorState, subtasks: &[Subtask]) -> Operator {
        // One that had finished says nothing of those that had not.
        let running = subtasks.iter().filter(|subtask| !subtask.finished).map(|subtask| subtask.watermark);
        Operator {
            state,
            watermark: running.min().unwrap_or(WATERMARK_MAX),
            finished: subtasks.iter().map(|subtask| subtask.finished).collect(),
            watermarks: subtasks.iter().map(|subtask| subtask.watermark).collect(),
        }
    }
}

/// The tag of an attempt of a job.
pub(crate) fn tag(context: &JobContext, attempt: u64) -> JobTag {
    JobTag { id: context.id.clone(), name: context.name.clone(), attempt }
}

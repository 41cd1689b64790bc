//! Attempt: runs a unit once, on whichever thread, and says what came of it.

use super::kept::{self, Kept, Left, Outputs};
use super::layout::partition_of_unit;
use super::schedule::{Attempt, UnitId};
use super::summary::Summary;
use super::unit::{UnitContext, UnitOutputs};
use crate::base::error::{Error, Result};
use crate::executors::times::{Lack, Stopwatch};
use crate::operator::exchange::RowWriter;
use crate::plan::{Edge, PhysicalPlan};
use crate::services::shuffle::Remainder;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// What a finished attempt hands over.
pub struct Finished {
    pub attempt: Attempt,
    pub outcome: Outcome,
}

/// How an attempt has ended.
pub enum Outcome {
    Success(Success),
    Failure(Failure),
    /// It has not begun: what it was to read is being made again.
    Postponed,
}

/// What an attempt that succeeded has left and counted.
pub struct Success {
    pub left: Vec<Left>,
    pub summary: Summary,
}

/// Why an attempt failed.
pub struct Failure {
    pub error: Error,
    /// The attempts whose outputs could not be read.
    pub damaged: Vec<Attempt>,
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Outcome {
        Outcome::Failure(Failure { error, damaged: Vec::new() })
    }
}

/// The edges that a stage reads from others.
pub fn edges_into(plan: &PhysicalPlan, stage: usize) -> impl Iterator<Item = &Edge> {
    plan.edges.iter().filter(move |e| !e.local && plan.steps[e.to].task == stage)
}

/// The edges that others read from a stage.
pub fn edges_from(plan: &PhysicalPlan, stage: usize) -> impl Iterator<Item = &Edge> {
    plan.edges.iter().filter(move |e| !e.local && plan.steps[e.from].task == stage)
}

/// Runs one attempt and ends its outputs: in memory where the budget has room, else on disk.
pub fn run_attempt(context: &UnitContext, attempt: Attempt, kept: &Mutex<Kept>) -> Finished {
    let id = attempt.id;
    let task = &context.plan.tasks[id.stage];
    let inputs = {
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_ready(context, id, &kept) {
            return Finished { attempt, outcome: Outcome::Postponed };
        }
        kept.inputs(edges_into(&context.plan, id.stage).map(|e| e.id))
    };
    let subtask = context.layouts[id.stage].subtask(id.unit);
    // Threads of the pool are in no span of their own.
    let span = tracing::info_span!(
        parent: context.job.span.id(),
        "unit",
        stage = id.stage,
        unit = id.unit,
        attempt = attempt.number,
        operators = %task.name,
        subtask,
    );
    let _in_span = span.enter();
    let mut watch = Stopwatch::start(context.job.times.clone(), id.stage, context.job.clock.clone());
    // Sorting compares keys and may drop records: code of the user, outside of any operator.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let (writers, summary) = context.run(task, attempt, &inputs, &mut watch)?;
        match finish(context, id, writers, kept) {
            Ok(left) => Ok(Success { left, summary }),
            Err(e) => {
                summary.take_back(&context.job);
                Err(e)
            }
        }
    }));
    let outcome =
        outcome.unwrap_or_else(|payload| Err(Error::panic(payload).in_operator(&task.name, subtask)));
    watch.pause(true, Lack::Input);
    context.running().remove(&(id.stage, id.unit));
    let outcome = match outcome {
        Ok(success) => Outcome::Success(success),
        Err(error) => Outcome::Failure(Failure { error, damaged: damaged(&inputs) }),
    };
    Finished { attempt, outcome }
}

/// Whether all that a unit reads is there: some of it may have gone since the schedule said that the unit may start.
fn is_ready(context: &UnitContext, id: UnitId, kept: &Kept) -> bool {
    edges_into(&context.plan, id.stage).all(|edge| {
        let divided = context.plan.steps[edge.to].divided;
        let partition = partition_of_unit(edge, divided, &context.layouts[id.stage], id.unit);
        let producers = context.layouts[context.plan.steps[edge.from].task].units();
        partition.is_none_or(|partition| (0..producers).all(|unit| kept.holds(edge.id, unit, partition)))
    })
}

/// The producers of what could not be read.
fn damaged(inputs: &Outputs) -> Vec<Attempt> {
    let outputs = inputs.values().flatten().filter(|output| output.is_damaged());
    let identities = outputs.map(|output| output.identity());
    let mut attempts: Vec<Attempt> = identities
        .map(|who| Attempt {
            id: UnitId { stage: who.stage as usize, unit: who.producer as usize },
            number: who.attempt,
        })
        .collect();
    // A producer with several edges is one.
    attempts.sort_by_key(|attempt| attempt.id);
    attempts.dedup();
    attempts
}

fn finish(context: &UnitContext, id: UnitId, writers: UnitOutputs, kept: &Mutex<Kept>) -> Result<Vec<Left>> {
    let share = context.part_bytes(&context.plan.tasks[id.stage]);
    let end = |(edge, writer): (usize, Box<dyn RowWriter>)| {
        let (budget, before) = {
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            (kept.budget(), kept.remainder_before(edge, id))
        };
        let on_disk = context.stages_dir.is_some() || before == Some(Remainder::Disk);
        let (output, reservation, remainder) =
            kept::finish(&budget, share, on_disk, |remainder| writer.finish(remainder)).map_err(|e| {
                let step = &context.plan.steps[context.plan.edges[edge].from];
                e.in_operator(&step.name, context.layouts[id.stage].subtask(id.unit))
            })?;
        Ok(Left { edge, output, reservation, remainder })
    };
    writers.into_iter().map(end).collect()
}

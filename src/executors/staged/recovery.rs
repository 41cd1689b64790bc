//! Recovery: what becomes of the outcome of an attempt: what it has left is kept, or something runs again.
//!
//! Place: on the thread that runs the job, between two looks at what has finished.
//! Rules:
//! - What could not be read is made again by its producer, up to [`RERUNS_MAX`] times each, and the unit that wanted to
//!   read it waits for that. This needs no restart strategy; only `none` forbids it.
//! - Anything else is answered by the restart strategy. Without one, what the outside world did is tried again up to
//!   [`RETRIES`] times in a job, and user code that fails is not: it would most likely fail again, and the user would
//!   wait for the error.
//! - A producer that has left something else than before is not deterministic: what has read the difference runs again.

use super::attempt::{Failure, Finished, Outcome, Success, edges_from, edges_into};
use super::kept::{Kept, Left};
use super::layout::{StageLayout, is_shared, partition_of_unit};
use super::run::State;
use super::schedule::{Attempt, Done, RERUNS_MAX, TooManyReruns, UnitId};
use super::totals::LeftStats;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::hash::hash_of;
use crate::base::restart::{Restart, RestartStrategy, Restarts, is_worth_retrying};
use crate::plan::PhysicalPlan;
use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// How often units are tried again in a job without a restart strategy.
pub const RETRIES: u32 = 3;
/// The time before each: long enough for a short trouble to pass, short enough not to be noticed.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// What failures are answered with.
pub struct Policy {
    restarts: Restarts,
    /// Nobody has chosen a strategy.
    is_default: bool,
    /// Whether producers of what is damaged run again.
    repairs: bool,
}

impl Policy {
    pub fn new(strategy: Option<RestartStrategy>) -> Policy {
        let repairs = strategy != Some(RestartStrategy::None);
        let default = RestartStrategy::FixedDelay { attempts: RETRIES, delay: RETRY_DELAY };
        Policy {
            is_default: strategy.is_none(),
            repairs,
            restarts: Restarts::new(strategy.unwrap_or(default)),
        }
    }

    /// The answer to a failure at `now`.
    pub fn on_failure(&mut self, kind: ErrorKind, now: Duration, random: u64) -> Restart {
        let tries = is_worth_retrying(kind) && (!self.is_default || kind == ErrorKind::Environment);
        if tries { self.restarts.on_failure(now, random) } else { Restart::GiveUp }
    }
}

/// Whether what a unit reads of another unit's output cannot be read any more.
pub fn is_gone(
    plan: &PhysicalPlan,
    layouts: &[StageLayout],
    kept: &Kept,
    consumer: UnitId,
    producer: UnitId,
) -> bool {
    edges_from(plan, producer.stage).filter(|edge| plan.steps[edge.to].task == consumer.stage).any(|edge| {
        let divided = plan.steps[edge.to].divided;
        partition_of_unit(edge, divided, &layouts[consumer.stage], consumer.unit).is_some_and(|partition| {
            !kept.holds(edge.id, producer.unit, partition) || kept.is_damaged(edge.id, producer.unit)
        })
    })
}

impl State<'_> {
    /// Takes over what came of an attempt.
    pub fn finished(&mut self, finished: Finished) -> Result<()> {
        match finished.outcome {
            Outcome::Success(success) => self.succeeded(finished.attempt, success),
            Outcome::Failure(failure) => self.failed(finished.attempt, failure),
            Outcome::Postponed => {
                self.schedule.postponed(finished.attempt.id);
                Ok(())
            }
        }
    }

    fn succeeded(&mut self, attempt: Attempt, success: Success) -> Result<()> {
        let id = attempt.id;
        if self.schedule.is_stale(id) {
            self.schedule.done(id);
            success.summary.take_back(self.job);
            return Ok(());
        }
        let changed = self.read_by(id, &success.left);
        if let Err(error) = self.write_down(attempt, &success, &changed) {
            success.summary.take_back(self.job);
            return self.failed(attempt, Failure { error, damaged: Vec::new() });
        }
        let Done::Counts { stage_complete } = self.schedule.done(id) else {
            return Err(Error::Internal("an attempt is stale and is not".into()));
        };
        for left in success.left {
            self.stages[id.stage].left(id.unit, left.edge, LeftStats::of(&left.output));
            self.kept().put(id.unit, left);
        }
        self.summaries.insert(id, success.summary);
        if !changed.is_empty() {
            tracing::warn!(
                operators = self.plan.tasks[id.stage].name,
                stage = id.stage,
                unit = id.unit,
                consumers = changed.len(),
                "a unit of work that was run again has left something else than before: a function in it is not \
                 deterministic; what has read the difference is run again"
            );
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let again = self.schedule.changed(changed, |c, p| is_gone(self.plan, &self.layouts, &kept, c, p));
            drop(kept);
            self.run_again(again);
        }
        self.drop_what_was_read(attempt, stage_complete);
        if stage_complete {
            self.stages[id.stage].complete();
        }
        Ok(())
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The units that read what differs from what the attempt before has left.
    fn read_by(&self, id: UnitId, left: &[Left]) -> BTreeSet<UnitId> {
        let kept = self.kept();
        let mut changed = BTreeSet::new();
        for left in left {
            let differing = kept.differing(id.unit, left);
            if differing.is_empty() {
                continue;
            }
            let edge = &self.plan.edges[left.edge];
            let (stage, divided) = (self.plan.steps[edge.to].task, self.plan.steps[edge.to].divided);
            let reads = |&unit: &usize| {
                partition_of_unit(edge, divided, &self.layouts[stage], unit)
                    .is_some_and(|partition| differing.contains(&partition))
            };
            let units = (0..self.layouts[stage].units()).filter(reads);
            changed.extend(units.map(|unit| UnitId { stage, unit }));
        }
        changed
    }

    /// Drops what nobody will read any more: what the unit has read, and, if it was run again, what its consumers have
    /// read before.
    fn drop_what_was_read(&mut self, attempt: Attempt, stage_complete: bool) {
        let id = attempt.id;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for edge in edges_into(self.plan, id.stage).filter(|e| !is_shared(e)) {
            // Only this unit reads its partition.
            let divided = self.plan.steps[edge.to].divided;
            if let Some(partition) = partition_of_unit(edge, divided, &self.layouts[id.stage], id.unit) {
                kept.release(edge.id, partition);
            }
        }
        if stage_complete && self.survives(id.stage) {
            edges_into(self.plan, id.stage).for_each(|edge| kept.forget(edge.id));
        }
        if attempt.number == 0 {
            return;
        }
        for edge in edges_from(self.plan, id.stage) {
            let stage = self.plan.steps[edge.to].task;
            if self.schedule.is_complete(stage) && self.survives(stage) {
                kept.discard(edge.id, id.unit);
            } else if !is_shared(edge) {
                let divided = self.plan.steps[edge.to].divided;
                let done = (0..self.layouts[stage].units())
                    .filter(|&unit| self.schedule.done_attempt(UnitId { stage, unit }).is_some());
                let read =
                    done.filter_map(|unit| partition_of_unit(edge, divided, &self.layouts[stage], unit));
                read.for_each(|partition| kept.release_of(edge.id, id.unit, partition));
            }
        }
    }

    /// What these units have left and counted does not count any more.
    pub fn run_again(&mut self, units: Vec<UnitId>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for id in units {
            if let Some(summary) = self.summaries.remove(&id) {
                summary.take_back(self.job);
            }
            edges_from(self.plan, id.stage).for_each(|edge| kept.discard(edge.id, id.unit));
        }
    }

    fn failed(&mut self, attempt: Attempt, failure: Failure) -> Result<()> {
        let Failure { error, damaged } = failure;
        if error.kind() == ErrorKind::Cancelled {
            return Err(error);
        }
        let id = attempt.id;
        let operators = &self.plan.tasks[id.stage].name;
        self.schedule.failed(id);
        if !damaged.is_empty() && self.policy.repairs {
            tracing::warn!(operators, stage = id.stage, unit = id.unit, %error, "what was to be read is made again");
            for of in damaged {
                let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                let gone = |c: UnitId, p: UnitId| is_gone(self.plan, &self.layouts, &kept, c, p);
                let again = self.schedule.lost(of, gone);
                drop(kept);
                match again {
                    Ok(again) => self.run_again(again),
                    Err(TooManyReruns(producer)) => return Err(self.given_up(error, producer)),
                }
            }
            self.schedule.release(id);
            return Ok(());
        }
        let now = self.job.clock.monotonic();
        let random = hash_of(&(self.job.context.id.as_str(), id.stage, id.unit, attempt.number));
        match self.policy.on_failure(error.kind(), now, random) {
            Restart::GiveUp => Err(error),
            Restart::After(delay) => {
                let number = attempt.number;
                tracing::warn!(operators, stage = id.stage, unit = id.unit, attempt = number, ?delay, %error,
                    "a unit of work failed and is tried again");
                self.held.push((now.saturating_add(delay), id));
                Ok(())
            }
        }
    }

    /// The error of what was damaged again each time it was made.
    fn given_up(&self, error: Error, producer: UnitId) -> Error {
        let name = &self.plan.tasks[producer.stage].name;
        let why = format!(
            "; unit {} of '{name}' has made it {} times, and each time it could not be read: the disk or the memory of \
             this machine is not to be trusted",
            producer.unit,
            RERUNS_MAX + 1
        );
        extended(error, &why)
    }

    /// Has units whose time has come be tried again; the time of the next one.
    pub fn release_held(&mut self) -> Option<Duration> {
        let now = self.job.clock.monotonic();
        let due = self.held.extract_if(.., |(at, _)| *at <= now);
        for (_, id) in due {
            self.schedule.release(id);
        }
        self.held.iter().map(|(at, _)| *at).min()
    }
}

/// The error with more in its message, where it has one.
fn extended(error: Error, more: &str) -> Error {
    match error {
        Error::Corrupt { path, offset, message } => Error::Corrupt { path, offset, message: message + more },
        Error::Io { action, path, source } => {
            let source = std::io::Error::new(source.kind(), format!("{source}{more}"));
            Error::Io { action, path, source }
        }
        Error::Operator { operator, subtask, source } => {
            Error::Operator { operator, subtask, source: Box::new(extended(*source, more)) }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// C12: without a strategy only the outside world gets another try; with one, user code does, too; mistakes never.
    #[test]
    fn who_gets_another_try() {
        let default = None;
        let explicit = Some("fixed-delay:9:1s".parse().unwrap());
        for (strategy, kind, expected) in [
            (&default, ErrorKind::Environment, Restart::After(RETRY_DELAY)),
            (&default, ErrorKind::User, Restart::GiveUp),
            (&default, ErrorKind::Internal, Restart::GiveUp),
            (&explicit, ErrorKind::Environment, Restart::After(S)),
            (&explicit, ErrorKind::User, Restart::After(S)),
            (&explicit, ErrorKind::Usage, Restart::GiveUp),
            (&explicit, ErrorKind::Data, Restart::GiveUp),
            (&explicit, ErrorKind::Cancelled, Restart::GiveUp),
            (&Some(RestartStrategy::None), ErrorKind::Environment, Restart::GiveUp),
        ] {
            let mut policy = Policy::new(strategy.clone());
            assert_eq!(policy.on_failure(kind, S, 0), expected, "{strategy:?} {kind:?}");
        }
        assert!(!Policy::new(Some(RestartStrategy::None)).repairs && Policy::new(None).repairs);
    }

    #[test]
    fn tries_without_a_strategy_are_bounded() {
        let mut policy = Policy::new(None);
        let answers: Vec<_> =
            (0..=RETRIES).map(|_| policy.on_failure(ErrorKind::Environment, S, 0)).collect();
        assert_eq!(answers.iter().filter(|&&a| a != Restart::GiveUp).count(), RETRIES as usize);
        assert_eq!(answers.last(), Some(&Restart::GiveUp));
    }
}

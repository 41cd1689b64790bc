//! Schedule: which units of work may run, and which must run again, as a pure state machine.
//!
//! Place: the thread that runs the job asks what may start and tells what became of it. It owns no outputs: whether one
//! can still be read is a question to the caller.
//! Method: a unit is waiting, held back, running or done. It may start when every unit of every stage that its stage
//! reads from is done. What is lost makes its producer wait again, and with it, one after the other, the producers of
//! what that one reads, as far as their outputs are gone as well.
//! Invariants: a unit that waits can read its inputs once the stages before it are done. Attempts of a unit are
//! numbered without gaps, and only the last one counts. A producer is run again for damage at most
//! [`RERUNS_MAX`] times, so a schedule ends.

/// How often a unit whose output was damaged or missing is run again.
pub const RERUNS_MAX: u32 = 3;

/// One unit of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitId {
    /// Index of the stage.
    pub stage: usize,
    /// Index of the unit within it.
    pub unit: usize,
}

/// One try at a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The unit.
    pub id: UnitId,
    /// Its number, from 0.
    pub number: u32,
}

/// What an attempt that succeeded came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It counts.
    Counts {
        /// Its stage is complete with it.
        stage_complete: bool,
    },
    /// What it has read is not valid any more: the unit waits again.
    Stale,
}

/// A unit was to be run again more often than [`RERUNS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyReruns(pub UnitId);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// Until somebody says that it may be tried again.
    Held,
    Running,
    Done,
}

#[derive(Clone, Debug)]
struct Unit {
    state: State,
    /// Of the attempt that runs or is done, else of the next one.
    attempt: u32,
    /// For damage of what it left.
    reruns: u32,
    /// What its running attempt reads is not valid any more.
    stale: bool,
}

struct Stage {
    /// Stages that must be complete before a unit of this one starts.
    inputs: Vec<usize>,
    units: Vec<Unit>,
    done: usize,
    /// Attempts that were started.
    attempts: usize,
}

/// Progress of the stages of a job.
pub struct Schedule {
    stages: Vec<Stage>,
}

impl Schedule {
    /// A schedule for stages with their inputs and their numbers of units.
    pub fn new(stages: impl IntoIterator<Item = (Vec<usize>, usize)>) -> Schedule {
        let unit = Unit { state: State::Waiting, attempt: 0, reruns: 0, stale: false };
        let stages = stages
            .into_iter()
            .map(|(inputs, units)| Stage { inputs, units: vec![unit.clone(); units], done: 0, attempts: 0 })
            .collect();
        Schedule { stages }
    }

    fn unit(&mut self, id: UnitId) -> &mut Unit {
        &mut self.stages[id.stage].units[id.unit]
    }

    fn set(&mut self, id: UnitId, state: State) {
        let stage = &mut self.stages[id.stage];
        let was = std::mem::replace(&mut stage.units[id.unit].state, state);
        stage.done -= usize::from(was == State::Done);
        stage.done += usize::from(state == State::Done);
    }

    /// A process before this one has finished the unit with this attempt.
    pub fn was_done(&mut self, of: Attempt) {
        self.unit(of.id).attempt = of.number;
        self.set(of.id, State::Done);
    }

    /// A process before this one had finished the unit with this attempt, which does not count any more.
    pub fn was_tried(&mut self, of: Attempt) {
        self.unit(of.id).attempt = of.number + 1;
    }

    /// The attempts that can start now. Each is named once.
    pub fn start(&mut self) -> Vec<Attempt> {
        let mut ready = Vec::new();
        for stage in 0..self.stages.len() {
            let Stage { inputs, units, done, .. } = &self.stages[stage];
            if *done == units.len() || !inputs.iter().all(|&input| self.is_complete(input)) {
                continue;
            }
            let Stage { units, attempts, .. } = &mut self.stages[stage];
            for (unit, state) in units.iter_mut().enumerate().filter(|(_, u)| u.state == State::Waiting) {
                state.state = State::Running;
                *attempts += 1;
                ready.push(Attempt { id: UnitId { stage, unit }, number: state.attempt });
            }
        }
        ready
    }

    /// An attempt has succeeded.
    pub fn done(&mut self, id: UnitId) -> Done {
        if std::mem::take(&mut self.unit(id).stale) {
            self.again(id, State::Waiting);
            return Done::Stale;
        }
        self.set(id, State::Done);
        Done::Counts { stage_complete: self.is_complete(id.stage) }
    }

    /// An attempt has failed: the unit is held back until [`release`](Schedule::release).
    pub fn failed(&mut self, id: UnitId) {
        self.unit(id).stale = false;
        self.again(id, State::Held);
    }

    /// An attempt that was started has not begun: it waits again, and does not count.
    pub fn postponed(&mut self, id: UnitId) {
        self.unit(id).stale = false;
        self.set(id, State::Waiting);
        self.stages[id.stage].attempts -= 1;
    }

    /// A unit that was held back may be tried again.
    pub fn release(&mut self, id: UnitId) {
        if self.unit(id).state == State::Held {
            self.set(id, State::Waiting);
        }
    }

    fn again(&mut self, id: UnitId, state: State) {
        self.set(id, state);
        self.unit(id).attempt += 1;
    }

    /// What attempt `number` of a unit has left is damaged or missing. Returns the units that are run again for it: none
    /// if a later attempt has already taken its place. `is_gone(consumer, producer)` says whether what the one reads of
    /// the other cannot be read any more.
    pub fn lost(
        &mut self,
        of: Attempt,
        is_gone: impl Fn(UnitId, UnitId) -> bool,
    ) -> Result<Vec<UnitId>, TooManyReruns> {
        let unit = self.unit(of.id);
        if unit.state != State::Done || unit.attempt != of.number {
            return Ok(Vec::new());
        }
        if unit.reruns >= RERUNS_MAX {
            return Err(TooManyReruns(of.id));
        }
        unit.reruns += 1;
        Ok(self.run_again(vec![of.id], is_gone))
    }

    /// Whether what the running attempt of a unit reads is not valid any more.
    pub fn is_stale(&self, id: UnitId) -> bool {
        self.stages[id.stage].units[id.unit].stale
    }

    /// What these units have read has become something else. Returns the units that are run again for it now; one that
    /// is running is run again when it ends.
    pub fn changed(
        &mut self,
        consumers: impl IntoIterator<Item = UnitId>,
        is_gone: impl Fn(UnitId, UnitId) -> bool,
    ) -> Vec<UnitId> {
        let mut again = Vec::new();
        for id in consumers {
            let unit = self.unit(id);
            match unit.state {
                State::Running => unit.stale = true,
                State::Done => again.push(id),
                State::Waiting | State::Held => {}
            }
        }
        self.run_again(again, is_gone)
    }

    /// Has units that are done wait again, with the producers of what they cannot read any more.
    fn run_again(
        &mut self,
        mut pending: Vec<UnitId>,
        is_gone: impl Fn(UnitId, UnitId) -> bool,
    ) -> Vec<UnitId> {
        let mut again = Vec::new();
        while let Some(id) = pending.pop() {
            if self.unit(id).state != State::Done {
                continue;
            }
            self.again(id, State::Waiting);
            again.push(id);
            for &stage in &self.stages[id.stage].inputs {
                let producers = (0..self.stages[stage].units.len()).map(|unit| UnitId { stage, unit });
                pending.extend(producers.filter(|&producer| is_gone(id, producer)));
            }
        }
        again
    }

    /// Units that wait but cannot read what is done before them: only after a process before this one has left them so.
    /// Returns the producers that are run again for it.
    pub fn restore(&mut self, is_gone: impl Fn(UnitId, UnitId) -> bool) -> Vec<UnitId> {
        let mut pending = Vec::new();
        for (stage, consumer) in self.stages.iter().enumerate() {
            let waiting = consumer.units.iter().enumerate().filter(|(_, u)| u.state != State::Done);
            for (unit, _) in waiting {
                for &input in &consumer.inputs {
                    let producers =
                        (0..self.stages[input].units.len()).map(|unit| UnitId { stage: input, unit });
                    pending.extend(producers.filter(|&producer| is_gone(UnitId { stage, unit }, producer)));
                }
            }
        }
        self.run_again(pending, is_gone)
    }

    /// The last attempt of a unit that is done.
    pub fn done_attempt(&self, id: UnitId) -> Option<u32> {
        let unit = &self.stages[id.stage].units[id.unit];
        (unit.state == State::Done).then_some(unit.attempt)
    }

    /// Whether all units of a stage are done.
    pub fn is_complete(&self, stage: usize) -> bool {
        self.stages[stage].done == self.stages[stage].units.len()
    }

    /// Whether all stages are complete.
    pub fn is_finished(&self) -> bool {
        (0..self.stages.len()).all(|stage| self.is_complete(stage))
    }

    /// Complete stages, all stages, units done, all units.
    pub fn progress(&self) -> (usize, usize, usize, usize) {
        let complete = (0..self.stages.len()).filter(|&stage| self.is_complete(stage)).count();
        let done = self.stages.iter().map(|stage| stage.done).sum();
        let units = self.stages.iter().map(|stage| stage.units.len()).sum();
        (complete, self.stages.len(), done, units)
    }

    /// Whether a stage has started and is not complete.
    pub fn is_running(&self, stage: usize) -> bool {
        self.stages[stage].attempts > 0 && !self.is_complete(stage)
    }

    /// Attempts of a stage that were started.
    pub fn attempts(&self, stage: usize) -> usize {
        self.stages[stage].attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: Done = Done::Counts { stage_complete: false };
    const COMPLETE: Done = Done::Counts { stage_complete: true };

    fn id(stage: usize, unit: usize) -> UnitId {
        UnitId { stage, unit }
    }

    fn attempt(stage: usize, unit: usize, number: u32) -> Attempt {
        Attempt { id: id(stage, unit), number }
    }

    /// Runs whatever may start until nothing may; the attempts in their order.
    fn drain(schedule: &mut Schedule) -> Vec<(usize, usize, u32)> {
        let mut ran = Vec::new();
        loop {
            let started = schedule.start();
            if started.is_empty() {
                return ran;
            }
            for attempt in started {
                ran.push((attempt.id.stage, attempt.id.unit, attempt.number));
                schedule.done(attempt.id);
            }
        }
    }

    fn line() -> Schedule {
        Schedule::new([(vec![], 2), (vec![0], 2), (vec![1], 2)])
    }

    /// M3: a stage starts when its inputs are whole; independent stages start together.
    #[test]
    fn stages_wait_for_their_inputs() {
        let mut schedule = Schedule::new([(vec![], 2), (vec![], 1), (vec![0, 1], 2)]);
        let units = schedule.start();
        assert_eq!(units, [attempt(0, 0, 0), attempt(0, 1, 0), attempt(1, 0, 0)]);
        assert!(schedule.start().is_empty());
        assert_eq!(schedule.done(units[0].id), COUNTS);
        assert_eq!(schedule.done(units[1].id), COMPLETE);
        assert!(schedule.start().is_empty(), "stage 1 is not complete");
        assert_eq!(schedule.done(units[2].id), COMPLETE);
        assert_eq!(schedule.start(), [attempt(2, 0, 0), attempt(2, 1, 0)]);
        assert!(!schedule.is_finished() && schedule.is_running(2));
        assert_eq!(schedule.done(id(2, 0)), COUNTS);
        assert_eq!(schedule.done(id(2, 1)), COMPLETE);
        assert!(schedule.is_finished());
        assert_eq!(schedule.progress(), (3, 3, 5, 5));
    }

    /// M10: a unit that fails is tried alone, and only when it was released.
    #[test]
    fn a_unit_that_failed_is_held_back_and_tried_alone() {
        let mut schedule = line();
        schedule.start();
        schedule.done(id(0, 0));
        schedule.failed(id(0, 1));
        assert!(schedule.start().is_empty());
        schedule.release(id(0, 1));
        assert_eq!(schedule.start(), [attempt(0, 1, 1)]);
        assert_eq!(schedule.done(id(0, 1)), COMPLETE);
        assert_eq!(schedule.attempts(0), 3);
        assert_eq!(drain(&mut schedule), [(1, 0, 0), (1, 1, 0), (2, 0, 0), (2, 1, 0)]);
    }

    /// C13: what is lost runs its producer again, and before it the producers of what that one cannot read any more.
    /// Each row: which unit is lost, what is gone as (consumer, producer), and what runs again.
    #[test]
    fn what_is_lost_runs_again_with_what_it_needs() {
        type Row<'a> = (UnitId, &'a [(UnitId, UnitId)], &'a [(usize, usize, u32)]);
        let table: [Row<'_>; 4] = [
            (id(1, 0), &[], &[(1, 0, 1)]),
            (id(0, 1), &[], &[(0, 1, 1)]),
            (id(1, 0), &[(id(1, 0), id(0, 1))], &[(0, 1, 1), (1, 0, 1)]),
            (
                id(1, 1),
                &[(id(1, 1), id(0, 0)), (id(1, 1), id(0, 1)), (id(1, 0), id(0, 0))],
                &[(0, 0, 1), (0, 1, 1), (1, 1, 1)],
            ),
        ];
        for (lost, gone, expected) in table {
            let mut schedule = line();
            drain(&mut schedule);
            let is_gone = |consumer, producer| gone.contains(&(consumer, producer));
            let again = schedule.lost(Attempt { id: lost, number: 0 }, is_gone).unwrap();
            assert_eq!(again.len(), expected.len(), "{lost:?} {gone:?}");
            assert!(!schedule.is_finished());
            assert_eq!(drain(&mut schedule), expected, "{lost:?} {gone:?}");
            assert!(schedule.is_finished());
        }
    }

    /// A consumer may start only when the producer that is run again is done.
    #[test]
    fn consumers_wait_for_a_producer_that_is_run_again() {
        let mut schedule = line();
        schedule.start();
        schedule.done(id(0, 0));
        schedule.done(id(0, 1));
        schedule.start();
        schedule.failed(id(1, 0));
        schedule.release(id(1, 0));
        assert_eq!(schedule.lost(attempt(0, 1, 0), |_, _| false).unwrap(), [id(0, 1)]);
        assert_eq!(schedule.start(), [attempt(0, 1, 1)]);
        assert!(schedule.start().is_empty(), "stage 1 reads from it");
        schedule.done(id(0, 1));
        assert_eq!(schedule.start(), [attempt(1, 0, 1)]);
    }

    /// Several consumers report the same damage; it is repaired once.
    #[test]
    fn damage_of_an_attempt_that_was_replaced_is_no_news() {
        let mut schedule = line();
        drain(&mut schedule);
        assert_eq!(schedule.lost(attempt(0, 0, 0), |_, _| false).unwrap(), [id(0, 0)]);
        assert!(schedule.lost(attempt(0, 0, 0), |_, _| false).unwrap().is_empty(), "it waits");
        drain(&mut schedule);
        assert!(schedule.lost(attempt(0, 0, 0), |_, _| false).unwrap().is_empty(), "attempt 1 is there");
        assert_eq!(schedule.lost(attempt(0, 0, 1), |_, _| false).unwrap(), [id(0, 0)]);
    }

    /// What was started but has not begun may find that its input is gone: it waits with the others.
    #[test]
    fn an_attempt_that_has_not_begun_is_the_same_attempt_later() {
        let mut schedule = line();
        schedule.start();
        schedule.done(id(0, 0));
        schedule.done(id(0, 1));
        assert_eq!(schedule.start().len(), 2);
        schedule.failed(id(1, 0));
        schedule.lost(attempt(0, 0, 0), |_, _| false).unwrap();
        schedule.postponed(id(1, 1));
        schedule.release(id(1, 0));
        assert_eq!(schedule.start(), [attempt(0, 0, 1)]);
        assert!(schedule.start().is_empty());
        schedule.done(id(0, 0));
        assert_eq!(schedule.start(), [attempt(1, 0, 1), attempt(1, 1, 0)]);
        assert_eq!(schedule.attempts(1), 3);
    }

    /// T4: at most three times for each producer.
    #[test]
    fn damage_without_end_is_given_up() {
        let mut schedule = line();
        drain(&mut schedule);
        for number in 0..RERUNS_MAX {
            assert_eq!(schedule.lost(attempt(0, 0, number), |_, _| false).unwrap(), [id(0, 0)]);
            drain(&mut schedule);
        }
        assert_eq!(schedule.lost(attempt(0, 0, RERUNS_MAX), |_, _| false), Err(TooManyReruns(id(0, 0))));
        assert!(schedule.lost(attempt(0, 1, 0), |_, _| false).is_ok(), "another producer has its own count");
    }

    /// C13: consumers of what has become something else run again, those that run when they end.
    #[test]
    fn consumers_of_what_has_changed_run_again() {
        let mut schedule = line();
        schedule.start();
        schedule.done(id(0, 0));
        schedule.done(id(0, 1));
        schedule.start();
        schedule.done(id(1, 0));
        // (1, 0) is done, (1, 1) runs.
        assert_eq!(schedule.changed([id(1, 0), id(1, 1), id(2, 0)], |_, _| false), [id(1, 0)]);
        assert_eq!(schedule.start(), [attempt(1, 0, 1)]);
        assert_eq!(schedule.done(id(1, 1)), Done::Stale);
        assert_eq!(schedule.start(), [attempt(1, 1, 1)]);
        assert_eq!(schedule.done(id(1, 1)), COUNTS);
        assert_eq!(schedule.done(id(1, 0)), COMPLETE);
        assert_eq!(drain(&mut schedule), [(2, 0, 0), (2, 1, 0)]);
    }

    /// A stale attempt that fails is simply tried again.
    #[test]
    fn a_stale_attempt_may_fail() {
        let mut schedule = line();
        schedule.start();
        schedule.changed([id(0, 0)], |_, _| false);
        schedule.failed(id(0, 0));
        schedule.release(id(0, 0));
        assert_eq!(schedule.start(), [attempt(0, 0, 1)]);
        assert_eq!(schedule.done(id(0, 0)), COUNTS);
    }

    /// Resume: what is done is not run; what a unit that waits cannot read is.
    #[test]
    fn a_job_goes_on_where_it_was() {
        let mut schedule = line();
        for unit in [id(0, 0), id(0, 1), id(1, 0)] {
            schedule.was_done(Attempt { id: unit, number: 0 });
        }
        assert!(schedule.restore(|_, _| false).is_empty());
        assert_eq!(drain(&mut schedule), [(1, 1, 0), (2, 0, 0), (2, 1, 0)]);
        let mut schedule = line();
        for unit in [id(0, 0), id(0, 1), id(1, 0), id(1, 1), id(2, 0)] {
            schedule.was_done(Attempt { id: unit, number: 4 });
        }
        schedule.was_tried(attempt(2, 1, 1));
        // (2, 1) cannot read (1, 0), which cannot read (0, 1).
        let gone = [(id(2, 1), id(1, 0)), (id(1, 0), id(0, 1)), (id(1, 1), id(0, 0))];
        schedule.restore(|consumer, producer| gone.contains(&(consumer, producer)));
        assert_eq!(drain(&mut schedule), [(0, 1, 5), (1, 0, 5), (2, 1, 2)]);
    }
}

//! Schedule: which units of work may run, as a pure state machine.

/// Progress of the stages of a job.
pub struct Schedule {
    stages: Vec<Stage>,
}

struct Stage {
    /// Stages that must be complete before this one starts.
    waits_for: Vec<usize>,
    units: usize,
    started: bool,
    done: usize,
}

/// One unit of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitId {
    /// Index of the stage.
    pub stage: usize,
    /// Index of the unit within it.
    pub unit: usize,
}

impl Schedule {
    /// A schedule for stages with their inputs and their numbers of units.
    pub fn new(stages: impl IntoIterator<Item = (Vec<usize>, usize)>) -> Schedule {
        let stages = stages
            .into_iter()
            .map(|(waits_for, units)| Stage { waits_for, units, started: false, done: 0 })
            .collect();
        Schedule { stages }
    }

    /// The units of the stages that can start now. Each unit is named once.
    pub fn start(&mut self) -> Vec<UnitId> {
        let mut ready = Vec::new();
        for stage in 0..self.stages.len() {
            let inputs_complete = self.stages[stage].waits_for.iter().all(|&input| self.is_complete(input));
            if inputs_complete && !std::mem::replace(&mut self.stages[stage].started, true) {
                ready.extend((0..self.stages[stage].units).map(|unit| UnitId { stage, unit }));
            }
        }
        ready
    }

    /// A unit has succeeded. True if its stage is complete with it.
    pub fn done(&mut self, unit: UnitId) -> bool {
        self.stages[unit.stage].done += 1;
        self.is_complete(unit.stage)
    }

    fn is_complete(&self, stage: usize) -> bool {
        self.stages[stage].started && self.stages[stage].done == self.stages[stage].units
    }

    /// Whether all stages are complete.
    #[cfg(test)]
    pub fn is_finished(&self) -> bool {
        (0..self.stages.len()).all(|stage| self.is_complete(stage))
    }

    /// Complete stages, all stages, units done, all units.
    pub fn progress(&self) -> (usize, usize, usize, usize) {
        let complete = (0..self.stages.len()).filter(|&stage| self.is_complete(stage)).count();
        let done = self.stages.iter().map(|stage| stage.done).sum();
        let units = self.stages.iter().map(|stage| stage.units).sum();
        (complete, self.stages.len(), done, units)
    }

    /// Whether a stage has started and is not complete.
    pub fn is_running(&self, stage: usize) -> bool {
        self.stages[stage].started && !self.is_complete(stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M3: a stage starts when its inputs are whole; independent stages start together.
    #[test]
    fn stages_wait_for_their_inputs() {
        let mut schedule = Schedule::new([(vec![], 2), (vec![], 1), (vec![0, 1], 2)]);
        let units = schedule.start();
        assert_eq!(units.len(), 3);
        assert!(schedule.start().is_empty());
        assert!(!schedule.done(units[0]));
        assert!(schedule.done(units[1]));
        assert!(schedule.start().is_empty(), "stage 1 is not complete");
        assert!(schedule.done(units[2]));
        let units = schedule.start();
        assert_eq!(units, [UnitId { stage: 2, unit: 0 }, UnitId { stage: 2, unit: 1 }]);
        assert!(!schedule.is_finished() && schedule.is_running(2));
        units.into_iter().for_each(|unit| assert_eq!(schedule.done(unit), unit.unit == 1));
        assert!(schedule.is_finished());
        assert_eq!(schedule.progress(), (3, 3, 5, 5));
    }
}

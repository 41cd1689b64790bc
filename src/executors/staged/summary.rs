//! Summary: what a successful attempt of a unit has counted, kept apart until it is certain that it counts.
//!
//! Place: made by the unit, held by the thread that runs the job, which takes all of them in when the last stage is
//! complete; with a job directory it is a part of the unit's record.

use crate::base::accumulator::Accumulated;
use crate::base::error::Result;
use crate::executors::job::{JobEnvironment, StepMetrics};
use crate::plan::Task;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What one attempt has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    steps: Vec<StepNumbers>,
    /// What user code has accumulated.
    pub accumulated: Vec<Accumulated>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StepNumbers {
    step: u64,
    records_in: u64,
    records_out: u64,
    bytes_out: u64,
    /// Name, value and whether it is a peak.
    counters: Vec<(String, u64, bool)>,
}

impl Summary {
    /// The numbers of the steps of a task in one attempt.
    pub fn of(task: &Task, metrics: &[Arc<StepMetrics>]) -> Summary {
        let numbers = |&step: &usize| StepNumbers {
            step: step as u64,
            records_in: metrics[step].records_in.get(),
            records_out: metrics[step].records_out.get(),
            bytes_out: metrics[step].bytes_out.get(),
            counters: metrics[step].counters.snapshot(),
        };
        Summary { steps: task.steps.iter().map(numbers).collect(), accumulated: Vec::new() }
    }

    fn steps<'a>(
        &'a self,
        job: &'a JobEnvironment,
    ) -> impl Iterator<Item = (&'a StepNumbers, &'a StepMetrics)> {
        let metrics = |numbers: &StepNumbers| job.metrics.get(usize::try_from(numbers.step).ok()?);
        self.steps.iter().filter_map(move |numbers| Some((numbers, &**metrics(numbers)?)))
    }

    /// Counts records and bytes of an attempt of a process before this one.
    pub fn count(&self, job: &JobEnvironment) {
        for (numbers, total) in self.steps(job) {
            total.count(numbers.records_in, numbers.records_out, numbers.bytes_out);
        }
    }

    /// Takes back the records and bytes of an attempt that does not count.
    pub fn take_back(&self, job: &JobEnvironment) {
        for (numbers, total) in self.steps(job) {
            total.take_back(numbers.records_in, numbers.records_out, numbers.bytes_out);
        }
    }

    /// Takes in the rest of an attempt that counts: counters and accumulators.
    ///
    /// # Errors
    /// When code of an accumulator failed or panicked.
    pub fn take_in(&self, job: &JobEnvironment) -> Result<()> {
        for (numbers, total) in self.steps(job) {
            for (name, value, is_peak) in &numbers.counters {
                total.counters.counter(name).take_in(*value, *is_peak);
            }
        }
        job.accumulators.merge(&self.accumulated)
    }
}

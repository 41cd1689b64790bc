//! Report: what executors say about a job, while it runs and when it has ended. Plain data, shown by the api.

use crate::base::data::Timestamp;
use serde::{Serialize, Serializer};
use std::time::Duration;

/// Where a job is at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgressSnapshot {
    /// Since the start of the job, on its clock.
    pub elapsed: Duration,
    /// Records that the sources have emitted.
    pub records: u64,
    /// What depends on how the job is run.
    pub phase: ProgressPhase,
}

/// The part of a snapshot that depends on the execution mode.
#[derive(Clone, Debug, PartialEq)]
pub enum ProgressPhase {
    /// A staged run.
    Batch {
        /// Stages that are complete.
        stages_done: usize,
        /// Stages of the plan.
        stages_total: usize,
        /// Units of work of the running stages that are complete.
        units_done: usize,
        /// Units of work of the running stages.
        units_total: usize,
        /// The name of a running stage, or nothing.
        running: String,
    },
    /// A pipelined run.
    Streaming {
        /// The lowest watermark of the job.
        watermark: Timestamp,
    },
}

/// What one operator did, over all its subtasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OperatorStats {
    /// Its number in the plan.
    pub id: usize,
    /// Its name.
    pub name: String,
    /// Number of subtasks.
    pub parallelism: usize,
    /// The type of the operator that ran.
    pub operator_type: String,
    /// Records it received.
    pub records_in: u64,
    /// Records it emitted.
    pub records_out: u64,
    /// For a source that counts them, bytes read, after decompression; else the bytes out of the operators before it,
    /// for a broadcast once for each subtask.
    pub bytes_in: u64,
    /// Size of the records it emitted if they were encoded, estimated from samples.
    pub bytes_out: u64,
    /// Time spent working, summed over subtasks. Operators that run together as one chain or stage all show the
    /// times of the whole.
    #[serde(rename = "busy_seconds", serialize_with = "seconds")]
    pub busy: Duration,
    /// Time spent waiting for input or a turn, summed over subtasks; a unit of work of a batch only counts waiting
    /// for a source.
    #[serde(rename = "idle_seconds", serialize_with = "seconds")]
    pub idle: Duration,
    /// Time spent waiting for room in an output, summed over subtasks.
    #[serde(rename = "backpressured_seconds", serialize_with = "seconds")]
    pub backpressured: Duration,
    /// The longest time that a subtask was in one step, in which it does nothing else. That of its chain, as for the times
    /// above; 0 for a batch.
    #[serde(rename = "longest_step_seconds", serialize_with = "seconds")]
    pub longest_step: Duration,
    /// What the operator counted beyond that, by name.
    #[serde(serialize_with = "as_map")]
    pub counters: Vec<(String, u64)>,
}

/// What one stage did, over all its units of work.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StageStats {
    /// Its number in the plan.
    pub id: usize,
    /// Its name.
    pub name: String,
    /// The names of its operators.
    pub operators: Vec<String>,
    /// Units of work that it was divided into.
    pub units: usize,
    /// Units that were run, including those that were run again.
    pub attempts: usize,
    /// From the start of its first unit to the end of its last.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// Rows it wrote for later stages.
    pub shuffle_rows: u64,
    /// Bytes it wrote for later stages.
    pub shuffle_bytes: u64,
    /// Rows of the largest partition that it wrote against the mean of all: 1 is even, the number of partitions is all
    /// in one; 0 if it wrote none.
    pub skew: f64,
    /// Bytes it wrote to disk because memory did not suffice.
    pub spilled_bytes: u64,
    /// How often it did that.
    pub spills: u64,
    /// Records it emitted.
    pub records_out: u64,
}

impl StageStats {
    /// Attempts beyond one for each unit.
    pub fn retries(&self) -> usize {
        self.attempts.saturating_sub(self.units)
    }
}

/// A duration as a number of seconds.
pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn as_map<S: Serializer>(counters: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counters.iter().map(|(name, value)| (name, value)))
}

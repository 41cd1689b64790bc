//! Context: what an executor hands to an operator; the only place where the executors differ for it.

use crate::base::accumulator::{Accumulator, AccumulatorHandle, LocalAccumulators};
use crate::base::clock::Clock;
use crate::base::data::{Timestamp, WATERMARK_MIN};
use crate::base::error::Result;
use crate::base::hash::{key_group, subtask_of_group};
use crate::base::metrics::Counters;
use crate::base::mutant;
use crate::base::parameters::Parameters;
use crate::semantics::state::StateScope;
use crate::services::shuffle::ShuffleContext;
use std::sync::Arc;
use std::time::Duration;

/// What user code may know about the subtask it runs in.
#[derive(Clone)]
pub struct RuntimeContext {
    pub(crate) job: Arc<JobContext>,
    pub(crate) operator: Arc<str>,
    pub(crate) subtask: usize,
    pub(crate) parallelism: usize,
    pub(crate) max_parallelism: usize,
    pub(crate) unit: usize,
    pub(crate) attempt: usize,
    pub(crate) counters: Counters,
    pub(crate) accumulators: LocalAccumulators,
}

/// What all subtasks of a job share.
pub struct JobContext {
    /// Name given to `execute`.
    pub name: String,
    /// Unique id of this execution.
    pub id: String,
    /// What the program was given beside the engine's options.
    pub parameters: Parameters,
    /// Time between periodic watermarks.
    pub auto_watermark_interval: Duration,
}

impl RuntimeContext {
    /// Name of the job.
    pub fn job_name(&self) -> &str {
        &self.job.name
    }
    /// Id of this execution of the job.
    pub fn job_id(&self) -> &str {
        &self.job.id
    }
    /// Name of the operator.
    pub fn operator_name(&self) -> &str {
        &self.operator
    }
    /// Index of this subtask, from 0 to `parallelism() - 1`.
    pub fn subtask_index(&self) -> usize {
        self.subtask
    }
    /// Number of subtasks of the operator.
    pub fn parallelism(&self) -> usize {
        self.parallelism
    }
    /// Number of key groups.
    pub fn max_parallelism(&self) -> usize {
        self.max_parallelism
    }
    /// Whether records whose key has this hash come to this subtask.
    pub(crate) fn owns(&self, hash: u64) -> bool {
        let group = key_group(hash, self.max_parallelism);
        if mutant::is("key_group_lost") && group == 1 {
            return false;
        }
        subtask_of_group(group, self.parallelism, self.max_parallelism) == self.subtask
    }
    /// Number of this attempt, from 0.
    pub fn attempt(&self) -> usize {
        self.attempt
    }
    /// The parameters of the job.
    pub fn parameters(&self) -> &Parameters {
        &self.job.parameters
    }
    /// A named accumulator, merged over all subtasks and read from the job's result. Call it in `open` and keep
    /// the handle. What an attempt accumulated counts when the attempt succeeds.
    ///
    /// # Errors
    /// If the name is already that of an accumulator of another type.
    pub fn accumulator<A: Accumulator>(&self, name: &str) -> Result<AccumulatorHandle<A>> {
        self.accumulators.local(name)
    }
    /// A named counter of this operator, shown in the job's result.
    pub fn counter(&self, name: &str) -> crate::base::metrics::Counter {
        self.counters.counter(name)
    }
}

/// What an operator gets with each call.
pub struct Context {
    /// The subtask.
    pub runtime: RuntimeContext,
    /// The watermark of all inputs together.
    pub watermark: Timestamp,
    /// Whether records of all keys come interleaved, or key by key.
    pub state_scope: StateScope,
    /// Bytes that the operator may hold in tables of its own.
    pub memory_bytes: u64,
    /// Where such a table goes when it has grown too large.
    pub spill: Option<ShuffleContext>,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// In a call of [`processing_time`](super::Operator::processing_time): whether nothing waits to be read. What is not
    /// read for want of room in an output is not missing.
    pub input_is_empty: bool,
}

impl Context {
    /// A context before the first record.
    pub fn new(
        runtime: RuntimeContext,
        state_scope: StateScope,
        memory_bytes: u64,
        spill: Option<ShuffleContext>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Context {
            runtime,
            watermark: WATERMARK_MIN,
            state_scope,
            memory_bytes,
            spill,
            clock,
            input_is_empty: false,
        }
    }
}

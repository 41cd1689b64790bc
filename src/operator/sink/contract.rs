//! Sink contract: a writer for each subtask, and one commit when the whole job has succeeded.
//!
//! Place: [`Sink::prepare`], [`Sink::commit`] and [`Sink::abort`] run once on the client's thread, before and
//! after the subtasks; writers live in the subtasks.
//! Invariants: nothing a writer writes is visible before `commit`; `commit` may be repeated; after `abort`
//! nothing of the job is left.

use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::Result;
use crate::base::metrics::Counters;
use crate::base::vfs::SharedVfs;

/// Takes records out of the job.
pub trait Sink<T>: Send + Sync + 'static {
    /// What a writer hands to the commit, for example the hidden name of a finished file.
    type Committable: Data;
    /// Writes the records of one attempt of one subtask.
    type Writer: SinkWriter<T, Committable = Self::Committable>;

    /// What the plan shows, for example `csv out/`.
    fn describe(&self) -> String;
    /// Checks and prepares the target. Called once, before anything runs; not if the job is
    /// [`committing`](SinkContext::committing).
    fn prepare(&self, _ctx: &SinkContext) -> Result<()> {
        Ok(())
    }
    /// A writer for one attempt of one subtask.
    fn writer(&self, ctx: &SinkContext) -> Result<Self::Writer>;
    /// Makes visible what the successful attempts wrote. Called once all subtasks have finished.
    fn commit(&self, committables: Vec<Self::Committable>, ctx: &SinkContext) -> Result<()>;
    /// Whether another process can commit what the writers of this one have handed over, so that a job that is resumed
    /// need not write it again.
    fn outlives_process(&self) -> bool {
        true
    }
    /// Whether what a writer of a process before this one has handed over is still there. If not it is written again.
    fn is_intact(&self, _committable: &Self::Committable, _ctx: &SinkContext) -> Result<bool> {
        Ok(true)
    }
    /// Lets go of a job that did not succeed but may be resumed: what was written stays for the next process.
    fn suspend(&self, _ctx: &SinkContext) -> Result<()> {
        Ok(())
    }
    /// Removes all traces of a job that failed or was cancelled.
    fn abort(&self, _ctx: &SinkContext) -> Result<()> {
        Ok(())
    }
}

/// Writes the records of one attempt of one subtask. Dropped without `finish` when the attempt fails.
pub trait SinkWriter<T>: Send {
    /// What `finish` hands to the commit.
    type Committable: Data;
    /// Takes all records out of `batch`.
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()>;
    /// While this is true the executor hands in nothing and asks again soon. It may be given one more batch
    /// and must take it: the answer can be out of date when several writers share a queue.
    fn is_blocked(&self) -> bool {
        false
    }
    /// Called when the input runs idle: whatever a person may be waiting for goes out.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    /// The input has ended: writes the rest.
    fn finish(&mut self) -> Result<Vec<Self::Committable>>;
}

/// What a sink may know and use.
#[derive(Clone)]
pub struct SinkContext {
    /// The job's id: unique, fit for a file name.
    pub job_id: String,
    /// Index of the subtask (0 on the client's thread).
    pub subtask: usize,
    /// Number of subtasks.
    pub parallelism: usize,
    /// Number of the unit of work within the subtask: always 0 in STREAMING, the hash-range partition in BATCH.
    pub unit: usize,
    /// Number of the attempt, from 0.
    pub attempt: usize,
    /// Whether each attempt is given all records of its unit from the first one on, as in BATCH.
    pub from_start: bool,
    /// Whether a process before this one has begun to commit this job: its target is prepared, or it may be there
    /// already.
    pub committing: bool,
    /// The file system.
    pub vfs: SharedVfs,
    /// Counters of the operator, shown in the job's result.
    pub counters: Counters,
}

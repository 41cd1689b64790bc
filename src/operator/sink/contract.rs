//! Sink contract, in two parts: a writer for each subtask, and a committer, which is the sink itself.
//!
//! Place: [`Sink::prepare`] and all that commits or removes run on the job's thread; writers live in the subtasks. Both
//! modes keep the same contract and differ in when they commit: at the end of the job, or, where the job takes
//! checkpoints, after each of them and at the end.
//! Invariants: nothing that a writer writes is visible before it is committed, unless the sink says otherwise; a
//! committable may be committed again, by another process too, and has then been committed once; after `abort`
//! nothing of the job is left that was not committed.
//!
//! ```text
//! barrier n      writer   prepare_commit -> committables, snapshot -> state; both go into checkpoint n. Of a savepoint
//!                         there should be nothing in the state that is only in the target and not committed
//! n is durable   sink     commit(committables of n)            may fail, or be cut short by a crash
//! after a crash  sink     recover(committables and state of n) commits again, removes what is younger than n
//!                writer   restore(state)                       a new writer, of a new attempt
//! end of input   writer   prepare_commit(End), snapshot        go into the last checkpoint
//! job has ended  sink     commit(the rest), finish
//! ```

use super::states::WriterStates;
use crate::base::batch::{Barrier, Batch};
use crate::base::clock::Clock;
use crate::base::data::{Data, Timestamp};
use crate::base::error::Result;
use crate::base::metrics::Counters;
use crate::base::vfs::SharedVfs;
use crate::semantics::state::Section;
use std::sync::Arc;

/// Takes records out of the job: makes writers, and commits what they prepare.
pub trait Sink<T>: Send + Sync + 'static {
    /// What a writer hands to the commit, for example the hidden name of a finished file.
    type Committable: Data;
    /// Writes the records of one attempt of one subtask.
    type Writer: SinkWriter<T, Committable = Self::Committable>;

    /// What the plan shows, for example `csv out/`.
    fn describe(&self) -> String;
    /// Checks and prepares the target. Called once for each process that runs the job, before anything runs; not if the
    /// job is [`committing`](SinkContext::committing).
    fn prepare(&self, _ctx: &SinkContext) -> Result<()> {
        Ok(())
    }
    /// A writer for one attempt of one subtask.
    fn writer(&self, ctx: &SinkContext) -> Result<Self::Writer>;
    /// Makes visible what writers have prepared: in a job without checkpoints once, with all there is, and with
    /// checkpoints whenever there is something. What was committed before must be found to be so.
    fn commit(&self, _committables: Vec<Self::Committable>, _ctx: &SinkContext) -> Result<()> {
        Ok(())
    }
    /// Before an attempt goes on from a checkpoint: commits again what the checkpoint holds and removes what was
    /// written after it. Where there is no checkpoint yet an attempt starts from the beginning, and `recovered` is empty.
    fn recover(&self, recovered: Recovered<'_, Self::Committable>, ctx: &SinkContext) -> Result<()> {
        match recovered.committables.is_empty() {
            true => Ok(()),
            false => self.commit(recovered.committables, ctx),
        }
    }
    /// The job has succeeded and everything is committed: lets go of what the sink holds.
    fn finish(&self, _ctx: &SinkContext) -> Result<()> {
        Ok(())
    }
    /// The job has ended before its end, and a checkpoint or a job directory is kept from which it may go on: lets go of
    /// what the sink holds, and leaves in place what these may refer to.
    fn suspend(&self, _ctx: &SinkContext) -> Result<()> {
        Ok(())
    }
    /// Whether another process can commit what the writers of this one have handed over, so that a batch that is resumed
    /// need not write it again.
    fn outlives_process(&self) -> bool {
        true
    }
    /// Whether what a writer of a process before this one has handed over is still there. If not, a batch that is resumed
    /// writes it again.
    fn is_intact(&self, _committable: &Self::Committable, _ctx: &SinkContext) -> Result<bool> {
        Ok(true)
    }
    /// Removes all traces of a job that failed or was cancelled and cannot be resumed.
    fn abort(&self, _ctx: &SinkContext) -> Result<()> {
        Ok(())
    }
}

/// Writes the records of one attempt of one subtask. Dropped before its end when the attempt fails.
pub trait SinkWriter<T>: Send {
    /// What `prepare_commit` hands to the commit.
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
    /// Makes durable what was written so far, and hands over what of it is to become visible; what it does not hand
    /// over it must keep in its [`snapshot`](Self::snapshot). A writer that buffers, counts or opens anything must
    /// implement this. After an error the attempt has failed.
    fn prepare_commit(&mut self, _at: CommitPoint) -> Result<Vec<Self::Committable>> {
        Ok(Vec::new())
    }
    /// Puts what a writer of a later attempt needs to go on, in any number of entries; called after `prepare_commit`.
    fn snapshot(&mut self, _states: &mut Section) -> Result<()> {
        Ok(())
    }
    /// Takes up what writers kept, before anything is written. If there were more or fewer subtasks it may be the
    /// entries of several writers, or of none; each entry comes to one writer.
    fn restore(&mut self, _states: &WriterStates<'_>) -> Result<()> {
        Ok(())
    }
    /// The processing time at which [`processing_time`](Self::processing_time) is to be called.
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    /// The clock has reached [`next_timer`](Self::next_timer). Not in BATCH.
    fn processing_time(&mut self, _now: Timestamp) -> Result<()> {
        Ok(())
    }
}

/// Why a writer is asked to prepare a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPoint {
    /// The barrier of a checkpoint has come; more records will.
    Barrier(Barrier),
    /// The input has ended.
    End,
}

/// What a sink finds in the checkpoint that an attempt goes on from.
pub struct Recovered<'a, C> {
    /// What was prepared and, when the checkpoint was taken, was not known to be committed, in the order in which it was
    /// prepared.
    pub committables: Vec<C>,
    /// Whether all of them have been committed since, though perhaps not to where the sink writes now: so it is for a
    /// savepoint, which is complete only after that.
    pub committed: bool,
    /// What the writers kept.
    pub states: WriterStates<'a>,
}

/// What a sink may know and use.
#[derive(Clone)]
pub struct SinkContext {
    /// The job's id: unique, fit for a file name, the same for all attempts of one process.
    pub job_id: String,
    /// Index of the subtask (0 on the job's thread).
    pub subtask: usize,
    /// Number of subtasks.
    pub parallelism: usize,
    /// Number of the unit of work within the subtask: always 0 in STREAMING, the hash-range partition in BATCH.
    pub unit: usize,
    /// Number of the attempt, from 0.
    pub attempt: usize,
    /// Whether the job commits by checkpoint; otherwise once, at its end.
    pub checkpoints: bool,
    /// Whether the process goes on with a job that another one has begun: [`Sink::recover`] will tell from where.
    pub restored: bool,
    /// Whether output that became visible after the checkpoint that [`Sink::recover`] goes back to may be taken back, as the
    /// user has said; otherwise it must refuse to go back.
    pub rollback: bool,
    /// Whether each attempt is given all records of its unit from the first one on, as in BATCH.
    pub from_start: bool,
    /// Whether a process before this one has begun to commit this job at its end: its target is prepared, or it may be
    /// there already.
    pub committing: bool,
    /// Whether another process may go on with the job if this one does not succeed: it will ask whether what was handed over
    /// [is intact](Sink::is_intact).
    pub resumable: bool,
    /// The number of this process among those that have gone on with the job from its directory; 0 where none can. With the attempt it
    /// tells writers of one unit apart: one that hangs in user code may end long after another process has gone on.
    pub process: u64,
    /// The file system.
    pub vfs: SharedVfs,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// Counters of the operator, shown in the job's result.
    pub counters: Counters,
}

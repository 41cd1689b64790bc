//! JobClient: a job from the side of who has started it.

use super::handle::JobHandle;
use super::report::JobReport;
use super::result::JobResult;
use crate::base::config::ExecutionMode;
use crate::base::error::{Error, Result};
use crate::executors::job::Cancellation;
use crate::plan::PhysicalPlan;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobStatus {
    /// Its subtasks run.
    Running,
    /// It succeeded: all output is visible.
    Finished,
    /// It failed: none of its output is visible but what checkpoints have committed.
    Failed,
    /// It was cancelled: none of its output is visible.
    Cancelled,
    /// It was asked to stop and has: all output up to there is visible, and it can go on from its last checkpoint.
    Stopped,
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JobStatus::Running => "running",
            JobStatus::Finished => "finished",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
            JobStatus::Stopped => "stopped",
        })
    }
}

/// A job that was started: a handle from the client's side. Dropping it leaves the job running, and nobody learns how
/// it ends.
///
/// ```
/// # use mainstem::prelude::*;
/// let env = Environment::new().execution_mode(ExecutionMode::Streaming);
/// env.read(Generate::unbounded(|i| i)).sink_to(DiscardSink);
/// let job = env.execute_async("endless")?;
/// job.cancel();
/// assert!(matches!(job.result(), Err(mainstem::Error::Cancelled)));
/// # Ok::<(), mainstem::Error>(())
/// ```
#[must_use = "the outcome of the job is in `result`"]
pub struct JobClient {
    id: String,
    /// None if there was nothing to run.
    handle: Option<JobHandle>,
    outcome: Outcome,
    thread: Option<JoinHandle<()>>,
}

/// What a job came to, once it has ended.
pub(super) type Outcome = Arc<Mutex<Option<Result<JobResult>>>>;

impl JobClient {
    /// Of a job that runs on a thread.
    pub(super) fn new(handle: JobHandle, outcome: Outcome, thread: JoinHandle<()>) -> JobClient {
        JobClient { id: handle.id().to_string(), handle: Some(handle), outcome, thread: Some(thread) }
    }

    /// A job whose plan was shown and that has nothing left to do.
    pub(super) fn explained(name: &str, mode: ExecutionMode) -> JobClient {
        let result = JobResult { job_name: name.to_string(), mode, explained: true, ..JobResult::default() };
        let outcome = Arc::new(Mutex::new(Some(Ok(result))));
        JobClient { id: String::new(), handle: None, outcome, thread: None }
    }

    fn handle(&self) -> Result<&JobHandle> {
        self.handle.as_ref().ok_or_else(|| {
            Error::config("no job was started: the plan was explained, or there was nothing left to do")
        })
    }

    /// A job that a process before this one has finished.
    pub(super) fn finished(name: &str, id: String, plan: &PhysicalPlan) -> JobClient {
        let result = JobResult {
            job_name: name.to_string(),
            job_id: id.clone(),
            mode: plan.mode,
            parallelism: plan.parallelism,
            ..JobResult::default()
        };
        JobClient {
            id,
            outcome: Arc::new(Mutex::new(Some(Ok(result)))),
            ..JobClient::explained(name, plan.mode)
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.thread.is_some()
    }

    /// The id of this execution: unique, fit for a file name. Empty if the plan was only explained.
    pub fn id(&self) -> &str {
        &self.id
    }
    /// What the job is doing. Once it is not [`Running`](JobStatus::Running), [`result`](JobClient::result) returns
    /// at once.
    pub fn status(&self) -> JobStatus {
        self.handle.as_ref().map_or(JobStatus::Finished, JobHandle::status)
    }
    /// How far the job is: records, rates, watermarks, where its time goes, checkpoints. Rates are those since the last
    /// report, if it is more than a second old.
    ///
    /// # Errors
    /// If the plan was only explained.
    pub fn report(&self) -> Result<JobReport> {
        Ok(self.handle()?.report())
    }
    /// Asks the job to stop. It ends within about a second; [`result`](JobClient::result) is then
    /// [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.cancellation().cancel();
    }
    /// A handle that cancels the job from elsewhere, for example a signal handler.
    pub fn cancellation(&self) -> Cancellation {
        self.handle.as_ref().map(|handle| handle.cancellation().clone()).unwrap_or_default()
    }
    /// Takes a checkpoint now and waits until it is complete; its number.
    ///
    /// # Errors
    /// If it fails, or the job takes no checkpoints or ends before.
    pub fn checkpoint_now(&self) -> Result<u64> {
        self.handle()?.checkpoint()
    }
    /// Asks the job to stop with all of its output committed. Either its sources stop, and the job ends when a
    /// checkpoint at that place is complete, from which it can go on later; or, to `drain` it, its sources end as if there
    /// were no more input, so that windows and timers fire. Does not wait: [`result`](JobClient::result) does. If the
    /// checkpoint fails, and that is tolerated, the job goes on; after a restart it stops.
    ///
    /// # Errors
    /// If the job takes no checkpoints or has ended.
    pub fn stop(&self, drain: bool) -> Result<()> {
        self.handle()?.stop(drain)
    }
    /// Writes a savepoint and waits until it is complete; the job goes on meanwhile. A savepoint belongs to you: it needs nothing
    /// but itself, stays where it is, and a later version of the program can go on from it
    /// ([`restore`](super::Environment::restore)), at another parallelism too. `dir` is a directory that is empty or not there
    /// yet; what it holds then any Parquet tool reads, see [`savepoint`](crate::services::savepoint).
    ///
    /// # Errors
    /// If the job takes no checkpoints, fails to take one, or ends before; if the savepoint cannot be written.
    pub fn savepoint(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.handle()?.savepoint(dir.as_ref())
    }
    /// [Stops](JobClient::stop) the job and writes a [savepoint](JobClient::savepoint) of where it stopped. Waits until the job has
    /// ended.
    ///
    /// # Errors
    /// If the job takes no checkpoints, or ends otherwise; if the savepoint cannot be written: then the job has stopped, and
    /// can go on from its last checkpoint.
    pub fn stop_with_savepoint(&self, dir: impl AsRef<Path>, drain: bool) -> Result<()> {
        self.handle()?.stop_with_savepoint(dir.as_ref(), drain)
    }
    /// Waits for the end of the job.
    ///
    /// # Errors
    /// The first failure of the job, or [`Error::Cancelled`].
    pub fn result(mut self) -> Result<JobResult> {
        if let Some(thread) = self.thread.take()
            && let Err(payload) = thread.join()
        {
            return Err(Error::Internal(format!("the job's thread failed: {}", Error::panic(payload))));
        }
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.unwrap_or_else(|| Err(Error::Internal("the job ended without a result".into())))
    }
}

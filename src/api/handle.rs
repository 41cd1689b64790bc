//! JobHandle: what a running job is asked through, by its client and by whoever reaches its control socket.

use super::JobStatus;
use super::report::{CheckpointReport, JobReport, Observer};
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::executors::job::{Cancellation, JobEnvironment};
use crate::executors::pipelined::control::Control;
use crate::executors::pipelined::savepoints::Savepoints;
use crate::plan::PhysicalPlan;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often somebody who waits for the end looks whether the job goes on instead.
const LOOK: Duration = Duration::from_millis(20);

/// A handle to a job. Cloning gives another one to the same.
#[derive(Clone)]
pub(super) struct JobHandle(Arc<Inner>);

struct Inner {
    id: String,
    name: String,
    cancellation: Cancellation,
    status: Mutex<JobStatus>,
    ended: Condvar,
    observer: Observer,
    control: Control,
    clock: Arc<dyn Clock>,
    /// None if the job takes no checkpoints.
    savepoints: Option<Savepoints>,
    stopping: Mutex<Stopping>,
}

/// The savepoint that a job stops with.
#[derive(Default)]
struct Stopping {
    asked: Option<PathBuf>,
    outcome: Option<Result<()>>,
}

impl JobHandle {
    /// For a job that is about to run.
    pub(super) fn new(
        plan: Arc<PhysicalPlan>,
        job: &JobEnvironment,
        control: Control,
        savepoints: Option<Savepoints>,
    ) -> JobHandle {
        JobHandle(Arc::new(Inner {
            id: job.context.id.clone(),
            name: job.context.name.clone(),
            cancellation: job.cancellation.clone(),
            status: Mutex::new(JobStatus::Running),
            ended: Condvar::new(),
            observer: Observer::new(plan, job),
            control,
            clock: job.clock.clone(),
            savepoints,
            stopping: Mutex::default(),
        }))
    }

    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn status(&self) -> JobStatus {
        *self.0.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cancellation(&self) -> &Cancellation {
        &self.0.cancellation
    }

    /// The job has ended.
    pub(super) fn end(&self, status: JobStatus) {
        *self.0.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
        self.0.ended.notify_all();
    }

    /// Waits for the end.
    pub(super) fn wait(&self) {
        let status = self.0.status.lock().unwrap_or_else(PoisonError::into_inner);
        let running = |status: &mut JobStatus| *status == JobStatus::Running;
        drop(self.0.ended.wait_while(status, running));
    }

    /// Waits for the end for some time; whether it has come.
    fn wait_for(&self, time: Duration) -> bool {
        let status = self.0.status.lock().unwrap_or_else(PoisonError::into_inner);
        let running = |status: &mut JobStatus| *status == JobStatus::Running;
        let waited =
            self.0.ended.wait_timeout_while(status, time, running).unwrap_or_else(PoisonError::into_inner);
        *waited.0 != JobStatus::Running
    }

    /// Remembers how far the job is, for rates.
    pub(super) fn look(&self) {
        self.0.observer.look();
    }

    pub(super) fn report(&self) -> JobReport {
        let Inner { id, name, observer, control, .. } = &*self.0;
        JobReport {
            job_id: id.clone(),
            job_name: name.clone(),
            mode: observer.mode(),
            status: self.status(),
            running_seconds: observer.elapsed().as_secs_f64(),
            operators: observer.operators(),
            checkpoints: control.checkpoints().as_ref().map(CheckpointReport::from),
        }
    }

    pub(super) fn checkpoint(&self) -> Result<u64> {
        self.0.control.checkpoint()
    }

    pub(super) fn stop(&self, drain: bool) -> Result<()> {
        self.0.control.stop(drain)
    }

    fn savepoints(&self) -> Result<&Savepoints> {
        self.0.savepoints.as_ref().ok_or_else(|| {
            Error::config(
                "the job takes no checkpoints, and savepoints are made from them; give it a job-dir, or a \
                 checkpoint-interval with checkpoint-storage memory",
            )
        })
    }

    /// Writes a savepoint; the job goes on.
    pub(super) fn savepoint(&self, dir: &Path) -> Result<()> {
        let savepoints = self.savepoints()?;
        savepoints.prepare(dir)?;
        let checkpoint = self.0.control.savepoint()?;
        savepoints.write(checkpoint, dir, self.0.clock.now_ms())
    }

    /// Stops, and waits until the job has ended.
    pub(super) fn stop_and_wait(&self, drain: bool) -> Result<()> {
        let failed_before = self.0.control.stops_failed();
        self.0.control.stop(drain)?;
        self.wait_stopped(failed_before)
    }

    /// Waits for the end, or for the failure of the checkpoint to stop behind.
    fn wait_stopped(&self, failed_before: u64) -> Result<()> {
        while !self.wait_for(LOOK) {
            if self.0.control.stops_failed() > failed_before {
                return Err(Error::config(
                    "the checkpoint to stop behind has failed, and the job goes on; stop it again",
                ));
            }
        }
        Ok(())
    }

    /// Stops with a savepoint, and waits until the job has ended and the savepoint is complete.
    pub(super) fn stop_with_savepoint(&self, dir: &Path, drain: bool) -> Result<()> {
        self.savepoints()?.prepare(dir)?;
        let failed_before = self.0.control.stops_failed();
        {
            let mut stopping = self.lock_stopping();
            if let Some(other) = &stopping.asked {
                let other = other.display();
                return Err(Error::config(format!("the job is stopping already, with savepoint '{other}'")));
            }
            self.0.control.stop(drain)?;
            stopping.asked = Some(dir.to_path_buf());
        }
        self.wait_stopped(failed_before).inspect_err(|_| self.lock_stopping().asked = None)?;
        let ended =
            format!("the job has ended before it could stop with a savepoint: it is {}", self.status());
        self.lock_stopping().outcome.take().unwrap_or_else(|| Err(Error::config(ended)))
    }

    /// The job has stopped behind a checkpoint: writes the savepoint it was to stop with. On the job's thread, so that the process
    /// does not end before it is complete.
    pub(super) fn stopped_behind(&self, checkpoint: u64) {
        let Some(dir) = self.lock_stopping().asked.clone() else { return };
        let written = self.savepoints().and_then(|of| of.write(checkpoint, &dir, self.0.clock.now_ms()));
        if let Err(error) = &written {
            tracing::error!(%error, checkpoint, "the job has stopped, and its savepoint could not be written");
        }
        self.lock_stopping().outcome = Some(written);
    }

    fn lock_stopping(&self) -> MutexGuard<'_, Stopping> {
        self.0.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

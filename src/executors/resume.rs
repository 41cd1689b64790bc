//! ResumableJob: what a job in a job directory is, and how far it came, for the process after this one.
//!
//! Place: opened on the client's thread before sources start; the staged executor writes its finished units beside it.
//! Method: the file `job` holds the id of the job, its facts (plan, settings, arguments, executable, inputs) and its state. A
//! process that resumes it has collected its own facts and refuses at the first that differs.
//!
//! What sinks are to commit is in it from `Committing` on, so that the commit needs nothing else that may be lost.
//!
//! ```text
//! Running ----all stages complete----> Committing ----all sinks committed----> Finished
//! ```
//!
//! Invariants: the file is durable before the first unit runs and before the first sink commits, so that what was committed
//! is never run again.

use crate::base::error::{Error, Result};
use crate::executors::job::JobEnvironment;
use crate::executors::staged::Summary;
use crate::services::job_dir::{Durability, FileKind, JobDirectory};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};

const FILE: &str = "job";
const KIND: FileKind = FileKind(*b"JOB1");
/// The fact that may differ if the user says so.
pub const EXECUTABLE: &str = "executable";

/// What a job is: names and texts, in a fixed order.
pub type Facts = Vec<(String, String)>;

/// How far a job came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Its units run.
    Running,
    /// All units are done; sinks may have committed.
    Committing,
    /// All sinks have committed.
    Finished,
}

/// What is to be committed, and what the units have counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CommitRecord {
    /// Step, subtask and unit, and what the writer has handed over.
    sinks: Vec<(u64, u64, u64, Vec<u8>)>,
    /// Of all units.
    summaries: Vec<Summary>,
}

impl CommitRecord {
    /// What the sinks of a job have been handed.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn of(job: &JobEnvironment, summaries: Vec<Summary>) -> Result<CommitRecord> {
        let mut sinks = Vec::new();
        for (&step, sink) in job.sinks.iter() {
            for (subtask, unit) in sink.places() {
                if let Some(handed_over) = sink.handed_over((subtask, unit))? {
                    sinks.push((step as u64, subtask as u64, unit as u64, handed_over));
                }
            }
        }
        Ok(CommitRecord { sinks, summaries })
    }

    /// Hands it to the sinks of a process that resumes the job.
    ///
    /// # Errors
    /// When something of it is gone.
    pub fn hand_over(&self, job: &JobEnvironment) -> Result<()> {
        for (step, subtask, unit, handed_over) in &self.sinks {
            let sink = job.sinks.get(&(*step as usize));
            let taken = match sink {
                Some(sink) => sink.take_over((*subtask as usize, *unit as usize), handed_over)?,
                None => false,
            };
            if !taken {
                return Err(Error::config(format!(
                    "output of subtask {subtask}, unit {unit}, that was to be committed is gone; run the job anew in another \
                     job directory"
                )));
            }
        }
        for summary in &self.summaries {
            summary.count(job);
            summary.take_in(job)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct JobRecord {
    id: String,
    state: JobState,
    facts: Facts,
    commit: CommitRecord,
}

/// A job in its directory.
pub struct ResumableJob {
    directory: JobDirectory,
    record: Mutex<JobRecord>,
    is_resumed: bool,
}

impl ResumableJob {
    /// The job of a directory: the one that is there if it is to be resumed, else a new one with this id.
    ///
    /// # Errors
    /// If there is nothing to resume, or an unfinished job would be lost.
    pub fn open(directory: JobDirectory, resume: bool, new_id: String) -> Result<ResumableJob> {
        let found: Option<JobRecord> = directory.read(FILE, KIND)?;
        let at = directory.path().display();
        let record = match (found, resume) {
            (Some(record), true) => record,
            (None, true) => {
                return Err(Error::config(format!(
                    "there is no job to resume in '{at}'; begin one there with --job-dir"
                )));
            }
            (Some(record), false) if record.state != JobState::Finished => {
                return Err(Error::config(format!(
                    "job directory '{at}' holds a job that is not finished; go on with it by --resume, or remove the \
                     directory"
                )));
            }
            (_, false) => JobRecord {
                id: new_id,
                state: JobState::Running,
                facts: Facts::new(),
                commit: CommitRecord::default(),
            },
        };
        Ok(ResumableJob { directory, record: Mutex::new(record), is_resumed: resume })
    }

    fn record(&self) -> MutexGuard<'_, JobRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the job: that of the process that began it.
    pub fn id(&self) -> String {
        self.record().id.clone()
    }

    /// How far it came.
    pub fn state(&self) -> JobState {
        self.record().state
    }

    /// Whether another process began it.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Its directory.
    pub fn directory(&self) -> &JobDirectory {
        &self.directory
    }

    /// Writes down that a new job begins; compares what a resumed one is now with what it was when it began.
    ///
    /// # Errors
    /// What has changed, with both values; when it cannot be written.
    pub fn begin(&self, facts: Facts, accept_executable: bool) -> Result<()> {
        if self.is_resumed {
            return self.check(&facts, accept_executable);
        }
        self.record().facts = facts;
        self.reached(JobState::Running)
    }

    /// The job could not start: nothing of it is there to be resumed.
    pub fn did_not_begin(&self) {
        if !self.is_resumed {
            // If it stays the job can be resumed from its start.
            let _ = self.directory.vfs().remove_file(&self.directory.path().join(FILE));
        }
    }

    fn check(&self, facts: &Facts, accept_executable: bool) -> Result<()> {
        let record = self.record();
        let refuse = |name: &str, was: &str, is: &str| {
            let hint = match name == EXECUTABLE {
                true => "; --resume-other-executable goes on all the same, if it computes the same",
                false => "; begin the job anew in another directory",
            };
            Err(Error::config(format!(
                "the job in '{}' cannot be resumed: {name} was {was}, and is {is}{hint}",
                self.directory.path().display()
            )))
        };
        let mut now = facts.iter();
        for (name, was) in &record.facts {
            match now.next() {
                Some((same, is)) if same == name && is == was => {}
                Some((same, _)) if same == name && name == EXECUTABLE && accept_executable => {}
                Some((same, is)) if same == name => return refuse(name, was, is),
                _ => {
                    let is = facts.iter().find(|(other, _)| other == name).map(|(_, is)| is.as_str());
                    return refuse(name, was, is.unwrap_or("gone"));
                }
            }
        }
        if let Some((name, is)) = now.next() {
            return refuse(name, "not there", is);
        }
        Ok(())
    }

    /// What is to be committed, if the job came so far.
    pub fn commit_record(&self) -> CommitRecord {
        self.record().commit.clone()
    }

    /// Writes down that all units are done, and what is to be committed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn committing(&self, commit: CommitRecord) -> Result<()> {
        self.record().commit = commit;
        self.reached(JobState::Committing)
    }

    /// Writes down how far the job came.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn reached(&self, state: JobState) -> Result<()> {
        let mut record = self.record();
        let mut reached = JobRecord { state, ..record.clone() };
        if state == JobState::Finished {
            reached.commit = CommitRecord::default();
        }
        self.directory.write(FILE, KIND, &reached, Durability::Synced)?;
        *record = reached;
        Ok(())
    }

    /// Removes what finished units have left.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove_stages(&self) -> Result<()> {
        let dir = self.directory.stages();
        match self.directory.vfs().remove_dir_all(&dir) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", dir, e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::vfs::MemVfs;
    use std::path::Path;
    use std::sync::Arc;

    fn open(vfs: &MemVfs, resume: bool) -> Result<ResumableJob> {
        let directory = JobDirectory::open(Arc::new(vfs.clone()), Path::new("/job"), "test")?;
        ResumableJob::open(directory, resume, "new".into())
    }

    fn facts(facts: &[(&str, &str)]) -> Facts {
        facts.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    #[test]
    fn a_job_is_begun_or_resumed_but_never_lost() {
        let vfs = MemVfs::new();
        assert!(
            open(&vfs, true).err().unwrap().to_string().starts_with("there is no job to resume in '/job'")
        );
        let job = open(&vfs, false).unwrap();
        assert!(!job.is_resumed());
        drop(job);
        // It was never written down: another one may begin.
        open(&vfs, false).unwrap().reached(JobState::Running).unwrap();
        assert!(open(&vfs, false).err().unwrap().to_string().contains("holds a job that is not finished"));
        let job = open(&vfs, true).unwrap();
        assert_eq!((job.id().as_str(), job.state(), job.is_resumed()), ("new", JobState::Running, true));
        job.reached(JobState::Finished).unwrap();
        drop(job);
        assert_eq!(open(&vfs, true).unwrap().state(), JobState::Finished);
        assert_eq!(open(&vfs, false).unwrap().state(), JobState::Running);
    }

    /// The first fact that differs is named with both values; only the executable may be accepted.
    #[test]
    fn what_has_changed_is_refused_with_the_reason() {
        let vfs = MemVfs::new();
        let job = open(&vfs, false).unwrap();
        let began = facts(&[("memory", "8MiB"), ("executable", "a"), ("input 'x'", "1 byte")]);
        job.begin(began.clone(), false).unwrap();
        drop(job);
        for (now, accept, expected) in [
            (began.clone(), false, None),
            (
                facts(&[("memory", "9MiB"), ("executable", "b"), ("input 'x'", "1 byte")]),
                false,
                Some("memory was 8MiB, and is 9MiB; begin the job anew"),
            ),
            (
                facts(&[("memory", "8MiB"), ("executable", "b"), ("input 'x'", "1 byte")]),
                false,
                Some("executable was a, and is b; --resume-other-executable goes on"),
            ),
            (facts(&[("memory", "8MiB"), ("executable", "b"), ("input 'x'", "1 byte")]), true, None),
            (
                facts(&[("memory", "8MiB"), ("executable", "b"), ("input 'x'", "2 byte")]),
                true,
                Some("input 'x' was 1 byte, and is 2 byte"),
            ),
            (
                facts(&began.iter().take(2).map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>()),
                false,
                Some("input 'x' was 1 byte, and is gone"),
            ),
            (
                facts(&[
                    ("memory", "8MiB"),
                    ("executable", "a"),
                    ("input 'x'", "1 byte"),
                    ("input 'y'", "2"),
                ]),
                false,
                Some("input 'y' was not there, and is 2"),
            ),
        ] {
            let checked = open(&vfs, true).unwrap().begin(now, accept);
            match expected {
                None => checked.unwrap(),
                Some(expected) => {
                    let text = checked.unwrap_err().to_string();
                    assert!(text.contains(expected), "{text}");
                }
            }
        }
    }
}

//! Client: finds jobs by the records in a directory, and asks those that run.

use super::protocol::{LINE_BYTES_MAX, Request, Response, read_line, write_line};
use super::record::JobRecord;
use super::socket;
use crate::api::JobStatus;
use std::fmt;
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Directories below the one that was given in which jobs are looked for.
pub const DIRECTORIES_MAX: usize = 1_024;

/// A job that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The directory of its record.
    pub dir: PathBuf,
    /// What is known of it.
    pub record: JobRecord,
    /// It runs and can be asked. One that says that it runs and cannot be asked was lost with its process.
    pub reachable: bool,
}

impl Found {
    /// What it is doing, in a word.
    pub fn status(&self) -> String {
        match self.record.status {
            JobStatus::Running if !self.reachable => "lost".to_string(),
            status => status.to_string(),
        }
    }
}

/// Why a job could not be asked, or would not.
#[derive(Debug)]
pub enum Failure {
    /// There is no such job, or it does not run.
    NotFound(String),
    /// It has not answered in time.
    TimedOut(String),
    /// It has refused or failed.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotFound(why) | Failure::TimedOut(why) | Failure::Refused(why) => f.write_str(why),
        }
    }
}

/// The jobs of a directory and of those directly below it, oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<Found>, Failure> {
    let mut found = jobs_in(dir)?;
    let entries = std::fs::read_dir(dir).map_err(|e| unreadable(dir, &e))?;
    let mut below: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    below.sort();
    for dir in below.into_iter().take(DIRECTORIES_MAX) {
        found.extend(jobs_in(&dir).unwrap_or_default());
    }
    found.sort_by(|a, b| (a.record.started_ms, &a.record.id).cmp(&(b.record.started_ms, &b.record.id)));
    Ok(found)
}

fn unreadable(dir: &Path, error: &dyn fmt::Display) -> Failure {
    Failure::NotFound(format!(
        "cannot read '{}': {error}; give the control directory of a job",
        dir.display()
    ))
}

fn jobs_in(dir: &Path) -> Result<Vec<Found>, Failure> {
    let records = JobRecord::all(dir).map_err(|e| unreadable(dir, &e))?;
    let found = records.into_iter().map(|record| {
        let reachable = record.status == JobStatus::Running
            && socket::connect(&JobRecord::socket(dir, &record.id)).is_ok();
        Found { dir: dir.to_path_buf(), record, reachable }
    });
    Ok(found.collect())
}

/// The one job of a directory that runs, or the one that is called so; failing that, the last one that ended.
///
/// # Errors
/// When there is none, or more than one.
pub fn find(dir: &Path, called: Option<&str>) -> Result<Found, Failure> {
    let is_called =
        |job: &Found| called.is_none_or(|called| job.record.id == called || job.record.name == called);
    let mut jobs: Vec<Found> = list(dir)?.into_iter().filter(is_called).collect();
    let running = jobs.iter().filter(|job| job.reachable).count();
    if running > 1 {
        let all = jobs.iter().filter(|job| job.reachable);
        let all: Vec<String> = all.map(|job| format!("{} ('{}')", job.record.id, job.record.name)).collect();
        return Err(Failure::NotFound(format!(
            "{running} jobs run in '{}': {}; say which one with --job ID",
            dir.display(),
            all.join(", ")
        )));
    }
    let at = jobs.iter().position(|job| job.reachable).or(jobs.len().checked_sub(1));
    at.map(|at| jobs.swap_remove(at)).ok_or_else(|| {
        let called = called.map_or(String::new(), |called| format!(" called '{called}'"));
        Failure::NotFound(format!(
            "there is no job{called} in '{}'; start one with --control {}",
            dir.display(),
            dir.display()
        ))
    })
}

/// Asks a job that runs, and waits for the answer.
///
/// # Errors
/// When it does not run, does not answer in time, or refuses.
pub fn ask(job: &Found, request: &Request, timeout: Duration) -> Result<Response, Failure> {
    let JobRecord { id, name, .. } = &job.record;
    if !job.reachable {
        return Err(Failure::NotFound(format!("job '{name}' ({id}) does not run: it is {}", job.status())));
    }
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::TimedOut(format!(
            "job '{name}' ({id}) has not answered within {} s; it goes on with what it was asked",
            timeout.as_secs()
        )),
        _ => Failure::NotFound(format!("job '{name}' ({id}) cannot be asked: {e}")),
    };
    let mut stream = socket::connect(&JobRecord::socket(&job.dir, id)).map_err(failed)?;
    stream.set_read_timeout(Some(timeout)).map_err(failed)?;
    stream.set_write_timeout(Some(timeout)).map_err(failed)?;
    write_line(&mut stream, request).map_err(failed)?;
    let line = read_line(&mut BufReader::new(stream), LINE_BYTES_MAX).map_err(failed)?;
    let line = line.ok_or_else(|| failed(std::io::Error::new(ErrorKind::UnexpectedEof, "it has hung up")))?;
    match serde_json::from_slice(&line) {
        Ok(Response::Error(why)) => Err(Failure::Refused(why)),
        Ok(response) => Ok(response),
        Err(e) => Err(Failure::Refused(format!("job '{name}' ({id}) has answered in another language: {e}"))),
    }
}

//! mainstem: looks after jobs that were started with `--control DIR`.
//!
//! ```text
//! mainstem list DIR                     jobs in DIR and directly below it, those that have ended too
//! mainstem status DIR                   how far a job is
//! mainstem savepoint DIR PATH           writes a savepoint and goes on
//! mainstem stop DIR [--savepoint PATH]  ends with all output committed; with --drain as if the input had ended
//! mainstem cancel DIR                   ends at once
//! ```
//!
//! Exit codes: 0 it is done; 1 the job has refused or failed to do it; 2 the command line cannot be used; 3 there is no
//! such job, or it does not run; 4 the job has not answered in time.

use clap::{Args, Parser, Subcommand};
use mainstem::api::JobStatus;
use mainstem::api::control::client::{Failure, Found, ask, find, list};
use mainstem::api::control::protocol::{Request, Response};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Looks after jobs that were started with --control DIR
#[derive(Parser)]
#[command(name = "mainstem", version, after_help = EXIT_CODES)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 refused or failed, 2 usage, 3 no such job or it does not run, 4 no answer in time";

#[derive(Subcommand)]
enum Verb {
    /// Jobs in a directory and directly below it: those that run and those that have ended
    List {
        /// The control directory of jobs, or one above such directories
        dir: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// How far a job is: records, rates, watermarks, where its time goes, checkpoints
    Status {
        #[command(flatten)]
        job: Job,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Writes a savepoint; the job goes on
    Savepoint {
        #[command(flatten)]
        job: Job,
        /// The directory that the savepoint becomes
        path: PathBuf,
    },
    /// Ends a job with all of its output committed
    Stop {
        #[command(flatten)]
        job: Job,
        /// Write a savepoint to this directory, from which the job can go on
        #[arg(long, value_name = "PATH")]
        savepoint: Option<PathBuf>,
        /// As if the input had ended: windows and timers fire
        #[arg(long)]
        drain: bool,
    },
    /// Ends a job at once
    Cancel {
        #[command(flatten)]
        job: Job,
    },
}

#[derive(Args)]
struct Job {
    /// The control directory of the job
    dir: PathBuf,
    /// Id or name of the job, if there are several
    #[arg(long = "job", value_name = "ID")]
    called: Option<String>,
    /// Seconds to wait for the answer [default: 10 for status, else 600]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

impl Job {
    fn find(&self) -> Result<Found, Failure> {
        find(&self.dir, self.called.as_deref())
    }

    fn ask(&self, request: &Request, seconds: u64) -> Result<Response, Failure> {
        ask(&self.find()?, request, Duration::from_secs(self.timeout.unwrap_or(seconds).max(1)))
    }
}

/// A savepoint may take as long as all state takes to be written.
const LONG_SECONDS: u64 = 600;

fn main() -> ExitCode {
    let outcome = run(Command::parse().verb);
    match outcome {
        Ok(text) => {
            // Whoever reads may have enough before the end.
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("mainstem: {failure}");
            ExitCode::from(match failure {
                Failure::Refused(_) => 1,
                Failure::NotFound(_) => 3,
                Failure::TimedOut(_) => 4,
            })
        }
    }
}

fn run(verb: Verb) -> Result<String, Failure> {
    match verb {
        Verb::List { dir, json } => listed(&list(&dir)?, json),
        Verb::Status { job, json } => {
            let found = job.find()?;
            let report = match found.record.report.clone().filter(|_| !found.reachable) {
                Some(report) => report,
                None => match job.ask(&Request::Status {}, 10)? {
                    Response::Status(report) => *report,
                    other => return Err(unexpected(&other)),
                },
            };
            let error = found.record.error.map_or(String::new(), |error| format!("error: {error}\n"));
            if json { to_json(&report) } else { Ok(format!("{report}{error}")) }
        }
        Verb::Savepoint { job, path } => {
            match job.ask(&Request::Savepoint { path: full(&path)? }, LONG_SECONDS)? {
                Response::Savepoint { path } => Ok(format!("savepoint {}", path.display())),
                other => Err(unexpected(&other)),
            }
        }
        Verb::Stop { job, savepoint, drain } => {
            let savepoint = savepoint.as_deref().map(full).transpose()?;
            let ended = end(&job, &Request::Stop { savepoint: savepoint.clone(), drain })?;
            Ok(match savepoint {
                Some(path) => format!("{ended}\nsavepoint {}", path.display()),
                None => ended,
            })
        }
        Verb::Cancel { job } => end(&job, &Request::Cancel {}),
    }
}

fn end(job: &Job, request: &Request) -> Result<String, Failure> {
    match job.ask(request, LONG_SECONDS)? {
        Response::Ended(report) if report.status == JobStatus::Failed => {
            let id = &report.job_id;
            let why = find(&job.dir, Some(id)).ok().and_then(|found| found.record.error).unwrap_or_default();
            Err(Failure::Refused(format!("job '{}' ({id}) has failed: {why}", report.job_name)))
        }
        Response::Ended(report) => {
            Ok(format!("job '{}' ({}) {}", report.job_name, report.job_id, report.status))
        }
        other => Err(unexpected(&other)),
    }
}

fn listed(jobs: &[Found], json: bool) -> Result<String, Failure> {
    if json {
        let jobs: Vec<serde_json::Value> = jobs
            .iter()
            .map(|job| {
                serde_json::json!({
                    "id": job.record.id, "name": job.record.name, "status": job.status(), "process": job.record.process,
                    "started_ms": job.record.started_ms, "ended_ms": job.record.ended_ms, "error": job.record.error,
                    "dir": job.dir.display().to_string(),
                })
            })
            .collect();
        return to_json(&jobs);
    }
    let mut table = mainstem::base::text::Table::new(&[
        "<id",
        "<job",
        "<status",
        "process",
        "<started",
        "<ended",
        "<directory",
    ]);
    for job in jobs {
        table.row([
            job.record.id.clone(),
            job.record.name.clone(),
            job.status(),
            job.record.process.to_string(),
            mainstem::base::text::utc(job.record.started_ms),
            job.record.ended_ms.map_or("-".to_string(), mainstem::base::text::utc),
            job.dir.display().to_string(),
        ]);
    }
    Ok(table.to_string())
}

fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|e| Failure::Refused(format!("cannot be shown as JSON: {e}")))
}

/// The job may have another working directory.
fn full(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::Refused(format!("'{}': {e}", path.display())))
}

fn unexpected(response: &Response) -> Failure {
    Failure::Refused(format!("the job has answered something else: {response:?}"))
}

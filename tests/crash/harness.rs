//! Harness: runs a job as a child process, kills it as planned, starts it again with what it has left, until it is done.

use crate::output::{on_disk, verify};
use crate::shapes::Shape;
use mainstem::base::failpoint;
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The variable that makes a process of this test a child.
pub const CHILD: &str = "MAINSTEM_CRASH_CHILD";
/// A child that runs longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// From the start of the process to its first record. The card asks for 2 s; builds for tests are slow.
pub const FIRST_RECORD_MAX: Duration = Duration::from_secs(2);

/// One job, however many processes it takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub shape: Shape,
    pub records: u64,
    /// Records a second.
    pub rate: Option<f64>,
    pub parallelism: usize,
    /// Options of the engine beside those of every job.
    pub options: Vec<String>,
}

/// How one process ends.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Killed after so long.
    After(Duration),
    /// At a fail point, by a plan of its language.
    At(String),
    /// By itself.
    Itself,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::After(time) => write!(f, "kill after {time:?}"),
            End::At(plan) => write!(f, "{plan}"),
            End::Itself => write!(f, "to the end"),
        }
    }
}

/// What a child is told.
#[derive(Serialize, Deserialize)]
struct Orders {
    job: Job,
    dir: PathBuf,
    restore: bool,
    process: usize,
}

/// What came of a job.
#[derive(Debug, Default)]
pub struct Report {
    pub processes: usize,
    /// Processes that died of the plan.
    pub kills: usize,
    /// Hits of fail points in the process that came to the end.
    pub hits: BTreeMap<String, u64>,
    /// The longest time from the start of a process to its first record.
    pub first_record: Duration,
}

impl Job {
    /// The rows of this job.
    pub fn new(shape: Shape, records: u64) -> Job {
        Job { shape, records, rate: None, parallelism: 2, options: Vec::new() }
    }
    pub fn rate(mut self, rate: f64) -> Job {
        self.rate = Some(rate);
        self
    }
    pub fn options(mut self, options: &[&str]) -> Job {
        self.options.extend(options.iter().map(|option| option.to_string()));
        self
    }

    /// Runs the job: a process for each end, then one to the end. Any wrong output is an error.
    ///
    /// # Panics
    /// With the plan and what is needed to do it again.
    pub fn run(&self, test: &str, seed: u64, ends: &[End]) -> Report {
        let dir = tempfile::tempdir().unwrap();
        match self.run_in(dir.path(), ends) {
            Ok(report) => report,
            Err(e) => {
                let plan: Vec<String> = ends.iter().map(End::to_string).collect();
                let kept = dir.keep();
                panic!(
                    "{e}\n  job:  {self:?}\n  plan: {}\n  seed: {seed}\n  git:  {}\n  files: {}\n  again: \
                     MAINSTEM_SEED={seed} cargo test --features mutants --test crash {test}\n",
                    plan.join(", then "),
                    git_hash(),
                    kept.display()
                )
            }
        }
    }

    fn run_in(&self, dir: &Path, ends: &[End]) -> Result<Report, String> {
        let mut report = Report::default();
        for (process, end) in ends.iter().chain([&End::Itself]).enumerate() {
            let died = self.process(dir, process, end, &mut report)?;
            report.processes += 1;
            if !died {
                break;
            }
            report.kills += 1;
        }
        verify(self.shape, self.records, &on_disk(&dir.join("out")))?;
        Ok(report)
    }

    /// Runs one process: whether it died as planned, and not by itself.
    pub fn process(
        &self,
        dir: &Path,
        process: usize,
        end: &End,
        report: &mut Report,
    ) -> Result<bool, String> {
        let orders = Orders { job: self.clone(), dir: dir.to_path_buf(), restore: process > 0, process };
        let errors = dir.join(format!("errors-{process}"));
        let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
        command
            .args(["--exact", "the_child", "--ignored", "--nocapture", "--test-threads", "1"])
            .env(CHILD, serde_json::to_string(&orders).map_err(|e| e.to_string())?)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(dir.join(format!("out-{process}"))).map_err(|e| e.to_string())?)
            .stderr(std::fs::File::create(&errors).map_err(|e| e.to_string())?);
        if let End::At(plan) = end {
            command.env(failpoint::VARIABLE, plan);
        }
        let start = Instant::now();
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let deadline = match end {
            End::After(time) => *time,
            _ => TIME_LIMIT,
        };
        let (status, killed) = loop {
            if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
                break (status, false);
            }
            let left = deadline.saturating_sub(start.elapsed());
            if left.is_zero() {
                child.kill().map_err(|e| e.to_string())?;
                break (child.wait().map_err(|e| e.to_string())?, true);
            }
            std::thread::park_timeout(left.min(Duration::from_millis(2)));
        };
        let text = || {
            let text = std::fs::read_to_string(&errors).unwrap_or_default();
            let text = text.trim();
            text.chars().skip(text.chars().count().saturating_sub(2_000)).collect::<String>()
        };
        if let Ok(first) = std::fs::read_to_string(dir.join(format!("first-{process}"))) {
            let first = Duration::from_micros(first.trim().parse().unwrap_or(u64::MAX));
            report.first_record = report.first_record.max(first);
        }
        match (end, status.signal(), status.success()) {
            (End::After(_), Some(9), _) if killed => Ok(true),
            (_, _, false) if killed => Err(format!("process {process} hangs; {}", text())),
            (End::At(_), Some(9), _) => Ok(true),
            // Errors and panics of a plan end the process with a sentence.
            (End::At(plan), None, false) if !plan.contains("kill") => Ok(true),
            (_, None, true) => {
                let hits = std::fs::read_to_string(dir.join("hits")).unwrap_or_default();
                report.hits = serde_json::from_str(&hits).unwrap_or_default();
                Ok(false)
            }
            _ => Err(format!("process {process} ended with {status}; {}", text())),
        }
    }

    /// The settings that every job has, and its own.
    pub fn environment(&self, dir: &Path, restore: bool) -> mainstem::Result<Environment> {
        let mut args: Vec<String> = vec!["job".into()];
        let mut add = |option: &str, value: &str| args.extend([option.to_string(), value.to_string()]);
        add("--parallelism", &self.parallelism.to_string());
        add("--max-parallelism", "64");
        add("--progress", "never");
        let at = dir.join("job");
        let at = at.to_string_lossy();
        match (self.shape, restore) {
            (Shape::Batch, true) => add("--resume", &at),
            (Shape::Batch, false) => add("--job-dir", &at),
            (_, restore) => {
                add("--job-dir", &at);
                if restore {
                    add("--restore", "latest");
                }
            }
        }
        args.extend(self.options.clone());
        let (settings, _) = mainstem::base::config::Settings::from_args_iter(args)?;
        Ok(Environment::with_settings(settings).execution_mode(self.shape.mode()))
    }
}

/// What the child does: `main` of the job.
pub fn child(orders: &str) {
    let start = Instant::now();
    let orders: Orders = serde_json::from_str(orders).expect("orders of the harness");
    let Orders { job, dir, restore, process } = orders;
    let run = || -> mainstem::Result<()> {
        let env = job.environment(&dir, restore)?;
        let first = dir.join(format!("first-{process}"));
        job.shape.build(&env, job.records, job.rate, &dir.join("out"), move || {
            let _ = std::fs::write(&first, start.elapsed().as_micros().to_string());
        });
        env.execute("crash").map(drop)
    };
    let ended = run();
    let hits = serde_json::to_string(&failpoint::hits()).unwrap_or_default();
    let _ = std::fs::write(dir.join("hits"), hits);
    if let Err(e) = ended {
        eprintln!("{e}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

/// Which program found it.
pub fn git_hash() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    output.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

//! Harness: runs a job as a child process, kills it as planned, starts it again with what it has left, until it is done.

use crate::output::{on_disk, verify};
use crate::process::{Orders, Process};
use crate::rig::never_began;
use crate::shapes::Shape;
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// From the start of a process to its first record.
pub const FIRST_RECORD_MAX: Duration = Duration::from_secs(2);

/// One job, however many processes it takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub shape: Shape,
    pub records: u64,
    /// Records a second.
    pub rate: Option<f64>,
    /// Of each process; the last one stays.
    pub parallelism: Vec<usize>,
    /// Options of the engine beside those of every job.
    pub options: Vec<String>,
    /// Whether each process stops the job with a savepoint and goes on from it.
    #[serde(default)]
    pub savepoint: bool,
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

/// What came of a job.
#[derive(Debug, Default)]
pub struct Report {
    /// Processes that died of the plan.
    pub kills: u64,
    /// Hits of fail points in the process that came to the end.
    pub hits: BTreeMap<String, u64>,
    /// The longest time from the start of a process to its first record.
    pub first_record: Duration,
}

impl Job {
    /// A job of so many records, with parallelism 2.
    pub fn new(shape: Shape, records: u64) -> Job {
        Job { shape, records, rate: None, parallelism: vec![2], options: Vec::new(), savepoint: false }
    }
    pub fn rate(mut self, rate: f64) -> Job {
        self.rate = Some(rate);
        self
    }
    pub fn parallelism(mut self, of_each_process: &[usize]) -> Job {
        self.parallelism = of_each_process.to_vec();
        self
    }
    pub fn through_savepoint(mut self) -> Job {
        self.savepoint = true;
        self
    }
    pub fn options(mut self, options: &[&str]) -> Job {
        self.options.extend(options.iter().map(|option| option.to_string()));
        self
    }

    /// Runs the job: a process for each end, then one to the end.
    ///
    /// # Panics
    /// When any output is wrong or a process ends as was not planned, with what is needed to do it again.
    pub fn run(&self, test: &str, seed: u64, ends: &[End]) -> Report {
        let dir = tempfile::tempdir().unwrap();
        self.run_in(dir.path(), ends).unwrap_or_else(|e| {
            let plan: Vec<String> = ends.iter().map(End::to_string).collect();
            let kept = dir.keep();
            panic!(
                "{e}\n  job:   {self:?}\n  plan:  {}\n  seed:  {seed}\n  git:   {}\n  files: {}\n  again: \
                 MAINSTEM_SEED={seed} cargo test --features mutants --test crash {test}\n",
                plan.join(", then "),
                git_hash(),
                kept.display()
            )
        })
    }

    fn run_in(&self, dir: &Path, ends: &[End]) -> Result<Report, String> {
        let mut report = Report::default();
        for (number, end) in ends.iter().chain([&End::Itself]).enumerate() {
            let plan = if let End::At(plan) = end { plan.as_str() } else { "" };
            let mut process = Process::start(self, dir, number, plan)?;
            let died = process.ends(end)?;
            report.first_record = report.first_record.max(process.first_record());
            if !died {
                report.hits = process.hits();
                break;
            }
            report.kills += 1;
        }
        verify(self.shape, self.records, &on_disk(&dir.join("out")))?;
        Ok(report)
    }

    /// The program: what a process of the job runs. `first` is called with the first record.
    pub fn main(
        &self,
        orders: &Orders,
        first: impl FnOnce() + Clone + Send + 'static,
    ) -> mainstem::Result<()> {
        let goes_on = orders.process > 0;
        if self.savepoint {
            return self.savepoint_program(orders, goes_on, first);
        }
        match self.program(orders, goes_on, first.clone()) {
            Err(e) if goes_on && never_began(&e) => self.program(orders, false, first),
            ended => ended,
        }
    }

    fn program(
        &self,
        orders: &Orders,
        restore: bool,
        first: impl FnOnce() + Clone + Send + 'static,
    ) -> mainstem::Result<()> {
        let at = match restore {
            true if self.shape == Shape::Batch => ("--resume", orders.job_dir()),
            true => ("--restore", "latest".to_string()),
            false => ("--job-dir", orders.job_dir()),
        };
        self.environment(orders, at, first)?.execute("crash").map(drop)
    }

    /// The job stops with a savepoint when it has two checkpoints, and goes on from it. One that died went on from the savepoint, or
    /// goes on from it now if that is whole.
    fn savepoint_program(
        &self,
        orders: &Orders,
        restore: bool,
        first: impl FnOnce() + Clone + Send + 'static,
    ) -> mainstem::Result<()> {
        let file = |name: &str, process: usize| orders.dir.join(format!("{name}-{process}"));
        let savepoint = |process: usize| ("--restore", file("savepoint", process).display().to_string());
        // Behind a savepoint that was gone on from are newer checkpoints, or the one that it was made of.
        let goes_on_from = |process: usize| drop(std::fs::write(file("used", process), ""));
        let whole = |process: &usize| {
            file("savepoint", *process).join("manifest.json").exists() && !file("used", *process).exists()
        };
        let from = match orders.process.checked_sub(1).filter(whole) {
            Some(before) => {
                goes_on_from(before);
                savepoint(before)
            }
            None if restore => ("--restore", "latest".to_string()),
            None => ("--job-dir", orders.job_dir()),
        };
        let job = self.environment(orders, from, first.clone())?.execute_async("crash")?;
        // The job may be over before.
        let stopped = (0..2).try_for_each(|_| job.checkpoint_now().map(drop));
        let stopped =
            stopped.and_then(|()| job.stop_with_savepoint(file("savepoint", orders.process), false));
        match stopped {
            Err(_) if job.status() == JobStatus::Finished => return job.result().map(drop),
            stopped => stopped?,
        }
        job.result()?;
        goes_on_from(orders.process);
        self.environment(orders, savepoint(orders.process), first)?.execute("crash").map(drop)
    }

    /// The environment with the job in it; `at`: what it starts with.
    fn environment(
        &self,
        orders: &Orders,
        at: (&str, String),
        first: impl FnOnce() + Clone + Send + 'static,
    ) -> mainstem::Result<Environment> {
        let parallelism = self.parallelism[orders.process.min(self.parallelism.len() - 1)];
        let mut args: Vec<String> = vec!["job".into()];
        let mut add = |option: &str, value: &str| args.extend([option.to_string(), value.to_string()]);
        add("--parallelism", &parallelism.to_string());
        add("--max-parallelism", "64");
        add("--progress", "never");
        if self.shape != Shape::Batch {
            // A failure ends the process: the next one goes on.
            add("--restart-strategy", "none");
        }
        if at.0 == "--restore" {
            add("--job-dir", &orders.job_dir());
        }
        add(at.0, &at.1);
        args.extend(self.options.clone());
        let (settings, _) = mainstem::base::config::Settings::from_args_iter(args)?;
        let env = Environment::with_settings(settings).execution_mode(self.shape.mode());
        self.shape.build(&env, self.records, self.rate, &orders.dir.join("out"), first);
        Ok(env)
    }
}

/// Which program found it.
fn git_hash() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    output.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
